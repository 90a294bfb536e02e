//! What a request is charged in the end: by the best proof there is, and never more than it.
//!
//! Total prompt and generated tokens are the engine's own. Uncached tokens are the smaller of what the engine had to compute
//! and what the best replica would have had to: where a request is sent never costs its account. Where the engine says
//! nothing of its cache, the estimate made at admission counts; where it says nothing at all, or what cannot be, what was
//! weighed and counted.

use limits::Used;

/// Template and tools that an engine adds to a prompt, tokens; generous.
const TEMPLATE_TOKENS_MAX: u64 = 16_384;
/// Tokens that one answer may have where the request names no maximum: more than any model's context today.
const GENERATED_MAX: u64 = 1 << 20;

/// The prompt as it was weighed, tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weighed {
    /// All of them.
    pub prompt: u64,
    /// Those that the best replica did not have cached.
    pub uncached: u64,
}

impl Weighed {
    /// Those that the best replica had cached.
    #[must_use]
    pub fn cached(&self) -> u64 {
        self.prompt.saturating_sub(self.uncached)
    }

    /// The same request with another estimate of its length: as much of it is cached as before.
    #[must_use]
    pub fn anew(&self, prompt: u64) -> Weighed {
        Weighed { prompt, uncached: prompt.saturating_sub(self.cached()) }
    }
}

/// What an engine told of one request, tokens. A 0 is a number that it did not tell: there is no prompt without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Told {
    /// Its prompt, what was cached included.
    pub prompt: u64,
    /// Of these, from the engine's cache.
    pub cached: Option<u64>,
    /// Generated.
    pub generated: u64,
}

impl Told {
    /// Whether anything was told.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.prompt > 0 || self.generated > 0
    }
}

/// What a request can have used at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Possible {
    /// Tokens of its texts: a token has a byte at least.
    pub prompt_max: u64,
    /// Pictures in it, each of which may be as much as a long template.
    pub images: u64,
    /// The maximum that the request names for each answer.
    pub max_tokens: Option<u64>,
    /// Answers that it asks for; at least 1.
    pub choices: u64,
}

impl Possible {
    /// `told` as far as it can be: one absurd report must not put an account days into debt. A number that cannot be does
    /// not throw the others away, it counts as untold. Beside a prompt that cannot be, the answer's number is believed only
    /// if it is near the `counted` one.
    #[must_use]
    pub fn of(&self, told: Told, counted: u64) -> Told {
        let prompt_max = self.prompt_max.saturating_add(TEMPLATE_TOKENS_MAX.saturating_mul(1 + self.images));
        let is_prompt = told.prompt <= prompt_max;
        let each = self.max_tokens.unwrap_or(GENERATED_MAX);
        let near = if is_prompt { u64::MAX } else { counted.saturating_mul(4).saturating_add(1_024) };
        let generated_max =
            each.saturating_mul(self.choices.max(1)).saturating_add(TEMPLATE_TOKENS_MAX).min(near);
        Told {
            prompt: if is_prompt { told.prompt } else { 0 },
            cached: told.cached.filter(|_| is_prompt),
            generated: if told.generated <= generated_max { told.generated } else { 0 },
        }
    }
}

/// What is known of an answer at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// What the engine told, as far as it can be; `None`: nothing.
    pub told: Option<Told>,
    /// Generated tokens as counted here.
    pub counted: u64,
    /// Whether the engine tells what it has generated while it generates: then its number counts in the middle, too.
    pub runs: bool,
    /// Whether the answer came to its own end.
    pub finished: bool,
}

impl Answer {
    /// What the request is charged. `weighed`: at admission; `now`: by what was learnt since then, for a prompt of which the
    /// engine tells nothing.
    #[must_use]
    pub fn used(&self, weighed: Weighed, now: Weighed) -> Used {
        let finished = self.finished;
        let Some(told) = self.told else {
            return Used {
                prompt: now.prompt,
                uncached_prompt: now.uncached,
                generated: self.counted,
                finished,
            };
        };
        let prompt = if told.prompt == 0 { weighed.prompt } else { told.prompt };
        let by_us = prompt.saturating_sub(weighed.cached());
        let cached = told.cached.filter(|_| told.prompt > 0);
        let uncached_prompt = cached.map_or(by_us, |cached| by_us.min(prompt.saturating_sub(cached)));
        Used { prompt, uncached_prompt, generated: self.generated(told), finished }
    }

    /// Generated tokens: what the engine says, where it says it of the whole answer or of each chunk. Some tell in the
    /// middle of a stream only what the prompt cost, with a zero for the rest: then what was counted counts, and an answer
    /// with content has not generated nothing.
    fn generated(&self, told: Told) -> u64 {
        let is_of_all = (self.finished || self.runs) && told.generated > 0;
        if is_of_all { told.generated } else { told.generated.max(self.counted) }
    }
}

/// What a request is charged of whose answer nobody knows more: its client left, or it was given up. What was counted is
/// charged, and a prompt whole that an engine had `begun`, or leaving early would be the way to prefill for nothing.
/// `None`: nothing.
#[must_use]
pub fn given_up(weighed: Weighed, counted: u64, begun: bool) -> Option<Used> {
    let Weighed { prompt, uncached } = weighed;
    (counted > 0 || begun).then_some(Used {
        prompt,
        uncached_prompt: uncached,
        generated: counted,
        finished: false,
    })
}

