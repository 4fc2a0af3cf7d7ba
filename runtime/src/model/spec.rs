use super::rope::{RopePairs, RopeSpec};

/// A decoder as data: what a family's configuration comes to, and all that an executor has to know.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderSpec {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Rows of the embedding matrix, length of a row of logits.
    pub vocab: usize,
    /// Epsilon of the RMS norms.
    pub norm_eps: f64,
    /// The rotary embedding, the same in all layers.
    pub rope: RopeSpec,
    /// Whether the head is the embedding matrix.
    pub tied: bool,
    /// Whether norms are stored as what is added to 1, in the layout that they were published in.
    pub centred_norms: bool,
    /// Positions the model was made for.
    pub context: usize,
    /// The layers, in order.
    pub layers: Vec<LayerSpec>,
}

/// One layer: `x += mixer(norm(x)); x += mlp(norm(x))`.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerSpec {
    /// What mixes positions.
    pub mixer: MixerSpec,
    /// What mixes components.
    pub mlp: FeedForwardSpec,
}

/// What mixes positions.
#[derive(Debug, Clone, PartialEq)]
pub enum MixerSpec {
    /// Grouped-query attention.
    Attention(AttentionSpec),
    /// Multi-head latent attention.
    Latent(LatentSpec),
    /// A recurrence: what was seen stands in a state of fixed size.
    Delta(DeltaSpec),
}

/// What mixes the components of one token.
#[derive(Debug, Clone, PartialEq)]
pub enum FeedForwardSpec {
    /// One MLP.
    Dense(MlpSpec),
    /// Some of many.
    Routed(RoutedSpec),
}

/// Grouped-query attention with a rotary embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionSpec {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; key head `j` serves query heads `j * g .. (j + 1) * g` with `g = heads / kv_heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Whether the q projection gives a gate beside each query, by whose sigmoid the head's result is multiplied.
    pub gated: bool,
    /// Whether the q, k and v projections carry a bias.
    pub qkv_bias: bool,
    /// Whether the output projection carries a bias.
    pub out_bias: bool,
    /// What q and k pass before the rotary embedding.
    pub qk_norm: QkNorm,
    /// How queries grow with their position.
    pub query_growth: Option<QueryGrowth>,
    /// Positions a token sees, itself included; `None`: all.
    pub window: Option<usize>,
    /// Whether a norm stands between the output projection and the residual stream.
    pub out_norm: bool,
}

/// An RMS norm of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// None.
    None,
    /// Over each head, with one weight for all heads, `[head_dim]`.
    Heads,
    /// Over all heads at once, with a weight of that width.
    Whole,
}

/// Queries beyond the training context are multiplied by `1 + beta * ln(1 + floor(position / original_context))`.
///
/// Config keys: `rope_parameters.llama_4_scaling_beta`, `rope_parameters.original_max_position_embeddings`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueryGrowth {
    /// How fast.
    pub beta: f64,
    /// Positions that are not touched.
    pub original_context: usize,
}

/// Multi-head latent attention: keys and values of all heads are projections of one latent per position, which is what
/// the cache holds, together with one rotated key that all heads share.
///
/// Source: DeepSeek-AI, "DeepSeek-V2", 2024, section 2.1.
#[derive(Debug, Clone, PartialEq)]
pub struct LatentSpec {
    /// Heads.
    pub heads: usize,
    /// Width that queries are projected through and normed in; `None`: they are projected at once.
    pub query_rank: Option<usize>,
    /// Width of the latent.
    pub rank: usize,
    /// Components of a query that meet the latent.
    pub plain: usize,
    /// Components of a query that rotate, and width of the shared key.
    pub rotary: usize,
    /// Components of a head's value.
    pub value: usize,
    /// What scores are multiplied by.
    pub scale: f64,
    /// Whether the projections from and to the residual stream carry a bias.
    pub bias: bool,
    /// Which positions a token attends to; `None`: all that it sees.
    pub sparse: Option<SparseSpec>,
}

/// The gated delta rule: each value head keeps a matrix, from keys to values, that forgets a little with every token and
/// replaces what it has under the token's key.
///
/// `S = decay * S; S += k ⊗ beta (v - kᵀ S); out = qᵀ S`, in float32; q, k and v pass a short causal convolution first.
///
/// Source: Yang, Kautz, Hatamizadeh, "Gated Delta Networks: Improving Mamba2 with Delta Rule", 2024.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaSpec {
    /// Heads of queries and keys; head `j` serves value heads `j * g .. (j + 1) * g` with `g = value_heads / key_heads`.
    pub key_heads: usize,
    /// Components of a query and a key.
    pub key_dim: usize,
    /// Heads of values, each with a state of its own.
    pub value_heads: usize,
    /// Components of a value.
    pub value_dim: usize,
    /// Tokens that the convolution sees, the current one included.
    pub taps: usize,
}

