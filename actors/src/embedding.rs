//! The actor of one embedding or reranking model: its queue, its batches and its executor.
//!
//! Accepts: [`EncodeRows`], `Drain`. Sends: replies only. Owns: the executor, the requests that wait. Runs on: an arbiter of
//! its own, which its handler blocks on purpose.
//!
//! A batch is what waits when the last one ends, up to a number of tokens: one text of each request in turn, so that a
//! single text does not wait for a list of thousands that came before it.

use crate::cell::ActorSystem;
use crate::mailbox::{Gauge, Letter, Mail, Mailbox, MailboxReading, TellError};
use crate::supervise::{ChildId, Disown, Rebuilt, Supervisor, spawn};
use actix::{Actor, Addr, AsyncContext, Context, Handler};
use actix_rt::Arbiter;
use lmx_runtime::pooling::Encoded;
use lmx_runtime::runner::{Encode, EncodeRow, ForwardError, give_way};
use lmx_runtime::scheduler::{Admission, Permit};
use metrics::{Counter, Histogram};
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Builds an executor over weights that are shared.
pub type EncodeFactory = Arc<dyn Fn() -> Result<Box<dyn Encode>, ForwardError> + Send + Sync>;

/// A batch that takes longer than this hangs.
const ENCODE_DEADLINE: Duration = Duration::from_secs(600);
/// When to come back to an actor that is being rebuilt.
const REBUILT_IN: Duration = Duration::from_secs(1);

/// Somebody wants the vectors of some texts; answered once.
pub struct EncodeRows {
    rows: Vec<Encoded>,
    permit: Permit,
    reply: oneshot::Sender<Result<Vec<f32>, EncodeError>>,
}

/// The cell goes away: the requests that wait are finished, and `done` is told.
struct Drain {
    done: oneshot::Sender<()>,
}

/// The actor tells itself to compute what waits.
struct RunBatch;

impl Letter for EncodeRows {
    const NAME: &'static str = "encode";
}

impl Letter for Drain {
    const NAME: &'static str = "drain";
}

impl actix::Message for RunBatch {
    type Result = ();
}

/// Why there are no vectors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// As much waits as may.
    #[error("{waiting} requests wait already")]
    QueueFull {
        /// Requests that wait.
        waiting: usize,
        /// When to come again.
        retry_after: Duration,
    },
    /// The mailbox is full.
    #[error("the mailbox is full")]
    Overloaded {
        /// When to come again.
        retry_after: Duration,
    },
    /// The actor is being rebuilt.
    #[error("the model is not ready")]
    NotReady {
        /// When to come again.
        retry_after: Duration,
    },
    /// The model goes away.
    #[error("the model is shutting down")]
    ShuttingDown,
    /// The batch failed: the model goes on.
    #[error("the batch failed: {0}")]
    Failed(String),
}

/// What an embedding or reranking model is made of.
pub struct EmbeddingSpec {
    /// The model's id, for labels and the log.
    pub model: String,
    /// The actor's name: `embedding` or `rerank`.
    pub actor: &'static str,
    /// Builds executors.
    pub encode: EncodeFactory,
    /// Messages that may wait.
    pub mailbox: NonZeroUsize,
    /// Requests that may wait.
    pub max_queue: usize,
    /// Tokens of a batch, unless one text has more.
    pub batch_tokens: NonZeroUsize,
    /// The part of the processor that it gets beside a chat, in (0, 1].
    pub share: f64,
}

/// An embedding or reranking model that serves.
pub struct EmbeddingCell {
    id: u64,
    system: Arc<ActorSystem>,
    arbiter: Arbiter,
    mailbox: Mailbox<Embedding>,
    admission: Arc<Admission>,
    /// Tokens that may wait, unless they are one request's.
    max_tokens: usize,
    closed: AtomicBool,
    born: Instant,
    /// When it was used last, in milliseconds since `born`.
    used: AtomicU64,
}

