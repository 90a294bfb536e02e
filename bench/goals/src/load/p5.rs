//! P5: half of the replicas die at 0.8×, which makes it 1.6× of what is left.
//!
//! Their streams are lost with them; requests without a token go elsewhere. Judged is priority that arrives from 2 s
//! after; the replicas stay away, or are back after a minute.

use std::time::Duration;

use serde_json::json;
use shedder::Tier;

use crate::{Case, Goal, Line, Pool, Shown, Size};
use drill::play::play;
use drill::policy::Policy;
use drill::run::Outcome;
use drill::scenario::{Incident, Scenario};
use drill::settings::Setting;

const LOST_AT: Duration = Duration::from_secs(120);
const BACK_AT: Duration = Duration::from_secs(180);
const GRACE: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) const GOAL: Goal = Goal {
    id: "P5",
    what: "half of the replicas lost at 0.8×: priority that arrives 2 s later or after",
    goal: "≥0.99",
    quick_s: 1,
    full_s: 2,
    show,
};

fn show(size: Size) -> Shown {
    let streaming: &[f64] = size.of(&[1.0], &[1.0, 0.5, 0.0]);
    let cases = streaming.iter().flat_map(|&share| [(share, false), (share, true)]);
    Shown::of(cases.map(|(share, back)| line(share, back, size.seeds())).collect())
}

/// The loss as a drill.
#[must_use]
pub(crate) fn scenario(seed: u64, streaming: f64, back: bool) -> Scenario {
    let mut scenario = Case { streaming, ..Case::new(Setting::CHAT, 0.8, 1.0) }.scenario(seed);
    scenario.incidents = vec![(LOST_AT, Incident::Lost(0)), (LOST_AT, Incident::Lost(1))];
    if back {
        scenario.incidents.extend([(BACK_AT, Incident::Back(0)), (BACK_AT, Incident::Back(1))]);
    }
    scenario
}

fn line(streaming: f64, back: bool, seeds: &[u64]) -> Line {
    let runs = seeds.iter().map(|&seed| play(&scenario(seed, streaming, back), &Policy::Shipped)).collect();
    let pool = Pool { runs };
    let since = LOST_AT + GRACE;
    let attained = pool.attained_of(|ended| ended.tier == Tier::Priority && ended.tried >= since);
    let broken: u64 = Tier::ALL.iter().map(|&tier| pool.ended(tier, Outcome::Broken)).sum();
    let after = if back { "back after 60 s" } else { "for good" };
    let name = format!("half lost {after}, {:.0} % streaming", 100.0 * streaming);
    Line::at_least(name, "priority", attained, 0.99, json!({ "broken": broken, "runs": pool.summary() }))
}
