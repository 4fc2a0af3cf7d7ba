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
    /// Bits per component of keys and values, 16, 8 or 4; fewer only with the native executor. Lower: more context in the
    /// same memory, and less to read for each token; the error stands in `docs/numerics.md`. In mode `f32` 16 stands for
    /// float32.
    pub bits: u32,
    /// Components of a head that share scale and bias, 32, 64 or 128; it must divide the head's width. Smaller: more
    /// exact, and 32 bits more for each group of a key or value. Without effect at 16 bits.
    pub group_size: usize,
    /// Positions at the start of each sequence that stay at 16 bits, rounded up to whole blocks. Higher: more exact where
    /// much attention goes to the beginning, more memory. Blocks behind it hold 2 to 8 times as many positions, so that
    /// prefix hits are coarser there. Without effect at 16 bits.
    pub quantized_start: u32,
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
            bits: 16,
            group_size: 64,
            quantized_start: 0,
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
    /// [`InvalidSetting`] if the fraction lies outside of `(0, 0.9]`, a block is larger than 1024 tokens, or there are no
    /// such bits or groups.
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
        if ![4, 8, 16].contains(&self.bits) {
            return Err(InvalidSetting { key: "kv.bits", reason: format!("{} is none of 4, 8, 16", self.bits) });
        }
        if ![32, 64, 128].contains(&self.group_size) {
            let reason = format!("{} is none of 32, 64, 128", self.group_size);
            return Err(InvalidSetting { key: "kv.group_size", reason });
        }
        Ok(())
    }

    /// How keys and values are written, if [`validate`](Self::validate) has nothing against it.
    pub fn format(&self) -> KvFormat {
        let bits = match self.bits {
            4 => Some(CodeBits::Four),
            8 => Some(CodeBits::Eight),
            _ => None,
        };
        let codes = bits.map(|bits| KvCodes { bits, group: self.group_size });
        KvFormat { block_tokens: self.block_tokens, codes, quantized_start: self.quantized_start as usize }
    }

    /// Bytes for keys and values on a machine with `machine_bytes` of memory.
    pub fn budget_bytes(&self, machine_bytes: u64) -> u64 {
        self.memory_bytes.unwrap_or((machine_bytes as f64 * self.memory_fraction) as u64)
    }
}

/// How keys and values are written to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvFormat {
    /// Positions per block; of blocks before `quantized_start`, if there are any.
    pub block_tokens: NonZeroUsize,
    /// How they are quantised; `None`: they stay floats.
    pub codes: Option<KvCodes>,
    /// Positions before this one stay floats, and so do those that share a block with them.
    pub quantized_start: usize,
}

impl Default for KvFormat {
    fn default() -> Self {
        KvConfig::default().format()
    }
}

/// Affine groups along a head: `x ≈ scale * code + bias`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvCodes {
    /// Width of a code.
    pub bits: CodeBits,
    /// Components that share scale and bias, a multiple of 32.
    pub group: usize,
}

/// Width of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeBits {
    /// Two codes in a byte.
    Four,
    /// A code in a byte.
    Eight,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_groups_that_no_kernel_has_are_refused_by_name() {
        let refused = |config: KvConfig| config.validate().unwrap_err();
        for bits in [0, 2, 5, 32] {
            assert_eq!(refused(KvConfig { bits, ..KvConfig::default() }).key, "kv.bits");
        }
        for group_size in [0, 16, 48, 256] {
            let error = refused(KvConfig { group_size, ..KvConfig::default() });
            assert_eq!((error.key, error.reason), ("kv.group_size", format!("{group_size} is none of 32, 64, 128")));
        }
        for (bits, group_size) in [(4, 32), (8, 64), (16, 128)] {
            KvConfig { bits, group_size, ..KvConfig::default() }.validate().unwrap();
        }
    }
}
