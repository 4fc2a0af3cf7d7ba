//! One loaded model: wires its actors together. The only file that knows them all.

use crate::egress::{Attach, Detach, Egress, EgressDirectory, FailAll, TextOptions};
use crate::engine::{Clear, Engine, ForwardFactory};
use crate::kv_cache::{ClearCached, Invalidate, KvCache, ReleaseByMail};
use crate::mailbox::{Gauge, Mailbox, MailboxReading, TellError};
use crate::scheduler::{Cancel, Drain, KvLost, Retire, SchedulerActor, SchedulerPeers, Submit};
use crate::stream::{Meter, TokenStream};
use crate::supervise::{ChildId, Disown, FatalHook, Supervisor, spawn};
use crate::{kv_cache, scheduler};
use actix::{Actor, Addr};
use actix_rt::Arbiter;
use lmx_runtime::config::SchedulerConfig;
use lmx_runtime::ids::{KvEpoch, RequestId, SeqId, WorkerId};
use lmx_runtime::kv::{KvAccounts, KvUsage, StatePool};
use lmx_runtime::sampling::SamplingParams;
use lmx_runtime::scheduler::{Admission, CancelTarget, Limits, Scheduler, SequenceCounts};
use lmx_runtime::sequence::{NewRequest, Priority, SequenceError};
use lmx_runtime::text::Tokenizer;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// A handler of a deciding actor that takes longer than this hangs.
const CONTROL_DEADLINE: Duration = Duration::from_secs(30);
/// A step that takes longer than this hangs.
const ENGINE_DEADLINE: Duration = Duration::from_secs(600);
/// Tokens at the end of the prompt that the text of the first token may depend on.
const PROMPT_TAIL: usize = 8;

/// Names the KV memories of one model, across everything that can fail.
#[derive(Debug, Clone, Default)]
pub struct EpochSource(Arc<AtomicU32>);

impl EpochSource {
    /// The memory in use.
    pub fn current(&self) -> KvEpoch {
        KvEpoch(self.0.load(Ordering::Acquire))
    }

    /// A name for the memory to come.
    pub fn next(&self) -> KvEpoch {
        KvEpoch(self.0.fetch_add(1, Ordering::AcqRel) + 1)
    }
}

/// How many letters each mailbox of a cell may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailboxCapacities {
    /// Requests that arrive at once, beside what the other actors send; beyond it a request is refused with 503.
    pub scheduler: NonZeroUsize,
    /// Plans in flight.
    pub engine: NonZeroUsize,
    /// Reservations, commits and releases.
    pub kv_cache: NonZeroUsize,
}

impl Default for MailboxCapacities {
    fn default() -> Self {
        let at_least_one = |n| NonZeroUsize::new(n).expect("the default is not zero");
        Self { scheduler: at_least_one(256), engine: at_least_one(4), kv_cache: at_least_one(512) }
    }
}

/// What the actors of all models share: the supervisor, the control thread, the workers' egresses and the ids.
pub struct ActorSystem {
    supervisor: Addr<Supervisor>,
    control: Arbiter,
    egress: EgressDirectory,
    next_worker: AtomicU16,
    next_cell: AtomicU64,
    ids: Arc<Ids>,
}

#[derive(Debug, Default)]
struct Ids {
    request: AtomicU64,
    seq: AtomicU64,
}

/// A worker's own egress, to be kept by the worker.
#[derive(Debug, Clone)]
pub struct WorkerEgress {
    worker: WorkerId,
    mailbox: Mailbox<Egress>,
}

impl ActorSystem {
    /// Starts the supervisor in the current system and the control thread. `fatal` ends the process.
    pub fn start(fatal: FatalHook) -> Arc<Self> {
        Arc::new(Self {
            supervisor: Supervisor::new(fatal).start(),
            control: Arbiter::new(),
            egress: EgressDirectory::default(),
            next_worker: AtomicU16::new(0),
            next_cell: AtomicU64::new(1),
            ids: Arc::default(),
        })
    }

