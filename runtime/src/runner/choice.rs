//! Which positions a token attends to, by the scores of an indexer.

/// Fills `chosen` with the positions of the largest scores, ascending. Of equal scores the lower position is better.
///
/// A threshold is found digit by digit, in passes over the scores that write nothing: scores of a long context are many,
/// and the order of the chosen is that of their positions, not of their scores. Zeros of either sign are equal; what is no
/// number is beyond infinity of its sign.
///
/// # Panics
/// If there are fewer scores than `chosen` has room for.
pub(super) fn choose_positions(scores: &[f32], chosen: &mut [u32]) {
    assert!(chosen.len() <= scores.len(), "{} of {} positions", chosen.len(), scores.len());
    if chosen.is_empty() {
        return;
    }
    // The digits of the threshold that are known, and how many of the scores that begin with them are to be chosen.
    let (mut known, mut wanted) = (0_u32, chosen.len());
    for digit in (0..u32::BITS / DIGIT_BITS).rev() {
        let shift = digit * DIGIT_BITS;
        let mut counts = [0; DIGITS];
        for &score in scores {
            let key = key(score);
            // As wide digits as are known have to agree; a shift by all bits leaves none.
            if key.checked_shr(shift + DIGIT_BITS).unwrap_or(0) == known {
                counts[(key >> shift) as usize % DIGITS] += 1;
            }
        }
        let mut at = DIGITS - 1;
        while counts[at] < wanted {
            wanted -= counts[at];
            at -= 1;
        }
        known = known << DIGIT_BITS | at as u32;
    }
    let mut filled = 0;
    for (position, &score) in scores.iter().enumerate() {
        let key = key(score);
        if key < known || key == known && wanted == 0 {
            continue;
        }
        wanted -= usize::from(key == known);
        chosen[filled] = position as u32;
        filled += 1;
    }
}

/// Bits of a digit, and how many digits there are of them.
const DIGIT_BITS: u32 = 8;
const DIGITS: usize = 1 << DIGIT_BITS;

/// A number that is ordered as the score is.
fn key(score: f32) -> u32 {
    // A negative zero becomes a positive one.
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chosen(scores: &[f32], count: usize) -> Vec<u32> {
        let mut chosen = vec![u32::MAX; count];
        choose_positions(scores, &mut chosen);
        chosen
    }

    #[test]
    fn the_best_come_in_the_order_of_their_positions() {
        assert_eq!(chosen(&[0.5, -3.0, 2.0, 1.0, -1e-9, 1e9], 3), [2, 3, 5]);
        assert_eq!(chosen(&[-1.0, -3.0, -2.0, f32::NEG_INFINITY], 2), [0, 2]);
        assert_eq!(chosen(&[1.0, 2.0], 0), [0; 0]);
    }

    #[test]
    fn of_equal_scores_the_lower_positions_are_chosen() {
        assert_eq!(chosen(&[0.0, 1.0, 0.0, -0.0, 0.0, 1.0], 4), [0, 1, 2, 5]);
        // A negative zero is no worse than a positive one.
        assert_eq!(chosen(&[-0.0, 0.0, 0.0, -1.0], 2), [0, 1]);
        assert_eq!(chosen(&[7.0; 5], 3), [0, 1, 2]);
    }

    #[test]
    fn all_are_chosen_where_there_are_not_more() {
        assert_eq!(chosen(&[3.0, f32::NAN, -1.0], 3), [0, 1, 2]);
    }

    proptest! {
        #[test]
        fn the_choice_is_that_of_a_stable_sort(
            scores in prop::collection::vec(prop_oneof![any::<f32>(), (-3_i8..3).prop_map(f32::from)], 1..200),
            part in 0.0..1.0,
        ) {
            let scores: Vec<f32> = scores.into_iter().map(|x| if x.is_nan() { 0.0 } else { x }).collect();
            let count = (scores.len() as f64 * part) as usize;
            let mut sorted: Vec<u32> = (0..scores.len() as u32).collect();
            sorted.sort_by(|&a, &b| scores[b as usize].partial_cmp(&scores[a as usize]).unwrap());
            let mut best = sorted[..count].to_vec();
            best.sort_unstable();
            prop_assert_eq!(chosen(&scores, count), best);
        }
    }
}
