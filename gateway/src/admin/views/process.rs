//! The process itself: version, config in force, reloads, what must be zero at rest.

use crate::clock;
use crate::state::gateway::Gateway;
use crate::state::reload::Reloads;
use crate::state::upgrades::Attempts;
use crate::telemetry::logging;
use client::views::process::{ConfigState, InvariantsState, LogState, ReloadState, UpgradeState, Version};

/// How the config came into force.
pub(in crate::admin) fn reloads(gateway: &Gateway) -> ReloadState {
    let Reloads { generation, loaded, needs_restart, last } = gateway.reloader.state();
    let started = clock::wall().saturating_sub(clock::now());
    ReloadState {
        file: gateway.reloader.file().map(|path| path.display().to_string()),
        generation,
        loaded: clock::rfc3339(loaded.unwrap_or(started)),
        successful: last.as_ref().is_none_or(|last| last.faults.is_none()),
        tried: last.as_ref().map(|last| clock::rfc3339(last.at)),
        by: last.as_ref().map(|last| last.by.name().into()),
        faults: last.and_then(|last| last.faults),
        needs_restart,
    }
}

/// Which program this is, and since when.
pub(in crate::admin) fn version(gateway: &Gateway) -> Version {
    let (up, config) = (clock::now(), reloads(gateway));
    Version {
        version: env!("CARGO_PKG_VERSION").into(),
        started: clock::rfc3339(clock::wall().saturating_sub(up)),
        uptime_seconds: up.as_secs_f64(),
        pid: std::process::id(),
        draining: gateway.is_draining(),
        requests_in_flight: gateway.in_flight(),
        connections: gateway.connections.open(),
        config: ConfigState {
            loaded: config.loaded,
            last_reload_failed: !config.successful,
            last_fault: config.faults,
        },
    }
}

/// What became of the last attempt to hand over to a new process.
pub(in crate::admin) fn upgrade(gateway: &Gateway) -> UpgradeState {
    let Attempts { runs, failed } = gateway.upgrades.state();
    UpgradeState {
        pid: std::process::id(),
        runs,
        failed_at: failed.as_ref().map(|(at, _)| clock::rfc3339(*at)),
        failure: failed.map(|(_, why)| why),
    }
}

/// As it is now.
pub(in crate::admin) fn log() -> LogState {
    LogState { level: logging::level(), dropped: logging::dropped() }
}

/// The counters as they are now.
pub(in crate::admin) fn invariants(gateway: &Gateway) -> InvariantsState {
    let crate::state::gateway::Invariants { at_rest, counters } = gateway.invariants();
    InvariantsState { at_rest, counters }
}
