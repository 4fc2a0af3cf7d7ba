//! What stands before a marker inside of a call: the name of a tool, a key, an id.

use super::feed::Feed;

/// Bytes of the longest name. A head that has no end shall not take the rest of the answer with it.
const LONGEST: usize = 256;

/// Why a call is malformed that names no tool. What stands there instead is given back, not repeated here.
pub(super) const NO_NAME: &str = "a call does not begin with the name of a tool";
/// Why a call is malformed whose key or id goes on and on.
pub(super) const TOO_LONG: &str = "a key or an id in a call has no end";

/// Text before a marker, as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Head(String);

/// How far a head has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// More has to come.
    Open,
    /// It is whole, and this one of the markers behind it is read.
    Whole(usize),
    /// It is too long, or cannot become what it should be.
    Bad,
}

impl Head {
    /// Reads up to the first of `markers` and the marker itself.
    pub(super) fn read(&mut self, feed: &mut Feed, markers: &[&str]) -> Found {
        if self.0.is_empty() && feed.skip_space().is_none() {
            return Found::Open;
        }
        let (text, which) = feed.before(markers);
        self.0.push_str(&text);
        match which {
            _ if self.0.len() > LONGEST => Found::Bad,
            None => Found::Open,
            Some(which) => Found::Whole(which),
        }
    }

    /// Reads a name: what cannot become one is bad at once.
    pub(super) fn read_name(&mut self, feed: &mut Feed, markers: &[&str]) -> Found {
        match self.read(feed, markers) {
            Found::Open if self.0.is_empty() => Found::Open,
            Found::Open | Found::Whole(_) if !is_name(self.text()) => Found::Bad,
            found => found,
        }
    }

    /// What has come, without the white space around it.
    pub(super) fn text(&self) -> &str {
        self.0.trim()
    }
}

/// Whether a text can be the name of a tool.
pub(super) fn is_name(text: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '{' | '}' | '"');
    !text.is_empty() && text.len() <= LONGEST && !text.contains(odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(pieces: &[&str]) -> (Found, String) {
        let (mut feed, mut head) = (Feed::default(), Head::default());
        let mut found = Found::Open;
        for piece in pieces {
            feed.push(piece);
            found = head.read_name(&mut feed, &[">", "</x>"]);
            if found != Found::Open {
                break;
            }
        }
        (found, head.text().to_owned())
    }

    #[test]
    fn a_name_may_have_space_around_it_wherever_it_is_cut() {
        for pieces in [vec!["\n now >"], vec!["\n ", "now ", " ", ">"], vec![" n", "ow", " >"]] {
            assert_eq!(name(&pieces), (Found::Whole(0), "now".to_owned()), "{pieces:?}");
        }
        assert_eq!(name(&["now </", "x>"]), (Found::Whole(1), "now".to_owned()));
    }

    #[test]
    fn what_cannot_become_a_name_is_bad_at_once() {
        assert_eq!(name(&["two words"]).0, Found::Bad);
        assert_eq!(name(&["two ", "words"]).0, Found::Bad);
        assert_eq!(name(&[" ", ">"]).0, Found::Bad);
        assert_eq!(name(&["two"]).0, Found::Open);
    }

    #[test]
    fn a_head_has_a_bound_whether_its_marker_has_come_or_not() {
        let long = "x".repeat(LONGEST);
        let read = |text: &str| {
            let mut feed = Feed::default();
            feed.push(text);
            Head::default().read(&mut feed, &[">"])
        };
        assert_eq!((read(&long), read(&format!("{long}>"))), (Found::Open, Found::Whole(0)));
        assert_eq!((read(&format!("{long}x")), read(&format!("{long}x>"))), (Found::Bad, Found::Bad));
    }
}
