//! Budgets before a policy: the shipped [`limits`] crate, driven as the gateway drives it.
//!
//! An account with a budget reserves before it is offered, is charged when its first token and its further ones come,
//! and is settled at its end by what the engine says. What is refused here the policy never sees. While more than a
//! small share of what the *others* offered in the last minute was shed, no limit grows.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway_core::growth::LastMinute;
use gateway_core::settlement::{self, Told, Weighed, given_up};
use limits::{Ask, Budget, BudgetConfig, Meter, Reservation};
use shedder::{Failure, Finished, Scrape, Tier};

use super::{Answer, Arrival, BudgetGauge, Gate, Gauges, Inside, Progress};
use crate::scenario::Scenario;

/// A running request of an account with a budget.
#[derive(Debug)]
struct Entry {
    account: u32,
    reservation: Reservation,
    weighed: Weighed,
    generated: u64,
    dispatched: bool,
}

/// A policy behind budgets. Entries are bounded by the requests that are under way.
pub(crate) struct Metered {
    inner: Box<dyn Gate>,
    configs: Vec<(u32, BudgetConfig)>,
    budgets: BTreeMap<u32, Budget>,
    entries: BTreeMap<u32, Entry>,
    /// Tier and account of what the policy has not answered for good.
    regular: BTreeMap<u32, u32>,
    offered: LastMinute<u32>,
    /// Above this share of what the others offered shed, limits do not grow.
    short_above: f64,
    /// The time of the last call: verdicts come without one.
    latest: Duration,
}

impl Metered {
    pub(crate) fn new(inner: Box<dyn Gate>, scenario: &Scenario) -> Self {
        let configs = scenario.budgets.clone();
        let budgets = fresh(Duration::ZERO, &configs);
        Self {
            inner,
            configs,
            budgets,
            entries: BTreeMap::new(),
            regular: BTreeMap::new(),
            offered: LastMinute::default(),
            short_above: scenario.shed_share_max,
            latest: Duration::ZERO,
        }
    }

    /// Freezes and thaws the budgets; once a second.
    fn watch_shortage(&mut self, now: Duration) {
        self.offered.forget(now.as_secs());
        for (account, budget) in &mut self.budgets {
            budget.advance(now);
            budget.set_frozen(now, self.offered.offered().is_short_for(account, self.short_above));
        }
    }

    /// What a verdict means for the account.
    fn answered(&mut self, now: Duration, ticket: u32, answer: &Answer) {
        let shed = matches!(answer, Answer::Shed { .. } | Answer::Limited { .. });
        if (shed || matches!(answer, Answer::Send(_)))
            && let Some(account) = self.regular.remove(&ticket)
        {
            self.offered.decided(now.as_secs(), &account, shed);
        }
        if shed {
            self.give_back(now, ticket);
        }
    }

    /// The end without an answer.
    fn give_back(&mut self, now: Duration, ticket: u32) {
        let Some(entry) = self.entries.remove(&ticket) else { return };
        let Some(budget) = self.budgets.get_mut(&entry.account) else { return };
        match given_up(entry.weighed, entry.generated, entry.dispatched) {
            Some(used) => budget.settle(now, entry.reservation, &used),
            None => budget.release(now, entry.reservation),
        }
    }
}

fn fresh(now: Duration, configs: &[(u32, BudgetConfig)]) -> BTreeMap<u32, Budget> {
    configs.iter().map(|(account, config)| (*account, Budget::new(now, *config))).collect()
}

impl Gate for Metered {
    fn offer(&mut self, now: Duration, arrival: &Arrival) -> Answer {
        self.latest = now;
        if let Some(budget) = self.budgets.get_mut(&arrival.account) {
            let (prompt, uncached) = (u64::from(arrival.prompt), u64::from(arrival.uncached.least()));
            let ask = Ask {
                prompt,
                uncached_prompt: uncached,
                max_generated: None,
                choices: 1,
                usual_of_model: Some(u64::from(arrival.expected_output)),
            };
            match budget.reserve(now, &ask) {
                Err(refusal) => {
                    return Answer::Limited { meter: refusal.meter, retry_after: refusal.retry_after };
                }
                Ok(reservation) => {
                    let account = arrival.account;
                    let entry = Entry {
                        account,
                        reservation,
                        weighed: Weighed { prompt, uncached },
                        generated: 0,
                        dispatched: false,
                    };
                    self.entries.insert(arrival.ticket, entry);
                }
            }
        }
        if arrival.tier == Tier::Regular {
            self.regular.insert(arrival.ticket, arrival.account);
        }
        let answer = self.inner.offer(now, arrival);
        self.answered(now, arrival.ticket, &answer);
        answer
    }

