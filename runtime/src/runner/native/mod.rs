//! The native executor: CPUs, own kernels over rearranged weights.
//!
//! A model is found in its checkpoint first, all of it, and then packed into tiles by all threads at once; a mapped model
//! stays as it was found, and each product makes the tiles that it reads.
//!
//! Weights ([`NativeModel`]) are immutable and shared; [`NativeForward`] owns the KV memory and a team of threads. A row's
//! results depend on its own tokens only: not on what else is in the batch, not on chunks, threads or instructions.

mod buffers;
mod encoder;
mod find;
mod forward;
mod kv;
mod load;
mod memory;
mod model;
mod pack;
mod products;
mod rope_table;
mod step;
mod stored;
mod weights;
mod workbench;

pub use encoder::{NativeEncode, NativeEncoder, encoder_bytes};
pub use forward::NativeForward;
pub use kv::kv_shape;
pub use model::{LoadOptions, NativeModel};
pub use weights::weights_bytes;
pub use workbench::{AttentionBank, ColdMemory, ProductBank, ProductShape, Workbench};
