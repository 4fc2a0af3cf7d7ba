use super::{Batch, ForwardError, ForwardShape, RowState};
use crate::plan::{BlockMove, StateMove};

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
        match &row.state {
            None if shape.num_states > 0 => return fail(format!("row {span:?} has no place for its recurrent states")),
            Some(RowState { place, saves }) if shape.num_states > 0 => {
                let mut places = std::iter::once(*place).chain(saves.iter().map(|save| save.to));
                if let Some(place) = places.find(|place| place.0 as usize >= shape.num_states) {
                    return fail(format!("state {place} is not below the {} places of memory", shape.num_states));
                }
                if !saves.is_sorted_by(|a, b| a.tokens < b.tokens) {
                    return fail(format!("the snapshots of row {span:?} are not in order"));
                }
            }
            _ => {}
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

/// Refuses moves of recurrent states that are not there.
pub(super) fn check_states(moves: &[StateMove], shape: &ForwardShape) -> Result<(), ForwardError> {
    match moves.iter().flat_map(|m| [m.from, m.to]).find(|state| state.0 as usize >= shape.num_states) {
        Some(state) => Err(ForwardError::Failed(format!("state {state} is not below the {} places", shape.num_states))),
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
