//! All rows within a bound, and what of them is not on the disk yet.
//!
//! Rows are kept by account and then by time, so that one customer's question costs what that customer has. There are at most
//! as many as the book was made for; a request whose row finds no room is counted in a row of its hour that has no account, so
//! the sum of all rows is that of all requests whatever happens.
//!
//! What was added since it was last taken is kept beside: it is taken, written, and put back where that failed.
//!
//! Some 190 bytes a row (500 accounts with 2,000 hours each). [`Book::add`] is O(log rows) and allocates for a new row only.

use crate::calendar::DAY;
use crate::row::{Key, Slot, Totals};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Range};
use std::sync::Arc;

type Rows = BTreeMap<Slot, Totals>;

/// Distinct days with rows that a time must have before anything older is let go: see [`Book::oldest_kept`].
const DAYS_TRUSTED: usize = 2;

/// All rows.
#[derive(Debug)]
pub struct Book {
    accounts: BTreeMap<Arc<str>, Rows>,
    /// Requests whose row found no room, by hour.
    others: BTreeMap<u32, Totals>,
    entries: usize,
    entries_max: usize,
    /// What was added and not taken yet.
    pending: BTreeMap<Key, Totals>,
    /// Requests that were taken and are being written.
    writing: u64,
    /// Requests that were added and found no room.
    overflowed: u64,
}

impl Book {
    /// An empty one of at most `entries_max` rows beside those without an account.
    #[must_use]
    pub fn new(entries_max: usize) -> Self {
        Book {
            accounts: BTreeMap::new(),
            others: BTreeMap::new(),
            entries: 0,
            entries_max,
            pending: BTreeMap::new(),
            writing: 0,
            overflowed: 0,
        }
    }

    /// Adds what is new, to be written.
    pub fn add(&mut self, key: Key, totals: &Totals) {
        let has_account = key.account.is_some();
        let key = self.place(key, totals);
        if has_account && key.account.is_none() {
            self.overflowed = self.overflowed.saturating_add(totals.requests);
        }
        self.pending.entry(key).or_default().add(totals);
    }

    /// Adds what was written before.
    pub fn restore(&mut self, key: Key, totals: &Totals) {
        self.place(key, totals);
    }

    /// Adds to the row of `key`, or to that of its hour without an account; which of them.
    fn place(&mut self, key: Key, totals: &Totals) -> Key {
        let Key { account, slot } = key;
        if let Some(id) = account {
            // The id that is kept already, so that it is in memory once.
            let id = self.accounts.get_key_value(&id).map_or(id, |(kept, _)| Arc::clone(kept));
            let is_full = self.entries >= self.entries_max;
            if !is_full || self.accounts.get(&id).is_some_and(|rows| rows.contains_key(&slot)) {
                match self.accounts.entry(Arc::clone(&id)).or_default().entry(slot.clone()) {
                    Entry::Occupied(mut row) => row.get_mut().add(totals),
                    Entry::Vacant(row) => {
                        row.insert(*totals);
                        self.entries += 1;
                    }
                }
                return Key { account: Some(id), slot };
            }
        }
        self.others.entry(slot.hour).or_default().add(totals);
        Key { account: None, slot: Slot::of_hour(slot.hour) }
    }

    /// Takes what is to be written. It counts as unwritten until [`Book::written`] or [`Book::put_back`]. O(rows of it).
    #[must_use]
    pub fn take_pending(&mut self) -> BTreeMap<Key, Totals> {
        self.writing = self.unwritten();
        std::mem::take(&mut self.pending)
    }

    /// What was taken is written.
    pub fn written(&mut self) {
        self.writing = 0;
    }

    /// Puts back what could not be written.
    pub fn put_back(&mut self, taken: BTreeMap<Key, Totals>) {
        self.writing = 0;
        for (key, totals) in taken {
            self.pending.entry(key).or_default().add(&totals);
        }
    }

    /// Takes the place of `before`, whose rows were read from the disk into this one: what was not written yet is added.
    pub fn follow(&mut self, before: &mut Book) {
        self.overflowed = before.overflowed;
        for (key, totals) in before.take_pending() {
            self.add(key, &totals);
        }
    }

    /// Requests that are not on the disk yet. O(rows that are not).
    #[must_use]
    pub fn unwritten(&self) -> u64 {
        self.writing + self.pending.values().map(|totals| totals.requests).sum::<u64>()
    }

