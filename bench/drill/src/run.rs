//! What became of every request of a drill, and the figures that are made of it.
//!
//! Attainment is over *offered* requests: one that was refused, cut off or left is missed, whoever's fault it was.
//! Wasted is what engines computed for requests that missed. A request belongs to the second in which it arrived.

use std::collections::BTreeMap;
use std::time::Duration;

use limits::Meter;
use serde_json::{Value, json};
use shedder::{Reason, Tier};

use crate::policy::{Gauges, Inside};
use crate::scenario::Scenario;
use engine::workload::Size;

/// How one try of a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Within the service level.
    Met,
    /// The first token came late.
    Late,
    /// The first token came in time, the others too slowly.
    Slow,
    /// Refused for load.
    Shed(Reason),
    /// Refused because of a limit of the account's own.
    Limited(Limit),
    /// The client lost patience.
    Left,
    /// The answer broke.
    Broken,
    /// It was still running at the end of the drill.
    CutOff,
}

/// A limit of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Tokens per minute.
    Meter(Meter),
    /// Requests per minute.
    Requests,
    /// Requests at once.
    Concurrency,
}

/// One try of a request, over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ended {
    /// Its number in the run.
    pub ticket: u32,
    /// When the request was made for the first time.
    pub asked: Duration,
    /// When this try arrived.
    pub tried: Duration,
    /// When it ended.
    pub ended: Duration,
    /// 0 for the first try.
    pub number: u32,
    /// Whose.
    pub account: u32,
    /// Its tier.
    pub tier: Tier,
    /// Its sizes.
    pub size: Size,
    /// Prompt tokens that the engine had cached.
    pub cached: u32,
    /// Tokens generated.
    pub tokens: u32,
    /// Arrival of this try to first token.
    pub ttft: Option<Duration>,
    /// Mean time per further token.
    pub tpot: Option<Duration>,
    /// What came of it.
    pub outcome: Outcome,
    /// Tokens computed for it, prefill, repeated prefill and output.
    pub work: u64,
}

/// One second of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Second {
    /// Seconds since the start.
    pub at_s: u64,
    /// What the policy showed then.
    pub gauges: Gauges,
}

/// Everything that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The policy's name.
    pub policy: String,
    /// Every try, in order of their ends.
    pub ended: Vec<Ended>,
    /// The gateway second by second.
    pub seconds: Vec<Second>,
    /// Its inside at the same seconds.
    pub inside: Vec<Inside>,
    /// Somebody ended it early.
    pub interrupted: bool,
    /// Priority requests refused for load while a larger regular request was started.
    pub inversions: u64,
    /// Preemptions of all engines.
    pub preemptions: u64,
    /// Steps of all engines.
    pub steps: u64,
    /// Whether every sum of the policy was zero in the end.
    pub at_rest: bool,
    /// How often engine metrics were read.
    pub scrape_every: Option<Duration>,
    warm_up: Duration,
    end: Duration,
    /// Weighted tokens of each watched account by second.
    service: Vec<Vec<u64>>,
    /// Work that became known after a try had ended, by ticket.
    late_work: BTreeMap<u32, u64>,
}

impl Ended {
    /// Within the service level.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.outcome == Outcome::Met
    }
}

impl Run {
    pub(super) fn new(scenario: &Scenario, policy: String) -> Self {
        Self {
            policy,
            ended: Vec::new(),
            seconds: Vec::new(),
            inside: Vec::new(),
            interrupted: false,
            inversions: 0,
            preemptions: 0,
            steps: 0,
            at_rest: false,
            scrape_every: None,
            warm_up: scenario.warm_up,
            end: scenario.end,
            service: Vec::new(),
            late_work: BTreeMap::new(),
        }
    }

    pub(super) fn serve(&mut self, now: Duration, account: usize, accounts_max: usize, tokens: u64) {
        if account >= accounts_max {
            return;
        }
        if self.service.len() <= account {
            self.service.resize(account + 1, Vec::new());
        }
        let second = now.as_secs() as usize;
        let Some(seconds) = self.service.get_mut(account) else { return };
        if seconds.len() <= second {
            seconds.resize(second + 1, 0);
        }
        if let Some(sum) = seconds.get_mut(second) {
            *sum += tokens;
        }
    }

