//! `tidegate serve`: opens the listeners, runs until told to stop, and stops well.
//!
//! The data path runs on the framework's threads, admin and metrics on a thread of their own: a slow
//! dashboard cannot slow a request. On `SIGTERM` readiness turns red first, then after the lame-duck time the
//! listener closes, what waits is refused, what runs may finish, and the process ends a moment after the last
//! request instead of sleeping out its grace.

use crate::admin;
use crate::clock;
use crate::entropy;
use crate::lifecycle::heard::Heard;
use crate::lifecycle::notify;
use crate::lifecycle::signals::{FLUSH_PATIENCE, Signals};
use crate::lifecycle::upgrade::{Listeners, Predecessor, Successor, UpgradeError};
use crate::server::accept::Door;
use crate::server::app::App;
use crate::server::drain;
use crate::state::gateway::Gateway;
use crate::state::journal::Journal;
use crate::state::registry::Registry;
use crate::state::{key_expiry, reload, saving, usage_saving};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::accounting::Accounts;
use crate::telemetry::metrics::{self, RequestMetrics};
use crate::telemetry::usage_meter::UsageMeter;
use crate::upstream::discovery;
use crate::upstream::harvest;
use crate::upstream::scrape;
use async_trait::async_trait;
use config::Config;
use connections::tls::{Certificates, TlsError};
use connections::{Bounds, Connections, descriptors};
use history::events::{Kind, Subject};
use pingora::listeners::tls::{Acceptor, TlsSettings};
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownWatch};
use pingora::services::background::{BackgroundService, background_service};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use store::dynamic_accounts::Roster;
use store::overrides::Overrides;
use tokio::sync::mpsc;
use usage::calendar::DAY;

