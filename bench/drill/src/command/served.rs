//! A drill for a gateway that serves: that one starts this process, hands the scenario in and takes the report out, on pipes.
//!
//! It must not cost who is served anything, so it gives way to everything: the lowest priority of processor time, the first to
//! go when memory runs out, a bound of memory of its own, and an end with its parent. It plays in virtual time on a config's
//! file, and reads nothing else.

use super::configured::{Configured, Wanted};
use super::{DrillError, load, virtually};
use crate::policy::Policy;
use client::views::measured::Measured;
use rustix::process::{Resource, Rlimit, Signal, getppid, nice, set_parent_process_death_signal, setrlimit};
use serde::Deserialize;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// Bytes of what is handed in.
const TASK_BYTES_MAX: u64 = 64 << 20;
/// Memory that it may map, bytes.
const MEMORY_MAX: u64 = 4 << 30;
/// How much lower than usual its priority is: as low as it gets.
const NICE: i32 = 19;

/// `tidegate drill served`: for the gateway, not for people.
#[derive(Debug, clap::Args)]
pub(super) struct ServedArgs {
    /// The config's file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The process that started it.
    #[arg(long, value_name = "PID")]
    parent: i32,
    /// The model that is played.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

/// What is handed in.
#[derive(Debug, Deserialize)]
struct Task {
    /// The scenario's text.
    scenario: String,
    /// What was measured of engines; empty: profiles are played.
    measured: Vec<Measured>,
}

/// Plays what stands on standard input. The figures go to standard output, on one line, and after it the page.
///
/// # Errors
/// The scenario is wrong, or its parent is gone.
pub(super) fn served(args: &ServedArgs) -> Result<bool, DrillError> {
    give_way(args.parent)?;
    let mut text = String::new();
    std::io::stdin().take(TASK_BYTES_MAX).read_to_string(&mut text)?;
    let task: Task = serde_json::from_str(&text).map_err(|e| DrillError::Usage(e.to_string()))?;
    let wanted = Wanted { model: args.model.as_deref(), deployment: None };
    let mut configured = Configured::read(&args.config, wanted)?;
    if !task.measured.is_empty() {
        configured.calibrate_by(&task.measured)?;
    }
    let drill = load::parse_on(&task.scenario, "scenario", &configured)?;
    let words = format!("in virtual time, {}, before simulated engines", configured.words());
    let figures = virtually(&drill, &Policy::Shipped, words, &AtomicBool::new(false));
    let mut output = std::io::stdout().lock();
    writeln!(output, "{}", serde_json::to_string(&figures).unwrap_or_default())?;
    output.write_all(crate::report::page::page(&figures).as_bytes())?;
    output.flush()?;
    Ok(figures.passed)
}

/// Gives way to everything, and ends with `parent`.
fn give_way(parent: i32) -> std::io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Before that it may have gone already.
    if getppid().is_none_or(|now| now.as_raw_nonzero().get() != parent) {
        return Err(std::io::Error::other("the gateway that started it is gone"));
    }
    nice(NICE)?;
    setrlimit(Resource::As, Rlimit { current: Some(MEMORY_MAX), maximum: Some(MEMORY_MAX) })?;
    // Where that is not allowed, the bound of memory is enough.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}