/// Requests that may wait per request slot, in tokens of a batch each.
const BATCHES_PER_REQUEST: usize = 1;

impl EmbeddingCell {
    /// Starts the actor of a model. Blocks until it runs: call it from a thread that is allowed to.
    ///
    /// # Errors
    /// The actor's name, if it did not start.
    pub fn start(system: &Arc<ActorSystem>, spec: EmbeddingSpec) -> Result<Self, &'static str> {
        let child = ChildId { cell: system.next_cell(), actor: spec.actor };
        let arbiter = Arbiter::new();
        let mailbox = Mailbox::bounded(Gauge::new(spec.actor, spec.mailbox));
        let factory = {
            let (supervisor, encode, share) = (system.supervisor().clone(), spec.encode, spec.share);
            let (batch_tokens, model) = (spec.batch_tokens.get(), spec.model);
            move || {
                // Threads that the executor starts inherit it.
                give_way(share);
                Embedding::new(encode.clone(), batch_tokens, supervisor.clone(), child, &model)
            }
        };
        spawn(system.supervisor(), &arbiter.handle(), &mailbox, child, ENCODE_DEADLINE, factory, || {})?;
        Ok(Self {
            id: child.cell,
            system: system.clone(),
            arbiter,
            mailbox,
            admission: Admission::new(spec.max_queue),
            max_tokens: spec.max_queue.saturating_mul(spec.batch_tokens.get() * BATCHES_PER_REQUEST),
            closed: AtomicBool::new(false),
            born: Instant::now(),
            used: AtomicU64::new(0),
        })
    }

    /// The vectors of some texts, one after the other, in their order. Dropping the future takes the request back.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub async fn encode(&self, rows: Vec<Encoded>) -> Result<Vec<f32>, EncodeError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(EncodeError::ShuttingDown);
        }
        self.touch();
        let tokens = rows.iter().map(|row| row.tokens.len()).sum();
        let waiting = self.admission.waiting_tokens();
        if waiting > 0 && waiting + tokens > self.max_tokens {
            let retry_after = self.admission.retry_after();
            return Err(EncodeError::QueueFull { waiting: self.admission.waiting(), retry_after });
        }
        let permit = self
            .admission
            .enter(tokens, Instant::now())
            .map_err(|full| EncodeError::QueueFull { waiting: full.waiting, retry_after: full.retry_after })?;
        let (reply, answer) = oneshot::channel();
        self.mailbox.try_tell(EncodeRows { rows, permit, reply }).map_err(|error| match error {
            TellError::Full(_) => EncodeError::Overloaded { retry_after: self.admission.retry_after() },
            TellError::Closed(_) => EncodeError::NotReady { retry_after: REBUILT_IN },
        })?;
        let answer = answer.await;
        self.touch();
        // Whoever has the other end answers, unless it panicked or went away with all that waited.
        answer.unwrap_or(Err(EncodeError::NotReady { retry_after: REBUILT_IN }))
    }

    /// How long nobody has asked anything of it.
    pub fn idle(&self) -> Duration {
        if self.admission.waiting() > 0 {
            return Duration::ZERO;
        }
        self.born.elapsed().saturating_sub(Duration::from_millis(self.used.load(Ordering::Relaxed)))
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.admission.waiting()
    }

    /// The actor's mailbox.
    pub fn reading(&self) -> MailboxReading {
        self.mailbox.gauge().read()
    }

    /// Whether it takes requests.
    pub fn is_ready(&self) -> bool {
        self.mailbox.is_open() && !self.closed.load(Ordering::Acquire)
    }

    /// Refuses new requests and resolves when those that wait have been answered.
    pub async fn drain(&self) {
        self.closed.store(true, Ordering::Release);
        let (done, drained) = oneshot::channel();
        self.mailbox.tell(Drain { done });
        // An actor that is gone has nothing left to end.
        let _ = drained.await;
    }

    fn touch(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.used.store(now, Ordering::Relaxed);
    }
}

