//! Products with affine weights: `y = x Wᵀ` with `W[r][i] = scale * code + bias`, over tiles of sixteen rows of W.
//!
//! A tile is one stream in the order in which it is read: group by group its codes, scales and biases. Codes stand in
//! planes of 8, 4, 2 or 1 bits (3 = 2 + 1, 5 = 4 + 1, 6 = 4 + 2). In a plane of `p` bits, 64 bytes hold the codes of
//! sixteen rows: byte `4 r + j` has row `r`'s codes of inputs `j`, `j + 4`, … , one in each `p` bits, the first lowest.
//! So a shift and a mask give four codes of each row in its lane, and their products with four activations go to one sum
//! per row.
//!
//! A row of y is summed over the groups in their order, each group's products exactly (in integers, or over the inputs
//! in order): the result depends on that row of x and on W alone, whatever is computed beside it.

use super::TILE;
use super::float::Float;
use super::lanes::{Form, Kernel, Lanes};
use super::prepare::{Activations, BLOCK_ROWS, BlockPlace, Encoding, GroupPlaces, quad_bytes};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Inputs whose codes stand together in whole vectors of every plane.
pub(super) const SPAN: usize = 32;
/// Bytes of a vector of codes.
pub(super) const VECTOR: usize = 64;
/// How far ahead of the codes in use the next ones are asked for, in bytes.
const AHEAD: usize = 4096;

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
pub(super) const fn planes(bits: usize) -> (usize, usize) {
    match bits {
        3 => (2, 1),
        5 => (4, 1),
        6 => (4, 2),
        whole => (whole, 0),
    }
}

impl AffineLayout {
    /// Bytes of a tile.
    pub fn tile_bytes(&self) -> usize {
        self.k / SPAN * VECTOR * self.bits + self.k / self.group * 2 * TILE * self.scales.bytes()
    }

    /// Writes a tile, the plain way. `codes`: `[16][k]`; `scales` and `biases`: `[16][k / group]`, values that the type of
    /// the scales holds.
    #[cfg(test)]
    pub(super) fn pack(&self, codes: &[u8], scales: &[f32], biases: &[f32], tile: &mut [u8]) {
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
        }
    }
}

/// How activations meet codes.
trait Multiply {
    const ENCODING: Encoding;
    /// Codes of sixteen rows and four inputs, in the form that they are multiplied in.
    type Codes<L: Lanes>: Copy;
    type Sum<L: Lanes>: Copy;

    /// How many quads of `BITS`-bit codes may be added up before [`Self::settle`].
    fn every<L: Lanes>(bits: usize) -> usize;
    unsafe fn zero<L: Lanes>() -> Self::Sum<L>;
    unsafe fn codes<L: Lanes>(bytes: L::B) -> Self::Codes<L>;
    /// Adds the products with one quad of each row.
    unsafe fn dot<L: Lanes, const M: usize>(
        sums: &mut [Self::Sum<L>; M],
        codes: Self::Codes<L>,
        quads: &[*const u8; M],
        at: usize,
    );
    unsafe fn settle<L: Lanes>(sum: Self::Sum<L>) -> Self::Sum<L>;
    /// Of a sum that has been settled.
    unsafe fn done<L: Lanes>(sum: Self::Sum<L>) -> L::F;
}

struct Int8;
/// With 15 bits, or (`NARROW`) with 8 bits in the places of 15.
struct Int16<const NARROW: bool>;
struct F32;

/// Quads of a span.
const SPAN_QUADS: usize = SPAN / 4;

impl Multiply for Int8 {
    const ENCODING: Encoding = Encoding::Int8;
    type Codes<L: Lanes> = L::B;
    type Sum<L: Lanes> = L::Sum8;

    #[inline(always)]
    fn every<L: Lanes>(bits: usize) -> usize {
        L::settle8_every(bits)
    }

    #[inline(always)]
    unsafe fn zero<L: Lanes>() -> L::Sum8 {
        L::zero8()
    }

    #[inline(always)]
    unsafe fn codes<L: Lanes>(bytes: L::B) -> L::B {
        bytes
    }

    #[inline(always)]
    unsafe fn dot<L: Lanes, const M: usize>(sums: &mut [L::Sum8; M], codes: L::B, quads: &[*const u8; M], at: usize) {
        for m in 0..M {
            sums[m] = L::dot8(sums[m], codes, quads[m].add(at));
        }
    }

