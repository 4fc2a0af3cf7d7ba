use super::InvalidSetting;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// Token positions per KV block unless configured.
pub const BLOCK_TOKENS_DEFAULT: usize = 16;

/// Memory for keys and values.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KvConfig {
    /// Token positions per block; a multiple of 16 for the native executor. Larger: shorter block tables, coarser prefix
    /// hits, more memory lost at a sequence's end.
    pub block_tokens: NonZeroUsize,
    /// Memory for keys and values of one model, in bytes. Wins over `memory_fraction`.
    pub memory_bytes: Option<u64>,
    /// The same as a share of the machine's memory, `(0, 0.9]`.
    pub memory_fraction: f64,
    /// Whether full blocks of ended sequences are kept and found again by later prompts.
    pub prefix_cache: bool,
}

impl Default for KvConfig {
    fn default() -> Self {
        Self {
            block_tokens: NonZeroUsize::new(BLOCK_TOKENS_DEFAULT).expect("the default is not zero"),
            memory_bytes: None,
            memory_fraction: 0.1,
            prefix_cache: true,
        }
    }
}

impl KvConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`InvalidSetting`] if the fraction lies outside of `(0, 0.9]` or a block is larger than 1024 tokens.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        if !(self.memory_fraction > 0.0 && self.memory_fraction <= 0.9) {
            return Err(InvalidSetting {
                key: "kv.memory_fraction",
                reason: format!("{} lies outside of (0, 0.9]", self.memory_fraction),
            });
        }
        if self.block_tokens.get() > 1024 {
            return Err(InvalidSetting {
                key: "kv.block_tokens",
                reason: format!("{} tokens per block are more than 1024", self.block_tokens),
            });
        }
        Ok(())
    }

    /// Bytes for keys and values on a machine with `machine_bytes` of memory.
    pub fn budget_bytes(&self, machine_bytes: u64) -> u64 {
        self.memory_bytes.unwrap_or((machine_bytes as f64 * self.memory_fraction) as u64)
    }
}
