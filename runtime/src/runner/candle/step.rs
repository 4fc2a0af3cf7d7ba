use super::kv_memory::{KvMemory, Places};
use super::rope_table::RopeTable;
use crate::ids::StateId;
use crate::model::{DecoderSpec, MixerSpec, QueryGrowth};
use crate::plan::StateSave;
use crate::runner::{Batch, BatchRow, RowState};
use candle_core::{Device, Result, Tensor};
use std::collections::BTreeMap;
use std::ops::Range;

/// What all layers of one step share: made once, used in each.
pub(super) struct Step {
    /// u32 `[tokens]`.
    pub(super) ids: Tensor,
    /// Cosine and sine of each token's position, f32 `[tokens, dim / 2]`.
    pub(super) cos: Tensor,
    pub(super) sin: Tensor,
    /// Where each token's keys and values go, by the width of a layer's keys: u32 `[tokens, width]`.
    places: BTreeMap<usize, Tensor>,
    /// What each row reads, by the window and the heads of a layer.
    reach: BTreeMap<(Option<usize>, usize), Vec<RowReach>>,
    /// Position of each token.
    pub(super) positions: Vec<u32>,
    device: Device,
    /// The tokens whose logits are wanted, u32 `[wanted]`.
    pub(super) wanted: Tensor,
    /// Rows with recurrent states; none if the model has no such layers.
    pub(super) rows: Vec<StateRow>,
}

/// A row of the batch and its recurrent states.
pub(super) struct StateRow {
    /// Its tokens in the batch.
    pub(super) span: Range<usize>,
    /// Position of its first token.
    pub(super) first: usize,
    pub(super) place: StateId,
    pub(super) saves: Vec<StateSave>,
}

/// What one row of the batch attends to.
pub(super) struct RowReach {
    /// Its tokens in the batch.
    pub(super) span: Range<usize>,
    /// The places of the positions that any of its tokens sees, in order.
    pub(super) places: Places,
    /// The row in pieces that are attended to at once.
    pub(super) tiles: Vec<Tile>,
}

/// Some queries of a row and the keys that they see.
pub(super) struct Tile {
    /// Tokens, counted from the row's first.
    pub(super) queries: Range<usize>,
    /// Keys, counted from the first of [`RowReach::places`].
    pub(super) keys: Range<usize>,
    /// f32 `[queries, keys]`, zero where a query sees a key and minus infinity where not; `None` if all see all.
    pub(super) mask: Option<Tensor>,
}

/// Elements of a tile's scores over all heads: 64 MiB in f32.
const MAX_SCORES: usize = 1 << 24;
const MIN_TILE: usize = 16;

impl Step {
    pub(super) fn new(
        batch: &Batch<'_>,
        spec: &DecoderSpec,
        kv: &KvMemory,
        rope: &mut RopeTable,
        device: &Device,
    ) -> Result<Self> {
        let tokens = batch.tokens.len();
        let mut indices = Vec::with_capacity(tokens);
        for row in batch.rows {
            let first = row.context_tokens - row.span.len();
            indices.extend((first..row.context_tokens).map(|position| place(row, position, kv.block_tokens)));
        }
        let indices = Tensor::from_vec(indices, (tokens, 1), device)?;
        let positions = Tensor::new(batch.positions, device)?;
        let end = batch.rows.iter().map(|row| row.context_tokens).max().unwrap_or(0);
        let (cos, sin) = rope.rows(&positions, end)?;

        let (mut places, mut reach) = (BTreeMap::new(), BTreeMap::new());
        for layer in &spec.layers {
            let (window, widths) = match &layer.mixer {
                MixerSpec::Attention(of) => (of.window, [of.kv_width(), 0]),
                MixerSpec::Latent(of) => (None, [of.cached(), of.index_key()]),
                MixerSpec::Delta(_) => continue,
            };
            let heads = layer.mixer.heads();
            for width in widths.into_iter().filter(|&width| width > 0) {
                if let std::collections::btree_map::Entry::Vacant(entry) = places.entry(width) {
                    entry.insert(indices.broadcast_as((tokens, width))?.contiguous()?);
                }
            }
            if let std::collections::btree_map::Entry::Vacant(entry) = reach.entry((window, heads)) {
                let row = |row| RowReach::new(row, window, heads, kv.block_tokens, device);
                entry.insert(batch.rows.iter().map(row).collect::<Result<Vec<_>>>()?);
            }
        }
        Ok(Self {
            ids: Tensor::new(batch.tokens, device)?,
            cos,
            sin,
            places,
            reach,
            positions: batch.positions.to_vec(),
            device: device.clone(),
            wanted: Tensor::new(batch.wanted, device)?,
            rows: batch.rows.iter().filter_map(StateRow::new).collect(),
        })
    }

    /// Where each token's keys go in layers of this width.
    pub(super) fn places(&self, kv_width: usize) -> &Tensor {
        &self.places[&kv_width]
    }

