//! Admission: the answer to an offer, and who is next when a place becomes free.
//!
//! A tier that is closed waits; nothing is shed because it is closed. At arrival a request is only refused
//! when it could not be served in time: by prediction, by its own deadline, because the queue is full, or
//! because no replica is in service.

use std::time::Duration;

use super::{Shedder, headroom};
use crate::decision::{Decision, Permit, Reason, Verdict};
use crate::offer::{Offer, RequestId};
use crate::replica::Block;
use crate::requests::{Active, Request, Stage};
use crate::tier::Tier;

use super::placement::Placed;

/// First requests of so many accounts are tried when those before them are too large to start now.
const HEADS_MAX: usize = 16;
/// Without a prefill rate an unseen prefill is taken to last this part of the TTFT target.
const UNSEEN_OF_TARGET: f64 = 0.25;
/// The part of a replica's backlog that is still to be computed when another prompt comes, on average.
const UNSEEN_LEFT: f64 = 0.5;
/// Seconds beside the computing of an unseen prompt: the way into the engine, and the step that is under way.
const UNSEEN_OVERHEAD: f64 = 0.04;

impl Shedder {
    /// Asks for a place. O(log n + replicas); does not allocate on the way to `Admit`.
    pub fn offer(&mut self, now: Duration, offer: Offer) -> Decision {
        self.catch_up(now);
        let request = self.judge(now, offer);
        let offer = request.offer;
        self.came[offer.tier].count(now, offer.uncached.least());
        if offer.tier == Tier::Priority {
            self.priority_seen = Some(now);
        }
        if let Some(reason) = self.out_of_service(now, offer.needs) {
            return Decision::Shed(self.reject(now, &offer, reason, Duration::ZERO, None));
        }
        if request.until_client && request.wait_until <= now {
            return Decision::Shed(self.reject(now, &offer, Reason::Deadline, Duration::ZERO, None));
        }
        self.relatch(now);
        let block = match self.place_newcomer(now, &request) {
            Ok(placed) => {
                let id = self.requests.insert(request);
                return Decision::Admit(self.start(now, id, placed));
            }
            Err(block) => block,
        };
        self.turned_by = Some(block);
        if let Some((reason, wait)) = self.too_late(now, &request, block) {
            if matches!(reason, Reason::Predicted | Reason::Saturated) {
                self.wait_correction.on_refused_at_arrival(offer.tier, self.size_of(&offer));
            }
            return Decision::Shed(self.reject(now, &offer, reason, Duration::ZERO, wait));
        }
        if !self.make_room(now, &request) {
            let nothing_waits = self.config.queue.requests == 0;
            let reason = if nothing_waits { Reason::Saturated } else { Reason::QueueFull };
            return Decision::Shed(self.reject(now, &offer, reason, Duration::ZERO, None));
        }
        let id = self.requests.insert(request);
        self.enqueue(now, id);
        self.withdraw(now);
        Decision::Wait(id)
    }

    /// A place now or nothing: neither waits nor refuses. For models with several deployments, which are
    /// asked in order before the request waits at one of them ([`predict_wait`](Self::predict_wait)).
    pub fn try_admit(&mut self, now: Duration, offer: Offer) -> Option<Permit> {
        self.catch_up(now);
        if offer.tier == Tier::Priority {
            self.priority_seen = Some(now);
        }
        let before = (self.counters.downgraded, self.counters.lengths, self.size_share);
        let request = self.judge(now, offer);
        let in_time = !(request.until_client && request.wait_until <= now);
        if self.out_of_service(now, offer.needs).is_none() && in_time {
            self.relatch(now);
            if let Ok(placed) = self.place_newcomer(now, &request) {
                let id = self.requests.insert(request);
                return Some(self.start(now, id, placed));
            }
        }
        // Asking is not being served as regular: the offer that follows counts.
        (self.counters.downgraded, self.counters.lengths, self.size_share) = before;
        None
    }

    /// What the clock alone has changed since the last call.
    fn catch_up(&mut self, now: Duration) {
        if self.unseen.next().is_some_and(|at| at <= now) {
            self.pump(now);
        } else {
            self.expire(now);
        }
    }

    /// The request as it will be treated: its tier, and when its wait ends.
    fn judge(&mut self, now: Duration, mut offer: Offer) -> Request {
        offer.arrived = offer.arrived.min(now);
        if offer.tier == Tier::Priority && self.exceeds_priority_share(now, offer.account) {
            offer.tier = Tier::Regular;
            self.counters.downgraded += 1;
        }
        self.offers += 1;
        if offer.tier == Tier::Regular {
            let long = self.goes_alone(&offer);
            self.size_share.on_offer(long);
            self.counters.lengths.of(long).offered += 1;
        }
        self.lone_account.on_offer(now, offer.account);
        let mut request = Request {
            offer,
            seq: self.offers,
            wait_until: offer.arrived.saturating_add(self.waits_max(offer.tier).1),
            until_client: false,
            waited: Duration::ZERO,
            retried: false,
            withdrawn: false,
            admitted_before: false,
            waited_before: false,
            turn: 0,
            avoid: None,
            refused: None,
            stage: Stage::Waiting(now),
        };
        self.heed_client(now, &mut request);
        request
    }

