//! A budget's own time: milliseconds that never run backwards.
//!
//! Callers read the clock before they take the budget's mutex, so a later call may bring a slightly earlier
//! `now`: that time is held still. A clock that falls back further than that (a suspended machine, a test) must
//! not lock the account out until it has caught up: the time line then goes on from where it was, as if nothing had
//! passed. Both ways no time is ever counted twice, so no step back refills a budget.
//!
//! After a restart the time line is resumed where the snapshot left it, plus the time that passed, so that ages
//! (of charges, samples, changes) survive although the process clock began again at zero.

use std::time::Duration;

/// Milliseconds on a budget's time line.
pub(crate) type Millis = u64;

/// A minute: the unit of limits, and how often the adaptive rule looks.
pub(crate) const MINUTE_MS: Millis = 60_000;

/// A step back up to this is callers overtaking each other on the way to the mutex; beyond, the clock fell back.
const OVERTAKING_MS_MAX: u64 = 1_000;

/// Where a budget's time line stands, and how it lies against the process clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timeline {
    latest: Millis,
    /// Time line minus process clock.
    shift_ms: i64,
}

impl Timeline {
    pub(crate) fn new(now: Duration) -> Self {
        Timeline { latest: millis(now), shift_ms: 0 }
    }

    /// A time line that was left at `latest`, `elapsed` before the process clock shows `now`.
    pub(crate) fn resumed(now: Duration, latest: Millis, elapsed: Duration) -> Self {
        let at_now = latest.saturating_add(millis(elapsed));
        Timeline { latest, shift_ms: signed(at_now).saturating_sub(signed(millis(now))) }
    }

    /// The latest time seen.
    pub(crate) fn latest(&self) -> Millis {
        self.latest
    }

    /// Where `now` lies on the time line, whether or not it has been reached.
    pub(crate) fn at(&self, now: Duration) -> Millis {
        u64::try_from(signed(millis(now)).saturating_add(self.shift_ms)).unwrap_or(0)
    }

    /// Moves on to `now` and returns the latest time seen.
    pub(crate) fn advance(&mut self, now: Duration) -> Millis {
        let at = self.at(now);
        if at >= self.latest {
            self.latest = at;
        } else if self.latest - at > OVERTAKING_MS_MAX {
            *self = Timeline::resumed(now, self.latest, Duration::ZERO);
        }
        self.latest
    }

    /// The process time of `at`, and how long before the process started it was. One of the two is zero.
    pub(crate) fn process_time(&self, at: Millis) -> (Duration, Duration) {
        let process = signed(at).saturating_sub(self.shift_ms);
        let distance = Duration::from_millis(process.unsigned_abs());
        if process >= 0 { (distance, Duration::ZERO) } else { (Duration::ZERO, distance) }
    }
}

/// Whole milliseconds, rounded down: boundaries lie on whole milliseconds, so none is reached too early.
pub(crate) fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn signed(ms: Millis) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at_ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Two callers that read the clock in one order and lock in the other must not gain time.
    #[test]
    fn a_small_step_back_is_held() {
        let mut line = Timeline::new(at_ms(10_000));

        line.advance(at_ms(9_500));
        let again = line.advance(at_ms(10_000));

        assert_eq!(again, 10_000, "the half second was not counted twice");
    }

    #[test]
    fn a_clock_that_falls_back_neither_stops_nor_gains() {
        let mut line = Timeline::new(at_ms(3_600_000));

        let fallen = line.advance(at_ms(5_000));
        let later = line.advance(at_ms(6_000));

        assert_eq!(fallen, 3_600_000, "nothing passed");
        assert_eq!(later, 3_601_000, "and then one second did");
    }

    #[test]
    fn a_resumed_line_knows_what_was_before_the_start() {
        let mut line = Timeline::resumed(at_ms(2_000), 90_000, at_ms(10_000));

        assert_eq!(line.advance(at_ms(2_000)), 100_000, "ten seconds passed in between");
        assert_eq!(line.process_time(100_500), (at_ms(2_500), Duration::ZERO));
        assert_eq!(line.process_time(90_000), (Duration::ZERO, at_ms(8_000)));
    }
}
