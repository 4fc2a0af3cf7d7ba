use super::rows::fill_rows;
use crate::checkpoint::LoadError;
use crate::model::affine::AffineMatrix;
use candle_core::Device;
use candle_core::quantized::GgmlDType;
use half::f16;

/// Values per GGUF block.
pub(super) const BLOCK: usize = 32;

/// The block form that stands for an affine matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Codes up to 4 bits with scale and minimum: exactly the affine formula.
    Q4_1,
    /// Codes of 5 bits with scale and minimum.
    Q5_1,
    /// Codes less their centre with a scale; what is left of the formula is an offset per group, added apart.
    Q8_0,
}

/// A matrix in block form.
#[derive(Debug)]
pub(super) struct Encoded {
    /// Blocks, row-major.
    pub(super) bytes: Vec<u8>,
    /// For [`Form::Q8_0`]: `bias + centre * scale` of each group, `[outputs, groups]`.
    pub(super) offsets: Option<Vec<f32>>,
}

impl Form {
    /// The form for a matrix on a device; `None` if its rows do not divide into blocks.
    pub(super) fn of(bits: usize, inputs: usize, device: &Device) -> Option<Self> {
        if !inputs.is_multiple_of(BLOCK) {
            return None;
        }
        // candle's CPU products with Q4_1 and Q5_1 are scalar, an order of magnitude slower for a prompt than those with
        // Q8_0: there speed is bought with memory. On every device they take blocks in pairs.
        Some(match bits {
            _ if device.is_cpu() || !inputs.is_multiple_of(2 * BLOCK) => Self::Q8_0,
            ..=4 => Self::Q4_1,
            5 => Self::Q5_1,
            _ => Self::Q8_0,
        })
    }

    /// candle's name of it.
    pub(super) fn dtype(self) -> GgmlDType {
        match self {
            Self::Q4_1 => GgmlDType::Q4_1,
            Self::Q5_1 => GgmlDType::Q5_1,
            Self::Q8_0 => GgmlDType::Q8_0,
        }
    }

    /// Bytes of a block.
    pub(super) fn block_bytes(self) -> usize {
        match self {
            Self::Q4_1 => 20,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
        }
    }
}

/// Rewrites an affine matrix as blocks of a form that has room for its codes, on all cores. `None` if f16 cannot hold
/// a scale.
///
/// # Errors
/// [`LoadError::InvalidCheckpoint`] if scales or biases are of no float type.
pub(super) fn encode(matrix: &AffineMatrix<'_>, form: Form) -> Result<Option<Encoded>, LoadError> {
    let bits = matrix.quantization.bits;
    let centre = match form {
        Form::Q4_1 | Form::Q5_1 => 0.0,
        // Codes around zero keep the offsets small, and with them what rounding the activations does to the sum.
        Form::Q8_0 => f32::from(1_u8 << (bits - 1)),
    };
    let groups = matrix.groups();
    let mut offsets = vec![0.0; matrix.outputs * groups];
    if !offsets_fit(matrix, form, centre, &mut offsets)? {
        return Ok(None);
    }

    let row_bytes = matrix.inputs / BLOCK * form.block_bytes();
    let mut bytes = vec![0; matrix.outputs * row_bytes];
    fill_rows(&mut bytes, row_bytes, |first, rows| {
        let mut codes = vec![0; matrix.inputs];
        let (mut scales, mut biases) = (vec![0.0; groups], vec![0.0; groups]);
        for (i, row) in rows.chunks_exact_mut(row_bytes).enumerate() {
            matrix.codes_of(first + i, &mut codes);
            matrix.scales_of(first + i, &mut scales, &mut biases)?;
            for (b, block) in row.chunks_exact_mut(form.block_bytes()).enumerate() {
                let group = b * BLOCK / matrix.quantization.group_size;
                let codes = &codes[b * BLOCK..(b + 1) * BLOCK];
                write_block(form, codes, scales[group], biases[group], centre as u8, block);
            }
        }
        Ok(())
    })?;
    Ok(Some(Encoded { bytes, offsets: (form == Form::Q8_0).then_some(offsets) }))
}

