//! Which sequences compute what in the next step.
//!
//! The scheduler decides and accounts; it computes nothing and waits for nothing. Its caller drives it:
//! [`Scheduler::plan`] asks for blocks or gives a plan, [`Scheduler::granted`] turns an answer into a plan,
//! [`Scheduler::settle`] applies what the engine computed.

mod admission;
mod policy;
mod settle;
mod step_cost;

pub use admission::{Admission, Permit, QueueFull};
use settle::Fed;
pub use settle::Settled;

use crate::config::SchedulerConfig;
use crate::ids::{KvEpoch, RequestId, SeqId, SlotId, StepId, WorkerId};
use crate::kv::{BlockSpans, LeaseSink, Reserve};
use crate::plan::{BlockMove, NewSlot, StateMove, StepPlan};
use crate::sequence::{Finish, NewRequest, SeqDelta, Sequence, SequenceError, State};
use policy::Intent;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;
use step_cost::StepCost;

/// What the scheduler must know of the model and its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Positions of each KV block of a sequence.
    pub spans: BlockSpans,
    /// Blocks of KV memory.
    pub num_blocks: usize,
    /// Places of recurrent states; 0 for models without such layers.
    pub num_states: usize,
    /// Most tokens of a sequence, prompt and answer together.
    pub context_tokens: usize,
}

impl Limits {
    /// Most tokens of a sequence that both the model and its KV memory can hold.
    pub fn sequence_tokens(&self) -> usize {
        self.context_tokens.min(self.spans.start(self.num_blocks))
    }
}

/// What to do next.
#[derive(Debug)]
pub enum Planned {
    /// Nothing: wait for a request, a grant, an output or the engine.
    Nothing,
    /// Ask for these blocks, then call [`Scheduler::granted`].
    Reserve(Reserve),
    /// Compute this, then call [`Scheduler::settle`] or [`Scheduler::step_failed`].
    Step(StepPlan),
}

/// What to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelTarget {
    /// All choices of a request.
    Request(RequestId),
    /// One choice: its text is complete.
    Sequence(SeqId),
}

/// Sequences by state, for gauges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SequenceCounts {
    /// In the queue, siblings that wait for a shared prefill included.
    pub waiting: usize,
    /// In the engine with prompt tokens to compute.
    pub prefill: usize,
    /// In the engine, generating.
    pub decode: usize,
    /// Of those in the engine: held back until their reader catches up.
    pub paused: usize,
    /// How often a sequence was pushed back to the queue, ever.
    pub preemptions: u64,
}

/// A delta and the worker that delivers it.
pub type Delivery = (WorkerId, SeqDelta);

enum Phase {
    /// No step is under way.
    Idle,
    /// Blocks were asked for, when the count of changes stood at `changes`.
    Reserving { step: StepId, intents: Vec<Intent>, changes: u64 },
    /// The engine computes: the sequences of the plan's rows (forks included) and what was fed.
    Computing { step: StepId, fed: Vec<(SeqId, Fed)>, prefill_tokens: usize },
    /// The engine is being rebuilt.
    Down,
}

/// Decides which sequences compute what in the next step.
pub struct Scheduler {
    config: SchedulerConfig,
    limits: Limits,
    sink: Arc<dyn LeaseSink>,
    sequences: HashMap<SeqId, Sequence>,
    requests: HashMap<RequestId, RequestState>,
    /// The queue in the order of service.
    waiting: BTreeSet<(Instant, SeqId)>,
    /// Sequences in the engine, in the order of service.
    running: BTreeSet<(Instant, SeqId)>,
    free_slots: Vec<SlotId>,
    phase: Phase,
    next_step: StepId,
    epoch: KvEpoch,
    /// For the next plan: slots to forget.
    evict: Vec<SlotId>,
    /// For the next plan: blocks of forks to copy.
    moves: Vec<BlockMove>,
    /// For the next plan: recurrent states to copy, those of forks apart until their prompt is computed.
    states: Vec<StateMove>,
    forked: Vec<StateMove>,
    /// For the next plan: sequences that entered without a row of their own.
    admit: Vec<NewSlot>,
    cost: StepCost,
    draining: bool,
    preemptions: u64,
    /// Counts entries, departures, preemptions and pauses: whether planning again can have another result.
    changes: u64,
    /// Arrivals of requests that have entered, until somebody asks.
    entered: Vec<Instant>,
}

struct RequestState {
    choices: Vec<SeqId>,
    /// The place in the queue; dropped when the request enters the engine.
    permit: Option<Permit>,
    /// Whether one of its choices has been in the engine.
    entered: bool,
}

