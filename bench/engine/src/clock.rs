//! The time since the process first asked, and nothing else in this package reads a clock.
//!
//! Everything else takes `now: Duration` as an argument. All readers of one process share one epoch, so a time
//! that the simulated engine recorded can be compared with one that the load generator recorded.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// The monotonic time since the first call in this process. Does not allocate, does not lock after the first call.
#[expect(clippy::disallowed_methods, reason = "the one reader of the clock in this package")]
#[must_use]
pub fn now() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    Instant::now().saturating_duration_since(*START.get_or_init(Instant::now))
}

/// Wall time since 1970, for files that hold it.
#[expect(clippy::disallowed_methods, reason = "the one reader of the wall clock in this package")]
#[must_use]
pub fn wall() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
