//! Deployments as their shedders see them: how full, how high each tier may rise, who waits, who was turned away.

use super::{millis, moment};
use crate::clock;
use crate::state::Snapshot;
use crate::upstream::deployment::Deployment;
use crate::upstream::health::Health;
use client::views::deployments::{
    DeploymentState, Deployments, PressureState, QueueMax, ReplicaState, TierMinute, TierState, Waiting,
};
use client::views::measured::{Measured, MeasuredAtLoad, MeasuredReplica};
use gateway_core::curve::AtLoad;
use gateway_core::lately::TierLately;
use shedder::{Reason, ReplicaSnapshot, Tier};
use std::sync::Arc;
use std::time::Duration;

/// What was measured of one.
pub(in crate::admin) fn measured(deployment: &Deployment) -> Measured {
    let now = clock::now();
    let (learned, snapshot) = deployment.gate.read(|shedder| (shedder.export(now), shedder.snapshot(now)));
    let replicas = learned.replicas.iter().filter_map(|learned| {
        let replica = deployment.replicas.get(learned.id)?;
        let seen = snapshot.replicas.iter().find(|seen| seen.id == learned.id)?;
        let at_load = |at: &AtLoad| MeasuredAtLoad {
            streams: at.streams,
            seconds: at.seconds,
            steps: at.steps,
            prompt_tokens: at.prompt_tokens,
        };
        Some(MeasuredReplica {
            id: learned.id.0,
            replica: replica.name.clone(),
            prefill_tokens_per_s: learned.prefill_per_s.or(learned.prefill_whole_per_s),
            lag_s: seen.lag.map(|lag| lag.as_secs_f64()),
            gap_idle_s: learned.gap_idle_s,
            slots: seen.slots,
            kv_tokens: learned.kv_told.or(learned.kv_fits.map(|tokens| tokens as u64)),
            at_loads: deployment.gate.curve(learned.id).at_loads().map(at_load).collect(),
        })
    });
    Measured { name: Arc::clone(&deployment.config.name), replicas: replicas.collect() }
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
    let lately = deployment.last_minute.lock().until(now, &state.counters);
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
        engine: deployment.config.engine.name().into(),
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
        tier: tier.name().into(),
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
        shed_by_reason: Reason::ALL
            .into_iter()
            .map(|reason| (reason.name().into(), shed.of(reason)))
            .collect(),
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
        shed_by_reason: lately.shed.iter().map(|(reason, count)| ((*reason).into(), *count)).collect(),
        admitted_per_s: per_s(lately.admitted),
        shed_per_s: per_s(shed),
    }
}

fn replica_state(deployment: &Deployment, replica: &ReplicaSnapshot) -> ReplicaState {
    let name = deployment.replicas.get(replica.id).map(|replica| replica.name.clone());
    ReplicaState {
        id: replica.id.0,
        replica: name.unwrap_or_default(),
        health: Health::of(replica).name().into(),
        healthy: replica.answers,
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
