//! The figures over time: who was offered, served and refused, and what the gateway's inside looked like.

use serde::Serialize;
use shedder::Tier;

use super::BINS_MAX;
use crate::policy::Inside;
use crate::run::{Ended, Outcome, Run};
use crate::script::Drill;

/// Accounts whose budgets are drawn.
const BUDGETS_MAX: usize = 6;

/// Tries of one tier that arrived in one bin, per second, by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Bin {
    /// Within the service level.
    pub met: f64,
    /// Answered late or slowly.
    pub late: f64,
    /// 503.
    pub shed: f64,
    /// 429.
    pub limited: f64,
    /// Left, broken, cut off.
    pub failed: f64,
}

impl Bin {
    /// All of them.
    #[must_use]
    pub fn offered(&self) -> f64 {
        self.met + self.late + self.shed + self.limited + self.failed
    }
}

/// The gateway's inside in one bin: mean over its seconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Inner {
    /// Limit of each replica, requests at once; 0 when it is out of service.
    pub limit: Vec<f64>,
    /// Saturation of each.
    pub saturation: Vec<f64>,
    /// Waiting, by tier, highest first.
    pub queued: [f64; Tier::ALL.len()],
}

/// One meter of one account over time, tokens per minute.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BudgetLine {
    /// The account.
    pub account: String,
    /// Which meter.
    pub meter: &'static str,
    /// Used, reserved and owed.
    pub used: Vec<f64>,
    /// The limit.
    pub limit: Vec<f64>,
}

/// All of it, in bins of the same length.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timeline {
    /// Seconds of one bin.
    pub step_s: f64,
    /// Priority.
    pub priority: Vec<Bin>,
    /// Regular.
    pub regular: Vec<Bin>,
    /// Flex.
    pub flex: Vec<Bin>,
    /// p99 time to first token of each bin, ms, by tier, highest first; 0 where there was none.
    pub ttft_p99_ms: [Vec<f64>; Tier::ALL.len()],
    /// The gateway's inside.
    pub inner: Vec<Inner>,
    /// Budgets against use.
    pub budgets: Vec<BudgetLine>,
}

pub(super) fn timeline(drill: &Drill, run: &Run) -> Timeline {
    let end = run.seconds.last().map_or(0, |second| second.at_s).min(drill.scenario.end.as_secs());
    let end = if run.interrupted { end.max(1) } else { drill.scenario.end.as_secs().max(1) };
    let step = end.div_ceil(BINS_MAX).max(1);
    let bins = end.div_ceil(step) as usize;
    let of = |tier: Tier| binned(run, tier, step, bins);
    Timeline {
        step_s: step as f64,
        priority: of(Tier::Priority),
        regular: of(Tier::Regular),
        flex: of(Tier::Flex),
        ttft_p99_ms: Tier::ALL.map(|tier| late_tail(run, tier, step, bins)),
        inner: inner(run, step, bins),
        budgets: budgets(drill, run, step, bins),
    }
}

impl Timeline {
    /// What came of each tier's requests, highest first.
    #[must_use]
    pub fn tiers(&self) -> [(Tier, &[Bin]); Tier::ALL.len()] {
        [(Tier::Priority, &self.priority), (Tier::Regular, &self.regular), (Tier::Flex, &self.flex)]
            .map(|(tier, bins)| (tier, bins.as_slice()))
    }
}

fn bin_of(ended: &Ended, step: u64) -> usize {
    (ended.tried.as_secs() / step) as usize
}

fn binned(run: &Run, tier: Tier, step: u64, bins: usize) -> Vec<Bin> {
    let mut all = vec![Bin::default(); bins];
    let one = 1.0 / step as f64;
    for ended in run.ended.iter().filter(|ended| ended.tier == tier) {
        let Some(bin) = all.get_mut(bin_of(ended, step)) else { continue };
        match ended.outcome {
            Outcome::Met => bin.met += one,
            Outcome::Late | Outcome::Slow => bin.late += one,
            Outcome::Shed(_) => bin.shed += one,
            Outcome::Limited(_) => bin.limited += one,
            Outcome::Left | Outcome::Broken | Outcome::CutOff => bin.failed += one,
        }
    }
    all
}

