//! The state machine, first form: places under a fixed limit, strict tiers, deadlines.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::{
    Config, Decision, Failure, Finished, Offer, PerTier, Permit, Reason, Rejection, ReplicaConfig, ReplicaId,
    RequestId, Scrape, Snapshot, StreamProgress, Tier, Verdict,
};

/// Decides about every request of one deployment. See the crate's front page.
#[derive(Debug)]
pub struct Shedder {
    config: Config,
    replicas: Vec<(ReplicaId, u32, bool)>,
    requests: BTreeMap<RequestId, (Offer, Option<ReplicaId>, Duration)>,
    queue: PerTier<VecDeque<RequestId>>,
    verdicts: VecDeque<Verdict>,
    next: u64,
    closed: bool,
    counters: crate::Counters,
}

impl Shedder {
    /// A deployment with these replicas, with nothing running and nothing waiting.
    #[must_use]
    pub fn new(_now: Duration, config: Config, replicas: &[ReplicaConfig]) -> Self {
        Self {
            config,
            replicas: replicas.iter().map(|r| (r.id, 0, false)).collect(),
            requests: BTreeMap::new(),
            queue: PerTier::default(),
            verdicts: VecDeque::new(),
            next: 0,
            closed: false,
            counters: crate::Counters::default(),
        }
    }

    /// Asks for a place.
    pub fn offer(&mut self, now: Duration, offer: Offer) -> Decision {
        if self.closed || self.replicas.iter().all(|r| r.2) {
            let reason = if self.closed { Reason::Draining } else { Reason::NoReplica };
            return Decision::Shed(self.reject(now, &offer, reason));
        }
        let id = RequestId(self.next);
        self.next += 1;
        if let Some(replica) = self.room(offer.tier) {
            self.requests.insert(id, (offer, Some(replica), now));
            return Decision::Admit(self.take(id, replica, offer.tier));
        }
        let waiting: usize = Tier::ALL.iter().map(|&t| self.queue[t].len()).sum();
        if waiting >= self.config.queue.requests as usize {
            let none = self.config.queue.requests == 0;
            let reason = if none { Reason::Saturated } else { Reason::QueueFull };
            return Decision::Shed(self.reject(now, &offer, reason));
        }
        let slo = self.config.slo.map_or(Duration::from_secs(2), |s| s.ttft);
        let due = offer.arrived + slo.mul_f64(if offer.tier == Tier::Priority { 0.85 } else { 0.6 });
        self.requests.insert(id, (offer, None, offer.deadline.map_or(due, |d| d.min(due))));
        self.queue[offer.tier].push_back(id);
        self.counters.waited[offer.tier] += 1;
        Decision::Wait(id)
    }

    fn room(&self, tier: Tier) -> Option<ReplicaId> {
        if tier.above().chain([tier]).any(|t| !self.queue[t].is_empty()) {
            return None;
        }
        self.fits(tier)
    }

    fn fits(&self, tier: Tier) -> Option<ReplicaId> {
        let limit = self.config.fixed_limit.unwrap_or(self.config.limit_start);
        let places = ((self.config.ceilings[tier] * limit) as u32).max(1);
        let open = self.replicas.iter().filter(|r| !r.2 && r.1 < places);
        open.min_by_key(|r| r.1).map(|r| r.0)
    }

    fn take(&mut self, id: RequestId, replica: ReplicaId, tier: Tier) -> Permit {
        self.counters.admitted[tier] += 1;
        self.replicas.iter_mut().filter(|r| r.0 == replica).for_each(|r| r.1 += 1);
        Permit { id, replica, tier }
    }

    fn reject(&mut self, now: Duration, offer: &Offer, reason: Reason) -> Rejection {
        self.counters.shed[offer.tier].count(reason);
        Rejection {
            reason,
            tier: offer.tier,
            retry_after: Some(Duration::from_secs(1)),
            predicted_wait: None,
            predicted_wait_max: Duration::ZERO,
            waited: now.saturating_sub(offer.arrived),
            saturation: 1.0,
            ceiling: self.config.ceilings[offer.tier],
            queued: 0,
        }
    }

    fn release(&mut self, id: RequestId) {
        if let Some((offer, place, _)) = self.requests.remove(&id) {
            match place {
                Some(on) => {
                    self.replicas.iter_mut().filter(|r| r.0 == on).for_each(|r| r.1 = r.1.saturating_sub(1))
                }
                None => self.queue[offer.tier].retain(|&other| other != id),
            }
        }
    }

