//! Budgets: limit, bounds, use, what comes next, how it came so.

use super::{millis, moment};
use crate::clock;
use crate::state::gateway::Gateway;
use crate::state::{Account, Model, Snapshot};
use client::views::limits::{AccountLimits, Budgets, Change, Listed, MeterState, ModelLimits, NextStep};
use limits::{ChangeReason, LimitChange, Meter, MeterView};
use std::sync::Arc;
use std::time::Duration;
use store::override_events::OverrideEvent;

/// Budgets listed at once.
pub(in crate::admin) const LISTED_MAX: usize = 1000;

/// The limits of one account, on one model or on all that it may use.
pub(in crate::admin) fn account_limits(
    gateway: &Gateway,
    snapshot: &Snapshot,
    account: &Account,
    only: Option<&str>,
) -> AccountLimits {
    let models = snapshot
        .config
        .models
        .iter()
        .filter(|model| account.config.may_use(&model.name) && only.is_none_or(|name| *name == *model.name))
        .filter_map(|model| snapshot.models.get(&model.name))
        .map(|model| model_limits(gateway, snapshot, account, model))
        .collect();
    AccountLimits {
        account: Arc::clone(&account.config.id),
        spending_tier: account.config.spending_tier.name().into(),
        models,
    }
}

fn model_limits(gateway: &Gateway, snapshot: &Snapshot, account: &Account, model: &Model) -> ModelLimits {
    let cell = account.budget(&gateway.registry, &snapshot.config, model);
    let now = clock::now();
    let set = gateway.registry.overrides().events(&account.config.id, &model.config.name);
    cell.with(|budget| {
        let view = budget.view(now);
        ModelLimits {
            model: Arc::clone(&model.config.name),
            frozen: budget.is_frozen(),
            meters: view.iter().map(|(meter, state)| meter_state(budget, now, meter, state)).collect(),
            history: history(budget, set),
        }
    })
}

fn meter_state(budget: &limits::Budget, now: Duration, meter: Meter, view: &MeterView) -> MeterState {
    let next = budget.next_change(now, meter);
    MeterState {
        meter: meter.name().into(),
        limit: view.limit,
        floor: view.floor,
        ceiling: view.ceiling,
        used: view.used,
        reserved: view.reserved,
        debt: view.debt,
        remaining: view.remaining,
        until_half_ms: millis(view.until_half),
        growth: next.growth.map(|g| NextStep { to: g.to, threshold: Some(g.above), at: moment(g.at) }),
        shrink: next.shrink.map(|s| NextStep { to: s.to, threshold: Some(s.under), at: moment(s.at) }),
        reset: next.reset.map(|r| NextStep { to: r.to, threshold: None, at: moment(r.at) }),
    }
}

/// How far apart an operator's change and the step of a limit that follows from it may be told: both are noted within one
/// call.
const SAME_CALL: Duration = Duration::from_secs(1);

/// How limits and their bounds moved, the oldest change first: what the budget did, and what operators `set`.
fn history(budget: &limits::Budget, set: Vec<OverrideEvent>) -> Vec<Change> {
    let moves = budget.history().map(|change| moved(&change, &set));
    let sets = set.iter().map(|event| {
        let change = Change {
            at: clock::rfc3339(Duration::from_millis(event.at_ms)),
            meter: event.meter.clone().into(),
            bound: event.bound.clone().into(),
            from: event.from,
            to: event.to,
            reason: BY_OPERATOR.into(),
            by: Some(event.by.clone()),
        };
        (Duration::from_millis(event.at_ms), change)
    });
    let mut changes: Vec<(Duration, Change)> = sets.chain(moves).collect();
    changes.sort_by_key(|(at, _)| *at);
    changes.into_iter().map(|(_, change)| change).collect()
}

/// The reason of what an operator changed.
const BY_OPERATOR: &str = "operator";

fn moved(change: &LimitChange, set: &[OverrideEvent]) -> (Duration, Change) {
    let at = clock::wall()
        .saturating_sub(clock::now().saturating_sub(change.at))
        .saturating_sub(change.before_start);
    let is_same_call = |event: &&OverrideEvent| {
        at.abs_diff(Duration::from_millis(event.at_ms)) < SAME_CALL && event.meter == change.meter.name()
    };
    let operator =
        (change.reason == ChangeReason::Reconfigured).then(|| set.iter().find(is_same_call)).flatten();
    let shown = Change {
        at: clock::rfc3339(at),
        meter: change.meter.name().into(),
        bound: "limit".into(),
        from: change.from,
        to: change.to,
        reason: operator.map_or(change.reason.name(), |_| BY_OPERATOR).into(),
        by: operator.map(|event| event.by.clone()),
    };
    (at, shown)
}

/// The budgets in memory, the busiest first, at most `most`.
pub(in crate::admin) fn listed(gateway: &Gateway, most: usize) -> Budgets {
    let of = |view: &limits::PerMeter<MeterView>, part: fn(&MeterView) -> u64| {
        [part(&view.prompt), part(&view.uncached_prompt), part(&view.generated)]
    };
    let mut rows: Vec<Listed> = gateway
        .registry
        .budgets()
        .into_iter()
        .map(|cell| {
            let view = cell.view();
            Listed {
                account: Arc::clone(&cell.account),
                model: Arc::clone(&cell.model),
                limits: of(&view, |meter| meter.limit),
                used: of(&view, |meter| meter.used),
                debt: of(&view, |meter| meter.debt),
            }
        })
        .collect();
    let busy = |row: &Listed| {
        row.used
            .iter()
            .zip(row.limits)
            .map(|(used, limit)| *used as f64 / limit.max(1) as f64)
            .fold(0.0, f64::max)
    };
    let total = rows.len();
    rows.sort_by(|a, b| busy(b).total_cmp(&busy(a)));
    rows.truncate(most);
    Budgets { budgets: rows, total }
}
