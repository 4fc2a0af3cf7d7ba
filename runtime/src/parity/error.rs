use crate::checkpoint::LoadError;
use crate::runner::ForwardError;
use crate::sequence::SequenceError;

/// Why there are no numbers.
#[derive(Debug, thiserror::Error)]
pub enum ParityError {
    /// The inputs are not what can be computed: mend the file.
    #[error("invalid inputs: {0}")]
    Inputs(String),
    /// A prompt does not fit: shorten it, or ask for fewer tokens.
    #[error("prompt `{prompt}` has {tokens} tokens and {n_greedy} shall follow, the model takes {max}")]
    TooLong {
        /// Its name.
        prompt: String,
        /// Its length.
        tokens: usize,
        /// Tokens to generate.
        n_greedy: usize,
        /// Tokens the model takes.
        max: usize,
    },
    /// The KV memory could not be made: use a smaller batch or shorter prompts.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A forward pass failed: the executor says why.
    #[error("the forward pass failed: {0}")]
    Forward(ForwardError),
    /// A prompt was not computed to its end, without a failure of the forward pass: its logits are not finite.
    #[error("prompt `{prompt}` failed: {error}")]
    Sequence {
        /// Its name.
        prompt: String,
        /// What the scheduler says.
        error: SequenceError,
    },
    /// The prefix index did not hold what was computed before: the reuse of prefixes is broken.
    #[error("prompt `{prompt}`: {cached} tokens were found in the prefix index, expected {expected}")]
    NotReused {
        /// Its name.
        prompt: String,
        /// Tokens found.
        cached: usize,
        /// Tokens in the full blocks before its last token.
        expected: usize,
    },
    /// A position was never computed: the scheduler is broken.
    #[error("prompt `{prompt}` ended without logits for position {position}")]
    Incomplete {
        /// Its name.
        prompt: String,
        /// The position whose token was not predicted.
        position: usize,
    },
}
