//! Refused requests by account, reason and what else tells them apart, minute by minute for an hour.
//!
//! Many accounts that are refused must not cost memory without bound, so at most [`GROUPS_MAX`] groups are kept. The one that
//! was refused longest ago makes room, and its requests are counted among the others.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Groups that are kept, each some 500 bytes.
pub const GROUPS_MAX: usize = 2_000;
/// Minutes that are kept.
pub const MINUTES_MAX: usize = 60;

/// What the requests of a group have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Whose they were; `None`: no account that is known.
    pub account: Option<Arc<str>>,
    /// The reason that was told.
    pub reason: &'static str,
    /// The status that was told.
    pub status: u16,
    /// For which model.
    pub model: Option<Arc<str>>,
    /// At which deployment.
    pub deployment: Option<Arc<str>>,
    /// In which tier.
    pub tier: Option<&'static str>,
}

/// Requests by minute.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Minutes {
    /// Not beyond [`MINUTES_MAX`]; the newest last, which is the minute `newest` since the epoch.
    counts: VecDeque<u32>,
    newest: u64,
}

impl Minutes {
    /// Adds requests of a minute. What is older than the oldest that is kept is not counted.
    fn add(&mut self, minute: u64, count: u32) {
        if self.counts.is_empty() {
            self.newest = minute;
            self.counts.push_back(0);
        }
        let passed = minute.saturating_sub(self.newest).min(MINUTES_MAX as u64);
        self.counts.extend((0..passed).map(|_| 0));
        self.newest = self.newest.max(minute);
        self.counts.drain(..self.counts.len().saturating_sub(MINUTES_MAX));
        let back = usize::try_from(self.newest - minute).unwrap_or(usize::MAX);
        while self.counts.len() <= back && self.counts.len() < MINUTES_MAX {
            self.counts.push_front(0);
        }
        if let Some(kept) = self.counts.iter_mut().rev().nth(back) {
            *kept = kept.saturating_add(count);
        }
    }

    /// The requests of `minute`.
    fn of(&self, minute: u64) -> u32 {
        let back = self.newest.checked_sub(minute).and_then(|back| usize::try_from(back).ok());
        back.and_then(|back| self.counts.iter().rev().nth(back)).copied().unwrap_or(0)
    }
}

#[derive(Debug, Default)]
struct Group {
    minutes: Minutes,
    /// Wall time of the last one, its request's id, and the sentence that was told.
    last: (Duration, String, Option<String>),
}

/// Refused requests in groups.
#[derive(Debug, Default)]
pub struct Groups {
    groups: BTreeMap<Key, Group>,
    /// Those whose group made room.
    others: Minutes,
}

/// One group, summed over some minutes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summed<'g> {
    /// What they have in common.
    pub key: &'g Key,
    /// By minute, the oldest first; the last is the one that runs.
    pub by_minute: Vec<u32>,
    /// Wall time of the last one.
    pub last: Duration,
    /// Its id.
    pub last_id: &'g str,
    /// The sentence that was told.
    pub last_message: Option<&'g str>,
}

impl Groups {
    /// Counts a refused request at the wall time `at`. O(log groups), and O(groups) where one makes room.
    pub fn count(&mut self, at: Duration, key: Key, id: &str, message: Option<&str>) {
        let minute = at.as_secs() / 60;
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&key) {
            self.make_room();
        }
        let group = self.groups.entry(key).or_default();
        group.minutes.add(minute, 1);
        group.last = (at, id.to_owned(), message.map(str::to_owned));
    }

    fn make_room(&mut self) {
        let oldest = self.groups.iter().min_by_key(|(_, group)| group.last.0);
        let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { return };
        let Some(group) = self.groups.remove(&oldest) else { return };
        for back in 0..MINUTES_MAX as u64 {
            let Some(minute) = group.minutes.newest.checked_sub(back) else { break };
            let count = group.minutes.of(minute);
            if count > 0 {
                self.others.add(minute, count);
            }
        }
    }

    /// The groups that `wanted` chooses with requests in the last `minutes`, running minute included. O(groups × minutes).
    pub fn summed<'g>(
        &'g self,
        now: Duration,
        minutes: usize,
        wanted: impl Fn(&Key) -> bool + 'g,
    ) -> impl Iterator<Item = Summed<'g>> {
        let span = span(now, minutes);
        let chosen = self.groups.iter().filter(move |(key, _)| wanted(key));
        chosen.filter_map(move |(key, group)| {
            let by_minute: Vec<u32> = span.clone().map(|minute| group.minutes.of(minute)).collect();
            let (last, ref id, ref message) = group.last;
            by_minute.iter().any(|count| *count > 0).then(|| Summed {
                key,
                by_minute,
                last,
                last_id: id,
                last_message: message.as_deref(),
            })
        })
    }

    /// Requests in the last `minutes` whose group made room.
    #[must_use]
    pub fn others(&self, now: Duration, minutes: usize) -> u64 {
        span(now, minutes).map(|minute| u64::from(self.others.of(minute))).sum()
    }
}