    /// Requests that were added here and found no room for a row.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// Rows in memory, those without an account among them.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries + self.others.len()
    }

    /// The rows of an account within some hours.
    pub fn rows_of(&self, account: &str, hours: Range<u32>) -> impl Iterator<Item = (&Slot, &Totals)> {
        let (from, to) = (Slot::of_hour(hours.start), Slot::of_hour(hours.end.max(hours.start)));
        self.accounts.get(account).into_iter().flat_map(move |rows| rows.range(from.clone()..to.clone()))
    }

    /// The account after one, in the order of their ids; the first of all after none.
    #[must_use]
    pub fn account_after(&self, account: Option<&Arc<str>>) -> Option<Arc<str>> {
        let from = account.map_or(Bound::Unbounded, Bound::Excluded);
        self.accounts.range::<Arc<str>, _>((from, Bound::Unbounded)).next().map(|(id, _)| Arc::clone(id))
    }

    /// Requests whose row found no room, within some hours, by hour.
    pub fn others(&self, hours: Range<u32>) -> impl Iterator<Item = (u32, &Totals)> {
        let end = hours.end.max(hours.start);
        self.others.range(hours.start..end).map(|(hour, totals)| (*hour, totals))
    }

    /// The first hour that is kept at `now` for `retention` hours. `None`: nothing is to be let go.
    ///
    /// A wall clock may be wrong, and what is let go does not come back. So a time is believed only once there are rows of at
    /// least two days (`DAYS_TRUSTED`) in the retention that ends with it: a clock that is years ahead for an hour costs nothing.
    #[must_use]
    pub fn oldest_kept(&self, now: u32, retention: u32) -> Option<u32> {
        let oldest = (now + 1).checked_sub(retention)?;
        let hours = oldest..now + 1;
        let mut days = BTreeSet::new();
        let others = self.others(hours.clone()).map(|(hour, _)| hour);
        let accounts = self.accounts.keys().flat_map(|id| self.rows_of(id, hours.clone()));
        for hour in others.chain(accounts.map(|(slot, _)| slot.hour)) {
            days.insert(hour / DAY);
            if days.len() >= DAYS_TRUSTED {
                return Some(oldest);
            }
        }
        None
    }

    /// Lets go of the rows before an hour; how many. O(accounts + those that go).
    pub fn forget_before(&mut self, oldest: u32) -> usize {
        let mut gone = 0;
        self.accounts.retain(|_, rows| {
            while rows.first_key_value().is_some_and(|(slot, _)| slot.hour < oldest) {
                rows.pop_first();
                gone += 1;
            }
            !rows.is_empty()
        });
        self.entries -= gone;
        let others = self.others.len();
        self.others = self.others.split_off(&oldest);
        gone + others - self.others.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shedder::Tier;

    fn key(account: &str, hour: u32) -> Key {
        let slot = Slot { hour, key: Some(7), model: Some("m".into()), tier: Some(Tier::Regular) };
        Key { account: Some(account.into()), slot }
    }

    fn one() -> Totals {
        Totals { generated: 5, ..Totals::of_status(200) }
    }

    fn sum(book: &Book) -> u64 {
        let rows =
            book.accounts.values().flat_map(BTreeMap::values).map(|totals| totals.requests).sum::<u64>();
        rows + book.others(0..u32::MAX).map(|(_, totals)| totals.requests).sum::<u64>()
    }

    #[test]
    fn what_finds_no_room_is_counted_in_the_row_of_its_hour() {
        let mut book = Book::new(3);
        for hour in 0..5 {
            book.add(key("a", hour), &one());
            book.add(key("a", 0), &one());
        }

        assert_eq!((sum(&book), book.overflowed(), book.entries()), (10, 2, 5));
        let others: Vec<_> = book.others(0..9).map(|(hour, totals)| (hour, totals.requests)).collect();
        assert_eq!(others, [(3, 1), (4, 1)]);
        assert_eq!(book.unwritten(), 10);
    }

    #[test]
    fn what_could_not_be_written_is_pending_again() {
        let mut book = Book::new(9);
        book.add(key("a", 1), &one());
        let taken = book.take_pending();
        assert_eq!((book.unwritten(), taken.len()), (1, 1), "it is on its way");
        book.add(key("a", 1), &one());
        book.put_back(taken);

        assert_eq!((book.unwritten(), sum(&book)), (2, 2), "the rows had it all the time");
        let mut read = Book::new(9);
        read.restore(key("a", 0), &one());
        read.follow(&mut book);
        assert_eq!((read.unwritten(), sum(&read)), (2, 3));
        assert_eq!((read.take_pending().len(), read.unwritten()), (1, 2));
        read.written();
        assert_eq!(read.unwritten(), 0);
    }

    #[test]
    fn rows_of_an_account_are_its_own_and_those_of_the_time() {
        let mut book = Book::new(99);
        for (account, hour) in [("a", 1), ("a", 2), ("ab", 2), ("a", 3)] {
            book.add(key(account, hour), &one());
        }

        assert_eq!(book.rows_of("a", 2..9).count(), 2);
        assert_eq!(book.rows_of("b", 0..9).count(), 0);
        assert_eq!(book.rows_of("a", std::ops::Range { start: 3, end: 1 }).count(), 0);
        let first = book.account_after(None).unwrap();
        assert_eq!((&*first, book.account_after(Some(&first)).as_deref()), ("a", Some("ab")));
        assert_eq!(book.account_after(Some(&"ab".into())), None);
    }

    /// The clock is ten years ahead for an hour, and nothing is lost by it.
    #[test]
    fn a_time_is_believed_once_it_has_lasted() {
        let (retention, years) = (24 * 30, 24 * 3_650);
        let mut book = Book::new(99);
        let now = 480_000;
        (0..3).for_each(|day| book.add(key("a", now - 24 * day), &one()));
        book.add(key("a", now - 2 * retention), &one());
        assert_eq!(book.oldest_kept(now, retention), Some(now + 1 - retention));

        book.add(key("a", now + years), &one());
        assert_eq!(book.oldest_kept(now + years, retention), None);
        assert_eq!(book.oldest_kept(5, retention), None, "and one that is back in 1970");

        assert_eq!(book.forget_before(now + 1 - retention), 1);
        assert_eq!((book.entries(), sum(&book)), (4, 4));
    }
}
