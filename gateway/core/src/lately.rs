//! What a deployment admitted, let wait and shed in the last minute, from counters that only grow.
//!
//! Once a second the counters are put aside, sixty of them; the difference between now and the oldest is the last
//! minute. A rate over it is steady enough to read and young enough to act on, and nothing is counted per request.

use shedder::{Counters, PerTier, Reason, Tier};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Seconds that are looked back.
const SECONDS: usize = 60;

/// The counters of one deployment, second by second.
#[derive(Debug, Clone, Default)]
pub struct LastMinute {
    /// At most [`SECONDS`], the oldest first.
    seconds: VecDeque<(Duration, Counters)>,
}

/// What happened between two moments, by tier.
#[derive(Debug, Clone, PartialEq)]
pub struct Lately {
    /// How long that was; at most a minute, less after a start.
    pub span: Duration,
    /// By tier.
    pub tiers: PerTier<TierLately>,
}

/// What happened to the requests of a tier.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TierLately {
    /// Requests that got a place.
    pub admitted: u64,
    /// Requests that had to wait.
    pub waited: u64,
    /// Requests that were shed, by reason; reasons without any are left out.
    pub shed: BTreeMap<&'static str, u64>,
}

impl LastMinute {
    /// Puts the counters of this second aside.
    pub fn note(&mut self, now: Duration, counters: Counters) {
        if self.seconds.len() == SECONDS {
            self.seconds.pop_front();
        }
        self.seconds.push_back((now, counters));
    }

    /// What happened since the oldest second that is remembered.
    #[must_use]
    pub fn until(&self, now: Duration, counters: &Counters) -> Lately {
        let start = (now, counters.clone());
        let (since, before) = self.seconds.front().unwrap_or(&start);
        let tier = |tier: Tier| TierLately {
            admitted: counters.admitted[tier].saturating_sub(before.admitted[tier]),
            waited: counters.waited[tier].saturating_sub(before.waited[tier]),
            shed: Reason::ALL
                .into_iter()
                .map(|reason| {
                    let count = counters.shed[tier].of(reason).saturating_sub(before.shed[tier].of(reason));
                    (reason.name(), count)
                })
                .filter(|(_, count)| *count > 0)
                .collect(),
        };
        Lately { span: now.saturating_sub(*since), tiers: PerTier::from_fn(tier) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(admitted: u64) -> Counters {
        Counters { admitted: PerTier { regular: admitted, ..PerTier::default() }, ..Counters::default() }
    }

    #[test]
    fn a_minute_is_the_difference_to_sixty_seconds_ago() {
        let mut minute = LastMinute::default();
        for second in 0..100 {
            minute.note(Duration::from_secs(second), counters(10 * second));
        }

        let lately = minute.until(Duration::from_secs(100), &counters(1000));

        assert_eq!(lately.span, Duration::from_secs(60));
        assert_eq!((lately.tiers.regular.admitted, lately.tiers.priority.admitted), (600, 0));
        assert!(lately.tiers.regular.shed.is_empty());
    }

    #[test]
    fn before_the_first_second_nothing_happened() {
        let lately = LastMinute::default().until(Duration::from_secs(5), &counters(7));
        assert_eq!((lately.span, lately.tiers.regular.admitted), (Duration::ZERO, 0));
    }
}
