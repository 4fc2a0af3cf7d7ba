use super::{TextPool, thinking};
use crate::error::ApiError;
use crate::openai::request::{Generation, Prompt, TemplateInput, Thinking, ToolUse};
use crate::openai::response::{ModelEntry, TokenText};
use crate::presets::EffectivePreset;
use lmx_actors::cell::{Cell, OpenError, StreamRequest, WorkerEgress};
use lmx_actors::egress::TextOptions;
use lmx_actors::stream::TokenStream;
use lmx_runtime::sampling::{SamplingParams, ThinkingLimit};
use lmx_runtime::text::{
    CallOptions, ChatTemplate, Conventions, ParseOptions, RenderInput, Start, TemplateError, Tokenizer,
};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// When to come back to a model that is being rebuilt.
const NOT_READY_RETRY: Duration = Duration::from_secs(1);

/// What a loaded model is made of.
pub struct ModelParts {
    /// The name that requests use.
    pub id: String,
    /// Another name for it, from its preset.
    pub alias: Option<String>,
    /// Where its files are.
    pub root: String,
    /// Its actors.
    pub cell: Cell,
    /// How chats become prompts; `None` for models that have no template.
    pub template: Option<ChatTemplate>,
    /// How answers are read.
    pub conventions: Conventions,
    /// Tokens that end an answer.
    pub eos_ids: Vec<u32>,
    /// Rows of its logits: larger ids are no tokens.
    pub vocab_size: usize,
    /// What holds for it.
    pub preset: EffectivePreset,
    /// Where prompts are made.
    pub text: Arc<TextPool>,
    /// Bytes that it takes: weights, and what is kept of sequences.
    pub memory_bytes: u64,
}

/// The prompt of a chat.
#[derive(Debug)]
pub struct ChatPrompt {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// How the answer to it is read.
    pub parse: ParseOptions,
}

/// A model that serves.
pub struct LoadedModel {
    parts: Arc<ModelParts>,
    created: u64,
}

