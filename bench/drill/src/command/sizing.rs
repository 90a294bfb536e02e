//! `tidegate drill plan`: how many replicas for which attainment.

use super::configured::{Configured, Wanted};
use super::load::load_on;
use super::show::said;
use super::{DrillError, Output, interrupt, load};
use crate::file::{AccountFile, DrillFile, Fleet, SloFile, TrafficFile, resolve};
use crate::judge::percent;
use crate::report::sizes::{found, goal, sizes};
use crate::script::Drill;
use crate::sizing::{Sizing, Whose, size};
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

/// Options of `tidegate drill plan`.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// A scenario whose traffic is to be carried. Without one: the options below.
    #[arg(value_name = "SCENARIO", conflicts_with_all = ["rate", "workload", "profile", "priority"])]
    pub scenario: Option<PathBuf>,
    /// On the gateway's own config: its one deployment, or the one that --deployment names, is sized for the scenario.
    #[arg(long, value_name = "FILE", requires = "scenario")]
    pub config: Option<PathBuf>,
    /// The model of the config whose deployment is sized. Default: all that it serves.
    #[arg(long, value_name = "NAME", requires = "config")]
    pub model: Option<String>,
    /// The deployment of the config that is sized. Default: the only one.
    #[arg(long, value_name = "NAME", requires = "config")]
    pub deployment: Option<String>,
    /// The engines as the gateway at this admin interface, ADDRESS:PORT, has measured them.
    #[arg(long, value_name = "ADDRESS", requires = "config")]
    pub calibrate: Option<String>,
    /// A file with the token of that interface.
    #[arg(long, value_name = "FILE", requires = "calibrate")]
    pub token_file: Option<PathBuf>,
    /// Requests per second.
    #[arg(long, value_name = "PER_SECOND", required_unless_present = "scenario")]
    pub rate: Option<f64>,
    /// Sizes: azure, chat, code, long-context, reasoning or fixed:PROMPT:ANSWER.
    #[arg(long, value_name = "NAME", default_value = "azure")]
    pub workload: String,
    /// Model and hardware; `tidegate engine --help` lists them.
    #[arg(long, value_name = "NAME", default_value = "8b-a100")]
    pub profile: String,
    /// Share of requests that ask for priority.
    #[arg(long, value_name = "SHARE", default_value_t = 0.2)]
    pub priority: f64,
    /// Time to first token, ms.
    #[arg(long, value_name = "MS", default_value_t = 2000.0)]
    pub ttft_ms: f64,
    /// Time per further token, ms.
    #[arg(long, value_name = "MS", default_value_t = 100.0)]
    pub tpot_ms: f64,
    /// Coefficient of variation of the arrivals: 1 independent customers, 3 bursts.
    #[arg(long, value_name = "CV", default_value_t = 1.0)]
    pub cv: f64,
    /// Seconds to play, per size and seed.
    #[arg(long, value_name = "SECONDS", default_value_t = 180.0)]
    pub seconds: f64,
    /// Shares of requests to be served within the SLO, separated by commas.
    #[arg(long, value_name = "SHARES", value_delimiter = ',', default_values_t = [0.9, 0.99, 0.999])]
    pub attainment: Vec<f64>,
    /// Never more replicas than this.
    #[arg(long, value_name = "NUMBER", default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub replicas_max: u16,
    /// Seeds per size.
    #[arg(long, value_name = "NUMBER", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub seeds: u64,
    /// Where the page goes: plan-NAME.html and plan-NAME.json.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub out: PathBuf,
    /// What is printed at the end.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Searches, prints and writes what was found. Whether every goal is reached.
