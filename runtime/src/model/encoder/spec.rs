use crate::model::rope::RopeSpec;
use crate::model::spec::QkNorm;

/// An encoder as data: all that an executor has to know. The layers differ in rotary embedding and reach only.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderSpec {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Rows of the embedding matrix.
    pub vocab: usize,
    /// What all norms are.
    pub norm: NormKind,
    /// Their epsilon.
    pub norm_eps: f64,
    /// Whether norms are stored as what is added to 1.
    pub centred_norms: bool,
    /// Where they stand.
    pub order: NormOrder,
    /// How tokens become rows.
    pub input: InputSpec,
    /// Attention of every layer.
    pub attention: EncoderAttention,
    /// The different rotary embeddings of the layers.
    pub ropes: Vec<RopeSpec>,
    /// MLP of every layer.
    pub mlp: EncoderMlp,
    /// The layers, in order.
    pub layers: Vec<EncoderLayer>,
    /// Whether a norm stands behind the last layer.
    pub last_norm: bool,
    /// Most tokens of a text.
    pub max_tokens: usize,
}

/// How tokens become rows of the residual stream: the sum of the rows of some matrices.
#[derive(Debug, Clone, PartialEq)]
pub struct InputSpec {
    /// What the rows of the embedding are multiplied by.
    pub scale: f32,
    /// A matrix with a row for each position.
    pub positions: Option<PositionSpec>,
    /// Rows of the matrix with a row for each segment of a text; 0: there is none.
    pub types: usize,
    /// Whether the sum is normed.
    pub normed: bool,
}

/// A matrix with a row for each position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PositionSpec {
    /// Its rows.
    pub rows: usize,
    /// The row of the first token.
    pub first: usize,
}

/// What a norm does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Takes the mean, divides by the deviation; with a bias.
    Layer,
    /// Divides by the root of the mean square.
    Rms,
}

/// Where the norms of a layer stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormOrder {
    /// `x = norm(x + f(x))`.
    Behind,
    /// `x += f(norm(x))`.
    Before,
    /// `x += norm(f(norm(x)))`.
    Both,
}

/// Attention of an encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderAttention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// What q and k pass before the rotary embedding.
    pub qk_norm: QkNorm,
    /// Whether the q, k and v projections carry a bias.
    pub qkv_bias: bool,
    /// Whether the output projection carries a bias.
    pub out_bias: bool,
    /// What scores are multiplied by.
    pub scale: f64,
    /// Whether a token sees only itself and those before it.
    pub causal: bool,
}

impl EncoderAttention {
    /// Width of all queries.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all keys, and of all values.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Query heads per key head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}

/// The MLP of an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderMlp {
    /// Inner width.
    pub inner: usize,
    /// Whether its projections carry a bias.
    pub bias: bool,
    /// What stands between the projections.
    pub activation: MlpActivation,
}

/// What stands between the projections of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MlpActivation {
    /// `gelu(up(x))`, with the error function.
    Gelu,
    /// `silu(gate(x)) * up(x)`.
    SiluGated,
    /// `gelu(gate(x)) * up(x)`, with the hyperbolic tangent.
    GeluTanhGated,
}

impl MlpActivation {
    /// Whether there is a gate.
    pub fn is_gated(self) -> bool {
        match self {
            Self::Gelu => false,
            Self::SiluGated | Self::GeluTanhGated => true,
        }
    }
}

/// What one layer has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderLayer {
    /// Which of the rotary embeddings.
    pub rope: Option<usize>,
    /// How many positions a token sees before it, and, unless attention is causal, behind it; `None`: all.
    pub reach: Option<usize>,
}
