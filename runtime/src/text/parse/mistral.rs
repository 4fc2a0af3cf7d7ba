//! Calls of Mistral. Older: `[TOOL_CALLS][{"name": …, "arguments": {…}}]`. Newer: `[TOOL_CALLS]NAME[ARGS]{…}`, with
//! `[CALL_ID]` and an id before `[ARGS]` in some versions. Nothing marks their end.

use super::event::Sink;
use super::feed::Feed;
use super::format::{CallFormat, Markers, Progress};
use super::head::{Found, Head, NO_NAME, TOO_LONG};
use super::json_arguments::JsonArguments;
use super::json_call::JsonCall;
use super::json_value::Fence;

const CALLS: &str = "[TOOL_CALLS]";
const ID: &str = "[CALL_ID]";
const ARGUMENTS: &str = "[ARGS]";

pub(super) const MARKERS: Markers = Markers {
    openers: &[CALLS],
    breaks: &[],
    closers: &[],
    inner: &[ID, ARGUMENTS],
    // People write such words in brackets too.
    strays: &[],
    control: true,
};

/// The marker may be a part of an argument, so it counts outside of strings only.
const FENCE: Fence<'_> = Fence { markers: &[CALLS], in_strings: false };

#[derive(Debug, Default)]
pub(super) struct Mistral {
    at: At,
}

#[derive(Debug, Default)]
enum At {
    #[default]
    Start,
    /// Before an object or behind it.
    Objects(Around),
    Object(Around, JsonCall),
    Name(Head),
    /// The name, and the id behind it.
    Id(String, Head),
    Arguments(JsonArguments),
}

/// What objects stand in.
#[derive(Debug, Clone, Copy)]
enum Around {
    /// A list, which says where they end.
    List,
    /// Nothing: what is no object is content.
    Nothing,
}

impl Mistral {
    fn go(&mut self, at: At) -> Progress {
        self.at = at;
        Progress::Again
    }

    fn objects(&mut self, around: Around, feed: &mut Feed) -> Progress {
        match (feed.skip_space(), around) {
            (None, _) => Progress::Wait,
            (Some('{'), _) => self.go(At::Object(around, JsonCall::new(FENCE))),
            (Some(','), _) => {
                feed.advance(1);
                Progress::Again
            }
            (Some(']'), Around::List) => {
                feed.advance(1);
                Progress::Done
            }
            (Some(_), Around::List) => Progress::Broken("text that is no call stands in the list of calls".to_owned()),
            (Some(_), Around::Nothing) => Progress::Plain,
        }
    }

    fn arguments(&mut self, name: String, id: Option<String>) -> Progress {
        self.go(At::Arguments(JsonArguments::new(name, id)))
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
                Some('{') => self.go(At::Objects(Around::Nothing)),
                // A second marker says nothing new.
                Some('[') => match feed.take_next(&[CALLS]) {
                    None => Progress::Wait,
                    Some(Some(_)) => Progress::Again,
                    Some(None) => {
                        feed.advance(1);
                        self.go(At::Objects(Around::List))
                    }
                },
                Some(_) => self.go(At::Name(Head::default())),
            },
            &mut At::Objects(around) => self.objects(around, feed),
            At::Object(around, call) => match call.step(feed, sink) {
                Progress::Done => {
                    let around = *around;
                    self.go(At::Objects(around))
                }
                other => other,
            },
            At::Name(name) => match name.read_name(feed, &[ARGUMENTS, ID, "{", CALLS]) {
                Found::Open => Progress::Wait,
                Found::Whole(0) => {
                    let name = name.text().to_owned();
                    self.arguments(name, None)
                }
                Found::Whole(1) => {
                    let name = name.text().to_owned();
                    self.go(At::Id(name, Head::default()))
                }
                Found::Whole(2) => {
                    // The bracket belongs to the arguments.
                    feed.retreat(1);
                    let name = name.text().to_owned();
                    self.arguments(name, None)
                }
                Found::Whole(_) | Found::Bad => Progress::Broken(NO_NAME.to_owned()),
            },
            At::Id(name, id) => match id.read(feed, &[ARGUMENTS, CALLS]) {
                Found::Open => Progress::Wait,
                Found::Whole(0) => {
                    let (name, id) = (std::mem::take(name), id.text().to_owned());
                    self.arguments(name, Some(id))
                }
                Found::Whole(_) => Progress::Broken(format!("the call of `{name}` has no arguments")),
                Found::Bad => Progress::Broken(TOO_LONG.to_owned()),
            },
            // What follows is content, or the next marker.
            At::Arguments(arguments) => arguments.step(feed, sink, FENCE),
        }
    }

    fn is_between(&self) -> bool {
        matches!(self.at, At::Start | At::Objects(_))
    }
}
