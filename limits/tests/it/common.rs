//! Short words for tests of budgets.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its scene has to stop")]

use std::time::Duration;

use limits::{AdaptiveRule, Ask, Bounds, Budget, BudgetConfig, PerMeter, Policy, Reservation, Used};

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The same bounds for all meters.
pub(crate) fn bounds(start: u64, floor: u64, ceiling: u64) -> PerMeter<Bounds> {
    PerMeter::from_fn(|_| Bounds::new(start, floor, ceiling).unwrap())
}

/// A budget whose limits do not move.
pub(crate) fn fixed(limits: [u64; 3], ceiling: u64) -> Budget {
    let [prompt, uncached_prompt, generated] = limits;
    let bounds = PerMeter { prompt, uncached_prompt, generated };
    let bounds = bounds.map(|limit| Bounds::new(limit, limit, ceiling.max(limit)).unwrap());
    Budget::new(secs(0), BudgetConfig { policy: Policy::Fixed, bounds })
}

/// A budget by the published rule.
pub(crate) fn adaptive(start: u64, floor: u64, ceiling: u64) -> Budget {
    Budget::new(secs(0), adaptive_config(start, floor, ceiling))
}

pub(crate) fn adaptive_config(start: u64, floor: u64, ceiling: u64) -> BudgetConfig {
    let policy = Policy::Published(AdaptiveRule::default());
    BudgetConfig { policy, bounds: bounds(start, floor, ceiling) }
}

/// A request of exactly these tokens, all uncached; nothing generated is reserved.
pub(crate) fn prompt(tokens: u64) -> Ask {
    Ask { prompt: tokens, uncached_prompt: tokens, max_generated: Some(0), choices: 1, usual_of_model: None }
}

/// A request without prompt that reserves exactly `tokens` of output.
pub(crate) fn output(tokens: u64) -> Ask {
    Ask {
        prompt: 0,
        uncached_prompt: 0,
        max_generated: Some(tokens),
        choices: 1,
        usual_of_model: Some(tokens.saturating_mul(2)),
    }
}

/// What a request of `prompt` and `generated` tokens used, without teaching what is usual.
pub(crate) fn used(prompt: u64, generated: u64) -> Used {
    Used { prompt, uncached_prompt: prompt, generated, finished: false }
}

/// Reserves, charges and settles `tokens` of prompt at once.
pub(crate) fn spend_prompt(budget: &mut Budget, now: Duration, tokens: u64) {
    let reservation = budget.reserve(now, &prompt(tokens)).unwrap();
    budget.settle(now, reservation, &used(tokens, 0));
}

/// Settles a request that used exactly what was charged.
pub(crate) fn settle_as_charged(budget: &mut Budget, now: Duration, reservation: Reservation) {
    let charged = reservation.charged();
    let used = Used {
        prompt: charged.prompt,
        uncached_prompt: charged.uncached_prompt,
        generated: charged.generated,
        finished: false,
    };
    budget.settle(now, reservation, &used);
}

/// Everything that must be zero at rest, is.
pub(crate) fn assert_at_rest(budget: &Budget) {
    assert_eq!(budget.reserved(), PerMeter::default(), "tokens still reserved");
    assert_eq!(budget.live(), 0, "reservations still live");
}