/// Fills `offsets`, and says whether f16 holds every scale (and bias, where the form stores it) without harm.
fn offsets_fit(matrix: &AffineMatrix<'_>, form: Form, centre: f32, offsets: &mut [f32]) -> Result<bool, LoadError> {
    let groups = matrix.groups();
    let top_code = ((1_u32 << matrix.quantization.bits) - 1) as f32;
    let all_fit = std::sync::atomic::AtomicBool::new(true);
    fill_rows(offsets, groups, |first, rows| {
        let (mut scales, mut biases) = (vec![0.0; groups], vec![0.0; groups]);
        for (i, row) in rows.chunks_exact_mut(groups).enumerate() {
            matrix.scales_of(first + i, &mut scales, &mut biases)?;
            for ((offset, &scale), &bias) in row.iter_mut().zip(&scales).zip(&biases) {
                *offset = bias + centre * scale;
                // What counts is the error of a weight beside the largest weight of its group: a scale far below the
                // range of f16 is harmless where the bias is the whole value.
                let largest = bias.abs().max((bias + scale * top_code).abs());
                let harm = |value: f32, times: f32| (f16::from_f32(value).to_f32() - value).abs() * times;
                let error = harm(scale, top_code) + if form == Form::Q8_0 { 0.0 } else { harm(bias, 1.0) };
                // A scale beyond f16 makes the error infinite or NaN: neither is below anything.
                let fits = error <= largest / 512.0;
                if !fits {
                    all_fit.store(false, std::sync::atomic::Ordering::Relaxed);
                }
            }
        }
        Ok(())
    })?;
    Ok(all_fit.into_inner())
}

