//! Tokens to text while they come: never half a character, never a character twice.

use super::pieces::{Decoding, Kind, Start};
use super::tokenizer::{TextError, Tokenizer};
use std::sync::Arc;

/// Turns the tokens of one sequence into text as they come.
///
/// The pieces from [`push`](Self::push) and [`finish`](Self::finish), joined, are what [`Tokenizer::decode`] gives for
/// all ids at once. The cost of a token is that of its own bytes. For tokenizers whose decoder is no concatenation
/// (WordPiece) all text comes with `finish`.
#[derive(Debug)]
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    stream: TextStream,
}

impl Detokenizer {
    /// Begins after a prompt that ends with `prompt_tail` (empty: at the start of a text).
    ///
    /// The tail decides whether the answer starts a text, where sentencepiece drops a space, and holds the first bytes
    /// of a character that the answer may complete; eight tokens are enough. Its own text is not repeated.
    pub fn new(tokenizer: Arc<Tokenizer>, skip_special_tokens: bool, prompt_tail: &[u32]) -> Self {
        let mut stream = TextStream::new(&tokenizer, skip_special_tokens);
        stream.begin_after(&tokenizer, prompt_tail);
        Self { tokenizer, stream }
    }

    /// Gives these tokens their text although they are special: markers that somebody behind this looks for.
    pub fn keeping(mut self, ids: Arc<[u32]>) -> Self {
        self.stream.kept = ids;
        self
    }

    /// Takes the next tokens and returns the text they complete, often none or more than one token's.
    ///
    /// # Errors
    /// None at present; a decoder that is no concatenation reports its errors from [`finish`](Self::finish).
    pub fn push(&mut self, ids: &[u32]) -> Result<String, TextError> {
        Ok(self.stream.push(&self.tokenizer, ids))
    }

    /// Ends the text: returns what was held back, U+FFFD for a character that never became whole.
    ///
    /// # Errors
    /// [`TextError::Failed`] as for [`Tokenizer::decode`].
    pub fn finish(&mut self) -> Result<String, TextError> {
        self.stream.finish(&self.tokenizer)
    }
}

/// The state of a text between two tokens.
#[derive(Debug)]
pub(super) struct TextStream {
    skip_special_tokens: bool,
    /// Special tokens that are not skipped.
    kept: Arc<[u32]>,
    /// What still applies to the start of the text.
    start: Start,
    utf8: Utf8Stream,
    /// All ids, for decoders that need them at once, and how many of them are the prompt's.
    whole: Option<(Vec<u32>, usize)>,
}

impl TextStream {
    pub(super) fn new(tokenizer: &Tokenizer, skip_special_tokens: bool) -> Self {
        let (start, byte_by_byte, whole) = match tokenizer.decoding() {
            Decoding::ByteLevel => (Start::Keep, false, None),
            Decoding::Replaced(replaced) => (replaced.start, replaced.byte_fallback, None),
            Decoding::Whole => (Start::Keep, false, Some((Vec::new(), 0))),
        };
        Self {
            skip_special_tokens,
            kept: Arc::new([]),
            start,
            utf8: Utf8Stream { pending: Vec::new(), byte_by_byte },
            whole,
        }
    }

    fn begin_after(&mut self, tokenizer: &Tokenizer, prompt_tail: &[u32]) {
        // Only its effect on the state is wanted.
        let _text = self.push(tokenizer, prompt_tail);
        if let Some((ids, prompt)) = &mut self.whole {
            *prompt = ids.len();
        }
    }

    pub(super) fn push(&mut self, tokenizer: &Tokenizer, ids: &[u32]) -> String {
        if let Some((whole, _)) = &mut self.whole {
            whole.extend_from_slice(ids);
            return String::new();
        }
        let pieces = tokenizer.pieces();
        let mut text = String::new();
        for &id in ids {
            match pieces.kind(id) {
                Kind::Missing => continue,
                Kind::Special if self.skip_special_tokens && !self.kept.contains(&id) => continue,
                Kind::Special | Kind::Plain => {}
            }
            if let Start::DropFromFirst(dropped) = self.start {
                self.start = Start::Keep;
                let name = tokenizer.id_to_token(id).unwrap_or_default().replace(dropped, "");
                self.utf8.push(&tokenizer.decoding().bytes(&name), &mut text);
            } else {
                self.utf8.push(pieces.get(id).unwrap_or_default(), &mut text);
            }
        }
        self.strip(text)
    }

