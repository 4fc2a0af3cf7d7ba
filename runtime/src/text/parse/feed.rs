//! Text that comes in pieces, read as if it had come at once.

/// Text that has come and is not read yet.
///
/// Whoever reads from it either learns something that no later piece can change, or has to wait. So the result of
/// reading does not depend on how the text was cut.
#[derive(Debug, Default)]
pub(super) struct Feed {
    text: String,
    /// Where the next reader goes on.
    at: usize,
    /// Where text begins that was read and has not led to anything yet.
    mark: usize,
    ended: bool,
}

impl Feed {
    /// Adds the next piece.
    pub(super) fn push(&mut self, piece: &str) {
        self.text.drain(..self.mark);
        self.at -= self.mark;
        self.mark = 0;
        self.text.push_str(piece);
    }

    /// No piece follows: what might have become a marker is text.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// What is not read yet.
    pub(super) fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// Reads `bytes`, which end between two characters.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Gives back the last `bytes` that were read.
    pub(super) fn retreat(&mut self, bytes: usize) {
        self.at -= bytes;
    }

    /// What has been read since the last [`settle`](Self::settle).
    pub(super) fn unsettled(&self) -> &str {
        &self.text[self.mark..self.at]
    }

    /// Gives back what has been read since the last [`settle`](Self::settle).
    pub(super) fn rewind(&mut self) {
        self.at = self.mark;
    }

    /// What has been read has led to something: it will not be given back.
    pub(super) fn settle(&mut self) {
        self.mark = self.at;
    }

    /// Reads up to the first of `markers` and the marker itself: the text before it, and which one it is. Without one,
    /// the text that cannot be the beginning of one.
    pub(super) fn before(&mut self, markers: &[&str]) -> (String, Option<usize>) {
        let rest = self.rest();
        let found = markers.iter().enumerate().filter_map(|(which, marker)| Some((rest.find(marker)?, which)));
        // Of two that begin at the same place the longer one is meant.
        let first = found.min_by_key(|&(place, which)| (place, std::cmp::Reverse(markers[which].len())));
        let (len, consumed, which) = match first {
            Some((place, which)) => (place, place + markers[which].len(), Some(which)),
            None => {
                let len = if self.ended { rest.len() } else { rest.len() - held(rest, markers) };
                (len, len, None)
            }
        };
        let text = rest[..len].to_owned();
        self.at += consumed;
        (text, which)
    }

    /// Whether `marker` comes next; `None` while that is open.
    pub(super) fn next_is(&self, marker: &str) -> Option<bool> {
        let rest = self.rest();
        match rest.starts_with(marker) {
            true => Some(true),
            false if !self.ended && marker.starts_with(rest) => None,
            false => Some(false),
        }
    }

    /// Reads whichever of `markers` comes next: which one, or `None` if none does. The outer `None`: that is open.
    pub(super) fn take_next(&mut self, markers: &[&str]) -> Option<Option<usize>> {
        let mut found: Option<usize> = None;
        for (which, marker) in markers.iter().enumerate() {
            // A marker that may still come is longer than any that has.
            if self.next_is(marker)? && found.is_none_or(|best| marker.len() > markers[best].len()) {
                found = Some(which);
            }
        }
        self.at += found.map_or(0, |which| markers[which].len());
        Some(found)
    }

    /// Reads over white space; the character that follows, if it has come.
    pub(super) fn skip_space(&mut self) -> Option<char> {
        let rest = self.rest();
        let trimmed = rest.trim_start();
        let (skipped, next) = (rest.len() - trimmed.len(), trimmed.chars().next());
        self.at += skipped;
        next
    }
}

/// Length of the longest end of `text` that begins one of `markers`.
fn held(text: &str, markers: &[&str]) -> usize {
    let begins = |marker: &&str| {
        (1..marker.len().min(text.len() + 1))
            .rev()
            .find(|&len| text.as_bytes().ends_with(&marker.as_bytes()[..len]))
            .unwrap_or(0)
    };
    markers.iter().map(begins).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_become_a_marker_is_held_back() {
        let mut feed = Feed::default();
        feed.push("a <b <to");
        assert_eq!(feed.before(&["<tool>", "</x"]), ("a <b ".to_owned(), None));
        feed.push("ol> c");
        assert_eq!(feed.before(&["<tool>", "</x"]), (String::new(), Some(0)));
        assert_eq!(feed.rest(), " c");
        feed.push("<too");
        feed.end();
        assert_eq!(feed.before(&["<tool>"]), (" c<too".to_owned(), None));
    }

    #[test]
    fn what_led_to_nothing_can_be_given_back() {
        let mut feed = Feed::default();
        feed.push("abc");
        feed.advance(1);
        feed.settle();
        feed.advance(1);
        assert_eq!(feed.unsettled(), "b");
        feed.push("d");
        assert_eq!((feed.unsettled(), feed.rest()), ("b", "cd"));
    }

    #[test]
    fn a_marker_that_may_come_is_waited_for() {
        let mut feed = Feed::default();
        feed.push(" <f");
        assert_eq!(feed.skip_space(), Some('<'));
        assert_eq!(feed.take_next(&["</p>", "<function="]), None);
        feed.push("unction=x");
        assert_eq!(feed.take_next(&["</p>", "<function="]), Some(Some(1)));
        assert_eq!(feed.take_next(&["</p>", "<function="]), Some(None));
    }

    #[test]
    fn of_two_markers_that_begin_alike_the_longer_one_is_meant() {
        let mut feed = Feed::default();
        feed.push("```");
        assert_eq!(feed.take_next(&["```", "```json"]), None);
        feed.push("json```{");
        assert_eq!(feed.take_next(&["```", "```json"]), Some(Some(1)));
        assert_eq!(feed.take_next(&["```", "```json"]), Some(Some(0)));
    }
}
