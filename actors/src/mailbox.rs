//! Mailboxes with a hard bound that is seen and measured.
//!
//! The framework's own capacity is per handle: every clone may exceed it by one, and unconditional sends ignore it. So
//! each message goes through a [`Mailbox`], which counts it in and, when it is opened, out again. What the count shows is
//! the [`Gauge`].

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Message};
use arc_swap::ArcSwapOption;
use metrics::Histogram;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

/// A message that can be put into a mailbox: plain data that names itself for metrics.
pub trait Letter: Send + 'static {
    /// The value of the `message` label.
    const NAME: &'static str;
}

/// Why a letter was not taken. It comes back to the sender.
#[derive(Debug, thiserror::Error)]
pub enum TellError<M> {
    /// The mailbox holds as many letters as it may.
    #[error("the mailbox is full")]
    Full(M),
    /// The actor is not running.
    #[error("the actor is not running")]
    Closed(M),
}

/// The handle to an actor: cheap to clone, survives the actor's restarts.
pub struct Mailbox<A: Actor> {
    address: Arc<ArcSwapOption<Addr<A>>>,
    gauge: Arc<Gauge>,
}

impl<A: Actor> Clone for Mailbox<A> {
    fn clone(&self) -> Self {
        Self { address: self.address.clone(), gauge: self.gauge.clone() }
    }
}

impl<A: Actor> std::fmt::Debug for Mailbox<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Mailbox").field(&self.gauge.actor).finish()
    }
}

impl<A: Actor> Mailbox<A> {
    /// A mailbox whose actor is still to be started: letters are refused until [`connect`](Self::connect).
    pub fn bounded(gauge: Arc<Gauge>) -> Self {
        Self { address: Arc::new(ArcSwapOption::empty()), gauge }
    }

    /// Leads letters to this actor from now on.
    pub fn connect(&self, address: Addr<A>) {
        self.address.store(Some(Arc::new(address)));
    }

    /// Refuses letters, when it is called, until [`connect`](Self::connect).
    pub(crate) fn closer(&self) -> impl Fn() + Send + Sync + use<A> {
        let address = self.address.clone();
        move || address.store(None)
    }

    /// Whom it leads to, without keeping them alive.
    #[cfg(test)]
    pub(crate) fn address(&self) -> Option<actix::WeakAddr<A>> {
        self.address.load_full().map(|address| address.downgrade())
    }

    /// Whether its actor runs.
    pub fn is_open(&self) -> bool {
        self.address.load().is_some()
    }

    /// Its counters.
    pub fn gauge(&self) -> &Arc<Gauge> {
        &self.gauge
    }

    /// Puts a letter in from outside: refused when the mailbox is full.
    ///
    /// # Errors
    /// [`TellError`] with the letter.
    pub fn try_tell<M: Letter>(&self, letter: M) -> Result<(), TellError<M>>
    where
        A: Handler<Mail<M>>,
        A::Context: ToEnvelope<A, Mail<M>>,
    {
        let Some(address) = self.address.load_full() else { return Err(TellError::Closed(letter)) };
        let Some(ticket) = self.gauge.admit::<M>() else { return Err(TellError::Full(letter)) };
        address.do_send(Mail { letter, ticket });
        Ok(())
    }

    /// Puts a letter in whose number is bounded by protocol, or which frees resources: never refused while the actor
    /// runs. One beyond the capacity is counted, because the protocol is broken then. A letter to an actor that is being
    /// rebuilt is dropped: what it speaks of is gone.
    pub fn tell<M: Letter>(&self, letter: M)
    where
        A: Handler<Mail<M>>,
        A::Context: ToEnvelope<A, Mail<M>>,
    {
        let Some(address) = self.address.load_full() else { return };
        let ticket = self.gauge.enter::<M>();
        address.do_send(Mail { letter, ticket });
    }
}

/// Counters of one actor's mailbox.
pub struct Gauge {
    actor: &'static str,
    capacity: AtomicUsize,
    depth: AtomicUsize,
    high_water: AtomicUsize,
    full: AtomicU64,
    restarts: AtomicU64,
    /// When the handler under way began, in microseconds since `born`, plus one; 0 while idle.
    busy_since: AtomicU64,
    born: Instant,
    times: RwLock<Vec<(&'static str, Times)>>,
    down: RwLock<Option<DownHook>>,
}

/// Called when a handler of the actor panics, with the name of the message.
pub type DownHook = Arc<dyn Fn(&'static str) + Send + Sync>;

#[derive(Debug, Clone)]
struct Times {
    wait: Histogram,
    handle: Histogram,
}

impl std::fmt::Debug for Gauge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.read().fmt(f)
    }
}

