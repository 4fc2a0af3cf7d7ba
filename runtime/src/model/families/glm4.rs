use crate::model::config::ModelConfig;
use crate::model::family::{Family, Grouped};
use crate::model::rope::RopePairs;
use crate::model::spec::{FeedForwardSpec, MlpSpec};

/// GLM-4 of April 2025 (0414), and GLM-Z1: dense, with norms on both sides of attention and MLP.
pub(in crate::model) const GLM4: Family = Family {
    name: "glm4",
    model_types: &["glm4"],
    architectures: &["Glm4ForCausalLM"],
    spec: |config| {
        // Half of a head rotates where the file does not say.
        let partial_rotary_factor = config.partial_rotary_factor.or(Some(0.5));
        let config = ModelConfig { partial_rotary_factor, ..config.clone() };
        let qkv_bias = config.attention_bias.unwrap_or(true);
        let family = Grouped { qkv_bias, pairs: RopePairs::Neighbours, out_norm: true, ..Grouped::PLAIN };
        family.decoder(&config, |config, _| {
            let inner = config.require(config.intermediate_size, "intermediate_size")?;
            Ok(FeedForwardSpec::Dense(MlpSpec { inner, bias: false, out_norm: true }))
        })
    },
};
