//! How far an answer is that nobody sees, by the pace of those that are seen.
//!
//! A client that asks for a whole answer and leaves has used what was generated until then, and no engine says how much
//! that was. But a continuously batching engine makes one token of each running answer in a step: an answer that
//! nobody sees grows as fast as the streams beside it. So
//!
//! ```text
//! first(u) = a + b u                 time to the first token of a prompt with u uncached tokens: least squares over the streams
//! steps(t) = Σ dt · gaps / Σ gap     chunks of a stream that would have run all the time; every 250 ms, by all streams
//! rate     = (steps(left) − steps(t)) / (left − t)      t: the harvest before it was sent
//! grown    = (left − sent − first(u)) · rate
//! k        = c · grown + ½          c = Σ (tokens − 1) / Σ grown, over the whole answers that were finished, with doubt
//! ```
//!
//! `c` is what experience says of the rest of the formula: near 1, and whatever it leaves out of account is put right by
//! it. `½`, because the first token comes at once and then each at the end of a gap, of which the last is half over in the mean.
//!
//! Where nothing streams, finished whole answers tell it alone: the line of their durations over their tokens. Where
//! neither has told anything, nothing is known, and nothing is to be charged.
//!
//! An answer that has ended would have arrived. So `k` needs no guess of how long the answer would have become.
//!
//! # Guarantees
//!
//! - Finite and not negative, whatever was observed.
//! - Right in the mean, by `c`, for answers like those that were finished. Replicas of a deployment are taken together:
//!   routing keeps them alike.
//! - O(1) and 200 bytes; nothing per token, one lock per first token, per whole answer and per harvest.

use std::time::Duration;

/// What a new sample leaves of the weight of those before: about fifty count.
const KEEP: f64 = 0.98;
/// Weight of samples under which a line says nothing.
const SAMPLES_MIN: f64 = 5.0;
/// Spread of a line's abscissae, as a share of their mean, under which they say nothing of a slope.
const SPREAD_MIN: f64 = 0.05;
/// Gaps since the last harvest that count more than the rate before it.
const GAPS_MIN: u64 = 16;
/// The same of a finished whole answer for the correction: about two hundred count.
const KEEP_WHOLE: f64 = 0.995;
/// Tokens for which the formula was right before anything was finished: the first answers of a process correct little.
const DOUBT_TOKENS: f64 = 1_000.0;
/// Bounds of the correction: what is further off is about something else.
const CORRECTION_MIN: f64 = 0.8;
const CORRECTION_MAX: f64 = 1.25;
/// Streams that are longer ago say nothing of now.
const FRESH: Duration = Duration::from_secs(10);

/// Gaps between the chunks of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gaps {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: Duration,
}

impl Gaps {
    /// Adds others.
    pub fn add(&mut self, count: u64, sum: Duration) {
        self.count = self.count.saturating_add(count);
        self.sum = self.sum.saturating_add(sum);
    }

    /// Chunks per second.
    fn rate(&self) -> Option<f64> {
        let seconds = self.sum.as_secs_f64();
        (self.count > 0 && seconds > 0.0).then(|| self.count as f64 / seconds)
    }
}

/// A request whose answer nobody sees, when it was sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unseen {
    sent: Duration,
    /// The harvest before it, and the steps until then; `None` where there was no pace yet.
    before: Option<(Duration, f64)>,
}

/// What is known of a deployment's pace.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    /// Seconds to the first token over uncached prompt tokens, of streams.
    first: Line,
    /// Seconds over tokens, of whole answers.
    whole: Line,
    /// Of whole answers: their tokens, and how far they would have been by the streams' pace.
    tokens: f64,
    grown: f64,
    /// Chunks of a stream that would have run all the time, at `at`.
    steps: f64,
    at: Duration,
    /// Chunks per second of each stream, when there were any last.
    rate: Option<f64>,
    seen: Duration,
}

impl Pace {
    /// A stream's first token came, so long after it was sent.
    pub fn first_token(&mut self, uncached: u64, after: Duration) {
        self.first.add(uncached as f64, after.as_secs_f64());
    }

    /// An answer of so many tokens came as a whole.
    pub fn whole(&mut self, now: Duration, tokens: u64, unseen: &Unseen, uncached: u64) {
        if tokens == 0 {
            return;
        }
        self.whole.add(tokens as f64, now.saturating_sub(unseen.sent).as_secs_f64());
        // Where there was no pace when it was sent, its share in what went wrong would be that of the first moments.
        let grown = unseen.before.and_then(|_| self.grown(now, Gaps::default(), unseen, uncached));
        if let Some(grown) = grown.filter(|grown| grown.is_finite() && *grown > 0.0) {
            self.tokens = self.tokens * KEEP_WHOLE + (tokens - 1) as f64;
            self.grown = self.grown * KEEP_WHOLE + grown;
        }
    }

