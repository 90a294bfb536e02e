//! Remembers what prompts of one shape weighed, so that more of the same are weighed as those were.
//!
//! Programs send the same prompt with a number or a name exchanged, thousands of times. A linear estimate is off for
//! all of them by the same amount, and its factors cannot be bent for each shape without bending them for the others.
//! So the tokens of a shape are remembered beside the factors, and count for prompts that are nearly alike:
//!
//! ```text
//! d(x, c) = Σ |xᵢ − cᵢ| ≤ 1.5 tokens + 1 %      x: tokens by the uncorrected weights, by group; c: of the first seen
//! ρ += max(1 / n, 1 / 8) · (y − ρ)              y: reported tokens / Σ xᵢ; n: how many were seen, this included
//! ```
//!
//! A prompt that is near a shape and weighs differently makes a shape of its own. The estimate is `ρ Σ xᵢ`: what a
//! prompt is made of does not matter to one of a known shape. The gain is that of the mean, and from the eighth on of
//! one that forgets (H. Robbins and S. Monro, 1951). For a prompt that is not near any shape, those within 4 tokens and
//! 15 % count, by their distance, beside the factors (a kernel mean: E. A. Nadaraya and G. S. Watson, 1964).
//!
//! # Guarantees
//!
//! - Observing `y` for the same features never leads away from `y`, nor beyond it, for any sequence:
//!   `|y − ρ'| = (1 − gain) |y − ρ|`, gain in (0, 1], whatever is known of the model. The first of a shape is taken
//!   at its word. From the eighth on a report far outside of the spread of those before is clipped, and widens it.
//! - No report about one shape changes what is known of another.
//! - At most [`OF_ACCOUNT_MAX`] shapes of 120 bytes, 3.8 KB, and [`OF_MODEL_MAX`], 31 KB; the least used is forgotten.
//!   O(shapes), and O(groups) for each of those that have about as many tokens.

use super::features::{GROUPS, Shares};

/// Shapes that are remembered of an account.
pub(crate) const OF_ACCOUNT_MAX: usize = 32;
/// Shapes that are remembered of a model, to tell what was learnt from already.
pub(crate) const OF_MODEL_MAX: usize = 256;
/// Tokens by which two prompts of one shape may differ: a number, a name, an ending.
const NEAR_TOKENS: f64 = 1.5;
/// The same as a part of all tokens.
const NEAR_SHARE: f64 = 0.01;
/// Tokens by which the prompts differ that tell a little of each other.
const AROUND_TOKENS: f64 = 4.0;
/// The same as a part of all tokens.
const AROUND_SHARE: f64 = 0.15;
/// Requests of a shape that count for those around.
const AROUND_SEEN: u32 = 4;
/// A request that differs by more than this from a shape that is near, and
const SAME_TOKENS: f64 = 0.25;
/// by this part of all tokens,
const SAME_SHARE: f64 = 0.001;
/// is of another shape if it weighs this many tokens
const OTHER_TOKENS: f64 = 2.0;
/// and this part more or less.
const OTHER_SHARE: f64 = 0.05;
/// Observations over which the mean of a shape forgets.
const FORGET: u32 = 8;
/// Once [`FORGET`] were seen, an error is believed up to so many times the spread of those before,
const CLIP: f64 = 3.0;
/// or this part of the estimate,
const CLIP_MIN: f64 = 0.1;
/// or so many tokens.
const CLIP_TOKENS: f64 = 2.0;
/// Observations of other shapes by which each observation of a shape delays its being forgotten, up to
/// [`KEPT_MAX`] of these.
const KEPT: u64 = 32;
const KEPT_MAX: u32 = 256;
/// Weight of the newest error in the spread of a shape.
const SPREAD_WEIGHT: f64 = 0.1;

#[derive(Debug, Clone)]
struct Shape {
    /// Tokens by the uncorrected weights, by group, of the first one seen.
    centre: [f32; GROUPS],
    tokens: f32,
    /// Requests of this shape.
    seen: u32,
    /// Reported tokens over those by the uncorrected weights.
    ratio: f64,
    /// Mean of squared errors of the estimate, relative.
    spread: f32,
    /// The number of the observation until which it is not forgotten for one that was just seen.
    kept_until: u64,
}

/// What is known of a prompt's shape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// Reported tokens over those by the uncorrected weights.
    pub(crate) ratio: f64,
    /// The part of an estimate that follows it; 1 for a shape that was seen.
    pub(crate) weight: f64,
    /// Requests that it was learnt from.
    pub(crate) seen: u32,
    /// The relative variance expected.
    pub(crate) variance: f64,
}

impl Known {
    /// Joined with what is known of everything else.
    pub(crate) fn joined(&self, factor: f64) -> f64 {
        factor + self.weight * (self.ratio - factor)
    }
}

/// The shapes that were seen last and most.
#[derive(Debug, Clone)]
pub(crate) struct Shapes {
    shapes: Vec<Shape>,
    max: usize,
    observed: u64,
}

