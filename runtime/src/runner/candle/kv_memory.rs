use crate::model::{DecoderSpec, LayerSpec, MixerSpec};
use crate::plan::BlockMove;
use candle_core::{DType, Device, Result, Tensor};
use std::ops::Range;

/// Keys and values of all layers, in blocks of positions. A position's place, its *index*, is
/// `block * block_tokens + position % block_tokens`.
#[derive(Debug)]
pub(super) struct KvMemory {
    pub(super) num_blocks: usize,
    pub(super) block_tokens: usize,
    layers: Vec<LayerKv>,
}

/// Keys and values of one layer, `[num_blocks * block_tokens, kv_heads * head_dim]` each; latents are both at once.
#[derive(Debug)]
struct LayerKv {
    keys: Tensor,
    values: Option<Tensor>,
    /// Keys of an indexer, `[num_blocks * block_tokens, head_dim]`.
    index: Option<Tensor>,
}

/// Where some consecutive positions of a sequence stand.
#[derive(Debug)]
pub(super) enum Places {
    /// One after the other, as in memory that was given out in order.
    Run(Range<usize>),
    /// Anywhere: u32 `[positions]`.
    Scattered(Tensor),
}

impl Places {
    /// `indices` is not empty.
    pub(super) fn new(indices: Vec<u32>, device: &Device) -> Result<Self> {
        if indices.is_sorted_by(|a, b| a + 1 == *b) {
            let start = indices[0] as usize;
            return Ok(Self::Run(start..start + indices.len()));
        }
        let len = indices.len();
        Ok(Self::Scattered(Tensor::from_vec(indices, len, device)?))
    }
}

impl KvMemory {
    pub(super) fn new(
        spec: &DecoderSpec,
        dtype: DType,
        device: &Device,
        num_blocks: usize,
        block_tokens: usize,
    ) -> Result<Self> {
        let zeros = |width: usize| Tensor::zeros((num_blocks * block_tokens, width), dtype, device);
        let layer = |spec: &LayerSpec| -> Result<LayerKv> {
            Ok(match &spec.mixer {
                MixerSpec::Attention(of) => {
                    LayerKv { keys: zeros(of.kv_width())?, values: Some(zeros(of.kv_width())?), index: None }
                }
                MixerSpec::Latent(of) => LayerKv {
                    keys: zeros(of.cached())?,
                    values: None,
                    index: of.indexer().map(|indexer| zeros(indexer.head_dim)).transpose()?,
                },
            })
        };
        let layers = spec.layers.iter().map(layer).collect::<Result<_>>()?;
        Ok(Self { num_blocks, block_tokens, layers })
    }

    /// Writes keys and values, f32 `[tokens, width]`, to the places `indices`, u32 `[tokens, width]` (the same in each
    /// column). In place: nothing but these rows is touched.
    pub(super) fn write(&self, layer: usize, indices: &Tensor, keys: &Tensor, values: &Tensor) -> Result<()> {
        let memory = &self.layers[layer];
        self.write_latents(layer, indices, keys)?;
        match &memory.values {
            Some(to) => to.scatter_set(indices, &values.to_dtype(to.dtype())?, 0),
            None => candle_core::bail!("layer {layer} holds no values"),
        }
    }

    /// Writes what is a key and a value at once.
    pub(super) fn write_latents(&self, layer: usize, indices: &Tensor, latents: &Tensor) -> Result<()> {
        let to = &self.layers[layer].keys;
        to.scatter_set(indices, &latents.to_dtype(to.dtype())?, 0)
    }

    /// Writes keys of an indexer.
    pub(super) fn write_index_keys(&self, layer: usize, indices: &Tensor, keys: &Tensor) -> Result<()> {
        let to = self.index(layer)?;
        to.scatter_set(indices, &keys.to_dtype(to.dtype())?, 0)
    }

    /// Reads keys of an indexer.
    pub(super) fn read_index_keys(&self, layer: usize, places: &Places) -> Result<Tensor> {
        gather(self.index(layer)?, places)
    }

    fn index(&self, layer: usize) -> Result<&Tensor> {
        match &self.layers[layer].index {
            Some(index) => Ok(index),
            None => candle_core::bail!("layer {layer} holds no keys of an indexer"),
        }
    }

    /// Reads places: keys and values, f32 `[places, width]`. A run of f32 memory is not copied.
    pub(super) fn read(&self, layer: usize, places: &Places) -> Result<(Tensor, Tensor)> {
        let keys = self.read_latents(layer, places)?;
        match &self.layers[layer].values {
            Some(values) => Ok((keys, gather(values, places)?)),
            None => candle_core::bail!("layer {layer} holds no values"),
        }
    }

    /// Reads what is a key and a value at once.
    pub(super) fn read_latents(&self, layer: usize, places: &Places) -> Result<Tensor> {
        gather(&self.layers[layer].keys, places)
    }

    /// Copies whole blocks, in order.
    pub(super) fn copy(&self, moves: &[BlockMove]) -> Result<()> {
        for BlockMove { from, to } in moves {
            for memory in &self.layers {
                for tensor in std::iter::once(&memory.keys).chain(&memory.values).chain(&memory.index) {
                    let start = from.0 as usize * self.block_tokens;
                    let end = start + self.block_tokens;
                    let places = Tensor::arange(start as u32, end as u32, tensor.device())?;
                    let block = tensor.index_select(&places, 0)?;
                    tensor.slice_set(&block, 0, to.0 as usize * self.block_tokens)?;
                }
            }
        }
        Ok(())
    }
}

fn gather(from: &Tensor, places: &Places) -> Result<Tensor> {
    match places {
        Places::Run(run) => from.narrow(0, run.start, run.len())?.to_dtype(DType::F32),
        Places::Scattered(indices) => from.index_select(indices, 0)?.to_dtype(DType::F32),
    }
}
