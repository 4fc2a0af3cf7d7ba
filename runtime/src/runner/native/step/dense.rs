use super::{Columns, Step, Task};
use crate::kernels::{TILE, swiglu};
use crate::runner::native::model::Gated;
use crate::runner::team::Worker;

impl Step<'_> {
    /// The MLP that all tokens pass: from the prepared rows to `y`.
    pub(super) fn dense(&self, worker: &Worker<'_>, of: &Gated, inner: usize) {
        self.products.run(worker, &self.gate_and_up(of));
        worker.meet();
        for token in worker.share(self.batch.tokens.len(), 1).flatten() {
            self.gate(token, of, inner);
        }
        worker.meet();
        self.products.run(worker, &[self.down(of)]);
    }

    /// The products of gate and up, to `wide`.
    pub(super) fn gate_and_up<'m>(&self, of: &'m Gated) -> [Task<'m>; 2] {
        let task = |matrix, column| self.task(matrix, &self.buffers.wide, self.widths.wide, column);
        [task(&of.gate.matrix, 0), task(&of.up.matrix, of.gate.matrix.tiles() * TILE)]
    }

    /// From `wide` to the prepared inputs of the product of down, which stand in `wide` themselves.
    pub(super) fn gate(&self, token: usize, of: &Gated, inner: usize) {
        // SAFETY: a token is one thread's.
        let rows = unsafe { self.rows(token, token) };
        let (gate, up) = rows.wide.split_at_mut(of.gate.matrix.tiles() * TILE);
        let (gate, up) = (&mut gate[..inner], &mut up[..inner]);
        of.gate.add_bias(gate);
        of.up.add_bias(up);
        swiglu(self.form, gate, up);
        self.prepare(token, gate, &[&of.down]);
    }

    /// The product of down, to `y`.
    pub(super) fn down<'m>(&self, of: &'m Gated) -> Task<'m> {
        let from = Columns { buffer: &self.buffers.wide, width: self.widths.wide, first: 0 };
        let to = Columns { buffer: &self.buffers.y, width: self.widths.hidden, first: 0 };
        self.task_of(&of.down.matrix, from, to)
    }
}
