use super::rope::RopeSpec;

/// A decoder as data: what a family's configuration comes to, and all that an executor has to know.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderSpec {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Rows of the embedding matrix, length of a row of logits.
    pub vocab: usize,
    /// Epsilon of all RMS norms.
    pub norm_eps: f64,
    /// The rotary embedding, the same in all layers.
    pub rope: RopeSpec,
    /// Whether the head is the embedding matrix.
    pub tied: bool,
    /// Positions the model was made for.
    pub context: usize,
    /// The layers, in order.
    pub layers: Vec<LayerSpec>,
}

/// One layer: `x += attention(norm(x)); x += mlp(norm(x))`.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerSpec {
    /// What mixes positions.
    pub attention: AttentionSpec,
    /// What mixes components.
    pub mlp: MlpSpec,
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
    /// Whether the q, k and v projections carry a bias.
    pub qkv_bias: bool,
    /// Whether the output projection carries a bias.
    pub out_bias: bool,
    /// Whether q and k pass an RMS norm over the head, before the rotary embedding.
    pub qk_norm: bool,
    /// Positions a token sees, itself included; `None`: all.
    pub window: Option<usize>,
}

/// `down(silu(gate(x)) * up(x))`.
#[derive(Debug, Clone, PartialEq)]
pub struct MlpSpec {
    /// Inner width.
    pub inner: usize,
    /// Whether the three projections carry a bias.
    pub bias: bool,
}

impl AttentionSpec {
    /// Components of all key heads of one token; values have as many.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Query heads per key head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}
