use super::{Kernel, Lanes};
use std::arch::x86_64::*;

/// AVX2 with FMA and F16C: two registers of eight lanes.
#[derive(Clone, Copy)]
pub(super) struct Avx2;

/// # Safety
/// The processor has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: as this function's.
    unsafe { kernel.run::<Avx2>() }
}

/// One operation on both registers.
macro_rules! both {
    ($op:path, $a:expr) => {
        [$op($a[0]), $op($a[1])]
    };
    ($op:path, $a:expr, $b:expr) => {
        [$op($a[0], $b[0]), $op($a[1], $b[1])]
    };
    ($op:path, $a:expr, $b:expr, $c:expr) => {
        [$op($a[0], $b[0], $c[0]), $op($a[1], $b[1], $c[1])]
    };
}

type Floats = [__m256; 2];
type Ints = [__m256i; 2];

/// The even and the odd codes of eight lanes, widened.
#[derive(Clone, Copy)]
pub(super) struct Words {
    even: __m256i,
    odd: __m256i,
}

/// Sums in 16 bits, two per lane, and what has been moved from there to 32 bits.
#[derive(Clone, Copy)]
pub(super) struct Sum8 {
    recent: Ints,
    settled: Ints,
}

impl Lanes for Avx2 {
    type F = Floats;
    type I = Ints;
    type B = Ints;
    type Words = [Words; 2];
    type Pairs = Ints;
    type Pair = __m256i;
    type Sum8 = Sum8;
    type Sum16 = Ints;

