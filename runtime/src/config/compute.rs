use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What computes, and how exactly.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ComputeConfig {
    /// Which executor runs the forward pass.
    pub executor: Executor,
    /// Precision of the products with quantised weights.
    pub mode: ComputeMode,
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
    /// Weights stay quantised, activations are rounded to 8 bits per group of 32 (float32 on GPUs).
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
