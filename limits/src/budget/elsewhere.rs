//! Use that another process has booked for the account: it belongs to the same minute.
//!
//! While a gateway hands its work over to a new process, its last requests still run there, and what they use has to be
//! known here. What came is charged now, and owed as far as the minute has no room, like the tokens of any running answer.
//! What is given back is taken out of the oldest charges, and the room that it leaves is for the debt first: they are the
//! ones that end soonest, so no moment has more room than if all had been booked in one place.

use std::time::Duration;

use crate::bounds::TOKENS_PER_MINUTE_MAX;
use crate::budget::Budget;
use crate::meter::{Meter, PerMeter};

impl Budget {
    /// Books tokens that were used elsewhere (positive) or given back there (negative), per meter. O(241).
    pub fn book_elsewhere(&mut self, now: Duration, tokens: &PerMeter<i64>) {
        self.advance(now);
        if tokens.iter().any(|(_, tokens)| *tokens > 0) {
            self.last_use = self.timeline.latest();
        }
        for meter in Meter::ALL {
            let ledger = self.ledgers.get_mut(meter);
            let tokens = *tokens.get(meter);
            let amount = tokens.unsigned_abs().min(TOKENS_PER_MINUTE_MAX);
            let limit = ledger.limit;
            if tokens > 0 {
                ledger.window.charge(ledger.window.newest(), amount, limit);
            } else {
                ledger.window.credit(ledger.window.oldest(), ledger.window.newest(), amount);
                ledger.window.pay(limit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::Bounds;
    use crate::config::{BudgetConfig, Policy};
    use crate::reservation::ask::{Ask, Used};

    const T0: Duration = Duration::from_secs(100);

    fn budget() -> Budget {
        let bounds = PerMeter::from_fn(|_| Bounds::fixed(1_000).unwrap());
        Budget::new(T0, BudgetConfig { policy: Policy::Fixed, bounds })
    }

    fn spend(budget: &mut Budget, now: Duration, prompt: u64) {
        let ask = Ask { prompt, uncached_prompt: prompt, choices: 1, ..Ask::default() };
        let reservation = budget.reserve(now, &ask).unwrap();
        let used = Used { prompt, uncached_prompt: prompt, generated: 0, finished: false };
        budget.settle(now, reservation, &used);
    }

    #[test]
    fn what_was_used_elsewhere_counts_and_what_does_not_fit_is_owed() {
        let mut budget = budget();
        spend(&mut budget, T0, 900);

        budget.book_elsewhere(T0, &PerMeter { prompt: 300, uncached_prompt: 50, generated: 7 });

        let view = budget.view(T0);
        assert_eq!((view.prompt.used, view.prompt.debt), (1_000, 200));
        assert_eq!((view.uncached_prompt.used, view.generated.used), (950, 7));
        let later = budget.view(T0 + Duration::from_secs(61));
        assert_eq!((later.prompt.used, later.prompt.debt), (200, 0), "the debt enters the next minute");
    }

    #[test]
    fn what_is_given_back_makes_room_for_the_debt() {
        let mut budget = budget();
        budget.book_elsewhere(T0, &PerMeter { prompt: 1_100, uncached_prompt: 0, generated: 0 });

        budget.book_elsewhere(T0, &PerMeter { prompt: -50, uncached_prompt: 0, generated: 0 });

        let view = budget.view(T0).prompt;
        assert_eq!((view.used, view.debt), (1_000, 50));
    }

    #[test]
    fn what_is_given_back_leaves_the_oldest_charges_first() {
        let mut budget = budget();
        spend(&mut budget, T0, 300);
        let later = T0 + Duration::from_secs(30);
        spend(&mut budget, later, 200);

        budget.book_elsewhere(later, &PerMeter { prompt: -250, ..PerMeter::default() });

        assert_eq!(budget.view(later).prompt.used, 250);
        let after_the_first = T0 + Duration::from_secs(61);
        assert_eq!(budget.view(after_the_first).prompt.used, 200, "the newer charge stands whole");
    }

    #[test]
    fn more_is_never_given_back_than_was_charged() {
        let mut budget = budget();
        spend(&mut budget, T0, 10);

        budget.book_elsewhere(T0, &PerMeter { prompt: i64::MIN, uncached_prompt: -11, generated: -1 });

        assert_eq!(budget.view(T0).map(|view| view.used), PerMeter::default());
    }
}
