//! The snapshot of a running deployment.

use std::time::Duration;

use super::Shedder;
use crate::offer::ReplicaId;
use crate::replica::absent::Supply;
use crate::replica::health::Service;
use crate::replica::{Replica, Terms};
use crate::snapshot::{AtRest, QueueSnapshot, ReplicaSnapshot, Snapshot};
use crate::tier::{PerTier, Tier};

const TOP_ACCOUNTS: usize = 10;

impl Shedder {
    /// A copy of the state. Allocates; O(replicas + waiting).
    #[must_use]
    pub fn snapshot(&self, now: Duration) -> Snapshot {
        let terms = self.terms(now);
        Snapshot {
            replicas: self.replica_snapshots(now),
            queue: PerTier::from_fn(|tier| self.queue_snapshot(now, tier)),
            saturation: self.saturation(now),
            ceilings: terms.ceilings,
            pressure: self.pressure.filter(|&(share, until)| share > 0.0 && now < until),
            open: PerTier::from_fn(|tier| {
                let mut serving = self.replicas.iter().filter(|replica| self.serves(replica, now));
                !self.closed && serving.any(|replica| replica.room(now, terms, tier).is_ok())
            }),
            binding: PerTier::from_fn(|tier| self.binding(now, tier)),
            counters: self.counters.clone(),
            at_rest: self.at_rest(),
        }
    }

    /// The numbers in use, those of removed replicas on which something still runs included.
    pub fn replica_ids(&self) -> impl Iterator<Item = ReplicaId> {
        self.replicas.iter().map(|replica| replica.id)
    }

    /// Whether any replica is in service by its own merit, not for want of another. O(replicas).
    #[must_use]
    pub fn has_healthy(&self, now: Duration) -> bool {
        !self.closed && self.replicas.iter().any(|replica| replica.service(now) != Service::Out)
    }

    /// The keys of what `replica` was found to lack, the oldest first; at most 64.
    pub fn absent_on(&self, replica: ReplicaId) -> impl Iterator<Item = u64> {
        self.replica(replica).into_iter().flat_map(|replica| replica.absent.needs())
    }

    /// Whether replicas are in service and each of them was found to lack `needs`. O(replicas).
    #[must_use]
    pub fn is_absent(&self, now: Duration, needs: u64) -> bool {
        let mut serving = self.replicas.iter().filter(|replica| self.serves(replica, now)).peekable();
        serving.peek().is_some() && serving.all(|replica| replica.absent.supply(now, needs) != Supply::Has)
    }

    /// The state of one replica; `None` if there is no such one. Does not allocate; O(replicas).
    #[must_use]
    pub fn replica_snapshot(&self, now: Duration, id: ReplicaId) -> Option<ReplicaSnapshot> {
        self.replica(id).map(|replica| snapshot_of(replica, now, self.terms(now)))
    }

    fn replica_snapshots(&self, now: Duration) -> Vec<ReplicaSnapshot> {
        let terms = self.terms(now);
        self.replicas.iter().map(|replica| snapshot_of(replica, now, terms)).collect()
    }

    fn queue_snapshot(&self, now: Duration, tier: Tier) -> QueueSnapshot {
        let queue = &self.queues[tier];
        let totals = queue.totals();
        QueueSnapshot {
            requests: totals.requests,
            tokens: totals.tokens,
            bytes: totals.bytes,
            oldest_wait: queue.oldest().map_or(Duration::ZERO, |at| now.saturating_sub(at)),
            top_accounts: queue.top(TOP_ACCOUNTS),
        }
    }

    fn at_rest(&self) -> AtRest {
        let sum = |of: fn(&Replica) -> u64| self.replicas.iter().map(of).sum();
        let queued = |of: fn(crate::queue::Totals) -> u64| {
            self.queues.iter().map(|(_, queue)| of(queue.totals())).sum()
        };
        AtRest {
            requests: self.requests.count(),
            active: sum(|replica| u64::from(replica.active)),
            with_token: sum(|replica| u64::from(replica.with_token)),
            backlog_tokens: sum(|replica| replica.backlog),
            kv_tokens: sum(|replica| replica.memory.booked()),
            queued_requests: queued(|totals| u64::from(totals.requests)),
            queued_tokens: queued(|totals| totals.tokens),
            queued_bytes: queued(|totals| totals.bytes),
            verdicts: self.verdicts.len() as u64,
            booked: sum(|replica| replica.places_booked() as u64),
            ghosts: sum(|replica| u64::from(replica.ghosts.count())),
        }
    }
}

fn snapshot_of(replica: &Replica, now: Duration, terms: Terms) -> ReplicaSnapshot {
    ReplicaSnapshot {
        id: replica.id,
        active: replica.active,
        with_token: replica.with_token,
        limit: replica.limit_now(now, terms),
        backlog_tokens: replica.backlog,
        kv_tokens: replica.memory.used(now) as u64,
        kv_capacity_tokens: replica.memory.capacity().map(|tokens| tokens as u64),
        kv_learnt_tokens: replica.memory.learnt(replica.active, terms.answer).map(|tokens| tokens as u64),
        saturation: replica.saturation(now, terms),
        healthy: replica.service(now) != Service::Out,
        answers: replica.health.service(now) != Service::Out,
        drained: replica.drained,
        ghosts: replica.ghosts.count(),
        evidence: replica.evidence.bodies(now) as u32,
        absent: replica.absent.needs().count() as u32,
        prefill_rate: replica.prefill.rate(now),
        lag: replica.prefill.lag_known().map(super::admit::seconds),
        slots: replica.slots_told(),
        gap: replica.limit.gap(),
        gap_target: replica.limit.target().map(super::admit::seconds),
        scrape_age: replica.scrape_age(now),
    }
}
