use super::memory::{HugeBytes, Shared};
use crate::config::{ComputeMode, HugePages, InvalidSetting, KvCodes, KvFormat};
use crate::kernels::{Float, KvContent, KvLayout, MAX_KV_GROUPS, TILE};
use crate::kv::BlockSpans;
use crate::model::{AttentionSpec, DecoderSpec, LayerSpec, MixerSpec};
use crate::plan::BlockMove;
use crate::runner::KvShape;
use std::io;

/// Keys and values of all layers, in blocks.
#[derive(Debug)]
pub(super) struct KvMemory {
    pub(super) spans: BlockSpans,
    pub(super) num_blocks: usize,
    layers: Vec<(KvLayout, HugeBytes)>,
}

impl KvMemory {
    pub(super) fn new(layouts: Layouts, num_blocks: usize, huge_pages: HugePages) -> io::Result<Self> {
        let layer = |layout: KvLayout| Ok((layout, HugeBytes::new(num_blocks * layout.block_bytes(), huge_pages)?));
        let layers = layouts.layers.into_iter().map(layer).collect::<io::Result<_>>()?;
        Ok(Self { spans: layouts.spans, num_blocks, layers })
    }

    /// Layout and blocks of each layer.
    pub(super) fn layers(&mut self) -> impl Iterator<Item = (KvLayout, Shared<u8>)> {
        self.layers.iter_mut().map(|(layout, bytes)| (*layout, Shared::new(bytes.as_mut_slice())))
    }

    /// Copies whole blocks, in order.
    pub(super) fn copy(&mut self, moves: &[BlockMove]) {
        for (layout, bytes) in &mut self.layers {
            let size = layout.block_bytes();
            for BlockMove { from, to } in moves {
                let from = from.0 as usize * size;
                bytes.as_mut_slice().copy_within(from..from + size, to.0 as usize * size);
            }
        }
    }
}

/// Sizes of the KV memory that a model gets.
///
/// # Errors
/// [`InvalidSetting`] for what the kernels cannot read, or the model's heads cannot be cut into.
pub fn kv_shape(spec: &DecoderSpec, mode: ComputeMode, format: &KvFormat) -> Result<KvShape, InvalidSetting> {
    let layouts = Layouts::new(spec, mode, format)?;
    Ok(KvShape { spans: layouts.spans, block_bytes: layouts.layers.iter().map(KvLayout::block_bytes).sum() })
}

/// Where keys and values of each layer stand in a block.
pub(super) struct Layouts {
    spans: BlockSpans,
    layers: Vec<KvLayout>,
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
            })?;
        }
        let kind = kind(mode);
        let layout = |spans| {
            // Components beyond a head's own are zero and stay so.
            move |layer: &LayerSpec| match &layer.mixer {
                MixerSpec::Attention(of) => KvLayout {
                    content: KvContent::KeysAndValues,
                    kind,
                    codes: format.codes,
                    kv_heads: of.kv_heads,
                    head_dim: of.head_dim.next_multiple_of(TILE),
                    spans,
                },
                MixerSpec::Latent(of) => KvLayout {
                    content: KvContent::Latents { index_key: of.index_key() },
                    kind,
                    codes: None,
                    kv_heads: 1,
                    head_dim: of.stride(),
                    spans,
                },
            }
        };
        let mut spans = BlockSpans::from(block_tokens);
        let head_blocks = format.quantized_start.div_ceil(block_tokens);
        if format.codes.is_some() && head_blocks > 0 {
            // So many that a block of floats has room for them.
            let times = |layout: KvLayout| layout.float_strip_bytes().div_ceil(layout.strip_bytes());
            let times = spec.layers.iter().map(layout(spans)).map(times).max().unwrap_or(1);
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
