//! Chooses the tokens of one sequence.

use super::logprobs::token_logprobs;
use super::params::{SampledToken, SamplingParams};
use super::processors::{History, process};
use super::rng::uniform;
use super::survivors::Survivors;
use super::thinking::Thinking;
use crate::plan::RowFault;
use std::sync::Arc;

/// The model gave nothing to choose from: a logit was NaN or infinite, or all tokens were masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the model gave no finite logits at position {position}")]
pub struct NotFinite {
    /// Position of the token whose logits these were.
    pub position: usize,
}

impl From<NotFinite> for RowFault {
    fn from(fault: NotFinite) -> Self {
        Self::NotFinite { position: fault.position }
    }
}

/// Chooses the tokens of one sequence, one position after the other.
///
/// What it chooses depends on the logits, the parameters, the tokens so far, and the place (seed, choice, position) of
/// the token: not on the batch, not on what was drawn before, not on whether draft tokens were verified. So sampling
/// position by position is all that verification needs, and a preempted sequence goes on as if nothing had happened.
#[derive(Debug, Clone)]
pub struct Sampler {
    params: Arc<SamplingParams>,
    seed: u64,
    choice: u32,
    prompt_tokens: usize,
    history: History,
    thinking: Option<Thinking>,
    survivors: Survivors,
    /// The model's own logits, where log probabilities are asked for.
    raw: Vec<f32>,
}

/// Temperatures below this one take the most probable token: dividing by them would leave the range of f32.
const LEAST_TEMPERATURE: f32 = 1e-5;

impl Sampler {
    /// A sampler for a sequence with the known `tokens`, of which the first `prompt_tokens` are the prompt.
    ///
    /// `seed`: key of the random numbers. `choice`: which of the `n` choices of its request the sequence is.
    pub fn new(params: Arc<SamplingParams>, seed: u64, choice: u32, tokens: &[u32], prompt_tokens: usize) -> Self {
        let history = History::new(&params, tokens, prompt_tokens);
        let answer = &tokens[prompt_tokens.min(tokens.len())..];
        let thinking = params.thinking.as_ref().map(|limit| Thinking::new(limit, answer));
        let survivors = Survivors::default();
        Self { params, seed, choice, prompt_tokens, history, thinking, survivors, raw: Vec::new() }
    }

    /// Chooses the token at `position` (there are as many tokens before it) and counts it as one of the answer.
    ///
    /// `logits`: `[vocab]`, the model's own; edited by the processors. With a temperature of 0 the largest logit after
    /// the processors wins, ties by id.
    ///
    /// # Errors
    /// [`NotFinite`] if a logit is NaN or plus infinity, or if all are minus infinity after the processors.
    pub fn sample(&mut self, logits: &mut [f32], position: usize) -> Result<SampledToken, NotFinite> {
        // Checked before anything is edited: a NaN must not hide behind a mask.
        if logits.iter().fold(false, |bad, logit| bad | logit.is_nan() | (*logit == f32::INFINITY)) {
            return Err(NotFinite { position });
        }
        if self.params.logprobs.is_some() {
            self.raw.clear();
            self.raw.extend_from_slice(logits);
        }
        let id = match self.thinking.as_ref().and_then(Thinking::forced) {
            Some(end) => end,
            None => self.choose(logits, position)?,
        };
        self.history.add(id);
        if let Some(thinking) = &mut self.thinking {
            thinking.add(id);
        }
        let stop = self.params.stop_ids.contains(&id);
        let logprobs = self.params.logprobs.map(|top| token_logprobs(&self.raw, id, top));
        Ok(SampledToken { id, stop, logprobs })
    }

    fn choose(&mut self, logits: &mut [f32], position: usize) -> Result<u32, NotFinite> {
        process(logits, &self.params, &self.history, position.saturating_sub(self.prompt_tokens));
        let (best, max) = largest(logits);
        if !max.is_finite() {
            return Err(NotFinite { position });
        }
        if self.params.temperature < LEAST_TEMPERATURE {
            return Ok(best);
        }
        Ok(self.survivors.draw(logits, max, &self.params, uniform(self.seed, self.choice, position)))
    }
}

