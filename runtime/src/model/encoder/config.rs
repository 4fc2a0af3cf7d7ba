use crate::checkpoint::LoadError;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The fields of `config.json` that only encoders know.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct EncoderConfig {
    /// Epsilon of all norms.
    pub(super) layer_norm_eps: Option<f64>,
    /// Segments of a text.
    pub(super) type_vocab_size: Option<usize>,
    pub(super) pad_token_id: Option<usize>,
    /// `absolute`: a matrix with a row for each position.
    pub(super) position_embedding_type: Option<String>,
    /// Scores are divided by its root (Gemma).
    pub(super) query_pre_attn_scalar: Option<f64>,
    /// Base of the rotary frequencies of layers with a window (Gemma).
    pub(super) rope_local_base_freq: Option<f64>,
    /// Everything about the rotary embeddings, by kind of layer, in newer files (Gemma).
    pub(super) rope_parameters: Option<Map<String, Value>>,
    /// Whether tokens see those behind them (Gemma).
    pub(super) use_bidirectional_attention: Option<bool>,
    /// Activation of the MLP (Gemma).
    pub(super) hidden_activation: Option<String>,
    /// Limit of the scores (Gemma).
    pub(super) attn_logit_softcapping: Option<f64>,
    /// Every so-manieth layer has no window, in files without `layer_types` (Gemma).
    #[serde(alias = "_sliding_window_pattern")]
    pub(super) sliding_window_pattern: Option<usize>,
    /// Names of what a classifier scores.
    pub(super) id2label: Option<Map<String, Value>>,
}

impl EncoderConfig {
    pub(super) fn read(config: &Value) -> Result<Self, LoadError> {
        Self::deserialize(config).map_err(|error| LoadError::invalid("config.json", error.to_string()))
    }
}
