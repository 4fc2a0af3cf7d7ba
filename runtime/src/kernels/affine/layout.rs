//! Where the codes, scales and biases of a tile stand.
//!
//! A tile is one stream in the order in which it is read: group by group its codes, scales and biases. Codes stand in
//! planes of 8, 4, 2 or 1 bits (3 = 2 + 1, 5 = 4 + 1, 6 = 4 + 2). In a plane of `p` bits, 64 bytes hold the codes of
//! sixteen rows: byte `4 r + j` has row `r`'s codes of inputs `j`, `j + 4`, … , one in each `p` bits, the first lowest.
//! So a shift and a mask give four codes of each row in its lane, and their products with four activations go to one sum
//! per row.

use crate::kernels::TILE;
use crate::kernels::float::Float;

/// Inputs whose codes stand together in whole vectors of every plane.
pub(in crate::kernels) const SPAN: usize = 32;
/// Fours of inputs in a span.
pub(super) const SPAN_QUADS: usize = SPAN / 4;
/// Bytes of a vector of codes.
pub(in crate::kernels) const VECTOR: usize = 64;

/// How a matrix is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AffineLayout {
    /// Width of a code: 2, 3, 4, 5, 6 or 8.
    pub bits: usize,
    /// Inputs per group: a multiple of 32.
    pub group: usize,
    /// Type of scales and biases.
    pub scales: Float,
    /// Inputs: a multiple of the group.
    pub k: usize,
}

/// Bits of the main and of the high plane.
pub(in crate::kernels) const fn planes(bits: usize) -> (usize, usize) {
    match bits {
        3 => (2, 1),
        5 => (4, 1),
        6 => (4, 2),
        whole => (whole, 0),
    }
}

/// The lowest `bits` bits of a byte.
pub(super) const fn mask(bits: usize) -> u8 {
    ((1_u32 << bits) - 1) as u8
}

impl AffineLayout {
    /// Bytes of a tile.
    pub fn tile_bytes(&self) -> usize {
        self.k / SPAN * VECTOR * self.bits + self.k / self.group * 2 * TILE * self.scales.bytes()
    }

    /// Writes a tile, the plain way. `codes`: `[16][k]`; `scales` and `biases`: `[16][k / group]`, values that the type of
    /// the scales holds.
    #[cfg(test)]
    pub(in crate::kernels) fn pack(&self, codes: &[u8], scales: &[f32], biases: &[f32], tile: &mut [u8]) {
        let groups = self.k / self.group;
        assert_eq!((codes.len(), scales.len(), biases.len()), (TILE * self.k, TILE * groups, TILE * groups));
        assert_eq!(tile.len(), self.tile_bytes());
        let (main, high) = planes(self.bits);
        let mut tile = tile;
        for group in 0..groups {
            for span in 0..self.group / SPAN {
                let first = group * self.group + span * SPAN;
                let (vectors, rest) = tile.split_at_mut(VECTOR * self.bits);
                let (low, up) = vectors.split_at_mut(VECTOR * main);
                pack_plane(codes, self.k, first, main, 0, low);
                pack_plane(codes, self.k, first, high, main, up);
                tile = rest;
            }
            for values in [scales, biases] {
                for row in 0..TILE {
                    let value = values[row * groups + group];
                    let (place, rest) = tile.split_at_mut(self.scales.bytes());
                    self.scales.write(place, 0, value);
                    tile = rest;
                }
            }
        }
    }
}

impl AffineLayout {
    /// Dequantises row `row` of a tile: `scale * code + bias`, `[k]`.
    ///
    /// # Panics
    /// If a slice has another length, or there is no such row.
    pub fn unpack_row(&self, tile: &[u8], row: usize, out: &mut [f32]) {
        assert!(tile.len() == self.tile_bytes() && out.len() == self.k && row < TILE);
        let (main, high) = planes(self.bits);
        let size = self.scales.bytes();
        let group_bytes = self.group / SPAN * VECTOR * self.bits + 2 * TILE * size;
        for (group, out) in tile.chunks_exact(group_bytes).zip(out.chunks_exact_mut(self.group)) {
            let (codes, scales) = group.split_at(group_bytes - 2 * TILE * size);
            let (scale, bias) = (self.scales.read(scales, row), self.scales.read(scales, TILE + row));
            for (span, out) in codes.chunks_exact(VECTOR * self.bits).zip(out.chunks_exact_mut(SPAN)) {
                let (low, up) = span.split_at(VECTOR * main);
                for (i, out) in out.iter_mut().enumerate() {
                    let code = u16::from(field_of(low, main, row, i)) | u16::from(field_of(up, high, row, i)) << main;
                    *out = scale.mul_add(f32::from(code), bias);
                }
            }
        }
    }
}

/// Row `row`'s part of the code of input `i` of a span, in a plane of `plane` bits.
fn field_of(vectors: &[u8], plane: usize, row: usize, i: usize) -> u8 {
    if plane == 0 {
        return 0;
    }
    let (quad, fields) = (i / 4, 8 / plane);
    let byte = vectors[quad / fields * VECTOR + 4 * row + i % 4];
    byte >> (quad % fields * plane) & mask(plane)
}

/// Writes bits `from..from + plane` of 32 codes of each row.
#[cfg(test)]
fn pack_plane(codes: &[u8], k: usize, first: usize, plane: usize, from: usize, to: &mut [u8]) {
    if plane == 0 {
        return;
    }
    let fields = 8 / plane;
    let mask = 0x0101_0101 * ((1_u32 << plane) - 1);
    for (vector, to) in to.chunks_exact_mut(VECTOR).enumerate() {
        for (row, to) in to.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let mut word = 0;
            for field in 0..fields {
                let at = row * k + first + 4 * (vector * fields + field);
                let quad = u32::from_le_bytes([codes[at], codes[at + 1], codes[at + 2], codes[at + 3]]);
                word |= (quad >> from & mask) << (field * plane);
            }
            *to = word.to_le_bytes();
        }
    }
}
