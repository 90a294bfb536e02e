//! What operators change through the admin API. Every change is judged whole before anything of it happens.

use super::answer::{Refused, json, problem};
use super::call::Call;
use super::read::Answered;
use super::views::{deployments, limits, process};
use crate::clock;
use crate::state::reload::{self, Trigger};
use crate::telemetry::logging;
use crate::upstream::deployment::Deployment;
use crate::upstream::operated::Pressure;
use config;
use history::events::{Kind, Subject};
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use shedder::{PerTier, ReplicaId};
use std::time::Duration;
use store::override_events::Author;
use store::overrides::{Override, OverrideError};

/// The longest drill under pressure that one call starts: whoever forgets it finds the capacity back.
const PRESSURE_SECONDS_MAX: u32 = 3600;
/// The largest part of the capacity that a drill may take away.
const PRESSURE_SHARE_MAX: f64 = 0.95;

/// What a change of limits says. Tokens per minute; what is absent stays as it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsChange {
    /// The model; absent: every model that the account may use.
    model: Option<String>,
    /// Where limits start. Moves the floor down and the ceiling up to it where those were not set.
    #[serde(default)]
    start: config::MetersFile,
    /// Below which they never fall.
    #[serde(default)]
    floor: config::MetersFile,
    /// Above which they never grow.
    #[serde(default)]
    ceiling: config::MetersFile,
}

pub(super) fn set_limits(call: &Call<'_>) -> Answered {
    let account = call.account()?;
    let change: LimitsChange = call.said()?;
    let set = Override { start: change.start, floor: change.floor, ceiling: change.ceiling };
    let (snapshot, registry) = (&call.snapshot, &call.gateway.registry);
    let models: Vec<_> = snapshot
        .config
        .models
        .iter()
        .filter(|model| account.config.may_use(&model.name))
        .filter(|model| change.model.as_deref().is_none_or(|wanted| *wanted == *model.name))
        .collect();
    if models.is_empty() {
        let message = "The account may use no model of that name. `GET /api/v1/config` lists the models.";
        return Err(problem(StatusCode::NOT_FOUND, "no_such_model", message));
    }
    let _kept = call.keep_folder()?;
    for model in models {
        let id = &account.config.id;
        let configured = snapshot.config.limits.bounds(&account.config, model);
        let author = Author { token: &call.caller.token, at: clock::wall() };
        registry.overrides().set(id, &model.name, configured, &set, author).map_err(|e| {
            let (status, code) = match e {
                OverrideError::NotSaved(_) => (StatusCode::INTERNAL_SERVER_ERROR, "not_saved"),
                _ => (StatusCode::UNPROCESSABLE_ENTITY, "bad_limits"),
            };
            problem(status, code, format!("{}: {e}.", model.name))
        })?;
        // One that rests on the disk takes the change now, so that its history has it at its time.
        if let Some(model) = snapshot.models.get(&model.name) {
            let _ = account.budget(registry, &snapshot.config, model);
        }
        registry.reconfigure(&snapshot.config, &account.config, model);
        let (by, model) = (&call.caller.token, &*model.name);
        tracing::info!(target: "audit", by, account = &**id, model, change = ?set, "limits set");
        let subject = Subject { model: Some(model.into()), ..Subject::account(id) };
        call.note(Kind::Limits, subject, &format!("Limits of {id} on {model} were set: {}.", told(&set)));
    }
    let view = limits::account_limits(call.gateway, snapshot, &account, change.model.as_deref());
    Ok(json(StatusCode::OK, &view))
}

/// What was set, tokens per minute.
fn told(set: &Override) -> String {
    let parts = [("start", &set.start), ("floor", &set.floor), ("ceiling", &set.ceiling)];
    let each = parts.into_iter().flat_map(|(part, meters)| {
        let meters = [
            ("prompt", meters.prompt),
            ("uncached-prompt", meters.uncached_prompt),
            ("generated", meters.generated),
        ];
        meters.into_iter().filter_map(move |(meter, value)| Some(format!("{part} {meter} {}", value?)))
    });
    let each: Vec<String> = each.collect();
    if each.is_empty() { "nothing".to_owned() } else { each.join(", ") }
}

/// Another level of the process's own log.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogChange {
    /// The least important messages that are logged.
    level: config::LogLevel,
}