/// What a mailbox looks like at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct MailboxReading {
    /// Value of the `actor` label.
    pub actor: &'static str,
    /// Letters that it may hold.
    pub capacity: usize,
    /// Letters that it holds.
    pub depth: usize,
    /// Most letters that it ever held.
    pub high_water: usize,
    /// Letters refused, or taken beyond the capacity.
    pub full_total: u64,
    /// How often the actor was rebuilt.
    pub restarts_total: u64,
}

impl Gauge {
    /// Counters for an actor with a mailbox of `capacity` letters.
    pub fn new(actor: &'static str, capacity: NonZeroUsize) -> Arc<Self> {
        Arc::new(Self {
            actor,
            capacity: AtomicUsize::new(capacity.get()),
            depth: AtomicUsize::new(0),
            high_water: AtomicUsize::new(0),
            full: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            busy_since: AtomicU64::new(0),
            born: Instant::now(),
            times: RwLock::default(),
            down: RwLock::default(),
        })
    }

    /// Has `hook` called when a handler panics.
    pub fn on_down(&self, hook: DownHook) {
        *self.down.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(hook);
    }

    /// The actor's name.
    pub fn actor(&self) -> &'static str {
        self.actor
    }

    /// Changes the capacity of a mailbox in use.
    pub fn set_capacity(&self, capacity: NonZeroUsize) {
        self.capacity.store(capacity.get(), Ordering::Relaxed);
    }

    /// Counts a restart of the actor. What lay in its mailbox is gone with it.
    pub fn restarted(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        self.busy_since.store(0, Ordering::Relaxed);
    }

    /// How long the handler under way has been running.
    pub fn busy_for(&self) -> Option<Duration> {
        let since = self.busy_since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.born.elapsed().saturating_sub(Duration::from_micros(since)))
    }

    /// Measures work that no letter asked for, and reports its panic.
    pub(crate) fn watch(self: &Arc<Self>, message: &'static str) -> Busy {
        self.depth.fetch_add(1, Ordering::AcqRel);
        Ticket { gauge: self.clone(), message, since: Instant::now() }.open()
    }

    /// The counters now.
    pub fn read(&self) -> MailboxReading {
        MailboxReading {
            actor: self.actor,
            capacity: self.capacity.load(Ordering::Relaxed),
            depth: self.depth.load(Ordering::Relaxed),
            high_water: self.high_water.load(Ordering::Relaxed),
            full_total: self.full.load(Ordering::Relaxed),
            restarts_total: self.restarts.load(Ordering::Relaxed),
        }
    }

    /// Reports a panic while handling `message`.
    pub(crate) fn report_down(&self, message: &'static str) {
        let hook = self.down.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if let Some(hook) = hook {
            hook(message);
        }
    }

    fn admit<M: Letter>(self: &Arc<Self>) -> Option<Ticket> {
        let capacity = self.capacity.load(Ordering::Relaxed);
        let enter = self
            .depth
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |depth| (depth < capacity).then_some(depth + 1));
        let Ok(before) = enter else {
            self.full.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        self.high_water.fetch_max(before + 1, Ordering::Relaxed);
        Some(Ticket { gauge: self.clone(), message: M::NAME, since: Instant::now() })
    }

    fn enter<M: Letter>(self: &Arc<Self>) -> Ticket {
        let depth = self.depth.fetch_add(1, Ordering::AcqRel) + 1;
        self.high_water.fetch_max(depth, Ordering::Relaxed);
        if depth > self.capacity.load(Ordering::Relaxed) {
            self.full.fetch_add(1, Ordering::Relaxed);
        }
        Ticket { gauge: self.clone(), message: M::NAME, since: Instant::now() }
    }

    fn times(&self, message: &'static str) -> Times {
        let known = |times: &[(&'static str, Times)]| {
            times.iter().find(|(name, _)| *name == message).map(|(_, times)| times.clone())
        };
        let read = self.times.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(times) = known(&read) {
            return times;
        }
        drop(read);
        let mut write = self.times.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(times) = known(&write) {
            return times;
        }
        let labels = [("actor", self.actor), ("message", message)];
        let times = Times {
            wait: metrics::histogram!("lmx_actor_message_wait_seconds", &labels),
            handle: metrics::histogram!("lmx_actor_message_handle_seconds", &labels),
        };
        write.push((message, times.clone()));
        times
    }
}

