//! How many connections there are, in all and from one address.
//!
//! A connection costs a descriptor and buffers before it has said who it is, so both are bounded here. Half of
//! the descriptors are left for engines, files and the admin listener.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts connections; cheap to share.
#[derive(Debug)]
pub struct Connections {
    total_max: usize,
    per_address_max: u32,
    total: AtomicUsize,
    /// Bounded by `total_max`: an address is forgotten with its last connection.
    by_address: Mutex<HashMap<IpAddr, u32>>,
}

impl Connections {
    /// At most `total_max` connections, at most `per_address_max` from one address.
    #[must_use]
    pub fn new(total_max: usize, per_address_max: u32) -> Arc<Self> {
        Arc::new(Connections {
            total_max,
            per_address_max,
            total: AtomicUsize::new(0),
            by_address: Mutex::default(),
        })
    }

    /// Open connections.
    #[must_use]
    pub fn open(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Whether a connection from `address` would get a place. O(1), one short lock.
    #[must_use]
    pub fn has_room(&self, address: IpAddr) -> bool {
        self.open() < self.total_max
            && self.by_address.lock().get(&address).is_none_or(|count| *count < self.per_address_max)
    }

    /// Takes a place for a connection from `address`; `None` when a bound is reached. O(1), one short lock.
    #[must_use]
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<ConnectionPlace> {
        if self.total.fetch_add(1, Ordering::Relaxed) >= self.total_max {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let mut by_address = self.by_address.lock();
        let count = by_address.entry(address).or_default();
        if *count >= self.per_address_max {
            drop(by_address);
            self.total.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        *count += 1;
        drop(by_address);
        Some(ConnectionPlace { connections: Arc::clone(self), address })
    }
}

/// A connection's place; given back on drop.
#[derive(Debug)]
pub struct ConnectionPlace {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.connections.total.fetch_sub(1, Ordering::Relaxed);
        let mut by_address = self.connections.by_address.lock();
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_hold_and_places_come_back() {
        let connections = Connections::new(3, 2);
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));

        let first = connections.enter(a).unwrap();
        let _second = connections.enter(a).unwrap();
        assert!(connections.enter(a).is_none(), "two from one address");
        let _third = connections.enter(b).unwrap();
        assert!(connections.enter(b).is_none(), "three in all");
        assert!(!connections.has_room(b));

        drop(first);
        assert!(connections.enter(a).is_some());
        assert_eq!(connections.open(), 2, "the last place was dropped at once");
    }
}
