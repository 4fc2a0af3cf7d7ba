//! Encoders on a CPU: whole texts at once, packed without padding, and nothing is kept of them.

mod buffers;
mod forward;
mod groups;
mod head;
mod model;
mod step;

pub use forward::NativeEncode;
pub use model::{NativeEncoder, encoder_bytes};
