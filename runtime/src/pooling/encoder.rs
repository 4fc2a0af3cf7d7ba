use super::advice::Advice;
use super::error::PoolingError;
use super::{listwise, yes_no};
use crate::checkpoint::{Checkpoint, LoadError};
use crate::model::encoder::{EncoderBlueprint, EncoderTask};
use crate::runner::EncodeRow;
use crate::text::Tokenizer;
use std::borrow::Cow;
use std::sync::Arc;

/// A text as an encoder reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// How many of them belong to the first segment.
    pub first_segment: usize,
    /// Those whose rows are wanted, if only some are.
    pub marks: Vec<u32>,
}

impl Encoded {
    /// The same for an executor.
    pub fn row(&self) -> EncodeRow<'_> {
        EncodeRow { tokens: &self.tokens, first_segment: self.first_segment, marks: &self.marks }
    }
}

/// What becomes of a text that is too long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cut {
    /// It is refused.
    #[default]
    Refuse,
    /// It is cut.
    To {
        /// To so many tokens, special ones included; `None`: to as many as the model takes.
        tokens: Option<usize>,
        /// On this side.
        side: Side,
    },
}

/// The end of a text that is cut off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Side {
    /// Its beginning.
    Left,
    /// Its end.
    #[default]
    Right,
}

/// What a text is embedded for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// Nothing is said: the model's default prompt, if it has one.
    #[default]
    Any,
    /// To search with.
    Query,
    /// To be found.
    Document,
    /// What the prompt of this name is for.
    Named(&'a str),
    /// The prompt, if there is one, stands in the text.
    Bare,
}

/// Names of prompts for queries and for documents, the one that is looked for first.
const QUERY_PROMPTS: [&str; 6] =
    ["query", "search_query", "s2p_query", "retrieval.query", "Retrieval-query", "web_search_query"];
const DOCUMENT_PROMPTS: [&str; 6] =
    ["document", "passage", "search_document", "retrieval.passage", "Retrieval-document", "corpus"];

/// What turns texts into rows for one model.
#[derive(Debug)]
pub struct TextEncoder {
    /// What the model is for.
    pub task: EncoderTask,
    /// How it wants its texts.
    pub advice: Advice,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Length of its vectors.
    pub width: usize,
    /// Whether the model's own pipeline brings them to length 1.
    pub normalize: bool,
    vocab: usize,
    /// Of a listwise reranker: the tokens behind a document and behind the query.
    marks: Option<[u32; 2]>,
}

impl TextEncoder {
    /// That of a checkpoint.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] for files that are not of their kind, and a reranker's tokenizer without the tokens
    /// that it needs.
    pub fn read(
        checkpoint: &Checkpoint,
        blueprint: &EncoderBlueprint,
        tokenizer: Arc<Tokenizer>,
    ) -> Result<Self, LoadError> {
        let marks = match blueprint.task {
            EncoderTask::Listwise => Some(listwise::marks(&tokenizer)?),
            EncoderTask::Embed | EncoderTask::Score | EncoderTask::YesNo => None,
        };
        Ok(Self {
            task: blueprint.task,
            advice: Advice::read(checkpoint, blueprint)?,
            tokenizer,
            width: blueprint.width,
            normalize: blueprint.head.normalize,
            vocab: blueprint.spec.vocab,
            marks,
        })
    }

    /// The tokens of `yes` and `no`, of models that answer.
    pub fn answers(task: EncoderTask, tokenizer: &Tokenizer) -> Option<[u32; 2]> {
        (task == EncoderTask::YesNo).then(|| yes_no::answers(tokenizer)).flatten()
    }

