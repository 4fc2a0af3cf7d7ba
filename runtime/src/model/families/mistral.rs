use crate::model::family::{Dense, Family, dense, window_by_type};

/// Mistral, Mistral Nemo and Small, Devstral 1. `sliding_window`, where it is set, holds for every layer.
pub(in crate::model) const MISTRAL: Family = Family {
    name: "mistral",
    model_types: &["mistral"],
    architectures: &["MistralForCausalLM"],
    spec: |config| {
        dense(
            config,
            &Dense {
                qkv_bias: false,
                out_bias: false,
                mlp_bias: false,
                qk_norm: false,
                window: |config, layer| window_by_type(config, layer, config.sliding_window),
            },
        )
    },
};
