//! A question for usage, and its answer: the same for operators and for a customer, who is told of its own account.

use crate::clock;
use crate::telemetry::usage_meter::{UsageMeter, hour};
use client::views::usage::{UsageKept, UsagePage, UsageRow, UsageTotals};
use shedder::Tier;
use std::sync::Arc;
use usage::calendar::{self, DAY, HOUR_MAX};
use usage::report::{Making, Place, Step, Wanted};
use usage::row::{Key, Slot, Totals};

/// Rows of a page when nobody says how many.
const PAGE: usize = 1_000;
/// Rows of a page at most.
pub const PAGE_MAX: usize = 10_000;
/// The names that a question may have, beside `account`.
pub const NAMES: [&str; 8] = ["from", "to", "key", "model", "tier", "by", "limit", "after"];

/// Reads a question; `value` gives what stands in the query. Times that are absent are this month's begin and no end.
///
/// # Errors
/// A sentence about the first value that is not in order.
pub fn wanted(value: &dyn Fn(&str) -> Option<String>) -> Result<Wanted, String> {
    let moment = |name: &str| {
        let Some(text) = value(name) else { return Ok(None) };
        match calendar::parse(&text) {
            Some((first, _)) => Ok(Some(first)),
            None => Err(format!(
                "`{name}` must be a month, a day or an hour in UTC: 2026-11, 2026-11-30 or 2026-11-30T14:00:00Z."
            )),
        }
    };
    let from = moment("from")?.unwrap_or_else(|| calendar::month(hour(clock::wall())).0);
    let to = moment("to")?.unwrap_or(HOUR_MAX + 1);
    if to <= from {
        return Err(
            "`to` must be after `from`: it is the first moment that is not told of any more.".to_owned()
        );
    }
    let step = match value("by") {
        None => Step::default(),
        Some(name) => {
            Step::named(&name).ok_or_else(|| format!("`by` must be one of: {}.", Step::NAMES.join(", ")))?
        }
    };
    let key = match value("key") {
        None => None,
        Some(text) => Some(key(&text).ok_or(
            "`key` must be the first 8 hexadecimal digits of the key's SHA-256, as the access log has them.",
        )?),
    };
    let tier =
        match value("tier") {
            None => None,
            Some(name) => Some(Tier::ALL.into_iter().find(|tier| tier.name() == name).ok_or_else(|| {
                format!("`tier` must be one of: {}.", Tier::ALL.map(Tier::name).join(", "))
            })?),
        };
    let limit = match value("limit") {
        None => PAGE,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=PAGE_MAX).contains(limit))
            .ok_or_else(|| format!("`limit` must be a number from 1 to {PAGE_MAX}."))?,
    };
    let after = match value("after") {
        None => None,
        Some(text) => Some(place(&text).ok_or("`after` must be `next` of the page before, as it is.")?),
    };
    Ok(Wanted {
        hours: from..to,
        step,
        account: value("account"),
        key,
        model: value("model"),
        tier,
        after,
        limit,
    })
}

/// Answers it. `for_operators`: how it is kept is told, too. O(rows of the account, or of all, in the time).
#[must_use]
pub fn page(meter: &UsageMeter, wanted: &Wanted, for_operators: bool) -> UsagePage {
    let complete = meter.is_complete();
    let mut making = Making::new(wanted.clone());
    // The lock is let go between two looks: whoever waits for it is the accounting thread.
    while making.look(&meter.book()) {}
    let page = making.page();
    let kept = for_operators.then(|| kept(meter));
    let next = page.rows.last().filter(|_| page.more).map(|(place, _)| place_text(place));
    UsagePage {
        from: calendar::text(wanted.hours.start),
        to: (wanted.hours.end <= HOUR_MAX).then(|| calendar::text(wanted.hours.end)),
        by: wanted.step.name().into(),
        rows: page.rows.into_iter().map(|(place, totals)| row(place, &totals)).collect(),
        next,
        total: totals(&page.total),
        complete,
        retention_days: meter.retention_hours / DAY,
        kept,
    }
}

