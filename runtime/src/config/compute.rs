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
    /// Threads of the forward pass on CPUs. Absent: all cores but one. The workers of this executor wait by spinning, so
    /// that with as many of them as cores every other program's work holds all of them up.
    pub threads: Option<NonZeroUsize>,
}

impl ComputeConfig {
    /// How many threads the forward pass has on a machine with `cores` cores.
    pub fn threads_on(&self, cores: usize) -> usize {
        self.threads.map_or(cores.saturating_sub(1).max(1), NonZeroUsize::get)
    }
}

/// Who runs the forward pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Executor {
    /// The best one for the device: today `candle` everywhere.
    #[default]
    Auto,
    /// Candle's own operators: CPU, Metal, CUDA.
    Candle,
}

/// Precision of the products with quantised weights. A model runs whole in one mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComputeMode {
    /// Weights stay quantised, activations are rounded to 8 bits per group of 32 or 256 (float32 on GPUs).
    #[default]
    Int8,
    /// Everything in float32: weights are dequantised once, when the model is loaded, to four bytes each.
    F32,
}

impl std::fmt::Display for ComputeMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Int8 => "int8",
            Self::F32 => "f32",
        })
    }
}
