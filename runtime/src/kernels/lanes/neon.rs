use super::{Kernel, Lanes};
use std::arch::aarch64::*;

/// NEON, which every 64-bit ARM has: four registers of four lanes.
#[derive(Clone, Copy)]
pub(super) struct Neon;

/// # Safety
/// The processor has NEON.
#[target_feature(enable = "neon")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: as this function's.
    unsafe { kernel.run::<Neon>() }
}

/// One operation on all four registers.
macro_rules! four {
    ($op:path, $a:expr) => {
        [$op($a[0]), $op($a[1]), $op($a[2]), $op($a[3])]
    };
    ($op:path, $a:expr, $b:expr) => {
        [$op($a[0], $b[0]), $op($a[1], $b[1]), $op($a[2], $b[2]), $op($a[3], $b[3])]
    };
    ($op:path, $a:expr, $b:expr, $c:expr) => {
        [$op($a[0], $b[0], $c[0]), $op($a[1], $b[1], $c[1]), $op($a[2], $b[2], $c[2]), $op($a[3], $b[3], $c[3])]
    };
}

type Floats = [float32x4_t; 4];
type Ints = [int32x4_t; 4];
type Bytes = [uint8x16_t; 4];

impl Lanes for Neon {
    type F = Floats;
    type I = Ints;
    type B = Bytes;
    type Words = [int16x8_t; 8];
    /// First inputs, and second ones.
    type Pairs = [int16x8x2_t; 2];
    type Pair = [i16; 2];
    /// Two sums of each lane side by side.
    type Sum8 = [int32x4_t; 8];
    type Sum16 = Ints;

