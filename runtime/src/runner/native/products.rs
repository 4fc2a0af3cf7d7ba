//! The products of a stage, divided among the threads of a team tile by tile.

use super::buffers::Preparation;
use super::memory::Shared;
use super::weights::{Inputs, Matrix};
use crate::config::ComputeMode;
use crate::kernels::{Activations, Form, TILE};
use crate::runner::team::Worker;
use std::ops::Range;

/// How products are computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Products {
    pub(super) form: Form,
    pub(super) mode: ComputeMode,
}

/// One product of a stage, with some rows that the last stage prepared.
pub(super) struct Task<'a> {
    matrix: &'a Matrix,
    /// The rows as floats, and the distance between them.
    floats: (*const f32, usize),
    /// The rows in the groups of the matrix, if that is quantised.
    prepared: Option<Activations>,
    rows: Range<usize>,
    /// Where the rows of results begin, and their distance; room for whole tiles in each.
    out: (*mut f32, usize),
    /// What is added to each row of results: zeros behind the outputs to the end of a tile.
    bias: Option<&'a [f32]>,
}

impl<'a> Task<'a> {
    /// The same, with the bias of a matrix added.
    pub(super) fn with_bias(self, bias: Option<&'a [f32]>) -> Self {
        Self { bias, ..self }
    }
}

/// The rows of a buffer, from a column on.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    pub(super) buffer: &'a Shared<f32>,
    /// Elements from row to row.
    pub(super) width: usize,
    pub(super) first: usize,
}

/// The least number of tiles that a thread takes at a time.
pub(super) const PIECE_TILES: usize = 2;
/// Rows from which on it takes one.
const MANY_ROWS: usize = 128;

impl Products {
    /// Prepares row `at` once for each way in which some matrices, which all read the same inputs, need it. `places` finds
    /// where.
    pub(super) fn prepare_row<'m>(
        &self,
        at: usize,
        x: &[f32],
        matrix: impl Fn(usize) -> Option<&'m Matrix>,
        places: impl Fn(usize, Preparation) -> Activations,
    ) {
        for (i, of) in (0..).map_while(|i| matrix(i).map(|of| (i, of))) {
            let Some(way) = self.preparation(of) else { continue };
            if (0..i).filter_map(&matrix).any(|other| self.preparation(other) == Some(way)) {
                continue;
            }
            let x = &x[..of.inputs];
            // SAFETY: the row and its places are one thread's in this stage.
            unsafe { places(of.inputs, way).write(self.form, at, x.as_ptr()) };
        }
    }

    /// What the inputs of a matrix must be prepared for; `None` if it reads floats.
    pub(super) fn preparation(&self, matrix: &Matrix) -> Option<Preparation> {
        matrix.preparation(self.form, self.mode)
    }

    /// The product of a matrix with some rows, which `prepared` finds if they had to be prepared.
    pub(super) fn task<'m>(
        &self,
        matrix: &'m Matrix,
        rows: Range<usize>,
        from: Columns<'_>,
        prepared: impl FnOnce(Preparation) -> Activations,
        to: Columns<'_>,
    ) -> Task<'m> {
        assert!(to.first + matrix.tiles() * TILE <= to.width, "a product beyond the row of its results");
        Task {
            matrix,
            floats: (from.buffer.pointer().wrapping_add(from.first), from.width),
            prepared: self.preparation(matrix).map(prepared),
            out: (to.buffer.at(to.first, (rows.end * to.width).saturating_sub(to.first)), to.width),
            rows,
            bias: None,
        }
    }

    /// Computes products. A stage of its own: its threads share the tiles of all.
    pub(super) fn run(&self, worker: &Worker<'_>, tasks: &[Task<'_>]) {
        let tiles: usize = tasks.iter().map(|task| task.matrix.tiles()).sum();
        // Of many rows the least that a thread can pass is work enough, and who is done first waits less.
        let many = tasks.iter().all(|task| task.rows.len() >= MANY_ROWS);
        let together = if many { self.form.tiles_together() } else { PIECE_TILES };
        for mine in worker.share(tiles.div_ceil(together), 1) {
            self.some_tiles(tasks, mine.start * together..tiles.min(mine.end * together));
        }
    }

    /// Computes the products of `count` experts or heads, all of one shape, and others besides. A stage of its own: its
    /// threads share the tiles of all.
    pub(super) fn run_each<'m, const N: usize>(
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
        unsafe { task.matrix.product(self.form, tiles, &inputs, task.rows.clone(), out, out_stride, task.bias) };
    }
}
