use super::step::{Step, row_of};
use crate::kernels::{TILE, gelu, relu};
use crate::model::encoder::{Activation, Pooling};
use crate::runner::native::memory::Shared;
use crate::runner::native::products::Columns;
use crate::runner::native::weights::Matrix;
use crate::runner::team::Worker;

impl Step<'_> {
    /// From the last layer's rows to the vectors.
    pub(super) fn head(&self, worker: &Worker<'_>) {
        let (head, results) = (&self.model.head, self.lists.results());
        let [mut from, mut to] = self.buffers.pooled;
        let first: Vec<&Matrix> = match head.layers.first() {
            Some((linear, _)) => vec![&linear.matrix],
            None => head.answers.iter().collect(),
        };
        for result in worker.share(results, 1).flatten() {
            // SAFETY: a result is one thread's.
            let row = unsafe { from.part(row_of(result, self.widths.head)) };
            self.pool(result, &mut row[..self.model.spec.hidden]);
            self.prepare_result(result, row, &first);
        }
        worker.meet();
        for (number, (linear, activation)) in head.layers.iter().enumerate() {
            self.raise(worker, &[&linear.matrix], from, to);
            worker.meet();
            let next: Vec<&Matrix> =
                head.layers.get(number + 1).map(|(linear, _)| &linear.matrix).into_iter().collect();
            for result in worker.share(results, 1).flatten() {
                // SAFETY: a result is one thread's.
                let row = unsafe { to.part(row_of(result, self.widths.head)) };
                let out = &mut row[..linear.matrix.outputs];
                linear.add_bias(out);
                self.activate(out, *activation);
                self.prepare_result(result, out, &next);
            }
            worker.meet();
            (from, to) = (to, from);
        }
        if !head.answers.is_empty() {
            let answers: Vec<&Matrix> = head.answers.iter().collect();
            self.raise(worker, &answers, from, to);
            worker.meet();
            from = to;
        }
        for result in worker.share(results, 1).flatten() {
            // SAFETY: a result is one thread's.
            let (row, out) =
                unsafe { (from.part(row_of(result, self.widths.head)), self.vectors.part(row_of(result, head.width))) };
            // Each answer has a tile of its own.
            let step = if head.answers.is_empty() { 1 } else { TILE };
            out.iter_mut().zip(row.iter().step_by(step)).for_each(|(out, x)| *out = *x);
        }
    }

    /// What one result is made of.
    fn pool(&self, result: usize, out: &mut [f32]) {
        let tokens = self.lists.results[result].clone();
        let count = tokens.len() as f32;
        for (number, token) in tokens.enumerate() {
            // SAFETY: nobody writes the residual stream in this stage.
            let row = unsafe { self.buffers.hidden.seen(row_of(token, self.widths.hidden)) };
            let pairs = out.iter_mut().zip(row);
            match self.model.head.pooling {
                _ if number == 0 => pairs.for_each(|(out, x)| *out = *x),
                Pooling::Max => pairs.for_each(|(out, x)| *out = out.max(*x)),
                Pooling::Mean | Pooling::First | Pooling::Last | Pooling::Marks => {
                    pairs.for_each(|(out, x)| *out += *x);
                }
            }
        }
        if self.model.head.pooling == Pooling::Mean {
            out.iter_mut().for_each(|x| *x /= count);
        }
    }

    /// Products of all results, each to whole tiles of a row of `to`.
    fn raise<'m>(&self, worker: &Worker<'_>, matrices: &[&'m Matrix], from: Shared<f32>, to: Shared<f32>) {
        let width = self.widths.head;
        let results = 0..self.lists.results();
        let task = |(number, matrix): (usize, &'m Matrix)| {
            let prepared = |of| self.buffers.prepared_results(matrix.inputs, of);
            let from = Columns { buffer: &from, width, first: 0 };
            let to = Columns { buffer: &to, width, first: number * TILE };
            self.products().task(matrix, results.clone(), from, prepared, to)
        };
        let tasks: Vec<_> = matrices.iter().copied().enumerate().map(task).collect();
        self.products().run(worker, &tasks);
    }

    fn prepare_result(&self, result: usize, x: &[f32], matrices: &[&Matrix]) {
        let matrix = |i: usize| matrices.get(i).copied();
        self.products().prepare_row(result, x, matrix, |k, of| self.buffers.prepared_results(k, of));
    }

    fn activate(&self, x: &mut [f32], activation: Activation) {
        match activation {
            Activation::Identity => {}
            Activation::Tanh => x.iter_mut().for_each(|x| *x = x.tanh()),
            Activation::Relu => relu(x),
            Activation::Gelu => gelu(self.form, x),
        }
    }
}
