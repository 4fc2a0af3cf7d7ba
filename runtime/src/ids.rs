//! Newtypes for everything that is counted or addressed: a `u32` that could be a token, a block or a slot is a bug waiting.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// What a client sent: one or several sequences are decoded for it.
    RequestId(u64)
}
id! {
    /// One token stream decoded for a request.
    SeqId(u64)
}
id! {
    /// A sequence's place in the engine. Reused once the sequence has left.
    SlotId(u32)
}
id! {
    /// A fixed run of token positions in KV memory.
    BlockId(u32)
}
id! {
    /// Room for what the recurrent layers of one sequence remember: a running one, or one that is kept for later prompts.
    StateId(u32)
}
id! {
    /// One forward pass, in the order in which they were planned.
    StepId(u64)
}
id! {
    /// A generation of KV memory. After a fault it moves on, and what was leased before is worthless.
    KvEpoch(u32)
}
id! {
    /// An HTTP worker, which owns the text of the streams that it serves.
    WorkerId(u16)
}
id! {
    /// An expert of a layer's routed MLP.
    ExpertId(u16)
}
id! {
    /// An expert's place in memory.
    ExpertSlot(u32)
}
