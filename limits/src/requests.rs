//! How many requests an account may send per minute, and how many may run at once.
//!
//! Checked from the headers alone, before a body is read, for all models together. Shed requests count too: being shed
//! must not be free to repeat. A request that this meter itself refuses does not count, or an account that
//! keeps trying would lock itself out.

use std::time::Duration;

use crate::ledger::until_slot;
use crate::window::timeline::Timeline;
use crate::window::{Window, slot_at};

/// When to try again where the places are taken by running requests: nobody knows when one ends.
const CONCURRENCY_RETRY: Duration = Duration::from_secs(1);

/// Requests per minute and running requests of one account: a sliding minute as a budget's, about 1 KiB from the first request
/// on, and some bytes before it.
#[derive(Debug, Clone)]
pub struct RequestMeter {
    timeline: Timeline,
    /// Absent until the first request: most accounts that are configured send none.
    window: Option<Box<Window>>,
    requests_per_minute: u64,
    concurrency: u32,
    live: u32,
}

/// Which limit a request ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestRefusalKind {
    /// Too many requests in the last minute.
    Requests,
    /// Too many running requests.
    Concurrency,
}

/// Why a request may not enter. It was not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestRefusal {
    /// Which limit it ran into.
    pub kind: RequestRefusalKind,
    /// That limit: requests per minute, or running requests.
    pub limit: u64,
    /// What counts against it now.
    pub used: u64,
    /// When there will be room: exact for requests per minute, a guess of a second for running ones.
    /// `None`: never, the limit is zero.
    pub retry_after: Option<Duration>,
}

/// How many requests of the last minute are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestsView {
    /// Requests per minute.
    pub limit: u64,
    /// What is left of them.
    pub remaining: u64,
    /// When at least half of the limit will be free if nothing else comes; zero if it is.
    pub until_half: Duration,
}

impl RequestMeter {
    /// A meter that has seen nothing. A limit of zero admits nothing.
    #[must_use]
    pub fn new(requests_per_minute: u64, concurrency: u32) -> Self {
        // An empty minute moves to any time in one step, so where it begins does not matter.
        let timeline = Timeline::new(Duration::ZERO);
        RequestMeter { timeline, window: None, requests_per_minute, concurrency, live: 0 }
    }

    /// Counts a request and takes a place for it, until [`leave`](RequestMeter::leave).
    ///
    /// # Errors
    ///
    /// A [`RequestRefusal`] where a limit is reached. Nothing was counted.
    pub fn enter(&mut self, now: Duration) -> Result<(), RequestRefusal> {
        self.check(now)?;
        let (newest, limit) = (slot_at(self.timeline.latest()), self.requests_per_minute);
        if let Some(window) = &mut self.window {
            window.charge(newest, 1, limit);
        }
        self.live += 1;
        Ok(())
    }

    /// Whether a request could [`enter`](RequestMeter::enter) now, for whoever needs a place in two meters or in none.
    ///
    /// # Errors
    ///
    /// A [`RequestRefusal`] where a limit is reached.
    pub fn check(&mut self, now: Duration) -> Result<(), RequestRefusal> {
        let limit = self.requests_per_minute;
        let newest = slot_at(self.timeline.advance(now));
        let window = self.window.get_or_insert_with(|| Box::new(Window::new(0)));
        window.advance(newest, limit);
        let sent = window.sum();
        if sent >= limit {
            return Err(RequestRefusal {
                kind: RequestRefusalKind::Requests,
                limit,
                used: sent,
                retry_after: self.until_room(now),
            });
        }
        if self.live >= self.concurrency {
            return Err(RequestRefusal {
                kind: RequestRefusalKind::Concurrency,
                limit: u64::from(self.concurrency),
                used: u64::from(self.live),
                retry_after: (self.concurrency > 0).then_some(CONCURRENCY_RETRY),
            });
        }
        Ok(())
    }

    /// What is left, as of the last request that entered.
    #[must_use]
    pub fn view(&self, now: Duration) -> RequestsView {
        let limit = self.requests_per_minute;
        let half = limit.div_ceil(2);
        RequestsView {
            limit,
            remaining: limit.saturating_sub(self.window.as_ref().map_or(0, |window| window.sum())),
            until_half: self.until_allowed(now, limit - half),
        }
    }

    /// Gives a place back. One `leave` for each `enter` that was granted.
    pub fn leave(&mut self) {
        self.live = self.live.saturating_sub(1);
    }

    /// Running requests. Zero at rest.
    #[must_use]
    pub fn live(&self) -> u32 {
        self.live
    }

    /// Puts new limits in force. What was counted and what runs stays.
    pub fn reconfigure(&mut self, requests_per_minute: u64, concurrency: u32) {
        self.requests_per_minute = requests_per_minute;
        self.concurrency = concurrency;
    }

