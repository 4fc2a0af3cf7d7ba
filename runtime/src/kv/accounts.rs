//! Who holds which blocks: grants, commits and releases of all sequences of one model.

use super::pool::{BlockCounts, BlockPool};
use super::prefix::{BlockHash, PrefixIndex};
use super::spans::BlockSpans;
use super::states::{StateCounts, StatePool};
use crate::ids::{BlockId, KvEpoch, SeqId, StateId, StepId};
use crate::plan::{BlockMove, SlotState, StateMove, StateSave};
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
        /// Where later prompts are likely to part from this one, in tokens: ends of turns. Recurrent states are kept there.
        turns: Arc<[usize]>,
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
        /// Its place of recurrent states, if the model has any.
        state: Option<SlotState>,
        /// To execute before its first row: from the snapshot behind the cached tokens to its own place.
        restore: Option<StateMove>,
    },
    /// Blocks to append to the table of a running sequence; often none.
    Extended {
        /// The sequence.
        seq: SeqId,
        /// The new blocks.
        blocks: Vec<BlockId>,
        /// To execute before the row that needs them: a snapshot behind the blocks that are full.
        keep: Option<StateMove>,
    },
    /// The table of a further choice.
    Forked {
        /// The new sequence.
        seq: SeqId,
        /// Its block table.
        blocks: Vec<BlockId>,
        /// To execute once the parent's prompt is computed and before either sequence grows.
        copy: Option<BlockMove>,
        /// Recurrent states to copy at the same time; the destination is the new sequence's place.
        state: Option<StateMove>,
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
    /// Places of recurrent states.
    pub states: StateCounts,
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
    /// Its place of recurrent states.
    state: Option<StateId>,
    /// Snapshots that it is about to take.
    pending: Vec<Pending>,
    /// Its last snapshot of an answer: the next one makes it worthless.
    latest: Option<BlockHash>,
}

/// A snapshot that a sequence is about to take.
#[derive(Debug)]
struct Pending {
    place: StateId,
    /// Blocks that it stands behind.
    blocks: usize,
    /// Hash of the last of them, once that is known.
    name: Option<BlockHash>,
    of: Part,
}

/// What a snapshot is taken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Taken by the row that computes the last token before it.
    Prompt,
    /// Taken by the row that computes the first token behind it.
    Answer,
}

/// Blocks of a prompt from snapshot to snapshot, where nothing else calls for one.
const SNAPSHOT_BLOCKS: usize = 128;

