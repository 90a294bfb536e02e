//! A drill in real time, against the gateway that this drill started or against one that runs already.
//!
//! Requests go out on a thread of their own; here the events are made to happen when they are due, the gateway's inside
//! is read once a second, and it is decided when to stop: at the end, when somebody presses Ctrl-C, or when priority
//! suffers and the scenario says so. Whatever was changed is put back.

use super::DrillError;
use super::configured::Configured;
use super::inside::Admin;
use super::progress::Progress;
use super::stage::{self, Stage};
use super::target::Target;
use crate::live::{Generator, Live};
use crate::policy::Inside;
use crate::report::figures::{Figures, How, figures};
use crate::run::Run;
use crate::scenario::Incident;
use crate::script::Drill;
use engine::clock;
use load::script::Script;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// How often it is looked what is due.
const LOOK: Duration = Duration::from_millis(100);
/// No more requests at once than this.
const IN_FLIGHT_MAX: usize = 16_384;
/// Accounts whose budgets are read every second.
const BUDGETS_READ: usize = 8;
/// A try without an end after this is given up.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Why it ended before its time.
struct Early(String);

/// What came out.
struct Played {
    run: Run,
    generator: Generator,
    early: Option<Early>,
    /// Events that could not be made.
    warnings: Vec<String>,
}

/// Plays a drill on engines and a gateway of its own.
pub(super) fn own(
    drill: &Drill,
    configured: Option<&Configured>,
    interrupted: &AtomicBool,
) -> Result<Figures, DrillError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stage = Stage::start(drill, configured).await?;
        let accounts = drill.groups.iter().map(|group| group.first + group.count).max().unwrap_or(1);
        let script = Script {
            target: stage.address,
            host: stage.address.to_string(),
            tls: None,
            path: "/v1/chat/completions".to_owned(),
            models: stage.models(drill),
            keys: (0..accounts).map(stage::key).collect(),
            check_text: true,
            timeout: TIMEOUT,
            in_flight_max: IN_FLIGHT_MAX,
        };
        let begun = clock::now();
        let admin = stage.admin.clone();
        let live = Live::start(&drill.scenario, script, "the real gateway")?;
        let played = follow(drill, live, Some(&mut stage), Some(&admin), interrupted).await;
        drop(stage);
        let words = match configured {
            Some(configured) => {
                format!("in real time, {}: the real gateway before simulated engines", configured.words())
            }
            None => "in real time: the real gateway before simulated engines".to_owned(),
        };
        Ok(told(drill, played, ("real", words), clock::now() - begun))
    })
}

/// Plays a drill against a gateway that runs already.
pub(super) fn against(
    drill: &Drill,
    target: &Target,
    interrupted: &AtomicBool,
) -> Result<Figures, DrillError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let script = target.script(IN_FLIGHT_MAX, TIMEOUT).await?;
        let begun = clock::now();
        let live = Live::start(&drill.scenario, script, "a running gateway")?;
        let admin = target.admin.clone();
        let played = follow(drill, live, None, admin.as_ref(), interrupted).await;
        let words = format!("in real time, against {}", target.url);
        Ok(told(drill, played, ("target", words), clock::now() - begun))
    })
}

fn told(drill: &Drill, played: Played, (mode, words): (&'static str, String), took: Duration) -> Figures {
    let Played { run, generator, early, warnings } = played;
    let Generator { lag_ms, unsent, corrupt } = generator;
    let how = How { mode, words, at: super::date(), took_s: took.as_secs_f64(), lag_ms, unsent };
    let mut figures = figures(drill, &run, how, early.map(|Early(why)| why));
    figures.warnings.extend(warnings);
    if corrupt > 0 {
        figures
            .warnings
            .push(format!("{corrupt} answers were not what the engine had said; they count as broken."));
    }
    figures
}

/// Follows a drill to its end, or to its early end.
async fn follow(
    drill: &Drill,
    mut live: Live,
    mut stage: Option<&mut Stage>,
    admin: Option<&Admin>,
    interrupted: &AtomicBool,
) -> Played {
    let scenario = &drill.scenario;
    let mut progress = Progress::new(&drill.name, scenario.end);
    let mut incidents: Vec<(Duration, Incident)> = scenario.incidents.clone();
    incidents.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let budgets = scenario.budgets.iter().map(|one| (one.account, drill.account(one.account)));
    let budgets: Vec<(u32, String)> = budgets.take(BUDGETS_READ).collect();
    let (mut read_at, mut early, mut warnings) = (Duration::ZERO, None, Vec::new());
    loop {
        tokio::time::sleep(LOOK).await;
        let now = live.now();
        while let Some((_, incident)) = incidents.pop_if(|(at, _)| *at <= now) {
            if let Some(stage) = stage.as_deref_mut()
                && let Err(error) = stage.happen(incident).await
            {
                let at_s = now.as_secs_f64();
                warnings.push(format!("{incident:?} at {at_s:.0} s could not be made: {error}"));
            }
        }
        if let Some(stage) = stage.as_deref_mut()
            && let Err(error) = stage.go_on().await
        {
            warnings.push(format!("the gateway's restart at {:.0} s: {error}", now.as_secs_f64()));
        }
        if now >= read_at {
            read_at = Duration::from_secs(now.as_secs() + 1);
            let inside = match admin {
                Some(admin) => admin.inside(&budgets).await,
                None => Inside::default(),
            };
            live.inside(inside);
        }
        progress.show(now, live.look());
        if live.is_over() || now > scenario.end + scenario.drain {
            break;
        }
        if interrupted.load(Relaxed) {
            early = Some(Early(format!("interrupted after {:.0} s", now.as_secs_f64())));
            break;
        }
        let below = drill.stop_below.zip(live.priority_lately()).filter(|(min, share)| share < min);
        if let Some((min, share)) = below {
            let (share, min) = (crate::judge::percent(share), crate::judge::percent(min));
            early = Some(Early(format!(
                "only {share} of the priority requests of the last 15 s were served within the SLO, and it was to stop below {min}"
            )));
            break;
        }
    }
    progress.end();
    let (run, generator) = live.end(early.is_some());
    Played { run, generator, early, warnings }
}
