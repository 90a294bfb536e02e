//! Who may be connected: places for connections, in all and by address, and who gives way when there is none.
//!
//! A connection costs a descriptor and buffers before it has said who it is, so it is counted where it is accepted and
//! until its socket is closed. When all places are taken, or those of its address, a new one gets that of a connection
//! that asks for nothing: whichever is longest without a whole head, or else idle longest, or else longest without a whole
//! body, or else longest without reading its answer. So whoever only holds connections open holds nobody up; one whose
//! request runs and whose client reads is never closed for another.
//!
//! A place of one address is one of an IPv4 address or of an IPv6 /64, which is what one customer gets. O(log connections)
//! for each change, under one short lock.

use crate::turned::{Told, Turned};
use config::ListenLimits;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Descriptors that are kept for the gateway itself: engines' metrics, files, admin, and connections that are being
/// refused or closed. At most a quarter of all, but no less than what the process has open at rest.
const RESERVE: u64 = 256;
/// Descriptors of the process at rest, before few replicas, and some more. At most half of all.
const AT_REST: u64 = 48;
/// The part of all places that one address may have, where nothing else is configured.
const ADDRESS_PART: usize = 4;
/// The part of all places whose connections may linger after a refusal.
const LINGERING_PART: usize = 4;
/// How long a connection that has not asked yet keeps its place in any case, where others need it: in a burst of honest
/// clients nobody is closed while the head is on the way. New ones wait for that long in the kernel's queue.
pub const MOMENT: Duration = Duration::from_millis(50);
/// What a head takes over a slow network, handshake included. For less than that a connection is only on its way, and those
/// that are idle give way before it.
const SLOW: Duration = Duration::from_secs(1);
/// Connections that are being closed or refused, at once, whatever the reserve has room for.
const CLOSING_MAX: u64 = 64;
/// Bits of an IPv6 address that are one customer's.
const V6_PREFIX: u32 = 64;

/// How many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections in all.
    pub total: usize,
    /// Connections of one address.
    pub per_address: usize,
    /// HTTP/2 streams on all connections.
    pub streams: usize,
    /// Connections that linger after a refusal.
    pub lingering: usize,
    /// Connections that gave way and are not closed yet, and as many that are being refused: they live of the reserve.
    pub closing: usize,
}

impl Bounds {
    /// The bounds of a process with so many descriptors.
    #[must_use]
    pub fn of(descriptors: u64, limits: &ListenLimits) -> Self {
        let ours = RESERVE.min((descriptors / 4).max(AT_REST)).min(descriptors / 2);
        let total = ((descriptors - ours) as f64 * limits.connections_share) as usize;
        let total = total.max(1);
        let or = |configured: Option<u32>, default: usize| {
            configured.map_or(default, |most| most as usize).clamp(1, usize::MAX)
        };
        Bounds {
            total,
            per_address: or(limits.connections_per_address, total / ADDRESS_PART),
            streams: or(limits.h2_streams, total),
            lingering: (total / LINGERING_PART).max(1),
            closing: (ours / 4).clamp(1, CLOSING_MAX) as usize,
        }
    }
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// Every connection has a request that runs.
    Total,
    /// Every connection of the address has.
    Address,
    /// Somebody will give way, in [`MOMENT`] at the latest: to be asked again.
    NotYet,
}

/// What a connection without a running request waits for, in the order in which they give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Waits {
    /// The rest of a head, or of a handshake; or its end after a refusal.
    ForHead,
    /// Nothing was asked since the last answer.
    Idle,
    /// The rest of a body.
    ForBody,
    /// A client that does not read its answer.
    ForReader,
}

/// A place in the order of giving way: since when, and which connection.
type Rank = (Waits, Duration, u64);

