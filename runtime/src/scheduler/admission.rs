//! The door: how many requests may wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The queue is full.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} requests wait already, the limit is {limit}")]
pub struct QueueFull {
    /// Requests that wait.
    pub waiting: usize,
    /// How many may.
    pub limit: usize,
    /// When a place will probably be free, from the rate at which the queue drained so far.
    pub retry_after: Duration,
}

/// Counts the requests between their acceptance and their entry into the engine.
#[derive(Debug)]
pub struct Admission {
    limit: usize,
    waiting: AtomicUsize,
    waiting_tokens: AtomicUsize,
    /// Permits given back, and the average time each was held, in microseconds.
    average_wait_us: AtomicU64,
}

impl Admission {
    /// A door for at most `limit` waiting requests.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            waiting: AtomicUsize::new(0),
            waiting_tokens: AtomicUsize::new(0),
            average_wait_us: AtomicU64::new(0),
        })
    }

    /// Lets a request of `prompt_tokens` in, until its permit is dropped.
    ///
    /// # Errors
    /// [`QueueFull`] if as many wait as may.
    pub fn enter(self: &Arc<Self>, prompt_tokens: usize, now: Instant) -> Result<Permit, QueueFull> {
        let enter =
            self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < self.limit).then_some(n + 1));
        if let Err(waiting) = enter {
            return Err(QueueFull { waiting, limit: self.limit, retry_after: self.retry_after() });
        }
        self.waiting_tokens.fetch_add(prompt_tokens, Ordering::Relaxed);
        Ok(Permit { door: self.clone(), prompt_tokens, since: now })
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Prompt tokens that wait.
    pub fn waiting_tokens(&self) -> usize {
        self.waiting_tokens.load(Ordering::Relaxed)
    }

    /// When it makes sense to come again: the time that requests waited lately, between one second and a minute.
    pub fn retry_after(&self) -> Duration {
        let average = Duration::from_micros(self.average_wait_us.load(Ordering::Relaxed));
        Duration::from_secs(average.as_secs() + 1).min(Duration::from_secs(60))
    }
}

/// A request's place in the queue, given back by dropping it.
#[derive(Debug)]
pub struct Permit {
    door: Arc<Admission>,
    prompt_tokens: usize,
    since: Instant,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.door.waiting.fetch_sub(1, Ordering::AcqRel);
        self.door.waiting_tokens.fetch_sub(self.prompt_tokens, Ordering::Relaxed);
        let waited = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        let old = self.door.average_wait_us.load(Ordering::Relaxed);
        // A lost update between two drops changes a hint by one sample.
        self.door.average_wait_us.store(old - old / 8 + waited / 8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_door_closes_at_its_limit_and_opens_when_a_permit_is_dropped() {
        let door = Admission::new(2);
        let first = door.enter(10, Instant::now()).unwrap();
        let _second = door.enter(5, Instant::now()).unwrap();
        assert_eq!(door.waiting_tokens(), 15);

        let refused = door.enter(1, Instant::now()).unwrap_err();
        assert_eq!((refused.waiting, refused.limit), (2, 2));
        assert!(refused.retry_after >= Duration::from_secs(1));

        drop(first);
        assert_eq!((door.waiting(), door.waiting_tokens()), (1, 5));
        assert!(door.enter(1, Instant::now()).is_ok());
    }
}
