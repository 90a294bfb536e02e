//! Accounting failures that users of other gateways reported, as tests.

use std::time::Duration;

use limits::{Ask, Bounds, Budget, BudgetConfig, Meter, PerMeter, Policy, USUAL_UNKNOWN, Used};

use crate::common::*;

/// Many requests check a budget at once and all see room.
#[test]
fn report_a1_a_burst_is_admitted_up_to_the_limit_and_no_further() {
    let mut budget = fixed([100 * 50; 3], 100 * 50);

    let admitted: Vec<_> = (0..200).filter_map(|_| budget.reserve(secs(1), &prompt(50)).ok()).collect();

    assert_eq!(admitted.len(), 100);
    admitted.into_iter().for_each(|reservation| budget.release(secs(2), reservation));
    assert_at_rest(&budget);
}

/// An answer longer than what was left was free, because a bucket cannot go below zero.
#[test]
fn report_a2_an_overrun_is_owed_and_paid_before_anyone_is_admitted() {
    let mut budget = fixed([10_000; 3], 10_000);
    let first = budget.reserve(secs(0), &output(9_000)).unwrap();
    budget.settle(secs(0), first, &used(0, 9_000));

    let mut long = budget.reserve(secs(1), &output(1_000)).unwrap();
    for second in 1..=50 {
        budget.charge_generated(secs(second), &mut long, 1_000);
    }
    budget.settle(secs(50), long, &used(0, 50_000));

    let view = budget.view(secs(50)).generated;
    assert_eq!((view.used, view.debt, view.remaining), (10_000, 49_000, 0));
    let refusal = budget.reserve(secs(50), &output(16)).unwrap_err();
    let wait = refusal.retry_after.unwrap();
    assert!(wait > secs(4 * 60), "59,000 tokens at 10,000 a minute take over five minutes: {wait:?}");
    let last_debt = secs(50) + wait - ms(2_750);
    assert!(budget.reserve(last_debt, &output(16)).is_err(), "not before the last seconds of the debt");
    assert!(budget.reserve(secs(50) + wait, &output(16)).is_ok());
}

/// A default reserve larger than the limit refused the first request of an idle account.
#[test]
fn report_a3_the_first_request_of_an_idle_account_is_never_refused_for_an_estimate() {
    let mut budget = fixed([1_000, 1_000, 100], 1_000);
    let ask = Ask { choices: 128, usual_of_model: Some(1_000_000), ..Ask::default() };

    let reservation = budget.reserve(secs(0), &ask).unwrap();

    assert_eq!(reservation.reserved().generated, 100, "an estimate is cut to the limit");
    budget.release(secs(0), reservation);
}

/// A request that can never fit was told to come back in a minute, for ever.
#[test]
fn report_a3_what_can_never_fit_is_told_so() {
    let mut budget = fixed([1_000; 3], 5_000);

    let never = budget.reserve(secs(0), &prompt(5_001)).unwrap_err();
    assert_eq!((never.meter, never.retry_after), (Meter::Prompt, None));

    let large = budget.reserve(secs(0), &prompt(5_000)).unwrap();
    budget.settle(secs(1), large, &used(5_000, 0));
    let view = budget.view(secs(1)).prompt;
    assert_eq!((view.used, view.debt), (1_000, 4_000), "larger than a minute, it is carried as debt");
}

/// A request larger than the limit waits for an empty minute, and not longer than that.
#[test]
fn report_a3_what_is_larger_than_a_minute_waits_for_an_empty_one() {
    let mut budget = fixed([1_000; 3], 5_000);
    spend_prompt(&mut budget, secs(10), 1);

    let wait = budget.reserve(secs(20), &prompt(5_000)).unwrap_err().retry_after.unwrap();

    assert_eq!(secs(20) + wait, ms(70_250));
    assert!(budget.reserve(secs(20) + wait, &prompt(5_000)).is_ok());
}

/// Two opposite faults: an answer cut off without usage was free, or was charged its whole reserve.
#[test]
fn report_a4_without_usage_what_was_counted_is_charged_and_no_more() {
    let mut budget = fixed([1_000; 3], 1_000);
    let mut cut = budget.reserve(secs(0), &output(500)).unwrap();
    budget.charge_generated(secs(1), &mut cut, 120);
    settle_as_charged(&mut budget, secs(2), cut);
    assert_eq!(budget.view(secs(2)).generated.remaining, 880, "what was counted stays charged");

    let silent = budget.reserve(secs(3), &output(500)).unwrap();
    settle_as_charged(&mut budget, secs(4), silent);
    assert_eq!(budget.view(secs(4)).generated.remaining, 880, "nothing was generated, nothing is charged");
    assert_at_rest(&budget);
}

