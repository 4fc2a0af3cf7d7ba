//! Who holds which blocks: grants, commits and releases of all sequences of one model.

use super::pool::{BlockCounts, BlockPool};
use super::prefix::{BlockHash, PrefixIndex};
use super::spans::BlockSpans;
use crate::ids::{BlockId, KvEpoch, SeqId, StepId};
use crate::plan::BlockMove;
use std::collections::HashMap;
use std::sync::Arc;

/// What the rows of one step need. One is in flight at a time.
#[derive(Debug, Clone, Default)]
pub struct Reserve {
    /// The step that is being planned; [`Granted::step`] repeats it.
    pub step: StepId,
    /// The KV memory it is planned for.
    pub epoch: KvEpoch,
    /// Needs in the order in which they are met.
    pub rows: Vec<ReserveRow>,
    /// Blocks that an admission must leave available, so that running sequences can grow without preempting it at once.
    pub headroom: usize,
}

/// The need of one sequence.
#[derive(Debug, Clone)]
pub enum ReserveRow {
    /// A sequence enters: blocks for all its tokens, as many of them as possible from the prefix index.
    Admit {
        /// The sequence.
        seq: SeqId,
        /// All its tokens.
        tokens: Arc<[u32]>,
        /// Whether computed blocks may be reused; prompts whose log probabilities are wanted must be computed.
        reuse: bool,
    },
    /// A running sequence grows: its table must hold this many tokens.
    Extend {
        /// The sequence.
        seq: SeqId,
        /// Tokens after the step.
        tokens: usize,
    },
    /// A further choice of a request enters: shares the parent's full blocks, gets an own last block.
    Fork {
        /// The new sequence.
        seq: SeqId,
        /// The sequence whose prompt it shares.
        parent: SeqId,
        /// Tokens of the prompt.
        tokens: usize,
    },
}

/// The answer to [`Reserve`], in the order of its rows.
#[derive(Debug, Clone, Default)]
pub struct Granted {
    /// The step that asked.
    pub step: StepId,
    /// The KV memory that the blocks belong to.
    pub epoch: KvEpoch,
    /// One per row.
    pub rows: Vec<Grant>,
}

/// What one row got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// The whole table of a sequence that enters.
    Admitted {
        /// The sequence.
        seq: SeqId,
        /// Its block table.
        blocks: Vec<BlockId>,
        /// Leading tokens that are already computed: whole blocks, and less than all.
        cached_tokens: usize,
    },
    /// Blocks to append to the table of a running sequence; often none.
    Extended {
        /// The sequence.
        seq: SeqId,
        /// The new blocks.
        blocks: Vec<BlockId>,
    },
    /// The table of a further choice.
    Forked {
        /// The new sequence.
        seq: SeqId,
        /// Its block table.
        blocks: Vec<BlockId>,
        /// To execute once the parent's prompt is computed and before either sequence grows.
        copy: Option<BlockMove>,
    },
    /// Not enough blocks.
    Denied {
        /// The sequence.
        seq: SeqId,
    },
}

/// Tokens of a sequence that are now computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRow {
    /// The sequence.
    pub seq: SeqId,
    /// The tokens that follow those committed before.
    pub tokens: Vec<u32>,
}

/// Use of KV memory and of the prefix index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KvUsage {
    /// Blocks by state.
    pub blocks: BlockCounts,
    /// Tokens of admitted sequences that were looked up in the prefix index.
    pub queried_tokens: u64,
    /// Tokens among them that were found.
    pub hit_tokens: u64,
    /// Admissions that were looked up.
    pub queries: u64,
    /// Admissions among them that found at least one block.
    pub hits: u64,
    /// Cached blocks that were given away.
    pub evicted_blocks: u64,
}

#[derive(Debug)]
struct Table {
    blocks: Vec<BlockId>,
    /// Leading blocks whose content is hashed.
    hashed: usize,
    /// Hash of the last of them.
    chain: BlockHash,
    /// Computed tokens behind them: less than a block.
    tail: Vec<u32>,
}

