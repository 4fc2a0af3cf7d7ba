use super::buffers::{StepBuffers, Widths};
use super::model::{Layer, NativeEncoder, Norm};
use crate::kernels::{
    Attention, Form, KvLayout, KvView, QUERIES, Query, Seen, StripRows, TILE, add, gelu, gelu_tanh_gated, layer_norm,
    rms_norm, rotate_halves, rotate_neighbours, swiglu,
};
use crate::model::encoder::{MlpActivation, NormOrder, Pooling};
use crate::model::{QkNorm, RopePairs};
use crate::runner::EncodeRow;
use crate::runner::native::memory::Shared;
use crate::runner::native::products::{Columns, Products, Task};
use crate::runner::native::rope_table::RopeTable;
use crate::runner::native::step::{UNIT_TOKENS, copy_heads};
use crate::runner::native::weights::{Linear, Matrix};
use crate::runner::team::Worker;
use std::ops::Range;

/// What a step looks things up in, kept from step to step.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// All tokens, row after row, and for each its position and the segment.
    tokens: Vec<u32>,
    positions: Vec<u32>,
    types: Vec<u8>,
    pub(super) rows: Vec<Row>,
    /// Where each result comes from: a row's tokens, or one of them.
    pub(super) results: Vec<Range<usize>>,
    /// Numbers of the blocks that keys and values stand in: all, in order.
    table: Vec<u32>,
    /// Tokens whose keys stand in one strip, with the number of their row.
    strips: Vec<(u32, Range<usize>)>,
    /// Queries that go over the keys together, for every key head.
    units: Vec<(u32, Range<usize>)>,
}

/// A text of the step.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) span: Range<usize>,
    /// Its blocks.
    blocks: Range<usize>,
}

impl Lists {
    pub(super) fn fill(&mut self, rows: &[EncodeRow<'_>], pooling: Pooling) {
        let Self { tokens, positions, types, rows: list, results, table, strips, units } = self;
        tokens.clear();
        positions.clear();
        types.clear();
        list.clear();
        results.clear();
        strips.clear();
        units.clear();
        let mut blocks = 0;
        for (number, row) in rows.iter().enumerate() {
            let (first, count) = (tokens.len(), row.tokens.len());
            tokens.extend_from_slice(row.tokens);
            positions.extend(0..count as u32);
            types.extend((0..count).map(|at| u8::from(at >= row.first_segment)));
            let (span, begin) = (first..first + count, blocks);
            blocks += count.div_ceil(TILE);
            let parts = |size: usize| {
                let end = span.end;
                span.clone().step_by(size).map(move |start| (number as u32, start..end.min(start + size)))
            };
            strips.extend(parts(TILE));
            units.extend(parts(UNIT_TOKENS));
            match pooling {
                Pooling::First => results.push(first..first + 1),
                Pooling::Last => results.push(span.end - 1..span.end),
                Pooling::Mean | Pooling::Max => results.push(span.clone()),
                Pooling::Marks => {
                    results.extend(row.marks.iter().map(|&mark| first + mark as usize..first + mark as usize + 1));
                }
            }
            list.push(Row { span, blocks: begin..blocks });
        }
        table.extend(table.len() as u32..blocks.max(table.len()) as u32);
    }

    pub(super) fn tokens(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn results(&self) -> usize {
        self.results.len()
    }

    pub(super) fn blocks(&self) -> usize {
        self.rows.last().map_or(0, |row| row.blocks.end)
    }
}

/// What the first products of a half layer read: the norm before them, and their matrices.
struct Inputs<'a> {
    norm: Option<&'a Norm>,
    matrices: [&'a Matrix; 3],
}

impl<'a> Inputs<'a> {
    fn of_attention(of: &'a Layer) -> Self {
        let matrices = [&of.q.matrix, &of.k.matrix, &of.v.matrix];
        Self { norm: of.attention_norms[0].as_ref(), matrices }
    }

    fn of_mlp(of: &'a Layer) -> Self {
        let up = &of.up.matrix;
        Self { norm: of.mlp_norms[0].as_ref(), matrices: [of.gate.as_ref().map_or(up, |gate| &gate.matrix), up, up] }
    }
}

/// One step, run by every thread of the team: each takes its part of a stage, then all meet.
pub(super) struct Step<'a> {
    pub(super) model: &'a NativeEncoder,
    pub(super) form: Form,
    pub(super) ropes: &'a [RopeTable],
    pub(super) lists: &'a Lists,
    pub(super) widths: &'a Widths,
    pub(super) buffers: StepBuffers<'a>,
    pub(super) layout: KvLayout,
    /// Keys and values of one layer.
    pub(super) kv: Shared<u8>,
    /// `[results, width]`.
    pub(super) vectors: Shared<f32>,
}

impl Step<'_> {
    /// A thread's part of the step. All of them together write every vector.
    pub(super) fn run(&self, worker: &Worker<'_>) {
        let tokens = self.lists.tokens();
        let first = self.model.layers.first().map(Inputs::of_attention);
        for token in worker.share(tokens, 1).flatten() {
            self.embed(token);
            self.enter(token, first.as_ref());
        }
        worker.meet();
        for number in 0..self.model.layers.len() {
            self.attend(worker, number);
            self.transform(worker, number);
        }
        if let Some(norm) = &self.model.last_norm {
            for token in worker.share(tokens, 1).flatten() {
                // SAFETY: a token is one thread's.
                self.norm(unsafe { self.hidden(token) }, norm);
            }
            worker.meet();
        }
        self.head(worker);
    }

