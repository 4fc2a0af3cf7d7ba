//! What the processor could do at most: the measure of the other kernels.
//!
//! These loops do nothing else than read, or multiply and add. They give results so that no compiler leaves them out,
//! and the same ones in every form.

use super::TILE;
use super::lanes::{Form, Kernel, Lanes};

/// Bytes of a vector.
const VECTOR: usize = 64;
/// Streams that memory is read in, as the tiles of several rows are.
const STREAMS: usize = 4;
/// How far ahead the next bytes are asked for.
const AHEAD: usize = 4096;
/// Vectors of operands: they stay in the nearest cache.
const OPERANDS: usize = 32;
/// Sums that run side by side where there are 32 registers for sixteen lanes, so that none waits for its last addition.
const MANY: usize = 12;
/// The same where sixteen lanes take two or four registers.
const FEW: usize = 5;

/// Multiplications and additions of a round of [`multiply_bytes`], in all forms but for the number of sums.
pub fn byte_operations(form: Form) -> u64 {
    (2 * VECTOR * OPERANDS * sums(form)) as u64
}

/// Multiplications and additions of a round of [`multiply_floats`].
pub fn float_operations(form: Form) -> u64 {
    (2 * TILE * OPERANDS * sums(form)) as u64
}

fn sums(form: Form) -> usize {
    // SAFETY: the kernel takes no arguments.
    unsafe { form.run(Sums) }
}

struct Sums;

impl Kernel for Sums {
    type Output = usize;

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) -> usize {
        if L::ROWS >= 8 { MANY } else { FEW }
    }
}

/// Reads `bytes` as floats in four streams, and gives the largest one; what is no multiple of 256 bytes is left out.
pub fn read(form: Form, bytes: &[u8]) -> f32 {
    // SAFETY: the kernel reads inside of the slice.
    unsafe { form.run(Read { bytes }) }
}

struct Read<'a> {
    bytes: &'a [u8],
}

impl Kernel for Read<'_> {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) -> f32 {
        let stream = self.bytes.len() / STREAMS / VECTOR * VECTOR;
        let first = self.bytes.as_ptr();
        let mut largest = [L::splat(f32::MIN); STREAMS];
        let mut at = 0;
        while at < stream {
            for s in 0..STREAMS {
                let from = first.add(s * stream + at);
                L::prefetch(from.wrapping_add(AHEAD));
                largest[s] = L::max(L::load(from.cast()), largest[s]);
            }
            at += VECTOR;
        }
        let half = [L::max(largest[0], largest[1]), L::max(largest[2], largest[3])];
        L::largest(L::max(half[0], half[1]))
    }
}

/// Multiplies bytes and adds the products, `rounds` times [`byte_operations`].
pub fn multiply_bytes(form: Form, rounds: u32) -> i32 {
    // SAFETY: the kernel reads its own operands only.
    unsafe { form.run(Bytes { rounds }) }
}

struct Bytes {
    rounds: u32,
}

impl Kernel for Bytes {
    type Output = i32;

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) -> i32 {
        if L::ROWS >= 8 { bytes::<L, MANY>(self.rounds) } else { bytes::<L, FEW>(self.rounds) }
    }
}

#[inline(always)]
unsafe fn bytes<L: Lanes, const SUMS: usize>(rounds: u32) -> i32 {
    // Below 128, so that no pair of products leaves sixteen bits in the forms that add pairs first.
    let mut codes = [0_u8; OPERANDS * VECTOR];
    let mut others = [0_u8; MANY * VECTOR];
    for i in 0..codes.len() {
        codes[i] = (i * 37 % 128) as u8;
    }
    for i in 0..others.len() {
        others[i] = ((i * 29 % 255) as i32 - 127) as u8;
    }
    // Not constants to the compiler.
    let (codes, others) = (std::hint::black_box(codes), std::hint::black_box(others));
    let mut fixed = [L::load_bytes(others.as_ptr()); SUMS];
    for s in 0..SUMS {
        fixed[s] = L::load_bytes(others.as_ptr().add(s * VECTOR));
    }
    let mut sums = [L::splat_i32(0); SUMS];
    for _ in 0..rounds {
        for i in 0..OPERANDS {
            let codes = L::load_bytes(codes.as_ptr().add(i * VECTOR));
            for s in 0..SUMS {
                sums[s] = L::dot_bytes(sums[s], codes, fixed[s]);
            }
        }
    }
    let mut total = 0_i32;
    for s in 0..SUMS {
        let mut lanes = [0; TILE];
        L::store_i32(lanes.as_mut_ptr(), sums[s]);
        for i in 0..TILE {
            total = total.wrapping_mul(31).wrapping_add(lanes[i]);
        }
    }
    total
}

