//! `tidegate deployments`: how full, who waits, and what an operator does about it, through the admin API.

use super::{AdminArguments, CommandError, ask, at, cell, header_row, rows, show};
use crate::api::segment;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

/// Deployments as their shedders see them, and changes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tidegate deployments\n  tidegate deployments tiers -o json\n  \
                  tidegate deployments drain llama 10.0.0.7:8000 --token-file admin.token\n  \
                  tidegate deployments thresholds llama --regular 0.7 --token-file admin.token\n  \
                  tidegate deployments pressure llama --share 0.3 --seconds 120 --token-file admin.token")]
pub struct DeploymentsArguments {
    #[command(subcommand)]
    command: Option<DeploymentsCommand>,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Subcommand)]
enum DeploymentsCommand {
    /// Replicas: how full, how many requests, how fast. Shown when no command is given.
    Replicas,
    /// Tiers: open or closed, waiting, admitted and shed in the last minute.
    Tiers,
    /// Takes a replica out of service; what runs on it runs on.
    Drain(Replica),
    /// Puts a replica back into service.
    Undrain(Replica),
    /// Sets how full a replica may be when it takes another request of a tier, until the next reload or restart.
    Thresholds {
        /// The deployment.
        deployment: String,
        /// Priority's ceiling, 0.01 to 1.
        #[arg(long)]
        priority: Option<f64>,
        /// Regular's ceiling, 0.01 to 1, not above priority's.
        #[arg(long)]
        regular: Option<f64>,
        /// Flex's ceiling, 0.01 to 1, not above regular's.
        #[arg(long)]
        flex: Option<f64>,
        /// Put those of the config in force again.
        #[arg(long, conflicts_with_all = ["priority", "regular", "flex"])]
        reset: bool,
    },
    /// Pretends for a time that a share of the capacity is gone: a drill on live traffic.
    Pressure {
        /// The deployment.
        deployment: String,
        /// Which share, 0.01 to 0.95.
        #[arg(long, required_unless_present = "lift")]
        share: Option<f64>,
        /// For how long.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// End it now.
        #[arg(long, conflicts_with = "share")]
        lift: bool,
    },
}

#[derive(Debug, Args)]
struct Replica {
    /// The deployment.
    deployment: String,
    /// The replica: its number, its URL or its host and port.
    replica: String,
}

const PATH: &str = "/api/v1/deployments";

/// Runs the command; what is to be printed.
///
/// # Errors
/// It was called wrongly, or the gateway does not answer or refuses.
pub fn run(arguments: &DeploymentsArguments) -> Result<String, CommandError> {
    let admin = &arguments.admin;
    let Some(command) = &arguments.command else { return show(admin, PATH, replicas_table) };
    let of = |deployment: &str, what: &str| format!("{PATH}/{}/{what}", segment(deployment));
    match command {
        DeploymentsCommand::Replicas => show(admin, PATH, replicas_table),
        DeploymentsCommand::Tiers => show(admin, PATH, tiers_table),
        DeploymentsCommand::Drain(which) => change(admin, Method::POST, &which.path(), &Value::Null),
        DeploymentsCommand::Undrain(which) => change(admin, Method::DELETE, &which.path(), &Value::Null),
        DeploymentsCommand::Thresholds { deployment, reset: true, .. } => {
            change(admin, Method::DELETE, &of(deployment, "thresholds"), &Value::Null)
        }
        DeploymentsCommand::Thresholds { deployment, priority, regular, flex, .. } => {
            let ceilings = [("priority", priority), ("regular", regular), ("flex", flex)].into_iter();
            let body: Map<String, Value> =
                ceilings.filter_map(|(tier, ceiling)| Some((tier.to_owned(), json!((*ceiling)?)))).collect();
            if body.is_empty() {
                return Err(CommandError::Usage("give --priority, --regular, --flex or --reset".to_owned()));
            }
            change(admin, Method::POST, &of(deployment, "thresholds"), &Value::Object(body))
        }
        DeploymentsCommand::Pressure { deployment, lift: true, .. } => {
            change(admin, Method::DELETE, &of(deployment, "pressure"), &Value::Null)
        }
        DeploymentsCommand::Pressure { deployment, share, seconds, .. } => {
            let body = json!({ "share": share, "seconds": seconds });
            change(admin, Method::POST, &of(deployment, "pressure"), &body)
        }
    }
}

/// Asks for a change and shows the deployment as it is then.
fn change(admin: &AdminArguments, method: Method, path: &str, body: &Value) -> Result<String, CommandError> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let table: fn(&Value) -> Vec<Vec<String>> = |one| {
        let all = json!({ "deployments": [one] });
        let mut table = tiers_table(&all);
        table.push(Vec::new());
        table.extend(replicas_table(&all));
        table
    };
    ask(admin, method, path, body, table)
}

impl Replica {
    fn path(&self) -> String {
        format!("{PATH}/{}/replicas/{}/drain", segment(&self.deployment), segment(&self.replica))
    }
}

fn replicas_table(value: &Value) -> Vec<Vec<String>> {
    let mut table = vec![header_row(&[
        "deployment",
        "id",
        "replica",
        "health",
        "active",
        "limit",
        "saturation",
        "prompt tokens ahead",
        "gap ms",
    ])];
    for deployment in rows(at(value, "deployments")) {
        for replica in rows(at(deployment, "replicas")) {
            let mut row = vec![cell(at(deployment, "name"))];
            row.extend(
                ["id", "replica", "health", "active", "limit", "saturation", "backlog_tokens", "gap_ms"]
                    .map(|key| cell(at(replica, key))),
            );
            table.push(row);
        }
    }
    table
}

fn tiers_table(value: &Value) -> Vec<Vec<String>> {
    let mut table = vec![header_row(&[
        "deployment",
        "tier",
        "open",
        "ceiling",
        "saturation",
        "waiting",
        "oldest ms",
        "admitted/s",
        "shed/s",
    ])];
    for deployment in rows(at(value, "deployments")) {
        for tier in rows(at(deployment, "tiers")) {
            let lately = at(tier, "last_minute");
            table.push(vec![
                cell(at(deployment, "name")),
                cell(at(tier, "tier")),
                cell(at(tier, "open")),
                cell(at(tier, "ceiling")),
                cell(at(deployment, "saturation")),
                cell(at(tier, "queued")),
                cell(at(tier, "oldest_wait_ms")),
                cell(at(lately, "admitted_per_s")),
                cell(at(lately, "shed_per_s")),
            ]);
        }
    }
    table
}
