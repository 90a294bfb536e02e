//! The prefill rate of a replica that only gives whole answers, learnt from how long they took.
//!
//! Without a first token nobody sees a prompt being computed, but every running answer feels it: an engine computes
//! prompts in the very steps that give the others their next token. So the time of a whole answer is made of its own
//! tokens, of those that ran beside it, and of all prompt tokens that the replica computed meanwhile:
//!
//! ```text
//! D = a · n + b · n · B + c · S        n: its tokens, B: requests beside it, S: prompt tokens computed meanwhile
//! prefill rate = 1 / c
//! ```
//!
//! `a`, `b` and `c` are fitted by least squares over about the last 200 answers, each weighted by 1 / D², because what
//! is left unexplained grows with the time. A load that comes and goes is what tells the three apart; where it never
//! changes, a weak pull towards zero keeps the fit finite, and a rate that makes no sense counts as none.
//!
//! Cost: O(1) per answer, nothing allocates.

/// Answers that count, about.
const MEMORY: f64 = 200.0;
const ANSWERS_MIN: u32 = 30;
/// The pull towards zero, as a part of each square.
const RIDGE: f64 = 1e-4;
/// Tokens per second that an engine may compute.
const RATES: std::ops::RangeInclusive<f64> = 50.0..=1e6;

/// What one answer showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct WholeAnswer {
    /// Seconds from dispatch to the end, without what an empty request takes.
    pub(crate) seconds: f64,
    /// Tokens generated.
    pub(crate) tokens: f64,
    /// Requests that ran beside it.
    pub(crate) beside: f64,
    /// Prompt tokens computed on its replica meanwhile, its own included.
    pub(crate) prompts: f64,
}

/// The sums of the fit.
#[derive(Debug, Clone, Default)]
pub(crate) struct WholeAnswers {
    squares: [[f64; 3]; 3],
    products: [f64; 3],
    answers: u32,
}

impl WholeAnswers {
    /// One more; the rate as of now, tokens per second.
    pub(crate) fn on_answer(&mut self, answer: WholeAnswer) -> Option<f64> {
        let WholeAnswer { seconds, tokens, beside, prompts } = answer;
        if !(seconds > 0.001 && [seconds, tokens, beside, prompts].iter().all(|x| x.is_finite())) {
            return None;
        }
        self.answers = self.answers.saturating_add(1);
        let row = [tokens, tokens * beside, prompts].map(|x| x / seconds);
        let keep = 1.0 - 1.0 / MEMORY;
        for ((squares, product), x) in self.squares.iter_mut().zip(&mut self.products).zip(row) {
            *product = keep * *product + x;
            for (square, y) in squares.iter_mut().zip(row) {
                *square = keep * *square + x * y;
            }
        }
        if self.answers < ANSWERS_MIN {
            return None;
        }
        let rate = 1.0 / self.seconds_per_prompt_token()?;
        RATES.contains(&rate).then_some(rate)
    }

    /// `c`, by Cramer's rule.
    fn seconds_per_prompt_token(&self) -> Option<f64> {
        let [[a, b, c], [_, d, e], [_, _, f]] = self.squares;
        let (a, d, f) = (a * (1.0 + RIDGE), d * (1.0 + RIDGE), f * (1.0 + RIDGE));
        let [x, y, z] = self.products;
        let all = a * (d * f - e * e) - b * (b * f - c * e) + c * (b * e - c * d);
        let last = a * (d * z - y * e) - b * (b * z - y * c) + x * (b * e - d * c);
        (all > 0.0 && last > 0.0).then(|| last / all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an engine shows that needs 10 ms a step, 0.2 ms more for each request, and 80 µs per prompt token.
    fn shown(answers: &mut WholeAnswers, n: u32, prompts_per_token: f64) -> Option<f64> {
        let tokens = f64::from(20 + 37 * (n % 11));
        let beside = f64::from(5 + n % 17);
        let prompts = tokens * prompts_per_token;
        let seconds = tokens * (0.010 + 0.0002 * beside) + 80e-6 * prompts;
        answers.on_answer(WholeAnswer { seconds, tokens, beside, prompts })
    }

    #[test]
    fn a_load_that_changes_tells_prompts_from_steps() {
        let mut answers = WholeAnswers::default();

        let rates: Vec<_> = (0..300).map(|n| shown(&mut answers, n, f64::from(n % 60) * 10.0)).collect();

        assert!(rates.iter().take(29).all(Option::is_none), "a few answers tell nothing");
        let rate = rates.last().copied().flatten();
        assert!(rate.is_some_and(|rate| (12_300.0..12_700.0).contains(&rate)), "{rate:?} of 12,500");
    }

    #[test]
    fn what_makes_no_sense_is_no_rate() {
        let mut answers = WholeAnswers::default();

        let none = (0..300).filter_map(|n| shown(&mut answers, n, 0.0)).count();
        let odd = [0.0, f64::NAN, -1.0].map(|seconds| {
            let answer = WholeAnswer { seconds, tokens: 10.0, beside: 1.0, prompts: 10.0 };
            WholeAnswers::default().on_answer(answer)
        });

        assert_eq!(none, 0, "without a prompt nothing is known of prompts");
        assert_eq!(odd, [None; 3]);
    }

    #[test]
    fn an_engine_that_became_slower_is_believed() {
        let mut answers = WholeAnswers::default();
        for n in 0..500 {
            shown(&mut answers, n, f64::from(n % 60) * 10.0);
        }
        let slower = (0..1_500).filter_map(|n| {
            let tokens = f64::from(20 + 37 * (n % 11));
            let prompts = tokens * f64::from(n % 60) * 10.0;
            let seconds = tokens * 0.02 + 160e-6 * prompts;
            answers.on_answer(WholeAnswer { seconds, tokens, beside: 8.0, prompts })
        });

        let rate = slower.last();

        assert!(rate.is_some_and(|rate| (6_000.0..6_500.0).contains(&rate)), "{rate:?} of 6,250");
    }
}
