//! Products with weights that are stored as floats, over tiles of sixteen rows of W.
//!
//! A tile stands input by input, `[k][16]`, so that one vector holds the weights of sixteen outputs for one input. Every
//! output is one sum over the inputs in their order: it depends on its row of x and on W alone.

use super::TILE;
use super::float::{Bf16, Element, F16, F32, Float};
use super::lanes::{Form, Kernel, Lanes};
use std::ops::Range;

/// Bytes of a tile of `k` inputs.
pub fn dense_tile_bytes(kind: Float, k: usize) -> usize {
    TILE * k * kind.bytes()
}

/// Writes a tile from sixteen rows of `k` elements, the plain way: `rows`, `[16][k]`.
#[cfg(test)]
pub(super) fn pack_dense(kind: Float, k: usize, rows: &[u8], tile: &mut [u8]) {
    let size = kind.bytes();
    assert!(rows.len() == dense_tile_bytes(kind, k) && tile.len() == rows.len(), "rows of another length");
    for (row, elements) in rows.chunks_exact(k * size).enumerate() {
        for (input, element) in elements.chunks_exact(size).enumerate() {
            tile[(input * TILE + row) * size..][..size].copy_from_slice(element);
        }
    }
}

/// Widens row `row` of a tile of `k` inputs to `out`, `[k]`.
///
/// # Panics
/// If a slice has another length, or there is no such row.
pub fn unpack_dense_row(kind: Float, tile: &[u8], row: usize, out: &mut [f32]) {
    assert!(tile.len() == dense_tile_bytes(kind, out.len()) && row < TILE);
    for (elements, out) in tile.chunks_exact(TILE * kind.bytes()).zip(out) {
        *out = kind.read(elements, row);
    }
}

/// `out[row][16 t..16 t + 16]` for some tiles `t` and rows of floats.
#[derive(Debug, Clone)]
pub struct DenseProduct<'a> {
    /// Type of the weights.
    pub kind: Float,
    /// Inputs.
    pub k: usize,
    /// Tiles of W, one after the other.
    pub weights: &'a [u8],
    /// Which tiles.
    pub tiles: Range<usize>,
    /// x, `[rows, x_stride]`.
    pub x: *const f32,
    /// Elements from row to row of `x`.
    pub x_stride: usize,
    /// Which rows.
    pub rows: Range<usize>,
    /// y, `[rows, stride]`.
    pub out: *mut f32,
    /// Elements from row to row of `out`, at least 16 for each tile.
    pub stride: usize,
}

impl DenseProduct<'_> {
    /// Computes it.
    ///
    /// # Panics
    /// If the weights do not hold the tiles.
    ///
    /// # Safety
    /// The rows of `x` are readable, and their places of `out` are writable and used by nobody else
    /// meanwhile.
    pub unsafe fn run(&self, form: Form) {
        assert!(self.tiles.end * dense_tile_bytes(self.kind, self.k) <= self.weights.len(), "tiles beyond the weights");
        assert!(self.tiles.end * TILE <= self.stride && self.k <= self.x_stride, "rows are too short");
        match self.kind {
            Float::Bf16 => form.run(Run(self, Bf16)),
            Float::F16 => form.run(Run(self, F16)),
            Float::F32 => form.run(Run(self, F32)),
        }
    }
}

struct Run<'a, E>(&'a DenseProduct<'a>, E);

/// Rows of x that are worked on at a time, so that they stay in the cache while the tiles pass.
const ROWS: usize = 64;

impl<E: Element> Kernel for Run<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let product = self.0;
        let mut first = product.rows.start;
        while first < product.rows.end {
            let end = product.rows.end.min(first + ROWS);
            let mut row = first;
            // With fewer rows more tiles are in flight instead: a sum alone waits for itself.
            while end - row >= 4 {
                tiles::<L, E, 4, 1>(product, row);
                row += 4;
            }
            if end - row >= 2 {
                tiles::<L, E, 2, 2>(product, row);
                row += 2;
            }
            if end > row {
                tiles::<L, E, 1, 4>(product, row);
            }
            first = end;
        }
    }
}

