//! Scores of an indexer: which positions a token is to attend to.
//!
//! The keys of sixteen positions stand component by component (`kv_layout`), so that each lane sums one position's score,
//! over components and then over heads, in one order: a score depends on its own query and key alone.
//!
//! Source: DeepSeek-AI, "DeepSeek-V3.2", 2025, section 2.1, equation 1.

use super::TILE;
use super::float::{Bf16, Element, F16, F32, Float};
use super::kv_layout::KvView;
use super::lanes::{Form, Kernel, Lanes};
use std::ops::Range;

/// The queries of one token.
#[derive(Debug)]
pub struct IndexScores<'a> {
    /// The keys that they meet.
    pub kv: KvView<'a>,
    /// `[heads, head_dim]`.
    pub queries: &'a [f32],
    /// What the heads count, multiplied by the scale of the scores, `[heads]`.
    pub weights: &'a [f32],
    /// The positions; the first one begins a strip of sixteen.
    pub positions: Range<usize>,
    /// A score for each position, and room for those of the last strip that are beyond: these are overwritten.
    pub scores: &'a mut [f32],
}

impl IndexScores<'_> {
    /// Computes the scores: `sum over heads of weight * relu(query . key)`.
    ///
    /// # Panics
    /// If the table does not hold a position, the memory holds no such keys, or the slices are of other lengths.
    ///
    /// # Safety
    /// The keys of all positions have been written, and nobody writes them meanwhile.
    pub unsafe fn run(self, form: Form) {
        let dim = self.kv.layout.index_key();
        assert!(dim > 0 && self.queries.len() == self.weights.len() * dim, "queries of {dim} components");
        let places = self.positions.len().next_multiple_of(TILE);
        assert!(self.positions.start.is_multiple_of(TILE) && self.scores.len() == places, "{:?}", self.positions);
        match self.kv.layout.kind {
            Float::Bf16 => form.run(Run(self, Bf16)),
            Float::F16 => form.run(Run(self, F16)),
            Float::F32 => form.run(Run(self, F32)),
        }
    }
}

struct Run<'a, E>(IndexScores<'a>, E);

/// Heads, and strips, that are computed at a time.
const HEADS: usize = 4;
const STRIPS: usize = 2;

impl<E: Element> Kernel for Run<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let IndexScores { kv, queries, weights, positions, scores } = self.0;
        let dim = kv.layout.index_key();
        let before = TILE * kv.layout.head_dim * E::BYTES;
        for position in positions.clone().step_by(STRIPS * TILE) {
            // A strip beyond the positions is one of theirs instead; what it gives is not kept.
            let mut strips = [std::ptr::null_mut::<u8>(); STRIPS];
            let mut kept = 0;
            for s in 0..STRIPS {
                let at = position + s * TILE;
                kept += usize::from(at < positions.end);
                strips[s] = kv.strip(if at < positions.end { at } else { position }, 0).add(before);
            }
            let mut sums = [L::splat(0.0); STRIPS];
            let mut head = 0;
            while head + HEADS <= weights.len() {
                add_heads::<L, E, HEADS>(dim, &strips, queries, weights, head, &mut sums);
                head += HEADS;
            }
            while head < weights.len() {
                add_heads::<L, E, 1>(dim, &strips, queries, weights, head, &mut sums);
                head += 1;
            }
            for s in 0..kept {
                L::store(scores.as_mut_ptr().add(position - positions.start + s * TILE), sums[s]);
            }
        }
    }
}