    // Bytes are multiplied as signed ones: the dot products of unsigned with signed bytes have no stable intrinsics yet.
    const WIDEST_CODE8: usize = 6;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Floats {
        [vdupq_n_f32(value); 4]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Floats {
        [vld1q_f32(from), vld1q_f32(from.add(4)), vld1q_f32(from.add(8)), vld1q_f32(from.add(12))]
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Floats {
        [bf16(from), bf16(from.add(4)), bf16(from.add(8)), bf16(from.add(12))]
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Floats {
        [f16(from), f16(from.add(4)), f16(from.add(8)), f16(from.add(12))]
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, lanes: Floats) {
        vst1q_f32(to, lanes[0]);
        vst1q_f32(to.add(4), lanes[1]);
        vst1q_f32(to.add(8), lanes[2]);
        vst1q_f32(to.add(12), lanes[3]);
    }

    #[inline(always)]
    unsafe fn add(a: Floats, b: Floats) -> Floats {
        four!(vaddq_f32, a, b)
    }

    #[inline(always)]
    unsafe fn sub(a: Floats, b: Floats) -> Floats {
        four!(vsubq_f32, a, b)
    }

    #[inline(always)]
    unsafe fn mul(a: Floats, b: Floats) -> Floats {
        four!(vmulq_f32, a, b)
    }

    #[inline(always)]
    unsafe fn div(a: Floats, b: Floats) -> Floats {
        four!(vdivq_f32, a, b)
    }

    #[inline(always)]
    unsafe fn fma(a: Floats, b: Floats, c: Floats) -> Floats {
        four!(vfmaq_f32, c, a, b)
    }

    #[inline(always)]
    unsafe fn max(a: Floats, b: Floats) -> Floats {
        [larger(a[0], b[0]), larger(a[1], b[1]), larger(a[2], b[2]), larger(a[3], b[3])]
    }

    #[inline(always)]
    unsafe fn min(a: Floats, b: Floats) -> Floats {
        [smaller(a[0], b[0]), smaller(a[1], b[1]), smaller(a[2], b[2]), smaller(a[3], b[3])]
    }

    #[inline(always)]
    unsafe fn splat_i32(value: i32) -> Ints {
        [vdupq_n_s32(value); 4]
    }

    #[inline(always)]
    unsafe fn load_i32(from: *const i32) -> Ints {
        [vld1q_s32(from), vld1q_s32(from.add(4)), vld1q_s32(from.add(8)), vld1q_s32(from.add(12))]
    }

    #[inline(always)]
    unsafe fn store_i32(to: *mut i32, lanes: Ints) {
        vst1q_s32(to, lanes[0]);
        vst1q_s32(to.add(4), lanes[1]);
        vst1q_s32(to.add(8), lanes[2]);
        vst1q_s32(to.add(12), lanes[3]);
    }

    #[inline(always)]
    unsafe fn add_i32(a: Ints, b: Ints) -> Ints {
        four!(vaddq_s32, a, b)
    }

    #[inline(always)]
    unsafe fn max_i32(a: Ints, b: Ints) -> Ints {
        four!(vmaxq_s32, a, b)
    }

    #[inline(always)]
    unsafe fn to_f32(lanes: Ints) -> Floats {
        four!(vcvtq_f32_s32, lanes)
    }

    #[inline(always)]
    unsafe fn to_i32(lanes: Floats) -> Ints {
        four!(vcvtnq_s32_f32, lanes)
    }

    #[inline(always)]
    unsafe fn magnitude_bits(lanes: Floats) -> Ints {
        [magnitude(lanes[0]), magnitude(lanes[1]), magnitude(lanes[2]), magnitude(lanes[3])]
    }

    #[inline(always)]
    unsafe fn power_of_two(lanes: Ints) -> Floats {
        [power(lanes[0]), power(lanes[1]), power(lanes[2]), power(lanes[3])]
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Bytes {
        [vld1q_u8(from), vld1q_u8(from.add(16)), vld1q_u8(from.add(32)), vld1q_u8(from.add(48))]
    }

    #[inline(always)]
    unsafe fn field(bytes: Bytes, shift: u32, mask: u8) -> Bytes {
        Self::field_at(bytes, shift, mask)
    }

    #[inline(always)]
    unsafe fn field_at(bytes: Bytes, shift: u32, mask: u8) -> Bytes {
        let (count, mask) = (vdupq_n_s8(-(shift as i8)), vdupq_n_u8(mask));
        [
            vandq_u8(vshlq_u8(bytes[0], count), mask),
            vandq_u8(vshlq_u8(bytes[1], count), mask),
            vandq_u8(vshlq_u8(bytes[2], count), mask),
            vandq_u8(vshlq_u8(bytes[3], count), mask),
        ]
    }

    #[inline(always)]
    unsafe fn merge(low: Bytes, high: Bytes, shift: u32) -> Bytes {
        let count = vdupq_n_s8(shift as i8);
        [
            vorrq_u8(low[0], vshlq_u8(high[0], count)),
            vorrq_u8(low[1], vshlq_u8(high[1], count)),
            vorrq_u8(low[2], vshlq_u8(high[2], count)),
            vorrq_u8(low[3], vshlq_u8(high[3], count)),
        ]
    }

    #[inline(always)]
    unsafe fn byte_to_f32(bytes: Bytes, j: u32) -> Floats {
        [byte(bytes[0], j), byte(bytes[1], j), byte(bytes[2], j), byte(bytes[3], j)]
    }

    #[inline(always)]
    unsafe fn put8(to: *mut u8, lanes: Ints) {
        let low = vcombine_s16(vmovn_s32(lanes[0]), vmovn_s32(lanes[1]));
        let high = vcombine_s16(vmovn_s32(lanes[2]), vmovn_s32(lanes[3]));
        vst1q_s8(to.cast(), vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
    }

    #[inline(always)]
    unsafe fn put16(to: *mut u8, lanes: Ints) {
        let to = to.cast::<i16>();
        vst1q_s16(to, vcombine_s16(vmovn_s32(lanes[0]), vmovn_s32(lanes[1])));
        vst1q_s16(to.add(8), vcombine_s16(vmovn_s32(lanes[2]), vmovn_s32(lanes[3])));
    }

    #[inline(always)]
    unsafe fn zero8() -> [int32x4_t; 8] {
        [vdupq_n_s32(0); 8]
    }

    #[inline(always)]
    unsafe fn zero16() -> Ints {
        [vdupq_n_s32(0); 4]
    }

    #[inline(always)]
    unsafe fn words(bytes: Bytes) -> [int16x8_t; 8] {
        [
            vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(bytes[0]))),
            vreinterpretq_s16_u16(vmovl_high_u8(bytes[0])),
            vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(bytes[1]))),
            vreinterpretq_s16_u16(vmovl_high_u8(bytes[1])),
            vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(bytes[2]))),
            vreinterpretq_s16_u16(vmovl_high_u8(bytes[2])),
            vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(bytes[3]))),
            vreinterpretq_s16_u16(vmovl_high_u8(bytes[3])),
        ]
    }

    #[inline(always)]
    unsafe fn dot8(mut sum: [int32x4_t; 8], codes: Bytes, quad: *const u8) -> [int32x4_t; 8] {
        let x = vreinterpretq_s8_s32(vdupq_n_s32(quad.cast::<i32>().read_unaligned()));
        for i in 0..4 {
            let codes = vreinterpretq_s8_u8(codes[i]);
            sum[2 * i] = vpadalq_s16(sum[2 * i], vmull_s8(vget_low_s8(codes), vget_low_s8(x)));
            sum[2 * i + 1] = vpadalq_s16(sum[2 * i + 1], vmull_high_s8(codes, x));
        }
        sum
    }

    #[inline(always)]
    unsafe fn dot16(mut sum: Ints, codes: [int16x8_t; 8], quad: *const u8) -> Ints {
        let x = vld1_s16(quad.cast());
        let x = vcombine_s16(x, x);
        for i in 0..4 {
            sum[i] = vaddq_s32(sum[i], vpaddq_s32(pairs(codes[2 * i], x), pairs(codes[2 * i + 1], x)));
        }
        sum
    }

    #[inline(always)]
    fn settle8_every(_: usize) -> usize {
        usize::MAX
    }

    #[inline(always)]
    unsafe fn settle8(sum: [int32x4_t; 8]) -> [int32x4_t; 8] {
        sum
    }

    #[inline(always)]
    unsafe fn done8(sum: [int32x4_t; 8]) -> Ints {
        [vpaddq_s32(sum[0], sum[1]), vpaddq_s32(sum[2], sum[3]), vpaddq_s32(sum[4], sum[5]), vpaddq_s32(sum[6], sum[7])]
    }

    #[inline(always)]
    unsafe fn done16(sum: Ints) -> Ints {
        sum
    }

    #[inline(always)]
    unsafe fn dot_bytes(sum: Ints, codes: Bytes, others: Bytes) -> Ints {
        [
            dot_bytes(sum[0], codes[0], others[0]),
            dot_bytes(sum[1], codes[1], others[1]),
            dot_bytes(sum[2], codes[2], others[2]),
            dot_bytes(sum[3], codes[3], others[3]),
        ]
    }

    #[inline(always)]
    unsafe fn load_pairs(from: *const i16) -> [int16x8x2_t; 2] {
        [vld2q_s16(from), vld2q_s16(from.add(16))]
    }

    #[inline(always)]
    unsafe fn splat_pair(from: *const i16) -> [i16; 2] {
        from.cast::<[i16; 2]>().read_unaligned()
    }

    #[inline(always)]
    unsafe fn dot_pair(mut sum: Ints, a: [int16x8x2_t; 2], b: [i16; 2]) -> Ints {
        for i in 0..2 {
            let int16x8x2_t(first, second) = a[i];
            sum[2 * i] = vmlal_n_s16(sum[2 * i], vget_low_s16(first), b[0]);
            sum[2 * i] = vmlal_n_s16(sum[2 * i], vget_low_s16(second), b[1]);
            sum[2 * i + 1] = vmlal_high_n_s16(sum[2 * i + 1], first, b[0]);
            sum[2 * i + 1] = vmlal_high_n_s16(sum[2 * i + 1], second, b[1]);
        }
        sum
    }

    #[inline(always)]
    unsafe fn put_words(to: *mut i16, lanes: Ints) {
        Self::put16(to.cast(), lanes)
    }

    // There is no stable intrinsic for it, and the processors' own prefetchers follow the one stream.
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}

    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Floats {
        widen_bytes(vld1q_u8(from))
    }

    #[inline(always)]
    unsafe fn load_low4(from: *const u8) -> Floats {
        widen_bytes(vandq_u8(vld1q_u8(from), vdupq_n_u8(15)))
    }

    #[inline(always)]
    unsafe fn load_high4(from: *const u8) -> Floats {
        widen_bytes(vshrq_n_u8::<4>(vld1q_u8(from)))
    }
}

