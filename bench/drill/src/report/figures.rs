//! The figures of a drill: computed once, shown twice.
//!
//! Attainment is over offered tries. Times are of tries that had a first token. The time line has at most
//! [`BINS_MAX`] bins of whole seconds; a try belongs to the bin in which it arrived.

mod timeline;

use std::time::Duration;

use serde::Serialize;
use shedder::Tier;

use super::conclusion::conclusion;
use crate::judge::{self, Judged};
use crate::run::{Ended, Outcome, Run};
use crate::script::Drill;
use crate::script::check::Of;
use crate::sizing::enough::{self, Enough};

pub use timeline::{Bin, BudgetLine, Inner, Timeline};

/// Bins of a time line.
pub const BINS_MAX: u64 = 180;
/// Accounts that are shown by name.
const ACCOUNTS_MAX: usize = 20;
/// Points of a distribution.
const CDF_POINTS: usize = 120;
/// What counts as back to normal.
const RECOVERED: f64 = 0.99;
/// Above this the generator has slowed the load down by itself.
const LAG_MAX_MS: f64 = 50.0;

/// How a drill was played.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct How {
    /// `virtual`, `real` or `target`.
    pub mode: &'static str,
    /// In words.
    pub words: String,
    /// When: RFC 3339, UTC.
    pub at: String,
    /// Seconds that playing took.
    pub took_s: f64,
    /// How late requests were sent, ms: median and 99 %; zero in virtual time.
    pub lag_ms: [f64; 2],
    /// Requests that could not be sent, because too many were under way.
    pub unsent: u64,
}

/// Everything.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Version of the program.
    pub tidegate: String,
    /// The drill.
    pub drill: String,
    /// Its title.
    pub title: String,
    /// What it shows.
    pub shows: String,
    /// How it was played.
    pub how: How,
    /// Whether everything held.
    pub passed: bool,
    /// What happened, when, and what would have sufficed: a paragraph each.
    pub conclusion: Vec<String>,
    /// What would have sufficed, once it was looked for.
    pub enough: Option<Enough>,
    /// Why it ended before its time, if it did.
    pub ended_early: Option<String>,
    /// What the figures cannot be trusted for, if anything.
    pub warnings: Vec<String>,
    /// The conditions.
    pub checks: Vec<Judged>,
    /// Seconds of the whole drill, and those before requests are judged.
    pub duration_s: f64,
    /// See `duration_s`.
    pub warm_up_s: f64,
    /// Replicas, and their profile.
    pub replicas: u16,
    /// See `replicas`.
    pub profile: String,
    /// The service level, ms: first token, further tokens.
    pub slo_ms: [f64; 2],
    /// What happened, in order.
    pub events: Vec<Event>,
    /// By tier, highest first.
    pub tiers: Vec<TierFigures>,
    /// Requests within the service level per second.
    pub goodput_per_s: f64,
    /// Their output tokens per second.
    pub goodput_tokens_per_s: f64,
    /// Share of what the engines computed that was for requests that missed.
    pub waste: f64,
    /// Tries per request.
    pub tries_per_request: f64,
    /// Priority requests refused for load while a regular one as large was started.
    pub out_of_order: u64,
    /// Preemptions of the engines.
    pub preemptions: u64,
    /// By name of accounts.
    pub fairness: Vec<Fairness>,
    /// The accounts with the most tries.
    pub accounts: Vec<AccountFigures>,
    /// Second by second, or so.
    pub timeline: Timeline,
    /// Distributions.
    pub distributions: Vec<Distribution>,
    /// Share of what came within the accounts' own limits that was served within the service level.
    pub served: f64,
    /// The file that was played, word for word.
    pub scenario: String,
}

/// Something that happened, and how long until priority, and everybody, was served again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// When, seconds.
    pub at_s: f64,
    /// Until when.
    pub until_s: Option<f64>,
    /// What.
    pub label: String,
    /// Seconds from its end (or its beginning) until 99 % of priority attains for good.
    pub priority_recovered_s: Option<f64>,
    /// The same of all.
    pub all_recovered_s: Option<f64>,
}

/// One tier.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TierFigures {
    /// `priority`, `regular` or `flex`.
    pub tier: &'static str,
    /// Tries.
    pub offered: u64,
    /// Within the service level.
    pub met: u64,
    /// `met / offered`.
    pub attainment: f64,
    /// Answered, but late or slowly.
    pub late: u64,
    /// 503.
    pub shed: u64,
    /// 429.
    pub limited: u64,
    /// The client left.
    pub left: u64,
    /// Broken or cut off.
    pub failed: u64,
    /// Reasons of the 503s.
    pub reasons: Vec<(String, u64)>,
    /// Time to first token, ms: p50, p90, p99, p99.9.
    pub ttft_ms: [f64; 4],
    /// Mean time per further token, ms: the same.
    pub gap_ms: [f64; 4],
}

