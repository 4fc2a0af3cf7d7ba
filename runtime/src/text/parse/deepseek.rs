//! Calls of DeepSeek. V3.1: `<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>{…}<｜tool▁call▁end｜>`. V3 and R1: the type, `function`,
//! before the separator, and behind it the name and the arguments in a fence, ```` ```json ````.

use super::event::Sink;
use super::feed::Feed;
use super::format::{CallFormat, Markers, NO_NAME, Progress, is_name};
use super::json_arguments::JsonArguments;
use super::json_value::Fence;

const CALL: &str = "<｜tool▁call▁begin｜>";
const SEPARATOR: &str = "<｜tool▁sep｜>";
const CALL_END: &str = "<｜tool▁call▁end｜>";
const SECTION_END: &str = "<｜tool▁calls▁end｜>";

pub(super) const MARKERS: Markers = Markers {
    openers: &["<｜tool▁calls▁begin｜>"],
    breaks: &[CALL_END],
    closers: &[SECTION_END],
    inner: &[CALL, SEPARATOR],
    control: true,
};

const FENCE: Fence = Fence { markers: &[CALL_END, SECTION_END], in_strings: true };
/// Where a name in a line of its own ends.
const LINE_END: [&str; 3] = ["\n", CALL_END, SECTION_END];

#[derive(Debug, Default)]
pub(super) struct Deepseek {
    at: At,
}

#[derive(Debug, Default)]
enum At {
    #[default]
    Section,
    /// Before the separator.
    Head(String),
    /// Behind it, where the word before it was the type of the call, or a tool of that name.
    Typed,
    /// In the name behind it.
    Name(String),
    /// Before the arguments' fence.
    Opening(String),
    Arguments(JsonArguments),
    /// Behind the arguments.
    End,
}

impl Deepseek {
    fn go(&mut self, at: At) -> Progress {
        self.at = at;
        Progress::Again
    }

    fn between(&mut self, feed: &mut Feed, markers: &[&str]) -> Progress {
        if feed.skip_space().is_none() {
            return Progress::Wait;
        }
        match feed.take_next(markers).map(|which| which.map(|which| markers[which])) {
            None => Progress::Wait,
            Some(Some(CALL)) => self.go(At::Head(String::new())),
            Some(Some(CALL_END)) => self.go(At::Section),
            Some(Some("```")) => self.go(At::End),
            Some(Some(_)) => Progress::Done,
            Some(None) => Progress::Broken("text that is no call stands among the calls".to_owned()),
        }
    }

    fn named(&mut self, name: &str) -> Progress {
        let name = name.trim();
        if !is_name(name) {
            return Progress::Broken(NO_NAME.to_owned());
        }
        let name = name.to_owned();
        self.go(At::Arguments(JsonArguments::new(name, None)))
    }
}

impl CallFormat for Deepseek {
    fn open(&mut self, _: usize) {
        self.at = At::Section;
    }

    fn step(&mut self, feed: &mut Feed, sink: &mut Sink) -> Progress {
        match &mut self.at {
            At::Section => self.between(feed, &[CALL, SECTION_END]),
            At::End => self.between(feed, &["```", CALL_END, CALL, SECTION_END]),
            At::Head(head) => {
                let (text, marker) = feed.before(&[SEPARATOR, CALL_END, SECTION_END]);
                head.push_str(&text);
                match marker {
                    None => Progress::Wait,
                    Some(0) if head.trim() == "function" => self.go(At::Typed),
                    Some(0) => {
                        let head = std::mem::take(head);
                        self.named(&head)
                    }
                    Some(_) => Progress::Broken(format!("the call `{}` has no arguments", head.trim())),
                }
            }
            At::Typed => match feed.skip_space() {
                None => Progress::Wait,
                Some('{') => self.named("function"),
                Some(_) => self.go(At::Name(String::new())),
            },
            At::Name(name) => {
                let (text, marker) = feed.before(&LINE_END);
                name.push_str(&text);
                match marker {
                    None => Progress::Wait,
                    Some(0) => {
                        let name = std::mem::take(name);
                        self.go(At::Opening(name))
                    }
                    Some(_) => Progress::Broken(format!("the call `{}` has no arguments", name.trim())),
                }
            }
            At::Opening(name) => {
                if feed.skip_space().is_none() {
                    return Progress::Wait;
                }
                match feed.take_next(&["```json", "```"]) {
                    None => Progress::Wait,
                    Some(_) => {
                        let name = std::mem::take(name);
                        self.named(&name)
                    }
                }
            }
            At::Arguments(arguments) => match arguments.step(feed, sink, FENCE) {
                Progress::Done => self.go(At::End),
                other => other,
            },
        }
    }

    fn resume(&mut self) {
        self.at = At::Section;
    }

    fn is_between(&self) -> bool {
        matches!(self.at, At::Section | At::End)
    }
}
