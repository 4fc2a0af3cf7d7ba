//! How the weight of a module is stored, from the tensors that stand at its path.

use super::Survey;
use crate::checkpoint::{Dtype, LoadError, TensorView, is_float};
use crate::model::float8::Float8;
use crate::model::micro::Microscaling;
use crate::model::module::{FLOAT8_SCALES, GLOBAL_SCALE, Storage};
use crate::model::quantization::{PACKED_BITS, Quantization, Setting};

impl<'a> Survey<'a> {
    /// How the matrices of `rows` rows (all dimensions but the last) are stored.
    pub(super) fn storage(&mut self, path: &str, rows: &[usize], inputs: usize) -> Result<Storage, LoadError> {
        // The tensors say whether a module is quantised: recipes leave modules out without saying so.
        if let Some(scales) = self.checkpoint.get(&format!("{path}.scales")) {
            return self.quantized(path, scales, rows, inputs);
        }
        if self.checkpoint.get(&format!("{path}.weight_packed")).is_some() {
            return self.packed(path, rows, inputs);
        }
        match self.checkpoint.get(&format!("{path}.weight")).map(|weight| weight.dtype) {
            Some(Dtype::F8_E4M3) => self.float8(path, rows, inputs),
            _ => Ok(Storage::Dense(self.floats(format!("{path}.weight"), &[rows, &[inputs]].concat())?)),
        }
    }

    fn quantized(
        &mut self,
        path: &str,
        scales: TensorView<'a>,
        rows: &[usize],
        inputs: usize,
    ) -> Result<Storage, LoadError> {
        let codes = self.take(format!("{path}.weight"))?;
        let (Some((&words, code_rows)), Some((&groups, scale_rows))) =
            (codes.shape.split_last(), scales.shape.split_last())
        else {
            return Err(LoadError::invalid(codes.name, "codes or scales without a shape"));
        };
        if codes.dtype != Dtype::U32 {
            return Err(LoadError::invalid(codes.name, format!("codes are {:?}, expected U32", codes.dtype)));
        }
        if (code_rows, scale_rows) != (rows, rows) {
            let reason =
                format!("codes {:?} and scales {:?}, expected {rows:?} rows of each", codes.shape, scales.shape);
            return Err(LoadError::invalid(codes.name, reason));
        }
        let micro = scales.dtype == Dtype::U8;
        match self.config.quantization.of_module(path, micro, words, groups, inputs)? {
            Setting::Affine(quantization) => {
                let shape = [rows, &[groups]].concat();
                self.floats(format!("{path}.scales"), &shape)?;
                self.floats(format!("{path}.biases"), &shape)?;
                Ok(Storage::Affine(quantization))
            }
            Setting::Micro(format) => {
                self.take(format!("{path}.scales"))?;
                let global = format!("{path}.{GLOBAL_SCALE}");
                if format != Microscaling::Nvfp4 || self.checkpoint.get(&global).is_none() {
                    return Ok(Storage::Micro(format));
                }
                let (global, parts) = (self.take(global)?, if let [parts, _] = rows { *parts } else { 1 });
                if global.dtype != Dtype::F32 || ![1, parts].contains(&global.elements()) {
                    let reason = format!("{:?} {:?}, expected 1 or {parts} of F32", global.dtype, global.shape);
                    return Err(LoadError::invalid(global.name, reason));
                }
                Ok(Storage::ScaledNvfp4)
            }
        }
    }