/// More cached or uncached tokens than the prompt has, and absurd numbers.
#[test]
fn report_a6_absurd_usage_is_clamped() {
    let mut budget = fixed([1_000; 3], 1_000);
    let ask = Ask { prompt: 100, uncached_prompt: u64::MAX, max_generated: Some(0), ..Ask::default() };

    let reservation = budget.reserve(secs(0), &ask).unwrap();
    assert_eq!(reservation.reserved().uncached_prompt, 100, "uncached is part of the prompt");
    let absurd = Used { prompt: 100, uncached_prompt: u64::MAX, generated: u64::MAX, finished: true };
    budget.settle(secs(1), reservation, &absurd);

    let view = budget.view(secs(1));
    assert_eq!((view.uncached_prompt.used, view.uncached_prompt.debt), (100, 0));
    assert_eq!(view.generated.used, 1_000);
    assert!(budget.reserve(secs(1), &output(16)).is_err(), "what was reported is owed");
    budget.advance(secs(100_000));
    assert_at_rest(&budget);
}

/// A small `max_tokens` beside a large `max_completion_tokens` cut the reserve; `n` was not counted at all.
#[test]
fn report_a8_the_reserve_follows_the_obeyed_maximum_and_the_number_of_choices() {
    let mut budget = fixed([100_000; 3], 100_000);
    let reserved = |budget: &mut Budget, ask: &Ask| {
        let reservation = budget.reserve(secs(0), ask).unwrap();
        let reserved = reservation.reserved().generated;
        budget.release(secs(0), reservation);
        reserved
    };
    let large = Ask { max_generated: Some(4_096), ..Ask::default() };

    let one = reserved(&mut budget, &large);
    let five = reserved(&mut budget, &Ask { choices: 5, ..large });
    let small = reserved(&mut budget, &Ask { max_generated: Some(8), ..large });

    assert_eq!(five, 5 * one);
    assert_eq!(small, 8, "a maximum that is obeyed bounds the reserve");
    assert!(one >= USUAL_UNKNOWN / 8);
}

/// The third budget refused, and the first two had been spent.
#[test]
fn report_a9_a_refused_request_takes_nothing_from_any_meter() {
    let mut budget = fixed([1_000, 1_000, 100], 1_000);
    let held = budget.reserve(secs(0), &output(90)).unwrap();
    let before = budget.view(secs(1));

    let ask = Ask { max_generated: Some(50), usual_of_model: Some(100), ..prompt(500) };
    let refusal = budget.reserve(secs(1), &ask).unwrap_err();

    assert_eq!(refusal.meter, Meter::Generated);
    assert_eq!(budget.view(secs(1)), before);
    assert_eq!(budget.live(), 1);
    budget.release(secs(1), held);
    assert_at_rest(&budget);
}

/// A request that was queued, shed and given back leaves the budget as it was.
#[test]
fn report_a9_a_shed_request_gives_everything_back() {
    let mut budget = fixed([1_000; 3], 1_000);
    let before = budget.view(secs(1));

    let reservation = budget.reserve(secs(1), &Ask { choices: 1, ..prompt(900) }).unwrap();
    budget.release(secs(1), reservation);

    assert_eq!(budget.view(secs(1)), before);
}

/// Time passes before anything is charged, whatever the call.
#[test]
fn report_a11_old_use_leaves_before_new_use_is_charged() {
    let mut budget = fixed([1_000; 3], 1_000);
    spend_prompt(&mut budget, secs(0), 600);
    let mut slow = budget.reserve(secs(1), &prompt(400)).unwrap();

    budget.charge_prompt(secs(61), &mut slow);
    budget.settle(secs(61), slow, &used(900, 0));

    let view = budget.view(secs(61)).prompt;
    assert_eq!((view.used, view.debt), (900, 0), "the old 600 had left: there was room for 900");
}

/// A reload in between must not send the settlement to another bucket.
#[test]
fn report_a11_a_settlement_after_a_reload_goes_to_the_same_budget() {
    let mut budget = fixed([1_000; 3], 1_000);
    let mut running = budget.reserve(secs(0), &prompt(400)).unwrap();
    budget.charge_prompt(secs(1), &mut running);

    budget.reconfigure(secs(2), BudgetConfig { policy: Policy::Fixed, bounds: bounds(2_000, 2_000, 2_000) });
    budget.settle(secs(3), running, &used(300, 0));

    let view = budget.view(secs(3)).prompt;
    assert_eq!((view.limit, view.used, view.reserved), (2_000, 300, 0));
    assert_at_rest(&budget);
}