/// A letter in its envelope.
#[derive(Debug)]
pub struct Mail<M> {
    letter: M,
    ticket: Ticket,
}

impl<M: Letter> Message for Mail<M> {
    type Result = ();
}

impl<M: Letter> Mail<M> {
    /// Takes the letter out. Keep the second part until the handler is done: it measures, and reports a panic.
    pub fn open(self) -> (M, Busy) {
        (self.letter, self.ticket.open())
    }
}

/// Counts a letter as long as it waits, also one that is never opened.
#[derive(Debug)]
struct Ticket {
    gauge: Arc<Gauge>,
    message: &'static str,
    since: Instant,
}

impl Ticket {
    fn open(self) -> Busy {
        let now = Instant::now();
        let times = self.gauge.times(self.message);
        times.wait.record(now.duration_since(self.since));
        let busy = u64::try_from(now.duration_since(self.gauge.born).as_micros()).unwrap_or(u64::MAX - 1);
        self.gauge.busy_since.store(busy + 1, Ordering::Relaxed);
        Busy { gauge: self.gauge.clone(), message: self.message, since: now, times }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.gauge.depth.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A handler at work.
#[derive(Debug)]
pub struct Busy {
    gauge: Arc<Gauge>,
    message: &'static str,
    since: Instant,
    times: Times,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.times.handle.record(self.since.elapsed());
        self.gauge.busy_since.store(0, Ordering::Relaxed);
        if std::thread::panicking() {
            self.gauge.report_down(self.message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix::{Context, System};
    use std::sync::mpsc;

    struct Slow(mpsc::Receiver<()>);

    impl Actor for Slow {
        type Context = Context<Self>;
    }

    #[derive(Debug)]
    struct Work(bool);

    impl Letter for Work {
        const NAME: &'static str = "work";
    }

    impl Handler<Mail<Work>> for Slow {
        type Result = ();

        fn handle(&mut self, mail: Mail<Work>, _: &mut Context<Self>) {
            let (Work(panics), _busy) = mail.open();
            assert!(!panics, "asked to panic");
            self.0.recv().unwrap();
        }
    }

    fn started(capacity: usize) -> (Mailbox<Slow>, mpsc::Sender<()>, actix_rt::Arbiter) {
        let (go, wait) = mpsc::channel();
        let mailbox = Mailbox::bounded(Gauge::new("slow", NonZeroUsize::new(capacity).unwrap()));
        let arbiter = actix_rt::Arbiter::new();
        let (ready, up) = mpsc::channel();
        let inside = mailbox.clone();
        arbiter.spawn_fn(move || {
            inside.connect(Slow(wait).start());
            ready.send(()).unwrap();
        });
        up.recv().unwrap();
        (mailbox, go, arbiter)
    }

    fn until(what: impl Fn() -> bool) {
        for _ in 0..2000 {
            if what() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("it did not happen within two seconds");
    }

    #[test]
    fn a_busy_actor_takes_exactly_its_capacity() {
        let _system = System::new();
        let (mailbox, go, _arbiter) = started(64);
        mailbox.try_tell(Work(false)).unwrap();
        until(|| mailbox.gauge().read().depth == 0); // the first one is being handled

        // A fresh handle each time: the framework's own bound would grow with every clone.
        let taken = (0..1000).filter(|_| mailbox.clone().try_tell(Work(false)).is_ok()).count();

        let reading = mailbox.gauge().read();
        assert_eq!((taken, reading.depth, reading.high_water, reading.full_total), (64, 64, 64, 936));
        assert!(mailbox.gauge().busy_for().is_some());
        (0..65).for_each(|_| go.send(()).unwrap());
        until(|| mailbox.gauge().read().depth == 0 && mailbox.gauge().busy_for().is_none());
    }

    #[test]
    fn a_panic_is_reported_with_the_message_that_caused_it() {
        let _system = System::new();
        let (mailbox, _go, _arbiter) = started(4);
        let (report, reported) = mpsc::channel();
        mailbox.gauge().on_down(Arc::new(move |message| report.send(message).unwrap()));

        mailbox.tell(Work(true));

        assert_eq!(reported.recv_timeout(Duration::from_secs(2)), Ok("work"));
        until(|| mailbox.gauge().read().depth == 0);
        mailbox.tell(Work(false)); // to nobody: dropped and not counted for ever
        until(|| mailbox.gauge().read().depth == 0);
    }
}