/// Block accounting of one model: owns the pool, the prefix index and every sequence's table, but no tensor.
#[derive(Debug)]
pub struct KvAccounts {
    epoch: KvEpoch,
    spans: BlockSpans,
    root: BlockHash,
    /// `None` when the prefix cache is off.
    index: Option<PrefixIndex>,
    pool: BlockPool,
    states: StatePool,
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
            states: StatePool::new(0, 0),
            tables: HashMap::new(),
            usage: KvUsage::default(),
        }
    }

    /// Gives out places of recurrent states as well: every sequence that enters gets one.
    #[must_use]
    pub fn with_states(self, states: StatePool) -> Self {
        Self { states, ..self }
    }

    /// The KV memory that these accounts describe.
    pub fn epoch(&self) -> KvEpoch {
        self.epoch
    }

    /// Use so far.
    pub fn usage(&self) -> KvUsage {
        KvUsage { blocks: self.pool.counts(), states: self.states.counts(), ..self.usage }
    }

    /// Meets the rows' needs in order. After the first admission that does not fit no later one is tried: a small
    /// request must not overtake a large one for ever.
    pub fn reserve(&mut self, reserve: &Reserve) -> Granted {
        let mut rows = Vec::with_capacity(reserve.rows.len());
        let mut full = reserve.epoch != self.epoch;
        for row in &reserve.rows {
            let grant = match *row {
                ReserveRow::Admit { seq, ref tokens, reuse, ref turns } if !full => {
                    let grant = self.admit(seq, tokens, reuse, turns, reserve.headroom);
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
                let here = table.pending.iter_mut().filter(|pending| pending.blocks == table.hashed);
                here.for_each(|pending| pending.name = Some(table.chain));
            }
            table.tail.drain(..done);
            table.take_note(&mut self.states);
        }
    }

    /// Takes back the blocks of a sequence. Unknown sequences and older epochs are ignored.
    pub fn release(&mut self, seq: SeqId, epoch: KvEpoch) {
        if epoch != self.epoch {
            return;
        }
        if let Some(table) = self.tables.remove(&seq) {
            let pending = table.pending.iter().map(|pending| pending.place);
            pending.chain(table.state).for_each(|place| self.states.release(place));
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
        self.states = self.states.emptied();
        self.tables.clear();
        if let Some(index) = &mut self.index {
            *index = PrefixIndex::default();
        }
    }

    /// Forgets every cached block; running sequences keep theirs. Returns how many there were.
    pub fn clear_cached(&mut self) -> usize {
        let names = self.pool.drop_cached();
        self.states.clear_snapshots();
        if let Some(index) = &mut self.index {
            names.iter().for_each(|&name| index.remove(name));
        }
        names.len()
    }

    fn admit(&mut self, seq: SeqId, tokens: &[u32], reuse: bool, turns: &[usize], headroom: usize) -> Grant {
        let needed = self.spans.holding(tokens.len());
        let found = if reuse { self.lookup(tokens) } else { Found { chain: self.root, ..Found::default() } };
        let Found { blocks: shared, chain, snapshot, known } = found;
        for &block in &shared {
            self.pool.share(block);
        }
        let fresh = needed - shared.len();
        // Before anything is taken: what is used now is not what makes room.
        snapshot.iter().for_each(|&snapshot| self.states.touch(snapshot));
        let place = if self.pool.available() < fresh + headroom { None } else { self.states.take_live() };
        if self.pool.available() < fresh + headroom || (self.states.is_used() && place.is_none()) {
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
        let pending = if place.is_some() { self.snapshots(tokens.len(), hashed, known, turns) } else { Vec::new() };
        let saves = pending.iter().map(|of| StateSave { tokens: self.spans.start(of.blocks), to: of.place }).collect();
        let state = place.map(|place| SlotState { place, saves });
        let restore = place.zip(snapshot).map(|(to, from)| StateMove { from, to });
        let table = Table { state: place, pending, ..Table::new(blocks.clone(), hashed, chain) };
        self.tables.insert(seq, table);
        Grant::Admitted { seq, blocks, cached_tokens: self.spans.start(hashed), state, restore }
    }

    /// Places for the snapshots of a prompt, in the order of what they stand behind: its end, where it parts from what is
    /// `known`, ends of its turns, and some between, as far as a prompt's share goes.
    fn snapshots(&mut self, tokens: usize, hashed: usize, known: usize, turns: &[usize]) -> Vec<Pending> {
        if self.index.is_none() {
            return Vec::new();
        }
        let last = self.spans.full(tokens.saturating_sub(1));
        let mut ends = turns.iter().map(|turn| self.spans.full(*turn)).filter(|blocks| *blocks > hashed);
        // The first one is what all conversations with these instructions share; of the others the last ones matter.
        let ends = ends.next().into_iter().chain(ends.rev());
        let between = (hashed + SNAPSHOT_BLOCKS..last).step_by(SNAPSHOT_BLOCKS);
        let mut wanted: Vec<usize> = Vec::new();
        for blocks in [last, known].into_iter().chain(ends).chain(between) {
            if wanted.len() == self.states.fair_share() {
                break;
            }
            if (hashed + 1..=last).contains(&blocks) && !wanted.contains(&blocks) {
                wanted.push(blocks);
            }
        }
        wanted.sort_unstable();
        let place = |blocks| Some(Pending { place: self.states.take_pending()?, blocks, name: None, of: Part::Prompt });
        wanted.into_iter().map_while(place).collect()
    }

    /// The longest run of known blocks at the start of `tokens` that a sequence can start behind.
    fn lookup(&self, tokens: &[u32]) -> Found {
        let mut found = Found { chain: self.root, ..Found::default() };
        let Some(index) = &self.index else { return found };
        let (mut chain, mut taken) = (self.root, 0);
        // The last prompt block is never taken from the index: at least one token must be computed, or there are no
        // logits to sample the first token from.
        let reusable = self.spans.full(tokens.len().saturating_sub(1));
        for number in 0..reusable {
            chain = chain.next(&tokens[self.spans.start(number)..self.spans.start(number + 1)]);
            let Some(block) = index.get(chain) else { break };
            found.blocks.push(block);
            let snapshot = self.states.find(chain);
            if snapshot.is_some() || !self.states.is_used() {
                (taken, found.chain, found.snapshot) = (found.blocks.len(), chain, snapshot);
            }
        }
        found.known = found.blocks.len();
        found.blocks.truncate(taken);
        found
    }

    fn extend(&mut self, seq: SeqId, tokens: usize) -> Grant {
        let Some(held) = self.tables.get(&seq).map(|table| table.blocks.len()) else { return Grant::Denied { seq } };
        let fresh = self.spans.holding(tokens).saturating_sub(held);
        if fresh > self.pool.available() {
            return Grant::Denied { seq };
        }
        let mut blocks = Vec::with_capacity(fresh);
        self.take_into(fresh, &mut blocks);
        let keep = if fresh > 0 { self.keep(seq, tokens) } else { None };
        let table = self.tables.get_mut(&seq).expect("the table was found above");
        table.blocks.extend_from_slice(&blocks);
        Grant::Extended { seq, blocks, keep }
    }

    /// A snapshot of an answer that has filled its blocks and goes on. There is one of each answer, which moves along.
    fn keep(&mut self, seq: SeqId, tokens: usize) -> Option<StateMove> {
        self.index.as_ref()?;
        let table = self.tables.get_mut(&seq)?;
        let (from, blocks) = (table.state?, table.blocks.len());
        // States stand behind the last computed token: there is no other place to take a snapshot of.
        if tokens != self.spans.start(blocks) + 1 {
            return None;
        }
        table.latest.take().into_iter().for_each(|name| self.states.forget(name));
        let to = self.states.take_pending()?;
        let name = (table.hashed == blocks).then_some(table.chain);
        table.pending.push(Pending { place: to, blocks, name, of: Part::Answer });
        Some(StateMove { from, to })
    }

    fn fork(&mut self, seq: SeqId, parent: SeqId, tokens: usize) -> Grant {
        let full = self.spans.full(tokens);
        let needs_copy = self.spans.holding(tokens) > full;
        let Some(table) = self.tables.get(&parent) else { return Grant::Denied { seq } };
        let from = table.state;
        let place = if usize::from(needs_copy) > self.pool.available() { None } else { self.states.take_live() };
        if usize::from(needs_copy) > self.pool.available() || (from.is_some() && place.is_none()) {
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
        let table = Table { state: place, ..Table::new(blocks.clone(), 0, self.root) };
        self.tables.insert(seq, table);
        let state = from.zip(place).map(|(from, to)| StateMove { from, to });
        Grant::Forked { seq, blocks, copy, state }
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
                // Nobody comes as far as a snapshot whose blocks are gone.
                self.states.forget(name);
            }
            blocks.push(block);
        }
    }
}

/// What the prefix index knows of a prompt.
#[derive(Debug, Default)]
struct Found {
    /// Blocks that a sequence can take.
    blocks: Vec<BlockId>,
    /// Hash of the last of them.
    chain: BlockHash,
    /// The recurrent states behind it.
    snapshot: Option<StateId>,
    /// Blocks that are known: more than it can take, where there is no snapshot further on.
    known: usize,
}

impl Table {
    fn new(blocks: Vec<BlockId>, hashed: usize, chain: BlockHash) -> Self {
        Self { blocks, hashed, chain, tail: Vec::new(), state: None, pending: Vec::new(), latest: None }
    }

    /// Makes the snapshots known that have been taken by now.
    fn take_note(&mut self, states: &mut StatePool) {
        let (hashed, tail) = (self.hashed, self.tail.len());
        let taken = |pending: &Pending| match pending.of {
            Part::Prompt => pending.blocks <= hashed,
            Part::Answer => pending.blocks < hashed || (pending.blocks == hashed && tail > 0),
        };
        for Pending { place, name, of, .. } in self.pending.extract_if(.., |pending| taken(pending)) {
            let Some(name) = name else {
                states.release(place);
                continue;
            };
            if states.name(place, name) && of == Part::Answer {
                self.latest = Some(name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
