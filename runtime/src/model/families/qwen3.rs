use super::qwen2::window;
use crate::model::family::{Dense, Family, dense};

/// Qwen3, dense: q and k pass a norm over the head, and biases are rare.
pub(in crate::model) const QWEN3: Family = Family {
    name: "qwen3",
    model_types: &["qwen3"],
    architectures: &["Qwen3ForCausalLM"],
    spec: |config| {
        let bias = config.attention_bias.unwrap_or(false);
        dense(config, &Dense { qkv_bias: bias, out_bias: bias, mlp_bias: false, qk_norm: true, window })
    },
};
