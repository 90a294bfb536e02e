//! The seam where several gateways share their accounts' budgets: who says which part of a limit may be used here.
//!
//! A gateway alone asks nobody, and its budgets have their whole limits. With a [`ShareStore`], each budget in memory
//! renews its lease once a second, never on a request's way, and one that comes into memory asks before it admits
//! anything. What a lease is, what happens when the store is away and how much more than the limit can be used (nothing)
//! is in `limits/src/lease.rs`; how a store lends, in `limits/src/lender.rs`.
//!
//! A store elsewhere has to remember of each budget and gateway what [`limits::Lender`] remembers: it can hold one as its
//! value, or follow its three lines of arithmetic in a language of its own. [`LocalStore`] is the one for gateways of
//! one process, with which the seam is tested; no config names a store yet.

use limits::{Lease, LeaseTerms, Lender, PerMeter, Renewal};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Who lends shares of budgets to this gateway.
pub trait ShareStore: std::fmt::Debug + Send + Sync {
    /// A new lease of the budget of `account` on `model`, by what this gateway says of it. Must not block: a store
    /// elsewhere asks in the background and answers with what came last. `None`: nothing new, so that the lease before
    /// runs on to its end. Of a budget that it has no answer for yet it must say at once what is this gateway's own,
    /// with [`owned_only`], or the whole limit would be in force.
    fn renew(&self, now: Duration, account: &str, model: &str, renewal: &Renewal) -> Option<Lease>;
}

/// The lease of who has not heard of the store yet: what is its own, for ever.
#[must_use]
pub fn owned_only(terms: LeaseTerms, renewal: &Renewal) -> Lease {
    let owned = renewal.limit.map(|limit| terms.owned(limit));
    Lease { share: owned, owned, elsewhere: PerMeter::default(), until: Duration::ZERO }
}

/// Most budgets of which leases are remembered; beyond it those that nobody uses are forgotten first.
const BUDGETS_MAX: usize = 65_536;

/// The store of gateways that live in one process.
#[derive(Debug)]
pub struct LocalStore {
    terms: LeaseTerms,
    lenders: Mutex<BTreeMap<(String, String), Lender>>,
}

/// One gateway's way to a [`LocalStore`].
#[derive(Debug)]
struct Borrower {
    store: Arc<LocalStore>,
    gateway: u16,
}

impl LocalStore {
    /// A store that has lent nothing.
    #[must_use]
    pub fn new(terms: LeaseTerms) -> Arc<Self> {
        Arc::new(LocalStore { terms, lenders: Mutex::default() })
    }

    /// What the gateway of this number, from 0 on, asks.
    #[must_use]
    pub fn for_gateway(self: &Arc<Self>, gateway: u16) -> Arc<dyn ShareStore> {
        Arc::new(Borrower { store: Arc::clone(self), gateway })
    }
}

impl ShareStore for Borrower {
    fn renew(&self, now: Duration, account: &str, model: &str, renewal: &Renewal) -> Option<Lease> {
        let mut lenders = self.store.lenders.lock();
        if lenders.len() >= BUDGETS_MAX {
            lenders.retain(|_, lender| lender.has_lent(now));
            if lenders.len() >= BUDGETS_MAX {
                return Some(owned_only(self.store.terms, renewal));
            }
        }
        let lender = lenders.entry((account.to_owned(), model.to_owned()));
        lender.or_insert_with(|| Lender::new(self.store.terms)).renew(now, self.gateway, renewal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::store::overrides::Overrides;
    use crate::state::Registry;
    use limits::{Ask, Bounds, BudgetConfig, Policy, Used};

    const LIMIT: u64 = 10_000;

    fn config() -> BudgetConfig {
        BudgetConfig { policy: Policy::Fixed, bounds: PerMeter::from_fn(|_| Bounds::fixed(LIMIT).unwrap()) }
    }

    /// Spends as much as is granted; how much that was.
    fn spend_all(cell: &crate::accounts::budget::BudgetCell) -> u64 {
        let mut spent = 0;
        let ask = Ask { prompt: 100, uncached_prompt: 100, max_generated: Some(0), ..Ask::default() };
        cell.with(|budget| {
            while let Ok(reservation) = budget.reserve(clock::now(), &ask) {
                let used = Used { prompt: 100, uncached_prompt: 100, ..Used::default() };
                budget.settle(clock::now(), reservation, &used);
                spent += 100;
            }
        });
        spent
    }

    #[test]
    fn two_gateways_grant_an_account_its_limit_once() {
        let store =
            LocalStore::new(LeaseTerms { gateways: 2, owned_percent: 50, lasts: Duration::from_secs(10) });
        let gateways: Vec<Registry> = (0..2)
            .map(|number| {
                Registry::with_state(None, Overrides::default()).shared_by(store.for_gateway(number))
            })
            .collect();
        let cells: Vec<_> = gateways.iter().map(|gateway| gateway.insert("acme", "m", config())).collect();

        let spent: u64 = cells.iter().map(|cell| spend_all(cell)).sum();
        gateways.iter().zip(&cells).for_each(|(gateway, cell)| gateway.renew_share(cell));
        let more: u64 = cells.iter().map(|cell| spend_all(cell)).sum();

        assert!(spent >= LIMIT / 2, "each at least what is its own: {spent}");
        assert!(spent + more <= LIMIT, "{spent} and {more}");
        let alone = Registry::default().insert("acme", "m", config());
        assert_eq!(spend_all(&alone), LIMIT, "alone it has all of it");
    }

    #[test]
    fn who_has_not_heard_of_the_store_has_what_is_its_own() {
        let terms = LeaseTerms { gateways: 4, owned_percent: 40, lasts: Duration::from_secs(10) };
        let tokens = PerMeter::from_fn(|_| LIMIT);
        let lease = owned_only(terms, &Renewal { limit: tokens, used: tokens, wanted: tokens });
        assert_eq!((lease.share, lease.owned), (PerMeter::from_fn(|_| 1_000), PerMeter::from_fn(|_| 1_000)));
    }
}
