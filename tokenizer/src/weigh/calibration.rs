//! Learns by how much each group of weights is off, from totals alone.
//!
//! The engine reports one number per request, the tokens of the whole prompt. What is sought are the factors `f` by
//! which the groups' weights must be multiplied. With the shares `s` of a request (they sum to 1):
//!
//! ```text
//! y  = reported tokens / tokens by the uncorrected weights  =  s · f + misfit
//! S  = sᵀ P s + r                          variance expected of the innovation e = y − s · f
//! K  = D P D s / (sᵀ D P D s + r)          D: 1 for a factor that may move, 0 for one that is kept
//! f += t K e                               t ≤ 1: as far as all factors stay within their bounds
//! P := P − K gᵀ − g Kᵀ + S K Kᵀ            g = P s, with t K for K
//! P += q I                                 so that it never stops learning; never above the start
//! ```
//!
//! This is a Kalman filter for a slowly wandering `f` (R. E. Kalman, 1960), or recursive least squares with a prior,
//! with the covariance in the form that holds for any gain (Bucy and Joseph, 1968), and the bounds as an active set.
//! The prior says that a vocabulary is larger or smaller in all text (`COMMON`), and in each group on its own (`OWN`):
//! so the first English request already tells something of Chinese, but nothing of pictures or of a chat template.
//!
//! # Like prompts
//!
//! The misfit of a prompt is not noise: the next prompt of the same shape has the same one. `n` like prompts tell as
//! much of the factors as two prompts of different shape do, not as `n`. So the `k`-th of its shape has the variance
//! `r · k (k + 1) / 2`: the information of all of them, `Σ 2 / (r k (k + 1))`, is below `2 / r`. Without this the
//! filter becomes sure of factors that it has to pull far apart to explain the misfit of one shape, and other texts
//! are weighed by these. What like prompts weigh themselves is remembered apart, by [`Shapes`](super::shapes::Shapes).
//!
//! # Guarantees
//!
//! - Observing `y` for shares `s` never leads the factor of `s` away from `y`, nor beyond it, for any sequence:
//!   `e' = e · (1 − t a / (a + r))` with `a = sᵀ D P D s ≥ 0`, since `P` is positive semidefinite whatever `K` was
//!   (`P' = (I − K sᵀ) P (I − K sᵀ)ᵀ + r K Kᵀ`). Clipping `e` makes the step shorter. A factor that is clamped
//!   after the step voids this: with gains of both signs, what is cut off may be all that led towards `y`.
//! - Factors stay in 0.1 … 10; every value is finite whatever was observed.
//! - O(groups²) = 484 multiplications per observation, where a factor is at a bound some times that; no allocation,
//!   4.1 KB of state.

use super::features::{GROUPS, Shares};

/// Spread of all factors of text together: vocabularies of 50k and of 200k tokens differ by 1.3× on English.
const COMMON: f64 = 0.15;
/// Spread of each factor on its own. Vocabularies of the same kind cut ASCII text much alike; how many tokens a
/// character of another script takes differs by 3×. A template may be any: what short prompts are off by is its doing.
const OWN: [f64; GROUPS] = [
    0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, // ASCII text
    0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, // other scripts
    1.5, 1.0, 0.6, 0.7, 0.7, // envelope, messages, tools, images, other parts
];
/// Whether a group rises and falls with the size of the vocabulary.
const BY_VOCABULARY: [bool; GROUPS] = {
    let mut by = [true; GROUPS];
    by[ENVELOPE] = false;
    by[MESSAGES] = false;
    by[IMAGES] = false;
    by[OTHER_PARTS] = false;
    by
};
const ENVELOPE: usize = 17;
const MESSAGES: usize = 18;
const IMAGES: usize = 20;
const OTHER_PARTS: usize = 21;
/// Relative spread of a long prompt's tokens about the linear estimate, measured on snippets of a few KB.
const NOISE: f64 = 0.05;
/// Variance that a prompt of one token adds, falling with its length: short prompts are ragged.
const NOISE_SHORT: f64 = 1.0;
/// Relative spread of the tokens of one image or other part: how large it is, nobody says.
const NOISE_MEDIA: f64 = 0.5;
/// Wander of each factor per observation: forgets over about a hundred long requests.
const WANDER: f64 = 1e-7;
/// An innovation is believed up to so many times its expected spread.
const CLIP: f64 = 3.0;
/// The same before [`CLIP_AFTER`] observations: the prior is wide, and nothing vouches for the first reports.
const CLIP_EARLY: f64 = 2.0;
const CLIP_AFTER: u32 = 10;
/// Weight of the newest innovation in the measured noise.
const NOISE_WEIGHT: f64 = 0.05;
/// The range of each factor.
const FACTOR_MIN: f64 = 0.1;
const FACTOR_MAX: f64 = 10.0;