    #[inline(always)]
    unsafe fn settle<L: Lanes>(sum: L::Sum8) -> L::Sum8 {
        L::settle8(sum)
    }

    #[inline(always)]
    unsafe fn done<L: Lanes>(sum: L::Sum8) -> L::F {
        L::to_f32(L::done8(sum))
    }
}

impl<const NARROW: bool> Multiply for Int16<NARROW> {
    const ENCODING: Encoding = if NARROW { Encoding::Int8Wide } else { Encoding::Int16 };
    type Codes<L: Lanes> = L::Words;
    type Sum<L: Lanes> = L::Sum16;

    #[inline(always)]
    fn every<L: Lanes>(_: usize) -> usize {
        usize::MAX
    }

    #[inline(always)]
    unsafe fn zero<L: Lanes>() -> L::Sum16 {
        L::zero16()
    }

    #[inline(always)]
    unsafe fn codes<L: Lanes>(bytes: L::B) -> L::Words {
        L::words(bytes)
    }

    #[inline(always)]
    unsafe fn dot<L: Lanes, const M: usize>(
        sums: &mut [L::Sum16; M],
        codes: L::Words,
        quads: &[*const u8; M],
        at: usize,
    ) {
        for m in 0..M {
            sums[m] = L::dot16(sums[m], codes, quads[m].add(at));
        }
    }

    #[inline(always)]
    unsafe fn settle<L: Lanes>(sum: L::Sum16) -> L::Sum16 {
        sum
    }

    #[inline(always)]
    unsafe fn done<L: Lanes>(sum: L::Sum16) -> L::F {
        L::to_f32(L::done16(sum))
    }
}

impl Multiply for F32 {
    const ENCODING: Encoding = Encoding::F32;
    type Codes<L: Lanes> = [L::F; 4];
    type Sum<L: Lanes> = L::F;

    #[inline(always)]
    fn every<L: Lanes>(_: usize) -> usize {
        usize::MAX
    }

    #[inline(always)]
    unsafe fn zero<L: Lanes>() -> L::F {
        L::splat(0.0)
    }

    #[inline(always)]
    unsafe fn codes<L: Lanes>(bytes: L::B) -> [L::F; 4] {
        [L::byte_to_f32(bytes, 0), L::byte_to_f32(bytes, 1), L::byte_to_f32(bytes, 2), L::byte_to_f32(bytes, 3)]
    }

    #[inline(always)]
    unsafe fn dot<L: Lanes, const M: usize>(sums: &mut [L::F; M], codes: [L::F; 4], quads: &[*const u8; M], at: usize) {
        for j in 0..4 {
            for m in 0..M {
                let x = quads[m].add(at).cast::<f32>().add(j).read_unaligned();
                sums[m] = L::fma(codes[j], L::splat(x), sums[m]);
            }
        }
    }

    #[inline(always)]
    unsafe fn settle<L: Lanes>(sum: L::F) -> L::F {
        sum
    }

    #[inline(always)]
    unsafe fn done<L: Lanes>(sum: L::F) -> L::F {
        sum
    }
}

struct Run<'a, const BITS: usize, A>(&'a Product<'a>, A);

/// The largest group, in quads.
const GROUP_QUADS: usize = 128 / 4;

/// A [`Product`] with its strides worked out, held by value: behind a pointer every number would be read and every
/// stride divided again for each row of a group.
#[derive(Clone, Copy)]
struct Places {
    weights: *const u8,
    tile_bytes: usize,
    scales: Float,
    group: usize,
    groups: usize,
    /// See [`Multiply::every`]. A variable, because the compiler would unroll a loop of a constant length until it runs
    /// out of registers.
    every: usize,
    x: GroupPlaces,
    out: *mut f32,
    stride: usize,
}

impl<const BITS: usize, A: Multiply> Kernel for Run<'_, BITS, A> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let product = self.0;
        let layout = product.weights.layout;
        let places = Places {
            weights: product.weights.bytes.as_ptr(),
            tile_bytes: layout.tile_bytes(),
            scales: layout.scales,
            group: layout.group,
            groups: layout.k / layout.group,
            every: A::every::<L>(BITS).min(layout.group / 4),
            x: product.x.places(),
            out: product.out,
            stride: product.stride,
        };
        let (mut first, end) = (product.rows.start, product.rows.end);
        while first < end {
            let block = first / places.x.block;
            let rows = first % places.x.block..places.x.block.min(end - block * places.x.block);
            for tile in product.tiles.clone() {
                // Many rows share the work of taking the codes apart; for few, storing them would cost more.
                if rows.len() >= 2 * L::ROWS {
                    panel::<L, A, BITS>(places, tile, block, rows.clone());
                } else {
                    tile_by_rows::<L, A, BITS>(places, tile, block, rows.clone());
                }
            }
            first = (block + 1) * places.x.block;
        }
    }
}

