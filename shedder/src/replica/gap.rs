//! The token-gap limit N: fewer requests when tokens come late, more when they come in time.
//!
//! A continuously batching engine slows every stream a little with each one it takes on, long before
//! anything fails, and the gap between tokens hardly depends on how long a prompt or an answer is. So the
//! gaps are watched and the limit is moved by their ratio to the target:
//!
//! ```text
//! T = idle + 0.72 · (TPOT target − idle), at most 0.98 of it; idle: the gap of a nearly idle replica
//! no target: T = 2.5 · idle, at least 75 ms
//! m = time / tokens / T            both smoothed, by tokens / 400, from 0.33 to 0.45, every 500 ms with at least 5 samples
//! m > 1:  N ×= max(0.90, √(1 / m))                       0.98 while a very long prompt is computed;
//!         and N ≥ 0.9 · requests that run: N falls no faster than they end
//! else, if more than 70 % was used or something waited for want of N:  N = 1.01·N + 0.5, slower near an edge (`plateau`)
//! memory short (preemption, or KV over 0.95):  N ×= 0.9, at most every 2 s
//! the engine queues (first tokens over twice their prediction, gaps in time):  N = requests with tokens (`slots`)
//! ```
//!
//! T is a part of what an idle engine leaves of the target, because N moves only that: on a card whose weights alone take
//! 85 ms per token, a target of 75 ms would shrink N to 1 and gain nothing.
//!
//! Time and tokens are smoothed each by itself, because an answer is in time by all of its time over all of its tokens: a
//! step in which a prompt is computed is long and yields few tokens. The mean of the gaps of steps would count it as much as a
//! step full of tokens, and a slow card, where one prompt fills a step, would be held at half of what it bears.
//!
//! Routes without tokens give the ratio of time to first byte to twice its prediction instead of a gap.
//! Answers that do not stream show their gaps only at the end: when there are no others, a step waits for
//! half an answer, or the loop would act many times on one cause.
//!
//! Gaps count whatever stretches them. Prefill is part of what a stream costs, so leaving out the gaps of
//! busy moments would let N grow far beyond what the target bears (measured: priority within its target
//! fell from 99.8 to 87 % at twice the load). Only a prompt longer than every backlog cap is special: fewer
//! streams would not shorten its steps, so while one is computed N gives way slowly, and one such prompt
//! does not empty a replica.
//!
//! Constants are from a model of four 8B engines (see the tests' `sim`), which keeps 0.95 of the best fixed
//! N at twice and three times the knee, from a start of 16 as of 256.
//!
//! # Guarantees
//!
//! - `1 <= N <= max`, and N is held at a fixed limit when there is one.
//! - No growth without samples, and none while less than 70 % is used and nobody waits.
//! - Every call is O(1) and does not allocate.

use std::time::Duration;

use super::plateau::Plateau;
use super::slots::Slots;
use crate::config::Config;
use crate::learned::{LearnedReplica, sane};

