use crate::checkpoint::LoadError;
use std::num::NonZeroUsize;
use std::thread;

/// Below this many elements per thread, starting the thread costs more than it saves.
const MIN_ELEMENTS: usize = 1 << 16;

/// Fills the rows of `out`, `width` elements each, on all cores: `fill` gets the number of a first row and the rows
/// from there on.
///
/// # Errors
/// The first error of any `fill`.
pub(super) fn fill_rows<T: Send>(
    out: &mut [T],
    width: usize,
    fill: impl Fn(usize, &mut [T]) -> Result<(), LoadError> + Sync,
) -> Result<(), LoadError> {
    let rows = out.len() / width.max(1);
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = cores.min(out.len() / MIN_ELEMENTS).max(1);
    let rows_each = rows.div_ceil(threads).max(1);
    let fill = &fill;
    thread::scope(|scope| {
        let workers: Vec<_> = out
            .chunks_mut(rows_each * width.max(1))
            .enumerate()
            .map(|(i, part)| scope.spawn(move || fill(i * rows_each, part)))
            .collect();
        // A worker that panics has met a bug of ours: it goes on in this thread.
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_filled_once_with_its_own_number() {
        let mut out = vec![0_usize; 300_000];
        fill_rows(&mut out, 3, |first, rows| {
            for (i, row) in rows.chunks_mut(3).enumerate() {
                row.fill(first + i);
            }
            Ok(())
        })
        .unwrap();
        assert!(out.iter().enumerate().all(|(i, &row)| row == i / 3));
    }
}
