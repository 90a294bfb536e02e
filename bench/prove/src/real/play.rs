//! Plays the same requests against all sides at once, and sees whether the machine was up to it.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Value, json};

use super::judge::Requests;
use super::side::{Kind, Knobs, Side, callers};
use crate::harness::proof::{Setting, Trouble};
use engine::behaviour::Behaviour;
use engine::clock;
use engine::profile::LLAMA_8B_A100;
use engine::workload::{Arrivals, Size, Workload};
use kit::process;
use load::{LiveStats, LoadPlan, LoadRun, Mode, Retry, Slo, Stage, start};

/// How far the engines are from what stands in front of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Distance {
    /// On the same machine.
    Near,
    /// In another region: [`FAR_MS`] of network each way.
    Far,
}

/// As the family `network-100` of the drills has it, milliseconds each way.
const FAR_MS: f64 = 100.0;

impl Distance {
    /// Those of a run: the small size has one.
    pub(super) fn of(setting: &Setting) -> &'static [Distance] {
        setting.size(&[Distance::Near], &[Distance::Near, Distance::Far])
    }

    /// Behind the name of a figure.
    pub(super) fn note(self) -> &'static str {
        match self {
            Distance::Near => "",
            Distance::Far => ", engines 100 ms away",
        }
    }

    /// Behind the name of a run and of its files.
    pub(super) fn slug(self) -> &'static str {
        match self {
            Distance::Near => "",
            Distance::Far => "-far",
        }
    }

    /// How an engine there behaves.
    pub(super) fn behaviour(self) -> Behaviour {
        let way_ms = if self == Distance::Far { FAR_MS } else { 0.0 };
        Behaviour { way_ms, ..Behaviour::PLAIN }
    }
}

/// One way to load the fleets.
#[derive(Debug, Clone)]
pub(super) struct Drill {
    /// Name of the files that it writes.
    pub(super) name: &'static str,
    /// Where the engines are.
    pub(super) distance: Distance,
    /// Load in multiples of the knee, coefficient of variation of the arrivals, seconds.
    pub(super) stages: Vec<(f64, f64, f64)>,
    /// Share of priority requests.
    pub(super) priority: f64,
    /// Further attempts of refused clients.
    pub(super) retries: u32,
    /// When half of the engines are killed.
    pub(super) kill_at: Option<Duration>,
    /// From when on the first refusal is looked for.
    pub(super) watch_from: Duration,
    /// What is set by hand.
    pub(super) knobs: Knobs,
}

/// What became of it on one side.
#[derive(Debug)]
pub(super) struct Course {
    /// Who.
    pub(super) kind: Kind,
    /// All requests.
    pub(super) requests: Requests,
    /// From `watch_from` to the first refusal that any client saw.
    pub(super) first_refusal: Option<Duration>,
    /// What else was measured.
    pub(super) details: Value,
}

/// The workload, and the rate per second that is called 1×: where 99 % of the requests of an uncontrolled fleet still
/// meet the service level. Found in virtual time (`drill::settings::knee`).
pub(super) fn traffic(setting: &Setting) -> (Workload, f64) {
    let short = Workload::Fixed(Size { prompt_tokens: 1_000, output_tokens: 60 });
    setting.size((short, SHORT_KNEE_PER_S), (Workload::Azure, drill::settings::Setting::CHAT.knee_per_s))
}

const SHORT_KNEE_PER_S: f64 = 41.0;

/// How often it is looked whether something was refused or is due.
pub(super) const LOOK: Duration = Duration::from_millis(10);

