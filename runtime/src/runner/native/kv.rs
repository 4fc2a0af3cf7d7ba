use super::memory::{HugeBytes, Shared};
use crate::config::{ComputeMode, HugePages, InvalidSetting, KvCodes, KvFormat};
use crate::kernels::{Float, KvContent, KvLayout, MAX_KV_GROUPS, TILE};
use crate::kv::BlockSpans;
use crate::model::{AttentionSpec, DecoderSpec, DeltaSpec, LayerSpec, MixerSpec};
use crate::plan::{BlockMove, StateMove};
use crate::runner::{KvShape, MemorySize};
use std::io;

/// What all layers keep of the sequences: keys and values in blocks, or recurrent states.
#[derive(Debug)]
pub(super) struct KvMemory {
    pub(super) spans: BlockSpans,
    pub(super) num_blocks: usize,
    pub(super) num_states: usize,
    layers: Vec<(LayerLayout, HugeBytes)>,
}

/// What a layer keeps.
#[derive(Debug, Clone, Copy)]
pub(super) enum LayerLayout {
    /// Blocks of keys and values.
    Blocks(KvLayout),
    /// A state for each sequence, of so many floats: matrices of value heads in tiles of sixteen components, `[heads, tiles,
    /// key_dim, 16]`, and the inputs of the convolution before the next token, `[taps - 1, channels]`, the oldest first.
    State(usize),
}

/// The memory of a layer, to be divided among threads.
#[derive(Debug, Clone, Copy)]
pub(super) enum LayerMemory {
    /// See [`LayerLayout::Blocks`].
    Blocks(KvLayout, Shared<u8>),
    /// States, and the floats of each.
    State(Shared<f32>, usize),
}

impl LayerLayout {
    /// Bytes of a block or of a state.
    fn piece_bytes(self) -> usize {
        match self {
            Self::Blocks(layout) => layout.block_bytes(),
            Self::State(floats) => floats * size_of::<f32>(),
        }
    }

    fn blocks(&self) -> Option<&KvLayout> {
        match self {
            Self::Blocks(layout) => Some(layout),
            Self::State(_) => None,
        }
    }
}

impl DeltaSpec {
    /// Floats of the matrices of all value heads, each padded to whole tiles of components.
    pub(super) fn matrices(&self) -> usize {
        self.value_heads * self.value_dim.next_multiple_of(TILE) * self.key_dim
    }

    /// Floats of a state.
    pub(super) fn state_floats(&self) -> usize {
        self.matrices() + (self.taps - 1) * self.channels()
    }
}

impl KvMemory {
    pub(super) fn new(layouts: Layouts, size: MemorySize, huge_pages: HugePages) -> io::Result<Self> {
        let num_blocks = size.num_blocks.get();
        let recurrent = layouts.layers.iter().any(|layout| layout.blocks().is_none());
        let num_states = if recurrent { size.num_states } else { 0 };
        let layer = |layout: LayerLayout| {
            let pieces = if layout.blocks().is_some() { num_blocks } else { num_states };
            Ok((layout, HugeBytes::new(pieces * layout.piece_bytes(), huge_pages)?))
        };
        let layers = layouts.layers.into_iter().map(layer).collect::<io::Result<_>>()?;
        Ok(Self { spans: layouts.spans, num_blocks, num_states, layers })
    }

    /// The memory of each layer.
    pub(super) fn layers(&mut self) -> impl Iterator<Item = LayerMemory> {
        self.layers.iter_mut().map(|(layout, bytes)| match *layout {
            LayerLayout::Blocks(layout) => LayerMemory::Blocks(layout, Shared::new(bytes.as_mut_slice())),
            LayerLayout::State(floats) => LayerMemory::State(Shared::new(bytes.as_mut_floats()), floats),
        })
    }

    /// Copies whole blocks, in order.
    pub(super) fn copy(&mut self, moves: &[BlockMove]) {
        let blocks = self.layers.iter_mut().filter(|(layout, _)| layout.blocks().is_some());
        let moves = moves.iter().map(|BlockMove { from, to }| (from.0, to.0));
        blocks.for_each(|(layout, bytes)| copy_pieces(layout.piece_bytes(), bytes, moves.clone()));
    }

    /// Copies recurrent states, in order.
    pub(super) fn copy_states(&mut self, moves: &[StateMove]) {
        let states = self.layers.iter_mut().filter(|(layout, _)| layout.blocks().is_none());
        let moves = moves.iter().map(|StateMove { from, to }| (from.0, to.0));
        states.for_each(|(layout, bytes)| copy_pieces(layout.piece_bytes(), bytes, moves.clone()));
    }
}

