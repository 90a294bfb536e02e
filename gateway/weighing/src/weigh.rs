//! What a request weighs: prompt tokens, and how many of them no replica has to compute again.
//!
//! The tokenizer crate knows bytes and tokens and no JSON; here the JSON is turned into what it asks for. The
//! text of messages is scanned as it was sent, escapes included: calibration against the engine's own counts
//! takes care of that, account by account. Images, audio and files are told from text by where they stand. The
//! part of a prompt that an earlier one had as well is not weighed again: its count is remembered.

use crate::exact::{ExactCounter, ShortCount};
use crate::parts::features;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use protocol::request::call::Call;
use protocol::request::prompt_text::PromptText;
use shedder::{ReplicaId, Uncached};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokenizer::{
    Counter, Estimator, Features, NoExport, PrefixHasher, PrefixIndex, PrefixIndexConfig, PrefixKeys,
    PrefixMatch,
};

/// Accounts whose own estimator is kept per model; beyond it the model's serves all newcomers.
const ACCOUNTS_MAX: usize = 10_000;
/// Tokens of one block of an engine's prefix cache. vLLM's on GPUs; some engines use larger ones.
const BLOCK_TOKENS: u32 = 16;

/// What weighs the prompts of one model.
#[derive(Debug)]
pub struct ModelWeigher {
    inner: Mutex<Estimators>,
    /// Where the model's vocabulary or tokenizer file is configured.
    exact: Option<Arc<ExactCounter>>,
}

#[derive(Debug)]
struct Estimators {
    model: Estimator,
    /// At most [`ACCOUNTS_MAX`].
    accounts: HashMap<u64, Estimator>,
}

impl ModelWeigher {
    /// A weigher that has learnt nothing. Loading a vocabulary takes a tenth of a second; one that cannot be
    /// loaded is said, and estimates do.
    #[must_use]
    pub fn new(model: &config::Model) -> Self {
        let counter = match &model.exact {
            None => None,
            Some(config::Exact::File { counter, .. }) => counter.clone(),
            Some(config::Exact::Vocabulary(vocabulary)) => Counter::new(*vocabulary)
                .inspect_err(|e| {
                    tracing::error!(model = &*model.name, "prompts are estimated, not counted: {e}")
                })
                .ok(),
        };
        let estimators = Estimators { model: Estimator::new(model.weights), accounts: HashMap::new() };
        ModelWeigher {
            inner: Mutex::new(estimators),
            exact: counter.map(|counter| Arc::new(ExactCounter::new(counter))),
        }
    }

    /// The exact counter, where there is one.
    #[must_use]
    pub fn exact(&self) -> Option<&Arc<ExactCounter>> {
        self.exact.as_ref()
    }

    /// The best estimate for a prompt with these features.
    pub fn tokens(&self, account: u64, features: &Features) -> tokenizer::Estimate {
        let inner = self.inner.lock();
        tokenizer::estimate(&inner.model, inner.accounts.get(&account), features)
    }

    /// By how much estimates of the model's prompts were found to be off, and from how many requests; nothing where there
    /// was none. What is known of single accounts is not told: they begin with what is known of the model.
    #[must_use]
    pub fn export(&self) -> Option<(u32, Vec<f64>)> {
        let inner = self.inner.lock();
        (inner.model.samples() > 0).then(|| (inner.model.samples(), inner.model.factors().to_vec()))
    }

    /// Goes on with what another process told of the model. `false`: it cannot be used, and nothing changes.
    #[must_use]
    pub fn adopt(&self, (samples, factors): &(u32, Vec<f64>)) -> bool {
        self.inner.lock().model.adopt(*samples, factors)
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
    /// Copied out of the index: hashing a prompt does not hold it.
    hasher: RwLock<PrefixHasher>,
    index: Mutex<PrefixIndex>,
    shared: bool,
    /// The key of the hashes.
    key: Mutex<[u8; 16]>,
}

impl Prefixes {
    /// An empty index whose hashes are keyed by `key`, which nobody may guess. `shared`: accounts profit from each
    /// other's prompts.
    #[must_use]
    pub fn new(shared: bool, key: [u8; 16]) -> Self {
        let index = PrefixIndex::new(index_config(shared, key));
        Prefixes {
            hasher: RwLock::new(index.hasher()),
            index: Mutex::new(index),
            shared,
            key: Mutex::new(key),
        }
    }

