//! Choosing rows: decodes first, prompt chunks with what is left, admissions last (stall-free batching).
//!
//! Source: Agrawal et al., "Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve", 2024.

use super::settle::Fed;
use super::{Delivery, Phase, Planned, Scheduler, ended};
use crate::ids::{BlockId, SeqId, SlotId};
use crate::kv::{Grant, Granted, Reserve, ReserveRow, SeqLease};
use crate::plan::{ExpertOrders, NewSlot, Row, RowWork, SlotState, StateMove, StepPlan};
use crate::sequence::{Finish, Sequence, State};
use std::collections::HashMap;

/// Prompts that are computed at once at most: more would fragment the ragged batch.
const MAX_PREFILL_ROWS: usize = 4;

/// What a sequence is meant to do in the step that is being planned.
#[derive(Debug, Clone, Copy)]
pub(super) enum Intent {
    Decode(SeqId),
    /// Compute up to `budget` further prompt tokens.
    Chunk {
        seq: SeqId,
        budget: usize,
    },
    /// Enter, then compute up to `budget` prompt tokens.
    Admit {
        seq: SeqId,
        budget: usize,
    },
    /// Enter with the prompt that `parent` completes in this step.
    Fork {
        seq: SeqId,
        parent: SeqId,
    },
}

impl Scheduler {
    /// Chooses the rows of the next step, if none is under way.
    pub fn plan(&mut self) -> Planned {
        if !matches!(self.phase, Phase::Idle) {
            return Planned::Nothing;
        }
        let intents = self.choose();
        if intents.is_empty() {
            return Planned::Nothing;
        }
        let rows: Vec<ReserveRow> = intents.iter().filter_map(|intent| self.need(intent)).collect();
        let step = self.next_step;
        if rows.is_empty() {
            return self.assemble(&intents, &mut HashMap::new()).map_or(Planned::Nothing, Planned::Step);
        }
        self.phase = Phase::Reserving { step, intents, changes: self.changes };
        // One block for each running sequence, so that an admission does not preempt it at the next block border.
        Planned::Reserve(Reserve { step, epoch: self.epoch, rows, headroom: self.running.len() })
    }

    /// Turns granted blocks into a plan, or asks again: sequences were preempted to make room, or have left meanwhile.
    /// Also returns what ended for want of room.
    pub fn granted(&mut self, granted: Granted) -> (Planned, Vec<Delivery>) {
        let awaited = matches!(self.phase, Phase::Reserving { step, .. } if step == granted.step);
        if !awaited || granted.epoch != self.epoch {
            if granted.epoch == self.epoch {
                granted.rows.iter().for_each(|grant| self.give_back(grant));
            }
            return (Planned::Nothing, Vec::new());
        }
        let Phase::Reserving { intents, changes, .. } = std::mem::replace(&mut self.phase, Phase::Idle) else {
            unreachable!("the phase was matched above");
        };
        let mut without_room = Vec::new();
        let mut grants = HashMap::with_capacity(granted.rows.len());
        let mut short = Vec::new();
        for grant in granted.rows {
            match grant {
                Grant::Denied { seq } => short.push(seq),
                Grant::Admitted { seq, .. } | Grant::Extended { seq, .. } | Grant::Forked { seq, .. } => {
                    grants.insert(seq, grant);
                }
            }
        }
        // What left while the answer was on its way has left blocks behind: nobody is short before asking again.
        if self.changes != changes {
            short.clear();
        }
        // Only the head of the queue can be short by itself; the others were denied so as not to overtake it.
        let mut head_is_short = self.running.is_empty() && grants.is_empty();
        for seq in short {
            let queued = self.sequences.get(&seq).is_some_and(|sequence| matches!(sequence.state, State::Waiting));
            if !queued || std::mem::take(&mut head_is_short) {
                without_room.extend(self.make_room(seq));
            }
        }
        let plan = self.assemble(&intents, &mut grants);
        // Grants that no row took: their sequences left while the answer was on its way.
        for grant in grants.values() {
            self.give_back(grant);
        }
        let next = match plan {
            Some(plan) => Planned::Step(plan),
            None if self.changes != changes => self.plan(),
            None => Planned::Nothing,
        };
        (next, without_room)
    }

