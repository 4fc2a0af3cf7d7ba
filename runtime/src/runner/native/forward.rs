use super::buffers::{Buffers, Widths};
use super::kv::{KvMemory, Layouts};
use super::memory::Shared;
use super::model::NativeModel;
use super::rope_table::RopeTable;
use super::step::{Step, StepLists};
use crate::checkpoint::LoadError;
use crate::config::KvFormat;
use crate::kernels::Form;
use crate::plan::{BlockMove, StateMove};
use crate::runner::check::{check, check_moves, check_states};
use crate::runner::team::{Team, Threads};
use crate::runner::{Batch, Forward, ForwardError, ForwardShape, MemorySize};
use std::sync::Arc;

/// Computes logits on a CPU. Owns the KV memory and its threads.
#[derive(Debug)]
pub struct NativeForward {
    model: Arc<NativeModel>,
    form: Form,
    team: Team,
    kv: KvMemory,
    rope: RopeTable,
    widths: Widths,
    buffers: Buffers,
    lists: StepLists,
}

impl NativeForward {
    /// Allocates memory of the size for what is kept of sequences, and starts all threads but the caller's.
    ///
    /// # Errors
    /// [`LoadError::Device`] if the system has no such memory or threads, or the kernels cannot read this format.
    pub fn new(
        model: Arc<NativeModel>,
        form: Form,
        threads: &Threads,
        size: MemorySize,
        format: &KvFormat,
    ) -> Result<Self, LoadError> {
        let device = |what: &str, message: String| LoadError::Device { what: what.to_owned(), message };
        let layouts = Layouts::new(&model.spec, model.mode, format);
        let layouts = layouts.map_err(|error| device("kv memory", error.to_string()))?;
        let kv =
            KvMemory::new(layouts, size, model.huge_pages).map_err(|error| device("kv memory", error.to_string()))?;
        let team = Team::new(threads.clone()).map_err(|error| device("threads", error.to_string()))?;
        let rope = RopeTable::new(&model.spec.rope);
        let widths = Widths::of(&model, form);
        Ok(Self { model, form, team, kv, rope, widths, buffers: Buffers::default(), lists: StepLists::default() })
    }
}

impl Forward for NativeForward {
    fn shape(&self) -> ForwardShape {
        let KvMemory { spans, num_blocks, num_states, .. } = self.kv;
        ForwardShape { vocab_size: self.model.spec.vocab, spans, num_blocks, num_states }
    }

    fn copy_blocks(&mut self, moves: &[BlockMove]) -> Result<(), ForwardError> {
        check_moves(moves, &self.shape())?;
        self.kv.copy(moves);
        Ok(())
    }

    fn copy_states(&mut self, moves: &[StateMove]) -> Result<(), ForwardError> {
        check_states(moves, &self.shape())?;
        self.kv.copy_states(moves);
        Ok(())
    }

    fn forward(&mut self, batch: &Batch<'_>, logits: &mut Vec<f32>) -> Result<(), ForwardError> {
        logits.clear();
        if batch.tokens.is_empty() {
            return Ok(());
        }
        check(batch, &self.shape())?;
        let end = batch.rows.iter().map(|row| row.context_tokens).max().unwrap_or(0);
        self.rope.reach(end);
        let (wanted, width, vocab) = (batch.wanted.len(), self.widths.logits, self.model.spec.vocab);
        logits.reserve(wanted * width);
        let out = Shared::room(&mut logits.spare_capacity_mut()[..wanted * width]);
        let buffers = self.buffers.of_step(&self.widths, batch.tokens.len(), wanted, end);
        let lists = self.lists.of(batch, self.kv.layers());
        let step = Step::new(&self.model, self.form, batch, &self.rope, lists, &self.widths, buffers, out);
        self.team.run(&|worker| step.run(worker));
        // SAFETY: there is room for them, and the step has written them all.
        unsafe { logits.set_len(wanted * width) };
        if width > vocab {
            // The last tile of a row reaches beyond it.
            (1..wanted).for_each(|row| logits.copy_within(row * width..row * width + vocab, row * vocab));
            logits.truncate(wanted * vocab);
        }
        Ok(())
    }
}