    /// Starts the egress of the HTTP worker whose thread this is called on.
    ///
    /// # Panics
    /// When called outside of an arbiter.
    pub fn start_egress(&self, capacity: NonZeroUsize) -> WorkerEgress {
        let worker = WorkerId(self.next_worker.fetch_add(1, Ordering::Relaxed));
        let mailbox = Mailbox::bounded(Gauge::new("egress", capacity));
        let gauge = mailbox.gauge().clone();
        let factory = Arc::new(move || Egress::new(gauge.clone()));
        mailbox.connect(factory().start());
        self.egress.insert(worker, mailbox.clone());
        let child = ChildId { cell: u64::MAX - u64::from(worker.0), actor: "egress" };
        let again = mailbox.clone();
        let arbiter = Arbiter::current();
        let restart = Box::new(move || {
            // Streams of the lost egress see their channels close, and cancel.
            crate::supervise::start_in(&arbiter, &again, &factory, || {}, None);
        });
        crate::supervise::report_to(&self.supervisor, &mailbox, child);
        let gauge = mailbox.gauge().clone();
        self.supervisor.do_send(crate::supervise::Adopt { id: child, gauge, restart, deadline: CONTROL_DEADLINE });
        WorkerEgress { worker, mailbox }
    }

    pub(crate) fn supervisor(&self) -> &Addr<Supervisor> {
        &self.supervisor
    }

    pub(crate) fn next_cell(&self) -> u64 {
        self.next_cell.fetch_add(1, Ordering::Relaxed)
    }

    /// Mailboxes of the workers' egresses.
    pub fn egress_readings(&self) -> Vec<MailboxReading> {
        self.egress.all().iter().map(|mailbox| mailbox.gauge().read()).collect()
    }

    /// Stops the control thread. The cells must have been stopped before.
    pub fn stop(&self) {
        self.control.stop();
    }
}

/// Everything a cell is made of.
pub struct CellSpec {
    /// The model's id, for labels.
    pub model: String,
    /// Builds executors over the loaded weights.
    pub forward: ForwardFactory,
    /// The model's tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// How sequences share the engine.
    pub scheduler: SchedulerConfig,
    /// Sizes of the model and its KV memory.
    pub limits: Limits,
    /// Names the weights in the prefix index.
    pub fingerprint: u128,
    /// Whether computed prompts are kept.
    pub prefix_cache: bool,
    /// Mailbox sizes.
    pub mailboxes: MailboxCapacities,
}

/// A request for tokens, checked and tokenised.
#[derive(Debug, Clone)]
pub struct StreamRequest {
    /// Token ids, at least one.
    pub prompt: Arc<[u32]>,
    /// Choices, at least one.
    pub choices: usize,
    /// How to choose tokens.
    pub params: SamplingParams,
    /// Key of the random generator.
    pub seed: u64,
    /// Most tokens per choice.
    pub max_tokens: usize,
    /// How urgent it is.
    pub priority: Priority,
    /// When it must have ended.
    pub deadline: Option<Instant>,
    /// How tokens become text.
    pub text: TextOptions,
}

/// Why a request was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// As many requests wait as may.
    #[error("{waiting} requests wait already, the limit is {limit}")]
    QueueFull {
        /// Requests that wait.
        waiting: usize,
        /// How many may.
        limit: usize,
        /// When to come again.
        retry_after: Duration,
    },
    /// The scheduler's mailbox is full.
    #[error("the scheduler's mailbox is full")]
    Overloaded {
        /// When to come again.
        retry_after: Duration,
    },
    /// The scheduler is being rebuilt, or the model is going away.
    #[error("the model is not ready")]
    NotReady,
    /// The server stops.
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// A loaded model, ready for requests.
pub struct Cell {
    id: u64,
    model: String,
    system: Arc<ActorSystem>,
    engine_arbiter: Arbiter,
    scheduler: Mailbox<SchedulerActor>,
    kv_cache: Mailbox<KvCache>,
    engine: Mailbox<Engine>,
    admission: Arc<Admission>,
    tokenizer: Arc<Tokenizer>,
    limits: Limits,
    ready: Arc<AtomicBool>,
    closed: AtomicBool,
}

impl Cell {
    /// Starts the actors of a model. Blocks until they run: call it from a thread that is allowed to.
    ///
    /// # Errors
    /// The name of the actor that did not start.
    pub fn start(system: &Arc<ActorSystem>, spec: CellSpec) -> Result<Self, &'static str> {
        let id = system.next_cell();
        let child = move |actor| ChildId { cell: id, actor };
        let engine_arbiter = Arbiter::new();
        let control = system.control.handle();
        let scheduler = Mailbox::bounded(Gauge::new("scheduler", spec.mailboxes.scheduler));
        let kv_cache = Mailbox::bounded(Gauge::new("kv_cache", spec.mailboxes.kv_cache));
        let engine = Mailbox::bounded(Gauge::new("engine", spec.mailboxes.engine));
        let epochs = EpochSource::default();
        let ready = Arc::new(AtomicBool::new(false));
        let model: Arc<str> = spec.model.as_str().into();

