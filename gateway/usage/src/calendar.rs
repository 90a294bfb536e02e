//! Hours since the epoch as dates of the proleptic Gregorian calendar in UTC, and back.
//!
//! Days by eras of 400 years from 0000-03-01, after H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".

/// Hours of a day.
pub const DAY: u32 = 24;
/// The last hour that is told: the end of the year 9999, so that a year has four digits.
pub const HOUR_MAX: u32 = 70_389_527;

/// A date, and an hour of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// The year, from 1970 to 9999.
    pub year: u32,
    /// The month, from 1.
    pub month: u32,
    /// The day, from 1.
    pub day: u32,
    /// The hour, from 0.
    pub hour: u32,
}

/// The date of an hour since the epoch, at most [`HOUR_MAX`].
#[must_use]
pub fn date(hour: u32) -> Date {
    let hour = hour.min(HOUR_MAX);
    let z = hour / DAY + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    Date { year: year_of_era + era * 400 + u32::from(month <= 2), month, day, hour: hour % DAY }
}

/// The hour since the epoch of a date; `None`: there is no such date, or it is before 1970.
#[must_use]
pub fn hour(date: Date) -> Option<u32> {
    let Date { year, month, day, hour } = date;
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || hour >= DAY {
        return None;
    }
    let years = year - u32::from(month <= 2);
    let (era, of_era) = (years / 400, years % 400);
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * from_march + 2) / 5 + day.checked_sub(1)?;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    let found = days.checked_sub(719_468)? * DAY + hour;
    // A 30th of February is the 1st or 2nd of March there and back.
    (self::date(found) == date).then_some(found)
}

/// The first hour of the month that an hour is in, and the first one after it.
#[must_use]
pub fn month(of: u32) -> (u32, u32) {
    let Date { year, month, .. } = date(of);
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    let first = |year, month| hour(Date { year, month, day: 1, hour: 0 });
    (first(year, month).unwrap_or(0), first(next_year, next_month).unwrap_or(HOUR_MAX + 1))
}

/// `2026-11`.
#[must_use]
pub fn month_text(hour: u32) -> String {
    let Date { year, month, .. } = date(hour);
    format!("{year:04}-{month:02}")
}

/// `2026-11-30T14:00:00Z`.
#[must_use]
pub fn text(of: u32) -> String {
    let Date { year, month, day, hour } = date(of);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:00:00Z")
}

/// What a text means: a month, a day or an hour, as its first hour and the first one after it.
///
/// `2026-11`, `2026-11-30`, `2026-11-30T14`, and with `:00`, `:00:00` and `Z` behind the hour. `None`: anything else.
#[must_use]
pub fn parse(text: &str) -> Option<(u32, u32)> {
    let (day_text, hour_text) = match text.split_once('T') {
        Some((day, hour)) => (day, Some(hour)),
        None => (text, None),
    };
    let mut parts = day_text.split('-');
    let (year, month, day) = (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, parts.next());
    if parts.next().is_some() {
        return None;
    }
    let Some(day) = day else {
        let first = hour(Date { year, month, day: 1, hour: 0 })?;
        return hour_text.is_none().then(|| self::month(first));
    };
    let day = digits(day, 2)?;
    let Some(text) = hour_text else {
        let first = hour(Date { year, month, day, hour: 0 })?;
        return Some((first, first + DAY));
    };
    let text = text.strip_suffix('Z').unwrap_or(text);
    let of_day = ["", ":00", ":00:00"].into_iter().find_map(|end| digits(text.strip_suffix(end)?, 2))?;
    let first = hour(Date { year, month, day, hour: of_day })?;
    Some((first, first + 1))
}

fn digits(text: &str, count: usize) -> Option<u32> {
    let is_number = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_are_told_and_read() {
        assert_eq!(text(0), "1970-01-01T00:00:00Z");
        assert_eq!(text(951_827_696 / 3600), "2000-02-29T12:00:00Z");
        assert_eq!(text(HOUR_MAX), "9999-12-31T23:00:00Z");
        let first = parse("2026-11").unwrap().0;
        assert_eq!(parse("2026-11"), Some((first, first + 30 * 24)));
        assert_eq!(parse("2026-11-30"), Some((first + 29 * 24, first + 30 * 24)));
        for hour in ["2026-11-01T05", "2026-11-01T05:00", "2026-11-01T05:00:00", "2026-11-01T05:00:00Z"] {
            assert_eq!(parse(hour), Some((first + 5, first + 6)), "{hour}");
        }
        assert_eq!(parse("2026-12").unwrap().1, parse("2027-01").unwrap().0);
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for wrong in [
            "",
            "2026",
            "2026-13",
            "2026-00",
            "2026-02-30",
            "2026-11-00",
            "2026-11-31",
            "2026-11-01T24",
            "2026-11T05",
            "2026-11-01T05:30",
            "2026-11-01T",
            "2026-1",
            "+026-11",
            "1969-12",
            "2026-11-01-01",
            "2026-11-01 05",
            "é026-11",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn there_and_back(hour in 0..=HOUR_MAX) {
            prop_assert_eq!(super::hour(date(hour)), Some(hour));
            prop_assert_eq!(parse(&text(hour)), Some((hour, hour + 1)));
            let (first, next) = month(hour);
            prop_assert!(first <= hour && hour < next && (28 * 24..=31 * 24).contains(&(next - first)));
            prop_assert_eq!(month_text(first), month_text(next - 1));
        }
    }
}
