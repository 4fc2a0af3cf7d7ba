//! Tiles from matrices as checkpoints store them: rows one after the other, codes in little-endian streams of bits.
//!
//! A tile holds what its rows hold, in another order, so packing is a transposition of the 32-bit words of sixteen rows;
//! after it the fields of a word change places, in all rows alike. Codes of 2, 4 and 8 bits stay in their word; those of
//! 3, 5 and 6 bits cross the borders of words and are parted into planes.

use super::TILE;
use super::affine::{AffineLayout, SPAN, VECTOR, planes};
use super::dense::dense_tile_bytes;
use super::float::Float;
use super::lanes::{BLOCK, Form, Kernel, Lanes};

/// Rows of a matrix as MLX stores them: sixteen, or fewer at the end of a matrix.
#[derive(Debug, Clone, Copy)]
pub struct AffineRows<'a> {
    /// Codes, `[rows, k * bits / 8]`.
    pub codes: &'a [u8],
    /// Scales in the type of the layout, `[rows, k / group]`.
    pub scales: &'a [u8],
    /// Biases in the type of the layout, `[rows, k / group]`.
    pub biases: &'a [u8],
}

impl AffineLayout {
    /// Bytes of a row of codes as they are stored.
    fn row_bytes(&self) -> usize {
        self.k / 8 * self.bits
    }

    /// Writes a tile from stored rows. Rows that are not there are zero.
    ///
    /// # Panics
    /// If a slice has another length, or there are more than sixteen rows.
    pub fn pack_rows(&self, form: Form, rows: &AffineRows<'_>, tile: &mut [u8]) {
        let (row_bytes, scale_bytes) = (self.row_bytes(), self.k / self.group * self.scales.bytes());
        let count = rows.codes.len() / row_bytes;
        let lengths = (rows.codes.len(), rows.scales.len(), rows.biases.len());
        assert_eq!(lengths, (count * row_bytes, count * scale_bytes, count * scale_bytes), "rows of another length");
        assert!(count <= TILE && tile.len() == self.tile_bytes(), "a tile of another size");
        if count < TILE {
            let padded = |bytes: &[u8], row: usize| [bytes, &vec![0; (TILE - count) * row]].concat();
            let (codes, scales) = (padded(rows.codes, row_bytes), padded(rows.scales, scale_bytes));
            let biases = padded(rows.biases, scale_bytes);
            return self.pack_rows(form, &AffineRows { codes: &codes, scales: &scales, biases: &biases }, tile);
        }
        // SAFETY: the kernel reads sixteen rows and writes one tile, as long as was just checked.
        unsafe {
            match self.bits {
                2 => form.run(PackAffine::<2> { layout: self, rows, tile }),
                3 => form.run(PackAffine::<3> { layout: self, rows, tile }),
                4 => form.run(PackAffine::<4> { layout: self, rows, tile }),
                5 => form.run(PackAffine::<5> { layout: self, rows, tile }),
                6 => form.run(PackAffine::<6> { layout: self, rows, tile }),
                8 => form.run(PackAffine::<8> { layout: self, rows, tile }),
                bits => panic!("codes of {bits} bits"),
            }
        }
    }
}

/// Writes a tile from rows of `k` elements as they are stored: sixteen, or fewer at the end of a matrix.
///
/// # Panics
/// If a slice has another length, or there are more than sixteen rows.
pub fn pack_dense_rows(form: Form, kind: Float, k: usize, rows: &[u8], tile: &mut [u8]) {
    assert!(rows.len() <= tile.len() && rows.len().is_multiple_of(k * kind.bytes()), "rows of another length");
    assert_eq!(tile.len(), dense_tile_bytes(kind, k), "a tile of another size");
    if rows.len() < tile.len() {
        let padded = [rows, &vec![0; tile.len() - rows.len()]].concat();
        return pack_dense_rows(form, kind, k, &padded, tile);
    }
    // SAFETY: the kernel reads sixteen rows and writes one tile, as long as was just checked.
    unsafe { form.run(PackDense { element_bytes: kind.bytes(), k, rows, tile }) }
}