    fn embed(&self, token: usize) {
        let (model, id) = (self.model, self.lists.tokens[token] as usize);
        let (position, kind) = (self.lists.positions[token] as usize, usize::from(self.lists.types[token]));
        // SAFETY: a token is one thread's.
        let row = unsafe { self.hidden(token) };
        model.embedding.row(self.form, id, row);
        if model.spec.input.scale != 1.0 {
            row.iter_mut().for_each(|x| *x *= model.spec.input.scale);
        }
        let width = row.len();
        if let Some(types) = &model.types {
            let kind = kind.min(types.len() / width - 1);
            add(row, &types[kind * width..(kind + 1) * width]);
        }
        if let Some(positions) = &model.positions {
            add(row, &positions[position * width..(position + 1) * width]);
        }
        if let Some(norm) = &model.input_norm {
            self.norm(row, norm);
        }
    }

    /// Attention of a layer, from and to the residual stream.
    fn attend(&self, worker: &Worker<'_>, number: usize) {
        let (of, spec) = (&self.model.layers[number], &self.model.spec.attention);
        let tokens = self.lists.tokens();
        let from = self.from(of.attention_norms[0].as_ref());
        let (k, v) = columns(of);
        let to = |first| Columns { buffer: &self.buffers.qkv, width: self.widths.qkv, first };
        let tasks = [self.task(&of.q, from, to(0)), self.task(&of.k, from, to(k)), self.task(&of.v, from, to(v))];
        self.products().run(worker, &tasks);
        worker.meet();
        for unit in worker.share(self.lists.strips.len() * spec.kv_heads, 1).flatten() {
            self.heads(unit / spec.kv_heads, unit % spec.kv_heads, number);
        }
        worker.meet();
        for unit in worker.share(self.lists.units.len() * spec.kv_heads, 1).flatten() {
            self.mix(unit / spec.kv_heads, unit % spec.kv_heads, number);
        }
        worker.meet();
        let padded = spec.head_dim.next_multiple_of(TILE);
        let side_by_side = padded == spec.head_dim;
        let mixed = Columns { buffer: &self.buffers.mixed, width: self.widths.mixed, first: 0 };
        let x = Columns { buffer: &self.buffers.x, width: self.widths.x, first: 0 };
        let from = if side_by_side { mixed } else { x };
        if !side_by_side || self.products().preparation(&of.out.matrix).is_some() {
            for token in worker.share(tokens, 1).flatten() {
                // SAFETY: a token is one thread's.
                unsafe {
                    if !side_by_side {
                        let heads = self.buffers.mixed.part(row_of(token, self.widths.mixed));
                        let x = self.buffers.x.part(row_of(token, self.widths.x));
                        copy_heads(x, spec.head_dim, heads, padded, spec.heads);
                    }
                    self.prepare(token, from.buffer.part(row_of(token, from.width)), &[&of.out.matrix]);
                }
            }
            worker.meet();
        }
        self.project(worker, &of.out, from, of.attention_norms[1].as_ref(), Some(&Inputs::of_mlp(of)));
    }

