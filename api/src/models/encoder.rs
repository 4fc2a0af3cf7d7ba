use super::{LoadFailure, TextPool, read_tokenizer, unix_seconds};
use crate::error::ApiError;
use crate::openai::request::{EmbeddingParts, InputType, Prompt, PromptChoice, Truncation, TruncationSide};
use crate::openai::response::{ModelEntry, Vectors};
use lmx_actors::embedding::{EmbeddingCell, EncodeError};
use lmx_runtime::checkpoint::Checkpoint;
use lmx_runtime::ids::StepId;
use lmx_runtime::model::encoder::{EncoderBlueprint, EncoderTask};
use lmx_runtime::pooling::{Cut, Encoded, PoolingError, Purpose, Relevance, Side, TextEncoder};
use lmx_runtime::runner::{Backend, Encoder, LoadProgress};
use std::sync::Arc;

/// An encoder in memory, without its actor.
pub struct LoadedEncoder {
    /// What turns texts into rows.
    pub text: TextEncoder,
    /// What turns rows into vectors.
    pub encoder: Encoder,
    /// What it is.
    pub blueprint: EncoderBlueprint,
}

impl LoadedEncoder {
    /// Reads a checkpoint that is for `task`. Blocks for as long as that takes.
    ///
    /// # Errors
    /// [`LoadFailure`]; nothing of the model is left then.
    pub fn read(
        checkpoint: &Checkpoint,
        task: EncoderTask,
        backend: &Backend,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self, LoadFailure> {
        let blueprint = EncoderBlueprint::read(checkpoint, task)?;
        let tokenizer = read_tokenizer(checkpoint)?.ok_or(LoadFailure::MissingFile("tokenizer.json"))?;
        let answers = TextEncoder::answers(task, &tokenizer);
        let text = TextEncoder::read(checkpoint, &blueprint, Arc::new(tokenizer))?;
        let encoder = backend.load_encoder(checkpoint, &blueprint, answers, progress)?;
        Ok(Self { text, encoder, blueprint })
    }
}

/// What an embedding or reranking model that serves is made of.
pub struct EncoderParts {
    /// The name that requests use.
    pub id: String,
    /// Another name for it, from its preset.
    pub alias: Option<String>,
    /// Where its files are.
    pub root: String,
    /// What turns texts into rows.
    pub text: TextEncoder,
    /// Its actor.
    pub cell: EmbeddingCell,
    /// Bytes that it takes.
    pub memory_bytes: u64,
    /// Where texts are tokenised.
    pub pool: Arc<TextPool>,
}

/// An embedding or reranking model that serves.
pub struct EncoderModel {
    parts: Arc<EncoderParts>,
    created: u64,
}

/// Scores of documents, and what they cost.
pub struct Ranked {
    /// By document, in the request's order.
    pub relevance: Vec<Relevance>,
    /// Tokens that were read.
    pub tokens: usize,
}

impl EncoderModel {
    /// A model made of these parts, loaded now.
    pub fn new(parts: EncoderParts) -> Self {
        Self { parts: Arc::new(parts), created: unix_seconds() }
    }

    /// The name that requests use.
    pub fn id(&self) -> &str {
        &self.parts.id
    }

    /// Another name for it, from its preset.
    pub fn alias(&self) -> Option<&str> {
        self.parts.alias.as_deref()
    }

    /// What it is for.
    pub fn task(&self) -> EncoderTask {
        self.parts.text.task
    }

    /// Its actor.
    pub fn cell(&self) -> &EmbeddingCell {
        &self.parts.cell
    }

    /// Bytes that it takes.
    pub fn memory_bytes(&self) -> u64 {
        self.parts.memory_bytes
    }

    /// Most tokens of a text.
    pub fn max_tokens(&self) -> usize {
        self.parts.text.advice.max_tokens
    }

    /// Its entry in the list of models.
    pub fn entry(&self) -> ModelEntry {
        let mut entry = ModelEntry::new(self.id(), self.created, self.max_tokens());
        entry.root.clone_from(&self.parts.root);
        let capability = match self.task() {
            EncoderTask::Embed => "embeddings",
            EncoderTask::Score | EncoderTask::YesNo | EncoderTask::Listwise => "rerank",
        };
        entry.capabilities = vec![capability.to_owned()];
        entry
    }

    /// The token ids of a text, as it is embedded without a prompt.
    ///
    /// # Errors
    /// [`ApiError::Internal`] if the tokenizer refuses it.
    pub async fn tokenize(&self, text: String, add_special_tokens: bool) -> Result<Vec<u32>, ApiError> {
        let parts = self.parts.clone();
        self.parts
            .pool
            .run(text.len(), move || {
                let text = if parts.text.advice.lower_case { text.to_lowercase() } else { text };
                let ids = parts.text.tokenizer.encode(&text, add_special_tokens);
                ids.map_err(|error| ApiError::Internal { detail: format!("tokenizer: {error}") })
            })
            .await
    }

    /// The name of a token in the vocabulary.
    pub fn token_name(&self, id: u32) -> String {
        self.parts.text.tokenizer.id_to_token(id).unwrap_or_default()
    }

