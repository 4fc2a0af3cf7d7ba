use super::quantization::QuantizationMap;
use super::rope::{RopePairs, RopeSpec};
use super::spec::Scoring;
use crate::checkpoint::{Checkpoint, LoadError};
use serde::Deserialize;
use serde_json::Value;

/// The fields of `config.json` that the families know, as the file has them.
///
/// Every field may be missing or null; a family says which ones it cannot do without.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ModelConfig {
    /// What selects the family.
    pub model_type: Option<String>,
    /// Class names, used when there is no `model_type`.
    pub architectures: Option<Vec<String>>,
    /// Width of the residual stream.
    pub hidden_size: Option<usize>,
    /// Number of layers.
    pub num_hidden_layers: Option<usize>,
    /// Query heads.
    pub num_attention_heads: Option<usize>,
    /// Key and value heads; missing: as many as query heads.
    pub num_key_value_heads: Option<usize>,
    /// Width of a head; missing: `hidden_size / num_attention_heads`.
    pub head_dim: Option<usize>,
    /// Inner width of the MLP.
    pub intermediate_size: Option<usize>,
    /// Rows of the embedding matrix.
    pub vocab_size: Option<usize>,
    /// Activation of the MLP; the families here know only `silu`.
    pub hidden_act: Option<String>,
    /// Epsilon of all RMS norms.
    pub rms_norm_eps: Option<f64>,
    /// Whether q, k, v and o projections carry a bias.
    pub attention_bias: Option<bool>,
    /// Whether the MLP's projections carry a bias.
    pub mlp_bias: Option<bool>,
    /// Whether the head is the embedding matrix.
    pub tie_word_embeddings: Option<bool>,
    /// Positions the model was made for.
    pub max_position_embeddings: Option<usize>,
    /// Positions a token sees, itself included.
    pub sliding_window: Option<usize>,
    /// Whether `sliding_window` applies (Qwen).
    pub use_sliding_window: Option<bool>,
    /// First layer that has a window (Qwen).
    pub max_window_layers: Option<usize>,
    /// Kind of each layer: `full_attention`, `sliding_attention` or `linear_attention`.
    pub layer_types: Option<Vec<String>>,
    /// Base of the rotary frequencies, in files without `rope_parameters`.
    pub rope_theta: Option<f64>,
    /// Rotary scaling, in files without `rope_parameters`.
    pub rope_scaling: Option<Value>,
    /// Everything about the rotary embedding, in newer files.
    pub rope_parameters: Option<Value>,
    /// The part of a head that rotates.
    pub partial_rotary_factor: Option<f64>,
    /// Components of a head that rotate (MiniMax).
    pub rotary_dim: Option<usize>,
    /// Whether q and k pass a norm (GLM, MiniMax).
    pub use_qk_norm: Option<bool>,
    /// Kind of each layer's attention: 1 is full attention (MiniMax).
    pub attn_type_list: Option<Vec<u32>>,
    /// Tokens that end an answer.
    pub eos_token_id: Option<TokenIds>,

    /// Mixtures of experts.
    #[serde(flatten)]
    pub routed: RoutedConfig,
    /// Latent attention.
    #[serde(flatten)]
    pub latent: LatentConfig,
    /// Recurrent layers.
    #[serde(flatten)]
    pub delta: DeltaConfig,
    /// Attention to chosen positions.
    #[serde(flatten)]
    pub sparse: SparseConfig,

    /// How the weights are quantised; from the outer object, where converters write it.
    #[serde(skip)]
    pub quantization: QuantizationMap,
    /// Tokens that end an answer, of `config.json` and `generation_config.json` together, ascending.
    #[serde(skip)]
    pub eos_ids: Vec<u32>,
    /// What `generation_config.json` advises.
    #[serde(skip)]
    pub sampling: SamplingAdvice,
}

/// Sampling as a model's `generation_config.json` advises it. `do_sample` is not read: where it is missing, servers sample.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SamplingAdvice {
    /// See [`SamplingParams`](crate::sampling::SamplingParams), as all of these.
    pub temperature: Option<f32>,
    /// Nucleus sampling.
    pub top_p: Option<f32>,
    /// The most probable tokens only; 0 is off.
    pub top_k: Option<i64>,
    /// Tokens that are probable enough relative to the best one.
    pub min_p: Option<f32>,
    /// Less repetition of prompt and answer.
    pub repetition_penalty: Option<f32>,
}

