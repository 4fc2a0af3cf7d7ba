//! Checkpoints: where a model's files are, whether they are all there, and what each tensor is.
//!
//! [`Checkpoint::open`] checks everything before anything is allocated: the index against the shards, offsets, types
//! and shapes. What passes can be read without further doubt; what does not is a [`LoadError`] that names the tensor or
//! the file.

mod error;
mod files;
mod fingerprint;
mod open;
mod shard;
mod shards;
mod source;
mod stored;
mod tensor;

pub use error::{LoadError, MissingFile};
pub use open::Checkpoint;
pub use source::{EmbeddedFiles, Source};
pub use stored::Stored;
pub use tensor::{TensorView, element_bytes, is_float};

pub use safetensors::Dtype;
