//! M1: half of the load asks for flex, and nobody who asked for more notices.
//!
//! Each drill is played twice, with the flex traffic and without it; the other requests are the same. Flex that is
//! served after the end of the traffic, when it has the fleet for itself, does not count as goodput.

use serde_json::json;

use crate::{Goal, Line, Shown, Size};
use drill::play::play;
use drill::policy::Policy;
use drill::run::Run;
use drill::scenario::{Accounts, Scenario, Source};
use drill::settings::Setting;
use shedder::Tier;

/// See the module.
pub(crate) const GOAL: Goal = Goal {
    id: "M1",
    what: "three tiers at 1.5×, 2×, 3×, half of the load flex: priority and regular against the same without it; goodput",
    goal: "≥ −0.2 and −0.5 points; ≥ 1",
    quick_s: 3,
    full_s: 60,
    show,
};

fn show(size: Size) -> Shown {
    let settings: &[&str] = size
        .of(&["chat"], &["chat", "70b", "long-context", "reasoning", "cached", "four-slots", "one-replica"]);
    let cvs: &[f64] = size.of(&[1.0], &[1.0, 3.0]);
    let mut all = Vec::new();
    for setting in settings.iter().filter_map(|name| Setting::named(name)) {
        for load in [1.5, 2.0, 3.0] {
            for &cv in cvs {
                all.extend(lines(setting, load, cv, size.seeds()));
            }
        }
    }
    Shown::of(all)
}

/// Sums over the seeds of a case.
#[derive(Debug, Default)]
struct Sums {
    tiers: shedder::PerTier<(u64, u64)>,
    served: u64,
}

impl Sums {
    fn add(&mut self, run: &Run, scenario: &Scenario) {
        for ended in run.judged() {
            let (offered, met) = &mut self.tiers[ended.tier];
            *offered += 1;
            *met += u64::from(ended.is_met());
            let in_time = ended.tier != Tier::Flex || ended.ended <= scenario.end;
            self.served += u64::from(ended.is_met() && in_time);
        }
    }

    fn attained(&self, tier: Tier) -> f64 {
        let (offered, met) = self.tiers[tier];
        if offered == 0 { 1.0 } else { met as f64 / offered as f64 }
    }
}

fn lines(setting: Setting, load: f64, cv: f64, seeds: &[u64]) -> [Line; 3] {
    let (mut with, mut without) = (Sums::default(), Sums::default());
    for &seed in seeds {
        let mut scenario = setting.scenario(seed, load / 2.0, cv);
        // As vLLM, SGLang and llama.cpp do.
        scenario.deployments.iter_mut().for_each(|one| one.told.aborts_on_disconnect = true);
        without.add(&play(&scenario, &Policy::Shipped), &scenario);
        scenario.sources.extend(flex(&scenario));
        with.add(&play(&scenario, &Policy::Shipped), &scenario);
    }
    let name = format!("{} {load}×, CV {cv}", setting.name);
    let points = |tier| 100.0 * (with.attained(tier) - without.attained(tier));
    let details = json!({
        "without": { "priority": without.attained(Tier::Priority), "regular": without.attained(Tier::Regular) },
        "flex": with.attained(Tier::Flex), "served": with.served, "served_without": without.served,
    });
    [
        Line::at_least(name.clone(), "priority, points", points(Tier::Priority), -0.2, details.clone()),
        Line::at_least(name.clone(), "regular, points", points(Tier::Regular), -0.5, details.clone()),
        Line::at_least(name, "goodput", with.served as f64 / without.served.max(1) as f64, 1.0, details),
    ]
}

/// As much again in flex, of accounts of its own.
fn flex(scenario: &Scenario) -> Option<Source> {
    let source = scenario.sources.first()?;
    let Accounts { first, count, zipf } = source.accounts;
    let accounts = Accounts { first: first + count, count, zipf };
    Some(Source { accounts, priority: 0.0, flex: 1.0, ..source.clone() })
}
