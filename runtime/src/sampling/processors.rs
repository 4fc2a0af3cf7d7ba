//! Logits processors: what the request and the tokens so far do to the logits, before anything is chosen.

use super::params::SamplingParams;
use std::collections::HashMap;

/// The tokens that penalties look at. Empty when no penalty is on.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// How often each known token occurs in the answer; 0: in the prompt only.
    in_answer: HashMap<u32, u32>,
    kept: bool,
}

impl History {
    /// Counts the tokens known so far, of which the first `prompt_tokens` are the prompt.
    pub(super) fn new(params: &SamplingParams, tokens: &[u32], prompt_tokens: usize) -> Self {
        let kept =
            params.repetition_penalty != 1.0 || params.frequency_penalty != 0.0 || params.presence_penalty != 0.0;
        let mut history = Self { in_answer: HashMap::new(), kept };
        if kept {
            let (prompt, answer) = tokens.split_at(prompt_tokens.min(tokens.len()));
            history.in_answer.extend(prompt.iter().map(|&id| (id, 0)));
            answer.iter().for_each(|&id| history.add(id));
        }
        history
    }

    /// Counts one more token of the answer.
    pub(super) fn add(&mut self, id: u32) {
        if self.kept {
            *self.in_answer.entry(id).or_insert(0) += 1;
        }
    }
}

/// Edits `logits` (`[vocab]`) in this order: `logit_bias`, `min_tokens`, repetition penalty (prompt and answer),
/// frequency penalty, presence penalty (answer only).
///
/// `answer_tokens`: how many tokens of the answer there are. Costs what is listed and known, not the vocabulary. Ids
/// beyond the vocabulary do nothing.
///
/// Source: the order of vLLM's `Sampler` and of transformers' `_get_logits_processor`, where these agree.
pub(super) fn process(logits: &mut [f32], params: &SamplingParams, history: &History, answer_tokens: usize) {
    for &(id, bias) in &params.logit_bias {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit += bias;
        }
    }
    if answer_tokens < params.min_tokens as usize {
        for &id in &params.stop_ids {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
    for (&id, &count) in &history.in_answer {
        let Some(logit) = logits.get_mut(id as usize) else { continue };
        // Dividing a negative logit would make the token more probable.
        *logit = if *logit > 0.0 { *logit / params.repetition_penalty } else { *logit * params.repetition_penalty };
        *logit -= params.frequency_penalty * count as f32;
        *logit -= if count > 0 { params.presence_penalty } else { 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Each processor over the whole vocabulary, one after the other, counting anew.
    fn naive(logits: &[f32], params: &SamplingParams, tokens: &[u32], prompt_tokens: usize) -> Vec<f32> {
        let mut out = logits.to_vec();
        let (_, answer) = tokens.split_at(prompt_tokens);
        for (id, logit) in (0_u32..).zip(&mut out) {
            let count = answer.iter().filter(|&&token| token == id).count() as f32;
            for &(biased, bias) in &params.logit_bias {
                *logit += if biased == id { bias } else { 0.0 };
            }
            if answer.len() < params.min_tokens as usize && params.stop_ids.contains(&id) {
                *logit = f32::NEG_INFINITY;
            }
            if tokens.contains(&id) {
                *logit *= if *logit > 0.0 { 1.0 / params.repetition_penalty } else { params.repetition_penalty };
            }
            *logit -= params.frequency_penalty * count;
            *logit -= if count > 0.0 { params.presence_penalty } else { 0.0 };
        }
        out
    }

    proptest! {
        #[test]
        fn processors_agree_with_the_naive_ones(
            logits in prop::collection::vec(-10.0_f32..10.0, 12),
            tokens in prop::collection::vec(0_u32..14, 0..20),
            known in 0_usize..20,
            prompt in 0_usize..20,
            bias in prop::collection::vec((0_u32..14, -100.0_f32..100.0), 0..4),
            stop_ids in prop::collection::vec(0_u32..14, 0..3),
            min_tokens in 0_u32..6,
            repetition_penalty in prop_oneof![Just(1.0_f32), 0.5_f32..2.0],
            frequency_penalty in prop_oneof![Just(0.0_f32), -2.0_f32..2.0],
            presence_penalty in prop_oneof![Just(0.0_f32), -2.0_f32..2.0],
        ) {
            let prompt = prompt.min(tokens.len());
            let params = SamplingParams {
                logit_bias: bias, stop_ids, min_tokens, repetition_penalty, frequency_penalty, presence_penalty,
                ..SamplingParams::default()
            };
            // Counting some tokens at once and the others as they come must make no difference.
            let known = known.clamp(prompt, tokens.len());
            let mut history = History::new(&params, &tokens[..known], prompt);
            tokens[known..].iter().for_each(|&id| history.add(id));
            let mut processed = logits.clone();
            process(&mut processed, &params, &history, tokens.len() - prompt);

            for (found, expected) in processed.iter().zip(naive(&logits, &params, &tokens, prompt)) {
                // One division against one multiplication with the inverse.
                prop_assert!(*found == expected || (found - expected).abs() < 1e-4, "{} {}", found, expected);
            }
        }
    }

    #[test]
    fn penalties_are_exact() {
        let params = SamplingParams {
            repetition_penalty: 2.0,
            frequency_penalty: 0.25,
            presence_penalty: 0.5,
            ..SamplingParams::default()
        };
        // Token 0 in the prompt, 1 twice in the answer, 2 in both, 3 nowhere.
        let history = History::new(&params, &[0, 2, 1, 1, 2], 2);
        let mut logits = [4.0, -4.0, 4.0, 4.0];
        process(&mut logits, &params, &history, 3);
        assert_eq!(logits, [2.0, -8.0 - 0.5 - 0.5, 2.0 - 0.25 - 0.5, 4.0]);
    }

    #[test]
    fn stop_tokens_are_masked_until_enough_tokens_came() {
        let params = SamplingParams { stop_ids: vec![1, 99], min_tokens: 2, ..SamplingParams::default() };
        for (answer_tokens, masked) in [(0, true), (1, true), (2, false)] {
            let mut logits = [0.0, 0.0];
            process(&mut logits, &params, &History::default(), answer_tokens);
            assert_eq!(logits[1] == f32::NEG_INFINITY, masked);
            assert_eq!(logits[0], 0.0);
        }
    }
}