/// The fields of a mixture of experts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct RoutedConfig {
    /// Experts (Qwen).
    pub num_experts: Option<usize>,
    /// Experts (MiniMax).
    pub num_local_experts: Option<usize>,
    /// Experts (DeepSeek, GLM).
    pub n_routed_experts: Option<usize>,
    /// How many a token gets.
    pub num_experts_per_tok: Option<usize>,
    /// Inner width of an expert.
    pub moe_intermediate_size: Option<usize>,
    /// Inner width of the MLP that every token passes (Qwen).
    pub shared_expert_intermediate_size: Option<usize>,
    /// Experts' worth of inner width that every token passes (DeepSeek, GLM).
    pub n_shared_experts: Option<usize>,
    /// Whether the weights of the chosen are divided by their sum.
    pub norm_topk_prob: Option<bool>,
    /// From logits to scores: `sigmoid` or `softmax`.
    pub scoring_func: Option<String>,
    /// How experts are chosen (DeepSeek): `noaux_tc` is with correction bias and groups.
    pub topk_method: Option<String>,
    /// Groups of experts.
    pub n_group: Option<usize>,
    /// Groups that may be chosen from.
    pub topk_group: Option<usize>,
    /// What the weights are multiplied by.
    pub routed_scaling_factor: Option<f64>,
    /// Layers before this one have a dense MLP (DeepSeek, GLM).
    pub first_k_dense_replace: Option<usize>,
    /// Of the layers behind, every so-manieth has experts (DeepSeek).
    pub moe_layer_freq: Option<usize>,
    /// `dense` or `sparse`, by layer (newer DeepSeek-like files).
    pub mlp_layer_types: Option<Vec<String>>,
    /// Layers with a dense MLP (Qwen).
    pub mlp_only_layers: Option<Vec<usize>>,
    /// Every so-manieth layer has experts (Qwen).
    pub decoder_sparse_step: Option<usize>,
}

/// The fields of multi-head latent attention.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct LatentConfig {
    /// Width that queries are projected through; missing: they are not.
    pub q_lora_rank: Option<usize>,
    /// Width of the latent.
    pub kv_lora_rank: Option<usize>,
    /// Components of a head that do not rotate.
    pub qk_nope_head_dim: Option<usize>,
    /// Components of a head that rotate.
    pub qk_rope_head_dim: Option<usize>,
    /// Components of a head's value.
    pub v_head_dim: Option<usize>,
    /// Whether neighbours rotate together; missing: they do.
    pub rope_interleave: Option<bool>,
}

/// The fields of gated delta nets (Qwen3-Next).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct DeltaConfig {
    /// Heads of queries and keys.
    pub linear_num_key_heads: Option<usize>,
    /// Components of a key.
    pub linear_key_head_dim: Option<usize>,
    /// Heads of values.
    pub linear_num_value_heads: Option<usize>,
    /// Components of a value.
    pub linear_value_head_dim: Option<usize>,
    /// Tokens that the convolution sees.
    pub linear_conv_kernel_dim: Option<usize>,
    /// Every so-manieth layer has attention instead, in files without `layer_types`.
    pub full_attention_interval: Option<usize>,
}

/// The fields of attention to chosen positions.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SparseConfig {
    /// Positions that a token attends to.
    pub index_topk: Option<usize>,
    /// Heads of an indexer's queries.
    pub index_n_heads: Option<usize>,
    /// Width of an indexer's queries and keys.
    pub index_head_dim: Option<usize>,
    /// Whether neighbours rotate together in an indexer; what a family does where it is missing differs.
    pub indexer_rope_interleave: Option<bool>,
    /// `full` or `shared`, by layer: whether it has an indexer.
    pub indexer_types: Option<Vec<String>>,
    /// The same in older files: a letter for each layer, `F` or `S`, or the words.
    pub index_topk_pattern: Option<LayerPattern>,
    /// The same by rule: every so-manieth layer has an indexer ...
    pub index_topk_freq: Option<usize>,
    /// ... counted from the one before this.
    pub index_skip_topk_offset: Option<usize>,
}

