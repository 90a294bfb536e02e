//! Customers' keys: made here once, kept as a digest only, looked up by the digest.
//!
//! A key is 256 random bits, so a plain SHA-256 of it cannot be searched: no salt, no slow hash, and one
//! hash and one map lookup a request. A key reads
//!
//! ```text
//! tg-<43 characters of 0-9A-Za-z><6 characters of checksum>
//! ```
//!
//! 43 characters drawn evenly from 62 hold 256.03 bits. The prefix lets secret scanners find a leaked key;
//! the checksum (the first 32 bits of the SHA-256 of what precedes it) tells a mistyped key from an unknown
//! one without looking anything up.
//!
//! # Guarantees
//!
//! - What is stored is no key: presenting a stored digest, in any spelling, finds nothing.
//! - The last comparison takes the same time wherever two digests differ. The map before it is addressed by
//!   a hash that the presenter cannot steer, so its timing says nothing about a stored key.
//! - A key of any other make works too, as long as its digest is in the config and its length is in bounds.
//! - Neither keys nor whole digests appear in `Debug` output.

use std::collections::HashMap;
use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

/// What every key made here starts with.
pub const KEY_PREFIX: &str = "tg-";

/// The shortest text that is taken for a key, bytes. Keys made here have 50; what others use is theirs to judge.
pub const KEY_BYTES_MIN: usize = 1;

/// The longest text that is taken for a key, bytes; it bounds the work for an unknown caller.
pub const KEY_BYTES_MAX: usize = 512;

const DIGEST_PREFIX: &str = "sha256:";
const RANDOM_CHARS: usize = 43;
const CHECKSUM_CHARS: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The SHA-256 of a key: what the config holds instead of the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of a key as it was presented. One SHA-256 block or two; does not allocate.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// Reads `sha256:` and 64 hexadecimal digits of either case.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let hex = text.strip_prefix(DIGEST_PREFIX).ok_or(DigestError::Prefix)?;
        if hex.len() != 64 {
            return Err(DigestError::Length(hex.chars().count()));
        }
        let mut bytes = [0_u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = pair.iter().try_fold(0_u8, |high, digit| {
                let low = char::from(*digit).to_digit(16).ok_or(DigestError::NotHex)?;
                Ok::<u8, DigestError>(high << 4 | low as u8)
            })?;
        }
        Ok(Self(bytes))
    }

    /// The 32 bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 8 hexadecimal digits: enough to tell keys apart for a person, useless as a credential.
    pub fn short(&self) -> String {
        self.0.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The same as a number.
    pub fn short_number(&self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }

    /// Whether both are the same, in a time that does not depend on where they differ.
    pub fn same(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// The whole digest as the config wants it: `sha256:<64 hexadecimal digits>`.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(DIGEST_PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Shortened, so that a logged config does not hold what identifies a key.
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{DIGEST_PREFIX}{}…", self.short())
    }
}

/// Why a text is not a digest of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// Usually the key itself was pasted, or the hash without its prefix.
    #[error("must be `sha256:` and 64 hexadecimal digits; `tidegate keys new` prints a key and its digest")]
    Prefix,
    /// Usually a digit was lost, or another hash was used.
    #[error("must have 64 hexadecimal digits after `sha256:`, has {0} characters")]
    Length(usize),
    /// Usually base64 was pasted.
    #[error("must have only hexadecimal digits (0-9, a-f) after `sha256:`")]
    NotHex,
}

/// A new key; the only moment at which it exists in the clear on our side.
pub struct NewKey {
    /// What the customer gets, once.
    pub key: String,
    /// What goes into the config.
    pub digest: Digest,
}

