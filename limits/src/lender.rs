//! The store's side of leases: who has which share of one budget, so that all together never exceed the limit.
//!
//! A share that was lent may still be used up in its last moment, and a sliding minute holds that for a minute more. So
//! each lease *exposes* its share until a minute after its end, also when the same gateway has long asked for less: its
//! answer may have been lost on the way.
//!
//! ```text
//! exposed(g) = max(owned, shares of all leases of g that ended less than a minute ago)
//! share(g)   = max(owned, min(fair(g), limit - sum of exposed over the others))
//! fair       : max-min over what each wants; what nobody wants is split evenly
//! ```
//!
//! # Guarantees
//!
//! - While the limit stays, `sum of exposed <= limit`, whatever is asked, in whatever order. A limit that falls is held
//!   as soon as the leases that were given before have ended, and a minute has passed.
//! - Where a limit has fewer tokens than there are gateways, each has one.
//! - A renewal is O(gateways + renewals within a lease and a minute). Some KiB per gateway.

use std::collections::VecDeque;
use std::time::Duration;

use crate::lease::{Lease, Renewal};
use crate::meter::{Meter, PerMeter};

/// As long as a sliding minute may hold a token: 241 slots of 250 ms, rounded up.
const MINUTE: Duration = Duration::from_secs(61);
/// Whoever asks again sooner gets the same lease again. It bounds what has to be remembered.
const RENEWED_AFTER: Duration = Duration::from_millis(250);
/// Most gateways that share a budget.
pub const GATEWAYS_MAX: u16 = 64;
/// The longest lease: what is not wanted any more comes back that much later.
pub const LEASE_MAX: Duration = Duration::from_secs(60);

/// How a budget is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTerms {
    /// Gateways before the fleet, 1 to [`GATEWAYS_MAX`].
    pub gateways: u16,
    /// Share of the limit that is never lent but split evenly, percent, 1 to 100: what is left when the store is away.
    pub owned_percent: u8,
    /// How long a lease lasts, at most [`LEASE_MAX`]: some renewals, so that a lost one does not matter.
    pub lasts: Duration,
}

/// The leases of one budget.
#[derive(Debug, Clone)]
pub struct Lender {
    terms: LeaseTerms,
    borrowers: Vec<Borrower>,
}

/// What one gateway has and said.
#[derive(Debug, Clone, Default)]
struct Borrower {
    told: Option<(Duration, Renewal)>,
    lease: Option<Lease>,
    meters: PerMeter<Exposed>,
}

/// Shares that may still be in some sliding minute: until when, and tokens per minute. Later ones are smaller.
#[derive(Debug, Clone, Default)]
struct Exposed(VecDeque<(Duration, u64)>);

impl Lender {
    /// A budget of which nothing is lent. Terms out of range are brought into it.
    #[must_use]
    pub fn new(terms: LeaseTerms) -> Self {
        let terms = LeaseTerms {
            gateways: terms.gateways.clamp(1, GATEWAYS_MAX),
            owned_percent: terms.owned_percent.clamp(1, 100),
            lasts: terms.lasts.min(LEASE_MAX),
        };
        let borrowers = (0..terms.gateways).map(|_| Borrower::default()).collect();
        Lender { terms, borrowers }
    }

    /// A new lease for the gateway of this number, from 0 on. `None`: there is no such gateway.
    pub fn renew(&mut self, now: Duration, gateway: u16, renewal: &Renewal) -> Option<Lease> {
        let place = usize::from(gateway);
        let known = self.borrowers.get(place)?;
        if let (Some((asked, _)), Some(lease)) = (known.told, known.lease)
            && now < asked + RENEWED_AFTER
        {
            return Some(lease);
        }
        self.borrowers.get_mut(place)?.told = Some((now, *renewal));
        let limit = PerMeter::from_fn(|meter| self.limit(now, meter).unwrap_or(*renewal.limit.get(meter)));
        let owned = PerMeter::from_fn(|meter| self.terms.owned(*limit.get(meter)));
        let share = PerMeter::from_fn(|meter| self.share(now, place, meter, *limit.get(meter)));
        let elsewhere = PerMeter::from_fn(|meter| {
            let others = self.live(now).filter(|(other, _)| *other != place);
            others.map(|(_, told)| *told.used.get(meter)).sum()
        });
        let lease = Lease { share, owned, elsewhere, until: now + self.terms.lasts };
        let borrower = self.borrowers.get_mut(place)?;
        for (meter, &share) in lease.share.iter() {
            borrower.meters.get_mut(meter).expose(now, lease.until + MINUTE, share);
        }
        borrower.lease = Some(lease);
        Some(lease)
    }

    /// Tokens that may be in the sliding minutes of all gateways together, if each uses all that it may.
    #[must_use]
    pub fn exposed(&self, now: Duration, meter: Meter, limit: u64) -> u64 {
        (0..self.borrowers.len()).map(|place| self.exposed_at(now, place, meter, limit)).sum()
    }

    /// Whether anything is lent, or may still be in a sliding minute; otherwise the lender can be forgotten.
    #[must_use]
    pub fn has_lent(&self, now: Duration) -> bool {
        self.borrowers.iter().any(|borrower| borrower.meters.iter().any(|(_, lent)| lent.at(now) > 0))
    }

