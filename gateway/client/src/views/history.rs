//! A deployment over time, in columns: what a console draws.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// One number of each step; null: not known.
pub type Column<T> = Vec<Option<T>>;

/// The closed steps of a deployment, each column as long as `time`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// Its name.
    pub deployment: Arc<str>,
    /// `5s` or `1m`.
    pub resolution: Cow<'static, str>,
    /// The length of a step, seconds.
    pub step_seconds: u64,
    /// How far back steps are kept, seconds.
    pub keeps_seconds: u64,
    /// Now, seconds since the epoch.
    pub now: f64,
    /// False: this resolution was given up, for there was no memory left for it.
    pub complete: bool,
    /// What is promised, as of now.
    pub slo: Slo,
    /// When each step began, seconds since the epoch.
    pub time: Vec<u64>,
    /// How full the least full replica in service was, on average; 1 is full.
    pub saturation: Column<f64>,
    /// The sum of the concurrency limits N of the replicas in service, at the end of the step.
    pub limit: Column<f64>,
    /// Requests on its replicas, at the end of the step.
    pub active: Column<u32>,
    /// Replicas in service, at the end of the step.
    pub replicas_up: Column<u16>,
    /// All its replicas.
    pub replicas: Column<u16>,
    /// Tokens per second, as settled: each request counts in the step in which it ended.
    pub tokens_per_second: TokensPerSecond,
    /// `priority`, then `regular`.
    pub tiers: Vec<TierHistory>,
}

/// The service level of a deployment.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Slo {
    /// Time to the first token, ms, the request's own prefill not counted.
    pub ttft_ms: f64,
    /// Where that is from: `config` or `default`.
    pub ttft_from: Cow<'static, str>,
    /// Mean time between tokens, ms; null: not promised, and not learnt yet.
    pub tpot_ms: Option<f64>,
    /// Where that is from: `config`, `default` or `learned`.
    pub tpot_from: Cow<'static, str>,
}

/// Tokens per second.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct TokensPerSecond {
    /// Prompt tokens.
    pub prompt: Column<f64>,
    /// Those of them that engines had cached.
    pub cached: Column<f64>,
    /// Generated tokens.
    pub generated: Column<f64>,
}

/// One tier over time.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TierHistory {
    /// `priority` or `regular`.
    pub tier: Cow<'static, str>,
    /// Requests that were decided about: admitted, limited or shed.
    pub offered: Column<u32>,
    /// Requests that got a place.
    pub admitted: Column<u32>,
    /// Requests refused for a token limit of their account: 429. Those refused for requests per minute or at once are in no
    /// deployment: they are refused before their model is known.
    pub limited: Column<u32>,
    /// Requests refused for load: 503.
    pub shed: Column<u32>,
    /// The most requests that waited at a time.
    pub queued: Column<u32>,
    /// The saturation at which the tier closed, at the end of the step: its ceiling less the head-room.
    pub ceiling_in_force: Column<f64>,
    /// From arrival to the first token, ms, of streams.
    pub ttft_ms: Quantiles,
    /// Between content chunks of a stream, ms.
    pub gap_ms: Quantiles,
    /// Streams whose answers ended.
    pub answered: Column<u32>,
    /// Those of them within the service level.
    pub met: Column<u32>,
    /// The share of those within it; null where none ended.
    pub attainment: Column<f64>,
}

/// Quantiles of each step; null where nothing was counted.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Quantiles {
    /// Half of all.
    pub p50: Column<f64>,
    /// 19 of 20.
    pub p95: Column<f64>,
    /// 99 of 100.
    pub p99: Column<f64>,
}
