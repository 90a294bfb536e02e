//! The keys of a prompt: chained keyed hashes at growing distances from its start.
//!
//! Two prompts that agree up to a boundary have the same key there, and only they. Boundaries lie
//! `block_bytes` apart at first and further apart the deeper they are, at most 1/64 of the depth: so a known
//! prefix is measured to within 1.6 % (or one small block), a 4 KB prompt has 64 keys, and one of 400 KB has
//! 360 instead of 6,250. Memory and lookups grow with the logarithm of long prompts, not with their length.
//!
//! # Hash
//!
//! SipHash-1-3 with a secret 128-bit key, over the key of the block before, the account and the block's bytes.
//! Customers choose the bytes. With an unkeyed or merely seeded fast hash (FNV, XXH3 with a seed, ahash's
//! fallback) they could build collisions and so read, by their remaining tokens, or disturb, by wrong
//! routes, what others cached; SipHash is a pseudo-random function made for this, and 1-3 is what Rust's own maps
//! use. 64 bits: with a million entries an accidental collision per lookup has a chance of 1 in 2⁴⁴.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// A boundary and its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    /// Bytes from the start of the prompt to this boundary.
    pub(crate) end: u32,
    pub(crate) digest: u64,
}

/// The keys of one prompt: filled by [`PrefixIndex::lookup`](crate::PrefixIndex::lookup), used again by `record`.
///
/// Reuse one to save the allocation. At most 16 bytes per boundary: 6 KB for a prompt of 400 KB.
#[derive(Debug, Clone, Default)]
pub struct PrefixKeys {
    /// Every boundary at which a block is full.
    pub(crate) blocks: Vec<Key>,
    /// The end of the prompt, wherever it lies: the place where the next turn goes on.
    pub(crate) end: Option<Key>,
}

impl PrefixKeys {
    /// No keys.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Makes keys. Holds only the secret key and the block size: copy it to make keys outside of any lock.
#[derive(Debug, Clone, Copy)]
pub struct PrefixHasher {
    key: [u8; 16],
    block_bytes: u32,
    shared_prefixes: bool,
}

impl PrefixHasher {
    pub(crate) fn new(key: [u8; 16], block_bytes: u32, shared_prefixes: bool) -> Self {
        Self { key, block_bytes: block_bytes.max(1), shared_prefixes }
    }

    /// Makes the keys of `prompt`, for `account` alone unless prefixes are shared. O(bytes), at 1.5 GB/s and more;
    /// only the first 4 GiB of a prompt count.
    pub fn keys(&self, account: u64, prompt: &[u8], keys: &mut PrefixKeys) {
        let realm = if self.shared_prefixes { 0 } else { account };
        keys.blocks.clear();
        let mut rest = prompt.get(..u32::MAX as usize).unwrap_or(prompt);
        let mut last = Key { end: 0, digest: realm };
        while let Some((block, later)) = rest.split_at_checked(self.block_after(last.end)) {
            last = self.chain(last, block);
            keys.blocks.push(last);
            rest = later;
        }
        keys.end = Some(self.chain(last, rest));
    }

    /// The key at the end of `bytes`, which follow the boundary `last`.
    pub(crate) fn chain(&self, last: Key, bytes: &[u8]) -> Key {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write_u64(last.digest);
        // The position is part of the key: a prompt's end and a block boundary at one place are one key,
        // but no two places ever share one.
        hasher.write_u32(last.end);
        hasher.write(bytes);
        Key { end: last.end.saturating_add(bytes.len() as u32), digest: hasher.finish() }
    }

    /// Bytes of the block that starts at `depth`: 1/64 of the depth in whole small blocks, at least one.
    fn block_after(&self, depth: u32) -> usize {
        let step = depth / 64 / self.block_bytes;
        (step.max(1) as usize).saturating_mul(self.block_bytes as usize)
    }
}
