//! Which part of a prompt is cached, and where.
//!
//! Engines keep the attention state of prompts that they have seen and skip what a new prompt shares with one.
//! They do not say beforehand how much that will be. But what is cached came through here: so for each
//! boundary of each prompt (see [`keys`](super::keys)) we remember the replicas that saw it, and how many tokens the prompt
//! had up to there. One walk over the bytes of a new prompt then tells
//!
//! - how much of it is known at all and how many tokens that is, so that only the rest has to be estimated,
//! - the replicas on which most of it is cached, for the choice of one,
//! - the tokens expected to be cached, for the budget of uncached tokens. What a replica has dropped since is
//!   learnt from its reports, see [`lifetime`](super::lifetime).
//!
//! A conversation goes on where its last prompt ended, between two boundaries. So the last boundary of a
//! prompt also remembers how many bytes followed it; if a new prompt has the same bytes there, the match
//! reaches exactly to the end of the last turn, and the engine's answer to it, which it has cached as well, is
//! expected to come next.
//!
//! Knowledge is kept per account: an account whose remaining tokens told what others have sent would be a
//! side channel. `shared_prefixes` gives that up where all accounts belong to one owner.
//!
//! # Guarantees
//!
//! - At most `entries_max` entries; the longest unused goes first, deep boundaries before shallow ones.
//! - A match never extends past the first byte that differs (up to a hash collision, 1 in 2⁴⁴ per lookup).
//! - `lookup` and `record` are O(bytes) to hash and O(boundaries) to find; nothing is allocated in `lookup` but
//!   the keys, once.

use std::time::Duration;

use super::bytes::{NoExport, Reader, Writer};
use super::keys::{Key, PrefixHasher, PrefixKeys};
use super::lifetime::Lifetime;
use super::lru::Lru;

/// Most replicas that one boundary remembers.
pub const REPLICAS_PER_BLOCK_MAX: usize = 4;

/// Knowledge older than this is not believed: a replica may have been restarted behind the same address.
pub const KNOWLEDGE_AGE_MAX: Duration = Duration::from_secs(3600);

/// Bytes taken for one token where no count is known.
const BYTES_PER_TOKEN: u64 = 4;

/// No prompt ended after this boundary.
const NO_TAIL: u32 = u32::MAX;

/// How much is remembered, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixIndexConfig {
    /// Boundaries remembered, 65 to 140 bytes each. Default 500,000: at most 70 MB, the last 30,000 prompts of 1 KB.
    pub entries_max: u32,
    /// Bytes between boundaries near the start of a prompt. Default 64: about one 16-token block of an engine.
    pub block_bytes: u32,
    /// Replicas remembered per boundary, the latest. 1 to 4, default 4.
    pub replicas_per_block: u8,
    /// Whether an account may profit from, and so learn of, what another one sent. Default false.
    pub shared_prefixes: bool,
    /// Secret key of the hash: random per process, never logged.
    pub hash_key: [u8; 16],
}

impl PrefixIndexConfig {
    /// The defaults, with this secret key.
    pub fn with_key(hash_key: [u8; 16]) -> Self {
        Self {
            entries_max: 500_000,
            block_bytes: 64,
            replicas_per_block: 4,
            shared_prefixes: false,
            hash_key,
        }
    }
}

/// What is known of a prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PrefixMatch {
    /// Bytes from the start that an earlier prompt had as well.
    pub bytes_known: u64,
    /// Tokens of those bytes with everything that the engine puts around them, from the engine's own counts
    /// (in proportion to the bytes where a match ends inside of an earlier prompt).
    pub tokens_known: Option<u32>,
    /// The replicas that saw most of it, best first, with the bytes that each saw.
    pub best: [Option<(u16, u64)>; 3],
    /// Tokens of the answer that followed the known bytes and that the best replica has cached too; 0 if none
    /// is known, or the match does not reach the end of an earlier prompt.
    pub answer_tokens: u32,
    /// What replicas saw, whether or not it is believed to be cached still: to learn from what they report.
    seen: [Option<Seen>; 3],
}

