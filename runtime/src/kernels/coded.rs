//! Attention's scores and weighted sums over keys and values that are codes.
//!
//! `Σ q (s c + b) = s Σ q c + b Σ q` in each group of a key's components; of values, `Σ w (s c + b) = Σ (w s) c + Σ w b`
//! over the positions, for each group.

use super::TILE;
use super::attention::{Attention, Query, SEGMENT};
use super::kv_layout::{CodeStrip, SCALES_BYTES};
use super::lanes::Lanes;
use super::math;
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

/// Codes that a call reads, and where they stand.
#[derive(Clone, Copy)]
pub(super) struct Coded<'a> {
    attention: &'a Attention<'a>,
    codes: KvCodes,
    strip: CodeStrip,
    groups: usize,
}

/// Sums of the components of `M` queries, by group.
pub(super) type QuerySums<const M: usize> = [[f32; MAX_KV_GROUPS]; M];

impl<'a> Coded<'a> {
    /// `None` if nothing is quantised.
    #[inline(always)]
    pub(super) fn of(attention: &'a Attention<'a>) -> Option<Self> {
        let layout = &attention.kv.layout;
        let codes = layout.codes?;
        let (strip, groups) = (CodeStrip::new(codes, layout.head_dim), layout.head_dim / codes.group);
        Some(Self { attention, codes, strip, groups })
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
                sums[m][group] = math::sum::<L>(sum);
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
        segment: usize,
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
        segment: usize,
        scores: &mut [[f32; SEGMENT]; M],
    ) {
        let group_size = self.codes.group;
        let mut position = range.start;
        while position < range.end {
            // A strip beyond the range is one of the range instead; what it gives is not kept.
            let mut strips = [std::ptr::null::<u8>(); AT];
            for a in 0..AT {
                let at = if position + a * TILE < range.end { position + a * TILE } else { position };
                strips[a] = self.attention.kv.strip(at, self.attention.kv_head);
            }
            let mut totals = [[L::splat(0.0); AT]; M];
            for group in 0..self.groups {
                let mut sums = [[L::splat(0.0); AT]; M];
                for i in (group * group_size..(group + 1) * group_size).step_by(2) {
                    for a in 0..AT {
                        let pair = strips[a].add(self.strip.codes[0] + i / 2 * P::BYTES);
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
                        L::store(scores[m].as_mut_ptr().add(position - segment + a * TILE), totals[m][a]);
                    }
                }
            }
            position += AT * TILE;
        }
    }

    /// Adds the weighted values of a segment to the results, which are multiplied by `shrink` before.
    #[inline(always)]
    pub(super) unsafe fn add_values<L: Lanes, const M: usize, const AT: usize>(
        &self,
        queries: &[Query; M],
        range: Range<usize>,
        segment: usize,
        weights: &[[f32; SEGMENT]; M],
        shrink: &[f32; M],
    ) {
        for group in 0..self.groups {
            let weighted = self.weighted::<L, M>(group, range.clone(), segment, weights);
            match self.codes.bits {
                CodeBits::Eight => {
                    self.add_group::<L, Eight, M, AT>(queries, &range, segment, group, &weighted, shrink)
                }
                CodeBits::Four => self.add_group::<L, Four, M, AT>(queries, &range, segment, group, &weighted, shrink),
            }
        }
    }