        let factory = {
            let (scheduler, epochs, model) = (scheduler.clone(), epochs.clone(), model.clone());
            let max_sequences = spec.scheduler.max_sequences.get();
            move || {
                let (blocks, spans) = (spec.limits.num_blocks, spec.limits.spans);
                let accounts = KvAccounts::new(blocks, spans, spec.fingerprint, spec.prefix_cache, epochs.current());
                let states = spec.limits.num_states;
                let accounts = accounts.with_states(StatePool::new(states, max_sequences.min(states)));
                KvCache::new(accounts, scheduler.clone(), &model)
            }
        };
        let lost = {
            let (scheduler, epochs) = (scheduler.clone(), epochs.clone());
            move || scheduler.tell(KvLost(epochs.next()))
        };
        spawn(&system.supervisor, &control, &kv_cache, child("kv_cache"), CONTROL_DEADLINE, factory, lost)?;

        let peers = SchedulerPeers {
            kv_cache: kv_cache.clone(),
            engine: engine.clone(),
            egress: system.egress.clone(),
            epochs: epochs.clone(),
            gauge: scheduler.gauge().clone(),
            ready: ready.clone(),
        };
        let factory = {
            let (config, limits, epochs, kv_cache) =
                (spec.scheduler.clone(), spec.limits, epochs.clone(), kv_cache.clone());
            move || {
                let sink = Arc::new(ReleaseByMail(kv_cache.clone()));
                let core = Scheduler::new(config.clone(), limits, epochs.current(), sink);
                SchedulerActor::new(core, peers.clone(), &model)
            }
        };
        let lost = {
            let (kv_cache, engine, egress) = (kv_cache.clone(), engine.clone(), system.egress.clone());
            let scheduler = scheduler.clone();
            move || {
                kv_cache.tell(Invalidate(epochs.next()));
                engine.tell(Clear);
                egress.all().iter().for_each(|worker| {
                    let error = SequenceError::SchedulerFault;
                    worker.tell(FailAll { scheduler: scheduler.clone(), error });
                });
            }
        };
        spawn(&system.supervisor, &control, &scheduler, child("scheduler"), CONTROL_DEADLINE, factory, lost)?;

        let factory = {
            let (scheduler, supervisor) = (scheduler.clone(), system.supervisor.clone());
            move || Engine::new(spec.forward.clone(), scheduler.clone(), supervisor.clone(), child("engine"))
        };
        spawn(&system.supervisor, &engine_arbiter.handle(), &engine, child("engine"), ENGINE_DEADLINE, factory, || {})?;

