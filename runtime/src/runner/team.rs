//! Threads that compute a step together.
//!
//! One thread leads: it hands all others the same function, runs it too, and returns when everybody has. Inside, the
//! threads meet at barriers between the stages of a step. In a stage a thread has a part of its own, the same one in every
//! step, and helps the others when it is done early: a core is often slower than its neighbour for a while. A thread waits
//! by spinning for a short while (the next stage is microseconds away), then lets others run, and sleeps between two steps
//! that are far apart.

use super::cores::{self, Bound};
use std::any::Any;
use std::cell::UnsafeCell;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{JoinHandle, Thread, ThreadId};

/// Rounds of waiting before a thread lets others run.
const SPINS: u32 = 4_000;
/// Rounds of letting others run before an idle thread sleeps, some 1.4 ms on Linux: between two steps of a stream it
/// stays awake, and does not hold up the next one with being woken.
const YIELDS: u32 = 2_500;

/// How many threads compute, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threads {
    count: NonZeroUsize,
    /// A core for each thread, or none for all.
    cores: Vec<usize>,
}

impl Threads {
    /// Threads that run wherever the system puts them.
    pub fn anywhere(count: NonZeroUsize) -> Self {
        Self { count, cores: Vec::new() }
    }

    /// One thread on each of the cores; `None` without cores.
    pub fn on(cores: &[usize]) -> Option<Self> {
        Some(Self { count: NonZeroUsize::new(cores.len())?, cores: cores.to_vec() })
    }

    /// The first of them alone.
    pub fn first(&self) -> Self {
        Self { count: NonZeroUsize::MIN, cores: self.cores.iter().take(1).copied().collect() }
    }

    /// How many there are.
    pub fn count(&self) -> NonZeroUsize {
        self.count
    }

    /// Binds the calling thread to the core of thread `index`, if it has one.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn bind(&self, index: usize) -> std::io::Result<Option<Bound>> {
        self.cores.get(index).map(|&core| cores::bind(core)).transpose()
    }
}

impl std::fmt::Display for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.count, if self.count.get() == 1 { "thread" } else { "threads" })?;
        match &self.cores[..] {
            [] => Ok(()),
            [core] => write!(f, " on core {core}"),
            cores => {
                f.write_str(" on cores")?;
                cores.iter().try_for_each(|core| write!(f, " {core}"))
            }
        }
    }
}

/// What a thread of the team knows of itself while it works.
pub(super) struct Worker<'a> {
    index: usize,
    shared: &'a Shared,
    /// It does whole stages by itself.
    alone: bool,
}

/// The threads. They end when it is dropped.
pub(super) struct Team {
    shared: Arc<Shared>,
    members: Threads,
    threads: Vec<(Thread, Option<JoinHandle<()>>)>,
    /// The thread that leads, once it is bound to its core.
    leader: Option<(ThreadId, Option<Bound>)>,
}

