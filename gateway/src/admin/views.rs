//! What the admin API shows: plain structures, written as JSON.

use crate::clock;
use crate::config;
use crate::gateway::Gateway;
use crate::record::Record;
use crate::state::{Account, Model, Snapshot};
use limits::{LimitChange, Meter, MeterView};
use serde::Serialize;
use shedder::{ReplicaSnapshot, Tier};
use std::sync::Arc;
use std::time::Duration;

/// Budgets listed at once.
const LISTED_MAX: usize = 1000;

#[derive(Debug, Serialize)]
pub(super) struct AccountLimits<'a> {
    account: &'a str,
    spending_tier: &'static str,
    models: Vec<ModelLimits>,
}

#[derive(Debug, Serialize)]
struct ModelLimits {
    model: Arc<str>,
    /// Whether growth is frozen because the model is short.
    frozen: bool,
    meters: Vec<MeterState>,
    history: Vec<Change>,
}

#[derive(Debug, Serialize)]
struct MeterState {
    meter: &'static str,
    limit: u64,
    floor: u64,
    ceiling: u64,
    used: u64,
    reserved: u64,
    debt: u64,
    remaining: u64,
    until_half_ms: u64,
    growth: Option<NextStep>,
    shrink: Option<NextStep>,
    reset: Option<NextStep>,
}

#[derive(Debug, Serialize)]
struct NextStep {
    /// The limit then, tokens per minute.
    to: u64,
    /// The use that decides, tokens: growth needs more, shrink less.
    threshold: Option<u64>,
    /// Not before this.
    at: String,
}

#[derive(Debug, Serialize)]
struct Change {
    at: String,
    meter: &'static str,
    from: u64,
    to: u64,
    reason: &'static str,
}

/// The limits of one account, on one model or on all that it may use.
pub(super) fn account_limits<'a>(
    gateway: &Gateway,
    snapshot: &Snapshot,
    account: &'a Account,
    only: Option<&str>,
) -> AccountLimits<'a> {
    let models = snapshot
        .config
        .models
        .iter()
        .filter(|model| account.config.may_use(&model.name) && only.is_none_or(|name| *name == *model.name))
        .filter_map(|model| snapshot.models.get(&model.name))
        .map(|model| model_limits(gateway, snapshot, account, model))
        .collect();
    AccountLimits { account: &account.config.id, spending_tier: account.config.spending_tier.name(), models }
}

fn model_limits(gateway: &Gateway, snapshot: &Snapshot, account: &Account, model: &Model) -> ModelLimits {
    let cell = account.budget(&gateway.registry, &snapshot.config, model);
    let now = clock::now();
    cell.with(|budget| {
        let view = budget.view(now);
        ModelLimits {
            model: Arc::clone(&model.config.name),
            frozen: budget.is_frozen(),
            meters: view.iter().map(|(meter, state)| meter_state(budget, now, meter, state)).collect(),
            history: budget.history().map(|change| changed(&change)).collect(),
        }
    })
}

fn meter_state(budget: &limits::Budget, now: Duration, meter: Meter, view: &MeterView) -> MeterState {
    let next = budget.next_change(now, meter);
    MeterState {
        meter: meter.name(),
        limit: view.limit,
        floor: view.floor,
        ceiling: view.ceiling,
        used: view.used,
        reserved: view.reserved,
        debt: view.debt,
        remaining: view.remaining,
        until_half_ms: view.until_half.as_millis() as u64,
        growth: next.growth.map(|g| NextStep { to: g.to, threshold: Some(g.above), at: moment(g.at) }),
        shrink: next.shrink.map(|s| NextStep { to: s.to, threshold: Some(s.under), at: moment(s.at) }),
        reset: next.reset.map(|r| NextStep { to: r.to, threshold: None, at: moment(r.at) }),
    }
}

fn changed(change: &LimitChange) -> Change {
    let at = clock::wall()
        .saturating_sub(clock::now().saturating_sub(change.at))
        .saturating_sub(change.before_start);
    Change {
        at: clock::rfc3339(at),
        meter: change.meter.name(),
        from: change.from,
        to: change.to,
        reason: change.reason.name(),
    }
}

/// A moment of the process as wall time.
fn moment(at: Duration) -> String {
    clock::rfc3339((clock::wall() + at).saturating_sub(clock::now()))
}

#[derive(Debug, Serialize)]
pub(super) struct Listed {
    account: Arc<str>,
    model: Arc<str>,
    limits: [u64; 3],
    used: [u64; 3],
    debt: [u64; 3],
}

/// The budgets in memory, the busiest first, at most [`LISTED_MAX`].
pub(super) fn listed(gateway: &Gateway) -> Vec<Listed> {
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
    rows.sort_by(|a, b| busy(b).total_cmp(&busy(a)));
    rows.truncate(LISTED_MAX);
    rows
}