    /// What all streams did since the last call.
    pub fn harvested(&mut self, now: Duration, gaps: Gaps) {
        if let Some(rate) = gaps.rate() {
            self.rate = Some(rate);
            self.seen = now;
        } else if now.saturating_sub(self.seen) > FRESH {
            self.rate = None;
            self.first = Line::default();
        }
        self.steps += self.rate.unwrap_or(0.0) * now.saturating_sub(self.at).as_secs_f64();
        self.at = now;
    }

    /// A request is sent whose answer will not be seen.
    #[must_use]
    pub fn sent(&self, now: Duration) -> Unseen {
        Unseen { sent: now, before: self.rate.map(|_| (self.at, self.steps)) }
    }

    /// Tokens that one answer of it would have by now; `None` where that cannot be known. `since`: what streams did since
    /// the last harvest.
    #[must_use]
    pub fn tokens(&self, now: Duration, since: Gaps, unseen: &Unseen, uncached: u64) -> Option<f64> {
        let grown = match self.grown(now, since, unseen, uncached) {
            Some(grown) => grown * self.correction(),
            None => {
                let (intercept, slope) = self.whole.sloping()?;
                (now.saturating_sub(unseen.sent).as_secs_f64() - intercept.max(0.0)) / slope
            }
        };
        let tokens = if grown > 0.0 { grown + 0.5 } else { 0.0 };
        tokens.is_finite().then_some(tokens)
    }

    /// Tokens after its first, by the streams' pace.
    fn grown(&self, now: Duration, since: Gaps, unseen: &Unseen, uncached: u64) -> Option<f64> {
        let seconds = |from: Duration| now.saturating_sub(from).as_secs_f64();
        let first = self.first.at(uncached as f64)?;
        let fresh = since.rate();
        let lately = fresh.filter(|_| since.count >= GAPS_MIN).or(self.rate).or(fresh)?;
        let rate = match unseen.before {
            Some((at, steps)) if now > at => (self.steps - steps + lately * seconds(self.at)) / seconds(at),
            _ => lately,
        };
        Some(((seconds(unseen.sent) - first) * rate).max(0.0))
    }

    fn correction(&self) -> f64 {
        let correction = (DOUBT_TOKENS + self.tokens) / (DOUBT_TOKENS + self.grown);
        if correction.is_finite() { correction.clamp(CORRECTION_MIN, CORRECTION_MAX) } else { 1.0 }
    }
}

