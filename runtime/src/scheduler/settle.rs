//! What a step changed: tokens to deliver, blocks to name, sequences that ended, faults.

use super::{Delivery, Phase, Scheduler};
use crate::ids::{KvEpoch, SeqId, StepId};
use crate::kv::{CommitRow, SeqLease};
use crate::plan::{RowTokens, StepOutput};
use crate::sequence::{Finish, SeqDelta, Sequence, SequenceError, State};

/// What a plan row did for its sequence.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fed {
    /// Computed this many prompt tokens.
    Prompt(usize),
    /// Joined at the end of the shared prompt.
    Fork,
    /// Computed the last token, and draft tokens if there were any.
    Answer,
}

/// The result of a step, to be passed on in this order: `finished` to the block accounts, then drop `leases`, then plan
/// the next step, then deliver `deltas`, and last commit `running`.
#[derive(Debug, Default)]
pub struct Settled {
    /// Computed tokens of sequences that ended with this step.
    pub finished: Vec<CommitRow>,
    /// Their blocks.
    pub leases: Vec<SeqLease>,
    /// What to deliver.
    pub deltas: Vec<Delivery>,
    /// Computed tokens of sequences that go on.
    pub running: Vec<CommitRow>,
}

impl Scheduler {
    /// Applies the output of the step under way. Output of another step, or for sequences that have left, is ignored.
    pub fn settle(&mut self, output: StepOutput) -> Settled {
        let mut settled = Settled::default();
        let Phase::Computing { step, .. } = &self.phase else { return settled };
        if *step != output.step {
            return settled;
        }
        let Phase::Computing { step, fed, prefill_tokens } = std::mem::replace(&mut self.phase, Phase::Idle) else {
            unreachable!("the phase was matched above");
        };
        self.cost.observe(prefill_tokens, output.timing.total);
        debug_assert!(fed.is_empty() || fed.len() == output.rows.len(), "one output per row and fork");
        for ((seq, fed), row) in fed.into_iter().zip(output.rows) {
            debug_assert_eq!(seq, row.seq, "outputs come in the order of the plan");
            match row.result {
                Ok(tokens) => self.settle_row(seq, fed, tokens, &mut settled),
                Err(fault) => {
                    tracing::error!(%seq, %step, %fault, "a row failed");
                    settled.deltas.extend(self.fail_with_siblings(seq, &SequenceError::EngineFault { step }));
                }
            }
        }
        settled
    }

    /// The step gave no output, but the engine lives: its sequences fail.
    pub fn step_failed(&mut self, step: StepId) -> Vec<Delivery> {
        let Phase::Computing { step: current, .. } = &self.phase else { return Vec::new() };
        if *current != step {
            return Vec::new();
        }
        let Phase::Computing { fed, .. } = std::mem::replace(&mut self.phase, Phase::Idle) else {
            unreachable!("the phase was matched above");
        };
        let error = SequenceError::EngineFault { step };
        fed.into_iter().flat_map(|(seq, _)| self.fail_with_siblings(seq, &error)).collect()
    }

    /// The engine is gone and its KV memory with it: the sequences of its step fail, all others queue again. Nothing is
    /// planned until [`engine_up`](Self::engine_up). `epoch` is that of the memory to come.
    pub fn engine_lost(&mut self, epoch: KvEpoch) -> Vec<Delivery> {
        let mut deltas = Vec::new();
        if let Phase::Computing { step, .. } = self.phase {
            deltas = self.step_failed(step);
        }
        self.forget_memory(epoch);
        // The new engine has empty slots.
        self.evict.clear();
        self.phase = Phase::Down;
        deltas
    }

    /// The engine is there again.
    pub fn engine_up(&mut self) {
        if matches!(self.phase, Phase::Down) {
            self.phase = Phase::Idle;
        }
    }

    /// The block accounts are gone: every running sequence queues again, and output that is on its way is discarded (the
    /// same tokens will be drawn again). `epoch` is that of the new accounts; news of older ones came too late.
    pub fn kv_lost(&mut self, epoch: KvEpoch) {
        if epoch <= self.epoch {
            return;
        }
        match &mut self.phase {
            Phase::Computing { fed, .. } => fed.clear(),
            Phase::Reserving { .. } => self.phase = Phase::Idle,
            Phase::Idle | Phase::Down => {}
        }
        self.forget_memory(epoch);
    }

    fn forget_memory(&mut self, epoch: KvEpoch) {
        let running: Vec<SeqId> = self.running.iter().map(|&(_, seq)| seq).collect();
        for seq in running {
            self.preempt(seq);
        }
        self.admit.clear();
        self.moves.clear();
        self.states.clear();
        self.forked.clear();
        self.epoch = epoch;
        // An answer may be on its way to what was asked before: it must not be taken for one to the same step.
        self.next_step.0 += 1;
    }

    fn settle_row(&mut self, seq: SeqId, fed: Fed, mut row: RowTokens, settled: &mut Settled) {
        let Some(sequence) = self.sequences.get_mut(&seq) else { return };
        let before = sequence.computed;
        sequence.computed = match fed {
            Fed::Prompt(tokens) => before + tokens,
            Fed::Fork => sequence.tokens.len(),
            // The last token and the draft tokens that stood: as many as were sampled.
            Fed::Answer => before + row.tokens.len(),
        };
        row.tokens.truncate(sequence.max_tokens - sequence.generated());
        let first = !row.tokens.is_empty() && sequence.generated() == 0;
        sequence.tokens.extend(row.tokens.iter().map(|token| token.id));
        let commit = CommitRow { seq, tokens: sequence.tokens[before..sequence.computed].to_vec() };

        let finish = if row.tokens.last().is_some_and(|token| token.stop) {
            Some(Finish::Stop)
        } else {
            (sequence.generated() >= sequence.max_tokens).then_some(Finish::Length)
        };
        if !row.tokens.is_empty() {
            sequence.start_decoding();
        }
        let delta = SeqDelta {
            prefill: row.tokens.is_empty().then_some((sequence.computed, sequence.tokens.len())),
            cached_tokens: sequence.cached_tokens.filter(|_| first),
            prompt_logprobs: sequence.unreported(before, row.prompt_logprobs),
            tokens: row.tokens,
            finish: finish.clone(),
            ..SeqDelta::empty(seq, sequence.request)
        };
        settled.deltas.push((sequence.worker, delta));
        if finish.is_none() {
            settled.running.push(commit);
            return;
        }
        settled.finished.push(commit);
        if let Some(Sequence { state: State::Prefill { lease, .. } | State::Decode { lease, .. }, .. }) =
            self.remove(seq)
        {
            settled.leases.push(lease);
        }
    }
}
