//! Entries by key, in order of use, in a fixed number of slots.
//!
//! A table from key to slot and a doubly linked list through the slots. When all slots are taken, the entry that
//! was touched longest ago makes room. The table is our own because its memory has to have a bound, which a
//! map that marks deletions and grows by them has not: open addressing, linear probing, at most half full,
//! deletion by shifting back (D. Knuth, The Art of Computer Programming 3, 6.4, algorithm R). The keys are
//! outputs of a keyed hash, so their low bits are the place to begin with, and nobody can make them collide.
//!
//! # Guarantees
//!
//! - Never more than `entries_max` entries; memory grows to its bound and stays there.
//! - `find`, `touch` and `insert` are O(1); `insert` doubles the table now and then while it fills.

/// No slot.
const NONE: u32 = u32::MAX;

/// Places of a new table: a power of two.
const PLACES_MIN: usize = 16;

#[derive(Debug, Clone)]
struct Slot<T> {
    key: u64,
    newer: u32,
    older: u32,
    value: T,
}

/// A map of bounded size that forgets what was touched longest ago.
#[derive(Debug, Clone)]
pub(crate) struct Lru<T> {
    /// Slot numbers, or [`NONE`]; the length is a power of two, at least twice the number of slots in use.
    places: Vec<u32>,
    slots: Vec<Slot<T>>,
    newest: u32,
    oldest: u32,
    entries_max: u32,
}

impl<T> Lru<T> {
    /// An empty one of at most `entries_max` entries: at least one, at most 2³² − 2.
    pub(crate) fn new(entries_max: u32) -> Self {
        let entries_max = entries_max.clamp(1, NONE - 1);
        Self { places: vec![NONE; PLACES_MIN], slots: Vec::new(), newest: NONE, oldest: NONE, entries_max }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of memory taken, allocated but unused slots included.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot<T>>() + self.places.capacity() * size_of::<u32>()
    }

    /// All entries, that of the longest ago first.
    pub(crate) fn oldest_first(&self) -> impl Iterator<Item = (u64, &T)> {
        let mut number = self.oldest;
        std::iter::from_fn(move || {
            let slot = self.slots.get(number as usize)?;
            number = slot.newer;
            Some((slot.key, &slot.value))
        })
    }

    pub(crate) fn find(&self, key: u64) -> Option<&T> {
        let (_, number) = self.place_of(key)?;
        self.slots.get(number as usize).map(|slot| &slot.value)
    }

    /// The value of `key`, which becomes the most recently used.
    pub(crate) fn touch(&mut self, key: u64) -> Option<&mut T> {
        let (_, number) = self.place_of(key)?;
        self.unlink(number);
        self.link_newest(number);
        self.slots.get_mut(number as usize).map(|slot| &mut slot.value)
    }

    /// Adds a key that is not there yet as the most recently used; the oldest makes room if none is left.
    pub(crate) fn insert(&mut self, key: u64, value: T) {
        let slot = Slot { key, newer: NONE, older: NONE, value };
        let number = if self.slots.len() < self.entries_max as usize {
            self.grow();
            self.slots.push(slot);
            (self.slots.len() - 1) as u32
        } else {
            let oldest = self.oldest;
            self.unlink(oldest);
            if let Some(old) = self.slots.get(oldest as usize).map(|slot| slot.key) {
                self.remove_place(old);
            }
            if let Some(old) = self.slots.get_mut(oldest as usize) {
                *old = slot;
            }
            oldest
        };
        self.add_place(key, number);
        self.link_newest(number);
    }

    /// The place of `key` in the table and the slot it names.
    fn place_of(&self, key: u64) -> Option<(usize, u32)> {
        let mut place = self.home(key);
        loop {
            // Half of the places are free, so the walk ends.
            let number = self.places.get(place).copied().filter(|number| *number != NONE)?;
            if self.slots.get(number as usize).is_some_and(|slot| slot.key == key) {
                return Some((place, number));
            }
            place = self.after(place);
        }
    }

    fn add_place(&mut self, key: u64, number: u32) {
        let mut place = self.home(key);
        while self.places.get(place).is_some_and(|taken| *taken != NONE) {
            place = self.after(place);
        }
        if let Some(free) = self.places.get_mut(place) {
            *free = number;
        }
    }

    /// Frees the place of `key`, and moves back into the gap what was only pushed past it.
    fn remove_place(&mut self, key: u64) {
        let Some((mut gap, _)) = self.place_of(key) else { return };
        let mut place = gap;
        loop {
            place = self.after(place);
            let number = self.places.get(place).copied().unwrap_or(NONE);
            let Some(slot) = self.slots.get(number as usize) else { break };
            let home = self.home(slot.key);
            // Distances are counted around the ring: it may move if its home does not lie after the gap.
            let mask = self.places.len() - 1;
            if place.wrapping_sub(home) & mask >= place.wrapping_sub(gap) & mask {
                self.places.swap(gap, place);
                gap = place;
            }
        }
        if let Some(free) = self.places.get_mut(gap) {
            *free = NONE;
        }
    }

    /// Doubles the table if one more entry would make it more than half full.
    fn grow(&mut self) {
        if (self.slots.len() + 1) * 2 <= self.places.len() {
            return;
        }
        self.places = vec![NONE; self.places.len() * 2];
        let keys: Vec<u64> = self.slots.iter().map(|slot| slot.key).collect();
        for (number, key) in keys.into_iter().enumerate() {
            self.add_place(key, number as u32);
        }
    }

    fn home(&self, key: u64) -> usize {
        key as usize & (self.places.len() - 1)
    }

    fn after(&self, place: usize) -> usize {
        (place + 1) & (self.places.len() - 1)
    }

    fn unlink(&mut self, place: u32) {
        let Some((newer, older)) = self.slots.get(place as usize).map(|slot| (slot.newer, slot.older)) else {
            return;
        };
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, place: u32) {
        let before = self.newest;
        if let Some(slot) = self.slots.get_mut(place as usize) {
            (slot.newer, slot.older) = (NONE, before);
        }
        match self.slots.get_mut(before as usize) {
            Some(slot) => slot.newer = place,
            None => self.oldest = place,
        }
        self.newest = place;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The model is a list in order of use.
        #[test]
        fn it_behaves_like_a_list_in_order_of_use(
            max in 1u32..9, steps in prop::collection::vec((any::<bool>(), 0u64..12), 0..200)
        ) {
            let mut lru = Lru::new(max);
            let mut model: Vec<u64> = Vec::new();
            for (touch, key) in steps {
                // Few low bits, so that the walks meet and go around the end of the table.
                let key = key * 8 + 7;
                let known = model.iter().position(|&k| k == key);
                prop_assert_eq!(lru.find(key).is_some(), known.is_some());
                match (touch, known) {
                    (_, Some(at)) => {
                        model.remove(at);
                        model.push(key);
                        prop_assert_eq!(lru.touch(key).copied(), Some(key));
                    }
                    (true, None) => prop_assert!(lru.touch(key).is_none()),
                    (false, None) => {
                        if model.len() == max as usize {
                            model.remove(0);
                        }
                        model.push(key);
                        lru.insert(key, key); assert!(lru.bytes() <= 4_096);
                    }
                }
                prop_assert_eq!(lru.len(), model.len());
            }
        }
    }
}
