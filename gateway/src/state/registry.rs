//! What goes on through reloads, by name: requests of accounts, budgets, weighers.

use crate::accounts::budget::BudgetCell;
use crate::accounts::memory::HolderMemory;
use crate::clock;
use crate::state::journal::Journal;
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
            // Bounds that are the same restart no waits.
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
    }

    /// Every budget in memory. Allocates.
    #[must_use]
    pub fn budgets(&self) -> Vec<Arc<BudgetCell>> {
        self.inner.lock().budgets.values().cloned().collect()
    }

    /// Running requests over all accounts: zero at rest.
    #[must_use]
    pub fn live_requests(&self) -> u64 {
        self.inner.lock().accounts.values().map(|account| u64::from(account.meter.lock().live())).sum()
    }

    /// Forgets the requests of an account that is gone: those that run end with what they hold.
    pub fn forget_account(&self, id: &str) {
        self.inner.lock().accounts.remove(id);
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
        let saved = self.journal.as_ref().and_then(|journal| journal.find(&account.id, &model.name, bounds));
        let budget = saved.unwrap_or_else(|| Budget::new(clock::now(), bounds));
        let found = BudgetCell::new(Arc::clone(&account.id), Arc::clone(&model.name), budget);
        Arc::clone(self.inner.lock().budgets.entry(key).or_insert(found))
    }

    /// Budgets in memory.
    #[must_use]
    pub fn in_memory(&self) -> usize {
        self.inner.lock().budgets.len()
    }

    /// Lets budgets go that were saved and not touched since `since`; how many. Without a journal none: it would
    /// be forgetting.
    pub fn forget_idle(&self, since: Duration) -> usize {
        let mut inner = self.inner.lock();
        let before = inner.budgets.len();
        // With the registry locked nobody gets a new handle; one that is out keeps the budget here.
        inner.budgets.retain(|_, cell| Arc::strong_count(cell) > 1 || !cell.is_idle(since));
        before - inner.budgets.len()
    }

    /// Lets budgets go that say nothing which a new one would not: nothing used in the last minute, nothing owed, limits at
    /// their start, not touched since `since`; how many. For processes without a journal. O(budgets in memory).
    pub fn forget_unused(&self, now: Duration, since: Duration) -> usize {
        let mut inner = self.inner.lock();
        let before = inner.budgets.len();
        inner.budgets.retain(|_, cell| Arc::strong_count(cell) > 1 || !cell.is_unused(now, since));
        before - inner.budgets.len()
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
