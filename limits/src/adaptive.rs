//! The adaptive rule: a limit follows what an account really uses.
//!
//! A fixed limit is too small for some accounts and an invitation to abuse for others. So a limit begins low and
//! moves by use, by the rule that Fireworks publishes for its serverless models (all constants can be configured), once
//! per whole minute, idle or not:
//!
//! ```text
//! up    25 %   the last minute used more than 50 % of the limit; at most once in 15 min; up to the ceiling
//! down  20 %   the busiest 15 minutes of three full days stayed under 33 %; at most once in 24 h; down to the floor;
//!              not when recent use would be 50 % or more of the lowered limit
//! reset        no traffic for 72 h: back to the start
//! ```
//!
//! Up 25 % every 15 minutes is ×2.44 per hour and a doubling in 47 minutes: a fleet can follow that, and a sudden ×10
//! it cannot. Any change restarts both waits.
//!
//! One rule is ours: **no growth while the model is short** (`frozen`). Use that the fleet cannot serve must not earn an
//! account more of it. Refused and shed requests are never charged, so they are not use either.
//!
//! "Recent use" in the last condition is the larger of the busiest 15 minutes and the last minute. With the
//! default constants the busiest 15 minutes alone could never reach it (33 % is 41 % of the lowered limit).

pub(crate) mod history;
pub(crate) mod usage;

use std::time::Duration;

use self::history::ChangeReason;
use self::usage::OBSERVED_MAX;
use crate::bounds::Bounds;

/// The constants of the adaptive rule. The default is the published rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveRule {
    /// Grow when the last minute used more than this share of the limit, in percent.
    pub grow_above_percent: u32,
    /// By how much the limit grows, in percent.
    pub grow_by_percent: u32,
    /// The least time between a change and a growth.
    pub grow_every: Duration,
    /// Shrink when the busiest 15 minutes observed stayed under this share of the limit, in percent.
    pub shrink_below_percent: u32,
    /// By how much the limit shrinks, in percent.
    pub shrink_by_percent: u32,
    /// The least time between a change and a shrink.
    pub shrink_every: Duration,
    /// Do not shrink where recent use would be this share of the lowered limit or more, in percent.
    pub shrink_keeps_percent: u32,
    /// How long use is observed before the limit may shrink: 15 minutes to 3 days.
    pub observed: Duration,
    /// Back to the start after this time without traffic.
    pub reset_after: Duration,
}

const HOUR: Duration = Duration::from_secs(3_600);

impl Default for AdaptiveRule {
    fn default() -> Self {
        AdaptiveRule {
            grow_above_percent: 50,
            grow_by_percent: 25,
            grow_every: Duration::from_secs(15 * 60),
            shrink_below_percent: 33,
            shrink_by_percent: 20,
            shrink_every: 24 * HOUR,
            shrink_keeps_percent: 50,
            observed: OBSERVED_MAX,
            reset_after: 72 * HOUR,
        }
    }
}

/// A constant of the rule that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleFault {
    /// A limit that shrinks by all of itself would be gone.
    #[error("shrink_by_percent ({percent}) must be below 100")]
    ShrinksToNothing {
        /// The configured value.
        percent: u32,
    },
    /// A limit that shrinks where it would grow swings for ever.
    #[error("shrink_below_percent ({below}) must not exceed grow_above_percent ({above})")]
    Swings {
        /// The configured `shrink_below_percent`.
        below: u32,
        /// The configured `grow_above_percent`.
        above: u32,
    },
    /// More than ten times in one step: usually a factor was given instead of a percentage.
    #[error("grow_by_percent ({percent}) must not exceed 1000")]
    GrowsTooFast {
        /// The configured value.
        percent: u32,
    },
    /// Use is kept in samples of 15 minutes, for three days.
    #[error("observed ({observed:?}) must be between 15 minutes and 3 days")]
    ObservedOutOfRange {
        /// The configured value.
        observed: Duration,
    },
}

