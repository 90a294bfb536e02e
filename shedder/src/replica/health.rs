//! Whether a replica is in service: ejection on failures, half-open trials, slow start, back-pressure.
//!
//! Connect errors, resets and timeouts before the first token count, consecutively; three eject, a refused
//! connection does at once because it leaves no doubt. An ejected replica is tried with one request after
//! 1 s, doubling to 30 s while it keeps failing, and comes back with a limit that doubles every second.
//! The caller sees to it that at most half of the replicas are ejected: beyond that, ejecting moves load
//! onto replicas that cannot take it.
//!
//! A busy engine answers its health probe late. So a missed probe says nothing while tokens flow: the
//! replica's own streams are the better witness.
//!
//! An engine's 429, 503 or 529 is not a fault. It closes the replica for the time that the engine asks for.

use std::time::Duration;

use crate::offer::Failure;

const FAILURES_MAX: u32 = 3;
const EJECT_FIRST: Duration = Duration::from_secs(1);
const EJECT_MAX: Duration = Duration::from_secs(30);
const PROBES_MISSED_MAX: u32 = 2;
/// Tokens seen within this time prove a replica alive.
const ALIVE: Duration = Duration::from_secs(10);
/// The pause after an engine's first "too busy" that names no time; doubled with each one that follows before
/// an answer. One odd refusal must not close an idle deployment for longer than a request waits.
const BUSY_FIRST: Duration = Duration::from_millis(125);
const BUSY_DOUBLINGS_MAX: u32 = 4;
const BUSY_MIN: Duration = Duration::from_millis(100);
const BUSY_MAX: Duration = Duration::from_secs(10);
const SLOW_START: Duration = Duration::from_secs(8);
const SLOW_START_FROM: f64 = 4.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    In,
    /// Out until then; afterwards half-open.
    Ejected(Duration),
}

/// What may be sent to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// Anything.
    In,
    /// One request, to see whether it answers.
    HalfOpen,
    /// Nothing.
    Out,
}

