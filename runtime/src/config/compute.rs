use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// What computes, and how exactly.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ComputeConfig {
    /// Which executor runs the forward pass.
    pub executor: Executor,
    /// Precision of the products with quantised weights.
    pub mode: ComputeMode,
    /// Threads of the forward pass on CPUs. Absent: one per core; of `candle` all but one, because its threads wait by
    /// spinning, so that with as many of them as cores every other program's work holds all of them up.
    pub threads: Option<NonZeroUsize>,
}

/// Who runs the forward pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Executor {
    /// The best one for the device: `native` on CPUs, `candle` on GPUs.
    #[default]
    Auto,
    /// Own kernels over rearranged weights: CPUs.
    Native,
    /// Candle's own operators: CPU, Metal, CUDA.
    Candle,
}

/// Precision of the products with quantised weights. A model runs whole in one mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComputeMode {
    /// Weights stay quantised, activations are rounded to 15 bits per group (float32 on GPUs).
    #[default]
    Int16,
    /// Weights stay quantised, activations are rounded to 8 bits per group (float32 on GPUs): faster for prompts.
    Int8,
    /// Everything in float32. With `candle` weights are dequantised once, when the model is loaded, to four bytes each.
    F32,
}

impl std::fmt::Display for ComputeMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Int16 => "int16",
            Self::Int8 => "int8",
            Self::F32 => "f32",
        })
    }
}
