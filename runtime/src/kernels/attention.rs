//! Attention over paged keys and values.
//!
//! Queries that share a key head pass over the strips of keys and values (`kv_layout`) together. Strips of floats and of
//! codes may follow each other in one sequence.
//!
//! Scores are turned into weights segment by segment: four strips, counted from position 0, so that the result of a
//! query depends on its own sequence alone, not on the chunk or the batch in which it is computed.
//!
//! Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al., "FlashAttention",
//! 2022; Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention", 2023.

use super::TILE;
use super::coded::{Coded, MAX_KV_GROUPS};
use super::float::{Bf16, Element, F16, F32, Float};
use super::kv_layout::KvView;
use super::lanes::{Form, Kernel, Lanes};
use super::math;

/// Positions whose scores become weights together.
pub(super) const SEGMENT: usize = STRIPS * TILE;
/// Strips of a segment.
const STRIPS: usize = 4;
/// Queries that pass over the keys together.
pub const QUERIES: usize = 4;

/// A query, and where its result goes.
#[derive(Debug, Clone, Copy)]
pub struct Query {
    /// `[head_dim]`, multiplied by the scale of the scores.
    pub q: *const f32,
    /// Its own position, which it sees.
    pub position: usize,
    /// `[head_dim]`.
    pub out: *mut f32,
}

/// The positions that a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Its own and those before it.
    Before {
        /// How many of them, its own included; `None`: all.
        window: Option<usize>,
    },
    /// Those on both sides of it.
    Around {
        /// The end of its sequence.
        end: usize,
        /// How far it sees on either side; `None`: everything.
        reach: Option<usize>,
    },
}

impl Seen {
    /// By a query at `position`.
    pub(super) fn from(self, position: usize) -> std::ops::Range<usize> {
        match self {
            Self::Before { window } => window.map_or(0, |window| (position + 1).saturating_sub(window))..position + 1,
            Self::Around { end, reach: None } => 0..end,
            Self::Around { end, reach: Some(reach) } => {
                position.saturating_sub(reach)..end.min(position.saturating_add(reach + 1))
            }
        }
    }
}

/// Queries of one sequence that share a key head.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// What they attend to.
    pub kv: KvView<'a>,
    /// Their key head.
    pub kv_head: usize,
    /// Which positions a query sees.
    pub seen: Seen,
    /// The queries; [`QUERIES`] of them at a time go over the keys together.
    pub queries: &'a [Query],
}

impl Attention<'_> {
    /// Computes it.
    ///
    /// # Panics
    /// If the table does not hold a position that a query sees, or the layout has no such key head or sizes that the kernels
    /// cannot read.
    ///
    /// # Safety
    /// The queries are readable and the results writable; all positions that are seen have been
    /// written, and nobody writes them meanwhile.
    pub unsafe fn run(&self, form: Form) {
        let layout = &self.kv.layout;
        assert!(
            layout.holds_keys_and_values() && self.kv_head < layout.kv_heads,
            "key head {} of {layout:?}",
            self.kv_head
        );
        assert!(layout.codes.is_none_or(|codes| layout.head_dim / codes.group <= MAX_KV_GROUPS), "{layout:?}");
        run_together(form, layout.kind, self, self.queries);
    }
}

/// The positions of a segment that some query sees, and where their strips stand.
pub(super) struct Segment {
    /// Its first position, seen or not.
    pub(super) start: usize,
    strips: [*mut u8; STRIPS],
    /// Those of the segment behind it.
    ahead: [*mut u8; STRIPS],
}

impl Segment {
    /// Strips before the first seen position may not be there any more, those behind the last one not yet: in their place
    /// stands one that is.
    #[inline(always)]
    fn strips(kv: &KvView<'_>, kv_head: usize, start: usize, seen: &std::ops::Range<usize>) -> [*mut u8; STRIPS] {
        let mut strips = [std::ptr::null_mut(); STRIPS];
        for i in 0..STRIPS {
            let position = (start + i * TILE).clamp(seen.start, seen.end - 1);
            strips[i] = kv.strip(position, kv_head);
        }
        strips
    }

    /// A segment of one key head's positions before `end`, all of which are seen.
    #[inline(always)]
    pub(super) fn at(kv: &KvView<'_>, start: usize, end: usize) -> Self {
        let seen = 0..end;
        Self { start, strips: Self::strips(kv, 0, start, &seen), ahead: Self::strips(kv, 0, start + SEGMENT, &seen) }
    }

