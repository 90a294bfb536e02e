//! What a request weighs: prompt tokens, and how many of them no replica has to compute again.
//!
//! The tokenizer crate knows bytes and tokens and no JSON; here the JSON is turned into what it asks for. The
//! text of messages is scanned as it was sent, escapes included: calibration against the engine's own counts
//! takes care of that, account by account. Where a body mentions images or audio, its parts are walked, so
//! that a megabyte of base64 does not weigh as text.

use crate::request::call::Call;
use crate::state::{Account, Model};
use parking_lot::Mutex;
use shedder::{ReplicaId, Uncached};
use std::collections::HashMap;
use std::time::Duration;
use tokenizer::{Estimator, Features, PrefixIndex, PrefixIndexConfig, PrefixKeys, Weights};

/// Accounts whose own estimator is kept per model; beyond it the model's serves all newcomers.
const ACCOUNTS_MAX: usize = 10_000;
/// Tokens of one block of an engine's prefix cache. vLLM's on GPUs; some engines use larger ones.
const BLOCK_TOKENS: u32 = 16;

/// The estimators of one model.
#[derive(Debug)]
pub struct ModelWeigher {
    inner: Mutex<Estimators>,
}

#[derive(Debug)]
struct Estimators {
    model: Estimator,
    /// At most [`ACCOUNTS_MAX`].
    accounts: HashMap<u64, Estimator>,
}

impl Default for ModelWeigher {
    fn default() -> Self {
        let model = Estimator::new(Weights::default());
        ModelWeigher { inner: Mutex::new(Estimators { model, accounts: HashMap::new() }) }
    }
}

impl ModelWeigher {
    fn tokens(&self, account: u64, features: &Features) -> tokenizer::Estimate {
        let inner = self.inner.lock();
        tokenizer::estimate(&inner.model, inner.accounts.get(&account), features)
    }

    /// The engine counted `tokens` for a prompt with these features.
    pub fn learn(&self, account: u64, features: &Features, tokens: u64) {
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        let mut inner = self.inner.lock();
        inner.model.observe(features, tokens);
        if inner.accounts.len() < ACCOUNTS_MAX || inner.accounts.contains_key(&account) {
            let seed = Estimator::seeded(&inner.model);
            inner.accounts.entry(account).or_insert(seed).observe(features, tokens);
        }
    }
}

/// What the replicas of one deployment have cached.
#[derive(Debug)]
pub struct Prefixes {
    index: Mutex<PrefixIndex>,
}

impl Prefixes {
    /// An empty index. `shared`: accounts profit from each other's prompts.
    #[must_use]
    pub fn new(shared: bool) -> Self {
        let mut key = [0; 16];
        key.iter_mut()
            .zip([crate::entropy::bits(), crate::entropy::bits()].iter().flat_map(|b| b.to_le_bytes()))
            .for_each(|(byte, random)| *byte = random);
        let config = PrefixIndexConfig { shared_prefixes: shared, ..PrefixIndexConfig::with_key(key) };
        Prefixes { index: Mutex::new(PrefixIndex::new(config)) }
    }

    /// `replica` works on the prompt of `keys`, or has counted its tokens.
    pub fn record(&self, now: Duration, account: u64, keys: &PrefixKeys, replica: u16, tokens: Option<u64>) {
        let tokens = tokens.map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX));
        self.index.lock().record(now, account, keys, replica, tokens);
    }

    /// `replica` was restarted or replaced.
    pub fn forget(&self, replica: u16) {
        self.index.lock().forget_replica(replica);
    }

    /// Bytes of memory taken.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.index.lock().bytes()
    }
}

/// One request, weighed.
#[derive(Debug)]
pub struct Weight {
    /// Prompt tokens.
    pub prompt: u32,
    /// Whether the prompt certainly exceeds the window.
    pub certainly_too_long: bool,
    /// Prompt tokens to compute, by replica.
    pub uncached: Uncached,
    /// The features, to learn from the engine's count.
    pub features: Features,
    /// The prompt's keys, to remember where it went.
    pub keys: PrefixKeys,
}

impl Weight {
    /// Tokens that no replica has cached: what the account is charged as uncached at admission.
    #[must_use]
    pub fn uncached_least(&self) -> u32 {
        self.uncached.least()
    }
}

