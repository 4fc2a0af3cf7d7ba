//! The models on disk: finding one by the name that people use, and all there are.

mod listing;
mod resolve;

pub use listing::{Listed, Place, list};
pub use resolve::resolve;