/// One connection.
#[derive(Debug)]
struct Entry {
    /// Whose share it is in.
    share: Option<IpAddr>,
    /// Absent while a request runs, and once it gave way.
    rank: Option<Rank>,
    /// Requests of it.
    active: u32,
    /// Those of them that are here with their body.
    whole: u32,
    /// Whether its socket takes no more of an answer.
    blocked: bool,
    lingers: bool,
    gave_way: bool,
    /// Closed when the connection has to give way: everybody who waits for that hears of it, whenever they come.
    called: Arc<Semaphore>,
}

/// One address. Forgotten with its last connection.
#[derive(Debug, Default)]
struct Share {
    count: usize,
    order: BTreeSet<Rank>,
}

/// All bounded by the number of connections, which the kernel bounds by descriptors.
#[derive(Debug, Default)]
struct Table {
    entries: HashMap<u64, Entry>,
    shares: HashMap<IpAddr, Share>,
    order: BTreeSet<Rank>,
    next: u64,
    /// Connections that gave way and are not closed yet.
    leaving: usize,
    lingering: usize,
}

/// Places for connections; cheap to share.
#[derive(Debug)]
pub struct Connections {
    bounds: Bounds,
    now: fn() -> Duration,
    table: Mutex<Table>,
    streams: AtomicUsize,
    told: Told,
}

impl Connections {
    /// Places within these bounds; `now` is the time since the process started.
    #[must_use]
    pub fn new(bounds: Bounds, now: fn() -> Duration) -> Arc<Self> {
        let (table, streams, told) = (Mutex::default(), AtomicUsize::new(0), Told::default());
        Arc::new(Connections { bounds, now, table, streams, told })
    }

    /// Counts a connection that was not served, and logs it, at most once a minute for each reason. O(1), one short lock.
    pub fn turned_away(&self, why: Turned, address: impl fmt::Display) {
        self.told.turned_away(why, address, (self.now)());
    }

    /// Open connections, with those that are being closed.
    #[must_use]
    pub fn open(&self) -> usize {
        self.table.lock().entries.len()
    }

    /// Whether so many connections gave way that are not closed yet that no further one is to be accepted.
    #[must_use]
    pub fn are_closing(&self) -> bool {
        self.table.lock().leaving >= self.bounds.closing
    }

    /// How many connections may be refused at once.
    #[must_use]
    pub fn refusing_max(&self) -> usize {
        self.bounds.closing
    }

    /// Takes a place for a connection of `address`, or of nobody in particular; with it how many gave way for it.
    ///
    /// # Errors
    /// When nobody can give way.
    pub fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Result<(Place, u32), NoPlace> {
        let share = address.map(share_of);
        let mut table = self.table.lock();
        let now = (self.now)();
        let mut gave_way = table.room_in_share(share, self.bounds.per_address, now)?;
        if table.entries.len() - table.leaving >= self.bounds.total {
            let next = next_to_go(&table.order, now)?;
            table.give_way(next);
            gave_way += 1;
        }
        let id = table.next;
        table.next += 1;
        let called = Arc::new(Semaphore::new(0));
        let entry = Entry {
            share: None,
            rank: None,
            active: 0,
            whole: 0,
            blocked: false,
            lingers: false,
            gave_way: false,
            called: Arc::clone(&called),
        };
        table.entries.insert(id, entry);
        table.join(id, share);
        table.rank(id, Some((Waits::ForHead, now, id)));
        drop(table);
        Ok((Place(Arc::new(Held { connections: Arc::clone(self), id, called })), gave_way))
    }

    /// Closes the connection that is first to give way. `false`: there is none.
    pub fn spare_one(&self) -> bool {
        let mut table = self.table.lock();
        let next = next_to_go(&table.order, (self.now)());
        next.map(|next| table.give_way(next)).is_ok()
    }

    /// Takes a place for an HTTP/2 stream; `None` when all are taken.
    #[must_use]
    pub fn stream(self: &Arc<Self>) -> Option<StreamPlace> {
        let stream = StreamPlace(Arc::clone(self));
        (self.streams.fetch_add(1, Ordering::Relaxed) < self.bounds.streams).then_some(stream)
    }