/// Adds what `M` heads from `head` on give.
#[inline(always)]
unsafe fn add_heads<L: Lanes, E: Element, const M: usize>(
    dim: usize,
    strips: &[*mut u8; STRIPS],
    queries: &[f32],
    weights: &[f32],
    head: usize,
    sums: &mut [L::F; STRIPS],
) {
    let queries = queries.as_ptr().add(head * dim);
    let mut products = [[L::splat(0.0); STRIPS]; M];
    for i in 0..dim {
        let mut keys = [L::splat(0.0); STRIPS];
        for s in 0..STRIPS {
            keys[s] = E::load::<L>(strips[s].add(i * TILE * E::BYTES));
        }
        for m in 0..M {
            let query = L::splat(queries.add(m * dim + i).read());
            for s in 0..STRIPS {
                products[m][s] = L::fma(keys[s], query, products[m][s]);
            }
        }
    }
    for m in 0..M {
        let weight = L::splat(weights[head + m]);
        for s in 0..STRIPS {
            // In this order a NaN passes.
            sums[s] = L::fma(L::max(L::splat(0.0), products[m][s]), weight, sums[s]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kv_layout::{KvContent, KvLayout};
    use super::*;

    const DIM: usize = 24;

    fn number(seed: usize) -> f32 {
        let bits = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        bits as f32 / (1 << 23) as f32 - 1.0
    }

    fn key(position: usize) -> Vec<f32> {
        // Whole 64ths: every type holds them.
        (0..DIM).map(|i| (number(position * DIM + i) * 64.0).round() / 64.0).collect()
    }

    fn run(form: Form, kind: Float, heads: usize, positions: Range<usize>) -> Vec<f32> {
        let content = KvContent::Latents { index_key: DIM };
        let layout = KvLayout { content, kind, codes: None, kv_heads: 1, head_dim: 32, spans: 32.into() };
        let mut memory = vec![0xff; 8 * layout.block_bytes()];
        let view = KvView { layout, memory: memory.as_mut_ptr(), table: &[5, 1, 7] };
        for position in 0..positions.end {
            // SAFETY: the memory is the test's own. Latents beside the keys must not touch them.
            unsafe {
                view.write_index_key(position, &key(position));
                view.write_latent(position, 0, &[9.0; 32]);
            }
        }
        let (queries, weights) = queries(heads);
        let mut scores = vec![f32::NAN; positions.len().next_multiple_of(TILE)];
        let count = positions.len();
        let scoring = IndexScores { kv: view, queries: &queries, weights: &weights, positions, scores: &mut scores };
        // SAFETY: everything is the test's own.
        unsafe { scoring.run(form) };
        scores[..count].to_vec()
    }

    fn queries(heads: usize) -> (Vec<f32>, Vec<f32>) {
        ((0..heads * DIM).map(|i| number(50_000 + i)).collect(), (0..heads).map(|head| number(90_000 + head)).collect())
    }

    fn exact(heads: usize, position: usize) -> f64 {
        let (queries, weights) = queries(heads);
        let product =
            |query: &[f32]| -> f64 { query.iter().zip(key(position)).map(|(q, k)| f64::from(*q) * f64::from(k)).sum() };
        queries.chunks(DIM).zip(&weights).map(|(query, weight)| f64::from(*weight) * product(query).max(0.0)).sum()
    }

    #[test]
    fn scores_are_exact_in_every_form_and_type() {
        for heads in [1, 4, 7] {
            let mut reference = None;
            for form in Form::available().into_iter().rev() {
                for kind in [Float::F32, Float::F16, Float::Bf16] {
                    let scores = run(form, kind, heads, 0..77);
                    for (position, score) in scores.iter().enumerate() {
                        let exact = exact(heads, position);
                        assert!((f64::from(*score) - exact).abs() < 1e-5, "{form:?} {kind:?} {heads}: {score} {exact}");
                    }
                    assert!(*reference.get_or_insert_with(|| scores.clone()) == scores, "{form:?} {kind:?}");
                }
            }
        }
    }

    #[test]
    fn a_score_does_not_depend_on_the_other_positions() {
        let all = run(Form::best(), Float::F16, 7, 0..77);
        for part in [0..1, 16..20, 32..77, 64..77, 48..64] {
            assert!(run(Form::best(), Float::F16, 7, part.clone()) == all[part.clone()], "{part:?}");
        }
    }
}