/// The deepest boundary that a replica saw of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    replica: u16,
    bytes: u32,
    age: u32,
}

impl PrefixMatch {
    /// Tokens that a replica with `bytes` of the prompt is expected to report as cached, of `prompt_tokens`.
    ///
    /// Whole blocks of `block_tokens` (16 on most engines), and never the last token, which has to be computed.
    pub fn cached_tokens(&self, bytes: u64, prompt_tokens: u32, block_tokens: u32) -> u32 {
        let answer = if bytes == self.bytes_known { u64::from(self.answer_tokens) } else { 0 };
        let tokens = (self.tokens_of(bytes) + answer).min(u64::from(prompt_tokens.saturating_sub(1)));
        let block = u64::from(block_tokens.max(1));
        (tokens / block * block) as u32
    }

    fn tokens_of(&self, bytes: u64) -> u64 {
        self.tokens_known.map_or(bytes / BYTES_PER_TOKEN, |tokens| {
            u64::from(tokens) * bytes.min(self.bytes_known) / self.bytes_known.max(1)
        })
    }
}

/// The form of exported bytes.
const EXPORT_VERSION: u32 = 1;

/// No replica. A replica of this number is not remembered.
const NOBODY: u16 = u16::MAX;

#[derive(Debug, Clone, Copy)]
struct Sighting {
    /// Or [`NOBODY`].
    replica: u16,
    /// The generation of the replica's cache that this was seen in.
    generation: u16,
    /// When, in the tokens that the replica was given: see [`lifetime`](super::lifetime).
    stamp: u32,
}

const UNSEEN: Sighting = Sighting { replica: NOBODY, generation: 0, stamp: 0 };

#[derive(Debug, Clone)]
struct Entry {
    /// The latest replicas first.
    seen: [Sighting; REPLICAS_PER_BLOCK_MAX],
    /// Seconds at which this was last recorded.
    seen_s: u32,
    /// Tokens from the start of the prompt to here; 0 is unknown.
    tokens: u32,
    /// At a block boundary: bytes from here to where a prompt ended, or [`NO_TAIL`].
    tail_bytes: u32,
    /// At the end of a prompt: tokens of the answer to it.
    answer_tokens: u32,
}

/// The prompts that a deployment has seen, by prefix. One per deployment, behind its lock.
#[derive(Debug, Clone)]
pub struct PrefixIndex {
    entries: Lru<Entry>,
    hasher: PrefixHasher,
    /// One per replica; grows to the largest replica number recorded.
    replicas: Vec<Lifetime>,
    replicas_per_block: usize,
    latest_s: u32,
    /// Seconds that are added to the caller's: those of the processes before.
    before_s: u32,
}

impl PrefixIndex {
    /// An empty index. Memory is taken as it fills.
    pub fn new(config: PrefixIndexConfig) -> Self {
        Self {
            entries: Lru::new(config.entries_max),
            hasher: PrefixHasher::new(config.hash_key, config.block_bytes, config.shared_prefixes),
            replicas: Vec::new(),
            replicas_per_block: usize::from(config.replicas_per_block).clamp(1, REPLICAS_PER_BLOCK_MAX),
            latest_s: 0,
            before_s: 0,
        }
    }

    /// What is known of `prompt`; fills `out` with its keys for [`record`](Self::record).
    ///
    /// `prompt` should leave out what changes between two turns of one conversation before its end, such as the
    /// bracket that closes the list of messages.
    pub fn lookup(&self, account: u64, prompt: &[u8], out: &mut PrefixKeys) -> PrefixMatch {
        self.hasher.keys(account, prompt, out);
        self.find(prompt, out)
    }

    /// What makes the keys: the part of a lookup that costs O(bytes). Copy it out of the lock, once.
    pub fn hasher(&self) -> PrefixHasher {
        self.hasher
    }

