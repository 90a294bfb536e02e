//! Failures of a dispatched request: the replica that is blamed, and the place where the request goes on.
//!
//! ```text
//! connect, reset, timeout   count against the replica; sent again by the retry budget
//! busy                      closes the replica for a while; sent again by the retry budget
//! unexplained               nobody is blamed yet; sent elsewhere once, without the budget
//! absent                    out for what the request needs; sent elsewhere once, without the budget
//! ours                      nobody is blamed; not sent again
//! ```
//!
//! An unexplained error is either the replica's or the request's. Served elsewhere, the body is a piece of evidence against
//! the first replica; failed there, too, it is none. A replica is an outlier, and ejected, when three different bodies
//! within a minute are held against it and more than three times as many as against the median of the others: bodies that fail
//! by chance fail everywhere alike. A half-open trial that fails like that sends the replica out for twice as long.

use std::time::Duration;

use super::Shedder;
use super::admit::seconds;
use super::progress::TTFT_OF_TARGET;
use crate::decision::{Decision, Reason, Verdict};
use crate::offer::{Failure, ReplicaId, RequestId};
use crate::replica::absent::Supply;
use crate::replica::evidence::BODIES_MIN;
use crate::replica::health::Service;
use crate::requests::{Active, Refused, Request, Stage};

/// A replica fails so many times as many bodies as the median of the others before the bodies are no explanation.
const OF_MEDIAN: usize = 3;

impl Shedder {
    /// The replica failed, before the first token or after it. The place is given back and the failure
    /// counts against the replica. `Some`: what becomes of the request, which goes on under the same id
    /// unless it is shed; `None`: it is over, and the answer is the caller's (502, 504, or a broken stream).
    ///
    /// A request is sent again once, by the retry budget unless it is priority, at the head of its account's
    /// queue, and the time lost on the replica is added to the time that it may wait. What was refused before anything
    /// was computed ([`Failure::Unexplained`], [`Failure::Absent`]) goes to another replica once, without drawing on that
    /// budget, and never back. After `Absent` and `None`, [`is_absent`](Self::is_absent) says whether all lack it.
    pub fn failed(&mut self, now: Duration, id: RequestId, why: Failure) -> Option<Decision> {
        let Some(request) = self.requests.get(id).copied() else {
            self.counters.unknown_ids += 1;
            return None;
        };
        let Stage::Active(active) = request.stage else { return Some(Decision::Wait(id)) };
        self.vacate(now, id, &active);
        self.leave_ghost(now, &request, &active, why);
        self.blame(now, &request, &active, why);
        let goes_on = match why {
            Failure::Unexplained { .. } | Failure::Absent => self.may_go_elsewhere(now, &request, &active),
            Failure::Ours => false,
            _ => !active.token && !request.retried && !self.closed && self.take_retry(now, &request),
        };
        if goes_on {
            return Some(self.send_again(now, id, &active, why));
        }
        self.requests.remove(id);
        let busy = matches!(why, Failure::Busy { .. });
        let refusal = (busy && !active.token).then(|| {
            let reason = if self.closed { Reason::Draining } else { Reason::Saturated };
            Decision::Shed(self.reject(now, &request.offer, reason, request.waited, None))
        });
        self.pump(now);
        refusal
    }

    fn take_retry(&mut self, now: Duration, request: &Request) -> bool {
        let taken = self.retries.take(now, request.offer.tier);
        self.counters.retries += u64::from(taken);
        taken
    }

    /// Whether another replica in service may have what this one refused, and the request was sent to one only.
    fn may_go_elsewhere(&mut self, now: Duration, request: &Request, active: &Active) -> bool {
        let first = !active.token && !request.retried && request.refused.is_none() && !self.closed;
        let goes = first
            && self.replicas.iter().any(|other| {
                other.id != active.replica
                    && other.service(now) == Service::In
                    && other.absent.supply(now, request.offer.needs) == Supply::Has
            });
        self.counters.sent_elsewhere += u64::from(goes);
        goes
    }

