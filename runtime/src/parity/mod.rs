//! Numbers for checks against other implementations, computed as requests are: scheduler, block accounts and runner,
//! with a tap on the logits.
//!
//! Inputs and outputs are those of the generator of the parity fixtures: token ids in, logits of every position and a
//! greedy continuation out.

mod drive;
mod encode;
mod error;
mod inputs;
mod output;
mod record;
mod sizes;

pub use drive::run;
pub use encode::EncoderInputs;
pub use error::ParityError;
pub use inputs::ParityInputs;
pub use output::{Tensor, write, write_tensors};
pub use record::PromptNumbers;
pub use sizes::ParityOptions;

#[cfg(test)]
mod tests;
