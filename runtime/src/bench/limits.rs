use super::spread::Spread;
use crate::checkpoint::LoadError;
use crate::kernels::{Form, limits};
use crate::runner::Threads;
use crate::runner::native::{ColdMemory, Workbench};
use serde::Serialize;
use std::num::NonZeroUsize;
use std::time::Duration;

/// What the machine could do at most.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LimitsFigure {
    /// Instructions.
    pub form: String,
    /// Threads of the figures without `one_thread`.
    pub threads: usize,
    /// Bytes that were read.
    pub read_bytes: usize,
    /// Billions of bytes read from memory per second.
    pub read_gb_per_s: Spread,
    /// The same by one thread.
    pub read_gb_per_s_one_thread: Spread,
    /// Billions of multiplications and additions of bytes per second.
    pub byte_gops: Spread,
    /// The same by one thread.
    pub byte_gops_one_thread: Spread,
    /// Billions of multiplications and additions of floats per second.
    pub float_gops: Spread,
    /// The same by one thread.
    pub float_gops_one_thread: Spread,
}

/// Measures them: how fast `memory` is read, which should be much more than the caches hold, and multiplications for about
/// `time`. Everything is warmed up once, then run `repeat` times.
///
/// # Errors
/// [`LoadError`] if the system starts no more threads, or binds one to no such core.
pub fn measure_limits(
    form: Form,
    threads: &Threads,
    memory: &ColdMemory,
    time: Duration,
    repeat: NonZeroUsize,
) -> Result<LimitsFigure, LoadError> {
    let memory = memory.as_slice();
    // The caller leads both teams. The one that binds it to a core first is dropped last, and lets it go.
    let mut all = Workbench::new(form, threads.clone())?;
    let mut one = Workbench::new(form, threads.first())?;
    let read = |bench: &mut Workbench| {
        bench.read(memory);
        samples(repeat, || memory.len() as f64 / bench.read(memory).as_secs_f64() / 1e9)
    };
    let (read_gb_per_s, read_gb_per_s_one_thread) = (read(&mut all), read(&mut one));
    let bytes =
        |bench: &mut Workbench| rate(bench, limits::byte_operations(form), time, repeat, Workbench::multiply_bytes);
    let (byte_gops, byte_gops_one_thread) = (bytes(&mut all), bytes(&mut one));
    let floats =
        |bench: &mut Workbench| rate(bench, limits::float_operations(form), time, repeat, Workbench::multiply_floats);
    Ok(LimitsFigure {
        form: form.to_string(),
        threads: threads.count().get(),
        read_bytes: memory.len(),
        read_gb_per_s,
        read_gb_per_s_one_thread,
        byte_gops,
        byte_gops_one_thread,
        float_gops: floats(&mut all),
        float_gops_one_thread: floats(&mut one),
    })
}

/// Billions of operations per second of all threads, in runs of about `time`.
fn rate(
    bench: &mut Workbench,
    operations: u64,
    time: Duration,
    repeat: NonZeroUsize,
    run: fn(&mut Workbench, u32) -> Duration,
) -> Spread {
    let mut rounds = 1;
    // Also warms up: the clock of the processor follows the load.
    while run(bench, rounds) < time && rounds < u32::MAX / 2 {
        rounds *= 2;
    }
    let done = operations as f64 * f64::from(rounds) * bench.threads().count().get() as f64;
    samples(repeat, || done / run(bench, rounds).as_secs_f64() / 1e9)
}

fn samples(repeat: NonZeroUsize, sample: impl FnMut() -> f64) -> Spread {
    let mut sample = sample;
    Spread::of((0..repeat.get()).map(|_| sample())).expect("there is at least one repetition")
}
