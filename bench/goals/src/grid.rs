//! One case over several seeds, pooled; and the oracle that goodput is compared with.
//!
//! C* is the best goodput that the same shedder reaches with its limit *held*, where asked only of limits that serve
//! priority as well: everything else is equal, so the ratio says what finding the limit costs, or gains. It is searched
//! from the mean limit that the loop took, in steps of 8 % to whichever side is better, on the first seed; the best and
//! its neighbours then play all seeds.

use serde_json::{Value, json};
use shedder::Tier;

use drill::play::play;
use drill::policy::Policy;
use drill::run::{Ended, Outcome, Run};
use drill::scenario::Scenario;
use drill::settings::Setting;

/// The step of the search for the best fixed limit.
const STEP: f64 = 1.08;
/// Steps to each side at most: a factor of five.
const STEPS_MAX: u32 = 20;
/// A search goes on over so many steps without a gain, because seeds are noisy.
const PATIENCE: u32 = 3;

/// A drill but for its seed and policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Case {
    /// Fleet and workload.
    pub setting: Setting,
    /// Times the knee.
    pub load: f64,
    /// Variation of the arrivals.
    pub cv: f64,
    /// Share that streams.
    pub streaming: f64,
    /// Share of priority.
    pub priority: f64,
    /// Its priority requests as the only ones.
    pub alone: bool,
}

impl Case {
    /// 30 % priority, everything streams.
    #[must_use]
    pub fn new(setting: Setting, load: f64, cv: f64) -> Self {
        Self { setting, load, cv, streaming: 1.0, priority: 0.3, alone: false }
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> String {
        let Self { setting, load, cv, streaming, priority, alone } = self;
        let streaming = 100.0 * streaming;
        let priority = 100.0 * priority;
        let alone = if *alone { " alone" } else { "" };
        format!(
            "{} {load}× CV {cv}, {streaming:.0} % streaming, {priority:.0} % priority{alone}",
            setting.name
        )
    }

    /// The drill with this seed.
    #[must_use]
    pub fn scenario(&self, seed: u64) -> Scenario {
        let mut scenario = self.setting.scenario(seed, self.load, self.cv);
        scenario.only = self.alone.then_some(Tier::Priority);
        for source in &mut scenario.sources {
            source.streaming = self.streaming;
            source.priority = self.priority;
        }
        scenario
    }

    /// The same priority requests, and no others.
    #[must_use]
    pub fn priority_alone(&self) -> Self {
        Self { alone: true, ..*self }
    }

    /// Plays it with each seed.
    #[must_use]
    pub fn play(&self, policy: &Policy, seeds: &[u64]) -> Pool {
        Pool { runs: seeds.iter().map(|&seed| play(&self.scenario(seed), policy)).collect() }
    }

    /// The best held limit, by requests and by tokens, of those that serve `least` (0 … 1) of priority in time.
    #[must_use]
    pub fn best_held(&self, policy: &dyn Fn(f64) -> Policy, near: f64, least: f64, seeds: &[u64]) -> Best {
        let first = seeds.get(..1).unwrap_or_default();
        let serves = |pool: &Pool| pool.attained(Tier::Priority) >= least;
        let goodput = |pool: &Pool| if serves(pool) { pool.goodput() } else { 0.0 };
        let at = |limit: f64| (limit, self.play(&policy(limit.round().max(1.0)), first));
        let start = near.max(1.0);
        let mut best = at(start);
        for factor in [STEP, 1.0 / STEP] {
            let (mut limit, mut idle) = (start, 0);
            for _ in 0..STEPS_MAX {
                limit *= factor;
                if limit < 1.0 || idle >= PATIENCE {
                    break;
                }
                let tried = at(limit);
                idle += 1;
                if goodput(&tried.1) > goodput(&best.1) {
                    (best, idle) = (tried, 0);
                }
            }
        }
        let around = [best.0 / STEP, best.0, best.0 * STEP];
        let pools = around.map(|limit| (limit, self.play(&policy(limit.round().max(1.0)), seeds)));
        let mut found = Best { limit: 0.0, goodput: 0.0, goodput_tokens: 0.0 };
        for (limit, pool) in pools {
            if !serves(&pool) {
                continue;
            }
            if pool.goodput() > found.goodput {
                (found.limit, found.goodput) = (limit.round(), pool.goodput());
            }
            found.goodput_tokens = found.goodput_tokens.max(pool.goodput_tokens());
        }
        found
    }
}

/// C*.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Best {
    /// The best limit for requests.
    pub limit: f64,
    /// Requests in time per second with it.
    pub goodput: f64,
    /// Output tokens in time per second with the best limit for tokens.
    pub goodput_tokens: f64,
}

/// The runs of a case, one for each seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// In the order of the seeds.
    pub runs: Vec<Run>,
}

impl Pool {
    fn mean(&self, of: impl Fn(&Run) -> f64) -> f64 {
        self.runs.iter().map(of).sum::<f64>() / self.runs.len().max(1) as f64
    }

    /// Share of all offered requests that `of` chooses which met the service level.
    pub fn attained_of(&self, of: impl Fn(&Ended) -> bool) -> f64 {
        let counts = self.runs.iter().map(|run| run.count(&of));
        let (offered, met) = counts.fold((0, 0), |sum, run| (sum.0 + run.0, sum.1 + run.1));
        if offered == 0 { 1.0 } else { met as f64 / offered as f64 }
    }

    /// The same of a tier.
    #[must_use]
    pub fn attained(&self, tier: Tier) -> f64 {
        self.attained_of(|ended| ended.tier == tier)
    }

    /// Requests in time per second.
    #[must_use]
    pub fn goodput(&self) -> f64 {
        self.mean(Run::goodput)
    }

    /// Output tokens in time per second.
    #[must_use]
    pub fn goodput_tokens(&self) -> f64 {
        self.mean(Run::goodput_tokens)
    }

    /// Mean share of work in vain.
    #[must_use]
    pub fn waste(&self) -> f64 {
        self.mean(Run::waste)
    }

    /// Mean limit.
    #[must_use]
    pub fn limit_mean(&self) -> f64 {
        self.mean(Run::limit_mean)
    }

    /// Refused tries of all runs, and tries.
    #[must_use]
    pub fn shed(&self) -> (u64, u64) {
        let shed = self.runs.iter().map(|run| run.shed().values().sum::<u64>()).sum();
        (shed, self.runs.iter().map(|run| run.judged().count() as u64).sum())
    }

    /// Tries of `tier` that ended so.
    #[must_use]
    pub fn ended(&self, tier: Tier, outcome: Outcome) -> u64 {
        self.runs.iter().map(|run| run.count(|ended| ended.tier == tier && ended.outcome == outcome).0).sum()
    }

    /// The figures of each run.
    #[must_use]
    pub fn summary(&self) -> Value {
        json!(self.runs.iter().map(Run::summary).collect::<Vec<_>>())
    }
}
