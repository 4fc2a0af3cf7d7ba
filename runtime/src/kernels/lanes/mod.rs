//! Vectors of sixteen lanes, for each set of instructions.

#[cfg(target_arch = "x86_64")]
pub(super) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod row_words;

pub(super) use row_words::{BLOCK, RowWords};

/// Sixteen lanes, and what the kernels do with them.
///
/// # Safety
/// Every function needs the instructions of its form: kernels run only through [`Form::run`]. Functions that read or
/// write memory need as many elements there as their names and docs say, at any alignment.
pub(super) trait Lanes: RowWords + Copy + 'static {
    /// Sixteen f32.
    type F: Copy;
    /// Sixteen i32.
    type I: Copy;
    /// Sixty-four bytes, four in each lane.
    type B: Copy;
    /// Sixty-four codes as they are multiplied with 16-bit activations.
    type Words: Copy;
    /// Words of two inputs in each lane.
    type Pairs: Copy;
    /// Words of two inputs, the same in each lane.
    type Pair: Copy;
    /// Sums of products with 8-bit activations.
    type Sum8: Copy;
    /// Sums of products with 16-bit activations.
    type Sum16: Copy;

    /// Width of the widest codes that [`Self::dot8`] takes.
    const WIDEST_CODE8: usize;
    /// Rows of activations that fit the registers beside a tile.
    const ROWS: usize;

    unsafe fn splat(value: f32) -> Self::F;
    unsafe fn load(from: *const f32) -> Self::F;
    unsafe fn load_bf16(from: *const u16) -> Self::F;
    unsafe fn load_f16(from: *const u16) -> Self::F;
    unsafe fn store(to: *mut f32, lanes: Self::F);
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The larger one; `b` if either is NaN.
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    /// The smaller one; `b` if either is NaN.
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;

    /// The sum of all lanes: halves onto each other until one is left.
    unsafe fn sum(lanes: Self::F) -> f32 {
        let mut v = [0.0; super::TILE];
        Self::store(v.as_mut_ptr(), lanes);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                v[i] += v[i + half];
            }
        }
        v[0]
    }
    /// The largest lane, found in the same order.
    unsafe fn largest(lanes: Self::F) -> f32 {
        let mut v = [0.0_f32; super::TILE];
        Self::store(v.as_mut_ptr(), lanes);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                v[i] = if v[i] > v[i + half] { v[i] } else { v[i + half] };
            }
        }
        v[0]
    }

    unsafe fn splat_i32(value: i32) -> Self::I;
    unsafe fn load_i32(from: *const i32) -> Self::I;
    unsafe fn store_i32(to: *mut i32, lanes: Self::I);
    unsafe fn add_i32(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn max_i32(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn to_f32(lanes: Self::I) -> Self::F;
    /// The nearest integer, ties to even; the value must lie in its range.
    unsafe fn to_i32(lanes: Self::F) -> Self::I;
    /// The bits without the sign: ordered as the magnitudes are, not-finite ones above all others.
    unsafe fn magnitude_bits(lanes: Self::F) -> Self::I;
    /// 2 to the power of each lane, which must lie in -126..=127.
    unsafe fn power_of_two(lanes: Self::I) -> Self::F;

    /// Reads 64 bytes.
    unsafe fn load_bytes(from: *const u8) -> Self::B;
    /// `bytes >> shift & mask` in each byte; `shift` is a constant, 0, 2, 4 or 6. The mask keeps no bit of the
    /// neighbouring byte.
    unsafe fn field(bytes: Self::B, shift: u32, mask: u8) -> Self::B;
    /// The same with any `shift` in 0..=7, which need not be a constant.
    unsafe fn field_at(bytes: Self::B, shift: u32, mask: u8) -> Self::B;
    /// `low | high << shift` in each byte; `shift` is 2 or 4, and no bit leaves its byte.
    unsafe fn merge(low: Self::B, high: Self::B, shift: u32) -> Self::B;
    /// Byte `j` of each lane, unsigned.
    unsafe fn byte_to_f32(bytes: Self::B, j: u32) -> Self::F;

    /// Writes sixteen activations in -127..=127 as four quads of 4 bytes.
    unsafe fn put8(to: *mut u8, lanes: Self::I);
    /// Writes sixteen activations in -16256..=16256 as four quads of 8 bytes.
    unsafe fn put16(to: *mut u8, lanes: Self::I);
    unsafe fn zero8() -> Self::Sum8;
    unsafe fn zero16() -> Self::Sum16;
    unsafe fn words(bytes: Self::B) -> Self::Words;
    /// Adds to each lane the products of its four bytes, unsigned and of at most [`Self::WIDEST_CODE8`] bits, with four
    /// activations that [`Self::put8`] wrote.
    unsafe fn dot8(sum: Self::Sum8, codes: Self::B, quad: *const u8) -> Self::Sum8;
    /// Adds to each lane the products of its four codes with four activations that [`Self::put16`] wrote.
    unsafe fn dot16(sum: Self::Sum16, codes: Self::Words, quad: *const u8) -> Self::Sum16;
    /// How many times [`Self::dot8`] may add products with codes of `bits` bits before [`Self::settle8`], a power of
    /// two.
    fn settle8_every(bits: usize) -> usize;
    /// Makes room for further products.
    unsafe fn settle8(sum: Self::Sum8) -> Self::Sum8;
    /// Of a sum that has been settled.
    unsafe fn done8(sum: Self::Sum8) -> Self::I;
    unsafe fn done16(sum: Self::Sum16) -> Self::I;
    /// Adds to each lane the products of its four bytes, unsigned and below 128, with four signed ones above -128, by the
    /// instructions that multiply the most of them at a time: the measure of the products above.
    unsafe fn dot_bytes(sum: Self::I, codes: Self::B, others: Self::B) -> Self::I;

    /// Reads two signed words for each lane.
    unsafe fn load_pairs(from: *const i16) -> Self::Pairs;
    /// Reads two signed words for all lanes.
    unsafe fn splat_pair(from: *const i16) -> Self::Pair;
    /// Adds to each lane its two products.
    unsafe fn dot_pair(sum: Self::I, a: Self::Pairs, b: Self::Pair) -> Self::I;
    /// Writes the lanes as sixteen words; they are in the range of those.
    unsafe fn put_words(to: *mut i16, lanes: Self::I);
    /// The same, the upper bytes to one place and the lower ones to another.
    unsafe fn put_bytes(upper: *mut u8, lower: *mut u8, lanes: Self::I) {
        let mut words = [0; super::TILE];
        Self::store_i32(words.as_mut_ptr(), lanes);
        for (i, word) in words.into_iter().enumerate() {
            upper.add(i).write((word >> 8) as u8);
            lower.add(i).write(word as u8);
        }
    }

    /// Asks for a cache line that will be read soon; any address.
    unsafe fn prefetch(from: *const u8);
    /// The same of one that will be read a little later: the second-level cache will do.
    unsafe fn prefetch_later(from: *const u8) {
        Self::prefetch(from);
    }

    /// Reads sixteen bytes, unsigned.
    unsafe fn load_u8(from: *const u8) -> Self::F;
    /// The low halves of sixteen bytes.
    unsafe fn load_low4(from: *const u8) -> Self::F;
    /// The high halves of sixteen bytes.
    unsafe fn load_high4(from: *const u8) -> Self::F;
}

/// A set of instructions that the kernels are compiled for, and that this processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form(Instructions);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instructions {
    /// What every processor has.
    Portable,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, VL and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// The same, and AMX for bytes.
    #[cfg(target_arch = "x86_64")]
    Amx,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// Something to compute with [`Lanes`]. Implementations are `#[inline(always)]`.
pub(super) trait Kernel {
    type Output;

    /// # Safety
    /// The processor must have the instructions of `L`.
    unsafe fn run<L: Lanes>(self) -> Self::Output;
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Instructions::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => "AVX-512 VNNI",
            #[cfg(target_arch = "x86_64")]
            Instructions::Amx => "AMX",
            #[cfg(target_arch = "aarch64")]
            Instructions::Neon => "NEON",
        })
    }
}

