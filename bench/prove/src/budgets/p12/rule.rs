//! P12: the adaptive rule over seven days and more of virtual time, against its published examples.

use std::time::Duration;

use limits::{AdaptiveRule, Ask, Bounds, Budget, BudgetConfig, Meter, PerMeter, Policy, Used};

const MINUTE: Duration = Duration::from_secs(60);

/// The published decay of a limit of 10M at a steady 1M per minute: day and limit after it.
pub(crate) const DECAY: [(u64, u64); 6] =
    [(3, 8_000_000), (4, 6_400_000), (5, 5_120_000), (6, 4_096_000), (7, 3_276_800), (8, 2_621_440)];

/// What a run showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Each change of the limit: minutes since the start, and the limit from then on.
    pub(crate) changes: Vec<(u64, u64)>,
    /// The limit at the end.
    pub(crate) last: u64,
}

/// A limit of 10M with a floor far below, used at a steady 1M per minute for `days`.
pub(crate) fn decay(days: u64) -> Outcome {
    run(Bounds { start: 10_000_000, floor: 100_000, ceiling: 20_000_000 }, days * 24 * 60, |_| 1_000_000)
}

/// A limit of 1M that is used as fully as it can be, for `minutes`.
pub(crate) fn ramp(minutes: u64) -> Outcome {
    run(Bounds { start: 1_000_000, floor: 1_000_000, ceiling: 54_000_000 }, minutes, |limit| limit * 9 / 10)
}

/// Minutes until a fully used limit has doubled, if it grew evenly: 15 min × ln 2 / ln 1.25.
pub(crate) fn doubling_minutes() -> f64 {
    let rule = AdaptiveRule::default();
    let step = 1.0 + f64::from(rule.grow_by_percent) / 100.0;
    rule.grow_every.as_secs_f64() / 60.0 * 2.0_f64.ln() / step.ln()
}

/// Spends `use_of(limit)` prompt tokens in each minute, in six parts, and collects what becomes of the limit.
fn run(bounds: Bounds, minutes: u64, use_of: impl Fn(u64) -> u64) -> Outcome {
    let config = BudgetConfig {
        policy: Policy::Published(AdaptiveRule::default()),
        bounds: PerMeter::from_fn(|_| bounds),
    };
    let mut budget = Budget::new(Duration::ZERO, config);
    let mut changes = Vec::new();
    for minute in 0..minutes {
        for part in 0..6 {
            let now = MINUTE * u32::try_from(minute).unwrap_or(u32::MAX) + MINUTE / 6 * part;
            let tokens = use_of(budget.view(now).prompt.limit) / 6 + u64::from(part < 4);
            spend(&mut budget, now, tokens);
        }
        changes.extend(
            budget
                .take_changes()
                .filter(|change| change.meter == Meter::Prompt)
                .map(|change| (change.at.as_secs() / 60, change.to)),
        );
    }
    let last = budget.view(MINUTE * u32::try_from(minutes).unwrap_or(u32::MAX)).prompt.limit;
    Outcome { changes, last }
}

fn spend(budget: &mut Budget, now: Duration, tokens: u64) {
    let ask = Ask { prompt: tokens, max_generated: Some(0), ..Ask::default() };
    if let Ok(reservation) = budget.reserve(now, &ask) {
        budget.settle(now, reservation, &Used { prompt: tokens, ..Used::default() });
    }
}
