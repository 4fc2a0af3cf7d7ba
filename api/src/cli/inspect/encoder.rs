use super::super::examine::Encoder;
use super::report::{Line, attention, list};
use lmx_runtime::checkpoint::Checkpoint;
use lmx_runtime::model::encoder::{Activation, EncoderBlueprint, EncoderTask, Pooling};
use lmx_runtime::pooling::{Advice, Dimensions};
use serde::Serialize;
use std::collections::BTreeMap;

/// What is told of a model for embedding or reranking.
#[derive(Debug, Serialize)]
pub(super) struct EncoderReport {
    /// In which way it does its task.
    method: &'static str,
    layers: usize,
    hidden: usize,
    attention: &'static str,
    /// Whether a token sees only itself and those before it.
    causal: bool,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    window: Option<Window>,
    vocab: usize,
    /// Positions that the model was made for.
    context_tokens: usize,
    /// Most tokens of a text.
    max_tokens: usize,
    /// Whether texts are put into lower case.
    lower_case: bool,
    pooling: &'static str,
    /// Products behind the pooling.
    head: Vec<Product>,
    /// Whether the result is divided by its length.
    normalized: bool,
    /// Length of a result.
    width: usize,
    /// Lengths that vectors may be cut to; null if none.
    shorter: Option<Shorter>,
    prompts: BTreeMap<String, String>,
    /// The one that is used where none is named.
    default_prompt: Option<String>,
}

/// Layers that see only what is near.
#[derive(Debug, Serialize)]
struct Window {
    layers: usize,
    /// How many tokens one sees before it, and, unless attention is causal, behind it.
    reach: usize,
}

/// A product of the head.
#[derive(Debug, Serialize)]
struct Product {
    module: String,
    outputs: usize,
    activation: Option<&'static str>,
}

/// Lengths that vectors may be cut to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Shorter {
    Listed(Vec<usize>),
    From(usize),
}

impl EncoderReport {
    pub(super) fn new(model: &Encoder, checkpoint: &Checkpoint) -> Self {
        let Encoder { blueprint, advice, .. } = model;
        let EncoderBlueprint { spec, head, width, .. } = blueprint;
        let reaches: Vec<usize> = spec.layers.iter().filter_map(|layer| layer.reach).collect();
        let products = head.layers.iter().zip(blueprint.head_weights(checkpoint)).map(|(layer, weights)| Product {
            outputs: weights.modules.get(&weights.path).map_or(0, |module| module.outputs),
            module: weights.path,
            activation: activation(layer.activation),
        });
        Self {
            method: method(blueprint.task),
            layers: spec.layers.len(),
            hidden: spec.hidden,
            attention: if spec.attention.group() == 1 { "multi-head" } else { "grouped-query" },
            causal: spec.attention.causal,
            heads: spec.attention.heads,
            kv_heads: spec.attention.kv_heads,
            head_dim: spec.attention.head_dim,
            window: reaches.iter().min().map(|&reach| Window { layers: reaches.len(), reach }),
            vocab: spec.vocab,
            context_tokens: spec.max_tokens,
            max_tokens: advice.max_tokens,
            lower_case: advice.lower_case,
            pooling: pooling(head.pooling),
            head: products.collect(),
            normalized: head.normalize,
            width: *width,
            shorter: if blueprint.task == EncoderTask::Embed { shorter(advice) } else { None },
            prompts: advice.prompts.clone(),
            default_prompt: advice.default_prompt.clone(),
        }
    }

    /// One line per fact. `task`: what the model is for.
    pub(super) fn lines(&self, task: &str) -> Vec<Line> {
        let kind = format!("{}, {}", self.attention, if self.causal { "causal" } else { "to both sides" });
        let window = match &self.window {
            None => "none".to_owned(),
            Some(Window { layers, reach }) => {
                let side = if self.causal { "before" } else { "on either side" };
                format!("{reach} tokens {side} in {layers} of {} layers", self.layers)
            }
        };
        let context = format!("{} tokens", self.context_tokens);
        let context = if self.max_tokens < self.context_tokens {
            format!("{context}, {} of a text", self.max_tokens)
        } else {
            context
        };
        let case = if self.lower_case { ", in lower case" } else { "" };
        let product = |of: &Product| match of.activation {
            None => format!("{} to {}", of.module, of.outputs),
            Some(activation) => format!("{} to {} ({activation})", of.module, of.outputs),
        };
        let normalized = self.normalized.then(|| "normalised".to_owned());
        let shorter = match &self.shorter {
            None => String::new(),
            Some(Shorter::Listed(lengths)) => {
                format!(", or {}", lengths.iter().map(usize::to_string).collect::<Vec<_>>().join(", "))
            }
            Some(Shorter::From(least)) => format!(", or less down to {least}"),
        };
        // Prompts end in spaces and hold line ends.
        let prompts = self.prompts.iter().map(|(name, prompt)| format!("{name} {prompt:?}"));
        let default_prompt = self.default_prompt.as_ref().map_or_else(|| "none".to_owned(), |it| format!("{it:?}"));
        vec![
            ("task", format!("{task} ({})", self.method.replace('_', " "))),
            ("layers", format!("{}, hidden {}", self.layers, self.hidden)),
            ("attention", attention(&kind, self.heads, self.kv_heads, self.head_dim)),
            ("window", window),
            ("context", format!("{context}{case}")),
            ("vocabulary", self.vocab.to_string()),
            ("pooling", self.pooling.to_owned()),
            ("head", list(self.head.iter().map(product).chain(normalized))),
            ("width", format!("{}{shorter}", self.width)),
            ("prompts", list(prompts)),
            ("default prompt", default_prompt),
        ]
    }
}

fn method(task: EncoderTask) -> &'static str {
    match task {
        EncoderTask::Embed => "vectors",
        EncoderTask::Score => "pairs",
        EncoderTask::YesNo => "yes_or_no",
        EncoderTask::Listwise => "listwise",
    }
}

fn pooling(pooling: Pooling) -> &'static str {
    match pooling {
        Pooling::First => "first",
        Pooling::Last => "last",
        Pooling::Mean => "mean",
        Pooling::Max => "max",
        Pooling::Marks => "marks",
    }
}

fn activation(activation: Activation) -> Option<&'static str> {
    match activation {
        Activation::Identity => None,
        Activation::Tanh => Some("tanh"),
        Activation::Relu => Some("relu"),
        Activation::Gelu => Some("gelu"),
    }
}

fn shorter(advice: &Advice) -> Option<Shorter> {
    match &advice.dimensions {
        Dimensions::Whole => None,
        Dimensions::Listed(lengths) => Some(Shorter::Listed(lengths.clone())),
        Dimensions::From(least) => Some(Shorter::From(*least)),
    }
}