impl Drop for EmbeddingCell {
    fn drop(&mut self) {
        self.system.supervisor().do_send(Disown { cell: self.id });
        self.mailbox.closer()();
        self.arbiter.stop();
    }
}

/// A request under way.
struct Job {
    rows: Vec<Encoded>,
    /// The first of them that is in no batch yet.
    next: usize,
    /// Vectors of the rows so far, by row.
    vectors: Vec<Vec<f32>>,
    since: Instant,
    permit: Permit,
    reply: oneshot::Sender<Result<Vec<f32>, EncodeError>>,
}

/// Owns one model's executor and what waits for it.
pub struct Embedding {
    factory: EncodeFactory,
    encode: Option<Box<dyn Encode>>,
    jobs: VecDeque<Job>,
    batch_tokens: usize,
    draining: Vec<oneshot::Sender<()>>,
    /// Whether a [`RunBatch`] is on its way.
    awake: bool,
    supervisor: Addr<Supervisor>,
    id: ChildId,
    metrics: EmbeddingMetrics,
}

struct EmbeddingMetrics {
    wait: Histogram,
    step: Histogram,
    batch_tokens: Histogram,
    tokens: Counter,
}

impl Embedding {
    /// An actor that builds its executor as it starts.
    pub fn new(
        factory: EncodeFactory,
        batch_tokens: usize,
        supervisor: Addr<Supervisor>,
        id: ChildId,
        model: &str,
    ) -> Self {
        let model = || model.to_owned();
        let metrics = EmbeddingMetrics {
            wait: metrics::histogram!("lmx_queue_wait_seconds", "model" => model()),
            step: metrics::histogram!("lmx_step_duration_seconds", "phase" => "encode"),
            batch_tokens: metrics::histogram!("lmx_batch_tokens", "model" => model()),
            tokens: metrics::counter!("lmx_prompt_tokens_total", "model" => model()),
        };
        let (jobs, draining) = (VecDeque::new(), Vec::new());
        Self { factory, encode: None, jobs, batch_tokens, draining, awake: false, supervisor, id, metrics }
    }

    fn build(&mut self) {
        let built = catch_unwind(AssertUnwindSafe(|| (self.factory)()))
            .unwrap_or_else(|_| Err(ForwardError::Failed("building it panicked".into())));
        match built {
            Ok(encode) => self.encode = Some(encode),
            Err(error) => {
                tracing::error!(%error, "the executor cannot be built");
                self.supervisor.do_send(Rebuilt { id: self.id });
            }
        }
    }

    /// Has a batch computed once the mailbox has been emptied.
    fn wake(&mut self, ctx: &mut Context<Self>) {
        if !self.awake {
            self.awake = true;
            ctx.notify(RunBatch);
        }
    }

    /// The next batch: of which job and which row. Jobs whose readers have left go.
    fn plan(&mut self) -> Vec<(usize, usize)> {
        self.jobs.retain(|job| !job.reply.is_closed());
        let mut next: Vec<usize> = self.jobs.iter().map(|job| job.next).collect();
        let (mut batch, mut tokens) = (Vec::new(), 0);
        loop {
            let before = batch.len();
            for (number, job) in self.jobs.iter().enumerate() {
                let Some(row) = job.rows.get(next[number]) else { continue };
                if !batch.is_empty() && tokens + row.tokens.len() > self.batch_tokens {
                    continue;
                }
                tokens += row.tokens.len();
                batch.push((number, next[number]));
                next[number] += 1;
            }
            if batch.len() == before {
                break;
            }
        }
        for (job, next) in self.jobs.iter_mut().zip(next) {
            job.next = next;
        }
        // Texts of one length together: their queries go over keys in units of one size.
        batch.sort_by_key(|&(job, row)| std::cmp::Reverse(self.jobs[job].rows[row].tokens.len()));
        batch
    }