/// Block accounting of one model: owns the pool, the prefix index and every sequence's table, but no tensor.
#[derive(Debug)]
pub struct KvAccounts {
    epoch: KvEpoch,
    spans: BlockSpans,
    root: BlockHash,
    /// `None` when the prefix cache is off.
    index: Option<PrefixIndex>,
    pool: BlockPool,
    tables: HashMap<SeqId, Table>,
    usage: KvUsage,
}

impl KvAccounts {
    /// Accounts over `num_blocks` empty blocks of the memory `epoch`. `fingerprint` names the model's weights.
    pub fn new(
        num_blocks: usize,
        spans: impl Into<BlockSpans>,
        fingerprint: u128,
        prefix_cache: bool,
        epoch: KvEpoch,
    ) -> Self {
        Self {
            epoch,
            spans: spans.into(),
            root: BlockHash::root(fingerprint),
            index: prefix_cache.then(PrefixIndex::default),
            pool: BlockPool::new(num_blocks),
            tables: HashMap::new(),
            usage: KvUsage::default(),
        }
    }

    /// The KV memory that these accounts describe.
    pub fn epoch(&self) -> KvEpoch {
        self.epoch
    }

    /// Use so far.
    pub fn usage(&self) -> KvUsage {
        KvUsage { blocks: self.pool.counts(), ..self.usage }
    }

    /// Meets the rows' needs in order. After the first admission that does not fit no later one is tried: a small
    /// request must not overtake a large one for ever.
    pub fn reserve(&mut self, reserve: &Reserve) -> Granted {
        let mut rows = Vec::with_capacity(reserve.rows.len());
        let mut full = reserve.epoch != self.epoch;
        for row in &reserve.rows {
            let grant = match *row {
                ReserveRow::Admit { seq, ref tokens, reuse } if !full => {
                    let grant = self.admit(seq, tokens, reuse, reserve.headroom);
                    full = matches!(grant, Grant::Denied { .. });
                    grant
                }
                ReserveRow::Admit { seq, .. } => Grant::Denied { seq },
                ReserveRow::Extend { seq, tokens } => self.extend(seq, tokens),
                ReserveRow::Fork { seq, parent, tokens } => self.fork(seq, parent, tokens),
            };
            rows.push(grant);
        }
        Granted { step: reserve.step, epoch: self.epoch, rows }
    }

    /// Takes note of computed tokens and makes the blocks that they fill known to the prefix index. Rows of sequences
    /// that have left are ignored.
    pub fn commit(&mut self, epoch: KvEpoch, rows: &[CommitRow]) {
        let Some(index) = self.index.as_mut().filter(|_| epoch == self.epoch) else { return };
        for row in rows {
            let Some(table) = self.tables.get_mut(&row.seq) else { continue };
            table.tail.extend_from_slice(&row.tokens);
            let mut done = 0;
            while let Some(tokens) = table.tail[done..].get(..self.spans.of(table.hashed)) {
                table.chain = table.chain.next(tokens);
                done += tokens.len();
                let block = table.blocks[table.hashed];
                if index.insert(table.chain, block) {
                    self.pool.name(block, table.chain);
                }
                table.hashed += 1;
            }
            table.tail.drain(..done);
        }
    }

    /// Takes back the blocks of a sequence. Unknown sequences and older epochs are ignored.
    pub fn release(&mut self, seq: SeqId, epoch: KvEpoch) {
        if epoch != self.epoch {
            return;
        }
        if let Some(table) = self.tables.remove(&seq) {
            // The end first: when blocks run short the tails of prompts go before their shared beginnings.
            for &block in table.blocks.iter().rev() {
                self.pool.release(block);
            }
        }
    }

    /// Starts over with empty memory: everything granted before is void.
    pub fn invalidate(&mut self, epoch: KvEpoch) {
        self.epoch = epoch;
        self.pool = BlockPool::new(self.pool.counts().total);
        self.tables.clear();
        if let Some(index) = &mut self.index {
            *index = PrefixIndex::default();
        }
    }

    /// Forgets every cached block; running sequences keep theirs. Returns how many there were.
    pub fn clear_cached(&mut self) -> usize {
        let names = self.pool.drop_cached();
        if let Some(index) = &mut self.index {
            names.iter().for_each(|&name| index.remove(name));
        }
        names.len()
    }

