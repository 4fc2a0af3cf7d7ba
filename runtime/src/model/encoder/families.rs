//! What the configurations of the families come to.

use super::config::EncoderConfig;
use super::head::Pooling;
use super::names::{self, EncoderNames};
use super::spec::{
    EncoderAttention, EncoderLayer, EncoderMlp, EncoderSpec, InputSpec, MlpActivation, NormKind, NormOrder,
    PositionSpec,
};
use crate::checkpoint::LoadError;
use crate::model::config::ModelConfig;
use crate::model::family::Family;
use crate::model::rope::{RopePairs, RopeSpec};
use crate::model::spec::{FeedForwardSpec, LayerSpec, MixerSpec, QkNorm};

/// A family of encoders, and what its configuration comes to.
pub(super) struct Found {
    pub(super) family: &'static str,
    pub(super) names: &'static EncoderNames,
    pub(super) spec: EncoderSpec,
    /// Which rows make a vector, where no file says.
    pub(super) pooling: Pooling,
}

/// Finds the family of a configuration.
///
/// # Errors
/// [`LoadError::UnsupportedArch`] with the key that decided it.
pub(super) fn find(config: &ModelConfig, own: &EncoderConfig) -> Result<Found, LoadError> {
    let found = |family, names, spec, pooling| Found { family, names, spec, pooling };
    match config.model_type.as_deref() {
        Some("bert") => Ok(found("bert", &names::BERT, bert(config, own, 0)?, Pooling::Mean)),
        Some("roberta" | "xlm-roberta") => {
            // The rows of positions before the first are the padding's.
            let first = own.pad_token_id.unwrap_or(1) + 1;
            Ok(found("xlm-roberta", &names::BERT, bert(config, own, first)?, Pooling::Mean))
        }
        Some("gemma3_text") => Ok(found("gemma3", &names::GEMMA, gemma(config, own)?, Pooling::Mean)),
        _ => {
            let family = Family::of(config)?;
            Ok(found(family.name, &names::DECODER, decoder(config, family)?, Pooling::Last))
        }
    }
}

/// Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2019.
fn bert(config: &ModelConfig, own: &EncoderConfig, first: usize) -> Result<EncoderSpec, LoadError> {
    let hidden = config.require(config.hidden_size, "hidden_size")?;
    let heads = config.require(config.num_attention_heads, "num_attention_heads")?;
    let rows = config.require(config.max_position_embeddings, "max_position_embeddings")?;
    if let Some(other) = config.hidden_act.as_deref().filter(|name| *name != "gelu") {
        return Err(LoadError::arch("hidden_act", other));
    }
    if let Some(other) = own.position_embedding_type.as_deref().filter(|name| *name != "absolute") {
        return Err(LoadError::arch("position_embedding_type", other));
    }
    let head_dim = hidden / heads;
    if !hidden.is_multiple_of(heads) || rows <= first {
        let reason = format!("{heads} heads of {hidden} components, {rows} positions from {first} on");
        return Err(LoadError::invalid("config.json", reason));
    }
    Ok(EncoderSpec {
        hidden,
        vocab: config.require(config.vocab_size, "vocab_size")?,
        norm: NormKind::Layer,
        norm_eps: own.layer_norm_eps.unwrap_or(1e-12),
        centred_norms: false,
        order: NormOrder::Behind,
        input: InputSpec {
            scale: 1.0,
            positions: Some(PositionSpec { rows, first }),
            types: own.type_vocab_size.unwrap_or(2),
            normed: true,
        },
        attention: EncoderAttention {
            heads,
            kv_heads: heads,
            head_dim,
            qk_norm: QkNorm::None,
            qkv_bias: true,
            out_bias: true,
            scale: (head_dim as f64).sqrt().recip(),
            causal: false,
        },
        ropes: Vec::new(),
        mlp: EncoderMlp {
            inner: config.require(config.intermediate_size, "intermediate_size")?,
            bias: true,
            activation: MlpActivation::Gelu,
        },
        layers: vec![EncoderLayer { rope: None, reach: None }; layers(config)?],
        last_norm: false,
        max_tokens: rows - first,
    })
}

