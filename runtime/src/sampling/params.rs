//! How the tokens of a sequence are chosen.

use super::thinking::ThinkingLimit;
use serde::{Deserialize, Serialize};

/// Parameters of the logits processors and the sampler, as the request and its presets give them.
///
/// Neutral values switch a processor off. They are checked where they enter (`api`), so that the sampler can rely on them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingParams {
    /// 0 takes the most probable token; otherwise logits are divided by it. `[0, 2]`.
    pub temperature: f32,
    /// Smallest set of tokens whose probabilities reach this sum, `(0, 1]`; 1 is off.
    pub top_p: f32,
    /// The most probable tokens only; 0 is off.
    pub top_k: u32,
    /// Tokens at least this probable relative to the most probable one, `[0, 1]`; 0 is off.
    pub min_p: f32,
    /// Locally typical sampling: smallest set of tokens closest to the entropy whose probabilities reach this sum,
    /// `(0, 1]`; 1 is off. Source: Meister et al., "Locally Typical Sampling", 2022.
    pub typical_p: f32,
    /// Divides positive and multiplies negative logits of tokens in the prompt or the answer, `> 0`; 1 is off.
    /// Source: Keskar et al., "CTRL", 2019.
    pub repetition_penalty: f32,
    /// Subtracted once per occurrence in the answer, `[-2, 2]`.
    pub frequency_penalty: f32,
    /// Subtracted once from each token that occurs in the answer, `[-2, 2]`.
    pub presence_penalty: f32,
    /// Added to the logits of these tokens, `[-100, 100]`.
    pub logit_bias: Vec<(u32, f32)>,
    /// Tokens that end the answer: the model's own and the request's `stop_token_ids`.
    pub stop_ids: Vec<u32>,
    /// Those of `stop_ids` that are the model's own; `ignore_eos` removes them from both.
    pub eos_ids: Vec<u32>,
    /// Tokens that must come before a stop token may.
    pub min_tokens: u32,
    /// How long the model may think; `None`: as long as it likes.
    pub thinking: Option<ThinkingLimit>,
    /// Report log probabilities of each token of the answer, with this many alternatives, `0..=20`.
    pub logprobs: Option<u8>,
    /// Report log probabilities of each token of the prompt, with this many alternatives, `0..=20`.
    pub prompt_logprobs: Option<u8>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
            stop_ids: Vec::new(),
            eos_ids: Vec::new(),
            min_tokens: 0,
            thinking: None,
            logprobs: None,
            prompt_logprobs: None,
        }
    }
}

impl SamplingParams {
    /// The most probable token at every step, nothing else.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }
}

/// A token and, where asked for, how probable it was.
#[derive(Debug, Clone, PartialEq)]
pub struct SampledToken {
    /// The token.
    pub id: u32,
    /// Whether it is one of [`SamplingParams::stop_ids`]: the answer ends before it.
    pub stop: bool,
    /// Present when [`SamplingParams::logprobs`] asks for it.
    pub logprobs: Option<TokenLogprobs>,
}

/// Log probabilities (natural logarithm) under the model's own distribution, before any processor.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprobs {
    /// The token that these belong to.
    pub id: u32,
    /// Its log probability.
    pub logprob: f32,
    /// The most probable tokens in falling order, ties by id.
    pub top: Vec<(u32, f32)>,
}
