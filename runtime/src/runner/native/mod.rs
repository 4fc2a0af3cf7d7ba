//! The native executor: CPUs, own kernels over rearranged weights.
//!
//! Weights ([`NativeModel`]) are immutable and shared; [`NativeForward`] owns the KV memory and a team of threads. A row's
//! results depend on its own tokens only: not on what else is in the batch, not on chunks, threads or instructions.

mod buffers;
mod forward;
mod kv;
mod memory;
mod model;
mod rope_table;
mod step;
mod weights;
mod workbench;

pub use forward::NativeForward;
pub use kv::kv_bytes_per_token;
pub use model::NativeModel;
pub use weights::weights_bytes;
pub use workbench::{AttentionBank, ColdMemory, ProductBank, ProductShape, Workbench};
