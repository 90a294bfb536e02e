//! One deployment's admission: its controller, and whose requests wait for a verdict and run.
//!
//! The controller ([`shedder`]) decides and knows requests by its own numbers. Here each has what its caller gave for it, `R`,
//! and comes back with it: a ticket of a drill, a task's handle in the gateway. A verdict may cross with a client that
//! leaves; then nobody takes it, and what it gave is given back.
//!
//! To be asked for verdicts ([`Admission::poll`]) after every call that changes something, until there are none.

use shedder::{
    Config, Decision, Failure, Finished, Offer, Permit, Rejection, ReplicaConfig, RequestId, Shedder,
    StreamProgress, Verdict,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// One deployment's admission. Bounded by the controller's queue and its replicas' limits.
#[derive(Debug)]
pub struct Admission<R> {
    shedder: Shedder,
    waiting: BTreeMap<RequestId, R>,
    running: BTreeMap<RequestId, R>,
}

/// A verdict, and whose.
#[derive(Debug, Clone, PartialEq)]
pub enum Told<R> {
    /// Send it now.
    Admitted(R, Permit),
    /// Refused after waiting.
    Shed(R, RequestId, Rejection),
    /// Its place is taken back before its first token: abort it at its engine. It waits again already.
    Withdrawn(R, RequestId),
}

impl<R: Clone> Admission<R> {
    /// Admission to `replicas`, of which nothing is known yet.
    #[must_use]
    pub fn new(now: Duration, config: Config, replicas: &[ReplicaConfig]) -> Self {
        Self::around(Shedder::new(now, config, replicas))
    }

    /// Admission by `shedder`, to which nobody has been admitted.
    #[must_use]
    pub fn around(shedder: Shedder) -> Self {
        Admission { shedder, waiting: BTreeMap::new(), running: BTreeMap::new() }
    }

    /// Offers a request. O(log requests), and what the controller takes.
    pub fn offer(&mut self, now: Duration, offer: Offer, request: R) -> Decision {
        let decision = self.shedder.offer(now, offer);
        self.note(&decision, request);
        decision
    }

    /// A place now or nothing: for a request that waits elsewhere already.
    pub fn try_admit(&mut self, now: Duration, offer: Offer, request: R) -> Option<Permit> {
        let permit = self.shedder.try_admit(now, offer)?;
        self.running.insert(permit.id, request);
        Some(permit)
    }

    fn note(&mut self, decision: &Decision, request: R) {
        match decision {
            Decision::Admit(permit) => {
                self.running.insert(permit.id, request);
            }
            Decision::Wait(id) => {
                self.waiting.insert(*id, request);
            }
            Decision::Shed(_) => {}
        }
    }

    /// The next verdict.
    pub fn poll(&mut self, now: Duration) -> Option<Told<R>> {
        loop {
            match self.shedder.poll_verdict()? {
                Verdict::Admit(permit) => match self.waiting.remove(&permit.id) {
                    Some(request) => {
                        self.running.insert(permit.id, request.clone());
                        return Some(Told::Admitted(request, permit));
                    }
                    None => self.shedder.cancel(now, permit.id),
                },
                Verdict::Shed(id, rejection) => {
                    if let Some(request) = self.waiting.remove(&id) {
                        return Some(Told::Shed(request, id, rejection));
                    }
                }
                Verdict::Withdraw(id) => match self.running.remove(&id) {
                    Some(request) => {
                        self.waiting.insert(id, request.clone());
                        return Some(Told::Withdrawn(request, id));
                    }
                    None => self.shedder.cancel(now, id),
                },
            }
        }
    }

    /// Its bytes went to the replica.
    pub fn dispatched(&mut self, now: Duration, id: RequestId) {
        self.shedder.dispatched(now, id);
    }

    /// Its first generated content came.
    pub fn first_token(&mut self, now: Duration, id: RequestId) {
        self.shedder.first_token(now, id);
    }

    /// It was answered.
    pub fn finish(&mut self, now: Duration, id: RequestId, how: &Finished) {
        self.forget(id);
        self.shedder.finish(now, id, how);
    }

    /// Its replica failed before the first token. `None`: it is not to be tried again here, and its place is given back.
    pub fn failed(&mut self, now: Duration, id: RequestId, why: Failure) -> Option<Decision> {
        let waiting = self.waiting.remove(&id);
        let request = self.running.remove(&id).or(waiting);
        let decision = self.shedder.failed(now, id, why)?;
        match request {
            Some(request) => self.note(&decision, request),
            // It had ended: whatever it was given is given back.
            None => {
                if let Decision::Admit(Permit { id, .. }) | Decision::Wait(id) = decision {
                    self.shedder.cancel(now, id);
                }
                return None;
            }
        }
        Some(decision)
    }

    /// Nobody waits for it any more. Of one that is over: nothing.
    pub fn cancel(&mut self, now: Duration, id: RequestId) {
        self.forget(id);
        self.shedder.cancel(now, id);
    }

    fn forget(&mut self, id: RequestId) {
        self.running.remove(&id);
        self.waiting.remove(&id);
    }

    /// What streams did since the last tick; every 250 ms, also without any.
    pub fn tick(&mut self, now: Duration, harvest: &[StreamProgress]) {
        self.shedder.tick(now, harvest);
    }

    /// Those that run, by the controller's numbers, in their order.
    pub fn running(&self) -> impl Iterator<Item = (RequestId, &R)> {
        self.running.iter().map(|(id, request)| (*id, request))
    }

    /// How many wait, and how many run: both 0 at rest.
    #[must_use]
    pub fn outstanding(&self) -> (usize, usize) {
        (self.waiting.len(), self.running.len())
    }

    /// The controller, to read.
    #[must_use]
    pub fn controller(&self) -> &Shedder {
        &self.shedder
    }

    /// The controller, for what concerns no single request: its configuration, replicas, engine metrics.
    pub fn controller_mut(&mut self) -> &mut Shedder {
        &mut self.shedder
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shedder::{ReplicaId, Slo, Tier, Uncached};

    const START: Duration = Duration::from_secs(1);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// One replica that takes `places` at once.
    fn admission(places: f64) -> Admission<u32> {
        let slo = Some(Slo { ttft: Duration::from_secs(2), tpot: ms(100) });
        let config = Config { fixed_limit: Some(places), slo, ..Config::default() };
        Admission::new(Duration::ZERO, config, &[ReplicaConfig::new(ReplicaId(0))])
    }

    fn offer(tier: Tier) -> Offer {
        Offer {
            tier,
            account: 1,
            user: None,
            weight: 1.0,
            prompt: 100,
            uncached: Uncached::everywhere(100),
            expected_output: 50,
            streaming: true,
            has_output: true,
            bytes: 400,
            arrived: START,
            deadline: None,
            needs: 0,
            affinity: None,
        }
    }

    fn told(admission: &mut Admission<u32>, now: Duration) -> Vec<Told<u32>> {
        std::iter::from_fn(|| admission.poll(now)).collect()
    }

    /// Offers priority requests 0, 1, … until one waits: those that got a place, and the one that waits.
    fn fill(admission: &mut Admission<u32>) -> (Vec<Permit>, (u32, RequestId)) {
        let mut permits = Vec::new();
        for request in 0..64 {
            match admission.offer(START, offer(Tier::Priority), request) {
                Decision::Admit(permit) => permits.push(permit),
                Decision::Wait(id) => return (permits, (request, id)),
                Decision::Shed(rejection) => panic!("{rejection:?}"),
            }
        }
        panic!("a replica that takes everybody");
    }

    #[test]
    fn who_waits_hears_of_its_place_by_its_own_name() {
        let mut admission = admission(2.0);
        let (permits, (waits, _)) = fill(&mut admission);
        assert_eq!(told(&mut admission, START), []);

        let first = permits.first().expect("a place");
        admission.finish(START + ms(10), first.id, &Finished::default());
        let mut heard = told(&mut admission, START + ms(10));
        for later in 1..40 {
            admission.tick(START + ms(10 + 250 * later), &[]);
            heard.extend(told(&mut admission, START + ms(10 + 250 * later)));
        }

        assert!(matches!(&heard[..], [Told::Admitted(request, _)] if *request == waits), "{heard:?}");
    }

    #[test]
    fn who_left_hears_nothing_and_holds_nothing() {
        let mut admission = admission(1.0);
        let (permits, (_, waits)) = fill(&mut admission);

        admission.cancel(START, waits);
        permits.iter().for_each(|permit| admission.cancel(START, permit.id));
        admission.cancel(START, waits);

        assert_eq!(told(&mut admission, START), []);
        assert_eq!(admission.outstanding(), (0, 0));
    }

    #[test]
    fn one_that_is_over_cannot_fail() {
        let mut admission = admission(1.0);
        let (permits, _) = fill(&mut admission);
        let first = permits.first().expect("a place").id;
        admission.finish(START, first, &Finished::default());

        assert_eq!(admission.failed(START, first, Failure::Reset), None);
        assert!(admission.running().all(|(id, _)| id != first));
    }

    #[derive(Debug, Clone, Copy)]
    enum Call {
        Offer(bool),
        Try,
        Dispatch(usize),
        First(usize),
        Finish(usize),
        Fail(usize),
        Cancel(usize),
        Tick,
    }

    fn call() -> impl Strategy<Value = Call> {
        prop_oneof![
            4 => any::<bool>().prop_map(Call::Offer),
            1 => Just(Call::Try),
            2 => (0_usize..8).prop_map(Call::Dispatch),
            2 => (0_usize..8).prop_map(Call::First),
            2 => (0_usize..8).prop_map(Call::Finish),
            1 => (0_usize..8).prop_map(Call::Fail),
            1 => (0_usize..8).prop_map(Call::Cancel),
            2 => Just(Call::Tick),
        ]
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum State {
        Waits(RequestId),
        Runs(RequestId),
        Over,
    }

    /// What its callers know of an admission.
    struct Model {
        admission: Admission<u32>,
        states: Vec<State>,
        now: Duration,
    }

    impl Model {
        fn decided(decision: Option<Decision>) -> State {
            match decision {
                Some(Decision::Admit(permit)) => State::Runs(permit.id),
                Some(Decision::Wait(id)) => State::Waits(id),
                Some(Decision::Shed(_)) | None => State::Over,
            }
        }

        /// The nth of those that run, or of all that are not over.
        fn nth(&self, nth: usize, only_running: bool) -> Option<(usize, RequestId)> {
            let held = |(at, state): (usize, &State)| match state {
                State::Runs(id) => Some((at, *id)),
                State::Waits(id) if !only_running => Some((at, *id)),
                _ => None,
            };
            let all: Vec<_> = self.states.iter().enumerate().filter_map(held).collect();
            (!all.is_empty()).then(|| all[nth % all.len()])
        }

        fn call(&mut self, call: Call) {
            let Self { now, .. } = *self;
            let number = self.states.len() as u32;
            let offered = |tier| Offer { arrived: now, ..offer(tier) };
            match call {
                Call::Offer(priority) => {
                    let tier = if priority { Tier::Priority } else { Tier::Regular };
                    let decision = self.admission.offer(now, offered(tier), number);
                    self.states.push(Self::decided(Some(decision)));
                }
                Call::Try => {
                    let permit = self.admission.try_admit(now, offered(Tier::Regular), number);
                    self.states.push(permit.map_or(State::Over, |permit| State::Runs(permit.id)));
                }
                Call::Dispatch(nth) => {
                    self.nth(nth, true).into_iter().for_each(|(_, id)| self.admission.dispatched(now, id));
                }
                Call::First(nth) => {
                    self.nth(nth, true).into_iter().for_each(|(_, id)| self.admission.first_token(now, id));
                }
                Call::Finish(nth) => {
                    if let Some((at, id)) = self.nth(nth, true) {
                        self.admission.finish(now, id, &Finished::default());
                        self.states[at] = State::Over;
                    }
                }
                Call::Fail(nth) => {
                    if let Some((at, id)) = self.nth(nth, true) {
                        self.states[at] = Self::decided(self.admission.failed(now, id, Failure::Reset));
                    }
                }
                Call::Cancel(nth) => {
                    if let Some((at, id)) = self.nth(nth, false) {
                        self.admission.cancel(now, id);
                        self.states[at] = State::Over;
                    }
                }
                Call::Tick => self.admission.tick(now, &[]),
            }
        }

        /// Hears all verdicts; each must be its own.
        fn hear(&mut self) -> Result<(), TestCaseError> {
            while let Some(told) = self.admission.poll(self.now) {
                let (request, before, after) = match told {
                    Told::Admitted(request, permit) => {
                        (request, State::Waits(permit.id), State::Runs(permit.id))
                    }
                    Told::Shed(request, id, _) => (request, State::Waits(id), State::Over),
                    Told::Withdrawn(request, id) => (request, State::Runs(id), State::Waits(id)),
                };
                prop_assert_eq!(self.states[request as usize], before);
                self.states[request as usize] = after;
            }
            Ok(())
        }

        fn outstanding(&self) -> (usize, usize) {
            let count = |of: fn(&State) -> bool| self.states.iter().filter(|state| of(state)).count();
            (count(|state| matches!(state, State::Waits(_))), count(|state| matches!(state, State::Runs(_))))
        }
    }

    proptest! {
        /// Whatever is called in whatever order: each request hears of its own verdicts only, at most one place is its own at
        /// a time, and when all have ended nothing is held.
        #[test]
        fn everybody_hears_of_its_own_and_all_comes_back(calls in prop::collection::vec(call(), 1..120)) {
            let mut model = Model { admission: admission(3.0), states: Vec::new(), now: START };
            for call in calls {
                model.now += ms(40);
                model.call(call);
                model.hear()?;
                prop_assert_eq!(model.admission.outstanding(), model.outstanding());
            }
            while model.nth(0, false).is_some() {
                model.call(Call::Cancel(0));
            }
            model.hear()?;
            let Model { mut admission, now, .. } = model;
            (0..120).for_each(|second| admission.tick(now + Duration::from_secs(second), &[]));
            prop_assert_eq!(admission.outstanding(), (0, 0));
            prop_assert!(admission.controller().snapshot(now + Duration::from_secs(120)).at_rest.is_zero());
        }
    }
}
