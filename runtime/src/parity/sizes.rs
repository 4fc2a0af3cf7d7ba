use super::inputs::ParityInputs;
use crate::config::{BLOCK_TOKENS_DEFAULT, SchedulerConfig};
use crate::kv::BlockSpans;
use crate::runner::MemorySize;
use std::num::NonZeroUsize;

/// How the prompts are put through the scheduler. All ways must give the same numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ParityOptions {
    /// Tokens of a prompt per step; `None`: all at once.
    pub chunk: Option<NonZeroUsize>,
    /// Whether all prompts are submitted at once rather than one after the other.
    pub batch: bool,
    /// Whether each prompt is computed once more over its cached prefix.
    pub reuse_prefix: bool,
}

/// Long enough that no prompt waits for the decodes of another: chunks shall be as long as they were asked for.
const NO_STALL_BUDGET_MS: u64 = 3_600_000;

/// Snapshots of recurrent states that one prompt can leave.
const SNAPSHOTS: usize = 4;

/// Memory: enough for all that runs at once, and once more for what stays cached meanwhile, so that nothing is preempted.
pub(super) fn memory_size(inputs: &ParityInputs, options: ParityOptions, spans: BlockSpans) -> MemorySize {
    let blocks = inputs.prompts.values().map(|ids| spans.holding(ids.len() + inputs.max_tokens()));
    let at_once: usize = if options.batch { blocks.sum() } else { blocks.max().unwrap_or(1) };
    // An admission leaves a block for each running sequence.
    let num_blocks = NonZeroUsize::new(2 * at_once + inputs.prompts.len()).unwrap_or(NonZeroUsize::MIN);
    let sequences = if options.batch { inputs.prompts.len() } else { 1 };
    MemorySize { num_blocks, num_states: sequences + SNAPSHOTS * inputs.prompts.len() }
}

/// A scheduler that computes chunks of exactly the size asked for.
pub(super) fn scheduler_config(inputs: &ParityInputs, options: ParityOptions) -> SchedulerConfig {
    let block_tokens = BLOCK_TOKENS_DEFAULT;
    let longest = inputs.prompts.values().map(Vec::len).max().unwrap_or(1);
    let sequences = if options.batch { inputs.prompts.len() } else { 1 };
    let chunk = options.chunk.map_or(longest.max(block_tokens), NonZeroUsize::get);
    let positive = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
    SchedulerConfig {
        max_sequences: positive(sequences),
        max_batched_tokens: positive(sequences * (1 + chunk) + block_tokens),
        prefill_chunk: positive(chunk),
        decode_stall_budget_ms: NO_STALL_BUDGET_MS,
        ..SchedulerConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheduler_gets_a_configuration_that_holds() {
        let prompts = [("a".to_owned(), vec![0; 3]), ("b".to_owned(), vec![0; 400])].into();
        let inputs = ParityInputs { prompts, n_greedy: 8 };
        for chunk in [None, NonZeroUsize::new(16), NonZeroUsize::new(64)] {
            for batch in [false, true] {
                let options = ParityOptions { chunk, batch, reuse_prefix: true };
                scheduler_config(&inputs, options).validate(BLOCK_TOKENS_DEFAULT).unwrap();
            }
        }
    }
}
