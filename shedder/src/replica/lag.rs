//! What a first token takes beside the computing of its prompt: network, API servers, proxies, tokenizers.
//!
//! A time to first token is two things that look alike: a delay that every prompt has, and the computing of its tokens.
//! Only the second is capacity. Whoever takes the first for it too sends less, sees the same delay for fewer tokens, and
//! takes the replica for slower still. So both are fitted:
//!
//! ```text
//! time to first token = lag + tokens · seconds per token      least squares, over about the last 100 prompts
//! ```
//!
//! Only of prompts that had the replica to themselves when they were sent, and of at most [`TOKENS_MAX`] tokens: beyond,
//! attention grows with the square and would bend the line. A delay-limited transport tells its round trip from its
//! bottleneck's rate in the same way (BBR, Cardwell et al. 2016), by samples of either that the other does not disturb.
//!
//! Delays vary upward (a picture, an adapter, a grammar), so a prompt that takes longer than the line says counts less: by
//! the square of u / (u + what it took longer), u being 30 ms or 15 % of what was expected, whichever is more (a redescending
//! weight, so that two of five that take half a second longer do not move the line). What such prompts take beyond the line
//! is kept as a mean: by Little's law it says how many tokens are held up by something of their own at a time.
//!
//! Cost: O(1), nothing allocates.

use crate::learned::LearnedLine;

/// Prompts that count, about.
const MEMORY: f64 = 100.0;
/// More than that of one prompt is an accident, seconds.
const EXTRA_MAX: f64 = 5.0;
/// So far beyond the line a prompt may be by chance: this, or this part of what was expected, seconds.
const USUAL_S: f64 = 0.03;
const USUAL_OF_EXPECTED: f64 = 0.15;
/// Up to this part of the prompts may have a delay of its own; from the second on what they take is a queue, which all have.
const LATE_OWN: f64 = 0.5;
const LATE_QUEUE: f64 = 0.7;
/// Fewer say nothing.
const PROMPTS_MIN: u32 = 12;
/// Longer ones bend the line.
const TOKENS_MAX: u32 = 4_096;
/// The spread of the prompts' lengths below which a slope means nothing: their standard deviation, tokens.
const SPREAD_MIN: f64 = 64.0;

/// Lag and slope of one replica.
#[derive(Debug, Clone, Default)]
pub(crate) struct LagFit {
    weight: f64,
    tokens: f64,
    seconds: f64,
    squares: f64,
    products: f64,
    prompts: u32,
    /// Mean of what prompts took beyond the line, seconds.
    extra: f64,
    /// The part of the prompts that took longer than by chance.
    late: f64,
    line: Option<Line>,
}

/// What was fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Line {
    /// Seconds that every prompt takes.
    pub(crate) lag: f64,
    /// Seconds that prompts take beyond the line, on average: what only some of them wait for.
    pub(crate) extra: f64,
    /// Tokens per second beyond that.
    pub(crate) rate: f64,
}

impl LagFit {
    /// A prompt of so many tokens, alone when it was sent, had its first token after `seconds`.
    pub(crate) fn on_alone(&mut self, tokens: u32, seconds: f64) {
        if tokens > TOKENS_MAX || !seconds.is_finite() || seconds <= 0.0 {
            return;
        }
        let tokens = f64::from(tokens);
        let expected = self.line.map_or(seconds, |line| line.lag + tokens / line.rate);
        let usual = USUAL_S.max(USUAL_OF_EXPECTED * expected);
        let weight = (usual / (usual + (seconds - expected).max(0.0))).powi(2);
        let keep = 1.0 - 1.0 / MEMORY;
        let sums = [
            (&mut self.weight, 1.0),
            (&mut self.tokens, tokens),
            (&mut self.seconds, seconds),
            (&mut self.squares, tokens * tokens),
            (&mut self.products, tokens * seconds),
        ];
        for (sum, value) in sums {
            *sum = keep * *sum + weight * value;
        }
        if let Some(line) = self.line {
            let beyond = (seconds - line.lag - tokens / line.rate).clamp(0.0, EXTRA_MAX);
            self.extra += (beyond - self.extra) / MEMORY;
            self.late += (f64::from(u8::from(beyond > usual)) - self.late) / MEMORY;
        }
        self.prompts = self.prompts.saturating_add(1);
        self.line = self.fitted().or(self.line);
    }

