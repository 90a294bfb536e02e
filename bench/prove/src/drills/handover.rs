//! CORE5: another process goes on with what was learnt, in the middle of twice the load.
//!
//! In virtual time with many seeds: priority in the ten seconds after the hand-over, and the limit N just after it beside just
//! before. In real time with the shipped program, which is upgraded (`--upgrade`, `SIGQUIT`) again and again. Each beside the
//! same requests without a hand-over: what the load alone does to priority is not the hand-over's.

use std::time::Duration;

use serde_json::json;

use super::{brief, number, play};
use crate::harness::proof::{Finding, Proof, Setting, Trouble};
use drill::play::play as play_virtually;
use drill::policy::Policy;
use drill::run::Run;
use drill::scenario::Incident;
use drill::settings;
use shedder::Tier;

pub(crate) const PROOF: Proof = Proof {
    id: "CORE5",
    what: "hand-over at 2×: priority in the 10 s after it and N beside before, virtual; priority with upgrade after upgrade, real; each beside the same without",
    goal: "≥99.9 %, ±5 %; ≥99.9 %",
    quick_s: 3,
    full_s: 640,
    needs: "",
    run: |setting| handover(setting),
};

const ATTAINED_MIN: f64 = 0.999;
const MOVED_MAX: f64 = 0.05;
/// When it is handed over, in virtual time, and for how long it is looked afterwards; seconds.
const AT_S: u64 = 90;
const AFTER_S: u64 = 10;
/// Upgrades in real time, and from one to the next.
const UPGRADES: u32 = 20;
const EVERY_S: u32 = 12;

fn handover(setting: &Setting) -> Result<Finding, Trouble> {
    let seeds = setting.size(2, 20);
    let (mut with, mut without) = (Priority::default(), Priority::default());
    let mut moved = Vec::new();
    for seed in 1..=seeds {
        let mut scenario = settings::Setting::CHAT.scenario(seed, 2.0, 1.0);
        scenario.warm_up = Duration::from_secs(30);
        scenario.end = Duration::from_secs(AT_S + AFTER_S + 5);
        without.add(&play_virtually(&scenario, &Policy::Shipped));
        scenario.incidents.push((Duration::from_secs(AT_S), Incident::GatewayUpgraded));
        let run = play_virtually(&scenario, &Policy::Shipped);
        with.add(&run);
        let limit = |at_s: u64| {
            run.seconds.iter().find(|second| second.at_s == at_s).map_or(f64::NAN, |s| s.gauges.limit)
        };
        moved.push(limit(AT_S + 1) / limit(AT_S - 1) - 1.0);
    }
    let attained = with.attained();
    let mean = moved.iter().sum::<f64>() / moved.len() as f64;
    let most = moved.iter().fold(0.0_f64, |most, moved| most.max(moved.abs()));
    let mut ok = attained >= setting.size(0.99, ATTAINED_MIN) && mean.abs() <= MOVED_MAX;
    let mut figure = format!(
        "{:.2} % of {} (without {:.2} %), N {:+.1} % (one at most {:.1} %)",
        100.0 * attained,
        with.offered,
        100.0 * without.attained(),
        100.0 * mean,
        100.0 * most
    );
    let mut real = None;
    if !setting.quick {
        let beside = upgraded(setting, 0)?;
        let found = upgraded(setting, UPGRADES)?;
        let priority = number(&found, "/tiers/0/attainment");
        ok &= priority >= ATTAINED_MIN;
        let alone = number(&beside, "/tiers/0/attainment");
        figure.push_str(&format!(
            "; real, {UPGRADES} upgrades: {:.2} % (without {:.2} %)",
            100.0 * priority,
            100.0 * alone
        ));
        // One that could not be made is no proof of anything.
        ok &= found.get("warnings").and_then(serde_json::Value::as_array).is_some_and(Vec::is_empty);
        real = Some(json!({
            "figures": brief(&found), "without": brief(&beside), "warnings": found.get("warnings")
        }));
    }
    let details = json!({
        "attained": attained, "without": without.attained(), "offered": with.offered, "moved": moved, "real": real
    });
    Ok(Finding { figure, goal: PROOF.goal.to_owned(), ok, details })
}

/// What priority got in the ten seconds.
#[derive(Debug, Default)]
struct Priority {
    offered: u64,
    met: u64,
}

impl Priority {
    fn add(&mut self, run: &Run) {
        let after = Duration::from_secs(AT_S)..Duration::from_secs(AT_S + AFTER_S);
        for ended in run.ended.iter().filter(|one| one.tier == Tier::Priority && after.contains(&one.tried)) {
            self.offered += 1;
            self.met += u64::from(ended.is_met());
        }
    }

    fn attained(&self) -> f64 {
        self.met as f64 / self.offered.max(1) as f64
    }
}

/// Two replicas at twice their knee, and so many upgrades one after the other.
fn upgraded(setting: &Setting, upgrades: u32) -> Result<serde_json::Value, Trouble> {
    let first = 40;
    let events: Vec<String> = (0..upgrades)
        .map(|n| format!("{{ at_s: {}, upgrade_gateway: true }}", first + n * EVERY_S))
        .collect();
    let duration = first + UPGRADES * EVERY_S;
    let text = format!(
        "drill: core5\nseed: 3\nduration_s: {duration}\nwarm_up_s: {first}\ndrain_s: 30\nfleet: {{ replicas: 2 }}\n\
         accounts: [{{ id: a, count: 10, zipf: 1 }}]\n\
         traffic: [{{ name: t, accounts: a, rate_per_s: 25.6, priority: 0.3 }}]\nevents: [{}]\n",
        events.join(", ")
    );
    let file = setting.out.join("core5.yaml");
    std::fs::write(&file, text)?;
    play::<&str>(setting.binaries().tidegate()?, &file, &setting.out, &[])
}
