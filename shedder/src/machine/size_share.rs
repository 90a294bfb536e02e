//! How long the next request may be overtaken by smaller ones: as long as long prompts get their share.
//!
//! Small prompts fit beside others and cost little, so serving them first serves the most requests, and in an overload
//! hardly anybody with a long prompt. What long prompts get is measured, as the part of them that started against the part of
//! all, and how long they may be overtaken (`aging`) follows it:
//!
//! ```text
//! started long / offered long  <  share · (started / offered):   overtaken for · 0.9, every 500 ms
//! else:                                                           overtaken for · 1.05, at most 1
//! ```
//!
//! over about the last half minute. Long is a prompt that goes alone because it takes longer than a pace. Where long prompts
//! get their share anyway, nothing is lost; where they do not, what is lost buys it.
//!
//! Cost: O(1), nothing allocates.

use std::time::Duration;

const STEP: Duration = Duration::from_millis(500);
/// What is remembered, by the factor e in so many seconds.
const MEMORY_S: f64 = 30.0;
const SHORTER: f64 = 0.9;
const LONGER: f64 = 1.05;
const LEAST: f64 = 0.05;
/// Fewer long prompts say nothing.
const LONG_MIN: f64 = 5.0;

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    all: f64,
    long: f64,
}

impl Count {
    fn add(&mut self, long: bool) {
        self.all += 1.0;
        self.long += f64::from(u8::from(long));
    }

    fn fade(&mut self, kept: f64) {
        self.all *= kept;
        self.long *= kept;
    }
}

/// The share of long prompts below the highest tier.
#[derive(Debug, Clone, Copy)]
pub(super) struct SizeShare {
    offered: Count,
    started: Count,
    overtaken_for: f64,
    stepped: Duration,
}

impl SizeShare {
    pub(super) fn new(now: Duration) -> Self {
        Self { offered: Count::default(), started: Count::default(), overtaken_for: 1.0, stepped: now }
    }

    /// A request came; one that comes back is counted again.
    pub(super) fn on_offer(&mut self, long: bool) {
        self.offered.add(long);
    }

    /// A request was started.
    pub(super) fn on_start(&mut self, long: bool) {
        self.started.add(long);
    }

    /// The part of its longest wait for which the next request may be overtaken; 1: for ever.
    pub(super) fn overtaken_for(&self) -> f64 {
        self.overtaken_for
    }

    /// One step, when one is due; `share` of the mean is what long prompts are to get.
    pub(super) fn step(&mut self, now: Duration, share: f64) {
        if now.saturating_sub(self.stepped) < STEP {
            return;
        }
        self.stepped = now;
        let short = self.offered.long >= LONG_MIN
            && self.started.long * self.offered.all < share * self.started.all * self.offered.long;
        let factor = if short { SHORTER } else { LONGER };
        self.overtaken_for = (self.overtaken_for * factor).clamp(LEAST, 1.0);
        let kept = (-STEP.as_secs_f64() / MEMORY_S).exp();
        self.offered.fade(kept);
        self.started.fade(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One long prompt in four, of which `started` in ten start, and eight in ten of the others: for a minute.
    fn after(started: u32, share: f64) -> f64 {
        let mut shares = SizeShare::new(Duration::ZERO);
        for step in 1..=120 {
            for n in 0..40 {
                let long = n % 4 == 0;
                shares.on_offer(long);
                if n / 4 < if long { started } else { 8 } {
                    shares.on_start(long);
                }
            }
            shares.step(Duration::from_millis(500 * step), share);
        }
        shares.overtaken_for()
    }

    #[test]
    fn long_prompts_are_overtaken_for_ever_while_they_get_their_share() {
        assert_eq!(after(8, 0.4), 1.0);
        assert_eq!(after(4, 0.4), 1.0);
        assert_eq!(after(2, 0.4), LEAST);
        assert_eq!(after(0, 0.0), 1.0, "unless nobody wants them to have one");
    }

    #[test]
    fn it_is_given_back_when_they_have_it() {
        let mut shares = SizeShare::new(Duration::ZERO);
        (0..100).for_each(|n| shares.on_offer(n % 2 == 0));
        (0..50).for_each(|_| shares.on_start(false));
        (1..=30).for_each(|n| shares.step(Duration::from_millis(500 * n), 0.4));
        assert!(shares.overtaken_for() < 0.1);

        (31..=300).for_each(|n| shares.step(Duration::from_millis(500 * n), 0.4));
        assert_eq!(shares.overtaken_for(), 1.0, "also when nobody asks any more");
    }
}