/// The health of one replica.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    state: State,
    failures: u32,
    ejections: u32,
    out_since: Duration,
    back_since: Option<Duration>,
    probes_missed: u32,
    down: bool,
    busy_until: Duration,
    busy_in_a_row: u32,
    /// It was ejected for what it answers, which no probe can see.
    outlier: bool,
    progress: Option<Duration>,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self {
            state: State::In,
            failures: 0,
            ejections: 0,
            out_since: Duration::ZERO,
            back_since: None,
            probes_missed: 0,
            down: false,
            busy_until: Duration::ZERO,
            busy_in_a_row: 0,
            outlier: false,
            progress: None,
        }
    }

    pub(crate) fn service(&self, now: Duration) -> Service {
        match self.state {
            _ if self.down => Service::Out,
            State::In => Service::In,
            State::Ejected(until) if now >= until => Service::HalfOpen,
            State::Ejected(_) => Service::Out,
        }
    }

    /// Ejected by failures, half-open included.
    pub(crate) fn is_ejected(&self) -> bool {
        self.state != State::In
    }

    /// It was ejected because it failed what others served: only a served request brings it back.
    pub(crate) fn set_outlier(&mut self) {
        self.outlier = true;
    }

    /// Ejected for its answers.
    pub(crate) fn is_outlier(&self) -> bool {
        self.outlier
    }

    /// Half-open, and a request sent at `sent` is its trial.
    pub(crate) fn is_trial(&self, now: Duration, sent: Duration) -> bool {
        self.service(now) == Service::HalfOpen && sent >= self.out_since
    }

    /// Taken out by its probe.
    pub(crate) fn is_down(&self) -> bool {
        self.down
    }

    /// Whether the engine asked for a pause.
    pub(crate) fn is_busy(&self, now: Duration) -> bool {
        now < self.busy_until
    }

    /// The highest limit that slow start allows now.
    pub(crate) fn limit_max(&self, now: Duration) -> f64 {
        match self.back_since.map(|since| now.saturating_sub(since)) {
            Some(age) if age < SLOW_START => SLOW_START_FROM * age.as_secs_f64().exp2(),
            _ => f64::INFINITY,
        }
    }

    /// Tokens flow on a stream that was begun at any time.
    pub(crate) fn on_progress(&mut self, now: Duration) {
        self.progress = Some(now);
        self.probes_missed = 0;
    }

    /// A request that was sent at `sent` was answered. One sent before the replica was taken out proves
    /// nothing about now. Returns whether it is back in service by this.
    pub(crate) fn on_success(&mut self, now: Duration, sent: Duration) -> bool {
        self.on_progress(now);
        self.failures = 0;
        self.busy_in_a_row = 0;
        let back = (self.state != State::In || self.down) && sent >= self.out_since;
        if back {
            self.come_back(now);
        }
        back
    }

    fn come_back(&mut self, now: Duration) {
        self.state = State::In;
        self.outlier = false;
        self.down = false;
        self.failures = 0;
        self.probes_missed = 0;
        self.back_since = Some(now);
    }

    /// A request failed. Returns whether the replica should be ejected.
    pub(crate) fn on_failure(&mut self, now: Duration, why: Failure) -> bool {
        match why {
            Failure::Busy { retry_after } => {
                let usual = BUSY_FIRST * (1 << self.busy_in_a_row.min(BUSY_DOUBLINGS_MAX));
                let pause = retry_after.unwrap_or(usual).clamp(BUSY_MIN, BUSY_MAX);
                self.busy_until = self.busy_until.max(now + pause);
                self.busy_in_a_row = self.busy_in_a_row.saturating_add(1);
                return false;
            }
            Failure::Connect => self.failures = self.failures.max(FAILURES_MAX - 1) + 1,
            Failure::Reset | Failure::Timeout => self.failures += 1,
            // It answered, or was never asked.
            Failure::Unexplained { .. } | Failure::Absent | Failure::Ours => return false,
        }
        self.failures >= FAILURES_MAX && self.service(now) != Service::Out
    }

    pub(crate) fn eject(&mut self, now: Duration) {
        if self.back_since.is_some_and(|since| now.saturating_sub(since) > 10 * EJECT_MAX) {
            self.ejections = 0;
        }
        let pause = EJECT_FIRST.saturating_mul(1 << self.ejections.min(5)).min(EJECT_MAX);
        self.ejections = self.ejections.saturating_add(1);
        self.out_since = now;
        self.outlier = false;
        self.state = State::Ejected(now + pause);
    }

    /// The result of an active probe.
    pub(crate) fn on_probe(&mut self, now: Duration, healthy: bool) {
        if healthy {
            self.probes_missed = 0;
            if self.outlier {
                self.down = false;
            } else if self.down || self.service(now) == Service::HalfOpen {
                self.come_back(now);
            }
            return;
        }
        let alive = self.progress.is_some_and(|at| now.saturating_sub(at) < ALIVE);
        if !alive {
            self.probes_missed += 1;
            if self.probes_missed >= PROBES_MISSED_MAX && !self.down {
                self.down = true;
                self.out_since = now;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn three_resets_in_a_row_eject_and_a_success_in_between_does_not() {
        let mut health = Health::new();

        assert!(!health.on_failure(at(0), Failure::Reset));
        assert!(!health.on_failure(at(1), Failure::Timeout));
        assert!(!health.on_success(at(2), at(0)));
        assert!(!health.on_failure(at(3), Failure::Reset));
        assert!(!health.on_failure(at(4), Failure::Reset));
        assert!(health.on_failure(at(5), Failure::Reset));
    }

    #[test]
    fn a_refused_connection_ejects_at_once() {
        assert!(Health::new().on_failure(at(0), Failure::Connect));
    }

    #[test]
    fn an_ejected_replica_is_tried_after_a_pause_that_doubles() {
        let mut health = Health::new();

        health.eject(at(0));
        assert_eq!(health.service(at(999)), Service::Out);
        assert_eq!(health.service(at(1_000)), Service::HalfOpen);
        health.eject(at(1_000));
        assert_eq!(health.service(at(2_999)), Service::Out);
        assert_eq!(health.service(at(3_000)), Service::HalfOpen);
    }

    #[test]
    fn a_replica_that_comes_back_starts_slowly() {
        let mut health = Health::new();
        health.eject(at(950));

        assert!(!health.on_success(at(1_000), at(900)));
        assert_ne!(health.service(at(1_000)), Service::In, "sent before it was ejected");
        assert!(health.on_success(at(1_000), at(1_000)));

        assert_eq!(health.limit_max(at(1_000)), 4.0);
        assert_eq!(health.limit_max(at(3_000)), 16.0);
        assert_eq!(health.limit_max(at(9_000)), f64::INFINITY);
    }
}
