//! What the text of an answer turned out to be, and who collects it.

use super::options::IdStyle;
use std::collections::HashSet;

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// Text for the reader.
    Content(String),
    /// Text that the model thinks.
    Reasoning(String),
    /// A call of a tool begins.
    CallBegin {
        /// Which call of the answer, counted from 0.
        index: usize,
        /// What the result of the call will refer to.
        id: String,
        /// The tool.
        name: String,
    },
    /// More of a call's arguments: joined, they are the JSON of an object.
    CallArguments {
        /// Which call.
        index: usize,
        /// More JSON, cut anywhere.
        text: String,
    },
    /// The call's arguments are complete.
    CallEnd {
        /// Which call.
        index: usize,
    },
    /// A call is not in the model's format; what is wrong. Text of it that did not become a call has come as content.
    Malformed(String),
}

/// Collects the pieces of an answer, joins neighbours of a kind, and numbers calls.
#[derive(Debug)]
pub(super) struct Sink {
    out: Vec<Parsed>,
    ids: IdStyle,
    key: u64,
    /// Ids that calls have.
    given: HashSet<String>,
    calls: usize,
    /// The tool of the call that has begun and not ended.
    open: Option<String>,
    /// Counts what came out of calls, to notice that something did.
    reported: u64,
}

impl Sink {
    pub(super) fn new(ids: IdStyle, key: u64) -> Self {
        Self { out: Vec::new(), ids, key, given: HashSet::new(), calls: 0, open: None, reported: 0 }
    }

    pub(super) fn take(&mut self) -> Vec<Parsed> {
        std::mem::take(&mut self.out)
    }

    pub(super) fn content(&mut self, text: &str) {
        match self.out.last_mut() {
            _ if text.is_empty() => {}
            Some(Parsed::Content(last)) => last.push_str(text),
            _ => self.out.push(Parsed::Content(text.to_owned())),
        }
    }

    pub(super) fn reasoning(&mut self, text: &str) {
        match self.out.last_mut() {
            _ if text.is_empty() => {}
            Some(Parsed::Reasoning(last)) => last.push_str(text),
            _ => self.out.push(Parsed::Reasoning(text.to_owned())),
        }
    }

    /// Begins a call. An id of the model's own stays if it has the form of the family and no other call has it.
    pub(super) fn begin(&mut self, name: &str, id: Option<String>) {
        let index = self.calls;
        let own = id.into_iter().filter(|id| self.ids.fits(id));
        let made = (index..).map(|index| self.ids.id(self.key, index, name));
        let id = own.chain(made).find(|id| !self.given.contains(id)).expect("made ids differ, and few are given");
        self.given.insert(id.clone());
        self.calls += 1;
        self.reported += 1;
        self.open = Some(name.to_owned());
        self.out.push(Parsed::CallBegin { index, id, name: name.to_owned() });
    }

    /// Adds to the arguments of the call that has begun.
    pub(super) fn arguments(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.reported += 1;
        let current = self.calls.saturating_sub(1);
        match self.out.last_mut() {
            Some(Parsed::CallArguments { index, text: last }) if *index == current => last.push_str(text),
            _ => self.out.push(Parsed::CallArguments { index: current, text: text.to_owned() }),
        }
    }

    /// Ends the call that has begun.
    pub(super) fn end(&mut self) {
        if self.open.take().is_some() {
            self.reported += 1;
            self.out.push(Parsed::CallEnd { index: self.calls - 1 });
        }
    }

    pub(super) fn malformed(&mut self, reason: String) {
        self.out.push(Parsed::Malformed(reason));
    }

    /// Gives up the call that has begun: its arguments stay as incomplete as they are.
    pub(super) fn give_up(&mut self) -> Option<String> {
        self.open.take()
    }

    /// How often a call has said something.
    pub(super) fn reported(&self) -> u64 {
        self.reported
    }

    /// Calls that have begun.
    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    /// Whether a call has begun and not ended.
    pub(super) fn in_call(&self) -> bool {
        self.open.is_some()
    }
}
