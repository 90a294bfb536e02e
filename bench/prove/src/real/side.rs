//! A side of the comparison: a fleet of simulated engines and what stands in front of it.

use std::net::SocketAddr;

use super::haproxy::HaProxy;
use super::play::Drill;
use crate::harness::proof::{Setting, Trouble};
use crate::harness::tidegate::{AccountLines, Config, Tidegate};
use engine::profile::{LLAMA_8B_A100, Profile};
use engine::server::{EngineServer, EngineServerConfig};
use kit::program::Program;
use load::Caller;

/// Replicas of a fleet.
pub(super) const REPLICAS: usize = 4;

/// What is set by hand on the sides that have to be told. The defaults are what `real-search` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Knobs {
    /// `maxconn` of each server of HAProxy.
    pub(super) places: u32,
    /// The limit of the side whose limit is held.
    pub(super) held: u32,
}

impl Default for Knobs {
    fn default() -> Self {
        Self { places: 64, held: 304 }
    }
}

/// Customers of each tier. HAProxy tells the tiers apart by how keys begin.
const CUSTOMERS: u32 = 10;
pub(super) const PRIORITY_KEY: &str = "prio-";
const REGULAR_KEY: &str = "reg-";

/// Who stands in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The shipped program with its defaults; it is told the service level and nothing else.
    Ours,
    /// HAProxy.
    HaProxy,
    /// The shipped program with its limit held at the best number: C*.
    Held,
}

impl Kind {
    /// What it is called in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => "Tidegate",
            Self::HaProxy => "HAProxy",
            Self::Held => "limit held",
        }
    }

    fn slug(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::HaProxy => "haproxy",
            Self::Held => "held",
        }
    }
}

/// A fleet and what stands in front of it, running. Dropping it ends both.
#[derive(Debug)]
pub(super) struct Side {
    /// Who.
    pub(super) kind: Kind,
    front: Front,
    engines: Vec<EngineServer>,
}

#[derive(Debug)]
enum Front {
    Ours(Tidegate),
    HaProxy(HaProxy),
}

impl Side {
    /// Starts the engines, then what stands in front of them.
    ///
    /// # Errors
    /// A program does not build or start, or is not installed.
    pub(super) async fn start(setting: &Setting, drill: &Drill, kind: Kind) -> Result<Self, Trouble> {
        let knobs = drill.knobs;
        let profile = Profile { behaviour: drill.distance.behaviour(), ..LLAMA_8B_A100 };
        let mut engines = Vec::with_capacity(REPLICAS);
        for _ in 0..REPLICAS {
            let config = EngineServerConfig { profile: profile.clone(), ..EngineServerConfig::default() };
            engines.push(EngineServer::start(config).await?);
        }
        let addresses: Vec<SocketAddr> = engines.iter().map(|engine| engine.addr).collect();
        let name = format!("{}{}-{}", drill.name, drill.distance.slug(), kind.slug());
        let front = match kind {
            Kind::Ours | Kind::Held => {
                let mut config = Config { accounts: accounts(), ..Config::limitless(addresses, 0) };
                if kind == Kind::Held {
                    config.deployment.push_str(&format!(", limit: {}", knobs.held));
                }
                Front::Ours(Tidegate::start(setting, &name, &config).await?)
            }
            Kind::HaProxy => {
                let places = knobs.places;
                Front::HaProxy(HaProxy::start(setting, &name, &addresses, PRIORITY_KEY, places).await?)
            }
        };
        Ok(Self { kind, front, engines })
    }

    /// Where customers connect.
    pub(super) fn address(&self) -> SocketAddr {
        match &self.front {
            Front::Ours(ours) => ours.address,
            Front::HaProxy(haproxy) => haproxy.address,
        }
    }

    /// The process in front.
    pub(super) fn program(&self) -> &Program {
        match &self.front {
            Front::Ours(ours) => &ours.program,
            Front::HaProxy(haproxy) => &haproxy.program,
        }
    }

    /// Ends half of the engines as a kill does: their connections are reset, their ports closed.
    pub(super) fn kill_half(&mut self) {
        for engine in self.engines.drain(..REPLICAS / 2) {
            engine.kill();
        }
    }
}

/// Entitled to both tiers, without limits that could be felt.
pub(super) fn accounts() -> Vec<AccountLines> {
    let Config { accounts, .. } = Config::limitless(Vec::new(), 1);
    let limits = accounts.into_iter().next().map(|account| account.more).unwrap_or_default();
    let keys = [PRIORITY_KEY, REGULAR_KEY].into_iter().flat_map(|key| (0..CUSTOMERS).map(move |n| (key, n)));
    keys.map(|(key, number)| AccountLines {
        key: format!("{key}{number}"),
        more: format!("{limits}, tiers: [priority, regular]"),
    })
    .collect()
}

/// The customers as the generator plays them: `priority` of the requests are priority, and inside a tier each customer
/// sends by Zipf's law.
pub(super) fn callers(priority: f64) -> Vec<Caller> {
    let harmonic: f64 = (1..=CUSTOMERS).map(|rank| 1.0 / f64::from(rank)).sum();
    let tier = |tier: &'static str, key: &'static str, share: f64| {
        (0..CUSTOMERS).map(move |number| Caller {
            tier: tier.to_owned(),
            key: Some(format!("{key}{number}")),
            service_tier: Some(tier.to_owned()),
            weight: share / (f64::from(number + 1) * harmonic),
        })
    };
    tier("priority", PRIORITY_KEY, priority).chain(tier("regular", REGULAR_KEY, 1.0 - priority)).collect()
}
