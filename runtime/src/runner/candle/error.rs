use crate::checkpoint::LoadError;
use crate::runner::ForwardError;

/// An error of the device while `what` was made.
pub(super) fn device_error(what: &str) -> impl Fn(candle_core::Error) -> LoadError + '_ {
    move |error| LoadError::Device { what: what.to_owned(), message: error.to_string() }
}

/// An error of the device in a step of `tokens` tokens.
pub(super) fn step_error(tokens: usize) -> impl Fn(candle_core::Error) -> ForwardError {
    move |error| {
        let message = error.to_string();
        let lower = message.to_lowercase();
        if lower.contains("out of memory") || lower.contains("out_of_memory") {
            ForwardError::OutOfMemory { tokens, message }
        } else {
            ForwardError::Failed(message)
        }
    }
}