/// What the rule looks at when a minute ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evidence {
    pub(crate) limit: u64,
    pub(crate) bounds: Bounds,
    /// Tokens charged in the last minute.
    pub(crate) minute: u64,
    /// The busiest 15 minutes observed, in tokens per minute; `None` while not observed for long enough.
    pub(crate) busiest: Option<u64>,
    /// Time since the limit changed; `None` if it never did.
    pub(crate) unchanged: Option<Duration>,
    /// Time since the account last used the model.
    pub(crate) idle: Duration,
    /// The model is short.
    pub(crate) frozen: bool,
}

impl AdaptiveRule {
    /// Everything that is wrong with these constants; empty if nothing is.
    #[must_use]
    pub fn faults(&self) -> Vec<RuleFault> {
        let quarter_hour = Duration::from_secs(15 * 60);
        let checks = [
            (self.shrink_by_percent >= 100)
                .then_some(RuleFault::ShrinksToNothing { percent: self.shrink_by_percent }),
            (self.shrink_below_percent > self.grow_above_percent).then_some(RuleFault::Swings {
                below: self.shrink_below_percent,
                above: self.grow_above_percent,
            }),
            (self.grow_by_percent > 1_000)
                .then_some(RuleFault::GrowsTooFast { percent: self.grow_by_percent }),
            (self.observed < quarter_hour || self.observed > OBSERVED_MAX)
                .then_some(RuleFault::ObservedOutOfRange { observed: self.observed }),
        ];
        checks.into_iter().flatten().collect()
    }

    /// The limit after the minute that just ended, and why; `None` if it stays.
    pub(crate) fn decide(&self, evidence: &Evidence) -> Option<(u64, ChangeReason)> {
        let Evidence { limit, bounds, .. } = *evidence;
        if evidence.idle >= self.reset_after {
            return (limit != bounds.start).then_some((bounds.start, ChangeReason::Idle));
        }
        if self.may_grow(evidence) {
            return Some((self.grown(limit, bounds), ChangeReason::Grown));
        }
        if self.may_shrink(evidence) {
            return Some((self.shrunk(limit, bounds), ChangeReason::Shrunk));
        }
        None
    }

    /// The limit one step up.
    pub(crate) fn grown(&self, limit: u64, bounds: Bounds) -> u64 {
        // A limit of a few tokens must still move.
        let step = percent_of(limit, self.grow_by_percent).max(u64::from(self.grow_by_percent > 0));
        limit.saturating_add(step).min(bounds.ceiling)
    }

    /// The limit one step down.
    pub(crate) fn shrunk(&self, limit: u64, bounds: Bounds) -> u64 {
        limit.saturating_sub(percent_of(limit, self.shrink_by_percent)).max(bounds.floor)
    }

    fn may_grow(&self, evidence: &Evidence) -> bool {
        !evidence.frozen
            && self.grown(evidence.limit, evidence.bounds) > evidence.limit
            && exceeds(evidence.minute, self.grow_above_percent, evidence.limit)
            && evidence.unchanged.is_none_or(|time| time >= self.grow_every)
    }

    fn may_shrink(&self, evidence: &Evidence) -> bool {
        let Some(busiest) = evidence.busiest else { return false };
        let lowered = self.shrunk(evidence.limit, evidence.bounds);
        lowered < evidence.limit
            && is_under(busiest, self.shrink_below_percent, evidence.limit)
            && is_under(busiest.max(evidence.minute), self.shrink_keeps_percent, lowered)
            && evidence.unchanged.is_none_or(|time| time >= self.shrink_every)
    }
}

/// `percent` of `limit`, rounded down.
pub(crate) fn percent_of(limit: u64, percent: u32) -> u64 {
    // A limit fits in 32 bits, so this never overflows.
    limit.saturating_mul(u64::from(percent)) / 100
}

fn exceeds(tokens: u64, percent: u32, limit: u64) -> bool {
    tokens.saturating_mul(100) > limit.saturating_mul(u64::from(percent))
}

/// Whether `tokens` is less than `percent` of `limit`.
pub(crate) fn is_under(tokens: u64, percent: u32, limit: u64) -> bool {
    tokens.saturating_mul(100) < limit.saturating_mul(u64::from(percent))
}
