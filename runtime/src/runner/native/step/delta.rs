//! Gated delta nets. A token's part of the state is read and replaced in the order of the tokens, whoever computes it; what
//! a thread takes are some components of one value head, for all tokens of a row.

use super::{LayerMemory, Step};
use crate::kernels::{DeltaRule, MAX_TAPS, TILE, convolve, rms_norm, swiglu};
use crate::model::{DELTA_NORM_EPS, DeltaSpec};
use crate::runner::RowState;
use crate::runner::native::memory::Shared;
use crate::runner::native::model::DeltaWeights;
use crate::runner::native::weights::Linear;
use crate::runner::team::Worker;
use std::ops::Range;

/// What a recurrence reads of a token: where each part begins, and where the last one ends.
pub(in crate::runner::native) struct Mixed {
    keys: usize,
    /// By value head, padded to whole tiles.
    values: usize,
    /// One number for each value head.
    decay: usize,
    beta: usize,
    pub(in crate::runner::native) end: usize,
}

impl DeltaSpec {
    pub(in crate::runner::native) fn mixed(&self) -> Mixed {
        let keys = self.keys();
        let values = 2 * keys;
        let decay = values + self.value_heads * self.value_dim.next_multiple_of(TILE);
        let beta = decay + self.value_heads;
        Mixed { keys, values, decay, beta, end: beta + self.value_heads }
    }

    /// What the projection gives for one key head: a query, a key, values, gates.
    fn key_head_width(&self) -> usize {
        2 * self.key_dim + 2 * self.group() * self.value_dim
    }

    /// The three pieces of a key head that pass the convolution: their columns among what the projection gives, and their
    /// channels.
    fn pieces(&self, key_head: usize) -> [(usize, Range<usize>); 3] {
        let (dim, values) = (self.key_dim, self.group() * self.value_dim);
        let column = key_head * self.key_head_width();
        let channels = |first: usize, width: usize| first + key_head * width..first + (key_head + 1) * width;
        [
            (column, channels(0, dim)),
            (column + dim, channels(self.keys(), dim)),
            (column + 2 * dim, channels(2 * self.keys(), values)),
        ]
    }

    /// Tiles of a value head.
    fn value_tiles(&self) -> usize {
        self.value_dim.div_ceil(TILE)
    }
}

/// The recurrent states of a row in one layer.
struct Place<'a> {
    /// Those of all sequences.
    memory: Shared<f32>,
    /// Floats of each.
    floats: usize,
    own: usize,
    state: RowState<'a>,
    /// Position of the row's first token.
    first: usize,
    span: Range<usize>,
}

impl Place<'_> {
    /// The part of the row's own state from `at` on.
    fn own(&self, at: usize, len: usize) -> *mut f32 {
        self.memory.at(self.own + at, len)
    }

    /// The snapshots that stand behind tokens of this row: how many of them, and the elements where each begins.
    fn saves(&self) -> impl Iterator<Item = (usize, usize)> {
        let behind =
            |tokens: usize| tokens.checked_sub(self.first).filter(|count| (1..=self.span.len()).contains(count));
        let saves = self.state.saves.iter().filter_map(move |save| Some((behind(save.tokens)?, save.to)));
        saves.map(|(count, to)| (count, to.0 as usize * self.floats))
    }
}

