//! Is a model short of capacity? Then nobody's limit on it grows: limits must not grow into a shortage.
//!
//! A model is short for an account while more than a small share of what the *others* offered to its deployments in the
//! last minute, in the regular tier, was shed. The account's own requests are left out, or one account could hold its own
//! growth up, or a lonely one would never be told that it asks for too much.
//!
//! What counts is a verdict: a request was given a place, or shed. One that a limit refused was never offered, so an account
//! that repeats its 429s makes no model look less short. One that left before its verdict counts for nothing.

use std::collections::{BTreeMap, VecDeque};

/// How far back is looked, seconds.
pub const WINDOW_S: u64 = 60;

/// Verdicts, and how many of them were refusals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    all: u64,
    shed: u64,
}

/// What was offered in the window, in all and by account. `K` tells accounts apart.
#[derive(Debug, Clone)]
pub struct Offered<K> {
    total: Counts,
    by_account: BTreeMap<K, Counts>,
}

impl<K: Ord> Offered<K> {
    /// Whether more than `share_max` of what the others offered was shed. O(log accounts).
    #[must_use]
    pub fn is_short_for(&self, account: &K, share_max: f64) -> bool {
        let own = self.by_account.get(account).copied().unwrap_or_default();
        let others = self.total.all - own.all;
        (self.total.shed - own.shed) as f64 > share_max * others as f64
    }

    /// Whether nothing was shed, so that the model is short for nobody.
    #[must_use]
    pub fn is_all_placed(&self) -> bool {
        self.total.shed == 0
    }
}

/// The last minute of one model. Memory: the accounts seen in each second of the window, at most one entry for each verdict
/// in it.
#[derive(Debug, Clone)]
pub struct LastMinute<K> {
    /// At most [`WINDOW_S`] seconds, each with the accounts that were seen in it.
    seconds: VecDeque<(u64, BTreeMap<K, Counts>)>,
    offered: Offered<K>,
}

impl<K> Default for LastMinute<K> {
    fn default() -> Self {
        let offered = Offered { total: Counts::default(), by_account: BTreeMap::new() };
        LastMinute { seconds: VecDeque::new(), offered }
    }
}

impl<K: Ord + Clone> LastMinute<K> {
    /// Counts the verdict on a regular request of `account` in the second `now_s`. O(log accounts), amortised.
    pub fn decided(&mut self, now_s: u64, account: &K, shed: bool) {
        if self.seconds.back().is_none_or(|(last, _)| *last < now_s) {
            self.forget(now_s);
            self.seconds.push_back((now_s, BTreeMap::new()));
        }
        let Some((_, of_second)) = self.seconds.back_mut() else { return };
        for counts in [
            of_second.entry(account.clone()).or_default(),
            self.offered.by_account.entry(account.clone()).or_default(),
            &mut self.offered.total,
        ] {
            counts.all += 1;
            counts.shed += u64::from(shed);
        }
    }

    /// Drops what is older than the window. O(what is dropped).
    pub fn forget(&mut self, now_s: u64) {
        let Offered { total, by_account } = &mut self.offered;
        while self.seconds.front().is_some_and(|(second, _)| second + WINDOW_S <= now_s) {
            let Some((_, accounts)) = self.seconds.pop_front() else { return };
            for (account, counts) in accounts {
                total.all -= counts.all;
                total.shed -= counts.shed;
                if let Some(left) = by_account.get_mut(&account) {
                    left.all -= counts.all;
                    left.shed -= counts.shed;
                    if left.all == 0 {
                        by_account.remove(&account);
                    }
                }
            }
        }
    }

    /// What is in the window; [`forget`](Self::forget) comes first.
    #[must_use]
    pub fn offered(&self) -> &Offered<K> {
        &self.offered
    }

    /// Whether nothing is in the window.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seconds.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(entries: &[(u64, u32, u64, u64)]) -> LastMinute<u32> {
        let mut minute = LastMinute::default();
        for &(second, account, given, shed) in entries {
            (0..given).for_each(|_| minute.decided(second, &account, false));
            (0..shed).for_each(|_| minute.decided(second, &account, true));
        }
        minute
    }

    /// Report D2: growth is frozen while the model sheds, the account's own requests excepted.
    #[test]
    fn report_d2_a_model_is_short_by_what_happens_to_others() {
        let (noisy, calm) = (1, 2);
        let mut minute = minute(&[(1, noisy, 0, 50), (1, calm, 99, 0)]);
        assert!(!minute.offered().is_short_for(&noisy, 0.01), "only its own were shed");
        assert!(minute.offered().is_short_for(&calm, 0.01));

        minute.decided(1, &calm, true);
        assert!(!minute.offered().is_short_for(&noisy, 0.01), "1 of 100 is the share that may be");
        minute.decided(1, &calm, true);
        assert!(minute.offered().is_short_for(&noisy, 0.01));
        assert!(
            minute.offered().is_short_for(&3, 0.34) && !minute.offered().is_short_for(&3, 0.35),
            "52 of 151"
        );
    }

    #[test]
    fn what_is_older_than_a_minute_is_forgotten() {
        let mut minute = minute(&[(0, 1, 0, 5), (30, 1, 100, 0)]);

        minute.forget(59);
        assert!(minute.offered().is_short_for(&2, 0.01));
        minute.forget(60);
        assert!(!minute.offered().is_short_for(&2, 0.01) && minute.offered().is_all_placed());
        minute.forget(90);
        let Offered { total, by_account } = minute.offered();
        assert!(minute.is_empty() && by_account.is_empty() && *total == Counts::default());
    }

    #[test]
    fn a_lonely_account_is_never_short_by_itself() {
        assert!(!minute(&[(0, 1, 0, 100)]).offered().is_short_for(&1, 0.01));
    }
}