    fn packed(&mut self, path: &str, rows: &[usize], inputs: usize) -> Result<Storage, LoadError> {
        let [codes, scales, shape] =
            ["weight_packed", "weight_scale", "weight_shape"].map(|name| self.take(format!("{path}.{name}")));
        let (codes, scales, shape) = (codes?, scales?, shape?);
        let &[outputs] = rows else {
            return Err(LoadError::quantization(codes.name, "a stack of matrices"));
        };
        if codes.dtype != Dtype::I32 {
            return Err(LoadError::quantization(format!("type of {}", codes.name), format!("{:?}", codes.dtype)));
        }
        if !is_float(scales.dtype) {
            return Err(LoadError::quantization(format!("type of {}", scales.name), format!("{:?}", scales.dtype)));
        }
        if whole_numbers(&shape).is_none_or(|shape| shape != [outputs as u64, inputs as u64]) {
            return Err(LoadError::invalid(shape.name, format!("not the shape {:?}", [outputs, inputs])));
        }
        let groups = scales.shape.last().copied().unwrap_or(0);
        if codes.shape != [outputs, inputs * PACKED_BITS / 32]
            || scales.shape != [outputs, groups]
            || groups == 0
            || !inputs.is_multiple_of(groups)
            || !inputs.is_multiple_of(32 / PACKED_BITS)
        {
            let reason = format!(
                "codes {:?} and scales {:?} are not those of {:?}",
                codes.shape,
                scales.shape,
                [outputs, inputs]
            );
            return Err(LoadError::invalid(codes.name, reason));
        }
        let quantization = Quantization { bits: PACKED_BITS, group_size: inputs / groups };
        if !self.config.quantization.packs(quantization) {
            let reason = format!("the shapes say {quantization}, of which config.json knows nothing");
            return Err(LoadError::invalid(codes.name, reason));
        }
        Ok(Storage::Packed(quantization))
    }

    fn float8(&mut self, path: &str, rows: &[usize], inputs: usize) -> Result<Storage, LoadError> {
        let codes = self.take(format!("{path}.weight"))?;
        let &[outputs] = rows else {
            return Err(LoadError::quantization(format!("type of {}", codes.name), "F8_E4M3, in a stack of matrices"));
        };
        if codes.shape != [outputs, inputs] {
            let reason = format!("shape {:?}, expected {:?}", codes.shape, [outputs, inputs]);
            return Err(LoadError::invalid(codes.name, reason));
        }
        let scales = self.take(format!("{path}.{FLOAT8_SCALES}"))?;
        if !is_float(scales.dtype) {
            return Err(LoadError::quantization(format!("type of {}", scales.name), format!("{:?}", scales.dtype)));
        }
        let blocks = self.config.quantization.float8();
        let fits = |format: &Float8| scales.shape == format.scales(outputs, inputs);
        match blocks.filter(fits) {
            Some(blocks) => Ok(Storage::Float8(blocks)),
            None if scales.elements() == 1 => Ok(Storage::Float8(Float8::Whole)),
            None => {
                let expected = blocks.map_or_else(
                    || "but config.json names no `weight_block_size`".to_owned(),
                    |blocks| format!("expected {:?}", blocks.scales(outputs, inputs)),
                );
                Err(LoadError::invalid(scales.name, format!("shape {:?}, {expected}", scales.shape)))
            }
        }
    }

    /// Checks a float tensor and returns its type.
    pub(super) fn floats(&mut self, name: String, shape: &[usize]) -> Result<Dtype, LoadError> {
        let tensor = self.take(name)?;
        if !is_float(tensor.dtype) {
            return Err(match tensor.dtype {
                Dtype::U32 => LoadError::invalid(tensor.name, "codes without scales"),
                other => LoadError::quantization(format!("type of {}", tensor.name), format!("{other:?}")),
            });
        }
        if tensor.shape != shape {
            return Err(LoadError::invalid(tensor.name, format!("shape {:?}, expected {shape:?}", tensor.shape)));
        }
        Ok(tensor.dtype)
    }

    fn take(&mut self, name: String) -> Result<TensorView<'a>, LoadError> {
        let tensor = self.checkpoint.tensor(&name)?;
        self.used.insert(name);
        Ok(tensor)
    }
}

/// The elements of a small tensor of whole numbers; none if they are of another type.
fn whole_numbers(tensor: &TensorView<'_>) -> Option<Vec<u64>> {
    let bytes = tensor.data;
    match tensor.dtype {
        Dtype::I32 => bytes.as_chunks().0.iter().map(|n| u64::try_from(i32::from_le_bytes(*n)).ok()).collect(),
        Dtype::I64 => bytes.as_chunks().0.iter().map(|n| u64::try_from(i64::from_le_bytes(*n)).ok()).collect(),
        _ => None,
    }
}
