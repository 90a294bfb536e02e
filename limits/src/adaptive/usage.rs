//! Three days of use in samples of 15 minutes: what the adaptive rule remembers.
//!
//! 288 samples of four bytes, each the mean tokens per minute of a quarter of an hour, aligned to the time line. The
//! largest is found anew whenever a quarter ends: 288 steps per 15 minutes.

use std::time::Duration;

use crate::window::timeline::{MINUTE_MS, Millis};

/// Minutes of a sample.
const QUARTER_MINUTES: u64 = 15;
/// Samples that are kept.
pub(crate) const QUARTERS: u64 = 3 * 24 * 4;
/// How long use can be observed at most.
pub(crate) const OBSERVED_MAX: Duration = Duration::from_secs(QUARTERS * QUARTER_MINUTES * 60);

/// The use of one meter over the last three days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Ring of samples in tokens per minute, at `quarter % QUARTERS`.
    samples: [u32; QUARTERS as usize],
    /// The running quarter, counted on the time line.
    quarter: u64,
    /// Tokens of the running quarter.
    running: u64,
    /// The largest of the newest `observed` samples.
    busiest: u64,
}

impl Usage {
    /// No use so far; `minute` is running.
    pub(crate) fn new(minute: u64) -> Self {
        Usage { samples: [0; QUARTERS as usize], quarter: minute / QUARTER_MINUTES, running: 0, busiest: 0 }
    }

    /// The busiest sample among those observed, in tokens per minute.
    pub(crate) fn busiest(&self) -> u64 {
        self.busiest
    }

    /// Adds the tokens of `minute`, which has ended. Minutes come in order, without gaps.
    pub(crate) fn end_minute(&mut self, minute: u64, tokens: u64, observed: Duration) {
        self.running = self.running.saturating_add(tokens);
        if (minute + 1).is_multiple_of(QUARTER_MINUTES) {
            let mean = u32::try_from(self.running / QUARTER_MINUTES).unwrap_or(u32::MAX);
            self.put(self.quarter, mean);
            self.quarter += 1;
            self.running = 0;
            self.observe(observed);
        }
    }

    /// Finds the busiest sample of the newest `observed`.
    pub(crate) fn observe(&mut self, observed: Duration) {
        self.busiest = self.newest_first(observed).map(|(_, mean)| mean).max().unwrap_or(0);
    }

    /// When the last sample of at least `tokens` per minute will no longer be observed; zero if there is none.
    pub(crate) fn quiet_from(&self, is_busy: impl Fn(u64) -> bool, observed: Duration) -> Millis {
        let last_busy = self.newest_first(observed).find(|&(_, mean)| is_busy(mean));
        last_busy.map_or(0, |(quarter, _)| (quarter + 1 + quarters(observed)) * QUARTER_MINUTES * MINUTE_MS)
    }

    /// Tokens of the running quarter so far.
    pub(crate) fn running(&self) -> u64 {
        self.running
    }

    /// The samples that can still become the largest, the newest first: a smaller one that is older than a larger
    /// one leaves before it. Few, whatever the use was.
    pub(crate) fn staircase(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        let mut top = 0;
        self.newest_first(OBSERVED_MAX).filter_map(move |(quarter, mean)| {
            let higher = mean > top;
            top = top.max(mean);
            higher.then(|| (quarter, u32::try_from(mean).unwrap_or(u32::MAX)))
        })
    }

    /// Puts back what a snapshot kept.
    pub(crate) fn restore(
        &mut self,
        staircase: impl Iterator<Item = (u64, u32)>,
        running: u64,
        observed: Duration,
    ) {
        for (quarter, mean) in staircase {
            if quarter < self.quarter && quarter + QUARTERS >= self.quarter {
                self.put(quarter, mean);
            }
        }
        self.running = running;
        self.observe(observed);
    }

    fn put(&mut self, quarter: u64, mean: u32) {
        if let Some(place) = self.samples.get_mut((quarter % QUARTERS) as usize) {
            *place = mean;
        }
    }

    fn newest_first(&self, observed: Duration) -> impl Iterator<Item = (u64, u64)> + '_ {
        let oldest = self.quarter.saturating_sub(quarters(observed));
        (oldest..self.quarter).rev().map(|quarter| {
            let mean = self.samples.get((quarter % QUARTERS) as usize).copied();
            (quarter, mean.map_or(0, u64::from))
        })
    }
}

/// Whole samples in `observed`, at least one and at most all.
fn quarters(observed: Duration) -> u64 {
    (observed.as_secs() / (QUARTER_MINUTES * 60)).clamp(1, QUARTERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends `quarters` quarters of an hour with `tokens` in each minute.
    fn use_for(usage: &mut Usage, minute: &mut u64, quarters: u64, tokens: u64) {
        for _ in 0..quarters * QUARTER_MINUTES {
            usage.end_minute(*minute, tokens, OBSERVED_MAX);
            *minute += 1;
        }
    }

    #[test]
    fn the_busiest_quarter_counts_for_three_days_and_then_no_more() {
        let (mut usage, mut minute) = (Usage::new(0), 0);
        use_for(&mut usage, &mut minute, 1, 900);

        use_for(&mut usage, &mut minute, QUARTERS - 1, 100);
        assert_eq!(usage.busiest(), 900, "the last quarter of three days");

        use_for(&mut usage, &mut minute, 1, 100);
        assert_eq!(usage.busiest(), 100);
    }

    /// One busy minute in an idle quarter of an hour is a fifteenth of it.
    #[test]
    fn a_sample_is_a_mean() {
        let mut usage = Usage::new(0);

        for minute in 0..15 {
            usage.end_minute(minute, if minute == 3 { 1_500 } else { 0 }, OBSERVED_MAX);
        }

        assert_eq!(usage.busiest(), 100);
    }

    #[test]
    fn the_staircase_is_all_that_is_needed_to_go_on() {
        let (mut usage, mut minute) = (Usage::new(0), 0);
        for tokens in [50, 900, 300, 400, 400, 100] {
            use_for(&mut usage, &mut minute, 1, tokens);
        }
        let kept: Vec<_> = usage.staircase().collect();
        assert_eq!(kept, [(5, 100), (4, 400), (1, 900)], "older and smaller ones cannot matter again");

        let mut restored = Usage::new(minute);
        restored.restore(kept.into_iter(), 0, OBSERVED_MAX);
        for _ in 0..QUARTERS {
            use_for(&mut usage, &mut minute, 1, 0);
            let mut other = minute - QUARTER_MINUTES;
            use_for(&mut restored, &mut other, 1, 0);
            assert_eq!(usage.busiest(), restored.busiest());
        }
    }

    #[test]
    fn it_is_known_when_a_busy_quarter_will_be_forgotten() {
        let (mut usage, mut minute) = (Usage::new(0), 0);
        use_for(&mut usage, &mut minute, 1, 10);
        use_for(&mut usage, &mut minute, 1, 900);
        use_for(&mut usage, &mut minute, 7, 10);

        let quiet_from = usage.quiet_from(|mean| mean >= 500, OBSERVED_MAX);

        while usage.busiest() >= 500 {
            use_for(&mut usage, &mut minute, 1, 10);
        }
        assert_eq!(quiet_from, minute * MINUTE_MS);
        assert_eq!(usage.quiet_from(|mean| mean >= 500, OBSERVED_MAX), 0, "there is none any more");
    }
}
