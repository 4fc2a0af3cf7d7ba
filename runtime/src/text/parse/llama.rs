//! A turn that is `{"name": …, "parameters": {…}}`, maybe after `<|python_tag|>`: Llama 3.1 and later.

use super::event::Sink;
use super::feed::Feed;
use super::format::{CallFormat, Markers, Progress};
use super::json_call::JsonCall;
use super::json_value::Fence;
use super::tools::Tools;
use std::sync::Arc;

const TAG: &str = "<|python_tag|>";

pub(super) const MARKERS: Markers =
    Markers { openers: &[TAG], breaks: &[], closers: &[], inner: &[], strays: &[], control: true };

const FENCE: Fence<'_> = Fence { markers: &[TAG], in_strings: true };

#[derive(Debug)]
pub(super) struct Llama {
    tools: Arc<Tools>,
    /// `None`: behind a call.
    call: Option<JsonCall>,
    /// No marker says that this is a call: an answer may be JSON of its own.
    bare: bool,
}

impl Llama {
    pub(super) fn new(tools: Arc<Tools>) -> Self {
        Self { tools, call: None, bare: false }
    }

    fn begin(&mut self, bare: bool) {
        self.call = Some(JsonCall::new(FENCE));
        self.bare = bare;
    }

    /// The object that is being read, if it may still turn out to be an answer of its own.
    fn doubtful(&self) -> Option<&JsonCall> {
        self.call.as_ref().filter(|call| self.bare && !call.is_reported())
    }

    /// Whether the object cannot be a call of one of the tools.
    fn is_plain(&self) -> bool {
        let Some(call) = self.doubtful() else { return false };
        !call.may_be_a_call() || call.name().is_some_and(|name| !self.tools.has(name))
    }
}

impl CallFormat for Llama {
    fn open(&mut self, _: usize) {
        self.begin(false);
    }

    fn step(&mut self, feed: &mut Feed, sink: &mut Sink) -> Progress {
        if self.is_plain() {
            return Progress::Plain;
        }
        if let Some(call) = &mut self.call {
            return match call.step(feed, sink) {
                Progress::Done => {
                    self.call = None;
                    Progress::Again
                }
                Progress::Broken(_) if self.doubtful().is_some() && !sink.in_call() => Progress::Plain,
                other => other,
            };
        }
        match feed.skip_space() {
            None => Progress::Wait,
            Some(';') => {
                feed.advance(1);
                Progress::Again
            }
            Some('{') => {
                self.begin(true);
                Progress::Again
            }
            Some(_) => Progress::Done,
        }
    }

    fn is_between(&self) -> bool {
        self.call.is_none()
    }

    fn bare_opener(&self) -> Option<char> {
        Some('{')
    }

    fn open_bare(&mut self) {
        self.begin(true);
    }

    fn may_be_plain(&self) -> bool {
        self.doubtful().is_some()
    }
}