    fn exposed_at(&self, now: Duration, place: usize, meter: Meter, limit: u64) -> u64 {
        let lent = self.borrowers.get(place).map_or(0, |borrower| borrower.meters.get(meter).at(now));
        lent.max(self.terms.owned(limit))
    }

    /// What each gateway said last whose lease has not ended.
    fn live(&self, now: Duration) -> impl Iterator<Item = (usize, &Renewal)> {
        let lasts = self.terms.lasts;
        self.borrowers.iter().enumerate().filter_map(move |(place, borrower)| {
            borrower.told.as_ref().filter(|(asked, _)| now <= *asked + lasts).map(|(_, told)| (place, told))
        })
    }

    /// The smallest limit that was told.
    fn limit(&self, now: Duration, meter: Meter) -> Option<u64> {
        self.live(now).map(|(_, told)| *told.limit.get(meter)).min()
    }

    fn share(&self, now: Duration, place: usize, meter: Meter, limit: u64) -> u64 {
        let owned = self.terms.owned(limit);
        let mut wanted = vec![owned; self.borrowers.len()];
        for (place, told) in self.live(now) {
            if let Some(want) = wanted.get_mut(place) {
                *want = (*told.wanted.get(meter)).max(owned);
            }
        }
        let mine = wanted.get(place).copied().unwrap_or(owned);
        let others = (0..self.borrowers.len()).filter(|other| *other != place);
        let exposed: u64 = others.map(|other| self.exposed_at(now, other, meter, limit)).sum();
        fair(limit, mine, &mut wanted).min(limit.saturating_sub(exposed)).max(owned)
    }
}

impl LeaseTerms {
    /// The part of `limit` that each gateway always has, tokens per minute.
    #[must_use]
    pub fn owned(&self, limit: u64) -> u64 {
        let part = limit * u64::from(self.owned_percent.min(100)) / 100 / u64::from(self.gateways.max(1));
        part.max(1)
    }
}

impl Exposed {
    fn at(&self, now: Duration) -> u64 {
        self.0.iter().find(|(until, _)| *until > now).map_or(0, |(_, share)| *share)
    }

    fn expose(&mut self, now: Duration, until: Duration, share: u64) {
        while self.0.front().is_some_and(|(until, _)| *until <= now) {
            self.0.pop_front();
        }
        while self.0.back().is_some_and(|(_, smaller)| *smaller <= share) {
            self.0.pop_back();
        }
        self.0.push_back((until, share));
    }
}

/// The share of who wants `mine`, where all together `want` so much: nobody gets more than another who wants more. Who
/// wants less than that gets what it wants, and of what is left then as much as everybody.
fn fair(limit: u64, mine: u64, wanted: &mut [u64]) -> u64 {
    wanted.sort_unstable();
    let (mut left, mut count) = (limit, wanted.len() as u64);
    for &want in wanted.iter() {
        let level = left / count.max(1);
        if want > level {
            return mine.min(level);
        }
        left -= want;
        count -= 1;
    }
    mine + left / (wanted.len() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lender() -> Lender {
        Lender::new(LeaseTerms { gateways: 4, owned_percent: 20, lasts: 10 * SECOND })
    }

    fn wants(tokens: u64) -> Renewal {
        Renewal {
            limit: PerMeter::from_fn(|_| 1_000),
            used: PerMeter::from_fn(|_| tokens / 2),
            wanted: PerMeter::from_fn(|_| tokens),
        }
    }

    #[test]
    fn shares_are_fair_and_what_nobody_wants_is_split() {
        assert_eq!(fair(100, 10, &mut [10, 20, 30]), 10 + 40 / 3);
        assert_eq!(fair(100, 90, &mut [10, 90, 80]), 45);
        assert_eq!(fair(100, 10, &mut [10, 90, 80]), 10);
        assert_eq!(fair(0, 5, &mut [5, 5]), 0);
    }

    #[test]
    fn a_lone_busy_gateway_gets_all_but_what_the_others_own() {
        let lease = lender().renew(SECOND, 0, &wants(5_000)).unwrap();
        assert_eq!((lease.share.prompt, lease.owned.prompt), (850, 50));
        assert_eq!(lease.until, 11 * SECOND);
        assert!(lender().renew(SECOND, 4, &wants(1)).is_none(), "there are four");
    }

    #[test]
    fn what_was_lent_is_lent_again_a_lease_and_a_minute_later() {
        let mut lender = lender();
        lender.renew(SECOND, 0, &wants(5_000));
        let second = lender.renew(2 * SECOND, 1, &wants(5_000)).unwrap();
        assert_eq!(second.share.prompt, 50, "only what is its own");
        assert_eq!(second.elsewhere.prompt, 2_500);

        // The first wants nothing any more; its answer may be lost, and its minute still holds what it used.
        for at in 3..72 {
            lender.renew(at * SECOND, 0, &wants(0));
            assert_eq!(lender.renew(at * SECOND, 1, &wants(5_000)).unwrap().share.prompt, 50, "at {at} s");
        }
        lender.renew(72 * SECOND, 0, &wants(0));
        assert!(lender.renew(72 * SECOND, 1, &wants(5_000)).unwrap().share.prompt > 400);
    }

    #[test]
    fn who_asks_too_often_gets_the_same_again() {
        let mut lender = lender();
        let first = lender.renew(SECOND, 0, &wants(10));
        assert_eq!(lender.renew(SECOND + Duration::from_millis(100), 0, &wants(900)), first);
    }
}
