use super::config::ModelConfig;
use super::families;
use super::rope::{RopePairs, RopeSpec, query_growth};
use super::spec::{AttentionSpec, DecoderSpec, FeedForwardSpec, LayerSpec, MixerSpec, MlpSpec, QkNorm};
use crate::checkpoint::LoadError;

/// A family of models: how it is recognised and what its configuration means.
#[derive(Debug)]
pub struct Family {
    /// Its name, as it is shown.
    pub name: &'static str,
    /// Values of `model_type`.
    pub model_types: &'static [&'static str],
    /// Values of `architectures`, for files without a `model_type`.
    pub architectures: &'static [&'static str],
    /// Turns a configuration into layers.
    pub(super) spec: fn(&ModelConfig) -> Result<DecoderSpec, LoadError>,
}

impl Family {
    /// All families, in the order in which they are shown.
    pub fn all() -> &'static [Self] {
        &[
            families::LLAMA,
            families::MISTRAL,
            families::MINISTRAL3,
            families::QWEN2,
            families::QWEN3,
            families::QWEN3_MOE,
            families::QWEN3_NEXT,
            families::MINIMAX_M2,
            families::GLM4,
            families::GLM4_MOE,
            families::GLM4_MOE_LITE,
            families::GLM_MOE_DSA,
            families::DEEPSEEK_V3,
            families::DEEPSEEK_V32,
            families::KIMI_K2,
        ]
    }

    /// Finds the family of a configuration.
    ///
    /// # Errors
    /// [`LoadError::UnsupportedArch`] with the key that decided it.
    pub fn of(config: &ModelConfig) -> Result<&'static Self, LoadError> {
        if let Some(model_type) = &config.model_type {
            return Self::all()
                .iter()
                .find(|family| family.model_types.contains(&model_type.as_str()))
                .ok_or_else(|| LoadError::arch("model_type", model_type));
        }
        let classes = config.architectures.as_deref().unwrap_or_default();
        Self::all()
            .iter()
            .find(|family| classes.iter().any(|class| family.architectures.contains(&class.as_str())))
            .ok_or_else(|| match classes.first() {
                Some(class) => LoadError::arch("architectures", class),
                None => LoadError::arch("model_type", "missing"),
            })
    }
}

/// What one family with grouped-query attention does differently from another.
pub(super) struct Grouped {
    pub(super) qkv_bias: bool,
    pub(super) out_bias: bool,
    pub(super) gated: bool,
    pub(super) qk_norm: QkNorm,
    /// What rotates together.
    pub(super) pairs: RopePairs,
    /// See [`AttentionSpec::out_norm`].
    pub(super) out_norm: bool,
    /// The window of a layer, by its number.
    pub(super) window: fn(&ModelConfig, usize) -> Option<usize>,
}

/// What the MLP of a layer is, by its number.
type MlpOf = fn(&ModelConfig, usize) -> Result<FeedForwardSpec, LoadError>;

impl Grouped {
    /// No bias, norm or window.
    pub(super) const PLAIN: Self = Self {
        qkv_bias: false,
        out_bias: false,
        gated: false,
        qk_norm: QkNorm::None,
        pairs: RopePairs::Halves,
        out_norm: false,
        window: |_, _| None,
    };

    /// Builds layers of grouped-query attention.
    pub(super) fn decoder(&self, config: &ModelConfig, mlp: MlpOf) -> Result<DecoderSpec, LoadError> {
        self.mixed_decoder(config, |_| None, mlp)
    }

