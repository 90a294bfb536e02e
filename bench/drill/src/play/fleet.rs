//! The engines of a drill: which one steps next, what it said, and dying.

use std::collections::VecDeque;
use std::time::Duration;

use shedder::Scrape;

use crate::scenario::Scenario;
use crate::scenario::fleet::Deployment;
use engine::model::{EngineModel, EngineRequest, Event, Usage};
use engine::profile::Profile;

/// Why a request did not get into an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// Nobody listens.
    Dead,
    /// It can never fit there.
    Refused,
}

#[derive(Debug)]
struct Replica {
    profile: Profile,
    model: EngineModel,
    alive: bool,
    pace: u16,
    /// How often it died; what was on its way from an earlier life is lost.
    life: u32,
    /// What was said at the end of each step and has not arrived yet.
    said: VecDeque<Vec<Event>>,
    preemptions_before: u64,
    steps_before: u64,
}

/// All engines.
#[derive(Debug)]
pub(crate) struct Fleet {
    replicas: Vec<Replica>,
    /// When each replica's step is due, nanoseconds: they are looked at after each step, so they lie side by side.
    /// [`NEVER`]: none is.
    due: Vec<u64>,
    /// The first of them, and whose.
    first: (u64, u16),
    spare: Vec<Vec<Event>>,
}

/// No step is due.
const NEVER: u64 = u64::MAX;

impl Fleet {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let replica = |deployment: &Deployment| Replica {
            profile: deployment.profile.clone(),
            model: EngineModel::new(deployment.profile.clone()),
            alive: true,
            pace: 100,
            life: 0,
            said: VecDeque::new(),
            preemptions_before: 0,
            steps_before: 0,
        };
        let replicas: Vec<Replica> = scenario.replicas_by_deployment().map(replica).collect();
        Self { due: vec![NEVER; replicas.len()], first: (NEVER, 0), replicas, spare: Vec::new() }
    }

    fn of(&mut self, number: u16) -> Option<&mut Replica> {
        self.replicas.get_mut(usize::from(number))
    }

    /// The engine whose step is due first, of several the one with the smallest number, and when. O(1).
    pub(crate) fn next_step(&self) -> Option<(Duration, u16)> {
        let (at, number) = self.first;
        (at != NEVER).then_some((Duration::from_nanos(at), number))
    }

    /// Something happened to a replica: its next step may be another one. O(replicas) where it was the first.
    fn look(&mut self, number: u16) {
        let replica = self.replicas.get(usize::from(number));
        let next = replica.filter(|replica| replica.alive).and_then(|replica| replica.model.next_step_at());
        let next = next.map_or(NEVER, |at| at.as_nanos() as u64);
        if let Some(due) = self.due.get_mut(usize::from(number)) {
            *due = next;
        }
        if (next, number) <= self.first {
            self.first = (next, number);
        } else if number == self.first.1 {
            let least = self.due.iter().copied().min().unwrap_or(NEVER);
            let number = self.due.iter().position(|due| *due == least).unwrap_or(0);
            self.first = (least, number as u16);
        }
    }

    /// Makes that step. The life in which something was said, when something was.
    pub(crate) fn step(&mut self, now: Duration, number: u16) -> Option<u32> {
        let mut events = self.spare.pop().unwrap_or_default();
        let replica = self.replicas.get_mut(usize::from(number))?;
        replica.model.step(now, &mut events);
        let life = replica.life;
        let said = !events.is_empty();
        if said {
            replica.said.push_back(events);
        } else {
            self.spare.push(events);
        }
        self.look(number);
        said.then_some(life)
    }

    /// What was said first and not heard yet, unless the engine died since.
    pub(crate) fn hear(&mut self, number: u16, life: u32) -> Option<Vec<Event>> {
        self.of(number).filter(|replica| replica.life == life)?.said.pop_front()
    }

    /// Gives the memory of what was heard back.
    pub(crate) fn heard(&mut self, mut events: Vec<Event>) {
        events.clear();
        self.spare.push(events);
    }

    pub(crate) fn submit(
        &mut self,
        now: Duration,
        number: u16,
        request: EngineRequest,
    ) -> Result<(), Unsent> {
        let replica = self.of(number).filter(|replica| replica.alive).ok_or(Unsent::Dead)?;
        let taken = replica.model.submit(now, request).map_err(|_| Unsent::Refused);
        self.look(number);
        taken
    }

    pub(crate) fn abort(&mut self, now: Duration, number: u16, id: u64) -> Option<Usage> {
        let usage = self.of(number)?.model.abort(now, id);
        self.look(number);
        usage
    }

    /// Dies. What ran on it should have been aborted before, for the account of its work.
    pub(crate) fn lose(&mut self, number: u16) {
        let Some(replica) = self.of(number) else { return };
        let counters = replica.model.counters();
        replica.preemptions_before += counters.preemptions;
        replica.steps_before += counters.steps;
        replica.model = EngineModel::new(replica.profile.clone());
        replica.model.set_pace(f64::from(replica.pace) / 100.0);
        replica.alive = false;
        replica.life += 1;
        replica.said.clear();
        self.look(number);
    }

    pub(crate) fn bring_back(&mut self, number: u16) {
        if let Some(replica) = self.of(number) {
            replica.alive = true;
        }
        self.look(number);
    }

    /// It works at so many percent of its speed from the next step on.
    pub(crate) fn pace(&mut self, number: u16, percent: u16) {
        if let Some(replica) = self.of(number) {
            replica.pace = percent;
            replica.model.set_pace(f64::from(percent) / 100.0);
        }
    }

    /// What its metrics show, while it lives.
    pub(crate) fn scrape(&self, number: u16) -> Option<Scrape> {
        let replica = self.replicas.get(usize::from(number)).filter(|replica| replica.alive)?;
        let gauges = replica.model.gauges();
        Some(Scrape {
            running: gauges.running,
            waiting: gauges.waiting,
            kv_used: Some(gauges.kv_usage),
            kv_capacity_tokens: Some(u64::from(replica.profile.kv_tokens)),
            preemptions_total: Some(replica.model.counters().preemptions),
            slots: replica.profile.tells_slots.then_some(replica.profile.sequences_max),
            // Hardly any engine names it; whoever needs it has to find out.
            step_budget: None,
        })
    }

    /// Preemptions and steps of all lives.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let each = self.replicas.iter().map(|replica| {
            let counters = replica.model.counters();
            (replica.preemptions_before + counters.preemptions, replica.steps_before + counters.steps)
        });
        each.fold((0, 0), |sum, each| (sum.0 + each.0, sum.1 + each.1))
    }
}