/// The factors learnt so far, and how sure they are.
#[derive(Debug, Clone)]
pub(crate) struct Calibration {
    factors: [f64; GROUPS],
    /// Symmetric, positive semidefinite.
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

    /// The factors, for another process.
    pub(crate) fn factors(&self) -> &[f64] {
        &self.factors
    }

    /// Starts from factors that were learnt in another process from so many samples, open to correction as at the start.
    /// `false`, and nothing changes: they are not what this version knows as factors.
    pub(crate) fn adopt(&mut self, samples: u32, factors: &[f64]) -> bool {
        let Ok(factors) = <[f64; GROUPS]>::try_from(factors) else { return false };
        if !factors.iter().all(|factor| (FACTOR_MIN..=FACTOR_MAX).contains(factor)) {
            return false;
        }
        *self = Self { factors, samples, ..Self::new() };
        true
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
        let spread = dot(&shares.of, &product(&self.covariance, &shares.of)).max(0.0);
        self.excess * (spread + misfit(shares))
    }

    /// Learns that a request of these shares had `seen` times the tokens of the uncorrected weights, after `like`
    /// requests of the same shape.
    pub(crate) fn observe(&mut self, shares: &Shares, seen: f64, like: u32) {
        let like = f64::from(like);
        let repeated = (like + 1.0) * (like + 2.0) / 2.0;
        let noise = misfit(shares) * repeated;
        let gains = product(&self.covariance, &shares.of);
        let variance = dot(&shares.of, &gains).max(0.0) + noise;
        let innovation = seen - self.factor(shares);
        // What is expected of the first of its shape: misfits of like prompts are the same.
        let expected = variance - noise + misfit(shares);
        self.excess +=
            NOISE_WEIGHT / repeated * ((innovation * innovation / expected).min(100.0) - self.excess);
        let clip = if self.samples < CLIP_AFTER { CLIP_EARLY } else { CLIP };
        let bound = clip * (expected * self.excess.max(1.0)).sqrt();
        let step = self.step(shares, &gains, noise, innovation.clamp(-bound, bound));
        self.sharpen(&step, &gains, variance, WANDER / repeated);
        self.samples = self.samples.saturating_add(1);
    }

    /// Moves the factors along the gain that keeps them within bounds, and returns that gain.
    fn step(&mut self, shares: &Shares, gains: &[f64; GROUPS], noise: f64, innovation: f64) -> [f64; GROUPS] {
        let mut free = shares.of;
        let mut kept = [false; GROUPS];
        let mut step = *gains;
        // Each round keeps one factor more, or is the last.
        for _ in 0..=GROUPS {
            let variance = dot(&free, &step).max(0.0) + noise;
            for gain in &mut step {
                *gain /= variance;
            }
            if !self.keep_at_bound(&step, innovation, &mut kept) {
                return self.advance(step, innovation);
            }
            mask(&mut free, &kept);
            step = product(&self.covariance, &free);
            mask(&mut step, &kept);
        }
        [0.0; GROUPS]
    }