    /// A text to be embedded.
    ///
    /// # Errors
    /// [`PoolingError`].
    pub fn text(&self, text: &str, purpose: Purpose<'_>, cut: Cut) -> Result<Encoded, PoolingError> {
        let prompt = self.prompt(purpose)?;
        let whole: Cow<'_, str> = match prompt {
            "" => text.into(),
            prompt => format!("{prompt}{text}").into(),
        };
        let whole = if self.advice.lower_case { whole.to_lowercase().into() } else { whole };
        self.tokens(&whole, None, self.limit(cut), cut)
    }

    /// A text that is tokenised already, its special tokens included.
    ///
    /// # Errors
    /// [`PoolingError`].
    pub fn ids(&self, mut ids: Vec<u32>, cut: Cut) -> Result<Encoded, PoolingError> {
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= self.vocab) {
            return Err(PoolingError::NoToken { id, vocab: self.vocab });
        }
        let (limit, got) = (self.limit(cut), ids.len());
        match cut {
            _ if got <= limit => {}
            Cut::Refuse => return Err(PoolingError::TooLong { got, max: limit }),
            Cut::To { side: Side::Left, .. } => drop(ids.drain(..got - limit)),
            Cut::To { side: Side::Right, .. } => ids.truncate(limit),
        }
        match ids.is_empty() {
            true => Err(PoolingError::Empty),
            false => Ok(Encoded { first_segment: ids.len(), tokens: ids, marks: Vec::new() }),
        }
    }

    /// A query and a document, to be scored together; the document alone takes at most `document_tokens`.
    ///
    /// # Errors
    /// [`PoolingError`].
    pub fn pair(
        &self,
        query: &str,
        document: &str,
        document_tokens: Option<usize>,
        cut: Cut,
    ) -> Result<Encoded, PoolingError> {
        let document = self.shortened(document, document_tokens)?;
        match self.task {
            EncoderTask::YesNo => yes_no::encode(self, query, &document, cut),
            EncoderTask::Embed | EncoderTask::Score | EncoderTask::Listwise => {
                self.tokens(query, Some(&document), self.limit(cut), cut)
            }
        }
    }

    /// A text without what is behind its first tokens.
    pub(super) fn shortened<'t>(&self, text: &'t str, tokens: Option<usize>) -> Result<Cow<'t, str>, PoolingError> {
        let Some(most) = tokens else { return Ok(text.into()) };
        let ids = self.tokenizer.encode(text, false)?;
        match ids.get(..most) {
            Some(kept) if kept.len() < ids.len() => Ok(self.tokenizer.decode(kept, true)?.into()),
            _ => Ok(text.into()),
        }
    }

    /// Cuts vectors, `[texts, width]`, to their first `dimensions` components, and brings them to length 1 if that is wanted.
    pub fn finish(&self, vectors: Vec<f32>, dimensions: usize, normalize: bool) -> Vec<f32> {
        let mut all = match dimensions {
            whole if whole == self.width => vectors,
            part => vectors.chunks_exact(self.width).flat_map(|vector| &vector[..part]).copied().collect(),
        };
        if normalize {
            all.chunks_exact_mut(dimensions.max(1)).for_each(to_unit_length);
        }
        all
    }

    pub(super) fn mark_tokens(&self) -> Option<[u32; 2]> {
        self.marks
    }

    /// Tokens that a text may have.
    pub(super) fn limit(&self, cut: Cut) -> usize {
        match cut {
            Cut::Refuse | Cut::To { tokens: None, .. } => self.advice.max_tokens,
            Cut::To { tokens: Some(tokens), .. } => tokens.min(self.advice.max_tokens),
        }
    }

    /// Tokens of a text, or of two that are read together, as the tokenizer joins them.
    fn tokens(&self, text: &str, second: Option<&str>, limit: usize, cut: Cut) -> Result<Encoded, PoolingError> {
        let side = match cut {
            Cut::Refuse => Side::Right,
            Cut::To { side, .. } => side,
        };
        let joined = self.tokenizer.encode_within(text, second, limit, side == Side::Left)?;
        if joined.uncut > limit && cut == Cut::Refuse {
            return Err(PoolingError::TooLong { got: joined.uncut, max: limit });
        }
        if joined.ids.is_empty() {
            return Err(PoolingError::Empty);
        }
        Ok(Encoded { tokens: joined.ids, first_segment: joined.first_segment, marks: Vec::new() })
    }

    fn prompt(&self, purpose: Purpose<'_>) -> Result<&str, PoolingError> {
        // A model without a prompt for it has been trained without one.
        let any_of = |names: &[&str]| names.iter().find_map(|name| self.advice.prompts.get(*name)).map(String::as_str);
        Ok(match purpose {
            Purpose::Any => self.advice.default_prompt.as_deref().unwrap_or_default(),
            Purpose::Bare => "",
            Purpose::Query => any_of(&QUERY_PROMPTS).unwrap_or_default(),
            Purpose::Document => any_of(&DOCUMENT_PROMPTS).unwrap_or_default(),
            Purpose::Named(name) => self.advice.prompt(name)?,
        })
    }
}

/// Divides a vector by its length. A vector of zeros stays one.
fn to_unit_length(x: &mut [f32]) {
    let squares: f64 = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    let length = squares.sqrt().max(1e-12) as f32;
    x.iter_mut().for_each(|x| *x /= length);
}
