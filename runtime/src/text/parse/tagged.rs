//! Calls whose parameters stand between tags: MiniMax M2 and Qwen3-Coder.

use super::event::Sink;
use super::feed::Feed;
use super::format::{CallFormat, Markers, Progress};
use super::head::{NO_NAME, is_name};
use super::tools::Tools;
use super::written_arguments::{Values, WrittenArguments};
use std::sync::Arc;

pub(super) const MINIMAX_M2: Markers = Markers {
    openers: &["<minimax:tool_call>"],
    breaks: &["</invoke>"],
    closers: &["</minimax:tool_call>"],
    inner: &["<invoke name=\"", "<parameter name=\"", "</parameter>"],
    strays: &[],
    control: false,
};

pub(super) const QWEN3_CODER: Markers = Markers {
    // Some answers leave the outer tag out.
    openers: &["<tool_call>", "<function="],
    breaks: &["</function>"],
    closers: &["</tool_call>"],
    inner: &["<parameter=", "</parameter>"],
    strays: &[],
    control: false,
};

/// The tags of a family.
#[derive(Debug)]
pub(super) struct Tags {
    call: &'static str,
    name_end: &'static str,
    call_end: &'static str,
    parameter: &'static str,
    key_end: &'static str,
    parameter_end: &'static str,
    section_end: &'static str,
    values: Values,
}

pub(super) const MINIMAX_M2_TAGS: Tags = Tags {
    call: "<invoke name=\"",
    name_end: "\">",
    call_end: "</invoke>",
    parameter: "<parameter name=\"",
    key_end: "\">",
    parameter_end: "</parameter>",
    section_end: "</minimax:tool_call>",
    values: Values::Typed { in_lines: false },
};

pub(super) const QWEN3_CODER_TAGS: Tags = Tags {
    call: "<function=",
    name_end: ">",
    call_end: "</function>",
    parameter: "<parameter=",
    key_end: ">",
    parameter_end: "</parameter>",
    section_end: "</tool_call>",
    values: Values::Typed { in_lines: true },
};

#[derive(Debug)]
pub(super) struct Tagged {
    tags: &'static Tags,
    tools: Arc<Tools>,
    at: At,
    name: String,
    arguments: WrittenArguments,
}

#[derive(Debug)]
enum At {
    /// Between two calls.
    Section,
    /// In the name of the tool.
    Name(String),
    /// Between two parameters.
    Parameters,
    /// In the name of a parameter.
    Key(String),
    /// In the value of a parameter.
    Value,
}

impl Tagged {
    pub(super) fn new(tags: &'static Tags, tools: Arc<Tools>) -> Self {
        let arguments = WrittenArguments::new(tags.values);
        Self { tags, tools, at: At::Section, name: String::new(), arguments }
    }

    fn go(&mut self, at: At) -> Progress {
        self.at = at;
        Progress::Again
    }

    fn section(&mut self, feed: &mut Feed) -> Progress {
        if feed.skip_space().is_none() {
            return Progress::Wait;
        }
        match feed.take_next(&[self.tags.call, self.tags.section_end]) {
            None => Progress::Wait,
            Some(Some(0)) => self.go(At::Name(String::new())),
            Some(Some(_)) => Progress::Done,
            Some(None) => Progress::Broken("text that is no call stands among the calls".to_owned()),
        }
    }

    fn parameters(&mut self, feed: &mut Feed, sink: &mut Sink) -> Progress {
        if feed.skip_space().is_none() {
            return Progress::Wait;
        }
        match feed.take_next(&[self.tags.parameter, self.tags.call_end]) {
            None => Progress::Wait,
            Some(Some(0)) => self.go(At::Key(String::new())),
            Some(Some(_)) => {
                self.arguments.close(sink);
                sink.end();
                self.go(At::Section)
            }
            Some(None) => Progress::Broken(format!("text that is no parameter stands in the call of `{}`", self.name)),
        }
    }
}

impl CallFormat for Tagged {
    fn open(&mut self, opener: usize) {
        self.at = if opener == 0 { At::Section } else { At::Name(String::new()) };
    }

    fn step(&mut self, feed: &mut Feed, sink: &mut Sink) -> Progress {
        let tags = self.tags;
        match &mut self.at {
            At::Section => self.section(feed),
            At::Name(name) => match read_tag(feed, tags.name_end, name) {
                Tag::Open => Progress::Wait,
                Tag::Bad => Progress::Broken(NO_NAME.to_owned()),
                Tag::Whole => {
                    self.name = name.trim().to_owned();
                    self.arguments = WrittenArguments::new(tags.values);
                    sink.begin(&self.name, None);
                    self.go(At::Parameters)
                }
            },
            At::Parameters => self.parameters(feed, sink),
            At::Key(key) => match read_tag(feed, tags.key_end, key) {
                Tag::Open => Progress::Wait,
                Tag::Bad => Progress::Broken("a parameter has no name".to_owned()),
                Tag::Whole => {
                    let key = key.trim().to_owned();
                    self.arguments.key(&self.name, &key, &self.tools, sink);
                    self.go(At::Value)
                }
            },
            At::Value => {
                let (text, ended) = feed.before(&[tags.parameter_end]);
                self.arguments.text(&text, sink);
                if ended.is_none() {
                    return Progress::Wait;
                }
                self.arguments.end_value(sink);
                self.go(At::Parameters)
            }
        }
    }

    fn resume(&mut self) {
        self.at = At::Section;
    }

    fn is_between(&self) -> bool {
        matches!(self.at, At::Section)
    }
}

/// A name inside of a tag, as far as it has come.
enum Tag {
    Open,
    Whole,
    Bad,
}

fn read_tag(feed: &mut Feed, end: &str, name: &mut String) -> Tag {
    let (text, ended) = feed.before(&[end]);
    name.push_str(&text);
    match ended {
        Some(_) if is_name(name.trim()) => Tag::Whole,
        Some(_) => Tag::Bad,
        // A tag that never ends shall not take the rest of the answer with it.
        None if name.trim().is_empty() || is_name(name.trim_start()) => Tag::Open,
        None => Tag::Bad,
    }
}
