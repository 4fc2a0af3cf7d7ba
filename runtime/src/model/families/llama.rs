use crate::model::family::{Family, Grouped};
use crate::model::spec::{FeedForwardSpec, MlpSpec};

/// Llama 2 and 3, and what is built like them. Biases only where the file says so, no window.
pub(in crate::model) const LLAMA: Family = Family {
    name: "llama",
    model_types: &["llama"],
    architectures: &["LlamaForCausalLM"],
    spec: |config| {
        let bias = config.attention_bias.unwrap_or(false);
        Grouped { qkv_bias: bias, out_bias: bias, ..Grouped::PLAIN }.decoder(config, |config, _| {
            let inner = config.require(config.intermediate_size, "intermediate_size")?;
            let bias = config.mlp_bias.unwrap_or(false);
            Ok(FeedForwardSpec::Dense(MlpSpec { inner, bias, out_norm: false }))
        })
    },
};
