use super::super::examine::Examined;
use super::super::units;
use super::text::{Text, Token};
use crate::presets::Formats;
use lmx_runtime::runner::{Backend, KvShape};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Everything that can be told of a model before it is loaded.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) id: String,
    path: Option<PathBuf>,
    pub(super) outcome: &'static str,
    pub(super) family: &'static str,
    parameters: u64,
    active_parameters: u64,
    layers: usize,
    hidden: usize,
    attention: &'static str,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocab: usize,
    context_tokens: usize,
    window: Option<Window>,
    experts: Option<Experts>,
    tied_embeddings: bool,
    key_prefix: String,
    /// How many matrices are stored how, most frequent first.
    pub(super) storage: Vec<Stored>,
    quantization: Option<String>,
    /// Modules that `config.json` or the shapes set apart from `quantization`.
    exceptions: usize,
    weights_bytes: u64,
    /// What computes here.
    pub(super) backend: String,
    /// What the loaded weights take there, KV memory apart.
    pub(super) memory_bytes: u64,
    /// What stays in the file, and in memory only as long as the system has room.
    mapped_bytes: u64,
    /// As configured, on this machine's device: keys, values, and scales and biases where they are quantised. Behind the
    /// first tokens where those are not.
    kv_bytes_per_token: usize,
    /// Of the tokens before `kv.quantized_start`, if there are any.
    kv_bytes_per_first_token: Option<usize>,
    kv_bytes_full_context: u64,
    /// Layers with a recurrent state, and the bytes of a sequence's states.
    recurrent: Option<Recurrent>,
    pub(super) eos_tokens: Vec<Token>,
    special_tokens: BTreeMap<&'static str, Token>,
    pub(super) chat_templates: Vec<String>,
    tool_parser: Option<&'static str>,
    reasoning_parser: Option<&'static str>,
    unexpected_tensors: Vec<String>,
    skipped_tensors: usize,
    /// What keeps the model from being served although its weights are sound.
    pub(super) problems: Vec<String>,
}

/// Layers that see only the last tokens.
#[derive(Debug, Serialize)]
struct Window {
    layers: usize,
    tokens: usize,
}

/// Layers whose memory of a sequence does not grow with it.
#[derive(Debug, Serialize)]
struct Recurrent {
    layers: usize,
    state_bytes: usize,
}

/// Layers with a mixture of experts.
#[derive(Debug, Serialize)]
struct Experts {
    layers: usize,
    experts: usize,
    per_token: usize,
    shared: bool,
    router: String,
}

/// Matrices that are stored alike.
#[derive(Debug, Serialize)]
pub(super) struct Stored {
    storage: String,
    matrices: usize,
}

impl Report {
    /// `id`: the name that the model was asked for by.
    pub(super) fn new(id: &str, model: &Examined, backend: &Backend, kv: KvShape, formats: Formats) -> Self {
        let Examined { checkpoint, blueprint, facts } = model;
        let storage: Vec<Stored> = facts
            .storage
            .iter()
            .map(|(storage, matrices)| Stored { storage: storage.clone(), matrices: *matrices })
            .collect();
        let quantization = blueprint.config.quantization.global().map(|global| global.to_string());
        let exceptions =
            storage.iter().filter(|stored| quantization.as_ref().is_some_and(|global| stored.storage != *global));
        let text = Text::read(checkpoint, &facts.eos_ids, formats);
        let Text { eos_tokens, special_tokens, chat_templates, parsers, problems } = text;
        Self {
            id: id.to_owned(),
            path: checkpoint.path().map(ToOwned::to_owned),
            outcome: if problems.is_empty() { "loadable" } else { "invalid_checkpoint" },
            family: facts.family,
            parameters: facts.parameters,
            active_parameters: facts.active_parameters,
            layers: facts.layers,
            hidden: facts.hidden,
            attention: facts.attention,
            heads: facts.heads,
            kv_heads: facts.kv_heads,
            head_dim: facts.head_dim,
            vocab: facts.vocab,
            context_tokens: facts.context_tokens,
            window: facts.window.map(|(layers, tokens)| Window { layers, tokens }),
            experts: facts.experts.as_ref().map(|of| Experts {
                layers: of.layers,
                experts: of.experts,
                per_token: of.top_k,
                shared: of.shared,
                router: of.router.clone(),
            }),
            tied_embeddings: blueprint.spec.tied,
            key_prefix: facts.key_prefix.clone(),
            exceptions: exceptions.map(|stored| stored.matrices).sum(),
            storage,
            quantization,
            weights_bytes: checkpoint.weights_bytes(),
            backend: backend.describe(),
            memory_bytes: model.memory_bytes(backend),
            mapped_bytes: backend.mapped_bytes(blueprint, checkpoint),
            kv_bytes_per_token: kv.bytes_per_token(),
            kv_bytes_per_first_token: kv.bytes_per_first_token(),
            kv_bytes_full_context: kv.bytes(facts.context_tokens),
            recurrent: facts.recurrent.map(|(layers, _)| Recurrent { layers, state_bytes: kv.state_bytes }),
            eos_tokens,
            special_tokens,
            chat_templates,
            tool_parser: parsers.map(|(tools, _)| tools),
            reasoning_parser: parsers.map(|(_, reasoning)| reasoning),
            unexpected_tensors: blueprint.unexpected.clone(),
            skipped_tensors: blueprint.skipped,
            problems,
        }
    }

