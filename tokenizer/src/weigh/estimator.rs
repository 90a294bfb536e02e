//! Tokens of a prompt by estimate: right to a few percent whatever the engine's vocabulary.
//!
//! Tokenizing costs more than proxying (30 MB/s for exact counts), and the engine's vocabulary is often not
//! ours. So every request is weighed by the classes of its bytes, one [`Estimator`] per model learns from the
//! engine's own `usage` what these are worth, and one per account and model what this account's texts are like.
//!
//! [`estimate`] joins the two by their expected variances, the account's from [`ACCOUNT_SAMPLES_MIN`] requests
//! on. An account that always wrote English and now writes Chinese has a certain estimator for the one and an
//! uncertain one for the other; the model's, which saw Chinese from others, then counts.
//!
//! # Guarantees
//!
//! - Text counts for [`BYTES_PER_TOKEN_MIN`] to [`BYTES_PER_TOKEN_MAX`] bytes per token, whatever was reported.
//! - An estimate never proves that a prompt is too long; only one of twice the window, or an exact count, does.
//! - `tokens` and `observe` are O(1) (the scan was the caller's), do not allocate, take under a microsecond.

use super::calibration::Calibration;
use super::features::{Features, Shares, Weights};

/// Requests of an account after which its own estimator has a say.
pub const ACCOUNT_SAMPLES_MIN: u32 = 50;

/// No byte-level vocabulary has more tokens than bytes. Korean on 50k-token vocabularies comes to 1.2.
pub const BYTES_PER_TOKEN_MIN: f64 = 1.0;

/// Hindi on `o200k_base` comes to 9.4, long runs of one letter to 8; above 12 a report is not about text.
pub const BYTES_PER_TOKEN_MAX: f64 = 12.0;

/// Relative error expected of an estimate that is called certain.
const CERTAIN_ERROR: f64 = 0.05;

/// The tokens of a prompt by estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Prompt tokens, at least 1.
    pub tokens: u32,
    /// Enough was observed, and an error of at most 5 % is expected (one standard deviation).
    pub certain: bool,
}

/// What was learnt about the tokens of one model's prompts, or of one account's on one model. About 3.5 KB.
#[derive(Debug, Clone)]
pub struct Estimator {
    weights: Weights,
    calibration: Calibration,
}

impl Estimator {
    /// An estimator that has only the default weights of text and these weights of everything else.
    pub fn new(weights: Weights) -> Self {
        Self { weights, calibration: Calibration::new() }
    }

    /// An estimator for an account that starts from what is known of the model.
    pub fn seeded(model: &Self) -> Self {
        Self { weights: model.weights, calibration: Calibration::seeded(&model.calibration) }
    }

    /// Prompt tokens of a request, at least 1. Any features will do.
    pub fn tokens(&self, features: &Features) -> u32 {
        let shares = self.weights.shares(features);
        self.bounded(features, &shares, self.calibration.factor(&shares))
    }

    /// Learns from a finished request: `prompt_tokens` as the engine's `usage` says. Nothing is learnt from 0.
    pub fn observe(&mut self, features: &Features, prompt_tokens: u32) {
        if prompt_tokens > 0 {
            self.calibration.observe(&self.weights.shares(features), prompt_tokens);
        }
    }

    /// Requests learnt from.
    pub fn samples(&self) -> u32 {
        self.calibration.samples()
    }

    fn bounded(&self, features: &Features, shares: &Shares, factor: f64) -> u32 {
        let tokens = shares.tokens * factor;
        let text = tokens * text_share(shares);
        let bytes = features.text_bytes as f64;
        let bounded = text.clamp(bytes / BYTES_PER_TOKEN_MAX, bytes / BYTES_PER_TOKEN_MIN);
        // A float beyond the range of u32 becomes its largest value.
        (tokens - text + bounded).round().max(1.0) as u32
    }
}

/// The best estimate from what is known of the model and, once that is enough, of the account.
///
/// Both must have been made with the same [`Weights`]. Each counts by the inverse of its expected variance.
pub fn estimate(model: &Estimator, account: Option<&Estimator>, features: &Features) -> Estimate {
    let shares = model.weights.shares(features);
    let mut factor = model.calibration.factor(&shares);
    let mut variance = model.calibration.variance(&shares);
    let mut known = model.samples() >= ACCOUNT_SAMPLES_MIN;
    if let Some(account) = account.filter(|account| account.samples() >= ACCOUNT_SAMPLES_MIN) {
        let own = account.calibration.variance(&shares);
        factor = (factor * own + account.calibration.factor(&shares) * variance) / (own + variance);
        variance = variance * own / (own + variance);
        known = true;
    }
    Estimate {
        tokens: model.bounded(features, &shares, factor),
        certain: known && variance.sqrt() <= CERTAIN_ERROR * factor,
    }
}

/// The part of a request's tokens that is text: all groups but envelope, tools and media.
fn text_share(shares: &Shares) -> f64 {
    shares.of.iter().rev().skip(3).sum()
}
