//! The families: one small file each, holding only what differs.

mod llama;
mod mistral;
mod qwen2;
mod qwen3;

pub(super) use llama::LLAMA;
pub(super) use mistral::MISTRAL;
pub(super) use qwen2::QWEN2;
pub(super) use qwen3::QWEN3;
