//! P8: the same constants everywhere. P1, P2, P3 and P7 on every other setting, and from other starts.

use shedder::Config;

use crate::load::{p1, p2, p3, p7};
use crate::{Case, Goal, Line, Shown, Size, in_parallel};
use drill::policy::Policy;
use drill::settings::Setting;

/// See the module.
pub(crate) const GOAL: Goal = Goal {
    id: "P8",
    what: "P1, P2, P3 and P7 on every other profile and start",
    goal: "all hold",
    quick_s: 8,
    full_s: 200,
    show,
};

fn show(size: Size) -> Shown {
    // Of the small size: engines that differ in kind, and drills that take seconds.
    let few = ["70b", "four-per-chunk", "one-replica", "four-slots", "unknown-rate"];
    let others = Setting::OTHERS.into_iter().filter(|setting| size.of(few.contains(&setting.name), true));
    let others = others.map(|setting| (setting, Policy::Shipped));
    let starts = [16.0, 256.0].map(|limit_start| {
        let config = Config { limit_start, ..Config::default() };
        (Setting { name: if limit_start < 64.0 { "start 16" } else { "start 256" }, ..Setting::CHAT }, config)
    });
    let starts = starts.into_iter().map(|(setting, config)| (setting, Policy::Tuned(Box::new(config))));
    let cases: Vec<(Setting, Policy)> = others.chain(starts).collect();
    Shown::of(in_parallel(&cases, |(setting, policy)| lines(*setting, policy, size)).concat())
}

/// All lines of one setting.
pub(crate) fn lines(setting: Setting, policy: &Policy, size: Size) -> Vec<Line> {
    let seeds = size.seeds();
    let mut lines = p1::lines(setting, 1.0, policy, seeds);
    let loads: &[f64] = size.of(&[2.0], &[1.2, 1.5, 2.0, 3.0]);
    for &load in loads {
        let case = Case::new(setting, load, 1.0);
        lines.push(p3::line(&case, policy, seeds));
        lines.extend(p2::lines(&case, policy, seeds));
    }
    lines.extend(p7::lines(setting, 1.0, policy, seeds));
    lines
}
