//! Calls of Mistral. Older: `[TOOL_CALLS][{"name": …, "arguments": {…}}]`. Newer: `[TOOL_CALLS]NAME[ARGS]{…}`, with
//! `[CALL_ID]` and an id before `[ARGS]` in some versions. Nothing marks their end.

use super::event::Sink;
use super::feed::Feed;
use super::format::{CallFormat, Markers, NO_NAME, Progress, is_name};
use super::json_arguments::JsonArguments;
use super::json_call::JsonCall;
use super::json_value::Fence;

const CALLS: &str = "[TOOL_CALLS]";
const ID: &str = "[CALL_ID]";
const ARGUMENTS: &str = "[ARGS]";

pub(super) const MARKERS: Markers =
    Markers { openers: &[CALLS], breaks: &[], closers: &[], inner: &[ID, ARGUMENTS], control: true };

const FENCE: Fence = Fence { markers: &[CALLS], in_strings: true };
/// Letters and digits of an id.
const ID_LEN: usize = 9;

#[derive(Debug, Default)]
pub(super) struct Mistral {
    at: At,
    name: String,
}

#[derive(Debug, Default)]
enum At {
    #[default]
    Start,
    /// In a list, before an object or behind it.
    List,
    Item(JsonCall),
    Name,
    Id(String),
    Arguments(JsonArguments),
}

impl Mistral {
    fn go(&mut self, at: At) -> Progress {
        self.at = at;
        Progress::Again
    }

    fn list(&mut self, feed: &mut Feed) -> Progress {
        match feed.skip_space() {
            None => Progress::Wait,
            Some('{') => self.go(At::Item(JsonCall::new(FENCE))),
            Some(',') => {
                feed.advance(1);
                Progress::Again
            }
            Some(']') => {
                feed.advance(1);
                Progress::Done
            }
            Some(_) => Progress::Broken("text that is no call stands in the list of calls".to_owned()),
        }
    }

    fn name(&mut self, feed: &mut Feed) -> Progress {
        let (text, marker) = feed.before(&[ARGUMENTS, ID, CALLS, "{"]);
        self.name.push_str(&text);
        let name = self.name.trim().to_owned();
        match marker {
            None if name.is_empty() || is_name(&name) => Progress::Wait,
            Some(0 | 1 | 3) if is_name(&name) => {
                if marker == Some(3) {
                    // The bracket belongs to the arguments.
                    feed.retreat(1);
                }
                let id = marker == Some(1);
                self.go(if id { At::Id(String::new()) } else { At::Arguments(JsonArguments::new(name, None)) })
            }
            Some(_) | None => Progress::Broken(NO_NAME.to_owned()),
        }
    }
}

impl CallFormat for Mistral {
    fn open(&mut self, _: usize) {
        *self = Self::default();
    }

    fn step(&mut self, feed: &mut Feed, sink: &mut Sink) -> Progress {
        match &mut self.at {
            At::Start => match feed.skip_space() {
                None => Progress::Wait,
                Some('{') => self.go(At::Item(JsonCall::new(FENCE))),
                // A second marker says nothing new.
                Some('[') => match feed.take_next(&[CALLS]) {
                    None => Progress::Wait,
                    Some(Some(_)) => Progress::Again,
                    Some(None) => {
                        feed.advance(1);
                        self.go(At::List)
                    }
                },
                Some(_) => self.go(At::Name),
            },
            At::List => self.list(feed),
            At::Item(call) => match call.step(feed, sink) {
                Progress::Done => self.go(At::List),
                other => other,
            },
            At::Name => self.name(feed),
            At::Id(id) => {
                let (text, marker) = feed.before(&[ARGUMENTS, CALLS]);
                id.push_str(&text);
                let known = id.trim().to_owned();
                match marker {
                    None => Progress::Wait,
                    Some(0) => {
                        let fits = known.len() == ID_LEN && known.bytes().all(|byte| byte.is_ascii_alphanumeric());
                        let name = self.name.trim().to_owned();
                        self.go(At::Arguments(JsonArguments::new(name, fits.then_some(known))))
                    }
                    Some(_) => Progress::Broken(format!("the call of `{}` has no arguments", self.name.trim())),
                }
            }
            // What follows is content, or the next marker.
            At::Arguments(arguments) => arguments.step(feed, sink, FENCE),
        }
    }

    fn is_between(&self) -> bool {
        matches!(self.at, At::Start | At::List)
    }
}
