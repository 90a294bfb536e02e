//! What a request asks a budget for, what it used in the end, and what an answer usually generates.
//!
//! How long an answer will be is not known at admission. Reserving the request's maximum refuses a sixth of the traffic
//! of an account that stays under its limit; reserving nothing lets an idle account start far more
//! than a minute's worth at once. So a part of the usual answer is reserved, and the stream is charged as it flows:
//!
//! ```text
//! per choice: max(usual / 2, min(max / 4, 256), 16), at most max
//! usual     : += 0.1 * (generated - usual) for each finished answer
//! ```
//!
//! The result is an estimate, so it never exceeds the limit: an idle account's request is never refused because of it.

/// What an answer is taken to generate while neither the account nor the model has shown anything.
pub const USUAL_UNKNOWN: u64 = 256;

/// The largest part of a reserve that rests on nothing but the request's own maximum.
const RESERVE_BY_MAXIMUM: u64 = 256;

/// Every generation begins with some tokens; without this, tiny answers would be free to start in any number.
const RESERVE_MIN: u64 = 16;

/// Share of a finished answer in the new usual: the last ten or so decide.
const USUAL_GAIN: f64 = 0.1;

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

/// What an answer of an account on a model usually generates.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Usual(pub(crate) Option<f64>);

impl Usual {
    /// The usual answer in tokens; `prior` while none has finished.
    pub(crate) fn tokens(self, prior: Option<u64>) -> u64 {
        self.0.map_or(prior.unwrap_or(USUAL_UNKNOWN), |usual| usual.round() as u64)
    }

    /// Learns from a finished answer. The first one moves the `prior`.
    pub(crate) fn learn(&mut self, generated: u64, prior: u64) {
        let usual = self.0.unwrap_or(prior as f64);
        self.0 = Some(usual + USUAL_GAIN * (generated as f64 - usual));
    }
}

impl Ask {
    /// Output tokens to reserve, where an answer usually generates `usual` tokens.
    pub(crate) fn generated_reserve(&self, usual: u64) -> u64 {
        let max = self.max_generated.unwrap_or(u64::MAX);
        let per_choice = (usual / 2).max((max / 4).min(RESERVE_BY_MAXIMUM)).max(RESERVE_MIN).min(max);
        per_choice.saturating_mul(u64::from(self.choices.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(max_generated: Option<u64>, choices: u32) -> Ask {
        Ask { max_generated, choices, ..Ask::default() }
    }

    #[test]
    fn the_reserve_is_half_of_the_usual_but_never_more_than_the_maximum() {
        assert_eq!(asking(Some(4_096), 1).generated_reserve(1_000), 500, "half of the usual");
        assert_eq!(asking(Some(4_096), 1).generated_reserve(100), 256, "a long maximum counts for 256");
        assert_eq!(asking(Some(400), 1).generated_reserve(100), 100, "a quarter of a short one");
        assert_eq!(asking(Some(8), 1).generated_reserve(1_000), 8, "never more than can come");
        assert_eq!(asking(Some(40), 1).generated_reserve(0), 16, "never less than a few tokens");
        assert_eq!(asking(Some(0), 1).generated_reserve(1_000), 0, "a route without output");
    }

    #[test]
    fn each_choice_is_reserved_for() {
        assert_eq!(asking(Some(4_096), 5).generated_reserve(1_000), 2_500);
        assert_eq!(asking(Some(4_096), 0).generated_reserve(1_000), 500, "none means one");
        assert_eq!(asking(None, u32::MAX).generated_reserve(u64::MAX), u64::MAX, "absurd values saturate");
    }

    #[test]
    fn the_usual_starts_from_the_model_and_follows_the_account() {
        let mut usual = Usual::default();
        assert_eq!(usual.tokens(None), USUAL_UNKNOWN);
        assert_eq!(usual.tokens(Some(1_000)), 1_000);

        usual.learn(2_000, 1_000);

        assert_eq!(usual.tokens(Some(5)), 1_100, "a tenth of the way");
    }
}
