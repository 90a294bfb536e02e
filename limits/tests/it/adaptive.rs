//! The adaptive rule, against what was published about it.

use limits::Meter;

use crate::common::*;

#[test]
fn a_limit_in_use_grows_by_a_quarter_every_quarter_of_an_hour() {
    let mut budget = adaptive(1_000, 1_000, 10_000);

    for second in 0..32 * 60 {
        let limit = budget.view(secs(second)).prompt.limit;
        spend_prompt(&mut budget, secs(second), limit / 100);
    }

    let changes: Vec<_> = budget
        .history()
        .filter(|change| change.meter == Meter::Prompt)
        .map(|change| (change.at.as_secs() / 60, change.from, change.to))
        .collect();
    assert_eq!(changes, [(1, 1_000, 1_250), (16, 1_250, 1_562), (31, 1_562, 1_952)]);
}
