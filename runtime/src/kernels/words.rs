//! Products with weights that are rounded to words: `W[r][i] ≈ scale[r] * w` with `w` of 16 bits, over tiles of sixteen
//! rows of W, and activations of 14 bits with one scale per row.
//!
//! Pairs of products are added up in 32 bits, twice as many at a time as products of floats. The scale of a row of W is the
//! smallest one with which no sum of a piece can leave 32 bits, whatever the activations are: about 13 bits of weights that
//! are distributed normally. So a sum is exact, and depends on its row of x and on W alone.
//!
//! A tile stands two inputs by two, `[k / 2][16][2]`, or, for processors that multiply tiles of bytes, with the upper bytes
//! of 64 inputs apart from the lower ones, `[k / 64][2][16][16][4]`: four inputs of each row of W together. Its sixteen
//! scales stand behind them. The sums are the same ones either way.

use super::TILE;
use super::blocks::{Arithmetic, Blocks};
use super::float::Float;
#[cfg(target_arch = "x86_64")]
use super::lanes::amx;
use super::lanes::{Form, Kernel, Lanes};
use super::prepare::{Activations, Encoding, GroupPlaces, TILE_INPUTS, TOP_WORD};
use std::ops::Range;

/// Inputs whose products are added up in 32 bits; two tiles' weights of as many stay in the first-level cache beside the
/// inputs of sixteen rows.
const PIECE: usize = 384;
/// Inputs of a step.
const PAIR: usize = 2;
/// Inputs of a row of W that stand together where bytes are apart.
const QUAD: usize = 4;

/// How a tile of words stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordLayout {
    /// Two inputs by two.
    Pairs,
    /// Upper bytes apart from lower ones.
    Bytes,
}

impl WordLayout {
    /// The one that `form` multiplies the fastest, of those that hold `k` inputs.
    pub fn of(form: Form, k: usize) -> Self {
        if form.has_tiles() && k.is_multiple_of(TILE_INPUTS) { Self::Bytes } else { Self::Pairs }
    }

    /// How the activations stand.
    pub fn encoding(self) -> Encoding {
        match self {
            Self::Pairs => Encoding::Words,
            Self::Bytes => Encoding::WordBytes,
        }
    }

    /// Where the two bytes of the word of a row and an input stand in a tile, the upper one first.
    fn places(self, row: usize, input: usize) -> [usize; 2] {
        match self {
            Self::Pairs => {
                let at = ((input / PAIR * TILE + row) * PAIR + input % PAIR) * size_of::<i16>();
                [at + 1, at]
            }
            Self::Bytes => {
                let (step, quad) = (input / TILE_INPUTS, input % TILE_INPUTS / QUAD);
                let at = step * 2 * TILE * TILE_INPUTS + (quad * TILE + row) * QUAD + input % QUAD;
                [at, at + TILE * TILE_INPUTS]
            }
        }
    }

    fn read(self, tile: &[u8], row: usize, input: usize) -> i16 {
        let [upper, lower] = self.places(row, input);
        i16::from_be_bytes([tile[upper], tile[lower]])
    }

    fn write(self, tile: &mut [u8], row: usize, input: usize, word: i16) {
        let [upper, lower] = self.places(row, input);
        [tile[upper], tile[lower]] = word.to_be_bytes();
    }
}

/// Bytes of a tile of `k` inputs.
pub fn word_tile_bytes(k: usize) -> usize {
    TILE * (k * size_of::<i16>() + size_of::<f32>())
}

