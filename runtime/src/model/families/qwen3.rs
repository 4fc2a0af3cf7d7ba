use super::qwen2::window;
use crate::model::config::ModelConfig;
use crate::model::family::{Family, Grouped, dense_mlp};
use crate::model::spec::QkNorm;

/// Qwen3, dense: q and k pass a norm over the head, and biases are rare.
pub(in crate::model) const QWEN3: Family = Family {
    name: "qwen3",
    model_types: &["qwen3"],
    architectures: &["Qwen3ForCausalLM"],
    spec: |config| attention(config).decoder(config, dense_mlp),
};

/// The attention of Qwen3, with and without experts.
pub(super) fn attention(config: &ModelConfig) -> Grouped {
    let bias = config.attention_bias.unwrap_or(false);
    Grouped { qkv_bias: bias, out_bias: bias, qk_norm: QkNorm::Heads, window, ..Grouped::PLAIN }
}
