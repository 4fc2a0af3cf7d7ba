//! From logits to tokens.
//!
//! Order: `logit_bias`, `min_tokens`, repetition, frequency and presence penalty (`processors`); temperature, `top_k`,
//! `top_p`, `min_p`, `typical_p` (`survivors`); one random number (`rng`) picks among what is left. Log probabilities
//! are the model's own, before all of this. A limit on thinking (`thinking`) takes the place of the choice where it is
//! reached.

mod logprobs;
mod params;
mod processors;
mod rng;
mod sampler;
mod survivors;
mod thinking;
mod weight;

pub use logprobs::token_logprobs;
pub use params::{SampledToken, SamplingParams, TokenLogprobs};
pub use rng::uniform;
pub use sampler::{NotFinite, Sampler};
pub use thinking::ThinkingLimit;