fn kept(meter: &UsageMeter) -> UsageKept {
    let (rows, without_row, unwritten) = {
        let book = meter.book();
        (book.entries(), book.overflowed(), book.unwritten())
    };
    UsageKept {
        rows: rows as u64,
        rows_max: meter.rows_max as u64,
        without_row,
        unwritten_requests: unwritten,
        last_write_seconds: meter.since_written(clock::now()).as_secs_f64(),
        write_failures: meter.failures(),
        damaged_lines: meter.damaged(),
        bytes: meter.bytes(),
    }
}

fn row(place: Place, sums: &Totals) -> UsageRow {
    let Key { account, slot } = place.key();
    UsageRow {
        time: calendar::text(slot.hour),
        account,
        key: slot.key.map(|key| format!("{key:08x}")),
        model: slot.model,
        tier: slot.tier.map(|tier| tier.name().into()),
        totals: totals(sums),
    }
}

fn totals(of: &Totals) -> UsageTotals {
    UsageTotals {
        requests: of.requests,
        answered: of.answered,
        refused_429: of.refused_429,
        refused_503: of.refused_503,
        prompt_tokens: of.prompt,
        cached_tokens: of.cached,
        uncached_tokens: of.uncached,
        generated_tokens: of.generated,
    }
}

fn key(text: &str) -> Option<u32> {
    let is_hex = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u32::from_str_radix(text, 16).ok())?
}

/// What a place is written as: hexadecimal, so that it stands in a query as it is.
fn place_text(place: &Place) -> String {
    let Key { account, slot } = place.key();
    let tier = slot.tier.map(Tier::name);
    let parts = serde_json::json!([slot.hour, account, slot.key, slot.model, tier]).to_string();
    parts.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// The place that is written so.
fn place(text: &str) -> Option<Place> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8))
        .collect();
    type Parts = (u32, Option<Arc<str>>, Option<u32>, Option<Arc<str>>, Option<String>);
    let (hour, account, key, model, tier): Parts = serde_json::from_slice(&bytes).ok()?;
    let tier = match tier {
        None => None,
        Some(name) => Some(Tier::ALL.into_iter().find(|tier| tier.name() == name)?),
    };
    Some(Place::of(Key { account, slot: Slot { hour, key, model, tier } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &[(&str, &str)]) -> Result<Wanted, String> {
        wanted(&|name| query.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn a_question_is_read_and_each_fault_is_told_with_what_would_be_good() {
        let wanted =
            asked(&[("from", "2026-11"), ("to", "2026-12"), ("key", "0000001f"), ("by", "hour")]).unwrap();
        assert_eq!((wanted.hours.len(), wanted.key, wanted.step), (720, Some(31), Step::Hour));
        assert_eq!(asked(&[]).unwrap().limit, PAGE);
        for (name, value, told) in [
            ("from", "november", "2026-11-30"),
            ("to", "1990", "2026-11"),
            ("by", "year", "hour, day, month"),
            ("key", "+0000001", "8 hexadecimal digits"),
            ("tier", "gold", "priority, regular, flex"),
            ("limit", "0", "from 1 to 10000"),
            ("after", "zz", "as it is"),
            ("after", "é", "as it is"),
        ] {
            let said = asked(&[(name, value)]).unwrap_err();
            assert!(said.contains(told) && said.starts_with(&format!("`{name}`")), "{said}");
        }
        assert!(asked(&[("from", "2026-11"), ("to", "2026-11")]).unwrap_err().contains("after `from`"));
    }

    #[test]
    fn a_place_stands_in_a_query_as_it_is() {
        let slot = Slot { hour: 9, key: Some(3), model: Some("a/b,é\"".into()), tier: Some(Tier::Flex) };
        for key in [Key { account: Some("a c".into()), slot }, Key { account: None, slot: Slot::of_hour(7) }]
        {
            let known = Place::of(key);
            let text = place_text(&known);
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            assert_eq!(place(&text), Some(known));
        }
    }
}
