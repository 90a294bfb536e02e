//! How fast prompts start while others wait for them, in tokens per second.
//!
//! Where no first token is ever seen, because nothing streams, no prefill rate is learnt, and without a rate nothing could
//! be predicted until the queue's deadline. What starts from a queue that is held up by prompts is a rate too: it is
//! taken from tick to tick while something waits for no other reason, and smoothed over about five of them.

use std::time::Duration;

const SMOOTHING: f64 = 0.2;
const LEAST: Duration = Duration::from_millis(100);

/// The rate, and what it is made of.
#[derive(Debug, Clone, Default)]
pub(super) struct Drain {
    rate: Option<f64>,
    tokens: u64,
    /// Since when something waits for prompts, at most since the last tick.
    since: Option<Duration>,
}

impl Drain {
    /// A prompt started.
    pub(super) fn on_start(&mut self, tokens: u32) {
        self.tokens = self.tokens.saturating_add(u64::from(tokens));
    }

    /// A tick; `waits`: something waits because too much prompt is being computed.
    pub(super) fn step(&mut self, now: Duration, waits: bool) {
        let tokens = std::mem::take(&mut self.tokens);
        let span = self.since.map(|since| now.saturating_sub(since)).filter(|&span| span >= LEAST);
        if let Some(span) = span.filter(|_| waits) {
            let sample = tokens as f64 / span.as_secs_f64();
            self.rate = Some(self.rate.map_or(sample, |rate| rate + SMOOTHING * (sample - rate)));
        }
        self.since = waits.then_some(now);
    }

    /// Tokens per second; `None` while nothing ever waited, or nothing started meanwhile.
    pub(super) fn rate(&self) -> Option<f64> {
        self.rate.filter(|&rate| rate >= 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_starts_while_others_wait_is_a_rate() {
        let at = |ticks: u32| Duration::from_millis(250) * ticks;
        let mut drain = Drain::default();
        drain.on_start(100_000);
        drain.step(at(1), false);
        drain.step(at(2), true);
        assert_eq!(drain.rate(), None, "nobody waited before");

        drain.on_start(1_000);
        drain.step(at(3), true);
        assert_eq!(drain.rate(), Some(4_000.0));
        drain.on_start(50_000);
        drain.step(at(4), false);
        assert_eq!(drain.rate(), Some(4_000.0), "the queue ended at some moment in between");
    }
}
