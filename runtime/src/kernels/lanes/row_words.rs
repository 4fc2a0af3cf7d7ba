//! Sixteen words of 32 bits, one of each row of a tile: what packing moves about.

#[cfg(target_arch = "aarch64")]
use super::neon::Neon;
use super::portable::Portable;
#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512};
#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Words that are transposed together.
pub(in crate::kernels) const BLOCK: usize = 4;

/// Vectors of sixteen words.
///
/// # Safety
/// As [`Lanes`](super::Lanes): the processor has the instructions, and there is memory to read and write as said.
pub(in crate::kernels) trait RowWords: Copy + 'static {
    type W: Copy;

    unsafe fn splat_word(word: u32) -> Self::W;
    /// Reads four words from each of sixteen rows that stand `stride` bytes apart; word by word.
    unsafe fn transpose(from: *const u8, stride: usize) -> [Self::W; BLOCK];
    /// Reads one word from each of sixteen rows that stand `stride` bytes apart.
    unsafe fn column(from: *const u8, stride: usize) -> Self::W;
    unsafe fn and(a: Self::W, b: Self::W) -> Self::W;
    unsafe fn or(a: Self::W, b: Self::W) -> Self::W;
    unsafe fn xor(a: Self::W, b: Self::W) -> Self::W;
    /// Moves the bits of each word up by `by`, less than 32.
    unsafe fn up(words: Self::W, by: usize) -> Self::W;
    /// Moves the bits of each word down by `by`, less than 32.
    unsafe fn down(words: Self::W, by: usize) -> Self::W;
    /// Writes 64 bytes.
    unsafe fn put(to: *mut u8, words: Self::W);
    /// Writes the lower halves of all words, 32 bytes, to one place and the upper halves to another.
    unsafe fn put_halves(lower: *mut u8, upper: *mut u8, words: Self::W);
}

/// One word of each row.
#[inline(always)]
unsafe fn gather(from: *const u8, stride: usize) -> [u32; 16] {
    let mut words = [0; 16];
    let mut row = 0;
    while row < 16 {
        words[row] = u32::from_le(from.add(row * stride).cast::<u32>().read_unaligned());
        row += 1;
    }
    words
}

impl RowWords for Portable {
    type W = [u32; 16];

    unsafe fn splat_word(word: u32) -> [u32; 16] {
        [word; 16]
    }

    unsafe fn transpose(from: *const u8, stride: usize) -> [[u32; 16]; BLOCK] {
        std::array::from_fn(|word| gather(from.add(4 * word), stride))
    }

    unsafe fn column(from: *const u8, stride: usize) -> [u32; 16] {
        gather(from, stride)
    }

    unsafe fn and(a: [u32; 16], b: [u32; 16]) -> [u32; 16] {
        std::array::from_fn(|i| a[i] & b[i])
    }

    unsafe fn or(a: [u32; 16], b: [u32; 16]) -> [u32; 16] {
        std::array::from_fn(|i| a[i] | b[i])
    }

    unsafe fn xor(a: [u32; 16], b: [u32; 16]) -> [u32; 16] {
        std::array::from_fn(|i| a[i] ^ b[i])
    }

    unsafe fn up(words: [u32; 16], by: usize) -> [u32; 16] {
        words.map(|word| word << by)
    }

    unsafe fn down(words: [u32; 16], by: usize) -> [u32; 16] {
        words.map(|word| word >> by)
    }

    unsafe fn put(to: *mut u8, words: [u32; 16]) {
        to.cast::<[u32; 16]>().write_unaligned(words.map(u32::to_le));
    }

    unsafe fn put_halves(lower: *mut u8, upper: *mut u8, words: [u32; 16]) {
        lower.cast::<[u16; 16]>().write_unaligned(words.map(|word| (word as u16).to_le()));
        upper.cast::<[u16; 16]>().write_unaligned(words.map(|word| ((word >> 16) as u16).to_le()));
    }
}

/// Transposes blocks of four words by four rows in all 128-bit parts of four registers.
#[cfg(target_arch = "x86_64")]
macro_rules! transpose_parts {
    ($rows:expr, $low:ident, $high:ident, $low_pairs:ident, $high_pairs:ident) => {{
        let [a, b, c, d] = $rows;
        let (first, second) = ($low(a, b), $low(c, d));
        let (third, fourth) = ($high(a, b), $high(c, d));
        [$low_pairs(first, second), $high_pairs(first, second), $low_pairs(third, fourth), $high_pairs(third, fourth)]
    }};
}

#[cfg(target_arch = "x86_64")]
impl RowWords for Avx2 {
    type W = [__m256i; 2];

    #[inline(always)]
    unsafe fn splat_word(word: u32) -> [__m256i; 2] {
        [_mm256_set1_epi32(word.cast_signed()); 2]
    }

