use super::lanes::Lanes;

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

fn cut(value: f32, largest: f32) -> f32 {
    if value.is_finite() { value.clamp(-largest, largest) } else { value }
}

/// A [`Float`] that a kernel is compiled for.
pub(super) trait Element {
    const BYTES: usize;

    /// # Safety
    /// As [`Lanes`]: reads sixteen elements.
    unsafe fn load<L: Lanes>(from: *const u8) -> L::F;
}

pub(super) struct Bf16;
pub(super) struct F16;
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