impl NewKey {
    /// Makes a key of 256 random bits. `fill` fills a slice with random bytes that nobody can guess, such as
    /// the operating system's; its error is passed on and no key is made.
    pub fn generate<E>(mut fill: impl FnMut(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut key = String::with_capacity(KEY_PREFIX.len() + RANDOM_CHARS + CHECKSUM_CHARS);
        key.push_str(KEY_PREFIX);
        while key.len() < KEY_PREFIX.len() + RANDOM_CHARS {
            let mut bytes = [0_u8; 64];
            fill(&mut bytes)?;
            // 248 = 4 * 62: a byte beyond it would make the first letters of the alphabet likelier.
            let even = bytes.iter().filter(|byte| **byte < 248);
            let missing = KEY_PREFIX.len() + RANDOM_CHARS - key.len();
            key.extend(even.take(missing).map(|byte| letter(u32::from(*byte))));
        }
        key.push_str(&checksum(&key));
        let digest = Digest::of(&key);
        Ok(Self { key, digest })
    }

    /// Makes a key from the operating system's randomness.
    pub fn from_os() -> Result<Self, rand::rand_core::OsError> {
        use rand::TryRngCore as _;
        Self::generate(|bytes| rand::rngs::OsRng.try_fill_bytes(bytes))
    }
}

/// Whether a text has the form of a key made here but not its checksum: a typing or copying error.
pub fn is_mistyped(key: &str) -> bool {
    let Some(rest) = key.strip_prefix(KEY_PREFIX) else { return false };
    if rest.len() != RANDOM_CHARS + CHECKSUM_CHARS || !rest.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return true;
    }
    let (body, sum) = key.split_at(KEY_PREFIX.len() + RANDOM_CHARS);
    checksum(body) != sum
}

fn checksum(body: &str) -> String {
    let hash: [u8; 32] = Sha256::digest(body.as_bytes()).into();
    let mut rest = hash.iter().take(4).fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    let mut sum = String::with_capacity(CHECKSUM_CHARS);
    for _ in 0..CHECKSUM_CHARS {
        sum.push(letter(rest));
        rest /= 62;
    }
    sum
}

fn letter(number: u32) -> char {
    ALPHABET.get(number as usize % ALPHABET.len()).copied().map_or('0', char::from)
}

/// From the digest of a key to what it opens.
#[derive(Debug, Clone)]
pub struct KeyTable<T> {
    by_digest: HashMap<Digest, T>,
}

impl<T> Default for KeyTable<T> {
    fn default() -> Self {
        Self { by_digest: HashMap::new() }
    }
}