/// What is added to the sum of squares of a query or a key before it is divided by its root.
pub const DELTA_NORM_EPS: f64 = 1e-6;

/// Attention to chosen positions only.
///
/// Source: DeepSeek-AI, "DeepSeek-V3.2", 2025, section 2.1.
#[derive(Debug, Clone, PartialEq)]
pub struct SparseSpec {
    /// How many positions are chosen; all, where a token does not see more.
    pub top_k: usize,
    /// What chooses them; `None`: they are those that the last layer with an indexer has chosen.
    pub indexer: Option<IndexerSpec>,
}

/// A small attention of its own, whose scores choose positions: `sum over heads of weight * relu(query . key)`. The cache
/// holds its keys, one head for all queries.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexerSpec {
    /// Query heads.
    pub heads: usize,
    /// Width of a query and of a key; as many components rotate as in the attention itself, the first ones here.
    pub head_dim: usize,
    /// Which components rotate together.
    pub pairs: RopePairs,
}

/// Epsilon of the norms inside of latent attention and of indexers, whatever the configuration says of the others
/// (transformers).
pub const LATENT_NORM_EPS: f64 = 1e-6;

/// `down(silu(gate(x)) * up(x))`.
#[derive(Debug, Clone, PartialEq)]
pub struct MlpSpec {
    /// Inner width.
    pub inner: usize,
    /// Whether the three projections carry a bias.
    pub bias: bool,
    /// Whether a norm stands between the last projection and the residual stream.
    pub out_norm: bool,
}

/// Names of the norms between a mixer or an MLP and the residual stream, counted from the layer.
pub const OUT_NORMS: [&str; 2] = ["post_self_attn_layernorm", "post_mlp_layernorm"];

/// A mixture of experts: each token is computed by the few that its router chooses, and summed with their weights.
///
/// Source: Shazeer et al., "Outrageously Large Neural Networks", 2017; DeepSeek-AI, "DeepSeek-V3 Technical Report",
/// 2024, for sigmoid scores, the correction bias and groups.
#[derive(Debug, Clone, PartialEq)]
pub struct RoutedSpec {
    /// How experts are chosen and weighed.
    pub router: RouterSpec,
    /// Inner width of an expert.
    pub inner: usize,
    /// The MLP that every token passes besides.
    pub shared: Option<SharedSpec>,
    /// What the modules are called.
    pub names: RoutedNames,
}

/// How experts are chosen for a token, and how much each counts.
#[derive(Debug, Clone, PartialEq)]
pub struct RouterSpec {
    /// How many there are.
    pub experts: usize,
    /// How many a token gets.
    pub top_k: usize,
    /// What becomes of the router's logits.
    pub scoring: Scoring,
    /// Whether a bias is added to the scores for the choice (and for the choice only).
    pub correction: bool,
    /// Consecutive groups of experts, of which only the best may be chosen from.
    pub groups: Option<ExpertGroups>,
    /// Whether the scores of the chosen are divided by their sum.
    pub normalized: bool,
    /// What the weights are multiplied by.
    pub scale: f64,
}

/// From logits to scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scoring {
    /// Over all experts.
    Softmax,
    /// Each on its own.
    Sigmoid,
}

/// A group's score is the sum of its two best experts' scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertGroups {
    /// How many.
    pub count: usize,
    /// How many may be chosen from.
    pub kept: usize,
}

/// An MLP that every token passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedSpec {
    /// Inner width.
    pub inner: usize,
    /// Whether its output is multiplied by `sigmoid(gate(x))`, one number per token.
    pub gated: bool,
}

/// What the modules of a mixture are called, counted from the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoutedNames {
    /// The mixture.
    pub block: &'static str,
    /// The tensor of the correction bias, counted from the mixture.
    pub correction: &'static str,
    /// Gate, up and down projection of an expert, where each has tensors of its own.
    pub expert: [&'static str; 3],
    /// The shared MLP, counted from the mixture.
    pub shared: &'static str,
    /// The shared MLP's gate, counted from the mixture.
    pub shared_gate: &'static str,
}

impl QueryGrowth {
    /// The factor at a position.
    pub fn at(&self, position: usize) -> f32 {
        (1.0 + self.beta * (1.0 + (position / self.original_context) as f64).ln()) as f32
    }
}