#[inline(always)]
unsafe fn widen_bytes(bytes: uint8x16_t) -> Floats {
    let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes));
    [
        vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))),
        vcvtq_f32_u32(vmovl_high_u16(low)),
        vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))),
        vcvtq_f32_u32(vmovl_high_u16(high)),
    ]
}

#[inline(always)]
unsafe fn bf16(from: *const u16) -> float32x4_t {
    vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from)))
}

/// Through integers: the conversion has no stable intrinsic. Exact for all values, infinities and NaN included.
#[inline(always)]
unsafe fn f16(from: *const u16) -> float32x4_t {
    let bits = vmovl_u16(vld1_u16(from));
    let sign = vshlq_n_u32::<16>(vandq_u32(bits, vdupq_n_u32(0x8000)));
    let magnitude = vshlq_n_u32::<13>(vandq_u32(bits, vdupq_n_u32(0x7fff)));
    // The exponent's bias goes from 15 to 127 by a product, which also makes subnormal values right.
    let scaled = vmulq_f32(vreinterpretq_f32_u32(magnitude), vdupq_n_f32(f32::from_bits(0x7780_0000)));
    let special = vcgeq_u32(magnitude, vdupq_n_u32(0x0f80_0000));
    let widened = vorrq_u32(magnitude, vdupq_n_u32(0x7f80_0000));
    let value = vbslq_u32(special, widened, vreinterpretq_u32_f32(scaled));
    vreinterpretq_f32_u32(vorrq_u32(value, sign))
}