fn copy_pieces(size: usize, bytes: &mut HugeBytes, moves: impl Iterator<Item = (u32, u32)>) {
    for (from, to) in moves {
        let from = from as usize * size;
        bytes.as_mut_slice().copy_within(from..from + size, to as usize * size);
    }
}

/// Sizes of the KV memory that a model gets.
///
/// # Errors
/// [`InvalidSetting`] for what the kernels cannot read, or the model's heads cannot be cut into.
pub fn kv_shape(spec: &DecoderSpec, mode: ComputeMode, format: &KvFormat) -> Result<KvShape, InvalidSetting> {
    let layouts = Layouts::new(spec, mode, format)?;
    let bytes = |blocks: bool| {
        let layers = layouts.layers.iter().filter(|layout| layout.blocks().is_some() == blocks);
        layers.map(|layout| layout.piece_bytes()).sum()
    };
    Ok(KvShape { spans: layouts.spans, block_bytes: bytes(true), state_bytes: bytes(false) })
}

/// Where keys and values of each layer stand in a block.
pub(super) struct Layouts {
    spans: BlockSpans,
    layers: Vec<LayerLayout>,
}

impl Layouts {
    pub(super) fn new(spec: &DecoderSpec, mode: ComputeMode, format: &KvFormat) -> Result<Self, InvalidSetting> {
        let block_tokens = format.block_tokens.get();
        if !block_tokens.is_multiple_of(TILE) {
            return Err(InvalidSetting {
                key: "kv.block_tokens",
                reason: format!("{block_tokens} is no multiple of {TILE}, as the native executor needs it"),
            });
        }
        if let Some(codes) = format.codes {
            spec.layers.iter().try_for_each(|layer| match &layer.mixer {
                MixerSpec::Attention(attention) => check_groups(codes, attention),
                MixerSpec::Latent(_) => Err(InvalidSetting {
                    key: "kv.bits",
                    reason: "the latents of this model's attention are kept in 16 bits: set it to 16".to_owned(),
                }),
                MixerSpec::Delta(_) => Ok(()),
            })?;
        }
        let kind = kind(mode);
        let layout = |spans| {
            // Components beyond a head's own are zero and stay so.
            move |layer: &LayerSpec| match &layer.mixer {
                MixerSpec::Attention(of) => LayerLayout::Blocks(KvLayout {
                    content: KvContent::KeysAndValues,
                    kind,
                    codes: format.codes,
                    kv_heads: of.kv_heads,
                    head_dim: of.head_dim.next_multiple_of(TILE),
                    spans,
                }),
                MixerSpec::Latent(of) => LayerLayout::Blocks(KvLayout {
                    content: KvContent::Latents { index_key: of.index_key() },
                    kind,
                    codes: None,
                    kv_heads: 1,
                    head_dim: of.stride(),
                    spans,
                }),
                MixerSpec::Delta(of) => LayerLayout::State(of.state_floats()),
            }
        };
        let mut spans = BlockSpans::from(block_tokens);
        let head_blocks = format.quantized_start.div_ceil(block_tokens);
        if format.codes.is_some() && head_blocks > 0 {
            // So many that a block of floats has room for them.
            let times = |layout: &KvLayout| layout.float_strip_bytes().div_ceil(layout.strip_bytes());
            let layouts = spec.layers.iter().map(layout(spans));
            let times = layouts.filter_map(|layout| layout.blocks().map(times)).max().unwrap_or(1);
            spans = BlockSpans::new(head_blocks, block_tokens, times * block_tokens);
        }
        Ok(Self { spans, layers: spec.layers.iter().map(layout(spans)).collect() })
    }
}

/// Type of keys and values that are not quantised.
pub(super) fn kind(mode: ComputeMode) -> Float {
    match mode {
        ComputeMode::F32 => Float::F32,
        ComputeMode::Int8 | ComputeMode::Int16 => Float::F16,
    }
}

fn check_groups(codes: KvCodes, attention: &AttentionSpec) -> Result<(), InvalidSetting> {
    let (group, dim) = (codes.group, attention.head_dim);
    let fits = |group: usize| dim.is_multiple_of(group) && dim / group <= MAX_KV_GROUPS;
    if fits(group) {
        return Ok(());
    }
    let others: Vec<String> = [32, 64, 128].into_iter().filter(|&group| fits(group)).map(|n| n.to_string()).collect();
    let advice = match &others[..] {
        [] => "set kv.bits to 16".to_owned(),
        others => format!("set it to {}, or kv.bits to 16", others.join(" or ")),
    };
    let reason = format!("groups of {group} do not divide the heads of this model, which are {dim} wide: {advice}");
    Err(InvalidSetting { key: "kv.group_size", reason })
}
