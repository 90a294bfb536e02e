//! `tidegate serve`.

use super::{check, failed, say};
use crate::lifecycle::heard::Ears;
use crate::lifecycle::needs;
use crate::lifecycle::serve;
use crate::lifecycle::upgrade::{Predecessor, note_program};
use crate::telemetry::logging;
use config::Config;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// How long the last lines of the log may take.
const FLUSH_PATIENCE: Duration = Duration::from_millis(500);

/// Runs the gateway; with `upgrade` in the place of one that runs already.
pub(super) fn run(path: &Path, upgrade: bool) -> ExitCode {
    note_program();
    let ears = match Ears::open() {
        Ok(ears) => ears,
        Err(e) => return failed(&format!("signals cannot be heard: {e}")),
    };
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(faults) => return check::refuse(&faults),
    };
    if let Some(missing) = needs::missing(&config, path) {
        return check::refuse(&missing);
    }
    if let Err(e) = logging::start(&config.log) {
        return failed(&format!("log.file: {e}"));
    }
    for hint in &config.hints {
        tracing::warn!("{}{hint}", path.display());
    }
    let waits = |socket: &Path| {
        say(&format!("waiting at {} for the process that runs: send it SIGQUIT", socket.display()))
    };
    let predecessor = match upgrade.then(|| Predecessor::wait(&config, waits)).transpose() {
        Ok(predecessor) => predecessor,
        Err(e) => return failed(&e.to_string()),
    };
    let heard = match ears.listen() {
        Ok(heard) => heard,
        Err(e) => return failed(&format!("signals cannot be heard: {e}")),
    };
    match serve::prepare(config, predecessor, heard) {
        Ok(prepared) => {
            let scheme = if prepared.tls { "https" } else { "http" };
            say(&format!("listening on {scheme}://{}", prepared.address));
            say(&format!("admin on http://{}", prepared.admin_address));
            if let Err(e) = prepared.follow(path) {
                return failed(&e.to_string());
            }
            match prepared.run() {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => failed(&e.to_string()),
            }
        }
        Err(e) => {
            logging::flush(FLUSH_PATIENCE);
            failed(&e.to_string())
        }
    }
}