    /// What prompts took beyond the line was a queue inside the engine.
    pub(crate) fn on_engine_queue(&mut self) {
        self.extra = 0.0;
        self.line = self.line.map(|line| Line { extra: 0.0, ..line });
    }

    /// What is known, for another process.
    pub(crate) fn export(&self) -> LearnedLine {
        let Self { weight, tokens, seconds, squares, products, prompts, extra, late, line: _ } = *self;
        LearnedLine { weight, tokens, seconds, squares, products, prompts, extra, late }
    }

    /// Goes on with what another process knows.
    pub(crate) fn adopt(&mut self, known: &LearnedLine) {
        let LearnedLine { weight, tokens, seconds, squares, products, prompts, extra, late } = *known;
        let sums = [weight, tokens, seconds, squares, products, extra, late];
        if sums.iter().any(|sum| !sum.is_finite() || *sum < 0.0) {
            return;
        }
        let (extra, late) = (extra.min(EXTRA_MAX), late.min(1.0));
        *self = Self { weight, tokens, seconds, squares, products, prompts, extra, late, line: None };
        self.line = self.fitted();
    }

    /// The line, once enough prompts of different lengths were seen.
    pub(crate) fn line(&self) -> Option<Line> {
        self.line
    }

    fn fitted(&self) -> Option<Line> {
        if self.prompts < PROMPTS_MIN || self.weight <= 0.0 {
            return None;
        }
        let [tokens, seconds] = [self.tokens, self.seconds].map(|sum| sum / self.weight);
        let variance = self.squares / self.weight - tokens * tokens;
        if variance < SPREAD_MIN * SPREAD_MIN {
            return None;
        }
        let slope = (self.products / self.weight - tokens * seconds) / variance;
        let lag = seconds - slope * tokens;
        // A prompt that costs nothing, or a delay below zero, is no engine's.
        (slope > 1e-6 && lag.is_finite()).then(|| Line {
            lag: lag.max(0.0),
            extra: self.extra * ((LATE_QUEUE - self.late) / (LATE_QUEUE - LATE_OWN)).clamp(0.0, 1.0),
            rate: 1.0 / slope,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(lag: f64, rate: f64, odd: impl Fn(u32) -> f64) -> Line {
        let mut fit = LagFit::default();
        for n in 0..200u32 {
            let tokens = 50 + 370 * (n * 7 % 11);
            fit.on_alone(tokens, lag + f64::from(tokens) / rate + odd(n));
        }
        fit.line().unwrap()
    }

    #[test]
    fn lag_and_rate_are_told_apart() {
        for (lag, rate) in [(0.02, 8_000.0), (0.2, 8_000.0), (0.6, 2_000.0)] {
            let line = fitted(lag, rate, |_| 0.0);
            assert!((line.lag - lag).abs() < 0.005 && (line.rate / rate - 1.0).abs() < 0.02, "{line:?}");
        }
    }

    /// One prompt in twenty takes a second and a half longer: an adapter that was loaded.
    #[test]
    fn what_is_odd_about_a_few_is_not_the_lag_of_all() {
        let line = fitted(0.05, 8_000.0, |n| if n % 20 == 7 { 1.5 } else { 0.0 });
        assert!(line.lag < 0.1, "{line:?}");
        assert!((line.rate / 8_000.0 - 1.0).abs() < 0.3, "{line:?}");
    }

    #[test]
    fn prompts_of_one_length_tell_nothing() {
        let mut fit = LagFit::default();
        (0..100).for_each(|_| fit.on_alone(500, 0.4));
        assert_eq!(fit.line(), None);
        (0..100).for_each(|_| fit.on_alone(100_000, 40.0));
        assert_eq!(fit.line(), None);
    }
}