    /// A client's deadline is one for the first token: its prefill has to fit in front of it.
    pub(super) fn heed_client(&self, now: Duration, request: &mut Request) {
        let Some(deadline) = request.offer.deadline else { return };
        let prefill = self.own_prefill(now, &request.offer).unwrap_or(Duration::ZERO);
        let latest = deadline.saturating_sub(prefill);
        if latest < request.wait_until {
            request.wait_until = latest;
            request.until_client = true;
        }
    }

    /// Whether priority has its share and `account` as much of it as each account that asks for priority: who floods the
    /// tier is served as regular, and not those beside it.
    fn exceeds_priority_share(&self, now: Duration, account: u64) -> bool {
        let Some(share) = self.config.share_max else { return false };
        let terms = self.terms(now);
        let serving = self.replicas.iter().filter(|replica| self.serves(replica, now));
        let places: f64 = serving.map(|replica| replica.limit_now(now, terms)).sum();
        let held = self.active.priority + self.queues.priority.totals().requests;
        let most = (share * places).floor().max(1.0);
        let (own, each) = self.queues.priority.held_by(account, most);
        f64::from(held) >= most && own >= each.max(1.0)
    }

    fn out_of_service(&self, now: Duration, needs: u64) -> Option<Reason> {
        if self.closed {
            Some(Reason::Draining)
        } else {
            let served =
                self.replicas.iter().any(|replica| self.serves(replica, now) && replica.may_have(now, needs));
            (!served).then_some(Reason::NoReplica)
        }
    }

    /// A place for a newcomer, if nobody who could use it waits: an empty queue, or one in which every
    /// first request is too large to start now.
    fn place_newcomer(&mut self, now: Duration, request: &Request) -> Result<Placed, Block> {
        let tier = request.offer.tier;
        if let Some(above) = tier.above().find(|&above| !self.queues[above].is_empty()) {
            return Err(self.blocked[above].unwrap_or(Block::Backlog));
        }
        if self.above_waits_elsewhere(now, tier) {
            return Err(Block::Places);
        }
        let queue = &self.queues[tier];
        if !queue.is_empty() {
            let block = self.blocked[tier].unwrap_or(Block::Places);
            let stuck =
                matches!(block, Block::Backlog | Block::Restricted) && queue.accounts_waiting() <= HEADS_MAX;
            if !stuck || queue.waits(request.offer.account) {
                return Err(block);
            }
        }
        let placed = self.place(now, request, tier);
        if let Err(block) = placed {
            self.note_blocked(now, tier, block);
        }
        placed
    }

    /// Whether who waits in `tier` has waited for long, or will have before all of them have places.
    fn waits_for_long(&self, now: Duration, tier: Tier) -> bool {
        let queue = &self.queues[tier];
        if self.place_after(now, queue.totals().requests.max(1)) >= headroom::LONG {
            return true;
        }
        let long = self.ttft_target().mul_f64(headroom::LONG);
        let mut heads = queue.heads().take(HEADS_MAX);
        heads.any(|id| self.requests.get(id).is_some_and(|request| request.waited_at(now) >= long))
    }

    fn note_blocked(&mut self, now: Duration, tier: Tier, block: Block) {
        self.blocked[tier] = Some(block);
        if tier != Tier::Flex && self.waits_for_long(now, tier) {
            if tier == Tier::Priority && matches!(block, Block::Places | Block::Memory) {
                self.headroom.on_short();
            }
            self.headroom.on_above_short();
        }
        // A limit grows for who could use it: flex would fill it with what the others then find taken.
        if tier == Tier::Flex {
            return;
        }
        if block == Block::Places {
            let terms = self.terms(now);
            for replica in &mut self.replicas {
                if replica.room(now, terms, tier) == Err(Block::Places) {
                    replica.limit.on_wanted();
                }
            }
        }
        if block == Block::Memory {
            self.replicas.iter_mut().for_each(|replica| replica.memory.ceiling.on_wanted());
        }
    }

    /// Ends waits and unseen prefills that are over, then starts whatever can start. To be called after every change.
    pub(super) fn pump(&mut self, now: Duration) {
        self.expire(now);
        self.release_unseen(now);
        self.relatch(now);
        while let Some((id, placed)) = self.next_start(now) {
            self.dequeue(now, id);
            let permit = self.start(now, id, placed);
            self.verdicts.push_back(Verdict::Admit(permit));
            self.relatch(now);
        }
        self.withdraw(now);
    }

