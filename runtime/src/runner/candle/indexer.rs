use super::attention::rotate;
use super::error::device_error;
use super::kv_memory::KvMemory;
use super::linear::Linear;
use super::load::Loader;
use super::step::{Step, Tile};
use crate::checkpoint::LoadError;
use crate::model::{IndexerSpec, LATENT_NORM_EPS};
use crate::runner::choice::choose_positions;
use candle_core::{Result, Tensor};

/// What chooses the positions that tokens attend to.
#[derive(Debug)]
pub(super) struct Indexer {
    spec: IndexerSpec,
    top_k: usize,
    query: Linear,
    key: Linear,
    /// Weight and bias of the norm of keys, f32 `[head_dim]`.
    key_norm: (Tensor, Tensor),
    weights: Linear,
}

/// For each tile of a step f32 `[queries, keys]`, zero where a position was chosen for a query and minus infinity where
/// not; `None` if none of its queries sees more than are chosen.
pub(super) type Chosen = Vec<Option<Tensor>>;

impl Indexer {
    pub(super) fn load(
        loader: &mut Loader<'_>,
        layer: usize,
        top_k: usize,
        spec: IndexerSpec,
    ) -> std::result::Result<Self, LoadError> {
        let blueprint = loader.blueprint;
        let path = |name: &str| blueprint.layer_path(layer, &format!("self_attn.indexer.{name}"));
        let mut vector = |name: &str| {
            let values = loader.vector(&path(name))?;
            Tensor::from_vec(values, spec.head_dim, loader.device).map_err(device_error(&path(name)))
        };
        Ok(Self {
            key_norm: (vector("k_norm.weight")?, vector("k_norm.bias")?),
            query: loader.linear(&path("wq_b"))?,
            key: loader.linear(&path("wk"))?,
            weights: loader.linear(&path("weights_proj"))?,
            top_k,
            spec,
        })
    }

    /// Writes the keys of all tokens and chooses for each. x f32 `[tokens, hidden]`, ranked f32 `[tokens, query_rank]`:
    /// what the queries of the attention are made of, whose tiles are those of so many `heads`.
    pub(super) fn choose(
        &self,
        x: &Tensor,
        ranked: &Tensor,
        layer: usize,
        kv: &KvMemory,
        step: &Step,
        heads: usize,
    ) -> Result<Chosen> {
        let spec = &self.spec;
        let tokens = x.dim(0)?;
        let (weight, bias) = &self.key_norm;
        let key = candle_nn::ops::layer_norm(&self.key.forward(x)?, weight, bias, LATENT_NORM_EPS as f32)?;
        let key = rotate(&key.reshape((tokens, 1, spec.head_dim))?, step, spec.pairs)?;
        kv.write_index_keys(layer, step.places(spec.head_dim), &key.reshape((tokens, spec.head_dim))?)?;

        let reach = step.reach(None, heads);
        let few = |tile: &Tile| tile.keys.end <= self.top_k;
        if reach.iter().flat_map(|row| &row.tiles).all(few) {
            return Ok(Chosen::new());
        }
        let q = self.query.forward(ranked)?.reshape((tokens, spec.heads, spec.head_dim))?;
        let q = rotate(&q, step, spec.pairs)?;
        let weights = (self.weights.forward(x)? * spec.scale())?.reshape((tokens, 1, spec.heads))?;
        let mut masks = Vec::new();
        for row in reach {
            let keys = kv.read_index_keys(layer, &row.places)?;
            for tile in &row.tiles {
                if few(tile) {
                    masks.push(None);
                    continue;
                }
                let queries = row.span.start + tile.queries.start..row.span.start + tile.queries.end;
                let some = |x: &Tensor| x.narrow(0, queries.start, queries.len())?.contiguous();
                let keys = keys.narrow(0, tile.keys.start, tile.keys.len())?.contiguous()?;
                let scores = self.score(&some(&q)?, &some(&weights)?, &keys)?;
                masks.push(Some(self.mask(&scores, &step.positions[queries], tile)?));
            }
        }
        Ok(masks)
    }

    /// q `[queries, heads, head_dim]`, weights `[queries, 1, heads]` and keys `[keys, head_dim]` to `[queries, keys]`.
    fn score(&self, q: &Tensor, weights: &Tensor, keys: &Tensor) -> Result<Tensor> {
        let IndexerSpec { heads, head_dim, .. } = self.spec;
        let (queries, count) = (q.dim(0)?, keys.dim(0)?);
        let scores = q.reshape((queries * heads, head_dim))?.matmul(&keys.t()?)?.relu()?;
        weights.matmul(&scores.reshape((queries, heads, count))?)?.reshape((queries, count))
    }

    /// The choice of each query, at the positions given. The scores come to the program, which chooses as the other
    /// executor does: of equal scores the lower positions.
    fn mask(&self, scores: &Tensor, positions: &[u32], tile: &Tile) -> Result<Tensor> {
        let mut mask = vec![f32::NEG_INFINITY; positions.len() * tile.keys.len()];
        let mut chosen = vec![0; self.top_k];
        let rows = mask.chunks_exact_mut(tile.keys.len());
        for ((row, scores), &position) in rows.zip(scores.to_vec2::<f32>()?).zip(positions) {
            // Without a window the keys of a tile begin at position 0.
            let seen = position as usize + 1 - tile.keys.start;
            let chosen = &mut chosen[..self.top_k.min(seen)];
            choose_positions(&scores[..seen], chosen);
            chosen.iter().for_each(|&at| row[at as usize] = 0.0);
        }
        Tensor::from_vec(mask, scores.shape(), scores.device())
    }
}