    fn choose(&self) -> Vec<Intent> {
        let mut intents = Vec::new();
        let mut prefills = Vec::new();
        for (_, seq) in &self.running {
            let sequence = &self.sequences[seq];
            match sequence.state {
                _ if sequence.paused => {}
                State::Decode { .. } => intents.push(Intent::Decode(*seq)),
                State::Prefill { .. } => prefills.push(sequence),
                State::Waiting | State::Sibling => {}
            }
        }
        let mut budget = self.config.max_batched_tokens.get().saturating_sub(intents.len());
        if !intents.is_empty() {
            budget = budget.min(self.cost.prefill_cap());
        }
        let mut rows = 0;
        for sequence in prefills {
            if rows == MAX_PREFILL_ROWS || budget == 0 {
                return intents;
            }
            let left = sequence.tokens.len() - sequence.computed;
            let share = self.share(left, budget);
            if share == 0 {
                return intents;
            }
            intents.push(Intent::Chunk { seq: sequence.id, budget: share });
            if share == left {
                self.intend_forks(sequence, &mut intents);
            }
            budget -= share;
            rows += 1;
        }
        self.choose_admissions(budget, rows, &mut intents);
        intents
    }

    fn choose_admissions(&self, mut budget: usize, mut rows: usize, intents: &mut Vec<Intent>) {
        let mut places = self.free_slots.len().saturating_sub(self.siblings_in_wait());
        for (_, seq) in &self.waiting {
            let sequence = &self.sequences[seq];
            // Preempted while its reader was behind: others need the place more.
            if sequence.paused {
                continue;
            }
            let siblings = self.siblings(sequence).count();
            if rows == MAX_PREFILL_ROWS || budget == 0 || places < 1 + siblings {
                return;
            }
            let left = sequence.tokens.len();
            let share = self.share(left, budget);
            if share == 0 {
                return;
            }
            intents.push(Intent::Admit { seq: *seq, budget: share });
            // If the whole prompt fits into this step it does so whatever the prefix index holds.
            if share == left {
                self.intend_forks(sequence, intents);
            }
            places -= 1 + siblings;
            budget -= share;
            rows += 1;
        }
    }

    /// Prompt tokens of one sequence in this step: a whole chunk, or the end of the prompt, or what the budget has room
    /// for in whole blocks.
    fn share(&self, left: usize, budget: usize) -> usize {
        let most = left.min(self.config.prefill_chunk.get());
        if most <= budget { most } else { budget - budget % self.limits.spans.smallest() }
    }

    fn intend_forks(&self, parent: &Sequence, intents: &mut Vec<Intent>) {
        intents.extend(self.siblings(parent).map(|seq| Intent::Fork { seq, parent: parent.id }));
    }

    /// Sequences that wait for the prefill of `parent`.
    fn siblings<'a>(&'a self, parent: &'a Sequence) -> impl Iterator<Item = SeqId> + 'a {
        let choices = if parent.choice == 0 { &self.requests[&parent.request].choices[..] } else { &[] };
        choices.iter().copied().filter(|id| matches!(self.sequences[id].state, State::Sibling))
    }

    /// Slots that are spoken for: siblings of sequences in prefill enter when it ends.
    fn siblings_in_wait(&self) -> usize {
        let prefills = self.running.iter().map(|(_, seq)| &self.sequences[seq]);
        let prefills = prefills.filter(|sequence| matches!(sequence.state, State::Prefill { .. }));
        prefills.map(|sequence| self.siblings(sequence).count()).sum()
    }

    fn need(&self, intent: &Intent) -> Option<ReserveRow> {
        match *intent {
            Intent::Chunk { .. } => None, // its blocks came with its admission
            Intent::Decode(seq) => {
                let sequence = &self.sequences[&seq];
                let tokens = sequence.tokens.len();
                let grows = tokens > self.limits.spans.start(sequence.blocks);
                grows.then_some(ReserveRow::Extend { seq, tokens })
            }
            Intent::Admit { seq, .. } => {
                let sequence = &self.sequences[&seq];
                let reuse = sequence.params.prompt_logprobs.is_none();
                let (tokens, turns) = (sequence.known_tokens(), sequence.turns.clone());
                Some(ReserveRow::Admit { seq, tokens, reuse, turns })
            }
            Intent::Fork { seq, parent } => {
                let tokens = self.sequences[&parent].tokens.len();
                Some(ReserveRow::Fork { seq, parent, tokens })
            }
        }
    }

