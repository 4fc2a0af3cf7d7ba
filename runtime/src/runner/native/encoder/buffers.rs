use super::model::NativeEncoder;
use crate::kernels::{Activations, BLOCK_ROWS, Form, TILE, prepared_bytes};
use crate::runner::native::buffers::{Preparation, PreparedBuffers, SharedPrepared, room};
use crate::runner::native::memory::Shared;
use std::collections::BTreeSet;

/// Elements per row of each buffer.
#[derive(Debug, Clone)]
pub(super) struct Widths {
    pub(super) hidden: usize,
    /// Inputs of a product that stand nowhere else: what was normed, or heads side by side.
    pub(super) x: usize,
    /// Queries, keys and values, each padded to whole tiles.
    pub(super) qkv: usize,
    /// Results of attention: heads of padded width.
    pub(super) mixed: usize,
    /// Queries, where their heads have to be padded.
    pub(super) queries: usize,
    /// Gate and up, each padded to whole tiles.
    pub(super) wide: usize,
    /// Results of the head's products, and their inputs.
    pub(super) head: usize,
    preparations: [Vec<Preparation>; 2],
}

impl Widths {
    pub(super) fn of(model: &NativeEncoder, form: Form) -> Self {
        let tiles = |n: usize| n.next_multiple_of(TILE);
        let (spec, of) = (&model.spec, &model.spec.attention);
        let inner = tiles(spec.mlp.inner);
        let needed = |matrices: &mut dyn Iterator<Item = &crate::runner::native::weights::Matrix>| {
            let all = matrices.filter_map(|matrix| matrix.preparation(form, model.mode));
            all.collect::<BTreeSet<Preparation>>().into_iter().collect()
        };
        let head = model.head_matrices().map(|matrix| matrix.outputs.max(matrix.inputs)).max().unwrap_or(0);
        Self {
            hidden: tiles(spec.hidden),
            x: tiles(spec.hidden.max(of.query_width())),
            qkv: tiles(of.query_width()) + 2 * tiles(of.kv_width()),
            mixed: of.heads * tiles(of.head_dim),
            queries: if of.head_dim.is_multiple_of(TILE) { 0 } else { of.heads * tiles(of.head_dim) },
            wide: if spec.mlp.activation.is_gated() { 2 * inner } else { inner },
            head: tiles(head.max(spec.hidden)),
            preparations: [needed(&mut model.token_matrices()), needed(&mut model.head_matrices())],
        }
    }
}

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
    pooled: Vec<f32>,
    raised: Vec<f32>,
    prepared: [PreparedBuffers; 2],
}

/// The buffers of one step, to be divided among threads.
pub(super) struct StepBuffers<'a> {
    /// The residual stream, `[tokens, hidden]`.
    pub(super) hidden: Shared<f32>,
    /// `[tokens, x]`.
    pub(super) x: Shared<f32>,
    /// What goes to the residual stream next, `[tokens, hidden]`.
    pub(super) y: Shared<f32>,
    pub(super) qkv: Shared<f32>,
    pub(super) queries: Shared<f32>,
    pub(super) mixed: Shared<f32>,
    pub(super) wide: Shared<f32>,
    /// Two buffers that the head's products take turns with, `[results, head]`.
    pub(super) pooled: [Shared<f32>; 2],
    of_tokens: &'a [SharedPrepared],
    of_head: &'a [SharedPrepared],
}

impl Buffers {
    /// Room for a step. Grows only.
    pub(super) fn of_step(&mut self, widths: &Widths, tokens: usize, results: usize) -> StepBuffers<'_> {
        let sized = |width: usize, rows: usize| {
            move |of: &Preparation| {
                let rows = rows + BLOCK_ROWS;
                (rows * prepared_bytes(of.encoding, width), rows * width.div_ceil(of.group))
            }
        };
        let [of_tokens, of_head] = &mut self.prepared;
        let widest = widths.x.max(widths.wide);
        StepBuffers {
            of_tokens: of_tokens.of_step(&widths.preparations[0], tokens, sized(widest, tokens)),
            of_head: of_head.of_step(&widths.preparations[1], results, sized(widths.head, results)),
            hidden: room(&mut self.hidden, tokens * widths.hidden),
            x: room(&mut self.x, tokens * widths.x),
            y: room(&mut self.y, tokens * widths.hidden),
            qkv: room(&mut self.qkv, tokens * widths.qkv),
            queries: room(&mut self.queries, tokens * widths.queries),
            mixed: room(&mut self.mixed, tokens * widths.mixed),
            wide: room(&mut self.wide, tokens * widths.wide),
            pooled: [room(&mut self.pooled, results * widths.head), room(&mut self.raised, results * widths.head)],
        }
    }
}

impl StepBuffers<'_> {
    /// Places for rows of `k` activations, one for each token.
    pub(super) fn prepared(&self, k: usize, of: Preparation) -> Activations {
        crate::runner::native::buffers::find(self.of_tokens, of).activations(k)
    }

    /// The same, one for each result.
    pub(super) fn prepared_results(&self, k: usize, of: Preparation) -> Activations {
        crate::runner::native::buffers::find(self.of_head, of).activations(k)
    }
}
