//! What a row of usage is told by, and what it sums.

use shedder::Tier;
use std::sync::Arc;

/// What tells the rows of one account apart. Ordered by time first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The hour of the requests' ends, since the epoch.
    pub hour: u32,
    /// The first 32 bits of the digest of their key; `None`: of all keys.
    pub key: Option<u32>,
    /// Their model; `None`: they named none of the account's.
    pub model: Option<Arc<str>>,
    /// The tier in which they were served, or offered; `None`: it did not come to that.
    pub tier: Option<Tier>,
}

impl Slot {
    /// The row of an hour that nothing else is told of.
    #[must_use]
    pub fn of_hour(hour: u32) -> Self {
        Slot { hour, key: None, model: None, tier: None }
    }
}

/// What a row is told by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The account; `None`: requests of accounts whose rows found no room.
    pub account: Option<Arc<str>>,
    /// What tells it from others of the account.
    pub slot: Slot,
}

/// Requests and tokens. Sums stop at the end of the type: nobody uses 2⁶⁴ tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Requests, however they ended.
    pub requests: u64,
    /// Of them answered with a status 2xx, streams that broke left out.
    pub answered: u64,
    /// Of them refused with a 429.
    pub refused_429: u64,
    /// Of them refused with a 503.
    pub refused_503: u64,
    /// Prompt tokens as charged.
    pub prompt: u64,
    /// Of them found in an engine's cache, as far as engines tell.
    pub cached: u64,
    /// Of them charged as uncached.
    pub uncached: u64,
    /// Generated tokens as charged.
    pub generated: u64,
}

impl Totals {
    /// The totals of one request that ended with this status, without tokens.
    #[must_use]
    pub fn of_status(status: u16) -> Self {
        Totals {
            requests: 1,
            answered: u64::from((200..300).contains(&status)),
            refused_429: u64::from(status == 429),
            refused_503: u64::from(status == 503),
            ..Totals::default()
        }
    }

    /// Adds others.
    pub fn add(&mut self, other: &Totals) {
        let mut others = other.numbers().into_iter();
        for number in self.numbers_mut() {
            *number = number.saturating_add(others.next().unwrap_or(0));
        }
    }

    /// All numbers, in the order of the fields.
    #[must_use]
    pub fn numbers(&self) -> [u64; 8] {
        let Totals { requests, answered, refused_429, refused_503, prompt, cached, uncached, generated } =
            *self;
        [requests, answered, refused_429, refused_503, prompt, cached, uncached, generated]
    }

    fn numbers_mut(&mut self) -> [&mut u64; 8] {
        let Totals { requests, answered, refused_429, refused_503, prompt, cached, uncached, generated } =
            self;
        [requests, answered, refused_429, refused_503, prompt, cached, uncached, generated]
    }
}