    #[inline(always)]
    pub(super) fn strip(&self, position: usize) -> *mut u8 {
        self.strips[(position - self.start) / TILE]
    }

    /// The strip that is as far in the next segment.
    #[inline(always)]
    pub(super) fn ahead(&self, position: usize) -> *mut u8 {
        self.ahead[(position - self.start) / TILE]
    }
}

/// Queries that go over the same keys.
pub(super) trait Together: Copy {
    /// `M` of them; `AT` strips of keys, or vectors of values, at a time.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn attend<L: Lanes, E: Element, const M: usize, const AT: usize>(self, queries: &[Query; M]);
}

/// Lets queries go over keys of one type of elements, a few at a time.
///
/// # Safety
/// As [`Form::run`].
pub(super) unsafe fn run_together(form: Form, kind: Float, of: impl Together, queries: &[Query]) {
    match kind {
        Float::Bf16 => form.run(Run(of, Bf16, queries)),
        Float::F16 => form.run(Run(of, F16, queries)),
        Float::F32 => form.run(Run(of, F32, queries)),
    }
}

struct Run<'a, T, E>(T, E, &'a [Query]);

impl<T: Together, E: Element> Kernel for Run<'_, T, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self(of, _, mut rest) = self;
        // With fewer queries more strips and components are in flight instead.
        while L::ROWS >= 8
            && let Some((queries, left)) = rest.split_first_chunk::<8>()
        {
            of.attend::<L, E, 8, 2>(queries);
            rest = left;
        }
        while let Some((queries, left)) = rest.split_first_chunk::<4>() {
            of.attend::<L, E, 4, 1>(queries);
            rest = left;
        }
        if let Some((queries, left)) = rest.split_first_chunk::<2>() {
            of.attend::<L, E, 2, 2>(queries);
            rest = left;
        }
        if let Some((queries, _)) = rest.split_first_chunk::<1>() {
            of.attend::<L, E, 1, 4>(queries);
        }
    }
}

impl Together for &Attention<'_> {
    #[inline(always)]
    unsafe fn attend<L: Lanes, E: Element, const M: usize, const AT: usize>(self, queries: &[Query; M]) {
        attend::<L, E, M, AT>(self, queries);
    }
}

/// `M` queries; `AT` strips of keys, or vectors of values, at a time.
#[inline(always)]
unsafe fn attend<L: Lanes, E: Element, const M: usize, const AT: usize>(
    attention: &Attention<'_>,
    queries: &[Query; M],
) {
    let dim = attention.kv.layout.head_dim;
    let (mut first, mut end) = (usize::MAX, 0);
    for query in queries {
        let seen = attention.seen.from(query.position);
        first = first.min(seen.start);
        end = end.max(seen.end);
    }
    let mut softmax = Softmax::<L, M>::new();
    let mut weights = [[0.0_f32; SEGMENT]; M];
    for query in queries {
        for i in (0..dim).step_by(TILE) {
            L::store(query.out.add(i), L::splat(0.0));
        }
    }
    let coded = Coded::of(attention);
    // Both are large beside a short sequence: floats do without.
    let (mut query_sums, mut offsets) = (None, None);
    if let Some(coded) = &coded {
        query_sums = Some(coded.query_sums::<L, M>(queries));
        offsets = Some([[L::splat(0.0); MAX_KV_GROUPS]; M]);
    }
    let seen = first..end;
    let mut ahead = Segment::strips(&attention.kv, attention.kv_head, first / SEGMENT * SEGMENT, &seen);
    for segment in (first / SEGMENT * SEGMENT..end).step_by(SEGMENT) {
        let strips = ahead;
        ahead = Segment::strips(&attention.kv, attention.kv_head, segment + SEGMENT, &seen);
        let place = Segment { start: segment, strips, ahead };
        let begin = first.max(segment) / TILE * TILE;
        let end = end.min(segment + SEGMENT);
        let floats_end = attention.kv.layout.floats_end().clamp(begin, end);
        // A strip alone goes alone.
        let pairs = if AT == 2 && (floats_end - begin).div_ceil(TILE) % 2 == 1 {
            let last = begin + (floats_end - begin - 1) / TILE * TILE;
            scores::<L, E, M, 1>(dim, queries, last..floats_end, &place, &mut weights);
            last
        } else {
            floats_end
        };
        scores::<L, E, M, AT>(dim, queries, begin..pairs, &place, &mut weights);
        if let (Some(coded), Some(sums)) = (&coded, &query_sums) {
            coded.scores::<L, M, AT>(queries, sums, floats_end..end, &place, &mut weights);
        }

        let seen_of = |m: usize| attention.seen.from(queries[m].position);
        let mut shrink = softmax.weigh(segment, seen_of, &mut weights);
        if begin < floats_end {
            let mut i = 0;
            while i + AT * TILE <= dim {
                add_values::<L, E, M, AT>([TILE, dim], queries, begin..floats_end, &place, &weights, &shrink, i);
                i += AT * TILE;
            }
            while i < dim {
                add_values::<L, E, M, 1>([TILE, dim], queries, begin..floats_end, &place, &weights, &shrink, i);
                i += TILE;
            }
            shrink = [1.0; M];
        }
        if let (Some(coded), Some(offsets)) = (&coded, &mut offsets)
            && floats_end < end
        {
            coded.add_values::<L, M, AT>(queries, floats_end..end, &place, &weights, &shrink, offsets);
        }
    }
    if let (Some(coded), Some(offsets)) = (&coded, &offsets) {
        coded.add_offsets::<L, M>(queries, offsets);
    }
    softmax.divide(queries, dim);
}

