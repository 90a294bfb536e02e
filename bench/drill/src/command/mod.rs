//! `tidegate drill`: plays a capacity drill, judges it, and writes what it has shown.
//!
//! One scenario can be played in three ways: in virtual time, where only the policies and the engine model are real
//! and an hour takes seconds; in real time against the real gateway with simulated engines, both started here; and
//! against a gateway that runs already. What comes of each request ends in the same figures.
//!
//! An interrupted drill is judged as far as it got, and writes its report all the same.

mod arguments;

mod calibrate;

mod configured;

mod inside;

#[cfg(test)]
mod library;

mod load;

mod place;

mod pressure;

mod progress;

mod real;

mod rewritten;

mod served;

mod show;

mod sizing;

mod stage;

mod target;

use crate::play::play_watched;
use crate::policy::Policy;
use crate::report::figures::{Figures, How, figures};
use crate::script::Drill;
use crate::sizing::enough::{self, Enough};
use config::Faults;
use configured::{Configured, Wanted};
use engine::clock;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

pub use arguments::{DrillArguments, EXAMPLES, command};
pub use load::{load, parse};
pub use pressure::{PressureArgs, pressure};
pub use sizing::{PlanArgs, plan};
pub use target::TargetArgs;

/// How a drill is to be played, and where its report goes.
#[derive(Debug, clap::Args)]
pub struct PlayArgs {
    /// The scenario, YAML; deploy/drills/ has some.
    #[arg(required = true, value_name = "SCENARIO")]
    pub scenario: Option<PathBuf>,
    /// In virtual time: policies and engine model only, an hour in seconds.
    #[arg(long = "virtual", conflicts_with = "target")]
    pub virtual_time: bool,
    /// In place of the scenario's seed.
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// In place of the scenario's number of replicas.
    #[arg(long, value_name = "NUMBER")]
    pub replicas: Option<u16>,
    /// Where the report goes: NAME.html and NAME.json, after the drill's name.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub out: PathBuf,
    /// What is printed at the end.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// On the gateway's own config: its models, deployments, replicas, service level, queue, ceilings, accounts, limits and tiers
    /// are played. Only the text is read: no listener, state, log, key file or replica of it is opened. A DNS name counts as
    /// one replica, and --replicas says how many it is.
    #[arg(long, value_name = "FILE", conflicts_with = "target")]
    pub config: Option<PathBuf>,
    /// The engines as the gateway at this admin interface, ADDRESS:PORT, has measured them while it served: the costs of their
    /// steps, lag, memory and slots, in place of a profile.
    #[arg(long, value_name = "ADDRESS", requires = "config")]
    pub calibrate: Option<String>,
    /// Against a gateway that runs already.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// What is printed at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// The conditions, for people.
    Table,
    /// All figures, for programs.
    Json,
}

/// Why a drill did not take place.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The scenario is wrong, or cannot pass.
    #[error("{0}")]
    Scenario(#[from] Faults),
    /// The config is wrong, and the scenario, too.
    #[error("{0}\n{1}")]
    Both(Faults, Faults),
    /// An argument is wrong.
    #[error("{0}")]
    Usage(String),
    /// A file, a port or a thread was not to be had.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The admin API of the gateway does not answer or refuses.
    #[error("admin interface, {0}")]
    Admin(#[from] client::api::CallError),
    /// A report could not be written.
    #[error("the report {0} could not be written: {1}; choose another place with --out")]
    Report(PathBuf, std::io::Error),
}

impl DrillError {
    /// Whether the caller is to blame: exit code 2.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, DrillError::Scenario(_) | DrillError::Both(..) | DrillError::Usage(_))
    }
}

