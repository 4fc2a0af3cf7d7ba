use super::ForwardError;

/// One text of a batch of an encoder.
#[derive(Debug, Clone, Copy)]
pub struct EncodeRow<'a> {
    /// Token ids, at least one.
    pub tokens: &'a [u32],
    /// How many of them belong to its first segment; the others belong to the second.
    pub first_segment: usize,
    /// Tokens whose rows are wanted, ascending, where the model's head takes marked ones; of other heads none.
    pub marks: &'a [u32],
}

/// Turns whole texts into vectors. Keeps nothing of them.
pub trait Encode: Send {
    /// Length of a vector.
    fn width(&self) -> usize;

    /// Writes the vectors of all rows to `vectors`, `[results, width]` (it is cleared first, its capacity is kept): one for
    /// each row, or one for each mark.
    ///
    /// A row's vectors depend on its own tokens only, bit for bit.
    ///
    /// # Errors
    /// [`ForwardError`] for rows that do not fit the model, or if the device refused.
    fn encode(&mut self, rows: &[EncodeRow<'_>], vectors: &mut Vec<f32>) -> Result<(), ForwardError>;
}

/// What rows of a batch have to fit.
#[derive(Debug, Clone, Copy)]
pub(super) struct EncoderLimits {
    pub(super) vocab: usize,
    /// Positions that there are.
    pub(super) positions: usize,
    /// Whether the head takes marked tokens.
    pub(super) marks: bool,
}

/// Refuses rows that do not fit the model: indices that reach a device unchecked could read anything.
pub(super) fn check_rows(rows: &[EncodeRow<'_>], limits: &EncoderLimits) -> Result<(), ForwardError> {
    for row in rows {
        let tokens = row.tokens.len();
        let problem = if tokens == 0 {
            "a text without tokens".to_owned()
        } else if tokens > limits.positions {
            format!("a text of {tokens} tokens, the model has {} positions", limits.positions)
        } else if let Some(token) = row.tokens.iter().find(|&&token| token as usize >= limits.vocab) {
            format!("token {token} is not below the vocabulary of {}", limits.vocab)
        } else if row.first_segment > tokens {
            format!("a first segment of {} tokens in a text of {tokens}", row.first_segment)
        } else if row.marks.is_empty() == limits.marks {
            format!(
                "{} marked tokens, where the model takes {}",
                row.marks.len(),
                if limits.marks { "some" } else { "none" }
            )
        } else if !row.marks.is_sorted_by(|a, b| a < b) || row.marks.last().is_some_and(|&mark| mark as usize >= tokens)
        {
            "marked tokens that are not in order, or not there".to_owned()
        } else {
            continue;
        };
        return Err(ForwardError::Failed(problem));
    }
    Ok(())
}
