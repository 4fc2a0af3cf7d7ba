//! A mixture of experts. Tokens and their experts are pairs, which stand expert by expert, so that an expert's rows are
//! multiplied together and its weights are read once.

use super::{Columns, Step, Task, TokenRows};
use crate::kernels::{TILE, add, add_scaled, swiglu};
use crate::model::RoutedSpec;
use crate::runner::native::model::{Expert, Gated, Routed, Shared};
use crate::runner::native::weights::Matrix;
use crate::runner::router::{Choice, choose};
use crate::runner::team::Worker;
use std::ops::Range;

/// Which experts have tokens in this step, and their pairs.
struct Active<'a> {
    experts: &'a [u32],
    /// First pair of each, and of none.
    starts: &'a [u32],
}

impl Active<'_> {
    fn pairs(&self, at: usize) -> Range<usize> {
        self.starts[at] as usize..self.starts[at + 1] as usize
    }
}

impl<'a> Step<'a> {
    /// From the prepared rows to the results of each pair, and of the shared MLP in `y`.
    pub(super) fn routed(&self, worker: &Worker<'_>, of: &'a Routed, spec: &RoutedSpec) {
        let (tokens, top_k) = (self.batch.tokens.len(), spec.router.top_k);
        self.score(worker, of);
        worker.meet();
        for token in worker.share(tokens, 1).flatten() {
            self.choose(token, of, spec);
            if let (Some(shared), Some(spec)) = (&of.shared, &spec.shared) {
                self.gate(token, &shared.mlp, spec.inner);
            }
        }
        worker.meet();
        // One piece of work, for whoever comes first.
        worker.share(1, 1).for_each(|_| self.group(spec));
        worker.meet();
        let active = self.active();
        let matrices = |at: usize| of.experts.of(active.experts[at] as usize);
        for pair in worker.share(tokens * top_k, 1).flatten() {
            self.spread(pair, of.experts.of(self.expert_of(pair, &active)));
        }
        worker.meet();
        let gate_and_up = |at: usize| {
            let (Expert { gate, up, .. }, rows) = (matrices(at), active.pairs(at));
            let from = Columns { buffer: &self.buffers.pair_x, width: self.widths.pair_x, first: 0 };
            let to = |first| Columns { buffer: &self.buffers.pair_wide, width: self.widths.pair_wide, first };
            let second = gate.tiles() * TILE;
            [self.pair_task(gate, rows.clone(), from, to(0)), self.pair_task(up, rows, from, to(second))]
        };
        self.products.run_each(worker, active.experts.len(), gate_and_up, &[]);
        worker.meet();
        for pair in worker.share(tokens * top_k, 1).flatten() {
            self.gate_pair(pair, of.experts.of(self.expert_of(pair, &active)), spec.inner);
        }
        worker.meet();
        let down = |at: usize| {
            let from = Columns { buffer: &self.buffers.pair_wide, width: self.widths.pair_wide, first: 0 };
            let to = Columns { buffer: &self.buffers.pair_out, width: self.widths.hidden, first: 0 };
            [self.pair_task(&matrices(at).down, active.pairs(at), from, to)]
        };
        let shared: Option<Task<'_>> = of.shared.as_ref().map(|shared| self.down(&shared.mlp));
        self.products.run_each(worker, active.experts.len(), down, shared.as_slice());
    }

    /// Prepares a token's row for what [`Self::score`] multiplies it with.
    pub(super) fn prepare_routed(&self, token: usize, x: &[f32], of: &Routed) {
        match &of.shared {
            None => self.prepare(token, x, &[&of.router]),
            Some(Shared { mlp: Gated { gate, up, .. }, gate: None }) => self.prepare(token, x, &[&of.router, gate, up]),
            Some(Shared { mlp: Gated { gate, up, .. }, gate: Some(scale) }) => {
                self.prepare(token, x, &[&of.router, gate, up, scale]);
            }
        }
    }

    /// The products of the router, and of what of the shared MLP reads the same rows.
    fn score(&self, worker: &Worker<'_>, of: &'a Routed) {
        let scores = |matrix: &'a Matrix, column| self.task(matrix, &self.buffers.scores, self.widths.scores, column);
        let router = scores(&of.router.matrix, 0);
        let Some(shared) = &of.shared else { return self.products.run(worker, &[router]) };
        let [gate, up] = self.gate_and_up(&shared.mlp);
        match &shared.gate {
            None => self.products.run(worker, &[router, gate, up]),
            Some(scale) => {
                let scale = scores(&scale.matrix, of.router.matrix.tiles() * TILE);
                self.products.run(worker, &[router, gate, up, scale]);
            }
        }
    }

    /// Chooses a token's experts.
    fn choose(&self, token: usize, of: &Routed, spec: &RoutedSpec) {
        let (experts, top_k) = (spec.router.experts, spec.router.top_k);
        let first = token * self.widths.scores;
        // SAFETY: a token is one thread's.
        let (scores, chosen) = unsafe {
            (
                self.buffers.scores.part(first..first + self.widths.scores),
                self.buffers.choices.part(token * top_k..(token + 1) * top_k),
            )
        };
        let (scores, room) = scores.split_at_mut(self.widths.scores - experts);
        let scores = &mut scores[..experts];
        choose(&spec.router, of.correction.as_deref(), scores, room, chosen);
    }

