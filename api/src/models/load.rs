use super::room::Room;
use super::text_files::{read_template, read_tokenizer};
use super::{EncoderModel, EncoderParts, LoadedEncoder, LoadedModel, ModelParts, TextPool};
use crate::config::{ConfigError, Loaded};
use crate::presets::{EffectivePreset, Presets, ResolveError};
use lmx_actors::cell::{ActorSystem, Cell, CellSpec, MailboxCapacities};
use lmx_actors::embedding::{EmbeddingCell, EmbeddingSpec, EncodeFactory};
use lmx_actors::engine::ForwardFactory;
use lmx_runtime::checkpoint::{Checkpoint, LoadError, Source};
use lmx_runtime::config::InvalidSetting;
use lmx_runtime::config::KvFormat;
use lmx_runtime::ids::{BlockId, StateId};
use lmx_runtime::model::Blueprint;
use lmx_runtime::model::encoder::{EncoderBlueprint, EncoderTask};
use lmx_runtime::pooling::{Cut, Purpose, TextEncoder};
use lmx_runtime::runner::{
    Backend, Batch, BatchRow, Encoder, Forward, ForwardError, KvShape, LoadProgress, MemorySize, Model, RowState,
};
use lmx_runtime::scheduler::Limits;
use lmx_runtime::text::{ChatTemplate, Conventions, TemplateError, TextError, Tokenizer};
use serde_json::Value;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tokens of the step that a model computes before it serves.
const WARMUP_TOKENS: usize = 32;
/// Why a model does not serve.
#[derive(Debug, thiserror::Error)]
pub enum LoadFailure {
    /// Its checkpoint cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] LoadError),
    /// Its tokenizer cannot be used.
    #[error("tokenizer: {0}")]
    Tokenizer(#[from] TextError),
    /// It continues texts, where one that embeds or reranks is wanted.
    #[error("the model neither embeds nor reranks")]
    NoEncoder,
    /// A file that it needs is not there.
    #[error("`{0}` is missing")]
    MissingFile(&'static str),
    /// Its chat template cannot be used.
    #[error("chat template: {0}")]
    Template(#[from] TemplateError),
    /// Its preset cannot be used.
    #[error(transparent)]
    Preset(#[from] ResolveError),
    /// A setting does not go with this model.
    #[error("{0}")]
    Setting(#[from] lmx_runtime::config::InvalidSetting),
    /// An actor did not start.
    #[error("the actor `{0}` did not start")]
    Actor(&'static str),
    /// It took longer than it may.
    #[error("loading took longer than {0} s; raise `models.load_timeout_sec` if it only needs more time")]
    Timeout(u64),
    /// The loader panicked.
    #[error("the loader crashed: {0}")]
    Crashed(String),
}

impl LoadFailure {
    /// The outcome's word, the same in the API, the log, metrics and the compatibility matrix.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Checkpoint(error) => error.outcome(),
            Self::Tokenizer(_) | Self::Template(_) => "invalid_checkpoint",
            Self::MissingFile(_) => "model_incomplete",
            Self::Timeout(_) => "load_timeout",
            Self::NoEncoder => "unsupported_arch",
            Self::Preset(_) | Self::Setting(_) | Self::Actor(_) | Self::Crashed(_) => "loader_crashed",
        }
    }
}

impl From<ConfigError> for LoadFailure {
    fn from(error: ConfigError) -> Self {
        Self::Preset(ResolveError::Config(error))
    }
}

/// A model in memory, without its actors.
pub struct Prepared {
    id: String,
    alias: Option<String>,
    root: String,
    preset: EffectivePreset,
    model: Model,
    /// What computes, for the log.
    backend: String,
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    conventions: Conventions,
    eos_ids: Vec<u32>,
    limits: Limits,
    kv: KvShape,
    fingerprint: u128,
    weights_bytes: u64,
    /// Bytes of weights that stay in the file.
    mapped_bytes: u64,
    /// What reading and rearranging the weights took.
    weights_time: Duration,
}

/// An embedding or reranking model in memory, without its actor.
struct PreparedEncoder {
    id: String,
    alias: Option<String>,
    root: String,
    preset: EffectivePreset,
    text: TextEncoder,
    encoder: Encoder,
    memory_bytes: u64,
}

enum Either {
    Chat(Box<Prepared>),
    Encoder(Box<PreparedEncoder>),
}

/// A model that serves.
pub enum Served {
    /// Chats and completions.
    Chat(Box<LoadedModel>),
    /// Vectors or rankings.
    Encoder(Box<EncoderModel>),
}

/// Loads models: checkpoint, weights, text, actors.
pub struct Loader {
    system: Arc<ActorSystem>,
    presets: Presets,
    config: Loaded,
    text: Arc<TextPool>,
    machine_bytes: u64,
}

impl Loader {
    /// A loader for models under this configuration, on a machine with `machine_bytes` of memory.
    pub fn new(
        system: Arc<ActorSystem>,
        presets: Presets,
        config: Loaded,
        text: Arc<TextPool>,
        machine_bytes: u64,
    ) -> Self {
        Self { system, presets, config, text, machine_bytes }
    }

    /// How long loading a model may take.
    pub fn time_limit(&self) -> Duration {
        self.config.config.models.load_timeout()
    }

    /// Reads a model's files and brings its weights to the device. Blocks for as long as that takes. Requests will know
    /// the model as `id`.
    ///
    /// # Errors
    /// [`LoadFailure`]; nothing of the model is left then.
    pub fn prepare(
        &self,
        id: &str,
        source: &Source,
        preset: Option<&str>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Prepared, LoadFailure> {
        let alias = self.presets.choose(id, preset).map_err(ResolveError::from)?;
        let alias = alias.and_then(|preset| preset.routing_alias.clone());
        let mut preset = self.presets.resolve(id, preset, &self.config)?;
        let checkpoint = Checkpoint::open(source)?;
        let blueprint = Blueprint::read(&checkpoint)?;
        let Some(tokenizer) = read_tokenizer(&checkpoint)? else {
            return Err(LoadFailure::MissingFile("tokenizer.json"));
        };
        let tokenizer = Arc::new(tokenizer);
        let template = read_template(&checkpoint, preset.chat_template.as_deref())?;

        preset.advise(&blueprint.config.sampling);
        let formats = preset.formats;
        let conventions = Conventions::of(template.as_ref(), &tokenizer, formats.tools, formats.reasoning);
        if preset.defaults.parameters.thinking_budget.is_some() && !conventions.can_limit_thinking() {
            let reason = "the model does not mark its reasoning with tokens of their own".to_owned();
            return Err(InvalidSetting { key: "parameters.thinking_budget", reason }.into());
        }
        let skips = preset.defaults.chat_template_kwargs.get("enable_thinking") == Some(&Value::Bool(false));
        if skips && !conventions.can_skip_thinking() {
            let reason = "neither the model's template nor a token of its own could end its reasoning".to_owned();
            return Err(InvalidSetting { key: "chat_template_kwargs.enable_thinking", reason }.into());
        }
        let mut eos_ids = [blueprint.config.eos_ids.clone(), conventions.end_ids.clone()].concat();
        eos_ids.sort_unstable();
        eos_ids.dedup();

        let backend = Backend::choose(&preset.config.compute)?;
        let format = preset.config.kv.format();
        let kv = backend.kv_shape(&blueprint, &format)?;
        let weights_bytes = backend.weights_bytes(&blueprint);
        let may_take = self.config.config.memory.may_take(self.machine_bytes);
        if weights_bytes > may_take {
            return Err(LoadError::InsufficientMemory { needed: weights_bytes, available: may_take }.into());
        }
        let limits = self.limits(&mut preset, blueprint.spec.context, kv, may_take - weights_bytes)?;
        preset.config.scheduler.validate(format.block_tokens.get())?;
        let begun = Instant::now();
        let model = backend.load(&checkpoint, progress)?;
        let weights_time = begun.elapsed();
        if preset.config.models.warmup {
            warm_up(&model, limits, &format)?;
        }
        let root = checkpoint.path().map_or_else(|| id.to_owned(), |path| path.display().to_string());
        let fingerprint = u128::from(checkpoint.fingerprint());
        Ok(Prepared {
            id: id.to_owned(),
            alias,
            root,
            preset,
            model,
            backend: backend.describe(),
            tokenizer,
            template,
            conventions,
            eos_ids,
            limits,
            kv,
            fingerprint,
            weights_bytes,
            mapped_bytes: backend.mapped_bytes(&blueprint, &checkpoint),
            weights_time,
        })
    }

    /// Starts the actors of a prepared model. Must be called on the thread of the actor system.
    ///
    /// # Errors
    /// [`LoadFailure::Actor`].
    pub fn start(&self, prepared: Prepared) -> Result<LoadedModel, LoadFailure> {
        let Prepared {
            id,
            alias,
            root,
            preset,
            model,
            backend,
            tokenizer,
            template,
            conventions,
            eos_ids,
            limits,
            kv,
            fingerprint,
            weights_bytes,
            mapped_bytes,
            weights_time,
        } = prepared;
        tracing::info!(
            model = id,
            family = model.facts().family,
            weights_bytes,
            mapped_bytes,
            weights_ms = weights_time.as_millis() as u64,
            kv_blocks = limits.num_blocks,
            kv_bytes = limits.num_blocks as u64 * kv.block_bytes as u64,
            states = limits.num_states,
            state_bytes = limits.num_states as u64 * kv.state_bytes as u64,
            kv_bits = preset.config.kv.bits,
            context_tokens = limits.sequence_tokens(),
            mode = %preset.config.compute.mode,
            backend,
            tool_parser = conventions.names().0,
            reasoning_parser = conventions.names().1,
            preset = preset.name.as_deref().unwrap_or("none"),
            "model loaded"
        );
        let vocab_size = model.facts().vocab;
        let mailbox = &preset.config.actors.mailbox;
        let mailboxes =
            MailboxCapacities { scheduler: mailbox.scheduler, engine: mailbox.engine, kv_cache: mailbox.kv_cache };
        let spec = CellSpec {
            model: id.clone(),
            forward: factory(model, limits, preset.config.kv.format()),
            tokenizer,
            scheduler: preset.config.scheduler.clone(),
            limits,
            fingerprint,
            prefix_cache: preset.config.kv.prefix_cache,
            mailboxes,
        };
        let cell = Cell::start(&self.system, spec).map_err(LoadFailure::Actor)?;
        let text = self.text.clone();
        let kept = limits.num_blocks as u64 * kv.block_bytes as u64 + limits.num_states as u64 * kv.state_bytes as u64;
        Ok(LoadedModel::new(ModelParts {
            memory_bytes: weights_bytes + kept,
            id,
            alias,
            root,
            cell,
            template,
            conventions,
            eos_ids,
            vocab_size,
            preset,
            text,
        }))
    }

    /// Loads whatever a name stands for.
    ///
    /// # Errors
    /// [`LoadFailure`]; nothing of the model is left then.
    pub async fn load(
        self: &Arc<Self>,
        id: &str,
        source: Source,
        preset: Option<&str>,
        used_bytes: u64,
    ) -> Result<Served, LoadFailure> {
        let (reader, id, preset) = (self.clone(), id.to_owned(), preset.map(str::to_owned));
        let work = move || {
            let checkpoint = Checkpoint::open(&source)?;
            match EncoderTask::of(&checkpoint) {
                Some(task) => {
                    let encoder = reader.prepare_encoder(&id, &checkpoint, task, preset.as_deref(), used_bytes)?;
                    Ok(Either::Encoder(Box::new(encoder)))
                }
                None => {
                    let prepared = reader.prepare(&id, &source, preset.as_deref(), &mut |_| {})?;
                    Ok(Either::Chat(Box::new(prepared)))
                }
            }
        };
        match self.in_time(work).await? {
            Either::Encoder(prepared) => self.start_encoder(*prepared).map(Box::new).map(Served::Encoder),
            Either::Chat(prepared) => self.start(*prepared).map(Box::new).map(Served::Chat),
        }
    }

    /// Loads an embedding or reranking model, beside others that take `used_bytes`.
    ///
    /// # Errors
    /// [`LoadFailure`]; nothing of the model is left then.
    pub async fn load_encoder(
        self: &Arc<Self>,
        id: &str,
        source: Source,
        used_bytes: u64,
    ) -> Result<EncoderModel, LoadFailure> {
        let (reader, id) = (self.clone(), id.to_owned());
        let work = move || {
            let checkpoint = Checkpoint::open(&source)?;
            let task = EncoderTask::of(&checkpoint).ok_or(LoadFailure::NoEncoder)?;
            reader.prepare_encoder(&id, &checkpoint, task, None, used_bytes)
        };
        let prepared = self.in_time(work).await?;
        self.start_encoder(prepared)
    }

    /// Runs a load on a thread of its own, for as long as it may take.
    async fn in_time<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, LoadFailure> + Send + 'static,
    ) -> Result<T, LoadFailure> {
        let limit = self.time_limit();
        match tokio::time::timeout(limit, tokio::task::spawn_blocking(work)).await {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => Err(LoadFailure::Crashed(panic.to_string())),
            Err(_) => Err(LoadFailure::Timeout(limit.as_secs())),
        }
    }

    fn prepare_encoder(
        &self,
        id: &str,
        checkpoint: &Checkpoint,
        task: EncoderTask,
        preset: Option<&str>,
        used_bytes: u64,
    ) -> Result<PreparedEncoder, LoadFailure> {
        let alias = self.presets.choose(id, preset).map_err(ResolveError::from)?;
        let alias = alias.and_then(|preset| preset.routing_alias.clone());
        let preset = self.presets.resolve(id, preset, &self.config)?;
        let backend = Backend::choose(&preset.config.compute)?;
        let memory_bytes = backend.encoder_bytes(&EncoderBlueprint::read(checkpoint, task)?);
        let may_take = self.config.config.memory.may_take(self.machine_bytes).saturating_sub(used_bytes);
        if memory_bytes > may_take {
            return Err(LoadError::InsufficientMemory { needed: memory_bytes, available: may_take }.into());
        }
        let begun = Instant::now();
        let LoadedEncoder { text, encoder, blueprint } = LoadedEncoder::read(checkpoint, task, &backend, &mut |_| {})?;
        if preset.config.models.warmup {
            warm_up_encoder(&text, &encoder)?;
        }
        tracing::info!(
            model = id,
            family = blueprint.family,
            task = task.name(),
            memory_bytes,
            load_ms = begun.elapsed().as_millis() as u64,
            max_tokens = text.advice.max_tokens,
            width = text.width,
            backend = backend.describe_encoder(),
            preset = preset.name.as_deref().unwrap_or("none"),
            "model loaded"
        );
        let root = checkpoint.path().map_or_else(|| id.to_owned(), |path| path.display().to_string());
        Ok(PreparedEncoder { id: id.to_owned(), alias, root, preset, text, encoder, memory_bytes })
    }

    /// Starts the actor of a prepared encoder. Must be called on a thread of the actor system.
    fn start_encoder(&self, prepared: PreparedEncoder) -> Result<EncoderModel, LoadFailure> {
        let PreparedEncoder { id, alias, root, preset, text, encoder, memory_bytes } = prepared;
        let config = &preset.config;
        let (actor, mailbox) = match text.task {
            EncoderTask::Embed => ("embedding", config.actors.mailbox.embedding),
            EncoderTask::Score | EncoderTask::YesNo | EncoderTask::Listwise => ("rerank", config.actors.mailbox.rerank),
        };
        let encode: EncodeFactory =
            Arc::new(move || encoder.encode().map_err(|error| ForwardError::Failed(error.to_string())));
        let spec = EmbeddingSpec {
            model: id.clone(),
            actor,
            encode,
            mailbox,
            max_queue: config.scheduler.max_queue,
            batch_tokens: config.scheduler.max_batched_tokens,
            share: f64::from(config.compute.share_percent) / 100.0,
        };
        let cell = EmbeddingCell::start(&self.system, spec).map_err(LoadFailure::Actor)?;
        let pool = self.text.clone();
        Ok(EncoderModel::new(EncoderParts { id, alias, root, text, cell, memory_bytes, pool }))
    }

    /// Divides the memory that the configuration allows for what is kept of sequences. Lowers `scheduler.max_sequences` where
    /// fewer fit.
    fn limits(
        &self,
        preset: &mut EffectivePreset,
        context_tokens: usize,
        kv: KvShape,
        free_bytes: u64,
    ) -> Result<Limits, LoadFailure> {
        let config = &mut preset.config;
        let bytes = config.kv.budget_bytes(self.machine_bytes).min(free_bytes);
        let wanted = config.scheduler.max_sequences;
        let Room { sequences, num_blocks, num_states } =
            Room::divide(bytes, wanted, context_tokens, kv, config.kv.prefix_cache)?;
        if sequences < wanted {
            let state_bytes = kv.state_bytes;
            tracing::warn!(
                wanted,
                max_sequences = sequences,
                state_bytes,
                "recurrent states leave room for fewer sequences"
            );
            config.scheduler.max_sequences = sequences;
        }
        Ok(Limits { spans: kv.spans, num_blocks, num_states, context_tokens })
    }
}

fn factory(model: Model, limits: Limits, format: KvFormat) -> ForwardFactory {
    Arc::new(move || build(&model, limits, &format))
}

fn build(model: &Model, limits: Limits, format: &KvFormat) -> Result<Box<dyn Forward>, ForwardError> {
    let num_blocks = NonZeroUsize::new(limits.num_blocks);
    let num_blocks = num_blocks.ok_or_else(|| ForwardError::Failed("KV memory has no size".to_owned()))?;
    let size = MemorySize { num_blocks, num_states: limits.num_states };
    model.forward(size, format).map_err(|error| ForwardError::Failed(error.to_string()))
}

/// Encodes one short text and throws it away.
fn warm_up_encoder(text: &TextEncoder, encoder: &Encoder) -> Result<(), LoadFailure> {
    let rows = match text.task {
        EncoderTask::Embed => vec![text.text("warm up", Purpose::Bare, Cut::default())],
        EncoderTask::Score | EncoderTask::YesNo | EncoderTask::Listwise => {
            let ranking = text.reranking("warm", &["up"], None, None, Cut::default());
            ranking.map(|ranking| ranking.into_rows().0.into_iter().map(Ok).collect()).unwrap_or_default()
        }
    };
    let rows: Vec<_> = rows.into_iter().flatten().collect();
    let rows: Vec<_> = rows.iter().map(|row| row.row()).collect();
    let mut vectors = Vec::new();
    encoder.encode()?.encode(&rows, &mut vectors).map_err(|error| LoadFailure::Crashed(error.to_string()))?;
    if vectors.iter().any(|x| !x.is_finite()) {
        return Err(LoadFailure::Crashed("the first text gave numbers that are not finite".to_owned()));
    }
    Ok(())
}

/// Computes one prompt and throws it away: kernels are chosen and compiled, weights are paged in and rearranged.
fn warm_up(model: &Model, limits: Limits, format: &KvFormat) -> Result<(), LoadFailure> {
    let tokens = vec![0u32; WARMUP_TOKENS.min(limits.sequence_tokens())];
    let num_blocks = limits.spans.holding(tokens.len());
    let small = Limits { num_blocks, num_states: limits.num_states.min(1), ..limits };
    let crashed = |error: ForwardError| LoadFailure::Crashed(error.to_string());
    let mut forward = build(model, small, format).map_err(crashed)?;
    let positions: Vec<u32> = (0..tokens.len() as u32).collect();
    let table: Vec<BlockId> = (0..num_blocks as u32).map(BlockId).collect();
    let state = (small.num_states > 0).then_some(RowState { place: StateId(0), saves: &[] });
    let rows = [BatchRow { span: 0..tokens.len(), context_tokens: tokens.len(), table: &table, state }];
    let wanted = [tokens.len() as u32 - 1];
    let batch = Batch { tokens: &tokens, positions: &positions, rows: &rows, wanted: &wanted };
    let mut logits = Vec::new();
    forward.forward(&batch, &mut logits).map_err(crashed)?;
    if logits.iter().any(|logit| !logit.is_finite()) {
        return Err(LoadFailure::Crashed("the first step gave logits that are not finite".to_owned()));
    }
    Ok(())
}
