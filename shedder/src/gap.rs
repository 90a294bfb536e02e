//! The token-gap limit N: fewer requests when tokens come late, more when they come in time.
//!
//! A continuously batching engine slows every stream a little with each one it takes on, long before
//! anything fails, and the gap between tokens hardly depends on how long a prompt or an answer is. So the
//! gaps are watched and the limit is moved by their ratio to the target:
//!
//! ```text
//! r = gap / T           T = 0.85 × TPOT target, else 2.5 × the gap of a nearly idle replica
//! m += 0.2 · (r − m)                                     every 500 ms, with at least 5 samples
//! m > 1:  N ×= max(0.90, √(1 / m))
//! else, if more than 70 % was used or something waited for want of N:  N = 1.01·N + 0.5
//! memory short (preemption, or KV over 0.95):  N ×= 0.9, at most every 2 s
//! the engine queues (first tokens over twice their prediction, gaps in time):  N = requests with tokens
//! ```
//!
//! Routes without tokens give the ratio of time to first byte to twice its prediction instead of a gap.
//! Answers that do not stream show their gaps only at the end: when there are no others, a step waits for
//! half an answer, or the loop would act many times on one cause.
//!
//! Constants: a model of an 8B engine on an A100 (goodput 1.12 … 1.18 × its knee at twice the load, from a
//! start of 16 as of 256); faster loops were unstable there.
//!
//! # Guarantees
//!
//! - `1 <= N <= max`, and N is held at a fixed limit when there is one.
//! - No growth without samples, and none while less than 70 % is used and nobody waits.
//! - Every call is O(1) and does not allocate.

use std::time::Duration;

use crate::config::Config;

/// The limit of a replica never exceeds this many requests.
pub(crate) const LIMIT_MAX: f64 = 1024.0;
const STEP: Duration = Duration::from_millis(500);
const SAMPLES_MIN: u32 = 5;
/// Below the target, so that the mean of a whole answer stays inside it.
const TARGET_OF_SLO: f64 = 0.85;
const TARGET_OF_IDLE_GAP: f64 = 2.5;
/// With so few streams the gap is that of the model and the hardware alone.
const NEARLY_IDLE: u32 = 2;
const SILENCE: Duration = Duration::from_secs(10);
const LOSS_EVERY: Duration = Duration::from_secs(2);
/// After the engine was seen to queue, its number of slots is taken as known for this long.
const HOLD: Duration = Duration::from_secs(5);

/// Time over tokens.
#[derive(Debug, Clone, Copy, Default)]
struct Samples {
    seconds: f64,
    tokens: f64,
    count: u32,
}

impl Samples {
    fn mean(self) -> Option<f64> {
        (self.count >= SAMPLES_MIN && self.tokens > 0.0).then(|| self.seconds / self.tokens)
    }
}

/// What moved the limit in a step, for those who ask why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Held,
    Grew,
    Shrank,
}

/// The limit of one replica.
#[derive(Debug, Clone)]
pub(crate) struct GapLimit {
    limit: f64,
    start: f64,
    fixed: Option<f64>,
    target_slo: Option<f64>,
    gap_idle: Option<f64>,
    /// Smoothed ratio of gap to target.
    mean: f64,
    /// Smoothed gap in seconds, to be shown.
    gap: Option<f64>,
    gaps: Samples,
    /// Gaps stretched by prefill, apart.
    gaps_in_prefill: Samples,
    /// Ratios of first bytes to twice their prediction.
    ratios: Samples,
    streamed: bool,
    answer: f64,
    used: u32,
    wanted: bool,
    loss: bool,
    cap_share: f64,
    stepped: Duration,
    sampled: Duration,
    shrank_for_loss: Duration,
    grow_after: Duration,
}

impl GapLimit {
    pub(crate) fn new(now: Duration, config: &Config) -> Self {
        Self {
            limit: config.fixed_limit.unwrap_or(config.limit_start),
            start: config.limit_start,
            fixed: config.fixed_limit,
            target_slo: config.slo.map(|slo| TARGET_OF_SLO * slo.tpot.as_secs_f64()),
            gap_idle: None,
            mean: 0.5,
            gap: None,
            gaps: Samples::default(),
            gaps_in_prefill: Samples::default(),
            ratios: Samples::default(),
            streamed: false,
            answer: 0.0,
            used: 0,
            wanted: false,
            loss: false,
            cap_share: 1.0,
            stepped: now,
            sampled: now,
            shrank_for_loss: now,
            grow_after: now,
        }
    }

    /// N, requests.
    pub(crate) fn limit(&self) -> f64 {
        self.limit
    }

    /// Smoothed time per token.
    pub(crate) fn gap(&self) -> Option<Duration> {
        self.gap.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }

    /// The part of the backlog cap that long prefills leave to this replica, 0.5 … 1.
    pub(crate) fn cap_share(&self) -> f64 {
        self.cap_share
    }

    /// Whether tokens come in time, as far as known.
    pub(crate) fn in_time(&self) -> bool {
        self.mean <= 1.0
    }

    /// Gaps of a stream: `seconds` for `tokens`, in `count` samples; `in_prefill` while more than one step
    /// of prompt was being computed.
    pub(crate) fn on_gaps(&mut self, now: Duration, seconds: f64, tokens: f64, count: u32, in_prefill: bool) {
        let samples = if in_prefill { &mut self.gaps_in_prefill } else { &mut self.gaps };
        samples.seconds += seconds;
        samples.tokens += tokens;
        samples.count = samples.count.saturating_add(count);
        self.streamed = true;
        self.sampled = now;
    }

