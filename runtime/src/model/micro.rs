//! Microscaling formats of MLX: small floats as codes, one power of two or small float as scale per group of inputs.
//!
//! Source: OCP Microscaling Formats (MX) Specification 1.0, and mlx's `dequantize` for the layout of codes: a row is a
//! little-endian bit stream, as that of affine codes.

use crate::checkpoint::{LoadError, TensorView};

/// A format of small floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Microscaling {
    /// Codes e2m1 in groups of 32, scales e8m0.
    Mxfp4,
    /// Codes e2m1 in groups of 16, scales e4m3.
    Nvfp4,
    /// Codes e4m3 in groups of 32, scales e8m0.
    Mxfp8,
}

/// Twice the magnitudes of e2m1, which are whole numbers.
const TWICE_E2M1: [i8; 8] = [0, 1, 2, 3, 4, 6, 8, 12];

impl Microscaling {
    /// All formats.
    pub const ALL: [Self; 3] = [Self::Mxfp4, Self::Nvfp4, Self::Mxfp8];

    /// Its `mode` in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mxfp4 => "mxfp4",
            Self::Nvfp4 => "nvfp4",
            Self::Mxfp8 => "mxfp8",
        }
    }

    /// Width of a code.
    pub fn bits(self) -> usize {
        match self {
            Self::Mxfp4 | Self::Nvfp4 => 4,
            Self::Mxfp8 => 8,
        }
    }

    /// Inputs that share a scale.
    pub fn group_size(self) -> usize {
        match self {
            Self::Mxfp4 | Self::Mxfp8 => 32,
            Self::Nvfp4 => 16,
        }
    }

    /// The scale that a byte stands for.
    pub fn scale(self, byte: u8) -> f32 {
        match self {
            Self::Mxfp4 | Self::Mxfp8 => e8m0(byte),
            Self::Nvfp4 => e4m3(byte),
        }
    }

    /// Dequantises a row. `codes`: `[inputs * bits / 8]`, `scales`: `[inputs / group]`, `factor`: of all scales, `out`:
    /// `[inputs]`.
    ///
    /// With the factor 1 every value is a bfloat16: codes have at most four significant bits, and scales as many.
    ///
    /// # Panics
    /// If a slice has another length.
    pub fn dequantize_row(self, codes: &[u8], scales: &[u8], factor: f32, out: &mut [f32]) {
        let group = self.group_size();
        assert_eq!((codes.len() * 8, scales.len() * group), (out.len() * self.bits(), out.len()), "another length");
        let codes = codes.chunks_exact(group * self.bits() / 8);
        for ((out, codes), scale) in out.chunks_exact_mut(group).zip(codes).zip(scales) {
            let scale = self.scale(*scale) * factor;
            match self {
                Self::Mxfp4 | Self::Nvfp4 => {
                    for (out, byte) in out.as_chunks_mut().0.iter_mut().zip(codes) {
                        *out = [byte & 15, byte >> 4].map(|code| f32::from(twice_e2m1(code)) * 0.5 * scale);
                    }
                }
                Self::Mxfp8 => out.iter_mut().zip(codes).for_each(|(out, code)| *out = e4m3(*code) * scale),
            }
        }
    }
}

impl std::fmt::Display for Microscaling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A matrix in such a format as the checkpoint stores it.
#[derive(Debug, Clone, Copy)]
pub struct MicroMatrix<'a> {
    /// Its format.
    pub format: Microscaling,
    /// Rows.
    pub outputs: usize,
    /// Columns of the dense matrix; a multiple of the group.
    pub inputs: usize,
    /// Codes, u32 `[outputs, inputs * bits / 32]`.
    pub codes: TensorView<'a>,
    /// Scales, u8 `[outputs, inputs / group]`.
    pub scales: TensorView<'a>,
    /// What all scales are multiplied with.
    pub factor: f32,
}

/// What the scales of an `nvfp4` matrix are multiplied with: `global_scale` is the largest magnitude of its weights, for
/// which the largest code and the largest scale stand.
///
/// Source: mlx 0.32, checked against its `dequantize`.
pub fn nvfp4_factor(global_scale: f32) -> f32 {
    const LARGEST_CODE: f32 = 6.0;
    const LARGEST_SCALE: f32 = 448.0;
    global_scale / (LARGEST_CODE * LARGEST_SCALE)
}

