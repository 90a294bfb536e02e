//! Rows of a time, by hour, day or month, page by page.
//!
//! Rows come in the order of time, account, key, model and tier. A page ends with the row after which the next one begins, so
//! that rows which are added meanwhile neither repeat nor hide one.

use crate::book::Book;
use crate::calendar::{self, DAY};
use crate::row::{Key, Slot, Totals};
use shedder::Tier;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// The length of the time that a row is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Step {
    /// Each hour.
    Hour,
    /// Each day, UTC.
    #[default]
    Day,
    /// Each month, UTC.
    Month,
}

impl Step {
    /// All of them, by name.
    pub const NAMES: &'static [&'static str] = &["hour", "day", "month"];

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Step> {
        Some(match name {
            "hour" => Step::Hour,
            "day" => Step::Day,
            "month" => Step::Month,
            _ => return None,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Step::Hour => "hour",
            Step::Day => "day",
            Step::Month => "month",
        }
    }

    /// The first hour of the time that an hour is in.
    #[must_use]
    pub fn begin(self, hour: u32) -> u32 {
        match self {
            Step::Hour => hour,
            Step::Day => hour / DAY * DAY,
            Step::Month => calendar::month(hour).0,
        }
    }
}

/// What is asked for; what is absent is any.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The hours, since the epoch.
    pub hours: Range<u32>,
    /// The length of the time that a row is of.
    pub step: Step,
    /// Of this account.
    pub account: Option<String>,
    /// Of this key.
    pub key: Option<u32>,
    /// For this model.
    pub model: Option<String>,
    /// In this tier.
    pub tier: Option<Tier>,
    /// Rows after this one.
    pub after: Option<Place>,
    /// At most so many rows.
    pub limit: usize,
}

/// A place in the order of rows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The first hour of the row's time.
    pub begin: u32,
    /// The account; those without one are last.
    pub account: (bool, Option<Arc<str>>),
    /// The row of it, with `begin` as its hour.
    pub slot: Slot,
}

impl Place {
    /// The place of a row with the first hour of its time as its hour.
    #[must_use]
    pub fn of(key: Key) -> Self {
        Place { begin: key.slot.hour, account: (key.account.is_none(), key.account), slot: key.slot }
    }

    /// The row's key, with the first hour of its time as its hour.
    #[must_use]
    pub fn key(&self) -> Key {
        Key { account: self.account.1.clone(), slot: self.slot.clone() }
    }
}

/// A page of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// They are in order.
    pub rows: Vec<(Place, Totals)>,
    /// Whether there are more after the last one.
    pub more: bool,
    /// The sum of all rows that match, of all pages.
    pub total: Totals,
}

/// Rows that are looked at in one go; what one account has more than that is looked at as well.
const AT_ONCE: usize = 2_000;

/// A page that is being made, account by account, so that nobody has to keep the book for long.
#[derive(Debug)]
pub struct Making {
    wanted: Wanted,
    /// The first ones that match, one more than are wanted.
    rows: BTreeMap<Place, Totals>,
    total: Totals,
    /// The account that was looked at last.
    looked: Option<Arc<str>>,
    /// Whether all accounts were.
    is_done: bool,
}

impl Making {
    /// One of which nothing was looked at yet.
    #[must_use]
    pub fn new(wanted: Wanted) -> Self {
        Making { wanted, rows: BTreeMap::new(), total: Totals::default(), looked: None, is_done: false }
    }

    /// Looks at some more rows; whether there are more. O(`AT_ONCE` + rows of one account, within the hours).
    pub fn look(&mut self, book: &Book) -> bool {
        let mut seen = 0;
        while !self.is_done && seen < AT_ONCE {
            let next = match &self.wanted.account {
                Some(_) if self.looked.is_some() => None,
                Some(id) => Some(Arc::from(id.as_str())),
                None => book.account_after(self.looked.as_ref()),
            };
            let Some(account) = next else {
                self.others(book);
                self.is_done = true;
                break;
            };
            for (slot, totals) in book.rows_of(&account, self.wanted.hours.clone()) {
                seen += 1;
                if self.wanted.matches(slot) {
                    self.count(Some(&account), slot, totals);
                }
            }
            seen += 1;
            self.looked = Some(account);
        }
        !self.is_done
    }

    /// The rows that have no account.
    fn others(&mut self, book: &Book) {
        if self.wanted.is_of_all() {
            for (hour, totals) in book.others(self.wanted.hours.clone()) {
                self.count(None, &Slot::of_hour(hour), totals);
            }
        }
    }

    fn count(&mut self, account: Option<&Arc<str>>, slot: &Slot, totals: &Totals) {
        self.total.add(totals);
        let begin = self.wanted.step.begin(slot.hour);
        let is_full = self.rows.len() > self.wanted.limit;
        // What is behind the page's end stays there: rows before it only come.
        if is_full && self.rows.last_key_value().is_some_and(|(last, _)| last.begin < begin) {
            return;
        }
        let slot = Slot { hour: begin, ..slot.clone() };
        let place = Place::of(Key { account: account.cloned(), slot });
        if self.wanted.after.as_ref().is_some_and(|after| place <= *after) {
            return;
        }
        if is_full && self.rows.last_key_value().is_some_and(|(last, _)| *last < place) {
            return;
        }
        self.rows.entry(place).or_default().add(totals);
        if self.rows.len() > self.wanted.limit.saturating_add(1) {
            self.rows.pop_last();
        }
    }