    pub(super) fn add_work(&mut self, ticket: u32, work: u64) {
        *self.late_work.entry(ticket).or_default() += work;
    }

    /// Tokens computed for a try.
    fn work(&self, ended: &Ended) -> u64 {
        ended.work + self.late_work.get(&ended.ticket).copied().unwrap_or(0)
    }

    /// The tries that arrived after the warm-up and before the end.
    pub fn judged(&self) -> impl Iterator<Item = &Ended> {
        self.ended.iter().filter(|ended| ended.tried >= self.warm_up && ended.tried < self.end)
    }

    /// Offered and met of the judged tries that `of` chooses.
    pub fn count(&self, of: impl Fn(&Ended) -> bool) -> (u64, u64) {
        let chosen = self.judged().filter(|ended| of(ended));
        chosen.fold((0, 0), |(offered, met), ended| (offered + 1, met + u64::from(ended.is_met())))
    }

    /// Share of the offered requests of `tier` that met the service level; 1 when none was offered.
    #[must_use]
    pub fn attained(&self, tier: Tier) -> f64 {
        self.attained_of(|ended| ended.tier == tier)
    }

    /// The same of those that `of` chooses.
    pub fn attained_of(&self, of: impl Fn(&Ended) -> bool) -> f64 {
        let (offered, met) = self.count(of);
        if offered == 0 { 1.0 } else { met as f64 / offered as f64 }
    }

    /// Requests within the service level per second.
    #[must_use]
    pub fn goodput(&self) -> f64 {
        self.count(|_| true).1 as f64 / self.judged_s()
    }

    /// Output tokens of requests within the service level per second.
    #[must_use]
    pub fn goodput_tokens(&self) -> f64 {
        let tokens: u64 =
            self.judged().filter(|ended| ended.is_met()).map(|ended| u64::from(ended.tokens)).sum();
        tokens as f64 / self.judged_s()
    }

    /// Share of what engines computed that was for requests that missed.
    #[must_use]
    pub fn waste(&self) -> f64 {
        let (mut all, mut lost) = (0, 0);
        for ended in self.judged() {
            let work = self.work(ended);
            all += work;
            lost += if ended.is_met() { 0 } else { work };
        }
        if all == 0 { 0.0 } else { lost as f64 / all as f64 }
    }

    /// Judged tries that were refused, by tier and reason.
    #[must_use]
    pub fn shed(&self) -> BTreeMap<(Tier, Reason), u64> {
        let mut shed = BTreeMap::new();
        for ended in self.judged() {
            if let Outcome::Shed(reason) = ended.outcome {
                *shed.entry((ended.tier, reason)).or_default() += 1;
            }
        }
        shed
    }

    /// Share of the judged tries that were refused.
    #[must_use]
    pub fn shed_share(&self) -> f64 {
        let shed: u64 = self.shed().values().sum();
        shed as f64 / self.judged().count().max(1) as f64
    }

    /// Ends it here: what has no end yet is left out.
    pub(super) fn cut(&mut self, now: Duration) {
        self.interrupted = true;
        self.end = self.end.min(now);
        self.ended.retain(|ended| ended.outcome != Outcome::CutOff);
    }

    /// When judged tries arrive: from, until.
    #[must_use]
    pub fn judged_between(&self) -> (Duration, Duration) {
        (self.warm_up, self.end)
    }

    fn judged_s(&self) -> f64 {
        self.end.saturating_sub(self.warm_up).as_secs_f64().max(1e-9)
    }