struct PackAffine<'a, const BITS: usize> {
    layout: &'a AffineLayout,
    rows: &'a AffineRows<'a>,
    tile: &'a mut [u8],
}

impl<const BITS: usize> Kernel for PackAffine<'_, BITS> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let layout = self.layout;
        let (stride, size) = (layout.row_bytes(), layout.scales.bytes());
        let (groups, group_words) = (layout.k / layout.group, layout.group / SPAN * BITS);
        let codes_bytes = VECTOR * group_words;
        let step = codes_bytes + 2 * TILE * size;
        let tile = self.tile.as_mut_ptr();
        let mut codes = self.rows.codes.as_ptr();
        // The next tile's rows follow this one's: they are asked for in the order of memory.
        let mut next = codes.wrapping_add(TILE * stride);
        for group in 0..groups {
            let to = tile.add(group * step);
            let mut line = 0;
            while line < codes_bytes {
                L::prefetch(next.wrapping_add(line));
                line += VECTOR;
            }
            next = next.wrapping_add(codes_bytes);
            pack_codes::<L, BITS>(codes, stride, group_words, to);
            codes = codes.add(4 * group_words);
        }
        for (at, values) in [(codes_bytes, self.rows.scales), (codes_bytes + TILE * size, self.rows.biases)] {
            match size {
                2 => columns::<L, 2>(groups, values.as_ptr(), 2 * groups, tile.add(at), step),
                _ => columns::<L, 4>(groups, values.as_ptr(), 4 * groups, tile.add(at), step),
            }
        }
    }
}

struct PackDense<'a> {
    element_bytes: usize,
    k: usize,
    rows: &'a [u8],
    tile: &'a mut [u8],
}

impl Kernel for PackDense<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (k, rows, tile) = (self.k, self.rows.as_ptr(), self.tile.as_mut_ptr());
        match self.element_bytes {
            2 => columns::<L, 2>(k, rows, 2 * k, tile, TILE * 2),
            _ => columns::<L, 4>(k, rows, 4 * k, tile, TILE * 4),
        }
    }
}

/// Writes the codes of a group: `words` words of each row.
#[inline(always)]
unsafe fn pack_codes<L: Lanes, const BITS: usize>(from: *const u8, stride: usize, words: usize, to: *mut u8) {
    let (_, high) = const { planes(BITS) };
    let mut at = 0;
    if high > 0 {
        while at < words {
            part::<L, BITS>(from.add(4 * at), stride, to.add(VECTOR * at));
            at += BITS;
        }
        return;
    }
    while words - at >= BLOCK {
        let block = L::transpose(from.add(4 * at), stride);
        for word in 0..BLOCK {
            L::put(to.add(VECTOR * (at + word)), rearranged::<L, BITS>(block[word]));
        }
        at += BLOCK;
    }
    while at < words {
        let word = L::column(from.add(4 * at), stride);
        L::put(to.add(VECTOR * at), rearranged::<L, BITS>(word));
        at += 1;
    }
}

/// Moves the fields of words of 2, 4 or 8 bits: field `4 f + j` becomes field `f` of byte `j`.
#[inline(always)]
unsafe fn rearranged<L: Lanes, const BITS: usize>(words: L::W) -> L::W {
    match BITS {
        4 => swapped::<L>(swapped::<L>(words, 12, 0x0000_f0f0), 8, 0x0000_ff00),
        2 => swapped::<L>(swapped::<L>(words, 12, 0x0000_f0f0), 6, 0x00cc_00cc),
        _ => words,
    }
}

