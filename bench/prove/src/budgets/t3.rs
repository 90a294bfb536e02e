//! T3: in any sixty seconds the limit holds.

use serde_json::json;

use crate::harness::proof::{Finding, Proof, Setting, Trouble};

mod minute;

pub(crate) const PROOF: Proof = Proof {
    id: "T3",
    what: "any 60 s: charged within the limit, excess bounded and repaid (10M decisions)",
    goal: "0 violations",
    quick_s: 2,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The size for every day.
    const DECISIONS: u64 = 200_000;

    #[test]
    fn t3_no_sixty_seconds_hold_more_than_the_limit_and_what_could_not_be_known() {
        let outcome = minute::run(1, DECISIONS);

        assert_eq!((outcome.violations, outcome.left_over), (0, 0), "{outcome:?}");
        assert!(outcome.refused > outcome.decisions / 10, "the limits were felt: {outcome:?}");
        assert!(outcome.overrun > 0, "and overrun: {outcome:?}");
    }
}
