//! Attention over paged latents: all heads of all queries share one key per position, whose first components are the value
//! too.
//!
//! Queries have taken the projection from latents to keys into themselves, and results are mixes of latents: nothing is
//! expanded. Scores become weights in the segments of `attention`, so that a result depends on its own sequence alone.
//! Where positions are chosen, a segment is made of those that follow each other in the choice.
//!
//! Source: DeepSeek-AI, "DeepSeek-V2", 2024, section 2.1.3; "DeepSeek-V3.2", 2025, section 2.1, for chosen positions.

use super::TILE;
use super::attention::{Query, SEGMENT, Segment, Softmax, Together, add_values, run_together};
use super::float::Element;
use super::kv_layout::KvView;
use super::lanes::{Form, Lanes};

/// Queries of one sequence.
#[derive(Debug, Clone, Copy)]
pub struct LatentAttention<'a> {
    /// The latents that they attend to.
    pub kv: KvView<'a>,
    /// Components of a latent that make up the value, a multiple of 16.
    pub values: usize,
    /// The positions that they attend to, ascending; `None`: all up to each one's own.
    pub chosen: Option<&'a [u32]>,
    /// The queries.
    pub queries: &'a [Query],
}

impl LatentAttention<'_> {
    /// Computes it: the first `values` components of each result.
    ///
    /// # Panics
    /// If the table does not hold a position that a query sees, or the memory holds no latents.
    ///
    /// # Safety
    /// The queries are readable and the results writable; all positions that are seen have been
    /// written, and nobody writes them meanwhile.
    pub unsafe fn run(&self, form: Form) {
        let layout = &self.kv.layout;
        assert!(layout.holds_latents(), "{layout:?}");
        assert!(self.values <= layout.head_dim && self.values.is_multiple_of(TILE), "values of {}", self.values);
        assert!(self.chosen.is_none_or(|chosen| !chosen.is_empty()), "no position to attend to");
        run_together(form, layout.kind, self, self.queries);
    }
}

impl Together for &LatentAttention<'_> {
    #[inline(always)]
    unsafe fn attend<L: Lanes, E: Element, const M: usize, const AT: usize>(self, queries: &[Query; M]) {
        match self.chosen {
            None => attend::<L, E, M, AT>(self, queries),
            Some(chosen) => attend_chosen::<L, E, M, AT>(self, chosen, queries),
        }
    }
}

/// Where the latents of a segment stand.
trait Rows {
    /// The latent `at`, counted over all segments.
    unsafe fn row(&self, at: usize) -> *const u8;
}

/// Latents one after the other, in strips.
struct Strips<'a> {
    segment: &'a Segment,
    row_bytes: usize,
}

impl Rows for Strips<'_> {
    #[inline(always)]
    unsafe fn row(&self, at: usize) -> *const u8 {
        self.segment.strip(at).add(at % TILE * self.row_bytes)
    }
}

/// Chosen latents, which stand anywhere.
struct Gathered {
    /// The first one's number.
    start: usize,
    rows: [*const u8; SEGMENT],
    /// Those of the segment behind it.
    ahead: [*const u8; SEGMENT],
}

impl Gathered {
    /// Those of a segment; in place of what is behind the last one stands the last one.
    #[inline(always)]
    fn rows(kv: &KvView<'_>, chosen: &[u32], start: usize) -> [*const u8; SEGMENT] {
        let row_bytes = kv.layout.head_dim * kv.layout.kind.bytes();
        let mut rows = [std::ptr::null(); SEGMENT];
        for i in 0..SEGMENT {
            let at = if start + i < chosen.len() { start + i } else { chosen.len() - 1 };
            let position = chosen[at] as usize;
            rows[i] = kv.strip(position, 0).wrapping_add(position % TILE * row_bytes).cast_const();
        }
        rows
    }
}

impl Rows for Gathered {
    #[inline(always)]
    unsafe fn row(&self, at: usize) -> *const u8 {
        self.rows[at - self.start]
    }
}

/// `M` queries; `AT` positions, or vectors of values, at a time.
#[inline(always)]
unsafe fn attend<L: Lanes, E: Element, const M: usize, const AT: usize>(
    attention: &LatentAttention<'_>,
    queries: &[Query; M],
) {
    let (dim, values) = (attention.kv.layout.head_dim, attention.values);
    let last = queries.iter().fold(0, |last, query| if query.position > last { query.position } else { last });
    let mut weights = [[0.0_f32; SEGMENT]; M];
    let mut softmax = Softmax::<L, M>::new();
    for query in queries {
        for i in (0..values).step_by(TILE) {
            L::store(query.out.add(i), L::splat(0.0));
        }
    }
    for start in (0..=last).step_by(SEGMENT) {
        let range = start..if last + 1 < start + SEGMENT { last + 1 } else { start + SEGMENT };
        let segment = Segment::at(&attention.kv, start, last + 1);
        let rows = Strips { segment: &segment, row_bytes: dim * E::BYTES };
        scores::<L, E, M, AT>(dim, queries, range.clone(), start, &rows, &mut weights);
        let shrink = softmax.weigh(start, |m: usize| 0..queries[m].position + 1, &mut weights);
        let mut i = 0;
        while i + AT * TILE <= values {
            add_values::<L, E, M, AT>([0, dim], queries, range.clone(), &segment, &weights, &shrink, i);
            i += AT * TILE;
        }
        while i < values {
            add_values::<L, E, M, 1>([0, dim], queries, range.clone(), &segment, &weights, &shrink, i);
            i += TILE;
        }
    }
    softmax.divide(queries, values);
}

