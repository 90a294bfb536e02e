//! Deployments as their shedders see them: how full, how high each tier may rise, who waits, who was turned away.

use super::{millis, moment};
use crate::clock;
use crate::state::Snapshot;
use crate::upstream::deployment::Deployment;
use crate::upstream::last_minute::TierLately;
use schemars::JsonSchema;
use serde::Serialize;
use shedder::{Reason, ReplicaSnapshot, Tier};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// All deployments.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::admin) struct Deployments {
    /// The moment of this view (RFC 3339).
    time: String,
    /// In the order of the config.
    deployments: Vec<DeploymentState>,
}

/// One deployment.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::admin) struct DeploymentState {
    /// Its name.
    name: Arc<str>,
    /// The engine of its replicas.
    engine: &'static str,
    /// The models that it serves.
    models: Vec<Arc<str>>,
    /// How full the least full replica in service is; 1 is full, and 1 when none is in service.
    saturation: f64,
    /// The sum of the concurrency limits N of the replicas in service, requests.
    limit: f64,
    /// Requests on its replicas.
    active: u64,
    /// Uncached prompt tokens sent whose first token has not come.
    backlog_tokens: u64,
    /// How much may wait.
    queue_max: QueueMax,
    /// The part of its capacity that is pretended to be gone; null: none.
    pressure: Option<PressureState>,
    /// Whether an operator set other ceilings than the config's.
    ceilings_set: bool,
    /// `priority`, then `regular`.
    tiers: Vec<TierState>,
    /// In the order of the config.
    replicas: Vec<ReplicaState>,
    /// Requests taken back before their first token, since the start.
    withdrawn: u64,
    /// Requests sent again after a failure, since the start.
    retries: u64,
    /// Priority requests served as regular because priority had its share, since the start.
    downgraded: u64,
}

/// A pretended loss of capacity: a drill on live traffic.
#[derive(Debug, Serialize, JsonSchema)]
struct PressureState {
    /// Which part of the capacity, 0 … 1.
    share: f64,
    /// Until when (RFC 3339).
    until: String,
    /// How long that is.
    left_ms: u64,
}

/// The bounds of the queue.
#[derive(Debug, Serialize, JsonSchema)]
struct QueueMax {
    /// Requests.
    requests: u32,
    /// Uncached prompt tokens.
    tokens: u64,
}

/// One tier of a deployment.
#[derive(Debug, Serialize, JsonSchema)]
struct TierState {
    /// `priority` or `regular`.
    tier: &'static str,
    /// Whether a replica takes requests of this tier now.
    open: bool,
    /// The saturation at which it closes.
    ceiling: f64,
    /// Requests that wait.
    queued: u32,
    /// Their uncached prompt tokens.
    queued_tokens: u64,
    /// How long the oldest has waited.
    oldest_wait_ms: u64,
    /// The accounts with the most waiting tokens, at most ten.
    top_accounts: Vec<Waiting>,
    /// Requests that got a place, since the start.
    admitted: u64,
    /// Requests that had to wait, since the start.
    waited: u64,
    /// Requests that were shed, since the start.
    shed: u64,
    /// The same by reason; every reason is listed.
    shed_by_reason: BTreeMap<&'static str, u64>,
    /// The last minute.
    last_minute: TierMinute,
}

/// What happened to a tier's requests in the last minute.
#[derive(Debug, Serialize, JsonSchema)]
struct TierMinute {
    /// How long that was, seconds: less than 60 after a start.
    seconds: f64,
    /// Requests that got a place.
    admitted: u64,
    /// Requests that had to wait.
    waited: u64,
    /// Requests that were shed.
    shed: u64,
    /// The same by reason; reasons without any are left out.
    shed_by_reason: BTreeMap<&'static str, u64>,
    /// Admitted per second.
    admitted_per_s: f64,
    /// Shed per second.
    shed_per_s: f64,
}

/// One account's part of a queue.
#[derive(Debug, Serialize, JsonSchema)]
struct Waiting {
    /// The account's id; `other` where the config no longer has it.
    account: Arc<str>,
    /// Its requests that wait.
    queued: u32,
    /// Their uncached prompt tokens.
    queued_tokens: u64,
}

/// One replica.
#[derive(Debug, Serialize, JsonSchema)]
struct ReplicaState {
    /// Its number, as in the metrics and in the paths of this API.
    id: u16,
    /// Its URL.
    replica: String,
    /// `serving`, `drained` by an operator, or `down`.
    health: &'static str,
    /// Whether it answers.
    healthy: bool,
    /// Whether an operator drained it.
    drained: bool,
    /// Requests on it.
    active: u32,
    /// Those of them that have a token.
    with_token: u32,
    /// The concurrency limit N in force, requests.
    limit: f64,
    /// How full it is; 1 is full.
    saturation: f64,
    /// Uncached prompt tokens sent whose first token has not come.
    backlog_tokens: u64,
    /// KV memory in use, tokens.
    kv_tokens: u64,
    /// KV memory that it has, tokens, when known.
    kv_capacity_tokens: Option<u64>,
    /// KV tokens that may be held, learnt from answers that pause, where the engine does not tell what it has.
    kv_learnt_tokens: Option<u64>,
    /// Smoothed time per token, when known.
    gap_ms: Option<f64>,
    /// Prefill rate, when known.
    prefill_tokens_per_s: Option<f64>,
    /// Time since the last page of its own metrics, when there were any.
    scrape_age_ms: Option<u64>,
}

