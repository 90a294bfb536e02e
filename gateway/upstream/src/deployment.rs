//! One deployment as it runs: its replicas, its admission controller, and what was learnt of its engines.
//!
//! It outlives a reload: under a new config who waits and who runs goes on, and so does what was learnt.

pub mod discovery;

use crate::admission::Gate;
use crate::deaths::Deaths;
use crate::discovery::Places;
use crate::learned::Learned;
use crate::operated::Operated;
use crate::replica::{Replica, UpstreamTimeouts};
use crate::replicas::Replicas;
use gateway_core::averages::{BytesPerToken, TokensPerChunk};
use gateway_core::lately::LastMinute;
use history::step::TierTimes;
use parking_lot::Mutex;
use process::clock;
use process::entropy;
use shedder::{PerTier, ReplicaId};
use std::sync::Arc;
use telemetry::recorder::Watched;
use weighing::averages::Shared;
use weighing::weigh::Prefixes;

/// One deployment.
#[derive(Debug)]
pub struct Deployment {
    /// What the config says.
    pub config: Arc<config::Deployment>,
    /// Its gate.
    pub gate: Arc<Gate>,
    /// Its replicas by the shedder's number.
    pub replicas: Replicas,
    /// Where they are, and what their names stood for last.
    pub places: Mutex<Places>,
    /// What the engines tell about themselves.
    pub learned: Arc<Learned>,
    /// How long they may take.
    pub timeouts: UpstreamTimeouts,
    /// What they have cached.
    pub prefixes: Arc<Prefixes>,
    /// Tokens that one content chunk usually carries.
    pub tokens_per_chunk: Arc<Shared<TokensPerChunk>>,
    /// Bytes of text that a generated token usually has.
    pub bytes_per_token: Arc<Shared<BytesPerToken>>,
    /// What was admitted and shed in the last minute.
    pub last_minute: Arc<Mutex<LastMinute>>,
    /// What operators did to it.
    pub operated: Arc<Operated>,
    /// What was in flight where its replicas died.
    pub deaths: Arc<Mutex<Deaths>>,
}

impl Watched for Deployment {
    fn config(&self) -> &config::Deployment {
        &self.config
    }

    fn url(&self, replica: ReplicaId) -> Option<String> {
        self.replicas.get(replica).map(|replica| replica.name.clone())
    }

    fn is_pressure_over(&self) -> bool {
        self.operated.take_over(clock::now()).is_some()
    }

    fn swap_times(&self, spare: &mut Box<PerTier<TierTimes>>) -> bool {
        self.gate.swap_times(spare)
    }
}

/// The deployments of the config in force, for tasks that follow it through reloads.
#[derive(Clone)]
pub struct CurrentDeployments(Arc<dyn Fn() -> Arc<[Arc<Deployment>]> + Send + Sync>);

impl CurrentDeployments {
    /// Asks `current` each time.
    pub fn new(current: impl Fn() -> Arc<[Arc<Deployment>]> + Send + Sync + 'static) -> Self {
        CurrentDeployments(Arc::new(current))
    }

    /// Those of the config in force. The same allocation until the next reload.
    #[must_use]
    pub fn get(&self) -> Arc<[Arc<Deployment>]> {
        (self.0)()
    }
}

/// Tells the shedders of `deployments` their replicas and their config, and does `swap` while none of them gives out a
/// place. So nobody gets a place of the new config before that is the one to be read, nor one of the old after it.
pub fn put_in_force(deployments: &[Arc<Deployment>], swap: &mut dyn FnMut()) {
    let Some((deployment, rest)) = deployments.split_first() else { return swap() };
    let told = deployment.replicas.for_shedder();
    deployment.gate.with(|shedder| {
        shedder.reconfigure(clock::now(), deployment.config.for_shedder(), &told);
        put_in_force(rest, swap);
    });
}

impl Deployment {
    /// The ceilings in force: as configured, or as an operator set them.
    #[must_use]
    pub fn ceilings(&self) -> config::Ceilings {
        self.operated.ceilings().unwrap_or(self.config.ceilings)
    }

    /// The replica that a session's hint belongs to.
    #[must_use]
    pub fn hinted(&self, hint: Option<u64>) -> Option<shedder::ReplicaId> {
        self.replicas.hinted(hint?)
    }