    /// Weights times scales, and weighted biases, of one group.
    #[inline(always)]
    unsafe fn weighted<L: Lanes, const M: usize>(
        &self,
        group: usize,
        range: Range<usize>,
        segment: usize,
        weights: &[[f32; SEGMENT]; M],
    ) -> Weighted<M> {
        let largest = half::f16::MAX.to_f32();
        let mut scaled = [[0.0; SEGMENT]; M];
        let mut offsets = [L::splat(0.0); M];
        for position in range.step_by(TILE) {
            let strip = self.attention.kv.strip(position, self.attention.kv_head);
            let scale = L::load_f16(strip.add(self.strip.scales[1] + group * SCALES_BYTES).cast());
            let bias = L::load_f16(strip.add(self.strip.biases[1] + group * SCALES_BYTES).cast());
            // Nobody has written the biases of positions to come: their weights are zero, and times zero must be zero.
            let bias = L::min(L::max(bias, L::splat(-largest)), L::splat(largest));
            for m in 0..M {
                let weight = L::load(weights[m].as_ptr().add(position - segment));
                L::store(scaled[m].as_mut_ptr().add(position - segment), L::mul(weight, scale));
                offsets[m] = L::fma(weight, bias, offsets[m]);
            }
        }
        let mut offset = [0.0; M];
        for m in 0..M {
            offset[m] = math::sum::<L>(offsets[m]);
        }
        Weighted { scaled, offset }
    }

    #[inline(always)]
    unsafe fn add_group<L: Lanes, P: Pairs, const M: usize, const AT: usize>(
        &self,
        queries: &[Query; M],
        range: &Range<usize>,
        segment: usize,
        group: usize,
        weighted: &Weighted<M>,
        shrink: &[f32; M],
    ) {
        let mut part = Part { range: range.clone(), segment, i: group * self.codes.group };
        let end = part.i + self.codes.group;
        while part.i < end {
            if AT == 4 && part.i + 4 * TILE <= end {
                self.add_vectors::<L, P, M, 4, 0>(queries, &part, weighted, shrink);
                part.i += 4 * TILE;
            } else if AT >= 2 {
                self.add_vectors::<L, P, M, 2, 0>(queries, &part, weighted, shrink);
                part.i += 2 * TILE;
            } else {
                self.add_vectors::<L, P, M, 1, 0>(queries, &part, weighted, shrink);
                part.i += TILE;
                self.add_vectors::<L, P, M, 1, 1>(queries, &part, weighted, shrink);
                part.i += TILE;
            }
        }
    }

    /// `N` vectors of components, the first of which is vector `FIRST` of its pair.
    #[inline(always)]
    unsafe fn add_vectors<L: Lanes, P: Pairs, const M: usize, const N: usize, const FIRST: usize>(
        &self,
        queries: &[Query; M],
        part: &Part,
        weighted: &Weighted<M>,
        shrink: &[f32; M],
    ) {
        let dim = self.attention.kv.layout.head_dim;
        let mut sums = [[L::splat(0.0); N]; M];
        for m in 0..M {
            for n in 0..N {
                let so_far = L::load(queries[m].out.add(part.i + n * TILE));
                // Rounded apart: where floats come first they have been shrunk already, and the bits must be the same.
                sums[m][n] = L::add(L::mul(so_far, L::splat(shrink[m])), L::splat(weighted.offset[m]));
            }
        }
        for position in part.range.clone().step_by(TILE) {
            let strip = self.attention.kv.strip(position, self.attention.kv_head);
            let first = strip.add(self.strip.codes[1] + part.i / (2 * TILE) * P::BYTES);
            for t in 0..TILE.min(part.range.end - position) {
                let pair = first.add(t * (dim / (2 * TILE)) * P::BYTES);
                for n in 0..N {
                    let pair = pair.add((FIRST + n) / 2 * P::BYTES);
                    let values = if (FIRST + n).is_multiple_of(2) { P::even::<L>(pair) } else { P::odd::<L>(pair) };
                    for m in 0..M {
                        let weight = weighted.scaled[m].as_ptr().add(position - part.segment + t).read();
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

/// What the values of one group are multiplied with.
struct Weighted<const M: usize> {
    /// Weight times scale, by position in the segment.
    scaled: [[f32; SEGMENT]; M],
    /// Sum of weight times bias.
    offset: [f32; M],
}

/// Positions of a segment, and the component where vectors begin.
struct Part {
    range: Range<usize>,
    segment: usize,
    i: usize,
}
