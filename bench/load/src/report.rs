//! What became of the offered requests: counters that can be read while they grow, and a report at the end.
//!
//! Attainment is over *offered* requests: one that was refused, broken or not even sent did not attain. Times to the
//! first token and in total run from when the request was *due*, so a generator that falls behind makes its target
//! look worse, not better; how far it fell behind is in the report too.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::check::Corruption;
use engine::workload::Size;

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum End {
    /// Whole and correct.
    Complete,
    /// An error status.
    Refused,
    /// An error event inside a stream.
    StreamError,
    /// The client left, as planned.
    Abandoned,
    /// No connection.
    Connect,
    /// The connection ended before the answer did.
    Truncated,
    /// No end in time.
    Timeout,
    /// Whole but wrong.
    Corrupt(Corruption),
    /// Not sent, because too many were under way.
    Unsent,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// In order of arrival, from 0.
    pub number: u64,
    /// Which of the plan's callers.
    pub caller: usize,
    /// When it was due, from the start of the run.
    pub due: Duration,
    /// How much later it was sent.
    pub lag: Duration,
    /// Prompt and answer tokens.
    pub size: Size,
    /// Whether it streamed.
    pub streaming: bool,
    /// How often it was sent.
    pub attempts: u32,
    /// The last status; 0: none.
    pub status: u16,
    /// `x-tidegate-reason` of a refusal.
    pub reason: Option<String>,
    /// What the last refusal said about when to come again.
    pub retry_after: Option<Duration>,
    /// How it ended.
    pub end: End,
    /// From due to the first token.
    pub ttft: Option<Duration>,
    /// Mean time per token after the first.
    pub tpot: Option<Duration>,
    /// From the (last) sending to the end.
    pub latency: Duration,
    /// From due to the end.
    pub total: Duration,
    /// Tokens received.
    pub tokens: u32,
    /// Complete and in time.
    pub attained: bool,
}

/// One tier's counters while a run goes on. Read at any time from any thread.
#[derive(Debug, Default)]
pub struct LiveTier {
    /// The tier's name.
    pub name: String,
    /// Requests due so far.
    pub offered: AtomicU64,
    /// Requests under way (waiting to retry, too).
    pub in_flight: AtomicU64,
    /// Complete and in time.
    pub attained: AtomicU64,
    /// Complete, in time or not.
    pub completed: AtomicU64,
    /// Answers with 429, retried ones included.
    pub refused_429: AtomicU64,
    /// Answers with 503, retried ones included.
    pub refused_503: AtomicU64,
    /// Ended in any other way.
    pub failed: AtomicU64,
    /// Tokens received.
    pub tokens: AtomicU64,
    /// Sum of the times to the first token, microseconds, and their number.
    pub ttft_us: AtomicU64,
    /// See `ttft_us`.
    pub ttft_count: AtomicU64,
}

/// All tiers' counters while a run goes on.
#[derive(Debug, Default)]
pub struct LiveStats {
    /// In the order of [`LoadPlan::tiers`](crate::LoadPlan::tiers).
    pub tiers: Vec<LiveTier>,
}

impl LiveStats {
    /// All zero.
    #[must_use]
    pub fn new(tiers: Vec<String>) -> Self {
        Self { tiers: tiers.into_iter().map(|name| LiveTier { name, ..LiveTier::default() }).collect() }
    }

    pub(super) fn ended(&self, tier: usize, outcome: &Outcome) {
        let Some(live) = self.tiers.get(tier) else { return };
        live.in_flight.fetch_sub(1, Relaxed);
        match outcome.end {
            End::Complete => {
                live.completed.fetch_add(1, Relaxed);
                live.attained.fetch_add(u64::from(outcome.attained), Relaxed);
            }
            End::Refused if matches!(outcome.status, 429 | 503) => {}
            _ => {
                live.failed.fetch_add(1, Relaxed);
            }
        }
    }
}

/// A distribution of times in numbers, milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// How many were measured.
    pub count: u64,
    /// Mean.
    pub mean_ms: f64,
    /// Median.
    pub p50_ms: f64,
    /// 90 % are below.
    pub p90_ms: f64,
    /// 99 % are below.
    pub p99_ms: f64,
    /// 99.9 % are below.
    pub p999_ms: f64,
    /// The largest.
    pub max_ms: f64,
}

