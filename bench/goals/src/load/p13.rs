//! P13: when priority alone is more than the fleet can serve, it is refused too, and early.
//!
//! 60 % priority at 2× is 1.2× of priority. What of it is served in time is compared with the best that a fixed limit
//! reaches on the same priority requests without any regular one.

use serde_json::json;
use shedder::Tier;

use crate::{Case, Goal, Line, Shown, Size};
use drill::policy::Policy;
use drill::run::Run;
use drill::settings::Setting;

/// See the module.
pub(crate) const GOAL: Goal = Goal {
    id: "P13",
    what: "60 % priority at 2×: priority in time against the best fixed limit on priority alone",
    goal: "≥0.90",
    quick_s: 3,
    full_s: 20,
    show,
};

fn show(size: Size) -> Shown {
    let cvs: &[f64] = size.of(&[1.0], &[1.0, 3.0]);
    Shown::of(cvs.iter().map(|&cv| line(cv, size.seeds())).collect())
}

fn line(cv: f64, seeds: &[u64]) -> Line {
    let case = Case { priority: 0.6, ..Case::new(Setting::CHAT, 2.0, cv) };
    let pool = case.play(&Policy::Shipped, seeds);
    let best = case.priority_alone().best_held(&Policy::held_at, pool.limit_mean(), 0.0, seeds);
    let met = |run: &Run| run.count(|ended| ended.tier == Tier::Priority).1 as f64;
    let judged_s = case.scenario(1).judged_s();
    let per_s = pool.runs.iter().map(met).sum::<f64>() / pool.runs.len().max(1) as f64 / judged_s;
    let details = json!({ "priority_in_time_per_s": per_s, "best_held": best, "runs": pool.summary() });
    Line::at_least(case.name(), "of the best", per_s / best.goodput, 0.90, details)
}