/// Exchanges the bits of `mask` with those `by` places above them.
#[inline(always)]
unsafe fn swapped<L: Lanes>(words: L::W, by: usize, mask: u32) -> L::W {
    let different = L::and(L::xor(L::down(words, by), words), L::splat_word(mask));
    L::xor(L::xor(words, different), L::up(different, by))
}

/// Parts 32 codes of each row into the vectors of two planes.
#[inline(always)]
unsafe fn part<L: Lanes, const BITS: usize>(from: *const u8, stride: usize, to: *mut u8) {
    let (main, high) = const { planes(BITS) };
    let (mains, highs) = (L::splat_word(every_byte(main)), L::splat_word(every_byte(high)));
    // Six are as many as any width needs.
    let mut words = [L::splat_word(0); 6];
    let mut read = 0;
    if BITS >= BLOCK {
        words[..BLOCK].copy_from_slice(&L::transpose(from, stride));
        read = BLOCK;
    }
    while read < BITS {
        words[read] = L::column(from.add(4 * read), stride);
        read += 1;
    }
    let mut out = [L::splat_word(0); 6];
    macro_rules! quad {
        ($quad:expr) => {
            let (word, bit) = (4 * BITS * $quad / 32, 4 * BITS * $quad % 32);
            let mut codes = L::down(words[word], bit);
            if bit + 4 * BITS > 32 {
                codes = L::or(codes, L::up(words[word + 1], 32 - bit));
            }
            let codes = bytes_of::<L, BITS>(codes);
            let (vector, field) = ($quad / (8 / main), $quad % (8 / main));
            out[vector] = L::or(out[vector], L::up(L::and(codes, mains), main * field));
            let (vector, field) = (main + $quad * high / 8, $quad % (8 / high));
            out[vector] = L::or(out[vector], L::up(L::and(L::down(codes, main), highs), high * field));
        };
    }
    // By hand, so that shifts and places are constants.
    quad!(0);
    quad!(1);
    quad!(2);
    quad!(3);
    quad!(4);
    quad!(5);
    quad!(6);
    quad!(7);
    for vector in 0..BITS {
        L::put(to.add(VECTOR * vector), out[vector]);
    }
}

/// The four lowest codes of each word, one in each byte.
#[inline(always)]
unsafe fn bytes_of<L: Lanes, const BITS: usize>(codes: L::W) -> L::W {
    let pair = (1 << (2 * BITS)) - 1;
    let lower = L::and(codes, L::splat_word(pair));
    let upper = L::and(L::up(codes, 16 - 2 * BITS), L::splat_word(pair << 16));
    let pairs = L::or(lower, upper);
    let code = ((1 << BITS) - 1) * 0x0001_0001;
    let lower = L::and(pairs, L::splat_word(code));
    let upper = L::and(L::up(pairs, 8 - BITS), L::splat_word(code << 8));
    L::or(lower, upper)
}

/// The lowest `bits` bits of every byte.
const fn every_byte(bits: usize) -> u32 {
    ((1 << bits) - 1) * 0x0101_0101
}

