//! The engine's side of a step: slots, block tables and samplers around a [`Forward`].

use super::{Batch, BatchRow, Forward, ForwardError, RowState};
use crate::ids::{BlockId, SeqId, SlotId};
use crate::plan::{NewSlot, Row, RowFault, RowOutput, RowTokens, RowWork, SlotState, StepOutput, StepPlan, StepTiming};
use crate::sampling::{SampledToken, Sampler, TokenLogprobs, token_logprobs};
use std::ops::Range;
use std::time::Instant;

/// Receives raw logits: the sequence, the position of the token that they predict, and `[vocab]` values.
pub type LogitsTap = Box<dyn FnMut(SeqId, usize, &[f32]) + Send>;

/// Runs plans: keeps what the engine must remember of each sequence, and turns rows into a packed batch.
pub struct SlotRunner {
    forward: Box<dyn Forward>,
    slots: Vec<Option<Slot>>,
    tap: Option<LogitsTap>,
    // Reused by every step.
    tokens: Vec<u32>,
    positions: Vec<u32>,
    wanted: Vec<u32>,
    logits: Vec<f32>,
    scratch: Vec<f32>,
}

struct Slot {
    seq: SeqId,
    /// Every known token; the last one is computed by the next decode.
    tokens: Vec<u32>,
    prompt_tokens: usize,
    table: Vec<BlockId>,
    state: Option<SlotState>,
    sampler: Sampler,
    prompt_logprobs: Option<u8>,
}

/// A row of the plan as it stands in the batch.
struct Packed {
    /// Its tokens in the batch.
    span: Range<usize>,
    /// Position of its first token.
    start: usize,
    /// Its logits in the output of the forward pass: a suffix of the row's tokens.
    logits: Range<usize>,
}

