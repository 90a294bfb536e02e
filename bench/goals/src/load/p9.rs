//! P9: no priority request is refused for load while, between its arrival and its refusal, a regular request at least
//! as large was started.

use serde_json::json;

use crate::load::{p4, p5};
use crate::{Case, Goal, Line, Shown, Size};
use drill::play::play;
use drill::policy::Policy;
use drill::run::Run;
use drill::scenario::Scenario;
use drill::settings::Setting;

/// See the module.
pub(crate) const GOAL: Goal = Goal {
    id: "P9",
    what: "priority refused for load while a larger regular request was started",
    goal: "0",
    quick_s: 1,
    full_s: 5,
    show,
};

fn show(size: Size) -> Shown {
    let mut lines = Vec::new();
    for &seed in size.seeds() {
        let cases = [
            Case::new(Setting::CHAT, 3.0, 3.0),
            Case { priority: 0.6, ..Case::new(Setting::CHAT, 2.0, 1.0) },
            Case { priority: 0.6, streaming: 0.5, ..Case::new(Setting::CHAT, 3.0, 3.0) },
        ];
        let long =
            Setting::named("long-context").map(|long| Case { priority: 0.6, ..Case::new(long, 3.0, 3.0) });
        let drills = cases.into_iter().chain(long).map(|case| (case.name(), case.scenario(seed)));
        let incidents = [
            ("a step".to_owned(), p4::scenario(seed, 1.0)),
            ("half lost".to_owned(), p5::scenario(seed, 1.0, true)),
        ];
        lines.extend(
            drills.chain(incidents).map(|(name, scenario)| line(format!("{name}, seed {seed}"), &scenario)),
        );
    }
    Shown::of(lines)
}

fn line(name: String, scenario: &Scenario) -> Line {
    let run: Run = play(scenario, &Policy::Shipped);
    let shed = run.shed().into_iter().filter(|((tier, _), _)| *tier == shedder::Tier::Priority);
    let priority_shed: u64 = shed.map(|(_, count)| count).sum();
    Line::at_most(name, "inversions", run.inversions as f64, 0.0, json!({ "priority_shed": priority_shed }))
}
