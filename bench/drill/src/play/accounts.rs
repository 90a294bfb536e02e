//! The customers' side of a drill's gateway: how many requests they may send, what their budgets hold, and whether limits grow.
//!
//! All of it is decided by the gateway's own parts: [`limits`], [`gateway_core::entry`], [`gateway_core::growth`] and
//! [`gateway_core::settlement`]. An account without a budget, or without a bound on its requests, has no limit.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway_core::entry::{AnswerSize, Entry};
use gateway_core::growth::LastMinute;
use gateway_core::settlement::Weighed;
use limits::{Budget, Meter, RequestMeter, RequestRefusalKind, Used};

use crate::policy::BudgetGauge;
use crate::run::Limit;
use crate::scenario::Scenario;
use crate::scenario::fleet::{Requests, Spending};

type Key = (u32, u16);

/// A refusal by a limit of the account's own, and when it would not be one.
pub(super) type Refused = (Limit, Option<Duration>);

/// Everybody's limits. Entries are bounded by the requests that are under way.
#[derive(Debug)]
pub(super) struct Accounts {
    spendings: Vec<Spending>,
    bounds: Vec<Requests>,
    budgets: BTreeMap<Key, Budget>,
    meters: BTreeMap<u32, RequestMeter>,
    /// Whose requests count in a meter.
    entered: BTreeMap<u32, u32>,
    entries: BTreeMap<u32, (Key, Entry)>,
    /// Regular requests without a verdict.
    undecided: BTreeMap<u32, Key>,
    /// Of each model.
    offered: BTreeMap<u16, LastMinute<u32>>,
    /// Above this share of what the others offered shed, limits do not grow.
    short_above: f64,
}

