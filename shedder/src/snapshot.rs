//! A copy of the state for people: metrics, the admin API, the console, and tests.

use std::time::Duration;

use crate::decision::{Binding, Reason};
use crate::offer::ReplicaId;
use crate::tier::{PerTier, Tier};

/// The state of a deployment at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// Every replica, in the order of the configuration.
    pub replicas: Vec<ReplicaSnapshot>,
    /// What waits, by tier.
    pub queue: PerTier<QueueSnapshot>,
    /// Saturation of the least full replica in service; 1 when none is.
    pub saturation: f64,
    /// How full a replica may be now, by tier: as configured or set, less what is kept for priority.
    pub ceilings: PerTier<f64>,
    /// The share of the capacity that is pretended to be gone, and until when.
    pub pressure: Option<(f64, Duration)>,
    /// Whether some replica in service is open, by tier.
    pub open: PerTier<bool>,
    /// What a request of each tier would wait for. `None`: it would start.
    pub binding: PerTier<Option<Binding>>,
    /// What has happened since the start.
    pub counters: Counters,
    /// What must be zero when nothing is running and nothing waits.
    pub at_rest: AtRest,
}

impl Snapshot {
    /// The replicas that requests are sent to. O(replicas).
    pub fn in_service(&self) -> impl Iterator<Item = &ReplicaSnapshot> {
        self.replicas.iter().filter(|replica| replica.healthy && !replica.drained)
    }

    /// Requests that they may have at once, together. O(replicas).
    #[must_use]
    pub fn limit(&self) -> f64 {
        // A sum of nothing would be -0, and be told as that.
        self.in_service().fold(0.0, |sum, replica| sum + replica.limit)
    }

    /// The shed requests of `tier`.
    #[must_use]
    pub fn shed(&self, tier: Tier) -> u64 {
        self.counters.shed[tier].total()
    }
}

/// One replica.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ReplicaSnapshot {
    /// Which.
    pub id: ReplicaId,
    /// Dispatched, unfinished requests.
    pub active: u32,
    /// Those of them that have a token.
    pub with_token: u32,
    /// The concurrency limit in force, requests.
    pub limit: f64,
    /// Uncached prompt tokens sent whose first token has not come.
    pub backlog_tokens: u64,
    /// KV tokens in use, own count or scraped.
    pub kv_tokens: u64,
    /// KV tokens that it has, when known.
    pub kv_capacity_tokens: Option<u64>,
    /// KV tokens that may be held, learnt from answers that pause, where the capacity is not known.
    pub kv_learnt_tokens: Option<u64>,
    /// max(KV, places), 1 = at the limit.
    pub saturation: f64,
    /// Whether requests are sent to it.
    pub healthy: bool,
    /// Whether it has not failed: what an operator drained answers and is sent nothing.
    pub answers: bool,
    /// Whether an operator drained it.
    pub drained: bool,
    /// Places of requests that failed quickly, which count when replicas are compared and are not in `active`.
    pub ghosts: u32,
    /// Different bodies that failed on it and were served elsewhere within the last minute.
    pub evidence: u32,
    /// How many models or routes it was found to lack; see [`absent_on`](crate::Shedder::absent_on).
    pub absent: u32,
    /// Prefill rate in tokens per second, when known.
    pub prefill_rate: Option<f64>,
    /// What every first token takes beside its prompt's computing, when known.
    pub lag: Option<Duration>,
    /// The engine's slots as far as anyone told.
    pub slots: Option<u32>,
    /// Smoothed time per token, when known.
    pub gap: Option<Duration>,
    /// The time per token that is aimed at: below the one that is promised, or learnt where none is.
    pub gap_target: Option<Duration>,
    /// Time since the last engine metrics, when there were any.
    pub scrape_age: Option<Duration>,
}

/// What waits in a tier.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueueSnapshot {
    /// Requests.
    pub requests: u32,
    /// Uncached prompt tokens.
    pub tokens: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Wait of the oldest.
    pub oldest_wait: Duration,
    /// The accounts with the most waiting tokens per weight, at most ten: account, requests, tokens.
    pub top_accounts: Vec<(u64, u32, u64)>,
}

/// What has happened since the start. Only grows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    /// Requests admitted, by the tier in which they were served, each once.
    pub admitted: PerTier<u64>,
    /// Requests that had to wait at least once.
    pub waited: PerTier<u64>,
    /// Requests shed, by tier and reason.
    pub shed: PerTier<ShedCounts>,
    /// Regular requests by the length of their prompts.
    pub lengths: Lengths,
    /// Active requests taken back before their first token.
    pub withdrawn: u64,
    /// Requests sent again after a failure, by the retry budget.
    pub retries: u64,
    /// Requests sent elsewhere without the retry budget, because nothing had been computed.
    pub sent_elsewhere: u64,
    /// Errors of unknown cause that replicas answered with.
    pub unexplained: u64,
    /// Answers that the replica lacks what the request needs.
    pub absent: u64,
    /// Replicas ejected because they failed what others served.
    pub outliers: u64,
    /// Priority requests served as regular because of `share_max`.
    pub downgraded: u64,
    /// Calls about a request that is not, or no longer, known: 0 unless the caller has a fault.
    pub unknown_ids: u64,
}

/// Requests by the length of their prompts: long ones are computed alone, because they take longer than one token of a
/// running answer may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lengths {
    /// Those that fit beside others.
    pub short: LengthCounts,
    /// Those that do not.
    pub long: LengthCounts,
}

/// Requests of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LengthCounts {
    /// Came, each time that they came.
    pub offered: u64,
    /// Were started, each time.
    pub started: u64,
}

impl Lengths {
    pub(crate) fn of(&mut self, long: bool) -> &mut LengthCounts {
        if long { &mut self.long } else { &mut self.short }
    }
}

/// Shed requests by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShedCounts([u64; Reason::ALL.len()]);

impl ShedCounts {
    /// How many were shed for `reason`.
    #[must_use]
    pub fn of(&self, reason: Reason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or_default()
    }

    /// How many were shed for any reason.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(crate) fn count(&mut self, reason: Reason) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count += 1;
        }
    }
}

/// Sums over the whole state. All are zero when every request has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AtRest {
    /// Requests known: waiting or active.
    pub requests: u64,
    /// Active requests of all replicas.
    pub active: u64,
    /// Active requests that have a token.
    pub with_token: u64,
    /// Backlog of all replicas, tokens.
    pub backlog_tokens: u64,
    /// Own count of KV tokens of all replicas.
    pub kv_tokens: u64,
    /// Waiting requests.
    pub queued_requests: u64,
    /// Waiting tokens.
    pub queued_tokens: u64,
    /// Waiting bytes.
    pub queued_bytes: u64,
    /// Verdicts not yet taken.
    pub verdicts: u64,
    /// Places still booked for withdrawn requests.
    pub booked: u64,
    /// Ghosts of requests that failed quickly; they vanish in the ticks of the next ten seconds.
    pub ghosts: u64,
}

impl AtRest {
    /// Whether everything is zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_without_a_replica_in_service_has_a_limit_of_nothing_without_a_sign() {
        let down = ReplicaSnapshot { limit: 8.0, ..ReplicaSnapshot::default() };
        let drained = ReplicaSnapshot { healthy: true, drained: true, ..down };
        let mut state = Snapshot { replicas: vec![down, drained], ..Snapshot::default() };
        assert_eq!(state.limit().to_bits(), 0.0_f64.to_bits());
        state.replicas.extend([ReplicaSnapshot { healthy: true, ..down }; 2]);
        assert_eq!(state.limit(), 16.0);
    }
}
