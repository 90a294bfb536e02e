//! A gateway that runs already, and the care that it deserves: a bound on rate and time, a question, a way to stop.

use super::DrillError;
use super::inside::Admin;
use super::place::{Place, admin_of};
use crate::file::offered;
use crate::script::Drill;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use load::script::Script;
use serde_json::Value;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

/// How long the gateway may take to say which models it has.
const PATIENCE: Duration = Duration::from_secs(10);

/// Options for drills against a gateway that runs already.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Against a running gateway")]
pub struct TargetArgs {
    /// Its URL, such as `https://gateway.example.org` or `http://10.0.0.5:8080`. It answers with its real engines.
    #[arg(long, value_name = "URL")]
    pub target: Option<String>,
    /// A PEM file with the authorities that are trusted for https, in place of the system's.
    #[arg(long, value_name = "FILE", requires = "target")]
    pub ca: Option<std::path::PathBuf>,
    /// A key of it; several accounts: give it several times, the n-th account uses the n-th.
    #[arg(long = "key", value_name = "KEY", env = "TIDEGATE_KEY", requires = "target")]
    pub keys: Vec<String>,
    /// The model to ask for, or to play of a config. Default: the first that the gateway lists; of a config all.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Its admin interface, ADDRESS:PORT, to show its inside in the report.
    #[arg(long, value_name = "ADDRESS", requires = "target")]
    pub admin: Option<String>,
    /// The deployment whose inside is shown, or that is played of a config. Default: the first; of a config all.
    #[arg(long, value_name = "NAME")]
    pub deployment: Option<String>,
    /// A file with the token of the admin interface, for --admin and --calibrate.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<std::path::PathBuf>,
    /// Refuse scenarios that ever offer more requests per second than this.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 50.0, requires = "target")]
    pub rate_max: f64,
    /// Refuse scenarios that last longer than this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800, requires = "target")]
    pub seconds_max: u64,
    /// Stop when fewer than this share of the priority requests of the last 15 s were served within the SLO, 0 … 1.
    #[arg(long, value_name = "SHARE", requires = "target")]
    pub stop_below: Option<f64>,
    /// Do not ask before sending load to something that is not on this machine.
    #[arg(long)]
    pub yes: bool,
}

/// A running gateway.
#[derive(Debug)]
pub(super) struct Target {
    /// As it was given.
    pub(super) url: String,
    place: Place,
    keys: Vec<String>,
    model: Option<String>,
    pub(super) admin: Option<Admin>,
}

impl Target {
    /// Checks what was given, and that the drill may be played there at all.
    pub(super) fn new(args: &TargetArgs, url: &str, drill: &Drill) -> Result<Target, DrillError> {
        let usage = |message: String| Err(DrillError::Usage(message));
        let place = Place::of(url, args.ca.as_deref())
            .map_err(|fault| DrillError::Usage(format!("--target {url}: {fault}")))?;
        if args.keys.is_empty() {
            return usage("--target needs a --key (or TIDEGATE_KEY)".to_owned());
        }
        if let Some(incident) = drill.scenario.incidents.first() {
            return usage(format!(
                "{}: its events need engines of its own, such as {:?}; remove them to play it against --target",
                drill.name, incident.1
            ));
        }
        let end = drill.scenario.end.as_secs();
        if end > args.seconds_max {
            return usage(format!(
                "the drill lasts {end} s, and --seconds-max is {}; shorten it or raise the bound",
                args.seconds_max
            ));
        }
        let highest = highest_rate(drill);
        if highest > args.rate_max {
            return usage(format!(
                "the drill offers up to {highest:.0} requests per second, and --rate-max is {}; lower its rates or raise the bound",
                args.rate_max
            ));
        }
        let token = super::place::token_of(args.token_file.as_ref())?;
        let admin = match &args.admin {
            None => None,
            Some(admin) => {
                let admin = Admin::new(admin_of("--admin", admin)?, token.as_deref());
                Some(admin.about(args.deployment.clone()))
            }
        };
        let (keys, model) = (args.keys.clone(), args.model.clone());
        let target = Target { url: url.to_owned(), place, keys, model, admin };
        target.ask(drill, args.yes)?;
        Ok(target)
    }