/// Rounds rows of `k` floats of type `kind` to a tile: sixteen, or fewer at the end of a matrix.
///
/// # Panics
/// If a slice has another length, there are more than sixteen rows, or the layout does not hold `k` inputs.
pub fn pack_word_rows(layout: WordLayout, kind: Float, k: usize, rows: &[u8], tile: &mut [u8]) {
    let row_bytes = k * kind.bytes();
    assert!(rows.len().is_multiple_of(row_bytes) && rows.len() <= TILE * row_bytes, "rows of another length");
    let step = if layout == WordLayout::Pairs { PAIR } else { TILE_INPUTS };
    assert!(tile.len() == word_tile_bytes(k) && k.is_multiple_of(step), "a tile of another size");
    tile.fill(0);
    let (words, scales) = tile.split_at_mut(TILE * k * size_of::<i16>());
    let mut values = vec![0.0_f32; k];
    for (row, floats) in rows.chunks_exact(row_bytes).enumerate() {
        values.iter_mut().enumerate().for_each(|(i, value)| *value = kind.read(floats, i));
        let scale = scale_of(&values);
        scales[row * size_of::<f32>()..][..size_of::<f32>()].copy_from_slice(&scale.to_le_bytes());
        let factor = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        for (i, value) in values.iter().enumerate() {
            layout.write(words, row, i, (value * factor).round_ties_even() as i16);
        }
    }
}

/// The smallest scale with which neither a word nor the sum of a piece leaves its range. NaN where a weight is not finite,
/// so that the products show it.
fn scale_of(row: &[f32]) -> f32 {
    // Rounding adds a half to each of a piece, and the scale itself is rounded.
    let room = f64::from(i32::MAX / TOP_WORD) * 0.999 - PIECE as f64;
    let sum = |piece: &[f32]| piece.iter().map(|value| f64::from(value.abs())).sum::<f64>();
    let largest = row.iter().fold(0.0_f64, |largest, value| largest.max(f64::from(value.abs())));
    let widest = row.chunks(PIECE).map(sum).fold(0.0_f64, f64::max);
    if !row.iter().all(|value| value.is_finite()) {
        return f32::NAN;
    }
    let scale = (widest / room).max(largest / f64::from(i16::MAX - 1)) as f32;
    // Below, the reciprocal leaves the range of f32.
    if scale < f32::MIN_POSITIVE { 0.0 } else { scale }
}

/// Widens row `row` of a tile of `k` inputs to `out`, `[k]`.
///
/// # Panics
/// If a slice has another length, or there is no such row.
pub fn unpack_word_row(layout: WordLayout, tile: &[u8], row: usize, out: &mut [f32]) {
    assert!(tile.len() == word_tile_bytes(out.len()) && row < TILE);
    let scale = Float::F32.read(&tile[TILE * out.len() * size_of::<i16>()..], row);
    for (i, out) in out.iter_mut().enumerate() {
        *out = scale * f32::from(layout.read(tile, row, i));
    }
}

/// `out[row][16 t..16 t + 16]` for some tiles `t` and rows of activations.
#[derive(Debug, Clone)]
pub struct WordProduct<'a> {
    /// How the tiles stand.
    pub layout: WordLayout,
    /// Tiles of W, one after the other.
    pub weights: &'a [u8],
    /// Which tiles.
    pub tiles: Range<usize>,
    /// x, prepared as [`WordLayout::encoding`] says, in one group.
    pub x: Activations,
    /// Which rows.
    pub rows: Range<usize>,
    /// y, `[rows, stride]`, counted from the first row of `x`.
    pub out: *mut f32,
    /// Elements from row to row of `out`, at least 16 for each tile.
    pub stride: usize,
    /// What is added to each row of y behind the products, 16 elements for each tile.
    pub bias: Option<&'a [f32]>,
}