/// Writes one block. Layout: llama.cpp, `ggml-common.h`: f16 scale (and minimum), high bits, then codes `j` and
/// `j + 16` in the nibbles of byte `j`.
fn write_block(form: Form, codes: &[u8], scale: f32, bias: f32, centre: u8, block: &mut [u8]) {
    let nibbles = |out: &mut [u8]| {
        for (j, byte) in out.iter_mut().enumerate() {
            *byte = codes[j] & 15 | (codes[j + BLOCK / 2] & 15) << 4;
        }
    };
    block[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    match form {
        Form::Q4_1 => {
            block[2..4].copy_from_slice(&f16::from_f32(bias).to_le_bytes());
            nibbles(&mut block[4..]);
        }
        Form::Q5_1 => {
            block[2..4].copy_from_slice(&f16::from_f32(bias).to_le_bytes());
            let high = codes.iter().enumerate().fold(0_u32, |bits, (j, code)| bits | u32::from(code >> 4) << j);
            block[4..8].copy_from_slice(&high.to_le_bytes());
            nibbles(&mut block[8..]);
        }
        Form::Q8_0 => {
            for (byte, code) in block[2..].iter_mut().zip(codes) {
                *byte = code.wrapping_sub(centre);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Dtype, TensorView};
    use crate::model::Quantization;
    use crate::model::affine::AffineMatrix;
    use crate::runner::candle::blocks::BlockMatrix;
    use candle_core::Tensor;

    /// Bytes of a matrix of 8 rows whose codes, scales and biases differ everywhere.
    struct Stored {
        shape: [usize; 2],
        codes: Vec<u8>,
        scales: Vec<u8>,
        biases: Vec<u8>,
    }

    const ROWS: usize = 8;

    impl Stored {
        fn new(bits: usize, group: usize, inputs: usize, scale: f32) -> Self {
            let groups = inputs / group;
            let floats = |f: &dyn Fn(usize) -> f32| (0..ROWS * groups).flat_map(|i| f(i).to_le_bytes()).collect();
            // f16 holds these exactly, so that the comparison is exact.
            let sign = |i: usize| if i.is_multiple_of(3) { -1.0 } else { 1.0 };
            Self {
                shape: [ROWS, groups],
                codes: (0..ROWS * inputs * bits / 8).map(|i| (i * 89 + i / 7) as u8).collect(),
                scales: floats(&|i| sign(i) * scale * (1 + i % 5) as f32),
                biases: floats(&|i| -sign(i) * scale * (3 + i % 11) as f32),
            }
        }

        fn matrix(&self, bits: usize, group_size: usize, inputs: usize) -> AffineMatrix<'_> {
            let view = |dtype, data| TensorView { name: "m", dtype, shape: &self.shape, data };
            AffineMatrix {
                quantization: Quantization { bits, group_size },
                outputs: ROWS,
                inputs,
                codes: view(Dtype::U32, &self.codes),
                scales: view(Dtype::F32, &self.scales),
                biases: Some(view(Dtype::F32, &self.biases)),
            }
        }
    }

    /// All forms that have room for codes of this width.
    fn forms(bits: usize) -> &'static [Form] {
        match bits {
            ..=4 => &[Form::Q4_1, Form::Q5_1, Form::Q8_0],
            5 => &[Form::Q5_1, Form::Q8_0],
            _ => &[Form::Q8_0],
        }
    }

    #[test]
    fn blocks_hold_exactly_the_affine_values() {
        for bits in [2, 3, 4, 5, 6, 8] {
            for (group, inputs) in [(32, 96), (32, 128), (64, 256), (128, 256)] {
                let stored = Stored::new(bits, group, inputs, 1.0 / 64.0);
                let matrix = stored.matrix(bits, group, inputs);
                let mut expected = vec![0.0; ROWS * inputs];
                matrix.dequantize_rows(0, &mut expected).unwrap();

                for &form in forms(bits) {
                    let blocks = BlockMatrix::new(&matrix, form, &Device::Cpu, "m").unwrap().unwrap();
                    let ids = Tensor::arange(0_u32, ROWS as u32, &Device::Cpu).unwrap();
                    let got = blocks.rows(&ids).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();

                    assert_eq!(got, expected, "{bits} bits, group {group}, {inputs} inputs, {form:?}");
                }
            }
        }
    }

    #[test]
    fn a_product_with_blocks_errs_by_no_more_than_rounded_activations() {
        for bits in [2, 3, 4, 5, 6, 8] {
            let inputs = 256;
            let stored = Stored::new(bits, 64, inputs, 1.0 / 64.0);
            let matrix = stored.matrix(bits, 64, inputs);
            let mut dense = vec![0.0; ROWS * inputs];
            matrix.dequantize_rows(0, &mut dense).unwrap();
            let dense = Tensor::from_vec(dense, (ROWS, inputs), &Device::Cpu).unwrap();
            let x: Vec<f32> = (0..3 * inputs).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
            let x = Tensor::from_vec(x, (3, inputs), &Device::Cpu).unwrap();

            let exact = x.matmul(&dense.t().unwrap()).unwrap();
            let size = |t: &Tensor| t.sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
            for &form in forms(bits) {
                let blocks = BlockMatrix::new(&matrix, form, &Device::Cpu, "m").unwrap().unwrap();
                let off = (blocks.product(&x).unwrap() - &exact).unwrap();

                let error = size(&off) / size(&exact);
                assert!(error < 0.02, "{bits} bits, {form:?}: {error}");
            }
        }
    }

    #[test]
    fn a_scale_that_f16_cannot_hold_keeps_the_matrix_dense() {
        for scale in [1e-9, 1e6] {
            let stored = Stored::new(4, 64, 128, scale);
            assert!(encode(&stored.matrix(4, 64, 128), Form::Q4_1).unwrap().is_none(), "{scale}");
        }
    }
}