/// The limit of a replica never exceeds this many requests.
pub(crate) const LIMIT_MAX: f64 = 1024.0;
const STEP: Duration = Duration::from_millis(500);
/// The weight of a step: about the last 400 tokens, and the last 1 to 1.5 s. Slower overshoots (priority loses short answers),
/// faster follows single long prompts, the more so where steps have few tokens.
const TOKENS_REMEMBERED: f64 = 400.0;
const SMOOTHING: (f64, f64) = (0.33, 0.45);
/// The same for routes without tokens.
const SMOOTHING_OF_RATIOS: f64 = 0.3;
const SAMPLES_MIN: u32 = 5;
/// A step counts as so many times the target at most: what stops every stream for longer, a prompt or a pause, would not be
/// shorter with fewer of them.
const RATIO_MAX: f64 = 2.0;
/// The part of what an idle engine leaves of the target. Below all of it, so that the mean of a short answer stays in time
/// too: an answer of ten tokens has seen few steps, and some of them were full of prompts.
const TARGET_OF_REST: f64 = 0.72;
const TARGET_OF_SLO_MAX: f64 = 0.98;
/// While no gap is known.
const TARGET_OF_SLO: f64 = 0.75;
const TARGET_OF_IDLE_GAP: f64 = 2.5;
/// Faster than anybody reads: without a target, tokens need not come faster than this, seconds.
const TARGET_UNSET_MIN_S: f64 = 0.075;
/// With so few streams the gap is that of the model and the hardware alone.
const NEARLY_IDLE: u32 = 2;
/// The least factor of a step down, and the least while a very long prompt is being computed.
const SHRINK: f64 = 0.90;
const SHRINK_STRETCHED: f64 = 0.98;
/// Gaps are those of the requests that run; N is not lowered further for them before they are fewer.
const SHRINK_OF_ACTIVE: f64 = 0.9;
/// The part of the way back to the start that a replica goes in a step when nothing is heard of it.
const BACK: f64 = 0.05;
const SILENCE: Duration = Duration::from_secs(10);
const LOSS_EVERY: Duration = Duration::from_secs(2);

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

/// The configured target in seconds per token.
fn tpot_of(config: &Config) -> Option<f64> {
    config.slo.map(|slo| slo.tpot.as_secs_f64()).filter(|&seconds| seconds > 0.0)
}

/// The limit of one replica.
#[derive(Debug, Clone)]
pub(crate) struct GapLimit {
    limit: f64,
    start: f64,
    fixed: Option<f64>,
    tpot_slo: Option<f64>,
    gap_idle: Option<f64>,
    /// Smoothed ratio of gap to target.
    mean: f64,
    /// Smoothed time and tokens of a step; zero before the first.
    smoothed: (f64, f64),
    /// Smoothed gap in seconds, to be shown.
    gap: Option<f64>,
    gaps: Samples,
    /// Some of them were stretched by a very long prompt.
    stretched: bool,
    /// Ratios of first bytes to twice their prediction.
    ratios: Samples,
    streamed: bool,
    answer: f64,
    used: u32,
    wanted: bool,
    loss: bool,
    stepped: Duration,
    sampled: Duration,
    shrank_for_loss: Duration,
    slots: Slots,
    plateau: Plateau,
}

impl GapLimit {
    pub(crate) fn new(now: Duration, config: &Config) -> Self {
        Self {
            limit: config.fixed_limit.unwrap_or(config.limit_start),
            start: config.limit_start,
            fixed: config.fixed_limit,
            tpot_slo: tpot_of(config),
            gap_idle: None,
            mean: 0.5,
            smoothed: (0.0, 0.0),
            gap: None,
            gaps: Samples::default(),
            stretched: false,
            ratios: Samples::default(),
            streamed: false,
            answer: 0.0,
            used: 0,
            wanted: false,
            loss: false,
            stepped: now,
            sampled: now,
            shrank_for_loss: now,
            slots: Slots::new(now),
            plateau: Plateau::default(),
        }
    }

    /// Takes over what the configuration says now. What was measured stays: the smoothed ratio is carried over to the
    /// new target.
    pub(crate) fn reconfigure(&mut self, config: &Config) {
        let before = self.target();
        self.tpot_slo = tpot_of(config);
        if let (Some(before), Some(after)) = (before, self.target()) {
            self.mean *= before / after;
        }
        self.start = config.limit_start;
        self.fixed = config.fixed_limit;
        self.limit = self.fixed.unwrap_or(self.limit);
    }

    /// What is known, for another process.
    pub(crate) fn export(&self, now: Duration, to: &mut LearnedReplica) {
        to.limit = Some(self.limit);
        to.gap_ratio = Some(self.mean);
        to.step = (self.smoothed.1 > 0.0).then_some(self.smoothed);
        to.gap_s = self.gap;
        to.gap_idle_s = self.gap_idle;
        to.slots = self.slots.export(now);
    }

