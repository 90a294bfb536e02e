//! One request's entry in its account's budget, from its reservation to its end.
//!
//! ```text
//! reserve ─ started ─ charge_prompt ─ charge_chunks … ─ settle      answered, or broken off
//!    │                                                └ give_up     nobody waits any more
//!    └ release                                                      never reached an engine
//! ```
//!
//! An entry ends once: what ends it takes it. Each end says what it changed in the account's use, so that another process
//! that goes on with the budget can be told.

use crate::settlement::{Weighed, given_up};
use limits::{Ask, Budget, Refusal, Reservation, Used};
use std::time::Duration;

/// A request that holds a reservation.
#[derive(Debug)]
pub struct Entry {
    weighed: Weighed,
    tokens_per_chunk: f64,
    reservation: Reservation,
    generated: u64,
    is_started: bool,
}

/// What an account's use changed by, tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Booked {
    /// Total prompt.
    pub prompt: i64,
    /// Uncached prompt.
    pub uncached: i64,
    /// Generated.
    pub generated: i64,
}

impl Booked {
    fn of(used: &Used) -> Self {
        Booked {
            prompt: signed(used.prompt),
            uncached: signed(used.uncached_prompt),
            generated: signed(used.generated),
        }
    }

    fn less(self, other: Self) -> Self {
        Booked {
            prompt: self.prompt - other.prompt,
            uncached: self.uncached - other.uncached,
            generated: self.generated - other.generated,
        }
    }
}

impl Entry {
    /// Reserves in all three meters of `budget`, or in none. The prompt counts as `weighed`; a content chunk as so many
    /// tokens.
    ///
    /// # Errors
    /// Which meter has no room, and when it will.
    pub fn reserve(
        now: Duration,
        budget: &mut Budget,
        weighed: Weighed,
        tokens_per_chunk: f64,
        answer: AnswerSize,
    ) -> Result<(Self, Booked), Refusal> {
        let ask = Ask {
            prompt: weighed.prompt,
            uncached_prompt: weighed.uncached,
            max_generated: answer.tokens_max,
            choices: answer.choices,
            usual_of_model: Some(answer.usual),
        };
        let reservation = budget.reserve(now, &ask)?;
        let entry = Entry { weighed, tokens_per_chunk, reservation, generated: 0, is_started: false };
        Ok((entry, reserved(weighed)))
    }

    /// Whether an engine works on the prompt. Taken back when the engine itself gave up before a token.
    pub fn set_started(&mut self, is_started: bool) {
        self.is_started = is_started;
    }

    /// Whether an engine works on the prompt.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.is_started
    }

    /// The first token came: the prompt's tokens flow now. Idempotent.
    pub fn charge_prompt(&mut self, now: Duration, budget: &mut Budget) {
        budget.charge_prompt(now, &mut self.reservation);
    }

    /// `chunks` content chunks came.
    pub fn charge_chunks(&mut self, now: Duration, budget: &mut Budget, chunks: u32) -> Booked {
        let tokens = (f64::from(chunks) * self.tokens_per_chunk).round() as u64;
        self.generated = self.generated.saturating_add(tokens);
        budget.charge_generated(now, &mut self.reservation, tokens);
        Booked { generated: signed(tokens), ..Booked::default() }
    }

    /// The end of an answer that used this.
    pub fn settle(self, now: Duration, budget: &mut Budget, used: &Used) -> Booked {
        let so_far = Booked { generated: signed(self.generated), ..reserved(self.weighed) };
        budget.settle(now, self.reservation, used);
        Booked::of(used).less(so_far)
    }

    /// The end without any use: refused, or left while it waited.
    pub fn release(self, now: Duration, budget: &mut Budget) -> Booked {
        budget.release(now, self.reservation);
        Booked::default().less(reserved(self.weighed))
    }

    /// The end without anybody who knows more: what was seen is charged, and a prompt that an engine has begun.
    pub fn give_up(self, now: Duration, budget: &mut Budget) -> Booked {
        match given_up(self.weighed, self.generated, self.is_started) {
            Some(used) => self.settle(now, budget, &used),
            None => self.release(now, budget),
        }
    }
}

/// The answer that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerSize {
    /// The most tokens of each choice that the request names; `Some(0)` where there is none.
    pub tokens_max: Option<u64>,
    /// Answers; at least 1.
    pub choices: u32,
    /// Tokens of the model's usual answer.
    pub usual: u64,
}

fn reserved(weighed: Weighed) -> Booked {
    Booked { prompt: signed(weighed.prompt), uncached: signed(weighed.uncached), generated: 0 }
}

