//! `tidegate limits` and `tidegate deployments`: the operators' view, and changes, through the admin API.

use super::{USAGE, failed, say};
use bytes::Bytes;
use clap::{Args, Subcommand, ValueEnum};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

/// Where the gateway is and how its answer is shown.
#[derive(Debug, Clone, Args)]
pub(super) struct AdminArguments {
    /// The admin listener.
    #[arg(
        long,
        value_name = "IP:PORT",
        default_value = "127.0.0.1:9090",
        env = "TIDEGATE_ADMIN",
        global = true
    )]
    admin: String,
    /// File with the admin token; changes need it.
    #[arg(long, value_name = "FILE", env = "TIDEGATE_ADMIN_TOKEN_FILE", global = true)]
    token_file: Option<PathBuf>,
    /// How to show it.
    #[arg(long, short, value_enum, default_value_t = Output::Table, global = true)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate limits list\n  tidegate limits show acme --model llama-3.1-8b\n  \
                        tidegate limits set acme --start generated=72000,prompt=7200000 --token-file admin.token\n  \
                        tidegate limits history acme -o json"
)]
pub(super) struct LimitsArguments {
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

/// Deployments as their shedders see them.
#[derive(Debug, Args)]
#[command(after_help = "Example: tidegate deployments -o json")]
pub(super) struct DeploymentsArguments {
    #[command(flatten)]
    admin: AdminArguments,
}

pub(super) fn run(arguments: &LimitsArguments) -> ExitCode {
    let admin = &arguments.admin;
    match &arguments.command {
        LimitsCommand::List => show(admin, "/api/v1/limits", list_table),
        LimitsCommand::Show(which) => show(admin, &which.path(), meters_table),
        LimitsCommand::History(which) => show(admin, &which.path(), history_table),
        LimitsCommand::Set { which, start, floor, ceiling } => match change(which, [start, floor, ceiling]) {
            Ok(change) => {
                let path = format!("/api/v1/accounts/{}/limits", which.account);
                ask(admin, Method::PUT, &path, change.to_string(), meters_table)
            }
            Err(message) => {
                failed(&message);
                ExitCode::from(USAGE)
            }
        },
    }
}

pub(super) fn deployments(arguments: &DeploymentsArguments) -> ExitCode {
    show(&arguments.admin, "/api/v1/deployments", deployments_table)
}

impl Which {
    fn path(&self) -> String {
        let query = self.model.as_ref().map_or(String::new(), |model| format!("?model={model}"));
        format!("/api/v1/accounts/{}/limits{query}", self.account)
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

fn show(admin: &AdminArguments, path: &str, table: fn(&Value) -> Vec<Vec<String>>) -> ExitCode {
    ask(admin, Method::GET, path, String::new(), table)
}

fn ask(
    admin: &AdminArguments,
    method: Method,
    path: &str,
    body: String,
    table: fn(&Value) -> Vec<Vec<String>>,
) -> ExitCode {
    let token = match admin.token_file.as_ref().map(std::fs::read_to_string).transpose() {
        Ok(token) => token,
        Err(e) => return failed(&format!("the token file cannot be read: {e}")),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answer = runtime
        .map_err(|e| e.to_string())
        .and_then(|runtime| runtime.block_on(exchange(&admin.admin, method, path, body, token.as_deref())));
    match answer {
        Ok((StatusCode::OK, body)) if admin.output == Output::Json => {
            say(body.trim_end());
            ExitCode::SUCCESS
        }
        Ok((StatusCode::OK, body)) => {
            let value = serde_json::from_str(&body).unwrap_or_default();
            say(aligned(&table(&value)).trim_end());
            ExitCode::SUCCESS
        }
        Ok((_, body)) => failed(body.trim_end()),
        Err(e) => failed(&format!(
            "no answer from the admin listener {}: {e}; is the gateway running?",
            admin.admin
        )),
    }
}

async fn exchange(
    admin: &str,
    method: Method,
    path: &str,
    body: String,
    token: Option<&str>,
) -> Result<(StatusCode, String), String> {
    let stream = tokio::net::TcpStream::connect(admin).await.map_err(|e| e.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, admin);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.trim()));
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(|e| e.to_string())?;
    let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let status = answer.status();
    let bytes = answer.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => format!("{float:.2}"),
            _ => grouped(&number.to_string()),
        },
        other => other.to_string(),
    }
}

/// `1234567` as `1,234,567`.
fn grouped(digits: &str) -> String {
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn at<'v>(value: &'v Value, key: &str) -> &'v Value {
    value.get(key).unwrap_or(&Value::Null)
}

fn header_row(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn list_table(value: &Value) -> Vec<Vec<String>> {
    let mut table = vec![header_row(&["account", "model", "meter", "limit/min", "used", "owed"])];
    for row in rows(value) {
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
    let mut table = vec![header_row(&["at", "model", "meter", "from", "to", "reason"])];
    for model in rows(at(value, "models")) {
        for change in rows(at(model, "history")) {
            let mut row = vec![cell(at(change, "at")), cell(at(model, "model"))];
            row.extend(["meter", "from", "to", "reason"].map(|key| cell(at(change, key))));
            table.push(row);
        }
    }
    table
}

fn deployments_table(value: &Value) -> Vec<Vec<String>> {
    let mut table = vec![header_row(&[
        "deployment",
        "replica",
        "in service",
        "active",
        "limit",
        "saturation",
        "prompt tokens ahead",
        "gap ms",
    ])];
    for deployment in rows(value) {
        for replica in rows(at(deployment, "replicas")) {
            let mut row = vec![cell(at(deployment, "name"))];
            row.extend(
                ["replica", "healthy", "active", "limit", "saturation", "backlog_tokens", "gap_ms"]
                    .map(|key| cell(at(replica, key))),
            );
            table.push(row);
        }
    }
    table
}

/// Columns as wide as their widest cell, two spaces apart.
fn aligned(table: &[Vec<String>]) -> String {
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            table.iter().filter_map(|row| row.get(column)).map(|text| text.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for row in table {
        for (text, width) in row.iter().zip(&widths) {
            out.push_str(&format!("{text:<width$}  "));
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
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
        let value = json!([{"account": "acme", "model": "m", "limits": [3600000, 900000, 36000], "used": [0, 0, 5], "debt": [0, 0, 0]}]);
        let text = aligned(&list_table(&value));
        assert!(text.contains("acme     m      prompt           3,600,000  0     0"), "{text}");
    }
}
