//! A share of an account's limits, lent to one gateway of several for a time.
//!
//! Several gateways before one fleet must not each grant an account its whole limit. So each has a share in each meter,
//! in tokens per minute, and admits within it as within a limit. A part of the limit is always its own; the rest a store
//! that all share lends to where it is wanted. Nothing of that is asked on a request's way: a gateway renews its leases
//! in the background, once a second.
//!
//! ```text
//! owned = limit * owned_percent / 100 / gateways        for ever, whatever happens to the store
//! share = owned ..= limit                               until the lease ends; then owned
//! ```
//!
//! # When the store is away
//!
//! A gateway goes on with what it has until the lease ends, and with what is its own after that: nobody is refused
//! because of the store, only because less is left. Nothing of it can be lent twice meanwhile, because the store lends
//! a share again only a minute after the lease has ended (see [`Lender`](crate::Lender)).
//!
//! # How much more than the limit
//!
//! None: at every moment the sliding minutes of all gateways together hold at most the limit, with leases lost, late or
//! forgotten, as long as durations are measured alike and the number of gateways is what was configured. What a single
//! gateway may owe beyond its minute, running answers and requests larger than a share, each may owe for itself, and
//! pays from its share. The price is time: what one gateway no longer wants another has a lease and a minute later.
//!
//! The limits themselves move by the use of all gateways: each adds what the others used ([`Lease::elsewhere`]) to its
//! own and decides by the same rule; the store lends of the smallest limit that it was told.

use std::time::Duration;

use crate::budget::Budget;
use crate::meter::{Meter, PerMeter};

/// What a gateway may use of one budget for a time. Tokens per minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// In force until the lease ends.
    pub share: PerMeter<u64>,
    /// In force from then on, until there is a new lease.
    pub owned: PerMeter<u64>,
    /// What the other gateways used in the last minute, tokens.
    pub elsewhere: PerMeter<u64>,
    /// When the lease ends. A store elsewhere says how long it lasts: counted from when it was asked, not from its answer.
    pub until: Duration,
}

/// What a gateway tells when it asks for a new lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// The whole limit as it stands here, tokens per minute.
    pub limit: PerMeter<u64>,
    /// Used here in the last minute, tokens.
    pub used: PerMeter<u64>,
    /// The share that it would like, tokens per minute: twice what it needs now, so that it can grow.
    pub wanted: PerMeter<u64>,
}

impl Budget {
    /// What to tell the store. O(1).
    pub fn renewal(&mut self, now: Duration) -> Renewal {
        self.advance(now);
        Renewal {
            limit: PerMeter::from_fn(|meter| self.ledgers.get(meter).limit),
            used: PerMeter::from_fn(|meter| self.ledgers.get(meter).window.last_240_slots()),
            wanted: PerMeter::from_fn(|meter| self.ledgers.get(meter).taken().saturating_mul(2)),
        }
    }

    /// Puts a lease in force, in place of the one before. A budget that never had one may use its whole limit. Use,
    /// reservations and debt stay. O(1).
    pub fn take_lease(&mut self, now: Duration, lease: Lease) {
        self.advance(now);
        self.lease = Some(lease);
        self.put_lease_in_force(now);
    }

    /// What the other gateways used in the last minute, as far as it is known.
    pub(crate) fn used_elsewhere(&self, meter: Meter) -> u64 {
        self.lease.map_or(0, |lease| *lease.elsewhere.get(meter))
    }

    /// The share of a running lease, or what is its own after its end.
    pub(crate) fn put_lease_in_force(&mut self, now: Duration) {
        let Some(lease) = &mut self.lease else { return };
        if now >= lease.until {
            lease.share = lease.owned;
            lease.elsewhere = PerMeter::default();
        }
        for (meter, share) in lease.share.iter() {
            let ledger = self.ledgers.get_mut(meter);
            ledger.share = *share;
            // What is owed enters as soon as there is room.
            ledger.window.pay(ledger.in_force());
        }
    }
}
