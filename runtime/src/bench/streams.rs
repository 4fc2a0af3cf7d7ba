use crate::ids::{BlockId, StateId};
use crate::kv::BlockSpans;
use crate::runner::{Batch, BatchRow, Forward, ForwardError, RowState};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Sequences with fixed places in KV memory, which can be computed again from any position.
pub(super) struct Streams {
    forward: Box<dyn Forward>,
    tables: Vec<Vec<BlockId>>,
    logits: Vec<f32>,
}

impl Streams {
    /// Blocks that sequences of these lengths take.
    pub(super) fn blocks(lengths: &[usize], spans: BlockSpans) -> usize {
        lengths.iter().map(|length| spans.holding(*length)).sum()
    }

    /// One sequence of each length, over an executor that has room for them.
    pub(super) fn new(forward: Box<dyn Forward>, lengths: &[usize]) -> Self {
        let shape = forward.shape();
        assert!(Self::blocks(lengths, shape.spans) <= shape.num_blocks, "sequences without a place");
        let mut blocks = (0..).map(BlockId);
        let table = |length: &usize| blocks.by_ref().take(shape.spans.holding(*length)).collect();
        Self { forward, tables: lengths.iter().map(table).collect(), logits: Vec::new() }
    }

    /// Computes the first `tokens` of sequence `which`, `chunk` at a time, and the logits of the last one.
    pub(super) fn prefill(&mut self, which: usize, tokens: usize, chunk: usize) -> Result<Duration, ForwardError> {
        let begun = Instant::now();
        for start in (0..tokens).step_by(chunk) {
            let end = tokens.min(start + chunk);
            self.step(which..which + 1, start..end, end == tokens)?;
        }
        Ok(begun.elapsed())
    }

    /// Computes `tokens` of each of the sequences one by one, all together, after the first `context` ones.
    pub(super) fn decode(
        &mut self,
        which: Range<usize>,
        context: usize,
        tokens: usize,
    ) -> Result<Duration, ForwardError> {
        let begun = Instant::now();
        for position in context..context + tokens {
            self.step(which.clone(), position..position + 1, true)?;
        }
        Ok(begun.elapsed())
    }

    /// One step: the same positions of each sequence; logits of the last one of each if `wanted`.
    fn step(&mut self, which: Range<usize>, at: Range<usize>, wanted: bool) -> Result<(), ForwardError> {
        let vocab = self.forward.shape().vocab_size;
        let all = which.clone().flat_map(|stream| at.clone().map(move |position| (stream, position)));
        let tokens: Vec<u32> = all.clone().map(|(stream, position)| token(stream, position, vocab)).collect();
        let positions: Vec<u32> = all.map(|(_, position)| position as u32).collect();
        let recurrent = self.forward.shape().num_states > 0;
        let state = |stream: usize| recurrent.then_some(RowState { place: StateId(stream as u32), saves: &[] });
        let row = |(i, stream): (usize, usize)| BatchRow {
            span: i * at.len()..(i + 1) * at.len(),
            context_tokens: at.end,
            table: &self.tables[stream],
            state: state(stream),
        };
        let rows: Vec<BatchRow<'_>> = which.enumerate().map(row).collect();
        let last: Vec<u32> = rows.iter().filter(|_| wanted).map(|row| row.span.end as u32 - 1).collect();
        let batch = Batch { tokens: &tokens, positions: &positions, rows: &rows, wanted: &last };
        self.forward.forward(&batch, &mut self.logits)
    }
}

/// Some token of the vocabulary: speed does not depend on which.
fn token(stream: usize, position: usize, vocab: usize) -> u32 {
    ((stream * 7_919 + position * 104_729 + 13) % vocab) as u32
}
