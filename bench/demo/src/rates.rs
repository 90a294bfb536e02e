//! What the load generators counted, as rates of the last two seconds.

use load::{LiveTier, LoadRun};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Over how long rates are taken, so that a single request does not make them jump.
const WINDOW: Duration = Duration::from_secs(2);

/// One tier's counters at one moment, or between two.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) offered: u64,
    pub(super) completed: u64,
    pub(super) attained: u64,
    /// 429.
    pub(super) budget: u64,
    /// 503.
    pub(super) load: u64,
    pub(super) failed: u64,
    /// Sum of times to first token, and their number.
    pub(super) ttft_us: u64,
    pub(super) ttft_count: u64,
}

impl Counts {
    fn of(tier: &LiveTier) -> Self {
        Counts {
            offered: tier.offered.load(Relaxed),
            completed: tier.completed.load(Relaxed),
            attained: tier.attained.load(Relaxed),
            budget: tier.refused_429.load(Relaxed),
            load: tier.refused_503.load(Relaxed),
            failed: tier.failed.load(Relaxed),
            ttft_us: tier.ttft_us.load(Relaxed),
            ttft_count: tier.ttft_count.load(Relaxed),
        }
    }

    fn since(self, last: Self) -> Self {
        Counts {
            offered: self.offered - last.offered,
            completed: self.completed - last.completed,
            attained: self.attained - last.attained,
            budget: self.budget - last.budget,
            load: self.load - last.load,
            failed: self.failed - last.failed,
            ttft_us: self.ttft_us - last.ttft_us,
            ttft_count: self.ttft_count - last.ttft_count,
        }
    }

    /// Mean time to first token.
    pub(super) fn ttft_ms(self) -> u64 {
        self.ttft_us / self.ttft_count.max(1) / 1000
    }

    /// Share of what ended otherwise than over its own budget that was served within the SLO, percent.
    pub(super) fn in_slo_percent(self) -> f64 {
        100.0 * self.attained as f64 / (self.completed + self.load + self.failed).max(1) as f64
    }
}

/// One tier: what came lately, and since the start.
#[derive(Debug, Clone, Default)]
pub(super) struct Tier {
    pub(super) name: String,
    pub(super) lately: Counts,
    pub(super) in_all: Counts,
    /// What `lately` is over.
    pub(super) seconds: f64,
}

impl Tier {
    /// `count` of `lately` per second.
    pub(super) fn per_s(&self, count: u64) -> f64 {
        count as f64 / self.seconds
    }
}

/// The counters of the last moments at which they were looked at.
#[derive(Default)]
pub(super) struct Rates {
    /// Oldest first: those of the window, and one before it.
    seen: VecDeque<(Duration, Vec<Counts>)>,
}

impl Rates {
    /// Every tier at `now`.
    pub(super) fn tiers(&mut self, now: Duration, loads: &[LoadRun]) -> Vec<Tier> {
        let live = || loads.iter().flat_map(|load| &load.live.tiers);
        let counts: Vec<Counts> = live().map(Counts::of).collect();
        // The demo began when it was first looked at.
        let (since, before) = self.before(now).unwrap_or_default();
        let seconds = now.saturating_sub(since).as_secs_f64().max(1e-3);
        let tiers = live().zip(&counts).enumerate().map(|(nth, (tier, in_all))| {
            let lately = in_all.since(before.get(nth).copied().unwrap_or_default());
            Tier { name: tier.name.clone(), lately, in_all: *in_all, seconds }
        });
        let tiers = tiers.collect();
        self.seen.push_back((now, counts));
        tiers
    }

    /// The youngest counters that are as old as the window; older ones are forgotten.
    fn before(&mut self, now: Duration) -> Option<(Duration, Vec<Counts>)> {
        while self.seen.get(1).is_some_and(|(at, _)| *at + WINDOW <= now) {
            self.seen.pop_front();
        }
        self.seen.front().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_differences() {
        let before = Counts { offered: 10, ttft_us: 1000, ttft_count: 1, ..Counts::default() };
        let now = Counts { offered: 15, ttft_us: 9000, ttft_count: 3, ..Counts::default() };

        let rate = now.since(before);

        assert_eq!((rate.offered, rate.ttft_ms()), (5, 4));
    }

    #[test]
    fn the_window_slides_and_a_long_pause_is_one_window() {
        let at = Duration::from_millis;
        let mut rates = Rates::default();
        rates.seen.extend([0, 500, 1000, 1500, 2000].map(|ms| (at(ms), Vec::new())));

        let since = [at(2500), at(2900), at(60_000)].map(|now| rates.before(now).unwrap().0);

        assert_eq!(since, [at(500), at(500), at(2000)]);
        assert_eq!(rates.seen.len(), 1);
    }
}
