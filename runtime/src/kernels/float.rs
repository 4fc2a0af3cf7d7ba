use super::TILE;
use super::lanes::Lanes;
use half::slice::HalfFloatSliceExt;

/// A type of floats in memory. Arithmetic is in float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Float {
    /// bfloat16.
    Bf16,
    /// float16.
    F16,
    /// float32.
    F32,
}

impl Float {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// Element `i` of `values`, little endian.
    pub fn read(self, values: &[u8], i: usize) -> f32 {
        let at = &values[i * self.bytes()..];
        match self {
            Self::Bf16 => half::bf16::from_le_bytes([at[0], at[1]]).to_f32(),
            Self::F16 => half::f16::from_le_bytes([at[0], at[1]]).to_f32(),
            Self::F32 => f32::from_le_bytes([at[0], at[1], at[2], at[3]]),
        }
    }

    /// Rounds `values` to the elements of `to`, as [`Self::write`] does.
    ///
    /// # Panics
    /// If `to` has place for another number of elements.
    pub fn write_all(self, to: &mut [u8], values: &[f32]) {
        assert_eq!(to.len(), values.len() * self.bytes(), "another number of values");
        for (to, values) in to.chunks_mut(TILE * self.bytes()).zip(values.chunks(TILE)) {
            let n = values.len();
            match self {
                Self::Bf16 => {
                    let mut halves = [half::bf16::ZERO; TILE];
                    halves[..n].convert_from_f32_slice(&cut_all(values, half::bf16::MAX.to_f32())[..n]);
                    put_halves(to, halves.reinterpret_cast());
                }
                Self::F16 => {
                    let mut halves = [half::f16::ZERO; TILE];
                    halves[..n].convert_from_f32_slice(&cut_all(values, half::f16::MAX.to_f32())[..n]);
                    put_halves(to, halves.reinterpret_cast());
                }
                Self::F32 => to.as_chunks_mut().0.iter_mut().zip(values).for_each(|(to, x)| *to = x.to_le_bytes()),
            }
        }
    }

    /// Rounds `value` to element `i` of `values`. What is finite stays finite: beyond the range it is cut to the largest.
    pub fn write(self, values: &mut [u8], i: usize, value: f32) {
        let at = &mut values[i * self.bytes()..][..self.bytes()];
        match self {
            Self::Bf16 => at.copy_from_slice(&half::bf16::from_f32(cut(value, half::bf16::MAX.to_f32())).to_le_bytes()),
            Self::F16 => at.copy_from_slice(&half::f16::from_f32(cut(value, half::f16::MAX.to_f32())).to_le_bytes()),
            Self::F32 => at.copy_from_slice(&value.to_le_bytes()),
        }
    }
}

fn cut_all(values: &[f32], largest: f32) -> [f32; TILE] {
    let mut all = [0.0; TILE];
    all.iter_mut().zip(values).for_each(|(to, value)| *to = cut(*value, largest));
    all
}

fn put_halves(to: &mut [u8], halves: &[u16]) {
    to.as_chunks_mut().0.iter_mut().zip(halves).for_each(|(to, half)| *to = half.to_le_bytes());
}

fn cut(value: f32, largest: f32) -> f32 {
    if value.is_finite() { value.clamp(-largest, largest) } else { value }
}

/// A [`Float`] that a kernel is compiled for.
pub(super) trait Element: Copy {
    const BYTES: usize;

    /// # Safety
    /// As [`Lanes`]: reads sixteen elements.
    unsafe fn load<L: Lanes>(from: *const u8) -> L::F;
}

#[derive(Clone, Copy)]
pub(super) struct Bf16;
#[derive(Clone, Copy)]
pub(super) struct F16;
#[derive(Clone, Copy)]
pub(super) struct F32;

impl Element for Bf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u8) -> L::F {
        L::load_bf16(from.cast())
    }
}

impl Element for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u8) -> L::F {
        L::load_f16(from.cast())
    }
}

impl Element for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u8) -> L::F {
        L::load(from.cast())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_values_are_rounded_like_each_of_them() {
        let ends = [0.0, -0.0, 1e9, -3e38, f32::INFINITY, f32::NEG_INFINITY, 1e-30, 65_519.9, 65_520.0];
        let values: Vec<f32> = ends.into_iter().chain((0..40).map(|i| (i as f32 - 20.0) * 0.123_456_7)).collect();
        for kind in [Float::Bf16, Float::F16, Float::F32] {
            for n in [0, 1, TILE, TILE + 3, values.len()] {
                let (mut one, mut all) = (vec![0; n * kind.bytes()], vec![0; n * kind.bytes()]);
                values[..n].iter().enumerate().for_each(|(i, value)| kind.write(&mut one, i, *value));
                kind.write_all(&mut all, &values[..n]);
                assert_eq!(one, all, "{kind:?}, {n} values");
            }
        }
    }
}
