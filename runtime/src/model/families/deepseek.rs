use crate::checkpoint::LoadError;
use crate::model::config::ModelConfig;
use crate::model::family::{Family, decoder, dense_mlp};
use crate::model::rope::RopePairs;
use crate::model::spec::{
    DecoderSpec, ExpertGroups, FeedForwardSpec, LatentSpec, MixerSpec, RoutedNames, RoutedSpec, RouterSpec, Scoring,
    SharedSpec, SparseSpec,
};

/// DeepSeek V3: latent attention, and experts chosen in groups.
pub(in crate::model) const DEEPSEEK_V3: Family =
    Family { name: "deepseek_v3", model_types: &["deepseek_v3"], architectures: &["DeepseekV3ForCausalLM"], spec };

/// Kimi K2, and the text model of Kimi K2.5: DeepSeek V3 with other numbers.
pub(in crate::model) const KIMI_K2: Family = Family {
    name: "kimi_k2",
    model_types: &["kimi_k2", "kimi_k25"],
    architectures: &["KimiK25ForConditionalGeneration"],
    spec,
};

/// GLM-4.7-Flash: the same in small.
pub(in crate::model) const GLM4_MOE_LITE: Family =
    Family { name: "glm4_moe_lite", model_types: &["glm4_moe_lite"], architectures: &["Glm4MoeLiteForCausalLM"], spec };

fn spec(config: &ModelConfig) -> Result<DecoderSpec, LoadError> {
    latent_decoder(config, |_| None)
}

/// Layers of latent attention; `sparse` says of each whether it attends to chosen positions.
pub(super) fn latent_decoder(
    config: &ModelConfig,
    sparse: impl Fn(usize) -> Option<SparseSpec>,
) -> Result<DecoderSpec, LoadError> {
    let of = &config.latent;
    let pairs = if of.rope_interleave.unwrap_or(true) { RopePairs::Neighbours } else { RopePairs::Halves };
    let rotary = config.require(of.qk_rope_head_dim, "qk_rope_head_dim")?;
    let rope = config.rope(rotary, pairs)?;
    let plain = config.require(of.qk_nope_head_dim, "qk_nope_head_dim")?;
    let latent = LatentSpec {
        heads: config.require(config.num_attention_heads, "num_attention_heads")?,
        query_rank: of.q_lora_rank.map(|rank| config.require(Some(rank), "q_lora_rank")).transpose()?,
        rank: config.require(of.kv_lora_rank, "kv_lora_rank")?,
        plain,
        rotary,
        value: config.require(of.v_head_dim, "v_head_dim")?,
        scale: ((plain + rotary) as f64).powf(-0.5) * rope.score_factor(),
        bias: config.attention_bias.unwrap_or(false),
        sparse: None,
    };
    let mixer = |number| MixerSpec::Latent(LatentSpec { sparse: sparse(number), ..latent.clone() });
    decoder(config, rope, mixer, mlp)
}

const NAMES: RoutedNames = RoutedNames {
    block: "mlp",
    correction: "gate.e_score_correction_bias",
    expert: ["gate_proj", "up_proj", "down_proj"],
    shared: "shared_experts",
    shared_gate: "",
};

/// The MLP of a layer: dense in the first ones, experts behind.
pub(super) fn mlp(config: &ModelConfig, layer: usize) -> Result<FeedForwardSpec, LoadError> {
    let of = &config.routed;
    let sparse = match &of.mlp_layer_types {
        Some(types) => match types.get(layer).map(String::as_str) {
            Some("sparse") => true,
            Some("dense") => false,
            other => return Err(LoadError::arch("mlp_layer_types", other.unwrap_or("too short"))),
        },
        None => {
            let every = of.moe_layer_freq.unwrap_or(1).max(1);
            layer >= of.first_k_dense_replace.unwrap_or(0) && layer.is_multiple_of(every)
        }
    };
    if !sparse {
        return dense_mlp(config, layer);
    }
    if let Some(method) = of.topk_method.as_deref().filter(|method| *method != "noaux_tc") {
        return Err(LoadError::arch("topk_method", method));
    }
    let experts = config.require(of.n_routed_experts, "n_routed_experts")?;
    let inner = config.require(of.moe_intermediate_size, "moe_intermediate_size")?;
    Ok(FeedForwardSpec::Routed(RoutedSpec {
        router: RouterSpec {
            experts,
            top_k: config.top_k(Some(experts))?,
            scoring: config.scoring(Scoring::Sigmoid)?,
            correction: true,
            groups: groups(config, experts)?,
            normalized: of.norm_topk_prob.unwrap_or(true),
            scale: of.routed_scaling_factor.unwrap_or(1.0),
        },
        inner,
        shared: of
            .n_shared_experts
            .filter(|&count| count > 0)
            .map(|count| {
                Ok(SharedSpec { inner: config.require(Some(inner * count), "n_shared_experts")?, gated: false })
            })
            .transpose()?,
        names: NAMES,
    }))
}

/// Groups that the choice is limited to.
fn groups(config: &ModelConfig, experts: usize) -> Result<Option<ExpertGroups>, LoadError> {
    let count = config.routed.n_group.unwrap_or(1);
    if count <= 1 {
        return Ok(None);
    }
    let kept = config.require(config.routed.topk_group, "topk_group")?;
    // A group's score is that of its two best.
    if !experts.is_multiple_of(count) || experts / count < 2 || kept > count {
        let reason = format!("{kept} of {count} groups of {experts} experts cannot be");
        return Err(LoadError::invalid("config.json", reason));
    }
    if config.top_k(Some(experts))? > kept * (experts / count) {
        let reason = format!("{kept} of {count} groups hold fewer experts than a token gets");
        return Err(LoadError::invalid("config.json", reason));
    }
    Ok(Some(ExpertGroups { count, kept }))
}
