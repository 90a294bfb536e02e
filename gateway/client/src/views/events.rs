//! What people and machines did, on the axis of the figures over time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// Events, the oldest first.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct EventList {
    /// The newest that match, at most as many as were asked for.
    pub events: Vec<EventState>,
    /// Older ones that are no longer kept; the last 1,000 are.
    pub dropped: u64,
}

/// One event.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct EventState {
    /// Its number, in the order in which they came.
    pub id: u64,
    /// When, seconds since the epoch.
    pub time: f64,
    /// The same (RFC 3339).
    pub at: String,
    /// What kind of thing happened: `start`, `hand_over`, `stopping`, `reload`, `reload_refused`, `drain`, `undrain`,
    /// `replica_down`, `replica_up`, `pressure`, `pressure_over`, `thresholds`, `limits`, `account_made`, `account_changed`,
    /// `account_removed`, `key_made`, `keys_rotated`, `key_ended`, `log_level`, `drill_started` or `drill_ended`.
    pub kind: Cow<'static, str>,
    /// The deployment it happened to, if it was one.
    pub deployment: Option<Arc<str>>,
    /// The replica of it, by its URL.
    pub replica: Option<String>,
    /// The account it happened to, if it was one.
    pub account: Option<Arc<str>>,
    /// On which model, where it is about one.
    pub model: Option<Arc<str>>,
    /// In a sentence.
    pub words: String,
    /// The first digits of the digest of the token of whoever did it, as in the log; null: nobody did.
    pub by: Option<String>,
}