pub(super) fn set_log(call: &Call<'_>) -> Answered {
    let change: LogChange = call.said()?;
    logging::set_level(change.level)
        .map_err(|e| problem(StatusCode::CONFLICT, "log_not_ours", format!("{e}.")))?;
    tracing::warn!(target: "audit", by = call.caller.token, level = ?change.level, "log level set");
    let words =
        format!("The level of the log was set to {}.", format!("{:?}", change.level).to_ascii_lowercase());
    call.note(Kind::LogLevel, Subject::PROCESS, &words);
    Ok(json(StatusCode::OK, &process::log()))
}

pub(super) fn drain(call: &Call<'_>) -> Answered {
    set_drained(call, true)
}

pub(super) fn undrain(call: &Call<'_>) -> Answered {
    set_drained(call, false)
}

fn set_drained(call: &Call<'_>, drained: bool) -> Answered {
    let deployment = call.deployment()?;
    let id = replica(&deployment, call.parameter(1))?;
    deployment.gate.with(|shedder| shedder.set_drained(clock::now(), id, drained));
    let (name, replica, by) = (&deployment.config.name, id.0, &call.caller.token);
    tracing::info!(target: "audit", by, deployment = &**name, replica, drained, "replica drained or put back");
    let url = deployment.replicas.get(id).map_or_else(|| replica.to_string(), |replica| replica.name.clone());
    let (kind, done) = if drained { (Kind::Drain, "drained") } else { (Kind::Undrain, "put back") };
    call.note(kind, Subject::replica(name, &url), &format!("Replica {url} of {name} was {done}."));
    Ok(json(StatusCode::OK, &deployments::deployment_state(&call.snapshot, &deployment)))
}

/// A replica by its number, its URL or its host and port.
fn replica(deployment: &Deployment, wanted: &str) -> Result<ReplicaId, Refused> {
    let all = deployment.replicas.all();
    let is = |name: &str| name == wanted || name.split_once("://").is_some_and(|(_, rest)| rest == wanted);
    let found = all.iter().find(|(id, replica)| is(&replica.name) || wanted == id.0.to_string());
    found.map(|(id, _)| *id).ok_or_else(|| {
        let message = "The deployment has no such replica. Name it by its number, its URL (percent-encoded) or its host and port; `GET /api/v1/deployments` lists them.";
        problem(StatusCode::NOT_FOUND, "no_such_replica", message)
    })
}

/// Ceilings: how full a replica may be when it takes another request of the tier, 1 is full.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Thresholds {
    /// For priority; absent: as it is.
    #[schemars(range(min = 0.01, max = 1.0))]
    priority: Option<f64>,
    /// For regular; absent: as it is. Not above priority's.
    #[schemars(range(min = 0.01, max = 1.0))]
    regular: Option<f64>,
    /// For flex; absent: as it is. Not above regular's.
    #[schemars(range(min = 0.01, max = 1.0))]
    flex: Option<f64>,
}

pub(super) fn set_thresholds(call: &Call<'_>) -> Answered {
    let deployment = call.deployment()?;
    let change: Thresholds = call.said()?;
    let before = deployment.ceilings();
    let after = config::Ceilings {
        priority: change.priority.unwrap_or(before.priority),
        regular: change.regular.unwrap_or(before.regular),
        flex: change.flex.or(before.flex),
    };
    let PerTier { priority, regular, flex } = after.by_tier();
    let in_range = |ceiling: f64| (0.01..=1.0).contains(&ceiling);
    if ![priority, regular, flex].into_iter().all(in_range) || after.fault().is_some() {
        let message = format!(
            "Ceilings are from 0.01 to 1, none above that of the tier before it; they would be: priority {priority}, regular {regular}, flex {flex}."
        );
        return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, "bad_thresholds", message));
    }
    put_ceilings(call, &deployment, Some(after))
}

pub(super) fn reset_thresholds(call: &Call<'_>) -> Answered {
    let deployment = call.deployment()?;
    put_ceilings(call, &deployment, None)
}