    /// Takes a place in the share of an address for one request of it that comes over a proxy's connection.
    ///
    /// # Errors
    /// When the share is used up.
    pub fn visit(self: &Arc<Self>, address: IpAddr) -> Result<Visit, NoPlace> {
        let address = share_of(address);
        let mut table = self.table.lock();
        table.room_in_share(Some(address), self.bounds.per_address, (self.now)())?;
        table.shares.entry(address).or_default().count += 1;
        Ok(Visit { connections: Arc::clone(self), address })
    }
}

/// Whose share an address is in.
fn share_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << (u128::BITS - V6_PREFIX))))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Who gives way next for a connection of any address.
///
/// # Errors
/// When there is nobody, or nobody who had a moment yet.
fn next_to_go(order: &BTreeSet<Rank>, now: Duration) -> Result<Rank, NoPlace> {
    let in_turn = [
        (Waits::ForHead, SLOW),
        (Waits::Idle, Duration::ZERO),
        (Waits::ForBody, SLOW),
        (Waits::ForHead, MOMENT),
        (Waits::ForBody, MOMENT),
        (Waits::ForReader, SLOW),
    ];
    // A client that does not read for less than that may be on a slow network.
    let next = in_turn.into_iter().find_map(|(waits, least)| {
        let longest = order.range((waits, Duration::ZERO, 0)..).next().copied();
        longest.filter(|(also, since, _)| *also == waits && now >= *since + least)
    });
    next.ok_or(if order.is_empty() { NoPlace::Total } else { NoPlace::NotYet })
}

impl Table {
    /// Makes room in a share; how many gave way for it.
    fn room_in_share(&mut self, share: Option<IpAddr>, most: usize, now: Duration) -> Result<u32, NoPlace> {
        let Some(held) = share.and_then(|share| self.shares.get(&share)) else { return Ok(0) };
        if held.count < most {
            return Ok(0);
        }
        // Without waiting for anybody's moment: whoever floods has only its own share to lose.
        let first = held.order.first().copied();
        let first = first.filter(|(waits, since, _)| *waits != Waits::ForReader || now >= *since + SLOW);
        self.give_way(first.ok_or(NoPlace::Address)?);
        Ok(1)
    }

    fn join(&mut self, id: u64, share: Option<IpAddr>) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.share = share;
            if let Some(share) = share {
                let held = self.shares.entry(share).or_default();
                held.count += 1;
                held.order.extend(entry.rank);
            }
        }
    }

    /// Takes a connection out of its share.
    fn leave(&mut self, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Some(share) = entry.share.take() else { return };
        if let Some(held) = self.shares.get_mut(&share)
            && let Some(rank) = &entry.rank
        {
            held.order.remove(rank);
        }
        self.shrink(share);
    }

    fn shrink(&mut self, share: IpAddr) {
        if let Some(held) = self.shares.get_mut(&share) {
            held.count = held.count.saturating_sub(1);
            if held.count == 0 {
                self.shares.remove(&share);
            }
        }
    }

    /// Puts a connection elsewhere in the order of giving way.
    fn rank(&mut self, id: u64, rank: Option<Rank>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let mut held = entry.share.and_then(|share| self.shares.get_mut(&share));
        if let Some(old) = std::mem::replace(&mut entry.rank, rank) {
            self.order.remove(&old);
            held.as_mut().map(|held| held.order.remove(&old));
        }
        self.order.extend(rank);
        if let (Some(held), Some(rank)) = (held, rank) {
            held.order.insert(rank);
        }
    }

    fn give_way(&mut self, (_, _, id): Rank) {
        self.rank(id, None);
        self.leave(id);
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.gave_way = true;
            self.leaving += 1;
            entry.called.close();
        }
    }

    fn close(&mut self, id: u64) {
        self.rank(id, None);
        self.leave(id);
        if let Some(entry) = self.entries.remove(&id) {
            self.leaving -= usize::from(entry.gave_way);
            self.lingering -= usize::from(entry.lingers);
        }
    }

    /// Ranks a connection by its requests, after one has begun or ended.
    fn rank_by_requests(&mut self, id: u64, now: Duration) {
        let Some(entry) = self.entries.get(&id).filter(|entry| !entry.gave_way) else { return };
        let waits = match (entry.active, entry.whole) {
            _ if entry.lingers => Some(Waits::ForHead),
            (0, _) => Some(Waits::Idle),
            (_, 0) => Some(Waits::ForBody),
            _ => entry.blocked.then_some(Waits::ForReader),
        };
        self.rank(id, waits.map(|waits| (waits, now, id)));
    }
}