    /// Goes on with what another process knows. A limit that is held here stays.
    pub(crate) fn adopt(&mut self, now: Duration, known: &LearnedReplica) {
        self.limit = self.fixed.or(sane(known.limit, 1.0, LIMIT_MAX)).unwrap_or(self.limit);
        self.mean = sane(known.gap_ratio, 0.0, RATIO_MAX).unwrap_or(self.mean);
        let is_sane = |(seconds, tokens): &(f64, f64)| {
            seconds.is_finite() && tokens.is_finite() && *seconds >= 0.0 && *tokens > 0.0
        };
        self.smoothed = known.step.filter(is_sane).unwrap_or(self.smoothed);
        self.gap = sane(known.gap_s, 1e-6, 60.0).or(self.gap);
        self.gap_idle = sane(known.gap_idle_s, 1e-6, 60.0).or(self.gap_idle);
        (self.stepped, self.sampled) = (now, now);
        if let Some(slots) = &known.slots {
            self.slots.adopt(now, slots);
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

    /// Seconds that a token may take, as configured or learnt.
    pub(crate) fn tpot(&self) -> Option<f64> {
        self.tpot_slo.or_else(|| self.target())
    }

    /// Whether tokens come in time, as far as known.
    pub(crate) fn in_time(&self) -> bool {
        self.mean <= 1.0
    }

    /// Gaps of a stream: `seconds` for `tokens`, in `count` samples; `stretched` while a very long prompt
    /// was being computed.
    pub(crate) fn on_gaps(&mut self, now: Duration, seconds: f64, tokens: f64, count: u32, stretched: bool) {
        self.gaps.seconds += seconds;
        self.gaps.tokens += tokens;
        self.gaps.count = self.gaps.count.saturating_add(count);
        self.stretched |= stretched;
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
            self.slots.on_engine_queue(now, self.limit);
        }
    }

    /// Whether N is as large as it may be for another reason than gaps: it is held, or the engine was seen to queue.
    pub(crate) fn is_hard(&self) -> bool {
        self.fixed.is_some() || self.slots.is_known()
    }

    /// One step of the loop, when one is due. `max`: the engine's slots, `active`: places in use.
    pub(crate) fn step(&mut self, now: Duration, max: f64, active: u32) {
        let alone = (self.answer > 0.0 && !self.streamed && self.gaps.count > 0).then_some(self.answer / 2.0);
        let every = STEP.max(Duration::try_from_secs_f64(alone.unwrap_or(0.0)).unwrap_or(STEP));
        if now.saturating_sub(self.stepped) < every {
            return;
        }
        self.stepped = now;
        self.learn_idle_gap(active);
        let sampled = self.take_samples();
        if now.saturating_sub(self.sampled) >= SILENCE {
            self.fall_back();
        } else {
            self.move_limit(now, sampled, active);
        }
        self.limit = self.slots.bound(now, self.limit, self.start);
        self.used = active;
        self.wanted = false;
        self.loss = false;
        self.stretched = false;
        self.limit = self.fixed.unwrap_or_else(|| self.limit.clamp(1.0, max.clamp(1.0, LIMIT_MAX)));
    }

    /// An idle hour proves nothing: forget what was measured and drift back.
    fn fall_back(&mut self) {
        self.mean = 0.5;
        self.smoothed = (0.0, 0.0);
        self.limit += BACK * (self.start - self.limit);
    }

    fn move_limit(&mut self, now: Duration, sampled: bool, active: u32) {
        if self.loss && now.saturating_sub(self.shrank_for_loss) >= LOSS_EVERY {
            // Running streams keep the memory full for a while after the limit fell; half of them is
            // as far as one cause may take it.
            self.limit = (0.9 * self.limit).max(f64::from(active) / 2.0);
            self.shrank_for_loss = now;
        } else if sampled && self.mean > 1.0 {
            let most = if self.stretched { SHRINK_STRETCHED } else { SHRINK };
            self.plateau.on_too_long(now, self.limit);
            let least = (SHRINK_OF_ACTIVE * f64::from(active)).min(self.limit);
            self.limit = (self.limit * (1.0 / self.mean).sqrt().max(most)).max(least);
        } else if sampled && !self.loss && self.slots.may_grow(now) {
            let busy = f64::from(self.used) > 0.7 * self.limit;
            if busy || self.wanted {
                self.limit += self.plateau.slowed(now, self.limit, 0.01 * self.limit + 0.5);
            }
        }
    }

    /// Seconds per token that are aimed at.
    pub(crate) fn target(&self) -> Option<f64> {
        match (self.tpot_slo, self.gap_idle) {
            (Some(tpot), Some(idle)) => {
                Some((idle + TARGET_OF_REST * (tpot - idle)).min(TARGET_OF_SLO_MAX * tpot))
            }
            (Some(tpot), None) => Some(TARGET_OF_SLO * tpot),
            (None, idle) => idle.map(|idle| (TARGET_OF_IDLE_GAP * idle).max(TARGET_UNSET_MIN_S)),
        }
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

    /// Seconds per token, smoothed, after a step of such gaps.
    fn smooth(&mut self, gap: f64) -> f64 {
        let tokens = self.gaps.tokens;
        let (least, most) = SMOOTHING;
        let weight = (tokens / TOKENS_REMEMBERED).clamp(least, most);
        self.smoothed.0 += weight * (tokens * gap - self.smoothed.0);
        self.smoothed.1 += weight * (tokens - self.smoothed.1);
        self.smoothed.0 / self.smoothed.1
    }

    /// Folds what was collected into the means. Too few samples stay for the next step.
    fn take_samples(&mut self) -> bool {
        let target = self.target();
        let mut sampled = false;
        if let Some(gap) = self.gaps.mean() {
            let shown = self.gap.unwrap_or(gap);
            self.gap = Some(shown + 0.2 * (gap - shown));
            if let Some(target) = target {
                self.mean = self.smooth(gap.min(RATIO_MAX * target)) / target;
                sampled = true;
            }
            self.gaps = Samples::default();
            self.streamed = false;
        }
        if let Some(ratio) = self.ratios.mean() {
            self.mean += SMOOTHING_OF_RATIOS * (ratio - self.mean);
            self.ratios = Samples::default();
            sampled = true;
        }
        sampled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Slo;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn limit(start: f64) -> GapLimit {
        let slo = Slo { ttft: at(2_000), tpot: at(100) };
        GapLimit::new(at(0), &Config { slo: Some(slo), limit_start: start, ..Config::default() })
    }

    /// Runs for `steps` with all places used and every gap as long as given.
    fn run(limit: &mut GapLimit, from: u64, steps: u64, gap: f64, stretched: bool) {
        for n in 1..=steps {
            let now = at(from + 500 * n);
            let active = limit.limit() as u32;
            limit.on_used(active);
            limit.on_gaps(now, 100.0 * gap, 100.0, 100, stretched);
            limit.step(now, LIMIT_MAX, active);
        }
    }

    #[test]
    fn gaps_over_the_target_shrink_the_limit_and_gaps_under_it_let_it_grow() {
        let mut late = limit(64.0);
        run(&mut late, 0, 20, 0.170, false);
        assert!(late.limit() < 20.0, "{late:?}");

        let mut early = limit(64.0);
        run(&mut early, 0, 20, 0.030, false);
        assert!((64.0..100.0).contains(&early.limit()) && early.limit() > 80.0, "{early:?}");
    }

    #[test]
    fn no_step_shrinks_by_more_than_a_tenth_and_none_goes_below_one() {
        let mut limit = limit(64.0);
        for n in 0..200 {
            let before = limit.limit();
            run(&mut limit, 500 * n, 1, 10.0, false);
            assert!(limit.limit() >= (0.9 * before - 1e-9).max(1.0));
        }
        assert_eq!(limit.limit(), 1.0);
    }

    /// One prompt of 100,000 tokens must not drive 64 streams down to 4.
    #[test]
    fn a_very_long_prompt_shrinks_the_limit_slowly() {
        let mut limit = limit(64.0);

        run(&mut limit, 0, 28, 0.170, true);

        assert!(limit.limit() > 32.0, "{limit:?}");
    }

    #[test]
    fn nothing_grows_that_is_not_used() {
        let mut limit = limit(64.0);
        for n in 1..100 {
            limit.on_gaps(at(500 * n), 1.0, 100.0, 100, false);
            limit.step(at(500 * n), LIMIT_MAX, 10);
        }
        assert_eq!(limit.limit(), 64.0);
    }

    #[test]
    fn after_ten_silent_seconds_the_limit_drifts_back_to_its_start() {
        let mut limit = limit(64.0);
        run(&mut limit, 0, 40, 0.170, false);
        assert!(limit.limit() < 20.0);

        (1..200).for_each(|n| limit.step(at(30_000 + 500 * n), LIMIT_MAX, 0));

        assert!(limit.limit() > 60.0, "{limit:?}");
    }

    #[test]
    fn without_a_target_the_idle_gap_makes_one_and_nobody_reads_faster_than_75_ms_a_token() {
        for (idle_s, target_ms) in [(0.01, 75.0), (0.05, 125.0)] {
            let mut limit = GapLimit::new(at(0), &Config::default());
            for n in 1..20 {
                limit.on_gaps(at(500 * n), 100.0 * idle_s, 100.0, 100, false);
                limit.step(at(500 * n), LIMIT_MAX, 1);
            }
            assert_eq!(limit.target().map(|target| (target * 1e3).round()), Some(target_ms));
        }
    }

    /// Weights alone take 85 of 100 ms on this card: N shrinks only for what streams add.
    #[test]
    fn a_slow_card_is_left_the_gap_that_it_has_when_idle() {
        let mut limit = limit(64.0);
        for n in 1..200 {
            let gap = 0.085 + 0.001 * limit.limit();
            limit.on_used(limit.limit() as u32);
            limit.on_gaps(at(500 * n), 100.0 * if n < 4 { 0.085 } else { gap }, 100.0, 100, false);
            limit.step(at(500 * n), LIMIT_MAX, limit.limit() as u32);
        }
        assert!((8.0..16.0).contains(&limit.limit()), "{limit:?}");
    }

    /// A lower limit ends nobody's answer: for thirty seconds gaps stay those of the streams that run.
    #[test]
    fn the_limit_falls_no_faster_than_answers_end() {
        let mut limit = limit(64.0);
        for n in 1..=20 {
            limit.on_used(60);
            limit.on_gaps(at(500 * n), 15.0, 100.0, 100, false);
            limit.step(at(500 * n), LIMIT_MAX, 60);
        }
        assert_eq!(limit.limit(), 54.0);
    }

    #[test]
    fn a_fixed_limit_is_held() {
        let mut limit = GapLimit::new(at(0), &Config { fixed_limit: Some(7.0), ..Config::default() });
        limit.on_loss();
        limit.on_engine_queue(at(1), 2);
        run(&mut limit, 0, 40, 0.5, false);
        assert_eq!(limit.limit(), 7.0);
    }

    #[test]
    fn an_engine_that_queues_has_as_many_slots_as_had_tokens() {
        let mut limit = limit(64.0);

        limit.on_engine_queue(at(1_000), 4);
        run(&mut limit, 1_000, 19, 0.010, false);
        assert_eq!(limit.limit(), 4.0, "and that is believed for ten seconds");
        run(&mut limit, 10_500, 4, 0.010, false);
        assert!(limit.limit() > 4.5, "then one more is tried");
    }
}
