use super::memory::Shared;
use super::model::NativeModel;
use crate::config::ComputeMode;
use crate::kernels::{Activations, TILE, prepared_bytes};
use std::collections::BTreeSet;

/// Memory that a step writes between its stages, kept from step to step.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    hidden: Vec<f32>,
    x: Vec<f32>,
    y: Vec<f32>,
    qkv: Vec<f32>,
    queries: Vec<f32>,
    mixed: Vec<f32>,
    wide: Vec<f32>,
    logits: Vec<f32>,
    prepared: Vec<PreparedBuffer>,
}

/// Room for one row of activations of any width, in groups of one size.
#[derive(Debug, Default)]
struct PreparedBuffer {
    group: usize,
    quads: Vec<u8>,
    scales: Vec<f32>,
    sums: Vec<f32>,
}

/// Elements per row of each buffer.
#[derive(Debug, Clone)]
pub(super) struct Widths {
    pub(super) hidden: usize,
    /// The widest input of any product.
    pub(super) x: usize,
    /// Queries, keys and values, each padded to whole tiles.
    pub(super) qkv: usize,
    /// Results of attention: heads of padded width.
    pub(super) mixed: usize,
    /// Gate and up, each padded to whole tiles.
    pub(super) wide: usize,
    pub(super) logits: usize,
    /// Sizes of groups that occur.
    groups: Vec<usize>,
}

/// The buffers of one step, to be divided among threads.
pub(super) struct StepBuffers {
    /// The residual stream, `[tokens, hidden]`.
    pub(super) hidden: Shared<f32>,
    /// What the products of a stage read, `[tokens, x]`.
    pub(super) x: Shared<f32>,
    /// What goes to the residual stream next, `[tokens, hidden]`.
    pub(super) y: Shared<f32>,
    pub(super) qkv: Shared<f32>,
    /// Normed, turned and scaled queries, `[tokens, mixed]`.
    pub(super) queries: Shared<f32>,
    pub(super) mixed: Shared<f32>,
    pub(super) wide: Shared<f32>,
    /// `[wanted, logits]`.
    pub(super) logits: Shared<f32>,
    prepared: Vec<SharedPrepared>,
    mode: ComputeMode,
}

/// A [`PreparedBuffer`], to be divided among threads.
struct SharedPrepared {
    group: usize,
    quads: Shared<u8>,
    scales: Shared<f32>,
    sums: Shared<f32>,
}

impl Widths {
    pub(super) fn of(model: &NativeModel) -> Self {
        let tiles = |n: usize| n.next_multiple_of(TILE);
        let spec = &model.spec;
        let most = |width: &dyn Fn(&crate::model::LayerSpec) -> usize| spec.layers.iter().map(width).max().unwrap_or(0);
        let heads = |layer: &crate::model::LayerSpec| layer.attention.heads * layer.attention.head_dim;
        let inner = most(&|layer| layer.mlp.inner);
        let groups: BTreeSet<usize> = model.matrices().filter_map(|matrix| matrix.group()).collect();
        Self {
            hidden: tiles(spec.hidden),
            x: tiles(spec.hidden.max(most(&heads)).max(inner)),
            qkv: most(&|layer| tiles(heads(layer)) + 2 * tiles(layer.attention.kv_width())),
            mixed: most(&|layer| layer.attention.heads * tiles(layer.attention.head_dim)),
            wide: 2 * tiles(inner),
            logits: tiles(spec.vocab),
            groups: groups.into_iter().collect(),
        }
    }
}

impl Buffers {
    /// Room for a step. Grows only.
    pub(super) fn of_step(&mut self, widths: &Widths, mode: ComputeMode, tokens: usize, wanted: usize) -> StepBuffers {
        let rows = tokens.max(wanted);
        fn room<T: Clone + Default>(buffer: &mut Vec<T>, elements: usize) -> Shared<T> {
            if buffer.len() < elements {
                buffer.resize(elements, T::default());
            }
            Shared::new(buffer)
        }
        if self.prepared.len() != widths.groups.len() {
            self.prepared = widths.groups.iter().map(|&group| PreparedBuffer { group, ..Default::default() }).collect();
        }
        let prepared = self.prepared.iter_mut().map(|buffer| {
            let groups = widths.x.div_ceil(buffer.group);
            SharedPrepared {
                group: buffer.group,
                quads: room(&mut buffer.quads, rows * prepared_bytes(mode, widths.x)),
                scales: room(&mut buffer.scales, rows * groups),
                sums: room(&mut buffer.sums, rows * groups),
            }
        });
        StepBuffers {
            prepared: prepared.collect(),
            hidden: room(&mut self.hidden, tokens * widths.hidden),
            x: room(&mut self.x, rows * widths.x),
            y: room(&mut self.y, tokens * widths.hidden),
            qkv: room(&mut self.qkv, tokens * widths.qkv),
            queries: room(&mut self.queries, tokens * widths.mixed),
            mixed: room(&mut self.mixed, tokens * widths.mixed),
            wide: room(&mut self.wide, tokens * widths.wide),
            logits: room(&mut self.logits, wanted * widths.logits),
            mode,
        }
    }

    /// The logits that the last step computed, `[wanted, logits]`.
    pub(super) fn logits(&self) -> &[f32] {
        &self.logits
    }
}

impl StepBuffers {
    /// Places for rows of `k` activations in groups of `group`.
    pub(super) fn prepared(&self, k: usize, group: usize) -> Activations {
        let buffer = self.prepared.iter().find(|buffer| buffer.group == group);
        let SharedPrepared { quads, scales, sums, .. } = buffer.expect("every size of group has a buffer");
        Activations {
            mode: self.mode,
            k,
            group,
            quads: quads.pointer(),
            scales: scales.pointer(),
            sums: sums.pointer(),
        }
    }
}
