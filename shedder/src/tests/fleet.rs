//! Replicas that serve, fail or lack by a table, in virtual time: for what happens between them rather than inside.

use std::collections::BTreeMap;

use super::*;

/// A request of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) account: u64,
    pub(crate) body: u64,
    pub(crate) needs: u64,
    pub(crate) tier: Tier,
    /// Bound to this replica by its session and its cached prompt.
    pub(crate) pinned: Option<ReplicaId>,
}

/// What becomes of it on one replica.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Does {
    /// First token after 20 ms and 0.4 ms for each token that is not cached, and the end after the fleet's hold.
    Serve,
    /// The failure comes after a millisecond.
    Fail(Failure),
}

#[derive(Debug, Clone, Copy)]
enum Event {
    First(RequestId),
    End(RequestId),
    Fail(RequestId, Failure),
    Tick,
}

/// See the module.
pub(crate) struct Fleet<F: Fn(ReplicaId, &Ask) -> Does> {
    pub(crate) shedder: Shedder,
    pub(crate) now: Duration,
    /// Requests sent for the first time, and all sendings, by replica.
    pub(crate) first_sent: Vec<u32>,
    pub(crate) sent: Vec<u32>,
    pub(crate) served: u32,
    /// Requests that the failing replica was the last word on.
    pub(crate) failed: u32,
    pub(crate) shed: Vec<Rejection>,
    /// Most replicas out of service at a time.
    pub(crate) out_most: usize,
    hold: Duration,
    does: F,
    live: BTreeMap<RequestId, Ask>,
    seen: std::collections::BTreeSet<RequestId>,
    events: BTreeMap<(Duration, u64), Event>,
    count: u64,
}

impl<F: Fn(ReplicaId, &Ask) -> Does> Fleet<F> {
    pub(crate) fn new(count: u16, hold: Duration, does: F) -> Self {
        let mut fleet = Self {
            shedder: shedder(chat_slo(), count),
            now: ms(0),
            first_sent: vec![0; usize::from(count)],
            sent: vec![0; usize::from(count)],
            served: 0,
            failed: 0,
            shed: Vec::new(),
            out_most: 0,
            hold,
            does,
            live: BTreeMap::new(),
            seen: Default::default(),
            events: BTreeMap::new(),
            count: 0,
        };
        fleet.at(ms(250), Event::Tick);
        fleet
    }

    fn at(&mut self, when: Duration, event: Event) {
        self.count += 1;
        self.events.insert((when, self.count), event);
    }

    /// Lets time pass until `until`.
    pub(crate) fn run(&mut self, until: Duration) {
        while let Some((&key, &event)) = self.events.first_key_value()
            && key.0 <= until
        {
            self.events.remove(&key);
            self.now = key.0;
            self.happen(event);
            self.verdicts();
            let replicas = self.shedder.snapshot(self.now).replicas;
            self.out_most = self.out_most.max(replicas.iter().filter(|replica| !replica.healthy).count());
        }
        self.now = until;
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::First(id) => self.shedder.first_token(now, id),
            Event::End(id) => {
                self.live.remove(&id);
                self.served += 1;
                self.shedder.finish(now, id, &done(20));
            }
            Event::Fail(id, why) => match self.shedder.failed(now, id, why) {
                Some(Decision::Admit(permit)) => self.send(permit),
                Some(Decision::Wait(_)) => {}
                Some(Decision::Shed(rejection)) => self.end(id, Some(rejection)),
                None => self.end(id, None),
            },
            Event::Tick => {
                self.shedder.tick(now, &[]);
                self.at(now + ms(250), Event::Tick);
            }
        }
    }

    fn end(&mut self, id: RequestId, rejection: Option<Rejection>) {
        self.live.remove(&id);
        self.failed += u32::from(rejection.is_none());
        self.shed.extend(rejection);
    }

    fn verdicts(&mut self) {
        while let Some(verdict) = self.shedder.poll_verdict() {
            match verdict {
                Verdict::Admit(permit) => self.send(permit),
                Verdict::Shed(id, rejection) => self.end(id, Some(rejection)),
                Verdict::Withdraw(_) => {}
            }
        }
    }

    fn send(&mut self, permit: Permit) {
        let on = usize::from(permit.replica.0);
        self.sent[on] += 1;
        self.first_sent[on] += u32::from(self.seen.insert(permit.id));
        self.shedder.dispatched(self.now, permit.id);
        let ask = self.live[&permit.id];
        match (self.does)(permit.replica, &ask) {
            Does::Serve => {
                let uncached = if ask.pinned == Some(permit.replica) { 100 } else { 200 };
                self.at(self.now + ms(20 + uncached * 2 / 5), Event::First(permit.id));
                self.at(self.now + self.hold, Event::End(permit.id));
            }
            Does::Fail(why) => self.at(self.now + ms(1), Event::Fail(permit.id, why)),
        }
    }

    /// Offers one request.
    pub(crate) fn ask(&mut self, ask: Ask) {
        let plain = of_account(ask.account, sized(200, offer(self.now, ask.tier)));
        let mut uncached = plain.uncached;
        uncached.best[0] = ask.pinned.map(|replica| (replica, 100));
        let asked = Offer { uncached, affinity: ask.pinned, needs: ask.needs, expected_output: 20, ..plain };
        match self.shedder.offer(self.now, asked) {
            Decision::Admit(permit) => {
                self.live.insert(permit.id, ask);
                self.send(permit);
            }
            Decision::Wait(id) => {
                self.live.insert(id, ask);
            }
            Decision::Shed(rejection) => self.shed.push(rejection),
        }
        self.verdicts();
    }

    /// Offers `count` requests, one every `gap`.
    pub(crate) fn ask_many(&mut self, count: u64, gap: Duration, ask: impl Fn(u64) -> Ask) {
        for n in 0..count {
            self.ask(ask(n));
            self.run(self.now + gap);
        }
    }

    /// Lets everything end, and looks at what is left.
    pub(crate) fn rest(&mut self) {
        self.run(self.now + Duration::from_secs(40));
        let rest = self.shedder.snapshot(self.now).at_rest;
        assert!(rest.is_zero(), "{rest:?}");
        assert!(self.live.is_empty(), "{:?}", self.live);
    }

    pub(crate) fn replica(&self, id: u16) -> ReplicaSnapshot {
        self.shedder.replica_snapshot(self.now, ReplicaId(id)).expect("known")
    }
}
