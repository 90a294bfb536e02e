//! Whose turn it is within a tier: what the next of a tier may do when it has waited for long.
//!
//! Prompts are paced (`placement`), and small ones fit beside a running one where a long one does not. Let pass for ever,
//! they would keep long ones from starting at all, although it is the long one's turn. So the next request of a tier, by
//! the fair order of the queue, may be overtaken only for a while:
//!
//! ```text
//! waited for a part of its longest wait:  a replica is kept for it, the one with the least to compute,
//!                                         until it starts there; large prompts start wherever one is free
//! priority, the longer it waits:          pace · (1 + 3 · (waited / longest wait)^4)
//!                                         N    · (1 + 0.2 · (waited / longest wait)^4)
//! ```
//!
//! The part is 0.25 for priority, and 0.5 for flex. For regular it follows what long prompts get (`size_share`). Only the next request of
//! a tier has this right, so an account with many that wait has no more of it than another. Where one replica serves nothing
//! is kept: keeping it would stop everybody.
//!
//! A priority request that is about to be refused makes some answers a little slower instead of going away: pace and N are
//! set so that *short* answers stay in time, and a token that is late costs less than a request that is refused. Slots that
//! an engine has, or was seen to have, are not stretched.
//!
//! Cost: O(log n + replicas).

use std::time::Duration;

use super::Shedder;
use crate::offer::ReplicaId;
use crate::requests::Request;
use crate::tier::Tier;

/// The part of its longest wait for which the next priority request may be overtaken by smaller ones.
const PRIORITY_OVERTAKEN_FOR: f64 = 0.25;
/// The same of a flex request: its wait is minutes, and others' first tokens are worth more than its turn.
const FLEX_OVERTAKEN_FOR: f64 = 0.5;
/// How much more than a pace of prompts, and more than N requests, one that has nearly waited for its longest wait may make.
const PACE_MORE: f64 = 3.0;
const PLACES_MORE: f64 = 0.2;
/// Nearly all of it comes in the last third of the wait.
const LATE_IN_THE_WAIT: i32 = 4;

/// What a request may do beyond what all of its tier may.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rights {
    /// It is the next of its tier and has been overtaken for long enough.
    pub(super) due: bool,
    /// Paces of prompts that may be computed together with it.
    pub(super) paces: f64,
    /// Times the limit N.
    pub(super) places: f64,
}

impl Shedder {
    /// The rights of `request`.
    pub(super) fn rights(&self, now: Duration, request: &Request) -> Rights {
        let tier = request.offer.tier;
        let first = self.first_of(tier).is_some_and(|first| first.seq == request.seq);
        let urgency =
            if tier == Tier::Priority { self.part_waited(now, request).powi(LATE_IN_THE_WAIT) } else { 0.0 };
        Rights {
            due: first && self.was_overtaken_long(now, request),
            paces: 1.0 + PACE_MORE * urgency,
            places: 1.0 + PLACES_MORE * urgency,
        }
    }

    /// The replica that is kept from `request` for the next of its tier.
    pub(super) fn kept_from(&self, now: Duration, request: &Request) -> Option<ReplicaId> {
        let tier = request.offer.tier;
        let first = self.first_of(tier)?;
        if first.seq == request.seq || !self.was_overtaken_long(now, first) {
            return None;
        }
        let serving = self.replicas.iter().filter(|replica| self.serves(replica, now));
        if serving.count() < 2 {
            return None;
        }
        let terms = self.terms(now);
        let open = self.replicas.iter().filter(|replica| {
            self.serves(replica, now)
                && self.may_use(now, replica, first)
                && replica.room(now, terms, tier).is_ok()
        });
        open.min_by_key(|replica| replica.backlog).map(|replica| replica.id)
    }

    fn first_of(&self, tier: Tier) -> Option<&Request> {
        self.requests.get(self.queues[tier].heads().next()?)
    }

    fn was_overtaken_long(&self, now: Duration, request: &Request) -> bool {
        let most = match request.offer.tier {
            Tier::Priority => PRIORITY_OVERTAKEN_FOR,
            Tier::Regular => self.size_share.overtaken_for(),
            Tier::Flex => FLEX_OVERTAKEN_FOR,
        };
        most < 1.0 && self.part_waited(now, request) >= most
    }

    /// The part of its longest wait that a request has waited for.
    fn part_waited(&self, now: Duration, request: &Request) -> f64 {
        let longest = self.waits_max(request.offer.tier).1.as_secs_f64().max(0.001);
        (request.waited_at(now).as_secs_f64() / longest).min(1.0)
    }
}