    /// What each row reads in layers of this window and so many heads.
    pub(super) fn reach(&self, window: Option<usize>, heads: usize) -> &[RowReach] {
        &self.reach[&(window, heads)]
    }

    /// The factor of each token's queries, f32 `[tokens, 1, 1]`.
    pub(super) fn growth(&self, growth: QueryGrowth) -> Result<Tensor> {
        let factors: Vec<f32> = self.positions.iter().map(|&position| growth.at(position as usize)).collect();
        Tensor::from_vec(factors, (self.positions.len(), 1, 1), &self.device)
    }
}

impl StateRow {
    fn new(row: &BatchRow<'_>) -> Option<Self> {
        let RowState { place, saves } = row.state?;
        let first = row.context_tokens - row.span.len();
        Some(Self { span: row.span.clone(), first, place, saves: saves.to_vec() })
    }
}

impl RowReach {
    fn new(
        row: &BatchRow<'_>,
        window: Option<usize>,
        heads: usize,
        block_tokens: usize,
        device: &Device,
    ) -> Result<Self> {
        let (tokens, end) = (row.span.len(), row.context_tokens);
        let first = end - tokens;
        // The oldest position that the query at `position` sees.
        let oldest = |position: usize| window.map_or(0, |window| (position + 1).saturating_sub(window));
        let start = oldest(first);
        let places: Vec<u32> = (start..end).map(|position| place(row, position, block_tokens)).collect();

        let tile = (MAX_SCORES / (heads * places.len())).max(MIN_TILE);
        let tiles = (0..tokens)
            .step_by(tile)
            .map(|from| {
                let queries = from..(from + tile).min(tokens);
                let (from_position, end_position) = (first + queries.start, first + queries.end);
                let keys = oldest(from_position)..end_position;
                // A single query sees exactly the keys that were chosen for it.
                let mask = match queries.len() {
                    1 => None,
                    _ => Some(mask(from_position..end_position, keys.clone(), oldest, device)?),
                };
                Ok(Tile { queries, keys: keys.start - start..keys.end - start, mask })
            })
            .collect::<Result<_>>()?;
        Ok(Self { span: row.span.clone(), places: Places::new(places, device)?, tiles })
    }
}

fn mask(queries: Range<usize>, keys: Range<usize>, oldest: impl Fn(usize) -> usize, device: &Device) -> Result<Tensor> {
    let shape = (queries.len(), keys.len());
    let mut mask = vec![f32::NEG_INFINITY; shape.0 * shape.1];
    for (row, query) in mask.chunks_exact_mut(keys.len()).zip(queries) {
        row[oldest(query) - keys.start..=query - keys.start].fill(0.0);
    }
    Tensor::from_vec(mask, shape, device)
}

/// Where a position of a row stands in KV memory.
fn place(row: &BatchRow<'_>, position: usize, block_tokens: usize) -> u32 {
    row.table[position / block_tokens].0 * block_tokens as u32 + (position % block_tokens) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::BlockId;

    /// Which positions each query of a row sees, found from its tiles.
    fn seen(row: &BatchRow<'_>, window: Option<usize>, heads: usize) -> Vec<Vec<u32>> {
        let reach = RowReach::new(row, window, heads, 16, &Device::Cpu).unwrap();
        let places: Vec<u32> = match &reach.places {
            Places::Run(run) => run.clone().map(|place| place as u32).collect(),
            Places::Scattered(indices) => indices.to_vec1::<u32>().unwrap(),
        };
        let mut all = Vec::new();
        for tile in &reach.tiles {
            let keys = &places[tile.keys.clone()];
            match &tile.mask {
                None => all.push(keys.to_vec()),
                Some(mask) => {
                    for row in mask.to_vec2::<f32>().unwrap() {
                        all.push(keys.iter().zip(row).filter(|(_, m)| *m == 0.0).map(|(&key, _)| key).collect());
                    }
                }
            }
        }
        all
    }

    #[test]
    fn every_query_sees_its_window_whatever_the_tiles() {
        let table: Vec<BlockId> = (0..8).map(BlockId).collect();
        let row = BatchRow { span: 5..65, context_tokens: 100, table: &table, state: None };
        for window in [None, Some(1), Some(7), Some(50)] {
            // Heads without number make the tiles as small as they get.
            for heads in [4, 1 << 20] {
                let seen = seen(&row, window, heads);
                assert_eq!(seen.len(), 60);
                for (query, keys) in (40_u32..).zip(seen) {
                    let oldest = window.map_or(0, |window| (query + 1).saturating_sub(window as u32));
                    assert_eq!(keys, (oldest..=query).collect::<Vec<_>>(), "{window:?} {heads} {query}");
                }
            }
        }
    }

    #[test]
    fn a_position_stands_in_the_block_of_its_table() {
        let table = [BlockId(7), BlockId(2)];
        let row = BatchRow { span: 0..1, context_tokens: 20, table: &table, state: None };
        assert_eq!(place(&row, 3, 16), 7 * 16 + 3);
        assert_eq!(place(&row, 17, 16), 2 * 16 + 1);
    }
}
