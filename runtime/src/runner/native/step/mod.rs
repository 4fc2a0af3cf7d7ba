mod attention;
mod delta;
mod dense;
mod latent;
mod routed;
mod sparse;

use super::buffers::{StepBuffers, Widths};
use super::kv::LayerMemory;
use super::memory::Shared;
use super::model::{FeedForward, Layer, Mixer, NativeModel};
use super::products::{Columns, Products, Task};
use super::rope_table::RopeTable;
use super::weights::{Linear, Matrix};
use crate::kernels::{Form, add, rms_norm};
use crate::model::{FeedForwardSpec, LayerSpec, MixerSpec};
use crate::runner::Batch;
use crate::runner::team::Worker;
use std::ops::Range;

/// One step, run by every thread of the team: each takes its part of a stage, then all meet.
///
/// What a thread computes never depends on which part is its own, so the number of threads changes no result.
pub(super) struct Step<'a> {
    model: &'a NativeModel,
    form: Form,
    products: Products,
    batch: &'a Batch<'a>,
    rope: &'a RopeTable,
    widths: &'a Widths,
    buffers: StepBuffers<'a>,
    /// `[wanted, widths.logits]`.
    logits: Shared<f32>,
    lists: &'a StepLists,
}

/// What a step looks things up in, kept from step to step so that none allocates once the largest has been seen.
#[derive(Debug, Default)]
pub(super) struct StepLists {
    /// What each layer keeps of the sequences. Positions are written by one thread each in one stage, and read in the next
    /// one; a part of a state is one thread's.
    layers: Vec<LayerMemory>,
    /// The row of each token.
    row_of: Vec<usize>,
    /// Block tables as the kernels read them, one after the other, and where each row's begins.
    tables: Vec<u32>,
    table_of: Vec<Range<usize>>,
    /// Queries that go over the keys together, for every key head.
    units: Vec<Unit>,
}

impl StepLists {
    /// Lists of a batch.
    pub(super) fn of(&mut self, batch: &Batch<'_>, layers: impl Iterator<Item = LayerMemory>) -> &Self {
        let Self { layers: memory, row_of, tables, table_of, units } = self;
        memory.clear();
        row_of.clear();
        tables.clear();
        table_of.clear();
        units.clear();
        memory.extend(layers);
        for (row, of) in batch.rows.iter().enumerate() {
            row_of.extend(of.span.clone().map(|_| row));
            let first = tables.len();
            tables.extend(of.table.iter().map(|block| block.0));
            table_of.push(first..tables.len());
            let starts = of.span.clone().step_by(UNIT_TOKENS);
            units.extend(starts.map(|start| Unit { row, tokens: start..of.span.end.min(start + UNIT_TOKENS) }));
        }
        self
    }
}

/// Tokens of one row whose queries are computed together.
#[derive(Debug)]
struct Unit {
    row: usize,
    tokens: Range<usize>,
}

/// What one token has in the buffers.
struct TokenRows<'a> {
    /// The residual stream, `[hidden]`.
    hidden: &'a mut [f32],
    /// What comes to it next.
    y: &'a mut [f32],
    x: &'a mut [f32],
    mixed: &'a [f32],
    wide: &'a mut [f32],
}

impl TokenRows<'_> {
    /// Adds `y`, the output of `linear`, to the residual stream.
    fn add_y(&mut self, linear: &Linear) {
        add(self.hidden, self.y);
        linear.add_bias(self.hidden);
    }

    /// Norms `y`, the output of `linear`, and adds it to the residual stream.
    fn add_normed_y(&mut self, linear: &Linear, form: Form, weight: &[f32], eps: f32) {
        linear.add_bias(self.y);
        rms_norm(form, self.y, weight, eps);
        add(self.hidden, self.y);
    }
}

/// Tokens of a unit: enough that keys are used often while they are near, few enough that threads have equal shares.
pub(super) const UNIT_TOKENS: usize = 16;