/// Writes columns of a matrix of sixteen rows, `stride` bytes apart, and `k` columns, with elements of `SIZE` bytes: column
/// `i` to `to + i * step`.
#[inline(always)]
pub(super) unsafe fn columns<L: Lanes, const SIZE: usize>(
    k: usize,
    rows: *const u8,
    stride: usize,
    to: *mut u8,
    step: usize,
) {
    let mut i = 0;
    // A word holds one element, or two of half its size.
    let elements = 4 * BLOCK / SIZE;
    while k - i >= elements {
        let words = L::transpose(rows.add(i * SIZE), stride);
        for word in 0..BLOCK {
            if SIZE == 4 {
                L::put(to.add((i + word) * step), words[word]);
            } else {
                L::put_halves(to.add((i + 2 * word) * step), to.add((i + 2 * word + 1) * step), words[word]);
            }
        }
        i += elements;
    }
    while i < k {
        for row in 0..TILE {
            let element = rows.add(row * stride + i * SIZE).cast::<[u8; SIZE]>().read();
            to.add(i * step + row * SIZE).cast::<[u8; SIZE]>().write(element);
        }
        i += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::dense::pack_dense;

    fn noise(n: usize, seed: usize) -> Vec<u8> {
        let mut state = seed as u64;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..n).map(next).collect()
    }

    /// Bytes of some floats, none of them NaN.
    fn floats(kind: Float, n: usize, seed: usize) -> Vec<u8> {
        let mut bytes = vec![0; n * kind.bytes()];
        for (i, value) in noise(n, seed).into_iter().enumerate() {
            kind.write(&mut bytes, i, (f32::from(value) - 100.0) / 16.0);
        }
        bytes
    }

    /// Codes of one stored row, bit by bit.
    fn codes_of(row: &[u8], bits: usize) -> Vec<u8> {
        let bit = |at: usize| row[at / 8] >> (at % 8) & 1;
        let code = |i: usize| (0..bits).map(|b| bit(i * bits + b) << b).sum();
        (0..row.len() * 8 / bits).map(code).collect()
    }

    /// The tile as the plain way writes it.
    fn plain(layout: &AffineLayout, rows: &AffineRows<'_>) -> Vec<u8> {
        let groups = layout.k / layout.group;
        let mut codes: Vec<u8> =
            rows.codes.chunks(layout.row_bytes()).flat_map(|row| codes_of(row, layout.bits)).collect();
        codes.resize(TILE * layout.k, 0);
        let widened = |bytes: &[u8]| {
            let stored = bytes.len() / layout.scales.bytes();
            let mut values: Vec<f32> = (0..stored).map(|i| layout.scales.read(bytes, i)).collect();
            values.resize(TILE * groups, 0.0);
            values
        };
        let mut tile = vec![0; layout.tile_bytes()];
        layout.pack(&codes, &widened(rows.scales), &widened(rows.biases), &mut tile);
        tile
    }

    #[test]
    fn quantised_rows_are_packed_as_the_plain_way_packs_them() {
        for bits in [2, 3, 4, 5, 6, 8] {
            for (group, k) in [(32, 32), (32, 352), (64, 192), (64, 1024), (128, 128), (128, 640)] {
                for scales in [Float::Bf16, Float::F16, Float::F32] {
                    let layout = AffineLayout { bits, group, scales, k };
                    for count in [1, 5, 15, TILE] {
                        let groups = k / group;
                        let codes = noise(count * layout.row_bytes(), bits + count);
                        let (scales, biases) =
                            (floats(scales, count * groups, k), floats(scales, count * groups, k + 1));
                        let rows = AffineRows { codes: &codes, scales: &scales, biases: &biases };
                        let expected = plain(&layout, &rows);
                        for form in Form::available() {
                            let mut tile = vec![0xaa; layout.tile_bytes()];
                            layout.pack_rows(form, &rows, &mut tile);
                            assert!(tile == expected, "{layout:?} {form:?} {count} rows");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn rows_of_floats_are_packed_as_the_plain_way_packs_them() {
        for kind in [Float::Bf16, Float::F16, Float::F32] {
            for k in [1, 3, 8, 70, 256] {
                for count in [1, 7, TILE] {
                    let mut rows = noise(count * k * kind.bytes(), k + count);
                    let (mut tile, mut expected) =
                        (vec![0xaa; dense_tile_bytes(kind, k)], vec![0; dense_tile_bytes(kind, k)]);
                    for form in Form::available() {
                        pack_dense_rows(form, kind, k, &rows, &mut tile);
                        let stored = rows.len();
                        rows.resize(TILE * k * kind.bytes(), 0);
                        pack_dense(kind, k, &rows, &mut expected);
                        rows.truncate(stored);
                        assert!(tile == expected, "{kind:?} {form:?} {k} inputs, {count} rows");
                    }
                }
            }
        }
    }
}
