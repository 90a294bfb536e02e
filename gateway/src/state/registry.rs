//! What goes on through reloads, by name: requests of accounts, budgets, weighers.

use crate::accounts::budget::BudgetCell;
use crate::accounts::memory::HolderMemory;
use crate::clock;
use crate::state::journal::Journal;
use crate::state::keys::{KeyState, LastUse, split};
use config::Config;
use gateway_core::averages::UsualAnswer;
use limits::{Budget, RequestMeter};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use store::overrides::Overrides;
use weighing::averages::Shared;
use weighing::weigh::ModelWeigher;

/// A budget that was not touched for this long leaves memory.
pub(super) const IDLE_AFTER: Duration = Duration::from_secs(600);

/// What goes on through reloads, by name. Bounded by what configs ever named.
#[derive(Debug, Default)]
pub struct Registry {
    inner: Mutex<Inner>,
    journal: Option<Arc<Journal>>,
    overrides: Overrides,
}

/// What was learnt of a model: how its prompts weigh, and how long its answers are.
type Learnt = (Arc<ModelWeigher>, Arc<Shared<UsualAnswer>>);

#[derive(Debug, Default)]
struct Inner {
    accounts: HashMap<Arc<str>, AccountState>,
    budgets: HashMap<(Arc<str>, Arc<str>), Arc<BudgetCell>>,
    weighers: HashMap<Arc<str>, Learnt>,
    /// Keys with a name, by `account/name`.
    keys: HashMap<Arc<str>, KeyState>,
    /// Their budgets, by that and the model.
    key_budgets: HashMap<(Arc<str>, Arc<str>), Arc<BudgetCell>>,
}

#[derive(Debug, Clone)]
pub(super) struct AccountState {
    pub(super) meter: Arc<Mutex<RequestMeter>>,
    pub(super) memory: Arc<HolderMemory>,
}

impl Registry {
    /// A registry whose budgets are found again in `journal`, with limits as operators set them.
    #[must_use]
    pub fn with_state(journal: Option<Arc<Journal>>, overrides: Overrides) -> Self {
        Registry { inner: Mutex::default(), journal, overrides }
    }

    /// Where budgets outlive the process, if anywhere.
    #[must_use]
    pub fn journal(&self) -> Option<&Journal> {
        self.journal.as_deref()
    }

    /// Limits that operators set.
    #[must_use]
    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// Puts the bounds in force that config and operators say now, where the budget is in memory.
    pub fn reconfigure(&self, config: &Config, account: &config::Account, model: &config::Model) {
        let bounds = budget_config(config, account, model, &self.overrides);
        let key = (Arc::clone(&account.id), Arc::clone(&model.name));
        let cell = self.inner.lock().budgets.get(&key).cloned();
        if let Some(cell) = cell {
            self.put_in_force(&cell, bounds);
        }
    }

    /// Every budget of an account in memory. Allocates.
    #[must_use]
    pub fn budgets(&self) -> Vec<Arc<BudgetCell>> {
        self.inner.lock().budgets.values().cloned().collect()
    }

    /// The same, with those of keys, which are called `account/key`: what outlives the process.
    #[must_use]
    pub fn all_budgets(&self) -> Vec<Arc<BudgetCell>> {
        let inner = self.inner.lock();
        inner.budgets.values().chain(inner.key_budgets.values()).cloned().collect()
    }

    /// Running requests over all accounts and all keys with limits for them: zero at rest.
    #[must_use]
    pub fn live_requests(&self) -> u64 {
        let inner = self.inner.lock();
        let of_keys: u64 = inner.keys.values().map(|key| u64::from(key.live())).sum();
        inner.accounts.values().map(|account| u64::from(account.meter.lock().live())).sum::<u64>() + of_keys
    }

    /// Forgets the requests of an account that is gone: those that run end with what they hold.
    pub fn forget_account(&self, id: &str) {
        let mut inner = self.inner.lock();
        inner.accounts.remove(id);
        inner.keys.retain(|label, _| split(label).is_none_or(|(account, _)| account != id));
    }

