use super::memory::HugeBytes;
use super::stored::StoredMatrix;
use super::weights::Matrix;
use crate::config::HugePages;
use crate::kernels::Form;
use crate::runner::team::Threads;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a checkpoint that a thread packs in one go: enough that taking the next job costs nothing beside it.
const JOB_BYTES: usize = 4 << 20;
/// Tiles start at multiples of this, as vectors and cache lines do.
const ALIGN: usize = 64;

/// Some tiles of a matrix, to be written to their place.
struct Job<'a> {
    matrix: &'a StoredMatrix,
    tiles: Range<usize>,
    place: &'a mut [u8],
}

/// Jobs of one thread, in the order in which a step reads what they make.
type Queue<'a> = Mutex<VecDeque<Job<'a>>>;

/// Rearranges matrices into tiles in memory of their own. `progress` gets the bytes of the checkpoint that were packed.
///
/// A thread packs one part of each matrix, in the order in which a step reads them, and whoever is done helps the others.
/// The parts come in the order of the threads, as in a step, but which thread will read a tile is only roughly settled: a
/// step divides matrices that read the same inputs as one, and its threads help each other too.
///
/// # Errors
/// The system's, if it has no such memory or threads.
pub(super) fn pack(
    matrices: Vec<&mut Matrix>,
    form: Form,
    threads: &Threads,
    huge_pages: HugePages,
    progress: &mut dyn FnMut(usize),
) -> io::Result<()> {
    let mut ends = Vec::new();
    let mut size: usize = 0;
    for matrix in &matrices {
        let first = size.next_multiple_of(ALIGN);
        size = first + matrix.tiles() * matrix.layout().tile_bytes();
        ends.push(first..size);
    }
    let mut memory = HugeBytes::new(size, huge_pages)?;
    let stored: Vec<_> = matrices.iter().filter_map(|matrix| matrix.stored()).zip(&ends).collect();
    run(queues(&stored, memory.as_mut_slice(), threads.count().get()), form, threads, progress)?;
    let memory = Arc::new(memory);
    for (matrix, range) in matrices.into_iter().zip(ends) {
        matrix.take(memory.clone(), range);
    }
    Ok(())
}

/// Divides all tiles among threads, matrix by matrix.
fn queues<'a>(
    matrices: &[(&'a StoredMatrix, &Range<usize>)],
    mut memory: &'a mut [u8],
    threads: usize,
) -> Vec<Queue<'a>> {
    let mut queues: Vec<_> = (0..threads).map(|_| VecDeque::new()).collect();
    let mut at = 0;
    for &(matrix, range) in matrices {
        memory = &mut memory[range.start - at..];
        at = range.end;
        let tile_bytes = matrix.layout.tile_bytes();
        let at_once = (JOB_BYTES / tile_bytes).max(1);
        for (thread, queue) in queues.iter_mut().enumerate() {
            let mut tiles = matrix.tiles() * thread / threads..matrix.tiles() * (thread + 1) / threads;
            while !tiles.is_empty() {
                let end = tiles.end.min(tiles.start + at_once);
                let (place, rest) = memory.split_at_mut((end - tiles.start) * tile_bytes);
                queue.push_back(Job { matrix, tiles: tiles.start..end, place });
                memory = rest;
                tiles.start = end;
            }
        }
    }
    queues.into_iter().map(Mutex::new).collect()
}

fn run(queues: Vec<Queue<'_>>, form: Form, threads: &Threads, progress: &mut dyn FnMut(usize)) -> io::Result<()> {
    std::thread::scope(|scope| {
        let (packed, reports) = mpsc::channel();
        let mut handles = Vec::new();
        for own in 0..queues.len() {
            let (packed, queues) = (packed.clone(), &queues);
            let thread = std::thread::Builder::new().name(format!("lmx-load-{own}"));
            handles.push(thread.spawn_scoped(scope, move || {
                threads.bind(own)?;
                work(queues, own, form, &packed);
                Ok(())
            })?);
        }
        drop(packed);
        reports.into_iter().for_each(progress);
        handles.into_iter().try_for_each(|handle| match handle.join() {
            Ok(result) => result,
            Err(payload) => std::panic::resume_unwind(payload),
        })
    })
}

/// A thread's work. Ends early when nobody wants to know any more: the load has failed.
fn work(queues: &[Queue<'_>], own: usize, form: Form, packed: &Sender<usize>) {
    while let Some(job) = next(queues, own) {
        let Job { matrix, tiles, place } = job;
        let bytes = matrix.bytes_of(tiles.clone());
        for (tile, place) in tiles.zip(place.chunks_exact_mut(matrix.layout.tile_bytes())) {
            matrix.pack(form, tile, place);
        }
        if packed.send(bytes).is_err() {
            return;
        }
    }
}

/// The thread's own next job, or the last one of another; asks for what comes after it.
fn next<'a>(queues: &[Queue<'a>], own: usize) -> Option<Job<'a>> {
    for turn in 0..queues.len() {
        let mut queue = queues[(own + turn) % queues.len()].lock().unwrap_or_else(PoisonError::into_inner);
        let job = if turn == 0 { queue.pop_front() } else { queue.pop_back() };
        if job.is_some() {
            let following = if turn == 0 { queue.front() } else { queue.back() };
            if let Some(following) = following {
                following.matrix.will_need(following.tiles.clone());
            }
            return job;
        }
    }
    None
}
