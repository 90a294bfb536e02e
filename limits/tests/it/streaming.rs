//! What a limit does to streaming traffic. The goals of P11 are not reached yet (see `proofs/p11.rs`): these tests hold what is.

use crate::p11;

/// Two seeds of half an hour each; the mean of what came of them.
fn mean(demand: f64, of: impl Fn(&p11::Outcome) -> f64) -> f64 {
    let outcomes = [1, 2].map(|seed| p11::run(seed, demand, 35));
    assert!(outcomes.iter().all(|outcome| outcome.at_rest && outcome.worst_charged <= 1.0), "{outcomes:?}");
    outcomes.iter().map(of).sum::<f64>() / 2.0
}

#[test]
fn p11_twice_the_demand_uses_most_of_the_limit() {
    let share = mean(2.0, |outcome| outcome.use_of_limit);
    assert!(share > 0.88, "{share}");
}

#[test]
fn p11_no_minute_is_far_over_the_limit() {
    let worst = mean(2.0, |outcome| outcome.worst_minute);
    assert!(worst < 1.13, "{worst}");
}

#[test]
fn p11_few_are_refused_below_the_limit() {
    let falsely = mean(0.8, |outcome| outcome.refused_falsely as f64 / outcome.offered as f64);
    assert!(falsely < 0.02, "{falsely}");
}
