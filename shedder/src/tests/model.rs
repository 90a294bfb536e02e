//! Random operations beside a reference model: the guarantees of the front page.
//!
//! The model knows only who holds a permit and who waits. It does not know why, so it cannot repeat a
//! fault of the policy: it checks what must hold whatever the policy decides.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Op {
    Offer {
        tier: Tier,
        account: u64,
        tokens: u32,
        streaming: bool,
        has_output: bool,
        patience_ms: Option<u64>,
        needs: u64,
    },
    Dispatched(usize),
    FirstToken(usize),
    Finish(usize, u32),
    Cancel(usize),
    Failed(usize, Failure),
    Observe(u16, f64),
    Probe(u16, bool),
    Drain(u16, bool),
    Pressure(f64),
    Reload(u16, Option<u32>),
    Ceilings(f64, f64, f64),
    Tick(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let tokens = prop_oneof![Just(0_u32), 1..500_u32, 500..5_000_u32, 5_000..50_000_u32];
    let kind = (0..3_usize, 0..4_u64, any::<bool>(), prop::bool::weighted(0.9));
    let patience = prop::option::weighted(0.2, 0..3_000_u64);
    let needs = 0..3_u64;
    let offer = (kind, tokens, patience, needs).prop_map(
        |((tier, account, streaming, has_output), tokens, patience_ms, needs)| {
            let tier = Tier::ALL[tier];
            Op::Offer { tier, account, tokens, streaming, has_output, patience_ms, needs }
        },
    );
    let failure = prop_oneof![
        Just(Failure::Connect),
        Just(Failure::Reset),
        Just(Failure::Timeout),
        Just(Failure::Absent),
        Just(Failure::Ours),
        (0..4_u64).prop_map(|body| Failure::Unexplained { body }),
        Just(Failure::Busy { retry_after: None }),
        (0..20_000_u64).prop_map(|after| Failure::Busy { retry_after: Some(ms(after)) }),
    ];
    prop_oneof![
        8 => offer,
        4 => any::<usize>().prop_map(Op::Dispatched),
        4 => any::<usize>().prop_map(Op::FirstToken),
        4 => (any::<usize>(), 0..900_u32).prop_map(|(n, tokens)| Op::Finish(n, tokens)),
        2 => any::<usize>().prop_map(Op::Cancel),
        1 => (any::<usize>(), failure).prop_map(|(n, why)| Op::Failed(n, why)),
        1 => (0..3_u16, 0.0..1.2_f64).prop_map(|(on, used)| Op::Observe(on, used)),
        1 => (0..3_u16, any::<bool>()).prop_map(|(on, healthy)| Op::Probe(on, healthy)),
        1 => (0..3_u16, any::<bool>()).prop_map(|(on, drained)| Op::Drain(on, drained)),
        1 => (0.0..1.0_f64).prop_map(Op::Pressure),
        1 => (1..4_u16, prop::option::weighted(0.7, 1..8_u32)).prop_map(|(n, limit)| Op::Reload(n, limit)),
        1 => (0.0..1.2_f64, 0.0..1.2_f64, 0.0..1.2_f64).prop_map(|(a, b, c)| Op::Ceilings(a, b, c)),
        5 => (0..800_u64).prop_map(Op::Tick),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    let limit = prop::option::weighted(0.7, 1..8_u32);
    let queue = (0..12_u32, 1_000..100_000_u64, 100..2_000_u64);
    let options = (any::<bool>(), prop::option::of(0.0..1.0_f64), prop_oneof![Just(0.0), Just(0.2)]);
    (limit, queue, options).prop_map(|(limit, (requests, tokens, bytes), (withdraw, share_max, floor))| {
        Config {
            fixed_limit: limit.map(f64::from),
            queue: QueueBounds { requests, tokens, bytes, ..QueueBounds::default() },
            withdraw,
            aborts_on_disconnect: withdraw,
            share_max,
            regular_floor: floor,
            kv_tokens: Some(100_000),
            ..chat_slo()
        }
    })
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Known {
    Waiting(Tier),
    Active(Permit, bool),
}

/// The reference model and the log of everything that was answered.
struct Model {
    shedder: Shedder,
    config: Config,
    now: Duration,
    known: BTreeMap<RequestId, Known>,
    /// Since when those wait that do.
    since: BTreeMap<RequestId, Duration>,
    offered: u64,
    ended: u64,
    log: Vec<String>,
}

impl Model {
    fn new(config: &Config, count: u16) -> Self {
        let shedder = Shedder::new(ms(0), config.clone(), &replicas(count));
        let config = config.clone();
        let (known, since) = (BTreeMap::new(), BTreeMap::new());
        Self { shedder, config, now: ms(0), known, since, offered: 0, ended: 0, log: Vec::new() }
    }

    fn pick(&self, n: usize) -> Option<RequestId> {
        self.known.keys().nth(n % self.known.len().max(1)).copied()
    }

    fn active_on(&self, replica: ReplicaId) -> u32 {
        let on = |known: &&Known| matches!(known, Known::Active(permit, _) if permit.replica == replica);
        self.known.values().filter(on).count() as u32
    }

    fn waiting(&self, tier: Tier) -> usize {
        self.known.values().filter(|known| **known == Known::Waiting(tier)).count()
    }

    fn admit(&mut self, permit: Permit) {
        // Only regular has a floor.
        if permit.tier != REGULAR || self.config.regular_floor == 0.0 {
            let above: usize = permit.tier.above().map(|above| self.waiting(above)).sum();
            assert_eq!(above, 0, "it started while a higher tier waits: {permit:?}");
        }
        let others = self.known.values().any(|known| matches!(known, Known::Active(..)));
        self.known.insert(permit.id, Known::Active(permit, false));
        let snapshot = self.shedder.snapshot(self.now);
        let replica = snapshot.replicas.iter().find(|replica| replica.id == permit.replica).expect("known");
        // The floor lets regular use priority's places; with nothing running one request always starts.
        let ceiling = if self.config.regular_floor > 0.0 { 1.0 } else { snapshot.ceilings[permit.tier] };
        let places = ((ceiling * replica.limit + 1e-9) as u32).max(1);
        if others && !self.config.withdraw && self.config.fixed_limit.is_some() {
            assert!(self.active_on(permit.replica) <= places, "{permit:?} over {places} places: {replica:?}");
        }
    }

    fn verdicts(&mut self) {
        while let Some(verdict) = self.shedder.poll_verdict() {
            self.log.push(format!("{verdict:?}"));
            match verdict {
                Verdict::Admit(permit) => {
                    let before = self.known.get(&permit.id);
                    assert_eq!(before, Some(&Known::Waiting(permit.tier)), "{permit:?} did not wait");
                    self.admit(permit);
                }
                Verdict::Shed(id, refusal) => {
                    let before = self.known.remove(&id);
                    assert_eq!(before, Some(Known::Waiting(refusal.tier)), "{id:?} did not wait");
                    self.ended += 1;
                }
                Verdict::Withdraw(id) => {
                    let tier = match self.known.get(&id) {
                        Some(Known::Active(permit, false)) => permit.tier,
                        before => panic!("{before:?}"),
                    };
                    assert!(tier != PRIORITY, "{id:?} is of the highest tier");
                    self.known.insert(id, Known::Waiting(tier));
                    // Its wait begins anew, also if it was started and taken back by one and the same call.
                    self.since.remove(&id);
                }
            }
        }
    }

    fn decided(&mut self, decision: Decision, tier: Tier) {
        match decision {
            Decision::Admit(permit) => self.admit(permit),
            Decision::Wait(id) => {
                self.known.insert(id, Known::Waiting(tier));
            }
            Decision::Shed(_) => self.ended += 1,
        }
    }

    fn offer(&mut self, offer: Offer) {
        self.offered += 1;
        let downgraded = self.shedder.snapshot(self.now).counters.downgraded;
        let decision = self.shedder.offer(self.now, offer);
        let downgraded = self.shedder.snapshot(self.now).counters.downgraded > downgraded;
        let tier = if downgraded { REGULAR } else { offer.tier };
        self.log.push(format!("{decision:?}"));
        // Displacements and ended waits come before the newcomer's own place, withdrawals after it.
        let own = match decision {
            Decision::Wait(id) => Some(id),
            _ => None,
        };
        if own.is_some() {
            self.decided(decision, tier);
            self.verdicts();
        } else {
            self.verdicts();
            self.decided(decision, tier);
        }
    }

    fn fail(&mut self, id: RequestId, why: Failure) {
        let Some(&Known::Active(permit, _)) = self.known.get(&id) else { return };
        self.known.remove(&id);
        let answer = self.shedder.failed(self.now, id, why);
        self.log.push(format!("{answer:?}"));
        match answer {
            Some(Decision::Wait(_)) => {
                self.known.insert(id, Known::Waiting(permit.tier));
                self.verdicts();
            }
            Some(Decision::Shed(_)) | None => {
                self.ended += 1;
                self.verdicts();
            }
            Some(decision) => {
                self.verdicts();
                self.decided(decision, permit.tier);
            }
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Offer { tier, account, tokens, streaming, has_output, patience_ms, needs } => {
                let deadline = patience_ms.map(|patience| self.now + ms(patience));
                let plain = of_account(account, sized(tokens, offer(self.now, tier)));
                self.offer(Offer { streaming, has_output, deadline, needs, ..plain });
            }
            Op::Dispatched(n) => {
                self.pick(n).into_iter().for_each(|id| self.shedder.dispatched(self.now, id))
            }
            Op::FirstToken(n) => {
                let Some(id) = self.pick(n) else { return };
                if let Some(Known::Active(_, token)) = self.known.get_mut(&id) {
                    *token = true;
                    self.shedder.first_token(self.now, id);
                }
            }
            Op::Finish(n, generated) => {
                let Some(id) = self.pick(n) else { return };
                if let Some(Known::Active(..)) = self.known.get(&id) {
                    self.known.remove(&id);
                    self.ended += 1;
                    self.shedder.finish(self.now, id, &done(generated));
                }
            }
            Op::Cancel(n) => {
                let Some(id) = self.pick(n) else { return };
                self.known.remove(&id);
                self.ended += 1;
                self.shedder.cancel(self.now, id);
            }
            Op::Failed(n, why) => self.pick(n).into_iter().for_each(|id| self.fail(id, why)),
            Op::Observe(on, used) => {
                let scrape = Scrape { kv_used: Some(used), ..Scrape::default() };
                self.shedder.observe(self.now, ReplicaId(on), &scrape);
            }
            Op::Probe(on, healthy) => self.shedder.probe(self.now, ReplicaId(on), healthy),
            Op::Drain(on, drained) => self.shedder.set_drained(self.now, ReplicaId(on), drained),
            Op::Pressure(share) => self.shedder.set_pressure(self.now, share, self.now + ms(1_000)),
            Op::Reload(count, limit) => {
                self.config.fixed_limit = limit.map(f64::from);
                self.shedder.reconfigure(self.now, self.config.clone(), &replicas(count));
            }
            Op::Ceilings(priority, regular, flex) => {
                self.shedder.set_ceilings(self.now, PerTier { priority, regular, flex });
            }
            Op::Tick(step) => self.tick(step),
        }
        self.verdicts();
        self.note_waits();
        if matches!(op, Op::Tick(_)) {
            self.everybody_was_told();
        }
        self.compare();
    }

    fn note_waits(&mut self) {
        let known = &self.known;
        let waits = |id: &RequestId| matches!(known.get(id), Some(Known::Waiting(_)));
        self.since.retain(|id, _| waits(id));
        for id in known.keys().filter(|id| waits(id)) {
            self.since.entry(*id).or_insert(self.now);
        }
    }

    /// Each ticket has its verdict by the end of the longest wait, 0.85 of the TTFT target for priority, 0.9 for regular,
    /// and its own for flex.
    fn everybody_was_told(&self) {
        for (id, since) in &self.since {
            let most = match self.known.get(id) {
                Some(Known::Waiting(Tier::Regular)) => ms(1_800),
                Some(Known::Waiting(Tier::Flex)) => self.config.flex_wait,
                _ => ms(1_700),
            };
            let waited = self.now - *since;
            assert!(waited <= most, "{id:?} waits for {waited:?}: {:?}", self.known.get(id));
        }
    }

    fn tick(&mut self, step: u64) {
        self.now += ms(step);
        let harvest: Vec<_> = self
            .known
            .iter()
            .filter(|(_, known)| matches!(known, Known::Active(_, true)))
            .map(|(&id, _)| StreamProgress { id, chunks: 7, gap_sum: ms(7 * (step % 150)), gaps: 7 })
            .collect();
        self.shedder.tick(self.now, &harvest);
        let due = self.shedder.next_due();
        assert!(due.is_none_or(|due| due > self.now), "still due at {:?}: {due:?}", self.now);
    }

    fn compare(&self) {
        let snapshot = self.shedder.snapshot(self.now);
        let rest = snapshot.at_rest;
        let waiting = Tier::ALL.map(|tier| self.waiting(tier)).iter().sum::<usize>() as u64;
        assert_eq!(rest.requests, self.known.len() as u64);
        assert_eq!(rest.active - rest.booked, self.known.len() as u64 - waiting, "active = permits");
        assert_eq!(rest.queued_requests, waiting);
        assert_eq!(snapshot.queue.priority.requests as usize, self.waiting(PRIORITY));
        for replica in snapshot.replicas.iter().filter(|_| rest.booked == 0) {
            assert_eq!(replica.active, self.active_on(replica.id));
        }
        assert!(snapshot.replicas.iter().all(|replica| replica.limit >= 1.0));
        assert!(snapshot.replicas.iter().all(|replica| replica.absent <= 64 && replica.evidence <= 16));
        assert_eq!(self.offered - self.ended, self.known.len() as u64, "each request ends exactly once");
    }

    /// Ends everything and looks at what is left.
    fn come_to_rest(&mut self) {
        while let Some(id) = self.known.keys().next().copied() {
            self.known.remove(&id);
            self.ended += 1;
            self.shedder.cancel(self.now, id);
            self.verdicts();
        }
        // Longer than any booking of a withdrawn request.
        self.now += Duration::from_secs(2_000_000);
        self.shedder.tick(self.now, &[]);
        self.verdicts();
        let rest = self.shedder.snapshot(self.now).at_rest;
        assert!(rest.is_zero(), "{rest:?}");
    }
}

fn play(config: &Config, count: u16, ops: &[Op]) -> Vec<String> {
    let mut model = Model::new(config, count);
    ops.iter().for_each(|op| model.apply(op));
    model.come_to_rest();
    model.log
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// active = Σ permits; no tier over its ceiling; no lower tier before a higher one that waits; each
    /// ticket one verdict; nothing due after a tick; all sums zero at rest; the same twice.
    #[test]
    fn guarantees_hold_under_random_operations(
        config in config(),
        count in 1..4_u16,
        ops in prop::collection::vec(op(), 1..250),
    ) {
        let once = play(&config, count, &ops);
        let twice = play(&config, count, &ops);
        prop_assert_eq!(once, twice, "deterministic");
    }

    /// Bounds hold whatever is displaced.
    #[test]
    fn the_queue_never_holds_more_than_its_bounds(
        config in config(),
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let mut model = Model::new(&config, 2);
        for op in &ops {
            // A retry or a withdrawal returns to the queue whether or not it is full.
            if matches!(op, Op::Failed(..)) || config.withdraw {
                continue;
            }
            model.apply(op);
            let rest = model.shedder.snapshot(model.now).at_rest;
            prop_assert!(rest.queued_requests <= u64::from(config.queue.requests));
            prop_assert!(rest.queued_tokens <= config.queue.tokens);
            prop_assert!(rest.queued_bytes <= config.queue.bytes);
        }
    }
}