impl<'a> Step<'a> {
    #[expect(clippy::too_many_arguments, reason = "what a step works with, all of it borrowed")]
    pub(super) fn new(
        model: &'a NativeModel,
        form: Form,
        batch: &'a Batch<'a>,
        rope: &'a RopeTable,
        lists: &'a StepLists,
        widths: &'a Widths,
        buffers: StepBuffers<'a>,
        logits: Shared<f32>,
    ) -> Self {
        let products = Products { form, mode: model.mode };
        Self { model, form, products, batch, rope, widths, buffers, logits, lists }
    }

    /// A thread's part of the step. All of them together write every element of the logits.
    pub(super) fn run(&self, worker: &Worker<'_>) {
        let (model, tokens) = (self.model, self.batch.tokens.len());
        for token in worker.share(tokens, 1).flatten() {
            // SAFETY: a token is one thread's.
            let rows = unsafe { self.rows(token, token) };
            model.embedding.matrix.row(self.form, self.batch.tokens[token] as usize, rows.hidden);
        }
        worker.meet();
        for (number, (layer, spec)) in model.layers.iter().zip(&model.spec.layers).enumerate() {
            for token in worker.share(tokens, 1).flatten() {
                // SAFETY: a token is one thread's.
                let mut rows = unsafe { self.rows(token, token) };
                if number > 0 {
                    self.add_mlp(token, &mut rows, number - 1);
                }
                self.normed(&mut rows, &layer.mixer_norm);
                match &layer.mixer {
                    Mixer::Attention(of) => self.prepare(token, rows.x, &[&of.q, &of.k, &of.v]),
                    Mixer::Latent(of) => self.prepare_latent(token, rows.x, of),
                    Mixer::Delta(of) => self.prepare(token, rows.x, &[&of.qkvz, &of.ba]),
                }
            }
            worker.meet();
            let out = match (&layer.mixer, &spec.mixer) {
                (Mixer::Attention(of), MixerSpec::Attention(spec)) => self.attention(worker, number, of, spec),
                (Mixer::Latent(of), MixerSpec::Latent(spec)) => self.latent(worker, number, of, spec),
                (Mixer::Delta(of), MixerSpec::Delta(spec)) => self.delta(worker, number, of, spec),
                _ => unreachable!("weights are of their spec"),
            };
            worker.meet();
            self.products.run(worker, &[self.task(&out.matrix, &self.buffers.y, self.widths.hidden, 0)]);
            worker.meet();
            for token in worker.share(tokens, 1).flatten() {
                // SAFETY: a token is one thread's.
                let mut rows = unsafe { self.rows(token, token) };
                self.join(&mut rows, out, layer.mixer_out_norm());
                self.normed(&mut rows, &layer.mlp_norm);
                match &layer.mlp {
                    FeedForward::Dense(of) => self.prepare(token, rows.x, &[&of.gate, &of.up]),
                    FeedForward::Routed(of) => self.prepare_routed(token, rows.x, of),
                }
            }
            worker.meet();
            self.mlp(worker, layer, spec);
            worker.meet();
        }
        for at in worker.share(self.batch.wanted.len(), 1).flatten() {
            let token = self.batch.wanted[at] as usize;
            // SAFETY: a wanted token is one thread's; no token is wanted twice.
            let mut rows = unsafe { self.rows(token, at) };
            if let Some(last) = model.layers.len().checked_sub(1) {
                self.add_mlp(token, &mut rows, last);
            }
            self.normed(&mut rows, &model.norm);
            self.prepare(at, rows.x, &[model.head()]);
        }
        worker.meet();
        let head = &model.head().matrix;
        let prepared = |of| self.buffers.prepared(head.inputs, of);
        let from = Columns { buffer: &self.buffers.x, width: self.widths.x, first: 0 };
        let to = Columns { buffer: &self.logits, width: self.widths.logits, first: 0 };
        self.products.run(worker, &[self.products.task(head, 0..self.batch.wanted.len(), from, prepared, to)]);
    }

