//! Which engines there are, which models they serve, and what accounts may use of them.

use std::collections::BTreeSet;
use std::time::Duration;

use limits::BudgetConfig;
use shedder::{PerTier, Tier};

use super::Slo;
use engine::profile::Profile;

/// Replicas that serve the same and share one queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    /// Its name.
    pub name: String,
    /// What its engines are like.
    pub profile: Profile,
    /// How many, at least 1.
    pub replicas: u16,
    /// What attainment means.
    pub slo: Slo,
    /// How often the gateway reads engine metrics; `None`: never.
    pub scrape: Option<Duration>,
    /// What the gateway is told of it. Where that names no service level, it is [`slo`](Self::slo).
    pub told: shedder::Config,
}

/// A name under which customers ask, and where it is served.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Its deployments in order.
    pub routes: Vec<Route>,
    /// What an answer is expected to be before any came, tokens.
    pub usual: u32,
}

/// A deployment of a model, and what it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its index in the scenario.
    pub deployment: u16,
    /// Its weight among neighbours that have one.
    pub weight: Option<u32>,
    /// Which tiers it takes.
    pub tiers: PerTier<bool>,
    /// Whose requests it takes; `None`: everybody's.
    pub accounts: Option<BTreeSet<u32>>,
}

/// What an account may spend on a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spending {
    /// Whose.
    pub account: u32,
    /// The index of the model in the scenario.
    pub model: u16,
    /// How much.
    pub budget: BudgetConfig,
}

/// How many requests an account may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requests {
    /// Whose.
    pub account: u32,
    /// Per minute.
    pub per_minute: u64,
    /// At once.
    pub concurrency: u32,
}

impl Deployment {
    /// One with the gateway's defaults.
    #[must_use]
    pub fn of(profile: Profile, replicas: u16) -> Self {
        Self {
            name: "fleet".to_owned(),
            profile,
            replicas,
            slo: Slo::default(),
            scrape: Some(Duration::from_secs(1)),
            told: shedder::Config::default(),
        }
    }

    /// Within what time a request of `tier` is promised its first token, beside its own prefill: flex within its own wait.
    #[must_use]
    pub fn promised_ttft(&self, tier: Tier) -> Duration {
        if tier == Tier::Flex { self.told.flex_wait + self.slo.ttft } else { self.slo.ttft }
    }
}

/// What an answer is expected to be where nobody says.
const USUAL: u32 = 256;

impl Model {
    /// The only model, served by the first deployment.
    #[must_use]
    pub fn only() -> Self {
        let tiers = PerTier::from_fn(|_| true);
        let route = Route { deployment: 0, weight: None, tiers, accounts: None };
        Self { name: "model".to_owned(), routes: vec![route], usual: USUAL }
    }
}
