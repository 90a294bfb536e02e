//! What an operator may set about a deployment, with a default for everything and the reason for it.
//!
//! No value is needed on any engine: what is not set is learnt from the deployment's own traffic. Values
//! that make no sense (not a number, negative, a lower tier above a higher one) are brought into range
//! when a [`Shedder`](crate::Shedder) takes them over, never refused.

use std::time::Duration;

use crate::offer::ReplicaId;
use crate::tier::PerTier;

/// The service level that the deployment is to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slo {
    /// Time to first token, the request's own prefill on an idle replica not counted.
    pub ttft: Duration,
    /// Mean time per output token after the first.
    pub tpot: Duration,
}

/// How much may wait. A full queue displaces or refuses; see the crate's front page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueueBounds {
    /// Requests of all tiers. 0: nothing waits, what does not fit is refused as saturated.
    pub requests: u32,
    /// Prompt tokens (uncached) of all tiers.
    pub tokens: u64,
    /// Bytes of the bodies of all waiting requests.
    pub bytes: u64,
    /// The part of each bound that a tier may fill by itself, 0 … 1.
    pub share: PerTier<f64>,
}

impl Default for QueueBounds {
    /// 10,000 requests, 16 Mi tokens, 512 MiB, of which regular traffic may fill nine tenths, and flex half.
    ///
    /// Waiting is bounded by time first (a fraction of the TTFT target), so these bounds only matter in a
    /// burst: 10,000 requests are far more than any deployment starts within a second, and 512 MiB is a
    /// quarter of the bytes that a gateway holds in flight by default. The last tenth is kept so that
    /// priority finds room without displacing anyone. What waits for minutes would fill all of it in an overload.
    fn default() -> Self {
        Self {
            requests: 10_000,
            tokens: 16 << 20,
            bytes: 512 << 20,
            share: PerTier { priority: 1.0, regular: 0.9, flex: 0.5 },
        }
    }
}

/// The configuration of one deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The service level to keep. `None`: the target for token gaps is learnt (2.5 × the gap of a nearly
    /// idle replica, and no less than 75 ms) and first tokens are wanted within 2 s.
    pub slo: Option<Slo>,
    /// How full a replica may be, by tier, when it takes another request: a part of its concurrency limit
    /// and of its KV memory. A closed tier reopens 0.05 lower, the highest at once.
    pub ceilings: PerTier<f64>,
    /// The engine's own number of slots, when it is known and the engine does not report it.
    pub slots_max: Option<u32>,
    /// Holds the concurrency limit of every replica at this number instead of learning it.
    pub fixed_limit: Option<f64>,
    /// Where the concurrency limit of a replica starts (and returns to when idle), requests.
    pub limit_start: f64,
    /// Tokens that the engine computes in one step (`max_num_batched_tokens`). `None`: 2,048 until the
    /// engine's metrics say otherwise.
    pub step_budget: Option<u32>,
    /// KV memory of one replica in tokens. `None`: from the engine's metrics, else learnt from answers that pause.
    pub kv_tokens: Option<u64>,
    /// How often engine metrics are read. A reading counts for three times that, and no less than 3 s.
    pub scrape_interval: Duration,
    /// How much may wait.
    pub queue: QueueBounds,
    /// Whether the engine is known to stop computing when its client disconnects.
    pub aborts_on_disconnect: bool,
    /// Whether a regular request that has no token yet may be taken back for a waiting priority one. Flex is taken back for
    /// both where the engine aborts, whatever this says, and before any regular one.
    /// Needs `aborts_on_disconnect`.
    pub withdraw: bool,
    /// The largest part of the deployment's places that priority may hold or wait for, 0 … 1; beyond it priority requests
    /// of accounts that have at least as much of it as each would have if all had the same are served as regular. Others
    /// may exceed it, each by as much as that. `None`: no bound.
    pub share_max: Option<f64>,
    /// What long prompts of tiers below the highest are to get at least, as a part (0 … 1) of the share of all requests that
    /// is served. Where higher tiers leave little it can be less. 0: nothing, which serves the most requests, and in an overload hardly any with a long prompt.
    pub size_share_min: f64,
    /// How long a flex request may wait. Not bound to the time to first token, for nobody waits for it.
    pub flex_wait: Duration,
    /// The part of all starts that regular traffic keeps while priority waits, 0 … 0.5.
    pub regular_floor: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            slo: None,
            // Priority may fill a replica; the last 15 % of it are out of regular's reach, which is what
            // a burst of priority needs until running requests end.
            // Flex leaves as much again to both.
            ceilings: PerTier { priority: 1.0, regular: 0.85, flex: 0.70 },
            slots_max: None,
            fixed_limit: None,
            // An 8B model on one A100 keeps 100 ms per token up to about 65 streams; larger and smaller
            // setups are reached from here within 20 s.
            limit_start: 64.0,
            step_budget: None,
            kv_tokens: None,
            // What a gateway asks an engine without being noticed there.
            scrape_interval: Duration::from_secs(1),
            queue: QueueBounds::default(),
            // An engine that goes on computing would make a withdrawn request cost twice.
            aborts_on_disconnect: false,
            withdraw: false,
            share_max: None,
            // At three times the load the longest quarter of regular prompts gets about a third of the mean or more, and all
            // together lose up to a tenth of the requests that they could have; at twice the load nothing is lost.
            size_share_min: 0.4,
            // Half of what the SDKs wait for an answer by themselves (600 s).
            flex_wait: Duration::from_secs(300),
            // Strict priority unless the operator says otherwise.
            regular_floor: 0.0,
        }
    }
}

/// One replica of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaConfig {
    /// The caller's number for it, unique within the deployment.
    pub id: ReplicaId,
    /// This replica's own number of slots, where replicas differ. The smallest known bound counts.
    pub slots_max: Option<u32>,
}

impl ReplicaConfig {
    /// A replica about which nothing is known.
    #[must_use]
    pub const fn new(id: ReplicaId) -> Self {
        Self { id, slots_max: None }
    }
}
