use super::super::examine::Decoder;
use super::super::units;
use super::report::{Line, attention, list};
use super::text::{Chat, Token};
use lmx_runtime::runner::KvShape;
use serde::Serialize;

/// What is told of a model that continues texts.
#[derive(Debug, Serialize)]
pub(super) struct DecoderReport {
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
    /// As configured, on this machine's device: keys, values, and scales and biases where they are quantised. Behind the
    /// first tokens where those are not.
    kv_bytes_per_token: usize,
    /// Of the tokens before `kv.quantized_start`, if there are any.
    kv_bytes_per_first_token: Option<usize>,
    kv_bytes_full_context: u64,
    /// Layers with a recurrent state, and the bytes of a sequence's states.
    recurrent: Option<Recurrent>,
    eos_tokens: Vec<Token>,
    chat_templates: Vec<String>,
    tool_parser: Option<&'static str>,
    reasoning_parser: Option<&'static str>,
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

impl DecoderReport {
    pub(super) fn new(model: &Decoder, kv: KvShape, chat: Chat) -> Self {
        let Decoder { blueprint, facts } = model;
        let Chat { eos_tokens, chat_templates, parsers } = chat;
        Self {
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
            kv_bytes_per_token: kv.bytes_per_token(),
            kv_bytes_per_first_token: kv.bytes_per_first_token(),
            kv_bytes_full_context: kv.bytes(facts.context_tokens),
            recurrent: facts.recurrent.map(|(layers, _)| Recurrent { layers, state_bytes: kv.state_bytes }),
            eos_tokens,
            chat_templates,
            tool_parser: parsers.map(|(tools, _)| tools),
            reasoning_parser: parsers.map(|(_, reasoning)| reasoning),
        }
    }

    /// One line per fact.
    pub(super) fn lines(&self) -> Vec<Line> {
        let experts = match &self.experts {
            None => "none".to_owned(),
            Some(Experts { layers, experts, per_token, shared, router }) => {
                let shared = if *shared { " and a shared one" } else { "" };
                let active = units::count(self.active_parameters);
                let all = self.layers;
                format!(
                    "{per_token} of {experts}{shared} in {layers} of {all} layers, by {router}; {active} parameters active"
                )
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
        let first = self
            .kv_bytes_per_first_token
            .map_or_else(String::new, |bytes| format!(" ({} per token of the first ones)", units::bytes(bytes as u64)));
        let kv = format!(
            "{} per token{first}, {} for a full context",
            units::bytes(self.kv_bytes_per_token as u64),
            units::bytes(self.kv_bytes_full_context)
        );
        vec![
            ("layers", format!("{}, hidden {}", self.layers, self.hidden)),
            ("attention", attention(self.attention, self.heads, self.kv_heads, self.head_dim)),
            ("window", window),
            ("experts", experts),
            ("context", format!("{} tokens", self.context_tokens)),
            ("vocabulary", format!("{}{}", self.vocab, if self.tied_embeddings { ", embeddings tied" } else { "" })),
            ("kv memory", kv),
            ("recurrent", recurrent),
            ("end tokens", list(self.eos_tokens.iter().map(Token::to_string))),
            ("chat templates", list(self.chat_templates.iter().cloned())),
            ("tool parser", self.tool_parser.unwrap_or("none").to_owned()),
            ("reasoning parser", self.reasoning_parser.unwrap_or("none").to_owned()),
        ]
    }
}
