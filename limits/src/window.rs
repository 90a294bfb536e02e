//! The sliding minute of one meter: what was charged in the last sixty seconds, and what is still owed.
//!
//! A token bucket lets two full minutes through in sixty seconds, a fixed minute does so at its boundary. A log of all
//! charges is exact, but unbounded. So the minute is cut into 240 slots of 250 ms; with the running one
//! they always cover the last 60 s whole:
//!
//! ```text
//! used = sum of 241 slots                     never more than the limit in force when it was charged
//! charge: room = limit - used; slot += min(tokens, room); debt += the rest
//! each new slot: the oldest leaves; slot += min(debt, room)
//! ```
//!
//! # Guarantees
//!
//! - No charge and no payment of debt lifts the sum of the slots over the limit.
//! - `debt > 0` only while the slots are full: debt is paid before anyone is admitted.
//! - Debt is paid in the order in which it was taken, so it is known whether a given part is still open.
//! - A charge is O(1). Moving on is O(1) per slot passed, and stops early when nothing is left to move.

pub(crate) mod record;
pub(crate) mod timeline;

/// Length of a slot in milliseconds.
pub(crate) const SLOT_MS: u64 = 250;
/// Slots of a minute.
pub(crate) const MINUTE_SLOTS: u32 = 240;
/// A whole minute and the running slot.
pub(crate) const SLOTS: u32 = MINUTE_SLOTS + 1;

/// The number of a slot on the budget's time line: 34 years fit.
pub(crate) type Slot = u32;

/// The slot in which a time lies.
pub(crate) fn slot_at(ms: u64) -> Slot {
    Slot::try_from(ms / SLOT_MS).unwrap_or(Slot::MAX)
}

/// How a charge was booked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Booked {
    /// Tokens that went into the slot.
    pub(crate) in_slot: u64,
    /// Tokens that did not fit.
    pub(crate) owed: u64,
    /// Where the owed tokens stand in the sequence of everything ever owed.
    pub(crate) owed_from: u64,
}

/// The charges of the last minute and the debt of one meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    /// Ring of charges, at `slot % SLOTS`. A `u32` holds a slot because it holds any limit.
    slots: [u32; SLOTS as usize],
    newest: Slot,
    sum: u64,
    debt: u64,
    owed_ever: u64,
}

impl Window {
    /// An empty minute whose running slot is `newest`.
    pub(crate) fn new(newest: Slot) -> Self {
        Window { slots: [0; SLOTS as usize], newest, sum: 0, debt: 0, owed_ever: 0 }
    }

