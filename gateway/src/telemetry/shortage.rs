//! Is a model short? Then nobody's limit on it grows: limits must not grow into a shortage.
//!
//! A model is short for an account while more than a small share of the *others'* regular requests of the last
//! minute were shed. The account's own are left out, or one account could hold its own growth up, or a lonely
//! one would never be told that it asks for too much. Fed by finished requests, off their way.

use crate::accounts::budget::BudgetCell;
use crate::clock;
use crate::telemetry::record::Record;
use config::Tier;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How far back is looked, seconds.
const WINDOW_S: u64 = 60;

/// Requests and how many of them were shed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    all: u64,
    shed: u64,
}

/// One model's last minute, second by second.
#[derive(Debug, Default)]
struct Minute {
    /// At most [`WINDOW_S`] seconds, each with the accounts that were seen in it.
    seconds: VecDeque<(u64, HashMap<Arc<str>, Counts>)>,
    total: Counts,
    by_account: HashMap<Arc<str>, Counts>,
}

/// What was shed lately, by model and account.
#[derive(Debug, Default)]
pub struct Shortage {
    models: Mutex<HashMap<Arc<str>, Minute>>,
}

impl Shortage {
    /// Counts a finished request.
    pub fn count(&self, record: &Record) {
        let (Some(model), Some(account), Some(Tier::Regular)) = (&record.model, &record.account, record.tier)
        else {
            return;
        };
        let shed = record.status == 503 && record.reason != "memory" && record.reason != "draining";
        let mut models = self.models.lock();
        let minute = models.entry(Arc::clone(model)).or_default();
        minute.add(record.ended.as_secs(), account, u64::from(shed));
    }

    /// Freezes and thaws the budgets in memory. `share_max`: the share of shed requests above which a model is
    /// short. O(budgets in memory).
    pub fn apply(&self, budgets: &[Arc<BudgetCell>], share_max: f64, now: Duration) {
        let mut models = self.models.lock();
        models.values_mut().for_each(|minute| minute.forget(now.as_secs()));
        for budget in budgets {
            let short = models
                .get(&budget.model)
                .is_some_and(|minute| minute.is_short_for(&budget.account, share_max));
            budget.with(|budget| {
                if budget.is_frozen() != short {
                    budget.set_frozen(clock::now(), short);
                }
            });
        }
    }
}

impl Minute {
    fn add(&mut self, second: u64, account: &Arc<str>, shed: u64) {
        if self.seconds.back().is_none_or(|(last, _)| *last < second) {
            self.forget(second);
            self.seconds.push_back((second, HashMap::new()));
        }
        let Some((_, of_second)) = self.seconds.back_mut() else { return };
        for counts in [
            of_second.entry(Arc::clone(account)).or_default(),
            self.by_account.entry(Arc::clone(account)).or_default(),
            &mut self.total,
        ] {
            counts.all += 1;
            counts.shed += shed;
        }
    }

    fn forget(&mut self, now_s: u64) {
        while self.seconds.front().is_some_and(|(second, _)| second + WINDOW_S <= now_s) {
            let Some((_, accounts)) = self.seconds.pop_front() else { return };
            for (account, counts) in accounts {
                self.total.all -= counts.all;
                self.total.shed -= counts.shed;
                if let Some(left) = self.by_account.get_mut(&account) {
                    left.all -= counts.all;
                    left.shed -= counts.shed;
                    if left.all == 0 {
                        self.by_account.remove(&account);
                    }
                }
            }
        }
    }

    fn is_short_for(&self, account: &str, share_max: f64) -> bool {
        let own = self.by_account.get(account).copied().unwrap_or_default();
        let others = self.total.all - own.all;
        (self.total.shed - own.shed) as f64 > share_max * others as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(entries: &[(u64, &str, u64)]) -> Minute {
        let mut minute = Minute::default();
        for (second, account, shed) in entries {
            minute.add(*second, &Arc::from(*account), *shed);
        }
        minute
    }

    /// Report D2: growth is frozen while the model sheds, the account's own requests excepted.
    #[test]
    fn report_d2_a_model_is_short_by_what_happens_to_others() {
        let mut entries = vec![(1, "noisy", 1); 50];
        entries.extend([(1, "calm", 0); 99]);
        let own_only = minute(&entries);
        assert!(!own_only.is_short_for("noisy", 0.01), "only its own were shed");
        assert!(own_only.is_short_for("calm", 0.01));

        entries.push((1, "calm", 1));
        assert!(!minute(&entries).is_short_for("noisy", 0.01), "1 of 100 is the share that may be");
        entries.push((1, "calm", 1));
        assert!(minute(&entries).is_short_for("noisy", 0.01));
    }

    #[test]
    fn what_is_older_than_a_minute_is_forgotten() {
        let mut minute = minute(&[(1, "a", 1), (30, "b", 0)]);
        assert!(minute.is_short_for("b", 0.01));
        minute.forget(61);
        assert!(!minute.is_short_for("b", 0.01));
        minute.forget(90);
        assert_eq!((minute.total, minute.by_account.len(), minute.seconds.len()), (Counts::default(), 0, 0));
    }
}