/// A softmax that goes over its scores once, segment by segment.
pub(super) struct Softmax<L: Lanes, const M: usize> {
    /// The largest score of each query so far.
    best: [f32; M],
    /// Sums of the weights so far.
    totals: [L::F; M],
}

impl<L: Lanes, const M: usize> Softmax<L, M> {
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Self { best: [f32::NEG_INFINITY; M], totals: [L::splat(0.0); M] }
    }

    /// Turns the scores of a segment that begins at position `segment` into weights, for each query of the positions that
    /// it sees; the others weigh nothing. Gives what the results so far are to be multiplied by.
    #[inline(always)]
    pub(super) unsafe fn weigh(
        &mut self,
        segment: usize,
        seen: impl Fn(usize) -> std::ops::Range<usize>,
        weights: &mut [[f32; SEGMENT]; M],
    ) -> [f32; M] {
        let mut shrink = [1.0; M];
        for m in 0..M {
            let seen = seen(m);
            let from = seen.start.clamp(segment, segment + SEGMENT) - segment;
            let to = seen.end.clamp(segment, segment + SEGMENT) - segment;
            if from >= to {
                weights[m].fill(0.0);
                continue;
            }
            weights[m][..from].fill(f32::NEG_INFINITY);
            weights[m][to..].fill(f32::NEG_INFINITY);
            // Vectors of which nothing is seen would add nothing.
            let some = from / TILE * TILE..to.next_multiple_of(TILE);
            let scores = weights[m].as_mut_ptr();
            let mut largest = L::load(scores.add(some.start));
            for i in (some.start + TILE..some.end).step_by(TILE) {
                largest = L::max(largest, L::load(scores.add(i)));
            }
            let largest = L::largest(largest);
            let new = if largest > self.best[m] { largest } else { self.best[m] };
            if self.best[m] != f32::NEG_INFINITY {
                shrink[m] = exp_of::<L>(self.best[m] - new);
            }
            self.best[m] = new;
            for i in some.clone().step_by(TILE) {
                L::store(scores.add(i), math::exp::<L>(L::sub(L::load(scores.add(i)), L::splat(new))));
            }
            weights[m][..from].fill(0.0);
            weights[m][to..].fill(0.0);
            self.totals[m] = L::mul(self.totals[m], L::splat(shrink[m]));
            for i in some.step_by(TILE) {
                self.totals[m] = L::add(self.totals[m], L::load(weights[m].as_ptr().add(i)));
            }
        }
        shrink
    }

    /// Divides the results, `[dim]`, by the sums of the weights.
    #[inline(always)]
    pub(super) unsafe fn divide(&self, queries: &[Query; M], dim: usize) {
        for m in 0..M {
            let factor = L::splat(1.0 / L::sum(self.totals[m]));
            for i in (0..dim).step_by(TILE) {
                let out = queries[m].out.add(i);
                L::store(out, L::mul(L::load(out), factor));
            }
        }
    }
}