    /// What is known of the prompt that `keys` are of: the part of a lookup that costs O(boundaries).
    pub fn find(&self, prompt: &[u8], keys: &PrefixKeys) -> PrefixMatch {
        // Boundaries are remembered from the start and forgotten from the end: known ones come first.
        let known = keys.blocks.partition_point(|key| self.current(key.digest).is_some());
        let blocks = keys.blocks.get(..known).unwrap_or_default();
        let mut found = PrefixMatch::default();
        let end = blocks.last().and_then(|last| self.end_after(*last, prompt));
        for key in end.iter().chain(blocks.iter().rev()) {
            let Some(entry) = self.current(key.digest) else { continue };
            if found.bytes_known == 0 {
                found.bytes_known = u64::from(key.end);
                found.tokens_known = (entry.tokens > 0).then_some(entry.tokens);
                found.answer_tokens = entry.answer_tokens;
            }
            if self.add_replicas(entry, key.end, &mut found) {
                break;
            }
        }
        found
    }

    /// Remembers that `replica` was given the prompt of `keys`, of `prompt_tokens` tokens if that is known.
    ///
    /// To be called when the replica has begun to answer, and again when the engine's count is known.
    pub fn record(&mut self, now: Duration, keys: &PrefixKeys, replica: u16, prompt_tokens: Option<u32>) {
        let now_s = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        self.latest_s = self.latest_s.max(now_s.saturating_add(self.before_s));
        let Some(end) = keys.end else { return };
        let counts = Counts::new(self.known_count(keys), end.end, prompt_tokens);
        let Some(cache) = self.replica(replica) else { return };
        cache.give(prompt_tokens.unwrap_or(0));
        let cache = cache.clone();
        for key in std::iter::once(&end).chain(keys.blocks.iter().rev()) {
            let deeper_tokens = u64::from(end.end - key.end) / BYTES_PER_TOKEN;
            let stamp = cache.stamp(deeper_tokens as u32);
            let sighting = Sighting { replica, generation: cache.generation, stamp };
            let tail_bytes = if keys.blocks.last() == Some(key) { end.end - key.end } else { NO_TAIL };
            self.see(key.digest, sighting, counts.at(key.end), tail_bytes);
        }
    }

    /// Remembers the length of the answer that `replica` gave to the prompt of `keys`, and has cached behind it.
    pub fn record_answer(&mut self, keys: &PrefixKeys, replica: u16, answer_tokens: u32) {
        if let Some(cache) = self.replica(replica) {
            cache.give(answer_tokens);
        }
        if let Some(entry) = keys.end.and_then(|end| self.entries.touch(end.digest)) {
            entry.answer_tokens = answer_tokens;
        }
    }

    /// Learns from the `cached_tokens` that `replica` reported for the prompt that was `found` so at admission.
    ///
    /// Only to be called when the report has a number: a missing one is unknown, not zero. O(1).
    pub fn observe_cached(&mut self, found: &PrefixMatch, replica: u16, cached_tokens: u32) {
        let Some(seen) = found.seen.iter().flatten().find(|seen| seen.replica == replica) else { return };
        let expected = found.tokens_of(u64::from(seen.bytes)) as u32;
        if let Some(cache) = self.replica(replica) {
            cache.observe(seen.age, expected, cached_tokens);
        }
    }

    /// Forgets what `replica` has cached: it was restarted or replaced. O(1).
    pub fn forget_replica(&mut self, replica: u16) {
        if let Some(cache) = self.replica(replica) {
            cache.forget();
        }
    }