/// Tokens of all `choices`, where the longest has `longest` and still grows. The others may have ended: of answers that are
/// `usual` tokens long in the mean, and end at any moment as likely as at any other (their length has an exponential
/// distribution), so many were made by then: usual × (1 − e^(−longest ÷ usual)) each.
#[must_use]
pub fn of_choices(longest: f64, choices: u32, usual: u64) -> u64 {
    let usual = usual.max(1) as f64;
    let other = usual * (1.0 - (-longest / usual).exp());
    let others = choices.max(1) - 1;
    // A float beyond the range of an integer becomes its largest value.
    (longest + f64::from(others) * other).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WEIGHED: Weighed = Weighed { prompt: 100, uncached: 60 };
    const WHOLE: Answer = Answer { told: None, counted: 7, runs: false, finished: true };

    fn told(prompt: u64, cached: Option<u64>, generated: u64) -> Option<Told> {
        Some(Told { prompt, cached, generated })
    }

    fn triple(answer: Answer) -> (u64, u64, u64) {
        let used = answer.used(WEIGHED, WEIGHED.anew(90));
        (used.prompt, used.uncached_prompt, used.generated)
    }

    #[test]
    fn the_engines_numbers_count_and_the_best_replicas_cache() {
        for (what, answer, expected) in [
            ("nothing told: as weighed by now, and as counted", WHOLE, (90, 50, 7)),
            ("all told", Answer { told: told(110, Some(30), 9), ..WHOLE }, (110, 70, 9)),
            ("it computed less than ours", Answer { told: told(110, Some(80), 9), ..WHOLE }, (110, 30, 9)),
            ("nothing of its cache", Answer { told: told(110, None, 9), ..WHOLE }, (110, 70, 9)),
            ("nothing of the prompt", Answer { told: told(0, Some(5), 9), ..WHOLE }, (100, 60, 9)),
            ("nothing generated", Answer { told: told(110, None, 0), ..WHOLE }, (110, 70, 7)),
            (
                "in the middle a low number is the prompt's",
                Answer { told: told(110, None, 2), finished: false, ..WHOLE },
                (110, 70, 7),
            ),
            (
                "but where it is told with each chunk",
                Answer { told: told(110, None, 2), finished: false, runs: true, ..WHOLE },
                (110, 70, 2),
            ),
        ] {
            assert_eq!(triple(answer), expected, "{what}");
        }
    }

    #[test]
    fn what_cannot_be_is_as_if_untold() {
        let possible = Possible { prompt_max: 1_000, images: 0, max_tokens: Some(50), choices: 2 };
        let absurd = 1 << 40;

        assert_eq!(
            possible.of(told(1_200, None, 90).unwrap(), 80),
            told(1_200, None, 90).unwrap(),
            "a template"
        );
        assert_eq!(possible.of(told(absurd, Some(9), 90).unwrap(), 80), told(0, None, 90).unwrap());
        assert_eq!(
            possible.of(told(absurd, Some(9), 2_000).unwrap(), 80),
            told(0, None, 0).unwrap(),
            "far off"
        );
        assert_eq!(possible.of(told(900, Some(9), absurd).unwrap(), 80), told(900, Some(9), 0).unwrap());
        let pictures = Possible { images: 3, ..possible };
        assert!(pictures.of(told(50_000, None, 9).unwrap(), 9).prompt > 0);
    }

    #[test]
    fn who_leaves_pays_for_what_was_counted_and_begun() {
        assert_eq!(given_up(WEIGHED, 0, false), None);
        let used = |generated| Used { prompt: 100, uncached_prompt: 60, generated, finished: false };
        assert_eq!(given_up(WEIGHED, 0, true), Some(used(0)));
        assert_eq!(given_up(WEIGHED, 5, false), Some(used(5)));
    }

    #[test]
    fn choices_that_may_have_ended_count_for_less_than_the_one_that_grows() {
        assert_eq!(of_choices(20.4, 1, 5), 20);
        assert_eq!(of_choices(20.0, 3, 1_000_000), 60, "nothing ends so early");
        assert_eq!(of_choices(100.0, 3, 10), 120, "the others ended after ten");
        assert_eq!(of_choices(0.0, 3, 0), 0);
    }

    proptest! {
        /// Whatever an engine tells, nobody pays for more uncached tokens than for prompt, nor for more than can be.
        #[test]
        fn nobody_pays_for_what_cannot_be(
            prompt in any::<u64>(), cached in proptest::option::of(any::<u64>()), generated in any::<u64>(),
            counted in 0u64..1_000, finished in any::<bool>(), runs in any::<bool>(),
        ) {
            let possible = Possible { prompt_max: 1_000, images: 0, max_tokens: Some(1_000), choices: 1 };
            let believed = possible.of(Told { prompt, cached, generated }, counted);
            let answer = Answer { told: Some(believed).filter(Told::is_any), counted, runs, finished };
            let used = answer.used(WEIGHED, WEIGHED);
            prop_assert!(used.uncached_prompt <= used.prompt && used.prompt <= 1_000 + TEMPLATE_TOKENS_MAX);
            prop_assert!(used.generated <= 1_000 + TEMPLATE_TOKENS_MAX);
        }
    }
}
