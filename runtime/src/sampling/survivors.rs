//! Which tokens may still be drawn: temperature, `top_k`, `top_p`, `min_p`, `typical_p`, in this order.
//!
//! Nothing here sorts a vocabulary: `top_k` selects, and a cut by mass finds the one token at which it ends. Ties go
//! to the smaller id everywhere.

use super::params::SamplingParams;
use super::weight::{BLOCK, Scale};
use std::cmp::Ordering;

/// The cuts, with the memory they need from token to token.
#[derive(Debug, Clone, Default)]
pub(super) struct Survivors {
    /// In the order of their ids.
    kept: Vec<Candidate>,
    scratch: Vec<Candidate>,
}

/// A token that may be drawn, with its logit.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    id: u32,
    logit: f32,
}

impl Survivors {
    /// Draws a token: `uniform` in `[0, 1)` picks by the summed weights of the survivors, in the order of their ids.
    ///
    /// `logits`: `[vocab]` after the processors, none NaN; `max`: the largest, finite. The temperature is above 0.
    pub(super) fn draw(&mut self, logits: &[f32], max: f32, params: &SamplingParams, uniform: f64) -> u32 {
        let scale = Scale::new(max, params.temperature);
        if params.top_k == 0 && params.top_p >= 1.0 && params.min_p <= 0.0 && params.typical_p >= 1.0 {
            return pick_from_all(logits, scale, uniform * scale.total(logits));
        }
        self.cut(logits, scale, params);
        let total: f64 = self.kept.iter().map(|candidate| scale.weight(candidate.logit)).sum();
        pick(self.kept.iter().copied(), scale, uniform * total)
    }

    fn cut(&mut self, logits: &[f32], scale: Scale, params: &SamplingParams) {
        let least = params.min_p.ln();
        let probable = |candidate: &Candidate| scale.log_weight(candidate.logit) >= least;
        self.kept.clear();
        let top_p = f64::from(params.top_p);
        if params.top_k > 0 {
            self.most_probable(logits, params.top_k as usize);
            if params.top_p < 1.0 {
                let total: f64 = self.kept.iter().map(|candidate| scale.weight(candidate.logit)).sum();
                self.shorten(scale, top_p * total);
            }
            self.kept.retain(probable);
        } else if params.top_p < 1.0 {
            self.most_probable(logits, FIRST_LOOK);
            if !self.shorten(scale, top_p * scale.total(logits)) {
                let improbability = |candidate: &Candidate| -scale.log_weight(candidate.logit);
                let end = end_of_mass(&mut self.scratch, candidates(logits), scale, params.top_p, improbability);
                self.kept.clear();
                self.kept.extend(candidates(logits).filter(|candidate| end.holds(candidate, improbability)));
            }
            self.kept.retain(probable);
        } else {
            self.kept.extend(candidates(logits).filter(probable));
        }
        self.kept.sort_unstable_by_key(|candidate| candidate.id);
        if params.typical_p < 1.0 {
            self.keep_typical(scale, params.typical_p);
        }
    }

    /// Keeps the `count` most probable tokens, the most probable first. One pass; only what may belong to them is
    /// looked at twice.
    fn most_probable(&mut self, logits: &[f32], count: usize) {
        let mut floor = f32::NEG_INFINITY;
        for candidate in candidates(logits) {
            // An equal logit comes too late: its id is larger.
            if candidate.logit <= floor {
                continue;
            }
            self.kept.push(candidate);
            if self.kept.len() == count.saturating_mul(2) {
                let (_, last, _) = self.kept.select_nth_unstable_by(count - 1, falling);
                floor = last.logit;
                self.kept.truncate(count);
            }
        }
        self.kept.sort_unstable_by(falling);
        self.kept.truncate(count);
    }

    /// Keeps the shortest beginning whose weights reach `mass`; whether they do.
    fn shorten(&mut self, scale: Scale, mass: f64) -> bool {
        let mut sum = 0.0;
        let end = self.kept.iter().position(|candidate| {
            sum += scale.weight(candidate.logit);
            sum >= mass
        });
        self.kept.truncate(end.map_or(self.kept.len(), |end| end + 1));
        end.is_some()
    }

    /// Keeps the tokens whose surprise is closest to the entropy, until their probabilities reach `share`.
    fn keep_typical(&mut self, scale: Scale, share: f32) {
        let weigh = |candidate: &Candidate| scale.weight(candidate.logit);
        let total: f64 = self.kept.iter().map(weigh).sum();
        let log_total = total.ln();
        let surprise = |candidate: &Candidate| log_total - f64::from(scale.log_weight(candidate.logit));
        let entropy = self.kept.iter().map(|candidate| weigh(candidate) * surprise(candidate)).sum::<f64>() / total;
        let distance = |candidate: &Candidate| (surprise(candidate) - entropy).abs() as f32;
        let end = end_of_mass(&mut self.scratch, self.kept.iter().copied(), scale, share, distance);
        self.kept.retain(|candidate| end.holds(candidate, distance));
    }
}

