//! How activations meet codes: in bytes, in words, or as floats.

use crate::kernels::lanes::Lanes;
use crate::kernels::prepare::Encoding;

/// How activations meet codes.
pub(super) trait Multiply {
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

/// With 8 bits.
pub(super) struct Int8;
/// With 15 bits, or (`NARROW`) with 8 bits in the places of 15.
pub(super) struct Int16<const NARROW: bool>;
/// As they are.
pub(super) struct F32;

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
