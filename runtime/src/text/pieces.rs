//! What each token adds to the text, as raw bytes.
//!
//! The decoders of generating models (byte-level alphabets, metaspace with byte fallback) are concatenations: every
//! token stands for fixed bytes, and only the start of the text is special. Read out once at load, this makes
//! decoding, streaming and the `bytes` of log probabilities one table lookup per token.

use serde::Deserialize;
use serde_json::Value;

/// How the bytes of a token follow from its name in the vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Decoding {
    /// Each character stands for one byte. Source: GPT-2's `bytes_to_unicode`.
    ByteLevel,
    /// Names are text in which some strings stand for others (`▁` for a space).
    Replaced(Replaced),
    /// The tokenizer's decoder is not a concatenation (WordPiece, CTC): it needs all tokens at once.
    Whole,
}

/// A decoder made of replacements, byte tokens and a start rule.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Replaced {
    /// Replacements in order: string, its stand-in.
    replace: Vec<(String, String)>,
    /// Whether names like `<0x0A>` are single bytes.
    pub(super) byte_fallback: bool,
    /// What happens at the start of the text.
    pub(super) start: Start,
}

/// The rule for the start of a text, where sentencepiece adds a space when it encodes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) enum Start {
    /// None.
    #[default]
    Keep,
    /// Up to `max` leading characters equal to `content` are dropped.
    Strip {
        /// The character.
        content: char,
        /// How many at most.
        max: usize,
    },
    /// The first token loses this character wherever it stands.
    DropFromFirst(char),
}

/// The part of `tokenizer.json` that this module reads.
#[derive(Deserialize)]
struct Head {
    decoder: Option<Value>,
}

/// One stage of the decoder in `tokenizer.json`.
#[derive(Deserialize)]
#[serde(tag = "type")]
enum Stage {
    ByteLevel,
    Metaspace { replacement: char, prepend_scheme: Option<String>, add_prefix_space: Option<bool> },
    Replace { pattern: Pattern, content: String },
    ByteFallback,
    Fuse,
    Strip { content: char, start: usize, stop: usize },
    Sequence { decoders: Vec<Value> },
}

/// What a replacement looks for.
#[derive(Deserialize)]
enum Pattern {
    String(String),
}

impl Decoding {
    /// Reads the decoder of a `tokenizer.json`; whatever is not known to be a concatenation is [`Decoding::Whole`].
    pub(super) fn from_tokenizer_json(json: &[u8]) -> Self {
        let decoder = serde_json::from_slice::<Head>(json).ok().and_then(|head| head.decoder);
        decoder.and_then(stages).and_then(|stages| Self::from_stages(&stages)).unwrap_or(Self::Whole)
    }

    fn from_stages(stages: &[Stage]) -> Option<Self> {
        if let [Stage::ByteLevel] = stages {
            return Some(Self::ByteLevel);
        }
        let (mut replaced, mut fused) = (Replaced::default(), false);
        for stage in stages {
            match stage {
                Stage::Replace { pattern: Pattern::String(from), content } if !replaced.byte_fallback && !fused => {
                    replaced.replace.push((from.clone(), content.clone()));
                }
                Stage::ByteFallback if !fused => replaced.byte_fallback = true,
                Stage::Fuse => fused = true,
                // Before fusing, every token would be stripped, not the text.
                Stage::Strip { content, start, stop: 0 } if fused && replaced.start == Start::Keep => {
                    replaced.start = Start::Strip { content: *content, max: *start };
                }
                Stage::Metaspace { replacement, prepend_scheme, add_prefix_space } if stages.len() == 1 => {
                    replaced.replace.push((replacement.to_string(), " ".into()));
                    let never = prepend_scheme.as_deref() == Some("never") || *add_prefix_space == Some(false);
                    replaced.start = if never { Start::Keep } else { Start::DropFromFirst(*replacement) };
                }
                Stage::ByteLevel
                | Stage::Metaspace { .. }
                | Stage::Replace { .. }
                | Stage::ByteFallback
                | Stage::Strip { .. }
                | Stage::Sequence { .. } => return None,
            }
        }
        Some(Self::Replaced(replaced))
    }

    /// The bytes that a token adds to the text (away from its start).
    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel => {
                // A name with any character outside the alphabet (an added token) is plain text.
                name.chars().map(alphabet_byte).collect::<Option<Vec<u8>>>().unwrap_or_else(|| name.as_bytes().to_vec())
            }
            Self::Replaced(replaced) => replaced.bytes(name),
            Self::Whole => name.as_bytes().to_vec(),
        }
    }
}

