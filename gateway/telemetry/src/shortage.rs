//! Which models are short of capacity, and for whom: see [`gateway_core::growth`]. Told of each verdict, asked once a second.

use accounts::budget::BudgetCell;
use gateway_core::growth::{LastMinute, Offered};
use parking_lot::Mutex;
use process::clock;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The last minute of each model, by its name.
#[derive(Debug, Default)]
pub struct Shortage {
    models: Mutex<HashMap<Arc<str>, LastMinute<Arc<str>>>>,
}

impl Shortage {
    /// Counts the verdict on a regular request.
    pub fn decided(&self, model: &Arc<str>, account: &Arc<str>, shed: bool, now: Duration) {
        let mut models = self.models.lock();
        let minute = match models.get_mut(model) {
            Some(minute) => minute,
            None => models.entry(Arc::clone(model)).or_default(),
        };
        minute.decided(now.as_secs(), account, shed);
    }

    /// Freezes and thaws the budgets in memory. `share_max`: the share of shed requests above which a model is
    /// short. O(budgets in memory); requests wait for a copy of the models that shed, not for the budgets.
    pub fn apply(&self, budgets: &[Arc<BudgetCell>], share_max: f64, now: Duration) {
        let shed = self.shed(now);
        for budget in budgets {
            let short = shed
                .get(&budget.model)
                .is_some_and(|offered| offered.is_short_for(&budget.account, share_max));
            budget.with(|budget| {
                if budget.is_frozen() != short {
                    budget.set_frozen(clock::now(), short);
                }
            });
        }
    }

    /// What was offered to the models of which anything was shed.
    fn shed(&self, now: Duration) -> HashMap<Arc<str>, Offered<Arc<str>>> {
        let mut models = self.models.lock();
        models.retain(|_, minute| {
            minute.forget(now.as_secs());
            !minute.is_empty()
        });
        let shed = models.iter().filter(|(_, minute)| !minute.offered().is_all_placed());
        shed.map(|(model, minute)| (Arc::clone(model), minute.offered().clone())).collect()
    }
}
