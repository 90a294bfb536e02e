//! A hash that is the same in every process and version: names and hints outlive a restart.

use std::hash::Hasher as _;

/// Returns the SipHash-2-4 of `bytes` under a fixed key. O(bytes), does not allocate. Not keyed: never for what an
/// attacker could profit from colliding.
#[must_use]
pub fn stable_hash(bytes: &[u8]) -> u64 {
    #[expect(deprecated, reason = "SipHash with fixed keys is what is wanted here: stable across processes")]
    let mut hasher = std::hash::SipHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