    /// An answer that did not stream: one sample of low weight for the whole of it.
    pub(crate) fn on_answer(&mut self, now: Duration, seconds_per_token: f64, duration: Duration) {
        self.gaps.seconds += seconds_per_token;
        self.gaps.tokens += 1.0;
        self.gaps.count = self.gaps.count.saturating_add(1);
        self.answer += 0.2 * (duration.as_secs_f64() - self.answer);
        self.sampled = now;
    }

    /// An answer without tokens: its time to first byte over twice the prediction.
    pub(crate) fn on_first_byte(&mut self, now: Duration, ratio: f64) {
        self.ratios.seconds += ratio;
        self.ratios.tokens += 1.0;
        self.ratios.count = self.ratios.count.saturating_add(1);
        self.sampled = now;
    }

    /// So many places are in use now.
    pub(crate) fn on_used(&mut self, active: u32) {
        self.used = self.used.max(active);
    }

    /// A request waited, or was shed, for want of N.
    pub(crate) fn on_wanted(&mut self) {
        self.wanted = true;
    }

    /// The engine preempted, or its memory is nearly full, or it refused a request.
    pub(crate) fn on_loss(&mut self) {
        self.loss = true;
    }

    /// The engine keeps requests waiting inside although gaps are in time: it has about `slots` slots.
    pub(crate) fn on_engine_queue(&mut self, now: Duration, slots: u32) {
        if self.fixed.is_none() && self.in_time() && f64::from(slots) < self.limit {
            self.limit = f64::from(slots.max(1));
            self.grow_after = now + HOLD;
        }
    }

    /// One step of the loop, when one is due. `max`: the engine's slots, `active`: places in use.
    pub(crate) fn step(&mut self, now: Duration, max: f64, active: u32) -> Step {
        let alone = (self.answer > 0.0 && !self.streamed && self.gaps.count > 0).then_some(self.answer / 2.0);
        let every = STEP.max(Duration::try_from_secs_f64(alone.unwrap_or(0.0)).unwrap_or(STEP));
        if now.saturating_sub(self.stepped) < every {
            return Step::Held;
        }
        self.stepped = now;
        let before = self.limit;
        self.learn_idle_gap(active);
        let sampled = self.take_samples();
        if now.saturating_sub(self.sampled) >= SILENCE {
            self.fall_back();
        } else {
            self.move_limit(now, sampled, active);
        }
        self.used = active;
        self.wanted = false;
        self.loss = false;
        self.limit = self.fixed.unwrap_or_else(|| self.limit.clamp(1.0, max.clamp(1.0, LIMIT_MAX)));
        match self.limit.total_cmp(&before) {
            std::cmp::Ordering::Less => Step::Shrank,
            std::cmp::Ordering::Equal => Step::Held,
            std::cmp::Ordering::Greater => Step::Grew,
        }
    }

    /// An idle hour proves nothing: forget what was measured and drift back.
    fn fall_back(&mut self) {
        self.mean = 0.5;
        self.limit += 0.05 * (self.start - self.limit);
    }

    fn move_limit(&mut self, now: Duration, sampled: bool, active: u32) {
        if self.loss && now.saturating_sub(self.shrank_for_loss) >= LOSS_EVERY {
            // Running streams keep the memory full for a while after the limit fell; half of them is
            // as far as one cause may take it.
            self.limit = (0.9 * self.limit).max(f64::from(active) / 2.0);
            self.shrank_for_loss = now;
        } else if sampled && self.mean > 1.0 {
            self.limit *= (1.0 / self.mean).sqrt().max(0.90);
        } else if sampled && !self.loss && now >= self.grow_after {
            let busy = f64::from(self.used) > 0.7 * self.limit;
            if busy || self.wanted {
                self.limit = 1.01 * self.limit + 0.5;
            }
        }
    }

    fn target(&self) -> Option<f64> {
        self.target_slo.or_else(|| self.gap_idle.map(|gap| TARGET_OF_IDLE_GAP * gap))
    }

    /// Without a target the gap of a nearly idle replica is the measure; a replica that never was idle
    /// gives the smallest gap it has shown, which is too lenient at first and never too strict.
    fn learn_idle_gap(&mut self, active: u32) {
        let Some(gap) = self.gaps.mean() else { return };
        self.gap_idle = Some(match self.gap_idle {
            Some(idle) if self.used.max(active) <= NEARLY_IDLE => idle + 0.2 * (gap - idle),
            Some(idle) => idle.min(gap),
            None => gap,
        });
    }

    /// Folds what was collected into the means. Too few samples stay for the next step.
    fn take_samples(&mut self) -> bool {
        let target = self.target();
        let mut sampled = false;
        if let Some(gap) = self.gaps.mean() {
            let shown = self.gap.unwrap_or(gap);
            self.gap = Some(shown + 0.2 * (gap - shown));
            if let Some(target) = target {
                self.mean += 0.2 * (gap / target - self.mean);
                sampled = true;
            }
            self.gaps = Samples::default();
            self.streamed = false;
        }
        if let Some(ratio) = self.ratios.mean() {
            self.mean += 0.2 * (ratio - self.mean);
            self.ratios = Samples::default();
            sampled = true;
        }
        if let Some(gap) = self.gaps_in_prefill.mean() {
            let late = target.is_some_and(|target| gap > target);
            self.cap_share = (self.cap_share + if late { -0.05 } else { 0.05 }).clamp(0.5, 1.0);
            self.gaps_in_prefill = Samples::default();
        }
        sampled
    }
}
