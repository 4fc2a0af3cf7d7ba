//! Text to tokens and back, as the model's `tokenizer.json` says.

use super::detokenize::TextStream;
use super::pieces::{Decoding, Kind, Pieces};
use super::special::SpecialTokens;
use super::tiktoken;
use serde_json::{Map, Value, json};
use tokenizers::utils::truncation::truncate_encodings;
use tokenizers::{AddedToken, PostProcessor, TruncationDirection, TruncationParams, TruncationStrategy};

/// Why text could not be turned into tokens, or tokens into text.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The file is damaged or of an unknown kind: fetch it again.
    #[error("invalid `{file}`: {reason}")]
    Invalid {
        /// `tokenizer.json`, `tokenizer_config.json` or `tiktoken.model`.
        file: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// The tokenizer refused this input.
    #[error("the tokenizer failed: {0}")]
    Failed(String),
}

/// A model's tokenizer.
///
/// Never truncates and never pads, whatever `tokenizer.json` says: both are decisions of the caller.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    decoding: Decoding,
    pieces: Pieces,
    special: SpecialTokens,
    edges: Edges,
}

/// Tokens of one text or two, with those around them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Their ids.
    pub ids: Vec<u32>,
    /// How many of them belong to the first segment; all, for models that do not tell segments apart.
    pub first_segment: usize,
    /// How many there would be if nothing were cut.
    pub uncut: usize,
}

/// What `add_bos_token` and `add_eos_token` change about the tokens that `tokenizer.json` adds itself.
#[derive(Debug, Default)]
struct Edges {
    front: Edge,
    back: Edge,
}

#[derive(Debug, Default, PartialEq)]
enum Edge {
    #[default]
    AsIs,
    Add(u32),
    Remove,
}

impl Tokenizer {
    /// Reads `tokenizer.json` and, where the model has one, `tokenizer_config.json`.
    ///
    /// Of the configuration it honours the special tokens, `added_tokens_decoder` (tokens that `tokenizer.json` lacks)
    /// and explicit `add_bos_token` and `add_eos_token`. `clean_up_tokenization_spaces` is not honoured: it would
    /// change text that is already sent.
    ///
    /// # Errors
    /// [`TextError::Invalid`] if one of the files cannot be read as what it should be.
    pub fn from_bytes(tokenizer_json: &[u8], tokenizer_config_json: Option<&[u8]>) -> Result<Self, TextError> {
        let bad_tokenizer =
            |error: tokenizers::Error| TextError::Invalid { file: "tokenizer.json", reason: error.to_string() };
        let mut inner = tokenizers::Tokenizer::from_bytes(tokenizer_json).map_err(bad_tokenizer)?;
        inner.with_truncation(None).map_err(bad_tokenizer)?;
        inner.with_padding(None);
        Self::assemble(inner, Decoding::from_tokenizer_json(tokenizer_json), &parse_config(tokenizer_config_json)?)
    }

    /// Reads `tiktoken.model`, which some models have in place of a `tokenizer.json`, and `tokenizer_config.json`, which
    /// holds their special tokens. Texts are divided into pieces as Kimi divides them.
    ///
    /// # Errors
    /// [`TextError::Invalid`] if one of the files cannot be read as what it should be.
    pub fn from_tiktoken(model: &[u8], tokenizer_config_json: Option<&[u8]>) -> Result<Self, TextError> {
        let mut config = parse_config(tokenizer_config_json)?;
        let inner = tiktoken::read(model)?;
        name_reserved_tokens(&mut config, inner.get_vocab_size(false));
        Self::assemble(inner, Decoding::ByteLevel, &config)
    }

    fn assemble(
        mut inner: tokenizers::Tokenizer,
        decoding: Decoding,
        config: &Map<String, Value>,
    ) -> Result<Self, TextError> {
        add_missing_tokens(&mut inner, config)?;
        let special = SpecialTokens::from_config(config, |text| inner.token_to_id(text));
        let pieces = read_pieces(&inner, &decoding);
        let mut tokenizer = Self { inner, decoding, pieces, special, edges: Edges::default() };
        tokenizer.edges = tokenizer.edges(config)?;
        Ok(tokenizer)
    }

