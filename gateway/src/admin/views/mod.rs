//! Fills the answers of the admin API, which `client::views` defines, from the state of the gateway.

pub(super) mod accounts;
pub(super) mod deployments;
pub(super) mod history;
pub(super) mod limits;
pub(super) mod process;
pub(super) mod refusals;

use crate::clock;
use std::time::Duration;

/// A moment of the process as wall time.
fn moment(at: Duration) -> String {
    clock::rfc3339((clock::wall() + at).saturating_sub(clock::now()))
}

/// Whole milliseconds.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
