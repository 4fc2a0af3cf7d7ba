//! From texts to what an encoder reads, and from what it gives to vectors and scores.

mod advice;
mod encoder;
mod error;
mod listwise;
mod rank;
mod yes_no;

pub use advice::{Advice, Dimensions};
pub use encoder::{Cut, Encoded, Purpose, Side, TextEncoder};
pub use error::PoolingError;
pub use listwise::Block;
pub use rank::{Documents, Relevance, Reranking};

#[cfg(test)]
mod tests;
