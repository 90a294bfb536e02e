//! Keys with a name: what they may do inside their account, what they hold, when they were last used.
//!
//! A key's limits lie inside its account's: a request takes a place, and tokens, of both or of neither. What counts against
//! a key counts by the account's id and the key's name, so it goes on through reloads and restarts, and while one key
//! replaces another of its name.

use crate::accounts::budget::BudgetCell;
use crate::state::registry::Registry;
use crate::state::{Account, Model};
use config::{NamedKey, Tier, Tiers};
use gateway_core::tiers::Entitled;
use limits::{Bounds, BudgetConfig, Policy, RequestMeter};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// What stands between an account's id and the name of a key of it, where both are one name: in neither of them.
const SEPARATOR: char = '/';

/// Requests per minute, or at once, that bind nobody: more than any account may have.
const UNBOUND: u32 = u32::MAX;

/// A key with a name.
#[derive(Debug)]
pub struct Key {
    /// What the config says, or what was said at run time.
    pub config: Arc<NamedKey>,
    /// `account/name`: by which its budgets are known.
    pub label: Arc<str>,
    /// In which tiers its requests may be served.
    pub entitled: Entitled,
    /// The tiers that it may use.
    pub tiers: Tiers,
    /// Requests per minute and at once, where it has limits of its own for them.
    pub meter: Option<Arc<Mutex<RequestMeter>>>,
    /// When it was last used.
    pub used: Arc<LastUse>,
    /// Budgets by the model's index, as an account's.
    budgets: Mutex<BTreeMap<usize, Weak<BudgetCell>>>,
}

/// Who asks: an account, by a key that has a name or not.
#[derive(Debug, Clone)]
pub struct Bearer {
    /// The account.
    pub account: Arc<Account>,
    /// The key, where it has a name.
    pub key: Option<Arc<Key>>,
}

/// What outlives configs of the keys of one name.
#[derive(Debug, Clone)]
pub(super) struct KeyState {
    meter: Arc<Mutex<RequestMeter>>,
    pub(super) used: Arc<LastUse>,
}

impl KeyState {
    /// Of a key that was last used in that minute.
    pub(super) fn new(minute: u64) -> Self {
        let meter = RequestMeter::new(UNBOUND.into(), UNBOUND);
        KeyState { meter: Arc::new(Mutex::new(meter)), used: LastUse::at(minute) }
    }

    /// Whether no key and no request has it.
    pub(super) fn is_gone(&self) -> bool {
        Arc::strong_count(&self.meter) == 1 && Arc::strong_count(&self.used) == 1
    }

    pub(super) fn live(&self) -> u32 {
        self.meter.lock().live()
    }
}

/// When something was last used, in whole minutes of wall time.
#[derive(Debug, Default)]
pub struct LastUse {
    /// Minutes since the epoch; 0: never.
    minute: AtomicU64,
    /// What of it is on the disk.
    saved: AtomicU64,
}

impl LastUse {
    fn at(minute: u64) -> Arc<Self> {
        Arc::new(LastUse { minute: AtomicU64::new(minute), saved: AtomicU64::new(minute) })
    }

    /// It is used at that wall time. A load, and a store once a minute.
    pub fn touch(&self, wall: Duration) {
        let minute = wall.as_secs() / 60;
        if self.minute.load(Ordering::Relaxed) != minute {
            self.minute.store(minute, Ordering::Relaxed);
        }
    }

    /// The wall time of that minute's beginning; `None`: it was never used.
    #[must_use]
    pub fn wall(&self) -> Option<Duration> {
        let minute = self.minute.load(Ordering::Relaxed);
        (minute > 0).then(|| Duration::from_secs(minute * 60))
    }

    /// The minute that is not on the disk yet, if any.
    pub(super) fn unsaved(&self) -> Option<u64> {
        let minute = self.minute.load(Ordering::Relaxed);
        (minute != self.saved.load(Ordering::Relaxed)).then_some(minute)
    }

    /// That minute is on the disk.
    pub(super) fn saved(&self, minute: u64) {
        self.saved.store(minute, Ordering::Relaxed);
    }
}

/// `account/name`.
pub(super) fn label(account: &str, key: &str) -> Arc<str> {
    format!("{account}{SEPARATOR}{key}").into()
}

