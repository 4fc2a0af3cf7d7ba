//! How many positions each block of a table holds.

/// The positions of a sequence, cut into blocks that take the same bytes.
///
/// Where keys and values are quantised from some position on, the blocks behind it hold more positions than those before
/// it. Any free block can be either, so that there is one pool of them, whatever the lengths of the sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSpans {
    head_blocks: usize,
    head_tokens: usize,
    tokens: usize,
}

impl From<usize> for BlockSpans {
    /// Blocks of `tokens` positions each.
    fn from(tokens: usize) -> Self {
        Self::new(0, tokens, tokens)
    }
}

impl BlockSpans {
    /// `head_blocks` blocks of `head_tokens` positions, then blocks of `tokens`.
    ///
    /// # Panics
    /// If a block has no positions, or the later ones have fewer than the first ones.
    pub fn new(head_blocks: usize, head_tokens: usize, tokens: usize) -> Self {
        assert!(0 < head_tokens && head_tokens <= tokens, "blocks of {head_tokens}, then of {tokens} positions");
        Self { head_blocks, head_tokens, tokens }
    }

    /// Positions in the first blocks, those that may be smaller than the others.
    pub fn head_end(&self) -> usize {
        self.head_blocks * self.head_tokens
    }

    /// Positions of the smallest block: chunks of prompts are measured in it.
    pub fn smallest(&self) -> usize {
        self.head_tokens
    }

    /// Positions of the largest block: all blocks behind the first ones.
    pub fn largest(&self) -> usize {
        self.tokens
    }

    /// Where a position stands: the index of its block in the table, and its place inside.
    #[inline(always)]
    pub fn place(&self, position: usize) -> (usize, usize) {
        match position.checked_sub(self.head_end()) {
            None => (position / self.head_tokens, position % self.head_tokens),
            Some(behind) => (self.head_blocks + behind / self.tokens, behind % self.tokens),
        }
    }

    /// How many blocks `tokens` positions fill from the first one to the last.
    pub fn full(&self, tokens: usize) -> usize {
        self.place(tokens).0
    }

    /// How many blocks hold `tokens` positions, the last one perhaps in part.
    pub fn holding(&self, tokens: usize) -> usize {
        let (full, beyond) = self.place(tokens);
        full + usize::from(beyond > 0)
    }

    /// How many positions the first `blocks` blocks hold, which is where the next one starts.
    pub fn start(&self, blocks: usize) -> usize {
        let head = blocks.min(self.head_blocks);
        (head * self.head_tokens).saturating_add((blocks - head).saturating_mul(self.tokens))
    }

    /// Positions of the block with this index in a table.
    pub fn of(&self, block: usize) -> usize {
        if block < self.head_blocks { self.head_tokens } else { self.tokens }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_stands_in_one_place_and_counts_agree() {
        for spans in [BlockSpans::from(4), BlockSpans::new(3, 4, 8), BlockSpans::new(1, 16, 64)] {
            let mut places = (0..).flat_map(|block| (0..spans.of(block)).map(move |at| (block, at)));
            for position in 0..300 {
                let (block, at) = places.next().unwrap();
                assert_eq!(spans.place(position), (block, at));
                assert_eq!(spans.start(block) + at, position);
                assert_eq!(spans.full(position), block);
                assert_eq!(spans.holding(position), block + usize::from(at > 0));
            }
        }
    }
}
