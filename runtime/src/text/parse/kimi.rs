//! `<|tool_call_begin|>functions.NAME:INDEX<|tool_call_argument_begin|>{…}<|tool_call_end|>` in a section: Kimi K2.

use super::event::Sink;
use super::feed::Feed;
use super::format::{CallFormat, Markers, Progress, is_name};
use super::json_arguments::JsonArguments;
use super::json_value::Fence;

const CALL: &str = "<|tool_call_begin|>";
const ARGUMENTS: &str = "<|tool_call_argument_begin|>";
const CALL_END: &str = "<|tool_call_end|>";
const SECTION_END: &str = "<|tool_calls_section_end|>";

pub(super) const MARKERS: Markers = Markers {
    openers: &["<|tool_calls_section_begin|>"],
    breaks: &[CALL_END],
    closers: &[SECTION_END],
    inner: &[CALL, ARGUMENTS],
    control: true,
};

const FENCE: Fence = Fence { markers: &[CALL_END, SECTION_END], in_strings: true };

#[derive(Debug, Default)]
pub(super) struct Kimi {
    at: At,
}

#[derive(Debug, Default)]
enum At {
    #[default]
    Section,
    Id(String),
    Arguments(JsonArguments),
    /// Behind the arguments of a call.
    End,
}

impl Kimi {
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
            Some(Some(CALL)) => self.go(At::Id(String::new())),
            Some(Some(CALL_END)) => self.go(At::Section),
            Some(Some(_)) => Progress::Done,
            Some(None) => Progress::Broken("text that is no call stands among the calls".to_owned()),
        }
    }
}

impl CallFormat for Kimi {
    fn open(&mut self, _: usize) {
        self.at = At::Section;
    }

    fn step(&mut self, feed: &mut Feed, sink: &mut Sink) -> Progress {
        match &mut self.at {
            At::Section => self.between(feed, &[CALL, SECTION_END]),
            At::End => self.between(feed, &[CALL_END, CALL, SECTION_END]),
            At::Id(id) => {
                let (text, marker) = feed.before(&[ARGUMENTS, CALL_END, SECTION_END]);
                id.push_str(&text);
                match (marker, tool(id.trim())) {
                    (None, _) => Progress::Wait,
                    (Some(0), Some((name, id))) => self.go(At::Arguments(JsonArguments::new(name, id))),
                    (Some(0), None) => Progress::Broken(format!("`{}` names no tool", id.trim())),
                    (Some(_), _) => Progress::Broken(format!("the call `{}` has no arguments", id.trim())),
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

/// The tool that an id names, and the id itself if it has the family's form.
fn tool(id: &str) -> Option<(String, Option<String>)> {
    let name = id.strip_prefix("functions.").unwrap_or(id);
    let (name, counted) = match name.rsplit_once(':') {
        Some((name, index)) if !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit()) => (name, true),
        _ => (name, false),
    };
    let whole = counted && id.starts_with("functions.");
    is_name(name).then(|| (name.to_owned(), whole.then(|| id.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_in_the_form_of_the_family_is_kept() {
        let of = |id| tool(id).map(|(name, id)| (name, id.is_some()));
        assert_eq!(of("functions.get_weather:12"), Some(("get_weather".to_owned(), true)));
        assert_eq!(of("functions.a.b:0"), Some(("a.b".to_owned(), true)));
        assert_eq!(of("get_weather:0"), Some(("get_weather".to_owned(), false)));
        assert_eq!(of("functions.get_weather"), Some(("get_weather".to_owned(), false)));
        assert_eq!(of("functions.:0"), None);
        assert_eq!(of("two words"), None);
    }
}