/// The account's id and the name of its key, where a name is that of a key.
#[must_use]
pub fn split(label: &str) -> Option<(&str, &str)> {
    label.split_once(SEPARATOR)
}

impl Key {
    pub(super) fn build(config: Arc<NamedKey>, account: &config::Account, registry: &Registry) -> Arc<Key> {
        let label = label(&account.id, &config.name);
        let state = registry.key(&label);
        let rights = &config.rights;
        let is_metered = rights.requests_per_minute.is_some() || rights.concurrency.is_some();
        let per_minute = rights.requests_per_minute.unwrap_or(UNBOUND).into();
        state.meter.lock().reconfigure(per_minute, rights.concurrency.unwrap_or(UNBOUND));
        Arc::new(Key {
            entitled: config.entitled(account),
            tiers: config.tiers(account),
            meter: is_metered.then_some(state.meter),
            used: state.used,
            budgets: Mutex::default(),
            label,
            config,
        })
    }

    /// Its budget on `model` inside the account's, at the limits that follow from those; `None`: it has none of its own.
    /// In memory, or read from the journal, or new.
    #[must_use]
    pub fn budget(
        &self,
        registry: &Registry,
        model: &Model,
        of_account: &BudgetCell,
    ) -> Option<Arc<BudgetCell>> {
        let limits = self.limits(model, of_account)?;
        let known = self.budgets.lock().get(&model.index).and_then(Weak::upgrade);
        let cell = known.unwrap_or_else(|| {
            // With nothing locked, as an account's.
            let cell = registry.key_budget(&self.label, &model.config.name, limits);
            self.budgets.lock().insert(model.index, Arc::downgrade(&cell));
            cell
        });
        registry.put_in_force(&cell, limits);
        Some(cell)
    }

    fn limits(&self, model: &Model, of_account: &BudgetCell) -> Option<BudgetConfig> {
        if !self.config.is_limited(&model.config.name) {
            return None;
        }
        let of_account = of_account.with(|budget| budget.limits());
        let limits = self.config.limits(&model.config.name, &of_account)?;
        let bounds = limits.map(|limit| Bounds { start: limit, floor: limit, ceiling: limit });
        Some(BudgetConfig { policy: Policy::Fixed, bounds })
    }

    /// Its budgets that are in memory. Allocates.
    #[must_use]
    pub fn budgets_in_memory(&self) -> Vec<Arc<BudgetCell>> {
        self.budgets.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// Gives up the places of budgets that have left memory.
    pub(super) fn forget_gone(&self) {
        self.budgets.lock().retain(|_, cell| cell.strong_count() > 0);
    }
}

impl Bearer {
    /// Whether it may use a model, by the model's own name. O(log models).
    #[must_use]
    pub fn may_use(&self, model: &str) -> bool {
        self.account.config.may_use(model) && self.key.as_ref().is_none_or(|key| key.config.may_use(model))
    }

    /// The tiers that it may use.
    #[must_use]
    pub fn tiers(&self) -> Tiers {
        self.key.as_ref().map_or(self.account.config.tiers, |key| key.tiers)
    }

    /// In which tiers its requests may be served.
    #[must_use]
    pub fn entitled(&self) -> Entitled {
        self.key.as_ref().map_or_else(|| self.account.config.entitled(), |key| key.entitled)
    }

    /// Whether it is entitled to priority.
    #[must_use]
    pub fn may_priority(&self) -> bool {
        self.tiers().contains(Tier::Priority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_use_is_known_to_the_minute_and_saved_once_a_minute() {
        let used = LastUse::at(0);
        assert_eq!((used.wall(), used.unsaved()), (None, None));

        used.touch(Duration::from_secs(125));
        assert_eq!((used.wall(), used.unsaved()), (Some(Duration::from_secs(120)), Some(2)));
        used.saved(2);
        used.touch(Duration::from_secs(179));
        assert_eq!(used.unsaved(), None, "within the same minute");

        used.touch(Duration::from_secs(180));
        assert_eq!(used.unsaved(), Some(3));
    }

    #[test]
    fn a_name_of_both_is_taken_apart_again_and_an_accounts_id_is_none() {
        assert_eq!(split(&label("acme", "ci")), Some(("acme", "ci")));
        assert_eq!(split("acme-._:@"), None);
    }
}
