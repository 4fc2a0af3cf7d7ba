use super::avx2::{largest_of_eight, sum_of_eight};
use super::{Kernel, Lanes};
use std::arch::x86_64::*;

/// AVX-512 with VNNI: one register.
#[derive(Clone, Copy)]
pub(super) struct Avx512;

/// # Safety
/// The processor has AVX-512 F, BW, VL and VNNI, AVX2, FMA and F16C.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: as this function's.
    unsafe { kernel.run::<Avx512>() }
}

impl Lanes for Avx512 {
    type F = __m512;
    type I = __m512i;
    type B = __m512i;
    type Words = __m512i;
    type Pairs = __m512i;
    type Pair = __m512i;
    type Sum8 = __m512i;
    /// High and low parts of the activations apart: each is 8 bits, as the instruction wants them.
    type Sum16 = [__m512i; 2];

    const WIDEST_CODE8: usize = 8;
    const ROWS: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        _mm512_set1_ps(value)
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        _mm512_loadu_ps(from)
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> __m512 {
        let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> __m512 {
        _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, lanes: __m512) {
        _mm512_storeu_ps(to, lanes)
    }

    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        _mm512_add_ps(a, b)
    }

    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        _mm512_sub_ps(a, b)
    }

    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        _mm512_mul_ps(a, b)
    }

    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        _mm512_div_ps(a, b)
    }

    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        _mm512_fmadd_ps(a, b, c)
    }

    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        _mm512_max_ps(a, b)
    }

    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        _mm512_min_ps(a, b)
    }

    #[inline(always)]
    unsafe fn sum(lanes: __m512) -> f32 {
        let [lower, upper] = halves(lanes);
        sum_of_eight(_mm256_add_ps(lower, upper))
    }

    #[inline(always)]
    unsafe fn largest(lanes: __m512) -> f32 {
        let [lower, upper] = halves(lanes);
        largest_of_eight(_mm256_max_ps(lower, upper))
    }

    #[inline(always)]
    unsafe fn splat_i32(value: i32) -> __m512i {
        _mm512_set1_epi32(value)
    }

    #[inline(always)]
    unsafe fn load_i32(from: *const i32) -> __m512i {
        _mm512_loadu_si512(from.cast())
    }

    #[inline(always)]
    unsafe fn store_i32(to: *mut i32, lanes: __m512i) {
        _mm512_storeu_si512(to.cast(), lanes)
    }

    #[inline(always)]
    unsafe fn add_i32(a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi32(a, b)
    }

    #[inline(always)]
    unsafe fn max_i32(a: __m512i, b: __m512i) -> __m512i {
        _mm512_max_epi32(a, b)
    }

    #[inline(always)]
    unsafe fn to_f32(lanes: __m512i) -> __m512 {
        _mm512_cvtepi32_ps(lanes)
    }

    #[inline(always)]
    unsafe fn to_i32(lanes: __m512) -> __m512i {
        _mm512_cvtps_epi32(lanes)
    }

    #[inline(always)]
    unsafe fn magnitude_bits(lanes: __m512) -> __m512i {
        _mm512_and_si512(_mm512_castps_si512(lanes), _mm512_set1_epi32(0x7fff_ffff))
    }

    #[inline(always)]
    unsafe fn power_of_two(lanes: __m512i) -> __m512 {
        _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(lanes, _mm512_set1_epi32(127))))
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> __m512i {
        _mm512_loadu_si512(from.cast())
    }

    #[inline(always)]
    unsafe fn field(bytes: __m512i, shift: u32, mask: u8) -> __m512i {
        let moved = match shift {
            0 => bytes,
            2 => _mm512_srli_epi16::<2>(bytes),
            4 => _mm512_srli_epi16::<4>(bytes),
            _ => _mm512_srli_epi16::<6>(bytes),
        };
        if mask == u8::MAX { moved } else { _mm512_and_si512(moved, _mm512_set1_epi8(mask.cast_signed())) }
    }

    #[inline(always)]
    unsafe fn field_at(bytes: __m512i, shift: u32, mask: u8) -> __m512i {
        let moved = _mm512_srl_epi16(bytes, _mm_cvtsi32_si128(shift.cast_signed()));
        _mm512_and_si512(moved, _mm512_set1_epi8(mask.cast_signed()))
    }

    #[inline(always)]
    unsafe fn merge(low: __m512i, high: __m512i, shift: u32) -> __m512i {
        let high = match shift {
            2 => _mm512_slli_epi16::<2>(high),
            _ => _mm512_slli_epi16::<4>(high),
        };
        _mm512_or_si512(low, high)
    }

    #[inline(always)]
    unsafe fn byte_to_f32(bytes: __m512i, j: u32) -> __m512 {
        let low = _mm512_set1_epi32(255);
        _mm512_cvtepi32_ps(match j {
            0 => _mm512_and_si512(bytes, low),
            1 => _mm512_and_si512(_mm512_srli_epi32::<8>(bytes), low),
            2 => _mm512_and_si512(_mm512_srli_epi32::<16>(bytes), low),
            _ => _mm512_srli_epi32::<24>(bytes),
        })
    }

    #[inline(always)]
    unsafe fn put8(to: *mut u8, lanes: __m512i) {
        _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(lanes))
    }

    /// `x = 128 h + l` with `l` in -64..=63: of each quad the four `h`, then the four `l`.
    #[inline(always)]
    unsafe fn put16(to: *mut u8, lanes: __m512i) {
        let high = _mm512_srai_epi32::<7>(_mm512_add_epi32(lanes, _mm512_set1_epi32(64)));
        let low = _mm512_sub_epi32(lanes, _mm512_slli_epi32::<7>(high));
        let (high, low) = (_mm512_cvtepi32_epi8(high), _mm512_cvtepi32_epi8(low));
        _mm_storeu_si128(to.cast(), _mm_unpacklo_epi32(high, low));
        _mm_storeu_si128(to.add(16).cast(), _mm_unpackhi_epi32(high, low));
    }

    #[inline(always)]
    unsafe fn zero8() -> __m512i {
        _mm512_setzero_si512()
    }

    #[inline(always)]
    unsafe fn zero16() -> [__m512i; 2] {
        [_mm512_setzero_si512(); 2]
    }

    #[inline(always)]
    unsafe fn words(bytes: __m512i) -> __m512i {
        bytes
    }

    #[inline(always)]
    unsafe fn dot8(sum: __m512i, codes: __m512i, quad: *const u8) -> __m512i {
        _mm512_dpbusd_epi32(sum, codes, _mm512_set1_epi32(quad.cast::<i32>().read_unaligned()))
    }

    #[inline(always)]
    unsafe fn dot16(sum: [__m512i; 2], codes: __m512i, quad: *const u8) -> [__m512i; 2] {
        [Self::dot8(sum[0], codes, quad), Self::dot8(sum[1], codes, quad.add(4))]
    }

    #[inline(always)]
    fn settle8_every(_: usize) -> usize {
        usize::MAX
    }

    #[inline(always)]
    unsafe fn settle8(sum: __m512i) -> __m512i {
        sum
    }

    #[inline(always)]
    unsafe fn done8(sum: __m512i) -> __m512i {
        sum
    }

    #[inline(always)]
    unsafe fn done16(sum: [__m512i; 2]) -> __m512i {
        _mm512_add_epi32(_mm512_slli_epi32::<7>(sum[0]), sum[1])
    }

    #[inline(always)]
    unsafe fn dot_bytes(sum: __m512i, codes: __m512i, others: __m512i) -> __m512i {
        _mm512_dpbusd_epi32(sum, codes, others)
    }

    #[inline(always)]
    unsafe fn load_pairs(from: *const i16) -> __m512i {
        _mm512_loadu_si512(from.cast())
    }

    #[inline(always)]
    unsafe fn splat_pair(from: *const i16) -> __m512i {
        _mm512_set1_epi32(from.cast::<i32>().read_unaligned())
    }

    #[inline(always)]
    unsafe fn dot_pair(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        multiply_words(sum, a, b)
    }

    #[inline(always)]
    unsafe fn put_words(to: *mut i16, lanes: __m512i) {
        _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(lanes));
    }

    #[inline(always)]
    unsafe fn put_bytes(upper: *mut u8, lower: *mut u8, lanes: __m512i) {
        _mm_storeu_si128(upper.cast(), _mm512_cvtepi32_epi8(_mm512_srai_epi32::<8>(lanes)));
        _mm_storeu_si128(lower.cast(), _mm512_cvtepi32_epi8(lanes));
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
    unsafe fn load_u8(from: *const u8) -> __m512 {
        _mm512_cvtepi32_ps(widen_bytes(from))
    }

    #[inline(always)]
    unsafe fn load_low4(from: *const u8) -> __m512 {
        _mm512_cvtepi32_ps(_mm512_and_si512(widen_bytes(from), _mm512_set1_epi32(15)))
    }

    #[inline(always)]
    unsafe fn load_high4(from: *const u8) -> __m512 {
        _mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(widen_bytes(from)))
    }
}

/// `_mm512_dpwssd_epi32`, which the compiler would take apart into a product and an addition, to add the products of several
/// inputs before the sum: registers run out then.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn multiply_words(mut sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: nothing but registers is touched, and the processor has the instruction.
    unsafe {
        std::arch::asm!(
            "vpdpwssd {sum}, {a}, {b}",
            sum = inout(zmm_reg) sum,
            a = in(zmm_reg) a,
            b = in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

#[inline(always)]
unsafe fn halves(lanes: __m512) -> [__m256; 2] {
    let upper = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(lanes));
    [_mm512_castps512_ps256(lanes), _mm256_castpd_ps(upper)]
}

#[inline(always)]
unsafe fn widen_bytes(from: *const u8) -> __m512i {
    _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))
}