#[inline(always)]
unsafe fn exp_of<L: Lanes>(x: f32) -> f32 {
    let mut lanes = [0.0; TILE];
    L::store(lanes.as_mut_ptr(), math::exp::<L>(L::splat(x)));
    lanes[0]
}

/// Scores of the positions of a segment that stand in the strips of `range`.
#[inline(always)]
unsafe fn scores<L: Lanes, E: Element, const M: usize, const AT: usize>(
    dim: usize,
    queries: &[Query; M],
    range: std::ops::Range<usize>,
    segment: &Segment,
    scores: &mut [[f32; SEGMENT]; M],
) {
    let mut position = range.start;
    while position < range.end {
        // A strip beyond the range is one of the range instead; what it gives is not kept.
        let mut strips = [std::ptr::null_mut::<u8>(); AT];
        for a in 0..AT {
            let at = if position + a * TILE < range.end { position + a * TILE } else { position };
            strips[a] = segment.strip(at);
        }
        let mut sums = [[L::splat(0.0); AT]; M];
        for i in 0..dim {
            for a in 0..AT {
                let keys = E::load::<L>(strips[a].add((i * TILE) * E::BYTES));
                // The values, which are wanted next.
                L::prefetch(strips[a].wrapping_add((dim + i) * TILE * E::BYTES));
                for m in 0..M {
                    sums[m][a] = L::fma(keys, L::splat(queries[m].q.add(i).read()), sums[m][a]);
                }
            }
        }
        for m in 0..M {
            for a in 0..AT {
                if position + a * TILE < range.end {
                    L::store(scores[m].as_mut_ptr().add(position - segment.start + a * TILE), sums[m][a]);
                }
            }
        }
        position += AT * TILE;
    }
}

