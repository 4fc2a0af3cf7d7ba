//! The scheduler actor: decides what every step computes.
//!
//! Accepts: [`Submit`], [`Cancel`], [`BlocksGranted`], [`StepDone`], [`StepFailed`], [`EngineUp`], [`KvLost`],
//! [`Pause`], [`Drain`], [`Retire`], [`Snapshot`]. Sends: `ReserveBlocks`, `Commit`, `Release` (by dropped leases) and
//! `Invalidate` to the KV cache, `RunStep` to the engine, `Deltas` to the egress of each worker. Owns: sequences,
//! queues, the step budget. Runs on: the control arbiter.

use crate::cell::EpochSource;
use crate::egress::{Deltas, EgressDirectory};
use crate::engine::{Engine, RunStep};
use crate::kv_cache::{Commit, Invalidate, KvCache, ReserveBlocks};
use crate::mailbox::{self, Letter, Mail, Mailbox};
use actix::{Actor, ActorContext, AsyncContext, Context, Handler};
use lmx_runtime::ids::{KvEpoch, SeqId, StepId};
use lmx_runtime::kv::{CommitRow, Granted};
use lmx_runtime::plan::StepOutput;
use lmx_runtime::scheduler::{CancelTarget, Delivery, Permit, Planned, Scheduler, SequenceCounts};
use lmx_runtime::sequence::NewRequest;
use metrics::{Counter, Gauge, Histogram};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often time limits are checked.
const TICK: Duration = Duration::from_millis(100);

/// A handler hands in a request; answered by `Deltas` to its worker's egress. May be refused by the mailbox.
#[derive(Debug)]
pub struct Submit {
    /// The request.
    pub request: NewRequest,
    /// Its place in the queue.
    pub permit: Permit,
}

/// A dropped stream, an operator or the egress cancels. Never refused.
#[derive(Debug)]
pub struct Cancel {
    /// What.
    pub target: CancelTarget,
    /// Whether the reader has to be told, because it was not the one who cancelled; answered by `Deltas` then.
    pub tell_reader: bool,
}

impl Cancel {
    /// The reader has left, or has all it wanted.
    pub fn unread(target: CancelTarget) -> Self {
        Self { target, tell_reader: false }
    }
}

/// The KV cache answers a reservation.
#[derive(Debug)]
pub struct BlocksGranted(pub Granted);

/// The engine has computed a step.
#[derive(Debug)]
pub struct StepDone(pub StepOutput);

/// The engine could not compute a step.
#[derive(Debug)]
pub struct StepFailed {
    /// Which.
    pub step: StepId,
    /// Whether KV memory was lost with it; `EngineUp` follows then.
    pub memory_lost: bool,
}

/// The engine has a working executor with empty slots.
#[derive(Debug)]
pub struct EngineUp;

/// The supervisor had to start the block accounts anew.
#[derive(Debug)]
pub struct KvLost(pub KvEpoch);

/// A stream's reader has fallen behind, or has caught up; no answer.
#[derive(Debug)]
pub struct Pause {
    /// The sequences of the stream.
    pub seqs: Vec<SeqId>,
    /// Whether to hold them back.
    pub paused: bool,
}

/// The server stops: no new requests; `done` is answered when the last sequence has ended.
#[derive(Debug)]
pub struct Drain {
    /// Answered once.
    pub done: oneshot::Sender<()>,
}

/// An operator counts the sequences; answered once.
#[derive(Debug)]
pub struct Snapshot {
    /// Gets the answer.
    pub reply: oneshot::Sender<SequenceCounts>,
}

/// The model goes away: the scheduler stops. No answer.
#[derive(Debug)]
pub struct Retire;

impl Letter for Submit {
    const NAME: &'static str = "submit";
}

impl Letter for Cancel {
    const NAME: &'static str = "cancel";
}

impl Letter for BlocksGranted {
    const NAME: &'static str = "granted";
}

impl Letter for StepDone {
    const NAME: &'static str = "step_done";
}

impl Letter for StepFailed {
    const NAME: &'static str = "step_failed";
}

impl Letter for EngineUp {
    const NAME: &'static str = "engine_up";
}

impl Letter for KvLost {
    const NAME: &'static str = "kv_lost";
}