    /// Turns text into tokens; with `add_special_tokens` also those that the model expects around any text. The names
    /// of special tokens inside `text` become these tokens in both cases.
    ///
    /// # Errors
    /// [`TextError::Failed`] if the tokenizer cannot represent the text.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TextError> {
        // The fast way: no offsets into the text.
        let encoding = self.inner.encode_fast(text, add_special_tokens).map_err(failed)?;
        let ids = encoding.get_ids();
        Ok(if add_special_tokens { self.with_edges(ids) } else { ids.to_vec() })
    }

    /// Turns a text, or two that are read together, into tokens with those that the model expects around them, at most
    /// `limit`. Of what is too long the end goes, or the beginning; of two texts first the longer one's.
    ///
    /// # Errors
    /// [`TextError::Failed`] if the tokenizer cannot represent the text.
    pub fn encode_within(
        &self,
        text: &str,
        second: Option<&str>,
        limit: usize,
        from_left: bool,
    ) -> Result<Joined, TextError> {
        let encode = |text: &str| self.inner.encode_fast(text, false).map_err(failed);
        let (first, second) = (encode(text)?, second.map(encode).transpose()?);
        let processor = self.inner.get_post_processor();
        let mut around = processor.map_or(0, |of| of.added_tokens(second.is_some()));
        if second.is_none() {
            let count = |edge: &Edge| usize::from(matches!(edge, Edge::Add(_)));
            let less = |edge: &Edge| usize::from(*edge == Edge::Remove);
            around = (around + count(&self.edges.front) + count(&self.edges.back))
                .saturating_sub(less(&self.edges.front) + less(&self.edges.back));
        }
        let uncut = first.len() + second.as_ref().map_or(0, |second| second.len()) + around;
        let cut = TruncationParams {
            max_length: limit.saturating_sub(around),
            direction: if from_left { TruncationDirection::Left } else { TruncationDirection::Right },
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
        };
        let (first, second) =
            truncate_encodings(first, second, &cut).map_err(|error| TextError::Failed(error.to_string()))?;
        let pair = second.is_some();
        let joined = self.inner.post_process(first, second, true).map_err(failed)?;
        let own = joined.get_type_ids();
        let mut first_segment = own.iter().position(|&kind| kind == 1).unwrap_or(own.len());
        let mut ids = joined.get_ids().to_vec();
        if !pair {
            ids = self.with_edges(&ids);
            first_segment = ids.len();
        }
        Ok(Joined { ids, first_segment, uncut })
    }

    /// Tokens that the tokenizer gave, with those at the ends that the configuration wants.
    fn with_edges(&self, ids: &[u32]) -> Vec<u32> {
        let first = usize::from(self.edges.front == Edge::Remove).min(ids.len());
        let last = ids.len().saturating_sub(usize::from(self.edges.back == Edge::Remove)).max(first);
        let mut out = Vec::with_capacity(ids.len() + 2);
        if let Edge::Add(bos) = self.edges.front {
            out.push(bos);
        }
        out.extend_from_slice(&ids[first..last]);
        if let Edge::Add(eos) = self.edges.back {
            out.push(eos);
        }
        out
    }

    /// Turns tokens into text. Ids that no token has are left out, bytes that are no UTF-8 become U+FFFD.
    ///
    /// Gives exactly what a [`super::Detokenizer`] gives piece by piece. Where byte tokens (`<0xE2>`) do not make up
    /// whole characters, only the bytes that do not are replaced, as in sentencepiece.
    ///
    /// # Errors
    /// [`TextError::Failed`] if the tokenizer's own decoder fails (only decoders that are no concatenation can).
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, TextError> {
        let mut stream = TextStream::new(self, skip_special_tokens);
        let mut text = stream.push(self, ids);
        text.push_str(&stream.finish(self)?);
        Ok(text)
    }

    /// The id of a token by its name in the vocabulary (`Ġthe`, not ` the`).
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The name of a token in the vocabulary.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The bytes that a token adds to a text: often a part of a character.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        self.pieces.get(id).map(<[u8]>::to_vec)
    }

    /// Whether the token is a control token, which `skip_special_tokens` leaves out.
    pub fn is_special(&self, id: u32) -> bool {
        self.pieces.kind(id) == Kind::Special
    }

    /// The largest id plus one, added tokens included. The model's logits may be wider.
    pub fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// The reserved tokens that `tokenizer_config.json` names.
    pub fn special(&self) -> &SpecialTokens {
        &self.special
    }

    pub(super) fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    pub(super) fn decoding(&self) -> &Decoding {
        &self.decoding
    }

    /// The tokenizer's own decoder, for those that are no concatenation.
    pub(super) fn decode_whole(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, TextError> {
        self.inner.decode(ids, skip_special_tokens).map_err(failed)
    }

    /// Compares what `tokenizer.json` adds around an empty text with what the configuration asks for explicitly.
    /// Source: transformers 5, `TokenizersBackend.update_post_processor`.
    fn edges(&self, config: &Map<String, Value>) -> Result<Edges, TextError> {
        let own = self.inner.encode_fast("", true).map_err(failed)?;
        let own = own.get_ids();
        let wanted = |key: &str| config.get(key).and_then(Value::as_bool);
        let edge = |wanted: Option<bool>, id: Option<u32>, present: bool| match (wanted, id) {
            (Some(true), Some(id)) if !present => Edge::Add(id),
            (Some(false), Some(_)) if present => Edge::Remove,
            _ => Edge::AsIs,
        };
        let (bos, eos) = (
            self.special.bos.as_ref().and_then(|token| token.id),
            self.special.eos.as_ref().and_then(|token| token.id),
        );
        Ok(Edges {
            front: edge(wanted("add_bos_token"), bos, bos.is_some() && own.first().copied() == bos),
            back: edge(wanted("add_eos_token"), eos, eos.is_some() && own.last().copied() == eos),
        })
    }
}