impl WordProduct<'_> {
    /// Computes it.
    ///
    /// # Panics
    /// If the weights or the bias do not hold the tiles, or the activations are prepared for other ones.
    ///
    /// # Safety
    /// `form` prepared the rows of `x`; their places of `out` are writable and used by nobody else
    /// meanwhile.
    pub unsafe fn run(&self, form: Form) {
        let x = &self.x;
        assert!(x.encoding == self.layout.encoding() && x.group == x.k, "activations of another shape");
        assert!(self.tiles.end * word_tile_bytes(x.k) <= self.weights.len(), "tiles beyond the weights");
        assert!(self.rows.end <= x.rows, "rows beyond the activations");
        assert!(self.tiles.end * TILE <= self.stride, "tiles beyond a row of the output");
        assert!(self.bias.is_none_or(|bias| self.tiles.end * TILE <= bias.len()), "tiles beyond the bias");
        match self.layout {
            WordLayout::Pairs => form.run(Run(self)),
            #[cfg(target_arch = "x86_64")]
            WordLayout::Bytes if form.has_tiles() => self.run_tiles(),
            WordLayout::Bytes => form.run(RunBytes(self)),
        }
    }

    /// # Safety
    /// As [`Self::run`], of a form that has tiles.
    #[cfg(target_arch = "x86_64")]
    unsafe fn run_tiles(&self) {
        let Self { weights, ref tiles, ref x, ref rows, out, stride, bias, .. } = *self;
        amx::WordTiles {
            k: x.k,
            piece: PIECE,
            weights: weights.as_ptr(),
            tile_bytes: word_tile_bytes(x.k),
            tiles: tiles.clone(),
            x: x.quads,
            scales: x.places(),
            rows: rows.clone(),
            out,
            stride,
            bias: bias.map(<[f32]>::as_ptr),
        }
        .multiply();
    }
}

struct Run<'a>(&'a WordProduct<'a>);

impl Kernel for Run<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let WordProduct { weights, ref tiles, ref x, ref rows, out, stride, bias, .. } = *self.0;
        let product = Blocks {
            arithmetic: Words { x: x.places() },
            steps: x.k / PAIR,
            piece: [PIECE / PAIR; 2],
            weights: weights.as_ptr(),
            tile_bytes: word_tile_bytes(x.k),
            tiles: tiles.clone(),
            // In one group rows stand one behind the other.
            x: x.quads,
            row_bytes: x.k * size_of::<i16>(),
            rows: rows.clone(),
            out,
            stride,
            bias: bias.map(<[f32]>::as_ptr),
        };
        product.run::<L>();
    }
}

/// Bytes that stand apart, on processors without tiles of bytes: the reference of those.
struct RunBytes<'a>(&'a WordProduct<'a>);

impl Kernel for RunBytes<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let WordProduct { weights, ref tiles, ref x, ref rows, out, stride, bias, .. } = *self.0;
        let (row_bytes, places) = (x.k * size_of::<i16>(), x.places());
        for tile in tiles.clone() {
            let bytes = &weights[tile * word_tile_bytes(x.k)..(tile + 1) * word_tile_bytes(x.k)];
            let scales = bytes.as_ptr().add(TILE * row_bytes);
            for row in rows.clone() {
                let block = x.quads.add(row / TILE * TILE * row_bytes);
                let y = out.add(row * stride + tile * TILE);
                let mut before = None;
                for start in (0..x.k).step_by(PIECE) {
                    let mut sums = [0_i32; TILE];
                    for input in start..x.k.min(start + PIECE) {
                        let at = input / TILE_INPUTS * 2 * TILE * TILE_INPUTS + row % TILE * TILE_INPUTS;
                        let upper = block.add(at + input % TILE_INPUTS);
                        let word = i16::from_be_bytes([upper.read(), upper.add(TILE * TILE_INPUTS).read()]);
                        for n in 0..TILE {
                            let product = i32::from(word) * i32::from(WordLayout::Bytes.read(bytes, n, input));
                            sums[n] = sums[n].wrapping_add(product);
                        }
                    }
                    before = Some(Words { x: places }.end::<L>(L::load_i32(sums.as_ptr()), before, scales, row));
                }
                let y_of = before.unwrap_or(L::splat(0.0));
                L::store(
                    y,
                    if let Some(bias) = bias { L::add(y_of, L::load(bias.as_ptr().add(tile * TILE))) } else { y_of },
                );
            }
        }
    }
}

