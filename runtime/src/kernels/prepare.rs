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

/// Bytes of four activations.
#[inline(always)]
pub(super) fn quad_bytes<L: Lanes>(mode: ComputeMode) -> usize {
    match mode {
        ComputeMode::Int8 => L::QUAD8,
        ComputeMode::Int16 => L::QUAD16,
        ComputeMode::F32 => 16,
    }
}

/// Bytes of a row of `k` prepared activations, in any form.
pub fn prepared_bytes(mode: ComputeMode, k: usize) -> usize {
    match mode {
        ComputeMode::Int8 | ComputeMode::Int16 => 2 * k,
        ComputeMode::F32 => 4 * k,
    }
}

/// Places for prepared activations, `[rows]`. Borrows nothing: whoever makes one vouches for its pointers.
#[derive(Debug, Clone, Copy)]
pub struct Activations {
    /// What they are rounded to.
    pub mode: ComputeMode,
    /// Components of a row.
    pub k: usize,
    /// Components per group, a multiple of 32.
    pub group: usize,
    /// `[rows, prepared_bytes(mode, k)]`.
    pub quads: *mut u8,
    /// Of each group, `[rows, k / group]`.
    pub scales: *mut f32,
    /// Of each group, scaled, `[rows, k / group]`.
    pub sums: *mut f32,
}

/// One row of [`Activations`], to be read.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) quads: *const u8,
    pub(super) scales: *const f32,
    pub(super) sums: *const f32,
}

impl Activations {
    #[inline(always)]
    pub(super) unsafe fn row(&self, row: usize) -> Row {
        let groups = self.k / self.group;
        Row {
            quads: self.quads.add(row * prepared_bytes(self.mode, self.k)),
            scales: self.scales.add(row * groups),
            sums: self.sums.add(row * groups),
        }
    }

    /// Prepares `x`, `[k]`, as row `row`.
    ///
    /// A group that holds something not finite gets a scale that is NaN, so that the products show it.
    ///
    /// # Safety
    /// `x`, `[k]`, is readable and the row's places are writable and used by nobody else meanwhile.
    pub unsafe fn write(&self, form: Form, row: usize, x: *const f32) {
        form.run(Prepare { to: self, row: self.row(row), x })
    }
}

struct Prepare<'a> {
    to: &'a Activations,
    row: Row,
    x: *const f32,
}

impl Kernel for Prepare<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { to, row, x } = self;
        let (scales, sums) = (row.scales.cast_mut(), row.sums.cast_mut());
        let mut quads = row.quads.cast_mut();
        let step = TILE / 4 * quad_bytes::<L>(to.mode);
        for group in 0..to.k / to.group {
            let x = x.add(group * to.group);
            if to.mode == ComputeMode::F32 {
                let mut sum = L::splat(0.0);
                for i in (0..to.group).step_by(TILE) {
                    let lanes = L::load(x.add(i));
                    sum = L::add(sum, lanes);
                    L::store(quads.cast(), lanes);
                    quads = quads.add(step);
                }
                scales.add(group).write(1.0);
                sums.add(group).write(math::sum::<L>(sum));
                continue;
            }
            let mut bits = L::splat_i32(0);
            for i in (0..to.group).step_by(TILE) {
                bits = L::max_i32(bits, L::magnitude_bits(L::load(x.add(i))));
            }
            // Integers compare the same in all forms, even where a float is NaN.
            let largest = f32::from_bits(math::largest_i32::<L>(bits).cast_unsigned());
            let top = if to.mode == ComputeMode::Int8 { 127.0 } else { 16256.0 };
            let (scale, factor) = if !largest.is_finite() {
                (f32::NAN, 0.0)
            } else if largest < TINY {
                (0.0, 0.0)
            } else {
                (largest / top, top / largest)
            };
            let mut sum = L::splat_i32(0);
            for i in (0..to.group).step_by(TILE) {
                // What is not finite would not be an integer: the scale tells of it.
                let lanes = if factor == 0.0 {
                    L::splat_i32(0)
                } else {
                    L::to_i32(L::mul(L::load(x.add(i)), L::splat(factor)))
                };
                sum = L::add_i32(sum, lanes);
                if to.mode == ComputeMode::Int8 {
                    L::put8(quads, lanes)
                } else {
                    L::put16(quads, lanes)
                }
                quads = quads.add(step);
            }
            scales.add(group).write(scale);
            sums.add(group).write(scale * math::sum_i32::<L>(sum) as f32);
        }
    }
}