#[inline(always)]
unsafe fn tiles<L: Lanes, E: Element, const M: usize, const AT: usize>(product: &DenseProduct<'_>, row: usize) {
    let mut tile = product.tiles.start;
    while product.tiles.end - tile >= AT {
        multiply::<L, E, M, AT>(product, tile, row);
        tile += AT;
    }
    while tile < product.tiles.end {
        multiply::<L, E, M, 1>(product, tile, row);
        tile += 1;
    }
}

#[inline(always)]
unsafe fn multiply<L: Lanes, E: Element, const M: usize, const AT: usize>(
    product: &DenseProduct<'_>,
    tile: usize,
    row: usize,
) {
    let step = TILE * E::BYTES;
    let first = product.weights.as_ptr().add(tile * step * product.k);
    let x = product.x.add(row * product.x_stride);
    let mut sums = [[L::splat(0.0); AT]; M];
    for i in 0..product.k {
        for a in 0..AT {
            let weights = E::load::<L>(first.add((a * product.k + i) * step));
            for m in 0..M {
                sums[m][a] = L::fma(weights, L::splat(x.add(m * product.x_stride + i).read()), sums[m][a]);
            }
        }
    }
    for m in 0..M {
        for a in 0..AT {
            L::store(product.out.add((row + m) * product.stride + (tile + a) * TILE), sums[m][a]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const K: usize = 70;
    const TILES: usize = 5;
    const N: usize = TILES * TILE;
    const X: usize = 9;

    fn weight(n: usize, i: usize) -> f32 {
        half::bf16::from_f32(((n * 131 + i * 17) % 97) as f32 / 48.0 - 1.0).to_f32()
    }

    fn x() -> Vec<f32> {
        (0..X * K).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect()
    }

    fn packed(kind: Float) -> Vec<u8> {
        let tile_bytes = dense_tile_bytes(kind, K);
        let mut all = vec![0; TILES * tile_bytes];
        for (tile, place) in all.chunks_exact_mut(tile_bytes).enumerate() {
            let values = (0..TILE).flat_map(|row| (0..K).map(move |i| weight(tile * TILE + row, i)));
            let rows: Vec<u8> = values
                .flat_map(|value| match kind {
                    Float::Bf16 => half::bf16::from_f32(value).to_le_bytes().to_vec(),
                    Float::F16 => half::f16::from_f32(value).to_le_bytes().to_vec(),
                    Float::F32 => value.to_le_bytes().to_vec(),
                })
                .collect();
            pack_dense(kind, K, &rows, place);
        }
        all
    }

    fn product(form: Form, kind: Float, at_once: usize) -> Vec<f32> {
        let (x, weights) = (x(), packed(kind));
        let mut out = vec![0.0; X * N];
        for first in (0..X).step_by(at_once) {
            let product = DenseProduct {
                kind,
                k: K,
                weights: &weights,
                tiles: 0..TILES,
                x: x.as_ptr(),
                x_stride: K,
                rows: first..X.min(first + at_once),
                out: out.as_mut_ptr(),
                stride: N,
            };
            // SAFETY: both are this function's own, and long enough.
            unsafe { product.run(form) };
        }
        out
    }

    #[test]
    fn products_are_those_of_the_stored_values_in_every_form_and_batch() {
        let x = x();
        for kind in [Float::Bf16, Float::F16, Float::F32] {
            let portable = product(Form::PORTABLE, kind, X);
            for (at, got) in portable.iter().enumerate() {
                let (row, n) = (at / N, at % N);
                let exact: f64 = (0..K).map(|i| f64::from(weight(n, i)) * f64::from(x[row * K + i])).sum();
                assert!((f64::from(*got) - exact).abs() < 2e-3, "{kind:?} {row} {n}: {got} {exact}");
            }
            for form in Form::available() {
                for at_once in [1, 2, 3, 4, 7, X] {
                    assert!(product(form, kind, at_once) == portable, "{kind:?} {form:?} {at_once}");
                }
            }
        }
    }
}