    /// The page.
    #[must_use]
    pub fn page(self) -> Page {
        let more = self.rows.len() > self.wanted.limit;
        Page { rows: self.rows.into_iter().take(self.wanted.limit).collect(), more, total: self.total }
    }
}

impl Wanted {
    fn matches(&self, slot: &Slot) -> bool {
        self.key.is_none_or(|key| slot.key == Some(key))
            && self.model.as_deref().is_none_or(|model| slot.model.as_deref() == Some(model))
            && self.tier.is_none_or(|tier| slot.tier == Some(tier))
    }

    /// Whether the rows without an account are among them.
    fn is_of_all(&self) -> bool {
        self.account.is_none() && self.key.is_none() && self.model.is_none() && self.tier.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOVEMBER: u32 = 498_744;

    fn page(book: &Book, wanted: &Wanted) -> Page {
        let mut making = Making::new(wanted.clone());
        while making.look(book) {}
        making.page()
    }

    fn book() -> Book {
        let mut book = Book::new(40);
        for hour in 0..72 {
            for (account, model) in [("b", "m"), ("a", "m"), ("a", "n")] {
                let slot = Slot {
                    hour: NOVEMBER + hour,
                    key: Some(hour % 2),
                    model: Some(model.into()),
                    tier: Some(Tier::Priority),
                };
                let totals = Totals { prompt: 10, ..Totals::of_status(200) };
                book.add(Key { account: Some(account.into()), slot }, &totals);
            }
        }
        book
    }

    fn wanted(step: Step) -> Wanted {
        Wanted {
            hours: NOVEMBER..NOVEMBER + 720,
            step,
            account: None,
            key: None,
            model: None,
            tier: None,
            after: None,
            limit: 1_000,
        }
    }

    #[test]
    fn rows_of_all_steps_have_the_same_sum() {
        assert_eq!(calendar::text(NOVEMBER), "2026-11-24T00:00:00Z");
        let book = book();
        for step in [Step::Hour, Step::Day, Step::Month] {
            let page = page(&book, &wanted(step));
            let mut sum = Totals::default();
            page.rows.iter().for_each(|(_, totals)| sum.add(totals));
            assert_eq!((sum, page.total.requests, page.more), (page.total, 216, false));
            assert!(page.rows.is_sorted_by(|a, b| a.0 < b.0));
            assert_eq!(Step::named(step.name()), Some(step));
        }
    }

    #[test]
    fn pages_have_every_row_once() {
        let book = book();
        let whole = page(&book, &wanted(Step::Hour)).rows;
        let (mut rows, mut asked) = (Vec::new(), Wanted { limit: 7, ..wanted(Step::Hour) });
        loop {
            let page = page(&book, &asked);
            assert_eq!(page.total.requests, 216, "the sum is that of all pages");
            asked.after = page.rows.last().map(|(place, _)| place.clone());
            rows.extend(page.rows);
            if !page.more {
                break;
            }
        }
        assert_eq!(rows, whole);
    }

    #[test]
    fn rows_are_chosen_by_what_they_are_told_by() {
        let (mut book, mut all) = (Book::new(1_000), self::book());
        for (key, totals) in all.take_pending().into_iter().filter(|(key, _)| key.account.is_some()) {
            book.add(key, &totals);
        }
        let requests = |wanted: Wanted| page(&book, &wanted).total.requests;
        let whole = || wanted(Step::Day);
        // The first 40 rows: 13 hours of three, and one of the 14th, which is of key 1.
        assert_eq!(requests(whole()), 40);
        assert_eq!(requests(Wanted { account: Some("b".into()), ..whole() }), 14);
        assert_eq!(requests(Wanted { account: Some("c".into()), ..whole() }), 0);
        assert_eq!(requests(Wanted { account: Some("a".into()), model: Some("n".into()), ..whole() }), 13);
        assert_eq!(requests(Wanted { key: Some(1), ..whole() }), 19);
        assert_eq!(requests(Wanted { tier: Some(Tier::Flex), ..whole() }), 0);
        assert_eq!(requests(Wanted { tier: Some(Tier::Priority), ..whole() }), 40);
        assert_eq!(requests(Wanted { hours: 0..NOVEMBER, ..whole() }), 0);
    }

    /// Many accounts are looked at in several goes, and the page is the same as that of all at once.
    #[test]
    fn a_page_is_made_in_goes() {
        let mut book = Book::new(100_000);
        for account in 0..3_000 {
            let slot = Slot { hour: NOVEMBER + account % 48, key: None, model: None, tier: None };
            let key = Key { account: Some(format!("a{account:04}").into()), slot };
            book.add(key, &Totals::of_status(200));
        }
        let mut making = Making::new(Wanted { limit: 10, ..wanted(Step::Hour) });
        let mut goes = 1;
        while making.look(&book) {
            goes += 1;
        }
        let page = making.page();
        assert!(goes > 2 && page.more, "{goes}");
        assert_eq!((page.rows.len(), page.total.requests), (10, 3_000));
        let expected: Vec<String> = (0..10).map(|nth| format!("a{:04}", nth * 48)).collect();
        let shown = page.rows.iter().map(|(place, _)| place.key().account.unwrap().to_string());
        assert_eq!(shown.collect::<Vec<_>>(), expected);
    }
}
