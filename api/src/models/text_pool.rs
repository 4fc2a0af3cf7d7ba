use crate::error::ApiError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Text shorter than this is tokenised where it arrives: handing it over would take longer.
const INLINE_BYTES: usize = 8 << 10;

/// A bounded pool for templates and tokenisers: as many at once as there are threads for it, and a queue with an end.
#[derive(Debug)]
pub struct TextPool {
    threads: Arc<Semaphore>,
    waiting: AtomicUsize,
    max_waiting: usize,
}

impl TextPool {
    /// A pool of `threads` threads before which at most `max_waiting` requests wait.
    pub fn new(threads: usize, max_waiting: usize) -> Arc<Self> {
        Arc::new(Self { threads: Arc::new(Semaphore::new(threads)), waiting: AtomicUsize::new(0), max_waiting })
    }

    /// Runs `work` on `bytes` of text.
    ///
    /// # Errors
    /// [`ApiError::QueueFull`] if too many wait, what `work` returns, [`ApiError::Internal`] if it panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        if bytes < INLINE_BYTES {
            return work();
        }
        let enter = |n: usize| (n < self.max_waiting).then_some(n + 1);
        if self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).is_err() {
            return Err(ApiError::QueueFull { retry_after: Duration::from_secs(1) });
        }
        let _place = Place(&self.waiting);
        let thread =
            self.threads.acquire().await.map_err(|_| ApiError::Internal { detail: "text pool closed".into() })?;
        let done = tokio::task::spawn_blocking(work).await;
        drop(thread);
        done.map_err(|error| ApiError::Internal { detail: format!("making a prompt panicked: {error}") })?
    }
}

/// Given back also when the client leaves while it waits.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