/// A distribution of times while it grows: microseconds, three digits.
#[derive(Debug, Clone)]
pub struct Times(Histogram<u64>);

/// Longer times are recorded as this.
const TIME_MAX_US: u64 = 3_600_000_000;

impl Default for Times {
    #[expect(clippy::expect_used, reason = "the bounds are constants and good ones")]
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, TIME_MAX_US, 3).expect("1 us to one hour with three digits"))
    }
}

impl Times {
    /// Adds one; longer ones than an hour as an hour. O(1), does not allocate.
    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record((time.as_micros() as u64).clamp(1, TIME_MAX_US));
    }

    /// In numbers.
    #[must_use]
    pub fn quantiles(&self) -> Quantiles {
        let ms = |us: u64| us as f64 / 1e3;
        if self.0.is_empty() {
            return Quantiles::default();
        }
        Quantiles {
            count: self.0.len(),
            mean_ms: self.0.mean() / 1e3,
            p50_ms: ms(self.0.value_at_quantile(0.5)),
            p90_ms: ms(self.0.value_at_quantile(0.9)),
            p99_ms: ms(self.0.value_at_quantile(0.99)),
            p999_ms: ms(self.0.value_at_quantile(0.999)),
            max_ms: ms(self.0.max()),
        }
    }
}

/// One tier, or all of them together.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Requests that were due.
    pub offered: u64,
    /// Complete and in time.
    pub attained: u64,
    /// `attained / offered`; 1 where nothing was offered.
    pub attainment: f64,
    /// Attained requests per second of the run.
    pub goodput_per_s: f64,
    /// Tokens of attained requests per second of the run.
    pub goodput_tokens_per_s: f64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// By the way they ended.
    pub ends: BTreeMap<String, u64>,
    /// By their last status; 0: none.
    pub statuses: BTreeMap<u16, u64>,
    /// Refusals by `x-tidegate-reason`.
    pub reasons: BTreeMap<String, u64>,
    /// Tokens received.
    pub tokens: u64,
    /// Due to first token.
    pub ttft: Quantiles,
    /// Between content chunks.
    pub gap: Quantiles,
    /// Mean time per token after the first, one sample per answer.
    pub tpot: Quantiles,
    /// Sending to end, of complete answers.
    pub latency: Quantiles,
    /// Due to end, of complete answers.
    pub total: Quantiles,
    /// Sending to refusal, of refused ones.
    pub refusal: Quantiles,
    /// What refusals said about when to come again.
    pub retry_after: Quantiles,
}

impl Summary {
    /// Requests whose last status was this.
    #[must_use]
    pub fn status(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or(0)
    }
}

/// One second of a run, by the time at which requests were due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Second {
    /// Due.
    pub offered: u32,
    /// Of them, attained.
    pub attained: u32,
    /// Of them, answered with 429.
    pub refused_429: u32,
    /// Of them, answered with 503.
    pub refused_503: u32,
    /// Of them, ended in any other way than complete.
    pub failed: u32,
}

/// A run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// From the start to the last end, seconds.
    pub elapsed_s: f64,
    /// All requests.
    pub all: Summary,
    /// By tier.
    pub tiers: BTreeMap<String, Summary>,
    /// By tier and second of the run, at most a day of them.
    pub timeline: BTreeMap<String, Vec<Second>>,
    /// How much later than due requests were sent.
    pub lag: Quantiles,
    /// The generator itself was too slow, and how: no figure of such a run says anything about the target.
    pub bottleneck: Option<String>,
    /// Each request, if the plan asked for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<Outcome>,
}

/// Seconds of timeline.
const TIMELINE_MAX: usize = 86_400;

/// Requests sent later than this (99 % of them earlier) make the run void: a twentieth of the usual bound of 2 s.
const LAG_P99_MAX_MS: f64 = 100.0;

/// Sums up outcomes as they come.
#[derive(Debug)]
pub(super) struct Recorder {
    tiers: Vec<Collected>,
    lag: Times,
    unsent: u64,
    keep: bool,
    outcomes: Vec<Outcome>,
}

