//! Attention's scores and weighted sums over keys and values that are codes.
//!
//! `Σ q (s c + b) = s Σ q c + b Σ q` in each group of a key's components; of values, `Σ w (s c + b) = Σ (w s) c + Σ w b`
//! over the positions, for each group.

use super::TILE;
use super::attention::{Attention, Query, SEGMENT, Segment};
use super::kv_layout::{CodeStrip, SCALES_BYTES};
use super::lanes::Lanes;
use crate::config::{CodeBits, KvCodes};
use std::ops::Range;

/// Most groups of a head.
pub const MAX_KV_GROUPS: usize = 16;

/// Vectors of codes in memory, in pairs.
trait Pairs {
    const BYTES: usize;

    unsafe fn even<L: Lanes>(pair: *const u8) -> L::F;
    unsafe fn odd<L: Lanes>(pair: *const u8) -> L::F;
}

struct Eight;
struct Four;

impl Pairs for Eight {
    const BYTES: usize = 2 * TILE;

    #[inline(always)]
    unsafe fn even<L: Lanes>(pair: *const u8) -> L::F {
        L::load_u8(pair)
    }

    #[inline(always)]
    unsafe fn odd<L: Lanes>(pair: *const u8) -> L::F {
        L::load_u8(pair.add(TILE))
    }
}

impl Pairs for Four {
    const BYTES: usize = TILE;

    #[inline(always)]
    unsafe fn even<L: Lanes>(pair: *const u8) -> L::F {
        L::load_low4(pair)
    }

    #[inline(always)]
    unsafe fn odd<L: Lanes>(pair: *const u8) -> L::F {
        L::load_high4(pair)
    }
}

/// Codes that a call reads, and where they stand in a strip.
#[derive(Clone, Copy)]
pub(super) struct Coded {
    codes: KvCodes,
    strip: CodeStrip,
    head_dim: usize,
    groups: usize,
}

/// Sums of the components of `M` queries, by group.
pub(super) type QuerySums<const M: usize> = [[f32; MAX_KV_GROUPS]; M];
/// Sums of weighted biases for `M` queries, by group; the lanes are still to be added up.
pub(super) type Offsets<L, const M: usize> = [[<L as Lanes>::F; MAX_KV_GROUPS]; M];

impl Coded {
    /// `None` if nothing is quantised.
    #[inline(always)]
    pub(super) fn of(attention: &Attention<'_>) -> Option<Self> {
        let (codes, head_dim) = (attention.kv.layout.codes?, attention.kv.layout.head_dim);
        Some(Self { codes, strip: CodeStrip::new(codes, head_dim), head_dim, groups: head_dim / codes.group })
    }

    #[inline(always)]
    pub(super) unsafe fn query_sums<L: Lanes, const M: usize>(&self, queries: &[Query; M]) -> QuerySums<M> {
        let mut sums = [[0.0; MAX_KV_GROUPS]; M];
        for m in 0..M {
            for group in 0..self.groups {
                let q = queries[m].q.add(group * self.codes.group);
                let mut sum = L::load(q);
                for i in (TILE..self.codes.group).step_by(TILE) {
                    sum = L::add(sum, L::load(q.add(i)));
                }
                sums[m][group] = L::sum(sum);
            }
        }
        sums
    }

    /// Scores of the positions of a segment that stand in the strips of `range`.
    #[inline(always)]
    pub(super) unsafe fn scores<L: Lanes, const M: usize, const AT: usize>(
        &self,
        queries: &[Query; M],
        query_sums: &QuerySums<M>,
        range: Range<usize>,
        segment: &Segment,
        scores: &mut [[f32; SEGMENT]; M],
    ) {
        match self.codes.bits {
            CodeBits::Eight => self.scores_of::<L, Eight, M, AT>(queries, query_sums, range, segment, scores),
            CodeBits::Four => self.scores_of::<L, Four, M, AT>(queries, query_sums, range, segment, scores),
        }
    }