impl<T> KeyTable<T> {
    /// Adds a key's digest. A digest that is there already is refused and `opens` is given back.
    pub fn insert(&mut self, digest: Digest, opens: T) -> Result<(), T> {
        match self.by_digest.entry(digest) {
            std::collections::hash_map::Entry::Occupied(_) => Err(opens),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(opens);
                Ok(())
            }
        }
    }

    /// What a presented key opens. O(1), one SHA-256 of at most [`KEY_BYTES_MAX`] bytes, does not allocate.
    pub fn find(&self, presented: &str) -> Option<&T> {
        self.find_stored(presented).map(|(_, opens)| opens)
    }

    /// As [`Self::find`], with the digest by which the key is known.
    pub fn find_stored(&self, presented: &str) -> Option<(Digest, &T)> {
        if !(KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&presented.len()) || presented.starts_with(DIGEST_PREFIX)
        {
            return None;
        }
        let digest = Digest::of(presented);
        let (stored, opens) = self.by_digest.get_key_value(&digest)?;
        stored.same(&digest).then_some((*stored, opens))
    }

    /// What the key of a digest opens. For what is stored: who presents something is looked up by [`Self::find`].
    pub fn get(&self, digest: &Digest) -> Option<&T> {
        self.by_digest.get(digest)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.by_digest.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.by_digest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deterministic bytes: 0, 1, 2 … so that a test can tell which of them were used.
    fn counting() -> impl FnMut(&mut [u8]) -> Result<(), std::convert::Infallible> {
        let mut next = 0_u8;
        move |bytes| {
            for byte in bytes {
                *byte = next;
                next = next.wrapping_add(1);
            }
            Ok(())
        }
    }

    fn made() -> NewKey {
        NewKey::generate(counting()).unwrap()
    }

    #[test]
    fn a_new_key_opens_what_its_digest_was_stored_for() {
        let new = made();
        let mut table = KeyTable::default();
        table.insert(Digest::parse(&new.digest.to_string()).unwrap(), "acme").unwrap();

        assert_eq!(table.find(&new.key), Some(&"acme"));
        assert_eq!(new.key.len(), 52);
    }

    /// A leaked config must not let anybody in.
    #[test]
    fn a_stored_digest_presented_as_a_key_opens_nothing() {
        let new = made();
        let mut table = KeyTable::default();
        table.insert(new.digest, ()).unwrap();
        let stored = new.digest.to_string();
        let hex = stored.trim_start_matches("sha256:");

        for presented in [stored.as_str(), hex, &hex.to_uppercase(), &new.digest.short()] {
            assert_eq!(table.find(presented), None, "{presented}");
        }
        // Not even when somebody stored the digest of a digest.
        table.insert(Digest::of(&stored), ()).unwrap();
        assert_eq!(table.find(&stored), None);
    }

    #[test]
    fn any_single_wrong_character_is_a_typing_error_not_an_unknown_key() {
        let key = made().key;
        assert!(!is_mistyped(&key));
        for place in KEY_PREFIX.len()..key.len() {
            let mut wrong = key.clone().into_bytes();
            wrong[place] = if wrong[place] == b'x' { b'y' } else { b'x' };
            assert!(is_mistyped(&String::from_utf8(wrong).unwrap()), "character {place}");
        }
        assert!(is_mistyped(&key[..key.len() - 1]), "a lost last character");
        assert!(!is_mistyped("sk-made-elsewhere-0123456789"), "other makers' keys have no checksum of ours");
    }

    #[test]
    fn every_letter_comes_from_exactly_four_of_the_256_bytes() {
        let mut counts = std::collections::BTreeMap::<char, u32>::new();
        for byte in 0..=255_u8 {
            let mut first = true;
            let fill = |bytes: &mut [u8]| {
                // A byte that is passed over would be asked for again for ever: then give zeros.
                bytes.fill(if std::mem::take(&mut first) { byte } else { 0 });
                Ok::<(), ()>(())
            };
            let key = NewKey::generate(fill).unwrap().key;
            let used = byte < 248;
            if used {
                *counts.entry(key.chars().nth(KEY_PREFIX.len()).unwrap()).or_default() += 1;
            }
        }
        assert_eq!(counts.len(), 62);
        assert!(counts.values().all(|count| *count == 4), "{counts:?}");
    }

    #[test]
    fn bytes_that_would_favour_a_letter_are_passed_over() {
        let mut rounds = [248_u8, 255, 7].into_iter();
        let key = NewKey::generate(|bytes| {
            bytes.fill(rounds.next().unwrap());
            Ok::<(), ()>(())
        });
        assert!(key.unwrap().key.starts_with("tg-777"));
    }

    #[test]
    fn two_keys_of_the_operating_system_differ() {
        assert_ne!(NewKey::from_os().unwrap().key, NewKey::from_os().unwrap().key);
    }

    #[test]
    fn no_key_is_made_without_randomness() {
        let made = NewKey::generate(|_| Err("no entropy"));
        assert_eq!(made.err(), Some("no entropy"));
    }

    #[test]
    fn malformed_digests_say_what_is_wrong() {
        assert_eq!(Digest::parse("tg-abc"), Err(DigestError::Prefix));
        assert_eq!(Digest::parse("sha256:abc"), Err(DigestError::Length(3)));
        assert_eq!(Digest::parse(&format!("sha256:{}", "g".repeat(64))), Err(DigestError::NotHex));
        assert_eq!(Digest::parse(&format!("sha256:{}", "é".repeat(32))), Err(DigestError::NotHex));
    }

    #[test]
    fn a_key_may_open_one_thing_only() {
        let mut table = KeyTable::default();
        table.insert(made().digest, "acme").unwrap();
        assert_eq!(table.insert(made().digest, "bolt"), Err("bolt"));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn too_short_and_too_long_texts_are_no_keys() {
        let (short, long) = ("k".repeat(KEY_BYTES_MIN - 1), "k".repeat(KEY_BYTES_MAX + 1));
        let mut table = KeyTable::default();
        table.insert(Digest::of(&short), ()).unwrap();
        table.insert(Digest::of(&long), ()).unwrap();
        assert_eq!((table.find(&short), table.find(&long)), (None, None));
    }

    #[test]
    fn debug_output_shows_neither_key_nor_digest() {
        let digest = made().digest;
        let debug = format!("{digest:?}");
        assert!(debug.len() < 24 && !digest.to_string().contains(&debug), "{debug}");
    }
}