#[derive(Debug)]
struct Collected {
    name: String,
    summary: Summary,
    goodput_tokens: u64,
    times: [Times; 7],
    timeline: Vec<Second>,
}

impl Recorder {
    pub(super) fn new(tiers: Vec<String>, keep: bool) -> Self {
        let tiers = tiers.into_iter().map(Collected::new).collect();
        Self { tiers, lag: Times::default(), unsent: 0, keep, outcomes: Vec::new() }
    }

    pub(super) fn gap(&mut self, tier: usize, gap: Duration) {
        if let Some(tier) = self.tiers.get_mut(tier) {
            let [_, gaps, ..] = &mut tier.times;
            gaps.record(gap);
        }
    }

    pub(super) fn outcome(&mut self, tier: usize, outcome: Outcome) {
        if outcome.end == End::Unsent {
            self.unsent += 1;
        } else {
            self.lag.record(outcome.lag);
        }
        if let Some(tier) = self.tiers.get_mut(tier) {
            tier.add(&outcome);
        }
        if self.keep {
            self.outcomes.push(outcome);
        }
    }

    pub(super) fn report(mut self, elapsed: Duration) -> Report {
        let mut all = Collected::new(String::new());
        let mut report =
            Report { elapsed_s: elapsed.as_secs_f64(), lag: self.lag.quantiles(), ..Report::default() };
        for tier in self.tiers {
            all.merge(&tier);
            report.timeline.insert(tier.name.clone(), tier.timeline.clone());
            report.tiers.insert(tier.name.clone(), tier.finish(elapsed));
        }
        report.all = all.finish(elapsed);
        report.bottleneck = if self.unsent > 0 {
            Some(format!("{} requests were not sent: too many were under way", self.unsent))
        } else if report.lag.p99_ms > LAG_P99_MAX_MS {
            Some(format!("1 % of the requests were sent over {:.0} ms late", report.lag.p99_ms))
        } else {
            None
        };
        self.outcomes.sort_by_key(|outcome| outcome.number);
        report.outcomes = self.outcomes;
        report
    }
}

impl Collected {
    fn new(name: String) -> Self {
        let times = std::array::from_fn(|_| Times::default());
        Self { name, summary: Summary::default(), goodput_tokens: 0, times, timeline: Vec::new() }
    }

    fn add(&mut self, outcome: &Outcome) {
        let summary = &mut self.summary;
        summary.offered += 1;
        summary.attained += u64::from(outcome.attained);
        summary.retries += u64::from(outcome.attempts.saturating_sub(1));
        summary.tokens += u64::from(outcome.tokens);
        self.goodput_tokens += if outcome.attained { u64::from(outcome.tokens) } else { 0 };
        let end = match &outcome.end {
            End::Corrupt(corruption) => format!("corrupt: {corruption}"),
            end => format!("{end:?}").to_lowercase(),
        };
        *summary.ends.entry(end).or_default() += 1;
        *summary.statuses.entry(outcome.status).or_default() += 1;
        if let Some(reason) = &outcome.reason {
            *summary.reasons.entry(reason.clone()).or_default() += 1;
        }
        let [ttft, _, tpot, latency, total, refusal, retry_after] = &mut self.times;
        outcome.ttft.into_iter().for_each(|time| ttft.record(time));
        outcome.tpot.into_iter().for_each(|time| tpot.record(time));
        outcome.retry_after.into_iter().for_each(|time| retry_after.record(time));
        match outcome.end {
            End::Complete => {
                latency.record(outcome.latency);
                total.record(outcome.total);
            }
            End::Refused => refusal.record(outcome.latency),
            _ => {}
        }
        self.add_second(outcome);
    }

    fn add_second(&mut self, outcome: &Outcome) {
        let second = outcome.due.as_secs() as usize;
        if second >= TIMELINE_MAX {
            return;
        }
        if self.timeline.len() <= second {
            self.timeline.resize(second + 1, Second::default());
        }
        let Some(second) = self.timeline.get_mut(second) else { return };
        second.offered += 1;
        second.attained += u32::from(outcome.attained);
        match (&outcome.end, outcome.status) {
            (End::Complete, _) => {}
            (End::Refused, 429) => second.refused_429 += 1,
            (End::Refused, 503) => second.refused_503 += 1,
            _ => second.failed += 1,
        }
    }

