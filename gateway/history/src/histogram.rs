//! A mergeable histogram of durations: from 0.1 ms to two hours, to 1 part in 16, in 776 bytes.
//!
//! Bins are linear within each power of two, eight of them: the index is the exponent and the three bits after the leading
//! one, so that recording is a few instructions. A quantile is interpolated within its bin.

use std::time::Duration;

/// Bins of each power of two, as bits.
const BIN_BITS: u32 = 3;
const BINS_OF_POWER: u64 = 1 << BIN_BITS;
/// The unit of a bin's bounds.
const TICK: Duration = Duration::from_micros(100);
/// Bins in all. What is longer than the last one's bound, 7,456 s, counts there.
const BINS: usize = 192;

/// Durations, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: [u32; BINS],
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: [0; BINS], total: 0 }
    }
}

impl Histogram {
    /// Counts `value` as many times as `count` says. O(1), does not allocate.
    pub fn record(&mut self, value: Duration, count: u32) {
        if let Some(bin) = self.counts.get_mut(bin_of(ticks(value))) {
            *bin = bin.saturating_add(count);
            self.total += u64::from(count);
        }
    }

    /// Adds what another one counted. O(bins); nothing when that one is empty.
    pub fn add(&mut self, other: &Histogram) {
        if other.total == 0 {
            return;
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
        self.total += other.total;
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        if self.total > 0 {
            *self = Histogram::default();
        }
    }

    /// How many were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The duration that this share of all does not exceed. `None` when nothing was counted. O(bins).
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        if self.total == 0 {
            return None;
        }
        let rank = (share.clamp(0.0, 1.0) * self.total as f64).max(1.0);
        let mut before = 0.0;
        for (bin, &count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = f64::from(count);
            if before + count >= rank {
                let (low, high) = bounds(bin);
                let part = (rank - before - 0.5).max(0.0) / count;
                let ticks = low as f64 + part * (high - low) as f64;
                return Some(TICK.mul_f64(ticks));
            }
            before += count;
        }
        // A bin that is full counts no further, so the ranks may run beyond the counts.
        let last = self.counts.iter().rposition(|count| *count > 0)?;
        Some(TICK.mul_f64(bounds(last).0 as f64))
    }
}

/// A duration in ticks.
pub(crate) fn ticks(value: Duration) -> u64 {
    u64::try_from(value.as_micros() / TICK.as_micros()).unwrap_or(u64::MAX)
}

/// So many ticks.
pub(crate) fn of_ticks(ticks: u64) -> Duration {
    TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
}

fn bin_of(ticks: u64) -> usize {
    if ticks < BINS_OF_POWER {
        return ticks as usize;
    }
    let power = ticks.ilog2();
    let part = ticks >> (power - BIN_BITS) & (BINS_OF_POWER - 1);
    let bin = u64::from(power - BIN_BITS + 1) * BINS_OF_POWER + part;
    usize::try_from(bin).unwrap_or(BINS).min(BINS - 1)
}

/// The ticks from which and below which a bin counts.
fn bounds(bin: usize) -> (u64, u64) {
    let bin = bin as u64;
    if bin < BINS_OF_POWER {
        return (bin, bin + 1);
    }
    let shift = bin / BINS_OF_POWER - 1;
    let low = (BINS_OF_POWER + bin % BINS_OF_POWER) << shift;
    (low, low + (1 << shift))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_quantile_of_nothing_is_nothing() {
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn merged_is_as_if_all_had_been_counted_in_one() {
        let (mut one, mut two, mut both) = (Histogram::default(), Histogram::default(), Histogram::default());
        for n in 1..500 {
            let half = if n % 3 == 0 { &mut one } else { &mut two };
            half.record(ms(n * n), 1);
            both.record(ms(n * n), 1);
        }
        one.add(&two);
        assert_eq!(one, both);
    }

    #[test]
    fn every_bin_begins_where_the_one_before_ends() {
        for bin in 1..BINS {
            assert_eq!(bounds(bin - 1).1, bounds(bin).0, "bin {bin}");
            assert_eq!((bin_of(bounds(bin).0), bin_of(bounds(bin).1 - 1)), (bin, bin));
        }
    }

    #[test]
    fn what_is_longer_than_all_bins_counts_in_the_last() {
        let mut long = Histogram::default();
        long.record(Duration::MAX, 1);
        assert!(long.quantile(1.0).is_some_and(|longest| longest > Duration::from_secs(6_000)));
    }

    proptest! {
        /// A quantile is as far from the exact one as its bin is wide, at most: an eighth, and a tick where it is short.
        #[test]
        fn quantiles_are_right_to_an_eighth(mut values in prop::collection::vec(1_u64..3_000_000, 1..300), share in 0.0_f64..1.0) {
            let mut histogram = Histogram::default();
            values.iter().for_each(|micros| histogram.record(Duration::from_micros(*micros), 1));
            values.sort_unstable();
            let rank = ((share * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1] as f64;
            let told = histogram.quantile(share).unwrap().as_micros() as f64;
            prop_assert!((told - exact).abs() <= exact / 8.0 + 100.0, "{told} for {exact}");
        }
    }
}
