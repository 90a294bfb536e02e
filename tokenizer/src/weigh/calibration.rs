//! Learns by how much each group of weights is off, from totals alone.
//!
//! The engine reports one number per request, the tokens of the whole prompt. What is sought are the
//! factors `f` by which the groups' weights must be multiplied. With the shares `s` of a request (they sum to 1):
//!
//! ```text
//! y  = reported tokens / tokens by the uncorrected weights  =  s · f + noise
//! S  = sᵀ P s + r                      variance expected of the innovation y − s · f
//! f += P s / S · (y − s · f)           clipped to ± 3 √S once there is experience
//! P -= (P s)(P s)ᵀ / S
//! P += q I                             so that it never stops learning; never above the start
//! ```
//!
//! This is a Kalman filter for a slowly wandering `f` (R. E. Kalman, 1960), or recursive least squares
//! with a prior. The prior says that a vocabulary is larger or smaller in all groups (`COMMON`), and in each
//! on its own (`OWN`): so the first English request already tells something of Chinese, and an account that
//! turns from English to Chinese is uncertain there, not wrong: [`Calibration::variance`] says how uncertain.
//!
//! # Guarantees
//!
//! - Factors stay in 0.1 … 10; every value is finite whatever was observed.
//! - O(groups²) = 400 multiplications per observation, no allocation, 3.4 KB of state.

use super::features::{GROUPS, Shares};

/// Spread of all factors together: vocabularies of 50k and of 200k tokens differ by 1.3× on English.
const COMMON: f64 = 0.3;
/// Spread of each factor on its own. Vocabularies of the same kind cut ASCII text much alike; how many tokens a
/// character of another script takes differs by 3×; templates and images differ as they like.
const OWN: [f64; GROUPS] = [
    0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, // ASCII text
    0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, // other scripts
    0.6, 0.6, 0.6, // envelope, tools, media
];
/// Relative spread of a long prompt's tokens about the linear estimate, measured on snippets of a few KB.
const NOISE: f64 = 0.05;
/// Variance that a prompt of one token adds, falling with its length: short prompts are ragged.
const NOISE_SHORT: f64 = 0.5;
/// Wander of each factor per observation: forgets over about a hundred long requests.
const WANDER: f64 = 1e-7;
/// Observations after which an innovation beyond three times its spread is clipped, not believed.
const CLIP_AFTER: u32 = 10;
/// Weight of the newest innovation in the measured noise.
const NOISE_WEIGHT: f64 = 0.05;
/// Reported over uncorrected tokens outside of this range is a report about something else.
const PLAUSIBLE: std::ops::RangeInclusive<f64> = 0.02..=50.0;

/// The factors learnt so far, and how sure they are.
#[derive(Debug, Clone)]
pub(crate) struct Calibration {
    factors: [f64; GROUPS],
    covariance: [[f64; GROUPS]; GROUPS],
    /// Mean of squared innovations over their expected variance: above 1 the texts vary more than assumed.
    excess: f64,
    samples: u32,
}

impl Calibration {
    pub(crate) fn new() -> Self {
        Self { factors: [1.0; GROUPS], covariance: prior(), excess: 1.0, samples: 0 }
    }

    /// A new one that starts from the factors of `other`, open to correction as at the start.
    pub(crate) fn seeded(other: &Self) -> Self {
        Self { factors: other.factors, ..Self::new() }
    }

    pub(crate) fn samples(&self) -> u32 {
        self.samples
    }

    /// The factor for a request of these shares. Finite, positive.
    pub(crate) fn factor(&self, shares: &Shares) -> f64 {
        dot(&shares.of, &self.factors)
    }

    /// The variance expected of [`factor`](Self::factor) against what the engine will report.
    pub(crate) fn variance(&self, shares: &Shares) -> f64 {
        self.excess * innovation_variance(shares, &self.gains(shares))
    }

    /// Learns that a request of these shares had `prompt_tokens`, if that is plausible.
    pub(crate) fn observe(&mut self, shares: &Shares, prompt_tokens: u32) {
        let seen = f64::from(prompt_tokens) / shares.tokens;
        if !PLAUSIBLE.contains(&seen) {
            return;
        }
        let gains = self.gains(shares);
        let variance = innovation_variance(shares, &gains);
        let mut innovation = seen - self.factor(shares);
        self.excess += NOISE_WEIGHT * ((innovation * innovation / variance).min(100.0) - self.excess);
        if self.samples >= CLIP_AFTER {
            let bound = 3.0 * (variance * self.excess.max(1.0)).sqrt();
            innovation = innovation.clamp(-bound, bound);
        }
        for (factor, gain) in self.factors.iter_mut().zip(gains) {
            *factor = (*factor + gain / variance * innovation).clamp(0.1, 10.0);
        }
        self.sharpen(&gains, variance);
        self.samples = self.samples.saturating_add(1);
    }

    /// `P s`: how much each factor moves with this request's innovation.
    fn gains(&self, shares: &Shares) -> [f64; GROUPS] {
        let mut gains = [0.0; GROUPS];
        for (gain, row) in gains.iter_mut().zip(&self.covariance) {
            *gain = dot(row, &shares.of);
        }
        gains
    }

    fn sharpen(&mut self, gains: &[f64; GROUPS], variance: f64) {
        let mut sound = true;
        for (i, ((row, gain), own)) in self.covariance.iter_mut().zip(gains).zip(OWN).enumerate() {
            let start = COMMON * COMMON + own * own;
            for (j, (cell, other)) in row.iter_mut().zip(gains).enumerate() {
                *cell -= gain * other / variance;
                if i == j {
                    *cell = (*cell + WANDER).min(start);
                    sound &= cell.is_finite() && *cell > 0.0;
                }
            }
        }
        // Rounding could in principle eat the variance away over years; then it learns anew from where it is.
        if !sound {
            self.covariance = prior();
        }
    }
}

fn innovation_variance(shares: &Shares, gains: &[f64; GROUPS]) -> f64 {
    dot(&shares.of, gains).max(0.0) + NOISE * NOISE + NOISE_SHORT / shares.tokens
}

fn prior() -> [[f64; GROUPS]; GROUPS] {
    let mut covariance = [[COMMON * COMMON; GROUPS]; GROUPS];
    for (i, (row, own)) in covariance.iter_mut().zip(OWN).enumerate() {
        if let Some(cell) = row.get_mut(i) {
            *cell += own * own;
        }
    }
    covariance
}

fn dot(a: &[f64; GROUPS], b: &[f64; GROUPS]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}