    /// The next request to start, strictly by tier: while a higher tier waits, for whatever reason, a
    /// lower one waits too, except for its floor.
    fn next_start(&mut self, now: Duration) -> Option<(RequestId, Placed)> {
        if self.floor_credit >= 1.0 && !self.queues.priority.is_empty() {
            // Its turn: regular may fill the place that priority could have had.
            if let Ok(Some(next)) = self.next_of(now, Tier::Regular, Tier::Priority) {
                self.floor_credit -= 1.0;
                return Some(next);
            }
        }
        for tier in Tier::ALL {
            if self.above_waits_elsewhere(now, tier) {
                self.note_blocked(now, tier, Block::Places);
                return None;
            }
            match self.next_of(now, tier, tier) {
                Ok(Some(next)) => {
                    self.credit_floor();
                    return Some(next);
                }
                Ok(None) => self.blocked[tier] = None,
                Err(block) => {
                    self.note_blocked(now, tier, block);
                    return None;
                }
            }
        }
        None
    }

    fn credit_floor(&mut self) {
        if !self.queues.priority.is_empty() && !self.queues.regular.is_empty() {
            self.floor_credit = (self.floor_credit + self.config.regular_floor).min(1.0);
        }
    }

    /// The next request of `tier`, placed by the rights of `rights`.
    fn next_of(&self, now: Duration, tier: Tier, rights: Tier) -> Result<Option<(RequestId, Placed)>, Block> {
        let mut blocked = None;
        for id in self.queues[tier].heads().take(HEADS_MAX) {
            let Some(request) = self.requests.get(id) else { continue };
            match self.place(now, request, rights) {
                Ok(placed) => return Ok(Some((id, placed))),
                // Only a smaller request could do better than one that is too large, or one that may go anywhere.
                Err(block @ (Block::Backlog | Block::Restricted)) => {
                    blocked = Some(blocked.map_or(block, |other: Block| other.min(block)));
                }
                Err(block) => return Err(block),
            }
        }
        blocked.map_or(Ok(None), Err)
    }

    /// Gives `id` a place.
    pub(super) fn start(&mut self, now: Duration, id: RequestId, placed: Placed) -> Permit {
        let unseen = self.ttft_target().mul_f64(UNSEEN_OF_TARGET);
        if let Some(request) = self.requests.get(id).filter(|request| request.offer.tier == Tier::Regular) {
            let long = self.goes_alone(&request.offer);
            self.size_share.on_start(long);
            self.counters.lengths.of(long).started += 1;
        }
        let mut permit = Permit { id, replica: placed.replica, tier: Tier::Regular };
        let Some(replica) = self.replicas.iter_mut().find(|replica| replica.id == placed.replica) else {
            return permit;
        };
        let Some(request) = self.requests.get_mut(id) else { return permit };
        let (offer, waited, turn) = (request.offer, request.waited, request.turn);
        permit.tier = offer.tier;
        let output = if offer.has_output { offer.expected_output / 2 } else { 0 };
        let kv = u64::from(placed.uncached) + u64::from(output);
        // What was learnt, not what it has drifted to: a hope is not a measure of lateness.
        let ttft = replica.prefill.learnt().map(|rate| {
            seconds(replica.prefill.first_token_after(replica.queued(), f64::from(placed.uncached), rate))
        });
        let unseen_until = now
            + replica.prefill.learnt().map_or(unseen, |rate| {
                let tokens = UNSEEN_LEFT * replica.backlog as f64 + f64::from(placed.uncached);
                seconds(UNSEEN_OVERHEAD + tokens / rate)
            });
        let is_unseen = request.is_unseen();
        request.stage = Stage::Active(Active {
            replica: placed.replica,
            since: now,
            sent: None,
            uncached: placed.uncached,
            backlog: placed.uncached,
            kv,
            computed_before: replica.computed_tokens(),
            beside_before: replica.active,
            alone: replica.is_free(now),
            silent_before: replica.silent_until(now),
            ttft,
            unseen_until,
            token: false,
            generated: 0.0,
            charged: 0,
        });
        replica.start(now, placed.uncached, kv);
        replica.absent.on_start(id, offer.needs);
        let first = !std::mem::replace(&mut request.admitted_before, true);
        if is_unseen {
            replica.on_unseen(true);
            self.unseen.push(unseen_until, id, &self.requests);
        }
        self.counters.admitted[offer.tier] += u64::from(first);
        self.active[offer.tier] += 1;
        if offer.user.is_some() {
            self.queues[offer.tier].serve_turn(offer.account, turn);
        }
        self.queues[offer.tier].start(offer.account, offer.weight, placed.uncached);
        self.started.count(now, 1);
        self.drain.on_start(placed.uncached);
        self.note_waited(offer.tier, waited);
        self.retries.on_dispatched(now);
        permit
    }

    /// A request of `tier` waited so long until it was started, or was refused.
    pub(super) fn note_waited(&mut self, tier: Tier, waited: Duration) {
        if tier == Tier::Priority && self.blocked[tier] == Some(Block::Backlog) {
            self.prefill_room.on_waited(waited.as_secs_f64() / self.ttft_target().as_secs_f64());
        }
    }

    pub(super) fn relatch(&mut self, now: Duration) {
        let terms = self.terms(now);
        self.replicas.iter_mut().for_each(|replica| replica.relatch(now, terms));
    }
}

/// Seconds as a duration; what is out of range is very long.
pub(super) fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.clamp(0.0, 1e6)).unwrap_or(Duration::from_secs(1_000_000))
}
