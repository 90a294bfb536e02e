//! Who is sent where, who waits and who is refused: the policies behind one interface.
//!
//! | policy | what it is |
//! |---|---|
//! | `Shipped` | the gateway's own decisions, told what the scenario says of each deployment: no more than the service level, unless a config is played |
//! | `Tuned` | the same with another configuration: a fixed limit makes it the oracle that C* is taken from |
//! | `NoControl` | everything is sent at once to the replica with the fewest requests |
//! | `QueueOrMemory` | regular is refused while the mean over replicas of max(waiting / 5, KV / 0.8) is 1 or more, read every 200 ms |
//! | `FixedConcurrency` | so many requests per replica, strict priority, first come, first served, and a bounded wait |
//!
//! The last three are the rules of other systems, written down again; they see replicas fail at once, which flatters
//! them.

mod ours;
mod process;
mod rivals;

use std::time::Duration;

use shedder::{Config, Failure, Finished, Reason, Scrape, Tier, Uncached};

use crate::scenario::Scenario;
use ours::Ours;
use rivals::Rival;

/// Which policy, as data.
#[derive(Debug, Clone, PartialEq)]
pub enum Policy {
    /// As it is delivered.
    Shipped,
    /// With another configuration; the service level is the scenario's if it names none.
    Tuned(Box<Config>),
    /// All at once.
    NoControl,
    /// The queue-or-memory rule.
    QueueOrMemory,
    /// A fixed number.
    FixedConcurrency {
        /// Requests per replica.
        places: u32,
        /// The longest wait.
        wait: Duration,
        /// The part of them that regular may fill.
        regular: f64,
    },
}

impl Policy {
    /// The shipped one with its concurrency limit held at `limit`.
    #[must_use]
    pub fn held_at(limit: f64) -> Self {
        Self::Tuned(Box::new(Config { fixed_limit: Some(limit), ..Config::default() }))
    }

    /// What it is called in tables and charts.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Shipped => "shipped".to_owned(),
            Self::Tuned(config) => match config.fixed_limit {
                Some(limit) => format!("limit held at {limit}"),
                None => "other configuration".to_owned(),
            },
            Self::NoControl => "no control".to_owned(),
            Self::QueueOrMemory => "queue ≥ 5 or KV ≥ 0.8".to_owned(),
            Self::FixedConcurrency { places, wait, regular } => {
                let held = if *regular < 1.0 { format!(", regular {regular}") } else { String::new() };
                format!("fixed {places}, wait {:.1} s{held}", wait.as_secs_f64())
            }
        }
    }

    /// The rhythm in which it reads engine metrics, where it has one of its own.
    #[must_use]
    pub fn scrape(&self) -> Option<Duration> {
        matches!(self, Self::QueueOrMemory).then_some(Duration::from_millis(200))
    }

    /// The policy at work on the fleet of `scenario`.
    #[must_use]
    pub fn build(&self, scenario: &Scenario) -> Box<dyn Gate> {
        match self {
            Self::Shipped => Box::new(Ours::new(None, scenario)),
            Self::Tuned(config) => Box::new(Ours::new(Some(config), scenario)),
            rival => Box::new(Rival::new(rival.clone(), scenario.replicas())),
        }
    }
}

/// A request as the gateway knows it on arrival.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    /// The caller's number for it.
    pub ticket: u32,
    /// Its tier.
    pub tier: Tier,
    /// Whose it is.
    pub account: u32,
    /// The index of the model that it asks for.
    pub model: u16,
    /// Prompt tokens.
    pub prompt: u32,
    /// Of them, to be computed, by replica: of each deployment, in their order.
    pub uncached: Vec<Uncached>,
    /// The usual answer.
    pub expected_output: u32,
    /// Whether its tokens will be seen.
    pub streaming: bool,
}

/// What a policy answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answer {
    /// To this replica, now.
    Send(u16),
    /// A verdict follows.
    Wait,
    /// Refused.
    Shed {
        /// Why.
        reason: Reason,
        /// When to come back, where the client is told.
        retry_after: Option<Duration>,
    },
    /// An active request without a token waits again: to be aborted upstream. A verdict follows.
    Withdraw,
}

