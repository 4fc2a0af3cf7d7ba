//! Products with weights that are stored as floats, over tiles of sixteen rows of W.
//!
//! A tile stands input by input, `[k][16]`, so that one vector holds the weights of sixteen outputs for one input. Every
//! output is one sum over the inputs in their order: it depends on its row of x and on W alone.

use super::TILE;
use super::float::{Bf16, Element, F16, F32, Float};
use super::lanes::{Form, Kernel, Lanes};
use std::hint::black_box;
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

/// Rows of x that are worked on at a time, so that a block of their inputs stays in the second-level cache while the
/// tiles pass.
const ROWS: usize = 48;
/// Inputs of a tile that are worked on at a time where there are many rows, so that they stay in the first-level cache
/// while the rows pass: 24 KiB of float32.
const INPUTS: usize = 384;
/// Tiles that all rows pass before the next ones.
const TILES: usize = 4;

impl<E: Element> Kernel for Run<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        if L::ROWS >= 8 {
            blocks::<L, E, 8, 2>(self.0);
        } else if L::ROWS >= 4 {
            blocks::<L, E, 6, 1>(self.0);
        } else {
            blocks::<L, E, 4, 1>(self.0);
        }
    }
}

/// A part of a product: some rows and inputs.
#[derive(Clone, Copy)]
struct Block<'a> {
    product: &'a DenseProduct<'a>,
    rows: (usize, usize),
    inputs: (usize, usize),
}

/// Computes a product, `M` rows and `AT` tiles in the registers: as many sums as fit beside the operands.
#[inline(always)]
unsafe fn blocks<L: Lanes, E: Element, const M: usize, const AT: usize>(product: &DenseProduct<'_>) {
    // Few rows read each tile once, from its start to its end: they wait for memory.
    let each = if product.rows.len() < M { product.k } else { INPUTS / AT };
    let mut row = product.rows.start;
    while row < product.rows.end {
        let end = product.rows.end.min(row + ROWS);
        let mut input = 0;
        loop {
            let stop = product.k.min(input + each);
            let block = Block { product, rows: (row, end), inputs: (input, stop) };
            let mut tile = product.tiles.start;
            while tile < product.tiles.end {
                let last = product.tiles.end.min(tile + TILES);
                block.all_rows::<L, E, M, AT>(tile, last);
                tile = last;
            }
            input = stop;
            if input == product.k {
                break;
            }
        }
        row = end;
    }
}

impl Block<'_> {
    #[inline(always)]
    unsafe fn all_rows<L: Lanes, E: Element, const M: usize, const AT: usize>(self, first: usize, last: usize) {
        let (start, end) = self.rows;
        let whole = start + (end - start) / M * M;
        let mut tile = first;
        while last - tile >= AT {
            self.whole_rows::<L, E, M, AT>(tile, whole);
            tile += AT;
        }
        while tile < last {
            self.whole_rows::<L, E, M, 1>(tile, whole);
            tile += 1;
        }
        // With fewer rows more tiles are in flight instead: a sum alone waits for itself.
        let mut row = whole;
        while end - row >= 4 {
            self.tiles::<L, E, 4, 1>(first, last, row);
            row += 4;
        }
        if end - row >= 2 {
            self.tiles::<L, E, 2, 2>(first, last, row);
            row += 2;
        }
        if end > row {
            self.tiles::<L, E, 1, 4>(first, last, row);
        }
    }

    #[inline(always)]
    unsafe fn whole_rows<L: Lanes, E: Element, const M: usize, const AT: usize>(self, tile: usize, end: usize) {
        let mut row = self.rows.0;
        while row < end {
            self.multiply::<L, E, M, AT>(tile, row);
            row += M;
        }
    }

    #[inline(always)]
    unsafe fn tiles<L: Lanes, E: Element, const M: usize, const AT: usize>(
        self,
        first: usize,
        last: usize,
        row: usize,
    ) {
        let mut tile = first;
        while last - tile >= AT {
            self.multiply::<L, E, M, AT>(tile, row);
            tile += AT;
        }
        while tile < last {
            self.multiply::<L, E, M, 1>(tile, row);
            tile += 1;
        }
    }

    #[inline(always)]
    unsafe fn multiply<L: Lanes, E: Element, const M: usize, const AT: usize>(self, tile: usize, row: usize) {
        let DenseProduct { k, weights, x, x_stride, out, stride, .. } = *self.product;
        let ((start, end), out) = (self.inputs, out.add(row * stride + tile * TILE));
        let apart = TILE * E::BYTES * k;
        let mut operands = Operands { weights: weights.as_ptr().add(tile * apart), apart, rows: [x; M] };
        for m in 0..M {
            // The compiler must not know that the rows are evenly apart: it would add up their addresses in the loop.
            operands.rows[m] = black_box(x.add((row + m) * x_stride));
        }
        let mut sums = [[L::splat(0.0); AT]; M];
        if start > 0 {
            for m in 0..M {
                for a in 0..AT {
                    sums[m][a] = L::load(out.add(m * stride + a * TILE));
                }
            }
        }
        let mut i = start;
        // Four inputs in a turn: where another thread of the core issues instructions too, each one beside the
        // multiplications counts.
        while end - i >= 4 {
            for next in 0..4 {
                operands.add::<L, E, AT>(i + next, &mut sums);
            }
            i += 4;
        }
        while i < end {
            operands.add::<L, E, AT>(i, &mut sums);
            i += 1;
        }
        for m in 0..M {
            for a in 0..AT {
                L::store(out.add(m * stride + a * TILE), sums[m][a]);
            }
        }
    }
}

/// Where some tiles and some rows of x begin.
struct Operands<const M: usize> {
    weights: *const u8,
    /// Bytes from tile to tile.
    apart: usize,
    rows: [*const f32; M],
}

impl<const M: usize> Operands<M> {
    /// Adds the products of input `i`.
    #[inline(always)]
    unsafe fn add<L: Lanes, E: Element, const AT: usize>(&self, i: usize, sums: &mut [[L::F; AT]; M]) {
        let mut weights = [L::splat(0.0); AT];
        for a in 0..AT {
            weights[a] = E::load::<L>(self.weights.add(a * self.apart + i * TILE * E::BYTES));
        }
        for m in 0..M {
            let x = L::splat(self.rows[m].add(i).read());
            for a in 0..AT {
                sums[m][a] = L::fma(weights[a], x, sums[m][a]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
                };
                // SAFETY: nothing is read, and `out` is this function's own.
                unsafe { product.run(form) };
                assert!(out.iter().all(|y| *y == 0.0), "{form:?}");
            }
        }
    }
}
