//! Calls between control tokens, in a section of them: Kimi K2 and DeepSeek.
//!
//! Kimi: `<|tool_call_begin|>functions.NAME:INDEX<|tool_call_argument_begin|>{…}<|tool_call_end|>`. DeepSeek V3.1:
//! `<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>{…}<｜tool▁call▁end｜>`. DeepSeek V3 and R1: the type, `function`, before the
//! separator, and behind it the name and the arguments in a fence, ```` ```json ````.

use super::event::Sink;
use super::feed::Feed;
use super::format::{CallFormat, Markers, Progress};
use super::head::{Found, Head, NO_NAME, is_name};
use super::json_arguments::JsonArguments;
use super::json_value::Fence;

pub(super) const KIMI_K2: Markers = Markers {
    // Some answers leave the section out, or speak of one call.
    openers: &["<|tool_calls_section_begin|>", "<|tool_call_section_begin|>", "<|tool_call_begin|>"],
    breaks: &["<|tool_call_end|>"],
    closers: &["<|tool_calls_section_end|>", "<|tool_call_section_end|>"],
    inner: &["<|tool_call_argument_begin|>"],
    strays: &["<|tool_call_end|>", "<|tool_call_argument_begin|>"],
    control: true,
};

pub(super) const DEEPSEEK: Markers = Markers {
    openers: &["<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>"],
    breaks: &["<｜tool▁call▁end｜>"],
    closers: &["<｜tool▁calls▁end｜>"],
    inner: &["<｜tool▁sep｜>"],
    strays: &["<｜tool▁call▁end｜>", "<｜tool▁sep｜>"],
    control: true,
};

/// How the head of a call names its tool.
#[derive(Debug, Clone, Copy)]
pub(super) enum Naming {
    /// `functions.NAME:INDEX`.
    Counted,
    /// `NAME`, or the type of the call, `function`, with the name behind the marker.
    Typed,
}

#[derive(Debug)]
pub(super) struct Section {
    naming: Naming,
    /// What ends the head of a call: the marker of its arguments, and then what ends these too: the marker behind a
    /// call, the one before a call, and those behind a section.
    markers: Vec<&'static str>,
    /// Which opener begins a call without a section.
    call_opener: usize,
    /// Whether a section has begun: what is no call is an error there, and content elsewhere.
    inside: bool,
    at: At,
}

#[derive(Debug)]
enum At {
    /// Between two calls.
    Between,
    Head(Head),
    /// Behind the type of a call, or a tool of that name.
    Typed,
    /// In the name, which has a line of its own.
    Name(Head),
    /// Before the arguments and maybe their fence.
    Opening(String),
    Arguments(JsonArguments),
    /// Behind the arguments.
    End,
}

impl Section {
    /// The last opener of `family` begins a call, the others a section.
    pub(super) fn new(family: &Markers, naming: Naming) -> Self {
        let call_opener = family.openers.len() - 1;
        let markers = [family.inner, family.breaks, &family.openers[call_opener..], family.closers].concat();
        Self { naming, markers, call_opener, inside: false, at: At::Between }
    }

    fn go(&mut self, at: At) -> Progress {
        self.at = at;
        Progress::Again
    }

    fn between(&mut self, feed: &mut Feed) -> Progress {
        if feed.skip_space().is_none() {
            return Progress::Wait;
        }
        match feed.take_next(&self.markers[1..]) {
            None => Progress::Wait,
            Some(Some(which @ (0 | 1))) => {
                // Whatever is wrong behind a marker, it is not read a second time.
                feed.settle();
                self.go(if which == 0 { At::Between } else { At::Head(Head::default()) })
            }
            Some(Some(_)) => Progress::Done,
            Some(None) if self.inside => Progress::Broken("text that is no call stands among the calls".to_owned()),
            Some(None) => Progress::Plain,
        }
    }

    /// The head has ended with the marker of the arguments.
    fn headed(&mut self, head: &str) -> Progress {
        match self.naming {
            Naming::Typed if head == "function" => self.go(At::Typed),
            Naming::Typed => self.named(head, None),
            Naming::Counted => self.named(counted(head), Some(head.to_owned())),
        }
    }

    fn named(&mut self, name: &str, id: Option<String>) -> Progress {
        if !is_name(name) {
            return Progress::Broken(NO_NAME.to_owned());
        }
        self.go(At::Arguments(JsonArguments::new(name.to_owned(), id)))
    }
}

impl CallFormat for Section {
    fn open(&mut self, opener: usize) {
        self.inside = opener != self.call_opener;
        self.at = if self.inside { At::Between } else { At::Head(Head::default()) };
    }

    fn step(&mut self, feed: &mut Feed, sink: &mut Sink) -> Progress {
        let ends = &self.markers[1..];
        match &mut self.at {
            At::Between => self.between(feed),
            At::Head(head) => match head.read_name(feed, &self.markers) {
                Found::Open => Progress::Wait,
                Found::Whole(0) => {
                    let head = std::mem::take(head);
                    self.headed(head.text())
                }
                Found::Whole(_) => no_arguments(head),
                Found::Bad => Progress::Broken(NO_NAME.to_owned()),
            },
            At::Typed => match feed.skip_space() {
                None => Progress::Wait,
                Some('{') => self.named("function", None),
                Some(_) => self.go(At::Name(Head::default())),
            },
            At::Name(name) => match name.read_name(feed, &[&["\n"], ends].concat()) {
                Found::Open => Progress::Wait,
                Found::Whole(0) => {
                    let name = name.text().to_owned();
                    self.go(At::Opening(name))
                }
                Found::Whole(_) => no_arguments(name),
                Found::Bad => Progress::Broken(NO_NAME.to_owned()),
            },
            At::Opening(name) => {
                if feed.skip_space().is_none() {
                    return Progress::Wait;
                }
                match feed.take_next(&["```json", "```"]) {
                    None => Progress::Wait,
                    Some(_) => {
                        let name = std::mem::take(name);
                        self.named(&name, None)
                    }
                }
            }
            At::Arguments(arguments) => match arguments.step(feed, sink, Fence { markers: ends, in_strings: true }) {
                Progress::Done => self.go(At::End),
                other => other,
            },
            At::End => {
                if feed.skip_space().is_none() {
                    return Progress::Wait;
                }
                match feed.take_next(&["```"]) {
                    None => Progress::Wait,
                    Some(Some(_)) => {
                        feed.settle();
                        Progress::Again
                    }
                    Some(None) => self.go(At::Between),
                }
            }
        }
    }

    fn resume(&mut self) {
        self.at = At::Between;
    }

    fn is_between(&self) -> bool {
        matches!(self.at, At::Between | At::End)
    }
}

fn no_arguments(head: &Head) -> Progress {
    Progress::Broken(format!("the call `{}` has no arguments", head.text()))
}

/// The name in `functions.NAME:INDEX`.
fn counted(id: &str) -> &str {
    let name = id.strip_prefix("functions.").unwrap_or(id);
    match name.rsplit_once(':') {
        Some((name, index)) if !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_tool_stands_between_its_kind_and_its_count() {
        assert_eq!(counted("functions.get_weather:12"), "get_weather");
        assert_eq!(counted("functions.a.b:0"), "a.b");
        assert_eq!(counted("get_weather:0"), "get_weather");
        assert_eq!(counted("functions.get_weather"), "get_weather");
        assert_eq!(counted("functions.a:b"), "a:b");
        assert_eq!(counted("functions.:0"), "");
    }
}