    /// The text of token ids, special ones included.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] if the tokenizer cannot decode them.
    pub fn detokenize(&self, ids: &[u32]) -> Result<String, ApiError> {
        let text = self.parts.text.tokenizer.decode(ids, false);
        text.map_err(|error| ApiError::invalid("tokens", error.to_string()))
    }

    /// The vectors of some inputs, and how many tokens they have.
    ///
    /// # Errors
    /// [`ApiError`] for inputs that the model cannot read, or that there is no place now.
    pub async fn embed(&self, parts: EmbeddingParts) -> Result<(Vectors, usize), ApiError> {
        let text = &self.parts.text;
        let EmbeddingParts { inputs, prompt, dimensions, normalize, truncation } = parts;
        let dimensions = text.advice.dimensions.check(dimensions, text.width).map_err(refused)?;
        let bytes = inputs.iter().map(|input| if let Prompt::Text(text) = input { text.len() } else { 0 }).sum();
        let own = self.parts.clone();
        let rows = self.parts.pool.run(bytes, move || own.rows(inputs, prompt.as_ref(), cut(truncation))).await?;
        let tokens = count(&rows);
        let vectors = self.parts.cell.encode(rows).await.map_err(|error| self.failed(error))?;
        let vectors = text.finish(vectors, dimensions, normalize);
        if vectors.iter().any(|x| !x.is_finite()) {
            return Err(self.failed(EncodeError::Failed("a vector is not finite".to_owned())));
        }
        Ok((Vectors::new(vectors, dimensions), tokens))
    }

    /// How relevant documents are for a query. Each is read up to `document_tokens`.
    ///
    /// # Errors
    /// [`ApiError`] for texts that the model cannot read, or that there is no place now.
    pub async fn rank(
        &self,
        query: String,
        documents: Vec<String>,
        document_tokens: Option<usize>,
        truncation: Truncation,
    ) -> Result<Ranked, ApiError> {
        let bytes = documents.iter().map(|document| document.len() + query.len()).sum();
        let own = self.parts.clone();
        let work = move || {
            let documents: Vec<&str> = documents.iter().map(String::as_str).collect();
            own.text.reranking(&query, &documents, None, document_tokens, cut(truncation)).map_err(refused)
        };
        let (rows, documents) = self.parts.pool.run(bytes, work).await?.into_rows();
        let tokens = count(&rows);
        let vectors = self.parts.cell.encode(rows).await.map_err(|error| self.failed(error))?;
        let relevance = documents.relevance(&vectors, self.parts.text.width);
        if relevance.iter().any(|of| !of.raw.is_finite()) {
            return Err(self.failed(EncodeError::Failed("a score is not finite".to_owned())));
        }
        Ok(Ranked { relevance, tokens })
    }

    fn failed(&self, error: EncodeError) -> ApiError {
        match error {
            EncodeError::QueueFull { retry_after, .. } => ApiError::QueueFull { retry_after },
            EncodeError::Overloaded { retry_after } => ApiError::Overloaded { retry_after },
            EncodeError::NotReady { retry_after } => {
                ApiError::ModelLoading { model: self.id().to_owned(), retry_after }
            }
            EncodeError::ShuttingDown => ApiError::ShuttingDown { retry_after: std::time::Duration::from_secs(1) },
            EncodeError::Failed(reason) => {
                tracing::error!(model = self.id(), reason, "a batch failed");
                ApiError::EngineFault { step: StepId::default() }
            }
        }
    }
}

impl EncoderParts {
    fn rows(&self, inputs: Vec<Prompt>, prompt: Option<&PromptChoice>, cut: Cut) -> Result<Vec<Encoded>, ApiError> {
        let purpose = match prompt {
            None => Purpose::Any,
            Some(PromptChoice::Named(name)) => Purpose::Named(name),
            Some(PromptChoice::For { kind: InputType::Query, .. }) => Purpose::Query,
            Some(PromptChoice::For { kind: InputType::Document, .. }) => Purpose::Document,
        };
        let row = |input| match input {
            Prompt::Text(text) => self.text.text(&text, purpose, cut),
            Prompt::Ids(ids) => self.text.ids(ids, cut),
        };
        inputs.into_iter().map(row).collect::<Result<_, _>>().map_err(refused)
    }
}

fn count(rows: &[Encoded]) -> usize {
    rows.iter().map(|row| row.tokens.len()).sum()
}

fn cut(truncation: Truncation) -> Cut {
    match truncation {
        Truncation::Off => Cut::Refuse,
        Truncation::Cut { to, side } => Cut::To {
            tokens: to,
            side: match side {
                TruncationSide::Left => Side::Left,
                TruncationSide::Right => Side::Right,
            },
        },
    }
}

fn refused(error: PoolingError) -> ApiError {
    match error {
        PoolingError::TooLong { got, max } => ApiError::TooLong { got, max },
        PoolingError::Empty | PoolingError::NoToken { .. } => ApiError::invalid("input", error.to_string()),
        PoolingError::NoPrompt { .. } => ApiError::invalid("prompt_name", error.to_string()),
        PoolingError::Dimensions { .. } => ApiError::invalid("dimensions", error.to_string()),
        PoolingError::Tokenizer(error) => ApiError::Internal { detail: format!("tokenizer: {error}") },
    }
}
