//! One meter of a budget: its limit, its sliding minute, and what is reserved for running requests.
//!
//! ```text
//! asked <= limit           : admitted if used + reserved + debt + asked <= limit
//! limit < asked <= ceiling : admitted if used + reserved + debt = 0, and carried as debt
//! ceiling < asked          : never
//! ```
//!
//! The meter of generated tokens asks the [forecast](crate::forecast) instead: its reserves are estimates.

use std::time::Duration;

use crate::adaptive::history::{ChangeReason, Entry};
use crate::adaptive::usage::Usage;
use crate::bounds::Bounds;
use crate::meter::Meter;
use crate::window::record::Record;
use crate::window::timeline::Millis;
use crate::window::{MINUTE_SLOTS, SLOT_MS, Slot, Window};

/// Why a meter has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// There will be after this many more slots, if nothing else comes.
    Until { slots: u64 },
    /// There never will be.
    Ever,
}

/// One meter of a budget.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    pub(crate) bounds: Bounds,
    pub(crate) limit: u64,
    pub(crate) window: Window,
    pub(crate) reserved: u64,
    pub(crate) usage: Usage,
    /// When the limit last changed.
    pub(crate) changed: Option<Millis>,
}

impl Ledger {
    /// An unused meter at its start; `newest` is the running slot.
    pub(crate) fn new(bounds: Bounds, newest: Slot) -> Self {
        let bounds = bounds.nearest_valid();
        Ledger {
            bounds,
            limit: bounds.start,
            window: Window::new(newest),
            reserved: 0,
            usage: Usage::new(u64::from(newest / MINUTE_SLOTS)),
            changed: None,
        }
    }

    /// Tokens that are used or owed.
    pub(crate) fn charged(&self) -> u64 {
        self.window.sum().saturating_add(self.window.debt())
    }

    /// Tokens that are used, owed or reserved.
    pub(crate) fn taken(&self) -> u64 {
        self.charged().saturating_add(self.reserved)
    }

    /// Tokens that can still be asked for.
    pub(crate) fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.taken())
    }

    /// Whether `asked` tokens may be reserved now. Asking for nothing is always granted.
    #[inline]
    pub(crate) fn has_room(&self, asked: u64) -> bool {
        asked <= self.remaining() || (asked > self.limit && asked <= self.bounds.ceiling && self.taken() == 0)
    }

    /// When `asked` tokens will have room if the `held` ones of running requests are charged now; for a refused ask.
    /// O(241).
    pub(crate) fn no_room(&self, asked: u64, held: u64) -> NoRoom {
        if asked > self.bounds.ceiling {
            return NoRoom::Ever;
        }
        // Larger than the limit: it waits for an empty minute.
        let allowed = self.limit.saturating_sub(asked);
        NoRoom::Until { slots: self.window.slots_until(allowed, held, self.limit).unwrap_or(0) }
    }

    /// Slots until at least half of the limit is free.
    pub(crate) fn slots_until_half(&self) -> u64 {
        self.window.slots_until(self.limit / 2, self.reserved, self.limit).unwrap_or(0)
    }

    /// Charges tokens that flow now, out of the request's reserve first.
    pub(crate) fn charge<const RUNS: usize>(
        &mut self,
        record: &mut Record<RUNS>,
        reserve: &mut u64,
        tokens: u64,
    ) {
        self.unreserve(reserve, tokens);
        let slot = self.window.newest();
        let limit = self.limit;
        let booked = self.window.charge(slot, tokens, limit);
        record.add(slot, booked, self.window.oldest());
    }

    /// Gives back up to `tokens` of a request's reserve.
    pub(crate) fn unreserve(&mut self, reserve: &mut u64, tokens: u64) {
        let back = tokens.min(*reserve);
        *reserve -= back;
        self.reserved = self.reserved.saturating_sub(back);
    }

    /// Corrects what was charged for a request to what it really used.
    pub(crate) fn correct<const RUNS: usize>(&mut self, record: &Record<RUNS>, used: u64) {
        let charged = record.total();
        if used < charged {
            self.credit(record, charged, charged - used);
        } else if used > charged {
            self.debit(record, charged, used - charged);
        }
    }

    /// Gives `tokens` back: first what is still owed, the rest where it was charged.
    fn credit<const RUNS: usize>(&mut self, record: &Record<RUNS>, charged: u64, tokens: u64) {
        let (owed_from, owed) = record.owed();
        let forgiven = self.window.forgive(owed_from, owed, tokens);
        let mut share = Shares::new(tokens - forgiven, charged - forgiven);
        for run in record.runs() {
            self.window.credit(run.first, run.last, share.of(run.tokens));
        }
        let limit = self.limit;
        self.window.pay(limit);
    }

    /// Charges `tokens` more where the others were charged; now, as far as those have left or are owed.
    fn debit<const RUNS: usize>(&mut self, record: &Record<RUNS>, charged: u64, tokens: u64) {
        let mut share = Shares::new(tokens, charged);
        let mut now = tokens;
        let limit = self.limit;
        for run in record.runs() {
            let part = share.of(run.tokens);
            if run.first >= self.window.oldest() {
                self.window.charge(run.last, part, limit);
                now -= part;
            }
        }
        self.window.charge(self.window.newest(), now, limit);
    }

    /// Puts a new limit in force. Use stays; debt enters with the next slot where there is more room now.
    pub(crate) fn change_limit(
        &mut self,
        at: Millis,
        meter: Meter,
        limit: u64,
        reason: ChangeReason,
    ) -> Entry {
        let from = std::mem::replace(&mut self.limit, limit);
        self.changed = Some(at);
        // Limits are bounded by what a `u32` holds.
        let small = |tokens| u32::try_from(tokens).unwrap_or(u32::MAX);
        Entry { at, from: small(from), to: small(limit), meter, reason }
    }
}

/// Splits an amount in proportion, exactly: the shares of all parts add up to the amount.
struct Shares {
    amount: u64,
    whole: u64,
    seen: u64,
    given: u64,
}

impl Shares {
    fn new(amount: u64, whole: u64) -> Self {
        Shares { amount, whole, seen: 0, given: 0 }
    }

    fn of(&mut self, part: u64) -> u64 {
        self.seen = self.seen.saturating_add(part).min(self.whole);
        if self.whole == 0 {
            return 0;
        }
        let until_here = u128::from(self.amount) * u128::from(self.seen) / u128::from(self.whole);
        let share = u64::try_from(until_here).unwrap_or(u64::MAX) - self.given;
        self.given += share;
        share
    }
}

/// Time from `at_ms` to the beginning of the slot that is `slots` after `newest`.
pub(crate) fn until_slot(newest: Slot, slots: u64, at_ms: u64) -> Duration {
    if slots == 0 {
        return Duration::ZERO;
    }
    Duration::from_millis(((u64::from(newest) + slots) * SLOT_MS).saturating_sub(at_ms))
}
