//! Which experts a token gets, and how much each counts.

use crate::model::{ExpertGroups, RouterSpec, Scoring};

/// An expert of a token.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Choice {
    /// Its number.
    pub(super) expert: u32,
    /// What its output is multiplied by.
    pub(super) weight: f32,
}

/// Chooses experts by a router's logits, `[experts]`, which become scores. Fills `chosen`, `[top_k]`, the best first; of
/// equal ones the first is better. `room`, `[experts]`, is overwritten.
///
/// Logits that are no numbers lead to weights that are none: results show them.
pub(super) fn choose(
    spec: &RouterSpec,
    correction: Option<&[f32]>,
    logits: &mut [f32],
    room: &mut [f32],
    chosen: &mut [Choice],
) {
    let scores = logits;
    match spec.scoring {
        Scoring::Softmax => softmax(scores),
        Scoring::Sigmoid => scores.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
    }
    room.copy_from_slice(scores);
    if let Some(correction) = correction {
        room.iter_mut().zip(correction).for_each(|(x, correction)| *x += correction);
    }
    if let Some(groups) = spec.groups {
        keep_groups(groups, room);
    }
    let mut sum = 0.0;
    for choice in chosen.iter_mut() {
        let best = largest(room);
        room[best] = f32::NEG_INFINITY;
        *choice = Choice { expert: best as u32, weight: scores[best] };
        sum += scores[best];
    }
    // A chosen expert's score can be nothing but tiny in a sigmoid; the references add this much to the sum.
    let factor = spec.scale as f32 / if spec.normalized { sum + 1e-20 } else { 1.0 };
    chosen.iter_mut().for_each(|choice| choice.weight *= factor);
}

fn softmax(x: &mut [f32]) {
    let most = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    x.iter_mut().for_each(|x| *x = (*x - most).exp());
    let sum: f32 = x.iter().sum();
    x.iter_mut().for_each(|x| *x /= sum);
}

/// Rules out all experts but those of the best groups.
fn keep_groups(groups: ExpertGroups, scores: &mut [f32]) {
    let size = scores.len() / groups.count;
    let score = |group: &[f32]| {
        let (mut first, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
        for &x in group {
            if x > first {
                (first, second) = (x, first);
            } else if x > second {
                second = x;
            }
        }
        first + second
    };
    for _ in groups.kept..groups.count {
        // Of equal groups the first is kept. Those that are ruled out score minus infinity.
        let worst = scores
            .chunks_exact(size)
            .enumerate()
            .map(|(number, group)| (number, score(group)))
            .filter(|(_, score)| *score > f32::NEG_INFINITY)
            .min_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
        let Some((worst, _)) = worst else { return };
        scores[worst * size..(worst + 1) * size].fill(f32::NEG_INFINITY);
    }
}

/// Where the largest is, the first of equal ones.
fn largest(x: &[f32]) -> usize {
    let mut best = 0;
    for (i, value) in x.iter().enumerate() {
        if *value > x[best] {
            best = i;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(scoring: Scoring) -> RouterSpec {
        RouterSpec { experts: 6, top_k: 2, scoring, correction: false, groups: None, normalized: false, scale: 1.0 }
    }

    fn run(spec: &RouterSpec, correction: Option<&[f32]>, logits: &[f32]) -> Vec<(u32, f32)> {
        let (mut logits, mut room) = (logits.to_vec(), vec![0.0; logits.len()]);
        let mut chosen = vec![Choice::default(); spec.top_k];
        choose(spec, correction, &mut logits, &mut room, &mut chosen);
        chosen.into_iter().map(|choice| (choice.expert, choice.weight)).collect()
    }

    #[test]
    fn a_softmax_router_takes_the_best_with_their_part_of_all() {
        let logits = [0.0, 2.0_f32.ln(), 0.0, 5.0_f32.ln(), 0.0, 0.0];
        let chosen = run(&spec(Scoring::Softmax), None, &logits);
        assert_eq!(chosen.iter().map(|of| of.0).collect::<Vec<_>>(), [3, 1]);
        assert!((chosen[0].1 - 5.0 / 11.0).abs() < 1e-6 && (chosen[1].1 - 2.0 / 11.0).abs() < 1e-6, "{chosen:?}");

        let normalized = RouterSpec { normalized: true, scale: 2.0, ..spec(Scoring::Softmax) };
        let chosen = run(&normalized, None, &logits);
        assert!((chosen[0].1 - 10.0 / 7.0).abs() < 1e-6 && (chosen[1].1 - 4.0 / 7.0).abs() < 1e-6, "{chosen:?}");
    }

    #[test]
    fn the_correction_chooses_but_does_not_weigh() {
        let chosen =
            run(&spec(Scoring::Sigmoid), Some(&[0.0, 0.0, 0.0, 0.0, 0.0, 9.0]), &[0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(chosen[0], (5, 0.5));
        assert_eq!(chosen[1].0, 1);
    }

    #[test]
    fn experts_of_lesser_groups_are_out_even_where_all_others_are_negative() {
        // Groups of two: sums 0.8, 0.95 and -8 with the correction.
        let correction = [-0.6, -0.6, 0.0, 0.0, -5.0, -5.0];
        let spec = RouterSpec { groups: Some(ExpertGroups { count: 3, kept: 1 }), ..spec(Scoring::Sigmoid) };
        let chosen = run(&spec, Some(&correction), &[9.0, 9.0, 3.0, -9.0, 9.0, 9.0]);
        assert_eq!(chosen.iter().map(|of| of.0).collect::<Vec<_>>(), [2, 3]);
        let chosen = run(&spec, Some(&correction), &[-9.0, -9.0, -9.0, -9.0, -9.0, -9.0]);
        assert_eq!(chosen.iter().map(|of| of.0).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn what_is_no_number_chooses_something_and_shows() {
        let chosen = run(&spec(Scoring::Softmax), None, &[f32::NAN; 6]);
        assert!(chosen.iter().all(|of| of.0 < 6 && of.1.is_nan()), "{chosen:?}");
    }
}