impl Letter for Pause {
    const NAME: &'static str = "pause";
}

impl Letter for Drain {
    const NAME: &'static str = "drain";
}

impl Letter for Retire {
    const NAME: &'static str = "retire";
}

impl Letter for Snapshot {
    const NAME: &'static str = "snapshot";
}

/// Where the scheduler sends.
#[derive(Clone)]
pub struct SchedulerPeers {
    /// Block accounting.
    pub kv_cache: Mailbox<KvCache>,
    /// The forward pass.
    pub engine: Mailbox<Engine>,
    /// The text of each worker's streams.
    pub egress: EgressDirectory,
    /// Names KV memories.
    pub epochs: EpochSource,
    /// Measures the scheduler's own mailbox.
    pub gauge: Arc<mailbox::Gauge>,
    /// Whether steps can be computed, for readiness.
    pub ready: Arc<AtomicBool>,
}

/// Owns the sequences of one model.
pub struct SchedulerActor {
    core: Scheduler,
    peers: SchedulerPeers,
    drained: Vec<oneshot::Sender<()>>,
    metrics: SchedulerMetrics,
    preemptions: u64,
}

struct SchedulerMetrics {
    waiting: Gauge,
    prefill: Gauge,
    decode: Gauge,
    paused: Gauge,
    vllm_running: Gauge,
    vllm_waiting: Gauge,
    vllm_preemptions: Counter,
    batch_tokens: Histogram,
    queue_wait: Histogram,
}

impl SchedulerActor {
    /// An actor around an empty scheduler.
    pub fn new(core: Scheduler, peers: SchedulerPeers, model: &str) -> Self {
        let state = |state| metrics::gauge!("lmx_sequences", "model" => model.to_owned(), "state" => state);
        let metrics = SchedulerMetrics {
            waiting: state("waiting"),
            prefill: state("prefill"),
            decode: state("decode"),
            paused: state("paused"),
            vllm_running: metrics::gauge!("vllm:num_requests_running", "model_name" => model.to_owned()),
            vllm_waiting: metrics::gauge!("vllm:num_requests_waiting", "model_name" => model.to_owned()),
            vllm_preemptions: metrics::counter!("vllm:num_preemptions_total", "model_name" => model.to_owned()),
            batch_tokens: metrics::histogram!("lmx_batch_tokens"),
            queue_wait: metrics::histogram!("lmx_queue_wait_seconds"),
        };
        Self { core, peers, drained: Vec::new(), metrics, preemptions: 0 }
    }

    fn plan(&mut self) {
        let planned = self.core.plan();
        self.act(planned);
    }

    fn act(&mut self, planned: Planned) {
        match planned {
            Planned::Nothing => {}
            Planned::Reserve(reserve) => self.peers.kv_cache.tell(ReserveBlocks(reserve)),
            Planned::Step(plan) => {
                self.metrics.batch_tokens.record(plan.num_tokens() as f64);
                self.peers.engine.tell(RunStep(plan));
            }
        }
    }

    fn commit(&self, rows: Vec<CommitRow>) {
        if !rows.is_empty() {
            self.peers.kv_cache.tell(Commit { epoch: self.core.epoch(), rows });
        }
    }

    /// One message per worker, whatever the number of streams.
    fn publish(&self, deliveries: Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        let mut workers: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (worker, delta) in deliveries {
            workers.entry(worker).or_default().push(delta);
        }
        for (worker, items) in workers {
            self.peers.egress.tell(worker, Deltas { items });
        }
    }

    fn finish_turn(&mut self) {
        let counts = self.core.counts();
        let metrics = &self.metrics;
        metrics.waiting.set(counts.waiting as f64);
        metrics.prefill.set(counts.prefill as f64);
        metrics.decode.set(counts.decode as f64);
        metrics.paused.set(counts.paused as f64);
        metrics.vllm_running.set((counts.prefill + counts.decode) as f64);
        metrics.vllm_waiting.set(counts.waiting as f64);
        metrics.vllm_preemptions.increment(counts.preemptions - self.preemptions);
        self.preemptions = counts.preemptions;
        for arrived in self.core.take_entered() {
            metrics.queue_wait.record(arrived.elapsed());
        }
        if self.core.is_empty() {
            for done in self.drained.drain(..) {
                // Whoever waited for the end may have given up waiting.
                let _ = done.send(());
            }
        }
    }
}