/// Adds the weighted values of a segment to the components from `i` on. In a strip, values are rows of `dim` components
/// behind `before` others.
#[inline(always)]
pub(super) unsafe fn add_values<L: Lanes, E: Element, const M: usize, const AT: usize>(
    [before, dim]: [usize; 2],
    queries: &[Query; M],
    range: std::ops::Range<usize>,
    segment: &Segment,
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
    let mut position = range.start;
    while position < range.end {
        let (strip, ahead) = (segment.strip(position), segment.ahead(position));
        for t in 0..TILE.min(range.end - position) {
            for a in 0..AT {
                let values = E::load::<L>(strip.add(((before + t) * dim + i + a * TILE) * E::BYTES));
                // The keys of the next segment.
                L::prefetch(ahead.wrapping_add((t * dim + i + a * TILE) * E::BYTES));
                for m in 0..M {
                    let weight = weights[m].as_ptr().add(position - segment.start + t).read();
                    sums[m][a] = L::fma(values, L::splat(weight), sums[m][a]);
                }
            }
        }
        position += TILE;
    }
    for m in 0..M {
        for a in 0..AT {
            L::store(queries[m].out.add(i + a * TILE), sums[m][a]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kv_layout::{KvContent, KvLayout};
    use super::*;
    use crate::config::{CodeBits, KvCodes};
    use crate::kv::BlockSpans;

    fn number(seed: usize) -> f32 {
        let bits = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        bits as f32 / (1 << 23) as f32 - 1.0
    }

    struct Case {
        layout: KvLayout,
        memory: Vec<u8>,
        table: Vec<u32>,
        context: usize,
        group: usize,
        seen: Seen,
    }

    impl Case {
        fn new(
            kind: Float,
            codes: Option<KvCodes>,
            spans: BlockSpans,
            head_dim: usize,
            context: usize,
            seen: impl FnOnce(usize) -> Seen,
        ) -> Self {
            let content = KvContent::KeysAndValues;
            let layout = KvLayout { content, kind, codes, kv_heads: 2, head_dim, spans };
            let blocks = spans.holding(context);
            let table: Vec<u32> = (0..blocks as u32).map(|block| (block * 7 + 3) % (blocks as u32 * 8)).collect();
            // What was never written must not matter.
            let memory = vec![0xff; blocks * 8 * layout.block_bytes()];
            let mut case = Self { layout, memory, table, context, group: 3, seen: seen(context) };
            let memory = case.memory.as_mut_ptr();
            for position in 0..context {
                for head in 0..2 {
                    let row = |what| (0..head_dim).map(|i| written(what, position, head, i)).collect::<Vec<_>>();
                    let view = KvView { layout, memory, table: &case.table };
                    // SAFETY: the memory is the case's own, and nobody else's yet.
                    unsafe { view.write(position, head, &row(0), &row(1)) };
                }
            }
            case
        }

        fn view(&self) -> KvView<'_> {
            KvView { layout: self.layout, memory: self.memory.as_ptr().cast_mut(), table: &self.table }
        }

        fn query(&self, position: usize, head: usize) -> Vec<f32> {
            (0..self.layout.head_dim).map(|i| number(9_000_000 + (position * 8 + head) * 512 + i) * 0.7).collect()
        }

        /// Outputs of both key heads for the queries at `positions`, `tile` queries at a time.
        fn run(&self, form: Form, positions: std::ops::Range<usize>, tile: usize) -> Vec<u32> {
            let dim = self.layout.head_dim;
            let mut all = Vec::new();
            for kv_head in 0..2 {
                let heads = kv_head * self.group..(kv_head + 1) * self.group;
                let q: Vec<Vec<f32>> = positions
                    .clone()
                    .flat_map(|position| heads.clone().map(move |head| (position, head)))
                    .map(|(position, head)| self.query(position, head))
                    .collect();
                let mut out = vec![vec![f32::NAN; dim]; q.len()];
                let queries: Vec<Query> = q
                    .iter()
                    .zip(&mut out)
                    .enumerate()
                    .map(|(i, (q, out))| Query {
                        q: q.as_ptr(),
                        position: positions.start + i / self.group,
                        out: out.as_mut_ptr(),
                    })
                    .collect();
                for queries in queries.chunks(tile) {
                    // SAFETY: every position of the context was written when the case was made.
                    unsafe { Attention { kv: self.view(), kv_head, seen: self.seen, queries }.run(form) };
                }
                all.extend(out.into_iter().flatten().map(f32::to_bits));
            }
            all
        }

        /// The softmax over what `kv` gives for key and value of a position and key head.
        fn exact(&self, position: usize, head: usize, kv: impl Fn(usize, usize) -> [Vec<f32>; 2]) -> Vec<f64> {
            let (q, kv_head) = (self.query(position, head), head / self.group);
            let dot = |key: &[f32]| q.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>();
            let seen: Vec<_> = self.seen.from(position).map(|at| kv(at, kv_head)).collect();
            let scores: Vec<f64> = seen.iter().map(|[key, _]| dot(key)).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
            let total: f64 = weights.iter().sum();
            let value =
                |i: usize| seen.iter().zip(&weights).map(|([_, v], w)| w * f64::from(v[i])).sum::<f64>() / total;
            (0..self.layout.head_dim).map(value).collect()
        }
    }

    fn before(window: Option<usize>) -> impl Fn(usize) -> Seen + Copy {
        move |_| Seen::Before { window }
    }

    fn around(reach: Option<usize>) -> impl Fn(usize) -> Seen + Copy {
        move |end| Seen::Around { end, reach }
    }

    /// A float16.
    fn written(what: usize, position: usize, head: usize, i: usize) -> f32 {
        half::f16::from_f32(number(((what * 4096 + position) * 2 + head) * 512 + i)).to_f32()
    }

    fn float_cases() -> Vec<Case> {
        let shapes = [(16, 1), (64, 70), (80, 200), (128, 131)];
        let cases = shapes.into_iter().flat_map(|(dim, context)| {
            let of = |kind| {
                let case = |seen: &dyn Fn(usize) -> Seen| Case::new(kind, None, 32.into(), dim, context, seen);
                let one_sided = [None, Some(5), Some(90)].map(|window| case(&before(window)));
                let two_sided = [None, Some(0), Some(7), Some(70)].map(|reach| case(&around(reach)));
                one_sided.into_iter().chain(two_sided)
            };
            [Float::F16, Float::F32].into_iter().flat_map(of).collect::<Vec<_>>()
        });
        cases.collect()
    }

    /// All positions codes, or those behind the first 48.
    fn code_cases(bits: CodeBits) -> Vec<Case> {
        let times = if bits == CodeBits::Four { 4 } else { 2 };
        let spans = [BlockSpans::from(32), BlockSpans::new(3, 16, 16 * times)];
        let shapes = [(32, 32, 1), (64, 64, 70), (96, 32, 200), (128, 128, 131)];
        let shapes = shapes.into_iter().flat_map(|shape| [None, Some(30)].map(|window| (shape, window)));
        let cases = shapes.flat_map(|((dim, group, context), window)| {
            spans.map(|spans| Case::new(Float::F16, Some(KvCodes { bits, group }), spans, dim, context, before(window)))
        });
        cases.collect()
    }

    fn cases() -> Vec<Case> {
        let mut cases = float_cases();
        cases.extend(code_cases(CodeBits::Eight));
        cases.extend(code_cases(CodeBits::Four));
        cases
    }

    /// Largest and mean square error of some queries of a case, against the softmax over what `kv` gives.
    fn errors(case: &Case, kv: impl Fn(usize, usize) -> [Vec<f32>; 2]) -> (f64, f64) {
        let (dim, mut largest, mut squares, mut count) = (case.layout.head_dim, 0.0_f64, 0.0, 0);
        for (row, got) in case.run(Form::best(), 0..case.context, 4).chunks(dim).enumerate() {
            let (kv_head, query) = (row / (case.context * case.group), row % (case.context * case.group));
            let (position, head) = (query / case.group, kv_head * case.group + query % case.group);
            if position % 13 != 0 && position + 1 != case.context {
                continue;
            }
            for (got, exact) in got.iter().zip(case.exact(position, head, &kv)) {
                let error = (f64::from(f32::from_bits(*got)) - exact).abs();
                largest = largest.max(error);
                squares += error * error;
                count += 1;
            }
        }
        (largest, squares / f64::from(count))
    }

    // Small enough for emulated processors.
    #[test]
    fn every_kind_of_keys_gives_the_same_bits_in_every_form() {
        let codes = |bits| Some(KvCodes { bits, group: 32 });
        let kinds = [
            (Float::F16, None),
            (Float::F32, None),
            (Float::Bf16, None),
            (Float::F16, codes(CodeBits::Eight)),
            (Float::F16, codes(CodeBits::Four)),
        ];
        for (kind, codes) in kinds {
            let case = |seen: &dyn Fn(usize) -> Seen| Case::new(kind, codes, 32.into(), 64, 40, seen);
            for case in [case(&before(None)), case(&before(Some(9))), case(&around(None)), case(&around(Some(2)))] {
                let portable = case.run(Form::PORTABLE, 35..40, 4);
                for (form, tile) in Form::available().into_iter().flat_map(|form| [1, 3, 4].map(|tile| (form, tile))) {
                    let got = case.run(form, 35..40, tile);
                    assert!(got == portable, "{:?} {:?} {form:?} {tile}", case.layout, case.seen);
                }
            }
        }
    }

    #[test]
    fn every_query_gets_the_softmax_of_what_it_sees() {
        for case in cases() {
            let (largest, _) = errors(&case, |position, kv_head| case.view().read(position, kv_head));
            assert!(largest < 1e-5, "{:?} {:?}: {largest}", case.layout, case.seen);
        }
    }

    // Components are spread over [-1, 1]: a step is 2 / 255 or 2 / 15, its error the step over the root of 12, and the
    // mean over what is seen makes it smaller.
    #[test]
    fn codes_cost_what_their_steps_are_wide() {
        for (bits, most) in [(CodeBits::Eight, 3e-3), (CodeBits::Four, 5e-2)] {
            for case in code_cases(bits) {
                let dim = case.layout.head_dim;
                let kv =
                    |position, head| [0, 1].map(|what| (0..dim).map(|i| written(what, position, head, i)).collect());
                let (_, square) = errors(&case, kv);
                println!("{bits:?} {dim} {:?} {:?}: {:.1e}", case.layout.spans, case.seen, square.sqrt());
                assert!(square.sqrt() < most, "{:?} {:?}: {}", case.layout, case.seen, square.sqrt());
            }
        }
    }

    #[test]
    fn results_do_not_depend_on_form_tile_or_chunk() {
        for case in cases() {
            let whole = case.run(Form::PORTABLE, 0..case.context, 4);
            for form in Form::available() {
                for tile in [1, 2, 3, 7] {
                    assert!(case.run(form, 0..case.context, tile) == whole, "{:?} {form:?} {tile}", case.layout);
                }
                let last = case.run(form, case.context - 1..case.context, 3);
                let row = case.group * case.layout.head_dim;
                for kv_head in 0..2 {
                    let end = (kv_head + 1) * case.context * row;
                    assert!(last[kv_head * row..(kv_head + 1) * row] == whole[end - row..end], "{form:?} alone");
                }
            }
        }
    }
}