type Job = *const (dyn Fn(&Worker<'_>) + Sync);

struct Shared {
    size: usize,
    /// Counts the jobs: a new number is a new job.
    job_number: AtomicUsize,
    /// Written by the leader before it raises `job_number`, while no other thread works.
    job: UnsafeCell<Option<Job>>,
    /// Threads that are asleep, by index.
    asleep: Vec<AtomicBool>,
    arrived: AtomicUsize,
    /// How much of each thread's part in this stage has been taken ([`Worker::share`]); 0 when a stage begins.
    taken: Vec<Taken>,
    /// Counts the times that all have met.
    meeting: AtomicUsize,
    /// Threads other than the leader that are still busy with the job.
    busy: AtomicUsize,
    /// A thread panicked: nobody waits for it at a barrier.
    broken: AtomicBool,
    payload: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
}

// SAFETY: `job` is written by the leader only while all other threads wait for the next job number, and read by them
// only after they have seen it; the release and acquire of `job_number` and `busy` order the two.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is used only while the leader keeps what it points to alive.
unsafe impl Send for Shared {}

/// On a cache line of its own: its thread writes it often.
#[repr(align(128))]
struct Taken(AtomicUsize);

/// Panics of the threads that wait for one that has panicked itself.
struct Abandoned;

impl Team {
    /// A team of `members`, of whom the caller is the first.
    ///
    /// # Errors
    /// [`std::io::Error`] if the system starts no more threads, or binds one to no such core.
    pub(super) fn new(members: Threads) -> std::io::Result<Self> {
        let size = members.count().get();
        let shared = Arc::new(Shared {
            size,
            job_number: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            asleep: (0..size).map(|_| AtomicBool::new(false)).collect(),
            arrived: AtomicUsize::new(0),
            taken: (0..size).map(|_| Taken(AtomicUsize::new(0))).collect(),
            meeting: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            payload: Mutex::new(None),
            stop: AtomicBool::new(false),
        });
        let mut team = Self { shared: shared.clone(), members, threads: Vec::new(), leader: None };
        for index in 1..size {
            let (shared, members) = (shared.clone(), team.members.clone());
            let (bound, begun) = mpsc::channel();
            let thread = std::thread::Builder::new().name(format!("lmx-compute-{index}"));
            let handle = thread.spawn(move || {
                // Whoever waits for it is gone only if the team is.
                let _ = bound.send(members.bind(index).map(drop));
                shared.serve(index);
            })?;
            team.threads.push((handle.thread().clone(), Some(handle)));
            begun.recv().unwrap_or(Ok(()))?;
        }
        Ok(team)
    }

    /// Binds the calling thread to the first core, once.
    fn lead(&mut self) {
        let caller = std::thread::current().id();
        if self.leader.as_ref().is_none_or(|(leader, _)| *leader != caller) {
            // A core that has gone since the team was made: the thread computes elsewhere.
            self.leader = Some((caller, self.members.bind(0).unwrap_or(None)));
        }
    }

    /// Runs `job` on every thread and returns when all are done.
    ///
    /// # Panics
    /// With the payload of the first thread that panicked; the team can be used again.
    pub(super) fn run(&mut self, job: &(dyn Fn(&Worker<'_>) + Sync)) {
        self.lead();
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; nobody uses the pointer after this function, which waits for all threads.
        let job_pointer = unsafe { std::mem::transmute::<*const (dyn Fn(&Worker<'_>) + Sync), Job>(job) };
        shared.begin_stage();
        // SAFETY: every other thread has left the last job (`busy` was 0) and waits for the next number.
        unsafe { *shared.job.get() = Some(job_pointer) };
        shared.busy.store(shared.size - 1, Ordering::Relaxed);
        shared.job_number.fetch_add(1, Ordering::SeqCst);
        for (index, (thread, _)) in (1..).zip(&self.threads) {
            if shared.asleep[index].load(Ordering::SeqCst) {
                thread.unpark();
            }
        }
        shared.work(&Worker { index: 0, shared, alone: false }, job);
        wait_until(|| shared.busy.load(Ordering::Acquire) == 0);
        if shared.broken.swap(false, Ordering::Relaxed) {
            shared.arrived.store(0, Ordering::Relaxed);
            if let Some(payload) = shared.payload().take() {
                resume_unwind(payload);
            }
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for (thread, handle) in &mut self.threads {
            thread.unpark();
            if let Some(handle) = handle.take() {
                // A thread that panicked outside of a job has nothing left to say.
                let _ = handle.join();
            }
        }
        if let Some((leader, Some(bound))) = self.leader.take()
            && leader == std::thread::current().id()
        {
            bound.release();
        }
    }
}

impl std::fmt::Debug for Team {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Team").field("size", &self.shared.size).finish_non_exhaustive()
    }
}

impl Shared {
    fn payload(&self) -> MutexGuard<'_, Option<Box<dyn Any + Send>>> {
        self.payload.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody may be in a stage meanwhile.
    fn begin_stage(&self) {
        self.taken.iter().for_each(|taken| taken.0.store(0, Ordering::Relaxed));
    }

    /// Takes the next half of what is left of thread `index`'s part of `0..n`, at least `least`.
    fn take(&self, index: usize, n: usize, least: usize) -> Option<Range<usize>> {
        let Range { start, end } = self.part(index, n);
        let step = |taken: usize| ((end - start - taken) / 2).max(least).min(end - start - taken);
        let more = |taken: usize| (taken < end - start).then(|| taken + step(taken));
        let taken = self.taken[index].0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(start + taken..start + taken + step(taken))
    }

    fn part(&self, index: usize, n: usize) -> Range<usize> {
        n * index / self.size..n * (index + 1) / self.size
    }

    /// The life of a thread that does not lead.
    fn serve(&self, index: usize) {
        let mut seen = 0;
        loop {
            let mut rounds = 0;
            while self.job_number.load(Ordering::Acquire) == seen {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                rounds += 1;
                if rounds < SPINS {
                    std::hint::spin_loop();
                } else if rounds < SPINS + YIELDS {
                    std::thread::yield_now();
                } else {
                    self.sleep(index, seen);
                }
            }
            seen += 1;
            // SAFETY: the leader wrote it before the number that was just seen, and waits until this thread is done.
            if let Some(job) = unsafe { *self.job.get() } {
                // SAFETY: the leader keeps it alive until this thread is done.
                self.work(&Worker { index, shared: self, alone: false }, unsafe { &*job });
            }
            self.busy.fetch_sub(1, Ordering::Release);
        }
    }

    fn sleep(&self, index: usize, seen: usize) {
        self.asleep[index].store(true, Ordering::SeqCst);
        // The leader raises the number first and looks for sleepers then: one of the two sees the other.
        if self.job_number.load(Ordering::SeqCst) == seen && !self.stop.load(Ordering::SeqCst) {
            std::thread::park();
        }
        self.asleep[index].store(false, Ordering::SeqCst);
    }

    fn work(&self, worker: &Worker<'_>, job: &(dyn Fn(&Worker<'_>) + Sync)) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| job(worker))) {
            if !payload.is::<Abandoned>() {
                self.payload().get_or_insert(payload);
            }
            self.broken.store(true, Ordering::Release);
        }
    }
}

impl Worker<'_> {
    /// Which thread this is.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// The same thread, which does stages without the others: it gets the whole of what is shared and waits for nobody.
    pub(super) fn alone(&self) -> Self {
        Self { alone: true, ..*self }
    }

    /// How many threads share a stage.
    fn threads(&self) -> usize {
        if self.alone { 1 } else { self.shared.size }
    }

    /// This thread's part of `0..n`: the parts are of one size but for one, and in the order of the threads.
    pub(super) fn part(&self, n: usize) -> Range<usize> {
        if self.alone { 0..n } else { self.shared.part(self.index, n) }
    }

    /// Some of `0..n`, piece by piece, so that all threads together take everything once: this thread's part first,
    /// then what the others have not come to. Pieces have `least` elements or more, but for the last ones.
    ///
    /// At most one share in each stage (between two meetings), with the same `n` on all threads.
    pub(super) fn share(&self, n: usize, least: usize) -> impl Iterator<Item = Range<usize>> {
        let (shared, index, least) = (self.shared, self.index, least.max(1));
        let alone = (self.threads() == 1 && n > 0).then_some(0..n);
        let others = if self.threads() == 1 { 0 } else { shared.size };
        let parts = (0..others).map(move |i| (index + i) % shared.size);
        alone.into_iter().chain(parts.flat_map(move |part| std::iter::from_fn(move || shared.take(part, n, least))))
    }

    /// Waits until all threads are here; what they wrote before is seen by all.
    ///
    /// # Panics
    /// If another thread has panicked.
    pub(super) fn meet(&self) {
        let shared = self.shared;
        if self.threads() == 1 {
            return;
        }
        let meeting = shared.meeting.load(Ordering::Acquire);
        if shared.arrived.fetch_add(1, Ordering::AcqRel) + 1 == shared.size {
            shared.arrived.store(0, Ordering::Relaxed);
            // Before anyone goes on, who would take some of the next stage.
            shared.begin_stage();
            shared.meeting.store(meeting.wrapping_add(1), Ordering::Release);
            return;
        }
        wait_until(|| shared.meeting.load(Ordering::Acquire) != meeting || shared.broken.load(Ordering::Acquire));
        if shared.meeting.load(Ordering::Acquire) == meeting {
            std::panic::resume_unwind(Box::new(Abandoned));
        }
    }
}

fn wait_until(holds: impl Fn() -> bool) {
    let mut rounds = 0;
    while !holds() {
        rounds += 1;
        if rounds < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    fn team(size: usize) -> Team {
        Team::new(Threads::anywhere(NonZeroUsize::new(size).unwrap())).unwrap()
    }

    #[test]
    fn every_thread_works_once_per_job_and_the_parts_cover_all() {
        for size in [1, 2, 3, 5] {
            let mut team = team(size);
            let hits: Vec<AtomicU64> = (0..17).map(|_| AtomicU64::new(0)).collect();
            for _ in 0..200 {
                team.run(&|worker| {
                    worker.part(hits.len()).for_each(|i| {
                        hits[i].fetch_add(1, Ordering::Relaxed);
                    });
                });
            }
            assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 200), "{size} threads");
        }
    }

    #[test]
    fn what_was_written_before_a_meeting_is_seen_after_it() {
        let mut team = team(3);
        let places: Vec<AtomicU64> = (0..3).map(|_| AtomicU64::new(0)).collect();
        team.run(&|worker| {
            for round in 1..2_000 {
                places[worker.index()].store(round, Ordering::Relaxed);
                worker.meet();
                assert!(places.iter().all(|place| place.load(Ordering::Relaxed) == round));
                worker.meet();
            }
        });
    }

    #[test]
    fn shares_cover_all_once_in_every_stage_whoever_is_late() {
        for size in [1, 2, 3, 5] {
            let mut team = team(size);
            for n in [0, 1, 2, 7, 100] {
                let hits: Vec<AtomicU64> = (0..n).map(|_| AtomicU64::new(0)).collect();
                for round in 0..30 {
                    team.run(&|worker| {
                        for stage in 0..3 {
                            if worker.index() == round % size && stage == 1 {
                                std::thread::sleep(Duration::from_micros(200));
                            }
                            worker.share(n, 1 + stage).flatten().for_each(|i| {
                                hits[i].fetch_add(1, Ordering::Relaxed);
                            });
                            if stage < 2 {
                                worker.meet();
                            }
                        }
                    });
                }
                assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 90), "{size} threads, {n}");
            }
        }
    }

    #[test]
    fn a_thread_that_is_done_helps_the_others() {
        let mut team = team(2);
        let taken = [AtomicU64::new(0), AtomicU64::new(0)];
        team.run(&|worker| {
            if worker.index() == 0 {
                wait_until(|| taken[1].load(Ordering::Relaxed) > 0);
            }
            for piece in worker.share(64, 1) {
                taken[worker.index()].fetch_add(piece.len() as u64, Ordering::Relaxed);
                if worker.index() == 1 {
                    // Until the other one has done all that was left.
                    wait_until(|| taken[0].load(Ordering::Relaxed) == 48);
                }
            }
        });
        assert_eq!(taken.map(AtomicU64::into_inner), [48, 16]);
    }

    #[test]
    fn a_thread_alone_gets_all_of_its_stages_while_the_others_have_theirs() {
        let mut team = team(3);
        let hits: Vec<AtomicU64> = (0..10).map(|_| AtomicU64::new(0)).collect();
        team.run(&|worker| {
            for piece in worker.share(hits.len(), 1).flatten() {
                let alone = worker.alone();
                let mut seen = 0;
                for _ in 0..3 {
                    assert_eq!(alone.part(7), 0..7);
                    seen += alone.share(20, 2).flatten().count();
                    alone.meet();
                }
                hits[piece].fetch_add(seen as u64, Ordering::Relaxed);
            }
        });
        assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 60));
    }

    #[test]
    fn threads_that_sleep_wake_up_for_the_next_job() {
        let mut team = team(3);
        let hits = AtomicU64::new(0);
        for _ in 0..20 {
            // The leader's place stays empty: it does not sleep here.
            wait_until(|| team.shared.asleep[1..].iter().all(|asleep| asleep.load(Ordering::SeqCst)));
            team.run(&|_| {
                hits.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(hits.load(Ordering::Relaxed), 60);
    }

    #[test]
    fn a_panic_reaches_the_leader_and_the_team_goes_on() {
        let mut team = team(3);
        for guilty in 0..3 {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                team.run(&|worker| {
                    worker.meet();
                    assert!(worker.index() != guilty, "worker {guilty}");
                    worker.meet();
                });
            }));
            let payload = caught.unwrap_err();
            assert_eq!(payload.downcast_ref::<String>(), Some(&format!("worker {guilty}")));
            let hits = AtomicU64::new(0);
            team.run(&|worker| {
                worker.meet();
                hits.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(hits.load(Ordering::Relaxed), 3);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn bound_threads_stay_on_their_cores_and_the_leader_is_let_go() {
        let here = || {
            let set = rustix::thread::sched_getaffinity(None).unwrap();
            (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect::<Vec<_>>()
        };
        let all = here();
        let cores: Vec<usize> = all.iter().rev().take(2).copied().collect();
        let mut team = Team::new(Threads::on(&cores).unwrap()).unwrap();
        for _ in 0..2 {
            team.run(&|worker| assert_eq!(here(), [cores[worker.index()]]));
        }
        drop(team);
        assert_eq!(here(), all);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_team_on_a_core_that_is_not_there_is_none() {
        assert!(Team::new(Threads::on(&[0, 1023]).unwrap()).is_err());
    }

    #[test]
    fn threads_are_described_with_their_cores() {
        assert_eq!(Threads::anywhere(NonZeroUsize::MIN).to_string(), "1 thread");
        assert_eq!(Threads::on(&[4]).unwrap().to_string(), "1 thread on core 4");
        assert_eq!(Threads::on(&[4, 6]).unwrap().to_string(), "2 threads on cores 4 6");
        assert_eq!(Threads::on(&[4, 6]).unwrap().first(), Threads::on(&[4]).unwrap());
        assert_eq!(Threads::on(&[]), None);
    }
}
