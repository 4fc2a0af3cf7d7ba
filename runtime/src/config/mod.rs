//! Settings of the runtime, one struct per part, the same in `lmx.yaml` and in presets.

mod compute;
mod kv;
mod scheduler;

pub use compute::{ComputeConfig, ComputeMode, Executor, HugePages};
pub use kv::{BLOCK_TOKENS_DEFAULT, CodeBits, KvCodes, KvConfig, KvFormat};
pub use scheduler::SchedulerConfig;

/// A setting whose value cannot work, with what would.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {reason}")]
pub struct InvalidSetting {
    /// Path of the key in the configuration, such as `scheduler.prefill_chunk`.
    pub key: &'static str,
    /// What is wrong, with the limit.
    pub reason: String,
}