impl Accounts {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let mut accounts = Self {
            spendings: scenario.budgets.clone(),
            bounds: scenario.requests.clone(),
            budgets: BTreeMap::new(),
            meters: BTreeMap::new(),
            entered: BTreeMap::new(),
            entries: BTreeMap::new(),
            undecided: BTreeMap::new(),
            offered: BTreeMap::new(),
            short_above: scenario.shed_share_max,
        };
        accounts.restart(Duration::ZERO);
        accounts
    }

    /// Another process begins. The drill's gateway keeps no journal, so everything begins anew.
    pub(super) fn restart(&mut self, now: Duration) {
        let budget = |one: &Spending| ((one.account, one.model), Budget::new(now, one.budget));
        self.budgets = self.spendings.iter().map(budget).collect();
        let meter = |one: &Requests| (one.account, RequestMeter::new(one.per_minute, one.concurrency));
        self.meters = self.bounds.iter().map(meter).collect();
        self.entered.clear();
        self.entries.clear();
        self.undecided.clear();
        self.offered.clear();
    }

    /// Whether anybody has a budget.
    pub(super) fn has_budgets(&self) -> bool {
        !self.budgets.is_empty()
    }

    /// A request has come.
    ///
    /// # Errors
    /// Too many were sent in the last minute, or are under way.
    pub(super) fn enter(&mut self, now: Duration, ticket: u32, account: u32) -> Result<(), Refused> {
        let Some(meter) = self.meters.get_mut(&account) else { return Ok(()) };
        meter.enter(now).map_err(|refused| {
            let limit = match refused.kind {
                RequestRefusalKind::Requests => Limit::Requests,
                RequestRefusalKind::Concurrency => Limit::Concurrency,
            };
            (limit, refused.retry_after)
        })?;
        self.entered.insert(ticket, account);
        Ok(())
    }

    /// It reserves what it will use.
    ///
    /// # Errors
    /// A meter of its budget has no room.
    pub(super) fn reserve(
        &mut self,
        now: Duration,
        ticket: u32,
        key: Key,
        weighed: Weighed,
        (usual, tokens_per_chunk): (u64, f64),
    ) -> Result<(), Refused> {
        let Some(budget) = self.budgets.get_mut(&key) else { return Ok(()) };
        let wanted = AnswerSize { tokens_max: None, choices: 1, usual };
        let (entry, _) = Entry::reserve(now, budget, weighed, tokens_per_chunk, wanted)
            .map_err(|refused| (Limit::Meter(refused.meter), refused.retry_after))?;
        self.entries.insert(ticket, (key, entry));
        Ok(())
    }

    /// It is offered now.
    pub(super) fn offered(&mut self, ticket: u32, key: Key, is_regular: bool) {
        if is_regular && self.has_budgets() {
            self.undecided.insert(ticket, key);
        }
    }

    /// The first verdict on it.
    pub(super) fn decided(&mut self, now: Duration, ticket: u32, shed: bool) {
        if let Some((account, model)) = self.undecided.remove(&ticket) {
            self.offered.entry(model).or_default().decided(now.as_secs(), &account, shed);
        }
    }

    fn entry(&mut self, ticket: u32) -> Option<(&mut Entry, &mut Budget)> {
        let (key, entry) = self.entries.get_mut(&ticket)?;
        Some((entry, self.budgets.get_mut(key)?))
    }

    /// Whether an engine works on its prompt.
    pub(super) fn set_started(&mut self, ticket: u32, is_started: bool) {
        if let Some((entry, _)) = self.entry(ticket) {
            entry.set_started(is_started);
        }
    }

    /// Its first token came.
    pub(super) fn first_token(&mut self, now: Duration, ticket: u32) {
        if let Some((entry, budget)) = self.entry(ticket) {
            entry.charge_prompt(now, budget);
        }
    }

    /// So many chunks of it came.
    pub(super) fn chunks(&mut self, now: Duration, ticket: u32, chunks: u32) {
        if let Some((entry, budget)) = self.entry(ticket) {
            entry.charge_chunks(now, budget, chunks);
        }
    }

    /// It is over, and used this.
    pub(super) fn settle(&mut self, now: Duration, ticket: u32, used: &Used) {
        if let Some((key, entry)) = self.entries.remove(&ticket)
            && let Some(budget) = self.budgets.get_mut(&key)
        {
            entry.settle(now, budget, used);
        }
    }

    /// Everything of it is over. What was not settled is given up.
    pub(super) fn leave(&mut self, now: Duration, ticket: u32) {
        if let Some((key, entry)) = self.entries.remove(&ticket)
            && let Some(budget) = self.budgets.get_mut(&key)
        {
            entry.give_up(now, budget);
        }
        self.undecided.remove(&ticket);
        if let Some(account) = self.entered.remove(&ticket)
            && let Some(meter) = self.meters.get_mut(&account)
        {
            meter.leave();
        }
    }

    /// Freezes and thaws the budgets; once a second.
    pub(super) fn watch_shortage(&mut self, now: Duration) {
        self.offered.values_mut().for_each(|minute| minute.forget(now.as_secs()));
        for ((account, model), budget) in &mut self.budgets {
            budget.advance(now);
            let is_short = self
                .offered
                .get(model)
                .is_some_and(|minute| minute.offered().is_short_for(account, self.short_above));
            budget.set_frozen(now, is_short);
        }
    }

    /// What to show of the budgets: of each account the fullest, where it has several.
    pub(super) fn gauges(&self, now: Duration) -> Vec<BudgetGauge> {
        let mut gauges: BTreeMap<u32, BudgetGauge> = BTreeMap::new();
        for ((account, _), budget) in &self.budgets {
            let view = budget.clone().view(now);
            let meters = Meter::ALL.map(|meter| *view.get(meter));
            let gauge = BudgetGauge {
                account: *account,
                used: meters.map(|meter| meter.used + meter.reserved + meter.debt),
                limit: meters.map(|meter| meter.limit),
            };
            let known = gauges.entry(*account).or_insert(gauge);
            if gauge.fullness() > known.fullness() {
                *known = gauge;
            }
        }
        gauges.into_values().collect()
    }

    /// Whether nothing is reserved and nobody counted.
    pub(super) fn is_at_rest(&self) -> bool {
        let is_reserved = self.budgets.values().any(|budget| budget.live() > 0);
        !is_reserved && self.entries.is_empty() && self.entered.is_empty()
    }
}