impl AttentionSpec {
    /// Without biases, norms and a window.
    pub fn plain(heads: usize, kv_heads: usize, head_dim: usize) -> Self {
        Self {
            heads,
            kv_heads,
            head_dim,
            gated: false,
            qkv_bias: false,
            out_bias: false,
            qk_norm: QkNorm::None,
            query_growth: None,
            window: None,
            out_norm: false,
        }
    }

    /// Components of all key heads of one token; values have as many.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Query heads per key head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// What the q projection gives for one head: a query, and its gate if there is one.
    pub fn query_width(&self) -> usize {
        if self.gated { 2 * self.head_dim } else { self.head_dim }
    }
}

impl LatentSpec {
    /// Components of one head's query.
    pub fn query(&self) -> usize {
        self.plain + self.rotary
    }

    /// Components of a latent and the shared key, which the cache holds per position.
    pub fn cached(&self) -> usize {
        self.rank + self.rotary
    }

    /// Its indexer, if positions are chosen here.
    pub fn indexer(&self) -> Option<&IndexerSpec> {
        self.sparse.as_ref().and_then(|sparse| sparse.indexer.as_ref())
    }

    /// Components of an indexer's key, which the cache holds per position besides.
    pub fn index_key(&self) -> usize {
        self.indexer().map_or(0, |indexer| indexer.head_dim)
    }
}

impl IndexerSpec {
    /// What scores are multiplied by: the roots of the width of a head and of the number of heads.
    pub fn scale(&self) -> f64 {
        ((self.heads * self.head_dim) as f64).powf(-0.5)
    }
}

impl DeltaSpec {
    /// Value heads per key head.
    pub fn group(&self) -> usize {
        self.value_heads / self.key_heads
    }

    /// Components of the queries of all heads; keys have as many.
    pub fn keys(&self) -> usize {
        self.key_heads * self.key_dim
    }

    /// Components of the values of all heads.
    pub fn values(&self) -> usize {
        self.value_heads * self.value_dim
    }

    /// What passes the convolution: queries, keys, values.
    pub fn channels(&self) -> usize {
        2 * self.keys() + self.values()
    }

    /// Numbers that the states of one sequence are: of each value head, and what the convolution has seen.
    pub fn state(&self) -> usize {
        self.key_dim * self.values() + (self.taps - 1) * self.channels()
    }
}

impl LayerSpec {
    /// Its attention, if that is of grouped queries.
    pub fn attention(&self) -> Option<&AttentionSpec> {
        match &self.mixer {
            MixerSpec::Attention(attention) => Some(attention),
            MixerSpec::Latent(_) | MixerSpec::Delta(_) => None,
        }
    }

    /// Its mixture of experts, if it has one.
    pub fn routed(&self) -> Option<&RoutedSpec> {
        match &self.mlp {
            FeedForwardSpec::Routed(routed) => Some(routed),
            FeedForwardSpec::Dense(_) => None,
        }
    }
}

impl MixerSpec {
    /// Query heads.
    pub fn heads(&self) -> usize {
        match self {
            Self::Attention(attention) => attention.heads,
            Self::Latent(latent) => latent.heads,
            Self::Delta(delta) => delta.value_heads,
        }
    }

    /// Heads that the cache has keys of.
    pub fn kv_heads(&self) -> usize {
        match self {
            Self::Attention(attention) => attention.kv_heads,
            Self::Latent(_) => 1,
            Self::Delta(_) => 0,
        }
    }

    /// Components of a key in the cache.
    pub fn key_width(&self) -> usize {
        match self {
            Self::Attention(attention) => attention.head_dim,
            Self::Latent(latent) => latent.cached(),
            Self::Delta(_) => 0,
        }
    }

    /// Numbers that the states of one sequence are, whatever its length.
    pub fn state(&self) -> usize {
        match self {
            Self::Attention(_) | Self::Latent(_) => 0,
            Self::Delta(delta) => delta.state(),
        }
    }

    /// Numbers that the cache holds per position.
    pub fn cached(&self) -> usize {
        match self {
            Self::Attention(attention) => 2 * attention.kv_width(),
            Self::Latent(latent) => latent.cached() + latent.index_key(),
            Self::Delta(_) => 0,
        }
    }
}

impl FeedForwardSpec {
    /// The largest inner width.
    pub fn widest(&self) -> usize {
        match self {
            Self::Dense(mlp) => mlp.inner,
            Self::Routed(routed) => routed.inner.max(routed.shared.map_or(0, |shared| shared.inner)),
        }
    }

    /// Inner components that one token passes.
    pub fn active(&self) -> usize {
        match self {
            Self::Dense(mlp) => mlp.inner,
            Self::Routed(routed) => routed.router.top_k * routed.inner + routed.shared.map_or(0, |shared| shared.inner),
        }
    }
}
