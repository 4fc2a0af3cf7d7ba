//! Loaded models: how they come to be, how their prompts are made, and how a name finds one.

mod encoder;
mod encoders;
mod load;
mod loaded;
mod registry;
mod room;
mod text_files;
mod text_pool;
mod thinking;

pub use encoder::{EncoderModel, EncoderParts, LoadedEncoder, Ranked};
pub use encoders::Encoders;
pub use load::{LoadFailure, Loader, Prepared, Served};
pub(crate) use loaded::unix_seconds;
pub use loaded::{ChatPrompt, LoadedModel, ModelParts};
pub use registry::Registry;
pub(crate) use text_files::{has_tokenizer, read_template, read_tokenizer};
pub use text_pool::TextPool;