/// How equally the accounts of one name were served.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fairness {
    /// The name.
    pub accounts: String,
    /// How many they are.
    pub count: u32,
    /// Jain's index of the tokens served; 1 is equal.
    pub jain: f64,
}

/// One account.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AccountFigures {
    /// Its name.
    pub account: String,
    /// Tries.
    pub offered: u64,
    /// Within the service level.
    pub met: u64,
    /// 503.
    pub shed: u64,
    /// 429.
    pub limited: u64,
    /// Tokens generated for it.
    pub tokens: u64,
}

/// A distribution of times: of each of the points, that share is at most so many milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Distribution {
    /// `ttft` or `token_gap`.
    pub of: &'static str,
    /// The tier.
    pub tier: &'static str,
    /// Milliseconds and share, rising.
    pub points: Vec<(f64, f64)>,
}

impl Figures {
    /// `passed` or `failed`; `played` where nothing was to hold.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match self.passed {
            false => "failed",
            true if self.checks.is_empty() => "played",
            true => "passed",
        }
    }

    /// Adds what would have sufficed.
    pub fn conclude(&mut self, enough: Enough) {
        self.enough = Some(enough);
        self.conclusion = conclusion(self);
    }
}

/// Computes the figures of a drill that was played.
#[must_use]
pub fn figures(drill: &Drill, run: &Run, how: How, stopped: Option<String>) -> Figures {
    let checks = judge::judge(drill, run);
    let ended_early = stopped.or_else(|| run.interrupted.then(|| "it was interrupted".to_owned()));
    let scenario = &drill.scenario;
    let mut figures = Figures {
        tidegate: env!("CARGO_PKG_VERSION").to_owned(),
        drill: drill.name.clone(),
        title: drill.title.clone(),
        shows: drill.shows.clone(),
        passed: ended_early.is_none() && checks.iter().all(|check| check.ok),
        conclusion: Vec::new(),
        enough: None,
        warnings: warnings(&how, run),
        how,
        ended_early,
        checks,
        duration_s: scenario.end.as_secs_f64(),
        warm_up_s: scenario.warm_up.as_secs_f64(),
        replicas: scenario.replicas(),
        profile: scenario.fleet().profile.name.to_owned(),
        slo_ms: [ms(scenario.fleet().slo.ttft), ms(scenario.fleet().slo.tpot)],
        events: events(drill, run),
        tiers: Tier::ALL.map(|tier| tier_figures(run, tier)).to_vec(),
        goodput_per_s: run.goodput(),
        goodput_tokens_per_s: run.goodput_tokens(),
        waste: run.waste(),
        tries_per_request: judge::tries_per_request(run),
        out_of_order: run.inversions,
        preemptions: run.preemptions,
        fairness: fairness(drill, run),
        accounts: accounts(drill, run),
        timeline: timeline::timeline(drill, run),
        distributions: distributions(run),
        served: enough::served(run),
        scenario: drill.text.clone(),
    };
    figures.conclusion = conclusion(&figures);
    figures
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}

fn warnings(how: &How, run: &Run) -> Vec<String> {
    let mut warnings = Vec::new();
    if how.lag_ms[1] > LAG_MAX_MS || how.unsent > 0 {
        warnings.push(format!(
            "The load generator was the bottleneck: 1 % of the requests were sent {:.0} ms late or more, and {} not at \
             all. Times count from when a request was due, so the figures are worse than the system; repeat on a \
             machine with more cores, or with less load.",
            how.lag_ms[1], how.unsent
        ));
    }
    if run.judged().next().is_none() {
        warnings.push("No request was judged: the drill ended before its warm-up did.".to_owned());
    }
    warnings
}

fn events(drill: &Drill, run: &Run) -> Vec<Event> {
    let events = drill.marks.iter().map(|mark| {
        let after = mark.until.unwrap_or(mark.at).as_secs_f64();
        let priority = Of { tier: Some(Tier::Priority), ..Of::default() };
        let offers = drill.offers(Tier::Priority);
        Event {
            at_s: mark.at.as_secs_f64(),
            until_s: mark.until.map(|until| until.as_secs_f64()),
            label: mark.label.clone(),
            priority_recovered_s: judge::recovery_s(run, &priority, after, RECOVERED).filter(|_| offers),
            all_recovered_s: judge::recovery_s(run, &Of::default(), after, RECOVERED),
        }
    });
    let mut events: Vec<Event> = events.collect();
    events.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    events
}

