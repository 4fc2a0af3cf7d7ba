//! How the texts of a batch are divided among threads.
//!
//! Texts have nothing to do with each other, so a thread can take some of them through all layers by itself: what it writes
//! for the next stage is still in its caches then, and it waits for nobody. That needs texts enough for all threads.

use crate::runner::EncodeRow;
use std::ops::Range;

/// Tokens that a thread takes through the layers at a time. More of them read the weights less often, fewer leave room for
/// everything else in the second-level cache.
const GROUP_TOKENS: usize = 128;
/// With fewer in a group too much of the time goes to reading the weights.
const LEAST_TOKENS: usize = 48;
/// The least part of the threads' time that must be put to use.
const LEAST_USE: f64 = 0.8;

/// Divides texts into groups that `threads` threads take one after the other; `None` if they had better compute every stage
/// together.
pub(super) fn divide(rows: &[EncodeRow<'_>], threads: usize) -> Option<Vec<Range<usize>>> {
    let total: usize = rows.iter().map(|row| row.tokens.len()).sum();
    if threads == 1 || rows.len() < threads || total < threads * LEAST_TOKENS {
        return None;
    }
    std::sync::LazyLock::new(|| std::env::var("XG_G").ok().and_then(|g| g.parse().ok()).unwrap_or(GROUP_TOKENS));
    // The same number for each thread, so that they end together.
    let count = threads * total.div_ceil(threads * GROUP_TOKENS);
    let (mut groups, mut first, mut tokens) = (Vec::with_capacity(count), 0, 0);
    for (number, row) in rows.iter().enumerate() {
        tokens += row.tokens.len();
        // Where the end of a group of the mean size comes before the middle of the next text.
        let next = rows.get(number + 1).map_or(0, |row| row.tokens.len());
        if number + 1 == rows.len() || (2 * tokens + next) * count > 2 * total * (groups.len() + 1) {
            groups.push(first..number + 1);
            first = number + 1;
        }
    }
    let mut busy = vec![0_usize; threads];
    for group in &groups {
        let least = busy.iter_mut().min().expect("there are threads");
        *least += rows[group.clone()].iter().map(|row| row.tokens.len()).sum::<usize>();
    }
    let longest = busy.into_iter().max().expect("there are threads");
    (total as f64 >= LEAST_USE * (threads * longest) as f64).then_some(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(lengths: &[usize], threads: usize) -> Option<Vec<usize>> {
        let tokens = vec![0; 1024];
        let rows: Vec<_> = lengths
            .iter()
            .map(|&length| EncodeRow { tokens: &tokens[..length], first_segment: length, marks: &[] })
            .collect();
        let groups = divide(&rows, threads)?;
        let mut next = 0;
        for group in &groups {
            assert_eq!(group.start, next);
            assert!(!group.is_empty());
            next = group.end;
        }
        assert_eq!(next, lengths.len());
        Some(groups.iter().map(|group| lengths[group.clone()].iter().sum()).collect())
    }

    #[test]
    fn texts_of_one_length_are_divided_evenly() {
        assert_eq!(groups(&[16; 32], 2), Some(vec![128; 4]));
        assert_eq!(groups(&[16; 20], 2), Some(vec![80; 4]));
        assert_eq!(groups(&[256; 4], 2), Some(vec![256; 4]));
    }

    #[test]
    fn a_long_text_or_too_few_are_left_to_all_threads_together() {
        assert_eq!(groups(&[512], 2), None);
        assert_eq!(groups(&[16, 16, 16], 2), None);
        assert_eq!(groups(&[512, 16, 16, 16, 16], 2), None);
        assert_eq!(groups(&[100, 100, 100], 2), None);
        assert_eq!(groups(&[512; 3], 1), None);
    }

    #[test]
    fn long_texts_come_with_short_ones_beside_them() {
        let groups = groups(&[200, 100, 30, 30, 20, 20, 10, 10, 10, 10], 2).unwrap();
        assert_eq!(groups.iter().sum::<usize>(), 440);
        assert!(groups.len() >= 2 && groups[0] == 200, "{groups:?}");
    }
}
