//! What will this request weigh, and how much of it is already cached?
//!
//! A gateway has to know the size of a prompt before an engine has seen it: to charge budgets, to predict
//! prefill, to choose a replica. Three answers, from cheap to dear:
//!
//! - [`weigh`]: an estimate for every request, O(bytes) at more than 1 GB/s, calibrated against the
//!   engine's own counts. [`scan`] the text, then [`estimate`].
//! - [`prefix`]: what is known of this prompt from earlier ones: the tokens of its known part, the tokens that
//!   an engine's prefix cache will spare, and the replicas that have them. [`PrefixIndex::lookup`], `record`.
//! - [`exact`]: a count with the engine's own vocabulary, 30 MB/s. [`Counter::count`].
//!
//! All of it is pure: no I/O, no clock, no lock, no randomness; the same calls give the same answers.

pub mod exact;
pub mod prefix;
pub mod weigh;

pub use exact::{
    Counter, EXACT_BYTES_MAX, MergesError, Normalization, RUN_CHARS_MAX, TOKEN_BYTES_MAX, Vocabulary,
    VocabularyError, segments, tokens_by_rank,
};
pub use prefix::{
    KNOWLEDGE_AGE_MAX, NoExport, PrefixHasher, PrefixIndex, PrefixIndexConfig, PrefixKeys, PrefixMatch,
    REPLICAS_PER_BLOCK_MAX,
};
pub use weigh::{
    ACCOUNT_SAMPLES_MIN, BYTES_PER_TOKEN_MAX, BYTES_PER_TOKEN_MIN, Estimate, Estimator, Features,
    TextClasses, TextScan, Weights, estimate, scan,
};
