//! The adaptive rule, against what was published about it.

use limits::{AdaptiveRule, Budget, BudgetConfig, ChangeReason, Meter, Policy, RuleFault};

use crate::common::*;

#[test]
fn half_of_the_limit_is_not_more_than_half() {
    for (tokens, grows) in [(500, false), (501, true)] {
        let mut budget = adaptive(1_000, 1_000, 10_000);
        spend_prompt(&mut budget, secs(10), tokens);
        assert_eq!(budget.view(secs(60)).prompt.limit > 1_000, grows, "{tokens} of 1000");
    }
}

/// A reload that lowered a limit must not be undone a minute later.
#[test]
fn any_change_restarts_both_waits() {
    let mut budget = adaptive(1_000, 1_000, 10_000);
    budget.reconfigure(secs(90), adaptive_config(2_000, 2_000, 10_000));
    for second in (90..1_200).step_by(5) {
        spend_prompt(&mut budget, secs(second), 120);
    }

    let grown: Vec<_> = budget
        .history()
        .filter(|change| change.meter == Meter::Prompt)
        .map(|change| (change.at.as_secs(), change.to, change.reason))
        .collect();
    assert_eq!(grown, [(90, 2_000, ChangeReason::Reconfigured), (17 * 60, 2_500, ChangeReason::Grown)]);
}

#[test]
fn each_meter_moves_by_its_own_use() {
    let mut budget = adaptive(1_000, 1_000, 10_000);
    let reservation = budget.reserve(secs(1), &output(900)).unwrap();
    budget.settle(secs(2), reservation, &used(0, 900));

    let limits = budget.view(secs(60)).map(|view| view.limit);

    assert_eq!((limits.prompt, limits.uncached_prompt, limits.generated), (1_000, 1_000, 1_250));
}

#[test]
fn an_account_that_was_away_for_three_days_starts_again() {
    let mut budget = adaptive(1_000, 1_000, 10_000);
    for second in 0..31 * 60 {
        spend_prompt(&mut budget, secs(second), 12);
    }
    assert_eq!(budget.view(secs(31 * 60)).prompt.limit, 1_562);
    let last_use = 31 * 60 - 1;

    let before = budget.view(secs(last_use + 72 * 3_600)).prompt.limit;
    let after = budget.view(secs(last_use + 72 * 3_600 + 60)).prompt.limit;

    assert_eq!((before, after), (1_250, 1_000), "a shrink after three days, then the start");
    assert_eq!(budget.history().last().map(|change| change.reason), Some(ChangeReason::Idle));
}

/// An answer can take longer than anything the rule waits for.
#[test]
fn an_account_with_a_running_request_is_not_away() {
    let mut budget = adaptive(1_000, 1_000, 10_000);
    for second in 0..31 * 60 {
        spend_prompt(&mut budget, secs(second), 12);
    }
    let running = budget.reserve(secs(31 * 60), &prompt(1)).unwrap();

    let limit = budget.view(secs(80 * 3_600)).prompt.limit;

    assert_eq!(limit, 1_250, "shrunk once after three days, but not back at the start");
    budget.release(secs(80 * 3_600), running);
    assert_eq!(budget.view(secs(80 * 3_600 + 60)).prompt.limit, 1_000, "now it is away");
}

/// With constants of one's own the busiest quarter can be low and the last minute high: lowered now, grown again at once.
#[test]
fn a_limit_does_not_shrink_under_a_minute_that_would_make_it_grow() {
    let rule = AdaptiveRule { observed: secs(900), shrink_every: secs(60), ..AdaptiveRule::default() };
    let config = BudgetConfig { policy: Policy::Published(rule), bounds: bounds(1_000, 100, 1_000) };

    for (last_minute, limit) in [(390, 800), (410, 1_000)] {
        let mut budget = Budget::new(secs(0), config);
        spend_prompt(&mut budget, secs(14 * 60 + 30), last_minute);
        assert_eq!(budget.view(secs(15 * 60)).prompt.limit, limit, "{last_minute} against half of 800");
    }
}

#[test]
fn fixed_limits_do_not_move() {
    let mut budget = fixed([1_000; 3], 10_000);
    for second in (0..3_600).step_by(10) {
        spend_prompt(&mut budget, secs(second), 140);
    }
    assert_eq!(budget.view(secs(86_400 * 10)).prompt.limit, 1_000);
    assert_eq!(budget.history().count(), 0);
}