    fn merge(&mut self, other: &Self) {
        let (summary, more) = (&mut self.summary, &other.summary);
        summary.offered += more.offered;
        summary.attained += more.attained;
        summary.retries += more.retries;
        summary.tokens += more.tokens;
        self.goodput_tokens += other.goodput_tokens;
        more.ends.iter().for_each(|(end, n)| *summary.ends.entry(end.clone()).or_default() += n);
        more.statuses.iter().for_each(|(status, n)| *summary.statuses.entry(*status).or_default() += n);
        more.reasons.iter().for_each(|(reason, n)| *summary.reasons.entry(reason.clone()).or_default() += n);
        for (times, more) in self.times.iter_mut().zip(&other.times) {
            // Same bounds, so nothing can be out of range.
            let _ = times.0.add(&more.0);
        }
    }

    fn finish(mut self, elapsed: Duration) -> Summary {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let summary = &mut self.summary;
        summary.attainment =
            if summary.offered == 0 { 1.0 } else { summary.attained as f64 / summary.offered as f64 };
        summary.goodput_per_s = summary.attained as f64 / seconds;
        summary.goodput_tokens_per_s = self.goodput_tokens as f64 / seconds;
        let quantiles = self.times.each_ref().map(Times::quantiles);
        [
            summary.ttft,
            summary.gap,
            summary.tpot,
            summary.latency,
            summary.total,
            summary.refusal,
            summary.retry_after,
        ] = quantiles;
        self.summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(number: u64, due_s: u64, status: u16, end: End, attained: bool) -> Outcome {
        Outcome {
            number,
            caller: 0,
            due: Duration::from_secs(due_s),
            lag: Duration::from_millis(1),
            size: Size { prompt_tokens: 1, output_tokens: 10 },
            streaming: true,
            attempts: 1,
            status,
            reason: None,
            retry_after: None,
            end,
            ttft: Some(Duration::from_millis(100)),
            tpot: None,
            latency: Duration::from_millis(200),
            total: Duration::from_millis(200),
            tokens: 10,
            attained,
        }
    }

    #[test]
    fn attainment_is_over_all_that_was_offered() {
        let mut recorder = Recorder::new(vec!["priority".into(), "regular".into()], true);
        recorder.outcome(0, outcome(0, 0, 200, End::Complete, true));
        recorder.outcome(1, outcome(2, 1, 503, End::Refused, false));
        recorder.outcome(1, outcome(1, 1, 200, End::Complete, true));

        let report = recorder.report(Duration::from_secs(2));

        assert_eq!(report.tiers["priority"].attainment, 1.0);
        assert_eq!(report.tiers["regular"].attainment, 0.5);
        assert_eq!(report.all.goodput_tokens_per_s, 10.0);
        assert_eq!(report.all.status(503), 1);
        assert_eq!(report.timeline["regular"][1].refused_503, 1);
        assert_eq!(report.all.ttft.count, 3);
        assert!((report.all.ttft.p50_ms - 100.0).abs() < 0.1);
        assert_eq!(report.bottleneck, None);
        assert!(report.outcomes.is_sorted_by_key(|outcome| outcome.number));
    }

    #[test]
    fn a_generator_that_fell_behind_says_so() {
        let mut late = Recorder::new(vec!["regular".into()], false);
        late.outcome(
            0,
            Outcome { lag: Duration::from_millis(300), ..outcome(0, 0, 200, End::Complete, true) },
        );
        assert!(late.report(Duration::from_secs(1)).bottleneck.is_some_and(|why| why.contains("late")));

        let mut full = Recorder::new(vec!["regular".into()], false);
        full.outcome(0, outcome(0, 0, 0, End::Unsent, false));
        assert!(full.report(Duration::from_secs(1)).bottleneck.is_some_and(|why| why.contains("not sent")));
    }
}