impl SlotRunner {
    /// A runner with empty slots over `forward`.
    pub fn new(forward: Box<dyn Forward>) -> Self {
        Self {
            forward,
            slots: Vec::new(),
            tap: None,
            tokens: Vec::new(),
            positions: Vec::new(),
            wanted: Vec::new(),
            logits: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Shows every logit of prompts and answers to `tap` from now on; prompts are then computed with all their logits.
    pub fn set_tap(&mut self, tap: LogitsTap) {
        self.tap = Some(tap);
    }

    /// Forgets every slot.
    pub fn clear(&mut self) {
        self.slots.clear();
    }

    /// Executes a plan.
    ///
    /// # Errors
    /// [`ForwardError`] if the forward pass failed as a whole; slots and block tables are as after the plan, and its
    /// rows' KV memory is undefined.
    pub fn step(&mut self, plan: &StepPlan) -> Result<StepOutput, ForwardError> {
        let begun = Instant::now();
        for &slot in &plan.evict {
            self.set_slot(slot, None);
        }
        if !plan.moves.is_empty() {
            self.forward.copy_blocks(&plan.moves)?;
        }
        if !plan.states.is_empty() {
            self.forward.copy_states(&plan.states)?;
        }
        for new in &plan.admit {
            self.admit(new);
        }
        for row in &plan.rows {
            if let Some(slot) = self.slot_mut(row) {
                slot.table.extend_from_slice(&row.new_blocks);
            }
            if let RowWork::LastChunk { forks, .. } = &row.work {
                forks.iter().for_each(|fork| self.admit(fork));
            }
        }
        let packed = self.pack(plan);
        let packing = begun.elapsed();
        let forward = Instant::now();
        self.compute(plan, &packed)?;
        let forward = forward.elapsed();
        let sampling = Instant::now();
        let rows = self.sample(plan, &packed);
        let sample = sampling.elapsed();
        Ok(StepOutput {
            step: plan.step,
            rows,
            timing: StepTiming { forward, sample, total: packing + forward + sample },
        })
    }

    fn admit(&mut self, new: &NewSlot) {
        let sampler = Sampler::new(new.params.clone(), new.seed, new.choice, &new.tokens, new.prompt_tokens);
        let slot = Slot {
            seq: new.seq,
            tokens: new.tokens.to_vec(),
            prompt_tokens: new.prompt_tokens,
            table: new.blocks.clone(),
            state: new.state.clone(),
            sampler,
            prompt_logprobs: new.params.prompt_logprobs,
        };
        self.set_slot(new.slot, Some(slot));
    }

    fn set_slot(&mut self, id: SlotId, slot: Option<Slot>) {
        let at = id.0 as usize;
        if at >= self.slots.len() {
            self.slots.resize_with(at + 1, || None);
        }
        self.slots[at] = slot;
    }

    fn slot_mut(&mut self, row: &Row) -> Option<&mut Slot> {
        self.slots.get_mut(row.slot.0 as usize)?.as_mut().filter(|slot| slot.seq == row.seq)
    }

    fn slot(&self, row: &Row) -> Option<&Slot> {
        self.slots.get(row.slot.0 as usize)?.as_ref().filter(|slot| slot.seq == row.seq)
    }

    /// Lays all rows' tokens out one after the other. A row without a slot stays empty.
    fn pack(&mut self, plan: &StepPlan) -> Vec<Packed> {
        let mut tokens = std::mem::take(&mut self.tokens);
        let mut positions = std::mem::take(&mut self.positions);
        let mut wanted = std::mem::take(&mut self.wanted);
        tokens.clear();
        positions.clear();
        wanted.clear();
        let mut packed = Vec::with_capacity(plan.rows.len());
        for row in &plan.rows {
            let begin = tokens.len();
            let first_logit = wanted.len();
            let mut start = 0;
            if let Some(slot) = self.slot(row) {
                start = match &row.work {
                    RowWork::Chunk { span } | RowWork::LastChunk { span, .. } => span.start,
                    RowWork::Decode | RowWork::Verify { .. } => slot.tokens.len() - 1,
                };
                let known = start..start + row.work.tokens().min(slot.tokens.len() - start);
                tokens.extend_from_slice(&slot.tokens[known]);
                if let RowWork::Verify { draft } = &row.work {
                    tokens.extend_from_slice(draft);
                }
                positions.extend((start as u32..).take(tokens.len() - begin));
                let all = self.tap.is_some() || slot.prompt_logprobs.is_some() && start < slot.prompt_tokens;
                let from = match row.work {
                    RowWork::Verify { .. } => begin,
                    _ if all => begin,
                    RowWork::Chunk { .. } => tokens.len(),
                    RowWork::LastChunk { .. } | RowWork::Decode => tokens.len() - 1,
                };
                wanted.extend(from as u32..tokens.len() as u32);
            }
            packed.push(Packed { span: begin..tokens.len(), start, logits: first_logit..wanted.len() });
        }
        (self.tokens, self.positions, self.wanted) = (tokens, positions, wanted);
        packed
    }

    /// Runs the forward pass; if the device is out of memory, once more in two halves.
    fn compute(&mut self, plan: &StepPlan, packed: &[Packed]) -> Result<(), ForwardError> {
        let mut rows: Vec<BatchRow<'_>> = Vec::with_capacity(packed.len());
        for (row, place) in plan.rows.iter().zip(packed) {
            let slot = self.slots.get(row.slot.0 as usize).and_then(Option::as_ref);
            if let Some(slot) = slot.filter(|_| !place.span.is_empty()) {
                let context_tokens = place.start + place.span.len();
                let state = slot.state.as_ref().map(|state| RowState { place: state.place, saves: &state.saves });
                rows.push(BatchRow { span: place.span.clone(), context_tokens, table: &slot.table, state });
            }
        }
        if rows.is_empty() {
            self.logits.clear();
            return Ok(());
        }
        let batch = Batch { tokens: &self.tokens, positions: &self.positions, rows: &rows, wanted: &self.wanted };
        match self.forward.forward(&batch, &mut self.logits) {
            Err(ForwardError::OutOfMemory { tokens, message }) if tokens > 1 => {
                tracing::warn!(tokens, message, "out of memory, the step is computed in two halves");
                forward_in_halves(&mut *self.forward, &batch, &mut self.logits)
            }
            result => result,
        }
    }

    fn sample(&mut self, plan: &StepPlan, packed: &[Packed]) -> Vec<RowOutput> {
        let mut outputs = Vec::with_capacity(plan.rows.len());
        let vocab = self.forward.shape().vocab_size;
        let mut logits = std::mem::take(&mut self.logits);
        for (row, place) in plan.rows.iter().zip(packed) {
            let rows = &mut logits[place.logits.start * vocab..place.logits.end * vocab];
            if let Some(tap) = &mut self.tap {
                let first = place.start + place.span.len() - place.logits.len();
                rows.chunks_exact(vocab).enumerate().for_each(|(i, logits)| tap(row.seq, first + i + 1, logits));
            }
            let Some(slot) = self.slots.get_mut(row.slot.0 as usize).and_then(Option::as_mut) else {
                outputs.push(RowOutput { slot: row.slot, seq: row.seq, result: Err(RowFault::UnknownSlot) });
                continue;
            };
            if slot.seq != row.seq {
                outputs.push(RowOutput { slot: row.slot, seq: row.seq, result: Err(RowFault::UnknownSlot) });
                continue;
            }
            let prompt_logprobs = match slot.prompt_logprobs(place, rows, vocab) {
                Ok(logprobs) => logprobs,
                Err(fault) => {
                    outputs.push(RowOutput { slot: row.slot, seq: row.seq, result: Err(fault.clone()) });
                    if let RowWork::LastChunk { forks, .. } = &row.work {
                        let failed =
                            |fork: &NewSlot| RowOutput { slot: fork.slot, seq: fork.seq, result: Err(fault.clone()) };
                        outputs.extend(forks.iter().map(failed));
                    }
                    continue;
                }
            };
            if let RowWork::LastChunk { forks, .. } = &row.work {
                // Choosing edits the logits, so each choice but the first gets a copy.
                let last = rows[rows.len() - vocab..].to_vec();
                let result = slot.choose(rows, vocab).map(|tokens| RowTokens { tokens, prompt_logprobs, accepted: 0 });
                outputs.push(RowOutput { slot: row.slot, seq: row.seq, result });
                for fork in forks {
                    self.scratch.clone_from(&last);
                    let slot = self.slots[fork.slot.0 as usize].as_mut().expect("forks were admitted with this plan");
                    let result = slot.choose(&mut self.scratch, vocab);
                    let result = result.map(|tokens| RowTokens { tokens, ..RowTokens::default() });
                    outputs.push(RowOutput { slot: fork.slot, seq: fork.seq, result });
                }
                continue;
            }
            let result = match &row.work {
                RowWork::Chunk { .. } | RowWork::LastChunk { .. } => {
                    Ok(RowTokens { prompt_logprobs, ..RowTokens::default() })
                }
                RowWork::Decode => {
                    slot.choose(rows, vocab).map(|tokens| RowTokens { tokens, prompt_logprobs, accepted: 0 })
                }
                RowWork::Verify { draft } => slot.verify(rows, vocab, draft),
            };
            outputs.push(RowOutput { slot: row.slot, seq: row.seq, result });
        }
        self.logits = logits;
        outputs
    }
}

impl Slot {
    /// Chooses the token after the last row of `logits`.
    fn choose(&mut self, logits: &mut [f32], vocab: usize) -> Result<Vec<SampledToken>, RowFault> {
        let last = logits.len() - vocab;
        Ok(vec![self.choose_next(&mut logits[last..])?])
    }

    fn choose_next(&mut self, logits: &mut [f32]) -> Result<SampledToken, RowFault> {
        let position = self.tokens.len();
        let token = self.sampler.sample(logits, position)?;
        self.tokens.push(token.id);
        Ok(token)
    }

    /// Chooses a token after the last known one and after each draft token, as long as the choices agree with the draft.
    ///
    /// Choices are drawn exactly as without a draft (the generator is keyed by position), so a draft changes how fast
    /// tokens come and never which.
    fn verify(&mut self, logits: &mut [f32], vocab: usize, draft: &[u32]) -> Result<RowTokens, RowFault> {
        let mut row = RowTokens::default();
        for (i, logits) in logits.chunks_exact_mut(vocab).enumerate() {
            let token = self.choose_next(logits)?;
            let stands = draft.get(i) == Some(&token.id) && !token.stop;
            row.tokens.push(token);
            if !stands {
                break;
            }
            row.accepted += 1;
        }
        Ok(row)
    }

    /// Log probabilities of the prompt tokens that follow those of the row.
    fn prompt_logprobs(&self, place: &Packed, logits: &[f32], vocab: usize) -> Result<Vec<TokenLogprobs>, RowFault> {
        let Some(top) = self.prompt_logprobs else { return Ok(Vec::new()) };
        let first = place.start + place.span.len() - place.logits.len();
        let predicted = first + 1..self.prompt_tokens;
        let logprobs = predicted.zip(logits.chunks_exact(vocab)).map(|(at, row)| {
            let usable = !row.iter().any(|logit| logit.is_nan()) && row.iter().any(|logit| logit.is_finite());
            usable.then(|| token_logprobs(row, self.tokens[at], top)).ok_or(RowFault::NotFinite { position: at })
        });
        logprobs.collect()
    }
}

mod halves;

use halves::forward_in_halves;

#[cfg(test)]
mod tests;