/// A straight line through weighted points, the newest weighing most.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    weight: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Line {
    fn add(&mut self, x: f64, y: f64) {
        let new = [1.0, x, y, x * x, x * y];
        let sums = [&mut self.weight, &mut self.x, &mut self.y, &mut self.xx, &mut self.xy];
        for (sum, new) in sums.into_iter().zip(new) {
            *sum = *sum * KEEP + new;
        }
    }

    /// Intercept and slope, where the points tell a slope that rises.
    fn sloping(&self) -> Option<(f64, f64)> {
        if self.weight < SAMPLES_MIN {
            return None;
        }
        let (x, y) = (self.x / self.weight, self.y / self.weight);
        let variance = self.xx / self.weight - x * x;
        let slope = (self.xy / self.weight - x * y) / variance;
        let is_told = variance.sqrt() > SPREAD_MIN * x && slope > 0.0 && slope.is_finite();
        is_told.then_some((y - slope * x, slope))
    }

    /// Its height at `x`, never negative; the mean height where there is no slope.
    fn at(&self, x: f64) -> Option<f64> {
        if self.weight < SAMPLES_MIN {
            return None;
        }
        let (intercept, slope) = self.sloping().unwrap_or((self.y / self.weight, 0.0));
        Some((intercept + slope * x).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Streams whose first token takes 20 ms and 1 ms per 10 tokens, and that have a chunk every `gap_ms`, for a second.
    fn streams(pace: &mut Pace, from: Duration, gap_ms: u64) {
        for uncached in [100, 200, 400].repeat(2) {
            pace.first_token(uncached, ms(20 + uncached / 10));
        }
        for quarter in 1..=4 {
            let count = 3 * 250 / gap_ms;
            pace.harvested(from + ms(250 * quarter), Gaps { count, sum: ms(count * gap_ms) });
        }
    }

    #[test]
    fn an_answer_that_nobody_sees_grows_like_the_streams_beside_it() {
        let mut pace = Pace::default();
        streams(&mut pace, Duration::ZERO, 10);

        let unseen = pace.sent(ms(1_000));
        let at = |now| pace.tokens(ms(now), Gaps::default(), &unseen, 300).unwrap();

        assert_eq!(at(1_040), 0.0, "its prompt takes 50 ms");
        assert!((at(1_100) - 5.5).abs() < 0.01, "{}", at(1_100));
        assert!((at(2_050) - 100.5).abs() < 0.01, "{}", at(2_050));
    }

    /// The pace while it ran counts, not that of the moment at which its client left.
    #[test]
    fn a_load_that_came_late_slows_only_what_came_after_it() {
        let mut pace = Pace::default();
        streams(&mut pace, Duration::ZERO, 10);
        let unseen = pace.sent(ms(1_000));
        streams(&mut pace, ms(1_000), 10);
        streams(&mut pace, ms(2_000), 50);

        let tokens = pace.tokens(ms(3_000), Gaps::default(), &unseen, 300).unwrap();

        assert!((tokens - (120.0 * 0.975 + 0.5)).abs() < 0.01, "{tokens}");
    }

    /// In the first moments of a process too: what was not harvested yet tells it.
    #[test]
    fn streams_that_were_not_harvested_yet_count() {
        let mut pace = Pace::default();
        let nothing = pace.sent(ms(10));
        assert_eq!(pace.tokens(ms(200), Gaps::default(), &nothing, 10), None, "nobody told anything");

        (0..8).for_each(|_| pace.first_token(100, ms(30)));
        let since = Gaps { count: 5, sum: ms(50) };

        let tokens = pace.tokens(ms(200), since, &nothing, 100).unwrap();
        assert!((tokens - 16.5).abs() < 0.01, "160 ms after its first token: {tokens}");
    }

    #[test]
    fn where_nothing_streams_whole_answers_tell_the_pace() {
        let mut pace = Pace::default();
        let unseen = pace.sent(Duration::ZERO);
        for tokens in [10, 50, 90].repeat(2) {
            pace.whole(ms(100 + 10 * tokens), tokens, &unseen, 100);
        }
        let at = |now| pace.tokens(ms(now), Gaps::default(), &unseen, 100).unwrap();

        assert_eq!(at(90), 0.0);
        assert!((at(600) - 50.5).abs() < 0.01, "{}", at(600));
    }

    /// Whatever the formula leaves out: whole answers that are faster than streams put it right.
    #[test]
    fn finished_whole_answers_correct_the_pace() {
        let mut pace = Pace::default();
        streams(&mut pace, Duration::ZERO, 10);
        let sent = pace.sent(ms(1_000));
        let corrected = |pace: &Pace| pace.tokens(ms(1_300), Gaps::default(), &sent, 300).unwrap();

        pace.whole(ms(1_550), 63, &sent, 300);
        assert!((25.4..=26.0).contains(&corrected(&pace)), "one says little: {}", corrected(&pace));
        (0..1_000).for_each(|_| pace.whole(ms(1_550), 63, &sent, 300));

        let tokens = corrected(&pace);
        assert!((30.5..=31.5).contains(&tokens), "62 tokens where 50 were foreseen: {tokens}");
    }

    /// Answers that are all alike say nothing of how their time is parted.
    #[test]
    fn what_cannot_be_told_is_not_charged() {
        let mut pace = Pace::default();
        let unseen = pace.sent(Duration::ZERO);
        (0..20).for_each(|_| pace.whole(ms(600), 50, &unseen, 100));
        assert_eq!(pace.tokens(ms(300), Gaps::default(), &unseen, 100), None);

        streams(&mut pace, Duration::ZERO, 10);
        pace.harvested(FRESH + ms(1_001), Gaps::default());
        assert_eq!(pace.tokens(ms(300), Gaps::default(), &unseen, 100), None, "streams of long ago");
    }

    #[test]
    fn absurd_samples_stay_finite() {
        let mut pace = Pace::default();
        for after in [Duration::ZERO, Duration::MAX, ms(1)] {
            pace.first_token(u64::MAX, after);
            pace.harvested(after, Gaps { count: u64::MAX, sum: Duration::from_nanos(1) });
        }
        let unseen = pace.sent(Duration::ZERO);
        pace.whole(Duration::MAX, u64::MAX, &unseen, u64::MAX);
        let tokens = pace.tokens(Duration::MAX, Gaps::default(), &unseen, u64::MAX);
        assert!(tokens.is_none_or(|tokens| tokens.is_finite() && tokens >= 0.0), "{tokens:?}");
    }
}
