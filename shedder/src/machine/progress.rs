//! What a dispatched request does: bytes sent, first token, end, cancellation.
//!
//! A call about a request that is not known, or not in that stage any more, changes nothing and is counted:
//! late calls happen when two ends of a request race.

use std::time::Duration;

use super::Shedder;
use super::admit::seconds;
use crate::offer::{Finished, ReplicaId, RequestId};
use crate::queue::OUTPUT_PRICE;
use crate::requests::{Active, Request, Stage};
use crate::tier::Tier;

/// A first token is late when it takes twice its prediction and this, which is scheduling noise.
const LATE_BEYOND: Duration = Duration::from_millis(250);
/// Without a prefill rate the first token of a short prompt is predicted after this part of the TTFT target: some steps of
/// an engine whose tokens come in time.
pub(super) const TTFT_OF_TARGET: f64 = 0.125;
/// A first token that comes later than after this part of the TTFT target has cost its request most of what it had.
const IN_TURN_OF_TARGET: f64 = 0.6;
const CHUNKS_MIN: u32 = 8;
const TOKENS_PER_CHUNK_MAX: f64 = 64.0;
/// About the last twenty answers.
const HOLD_SMOOTHING: f64 = 0.05;
/// An answer with fewer tokens says more about its prompt than about its gaps.
const ANSWER_TOKENS_MIN: u32 = 8;

impl Shedder {
    /// The request's bytes went to its replica. O(1).
    pub fn dispatched(&mut self, now: Duration, id: RequestId) {
        let Some(request) = self.requests.get_mut(id) else { return self.counters.unknown_ids += 1 };
        let visible = request.offer.streaming || !request.offer.has_output;
        let Some(active) = request.active_mut() else { return };
        active.unseen_until += now.saturating_sub(active.since);
        let first = active.sent.replace(now).is_none();
        let (sent, streaming) = (*active, request.offer.streaming);
        if let Some(replica) = self.replica_mut(sent.replica).filter(|_| first && visible) {
            replica.prefill.on_sent(now, id, sent.uncached, sent.alone);
            replica.on_sent(now, id);
        }
        if let Some(at) = self.late_at(now, &sent).filter(|_| first && streaming) {
            self.late.push(at, id, &self.requests);
        }
    }

    /// The first generated content came. Frees the request's part of the backlog. O(log n + replicas).
    pub fn first_token(&mut self, now: Duration, id: RequestId) {
        let Some(request) = self.requests.get_mut(id) else { return self.counters.unknown_ids += 1 };
        let visible = request.offer.streaming || !request.offer.has_output;
        let Some(active) = request.active_mut() else { return };
        if std::mem::replace(&mut active.token, true) {
            return;
        }
        let seen = *active;
        active.backlog = 0;
        let (account, needs, tier) = (request.offer.account, request.offer.needs, request.offer.tier);
        let alone = self.lone_account.is_one(now);
        let late = self.is_late(&seen, now);
        let overtaken = self.is_overtaken(&seen);
        let too_late = self.ttft_target().mul_f64(IN_TURN_OF_TARGET);
        if let Some(replica) = self.replica_mut(seen.replica) {
            replica.release_backlog(seen.backlog);
            replica.on_token(now);
            if tier == Tier::Priority {
                replica.young.on_first_token(now, id);
            }
            replica.memory.ceiling.on_token(seen.sent.unwrap_or(seen.since));
            replica.on_answered(now, seen.sent.unwrap_or(seen.since), needs);
            if !late {
                replica.on_in_time(seen.sent.unwrap_or(seen.since));
            }
            if let Some(sent) = seen.sent.filter(|_| visible) {
                if !overtaken {
                    replica.on_in_turn(now.saturating_sub(sent), too_late);
                }
                let ttft = now.saturating_sub(sent);
                replica.prefill.on_first_token(now, id, seen.uncached, ttft, seen.alone);
            }
            if late && overtaken {
                replica.on_late_by_itself(now);
            } else if late && seen.since >= replica.queue_seen {
                replica.on_late(now, account, alone);
            }
        }
        self.release_overtaken(seen.replica, seen.sent.unwrap_or(seen.since));
        self.on_served(now, id, seen.replica);
        self.pump(now);
    }