    #[inline(always)]
    unsafe fn scores_of<L: Lanes, P: Pairs, const M: usize, const AT: usize>(
        &self,
        queries: &[Query; M],
        query_sums: &QuerySums<M>,
        range: Range<usize>,
        segment: &Segment,
        scores: &mut [[f32; SEGMENT]; M],
    ) {
        let group_size = self.codes.group;
        let mut position = range.start;
        while position < range.end {
            // A strip beyond the range is one of the range instead; what it gives is not kept.
            let mut strips = [std::ptr::null_mut::<u8>(); AT];
            for a in 0..AT {
                let at = if position + a * TILE < range.end { position + a * TILE } else { position };
                strips[a] = segment.strip(at);
            }
            let mut totals = [[L::splat(0.0); AT]; M];
            for group in 0..self.groups {
                let mut sums = [[L::splat(0.0); AT]; M];
                for i in (group * group_size..(group + 1) * group_size).step_by(2) {
                    for a in 0..AT {
                        let pair = strips[a].add(self.strip.codes[0] + i / 2 * P::BYTES);
                        // The values, which are wanted next.
                        L::prefetch(pair.wrapping_add(self.strip.codes[1]));
                        let even = P::even::<L>(pair);
                        for m in 0..M {
                            sums[m][a] = L::fma(even, L::splat(queries[m].q.add(i).read()), sums[m][a]);
                        }
                        let odd = P::odd::<L>(pair);
                        for m in 0..M {
                            sums[m][a] = L::fma(odd, L::splat(queries[m].q.add(i + 1).read()), sums[m][a]);
                        }
                    }
                }
                for a in 0..AT {
                    let scale = L::load_f16(strips[a].add(self.strip.scales[0] + group * SCALES_BYTES).cast());
                    let bias = L::load_f16(strips[a].add(self.strip.biases[0] + group * SCALES_BYTES).cast());
                    for m in 0..M {
                        totals[m][a] = L::fma(bias, L::splat(query_sums[m][group]), totals[m][a]);
                        totals[m][a] = L::fma(scale, sums[m][a], totals[m][a]);
                    }
                }
            }
            for m in 0..M {
                for a in 0..AT {
                    if position + a * TILE < range.end {
                        L::store(scores[m].as_mut_ptr().add(position - segment.start + a * TILE), totals[m][a]);
                    }
                }
            }
            position += AT * TILE;
        }
    }

    /// Adds the weighted values of a segment to the results, which are multiplied by `shrink` before; what the biases give
    /// goes to `offsets`, for [`add_offsets`](Self::add_offsets) at the end.
    #[inline(always)]
    pub(super) unsafe fn add_values<L: Lanes, const M: usize, const AT: usize>(
        &self,
        queries: &[Query; M],
        range: Range<usize>,
        segment: &Segment,
        weights: &[[f32; SEGMENT]; M],
        shrink: &[f32; M],
        offsets: &mut Offsets<L, M>,
    ) {
        let mut scaled = [[0.0; SEGMENT]; M];
        for group in 0..self.groups {
            let at = group * SCALES_BYTES;
            for m in 0..M {
                offsets[m][group] = L::mul(offsets[m][group], L::splat(shrink[m]));
            }
            for position in range.clone().step_by(TILE) {
                let strip = segment.strip(position);
                let scale = L::load_f16(strip.add(self.strip.scales[1] + at).cast());
                let bias = L::load_f16(strip.add(self.strip.biases[1] + at).cast());
                // Nobody has written the biases of positions to come: their weights are zero, and times zero must be zero.
                let largest = half::f16::MAX.to_f32();
                let bias = L::min(L::max(bias, L::splat(-largest)), L::splat(largest));
                for m in 0..M {
                    let weight = L::load(weights[m].as_ptr().add(position - segment.start));
                    L::store(scaled[m].as_mut_ptr().add(position - segment.start), L::mul(weight, scale));
                    offsets[m][group] = L::fma(weight, bias, offsets[m][group]);
                }
                for next in [self.strip.scales, self.strip.biases] {
                    L::prefetch(segment.ahead(position).wrapping_add(next[0] + at));
                    L::prefetch(segment.ahead(position).wrapping_add(next[1] + at));
                }
            }
            let part = Part { range: range.clone(), segment, i: group * self.codes.group };
            match self.codes.bits {
                CodeBits::Eight => self.add_group::<L, Eight, M, AT>(queries, part, &scaled, shrink),
                CodeBits::Four => self.add_group::<L, Four, M, AT>(queries, part, &scaled, shrink),
            }
        }
    }

