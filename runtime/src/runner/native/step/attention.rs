use super::{LayerMemory, Step, StepLists, copy_heads};
use crate::kernels::{Attention, KvView, QUERIES, Query, Seen, TILE, add, gate_by_sigmoid, rms_norm};
use crate::model::{AttentionSpec, QkNorm};
use crate::runner::native::model::AttentionWeights;
use crate::runner::native::weights::Linear;
use crate::runner::team::Worker;
use std::ops::Range;

impl<'a> Step<'a> {
    /// Grouped-query attention: from the prepared rows to the prepared inputs of the output projection, which it gives.
    pub(super) fn attention(
        &self,
        worker: &Worker<'_>,
        number: usize,
        of: &'a AttentionWeights,
        spec: &AttentionSpec,
    ) -> &'a Linear {
        let tokens = self.batch.tokens.len();
        let columns = Columns::of(of);
        let task = |linear: &'a Linear, column| self.task(&linear.matrix, &self.buffers.qkv, self.widths.qkv, column);
        self.products.run(worker, &[task(&of.q, 0), task(&of.k, columns.k), task(&of.v, columns.v)]);
        worker.meet();
        if spec.qk_norm == QkNorm::Whole {
            for token in worker.share(tokens, 1).flatten() {
                self.norm_whole(token, of, spec);
            }
            worker.meet();
        }
        for unit in worker.share(tokens * spec.kv_heads, 1).flatten() {
            self.heads(unit / spec.kv_heads, unit % spec.kv_heads, number, of, spec);
        }
        worker.meet();
        for unit in worker.share(self.lists.units.len() * spec.kv_heads, 1).flatten() {
            let (unit, kv_head) = (&self.lists.units[unit / spec.kv_heads], unit % spec.kv_heads);
            let heads = kv_head * spec.group()..(kv_head + 1) * spec.group();
            let stride = spec.head_dim.next_multiple_of(TILE);
            self.attend(unit.tokens.clone(), heads, stride, |queries| {
                let attention = Attention {
                    kv: self.view(number, unit.row),
                    kv_head,
                    seen: Seen::Before { window: spec.window },
                    queries,
                };
                // SAFETY: the last stage wrote all that is read here; a query's result is one thread's.
                unsafe { attention.run(self.form) };
            });
        }
        worker.meet();
        let padded = spec.head_dim.next_multiple_of(TILE);
        for token in worker.share(tokens, 1).flatten() {
            // SAFETY: a token is one thread's.
            let rows = unsafe { self.rows(token, token) };
            copy_heads(rows.x, spec.head_dim, rows.mixed, padded, spec.heads);
            if spec.gated {
                self.gate_heads(token, rows.x, of, spec);
            }
            self.prepare(token, rows.x, &[&of.out]);
        }
        &of.out
    }

    /// Multiplies the results of all heads of a token by the sigmoid of their gates, which stand beside the queries.
    fn gate_heads(&self, token: usize, x: &mut [f32], of: &AttentionWeights, spec: &AttentionSpec) {
        let (dim, width) = (spec.head_dim, spec.query_width());
        for (head, x) in x.chunks_exact_mut(dim).take(spec.heads).enumerate() {
            let gate = head * width + dim..(head + 1) * width;
            let first = token * self.widths.qkv;
            // SAFETY: a token is one thread's.
            let gates = unsafe { self.buffers.qkv.part(first + gate.start..first + gate.end) };
            if let Some(bias) = &of.q.bias {
                add(gates, &bias[gate]);
            }
            gate_by_sigmoid(self.form, x, gates);
        }
    }

    /// Norms all queries of a token at once, and its keys.
    fn norm_whole(&self, token: usize, of: &AttentionWeights, spec: &AttentionSpec) {
        let Some((q_norm, k_norm)) = &of.qk_norm else { return };
        let first = token * self.widths.qkv;
        let eps = self.model.spec.norm_eps as f32;
        for (linear, weight, column, width) in
            [(&of.q, q_norm, 0, spec.heads * spec.head_dim), (&of.k, k_norm, Columns::of(of).k, spec.kv_width())]
        {
            // SAFETY: a token is one thread's in this stage.
            let x = unsafe { self.buffers.qkv.part(first + column..first + column + width) };
            linear.add_bias(x);
            rms_norm(self.form, x, weight, eps);
        }
    }

    /// Norms and turns the queries and the key of one key head and token; key and value go to memory.
    fn heads(&self, token: usize, kv_head: usize, number: usize, of: &AttentionWeights, spec: &AttentionSpec) {
        let (dim, eps) = (spec.head_dim, self.model.spec.norm_eps as f32);
        let position = self.batch.positions[token] as usize;
        let pairs = self.model.spec.rope.pairs;
        let columns = Columns::of(of);
        let first = token * self.widths.qkv;
        // SAFETY: the queries, key and value of one key head are one thread's in this stage.
        let part = |column: usize| unsafe { self.buffers.qkv.part(first + column..first + column + dim) };
        let width = spec.query_width();
        let bias = |x: &mut [f32], linear: &Linear, first: usize| {
            if let Some(bias) = &linear.bias {
                add(x, &bias[first..first + dim]);
            }
        };
        let norms = of.qk_norm.as_ref().filter(|_| spec.qk_norm == QkNorm::Heads);
        let normed = spec.qk_norm == QkNorm::Whole;
        let norm = |x: &mut [f32], weight: Option<&Vec<f32>>| {
            if let Some(weight) = weight {
                rms_norm(self.form, x, weight, eps);
            }
        };
        let scale = (dim as f32).sqrt().recip() * spec.query_growth.map_or(1.0, |growth| growth.at(position));
        let padded = dim.next_multiple_of(TILE);
        for head in kv_head * spec.group()..(kv_head + 1) * spec.group() {
            let q = part(head * width);
            if !normed {
                bias(q, &of.q, head * width);
            }
            norm(q, norms.map(|(q, _)| q));
            self.turn(position, q, pairs);
            let first = token * self.widths.mixed + head * padded;
            // SAFETY: as above.
            let to = unsafe { self.buffers.queries.part(first..first + padded) };
            to[dim..].fill(0.0);
            to.iter_mut().zip(q).for_each(|(to, q)| *to = *q * scale);
        }
        let (k, v) = (part(columns.k + kv_head * dim), part(columns.v + kv_head * dim));
        if !normed {
            bias(k, &of.k, kv_head * dim);
        }
        bias(v, &of.v, kv_head * dim);
        norm(k, norms.map(|(_, k)| k));
        self.turn(position, k, pairs);
        let view = self.view(number, self.lists.row_of[token]);
        // SAFETY: rows never share a block that one of them writes, and a position and key head is one thread's.
        unsafe { view.write(position, kv_head, k, v) };
    }

    /// Calls `run` with the queries of some heads of some tokens, a few at a time. A head's query, and the room for
    /// its result, are `stride` elements.
    pub(super) fn attend(
        &self,
        tokens: Range<usize>,
        heads: Range<usize>,
        stride: usize,
        mut run: impl FnMut(&[Query]),
    ) {
        let mut queries = [Query { q: std::ptr::null(), position: 0, out: std::ptr::null_mut() }; 4 * QUERIES];
        let all = tokens.flat_map(|token| heads.clone().map(move |head| (token, head)));
        let mut filled = 0;
        for (token, head) in all {
            let at = head * stride;
            queries[filled] = Query {
                q: self.buffers.queries.at(token * self.widths.mixed + at, stride),
                position: self.batch.positions[token] as usize,
                out: self.buffers.mixed.at(token * self.widths.mixed + at, stride),
            };
            filled += 1;
            if filled == queries.len() {
                run(&queries);
                filled = 0;
            }
        }
        if filled > 0 {
            run(&queries[..filled]);
        }
    }

    /// The keys and values of a row in a layer.
    pub(super) fn view(&self, number: usize, row: usize) -> KvView<'_> {
        let StepLists { layers, tables, table_of, .. } = self.lists;
        let LayerMemory::Blocks(layout, memory) = layers[number] else { unreachable!("memory is of its layer") };
        KvView { layout, memory: memory.pointer(), table: &tables[table_of[row].clone()] }
    }
}

/// Where keys and values begin in a row of `qkv`; queries come first.
struct Columns {
    k: usize,
    v: usize,
}

impl Columns {
    fn of(of: &AttentionWeights) -> Self {
        let k = of.q.matrix.tiles() * TILE;
        Self { k, v: k + of.k.matrix.tiles() * TILE }
    }
}
