//! Activations as the products with affine weights read them.
//!
//! In groups of the weights' own size: `x ≈ scale * q` with integers `q`, and the scaled sum of the group beside them,
//! because `Σ (s c + b) x = s Σ c x + b Σ x`. The sum is that of the rounded activations, so that the common offset of
//! the codes cancels.

use super::TILE;
use super::lanes::{Form, Kernel, Lanes};
use super::math;
use crate::config::ComputeMode;

/// Magnitudes below this count as zero: their reciprocals leave the range of f32.
const TINY: f32 = 1e-30;

/// The largest magnitude of [`Encoding::Words`].
pub(super) const TOP_WORD: i32 = (1 << 13) - 1;

/// Components of [`Encoding::WordBytes`] that stand together.
pub(super) const TILE_INPUTS: usize = 64;

/// How activations stand in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encoding {
    /// Rounded to 8 bits.
    Int8,
    /// Rounded to 8 bits, in the places of 16: some instructions multiply wide codes only with these.
    Int8Wide,
    /// Rounded to 15 bits.
    Int16,
    /// Rounded to 14 bits, in words that stand in their order; a row is one group.
    Words,
    /// The same, the upper bytes apart from the lower ones: for sixteen rows and 64 components `[2][16][64]`.
    WordBytes,
    /// As they are.
    F32,
}

impl Encoding {
    /// How `form` reads the activations that meet codes of `bits` bits.
    pub fn of(form: Form, mode: ComputeMode, bits: usize) -> Self {
        match mode {
            ComputeMode::Int8 if bits <= form.widest_code8() => Self::Int8,
            ComputeMode::Int8 => Self::Int8Wide,
            ComputeMode::Int16 => Self::Int16,
            ComputeMode::F32 => Self::F32,
        }
    }

    /// The largest magnitude of an integer.
    fn top(self) -> f32 {
        match self {
            Self::Int8 | Self::Int8Wide => 127.0,
            Self::Int16 | Self::F32 => 16256.0,
            Self::Words | Self::WordBytes => TOP_WORD as f32,
        }
    }
}

/// Bytes of four activations.
#[inline(always)]
pub(super) const fn quad_bytes(encoding: Encoding) -> usize {
    match encoding {
        Encoding::Int8 => 4,
        Encoding::Int8Wide | Encoding::Int16 | Encoding::Words | Encoding::WordBytes => 8,
        Encoding::F32 => 16,
    }
}

/// Bytes of `k` prepared activations.
pub const fn prepared_bytes(encoding: Encoding, k: usize) -> usize {
    match encoding {
        Encoding::Int8 => k,
        Encoding::Int8Wide | Encoding::Int16 | Encoding::Words | Encoding::WordBytes => 2 * k,
        Encoding::F32 => 4 * k,
    }
}

/// Places for prepared activations. Borrows nothing: whoever makes one vouches for its pointers.
///
/// Rows stand in blocks of `block_rows`, which are worked on at a time: a block is one piece of memory, and in it the
/// rows of a group stand together, because they are read together. Were they far apart, at distances that are often
/// powers of two, they would push each other out of the caches.
#[derive(Debug, Clone, Copy)]
pub struct Activations {
    /// What they are rounded to, and how they stand.
    pub encoding: Encoding,
    /// Components of a row.
    pub k: usize,
    /// Components per group, a multiple of 32.
    pub group: usize,
    /// Rows that there is room for.
    pub rows: usize,
    /// `[blocks, k / group, block_rows, prepared_bytes(encoding, group)]`.
    pub quads: *mut u8,
    /// `[blocks, k / group, block_rows]`.
    pub groups: *mut GroupOf,
}

/// What a group of activations is multiplied with, and its sum.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct GroupOf {
    scale: f32,
    /// Scaled.
    sum: f32,
}

/// Where the groups of [`Activations`] stand.
#[derive(Clone, Copy)]
pub(super) struct GroupPlaces {
    quads: *mut u8,
    factors: *mut GroupOf,
    groups: usize,
    /// Rows of a block.
    pub(super) block: usize,
    group_bytes: usize,
}

impl GroupPlaces {
    /// The place of a block's group.
    #[inline(always)]
    pub(super) unsafe fn block(&self, block: usize, group: usize) -> BlockPlace {
        let first = (block * self.groups + group) * self.block;
        let (quads, factors) = (self.quads.add(first * self.group_bytes), self.factors.add(first));
        BlockPlace { quads, factors, group_bytes: self.group_bytes }
    }

    /// The scale of a row that is one group.
    #[inline(always)]
    pub(super) unsafe fn whole_row_scale(&self, row: usize) -> f32 {
        (*self.factors.add(row)).scale
    }
}

/// Where one group of a block's rows stands.
#[derive(Clone, Copy)]
pub(super) struct BlockPlace {
    quads: *mut u8,
    factors: *mut GroupOf,
    group_bytes: usize,
}

