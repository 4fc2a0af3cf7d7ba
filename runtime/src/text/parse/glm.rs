//! `<tool_call>NAME<arg_key>KEY</arg_key><arg_value>…</arg_value></tool_call>`: GLM 4.5 and 4.6 with line feeds between
//! the tags, 4.7 and 5 without.

use super::event::Sink;
use super::feed::Feed;
use super::format::{CallFormat, Markers, Progress};
use super::head::{Found, Head, NO_NAME, TOO_LONG};
use super::tools::Tools;
use super::written_arguments::{Values, WrittenArguments};
use std::sync::Arc;

const KEY: &str = "<arg_key>";
const KEY_END: &str = "</arg_key>";
const VALUE: &str = "<arg_value>";
const VALUE_END: &str = "</arg_value>";
const END: &str = "</tool_call>";

pub(super) const MARKERS: Markers = Markers {
    openers: &["<tool_call>"],
    breaks: &[],
    closers: &[END],
    inner: &[KEY, KEY_END, VALUE, VALUE_END],
    strays: &[],
    control: false,
};

#[derive(Debug)]
pub(super) struct Glm {
    tools: Arc<Tools>,
    at: At,
    name: String,
    arguments: WrittenArguments,
}

#[derive(Debug)]
enum At {
    Name(Head),
    Pairs,
    Key(Head),
    ValueTag(String),
    Value,
}

impl Glm {
    pub(super) fn new(tools: Arc<Tools>) -> Self {
        Self {
            tools,
            at: At::Name(Head::default()),
            name: String::new(),
            arguments: WrittenArguments::new(Values::Json),
        }
    }

    fn go(&mut self, at: At) -> Progress {
        self.at = at;
        Progress::Again
    }

    fn pairs(&mut self, feed: &mut Feed, sink: &mut Sink) -> Progress {
        if feed.skip_space().is_none() {
            return Progress::Wait;
        }
        match feed.take_next(&[KEY, END]) {
            None => Progress::Wait,
            Some(Some(0)) => self.go(At::Key(Head::default())),
            Some(Some(_)) => self.end(sink),
            Some(None) => Progress::Broken(format!("text that is no argument stands in the call of `{}`", self.name)),
        }
    }

    fn end(&mut self, sink: &mut Sink) -> Progress {
        self.arguments.close(sink);
        sink.end();
        Progress::Done
    }
}

impl CallFormat for Glm {
    fn open(&mut self, _: usize) {
        *self = Self::new(self.tools.clone());
    }

    fn step(&mut self, feed: &mut Feed, sink: &mut Sink) -> Progress {
        match &mut self.at {
            At::Name(name) => match name.read_name(feed, &[KEY, END]) {
                Found::Open => Progress::Wait,
                Found::Whole(which) => {
                    self.name = name.text().to_owned();
                    sink.begin(&self.name, None);
                    if which == 0 { self.go(At::Key(Head::default())) } else { self.end(sink) }
                }
                Found::Bad => Progress::Broken(NO_NAME.to_owned()),
            },
            At::Pairs => self.pairs(feed, sink),
            At::Key(key) => match key.read(feed, &[KEY_END]) {
                Found::Open => Progress::Wait,
                Found::Whole(_) => {
                    let key = key.text().to_owned();
                    self.go(At::ValueTag(key))
                }
                Found::Bad => Progress::Broken(TOO_LONG.to_owned()),
            },
            At::ValueTag(key) => {
                if feed.skip_space().is_none() {
                    return Progress::Wait;
                }
                match feed.take_next(&[VALUE]) {
                    None => Progress::Wait,
                    Some(None) => Progress::Broken(format!("the argument `{key}` has no value")),
                    Some(Some(_)) => {
                        self.arguments.key(&self.name, key, &self.tools, sink);
                        self.go(At::Value)
                    }
                }
            }
            At::Value => {
                let (text, ended) = feed.before(&[VALUE_END]);
                self.arguments.text(&text, sink);
                if ended.is_none() {
                    return Progress::Wait;
                }
                self.arguments.end_value(sink);
                self.go(At::Pairs)
            }
        }
    }

    fn is_between(&self) -> bool {
        false
    }
}
