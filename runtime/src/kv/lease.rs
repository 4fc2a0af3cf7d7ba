//! A sequence's claim on its blocks, given back by dropping it.

use crate::ids::{KvEpoch, SeqId};
use std::fmt;
use std::sync::Arc;

/// Where a dropped [`SeqLease`] is reported.
pub trait LeaseSink: Send + Sync {
    /// The blocks of `seq` are no longer used. Called from a drop: must neither block nor panic.
    fn release(&self, seq: SeqId, epoch: KvEpoch);
}

/// The right of a running sequence to the blocks that were granted to it.
///
/// It can only be moved, and dropping it gives the blocks back, whatever way the sequence ended. A lease of an older
/// [`KvEpoch`] releases nothing: that memory is gone.
pub struct SeqLease {
    seq: SeqId,
    epoch: KvEpoch,
    sink: Arc<dyn LeaseSink>,
}

impl SeqLease {
    /// A lease over what was granted to `seq` in `epoch`.
    pub fn new(seq: SeqId, epoch: KvEpoch, sink: Arc<dyn LeaseSink>) -> Self {
        Self { seq, epoch, sink }
    }

    /// The KV memory that the leased blocks belong to.
    pub fn epoch(&self) -> KvEpoch {
        self.epoch
    }
}

impl Drop for SeqLease {
    fn drop(&mut self) {
        self.sink.release(self.seq, self.epoch);
    }
}

impl fmt::Debug for SeqLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeqLease").field("seq", &self.seq).field("epoch", &self.epoch).finish_non_exhaustive()
    }
}