#[inline(always)]
unsafe fn tile_by_rows<L: Lanes, A: Multiply, const BITS: usize>(
    places: Places,
    tile: usize,
    block: usize,
    rows: Range<usize>,
) {
    let mut row = rows.start;
    if L::ROWS >= 8 {
        while rows.end - row >= 8 {
            multiply::<L, A, BITS, 8>(places, tile, block, row);
            row += 8;
        }
    }
    if L::ROWS >= 4 {
        while rows.end - row >= 4 {
            multiply::<L, A, BITS, 4>(places, tile, block, row);
            row += 4;
        }
        if rows.end - row >= 2 {
            multiply::<L, A, BITS, 2>(places, tile, block, row);
            row += 2;
        }
    }
    while row < rows.end {
        multiply::<L, A, BITS, 1>(places, tile, block, row);
        row += 1;
    }
}

/// Takes the codes of a span apart: `$each!(quad, bytes)` for its eight quads.
macro_rules! each_quad {
    ($L:ty, $bits:expr, $w:expr, $each:ident) => {
        let (main, high) = const { planes($bits) };
        // One vector of the main plane at a time, each with one, two or four quads of inputs.
        for vector in 0..main {
            let low = <$L>::load_bytes($w.add(VECTOR * vector));
            <$L>::prefetch($w.wrapping_add(AHEAD + VECTOR * vector));
            macro_rules! quad {
                ($field:expr) => {
                    let mut codes = <$L>::field(low, (main * $field) as u32, mask(main));
                    let t = vector * (8 / main) + $field;
                    if high > 0 {
                        let fields = 8 / high.max(1);
                        let up = <$L>::load_bytes($w.add(VECTOR * (main + t / fields)));
                        let up = <$L>::field_at(up, (high * (t % fields)) as u32, mask(high));
                        codes = <$L>::merge(codes, up, main as u32);
                    }
                    $each!(t, codes);
                };
            }
            // By hand, because the shifts have to be constants.
            quad!(0);
            if main < 8 {
                quad!(1);
            }
            if main < 4 {
                quad!(2);
                quad!(3);
            }
        }
        for vector in 0..high {
            <$L>::prefetch($w.wrapping_add(AHEAD + VECTOR * (main + vector)));
        }
    };
}

/// One tile times `M` rows of activations.
#[inline(always)]
unsafe fn multiply<L: Lanes, A: Multiply, const BITS: usize, const M: usize>(
    places: Places,
    tile: usize,
    block: usize,
    first: usize,
) {
    let quad_bytes = quad_bytes(A::ENCODING);
    let every = A::every::<L>(BITS);
    let mut w = places.weights.add(tile * places.tile_bytes);
    let mut quads = [std::ptr::null::<u8>(); M];
    let mut y = [L::splat(0.0); M];
    for group in 0..places.groups {
        let x = places.x.block(block, group);
        for m in 0..M {
            quads[m] = x.quads(first + m);
        }
        let mut sums = [A::zero::<L>(); M];
        for _ in 0..places.group / SPAN {
            macro_rules! each {
                ($t:expr, $bytes:expr) => {
                    A::dot::<L, M>(&mut sums, A::codes::<L>($bytes), &quads, $t * quad_bytes);
                    if ($t + 1) % every.min(SPAN_QUADS) == 0 {
                        for m in 0..M {
                            sums[m] = A::settle::<L>(sums[m]);
                        }
                    }
                };
            }
            each_quad!(L, BITS, w, each);
            w = w.add(VECTOR * BITS);
            for m in 0..M {
                quads[m] = quads[m].add(SPAN_QUADS * quad_bytes);
            }
        }
        let scales = scales_and_biases::<L>(places.scales, w);
        w = w.add(2 * TILE * places.scales.bytes());
        for m in 0..M {
            y[m] = add_group::<L>(y[m], A::done::<L>(sums[m]), scales, x.factors(first + m));
        }
    }
    for m in 0..M {
        L::store(places.out.add((block * places.x.block + first + m) * places.stride + tile * TILE), y[m]);
    }
}