/// Gemma 3 with attention to both sides, as EmbeddingGemma has it.
fn gemma(config: &ModelConfig, own: &EncoderConfig) -> Result<EncoderSpec, LoadError> {
    if own.use_bidirectional_attention != Some(true) {
        return Err(LoadError::arch("use_bidirectional_attention", "false"));
    }
    if let Some(limit) = own.attn_logit_softcapping {
        return Err(LoadError::arch("attn_logit_softcapping", limit.to_string()));
    }
    let activation = own.hidden_activation.as_deref().or(config.hidden_act.as_deref());
    if let Some(other) = activation.filter(|name| *name != "gelu_pytorch_tanh") {
        return Err(LoadError::arch("hidden_activation", other));
    }
    let hidden = config.require(config.hidden_size, "hidden_size")?;
    let heads = config.require(config.num_attention_heads, "num_attention_heads")?;
    let kv_heads = config.require(config.num_key_value_heads.or(Some(heads)), "num_key_value_heads")?;
    let head_dim = config.require(config.head_dim.or(Some(hidden / heads)), "head_dim")?;
    if !heads.is_multiple_of(kv_heads) {
        let reason = format!("{heads} query heads cannot share {kv_heads} key heads");
        return Err(LoadError::invalid("config.json", reason));
    }
    let num_layers = layers(config)?;
    let pattern = own.sliding_window_pattern.unwrap_or(6).max(1);
    let slides = |number: usize| match config.layer_types.as_deref().and_then(|types| types.get(number)) {
        Some(kind) => kind == "sliding_attention",
        None => !(number + 1).is_multiple_of(pattern),
    };
    // The window is stored whole; a token sees half of it on either side.
    let reach = config.sliding_window.map(|window| window / 2);
    let layer = |number| match slides(number) {
        true => EncoderLayer { rope: Some(1), reach },
        false => EncoderLayer { rope: Some(0), reach: None },
    };
    Ok(EncoderSpec {
        hidden,
        vocab: config.require(config.vocab_size, "vocab_size")?,
        norm: NormKind::Rms,
        norm_eps: config.rms_norm_eps.unwrap_or(1e-6),
        centred_norms: true,
        order: NormOrder::Both,
        input: InputSpec { scale: (hidden as f32).sqrt(), positions: None, types: 0, normed: false },
        attention: EncoderAttention {
            heads,
            kv_heads,
            head_dim,
            qk_norm: QkNorm::Heads,
            qkv_bias: config.attention_bias.unwrap_or(false),
            out_bias: config.attention_bias.unwrap_or(false),
            scale: own.query_pre_attn_scalar.unwrap_or(head_dim as f64).sqrt().recip(),
            causal: false,
        },
        ropes: gemma_ropes(config, own, head_dim)?,
        mlp: EncoderMlp {
            inner: config.require(config.intermediate_size, "intermediate_size")?,
            bias: false,
            activation: MlpActivation::GeluTanhGated,
        },
        layers: (0..num_layers).map(layer).collect(),
        last_norm: true,
        max_tokens: config.max_position_embeddings.unwrap_or(2048),
    })
}

/// The rotary embeddings of layers that see everything, and of those with a window.
fn gemma_ropes(config: &ModelConfig, own: &EncoderConfig, head_dim: usize) -> Result<Vec<RopeSpec>, LoadError> {
    let by_kind = |kind: &str| own.rope_parameters.as_ref().and_then(|all| all.get(kind));
    let of = |kind: &str, theta: Option<f64>, scaling: bool| {
        let scaling = config.rope_scaling.clone().filter(|_| scaling);
        let own = by_kind(kind).cloned();
        ModelConfig { rope_theta: theta, rope_scaling: scaling, rope_parameters: own, ..config.clone() }
            .rope(head_dim, RopePairs::Halves)
    };
    let full = of("full_attention", config.rope_theta.or(Some(1e6)), true)?;
    let local = of("sliding_attention", own.rope_local_base_freq.or(Some(1e4)), false)?;
    Ok(vec![full, local])
}

/// A decoder that is used as an encoder: its last layer's rows are the result.
fn decoder(config: &ModelConfig, family: &Family) -> Result<EncoderSpec, LoadError> {
    let spec = (family.spec)(config)?;
    let refused = || LoadError::arch("model_type", format!("{} as an encoder", family.name));
    let layer = |layer: &LayerSpec| match (&layer.mixer, &layer.mlp) {
        (MixerSpec::Attention(attention), FeedForwardSpec::Dense(mlp)) => Some((attention.clone(), mlp.clone())),
        _ => None,
    };
    let all: Option<Vec<_>> = spec.layers.iter().map(layer).collect();
    let all = all.ok_or_else(refused)?;
    let Some((first, mlp)) = all.first() else { return Err(refused()) };
    let plain = |(attention, mlp): &(crate::model::AttentionSpec, crate::model::MlpSpec)| {
        !attention.gated && !attention.out_norm && !mlp.out_norm && attention.query_growth.is_none()
    };
    if !all.iter().all(plain) {
        return Err(refused());
    }
    Ok(EncoderSpec {
        hidden: spec.hidden,
        vocab: spec.vocab,
        norm: NormKind::Rms,
        norm_eps: spec.norm_eps,
        centred_norms: spec.centred_norms,
        order: NormOrder::Before,
        input: InputSpec { scale: 1.0, positions: None, types: 0, normed: false },
        attention: EncoderAttention {
            heads: first.heads,
            kv_heads: first.kv_heads,
            head_dim: first.head_dim,
            qk_norm: first.qk_norm,
            qkv_bias: first.qkv_bias,
            out_bias: first.out_bias,
            scale: (first.head_dim as f64).sqrt().recip(),
            causal: true,
        },
        mlp: EncoderMlp { inner: mlp.inner, bias: mlp.bias, activation: MlpActivation::SiluGated },
        layers: all
            .iter()
            .map(|(attention, _)| EncoderLayer { rope: Some(0), reach: attention.window.map(|window| window - 1) })
            .collect(),
        ropes: vec![spec.rope],
        last_norm: true,
        max_tokens: spec.context,
    })
}

fn layers(config: &ModelConfig) -> Result<usize, LoadError> {
    config.require(config.num_hidden_layers, "num_hidden_layers")
}
