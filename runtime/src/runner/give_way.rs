use std::sync::atomic::{AtomicUsize, Ordering};

/// Steps of chats, which others give way to: how many there are at the moment, and how many there have been. Of the whole
/// process, as processors are.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);
static BEGUN: AtomicUsize = AtomicUsize::new(0);

/// A step of a chat, until it is dropped.
#[must_use]
pub struct ChatStep(());

impl ChatStep {
    /// A step that begins.
    pub fn begin() -> Self {
        UNDER_WAY.fetch_add(1, Ordering::Relaxed);
        BEGUN.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for ChatStep {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Watches whether chats want the processors.
#[derive(Debug, Default)]
pub(super) struct ChatWatch {
    begun: usize,
}

impl ChatWatch {
    /// Whether a step is under way, or has begun since the last time.
    pub(super) fn is_disturbed(&mut self) -> bool {
        let begun = BEGUN.load(Ordering::Relaxed);
        let before = std::mem::replace(&mut self.begun, begun);
        begun != before || UNDER_WAY.load(Ordering::Relaxed) > 0
    }
}

/// How many steps of priority lie between a thread that weighs as much as any and one that gets `share` of a processor
/// that such a thread wants whole. A step is a fourth more or less.
#[cfg(any(target_os = "linux", test))]
fn steps(share: f64) -> i32 {
    const STEP: f64 = 1.25;
    const MOST: f64 = 19.0;
    let weight = share / (1.0 - share);
    (-weight.ln() / STEP.ln()).clamp(0.0, MOST).round() as i32
}

/// Lets the calling thread, and those that it starts, have about `share` of a processor that others want too; all of one
/// that nobody else wants. It stays so: a thread may lower its priority, not raise it. Only on Linux, where priorities are
/// a thread's own.
pub fn give_way(share: f64) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, steps(share)) {
        tracing::warn!(%error, "the priority of a thread cannot be lowered");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = share;
}

#[cfg(test)]
mod tests {
    use super::*;

    // The only test of this process that counts steps: others compute without an engine.
    #[test]
    fn a_step_is_noticed_while_it_lasts_and_once_more_behind_it() {
        let mut watch = ChatWatch::default();
        assert!(!watch.is_disturbed());
        let step = ChatStep::begin();
        assert!(watch.is_disturbed() && watch.is_disturbed());
        drop(step);
        assert!(!watch.is_disturbed());
        drop(ChatStep::begin());
        assert!(watch.is_disturbed());
        assert!(!watch.is_disturbed());
    }

    #[test]
    fn half_a_processor_is_what_anybody_gets_and_less_is_a_lower_priority() {
        assert_eq!([1.0, 0.5, 0.25, 0.1, 0.01, 0.0].map(steps), [0, 0, 5, 10, 19, 19]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_gives_way_and_so_do_those_that_it_starts() {
        let own = || rustix::process::getpriority_process(None).unwrap();
        let before = own();
        let inherited = std::thread::spawn(move || {
            give_way(0.1);
            std::thread::spawn(own).join().unwrap()
        });
        assert_eq!(inherited.join().unwrap(), before.max(10));
        assert_eq!(own(), before);
    }
}
