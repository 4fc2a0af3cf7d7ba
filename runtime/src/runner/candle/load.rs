use super::blocks::BlockMatrix;
use super::embedding::Embedding;
use super::error::device_error;
use super::gguf::Form;
use super::linear::{Linear, LinearWeight};
use super::norm::RmsNorm;
use super::report::LoadReport;
use super::rows::fill_rows;
use crate::checkpoint::{Checkpoint, Dtype, LoadError, TensorView};
use crate::config::ComputeMode;
use crate::model::{Blueprint, Weight};
use crate::runner::LoadProgress;
use candle_core::{DType, Device, Tensor};

/// Brings modules of a checkpoint to a device, each in the form it will be computed in.
pub(super) struct Loader<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) blueprint: &'a Blueprint,
    pub(super) device: &'a Device,
    pub(super) mode: ComputeMode,
    pub(super) progress: &'a mut dyn FnMut(LoadProgress),
    pub(super) reached: LoadProgress,
    pub(super) report: LoadReport,
}

impl Loader<'_> {
    pub(super) fn linear(&mut self, path: &str) -> Result<Linear, LoadError> {
        self.linear_part(path, 0)
    }

    /// One of several matrices that stand at `path`.
    pub(super) fn linear_part(&mut self, path: &str, part: usize) -> Result<Linear, LoadError> {
        let module = self.blueprint.modules().get(path)?;
        let weight = self.matrix(path, part, self.product_dtype(module.weight(self.checkpoint, path, part)?))?;
        let bias = match module.bias {
            false => None,
            true => Some(self.floats(self.checkpoint.tensor(&format!("{path}.bias"))?, DType::F32)?),
        };
        Ok(Linear { weight, bias })
    }

    /// The embedding, and the head: a matrix of its own, or the embedding's.
    pub(super) fn embedding_and_head(&mut self) -> Result<(Embedding, Linear), LoadError> {
        let path = self.blueprint.embedding_path();
        let weight = self.blueprint.modules().get(&path)?.weight(self.checkpoint, &path, 0)?;
        match self.blueprint.head_path() {
            None => {
                let matrix = self.matrix(&path, 0, self.product_dtype(weight))?;
                Ok((Embedding(matrix.clone()), Linear { weight: matrix, bias: None }))
            }
            Some(head) => {
                // Only rows are taken from it, so it stays as the file has it, whatever the device multiplies well.
                let embedding = Embedding(self.matrix(&path, 0, stored_dtype(weight))?);
                Ok((embedding, self.linear(head)?))
            }
        }
    }

    /// All matrices that stand at `path` in float32, one after the other: `[parts * outputs, inputs]`.
    pub(super) fn widened(&mut self, path: &str) -> Result<Tensor, LoadError> {
        let module = self.blueprint.modules().get(path)?;
        let mut parts = Vec::new();
        for part in 0..module.parts {
            module.weight(self.checkpoint, path, part)?.check()?;
            parts.push(self.dequantized(path, part)?);
        }
        self.advance(module.weight_bytes(self.checkpoint, path));
        Tensor::cat(&parts, 0).map_err(device_error(path))
    }

    /// A vector, wanted where the program decides and not where it computes.
    pub(super) fn vector(&mut self, name: &str) -> Result<Vec<f32>, LoadError> {
        let tensor = self.checkpoint.tensor(name)?;
        tensor.check_finite("element")?;
        self.advance(tensor.data.len() as u64);
        tensor.to_f32()
    }

    /// A small tensor in float32, in a shape of as many elements as it has.
    pub(super) fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        let tensor = self.checkpoint.tensor(name)?;
        tensor.check_finite("element")?;
        self.floats(tensor, DType::F32)?.reshape(shape).map_err(device_error(name))
    }

    pub(super) fn norm(&mut self, path: &str, eps: f64) -> Result<RmsNorm, LoadError> {
        let tensor = self.checkpoint.tensor(&format!("{path}.weight"))?;
        tensor.check_finite("element")?;
        let weight = self.floats(tensor, DType::F32)?;
        let weight = match self.blueprint.modules().norm_offset(path) {
            0.0 => weight,
            offset => weight.affine(1.0, f64::from(offset)).map_err(device_error(path))?,
        };
        Ok(RmsNorm { weight, eps: eps as f32 })
    }

    /// The type in which a dense matrix is multiplied. CPUs have no fast product of 16-bit floats, and mode `f32` means
    /// what it says.
    fn product_dtype(&self, weight: Weight<'_>) -> DType {
        match self.mode {
            ComputeMode::Int8 | ComputeMode::Int16 if !self.device.is_cpu() => stored_dtype(weight),
            ComputeMode::Int8 | ComputeMode::Int16 | ComputeMode::F32 => DType::F32,
        }
    }

    /// A matrix: blocks if it is quantised and the mode keeps it so, else floats of `dtype`.
    fn matrix(&mut self, path: &str, part: usize, dtype: DType) -> Result<LinearWeight, LoadError> {
        let module = self.blueprint.modules().get(path)?;
        let stored = module.weight_bytes(self.checkpoint, path) / module.parts as u64;
        let weight = module.weight(self.checkpoint, path, part)?;
        weight.check()?;
        let matrix = match weight {
            Weight::Dense(tensor) => return self.floats(tensor, dtype).map(LinearWeight::Dense),
            Weight::Affine(matrix) => matrix,
            Weight::Micro(_) | Weight::Float8(_) => {
                let weight = self.dequantized(path, part)?.to_dtype(dtype).map_err(device_error(path))?;
                self.advance(stored);
                return Ok(LinearWeight::Dense(weight));
            }
        };
        let blocks = match self.mode {
            ComputeMode::F32 => None,
            ComputeMode::Int8 | ComputeMode::Int16 => {
                let blocks = match Form::of(matrix.quantization.bits, matrix.inputs, self.device) {
                    None => None,
                    Some(form) => BlockMatrix::new(&matrix, form, self.device, path)?,
                };
                if blocks.is_none() {
                    self.report.kept_dense.push(path.to_owned());
                }
                blocks
            }
        };
        let weight = match blocks {
            Some(blocks) => LinearWeight::Blocks(blocks),
            None => LinearWeight::Dense(self.dequantized(path, part)?),
        };
        self.advance(stored);
        Ok(weight)
    }

    /// One of the matrices that stand at `path` in float32, `[outputs, inputs]`.
    fn dequantized(&self, path: &str, part: usize) -> Result<Tensor, LoadError> {
        let module = self.blueprint.modules().get(path)?;
        let weight = module.weight(self.checkpoint, path, part)?;
        let shape = (module.outputs, module.inputs);
        let mut values = vec![0.0; module.outputs * module.inputs];
        fill_rows(&mut values, module.inputs, |first, rows| weight.dequantize_rows(first, rows))?;
        Tensor::from_vec(values, shape, self.device).map_err(device_error(path))
    }

    fn floats(&mut self, tensor: TensorView<'_>, dtype: DType) -> Result<Tensor, LoadError> {
        let made = match dtype {
            DType::F32 => {
                let mut values = vec![0.0; tensor.elements()];
                let width = tensor.shape.last().copied().unwrap_or(1);
                fill_rows(&mut values, width, |first, rows| {
                    let start = first * width;
                    tensor.widen(start..start + rows.len(), rows)
                })?;
                Tensor::from_vec(values, tensor.shape, self.device)
            }
            other => Tensor::from_raw_buffer(tensor.data, other, tensor.shape, self.device),
        };
        let made = made.map_err(device_error(tensor.name))?;
        self.advance(tensor.data.len() as u64);
        Ok(made)
    }

    fn advance(&mut self, bytes: u64) {
        self.reached.done_bytes += bytes;
        (self.progress)(self.reached);
    }
}

/// The type of a dense weight in the file; what a quantised one is dequantised to.
fn stored_dtype(weight: Weight<'_>) -> DType {
    match weight {
        Weight::Dense(tensor) if tensor.dtype == Dtype::BF16 => DType::BF16,
        Weight::Dense(tensor) if tensor.dtype == Dtype::F16 => DType::F16,
        // Which holds all values of small floats, but for the last digits of scales that have more.
        Weight::Micro(_) | Weight::Float8(_) => DType::BF16,
        Weight::Dense(_) | Weight::Affine(_) => DType::F32,
    }
}
