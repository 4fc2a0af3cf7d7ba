//! Stop strings: ends an answer where one of them appears, and shows no part of one that may still appear.

/// What a piece of text became.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matched {
    /// Text that can be shown.
    pub text: String,
    /// Which stop string has ended the answer, as its index in the list; nothing follows it.
    pub stopped: Option<usize>,
}

/// Looks for stop strings in a text that comes in pieces.
///
/// The match that is complete first wins; of those that end at the same byte, the longest; of equal ones, the first in
/// the list. So the result does not depend on how the text was cut. One pass over the bytes per stop string, and only
/// the longest end of the text that begins a stop string is held back.
///
/// Source: Knuth, Morris, Pratt, "Fast Pattern Matching in Strings", 1977.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    stops: Vec<Stop>,
    include_stop: bool,
    /// Text that is not shown yet.
    held: String,
    stopped: Option<usize>,
}

#[derive(Debug, Clone)]
struct Stop {
    pattern: Box<[u8]>,
    /// For each length of a matched beginning, the length of the next shorter beginning that the same bytes end with.
    fallback: Box<[usize]>,
    /// How many bytes of the pattern the text ends with.
    matched: usize,
}

impl StopMatcher {
    /// Looks for `stops`; an empty one never matches. With `include_stop` the match is part of the answer.
    pub fn new(stops: Vec<String>, include_stop: bool) -> Self {
        Self { stops: stops.into_iter().map(Stop::new).collect(), include_stop, held: String::new(), stopped: None }
    }

    /// Takes the next piece of text. After a match, nothing more comes out.
    pub fn push(&mut self, text: &str) -> Matched {
        if self.stopped.is_some() {
            return Matched { text: String::new(), stopped: self.stopped };
        }
        let before = self.held.len();
        self.held.push_str(text);
        for (offset, byte) in text.bytes().enumerate() {
            let mut longest = None;
            for (which, stop) in self.stops.iter_mut().enumerate() {
                if stop.step(byte) && longest.is_none_or(|(_, len)| stop.pattern.len() > len) {
                    longest = Some((which, stop.pattern.len()));
                }
            }
            if let Some((which, len)) = longest {
                let end = before + offset + 1;
                self.held.truncate(if self.include_stop { end } else { end - len });
                self.stopped = Some(which);
                return Matched { text: std::mem::take(&mut self.held), stopped: self.stopped };
            }
        }
        // A held end begins a stop string, so it starts between two characters.
        let keep = self.stops.iter().map(|stop| stop.matched).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Matched { text: std::mem::replace(&mut self.held, rest), stopped: None }
    }

    /// The text has ended: returns what was held back.
    pub fn finish(&mut self) -> String {
        for stop in &mut self.stops {
            stop.matched = 0;
        }
        std::mem::take(&mut self.held)
    }
}

impl Stop {
    fn new(pattern: String) -> Self {
        let pattern = pattern.into_bytes().into_boxed_slice();
        let mut fallback = vec![0; pattern.len() + 1].into_boxed_slice();
        let mut len = 0;
        for end in 1..pattern.len() {
            while len > 0 && pattern[len] != pattern[end] {
                len = fallback[len];
            }
            len += usize::from(pattern[len] == pattern[end]);
            fallback[end + 1] = len;
        }
        Self { pattern, fallback, matched: 0 }
    }

    /// Takes one byte of the text; whether the pattern is complete.
    fn step(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.pattern[self.matched] != byte {
            self.matched = self.fallback[self.matched];
        }
        self.matched += usize::from(self.pattern.get(self.matched) == Some(&byte));
        self.matched > 0 && self.matched == self.pattern.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Tries every end, then every start: the definition, without any cleverness.
    fn naive(text: &str, stops: &[String], include_stop: bool) -> (String, Option<usize>) {
        for end in (0..=text.len()).filter(|&end| text.is_char_boundary(end)) {
            let longest = (0..stops.len())
                .filter(|&i| !stops[i].is_empty() && text[..end].ends_with(&stops[i]))
                .max_by_key(|&i| (stops[i].len(), std::cmp::Reverse(i)));
            if let Some(which) = longest {
                let cut = if include_stop { end } else { end - stops[which].len() };
                return (text[..cut].to_owned(), Some(which));
            }
        }
        (text.to_owned(), None)
    }

    fn in_pieces(pieces: &[String], stops: &[String], include_stop: bool) -> (String, Option<usize>) {
        let mut matcher = StopMatcher::new(stops.to_vec(), include_stop);
        let (mut text, mut stopped) = (String::new(), None);
        for piece in pieces {
            let matched = matcher.push(piece);
            text.push_str(&matched.text);
            stopped = matched.stopped;
        }
        text.push_str(&matcher.finish());
        (text, stopped)
    }

    proptest! {
        #[test]
        fn any_cutting_of_the_text_gives_the_result_of_the_whole(
            pieces in prop::collection::vec("[abé€]{0,4}", 0..8),
            stops in prop::collection::vec("[abé€]{0,4}", 0..4),
            include_stop: bool,
        ) {
            prop_assert_eq!(in_pieces(&pieces, &stops, include_stop), naive(&pieces.concat(), &stops, include_stop));
        }

        #[test]
        fn only_the_beginning_of_a_stop_string_is_ever_held_back(
            pieces in prop::collection::vec("[abé]{0,4}", 1..8),
            stops in prop::collection::vec("[abé]{1,4}", 1..4),
        ) {
            let mut matcher = StopMatcher::new(stops.clone(), false);
            let (mut pushed, mut shown) = (String::new(), String::new());
            for piece in &pieces {
                let matched = matcher.push(piece);
                pushed.push_str(piece);
                shown.push_str(&matched.text);
                if matched.stopped.is_some() {
                    break;
                }
                let held = &pushed[shown.len()..];
                prop_assert!(held.is_empty() || stops.iter().any(|stop| stop.len() > held.len() && stop.starts_with(held)));
                let longest = (1..=pushed.len()).rev().find(|&len| stops.iter().any(|stop| {
                    stop.len() > len && stop.as_bytes()[..len] == pushed.as_bytes()[pushed.len() - len..]
                }));
                prop_assert_eq!(held.len(), longest.unwrap_or(0));
            }
        }
    }

    #[test]
    fn a_beginning_that_goes_on_differently_is_shown() {
        let mut matcher = StopMatcher::new(vec!["</end>".into()], false);
        assert_eq!(matcher.push("a </e").text, "a ");
        assert_eq!(matcher.push("m> b").text, "</em> b");
        assert_eq!(matcher.finish(), "");
    }

    #[test]
    fn nothing_comes_out_after_a_match() {
        let mut matcher = StopMatcher::new(vec!["x".into(), "END".into()], true);
        assert_eq!(matcher.push("oneEN"), Matched { text: "one".into(), stopped: None });
        assert_eq!(matcher.push("D two x"), Matched { text: "END".into(), stopped: Some(1) });
        assert_eq!(matcher.push("three"), Matched { text: String::new(), stopped: Some(1) });
        assert_eq!(matcher.finish(), "");
    }
}
