use super::error::ParityError;
use super::inputs::ParityInputs;
use super::record::{PromptNumbers, Record};
use super::sizes::{ParityOptions, memory_size, scheduler_config};
use crate::checkpoint::LoadError;
use crate::ids::{KvEpoch, RequestId, SeqId, WorkerId};
use crate::kv::{BlockSpans, KvAccounts, StatePool};
use crate::local::LocalEngine;
use crate::runner::{Forward, ForwardShape, MemorySize, SlotRunner};
use crate::sampling::SamplingParams;
use crate::scheduler::{Limits, Scheduler};
use crate::sequence::{Finish, NewRequest, Priority, SeqDelta};
use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Computes the prompts and `n_greedy` tokens after each.
///
/// `context_tokens`: tokens the model takes. `spans`: positions of each KV block. `forward` makes the executor over memory of
/// a size.
/// `done` is told of each prompt's numbers as soon as they are there.
///
/// # Errors
/// [`ParityError`]; nothing is skipped.
pub fn run(
    inputs: &ParityInputs,
    options: ParityOptions,
    context_tokens: usize,
    spans: BlockSpans,
    forward: impl FnOnce(MemorySize) -> Result<Box<dyn Forward>, LoadError>,
    done: &mut dyn FnMut(&PromptNumbers),
) -> Result<Vec<PromptNumbers>, ParityError> {
    let max_tokens = inputs.max_tokens();
    if let Some((name, ids)) = inputs.prompts.iter().find(|(_, ids)| ids.len() + max_tokens > context_tokens) {
        let (prompt, tokens) = (name.clone(), ids.len());
        return Err(ParityError::TooLong { prompt, tokens, n_greedy: max_tokens, max: context_tokens });
    }
    let forward = forward(memory_size(inputs, options, spans))?;
    check_vocabulary(inputs, forward.shape().vocab_size)?;
    let mut driver = Driver::new(inputs, options, context_tokens, forward);
    let prompts: Vec<(&str, Arc<[u32]>)> =
        inputs.prompts.iter().map(|(name, ids)| (name.as_str(), ids.as_slice().into())).collect();
    let mut numbers = Vec::with_capacity(prompts.len());
    for group in prompts.chunks(if options.batch { prompts.len() } else { 1 }) {
        for (prompt, elapsed) in driver.compute(group)? {
            let prompt = prompt.finish(inputs.n_greedy, elapsed)?;
            done(&prompt);
            numbers.push(prompt);
        }
    }
    Ok(numbers)
}

fn check_vocabulary(inputs: &ParityInputs, vocab: usize) -> Result<(), ParityError> {
    for (name, ids) in &inputs.prompts {
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
            let reason = format!("prompt `{name}` holds token {id}, the model's vocabulary has {vocab}");
            return Err(ParityError::Inputs(reason));
        }
    }
    Ok(())
}

/// An engine and what comes out of it.
struct Driver {
    engine: LocalEngine,
    taps: mpsc::Receiver<(SeqId, usize, Vec<f32>)>,
    options: ParityOptions,
    spans: BlockSpans,
    max_tokens: usize,
    vocab: usize,
    next: u64,
}

/// Whether a run may find computed blocks. A first run has to see every position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Fresh,
    Reusing,
}

impl Driver {
    fn new(inputs: &ParityInputs, options: ParityOptions, context_tokens: usize, forward: Box<dyn Forward>) -> Self {
        let ForwardShape { vocab_size: vocab, spans, num_blocks, num_states } = forward.shape();
        let mut runner = SlotRunner::new(forward);
        let (sender, taps) = mpsc::channel();
        runner.set_tap(Box::new(move |seq, position, row| {
            // The receiver lives as long as the engine that owns this end.
            let _ = sender.send((seq, position, row.to_vec()));
        }));
        let limits = Limits { spans, num_blocks, num_states, context_tokens };
        // One model only: its fingerprint tells it from no other.
        let accounts = KvAccounts::new(num_blocks, spans, 0, options.reuse_prefix, KvEpoch::default());
        let config = scheduler_config(inputs, options);
        let live = config.max_sequences.get().min(num_states);
        let accounts = accounts.with_states(StatePool::new(num_states, live));
        let engine =
            LocalEngine::new(|sink| Scheduler::new(config, limits, KvEpoch::default(), sink), accounts, runner);
        Self { engine, taps, options, spans, max_tokens: inputs.max_tokens(), vocab, next: 0 }
    }