    /// Builds the plan from what was granted; grants that are used leave `grants`.
    fn assemble(&mut self, intents: &[Intent], grants: &mut HashMap<SeqId, Grant>) -> Option<StepPlan> {
        let mut rows = Vec::with_capacity(intents.len());
        let mut admit = std::mem::take(&mut self.admit);
        let moves = std::mem::take(&mut self.moves);
        self.states.append(&mut self.forked);
        for intent in intents {
            match *intent {
                Intent::Decode(seq) => rows.extend(self.decode_row(seq, grants)),
                Intent::Chunk { seq, budget } => rows.extend(self.chunk_row(seq, budget, grants)),
                Intent::Admit { seq, budget } => {
                    let Some(new) = self.enter(seq, grants) else { continue };
                    admit.push(new);
                    rows.extend(self.chunk_row(seq, budget, grants));
                }
                Intent::Fork { seq, parent } => self.fork_row(seq, parent, grants, &mut rows),
            }
        }
        if rows.is_empty() {
            // Nobody computes, but who entered has entered.
            self.admit = admit;
            self.moves.splice(0..0, moves);
            return None;
        }
        let plan = StepPlan {
            step: self.next_step,
            epoch: self.epoch,
            admit,
            rows,
            evict: std::mem::take(&mut self.evict),
            moves,
            states: std::mem::take(&mut self.states),
            experts: ExpertOrders::default(),
        };
        self.next_step.0 += 1;
        let mut fed = Vec::with_capacity(plan.rows.len());
        for row in &plan.rows {
            match &row.work {
                RowWork::Chunk { span } => fed.push((row.seq, Fed::Prompt(span.len()))),
                RowWork::LastChunk { span, forks } => {
                    fed.push((row.seq, Fed::Prompt(span.len())));
                    fed.extend(forks.iter().map(|fork| (fork.seq, Fed::Fork)));
                }
                RowWork::Decode | RowWork::Verify { .. } => fed.push((row.seq, Fed::Answer)),
            }
        }
        self.phase = Phase::Computing { step: plan.step, fed, prefill_tokens: plan.num_prefill_tokens() };
        Some(plan)
    }

    fn decode_row(&mut self, seq: SeqId, grants: &mut HashMap<SeqId, Grant>) -> Option<Row> {
        let sequence = self.sequences.get_mut(&seq)?;
        let State::Decode { slot, .. } = sequence.state else { return None };
        let mut new_blocks = Vec::new();
        if sequence.tokens.len() > self.limits.spans.start(sequence.blocks) {
            let Some(Grant::Extended { blocks, keep, .. }) = grants.remove(&seq) else { return None };
            sequence.blocks += blocks.len();
            self.states.extend(keep);
            new_blocks = blocks;
        }
        Some(Row { slot, seq, work: RowWork::Decode, new_blocks })
    }

    fn chunk_row(&mut self, seq: SeqId, budget: usize, grants: &HashMap<SeqId, Grant>) -> Option<Row> {
        let sequence = self.sequences.get(&seq)?;
        let State::Prefill { slot, .. } = sequence.state else { return None };
        let (start, end) = (sequence.computed, sequence.tokens.len());
        let mut span = start..end.min(start + budget);
        // The end of a shared prompt is computed once the siblings have blocks to receive it.
        if span.end == end && !self.siblings(sequence).all(|id| grants.contains_key(&id)) {
            span.end = (end - 1) / self.limits.spans.smallest() * self.limits.spans.smallest();
        }
        if span.end <= span.start {
            return None;
        }
        let work =
            if span.end == end { RowWork::LastChunk { span, forks: Vec::new() } } else { RowWork::Chunk { span } };
        Some(Row { slot, seq, work, new_blocks: Vec::new() })
    }