impl Scheduler {
    /// An empty scheduler over the KV memory of `epoch`. Dropped leases are reported to `sink`.
    pub fn new(config: SchedulerConfig, limits: Limits, epoch: KvEpoch, sink: Arc<dyn LeaseSink>) -> Self {
        let slots = u32::try_from(config.max_sequences.get()).expect("a slot id is 32 bits wide");
        Self {
            cost: StepCost::new(config.decode_stall_budget(), limits.spans.smallest()),
            config,
            limits,
            sink,
            sequences: HashMap::new(),
            requests: HashMap::new(),
            waiting: BTreeSet::new(),
            running: BTreeSet::new(),
            free_slots: (0..slots).rev().map(SlotId).collect(),
            phase: Phase::Idle,
            // Steps of a scheduler that was lost are never mistaken for steps of this one.
            next_step: StepId(u64::from(epoch.0) << 40),
            epoch,
            evict: Vec::new(),
            moves: Vec::new(),
            states: Vec::new(),
            forked: Vec::new(),
            admit: Vec::new(),
            draining: false,
            preemptions: 0,
            changes: 0,
            entered: Vec::new(),
        }
    }

    /// Takes a request into the queue. Returns what to deliver at once: refusals while draining.
    ///
    /// `request` was checked before: it has a prompt, at least one choice, no more choices than there are slots, and
    /// fits [`Limits::sequence_tokens`].
    pub fn submit(&mut self, request: NewRequest, permit: Option<Permit>, now: Instant) -> Vec<Delivery> {
        if self.draining {
            let refused = |&seq| {
                let finish = Some(Finish::Failed(SequenceError::ShuttingDown));
                (request.worker, SeqDelta { finish, ..SeqDelta::empty(seq, request.id) })
            };
            return request.choices.iter().map(refused).collect();
        }
        debug_assert!(!request.prompt.is_empty() && request.prompt.len() < self.limits.sequence_tokens());
        let due = now + request.priority.delay();
        let room = self.limits.sequence_tokens() - request.prompt.len();
        for (choice, &id) in (0u32..).zip(&request.choices) {
            let sequence = Sequence {
                id,
                request: request.id,
                worker: request.worker,
                choice,
                tokens: request.prompt.to_vec(),
                prompt: request.prompt.clone(),
                turns: request.turns.clone(),
                prompt_tokens: request.prompt.len(),
                computed: 0,
                blocks: 0,
                cached_tokens: None,
                reported_logprobs: 0,
                params: request.params.clone(),
                seed: request.seed,
                max_tokens: request.max_tokens.min(room),
                due,
                arrived: now,
                deadline: request.deadline,
                paused: false,
                state: if choice == 0 { State::Waiting } else { State::Sibling },
            };
            if choice == 0 {
                self.waiting.insert(sequence.order());
            }
            self.sequences.insert(id, sequence);
        }
        self.requests.insert(request.id, RequestState { choices: request.choices, permit, entered: false });
        Vec::new()
    }

    /// Removes sequences at once, whatever they are doing; output that is on its way for them is discarded. Returns one
    /// delivery for each, for readers that did not cancel themselves.
    pub fn cancel(&mut self, target: CancelTarget) -> Vec<Delivery> {
        let ids = match target {
            CancelTarget::Request(request) => {
                self.requests.get(&request).map(|state| state.choices.clone()).unwrap_or_default()
            }
            CancelTarget::Sequence(seq) => vec![seq],
        };
        let removed = ids.into_iter().rev().filter_map(|seq| self.remove(seq));
        removed.map(|sequence| ended(&sequence, Finish::Cancelled)).collect()
    }

    /// Holds a sequence back (its blocks stay) or lets it go on.
    pub fn set_paused(&mut self, seq: SeqId, paused: bool) {
        if let Some(sequence) = self.sequences.get_mut(&seq) {
            sequence.paused = paused;
            self.changes += 1;
        }
    }

    /// Ends what has waited or lasted too long.
    pub fn expire(&mut self, now: Instant) -> Vec<Delivery> {
        let queue_timeout = self.config.queue_timeout();
        let late = |sequence: &Sequence| {
            if sequence.deadline.is_some_and(|deadline| now >= deadline) {
                return Some(SequenceError::Deadline);
            }
            let queued = matches!(sequence.state, State::Waiting) && !self.has_entered(sequence);
            let waited = now.saturating_duration_since(sequence.arrived);
            (queued && waited >= queue_timeout).then_some(SequenceError::QueueTimeout { waited })
        };
        let expired: Vec<(SeqId, SequenceError)> =
            self.sequences.values().filter_map(|sequence| Some((sequence.id, late(sequence)?))).collect();
        expired.into_iter().flat_map(|(seq, error)| self.fail_with_siblings(seq, &error)).collect()
    }

    /// A request that was preempted, or that has some of its choices in the engine, has had its place: it is not thrown
    /// out for waiting again.
    fn has_entered(&self, sequence: &Sequence) -> bool {
        self.requests.get(&sequence.request).is_some_and(|request| request.entered)
    }

