//! P12: the adaptive rule against its published examples; the crate's own proof, all days of it.

use serde_json::json;

use super::proof::{Finding, Proof, Setting, Trouble};

#[path = "../../../limits/tests/proofs/p12.rs"]
mod rule;

pub(super) const PROOF: Proof = Proof {
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
