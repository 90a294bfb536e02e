//! One process of the gateway: its own decisions ([`gateway_core`]), with tickets instead of tasks.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use gateway_core::admission::{Admission, Told};
use gateway_core::attempts::{self, Failed, Next, Said};
use gateway_core::routing::{self, Deployments};
use shedder::learned::Neighbour;
use shedder::{
    Config, Decision, Finished, Offer, Permit, Rejection, ReplicaConfig, ReplicaId, RequestId, Scrape, Slo,
    StreamProgress, Uncached,
};

use super::{Answer, Arrival, Fault, Gate, Gauges, Inside, Progress, ReplicaGauge};
use crate::scenario::Scenario;
use crate::scenario::fleet::Route;
use engine::text::mix;

/// Bytes of a body per prompt token, about.
const BYTES_PER_TOKEN: u64 = 4;

/// One deployment.
#[derive(Debug)]
struct Deployment {
    admission: Admission<u32>,
    /// How many replicas it has.
    replicas: u16,
    /// The number of its first replica in the scenario.
    first: u16,
    harvest: Vec<StreamProgress>,
}

/// A request that is not over.
#[derive(Debug)]
struct Held {
    offer: Offer,
    /// What is to be computed on each deployment.
    uncached: Vec<Uncached>,
    /// The deployments that may serve it, in its order.
    order: Vec<u16>,
    /// Where it is, by its place in that order, and under which number.
    at: usize,
    id: RequestId,
    /// The replica that it was sent to last.
    sent_to: Option<u16>,
    /// The replica on which it failed last.
    failed_on: Option<u16>,
}

/// All deployments and who is who. The maps are looked up, never walked, so they decide nothing.
#[derive(Debug)]
pub(crate) struct Process {
    deployments: Vec<Deployment>,
    /// Of each model.
    routes: Vec<Vec<Route>>,
    held: HashMap<u32, Held>,
    /// Those that wait and may be served elsewhere.
    roaming: BTreeSet<u32>,
    weights: HashMap<u32, f64>,
    seed: u64,
    /// What tick decided beside verdicts.
    told: Vec<(u32, Answer)>,
    /// The time of the last call: verdicts come without one.
    latest: Duration,
}

impl Process {
    /// Each deployment as the scenario says, or all as `config` does.
    pub(crate) fn new(now: Duration, config: Option<&Config>, scenario: &Scenario) -> Self {
        let mut first = 0;
        let deployments = scenario.deployments.iter().map(|deployment| {
            let mut config = config.unwrap_or(&deployment.told).clone();
            config.slo.get_or_insert(Slo { ttft: deployment.slo.ttft, tpot: deployment.slo.tpot });
            let replicas: Vec<ReplicaConfig> =
                (0..deployment.replicas).map(|n| ReplicaConfig::new(ReplicaId(n))).collect();
            let admission = Admission::new(now, config, &replicas);
            let one = Deployment { admission, replicas: deployment.replicas, first, harvest: Vec::new() };
            first += deployment.replicas;
            one
        });
        Self {
            deployments: deployments.collect(),
            routes: scenario.models.iter().map(|model| model.routes.clone()).collect(),
            held: HashMap::new(),
            roaming: BTreeSet::new(),
            weights: scenario.weights.iter().copied().collect(),
            seed: scenario.seed,
            told: Vec::new(),
            latest: now,
        }
    }

    /// Whether it holds this request.
    pub(super) fn holds(&self, ticket: u32) -> bool {
        self.held.contains_key(&ticket)
    }

    /// Whether it holds none.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Goes on with what another process has learnt.
    pub(super) fn adopt(&mut self, now: Duration, before: &Process) {
        self.latest = now;
        for (own, before) in self.deployments.iter_mut().zip(&before.deployments) {
            let learned = before.admission.controller().export(now);
            own.admission.controller_mut().adopt(now, &learned);
        }
    }

    /// Hears what runs in a neighbour, and beyond it; of none, that it has ended.
    pub(super) fn hear(&mut self, now: Duration, from: Neighbour, neighbour: Option<&Process>) {
        for (nth, deployment) in self.deployments.iter_mut().enumerate() {
            let told = neighbour.and_then(|neighbour| neighbour.deployments.get(nth));
            let told =
                told.map(|told| told.admission.controller().tell(now, from.other())).unwrap_or_default();
            deployment.admission.controller_mut().hear(now, from, &told);
        }
    }

