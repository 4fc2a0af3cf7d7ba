//! An executor without a model: the next token is a function of the whole context, read back from its KV memory.
//!
//! Whatever goes wrong with blocks (one given twice, a stale prefix, a lost copy) changes a context and so a token: a
//! sequence that yields [`FakeForward::expected`] went through correct accounting. Delays and faults are scripted.

use super::{Batch, BatchRow, Forward, ForwardError, ForwardShape, RowState};
use crate::kv::BlockSpans;
use crate::plan::{BlockMove, StateMove};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What shall go wrong in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The forward pass returns an error.
    Error,
    /// The device is out of memory once.
    OutOfMemory,
    /// The forward pass panics.
    Panic,
    /// The forward pass takes this much longer.
    Delay(Duration),
    /// Logits are not finite.
    NotFinite,
}

/// Faults to come, shared with a test: one is taken per forward pass.
#[derive(Debug, Clone, Default)]
pub struct FaultScript(Arc<Mutex<VecDeque<Option<Fault>>>>);

impl FaultScript {
    /// Lets the next forward passes go as listed; `None` goes well.
    pub fn push(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.lock().extend(faults);
    }

    fn next(&self) -> Option<Fault> {
        self.lock().pop_front().flatten()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Option<Fault>>> {
        // A scripted panic never holds the lock, but the queue would be whole even so.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Answers that the fake gives instead of its own, shared with a test.
#[derive(Debug, Clone, Default)]
pub struct AnswerScript(Arc<Mutex<Vec<ScriptedAnswer>>>);

#[derive(Debug)]
struct ScriptedAnswer {
    ending: Vec<u32>,
    answer: Vec<u32>,
}

impl AnswerScript {
    /// Lets prompts that end with `ending` be answered by `answer`. Behind it, the fake goes on by itself.
    pub fn push(&self, ending: impl Into<Vec<u32>>, answer: impl Into<Vec<u32>>) {
        self.lock().push(ScriptedAnswer { ending: ending.into(), answer: answer.into() });
    }

    /// The token of an answer that has come as far as the end of `context`.
    fn next(&self, context: &[u32]) -> Option<u32> {
        self.lock().iter().find_map(|ScriptedAnswer { ending, answer }| {
            let said = |place: usize| context[place..].strip_prefix(ending.as_slice());
            let mut begun = (0..context.len()).filter_map(said);
            begun.find_map(|said| answer.strip_prefix(said).and_then(|rest| rest.first().copied()))
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<ScriptedAnswer>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Sizes and pace of a [`FakeForward`].
#[derive(Debug, Clone)]
pub struct FakeConfig {
    /// Sizes.
    pub shape: ForwardShape,
    /// Time per step.
    pub step: Duration,
    /// Time per token of a step.
    pub token: Duration,
    /// Faults.
    pub faults: FaultScript,
    /// Answers.
    pub answers: AnswerScript,
}

impl FakeConfig {
    /// A fake with this much KV memory, a vocabulary of 97 tokens and no delays.
    pub fn new(num_blocks: usize, spans: impl Into<BlockSpans>) -> Self {
        Self {
            shape: ForwardShape { vocab_size: 97, spans: spans.into(), num_blocks, num_states: 0 },
            step: Duration::ZERO,
            token: Duration::ZERO,
            faults: FaultScript::default(),
            answers: AnswerScript::default(),
        }
    }
}

/// The deterministic executor.
#[derive(Debug)]
pub struct FakeForward {
    config: FakeConfig,
    /// The token that was written to each position of KV memory; unwritten ones hold [`u32::MAX`].
    memory: Vec<u32>,
    /// What each recurrent state has seen.
    states: Vec<Vec<u32>>,
}

impl FakeForward {
    /// An executor with unwritten memory.
    pub fn new(config: FakeConfig) -> Self {
        let memory = vec![u32::MAX; config.shape.num_blocks * config.shape.spans.largest()];
        let states = vec![Vec::new(); config.shape.num_states];
        Self { config, memory, states }
    }

    /// The token that greedy decoding chooses after `context`.
    pub fn expected(context: &[u32], vocab_size: usize) -> u32 {
        // FNV-1a over the ids: any change of the context changes the token with probability 1 - 1/vocab.
        let hash =
            context.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, &t| (h ^ u64::from(t)).wrapping_mul(0x0100_0000_01b3));
        ((hash ^ (hash >> 32)) % vocab_size as u64) as u32
    }

    /// The greedy answer of `len` tokens to `prompt`.
    pub fn expected_answer(prompt: &[u32], len: usize, vocab_size: usize) -> Vec<u32> {
        let mut tokens = prompt.to_vec();
        for _ in 0..len {
            tokens.push(Self::expected(&tokens, vocab_size));
        }
        tokens.split_off(prompt.len())
    }
}

impl FakeForward {
    /// A recurrent state cannot be cut: it has seen just what stands before the row.
    fn check_state(&self, row: &BatchRow<'_>, context: &[u32]) {
        assert_eq!(row.state.is_some(), !self.states.is_empty(), "a place for every sequence, or for none");
        if let Some(RowState { place, .. }) = row.state.filter(|_| !context.is_empty()) {
            assert_eq!(self.states[place.0 as usize], context, "state {place} is another one's");
        }
    }
}

/// Lets the recurrent state of a row, and the snapshots that stand here, have seen `context`.
fn keep_states(states: &mut [Vec<u32>], row: &BatchRow<'_>, context: &[u32]) {
    let Some(RowState { place, saves }) = row.state else { return };
    let here = saves.iter().filter(|save| save.tokens == context.len()).map(|save| save.to);
    here.chain([place]).for_each(|place| states[place.0 as usize] = context.to_vec());
}

impl Forward for FakeForward {
    fn shape(&self) -> ForwardShape {
        self.config.shape
    }

    fn copy_blocks(&mut self, moves: &[BlockMove]) -> Result<(), ForwardError> {
        let size = self.config.shape.spans.largest();
        for &BlockMove { from, to } in moves {
            let from = from.0 as usize * size;
            self.memory.copy_within(from..from + size, to.0 as usize * size);
        }
        Ok(())
    }

    fn copy_states(&mut self, moves: &[StateMove]) -> Result<(), ForwardError> {
        for &StateMove { from, to } in moves {
            self.states[to.0 as usize] = self.states[from.0 as usize].clone();
        }
        Ok(())
    }

    fn forward(&mut self, batch: &Batch<'_>, logits: &mut Vec<f32>) -> Result<(), ForwardError> {
        logits.clear();
        let fault = self.config.faults.next();
        match fault {
            Some(Fault::Error) => return Err(ForwardError::Failed("scripted error".into())),
            Some(Fault::OutOfMemory) => {
                let message = "scripted".into();
                return Err(ForwardError::OutOfMemory { tokens: batch.tokens.len(), message });
            }
            Some(Fault::Panic) => panic!("scripted panic"),
            Some(Fault::Delay(delay)) => std::thread::sleep(delay),
            Some(Fault::NotFinite) | None => {}
        }
        let pace = self.config.step + self.config.token * batch.tokens.len() as u32;
        if !pace.is_zero() {
            std::thread::sleep(pace);
        }
        let (spans, vocab) = (self.config.shape.spans, self.config.shape.vocab_size);
        let mut wanted = batch.wanted.iter().map(|&at| at as usize).peekable();
        for row in batch.rows {
            let place = |position: usize| {
                let (block, at) = spans.place(position);
                row.table[block].0 as usize * spans.largest() + at
            };
            let start = row.context_tokens - row.span.len();
            let mut context: Vec<u32> = (0..start).map(|p| self.memory[place(p)]).collect();
            self.check_state(row, &context);
            for (position, at) in (start..).zip(row.span.clone()) {
                assert_eq!(batch.positions[at] as usize, position, "positions of a row are consecutive");
                self.memory[place(position)] = batch.tokens[at];
                context.push(batch.tokens[at]);
                keep_states(&mut self.states, row, &context);
                if wanted.next_if_eq(&at).is_some() {
                    let begin = logits.len();
                    logits.resize(begin + vocab, 0.0);
                    let next = self.config.answers.next(&context);
                    let next = next.unwrap_or_else(|| Self::expected(&context, vocab));
                    logits[begin + next as usize] = 8.0;
                    if fault == Some(Fault::NotFinite) {
                        logits[begin] = f32::NAN;
                    }
                }
            }
        }
        Ok(())
    }
}
