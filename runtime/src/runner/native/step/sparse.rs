//! The choice of positions for latent attention. An indexer keeps a key of every position, also of those from which nothing
//! has to be chosen yet; scores are made, and a choice, for tokens that see more positions than are chosen.

use super::{Step, Unit};
use crate::kernels::{IndexScores, TILE, layer_norm};
use crate::model::{IndexerSpec, LATENT_NORM_EPS, LatentSpec};
use crate::runner::choice::choose_positions;
use crate::runner::native::model::{IndexerWeights, LatentQuery, LatentWeights};
use crate::runner::team::Worker;
use std::ops::Range;

/// Positions of one token that a thread scores at a time, whole strips.
const PIECE_POSITIONS: usize = 512;

/// Where what an indexer multiplies begins in a row: its key and weights in one of `qkv`, its queries in one of `wide`.
pub(super) struct Places {
    pub(super) key: usize,
    pub(super) weights: usize,
    pub(super) queries: usize,
}

impl Places {
    /// Behind what the attention itself has there.
    pub(super) fn of(of: &LatentWeights) -> Self {
        let key = (of.query.first().matrix.tiles() + of.latent.matrix.tiles()) * TILE;
        let weights = key + of.indexer.as_ref().map_or(0, |indexer| indexer.key.matrix.tiles() * TILE);
        let queries = match &of.query {
            LatentQuery::Plain(_) => 0,
            LatentQuery::Ranked { up, .. } => up.matrix.tiles() * TILE,
        };
        Self { key, weights, queries }
    }
}

impl Step<'_> {
    /// Norms and turns the indexer's key of a token, which goes to memory.
    pub(super) fn keep_index_key(
        &self,
        token: usize,
        number: usize,
        places: &Places,
        of: &IndexerWeights,
        spec: &IndexerSpec,
    ) {
        let position = self.batch.positions[token] as usize;
        let first = token * self.widths.qkv + places.key;
        // SAFETY: a token is one thread's.
        let key = unsafe { self.buffers.qkv.part(first..first + spec.head_dim) };
        let (weight, bias) = &of.key_norm;
        layer_norm(self.form, key, weight, bias, LATENT_NORM_EPS as f32);
        self.turn(position, key, spec.pairs);
        // SAFETY: rows never share a block that one of them writes, and a position is one thread's.
        unsafe { self.view(number, self.lists.row_of[token]).write_index_key(position, key) };
    }

    /// Turns the indexer's queries of a token, and scales what its heads count.
    pub(super) fn turn_index_queries(&self, token: usize, places: &Places, spec: &IndexerSpec) {
        let position = self.batch.positions[token] as usize;
        // SAFETY: a token's indexer is one thread's in this stage.
        let (queries, weights) = unsafe {
            (
                self.buffers.wide.part(self.index_queries(token, places, spec)),
                self.buffers.qkv.part(self.index_weights(token, places, spec)),
            )
        };
        queries.chunks_exact_mut(spec.head_dim).for_each(|query| self.turn(position, query, spec.pairs));
        let scale = spec.scale() as f32;
        weights.iter_mut().for_each(|weight| *weight *= scale);
    }

    /// Chooses the positions of all tokens that see more than are chosen: some tokens at a time, so that scores of many
    /// tokens with long contexts need no memory without bounds. Begins and ends between two stages.
    pub(super) fn choose_positions(&self, worker: &Worker<'_>, number: usize, places: &Places, spec: &IndexerSpec) {
        let (tokens, room) = (self.batch.tokens.len(), self.buffers.index_room);
        if room.tokens == 0 {
            return;
        }
        let pieces = room.positions.div_ceil(PIECE_POSITIONS);
        for first in (0..tokens).step_by(room.tokens) {
            let count = room.tokens.min(tokens - first);
            for unit in worker.share(count * pieces, 1).flatten() {
                self.score_positions(first + unit / pieces, unit / pieces, unit % pieces, number, places, spec);
            }
            worker.meet();
            for at in worker.share(count, 1).flatten().filter(|at| self.has_choice(first + at)) {
                let (token, scores) = (first + at, at * room.positions);
                let seen = self.batch.positions[token] as usize + 1;
                // SAFETY: the last stage wrote the scores; a token's choice is one thread's.
                let (scores, chosen) = unsafe {
                    (
                        self.buffers.index_scores.seen(scores..scores + seen),
                        self.buffers.chosen.part(self.choice(token)),
                    )
                };
                choose_positions(scores, chosen);
            }
            worker.meet();
        }
    }

    /// Scores a piece of the positions that a token sees, to row `at`.
    fn score_positions(
        &self,
        token: usize,
        at: usize,
        piece: usize,
        number: usize,
        places: &Places,
        spec: &IndexerSpec,
    ) {
        let seen = self.batch.positions[token] as usize + 1;
        let positions = piece * PIECE_POSITIONS..seen.min((piece + 1) * PIECE_POSITIONS);
        if positions.is_empty() || !self.has_choice(token) {
            return;
        }
        let first = at * self.buffers.index_room.positions + positions.start;
        // SAFETY: the last stages wrote queries and weights, which nobody writes now; a piece of a token is one thread's.
        let (queries, weights, scores) = unsafe {
            (
                self.buffers.wide.seen(self.index_queries(token, places, spec)),
                self.buffers.qkv.seen(self.index_weights(token, places, spec)),
                self.buffers.index_scores.part(first..first + positions.len().next_multiple_of(TILE)),
            )
        };
        let kv = self.view(number, self.lists.row_of[token]);
        // SAFETY: all positions up to the token's own have been written, and nobody writes them in this stage.
        unsafe { IndexScores { kv, queries, weights, positions, scores }.run(self.form) };
    }

    /// The first token of a unit that sees more positions than are chosen for it; the end of the unit if none does.
    pub(super) fn chosen_from(&self, unit: &Unit, spec: &LatentSpec) -> usize {
        let Range { start, end } = unit.tokens;
        match spec.sparse {
            None => end,
            // Positions ascend in a unit.
            Some(_) => (start..end).find(|&token| self.has_choice(token)).unwrap_or(end),
        }
    }

    /// The positions that the last indexer has chosen for a token.
    pub(super) fn chosen(&self, token: usize) -> &[u32] {
        // SAFETY: written in an earlier stage; nobody writes choices while attention reads them.
        unsafe { self.buffers.chosen.seen(self.choice(token)) }
    }

    /// Whether a token sees more positions than are chosen.
    fn has_choice(&self, token: usize) -> bool {
        self.batch.positions[token] as usize >= self.widths.chosen
    }

    fn choice(&self, token: usize) -> Range<usize> {
        token * self.widths.chosen..(token + 1) * self.widths.chosen
    }

    fn index_queries(&self, token: usize, places: &Places, spec: &IndexerSpec) -> Range<usize> {
        let first = token * self.widths.wide + places.queries;
        first..first + spec.heads * spec.head_dim
    }

    fn index_weights(&self, token: usize, places: &Places, spec: &IndexerSpec) -> Range<usize> {
        let first = token * self.widths.qkv + places.weights;
        first..first + spec.heads
    }
}
