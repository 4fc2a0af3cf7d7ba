//! One module of a checkpoint: what it does, how its weight is stored, and the stored weight.

use super::affine::AffineMatrix;
use super::float8::{Float8, Float8Matrix};
use super::micro::{MicroMatrix, Microscaling, nvfp4_factor};
use super::quantization::Quantization;
use crate::checkpoint::{Checkpoint, Dtype, LoadError, TensorView};
use std::collections::BTreeMap;

/// One module of the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// What it is.
    pub kind: ModuleKind,
    /// How many matrices of this shape stand in it, one after the other; 1 but for stacks of experts and heads.
    pub parts: usize,
    /// Rows; the length of a norm.
    pub outputs: usize,
    /// Columns; 1 for a norm.
    pub inputs: usize,
    /// How its weight is stored.
    pub storage: Storage,
    /// Whether it carries a bias vector `[outputs]`.
    pub bias: bool,
}

/// What a module does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModuleKind {
    /// Rows are looked up.
    Embedding,
    /// A product.
    Linear,
    /// A vector of factors.
    Norm,
    /// A vector of factors from each of which 1 has been taken.
    CentredNorm,
    /// A vector by itself: its path is the tensor's whole name.
    Vector,
}

/// How a weight is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// As floats.
    Dense(Dtype),
    /// As MLX affine codes.
    Affine(Quantization),
    /// As affine codes whose middle is zero, packed by compressed-tensors.
    Packed(Quantization),
    /// As small floats with a scale per group.
    Micro(Microscaling),
    /// As `nvfp4` with a scale besides that is the whole matrix's.
    ScaledNvfp4,
    /// As float8 with a scale per block.
    Float8(Float8),
}

/// Modules by path, without `.weight`.
#[derive(Debug, Default)]
pub struct Modules(BTreeMap<String, Module>);

impl Modules {
    pub(super) fn insert(&mut self, path: String, module: Module) {
        self.0.insert(path, module);
    }

    /// All of them, by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Module)> {
        self.0.iter().map(|(path, module)| (path.as_str(), module))
    }

    /// Whether there is one at `path`.
    pub fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// The module at `path`.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if the model has none there.
    pub fn get(&self, path: &str) -> Result<&Module, LoadError> {
        self.0.get(path).ok_or_else(|| LoadError::invalid(path, "the model has no module of this name"))
    }

    /// What is added to the stored factors of a norm.
    pub fn norm_offset(&self, path: &str) -> f32 {
        match self.0.get(path) {
            Some(Module { kind: ModuleKind::CentredNorm, .. }) => 1.0,
            _ => 0.0,
        }
    }

    /// Bytes of `checkpoint` that they take from it.
    pub fn stored_bytes(&self, checkpoint: &Checkpoint) -> u64 {
        let bytes = |name: &str| checkpoint.get(name).map_or(0, |tensor| tensor.data.len() as u64);
        let module = |(path, module): (&str, &Module)| match module.kind {
            ModuleKind::Vector => bytes(path),
            ModuleKind::Embedding | ModuleKind::Linear | ModuleKind::Norm | ModuleKind::CentredNorm => {
                let bias = if module.bias { bytes(&format!("{path}.bias")) } else { 0 };
                bias + module.weight_bytes(checkpoint, path)
            }
        };
        self.iter().map(module).sum()
    }
}

/// The scale of a whole `nvfp4` matrix.
pub(super) const GLOBAL_SCALE: &str = "global_scale";
/// Scales of float8 weights.
pub(super) const FLOAT8_SCALES: &str = "weight_scale_inv";
/// Scales of the activations, beside float8 weights: of no use where activations are floats.
pub(super) const ACTIVATION_SCALE: &str = "activation_scale";

impl Storage {
    /// Names of the tensors that make up a weight, below its module's path.
    pub fn tensors(self) -> &'static [&'static str] {
        match self {
            Self::Dense(_) => &["weight"],
            Self::Affine(_) => &["weight", "scales", "biases"],
            Self::Packed(_) => &["weight_packed", "weight_scale"],
            Self::Micro(_) => &["weight", "scales"],
            Self::ScaledNvfp4 => &["weight", "scales", GLOBAL_SCALE],
            Self::Float8(_) => &["weight", FLOAT8_SCALES],
        }
    }
}