    fn mlp(&self, worker: &Worker<'_>, layer: &Layer, spec: &LayerSpec) {
        match (&layer.mlp, &spec.mlp) {
            (FeedForward::Dense(of), FeedForwardSpec::Dense(spec)) => self.dense(worker, of, spec.inner),
            (FeedForward::Routed(of), FeedForwardSpec::Routed(spec)) => self.routed(worker, of, spec),
            _ => unreachable!("weights are of their spec"),
        }
    }

    /// Adds what the MLP of a layer gave to a token's residual stream.
    fn add_mlp(&self, token: usize, rows: &mut TokenRows<'_>, number: usize) {
        match (&self.model.layers[number].mlp, &self.model.spec.layers[number].mlp) {
            (FeedForward::Dense(of), _) => self.join(rows, &of.down, of.out_norm.as_deref()),
            (FeedForward::Routed(of), FeedForwardSpec::Routed(spec)) => self.add_experts(token, rows, of, spec),
            _ => unreachable!("weights are of their spec"),
        }
    }

    /// Adds the output of a mixer or an MLP, normed where there is a weight for it.
    fn join(&self, rows: &mut TokenRows<'_>, linear: &Linear, norm: Option<&[f32]>) {
        match norm {
            None => rows.add_y(linear),
            Some(weight) => rows.add_normed_y(linear, self.form, weight, self.model.spec.norm_eps as f32),
        }
    }

    /// Puts the normed residual stream of `rows` into `x`.
    fn normed(&self, rows: &mut TokenRows<'_>, weight: &[f32]) {
        let x = &mut rows.x[..weight.len()];
        x.copy_from_slice(rows.hidden);
        rms_norm(self.form, x, weight, self.model.spec.norm_eps as f32);
    }

    /// Prepares row `at` of `x` for products with `linears`, which all read the same inputs.
    fn prepare(&self, at: usize, x: &[f32], linears: &[&Linear]) {
        let matrix = |i: usize| linears.get(i).map(|linear| &linear.matrix);
        self.products.prepare_row(at, x, matrix, |k, of| self.buffers.prepared(k, of));
    }

    /// The product of a matrix with the rows of `x`, of all tokens, to the columns of `out` from `first` on.
    fn task<'m>(&self, matrix: &'m Matrix, out: &Shared<f32>, width: usize, first: usize) -> Task<'m> {
        let from = Columns { buffer: &self.buffers.x, width: self.widths.x, first: 0 };
        self.task_of(matrix, from, Columns { buffer: out, width, first })
    }

    /// The same with rows of another buffer.
    fn task_of<'m>(&self, matrix: &'m Matrix, from: Columns<'_>, to: Columns<'_>) -> Task<'m> {
        let prepared = |of| self.buffers.prepared(matrix.inputs, of);
        self.products.task(matrix, 0..self.batch.tokens.len(), from, prepared, to)
    }

    /// The rows of a token, and row `at` of `x`.
    ///
    /// # Safety
    /// No other thread uses them until the next meeting.
    unsafe fn rows(&self, token: usize, at: usize) -> TokenRows<'_> {
        let (buffers, widths) = (&self.buffers, self.widths);
        let row = |row: usize, width: usize| row * width..(row + 1) * width;
        // SAFETY: as the caller vouches; the buffers are different ones.
        unsafe {
            TokenRows {
                hidden: &mut buffers.hidden.part(row(token, widths.hidden))[..self.model.spec.hidden],
                y: &mut buffers.y.part(row(token, widths.hidden))[..self.model.spec.hidden],
                x: buffers.x.part(row(at, widths.x)),
                mixed: buffers.mixed.part(row(token, widths.mixed)),
                wide: buffers.wide.part(row(token, widths.wide)),
            }
        }
    }
}

/// Copies heads that are `padded` elements apart to where they stand side by side.
pub(super) fn copy_heads(to: &mut [f32], width: usize, from: &[f32], padded: usize, heads: usize) {
    for (to, from) in to.chunks_exact_mut(width).zip(from.chunks_exact(padded)).take(heads) {
        to.copy_from_slice(&from[..width]);
    }
}
