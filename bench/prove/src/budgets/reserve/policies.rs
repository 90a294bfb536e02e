//! How a limiter can deal with answers whose length nobody knows at admission: three common ways, and ours.
//!
//! The three fill a token bucket that holds a minute, as most limiters do; ours is the shipped crate with its sliding
//! minute. Times are milliseconds.

use std::time::Duration;

use limits::{Ask, Bounds, Budget, BudgetConfig, PerMeter, Policy as Rule, Reservation, Used};

use super::traffic::{LIMIT, MAX_TOKENS};

/// Admits answers and charges them.
pub(super) trait Policy {
    /// What is kept of an admitted request.
    type Hold;
    /// `None`: refused.
    fn admit(&mut self, now: u64) -> Option<Self::Hold>;
    /// Tokens have flowed.
    fn stream(&mut self, now: u64, hold: &mut Self::Hold, tokens: u64);
    /// The answer is whole.
    fn end(&mut self, now: u64, hold: Self::Hold, length: u64);
}

/// A token bucket that may go into debt.
#[derive(Debug)]
struct Bucket {
    level: f64,
    filled_ms: u64,
}

impl Bucket {
    fn full() -> Self {
        Self { level: LIMIT as f64, filled_ms: 0 }
    }

    fn at(&mut self, now: u64) -> &mut f64 {
        let passed = now.saturating_sub(self.filled_ms) as f64;
        self.filled_ms = self.filled_ms.max(now);
        self.level = (self.level + passed * LIMIT as f64 / 60_000.0).min(LIMIT as f64);
        &mut self.level
    }
}

/// Takes `max_tokens` at admission and gives back what was not used.
#[derive(Debug)]
pub(super) struct ReserveMaximum(Bucket);

/// Takes the mean of the answers so far and settles the difference.
#[derive(Debug)]
pub(super) struct ReserveMean(Bucket, f64);

/// Admits while anything is left and charges at the end.
#[derive(Debug)]
pub(super) struct ChargeAfterwards(Bucket);

/// The shipped crate.
#[derive(Debug)]
pub(super) struct Shipped(Budget);

impl ReserveMaximum {
    pub(super) fn new() -> Self {
        Self(Bucket::full())
    }
}

impl ReserveMean {
    pub(super) fn new() -> Self {
        Self(Bucket::full(), 256.0)
    }
}

impl ChargeAfterwards {
    pub(super) fn new() -> Self {
        Self(Bucket::full())
    }
}

impl Shipped {
    pub(super) fn new() -> Self {
        let fixed = |limit| Bounds { start: limit, floor: limit, ceiling: limit };
        let bounds =
            PerMeter { prompt: fixed(3_600_000), uncached_prompt: fixed(900_000), generated: fixed(LIMIT) };
        Self(Budget::new(Duration::ZERO, BudgetConfig { policy: Rule::Fixed, bounds }))
    }
}

impl Policy for ReserveMaximum {
    type Hold = ();

    fn admit(&mut self, now: u64) -> Option<()> {
        let level = self.0.at(now);
        (*level >= MAX_TOKENS as f64).then(|| *level -= MAX_TOKENS as f64)
    }

    fn stream(&mut self, _: u64, (): &mut (), _: u64) {}

    fn end(&mut self, now: u64, (): (), length: u64) {
        *self.0.at(now) += MAX_TOKENS as f64 - length as f64;
    }
}

impl Policy for ReserveMean {
    /// Tokens taken.
    type Hold = f64;

    fn admit(&mut self, now: u64) -> Option<f64> {
        let mean = self.1;
        let level = self.0.at(now);
        (*level >= mean).then(|| {
            *level -= mean;
            mean
        })
    }

    fn stream(&mut self, _: u64, _: &mut f64, _: u64) {}

    fn end(&mut self, now: u64, hold: f64, length: u64) {
        self.1 += 0.1 * (length as f64 - self.1);
        *self.0.at(now) += hold - length as f64;
    }
}

impl Policy for ChargeAfterwards {
    type Hold = ();

    fn admit(&mut self, now: u64) -> Option<()> {
        (*self.0.at(now) > 0.0).then_some(())
    }

    fn stream(&mut self, _: u64, (): &mut (), _: u64) {}

    fn end(&mut self, now: u64, (): (), length: u64) {
        *self.0.at(now) -= length as f64;
    }
}

impl Policy for Shipped {
    type Hold = Reservation;

    fn admit(&mut self, now: u64) -> Option<Reservation> {
        let ask = Ask { max_generated: Some(MAX_TOKENS), choices: 1, ..Ask::default() };
        self.0.reserve(Duration::from_millis(now), &ask).ok()
    }

    fn stream(&mut self, now: u64, hold: &mut Reservation, tokens: u64) {
        self.0.charge_generated(Duration::from_millis(now), hold, tokens);
    }

    fn end(&mut self, now: u64, hold: Reservation, length: u64) {
        let used = Used { generated: length, finished: true, ..Used::default() };
        self.0.settle(Duration::from_millis(now), hold, &used);
    }
}