impl Replaced {
    fn bytes(&self, name: &str) -> Vec<u8> {
        let mut text = name.to_owned();
        for (from, to) in &self.replace {
            text = text.replace(from, to);
        }
        match byte_token(&text) {
            Some(byte) if self.byte_fallback => vec![byte],
            _ => text.into_bytes(),
        }
    }
}

/// The stages of a decoder, sequences unfolded; none if one of them is unknown.
fn stages(decoder: Value) -> Option<Vec<Stage>> {
    match serde_json::from_value(decoder).ok()? {
        Stage::Sequence { decoders } => {
            let nested = decoders.into_iter().map(stages).collect::<Option<Vec<_>>>()?;
            Some(nested.into_iter().flatten().collect())
        }
        stage => Some(vec![stage]),
    }
}

/// `<0x0A>` is the byte 10.
fn byte_token(name: &str) -> Option<u8> {
    let hex = name.strip_prefix("<0x")?.strip_suffix('>')?;
    if hex.len() == 2 { u8::from_str_radix(hex, 16).ok() } else { None }
}

/// The byte that a character of the byte-level alphabet stands for: printable Latin-1 characters stand for
/// themselves, the other 68 bytes for the characters from U+0100 on, in order.
fn alphabet_byte(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => u8::try_from(code).ok(),
        code @ 0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        code @ 0x121..=0x142 => u8::try_from(code - 0x121 + 0x7F).ok(),
        0x143 => Some(0xAD),
        _ => None,
    }
}

/// The character of a byte: what [`alphabet_byte`] turns back.
pub(super) fn alphabet_char(byte: u8) -> char {
    let code = u32::from(byte);
    let code = match byte {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0..=0x20 => 0x100 + code,
        0x7F..=0xA0 => 0x121 + code - 0x7F,
        0xAD => 0x143,
    };
    char::from_u32(code).expect("no code of the alphabet is a surrogate")
}

/// The bytes of every token, one after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Pieces {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    kinds: Vec<Kind>,
}

/// What an id is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// No token has this id.
    Missing,
    /// A token of the text.
    Plain,
    /// A control token, which clients do not want to read.
    Special,
}

impl Pieces {
    /// Appends the token with the next id.
    pub(super) fn push(&mut self, bytes: &[u8], kind: Kind) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        self.kinds.push(kind);
    }

    /// How many ids there are, missing ones included.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of a token; none if no token has this id.
    pub(super) fn get(&self, id: u32) -> Option<&[u8]> {
        if self.kind(id) == Kind::Missing {
            return None;
        }
        let index = id as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        self.bytes.get(start..self.ends[index] as usize)
    }

    /// What the id is.
    pub(super) fn kind(&self, id: u32) -> Kind {
        self.kinds.get(id as usize).copied().unwrap_or(Kind::Missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn decoding(decoder: Value) -> Decoding {
        Decoding::from_tokenizer_json(json!({"model": {}, "decoder": decoder}).to_string().as_bytes())
    }

    #[test]
    fn the_byte_alphabet_names_every_byte_once() {
        let mut bytes: Vec<u8> = (0..=0x143).filter_map(char::from_u32).filter_map(alphabet_byte).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert!((0..=255).all(|byte| alphabet_byte(alphabet_char(byte)) == Some(byte)));
        assert_eq!((alphabet_byte('Ġ'), alphabet_byte('Ċ'), alphabet_byte(' ')), (Some(b' '), Some(b'\n'), None));
    }

    #[test]
    fn a_llama_2_decoder_is_replacement_bytes_and_one_stripped_space() {
        let found = decoding(json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}));
        let Decoding::Replaced(replaced) = &found else { panic!("{found:?}") };
        assert_eq!(replaced.start, Start::Strip { content: ' ', max: 1 });
        assert_eq!(found.bytes("▁the"), b" the");
        assert_eq!(found.bytes("<0xE2>"), [0xE2]);
        assert_eq!(found.bytes("<0xZZ>"), b"<0xZZ>");
    }

    #[test]
    fn decoders_that_are_no_concatenation_are_decoded_as_a_whole() {
        let wordpiece = json!({"type": "WordPiece", "prefix": "##", "cleanup": true});
        let regex = json!({"type": "Replace", "pattern": {"Regex": "x+"}, "content": ""});
        let strip_each = json!({"type": "Sequence", "decoders": [
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}, {"type": "Fuse"}]});
        for decoder in [wordpiece, regex, strip_each, Value::Null] {
            assert_eq!(decoding(decoder), Decoding::Whole);
        }
    }

    #[test]
    fn an_added_token_outside_the_alphabet_is_plain_text() {
        assert_eq!(Decoding::ByteLevel.bytes("<｜end▁of｜>"), "<｜end▁of｜>".as_bytes());
        assert_eq!(Decoding::ByteLevel.bytes("Ġthe"), b" the");
    }
}
