//! How many tokens a running answer holds, learnt while answers still run.
//!
//! ```text
//! m = tokens that came / answers that ended                  both fading by 2 % with each end
//! ρ += 0.001 · (length² / 2m² − ρ)                           with each end; at first 1.3
//! a running answer holds ρ · m
//! ```
//!
//! The mean length of those that ended would do for m in the long run, but after a start it is the mean of the short ones,
//! for as long as a long one takes. What runs counts here with what it has shown: tokens without an end.
//!
//! Of answers that are all alike those that run hold half of a length. Where lengths differ, the long ones run for longer,
//! so that more of those that run are long: the mean of what they hold is the mean square of the lengths over twice their
//! mean, which is 1.3 times the mean where answers think.

const FADE: f64 = 0.98;
/// One answer of this length is taken as seen before any came.
const FIRST: f64 = 256.0;
const HELD_FIRST: f64 = 1.3;
const HELD_SMOOTHING: f64 = 0.001;
/// One answer says no more than this.
const SQUARE_MAX: f64 = 20.0;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    tokens: f64,
    ends: f64,
    held: f64,
}

impl Default for Answers {
    fn default() -> Self {
        Self { tokens: FIRST, ends: 1.0, held: HELD_FIRST }
    }
}

impl Answers {
    /// So many tokens came.
    pub(super) fn on_tokens(&mut self, tokens: f64) {
        self.tokens += tokens;
    }

    /// An answer is over, however it ended, with so many tokens.
    pub(super) fn on_end(&mut self, tokens: f64) {
        let mean = self.mean().max(1.0);
        let square = (tokens / mean).powi(2) / 2.0;
        self.held += HELD_SMOOTHING * (square.min(SQUARE_MAX) - self.held);
        self.tokens *= FADE;
        self.ends = FADE * self.ends + 1.0;
    }

    /// What it knows, for another process: tokens, ends, and what a running one holds.
    pub(super) fn sums(&self) -> (f64, f64, f64) {
        (self.tokens, self.ends, self.held)
    }

    /// Goes on with what another process knows, if that makes sense.
    pub(super) fn adopt(&mut self, tokens: f64, ends: f64, held: f64) {
        if tokens.is_finite() && tokens > 0.0 && ends.is_finite() && ends > 0.0 && held.is_finite() {
            *self = Self { tokens, ends, held: held.clamp(0.0, SQUARE_MAX) };
        }
    }

    /// Tokens of an answer when it is over, about.
    pub(super) fn mean(&self) -> f64 {
        self.tokens / self.ends
    }

    /// Tokens that one of many running answers holds, about.
    pub(super) fn held(&self) -> f64 {
        self.held * self.mean()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_run_count_before_they_end() {
        let mut answers = Answers::default();
        answers.on_tokens(64.0 * 1_000.0);
        (0..10).for_each(|_| answers.on_end(500.0));

        assert!((5_000.0..8_000.0).contains(&answers.held()), "those that ended say 500: {answers:?}");
    }

    #[test]
    fn of_equal_answers_half_is_held_of_unequal_ones_more() {
        let held = |lengths: [f64; 2]| {
            let mut answers = Answers::default();
            for n in 0..20_000 {
                let length = lengths[n % 2];
                answers.on_tokens(length);
                answers.on_end(length);
            }
            answers.held() / answers.mean()
        };
        assert!((held([200.0, 200.0]) - 0.5).abs() < 0.02);
        assert!((held([100.0, 1_900.0]) - 0.905).abs() < 0.1, "{}", held([100.0, 1_900.0]));
    }
}
