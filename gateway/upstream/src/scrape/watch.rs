//! One replica under watch: its metrics at their interval, its health where nothing else shows it.
//!
//! One request at a time, so that an engine which answers slowly is asked slowly. A page that does not come, or
//! says nothing, is counted and told once, and the shedder hears nothing: it goes by the last good one while that is
//! fresh, then by the gateway's own traffic.
//!
//! A replica with requests on it is not probed: they show whether it lives, and a busy engine answers its probe
//! late. Only an ejected or an idle one is. A probe is missed when there is no answer in time or a 502, 503 or 504
//! comes; any other status shows a server that answers, with its health route perhaps elsewhere or locked.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use metrics::Counter;
use shedder::{ReplicaId, Scrape};

use super::client::{CallError, Client};
use crate::deployment::Deployment;
use process::{clock, entropy};
use protocol::engine::exposition::PageError;
use protocol::engine::metrics::{Row, row};
use protocol::engine::pages::{Told, load_page, pages};

/// How often an idle or ejected replica is asked whether it is there: as soon as the shedder would try an
/// ejected one again.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Between two probes of an idle replica. Two missed ones take it out of service.
const IDLE_PROBE: Duration = Duration::from_secs(5);
/// How often an engine is asked for what only a restart changes.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Why there is no reading.
#[derive(Debug, thiserror::Error)]
enum ScrapeError {
    #[error("{0}")]
    Call(#[from] CallError),
    /// Usually the engine was started without its metrics.
    #[error("status {0}")]
    Status(StatusCode),
    #[error("{0}")]
    Page(#[from] PageError),
}

/// The watch over one replica.
pub(super) struct Watch {
    deployment: Arc<Deployment>,
    id: ReplicaId,
    client: Client,
    row: &'static Row,
    failures: Counter,
    failing: bool,
    /// What it told of what does not change.
    told: Told,
    told_due: Duration,
    probed: Option<Duration>,
}

impl Watch {
    /// A watch that has seen nothing yet.
    pub(super) fn new(deployment: Arc<Deployment>, id: ReplicaId, client: Client, failures: Counter) -> Self {
        Watch {
            row: row(deployment.config.engine),
            deployment,
            id,
            client,
            failures,
            failing: false,
            told: Told::default(),
            told_due: Duration::ZERO,
            probed: None,
        }
    }

    /// Watches until dropped. Starts at a random moment of the first interval, so that not all ask at once.
    pub(super) async fn run(mut self) {
        let deployment = Arc::clone(&self.deployment);
        let (scrape, look) = (&deployment.config.scrape, PROBE_EVERY);
        tokio::time::sleep(scrape.interval.mul_f64(entropy::unit())).await;
        let mut scrape_due = clock::now();
        let mut look_due = clock::now();
        loop {
            if let Some(path) = scrape.path.as_deref().filter(|_| clock::now() >= scrape_due) {
                scrape_due = clock::now() + scrape.interval;
                self.scrape(path).await;
            }
            if clock::now() >= look_due {
                look_due = clock::now() + look;
                self.look().await;
                self.ask().await;
            }
            let next = if scrape.path.is_some() { scrape_due.min(look_due) } else { look_due };
            tokio::time::sleep(next.saturating_sub(clock::now())).await;
        }
    }

    /// Reads the metrics once and tells the shedder.
    pub(super) async fn scrape(&mut self, path: &str) {
        match self.read(path).await {
            Ok(scrape) => {
                self.deployment.gate.with(|shedder| shedder.observe(clock::now(), self.id, &scrape));
                if std::mem::take(&mut self.failing) {
                    let (deployment, replica) = self.names();
                    tracing::info!(deployment, replica, "the engine's metrics are back");
                }
            }
            Err(error) => {
                self.failures.increment(1);
                if !std::mem::replace(&mut self.failing, true) {
                    let (deployment, replica) = self.names();
                    tracing::warn!(deployment, replica, path, "the engine's metrics do not come: {error}");
                }
            }
        }
    }

    fn names(&self) -> (&str, &str) {
        (&self.deployment.config.name, &self.client.replica().name)
    }

    async fn read(&mut self, path: &str) -> Result<Scrape, ScrapeError> {
        let patience = self.deployment.config.scrape.timeout;
        let answer = self.client.get(path, patience).await?;
        let page = match answer.status {
            StatusCode::OK => self.row.read(&answer.body).map_err(ScrapeError::Page),
            status => Err(ScrapeError::Status(status)),
        };
        let mut scrape = match page {
            Ok(scrape) => scrape,
            // Started without metrics: what it tells elsewhere is less, and better than nothing.
            Err(error) => self.load().await.ok_or(error)?,
        };
        self.ask().await;
        scrape.slots = scrape.slots.or(self.told.slots);
        scrape.kv_capacity_tokens = scrape.kv_capacity_tokens.or(self.told.kv_tokens);
        Ok(scrape)
    }

    /// The load as it is told beside the metrics.
    async fn load(&mut self) -> Option<Scrape> {
        let (path, read) = load_page(self.deployment.config.engine)?;
        let answer = self.client.get(path, self.deployment.config.scrape.timeout).await.ok()?;
        read(&answer.body).filter(|_| answer.status == StatusCode::OK)
    }

    /// Asks for what does not change, where that is due.
    pub(super) async fn ask(&mut self) {
        if clock::now() < self.told_due {
            return;
        }
        self.told_due = clock::now() + TOLD_EVERY;
        for (path, read) in pages(self.deployment.config.engine) {
            let answer = self.client.get(path, self.deployment.config.scrape.timeout).await;
            let told = answer.ok().filter(|answer| answer.status == StatusCode::OK);
            let Some(told) = told.and_then(|answer| read(&answer.body)) else { continue };
            self.deployment.learned.windows(&told.windows);
            self.told.slots = told.slots.or(self.told.slots);
            self.told.kv_tokens = told.kv_tokens.or(self.told.kv_tokens);
        }
    }

    /// Probes the replica if nothing else shows its health and it is time.
    pub(super) async fn look(&mut self) {
        let Some(pause) = self.pause() else { return };
        if self.probed.is_some_and(|at| clock::now().saturating_sub(at) < pause) {
            return;
        }
        self.probed = Some(clock::now());
        self.probe().await;
    }

    /// Asks for health once and tells the shedder, unless requests have become the better witness meanwhile.
    pub(super) async fn probe(&mut self) {
        let answer = self.client.get(self.row.health, self.deployment.config.scrape.timeout).await;
        let down = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
        let healthy = answer.is_ok_and(|answer| !down.contains(&answer.status));
        // What was sent in the meantime may be what made the probe late.
        if healthy || self.pause().is_some() {
            self.deployment.gate.with(|shedder| shedder.probe(clock::now(), self.id, healthy));
        }
    }

    /// The time between two probes; `None` for a replica whose requests are the better witness.
    fn pause(&self) -> Option<Duration> {
        let state = self.deployment.gate.read(|shedder| shedder.replica_snapshot(clock::now(), self.id))?;
        match state {
            state if !state.healthy => Some(Duration::ZERO),
            state if state.active == 0 => Some(IDLE_PROBE),
            _ => None,
        }
    }
}