    /// Everything that is remembered, as bytes for another process: 60 for each boundary.
    #[must_use]
    pub fn export(&self) -> Vec<u8> {
        let mut bytes = Writer::default();
        bytes.u32(EXPORT_VERSION);
        bytes.u32(self.latest_s);
        bytes.u32(self.replicas.len() as u32);
        self.replicas.iter().for_each(|replica| replica.export(&mut bytes));
        bytes.u32(self.entries.len() as u32);
        for (key, entry) in self.entries.oldest_first() {
            bytes.u64(key);
            for seen in entry.seen {
                bytes.u16(seen.replica);
                bytes.u16(seen.generation);
                bytes.u32(seen.stamp);
            }
            [entry.seen_s, entry.tokens, entry.tail_bytes, entry.answer_tokens]
                .into_iter()
                .for_each(|n| bytes.u32(n));
        }
        bytes.0
    }

    /// Goes on with what another process remembered, under the hash key that it had (`config`). `renumbered` gives a replica's
    /// number here, if it is still there.
    ///
    /// # Errors
    /// The bytes are not those of an export of this version.
    pub fn import(
        config: PrefixIndexConfig,
        bytes: &[u8],
        renumbered: impl Fn(u16) -> Option<u16>,
    ) -> Result<Self, NoExport> {
        let mut from = Reader(bytes);
        let mut index = Self::new(config);
        if from.u32()? != EXPORT_VERSION {
            return Err(NoExport);
        }
        let latest_s = from.u32()?;
        (index.latest_s, index.before_s) = (latest_s, latest_s);
        for number in 0..from.u32()? {
            let lifetime = Lifetime::import(&mut from)?;
            if let Some(here) = u16::try_from(number).ok().and_then(&renumbered)
                && let Some(cache) = index.replica(here)
            {
                *cache = lifetime;
            }
        }
        for _ in 0..from.u32()? {
            let key = from.u64()?;
            let mut seen = [UNSEEN; REPLICAS_PER_BLOCK_MAX];
            let mut kept = 0;
            for _ in 0..REPLICAS_PER_BLOCK_MAX {
                let (replica, generation, stamp) = (from.u16()?, from.u16()?, from.u32()?);
                let here = Some(replica).filter(|replica| *replica != NOBODY).and_then(&renumbered);
                if let (Some(replica), Some(slot)) = (here, seen.get_mut(kept)) {
                    *slot = Sighting { replica, generation, stamp };
                    kept += 1;
                }
            }
            let [seen_s, tokens, tail_bytes, answer_tokens] =
                [from.u32()?, from.u32()?, from.u32()?, from.u32()?];
            if index.entries.find(key).is_none() {
                index.entries.insert(key, Entry { seen, seen_s, tokens, tail_bytes, answer_tokens });
            }
        }
        if from.0.is_empty() { Ok(index) } else { Err(NoExport) }
    }

    /// Boundaries remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory taken.
    pub fn bytes(&self) -> usize {
        self.entries.bytes() + self.replicas.capacity() * size_of::<Lifetime>()
    }

    fn current(&self, digest: u64) -> Option<&Entry> {
        let age_max = KNOWLEDGE_AGE_MAX.as_secs() as u32;
        self.entries.find(digest).filter(|entry| self.latest_s.saturating_sub(entry.seen_s) <= age_max)
    }

    /// The end of an earlier prompt after the boundary `last`, if this prompt has the same bytes up to there.
    fn end_after(&self, last: Key, prompt: &[u8]) -> Option<Key> {
        let tail_bytes = self.current(last.digest)?.tail_bytes;
        if tail_bytes == NO_TAIL {
            return None;
        }
        let start = last.end as usize;
        let tail = prompt.get(start..start.checked_add(tail_bytes as usize)?)?;
        let end = self.hasher.chain(last, tail);
        self.current(end.digest).map(|_| end)
    }

    /// Adds the replicas of an entry that are not in the match yet; true when no more are asked for.
    fn add_replicas(&self, entry: &Entry, end: u32, found: &mut PrefixMatch) -> bool {
        for sighting in entry.seen.iter().take_while(|sighting| sighting.replica != NOBODY) {
            let replica = sighting.replica;
            let Some(cache) = self.replicas.get(usize::from(replica)) else { continue };
            if sighting.generation != cache.generation {
                continue;
            }
            let age = cache.age(sighting.stamp);
            let seen = Seen { replica, bytes: end, age };
            add_once(&mut found.seen, seen, |listed| listed.replica == replica);
            if cache.believes(age) {
                add_once(&mut found.best, (replica, u64::from(end)), |(listed, _)| *listed == replica);
            }
        }
        found.best.iter().all(Option::is_some)
    }

