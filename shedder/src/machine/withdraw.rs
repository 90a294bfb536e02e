//! Withdrawal: a regular request that has no token yet gives its place to a waiting priority request.
//!
//! The one way to make room without cutting an answer. Only on engines that are known to stop computing
//! when their client disconnects, once per request, and only in the first half of the request's predicted
//! prefill, so that little work is lost; at most two per decision, the newest first. The place stays booked
//! for one predicted prefill, which is how long the engine may take to notice. The request goes back to the
//! head of its account's queue with a fresh deadline, and its client notices nothing.

use std::time::Duration;

use super::Shedder;
use crate::decision::Verdict;
use crate::offer::RequestId;
use crate::replica::{Block, Booked};
use crate::requests::{Active, Request};
use crate::tier::Tier;

const VICTIMS_MAX: usize = 2;

impl Shedder {
    /// Takes back what may be taken back for the priority requests that wait.
    pub(super) fn withdraw(&mut self, now: Duration) {
        if !(self.config.withdraw && self.config.aborts_on_disconnect) {
            return;
        }
        if !matches!(self.blocked[Tier::Priority], Some(Block::Places | Block::Memory | Block::Backlog)) {
            return;
        }
        let booked: usize = self.replicas.iter().map(|replica| replica.booked.len()).sum();
        let waiting = self.queues.priority.totals().requests as usize;
        for _ in 0..waiting.saturating_sub(booked).min(VICTIMS_MAX) {
            let Some((id, active, until)) = self.newest_victim(now) else { return };
            self.take_back(now, id, &active, until);
        }
    }

    fn newest_victim(&self, now: Duration) -> Option<(RequestId, Active, Duration)> {
        let victims = self.requests.iter().filter_map(|(id, request)| {
            let active = request.active()?;
            let half = self.half_prefill(active)?;
            self.may_take_back(now, request, active, half).then_some((id, *active, now + 2 * half))
        });
        victims.max_by_key(|(id, active, _)| (active.since, *id))
    }

    fn may_take_back(&self, now: Duration, request: &Request, active: &Active, half: Duration) -> bool {
        request.offer.tier != Tier::Priority
            && request.offer.streaming
            && !request.withdrawn
            && !active.token
            && now.saturating_sub(active.since) < half
    }

    fn take_back(&mut self, now: Duration, id: RequestId, active: &Active, until: Duration) {
        self.vacate(now, id, active);
        if let Some(replica) = self.replica_mut(active.replica) {
            replica.start(now, active.uncached, 0);
            let (backlog, prompt) = (active.uncached, active.uncached);
            replica.booked.push(Booked { until, backlog, prompt, kv: 0 });
        }
        let fresh = now + self.waits_max(Tier::Regular).1;
        if let Some(request) = self.requests.get_mut(id) {
            request.withdrawn = true;
            request.until_client = false;
            request.wait_until = fresh;
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
