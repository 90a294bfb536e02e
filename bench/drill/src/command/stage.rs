//! What a drill in real time plays on: simulated engines in this process, and the real gateway as a process of its own.
//!
//! The gateway is the same binary with `serve` and a config of its own, so what is drilled is what is shipped, and it
//! can die and come back. Everything is on loopback, on free ports, in a folder that goes with it.

use super::DrillError;
use super::configured::Configured;
use super::inside::Admin;
use super::rewritten::{Places, rewritten};
use crate::scenario::Incident;
use crate::script::Drill;
use config::keys::{Digest, NewKey};
use engine::server::{EngineServer, EngineServerConfig};
use limits::{BudgetConfig, Policy};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The model's name here.
pub(super) const MODEL: &str = "drill";
/// How long the gateway may take to listen.
const START_PATIENCE: Duration = Duration::from_secs(15);
/// Where a new process waits for the one that runs, in the state folder.
const UPGRADE_SOCKET: &str = "upgrade.sock";
/// How often it is looked whether it does.
const POLL: Duration = Duration::from_millis(20);
/// Limits that nobody reaches, for accounts that have none.
const LIMITLESS: &str = "{ prompt: 4294967295, uncached_prompt: 4294967295, generated: 4294967295 }";

/// Engines and gateway.
pub(super) struct Stage {
    /// Where customers connect.
    pub(super) address: SocketAddr,
    /// The gateway's admin interface.
    pub(super) admin: Admin,
    engines: Vec<Engine>,
    /// The deployments by name, with their replicas.
    deployments: Vec<(String, u16)>,
    config: PathBuf,
    folder: PathBuf,
    gateway: Option<Child>,
    /// Processes that finish what they have after an upgrade.
    leaving: Vec<Child>,
    /// Told to end, and what is to follow.
    restart: Option<Restart>,
}

/// A restart under way.
#[derive(Debug, Clone, Copy)]
struct Restart {
    /// From the end of the one process to the start of the other.
    pause: Duration,
    /// When the old one was gone.
    gone: Option<Duration>,
}

/// One replica, or the place where it will be back.
struct Engine {
    address: SocketAddr,
    config: EngineServerConfig,
    server: Option<EngineServer>,
    pace: u16,
}

impl Engine {
    async fn start(&mut self) -> std::io::Result<()> {
        if self.server.is_none() {
            let config = EngineServerConfig { address: self.address, ..self.config.clone() };
            let server = EngineServer::start(config).await?;
            server.set_pace(f64::from(self.pace) / 100.0);
            self.address = server.addr;
            self.server = Some(server);
        }
        Ok(())
    }
}

