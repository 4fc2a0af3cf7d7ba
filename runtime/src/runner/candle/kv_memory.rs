use crate::model::DecoderSpec;
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

/// Keys and values of one layer, `[num_blocks * block_tokens, kv_heads * head_dim]` each.
#[derive(Debug)]
struct LayerKv {
    keys: Tensor,
    values: Tensor,
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
        let layer = |width: usize| -> Result<LayerKv> {
            let zeros = || Tensor::zeros((num_blocks * block_tokens, width), dtype, device);
            Ok(LayerKv { keys: zeros()?, values: zeros()? })
        };
        let layers = spec.layers.iter().map(|spec| layer(spec.attention.kv_width())).collect::<Result<_>>()?;
        Ok(Self { num_blocks, block_tokens, layers })
    }

    /// Writes keys and values, f32 `[tokens, width]`, to the places `indices`, u32 `[tokens, width]` (the same in each
    /// column). In place: nothing but these rows is touched.
    pub(super) fn write(&self, layer: usize, indices: &Tensor, keys: &Tensor, values: &Tensor) -> Result<()> {
        let memory = &self.layers[layer];
        let dtype = memory.keys.dtype();
        memory.keys.scatter_set(indices, &keys.to_dtype(dtype)?, 0)?;
        memory.values.scatter_set(indices, &values.to_dtype(dtype)?, 0)
    }

    /// Reads places: keys and values, f32 `[places, width]`. A run of f32 memory is not copied.
    pub(super) fn read(&self, layer: usize, places: &Places) -> Result<(Tensor, Tensor)> {
        let memory = &self.layers[layer];
        let gather = |from: &Tensor| match places {
            Places::Run(run) => from.narrow(0, run.start, run.len())?.to_dtype(DType::F32),
            Places::Scattered(indices) => from.index_select(indices, 0)?.to_dtype(DType::F32),
        };
        Ok((gather(&memory.keys)?, gather(&memory.values)?))
    }

    /// Copies whole blocks, in order.
    pub(super) fn copy(&self, moves: &[BlockMove]) -> Result<()> {
        for BlockMove { from, to } in moves {
            for memory in &self.layers {
                for tensor in [&memory.keys, &memory.values] {
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
