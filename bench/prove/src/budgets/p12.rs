//! P12: the adaptive rule against its published examples.

use serde_json::json;

use crate::harness::proof::{Finding, Proof, Setting, Trouble};

mod rule;

pub(crate) const PROOF: Proof = Proof {
    id: "P12",
    what: "the adaptive rule over 12 days against the published examples",
    goal: "exact",
    quick_s: 1,
    full_s: 1,
    needs: "",
    run,
};

const DAY_MINUTES: u64 = 24 * 60;

fn run(_: &Setting) -> Result<Finding, Trouble> {
    let decay = rule::decay(12);
    let expected = rule::DECAY.map(|(day, limit)| (day * DAY_MINUTES, limit));
    let ramp = rule::ramp(6 * 60);
    let doubled = ramp.changes.iter().find(|(_, limit)| *limit >= 2_000_000).map(|(minute, _)| *minute);
    let on_average = rule::doubling_minutes();
    let decays = decay.changes == expected && decay.last == 2_621_440;
    let doubles = on_average.round() as u64 == 47 && doubled == Some(46) && ramp.last == 54_000_000;
    let last = decay.last as f64 / 1e6;
    Ok(Finding {
        figure: format!("{} steps down to {last}M, doubling in {on_average:.1} min", decay.changes.len()),
        goal: PROOF.goal.to_owned(),
        ok: decays && doubles,
        details: json!({ "decay": decay.changes, "expected": expected, "ramp": ramp.changes }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "10M limit, steady 1M per minute: 8.0M on day 3, then 6.4M, 5.12M, 4.096M, 3.2768M, 2.62144M, and stop."
    #[test]
    fn p12_a_limit_that_is_not_used_decays_as_published_and_stops() {
        let outcome = rule::decay(12);

        assert_eq!(outcome.changes, rule::DECAY.map(|(day, limit)| (day * DAY_MINUTES, limit)));
        assert_eq!(outcome.last, 2_621_440, "1M is 38 % of it: no further");
    }

    /// "Doubles in 47 minutes."
    #[test]
    fn p12_a_limit_in_full_use_doubles_in_47_minutes() {
        let outcome = rule::ramp(62);

        let steps = [(1, 1_250_000), (16, 1_562_500), (31, 1_953_125), (46, 2_441_406), (61, 3_051_757)];
        assert_eq!(outcome.changes, steps);
        assert_eq!(rule::doubling_minutes().round(), 47.0);
        let doubled = outcome.changes.iter().find(|(_, limit)| *limit >= 2_000_000);
        assert_eq!(doubled.map(|(minute, _)| *minute), Some(46));
    }

    /// "The ceiling in a few hours": 1M to 54M.
    #[test]
    fn p12_the_ceiling_is_reached_in_a_few_hours() {
        let outcome = rule::ramp(6 * 60);

        let reached = outcome.changes.iter().find(|(_, limit)| *limit == 54_000_000);
        assert_eq!(reached.map(|(minute, _)| *minute), Some(1 + 17 * 15), "18 steps");
        assert_eq!(outcome.last, 54_000_000);
    }
}