    /// Computes a batch and answers the jobs that it completes.
    fn run(&mut self) {
        let batch = self.plan();
        if batch.is_empty() {
            return;
        }
        if self.encode.is_none() {
            self.build();
        }
        let Some(encode) = &mut self.encode else {
            return self.fail(&batch, &EncodeError::NotReady { retry_after: REBUILT_IN });
        };
        let begun = Instant::now();
        for &(job, _) in batch.iter().filter(|(_, row)| *row == 0) {
            self.metrics.wait.record(begun.duration_since(self.jobs[job].since));
        }
        let rows: Vec<EncodeRow<'_>> = batch.iter().map(|&(job, row)| self.jobs[job].rows[row].row()).collect();
        let tokens: usize = rows.iter().map(|row| row.tokens.len()).sum();
        let mut vectors = Vec::new();
        // What a panic leaves behind is never used again.
        let outcome = catch_unwind(AssertUnwindSafe(|| encode.encode(&rows, &mut vectors)));
        let width = encode.width();
        let error = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(EncodeError::Failed(error.to_string())),
            Err(_) => {
                tracing::error!("the executor panicked, it is built anew");
                self.encode = None;
                self.supervisor.do_send(Rebuilt { id: self.id });
                Some(EncodeError::Failed("the executor panicked".to_owned()))
            }
        };
        if let Some(error) = error {
            tracing::error!(%error, "a batch failed");
            return self.fail(&batch, &error);
        }
        self.metrics.step.record(begun.elapsed());
        self.metrics.batch_tokens.record(tokens as f64);
        self.metrics.tokens.increment(tokens as u64);
        let mut rest = &vectors[..];
        for &(job, row) in &batch {
            let job = &mut self.jobs[job];
            let (own, later) = rest.split_at(job.rows[row].marks.len().max(1) * width);
            job.vectors[row] = own.to_vec();
            rest = later;
        }
        self.answer();
    }

    /// Answers the jobs whose rows are all there.
    fn answer(&mut self) {
        for job in std::mem::take(&mut self.jobs) {
            if job.next < job.rows.len() {
                self.jobs.push_back(job);
                continue;
            }
            let Job { vectors, permit, reply, .. } = job;
            drop(permit);
            // Whoever asked may have left.
            let _ = reply.send(Ok(vectors.concat()));
        }
    }

    /// Answers the jobs that have rows in a batch that failed.
    fn fail(&mut self, batch: &[(usize, usize)], error: &EncodeError) {
        for (number, job) in std::mem::take(&mut self.jobs).into_iter().enumerate() {
            if batch.iter().any(|&(failed, _)| failed == number) {
                let _ = job.reply.send(Err(error.clone()));
            } else {
                self.jobs.push_back(job);
            }
        }
    }
}

impl Actor for Embedding {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        self.build();
    }
}

impl Handler<Mail<EncodeRows>> for Embedding {
    type Result = ();

    fn handle(&mut self, mail: Mail<EncodeRows>, ctx: &mut Context<Self>) {
        let (EncodeRows { rows, permit, reply }, _busy) = mail.open();
        let vectors = vec![Vec::new(); rows.len()];
        self.jobs.push_back(Job { rows, next: 0, vectors, since: Instant::now(), permit, reply });
        self.wake(ctx);
    }
}

impl Handler<RunBatch> for Embedding {
    type Result = ();

    fn handle(&mut self, _: RunBatch, ctx: &mut Context<Self>) {
        self.awake = false;
        self.run();
        // Jobs without rows are answered here.
        self.answer();
        match self.jobs.is_empty() {
            true => self.draining.drain(..).for_each(|done| {
                // Whoever waited may have given up.
                let _ = done.send(());
            }),
            false => self.wake(ctx),
        }
    }
}

impl Handler<Mail<Drain>> for Embedding {
    type Result = ();

    fn handle(&mut self, mail: Mail<Drain>, ctx: &mut Context<Self>) {
        let (Drain { done }, _busy) = mail.open();
        self.draining.push(done);
        self.wake(ctx);
    }
}
