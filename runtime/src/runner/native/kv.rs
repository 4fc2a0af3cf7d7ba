use super::memory::HugeBytes;
use crate::config::{ComputeMode, HugePages};
use crate::kernels::{Float, KvLayout, TILE};
use crate::model::DecoderSpec;
use crate::plan::BlockMove;
use std::io;

/// Keys and values of all layers, in blocks.
#[derive(Debug)]
pub(super) struct KvMemory {
    pub(super) block_tokens: usize,
    pub(super) num_blocks: usize,
    layers: Vec<(KvLayout, HugeBytes)>,
}

impl KvMemory {
    pub(super) fn new(
        spec: &DecoderSpec,
        kind: Float,
        num_blocks: usize,
        block_tokens: usize,
        huge_pages: HugePages,
    ) -> io::Result<Self> {
        let layer = |layout: KvLayout| Ok((layout, HugeBytes::new(num_blocks * layout.block_bytes(), huge_pages)?));
        let layouts = layouts(spec, kind, block_tokens);
        Ok(Self { block_tokens, num_blocks, layers: layouts.map(layer).collect::<io::Result<_>>()? })
    }

    /// Layout and first block of a layer.
    pub(super) fn layer(&mut self, number: usize) -> (KvLayout, *mut u8) {
        let (layout, bytes) = &mut self.layers[number];
        (*layout, bytes.as_mut_ptr())
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

/// Type of keys and values in memory.
pub(super) fn kind(mode: ComputeMode) -> Float {
    match mode {
        ComputeMode::F32 => Float::F32,
        ComputeMode::Int8 | ComputeMode::Int16 => Float::F16,
    }
}

/// Bytes of KV memory that a token takes in all layers.
pub fn kv_bytes_per_token(spec: &DecoderSpec, mode: ComputeMode) -> usize {
    layouts(spec, kind(mode), TILE).map(|layout| layout.block_bytes() / TILE).sum()
}

fn layouts(spec: &DecoderSpec, kind: Float, block_tokens: usize) -> impl Iterator<Item = KvLayout> {
    spec.layers.iter().map(move |layer| KvLayout {
        kind,
        kv_heads: layer.attention.kv_heads,
        // Components beyond the head's own are zero and stay so.
        head_dim: layer.attention.head_dim.next_multiple_of(TILE),
        block_tokens,
    })
}
