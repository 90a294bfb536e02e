//! The operator's command line: arguments, calls of the admin API, and its answers as tables or as JSON.

pub mod accounts;

pub mod deployments;

pub mod limits;

use crate::api::{Answer, Bounds, Client};
use clap::{Args, ValueEnum};
use http::{Method, StatusCode};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// Bounds of a command's call: a page of a thousand accounts, and a gateway that is short of processor time.
const BOUNDS: Bounds = Bounds { body_max: 256 << 20, patience: Duration::from_secs(600) };

/// Reasons for which a command fails.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It was called wrongly.
    #[error("{0}")]
    Usage(String),
    /// The gateway does not answer or refuses.
    #[error("{0}")]
    Failed(String),
}

/// Where the gateway is and how its answer is shown.
#[derive(Debug, Clone, Args)]
pub struct AdminArguments {
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

impl AdminArguments {
    /// The address alone: the gateway itself prints a URL, and that is what people copy.
    fn address(&self) -> &str {
        self.admin.strip_prefix("http://").unwrap_or(&self.admin).trim_end_matches('/')
    }
}

pub(crate) fn show(
    admin: &AdminArguments,
    path: &str,
    table: fn(&Value) -> Vec<Vec<String>>,
) -> Result<String, CommandError> {
    ask(admin, Method::GET, path, String::new(), table)
}

pub(crate) fn ask(
    admin: &AdminArguments,
    method: Method,
    path: &str,
    body: String,
    table: fn(&Value) -> Vec<Vec<String>>,
) -> Result<String, CommandError> {
    let failed = |message: String| CommandError::Failed(message);
    let token = admin.token_file.as_ref().map(std::fs::read_to_string).transpose();
    let token = token.map_err(|e| failed(format!("the token file cannot be read: {e}")))?;
    let silent = |e: &dyn std::fmt::Display| {
        failed(format!("no answer from the admin listener {}: {e}; is the gateway running?", admin.admin))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| silent(&e))?;
    let client = Client::new(admin.address().to_owned(), token.as_deref(), BOUNDS);
    let answer = runtime.block_on(client.exchange(method, path, body)).map_err(|e| silent(&e))?;
    let Answer { status, body } = answer;
    let body = String::from_utf8_lossy(&body);
    match status {
        StatusCode::OK if admin.output == Output::Json => Ok(body.trim_end().to_owned()),
        StatusCode::OK => {
            let value = serde_json::from_str(&body).unwrap_or_default();
            Ok(aligned(&table(&value)).trim_end().to_owned())
        }
        StatusCode::UNAUTHORIZED => Err(failed(match token {
            Some(_) => "the gateway has another admin token than the one in --token-file".to_owned(),
            None => {
                "the gateway wants its admin token: name the file that holds it with --token-file, or in \
                     TIDEGATE_ADMIN_TOKEN_FILE"
                    .to_owned()
            }
        })),
        status => Err(failed(refusal(status, &body))),
    }
}

/// Returns what the API says is wrong; its whole answer where it is no error of its own.
fn refusal(status: StatusCode, body: &str) -> String {
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    let message = problem.pointer("/error/message").and_then(Value::as_str);
    message.map_or_else(|| format!("{status}: {}", body.trim_end()), str::to_owned)
}

pub(crate) fn cell(value: &Value) -> String {
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

pub(crate) fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(crate) fn at<'v>(value: &'v Value, key: &str) -> &'v Value {
    value.get(key).unwrap_or(&Value::Null)
}

pub(crate) fn header_row(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Columns as wide as their widest cell, two spaces apart. A row of one cell is a sentence and widens nothing.
pub(crate) fn aligned(table: &[Vec<String>]) -> String {
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let rows = table.iter().filter(|row| columns == 1 || row.len() > 1);
            rows.filter_map(|row| row.get(column)).map(|text| text.chars().count()).max().unwrap_or(0)
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
    fn a_refusal_says_what_the_api_says() {
        let said = r#"{"error": {"code": "no_such_account", "message": "There is none."}}"#;
        assert_eq!(refusal(StatusCode::NOT_FOUND, said), "There is none.");
        assert_eq!(refusal(StatusCode::BAD_GATEWAY, "<html>"), "502 Bad Gateway: <html>");
    }
}