/// A fixed window lets two limits through around its boundary.
#[test]
fn report_a13_no_boundary_lets_two_limits_through() {
    let mut budget = fixed([1_000; 3], 1_000);
    let mut admitted = Vec::new();

    for at in (0..180_000).step_by(50).map(ms) {
        while let Ok(reservation) = budget.reserve(at, &prompt(100)) {
            budget.settle(at, reservation, &used(100, 0));
            admitted.push(at);
        }
    }

    let busiest = admitted
        .iter()
        .map(|&from| 100 * admitted.iter().filter(|&&at| at >= from && at < from + secs(60)).count());
    assert_eq!(busiest.max(), Some(1_000));
    assert_eq!(admitted.len(), 30, "three minutes' worth in three minutes");
}

#[test]
fn report_a14_a_clock_that_jumps_back_refills_nothing_and_locks_nobody_out() {
    let mut budget = fixed([1_000; 3], 1_000);
    spend_prompt(&mut budget, secs(7_200), 1_000);

    let refused = budget.reserve(secs(10), &prompt(1)).unwrap_err();
    assert_eq!(refused.retry_after, Some(ms(60_250)), "no time has passed");

    for second in 10..70 {
        assert!(budget.reserve(secs(second), &prompt(1)).is_err());
    }
    assert!(budget.reserve(secs(71), &prompt(1)).is_ok(), "a minute later it is free again");
}

#[test]
fn report_a14_a_clock_that_jumps_forward_is_time_that_passed() {
    let mut budget = fixed([1_000; 3], 1_000);
    let mut running = budget.reserve(secs(0), &prompt(1_000)).unwrap();
    budget.charge_prompt(secs(0), &mut running);

    budget.advance(secs(86_400 * 365));

    assert_eq!(budget.view(secs(86_400 * 365)).prompt.remaining, 1_000);
    budget.settle(secs(86_400 * 365), running, &used(1_000, 0));
    assert_at_rest(&budget);
}

/// Counters that are shown must be those that decide.
#[test]
fn report_a15_what_is_shown_as_left_can_be_asked_for_and_no_more() {
    let mut budget = fixed([1_000, 700, 400], 1_000);
    spend_prompt(&mut budget, secs(1), 123);
    let _held = budget.reserve(secs(2), &output(77)).unwrap();
    let left = budget.view(secs(3)).map(|view| view.remaining);
    assert_eq!(left, PerMeter { prompt: 877, uncached_prompt: 577, generated: 323 });

    let all = Ask { prompt: 877, uncached_prompt: 577, ..output(323) };
    let reservation = budget.reserve(secs(3), &all).unwrap();
    assert_eq!(budget.view(secs(3)).map(|view| view.remaining), PerMeter::default());
    budget.release(secs(3), reservation);

    assert!(budget.reserve(secs(3), &Ask { prompt: 878, ..all }).is_err());
    assert!(budget.reserve(secs(3), &Ask { uncached_prompt: 578, ..all }).is_err());
}

/// A small overrun shut an account out for minutes.
#[test]
fn report_a15_nobody_is_locked_out_for_longer_than_the_debt_needs() {
    let mut budget = fixed([6_000; 3], 6_000);
    let mut stream = budget.reserve(secs(0), &output(16)).unwrap();
    for second in 0..61 {
        budget.charge_generated(secs(second), &mut stream, 105);
    }
    settle_as_charged(&mut budget, secs(60), stream);

    let wait = budget.reserve(secs(60), &output(16)).unwrap_err().retry_after.unwrap();

    assert!(wait <= ms(4_500), "405 tokens over the limit, 105 tokens leave per second: {wait:?}");
    assert!(budget.reserve(secs(60) + wait, &output(16)).is_ok());
}

/// Another model's budget, or another account's, is another value: none can be refused for it.
#[test]
fn report_a15_an_empty_budget_does_not_refuse_its_siblings() {
    let config =
        BudgetConfig { policy: Policy::Fixed, bounds: PerMeter::from_fn(|_| Bounds::fixed(100).unwrap()) };
    let (mut spent, mut sibling) = (Budget::new(Duration::ZERO, config), Budget::new(Duration::ZERO, config));
    spend_prompt(&mut spent, secs(0), 100);

    assert!(spent.reserve(secs(1), &prompt(1)).is_err());
    assert!(sibling.reserve(secs(1), &prompt(1)).is_ok());
}
