mod attention;
mod dense;
mod latent;
mod routed;
mod sparse;

use super::buffers::{Preparation, StepBuffers, Widths};
use super::memory::Shared;
use super::model::{FeedForward, Layer, Mixer, NativeModel};
use super::rope_table::RopeTable;
use super::weights::{Inputs, Linear, Matrix};
use crate::kernels::{Activations, Form, KvLayout, TILE, add, rms_norm};
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
    /// Layout and memory of each layer's keys and values. Positions are written by one thread each in one stage, and read
    /// in the next one.
    layers: Vec<(KvLayout, Shared<u8>)>,
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
    pub(super) fn of(&mut self, batch: &Batch<'_>, layers: impl Iterator<Item = (KvLayout, Shared<u8>)>) -> &Self {
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

/// One product of a stage, with some rows that the last stage prepared.
struct Task<'a> {
    matrix: &'a Matrix,
    /// The rows as floats, and the distance between them.
    floats: (*const f32, usize),
    /// The rows in the groups of the matrix, if that is quantised.
    prepared: Option<Activations>,
    rows: Range<usize>,
    /// Where the rows of results begin, and their distance; room for whole tiles in each.
    out: (*mut f32, usize),
}

/// Tokens of a unit: enough that keys are used often while they are near, few enough that threads have equal shares.
pub(super) const UNIT_TOKENS: usize = 16;

/// The least number of tiles that a thread takes at a time.
pub(super) const PIECE_TILES: usize = 2;

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
        Self { model, form, batch, rope, widths, buffers, logits, lists }
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
                }
            }
            worker.meet();
            let out = match (&layer.mixer, &spec.mixer) {
                (Mixer::Attention(of), MixerSpec::Attention(spec)) => self.attention(worker, number, of, spec),
                (Mixer::Latent(of), MixerSpec::Latent(spec)) => self.latent(worker, number, of, spec),
                _ => unreachable!("weights are of their spec"),
            };
            worker.meet();
            self.products(worker, &[self.task(&out.matrix, &self.buffers.y, self.widths.hidden, 0)]);
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
        let head = self.task(&model.head().matrix, &self.logits, self.widths.logits, 0);
        self.products(worker, &[Task { rows: 0..self.batch.wanted.len(), ..head }]);
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
        for (i, Linear { matrix, .. }) in linears.iter().enumerate() {
            let Some(of) = self.preparation(matrix) else { continue };
            if linears[..i].iter().any(|other| self.preparation(&other.matrix) == Some(of)) {
                continue;
            }
            let x = &x[..matrix.inputs];
            // SAFETY: the row and its places are one thread's in this stage.
            unsafe { self.buffers.prepared(matrix.inputs, of).write(self.form, at, x.as_ptr()) };
        }
    }

    fn preparation(&self, matrix: &Matrix) -> Option<Preparation> {
        matrix.preparation(self.form, self.model.mode)
    }

    /// The product of a matrix with the rows of `x`, of all tokens, to the columns of `out` from `column` on.
    fn task<'m>(&self, matrix: &'m Matrix, out: &Shared<f32>, stride: usize, column: usize) -> Task<'m> {
        self.task_of(matrix, (&self.buffers.x, self.widths.x), (out, stride), column)
    }

    /// The same with rows of another buffer.
    fn task_of<'m>(
        &self,
        matrix: &'m Matrix,
        (floats, distance): (&Shared<f32>, usize),
        (out, stride): (&Shared<f32>, usize),
        column: usize,
    ) -> Task<'m> {
        assert!(column + matrix.tiles() * TILE <= stride, "a product beyond the row of its results");
        Task {
            matrix,
            floats: (floats.pointer(), distance),
            prepared: self.preparation(matrix).map(|of| self.buffers.prepared(matrix.inputs, of)),
            rows: 0..self.batch.tokens.len(),
            out: (out.pointer().wrapping_add(column), stride),
        }
    }

    /// Computes products. A stage of its own: its threads share the tiles of all.
    fn products(&self, worker: &Worker<'_>, tasks: &[Task<'_>]) {
        let tiles = tasks.iter().map(|task| task.matrix.tiles()).sum();
        for mine in worker.share(tiles, PIECE_TILES) {
            self.some_tiles(tasks, mine);
        }
    }

    /// Computes the products of `count` experts or heads, all of one shape, and others besides. A stage of its own: its
    /// threads share the tiles of all.
    fn each_product<'m, const N: usize>(
        &self,
        worker: &Worker<'_>,
        count: usize,
        of: impl Fn(usize) -> [Task<'m>; N],
        others: &[Task<'_>],
    ) {
        let tiles_of = |tasks: &[Task<'_>]| tasks.iter().map(|task| task.matrix.tiles()).sum::<usize>();
        let each = if count > 0 { tiles_of(&of(0)) } else { 0 };
        for mine in worker.share(count * each + tiles_of(others), PIECE_TILES) {
            let mut at = mine.start;
            while at < mine.end.min(count * each) {
                let (number, first) = (at / each, at / each * each);
                let end = mine.end.min(first + each);
                self.some_tiles(&of(number), at - first..end - first);
                at = end;
            }
            if at < mine.end {
                self.some_tiles(others, at - count * each..mine.end - count * each);
            }
        }
    }

    /// Computes some tiles, counted over all products.
    fn some_tiles(&self, tasks: &[Task<'_>], mine: Range<usize>) {
        let mut first = 0;
        for task in tasks {
            let end = first + task.matrix.tiles();
            let tiles = mine.start.clamp(first, end) - first..mine.end.clamp(first, end) - first;
            first = end;
            if !tiles.is_empty() {
                // SAFETY: the last stage prepared the rows; the tiles' columns of the results are this thread's.
                unsafe { self.product(task, tiles) };
            }
        }
    }

    /// Computes some tiles of a product.
    ///
    /// # Safety
    /// The rows are prepared and not written meanwhile; the tiles' results are used by nobody else.
    unsafe fn product(&self, task: &Task<'_>, tiles: Range<usize>) {
        let ((floats, stride), (out, out_stride)) = (task.floats, task.out);
        let inputs = Inputs { floats, stride, prepared: task.prepared };
        // SAFETY: as the caller vouches.
        unsafe { task.matrix.product(self.form, tiles, &inputs, task.rows.clone(), out, out_stride) };
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