    /// Adds the sums of weighted biases to the results.
    #[inline(always)]
    pub(super) unsafe fn add_offsets<L: Lanes, const M: usize>(&self, queries: &[Query; M], offsets: &Offsets<L, M>) {
        for m in 0..M {
            for group in 0..self.groups {
                let offset = L::splat(L::sum(offsets[m][group]));
                for i in (group * self.codes.group..(group + 1) * self.codes.group).step_by(TILE) {
                    let out = queries[m].out.add(i);
                    L::store(out, L::add(L::load(out), offset));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn add_group<L: Lanes, P: Pairs, const M: usize, const AT: usize>(
        &self,
        queries: &[Query; M],
        mut part: Part<'_>,
        scaled: &[[f32; SEGMENT]; M],
        shrink: &[f32; M],
    ) {
        let end = part.i + self.codes.group;
        while part.i < end {
            if AT == 4 && part.i + 4 * TILE <= end {
                self.add_vectors::<L, P, M, 4, 0>(queries, &part, scaled, shrink);
                part.i += 4 * TILE;
            } else if AT >= 2 {
                self.add_vectors::<L, P, M, 2, 0>(queries, &part, scaled, shrink);
                part.i += 2 * TILE;
            } else {
                self.add_vectors::<L, P, M, 1, 0>(queries, &part, scaled, shrink);
                part.i += TILE;
                self.add_vectors::<L, P, M, 1, 1>(queries, &part, scaled, shrink);
                part.i += TILE;
            }
        }
    }

    /// `N` vectors of components, the first of which is vector `FIRST` of its pair.
    #[inline(always)]
    unsafe fn add_vectors<L: Lanes, P: Pairs, const M: usize, const N: usize, const FIRST: usize>(
        &self,
        queries: &[Query; M],
        part: &Part<'_>,
        scaled: &[[f32; SEGMENT]; M],
        shrink: &[f32; M],
    ) {
        let dim = self.head_dim;
        let mut sums = [[L::splat(0.0); N]; M];
        for m in 0..M {
            for n in 0..N {
                let so_far = L::load(queries[m].out.add(part.i + n * TILE));
                sums[m][n] = L::mul(so_far, L::splat(shrink[m]));
            }
        }
        for position in part.range.clone().step_by(TILE) {
            let (strip, ahead) = (part.segment.strip(position), part.segment.ahead(position));
            for t in 0..TILE.min(part.range.end - position) {
                let at = (t * dim + part.i) / (2 * TILE) * P::BYTES;
                let pair = strip.add(self.strip.codes[1] + at);
                if FIRST == 0 {
                    // The keys of the next segment.
                    for n in 0..N.div_ceil(2) {
                        L::prefetch(ahead.wrapping_add(self.strip.codes[0] + at + n * P::BYTES));
                    }
                }
                for n in 0..N {
                    let pair = pair.add((FIRST + n) / 2 * P::BYTES);
                    let values = if (FIRST + n).is_multiple_of(2) { P::even::<L>(pair) } else { P::odd::<L>(pair) };
                    for m in 0..M {
                        let weight = scaled[m].as_ptr().add(position - part.segment.start + t).read();
                        sums[m][n] = L::fma(values, L::splat(weight), sums[m][n]);
                    }
                }
            }
        }
        for m in 0..M {
            for n in 0..N {
                L::store(queries[m].out.add(part.i + n * TILE), sums[m][n]);
            }
        }
    }
}

/// What of a segment is added: its positions, and the component where vectors begin.
struct Part<'a> {
    range: Range<usize>,
    segment: &'a Segment,
    i: usize,
}