    /// Computes prompts together: their records, and how long the last run of each took.
    fn compute(&mut self, prompts: &[(&str, Arc<[u32]>)]) -> Result<Vec<(Record, Duration)>, ParityError> {
        let mut records: Vec<_> =
            prompts.iter().map(|(name, ids)| Record::new(name, ids.len(), self.max_tokens, self.vocab)).collect();
        let mut elapsed = self.pass(prompts, &mut records, Run::Fresh)?;
        if self.options.reuse_prefix {
            for record in &mut records {
                // The block of the last token is computed again: it gives the first logits to sample from.
                record.restart(self.spans.start(self.spans.full(record.prompt_tokens() - 1)));
            }
            elapsed = self.pass(prompts, &mut records, Run::Reusing)?;
        }
        Ok(records.into_iter().zip(elapsed).collect())
    }

    /// Submits the prompts, then steps until all have ended.
    fn pass(
        &mut self,
        prompts: &[(&str, Arc<[u32]>)],
        records: &mut [Record],
        run: Run,
    ) -> Result<Vec<Duration>, ParityError> {
        let params = Arc::new(SamplingParams {
            // Prompts whose log probabilities are wanted are computed, whatever another one has left in the index.
            prompt_logprobs: (run == Run::Fresh).then_some(0),
            ..SamplingParams::greedy()
        });
        let begun = Instant::now();
        let mut elapsed = vec![Duration::ZERO; prompts.len()];
        let mut places = HashMap::new();
        for (place, (_, prompt)) in prompts.iter().enumerate() {
            let id = self.next;
            self.next += 1;
            places.insert(SeqId(id), place);
            let request = NewRequest {
                id: RequestId(id),
                worker: WorkerId::default(),
                prompt: prompt.clone(),
                turns: Arc::default(),
                choices: vec![SeqId(id)],
                params: params.clone(),
                seed: 0,
                max_tokens: self.max_tokens,
                priority: Priority::default(),
                deadline: None,
            };
            self.engine.submit(request, begun);
        }
        while let Some(deltas) = self.engine.step() {
            if let Some(error) = self.engine.take_failures().into_iter().next() {
                return Err(ParityError::Forward(error));
            }
            for (seq, position, row) in self.taps.try_iter() {
                records[places[&seq]].put(position, &row);
            }
            for (_, delta) in deltas {
                let place = places[&delta.seq];
                if apply(&mut records[place], delta)? {
                    elapsed[place] = begun.elapsed();
                }
            }
        }
        Ok(elapsed)
    }
}

/// Takes note of a step's news; true if the prompt has ended.
fn apply(record: &mut Record, delta: SeqDelta) -> Result<bool, ParityError> {
    record.extend_tokens(delta.tokens.iter().map(|token| token.id));
    let prompt = || record.name().to_owned();
    if let Some(cached) = delta.cached_tokens.filter(|&cached| cached != record.cached_tokens()) {
        return Err(ParityError::NotReused { prompt: prompt(), cached, expected: record.cached_tokens() });
    }
    match delta.finish {
        None => Ok(false),
        Some(Finish::Failed(error)) => Err(ParityError::Sequence { prompt: prompt(), error }),
        // A sequence that ended too early has positions without logits.
        Some(Finish::Stop | Finish::Length | Finish::Cancelled) => Ok(true),
    }
}