/// Plays a drill and writes its report. Whether it passed.
///
/// # Errors
/// It could not take place, or its report could not be written.
pub fn run(args: &PlayArgs) -> Result<bool, DrillError> {
    let path = args.scenario.as_deref().unwrap_or(Path::new(""));
    let TargetArgs { model, deployment, .. } = &args.target;
    if args.config.is_none() && args.target.target.is_none() && (model.is_some() || deployment.is_some()) {
        let message =
            "--model and --deployment are of a gateway that runs (--target) or of a config (--config)";
        return Err(DrillError::Usage(message.to_owned()));
    }
    let wanted = Wanted { model: model.as_deref(), deployment: deployment.as_deref() };
    let configured = args.config.as_deref().map(|path| Configured::read(path, wanted)).transpose();
    let mut configured = configured.map_err(|error| load::with_faults_of(path, error))?;
    if let (Some(configured), Some(admin)) = (&mut configured, &args.calibrate) {
        configured.calibrate(admin, args.target.token_file.as_ref())?;
    }
    let mut drill = match &configured {
        Some(configured) => load::load_on(path, configured, args.replicas)?,
        None => load(path)?,
    };
    drill.scenario.seed = args.seed.unwrap_or(drill.scenario.seed);
    if let Some(replicas) = args.replicas.filter(|_| configured.is_none()) {
        drill.scenario.fleet_mut().replicas = replicas;
    }
    if args.target.stop_below.is_some() {
        drill.stop_below = args.target.stop_below;
    }
    let target = args
        .target
        .target
        .as_deref()
        .map(|url| target::Target::new(&args.target, url, &drill))
        .transpose()?;
    let interrupted = interrupt()?;
    let mut figures = match &target {
        Some(target) => real::against(&drill, target, &interrupted)?,
        None if args.virtual_time => match &configured {
            Some(configured) => {
                let words = format!("in virtual time, {}, before simulated engines", configured.words());
                virtually(&drill, &Policy::Shipped, words, &interrupted)
            }
            None => in_virtual_time(&drill, &interrupted),
        },
        None => real::own(&drill, configured.as_ref(), &interrupted)?,
    };
    figures.conclude(enough_for(&drill, &figures, &interrupted));
    let written = write(&figures, &args.out)?;
    show::result(&figures, &written, args.output);
    Ok(figures.passed)
}

/// What would have sufficed for a drill that was played.
fn enough_for(drill: &Drill, figures: &Figures, interrupted: &AtomicBool) -> Enough {
    if figures.ended_early.is_some() {
        return Enough::NotSearched("the drill ended before its time".to_owned());
    }
    if figures.how.mode == "target" && figures.served < enough::GOAL {
        let why = "the engines of a running gateway are not simulated ones; `tidegate drill plan SCENARIO --config FILE \
                   --calibrate ADDRESS` sizes them as that gateway has measured them";
        return Enough::NotSearched(why.to_owned());
    }
    let progress = progress::Progress::new(&drill.name, drill.scenario.end);
    progress.note("looking for what would have sufficed");
    let found = enough::enough(&drill.scenario, figures.served, &mut || !interrupted.load(Relaxed));
    progress.end();
    found
}

/// Now, as RFC 3339.
pub(crate) fn date() -> String {
    let now = i64::try_from(clock::wall().as_secs()).unwrap_or_default();
    let date = chrono::DateTime::from_timestamp(now, 0).unwrap_or_default();
    date.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// Plays in virtual time.
#[must_use]
pub fn in_virtual_time(drill: &Drill, interrupted: &AtomicBool) -> Figures {
    let words = "in virtual time: the shipped policies before simulated engines".to_owned();
    virtually(drill, &Policy::Shipped, words, interrupted)
}

fn virtually(drill: &Drill, policy: &Policy, words: String, interrupted: &AtomicBool) -> Figures {
    let begun = clock::now();
    let mut progress = progress::Progress::new(&drill.name, drill.scenario.end);
    let run = play_watched(&drill.scenario, policy, &mut |now, run| {
        progress.show(now, run);
        !interrupted.load(Relaxed)
    });
    progress.end();
    let took_s = (clock::now() - begun).as_secs_f64();
    let how = How { mode: "virtual", words, at: date(), took_s, lag_ms: [0.0; 2], unsent: 0 };
    figures(drill, &run, how, None)
}

/// Set when somebody presses Ctrl-C; the second time the process ends at once.
fn interrupt() -> std::io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("interrupt".to_owned()).spawn(move || {
        runtime.block_on(async {
            while tokio::signal::ctrl_c().await.is_ok() {
                if flag.swap(true, Relaxed) {
                    std::process::exit(130);
                }
            }
        });
    })?;
    Ok(interrupted)
}

/// Writes the report; where to.
fn write(figures: &Figures, folder: &Path) -> Result<[PathBuf; 2], DrillError> {
    let written = |file: PathBuf, text: String| match std::fs::write(&file, text) {
        Ok(()) => Ok(file),
        Err(error) => Err(DrillError::Report(file, error)),
    };
    std::fs::create_dir_all(folder).map_err(|error| DrillError::Report(folder.to_owned(), error))?;
    let json = serde_json::to_string_pretty(figures).unwrap_or_default();
    Ok([
        written(folder.join(format!("{}.html", figures.drill)), crate::report::page::page(figures))?,
        written(folder.join(format!("{}.json", figures.drill)), json + "\n")?,
    ])
}
