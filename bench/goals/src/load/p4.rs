//! P4: a step from 0.7× to 3×. The fleet fills within seconds; regular has to be refused before priority feels it.
//!
//! The first refusal is timed from the step. It cannot come before the places are used up, which is what the load
//! of the fleet before the step decides.

use std::time::Duration;

use serde_json::json;
use shedder::Tier;

use crate::{Case, Goal, Line, Pool, Shown, Size};
use drill::play::play;
use drill::policy::Policy;
use drill::run::{Ended, Outcome, Run};
use drill::scenario::Scenario;
use drill::settings::Setting;

/// When the load steps up.
const STEP_AT: Duration = Duration::from_secs(120);
const FIRST: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) const GOAL: Goal = Goal {
    id: "P4",
    what: "step 0.7× → 3×: first refusal, s; priority in the first 30 s; after",
    goal: "≤1; ≥0.98; ≥0.999",
    quick_s: 1,
    full_s: 2,
    show,
};

fn show(size: Size) -> Shown {
    let streaming: &[f64] = size.of(&[1.0], &[1.0, 0.5, 0.0]);
    Shown::of(streaming.iter().flat_map(|&share| lines(share, size.seeds())).collect())
}

/// The step as a drill.
#[must_use]
pub(crate) fn scenario(seed: u64, streaming: f64) -> Scenario {
    let case = Case { streaming, ..Case::new(Setting::CHAT, 0.7, 1.0) };
    let mut scenario = case.scenario(seed);
    scenario.sources.iter_mut().for_each(|source| source.steps = vec![(STEP_AT, 3.0 / 0.7)]);
    scenario
}

fn lines(streaming: f64, seeds: &[u64]) -> [Line; 3] {
    let runs = seeds.iter().map(|&seed| play(&scenario(seed, streaming), &Policy::Shipped)).collect();
    let pool = Pool { runs };
    let name = format!("step 0.7× → 3×, {:.0} % streaming", 100.0 * streaming);
    let first_shed = pool.runs.iter().map(first_shed_s).fold(0.0, f64::max);
    let priority = |from: Duration, to: Duration| {
        pool.attained_of(|ended: &Ended| {
            ended.tier == Tier::Priority && ended.tried >= from && ended.tried < to
        })
    };
    let first = priority(STEP_AT, STEP_AT + FIRST);
    let after = priority(STEP_AT + FIRST, Duration::MAX);
    let details = json!({ "first_shed_s": pool.runs.iter().map(first_shed_s).collect::<Vec<_>>() });
    [
        Line::at_most(name.clone(), "first refusal, s", first_shed, 1.0, details),
        Line::at_least(name.clone(), "first 30 s", first, 0.98, pool.summary()),
        Line::at_least(name, "after", after, 0.999, serde_json::Value::Null),
    ]
}

fn first_shed_s(run: &Run) -> f64 {
    let shed =
        run.ended.iter().filter(|ended| matches!(ended.outcome, Outcome::Shed(_)) && ended.ended >= STEP_AT);
    shed.map(|ended| (ended.ended - STEP_AT).as_secs_f64()).fold(f64::INFINITY, f64::min)
}
