//! A step that does not fit the device's memory, computed in two parts.

use crate::runner::{Batch, BatchRow, Forward, ForwardError};

/// Computes `batch` as two batches of about half the tokens, one after the other. A row may be cut: its second half finds
/// the first one in KV memory.
///
/// # Errors
/// [`ForwardError`] of either half.
pub(super) fn forward_in_halves(
    forward: &mut dyn Forward,
    batch: &Batch<'_>,
    logits: &mut Vec<f32>,
) -> Result<(), ForwardError> {
    let middle = batch.tokens.len().div_ceil(2);
    let mut first = Vec::new();
    forward_span(forward, batch, 0, middle, &mut first)?;
    forward_span(forward, batch, middle, batch.tokens.len(), logits)?;
    logits.splice(0..0, first);
    Ok(())
}

/// Computes the tokens `begin..end` of `batch`.
fn forward_span(
    forward: &mut dyn Forward,
    batch: &Batch<'_>,
    begin: usize,
    end: usize,
    logits: &mut Vec<f32>,
) -> Result<(), ForwardError> {
    let rows: Vec<BatchRow<'_>> = batch.rows.iter().filter_map(|row| cut(row, begin, end)).collect();
    let wanted = batch.wanted.iter().filter(|&&at| (begin..end).contains(&(at as usize)));
    let wanted: Vec<u32> = wanted.map(|&at| at - begin as u32).collect();
    let part = Batch {
        tokens: &batch.tokens[begin..end],
        positions: &batch.positions[begin..end],
        rows: &rows,
        wanted: &wanted,
    };
    forward.forward(&part, logits)
}

fn cut<'a>(row: &BatchRow<'a>, begin: usize, end: usize) -> Option<BatchRow<'a>> {
    let span = row.span.start.max(begin)..row.span.end.min(end);
    let left_out = row.span.end.checked_sub(span.end)?;
    (!span.is_empty()).then(|| BatchRow {
        span: span.start - begin..span.end - begin,
        context_tokens: row.context_tokens - left_out,
        table: row.table,
        state: row.state,
    })
}
