//! Commands about the process itself: `reload`, `log level`, `health`, `upgrade`.

use super::{AdminArguments, Asked, CommandError, Connected, at, cell, header_row, rendered};
use crate::api::Bounds;
use crate::views::process::UpgradeState;
use clap::{Args, Subcommand};
use config::LogLevel;
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// Arguments of `tidegate reload`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tidegate reload --token-file admin.token\n  \
                        tidegate reload --config /etc/tidegate/tidegate.yaml\n\n\
                        Exit code 1 and every fault with its line where the file is refused: the config in force stays.\n\
                        kill -HUP does the same without a token, and opens the logs anew.")]
pub struct ReloadArguments {
    #[command(flatten)]
    admin: AdminArguments,
}

/// Arguments of `tidegate log`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate log level\n  tidegate log level debug --token-file admin.token\n\n\
                        In force until it is set again or the process ends."
)]
pub struct LogArguments {
    #[command(subcommand)]
    command: LogCommand,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Shows the level of the process's own log, or sets it.
    Level {
        /// error, warn, info, debug or trace.
        #[arg(value_parser = level)]
        level: Option<LogLevel>,
    },
}

/// Arguments of `tidegate health`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tidegate health\n  tidegate health --admin http://10.0.0.5:9090\n\n\
                        Exit code 0: it takes requests; 1: it drains, or does not answer. For health checks of containers.")]
pub struct HealthArguments {
    #[command(flatten)]
    admin: AdminArguments,
}

/// Arguments of `tidegate upgrade`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tidegate upgrade --config /etc/tidegate/tidegate.yaml\n  \
                        tidegate upgrade --admin 127.0.0.1:9090 --token-file admin.token\n\n\
                        Needs state.dir in the config. The gateway starts the program at its own path, which may be a newer one by now,\n\
                        and ends with its last answer; no connection is refused and no answer is cut. Exit code 1: it goes on as it was.")]
pub struct UpgradeArguments {
    /// How long the new process is waited for, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=3600))]
    within: u64,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Bounds of a health check, within those of whoever asks for one.
const HEALTH: Bounds = Bounds { body_max: 64 << 10, patience: Duration::from_secs(5) };
/// How often it is looked whether a new process answers.
const LOOK_EVERY: Duration = Duration::from_millis(200);

fn level(text: &str) -> Result<LogLevel, String> {
    let read = serde_json::from_value(json!(text.to_ascii_lowercase()));
    read.map_err(|_| "one of error, warn, info, debug, trace".to_owned())
}

/// Runs `tidegate reload`; what is to be printed.
///
/// # Errors
/// The gateway does not answer, or refuses the file.
pub fn reload(arguments: &ReloadArguments) -> Result<String, CommandError> {
    let connected = Connected::to(&arguments.admin)?;
    let answer = connected.exchange(Method::POST, "/api/v1/reload", String::new())?;
    match answer {
        Asked::Answered(body) => Ok(rendered(&arguments.admin, &body, reload_table)),
        Asked::Refused(status, body) => {
            let faults = at(&serde_json::from_str(&body).unwrap_or_default(), "faults").clone();
            match faults.as_str() {
                Some(faults) => Err(CommandError::Failed(format!(
                    "the config was refused, the one in force stays:\n{faults}"
                ))),
                None => Err(connected.refused(status, &body)),
            }
        }
    }
}

fn reload_table(value: &Value) -> Vec<Vec<String>> {
    let waits: Vec<&str> = super::rows(at(value, "needs_restart")).iter().filter_map(Value::as_str).collect();
    let mut table = vec![vec![format!("reloaded: generation {}", cell(at(value, "generation")))]];
    if !waits.is_empty() {
        table.push(vec![format!("in force after a restart or `tidegate upgrade`: {}", waits.join(", "))]);
    }
    table
}

/// Runs `tidegate log`; what is to be printed.
///
/// # Errors
/// The gateway does not answer or refuses.
pub fn log(arguments: &LogArguments) -> Result<String, CommandError> {
    let admin = &arguments.admin;
    match &arguments.command {
        LogCommand::Level { level: None } => super::show(admin, "/api/v1/log", log_table),
        LogCommand::Level { level: Some(level) } => {
            super::ask(admin, Method::PUT, "/api/v1/log", json!({ "level": level }).to_string(), log_table)
        }
    }
}

fn log_table(value: &Value) -> Vec<Vec<String>> {
    let level = at(value, "level").as_str().unwrap_or("as RUST_LOG says");
    vec![header_row(&["level", "lines lost"]), vec![level.to_owned(), cell(at(value, "dropped"))]]
}

/// Runs `tidegate health`; what is to be printed.
///
/// # Errors
/// It drains, or does not answer.
pub fn health(arguments: &HealthArguments) -> Result<String, CommandError> {
    let connected = Connected::within(&arguments.admin, HEALTH)?;
    match connected.exchange(Method::GET, "/readyz", String::new())? {
        Asked::Answered(body) if arguments.admin.is_json() => {
            Ok(json!({ "ready": true, "said": body.trim() }).to_string())
        }
        Asked::Answered(_) => Ok("ok".to_owned()),
        Asked::Refused(_, body) if body.trim() == "draining" => {
            Err(CommandError::Failed("it is going down and takes no new requests".to_owned()))
        }
        Asked::Refused(status, body) => Err(connected.refused(status, &body)),
    }
}

/// Runs `tidegate upgrade`; what is to be printed.
///
/// # Errors
/// The gateway does not answer, or goes on as it was.
pub fn upgrade(arguments: &UpgradeArguments) -> Result<String, CommandError> {
    let admin = &arguments.admin;
    let connected = Connected::to(admin)?;
    let before: UpgradeState = connected.read("/api/v1/upgrade")?;
    match connected.exchange(Method::POST, "/api/v1/upgrade", String::new())? {
        Asked::Answered(_) => {}
        Asked::Refused(status, body) => return Err(connected.refused(status, &body)),
    }
    let looks = Duration::from_secs(arguments.within).as_millis() / LOOK_EVERY.as_millis();
    for _ in 0..looks {
        connected.pause(LOOK_EVERY);
        // Between the two it may be that nobody answers for a moment.
        let Ok(now) = connected.read::<UpgradeState>("/api/v1/upgrade") else { continue };
        if now.pid != before.pid {
            let value = json!({ "from": before.pid, "to": now.pid });
            let sentence = |value: &Value| {
                let (from, to) = (at(value, "from"), at(value, "to"));
                vec![vec![format!("process {to} took over from {from}, which ends with its last answer")]]
            };
            return Ok(rendered(admin, &value.to_string(), sentence));
        }
        if let (Some(why), false) = (now.failure, now.failed_at == before.failed_at) {
            return Err(CommandError::Failed(format!("no upgrade, process {} goes on: {why}", before.pid)));
        }
    }
    Err(CommandError::Failed(format!(
        "no new process took over within {} s; the log of the gateway says why",
        arguments.within
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_one_of_five_words() {
        assert_eq!(level("DEBUG"), Ok(LogLevel::Debug));
        assert!(level("loud").unwrap_err().contains("error, warn"));
    }

    #[test]
    fn a_reload_says_what_waits_for_a_restart() {
        let table = reload_table(&json!({ "generation": 3, "needs_restart": ["listen.address", "log"] }));
        assert_eq!(table[0], ["reloaded: generation 3"]);
        assert_eq!(table[1], ["in force after a restart or `tidegate upgrade`: listen.address, log"]);
    }
}