/// How often waits that are over are ended between two ticks: a client's deadline is in milliseconds.
const DEADLINE_POLL: Duration = Duration::from_millis(25);

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A listener could not be opened. Usually another process has the port.
    #[error("{what} {address} could not be opened: {cause}")]
    Listen {
        /// Which listener.
        what: &'static str,
        /// Its address.
        address: SocketAddr,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// A file or a thread was not to be had.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The access log.
    #[error("log.access: {0}")]
    AccessLog(#[from] process::sink::SinkError),
    /// The certificate.
    #[error("{key}: {0}", key = .0.key())]
    Tls(#[from] TlsError),
    /// The state folder.
    #[error("state.dir: {0}")]
    Journal(#[from] crate::state::journal::JournalError),
    /// The process that ran before did not hand over.
    #[error("{0}")]
    Upgrade(#[from] UpgradeError),
    /// The metrics recorder.
    #[error("metrics could not be set up: {0}")]
    Metrics(String),
}

/// A gateway that is ready to run, with its listeners open.
pub struct Prepared {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Where customers connect.
    pub address: SocketAddr,
    /// Whether customers speak TLS.
    pub tls: bool,
    /// Where operators connect.
    pub admin_address: SocketAddr,
    server: Server,
    signals: Signals,
    predecessor: Option<Predecessor>,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Opens everything that `config` needs. Of a process that ran before, what it handed over: its listeners, and its state
/// once all is done that needs none. `heard`: signals since before this, for whatever shows that the process runs may
/// bring one.
///
/// # Errors
/// When a port is taken, a file cannot be opened, or the process before broke off.
pub fn prepare(
    config: Config,
    mut predecessor: Option<Predecessor>,
    heard: mpsc::Receiver<Heard>,
) -> Result<Prepared, ServeError> {
    let config = Arc::new(config);
    let rendered = metrics::install().map_err(|e| ServeError::Metrics(e.to_string()))?;
    let log = AccessLog::open(&config.log)?;
    let usage = config
        .usage
        .map(|usage| UsageMeter::new(usage.rows_max, usage.retention_days.saturating_mul(DAY), clock::now()));
    let (usage, usage_asked) = usage.unzip();
    let accounts = Accounts::start(log, RequestMetrics::new(Some(rendered.clone())), usage)?;
    let certificates = match &config.listen.tls {
        Some(tls) => Some(Certificates::load(&tls.cert_file, &tls.key_file)?),
        None => None,
    };
    let tls = certificates.clone().map(acceptor).transpose()?;
    let customers = predecessor.as_mut().and_then(|old| old.customers(config.listen.address));
    let customers = open(customers, config.listen.address, "listen.address")?;
    let operators = predecessor.as_mut().and_then(|old| old.admin(config.admin.address));
    let operators = open(operators, config.admin.address, "admin.address")?;
    let listeners = Listeners {
        customers: (config.listen.address, customers.try_clone()?),
        admin: (config.admin.address, operators.try_clone()?),
    };
    if let Some(old) = &mut predecessor {
        old.take_state()?;
    }
    let (gateway, journal) = gateway(&config, accounts)?;
    if let (Some(state), Some(asked), Some(usage)) =
        (&config.state.dir, usage_asked, gateway.accounts.usage.clone())
    {
        usage_saving::start(usage, asked, state, entropy::bits())?;
    }
    let (address, admin_address) = (customers.local_addr()?, operators.local_addr()?);
    admin::start(operators, Arc::clone(&gateway), rendered)?;
    let current = gateway.current_deployments();
    scrape::start(current.clone())?;
    discovery::start(current)?;
    let successor = Arc::default();
    let signals = Signals::new(Arc::clone(&gateway), journal, listeners, Arc::clone(&successor), heard);
    let ticker = Ticker {
        gateway: Arc::clone(&gateway),
        grace: config.listen.shutdown.grace,
        address,
        certificates,
        successor,
    };
    let server = build(&config, &gateway, customers, tls, ticker);
    let tls = config.listen.tls.is_some();
    Ok(Prepared { gateway, address, tls, admin_address, server, signals, predecessor })
}

/// The gateway with the state of its folder.
fn gateway(
    config: &Arc<Config>,
    accounts: Arc<Accounts>,
) -> Result<(Arc<Gateway>, Option<Arc<Journal>>), ServeError> {
    let connections = Connections::new(Bounds::of(descriptors::raised(), &config.listen.limits), clock::now);
    let journal = config.state.dir.as_deref().map(Journal::open).transpose()?;
    let overrides = Overrides::open(config.state.dir.as_deref());
    let registry = Registry::with_state(journal.clone(), overrides);
    let roster = Roster::open(config.state.dir.as_deref(), config, clock::wall());
    let gateway = Arc::new(Gateway::new(Arc::clone(config), accounts, connections, registry, roster));
    key_expiry::start(Arc::clone(&gateway))?;
    if let Some(journal) = &journal {
        saving::start(Arc::clone(journal), Arc::clone(&gateway), config.state.interval)?;
    }
    Ok((gateway, journal))
}

impl Prepared {
    /// Reads the config again when its file changes, on `SIGHUP`, and when the admin API asks.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn follow(&self, file: &std::path::Path) -> Result<(), ServeError> {
        Ok(reload::start(Arc::clone(&self.gateway), file)?)
    }

    /// Takes over from the process that ran before, if there is one, and runs until the process is told to stop. Does not
    /// return before that.
    ///
    /// # Errors
    /// When the process before broke off: it goes on, and this one must not serve.
    pub fn run(self) -> Result<(), ServeError> {
        let recorder = Arc::clone(&self.gateway.accounts.recorder);
        let me = format!("Tidegate {}, process {},", env!("CARGO_PKG_VERSION"), std::process::id());
        if let Some(old) = self.predecessor {
            old.take_over(self.gateway)?;
            let words = format!("{me} took over from the process that ran before.");
            recorder.note(Kind::HandOver, Subject::PROCESS, &words, None);
        } else {
            recorder.note(Kind::Start, Subject::PROCESS, &format!("{me} started."), None);
        }
        self.server.run(RunArgs { shutdown_signal: Box::new(self.signals) });
        Ok(())
    }
}

/// What was handed over, or a new listener.
fn open(
    inherited: Option<TcpListener>,
    address: SocketAddr,
    what: &'static str,
) -> Result<TcpListener, ServeError> {
    let opened = inherited.map_or_else(|| TcpListener::bind(address), Ok);
    let listener = opened.map_err(|cause| ServeError::Listen { what, address, cause })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn build(
    config: &Config,
    gateway: &Arc<Gateway>,
    customers: TcpListener,
    tls: Option<Acceptor>,
    ticker: Ticker,
) -> Server {
    let threads =
        config.listen.threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
    let conf = ServerConf {
        threads: threads.unwrap_or(1),
        grace_period_seconds: Some(config.listen.shutdown.grace.as_secs()),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    server.add_service(Door::new(App::new(Arc::clone(gateway)), customers, tls));
    server.add_service(background_service("tick", ticker));
    server
}

/// TLS 1.2 and 1.3, HTTP/2 preferred and HTTP/1.1 allowed.
fn acceptor(certificates: Arc<Certificates>) -> Result<Acceptor, ServeError> {
    // The resolver comes before these files, which are not read.
    let settings = TlsSettings::intermediate("", "");
    // Never without TLS where TLS was asked for.
    let mut settings = settings.map_err(|e| ServeError::Io(std::io::Error::other(e.to_string())))?;
    settings.set_cert_resolver(certificates);
    settings.enable_h2();
    Ok(settings.build())
}

/// Drives the gateway four times a second, and ends the process when it has drained.
struct Ticker {
    gateway: Arc<Gateway>,
    grace: Duration,
    address: SocketAddr,
    certificates: Option<Arc<Certificates>>,
    successor: Arc<OnceLock<Successor>>,
}

#[async_trait]
impl BackgroundService for Ticker {
    async fn start(&self, shutdown: ShutdownWatch) {
        tokio::spawn(notify::when_open(self.address));
        let mut ticks = tokio::time::interval(harvest::PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut drained = std::pin::pin!(drain::drained(&self.gateway, self.grace, shutdown));
        let mut deadlines = tokio::time::interval(DEADLINE_POLL);
        deadlines.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.gateway.tick(),
                _ = deadlines.tick() => self.gateway.end_waits(),
                _ = second.tick() => {
                    self.gateway.tend_budgets();
                    self.certificates.iter().for_each(|certificates| certificates.refresh());
                }
                () = &mut drained => {
                    if let Some(successor) = self.successor.get() {
                        successor.tell(&self.gateway);
                    }
                    self.gateway.accounts.flush(FLUSH_PATIENCE);
                    crate::telemetry::logging::flush(FLUSH_PATIENCE);
                    // The framework would sleep out its whole grace.
                    std::process::exit(0);
                }
            }
        }
    }
}