    #[inline(always)]
    unsafe fn transpose(from: *const u8, stride: usize) -> [[__m256i; 2]; BLOCK] {
        macro_rules! row {
            ($row:expr) => {
                _mm256_inserti128_si256::<1>(
                    _mm256_castsi128_si256(_mm_loadu_si128(from.add($row * stride).cast())),
                    _mm_loadu_si128(from.add(($row + 4) * stride).cast()),
                )
            };
        }
        macro_rules! eight {
            ($first:expr) => {
                transpose_parts!(
                    [row!($first), row!($first + 1), row!($first + 2), row!($first + 3)],
                    _mm256_unpacklo_epi32,
                    _mm256_unpackhi_epi32,
                    _mm256_unpacklo_epi64,
                    _mm256_unpackhi_epi64
                )
            };
        }
        let (a, b) = (eight!(0), eight!(8));
        [[a[0], b[0]], [a[1], b[1]], [a[2], b[2]], [a[3], b[3]]]
    }

    #[inline(always)]
    unsafe fn column(from: *const u8, stride: usize) -> [__m256i; 2] {
        std::mem::transmute::<[u32; 16], [__m256i; 2]>(gather(from, stride))
    }

    #[inline(always)]
    unsafe fn and(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        [_mm256_and_si256(a[0], b[0]), _mm256_and_si256(a[1], b[1])]
    }

    #[inline(always)]
    unsafe fn or(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        [_mm256_or_si256(a[0], b[0]), _mm256_or_si256(a[1], b[1])]
    }

    #[inline(always)]
    unsafe fn xor(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        [_mm256_xor_si256(a[0], b[0]), _mm256_xor_si256(a[1], b[1])]
    }

    #[inline(always)]
    unsafe fn up(words: [__m256i; 2], by: usize) -> [__m256i; 2] {
        let by = _mm_cvtsi32_si128(by as i32);
        [_mm256_sll_epi32(words[0], by), _mm256_sll_epi32(words[1], by)]
    }

    #[inline(always)]
    unsafe fn down(words: [__m256i; 2], by: usize) -> [__m256i; 2] {
        let by = _mm_cvtsi32_si128(by as i32);
        [_mm256_srl_epi32(words[0], by), _mm256_srl_epi32(words[1], by)]
    }

    #[inline(always)]
    unsafe fn put(to: *mut u8, words: [__m256i; 2]) {
        _mm256_storeu_si256(to.cast(), words[0]);
        _mm256_storeu_si256(to.add(32).cast(), words[1]);
    }

    #[inline(always)]
    unsafe fn put_halves(lower: *mut u8, upper: *mut u8, words: [__m256i; 2]) {
        let low = Self::and(words, Self::splat_word(0xffff));
        let up = Self::down(words, 16);
        // The parts of 128 bits are packed apart: the middle two quarters change places.
        let low = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(low[0], low[1]));
        let up = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(up[0], up[1]));
        _mm256_storeu_si256(lower.cast(), low);
        _mm256_storeu_si256(upper.cast(), up);
    }
}

#[cfg(target_arch = "x86_64")]
impl RowWords for Avx512 {
    type W = __m512i;

    #[inline(always)]
    unsafe fn splat_word(word: u32) -> __m512i {
        _mm512_set1_epi32(word.cast_signed())
    }

    #[inline(always)]
    unsafe fn transpose(from: *const u8, stride: usize) -> [__m512i; BLOCK] {
        macro_rules! row {
            ($row:expr) => {{
                let row = _mm512_castsi128_si512(_mm_loadu_si128(from.add($row * stride).cast()));
                let row = _mm512_inserti32x4::<1>(row, _mm_loadu_si128(from.add(($row + 4) * stride).cast()));
                let row = _mm512_inserti32x4::<2>(row, _mm_loadu_si128(from.add(($row + 8) * stride).cast()));
                _mm512_inserti32x4::<3>(row, _mm_loadu_si128(from.add(($row + 12) * stride).cast()))
            }};
        }
        transpose_parts!(
            [row!(0), row!(1), row!(2), row!(3)],
            _mm512_unpacklo_epi32,
            _mm512_unpackhi_epi32,
            _mm512_unpacklo_epi64,
            _mm512_unpackhi_epi64
        )
    }

    #[inline(always)]
    unsafe fn column(from: *const u8, stride: usize) -> __m512i {
        std::mem::transmute::<[u32; 16], __m512i>(gather(from, stride))
    }

    #[inline(always)]
    unsafe fn and(a: __m512i, b: __m512i) -> __m512i {
        _mm512_and_si512(a, b)
    }

    #[inline(always)]
    unsafe fn or(a: __m512i, b: __m512i) -> __m512i {
        _mm512_or_si512(a, b)
    }

    #[inline(always)]
    unsafe fn xor(a: __m512i, b: __m512i) -> __m512i {
        _mm512_xor_si512(a, b)
    }

    #[inline(always)]
    unsafe fn up(words: __m512i, by: usize) -> __m512i {
        _mm512_sll_epi32(words, _mm_cvtsi32_si128(by as i32))
    }

    #[inline(always)]
    unsafe fn down(words: __m512i, by: usize) -> __m512i {
        _mm512_srl_epi32(words, _mm_cvtsi32_si128(by as i32))
    }