/// Adds a group: its products, `sum`, and its part of the common offset.
#[inline(always)]
unsafe fn add_group<L: Lanes>(y: L::F, sum: L::F, [scale, bias]: [L::F; 2], (x_scale, x_sum): (f32, f32)) -> L::F {
    L::fma(bias, L::splat(x_sum), L::fma(L::mul(scale, L::splat(x_scale)), sum, y))
}

/// One tile times rows of a block. The codes of a group are taken apart once, for all of them.
#[inline(always)]
unsafe fn panel<L: Lanes, A: Multiply, const BITS: usize>(
    places: Places,
    tile: usize,
    block: usize,
    rows: Range<usize>,
) {
    let mut w = places.weights.add(tile * places.tile_bytes);
    let mut y = [L::splat(0.0); BLOCK_ROWS];
    let mut codes = [MaybeUninit::<A::Codes<L>>::uninit(); GROUP_QUADS];
    for group in 0..places.groups {
        for span in 0..places.group / SPAN {
            macro_rules! each {
                ($t:expr, $bytes:expr) => {
                    codes[span * SPAN_QUADS + $t].write(A::codes::<L>($bytes));
                };
            }
            each_quad!(L, BITS, w, each);
            w = w.add(VECTOR * BITS);
        }
        let scales = scales_and_biases::<L>(places.scales, w);
        w = w.add(2 * TILE * places.scales.bytes());
        let x = places.x.block(block, group);
        let mut row = rows.start;
        let y = y.as_mut_ptr();
        while L::ROWS >= 8 && rows.end - row >= 8 {
            panel_rows::<L, A, BITS, 8>(places, &codes, scales, x, row, y.add(row));
            row += 8;
        }
        while rows.end - row >= 4 {
            panel_rows::<L, A, BITS, 4>(places, &codes, scales, x, row, y.add(row));
            row += 4;
        }
        while row < rows.end {
            panel_rows::<L, A, BITS, 1>(places, &codes, scales, x, row, y.add(row));
            row += 1;
        }
    }
    for row in rows.clone() {
        L::store(places.out.add((block * places.x.block + row) * places.stride + tile * TILE), y[row]);
    }
}

/// One group of a tile times `M` rows.
#[inline(always)]
unsafe fn panel_rows<L: Lanes, A: Multiply, const BITS: usize, const M: usize>(
    places: Places,
    codes: &[MaybeUninit<A::Codes<L>>; GROUP_QUADS],
    scales: [L::F; 2],
    x: BlockPlace,
    first: usize,
    y: *mut L::F,
) {
    let quad_bytes = quad_bytes(A::ENCODING);
    let every = places.every;
    let mut quads = [std::ptr::null::<u8>(); M];
    let mut sums = [A::zero::<L>(); M];
    for m in 0..M {
        quads[m] = x.quads(first + m);
    }
    let mut at = 0;
    while at < places.group / 4 {
        for t in 0..every {
            let codes = codes.as_ptr().add(at + t).cast::<A::Codes<L>>().read();
            A::dot::<L, M>(&mut sums, codes, &quads, t * quad_bytes);
        }
        for m in 0..M {
            sums[m] = A::settle::<L>(sums[m]);
            quads[m] = quads[m].add(every * quad_bytes);
        }
        at += every;
    }
    for m in 0..M {
        let y = y.add(m);
        y.write(add_group::<L>(y.read(), A::done::<L>(sums[m]), scales, x.factors(first + m)));
    }
}

/// The lowest `bits` bits of a byte.
const fn mask(bits: usize) -> u8 {
    ((1_u32 << bits) - 1) as u8
}

#[inline(always)]
unsafe fn scales_and_biases<L: Lanes>(kind: Float, from: *const u8) -> [L::F; 2] {
    [load_scales::<L>(kind, from), load_scales::<L>(kind, from.add(TILE * kind.bytes()))]
}

