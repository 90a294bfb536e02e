//! `tidegate demo`: simulated engines, the gateway, and traffic that rises and falls, in one process.
//!
//! Nothing is needed: no file, no GPU, no network. Four simulated replicas of an 8B model on an A100 carry
//! about 25 chat requests per second within their targets; the traffic is that of the launch-day drill, again and
//! again: from below that to three times as much and back. The screen shows who is served, who is told to wait for
//! its own budget (429) and who is told that the service is full (503): regular customers early, priority customers
//! hardly ever. On a terminal, keys lose a replica, double the regular traffic, let priority surge, and undo all that; it
//! is as before when the demo ends, however it ends.

mod ending;
mod fleet;
mod keys;
mod layout;
mod rates;
mod terminal;
mod tide;
mod view;

use config::keys::Digest;
use config::{Config, Faults};
use ending::Signals;
use engine::clock;
use engine::workload::{Arrivals, Workload};
use fleet::{Fleet, MODEL};
use keys::{Key, Keyboard};
use load::{Caller, LoadPlan, LoadRun, Mode, Stage};
use rates::Rates;
use shedder::Snapshot;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;
use terminal::Terminal;
use tide::{Phase, Tide};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use view::{Moment, View};

/// Simulated replicas.
const REPLICAS: usize = 4;
/// The generators' own rate, requests per second; what they send is a multiple of it.
const UNIT_PER_S: f64 = 1.0;
/// How often the screen is drawn.
const FRAME: Duration = Duration::from_millis(500);
/// Without a terminal, one line in so many frames.
const LINE_EVERY: u32 = 10;
/// The keys of the demo's customers. They open nothing but this process.
const ACME: &str = "tg-demo-acme";
const STARTUP: &str = "tg-demo-startup";
const TRIAL: &str = "tg-demo-trial";
/// The token of the demo's operator.
const ADMIN_TOKEN: &str = "tg-demo-admin";
/// The longest demo: a load generator that runs for ever is nobody's wish.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Options of `tidegate demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Port of the gateway; the next free one is taken.
    #[arg(long, default_value_t = 8080, value_name = "PORT")]
    pub port: u16,
    /// Port of admin and metrics; the next free one is taken.
    #[arg(long, default_value_t = 9090, value_name = "PORT")]
    pub admin_port: u16,
    /// End after this many seconds; default: when interrupted.
    #[arg(long, value_name = "SECONDS")]
    pub seconds: Option<u64>,
    /// Start without traffic: only the gateway and its engines.
    #[arg(long)]
    pub idle: bool,
}

impl Default for DemoArgs {
    fn default() -> Self {
        DemoArgs { port: 8080, admin_port: 9090, seconds: None, idle: false }
    }
}

/// Why the demo did not start.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// No free port near the wanted one.
    #[error("no free port from {0} on")]
    NoPort(u16),
    /// An engine or the load generator could not start.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The demo's own config is wrong, which would be our fault.
    #[error("{0}")]
    Config(Faults),
    /// The gateway could not start.
    #[error("{0}")]
    Serve(Box<dyn std::error::Error + Send + Sync>),
}

/// The gateway before the demo's engines, which whoever calls the demo has started.
pub struct Started {
    /// Where customers connect.
    pub address: SocketAddr,
    /// Its admin listener.
    pub admin: SocketAddr,
    /// Returns its only deployment as it is now.
    pub look: Box<dyn Fn() -> Snapshot>,
    /// Whether it has ended.
    pub is_over: Box<dyn Fn() -> bool>,
    /// Ends it.
    pub stop: Box<dyn Fn()>,
}

/// Runs the demo until it is interrupted or its time is over.
///
/// # Errors
/// When something could not be started.
pub fn run(
    args: &DemoArgs,
    start: impl FnOnce(Config) -> Result<Started, DemoError>,
) -> Result<(), DemoError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let fleet = runtime.block_on(Fleet::start(REPLICAS))?;
    let tide = Tide::new(clock::now()).map_err(DemoError::Config)?;
    let config = config(&fleet.urls(), free_port(args.port)?, free_port(args.admin_port)?)?;
    let gateway = start(config)?;
    let (address, admin) = (gateway.address, gateway.admin);
    let terminal = Terminal::open();
    let signals = Signals::hear(&runtime, terminal.is_some())?;
    let over = signals.told(&runtime, terminal.as_ref().map(Terminal::held));
    let loads = if args.idle { Vec::new() } else { start_loads(address, args.seconds)? };
    let has_keys = !args.idle && terminal.as_ref().is_some_and(Terminal::has_keys);
    let keyboard = if has_keys { Keyboard::open() } else { Keyboard::none() };
    let color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let view = View { address, admin, key: ACME, token: ADMIN_TOKEN, has_keys, color };
    let end = args.seconds.map(|seconds| clock::now() + Duration::from_secs(seconds));
    let mut scene = Scene { fleet, tide, loads, rates: Rates::default(), view, terminal, gateway, frames: 0 };
    let outcome = runtime.block_on(scene.play(&keyboard, end, over));
    scene.stop();
    match outcome {
        // Whoever read it has read enough, or has closed the terminal.
        Err(DemoError::Io(error)) if is_closed(&error) => Ok(()),
        outcome => outcome,
    }
}