/// Plays `drill` against sides of these kinds.
///
/// # Errors
/// A side does not start; or the machine was too busy for figures that mean anything.
pub(super) fn play(setting: &Setting, drill: &Drill, kinds: &[Kind]) -> Result<Vec<Course>, Trouble> {
    setting.block_on(async {
        let mut sides = Vec::with_capacity(kinds.len());
        for kind in kinds {
            sides.push(Side::start(setting, drill, *kind).await?);
        }
        let began = (clock::now(), spent(&sides)?);
        let mut runs = Vec::with_capacity(sides.len());
        for side in &sides {
            runs.push(start(drill.plan(setting, side))?);
        }
        let refused = watch(drill, &mut sides, &runs).await;
        let mut reports = Vec::with_capacity(runs.len());
        for run in runs {
            reports.push(run.report().await?);
        }
        let elapsed = (clock::now() - began.0).as_secs_f64();
        let all: Vec<f64> =
            spent(&sides)?.iter().zip(&began.1).map(|(after, before)| after - before).collect();
        let busy = all.iter().sum::<f64>() / elapsed / process::cores() as f64;
        let priority: Vec<bool> = callers(0.5).iter().map(|caller| caller.tier == "priority").collect();
        let mut played = Vec::with_capacity(sides.len());
        for (((side, report), first_refusal), cpu_s) in sides.iter().zip(reports).zip(refused).zip(&all) {
            if let Some(why) = report.bottleneck {
                let busy = 100.0 * busy;
                return Err(Trouble::Void(format!(
                    "{}: {why}; the machine was {busy:.0} % busy with this alone",
                    side.kind.name()
                )));
            }
            let details = json!({
                "cpu_s": cpu_s, "elapsed_s": elapsed, "machine_busy": busy, "lag_ms": report.lag,
                "tiers": report.tiers, "first_refusal_s": first_refusal.map(|after| after.as_secs_f64()),
            });
            let requests = Requests::new(report.outcomes, &priority);
            played.push(Course { kind: side.kind, requests, first_refusal, details });
        }
        Ok(played)
    })
}

/// Processor time of each side's front so far, seconds; at the end that of this process, which has all engines and
/// generators.
fn spent(sides: &[Side]) -> Result<Vec<f64>, Trouble> {
    let pids = sides.iter().map(|side| side.program().pid()).chain([std::process::id()]);
    pids.map(|pid| Ok(process::cpu(pid)?.as_secs_f64())).collect()
}

/// What was refused so far.
pub(super) fn refused(live: &LiveStats) -> u64 {
    let of = |tier: &load::LiveTier| tier.refused_429.load(Relaxed) + tier.refused_503.load(Relaxed);
    live.tiers.iter().map(of).sum()
}

/// Kills what is to be killed when it is due, and notes the first refusals.
async fn watch(drill: &Drill, sides: &mut [Side], runs: &[LoadRun]) -> Vec<Option<Duration>> {
    let began = clock::now();
    let length = Duration::from_secs_f64(drill.stages.iter().map(|(_, _, seconds)| seconds).sum());
    let mut before: Option<Vec<u64>> = None;
    let mut first = vec![None; runs.len()];
    let mut kill_at = drill.kill_at;
    loop {
        let at = clock::now() - began;
        if kill_at.is_some_and(|due| at >= due) {
            kill_at = None;
            sides.iter_mut().for_each(Side::kill_half);
        }
        if at >= drill.watch_from {
            let before = before.get_or_insert_with(|| runs.iter().map(|run| refused(&run.live)).collect());
            for ((first, run), before) in first.iter_mut().zip(runs).zip(before.iter()) {
                if first.is_none() && refused(&run.live) > *before {
                    *first = Some(at - drill.watch_from);
                }
            }
        }
        if at >= length {
            return first;
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Drill {
    fn plan(&self, setting: &Setting, side: &Side) -> LoadPlan {
        let (workload, knee_per_s) = traffic(setting);
        let stage = |&(load, cv, seconds): &(f64, f64, f64)| Stage {
            arrivals: Arrivals { rate_per_s: load * knee_per_s, cv },
            duration: Duration::from_secs_f64(seconds),
        };
        LoadPlan {
            mode: Mode::Open { stages: self.stages.iter().map(stage).collect() },
            workload,
            callers: callers(self.priority),
            slo: Slo {
                ttft: Duration::from_secs(2),
                tpot: Duration::from_millis(100),
                prefill: Some(LLAMA_8B_A100),
            },
            retry: Retry { attempts_max: self.retries, obedient: true },
            seed: 4,
            timeout: Duration::from_secs(120),
            keep_outcomes: true,
            ..LoadPlan::to(side.address())
        }
    }
}