    #[inline(always)]
    unsafe fn put(to: *mut u8, words: __m512i) {
        _mm512_storeu_si512(to.cast(), words);
    }

    #[inline(always)]
    unsafe fn put_halves(lower: *mut u8, upper: *mut u8, words: __m512i) {
        _mm256_storeu_si256(lower.cast(), _mm512_cvtepi32_epi16(words));
        _mm256_storeu_si256(upper.cast(), _mm512_cvtepi32_epi16(Self::down(words, 16)));
    }
}

#[cfg(target_arch = "aarch64")]
impl RowWords for Neon {
    type W = [uint32x4_t; 4];

    #[inline(always)]
    unsafe fn splat_word(word: u32) -> [uint32x4_t; 4] {
        [vdupq_n_u32(word); 4]
    }

    #[inline(always)]
    unsafe fn transpose(from: *const u8, stride: usize) -> [[uint32x4_t; 4]; BLOCK] {
        let mut out = [[vdupq_n_u32(0); 4]; BLOCK];
        let mut four = 0;
        while four < 4 {
            let at = from.add(4 * four * stride);
            let a = vreinterpretq_u32_u8(vld1q_u8(at));
            let b = vreinterpretq_u32_u8(vld1q_u8(at.add(stride)));
            let c = vreinterpretq_u32_u8(vld1q_u8(at.add(2 * stride)));
            let d = vreinterpretq_u32_u8(vld1q_u8(at.add(3 * stride)));
            let (first, second) = (pairs(vzip1q_u32(a, b)), pairs(vzip1q_u32(c, d)));
            let (third, fourth) = (pairs(vzip2q_u32(a, b)), pairs(vzip2q_u32(c, d)));
            out[0][four] = vreinterpretq_u32_u64(vzip1q_u64(first, second));
            out[1][four] = vreinterpretq_u32_u64(vzip2q_u64(first, second));
            out[2][four] = vreinterpretq_u32_u64(vzip1q_u64(third, fourth));
            out[3][four] = vreinterpretq_u32_u64(vzip2q_u64(third, fourth));
            four += 1;
        }
        out
    }

    #[inline(always)]
    unsafe fn column(from: *const u8, stride: usize) -> [uint32x4_t; 4] {
        std::mem::transmute::<[u32; 16], [uint32x4_t; 4]>(gather(from, stride))
    }

    #[inline(always)]
    unsafe fn and(a: [uint32x4_t; 4], b: [uint32x4_t; 4]) -> [uint32x4_t; 4] {
        [vandq_u32(a[0], b[0]), vandq_u32(a[1], b[1]), vandq_u32(a[2], b[2]), vandq_u32(a[3], b[3])]
    }

    #[inline(always)]
    unsafe fn or(a: [uint32x4_t; 4], b: [uint32x4_t; 4]) -> [uint32x4_t; 4] {
        [vorrq_u32(a[0], b[0]), vorrq_u32(a[1], b[1]), vorrq_u32(a[2], b[2]), vorrq_u32(a[3], b[3])]
    }

    #[inline(always)]
    unsafe fn xor(a: [uint32x4_t; 4], b: [uint32x4_t; 4]) -> [uint32x4_t; 4] {
        [veorq_u32(a[0], b[0]), veorq_u32(a[1], b[1]), veorq_u32(a[2], b[2]), veorq_u32(a[3], b[3])]
    }

    #[inline(always)]
    unsafe fn up(words: [uint32x4_t; 4], by: usize) -> [uint32x4_t; 4] {
        let by = vdupq_n_s32(by as i32);
        [vshlq_u32(words[0], by), vshlq_u32(words[1], by), vshlq_u32(words[2], by), vshlq_u32(words[3], by)]
    }

    #[inline(always)]
    unsafe fn down(words: [uint32x4_t; 4], by: usize) -> [uint32x4_t; 4] {
        let by = vdupq_n_s32(-(by as i32));
        [vshlq_u32(words[0], by), vshlq_u32(words[1], by), vshlq_u32(words[2], by), vshlq_u32(words[3], by)]
    }

    #[inline(always)]
    unsafe fn put(to: *mut u8, words: [uint32x4_t; 4]) {
        to.cast::<[uint32x4_t; 4]>().write_unaligned(words);
    }

    #[inline(always)]
    unsafe fn put_halves(lower: *mut u8, upper: *mut u8, words: [uint32x4_t; 4]) {
        let (a, b) = (vreinterpretq_u16_u32(words[0]), vreinterpretq_u16_u32(words[1]));
        let (c, d) = (vreinterpretq_u16_u32(words[2]), vreinterpretq_u16_u32(words[3]));
        lower.cast::<[uint16x8_t; 2]>().write_unaligned([vuzp1q_u16(a, b), vuzp1q_u16(c, d)]);
        upper.cast::<[uint16x8_t; 2]>().write_unaligned([vuzp2q_u16(a, b), vuzp2q_u16(c, d)]);
    }
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
unsafe fn pairs(words: uint32x4_t) -> uint64x2_t {
    vreinterpretq_u64_u32(words)
}
