//! `llama-real`: priority, goodput and refusals at 0.8×, 2× and 3×.

use serde_json::{Value, json};

use super::{Fleet, Front, Load, Pace, pace_of, played};
use crate::harness::proof::{Finding, Proof, Setting, Trouble};
use crate::real::judge::Tier;

pub(crate) const PROOF: Proof = Proof {
    id: "llama-real",
    what: "real time, before a real llama-server with 4 slots, told, not told, and HAProxy with maxconn 4: priority at 2×, 3×; goodput against HAProxy; refused at 0.8×",
    goal: "≥99 % each; ≥0.95 each; ≤1 %",
    quick_s: 0,
    full_s: 700,
    needs: "llama-server (tests/clients/llama/install.sh)",
    run: |setting| climb(setting),
};

const ATTAINED_MIN: f64 = 0.99;
const GOODPUT_MIN: f64 = 0.95;
const REFUSED_MAX: f64 = 0.01;
const LOADS: [f64; 3] = [0.8, 2.0, 3.0];
const WARM_S: f64 = 20.0;
const STAGE_S: f64 = 50.0;
/// Of each stage what is not judged.
const SKIP_S: f64 = 5.0;

/// What became of one load before one front.
#[derive(Debug)]
struct Course {
    load: f64,
    priority: f64,
    goodput_per_s: f64,
    refused: f64,
    failed: usize,
}

fn climb(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(async {
        let pace = pace_of(setting, 1).await?;
        let mut courses = Vec::new();
        for front in Front::ALL {
            courses.push((front, play(setting, front, pace).await?));
        }
        Ok(judged(pace, &courses))
    })
}

/// Loads one front with each load in turn.
async fn play(setting: &Setting, front: Front, pace: Pace) -> Result<Vec<Course>, Trouble> {
    let fleet = Fleet::start(setting, "llama", front, 1, pace).await?;
    let stages = [(LOADS[0], WARM_S)].into_iter().chain(LOADS.map(|load| (load, STAGE_S)));
    let load = Load { stages: stages.collect(), retries: 0, watch_from: WARM_S, kill_at: None };
    let played = played(&load, fleet, pace).await?;
    let course = |(number, load): (usize, f64)| {
        let (from, to) = (WARM_S + STAGE_S * number as f64 + SKIP_S, WARM_S + STAGE_S * (number + 1) as f64);
        let both = played.requests.within(Tier::Both, from, to);
        Course {
            load,
            priority: played.requests.within(Tier::Priority, from, to).attainment(),
            goodput_per_s: both.attained as f64 / (to - from),
            refused: both.refused as f64 / both.offered.max(1) as f64,
            failed: played.failed,
        }
    };
    Ok(LOADS.into_iter().enumerate().map(course).collect())
}

fn judged(pace: Pace, courses: &[(Front, Vec<Course>)]) -> Finding {
    let haproxy = courses.iter().find(|(front, _)| *front == Front::HaProxy).map(|(_, courses)| courses);
    let beside = |course: &Course| {
        let other = haproxy.into_iter().flatten().find(|other| other.load == course.load);
        course.goodput_per_s / other.map_or(f64::NAN, |other| other.goodput_per_s)
    };
    let mut ok = true;
    let mut figures = Vec::new();
    for (front, courses) in courses {
        let mut told = Vec::new();
        for course in courses {
            let is_calm = course.load < 1.0;
            let holds = course.failed == 0
                && if is_calm {
                    course.refused <= REFUSED_MAX
                } else {
                    course.priority >= ATTAINED_MIN && beside(course) >= GOODPUT_MIN
                };
            ok &= holds || *front == Front::HaProxy;
            let Course { load, priority, refused, .. } = course;
            told.push(if is_calm {
                format!("{load}× refused {:.1} %, priority {:.1} %", 100.0 * refused, 100.0 * priority)
            } else {
                format!("{load}× priority {:.1} %, goodput {:.2}", 100.0 * priority, beside(course))
            });
        }
        figures.push(format!("{}: {}", front.name(), told.join(", ")));
    }
    let row = |(front, courses): &(Front, Vec<Course>)| {
        let rows: Vec<Value> = courses
            .iter()
            .map(|course| {
                json!({
                    "load": course.load, "priority": course.priority, "goodput_per_s": course.goodput_per_s,
                    "refused": course.refused, "failed": course.failed,
                })
            })
            .collect();
        json!({ "front": front.name(), "courses": rows })
    };
    Finding {
        figure: figures.join("; "),
        goal: PROOF.goal.to_owned(),
        ok,
        details: json!({
            "pace": pace.told(),
            "fronts": courses.iter().map(row).collect::<Vec<_>>(),
        }),
    }
}
