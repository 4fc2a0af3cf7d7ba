use crate::checkpoint::LoadError;
use crate::model::config::ModelConfig;
use crate::model::family::{Family, Grouped};
use crate::model::spec::{FeedForwardSpec, QkNorm, RoutedNames, RoutedSpec, RouterSpec, Scoring};

/// MiniMax M2, M2.1 and M2.5: q and k pass a norm over all heads at once, every layer has experts.
pub(in crate::model) const MINIMAX_M2: Family = Family {
    name: "minimax_m2",
    model_types: &["minimax_m2"],
    architectures: &["MiniMaxM2ForCausalLM"],
    spec: |config| {
        // Anything but 1 is the linear attention of older models, which these have not.
        if let Some(kind) = config.attn_type_list.iter().flatten().find(|kind| **kind != 1) {
            return Err(LoadError::arch("attn_type_list", kind));
        }
        let qk_norm = if config.use_qk_norm.unwrap_or(true) { QkNorm::Whole } else { QkNorm::None };
        Grouped { qk_norm, ..Grouped::PLAIN }.decoder(config, mlp)
    },
};

const NAMES: RoutedNames = RoutedNames {
    block: "block_sparse_moe",
    correction: "e_score_correction_bias",
    expert: ["w1", "w3", "w2"],
    shared: "",
    shared_gate: "",
};

fn mlp(config: &ModelConfig, _: usize) -> Result<FeedForwardSpec, LoadError> {
    let experts = config.routed.num_local_experts.or(config.routed.num_experts);
    Ok(FeedForwardSpec::Routed(RoutedSpec {
        router: RouterSpec {
            experts: config.require(experts, "num_local_experts")?,
            top_k: config.top_k(experts)?,
            scoring: config.scoring(Scoring::Sigmoid)?,
            correction: true,
            groups: None,
            normalized: true,
            scale: 1.0,
        },
        inner: config.require(config.intermediate_size, "intermediate_size")?,
        shared: None,
        names: NAMES,
    }))
}