/// Where a cut by mass ends: the last token it keeps, by key and id.
#[derive(Debug, Clone, Copy)]
struct End {
    key: f32,
    id: u32,
}

impl End {
    fn holds(self, candidate: &Candidate, key: impl Fn(&Candidate) -> f32) -> bool {
        key(candidate).total_cmp(&self.key).then(candidate.id.cmp(&self.id)).is_le()
    }
}

/// How many tokens `top_p` looks at before it looks at all: as good as always enough for a model that has an opinion.
const FIRST_LOOK: usize = 256;

/// Bins of a cut by mass, and how many of them lie between two keys one apart.
const BINS: usize = 1024;
const BINS_PER_KEY: f32 = 32.0;

/// Finds the end of the smallest set of tokens with the smallest keys (0 or more, ties by id) that holds `share` of
/// the weights.
///
/// Sums the weights in bins of similar keys, and orders only the tokens of the bin in which the sum crosses the limit.
fn end_of_mass(
    scratch: &mut Vec<Candidate>,
    candidates: impl Iterator<Item = Candidate> + Clone,
    scale: Scale,
    share: f32,
    key: impl Fn(&Candidate) -> f32,
) -> End {
    // The last bin takes all larger keys.
    let bin_of = |candidate: &Candidate| ((key(candidate) * BINS_PER_KEY) as usize).min(BINS - 1);
    let mut bins = [0.0; BINS];
    for candidate in candidates.clone() {
        bins[bin_of(&candidate)] += scale.weight(candidate.logit);
    }
    let mass = f64::from(share) * bins.iter().sum::<f64>();
    let (mut sum, mut crossed) = (0.0, BINS - 1);
    for (bin, weight) in bins.iter().enumerate() {
        if sum + weight >= mass {
            crossed = bin;
            break;
        }
        sum += weight;
    }
    scratch.clear();
    scratch.extend(candidates.filter(|candidate| bin_of(candidate) == crossed));
    scratch.sort_unstable_by(|a, b| key(a).total_cmp(&key(b)).then(a.id.cmp(&b.id)));
    for candidate in &*scratch {
        sum += scale.weight(candidate.logit);
        if sum >= mass {
            return End { key: key(candidate), id: candidate.id };
        }
    }
    // Rounding left the limit just above the sum of the bin: all of it belongs to the set.
    scratch.last().map_or(End { key: f32::INFINITY, id: u32::MAX }, |last| End { key: key(last), id: last.id })
}

/// All tokens that are not masked, in the order of their ids.
fn candidates(logits: &[f32]) -> impl Iterator<Item = Candidate> + Clone {
    let all = (0_u32..).zip(logits).map(|(id, &logit)| Candidate { id, logit });
    all.filter(|candidate| candidate.logit > f32::NEG_INFINITY)
}

/// Falling logits, ties by id.
fn falling(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.id.cmp(&b.id))
}

/// As [`pick`] for a whole vocabulary: skips block by block.
fn pick_from_all(logits: &[f32], scale: Scale, target: f64) -> u32 {
    let (mut sum, mut last) = (0.0, 0..0);
    for (index, block) in logits.chunks(BLOCK).enumerate() {
        let total = scale.block_total(block);
        if total > 0.0 {
            last = index * BLOCK..index * BLOCK + block.len();
        }
        if sum + total > target {
            break;
        }
        sum += total;
    }
    let all = (0_u32..).zip(logits).map(|(id, &logit)| Candidate { id, logit });
    pick(all.skip(last.start).take(last.len()), scale, target - sum)
}

