//! P7: where nothing is wrong nobody is refused.
//!
//! A line that is short says how many miss the service level when nobody is refused: in bursts that a fleet cannot serve
//! in time, refusing some is what keeps the others.

use crate::{Case, Goal, Line, Shown, Size};
use drill::policy::Policy;
use drill::settings::Setting;

/// See the module.
pub(crate) const GOAL: Goal =
    Goal {
        id: "P7", what: "refused at 0.8×, CV 1 and CV 3", goal: "0; ≤0.005", quick_s: 1, full_s: 3, show
    };

fn show(size: Size) -> Shown {
    let streaming: &[f64] = size.of(&[1.0], &[1.0, 0.5, 0.0]);
    let lines =
        streaming.iter().flat_map(|&share| lines(Setting::CHAT, share, &Policy::Shipped, size.seeds()));
    Shown::of(lines.collect())
}

/// Both cases of P7 on a setting.
pub(crate) fn lines(setting: Setting, streaming: f64, policy: &Policy, seeds: &[u64]) -> [Line; 2] {
    [(1.0, "CV 1", 0.0), (3.0, "CV 3", 0.005)].map(|(cv, of, goal)| {
        let case = Case { streaming, ..Case::new(setting, 0.8, cv) };
        let pool = case.play(policy, seeds);
        let (shed, all) = pool.shed();
        Line::at_most(case.name(), of, shed as f64 / all.max(1) as f64, goal, pool.summary())
            .beside("missed when nobody is refused", || {
                1.0 - case.play(&Policy::NoControl, seeds).attained_of(|_| true)
            })
    })
}