#[inline(always)]
unsafe fn load_scales<L: Lanes>(kind: Float, from: *const u8) -> L::F {
    match kind {
        Float::Bf16 => L::load_bf16(from.cast()),
        Float::F16 => L::load_f16(from.cast()),
        Float::F32 => L::load(from.cast()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ComputeMode;
    use crate::kernels::{GroupOf, padded_rows, prepared_bytes};

    /// Numbers that look random and are the same everywhere.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.0 >> 33
        }

        /// In -1..1, a bfloat16.
        fn float(&mut self) -> f32 {
            half::bf16::from_f32((self.next() % 20_000) as f32 / 10_000.0 - 1.0).to_f32()
        }
    }

    struct Case {
        layout: AffineLayout,
        codes: Vec<u8>,
        scales: Vec<f32>,
        biases: Vec<f32>,
        bytes: Vec<u8>,
        x: Vec<f32>,
    }

    const TILES: usize = 2;
    const ROWS: usize = 15;

    impl Case {
        fn new(bits: usize, group: usize, scales: Float) -> Self {
            let layout = AffineLayout { bits, group, scales, k: 256 };
            let groups = layout.k / group;
            let mut numbers = Numbers(bits as u64 * 1000 + group as u64);
            let mut floats = |n: usize, factor: f32| (0..n).map(|_| numbers.float() * factor).collect::<Vec<_>>();
            let (scales, biases) = (floats(TILES * TILE * groups, 0.125), floats(TILES * TILE * groups, 1.0));
            let x = floats(ROWS * layout.k, 1.0);
            let mask = ((1_u32 << bits) - 1) as u8;
            let codes: Vec<u8> = (0..TILES * TILE * layout.k).map(|_| numbers.next() as u8 & mask).collect();
            let mut bytes = vec![0; TILES * layout.tile_bytes()];
            for tile in 0..TILES {
                let rows = |per: usize| tile * TILE * per..(tile + 1) * TILE * per;
                let place = &mut bytes[tile * layout.tile_bytes()..][..layout.tile_bytes()];
                layout.pack(&codes[rows(layout.k)], &scales[rows(groups)], &biases[rows(groups)], place);
            }
            Self { layout, codes, scales, biases, bytes, x }
        }

        /// The product, with `rows` rows of activations at a time.
        fn product(&self, form: Form, mode: ComputeMode, rows: usize) -> Vec<f32> {
            let (k, groups) = (self.layout.k, self.layout.k / self.layout.group);
            let all = self.x.len() / k;
            let encoding = Encoding::of(form, mode, self.layout.bits);
            let padded = padded_rows(encoding, k, all);
            let mut quads = vec![0; padded * prepared_bytes(encoding, k)];
            let mut of_groups = vec![GroupOf::default(); padded * groups];
            let mut out = vec![0.0; all * TILES * TILE];
            let x = Activations {
                encoding,
                k,
                group: self.layout.group,
                rows: all,
                quads: quads.as_mut_ptr(),
                groups: of_groups.as_mut_ptr(),
            };
            for row in 0..all {
                // SAFETY: all of them are this function's own, and long enough.
                unsafe { x.write(form, row, self.x[row * k..].as_ptr()) };
            }
            for first in (0..all).step_by(rows) {
                let product = Product {
                    weights: AffineTiles { layout: self.layout, bytes: &self.bytes },
                    tiles: 0..TILES,
                    x,
                    rows: first..all.min(first + rows),
                    out: out.as_mut_ptr(),
                    stride: TILES * TILE,
                };
                // SAFETY: all of them are this function's own, and long enough.
                unsafe { product.run(form) };
            }
            out
        }

        fn exact(&self) -> Vec<f64> {
            let (k, group) = (self.layout.k, self.layout.group);
            let element = |row: usize, n: usize, i: usize| {
                let at = n * (k / group) + i / group;
                let weight = f64::from(self.scales[at]) * f64::from(self.codes[n * k + i]) + f64::from(self.biases[at]);
                weight * f64::from(self.x[row * k + i])
            };
            let places = (0..ROWS).flat_map(|row| (0..TILES * TILE).map(move |n| (row, n)));
            places.map(|(row, n)| (0..k).map(|i| element(row, n, i)).sum()).collect()
        }
    }

    fn cases() -> impl Iterator<Item = Case> {
        let kinds = [Float::Bf16, Float::F16, Float::F32];
        let shapes = [2, 3, 4, 5, 6, 8].into_iter().flat_map(|bits| [32, 64, 128].map(|group| (bits, group)));
        shapes.flat_map(move |(bits, group)| kinds.map(|kind| Case::new(bits, group, kind)))
    }

    fn bit_patterns(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn products_are_as_exact_as_their_mode() {
        for case in cases() {
            let exact = case.exact();
            let size = exact.iter().map(|value| value * value).sum::<f64>();
            for (mode, limit) in [(ComputeMode::Int8, 1e-2), (ComputeMode::Int16, 1e-4), (ComputeMode::F32, 1e-6)] {
                let got = case.product(Form::PORTABLE, mode, ROWS);
                let error = exact.iter().zip(&got).map(|(a, b)| (a - f64::from(*b)).powi(2)).sum::<f64>();
                let relative = (error / size).sqrt();
                assert!(relative < limit, "{:?} {mode:?}: {relative}", case.layout);
            }
        }
    }

    #[test]
    fn all_forms_give_the_same_bits_for_any_number_of_rows() {
        for case in cases() {
            for mode in [ComputeMode::Int8, ComputeMode::Int16, ComputeMode::F32] {
                let portable = bit_patterns(&case.product(Form::PORTABLE, mode, ROWS));
                for form in Form::available() {
                    for rows in [1, 2, 3, 5, ROWS] {
                        let got = bit_patterns(&case.product(form, mode, rows));
                        assert!(got == portable, "{:?} {mode:?} {form:?} {rows} rows", case.layout);
                    }
                }
            }
        }
    }

    #[test]
    fn rows_are_the_same_in_every_block() {
        const MANY: usize = 2 * BLOCK_ROWS + 2;
        for bits in [4, 8] {
            let mut case = Case::new(bits, 64, Float::Bf16);
            let few = case.x.clone();
            for mode in [ComputeMode::Int8, ComputeMode::Int16, ComputeMode::F32] {
                for form in Form::available() {
                    case.x.clone_from(&few);
                    let alone = bit_patterns(&case.product(form, mode, 1));
                    case.x = few.iter().copied().cycle().take(MANY * case.layout.k).collect();
                    let got = bit_patterns(&case.product(form, mode, MANY));
                    let expected = alone.iter().cycle().take(MANY * TILES * TILE);
                    assert!(got.iter().eq(expected), "{bits} bits {mode:?} {form:?}");
                }
            }
        }
    }

    #[test]
    fn the_largest_products_do_not_overflow() {
        for bits in [2, 3, 4, 5, 6, 8] {
            for sign in [1.0, -1.0] {
                let mut case = Case::new(bits, 128, Float::F32);
                let codes = vec![((1_u32 << bits) - 1) as u8; TILE * case.layout.k];
                let groups = case.layout.k / case.layout.group;
                let (scales, biases) = (vec![1.0; TILE * groups], vec![0.0; TILE * groups]);
                for tile in case.bytes.chunks_exact_mut(case.layout.tile_bytes()) {
                    case.layout.pack(&codes, &scales, &biases, tile);
                }
                case.x.fill(sign);
                let exact = sign * (codes[0] as f32) * case.layout.k as f32;
                for mode in [ComputeMode::Int8, ComputeMode::Int16, ComputeMode::F32] {
                    for form in Form::available() {
                        let out = case.product(form, mode, ROWS);
                        let close = out.iter().all(|value| (value / exact - 1.0).abs() < 1e-6);
                        assert!(close, "{bits} bits {mode:?} {form:?}: {} for {exact}", out[0]);
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_comes_out_of_its_tile_as_it_went_in() {
        for case in cases() {
            let (k, group) = (case.layout.k, case.layout.group);
            for n in [0, 7, TILE, TILES * TILE - 1] {
                let tile = &case.bytes[n / TILE * case.layout.tile_bytes()..][..case.layout.tile_bytes()];
                let mut row = vec![0.0; k];
                case.layout.unpack_row(tile, n % TILE, &mut row);
                for (i, got) in row.iter().enumerate() {
                    let at = n * (k / group) + i / group;
                    let exact = case.scales[at].mul_add(f32::from(case.codes[n * k + i]), case.biases[at]);
                    assert_eq!(got.to_bits(), exact.to_bits(), "{:?} row {n} input {i}", case.layout);
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_shows_in_its_row_only() {
        let mut case = Case::new(4, 64, Float::Bf16);
        for (row, bad) in [(1, f32::NAN), (3, f32::INFINITY), (4, f32::NEG_INFINITY)] {
            case.x[row * case.layout.k + 70] = bad;
        }
        for form in Form::available() {
            for mode in [ComputeMode::Int8, ComputeMode::Int16, ComputeMode::F32] {
                let out = case.product(form, mode, ROWS);
                for (row, values) in out.chunks(TILES * TILE).enumerate() {
                    let finite = values.iter().all(|value| value.is_finite());
                    assert_eq!(finite, ![1, 3, 4].contains(&row), "{form:?} {mode:?} row {row}");
                }
            }
        }
    }
}