#[inline(always)]
unsafe fn larger(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcgtq_f32(a, b), a, b)
}

#[inline(always)]
unsafe fn smaller(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcltq_f32(a, b), a, b)
}

#[inline(always)]
unsafe fn magnitude(lanes: float32x4_t) -> int32x4_t {
    vandq_s32(vreinterpretq_s32_f32(lanes), vdupq_n_s32(0x7fff_ffff))
}

#[inline(always)]
unsafe fn power(lanes: int32x4_t) -> float32x4_t {
    vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(lanes, vdupq_n_s32(127))))
}

#[inline(always)]
unsafe fn byte(bytes: uint8x16_t, j: u32) -> float32x4_t {
    let words = vshlq_u32(vreinterpretq_u32_u8(bytes), vdupq_n_s32(-8 * j.cast_signed()));
    vcvtq_f32_u32(vandq_u32(words, vdupq_n_u32(255)))
}

/// Two lanes of four products each, added up in pairs.
#[inline(always)]
unsafe fn pairs(codes: int16x8_t, x: int16x8_t) -> int32x4_t {
    vpaddq_s32(vmull_s16(vget_low_s16(codes), vget_low_s16(x)), vmull_high_s16(codes, x))
}

/// Codes below 128 are the same signed.
#[inline(always)]
unsafe fn dot_bytes(sum: int32x4_t, codes: uint8x16_t, others: uint8x16_t) -> int32x4_t {
    let (codes, others) = (vreinterpretq_s8_u8(codes), vreinterpretq_s8_u8(others));
    let low = vmull_s8(vget_low_s8(codes), vget_low_s8(others));
    let high = vmull_high_s8(codes, others);
    vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)))
}