/// A replica failed a request before its first token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    /// How.
    pub failure: Failure,
    /// Whether nobody knows whose fault it was.
    pub is_unknown: bool,
}

/// Tokens of one stream since the last tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Whose.
    pub ticket: u32,
    /// Content chunks.
    pub chunks: u32,
    /// Tokens in them.
    pub tokens: u32,
    /// Sum of the times between them.
    pub gap_sum: Duration,
    /// How many times that are.
    pub gaps: u32,
}

/// What is shown of a policy's inside.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize)]
pub struct Gauges {
    /// Mean concurrency limit of the replicas; 0 where there is none.
    pub limit: f64,
    /// Dispatched, unfinished requests.
    pub active: u32,
    /// Waiting requests.
    pub queued: u32,
}

/// One replica as the policy sees it.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize)]
pub struct ReplicaGauge {
    /// How many requests it takes at once.
    pub limit: f64,
    /// Dispatched, unfinished requests.
    pub active: u32,
    /// 1 = at the limit.
    pub saturation: f64,
    /// Whether requests are sent to it.
    pub in_service: bool,
}

/// The meters of one account, use and limit of each in tokens per minute: prompt, uncached prompt, generated.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize)]
pub struct BudgetGauge {
    /// Whose.
    pub account: u32,
    /// Used, reserved and owed.
    pub used: [u64; 3],
    /// The limit in force.
    pub limit: [u64; 3],
}

impl BudgetGauge {
    /// The largest part that is used of a limit.
    #[must_use]
    pub fn fullness(&self) -> f64 {
        let parts =
            self.used.iter().zip(&self.limit).map(|(used, limit)| *used as f64 / (*limit).max(1) as f64);
        parts.fold(0.0, f64::max)
    }
}

/// What is shown of a policy's inside in a report: more than [`Gauges`], and it allocates.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
pub struct Inside {
    /// Each replica; empty where the policy knows none.
    pub replicas: Vec<ReplicaGauge>,
    /// Waiting requests, by tier, highest first.
    pub queued: [u32; Tier::ALL.len()],
    /// Accounts that have a budget; no policy's business.
    pub budgets: Vec<BudgetGauge>,
}

/// A policy at work. The calls are those of the gateway, in virtual time.
pub trait Gate {
    /// A request has arrived.
    fn offer(&mut self, now: Duration, arrival: Arrival) -> Answer;
    /// Its bytes went out.
    fn dispatched(&mut self, now: Duration, ticket: u32);
    /// Its first content was seen.
    fn first_token(&mut self, now: Duration, ticket: u32);
    /// It was answered.
    fn finish(&mut self, now: Duration, ticket: u32, how: &Finished);
    /// Its client left.
    fn cancel(&mut self, now: Duration, ticket: u32);
    /// Its replica failed. `None`: it is over.
    fn failed(&mut self, now: Duration, ticket: u32, fault: Fault) -> Option<Answer>;
    /// Every 250 ms.
    fn tick(&mut self, now: Duration, harvest: &[Progress]);
    /// Engine metrics.
    fn observe(&mut self, now: Duration, replica: u16, scrape: &Scrape);
    /// The next verdict about something that waits. To be drained after every call.
    fn verdict(&mut self) -> Option<(u32, Answer)>;
    /// What to show of it.
    fn gauges(&self, now: Duration) -> Gauges;
    /// Sums that must be zero when nothing runs and nothing waits.
    fn at_rest(&self, now: Duration) -> bool;
    /// What to show of it in a report.
    fn inside(&self, _now: Duration) -> Inside {
        Inside::default()
    }
    /// An operator takes a replica out of service, or puts it back.
    fn drain(&mut self, _now: Duration, _replica: u16, _drained: bool) {}
    /// It is told to act as if a share of the capacity were gone until then.
    fn press(&mut self, _now: Duration, _share: f64, _until: Duration) {}
    /// The process ends and another one begins: everything is forgotten but what is journalled.
    fn restart(&mut self, _now: Duration) {}
    /// Another process takes over what comes, and goes on with what was learnt; this one finishes what it has.
    fn upgrade(&mut self, _now: Duration) {}
}