    /// What outlives configs of the keys of that name. A new one reads the journal.
    pub(super) fn key(&self, label: &Arc<str>) -> KeyState {
        if let Some(known) = self.inner.lock().keys.get(label) {
            return known.clone();
        }
        let minute = self.journal.as_ref().and_then(|journal| journal.last_use(label)).unwrap_or(0);
        self.inner.lock().keys.entry(Arc::clone(label)).or_insert_with(|| KeyState::new(minute)).clone()
    }

    /// Forgets keys that neither a snapshot nor a request has. O(keys with a name).
    pub(super) fn forget_keys(&self) {
        self.inner.lock().keys.retain(|_, key| !key.is_gone() || key.used.unsaved().is_some());
    }

    /// When each key with a name was last used, where that is not on the disk yet.
    #[must_use]
    pub fn unsaved_uses(&self) -> Vec<(Arc<str>, Arc<LastUse>)> {
        let inner = self.inner.lock();
        let unsaved = inner.keys.iter().filter(|(_, key)| key.used.unsaved().is_some());
        unsaved.map(|(label, key)| (Arc::clone(label), Arc::clone(&key.used))).collect()
    }

    /// The budget of a key on a model: in memory, or as it was saved, or a new one.
    pub(super) fn key_budget(
        &self,
        label: &Arc<str>,
        model: &Arc<str>,
        bounds: limits::BudgetConfig,
    ) -> Arc<BudgetCell> {
        let key = (Arc::clone(label), Arc::clone(model));
        if let Some(cell) = self.inner.lock().key_budgets.get(&key) {
            return Arc::clone(cell);
        }
        let found = self.found(label, model, bounds);
        Arc::clone(self.inner.lock().key_budgets.entry(key).or_insert(found))
    }

    /// Puts bounds in force. Those that are in force already restart no waits.
    pub(super) fn put_in_force(&self, cell: &BudgetCell, bounds: limits::BudgetConfig) {
        let changed = cell.with(|budget| {
            let changed = *budget.config() != bounds;
            if changed {
                budget.reconfigure(clock::now(), bounds);
            }
            changed
        });
        if changed {
            cell.touch();
        }
    }

    pub(super) fn account(&self, account: &config::Account) -> AccountState {
        let (per_minute, at_once) = (u64::from(account.requests_per_minute), account.concurrency);
        let mut inner = self.inner.lock();
        let state = inner.accounts.entry(Arc::clone(&account.id)).or_insert_with(|| AccountState {
            meter: Arc::new(Mutex::new(RequestMeter::new(per_minute, at_once))),
            memory: Arc::default(),
        });
        state.meter.lock().reconfigure(per_minute, at_once);
        state.clone()
    }

    pub(super) fn model(&self, model: &config::Model) -> Learnt {
        let fresh = || {
            (
                Arc::new(ModelWeigher::new(model)),
                Arc::new(Shared::starting_at(UsualAnswer::starting_at(model.default_output))),
            )
        };
        self.inner.lock().weighers.entry(Arc::clone(&model.name)).or_insert_with(fresh).clone()
    }

    /// The budget in memory, or as it was saved, or a new one. The file is read with nothing locked here: its reading
    /// must hold up nobody else. Two that look for the same one at once, as at a reload, get the one that came first.
    pub(super) fn budget(
        &self,
        config: &Config,
        account: &config::Account,
        model: &config::Model,
    ) -> Arc<BudgetCell> {
        let key = (Arc::clone(&account.id), Arc::clone(&model.name));
        if let Some(cell) = self.inner.lock().budgets.get(&key) {
            return Arc::clone(cell);
        }
        let bounds = budget_config(config, account, model, &self.overrides);
        let found = self.found(&account.id, &model.name, bounds);
        Arc::clone(self.inner.lock().budgets.entry(key).or_insert(found))
    }

