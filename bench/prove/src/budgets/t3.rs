//! T3: in any sixty seconds the limit holds; the crate's own proof, at full size.

use serde_json::json;

use super::proof::{Finding, Proof, Setting, Trouble};

#[path = "../../../limits/tests/proofs/t3.rs"]
mod minute;

pub(super) const PROOF: Proof = Proof {
    id: "T3",
    what: "any 60 s: charged within the limit, excess bounded and repaid (10M decisions)",
    goal: "0 violations",
    quick_s: 4,
    full_s: 60,
    needs: "",
    run,
};

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let seed = setting.seeds(1).start;
    let outcome = minute::run(seed, setting.size(300_000, 10_000_000));
    let exercised = outcome.refused > 0 && outcome.overrun > 0;
    Ok(Finding {
        figure: format!(
            "{} violations, {} left over, {} decisions",
            outcome.violations, outcome.left_over, outcome.decisions
        ),
        goal: PROOF.goal.to_owned(),
        ok: outcome.violations == 0 && outcome.left_over == 0 && exercised,
        details: json!({
            "seed": seed, "decisions": outcome.decisions, "refused": outcome.refused, "overrun_tokens": outcome.overrun,
            "violations": outcome.violations, "left_over": outcome.left_over,
        }),
    })
}
