//! One JSON value in a text that comes in pieces: where it ends.

use super::feed::Feed;
use serde::de::IgnoredAny;

/// A JSON value as far as it has come.
#[derive(Debug, Default)]
pub(super) struct JsonValue {
    text: String,
    /// What has to close, innermost last.
    closers: Vec<char>,
    in_string: bool,
    escaped: bool,
    /// A number or a word, which ends where something else begins.
    bare: bool,
}

/// Markers that end a value however incomplete it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fence<'a> {
    pub(super) markers: &'a [&'static str],
    /// Whether they count inside of strings too: control tokens do, text does not.
    pub(super) in_strings: bool,
}

/// How far a value has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scan {
    /// More has to come.
    More,
    /// It is whole.
    Whole,
    /// The next character cannot belong to it.
    Broken,
    /// A marker of the fence comes next.
    Fenced,
}

impl JsonValue {
    /// Reads on; the value begins with the first character that is read. Returns what was read now.
    pub(super) fn scan(&mut self, feed: &mut Feed, fence: Fence<'_>) -> (String, Scan) {
        let (rest, ended) = (feed.rest(), feed.has_ended());
        let (mut taken, mut scan) = (0, Scan::More);
        for (at, c) in rest.char_indices() {
            match self.fenced(&rest[at..], ended, fence) {
                Some(Scan::More) => break,
                Some(found) => {
                    scan = found;
                    break;
                }
                None => {}
            }
            scan = self.take(c);
            match scan {
                Scan::More => taken = at + c.len_utf8(),
                Scan::Whole if !self.bare => {
                    taken = at + c.len_utf8();
                    break;
                }
                // What ends a number or a word is not part of it.
                Scan::Whole | Scan::Broken | Scan::Fenced => break,
            }
        }
        let new = rest[..taken].to_owned();
        feed.advance(taken);
        self.text.push_str(&new);
        (new, scan)
    }

    /// What was read so far.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether nothing was read yet.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Whether a whole value is valid in every detail; [`scan`](Self::scan) looks only for its end.
    pub(super) fn is_valid(&self) -> bool {
        serde_json::from_str::<IgnoredAny>(&self.text).is_ok()
    }

    /// Whether the fence stands here (`Fenced`), may stand here (`More`), or does not.
    fn fenced(&self, rest: &str, ended: bool, fence: Fence<'_>) -> Option<Scan> {
        if self.in_string && !fence.in_strings {
            return None;
        }
        let mut open = None;
        for marker in fence.markers {
            if rest.starts_with(marker) {
                return Some(Scan::Fenced);
            }
            if !ended && marker.starts_with(rest) {
                open = Some(Scan::More);
            }
        }
        open
    }

    fn take(&mut self, c: char) -> Scan {
        if self.in_string {
            match c {
                _ if self.escaped => self.escaped = false,
                '\\' => self.escaped = true,
                '"' => {
                    self.in_string = false;
                    return self.closed();
                }
                _ => {}
            }
            return Scan::More;
        }
        if self.bare {
            return if matches!(c, ',' | '}' | ']') || c.is_whitespace() { Scan::Whole } else { Scan::More };
        }
        match c {
            '"' => self.in_string = true,
            '{' => self.closers.push('}'),
            '[' => self.closers.push(']'),
            '}' | ']' => {
                if self.closers.pop() != Some(c) {
                    return Scan::Broken;
                }
                return self.closed();
            }
            _ if self.closers.is_empty() => self.bare = true,
            _ => {}
        }
        Scan::More
    }

    fn closed(&self) -> Scan {
        if self.closers.is_empty() { Scan::Whole } else { Scan::More }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FENCE: Fence<'_> = Fence { markers: &["</x>"], in_strings: false };

    fn scan(text: &str) -> (String, Scan) {
        let mut feed = Feed::default();
        feed.push(text);
        JsonValue::default().scan(&mut feed, FENCE)
    }

    #[test]
    fn a_value_ends_where_its_bracket_closes() {
        assert_eq!(
            scan(r#"{"a": "}\"", "b": [1, {}]} rest"#),
            (r#"{"a": "}\"", "b": [1, {}]}"#.to_owned(), Scan::Whole)
        );
        assert_eq!(scan("12.5, 1"), ("12.5".to_owned(), Scan::Whole));
        assert_eq!(scan(r#""text" 1"#), (r#""text""#.to_owned(), Scan::Whole));
        assert_eq!(scan("[1}"), ("[1".to_owned(), Scan::Broken));
        assert_eq!(scan("{\"a\": tru"), ("{\"a\": tru".to_owned(), Scan::More));
    }

    #[test]
    fn a_fence_stops_a_value_outside_of_strings() {
        assert_eq!(scan("{\"a\": 1</x>"), ("{\"a\": 1".to_owned(), Scan::Fenced));
        assert_eq!(scan("{\"a\": \"</x>\"}"), ("{\"a\": \"</x>\"}".to_owned(), Scan::Whole));
        assert_eq!(scan("{\"a\": 1</"), ("{\"a\": 1".to_owned(), Scan::More));
    }
}
