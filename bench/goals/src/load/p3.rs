//! P3: hardly anything is computed in vain.

use crate::{Case, Goal, Line, Shown, Size};
use drill::policy::Policy;
use drill::settings::Setting;

/// See the module.
pub(crate) const GOAL: Goal = Goal {
    id: "P3",
    what: "share of what is computed for requests that miss, 1.2× to 10×",
    goal: "≤0.01",
    quick_s: 1,
    full_s: 40,
    show,
};

fn show(size: Size) -> Shown {
    let streaming: &[f64] = size.of(&[1.0], &[1.0, 0.5, 0.0]);
    let loads: &[f64] = size.of(&[2.0], &[1.2, 1.5, 2.0, 3.0, 10.0]);
    let mut all = Vec::new();
    for &share in streaming {
        for &load in loads {
            for cv in [1.0, 3.0] {
                let case = Case { streaming: share, ..Case::new(Setting::CHAT, load, cv) };
                all.push(line(&case, &Policy::Shipped, size.seeds()));
            }
        }
    }
    Shown::of(all)
}

/// The waste of a case.
pub(crate) fn line(case: &Case, policy: &Policy, seeds: &[u64]) -> Line {
    let pool = case.play(policy, seeds);
    Line::at_most(case.name(), "in vain", pool.waste(), 0.01, pool.summary())
}
