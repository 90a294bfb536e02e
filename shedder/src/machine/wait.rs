//! Waiting: into the queue, out of it, room in it, and the end of a wait.
//!
//! A full queue is not a reason to refuse whoever matters more. The newcomer displaces the youngest request
//! of the account with the most waiting tokens per weight in the lowest tier below its own; within its own
//! tier it displaces only an account that has more waiting than its own would have. So one account that
//! fills the queue pays for it itself.
//!
//! A queue is full, too, when it holds more prompt tokens than can be computed in the time that may be waited.

use std::time::Duration;

use super::Shedder;
use crate::config::QueueBounds;
use crate::decision::{Reason, Verdict};
use crate::offer::RequestId;
use crate::queue::Totals;
use crate::requests::{Request, Stage};
use crate::tier::Tier;

/// Whether `totals` fit into `share` of the bounds. A tier that may wait at all may wait with one request, however
/// small its share.
fn within(totals: Totals, bounds: &QueueBounds, share: f64) -> bool {
    let least = if share > 0.0 { 1.0 } else { 0.0 };
    f64::from(totals.requests)
        <= (share * f64::from(bounds.requests)).max(least).min(f64::from(bounds.requests))
        && totals.tokens as f64 <= share * bounds.tokens as f64
        && totals.bytes as f64 <= share * bounds.bytes as f64
}

impl Shedder {
    /// Puts a known request into the queue, from now on waiting.
    pub(super) fn enqueue(&mut self, now: Duration, id: RequestId) {
        let Some(request) = self.requests.get_mut(id) else { return };
        request.stage = Stage::Waiting(now);
        let first = !std::mem::replace(&mut request.waited_before, true);
        let tier = request.offer.tier;
        if let Some((user, cost)) = request.turn_of().filter(|_| first) {
            request.turn = self.queues[tier].take_turn(request.offer.account, user, cost);
        }
        let request = *request;
        self.counters.waited[tier] += u64::from(first);
        self.wait_correction.on_wait(tier);
        self.deadlines.insert((request.wait_until, id));
        self.queues[tier].push(request.place(), request.offer.weight, request.held(id));
    }

    /// Takes a waiting request out of the queue, still known.
    pub(super) fn dequeue(&mut self, now: Duration, id: RequestId) {
        let Some(request) = self.requests.get_mut(id) else { return };
        request.waited = request.waited_at(now);
        request.stage = Stage::Waiting(now);
        self.deadlines.remove(&(request.wait_until, id));
        let (place, tier) = (request.place(), request.offer.tier);
        self.queues[tier].remove(place);
    }

    /// A waiting request is about to leave without being served.
    pub(super) fn give_turn_back(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(id) else { return };
        if let Some((user, cost)) = request.turn_of() {
            self.queues[request.offer.tier].give_turn_back(request.offer.account, user, cost);
        }
    }

    /// Sheds a waiting request: its verdict is on the way, and it is no longer known.
    pub(super) fn shed(&mut self, now: Duration, id: RequestId, reason: Reason) {
        self.give_turn_back(id);
        self.dequeue(now, id);
        if let Some(request) = self.requests.remove(id) {
            self.note_waited(request.offer.tier, self.ttft_target());
            if reason == Reason::QueueTimeout {
                self.wait_correction.on_queue_timeout(request.offer.tier, self.size_of(&request.offer));
            }
            let wait = (reason != Reason::Draining).then(|| self.predict_wait(now, &request.offer));
            let wait = wait.filter(|&wait| wait < Duration::MAX);
            let rejection = self.reject(now, &request.offer, reason, request.waited, wait);
            self.verdicts.push_back(Verdict::Shed(id, rejection));
        }
    }

    /// Ends the waits that are over at `now`.
    pub(super) fn expire(&mut self, now: Duration) {
        while let Some(&(until, id)) = self.deadlines.first() {
            if until > now {
                return;
            }
            let by_client = self.requests.get(id).is_some_and(|request| request.until_client);
            let served = self.replicas.iter().any(|replica| self.serves(replica, now));
            let reason = match (by_client, served) {
                (true, _) => Reason::Deadline,
                (false, true) => Reason::QueueTimeout,
                (false, false) => Reason::NoReplica,
            };
            self.shed(now, id, reason);
            // The slot is gone either way, or this would not end.
            self.deadlines.remove(&(until, id));
        }
    }

