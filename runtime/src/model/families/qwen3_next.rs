use super::{qwen3, qwen3_moe};
use crate::checkpoint::LoadError;
use crate::model::config::ModelConfig;
use crate::model::family::{Family, Grouped, LINEAR};
use crate::model::spec::{DecoderSpec, DeltaSpec, FeedForwardSpec, MixerSpec, SharedSpec};

/// Qwen3-Next and Qwen3-Coder-Next: a gated delta net in most layers, gated attention in the others, experts and a gated
/// shared MLP in all.
pub(in crate::model) const QWEN3_NEXT: Family =
    Family { name: "qwen3_next", model_types: &["qwen3_next"], architectures: &["Qwen3NextForCausalLM"], spec };

/// Layers from attention to attention, unless the file says otherwise.
const INTERVAL: usize = 4;
/// The longest convolution that the kernels take.
const MOST_TAPS: usize = crate::kernels::MAX_TAPS;

fn spec(config: &ModelConfig) -> Result<DecoderSpec, LoadError> {
    let delta = delta(config)?;
    let interval = config.delta.full_attention_interval.unwrap_or(INTERVAL).max(1);
    let recurrent = |layer: usize| match config.layer_types.as_deref().and_then(|types| types.get(layer)) {
        Some(kind) => kind == LINEAR,
        None => !(layer + 1).is_multiple_of(interval),
    };
    let grouped = Grouped { gated: true, ..qwen3::attention(config) };
    let other = |layer| recurrent(layer).then(|| MixerSpec::Delta(delta.clone()));
    Ok(DecoderSpec { centred_norms: true, ..grouped.mixed_decoder(config, other, mlp)? })
}

fn delta(config: &ModelConfig) -> Result<DeltaSpec, LoadError> {
    let of = &config.delta;
    let delta = DeltaSpec {
        key_heads: config.require(of.linear_num_key_heads, "linear_num_key_heads")?,
        key_dim: config.require(of.linear_key_head_dim, "linear_key_head_dim")?,
        value_heads: config.require(of.linear_num_value_heads, "linear_num_value_heads")?,
        value_dim: config.require(of.linear_value_head_dim, "linear_value_head_dim")?,
        taps: config.require(of.linear_conv_kernel_dim, "linear_conv_kernel_dim")?,
    };
    let DeltaSpec { key_heads, value_heads, taps, .. } = delta;
    if !value_heads.is_multiple_of(key_heads) {
        let reason = format!("{value_heads} value heads cannot share {key_heads} key heads");
        return Err(LoadError::invalid("config.json", reason));
    }
    if taps > MOST_TAPS {
        return Err(LoadError::arch("linear_conv_kernel_dim", taps.to_string()));
    }
    Ok(delta)
}

fn mlp(config: &ModelConfig, layer: usize) -> Result<FeedForwardSpec, LoadError> {
    let shared = match config.routed.shared_expert_intermediate_size {
        None | Some(0) => None,
        inner => Some(SharedSpec { inner: config.require(inner, "shared_expert_intermediate_size")?, gated: true }),
    };
    qwen3_moe::routed(config, layer, true, shared)
}