    /// Moves a waiting sequence into the engine with the blocks it was granted.
    fn enter(&mut self, seq: SeqId, grants: &mut HashMap<SeqId, Grant>) -> Option<NewSlot> {
        if !self.sequences.contains_key(&seq) {
            return None; // cancelled meanwhile: its grant is given back by the caller
        }
        let Some(Grant::Admitted { blocks, cached_tokens, state, restore, .. }) = grants.remove(&seq) else {
            return None;
        };
        self.states.extend(restore);
        let slot = self.free_slots.pop().expect("admissions are chosen within the free slots");
        let lease = self.lease(seq);
        let sequence = self.sequences.get_mut(&seq).expect("the sequence was found above");
        self.changes += 1;
        self.waiting.remove(&sequence.order());
        self.running.insert(sequence.order());
        sequence.computed = cached_tokens;
        sequence.cached_tokens.get_or_insert(cached_tokens.min(sequence.prompt_tokens));
        sequence.state = State::Prefill { slot, lease };
        if let Some(request) = self.requests.get_mut(&sequence.request) {
            request.entered = true;
            if request.permit.take().is_some() {
                self.entered.push(sequence.arrived);
            }
        }
        Some(new_slot(sequence, slot, cached_tokens, blocks, state))
    }

    /// Adds a further choice to the row that completes its prompt; without blocks for it, it queues on its own.
    fn fork_row(&mut self, seq: SeqId, parent: SeqId, grants: &mut HashMap<SeqId, Grant>, rows: &mut [Row]) {
        let row = rows.iter_mut().rev().find(|row| row.seq == parent);
        let Some(RowWork::LastChunk { forks, .. }) = row.map(|row| &mut row.work) else { return };
        if !self.sequences.get(&seq).is_some_and(|sequence| matches!(sequence.state, State::Sibling)) {
            return;
        }
        let Some(Grant::Forked { blocks, copy, state, .. }) = grants.remove(&seq) else {
            return; // queued on its own
        };
        let slot = self.free_slots.pop().expect("a request enters when all its choices have a slot");
        self.moves.extend(copy);
        let lease = self.lease(seq);
        let cached_tokens = self.sequences[&parent].cached_tokens;
        let sequence = self.sequences.get_mut(&seq).expect("the sequence was found above");
        self.running.insert(sequence.order());
        sequence.cached_tokens = cached_tokens;
        sequence.state = State::Prefill { slot, lease };
        let own = state.map(|StateMove { to, .. }| SlotState { place: to, saves: Vec::new() });
        forks.push(new_slot(sequence, slot, sequence.tokens.len(), blocks, own));
        self.forked.extend(state);
    }

    /// A sequence got no blocks: they are taken from the youngest one.
    fn make_room(&mut self, seq: SeqId) -> Option<Delivery> {
        let state = &self.sequences.get(&seq)?.state;
        match state {
            // It computes its prompt on its own, once there is room.
            State::Sibling => {
                self.enqueue_sibling(seq);
                None
            }
            State::Waiting | State::Prefill { .. } | State::Decode { .. } => {
                let youngest = self.running.iter().next_back().map(|&(_, youngest)| youngest);
                match youngest {
                    Some(youngest) if youngest != seq || self.running.len() > 1 => {
                        self.preempt(youngest);
                        None
                    }
                    // Alone with all of KV memory and still short: the context ends here.
                    _ => self.remove(seq).map(|gone| ended(&gone, Finish::Length)),
                }
            }
        }
    }

    /// Releases a grant whose sequence is gone. Blocks that extend a living sequence stay in its table.
    fn give_back(&self, grant: &Grant) {
        match grant {
            Grant::Admitted { seq, .. } | Grant::Forked { seq, .. } => drop(self.lease(*seq)),
            Grant::Extended { .. } | Grant::Denied { .. } => {}
        }
    }

    fn lease(&self, seq: SeqId) -> SeqLease {
        SeqLease::new(seq, self.epoch, self.sink.clone())
    }
}

fn new_slot(
    sequence: &mut Sequence,
    slot: SlotId,
    cached_tokens: usize,
    blocks: Vec<BlockId>,
    state: Option<SlotState>,
) -> NewSlot {
    sequence.blocks = blocks.len();
    NewSlot {
        slot,
        seq: sequence.id,
        tokens: sequence.known_tokens(),
        prompt_tokens: sequence.prompt_tokens,
        cached_tokens,
        blocks,
        state,
        params: sequence.params.clone(),
        seed: sequence.seed,
        choice: sequence.choice,
    }
}