/// Every deployment.
pub(in crate::admin) fn deployments(snapshot: &Snapshot) -> Deployments {
    let each = snapshot.deployments.iter().map(|deployment| deployment_state(snapshot, deployment));
    Deployments { time: clock::rfc3339(clock::wall()), deployments: each.collect() }
}

/// One of them.
pub(in crate::admin) fn deployment_state(snapshot: &Snapshot, deployment: &Deployment) -> DeploymentState {
    let now = clock::now();
    let state = deployment.gate.read(|shedder| shedder.snapshot(now));
    let lately = deployment.last_minute.until(now, &state.counters);
    let serves = |model: &&Arc<config::Model>| {
        model.routes.iter().any(|route| route.deployment.name == deployment.config.name)
    };
    let in_service = || state.replicas.iter().filter(|replica| replica.healthy && !replica.drained);
    let tiers = Tier::ALL.into_iter().map(|tier| {
        let lately = (lately.span, &lately.tiers[tier]);
        tier_state(snapshot, deployment, &state, tier, lately)
    });
    DeploymentState {
        name: Arc::clone(&deployment.config.name),
        engine: deployment.config.engine.name(),
        models: snapshot.config.models.iter().filter(serves).map(|model| Arc::clone(&model.name)).collect(),
        saturation: state.saturation,
        limit: in_service().map(|replica| replica.limit).sum(),
        active: state.replicas.iter().map(|replica| u64::from(replica.active)).sum(),
        backlog_tokens: state.replicas.iter().map(|replica| replica.backlog_tokens).sum(),
        queue_max: QueueMax {
            requests: deployment.config.queue.requests,
            tokens: deployment.config.queue.tokens,
        },
        pressure: deployment.operated.pressure(now).map(|pressure| PressureState {
            share: pressure.share,
            until: moment(pressure.until),
            left_ms: millis(pressure.until.saturating_sub(now)),
        }),
        ceilings_set: deployment.operated.ceilings().is_some(),
        tiers: tiers.collect(),
        replicas: state.replicas.iter().map(|replica| replica_state(deployment, replica)).collect(),
        withdrawn: state.counters.withdrawn,
        retries: state.counters.retries,
        downgraded: state.counters.downgraded,
    }
}

fn tier_state(
    snapshot: &Snapshot,
    deployment: &Deployment,
    state: &shedder::Snapshot,
    tier: Tier,
    (span, lately): (Duration, &TierLately),
) -> TierState {
    let queue = &state.queue[tier];
    let waiting = |&(account, queued, queued_tokens): &(u64, u32, u64)| Waiting {
        account: snapshot.account_numbered(account),
        queued,
        queued_tokens,
    };
    let shed = &state.counters.shed[tier];
    TierState {
        tier: tier.name(),
        open: state.open[tier],
        ceiling: match tier {
            Tier::Priority => deployment.ceilings().priority,
            Tier::Regular => deployment.ceilings().regular,
        },
        queued: queue.requests,
        queued_tokens: queue.tokens,
        oldest_wait_ms: millis(queue.oldest_wait),
        top_accounts: queue.top_accounts.iter().map(waiting).collect(),
        admitted: state.counters.admitted[tier],
        waited: state.counters.waited[tier],
        shed: shed.total(),
        shed_by_reason: Reason::ALL.into_iter().map(|reason| (reason.name(), shed.of(reason))).collect(),
        last_minute: tier_minute(span, lately),
    }
}

fn tier_minute(span: Duration, lately: &TierLately) -> TierMinute {
    let seconds = span.as_secs_f64();
    let shed = lately.shed.values().sum();
    // In the first second there is no rate yet.
    let per_s = |count: u64| if seconds >= 1.0 { count as f64 / seconds } else { 0.0 };
    TierMinute {
        seconds,
        admitted: lately.admitted,
        waited: lately.waited,
        shed,
        shed_by_reason: lately.shed.clone(),
        admitted_per_s: per_s(lately.admitted),
        shed_per_s: per_s(shed),
    }
}

fn replica_state(deployment: &Deployment, replica: &ReplicaSnapshot) -> ReplicaState {
    let name = deployment.replicas.get(replica.id).map(|replica| replica.name.clone());
    ReplicaState {
        id: replica.id.0,
        replica: name.unwrap_or_default(),
        health: match (replica.drained, replica.healthy) {
            (true, _) => "drained",
            (false, true) => "serving",
            (false, false) => "down",
        },
        healthy: replica.healthy,
        drained: replica.drained,
        active: replica.active,
        with_token: replica.with_token,
        limit: replica.limit,
        saturation: replica.saturation,
        backlog_tokens: replica.backlog_tokens,
        kv_tokens: replica.kv_tokens,
        kv_capacity_tokens: replica.kv_capacity_tokens,
        kv_learnt_tokens: replica.kv_learnt_tokens,
        gap_ms: replica.gap.map(|gap| gap.as_secs_f64() * 1e3),
        prefill_tokens_per_s: replica.prefill_rate,
        scrape_age_ms: replica.scrape_age.map(millis),
    }
}
