use super::qwen3;
use crate::checkpoint::LoadError;
use crate::model::config::ModelConfig;
use crate::model::family::{Family, dense_mlp};
use crate::model::spec::{FeedForwardSpec, RoutedNames, RoutedSpec, RouterSpec, Scoring, SharedSpec};

/// Qwen3 with experts: softmax over all of them, no shared MLP.
pub(in crate::model) const QWEN3_MOE: Family = Family {
    name: "qwen3_moe",
    model_types: &["qwen3_moe"],
    architectures: &["Qwen3MoeForCausalLM"],
    spec: |config| qwen3::attention(config).decoder(config, mlp),
};

/// Names of Qwen's mixtures.
pub(super) const NAMES: RoutedNames = RoutedNames {
    block: "mlp",
    correction: "",
    expert: ["gate_proj", "up_proj", "down_proj"],
    shared: "shared_expert",
    shared_gate: "shared_expert_gate",
};

fn mlp(config: &ModelConfig, layer: usize) -> Result<FeedForwardSpec, LoadError> {
    routed(config, layer, false, None)
}

/// Which layers have experts, and how a token gets some. `normalized`: where the file does not say.
pub(super) fn routed(
    config: &ModelConfig,
    layer: usize,
    normalized: bool,
    shared: Option<SharedSpec>,
) -> Result<FeedForwardSpec, LoadError> {
    let step = config.routed.decoder_sparse_step.unwrap_or(1).max(1);
    let dense = config.routed.mlp_only_layers.as_ref().is_some_and(|layers| layers.contains(&layer));
    if dense || !(layer + 1).is_multiple_of(step) {
        return dense_mlp(config, layer);
    }
    Ok(FeedForwardSpec::Routed(RoutedSpec {
        router: RouterSpec {
            experts: config.require(config.routed.num_experts, "num_experts")?,
            top_k: config.top_k(config.routed.num_experts)?,
            scoring: Scoring::Softmax,
            correction: false,
            groups: None,
            normalized: config.routed.norm_topk_prob.unwrap_or(normalized),
            scale: 1.0,
        },
        inner: config.require(config.routed.moe_intermediate_size, "moe_intermediate_size")?,
        shared,
        names: NAMES,
    }))
}
