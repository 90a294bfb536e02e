//! `llama-loss`: one of two engines, each with a core of its own, is killed at 0.8×, which leaves 1.6× for the other.

use std::time::Duration;

use serde_json::json;

use super::{Fleet, Front, Load, pace_of, played};
use crate::harness::proof::{Finding, Proof, Setting, Trouble};
use crate::real::judge::Tier;

pub(crate) const PROOF: Proof = Proof {
    id: "llama-loss",
    what: "real time, before two real llama-servers with 4 slots each, told, not told, and HAProxy; one is killed at 0.8×: priority from +2 s",
    goal: "≥99 %",
    quick_s: 0,
    full_s: 300,
    needs: "llama-server (tests/clients/llama/install.sh)",
    run: |setting| loss(setting),
};

const LOAD: f64 = 0.8;
const CALM_S: f64 = 25.0;
const AFTER_S: f64 = 40.0;
/// From then on after the kill new priority requests have to be served.
const PAUSE_S: f64 = 2.0;
const ATTAINED_MIN: f64 = 0.99;

fn loss(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(async {
        let pace = pace_of(setting, 2).await?;
        let load = Load {
            stages: vec![(LOAD, CALM_S + AFTER_S)],
            retries: 0,
            watch_from: CALM_S,
            kill_at: Some(Duration::from_secs_f64(CALM_S)),
        };
        let (from, end) = (CALM_S + PAUSE_S, CALM_S + AFTER_S);
        let mut ok = true;
        let (mut figures, mut details) = (Vec::new(), Vec::new());
        for front in Front::ALL {
            let fleet = Fleet::start(setting, "llama-loss", front, 2, pace).await?;
            let played = played(&load, fleet, pace).await?;
            let attained = |tier, from, to| played.requests.within(tier, from, to).attainment();
            let before = attained(Tier::Both, CALM_S / 2.0, CALM_S);
            let (pause, after) =
                (attained(Tier::Priority, CALM_S, from), attained(Tier::Priority, from, end));
            let regular = attained(Tier::Regular, from, end);
            ok &= front == Front::HaProxy || after >= ATTAINED_MIN;
            let (name, percent) = (front.name(), |share: f64| format!("{:.1} %", 100.0 * share));
            figures.push(format!("{name}: priority {}, regular {}", percent(after), percent(regular)));
            details.push(json!({
                "front": name, "priority": after, "priority_in_the_pause": pause, "regular": regular,
                "both_before": before, "failed": played.failed,
            }));
        }
        Ok(Finding {
            figure: figures.join("; "),
            goal: PROOF.goal.to_owned(),
            ok,
            details: json!({ "pace": pace.told(), "fronts": details }),
        })
    })
}