/// The same over the positions that were chosen for all of the queries.
#[inline(always)]
unsafe fn attend_chosen<L: Lanes, E: Element, const M: usize, const AT: usize>(
    attention: &LatentAttention<'_>,
    chosen: &[u32],
    queries: &[Query; M],
) {
    let (dim, values) = (attention.kv.layout.head_dim, attention.values);
    let mut weights = [[0.0_f32; SEGMENT]; M];
    let mut softmax = Softmax::<L, M>::new();
    for query in queries {
        for i in (0..values).step_by(TILE) {
            L::store(query.out.add(i), L::splat(0.0));
        }
    }
    let mut ahead = Gathered::rows(&attention.kv, chosen, 0);
    for start in (0..chosen.len()).step_by(SEGMENT) {
        let rows = Gathered { start, rows: ahead, ahead: Gathered::rows(&attention.kv, chosen, start + SEGMENT) };
        ahead = rows.ahead;
        let end = if chosen.len() < start + SEGMENT { chosen.len() } else { start + SEGMENT };
        scores::<L, E, M, AT>(dim, queries, start..end, start, &rows, &mut weights);
        let shrink = softmax.weigh(start, |_| 0..chosen.len(), &mut weights);
        let mut i = 0;
        while i + AT * TILE <= values {
            add_gathered::<L, E, M, AT>(queries, end - start, &rows, &weights, &shrink, i);
            i += AT * TILE;
        }
        while i < values {
            add_gathered::<L, E, M, 1>(queries, end - start, &rows, &weights, &shrink, i);
            i += TILE;
        }
    }
    softmax.divide(queries, values);
}

/// Adds the weighted values of the first `count` latents of a segment to the components from `i` on.
#[inline(always)]
unsafe fn add_gathered<L: Lanes, E: Element, const M: usize, const AT: usize>(
    queries: &[Query; M],
    count: usize,
    rows: &Gathered,
    weights: &[[f32; SEGMENT]; M],
    shrink: &[f32; M],
    i: usize,
) {
    let mut sums = [[L::splat(0.0); AT]; M];
    for m in 0..M {
        for a in 0..AT {
            sums[m][a] = L::mul(L::load(queries[m].out.add(i + a * TILE)), L::splat(shrink[m]));
        }
    }
    for t in 0..count {
        let (row, ahead) = (rows.rows.as_ptr().add(t).read(), rows.ahead.as_ptr().add(t).read());
        for a in 0..AT {
            let values = E::load::<L>(row.add((i + a * TILE) * E::BYTES));
            // The latents of the next segment.
            L::prefetch(ahead.wrapping_add((i + a * TILE) * E::BYTES));
            for m in 0..M {
                sums[m][a] = L::fma(values, L::splat(weights[m].as_ptr().add(t).read()), sums[m][a]);
            }
        }
    }
    for m in 0..M {
        for a in 0..AT {
            L::store(queries[m].out.add(i + a * TILE), sums[m][a]);
        }
    }
}

/// Scores of the positions `range` of a segment that begins at `start`.
#[inline(always)]
unsafe fn scores<L: Lanes, E: Element, const M: usize, const AT: usize>(
    dim: usize,
    queries: &[Query; M],
    range: std::ops::Range<usize>,
    start: usize,
    latents: &impl Rows,
    scores: &mut [[f32; SEGMENT]; M],
) {
    let mut position = range.start;
    while position < range.end {
        // A position beyond the range is one of the range instead; what it gives is not kept.
        let mut rows = [std::ptr::null::<u8>(); AT];
        for a in 0..AT {
            let at = if position + a < range.end { position + a } else { position };
            rows[a] = latents.row(at);
        }
        let mut sums = [[L::splat(0.0); AT]; M];
        for i in (0..dim).step_by(TILE) {
            for a in 0..AT {
                let keys = E::load::<L>(rows[a].add(i * E::BYTES));
                for m in 0..M {
                    sums[m][a] = L::fma(keys, L::load(queries[m].q.add(i)), sums[m][a]);
                }
            }
        }
        for m in 0..M {
            for a in 0..AT {
                if position + a < range.end {
                    scores[m][position - start + a] = L::sum(sums[m][a]);
                }
            }
        }
        position += AT;
    }
}

#[cfg(test)]
mod tests {
    use super::super::float::Float;
    use super::super::kv_layout::{KvContent, KvLayout};
    use super::*;

    const DIM: usize = 48;
    const VALUES: usize = 32;