impl Shapes {
    /// None yet, and never more than `max`.
    pub(crate) fn new(max: usize) -> Self {
        Self { shapes: Vec::new(), max, observed: 0 }
    }

    /// What like prompts weighed, if there were any; else what those did that are somewhat alike.
    pub(crate) fn find(&self, shares: &Shares) -> Option<Known> {
        match self.nearest(shares).and_then(|at| self.shapes.get(at)) {
            Some(shape) => {
                let variance = f64::from(shape.spread);
                Some(Known { ratio: shape.ratio, weight: 1.0, seen: shape.seen, variance })
            }
            None => self.around(shares),
        }
    }

    /// The mean of the shapes around, each by how near it is and how often it was seen.
    fn around(&self, shares: &Shares) -> Option<Known> {
        let bound = AROUND_TOKENS + AROUND_SHARE * shares.tokens;
        let (mut sum, mut of) = (0.0, 0.0);
        for shape in &self.shapes {
            if (shares.tokens - f64::from(shape.tokens)).abs() <= bound {
                let near = (1.0 - shape.distance(shares) / bound).max(0.0);
                let weight = near * near * f64::from(shape.seen.min(AROUND_SEEN));
                sum += weight;
                of += weight * shape.ratio;
            }
        }
        (sum > 0.0).then(|| Known { ratio: of / sum, weight: sum / (sum + 1.0), seen: 0, variance: 0.0 })
    }

    /// Learns the ratio of a request, and returns how many like it were seen before.
    pub(crate) fn observe(&mut self, shares: &Shares, ratio: f64) -> u32 {
        self.observed = self.observed.saturating_add(1);
        let nearest = self.nearest(shares);
        let mut like = 0;
        if let Some(shape) = nearest.and_then(|at| self.shapes.get_mut(at)) {
            like = shape.seen;
            if !shape.is_other(shares, ratio) {
                shape.learn(shares, ratio, self.observed);
                return like;
            }
        }
        self.add(Shape::new(shares, ratio, self.observed));
        like
    }

    fn nearest(&self, shares: &Shares) -> Option<usize> {
        let bound = NEAR_TOKENS + NEAR_SHARE * shares.tokens;
        let mut best = (bound, None);
        for (at, shape) in self.shapes.iter().enumerate() {
            // The difference of the sums is never more than the sum of the differences, and told at once.
            if (shares.tokens - f64::from(shape.tokens)).abs() <= best.0 {
                let distance = shape.distance(shares);
                if distance <= bound && (best.1.is_none() || distance < best.0) {
                    best = (distance, Some(at));
                }
            }
        }
        best.1
    }

    fn add(&mut self, shape: Shape) {
        if self.shapes.len() < self.max {
            self.shapes.push(shape);
        } else if let Some(slot) = self.shapes.iter_mut().min_by_key(|shape| shape.kept_until) {
            *slot = shape;
        }
    }
}

impl Shape {
    fn new(shares: &Shares, ratio: f64, observed: u64) -> Self {
        Self {
            centre: shares.of.map(|share| (share * shares.tokens) as f32),
            tokens: shares.tokens as f32,
            seen: 1,
            ratio,
            spread: 0.01,
            kept_until: observed,
        }
    }

    fn distance(&self, shares: &Shares) -> f64 {
        let off = |(share, centre): (&f64, &f32)| (share * shares.tokens - f64::from(*centre)).abs();
        shares.of.iter().zip(&self.centre).map(off).sum()
    }

    /// Whether a request that is near is of another shape after all: not the same, and weighed differently.
    fn is_other(&self, shares: &Shares, ratio: f64) -> bool {
        let off = (ratio - self.ratio).abs();
        off > (OTHER_TOKENS / shares.tokens).max(OTHER_SHARE * self.ratio)
            && self.distance(shares) > SAME_TOKENS + SAME_SHARE * shares.tokens
    }

    fn learn(&mut self, shares: &Shares, ratio: f64, observed: u64) {
        let before = self.seen;
        self.seen = self.seen.saturating_add(1);
        let mut error = ratio - self.ratio;
        let relative = (error / self.ratio).clamp(-1.0, 1.0);
        let spread = f64::from(self.spread);
        self.spread += (SPREAD_WEIGHT * (relative * relative - spread)) as f32;
        if before >= FORGET {
            let bound = (CLIP * spread.sqrt()).max(CLIP_MIN) * self.ratio;
            // Of a short prompt a token or two is much, and no report about something else.
            let bound = bound.max(CLIP_TOKENS / shares.tokens);
            error = error.clamp(-bound, bound);
        }
        self.ratio += error / f64::from(self.seen.min(FORGET));
        self.kept_until = observed.saturating_add(KEPT * u64::from(self.seen.min(KEPT_MAX)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimator_is_as_small_as_it_says() {
        assert!(size_of::<Shape>() <= 120, "{}", size_of::<Shape>());
        let estimator = size_of::<crate::Estimator>();
        assert!(estimator <= 4_300, "{estimator}");
    }
}
