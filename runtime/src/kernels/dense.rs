//! Products with weights that are stored as floats, over tiles of sixteen rows of W.
//!
//! A tile stands input by input, `[k][16]`, so that one vector holds the weights of sixteen outputs for one input. Every
//! output is one sum over the inputs in their order: it depends on its row of x and on W alone.

use super::TILE;
use super::blocks::{Arithmetic, Blocks};
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
    match kind {
        Float::F32 => {
            let words = tile.as_chunks::<4>().0;
            out.iter_mut().enumerate().for_each(|(i, out)| *out = f32::from_le_bytes(words[i * TILE + row]));
        }
        Float::Bf16 | Float::F16 => {
            out.iter_mut().enumerate().for_each(|(i, out)| *out = kind.read(tile, i * TILE + row));
        }
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
    /// What is added to each row of y behind the products, 16 elements for each tile.
    pub bias: Option<&'a [f32]>,
}

impl DenseProduct<'_> {
    /// Computes it.
    ///
    /// # Panics
    /// If the weights or the bias do not hold the tiles.
    ///
    /// # Safety
    /// The rows of `x` are readable, and their places of `out` are writable and used by nobody else
    /// meanwhile.
    pub unsafe fn run(&self, form: Form) {
        assert!(self.tiles.end * dense_tile_bytes(self.kind, self.k) <= self.weights.len(), "tiles beyond the weights");
        assert!(self.tiles.end * TILE <= self.stride && self.k <= self.x_stride, "rows are too short");
        assert!(self.bias.is_none_or(|bias| self.tiles.end * TILE <= bias.len()), "tiles beyond the bias");
        match self.kind {
            Float::Bf16 => form.run(Run(self, Bf16)),
            Float::F16 => form.run(Run(self, F16)),
            Float::F32 => form.run(Run(self, F32)),
        }
    }
}

struct Run<'a, E>(&'a DenseProduct<'a>, E);

/// Inputs of some tiles that are worked on at a time where there are many rows, so that they stay in the first-level cache
/// while the rows pass: 24 KiB of float32.
const INPUTS: usize = 384;

impl<E: Element> Kernel for Run<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let DenseProduct { k, weights, ref tiles, x, x_stride, ref rows, out, stride, bias, .. } = *self.0;
        let product = Blocks {
            arithmetic: Floats(self.1),
            steps: k,
            // Few rows read each tile once, from its start to its end: they wait for memory.
            piece: [k, if L::ROWS >= 8 { INPUTS / 2 } else { INPUTS }],
            weights: weights.as_ptr(),
            tile_bytes: TILE * E::BYTES * k,
            tiles: tiles.clone(),
            x: x.cast(),
            row_bytes: x_stride * size_of::<f32>(),
            rows: rows.clone(),
            out,
            stride,
            bias: bias.map(<[f32]>::as_ptr),
        };
        product.run::<L>();
    }
}

/// One input at a time, added up in one chain from the first to the last.
#[derive(Clone, Copy)]
struct Floats<E>(E);

impl<E: Element> Arithmetic for Floats<E> {
    type Weights<L: Lanes> = L::F;
    type X<L: Lanes> = L::F;
    type Sum<L: Lanes> = L::F;
    const WEIGHTS_BYTES: usize = TILE * E::BYTES;
    const X_BYTES: usize = size_of::<f32>();
    // Where another thread of the core issues instructions too, each one beside the multiplications counts.
    const TURN: usize = 4;
    const PARTS: usize = 4;

    #[inline(always)]
    unsafe fn weights<L: Lanes>(from: *const u8) -> L::F {
        E::load::<L>(from)
    }

    #[inline(always)]
    unsafe fn x<L: Lanes>(from: *const u8) -> L::F {
        L::splat(from.cast::<f32>().read())
    }

    #[inline(always)]
    unsafe fn begin<L: Lanes>(before: Option<L::F>) -> L::F {
        match before {
            Some(sum) => sum,
            None => L::splat(0.0),
        }
    }

    #[inline(always)]
    unsafe fn add<L: Lanes>(sum: L::F, weights: L::F, x: L::F) -> L::F {
        L::fma(weights, x, sum)
    }

    #[inline(always)]
    unsafe fn end<L: Lanes>(&self, sum: L::F, _: Option<L::F>, _: *const u8, _: usize) -> L::F {
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::super::blocks::ROWS;
    use super::*;

    /// More than a block of inputs, and not in fours.
    const K: usize = INPUTS + 70;
    const TILES: usize = 5;
    const N: usize = TILES * TILE;
    /// More than a block of rows, and not in fours or sixes.
    const X: usize = ROWS + 11;

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

    /// The first `rows` rows, some of them at a time.
    fn product(form: Form, kind: Float, weights: &[u8], rows: usize, at_once: usize) -> Vec<f32> {
        let x = x();
        let mut out = vec![0.0; rows * N];
        for first in (0..rows).step_by(at_once) {
            let product = DenseProduct {
                kind,
                k: K,
                weights,
                tiles: 0..TILES,
                x: x.as_ptr(),
                x_stride: K,
                rows: first..rows.min(first + at_once),
                out: out.as_mut_ptr(),
                stride: N,
                bias: None,
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
            let weights = packed(kind);
            let portable = product(Form::PORTABLE, kind, &weights, X, X);
            for (at, got) in portable.iter().enumerate() {
                let (row, n) = (at / N, at % N);
                let exact: f64 = (0..K).map(|i| f64::from(weight(n, i)) * f64::from(x[row * K + i])).sum();
                assert!((f64::from(*got) - exact).abs() < 2e-3, "{kind:?} {row} {n}: {got} {exact}");
            }
            for form in Form::available() {
                assert!(product(form, kind, &weights, X, X) == portable, "{kind:?} {form:?}");
                for at_once in 1..=17 {
                    let got = product(form, kind, &weights, 17, at_once);
                    assert!(got == portable[..17 * N], "{kind:?} {form:?} {at_once}");
                }
            }
        }
    }

    #[test]
    fn a_sum_is_one_chain_of_fused_operations_in_order() {
        let (x, weights) = (x(), packed(Float::F32));
        for form in Form::available() {
            let out = product(form, Float::F32, &weights, X, X);
            for (row, n) in [(0, 0), (7, 33), (X - 1, N - 1), (ROWS, 17)] {
                let chain = (0..K).fold(0.0f32, |sum, i| weight(n, i).mul_add(x[row * K + i], sum));
                assert_eq!(out[row * N + n].to_bits(), chain.to_bits(), "{form:?} {row} {n}");
            }
        }
    }

    #[test]
    fn without_inputs_every_sum_is_zero() {
        for form in Form::available() {
            for rows in [1, 20] {
                let mut out = vec![1.0; rows * TILE];
                let product = DenseProduct {
                    kind: Float::F32,
                    k: 0,
                    weights: &[],
                    tiles: 0..1,
                    x: [].as_ptr(),
                    x_stride: 0,
                    rows: 0..rows,
                    out: out.as_mut_ptr(),
                    stride: TILE,
                    bias: None,
                };
                // SAFETY: nothing is read, and `out` is this function's own.
                unsafe { product.run(form) };
                assert!(out.iter().all(|y| *y == 0.0), "{form:?}");
            }
        }
    }
}
