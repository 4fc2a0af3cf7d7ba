use crate::text::TextError;

/// Why a text cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum PoolingError {
    /// It is too long: shorten it, or ask for it to be cut.
    #[error("the text has {got} tokens, the model takes {max}")]
    TooLong {
        /// Its tokens.
        got: usize,
        /// Those that the model takes.
        max: usize,
    },
    /// It leaves nothing to read.
    #[error("the text has no tokens")]
    Empty,
    /// An id is no token of the model.
    #[error("{id} is no token, the model has {vocab}")]
    NoToken {
        /// The id.
        id: u32,
        /// Rows of the embedding.
        vocab: usize,
    },
    /// The model has no such prompt: name one that it has.
    #[error("the model has no prompt `{asked}`, {}", names_of(.known))]
    NoPrompt {
        /// What was asked for.
        asked: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// The model's vectors do not have this length: ask for another one.
    #[error("{asked} dimensions are asked for, {allowed}")]
    Dimensions {
        /// What was asked for.
        asked: usize,
        /// What the model can do.
        allowed: String,
    },
    /// The tokenizer refused.
    #[error(transparent)]
    Tokenizer(#[from] TextError),
}

fn names_of(names: &[String]) -> String {
    match names {
        [] => "it has none".to_owned(),
        names => format!("it has {}", names.join(", ")),
    }
}
