use super::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;
use std::time::Duration;

/// What models may take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryConfig {
    /// Percent of the machine's memory that weights and kept keys and values may take, all models together.
    pub max_percent: u8,
    /// Seconds without a request after which an embedding or reranking model that a request has loaded goes again. Absent:
    /// it stays.
    pub ttl_sec: Option<NonZeroU64>,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { max_percent: 90, ttl_sec: None }
    }
}

impl MemoryConfig {
    /// [`ttl_sec`](Self::ttl_sec) as a duration.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl_sec.map(|seconds| Duration::from_secs(seconds.get()))
    }

    /// Bytes that models may take of a machine with so many.
    pub fn may_take(&self, machine_bytes: u64) -> u64 {
        (u128::from(machine_bytes) * u128::from(self.max_percent) / 100) as u64
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        match self.max_percent {
            1..=100 => Vec::new(),
            other => vec![Problem::new("memory.max_percent", format!("{other} does not lie in 1 to 100"))],
        }
    }
}
