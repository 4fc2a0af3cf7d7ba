use super::deepseek::mlp;
use crate::model::family::{Family, Grouped};
use crate::model::spec::QkNorm;

/// GLM-4.5, 4.6 and 4.7, Air among them: grouped-query attention with DeepSeek's experts.
pub(in crate::model) const GLM4_MOE: Family = Family {
    name: "glm4_moe",
    model_types: &["glm4_moe"],
    architectures: &["Glm4MoeForCausalLM"],
    spec: |config| {
        let qk_norm = if config.use_qk_norm.unwrap_or(false) { QkNorm::Heads } else { QkNorm::None };
        let qkv_bias = config.attention_bias.unwrap_or(false);
        Grouped { qkv_bias, qk_norm, ..Grouped::PLAIN }.decoder(config, mlp)
    },
};
