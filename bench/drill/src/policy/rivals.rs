//! The rules that other systems ship, on the same interface: no control, queue-or-memory, fixed concurrency.
//!
//! All three send to the replica with the fewest requests, and a request that failed before its first token once more.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use shedder::{Failure, Finished, PerTier, Reason, Scrape, Tier};

use super::{Answer, Arrival, Fault, Gate, Gauges, Policy, Progress};

/// Waiting requests at which the queue-or-memory rule calls an engine full.
const WAITING_MAX: f64 = 5.0;
/// KV use at which it does.
const MEMORY_MAX: f64 = 0.8;
/// Requests that fixed concurrency lets wait.
const QUEUE_MAX: usize = 5_000;

#[derive(Debug, Clone, Copy, Default)]
struct Replica {
    active: u32,
    dead: bool,
    full: f64,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    tier: Tier,
    on: Option<u16>,
    retried: bool,
}

/// One of the three at work.
#[derive(Debug)]
pub(crate) struct Rival {
    rule: Policy,
    replicas: Vec<Replica>,
    known: BTreeMap<u32, Request>,
    queues: PerTier<VecDeque<(u32, Duration)>>,
    verdicts: VecDeque<(u32, Answer)>,
}

impl Rival {
    pub(crate) fn new(rule: Policy, replicas: u16) -> Self {
        Self {
            rule,
            replicas: vec![Replica::default(); usize::from(replicas)],
            known: BTreeMap::new(),
            queues: PerTier::default(),
            verdicts: VecDeque::new(),
        }
    }

    fn places(&self, tier: Tier) -> u32 {
        match self.rule {
            Policy::FixedConcurrency { places, regular, .. } if tier == Tier::Regular => {
                (regular * f64::from(places)) as u32
            }
            Policy::FixedConcurrency { places, .. } => places,
            _ => u32::MAX,
        }
    }

    /// The living replica with the fewest requests, if it has a place for `tier`.
    fn least(&self, tier: Tier) -> Option<u16> {
        let living = self.replicas.iter().zip(0_u16..).filter(|(replica, _)| !replica.dead);
        let (replica, number) = living.min_by_key(|(replica, number)| (replica.active, *number))?;
        (replica.active < self.places(tier)).then_some(number)
    }

    fn is_full(&self) -> bool {
        let mean =
            self.replicas.iter().map(|replica| replica.full).sum::<f64>() / self.replicas.len().max(1) as f64;
        mean >= 1.0
    }

    fn send(&mut self, ticket: u32, to: u16) -> Answer {
        if let Some(replica) = self.replicas.get_mut(usize::from(to)) {
            replica.active += 1;
        }
        if let Some(request) = self.known.get_mut(&ticket) {
            request.on = Some(to);
        }
        Answer::Send(to)
    }

    /// Sends it, lets it wait, or refuses it.
    fn take(&mut self, now: Duration, ticket: u32, tier: Tier) -> Answer {
        let none_waits = tier.above().chain([tier]).all(|tier| self.queues[tier].is_empty());
        if let Some(to) = self.least(tier).filter(|_| none_waits) {
            return self.send(ticket, to);
        }
        let queued: usize = Tier::ALL.iter().map(|&tier| self.queues[tier].len()).sum();
        let waits = matches!(self.rule, Policy::FixedConcurrency { .. });
        if !waits || queued >= QUEUE_MAX {
            self.known.remove(&ticket);
            let reason = if waits { Reason::QueueFull } else { Reason::NoReplica };
            return Answer::Shed { reason, retry_after: None };
        }
        self.queues[tier].push_back((ticket, now));
        Answer::Wait
    }

    /// Whoever waits goes where there is a place.
    fn pump(&mut self) {
        for tier in Tier::ALL {
            while let (Some(&(ticket, _)), Some(to)) = (self.queues[tier].front(), self.least(tier)) {
                self.queues[tier].pop_front();
                let answer = self.send(ticket, to);
                self.verdicts.push_back((ticket, answer));
            }
        }
    }

    /// Forgets a request and frees its place.
    fn leave(&mut self, ticket: u32) -> Option<Request> {
        let request = self.known.remove(&ticket)?;
        match request.on {
            Some(on) => {
                if let Some(replica) = self.replicas.get_mut(usize::from(on)) {
                    replica.active = replica.active.saturating_sub(1);
                }
            }
            None => self.queues[request.tier].retain(|(waiting, _)| *waiting != ticket),
        }
        Some(request)
    }
}

impl Gate for Rival {
    fn offer(&mut self, now: Duration, arrival: Arrival) -> Answer {
        if self.rule == Policy::QueueOrMemory && arrival.tier == Tier::Regular && self.is_full() {
            return Answer::Shed { reason: Reason::Saturated, retry_after: None };
        }
        self.known.insert(arrival.ticket, Request { tier: arrival.tier, on: None, retried: false });
        self.take(now, arrival.ticket, arrival.tier)
    }

    fn dispatched(&mut self, _now: Duration, _ticket: u32) {}

    fn first_token(&mut self, _now: Duration, _ticket: u32) {}

    fn finish(&mut self, _now: Duration, ticket: u32, _how: &Finished) {
        self.leave(ticket);
        self.pump();
    }

    fn cancel(&mut self, _now: Duration, ticket: u32) {
        self.leave(ticket);
        self.pump();
    }

    fn failed(&mut self, now: Duration, ticket: u32, fault: Fault) -> Option<Answer> {
        let request = self.leave(ticket)?;
        if let Some(replica) = request.on.and_then(|on| self.replicas.get_mut(usize::from(on))) {
            replica.dead = !matches!(fault.failure, Failure::Busy { .. });
        }
        let again = !request.retried;
        let answer = again.then(|| {
            self.known.insert(ticket, Request { tier: request.tier, on: None, retried: true });
            self.take(now, ticket, request.tier)
        });
        self.pump();
        answer
    }

    fn tick(&mut self, now: Duration, _harvest: &[Progress]) {
        let Policy::FixedConcurrency { wait, .. } = self.rule else { return };
        for tier in Tier::ALL {
            while let Some(&(ticket, since)) =
                self.queues[tier].front().filter(|(_, since)| *since + wait <= now)
            {
                self.queues[tier].pop_front();
                self.known.remove(&ticket);
                debug_assert!(since <= now);
                let shed = Answer::Shed { reason: Reason::QueueTimeout, retry_after: None };
                self.verdicts.push_back((ticket, shed));
            }
        }
    }

    fn observe(&mut self, _now: Duration, replica: u16, scrape: &Scrape) {
        if let Some(replica) = self.replicas.get_mut(usize::from(replica)) {
            replica.dead = false;
            let memory = scrape.kv_used.unwrap_or(0.0) / MEMORY_MAX;
            replica.full = (f64::from(scrape.waiting) / WAITING_MAX).max(memory);
        }
        self.pump();
    }

    fn verdict(&mut self) -> Option<(u32, Answer)> {
        self.verdicts.pop_front()
    }

    fn gauges(&self, _now: Duration) -> Gauges {
        let limit = match self.places(Tier::Priority) {
            u32::MAX => 0.0,
            places => f64::from(places),
        };
        Gauges {
            limit,
            active: self.replicas.iter().map(|replica| replica.active).sum(),
            queued: Tier::ALL.iter().map(|&tier| self.queues[tier].len() as u32).sum(),
        }
    }

    fn at_rest(&self, _now: Duration) -> bool {
        self.known.is_empty() && self.replicas.iter().all(|replica| replica.active == 0)
    }
}
