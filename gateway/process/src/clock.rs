//! The one reader of the clock: monotonic time since the process started, and wall time for log lines.
//!
//! Decisions use [`now`] only. It cannot go back, so a stepped or skewed wall clock neither refills a
//! budget nor expires a waiting request. [`wall`] exists for what people read: log lines and restored
//! state. Everything below the gateway gets `now` as an argument.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

static START: OnceLock<Instant> = OnceLock::new();

/// Monotonic time since the first call in this process. Cost: one vDSO call, no lock after the first.
#[expect(clippy::disallowed_methods, reason = "this file is the clock's one reader")]
#[must_use]
pub fn now() -> Duration {
    START.get_or_init(Instant::now).elapsed()
}

/// Wall time since the Unix epoch, for people and for restored state; never for a decision.
#[expect(clippy::disallowed_methods, reason = "this file is the clock's one reader")]
#[must_use]
pub fn wall() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Wall time as RFC 3339 in UTC with milliseconds, e.g. `2026-11-23T01:02:03.456Z`.
#[must_use]
pub fn rfc3339(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (year, month, day) = civil_from_days((seconds / 86_400) as i64);
    let of_day = seconds % 86_400;
    let mut text = String::with_capacity(24);
    // Each log line has one, and the standard formatter takes longer for it than for all the rest of the line.
    let mut write = |number: u64, digits: u32, end: char| {
        for place in (0..digits).rev() {
            text.push(char::from(b'0' + (number / 10_u64.pow(place) % 10) as u8));
        }
        text.push(end);
    };
    write(year.unsigned_abs(), 4, '-');
    write(month.unsigned_abs(), 2, '-');
    write(day.unsigned_abs(), 2, 'T');
    write(of_day / 3600, 2, ':');
    write(of_day / 60 % 60, 2, ':');
    write(of_day % 60, 2, '.');
    write(u64::from(since_epoch.subsec_millis()), 3, 'Z');
    text
}

/// Days since 1970-01-01 to a proleptic Gregorian date, by counting 400-year eras from 0000-03-01.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back() {
        let first = now();
        assert!(now() >= first);
    }

    #[test]
    fn wall_time_is_written_as_rfc3339_also_on_leap_days() {
        assert_eq!(rfc3339(Duration::from_millis(951_827_696_789)), "2000-02-29T12:34:56.789Z");
        assert_eq!(rfc3339(Duration::ZERO), "1970-01-01T00:00:00.000Z");
    }
}