    /// Whoever was sent to `on` before `sent`, and has no token yet, is kept by something of its own, such as a picture or
    /// an adapter: an engine computes prompts in the order in which they come. It waits for nobody, and nobody for it.
    fn release_overtaken(&mut self, on: ReplicaId, sent: Duration) {
        while let Some(id) = self.replica_mut(on).and_then(|replica| replica.next_overtaken(sent)) {
            let Some(active) = self.requests.get_mut(id).and_then(Request::active_mut) else { continue };
            if active.replica != on || active.token || active.sent.is_none_or(|at| at >= sent) {
                continue;
            }
            let backlog = std::mem::take(&mut active.backlog);
            if let Some(replica) = self.replica_mut(on).filter(|_| backlog > 0) {
                replica.release_backlog(backlog);
            }
        }
    }

    /// Whether a first token at `now` means that the engine kept the request in a queue of its own.
    fn is_late(&self, active: &Active, now: Duration) -> bool {
        self.late_at(now, active).is_some_and(|at| now > at)
    }

    /// Whether somebody who was sent later to the same replica had its first token in time.
    pub(super) fn is_overtaken(&self, active: &Active) -> bool {
        let sent = active.sent.unwrap_or(active.since);
        self.replica(active.replica).is_some_and(|replica| replica.overtook(sent))
    }

    /// After that a first token is late; `None` if it never is.
    pub(super) fn late_at(&self, now: Duration, active: &Active) -> Option<Duration> {
        let (sent, replica) = (active.sent?, self.replica(active.replica)?);
        let budget = replica.step_budget();
        // A long prompt on an engine of unknown speed may take any time.
        if active.ttft.is_none() && active.uncached > budget {
            return None;
        }
        let predicted = active.ttft.unwrap_or(self.ttft_target().mul_f64(TTFT_OF_TARGET));
        // It may have come in the middle of a full step, and shared the next with others.
        let step = replica.prefill.learnt().map_or(0.0, |rate| f64::from(budget) / rate);
        // While the whole replica stood still it computed nobody's.
        let paused = replica.silent_until(now).saturating_sub(active.silent_before);
        Some(sent + 2 * predicted + seconds(step) + LATE_BEYOND + paused)
    }

    /// The request was answered, well or badly: its place is free. O(log n + replicas).
    pub fn finish(&mut self, now: Duration, id: RequestId, how: &Finished) {
        let Some(request) = self.requests.get(id).copied() else { return self.counters.unknown_ids += 1 };
        if let Stage::Active(active) = request.stage {
            self.learn_from(now, id, &request, &active, how);
            self.settle_fairness(&request, &active, how);
        }
        self.release(now, id);
        self.pump(now);
    }

