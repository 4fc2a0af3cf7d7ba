//! `<tool_call>{"name": …, "arguments": {…}}</tool_call>`: Hermes, Qwen2.5 and Qwen3.

use super::event::Sink;
use super::feed::Feed;
use super::format::{CallFormat, Markers, Progress};
use super::json_call::JsonCall;
use super::json_value::Fence;

pub(super) const MARKERS: Markers =
    Markers { openers: &["<tool_call>"], breaks: &[], closers: &["</tool_call>"], inner: &[], control: false };

/// The end marker may be a part of an argument, so it counts outside of strings only.
const FENCE: Fence = Fence { markers: MARKERS.closers, in_strings: false };

#[derive(Debug, Default)]
pub(super) struct Hermes {
    /// `None`: behind a call.
    call: Option<JsonCall>,
}

impl CallFormat for Hermes {
    fn open(&mut self, _: usize) {
        self.call = Some(JsonCall::new(FENCE));
    }

    fn step(&mut self, feed: &mut Feed, sink: &mut Sink) -> Progress {
        if let Some(call) = &mut self.call {
            return match call.step(feed, sink) {
                Progress::Done => {
                    self.call = None;
                    Progress::Again
                }
                other => other,
            };
        }
        match feed.skip_space() {
            None => Progress::Wait,
            // Some answers hold several calls between one pair of markers.
            Some('{') => {
                self.open(0);
                Progress::Again
            }
            Some(_) => match feed.take_next(MARKERS.closers) {
                None => Progress::Wait,
                Some(_) => Progress::Done,
            },
        }
    }

    fn is_between(&self) -> bool {
        self.call.is_none()
    }
}
