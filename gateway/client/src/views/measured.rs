//! What was measured of engines while they served: enough to simulate them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What was measured of one deployment.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Measured {
    /// Its name.
    pub name: Arc<str>,
    /// Its replicas.
    pub replicas: Vec<MeasuredReplica>,
}

/// What was measured of one replica.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct MeasuredReplica {
    /// Its number.
    pub id: u16,
    /// Its URL.
    pub replica: String,
    /// Prompt tokens computed per second, when known.
    pub prefill_tokens_per_s: Option<f64>,
    /// Seconds that every first token takes beside its prompt's computing, when known.
    pub lag_s: Option<f64>,
    /// Seconds between tokens on a nearly idle replica, when known.
    pub gap_idle_s: Option<f64>,
    /// Requests that it takes at once, where it tells that.
    pub slots: Option<u32>,
    /// KV memory, tokens: as it tells, or as answers that pause have shown.
    pub kv_tokens: Option<u64>,
    /// By how many streams there were.
    pub at_loads: Vec<MeasuredAtLoad>,
}

/// What was seen with about so many streams.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
pub struct MeasuredAtLoad {
    /// Mean number of streams.
    pub streams: f64,
    /// Seconds seen; the older count less.
    pub seconds: f64,
    /// Steps in them: tokens that each stream got.
    pub steps: f64,
    /// Prompt tokens computed in them.
    pub prompt_tokens: f64,
}
