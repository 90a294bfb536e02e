//! What a limit does to streaming traffic: P11 in its small size.

use crate::p11::{Outcome, STREAMED, Traffic, run};

/// Two seeds of half an hour each.
fn outcomes(traffic: Traffic, demand: f64) -> [Outcome; 2] {
    let outcomes = [1, 2].map(|seed| run(traffic, seed, demand, 35));
    assert!(outcomes.iter().all(|outcome| outcome.at_rest && outcome.worst_charged <= 1.0), "{outcomes:?}");
    outcomes
}

#[test]
fn p11_twice_the_demand_uses_the_limit_and_no_minute_is_far_over_it() {
    for outcome in outcomes(STREAMED, 2.0) {
        assert!(outcome.use_of_limit >= 0.99 && outcome.worst_minute <= 1.05, "{outcome:?}");
    }
}

#[test]
fn p11_nobody_is_refused_falsely_below_the_limit() {
    for outcome in outcomes(STREAMED, 0.8) {
        assert_eq!(outcome.refused_falsely, 0, "{outcome:?}");
    }
}

/// Nothing is known of an answer in one piece until it is there.
#[test]
fn p11_answers_in_one_piece_use_most_of_the_limit_too() {
    let whole = Traffic { whole: true, ..STREAMED };
    for outcome in outcomes(whole, 2.0) {
        assert!(outcome.use_of_limit >= 0.93 && outcome.worst_minute <= 1.08, "{outcome:?}");
    }
}
