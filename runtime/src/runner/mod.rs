//! The seam between the step and the devices: [`Forward`] computes logits for a packed, ragged batch.
//!
//! Two executors stand behind it: [`candle`] (any device of candle, its own operators) and [`native`] (CPUs). [`FakeForward`] makes everything above testable without a model.

mod backend;
mod check;
mod choice;
mod cores;
mod encode;
mod fake;
mod give_way;
mod router;
mod slots;
mod team;

pub use backend::{Backend, Encoder, Model};
pub use encode::{Encode, EncodeRow};
pub use fake::{AnswerScript, FakeConfig, FakeForward, Fault, FaultScript};
pub use give_way::{ChatStep, give_way};
pub use slots::{LogitsTap, SlotRunner};
pub use team::Threads;

pub mod candle;
pub mod native;

use crate::ids::{BlockId, StateId};
use crate::kv::BlockSpans;
use crate::plan::{BlockMove, StateMove, StateSave};
use std::num::NonZeroUsize;
use std::ops::Range;

/// Tokens of all rows of a step, packed one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Token ids, `[tokens]`.
    pub tokens: &'a [u32],
    /// Position of each token in its own sequence, `[tokens]`.
    pub positions: &'a [u32],
    /// The rows, in the order of their tokens.
    pub rows: &'a [BatchRow<'a>],
    /// Indices into `tokens` (ascending, none twice) whose logits are wanted.
    pub wanted: &'a [u32],
}

/// One sequence's part of a [`Batch`].
#[derive(Debug, Clone)]
pub struct BatchRow<'a> {
    /// Its tokens in [`Batch::tokens`]: consecutive positions, the last one is `context_tokens - 1`.
    pub span: Range<usize>,
    /// Tokens of the sequence that stand in KV memory once this row is computed.
    pub context_tokens: usize,
    /// The blocks in which they stand, in the order of their positions, cut as [`ForwardShape::spans`] says.
    pub table: &'a [BlockId],
    /// Where its recurrent states stand, if the model has any.
    pub state: Option<RowState<'a>>,
}

/// The recurrent states of one sequence.
#[derive(Debug, Clone, Copy)]
pub struct RowState<'a> {
    /// Their place: read and written. At the first position of a sequence it is only written.
    pub place: StateId,
    /// Snapshots to take, ascending; those that do not stand behind a token of the row are passed over.
    pub saves: &'a [StateSave],
}

/// What an executor can say of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardShape {
    /// Length of a row of logits.
    pub vocab_size: usize,
    /// Positions of each KV block of a sequence.
    pub spans: BlockSpans,
    /// Blocks of KV memory.
    pub num_blocks: usize,
    /// Places of recurrent states.
    pub num_states: usize,
}

/// What a model's KV memory is cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvShape {
    /// Positions of each block of a sequence.
    pub spans: BlockSpans,
    /// Bytes of a block in all layers: keys and values, and scales and biases where they are quantised.
    pub block_bytes: usize,
    /// Bytes of the recurrent states of a sequence in all layers; 0 if there are none.
    pub state_bytes: usize,
}

impl KvShape {
    /// Bytes that a token takes in all layers; where only the first ones are not quantised, one behind them.
    pub fn bytes_per_token(&self) -> usize {
        self.block_bytes / self.spans.largest()
    }

    /// Bytes that each of the first tokens takes, where they alone are not quantised.
    pub fn bytes_per_first_token(&self) -> Option<usize> {
        (self.spans.head_end() > 0).then(|| self.block_bytes / self.spans.smallest())
    }

    /// Bytes of the blocks of a sequence of `tokens`.
    pub fn bytes(&self, tokens: usize) -> u64 {
        self.block_bytes as u64 * self.spans.holding(tokens) as u64
    }
}

/// How much memory an executor gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemorySize {
    /// Blocks of keys and values.
    pub num_blocks: NonZeroUsize,
    /// Places of recurrent states; without effect on models that have none.
    pub num_states: usize,
}

/// How far loading has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of the checkpoint that stand in their final form.
    pub done_bytes: u64,
    /// Bytes that the model takes from the checkpoint.
    pub total_bytes: u64,
}

/// Why a forward pass gave no logits. The rows of that step fail, the engine goes on.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The device has no memory left for this step; a smaller one may fit.
    #[error("out of memory in a step of {tokens} tokens: {message}")]
    OutOfMemory {
        /// Tokens of the step.
        tokens: usize,
        /// The device's own words.
        message: String,
    },
    /// Anything else the executor refused.
    #[error("{0}")]
    Failed(String),
}

/// Computes logits. Owns the KV memory; weights are shared and survive it.
pub trait Forward {
    /// Sizes of this executor.
    fn shape(&self) -> ForwardShape;

    /// Copies whole blocks of KV memory, in order.
    ///
    /// # Errors
    /// [`ForwardError`] if the device refused.
    fn copy_blocks(&mut self, moves: &[BlockMove]) -> Result<(), ForwardError>;

    /// Copies recurrent states, in order. For models that have none nothing is left to be done.
    ///
    /// # Errors
    /// [`ForwardError`] if the device refused.
    fn copy_states(&mut self, moves: &[StateMove]) -> Result<(), ForwardError> {
        check::check_states(moves, &self.shape())
    }

    /// Writes the keys and values of all tokens of `batch` to KV memory and the wanted logits to `logits`, row-major
    /// `[wanted, vocab]` in float32 (`logits` is cleared first, its capacity is kept between steps).
    ///
    /// # Errors
    /// [`ForwardError`]; KV memory of the batch's rows is undefined then. After [`ForwardError::OutOfMemory`] recurrent states
    /// are as before.
    fn forward(&mut self, batch: &Batch<'_>, logits: &mut Vec<f32>) -> Result<(), ForwardError>;
}