    /// Puts a failed request back into the queue and lets whoever can start.
    fn send_again(&mut self, now: Duration, id: RequestId, active: &Active, why: Failure) -> Decision {
        if let Some(mut request) = self.requests.get(id).copied() {
            // What it did not get it does not pay for.
            self.queues[request.offer.tier].charge(request.offer.account, -i64::from(active.uncached));
            let refused = |body| Some(Refused { replica: active.replica, body, since: active.since });
            match why {
                Failure::Unexplained { body } => request.refused = refused(Some(body)),
                Failure::Absent => request.refused = refused(None),
                _ => {
                    request.retried = true;
                    request.avoid = Some(active.replica);
                }
            }
            request.until_client = false;
            request.wait_until = request.wait_until.saturating_add(now.saturating_sub(active.since));
            self.heed_client(now, &mut request);
            if let Some(known) = self.requests.get_mut(id) {
                *known = request;
            }
        }
        self.enqueue(now, id);
        self.pump(now);
        self.take_verdict_of(id).unwrap_or(Decision::Wait(id))
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

    fn blame(&mut self, now: Duration, request: &Request, active: &Active, why: Failure) {
        match why {
            Failure::Unexplained { body } => return self.note_unexplained(request, active, body),
            Failure::Absent => return self.note_absent(now, request, active),
            _ => {}
        }
        let may_eject = self.may_eject(active.replica);
        let Some(replica) = self.replica_mut(active.replica) else { return };
        if matches!(why, Failure::Busy { .. }) {
            replica.limit.on_loss();
        }
        // A stream that was begun before the replica was taken out says nothing new.
        if replica.health.on_failure(now, why) && may_eject {
            replica.eject(now);
        }
    }

    /// Beyond half of the replicas, and never the last one: ejecting moves load onto replicas that cannot take it.
    fn may_eject(&self, id: ReplicaId) -> bool {
        let enlisted = self.replicas.iter().filter(|replica| replica.is_enlisted());
        let (all, ejected) = enlisted.fold((0, 0), |(all, ejected), replica| {
            (all + 1, ejected + usize::from(replica.health.is_ejected() && replica.id != id))
        });
        ejected < all / 2
    }

    fn note_unexplained(&mut self, request: &Request, active: &Active, body: u64) {
        self.counters.unexplained += 1;
        if active.token {
            return;
        }
        self.replicas.iter_mut().for_each(|replica| replica.evidence.on_failed_on(body, active.replica));
        if let Some(first) = request.refused.and_then(|refused| self.replica_mut(refused.replica)) {
            first.evidence.drop_body(body);
        }
    }

    fn note_absent(&mut self, now: Duration, request: &Request, active: &Active) {
        self.counters.absent += 1;
        if let Some(replica) = self.replica_mut(active.replica) {
            replica.absent.on_absent(now, active.since, request.offer.needs);
        }
        self.shed_absent(now);
    }

    /// A request is being answered: what that says about a replica that had failed it.
    pub(super) fn on_served(&mut self, now: Duration, id: RequestId, by: ReplicaId) {
        let Some(refused) = self.requests.get_mut(id).and_then(|request| request.refused.as_mut()) else {
            return;
        };
        let first = refused.replica;
        let Some(body) = refused.body.take().filter(|_| first != by) else { return };
        let since = refused.since;
        if let Some(replica) = self.replica_mut(by) {
            replica.evidence.drop_body(body);
        }
        if let Some(replica) = self.replica_mut(first) {
            replica.evidence.add(now, body, by);
        }
        let guilty = match self.replica(first).map(|replica| (replica.service(now), replica)) {
            Some((Service::In, replica)) => self.is_outlier(now, replica.id),
            Some((Service::HalfOpen, replica)) => replica.health.is_trial(now, since),
            Some((Service::Out, _)) | None => false,
        };
        let may_eject = self.may_eject(first);
        if let Some(replica) = self.replica_mut(first).filter(|_| guilty && may_eject) {
            replica.eject(now);
            replica.health.set_outlier();
            self.counters.outliers += 1;
        }
    }

    fn is_outlier(&self, now: Duration, id: ReplicaId) -> bool {
        let held = self.replica(id).map_or(0, |replica| replica.evidence.bodies(now));
        let others = self.replicas.iter().filter(|other| other.id != id && other.is_enlisted());
        let mut others: Vec<_> = others.map(|other| other.evidence.bodies_with_forgiven(now)).collect();
        others.sort_unstable();
        let median = others.get(others.len().saturating_sub(1) / 2).copied().unwrap_or(0);
        held >= BODIES_MIN && held > OF_MEDIAN * median
    }

    /// A replica that fails quickly must not look empty for it.
    fn leave_ghost(&mut self, now: Duration, request: &Request, active: &Active, why: Failure) {
        let quick = match why {
            Failure::Unexplained { .. } | Failure::Absent | Failure::Reset | Failure::Connect => true,
            // It held its place for long; the engine closes by itself; the replica was not asked.
            Failure::Timeout | Failure::Busy { .. } | Failure::Ours => false,
        };
        let ttft = active.ttft.unwrap_or(self.ttft_target().mul_f64(TTFT_OF_TARGET));
        let hold = self.hold_s;
        let output = f64::from(request.offer.expected_output);
        let lost = now.saturating_sub(active.since);
        let Some(replica) = self.replica_mut(active.replica).filter(|_| quick) else { return };
        let held = match replica.service(now) {
            // The next trial waits for it.
            Service::HalfOpen => Duration::ZERO,
            _ => hold.map_or_else(|| ttft + seconds(output * replica.usual_gap()), seconds),
        };
        let tokens = if active.token { 0 } else { active.uncached };
        replica.ghosts.add(now, tokens, ttft.saturating_sub(lost), held.saturating_sub(lost));
    }
}
