use super::kv_memory::KvMemory;
use super::linear::Linear;
use super::load::Loader;
use super::norm::RmsNorm;
use super::step::{RowReach, Step, Tile};
use crate::checkpoint::LoadError;
use crate::model::{AttentionSpec, OUT_NORMS, QkNorm, RopePairs};
use candle_core::Tensor;

/// Grouped-query attention over paged keys and values.
#[derive(Debug)]
pub(super) struct Attention {
    spec: AttentionSpec,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    /// Norms of q and k: over the head, or over all heads.
    norms: Option<(RmsNorm, RmsNorm)>,
    pairs: RopePairs,
    /// The norm of what `out` gives.
    out_norm: Option<RmsNorm>,
}

impl Attention {
    pub(super) fn load(loader: &mut Loader<'_>, layer: usize, spec: AttentionSpec) -> Result<Self, LoadError> {
        let blueprint = loader.blueprint;
        let path = |name: &str| blueprint.layer_path(layer, &format!("self_attn.{name}"));
        let eps = blueprint.spec.norm_eps;
        Ok(Self {
            q: loader.linear(&path("q_proj"))?,
            k: loader.linear(&path("k_proj"))?,
            v: loader.linear(&path("v_proj"))?,
            out: loader.linear(&path("o_proj"))?,
            norms: match spec.qk_norm {
                QkNorm::None => None,
                QkNorm::Heads | QkNorm::Whole => {
                    Some((loader.norm(&path("q_norm"), eps)?, loader.norm(&path("k_norm"), eps)?))
                }
            },
            pairs: blueprint.spec.rope.pairs,
            out_norm: match spec.out_norm {
                false => None,
                true => Some(loader.norm(&blueprint.layer_path(layer, OUT_NORMS[0]), eps)?),
            },
            spec,
        })
    }

    /// f32 `[tokens, hidden]` to the same. Writes the keys and values of all tokens first, so that a token sees those
    /// of its own row that came before it.
    pub(super) fn forward(&self, x: &Tensor, layer: usize, kv: &KvMemory, step: &Step) -> candle_core::Result<Tensor> {
        let spec = &self.spec;
        let tokens = x.dim(0)?;
        let (mut q, mut k, v) = (self.q.forward(x)?, self.k.forward(x)?, self.v.forward(x)?);
        if let (Some((q_norm, k_norm)), QkNorm::Whole) = (&self.norms, spec.qk_norm) {
            (q, k) = (q_norm.forward(&q)?, k_norm.forward(&k)?);
        }
        let q_and_gate = q.reshape((tokens, spec.heads, spec.query_width()))?;
        let mut q = q_and_gate.narrow(2, 0, spec.head_dim)?.contiguous()?;
        let mut k = k.reshape((tokens, spec.kv_heads, spec.head_dim))?;
        if let (Some((q_norm, k_norm)), QkNorm::Heads) = (&self.norms, spec.qk_norm) {
            (q, k) = (q_norm.forward(&q)?, k_norm.forward(&k)?);
        }
        let mut q = (rotate(&q, step, self.pairs)? * (spec.head_dim as f64).powf(-0.5))?;
        if let Some(growth) = spec.query_growth {
            q = q.broadcast_mul(&step.growth(growth)?)?;
        }
        let k = rotate(&k, step, self.pairs)?.reshape((tokens, spec.kv_width()))?;
        kv.write(layer, step.places(spec.kv_width()), &k, &v)?;

        let mut parts = Vec::new();
        for row in step.reach(spec.window, spec.heads) {
            self.attend_row(&q, layer, kv, row, &mut parts)?;
        }
        let mixed = match &*parts {
            [one] => one.clone(),
            parts => Tensor::cat(parts, 0)?,
        };
        let mixed = if spec.gated {
            let gate = q_and_gate.narrow(2, spec.head_dim, spec.head_dim)?.flatten(1, 2)?;
            (mixed * candle_nn::ops::sigmoid(&gate)?)?
        } else {
            mixed
        };
        let out = self.out.forward(&mixed)?;
        match &self.out_norm {
            None => Ok(out),
            Some(norm) => norm.forward(&out),
        }
    }