    /// One line per fact.
    pub(super) fn to_text(&self) -> String {
        let heads = format!("{}, {} heads of {}", self.attention, self.heads, self.head_dim);
        let attention = match self.heads / self.kv_heads.max(1) {
            1 => heads,
            group => format!("{heads}, {group} per key head"),
        };
        let experts = match &self.experts {
            None => "none".to_owned(),
            Some(of) => {
                let shared = if of.shared { " and a shared one" } else { "" };
                let Experts { layers, experts, per_token, router, .. } = of;
                format!("{per_token} of {experts}{shared} in {layers} of {} layers, by {router}", self.layers)
            }
        };
        let parameters = match self.experts {
            None => units::count(self.parameters),
            Some(_) => {
                format!("{}, {} active", units::count(self.parameters), units::count(self.active_parameters))
            }
        };
        let window = match &self.window {
            None => "none".to_owned(),
            Some(Window { layers, tokens }) => format!("{tokens} tokens in {layers} of {} layers", self.layers),
        };
        let recurrent = match &self.recurrent {
            None => "none".to_owned(),
            Some(Recurrent { layers, state_bytes }) => {
                let bytes = units::bytes(*state_bytes as u64);
                format!("gated delta net in {layers} of {} layers, {bytes} per sequence", self.layers)
            }
        };
        let storage = self.storage.iter().map(|stored| format!("{} x {}", stored.matrices, stored.storage));
        let quantization = match &self.quantization {
            None => "none".to_owned(),
            Some(global) if self.exceptions == 0 => global.clone(),
            Some(global) => format!("{global}; {} matrices differ", self.exceptions),
        };
        let prefix = if self.key_prefix.is_empty() { "none" } else { &self.key_prefix };
        let mapped = match self.mapped_bytes {
            0 => String::new(),
            bytes => format!("; {} stay in the file", units::bytes(bytes)),
        };
        let first = self
            .kv_bytes_per_first_token
            .map_or_else(String::new, |bytes| format!(" ({} per token of the first ones)", units::bytes(bytes as u64)));
        let tokens = |tokens: &[Token]| list(tokens.iter().map(Token::to_string));
        let specials = self.special_tokens.iter().map(|(role, token)| format!("{role} {token}"));
        let mut rows = vec![
            ("model", self.id.clone()),
            (
                "folder",
                self.path.as_ref().map_or_else(|| "inside the program".to_owned(), |path| path.display().to_string()),
            ),
            ("family", self.family.to_owned()),
            ("parameters", parameters),
            ("layers", format!("{}, hidden {}", self.layers, self.hidden)),
            ("attention", attention),
            ("window", window),
            ("experts", experts),
            ("context", format!("{} tokens", self.context_tokens)),
            ("vocabulary", format!("{}{}", self.vocab, if self.tied_embeddings { ", embeddings tied" } else { "" })),
            ("key prefix", prefix.to_owned()),
            ("quantisation", quantization),
            ("matrices", list(storage)),
            ("weights", format!("{} on disk", units::bytes(self.weights_bytes))),
            ("memory", format!("{} with {}{mapped}", units::bytes(self.memory_bytes), self.backend)),
            (
                "kv memory",
                format!(
                    "{} per token{first}, {} for a full context",
                    units::bytes(self.kv_bytes_per_token as u64),
                    units::bytes(self.kv_bytes_full_context)
                ),
            ),
            ("recurrent", recurrent),
            ("end tokens", tokens(&self.eos_tokens)),
            ("special tokens", list(specials)),
            ("chat templates", list(self.chat_templates.iter().cloned())),
            ("tool parser", self.tool_parser.unwrap_or("none").to_owned()),
            ("reasoning parser", self.reasoning_parser.unwrap_or("none").to_owned()),
            ("skipped tensors", self.skipped_tensors.to_string()),
            ("unknown tensors", list(self.unexpected_tensors.iter().cloned())),
        ];
        rows.extend(self.problems.iter().map(|problem| ("problem", problem.clone())));
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
    }
}

/// The first few of a list, and how many more there are.
fn list(items: impl Iterator<Item = String>) -> String {
    const SHOWN: usize = 8;
    let items: Vec<String> = items.collect();
    match items.len() {
        0 => "none".to_owned(),
        n if n <= SHOWN => items.join(", "),
        n => format!("{} and {} more", items[..SHOWN].join(", "), n - SHOWN),
    }
}