/// The first token at which the summed weights exceed `target`.
fn pick(candidates: impl Iterator<Item = Candidate>, scale: Scale, target: f64) -> u32 {
    let (mut sum, mut last) = (0.0, 0);
    for candidate in candidates {
        let weight = scale.weight(candidate.logit);
        sum += weight;
        if sum > target {
            return candidate.id;
        }
        // Rounding may leave the target just above the sum: then it was the last that can be drawn.
        last = if weight > 0.0 { candidate.id } else { last };
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition with full sorts in f64; none if a sum is too close to its limit to be compared at all.
    fn naive(logits: &[f32], params: &SamplingParams) -> Option<Vec<u32>> {
        let weight = |id: &usize| (f64::from(logits[*id]) / f64::from(params.temperature)).exp();
        let beginning = |order: &[usize], share: f32| {
            let mass = f64::from(share) * order.iter().map(weight).sum::<f64>();
            let (mut sum, mut kept) = (0.0, Vec::new());
            for &id in order {
                if (sum / mass - 1.0).abs() < 1e-5 {
                    return None;
                }
                if sum < mass || share >= 1.0 {
                    kept.push(id);
                }
                sum += weight(&id);
            }
            Some(kept)
        };
        let mut order: Vec<usize> = (0..logits.len()).filter(|&id| logits[id] > f32::NEG_INFINITY).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        if params.top_k > 0 {
            order.truncate(params.top_k as usize);
        }
        if params.top_p < 1.0 {
            order = beginning(&order, params.top_p)?;
        }
        let best = weight(order.first()?);
        if order.iter().any(|id| (weight(id) / best / f64::from(params.min_p) - 1.0).abs() < 1e-5) {
            return None;
        }
        order.retain(|id| weight(id) / best >= f64::from(params.min_p));
        if params.typical_p < 1.0 {
            let total: f64 = order.iter().map(weight).sum();
            let surprise = |id: &usize| -(weight(id) / total).ln();
            let entropy: f64 = order.iter().map(|id| weight(id) / total * surprise(id)).sum();
            order
                .sort_by(|a, b| (surprise(a) - entropy).abs().total_cmp(&(surprise(b) - entropy).abs()).then(a.cmp(b)));
            let close = |pair: &[usize]| {
                let distance = |id: &usize| (surprise(id) - entropy).abs();
                logits[pair[0]] != logits[pair[1]] && (distance(&pair[0]) - distance(&pair[1])).abs() < 1e-4
            };
            if order.windows(2).any(close) {
                return None;
            }
            order = beginning(&order, params.typical_p)?;
        }
        let mut ids: Vec<u32> = order.into_iter().map(|id| id as u32).collect();
        ids.sort_unstable();
        Some(ids)
    }

    fn logits() -> impl Strategy<Value = Vec<f32>> {
        let logit = prop_oneof![
            8 => -8.0_f32..8.0,
            2 => (-3_i32..3).prop_map(|x| x as f32),
            1 => Just(f32::NEG_INFINITY),
        ];
        prop::collection::vec(logit, 1..700)
    }

    proptest! {
        #[test]
        fn the_cuts_agree_with_the_naive_ones(
            logits in logits(),
            temperature in 0.3_f32..2.0,
            top_k in prop_oneof![Just(0_u32), 1_u32..800],
            top_p in prop_oneof![Just(1.0_f32), 0.01_f32..0.999],
            min_p in prop_oneof![Just(0.0_f32), 0.001_f32..0.99],
            typical_p in prop_oneof![Just(1.0_f32), 0.05_f32..0.99],
        ) {
            let params = SamplingParams { temperature, top_k, top_p, min_p, typical_p, ..SamplingParams::default() };
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            prop_assume!(max > f32::NEG_INFINITY);
            if let Some(expected) = naive(&logits, &params) {
                let mut survivors = Survivors::default();
                survivors.cut(&logits, Scale::new(max, temperature), &params);
                let found: Vec<u32> = survivors.kept.iter().map(|candidate| candidate.id).collect();
                prop_assert_eq!(found, expected);
            }
        }

        #[test]
        fn every_draw_is_a_survivor(
            logits in logits(),
            top_k in 1_u32..5,
            uniform in prop_oneof![Just(0.0), Just(1.0 - f64::EPSILON), 0.0_f64..1.0],
        ) {
            let params = SamplingParams { top_k, ..SamplingParams::default() };
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            prop_assume!(max > f32::NEG_INFINITY);
            let mut survivors = Survivors::default();
            let id = survivors.draw(&logits, max, &params, uniform);
            prop_assert!(survivors.kept.iter().any(|candidate| candidate.id == id));
            let all = survivors.draw(&logits, max, &SamplingParams::default(), uniform);
            prop_assert!(logits[all as usize] > f32::NEG_INFINITY);
        }
    }

    #[test]
    fn of_a_flat_distribution_top_p_keeps_the_first_half() {
        let params = SamplingParams { top_p: 0.5, ..SamplingParams::default() };
        let mut survivors = Survivors::default();
        survivors.cut(&vec![0.0; 5000], Scale::new(0.0, 1.0), &params);
        assert_eq!(survivors.kept.len(), 2500);
        assert_eq!(survivors.kept.last().map(|candidate| candidate.id), Some(2499));
    }

    #[test]
    fn of_equal_tokens_the_first_are_kept() {
        let params = SamplingParams { top_k: 2, ..SamplingParams::default() };
        let mut survivors = Survivors::default();
        survivors.cut(&[0.0, 1.0, 1.0, 1.0], Scale::new(1.0, 1.0), &params);
        assert_eq!(survivors.kept.iter().map(|candidate| candidate.id).collect::<Vec<_>>(), [1, 2]);
    }
}
