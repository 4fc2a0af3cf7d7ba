//! Arguments that the model writes as JSON: passed on as they come.

use super::event::Sink;
use super::feed::Feed;
use super::format::Progress;
use super::json_value::{Fence, JsonValue, Scan};
use serde_json::Value;

/// Reads the arguments of one call and reports the whole call.
#[derive(Debug)]
pub(super) struct JsonArguments {
    name: String,
    id: Option<String>,
    value: JsonValue,
    at: At,
}

#[derive(Debug, Clone, Copy)]
enum At {
    /// Before the first character.
    Opening,
    /// Inside of the object.
    Object,
    /// Inside of a string that holds the object's JSON, or of `null`.
    Other,
}

impl JsonArguments {
    pub(super) fn new(name: String, id: Option<String>) -> Self {
        Self { name, id, value: JsonValue::default(), at: At::Opening }
    }

    /// Reads on. `Done`: the call is reported, and nothing behind it is read.
    pub(super) fn step(&mut self, feed: &mut Feed, sink: &mut Sink, fence: Fence<'_>) -> Progress {
        match self.at {
            At::Opening => self.open(feed, sink, fence),
            At::Object => self.object(feed, sink, fence),
            At::Other => self.other(feed, sink, fence),
        }
    }

    fn open(&mut self, feed: &mut Feed, sink: &mut Sink, fence: Fence<'_>) -> Progress {
        let Some(next) = feed.skip_space() else { return Progress::Wait };
        for marker in fence.markers {
            match feed.next_is(marker) {
                Some(true) => return self.report("{}", sink),
                Some(false) => {}
                None => return Progress::Wait,
            }
        }
        match next {
            '{' => {
                sink.begin(&self.name, self.id.take());
                self.at = At::Object;
            }
            '"' | 'n' => self.at = At::Other,
            _ => return Progress::Broken(self.no_object()),
        }
        Progress::Again
    }

    fn object(&mut self, feed: &mut Feed, sink: &mut Sink, fence: Fence<'_>) -> Progress {
        let (text, scan) = self.value.scan(feed, fence);
        sink.arguments(&text);
        match scan {
            Scan::More => return Progress::Wait,
            Scan::Whole if self.value.is_valid() => sink.end(),
            // What was sent cannot be taken back, and completing it would be a guess.
            Scan::Whole | Scan::Fenced => {
                sink.give_up();
                sink.malformed(format!("the arguments of `{}` are no valid JSON", self.name));
            }
            Scan::Broken => {
                return Progress::Broken(format!("the arguments of `{}` close the wrong bracket", self.name));
            }
        }
        Progress::Done
    }

    fn other(&mut self, feed: &mut Feed, sink: &mut Sink, fence: Fence<'_>) -> Progress {
        match self.value.scan(feed, fence).1 {
            Scan::More => Progress::Wait,
            Scan::Broken | Scan::Fenced | Scan::Whole => match object_text(self.value.text()) {
                Some(text) => self.report(&text, sink),
                None => Progress::Broken(self.no_object()),
            },
        }
    }

    /// A call whose arguments are known at once.
    fn report(&mut self, arguments: &str, sink: &mut Sink) -> Progress {
        sink.begin(&self.name, self.id.take());
        sink.arguments(arguments);
        sink.end();
        Progress::Done
    }

    fn no_object(&self) -> String {
        format!("the arguments of `{}` are no JSON object", self.name)
    }
}

/// The JSON of an object that is given as it is, as a string that holds it, or as nothing (null or an empty string).
pub(super) fn object_text(json: &str) -> Option<String> {
    match serde_json::from_str(json).ok()? {
        Value::Object(_) => Some(json.to_owned()),
        Value::Null => Some("{}".to_owned()),
        Value::String(inner) if inner.trim().is_empty() => Some("{}".to_owned()),
        Value::String(inner) => matches!(serde_json::from_str(&inner), Ok(Value::Object(_))).then_some(inner),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    }
}