fn failed(error: tokenizers::Error) -> TextError {
    TextError::Failed(error.to_string())
}

fn parse_config(json: Option<&[u8]>) -> Result<Map<String, Value>, TextError> {
    let Some(json) = json else { return Ok(Map::new()) };
    serde_json::from_slice(json)
        .map_err(|error| TextError::Invalid { file: "tokenizer_config.json", reason: error.to_string() })
}

/// Gives the ids between those that `added_tokens_decoder` lists behind the vocabulary the names of reserved tokens.
fn name_reserved_tokens(config: &mut Map<String, Value>, vocab: usize) {
    /// As many as any vocabulary has; what is listed beyond is refused when it does not get its id.
    const MAX_RESERVED: usize = 4096;
    let Some(Value::Object(listed)) = config.get_mut("added_tokens_decoder") else { return };
    let last = listed.keys().filter_map(|id| id.parse::<usize>().ok()).max().unwrap_or(0);
    for id in (vocab..last.min(vocab + MAX_RESERVED)).filter_map(|id| u32::try_from(id).ok()) {
        let reserved = || json!({"content": tiktoken::reserved_token(id), "special": true});
        listed.entry(id.to_string()).or_insert_with(reserved);
    }
}

/// Adds the tokens of `added_tokens_decoder` that `tokenizer.json` does not have, in the order of their ids.
fn add_missing_tokens(inner: &mut tokenizers::Tokenizer, config: &Map<String, Value>) -> Result<(), TextError> {
    let invalid = |reason: String| TextError::Invalid { file: "tokenizer_config.json", reason };
    let Some(Value::Object(listed)) = config.get("added_tokens_decoder") else { return Ok(()) };
    let mut missing = Vec::new();
    for (key, value) in listed {
        let id: u32 = key.parse().map_err(|_| invalid(format!("`added_tokens_decoder` has the id `{key}`")))?;
        let content = super::special::token_text(value)
            .ok_or_else(|| invalid(format!("`added_tokens_decoder` has no content for the id {id}")))?;
        if inner.token_to_id(content).is_none() {
            let flag = |name: &str| value.get(name).and_then(Value::as_bool).unwrap_or(false);
            let token = AddedToken::from(content, flag("special"))
                .single_word(flag("single_word"))
                .lstrip(flag("lstrip"))
                .rstrip(flag("rstrip"))
                .normalized(flag("normalized"));
            missing.push((id, token));
        }
    }
    missing.sort_by_key(|(id, _)| *id);
    for (id, token) in missing {
        let content = token.content.clone();
        let added = if token.special { inner.add_special_tokens([token]) } else { inner.add_tokens([token]) };
        added.map_err(|error| invalid(error.to_string()))?;
        // A token under another id than the model was trained with would be worse than none.
        if inner.token_to_id(&content) != Some(id) {
            return Err(invalid(format!("the added token `{content}` does not get its id {id}")));
        }
    }
    Ok(())
}

fn read_pieces(inner: &tokenizers::Tokenizer, decoding: &Decoding) -> Pieces {
    let added = inner.get_added_tokens_decoder();
    let len = inner.get_vocab(true).into_values().max().map_or(0, |id| id.saturating_add(1));
    let mut pieces = Pieces::default();
    for id in 0..len {
        let special = added.get(&id).is_some_and(|token| token.special);
        match inner.id_to_token(id) {
            Some(name) => {
                pieces.push(&decoding.bytes(&name), if special { Kind::Special } else { Kind::Plain });
            }
            None => pieces.push(&[], Kind::Missing),
        }
    }
    pieces
}
