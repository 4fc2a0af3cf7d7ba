use super::{Batch, ForwardError, ForwardShape};
use crate::plan::BlockMove;

/// Refuses a batch that does not fit the memory, the model or itself: indices that reach a device unchecked could
/// overwrite another sequence.
pub(super) fn check(batch: &Batch<'_>, shape: &ForwardShape) -> Result<(), ForwardError> {
    let fail = |message: String| Err(ForwardError::Failed(message));
    let tokens = batch.tokens.len();
    if batch.positions.len() != tokens {
        return fail(format!("{tokens} tokens have {} positions", batch.positions.len()));
    }
    if let Some(token) = batch.tokens.iter().find(|&&token| token as usize >= shape.vocab_size) {
        return fail(format!("token {token} is not below the vocabulary of {}", shape.vocab_size));
    }
    let mut next = 0;
    for row in batch.rows {
        let span = &row.span;
        if span.start != next || span.end <= span.start || span.end > tokens || row.context_tokens < span.len() {
            return fail(format!("row {span:?} of {} context tokens does not follow token {next}", row.context_tokens));
        }
        next = span.end;
        let first = row.context_tokens - span.len();
        if !batch.positions[span.clone()].iter().enumerate().all(|(i, &at)| at as usize == first + i) {
            return fail(format!("row {span:?} does not hold positions {first}..{}", row.context_tokens));
        }
        let Some(table) = row.table.get(..shape.spans.holding(row.context_tokens)) else {
            return fail(format!("a table of {} blocks for {} tokens", row.table.len(), row.context_tokens));
        };
        if let Some(block) = table.iter().find(|block| block.0 as usize >= shape.num_blocks) {
            return fail(format!("block {block} is not below the {} blocks of memory", shape.num_blocks));
        }
    }
    if next != tokens {
        return fail(format!("rows end at token {next} of {tokens}"));
    }
    if !batch.wanted.is_sorted_by(|a, b| a < b) {
        return fail("the wanted tokens are not in order".to_owned());
    }
    match batch.wanted.iter().find(|&&index| index as usize >= tokens) {
        Some(index) => fail(format!("logits of token {index} of {tokens} are wanted")),
        None => Ok(()),
    }
}

/// Refuses moves of blocks that are not there.
pub(super) fn check_moves(moves: &[BlockMove], shape: &ForwardShape) -> Result<(), ForwardError> {
    match moves.iter().flat_map(|m| [m.from, m.to]).find(|block| block.0 as usize >= shape.num_blocks) {
        Some(block) => Err(ForwardError::Failed(format!("block {block} is not below the {} blocks", shape.num_blocks))),
        None => Ok(()),
    }
}
