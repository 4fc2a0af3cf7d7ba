//! A call that is one JSON object: `{"name": …, "arguments": {…}}`.

use super::event::Sink;
use super::feed::Feed;
use super::format::Progress;
use super::head::is_name;
use super::json_arguments::{JsonArguments, object_text};
use super::json_value::{Fence, JsonValue, Scan};

/// Keys of the arguments.
const ARGUMENTS: [&str; 2] = ["arguments", "parameters"];
/// Keys that calls have beside them.
const OTHERS: [&str; 3] = ["name", "id", "type"];

/// Reads one call, its keys in any order. Arguments are passed on as they come, once the name is known.
#[derive(Debug)]
pub(super) struct JsonCall {
    at: At,
    fence: Fence<'static>,
    name: Option<String>,
    id: Option<String>,
    /// Arguments that came before the name.
    early: Option<String>,
    reported: bool,
}

#[derive(Debug)]
enum At {
    Open,
    Key,
    KeyText(JsonValue),
    Colon(String),
    Value(String, JsonValue),
    Arguments(JsonArguments),
    Comma,
}

impl JsonCall {
    pub(super) fn new(fence: Fence<'static>) -> Self {
        Self { at: At::Open, fence, name: None, id: None, early: None, reported: false }
    }

    /// Reads on. `Done`: the call is reported and its last bracket is read.
    pub(super) fn step(&mut self, feed: &mut Feed, sink: &mut Sink) -> Progress {
        match &mut self.at {
            At::Open => self.bracket(feed),
            At::Key => self.key(feed, sink),
            At::KeyText(value) => match value.scan(feed, self.fence).1 {
                Scan::More => Progress::Wait,
                Scan::Whole => match serde_json::from_str(value.text()) {
                    Ok(key) => self.go(At::Colon(key)),
                    Err(_) => Progress::Broken("a key of a call is no valid JSON".to_owned()),
                },
                Scan::Broken | Scan::Fenced => no_json(),
            },
            At::Colon(_) => self.colon(feed),
            At::Value(..) => self.value(feed),
            At::Arguments(arguments) => match arguments.step(feed, sink, self.fence) {
                Progress::Done => {
                    self.reported = true;
                    self.go(At::Comma)
                }
                other => other,
            },
            At::Comma => self.comma(feed, sink),
        }
    }

    /// The keys that were read make this a call, or at least do not exclude it.
    pub(super) fn may_be_a_call(&self) -> bool {
        match &self.at {
            At::Colon(key) | At::Value(key, _) => ARGUMENTS.contains(&key.as_str()) || OTHERS.contains(&key.as_str()),
            At::Open | At::Key | At::KeyText(_) | At::Arguments(_) | At::Comma => true,
        }
    }

    /// Whether the call has been reported: what follows in its object changes nothing.
    pub(super) fn is_reported(&self) -> bool {
        self.reported
    }

    /// The name of the tool, once it is read.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    fn go(&mut self, at: At) -> Progress {
        self.at = at;
        Progress::Again
    }

    fn bracket(&mut self, feed: &mut Feed) -> Progress {
        match feed.skip_space() {
            None => Progress::Wait,
            Some('{') => {
                feed.advance(1);
                self.go(At::Key)
            }
            Some(_) => no_json(),
        }
    }

    fn key(&mut self, feed: &mut Feed, sink: &mut Sink) -> Progress {
        match feed.skip_space() {
            None => Progress::Wait,
            Some('"') => self.go(At::KeyText(JsonValue::default())),
            Some('}') => self.finish(feed, sink),
            Some(_) => no_json(),
        }
    }

    fn colon(&mut self, feed: &mut Feed) -> Progress {
        let At::Colon(key) = &self.at else { return Progress::Again };
        match feed.skip_space() {
            None => return Progress::Wait,
            Some(':') => feed.advance(1),
            Some(_) => return no_json(),
        }
        let is_arguments = ARGUMENTS.contains(&key.as_str()) && self.early.is_none() && !self.reported;
        let next = match (is_arguments, &self.name) {
            (true, Some(name)) => At::Arguments(JsonArguments::new(name.clone(), self.id.take())),
            _ => At::Value(key.clone(), JsonValue::default()),
        };
        self.go(next)
    }

    fn value(&mut self, feed: &mut Feed) -> Progress {
        let At::Value(key, value) = &mut self.at else { return Progress::Again };
        if value.is_empty() && feed.skip_space().is_none() {
            return Progress::Wait;
        }
        match value.scan(feed, self.fence).1 {
            Scan::More => return Progress::Wait,
            Scan::Whole => {}
            Scan::Broken | Scan::Fenced => return no_json(),
        }
        let text = || serde_json::from_str::<String>(value.text()).ok();
        match key.as_str() {
            "name" => match text().filter(|name| is_name(name)) {
                Some(name) => self.name = Some(name),
                None => return Progress::Broken("the name of a call is no name".to_owned()),
            },
            "id" => self.id = text().filter(|id| !id.is_empty()),
            key if ARGUMENTS.contains(&key) => match object_text(value.text()) {
                Some(arguments) => self.early = Some(arguments),
                None => return Progress::Broken("the arguments of a call are no JSON object".to_owned()),
            },
            _ => {}
        }
        self.go(At::Comma)
    }

    fn comma(&mut self, feed: &mut Feed, sink: &mut Sink) -> Progress {
        match feed.skip_space() {
            None => Progress::Wait,
            Some(',') => {
                feed.advance(1);
                self.go(At::Key)
            }
            Some('}') => self.finish(feed, sink),
            // Only the last bracket is missing.
            Some(_) if self.reported => Progress::Done,
            Some(_) => no_json(),
        }
    }

    fn finish(&mut self, feed: &mut Feed, sink: &mut Sink) -> Progress {
        feed.advance(1);
        if self.reported {
            // The bracket is read for good, whatever is wrong behind it.
            feed.settle();
            return Progress::Done;
        }
        let Some(name) = &self.name else { return Progress::Broken("a call without a name".to_owned()) };
        sink.begin(name, self.id.take());
        sink.arguments(self.early.as_deref().unwrap_or("{}"));
        sink.end();
        Progress::Done
    }
}

fn no_json() -> Progress {
    Progress::Broken("a call is no valid JSON".to_owned())
}
