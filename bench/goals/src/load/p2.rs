//! P2: the limit that is found is as good as the best one that could have been set.

use serde_json::json;

use crate::{Case, Goal, Line, Shown, Size};
use drill::policy::Policy;
use drill::settings::Setting;

/// See the module.
pub(crate) const GOAL: Goal = Goal {
    id: "P2",
    what: "goodput at 1.2×, 1.5×, 2×, 3× against the best fixed limit for that load",
    goal: "≥0.95 each, in requests and in tokens",
    quick_s: 4,
    full_s: 140,
    show,
};

fn show(size: Size) -> Shown {
    let streaming: &[f64] = size.of(&[1.0], &[1.0, 0.5, 0.0]);
    let loads: &[f64] = size.of(&[1.2, 2.0], &[1.2, 1.5, 2.0, 3.0]);
    let cvs: &[f64] = size.of(&[1.0], &[1.0, 3.0]);
    let mut all = Vec::new();
    for &share in streaming {
        for &load in loads {
            for &cv in cvs {
                let case = Case { streaming: share, ..Case::new(Setting::CHAT, load, cv) };
                all.extend(lines(&case, &Policy::Shipped, size.seeds()));
            }
        }
    }
    Shown::of(all)
}

/// Both ratios of a case.
pub(crate) fn lines(case: &Case, policy: &Policy, seeds: &[u64]) -> [Line; 2] {
    let pool = case.play(policy, seeds);
    let best = case.best_held(&Policy::held_at, pool.limit_mean(), 0.0, seeds);
    let details = json!({
        "goodput_per_s": pool.goodput(), "goodput_tokens_per_s": pool.goodput_tokens(),
        "limit_mean": pool.limit_mean(), "best_held": best,
    });
    let requests = pool.goodput() / best.goodput;
    let tokens = pool.goodput_tokens() / best.goodput_tokens;
    [
        Line::at_least(case.name(), "requests", requests, 0.95, details.clone()),
        Line::at_least(case.name(), "tokens", tokens, 0.95, details),
    ]
}
