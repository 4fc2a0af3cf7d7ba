use super::buffers::{Preparation, StepBuffers, Widths};
use super::memory::Shared;
use super::model::{Layer, NativeModel};
use super::rope_table::RopeTable;
use super::weights::{Inputs, Linear, Matrix};
use crate::kernels::{Attention, Form, KvLayout, KvView, QUERIES, Query, TILE, add, rms_norm, rotate_halves, swiglu};
use crate::model::{AttentionSpec, LayerSpec};
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
    y: &'a [f32],
    x: &'a mut [f32],
    mixed: &'a [f32],
    wide: &'a mut [f32],
}

impl TokenRows<'_> {
    /// Adds `y`, the output of `linear`, to the residual stream.
    fn add_y(&mut self, linear: &Linear) {
        let n = self.hidden.len();
        add(self.hidden, &self.y[..n]);
        linear.add_bias(self.hidden);
    }
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
                    rows.add_y(&model.layers[number - 1].down);
                }
                self.normed(token, &mut rows, &layer.attention_norm, &[&layer.q, &layer.k, &layer.v]);
            }
            worker.meet();
            self.attention(worker, number, layer, &spec.attention);
            worker.meet();
            self.products(worker, &[(&layer.out.matrix, 0)], tokens, &self.buffers.y, self.widths.hidden);
            worker.meet();
            for token in worker.share(tokens, 1).flatten() {
                // SAFETY: a token is one thread's.
                let mut rows = unsafe { self.rows(token, token) };
                rows.add_y(&layer.out);
                self.normed(token, &mut rows, &layer.mlp_norm, &[&layer.gate, &layer.up]);
            }
            worker.meet();
            self.mlp(worker, layer, spec);
            worker.meet();
        }
        for at in worker.share(self.batch.wanted.len(), 1).flatten() {
            // SAFETY: a wanted token is one thread's; no token is wanted twice.
            let mut rows = unsafe { self.rows(self.batch.wanted[at] as usize, at) };
            if let Some(last) = model.layers.last() {
                rows.add_y(&last.down);
            }
            self.normed(at, &mut rows, &model.norm, &[model.head()]);
        }
        worker.meet();
        let wanted = self.batch.wanted.len();
        self.products(worker, &[(&model.head().matrix, 0)], wanted, &self.logits, self.widths.logits);
    }

    /// From the normed rows to the prepared inputs of the output projection.
    fn attention(&self, worker: &Worker<'_>, number: usize, layer: &Layer, spec: &AttentionSpec) {
        let tokens = self.batch.tokens.len();
        let (q_tiles, kv_tiles) = (layer.q.matrix.tiles() * TILE, layer.k.matrix.tiles() * TILE);
        let columns = [(&layer.q.matrix, 0), (&layer.k.matrix, q_tiles), (&layer.v.matrix, q_tiles + kv_tiles)];
        self.products(worker, &columns, tokens, &self.buffers.qkv, self.widths.qkv);
        worker.meet();
        for unit in worker.share(tokens * spec.kv_heads, 1).flatten() {
            self.heads(unit / spec.kv_heads, unit % spec.kv_heads, number, layer, spec);
        }
        worker.meet();
        for unit in worker.share(self.lists.units.len() * spec.kv_heads, 1).flatten() {
            self.attend(&self.lists.units[unit / spec.kv_heads], unit % spec.kv_heads, number, spec);
        }
        worker.meet();
        let padded = spec.head_dim.next_multiple_of(TILE);
        for token in worker.share(tokens, 1).flatten() {
            // SAFETY: a token is one thread's.
            let rows = unsafe { self.rows(token, token) };
            let x = rows.x.chunks_exact_mut(spec.head_dim).take(spec.heads);
            for (to, from) in x.zip(rows.mixed.chunks_exact(padded)) {
                to.copy_from_slice(&from[..spec.head_dim]);
            }
            self.prepare(token, rows.x, &[&layer.out]);
        }
    }

    /// Norms and turns the queries and the key of one key head and token; key and value go to memory.
    fn heads(&self, token: usize, kv_head: usize, number: usize, layer: &Layer, spec: &AttentionSpec) {
        let (dim, eps) = (spec.head_dim, self.model.spec.norm_eps as f32);
        let (cos, sin) = self.rope.at(self.batch.positions[token] as usize);
        let (q_tiles, kv_tiles) = (layer.q.matrix.tiles() * TILE, layer.k.matrix.tiles() * TILE);
        let first = token * self.widths.qkv;
        // SAFETY: the queries, key and value of one key head are one thread's in this stage.
        let part = |column: usize| unsafe { self.buffers.qkv.part(first + column..first + column + dim) };
        let bias = |x: &mut [f32], linear: &Linear, head: usize| {
            if let Some(bias) = &linear.bias {
                add(x, &bias[head * dim..(head + 1) * dim]);
            }
        };
        let norm = |x: &mut [f32], weight: Option<&Vec<f32>>| {
            if let Some(weight) = weight {
                rms_norm(self.form, x, weight, eps);
            }
        };
        let scale = (dim as f32).sqrt().recip();
        let padded = dim.next_multiple_of(TILE);
        for head in kv_head * spec.group()..(kv_head + 1) * spec.group() {
            let q = part(head * dim);
            bias(q, &layer.q, head);
            norm(q, layer.qk_norm.as_ref().map(|(q, _)| q));
            rotate_halves(q, cos, sin);
            let first = token * self.widths.mixed + head * padded;
            // SAFETY: as above; results of attention take the place of the queries later.
            let to = unsafe { self.buffers.queries.part(first..first + padded) };
            to[dim..].fill(0.0);
            to.iter_mut().zip(q).for_each(|(to, q)| *to = *q * scale);
        }
        let (k, v) = (part(q_tiles + kv_head * dim), part(q_tiles + kv_tiles + kv_head * dim));
        bias(k, &layer.k, kv_head);
        bias(v, &layer.v, kv_head);
        norm(k, layer.qk_norm.as_ref().map(|(_, k)| k));
        rotate_halves(k, cos, sin);
        let view = self.view(number, self.lists.row_of[token]);
        // SAFETY: rows never share a block that one of them writes, and a position and key head is one thread's.
        unsafe { view.write(self.batch.positions[token] as usize, kv_head, k, v) };
    }

    fn attend(&self, unit: &Unit, kv_head: usize, number: usize, spec: &AttentionSpec) {
        let padded = spec.head_dim.next_multiple_of(TILE);
        let mut queries = [Query { q: std::ptr::null(), position: 0, out: std::ptr::null_mut() }; 4 * QUERIES];
        let all = unit
            .tokens
            .clone()
            .flat_map(|token| (kv_head * spec.group()..(kv_head + 1) * spec.group()).map(move |head| (token, head)));
        let mut filled = 0;
        let flush = |queries: &[Query]| {
            let attention = Attention { kv: self.view(number, unit.row), kv_head, window: spec.window, queries };
            // SAFETY: the last stage wrote all that is read here; a query's result is one thread's.
            unsafe { attention.run(self.form) };
        };
        for (token, head) in all {
            let at = token * self.widths.mixed + head * padded;
            queries[filled] = Query {
                q: self.buffers.queries.at(at, padded),
                position: self.batch.positions[token] as usize,
                out: self.buffers.mixed.at(at, padded),
            };
            filled += 1;
            if filled == queries.len() {
                flush(&queries);
                filled = 0;
            }
        }
        if filled > 0 {
            flush(&queries[..filled]);
        }
    }

    /// From the normed rows to `y`.
    fn mlp(&self, worker: &Worker<'_>, layer: &Layer, spec: &LayerSpec) {
        let (tokens, inner) = (self.batch.tokens.len(), spec.mlp.inner);
        let up_column = layer.gate.matrix.tiles() * TILE;
        let columns = [(&layer.gate.matrix, 0), (&layer.up.matrix, up_column)];
        self.products(worker, &columns, tokens, &self.buffers.wide, self.widths.wide);
        worker.meet();
        for token in worker.share(tokens, 1).flatten() {
            // SAFETY: a token is one thread's.
            let rows = unsafe { self.rows(token, token) };
            let (gate, up) = rows.wide.split_at_mut(up_column);
            let (gate, up) = (&mut gate[..inner], &mut up[..inner]);
            layer.gate.add_bias(gate);
            layer.up.add_bias(up);
            swiglu(self.form, gate, up);
            rows.x[..inner].copy_from_slice(gate);
            self.prepare(token, rows.x, &[&layer.down]);
        }
        worker.meet();
        self.products(worker, &[(&layer.down.matrix, 0)], tokens, &self.buffers.y, self.widths.hidden);
    }

    /// Puts the normed residual stream of `rows` into row `at` of `x`, prepared for products with `linears`.
    fn normed(&self, at: usize, rows: &mut TokenRows<'_>, weight: &[f32], linears: &[&Linear]) {
        let x = &mut rows.x[..weight.len()];
        x.copy_from_slice(rows.hidden);
        rms_norm(self.form, x, weight, self.model.spec.norm_eps as f32);
        self.prepare(at, rows.x, linears);
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

    /// Multiplies all rows with matrices of the same inputs. A stage of its own: its threads share the tiles.
    fn products(
        &self,
        worker: &Worker<'_>,
        matrices: &[(&Matrix, usize)],
        rows: usize,
        out: &Shared<f32>,
        stride: usize,
    ) {
        let tiles = matrices.iter().map(|(matrix, _)| matrix.tiles()).sum();
        for mine in worker.share(tiles, PIECE_TILES) {
            let mut first = 0;
            for (matrix, column) in matrices {
                let end = first + matrix.tiles();
                let tiles = mine.start.clamp(first, end) - first..mine.end.clamp(first, end) - first;
                first = end;
                if tiles.is_empty() {
                    continue;
                }
                let prepared = self.preparation(matrix).map(|of| self.buffers.prepared(matrix.inputs, of));
                let inputs = Inputs { floats: self.buffers.x.pointer(), stride: self.widths.x, prepared };
                // SAFETY: the last stage prepared the rows; the tiles' columns of `out` are this thread's.
                unsafe { matrix.product(self.form, tiles, &inputs, 0..rows, out.pointer().add(*column), stride) };
            }
        }
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
                y: buffers.y.part(row(token, widths.hidden)),
                x: buffers.x.part(row(at, widths.x)),
                mixed: buffers.mixed.part(row(token, widths.mixed)),
                wide: buffers.wide.part(row(token, widths.wide)),
            }
        }
    }

    fn view(&self, number: usize, row: usize) -> KvView<'_> {
        let StepLists { layers, tables, table_of, .. } = self.lists;
        let (layout, memory) = layers[number];
        KvView { layout, memory: memory.pointer(), table: &tables[table_of[row].clone()] }
    }
}
