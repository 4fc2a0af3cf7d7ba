use super::InvalidSetting;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;
use std::time::Duration;

/// How sequences share the engine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SchedulerConfig {
    /// Sequences that may be in the engine at once. More: better throughput, longer steps for each.
    pub max_sequences: NonZeroUsize,
    /// Tokens per step: decode rows first, the rest prompt chunks. More: faster prompts. Fewer: steadier tokens.
    pub max_batched_tokens: NonZeroUsize,
    /// Tokens of one prompt per step. Rounded down to whole KV blocks except at the prompt's end.
    pub prefill_chunk: NonZeroUsize,
    /// Requests that may wait for a place; beyond it a request is refused with 429.
    pub max_queue: usize,
    /// Seconds a request may wait for a place before it ends with 408.
    pub queue_timeout_sec: u64,
    /// Milliseconds that prompts of others may hold up a stream between two of its tokens. Prompt chunks shrink to
    /// keep it; at least one KV block is computed per step.
    pub decode_stall_budget_ms: u64,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        let at_least_one = |n| NonZeroUsize::new(n).expect("the default is not zero");
        Self {
            max_sequences: at_least_one(64),
            max_batched_tokens: at_least_one(2048),
            prefill_chunk: at_least_one(512),
            max_queue: 256,
            queue_timeout_sec: 30,
            decode_stall_budget_ms: 200,
        }
    }
}

impl SchedulerConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`InvalidSetting`] if a step could not hold one decode row per sequence and one block of a prompt, or if a chunk
    /// is smaller than a block (`block_tokens`).
    pub fn validate(&self, block_tokens: usize) -> Result<(), InvalidSetting> {
        let least = self.max_sequences.get() + block_tokens;
        if self.max_batched_tokens.get() < least {
            return Err(InvalidSetting {
                key: "scheduler.max_batched_tokens",
                reason: format!(
                    "{} is too few for {} sequences and one block of {block_tokens} prompt tokens; give at least {least}",
                    self.max_batched_tokens, self.max_sequences
                ),
            });
        }
        if self.prefill_chunk.get() < block_tokens {
            return Err(InvalidSetting {
                key: "scheduler.prefill_chunk",
                reason: format!("{} is less than one block; give at least {block_tokens}", self.prefill_chunk),
            });
        }
        Ok(())
    }

    /// [`queue_timeout_sec`](Self::queue_timeout_sec) as a duration.
    pub fn queue_timeout(&self) -> Duration {
        Duration::from_secs(self.queue_timeout_sec)
    }

    /// [`decode_stall_budget_ms`](Self::decode_stall_budget_ms) as a duration.
    pub fn decode_stall_budget(&self) -> Duration {
        Duration::from_millis(self.decode_stall_budget_ms)
    }
}