    /// Sheds what waits for a model that no replica in service has any more. O(1) while nothing is lacking, else O(requests).
    pub(super) fn shed_absent(&mut self, now: Duration) {
        if !self.replicas.iter().any(|replica| replica.absent.is_any()) {
            return;
        }
        let waits_in_vain = |request: &Request| {
            matches!(request.stage, Stage::Waiting(_))
                && request.offer.needs != 0
                && self.is_absent(now, request.offer.needs)
                && !self.replicas.iter().any(|replica| replica.may_have(now, request.offer.needs))
        };
        let waiting = self.requests.iter().filter(|(_, request)| waits_in_vain(request));
        let ids: Vec<RequestId> = waiting.map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| self.shed(now, id, Reason::NoReplica));
    }

    /// Makes room in the queue for `request`, by displacement where needed. Whether there is room.
    pub(super) fn make_room(&mut self, now: Duration, request: &Request) -> bool {
        let tier = request.offer.tier;
        let own = Totals {
            requests: 1,
            tokens: u64::from(request.offer.uncached.least()),
            bytes: request.offer.bytes,
        };
        let in_time = self.tokens_in_time(now, tier);
        loop {
            let bounds = self.config.queue;
            let in_tier = self.queues[tier].totals().plus(own);
            let kept = tier.above().map(|above| self.queues[above].totals()).fold(in_tier, Totals::plus);
            let all = tier.below().map(|below| self.queues[below].totals()).fold(kept, Totals::plus);
            // What would remain if every lower tier gave way.
            let too_long =
                !self.queues[tier].is_empty() && in_time.is_some_and(|most| kept.tokens as f64 > most);
            let own_tier_is_full =
                too_long || !within(in_tier, &bounds, bounds.share[tier]) || !within(kept, &bounds, 1.0);
            let victim = if own_tier_is_full {
                self.heavier_account(request)
            } else if within(all, &bounds, 1.0) {
                return true;
            } else {
                tier.below().find_map(|below| self.queues[below].heaviest()).map(|(_, _, id)| id)
            };
            match victim {
                Some(id) => self.shed(now, id, Reason::Displaced),
                None => return false,
            }
        }
    }

    /// Prompt tokens that the replicas compute in the time that `tier` may wait: more can wait only in vain. `None` while
    /// no prefill rate is known.
    fn tokens_in_time(&self, now: Duration, tier: Tier) -> Option<f64> {
        let mean = self.mean_rate(now)?;
        let serving = self.replicas.iter().filter(|replica| self.serves(replica, now));
        let rate: f64 = serving.map(|replica| replica.prefill.rate(now).unwrap_or(mean)).sum();
        Some(self.terms(now).capacity * rate * self.waits_max(tier).1.as_secs_f64())
    }

    /// The youngest request of an account that has more waiting than the newcomer's would have; where the newcomer's own has
    /// the most and is fair between its users, the last one whose turn is after the newcomer's.
    fn heavier_account(&self, request: &Request) -> Option<RequestId> {
        let offer = &request.offer;
        let queue = &self.queues[offer.tier];
        let tokens = u64::from(offer.uncached.least());
        let (load, account, id) = queue.heaviest()?;
        if let Some(user) = offer.user.filter(|_| account == offer.account) {
            return queue.last_after(account, user);
        }
        let newcomer = queue.load_with(offer.account, offer.weight, tokens);
        (account != offer.account && load > newcomer).then_some(id)
    }

    /// Sheds everything that waits.
    pub(super) fn shed_all(&mut self, now: Duration, reason: Reason) {
        for tier in Tier::ALL {
            loop {
                let first = self.queues[tier].heads().next();
                let Some(id) = first else { break };
                self.shed(now, id, reason);
            }
        }
    }
}