    // Without VNNI pairs of products are added up in 16 bits, with saturation: two products with codes of six bits
    // have room there, with codes of eight bits they have not.
    const WIDEST_CODE8: usize = 6;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Floats {
        [_mm256_set1_ps(value); 2]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Floats {
        [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))]
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Floats {
        [widen_bf16(from), widen_bf16(from.add(8))]
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Floats {
        [_mm256_cvtph_ps(_mm_loadu_si128(from.cast())), _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast()))]
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, lanes: Floats) {
        _mm256_storeu_ps(to, lanes[0]);
        _mm256_storeu_ps(to.add(8), lanes[1]);
    }

    #[inline(always)]
    unsafe fn add(a: Floats, b: Floats) -> Floats {
        both!(_mm256_add_ps, a, b)
    }

    #[inline(always)]
    unsafe fn sub(a: Floats, b: Floats) -> Floats {
        both!(_mm256_sub_ps, a, b)
    }

    #[inline(always)]
    unsafe fn mul(a: Floats, b: Floats) -> Floats {
        both!(_mm256_mul_ps, a, b)
    }

    #[inline(always)]
    unsafe fn div(a: Floats, b: Floats) -> Floats {
        both!(_mm256_div_ps, a, b)
    }

    #[inline(always)]
    unsafe fn fma(a: Floats, b: Floats, c: Floats) -> Floats {
        both!(_mm256_fmadd_ps, a, b, c)
    }

    #[inline(always)]
    unsafe fn max(a: Floats, b: Floats) -> Floats {
        both!(_mm256_max_ps, a, b)
    }

    #[inline(always)]
    unsafe fn min(a: Floats, b: Floats) -> Floats {
        both!(_mm256_min_ps, a, b)
    }

    #[inline(always)]
    unsafe fn sum(lanes: Floats) -> f32 {
        sum_of_eight(_mm256_add_ps(lanes[0], lanes[1]))
    }

    #[inline(always)]
    unsafe fn largest(lanes: Floats) -> f32 {
        largest_of_eight(_mm256_max_ps(lanes[0], lanes[1]))
    }

    #[inline(always)]
    unsafe fn splat_i32(value: i32) -> Ints {
        [_mm256_set1_epi32(value); 2]
    }

    #[inline(always)]
    unsafe fn load_i32(from: *const i32) -> Ints {
        [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(8).cast())]
    }

    #[inline(always)]
    unsafe fn store_i32(to: *mut i32, lanes: Ints) {
        _mm256_storeu_si256(to.cast(), lanes[0]);
        _mm256_storeu_si256(to.add(8).cast(), lanes[1]);
    }

    #[inline(always)]
    unsafe fn add_i32(a: Ints, b: Ints) -> Ints {
        both!(_mm256_add_epi32, a, b)
    }

    #[inline(always)]
    unsafe fn max_i32(a: Ints, b: Ints) -> Ints {
        both!(_mm256_max_epi32, a, b)
    }

    #[inline(always)]
    unsafe fn to_f32(lanes: Ints) -> Floats {
        both!(_mm256_cvtepi32_ps, lanes)
    }

    #[inline(always)]
    unsafe fn to_i32(lanes: Floats) -> Ints {
        both!(_mm256_cvtps_epi32, lanes)
    }

    #[inline(always)]
    unsafe fn magnitude_bits(lanes: Floats) -> Ints {
        let mask = _mm256_set1_epi32(0x7fff_ffff);
        [_mm256_and_si256(_mm256_castps_si256(lanes[0]), mask), _mm256_and_si256(_mm256_castps_si256(lanes[1]), mask)]
    }

    #[inline(always)]
    unsafe fn power_of_two(lanes: Ints) -> Floats {
        let bias = _mm256_set1_epi32(127);
        [
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(lanes[0], bias))),
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(lanes[1], bias))),
        ]
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Ints {
        [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())]
    }

    #[inline(always)]
    unsafe fn field(bytes: Ints, shift: u32, mask: u8) -> Ints {
        [field(bytes[0], shift, mask), field(bytes[1], shift, mask)]
    }

    #[inline(always)]
    unsafe fn field_at(bytes: Ints, shift: u32, mask: u8) -> Ints {
        let (count, mask) = (_mm_cvtsi32_si128(shift.cast_signed()), _mm256_set1_epi8(mask.cast_signed()));
        [
            _mm256_and_si256(_mm256_srl_epi16(bytes[0], count), mask),
            _mm256_and_si256(_mm256_srl_epi16(bytes[1], count), mask),
        ]
    }

    #[inline(always)]
    unsafe fn merge(low: Ints, high: Ints, shift: u32) -> Ints {
        let high = match shift {
            2 => both!(_mm256_slli_epi16::<2>, high),
            _ => both!(_mm256_slli_epi16::<4>, high),
        };
        both!(_mm256_or_si256, low, high)
    }

    #[inline(always)]
    unsafe fn byte_to_f32(bytes: Ints, j: u32) -> Floats {
        [byte_to_f32(bytes[0], j), byte_to_f32(bytes[1], j)]
    }

    #[inline(always)]
    unsafe fn put8(to: *mut u8, lanes: Ints) {
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(lanes[0], lanes[1]));
        let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        _mm_storeu_si128(to.cast(), bytes);
    }

    #[inline(always)]
    unsafe fn put16(to: *mut u8, lanes: Ints) {
        // Packing works in halves of a register: the four quads come out as 0, 2, 1, 3.
        let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(lanes[0], lanes[1]));
        // In a quad the even ones come first: a lane's even and odd bytes are multiplied apart.
        let order = _mm256_setr_epi8(
            0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15, 0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15,
        );
        _mm256_storeu_si256(to.cast(), _mm256_shuffle_epi8(packed, order));
    }

    #[inline(always)]
    unsafe fn zero8() -> Sum8 {
        Sum8 { recent: [_mm256_setzero_si256(); 2], settled: [_mm256_setzero_si256(); 2] }
    }

    #[inline(always)]
    unsafe fn zero16() -> Ints {
        [_mm256_setzero_si256(); 2]
    }

    #[inline(always)]
    unsafe fn words(bytes: Ints) -> [Words; 2] {
        [words(bytes[0]), words(bytes[1])]
    }

    #[inline(always)]
    unsafe fn dot8(sum: Sum8, codes: Ints, quad: *const u8) -> Sum8 {
        let x = _mm256_set1_epi32(quad.cast::<i32>().read_unaligned());
        let recent = [
            _mm256_add_epi16(sum.recent[0], _mm256_maddubs_epi16(codes[0], x)),
            _mm256_add_epi16(sum.recent[1], _mm256_maddubs_epi16(codes[1], x)),
        ];
        Sum8 { recent, ..sum }
    }

    #[inline(always)]
    unsafe fn dot16(sum: Ints, codes: [Words; 2], quad: *const u8) -> Ints {
        let even = _mm256_set1_epi32(quad.cast::<i32>().read_unaligned());
        let odd = _mm256_set1_epi32(quad.add(4).cast::<i32>().read_unaligned());
        [dot(sum[0], codes[0], even, odd), dot(sum[1], codes[1], even, odd)]
    }

    /// A pair of products reaches 254 times the largest code, and 16 bits hold 32,767.
    #[inline(always)]
    fn settle8_every(bits: usize) -> usize {
        match bits {
            ..=4 => 8,
            5 => 4,
            _ => 2,
        }
    }

    #[inline(always)]
    unsafe fn settle8(sum: Sum8) -> Sum8 {
        let one = _mm256_set1_epi16(1);
        let settled = [
            _mm256_add_epi32(sum.settled[0], _mm256_madd_epi16(sum.recent[0], one)),
            _mm256_add_epi32(sum.settled[1], _mm256_madd_epi16(sum.recent[1], one)),
        ];
        Sum8 { recent: [_mm256_setzero_si256(); 2], settled }
    }

    #[inline(always)]
    unsafe fn done8(sum: Sum8) -> Ints {
        sum.settled
    }

    #[inline(always)]
    unsafe fn done16(sum: Ints) -> Ints {
        sum
    }

    #[inline(always)]
    unsafe fn dot_bytes(sum: Ints, codes: Ints, others: Ints) -> Ints {
        [dot_pairs(sum[0], codes[0], others[0]), dot_pairs(sum[1], codes[1], others[1])]
    }

    #[inline(always)]
    unsafe fn load_pairs(from: *const i16) -> Ints {
        Self::load_bytes(from.cast())
    }

    #[inline(always)]
    unsafe fn splat_pair(from: *const i16) -> __m256i {
        _mm256_set1_epi32(from.cast::<i32>().read_unaligned())
    }

    #[inline(always)]
    unsafe fn dot_pair(sum: Ints, a: Ints, b: __m256i) -> Ints {
        [_mm256_add_epi32(sum[0], _mm256_madd_epi16(a[0], b)), _mm256_add_epi32(sum[1], _mm256_madd_epi16(a[1], b))]
    }

    #[inline(always)]
    unsafe fn put_words(to: *mut i16, lanes: Ints) {
        let packed = _mm256_packs_epi32(lanes[0], lanes[1]);
        _mm256_storeu_si256(to.cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(packed));
    }

    #[inline(always)]
    unsafe fn prefetch(from: *const u8) {
        _mm_prefetch::<_MM_HINT_T0>(from.cast())
    }

    #[inline(always)]
    unsafe fn prefetch_later(from: *const u8) {
        _mm_prefetch::<_MM_HINT_T1>(from.cast())
    }

    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Floats {
        let bytes = widen_bytes(from);
        both!(_mm256_cvtepi32_ps, bytes)
    }

    #[inline(always)]
    unsafe fn load_low4(from: *const u8) -> Floats {
        let (bytes, mask) = (widen_bytes(from), [_mm256_set1_epi32(15); 2]);
        let low = both!(_mm256_and_si256, bytes, mask);
        both!(_mm256_cvtepi32_ps, low)
    }

    #[inline(always)]
    unsafe fn load_high4(from: *const u8) -> Floats {
        let bytes = widen_bytes(from);
        let high = both!(_mm256_srli_epi32::<4>, bytes);
        both!(_mm256_cvtepi32_ps, high)
    }
}

