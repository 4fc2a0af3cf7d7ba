//! Which cores a thread runs on.

use std::io;

/// The cores that this process may use; `None` where threads cannot be bound to cores.
#[cfg(target_os = "linux")]
pub(super) fn usable() -> Option<Vec<usize>> {
    // The process's first thread: others may be bound already.
    let set = rustix::thread::sched_getaffinity(Some(rustix::process::getpid())).ok()?;
    Some((0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
}

/// The cores that this process may use; `None` where threads cannot be bound to cores.
#[cfg(not(target_os = "linux"))]
pub(super) fn usable() -> Option<Vec<usize>> {
    None
}

/// Where a thread could run before it was bound to one core.
#[derive(Debug)]
pub(super) struct Bound {
    #[cfg(target_os = "linux")]
    before: rustix::thread::CpuSet,
}

/// Binds the calling thread to a core.
///
/// # Errors
/// The system's, if there is no such core for this process.
#[cfg(target_os = "linux")]
pub(super) fn bind(core: usize) -> io::Result<Bound> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    if core >= CpuSet::MAX_CPU {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let before = sched_getaffinity(None)?;
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set)?;
    Ok(Bound { before })
}

/// Binds the calling thread to a core.
///
/// # Errors
/// Always: this system has no such call.
#[cfg(not(target_os = "linux"))]
pub(super) fn bind(_: usize) -> io::Result<Bound> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

impl Bound {
    /// Lets the calling thread run where it could before.
    pub(super) fn release(self) {
        // Whatever fails here, the thread runs on.
        #[cfg(target_os = "linux")]
        let _ = rustix::thread::sched_setaffinity(None, &self.before);
    }
}
