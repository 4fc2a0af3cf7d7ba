//! How a product passes over tiles: with few rows of activations the codes are taken apart in registers, with many once
//! for all of them.

use super::Product;
use super::arithmetic::Multiply;
use super::layout::{SPAN, SPAN_QUADS, VECTOR, mask, planes};
use crate::kernels::TILE;
use crate::kernels::float::Float;
use crate::kernels::lanes::{Kernel, Lanes};
use crate::kernels::prepare::{BLOCK_ROWS, BlockPlace, GroupPlaces, quad_bytes};
use std::mem::MaybeUninit;
use std::ops::Range;

/// How far ahead of the codes in use the next ones are asked for, in bytes.
const AHEAD: usize = 4096;

/// A product with codes of `BITS` bits.
pub(super) struct Run<'a, const BITS: usize, A>(pub(super) &'a Product<'a>, pub(super) A);

/// The largest group, in quads.
pub(super) const GROUP_QUADS: usize = 128 / 4;

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