    /// Jain's index of the weighted tokens that `accounts` were served, the worst of all windows of `window_s`
    /// seconds that lie apart between warm-up and end; 1 is equal, 1/n is all for one.
    #[must_use]
    pub fn jain(&self, accounts: u32, window_s: usize) -> f64 {
        let (from, to) = (self.warm_up.as_secs() as usize, self.end.as_secs() as usize);
        let mut worst = 1.0_f64;
        let mut at = from;
        while at + window_s <= to {
            let sums = (0..accounts as usize).map(|account| {
                let seconds = self.service.get(account).map_or(&[][..], Vec::as_slice);
                seconds.iter().skip(at).take(window_s).sum::<u64>() as f64
            });
            let (sum, squares) = sums.fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
            if squares > 0.0 {
                worst = worst.min(sum * sum / (f64::from(accounts) * squares));
            }
            at += window_s;
        }
        worst
    }

    /// The `share` quantile of time to first token of the judged tries that `of` chooses, of those that had one.
    pub fn ttft(&self, share: f64, of: impl Fn(&Ended) -> bool) -> Duration {
        quantile(self.judged().filter(|ended| of(ended)).filter_map(|ended| ended.ttft), share)
    }

    /// The same of the mean time per further token.
    pub fn tpot(&self, share: f64, of: impl Fn(&Ended) -> bool) -> Duration {
        quantile(self.judged().filter(|ended| of(ended)).filter_map(|ended| ended.tpot), share)
    }

    /// Mean concurrency limit after the warm-up.
    #[must_use]
    pub fn limit_mean(&self) -> f64 {
        let within = |second: &&Second| (self.warm_up.as_secs()..self.end.as_secs()).contains(&second.at_s);
        let (sum, count) = self
            .seconds
            .iter()
            .filter(within)
            .fold((0.0, 0.0), |(sum, count), second| (sum + second.gauges.limit, count + 1.0));
        if count > 0.0 { sum / count } else { 0.0 }
    }

    /// Offered and met of `tier` in each second from the start to the end.
    #[must_use]
    pub fn by_second(&self, tier: Tier) -> Vec<(u32, u32)> {
        let mut seconds = vec![(0, 0); self.end.as_secs() as usize];
        for ended in self.ended.iter().filter(|ended| ended.tier == tier) {
            if let Some(second) = seconds.get_mut(ended.tried.as_secs() as usize) {
                second.0 += 1;
                second.1 += u32::from(ended.is_met());
            }
        }
        seconds
    }

    /// The figures of the run, for people and programs.
    #[must_use]
    pub fn summary(&self) -> Value {
        let tier = |tier: Tier| {
            let of = |ended: &Ended| ended.tier == tier;
            let (offered, met) = self.count(of);
            let missed = |outcome: Outcome| self.count(|ended| of(ended) && ended.outcome == outcome).0;
            let ms = |time: Duration| (time.as_secs_f64() * 1e4).round() / 10.0;
            let shed: BTreeMap<&str, u64> = self
                .shed()
                .into_iter()
                .filter(|((t, _), _)| *t == tier)
                .map(|((_, r), n)| (r.name(), n))
                .collect();
            json!({
                "offered": offered, "met": met, "attained": self.attained(tier), "shed": shed,
                "late": missed(Outcome::Late), "slow": missed(Outcome::Slow), "left": missed(Outcome::Left),
                "broken": missed(Outcome::Broken), "cut_off": missed(Outcome::CutOff),
                "ttft_ms": { "p50": ms(self.ttft(0.5, of)), "p99": ms(self.ttft(0.99, of)) },
                "tpot_ms": { "p50": ms(self.tpot(0.5, of)), "p99": ms(self.tpot(0.99, of)) },
            })
        };
        json!({
            "policy": self.policy, "priority": tier(Tier::Priority), "regular": tier(Tier::Regular),
            "goodput_per_s": self.goodput(), "goodput_tokens_per_s": self.goodput_tokens(), "waste": self.waste(),
            "limit_mean": self.limit_mean(), "inversions": self.inversions, "preemptions": self.preemptions,
            "at_rest": self.at_rest,
        })
    }
}

/// The smallest value that at least `share` of the values do not exceed; zero for none.
fn quantile(values: impl Iterator<Item = Duration>, share: f64) -> Duration {
    let mut values: Vec<Duration> = values.collect();
    values.sort_unstable();
    let rank = (share * values.len() as f64).ceil().max(1.0) as usize;
    values.get(rank - 1).copied().unwrap_or_default()
}