    /// Puts the pairs in the order of their experts, those of an expert in the order of their tokens.
    fn group(&self, spec: &RoutedSpec) {
        let (experts, top_k) = (spec.router.experts, spec.router.top_k);
        let pairs = self.batch.tokens.len() * top_k;
        // SAFETY: one thread groups, and the others wait for it.
        let (choices, rows, tokens, active) = unsafe {
            (
                self.buffers.choices.part(0..pairs),
                self.buffers.chosen_rows.part(0..pairs),
                self.buffers.pairs.part(0..pairs),
                self.buffers.active.part(0..3 * self.widths.experts + 2),
            )
        };
        let (active, next) = active.split_at_mut(2 * self.widths.experts + 2);
        next.fill(0);
        choices.iter().for_each(|choice| next[choice.expert as usize] += 1);
        let (count, rest) = active.split_first_mut().expect("room for a count");
        let (numbers, starts) = rest.split_at_mut(self.widths.experts);
        let (mut found, mut first) = (0, 0);
        for (expert, next) in next[..experts].iter_mut().enumerate().filter(|(_, count)| **count > 0) {
            (numbers[found], starts[found]) = (expert as u32, first);
            found += 1;
            (first, *next) = (first + *next, first);
        }
        (*count, starts[found]) = (found as u32, first);
        for (at, choice) in choices.iter().enumerate() {
            let row = &mut next[choice.expert as usize];
            rows[at] = *row;
            tokens[*row as usize] = (at / top_k) as u32;
            *row += 1;
        }
    }

    fn active(&self) -> Active<'_> {
        // SAFETY: nobody writes until the last stage of the layer is over.
        let all = unsafe { self.buffers.active.seen(0..2 * self.widths.experts + 2) };
        let (numbers, starts) = all[1..].split_at(self.widths.experts);
        let count = all[0] as usize;
        Active { experts: &numbers[..count], starts: &starts[..=count] }
    }

    fn expert_of(&self, pair: usize, active: &Active<'_>) -> usize {
        active.experts[active.starts.partition_point(|start| *start as usize <= pair) - 1] as usize
    }

    /// Prepares the row of a pair's token for the expert.
    fn spread(&self, pair: usize, expert: &Expert) {
        // SAFETY: written by the last stage; a pair is one thread's.
        let token = unsafe { self.buffers.pairs.seen(pair..pair + 1)[0] } as usize;
        let (x, inputs) = (token * self.widths.x, expert.gate.inputs);
        // SAFETY: the rows of tokens are only read in this stage.
        let x = unsafe { self.buffers.x.seen(x..x + inputs) };
        self.prepare_pair(pair, x, &[&expert.gate, &expert.up]);
        if self.widths.pair_x > 0 {
            let to = pair * self.widths.pair_x;
            // SAFETY: a pair is one thread's.
            unsafe { self.buffers.pair_x.part(to..to + inputs) }.copy_from_slice(x);
        }
    }

    /// Gates a pair's inner components and prepares them; they stay where the gate stands.
    fn gate_pair(&self, pair: usize, expert: &Expert, inner: usize) {
        let first = pair * self.widths.pair_wide;
        // SAFETY: a pair is one thread's.
        let wide = unsafe { self.buffers.pair_wide.part(first..first + self.widths.pair_wide) };
        let (gate, up) = wide.split_at_mut(expert.gate.tiles() * TILE);
        swiglu(self.form, &mut gate[..inner], &up[..inner]);
        self.prepare_pair(pair, &gate[..inner], &[&expert.down]);
    }

    fn prepare_pair(&self, pair: usize, x: &[f32], matrices: &[&Matrix]) {
        self.products.prepare_row(pair, x, |i| matrices.get(i).copied(), |k, of| self.buffers.prepared_pairs(k, of));
    }

    fn pair_task<'m>(&self, matrix: &'m Matrix, pairs: Range<usize>, from: Columns<'_>, to: Columns<'_>) -> Task<'m> {
        self.products.task(matrix, pairs, from, |of| self.buffers.prepared_pairs(matrix.inputs, of), to)
    }

    /// Adds the experts of a token, and the shared MLP, to its residual stream.
    pub(super) fn add_experts(&self, token: usize, rows: &mut TokenRows<'_>, of: &Routed, spec: &RoutedSpec) {
        let (top_k, hidden) = (spec.router.top_k, rows.hidden.len());
        // SAFETY: nobody writes them in this stage.
        let (choices, pairs): (&[Choice], &[u32]) = unsafe {
            let range = token * top_k..(token + 1) * top_k;
            (self.buffers.choices.seen(range.clone()), self.buffers.chosen_rows.seen(range))
        };
        match (&of.shared, &spec.shared) {
            (Some(shared), Some(spec)) => {
                shared.mlp.down.add_bias(rows.y);
                if spec.gated {
                    let gate = token * self.widths.scores + of.router.matrix.tiles() * TILE;
                    // SAFETY: as above.
                    let gate = unsafe { self.buffers.scores.seen(gate..gate + 1)[0] };
                    let scale = 1.0 / (1.0 + (-gate).exp());
                    rows.y.iter_mut().for_each(|y| *y *= scale);
                }
            }
            _ => rows.y.fill(0.0),
        }
        for (choice, pair) in choices.iter().zip(pairs) {
            let first = *pair as usize * self.widths.hidden;
            // SAFETY: as above.
            let out = unsafe { self.buffers.pair_out.seen(first..first + hidden) };
            add_scaled(self.form, rows.y, out, choice.weight);
        }
        add(rows.hidden, rows.y);
    }
}