    /// Marks the factors that stand at a bound and would leave it. Whether there were any.
    fn keep_at_bound(&self, step: &[f64; GROUPS], innovation: f64, kept: &mut [bool; GROUPS]) -> bool {
        let mut more = false;
        for ((factor, gain), kept) in self.factors.iter().zip(step).zip(kept) {
            let moves = gain * innovation;
            let leaves = (*factor <= FACTOR_MIN && moves < 0.0) || (*factor >= FACTOR_MAX && moves > 0.0);
            more |= leaves && !*kept;
            *kept |= leaves;
        }
        more
    }

    fn advance(&mut self, mut step: [f64; GROUPS], innovation: f64) -> [f64; GROUPS] {
        let mut part = 1.0f64;
        for (factor, gain) in self.factors.iter().zip(&step) {
            let moves = gain * innovation;
            let room = if moves > 0.0 { FACTOR_MAX - factor } else { FACTOR_MIN - factor };
            if moves != 0.0 {
                part = part.min(room / moves);
            }
        }
        for (factor, gain) in self.factors.iter_mut().zip(&mut step) {
            *gain *= part.max(0.0);
            // Rounding only: the part was chosen so that all stay within.
            *factor = (*factor + *gain * innovation).clamp(FACTOR_MIN, FACTOR_MAX);
        }
        step
    }

    fn sharpen(&mut self, step: &[f64; GROUPS], gains: &[f64; GROUPS], variance: f64, wander: f64) {
        let mut sound = true;
        for (i, ((row, gain), other)) in self.covariance.iter_mut().zip(gains).zip(step).enumerate() {
            let start = start(i, i);
            for (j, ((cell, gain_j), other_j)) in row.iter_mut().zip(gains).zip(step).enumerate() {
                *cell += variance * other * other_j - (gain * other_j + other * gain_j);
                if i == j {
                    *cell += wander.min((start - *cell).max(0.0));
                    sound &= cell.is_finite() && *cell > 0.0 && *cell <= 2.0 * start;
                }
            }
        }
        // Rounding could in principle eat the variance away over years, and a bound that is met again and again add
        // to it; then it learns anew from where it is.
        if !sound {
            self.covariance = prior();
        }
    }
}

/// The variance about the linear estimate of a prompt whose shape was not seen before.
fn misfit(shares: &Shares) -> f64 {
    let [.., images, other_parts] = shares.of;
    let media = NOISE_MEDIA * NOISE_MEDIA * (images * images + other_parts * other_parts);
    NOISE * NOISE + NOISE_SHORT / shares.tokens + media
}

fn start(i: usize, j: usize) -> f64 {
    let by = |at: usize| BY_VOCABULARY.get(at).copied().unwrap_or(false);
    let own = if i == j { OWN.get(i).copied().unwrap_or(0.0) } else { 0.0 };
    own * own + if by(i) && by(j) { COMMON * COMMON } else { 0.0 }
}

fn prior() -> [[f64; GROUPS]; GROUPS] {
    let mut covariance = [[0.0; GROUPS]; GROUPS];
    for (i, row) in covariance.iter_mut().enumerate() {
        for (j, cell) in row.iter_mut().enumerate() {
            *cell = start(i, j);
        }
    }
    covariance
}

fn mask(values: &mut [f64; GROUPS], kept: &[bool; GROUPS]) {
    for (value, kept) in values.iter_mut().zip(kept) {
        if *kept {
            *value = 0.0;
        }
    }
}

fn product(matrix: &[[f64; GROUPS]; GROUPS], vector: &[f64; GROUPS]) -> [f64; GROUPS] {
    let mut product = [0.0; GROUPS];
    for (cell, row) in product.iter_mut().zip(matrix) {
        *cell = dot(row, vector);
    }
    product
}

fn dot(a: &[f64; GROUPS], b: &[f64; GROUPS]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}
