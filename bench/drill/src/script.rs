//! A drill: a scenario, who is who in it, what a chart calls its events, and what has to hold.

pub mod check;

use std::collections::BTreeSet;
use std::time::Duration;

use limits::BudgetConfig;
use shedder::Tier;

use crate::scenario::{Prefixes, Scenario};
use check::Check;

/// Accounts of one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Their name in the file.
    pub id: String,
    /// Number of the first.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// Exponent of Zipf's law.
    pub zipf: f64,
    /// What each may spend; `None`: without limit.
    pub limits: Option<BudgetConfig>,
}

/// Something that happens, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// When.
    pub at: Duration,
    /// When it is over, if it is.
    pub until: Option<Duration>,
    /// What it is.
    pub label: String,
}

/// A drill that can be played.
#[derive(Debug, Clone)]
pub struct Drill {
    /// Its short name.
    pub name: String,
    /// What it is called.
    pub title: String,
    /// What it shows.
    pub shows: String,
    /// What is played.
    pub scenario: Scenario,
    /// The accounts.
    pub groups: Vec<Group>,
    /// How many of them the file has; the others a trace names.
    pub written_groups: usize,
    /// The names of the scenario's sources, in their order.
    pub sources: Vec<String>,
    /// The events.
    pub marks: Vec<Mark>,
    /// What has to hold.
    pub checks: Vec<Check>,
    /// Stop when priority falls below this share.
    pub stop_below: Option<f64>,
    /// The file, word for word.
    pub text: String,
}

impl Drill {
    /// The name of an account: that of its group, with its number if there are several.
    #[must_use]
    pub fn account(&self, number: u32) -> String {
        let group =
            self.groups.iter().find(|group| (group.first..group.first + group.count).contains(&number));
        match group {
            Some(group) if group.count == 1 => group.id.clone(),
            Some(group) => format!("{}-{}", group.id, number - group.first + 1),
            None => format!("account-{number}"),
        }
    }

    /// The models that the accounts of a group ask for, by their index.
    #[must_use]
    pub fn models_of(&self, group: &Group) -> BTreeSet<u16> {
        let is_theirs = |account: u32| (group.first..group.first + group.count).contains(&account);
        let mut models = BTreeSet::new();
        for source in &self.scenario.sources {
            let own = source.accounts.first..source.accounts.first + source.accounts.count;
            let is_one_of = own.clone().any(is_theirs);
            if is_one_of {
                models.insert(source.model);
            }
            // Who asks and for what a trace may say of each request.
            let asks = source.trace.iter().flat_map(|trace| &trace.asks);
            let theirs = asks.filter(|ask| ask.account.map_or(is_one_of, is_theirs));
            models.extend(theirs.map(|ask| ask.model.unwrap_or(source.model)));
        }
        models
    }

    /// Whether any request of `tier` can come.
    #[must_use]
    pub fn offers(&self, tier: Tier) -> bool {
        self.scenario.sources.iter().any(|source| {
            let of_trace = source
                .trace
                .as_ref()
                .is_some_and(|trace| trace.asks.iter().any(|ask| ask.tier == Some(tier)));
            of_trace || source.share(tier) > 0.0
        })
    }

    /// Whether prompts may be cached, so that they cost less than they are long.
    #[must_use]
    pub fn may_share_prompts(&self) -> bool {
        let shares =
            |trace: &crate::scenario::trace::Trace| trace.asks.iter().any(|ask| ask.prefix.is_some());
        let sources = &self.scenario.sources;
        sources
            .iter()
            .any(|source| source.prefixes != Prefixes::None || source.trace.as_deref().is_some_and(shares))
    }
}
