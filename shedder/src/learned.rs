//! What was learnt of a deployment, and what runs on it, for another process to go on with: an upgrade, a standby.
//!
//! Numbers only, in the units of their names, and *durations* instead of moments: two processes have no clock in common. What
//! is missing counts as unknown, so that versions may differ in what they know; what makes no sense is left out. Requests that
//! wait are not in it: they stay where their clients are connected.

use serde::{Deserialize, Serialize};

use crate::offer::ReplicaId;

/// What was learnt of a deployment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Learned {
    /// Of each replica.
    pub replicas: Vec<LearnedReplica>,
    /// Tokens that a content chunk carries.
    pub tokens_per_chunk: Option<f64>,
    /// How long answers are.
    pub answers: Option<LearnedAnswers>,
    /// Seconds that an answered request holds its place.
    pub hold_s: Option<f64>,
    /// Requests that were started per second lately.
    pub starts_per_s: Option<f64>,
    /// What runs: each holds its place until it should have ended.
    pub running: Vec<Running>,
}

/// How long answers are: see the module of that name for what the numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LearnedAnswers {
    /// Tokens that came, fading.
    pub tokens: f64,
    /// Answers that ended, fading.
    pub ends: f64,
    /// Times the mean length that a running answer holds.
    pub held: f64,
}

/// Another process on the same replicas, while one hands over to the next. Each tells its neighbours what runs in it and
/// beyond it, so that all of them together keep to the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbour {
    /// The one that handed over to this one.
    Before,
    /// The one that this one handed over to.
    After,
}

impl Neighbour {
    /// The one on the other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Neighbour::Before => Neighbour::After,
            Neighbour::After => Neighbour::Before,
        }
    }
}

/// What neighbours tell each other, again and again.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// What runs in the process and beyond it.
    pub running: Vec<Running>,
    /// Whether a priority request waits there: nobody starts one of a lower tier meanwhile.
    pub priority_waits: bool,
    /// Whether a regular request waits there: nobody starts a flex one meanwhile.
    pub regular_waits: bool,
}

/// A request that runs in the other process.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Running {
    /// Where.
    pub replica: ReplicaId,
    /// Prompt tokens that it brought there.
    pub prompt_tokens: u32,
    /// Tokens that it holds in the engine's memory.
    pub held_tokens: u64,
    /// Prompt tokens that the engine has still to compute for it.
    pub backlog_tokens: u32,
    /// Seconds until it should have ended.
    pub rest_s: f64,
}

/// What was learnt of one replica.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LearnedReplica {
    /// Which.
    pub id: ReplicaId,
    /// The concurrency limit N, requests.
    pub limit: Option<f64>,
    /// Gap to target, smoothed.
    pub gap_ratio: Option<f64>,
    /// Seconds and tokens of a step, smoothed.
    pub step: Option<(f64, f64)>,
    /// Seconds between tokens, and on a nearly idle replica.
    pub gap_s: Option<f64>,
    /// See `gap_s`.
    pub gap_idle_s: Option<f64>,
    /// Its number of slots as its own queue showed it.
    pub slots: Option<LearnedSlots>,
    /// Prompt tokens per second, as first tokens show it, and as whole answers do.
    pub prefill_per_s: Option<f64>,
    /// See `prefill_per_s`.
    pub prefill_whole_per_s: Option<f64>,
    /// Seconds to the first token of a tiny prompt.
    pub tiny_s: Option<f64>,
    /// Sums of the line of times to first token over tokens.
    pub line: Option<LearnedLine>,
    /// KV tokens that fit, once answers have paused.
    pub kv_fits: Option<f64>,
    /// Times the start that are tried while that is unknown, and most tokens held without a pause.
    pub kv_tried: Option<(f64, f64)>,
    /// KV tokens that the engine told.
    pub kv_told: Option<u64>,
}

/// Slots that an engine's own queue showed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LearnedSlots {
    /// The most that is tried.
    pub most: f64,
    /// How long they are still taken as known, seconds.
    pub known_for_s: f64,
    /// How long they are when they show again, seconds.
    pub hold_s: f64,
}

/// Sums of a fit, each weighted.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LearnedLine {
    /// Weights.
    pub weight: f64,
    /// Tokens.
    pub tokens: f64,
    /// Seconds.
    pub seconds: f64,
    /// Tokens squared.
    pub squares: f64,
    /// Tokens times seconds.
    pub products: f64,
    /// Prompts that counted.
    pub prompts: u32,
    /// Mean seconds beyond the line.
    pub extra: f64,
    /// The part of the prompts that took longer than by chance.
    pub late: f64,
}

/// A number that makes sense: finite, and within bounds.
pub(crate) fn sane(value: Option<f64>, least: f64, most: f64) -> Option<f64> {
    value.filter(|value| value.is_finite()).map(|value| value.clamp(least, most))
}
