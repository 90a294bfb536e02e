//! Deployments as their shedders see them: how full, how high each tier may rise, who waits, who was turned away.

use super::{millis, moment};
use crate::clock;
use crate::state::Snapshot;
use crate::upstream::deployment::Deployment;
use crate::upstream::health::Health;
use client::views::deployments::{
    Binds, DeploymentState, Deployments, PressureState, QueueMax, ReplicaState, TierMinute, TierState,
    Waiting,
};
use client::views::measured::{Measured, MeasuredAtLoad, MeasuredReplica};
use gateway_core::curve::AtLoad;
use gateway_core::lately::TierLately;
use protocol::explain;
use shedder::{Binding, Reason, ReplicaSnapshot, Tier};
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

/// Deployments on a page, at most; without a limit all are shown.
pub(in crate::admin) const PAGE_MAX: usize = 1000;

/// Which deployments are asked for.
#[derive(Debug, Default)]
pub(in crate::admin) struct Wanted<'q> {
    /// Those after this one, in the order of the config.
    pub(in crate::admin) after: Option<&'q str>,
    /// Names that contain this.
    pub(in crate::admin) containing: Option<&'q str>,
    /// At most so many.
    pub(in crate::admin) limit: Option<usize>,
    /// The worst first.
    pub(in crate::admin) by_trouble: bool,
}

/// Those that are asked for. O(deployments), and what each takes that is shown; all are looked at where the worst are wanted.
pub(in crate::admin) fn deployments(snapshot: &Snapshot, wanted: &Wanted<'_>) -> Deployments {
    let containing = wanted.containing.unwrap_or_default();
    let all = snapshot.deployments.iter().filter(|deployment| deployment.config.name.contains(containing));
    let mut matching: Vec<&Arc<Deployment>> = all.collect();
    let total = matching.len();
    let most = wanted.limit.unwrap_or(total);
    let state = |deployment: &&Arc<Deployment>| deployment_state(snapshot, deployment);
    let (shown, next) = if wanted.by_trouble {
        let mut states: Vec<DeploymentState> = matching.iter().map(state).collect();
        states.sort_by_key(|state| std::cmp::Reverse(trouble(state)));
        states.truncate(most);
        (states, None)
    } else {
        if let Some(after) = wanted.after {
            let at = matching.iter().position(|deployment| *deployment.config.name == *after);
            matching.drain(..at.map_or(0, |at| at + 1));
        }
        let more = matching.len() > most;
        matching.truncate(most);
        let next = matching.last().filter(|_| more).map(|deployment| Arc::clone(&deployment.config.name));
        (matching.iter().map(state).collect(), next)
    };
    Deployments { time: clock::rfc3339(clock::wall()), deployments: shown, total, next }
}

/// How bad it stands: nothing is served, priority is shed, a replica is down, regular is shed, somebody waits, and how full it is.
fn trouble(state: &DeploymentState) -> ([bool; 5], u64) {
    let is_down = |replica: &ReplicaState| !replica.healthy && !replica.drained;
    let sheds = |nth: usize| state.tiers.get(nth).is_some_and(|tier| tier.last_minute.shed > 0);
    let signs = [
        state.replicas.iter().all(|replica| !replica.healthy),
        sheds(0),
        state.replicas.iter().any(is_down),
        sheds(1),
        state.tiers.iter().any(|tier| tier.queued > 0),
    ];
    (signs, (state.saturation * 1e3).round() as u64)
}

/// One of them.
pub(in crate::admin) fn deployment_state(snapshot: &Snapshot, deployment: &Deployment) -> DeploymentState {
    let now = clock::now();
    let state = deployment.gate.read(|shedder| shedder.snapshot(now));
    let lately = deployment.last_minute.lock().until(now, &state.counters);
    let serves = |model: &&Arc<config::Model>| {
        model.routes.iter().any(|route| route.deployment.name == deployment.config.name)
    };
    let tiers = deployment.config.tiers().map(|tier| {
        let lately = (lately.span, &lately.tiers[tier]);
        tier_state(snapshot, deployment, &state, tier, lately)
    });
    DeploymentState {
        name: Arc::clone(&deployment.config.name),
        engine: deployment.config.engine.name().into(),
        models: snapshot.config.models.iter().filter(serves).map(|model| Arc::clone(&model.name)).collect(),
        saturation: state.saturation,
        limit: state.limit(),
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
    let ceiling = deployment.ceilings().by_tier()[tier];
    let in_force = state.ceilings[tier];
    TierState {
        tier: tier.name().into(),
        open: state.open[tier] && state.binding[tier].is_none(),
        ceiling,
        ceiling_in_force: in_force,
        head_room: (ceiling - in_force).max(0.0),
        binds: binds(tier, state.binding[tier], (in_force, ceiling)),
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

fn binds(tier: Tier, binding: Option<Binding>, ceiling: (f64, f64)) -> Binds {
    match binding {
        Some(binding) => {
            Binds { code: binding.name().into(), words: explain::binding(tier, binding, ceiling) }
        }
        None => Binds { code: "none".into(), words: format!("{tier} requests get a place at once") },
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
