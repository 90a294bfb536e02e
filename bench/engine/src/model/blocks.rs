//! The KV cache as a pool of blocks, some of which are kept after use because a later prompt may begin alike.
//!
//! A block is in exactly one of four states:
//!
//! ```text
//! free ──take──► private ──publish──► shared (refs ≥ 1) ──release──► idle (refs = 0, in LRU order)
//!   ▲               │                        ▲                          │
//!   └─────give──────┘                        └──────────hold────────────┤
//!   └────────────────────────evicted, oldest first──────────────────────┘
//! ```
//!
//! Idle blocks count as free for everyone who needs room, so the prefix cache never costs capacity: it lives in
//! what nobody uses. A block is identified by the chained hash of all tokens up to its end, so a hit on block `i`
//! implies the same blocks before it, but not that they are still here; a lookup stops at the first gap.
//!
//! # Guarantees
//!
//! - free + private + shared + idle = total.
//! - Every operation is O(1) per block and allocates only while the pool meets more distinct hashes than ever before.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

const NONE: u32 = u32::MAX;

/// What a lookup found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Hits {
    /// Leading blocks that are here.
    pub(crate) blocks: u32,
    /// How many of them are idle, so that holding them takes them out of the free room.
    pub(crate) idle: u32,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct BlockPool {
    total: u32,
    free: u32,
    idle: u32,
    slots: Vec<Slot>,
    vacant: Vec<u32>,
    by_hash: HashMap<u64, u32, BuildHasherDefault<AlreadyHashed>>,
    oldest: u32,
    newest: u32,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u64,
    refs: u32,
    older: u32,
    newer: u32,
}

impl BlockPool {
    pub(crate) fn new(total: u32) -> Self {
        Self {
            total,
            free: total,
            idle: 0,
            slots: Vec::new(),
            vacant: Vec::new(),
            by_hash: HashMap::default(),
            oldest: NONE,
            newest: NONE,
        }
    }

    /// Blocks in all.
    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    /// Blocks that can be taken, idle ones included.
    pub(crate) fn room(&self) -> u32 {
        self.free + self.idle
    }

    /// Blocks in use, private and shared.
    pub(crate) fn used(&self) -> u32 {
        self.total - self.room()
    }

    /// Takes `count` private blocks, evicting idle ones if needed, or none at all.
    pub(crate) fn take(&mut self, count: u32) -> bool {
        if count > self.room() {
            return false;
        }
        while self.free < count {
            self.evict_oldest();
        }
        self.free -= count;
        true
    }

    /// Gives private blocks back.
    pub(crate) fn give(&mut self, count: u32) {
        self.free += count;
        debug_assert!(self.room() <= self.total, "more blocks given back than taken");
    }

    /// How many leading hashes are here. O(hits).
    pub(crate) fn hits(&self, hashes: &[u64]) -> Hits {
        let mut hits = Hits::default();
        for hash in hashes {
            let Some(slot) = self.by_hash.get(hash).and_then(|at| self.slots.get(*at as usize)) else {
                break;
            };
            hits.blocks += 1;
            hits.idle += u32::from(slot.refs == 0);
        }
        hits
    }

    /// Uses a published block; the slot is for [`release`](Self::release).
    pub(crate) fn hold(&mut self, hash: u64) -> Option<u32> {
        let at = *self.by_hash.get(&hash)?;
        let slot = self.slots.get_mut(at as usize)?;
        slot.refs += 1;
        if slot.refs == 1 {
            self.unlink(at);
        }
        Some(at)
    }

    /// Turns one private block into a shared one. `None` if another request published the same content first: the
    /// block then stays private, a duplicate.
    pub(crate) fn publish(&mut self, hash: u64) -> Option<u32> {
        if self.by_hash.contains_key(&hash) {
            return None;
        }
        let slot = Slot { hash, refs: 1, older: NONE, newer: NONE };
        let at = if let Some(at) = self.vacant.pop() {
            *self.slots.get_mut(at as usize)? = slot;
            at
        } else {
            self.slots.push(slot);
            self.slots.len() as u32 - 1
        };
        self.by_hash.insert(hash, at);
        Some(at)
    }

    /// Ends one use of a shared block; the last one makes it idle, as the newest.
    pub(crate) fn release(&mut self, at: u32) {
        let newest = self.newest;
        let Some(slot) = self.slots.get_mut(at as usize) else { return };
        slot.refs -= 1;
        if slot.refs > 0 {
            return;
        }
        slot.older = newest;
        slot.newer = NONE;
        match self.slots.get_mut(newest as usize) {
            Some(previous) => previous.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
        self.idle += 1;
    }

    fn evict_oldest(&mut self) {
        let at = self.oldest;
        let Some(hash) = self.slots.get(at as usize).map(|slot| slot.hash) else { return };
        self.unlink(at);
        self.by_hash.remove(&hash);
        self.vacant.push(at);
        self.free += 1;
    }

    /// Takes a slot out of the LRU list.
    fn unlink(&mut self, at: u32) {
        let Some(Slot { older, newer, .. }) = self.slots.get(at as usize).copied() else { return };
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
        self.idle -= 1;
    }
}

/// Block hashes are hashes already. Those that a scenario made up (a group in the upper bits, a number in the lower
/// ones) are spread over all bits: the table takes its bucket from the lower and its tag from the upper end.
#[derive(Debug, Clone, Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        let spread = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = spread ^ (spread >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle_block(pool: &mut BlockPool, hash: u64) {
        assert!(pool.take(1));
        let at = pool.publish(hash).expect("a new hash");
        pool.release(at);
    }

    #[test]
    fn idle_blocks_are_room_and_the_oldest_goes_first() {
        let mut pool = BlockPool::new(3);
        for hash in [10, 20, 30] {
            idle_block(&mut pool, hash);
        }
        assert_eq!(pool.room(), 3, "the cache costs nothing");

        assert!(pool.take(1));

        assert_eq!(pool.hits(&[10]).blocks, 0, "the oldest was evicted");
        assert_eq!(pool.hits(&[20, 30]), Hits { blocks: 2, idle: 2 });
    }

    #[test]
    fn a_held_block_is_not_evicted() {
        let mut pool = BlockPool::new(2);
        idle_block(&mut pool, 10);
        idle_block(&mut pool, 20);

        let held = pool.hold(10).expect("it is there");

        assert!(pool.take(1));
        assert!(!pool.take(1), "one block is held, one is private");
        assert_eq!(pool.hits(&[10]), Hits { blocks: 1, idle: 0 });
        pool.release(held);
        assert_eq!(pool.room(), 1);
    }

    #[test]
    fn a_second_publisher_keeps_its_private_copy() {
        let mut pool = BlockPool::new(4);
        assert!(pool.take(2));
        let first = pool.publish(7).expect("new");

        assert_eq!(pool.publish(7), None);

        pool.release(first);
        pool.give(1);
        assert_eq!(pool.room(), 4);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn a_lookup_stops_at_the_first_gap() {
        let mut pool = BlockPool::new(4);
        idle_block(&mut pool, 1);
        idle_block(&mut pool, 3);

        assert_eq!(pool.hits(&[1, 2, 3]).blocks, 1);
    }
}