    /// Appends f32 `[queries, heads * head_dim]` for each tile of a row.
    fn attend_row(
        &self,
        q: &Tensor,
        layer: usize,
        kv: &KvMemory,
        row: &RowReach,
        parts: &mut Vec<Tensor>,
    ) -> candle_core::Result<()> {
        let spec = &self.spec;
        let (k, v) = kv.read(layer, &row.places)?;
        let by_head = |x: Tensor| -> candle_core::Result<Tensor> {
            let x = x.reshape((x.dim(0)?, spec.kv_heads, spec.head_dim))?.transpose(0, 1)?;
            // CPU products take any strides; others want rows.
            if x.device().is_cpu() { Ok(x) } else { x.contiguous() }
        };
        let (k, v) = (by_head(k)?, by_head(v)?); // [kv_heads, keys, head_dim]
        for tile in &row.tiles {
            let q = q.narrow(0, row.span.start + tile.queries.start, tile.queries.len())?;
            let k = k.narrow(1, tile.keys.start, tile.keys.len())?;
            let v = v.narrow(1, tile.keys.start, tile.keys.len())?;
            parts.push(self.attend(&q, &k, &v, tile)?);
        }
        Ok(())
    }

    /// q `[queries, heads, head_dim]` (scaled), k and v `[kv_heads, keys, head_dim]` to `[queries, heads * head_dim]`.
    ///
    /// Keys are not repeated for the query heads that share them: those become further rows of one product.
    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor, tile: &Tile) -> candle_core::Result<Tensor> {
        let AttentionSpec { heads, kv_heads, head_dim, .. } = self.spec;
        let group = self.spec.group();
        let (queries, keys) = (tile.queries.len(), tile.keys.len());
        let q = q.reshape((queries, kv_heads, group, head_dim))?.permute((1, 2, 0, 3))?;
        let q = q.reshape((kv_heads, group * queries, head_dim))?;
        let scores = q.matmul(&k.t()?)?;
        let scores = match &tile.mask {
            None => scores,
            Some(mask) => scores.reshape((heads, queries, keys))?.broadcast_add(mask)?.reshape((
                kv_heads,
                group * queries,
                keys,
            ))?,
        };
        let mixed = candle_nn::ops::softmax_last_dim(&scores)?.matmul(v)?;
        mixed.reshape((kv_heads, group, queries, head_dim))?.permute((2, 0, 1, 3))?.reshape((queries, heads * head_dim))
    }
}

/// Rotates f32 `[tokens, heads, head_dim]` by each token's position; components beyond the table's width pass through.
pub(super) fn rotate(x: &Tensor, step: &Step, pairs: RopePairs) -> candle_core::Result<Tensor> {
    let head_dim = x.dim(2)?;
    let rotating = 2 * step.cos.dim(1)?;
    let turn = |x: &Tensor| match pairs {
        RopePairs::Halves => candle_nn::rotary_emb::rope_thd(&x.unsqueeze(0)?, &step.cos, &step.sin)?.squeeze(0),
        RopePairs::Neighbours => {
            let x = x.transpose(0, 1)?.contiguous()?.unsqueeze(0)?; // [1, heads, tokens, head_dim]
            candle_nn::rotary_emb::rope_i(&x, &step.cos, &step.sin)?.squeeze(0)?.transpose(0, 1)?.contiguous()
        }
    };
    if rotating == head_dim {
        return turn(&x.contiguous()?);
    }
    let turned = turn(&x.narrow(2, 0, rotating)?.contiguous()?)?;
    Tensor::cat(&[turned, x.narrow(2, rotating, head_dim - rotating)?], 2)
}
