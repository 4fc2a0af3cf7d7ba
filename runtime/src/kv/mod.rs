//! Accounting of KV memory: which block belongs to whom, and which prompt beginnings are already computed.
//!
//! Nothing here touches a tensor. The engine owns the memory; this decides what its block ids mean.

mod accounts;
mod lease;
mod pool;
mod prefix;
mod spans;
mod states;

pub use accounts::{CommitRow, Grant, Granted, KvAccounts, KvUsage, Reserve, ReserveRow};
pub use lease::{LeaseSink, SeqLease};
pub use pool::{BlockCounts, BlockPool};
pub use prefix::{BlockHash, PrefixIndex};
pub use spans::BlockSpans;
pub use states::{StateCounts, StatePool};