/// A connection's place, given back when the last copy is dropped.
#[derive(Debug, Clone)]
pub struct Place(Arc<Held>);

#[derive(Debug)]
struct Held {
    connections: Arc<Connections>,
    id: u64,
    called: Arc<Semaphore>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.connections.table.lock().close(self.id);
    }
}

impl Place {
    /// Resolves when the connection has to give way: it is to be closed at once. Cancel-safe, for any number of waiters.
    pub async fn given_away(&self) {
        let _ = self.0.called.acquire().await;
    }

    /// Puts the connection into the share of the address that a trusted proxy told.
    ///
    /// # Errors
    /// When the share is used up.
    pub fn belongs_to(&self, address: IpAddr) -> Result<u32, NoPlace> {
        let share = Some(share_of(address));
        let mut table = self.0.connections.table.lock();
        let now = (self.0.connections.now)();
        let gave_way = table.room_in_share(share, self.0.connections.bounds.per_address, now)?;
        table.leave(self.0.id);
        if table.entries.get(&self.0.id).is_some_and(|entry| !entry.gave_way) {
            table.join(self.0.id, share);
        }
        Ok(gave_way)
    }

    /// The first bytes of another head are here.
    pub fn head_begins(&self) {
        let mut table = self.0.connections.table.lock();
        let id = self.0.id;
        if table.entries.get(&id).is_some_and(|entry| entry.active == 0 && !entry.gave_way) {
            table.rank(id, Some((Waits::ForHead, (self.0.connections.now)(), id)));
        }
    }

    /// The client's socket takes no more of an answer, or does again. O(log connections).
    pub fn is_blocked(&self, blocked: bool) {
        let mut table = self.0.connections.table.lock();
        if let Some(entry) = table.entries.get_mut(&self.0.id) {
            entry.blocked = blocked;
            if entry.whole > 0 {
                table.rank_by_requests(self.0.id, (self.0.connections.now)());
            }
        }
    }

    /// A head is here whole. `None`: the connection gave way just before.
    #[must_use]
    pub fn request(&self) -> Option<Asking> {
        let mut table = self.0.connections.table.lock();
        let entry = table.entries.get_mut(&self.0.id).filter(|entry| !entry.gave_way)?;
        entry.active += 1;
        table.rank_by_requests(self.0.id, (self.0.connections.now)());
        drop(table);
        Some(Asking { place: self.clone(), whole: false })
    }

    /// A refusal was told, and what the client still sends is to be read and dropped. `false`: too many do so.
    #[must_use]
    pub fn lingers(&self) -> bool {
        let mut table = self.0.connections.table.lock();
        let (id, has_room) = (self.0.id, table.lingering < self.0.connections.bounds.lingering);
        let Some(entry) = table.entries.get_mut(&id).filter(|entry| !entry.gave_way) else { return false };
        if entry.lingers || !has_room {
            return entry.lingers;
        }
        entry.lingers = true;
        table.lingering += 1;
        table.rank(id, Some((Waits::ForHead, (self.0.connections.now)(), id)));
        true
    }
}