    /// The deepest boundary of the prompt whose tokens are known, and their number.
    fn known_count(&self, keys: &PrefixKeys) -> Option<(u32, u32)> {
        let known = keys.blocks.partition_point(|key| self.current(key.digest).is_some());
        let blocks = keys.blocks.get(..known).unwrap_or_default();
        blocks.iter().rev().find_map(|key| {
            let tokens = self.current(key.digest)?.tokens;
            (tokens > 0).then_some((key.end, tokens))
        })
    }

    /// Touches a boundary. The order of these calls is from the end of a prompt to its start: what is deeper is
    /// forgotten earlier, so that known boundaries always come before unknown ones.
    fn see(&mut self, digest: u64, sighting: Sighting, tokens: u32, tail_bytes: u32) {
        let (seen_s, replicas) = (self.latest_s, self.replicas_per_block);
        let Some(entry) = self.entries.touch(digest) else {
            let mut seen = [UNSEEN; REPLICAS_PER_BLOCK_MAX];
            if let Some(first) = seen.first_mut() {
                *first = sighting;
            }
            self.entries.insert(digest, Entry { seen, seen_s, tokens, tail_bytes, answer_tokens: 0 });
            return;
        };
        entry.seen_s = seen_s;
        if tokens > 0 {
            entry.tokens = tokens;
        }
        if tail_bytes != NO_TAIL {
            entry.tail_bytes = tail_bytes;
        }
        // The replica moves to the front; those that stood before it move back by one.
        let mut carried = sighting;
        for place in entry.seen.iter_mut().take(replicas) {
            std::mem::swap(place, &mut carried);
            if carried.replica == NOBODY || carried.replica == sighting.replica {
                break;
            }
        }
    }

    fn replica(&mut self, replica: u16) -> Option<&mut Lifetime> {
        let place = usize::from(replica);
        if self.replicas.len() <= place && replica != NOBODY {
            self.replicas.resize(place + 1, Lifetime::default());
        }
        self.replicas.get_mut(place)
    }
}

/// Puts `item` into the first free place unless one like it is there already.
fn add_once<T>(places: &mut [Option<T>], item: T, same: impl Fn(&T) -> bool) {
    if !places.iter().flatten().any(same)
        && let Some(free) = places.iter_mut().find(|place| place.is_none())
    {
        *free = Some(item);
    }
}

/// Tokens along a prompt: the engine's count at its end, in proportion to the bytes since the last known count.
#[derive(Debug, Clone, Copy)]
struct Counts {
    from: (u32, u32),
    to: Option<(u32, u32)>,
}

impl Counts {
    fn new(known: Option<(u32, u32)>, end: u32, prompt_tokens: Option<u32>) -> Self {
        let to = prompt_tokens.filter(|tokens| *tokens > 0).map(|tokens| (end, tokens));
        // A count that does not grow along the prompt came from another model or template: begin anew.
        let from = known.filter(|(_, tokens)| to.is_none_or(|(_, all)| *tokens < all)).unwrap_or((0, 0));
        Self { from, to }
    }

    /// Tokens up to `bytes`; 0 is unknown.
    fn at(self, bytes: u32) -> u32 {
        let ((from_bytes, from_tokens), Some((to_bytes, to_tokens))) = (self.from, self.to) else { return 0 };
        if bytes <= from_bytes {
            return 0;
        }
        let step = u64::from(bytes - from_bytes) * u64::from(to_tokens - from_tokens);
        from_tokens + (step / u64::from(to_bytes.saturating_sub(from_bytes).max(1))) as u32
    }
}