impl Stage {
    /// Starts everything.
    pub(super) async fn start(drill: &Drill, configured: Option<&Configured>) -> Result<Stage, DrillError> {
        let scenario = &drill.scenario;
        let mut engines = Vec::with_capacity(usize::from(scenario.replicas()));
        for (seed, deployment) in (0_u64..).zip(scenario.replicas_by_deployment()) {
            let config = EngineServerConfig {
                model: MODEL.to_owned(),
                any_model: true,
                profile: deployment.profile.clone(),
                seed,
                context: Some(deployment.profile.context),
                ..EngineServerConfig::default()
            };
            let mut engine = Engine { address: config.address, config, server: None, pace: 100 };
            engine.start().await?;
            engines.push(engine);
        }
        let folder = std::env::temp_dir().join(format!("tidegate-drill-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let (address, admin_address) = two_free_addresses()?;
        let token = NewKey::from_os().map_err(std::io::Error::other)?.key;
        let token_file = folder.join("token");
        std::fs::write(&token_file, &token)?;
        let mut addresses = engines.iter().map(|engine| engine.address);
        let replicas: Vec<Vec<SocketAddr>> = scenario
            .deployments
            .iter()
            .map(|deployment| addresses.by_ref().take(usize::from(deployment.replicas)).collect())
            .collect();
        let config = folder.join("tidegate.yaml");
        let state = folder.join("state");
        let places = Places {
            address,
            admin: admin_address,
            token_file: &token_file,
            state: &state,
            replicas: &replicas,
        };
        let text = match configured {
            Some(configured) => rewritten(configured, drill, &places),
            None => yaml(drill, &places),
        };
        std::fs::write(&config, text)?;
        let admin = Admin::new(admin_address, Some(&token)).about_all();
        let deployments = match configured {
            Some(_) => scenario.deployments.iter().map(|one| (one.name.clone(), one.replicas)).collect(),
            None => vec![(MODEL.to_owned(), scenario.replicas())],
        };
        let mut stage = Stage {
            address,
            admin,
            engines,
            deployments,
            config,
            folder,
            gateway: None,
            leaving: Vec::new(),
            restart: None,
        };
        stage.start_gateway().await?;
        Ok(stage)
    }

    /// The models that requests name, by the scenario's index.
    pub(super) fn models(&self, drill: &Drill) -> Vec<String> {
        match self.deployments.as_slice() {
            [(only, _)] if only == MODEL => vec![MODEL.to_owned()],
            _ => drill.scenario.models.iter().map(|model| model.name.clone()).collect(),
        }
    }

    /// The deployment of a replica, and its number there.
    fn place_of(&self, replica: u16) -> (String, u16) {
        let mut first = 0;
        for (name, replicas) in &self.deployments {
            if replica < first + replicas {
                return (name.clone(), replica - first);
            }
            first += replicas;
        }
        (MODEL.to_owned(), replica)
    }

    fn spawn(&self, more: &[&str]) -> Result<Child, DrillError> {
        let log = self.folder.join("gateway.log");
        let output = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let child = Command::new(std::env::current_exe()?)
            .args(["serve", "--config"])
            .arg(&self.config)
            .args(more)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        Ok(child)
    }

    /// A new process takes over from the running one, which ends when its last answer has.
    async fn upgrade_gateway(&mut self) -> Result<(), DrillError> {
        let waits = self.folder.join("state").join(UPGRADE_SOCKET);
        let mut child = self.spawn(&["--upgrade"])?;
        let end = engine::clock::now() + START_PATIENCE;
        while !waits.exists() {
            if child.try_wait()?.is_some() || engine::clock::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                return Err(DrillError::Io(std::io::Error::other("the new gateway process did not wait")));
            }
            tokio::time::sleep(POLL).await;
        }
        self.signal(nix::sys::signal::Signal::SIGQUIT);
        self.leaving.extend(self.gateway.replace(child));
        Ok(())
    }

    async fn start_gateway(&mut self) -> Result<(), DrillError> {
        let log = self.folder.join("gateway.log");
        let mut child = self.spawn(&[])?;
        let end = engine::clock::now() + START_PATIENCE;
        while tokio::net::TcpStream::connect(self.address).await.is_err() {
            if child.try_wait()?.is_some() || engine::clock::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(DrillError::Io(std::io::Error::other(format!(
                    "the gateway did not start: {}",
                    said.trim()
                ))));
            }
            tokio::time::sleep(POLL).await;
        }
        self.gateway = Some(child);
        Ok(())
    }

    /// Makes something happen.
    pub(super) async fn happen(&mut self, incident: Incident) -> Result<(), DrillError> {
        match incident {
            Incident::Lost(replica) => {
                if let Some(server) = self.engine(replica).and_then(|engine| engine.server.take()) {
                    // It waits for the engine's thread, a matter of milliseconds.
                    tokio::task::spawn_blocking(move || server.kill())
                        .await
                        .map_err(std::io::Error::other)?;
                }
            }
            Incident::Back(replica) => {
                if let Some(engine) = self.engine(replica) {
                    engine.start().await?;
                }
            }
            Incident::MetricsFrozen | Incident::MetricsBack => {
                let frozen = incident == Incident::MetricsFrozen;
                self.engines
                    .iter()
                    .filter_map(|engine| engine.server.as_ref())
                    .for_each(|server| server.freeze_metrics(frozen));
            }
            Incident::Pace(replica, percent) => {
                if let Some(engine) = self.engine(replica) {
                    engine.pace = percent;
                    engine.server.iter().for_each(|server| server.set_pace(f64::from(percent) / 100.0));
                }
            }
            Incident::Drained(replica, drained) => {
                let (deployment, replica) = self.place_of(replica);
                self.admin.client.drain(&deployment, replica, drained).await?;
            }
            Incident::Pressure(percent, seconds) => {
                let (share, length) = (f64::from(percent) / 100.0, Duration::from_secs(seconds));
                for (deployment, _) in &self.deployments {
                    self.admin.client.press(deployment, share, length).await?;
                }
            }
            Incident::Reload => self.signal(nix::sys::signal::Signal::SIGHUP),
            Incident::GatewayUpgraded => self.upgrade_gateway().await?,
            Incident::GatewayLost => self.end_gateway(),
            Incident::GatewayBack => self.start_gateway().await?,
            Incident::GatewayRestarted(pause_ms) => {
                self.signal(nix::sys::signal::Signal::SIGTERM);
                self.restart = Some(Restart { pause: Duration::from_millis(pause_ms), gone: None });
            }
        }
        Ok(())
    }