/// Multiplies floats and adds the products, `rounds` times [`float_operations`].
pub fn multiply_floats(form: Form, rounds: u32) -> f32 {
    // SAFETY: the kernel takes no pointers.
    unsafe { form.run(Floats { rounds }) }
}

struct Floats {
    rounds: u32,
}

impl Kernel for Floats {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) -> f32 {
        if L::ROWS >= 8 { floats::<L, MANY>(self.rounds) } else { floats::<L, FEW>(self.rounds) }
    }
}

#[inline(always)]
unsafe fn floats<L: Lanes, const SUMS: usize>(rounds: u32) -> f32 {
    // Sums go towards 1: they neither grow nor become so small that the processor slows down.
    let factor = L::splat(std::hint::black_box(0.75));
    let added = L::splat(std::hint::black_box(0.25));
    let mut sums = [L::splat(0.0); SUMS];
    for s in 0..SUMS {
        sums[s] = L::splat(std::hint::black_box(s as f32));
    }
    for _ in 0..rounds {
        for _ in 0..OPERANDS {
            for s in 0..SUMS {
                sums[s] = L::fma(sums[s], factor, added);
            }
        }
    }
    let mut total = L::splat(0.0);
    for s in 0..SUMS {
        total = L::add(total, sums[s]);
    }
    L::sum(total) / SUMS as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_float_is_found_wherever_it_is_in_every_form() {
        for place in [0, 15, 16, 200, 511, 700, 1023] {
            let mut floats: Vec<f32> = (0..1024).map(|i| (i % 97) as f32 - 50.0).collect();
            floats[place] = 1000.0;
            let bytes: Vec<u8> = floats.iter().flat_map(|float| float.to_le_bytes()).collect();
            for form in Form::available() {
                assert_eq!(read(form, &bytes), 1000.0, "{form} {place}");
            }
        }
    }

    #[test]
    fn bytes_are_multiplied_exactly() {
        for form in Form::available() {
            for rounds in [1, 3] {
                assert_eq!(multiply_bytes(form, rounds), expected(sums(form), rounds), "{form}, {rounds} rounds");
            }
        }
    }

    /// The same in plain integers.
    fn expected(sums: usize, rounds: u32) -> i32 {
        let code = |i: usize| (i * 37 % 128) as i32;
        let other = |i: usize| (i * 29 % 255) as i32 - 127;
        let lane = |s: usize, lane: usize| -> i32 {
            let products = |i: usize| (0..4).map(move |j| code(i * 64 + 4 * lane + j) * other(s * 64 + 4 * lane + j));
            rounds as i32 * (0..OPERANDS).flat_map(products).sum::<i32>()
        };
        (0..sums)
            .flat_map(|s| (0..TILE).map(move |i| lane(s, i)))
            .fold(0_i32, |total, lane| total.wrapping_mul(31).wrapping_add(lane))
    }

    #[test]
    fn floats_are_added_up_towards_one_in_every_form() {
        for form in Form::available() {
            let result = multiply_floats(form, 3);
            assert!((result - TILE as f32).abs() < 1e-3, "{form} {result}");
            assert_eq!(float_operations(form), (2 * 16 * 32 * sums(form)) as u64);
            assert_eq!(byte_operations(form), 4 * float_operations(form));
        }
    }
}