    fn pump(&mut self, now: Duration) {
        let due: Vec<_> = self
            .requests
            .iter()
            .filter(|(_, r)| r.1.is_none() && r.2 <= now)
            .map(|(&id, r)| (id, r.0))
            .collect();
        for (id, offer) in due {
            self.release(id);
            let rejection = self.reject(now, &offer, Reason::QueueTimeout);
            self.verdicts.push_back(Verdict::Shed(id, rejection));
        }
        for tier in Tier::ALL {
            while let (Some(&id), Some(replica)) = (self.queue[tier].front(), self.fits(tier)) {
                self.queue[tier].pop_front();
                if let Some(request) = self.requests.get_mut(&id) {
                    request.1 = Some(replica);
                }
                let permit = self.take(id, replica, tier);
                self.verdicts.push_back(Verdict::Admit(permit));
            }
        }
    }

    /// The request's bytes went to its replica.
    pub fn dispatched(&mut self, _now: Duration, _id: RequestId) {}

    /// The first generated content came.
    pub fn first_token(&mut self, _now: Duration, _id: RequestId) {}

    /// The request was answered.
    pub fn finish(&mut self, now: Duration, id: RequestId, _how: &Finished) {
        self.release(id);
        self.pump(now);
    }

    /// The client is gone; waiting or active, the request ends.
    pub fn cancel(&mut self, now: Duration, id: RequestId) {
        self.release(id);
        self.pump(now);
    }

    /// The replica failed before the first token. `None`: not to be tried again.
    pub fn failed(&mut self, now: Duration, id: RequestId, _why: Failure) -> Option<Decision> {
        self.release(id);
        self.pump(now);
        None
    }

    /// An engine's own metrics.
    pub fn observe(&mut self, _now: Duration, _replica: ReplicaId, _scrape: &Scrape) {}

    /// The result of an active health probe.
    pub fn probe(&mut self, _now: Duration, _replica: ReplicaId, _healthy: bool) {}

    /// To be called every 250 ms; afterwards nothing is due.
    pub fn tick(&mut self, now: Duration, _harvest: &[StreamProgress]) {
        self.pump(now);
    }

    /// The next verdict. To be drained after every call that changes something.
    pub fn poll_verdict(&mut self) -> Option<Verdict> {
        self.verdicts.pop_front()
    }

    /// The earliest moment at which `tick` has something to do besides its rhythm.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.requests.values().filter(|r| r.1.is_none()).map(|r| r.2).min()
    }

    /// The wait that `offer` would meet.
    #[must_use]
    pub fn predict_wait(&self, _now: Duration, _offer: &Offer) -> Duration {
        Duration::ZERO
    }

    /// Takes a replica out of service, or back, without touching what runs on it.
    pub fn set_drained(&mut self, now: Duration, replica: ReplicaId, drained: bool) {
        self.replicas.iter_mut().filter(|r| r.0 == replica).for_each(|r| r.2 = drained);
        self.pump(now);
    }

    /// Changes the ceilings.
    pub fn set_ceilings(&mut self, now: Duration, ceilings: PerTier<f64>) {
        self.config.ceilings = ceilings;
        self.pump(now);
    }

    /// Pretends until `until` that `share` of the capacity is gone.
    pub fn set_pressure(&mut self, _now: Duration, _share: f64, _until: Duration) {}

    /// Replaces the list of replicas; what runs on removed ones runs on.
    pub fn set_replicas(&mut self, _now: Duration, _replicas: &[ReplicaConfig]) {}

    /// Ends admission: everything waiting, and everything offered from now on, is shed as draining.
    pub fn close(&mut self, now: Duration) {
        self.closed = true;
        for tier in Tier::ALL {
            while let Some(id) = self.queue[tier].pop_front() {
                if let Some((offer, _, _)) = self.requests.remove(&id) {
                    let rejection = self.reject(now, &offer, Reason::Draining);
                    self.verdicts.push_back(Verdict::Shed(id, rejection));
                }
            }
        }
    }

    /// A copy of the state. Allocates.
    #[must_use]
    pub fn snapshot(&self, _now: Duration) -> Snapshot {
        Snapshot { counters: self.counters.clone(), ..Snapshot::default() }
    }
}