    fn admit(&mut self, seq: SeqId, tokens: &[u32], reuse: bool, headroom: usize) -> Grant {
        let needed = self.spans.holding(tokens.len());
        let (shared, chain) = if reuse { self.lookup(tokens) } else { (Vec::new(), self.root) };
        for &block in &shared {
            self.pool.share(block);
        }
        let fresh = needed - shared.len();
        if self.pool.available() < fresh + headroom {
            for &block in shared.iter().rev() {
                self.pool.release(block);
            }
            return Grant::Denied { seq };
        }
        if reuse && self.index.is_some() {
            self.usage.queries += 1;
            self.usage.hits += u64::from(!shared.is_empty());
            self.usage.queried_tokens += tokens.len() as u64;
            self.usage.hit_tokens += self.spans.start(shared.len()) as u64;
        }
        let hashed = shared.len();
        let mut blocks = shared;
        self.take_into(fresh, &mut blocks);
        self.tables.insert(seq, Table { blocks: blocks.clone(), hashed, chain, tail: Vec::new() });
        Grant::Admitted { seq, blocks, cached_tokens: self.spans.start(hashed) }
    }

    /// The longest run of known blocks at the start of `tokens`, and the hash of its end.
    fn lookup(&self, tokens: &[u32]) -> (Vec<BlockId>, BlockHash) {
        let mut chain = self.root;
        let mut blocks = Vec::new();
        let Some(index) = &self.index else { return (blocks, chain) };
        // The last prompt block is never taken from the index: at least one token must be computed, or there are no
        // logits to sample the first token from.
        let reusable = self.spans.full(tokens.len().saturating_sub(1));
        for number in 0..reusable {
            let next = chain.next(&tokens[self.spans.start(number)..self.spans.start(number + 1)]);
            let Some(block) = index.get(next) else { break };
            blocks.push(block);
            chain = next;
        }
        (blocks, chain)
    }

    fn extend(&mut self, seq: SeqId, tokens: usize) -> Grant {
        let Some(held) = self.tables.get(&seq).map(|table| table.blocks.len()) else { return Grant::Denied { seq } };
        let fresh = self.spans.holding(tokens).saturating_sub(held);
        if fresh > self.pool.available() {
            return Grant::Denied { seq };
        }
        let mut blocks = Vec::with_capacity(fresh);
        self.take_into(fresh, &mut blocks);
        let table = self.tables.get_mut(&seq).expect("the table was found above");
        table.blocks.extend_from_slice(&blocks);
        Grant::Extended { seq, blocks }
    }

    fn fork(&mut self, seq: SeqId, parent: SeqId, tokens: usize) -> Grant {
        let full = self.spans.full(tokens);
        let needs_copy = self.spans.holding(tokens) > full;
        let Some(table) = self.tables.get(&parent) else { return Grant::Denied { seq } };
        if usize::from(needs_copy) > self.pool.available() {
            return Grant::Denied { seq };
        }
        let mut blocks = table.blocks[..full].to_vec();
        let source = table.blocks.get(full).copied();
        for &block in &blocks {
            self.pool.share(block);
        }
        let mut copy = None;
        if needs_copy {
            self.take_into(1, &mut blocks);
            copy = source.map(|from| BlockMove { from, to: blocks[full] });
        }
        // The chain starts over: the parent's own hashes may be a step behind, and hashing a prompt again is cheap.
        self.tables.insert(seq, Table { blocks: blocks.clone(), hashed: 0, chain: self.root, tail: Vec::new() });
        Grant::Forked { seq, blocks, copy }
    }

    /// Moves `count` blocks to `blocks`; the caller has checked that they are available.
    fn take_into(&mut self, count: usize, blocks: &mut Vec<BlockId>) {
        for _ in 0..count {
            let (block, forgotten) = self.pool.take().expect("the caller has counted the available blocks");
            if let Some(name) = forgotten {
                self.usage.evicted_blocks += 1;
                if let Some(index) = &mut self.index {
                    index.remove(name);
                }
            }
            blocks.push(block);
        }
    }
}

#[cfg(test)]
mod tests;