    pub(super) fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String, TextError> {
        if let Some((ids, prompt)) = &mut self.whole {
            let all = tokenizer.decode_whole(ids, self.skip_special_tokens)?;
            let before = tokenizer.decode_whole(&ids[..*prompt], self.skip_special_tokens)?;
            (*prompt, *ids) = (0, Vec::new());
            return Ok(all.strip_prefix(&before).map(str::to_owned).unwrap_or(all));
        }
        let mut text = String::new();
        self.utf8.finish(&mut text);
        Ok(self.strip(text))
    }

    /// Drops the characters that a text may not start with.
    fn strip(&mut self, text: String) -> String {
        let Start::Strip { content, mut max } = self.start else { return text };
        let mut rest = text.as_str();
        while max > 0 && !rest.is_empty() {
            match rest.strip_prefix(content) {
                Some(shorter) => (rest, max) = (shorter, max - 1),
                None => max = 0,
            }
        }
        self.start = if max == 0 { Start::Keep } else { Start::Strip { content, max } };
        rest.to_owned()
    }
}

/// Bytes to characters; holds back the bytes of a character that is not whole yet (three at most).
#[derive(Debug)]
struct Utf8Stream {
    pending: Vec<u8>,
    /// Whether each byte of a broken character gets its own U+FFFD (byte tokens) or all of them one (byte-level).
    byte_by_byte: bool,
}

impl Utf8Stream {
    fn push(&mut self, bytes: &[u8], text: &mut String) {
        self.pending.extend_from_slice(bytes);
        let mut done = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            let broken = chunk.invalid();
            let at_end = done + broken.len() == self.pending.len();
            // An error without a length is a character that may still become whole.
            if broken.is_empty() || at_end && str::from_utf8(broken).is_err_and(|error| error.error_len().is_none()) {
                break;
            }
            done += broken.len();
            replace(broken, self.byte_by_byte, text);
        }
        self.pending.drain(..done);
    }

    fn finish(&mut self, text: &mut String) {
        replace(&self.pending, self.byte_by_byte, text);
        self.pending.clear();
    }
}

fn replace(broken: &[u8], byte_by_byte: bool, text: &mut String) {
    let count = if byte_by_byte { broken.len() } else { broken.len().min(1) };
    text.extend(std::iter::repeat_n(char::REPLACEMENT_CHARACTER, count));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn joined(bytes: &[u8], cuts: &[usize]) -> String {
        let mut stream = Utf8Stream { pending: Vec::new(), byte_by_byte: false };
        let (mut text, mut from) = (String::new(), 0);
        for &cut in cuts.iter().filter(|&&cut| cut <= bytes.len()) {
            if cut >= from {
                stream.push(&bytes[from..cut], &mut text);
                from = cut;
            }
        }
        stream.push(&bytes[from..], &mut text);
        stream.finish(&mut text);
        text
    }

    proptest! {
        #[test]
        fn bytes_in_any_cuts_give_the_text_of_the_whole(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0xE2), Just(0x82), Just(0xAC), Just(0xF0)], 0..24),
            mut cuts in prop::collection::vec(0_usize..24, 0..6),
        ) {
            cuts.sort_unstable();
            prop_assert_eq!(joined(&bytes, &cuts), String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn half_a_character_is_held_back() {
        let mut stream = Utf8Stream { pending: Vec::new(), byte_by_byte: false };
        let mut text = String::new();
        stream.push(&"€".as_bytes()[..2], &mut text);
        assert_eq!(text, "");
        stream.push(&"€".as_bytes()[2..], &mut text);
        assert_eq!(text, "€");
    }

    #[test]
    fn a_broken_byte_token_is_one_replacement_each() {
        let mut stream = Utf8Stream { pending: Vec::new(), byte_by_byte: true };
        let mut text = String::new();
        stream.push(&[0xE2, 0x82, b'a'], &mut text);
        assert_eq!(text, "\u{FFFD}\u{FFFD}a");
    }
}
