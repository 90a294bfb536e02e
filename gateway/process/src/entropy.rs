//! Where randomness comes from: request ids and jitter. Not for keys.
//!
//! SplitMix64 over an atomic counter that starts at a random point: a bijection of the counter, so ids are
//! unique within the process and nearly so across processes, at the cost of one atomic add. Whoever knows some
//! ids could compute others; they are names, not secrets.

use protocol::stable_hash;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The increment of SplitMix64 (Steele, Lea, Flood 2014): 2^64 divided by the golden ratio, odd.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

static COUNTER: AtomicU64 = AtomicU64::new(0);
static START: OnceLock<u64> = OnceLock::new();

/// 64 random bits.
#[must_use]
pub fn bits() -> u64 {
    // The standard library seeds its hashers from the operating system once per process.
    let start = *START.get_or_init(|| RandomState::new().hash_one(std::process::id()));
    mix(start.wrapping_add(COUNTER.fetch_add(GAMMA, Ordering::Relaxed)))
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 128 random bits.
#[must_use]
pub fn key() -> [u8; 16] {
    (u128::from(bits()) << 64 | u128::from(bits())).to_le_bytes()
}

/// The member of `0 .. count` that `hint` belongs to, by rendezvous hashing: when `count` changes by one, only
/// that one's share moves. `None` of none.
#[must_use]
pub fn rendezvous(hint: u64, count: u16) -> Option<u16> {
    rendezvous_among(hint, 0..count)
}

/// The same among members that are not numbered without gaps.
pub fn rendezvous_among(hint: u64, members: impl Iterator<Item = u16>) -> Option<u16> {
    members.max_by_key(|member| mix(hint ^ mix(u64::from(*member) + 1)))
}

/// A number in `0.0 < u <= 1.0` that only `seed` and `name` decide.
#[must_use]
pub fn unit_of(seed: u64, name: &[u8]) -> f64 {
    ((mix(seed ^ mix(stable_hash(name))) >> 11) + 1) as f64 / (1u64 << 53) as f64
}

/// A hash of `value` under a key of this process: nobody outside can make two values collide on purpose. Not the same in
/// another process.
#[must_use]
pub fn keyed_hash(value: impl Hash) -> u64 {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    KEY.get_or_init(RandomState::new).hash_one(value)
}

/// The same for bodies of megabytes, by a hash that reads many bytes at a time. O(bytes).
#[must_use]
pub fn keyed_hash_of_long(bytes: &[u8]) -> u64 {
    static KEY: OnceLock<ahash::RandomState> = OnceLock::new();
    KEY.get_or_init(|| ahash::RandomState::with_seeds(bits(), bits(), bits(), bits())).hash_one(bytes)
}

/// A number in `0.0 .. 1.0`.
#[must_use]
pub fn unit() -> f64 {
    (bits() >> 11) as f64 / (1u64 << 53) as f64
}

/// `wait` moved up by 0 … max(250 ms, `part` of it), but not beyond `most`: to come back earlier would be in vain, and all at
/// once as well. One that is longer than `most` stays as it is.
#[must_use]
pub fn spread_up(wait: Duration, part: f64, most: Duration) -> Duration {
    let room = most.saturating_sub(wait);
    wait + wait.mul_f64(part).max(Duration::from_millis(250)).min(room).mul_f64(unit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn long_bodies_are_told_apart_by_every_byte() {
        let body = vec![b'a'; 1 << 20];
        assert_eq!(keyed_hash_of_long(&body), keyed_hash_of_long(&body.clone()));
        assert_ne!(keyed_hash_of_long(&body), keyed_hash_of_long(&body[1..]), "another length");
        for changed in [0, 300_001, 524_288, (1 << 20) - 1] {
            let mut other = body.clone();
            other[changed] = b'b';
            assert_ne!(keyed_hash_of_long(&body), keyed_hash_of_long(&other), "{changed}");
        }
    }

    #[test]
    fn bits_do_not_repeat() {
        let drawn: HashSet<u64> = (0..10_000).map(|_| bits()).collect();
        assert_eq!(drawn.len(), 10_000);
    }

    #[test]
    fn a_hint_stays_where_it_was_when_a_replica_is_added() {
        let moved =
            (0..1000u64).filter(|hint| rendezvous(mix(*hint), 4) != rendezvous(mix(*hint), 5)).count();
        assert!((100..300).contains(&moved), "a fifth of them moves: {moved}");
        let on_first = (0..1000u64).filter(|hint| rendezvous(mix(*hint), 4) == Some(0)).count();
        assert!((200..300).contains(&on_first), "{on_first}");
        assert_eq!(rendezvous(7, 0), None);
    }

    #[test]
    fn waits_are_spread_within_their_bounds() {
        let wait = Duration::from_secs(10);
        for _ in 0..1000 {
            let (limit, load) = (spread_up(wait, 0.2, Duration::MAX), spread_up(wait, 0.25, Duration::MAX));
            assert!(limit >= wait && limit <= Duration::from_secs(12), "{limit:?}");
            assert!(load >= wait && load <= Duration::from_millis(12_500), "{load:?}");
        }
        assert!(spread_up(Duration::ZERO, 0.2, Duration::MAX) <= Duration::from_millis(250));
        let most = Duration::from_secs(60);
        for ms in [0, 30_000, 59_900, 60_000, 60_080] {
            let wait = Duration::from_millis(ms);
            let told = spread_up(wait, 0.2, most);
            assert!(told >= wait && told <= most.max(wait), "{ms}: {told:?}");
        }
    }
}
