//! How the memory for what is kept of sequences is divided: blocks of keys and values, and places of recurrent states.

use lmx_runtime::checkpoint::LoadError;
use lmx_runtime::runner::KvShape;
use std::num::NonZeroUsize;

/// What a model's sequences get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// How many can run at once.
    pub(super) sequences: NonZeroUsize,
    /// Blocks of keys and values.
    pub(super) num_blocks: usize,
    /// Places of recurrent states: one for each sequence, the others for snapshots.
    pub(super) num_states: usize,
}

/// Most of the memory that the states of running sequences take: one in so many bytes.
const LIVE_SHARE: u64 = 2;
/// Part of what they leave that goes to snapshots: one in so many bytes.
const SNAPSHOT_SHARE: u64 = 4;
/// Most snapshots, for each sequence that can run.
const SNAPSHOTS_PER_SEQUENCE: u64 = 8;
/// A prompt, and a token behind it.
const LEAST_BLOCKS: usize = 2;

impl Room {
    /// Divides `bytes` among up to `sequences` of up to `context_tokens`: never more than they can use, and fewer sequences
    /// where their recurrent states would take more than half of it. `snapshots`: whether later prompts can start from them.
    ///
    /// # Errors
    /// [`LoadError::InsufficientMemory`] if one short sequence does not fit.
    pub(super) fn divide(
        bytes: u64,
        sequences: NonZeroUsize,
        context_tokens: usize,
        kv: KvShape,
        snapshots: bool,
    ) -> Result<Self, LoadError> {
        let KvShape { spans, block_bytes, state_bytes } = kv;
        let (block_bytes, state_bytes) = (block_bytes as u64, state_bytes as u64);
        let fitting = (bytes / LIVE_SHARE).checked_div(state_bytes).and_then(|n| usize::try_from(n).ok());
        let sequences = sequences.min(fitting.and_then(NonZeroUsize::new).unwrap_or(match state_bytes {
            0 => sequences,
            _ => NonZeroUsize::MIN,
        }));
        let live = sequences.get() as u64;
        let left = bytes.saturating_sub(live * state_bytes);
        let snapshots = match (left / SNAPSHOT_SHARE).checked_div(state_bytes) {
            Some(most) if snapshots => most.min(live * SNAPSHOTS_PER_SEQUENCE),
            _ => 0,
        };
        let usable = sequences.get().saturating_mul(spans.holding(context_tokens));
        let num_blocks =
            usize::try_from((left - snapshots * state_bytes) / block_bytes).unwrap_or(usize::MAX).min(usable);
        if num_blocks < LEAST_BLOCKS {
            let needed = block_bytes * LEAST_BLOCKS as u64 + live * state_bytes;
            return Err(LoadError::InsufficientMemory { needed, available: bytes });
        }
        let num_states = if state_bytes > 0 { (live + snapshots) as usize } else { 0 };
        Ok(Self { sequences, num_blocks, num_states })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn divide(bytes: u64, sequences: usize, state_bytes: usize, snapshots: bool) -> Result<(usize, usize, usize), u64> {
        let kv = KvShape { spans: 16.into(), block_bytes: 100, state_bytes };
        let sequences = NonZeroUsize::new(sequences).unwrap();
        match Room::divide(bytes, sequences, 1600, kv, snapshots) {
            Ok(Room { sequences, num_blocks, num_states }) => Ok((sequences.get(), num_blocks, num_states)),
            Err(LoadError::InsufficientMemory { needed, .. }) => Err(needed),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn without_states_all_is_blocks_up_to_what_the_sequences_can_use() {
        assert_eq!(divide(5_000, 4, 0, true), Ok((4, 50, 0)));
        assert_eq!(divide(1_000_000, 4, 0, true), Ok((4, 400, 0)));
        assert_eq!(divide(199, 4, 0, true), Err(200));
    }

    #[test]
    fn states_of_sequences_come_first_and_snapshots_take_a_quarter_of_the_rest() {
        assert_eq!(divide(100_000, 4, 1_000, true), Ok((4, 400, 4 + 24)));
        assert_eq!(divide(1_000_000, 4, 1_000, true), Ok((4, 400, 4 + 32)));
        assert_eq!(divide(100_000, 4, 1_000, false), Ok((4, 400, 4)));
    }

    #[test]
    fn fewer_sequences_run_where_their_states_would_take_more_than_half() {
        assert_eq!(divide(10_000, 64, 1_000, false), Ok((5, 50, 5)));
        assert_eq!(divide(1_500, 64, 1_000, false), Ok((1, 5, 1)));
        assert_eq!(divide(1_100, 64, 1_000, false), Err(1_200));
        assert_eq!(divide(500, 64, 1_000, false), Err(1_200));
    }
}
