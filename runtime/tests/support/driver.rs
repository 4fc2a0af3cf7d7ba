use super::compare::argmax;
use lmx_runtime::checkpoint::Checkpoint;
use lmx_runtime::config::{ComputeMode, KvFormat};
use lmx_runtime::ids::{BlockId, StateId};
use lmx_runtime::kernels::Form;
use lmx_runtime::runner::candle::{CandleForward, CandleModel};
use lmx_runtime::runner::native::{LoadOptions, NativeForward, NativeModel};
use lmx_runtime::runner::{Batch, BatchRow, Forward, MemorySize, RowState, Threads};
use std::cell::Cell;
use std::num::NonZeroUsize;

const BLOCK_TOKENS: usize = 16;
const NUM_BLOCKS: usize = 256;
const NUM_STATES: usize = 64;

/// A `Forward` with just enough around it to run prompts: hands out blocks and states, never takes them back.
pub(crate) struct Driver<F = CandleForward> {
    pub(crate) forward: F,
    free: Vec<BlockId>,
    states: Cell<u32>,
}

/// A sequence in the driver's care.
pub(crate) struct Sequence {
    pub(crate) computed: usize,
    pub(crate) table: Vec<BlockId>,
    pub(crate) state: StateId,
}

/// Tokens that a sequence computes in a step.
pub(crate) struct Work<'a> {
    pub(crate) sequence: &'a mut Sequence,
    pub(crate) tokens: &'a [u32],
}

pub(crate) fn load(checkpoint: &Checkpoint, mode: ComputeMode) -> Driver {
    let device = lmx_runtime::runner::candle::pick();
    let model = CandleModel::load(checkpoint, &device, mode, &mut |_| {}).unwrap();
    Driver::new(CandleForward::new(model, MEMORY, size(BLOCK_TOKENS)).unwrap())
}

pub(crate) fn native(checkpoint: &Checkpoint, mode: ComputeMode, form: Form, threads: usize) -> Driver<NativeForward> {
    native_with(checkpoint, mode, form, &Threads::anywhere(size(threads)).into(), &KvFormat::default())
}

pub(crate) fn native_with(
    checkpoint: &Checkpoint,
    mode: ComputeMode,
    form: Form,
    options: &LoadOptions,
    format: &KvFormat,
) -> Driver<NativeForward> {
    let model = NativeModel::load(checkpoint, mode, options, &mut |_| {}).unwrap();
    Driver::new(NativeForward::new(model, form, &options.threads, MEMORY, format).unwrap())
}

const MEMORY: MemorySize =
    MemorySize { num_blocks: NonZeroUsize::new(NUM_BLOCKS).expect("not zero"), num_states: NUM_STATES };

fn size(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

impl<F: Forward> Driver<F> {
    fn new(forward: F) -> Self {
        // Neighbouring positions never get neighbouring blocks, but for the first few sequences: both ways of reading run.
        let ordered = (0..NUM_BLOCKS as u32 / 4).rev();
        let scattered =
            (0..NUM_BLOCKS as u32 * 3 / 4).map(|i| i * 97 % (NUM_BLOCKS as u32 * 3 / 4) + NUM_BLOCKS as u32 / 4);
        Self { forward, free: scattered.chain(ordered).map(BlockId).collect(), states: Cell::new(0) }
    }

    pub(crate) fn vocab(&self) -> usize {
        self.forward.shape().vocab_size
    }

    pub(crate) fn start(&self) -> Sequence {
        let state = StateId(self.states.replace(self.states.get() + 1));
        Sequence { computed: 0, table: Vec::new(), state }
    }

    /// One step: the logits of all tokens, `[tokens, vocab]`.
    pub(crate) fn step(&mut self, work: &mut [Work<'_>]) -> Vec<f32> {
        let (mut tokens, mut positions, mut spans) = (Vec::new(), Vec::new(), Vec::new());
        for Work { sequence, tokens: new } in work.iter_mut() {
            let start = tokens.len();
            tokens.extend_from_slice(new);
            positions.extend((0..new.len()).map(|i| (sequence.computed + i) as u32));
            spans.push(start..tokens.len());
            sequence.computed += new.len();
            while sequence.table.len() < self.forward.shape().spans.holding(sequence.computed) {
                sequence.table.push(self.free.pop().expect("the driver has blocks for every fixture"));
            }
        }
        let recurrent = self.forward.shape().num_states > 0;
        let rows: Vec<BatchRow<'_>> = work
            .iter()
            .zip(spans)
            .map(|(work, span)| {
                let Sequence { computed, table, state } = &*work.sequence;
                let state = recurrent.then_some(RowState { place: *state, saves: &[] });
                BatchRow { span, context_tokens: *computed, table, state }
            })
            .collect();
        let wanted: Vec<u32> = (0..tokens.len() as u32).collect();
        let batch = Batch { tokens: &tokens, positions: &positions, rows: &rows, wanted: &wanted };
        let mut logits = Vec::new();
        self.forward.forward(&batch, &mut logits).unwrap();
        logits
    }

    /// The logits of a whole prompt, computed `chunk` tokens at a time.
    pub(crate) fn prompt(&mut self, ids: &[u32], chunk: usize) -> (Sequence, Vec<f32>) {
        let mut sequence = self.start();
        let mut logits = Vec::new();
        for tokens in ids.chunks(chunk) {
            logits.extend(self.step(&mut [Work { sequence: &mut sequence, tokens }]));
        }
        (sequence, logits)
    }

    /// Decodes greedily: the tokens, and the logits that each was taken from.
    pub(crate) fn greedy(&mut self, ids: &[u32], steps: usize) -> (Vec<u32>, Vec<f32>) {
        let vocab = self.vocab();
        let (mut sequence, logits) = self.prompt(ids, usize::MAX);
        let mut row = logits[logits.len() - vocab..].to_vec();
        let (mut tokens, mut all) = (Vec::new(), Vec::new());
        for _ in 0..steps {
            let token = argmax(&row) as u32;
            tokens.push(token);
            all.extend_from_slice(&row);
            row = self.step(&mut [Work { sequence: &mut sequence, tokens: &[token] }]);
        }
        (tokens, all)
    }

    /// The logits of several prompts that run together, `chunk` tokens of each at a time: they end in different steps.
    pub(crate) fn together(&mut self, prompts: &[&[u32]], chunk: usize) -> Vec<Vec<f32>> {
        let vocab = self.vocab();
        let mut sequences: Vec<_> = prompts.iter().map(|_| self.start()).collect();
        let mut logits: Vec<Vec<f32>> = vec![Vec::new(); sequences.len()];
        for step in 0.. {
            let (mut work, mut owners) = (Vec::new(), Vec::new());
            for (i, (sequence, prompt)) in sequences.iter_mut().zip(prompts).enumerate() {
                if let Some(tokens) = prompt.chunks(chunk).nth(step) {
                    work.push(Work { sequence, tokens });
                    owners.push((i, tokens.len() * vocab));
                }
            }
            if work.is_empty() {
                break;
            }
            let mut rest = &self.step(&mut work)[..];
            for (i, elements) in owners {
                let (own, others) = rest.split_at(elements);
                logits[i].extend_from_slice(own);
                rest = others;
            }
        }
        logits
    }
}
