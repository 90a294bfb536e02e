//! How often something happened in the last seconds.
//!
//! Ten slots, each stamped with its own number, so that an old slot is recognised when it is read and
//! nothing has to be cleared in between. The span is therefore exact to one slot.
//!
//! Cost: counting is O(1), summing O(10), nothing allocates.

use std::time::Duration;

const SLOTS: u64 = 10;

/// A count over a sliding span of ten slots.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recent {
    slot: Duration,
    slots: [(u64, u32); SLOTS as usize],
}

impl Recent {
    /// Counts over the last `span`, at least 10 ns.
    pub(crate) fn over(span: Duration) -> Self {
        Self { slot: span / SLOTS as u32, slots: [(0, 0); SLOTS as usize] }
    }

    fn number(&self, now: Duration) -> u64 {
        // From 1, so that slots never used (number 0) are old from the start.
        (now.as_nanos() / self.slot.as_nanos().max(1)) as u64 + SLOTS
    }

    /// Adds `n` events at `now`.
    pub(crate) fn count(&mut self, now: Duration, n: u32) {
        let number = self.number(now);
        if let Some(slot) = self.slots.get_mut((number % SLOTS) as usize) {
            if slot.0 != number {
                *slot = (number, 0);
            }
            slot.1 = slot.1.saturating_add(n);
        }
    }

    /// Events within the span that ends at `now`.
    pub(crate) fn sum(&self, now: Duration) -> u32 {
        let oldest = self.number(now) - (SLOTS - 1);
        self.slots.iter().filter(|slot| slot.0 >= oldest).map(|slot| slot.1).fold(0, u32::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_leave_the_sum_when_the_span_has_passed() {
        let mut recent = Recent::over(Duration::from_secs(5));

        recent.count(Duration::ZERO, 3);
        recent.count(Duration::from_secs(3), 4);

        assert_eq!(recent.sum(Duration::from_millis(4_499)), 7);
        assert_eq!(recent.sum(Duration::from_millis(5_000)), 4);
        assert_eq!(recent.sum(Duration::from_secs(60)), 0);
    }
}
