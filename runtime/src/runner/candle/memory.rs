use super::gguf::Form;
use crate::checkpoint::{Dtype, element_bytes};
use crate::config::ComputeMode;
use crate::model::{Blueprint, ModelFacts, ModuleKind, Storage};
use candle_core::{DType, Device};

/// Bytes that a model will take once it is loaded, KV memory apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryEstimate {
    /// The weights in the form they are computed in.
    pub weights: u64,
    /// What candle's CPU kernels keep beside them: a rearranged copy of 8-bit blocks, made at the first product.
    pub rearranged: u64,
}

impl MemoryEstimate {
    /// All of it.
    pub fn total(self) -> u64 {
        self.weights + self.rearranged
    }
}

/// Adds up what the weights will take on `device` in `mode`, from the tensor index alone.
///
/// A module whose scales do not fit the block types is kept in float32 and takes more; that is found only by reading it.
pub fn estimate_memory(blueprint: &Blueprint, device: &Device, mode: ComputeMode) -> MemoryEstimate {
    let mut sum = MemoryEstimate::default();
    for (_, module) in blueprint.modules().iter() {
        let elements = (module.parts * module.outputs * module.inputs) as u64;
        if module.bias {
            sum.weights += 4 * module.outputs as u64;
        }
        let as_stored = match module.kind {
            ModuleKind::Norm | ModuleKind::CentredNorm | ModuleKind::Vector => false,
            ModuleKind::Embedding if !blueprint.spec.tied => true,
            ModuleKind::Embedding | ModuleKind::Linear => !device.is_cpu() && mode != ComputeMode::F32,
        };
        let floats = |dtype| elements * element_bytes(if as_stored { dtype } else { Dtype::F32 }) as u64;
        match module.storage {
            Storage::Dense(dtype) => sum.weights += floats(dtype),
            Storage::Micro(_) | Storage::ScaledNvfp4 | Storage::Float8(_) => sum.weights += floats(Dtype::BF16),
            Storage::Affine(quantization) | Storage::Packed(quantization) => {
                let form = Form::of(quantization.bits, module.inputs, device).filter(|_| mode != ComputeMode::F32);
                let Some(form) = form else {
                    sum.weights += 4 * elements;
                    continue;
                };
                let blocks = elements / super::gguf::BLOCK as u64 * form.block_bytes() as u64;
                sum.weights += blocks;
                if form == Form::Q8_0 {
                    sum.weights += 4 * elements / quantization.group_size as u64;
                    if device.is_cpu() {
                        sum.rearranged += blocks;
                    }
                }
            }
        }
    }
    sum
}

/// Type of keys and values in memory: f32 on CPUs and in mode `f32`, else bf16, whose range no key exceeds.
pub(super) fn kv_dtype(device: &Device, mode: ComputeMode) -> DType {
    match mode {
        ComputeMode::Int8 | ComputeMode::Int16 if !device.is_cpu() => DType::BF16,
        ComputeMode::Int8 | ComputeMode::Int16 | ComputeMode::F32 => DType::F32,
    }
}

/// Bytes of the recurrent states of one sequence, which are f32 everywhere.
pub fn state_bytes(facts: &ModelFacts) -> usize {
    facts.recurrent.map_or(0, |(_, numbers)| numbers * DType::F32.size_in_bytes())
}

/// Bytes of KV memory that one token takes in all layers.
pub fn kv_bytes_per_token(facts: &ModelFacts, device: &Device, mode: ComputeMode) -> usize {
    facts.kv_elements_per_token * kv_dtype(device, mode).size_in_bytes()
}
