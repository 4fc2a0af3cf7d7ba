use crate::model::{DecoderSpec, FeedForwardSpec, MixerSpec};
use crate::runner::KvShape;
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
    /// Bytes of the recurrent states of a sequence, which a step reads and writes.
    pub state_bytes: usize,
}

impl Work {
    /// Counts. Windows of attention are taken as wide as the context, and no position as left out by
    /// an indexer.
    pub fn of(spec: &DecoderSpec, weight_bytes: Option<u64>, kv: &KvShape) -> Self {
        let (kv_bytes_per_token, state_bytes) = (kv.bytes_per_token(), kv.state_bytes);
        let (mut layers, mut attention) = (0, 0);
        for layer in &spec.layers {
            let (projections, seen) = mixer(spec.hidden, &layer.mixer);
            let router = match &layer.mlp {
                FeedForwardSpec::Dense(_) => 0,
                FeedForwardSpec::Routed(of) => of.router.experts,
            };
            layers += 2 * (projections + spec.hidden * (3 * layer.mlp.active() + router));
            attention += 2 * seen;
        }
        let head = (2 * spec.hidden * spec.vocab) as f64;
        Self { layers: layers as f64, head, attention: attention as f64, weight_bytes, kv_bytes_per_token, state_bytes }
    }

    /// Operations of computing the tokens at `positions`, and the logits of `rows` of them.
    pub fn operations(&self, positions: Range<usize>, rows: usize) -> f64 {
        let (begin, end) = (positions.start as f64, positions.end as f64);
        // A token sees itself and all before it.
        let seen = (end * (end + 1.0) - begin * (begin + 1.0)) / 2.0;
        self.layers * (end - begin) + self.head * rows as f64 + self.attention * seen
    }

    /// Bytes that a step reads, and writes where it does both, when `streams` decode one token each, after `context` tokens of their own.
    pub fn bytes(&self, streams: usize, context: f64) -> Option<f64> {
        let of_stream = context * self.kv_bytes_per_token as f64 + 2.0 * self.state_bytes as f64;
        self.weight_bytes.map(|weights| weights as f64 + streams as f64 * of_stream)
    }
}

/// Multiplications of a token, and of a token with a position that it sees.
fn mixer(hidden: usize, of: &MixerSpec) -> (usize, usize) {
    match of {
        MixerSpec::Attention(of) => {
            let heads = of.heads * of.head_dim;
            (hidden * (of.heads * of.query_width() + heads + 2 * of.kv_width()), 2 * heads)
        }
        MixerSpec::Latent(of) => {
            let queries = of.heads * of.query();
            let queries = of.query_rank.map_or(hidden * queries, |rank| rank * (hidden + queries));
            let heads = of.heads * (of.rank * (of.plain + of.value) + of.value * hidden);
            let (mut projections, mut seen) =
                (queries + hidden * of.cached() + heads, of.heads * (of.cached() + of.rank));
            if let (Some(indexer), Some(rank)) = (of.indexer(), of.query_rank) {
                let queries = indexer.heads * indexer.head_dim;
                projections += rank * queries + hidden * (indexer.head_dim + indexer.heads);
                seen += queries;
            }
            (projections, seen)
        }
        MixerSpec::Delta(of) => {
            let projections = hidden * (2 * of.keys() + 3 * of.values() + 2 * of.value_heads);
            (projections + of.taps * of.channels() + 3 * of.key_dim * of.values(), 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AttentionSpec, LayerSpec, MlpSpec, RopePairs, RopeScaling, RopeSpec};

    #[test]
    fn operations_are_those_of_products_and_of_attention() {
        let attention = AttentionSpec::plain(4, 2, 8);
        let mlp = FeedForwardSpec::Dense(MlpSpec { inner: 100, bias: false, out_norm: false });
        let layer = LayerSpec { mixer: MixerSpec::Attention(attention), mlp };
        let spec = DecoderSpec {
            hidden: 32,
            vocab: 50,
            norm_eps: 1e-6,
            rope: RopeSpec { theta: 1e4, dim: 8, pairs: RopePairs::Halves, scaling: RopeScaling::None },
            tied: true,
            centred_norms: false,
            context: 64,
            layers: vec![layer.clone(), layer],
        };
        let kv = KvShape { spans: 1.into(), block_bytes: 10, state_bytes: 7 };
        let work = Work::of(&spec, Some(1000), &kv);

        // q, out: 32 * 32 each; k, v: 32 * 16 each; gate, up, down: 32 * 100 each.
        let token = 2.0 * 2.0 * (2.0 * 1024.0 + 2.0 * 512.0 + 3.0 * 3200.0);
        let (head, seen) = (2.0 * 32.0 * 50.0, 2.0 * 4.0 * 32.0);
        assert_eq!(work.operations(0..3, 1), 3.0 * token + head + (1.0 + 2.0 + 3.0) * seen);
        assert_eq!(work.operations(5..6, 1), token + head + 6.0 * seen);
        assert_eq!(work.bytes(2, 5.0), Some(1100.0 + 28.0));
    }
}
