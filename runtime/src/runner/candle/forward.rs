use super::decoder::CandleModel;
use super::error::{device_error, step_error};
use super::kv_memory::KvMemory;
use super::rope_table::RopeTable;
use super::step::Step;
use crate::checkpoint::LoadError;
use crate::plan::{BlockMove, StateMove};
use crate::runner::check::{check, check_moves, check_states};
use crate::runner::{Batch, Forward, ForwardError, ForwardShape, MemorySize};
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Computes logits with candle. Owns the KV memory.
#[derive(Debug)]
pub struct CandleForward {
    model: Arc<CandleModel>,
    kv: KvMemory,
    rope: RopeTable,
}

impl CandleForward {
    /// Allocates memory of the size for what is kept of sequences, in blocks of `block_tokens` positions.
    ///
    /// # Errors
    /// [`LoadError::InsufficientMemory`] if places could not be numbered, [`LoadError::Device`] if the device refused.
    pub fn new(model: Arc<CandleModel>, size: MemorySize, block_tokens: NonZeroUsize) -> Result<Self, LoadError> {
        let (num_blocks, block_tokens) = (size.num_blocks.get(), block_tokens.get());
        // Places are u32, and the largest one stands for "nowhere" in candle's gather.
        let max_places = u32::MAX as usize;
        if num_blocks.checked_mul(block_tokens).is_none_or(|places| places >= max_places) {
            let bytes = model.kv_bytes_per_token() as u64;
            return Err(LoadError::InsufficientMemory {
                needed: (num_blocks as u64).saturating_mul(block_tokens as u64).saturating_mul(bytes),
                available: (max_places as u64).saturating_mul(bytes),
            });
        }
        let kv = KvMemory::new(model.spec(), model.kv_dtype(), model.device(), size, block_tokens)
            .map_err(device_error("kv memory"))?;
        let rope = RopeTable::new(&model.spec().rope, model.device()).map_err(device_error("rotary tables"))?;
        Ok(Self { model, kv, rope })
    }

    /// The weights that it computes with.
    pub fn model(&self) -> &Arc<CandleModel> {
        &self.model
    }
}

impl Forward for CandleForward {
    fn shape(&self) -> ForwardShape {
        ForwardShape {
            vocab_size: self.model.spec().vocab,
            spans: self.kv.block_tokens.into(),
            num_blocks: self.kv.num_blocks,
            num_states: self.kv.num_states,
        }
    }

    fn copy_blocks(&mut self, moves: &[BlockMove]) -> Result<(), ForwardError> {
        check_moves(moves, &self.shape())?;
        self.kv.copy(moves).map_err(step_error(0))
    }

    fn copy_states(&mut self, moves: &[StateMove]) -> Result<(), ForwardError> {
        check_states(moves, &self.shape())?;
        self.kv.copy_states(moves).map_err(step_error(0))
    }

    fn forward(&mut self, batch: &Batch<'_>, logits: &mut Vec<f32>) -> Result<(), ForwardError> {
        logits.clear();
        if batch.tokens.is_empty() {
            return Ok(());
        }
        check(batch, &self.shape())?;
        let failed = step_error(batch.tokens.len());
        let step =
            Step::new(batch, self.model.spec(), &self.kv, &mut self.rope, self.model.device()).map_err(&failed)?;
        if let Some(wanted) = self.model.forward(&self.kv, &step).map_err(&failed)? {
            let values = wanted.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).map_err(&failed)?;
            logits.extend_from_slice(&values);
        }
        Ok(())
    }
}
