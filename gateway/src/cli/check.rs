//! `tidegate check` and `tidegate schema`.

use super::{USAGE, say};
use crate::lifecycle::needs;
use config::{self, Config, Faults};
use std::path::Path;
use std::process::ExitCode;

/// Reports every fault of the file, and what `serve` would miss.
pub(super) fn run(path: &Path) -> ExitCode {
    match Config::load(path) {
        Ok(config) => {
            for hint in &config.hints {
                say(&format!("{}{hint} (hint)", path.display()));
            }
            if let Some(missing) = needs::missing(&config, path) {
                return refuse(&missing);
            }
            say(&format!(
                "{}: ok: {} deployments, {} models, {} accounts",
                path.display(),
                config.deployments.len(),
                config.models.len(),
                config.accounts.len()
            ));
            ExitCode::SUCCESS
        }
        Err(faults) => refuse(&faults),
    }
}

/// Prints the faults; the exit code of a wrong config.
#[expect(clippy::print_stderr, reason = "this is what a person at the terminal reads")]
pub(super) fn refuse(faults: &Faults) -> ExitCode {
    eprintln!("{faults}");
    ExitCode::from(USAGE)
}

/// Prints the schema.
pub(super) fn schema() -> ExitCode {
    say(&config::schema_json());
    ExitCode::SUCCESS
}
