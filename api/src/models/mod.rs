//! Loaded models: how they come to be, how their prompts are made, and how a name finds one.

mod load;
mod loaded;
mod registry;
mod text_pool;

pub use load::{LoadFailure, Loader, Prepared};
pub(crate) use loaded::unix_seconds;
pub use loaded::{LoadedModel, ModelParts};
pub use registry::Registry;
pub use text_pool::TextPool;
