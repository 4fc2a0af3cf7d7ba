use super::error::LoadError;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::Dtype;
use std::ops::Range;

/// A tensor of a checkpoint: its type, its shape and its bytes, which stay where the file put them.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    /// The full key.
    pub name: &'a str,
    /// Type of an element.
    pub dtype: Dtype,
    /// Shape, row-major.
    pub shape: &'a [usize],
    /// Elements, little endian, not necessarily aligned.
    pub data: &'a [u8],
}

/// Bytes of one element, for the types that a byte holds at least one of.
pub fn element_bytes(dtype: Dtype) -> usize {
    dtype.bitsize() / 8
}

/// Whether values of this type can be widened to `f32` directly.
pub fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

impl<'a> TensorView<'a> {
    /// The elements whose first index is `index`.
    ///
    /// # Panics
    /// If there are none.
    pub fn part(self, index: usize) -> TensorView<'a> {
        let (&parts, shape) = self.shape.split_first().expect("a tensor with a first index");
        let size = self.data.len() / parts;
        TensorView { shape, data: &self.data[index * size..(index + 1) * size], ..self }
    }
}

impl TensorView<'_> {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Looks for numbers that are none. `what` an element is, for the error.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] with the first element that is not finite, or if the type is not f32, f16 or bf16.
    pub fn check_finite(&self, what: &str) -> Result<(), LoadError> {
        let found = match self.dtype {
            Dtype::F32 => first_with(self.data, 0x7f80_0000, u32::from_le_bytes),
            Dtype::BF16 => first_with(self.data, 0x7f80, |bytes| u16::from_le_bytes(bytes).into()),
            Dtype::F16 => first_with(self.data, 0x7c00, |bytes| u16::from_le_bytes(bytes).into()),
            other => {
                return Err(LoadError::invalid(self.name, format!("{other:?} is no float type this program reads")));
            }
        };
        match found {
            None => Ok(()),
            Some(at) => Err(LoadError::invalid(self.name, format!("{what} {at} is not a finite number"))),
        }
    }

    /// Widens all elements.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if the type is not f32, f16 or bf16.
    pub fn to_f32(&self) -> Result<Vec<f32>, LoadError> {
        let mut out = vec![0.0; self.elements()];
        self.widen(0..self.elements(), &mut out)?;
        Ok(out)
    }

    /// Widens the elements `range` to `out`, which has as many places.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if the type is not f32, f16 or bf16.
    pub fn widen(&self, range: Range<usize>, out: &mut [f32]) -> Result<(), LoadError> {
        let size = element_bytes(self.dtype);
        let bytes = &self.data[range.start * size..range.end * size];
        debug_assert_eq!(range.len(), out.len());
        match self.dtype {
            Dtype::F32 => {
                for (to, from) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *to = f32::from_le_bytes(*from);
                }
            }
            Dtype::BF16 => {
                for (to, from) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *to = bf16::from_le_bytes(*from).to_f32();
                }
            }
            Dtype::F16 => {
                // The file's bytes may be unaligned, and the fast conversion wants a slice.
                let mut aligned = [f16::ZERO; 256];
                for (to, from) in out.chunks_mut(256).zip(bytes.chunks(512)) {
                    for (half, pair) in aligned.iter_mut().zip(from.as_chunks::<2>().0) {
                        *half = f16::from_le_bytes(*pair);
                    }
                    aligned[..to.len()].convert_to_f32_slice(to);
                }
            }
            other => {
                return Err(LoadError::invalid(self.name, format!("{other:?} is no float type this program reads")));
            }
        }
        Ok(())
    }
}

/// The first number that has all bits of `exponent`, which is one that is not finite.
fn first_with<const SIZE: usize>(data: &[u8], exponent: u32, bits: fn([u8; SIZE]) -> u32) -> Option<usize> {
    let numbers = data.as_chunks::<SIZE>().0;
    // Whole stretches at once, without a branch for each number: checkpoints hold gigabytes of scales.
    let mut stretches = numbers.chunks(4096);
    let number = stretches.position(|all| all.iter().fold(false, |any, n| any | (bits(*n) & exponent == exponent)))?;
    let first = number * 4096;
    let within = numbers[first..].iter().position(|n| bits(*n) & exponent == exponent)?;
    Some(first + within)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view<'a>(dtype: Dtype, shape: &'a [usize], data: &'a [u8]) -> TensorView<'a> {
        TensorView { name: "t", dtype, shape, data }
    }

    #[test]
    fn every_float_type_widens_exactly() {
        let values: Vec<f32> = (0..600).map(|i| (i as f32 - 300.0) / 4.0).collect();
        let f16s: Vec<u8> = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
        let f32s: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let small: Vec<f32> = values.iter().map(|v| v.round().clamp(-100.0, 100.0)).collect();
        let bf16s: Vec<u8> = small.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();

        assert_eq!(view(Dtype::F32, &[600], &f32s).to_f32().unwrap(), values);
        assert_eq!(view(Dtype::F16, &[600], &f16s).to_f32().unwrap(), values);
        assert_eq!(view(Dtype::BF16, &[600], &bf16s).to_f32().unwrap(), small);
    }

    #[test]
    fn a_number_that_is_not_finite_is_found_by_its_place() {
        for at in [None, Some(0), Some(4095), Some(4096), Some(9000)] {
            let mut values = vec![1.5_f32; 9001];
            at.into_iter().for_each(|at| values[at] = if at % 2 == 0 { f32::NAN } else { f32::NEG_INFINITY });
            let f32s: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let f16s: Vec<u8> = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
            let bf16s: Vec<u8> = values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
            for (dtype, data) in [(Dtype::F32, f32s), (Dtype::F16, f16s), (Dtype::BF16, bf16s)] {
                let said = view(dtype, &[9001], &data).check_finite("scale").map_err(|error| error.to_string());
                let expected = at.map_or(Ok(()), |at| Err(format!("`t`: scale {at} is not a finite number")));
                assert_eq!(said, expected, "{dtype:?}");
            }
        }
    }

    #[test]
    fn an_integer_tensor_is_not_taken_for_numbers() {
        let error = view(Dtype::I32, &[1], &[0; 4]).to_f32().unwrap_err();
        assert_eq!(error.outcome(), "invalid_checkpoint");
    }
}