/// A word for each layer, or a letter.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum LayerPattern {
    /// A string with a letter for each.
    Letters(String),
    /// A list of words.
    Words(Vec<String>),
}

/// One token id or several: files have both.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum TokenIds {
    /// A single id.
    One(u32),
    /// Several.
    Many(Vec<u32>),
}

/// The largest size that a configuration may claim: four times the largest vocabulary seen.
const MAX_SIZE: usize = 1 << 20;

impl TokenIds {
    fn ids(&self) -> &[u32] {
        match self {
            Self::One(id) => std::slice::from_ref(id),
            Self::Many(ids) => ids,
        }
    }
}

impl ModelConfig {
    /// Reads `config.json` and `generation_config.json`. For wrappers of several towers the language model's part,
    /// `text_config`, is what counts.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if a field has a wrong type, [`LoadError::UnsupportedQuantization`].
    pub fn read(checkpoint: &Checkpoint) -> Result<Self, LoadError> {
        let outer = checkpoint.config();
        let text = outer.get("text_config").filter(|text| text.is_object()).unwrap_or(outer);
        let parse = |value: &Value| {
            Self::deserialize(value).map_err(|error| LoadError::invalid("config.json", error.to_string()))
        };
        let mut config = parse(text)?;
        let whole = parse(outer)?;
        config.architectures = config.architectures.or(whole.architectures);
        config.model_type = config.model_type.or(whole.model_type);
        config.quantization = QuantizationMap::parse(outer)?;

        let mut eos: Vec<u32> = Vec::new();
        eos.extend(config.eos_token_id.iter().chain(&whole.eos_token_id).flat_map(TokenIds::ids));
        if let Some(bytes) = checkpoint.file("generation_config.json")? {
            let generation: Generation = serde_json::from_slice(&bytes)
                .map_err(|error| LoadError::invalid("generation_config.json", error.to_string()))?;
            eos.extend(generation.eos_token_id.iter().flat_map(TokenIds::ids));
            config.sampling = generation.sampling;
        }
        eos.sort_unstable();
        eos.dedup();
        config.eos_ids = eos;
        Ok(config)
    }

    /// The rotary embedding for heads of `head_dim`.
    ///
    /// # Errors
    /// [`LoadError::UnsupportedArch`] for a kind of scaling that is not there.
    pub fn rope(&self, head_dim: usize, pairs: RopePairs) -> Result<RopeSpec, LoadError> {
        RopeSpec::parse(self, head_dim, pairs)
    }

    /// How many of `experts` a token gets.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if that is not said, or more than there are.
    pub fn top_k(&self, experts: Option<usize>) -> Result<usize, LoadError> {
        let top_k = self.require(self.routed.num_experts_per_tok, "num_experts_per_tok")?;
        if experts.is_some_and(|experts| top_k > experts) {
            let reason = format!("`num_experts_per_tok` is {top_k}, more than there are");
            return Err(LoadError::invalid("config.json", reason));
        }
        Ok(top_k)
    }

    /// How a router scores; `otherwise` where the file does not say.
    ///
    /// # Errors
    /// [`LoadError::UnsupportedArch`] for a way that is not known.
    pub fn scoring(&self, otherwise: Scoring) -> Result<Scoring, LoadError> {
        match self.routed.scoring_func.as_deref() {
            None => Ok(otherwise),
            Some("sigmoid") => Ok(Scoring::Sigmoid),
            Some("softmax") => Ok(Scoring::Softmax),
            Some(other) => Err(LoadError::arch("scoring_func", other)),
        }
    }

    /// A size that the family cannot do without.
    ///
    /// # Errors
    /// [`LoadError::InvalidCheckpoint`] if it is missing, zero, or beyond any model: products of sizes must not overflow.
    pub fn require(&self, value: Option<usize>, key: &str) -> Result<usize, LoadError> {
        match value {
            Some(value @ 1..=MAX_SIZE) => Ok(value),
            None | Some(0) => Err(LoadError::invalid("config.json", format!("`{key}` is missing or zero"))),
            Some(value) => Err(LoadError::invalid("config.json", format!("`{key}` is {value}, more than {MAX_SIZE}"))),
        }
    }
}

#[derive(Deserialize)]
struct Generation {
    #[serde(default)]
    eos_token_id: Option<TokenIds>,
    #[serde(flatten)]
    sampling: SamplingAdvice,
}
