//! Failures of a dispatched request: the replica that is blamed, and the place where the request goes on.

use std::time::Duration;

use super::Shedder;
use crate::decision::{Decision, Reason, Verdict};
use crate::offer::{Failure, RequestId};
use crate::requests::{Active, Stage};

impl Shedder {
    /// The replica failed, before the first token or after it. The place is given back and the failure
    /// counts against the replica. `Some`: what becomes of the request, which goes on under the same id
    /// unless it is shed; `None`: it is over, and the answer is the caller's (502, 504, or a broken stream).
    ///
    /// A request is sent again once, by the retry budget unless it is priority, at the head of its account's
    /// queue, and the time lost on the replica is added to the time that it may wait.
    pub fn failed(&mut self, now: Duration, id: RequestId, why: Failure) -> Option<Decision> {
        let Some(request) = self.requests.get(id).copied() else {
            self.counters.unknown_ids += 1;
            return None;
        };
        let Stage::Active(active) = request.stage else { return Some(Decision::Wait(id)) };
        self.vacate(now, id, &active);
        self.blame(now, &active, why);
        let busy = matches!(why, Failure::Busy { .. });
        if active.token || request.retried || self.closed || !self.retries.take(now, request.offer.tier) {
            self.requests.remove(id);
            let refusal = (busy && !active.token).then(|| {
                let reason = if self.closed { Reason::Draining } else { Reason::Saturated };
                Decision::Shed(self.reject(now, &request.offer, reason, request.waited, None))
            });
            self.pump(now);
            return refusal;
        }
        self.counters.retries += 1;
        // What it did not get it does not pay for.
        self.queues[request.offer.tier].charge(request.offer.account, -i64::from(active.uncached));
        if let Some(request) = self.requests.get_mut(id) {
            request.retried = true;
            request.avoid = Some(active.replica);
            request.until_client = false;
            request.wait_until = request.wait_until.saturating_add(now.saturating_sub(active.since));
        }
        self.wait_again(now, id);
        Some(self.take_verdict_of(id).unwrap_or(Decision::Wait(id)))
    }

    /// Puts an active request back into the queue and lets whoever can start.
    fn wait_again(&mut self, now: Duration, id: RequestId) {
        if let Some(mut request) = self.requests.get(id).copied() {
            self.heed_client(now, &mut request);
            if let Some(known) = self.requests.get_mut(id) {
                *known = request;
            }
        }
        self.enqueue(now, id);
        self.pump(now);
    }

    /// A verdict about `id` that the call which is running has just made, as its answer.
    fn take_verdict_of(&mut self, id: RequestId) -> Option<Decision> {
        let index = self.verdicts.iter().position(|verdict| match verdict {
            Verdict::Admit(permit) => permit.id == id,
            Verdict::Shed(shed, _) => *shed == id,
            Verdict::Withdraw(_) => false,
        })?;
        match self.verdicts.remove(index)? {
            Verdict::Admit(permit) => Some(Decision::Admit(permit)),
            Verdict::Shed(_, rejection) => Some(Decision::Shed(rejection)),
            Verdict::Withdraw(_) => None,
        }
    }

    fn blame(&mut self, now: Duration, active: &Active, why: Failure) {
        let enlisted = self.replicas.iter().filter(|replica| replica.is_enlisted()).count();
        let ejected = |replica: &&crate::replica::Replica| {
            replica.is_enlisted() && replica.health.is_ejected() && replica.id != active.replica
        };
        let ejected = self.replicas.iter().filter(ejected).count();
        let Some(replica) = self.replica_mut(active.replica) else { return };
        if matches!(why, Failure::Busy { .. }) {
            replica.limit.on_loss();
        }
        // A stream that was begun before the replica was taken out says nothing new.
        if replica.health.on_failure(now, why) && ejected < enlisted / 2 {
            replica.health.eject(now);
        }
    }
}