    /// Refuses new requests from now on and ends those that have never run; the others go on.
    pub fn drain(&mut self) -> Vec<Delivery> {
        self.draining = true;
        let new = |seq: &SeqId| !self.has_entered(&self.sequences[seq]);
        let waiting: Vec<SeqId> = self.waiting.iter().map(|&(_, seq)| seq).filter(new).collect();
        waiting.into_iter().flat_map(|seq| self.fail_with_siblings(seq, &SequenceError::ShuttingDown)).collect()
    }

    /// Whether no sequence is left.
    pub fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// Whether the engine is being rebuilt.
    pub fn engine_is_down(&self) -> bool {
        matches!(self.phase, Phase::Down)
    }

    /// Sequences by state.
    pub fn counts(&self) -> SequenceCounts {
        let mut counts = SequenceCounts { preemptions: self.preemptions, ..SequenceCounts::default() };
        for sequence in self.sequences.values() {
            match sequence.state {
                State::Waiting | State::Sibling => counts.waiting += 1,
                State::Prefill { .. } => counts.prefill += 1,
                State::Decode { .. } => counts.decode += 1,
            }
            counts.paused += usize::from(sequence.paused);
        }
        counts
    }

    /// Arrival times of the requests that entered the engine since the last call.
    pub fn take_entered(&mut self) -> Vec<Instant> {
        std::mem::take(&mut self.entered)
    }

    /// The KV memory that plans are made for.
    pub fn epoch(&self) -> KvEpoch {
        self.epoch
    }

    /// Takes a sequence out of every list. Dropping what is returned gives its blocks back.
    fn remove(&mut self, seq: SeqId) -> Option<Sequence> {
        let sequence = self.sequences.remove(&seq)?;
        self.changes += 1;
        self.waiting.remove(&sequence.order());
        self.running.remove(&sequence.order());
        if let Some(slot) = sequence.slot() {
            self.leave_slot(slot, seq);
        }
        let mut orphans = Vec::new();
        if let Some(state) = self.requests.get_mut(&sequence.request) {
            state.choices.retain(|&choice| choice != seq);
            if state.choices.is_empty() {
                self.requests.remove(&sequence.request);
            } else if sequence.choice == 0 {
                orphans.clone_from(&state.choices);
            }
        }
        // Siblings that waited for this one's prefill go their own way.
        for sibling in orphans {
            self.enqueue_sibling(sibling);
        }
        Some(sequence)
    }

    fn leave_slot(&mut self, slot: SlotId, seq: SeqId) {
        self.admit.retain(|new| new.seq != seq);
        self.evict.push(slot);
        self.free_slots.push(slot);
    }

    fn enqueue_sibling(&mut self, seq: SeqId) {
        if let Some(sequence) = self.sequences.get_mut(&seq).filter(|sequence| matches!(sequence.state, State::Sibling))
        {
            sequence.state = State::Waiting;
            self.waiting.insert(sequence.order());
            self.changes += 1;
        }
    }

    /// Pushes a running sequence back to the queue, where its age puts it in front. Its full blocks stay in the prefix
    /// index, so that computing them again is cheap.
    fn preempt(&mut self, seq: SeqId) {
        let Some(sequence) = self.sequences.get_mut(&seq) else { return };
        let Some(slot) = sequence.slot() else { return };
        sequence.state = State::Waiting;
        sequence.computed = 0;
        sequence.blocks = 0;
        let order = sequence.order();
        self.running.remove(&order);
        self.waiting.insert(order);
        self.preemptions += 1;
        self.changes += 1;
        self.leave_slot(slot, seq);
    }

    /// Ends a sequence with an error, and those that wait for its prefill with it.
    fn fail_with_siblings(&mut self, seq: SeqId, error: &SequenceError) -> Vec<Delivery> {
        let Some(sequence) = self.sequences.get(&seq) else { return Vec::new() };
        let mut ids = vec![seq];
        if let Some(state) = self.requests.get(&sequence.request).filter(|_| sequence.choice == 0) {
            let sibling = |id: &&SeqId| matches!(self.sequences.get(id).map(|s| &s.state), Some(State::Sibling));
            ids.extend(state.choices.iter().filter(sibling));
        }
        // Siblings first: removing the first choice would send them to the queue.
        ids.into_iter()
            .rev()
            .filter_map(|id| self.remove(id))
            .map(|gone| ended(&gone, Finish::Failed(error.clone())))
            .collect()
    }
}

fn ended(sequence: &Sequence, finish: Finish) -> Delivery {
    (sequence.worker, SeqDelta { finish: Some(finish), ..SeqDelta::empty(sequence.id, sequence.request) })
}

#[cfg(test)]
mod tests;