#[test]
fn a_reload_keeps_use_and_brings_limits_between_their_new_bounds() {
    let mut budget = adaptive(1_000, 1_000, 10_000);
    spend_prompt(&mut budget, secs(1), 800);

    budget.reconfigure(secs(2), adaptive_config(500, 500, 600));
    let view = budget.view(secs(2)).prompt;
    assert_eq!((view.limit, view.used, view.remaining), (600, 800, 0));

    budget.reconfigure(secs(3), adaptive_config(5_000, 5_000, 10_000));
    let view = budget.view(secs(3)).prompt;
    assert_eq!((view.limit, view.used, view.remaining), (5_000, 800, 4_200));

    let policy = Policy::Fixed;
    budget.reconfigure(secs(4), BudgetConfig { policy, bounds: bounds(700, 700, 700) });
    assert_eq!(budget.view(secs(4)).prompt.limit, 700);
}

/// What the console says will happen, happens then.
#[test]
fn the_outlook_comes_true() {
    let mut budget = adaptive(1_000, 100, 10_000);
    let next = budget.next_change(secs(0), Meter::Prompt);
    let growth = next.growth.unwrap();
    assert_eq!((growth.to, growth.above, growth.at, growth.frozen), (1_250, 500, secs(60), false));
    assert_eq!(next.reset, None, "it is at its start");

    spend_prompt(&mut budget, secs(1), 501);
    budget.advance(secs(60));
    let next = budget.next_change(secs(60), Meter::Prompt);
    assert_eq!(next.growth.map(|growth| (growth.to, growth.at)), Some((1_562, secs(16 * 60))));
    let (shrink, reset) = (next.shrink.unwrap(), next.reset.unwrap());
    assert_eq!((shrink.to, shrink.at), (1_000, secs(3 * 86_400)));
    assert_eq!((reset.to, reset.at), (1_000, secs(3 * 86_400 + 60)));

    // A token per hour is no idleness, and not enough to keep the limit.
    for hour in 1..72 {
        spend_prompt(&mut budget, secs(3_600 * hour), 1);
    }
    assert_eq!(budget.view(shrink.at - ms(1)).prompt.limit, 1_250);
    assert_eq!(budget.view(shrink.at).prompt.limit, 1_000);
}

#[test]
fn a_busy_quarter_of_an_hour_postpones_the_shrink_in_the_outlook_too() {
    let mut budget = adaptive(1_000, 100, 1_000);
    for second in (86_400..86_400 + 900).step_by(10) {
        spend_prompt(&mut budget, secs(second), 80);
    }
    budget.advance(secs(2 * 86_400));

    let shrink = budget.next_change(secs(2 * 86_400), Meter::Prompt).shrink.unwrap();

    assert_eq!(shrink.at, secs(86_400 + 900 + 3 * 86_400));
    spend_prompt(&mut budget, secs(3 * 86_400), 1);
    assert_eq!(budget.view(shrink.at - ms(1)).prompt.limit, 1_000);
    assert_eq!(budget.view(shrink.at).prompt.limit, 800);
}

#[test]
fn constants_that_make_no_sense_are_all_named() {
    let rule = AdaptiveRule {
        shrink_by_percent: 100,
        shrink_below_percent: 60,
        grow_by_percent: 2_500,
        observed: secs(60),
        ..AdaptiveRule::default()
    };

    let faults = rule.faults();

    assert_eq!(
        faults,
        [
            RuleFault::ShrinksToNothing { percent: 100 },
            RuleFault::Swings { below: 60, above: 50 },
            RuleFault::GrowsTooFast { percent: 2_500 },
            RuleFault::ObservedOutOfRange { observed: secs(60) },
        ]
    );
    assert_eq!(AdaptiveRule::default().faults(), []);
}

/// Whether a budget is asked every second or once in a week, the same comes of it.
#[test]
fn looking_changes_nothing() {
    let config = adaptive_config(1_000, 100, 10_000);
    let (mut watched, mut alone) = (Budget::new(secs(0), config), Budget::new(secs(0), config));
    for budget in [&mut watched, &mut alone] {
        spend_prompt(budget, secs(1), 5_000);
    }

    for second in (1..7 * 86_400).step_by(37) {
        watched.advance(secs(second));
    }

    let end = secs(7 * 86_400);
    assert_eq!(watched.view(end), alone.view(end));
    assert!(watched.history().eq(alone.history()));
}
