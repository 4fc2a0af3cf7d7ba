//! A sequence and its life: waiting, prefill, decode, preempted back to waiting, finished.

use crate::ids::{RequestId, SeqId, SlotId, StepId, WorkerId};
use crate::kv::SeqLease;
use crate::sampling::{SampledToken, SamplingParams, TokenLogprobs};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How urgent a request is. Waiting makes every request more urgent, so that none starves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Somebody watches the answer.
    Interactive,
    /// The usual case.
    #[default]
    Normal,
    /// Batch work that may wait.
    Background,
}

impl Priority {
    /// How much later than it came a request of this class is treated as having come.
    pub fn delay(self) -> Duration {
        match self {
            Self::Interactive => Duration::ZERO,
            Self::Normal => Duration::from_secs(5),
            Self::Background => Duration::from_secs(60),
        }
    }
}

/// A request as the scheduler receives it.
#[derive(Debug, Clone)]
pub struct NewRequest {
    /// Its id, unique in the process.
    pub id: RequestId,
    /// The HTTP worker that will deliver its text.
    pub worker: WorkerId,
    /// Token ids of the prompt, at least one.
    pub prompt: Arc<[u32]>,
    /// Where its turns end, in tokens, ascending: later prompts are likely to part from it there. May be empty.
    pub turns: Arc<[usize]>,
    /// One sequence per choice, at least one; all share the prompt.
    pub choices: Vec<SeqId>,
    /// How to choose tokens.
    pub params: Arc<SamplingParams>,
    /// Key of the random generator.
    pub seed: u64,
    /// Most tokens per choice, at least one.
    pub max_tokens: usize,
    /// How urgent it is.
    pub priority: Priority,
    /// When the whole request must have ended.
    pub deadline: Option<Instant>,
}

/// Where a sequence is in its life.
#[derive(Debug)]
pub(crate) enum State {
    /// In the queue: new, or preempted.
    Waiting,
    /// Waits for the first choice of its request to finish the shared prefill.
    Sibling,
    /// In the engine; prompt tokens are still to be computed.
    Prefill { slot: SlotId, lease: SeqLease },
    /// In the engine; every token but the last is computed.
    Decode { slot: SlotId, lease: SeqLease },
}

/// One token stream of a request.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) id: SeqId,
    pub(crate) request: RequestId,
    pub(crate) worker: WorkerId,
    pub(crate) choice: u32,
    /// Prompt and generated tokens.
    pub(crate) tokens: Vec<u32>,
    /// The prompt alone, as it came.
    pub(crate) prompt: Arc<[u32]>,
    /// Where its turns end.
    pub(crate) turns: Arc<[usize]>,
    pub(crate) prompt_tokens: usize,
    /// Leading tokens whose keys and values stand in KV memory.
    pub(crate) computed: usize,
    /// Length of its block table.
    pub(crate) blocks: usize,
    /// Prompt tokens that were found in the prefix index when the sequence first entered.
    pub(crate) cached_tokens: Option<usize>,
    /// Prompt log probabilities delivered so far; a preempted prefill computes them again.
    pub(crate) reported_logprobs: usize,
    pub(crate) params: Arc<SamplingParams>,
    pub(crate) seed: u64,
    pub(crate) max_tokens: usize,
    /// Arrival plus the delay of its class: the order of service.
    pub(crate) due: Instant,
    pub(crate) arrived: Instant,
    pub(crate) deadline: Option<Instant>,
    /// Not planned while its reader is too far behind.
    pub(crate) paused: bool,
    pub(crate) state: State,
}

impl Sequence {
    pub(crate) fn slot(&self) -> Option<SlotId> {
        match self.state {
            State::Waiting | State::Sibling => None,
            State::Prefill { slot, .. } | State::Decode { slot, .. } => Some(slot),
        }
    }

    pub(crate) fn generated(&self) -> usize {
        self.tokens.len() - self.prompt_tokens
    }

    /// All tokens so far, without a copy for the many that have generated nothing yet.
    pub(crate) fn known_tokens(&self) -> Arc<[u32]> {
        if self.generated() == 0 { self.prompt.clone() } else { self.tokens.as_slice().into() }
    }

    /// Turns a prefill whose prompt is computed into a decode.
    pub(crate) fn start_decoding(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Waiting) {
            State::Prefill { slot, lease } => State::Decode { slot, lease },
            other => other,
        };
    }

    /// Prompt log probabilities of a chunk that starts at position `start`, less those reported before a preemption.
    pub(crate) fn unreported(&mut self, start: usize, mut chunk: Vec<TokenLogprobs>) -> Vec<TokenLogprobs> {
        // The entry at index i of a chunk belongs to position start + 1 + i of the prompt.
        let known = self.reported_logprobs.saturating_sub(start).min(chunk.len());
        chunk.drain(..known);
        self.reported_logprobs += chunk.len();
        chunk
    }

    /// The order of service: who was due first, ties by arrival in the process.
    pub(crate) fn order(&self) -> (Instant, SeqId) {
        (self.due, self.id)
    }
}

/// Why a sequence ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// The model chose a stop token.
    Stop,
    /// `max_tokens` or the context is used up.
    Length,
    /// It was cancelled: nobody waits for it any more.
    Cancelled,
    /// It failed.
    Failed(SequenceError),
}

/// Why a sequence failed, each a thing that somebody must do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// It waited too long for a place.
    #[error("no place became free within {waited:?}")]
    QueueTimeout {
        /// How long it waited.
        waited: Duration,
    },
    /// Its deadline passed.
    #[error("the request did not end within its time limit")]
    Deadline,
    /// The engine failed in the step that computed it.
    #[error("the engine failed while computing this request (step {step})")]
    EngineFault {
        /// That step.
        step: StepId,
    },
    /// The scheduler lost its state.
    #[error("the scheduler failed and lost this request")]
    SchedulerFault,
    /// The server stops.
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// What one step brought for one sequence.
#[derive(Debug, Clone)]
pub struct SeqDelta {
    /// The sequence.
    pub seq: SeqId,
    /// Its request.
    pub request: RequestId,
    /// New tokens; the last one may be a stop token.
    pub tokens: Vec<SampledToken>,
    /// Prompt tokens computed so far, of how many, while they are not all computed.
    pub prefill: Option<(usize, usize)>,
    /// With the first tokens: prompt tokens that were found in the prefix index.
    pub cached_tokens: Option<usize>,
    /// Log probabilities of prompt tokens, where asked for.
    pub prompt_logprobs: Vec<TokenLogprobs>,
    /// Present when the sequence has ended.
    pub finish: Option<Finish>,
}

impl SeqDelta {
    /// A delta that says nothing yet.
    pub fn empty(seq: SeqId, request: RequestId) -> Self {
        Self {
            seq,
            request,
            tokens: Vec::new(),
            prefill: None,
            cached_tokens: None,
            prompt_logprobs: Vec::new(),
            finish: None,
        }
    }
}
