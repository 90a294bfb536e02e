//! `tidegate status`: what the gateway does now, once or live as `top` shows a machine.

mod live;
mod screen;

use super::{AdminArguments, CommandError, Connected};
use crate::api::Bounds;
use crate::views::deployments::Deployments;
use crate::views::process::Version;
use crate::views::refusals::Refusals;
use clap::Args;
use screen::{Look, Screen};
use serde_json::json;
use std::io::IsTerminal as _;
use std::time::Duration;

/// Arguments of `tidegate status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate status\n  tidegate status --watch 5\n  tidegate status --once\n  \
                        tidegate status -o json | jq .deployments\n\n\
                        On a terminal it is drawn anew until q or Ctrl-C; elsewhere, with --once and as JSON it is printed once.\n\
                        Keys: q ends, space asks at once, p stops and goes on, + and - change the interval."
)]
pub struct StatusArguments {
    /// Draw it anew every so many seconds, 0.5 to 3600.
    #[arg(long, short, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = seconds)]
    watch: Option<f64>,
    /// Print it once, on a terminal too.
    #[arg(long, conflicts_with = "watch")]
    once: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

/// How often it is drawn where nobody says.
const EVERY_S: f64 = 2.0;
/// Bounds of the interval, seconds.
const EVERY_S_BOUNDS: (f64, f64) = (0.5, 3600.0);
/// Bounds of one question: a page of a thousand deployments, and no longer than a person looks.
const BOUNDS: Bounds = Bounds { body_max: 256 << 20, patience: Duration::from_secs(30) };
/// Width of what is printed where there is no terminal.
const PRINTED_WIDTH: usize = 120;

fn seconds(text: &str) -> Result<f64, String> {
    let (least, most) = EVERY_S_BOUNDS;
    let read = text.parse::<f64>().ok().filter(|seconds| (least..=most).contains(seconds));
    read.ok_or_else(|| format!("a number of seconds from {least} to {most}"))
}

/// What is shown of a gateway.
#[derive(Debug, serde::Serialize)]
struct Status {
    version: Version,
    deployments: Deployments,
    refusals: Refusals,
}

impl Status {
    fn read(connected: &Connected) -> Result<Status, CommandError> {
        connected.wait(Status::read_within)
    }

    async fn read_within(connected: &Connected) -> Result<Status, CommandError> {
        Ok(Status {
            version: connected.get("/api/v1/version").await?,
            deployments: connected.get("/api/v1/deployments").await?,
            refusals: connected.get("/api/v1/requests").await?,
        })
    }
}

/// Runs the command; what is to be printed at its end.
///
/// # Errors
/// The gateway does not answer or refuses; a live view shows that instead and goes on.
pub fn run(arguments: &StatusArguments) -> Result<String, CommandError> {
    let connected = Connected::within(&arguments.admin, BOUNDS)?;
    let is_live = !arguments.once
        && !arguments.admin.is_json()
        && std::io::stdout().is_terminal()
        && std::io::stdin().is_terminal();
    if is_live {
        // What is wrong with the address or the token is told at once.
        Status::read(&connected)?;
        let every = Duration::from_secs_f64(arguments.watch.unwrap_or(EVERY_S));
        return live::watch(&connected, arguments.admin.shown(), every).map(|()| String::new());
    }
    let status = Status::read(&connected)?;
    if arguments.admin.is_json() {
        return Ok(json!(status).to_string());
    }
    let look = Look { width: PRINTED_WIDTH, height: usize::MAX, colour: false };
    Ok(Screen::of(&status, look).join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_number_of_seconds_within_bounds() {
        assert_eq!(seconds("0.5"), Ok(0.5));
        for wrong in ["0.1", "9999", "often", "NaN"] {
            assert!(seconds(wrong).unwrap_err().contains("0.5 to 3600"), "{wrong}");
        }
    }
}