#[inline(always)]
unsafe fn widen_bytes(from: *const u8) -> Ints {
    [_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())), _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.add(8).cast()))]
}

#[inline(always)]
unsafe fn widen_bf16(from: *const u16) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()))))
}

#[inline(always)]
unsafe fn field(bytes: __m256i, shift: u32, mask: u8) -> __m256i {
    let moved = match shift {
        0 => bytes,
        2 => _mm256_srli_epi16::<2>(bytes),
        4 => _mm256_srli_epi16::<4>(bytes),
        _ => _mm256_srli_epi16::<6>(bytes),
    };
    if mask == u8::MAX { moved } else { _mm256_and_si256(moved, _mm256_set1_epi8(mask.cast_signed())) }
}

#[inline(always)]
unsafe fn byte_to_f32(bytes: __m256i, j: u32) -> __m256 {
    let low = _mm256_set1_epi32(255);
    _mm256_cvtepi32_ps(match j {
        0 => _mm256_and_si256(bytes, low),
        1 => _mm256_and_si256(_mm256_srli_epi32::<8>(bytes), low),
        2 => _mm256_and_si256(_mm256_srli_epi32::<16>(bytes), low),
        _ => _mm256_srli_epi32::<24>(bytes),
    })
}

#[inline(always)]
unsafe fn words(bytes: __m256i) -> Words {
    Words { even: _mm256_and_si256(bytes, _mm256_set1_epi16(255)), odd: _mm256_srli_epi16::<8>(bytes) }
}

/// Products below 255 * 16256, so that pairs of them are far from the ends of an i32.
#[inline(always)]
unsafe fn dot(sum: __m256i, codes: Words, even: __m256i, odd: __m256i) -> __m256i {
    let sum = _mm256_add_epi32(sum, _mm256_madd_epi16(codes.even, even));
    _mm256_add_epi32(sum, _mm256_madd_epi16(codes.odd, odd))
}

/// Pairs of products are added in sixteen bits, where codes below 128 leave room.
#[inline(always)]
unsafe fn dot_pairs(sum: __m256i, codes: __m256i, others: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(codes, others);
    _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

/// Halves onto each other until one is left.
#[inline(always)]
pub(super) unsafe fn sum_of_eight(lanes: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// The same with the larger of each pair.
#[inline(always)]
pub(super) unsafe fn largest_of_eight(lanes: __m256) -> f32 {
    let four = _mm_max_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
    let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
}
