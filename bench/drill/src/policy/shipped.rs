//! The shipped shedder as a policy: the same calls as the gateway makes, with tickets instead of tasks.

use std::collections::HashMap;
use std::time::Duration;

use shedder::{
    Config, Decision, Failure, Finished, Offer, ReplicaConfig, ReplicaId, RequestId, Scrape, Shedder, Slo,
    StreamProgress, Verdict,
};

use super::{Answer, Arrival, Gate, Gauges, Inside, Progress, ReplicaGauge};
use crate::scenario::Scenario;

/// Bytes of a body per prompt token, about.
const BYTES_PER_TOKEN: u64 = 4;

/// The shedder and who is who in it. The maps are looked up, never walked, so they decide nothing.
#[derive(Debug)]
pub(crate) struct Shipped {
    shedder: Shedder,
    config: Config,
    replicas: Vec<ReplicaConfig>,
    tickets: HashMap<RequestId, u32>,
    ids: HashMap<u32, RequestId>,
    weights: HashMap<u32, f64>,
    harvest: Vec<StreamProgress>,
}

impl Shipped {
    pub(crate) fn new(mut config: Config, scenario: &Scenario) -> Self {
        config.slo.get_or_insert(Slo { ttft: scenario.slo.ttft, tpot: scenario.slo.tpot });
        let replicas: Vec<ReplicaConfig> =
            (0..scenario.replicas).map(|n| ReplicaConfig::new(ReplicaId(n))).collect();
        Self {
            shedder: Shedder::new(Duration::ZERO, config.clone(), &replicas),
            config,
            replicas,
            tickets: HashMap::new(),
            ids: HashMap::new(),
            weights: scenario.weights.iter().copied().collect(),
            harvest: Vec::new(),
        }
    }

    fn know(&mut self, id: RequestId, ticket: u32) {
        self.tickets.insert(id, ticket);
        self.ids.insert(ticket, id);
    }

    fn forget(&mut self, ticket: u32) -> Option<RequestId> {
        let id = self.ids.remove(&ticket)?;
        self.tickets.remove(&id);
        Some(id)
    }

    fn answer(&mut self, ticket: u32, decision: Decision) -> Answer {
        match decision {
            Decision::Admit(permit) => {
                self.know(permit.id, ticket);
                Answer::Send(permit.replica.0)
            }
            Decision::Wait(id) => {
                self.know(id, ticket);
                Answer::Wait
            }
            Decision::Shed(rejection) => {
                self.forget(ticket);
                Answer::Shed { reason: rejection.reason, retry_after: rejection.retry_after }
            }
        }
    }
}

impl Gate for Shipped {
    fn offer(&mut self, now: Duration, arrival: &Arrival) -> Answer {
        let offer = Offer {
            tier: arrival.tier,
            account: u64::from(arrival.account),
            weight: self.weights.get(&arrival.account).copied().unwrap_or(1.0),
            prompt: arrival.prompt,
            uncached: arrival.uncached,
            expected_output: arrival.expected_output,
            streaming: arrival.streaming,
            has_output: true,
            bytes: BYTES_PER_TOKEN * u64::from(arrival.prompt),
            arrived: now,
            deadline: None,
            needs: 0,
            affinity: None,
        };
        let decision = self.shedder.offer(now, offer);
        self.answer(arrival.ticket, decision)
    }

    fn dispatched(&mut self, now: Duration, ticket: u32) {
        if let Some(&id) = self.ids.get(&ticket) {
            self.shedder.dispatched(now, id);
        }
    }

    fn first_token(&mut self, now: Duration, ticket: u32) {
        if let Some(&id) = self.ids.get(&ticket) {
            self.shedder.first_token(now, id);
        }
    }

    fn finish(&mut self, now: Duration, ticket: u32, how: &Finished) {
        if let Some(id) = self.forget(ticket) {
            self.shedder.finish(now, id, how);
        }
    }

    fn cancel(&mut self, now: Duration, ticket: u32) {
        if let Some(id) = self.forget(ticket) {
            self.shedder.cancel(now, id);
        }
    }

    fn failed(&mut self, now: Duration, ticket: u32, why: Failure) -> Option<Answer> {
        let id = self.forget(ticket)?;
        let decision = self.shedder.failed(now, id, why)?;
        Some(self.answer(ticket, decision))
    }

    fn tick(&mut self, now: Duration, harvest: &[Progress]) {
        self.harvest.clear();
        let known = harvest.iter().filter_map(|progress| {
            let &id = self.ids.get(&progress.ticket)?;
            let &Progress { chunks, gap_sum, gaps, .. } = progress;
            Some(StreamProgress { id, chunks, gap_sum, gaps })
        });
        self.harvest.extend(known);
        self.shedder.tick(now, &self.harvest);
    }

    fn observe(&mut self, now: Duration, replica: u16, scrape: &Scrape) {
        self.shedder.observe(now, ReplicaId(replica), scrape);
    }

    fn verdict(&mut self) -> Option<(u32, Answer)> {
        loop {
            let verdict = self.shedder.poll_verdict()?;
            let id = match &verdict {
                Verdict::Admit(permit) => permit.id,
                Verdict::Shed(id, _) | Verdict::Withdraw(id) => *id,
            };
            let Some(&ticket) = self.tickets.get(&id) else { continue };
            let answer = match verdict {
                Verdict::Admit(permit) => Answer::Send(permit.replica.0),
                Verdict::Shed(_, rejection) => {
                    self.forget(ticket);
                    Answer::Shed { reason: rejection.reason, retry_after: rejection.retry_after }
                }
                Verdict::Withdraw(_) => Answer::Withdraw,
            };
            return Some((ticket, answer));
        }
    }

    fn gauges(&self, now: Duration) -> Gauges {
        let snapshot = self.shedder.snapshot(now);
        let healthy = || snapshot.replicas.iter().filter(|replica| replica.healthy);
        let limits: f64 = healthy().map(|replica| replica.limit).sum();
        Gauges {
            limit: limits / healthy().count().max(1) as f64,
            active: snapshot.replicas.iter().map(|replica| replica.active).sum(),
            queued: snapshot.queue.priority.requests + snapshot.queue.regular.requests,
        }
    }

    fn inside(&self, now: Duration) -> Inside {
        let snapshot = self.shedder.snapshot(now);
        let replicas = snapshot.replicas.iter().map(|replica| ReplicaGauge {
            limit: replica.limit,
            active: replica.active,
            saturation: replica.saturation,
            in_service: replica.healthy && !replica.drained,
        });
        let queued = [snapshot.queue.priority.requests, snapshot.queue.regular.requests];
        Inside { replicas: replicas.collect(), queued, budgets: Vec::new() }
    }

    fn drain(&mut self, now: Duration, replica: u16, drained: bool) {
        self.shedder.set_drained(now, ReplicaId(replica), drained);
    }

    fn press(&mut self, now: Duration, share: f64, until: Duration) {
        self.shedder.set_pressure(now, share, until);
    }

    fn restart(&mut self, now: Duration) {
        self.shedder = Shedder::new(now, self.config.clone(), &self.replicas);
        self.tickets.clear();
        self.ids.clear();
    }

    fn at_rest(&self, now: Duration) -> bool {
        let snapshot = self.shedder.snapshot(now);
        self.ids.is_empty() && snapshot.at_rest.is_zero() && snapshot.counters.unknown_ids == 0
    }
}