    /// A budget as it was saved, or a new one.
    fn found(&self, account: &Arc<str>, model: &Arc<str>, bounds: limits::BudgetConfig) -> Arc<BudgetCell> {
        let saved = self.journal.as_ref().and_then(|journal| journal.find(account, model, bounds));
        let budget = saved.unwrap_or_else(|| Budget::new(clock::now(), bounds));
        BudgetCell::new(Arc::clone(account), Arc::clone(model), budget)
    }

    /// Budgets in memory.
    #[must_use]
    pub fn in_memory(&self) -> usize {
        let inner = self.inner.lock();
        inner.budgets.len() + inner.key_budgets.len()
    }

    /// Lets budgets go that were saved and not touched since `since`; how many. Without a journal none: it would
    /// be forgetting.
    pub fn forget_idle(&self, since: Duration) -> usize {
        self.forget(|cell| cell.is_idle(since))
    }

    /// Lets budgets go that say nothing which a new one would not: nothing used in the last minute, nothing owed, limits at
    /// their start, not touched since `since`; how many. For processes without a journal. O(budgets in memory).
    pub fn forget_unused(&self, now: Duration, since: Duration) -> usize {
        self.forget(|cell| cell.is_unused(now, since))
    }

    fn forget(&self, may_go: impl Fn(&BudgetCell) -> bool) -> usize {
        let mut inner = self.inner.lock();
        let Inner { budgets, key_budgets, .. } = &mut *inner;
        let mut gone = 0;
        for kept in [budgets, key_budgets] {
            let before = kept.len();
            // With the registry locked nobody gets a new handle; one that is out keeps the budget here.
            kept.retain(|_, cell| Arc::strong_count(cell) > 1 || !may_go(cell));
            gone += before - kept.len();
        }
        gone
    }

    #[cfg(test)]
    pub(crate) fn insert(&self, account: &str, model: &str, config: limits::BudgetConfig) -> Arc<BudgetCell> {
        let cell = BudgetCell::new(account.into(), model.into(), Budget::new(clock::now(), config));
        self.inner.lock().budgets.insert((account.into(), model.into()), Arc::clone(&cell));
        cell
    }
}

/// The bounds and the policy of one account's budget on one model.
#[must_use]
pub fn budget_config(
    config: &Config,
    account: &config::Account,
    model: &config::Model,
    overrides: &Overrides,
) -> limits::BudgetConfig {
    config.limits.budget(&overrides.apply(&account.id, &model.name, config.limits.bounds(account, model)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use limits::{Ask, Bounds, BudgetConfig, PerMeter, Policy, Used};

    /// Without a state folder a budget in memory is the only one: what is charged, owed or grown stays.
    #[test]
    fn without_a_journal_budgets_go_once_a_new_one_would_say_the_same() {
        let bounds = PerMeter::from_fn(|_| Bounds::fixed(60_000).unwrap());
        let registry = Registry::default();
        let cell = registry.insert("a", "m", BudgetConfig { policy: Policy::Fixed, bounds });
        let now = clock::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let ask = Ask { prompt: 10, uncached_prompt: 10, max_generated: Some(10), ..Ask::default() };
        let held = cell.with(|budget| budget.reserve(now, &ask).unwrap());
        drop(cell);

        assert_eq!(registry.forget_unused(after(30), after(60)), 0, "a request runs");
        let cell = registry.budgets().pop().unwrap();
        cell.with(|budget| {
            budget.settle(now, held, &Used { prompt: 10, uncached_prompt: 10, generated: 5, finished: true })
        });
        assert_eq!(registry.forget_unused(after(100), after(100)), 0, "somebody has it");
        drop(cell);
        assert_eq!(registry.forget_unused(after(30), after(60)), 0, "used within the last minute");
        assert_eq!(registry.forget_unused(after(100), Duration::ZERO), 0, "touched");
        assert_eq!(registry.forget_unused(after(100), after(60)), 1);
        assert_eq!(registry.in_memory(), 0);
    }
}