    fn learn_from(
        &mut self,
        now: Duration,
        id: RequestId,
        request: &Request,
        active: &Active,
        how: &Finished,
    ) {
        let offer = &request.offer;
        if how.content_chunks >= CHUNKS_MIN && how.generated > 0 {
            let ratio = f64::from(how.generated) / f64::from(how.content_chunks);
            self.tokens_per_chunk += 0.05 * (ratio.clamp(1.0, TOKENS_PER_CHUNK_MAX) - self.tokens_per_chunk);
        }
        if request.is_unseen() && how.generated > 0 {
            self.answers.on_tokens(f64::from(how.generated));
            self.answers.on_end(f64::from(how.generated));
        }
        let answered = active.token || !offer.has_output || how.generated > 0;
        if answered {
            let held = now.saturating_sub(active.since).as_secs_f64();
            self.hold_s = Some(self.hold_s.map_or(held, |mean| mean + HOLD_SMOOTHING * (held - mean)));
        }
        // A refusal of the request itself ends without anything generated, and proves nothing about who failed it.
        if active.token || how.generated > 0 || (!offer.has_output && how.duration_of_answer.is_some()) {
            self.on_served(now, id, active.replica);
        }
        let sent = active.sent.unwrap_or(active.since);
        let Some(replica) = self.replica_mut(active.replica) else { return };
        if answered {
            replica.on_answered(now, sent, offer.needs);
            if !active.token {
                replica.on_in_time(sent);
            }
        }
        if !offer.has_output && !active.token {
            let first_byte = now.saturating_sub(sent);
            if let Some(predicted) = active.ttft {
                replica.limit.on_first_byte(now, first_byte.as_secs_f64() / (2.0 * predicted.as_secs_f64()));
            }
            if active.sent.is_some() {
                replica.prefill.on_first_token(now, id, active.uncached, first_byte, active.alone);
            }
        }
        let Some(duration) = how.duration_of_answer else { return };
        if !offer.streaming && offer.has_output && how.generated >= ANSWER_TOKENS_MIN {
            replica.on_whole_answer(active, how.generated, duration);
            let decode = duration.saturating_sub(active.ttft.unwrap_or(Duration::ZERO));
            replica.limit.on_answer(now, decode.as_secs_f64() / f64::from(how.generated), duration);
        }
    }

    /// Corrects what the account was charged to what the engine reports.
    fn settle_fairness(&mut self, request: &Request, active: &Active, how: &Finished) {
        let offer = &request.offer;
        let output = OUTPUT_PRICE * i64::from(how.generated) - active.charged as i64;
        let prompt = how
            .cached
            .map_or(0, |cached| i64::from(offer.prompt.saturating_sub(cached)) - i64::from(active.uncached));
        self.queues[offer.tier].charge(offer.account, output + prompt);
    }

    /// The client is gone; waiting or active, the request ends and what it held is free. O(log n + replicas).
    pub fn cancel(&mut self, now: Duration, id: RequestId) {
        if self.requests.get(id).is_none() {
            return self.counters.unknown_ids += 1;
        }
        self.release(now, id);
        self.pump(now);
    }

    /// Takes a request out of wherever it is and forgets it.
    fn release(&mut self, now: Duration, id: RequestId) {
        match self.requests.get(id).map(|request| request.stage) {
            Some(Stage::Waiting(_)) => {
                self.give_turn_back(id);
                self.dequeue(now, id);
            }
            Some(Stage::Active(active)) => self.vacate(now, id, &active),
            None => {}
        }
        self.requests.remove(id);
    }

    /// Gives back what an active request holds on its replica.
    pub(super) fn vacate(&mut self, now: Duration, id: RequestId, active: &Active) {
        let Some(request) = self.requests.get(id).copied() else { return };
        let offer = request.offer;
        let visible = offer.streaming || !offer.has_output;
        if let Some(replica) = self.replica_mut(active.replica) {
            replica.end(active.backlog, active.uncached, active.kv, active.token);
            replica.absent.on_end(id, offer.needs);
            replica.young.on_end(id);
            if request.is_unseen() {
                replica.on_unseen(false);
            }
            if active.sent.is_some() && visible && !active.token {
                replica.prefill.on_gone(now, active.uncached);
            }
        }
        if active.token && !request.is_unseen() {
            self.answers.on_end(active.generated);
        }
        self.active[offer.tier] = self.active[offer.tier].saturating_sub(1);
        self.queues[offer.tier].end(offer.account);
    }

    /// How long after its dispatch a request may be taken back at all.
    pub(super) fn half_prefill(&self, active: &Active) -> Option<Duration> {
        let replica = self.replica(active.replica)?;
        let rate = replica.prefill.rate(active.since)?;
        Some(seconds(f64::from(active.uncached) / rate / 2.0))
    }
}
