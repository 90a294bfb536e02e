//! The process itself: version, config in force, reloads, what must be zero at rest.

use crate::clock;
use crate::gateway::Gateway;
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
}

/// Which program this is, and since when.
pub(in crate::admin) fn version(gateway: &Gateway) -> Version {
    let up = clock::now();
    Version {
        version: env!("CARGO_PKG_VERSION"),
        started: clock::rfc3339(clock::wall().saturating_sub(up)),
        uptime_seconds: up.as_secs_f64(),
        pid: std::process::id(),
        draining: gateway.is_draining(),
        requests_in_flight: gateway.in_flight(),
        connections: gateway.connections.open(),
    }
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
    let crate::gateway::Invariants { at_rest, counters } = gateway.invariants();
    InvariantsState { at_rest, counters }
}
