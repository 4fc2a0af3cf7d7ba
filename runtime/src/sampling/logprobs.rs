//! Log probabilities under the model's own distribution.

use super::params::TokenLogprobs;
use super::weight::Scale;

/// The log probability of token `id` and of the `top` most probable tokens.
///
/// `logits`: `[vocab]`, as the model gave them, none NaN and one finite at least. Used for tokens of the answer and of
/// the prompt alike. A token without a logit has minus infinity.
pub fn token_logprobs(logits: &[f32], id: u32, top: u8) -> TokenLogprobs {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let log_sum = f64::from(max) + Scale::new(max, 1.0).total(logits).ln();
    let logprob = |logit: f32| (f64::from(logit) - log_sum) as f32;
    let own = logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
    let top = most_probable(logits, usize::from(top));
    TokenLogprobs { id, logprob: logprob(own), top: top.into_iter().map(|(id, logit)| (id, logprob(logit))).collect() }
}

/// The `count` largest logits in falling order, ties by id: one pass, as `count` is small.
fn most_probable(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    for (id, &logit) in (0_u32..).zip(logits) {
        let full = best.len() == count;
        if full && best.last().is_none_or(|&(_, worst)| logit <= worst) {
            continue;
        }
        // Of equal logits the earlier one, which has the smaller id, stays in front.
        let place = best.partition_point(|&(_, other)| other >= logit);
        best.insert(place, (id, logit));
        best.truncate(count);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_agree_with_a_plain_log_softmax(
            logits in prop::collection::vec((-40_i32..40).prop_map(|x| x as f32 / 4.0), 1..50),
            id: prop::sample::Index,
            top in 0_u8..20,
        ) {
            let id = id.index(logits.len());
            let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
            let plain: Vec<f64> = logits.iter().map(|&x| f64::from(x) - sum.ln()).collect();
            let mut order: Vec<usize> = (0..logits.len()).collect();
            order.sort_by(|&a, &b| plain[b].total_cmp(&plain[a]).then(a.cmp(&b)));

            let found = token_logprobs(&logits, id as u32, top);
            // f32 holds about seven digits of a number below 30.
            prop_assert!((f64::from(found.logprob) - plain[id]).abs() < 1e-5);
            let expected: Vec<u32> = order.iter().take(usize::from(top)).map(|&id| id as u32).collect();
            prop_assert_eq!(found.top.iter().map(|&(id, _)| id).collect::<Vec<_>>(), expected);
            for &(id, logprob) in &found.top {
                prop_assert!((f64::from(logprob) - plain[id as usize]).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn a_certain_token_has_the_log_probability_zero() {
        let found = token_logprobs(&[f32::NEG_INFINITY, 3.0, f32::NEG_INFINITY], 1, 2);
        assert_eq!(found.logprob, 0.0);
        assert_eq!(found.top, [(1, 0.0), (0, f32::NEG_INFINITY)]);
        assert_eq!(token_logprobs(&[1.0], 7, 0).logprob, f32::NEG_INFINITY);
    }
}