///
/// # Errors
/// The scenario or the options are wrong, or a file cannot be written.
pub fn plan(args: &PlanArgs) -> Result<bool, DrillError> {
    if let Some(wrong) = args.attainment.iter().find(|share| !(0.0..=1.0).contains(*share)) {
        return Err(DrillError::Usage(format!(
            "--attainment {wrong}: shares are between 0 and 1, such as 0.99"
        )));
    }
    let wanted = Wanted { model: args.model.as_deref(), deployment: args.deployment.as_deref() };
    let configured = args.config.as_deref().map(|path| Configured::read(path, wanted)).transpose();
    let mut configured = configured.map_err(|error| match &args.scenario {
        Some(scenario) => load::with_faults_of(scenario, error),
        None => error,
    })?;
    if let (Some(configured), Some(admin)) = (&mut configured, &args.calibrate) {
        configured.calibrate(admin, args.token_file.as_ref())?;
    }
    let drill = match (&args.scenario, &configured) {
        (Some(path), Some(configured)) => load_on(path, configured, None)?,
        (Some(path), None) => load(path)?,
        (None, _) => given(args)?,
    };
    if drill.scenario.deployments.len() > 1 {
        let names: Vec<&str> = drill.scenario.deployments.iter().map(|one| one.name.as_str()).collect();
        return Err(DrillError::Usage(format!(
            "one deployment is sized at a time; name it with --deployment: {}",
            names.join(", ")
        )));
    }
    let interrupted = interrupt()?;
    let goals: Vec<(f64, Whose)> = args
        .attainment
        .iter()
        .flat_map(|share| [(*share, Whose::All), (*share, Whose::Priority)])
        .filter(|(_, whose)| *whose == Whose::All || drill.offers(shedder::Tier::Priority))
        .collect();
    let terminal = std::io::stderr().is_terminal();
    let sizing = size(&drill.scenario, &goals, args.replicas_max, args.seeds, &mut |replicas| {
        if terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[Kplaying {replicas} replicas …");
            let _ = std::io::stderr().flush();
        }
        !interrupted.load(Relaxed)
    });
    if terminal {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    told(&drill, &sizing, args)?;
    Ok(sizing.answers.iter().all(|answer| answer.replicas.is_some()))
}

fn told(drill: &Drill, sizing: &Sizing, args: &PlanArgs) -> Result<(), DrillError> {
    let json = serde_json::to_string_pretty(sizing).unwrap_or_default();
    let html = sizes(&drill.title, &drill.shows, sizing, &drill.text, &super::date());
    std::fs::create_dir_all(&args.out)?;
    let mut written = Vec::new();
    for (end, text) in [("html", &html), ("json", &json)] {
        let file = args.out.join(format!("plan-{}.{end}", drill.name));
        std::fs::write(&file, text).map_err(|error| DrillError::Report(file.clone(), error))?;
        written.push(file.display().to_string());
    }
    if args.output == Output::Json {
        said(&json);
        return Ok(());
    }
    let mut lines =
        vec![String::from("replicas   priority    regular        all   goodput   p99 first token")];
    for row in &sizing.rows {
        lines.push(format!(
            "{:>8} {:>10} {:>10} {:>10} {:>7.1}/s {:>14.0} ms",
            row.replicas,
            percent(row.priority),
            percent(row.regular),
            percent(row.all),
            row.goodput_per_s,
            row.ttft_p99_ms
        ));
    }
    lines.extend(sizing.answers.iter().map(|answer| format!("{} {}", found(answer), goal(answer))));
    lines.push(format!("page: {}", written.join(", ")));
    said(&lines.join("\n"));
    Ok(())
}

/// A scenario of the options alone.
fn given(args: &PlanArgs) -> Result<Drill, DrillError> {
    let account =
        AccountFile { id: Some("public".to_owned()), count: Some(40), zipf: Some(1.0), limits: None };
    let traffic = TrafficFile {
        name: Some("everybody".to_owned()),
        accounts: Some("public".to_owned()),
        rate_per_s: args.rate,
        cv: Some(args.cv),
        priority: Some(args.priority),
        workload: Some(args.workload.clone()),
        ..TrafficFile::default()
    };
    let rate = args.rate.unwrap_or(0.0);
    let in_range =
        rate > 0.0 && rate <= 100_000.0 && (0.0..=1.0).contains(&args.priority) && args.seconds >= 10.0;
    if !in_range {
        return Err(DrillError::Usage(
            "--rate must be above 0, --priority between 0 and 1, --seconds at least 10".to_owned(),
        ));
    }
    let file = DrillFile {
        drill: Some(args.workload.replace(':', "-")),
        title: Some(format!("{rate} × {} per second on {}", args.workload, args.profile)),
        shows: Some(format!(
            "{rate} requests per second, {} of them priority; first token within {} ms, {} ms per further token.",
            percent(args.priority),
            args.ttft_ms,
            args.tpot_ms
        )),
        duration_s: Some(args.seconds),
        warm_up_s: Some((args.seconds / 6.0).floor()),
        fleet: Fleet { profile: Some(args.profile.clone()), ..Fleet::default() },
        slo: SloFile { ttft_ms: Some(args.ttft_ms), tpot_ms: Some(args.tpot_ms) },
        accounts: Some(vec![account]),
        traffic: Some(vec![traffic]),
        ..DrillFile::default()
    };
    let text = serde_json::to_string_pretty(&file).unwrap_or_default();
    let none = |_: &std::path::Path, _: usize| Err(std::io::Error::other("no trace is read here"));
    resolve(&file, &text, &none, None).map_err(|faults| {
        let words: Vec<String> = faults.into_iter().map(|fault| fault.message).collect();
        DrillError::Usage(words.join("\n"))
    })
}
