//! Latent attention, in the form in which nothing is expanded: a head's query takes the projection from latents to keys
//! into itself, and what it mixes are latents, which are projected to a value at the end. Prompts and answers go the same
//! way, so that a position is the same however it was computed.

use super::sparse::Places;
use super::{Columns, Step, Task, copy_heads};
use crate::kernels::{LatentAttention, TILE, rms_norm, rotate_halves, rotate_neighbours};
use crate::model::{LATENT_NORM_EPS, LatentSpec, RopePairs};
use crate::runner::native::model::{IndexerWeights, LatentQuery, LatentWeights};
use crate::runner::native::weights::{Linear, Matrix};
use crate::runner::team::Worker;

/// Heads that one thread takes at a time: their queries go over the latents together.
const HEADS_AT_ONCE: usize = 8;

impl LatentQuery {
    /// What the residual stream is multiplied with.
    pub(super) fn first(&self) -> &Linear {
        match self {
            Self::Plain(query) => query,
            Self::Ranked { down, .. } => down,
        }
    }
}

impl<'a> Step<'a> {
    /// From the prepared rows to the prepared inputs of the output projection, which it gives.
    pub(super) fn latent(
        &self,
        worker: &Worker<'_>,
        number: usize,
        of: &'a LatentWeights,
        spec: &LatentSpec,
    ) -> &'a Linear {
        let tokens = self.batch.tokens.len();
        let latent_column = of.query.first().matrix.tiles() * TILE;
        let places = Places::of(of);
        let task = |linear: &'a Linear, column| self.task(&linear.matrix, &self.buffers.qkv, self.widths.qkv, column);
        let both = [task(of.query.first(), 0), task(&of.latent, latent_column)];
        match &of.indexer {
            None => self.products.run(worker, &both),
            Some(indexer) => {
                let [query, latent] = both;
                let [key, weights] = [task(&indexer.key, places.key), task(&indexer.weights, places.weights)];
                self.products.run(worker, &[query, latent, key, weights]);
            }
        }
        worker.meet();
        for token in worker.share(tokens, 1).flatten() {
            self.keep_latent(token, number, latent_column, of, spec);
            if let (Some(indexer), Some(spec)) = (&of.indexer, spec.indexer()) {
                self.keep_index_key(token, number, &places, indexer, spec);
            }
            if let LatentQuery::Ranked { down, norm, up } = &of.query {
                self.norm_query(token, down, norm, up, of.indexer.as_ref());
            }
        }
        worker.meet();
        let queries = match &of.query {
            LatentQuery::Plain(_) => Columns { buffer: &self.buffers.qkv, width: self.widths.qkv, first: 0 },
            LatentQuery::Ranked { up, .. } => {
                let from = Columns { buffer: &self.buffers.qkv, width: self.widths.qkv, first: 0 };
                let to = Columns { buffer: &self.buffers.wide, width: self.widths.wide, first: 0 };
                let query = self.task_of(&up.matrix, from, to);
                match &of.indexer {
                    None => self.products.run(worker, &[query]),
                    Some(of) => {
                        let index = self.task_of(&of.query.matrix, from, Columns { first: places.queries, ..to });
                        self.products.run(worker, &[query, index]);
                    }
                }
                worker.meet();
                to
            }
        };
        // The queries of an indexer are one unit more.
        let units = spec.heads + usize::from(of.indexer.is_some());
        for unit in worker.share(tokens * units, 1).flatten() {
            let (token, head) = (unit / units, unit % units);
            match spec.indexer().filter(|_| head == spec.heads) {
                None => self.turn_query(token, head, queries, of, spec),
                Some(spec) => self.turn_index_queries(token, &places, spec),
            }
        }
        worker.meet();
        let stride = spec.stride();
        self.products.run_each(
            worker,
            spec.heads,
            |head| {
                let from = Columns { first: head * spec.query(), ..queries };
                let to = Columns { buffer: &self.buffers.queries, width: self.widths.mixed, first: head * stride };
                [self.head_task(&of.absorb[head], head, from, to)]
            },
            &[],
        );
        worker.meet();
        if let Some(indexer) = spec.indexer() {
            self.choose_positions(worker, number, &places, indexer);
        }
        let groups = spec.heads.div_ceil(HEADS_AT_ONCE);
        for at in worker.share(self.lists.units.len() * groups, 1).flatten() {
            let (unit, first) = (&self.lists.units[at / groups], at % groups * HEADS_AT_ONCE);
            let (kv, values) = (self.view(number, unit.row), spec.rank.next_multiple_of(TILE));
            let heads = first..spec.heads.min(first + HEADS_AT_ONCE);
            let chosen_from = self.chosen_from(unit, spec);
            self.attend(unit.tokens.start..chosen_from, heads.clone(), stride, |queries| {
                // SAFETY: the last stages wrote all that is read here; a query's result is one thread's.
                unsafe { LatentAttention { kv, values, chosen: None, queries }.run(self.form) };
            });
            for token in chosen_from..unit.tokens.end {
                let chosen = Some(self.chosen(token));
                self.attend(token..token + 1, heads.clone(), stride, |queries| {
                    // SAFETY: as above.
                    unsafe { LatentAttention { kv, values, chosen, queries }.run(self.form) };
                });
            }
        }
        worker.meet();
        self.values(worker, of, spec);
        &of.out
    }

    /// Prepares a token's row for what [`Self::latent`] multiplies it with first.
    pub(super) fn prepare_latent(&self, token: usize, x: &[f32], of: &LatentWeights) {
        match &of.indexer {
            None => self.prepare(token, x, &[of.query.first(), &of.latent]),
            Some(IndexerWeights { key, weights, .. }) => {
                self.prepare(token, x, &[of.query.first(), &of.latent, key, weights]);
            }
        }
    }

    /// Norms and turns the latent and the shared key of a token, which go to memory.
    fn keep_latent(&self, token: usize, number: usize, column: usize, of: &LatentWeights, spec: &LatentSpec) {
        let position = self.batch.positions[token] as usize;
        let first = token * self.widths.qkv + column;
        // SAFETY: a token is one thread's.
        let row = unsafe { self.buffers.qkv.part(first..first + spec.cached()) };
        of.latent.add_bias(row);
        let (latent, key) = row.split_at_mut(spec.rank);
        rms_norm(self.form, latent, &of.latent_norm, LATENT_NORM_EPS as f32);
        self.turn(position, key, self.model.spec.rope.pairs);
        let view = self.view(number, self.lists.row_of[token]);
        // SAFETY: rows never share a block that one of them writes, and a position is one thread's.
        unsafe {
            view.write_latent(position, 0, latent);
            view.write_latent(position, spec.rank.next_multiple_of(TILE), key);
        }
    }

    fn norm_query(&self, token: usize, down: &Linear, norm: &[f32], up: &Linear, indexer: Option<&IndexerWeights>) {
        let first = token * self.widths.qkv;
        // SAFETY: a token is one thread's.
        let row = unsafe { self.buffers.qkv.part(first..first + norm.len()) };
        down.add_bias(row);
        rms_norm(self.form, row, norm, LATENT_NORM_EPS as f32);
        match indexer {
            None => self.prepare(token, row, &[up]),
            Some(indexer) => self.prepare(token, row, &[up, &indexer.query]),
        }
    }

    /// Scales one head's query, puts its turned part where attention reads it, and prepares the rest.
    fn turn_query(&self, token: usize, head: usize, queries: Columns<'_>, of: &LatentWeights, spec: &LatentSpec) {
        let first = token * queries.width + head * spec.query();
        // SAFETY: a token's head is one thread's.
        let query = unsafe { queries.buffer.part(first..first + spec.query()) };
        query.iter_mut().for_each(|x| *x *= spec.scale as f32);
        let (plain, rotary) = query.split_at_mut(spec.plain);
        self.turn(self.batch.positions[token] as usize, rotary, self.model.spec.rope.pairs);
        let from = token * self.widths.mixed + head * spec.stride() + spec.rank.next_multiple_of(TILE);
        // SAFETY: as above.
        let to = unsafe { self.buffers.queries.part(from..from + spec.rotary.next_multiple_of(TILE)) };
        to[..spec.rotary].copy_from_slice(rotary);
        to[spec.rotary..].fill(0.0);
        self.prepare_head(token, head, plain, &of.absorb[head]);
    }

    /// From mixes of latents to the prepared inputs of the output projection.
    fn values(&self, worker: &Worker<'_>, of: &'a LatentWeights, spec: &LatentSpec) {
        let (tokens, stride) = (self.batch.tokens.len(), spec.stride());
        for unit in worker.share(tokens * spec.heads, 1).flatten() {
            let (token, head) = (unit / spec.heads, unit % spec.heads);
            let first = token * self.widths.mixed + head * stride;
            // SAFETY: the last stage wrote it.
            let mixed = unsafe { self.buffers.mixed.seen(first..first + spec.rank) };
            self.prepare_head(token, head, mixed, &of.value[head]);
        }
        worker.meet();
        let padded = spec.value.next_multiple_of(TILE);
        self.products.run_each(
            worker,
            spec.heads,
            |head| {
                let from = Columns { buffer: &self.buffers.mixed, width: self.widths.mixed, first: head * stride };
                let to = Columns { buffer: &self.buffers.wide, width: self.widths.wide, first: head * padded };
                [self.head_task(&of.value[head], head, from, to)]
            },
            &[],
        );
        worker.meet();
        for token in worker.share(tokens, 1).flatten() {
            // SAFETY: a token is one thread's.
            let rows = unsafe { self.rows(token, token) };
            copy_heads(rows.x, spec.value, rows.wide, padded, spec.heads);
            self.prepare(token, rows.x, &[&of.out]);
        }
    }

    /// Turns the first components of a query or a key.
    pub(super) fn turn(&self, position: usize, x: &mut [f32], pairs: RopePairs) {
        let (cos, sin) = self.rope.at(position);
        match pairs {
            RopePairs::Halves => rotate_halves(x, cos, sin),
            RopePairs::Neighbours => rotate_neighbours(x, cos, sin),
        }
    }

    fn prepare_head(&self, token: usize, head: usize, x: &[f32], matrix: &Matrix) {
        let Some(of) = self.products.preparation(matrix) else { return };
        let places = self.buffers.prepared_head(matrix.inputs, of, self.batch.tokens.len(), head);
        // SAFETY: the row and its places are one thread's in this stage.
        unsafe { places.write(self.form, token, x.as_ptr()) };
    }

    /// The product of a head's matrix with the rows of all tokens.
    fn head_task<'m>(&self, matrix: &'m Matrix, head: usize, from: Columns<'_>, to: Columns<'_>) -> Task<'m> {
        let tokens = self.batch.tokens.len();
        let prepared = |of| self.buffers.prepared_head(matrix.inputs, of, tokens, head);
        self.products.task(matrix, 0..tokens, from, prepared, to)
    }
}

impl LatentSpec {
    /// Elements from head to head of queries and of mixes: a latent and a key, each padded to whole vectors.
    pub(in crate::runner::native) fn stride(&self) -> usize {
        self.rank.next_multiple_of(TILE) + self.rotary.next_multiple_of(TILE)
    }
}
