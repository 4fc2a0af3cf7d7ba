use super::attention::rotate;
use super::error::device_error;
use super::indexer::{Chosen, Indexer};
use super::kv_memory::KvMemory;
use super::linear::Linear;
use super::load::Loader;
use super::norm::RmsNorm;
use super::step::Step;
use crate::checkpoint::LoadError;
use crate::model::{LATENT_NORM_EPS, LatentSpec, RopePairs};
use candle_core::{Result, Tensor};

/// Latent attention over paged latents, in the form in which nothing is expanded.
#[derive(Debug)]
pub(super) struct LatentAttention {
    spec: LatentSpec,
    pairs: RopePairs,
    query: Query,
    latent: Linear,
    latent_norm: RmsNorm,
    /// From latents to keys, f32 `[heads, plain, rank]`.
    absorb: Tensor,
    /// From latents to values, f32 `[heads, rank, value]`.
    value: Tensor,
    out: Linear,
    indexer: Option<Indexer>,
}

#[derive(Debug)]
enum Query {
    Plain(Linear),
    Ranked { down: Linear, norm: RmsNorm, up: Linear },
}

impl LatentAttention {
    pub(super) fn load(
        loader: &mut Loader<'_>,
        layer: usize,
        spec: LatentSpec,
    ) -> std::result::Result<Self, LoadError> {
        let blueprint = loader.blueprint;
        let path = |name: &str| blueprint.layer_path(layer, &format!("self_attn.{name}"));
        let (absorb, value) = halves(loader, &path(""), &spec)?;
        let query = match spec.query_rank {
            None => Query::Plain(loader.linear(&path("q_proj"))?),
            Some(_) => Query::Ranked {
                down: loader.linear(&path("q_a_proj"))?,
                norm: loader.norm(&path("q_a_layernorm"), LATENT_NORM_EPS)?,
                up: loader.linear(&path("q_b_proj"))?,
            },
        };
        Ok(Self {
            query,
            latent: loader.linear(&path("kv_a_proj_with_mqa"))?,
            latent_norm: loader.norm(&path("kv_a_layernorm"), LATENT_NORM_EPS)?,
            absorb,
            value,
            out: loader.linear(&path("o_proj"))?,
            indexer: match (&spec.sparse, spec.indexer()) {
                (Some(sparse), Some(of)) => Some(Indexer::load(loader, layer, sparse.top_k, of.clone())?),
                _ => None,
            },
            pairs: blueprint.spec.rope.pairs,
            spec,
        })
    }

    /// f32 `[tokens, hidden]` to the same. Writes the latents of all tokens first. `chosen` is what the last indexer has
    /// chosen, and the next layers may attend to.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        layer: usize,
        kv: &KvMemory,
        step: &Step,
        chosen: &mut Chosen,
    ) -> Result<Tensor> {
        let spec = &self.spec;
        let tokens = x.dim(0)?;
        let latent = self.latent.forward(x)?;
        let key = latent.narrow(1, spec.rank, spec.rotary)?.contiguous()?.reshape((tokens, 1, spec.rotary))?;
        let key = rotate(&key, step, self.pairs)?.reshape((tokens, spec.rotary))?;
        let latent = self.latent_norm.forward(&latent.narrow(1, 0, spec.rank)?.contiguous()?)?;
        kv.write_latents(layer, step.places(spec.cached()), &Tensor::cat(&[latent, key], 1)?)?;

        let q = match &self.query {
            Query::Plain(query) => query.forward(x)?,
            Query::Ranked { down, norm, up } => {
                let ranked = norm.forward(&down.forward(x)?)?;
                if let Some(indexer) = &self.indexer {
                    *chosen = indexer.choose(x, &ranked, layer, kv, step, spec.heads)?;
                }
                up.forward(&ranked)?
            }
        };
        let q = (q.reshape((tokens, spec.heads, spec.query()))? * spec.scale)?;
        let turned = rotate(&q.narrow(2, spec.plain, spec.rotary)?.contiguous()?, step, self.pairs)?;
        let plain = q.narrow(2, 0, spec.plain)?.transpose(0, 1)?.contiguous()?;
        let absorbed = plain.matmul(&self.absorb)?; // [heads, tokens, rank]
        let q = Tensor::cat(&[absorbed, turned.transpose(0, 1)?.contiguous()?], 2)?;

        let mut parts = Vec::new();
        let mut masks = chosen.iter().filter(|_| spec.sparse.is_some());
        for row in step.reach(None, spec.heads) {
            let latents = kv.read_latents(layer, &row.places)?;
            for tile in &row.tiles {
                let q = q.narrow(1, row.span.start + tile.queries.start, tile.queries.len())?;
                let latents = latents.narrow(0, tile.keys.start, tile.keys.len())?;
                let mask = masks.next().and_then(Option::as_ref).or(tile.mask.as_ref());
                parts.push(self.attend(&q.contiguous()?, &latents.contiguous()?, mask)?);
            }
        }
        self.out.forward(&Tensor::cat(&parts, 0)?)
    }

    /// q `[heads, queries, rank + rotary]` (scaled), latents `[keys, rank + rotary]` and a mask `[queries, keys]` to
    /// `[queries, heads * value]`.
    fn attend(&self, q: &Tensor, latents: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let LatentSpec { heads, rank, value, .. } = self.spec;
        let (queries, keys) = (q.dim(1)?, latents.dim(0)?);
        let rows = q.reshape((heads * queries, self.spec.cached()))?;
        let scores = rows.matmul(&latents.t()?)?.reshape((heads, queries, keys))?;
        let scores = match mask {
            None => scores,
            Some(mask) => scores.broadcast_add(mask)?,
        };
        let weights = candle_nn::ops::softmax_last_dim(&scores)?.reshape((heads * queries, keys))?;
        let mixed = weights.matmul(&latents.narrow(1, 0, rank)?.contiguous()?)?.reshape((heads, queries, rank))?;
        mixed.matmul(&self.value)?.transpose(0, 1)?.contiguous()?.reshape((queries, heads * value))
    }
}

/// What makes keys and values of a latent, by head: f32 `[heads, plain, rank]` and `[heads, rank, value]`.
fn halves(loader: &mut Loader<'_>, path: &str, spec: &LatentSpec) -> std::result::Result<(Tensor, Tensor), LoadError> {
    let &LatentSpec { heads, plain, rank, value, .. } = spec;
    let whole = format!("{path}kv_b_proj");
    let made = if loader.blueprint.modules().has(&whole) {
        let both = loader.widened(&whole)?;
        let both = both.reshape((heads, plain + value, rank)).map_err(device_error(&whole))?;
        both.narrow(1, 0, plain)
            .and_then(|keys| Ok((keys.contiguous()?, both.narrow(1, plain, value)?.transpose(1, 2)?)))
    } else {
        let (keys, values) =
            (loader.widened(&format!("{path}embed_q"))?, loader.widened(&format!("{path}unembed_out"))?);
        let by_head = |x: Tensor, rows, columns| x.reshape((heads, rows, columns))?.transpose(1, 2);
        by_head(keys, rank, plain).and_then(|keys| Ok((keys.contiguous()?, by_head(values, value, rank)?)))
    };
    let (keys, values) = made.map_err(device_error(path))?;
    Ok((keys, values.contiguous().map_err(device_error(path))?))
}
