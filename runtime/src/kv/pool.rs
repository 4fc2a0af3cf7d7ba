//! The blocks of KV memory: free, held by sequences, or cached for later prompts.

use super::prefix::BlockHash;
use crate::ids::BlockId;
use std::collections::BTreeMap;

/// How many blocks are in which state; they always add up to `total`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockCounts {
    /// All blocks.
    pub total: usize,
    /// Empty.
    pub free: usize,
    /// Referenced by at least one sequence.
    pub held: usize,
    /// Unreferenced, but found by the prefix index: given away last used first out.
    pub cached: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Block {
    /// Sequences whose table holds this block.
    references: u32,
    /// Its name in the prefix index, once it is full and computed.
    hash: Option<BlockHash>,
    /// When it was last released, while it is cached.
    released: u64,
}

/// Reference counts, the free list and the order of eviction.
#[derive(Debug)]
pub struct BlockPool {
    blocks: Vec<Block>,
    free: Vec<BlockId>,
    /// Cached blocks by the time of their release, oldest first.
    cached: BTreeMap<u64, BlockId>,
    clock: u64,
}

impl BlockPool {
    /// A pool of `total` empty blocks.
    pub fn new(total: usize) -> Self {
        let ids = (0..u32::try_from(total).expect("block ids are 32 bits wide")).rev();
        Self {
            blocks: vec![Block::default(); total],
            free: ids.map(BlockId).collect(),
            cached: BTreeMap::new(),
            clock: 0,
        }
    }

    /// Blocks by state.
    pub fn counts(&self) -> BlockCounts {
        let (total, free, cached) = (self.blocks.len(), self.free.len(), self.cached.len());
        BlockCounts { total, free, held: total - free - cached, cached }
    }

    /// Blocks that [`take`](Self::take) can give.
    pub fn available(&self) -> usize {
        self.free.len() + self.cached.len()
    }

    /// Takes an empty block, or the cached one that was released longest ago; its old name is returned for the index to
    /// forget. `None` if every block is held.
    pub fn take(&mut self) -> Option<(BlockId, Option<BlockHash>)> {
        let id = match self.free.pop() {
            Some(id) => id,
            None => self.cached.pop_first()?.1,
        };
        let block = &mut self.blocks[id.0 as usize];
        debug_assert_eq!(block.references, 0, "a block that can be taken is nobody's");
        block.references = 1;
        Some((id, block.hash.take()))
    }

    /// Adds a reference to a block that is held or cached.
    pub fn share(&mut self, id: BlockId) {
        let block = &mut self.blocks[id.0 as usize];
        if block.references == 0 {
            let was = self.cached.remove(&block.released);
            debug_assert_eq!(was, Some(id), "an unreferenced block is shared only while it is cached");
        }
        block.references += 1;
    }

    /// Drops one reference. A block without references becomes cached if it has a name, else free.
    pub fn release(&mut self, id: BlockId) {
        let block = &mut self.blocks[id.0 as usize];
        debug_assert!(block.references > 0, "a block is released once per reference");
        block.references -= 1;
        if block.references > 0 {
            return;
        }
        if block.hash.is_some() {
            self.clock += 1;
            block.released = self.clock;
            self.cached.insert(self.clock, id);
        } else {
            self.free.push(id);
        }
    }

    /// Gives a held block its name in the prefix index.
    pub fn name(&mut self, id: BlockId, hash: BlockHash) {
        let block = &mut self.blocks[id.0 as usize];
        debug_assert!(block.references > 0, "only a held block can have been computed");
        block.hash = Some(hash);
    }

    /// Sequences that hold this block.
    pub fn references(&self, id: BlockId) -> u32 {
        self.blocks[id.0 as usize].references
    }

    /// Empties every cached block and returns the names that the index must forget.
    pub fn drop_cached(&mut self) -> Vec<BlockHash> {
        let mut names = Vec::with_capacity(self.cached.len());
        while let Some((_, id)) = self.cached.pop_first() {
            names.extend(self.blocks[id.0 as usize].hash.take());
            self.free.push(id);
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_block_is_cached_until_it_is_needed() {
        let mut pool = BlockPool::new(2);
        let (a, _) = pool.take().unwrap();
        let (b, _) = pool.take().unwrap();
        let (name_a, name_b) = (BlockHash::root(0).next(&[1]), BlockHash::root(0).next(&[2]));
        pool.name(a, name_a);
        pool.name(b, name_b);
        pool.release(b);
        pool.release(a);
        assert_eq!(pool.counts(), BlockCounts { total: 2, free: 0, held: 0, cached: 2 });

        // b was released first, so it goes first.
        assert_eq!(pool.take(), Some((b, Some(name_b))));
        pool.share(a);
        assert_eq!(pool.take(), None);
        assert_eq!(pool.counts(), BlockCounts { total: 2, free: 0, held: 2, cached: 0 });
    }

    #[test]
    fn a_shared_block_is_free_only_when_the_last_holder_leaves() {
        let mut pool = BlockPool::new(1);
        let (a, _) = pool.take().unwrap();
        pool.share(a);
        pool.release(a);
        assert_eq!(pool.counts().held, 1);
        pool.release(a);
        assert_eq!(pool.counts().free, 1);
    }
}
