//! The process itself: version, config in force, reloads, what must be zero at rest.

use crate::clock;
use crate::state::gateway::Gateway;
use crate::state::reload::Reloads;
use crate::telemetry::logging;
use config::LogLevel;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

/// Which program this is.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::admin) struct Version {
    /// Of Tidegate.
    version: &'static str,
    /// When the process started (RFC 3339).
    started: String,
    /// How long it has run.
    uptime_seconds: f64,
    /// Its process id.
    pid: u32,
    /// Whether it is on its way out.
    draining: bool,
    /// Requests in flight.
    requests_in_flight: u64,
    /// Open connections of customers.
    connections: usize,
    /// The config in force.
    config: ConfigState,
}

/// The config in force, and what became of the last attempt to read it again.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::admin) struct ReloadState {
    /// Where it is read from; null: from no file, it cannot be reloaded.
    file: Option<String>,
    /// Configs that came into force after the first.
    generation: u64,
    /// When the one in force came into force (RFC 3339).
    loaded: String,
    /// Whether the last attempt was taken; true before the first.
    successful: bool,
    /// When that was (RFC 3339); null: there was none.
    tried: Option<String>,
    /// Who asked for it: `signal`, `file` or `api`.
    by: Option<&'static str>,
    /// Why it was refused: every fault of the file with key and line.
    faults: Option<String>,
    /// Keys whose new value waits for a restart.
    needs_restart: Vec<String>,
}

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
        by: last.as_ref().map(|last| last.by.name()),
        faults: last.and_then(|last| last.faults),
        needs_restart,
    }
}

/// What the version says of the config.
#[derive(Debug, Serialize, JsonSchema)]
struct ConfigState {
    /// When the one in force came into force (RFC 3339).
    loaded: String,
    /// Whether the last change of it was refused.
    last_reload_failed: bool,
    /// Why.
    last_fault: Option<String>,
}

/// Which program this is, and since when.
pub(in crate::admin) fn version(gateway: &Gateway) -> Version {
    let (up, config) = (clock::now(), reloads(gateway));
    Version {
        version: env!("CARGO_PKG_VERSION"),
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

/// The process's own log.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::admin) struct LogState {
    /// The least important messages that are logged; null: the environment's `RUST_LOG` decides.
    level: Option<LogLevel>,
    /// Lines dropped because nobody read them.
    dropped: u64,
}

/// As it is now.
pub(in crate::admin) fn log() -> LogState {
    LogState { level: logging::level(), dropped: logging::dropped() }
}

/// Every counter that must be zero when nothing runs.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::admin) struct InvariantsState {
    /// Whether all of them are zero.
    at_rest: bool,
    /// By name.
    counters: BTreeMap<String, u64>,
}

/// The counters as they are now.
pub(in crate::admin) fn invariants(gateway: &Gateway) -> InvariantsState {
    let crate::state::gateway::Invariants { at_rest, counters } = gateway.invariants();
    InvariantsState { at_rest, counters }
}