fn put_ceilings(call: &Call<'_>, deployment: &Deployment, ceilings: Option<config::Ceilings>) -> Answered {
    deployment.operated.set_ceilings(ceilings);
    let ceilings = deployment.ceilings().by_tier();
    let PerTier { priority, regular, flex } = ceilings;
    deployment.gate.with(|shedder| shedder.set_ceilings(clock::now(), ceilings));
    let (name, by) = (&deployment.config.name, &call.caller.token);
    tracing::info!(target: "audit", by, deployment = &**name, priority, regular, flex, "ceilings set");
    let from = if deployment.operated.ceilings().is_some() { "set" } else { "put back as configured" };
    let shown =
        deployment.config.tiers().map(|tier| format!("{tier} {}", ceilings[tier])).collect::<Vec<_>>();
    let words = format!("The ceilings of {name} were {from}: {}.", shown.join(", "));
    call.note(Kind::Thresholds, Subject::deployment(name), &words);
    Ok(json(StatusCode::OK, &deployments::deployment_state(&call.snapshot, deployment)))
}

/// A part of the capacity to pretend away, for a time.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PressureChange {
    /// Which part: above 0, at most 0.95.
    #[schemars(range(min = 0.01, max = PRESSURE_SHARE_MAX))]
    share: f64,
    /// For how long.
    #[schemars(range(min = 1, max = PRESSURE_SECONDS_MAX))]
    seconds: u32,
}

pub(super) fn set_pressure(call: &Call<'_>) -> Answered {
    let deployment = call.deployment()?;
    let change: PressureChange = call.said()?;
    let good = (0.01..=PRESSURE_SHARE_MAX).contains(&change.share)
        && (1..=PRESSURE_SECONDS_MAX).contains(&change.seconds);
    if !good {
        let message = format!(
            "`share` is from 0.01 to {PRESSURE_SHARE_MAX}, `seconds` from 1 to {PRESSURE_SECONDS_MAX}."
        );
        return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, "bad_pressure", message));
    }
    let until = clock::now() + Duration::from_secs(u64::from(change.seconds));
    put_pressure(call, &deployment, Some(Pressure { share: change.share, until }))
}

pub(super) fn lift_pressure(call: &Call<'_>) -> Answered {
    let deployment = call.deployment()?;
    put_pressure(call, &deployment, None)
}

fn put_pressure(call: &Call<'_>, deployment: &Deployment, pressure: Option<Pressure>) -> Answered {
    let now = clock::now();
    let Pressure { share, until } = pressure.unwrap_or(Pressure { share: 0.0, until: now });
    deployment.operated.set_pressure(pressure);
    deployment.gate.with(|shedder| shedder.set_pressure(now, share, until));
    let (name, by) = (&deployment.config.name, &call.caller.token);
    let seconds = until.saturating_sub(now).as_secs();
    tracing::info!(target: "audit", by, deployment = &**name, share, seconds, "pressure set");
    let percent = (100.0 * share).round();
    let (kind, words) = match pressure {
        Some(_) => {
            (Kind::Pressure, format!("{name} acts for {seconds} s as if {percent} % of it were gone."))
        }
        None => (Kind::PressureOver, format!("The pressure on {name} was lifted.")),
    };
    call.note(kind, Subject::deployment(name), &words);
    Ok(json(StatusCode::OK, &deployments::deployment_state(&call.snapshot, deployment)))
}

pub(super) fn reload(call: &Call<'_>) -> Answered {
    tracing::info!(target: "audit", by = call.caller.token, "reload of the config asked for");
    let reloads = reload::reload(call.gateway, Trigger::Api, Some(&call.caller.token))
        .map_err(|e| problem(StatusCode::CONFLICT, "no_file", format!("{e}.")))?;
    let refused = reloads.last.is_some_and(|last| last.faults.is_some());
    let status = if refused { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    Ok(json(status, &process::reloads(call.gateway)))
}

/// Has this process start the program at its path again and hand over to it, as `SIGUSR2` does.
pub(super) fn upgrade(call: &Call<'_>) -> Answered {
    if call.gateway.reloader.file().is_none() {
        let message = "Only `tidegate serve` can start its own successor.";
        return Err(problem(StatusCode::CONFLICT, "no_file", message));
    }
    let asked = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::USR2);
    asked.map_err(|e| {
        let message = format!("The process cannot signal itself: {e}.");
        problem(StatusCode::INTERNAL_SERVER_ERROR, "not_asked", message)
    })?;
    tracing::info!(target: "audit", by = call.caller.token, "upgrade asked for");
    Ok(json(StatusCode::ACCEPTED, &process::upgrade(call.gateway)))
}
