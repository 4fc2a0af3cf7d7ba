//! Products with affine weights: `y = x Wᵀ` with `W[r][i] = scale * code + bias`, over tiles of sixteen rows of W.
//!
//! A row of y is summed over the groups in their order, each group's products exactly (in integers, or over the inputs
//! in order): the result depends on that row of x and on W alone, whatever is computed beside it.
//!
//! `layout` says how a tile stands in memory, `arithmetic` how its codes meet activations, `tiles` in which order.

mod arithmetic;
mod layout;
#[cfg(test)]
mod tests;
mod tiles;

pub use layout::AffineLayout;
pub(super) use layout::{SPAN, VECTOR, planes};

use super::TILE;
use super::lanes::Form;
use super::prepare::{Activations, Encoding};
use arithmetic::{F32, Int8, Int16};
use std::ops::Range;
use tiles::{GROUP_QUADS, Run};

/// A matrix in tiles.
#[derive(Debug, Clone, Copy)]
pub struct AffineTiles<'a> {
    /// The layout of each tile.
    pub layout: AffineLayout,
    /// Tiles, one after the other.
    pub bytes: &'a [u8],
}

/// `out[row][16 t..16 t + 16]` for some tiles `t` and rows of activations.
#[derive(Debug, Clone)]
pub struct Product<'a> {
    /// W.
    pub weights: AffineTiles<'a>,
    /// Which tiles.
    pub tiles: Range<usize>,
    /// x.
    pub x: Activations,
    /// Which rows.
    pub rows: Range<usize>,
    /// y, `[rows, stride]`, counted from the first row of `x`.
    pub out: *mut f32,
    /// Elements from row to row of `out`, at least 16 for each tile.
    pub stride: usize,
}

impl Product<'_> {
    /// Computes it.
    ///
    /// # Panics
    /// If the weights do not hold the tiles, or the activations are not in groups of the weights.
    ///
    /// # Safety
    /// `form` prepared the rows of `x`; their places of `out` are writable and used by nobody else
    /// meanwhile.
    pub unsafe fn run(&self, form: Form) {
        let layout = &self.weights.layout;
        assert!(layout.group <= 4 * GROUP_QUADS, "groups of {} inputs", layout.group);
        let readable = self.x.encoding != Encoding::Int8 || layout.bits <= form.widest_code8();
        assert!(readable, "codes of {} bits do not go with 8-bit activations here", layout.bits);
        assert!(self.tiles.end * layout.tile_bytes() <= self.weights.bytes.len(), "tiles beyond the weights");
        assert_eq!((self.x.k, self.x.group), (layout.k, layout.group), "activations of another shape");
        assert!(self.rows.end <= self.x.rows, "rows beyond the activations");
        assert!(self.tiles.end * TILE <= self.stride, "tiles beyond a row of the output");
        match layout.bits {
            2 => self.with_bits::<2>(form),
            3 => self.with_bits::<3>(form),
            4 => self.with_bits::<4>(form),
            5 => self.with_bits::<5>(form),
            6 => self.with_bits::<6>(form),
            8 => self.with_bits::<8>(form),
            bits => panic!("codes of {bits} bits"),
        }
    }

    unsafe fn with_bits<const BITS: usize>(&self, form: Form) {
        match self.x.encoding {
            Encoding::Int8 => form.run(Run::<BITS, Int8>(self, Int8)),
            Encoding::Int8Wide => form.run(Run::<BITS, Int16<true>>(self, Int16)),
            Encoding::Int16 => form.run(Run::<BITS, Int16<false>>(self, Int16)),
            Encoding::F32 => form.run(Run::<BITS, F32>(self, F32)),
            Encoding::Words | Encoding::WordBytes => panic!("activations for weights of another kind"),
        }
    }
}
