use crate::model::DecoderSpec;
use std::ops::Range;

/// What a forward pass computes and reads, counted from the model's sizes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Multiplications and additions of the layers' products, per token.
    layers: f64,
    /// Of the head, per row of logits.
    head: f64,
    /// Of attention, per token and position that it sees.
    attention: f64,
    /// Bytes of weights that a step reads once, however many tokens it has; `None` where the executor does not say.
    pub weight_bytes: Option<u64>,
    /// Bytes of keys and values per position.
    pub kv_bytes_per_token: usize,
}

impl Work {
    /// Counts. Windows of attention are taken as wide as the context.
    pub fn of(spec: &DecoderSpec, weight_bytes: Option<u64>, kv_bytes_per_token: usize) -> Self {
        let (mut layers, mut attention) = (0, 0);
        for layer in &spec.layers {
            let heads = layer.attention.heads * layer.attention.head_dim;
            layers += 2 * spec.hidden * (2 * heads + 2 * layer.attention.kv_width() + 3 * layer.mlp.inner);
            // Each score and each weighted value is a multiplication and an addition.
            attention += 4 * heads;
        }
        let head = (2 * spec.hidden * spec.vocab) as f64;
        Self { layers: layers as f64, head, attention: attention as f64, weight_bytes, kv_bytes_per_token }
    }

    /// Operations of computing the tokens at `positions`, and the logits of `rows` of them.
    pub fn operations(&self, positions: Range<usize>, rows: usize) -> f64 {
        let (begin, end) = (positions.start as f64, positions.end as f64);
        // A token sees itself and all before it.
        let seen = (end * (end + 1.0) - begin * (begin + 1.0)) / 2.0;
        self.layers * (end - begin) + self.head * rows as f64 + self.attention * seen
    }

    /// Bytes that a step reads when `streams` decode one token each, after `context` tokens of their own.
    pub fn bytes(&self, streams: usize, context: f64) -> Option<f64> {
        self.weight_bytes.map(|weights| weights as f64 + streams as f64 * context * self.kv_bytes_per_token as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AttentionSpec, LayerSpec, MlpSpec, RopeScaling, RopeSpec};

    #[test]
    fn operations_are_those_of_products_and_of_attention() {
        let attention = AttentionSpec {
            heads: 4,
            kv_heads: 2,
            head_dim: 8,
            qkv_bias: false,
            out_bias: false,
            qk_norm: false,
            window: None,
        };
        let layer = LayerSpec { attention, mlp: MlpSpec { inner: 100, bias: false } };
        let spec = DecoderSpec {
            hidden: 32,
            vocab: 50,
            norm_eps: 1e-6,
            rope: RopeSpec { theta: 1e4, dim: 8, scaling: RopeScaling::None },
            tied: true,
            context: 64,
            layers: vec![layer.clone(), layer],
        };
        let work = Work::of(&spec, Some(1000), 10);

        // q, out: 32 * 32 each; k, v: 32 * 16 each; gate, up, down: 32 * 100 each.
        let token = 2.0 * 2.0 * (2.0 * 1024.0 + 2.0 * 512.0 + 3.0 * 3200.0);
        let (head, seen) = (2.0 * 32.0 * 50.0, 2.0 * 4.0 * 32.0);
        assert_eq!(work.operations(0..3, 1), 3.0 * token + head + (1.0 + 2.0 + 3.0) * seen);
        assert_eq!(work.operations(5..6, 1), token + head + 6.0 * seen);
        assert_eq!(work.bytes(2, 5.0), Some(1100.0));
    }
}