    /// Asks before load goes to another machine.
    fn ask(&self, drill: &Drill, yes: bool) -> Result<(), DrillError> {
        let requests: f64 =
            drill.scenario.sources.iter().map(|source| offered(source, drill.scenario.end)).sum();
        let what = format!(
            "This sends about {requests:.0} requests to {}, up to {:.0} per second, for {} s. Go on? [y/N] ",
            self.url,
            highest_rate(drill),
            drill.scenario.end.as_secs()
        );
        confirm(&what, yes || self.place.address.ip().is_loopback(), || {
            DrillError::Usage(format!("{} is not on this machine; say --yes to send it load", self.url))
        })
    }

    /// How to send requests there.
    pub(super) async fn script(&self, in_flight_max: usize, timeout: Duration) -> Result<Script, DrillError> {
        let model = match &self.model {
            Some(model) => model.clone(),
            None => self.first_model().await?,
        };
        Ok(Script {
            target: self.place.address,
            host: self.place.host.clone(),
            tls: self.place.tls.clone(),
            path: format!("{}/v1/chat/completions", self.place.path),
            models: vec![model],
            keys: self.keys.clone(),
            check_text: false,
            timeout,
            in_flight_max,
        })
    }

    async fn first_model(&self) -> Result<String, DrillError> {
        let listed = tokio::time::timeout(PATIENCE, self.models()).await;
        let listed = listed.unwrap_or_else(|_| Err("no answer".to_owned()));
        let models = listed.map_err(|error| DrillError::Usage(format!("{}/v1/models: {error}", self.url)))?;
        let first = models.pointer("/data/0/id").and_then(Value::as_str);
        first
            .map(str::to_owned)
            .ok_or_else(|| DrillError::Usage(format!("{} lists no model; name one with --model", self.url)))
    }

    async fn models(&self) -> Result<Value, String> {
        let mut sender = self.place.connect().await?;
        let key = self.keys.first().map_or("", String::as_str);
        let request = Request::get(format!("{}/v1/models", self.place.path))
            .header(header::HOST, &self.place.host)
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .body(Empty::<Bytes>::new())
            .map_err(|e| e.to_string())?;
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        if !answer.status().is_success() {
            return Err(answer.status().to_string());
        }
        let body =
            Limited::new(answer.into_body(), 1 << 20).collect().await.map_err(|e| e.to_string())?.to_bytes();
        serde_json::from_slice(&body).map_err(|e| e.to_string())
    }
}

/// Asks, unless `yes` was said. Where nobody can answer, the answer is no.
#[expect(clippy::print_stderr, reason = "a question to the person at the terminal")]
pub(super) fn confirm(what: &str, yes: bool, refused: impl Fn() -> DrillError) -> Result<(), DrillError> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(refused());
    }
    eprint!("{what}");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(refused()) }
}

/// The most requests per second that a drill ever offers: of drawn traffic by its rate, of recorded by its busiest second.
fn highest_rate(drill: &Drill) -> f64 {
    let sources = &drill.scenario.sources;
    let recorded = sources.iter().filter_map(|source| source.trace.as_ref()).flat_map(|trace| &trace.asks);
    let mut seconds = std::collections::HashMap::<u64, f64>::new();
    recorded.for_each(|ask| *seconds.entry(ask.at.as_secs()).or_default() += 1.0);
    let at = |second: u64| {
        let drawn = sources.iter().filter(|source| source.trace.is_none());
        let drawn: f64 = drawn.map(|source| source.rate_at(Duration::from_secs(second))).sum();
        drawn + seconds.get(&second).copied().unwrap_or(0.0)
    };
    (0..drill.scenario.end.as_secs().max(1)).map(at).fold(0.0, f64::max)
}
