//! The contract between deciding and computing: one [`StepPlan`] goes to the engine per step, one [`StepOutput`] comes back.
//!
//! Rows refer to *the last token of the slot*, never to a token value, so that a plan can be built before the
//! previous output is known.

use crate::ids::{BlockId, ExpertId, ExpertSlot, KvEpoch, SeqId, SlotId, StateId, StepId};
use crate::sampling::{SampledToken, SamplingParams, TokenLogprobs};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Everything that one forward pass shall do.
#[derive(Debug, Clone, Default)]
pub struct StepPlan {
    /// Which step this is; [`StepOutput::step`] repeats it.
    pub step: StepId,
    /// The KV memory that the block ids of this plan belong to.
    pub epoch: KvEpoch,
    /// Sequences that enter the engine with this step: their full data, sent once.
    pub admit: Vec<NewSlot>,
    /// One row per sequence that computes something.
    pub rows: Vec<Row>,
    /// Slots to forget before anything else: finished, cancelled or preempted sequences.
    pub evict: Vec<SlotId>,
    /// Copies inside KV memory, executed before the forward.
    pub moves: Vec<BlockMove>,
    /// Copies of recurrent states, executed in order and before the forward. Empty for models without such layers.
    pub states: Vec<StateMove>,
    /// Changes of expert residency, executed before the forward. Empty for models without streamed experts.
    pub experts: ExpertOrders,
}

/// A sequence as it enters the engine.
#[derive(Debug, Clone)]
pub struct NewSlot {
    /// Where it will live.
    pub slot: SlotId,
    /// Which sequence it is.
    pub seq: SeqId,
    /// All tokens known so far: the prompt, and after a preemption also what was generated.
    pub tokens: Arc<[u32]>,
    /// How many of `tokens` are the client's prompt.
    pub prompt_tokens: usize,
    /// How many leading tokens already stand in `blocks`, taken from the prefix index.
    pub cached_tokens: usize,
    /// The block table up to and including the row of this step.
    pub blocks: Vec<BlockId>,
    /// Where its recurrent states stand; `None` for models without such layers.
    pub state: Option<SlotState>,
    /// How to choose tokens.
    pub params: Arc<SamplingParams>,
    /// Key of the counter-based random generator, the same in any batch.
    pub seed: u64,
    /// Which of the `n` choices of its request this is; part of the generator's key.
    pub choice: u32,
}

/// One sequence's share of a step.
#[derive(Debug, Clone)]
pub struct Row {
    /// The sequence's place.
    pub slot: SlotId,
    /// The sequence, for the output.
    pub seq: SeqId,
    /// What to compute.
    pub work: RowWork,
    /// Blocks that this step adds to the slot's table (those of a slot admitted in this plan come with [`NewSlot`]).
    pub new_blocks: Vec<BlockId>,
}

/// What a row computes. Only the kinds that end at the newest token can be sampled: a chunk in the middle of a
/// prompt has no place to ask for a sample.
#[derive(Debug, Clone)]
pub enum RowWork {
    /// A part of the prompt that is not its end: token positions of the slot.
    Chunk {
        /// Positions to compute.
        span: Range<usize>,
    },
    /// The end of the prompt: computes `span` and samples the first token, once for the slot and once for each fork.
    LastChunk {
        /// Positions to compute.
        span: Range<usize>,
        /// Further choices of the same request, which share this prefill.
        forks: Vec<NewSlot>,
    },
    /// Computes the slot's last token and samples the next.
    Decode,
    /// Computes the slot's last token and `draft`, samples after each, keeps what the samples agree with.
    Verify {
        /// Proposed tokens, at least one.
        draft: Arc<[u32]>,
    },
}

/// A copy inside KV memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockMove {
    /// The block to read.
    pub from: BlockId,
    /// The block to overwrite.
    pub to: BlockId,
}

/// A copy of the recurrent states of all layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateMove {
    /// The place to read.
    pub from: StateId,
    /// The place to overwrite.
    pub to: StateId,
}

/// Where the recurrent states of a sequence stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotState {
    /// Its own place. What stands there does not count before the first token.
    pub place: StateId,
    /// Snapshots to take while its prompt is computed, ascending.
    pub saves: Vec<StateSave>,
}

/// A snapshot to take in the middle of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateSave {
    /// How many tokens of the sequence it stands behind.
    pub tokens: usize,
    /// Where it goes.
    pub to: StateId,
}

/// Changes of expert residency that a step starts with.
#[derive(Debug, Clone, Default)]
pub struct ExpertOrders {
    /// Experts whose slot is filled and may be used from this step on: layer, expert, slot.
    pub flip: Vec<(u32, ExpertId, ExpertSlot)>,
    /// Slots that no row may use any more, so that a loader can fill them.
    pub retire: Vec<ExpertSlot>,
}

/// What a step computed.
#[derive(Debug, Clone, Default)]
pub struct StepOutput {
    /// The plan's step.
    pub step: StepId,
    /// One entry per row of the plan and one per fork, in that order.
    pub rows: Vec<RowOutput>,
    /// Where the time went.
    pub timing: StepTiming,
}

/// What one row computed.
#[derive(Debug, Clone)]
pub struct RowOutput {
    /// The sequence's place.
    pub slot: SlotId,
    /// The sequence.
    pub seq: SeqId,
    /// The result of this row alone; other rows do not depend on it.
    pub result: Result<RowTokens, RowFault>,
}

/// The tokens of one row.
#[derive(Debug, Clone, Default)]
pub struct RowTokens {
    /// New tokens in order: none for a chunk, one for a decode, up to `k + 1` for a verify row. The last one may be a
    /// stop token ([`SampledToken::stop`]); none follows it.
    pub tokens: Vec<SampledToken>,
    /// For prompts that asked for it: log probabilities of the tokens at positions `span.start + 1 ..= span.end` of the
    /// chunk (as far as the prompt goes).
    pub prompt_logprobs: Vec<TokenLogprobs>,
    /// For a verify row: how many draft tokens stood.
    pub accepted: usize,
}

/// Why one row has no result though the step went through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowFault {
    /// A logit was NaN or all were minus infinity.
    #[error("the model gave no finite logits at position {position}")]
    NotFinite {
        /// Position of the token whose logits these were.
        position: usize,
    },
    /// The plan named a slot that the engine does not hold: accounting has drifted.
    #[error("the engine does not hold this sequence")]
    UnknownSlot,
}

/// Where the time of a step went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepTiming {
    /// The forward pass, logits included.
    pub forward: Duration,
    /// Logits processors and sampling.
    pub sample: Duration,
    /// The whole step as the engine saw it, slot bookkeeping included.
    pub total: Duration,
}

impl RowWork {
    /// How many tokens this row feeds to the forward pass.
    pub fn tokens(&self) -> usize {
        match self {
            Self::Chunk { span } | Self::LastChunk { span, .. } => span.len(),
            Self::Decode => 1,
            Self::Verify { draft } => 1 + draft.len(),
        }
    }

    /// Whether the row belongs to a prompt (prefill) rather than to generation.
    pub fn is_prefill(&self) -> bool {
        match self {
            Self::Chunk { .. } | Self::LastChunk { .. } => true,
            Self::Decode | Self::Verify { .. } => false,
        }
    }
}

impl StepPlan {
    /// Tokens that the forward pass computes.
    pub fn num_tokens(&self) -> usize {
        self.rows.iter().map(|row| row.work.tokens()).sum()
    }

    /// Prompt tokens among them.
    pub fn num_prefill_tokens(&self) -> usize {
        self.rows.iter().filter(|row| row.work.is_prefill()).map(|row| row.work.tokens()).sum()
    }
}
