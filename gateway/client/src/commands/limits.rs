//! `tidegate limits`: accounts' limits, and changes of them, through the admin API.

use super::{AdminArguments, CommandError, ask, at, cell, header_row, rows, show};
use crate::api::segment;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

/// Arguments of `tidegate limits`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate limits list\n  tidegate limits show acme --model llama-3.1-8b\n  \
                        tidegate limits set acme --start generated=72000,prompt=7200000 --token-file admin.token\n  \
                        tidegate limits history acme -o json"
)]
pub struct LimitsArguments {
    #[command(subcommand)]
    command: LimitsCommand,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Subcommand)]
enum LimitsCommand {
    /// The busiest budgets: limits and use in tokens per minute.
    List,
    /// An account's meters: limit, bounds, use, what comes next.
    Show(Which),
    /// Changes an account's bounds until they are changed again. Meters as `prompt=N,uncached_prompt=N,generated=N`.
    Set {
        #[command(flatten)]
        which: Which,
        /// Where limits start, tokens per minute.
        #[arg(long, value_name = "METERS")]
        start: Option<String>,
        /// Below which they never fall.
        #[arg(long, value_name = "METERS")]
        floor: Option<String>,
        /// Above which they never grow.
        #[arg(long, value_name = "METERS")]
        ceiling: Option<String>,
    },
    /// How an account's limits moved, and why.
    History(Which),
}

#[derive(Debug, Args)]
struct Which {
    /// The account's id.
    account: String,
    /// One model instead of all.
    #[arg(long)]
    model: Option<String>,
}

/// Runs the command; what is to be printed.
///
/// # Errors
/// It was called wrongly, or the gateway does not answer or refuses.
pub fn run(arguments: &LimitsArguments) -> Result<String, CommandError> {
    let admin = &arguments.admin;
    match &arguments.command {
        LimitsCommand::List => show(admin, "/api/v1/limits", list_table),
        LimitsCommand::Show(which) => show(admin, &which.path(), meters_table),
        LimitsCommand::History(which) => show(admin, &which.path(), history_table),
        LimitsCommand::Set { which, start, floor, ceiling } => match change(which, [start, floor, ceiling]) {
            Ok(change) => {
                let path = format!("/api/v1/accounts/{}/limits", segment(&which.account));
                ask(admin, Method::PUT, &path, change.to_string(), meters_table)
            }
            Err(message) => Err(CommandError::Usage(message)),
        },
    }
}

impl Which {
    fn path(&self) -> String {
        let query = self.model.as_ref().map_or(String::new(), |model| format!("?model={}", segment(model)));
        format!("/api/v1/accounts/{}/limits{query}", segment(&self.account))
    }
}

/// The body of a change from `--start`, `--floor`, `--ceiling`.
fn change(which: &Which, bounds: [&Option<String>; 3]) -> Result<Value, String> {
    let mut body = Map::new();
    if let Some(model) = &which.model {
        body.insert("model".to_owned(), json!(model));
    }
    let mut any = false;
    for (name, meters) in ["start", "floor", "ceiling"].into_iter().zip(bounds) {
        if let Some(meters) = meters {
            body.insert(name.to_owned(), Value::Object(parse_meters(meters)?));
            any = true;
        }
    }
    if any {
        Ok(Value::Object(body))
    } else {
        Err("give at least one of --start, --floor, --ceiling".to_owned())
    }
}

fn parse_meters(text: &str) -> Result<Map<String, Value>, String> {
    text.split(',')
        .map(|pair| {
            let (meter, tokens) =
                pair.split_once('=').ok_or_else(|| format!("`{pair}` is not METER=TOKENS"))?;
            if !["prompt", "uncached_prompt", "generated"].contains(&meter) {
                return Err(format!("`{meter}` is no meter; there are prompt, uncached_prompt, generated"));
            }
            let tokens: u64 = tokens.parse().map_err(|_| format!("`{tokens}` is no number of tokens"))?;
            Ok((meter.to_owned(), json!(tokens)))
        })
        .collect()
}

fn list_table(value: &Value) -> Vec<Vec<String>> {
    let mut table = vec![header_row(&["account", "model", "meter", "limit/min", "used", "owed"])];
    for row in rows(at(value, "budgets")) {
        for (index, meter) in ["prompt", "uncached-prompt", "generated"].iter().enumerate() {
            let of = |key: &str| at(row, key).get(index).map_or_else(String::new, cell);
            let name = (*meter).to_owned();
            table.push(vec![
                cell(at(row, "account")),
                cell(at(row, "model")),
                name,
                of("limits"),
                of("used"),
                of("debt"),
            ]);
        }
    }
    table
}

fn meters_table(value: &Value) -> Vec<Vec<String>> {
    let mut table = vec![header_row(&[
        "model",
        "meter",
        "limit/min",
        "floor",
        "ceiling",
        "used",
        "reserved",
        "owed",
        "grows to",
        "above",
        "not before",
    ])];
    for model in rows(at(value, "models")) {
        for meter in rows(at(model, "meters")) {
            let mut row = vec![cell(at(model, "model"))];
            row.extend(
                ["meter", "limit", "floor", "ceiling", "used", "reserved", "debt"]
                    .map(|key| cell(at(meter, key))),
            );
            let growth = at(meter, "growth");
            row.extend(["to", "threshold", "at"].map(|key| cell(at(growth, key))));
            table.push(row);
        }
    }
    table
}

fn history_table(value: &Value) -> Vec<Vec<String>> {
    let mut table = vec![header_row(&["at", "model", "meter", "what", "from", "to", "reason", "by"])];
    for model in rows(at(value, "models")) {
        for change in rows(at(model, "history")) {
            let mut row = vec![cell(at(change, "at")), cell(at(model, "model"))];
            row.extend(["meter", "bound", "from", "to", "reason", "by"].map(|key| cell(at(change, key))));
            table.push(row);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::aligned;
    use super::*;

    #[test]
    fn meters_are_read_by_name_and_slips_are_explained() {
        let which = Which { account: "acme".into(), model: None };
        let body = change(&which, [&Some("generated=72000,prompt=1".into()), &None, &None]).unwrap();
        assert_eq!(body, json!({"start": {"generated": 72000, "prompt": 1}}));
        assert!(change(&which, [&None, &None, &None]).unwrap_err().contains("--start"));
        assert!(parse_meters("output=1").unwrap_err().contains("no meter"));
        assert!(parse_meters("generated=many").unwrap_err().contains("no number"));
    }

    #[test]
    fn columns_are_aligned_and_numbers_grouped() {
        let value = json!({"budgets": [{"account": "acme", "model": "m", "limits": [3600000, 900000, 36000], "used": [0, 0, 5], "debt": [0, 0, 0]}]});
        let text = aligned(&list_table(&value));
        assert!(text.contains("acme     m      prompt           3,600,000  0     0"), "{text}");
    }
}