    /// The MLP of a layer, from and to the residual stream.
    fn transform(&self, worker: &Worker<'_>, number: usize) {
        let (of, spec) = (&self.model.layers[number], &self.model.spec.mlp);
        let up = &of.up.matrix;
        let from = self.from(of.mlp_norms[0].as_ref());
        let to = |first| Columns { buffer: &self.buffers.wide, width: self.widths.wide, first };
        match &of.gate {
            None => self.products().run(worker, &[self.task(&of.up, from, to(0))]),
            Some(gate) => {
                let second = to(gate.matrix.tiles() * TILE);
                self.products().run(worker, &[self.task(gate, from, to(0)), self.task(&of.up, from, second)]);
            }
        }
        worker.meet();
        for token in worker.share(self.lists.tokens(), 1).flatten() {
            // SAFETY: a token is one thread's.
            let wide = unsafe { self.buffers.wide.part(row_of(token, self.widths.wide)) };
            let (first, second) = wide.split_at_mut(up.tiles() * TILE);
            let first = &mut first[..spec.inner];
            match spec.activation {
                MlpActivation::Gelu => gelu(self.form, first),
                MlpActivation::SiluGated => swiglu(self.form, first, &second[..spec.inner]),
                MlpActivation::GeluTanhGated => gelu_tanh_gated(self.form, first, &second[..spec.inner]),
            }
            self.prepare(token, first, &[&of.down.matrix]);
        }
        worker.meet();
        let next = self.model.layers.get(number + 1).map(Inputs::of_attention);
        self.project(worker, &of.down, to(0), of.mlp_norms[1].as_ref(), next.as_ref());
    }