    /// Tokens in the slots.
    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }

    /// Tokens that are owed and have not entered a slot yet.
    pub(crate) fn debt(&self) -> u64 {
        self.debt
    }

    /// Tokens of the slots that leave within the next `slots`.
    pub(crate) fn leaving(&self, slots: u32) -> u64 {
        // Ring order: the place after the running slot's is the oldest one's.
        (1..=slots.min(MINUTE_SLOTS)).map(|passed| self.slot(self.newest % SLOTS + passed)).sum()
    }

    /// The oldest slot that still counts.
    pub(crate) fn oldest(&self) -> Slot {
        self.newest.saturating_sub(MINUTE_SLOTS)
    }

    /// The running slot.
    pub(crate) fn newest(&self) -> Slot {
        self.newest
    }

    /// What the 240 newest slots hold: the use of a calendar minute, when asked in its last slot.
    pub(crate) fn last_240_slots(&self) -> u64 {
        if self.newest < MINUTE_SLOTS { self.sum } else { self.sum - self.slot(self.oldest()) }
    }

    /// Lets time pass: old slots leave, debt enters in their place.
    pub(crate) fn advance(&mut self, to: Slot, limit: u64) {
        while self.newest < to {
            if self.sum == 0 && self.debt == 0 {
                self.newest = to;
                return;
            }
            self.newest += 1;
            // The slot that leaves has the place of the one that begins.
            self.take(self.newest, u64::MAX);
            self.pay(limit);
        }
    }

    /// Books tokens to `slot`, or to the running one where that has left; what does not fit is owed.
    pub(crate) fn charge(&mut self, slot: Slot, tokens: u64, limit: u64) -> Booked {
        let in_slot = tokens.min(limit.saturating_sub(self.sum));
        self.put(if self.holds(slot) { slot } else { self.newest }, in_slot);
        let owed = tokens - in_slot;
        let owed_from = self.owed_ever;
        self.owed_ever = self.owed_ever.saturating_add(owed);
        self.debt = self.debt.saturating_add(owed);
        Booked { in_slot, owed, owed_from }
    }

    /// Takes up to `tokens` out of the slots `first..=last`, the oldest first: the credit that ends soonest.
    /// What has left the window is not given back.
    pub(crate) fn credit(&mut self, first: Slot, last: Slot, tokens: u64) {
        if !self.holds(first) {
            return;
        }
        let mut open = tokens;
        for slot in first..=last.min(self.newest) {
            open -= self.take(slot, open);
            if open == 0 {
                return;
            }
        }
    }

    /// Strikes out up to `tokens` of the debt that was taken as `owed` tokens from place `from` on, as far as it is
    /// still open. Returns what was struck out.
    pub(crate) fn forgive(&mut self, from: u64, owed: u64, tokens: u64) -> u64 {
        let paid_until = self.owed_ever.saturating_sub(self.debt);
        let open = from.saturating_add(owed).saturating_sub(paid_until.max(from));
        let struck = open.min(tokens).min(self.debt);
        self.debt -= struck;
        struck
    }

    /// Lets debt enter the running slot as far as there is room.
    pub(crate) fn pay(&mut self, limit: u64) {
        if self.debt > 0 {
            let paid = self.debt.min(limit.saturating_sub(self.sum));
            self.debt -= paid;
            self.put(self.newest, paid);
        }
    }

    /// After how many more slots at most `allowed` tokens are used or owed, if nothing else comes and `reserved`
    /// tokens are charged now. `None` if that is so already.
    ///
    /// Exact, without playing the future: while there is debt the slots are full, each leaving slot is refilled by what it
    /// held, so the pattern of the minute repeats every 241 slots until the debt is gone.
    pub(crate) fn slots_until(&self, allowed: u64, reserved: u64, limit: u64) -> Option<u64> {
        let total = self.sum.saturating_add(self.debt).saturating_add(reserved);
        let must_leave = total.checked_sub(allowed).filter(|&n| n > 0)?;
        let charged_now = reserved.min(limit.saturating_sub(self.sum));
        let full = self.sum + charged_now;
        let (turns, within) = if must_leave <= full {
            (0, must_leave)
        } else {
            let beyond = must_leave - full - 1;
            let turn = limit.max(1);
            (1 + beyond / turn, beyond % turn + 1 + full.saturating_sub(limit))
        };
        Some(turns * u64::from(SLOTS) + self.slots_until_left(within, charged_now))
    }

    /// After how many slots at least `tokens` of what the window holds now have left it.
    fn slots_until_left(&self, tokens: u64, charged_now: u64) -> u64 {
        let mut left = 0;
        for passed in 1..SLOTS {
            // Ring order: the place after the running slot's is the oldest one's.
            left += self.slot(self.newest % SLOTS + passed);
            if left >= tokens {
                return u64::from(passed);
            }
        }
        debug_assert!(left + self.slot(self.newest) + charged_now >= tokens);
        u64::from(SLOTS)
    }

    /// Slots that hold tokens, the oldest first.
    pub(crate) fn charged_slots(&self) -> impl Iterator<Item = (Slot, u32)> + '_ {
        (self.oldest()..=self.newest).filter_map(|slot| {
            let tokens = self.slots.get(place(slot)).copied()?;
            (tokens > 0).then_some((slot, tokens))
        })
    }

    /// Puts back what a snapshot kept, into an empty window. Slots outside of the minute are left out.
    pub(crate) fn restore(&mut self, slots: impl Iterator<Item = (Slot, u32)>, debt: u64) {
        for (slot, tokens) in slots {
            if self.holds(slot) {
                self.put(slot, u64::from(tokens));
            }
        }
        self.debt = debt;
        self.owed_ever = debt;
    }

    fn holds(&self, slot: Slot) -> bool {
        slot >= self.oldest() && slot <= self.newest
    }

    fn put(&mut self, slot: Slot, tokens: u64) {
        if let Some(held) = self.slots.get_mut(place(slot)) {
            // Nothing is put in beyond the limit, and no limit is beyond a `u32`.
            let before = *held;
            *held = before.saturating_add(u32::try_from(tokens).unwrap_or(u32::MAX));
            self.sum += u64::from(*held - before);
        }
    }

    /// Takes up to `tokens` out of a slot; returns what was there to be taken.
    fn take(&mut self, slot: Slot, tokens: u64) -> u64 {
        let Some(held) = self.slots.get_mut(place(slot)) else { return 0 };
        let taken = (*held).min(u32::try_from(tokens).unwrap_or(u32::MAX));
        *held -= taken;
        self.sum -= u64::from(taken);
        u64::from(taken)
    }

    fn slot(&self, slot: Slot) -> u64 {
        self.slots.get(place(slot)).copied().map_or(0, u64::from)
    }
}

/// Where the ring keeps a slot.
fn place(slot: Slot) -> usize {
    (slot % SLOTS) as usize
}