impl Actor for SchedulerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(TICK, |actor, _| {
            if actor.core.is_empty() {
                return;
            }
            let _busy = actor.peers.gauge.watch("tick");
            let expired = actor.core.expire(Instant::now());
            if !expired.is_empty() {
                actor.plan();
                actor.publish(expired);
                actor.finish_turn();
            }
        });
    }
}

impl Handler<Mail<Submit>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, mail: Mail<Submit>, _: &mut Context<Self>) {
        let (Submit { request, permit }, _busy) = mail.open();
        let refused = self.core.submit(request, Some(permit), Instant::now());
        self.plan();
        self.publish(refused);
        self.finish_turn();
    }
}

impl Handler<Mail<Cancel>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, mail: Mail<Cancel>, _: &mut Context<Self>) {
        let (Cancel { target, tell_reader }, _busy) = mail.open();
        let cancelled = self.core.cancel(target);
        if !cancelled.is_empty() {
            tracing::debug!(?target, "cancelled");
            self.plan();
            if tell_reader {
                self.publish(cancelled);
            }
            self.finish_turn();
        }
    }
}

impl Handler<Mail<BlocksGranted>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, mail: Mail<BlocksGranted>, _: &mut Context<Self>) {
        let (BlocksGranted(granted), _busy) = mail.open();
        let (planned, ended) = self.core.granted(granted);
        self.act(planned);
        self.publish(ended);
        self.finish_turn();
    }
}

impl Handler<Mail<StepDone>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, mail: Mail<StepDone>, _: &mut Context<Self>) {
        let (StepDone(output), _busy) = mail.open();
        let settled = self.core.settle(output);
        // What ended gives its blocks to the next plan.
        self.commit(settled.finished);
        drop(settled.leases);
        self.plan(); // plan first: the engine is idle until it has one
        self.publish(settled.deltas); // publish second
        self.commit(settled.running); // account last
        self.finish_turn();
    }
}

impl Handler<Mail<StepFailed>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, mail: Mail<StepFailed>, _: &mut Context<Self>) {
        let (StepFailed { step, memory_lost }, _busy) = mail.open();
        let failed = if memory_lost {
            self.peers.ready.store(false, Ordering::Release);
            let epoch = self.peers.epochs.next();
            let failed = self.core.engine_lost(epoch);
            self.peers.kv_cache.tell(Invalidate(epoch));
            failed
        } else {
            self.core.step_failed(step)
        };
        self.plan();
        self.publish(failed);
        self.finish_turn();
    }
}

impl Handler<Mail<EngineUp>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, mail: Mail<EngineUp>, _: &mut Context<Self>) {
        let (EngineUp, _busy) = mail.open();
        self.core.engine_up();
        self.peers.ready.store(true, Ordering::Release);
        self.plan();
    }
}

impl Handler<Mail<KvLost>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, mail: Mail<KvLost>, _: &mut Context<Self>) {
        let (KvLost(epoch), _busy) = mail.open();
        self.core.kv_lost(epoch);
        self.plan();
        self.finish_turn();
    }
}

impl Handler<Mail<Pause>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, mail: Mail<Pause>, _: &mut Context<Self>) {
        let (Pause { seqs, paused }, _busy) = mail.open();
        seqs.into_iter().for_each(|seq| self.core.set_paused(seq, paused));
        self.plan();
        self.finish_turn();
    }
}

impl Handler<Mail<Drain>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, mail: Mail<Drain>, _: &mut Context<Self>) {
        let (Drain { done }, _busy) = mail.open();
        self.drained.push(done);
        let ended = self.core.drain();
        self.publish(ended);
        self.finish_turn();
    }
}

impl Handler<Mail<Retire>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, mail: Mail<Retire>, ctx: &mut Context<Self>) {
        let (Retire, _busy) = mail.open();
        ctx.stop();
    }
}

impl Handler<Mail<Snapshot>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, mail: Mail<Snapshot>, _: &mut Context<Self>) {
        let (Snapshot { reply }, _busy) = mail.open();
        // Whoever asked may have given up waiting.
        let _ = reply.send(self.core.counts());
    }
}
