//! The KV-cache actor: block accounting and the prefix index.
//!
//! Accepts: [`ReserveBlocks`], [`Commit`], [`Release`], [`Invalidate`], [`ClearCached`], [`Snapshot`]. Sends:
//! `BlocksGranted` to the scheduler. Owns: [`KvAccounts`]; no tensor. Runs on: the control arbiter, beside the
//! scheduler, so that asking for blocks wakes no thread.

use crate::mailbox::{Letter, Mail, Mailbox};
use crate::scheduler::{BlocksGranted, SchedulerActor};
use actix::{Actor, Context, Handler};
use lmx_runtime::ids::{KvEpoch, SeqId};
use lmx_runtime::kv::{CommitRow, KvAccounts, KvUsage, LeaseSink, Reserve};
use metrics::{Counter, Gauge};
use tokio::sync::oneshot;

/// The scheduler asks for the blocks of a step; answered by `BlocksGranted`.
#[derive(Debug)]
pub struct ReserveBlocks(pub Reserve);

/// The scheduler reports tokens that are computed; no answer.
#[derive(Debug)]
pub struct Commit {
    /// The KV memory they stand in.
    pub epoch: KvEpoch,
    /// Which.
    pub rows: Vec<CommitRow>,
}

/// A dropped lease gives its blocks back; no answer.
#[derive(Debug)]
pub struct Release {
    /// Whose.
    pub seq: SeqId,
    /// Of which KV memory.
    pub epoch: KvEpoch,
}

/// The scheduler reports that KV memory was lost; no answer.
#[derive(Debug)]
pub struct Invalidate(pub KvEpoch);

/// An operator empties the prefix index; no answer.
#[derive(Debug)]
pub struct ClearCached;

/// An operator reads the accounts; answered once.
#[derive(Debug)]
pub struct Snapshot {
    /// Gets the answer.
    pub reply: oneshot::Sender<KvUsage>,
}

impl Letter for ReserveBlocks {
    const NAME: &'static str = "reserve";
}

impl Letter for Commit {
    const NAME: &'static str = "commit";
}

impl Letter for Release {
    const NAME: &'static str = "release";
}

impl Letter for Invalidate {
    const NAME: &'static str = "invalidate";
}

impl Letter for ClearCached {
    const NAME: &'static str = "clear_cached";
}

impl Letter for Snapshot {
    const NAME: &'static str = "snapshot";
}

/// Owns the block accounts of one model.
pub struct KvCache {
    accounts: KvAccounts,
    scheduler: Mailbox<SchedulerActor>,
    reported: KvUsage,
    metrics: KvMetrics,
}

struct KvMetrics {
    free: Gauge,
    active: Gauge,
    cached: Gauge,
    queries: Counter,
    hits: Counter,
    evictions: Counter,
    vllm_usage: Gauge,
    vllm_queries: Counter,
    vllm_hits: Counter,
}

impl KvCache {
    /// An actor over fresh accounts.
    pub fn new(accounts: KvAccounts, scheduler: Mailbox<SchedulerActor>, model: &str) -> Self {
        let state = |state| metrics::gauge!("lmx_kv_blocks", "model" => model.to_owned(), "state" => state);
        let counter = |name: &'static str| metrics::counter!(name, "model" => model.to_owned());
        let vllm = |name: &'static str| metrics::counter!(name, "model_name" => model.to_owned());
        let metrics = KvMetrics {
            free: state("free"),
            active: state("active"),
            cached: state("cached"),
            queries: counter("lmx_prefix_queries_total"),
            hits: counter("lmx_prefix_hits_total"),
            evictions: metrics::counter!("lmx_evictions_total", "reason" => "kv_blocks"),
            vllm_usage: metrics::gauge!("vllm:kv_cache_usage_perc", "model_name" => model.to_owned()),
            vllm_queries: vllm("vllm:prefix_cache_queries_total"),
            vllm_hits: vllm("vllm:prefix_cache_hits_total"),
        };
        let this = Self { accounts, scheduler, reported: KvUsage::default(), metrics };
        this.show(&this.accounts.usage());
        this
    }

    fn report(&mut self) {
        let usage = self.accounts.usage();
        if usage != self.reported {
            self.show(&usage);
            self.reported = usage;
        }
    }

    fn show(&self, usage: &KvUsage) {
        let (metrics, old) = (&self.metrics, &self.reported);
        metrics.free.set(usage.blocks.free as f64);
        metrics.active.set(usage.blocks.held as f64);
        metrics.cached.set(usage.blocks.cached as f64);
        metrics.vllm_usage.set(usage.blocks.held as f64 / usage.blocks.total.max(1) as f64);
        metrics.queries.increment(usage.queries - old.queries);
        metrics.hits.increment(usage.hits - old.hits);
        metrics.evictions.increment(usage.evicted_blocks - old.evicted_blocks);
        metrics.vllm_queries.increment(usage.queried_tokens - old.queried_tokens);
        metrics.vllm_hits.increment(usage.hit_tokens - old.hit_tokens);
    }
}

/// Leads dropped leases to the accounts.
pub(crate) struct ReleaseByMail(pub(crate) Mailbox<KvCache>);

impl LeaseSink for ReleaseByMail {
    fn release(&self, seq: SeqId, epoch: KvEpoch) {
        self.0.tell(Release { seq, epoch });
    }
}

impl Actor for KvCache {
    type Context = Context<Self>;
}

impl Handler<Mail<ReserveBlocks>> for KvCache {
    type Result = ();

    fn handle(&mut self, mail: Mail<ReserveBlocks>, _: &mut Context<Self>) {
        let (ReserveBlocks(reserve), _busy) = mail.open();
        self.scheduler.tell(BlocksGranted(self.accounts.reserve(&reserve)));
        self.report();
    }
}

impl Handler<Mail<Commit>> for KvCache {
    type Result = ();

    fn handle(&mut self, mail: Mail<Commit>, _: &mut Context<Self>) {
        let (Commit { epoch, rows }, _busy) = mail.open();
        self.accounts.commit(epoch, &rows);
    }
}

impl Handler<Mail<Release>> for KvCache {
    type Result = ();

    fn handle(&mut self, mail: Mail<Release>, _: &mut Context<Self>) {
        let (Release { seq, epoch }, _busy) = mail.open();
        self.accounts.release(seq, epoch);
        self.report();
    }
}

impl Handler<Mail<Invalidate>> for KvCache {
    type Result = ();

    fn handle(&mut self, mail: Mail<Invalidate>, _: &mut Context<Self>) {
        let (Invalidate(epoch), _busy) = mail.open();
        self.accounts.invalidate(epoch);
        self.report();
    }
}

impl Handler<Mail<ClearCached>> for KvCache {
    type Result = ();

    fn handle(&mut self, mail: Mail<ClearCached>, _: &mut Context<Self>) {
        let (ClearCached, _busy) = mail.open();
        let dropped = self.accounts.clear_cached();
        tracing::info!(dropped, "prefix index cleared");
        self.report();
    }
}

impl Handler<Mail<Snapshot>> for KvCache {
    type Result = ();

    fn handle(&mut self, mail: Mail<Snapshot>, _: &mut Context<Self>) {
        let (Snapshot { reply }, _busy) = mail.open();
        // Whoever asked may have given up waiting.
        let _ = reply.send(self.accounts.usage());
    }
}
