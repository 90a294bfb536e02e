//! What the shedder answers: admit, wait, or shed with every fact that explains it.

use std::time::Duration;

use crate::offer::{ReplicaId, RequestId};
use crate::tier::Tier;

/// The answer to an offer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decision {
    /// Send it now.
    Admit(Permit),
    /// It waits; exactly one [`Verdict`] follows, at the latest in the tick after its deadline.
    Wait(RequestId),
    /// Refused. Nothing is held and nothing is to be given back.
    Shed(Rejection),
}

/// A place on a replica. Plain data: the caller gives it back by `finish`, `cancel` or `failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    /// The request that holds it.
    pub id: RequestId,
    /// Where to send it.
    pub replica: ReplicaId,
    /// The tier in which it is really served, which is what the client is told.
    pub tier: Tier,
}

/// What became of a request that waited, or is active and must come back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Send it now.
    Admit(Permit),
    /// Refused after waiting. Nothing is held any more.
    Shed(RequestId, Rejection),
    /// Abort this active request upstream: it has no token yet, and it waits again already. Another
    /// verdict follows.
    Withdraw(RequestId),
}

/// Why a request was shed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The prompts ahead of it take longer than its tier may wait.
    Predicted,
    /// Places or KV memory are used up and free up too slowly, or the engine itself refused it.
    Saturated,
    /// The queue, or its tier's share of it, was full.
    QueueFull,
    /// It waited, and gave way to a newcomer of a higher tier or of an account that asked for less.
    Displaced,
    /// It waited as long as its tier may.
    QueueTimeout,
    /// The client's own deadline cannot be met.
    Deadline,
    /// The gateway is shutting down.
    Draining,
    /// No replica is in service.
    NoReplica,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::Predicted,
        Self::Saturated,
        Self::QueueFull,
        Self::Displaced,
        Self::QueueTimeout,
        Self::Deadline,
        Self::Draining,
        Self::NoReplica,
    ];

    /// The name used in headers and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Predicted => "shed-predicted",
            Self::Saturated => "shed-saturated",
            Self::QueueFull => "queue-full",
            Self::Displaced => "displaced",
            Self::QueueTimeout => "queue-timeout",
            Self::Deadline => "deadline",
            Self::Draining => "draining",
            Self::NoReplica => "no-replica",
        }
    }
}

/// What a replica is short of when it takes no request of a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Short {
    /// Places of the tier.
    Places,
    /// Room for prompts that are still to be computed.
    Prompts,
    /// KV memory.
    Memory,
    /// The engine itself refuses more, and asked for a pause.
    Engine,
}

/// What keeps a request of a tier from a place at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Binding {
    /// All places of the tier are taken.
    Places,
    /// Places are left that are kept for the tier above, which had to wait lately.
    HeadRoom,
    /// The replicas still compute as many prompts as the tier may wait for.
    Prompts,
    /// KV memory is full.
    Memory,
    /// The engine itself refuses more, and asked for a pause.
    Engine,
    /// Requests of a tier above wait, and go first.
    TierAbove,
    /// Those that wait may not use the replicas that have room: they lack the model, or answered it with an error.
    OtherReplicas,
    /// No replica is in service.
    NoReplica,
    /// The gateway is shutting down.
    Draining,
}

impl Binding {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Places,
        Self::HeadRoom,
        Self::Prompts,
        Self::Memory,
        Self::Engine,
        Self::TierAbove,
        Self::OtherReplicas,
        Self::NoReplica,
        Self::Draining,
    ];

    /// The name used in the admin API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Places => "places",
            Self::HeadRoom => "head-room",
            Self::Prompts => "prompts",
            Self::Memory => "memory",
            Self::Engine => "engine",
            Self::TierAbove => "tier-above",
            Self::OtherReplicas => "other-replicas",
            Self::NoReplica => "no-replica",
            Self::Draining => "draining",
        }
    }
}

/// A refusal that explains itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rejection {
    /// Why.
    pub reason: Reason,
    /// The tier in which it was judged.
    pub tier: Tier,
    /// When to come back, 1 … 30 s, not yet jittered. `None`: coming back cannot help.
    pub retry_after: Option<Duration>,
    /// The wait that was predicted for it. `None`: not predicted.
    pub predicted_wait: Option<Duration>,
    /// The longest predicted wait with which it would have been let in.
    pub predicted_wait_max: Duration,
    /// How long it waited here, all waits summed.
    pub waited: Duration,
    /// How full the least full replica in service was, 1 = at its limit.
    pub saturation: f64,
    /// The saturation at which its tier closes.
    pub ceiling: f64,
    /// Requests of its tier and above that waited at that moment.
    pub queued: u32,
    /// Replicas are in service, and every one of them was found to lack what the request needs: no such model.
    pub absent: bool,
    /// What was short on the replicas, where that is why.
    pub short: Option<Short>,
}
