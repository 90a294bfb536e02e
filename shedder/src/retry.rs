//! Sending again, and coming back: the retry budget, and the time that a refusal asks for.
//!
//! **Retry budget.** Regular requests are sent again at most for 20 % of what was dispatched in the last
//! 10 s, and 3: an outage must not double the load of what is left. Priority does not draw on it.
//!
//! **Retry-After.** Whoever is refused is told when there will be room *for it*: after what waits, or after those who were
//! refused just before it and will come back too, whichever takes longer.
//!
//! ```text
//! retry_after = max(predicted wait, refused in the last 0.25 s / dispatched per second) · k,  1 … 30 s
//! k = 1 for priority, 1.2 for regular, 1.5 for flex
//! ```
//!
//! A herd of 500 that is refused at once is so told 500 different times, spread over as long as it takes
//! to serve 500; the caller's jitter of up to a quarter of it does the rest. No more than a quarter of a second of refusals counts: in an
//! overload that lasts, whoever is told to wait for all who were refused comes back long after it, and then with all the
//! others (P6; the sum of both and half a second of refusals: in time again after 12 s on average instead of 4 s).

use std::time::Duration;

use crate::recent::Recent;
use crate::tier::Tier;

const RETRY_SHARE: f64 = 0.20;
const RETRIES_FREE: f64 = 3.0;
const SPAN: Duration = Duration::from_secs(10);
pub(crate) const RETRY_AFTER_MIN: f64 = 1.0;
pub(crate) const RETRY_AFTER_MAX: f64 = 30.0;

/// How many dispatched requests may be sent again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetryBudget {
    dispatched: Recent,
    retried: Recent,
}

impl RetryBudget {
    pub(crate) fn new() -> Self {
        Self { dispatched: Recent::over(SPAN), retried: Recent::over(SPAN) }
    }

    pub(crate) fn on_dispatched(&mut self, now: Duration) {
        self.dispatched.count(now, 1);
    }

    /// Takes one retry for a request of `tier` when there is one.
    pub(crate) fn take(&mut self, now: Duration, tier: Tier) -> bool {
        if tier == Tier::Priority {
            return true;
        }
        let allowed = RETRY_SHARE * f64::from(self.dispatched.sum(now)) + RETRIES_FREE;
        let taken = f64::from(self.retried.sum(now)) + 1.0 <= allowed;
        if taken {
            self.retried.count(now, 1);
        }
        taken
    }
}

/// When a refused request may come back. `per_second`: dispatches lately.
pub(crate) fn retry_after(tier: Tier, wait: Duration, refused: u32, per_second: f64) -> Duration {
    let herd = if per_second > 0.0 { f64::from(refused) / per_second } else { RETRY_AFTER_MAX };
    let longer = match tier {
        Tier::Priority => 1.0,
        Tier::Regular => 1.2,
        Tier::Flex => 1.5,
    };
    let seconds = longer * wait.as_secs_f64().max(herd);
    Duration::from_secs_f64(seconds.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_and_three_may_be_sent_again_and_priority_always() {
        let now = Duration::from_secs(100);
        let mut budget = RetryBudget::new();
        (0..50).for_each(|_| budget.on_dispatched(now));

        let taken = (0..100).filter(|_| budget.take(now, Tier::Regular)).count();

        assert_eq!(taken, 13);
        assert!(budget.take(now, Tier::Priority));
        assert!(budget.take(now + SPAN, Tier::Regular), "three are free when nothing was dispatched");
    }

    #[test]
    fn retry_after_grows_with_depth_and_stays_within_its_bounds() {
        let after = |refused| retry_after(Tier::Priority, Duration::ZERO, refused, 10.0).as_secs_f64();

        assert_eq!(after(0), 1.0);
        assert_eq!(after(100), 10.0);
        assert_eq!(after(100_000), 30.0);
        assert_eq!(retry_after(Tier::Regular, Duration::from_secs(3), 0, 10.0), Duration::from_millis(3_600));
        assert_eq!(retry_after(Tier::Priority, Duration::MAX, 0, 0.0), Duration::from_secs(30));
        let both = retry_after(Tier::Priority, Duration::from_secs(3), 20, 10.0);
        assert_eq!(both, Duration::from_secs(3), "the longer of wait and herd, not their sum");
    }
}