impl LoadedModel {
    /// A model made of these parts, loaded now.
    pub fn new(parts: ModelParts) -> Self {
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

    /// Its actors.
    pub fn cell(&self) -> &Cell {
        &self.parts.cell
    }

    /// What holds for it.
    pub fn preset(&self) -> &EffectivePreset {
        &self.parts.preset
    }

    /// Bytes that it takes: weights, and what is kept of sequences.
    pub fn memory_bytes(&self) -> u64 {
        self.parts.memory_bytes
    }

    /// Most tokens of prompt and answer together.
    pub fn context_tokens(&self) -> usize {
        self.parts.cell.limits().sequence_tokens()
    }

    /// Its entry in the list of models.
    pub fn entry(&self) -> ModelEntry {
        let mut entry = ModelEntry::new(self.id(), self.created, self.context_tokens());
        entry.root.clone_from(&self.parts.root);
        if self.parts.template.is_none() {
            entry.capabilities.retain(|capability| capability != "chat");
        }
        entry
    }

    /// Renders a chat and tokenises it.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] if the template refuses the messages or there is none, [`ApiError::Unsupported`] for tools
    /// that the model does not know how to call.
    pub async fn chat_prompt(&self, input: TemplateInput) -> Result<ChatPrompt, ApiError> {
        let tools = input.tools.iter().flat_map(|tools| &tools.list);
        let bytes = input.messages.iter().chain(tools).map(text_bytes).sum();
        let parts = self.parts.clone();
        self.parts.text.run(bytes, move || parts.render(&input)).await
    }

    /// How long the model may think in an answer that is read by `parse`.
    ///
    /// # Errors
    /// [`ApiError::Unsupported`] if the request sets a limit and the model's reasoning cannot be ended.
    pub fn thinking_limit(&self, thinking: Thinking, parse: &ParseOptions) -> Result<Option<ThinkingLimit>, ApiError> {
        thinking::limit(thinking, &self.parts.conventions, self.parts.template.as_ref(), parse)
    }

    /// Tokenises a prompt, or checks its ids.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] for ids that are no tokens of the model and for an empty prompt.
    pub async fn prompt(&self, prompt: Prompt, add_special_tokens: bool) -> Result<Vec<u32>, ApiError> {
        let ids = match prompt {
            Prompt::Ids(ids) => {
                if let Some(at) = ids.iter().position(|&id| id as usize >= self.parts.vocab_size) {
                    let reason = format!("{} is no token, the model has {}", ids[at], self.parts.vocab_size);
                    return Err(ApiError::invalid("prompt", reason));
                }
                ids
            }
            Prompt::Text(text) => {
                let parts = self.parts.clone();
                self.parts.text.run(text.len(), move || encode(&parts.cell, &text, add_special_tokens)).await?
            }
        };
        if ids.is_empty() {
            return Err(ApiError::invalid("prompt", "it has no tokens"));
        }
        Ok(ids)
    }

    /// Checks a request against the model's limits and hands it to its actors.
    ///
    /// # Errors
    /// [`ApiError::TooLong`], [`ApiError::Invalid`], or that there is no place now.
    pub fn open(
        &self,
        egress: &WorkerEgress,
        prompt: Vec<u32>,
        params: &SamplingParams,
        generation: &Generation,
        seed: u64,
        deadline: Instant,
    ) -> Result<TokenStream, ApiError> {
        let max = generation.num_ctx.map_or(usize::MAX, |n| n as usize).min(self.context_tokens());
        if prompt.len() >= max {
            return Err(ApiError::TooLong { got: prompt.len(), max: max - 1 });
        }
        let slots = self.parts.preset.config.scheduler.max_sequences.get();
        if generation.n as usize > slots {
            return Err(ApiError::invalid("n", format!("{} choices are more than {slots} at once", generation.n)));
        }
        let request = StreamRequest {
            // A prompt that is only scored still takes a step, which yields a token that nobody sees.
            max_tokens: generation.max_tokens.map_or(usize::MAX, |n| (n as usize).max(1)).min(max - prompt.len()),
            params: self.with_eos(params.clone(), generation.ignore_eos)?,
            prompt: prompt.into(),
            choices: generation.n as usize,
            seed,
            priority: generation.priority,
            deadline: Some(deadline),
            text: TextOptions {
                stop: generation.stop.clone(),
                include_stop: generation.include_stop,
                skip_special_tokens: generation.skip_special_tokens,
                parse: generation.parse.clone(),
            },
        };
        self.parts.cell.open(egress, request).map_err(|error| match error {
            OpenError::QueueFull { retry_after, .. } => ApiError::QueueFull { retry_after },
            OpenError::Overloaded { retry_after } => ApiError::Overloaded { retry_after },
            OpenError::ShuttingDown => ApiError::ShuttingDown { retry_after: NOT_READY_RETRY },
            OpenError::NotReady => ApiError::ModelLoading { model: self.id().to_owned(), retry_after: NOT_READY_RETRY },
        })
    }

    /// The text of single tokens, for log probabilities.
    pub fn token_text(&self) -> impl TokenText + use<> {
        let tokenizer: Arc<Tokenizer> = self.parts.cell.tokenizer().clone();
        move |id: u32| tokenizer.token_bytes(id).unwrap_or_default()
    }

    fn with_eos(&self, mut params: SamplingParams, ignore_eos: bool) -> Result<SamplingParams, ApiError> {
        let vocab = self.parts.vocab_size;
        if let Some((id, _)) = params.logit_bias.iter().find(|(id, _)| *id as usize >= vocab) {
            return Err(ApiError::invalid("logit_bias", format!("{id} is no token, the model has {vocab}")));
        }
        if !ignore_eos {
            params.eos_ids.clone_from(&self.parts.eos_ids);
            params.stop_ids.extend(&self.parts.eos_ids);
        }
        Ok(params)
    }
}

impl ModelParts {
    fn render(&self, input: &TemplateInput) -> Result<ChatPrompt, ApiError> {
        let Some(template) = &self.template else {
            let reason = format!("the model `{}` has no chat template; use /v1/completions", self.id);
            return Err(ApiError::invalid("messages", reason));
        };
        let tools = input.tools.as_ref().and_then(ToolUse::for_template);
        if tools.is_some() && self.conventions.tools.is_none() {
            let reason = format!("the model `{}` does not know how to call tools", self.id);
            return Err(ApiError::unsupported("tools", reason));
        }
        let messages = self.conventions.messages(&input.messages);
        let text = template.render(&RenderInput {
            messages: &messages,
            tools,
            documents: None,
            add_generation_prompt: input.add_generation_prompt,
            continue_final_message: input.continue_final_message,
            kwargs: &with_thinking(&input.kwargs),
            now: chrono::Local::now().naive_local(),
        });
        let text = text.map_err(|error| match error {
            TemplateError::Refused(_) | TemplateError::Continue(_) | TemplateError::NoDefault { .. } => {
                ApiError::invalid("messages", error.to_string())
            }
            other => ApiError::invalid("messages", format!("the chat template failed: {other}")),
        })?;
        let ids = encode(&self.cell, &text, input.add_special_tokens)?;
        if ids.is_empty() {
            return Err(ApiError::invalid("messages", "the prompt has no tokens"));
        }
        Ok(ChatPrompt { ids, parse: self.parse_options(input, &text) })
    }

    /// How the answer to the prompt `text` is read.
    fn parse_options(&self, input: &TemplateInput, text: &str) -> ParseOptions {
        let reasoning = self.conventions.reasoning;
        let last = || input.messages.last().and_then(|message| message["content"].as_str()).unwrap_or_default();
        let start = match reasoning {
            None => Start::Fresh,
            Some(format) if input.continue_final_message => Start::of_message(last(), format),
            Some(format) => Start::of_prompt(text, format),
        };
        let calls = input.tools.as_ref().zip(self.conventions.tools).map(|(tools, format)| CallOptions {
            format,
            tools: tools.tools.clone(),
            policy: tools.policy,
            id_key: Uuid::new_v4().as_u64_pair().0,
        });
        ParseOptions { reasoning, start, calls }
    }
}

/// Some families call the template's variable `thinking`.
fn with_thinking(kwargs: &Map<String, Value>) -> Map<String, Value> {
    let mut kwargs = kwargs.clone();
    if let Some(enabled) = kwargs.get("enable_thinking").cloned() {
        kwargs.entry("thinking").or_insert(enabled);
    }
    kwargs
}

fn encode(cell: &Cell, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, ApiError> {
    let ids = cell.tokenizer().encode(text, add_special_tokens);
    ids.map_err(|error| ApiError::Internal { detail: format!("tokenizer: {error}") })
}

/// How much text a message holds, roughly: enough to decide where it is tokenised.
fn text_bytes(message: &serde_json::Value) -> usize {
    match message {
        serde_json::Value::String(text) => text.len(),
        serde_json::Value::Array(list) => list.iter().map(text_bytes).sum(),
        serde_json::Value::Object(map) => map.values().map(text_bytes).sum(),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => 0,
    }
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
