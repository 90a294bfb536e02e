//! P6: nothing of an overload outlives it, though refused clients come back.
//!
//! A minute at 3×, then 0.75×. Clients try twice more, as they are told or, impatiently, after half a second and one.
//! Judged are all tries that arrive from 10 s after the end of the overload, those that come back included.

use std::time::Duration;

use serde_json::json;
use shedder::Tier;

use crate::{Case, Goal, Line, Pool, Shown, Size};
use drill::play::play;
use drill::policy::Policy;
use drill::run::Run;
use drill::scenario::{Client, Retry, Scenario};
use drill::settings::Setting;

const FROM: Duration = Duration::from_secs(90);
const TO: Duration = Duration::from_secs(150);
const WITHIN_S: f64 = 10.0;

/// See the module.
pub(crate) const GOAL: Goal = Goal {
    id: "P6",
    what: "after a minute at 3× with retrying clients: seconds until both tiers attain 0.99 for good",
    goal: "≤10",
    quick_s: 1,
    full_s: 3,
    show,
};

fn show(size: Size) -> Shown {
    let mut lines = Vec::new();
    for obeys in [true, false] {
        for &streaming in size.of(&[1.0][..], &[1.0, 0.5, 0.0][..]) {
            lines.push(line(streaming, obeys, size.seeds()));
        }
    }
    Shown::of(lines)
}

/// The overload as a drill.
#[must_use]
pub(crate) fn scenario(seed: u64, streaming: f64, obeys: bool) -> Scenario {
    let mut scenario = Case { streaming, ..Case::new(Setting::CHAT, 0.75, 1.0) }.scenario(seed);
    for source in &mut scenario.sources {
        source.steps = vec![(FROM, 4.0), (TO, 1.0)];
        source.client = Client { retry: Some(Retry { tries: 2, obeys }), patience: None };
    }
    scenario
}

fn line(streaming: f64, obeys: bool, seeds: &[u64]) -> Line {
    let runs: Vec<Run> =
        seeds.iter().map(|&seed| play(&scenario(seed, streaming, obeys), &Policy::Shipped)).collect();
    let each: Vec<f64> = runs.iter().map(recovery_s).collect();
    let since = TO + Duration::from_secs_f64(WITHIN_S);
    let pool = Pool { runs };
    let attained = Tier::ALL.map(|tier| pool.attained_of(|ended| ended.tier == tier && ended.tried >= since));
    let worst = each.iter().copied().fold(0.0, f64::max);
    let clients = if obeys { "obeying" } else { "impatient" };
    let name = format!("{clients} clients, {:.0} % streaming", 100.0 * streaming);
    let details = json!({ "each_s": each, "attained_from_10_s": attained });
    Line::at_most(name, "seconds", worst, WITHIN_S, details)
}

/// Seconds after the overload from which on all tries of both tiers, to the end, attain 99 %.
fn recovery_s(run: &Run) -> f64 {
    let last = (run.seconds.last().map_or(0, |second| second.at_s)).saturating_sub(TO.as_secs());
    let good = |second: u64| {
        let since = TO + Duration::from_secs(second);
        Tier::ALL
            .iter()
            .all(|&tier| run.attained_of(|ended| ended.tier == tier && ended.tried >= since) >= 0.99)
    };
    (0..last).find(|&second| good(second)).map_or(f64::INFINITY, |second| second as f64)
}