    /// Goes on with a restart. To be called often: the old process takes as long as its last answer.
    pub(super) async fn go_on(&mut self) -> Result<(), DrillError> {
        let Some(Restart { pause, gone }) = self.restart else { return Ok(()) };
        let now = engine::clock::now();
        match gone {
            None => {
                let ended = self.gateway.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
                if ended {
                    self.gateway = None;
                    self.restart = Some(Restart { pause, gone: Some(now) });
                }
            }
            Some(gone) if now >= gone + pause => {
                self.restart = None;
                self.start_gateway().await?;
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn engine(&mut self, number: u16) -> Option<&mut Engine> {
        self.engines.get_mut(usize::from(number))
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        if let Some(child) = &self.gateway {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), signal);
        }
    }

    fn end_gateway(&mut self) {
        for mut child in self.leaving.drain(..).chain(self.gateway.take()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.end_gateway();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Both are held until both are known, or the second could be the first again.
fn two_free_addresses() -> std::io::Result<(SocketAddr, SocketAddr)> {
    let [one, other] = [0, 0].map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
    let (one, other) = (one?, other?);
    Ok((one.local_addr()?, other.local_addr()?))
}

/// The key of an account. It opens nothing but this drill's gateway.
pub(super) fn key(account: u32) -> String {
    format!("tg-drill-{account}")
}

fn yaml(drill: &Drill, places: &Places<'_>) -> String {
    let Places { address, admin, token_file, state, replicas } = places;
    let (token_file, state) = (token_file.display(), state.display());
    let scenario = &drill.scenario;
    let replicas: Vec<String> =
        replicas.iter().flatten().map(|replica| format!("\"http://{replica}\"")).collect();
    let scrape = match scenario.fleet().scrape {
        Some(interval) => format!("{{ interval_ms: {} }}", interval.as_millis()),
        None => "{ path: off }".to_owned(),
    };
    let grows = scenario.budgets.iter().any(|one| matches!(one.budget.policy, Policy::Published(_)));
    let mut text = format!(
        "listen: {{ address: \"{address}\", limits: {{ connections_per_address: 100000 }} }}\n\
         admin: {{ address: \"{admin}\", token_file: \"{token_file}\" }}\n\
         deployments: [{{ name: {MODEL}, engine: vllm, replicas: [{}], slo: {{ ttft_ms: {}, tpot_ms: {} }}, scrape: {scrape} }}]\n\
         models: [{{ name: {MODEL}, deployments: [{MODEL}], size_class: small }}]\n\
         limits: {{ policy: {} }}\n\
         state: {{ dir: \"{state}\" }}\n\
         log: {{ access: off, level: warn }}\n\
         accounts:\n",
        replicas.join(", "),
        scenario.fleet().slo.ttft.as_millis(),
        scenario.fleet().slo.tpot.as_millis(),
        if grows { "published" } else { "fixed" },
    );
    for group in &drill.groups {
        for account in group.first..group.first + group.count {
            let limits = group.limits.as_ref().map_or_else(limitless, limited);
            // Writing into a string cannot fail.
            let _ = writeln!(
                text,
                "  - {{ id: \"{}\", keys: [\"{}\"], tiers: [priority, regular], spending_tier: enterprise, \
                 requests_per_minute: 100000000, concurrency: 100000, limits: [{limits}] }}",
                drill.account(account),
                Digest::of(&key(account)),
            );
        }
    }
    text
}

fn limitless() -> String {
    format!("{{ start: {LIMITLESS}, floor: {LIMITLESS}, ceiling: {LIMITLESS} }}")
}

fn limited(budget: &BudgetConfig) -> String {
    let meters = |of: fn(&limits::Bounds) -> u64| {
        let bounds = &budget.bounds;
        let (prompt, uncached, generated) =
            (of(&bounds.prompt), of(&bounds.uncached_prompt), of(&bounds.generated));
        format!("{{ prompt: {prompt}, uncached_prompt: {uncached}, generated: {generated} }}")
    };
    let (start, floor, ceiling) =
        (meters(|bounds| bounds.start), meters(|bounds| bounds.floor), meters(|bounds| bounds.ceiling));
    format!("{{ start: {start}, floor: {floor}, ceiling: {ceiling} }}")
}
