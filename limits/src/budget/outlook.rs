//! What the adaptive rule would do next to a limit, and when: for people who look at it.

use std::time::Duration;

use crate::adaptive::{is_under, percent_of};
use crate::budget::Budget;
use crate::config::Policy;
use crate::meter::Meter;
use crate::window::timeline::{MINUTE_MS, Millis, millis};

/// What could change a meter's limit next. Times are since the process started, at whole minutes of the budget's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NextChange {
    /// The next step up; `None` at the ceiling, and where limits do not move.
    pub growth: Option<NextGrowth>,
    /// The next step down; `None` at the floor, and where limits do not move.
    pub shrink: Option<NextShrink>,
    /// The way back to the start; `None` at the start, and where limits do not move.
    pub reset: Option<NextReset>,
}

/// The next step up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextGrowth {
    /// The limit after it.
    pub to: u64,
    /// It needs a minute that used more than this many tokens.
    pub above: u64,
    /// The earliest time.
    pub at: Duration,
    /// Growth is stopped because the model is short.
    pub frozen: bool,
}

/// The next step down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextShrink {
    /// The limit after it.
    pub to: u64,
    /// It needs use to stay under this many tokens per minute, in the mean of each quarter of an hour.
    pub under: u64,
    /// The time, if use stays under it from now on.
    pub at: Duration,
}

/// The way back to the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextReset {
    /// The start.
    pub to: u64,
    /// The time, if nothing is used from now on.
    pub at: Duration,
}

impl Budget {
    /// What could change the limit of `meter` next, as things stand at `now`. O(288).
    #[must_use]
    pub fn next_change(&self, now: Duration, meter: Meter) -> NextChange {
        let Policy::Published(rule) = self.config.policy else { return NextChange::default() };
        let ledger = self.ledgers.get(meter);
        let (limit, bounds) = (ledger.limit, ledger.bounds);
        let next_minute = self.timeline.at(now).max(self.timeline.latest()) + 1;
        let after_change = |wait: Duration| ledger.changed.map_or(0, |at| at.saturating_add(millis(wait)));
        let at = |earliest: Millis| {
            let minute = earliest.max(next_minute).div_ceil(MINUTE_MS) * MINUTE_MS;
            self.timeline.process_time(minute).0
        };

        let growth = Some(rule.grown(limit, bounds)).filter(|&to| to > limit).map(|to| NextGrowth {
            to,
            above: percent_of(limit, rule.grow_above_percent),
            at: at(after_change(rule.grow_every)),
            frozen: self.is_frozen(),
        });
        let shrink = Some(rule.shrunk(limit, bounds)).filter(|&to| to < limit).map(|to| {
            let is_busy = |mean| {
                !is_under(mean, rule.shrink_below_percent, limit)
                    || !is_under(mean, rule.shrink_keeps_percent, to)
            };
            let observed = self.observed_from.saturating_add(millis(rule.observed));
            let quiet = ledger.usage.quiet_from(is_busy, rule.observed);
            NextShrink {
                to,
                under: percent_of(limit, rule.shrink_below_percent)
                    .min(percent_of(to, rule.shrink_keeps_percent)),
                at: at(after_change(rule.shrink_every).max(observed).max(quiet)),
            }
        });
        let reset = Some(bounds.start)
            .filter(|&to| to != limit)
            .map(|to| NextReset { to, at: at(self.last_use.saturating_add(millis(rule.reset_after))) });
        NextChange { growth, shrink, reset }
    }
}
