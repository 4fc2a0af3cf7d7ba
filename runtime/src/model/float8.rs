//! Float8 weights as official repositories store them: e4m3 numbers, and a scale that a block of the matrix, or all of
//! it, shares.
//!
//! Source: `weight_dequant` of DeepSeek V3's inference code; the scale is a multiplier, although its tensor is called
//! `weight_scale_inv`.

use super::micro::e4m3;
use crate::checkpoint::{LoadError, TensorView};

/// What shares a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Float8 {
    /// The whole matrix.
    Whole,
    /// So many rows and columns; fewer at the matrix's lower and right edge.
    Blocks {
        /// Rows.
        rows: usize,
        /// Columns.
        columns: usize,
    },
}

impl Float8 {
    /// Shape of the scales of a matrix.
    pub fn scales(self, outputs: usize, inputs: usize) -> [usize; 2] {
        let (rows, columns) = self.block();
        [outputs.div_ceil(rows), inputs.div_ceil(columns)]
    }

    /// The row of scales that a row of the matrix is multiplied with.
    pub fn scale_row(self, row: usize) -> usize {
        row / self.block().0
    }

    /// The column of scales that a column of the matrix is multiplied with.
    pub fn scale_column(self, column: usize) -> usize {
        column / self.block().1
    }

    /// Dequantises a row. `codes`: `[inputs]`, `scales`: its row of scales, `out`: `[inputs]`. A code that is not a number
    /// stays one that is not.
    pub fn dequantize_row(self, codes: &[u8], scales: &[f32], out: &mut [f32]) {
        let columns = self.block().1;
        for ((out, codes), scale) in out.chunks_mut(columns).zip(codes.chunks(columns)).zip(scales) {
            out.iter_mut().zip(codes).for_each(|(out, code)| *out = e4m3(*code) * scale);
        }
    }

    /// Rows and columns of a block, at least as many as any matrix has if there is but one.
    fn block(self) -> (usize, usize) {
        match self {
            Self::Whole => (usize::MAX, usize::MAX),
            Self::Blocks { rows, columns } => (rows, columns),
        }
    }
}

impl std::fmt::Display for Float8 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole => f.write_str("fp8"),
            Self::Blocks { rows, columns } => write!(f, "fp8, blocks of {rows} x {columns}"),
        }
    }
}

/// A float8 matrix as the checkpoint stores it.
#[derive(Debug, Clone, Copy)]
pub struct Float8Matrix<'a> {
    /// What shares a scale.
    pub format: Float8,
    /// Rows.
    pub outputs: usize,
    /// Columns.
    pub inputs: usize,
    /// Codes, e4m3 `[outputs, inputs]`.
    pub codes: TensorView<'a>,
    /// Scales, any float type, as many as [`Float8::scales`] says.
    pub scales: TensorView<'a>,
}

impl Float8Matrix<'_> {
    /// Looks at all scales: few numbers, of which each spoils a whole block.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] naming the scales if one of them is no finite number.
    pub fn check(&self) -> Result<(), LoadError> {
        self.scales.check_finite("scale")
    }

    /// Dequantises the rows from `first` on that `out` has room for, `[rows, inputs]`.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if the scales are of no float type.
    pub fn dequantize_rows(&self, first: usize, out: &mut [f32]) -> Result<(), LoadError> {
        let [_, columns] = self.format.scales(self.outputs, self.inputs);
        let mut scales = vec![0.0; columns];
        for (row, out) in (first..).zip(out.chunks_exact_mut(self.inputs)) {
            let at = self.format.scale_row(row) * columns;
            self.scales.widen(at..at + columns, &mut scales)?;
            self.format.dequantize_row(&self.codes.data[row * self.inputs..][..self.inputs], &scales, out);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Dtype;

    const ONE: u8 = 0x38;

    fn dequantized(format: Float8, shape: [usize; 2], scales: &[f32]) -> Result<Vec<f32>, LoadError> {
        let [outputs, inputs] = shape;
        let codes = vec![ONE; outputs * inputs];
        let bytes: Vec<u8> = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        let (shape, scale_shape) = ([outputs, inputs], [scales.len()]);
        let matrix = Float8Matrix {
            format,
            outputs,
            inputs,
            codes: TensorView { name: "m.weight", dtype: Dtype::F8_E4M3, shape: &shape, data: &codes },
            scales: TensorView { name: "m.weight_scale_inv", dtype: Dtype::F32, shape: &scale_shape, data: &bytes },
        };
        matrix.check()?;
        let mut out = vec![0.0; outputs * inputs];
        matrix.dequantize_rows(0, &mut out)?;
        Ok(out)
    }

    #[test]
    fn blocks_at_the_edges_are_smaller() {
        let format = Float8::Blocks { rows: 2, columns: 3 };
        assert_eq!(format.scales(3, 4), [2, 2]);

        let out = dequantized(format, [3, 4], &[1.0, 2.0, 3.0, 4.0]).unwrap();

        assert_eq!(out, [1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 4.0]);
    }

    #[test]
    fn one_scale_is_for_all() {
        assert_eq!(Float8::Whole.scales(300, 7), [1, 1]);
        assert_eq!(dequantized(Float8::Whole, [2, 2], &[0.25]).unwrap(), [0.25; 4]);
    }

    #[test]
    fn a_scale_that_is_no_number_is_found_by_name() {
        for scale in [f32::NAN, f32::INFINITY] {
            let error = dequantized(Float8::Blocks { rows: 1, columns: 2 }, [2, 2], &[1.0, scale]).unwrap_err();
            assert_eq!(error.outcome(), "invalid_checkpoint");
            assert!(error.to_string().contains("`m.weight_scale_inv`: scale 1"), "{error}");
        }
    }
}
