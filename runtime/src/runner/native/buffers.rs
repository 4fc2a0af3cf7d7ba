use super::memory::Shared;
use super::model::NativeModel;
use crate::kernels::{Activations, BLOCK_ROWS, Encoding, Form, GroupOf, TILE, prepared_bytes};
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
    prepared: Vec<PreparedBuffer>,
    /// Those of the last step; kept for their room.
    shared: Vec<SharedPrepared>,
}

/// What the activations of a product are prepared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Preparation {
    /// Inputs per group of the weights.
    pub(super) group: usize,
    pub(super) encoding: Encoding,
}

/// Room for activations of any width that are prepared in one way.
#[derive(Debug)]
struct PreparedBuffer {
    of: Preparation,
    quads: Vec<u8>,
    groups: Vec<GroupOf>,
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
    /// What products need.
    preparations: Vec<Preparation>,
}

/// The buffers of one step, to be divided among threads.
pub(super) struct StepBuffers<'a> {
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
    prepared: &'a [SharedPrepared],
}

/// A [`PreparedBuffer`], to be divided among threads.
#[derive(Debug)]
struct SharedPrepared {
    of: Preparation,
    rows: usize,
    quads: Shared<u8>,
    groups: Shared<GroupOf>,
}

impl Widths {
    pub(super) fn of(model: &NativeModel, form: Form) -> Self {
        let tiles = |n: usize| n.next_multiple_of(TILE);
        let spec = &model.spec;
        let most = |width: &dyn Fn(&crate::model::LayerSpec) -> usize| spec.layers.iter().map(width).max().unwrap_or(0);
        let heads = |layer: &crate::model::LayerSpec| layer.attention.heads * layer.attention.head_dim;
        let inner = most(&|layer| layer.mlp.inner);
        let preparations = model.matrices().filter_map(|matrix| matrix.preparation(form, model.mode));
        let preparations: BTreeSet<Preparation> = preparations.collect();
        Self {
            hidden: tiles(spec.hidden),
            x: tiles(spec.hidden.max(most(&heads)).max(inner)),
            qkv: most(&|layer| tiles(heads(layer)) + 2 * tiles(layer.attention.kv_width())),
            mixed: most(&|layer| layer.attention.heads * tiles(layer.attention.head_dim)),
            wide: 2 * tiles(inner),
            logits: tiles(spec.vocab),
            preparations: preparations.into_iter().collect(),
        }
    }
}

impl Buffers {
    /// Room for a step. Grows only.
    pub(super) fn of_step(&mut self, widths: &Widths, tokens: usize, wanted: usize) -> StepBuffers<'_> {
        let rows = tokens.max(wanted);
        fn room<T: Clone + Default>(buffer: &mut Vec<T>, elements: usize) -> Shared<T> {
            if buffer.len() < elements {
                buffer.resize(elements, T::default());
            }
            Shared::new(buffer)
        }
        if self.prepared.len() != widths.preparations.len() {
            let empty = |&of| PreparedBuffer { of, quads: Vec::new(), groups: Vec::new() };
            self.prepared = widths.preparations.iter().map(empty).collect();
        }
        let prepared = self.prepared.iter_mut().map(|buffer| {
            let groups = widths.x.div_ceil(buffer.of.group);
            // Narrower rows stand in larger blocks.
            let padded = rows + BLOCK_ROWS;
            SharedPrepared {
                of: buffer.of,
                rows,
                quads: room(&mut buffer.quads, padded * prepared_bytes(buffer.of.encoding, widths.x)),
                groups: room(&mut buffer.groups, padded * groups),
            }
        });
        self.shared.clear();
        self.shared.extend(prepared);
        StepBuffers {
            prepared: &self.shared,
            hidden: room(&mut self.hidden, tokens * widths.hidden),
            x: room(&mut self.x, rows * widths.x),
            y: room(&mut self.y, tokens * widths.hidden),
            qkv: room(&mut self.qkv, tokens * widths.qkv),
            queries: room(&mut self.queries, tokens * widths.mixed),
            mixed: room(&mut self.mixed, tokens * widths.mixed),
            wide: room(&mut self.wide, tokens * widths.wide),
        }
    }
}

impl StepBuffers<'_> {
    /// Places for rows of `k` activations.
    pub(super) fn prepared(&self, k: usize, of: Preparation) -> Activations {
        let buffer = self.prepared.iter().find(|buffer| buffer.of == of);
        let &SharedPrepared { rows, quads, groups, .. } = buffer.expect("every preparation has a buffer");
        Activations {
            encoding: of.encoding,
            k,
            group: of.group,
            rows,
            quads: quads.pointer(),
            groups: groups.pointer(),
        }
    }
}
