//! `<tool_call>{"name": …, "arguments": {…}}</tool_call>`: Hermes, Qwen2.5 and Qwen3.

use super::event::Sink;
use super::feed::Feed;
use super::format::{CallFormat, Markers, Progress};
use super::json_call::JsonCall;
use super::json_value::Fence;

const BEGIN: &str = "<tool_call>";
const END: &str = "</tool_call>";

pub(super) const MARKERS: Markers =
    Markers { openers: &[BEGIN], breaks: &[], closers: &[END], inner: &[], strays: &[], control: false };

/// The markers may be a part of an argument, so they count outside of strings only.
const FENCE: Fence<'_> = Fence { markers: &[END, BEGIN], in_strings: false };

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
            Some(_) => match feed.take_next(&[END]) {
                None => Progress::Wait,
                Some(_) => Progress::Done,
            },
        }
    }

    fn is_between(&self) -> bool {
        self.call.is_none()
    }
}
