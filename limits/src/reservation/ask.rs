//! What a request asks a budget for, what it used in the end, and what an answer usually generates.
//!
//! How long an answer will be is not known at admission. Its maximum is a bad guess: clients name large ones, and a
//! sixth of the traffic of an account that stays under its limit would be refused. So an answer is expected to be as
//! long as usual, at most what it can generate within the minute, and not much less than it may be long:
//!
//! ```text
//! per choice: max(min(usual, 60 s * rate), min(max / 4, 256), 16), at most max
//! usual     : += 0.1 * (generated - usual) for each finished answer
//! rate      : generated / lasted, both summed over finished answers, of which each one before counts 0.9
//! ```
//!
//! A quarter of the maximum, because what was usual can change from one request to the next: after a thousand answers
//! of one token, ten thousand long ones must not look like nothing.
//!
//! The result is an estimate, so it never exceeds the limit: an idle account's request is never refused because of it.

use std::time::Duration;

/// What an answer is taken to generate while neither the account nor the model has shown anything.
pub const USUAL_UNKNOWN: u64 = 256;

/// The largest expectation that rests on nothing but the request's own maximum.
const EXPECTED_BY_MAXIMUM: u64 = 256;

/// Every generation begins with some tokens; without this, tiny answers would be free to start in any number.
const EXPECTED_MIN: u64 = 16;

/// Share of a finished answer in what is usual: the last ten or so decide.
const USUAL_GAIN: f64 = 0.1;

pub(crate) const MINUTE_SECONDS: f64 = 60.0;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ask {
    /// Input tokens.
    pub prompt: u64,
    /// Input tokens that are not expected to be cached; more than `prompt` counts as `prompt`.
    pub uncached_prompt: u64,
    /// The most tokens that each choice may generate, as the engine will obey it: the larger one where a request
    /// gives two. `Some(0)` for routes without output. `None`: no maximum given.
    pub max_generated: Option<u64>,
    /// Answers generated for this one request (`n`, `best_of`); 0 counts as 1.
    pub choices: u32,
    /// What an answer of this model usually generates, for an account that has finished none yet.
    pub usual_of_model: Option<u64>,
}

/// What a request used in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// Input tokens.
    pub prompt: u64,
    /// Input tokens that had to be prefilled; more than `prompt` counts as `prompt`.
    pub uncached_prompt: u64,
    /// Output tokens of all choices, reasoning included. Without the engine's usage: what was counted.
    pub generated: u64,
    /// The answer came to its own end, so it teaches what is usual.
    pub finished: bool,
}

/// What an answer of an account on a model usually generates, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Usual {
    /// Tokens of an answer; `None` while none has finished.
    pub(crate) generated: Option<f64>,
    /// Tokens of the last answers, the older ones counting less.
    pub(crate) flowed: f64,
    /// Seconds that those lasted, from their reservation to their end.
    pub(crate) lasted: f64,
}

impl Usual {
    /// The usual answer in tokens; `prior` while none has finished.
    pub(crate) fn tokens(&self, prior: Option<u64>) -> u64 {
        self.generated.map_or(prior.unwrap_or(USUAL_UNKNOWN), |usual| usual.round() as u64)
    }

    /// Tokens per second of an answer while it runs, its waiting and its prompt included.
    pub(crate) fn rate(&self) -> Option<f64> {
        (self.flowed > 0.0 && self.lasted > 0.0).then(|| self.flowed / self.lasted)
    }

    /// Learns from a finished answer. The first one moves the `prior`.
    pub(crate) fn learn(&mut self, generated: u64, prior: u64, lasted: Duration) {
        let usual = self.generated.unwrap_or(prior as f64);
        self.generated = Some(usual + USUAL_GAIN * (generated as f64 - usual));
        self.flowed += generated as f64 - USUAL_GAIN * self.flowed;
        self.lasted += lasted.as_secs_f64() - USUAL_GAIN * self.lasted;
    }
}

impl Ask {
    /// Answers asked for: one at least.
    pub(crate) fn choices(&self) -> u32 {
        self.choices.max(1)
    }

    /// Output tokens to expect of all choices, by what is usual.
    pub(crate) fn expected(&self, usual: &Usual) -> u64 {
        let max = self.max_generated.unwrap_or(u64::MAX);
        let tokens = usual.tokens(self.usual_of_model);
        let within_a_minute = usual.rate().map_or(tokens, |rate| tokens.min((rate * MINUTE_SECONDS) as u64));
        let by_maximum = (max / 4).clamp(EXPECTED_MIN, EXPECTED_BY_MAXIMUM);
        within_a_minute.max(by_maximum).min(max).saturating_mul(u64::from(self.choices()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(max_generated: Option<u64>, choices: u32) -> Ask {
        Ask { max_generated, choices, ..Ask::default() }
    }

    fn usual(generated: f64) -> Usual {
        Usual { generated: Some(generated), ..Usual::default() }
    }

    #[test]
    fn an_answer_is_expected_to_be_as_long_as_usual_but_never_longer_than_it_may_be() {
        let expected = |max, tokens| asking(max, 1).expected(&usual(tokens));
        assert_eq!(expected(Some(4_096), 1_000.0), 1_000, "the usual");
        assert_eq!(expected(Some(4_096), 100.0), 256, "a long maximum counts for 256");
        assert_eq!(expected(Some(400), 50.0), 100, "a quarter of a short one");
        assert_eq!(expected(Some(8), 1_000.0), 8, "never more than can come");
        assert_eq!(expected(Some(40), 0.0), 16, "never less than a few tokens");
        assert_eq!(expected(Some(0), 1_000.0), 0, "a route without output");
    }

    #[test]
    fn of_a_long_answer_only_a_minute_is_expected() {
        let mut slow = Usual::default();
        slow.learn(3_000, 3_000, Duration::from_secs(120));

        assert_eq!(asking(None, 1).expected(&slow), 1_500, "25 tokens per second");
    }

    #[test]
    fn each_choice_is_expected() {
        assert_eq!(asking(Some(4_096), 5).expected(&usual(1_000.0)), 5_000);
        assert_eq!(asking(Some(4_096), 0).expected(&usual(1_000.0)), 1_000, "none means one");
        let absurd = Ask { usual_of_model: Some(u64::MAX), ..asking(None, u32::MAX) };
        assert_eq!(absurd.expected(&Usual::default()), u64::MAX, "absurd values saturate");
    }

    #[test]
    fn the_usual_starts_from_the_model_and_follows_the_account() {
        let mut usual = Usual::default();
        assert_eq!((usual.tokens(None), usual.rate()), (USUAL_UNKNOWN, None));
        assert_eq!(usual.tokens(Some(1_000)), 1_000);

        usual.learn(2_000, 1_000, Duration::from_secs(80));

        assert_eq!(usual.tokens(Some(5)), 1_100, "a tenth of the way");
        assert_eq!(usual.rate(), Some(25.0), "the first one says how fast");
        (0..100).for_each(|_| usual.learn(2_000, 1_000, Duration::from_secs(40)));
        assert!(usual.rate().is_some_and(|rate| (49.9..50.1).contains(&rate)), "{usual:?}");
    }

    /// Nothing generated at all says nothing about speed.
    #[test]
    fn an_empty_answer_teaches_no_rate() {
        let mut usual = Usual::default();
        usual.learn(0, 256, Duration::from_secs(1));
        assert_eq!(usual.rate(), None);
    }
}
