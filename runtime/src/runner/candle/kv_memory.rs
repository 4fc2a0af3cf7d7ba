use crate::ids::StateId;
use crate::model::{DecoderSpec, LayerSpec, MixerSpec};
use crate::plan::{BlockMove, StateMove};
use crate::runner::MemorySize;
use candle_core::{DType, Device, Result, Tensor};
use std::ops::Range;

/// Keys and values of all layers, in blocks of positions. A position's place, its *index*, is
/// `block * block_tokens + position % block_tokens`.
#[derive(Debug)]
pub(super) struct KvMemory {
    pub(super) num_blocks: usize,
    pub(super) num_states: usize,
    pub(super) block_tokens: usize,
    layers: Vec<LayerMemory>,
}

/// What a layer keeps.
#[derive(Debug)]
enum LayerMemory {
    Blocks(LayerKv),
    /// Recurrent states of all places.
    States(State),
}

/// A recurrent state in f32; in memory there is one more dimension in front, of all places.
#[derive(Debug)]
pub(super) struct State {
    /// What the convolution saw last, the oldest first, `[taps - 1, channels]`.
    pub(super) inputs: Tensor,
    /// `[value_heads, key_dim, value_dim]`.
    pub(super) matrices: Tensor,
}

/// A state to be written when the step has gone well: one that was cut short can be computed again.
#[derive(Debug)]
pub(super) struct NewState {
    pub(super) layer: usize,
    pub(super) place: StateId,
    pub(super) state: State,
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
        size: MemorySize,
        block_tokens: usize,
    ) -> Result<Self> {
        let num_blocks = size.num_blocks.get();
        let recurrent = spec.layers.iter().any(|layer| layer.mixer.state() > 0);
        let num_states = if recurrent { size.num_states } else { 0 };
        let states = |shape: &[usize]| Tensor::zeros([&[num_states], shape].concat(), DType::F32, device);
        let zeros = |width: usize| Tensor::zeros((num_blocks * block_tokens, width), dtype, device);
        let layer = |spec: &LayerSpec| -> Result<LayerMemory> {
            Ok(match &spec.mixer {
                MixerSpec::Attention(of) => {
                    let values = Some(zeros(of.kv_width())?);
                    LayerMemory::Blocks(LayerKv { keys: zeros(of.kv_width())?, values, index: None })
                }
                MixerSpec::Latent(of) => LayerMemory::Blocks(LayerKv {
                    keys: zeros(of.cached())?,
                    values: None,
                    index: of.indexer().map(|indexer| zeros(indexer.head_dim)).transpose()?,
                }),
                MixerSpec::Delta(of) => LayerMemory::States(State {
                    inputs: states(&[of.taps - 1, of.channels()])?,
                    matrices: states(&[of.value_heads, of.key_dim, of.value_dim])?,
                }),
            })
        };
        let layers = spec.layers.iter().map(layer).collect::<Result<_>>()?;
        Ok(Self { num_blocks, num_states, block_tokens, layers })
    }

    fn blocks(&self, layer: usize) -> Result<&LayerKv> {
        match &self.layers[layer] {
            LayerMemory::Blocks(blocks) => Ok(blocks),
            LayerMemory::States(_) => candle_core::bail!("layer {layer} holds no keys"),
        }
    }

    fn states(&self, layer: usize) -> Result<&State> {
        match &self.layers[layer] {
            LayerMemory::States(states) => Ok(states),
            LayerMemory::Blocks(_) => candle_core::bail!("layer {layer} holds no recurrent states"),
        }
    }

    /// Reads the recurrent state of a sequence.
    pub(super) fn read_state(&self, layer: usize, place: StateId) -> Result<State> {
        let State { inputs, matrices } = self.states(layer)?;
        let read = |tensor: &Tensor| tensor.get(place.0 as usize)?.copy();
        Ok(State { inputs: read(inputs)?, matrices: read(matrices)? })
    }

    /// Writes recurrent states, in order.
    pub(super) fn write_states(&self, new: &[NewState]) -> Result<()> {
        for NewState { layer, place, state } in new {
            let memory = self.states(*layer)?;
            for (to, from) in [(&memory.inputs, &state.inputs), (&memory.matrices, &state.matrices)] {
                to.slice_set(&from.unsqueeze(0)?.contiguous()?, 0, place.0 as usize)?;
            }
        }
        Ok(())
    }

    /// Copies recurrent states, in order.
    pub(super) fn copy_states(&self, moves: &[StateMove]) -> Result<()> {
        for &StateMove { from, to } in moves {
            for layer in 0..self.layers.len() {
                if let LayerMemory::States(_) = self.layers[layer] {
                    let state = self.read_state(layer, from)?;
                    self.write_states(&[NewState { layer, place: to, state }])?;
                }
            }
        }
        Ok(())
    }

    /// Writes keys and values, f32 `[tokens, width]`, to the places `indices`, u32 `[tokens, width]` (the same in each
    /// column). In place: nothing but these rows is touched.
    pub(super) fn write(&self, layer: usize, indices: &Tensor, keys: &Tensor, values: &Tensor) -> Result<()> {
        let memory = self.blocks(layer)?;
        self.write_latents(layer, indices, keys)?;
        match &memory.values {
            Some(to) => to.scatter_set(indices, &values.to_dtype(to.dtype())?, 0),
            None => candle_core::bail!("layer {layer} holds no values"),
        }
    }

    /// Writes what is a key and a value at once.
    pub(super) fn write_latents(&self, layer: usize, indices: &Tensor, latents: &Tensor) -> Result<()> {
        let to = &self.blocks(layer)?.keys;
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
        match &self.blocks(layer)?.index {
            Some(index) => Ok(index),
            None => candle_core::bail!("layer {layer} holds no keys of an indexer"),
        }
    }

    /// Reads places: keys and values, f32 `[places, width]`. A run of f32 memory is not copied.
    pub(super) fn read(&self, layer: usize, places: &Places) -> Result<(Tensor, Tensor)> {
        let keys = self.read_latents(layer, places)?;
        match &self.blocks(layer)?.values {
            Some(values) => Ok((keys, gather(values, places)?)),
            None => candle_core::bail!("layer {layer} holds no values"),
        }
    }

    /// Reads what is a key and a value at once.
    pub(super) fn read_latents(&self, layer: usize, places: &Places) -> Result<Tensor> {
        gather(&self.blocks(layer)?.keys, places)
    }

    /// Copies whole blocks, in order.
    pub(super) fn copy(&self, moves: &[BlockMove]) -> Result<()> {
        for BlockMove { from, to } in moves {
            for memory in &self.layers {
                let LayerMemory::Blocks(memory) = memory else { continue };
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
