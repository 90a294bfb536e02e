//! An engine's number of slots where nobody tells it, as its own queue shows it.
//!
//! First tokens that are late although tokens come in time mean that the engine keeps requests waiting inside. It has about
//! as many slots then as requests had tokens. That is held for ten seconds, and twice as long each time when trying one
//! more showed the same again. After it, N may grow, but by a quarter and one for each such time: an engine with four slots
//! must not get sixty requests because its replica was idle for a moment, and a limit that was lowered by mistake is back
//! where it was within two minutes.
//!
//! Cost: O(1), nothing allocates.

use std::time::Duration;

use super::gap::LIMIT_MAX;
use crate::learned::{LearnedSlots, sane};

const HOLD_MIN: Duration = Duration::from_secs(10);
const HOLD_MAX: Duration = Duration::from_secs(320);
/// What is tried next: so many times as many, and one.
const MORE: f64 = 1.25;

/// What is known of one replica's slots.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    /// They are taken as known until then.
    until: Duration,
    hold: Duration,
    ever_seen: bool,
    /// The most that is tried, and since when.
    most: Option<(f64, Duration)>,
}

impl Slots {
    pub(super) fn new(now: Duration) -> Self {
        Self { until: now, hold: HOLD_MIN, ever_seen: false, most: None }
    }

    /// The engine was seen to queue with so many requests that had tokens.
    pub(super) fn on_engine_queue(&mut self, now: Duration, slots: f64) {
        let again = self.ever_seen && now.saturating_sub(self.until) < 2 * self.hold;
        self.hold = if again { (2 * self.hold).min(HOLD_MAX) } else { HOLD_MIN };
        self.ever_seen = true;
        self.until = now + self.hold;
        self.most = Some((slots + 1.0, self.until));
    }

    /// What is known, for another process.
    pub(super) fn export(&self, now: Duration) -> Option<LearnedSlots> {
        let (most, _) = self.most?;
        let known_for_s = self.until.saturating_sub(now).as_secs_f64();
        Some(LearnedSlots { most, known_for_s, hold_s: self.hold.as_secs_f64() })
    }

    /// Goes on with what another process knows.
    pub(super) fn adopt(&mut self, now: Duration, known: &LearnedSlots) {
        let span = |seconds: f64| {
            Duration::try_from_secs_f64(seconds).unwrap_or(HOLD_MIN).clamp(Duration::ZERO, HOLD_MAX)
        };
        if let Some(most) = sane(Some(known.most), 1.0, LIMIT_MAX) {
            self.until = now + span(known.known_for_s);
            self.hold = span(known.hold_s).max(HOLD_MIN);
            self.ever_seen = true;
            self.most = Some((most, self.until));
        }
    }

    /// Whether the limit may grow.
    pub(super) fn may_grow(&self, now: Duration) -> bool {
        now >= self.until
    }

    /// Whether it was seen to queue, and N has not grown to `start` since.
    pub(super) fn is_known(&self) -> bool {
        self.most.is_some()
    }

    /// What of `limit` may be tried; from `start` on nothing is remembered.
    pub(super) fn bound(&mut self, now: Duration, limit: f64, start: f64) -> f64 {
        let Some((most, since)) = self.most else { return limit };
        if limit >= start {
            self.most = None;
        } else if limit >= most && now.saturating_sub(since) > self.hold {
            self.most = Some((MORE * most + 1.0, now));
        } else {
            return limit.min(most);
        }
        limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_was_found_is_held_and_then_left_step_by_step() {
        let mut slots = Slots::new(at(0));
        slots.on_engine_queue(at(100), 4.0);

        assert!(!slots.may_grow(at(109)) && slots.may_grow(at(110)));
        assert_eq!(slots.bound(at(110), 40.0, 64.0), 5.0, "one more, however idle it is");
        assert_eq!(slots.bound(at(115), 5.0, 64.0), 5.0);
        assert_eq!(slots.bound(at(121), 5.0, 64.0), 5.0);
        assert_eq!(slots.bound(at(122), 40.0, 64.0), 7.25, "a quarter and one more");
        assert!(slots.is_known());
    }

    #[test]
    fn a_mistake_is_over_within_two_minutes() {
        let mut slots = Slots::new(at(0));
        slots.on_engine_queue(at(0), 16.0);
        let mut limit = 16.0;
        let over = (20..).find(|&half_seconds| {
            let now = Duration::from_millis(500 * half_seconds);
            limit = slots.bound(now, 1.01 * limit + 0.5, 64.0);
            !slots.is_known()
        });
        assert!(over.is_some_and(|half_seconds| half_seconds < 240), "{over:?}");
    }

    #[test]
    fn each_time_that_it_shows_again_it_is_held_for_twice_as_long() {
        let mut slots = Slots::new(at(0));
        slots.on_engine_queue(at(0), 4.0);
        slots.on_engine_queue(at(15), 4.0);
        assert!(!slots.may_grow(at(34)) && slots.may_grow(at(35)));
        slots.on_engine_queue(at(500), 4.0);
        assert!(slots.may_grow(at(510)), "long after, it is a new finding");
    }
}
