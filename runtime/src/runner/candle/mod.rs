//! The candle executor: any device of candle, candle's own operators only.
//!
//! The same code runs on CPUs, Metal and CUDA, so what the parity tests prove on a CPU is the arithmetic of the others.
//! Weights ([`CandleModel`]) are immutable and shared; [`CandleForward`] owns the KV memory and can be made anew without
//! reading a file.

mod attention;
mod blocks;
mod decoder;
mod delta;
mod devices;
mod embedding;
mod error;
mod forward;
mod gguf;
mod indexer;
mod kv_memory;
mod latent;
mod linear;
mod load;
mod memory;
mod mlp;
mod norm;
mod report;
mod rope_table;
mod rows;
mod step;

pub use decoder::CandleModel;
pub use devices::pick;
pub use forward::CandleForward;
pub use memory::{MemoryEstimate, estimate_memory, kv_bytes_per_token, state_bytes};
pub use report::LoadReport;