impl Form {
    /// Plain Rust: on every processor, slow, and the reference of the others.
    pub const PORTABLE: Self = Self(Instructions::Portable);

    /// The fastest form that this processor can run.
    pub fn best() -> Self {
        Self::available()[0]
    }

    /// All forms that this processor can run, the fastest first.
    pub fn available() -> Vec<Self> {
        let mut forms = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 =
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            if avx2 && avx512 {
                if amx::is_available() {
                    forms.push(Self(Instructions::Amx));
                }
                forms.push(Self(Instructions::Avx512));
            }
            if avx2 {
                forms.push(Self(Instructions::Avx2));
            }
        }
        // Part of every 64-bit ARM.
        #[cfg(target_arch = "aarch64")]
        forms.push(Self(Instructions::Neon));
        forms.push(Self::PORTABLE);
        forms
    }

    /// Width of the widest codes that this form multiplies with bytes; wider ones it multiplies with words.
    pub(super) fn widest_code8(self) -> usize {
        match self.0 {
            Instructions::Portable => portable::Portable::WIDEST_CODE8,
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => avx2::Avx2::WIDEST_CODE8,
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 | Instructions::Amx => avx512::Avx512::WIDEST_CODE8,
            #[cfg(target_arch = "aarch64")]
            Instructions::Neon => neon::Neon::WIDEST_CODE8,
        }
    }

    /// Tiles that products of many rows pass together.
    pub fn tiles_together(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 | Instructions::Amx => 2,
            _ => 1,
        }
    }

    /// Whether it multiplies tiles of bytes.
    pub(super) fn has_tiles(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Instructions::Amx => true,
            _ => false,
        }
    }

    /// Runs a kernel in this form.
    ///
    /// # Safety
    /// The kernel's own arguments are valid.
    pub(super) unsafe fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // The processor has the instructions: that is how the form came to be.
        match self.0 {
            Instructions::Portable => kernel.run::<portable::Portable>(),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => avx2::run(kernel),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 | Instructions::Amx => avx512::run(kernel),
            #[cfg(target_arch = "aarch64")]
            Instructions::Neon => neon::run(kernel),
        }
    }
}
