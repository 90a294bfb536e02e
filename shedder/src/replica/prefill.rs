//! The prefill rate: how many prompt tokens a replica computes per second, learnt from first tokens.
//!
//! A sample is the tokens of all prompts whose first token came, over the time in which at least one
//! considerable prompt was waiting for its own. Small or cached prompts teach nothing: their time to
//! first token is overhead, and an hour of them would teach a rate of a few hundred tokens per second.
//! So a sample needs 1,024 tokens drained in one go, beginning with a prompt of at least 256, and the time
//! to first token of a tiny prompt is taken off where the replica was idle before.
//!
//! ```text
//! rate += 0.2 · (sample − rate)
//! no sample for 30 s:  rate in force = rate · 2^((age − 30 s) / 30 s)
//! ```
//!
//! Where a first token has a delay beside its prompt (`lag`), prompts may be too few at a time to fill the engine, and tokens
//! over time say too little. The slope of times over tokens of prompts that were alone has no delay in it: it is the least
//! that the rate is. What of the slope is travel of the tokens, which keeps nobody busy, pairs of prompts tell (`transfer`).
//!
//! Answers that come whole tell a rate too (see `whole`): the only one where nothing streams.
//!
//! The drift is the way back: a rate learnt too low would otherwise refuse the very prompts that could
//! correct it. Unknown means unknown: nothing is predicted until the first sample.
//!
//! Cost: O(1), nothing allocates.

use std::time::Duration;

use super::lag::{LagFit, Line};
use super::transfer::Pairs;
use crate::learned::{LearnedReplica, sane};
use crate::offer::RequestId;

/// A prompt with fewer uncached tokens does not open an interval.
const TEACHES_MIN: u32 = 256;
const SAMPLE_MIN: u64 = 1_024;
const TINY_MAX: u32 = 64;
/// After so many samples without a whole answer what those told is forgotten.
const WHOLE_OUTLIVES: u32 = 64;
const DRIFT_AFTER: f64 = 30.0;
const DRIFT_DOUBLINGS_MAX: f64 = 5.0;
/// What a first token takes beside the prompt while nothing else is known: network and one engine step.
const OVERHEAD: f64 = 0.05;
/// Less is how exactly a line can be fitted, seconds.
const LAG_MIN: f64 = 0.005;
/// Prompts that count for how long prompts are, about.
const LENGTHS_MEMORY: f64 = 100.0;
/// A sample is at most so many times off the slope: beyond, it has met prompts that something of their own had delayed.
const SAMPLE_OFF_MAX: f64 = 2.0;

/// More tokens per second than any engine computes.
const RATE_MAX: f64 = 1e8;

/// The prefill rate of one replica.
#[derive(Debug, Clone)]
pub(crate) struct PrefillRate {
    rate: Option<f64>,
    /// As whole answers tell it, and samples since the last of them.
    whole: Option<f64>,
    samples_since_whole: u32,
    learnt: Duration,
    /// Considerable prompts without a first token.
    open: u32,
    since: Duration,
    from_idle: bool,
    drained: u64,
    tiny: Option<f64>,
    fit: LagFit,
    pairs: Pairs,
    /// Mean of the prompts' squared tokens over mean of their tokens: how long the prompt is that a token belongs to.
    lengths: (f64, f64),
    step: f64,
}

