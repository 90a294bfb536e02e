//! The shipped policy: the gateway's processes, usually one. After an upgrade the new one takes what comes, and the old one
//! finishes what it has.

use std::time::Duration;

use shedder::learned::Neighbour;
use shedder::{Config, Finished, Scrape};

use super::process::Process;
use super::{Answer, Arrival, Fault, Gate, Gauges, Inside, Progress};
use crate::scenario::Scenario;

/// All processes, the newest last; never none.
#[derive(Debug)]
pub(crate) struct Ours {
    newest: Process,
    /// Those that finish what they have.
    before: Vec<Process>,
    config: Option<Config>,
    scenario: Scenario,
}

impl Ours {
    /// Told of each deployment what the scenario says, or `config` of all.
    pub(crate) fn new(config: Option<&Config>, scenario: &Scenario) -> Self {
        // Of the scenario only the fleet is needed again.
        let scenario = Scenario { sources: Vec::new(), incidents: Vec::new(), ..scenario.clone() };
        let newest = Process::new(Duration::ZERO, config, &scenario);
        Self { newest, before: Vec::new(), config: config.cloned(), scenario }
    }

    /// The process that holds this request.
    fn of(&mut self, ticket: u32) -> &mut Process {
        let Self { newest, before, .. } = self;
        before.iter_mut().find(|process| process.holds(ticket)).unwrap_or(newest)
    }

    /// What neighbours tell each other, as often as the gateway's do.
    fn exchange(&mut self, now: Duration) {
        // In the order of their starts, each hears of the one before, then back again.
        let mut chain: Vec<&mut Process> = self.all().collect();
        for nth in 0..chain.len() {
            let (before, rest) = chain.split_at_mut(nth);
            if let Some(process) = rest.first_mut() {
                process.hear(now, Neighbour::Before, before.last().map(|process| &**process));
            }
        }
        for nth in (0..chain.len()).rev() {
            let (rest, after) = chain.split_at_mut(nth + 1);
            if let Some(process) = rest.last_mut() {
                process.hear(now, Neighbour::After, after.first().map(|process| &**process));
            }
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Process> {
        self.before.iter_mut().chain([&mut self.newest])
    }
}

impl Gate for Ours {
    fn offer(&mut self, now: Duration, arrival: Arrival) -> Answer {
        self.newest.offer(now, arrival)
    }

    fn dispatched(&mut self, now: Duration, ticket: u32) {
        self.of(ticket).dispatched(now, ticket);
    }

    fn first_token(&mut self, now: Duration, ticket: u32) {
        self.of(ticket).first_token(now, ticket);
    }

    fn finish(&mut self, now: Duration, ticket: u32, how: &Finished) {
        self.of(ticket).finish(now, ticket, how);
    }

    fn cancel(&mut self, now: Duration, ticket: u32) {
        self.of(ticket).cancel(now, ticket);
    }

    fn failed(&mut self, now: Duration, ticket: u32, fault: Fault) -> Option<Answer> {
        self.of(ticket).failed(now, ticket, fault)
    }

    fn tick(&mut self, now: Duration, harvest: &[Progress]) {
        self.all().for_each(|process| process.tick(now, harvest));
        if self.before.is_empty() {
            return;
        }
        self.before.retain(|process| !process.is_empty());
        self.exchange(now);
    }

    fn observe(&mut self, now: Duration, replica: u16, scrape: &Scrape) {
        self.all().for_each(|process| process.observe(now, replica, scrape));
    }

    fn verdict(&mut self) -> Option<(u32, Answer)> {
        self.all().find_map(Gate::verdict)
    }

    fn gauges(&self, now: Duration) -> Gauges {
        self.newest.gauges(now)
    }

    fn inside(&self, now: Duration) -> Inside {
        self.newest.inside(now)
    }

    fn drain(&mut self, now: Duration, replica: u16, drained: bool) {
        self.all().for_each(|process| process.drain(now, replica, drained));
    }

    fn press(&mut self, now: Duration, share: f64, until: Duration) {
        self.all().for_each(|process| process.press(now, share, until));
    }

    fn restart(&mut self, now: Duration) {
        self.before.clear();
        self.newest = Process::new(now, self.config.as_ref(), &self.scenario);
    }

    fn upgrade(&mut self, now: Duration) {
        let mut newest = Process::new(now, self.config.as_ref(), &self.scenario);
        newest.adopt(now, &self.newest);
        self.before.push(std::mem::replace(&mut self.newest, newest));
    }

    fn at_rest(&self, now: Duration) -> bool {
        self.before.iter().chain([&self.newest]).all(|process| process.at_rest(now))
    }
}
