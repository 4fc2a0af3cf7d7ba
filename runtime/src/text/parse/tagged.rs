//! Calls whose parameters stand between tags: MiniMax M2 and Qwen3-Coder.

use super::event::Sink;
use super::feed::Feed;
use super::format::{CallFormat, Markers, Progress};
use super::head::{Found, Head, NO_NAME};
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
    /// What may end a value: its own tag, the end of the call, the next parameter where tags have lines of their own.
    value_ends: &'static [&'static str],
    section_end: &'static str,
    values: Values,
}

pub(super) const MINIMAX_M2_TAGS: Tags = Tags {
    call: "<invoke name=\"",
    name_end: "\">",
    call_end: "</invoke>",
    parameter: "<parameter name=\"",
    key_end: "\">",
    value_ends: &["</parameter>", "</invoke>"],
    section_end: "</minimax:tool_call>",
    values: Values::Typed { in_lines: false },
};

pub(super) const QWEN3_CODER_TAGS: Tags = Tags {
    call: "<function=",
    name_end: ">",
    call_end: "</function>",
    parameter: "<parameter=",
    key_end: ">",
    value_ends: &["</parameter>", "</function>", "\n<parameter="],
    section_end: "</tool_call>",
    values: Values::Typed { in_lines: true },
};

#[derive(Debug)]
pub(super) struct Tagged {
    tags: &'static Tags,
    tools: Arc<Tools>,
    /// Whether a section has begun: what is no call is an error there, and content elsewhere.
    inside: bool,
    at: At,
    name: String,
    arguments: WrittenArguments,
}

#[derive(Debug)]
enum At {
    /// Between two calls.
    Section,
    /// In the name of the tool.
    Name(Head),
    /// Between two parameters.
    Parameters,
    /// In the name of a parameter.
    Key(Head),
    /// In the value of a parameter.
    Value,
    /// Behind the end of the call, which may be a part of the value.
    MaybeEnd,
}

impl Tagged {
    pub(super) fn new(tags: &'static Tags, tools: Arc<Tools>) -> Self {
        let arguments = WrittenArguments::new(tags.values);
        Self { tags, tools, inside: false, at: At::Section, name: String::new(), arguments }
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
            Some(Some(0)) => self.go(At::Name(Head::default())),
            Some(Some(_)) => Progress::Done,
            Some(None) if self.inside => Progress::Broken("text that is no call stands among the calls".to_owned()),
            Some(None) => Progress::Plain,
        }
    }

    fn parameters(&mut self, feed: &mut Feed, sink: &mut Sink) -> Progress {
        if feed.skip_space().is_none() {
            return Progress::Wait;
        }
        match feed.take_next(&[self.tags.parameter, self.tags.call_end, self.tags.section_end]) {
            None => Progress::Wait,
            Some(Some(0)) => self.go(At::Key(Head::default())),
            Some(Some(1)) => self.end(sink),
            Some(Some(_)) => {
                self.end(sink);
                Progress::Done
            }
            Some(None) => Progress::Broken(format!("text that is no parameter stands in the call of `{}`", self.name)),
        }
    }

    fn value(&mut self, feed: &mut Feed, sink: &mut Sink) -> Progress {
        let (text, end) = feed.before(self.tags.value_ends);
        self.arguments.text(&text, sink);
        match end {
            None => Progress::Wait,
            Some(0) => {
                self.arguments.end_value(sink);
                self.go(At::Parameters)
            }
            Some(1) => {
                feed.settle();
                self.go(At::MaybeEnd)
            }
            Some(_) => {
                // The line feed stands before the tag that is missing, too.
                self.arguments.text("\n", sink);
                self.arguments.end_value(sink);
                self.go(At::Key(Head::default()))
            }
        }
    }

    /// Text may speak of the end of a call: it is one where nothing but calls follows.
    fn maybe_end(&mut self, feed: &mut Feed, sink: &mut Sink) -> Progress {
        let tags = self.tags;
        match feed.skip_space() {
            None if feed.has_ended() => {}
            None => return Progress::Wait,
            Some(_) => match feed.take_next(&[tags.section_end, tags.call]) {
                None => return Progress::Wait,
                Some(Some(which)) => feed.retreat([tags.section_end, tags.call][which].len()),
                Some(None) => {
                    self.arguments.text(tags.call_end, sink);
                    feed.rewind();
                    return self.go(At::Value);
                }
            },
        }
        self.arguments.end_value(sink);
        self.end(sink)
    }

    fn end(&mut self, sink: &mut Sink) -> Progress {
        self.arguments.close(sink);
        sink.end();
        self.go(At::Section)
    }
}

impl CallFormat for Tagged {
    fn open(&mut self, opener: usize) {
        self.inside = opener == 0;
        self.at = if self.inside { At::Section } else { At::Name(Head::default()) };
    }

    fn step(&mut self, feed: &mut Feed, sink: &mut Sink) -> Progress {
        let tags = self.tags;
        match &mut self.at {
            At::Section => self.section(feed),
            At::Name(name) => match name.read_name(feed, &[tags.name_end]) {
                Found::Open => Progress::Wait,
                Found::Bad => Progress::Broken(NO_NAME.to_owned()),
                Found::Whole(_) => {
                    self.name = name.text().to_owned();
                    self.arguments = WrittenArguments::new(tags.values);
                    sink.begin(&self.name, None);
                    self.go(At::Parameters)
                }
            },
            At::Parameters => self.parameters(feed, sink),
            At::Key(key) => match key.read_name(feed, &[tags.key_end]) {
                Found::Open => Progress::Wait,
                Found::Bad => Progress::Broken("a parameter has no name".to_owned()),
                Found::Whole(_) => {
                    self.arguments.key(&self.name, key.text(), &self.tools, sink);
                    self.go(At::Value)
                }
            },
            At::Value => self.value(feed, sink),
            At::MaybeEnd => self.maybe_end(feed, sink),
        }
    }

    fn resume(&mut self) {
        self.at = At::Section;
    }

    fn is_between(&self) -> bool {
        matches!(self.at, At::Section)
    }
}
