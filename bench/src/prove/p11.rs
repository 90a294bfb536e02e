//! P11: what a generated-tokens limit does to streaming traffic; the crate's own proof, at full size.

use serde_json::json;

use super::known;
use super::proof::{Finding, Proof, Setting, Trouble};

#[path = "../../../limits/tests/proofs/p11.rs"]
mod streaming;

pub(super) const PROOF: Proof = Proof {
    id: "P11",
    what: "the limit under streaming traffic: use at 2×, worst 60 s, false 429 at 0.8×",
    goal: "≥0.99; ≤1.05; 0",
    quick_s: 4,
    full_s: 20,
    needs: "",
    run,
};

const USE_MIN: f64 = 0.99;
const WORST_MAX: f64 = 1.05;

/// Minutes of traffic, warm-up included.
fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let minutes = setting.size(35, 245);
    let seeds: u64 = setting.size(2, 3);
    let at = |demand| (1..=seeds).map(|seed| streaming::run(seed, demand, minutes)).collect::<Vec<_>>();
    let (over, under) = (at(2.0), at(0.8));
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let used = mean(over.iter().map(|outcome| outcome.use_of_limit).collect());
    let worst = over.iter().map(|outcome| outcome.worst_minute).fold(0.0, f64::max);
    let falsely: u64 = under.iter().map(|outcome| outcome.refused_falsely).sum();
    let offered: u64 = under.iter().map(|outcome| outcome.offered).sum();
    let sound = over.iter().chain(&under).all(|outcome| outcome.at_rest && outcome.worst_charged <= 1.0);
    let met = used >= USE_MIN && worst <= WORST_MAX && falsely == 0;
    // It falls short, as is known. Half an hour is long enough to see that nothing got worse.
    let as_known = sound && used >= 0.85 && worst <= 1.2 && falsely * 50 <= offered;
    let outcomes =
        |list: &[streaming::Outcome]| list.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>();
    Ok(Finding {
        figure: format!(
            "{used:.3}; {worst:.3}; {falsely} of {offered} ({:.2} %)",
            falsely as f64 * 100.0 / offered.max(1) as f64
        ),
        goal: PROOF.goal.to_owned(),
        ok: met && sound,
        details: json!({ "limit": streaming::LIMIT, "minutes": minutes, "at_2x": outcomes(&over), "at_0.8x": outcomes(&under), known::WORSE: !as_known }),
    })
}