    fn hasher(&self) -> PrefixHasher {
        *self.hasher.read()
    }

    /// Everything, for another process of the same user: the key of the hashes, and the index. O(entries).
    #[must_use]
    pub fn export(&self) -> ([u8; 16], Vec<u8>) {
        (*self.key.lock(), self.index.lock().export())
    }

    /// Goes on with what another process had. Nothing may have been weighed before. O(entries).
    ///
    /// # Errors
    /// The bytes are of another version.
    pub fn adopt(
        &self,
        key: [u8; 16],
        bytes: &[u8],
        renumbered: impl Fn(u16) -> Option<u16>,
    ) -> Result<(), NoExport> {
        let index = PrefixIndex::import(index_config(self.shared, key), bytes, renumbered)?;
        *self.hasher.write() = index.hasher();
        *self.index.lock() = index;
        *self.key.lock() = key;
        Ok(())
    }

    /// `replica` works on the prompt of `keys`, or has counted its tokens.
    pub fn record(&self, now: Duration, keys: &PrefixKeys, replica: u16, tokens: Option<u64>) {
        let tokens = tokens.map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX));
        self.index.lock().record(now, keys, replica, tokens);
    }

    /// `replica` answered with `answer` tokens, which it has cached behind the prompt; and said how much of the
    /// prompt it had `cached`, if it did.
    pub fn record_answer(&self, weight: &Weight, replica: u16, answer: u64, cached: Option<u64>) {
        let narrow = |tokens: u64| u32::try_from(tokens).unwrap_or(u32::MAX);
        let mut index = self.index.lock();
        index.record_answer(&weight.keys, replica, narrow(answer));
        if let Some(cached) = cached {
            index.observe_cached(&weight.known, replica, narrow(cached));
        }
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

fn index_config(shared: bool, key: [u8; 16]) -> PrefixIndexConfig {
    PrefixIndexConfig { shared_prefixes: shared, ..PrefixIndexConfig::with_key(key) }
}

/// One request, weighed.
#[derive(Debug)]
pub struct Weight {
    /// Prompt tokens.
    pub prompt: u32,
    /// Whether the prompt certainly exceeds the window: by an exact count, never by an estimate.
    pub certainly_too_long: bool,
    /// Prompt tokens to compute, by replica.
    pub uncached: Uncached,
    /// The features of the whole prompt, to learn from the engine's count; `None` where a known part of it was
    /// not looked at again.
    pub features: Option<Features>,
    /// The prompt's keys, to remember where it went.
    pub keys: PrefixKeys,
    /// What was known of it at admission.
    pub known: PrefixMatch,
    /// Its text, where it was counted exactly.
    pub text: Option<PromptText>,
}

impl Weight {
    /// Tokens that no replica has cached: what the account is charged as uncached at admission.
    #[must_use]
    pub fn uncached_least(&self) -> u32 {
        self.uncached.least()
    }
}

impl Weight {
    /// Looks again at what is cached, on another deployment than the one that was weighed for. O(bytes).
    pub fn look_at(&mut self, call: &Call, account: u64, prefixes: &Prefixes) {
        let body = call.body();
        let prompt = prompt_bytes(call, &body);
        let mut keys = PrefixKeys::new();
        prefixes.hasher().keys(account, &prompt, &mut keys);
        self.known = prefixes.index.lock().find(&prompt, &keys);
        self.uncached = uncached(&self.known, self.prompt);
        self.keys = keys;
    }

    /// Prompt tokens to compute on another deployment. O(bytes).
    #[must_use]
    pub fn uncached_on(&self, call: &Call, account: u64, prefixes: &Prefixes) -> Uncached {
        let body = call.body();
        let prompt = prompt_bytes(call, &body);
        let mut keys = PrefixKeys::new();
        prefixes.hasher().keys(account, &prompt, &mut keys);
        uncached(&prefixes.index.lock().find(&prompt, &keys), self.prompt)
    }
}

fn uncached(known: &PrefixMatch, tokens: u32) -> Uncached {
    let mut best = [None; 3];
    for (slot, found) in best.iter_mut().zip(known.best) {
        *slot = found.map(|(replica, bytes)| {
            let cached = known.cached_tokens(bytes, tokens, BLOCK_TOKENS).min(tokens);
            (ReplicaId(replica), tokens - cached)
        });
    }
    Uncached { elsewhere: tokens, best }
}

/// Weighs `call` for `account` on a deployment with these `prefixes`. O(bytes): one hash over all of them, one
/// scan over those that no earlier prompt had.
#[must_use]
pub fn weigh(
    call: &Call,
    account: u64,
    weigher: &ModelWeigher,
    prefixes: &Prefixes,
    context: Option<u32>,
) -> Weight {
    let body = call.body();
    let prompt = prompt_bytes(call, &body);
    let mut keys = PrefixKeys::new();
    // What pools a prompt into a number keeps nothing of it for the next.
    if call.api.form().has_output {
        prefixes.hasher().keys(account, &prompt, &mut keys);
    }
    let known = prefixes.index.lock().find(&prompt, &keys);
    let (estimated, features) = count(call, account, weigher, &prompt, &known);
    let (exact, text) = count_exactly(call, weigher);
    let tokens = exact.map_or(estimated, |count| count.prompt);
    // The text alone: what the template adds is learnt, and could err.
    let certain = exact.map(|count| u64::from(count.text)).or(call.prompts.token_ids);
    Weight {
        prompt: tokens,
        certainly_too_long: context.zip(certain).is_some_and(|(context, certain)| {
            // Of several texts each has a window of its own.
            certain > u64::from(context) * u64::from(call.prompts.windows)
        }),
        uncached: uncached(&known, tokens),
        features,
        keys,
        known,
        text,
    }
}

/// The exact count of a short prompt, where the model's vocabulary is configured.
fn count_exactly(call: &Call, weigher: &ModelWeigher) -> (Option<ShortCount>, Option<PromptText>) {
    let Some(counter) = weigher.exact() else { return (None, None) };
    let short = call.prompt_bytes() <= 2 * tokenizer::EXACT_BYTES_MAX as u64;
    let text = Some(call).filter(|call| short && call.tools.is_none()).and_then(Call::prompt_text);
    (text.as_ref().and_then(|text| counter.count_short(text)), text)
}

/// Prompt tokens: the remembered count of what is known, and an estimate of the rest.
fn count(
    call: &Call,
    account: u64,
    weigher: &ModelWeigher,
    prompt: &[u8],
    known: &PrefixMatch,
) -> (u32, Option<Features>) {
    if let Some(ids) = call.prompts.token_ids {
        return (u32::try_from(ids).unwrap_or(u32::MAX).max(1), None);
    }
    let estimate = |features: &Features| weigher.tokens(account, features).tokens;
    let tools = call.tools.as_ref().map_or(0, Range::len);
    let known_bytes = usize::try_from(known.bytes_known).unwrap_or(usize::MAX);
    match (known.tokens_known, prompt.get(known_bytes..)) {
        (Some(tokens), Some([])) => (tokens.max(1), None),
        (Some(tokens), Some(_)) if known_bytes >= tools => {
            let prompt = prompt.get(tools..).unwrap_or_default();
            let rest = features(prompt, known_bytes - tools, 0);
            (tokens.saturating_add(estimate(&rest)).max(1), None)
        }
        _ => {
            let features = features(prompt.get(tools..).unwrap_or_default(), 0, tools);
            let tokens = estimate(&features).max(1);
            match call.prompts.repeated_bytes {
                0 => (tokens, Some(features)),
                // What is read again weighs as the rest does. How often it was, the engine does not say.
                again => (tokens.saturating_add(share(tokens, again, prompt.len())), None),
            }
        }
    }
}

/// `tokens` times `bytes` of `all`, bounded.
fn share(tokens: u32, bytes: u64, all: usize) -> u32 {
    let tokens = u128::from(tokens) * u128::from(bytes) / (all as u128).max(1);
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

/// The bytes whose prefixes are remembered: tools first, as chat templates render them, then the messages without
/// the bracket that closes their list, because the next turn has a comma there; a text without its closing quote.
fn prompt_bytes<'b>(call: &Call, body: &'b Bytes) -> Cow<'b, [u8]> {
    let slice = |range: &Range<usize>| body.get(range.clone()).unwrap_or_default();
    let open = |part: &'_ [u8]| -> usize {
        let end = part.trim_ascii_end();
        end.strip_suffix(b"]").or(end.strip_suffix(b"\"")).map_or(part.len(), <[u8]>::len)
    };
    match (&call.tools, call.prompt.as_slice()) {
        (None, [only]) => {
            let part = slice(only);
            part.get(..open(part)).unwrap_or(part).into()
        }
        (tools, parts) => {
            let mut whole = tools.iter().chain(parts).map(slice).collect::<Vec<_>>().concat();
            whole.truncate(open(&whole));
            whole.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::api::Api;
    use tokenizer::Vocabulary;

    fn model(exact: Option<config::Exact>) -> config::Model {
        config::Model {
            name: "m".into(),
            aliases: Vec::new(),
            routes: Vec::new(),
            served_model: "m".into(),
            size_class: config::SizeClass::Small,
            context: None,
            default_output: 1,
            exact,
            weights: tokenizer::Weights::default(),
        }
    }

    fn weighed(api: Api, body: String, exact: Option<config::Exact>, context: u32) -> Weight {
        let call = Call::read(api, body.into_bytes().into(), 64).unwrap();
        let weigher = ModelWeigher::new(&model(exact));
        weigh(&call, 1, &weigher, &Prefixes::new(false, [7; 16]), Some(context))
    }

    fn chat(words: usize) -> String {
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}]}}"#, "word ".repeat(words))
    }

    #[test]
    fn another_process_goes_on_with_how_far_estimates_were_off() {
        let (old, new) = (ModelWeigher::new(&model(None)), ModelWeigher::new(&model(None)));
        let features = |words: usize| weighed(Api::Chat, chat(words), None, 1 << 20).features.unwrap();
        let first = new.tokens(1, &features(900)).tokens;
        for words in 100..160 {
            let weighs = old.tokens(1, &features(words)).tokens;
            old.learn(1, &features(words), u64::from(weighs) * 13 / 10);
        }
        // Of an account that neither has seen: what is known of single ones stays behind.
        let told = old.tokens(2, &features(900)).tokens;
        assert!(told > first * 11 / 10, "{told} {first}");

        assert!(new.adopt(&old.export().unwrap()));
        let heard = new.tokens(2, &features(900)).tokens;
        assert!(heard.abs_diff(told) * 50 < told, "{heard} {told}");

        for nonsense in [(9, vec![1.0]), (9, vec![f64::NAN; 22]), (9, vec![1e9; 22]), (9, Vec::new())] {
            assert!(!new.adopt(&nonsense), "{nonsense:?}");
        }
        assert_eq!(new.tokens(2, &features(900)).tokens, heard);
    }

    #[test]
    fn case_w02_an_estimate_never_says_that_a_prompt_is_too_long() {
        let weight = weighed(Api::Chat, chat(50_000), None, 100);
        assert!(weight.prompt > 10_000);
        assert!(!weight.certainly_too_long);
    }

    #[test]
    fn case_w02_an_exact_count_of_the_text_alone_is_certain() {
        let exact = || Some(config::Exact::Vocabulary(Vocabulary::Cl100kBase));
        // "user", a hundred words, and the blank behind the last.
        let too_long = |context| weighed(Api::Chat, chat(100), exact(), context).certainly_too_long;
        assert!(too_long(101));
        assert!(!too_long(102), "what the template adds is not certain");
        let ids = |count: usize| format!(r#"{{"model":"m","prompt":[{}1]}}"#, "1,".repeat(count - 1));
        assert!(weighed(Api::Completions, ids(9), None, 8).certainly_too_long);
        assert!(!weighed(Api::Completions, ids(8), None, 8).certainly_too_long);
    }
}
