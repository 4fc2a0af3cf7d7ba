//! The prefix index: a map from the hash chain over full blocks to the block that holds their keys and values.

use crate::ids::BlockId;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::collections::HashMap;
use std::hash::Hasher;

/// Hash of a full block and, through its parent's hash, of everything before it.
///
/// 128 bits: two different prompts of a lifetime of requests do not meet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockHash(u128);

impl BlockHash {
    /// The start of every chain of one model. `fingerprint` names the weights: blocks of another model never match.
    pub fn root(fingerprint: u128) -> Self {
        Self(fingerprint)
    }

    /// The hash of the block that follows `self` and holds `tokens`.
    pub fn next(self, tokens: &[u32]) -> Self {
        let mut hasher = SipHasher13::new();
        hasher.write_u128(self.0);
        for &token in tokens {
            hasher.write_u32(token);
        }
        Self(hasher.finish128().as_u128())
    }
}

/// Finds computed blocks by their content.
#[derive(Debug, Default)]
pub struct PrefixIndex {
    blocks: HashMap<BlockHash, BlockId>,
}

impl PrefixIndex {
    /// The block with this content, if one is known.
    pub fn get(&self, hash: BlockHash) -> Option<BlockId> {
        self.blocks.get(&hash).copied()
    }

    /// Remembers `block` under `hash`. False if another block already holds the same content: it stays the known one.
    pub fn insert(&mut self, hash: BlockHash, block: BlockId) -> bool {
        *self.blocks.entry(hash).or_insert(block) == block
    }

    /// Forgets the block with this content.
    pub fn remove(&mut self, hash: BlockHash) {
        self.blocks.remove(&hash);
    }

    /// Blocks known.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether no block is known.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_depends_on_every_token_and_on_the_model() {
        let root = BlockHash::root(1);
        assert_eq!(root.next(&[1, 2]).next(&[3]), root.next(&[1, 2]).next(&[3]));
        assert_ne!(root.next(&[1, 2]).next(&[3]), root.next(&[2, 1]).next(&[3]));
        assert_ne!(root.next(&[1, 2]).next(&[3]), BlockHash::root(2).next(&[1, 2]).next(&[3]));
        assert_ne!(root.next(&[1, 2]), root.next(&[1]).next(&[2]));
    }

    #[test]
    fn the_first_block_with_a_content_stays_the_known_one() {
        let mut index = PrefixIndex::default();
        let hash = BlockHash::root(0).next(&[7]);
        assert!(index.insert(hash, BlockId(3)));
        assert!(!index.insert(hash, BlockId(4)));
        assert_eq!(index.get(hash), Some(BlockId(3)));
    }
}