impl BlockPlace {
    /// The quads of a row, counted from the first one of the block.
    #[inline(always)]
    pub(super) unsafe fn quads(&self, row: usize) -> *mut u8 {
        self.quads.add(row * self.group_bytes)
    }

    /// Scale and sum of a row's group.
    #[inline(always)]
    pub(super) unsafe fn factors(&self, row: usize) -> (f32, f32) {
        let of = &*self.factors.add(row);
        (of.scale, of.sum)
    }
}

/// Bytes of prepared activations that are worked on at a time: about half of a second-level cache.
const BLOCK_BYTES: usize = 256 << 10;
/// The most rows that are worked on at a time.
pub const BLOCK_ROWS: usize = 64;

/// Rows that are worked on at a time, so that they stay in the cache while the tiles of a matrix pass over them.
fn block_rows(encoding: Encoding, k: usize, rows: usize) -> usize {
    let cached = (BLOCK_BYTES / prepared_bytes(encoding, k)).next_multiple_of(8).clamp(8, BLOCK_ROWS);
    cached.min(rows)
}

/// Rows that take up memory when there is room for `rows` of `k` components.
pub fn padded_rows(encoding: Encoding, k: usize, rows: usize) -> usize {
    match rows {
        0 => 0,
        _ if encoding == Encoding::WordBytes => rows.next_multiple_of(TILE),
        _ => rows.next_multiple_of(block_rows(encoding, k, rows)),
    }
}

impl Activations {
    pub(super) fn places(&self) -> GroupPlaces {
        GroupPlaces {
            quads: self.quads,
            factors: self.groups,
            groups: self.k / self.group,
            block: block_rows(self.encoding, self.k, self.rows),
            group_bytes: prepared_bytes(self.encoding, self.group),
        }
    }

    /// Prepares `x`, `[k]`, as row `row`.
    ///
    /// A group that holds something not finite gets a scale that is NaN, so that the products show it.
    ///
    /// # Safety
    /// `x`, `[k]`, is readable and the row's places are writable and used by nobody else meanwhile.
    pub unsafe fn write(&self, form: Form, row: usize, x: *const f32) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        form.run(Prepare { to: self, row, x })
    }
}

struct Prepare<'a> {
    to: &'a Activations,
    row: usize,
    x: *const f32,
}

impl Kernel for Prepare<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { to, row, x } = self;
        let places = to.places();
        let step = TILE / 4 * quad_bytes(to.encoding);
        for group in 0..to.k / to.group {
            let place = places.block(row / places.block, group);
            let (x, mut quads) = (x.add(group * to.group), place.quads(row % places.block));
            let of = &mut *place.factors.add(row % places.block);
            if to.encoding == Encoding::F32 {
                let mut sum = L::splat(0.0);
                for i in (0..to.group).step_by(TILE) {
                    let lanes = L::load(x.add(i));
                    sum = L::add(sum, lanes);
                    L::store(quads.cast(), lanes);
                    quads = quads.add(step);
                }
                *of = GroupOf { scale: 1.0, sum: L::sum(sum) };
                continue;
            }
            let mut bits = L::splat_i32(0);
            for i in (0..to.group).step_by(TILE) {
                bits = L::max_i32(bits, L::magnitude_bits(L::load(x.add(i))));
            }
            // Integers compare the same in all forms, even where a float is NaN.
            let largest = f32::from_bits(math::largest_i32::<L>(bits).cast_unsigned());
            let top = to.encoding.top();
            let (scale, factor) = if !largest.is_finite() {
                (f32::NAN, 0.0)
            } else if largest < TINY {
                (0.0, 0.0)
            } else {
                (largest / top, top / largest)
            };
            // Of bytes apart, the places of the row where sixteen rows begin.
            let tiles = places.quads.add(row / TILE * TILE * places.group_bytes + row % TILE * TILE_INPUTS);
            let mut sum = L::splat_i32(0);
            for i in (0..to.group).step_by(TILE) {
                // What is not finite would not be an integer: the scale tells of it.
                let lanes = if factor == 0.0 {
                    L::splat_i32(0)
                } else {
                    L::to_i32(L::mul(L::load(x.add(i)), L::splat(factor)))
                };
                sum = L::add_i32(sum, lanes);
                match to.encoding {
                    Encoding::Int8 => L::put8(quads, lanes),
                    Encoding::Words => L::put_words(quads.cast(), lanes),
                    Encoding::WordBytes => {
                        let upper = tiles.add(i / TILE_INPUTS * 2 * TILE * TILE_INPUTS + i % TILE_INPUTS);
                        L::put_bytes(upper, upper.add(TILE * TILE_INPUTS), lanes);
                    }
                    _ => L::put16(quads, lanes),
                }
                quads = quads.add(step);
            }
            *of = GroupOf { scale, sum: scale * math::sum_i32::<L>(sum) as f32 };
        }
    }
}
