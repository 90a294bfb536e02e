//! Deployments: how full, how high each tier may rise, who waits, who was turned away.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All deployments.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Deployments {
    /// The moment of this view (RFC 3339).
    pub time: String,
    /// In the order of the config, or the worst first, as was asked.
    pub deployments: Vec<DeploymentState>,
    /// How many match in all.
    #[serde(default)]
    pub total: usize,
    /// What to give as `after` for the next page; null: this is the last, or the worst were asked for.
    #[serde(default)]
    pub next: Option<Arc<str>>,
}

/// One deployment.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentState {
    /// Its name.
    pub name: Arc<str>,
    /// The engine of its replicas.
    pub engine: Cow<'static, str>,
    /// The models that it serves.
    pub models: Vec<Arc<str>>,
    /// How full the least full replica in service is; 1 is full, and 1 when none is in service.
    pub saturation: f64,
    /// The sum of the concurrency limits N of the replicas in service, requests.
    pub limit: f64,
    /// Requests on its replicas.
    pub active: u64,
    /// Uncached prompt tokens sent whose first token has not come.
    pub backlog_tokens: u64,
    /// How much may wait.
    pub queue_max: QueueMax,
    /// The part of its capacity that is pretended to be gone; null: none.
    pub pressure: Option<PressureState>,
    /// Whether an operator set other ceilings than the config's.
    pub ceilings_set: bool,
    /// `priority`, then `regular`.
    pub tiers: Vec<TierState>,
    /// In the order of the config.
    pub replicas: Vec<ReplicaState>,
    /// Requests taken back before their first token, since the start.
    pub withdrawn: u64,
    /// Requests sent again after a failure, since the start.
    pub retries: u64,
    /// Priority requests served as regular because priority had its share, since the start.
    pub downgraded: u64,
}

/// A pretended loss of capacity: a drill on live traffic.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PressureState {
    /// Which part of the capacity, 0 … 1.
    pub share: f64,
    /// Until when (RFC 3339).
    pub until: String,
    /// How long that is.
    pub left_ms: u64,
}

/// The bounds of the queue.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct QueueMax {
    /// Requests.
    pub requests: u32,
    /// Uncached prompt tokens.
    pub tokens: u64,
}

/// One tier of a deployment.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TierState {
    /// `priority` or `regular`.
    pub tier: Cow<'static, str>,
    /// Whether a request of this tier that came now would get a place.
    pub open: bool,
    /// The saturation at which it closes, as configured or set.
    pub ceiling: f64,
    /// The saturation at which it closes now: the ceiling less the head-room.
    #[serde(default)]
    pub ceiling_in_force: f64,
    /// How much is kept free for the tier above, because that had to wait lately.
    #[serde(default)]
    pub head_room: f64,
    /// What keeps a request of this tier from a place now.
    #[serde(default)]
    pub binds: Binds,
    /// Requests that wait.
    pub queued: u32,
    /// Their uncached prompt tokens.
    pub queued_tokens: u64,
    /// How long the oldest has waited.
    pub oldest_wait_ms: u64,
    /// The accounts with the most waiting tokens, at most ten.
    pub top_accounts: Vec<Waiting>,
    /// Requests that got a place, since the start.
    pub admitted: u64,
    /// Requests that had to wait, since the start.
    pub waited: u64,
    /// Requests that were shed, since the start.
    pub shed: u64,
    /// The same by reason; every reason is listed.
    pub shed_by_reason: BTreeMap<Cow<'static, str>, u64>,
    /// The last minute.
    pub last_minute: TierMinute,
}

/// What keeps requests of a tier from places.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Binds {
    /// `none`, `places`, `head-room`, `prompts`, `memory`, `engine`, `tier-above`, `other-replicas`, `no-replica` or `draining`.
    pub code: Cow<'static, str>,
    /// The same in words, those of a refusal.
    pub words: String,
}

/// What happened to a tier's requests in the last minute.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TierMinute {
    /// How long that was, seconds: less than 60 after a start.
    pub seconds: f64,
    /// Requests that got a place.
    pub admitted: u64,
    /// Requests that had to wait.
    pub waited: u64,
    /// Requests that were shed.
    pub shed: u64,
    /// The same by reason; reasons without any are left out.
    pub shed_by_reason: BTreeMap<Cow<'static, str>, u64>,
    /// Admitted per second.
    pub admitted_per_s: f64,
    /// Shed per second.
    pub shed_per_s: f64,
}

/// One account's part of a queue.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Waiting {
    /// The account's id; `other` where the config no longer has it.
    pub account: Arc<str>,
    /// Its requests that wait.
    pub queued: u32,
    /// Their uncached prompt tokens.
    pub queued_tokens: u64,
}

/// One replica.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaState {
    /// Its number, as in the metrics and in the paths of this API.
    pub id: u16,
    /// Its URL.
    pub replica: String,
    /// `serving`; `draining` while requests still run on one that an operator drained, and then `drained`, also once it was
    /// stopped; `down`: it failed.
    pub health: Cow<'static, str>,
    /// Whether it answers, as far as it is asked.
    pub healthy: bool,
    /// Whether an operator drained it.
    pub drained: bool,
    /// Requests on it.
    pub active: u32,
    /// Those of them that have a token.
    pub with_token: u32,
    /// The concurrency limit N in force, requests.
    pub limit: f64,
    /// How full it is; 1 is full.
    pub saturation: f64,
    /// Uncached prompt tokens sent whose first token has not come.
    pub backlog_tokens: u64,
    /// KV memory in use, tokens.
    pub kv_tokens: u64,
    /// KV memory that it has, tokens, when known.
    pub kv_capacity_tokens: Option<u64>,
    /// KV tokens that may be held, learnt from answers that pause, where the engine does not tell what it has.
    pub kv_learnt_tokens: Option<u64>,
    /// Smoothed time per token, when known.
    pub gap_ms: Option<f64>,
    /// Prefill rate, when known.
    pub prefill_tokens_per_s: Option<f64>,
    /// Time since the last page of its own metrics, when there were any.
    pub scrape_age_ms: Option<u64>,
}