/// Two inputs at a time, exactly within a piece.
#[derive(Clone, Copy)]
struct Words {
    x: GroupPlaces,
}

impl Arithmetic for Words {
    type Weights<L: Lanes> = L::Pairs;
    type X<L: Lanes> = L::Pair;
    type Sum<L: Lanes> = L::I;
    const WEIGHTS_BYTES: usize = TILE * PAIR * size_of::<i16>();
    const X_BYTES: usize = PAIR * size_of::<i16>();
    const TURN: usize = 2;
    const PARTS: usize = 1;

    #[inline(always)]
    unsafe fn weights<L: Lanes>(from: *const u8) -> L::Pairs {
        L::load_pairs(from.cast())
    }

    #[inline(always)]
    unsafe fn x<L: Lanes>(from: *const u8) -> L::Pair {
        L::splat_pair(from.cast())
    }

    #[inline(always)]
    unsafe fn begin<L: Lanes>(_: Option<L::F>) -> L::I {
        L::splat_i32(0)
    }

    #[inline(always)]
    unsafe fn add<L: Lanes>(sum: L::I, weights: L::Pairs, x: L::Pair) -> L::I {
        L::dot_pair(sum, weights, x)
    }

    #[inline(always)]
    unsafe fn end<L: Lanes>(&self, sum: L::I, before: Option<L::F>, tile: *const u8, row: usize) -> L::F {
        let scale = L::mul(L::load(tile.cast()), L::splat(self.x.whole_row_scale(row)));
        match before {
            Some(before) => L::fma(scale, L::to_f32(sum), before),
            None => L::mul(scale, L::to_f32(sum)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::blocks::ROWS;
    use super::super::prepare::{GroupOf, padded_rows, prepared_bytes};
    use super::*;

    /// More than a piece, and as much as both layouts hold.
    const K: usize = PIECE + TILE_INPUTS;
    const LAYOUTS: [WordLayout; 2] = [WordLayout::Pairs, WordLayout::Bytes];
    const TILES: usize = 3;
    /// Not in tiles.
    const N: usize = TILES * TILE - 3;
    /// More than a block of rows, and not in fours or sixes.
    const X: usize = ROWS + 23;

    fn weight(n: usize, i: usize) -> f32 {
        ((n * 131 + i * 17 + n * i % 7) % 97) as f32 / 48.0 - 1.0
    }

    fn packed(layout: WordLayout, weight: impl Fn(usize, usize) -> f32) -> Vec<u8> {
        let mut all = vec![0xaa; TILES * word_tile_bytes(K)];
        for (tile, place) in all.chunks_exact_mut(word_tile_bytes(K)).enumerate() {
            let mut rows = Vec::new();
            for n in tile * TILE..N.min((tile + 1) * TILE) {
                (0..K).for_each(|i| rows.extend_from_slice(&weight(n, i).to_le_bytes()));
            }
            pack_word_rows(layout, Float::F32, K, &rows, place);
        }
        all
    }

    fn x() -> Vec<f32> {
        (0..X * K).map(|i| ((i * 37 + i / K) % 101) as f32 / 50.0 - 1.0).collect()
    }

    /// The rows of `x`, some of them at a time.
    fn product(form: Form, layout: WordLayout, weights: &[u8], x: &[f32], at_once: usize) -> Vec<f32> {
        let (rows, stride, encoding) = (x.len() / K, TILES * TILE, layout.encoding());
        let padded = padded_rows(encoding, K, rows);
        let mut quads = vec![0; padded * prepared_bytes(encoding, K)];
        let mut groups = vec![GroupOf::default(); padded];
        let (quads, groups) = (quads.as_mut_ptr(), groups.as_mut_ptr());
        let prepared = Activations { encoding, k: K, group: K, rows, quads, groups };
        let mut out = vec![0.0; rows * stride];
        // SAFETY: all places are this function's own, and long enough.
        unsafe {
            (0..rows).for_each(|row| prepared.write(form, row, x[row * K..].as_ptr()));
            for first in (0..rows).step_by(at_once) {
                let rows = first..rows.min(first + at_once);
                let out = out.as_mut_ptr();
                WordProduct { layout, weights, tiles: 0..TILES, x: prepared, rows, out, stride, bias: None }.run(form);
            }
        }
        out
    }

    #[test]
    fn products_are_near_those_of_the_floats_and_the_same_in_every_form_layout_and_batch() {
        let (x, weights) = (x(), LAYOUTS.map(|layout| packed(layout, weight)));
        let portable = product(Form::PORTABLE, WordLayout::Pairs, &weights[0], &x, X);
        for (row, out) in portable.chunks_exact(TILES * TILE).enumerate() {
            for (n, got) in out.iter().enumerate() {
                let terms = (0..K).map(|i| f64::from(weight(n, i)) * f64::from(x[row * K + i]));
                let exact: f64 = if n < N { terms.sum() } else { 0.0 };
                // Half a step of a weight is 5e-4, and the root of so many errors about twenty times that.
                assert!((f64::from(*got) - exact).abs() < 0.04, "{row} {n}: {got} {exact}");
            }
        }
        for (form, (layout, weights)) in
            Form::available().into_iter().flat_map(|form| LAYOUTS.into_iter().zip(&weights).map(move |of| (form, of)))
        {
            assert!(product(form, layout, weights, &x, X) == portable, "{form:?} {layout:?}");
            for at_once in [1, 2, 3, 5, 7, 8, 13, 16, 17] {
                let got = product(form, layout, weights, &x[..17 * K], at_once);
                assert!(got == portable[..got.len()], "{form:?} {layout:?} {at_once}");
            }
        }
    }

    #[test]
    fn the_largest_sums_do_not_wrap() {
        // All of one magnitude: words as large as the sum of a piece allows, against activations at their top.
        let x: Vec<f32> = (0..K).map(|i| if i % 2 == 0 { 2.0 } else { -2.0 }).collect();
        for layout in LAYOUTS {
            let weights = packed(layout, |n, i| if (n * i) % 2 == 0 { 3.0 } else { -3.0 });
            for form in Form::available() {
                let out = product(form, layout, &weights, &x, 1);
                assert!((out[1] - 6.0 * K as f32).abs() < 0.01 * K as f32, "{form:?} {layout:?} {}", out[1]);
                assert!(out[0].abs() < 0.01 * K as f32, "{form:?} {layout:?} {}", out[0]);
            }
        }
    }

    #[test]
    fn one_large_weight_among_small_ones_stays_within_a_word() {
        let row: Vec<f32> = (0..K).map(|i| if i == 7 { -1000.0 } else { 1e-3 }).collect();
        let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
        for layout in LAYOUTS {
            let mut tile = vec![0; word_tile_bytes(K)];
            pack_word_rows(layout, Float::F32, K, &bytes, &mut tile);
            let mut out = vec![0.0; K];
            unpack_word_row(layout, &tile, 0, &mut out);
            assert!((out[7] + 1000.0).abs() < 0.02 && out[8].abs() < 0.02, "{} {}", out[7], out[8]);
            unpack_word_row(layout, &tile, 1, &mut out);
            assert!(out.iter().all(|value| *value == 0.0));
        }
    }

    #[test]
    fn what_is_not_finite_shows() {
        let x = x();
        let mut broken = x[..K].to_vec();
        broken[K - 1] = f32::NAN;
        for layout in LAYOUTS {
            let weights = packed(layout, |n, i| if (n, i) == (3, 5) { f32::INFINITY } else { weight(n, i) });
            for form in Form::available() {
                let out = product(form, layout, &weights, &x[..2 * K], 2);
                assert!(out[3].is_nan() && out[4].is_finite(), "{form:?} {layout:?}");
                assert!(product(form, layout, &weights, &broken, 1)[4].is_nan(), "{form:?} {layout:?}");
            }
        }
    }
}
