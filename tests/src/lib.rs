//! Helpers of the end-to-end tests: a whole server in this process, and a client that can misbehave.

mod client;
mod server;

pub use client::{Client, Reply, Stream};
pub use server::{TestServer, TestSetup};

use std::time::{Duration, Instant};

/// How long something may take that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `what` holds.
///
/// # Panics
/// If it does not within twenty seconds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "it did not happen in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