fn late_tail(run: &Run, tier: Tier, step: u64, bins: usize) -> Vec<f64> {
    let mut times = vec![Vec::new(); bins];
    for ended in run.ended.iter().filter(|ended| ended.tier == tier) {
        if let (Some(bin), Some(ttft)) = (times.get_mut(bin_of(ended, step)), ended.ttft) {
            bin.push(ttft);
        }
    }
    let p99 = times.into_iter().map(|mut times| {
        times.sort_unstable();
        let rank = (0.99 * times.len() as f64).ceil().max(1.0) as usize;
        times.get(rank - 1).map_or(0.0, |time| super::ms(*time))
    });
    p99.collect()
}

/// The insides of the seconds of each bin.
fn by_bin(run: &Run, step: u64, bins: usize) -> Vec<Vec<&Inside>> {
    let mut all = vec![Vec::new(); bins];
    for (second, inside) in run.seconds.iter().zip(&run.inside) {
        if let Some(bin) = all.get_mut((second.at_s / step) as usize) {
            bin.push(inside);
        }
    }
    all
}

fn inner(run: &Run, step: u64, bins: usize) -> Vec<Inner> {
    let round = |value: f64| (value * 1e3).round() / 1e3;
    let mean = |insides: &[&Inside]| {
        let seconds = insides.len().max(1) as f64;
        let replicas = insides.first().map_or(0, |inside| inside.replicas.len());
        let of = |value: fn(&crate::policy::ReplicaGauge) -> f64| {
            let each = (0..replicas).map(|nth| {
                let sum: f64 = insides.iter().filter_map(|inside| inside.replicas.get(nth)).map(value).sum();
                round(sum / seconds)
            });
            each.collect()
        };
        let queued = |nth: usize| {
            let waiting = insides.iter().filter_map(|inside| inside.queued.get(nth).copied());
            round(waiting.map(f64::from).sum::<f64>() / seconds)
        };
        Inner {
            limit: of(|gauge| if gauge.in_service { gauge.limit } else { 0.0 }),
            saturation: of(|gauge| if gauge.in_service { gauge.saturation } else { 0.0 }),
            queued: std::array::from_fn(queued),
        }
    };
    by_bin(run, step, bins).iter().map(|insides| mean(insides)).collect()
}

const METERS: [&str; 3] = ["prompt", "uncached prompt", "generated"];

/// Of each of the accounts that used most of their limit, the meter of which they used most.
fn budgets(drill: &Drill, run: &Run, step: u64, bins: usize) -> Vec<BudgetLine> {
    let mut peaks = std::collections::BTreeMap::<u32, [f64; 3]>::new();
    for budget in run.inside.iter().flat_map(|inside| &inside.budgets) {
        let peaks = peaks.entry(budget.account).or_default();
        for (peak, (used, limit)) in peaks.iter_mut().zip(budget.used.iter().zip(budget.limit)) {
            *peak = peak.max(*used as f64 / limit.max(1) as f64);
        }
    }
    let fullest = |peaks: &[f64; 3]| {
        let meters = peaks.iter().enumerate();
        meters.max_by(|a, b| a.1.total_cmp(b.1)).map_or((0, 0.0), |(meter, peak)| (meter, *peak))
    };
    let mut chosen: Vec<(u32, usize, f64)> = peaks
        .iter()
        .map(|(account, peaks)| {
            let (meter, peak) = fullest(peaks);
            (*account, meter, peak)
        })
        .collect();
    chosen.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
    chosen.truncate(BUDGETS_MAX);
    let insides = by_bin(run, step, bins);
    let line = |(account, meter, _): (u32, usize, f64)| {
        let last = |insides: &Vec<&Inside>| {
            let inside = insides.last()?;
            let budget = inside.budgets.iter().find(|budget| budget.account == account)?;
            Some((*budget.used.get(meter)? as f64, *budget.limit.get(meter)? as f64))
        };
        let values: Vec<(f64, f64)> =
            insides.iter().map(|insides| last(insides).unwrap_or_default()).collect();
        BudgetLine {
            account: drill.account(account),
            meter: METERS.get(meter).copied().unwrap_or_default(),
            used: values.iter().map(|value| value.0).collect(),
            limit: values.iter().map(|value| value.1).collect(),
        }
    };
    chosen.into_iter().map(line).collect()
}