impl<'a> Step<'a> {
    /// From the prepared rows to the prepared inputs of the output projection, which it gives.
    pub(super) fn delta(
        &self,
        worker: &Worker<'_>,
        number: usize,
        of: &'a DeltaWeights,
        spec: &DeltaSpec,
    ) -> &'a Linear {
        let tokens = self.batch.tokens.len();
        let task = |linear: &'a Linear, column| self.task(&linear.matrix, &self.buffers.qkv, self.widths.qkv, column);
        self.products.run(worker, &[task(&of.qkvz, 0), task(&of.ba, of.qkvz.matrix.tiles() * TILE)]);
        worker.meet();
        for unit in worker.share(tokens * spec.key_heads, 1).flatten() {
            self.convolve(unit / spec.key_heads, unit % spec.key_heads, number, of, spec);
        }
        worker.meet();
        let tiles = spec.value_heads * spec.value_tiles();
        for unit in worker.share(self.batch.rows.len() * (tiles + 1), 1).flatten() {
            let place = self.place(number, unit / (tiles + 1));
            match unit % (tiles + 1) {
                tile if tile < tiles => self.recur(&place, tile, spec),
                _ => self.keep_inputs(&place, spec),
            }
        }
        worker.meet();
        for token in worker.share(tokens, 1).flatten() {
            self.gate_values(token, of, spec);
        }
        &of.out
    }

    fn place(&self, number: usize, row: usize) -> Place<'_> {
        let LayerMemory::State(memory, floats) = self.lists.layers[number] else {
            unreachable!("memory is of its layer")
        };
        let of = &self.batch.rows[row];
        let state = of.state.expect("the batch was checked");
        let own = state.place.0 as usize * floats;
        let first = of.context_tokens - of.span.len();
        Place { memory, floats, own, state, first, span: of.span.clone() }
    }

    /// The convolution of one key head's components at one token, norms, and how its value heads forget.
    fn convolve(&self, token: usize, key_head: usize, number: usize, of: &DeltaWeights, spec: &DeltaSpec) {
        let place = self.place(number, self.lists.row_of[token]);
        let mixed = spec.mixed();
        let first = token * self.widths.wide;
        // SAFETY: what is made of one key head is one thread's in this stage.
        let part = |range: Range<usize>| unsafe { self.buffers.wide.part(first + range.start..first + range.end) };
        let [query, key, values] = spec.pieces(key_head);
        let eps = (DELTA_NORM_EPS / spec.key_dim as f64) as f32;
        for (piece, to, factors) in [(query, 0, &of.query_factors), (key, mixed.keys, &of.key_factors)] {
            let x = part(to + key_head * spec.key_dim..to + (key_head + 1) * spec.key_dim);
            self.filter(&place, token, piece, of, spec, x);
            rms_norm(self.form, x, factors, eps);
        }
        let (dim, padded) = (spec.value_dim, spec.value_tiles() * TILE);
        let (column, channels) = values;
        let qkv = token * self.widths.qkv;
        let ba = qkv + of.qkvz.matrix.tiles() * TILE + key_head * 2 * spec.group();
        // SAFETY: written by the last stage.
        let ba = unsafe { self.buffers.qkv.seen(ba..ba + 2 * spec.group()) };
        for i in 0..spec.group() {
            let head = key_head * spec.group() + i;
            let piece = (column + i * dim, channels.start + i * dim..channels.start + (i + 1) * dim);
            let to = mixed.values + head * padded;
            self.filter(&place, token, piece, of, spec, part(to..to + dim));
            let (b, a) = (ba[i], ba[spec.group() + i] + of.rate_bias[head]);
            // ln(1 + e^a), which beyond 20 is a to the last digit.
            let softplus = if a > 20.0 { a } else { a.exp().ln_1p() };
            part(mixed.decay + head..mixed.decay + head + 1)[0] = (-of.rates[head] * softplus).exp();
            part(mixed.beta + head..mixed.beta + head + 1)[0] = 1.0 / (1.0 + (-b).exp());
        }
    }

    /// Convolves some channels at one token.
    fn filter(
        &self,
        place: &Place<'_>,
        token: usize,
        (column, channels): (usize, Range<usize>),
        of: &DeltaWeights,
        spec: &DeltaSpec,
        out: &mut [f32],
    ) {
        let (mut weights, mut inputs) = ([std::ptr::null(); MAX_TAPS], [std::ptr::null(); MAX_TAPS]);
        for (tap, at) in weights[..spec.taps].iter_mut().enumerate() {
            *at = of.taps[tap * spec.channels()..][channels.clone()].as_ptr();
        }
        let position = place.first + (token - place.span.start);
        let taps = spec.taps.min(position + 1);
        for (tap, at) in inputs[..taps].iter_mut().enumerate() {
            *at = self.input(place, position + 1 + tap - taps, (column, &channels), spec);
        }
        // SAFETY: weights and inputs have an element for each channel; the inputs are only read in this stage.
        unsafe { convolve(self.form, &weights[..spec.taps], &inputs[..taps], out) };
    }

    /// What some channels were given at a position of the row, or at one of the last positions before it.
    fn input(
        &self,
        place: &Place<'_>,
        position: usize,
        (column, channels): (usize, &Range<usize>),
        spec: &DeltaSpec,
    ) -> *const f32 {
        match position.checked_sub(place.first) {
            Some(ahead) => self.buffers.qkv.at((place.span.start + ahead) * self.widths.qkv + column, channels.len()),
            None => {
                let row = position + spec.taps - 1 - place.first;
                place.own(spec.matrices() + row * spec.channels() + channels.start, channels.len())
            }
        }
    }

    /// The recurrence of one tile of a value head's components, over all tokens of a row.
    fn recur(&self, place: &Place<'_>, tile: usize, spec: &DeltaSpec) {
        let (head, within) = (tile / spec.value_tiles(), tile % spec.value_tiles());
        let (key_head, mixed) = (head / spec.group(), spec.mixed());
        let (size, padded) = (spec.key_dim * TILE, spec.value_tiles() * TILE);
        let state = place.own(tile * size, size);
        if place.first == 0 {
            // SAFETY: the tile is one thread's.
            unsafe { std::slice::from_raw_parts_mut(state, size) }.fill(0.0);
        }
        let wide =
            |token: usize, at: usize, len: usize| self.buffers.wide.at(token * self.widths.wide + at, len).cast_const();
        let mut done = 0;
        let last = (place.span.len(), None);
        for (end, save) in place.saves().map(|(end, to)| (end, Some(to))).chain([last]) {
            let token = place.span.start + done;
            if end > done {
                let rule = DeltaRule {
                    state,
                    key_dim: spec.key_dim,
                    tokens: end - done,
                    q: wide(token, key_head * spec.key_dim, spec.key_dim),
                    k: wide(token, mixed.keys + key_head * spec.key_dim, spec.key_dim),
                    v: wide(token, mixed.values + head * padded + within * TILE, TILE),
                    decay: wide(token, mixed.decay + head, 1),
                    beta: wide(token, mixed.beta + head, 1),
                    stride: self.widths.wide,
                    out: self.buffers.mixed.at(token * self.widths.mixed + tile * TILE, TILE),
                    out_stride: self.widths.mixed,
                };
                // SAFETY: the last stage wrote what is read, for all tokens of the row; the tile is one thread's.
                unsafe { rule.run(self.form) };
                done = end;
            }
            if let Some(to) = save {
                let to = place.memory.at(to + tile * size, size);
                // SAFETY: nobody else uses a place that a snapshot goes to.
                unsafe { std::ptr::copy(state, to, size) };
            }
        }
    }

    /// Keeps the last inputs of the convolution: behind the row, and behind its snapshots.
    fn keep_inputs(&self, place: &Place<'_>, spec: &DeltaSpec) {
        let own = (place.span.len(), place.own);
        // The row's own place comes last: snapshots read what stood there before.
        for (end, to) in place.saves().chain([own]) {
            let end = place.first + end;
            for row in 0..spec.taps - 1 {
                // Before the first token there is nothing, and nobody asks for it.
                let Some(position) = (end + row).checked_sub(spec.taps - 1) else { continue };
                for (column, channels) in (0..spec.key_heads).flat_map(|head| spec.pieces(head)) {
                    let from = self.input(place, position, (column, &channels), spec);
                    let first = to + spec.matrices() + row * spec.channels() + channels.start;
                    // SAFETY: the places are this thread's; rows of one place are moved to the front in order.
                    unsafe { std::ptr::copy(from, place.memory.at(first, channels.len()), channels.len()) };
                }
            }
        }
    }

    /// Norms a token's results by head, gates them and prepares them.
    fn gate_values(&self, token: usize, of: &DeltaWeights, spec: &DeltaSpec) {
        let (dim, padded) = (spec.value_dim, spec.value_tiles() * TILE);
        // SAFETY: a token is one thread's.
        let rows = unsafe { self.rows(token, token) };
        for (head, x) in rows.x.chunks_exact_mut(dim).take(spec.value_heads).enumerate() {
            let first = token * self.widths.mixed + head * padded;
            let (key_head, i) = (head / spec.group(), head % spec.group());
            let gate = key_head * spec.key_head_width() + 2 * spec.key_dim + (spec.group() + i) * dim;
            let gate = token * self.widths.qkv + gate;
            // SAFETY: as above; gates are only read.
            let (value, gate) =
                unsafe { (self.buffers.mixed.part(first..first + dim), self.buffers.qkv.seen(gate..gate + dim)) };
            rms_norm(self.form, value, &of.norm, self.model.spec.norm_eps as f32);
            x.copy_from_slice(gate);
            swiglu(self.form, x, value);
        }
        self.prepare(token, rows.x, &[&of.out]);
    }
}
