//! MLX affine quantisation: `w = code * scale + bias`, one scale and one bias per group of inputs.
//!
//! A row of codes is a little-endian bit stream, least significant bit first, for every width (2, 3, 4, 5, 6, 8): eight
//! codes always fill as many bytes as a code has bits, and for 3, 5 and 6 bits they cross the borders of words.
//!
//! Source: mlx, `mlx/ops.cpp` (`quantize`), read and checked against mlx's own `dequantize`.

use super::quantization::Quantization;
use crate::checkpoint::{LoadError, TensorView};

/// A quantised matrix as the checkpoint stores it.
#[derive(Debug, Clone, Copy)]
pub struct AffineMatrix<'a> {
    /// Width and group.
    pub quantization: Quantization,
    /// Rows.
    pub outputs: usize,
    /// Columns of the dense matrix; a multiple of the group.
    pub inputs: usize,
    /// Codes, u32 `[outputs, inputs * bits / 32]`.
    pub codes: TensorView<'a>,
    /// Scales, any float type, `[outputs, inputs / group]`; may be negative.
    pub scales: TensorView<'a>,
    /// Biases, any float type, `[outputs, inputs / group]`; `None` if the middle code is zero everywhere.
    pub biases: Option<TensorView<'a>>,
}

impl AffineMatrix<'_> {
    /// Groups per row.
    pub fn groups(&self) -> usize {
        self.inputs / self.quantization.group_size
    }

    /// Unpacks the codes of one row to `out`, `[inputs]`.
    pub fn codes_of(&self, row: usize, out: &mut [u8]) {
        let row_bytes = self.inputs * self.quantization.bits / 8;
        unpack(&self.codes.data[row * row_bytes..(row + 1) * row_bytes], self.quantization.bits, out);
    }

    /// Widens the scales and biases of one row, `[inputs / group]` each.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if their type is not a float type.
    pub fn scales_of(&self, row: usize, scales: &mut [f32], biases: &mut [f32]) -> Result<(), LoadError> {
        let range = row * self.groups()..(row + 1) * self.groups();
        self.scales.widen(range.clone(), scales)?;
        match self.biases {
            Some(stored) => stored.widen(range, biases)?,
            None => {
                let centre = centre(self.quantization.bits);
                biases.iter_mut().zip(scales).for_each(|(bias, scale)| *bias = -centre * *scale);
            }
        }
        Ok(())
    }

    /// Dequantises the rows from `first` on that `out` has room for, `[rows, inputs]`.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if scales or biases are of no float type.
    pub fn dequantize_rows(&self, first: usize, out: &mut [f32]) -> Result<(), LoadError> {
        let mut codes = vec![0; self.inputs];
        let mut scales = vec![0.0; self.groups()];
        let mut biases = vec![0.0; self.groups()];
        for (i, out) in out.chunks_exact_mut(self.inputs).enumerate() {
            self.codes_of(first + i, &mut codes);
            self.scales_of(first + i, &mut scales, &mut biases)?;
            let group = self.quantization.group_size;
            for ((out, codes), (scale, bias)) in
                out.chunks_exact_mut(group).zip(codes.chunks_exact(group)).zip(scales.iter().zip(&biases))
            {
                for (to, &code) in out.iter_mut().zip(codes) {
                    *to = f32::from(code) * scale + bias;
                }
            }
        }
        Ok(())
    }
}

/// The middle code: with it as zero, `code - centre` counts from `-centre` to `centre - 1`, and the bias is `-centre` times
/// the scale, which every float type holds as exactly as the scale.
pub(crate) fn centre(bits: usize) -> f32 {
    f32::from(1_u8 << (bits - 1))
}

/// Unpacks codes; `out.len()` is a multiple of 8 and `bytes` holds exactly that many codes.
pub(crate) fn unpack(bytes: &[u8], bits: usize, out: &mut [u8]) {
    let mask = (1_u64 << bits) - 1;
    for (out, bytes) in out.as_chunks_mut::<8>().0.iter_mut().zip(bytes.chunks_exact(bits)) {
        let mut word = [0; 8];
        word[..bits].copy_from_slice(bytes);
        let word = u64::from_le_bytes(word);
        for (i, code) in out.iter_mut().enumerate() {
            *code = ((word >> (i * bits)) & mask) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::Dtype;

    #[test]
    fn every_width_reads_the_stream_lowest_bit_first() {
        for bits in [2, 3, 4, 5, 6, 8] {
            let codes: Vec<u8> = (0..64_u32).map(|i| ((i * 37 + 11) % (1 << bits)) as u8).collect();
            let mut stream = vec![0_u8; 64 * bits / 8];
            for (i, &code) in codes.iter().enumerate() {
                for bit in (0..bits).filter(|bit| code >> bit & 1 == 1) {
                    let at = i * bits + bit;
                    stream[at / 8] |= 1 << (at % 8);
                }
            }

            let mut out = vec![0; 64];
            unpack(&stream, bits, &mut out);

            assert_eq!(out, codes, "{bits} bits");
        }
    }

    #[test]
    fn a_group_takes_its_own_scale_and_bias() {
        let codes = [0x21_u8; 32];
        let scales: Vec<u8> = [2.0_f32, -1.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let biases: Vec<u8> = [0.5_f32, 10.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let view = |dtype, shape, data| TensorView { name: "m", dtype, shape, data };
        let matrix = AffineMatrix {
            quantization: Quantization { bits: 4, group_size: 32 },
            outputs: 1,
            inputs: 64,
            codes: view(Dtype::U32, &[1, 8], &codes),
            scales: view(Dtype::F32, &[1, 2], &scales),
            biases: Some(view(Dtype::F32, &[1, 2], &biases)),
        };

        let mut out = vec![0.0; 64];
        matrix.dequantize_rows(0, &mut out).unwrap();

        assert_eq!(out[..2], [2.5, 4.5]);
        assert_eq!(out[32..34], [9.0, 8.0]);

        // Without biases the code 8 is zero.
        AffineMatrix { biases: None, ..matrix }.dequantize_rows(0, &mut out).unwrap();

        assert_eq!(out[..2], [-14.0, -12.0]);
        assert_eq!(out[32..34], [7.0, 6.0]);
    }
}