    fn number(seed: usize) -> f32 {
        let bits = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        bits as f32 / (1 << 23) as f32 - 1.0
    }

    fn latent(position: usize) -> Vec<f32> {
        // Whole 64ths: every type holds them.
        (0..DIM).map(|i| (number(position * DIM + i) * 64.0).round() / 64.0).collect()
    }

    fn exact(query: &[f32], positions: &[u32]) -> Vec<f64> {
        let score = |at: usize| latent(at).iter().zip(query).map(|(k, q)| f64::from(*k) * f64::from(*q)).sum::<f64>();
        let scores: Vec<f64> = positions.iter().map(|&at| score(at as usize)).collect();
        let most = scores.iter().copied().fold(f64::MIN, f64::max);
        let total: f64 = scores.iter().map(|score| (score - most).exp()).sum();
        let mut out = vec![0.0; VALUES];
        for (&at, score) in positions.iter().zip(&scores) {
            let weight = (score - most).exp() / total;
            out.iter_mut().zip(latent(at as usize)).for_each(|(out, value)| *out += weight * f64::from(value));
        }
        out
    }

    /// Results of queries at the positions given, or of what was chosen for all of them, computed together.
    fn run(form: Form, kind: Float, positions: &[usize], chosen: Option<&[u32]>) -> Vec<Vec<f32>> {
        // Keys of an indexer stand between the strips.
        let content = KvContent::Latents { index_key: 8 };
        let layout = KvLayout { content, kind, codes: None, kv_heads: 1, head_dim: DIM, spans: 32.into() };
        let mut memory = vec![0xff; 8 * layout.block_bytes()];
        let view = KvView { layout, memory: memory.as_mut_ptr(), table: &[5, 1, 7, 0, 3, 2] };
        for position in 0..=positions.iter().copied().max().unwrap() {
            // SAFETY: the memory is the test's own.
            unsafe { view.write_latent(position, 0, &latent(position)) };
        }
        let queries: Vec<Vec<f32>> = (0..positions.len()).map(query).collect();
        let mut results = vec![vec![f32::NAN; DIM]; positions.len()];
        let list: Vec<Query> = queries
            .iter()
            .zip(&mut results)
            .zip(positions)
            .map(|((q, out), &position)| Query { q: q.as_ptr(), position, out: out.as_mut_ptr() })
            .collect();
        // SAFETY: everything is the test's own.
        unsafe { LatentAttention { kv: view, values: VALUES, chosen, queries: &list }.run(form) };
        results.into_iter().map(|result| result[..VALUES].to_vec()).collect()
    }

    fn query(number_of: usize) -> Vec<f32> {
        (0..DIM).map(|i| number(100_000 + number_of * DIM + i)).collect()
    }

    #[test]
    fn results_are_exact_in_every_form_and_type() {
        let positions = [0, 1, 15, 63, 64, 100, 170];
        let mut reference = None;
        for form in Form::available().into_iter().rev() {
            for kind in [Float::F32, Float::F16, Float::Bf16] {
                let results = run(form, kind, &positions, None);
                for (i, result) in results.iter().enumerate() {
                    let seen: Vec<u32> = (0..=positions[i] as u32).collect();
                    for (got, exact) in result.iter().zip(exact(&query(i), &seen)) {
                        assert!((f64::from(*got) - exact).abs() < 1e-5, "{form:?} {kind:?} {i}: {got} {exact}");
                    }
                }
                assert!(*reference.get_or_insert_with(|| results.clone()) == results, "{form:?} {kind:?}");
            }
        }
    }

    #[test]
    fn chosen_positions_are_all_that_is_seen_in_every_form_and_type() {
        let choices: [Vec<u32>; 4] =
            [vec![17], vec![0, 170], (0..171).filter(|at| at % 3 != 1).collect(), (40..104).collect()];
        for chosen in choices {
            let mut reference = None;
            for form in Form::available().into_iter().rev() {
                for kind in [Float::F32, Float::F16, Float::Bf16] {
                    let results = run(form, kind, &[170; 7], Some(&chosen));
                    for (i, result) in results.iter().enumerate() {
                        for (got, exact) in result.iter().zip(exact(&query(i), &chosen)) {
                            assert!((f64::from(*got) - exact).abs() < 1e-5, "{form:?} {kind:?} {i}: {got} {exact}");
                        }
                    }
                    assert!(*reference.get_or_insert_with(|| results.clone()) == results, "{form:?} {kind:?}");
                    let fewer = run(form, kind, &[170; 3], Some(&chosen));
                    assert!(fewer[..] == results[..3], "{form:?} {kind:?}");
                }
            }
        }
    }

    #[test]
    fn a_result_does_not_depend_on_the_other_queries() {
        let positions = [170, 3, 64, 100, 9, 17, 33];
        let together = run(Form::best(), Float::F16, &positions, None);
        for count in 1..positions.len() {
            let fewer = run(Form::best(), Float::F16, &positions[..count], None);
            assert!(fewer[..] == together[..count], "{count}");
        }
    }
}