/// The first of the largest logits, none of which is NaN.
fn largest(logits: &[f32]) -> (u32, f32) {
    // Side by side, so that the compiler uses vectors: one after the other, each comparison waits for the last one.
    const LANES: usize = 32;
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &logit)| *lane = larger(*lane, logit));
    }
    let max = lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger);
    let holds = |chunk: &[f32; LANES]| chunk.iter().fold(false, |found, &logit| found | (logit == max));
    let before = chunks.iter().position(holds).unwrap_or(chunks.len()) * LANES;
    let place = logits[before..].iter().position(|&logit| logit == max).map_or(0, |place| before + place);
    (u32::try_from(place).unwrap_or(u32::MAX), max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::ThinkingLimit;

    const LOGITS: [f32; 8] = [1.5, 0.0, -1.0, 2.0, 2.0, -3.0, 0.5, f32::NEG_INFINITY];
    const DRAWS: usize = 20_000;

    fn sampler(params: SamplingParams, seed: u64, choice: u32) -> Sampler {
        Sampler::new(Arc::new(params), seed, choice, &[], 0)
    }

    fn ids(params: &SamplingParams, seed: u64, choice: u32, positions: std::ops::Range<usize>) -> Vec<u32> {
        let mut sampler = sampler(params.clone(), seed, choice);
        positions.map(|position| sampler.sample(&mut LOGITS.clone(), position).unwrap().id).collect()
    }

    /// Draws at many positions and compares the counts with the softmax over the tokens that must survive.
    fn assert_distribution(params: SamplingParams, survivors: &[usize]) {
        let weight = |id: usize| (f64::from(LOGITS[id]) / f64::from(params.temperature)).exp();
        let total: f64 = survivors.iter().map(|&id| weight(id)).sum();
        let mut counts = [0_u32; LOGITS.len()];
        for id in ids(&params, 42, 0, 0..DRAWS) {
            counts[id as usize] += 1;
        }
        let mut chi_square = 0.0;
        for (id, &count) in counts.iter().enumerate() {
            if survivors.contains(&id) {
                let expected = DRAWS as f64 * weight(id) / total;
                chi_square += (f64::from(count) - expected).powi(2) / expected;
            } else {
                assert_eq!(count, 0, "token {id} was cut");
            }
        }
        // 99.9 % of correct samplers stay below (approximation of Wilson and Hilferty).
        let freedom = (survivors.len() - 1) as f64;
        let limit = freedom * (1.0 - 2.0 / (9.0 * freedom) + 3.09 * (2.0 / (9.0 * freedom)).sqrt()).powi(3);
        assert!(chi_square < limit, "chi square {chi_square}, limit {limit}, {counts:?}");
    }

    #[test]
    fn temperatures_draw_from_the_softmax() {
        for temperature in [0.5, 1.0, 1.7] {
            assert_distribution(SamplingParams { temperature, ..SamplingParams::default() }, &[0, 1, 2, 3, 4, 5, 6]);
        }
    }

    #[test]
    fn top_k_draws_from_the_most_probable() {
        assert_distribution(SamplingParams { top_k: 3, ..SamplingParams::default() }, &[0, 3, 4]);
    }

    #[test]
    fn top_p_draws_from_the_smallest_set() {
        // Shares: 0.33, 0.33, 0.20, 0.07, ...
        assert_distribution(SamplingParams { top_p: 0.8, ..SamplingParams::default() }, &[0, 3, 4]);
        assert_distribution(SamplingParams { top_p: 0.9, ..SamplingParams::default() }, &[0, 3, 4, 6]);
    }

    #[test]
    fn min_p_draws_from_those_that_are_probable_enough() {
        // Relative to the best: 0.61, 0.14, 0.05, 1, 1, 0.007, 0.22.
        assert_distribution(SamplingParams { min_p: 0.2, ..SamplingParams::default() }, &[0, 3, 4, 6]);
    }

    #[test]
    fn typical_p_draws_from_those_close_to_the_entropy() {
        // Entropy 1.49; surprises: 1.61, 3.11, 4.11, 1.11, 1.11, 6.11, 2.61.
        assert_distribution(SamplingParams { typical_p: 0.5, ..SamplingParams::default() }, &[0, 3]);
        assert_distribution(SamplingParams { typical_p: 0.8, ..SamplingParams::default() }, &[0, 3, 4]);
    }

    #[test]
    fn cuts_work_on_what_the_ones_before_them_left() {
        let params = SamplingParams { temperature: 0.8, top_k: 4, top_p: 0.9, min_p: 0.3, ..SamplingParams::default() };
        assert_distribution(params, &[0, 3, 4]);
    }

    #[test]
    fn a_place_draws_the_same_token_whatever_came_before() {
        let params = SamplingParams::default();
        let all = ids(&params, 9, 0, 0..50);
        assert_eq!(all[20..], ids(&params, 9, 0, 20..50));
        assert_eq!(all, ids(&params, 9, 0, 0..50));
        assert_ne!(all, ids(&params, 10, 0, 0..50));
    }

    #[test]
    fn choices_of_a_request_are_independent() {
        let (first, second) =
            (ids(&SamplingParams::default(), 9, 0, 0..DRAWS), ids(&SamplingParams::default(), 9, 1, 0..DRAWS));
        let total: f64 = LOGITS.iter().map(|&logit| f64::from(logit).exp()).sum();
        // How often two independent draws agree.
        let chance: f64 = LOGITS.iter().map(|&logit| (f64::from(logit).exp() / total).powi(2)).sum();
        let agreed = first.iter().zip(&second).filter(|(a, b)| a == b).count() as f64;
        let deviation = (DRAWS as f64 * chance * (1.0 - chance)).sqrt();
        assert!((agreed - DRAWS as f64 * chance).abs() < 3.3 * deviation, "{agreed}");
    }

    #[test]
    fn the_tokens_of_a_preempted_sequence_count_as_if_it_had_gone_on() {
        let params = Arc::new(SamplingParams {
            frequency_penalty: 0.7,
            presence_penalty: 0.3,
            repetition_penalty: 1.2,
            ..SamplingParams::default()
        });
        let mut tokens = vec![3, 0, 6];
        let mut straight = Sampler::new(Arc::clone(&params), 1, 0, &tokens, 3);
        for position in 3..40 {
            let mut resumed = Sampler::new(Arc::clone(&params), 1, 0, &tokens, 3);
            let token = straight.sample(&mut LOGITS.clone(), position).unwrap();
            assert_eq!(resumed.sample(&mut LOGITS.clone(), position).unwrap(), token);
            tokens.push(token.id);
        }
    }

    #[test]
    fn without_temperature_the_first_of_the_best_wins() {
        let mut greedy = sampler(SamplingParams::greedy(), 0, 0);
        assert_eq!(greedy.sample(&mut LOGITS.clone(), 0).unwrap().id, 3);
        let biased = SamplingParams { logit_bias: vec![(5, 10.0)], ..SamplingParams::greedy() };
        assert_eq!(sampler(biased, 0, 0).sample(&mut LOGITS.clone(), 0).unwrap().id, 5);
        let cold = SamplingParams { temperature: 1e-6, ..SamplingParams::default() };
        assert_eq!(sampler(cold, 0, 0).sample(&mut LOGITS.clone(), 0).unwrap().id, 3);
    }

    #[test]
    fn the_first_of_the_largest_is_found_wherever_it_stands() {
        for n in [1, 31, 32, 33, 64, 100] {
            for place in 0..n {
                let mut logits: Vec<f32> = (0..n).map(|i| (i * 37 % 11) as f32).collect();
                logits[place] = 20.0;
                *logits.last_mut().unwrap() = 20.0;
                assert_eq!(largest(&logits), (place as u32, 20.0), "{n} logits");
            }
            assert_eq!(largest(&vec![f32::NEG_INFINITY; n]), (0, f32::NEG_INFINITY));
        }
    }

    #[test]
    fn a_stop_token_is_reported_and_held_off_by_min_tokens() {
        let params = SamplingParams { stop_ids: vec![3], min_tokens: 2, ..SamplingParams::greedy() };
        let mut sampler = Sampler::new(Arc::new(params), 0, 0, &[1, 1], 2);
        let found: Vec<(u32, bool)> = (2..5)
            .map(|position| sampler.sample(&mut LOGITS.clone(), position).unwrap())
            .map(|token| (token.id, token.stop))
            .collect();
        assert_eq!(found, [(4, false), (4, false), (3, true)]);
    }

    #[test]
    fn spent_thinking_ends_with_the_forced_token_and_changes_nothing_else() {
        let limit = ThinkingLimit { budget: 2, begin: 5, end: 6, other_ends: Vec::new(), open: true };
        let params = SamplingParams { logprobs: Some(0), ..SamplingParams::default() };
        let free = ids(&params, 3, 0, 0..20);
        let limited = SamplingParams { thinking: Some(limit), ..params };
        let mut sampler = sampler(limited.clone(), 3, 0);
        let mut tokens = Vec::new();
        for position in 0..20 {
            let token = sampler.sample(&mut LOGITS.clone(), position).unwrap();
            assert_eq!(token.logprobs, Some(token_logprobs(&LOGITS, token.id, 0)));
            // A preempted sequence forces at the same place.
            let mut resumed = Sampler::new(Arc::new(limited.clone()), 3, 0, &tokens, 0);
            assert_eq!(resumed.sample(&mut LOGITS.clone(), position).unwrap(), token);
            tokens.push(token.id);
        }
        assert!(!free[..2].contains(&6) && free[2] != 6, "{free:?}");
        assert_eq!(tokens[2], 6);
        let changed = |place: usize| (tokens[place] != free[place]).then_some(place);
        // Later places differ only where thinking began again, which is forced to end at once.
        let again = |place: usize| tokens[place - 1] == 5 && tokens[place] == 6;
        assert!((3..20).filter_map(changed).all(again), "{tokens:?} {free:?}");
    }

    #[test]
    fn log_probabilities_are_those_before_the_processors() {
        let params = SamplingParams { logit_bias: vec![(2, 50.0)], logprobs: Some(2), ..SamplingParams::greedy() };
        let token = sampler(params, 0, 0).sample(&mut LOGITS.clone(), 0).unwrap();
        assert_eq!(token.id, 2);
        assert_eq!(token.logprobs, Some(token_logprobs(&LOGITS, 2, 2)));
        assert_eq!(token.logprobs.unwrap().top.iter().map(|&(id, _)| id).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn logits_that_leave_no_choice_are_an_error_with_the_position() {
        let all_stop = SamplingParams { stop_ids: (0..8).collect(), min_tokens: 99, ..SamplingParams::default() };
        assert_eq!(sampler(all_stop, 0, 0).sample(&mut LOGITS.clone(), 7), Err(NotFinite { position: 7 }));
        // A NaN is found even where a processor would have masked it.
        let masked = SamplingParams { stop_ids: vec![1], min_tokens: 99, ..SamplingParams::default() };
        for bad in [[0.0, f32::NAN], [0.0, f32::INFINITY], [f32::NEG_INFINITY; 2]] {
            let fault = sampler(masked.clone(), 0, 0).sample(&mut bad.clone(), 3).unwrap_err();
            assert_eq!(RowFault::from(fault), RowFault::NotFinite { position: 3 });
        }
    }

    #[test]
    fn sequences_that_take_turns_draw_as_if_alone() {
        let params = SamplingParams { top_p: 0.9, ..SamplingParams::default() };
        let (mut first, mut second) = (sampler(params.clone(), 1, 0), sampler(params.clone(), 2, 0));
        let turns: Vec<(u32, u32)> = (0..50)
            .map(|position| {
                let draw = |sampler: &mut Sampler| sampler.sample(&mut LOGITS.clone(), position).unwrap().id;
                (draw(&mut first), draw(&mut second))
            })
            .collect();
        let alone: Vec<(u32, u32)> = ids(&params, 1, 0, 0..50).into_iter().zip(ids(&params, 2, 0, 0..50)).collect();
        assert_eq!(turns, alone);
    }
}
