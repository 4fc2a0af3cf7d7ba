//! Which markers are looked for where, and what they mean there.

use super::feed::Feed;
use super::format::Markers;
use super::options::ReasoningFormat;

/// What a marker means where it was found.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role {
    BeginReasoning,
    EndReasoning,
    Open(usize),
    /// Ends the malformed call; its section goes on.
    Resume,
    /// Ends the malformed call.
    Heal,
    /// Means nothing here.
    Stray,
}

/// The markers to look for, by what is being read.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) answer: Watched,
    /// In the rest of a malformed call.
    pub(super) broken: Watched,
    pub(super) thought: Watched,
}

/// Markers and what each of them means.
#[derive(Debug)]
pub(super) struct Watched {
    texts: Vec<&'static str>,
    roles: Vec<Role>,
}

impl Watch {
    pub(super) fn new(reasoning: Option<ReasoningFormat>, calls: Option<&'static Markers>) -> Self {
        let none = &Markers { openers: &[], breaks: &[], closers: &[], inner: &[], strays: &[], control: false };
        let calls = calls.unwrap_or(none);
        let openers = || calls.openers.iter().enumerate().map(|(opener, &marker)| (marker, Role::Open(opener)));
        let as_role = |markers: &'static [&'static str], role| markers.iter().map(move |&marker| (marker, role));
        let strays = || as_role(calls.closers, Role::Stray).chain(as_role(calls.strays, Role::Stray));
        let mut common: Vec<_> = openers().collect();
        if let Some(reasoning) = reasoning {
            common.extend([(reasoning.begin(), Role::BeginReasoning), (reasoning.end(), Role::EndReasoning)]);
        }
        let mut answer = common.clone();
        answer.extend(strays());
        let mut broken = common;
        broken.extend(as_role(calls.closers, Role::Heal).chain(as_role(calls.breaks, Role::Resume)));
        broken.extend(as_role(calls.inner, Role::Stray));
        let mut thought: Vec<_> =
            reasoning.iter().flat_map(|r| [(r.end(), Role::EndReasoning), (r.begin(), Role::Stray)]).collect();
        // A control token that opens calls ends reasoning; text that looks like a marker may be a thought.
        thought.extend(openers().chain(strays()).filter(|_| calls.control));
        Self { answer: Watched::new(answer), broken: Watched::new(broken), thought: Watched::new(thought) }
    }
}

impl Watched {
    fn new(markers: Vec<(&'static str, Role)>) -> Self {
        let (texts, roles) = markers.into_iter().unzip();
        Self { texts, roles }
    }

    /// Reads text up to the first of the markers, which is read too.
    pub(super) fn read(&self, feed: &mut Feed) -> (String, Option<Role>) {
        let (text, which) = feed.before(&self.texts);
        feed.settle();
        (text, which.map(|which| self.roles[which]))
    }
}
