/// What the modules of an encoder are called, below the prefix of its keys.
#[derive(Debug, PartialEq, Eq)]
pub struct EncoderNames {
    /// The embedding.
    pub embedding: &'static str,
    /// The rows of positions and segments, and the norm of the sum.
    pub positions: &'static str,
    /// See above.
    pub types: &'static str,
    /// See above.
    pub input_norm: &'static str,
    /// What stands before a layer's number.
    pub layer: &'static str,
    /// Queries, keys, values and the output projection.
    pub attention: [&'static str; 4],
    /// Norms of queries and keys.
    pub qk_norms: [&'static str; 2],
    /// Norms before and behind attention; of [`NormOrder::Behind`](super::NormOrder::Behind) only the second counts, of
    /// [`NormOrder::Before`](super::NormOrder::Before) only the first.
    pub attention_norms: [&'static str; 2],
    /// The same of the MLP.
    pub mlp_norms: [&'static str; 2],
    /// The projection of the gate, if there is one, the other one from the residual stream, and the one back to it.
    pub mlp: [&'static str; 3],
    /// The norm behind the last layer.
    pub last_norm: &'static str,
}

/// Those of BERT.
pub(super) const BERT: EncoderNames = EncoderNames {
    embedding: "embeddings.word_embeddings",
    positions: "embeddings.position_embeddings",
    types: "embeddings.token_type_embeddings",
    input_norm: "embeddings.LayerNorm",
    layer: "encoder.layer.",
    attention: ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"],
    qk_norms: [""; 2],
    attention_norms: ["", "attention.output.LayerNorm"],
    mlp_norms: ["", "output.LayerNorm"],
    mlp: ["", "intermediate.dense", "output.dense"],
    last_norm: "",
};

/// Those of decoders.
pub(super) const DECODER: EncoderNames = EncoderNames {
    embedding: "embed_tokens",
    positions: "",
    types: "",
    input_norm: "",
    layer: "layers.",
    attention: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"],
    qk_norms: ["self_attn.q_norm", "self_attn.k_norm"],
    attention_norms: ["input_layernorm", ""],
    mlp_norms: ["post_attention_layernorm", ""],
    mlp: ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"],
    last_norm: "norm",
};

/// Those of Gemma.
pub(super) const GEMMA: EncoderNames = EncoderNames {
    attention_norms: ["input_layernorm", "post_attention_layernorm"],
    mlp_norms: ["pre_feedforward_layernorm", "post_feedforward_layernorm"],
    ..DECODER
};