    fn dispatched(&mut self, now: Duration, ticket: u32) {
        if let Some(entry) = self.entries.get_mut(&ticket) {
            entry.dispatched = true;
        }
        self.inner.dispatched(now, ticket);
    }

    fn first_token(&mut self, now: Duration, ticket: u32) {
        self.latest = now;
        if let Some(entry) = self.entries.get_mut(&ticket)
            && let Some(budget) = self.budgets.get_mut(&entry.account)
        {
            budget.charge_prompt(now, &mut entry.reservation);
        }
        self.inner.first_token(now, ticket);
    }

    fn finish(&mut self, now: Duration, ticket: u32, how: &Finished) {
        self.latest = now;
        if let Some(entry) = self.entries.remove(&ticket)
            && let Some(budget) = self.budgets.get_mut(&entry.account)
        {
            let told = Told {
                prompt: entry.weighed.prompt,
                cached: how.cached.map(u64::from),
                generated: how.generated.into(),
            };
            let answer = settlement::Answer {
                told: Some(told),
                counted: entry.generated,
                runs: false,
                finished: true,
            };
            budget.settle(now, entry.reservation, &answer.used(entry.weighed, entry.weighed));
        }
        self.inner.finish(now, ticket, how);
    }

    fn cancel(&mut self, now: Duration, ticket: u32) {
        self.latest = now;
        self.regular.remove(&ticket);
        self.give_back(now, ticket);
        self.inner.cancel(now, ticket);
    }

    fn failed(&mut self, now: Duration, ticket: u32, why: Failure) -> Option<Answer> {
        self.latest = now;
        if let Some(entry) = self.entries.get_mut(&ticket) {
            // Its engine gave up before a token: nothing of the prompt is owed.
            entry.dispatched &= entry.generated > 0;
        }
        let answer = self.inner.failed(now, ticket, why);
        match &answer {
            Some(answer) => self.answered(now, ticket, answer),
            None => self.give_back(now, ticket),
        }
        answer
    }

    fn tick(&mut self, now: Duration, harvest: &[Progress]) {
        self.latest = now;
        for progress in harvest {
            let Some(entry) = self.entries.get_mut(&progress.ticket) else { continue };
            let Some(budget) = self.budgets.get_mut(&entry.account) else { continue };
            let tokens = u64::from(progress.tokens);
            entry.generated += tokens;
            budget.charge_generated(now, &mut entry.reservation, tokens);
        }
        if now.subsec_nanos() == 0 {
            self.watch_shortage(now);
        }
        self.inner.tick(now, harvest);
    }

    fn observe(&mut self, now: Duration, replica: u16, scrape: &Scrape) {
        self.latest = now;
        self.inner.observe(now, replica, scrape);
    }

    fn verdict(&mut self) -> Option<(u32, Answer)> {
        let (ticket, answer) = self.inner.verdict()?;
        self.answered(self.latest, ticket, &answer);
        Some((ticket, answer))
    }

    fn gauges(&self, now: Duration) -> Gauges {
        self.inner.gauges(now)
    }

    fn at_rest(&self, now: Duration) -> bool {
        let reserved = self.budgets.values().any(|budget| budget.live() > 0);
        !reserved && self.entries.is_empty() && self.inner.at_rest(now)
    }

    fn inside(&self, now: Duration) -> Inside {
        let budgets = self.budgets.iter().map(|(account, budget)| {
            let view = budget.clone().view(now);
            let meters = Meter::ALL.map(|meter| *view.get(meter));
            BudgetGauge {
                account: *account,
                used: meters.map(|meter| meter.used + meter.reserved + meter.debt),
                limit: meters.map(|meter| meter.limit),
            }
        });
        Inside { budgets: budgets.collect(), ..self.inner.inside(now) }
    }

    fn drain(&mut self, now: Duration, replica: u16, drained: bool) {
        self.latest = now;
        self.inner.drain(now, replica, drained);
    }

    fn press(&mut self, now: Duration, share: f64, until: Duration) {
        self.inner.press(now, share, until);
    }

    /// The drill's gateway keeps no journal, so budgets begin anew.
    fn restart(&mut self, now: Duration) {
        self.budgets = fresh(now, &self.configs);
        self.entries.clear();
        self.regular.clear();
        self.inner.restart(now);
    }
}
