//! The engine actor: executes plans, one after the other.
//!
//! Accepts: [`RunStep`], [`Clear`]. Sends: `StepDone`, `StepFailed` and `EngineUp` to the scheduler. Owns: the executor
//! with its KV memory, the slots and their samplers. Runs on: an arbiter of its own, which its handler blocks on
//! purpose.

use crate::mailbox::{Letter, Mail, Mailbox};
use crate::scheduler::{EngineUp, SchedulerActor, StepDone, StepFailed};
use crate::supervise::{ChildId, Rebuilt, Supervisor};
use actix::{Actor, Addr, AsyncContext, Context, Handler};
use lmx_runtime::plan::StepPlan;
use lmx_runtime::runner::{ChatStep, Forward, ForwardError, SlotRunner};
use metrics::Histogram;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Builds an executor with empty KV memory over weights that are shared: a rebuilt engine reads nothing again.
pub type ForwardFactory = Arc<dyn Fn() -> Result<Box<dyn Forward>, ForwardError> + Send + Sync>;

/// Pause before another attempt to build an executor that could not be built.
const RETRY_BUILD: Duration = Duration::from_secs(1);

/// The scheduler orders a step; answered by `StepDone` or `StepFailed`.
#[derive(Debug)]
pub struct RunStep(pub StepPlan);

/// The supervisor reports that the scheduler lost its state: all slots are to be forgotten. No answer.
#[derive(Debug)]
pub struct Clear;

/// The engine tells itself to try again.
struct Build;

impl Letter for RunStep {
    const NAME: &'static str = "step_plan";
}

impl Letter for Clear {
    const NAME: &'static str = "clear";
}

impl actix::Message for Build {
    type Result = ();
}

/// Owns one model's executor.
pub struct Engine {
    factory: ForwardFactory,
    runner: Option<SlotRunner>,
    scheduler: Mailbox<SchedulerActor>,
    supervisor: Addr<Supervisor>,
    id: ChildId,
    metrics: EngineMetrics,
}

struct EngineMetrics {
    forward: Histogram,
    sample: Histogram,
    total: Histogram,
}

impl Engine {
    /// An engine that builds its executor as it starts.
    pub fn new(
        factory: ForwardFactory,
        scheduler: Mailbox<SchedulerActor>,
        supervisor: Addr<Supervisor>,
        id: ChildId,
    ) -> Self {
        let phase = |phase| metrics::histogram!("lmx_step_duration_seconds", "phase" => phase);
        let metrics = EngineMetrics { forward: phase("forward"), sample: phase("sample"), total: phase("total") };
        Self { factory, runner: None, scheduler, supervisor, id, metrics }
    }

    fn build(&mut self, ctx: &mut Context<Self>) {
        // A panic here leaves nothing behind: it is a build that failed.
        let built = catch_unwind(AssertUnwindSafe(|| (self.factory)()))
            .unwrap_or_else(|_| Err(ForwardError::Failed("building it panicked".into())));
        match built {
            Ok(forward) => {
                self.runner = Some(SlotRunner::new(forward));
                self.scheduler.tell(EngineUp);
            }
            Err(error) => {
                tracing::error!(%error, "the executor cannot be built, trying again");
                self.supervisor.do_send(Rebuilt { id: self.id });
                ctx.notify_later(Build, RETRY_BUILD);
            }
        }
    }
}

impl Actor for Engine {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.build(ctx);
    }
}

impl Handler<Build> for Engine {
    type Result = ();

    fn handle(&mut self, _: Build, ctx: &mut Context<Self>) {
        self.build(ctx);
    }
}

impl Handler<Mail<RunStep>> for Engine {
    type Result = ();

    fn handle(&mut self, mail: Mail<RunStep>, ctx: &mut Context<Self>) {
        let (RunStep(plan), _busy) = mail.open();
        let step = plan.step;
        let Some(runner) = &mut self.runner else {
            self.scheduler.tell(StepFailed { step, memory_lost: false });
            return;
        };
        // The one place that catches a panic of a step. What it leaves behind is never used again: runner and KV memory
        // are built anew, the weights are immutable.
        let under_way = ChatStep::begin();
        let outcome = catch_unwind(AssertUnwindSafe(|| runner.step(&plan)));
        drop(under_way);
        match outcome {
            Ok(Ok(output)) => {
                let timing = output.timing;
                self.scheduler.tell(StepDone(output));
                self.metrics.forward.record(timing.forward);
                self.metrics.sample.record(timing.sample);
                self.metrics.total.record(timing.total);
            }
            Ok(Err(error)) => {
                tracing::error!(%step, %error, "a step failed");
                self.scheduler.tell(StepFailed { step, memory_lost: false });
            }
            Err(_) => {
                tracing::error!(%step, "the engine panicked, it is built anew");
                self.scheduler.tell(StepFailed { step, memory_lost: true });
                self.supervisor.do_send(Rebuilt { id: self.id });
                self.runner = None;
                self.build(ctx);
            }
        }
    }
}

impl Handler<Mail<Clear>> for Engine {
    type Result = ();

    fn handle(&mut self, mail: Mail<Clear>, _: &mut Context<Self>) {
        let (Clear, _busy) = mail.open();
        if let Some(runner) = &mut self.runner {
            runner.clear();
        }
        self.scheduler.tell(EngineUp);
    }
}
