//! Scheduler, block accounts and runner in one thread: the same decisions and the same forward pass as when serving,
//! without actors. Used where answers are wanted and latency is not: parity checks and property tests.

use crate::ids::{KvEpoch, SeqId};
use crate::kv::{KvAccounts, KvUsage, LeaseSink, SeqLease};
use crate::plan::StepPlan;
use crate::runner::{ForwardError, SlotRunner};
use crate::scheduler::{CancelTarget, Delivery, Planned, Scheduler};
use crate::sequence::NewRequest;
use std::sync::{Arc, mpsc};
use std::time::Instant;

/// Dropped leases on their way to the accounts.
struct Releases(mpsc::Sender<(SeqId, KvEpoch)>);

impl LeaseSink for Releases {
    fn release(&self, seq: SeqId, epoch: KvEpoch) {
        // The receiver lives as long as the engine; after it nobody counts blocks any more.
        let _ = self.0.send((seq, epoch));
    }
}

/// A whole engine in one thread.
pub struct LocalEngine {
    scheduler: Scheduler,
    accounts: KvAccounts,
    runner: SlotRunner,
    releases: mpsc::Receiver<(SeqId, KvEpoch)>,
    failures: Vec<ForwardError>,
}

impl LocalEngine {
    /// Joins the parts; `scheduler` is made by the given function so that its leases come back here.
    pub fn new(
        scheduler: impl FnOnce(Arc<dyn LeaseSink>) -> Scheduler,
        accounts: KvAccounts,
        runner: SlotRunner,
    ) -> Self {
        let (sender, releases) = mpsc::channel();
        Self { scheduler: scheduler(Arc::new(Releases(sender))), accounts, runner, releases, failures: Vec::new() }
    }

    /// Takes a request; see [`Scheduler::submit`].
    pub fn submit(&mut self, request: NewRequest, now: Instant) -> Vec<Delivery> {
        self.scheduler.submit(request, None, now)
    }

    /// Cancels sequences; see [`Scheduler::cancel`].
    pub fn cancel(&mut self, target: CancelTarget) -> Vec<Delivery> {
        self.scheduler.cancel(target)
    }

    /// The scheduler, for what this driver does not wrap.
    pub fn scheduler_mut(&mut self) -> &mut Scheduler {
        &mut self.scheduler
    }

    /// Use of KV memory, with everything dropped so far given back.
    pub fn usage(&mut self) -> KvUsage {
        self.take_releases();
        self.accounts.usage()
    }

    /// Forward passes that failed, in order.
    pub fn take_failures(&mut self) -> Vec<ForwardError> {
        std::mem::take(&mut self.failures)
    }

    /// Plans and computes one step. `None` when there is nothing to do.
    pub fn step(&mut self) -> Option<Vec<Delivery>> {
        let mut deltas = Vec::new();
        let mut planned = self.scheduler.plan();
        loop {
            match planned {
                Planned::Nothing => return (!deltas.is_empty()).then_some(deltas),
                Planned::Reserve(reserve) => {
                    self.take_releases();
                    let granted = self.accounts.reserve(&reserve);
                    let (next, ended) = self.scheduler.granted(granted);
                    deltas.extend(ended);
                    planned = next;
                }
                Planned::Step(plan) => {
                    deltas.extend(self.compute(&plan));
                    return Some(deltas);
                }
            }
        }
    }

    fn compute(&mut self, plan: &StepPlan) -> Vec<Delivery> {
        match self.runner.step(plan) {
            Ok(output) => {
                let settled = self.scheduler.settle(output);
                let epoch = self.accounts.epoch();
                self.accounts.commit(epoch, &settled.finished);
                drop::<Vec<SeqLease>>(settled.leases);
                self.accounts.commit(epoch, &settled.running);
                settled.deltas
            }
            Err(error) => {
                self.failures.push(error);
                self.scheduler.step_failed(plan.step)
            }
        }
    }

    /// Replaces the runner after a fault, with empty KV memory.
    pub fn replace_runner(&mut self, runner: SlotRunner) -> Vec<Delivery> {
        let epoch = KvEpoch(self.scheduler.epoch().0 + 1);
        let deltas = self.scheduler.engine_lost(epoch);
        self.take_releases();
        self.accounts.invalidate(epoch);
        self.runner = runner;
        self.scheduler.engine_up();
        deltas
    }

    fn take_releases(&mut self) {
        for (seq, epoch) in self.releases.try_iter() {
            self.accounts.release(seq, epoch);
        }
    }
}
