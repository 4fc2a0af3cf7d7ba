use lmx_runtime::sampling::TokenLogprobs;
use serde::Serialize;
use serde_json::{Map, Value};

/// Stands for minus infinity, which JSON cannot say.
const LOWEST: f32 = -9999.0;

/// The text of single tokens: what a tokenizer knows and this module does not.
pub trait TokenText {
    /// The bytes that a token stands for; they may be a part of a character.
    fn bytes(&self, token: u32) -> Vec<u8>;
}

impl<F: Fn(u32) -> Vec<u8>> TokenText for F {
    fn bytes(&self, token: u32) -> Vec<u8> {
        self(token)
    }
}

/// Log probabilities of an answer, or of one of its chunks.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ChatLogprobs {
    /// One entry per token.
    pub content: Vec<ChatTokenLogprob>,
    /// Always null: refusals are not told apart.
    pub refusal: Option<()>,
}

/// Log probability of a token and its alternatives.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChatTokenLogprob {
    /// The token itself.
    #[serde(flatten)]
    pub chosen: TopLogprob,
    /// The most probable tokens in falling order.
    pub top_logprobs: Vec<TopLogprob>,
}

/// A token with its log probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TopLogprob {
    /// Its text, with replacement characters where it is a part of one.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// Its exact bytes.
    pub bytes: Vec<u8>,
}

impl TopLogprob {
    fn new(token: u32, logprob: f32, text: &impl TokenText) -> Self {
        let bytes = text.bytes(token);
        Self { token: String::from_utf8_lossy(&bytes).into_owned(), logprob: logprob.max(LOWEST), bytes }
    }
}

impl ChatTokenLogprob {
    /// Puts text to what the sampler reports.
    pub fn new(reported: &TokenLogprobs, text: &impl TokenText) -> Self {
        Self {
            chosen: TopLogprob::new(reported.id, reported.logprob, text),
            top_logprobs: reported.top.iter().map(|&(id, logprob)| TopLogprob::new(id, logprob, text)).collect(),
        }
    }
}

/// Log probabilities in the form of `/v1/completions`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CompletionLogprobs {
    /// Text of each token.
    pub tokens: Vec<String>,
    /// Its log probability; null for the first token of an echoed prompt.
    pub token_logprobs: Vec<Option<f32>>,
    /// Alternatives by text; null where `token_logprobs` is.
    pub top_logprobs: Vec<Option<Map<String, Value>>>,
    /// Where each token begins in the text, in characters.
    pub text_offset: Vec<usize>,
    /// Where the next token begins.
    #[serde(skip)]
    next_offset: usize,
}

impl CompletionLogprobs {
    /// Begins at a place in the text, in characters: 0, or for a chunk where the last one ended.
    pub fn at(text_offset: usize) -> Self {
        Self { next_offset: text_offset, ..Self::default() }
    }

    /// Adds a token that nothing precedes, so that it has no probability.
    pub fn push_first(&mut self, token: u32, text: &impl TokenText) {
        self.push_text(token, text);
        self.token_logprobs.push(None);
        self.top_logprobs.push(None);
    }

    /// Adds a token. The token itself is listed among its alternatives even where it is none of the most probable.
    pub fn push(&mut self, reported: &TokenLogprobs, text: &impl TokenText) {
        self.push_text(reported.id, text);
        let logprob = reported.logprob.max(LOWEST);
        self.token_logprobs.push(Some(logprob));
        let top = reported.top.iter().map(|&(id, logprob)| TopLogprob::new(id, logprob, text));
        let own = TopLogprob::new(reported.id, logprob, text);
        self.top_logprobs.push(Some(top.chain([own]).map(|top| (top.token, top.logprob.into())).collect()));
    }

    /// Adds the tokens of the chunk that follows.
    pub fn append(&mut self, more: Self) {
        self.tokens.extend(more.tokens);
        self.token_logprobs.extend(more.token_logprobs);
        self.top_logprobs.extend(more.top_logprobs);
        self.text_offset.extend(more.text_offset);
        self.next_offset = more.next_offset;
    }

    /// Where the next token begins, in characters.
    pub fn next_offset(&self) -> usize {
        self.next_offset
    }

    fn push_text(&mut self, token: u32, text: &impl TokenText) {
        let token = String::from_utf8_lossy(&text.bytes(token)).into_owned();
        self.text_offset.push(self.next_offset);
        self.next_offset += token.chars().count();
        self.tokens.push(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(token: u32) -> Vec<u8> {
        match token {
            0 => b"Hi".to_vec(),
            1 => "ü".as_bytes().to_vec(),
            _ => vec![0xe2, 0x82],
        }
    }

    #[test]
    fn chat_log_probabilities_hold_text_bytes_and_alternatives() {
        let reported = TokenLogprobs { id: 1, logprob: -0.5, top: vec![(1, -0.5), (2, f32::NEG_INFINITY)] };

        let json = serde_json::to_string(&ChatTokenLogprob::new(&reported, &text)).unwrap();

        insta::assert_snapshot!(json, @r#"{"token":"ü","logprob":-0.5,"bytes":[195,188],"top_logprobs":[{"token":"ü","logprob":-0.5,"bytes":[195,188]},{"token":"�","logprob":-9999.0,"bytes":[226,130]}]}"#);
    }

    #[test]
    fn completion_log_probabilities_hold_offsets_in_characters() {
        let mut logprobs = CompletionLogprobs::at(3);
        logprobs.push_first(1, &text);
        logprobs.push(&TokenLogprobs { id: 0, logprob: -1.5, top: vec![(1, -0.5)] }, &text);

        assert_eq!(logprobs.next_offset(), 6);
        insta::assert_snapshot!(serde_json::to_string(&logprobs).unwrap(), @r#"{"tokens":["ü","Hi"],"token_logprobs":[null,-1.5],"top_logprobs":[null,{"ü":-0.5,"Hi":-1.5}],"text_offset":[3,4]}"#);
    }
}
