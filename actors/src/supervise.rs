//! Supervision: what is started again, how often, and when the process gives up.
//!
//! The framework restarts an actor only when it stops itself; a panic closes its address for ever. So each actor is built
//! by a factory that can run again, in the same arbiter, and its mailbox is led to the new one.
//!
//! Accepts: [`Adopt`], [`Down`], [`Rebuilt`], [`Disown`]. Sends: nothing but what the restart functions send. Owns: the
//! restart budgets. Runs on: the system arbiter.

use crate::mailbox::{Gauge, Mailbox};
use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use actix_rt::ArbiterHandle;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Restarts of one actor within [`RESTART_WINDOW`] after which the process gives up.
const MAX_RESTARTS: usize = 3;
const RESTART_WINDOW: Duration = Duration::from_secs(60);
/// How often handlers are looked at.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long starting an actor may take before loading the model fails.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Which actor of which cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChildId {
    /// The loaded model (or worker) that it belongs to.
    pub cell: u64,
    /// Its name.
    pub actor: &'static str,
}

/// Why the process has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fatal {
    /// An actor failed too often.
    RestartBudget(&'static str),
    /// A handler has not come back: its thread cannot be ended, only the process.
    Hung(&'static str),
}

/// Ends the process, or tells a test.
pub type FatalHook = Box<dyn Fn(Fatal) + Send>;

/// A cell hands an actor over to the supervisor.
pub struct Adopt {
    /// Which.
    pub id: ChildId,
    /// Its counters.
    pub gauge: Arc<Gauge>,
    /// Starts it again, and tells the others what was lost.
    pub restart: Box<dyn Fn() + Send>,
    /// How long a handler of it may take.
    pub deadline: Duration,
}

/// A handler panicked.
pub struct Down {
    /// Whose.
    pub id: ChildId,
    /// Which message it was handling.
    pub message: &'static str,
}

/// An actor has built itself anew inside: counted like a restart.
pub struct Rebuilt {
    /// Which.
    pub id: ChildId,
}

/// A model was unloaded.
pub struct Disown {
    /// Its cell.
    pub cell: u64,
}

impl Message for Adopt {
    type Result = ();
}

impl Message for Down {
    type Result = ();
}

impl Message for Rebuilt {
    type Result = ();
}

impl Message for Disown {
    type Result = ();
}

struct Child {
    gauge: Arc<Gauge>,
    restart: Box<dyn Fn() + Send>,
    deadline: Duration,
    failures: VecDeque<Instant>,
}

/// Restarts what fails.
pub struct Supervisor {
    children: HashMap<ChildId, Child>,
    fatal: FatalHook,
}

impl Supervisor {
    /// A supervisor that calls `fatal` when it gives up.
    pub fn new(fatal: FatalHook) -> Self {
        Self { children: HashMap::new(), fatal }
    }

    /// Counts a failure. False if the budget is spent.
    fn count(&mut self, id: ChildId, now: Instant) -> bool {
        let Some(child) = self.children.get_mut(&id) else { return false };
        child.gauge.restarted();
        metrics::counter!("lmx_actor_restarts_total", "actor" => id.actor).increment(1);
        child.failures.push_back(now);
        while child.failures.front().is_some_and(|&at| now.duration_since(at) > RESTART_WINDOW) {
            child.failures.pop_front();
        }
        if child.failures.len() > MAX_RESTARTS {
            tracing::error!(actor = id.actor, failures = child.failures.len(), "failed too often, giving up");
            (self.fatal)(Fatal::RestartBudget(id.actor));
            return false;
        }
        true
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(HEARTBEAT, |actor, _| {
            for (id, child) in &actor.children {
                if child.gauge.busy_for().is_some_and(|busy| busy > child.deadline) {
                    tracing::error!(actor = id.actor, "a handler hangs, giving up");
                    (actor.fatal)(Fatal::Hung(id.actor));
                }
            }
        });
    }
}

impl Handler<Adopt> for Supervisor {
    type Result = ();

    fn handle(&mut self, Adopt { id, gauge, restart, deadline }: Adopt, _: &mut Context<Self>) {
        self.children.insert(id, Child { gauge, restart, deadline, failures: VecDeque::new() });
    }
}

impl Handler<Down> for Supervisor {
    type Result = ();

    fn handle(&mut self, Down { id, message }: Down, _: &mut Context<Self>) {
        tracing::error!(actor = id.actor, message, "an actor panicked, it is started again");
        if self.count(id, Instant::now()) {
            (self.children[&id].restart)();
        }
    }
}

impl Handler<Rebuilt> for Supervisor {
    type Result = ();

    fn handle(&mut self, Rebuilt { id }: Rebuilt, _: &mut Context<Self>) {
        self.count(id, Instant::now());
    }
}

impl Handler<Disown> for Supervisor {
    type Result = ();

    fn handle(&mut self, Disown { cell }: Disown, _: &mut Context<Self>) {
        self.children.retain(|id, _| id.cell != cell);
    }
}

/// Builds an actor inside its arbiter, after `before`, and leads its mailbox to it. Returns at once; a factory that panics
/// counts as an actor that panics.
pub(crate) fn start_in<A, F>(
    arbiter: &ArbiterHandle,
    mailbox: &Mailbox<A>,
    factory: &Arc<F>,
    before: impl FnOnce() + Send + 'static,
    started: Option<mpsc::Sender<()>>,
) where
    A: Actor<Context = Context<A>>,
    F: Fn() -> A + Send + Sync + 'static,
{
    let (mailbox, factory) = (mailbox.clone(), factory.clone());
    arbiter.spawn_fn(move || {
        before();
        match catch_unwind(AssertUnwindSafe(|| factory().start())) {
            Ok(address) => {
                mailbox.connect(address);
                if let Some(started) = started {
                    // Whoever waited may have given up.
                    let _ = started.send(());
                }
            }
            Err(_) => mailbox.gauge().report_down("start"),
        }
    });
}

/// Has panics of the actor reported, and its mailbox closed at once: a letter to an actor that is gone would be lost in
/// silence.
pub(crate) fn report_to<A: Actor>(supervisor: &Addr<Supervisor>, mailbox: &Mailbox<A>, id: ChildId) {
    let (supervisor, close) = (supervisor.clone(), mailbox.closer());
    mailbox.gauge().on_down(Arc::new(move |message| {
        close();
        supervisor.do_send(Down { id, message });
    }));
}

/// Starts an actor, hands it to the supervisor and waits until its mailbox works.
///
/// `before_restart` tells the others what is lost when the actor has to be started again. It runs in the actor's own
/// arbiter, so that neighbours there hear of it when the new actor is in place: what they ask then is answered.
///
/// # Errors
/// The actor's name, if it did not start.
pub(crate) fn spawn<A, F>(
    supervisor: &Addr<Supervisor>,
    arbiter: &ArbiterHandle,
    mailbox: &Mailbox<A>,
    child: ChildId,
    deadline: Duration,
    factory: F,
    before_restart: impl Fn() + Send + Sync + 'static,
) -> Result<(), &'static str>
where
    A: Actor<Context = Context<A>>,
    F: Fn() -> A + Send + Sync + 'static,
{
    let factory = Arc::new(factory);
    let (sender, started) = mpsc::channel();
    report_to(supervisor, mailbox, child);
    start_in(arbiter, mailbox, &factory, || {}, Some(sender));
    started.recv_timeout(START_TIMEOUT).map_err(|_| child.actor)?;
    let (arbiter, again) = (arbiter.clone(), mailbox.clone());
    let before_restart = Arc::new(before_restart);
    let restart = Box::new(move || {
        let before_restart = before_restart.clone();
        start_in(&arbiter, &again, &factory, move || before_restart(), None);
    });
    supervisor.do_send(Adopt { id: child, gauge: mailbox.gauge().clone(), restart, deadline });
    Ok(())
}
