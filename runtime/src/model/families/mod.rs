//! The families: one small file each, holding only what differs.

mod deepseek;
mod deepseek_sparse;
mod glm4;
mod glm4_moe;
mod llama;
mod minimax_m2;
mod mistral;
mod qwen2;
mod qwen3;
mod qwen3_moe;
mod qwen3_next;

pub(super) use deepseek::{DEEPSEEK_V3, GLM4_MOE_LITE, KIMI_K2};
pub(super) use deepseek_sparse::{DEEPSEEK_V32, GLM_MOE_DSA};
pub(super) use glm4::GLM4;
pub(super) use glm4_moe::GLM4_MOE;
pub(super) use llama::LLAMA;
pub(super) use minimax_m2::MINIMAX_M2;
pub(super) use mistral::{MINISTRAL3, MISTRAL};
pub(super) use qwen2::QWEN2;
pub(super) use qwen3::QWEN3;
pub(super) use qwen3_moe::QWEN3_MOE;
pub(super) use qwen3_next::QWEN3_NEXT;