fn is_closed(error: &std::io::Error) -> bool {
    // A terminal that was closed answers EIO, which has no kind of its own.
    error.kind() == std::io::ErrorKind::BrokenPipe
        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Everything that the demo shows.
struct Scene {
    fleet: Fleet,
    tide: Tide,
    /// Priority, and the rest.
    loads: Vec<LoadRun>,
    rates: Rates,
    view: View,
    /// `None`: lines are printed.
    terminal: Option<Terminal>,
    gateway: Started,
    frames: u32,
}

impl Scene {
    /// Shows one frame after the other until the end has come, a signal or the key for it.
    async fn play(
        &mut self,
        keyboard: &Keyboard,
        end: Option<Duration>,
        mut over: oneshot::Receiver<()>,
    ) -> Result<(), DemoError> {
        if self.terminal.is_none() {
            print(&self.view.intro())?;
        }
        let mut resized = signal(SignalKind::window_change())?;
        while !(self.gateway.is_over)() && end.is_none_or(|end| clock::now() < end) {
            tokio::select! {
                _ = &mut over => break,
                _ = resized.recv() => {}
                () = tokio::time::sleep(FRAME) => self.frames += 1,
            }
            while let Some(key) = keyboard.pressed() {
                if key == Key::Quit {
                    return Ok(());
                }
                self.press(key).await;
            }
            self.frame()?;
        }
        Ok(())
    }

    async fn press(&mut self, key: Key) {
        match key {
            Key::Lose => self.fleet.lose().await,
            Key::DoubleRegular => self.tide.doubled = !self.tide.doubled,
            Key::PrioritySurge => self.tide.surge = !self.tide.surge,
            Key::Recover => {
                self.fleet.recover().await;
                (self.tide.doubled, self.tide.surge) = (false, false);
            }
            Key::Quit => {}
        }
    }

    fn frame(&mut self) -> std::io::Result<()> {
        let now = clock::now();
        let phase = self.tide.at(now);
        let Phase { priority_per_s, regular_per_s, .. } = phase;
        for (load, rate) in self.loads.iter().zip([priority_per_s, regular_per_s]) {
            load.scale_rate(rate / UNIT_PER_S);
        }
        if self.terminal.is_none() && !self.frames.is_multiple_of(LINE_EVERY) {
            return Ok(());
        }
        let (tiers, state) = (self.rates.tiers(now, &self.loads), (self.gateway.look)());
        let moment = Moment { phase, tiers: &tiers, state: &state };
        match &self.terminal {
            Some(terminal) => terminal.draw(&self.view.screen(&moment, terminal.size())),
            None => print(&view::line(&moment)),
        }
    }

    /// Puts the terminal back, and leaves on it what came out.
    fn stop(mut self) {
        self.loads.iter().for_each(LoadRun::stop);
        (self.gateway.stop)();
        if self.terminal.take().is_some() {
            let tiers = self.rates.tiers(clock::now(), &self.loads);
            let _ = print(&self.view.summary(&tiers));
        }
    }
}

fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn start_loads(target: SocketAddr, seconds: Option<u64>) -> std::io::Result<Vec<LoadRun>> {
    let caller = |tier: &str, key: &str, service_tier: Option<&str>, weight: f64| Caller {
        tier: tier.to_owned(),
        key: Some(key.to_owned()),
        service_tier: service_tier.map(str::to_owned),
        weight,
    };
    let priority = vec![caller("priority", ACME, Some("priority"), 1.0)];
    let regular = vec![caller("regular", STARTUP, None, 0.87), caller("trial", TRIAL, None, 0.13)];
    [priority, regular].into_iter().map(|callers| load::start(plan(target, seconds, callers))).collect()
}

fn free_port(from: u16) -> Result<u16, DemoError> {
    (from..from.saturating_add(100))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or(DemoError::NoPort(from))
}

/// The demo's config, read by the same loader as any other.
fn config(urls: &[String], port: u16, admin_port: u16) -> Result<Config, DemoError> {
    let replicas: Vec<String> = urls.iter().map(|url| format!("\"{url}\"")).collect();
    let text = format!(
        "listen: {{ address: \"127.0.0.1:{port}\", limits: {{ connections_per_address: 10000 }} }}\n\
         admin: {{ address: \"127.0.0.1:{admin_port}\", token_sha256: \"{}\" }}\n\
         deployments:\n\
         \x20 - name: demo\n\
         \x20   engine: vllm\n\
         \x20   replicas: [{}]\n\
         \x20   slo: {{ ttft_ms: 2000, tpot_ms: 100 }}\n\
         models: [{{ name: demo-8b, deployments: [demo], size_class: small }}]\n\
         accounts:\n\
         \x20 - {{ id: acme, keys: [\"{}\"], spending_tier: enterprise, tiers: [priority, regular], limits: [{{ start: {LARGE} }}] }}\n\
         \x20 - {{ id: startup, keys: [\"{}\"], spending_tier: enterprise, limits: [{{ start: {LARGE} }}] }}\n\
         \x20 - {{ id: trial, keys: [\"{}\"], spending_tier: 1 }}\n\
         limits: {{ policy: fixed }}\n\
         log: {{ access: off, level: warn }}\n",
        Digest::of(ADMIN_TOKEN),
        replicas.join(", "),
        Digest::of(ACME),
        Digest::of(STARTUP),
        Digest::of(TRIAL),
    );
    Config::parse(&text, "demo", &|_| None).map_err(DemoError::Config)
}

/// Budgets that the demo's paying customers do not reach.
const LARGE: &str = "{ prompt: 200000000, uncached_prompt: 50000000, generated: 2000000 }";

fn plan(target: SocketAddr, seconds: Option<u64>, callers: Vec<Caller>) -> LoadPlan {
    let duration = seconds.map_or(LONGEST, Duration::from_secs);
    let arrivals = Arrivals { rate_per_s: UNIT_PER_S, cv: 1.0 };
    LoadPlan {
        model: MODEL.to_owned(),
        mode: Mode::Open { stages: vec![Stage { arrivals, duration }] },
        workload: Workload::Azure,
        callers,
        check_text: false,
        ..LoadPlan::to(target)
    }
}
