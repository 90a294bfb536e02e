//! The process: version, config in force, reloads, counters that are zero at rest.

use config::LogLevel;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Which program this is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Version {
    /// Of Tidegate.
    pub version: Cow<'static, str>,
    /// When the process started (RFC 3339).
    pub started: String,
    /// How long it has run.
    pub uptime_seconds: f64,
    /// Its process id.
    pub pid: u32,
    /// Whether it is on its way out.
    pub draining: bool,
    /// Requests in flight.
    pub requests_in_flight: u64,
    /// Open connections of customers.
    pub connections: usize,
    /// The config in force.
    pub config: ConfigState,
}

/// The config in force, and what became of the last attempt to read it again.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ReloadState {
    /// Where it is read from; null: from no file, it cannot be reloaded.
    pub file: Option<String>,
    /// Configs that came into force after the first.
    pub generation: u64,
    /// When the one in force came into force (RFC 3339).
    pub loaded: String,
    /// Whether the last attempt was taken; true before the first.
    pub successful: bool,
    /// When that was (RFC 3339); null: there was none.
    pub tried: Option<String>,
    /// Who asked for it: `signal`, `file` or `api`.
    pub by: Option<Cow<'static, str>>,
    /// Why it was refused: every fault of the file with key and line.
    pub faults: Option<String>,
    /// Keys whose new value waits for a restart.
    pub needs_restart: Vec<String>,
}

/// A hand-over to a new process. One that succeeded is told by `pid`: the new process answers in place of the old one.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeState {
    /// The id of the process that answers.
    pub pid: u32,
    /// Whether one is under way.
    pub runs: bool,
    /// When the last one failed (RFC 3339); null: none did.
    pub failed_at: Option<String>,
    /// Why.
    pub failure: Option<String>,
}

/// What the version says of the config.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ConfigState {
    /// When the one in force came into force (RFC 3339).
    pub loaded: String,
    /// Whether the last change of it was refused.
    pub last_reload_failed: bool,
    /// Why.
    pub last_fault: Option<String>,
}

/// The process's own log.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct LogState {
    /// The least important messages that are logged; null: the environment's `RUST_LOG` decides.
    pub level: Option<LogLevel>,
    /// Lines dropped because nobody read them.
    pub dropped: u64,
}

/// Every counter that must be zero when nothing runs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct InvariantsState {
    /// Whether all of them are zero.
    pub at_rest: bool,
    /// By name.
    pub counters: BTreeMap<String, u64>,
}