    /// The deployments that take a request, in its order.
    fn order(&self, arrival: &Arrival) -> Vec<u16> {
        let routes = self.routes.get(usize::from(arrival.model)).into_iter().flatten();
        let taking = routes.filter(|route| {
            let is_theirs = |accounts: &BTreeSet<u32>| accounts.contains(&arrival.account);
            route.tiers[arrival.tier] && route.accounts.as_ref().is_none_or(is_theirs)
        });
        let listed = taking.map(|route| (route.weight, route.deployment)).collect();
        let seed = mix(self.seed ^ u64::from(arrival.ticket));
        routing::in_order(listed, |deployment| {
            let bits = mix(seed ^ mix(u64::from(*deployment) + 1)) >> 11;
            (bits as f64 + 1.0) / (1_u64 << 53) as f64
        })
    }

    /// What a decision of the deployment at that place of its order means for a request.
    fn answer(&mut self, ticket: u32, mut held: Held, (decision, at): (Decision, usize)) -> Answer {
        match decision {
            Decision::Admit(permit) => self.send(ticket, held, (permit, at)),
            Decision::Wait(id) => {
                (held.at, held.id) = (at, id);
                if held.order.len() > 1 {
                    self.roaming.insert(ticket);
                }
                self.held.insert(ticket, held);
                Answer::Wait
            }
            Decision::Shed(rejection) => shed(&rejection),
        }
    }

    fn send(&mut self, ticket: u32, mut held: Held, (permit, at): (Permit, usize)) -> Answer {
        (held.at, held.id) = (at, permit.id);
        let first = held.deployment(&self.deployments).map_or(0, |deployment| deployment.first);
        let replica = first + permit.replica.0;
        held.sent_to = Some(replica);
        self.roaming.remove(&ticket);
        self.held.insert(ticket, held);
        Answer::Send(replica)
    }

    fn forget(&mut self, ticket: u32) -> Option<Held> {
        self.roaming.remove(&ticket);
        self.held.remove(&ticket)
    }

    /// Where a request is that is not over.
    fn of(&mut self, ticket: u32) -> Option<(&mut Admission<u32>, RequestId)> {
        let held = self.held.get(&ticket)?;
        let number = usize::from(*held.order.get(held.at)?);
        Some((&mut self.deployments.get_mut(number)?.admission, held.id))
    }

    /// A place elsewhere for those that wait where they could be served there.
    fn roam(&mut self, now: Duration) {
        let waiting: Vec<u32> = self.roaming.iter().copied().collect();
        for ticket in waiting {
            let Some(held) = self.held.remove(&ticket) else { continue };
            let mut asked = Asked { deployments: &mut self.deployments, held: &held, ticket, now };
            let others = (0..held.order.len()).filter(|at| *at != held.at);
            match routing::place_now(&mut asked, others) {
                Some((permit, at)) => {
                    if let Some(deployment) = held.deployment_mut(&mut self.deployments) {
                        deployment.admission.cancel(now, held.id);
                    }
                    let answer = self.send(ticket, held, (permit, at));
                    self.told.push((ticket, answer));
                }
                None => drop(self.held.insert(ticket, held)),
            }
        }
    }
}

impl Held {
    fn deployment<'d>(&self, all: &'d [Deployment]) -> Option<&'d Deployment> {
        all.get(usize::from(*self.order.get(self.at)?))
    }

    fn deployment_mut<'d>(&self, all: &'d mut [Deployment]) -> Option<&'d mut Deployment> {
        all.get_mut(usize::from(*self.order.get(self.at)?))
    }
}

fn shed(rejection: &Rejection) -> Answer {
    Answer::Shed { reason: rejection.reason, retry_after: rejection.retry_after }
}

/// The deployments of one request's order, asked for it.
struct Asked<'a> {
    deployments: &'a mut [Deployment],
    held: &'a Held,
    ticket: u32,
    now: Duration,
}

impl Asked<'_> {
    fn at(&mut self, at: usize) -> (&mut Admission<u32>, Offer) {
        let number = usize::from(self.held.order.get(at).copied().unwrap_or_default());
        let uncached = self.held.uncached.get(number).copied();
        let offer = Offer { uncached: uncached.unwrap_or(self.held.offer.uncached), ..self.held.offer };
        #[expect(clippy::indexing_slicing, reason = "routes name deployments of the scenario")]
        let deployment = &mut self.deployments[number];
        (&mut deployment.admission, offer)
    }
}