    fn until_room(&self, now: Duration) -> Option<Duration> {
        Some(self.until_allowed(now, self.requests_per_minute.checked_sub(1)?))
    }

    /// How long until at most `allowed` requests count; zero where that is so already.
    fn until_allowed(&self, now: Duration, allowed: u64) -> Duration {
        let Some(window) = &self.window else { return Duration::ZERO };
        let slots = window.slots_until(allowed, 0, self.requests_per_minute).unwrap_or(0);
        until_slot(window.newest(), slots, self.timeline.at(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at_ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn requests_are_counted_over_any_minute_and_room_comes_when_told() {
        let mut meter = RequestMeter::new(3, 100);
        for second in [10, 20, 30] {
            meter.enter(at_ms(second * 1_000)).unwrap();
            meter.leave();
        }

        let refused = meter.enter(at_ms(40_100)).unwrap_err();
        let wait = refused.retry_after.unwrap();

        assert_eq!((refused.kind, refused.limit, refused.used), (RequestRefusalKind::Requests, 3, 3));
        assert_eq!(at_ms(40_100) + wait, at_ms(70_250), "the first one's slot has left");
        assert!(meter.enter(at_ms(40_100) + wait - at_ms(1)).is_err(), "not a moment earlier");
        assert!(meter.enter(at_ms(40_100) + wait).is_ok());
    }

    #[test]
    fn what_is_left_is_told_with_the_time_until_half_is() {
        let mut meter = RequestMeter::new(4, 100);
        meter.enter(at_ms(10_000)).unwrap();
        let one = meter.view(at_ms(10_000));
        assert_eq!((one.limit, one.remaining, one.until_half), (4, 3, Duration::ZERO));

        meter.enter(at_ms(20_000)).unwrap();
        meter.enter(at_ms(20_000)).unwrap();
        let three = meter.view(at_ms(20_000));
        assert_eq!(
            (three.remaining, three.until_half),
            (1, at_ms(50_250)),
            "when the first one's slot has left"
        );
    }

    /// Who needs a place in two meters asks the first one before it enters either.
    #[test]
    fn to_ask_counts_nothing() {
        let mut meter = RequestMeter::new(1, 1);
        (0..5).for_each(|_| assert_eq!(meter.check(at_ms(0)), Ok(())));
        meter.enter(at_ms(0)).unwrap();

        assert_eq!(meter.check(at_ms(0)).unwrap_err().kind, RequestRefusalKind::Requests);
        assert_eq!(meter.view(at_ms(0)).remaining, 0);
        assert_eq!(meter.live(), 1);
    }

    /// An account that hammers a closed door is let in as soon as one that waits.
    #[test]
    fn a_refused_request_does_not_count() {
        let mut meter = RequestMeter::new(1, 100);
        meter.enter(at_ms(0)).unwrap();

        let admitted = (1..=61_000).step_by(10).find(|&ms| meter.enter(at_ms(ms)).is_ok());

        assert_eq!(admitted, Some(60_251));
    }

    #[test]
    fn running_requests_are_bounded_and_come_back_to_zero() {
        let mut meter = RequestMeter::new(100, 2);
        meter.enter(at_ms(0)).unwrap();
        meter.enter(at_ms(0)).unwrap();

        let refused = meter.enter(at_ms(0)).unwrap_err();
        assert_eq!((refused.kind, refused.limit, refused.used), (RequestRefusalKind::Concurrency, 2, 2));

        meter.leave();
        assert!(meter.enter(at_ms(1)).is_ok(), "a place was given back");
        meter.leave();
        meter.leave();
        meter.leave();
        assert_eq!(meter.live(), 0, "one leave too many does not wrap");
    }

    #[test]
    fn who_never_sends_costs_next_to_nothing() {
        assert!(size_of::<RequestMeter>() <= 64, "{} bytes", size_of::<RequestMeter>());
        let view = RequestMeter::new(10, 1).view(at_ms(5_000));
        assert_eq!((view.remaining, view.until_half), (10, Duration::ZERO));
    }

    #[test]
    fn a_limit_of_nothing_offers_no_retry() {
        assert_eq!(RequestMeter::new(0, 1).enter(at_ms(0)).unwrap_err().retry_after, None);
        assert_eq!(RequestMeter::new(1, 0).enter(at_ms(0)).unwrap_err().retry_after, None);
    }

    #[test]
    fn a_lowered_limit_keeps_what_was_counted() {
        let mut meter = RequestMeter::new(10, 10);
        for _ in 0..5 {
            meter.enter(at_ms(0)).unwrap();
        }

        meter.reconfigure(5, 10);

        assert_eq!(meter.enter(at_ms(1)).unwrap_err().used, 5);
    }
}