    /// The same, where some layers have another mixer, by their number.
    pub(super) fn mixed_decoder(
        &self,
        config: &ModelConfig,
        other: impl Fn(usize) -> Option<MixerSpec>,
        mlp: MlpOf,
    ) -> Result<DecoderSpec, LoadError> {
        let hidden = config.require(config.hidden_size, "hidden_size")?;
        let heads = config.require(config.num_attention_heads, "num_attention_heads")?;
        let kv_heads = config.require(config.num_key_value_heads.or(Some(heads)), "num_key_value_heads")?;
        let head_dim = config.require(config.head_dim.or(Some(hidden / heads)), "head_dim")?;
        if !heads.is_multiple_of(kv_heads) {
            let reason = format!("{heads} query heads cannot share {kv_heads} key heads");
            return Err(LoadError::invalid("config.json", reason));
        }
        let query_growth = query_growth(config)?;
        let attention = |number: usize| {
            MixerSpec::Attention(AttentionSpec {
                heads,
                kv_heads,
                head_dim,
                gated: self.gated,
                qkv_bias: self.qkv_bias,
                out_bias: self.out_bias,
                qk_norm: self.qk_norm,
                query_growth,
                window: (self.window)(config, number).filter(|&window| window > 0),
                out_norm: self.out_norm,
            })
        };
        let mixer = |number| other(number).unwrap_or_else(|| attention(number));
        decoder(config, config.rope(head_dim, self.pairs)?, mixer, mlp)
    }
}

/// Builds the layers of any decoder.
pub(super) fn decoder(
    config: &ModelConfig,
    rope: RopeSpec,
    mixer: impl Fn(usize) -> MixerSpec,
    mlp: MlpOf,
) -> Result<DecoderSpec, LoadError> {
    let num_layers = config.require(config.num_hidden_layers, "num_hidden_layers")?;
    if let Some(activation) = config.hidden_act.as_deref().filter(|name| !matches!(*name, "silu" | "swish")) {
        return Err(LoadError::arch("hidden_act", activation));
    }
    if let Some(types) = &config.layer_types {
        if types.len() != num_layers {
            let reason = format!("`layer_types` names {} of {num_layers} layers", types.len());
            return Err(LoadError::invalid("config.json", reason));
        }
        let linear = |number| matches!(mixer(number), MixerSpec::Delta(_));
        // What transformers writes where an indexer chooses: a family without one does not know it.
        let indexed = config.sparse.index_topk.is_some();
        let known = |(number, kind): (usize, &str)| {
            matches!(kind, FULL | SLIDING) || (kind == LINEAR && linear(number)) || (kind == INDEXED && indexed)
        };
        if let Some(kind) =
            types.iter().enumerate().find(|(number, kind)| !known((*number, kind))).map(|(_, kind)| kind)
        {
            return Err(LoadError::arch("layer_types", kind));
        }
    }
    let layer = |number| Ok(LayerSpec { mixer: mixer(number), mlp: mlp(config, number)? });
    Ok(DecoderSpec {
        hidden: config.require(config.hidden_size, "hidden_size")?,
        vocab: config.require(config.vocab_size, "vocab_size")?,
        norm_eps: config.rms_norm_eps.unwrap_or(1e-6),
        rope,
        centred_norms: false,
        tied: config.tie_word_embeddings.unwrap_or(false),
        context: config.max_position_embeddings.unwrap_or(2048),
        layers: (0..num_layers).map(layer).collect::<Result<_, LoadError>>()?,
    })
}

/// One MLP in every layer, without bias.
pub(super) fn dense_mlp(config: &ModelConfig, _: usize) -> Result<FeedForwardSpec, LoadError> {
    let inner = config.require(config.intermediate_size, "intermediate_size")?;
    Ok(FeedForwardSpec::Dense(MlpSpec { inner, bias: false, out_norm: false }))
}

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";
/// A layer with a recurrence.
pub(super) const LINEAR: &str = "linear_attention";
const INDEXED: &str = "indexed_attention";

/// The window of a layer by `layer_types`, if the file has them; else `otherwise`.
pub(super) fn window_by_type(config: &ModelConfig, layer: usize, otherwise: Option<usize>) -> Option<usize> {
    match config.layer_types.as_deref().and_then(|types| types.get(layer)) {
        Some(kind) if kind == SLIDING => config.sliding_window,
        Some(_) => None,
        None => otherwise,
    }
}