    /// Where the rows stand that the first products of a half layer read: in the residual stream, or normed.
    fn from(&self, norm: Option<&Norm>) -> Columns<'_> {
        match norm {
            Some(_) => Columns { buffer: &self.buffers.x, width: self.widths.x, first: 0 },
            None => Columns { buffer: &self.buffers.hidden, width: self.widths.hidden, first: 0 },
        }
    }

    /// Norms a token's row of the residual stream, if a norm stands before the products that come next, and prepares it.
    fn enter(&self, token: usize, inputs: Option<&Inputs<'_>>) {
        let Some(Inputs { norm, matrices }) = inputs else { return };
        // SAFETY: a token is one thread's.
        let hidden = unsafe { self.hidden(token) };
        let Some(norm) = norm else {
            return self.prepare(token, hidden, matrices);
        };
        // SAFETY: as above.
        let x = unsafe { self.buffers.x.part(row_of(token, self.widths.x)) };
        let x = &mut x[..hidden.len()];
        x.copy_from_slice(hidden);
        self.norm(x, norm);
        self.prepare(token, x, matrices);
    }

    /// The product that leads back to the residual stream, and its addition there, normed where a norm stands behind it; then
    /// what the next products read.
    fn project(
        &self,
        worker: &Worker<'_>,
        linear: &Linear,
        from: Columns<'_>,
        norm: Option<&Norm>,
        next: Option<&Inputs<'_>>,
    ) {
        let to = Columns { buffer: &self.buffers.y, width: self.widths.hidden, first: 0 };
        self.products().run(worker, &[self.task(linear, from, to)]);
        worker.meet();
        let sums = self.model.spec.order == NormOrder::Behind;
        for token in worker.share(self.lists.tokens(), 1).flatten() {
            // SAFETY: a token is one thread's.
            let (hidden, y) = unsafe { (self.hidden(token), self.buffers.y.part(row_of(token, self.widths.hidden))) };
            let y = &mut y[..hidden.len()];
            match norm {
                Some(norm) if sums => {
                    add(hidden, y);
                    self.norm(hidden, norm);
                }
                Some(norm) => {
                    self.norm(y, norm);
                    add(hidden, y);
                }
                None => add(hidden, y),
            }
            self.enter(token, next);
        }
        worker.meet();
    }

    /// Norms and turns the queries and the keys of one key head and a strip's tokens; keys and values go to memory.
    fn heads(&self, strip: usize, kv_head: usize, number: usize) {
        let (of, spec) = (&self.model.layers[number], &self.model.spec.attention);
        let (dim, eps) = (spec.head_dim, self.model.spec.norm_eps as f32);
        let (row, tokens) = &self.lists.strips[strip];
        let (k, v) = columns(of);
        let [k, v] = [k, v].map(|first| first + kv_head * dim);
        let norms = of.qk_norm.as_ref().filter(|_| spec.qk_norm == QkNorm::Heads);
        let place = |token: usize, column: usize| token * self.widths.qkv + column;
        // SAFETY: the queries, keys and values of one key head and strip are one thread's in this stage.
        let part = |token: usize, column: usize| unsafe {
            self.buffers.qkv.part(place(token, column)..place(token, column) + dim)
        };
        let turn = |x: &mut [f32], norm: Option<&Vec<f32>>, token: usize| {
            if let Some(weight) = norm {
                rms_norm(self.form, x, weight, eps);
            }
            let Some(rope) = self.model.spec.layers[number].rope else { return };
            let (cos, sin) = self.ropes[rope].at(self.lists.positions[token] as usize);
            match self.model.spec.ropes[rope].pairs {
                RopePairs::Halves => rotate_halves(x, cos, sin),
                RopePairs::Neighbours => rotate_neighbours(x, cos, sin),
            }
        };
        let scale = spec.scale as f32;
        for token in tokens.clone() {
            for head in kv_head * spec.group()..(kv_head + 1) * spec.group() {
                let q = part(token, head * dim);
                turn(q, norms.map(|(q, _)| q), token);
                q.iter_mut().for_each(|q| *q *= scale);
                if let Some(first) = self.padded_query(token, head) {
                    // SAFETY: as above.
                    let to = unsafe { self.buffers.queries.part(first..first + dim.next_multiple_of(TILE)) };
                    to[..dim].copy_from_slice(q);
                    to[dim..].fill(0.0);
                }
            }
            turn(part(token, k), norms.map(|(_, k)| k), token);
        }
        let elements = (tokens.len() - 1) * self.widths.qkv + dim;
        let rows = StripRows {
            keys: self.buffers.qkv.at(place(tokens.start, k), elements),
            values: self.buffers.qkv.at(place(tokens.start, v), elements),
            stride: self.widths.qkv,
            count: tokens.len(),
            dim,
        };
        let position = self.lists.positions[tokens.start] as usize;
        // SAFETY: texts share no block, and a strip and key head is one thread's.
        unsafe { self.view(*row as usize).write_strip(self.form, position, kv_head, &rows) };
    }

    /// Where a query stands in the buffer of padded ones; `None` if it needs no padding and stays where it is.
    fn padded_query(&self, token: usize, head: usize) -> Option<usize> {
        let dim = self.model.spec.attention.head_dim;
        let padded = dim.next_multiple_of(TILE);
        (padded != dim).then_some(token * self.widths.queries + head * padded)
    }

    /// Attention of the queries of a unit that share a key head.
    fn mix(&self, unit: usize, kv_head: usize, number: usize) {
        let spec = &self.model.spec.attention;
        let (row, tokens) = &self.lists.units[unit];
        let reach = self.model.spec.layers[number].reach;
        let end = self.lists.rows[*row as usize].span.len();
        let seen = match spec.causal {
            true => Seen::Before { window: reach.map(|reach| reach + 1) },
            false => Seen::Around { end, reach },
        };
        let heads = kv_head * spec.group()..(kv_head + 1) * spec.group();
        let padded = spec.head_dim.next_multiple_of(TILE);
        let all = tokens.clone().flat_map(|token| heads.clone().map(move |head| (token, head)));
        let kv = self.view(*row as usize);
        let mut queries = [Query { q: std::ptr::null(), position: 0, out: std::ptr::null_mut() }; 4 * QUERIES];
        let mut filled = 0;
        let attend = |queries: &[Query]| {
            let attention = Attention { kv, kv_head, seen, queries };
            // SAFETY: the last stage wrote all that is read here; a query's result is one thread's.
            unsafe { attention.run(self.form) };
        };
        for (token, head) in all {
            let at = token * self.widths.mixed + head * padded;
            let q = match self.padded_query(token, head) {
                Some(at) => self.buffers.queries.at(at, padded),
                None => self.buffers.qkv.at(token * self.widths.qkv + head * padded, padded),
            };
            queries[filled] =
                Query { q, position: self.lists.positions[token] as usize, out: self.buffers.mixed.at(at, padded) };
            filled += 1;
            if filled == queries.len() {
                attend(&queries);
                filled = 0;
            }
        }
        attend(&queries[..filled]);
    }

    /// The keys and values of a text.
    fn view(&self, row: usize) -> KvView<'_> {
        let table = &self.lists.table[self.lists.rows[row].blocks.clone()];
        KvView { layout: self.layout, memory: self.kv.pointer(), table }
    }

    pub(super) fn norm(&self, x: &mut [f32], norm: &Norm) {
        let eps = self.model.spec.norm_eps as f32;
        match &norm.bias {
            Some(bias) => layer_norm(self.form, x, &norm.weight, bias, eps),
            None => rms_norm(self.form, x, &norm.weight, eps),
        }
    }

    pub(super) fn products(&self) -> Products {
        Products { form: self.form, mode: self.model.mode }
    }

    fn task<'m>(&self, linear: &'m Linear, from: Columns<'_>, to: Columns<'_>) -> Task<'m> {
        let matrix = &linear.matrix;
        let prepared = |of| self.buffers.prepared(matrix.inputs, of);
        self.products().task(matrix, 0..self.lists.tokens(), from, prepared, to).with_bias(linear.bias.as_deref())
    }

    /// Prepares a token's row for products with some matrices, which all read the same inputs.
    fn prepare(&self, token: usize, x: &[f32], matrices: &[&Matrix]) {
        let matrix = |i: usize| matrices.get(i).copied();
        self.products().prepare_row(token, x, matrix, |k, of| self.buffers.prepared(k, of));
    }

    /// The residual stream of a token, `[hidden]`.
    ///
    /// # Safety
    /// No other thread uses it until the next meeting.
    #[expect(clippy::mut_from_ref, reason = "the threads of a team divide the tokens among themselves")]
    pub(super) unsafe fn hidden(&self, token: usize) -> &mut [f32] {
        let first = token * self.widths.hidden;
        // SAFETY: as the caller vouches.
        unsafe { self.buffers.hidden.part(first..first + self.model.spec.hidden) }
    }
}

pub(super) fn row_of(row: usize, width: usize) -> Range<usize> {
    row * width..(row + 1) * width
}

/// Where keys and values begin in a row of `qkv`; queries come first.
fn columns(of: &Layer) -> (usize, usize) {
    let k = of.q.matrix.tiles() * TILE;
    (k, k + of.k.matrix.tiles() * TILE)
}