        Ok(Self {
            id,
            model: spec.model,
            system: system.clone(),
            engine_arbiter,
            scheduler,
            kv_cache,
            engine,
            admission: Admission::new(spec.scheduler.max_queue),
            tokenizer: spec.tokenizer,
            limits: spec.limits,
            ready,
            closed: AtomicBool::new(false),
        })
    }

    /// The model's id.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Sizes of the model and its KV memory.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Takes a request and returns its events. Dropping them cancels it.
    ///
    /// # Errors
    /// [`OpenError`] if there is no place for it now.
    pub fn open(&self, egress: &WorkerEgress, request: StreamRequest) -> Result<TokenStream, OpenError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(OpenError::ShuttingDown);
        }
        let now = Instant::now();
        let permit = self.admission.enter(request.prompt.len(), now).map_err(|full| OpenError::QueueFull {
            waiting: full.waiting,
            limit: full.limit,
            retry_after: full.retry_after,
        })?;
        let id = RequestId(self.system.ids.request.fetch_add(1, Ordering::Relaxed));
        let choices = request.choices as u64;
        let first = self.system.ids.seq.fetch_add(choices, Ordering::Relaxed);
        let seqs: Vec<SeqId> = (first..first + choices).map(SeqId).collect();
        let (sender, events) = mpsc::unbounded_channel();
        let meter = Arc::new(Meter::default());
        let attach = Attach {
            request: id,
            seqs: seqs.clone(),
            tokenizer: self.tokenizer.clone(),
            text: request.text,
            prompt_tail: request.prompt[request.prompt.len().saturating_sub(PROMPT_TAIL)..].to_vec(),
            prompt_tokens: request.prompt.len(),
            logprobs: request.params.logprobs.is_some(),
            arrived: now,
            events: sender,
            meter: meter.clone(),
            scheduler: self.scheduler.clone(),
        };
        egress.mailbox.try_tell(attach).map_err(|error| self.refused(&error))?;
        // From here on a drop detaches and cancels.
        let mut stream = TokenStream {
            request: id,
            seqs: seqs.clone(),
            events,
            meter,
            scheduler: self.scheduler.clone(),
            egress: egress.mailbox.clone(),
            open: seqs.len(),
        };
        let turns = if self.limits.num_states > 0 { turns(&request.prompt, &self.tokenizer) } else { Arc::default() };
        let request = NewRequest {
            id,
            worker: egress.worker,
            prompt: request.prompt,
            turns,
            choices: seqs,
            params: Arc::new(request.params),
            seed: request.seed,
            max_tokens: request.max_tokens,
            priority: request.priority,
            deadline: request.deadline,
        };
        if let Err(error) = self.scheduler.try_tell(Submit { request, permit }) {
            // The scheduler knows nothing of it: a cancel would only lengthen the queue that is too long already.
            stream.open = 0;
            egress.mailbox.tell(Detach(stream.request));
            return Err(self.refused(&error));
        }
        Ok(stream)
    }

    /// Cancels a request on behalf of somebody else than its reader, who is told.
    pub fn cancel(&self, request: RequestId) {
        self.scheduler.tell(Cancel { target: CancelTarget::Request(request), tell_reader: true });
    }

    /// Whether steps can be computed: false while the engine is being rebuilt, and while draining.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.closed.load(Ordering::Acquire)
    }

    /// Forgets all computed prompts that no sequence uses.
    pub fn clear_prefix_cache(&self) {
        self.kv_cache.tell(ClearCached);
    }

    /// Mailboxes of the cell's actors.
    pub fn readings(&self) -> Vec<MailboxReading> {
        [self.scheduler.gauge(), self.kv_cache.gauge(), self.engine.gauge()].map(|gauge| gauge.read()).to_vec()
    }

    /// Use of KV memory; `None` while the accounts are being rebuilt.
    pub async fn kv_usage(&self) -> Option<KvUsage> {
        let (reply, answer) = oneshot::channel();
        self.kv_cache.tell(kv_cache::Snapshot { reply });
        answer.await.ok()
    }

    /// Sequences by state; `None` while the scheduler is being rebuilt.
    pub async fn sequence_counts(&self) -> Option<SequenceCounts> {
        let (reply, answer) = oneshot::channel();
        self.scheduler.tell(scheduler::Snapshot { reply });
        answer.await.ok()
    }

    /// Requests that wait for a place.
    pub fn waiting(&self) -> usize {
        self.admission.waiting()
    }

    /// Refuses new requests, ends waiting ones, and resolves when the running ones have ended.
    pub async fn drain(&self) {
        self.closed.store(true, Ordering::Release);
        let (done, drained) = oneshot::channel();
        self.scheduler.tell(Drain { done });
        // A scheduler that is gone has nothing left to end.
        let _ = drained.await;
    }

    fn refused<M>(&self, error: &TellError<M>) -> OpenError {
        match error {
            TellError::Full(_) => OpenError::Overloaded { retry_after: self.admission.retry_after() },
            TellError::Closed(_) => OpenError::NotReady,
        }
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        self.system.supervisor.do_send(Disown { cell: self.id });
        for worker in self.system.egress.all() {
            let error = SequenceError::ShuttingDown;
            worker.tell(FailAll { scheduler: self.scheduler.clone(), error });
        }
        self.scheduler.tell(Retire);
        // Each of the two is known to the other: closed mailboxes let go of both.
        self.scheduler.closer()();
        self.kv_cache.closer()();
        self.engine_arbiter.stop();
    }
}

/// Where the turns of a prompt begin and end: at its special tokens.
fn turns(prompt: &[u32], tokenizer: &Tokenizer) -> Arc<[usize]> {
    prompt.iter().enumerate().filter(|(_, id)| tokenizer.is_special(**id)).map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests;
