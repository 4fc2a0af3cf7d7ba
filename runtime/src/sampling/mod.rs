//! From logits to tokens.

mod params;

pub use params::{SampledToken, SamplingParams, TokenLogprobs};