/// Weighs `call` for `account` on a deployment with these `prefixes`. O(bytes).
#[must_use]
pub fn weigh(
    call: &Call,
    account: &Account,
    model: &Model,
    prefixes: &Prefixes,
    context: Option<u32>,
) -> Weight {
    let features = features(call);
    let estimate = model.weigher.tokens(account.number, &features);
    let mut keys = PrefixKeys::new();
    let prompt = prompt_bytes(call);
    let known = prefixes.index.lock().lookup(account.number, &prompt, &mut keys);
    let tokens = known.tokens_known.unwrap_or(estimate.tokens).max(1);
    let mut best = [None; 3];
    for (slot, found) in best.iter_mut().zip(known.best) {
        *slot = found.map(|(replica, bytes)| {
            (ReplicaId(replica), tokens - known.cached_tokens(bytes, tokens, BLOCK_TOKENS).min(tokens))
        });
    }
    Weight {
        prompt: tokens,
        // Only what is twice the window by an estimate is certain: estimates err by a few percent.
        certainly_too_long: context
            .is_some_and(|context| u64::from(estimate.tokens) > 2 * u64::from(context)),
        uncached: Uncached { elsewhere: tokens, best },
        features,
        keys,
    }
}

/// The bytes whose prefixes are remembered: tools first, as chat templates render them, then the messages.
fn prompt_bytes(call: &Call) -> std::borrow::Cow<'_, [u8]> {
    let slice = |range: &std::ops::Range<usize>| call.body.get(range.clone()).unwrap_or_default();
    match (&call.tools, call.prompt.as_slice()) {
        (None, [only]) => slice(only).into(),
        (tools, parts) => tools.iter().chain(parts).map(slice).collect::<Vec<_>>().concat().into(),
    }
}

fn features(call: &Call) -> Features {
    let mut scan = tokenizer::TextScan::new();
    let mut features = Features {
        tool_bytes: call.tools.as_ref().map_or(0, |range| range.len() as u64),
        ..Features::default()
    };
    for range in &call.prompt {
        let part = call.body.get(range.clone()).unwrap_or_default();
        features.messages += memchr::memmem::find_iter(part, b"\"role\"").count() as u32;
        features.text_bytes += scan_text(part, &mut scan, &mut features.images, &mut features.other_parts);
    }
    features.text = Some(scan.classes());
    features
}

/// Markers of parts that are not text, and what they count as.
const MEDIA: [(&[u8], bool); 3] =
    [(b"\"image_url\"", true), (b"\"input_audio\"", false), (b"\"file_data\"", false)];

/// Scans `part` without the long strings that follow a marker of an image or audio; the bytes scanned.
fn scan_text(part: &[u8], scan: &mut tokenizer::TextScan, images: &mut u32, others: &mut u32) -> u64 {
    if MEDIA.iter().all(|(marker, _)| memchr::memmem::find(part, marker).is_none()) {
        scan.feed(part);
        return part.len() as u64;
    }
    let mut scanned = 0;
    let mut rest = part;
    while !rest.is_empty() {
        let quote = memchr::memchr(b'"', rest).map_or(rest.len(), |at| at + 1);
        let (before, after) = rest.split_at(quote);
        let (string, tail) = after.split_at(string_end(after));
        scan.feed(before);
        scanned += before.len() as u64;
        // Base64 of a picture or a sound: thousands of bytes without a space.
        let is_data =
            string.starts_with(b"data:") || (string.len() > 1024 && memchr::memchr(b' ', string).is_none());
        if is_data {
            if string.starts_with(b"data:image") { *images += 1 } else { *others += 1 }
        } else {
            if string.starts_with(b"http") && before.ends_with(b"\"url\":\"") {
                *images += 1
            }
            scan.feed(string);
            scanned += string.len() as u64;
        }
        rest = tail;
    }
    scanned
}

/// One past the closing quote of the string that `rest` begins with.
fn string_end(rest: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = rest.get(at..).and_then(|r| memchr::memchr2(b'"', b'\\', r)) {
        if rest.get(at + found) == Some(&b'"') {
            return at + found + 1;
        }
        at = (at + found + 2).min(rest.len());
    }
    rest.len()
}