fn tier_figures(run: &Run, tier: Tier) -> TierFigures {
    let of = |ended: &Ended| ended.tier == tier;
    let (offered, met) = run.count(of);
    let count = |chosen: fn(&Outcome) -> bool| run.count(|ended| of(ended) && chosen(&ended.outcome)).0;
    let shed = run.shed().into_iter().filter(|((shed_tier, _), _)| *shed_tier == tier);
    let reasons = shed.map(|((_, reason), count)| (reason.name().to_owned(), count));
    TierFigures {
        tier: tier.name(),
        offered,
        met,
        attainment: run.attained(tier),
        late: count(|outcome| matches!(outcome, Outcome::Late | Outcome::Slow)),
        shed: count(|outcome| matches!(outcome, Outcome::Shed(_))),
        limited: count(|outcome| matches!(outcome, Outcome::Limited(_))),
        left: count(|outcome| matches!(outcome, Outcome::Left)),
        failed: count(|outcome| matches!(outcome, Outcome::Broken | Outcome::CutOff)),
        reasons: reasons.collect(),
        ttft_ms: [0.5, 0.9, 0.99, 0.999].map(|share| ms(run.ttft(share, of))),
        gap_ms: [0.5, 0.9, 0.99, 0.999].map(|share| ms(run.tpot(share, of))),
    }
}

fn fairness(drill: &Drill, run: &Run) -> Vec<Fairness> {
    // Accounts that ask for unequal shares are served unequal ones, and that is fair.
    let groups = drill.groups.iter().filter(|group| group.count > 1 && group.zipf <= 0.0);
    let each = groups.map(|group| {
        let of = Of { accounts: Some((group.first, group.count)), ..Of::default() };
        Fairness { accounts: group.id.clone(), count: group.count, jain: judge::jain(run, &of) }
    });
    each.collect()
}

fn accounts(drill: &Drill, run: &Run) -> Vec<AccountFigures> {
    let mut by_account = std::collections::BTreeMap::<u32, [u64; 5]>::new();
    for ended in run.judged() {
        let [offered, met, shed, limited, tokens] = by_account.entry(ended.account).or_default();
        *offered += 1;
        *met += u64::from(ended.is_met());
        *shed += u64::from(matches!(ended.outcome, Outcome::Shed(_)));
        *limited += u64::from(matches!(ended.outcome, Outcome::Limited(_)));
        *tokens += u64::from(ended.tokens);
    }
    let mut accounts: Vec<(u32, [u64; 5])> = by_account.into_iter().collect();
    accounts.sort_by_key(|(account, figures)| (std::cmp::Reverse(figures[0]), *account));
    accounts.truncate(ACCOUNTS_MAX);
    let named = accounts.into_iter().map(|(account, [offered, met, shed, limited, tokens])| AccountFigures {
        account: drill.account(account),
        offered,
        met,
        shed,
        limited,
        tokens,
    });
    named.collect()
}

fn distributions(run: &Run) -> Vec<Distribution> {
    let mut all = Vec::new();
    for tier in Tier::ALL {
        let of_tier = || run.judged().filter(move |ended| ended.tier == tier);
        let ttft = of_tier().filter_map(|ended| ended.ttft).collect();
        let gap = of_tier().filter_map(|ended| ended.tpot).collect();
        for (of, times) in [("ttft", ttft), ("token_gap", gap)] {
            all.push(Distribution { of, tier: tier.name(), points: cdf(times) });
        }
    }
    all.retain(|distribution| !distribution.points.is_empty());
    all
}

/// At most [`CDF_POINTS`] points of the distribution, the smallest and the largest value among them.
fn cdf(mut times: Vec<Duration>) -> Vec<(f64, f64)> {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    let points = CDF_POINTS.min(times.len());
    let rank = |point: usize| if points > 1 { point * last / (points - 1) } else { 0 };
    let point = |point: usize| {
        let rank = rank(point);
        let share = (rank + 1) as f64 / times.len() as f64;
        times.get(rank).map(|time| (ms(*time), (share * 1e4).round() / 1e4))
    };
    (0..points).filter_map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_ends_at_its_largest_value() {
        let times = (1..=1000).rev().map(Duration::from_millis).collect();
        let points = cdf(times);
        assert_eq!(points.len(), CDF_POINTS);
        assert_eq!((points[0], points[CDF_POINTS - 1]), ((1.0, 0.001), (1000.0, 1.0)));
        assert_eq!(cdf(vec![Duration::from_millis(7)]), [(7.0, 1.0)]);
        assert!(cdf(Vec::new()).is_empty());
    }
}
