//! Failures of adaptive limits that users of other gateways reported, as tests.

use limits::{Budget, ChangeReason, Meter, Snapshot};

use crate::common::*;

/// Spends `share` percent of the prompt limit in each minute, spread over it, for `minutes` from `from` on.
fn use_percent(budget: &mut Budget, from_minute: u64, minutes: u64, percent: u64) {
    for minute in from_minute..from_minute + minutes {
        for part in 0..10 {
            let now = secs(minute * 60 + part * 6);
            let tokens = budget.view(now).prompt.limit * percent / 1_000;
            spend_prompt(budget, now, tokens);
        }
    }
}

fn prompt_limit(budget: &mut Budget, minute: u64) -> u64 {
    budget.view(secs(minute * 60)).prompt.limit
}

#[test]
fn report_d1_sustained_use_grows_the_limit_by_the_ramp_and_never_over_the_ceiling() {
    let mut budget = adaptive(1_000, 1_000, 3_000);

    use_percent(&mut budget, 0, 60, 90);
    assert_eq!(prompt_limit(&mut budget, 60), 2_440, "1.25 to the fourth in an hour");
    use_percent(&mut budget, 60, 120, 90);
    assert_eq!(prompt_limit(&mut budget, 180), 3_000, "the ceiling");
}

#[test]
fn report_d1_a_sudden_tenfold_is_refused() {
    let mut budget = adaptive(1_000, 1_000, 100_000);
    use_percent(&mut budget, 0, 1, 100);

    let refused = (0..100).filter(|i| budget.reserve(ms(60_000 + i * 600), &prompt(100)).is_err()).count();

    assert!(refused >= 85, "10,000 tokens against a limit of 1,250: {refused} of 100 refused");
}

#[test]
fn report_d1_an_idle_limit_decays_to_the_floor_and_not_to_zero() {
    let mut budget = adaptive(1_000, 500, 100_000);
    use_percent(&mut budget, 0, 1, 90);

    // A token now and then, so that it is never idle for three days.
    for day in 0..30 {
        spend_prompt(&mut budget, secs(86_400 * day + 300), 1);
    }

    assert_eq!(budget.view(secs(86_400 * 30)).prompt.limit, 500);
}

/// Use that the fleet cannot serve must not earn more of it.
#[test]
fn report_d2_nothing_grows_while_the_model_is_short() {
    let mut budget = adaptive(1_000, 1_000, 100_000);
    budget.set_frozen(secs(0), true);
    use_percent(&mut budget, 0, 60, 90);
    assert_eq!(prompt_limit(&mut budget, 60), 1_000);

    budget.set_frozen(secs(3_600), false);
    use_percent(&mut budget, 60, 1, 90);
    assert_eq!(prompt_limit(&mut budget, 61), 1_250, "as soon as it is not short any more");
}

#[test]
fn report_d3_refused_and_shed_demand_is_not_use() {
    let mut budget = adaptive(1_000, 1_000, 100_000);

    for second in 0..600 {
        assert!(budget.reserve(secs(second), &prompt(200_000)).is_err());
        let shed = budget.reserve(secs(second), &prompt(1_000)).unwrap();
        budget.release(secs(second), shed);
    }

    assert_eq!(prompt_limit(&mut budget, 10), 1_000);
    assert_eq!(budget.history().count(), 0);
}

/// A debt is use, as it is paid: an account that needs more than it has must be able to grow into it.
#[test]
fn report_d3_debt_counts_as_use_when_it_is_paid() {
    let mut budget = adaptive(1_000, 1_000, 100_000);
    spend_prompt(&mut budget, secs(30), 5_000);

    assert_eq!(prompt_limit(&mut budget, 1), 1_250);
    assert_eq!(prompt_limit(&mut budget, 20), 1_250, "and not when it has been paid");
}

#[test]
fn report_d4_limits_and_their_history_survive_a_restart() {
    let config = adaptive_config(1_000, 1_000, 100_000);
    let mut before = Budget::new(secs(0), config);
    use_percent(&mut before, 0, 60, 90);
    let bytes = before.snapshot(secs(3_600)).to_bytes();

    let snapshot = Snapshot::from_bytes(&bytes).unwrap();
    let mut after = Budget::restore(secs(5), config, &snapshot, secs(10));

    let (then, now) = (before.view(secs(3_610)), after.view(secs(5)));
    assert_eq!(now, then, "limit, use and everything else, as if nothing had happened");
    let oldest = after.history().next().unwrap();
    assert_eq!((oldest.meter, oldest.from, oldest.to), (Meter::Prompt, 1_000, 1_250));
    assert_eq!(oldest.before_start, secs(3_610 - 60 - 5), "it lies before this process");
    assert_eq!(after.take_changes().count(), 0, "and was logged by the one before");

    use_percent(&mut after, 1, 12, 90);
    assert_eq!(prompt_limit(&mut after, 13), 2_440 * 5 / 4, "one step, 15 minutes after the last one");
}

#[test]
fn report_d4_time_away_counts_as_time_without_traffic() {
    let config = adaptive_config(1_000, 1_000, 100_000);
    let mut before = Budget::new(secs(0), config);
    use_percent(&mut before, 0, 60, 90);

    let mut after = Budget::restore(secs(1), config, &before.snapshot(secs(3_600)), secs(86_400 * 7));

    assert_eq!(after.view(secs(1)).prompt.limit, 1_000);
    let changes: Vec<_> = after.take_changes().map(|change| (change.meter, change.reason)).collect();
    let news = [Meter::Prompt, Meter::UncachedPrompt].map(|meter| (meter, ChangeReason::Idle));
    assert_eq!(changes, news, "and that is news");
}

#[test]
fn report_d5_what_is_shown_is_the_limit_in_force_now() {
    let mut budget = adaptive(1_000, 1_000, 100_000);
    use_percent(&mut budget, 0, 1, 90);

    assert_eq!(budget.view(ms(59_999)).prompt.limit, 1_000);
    assert_eq!(budget.view(ms(60_000)).prompt.limit, 1_250, "without any request having come in between");
    let spare = budget.view(ms(60_250)).prompt.remaining;
    assert!(budget.reserve(ms(60_250), &prompt(spare)).is_ok());
}
