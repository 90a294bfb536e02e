//! What keeps a request of a tier from a place now: what operators read beside a queue, in the terms of refusals.

use std::time::Duration;

use super::Shedder;
use crate::decision::Binding;
use crate::replica::{Block, Terms};
use crate::tier::Tier;

impl Shedder {
    /// What a request of `tier` that came now would wait for. `None`: nothing, it would start unless its prompt is very long.
    /// O(replicas).
    pub(super) fn binding(&self, now: Duration, tier: Tier) -> Option<Binding> {
        if self.closed {
            return Some(Binding::Draining);
        }
        if tier.above().any(|above| !self.queues[above].is_empty()) {
            return Some(Binding::TierAbove);
        }
        let waiting = self.blocked[tier].filter(|_| !self.queues[tier].is_empty());
        let block = waiting.or_else(|| self.shortest(now, tier))?;
        Some(match block {
            Block::Places | Block::Memory if self.is_kept_for_above(now, tier) => Binding::HeadRoom,
            Block::Places => Binding::Places,
            Block::Memory => Binding::Memory,
            Block::Backlog => Binding::Prompts,
            Block::Busy => Binding::Engine,
            Block::NoReplica => Binding::NoReplica,
            Block::Restricted => Binding::OtherReplicas,
        })
    }

    /// Why no replica takes a request of `tier`, by the one that lacks least.
    fn shortest(&self, now: Duration, tier: Tier) -> Option<Block> {
        let terms = self.terms(now);
        let mut least = Block::NoReplica;
        for replica in self.replicas.iter().filter(|replica| self.serves(replica, now)) {
            least = least.min(replica.room(now, terms, tier).err()?);
        }
        Some(least)
    }

    /// Whether a replica would take it, were nothing kept for the tier above.
    fn is_kept_for_above(&self, now: Duration, tier: Tier) -> bool {
        let terms = Terms { ceilings: self.config.ceilings, ..self.terms(now) };
        let mut serving = self.replicas.iter().filter(|replica| self.serves(replica, now));
        serving.any(|replica| replica.is_below_ceiling(now, terms, tier))
    }
}
