use crate::model::family::{Dense, Family, dense};

/// Llama 2 and 3, and what is built like them. Biases only where the file says so, no window.
pub(in crate::model) const LLAMA: Family = Family {
    name: "llama",
    model_types: &["llama"],
    architectures: &["LlamaForCausalLM"],
    spec: |config| {
        let bias = config.attention_bias.unwrap_or(false);
        let mlp_bias = config.mlp_bias.unwrap_or(false);
        dense(config, &Dense { qkv_bias: bias, out_bias: bias, mlp_bias, qk_norm: false, window: |_, _| None })
    },
};
