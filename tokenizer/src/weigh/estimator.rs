//! Tokens of a prompt by estimate: right to a few percent whatever the engine's vocabulary.
//!
//! Tokenizing costs more than proxying (30 MB/s for exact counts), and the engine's vocabulary is often not
//! ours. So every request is weighed by the classes of its bytes, one [`Estimator`] per model learns from the
//! engine's own `usage` what these are worth, and one per account and model what this account's texts are like.
//!
//! A prompt of a shape that its account sent before is weighed as those were. Of any other, [`estimate`] joins what
//! the model's and the account's factors say by their expected variances, the account's from [`ACCOUNT_SAMPLES_MIN`]
//! requests on. An account that always wrote English and now writes Chinese has a certain estimator for the one and an
//! uncertain one for the other; the model's, which saw Chinese from others, then counts. What one account's shapes
//! weigh is not told to others: of these the model learns only what different shapes have in common.
//!
//! # Guarantees
//!
//! - However the requests before were, one more observation of the same request never leads the estimate for its
//!   account away from what was observed; nor does that of the model alone. Proofs: [`super::shapes`] and
//!   [`super::calibration`]; the bounds below are monotone, so they keep it.
//! - A prompt weighs at least its text's bytes / [`BYTES_PER_TOKEN_MAX`], at most its text's bytes /
//!   [`BYTES_PER_TOKEN_MIN`] and ten times the rest's weight, whatever was reported.
//! - An estimate never proves that a prompt is too long; only an exact count does.
//! - `tokens` and `observe` are O(1) (the scan was the caller's), and take about a microsecond. An account's
//!   estimator is at most 8.1 KB: 4.2 KB, and 120 bytes for each of at most 32 shapes. A model's is at most 35 KB.

use super::calibration::Calibration;
use super::features::{Features, NOT_TEXT, Shares, Weights};
use super::shapes::{Known, OF_ACCOUNT_MAX, OF_MODEL_MAX, Shapes};

/// Requests of an account after which its own estimator has a say.
pub const ACCOUNT_SAMPLES_MIN: u32 = 50;

/// No byte-level vocabulary has more tokens than bytes. Korean on 50k-token vocabularies comes to 1.2.
pub const BYTES_PER_TOKEN_MIN: f64 = 1.0;

/// Hindi on `o200k_base` comes to 9.4, long runs of one letter to 8; above 12 a report is not about text.
pub const BYTES_PER_TOKEN_MAX: f64 = 12.0;

/// Relative error expected of an estimate that is called certain.
const CERTAIN_ERROR: f64 = 0.05;

/// Requests of one shape after which it is certain, if these were alike.
const CERTAIN_LIKE: u32 = 8;

/// What is not text weighs at most so many times its weight.
const REST_MAX: f64 = 10.0;

/// Reported over uncorrected tokens outside of this range is a report about something else.
const PLAUSIBLE: std::ops::RangeInclusive<f64> = 0.02..=50.0;

/// The tokens of a prompt by estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Prompt tokens, at least 1.
    pub tokens: u32,
    /// Enough was observed, and an error of at most 5 % is expected (one standard deviation).
    pub certain: bool,
}

/// What was learnt about the tokens of one model's prompts, or of one account's on one model.
#[derive(Debug, Clone)]
pub struct Estimator {
    weights: Weights,
    calibration: Calibration,
    shapes: Shapes,
}

impl Estimator {
    /// An estimator that has only the default weights of text and these weights of everything else.
    pub fn new(weights: Weights) -> Self {
        Self { weights, calibration: Calibration::new(), shapes: Shapes::new(OF_MODEL_MAX) }
    }

    /// An estimator for an account that starts from what is known of the model.
    pub fn seeded(model: &Self) -> Self {
        let calibration = Calibration::seeded(&model.calibration);
        Self { weights: model.weights, calibration, shapes: Shapes::new(OF_ACCOUNT_MAX) }
    }

    /// Prompt tokens of a request by this estimator alone, at least 1. Any features will do.
    pub fn tokens(&self, features: &Features) -> u32 {
        let shares = self.weights.shares(features);
        let factor = self.calibration.factor(&shares);
        let factor = self.shapes.find(&shares).map_or(factor, |known| known.joined(factor));
        bounded(features, &shares, factor)
    }

    /// Learns from a finished request: `prompt_tokens` as the engine's `usage` says. Nothing is learnt from 0.
    pub fn observe(&mut self, features: &Features, prompt_tokens: u32) {
        let shares = self.weights.shares(features);
        if PLAUSIBLE.contains(&(f64::from(prompt_tokens) / shares.tokens)) {
            let [least, most] = bounds(features, &shares);
            let ratio = f64::from(prompt_tokens).clamp(least, most) / shares.tokens;
            let like = self.shapes.observe(&shares, ratio);
            self.calibration.observe(&shares, ratio, like);
        }
    }

    /// By how much each group of weights was found to be off, for another process.
    pub fn factors(&self) -> &[f64] {
        self.calibration.factors()
    }

    /// Goes on with the factors of another process, which had learnt them from so many requests, as open to correction as
    /// at the start. `false`, and nothing changes, where they are not this version's: another number of them, or one that is
    /// not within 0.1 … 10. O(1).
    #[must_use]
    pub fn adopt(&mut self, samples: u32, factors: &[f64]) -> bool {
        self.calibration.adopt(samples, factors)
    }

    /// Requests learnt from.
    pub fn samples(&self) -> u32 {
        self.calibration.samples()
    }
}

/// The best estimate from what is known of the account's like prompts; else of the model and, once that is enough, of
/// the account.
///
/// Both must have been made with the same [`Weights`]. Each counts by the inverse of its expected variance.
pub fn estimate(model: &Estimator, account: Option<&Estimator>, features: &Features) -> Estimate {
    let shares = model.weights.shares(features);
    let like = account.and_then(|account| account.shapes.find(&shares));
    if let Some(like) = like.filter(|like| like.weight >= 1.0) {
        return Estimate { tokens: bounded(features, &shares, like.ratio), certain: is_certain(like) };
    }
    let mut factor = model.calibration.factor(&shares);
    let mut variance = model.calibration.variance(&shares);
    let mut known = model.samples() >= ACCOUNT_SAMPLES_MIN;
    if let Some(account) = account.filter(|account| account.samples() >= ACCOUNT_SAMPLES_MIN) {
        let own = account.calibration.variance(&shares);
        factor = (factor * own + account.calibration.factor(&shares) * variance) / (own + variance);
        variance = variance * own / (own + variance);
        known = true;
    }
    let joined = like.map_or(factor, |like| like.joined(factor));
    Estimate {
        tokens: bounded(features, &shares, joined),
        certain: known && variance.sqrt() <= CERTAIN_ERROR * factor,
    }
}

fn is_certain(known: Known) -> bool {
    known.seen >= CERTAIN_LIKE && known.variance.sqrt() <= CERTAIN_ERROR
}

fn bounded(features: &Features, shares: &Shares, factor: f64) -> u32 {
    let [least, most] = bounds(features, shares);
    // A float beyond the range of u32 becomes its largest value.
    (shares.tokens * factor).clamp(least, most).round().max(1.0) as u32
}

/// The fewest and the most tokens that a request can have.
fn bounds(features: &Features, shares: &Shares) -> [f64; 2] {
    let rest = shares.tokens * shares.of.iter().rev().take(NOT_TEXT).sum::<f64>();
    let bytes = features.text_bytes as f64;
    let least = bytes / BYTES_PER_TOKEN_MAX;
    [least, (bytes / BYTES_PER_TOKEN_MIN + REST_MAX * rest).max(least).max(1.0)]
}
