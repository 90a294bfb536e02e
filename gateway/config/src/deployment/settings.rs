//! The blocks of a deployment: ceilings, queue, scraping and timeouts.
//!
//! None of them needs to be set on any engine.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resolve::Resolver;
use crate::units::durations::millis;
use crate::units::size::Bytes;
use crate::yaml::faults::At;
use protocol::engine::Engine;
use shedder::PerTier;

/// Shares of a replica's limit that each tier may fill.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ceilings {
    /// Share for priority. Default 1: all of it.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub priority: f64,
    /// Share for regular. Default 0.85: the last 15 % wait for priority, so that it never waits for regular. Of few slots that an engine tells, a part of one is rounded up where slots come back soon, as measured by the time to the first token that is promised.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub regular: f64,
    /// Share for flex, where the deployment has that tier. Default 0.70, or that of regular where it is lower: a burst of the tiers above finds as much again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 1.0), extend("x-usual" = 0.7))]
    pub flex: Option<f64>,
}

impl Default for Ceilings {
    fn default() -> Self {
        Self { priority: 1.0, regular: 0.85, flex: None }
    }
}

impl Ceilings {
    /// Those of all tiers, each by what is said of it or follows.
    #[must_use]
    pub fn by_tier(&self) -> PerTier<f64> {
        let flex = self.flex.unwrap_or(shedder::Config::default().ceilings.flex.min(self.regular));
        PerTier { priority: self.priority, regular: self.regular, flex }
    }

    /// What is wrong with their order: the key, and why.
    #[must_use]
    pub fn fault(&self) -> Option<(&'static str, String)> {
        let over = |below: f64, above: f64, name| {
            (below > above)
                .then(|| format!("must not exceed the ceiling of {name} ({above}); were the two swapped?"))
        };
        let regular = over(self.regular, self.priority, "priority").map(|fault| ("regular", fault));
        let flex = || over(self.flex?, self.regular, "regular").map(|fault| ("flex", fault));
        regular.or_else(flex)
    }
}

/// The tier below regular: served from what the others leave, and the first to give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Flex {
    /// How long a request may wait for a place, ms. Default 300,000: half of what the SDKs wait for an answer by themselves. Whoever waits longer is refused with 503; a request may ask for less by `x-tidegate-ttft-deadline-ms`.
    #[serde(rename = "wait_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 1000, max = 3_600_000))]
    pub wait: Duration,
}

impl Default for Flex {
    fn default() -> Self {
        Self { wait: shedder::Config::default().flex_wait }
    }
}

/// Bounds of a deployment's queue. They bound memory; how long anyone waits is bounded by prediction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Queue {
    /// Requests that may wait. Default 10,000: far more than any deployment starts within a second. 0: nothing waits. A short queue serves those who do not wait as they are told: with 2 places and a crowd that comes back at once, an account that heeds `retry-after` was served 0 of 41 times. Leave at least 32, and bound how long anyone waits by `slo` and ceilings.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub requests: u32,
    /// Prompt tokens that may wait. Default 16,777,216: many seconds of the fastest prefill.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub tokens: u64,
    /// Bytes of bodies that may wait. Default 512MiB: a quarter of `listen.limits.inflight_bytes`.
    #[schemars(with = "Bytes", range(min = 1024, max = 1_099_511_627_776_u64))]
    pub bytes: u64,
}

impl Default for Queue {
    fn default() -> Self {
        let shedder::QueueBounds { requests, tokens, bytes, .. } = shedder::QueueBounds::default();
        Self { requests, tokens, bytes }
    }
}

/// How the servers' own metrics are read. They correct what is known from the traffic; nothing needs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrape {
    /// How often.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// The path behind the replica's base path; `None` if nothing is read.
    pub path: Option<String>,
}

/// How the servers' own metrics are read.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ScrapeFile {
    /// How often, ms. Default 1,000: a page has about 60 KB, and between two of them the own traffic is known.
    #[serde(rename = "interval_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 100, max = 60_000))]
    interval: Duration,
    /// How long an answer may take, ms. Default 1,000; a busy server is late, not dead.
    #[serde(rename = "timeout_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 50, max = 60_000))]
    timeout: Duration,
    /// The path, or `off`. Default: the engine's own (/metrics; trtllm: /prometheus/metrics; dynamo: /metrics of its frontend; ollama, openai: off).
    #[schemars(length(min = 1, max = 1024))]
    path: Option<String>,
}

impl Default for ScrapeFile {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), timeout: Duration::from_secs(1), path: None }
    }
}

/// How replicas that are named by a DNS name are found, and found again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Dns {
    /// How often a name is looked up, ms. Default 5,000: a new server is used within seconds, and cluster DNS keeps its answers for 5 to 30 s anyway.
    #[serde(rename = "interval_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 100, max = 3_600_000))]
    pub interval: Duration,
    /// Most replicas that the names of one deployment may become. Default 64: beyond it an answer is a mistake, and what is over is left out and told.
    #[schemars(range(min = 1, max = 1024))]
    pub replicas_max: u32,
}

impl Default for Dns {
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), replicas_max: 64 }
    }
}

/// How long each step towards a server may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// Connecting, TLS included, ms. Default 1,000: inside one site it takes milliseconds.
    #[serde(rename = "connect_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 10, max = 60_000))]
    pub connect: Duration,
    /// Until the first token, ms. Default 120,000: the longest prompt on a busy engine.
    #[serde(rename = "first_token_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 100, max = 3_600_000))]
    pub first_token: Duration,
    /// Between two tokens of one answer, ms. Default 300,000, as long as clients wait: an engine may hold a tool call back for minutes. Where all other answers of the replica are silent as well, 60,000 at most.
    #[serde(rename = "between_tokens_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 100, max = 3_600_000))]
    pub between_tokens: Duration,
    /// The whole answer where it does not stream, so that its first byte comes with its last, ms. Default 600,000, as long as the common SDKs wait.
    #[serde(rename = "answer_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 100, max = 86_400_000))]
    pub answer: Duration,
    /// Writing the request, ms. Default 10,000.
    #[serde(rename = "write_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 100, max = 600_000))]
    pub write: Duration,
    /// How long an unused connection is kept, ms. Default 4,000: vLLM's server closes after 5,000, and a request sent at that moment would be lost.
    #[serde(rename = "idle_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 0, max = 3_600_000))]
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            first_token: Duration::from_secs(120),
            between_tokens: Duration::from_secs(300),
            answer: Duration::from_secs(600),
            write: Duration::from_secs(10),
            idle: Duration::from_secs(4),
        }
    }
}

impl ScrapeFile {
    pub(crate) fn resolve(self, engine: Engine, at: &At<'_>, resolver: &mut Resolver<'_>) -> Scrape {
        let path = match self.path.as_deref() {
            None => engine.metrics_path().map(str::to_owned),
            Some("off" | "false") => None,
            Some(path) => {
                if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
                    resolver.fault(&at.key("path"), "must be a path that starts with /, or off");
                }
                Some(path.to_owned())
            }
        };
        Scrape { interval: self.interval, timeout: self.timeout, path }
    }
}