impl Deployments for Asked<'_> {
    type Place = Permit;
    type Answer = Decision;

    fn has_healthy(&mut self, at: usize) -> bool {
        let now = self.now;
        self.at(at).0.controller().has_healthy(now)
    }

    fn try_admit(&mut self, at: usize) -> Option<Permit> {
        let (now, ticket) = (self.now, self.ticket);
        let (admission, offer) = self.at(at);
        admission.try_admit(now, offer, ticket)
    }

    fn predicted_wait(&mut self, at: usize) -> Duration {
        let now = self.now;
        let (admission, offer) = self.at(at);
        admission.controller().predict_wait(now, &offer)
    }

    fn offer(&mut self, at: usize) -> Decision {
        let (now, ticket) = (self.now, self.ticket);
        let (admission, offer) = self.at(at);
        admission.offer(now, offer, ticket)
    }

    fn is_refusal(answer: &Decision) -> bool {
        matches!(answer, Decision::Shed(_))
    }

    fn admitted(place: Permit) -> Decision {
        Decision::Admit(place)
    }
}

impl Gate for Process {
    fn offer(&mut self, now: Duration, arrival: Arrival) -> Answer {
        self.latest = now;
        let order = self.order(&arrival);
        if order.is_empty() {
            return Answer::Shed { reason: shedder::Reason::NoReplica, retry_after: None };
        }
        let offer = Offer {
            tier: arrival.tier,
            account: u64::from(arrival.account),
            user: None,
            weight: self.weights.get(&arrival.account).copied().unwrap_or(1.0),
            prompt: arrival.prompt,
            uncached: Uncached::everywhere(arrival.prompt),
            expected_output: arrival.expected_output,
            streaming: arrival.streaming,
            has_output: true,
            bytes: BYTES_PER_TOKEN * u64::from(arrival.prompt),
            arrived: now,
            deadline: None,
            needs: 0,
            affinity: None,
        };
        let count = order.len();
        let held = Held {
            offer,
            uncached: arrival.uncached,
            order,
            at: 0,
            id: RequestId(0),
            sent_to: None,
            failed_on: None,
        };
        let ticket = arrival.ticket;
        let mut asked = Asked { deployments: &mut self.deployments, held: &held, ticket, now };
        let decided = routing::offer(&mut asked, count);
        self.answer(ticket, held, decided)
    }

    fn dispatched(&mut self, now: Duration, ticket: u32) {
        if let Some((admission, id)) = self.of(ticket) {
            admission.dispatched(now, id);
        }
    }

    fn first_token(&mut self, now: Duration, ticket: u32) {
        self.latest = now;
        if let Some((admission, id)) = self.of(ticket) {
            admission.first_token(now, id);
        }
    }

    fn finish(&mut self, now: Duration, ticket: u32, how: &Finished) {
        self.latest = now;
        if let Some((admission, id)) = self.of(ticket) {
            admission.finish(now, id, how);
        }
        self.forget(ticket);
    }

    fn cancel(&mut self, now: Duration, ticket: u32) {
        self.latest = now;
        if let Some((admission, id)) = self.of(ticket) {
            admission.cancel(now, id);
        }
        self.forget(ticket);
    }

    fn failed(&mut self, now: Duration, ticket: u32, fault: Fault) -> Option<Answer> {
        self.latest = now;
        let (admission, id) = self.of(ticket)?;
        let decision = admission.failed(now, id, fault.failure);
        let mut held = self.forget(ticket)?;
        let said = match &decision {
            Some(Decision::Shed(_)) => Said::Shed,
            Some(_) => Said::Again,
            None => Said::Never,
        };
        let is_second = held.failed_on.is_some_and(|before| Some(before) != held.sent_to);
        held.failed_on = held.sent_to;
        let failed = Failed {
            failure: Some(fault.failure),
            is_unknown: fault.is_unknown,
            is_second,
            is_absent_everywhere: true,
        };
        let at = held.at;
        match (attempts::next(&failed, said), decision) {
            (Next::Again, Some(decision)) => Some(self.answer(ticket, held, (decision, at))),
            (Next::Elsewhere(_), decision) => {
                held.order.remove(at);
                let refused = match decision {
                    Some(Decision::Shed(rejection)) => Some(shed(&rejection)),
                    _ => None,
                };
                if held.order.is_empty() {
                    return refused;
                }
                let count = held.order.len();
                let mut asked = Asked { deployments: &mut self.deployments, held: &held, ticket, now };
                match routing::offer(&mut asked, count) {
                    (Decision::Shed(_), _) => refused,
                    decided => Some(self.answer(ticket, held, decided)),
                }
            }
            (Next::Over | Next::Again, _) => None,
        }
    }