/// A request of a connection, from its head to its end.
#[derive(Debug)]
pub struct Asking {
    place: Place,
    whole: bool,
}

impl Asking {
    /// Its body is here whole: from now on the connection does not give way. Once is enough.
    pub fn is_whole(&mut self) {
        if !std::mem::replace(&mut self.whole, true) {
            self.change(|entry| entry.whole += 1);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Entry)) {
        let held = &self.place.0;
        let mut table = held.connections.table.lock();
        if let Some(entry) = table.entries.get_mut(&held.id) {
            change(entry);
        }
        table.rank_by_requests(held.id, (held.connections.now)());
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let whole = u32::from(self.whole);
        self.change(|entry| {
            entry.active -= 1;
            entry.whole -= whole;
        });
    }
}

/// An HTTP/2 stream's place; given back on drop.
#[derive(Debug)]
pub struct StreamPlace(Arc<Connections>);

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place in an address's share for one request; given back on drop.
#[derive(Debug)]
pub struct Visit {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.connections.table.lock().shrink(self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

    /// A clock that goes on by more than what is slow each time that it is read.
    fn now() -> Duration {
        static READ: AtomicUsize = AtomicUsize::new(0);
        2 * SLOW * READ.fetch_add(1, Ordering::Relaxed) as u32
    }

    fn connections(total: usize, per_address: usize) -> Arc<Connections> {
        Connections::new(Bounds { total, per_address, streams: 2, lingering: 1, closing: 2 }, now)
    }

    fn gave_way(place: &Place) -> bool {
        place.request().is_none()
    }

    /// A place whose request runs.
    fn busy(connections: &Arc<Connections>, address: IpAddr) -> (Place, Asking) {
        let (place, _) = connections.enter(Some(address)).unwrap();
        let mut asking = place.request().unwrap();
        asking.is_whole();
        (place, asking)
    }

    #[test]
    fn a_quarter_is_one_addresss_and_a_reserve_is_ours() {
        let limits = ListenLimits::default();
        let of = |descriptors| {
            let bounds = Bounds::of(descriptors, &limits);
            (bounds.total, bounds.per_address, bounds.streams)
        };
        assert_eq!(of(1_024), (384, 96, 384));
        assert_eq!(of(65_536), (32_640, 8_160, 32_640));
        assert_eq!(of(64), (16, 4, 16));
        assert_eq!(of(1), (1, 1, 1));
    }

    #[test]
    fn without_a_head_first_then_idle_then_without_a_body_and_never_one_that_runs() {
        let connections = connections(4, 4);
        let (slow_body, _) = connections.enter(Some(A)).unwrap();
        let _body = slow_body.request().unwrap();
        let (idle, _) = connections.enter(Some(A)).unwrap();
        drop(idle.request().unwrap());
        let (silent, _) = connections.enter(Some(A)).unwrap();
        let (_runs, _asking) = busy(&connections, B);
        let mut new = Vec::new();
        for gives in [&silent, &idle, &slow_body] {
            let (place, count) = connections.enter(Some(B)).unwrap();
            let mut asking = place.request().unwrap();
            asking.is_whole();
            new.push((place, asking));
            assert!(count == 1 && gives.request().is_none());
        }
        assert_eq!(connections.enter(Some(A)).unwrap_err(), NoPlace::Total);
        assert!(connections.are_closing());
        new[0].0.is_blocked(true);
        assert!(
            connections.enter(Some(A)).is_ok() && new[0].0.request().is_none(),
            "nobody reads its answer"
        );

        drop((slow_body, idle, silent, _body));
        assert_eq!((connections.open(), connections.table.lock().leaving), (4, 1));
    }

    #[test]
    fn in_a_burst_those_that_came_first_stay() {
        let bounds = Bounds { total: 2, per_address: 9, streams: 2, lingering: 1, closing: 2 };
        let connections = Connections::new(bounds, || Duration::ZERO);
        let first = [connections.enter(Some(A)).unwrap(), connections.enter(Some(A)).unwrap()];

        assert_eq!(connections.enter(Some(B)).unwrap_err(), NoPlace::NotYet);
        let mut asking = first.each_ref().map(|(place, _)| place.request().unwrap());
        asking.iter_mut().for_each(Asking::is_whole);
        assert_eq!(connections.enter(Some(B)).unwrap_err(), NoPlace::Total);
        drop(asking);
        assert!(connections.enter(Some(B)).is_ok(), "an idle one has no moment to wait for");
        assert_eq!(first.iter().filter(|(place, _)| gave_way(place)).count(), 1);
    }

    #[test]
    fn a_head_that_is_on_its_way_comes_after_the_idle() {
        let bounds = Bounds { total: 2, per_address: 9, streams: 2, lingering: 1, closing: 2 };
        let connections = Connections::new(bounds, || Duration::ZERO);
        let (idle, _) = connections.enter(Some(A)).unwrap();
        let (new, _) = connections.enter(Some(A)).unwrap();
        drop(idle.request());

        assert!(connections.enter(Some(B)).is_ok() && gave_way(&idle) && !gave_way(&new));
    }

    #[test]
    fn an_address_at_its_share_takes_from_itself_alone() {
        let connections = connections(10, 2);
        let (other, _) = connections.enter(Some(B)).unwrap();
        let (first, _) = connections.enter(Some(A)).unwrap();
        let (second, _) = connections.enter(Some(A)).unwrap();

        let (_third, count) = connections.enter(Some(A)).unwrap();
        assert!(count == 1 && gave_way(&first) && !gave_way(&second) && !gave_way(&other));

        let (_busy, _asking) = (second.request().unwrap(), ());
        drop((first, second, _third));
        let _two = (busy(&connections, A), busy(&connections, A));
        assert_eq!(connections.enter(Some(A)).unwrap_err(), NoPlace::Address);
        assert_eq!(connections.visit(A).unwrap_err(), NoPlace::Address);
        assert!(connections.enter(None).is_ok(), "a listed proxy is in no share");
    }

    #[test]
    fn an_ipv6_share_is_a_64_and_a_mapped_address_is_the_ipv4_one() {
        let share = |text: &str| share_of(text.parse().unwrap());
        assert_eq!(share("2001:db8:1:2:3::4"), share("2001:db8:1:2::ffff"));
        assert_ne!(share("2001:db8:1:2::1"), share("2001:db8:1:3::1"));
        assert_eq!(share("::ffff:127.0.0.1"), A);
    }

    #[test]
    fn what_a_proxy_tells_moves_the_connection_and_counts_its_requests() {
        let connections = connections(10, 1);
        let (place, _) = connections.enter(None).unwrap();
        place.belongs_to(A).unwrap();
        let asking = place.request();
        let visit = connections.visit(B).unwrap();
        assert_eq!(connections.visit(B).unwrap_err(), NoPlace::Address);
        drop(visit);
        assert!(connections.visit(B).is_ok());
        assert!(connections.enter(Some(A)).is_ok_and(|(_, count)| count == 1), "it waits for its body");
        drop((asking, place));
        assert_eq!(connections.open(), 0);
        assert!(connections.table.lock().shares.is_empty(), "nothing is left behind");
    }

    #[test]
    fn streams_and_lingering_connections_are_bounded_apart() {
        let connections = connections(10, 10);
        let held = (connections.stream().unwrap(), connections.stream().unwrap());
        assert!(connections.stream().is_none());
        drop(held);
        assert!(connections.stream().is_some());

        let (one, _) = connections.enter(Some(A)).unwrap();
        let (two, _) = connections.enter(Some(A)).unwrap();
        assert!(one.lingers() && one.lingers() && !two.lingers());
        drop(one);
        assert!(two.lingers());
    }
}
