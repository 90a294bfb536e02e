//! P1: priority is served whatever regular traffic does.
//!
//! At 3× and CV 3 the priority requests of a burst alone can exceed the fleet, so there the measure is the same
//! priority requests without any regular one beside them. A line that is short says what they attain so, too.

use shedder::Tier;

use crate::{Case, Goal, Line, Shown, Size};
use drill::policy::Policy;
use drill::settings::Setting;

/// See the module.
pub(crate) const GOAL: Goal = Goal {
    id: "P1",
    what: "priority attainment at 2×, at 3× (CV 1, CV 3), at 10× with 8 % priority",
    goal: "≥0.999; ≥0.995; ≥0.97 and within 0.01 of priority alone; ≥0.99",
    quick_s: 1,
    full_s: 25,
    show,
};

fn show(size: Size) -> Shown {
    let streaming: &[f64] = size.of(&[1.0], &[1.0, 0.5, 0.0]);
    let lines =
        streaming.iter().flat_map(|&share| lines(Setting::CHAT, share, &Policy::Shipped, size.seeds()));
    Shown::of(lines.collect())
}

/// All cases of P1 on a setting.
pub(crate) fn lines(setting: Setting, streaming: f64, policy: &Policy, seeds: &[u64]) -> Vec<Line> {
    let case = |load, cv| Case { streaming, ..Case::new(setting, load, cv) };
    let judged = [
        (case(2.0, 1.0), "at 2×", 0.999),
        (case(2.0, 3.0), "at 2×", 0.999),
        (case(3.0, 1.0), "at 3×, CV 1", 0.995),
        (Case { priority: 0.08, ..case(10.0, 1.0) }, "at 10×, 8 % priority", 0.99),
    ];
    let mut lines: Vec<Line> = judged
        .into_iter()
        .map(|(case, of, goal)| {
            let pool = case.play(policy, seeds);
            Line::at_least(case.name(), of, pool.attained(Tier::Priority), goal, pool.summary())
                .beside("priority alone", || {
                    case.priority_alone().play(policy, seeds).attained(Tier::Priority)
                })
        })
        .collect();
    let bursts = case(3.0, 3.0);
    let pool = bursts.play(policy, seeds);
    let alone = bursts.priority_alone().play(policy, seeds);
    let attained = pool.attained(Tier::Priority);
    let most = alone.attained(Tier::Priority);
    let line = Line::at_least(bursts.name(), "at 3×, CV 3", attained, 0.97, pool.summary());
    lines.push(line.beside("priority alone", || most));
    let behind = most - attained;
    lines.push(Line::at_most(bursts.name(), "behind priority alone", behind, 0.01, alone.summary()));
    lines
}