/// No count of tokens comes near the bound.
fn signed(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use limits::{BudgetConfig, Meter, PerMeter};
    use proptest::prelude::*;

    const WEIGHED: Weighed = Weighed { prompt: 100, uncached: 60 };
    const WANTED: AnswerSize = AnswerSize { tokens_max: Some(50), choices: 1, usual: 20 };
    const NOW: Duration = Duration::from_secs(1);

    fn budget(limit: u64) -> Budget {
        let limits = PerMeter::from_fn(|_| limit);
        Budget::new(Duration::ZERO, BudgetConfig::published(limits, limits))
    }

    fn used(budget: &mut Budget) -> [u64; 3] {
        let view = budget.view(NOW);
        Meter::ALL.map(|meter| view.get(meter).used + view.get(meter).debt)
    }

    fn begun(budget: &mut Budget) -> Entry {
        Entry::reserve(NOW, budget, WEIGHED, 2.0, WANTED).expect("room").0
    }

    /// Each way to the end, and what is charged for it.
    #[test]
    fn an_entry_is_charged_by_how_it_ends() {
        type End = fn(Entry, &mut Budget) -> Booked;
        let answered: End = |mut entry, budget| {
            entry.set_started(true);
            entry.charge_prompt(NOW, budget);
            entry.charge_chunks(NOW, budget, 3);
            let used = Used { prompt: 90, uncached_prompt: 50, generated: 7, finished: true };
            entry.settle(NOW, budget, &used)
        };
        let left_in_the_queue: End = |entry, budget| entry.give_up(NOW, budget);
        let left_in_the_prefill: End = |mut entry, budget| {
            entry.set_started(true);
            entry.give_up(NOW, budget)
        };
        let its_engine_gave_up: End = |mut entry, budget| {
            entry.set_started(true);
            entry.set_started(false);
            entry.give_up(NOW, budget)
        };
        let left_in_the_answer: End = |mut entry, budget| {
            entry.charge_chunks(NOW, budget, 4);
            entry.give_up(NOW, budget)
        };
        let refused: End = |entry, budget| entry.release(NOW, budget);
        for (what, end, charged) in [
            ("answered", answered, [90, 50, 7]),
            ("left in the queue", left_in_the_queue, [0, 0, 0]),
            ("left in the prefill", left_in_the_prefill, [100, 60, 0]),
            ("its engine gave up", its_engine_gave_up, [0, 0, 0]),
            ("left in the answer: two tokens a chunk", left_in_the_answer, [100, 60, 8]),
            ("refused", refused, [0, 0, 0]),
        ] {
            let mut budget = budget(100_000);
            let entry = begun(&mut budget);
            end(entry, &mut budget);
            assert_eq!(used(&mut budget), charged, "{what}");
            assert_eq!(budget.live(), 0, "{what}");
        }
    }

    #[test]
    fn without_room_nothing_is_reserved() {
        let mut budget = budget(50);
        let refused = Entry::reserve(NOW, &mut budget, WEIGHED, 1.0, WANTED);
        assert!(refused.is_err() && budget.live() == 0);
        assert_eq!(used(&mut budget), [0, 0, 0]);
    }

    proptest! {
        /// What was booked, taken together, is what the account used: a process that goes on with the budget needs no more.
        #[test]
        fn what_is_booked_adds_up_to_what_was_used(chunks in prop::collection::vec(0_u32..50, 0..5), ends in 0_u8..4, tokens in 0_u64..500) {
            let mut budget = budget(1_000_000);
            let (mut entry, first) = Entry::reserve(NOW, &mut budget, WEIGHED, 1.5, WANTED).expect("room");
            let mut all = vec![first];
            for chunks in chunks {
                entry.set_started(true);
                all.push(entry.charge_chunks(NOW, &mut budget, chunks));
            }
            let used_by = Used { prompt: tokens, uncached_prompt: tokens / 2, generated: tokens, finished: ends == 0 };
            all.push(match ends {
                0 | 1 => entry.settle(NOW, &mut budget, &used_by),
                2 => entry.give_up(NOW, &mut budget),
                _ => entry.settle(NOW, &mut budget, &Used { prompt: 0, uncached_prompt: 0, generated: 0, finished: false }),
            });
            let sum = |of: fn(&Booked) -> i64| all.iter().map(of).sum::<i64>();
            let booked = [sum(|one| one.prompt), sum(|one| one.uncached), sum(|one| one.generated)];
            prop_assert_eq!(booked.map(|tokens| tokens as u64), used(&mut budget));
        }
    }
}
