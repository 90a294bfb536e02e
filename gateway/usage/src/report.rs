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

/// The rows that are asked for. O(rows of the account, or of all, within the hours).
#[must_use]
pub fn page(book: &Book, wanted: &Wanted) -> Page {
    let mut sums: BTreeMap<Place, Totals> = BTreeMap::new();
    let mut total = Totals::default();
    let mut count = |account: Option<&Arc<str>>, slot: &Slot, totals: &Totals| {
        total.add(totals);
        let slot = Slot { hour: wanted.step.begin(slot.hour), ..slot.clone() };
        sums.entry(Place::of(Key { account: account.cloned(), slot })).or_default().add(totals);
    };
    for (account, slot, totals) in book.rows(wanted.account.as_deref(), wanted.hours.clone()) {
        if wanted.matches(slot) {
            count(account, slot, totals);
        }
    }
    if wanted.is_of_all() {
        for (hour, totals) in book.others(wanted.hours.clone()) {
            count(None, &Slot::of_hour(hour), totals);
        }
    }
    let rest = sums.into_iter().filter(|(place, _)| wanted.after.as_ref().is_none_or(|after| place > after));
    let mut rows: Vec<(Place, Totals)> = rest.take(wanted.limit.saturating_add(1)).collect();
    let more = rows.len() > wanted.limit;
    rows.truncate(wanted.limit);
    Page { rows, more, total }
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
        let mut book = Book::new(1_000);
        let mut small = self::book();
        for (key, totals) in small.take_pending() {
            book.add(key, &totals);
        }
        let requests = |wanted: &Wanted| page(&book, wanted).total.requests;
        let all = wanted(Step::Day);
        assert_eq!(
            requests(&Wanted { account: Some("a".into()), ..all.clone() }),
            small.rows(Some("a"), 0..u32::MAX).count() as u64
        );
        assert_eq!(requests(&Wanted { account: Some("c".into()), ..all.clone() }), 0);
        assert_eq!(requests(&Wanted { tier: Some(Tier::Flex), ..all.clone() }), 0);
        assert!(
            requests(&Wanted { key: Some(1), ..all.clone() })
                < requests(&Wanted { tier: Some(Tier::Priority), ..all.clone() })
        );
        assert_eq!(requests(&Wanted { hours: 0..NOVEMBER, ..all }), 0);
    }
}