impl MicroMatrix<'_> {
    /// Looks at all scales, of which each spoils a whole group.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] naming the scales if one of them is no finite number.
    pub fn check(&self) -> Result<(), LoadError> {
        match self.scales.data.iter().position(|scale| !self.format.scale(*scale).is_finite()) {
            None => Ok(()),
            Some(at) => Err(LoadError::invalid(self.scales.name, format!("scale {at} is not a finite number"))),
        }
    }

    /// Dequantises the rows from `first` on that `out` has room for, `[rows, inputs]`.
    ///
    /// # Errors
    /// None; as other matrices.
    pub fn dequantize_rows(&self, first: usize, out: &mut [f32]) -> Result<(), LoadError> {
        let codes = self.inputs * self.format.bits() / 8;
        let scales = self.inputs / self.format.group_size();
        for (row, out) in (first..).zip(out.chunks_exact_mut(self.inputs)) {
            let (codes, scales) =
                (&self.codes.data[row * codes..][..codes], &self.scales.data[row * scales..][..scales]);
            self.format.dequantize_row(codes, scales, self.factor, out);
        }
        Ok(())
    }
}

/// Twice the value of an e2m1 code.
pub fn twice_e2m1(code: u8) -> i8 {
    let magnitude = TWICE_E2M1[usize::from(code & 7)];
    if code & 8 == 0 { magnitude } else { -magnitude }
}

/// `2^(byte - 127)`; 255 is not a number.
pub fn e8m0(byte: u8) -> f32 {
    match byte {
        0 => f32::from_bits(1 << 22),
        255 => f32::NAN,
        exponent => f32::from_bits(u32::from(exponent) << 23),
    }
}

/// A sign, four bits of exponent and three of mantissa; without infinities.
pub fn e4m3(byte: u8) -> f32 {
    E4M3[usize::from(byte)]
}

/// The values of [`e4m3`]: whole matrices are looked up in it.
static E4M3: [f32; 256] = {
    let mut table = [0.0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (sign, exponent, mantissa) = ((byte as u32) >> 7, (byte as u32) >> 3 & 15, (byte as u32) & 7);
        let magnitude = match (exponent, mantissa) {
            (15, 7) => f32::NAN,
            (0, _) => mantissa as f32 / 512.0,
            _ => f32::from_bits((exponent + 120) << 23 | mantissa << 20),
        };
        table[byte] = if sign == 0 { magnitude } else { -magnitude };
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_floats_have_the_values_of_their_formats() {
        assert_eq!([0_u8, 126, 127, 128, 254].map(e8m0), [2_f32.powi(-127), 0.5, 1.0, 2.0, 2_f32.powi(127)]);
        assert!(e8m0(255).is_nan() && e4m3(0x7f).is_nan() && e4m3(0xff).is_nan());
        assert_eq!(
            [0x00, 0x01, 0x08, 0x38, 0x3c, 0x7e, 0xb8].map(e4m3),
            [0.0, 1.0 / 512.0, 1.0 / 64.0, 1.0, 1.5, 448.0, -1.0]
        );
        assert_eq!([0, 1, 2, 5, 7, 9, 15].map(twice_e2m1), [0, 1, 2, 6, 12, -1, -12]);
    }

    #[test]
    fn all_values_are_bfloat16s() {
        for format in Microscaling::ALL {
            let group = format.group_size();
            for scale in (1..=254).filter(|byte| format.scale(*byte).is_finite()) {
                let codes: Vec<u8> =
                    (0..group * format.bits() / 8).map(|i| (i * 37 + usize::from(scale)) as u8).collect();
                let mut out = vec![0.0; group];
                format.dequantize_row(&codes, &[scale], 1.0, &mut out);
                for value in out.into_iter().filter(|value| value.is_finite() && value.abs() > 1e-36) {
                    assert_eq!(half::bf16::from_f32(value).to_f32(), value, "{format}, scale {scale}");
                }
            }
        }
    }
}