#[derive(Debug, Serialize)]
pub(super) struct DeploymentState {
    name: Arc<str>,
    engine: &'static str,
    saturation: f64,
    tiers: Vec<TierState>,
    replicas: Vec<ReplicaState>,
    withdrawn: u64,
    retries: u64,
}

#[derive(Debug, Serialize)]
struct TierState {
    tier: &'static str,
    /// Whether a replica takes requests of this tier now.
    open: bool,
    ceiling: f64,
    queued: u32,
    queued_tokens: u64,
    oldest_wait_ms: u64,
    top_accounts: Vec<Waiting>,
    admitted: u64,
    waited: u64,
    shed: u64,
}

#[derive(Debug, Serialize)]
struct Waiting {
    account: Arc<str>,
    queued: u32,
    queued_tokens: u64,
}

#[derive(Debug, Serialize)]
struct ReplicaState {
    replica: String,
    healthy: bool,
    drained: bool,
    active: u32,
    limit: f64,
    saturation: f64,
    backlog_tokens: u64,
    kv_tokens: u64,
    kv_capacity_tokens: Option<u64>,
    gap_ms: Option<f64>,
    prefill_tokens_per_s: Option<f64>,
    scrape_age_ms: Option<u64>,
}

/// Every deployment as its shedder sees it.
pub(super) fn deployments(snapshot: &Snapshot) -> Vec<DeploymentState> {
    snapshot.deployments.iter().map(|deployment| deployment_state(snapshot, deployment)).collect()
}

fn deployment_state(snapshot: &Snapshot, deployment: &crate::state::Deployment) -> DeploymentState {
    let state = deployment.gate.read(|shedder| shedder.snapshot(clock::now()));
    let name_of = |number: u64| {
        let found = snapshot.accounts.values().find(|account| account.number == number);
        found.map_or_else(|| "other".into(), |account| Arc::clone(&account.config.id))
    };
    let tiers = Tier::ALL.into_iter().map(|tier| {
        let queue = &state.queue[tier];
        let waiting = |&(account, queued, queued_tokens): &(u64, u32, u64)| Waiting {
            account: name_of(account),
            queued,
            queued_tokens,
        };
        TierState {
            tier: tier.name(),
            open: state.open[tier],
            ceiling: match tier {
                Tier::Priority => deployment.config.ceilings.priority,
                Tier::Regular => deployment.config.ceilings.regular,
            },
            queued: queue.requests,
            queued_tokens: queue.tokens,
            oldest_wait_ms: queue.oldest_wait.as_millis() as u64,
            top_accounts: queue.top_accounts.iter().map(waiting).collect(),
            admitted: state.counters.admitted[tier],
            waited: state.counters.waited[tier],
            shed: state.shed(tier),
        }
    });
    DeploymentState {
        name: Arc::clone(&deployment.config.name),
        engine: deployment.config.engine.name(),
        saturation: state.saturation,
        tiers: tiers.collect(),
        replicas: state.replicas.iter().map(|replica| replica_state(deployment, replica)).collect(),
        withdrawn: state.counters.withdrawn,
        retries: state.counters.retries,
    }
}

fn replica_state(deployment: &crate::state::Deployment, replica: &ReplicaSnapshot) -> ReplicaState {
    let name = deployment.replicas.get(replica.id).map(|replica| replica.name.clone());
    ReplicaState {
        replica: name.unwrap_or_default(),
        healthy: replica.healthy,
        drained: replica.drained,
        active: replica.active,
        limit: replica.limit,
        saturation: replica.saturation,
        backlog_tokens: replica.backlog_tokens,
        kv_tokens: replica.kv_tokens,
        kv_capacity_tokens: replica.kv_capacity_tokens,
        gap_ms: replica.gap.map(|gap| gap.as_secs_f64() * 1e3),
        prefill_tokens_per_s: replica.prefill_rate,
        scrape_age_ms: replica.scrape_age.map(|age| age.as_millis() as u64),
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Refused {
    time: String,
    request_id: String,
    account: Option<Arc<str>>,
    model: Option<Arc<str>>,
    tier: Option<&'static str>,
    status: u16,
    reason: &'static str,
    why: Option<String>,
    queue_ms: u64,
}

/// The last refusals, newest first.
pub(super) fn refusals(gateway: &Gateway) -> Vec<Refused> {
    gateway.accounts.last_refusals().into_iter().map(refused).collect()
}

fn refused(record: Record) -> Refused {
    Refused {
        time: clock::rfc3339(record.arrived_wall),
        request_id: record.id,
        account: record.account,
        model: record.model,
        tier: record.tier.map(config::Tier::name),
        status: record.status,
        reason: record.reason,
        why: record.message,
        queue_ms: record.queued.as_millis() as u64,
    }
}