impl PrefillRate {
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            rate: None,
            whole: None,
            samples_since_whole: 0,
            learnt: now,
            open: 0,
            since: now,
            from_idle: false,
            drained: 0,
            tiny: None,
            fit: LagFit::default(),
            pairs: Pairs::default(),
            lengths: (0.0, 0.0),
            step: 0.0,
        }
    }

    /// What is known, for another process.
    pub(crate) fn export(&self, to: &mut LearnedReplica) {
        to.prefill_per_s = self.rate;
        to.prefill_whole_per_s = self.whole;
        to.tiny_s = self.tiny;
        to.line = Some(self.fit.export());
    }

    /// Goes on with what another process knows. What travels (`transfer`) it has to see again.
    pub(crate) fn adopt(&mut self, now: Duration, known: &LearnedReplica) {
        self.rate = sane(known.prefill_per_s, 1.0, RATE_MAX).or(self.rate);
        self.whole = sane(known.prefill_whole_per_s, 1.0, RATE_MAX).or(self.whole);
        self.tiny = sane(known.tiny_s, 0.0, 60.0).or(self.tiny);
        self.learnt = now;
        if let Some(line) = &known.line {
            self.fit.adopt(line);
        }
    }

    /// The engine was seen to keep a queue of its own.
    pub(crate) fn on_engine_queue(&mut self) {
        self.fit.on_engine_queue();
    }

    /// A step of the engine takes so many seconds, by what running answers show.
    pub(crate) fn on_step(&mut self, seconds: f64) {
        self.step = seconds;
    }

    /// Seconds of a first token that no computing explains, on average: what is beyond the step that was under way and its
    /// own. Zero where it is not known.
    pub(crate) fn lag(&self) -> f64 {
        self.beyond_steps(|line| line.lag + line.extra + self.travel())
    }

    /// The part of it that every prompt has, whoever sends it.
    pub(crate) fn common_lag(&self) -> f64 {
        self.beyond_steps(|line| line.lag)
    }

    /// The same, where enough was seen to tell.
    pub(crate) fn lag_known(&self) -> Option<f64> {
        self.fit.line().map(|_| self.common_lag())
    }

    fn beyond_steps(&self, of: impl Fn(Line) -> f64) -> f64 {
        let lag = self.fit.line().map_or(0.0, |line| of(line) - 2.0 * self.step);
        if lag < LAG_MIN { 0.0 } else { lag }
    }

    /// The slope of times over tokens, without what of it is travel: a rate that no delay touches.
    fn slope(&self) -> Option<f64> {
        self.fit.line().map(|line| line.rate / self.pairs.busy(line))
    }

    /// Whether a prompt of `tokens` is to start before its turn, to show what of a token's time is computing; see
    /// `transfer`. `most`: tokens of it and of what is computed before it.
    pub(crate) fn tries_pair(&self, now: Duration, tokens: f64, most: f64) -> bool {
        self.pairs.is_to_follow(now, tokens, most, self.fit.line())
    }

    /// Seconds that tokens travel, on average over all tokens that do.
    fn travel(&self) -> f64 {
        let (tokens, squares) = self.lengths;
        let Some(line) = self.fit.line().filter(|_| tokens > 0.0) else { return 0.0 };
        (1.0 - self.pairs.busy(line)) * squares / tokens / line.rate
    }

    /// Seconds from sending to first token of a prompt behind which nothing waits, `queued` tokens being computed before it
    /// at `rate`.
    pub(crate) fn first_token_after(&self, queued: f64, tokens: f64, rate: f64) -> f64 {
        let own = self.fit.line().map_or(rate, |line| line.rate.min(rate));
        self.overhead() + queued / rate + tokens / own
    }

    /// Tokens per second in force at `now`.
    pub(crate) fn rate(&self, now: Duration) -> Option<f64> {
        let age = now.saturating_sub(self.learnt).as_secs_f64();
        let doublings = ((age - DRIFT_AFTER) / DRIFT_AFTER).clamp(0.0, DRIFT_DOUBLINGS_MAX);
        let rate = self.rate.map(|rate| rate * doublings.exp2()).or(self.whole)?;
        Some(self.slope().map_or(rate, |slope| rate.max(slope)))
    }

    /// Tokens per second as last learnt, however long ago; the lower one where both first
    /// tokens and whole answers tell it, because among prompts that nobody sees a pace too long is felt by all.
    pub(crate) fn learnt(&self) -> Option<f64> {
        let seen = self.rate.map(|rate| self.slope().map_or(rate, |slope| rate.max(slope)));
        match (seen, self.whole) {
            (Some(rate), Some(whole)) => Some(rate.min(whole)),
            (rate, whole) => rate.or(whole),
        }
    }

    /// Whole answers tell this rate.
    pub(crate) fn on_whole(&mut self, rate: f64) {
        self.whole = Some(rate);
        self.samples_since_whole = 0;
    }

    /// Seconds to first token beside the prompt itself.
    pub(crate) fn overhead(&self) -> f64 {
        self.fit.line().map(|line| line.lag).or(self.tiny).unwrap_or(OVERHEAD)
    }

    /// A prompt with `uncached` tokens was sent, whose first token will be seen.
    pub(crate) fn on_sent(&mut self, now: Duration, id: RequestId, uncached: u32, alone: bool) {
        self.pairs.on_sent(now, id, uncached, alone, self.fit.line());
        let tokens = f64::from(uncached);
        self.lengths.0 += (tokens - self.lengths.0) / LENGTHS_MEMORY;
        self.lengths.1 += (tokens * tokens - self.lengths.1) / LENGTHS_MEMORY;
        if uncached < TEACHES_MIN {
            return;
        }
        if self.open == 0 {
            self.since = now;
            self.from_idle = true;
            self.drained = 0;
        }
        self.open += 1;
    }

    /// Its first token came after `ttft`; `alone` when nothing else was being computed.
    pub(crate) fn on_first_token(
        &mut self,
        now: Duration,
        id: RequestId,
        uncached: u32,
        ttft: Duration,
        alone: bool,
    ) {
        self.pairs.on_first_token(now, id, self.fit.line());
        if alone {
            self.fit.on_alone(uncached, ttft.as_secs_f64());
        }
        if uncached <= TINY_MAX && alone {
            let seconds = ttft.as_secs_f64();
            self.tiny = Some(self.tiny.map_or(seconds, |tiny| tiny + 0.2 * (seconds - tiny)));
        }
        if self.open == 0 {
            return;
        }
        self.drained += u64::from(uncached);
        if self.drained >= SAMPLE_MIN {
            self.sample(now);
        }
        self.close(now, uncached, false);
    }

    /// Prompt tokens that were computed unseen, as predicted: part of the work, never the end of a sample.
    pub(crate) fn on_unseen(&mut self, uncached: u32) {
        if self.open > 0 {
            self.drained += u64::from(uncached);
        }
    }

    /// A prompt ended without a first token: how much of it was computed is unknown.
    pub(crate) fn on_gone(&mut self, now: Duration, uncached: u32) {
        self.close(now, uncached, true);
    }

    fn close(&mut self, now: Duration, uncached: u32, restart: bool) {
        if uncached >= TEACHES_MIN {
            self.open = self.open.saturating_sub(1);
            if restart {
                self.since = now;
                self.from_idle = false;
                self.drained = 0;
            }
        }
    }

    fn sample(&mut self, now: Duration) {
        let overhead = if self.from_idle { self.tiny.unwrap_or(0.0) } else { 0.0 };
        let seconds = now.saturating_sub(self.since).as_secs_f64() - overhead;
        if seconds >= 0.001 {
            let sample = self.drained as f64 / seconds;
            let sample = self
                .slope()
                .map_or(sample, |slope| sample.clamp(slope / SAMPLE_OFF_MAX, slope * SAMPLE_OFF_MAX));
            let before = self.rate.and_then(|_| self.rate(now));
            self.rate = Some(before.map_or(sample, |rate| rate + 0.2 * (sample - rate)));
            self.learnt = now;
            self.samples_since_whole = self.samples_since_whole.saturating_add(1);
            if self.samples_since_whole > WHOLE_OUTLIVES {
                self.whole = None;
            }
        }
        self.since = now;
        self.from_idle = false;
        self.drained = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: RequestId = RequestId(1);

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn learnt(rate: u32) -> PrefillRate {
        let mut prefill = PrefillRate::new(at(0));
        prefill.on_sent(at(0), ID, rate, true);
        prefill.on_first_token(at(1_000), ID, rate, at(1_000), true);
        prefill
    }

    #[test]
    fn one_long_prompt_teaches_its_rate() {
        assert_eq!(learnt(4_000).rate(at(1_000)), Some(4_000.0));
    }

    /// An hour of cached prompts must not teach a rate that later refuses every uncached one.
    #[test]
    fn cached_prompts_teach_nothing() {
        let mut prefill = learnt(8_000);

        for n in 0..100_000_u64 {
            prefill.on_sent(at(1_000 + n * 10), ID, 20, true);
            prefill.on_first_token(at(1_009 + n * 10), ID, 20, at(100), false);
        }

        assert!(prefill.rate(at(1_001_009)).is_some_and(|rate| rate >= 8_000.0), "{prefill:?}");
    }

    #[test]
    fn a_rate_without_samples_drifts_up_twofold_each_half_minute() {
        let prefill = learnt(2_000);

        assert_eq!(prefill.rate(at(31_000)), Some(2_000.0));
        assert_eq!(prefill.rate(at(61_000)), Some(4_000.0));
        assert_eq!(prefill.rate(at(91_000)), Some(8_000.0));
        assert!(prefill.rate(at(100_000_000)).is_some_and(f64::is_finite));
    }

    #[test]
    fn overhead_of_a_tiny_prompt_is_taken_off_where_the_replica_was_idle() {
        let mut prefill = PrefillRate::new(at(0));
        prefill.on_sent(at(0), ID, 8, true);
        prefill.on_first_token(at(100), ID, 8, at(100), true);

        prefill.on_sent(at(1_000), ID, 2_000, true);
        prefill.on_first_token(at(2_100), ID, 2_000, at(1_100), true);

        assert_eq!(prefill.rate(at(2_100)).map(f64::round), Some(2_000.0));
    }

    #[test]
    fn a_prompt_that_ends_without_a_token_spoils_no_sample() {
        let mut prefill = learnt(4_000);
        prefill.on_sent(at(2_000), ID, 50_000, true);
        prefill.on_gone(at(60_000), 50_000);

        prefill.on_sent(at(60_000), ID, 4_000, true);
        prefill.on_first_token(at(61_000), ID, 4_000, at(1_000), true);

        assert!(prefill.rate(at(61_000)).is_some_and(|rate| rate >= 3_999.0), "{prefill:?}");
    }

    #[test]
    fn whole_answers_stand_in_for_first_tokens_and_are_forgotten_when_there_are_none_any_more() {
        let mut prefill = PrefillRate::new(at(0));
        prefill.on_whole(3_000.0);
        assert_eq!((prefill.rate(at(1)), prefill.learnt()), (Some(3_000.0), Some(3_000.0)));

        let mut second = |n: u64| {
            prefill.on_sent(at(1_000 * n), ID, 4_000, true);
            prefill.on_first_token(at(1_000 * n + 1_000), ID, 4_000, at(1_000), true);
            prefill.learnt()
        };

        assert_eq!(second(1), Some(3_000.0), "the lower of both paces");
        let later = (2..=u64::from(WHOLE_OUTLIVES) + 1).map(&mut second).last().flatten();
        assert_eq!(later, Some(4_000.0));
    }
}