fn span(now: Duration, minutes: usize) -> std::ops::RangeInclusive<u64> {
    let newest = now.as_secs() / 60;
    newest.saturating_sub(minutes.clamp(1, MINUTES_MAX) as u64 - 1)..=newest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(account: &str, reason: &'static str) -> Key {
        let status = if reason == "requests-limited" { 429 } else { 503 };
        let account = Some(account.into());
        Key { account, reason, status, model: None, deployment: None, tier: Some("regular") }
    }

    fn minute(minute: u64) -> Duration {
        Duration::from_secs(60 * (30_000_000 + minute))
    }

    #[test]
    fn requests_are_counted_by_what_they_have_in_common_minute_by_minute() {
        let mut groups = Groups::default();
        groups.count(minute(0), key("a", "shed-predicted"), "r1", Some("Too much."));
        groups.count(minute(2), key("a", "shed-predicted"), "r2", Some("Still."));
        groups.count(minute(2), key("a", "requests-limited"), "r3", None);
        groups.count(minute(2), key("b", "shed-predicted"), "r4", None);

        let of_a: Vec<_> = groups.summed(minute(2), 3, |key| key.account.as_deref() == Some("a")).collect();
        let shown: Vec<_> =
            of_a.iter().map(|group| (group.key.reason, group.by_minute.clone(), group.last_id)).collect();
        assert_eq!(
            shown,
            [("requests-limited", vec![0, 0, 1], "r3"), ("shed-predicted", vec![1, 0, 1], "r2")]
        );
        assert_eq!(of_a[1].last_message, Some("Still."));
        assert_eq!(groups.summed(minute(2), 1, |_| true).map(|group| group.by_minute[0]).sum::<u32>(), 3);
    }

    #[test]
    fn an_hour_is_kept() {
        let mut groups = Groups::default();
        (0..200).for_each(|at| groups.count(minute(at), key("a", "queue-full"), "r", None));

        let hour: Vec<u32> = groups.summed(minute(199), 500, |_| true).next().unwrap().by_minute;
        assert_eq!(hour, [1; MINUTES_MAX]);
        assert_eq!(groups.summed(minute(300), MINUTES_MAX, |_| true).count(), 0, "an hour later");
    }

    #[test]
    fn a_clock_that_goes_back_loses_no_request() {
        let mut groups = Groups::default();
        groups.count(minute(10), key("a", "queue-full"), "r", None);
        groups.count(minute(8), key("a", "queue-full"), "r", None);

        let told = groups.summed(minute(10), 3, |_| true).next().unwrap().by_minute;
        assert_eq!(told, [1, 0, 1]);
    }

    #[test]
    fn groups_have_a_bound_and_none_of_their_requests_is_lost() {
        let mut groups = Groups::default();
        let all = GROUPS_MAX + 500;
        for nth in 0..all {
            let at = minute(0) + Duration::from_millis(nth as u64);
            groups.count(at, key(&format!("account-{nth}"), "queue-full"), "r", None);
        }

        let told = groups.summed(minute(0), MINUTES_MAX, |_| true);
        let (shown, count) = told.fold((0, 0), |(shown, sum), group| {
            (shown + 1, sum + group.by_minute.iter().map(|count| u64::from(*count)).sum::<u64>())
        });
        assert_eq!(shown, GROUPS_MAX);
        assert_eq!(count + groups.others(minute(0), MINUTES_MAX), all as u64);
        let last = format!("account-{}", all - 1);
        assert!(groups.summed(minute(0), 1, |key| key.account.as_deref() == Some(&last)).next().is_some());
    }
}
