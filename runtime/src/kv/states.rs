//! Room for recurrent states: those of running sequences, and snapshots that later prompts start from.
//!
//! A recurrent state cannot be cut: it stands behind one position only. A prompt can take a known beginning from the prefix
//! index as far as a snapshot stands behind a block of it, and no further.

use super::prefix::BlockHash;
use crate::ids::StateId;
use std::collections::{BTreeMap, HashMap};

/// How many places are in which state; they always add up to `total`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateCounts {
    /// All places.
    pub total: usize,
    /// Empty.
    pub free: usize,
    /// Of running sequences.
    pub live: usize,
    /// For snapshots that running sequences are about to take.
    pub pending: usize,
    /// Snapshots that prompts can start from: given away last used first out.
    pub snapshots: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Free,
    Live,
    Pending,
    Snapshot { name: BlockHash, used: u64 },
}

/// Who holds which place, and which snapshots there are.
#[derive(Debug)]
pub struct StatePool {
    places: Vec<Place>,
    free: Vec<StateId>,
    /// Snapshots by the time of their last use, oldest first.
    by_use: BTreeMap<u64, StateId>,
    named: HashMap<BlockHash, StateId>,
    counts: StateCounts,
    /// How many places running sequences may take at once.
    live: usize,
    clock: u64,
}

impl StatePool {
    /// A pool of `total` empty places, of which running sequences can take `live` at any time.
    ///
    /// # Panics
    /// If there are fewer than `live`.
    pub fn new(total: usize, live: usize) -> Self {
        assert!(live <= total, "{total} places of recurrent states for {live} sequences");
        let ids = (0..u32::try_from(total).expect("ids of states are 32 bits wide")).rev();
        Self {
            places: vec![Place::Free; total],
            free: ids.map(StateId).collect(),
            by_use: BTreeMap::new(),
            named: HashMap::new(),
            counts: StateCounts { total, free: total, ..StateCounts::default() },
            live,
            clock: 0,
        }
    }

    /// The same, with nothing in it.
    pub fn emptied(&self) -> Self {
        Self::new(self.counts.total, self.live)
    }

    /// Whether the model has recurrent states.
    pub fn is_used(&self) -> bool {
        self.counts.total > 0
    }

    /// Places by state.
    pub fn counts(&self) -> StateCounts {
        self.counts
    }

    /// Most places that one prompt may take for snapshots: so few that a prompt does not displace those of all others.
    pub fn fair_share(&self) -> usize {
        (self.counts.total - self.live).div_ceil(4)
    }

    /// A place for a running sequence; the snapshot that was not used for longest makes room.
    pub fn take_live(&mut self) -> Option<StateId> {
        if self.counts.live == self.live {
            return None;
        }
        let place = self.take()?;
        self.places[place.0 as usize] = Place::Live;
        self.counts.live += 1;
        Some(place)
    }

    /// A place for a snapshot to come, if that leaves enough to running sequences.
    pub fn take_pending(&mut self) -> Option<StateId> {
        if self.counts.pending == self.counts.total - self.live {
            return None;
        }
        let place = self.take()?;
        self.places[place.0 as usize] = Place::Pending;
        self.counts.pending += 1;
        Some(place)
    }

    fn take(&mut self) -> Option<StateId> {
        if self.free.is_empty() {
            let (_, &oldest) = self.by_use.first_key_value()?;
            self.release(oldest);
        }
        let place = self.free.pop()?;
        self.counts.free -= 1;
        Some(place)
    }

    /// Empties a place, whatever it held.
    pub fn release(&mut self, place: StateId) {
        match std::mem::replace(&mut self.places[place.0 as usize], Place::Free) {
            Place::Free => return,
            Place::Live => self.counts.live -= 1,
            Place::Pending => self.counts.pending -= 1,
            Place::Snapshot { name, used } => {
                self.counts.snapshots -= 1;
                self.named.remove(&name);
                self.by_use.remove(&used);
            }
        }
        self.counts.free += 1;
        self.free.push(place);
    }

    /// Makes a pending snapshot known. False if there is one behind the same tokens already: one is enough.
    pub fn name(&mut self, place: StateId, name: BlockHash) -> bool {
        debug_assert_eq!(self.places[place.0 as usize], Place::Pending, "only a snapshot to come gets a name");
        if self.find(name).is_some() {
            self.release(place);
            return false;
        }
        self.counts.pending -= 1;
        self.counts.snapshots += 1;
        self.clock += 1;
        self.places[place.0 as usize] = Place::Snapshot { name, used: self.clock };
        self.named.insert(name, place);
        self.by_use.insert(self.clock, place);
        true
    }

    /// The snapshot behind these tokens, if there is one.
    pub fn find(&self, name: BlockHash) -> Option<StateId> {
        self.named.get(&name).copied()
    }

    /// Takes note that a snapshot is used.
    pub fn touch(&mut self, place: StateId) {
        if let Place::Snapshot { used, .. } = &mut self.places[place.0 as usize] {
            self.by_use.remove(used);
            self.clock += 1;
            *used = self.clock;
            self.by_use.insert(self.clock, place);
        }
    }

    /// Forgets the snapshot behind these tokens.
    pub fn forget(&mut self, name: BlockHash) {
        if let Some(place) = self.find(name) {
            self.release(place);
        }
    }

    /// Forgets all snapshots.
    pub fn clear_snapshots(&mut self) {
        while let Some((_, &place)) = self.by_use.first_key_value() {
            self.release(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: u32) -> BlockHash {
        BlockHash::root(0).next(&[n])
    }

    fn snapshot(pool: &mut StatePool, n: u32) -> StateId {
        let place = pool.take_pending().unwrap();
        pool.name(place, name(n));
        place
    }

    #[test]
    fn the_snapshot_that_was_not_used_for_longest_makes_room() {
        let mut pool = StatePool::new(4, 2);
        let (a, b) = (snapshot(&mut pool, 1), snapshot(&mut pool, 2));
        pool.take_live().unwrap();
        pool.take_live().unwrap();
        assert_eq!(pool.take_live(), None, "no more sequences than were said");
        pool.touch(a);

        let c = pool.take_pending().unwrap();

        assert_eq!((c, pool.find(name(1)), pool.find(name(2))), (b, Some(a), None));
        assert_eq!(pool.counts(), StateCounts { total: 4, free: 0, live: 2, pending: 1, snapshots: 1 });
    }

    #[test]
    fn snapshots_to_come_leave_room_for_every_sequence() {
        let mut pool = StatePool::new(3, 2);
        let pending = pool.take_pending().unwrap();
        assert_eq!(pool.take_pending(), None);
        let live = [pool.take_live().unwrap(), pool.take_live().unwrap()];
        assert!(!live.contains(&pending));
    }

    #[test]
    fn a_second_snapshot_behind_the_same_tokens_is_dropped() {
        let mut pool = StatePool::new(2, 0);
        let first = snapshot(&mut pool, 1);
        snapshot(&mut pool, 1);
        assert_eq!(pool.find(name(1)), Some(first));
        assert_eq!(pool.counts(), StateCounts { total: 2, free: 1, live: 0, pending: 0, snapshots: 1 });
        pool.clear_snapshots();
        assert_eq!(pool.counts().free, 2);
    }
}
