//! Withdrawal: a request that has no token yet gives its place to a waiting one of a higher tier.
//!
//! The one way to make room without cutting an answer. Only on engines that are known to stop computing
//! when their client disconnects, once per request, and of regular only in the first half of the request's predicted
//! prefill, so that little work is lost; at most two per decision, of the lowest tier first, there the newest. The place stays booked
//! for one predicted prefill, which is how long the engine may take to notice. The request goes back to the
//! head of its account's queue, a regular one with a fresh deadline, and its client notices nothing.
//!
//! Regular requests are withdrawn only where that is configured. Flex is sold as what gives way: it is withdrawn wherever the
//! engine stops, and at any time before its first token.
//!
//! Cost: O(requests) for each victim that is sought.

use std::time::Duration;

use super::Shedder;
use crate::decision::Verdict;
use crate::offer::RequestId;
use crate::replica::{Block, Booked};
use crate::requests::{Active, Request};
use crate::tier::Tier;

const VICTIMS_MAX: usize = 2;

impl Shedder {
    /// Takes back what may be taken back for requests of higher tiers that wait.
    pub(super) fn withdraw(&mut self, now: Duration) {
        if !self.config.aborts_on_disconnect || !(self.config.withdraw || self.active.flex > 0) {
            return;
        }
        let mut booked: usize = self.replicas.iter().map(|replica| replica.booked.len()).sum();
        let mut left = VICTIMS_MAX;
        for tier in Tier::ALL {
            let waiting = self.queues[tier].totals().requests as usize;
            if waiting == 0 {
                continue;
            }
            if !matches!(self.blocked[tier], Some(Block::Places | Block::Memory | Block::Backlog)) {
                return;
            }
            // What is booked already is for the highest that wait.
            let wanted = waiting.saturating_sub(booked).min(left);
            booked = booked.saturating_sub(waiting);
            for _ in 0..wanted {
                let Some((id, active, until)) = self.newest_victim(now, tier) else { return };
                self.take_back(now, id, &active, until);
                left -= 1;
            }
        }
    }

    fn newest_victim(&self, now: Duration, above: Tier) -> Option<(RequestId, Active, Duration)> {
        let victims = self.requests.iter().filter_map(|(id, request)| {
            let active = request.active()?;
            let half = self.half_prefill(active)?;
            let tier = request.offer.tier;
            (tier > above
                && (self.config.withdraw || tier == Tier::Flex)
                && self.may_take_back(now, request, active, half))
            .then_some((tier, id, *active, now + 2 * half))
        });
        let newest = victims.max_by_key(|(tier, id, active, _)| (*tier, active.since, *id));
        newest.map(|(_, id, active, until)| (id, active, until))
    }

    fn may_take_back(&self, now: Duration, request: &Request, active: &Active, half: Duration) -> bool {
        request.offer.streaming
            && !request.withdrawn
            && !active.token
            && (request.offer.tier == Tier::Flex || now.saturating_sub(active.since) < half)
    }

    fn take_back(&mut self, now: Duration, id: RequestId, active: &Active, until: Duration) {
        self.vacate(now, id, active);
        if let Some(replica) = self.replica_mut(active.replica) {
            replica.start(now, active.uncached, 0);
            let (backlog, prompt) = (active.uncached, active.uncached);
            replica.booked.push(Booked { until, backlog, prompt, kv: 0 });
        }
        let fresh = now + self.waits_max(Tier::Regular).1;
        let longest = self.requests.get(id).map_or(Duration::ZERO, |r| self.waits_max(r.offer.tier).1);
        if let Some(request) = self.requests.get_mut(id) {
            request.withdrawn = true;
            request.until_client = false;
            request.wait_until = fresh.max(request.offer.arrived.saturating_add(longest));
            let offer = request.offer;
            self.queues[offer.tier].charge(offer.account, -i64::from(active.uncached));
        }
        if let Some(mut request) = self.requests.get(id).copied() {
            self.heed_client(now, &mut request);
            if let Some(known) = self.requests.get_mut(id) {
                *known = request;
            }
        }
        self.enqueue(now, id);
        self.counters.withdrawn += 1;
        self.verdicts.push_back(Verdict::Withdraw(id));
    }

    /// Frees the places whose booking is over.
    pub(super) fn release_booked(&mut self, now: Duration) {
        self.replicas.iter_mut().for_each(|replica| replica.release_booked(now));
    }
}
