use super::Lanes;
use half::f16;
use std::array::from_fn;

/// Plain Rust: the reference of all other forms. What would blow up the kernels is kept out of line: it is not meant to be fast.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Lanes for Portable {
    type F = [f32; 16];
    type I = [i32; 16];
    type B = [u8; 64];
    type Words = [u8; 64];
    type Pairs = [[i16; 2]; 16];
    type Pair = [i16; 2];
    type Sum8 = [i32; 16];
    type Sum16 = [i32; 16];

    const WIDEST_CODE8: usize = 8;
    const ROWS: usize = 1;

    unsafe fn splat(value: f32) -> [f32; 16] {
        [value; 16]
    }

    unsafe fn load(from: *const f32) -> [f32; 16] {
        from.cast::<[f32; 16]>().read_unaligned()
    }

    unsafe fn load_bf16(from: *const u16) -> [f32; 16] {
        from.cast::<[u16; 16]>().read_unaligned().map(|bits| f32::from_bits(u32::from(bits) << 16))
    }

    #[inline(never)]
    unsafe fn load_f16(from: *const u16) -> [f32; 16] {
        from.cast::<[u16; 16]>().read_unaligned().map(|bits| f16::from_bits(bits).to_f32())
    }

    unsafe fn store(to: *mut f32, lanes: [f32; 16]) {
        to.cast::<[f32; 16]>().write_unaligned(lanes)
    }

    unsafe fn add(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        from_fn(|i| a[i] + b[i])
    }

    unsafe fn sub(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        from_fn(|i| a[i] - b[i])
    }

    unsafe fn mul(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        from_fn(|i| a[i] * b[i])
    }

    unsafe fn div(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        from_fn(|i| a[i] / b[i])
    }

    #[inline(never)]
    unsafe fn fma(a: [f32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
        from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    unsafe fn max(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    unsafe fn min(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    unsafe fn splat_i32(value: i32) -> [i32; 16] {
        [value; 16]
    }

    unsafe fn load_i32(from: *const i32) -> [i32; 16] {
        from.cast::<[i32; 16]>().read_unaligned()
    }

    unsafe fn store_i32(to: *mut i32, lanes: [i32; 16]) {
        to.cast::<[i32; 16]>().write_unaligned(lanes)
    }

    unsafe fn add_i32(a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        from_fn(|i| a[i] + b[i])
    }

    unsafe fn max_i32(a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        from_fn(|i| a[i].max(b[i]))
    }

    unsafe fn to_f32(lanes: [i32; 16]) -> [f32; 16] {
        lanes.map(|lane| lane as f32)
    }

    unsafe fn to_i32(lanes: [f32; 16]) -> [i32; 16] {
        lanes.map(|lane| lane.round_ties_even() as i32)
    }

    unsafe fn magnitude_bits(lanes: [f32; 16]) -> [i32; 16] {
        lanes.map(|lane| (lane.to_bits() & 0x7fff_ffff) as i32)
    }

    unsafe fn power_of_two(lanes: [i32; 16]) -> [f32; 16] {
        lanes.map(|lane| f32::from_bits(((lane + 127) as u32) << 23))
    }

    unsafe fn load_bytes(from: *const u8) -> [u8; 64] {
        from.cast::<[u8; 64]>().read_unaligned()
    }

    #[inline(never)]
    unsafe fn field(bytes: [u8; 64], shift: u32, mask: u8) -> [u8; 64] {
        bytes.map(|byte| byte >> shift & mask)
    }

    unsafe fn field_at(bytes: [u8; 64], shift: u32, mask: u8) -> [u8; 64] {
        Self::field(bytes, shift, mask)
    }

    #[inline(never)]
    unsafe fn merge(low: [u8; 64], high: [u8; 64], shift: u32) -> [u8; 64] {
        from_fn(|i| low[i] | high[i] << shift)
    }

    #[inline(never)]
    unsafe fn byte_to_f32(bytes: [u8; 64], j: u32) -> [f32; 16] {
        from_fn(|i| f32::from(bytes[4 * i + j as usize]))
    }

    #[inline(never)]
    unsafe fn put8(to: *mut u8, lanes: [i32; 16]) {
        to.cast::<[i8; 16]>().write_unaligned(lanes.map(|lane| lane as i8))
    }

    #[inline(never)]
    unsafe fn put16(to: *mut u8, lanes: [i32; 16]) {
        to.cast::<[i16; 16]>().write_unaligned(lanes.map(|lane| lane as i16))
    }

    unsafe fn zero8() -> [i32; 16] {
        [0; 16]
    }

    unsafe fn zero16() -> [i32; 16] {
        [0; 16]
    }

    unsafe fn words(bytes: [u8; 64]) -> [u8; 64] {
        bytes
    }

    #[inline(never)]
    unsafe fn dot8(sum: [i32; 16], codes: [u8; 64], quad: *const u8) -> [i32; 16] {
        let quad = quad.cast::<[i8; 4]>().read_unaligned();
        dot(sum, codes, quad.map(i32::from))
    }

    #[inline(never)]
    unsafe fn dot16(sum: [i32; 16], codes: [u8; 64], quad: *const u8) -> [i32; 16] {
        let quad = quad.cast::<[i16; 4]>().read_unaligned();
        dot(sum, codes, quad.map(i32::from))
    }

    fn settle8_every(_: usize) -> usize {
        usize::MAX
    }

    unsafe fn settle8(sum: [i32; 16]) -> [i32; 16] {
        sum
    }

    unsafe fn done8(sum: [i32; 16]) -> [i32; 16] {
        sum
    }

    unsafe fn done16(sum: [i32; 16]) -> [i32; 16] {
        sum
    }

    #[inline(never)]
    unsafe fn dot_bytes(sum: [i32; 16], codes: [u8; 64], others: [u8; 64]) -> [i32; 16] {
        let product = |i: usize| i32::from(codes[i]) * i32::from(others[i].cast_signed());
        from_fn(|i| sum[i] + (4 * i..4 * i + 4).map(product).sum::<i32>())
    }

    unsafe fn load_pairs(from: *const i16) -> [[i16; 2]; 16] {
        from.cast::<[[i16; 2]; 16]>().read_unaligned()
    }

    unsafe fn splat_pair(from: *const i16) -> [i16; 2] {
        from.cast::<[i16; 2]>().read_unaligned()
    }

    #[inline(never)]
    unsafe fn dot_pair(sum: [i32; 16], a: [[i16; 2]; 16], b: [i16; 2]) -> [i32; 16] {
        from_fn(|i| sum[i] + i32::from(a[i][0]) * i32::from(b[0]) + i32::from(a[i][1]) * i32::from(b[1]))
    }

    unsafe fn put_words(to: *mut i16, lanes: [i32; 16]) {
        Self::put16(to.cast(), lanes)
    }

    unsafe fn prefetch(_: *const u8) {}

    unsafe fn load_u8(from: *const u8) -> [f32; 16] {
        from.cast::<[u8; 16]>().read_unaligned().map(f32::from)
    }

    unsafe fn load_low4(from: *const u8) -> [f32; 16] {
        from.cast::<[u8; 16]>().read_unaligned().map(|byte| f32::from(byte & 15))
    }

    unsafe fn load_high4(from: *const u8) -> [f32; 16] {
        from.cast::<[u8; 16]>().read_unaligned().map(|byte| f32::from(byte >> 4))
    }
}

fn dot(sum: [i32; 16], codes: [u8; 64], quad: [i32; 4]) -> [i32; 16] {
    from_fn(|i| sum[i] + (0..4).map(|j| i32::from(codes[4 * i + j]) * quad[j]).sum::<i32>())
}
