//! `llama-wave`: from 0.7× to 3× at once, and back to 0.75×, while refused clients come back twice.

use serde_json::json;

use super::{Fleet, Front, Load, Played, pace_of, played};
use crate::harness::proof::{Finding, Proof, Setting, Trouble};
use crate::real::judge::Tier;

pub(crate) const PROOF: Proof = Proof {
    id: "llama-wave",
    what: "real time, before a real llama-server with 4 slots, told, not told, and HAProxy; clients retry: 0.7× → 3× → 0.75×: first refusal, priority in 30 s and after, both tiers at 99 % again",
    goal: "≤1 s, ≥98 %, ≥99.9 %, ≤10 s",
    quick_s: 0,
    full_s: 440,
    needs: "llama-server (tests/clients/llama/install.sh)",
    run: |setting| wave(setting),
};

const CALM_S: f64 = 25.0;
const HIGH_S: f64 = 50.0;
const AFTER_S: f64 = 40.0;
/// The first part of the wave.
const FIRST_S: f64 = 30.0;
const RETRIES: u32 = 2;
const REFUSAL_MAX_S: f64 = 1.0;
const FIRST_MIN: f64 = 0.98;
const THEN_MIN: f64 = 0.999;
const RECOVERY_MAX_S: f64 = 10.0;

fn wave(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(async {
        let pace = pace_of(setting, 1).await?;
        let stages = vec![(0.7, CALM_S), (3.0, HIGH_S), (0.75, AFTER_S)];
        let load = Load { stages, retries: RETRIES, watch_from: CALM_S, kill_at: None };
        let mut ok = true;
        let (mut figures, mut details) = (Vec::new(), Vec::new());
        for front in Front::ALL {
            let fleet = Fleet::start(setting, "llama-wave", front, 1, pace).await?;
            let course = Course::of(&played(&load, fleet, pace).await?);
            ok &= front == Front::HaProxy || course.holds();
            let seconds = |value: Option<f64>| value.map_or("never".to_owned(), |s| format!("{s:.2} s"));
            figures.push(format!(
                "{}: first refusal {}, priority {:.1} %, then {:.1} %, again {}",
                front.name(),
                seconds(course.first_refusal_s),
                100.0 * course.first,
                100.0 * course.then,
                seconds(course.recovery_s),
            ));
            details.push(json!({
                "front": front.name(), "first_refusal_s": course.first_refusal_s, "priority_first": course.first,
                "priority_then": course.then, "recovery_s": course.recovery_s, "regular": course.regular,
                "failed": course.failed,
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

/// What became of the wave before one front.
#[derive(Debug)]
struct Course {
    first_refusal_s: Option<f64>,
    first: f64,
    then: f64,
    recovery_s: Option<f64>,
    /// Regular in the wave.
    regular: f64,
    failed: usize,
}

impl Course {
    fn of(played: &Played) -> Self {
        let (ebb, end) = (CALM_S + HIGH_S, CALM_S + HIGH_S + AFTER_S);
        let attained = |tier, from, to| played.requests.within(tier, from, to).attainment();
        Self {
            first_refusal_s: played.first_refusal.map(|after| after.as_secs_f64()),
            first: attained(Tier::Priority, CALM_S, CALM_S + FIRST_S),
            then: attained(Tier::Priority, CALM_S + FIRST_S, ebb),
            recovery_s: played.requests.recovery(ebb, end),
            regular: attained(Tier::Regular, CALM_S, ebb),
            failed: played.failed,
        }
    }

    fn holds(&self) -> bool {
        self.failed == 0
            && self.first_refusal_s.is_some_and(|after| after <= REFUSAL_MAX_S)
            && self.first >= FIRST_MIN
            && self.then >= THEN_MIN
            && self.recovery_s.is_some_and(|after| after <= RECOVERY_MAX_S)
    }
}