    /// From now on these are its replicas.
    pub fn become_these(&self, replicas: Vec<Replica>) {
        let (before, after) = (self.replicas.all().len(), replicas.len());
        self.replicas.become_these(replicas, &self.gate, &self.prefixes);
        tracing::info!(deployment = &*self.config.name, before, after, "the replicas have changed");
    }

    /// Takes a replica, by its number or by its name, out of service, or back: what runs there runs on, nothing new
    /// comes. `false`: there is no such one. It lasts until it is taken back, or its address is gone.
    pub fn drain(&self, replica: &str, drained: bool) -> bool {
        let by_number = || replica.parse().ok().map(shedder::ReplicaId);
        let found = self.replicas.named(replica).or_else(by_number);
        let Some(id) = found.filter(|id| self.replicas.get(*id).is_some()) else { return false };
        self.gate.with(|shedder| shedder.set_drained(clock::now(), id, drained));
        tracing::info!(deployment = &*self.config.name, replica, drained, "drain");
        true
    }

    /// The one of that name in `before` under its new config, or a new one. Looks names up, which may block.
    #[must_use]
    pub fn after(config: &Arc<config::Deployment>, before: &[Arc<Deployment>]) -> Deployment {
        let same = |old: &&Arc<Deployment>| old.config.name == config.name;
        match before.iter().find(same) {
            Some(old) => old.renewed(config),
            None => Deployment::build(config),
        }
    }

    /// The same deployment under a new config: who waits and who runs goes on, and so does what was learnt. Ceilings
    /// that an operator set are replaced, drains and a pressure stay. The shedder is not told yet: see [`put_in_force`].
    fn renewed(&self, config: &Arc<config::Deployment>) -> Deployment {
        let timeouts = timeouts(&config.timeouts);
        let mut places = Places::new(Arc::clone(config), timeouts);
        places.resolve_now();
        let replicas = self.replicas.renewed(places.replicas(), config, &self.gate, &self.prefixes);
        self.operated.set_ceilings(None);
        Deployment {
            gate: Arc::clone(&self.gate),
            replicas,
            places: Mutex::new(places),
            learned: Arc::clone(&self.learned),
            timeouts,
            prefixes: Arc::clone(&self.prefixes),
            tokens_per_chunk: Arc::clone(&self.tokens_per_chunk),
            bytes_per_token: Arc::clone(&self.bytes_per_token),
            last_minute: Arc::clone(&self.last_minute),
            operated: Arc::clone(&self.operated),
            deaths: Arc::clone(&self.deaths),
            config: Arc::clone(config),
        }
    }

    /// Looks its names up, which may block.
    pub(crate) fn build(config: &Arc<config::Deployment>) -> Deployment {
        let timeouts = timeouts(&config.timeouts);
        let mut places = Places::new(Arc::clone(config), timeouts);
        places.resolve_now();
        let replicas = Replicas::new(places.replicas(), config);
        let shedder = shedder::Shedder::new(clock::now(), config.for_shedder(), &replicas.for_shedder());
        Deployment {
            gate: Gate::new(shedder),
            replicas,
            places: Mutex::new(places),
            learned: Arc::default(),
            timeouts,
            prefixes: Arc::new(Prefixes::new(config.shared_prefixes, entropy::key())),
            tokens_per_chunk: Arc::default(),
            bytes_per_token: Arc::default(),
            last_minute: Arc::default(),
            operated: Arc::default(),
            deaths: Arc::default(),
            config: Arc::clone(config),
        }
    }
}

/// What the config says of a deployment's timeouts.
pub(crate) fn timeouts(config: &config::Timeouts) -> UpstreamTimeouts {
    UpstreamTimeouts {
        connect: config.connect,
        first_token: config.first_token,
        between_tokens: config.between_tokens,
        answer: config.answer,
        write: config.write,
        idle: config.idle,
    }
}

/// The only deployment of a small config, with `more` in it.
#[cfg(test)]
pub(crate) fn configured(more: &str) -> Arc<config::Deployment> {
    let text = format!(
        "deployments: [{{ name: gpu, {more}, replicas: ['http://gpu-1:8000'] }}]\n\
         models: [{{ name: m, deployments: [gpu] }}]\n\
         accounts: [{{ id: a, keys: ['sha256:{}'] }}]\n",
        "4f".repeat(32)
    );
    let config = config::Config::parse(&text, "test", &|_| None).expect("a config in order");
    Arc::clone(&config.deployments[0])
}