impl Module {
    /// Bytes of the tensors that make up its weight.
    pub fn weight_bytes(&self, checkpoint: &Checkpoint, path: &str) -> u64 {
        let tensors = self.storage.tensors().iter().filter_map(|name| checkpoint.get(&format!("{path}.{name}")));
        tensors.map(|tensor| tensor.data.len() as u64).sum()
    }

    /// The module's stored matrix, or one of several.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if `checkpoint` is not the one that the module was read from.
    pub fn weight<'a>(&self, checkpoint: &'a Checkpoint, path: &str, part: usize) -> Result<Weight<'a>, LoadError> {
        let tensor = |name: &str| {
            let tensor = checkpoint.tensor(&format!("{path}.{name}"))?;
            Ok::<_, LoadError>(if self.parts > 1 || tensor.shape.len() > 2 { tensor.part(part) } else { tensor })
        };
        Ok(match self.storage {
            Storage::Dense(_) => Weight::Dense(tensor("weight")?),
            Storage::Affine(quantization) => Weight::Affine(AffineMatrix {
                quantization,
                outputs: self.outputs,
                inputs: self.inputs,
                codes: tensor("weight")?,
                scales: tensor("scales")?,
                biases: Some(tensor("biases")?),
            }),
            Storage::Packed(quantization) => Weight::Affine(AffineMatrix {
                quantization,
                outputs: self.outputs,
                inputs: self.inputs,
                codes: tensor("weight_packed")?,
                scales: tensor("weight_scale")?,
                biases: None,
            }),
            Storage::Micro(format) => Weight::Micro(MicroMatrix {
                format,
                outputs: self.outputs,
                inputs: self.inputs,
                codes: tensor("weight")?,
                scales: tensor("scales")?,
                factor: 1.0,
            }),
            Storage::ScaledNvfp4 => {
                let stored = checkpoint.tensor(&format!("{path}.{GLOBAL_SCALE}"))?;
                let all = stored.to_f32()?;
                // One, or one for each part.
                let global = all.get(part).or(all.first()).copied().unwrap_or(f32::NAN);
                if !global.is_finite() {
                    return Err(LoadError::invalid(stored.name, "a scale is not a finite number"));
                }
                Weight::Micro(MicroMatrix {
                    format: Microscaling::Nvfp4,
                    outputs: self.outputs,
                    inputs: self.inputs,
                    codes: tensor("weight")?,
                    scales: tensor("scales")?,
                    factor: nvfp4_factor(global),
                })
            }
            Storage::Float8(format) => Weight::Float8(Float8Matrix {
                format,
                outputs: self.outputs,
                inputs: self.inputs,
                codes: tensor("weight")?,
                scales: tensor(FLOAT8_SCALES)?,
            }),
        })
    }
}

/// A stored weight, to be read.
#[derive(Debug, Clone, Copy)]
pub enum Weight<'a> {
    /// Floats, `[outputs, inputs]` or `[outputs]`.
    Dense(TensorView<'a>),
    /// Affine codes.
    Affine(AffineMatrix<'a>),
    /// Small floats.
    Micro(MicroMatrix<'a>),
    /// Float8.
    Float8(Float8Matrix<'a>),
}

impl Weight<'_> {
    /// Looks at what is small enough to be looked at before it is used.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] naming a tensor with a number that spoils many weights.
    pub fn check(&self) -> Result<(), LoadError> {
        match self {
            Self::Dense(_) => Ok(()),
            Self::Affine(AffineMatrix { scales, biases, .. }) => {
                scales.check_finite("scale")?;
                biases.map_or(Ok(()), |biases| biases.check_finite("bias"))
            }
            Self::Micro(matrix) => matrix.check(),
            Self::Float8(matrix) => matrix.check(),
        }
    }

    /// Widens the rows from `first` on that `out` has room for, `[rows, inputs]`.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if a tensor that has to be floats is not.
    pub fn dequantize_rows(&self, first: usize, out: &mut [f32]) -> Result<(), LoadError> {
        match self {
            Self::Dense(tensor) => {
                let first = first * tensor.shape.last().copied().unwrap_or(1);
                tensor.widen(first..first + out.len(), out)
            }
            Self::Affine(matrix) => matrix.dequantize_rows(first, out),
            Self::Micro(matrix) => matrix.dequantize_rows(first, out),
            Self::Float8(matrix) => matrix.dequantize_rows(first, out),
        }
    }
}
