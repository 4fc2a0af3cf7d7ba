use super::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// Plans that are under way while a step runs: the one that is computed and the next.
const PLANS_IN_FLIGHT: usize = 2;

/// How the actors are wired.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ActorsConfig {
    /// Messages that may wait for each actor.
    pub mailbox: MailboxConfig,
}

/// Messages that may wait for each actor. Larger: rides out bursts, waits longer. Smaller: refuses earlier.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MailboxConfig {
    /// Requests and results of steps; beyond it a request is refused with 503.
    pub scheduler: NonZeroUsize,
    /// Plans; at least 2, so that the next one waits while a step runs.
    pub engine: NonZeroUsize,
    /// Reservations and releases of KV blocks.
    pub kv_cache: NonZeroUsize,
    /// Batches of tokens on their way to text, per worker.
    pub egress: NonZeroUsize,
    /// Requests for vectors, per embedding model; beyond it a request is refused with 503.
    pub embedding: NonZeroUsize,
    /// Requests for rankings, per reranking model; beyond it a request is refused with 503.
    pub rerank: NonZeroUsize,
}

impl Default for MailboxConfig {
    fn default() -> Self {
        let messages = |n| NonZeroUsize::new(n).expect("the default is not zero");
        Self {
            scheduler: messages(256),
            engine: messages(4),
            kv_cache: messages(512),
            egress: messages(1024),
            embedding: messages(256),
            rerank: messages(256),
        }
    }
}

impl ActorsConfig {
    pub(super) fn problems(&self) -> Vec<Problem> {
        let engine = self.mailbox.engine.get();
        if engine < PLANS_IN_FLIGHT {
            let reason = format!("{engine} is too few, {PLANS_IN_FLIGHT} plans are under way at a time");
            return vec![Problem::new("actors.mailbox.engine", reason)];
        }
        Vec::new()
    }
}