    fn tick(&mut self, now: Duration, harvest: &[Progress]) {
        self.latest = now;
        for progress in harvest {
            let Some(held) = self.held.get(&progress.ticket) else { continue };
            let &Progress { chunks, gap_sum, gaps, .. } = progress;
            let id = held.id;
            if let Some(deployment) = held.deployment_mut(&mut self.deployments) {
                deployment.harvest.push(StreamProgress { id, chunks, gap_sum, gaps });
            }
        }
        for deployment in &mut self.deployments {
            deployment.admission.tick(now, &deployment.harvest);
            deployment.harvest.clear();
        }
        self.roam(now);
    }

    fn observe(&mut self, now: Duration, replica: u16, scrape: &Scrape) {
        self.latest = now;
        if let Some((deployment, replica)) = self.replica(replica) {
            deployment.admission.controller_mut().observe(now, replica, scrape);
        }
    }

    fn verdict(&mut self) -> Option<(u32, Answer)> {
        if !self.told.is_empty() {
            return Some(self.told.remove(0));
        }
        let now = self.latest;
        let told = self.deployments.iter_mut().find_map(|deployment| deployment.admission.poll(now))?;
        Some(match told {
            Told::Admitted(ticket, permit) => {
                let held = self.held.remove(&ticket)?;
                let at = held.at;
                (ticket, self.send(ticket, held, (permit, at)))
            }
            Told::Shed(ticket, _, rejection) => {
                self.forget(ticket);
                (ticket, shed(&rejection))
            }
            Told::Withdrawn(ticket, _) => {
                if self.held.get(&ticket).is_some_and(|held| held.order.len() > 1) {
                    self.roaming.insert(ticket);
                }
                (ticket, Answer::Withdraw)
            }
        })
    }

    fn gauges(&self, now: Duration) -> Gauges {
        let mut gauges = Gauges::default();
        let (mut limits, mut healthy) = (0.0, 0_usize);
        for deployment in &self.deployments {
            let snapshot = deployment.admission.controller().snapshot(now);
            for replica in snapshot.replicas.iter().filter(|replica| replica.healthy) {
                limits += replica.limit;
                healthy += 1;
            }
            gauges.active += snapshot.replicas.iter().map(|replica| replica.active).sum::<u32>();
            gauges.queued += snapshot.queue.iter().map(|(_, queue)| queue.requests).sum::<u32>();
        }
        Gauges { limit: limits / healthy.max(1) as f64, ..gauges }
    }

    fn inside(&self, now: Duration) -> Inside {
        let mut inside = Inside::default();
        for deployment in &self.deployments {
            let snapshot = deployment.admission.controller().snapshot(now);
            inside.replicas.extend(snapshot.replicas.iter().map(|replica| ReplicaGauge {
                limit: replica.limit,
                active: replica.active,
                saturation: replica.saturation,
                in_service: replica.healthy && !replica.drained,
            }));
            inside
                .queued
                .iter_mut()
                .zip(snapshot.queue.iter())
                .for_each(|(sum, (_, queue))| *sum += queue.requests);
        }
        inside
    }

    fn drain(&mut self, now: Duration, replica: u16, drained: bool) {
        self.latest = now;
        if let Some((deployment, replica)) = self.replica(replica) {
            deployment.admission.controller_mut().set_drained(now, replica, drained);
        }
    }

    fn press(&mut self, now: Duration, share: f64, until: Duration) {
        self.latest = now;
        for deployment in &mut self.deployments {
            deployment.admission.controller_mut().set_pressure(now, share, until);
        }
    }

    fn at_rest(&self, now: Duration) -> bool {
        let is_at_rest = |deployment: &Deployment| {
            let snapshot = deployment.admission.controller().snapshot(now);
            deployment.admission.outstanding() == (0, 0)
                && snapshot.at_rest.is_zero()
                && snapshot.counters.unknown_ids == 0
        };
        self.held.is_empty() && self.deployments.iter().all(is_at_rest)
    }
}

impl Process {
    /// A replica of the scenario, by its deployment's own number.
    fn replica(&mut self, number: u16) -> Option<(&mut Deployment, ReplicaId)> {
        let found = self.deployments.iter_mut().find(|deployment| {
            number >= deployment.first && number - deployment.first < deployment.replicas
        })?;
        let own = ReplicaId(number - found.first);
        Some((found, own))
    }
}
