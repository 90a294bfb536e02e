//! What the admin API shows: plain structures, written as JSON and described from the same definition.
//!
//! The schema that `/api/v1/openapi.json` shows is derived from these types, so a field cannot be shown and not be
//! described. Names of fields are stable: fields are added, none is renamed or taken away.

pub(super) mod accounts;
pub(super) mod deployments;
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
