//! The operator's command line: arguments, calls of the admin API, and its answers as tables or as JSON.

mod account_keys;
pub mod accounts;

pub mod deployments;

pub mod limits;

pub mod process;

pub mod requests;

pub mod status;

pub mod usage;

use crate::api::{Bounds, Client};
use clap::{Args, ValueEnum};
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::Runtime;

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
    /// The admin listener: HOST:PORT or http://HOST:PORT. Default: that of --config, else 127.0.0.1:9090.
    #[arg(long, value_name = "ADDRESS", env = "TIDEGATE_ADMIN", global = true)]
    admin: Option<String>,
    /// File with the admin token; changes need it. Default: admin.token_file of --config.
    #[arg(long, value_name = "FILE", env = "TIDEGATE_ADMIN_TOKEN_FILE", global = true)]
    token_file: Option<PathBuf>,
    /// The gateway's config file, in the place of --admin and --token-file.
    #[arg(long, short, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// How to show it.
    #[arg(long, short, value_enum, default_value_t = Output::Table, global = true)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
    /// Comma-separated values, of `tidegate usage` alone.
    Csv,
}

/// Where the admin listener is by default.
const ADDRESS: &str = "127.0.0.1:9090";

impl AdminArguments {
    /// Whether it is shown as JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Whether it is shown as CSV.
    pub(crate) fn is_csv(&self) -> bool {
        self.output == Output::Csv
    }

    /// Refuses a form that only rows of usage have.
    fn is_no_csv(&self) -> Result<(), CommandError> {
        if self.is_csv() {
            let message = "-o csv: only `tidegate usage` has it; take -o json or -o table";
            return Err(CommandError::Usage(message.to_owned()));
        }
        Ok(())
    }

    /// The address as people know it.
    pub(crate) fn shown(&self) -> &str {
        self.admin.as_deref().unwrap_or(match &self.config {
            Some(_) => "the admin listener of the config",
            None => ADDRESS,
        })
    }

    /// The address to connect to, and the file with the token.
    fn resolved(&self) -> Result<(String, Option<PathBuf>), CommandError> {
        let named = self.admin.as_deref().map(address).transpose().map_err(CommandError::Usage)?;
        let Some(path) = &self.config else {
            return Ok((named.unwrap_or_else(|| ADDRESS.to_owned()), self.token_file.clone()));
        };
        let config = config::Config::load(path).map_err(|faults| {
            CommandError::Usage(format!(
                "{faults}\nname the admin listener with --admin where the config is not in order"
            ))
        })?;
        let token_file = self.token_file.clone().or(config.admin.token_file);
        Ok((named.unwrap_or_else(|| reachable(config.admin.address).to_string()), token_file))
    }
}

/// `HOST:PORT` of an address or a URL: the gateway itself prints a URL, and that is what people copy.
fn address(text: &str) -> Result<String, String> {
    if text.starts_with("https://") {
        return Err(format!(
            "--admin {text}: the admin listener speaks HTTP without TLS; write http:// or HOST:PORT"
        ));
    }
    let rest = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let authority: http::uri::Authority =
        rest.parse().map_err(|_| format!("--admin {text}: is not HOST:PORT or http://HOST:PORT"))?;
    if authority.as_str().contains('@') {
        return Err(format!(
            "--admin {text}: the token is in a file that --token-file names, not in the address"
        ));
    }
    match authority.port() {
        Some(_) => Ok(authority.to_string()),
        None if text.starts_with("http://") => Ok(format!("{}:80", authority.host())),
        None => Err(format!("--admin {text}: has no port; the gateway prints where its admin listener is")),
    }
}

/// An address to connect to: "all addresses" is none.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        other => other,
    }
}

/// Whether colours are wanted at all, by <https://no-color.org>.
pub(crate) fn has_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A gateway that is asked, perhaps several times.
#[derive(Debug)]
pub(crate) struct Connected {
    client: Client,
    /// As it was named.
    shown: String,
    has_token: bool,
    runtime: Runtime,
}

/// An answer of the API.
#[derive(Debug)]
pub(crate) enum Asked {
    /// The body of a success.
    Answered(String),
    /// A status that is none, and its body.
    Refused(StatusCode, String),
}

impl Connected {
    /// A gateway that is asked within the usual bounds.
    pub(crate) fn to(admin: &AdminArguments) -> Result<Connected, CommandError> {
        Connected::within(admin, BOUNDS)
    }

    /// A gateway that is asked within bounds of its own.
    pub(crate) fn within(admin: &AdminArguments, bounds: Bounds) -> Result<Connected, CommandError> {
        admin.is_no_csv()?;
        Connected::open(admin, bounds)
    }

    /// A gateway that is asked for rows, which may be shown as CSV.
    pub(crate) fn for_rows(admin: &AdminArguments) -> Result<Connected, CommandError> {
        Connected::open(admin, BOUNDS)
    }

    fn open(admin: &AdminArguments, bounds: Bounds) -> Result<Connected, CommandError> {
        let (address, token_file) = admin.resolved()?;
        let token = token_file.as_ref().map(|path| {
            std::fs::read_to_string(path).map_err(|e| {
                CommandError::Failed(format!("the token file {} cannot be read: {e}", path.display()))
            })
        });
        let token = token.transpose()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| CommandError::Failed(format!("no runtime: {e}")))?;
        let shown = admin.admin.clone().unwrap_or_else(|| address.clone());
        let has_token = token.is_some();
        Ok(Connected { client: Client::new(address, token.as_deref(), bounds), shown, has_token, runtime })
    }

    /// Waits for an answer.
    pub(crate) fn wait<T>(&self, work: impl AsyncFnOnce(&Connected) -> T) -> T {
        self.runtime.block_on(work(self))
    }

    /// Lets time pass.
    pub(crate) fn pause(&self, time: Duration) {
        // A timer is made inside its runtime.
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    /// Asks once.
    pub(crate) fn exchange(&self, method: Method, path: &str, body: String) -> Result<Asked, CommandError> {
        self.runtime.block_on(self.asked(method, path, body))
    }

    async fn asked(&self, method: Method, path: &str, body: String) -> Result<Asked, CommandError> {
        let answer = self.client.exchange(method, path, body).await.map_err(|e| {
            let shown = &self.shown;
            CommandError::Failed(format!(
                "no answer from the admin listener {shown}: {e}; is the gateway running?"
            ))
        })?;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        Ok(if answer.status.is_success() {
            Asked::Answered(body)
        } else {
            Asked::Refused(answer.status, body)
        })
    }

    /// Why the gateway refused, in the words of the command line.
    pub(crate) fn refused(&self, status: StatusCode, body: &str) -> CommandError {
        refused(self.has_token, status, body)
    }

    /// Reads a page.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CommandError> {
        match self.asked(Method::GET, path, String::new()).await? {
            Asked::Answered(body) => serde_json::from_str(&body).map_err(|e| {
                CommandError::Failed(format!(
                    "the gateway is of another version than this program: {path}: {e}"
                ))
            }),
            Asked::Refused(status, body) => Err(self.refused(status, &body)),
        }
    }

    /// Reads a page, and waits for it.
    pub(crate) fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, CommandError> {
        self.runtime.block_on(self.get(path))
    }
}

pub(crate) fn show(
    admin: &AdminArguments,
    path: &str,
    table: fn(&Value) -> Vec<Vec<String>>,
) -> Result<String, CommandError> {
    ask(admin, Method::GET, path, String::new(), table)
}

/// Reads a page.
pub(crate) fn get(admin: &AdminArguments, path: &str) -> Result<Value, CommandError> {
    Connected::to(admin)?.read(path)
}

pub(crate) fn ask(
    admin: &AdminArguments,
    method: Method,
    path: &str,
    body: String,
    table: fn(&Value) -> Vec<Vec<String>>,
) -> Result<String, CommandError> {
    let connected = Connected::to(admin)?;
    match connected.exchange(method, path, body)? {
        Asked::Answered(body) => Ok(rendered(admin, &body, table)),
        Asked::Refused(status, body) => Err(connected.refused(status, &body)),
    }
}

/// An answer as it is to be shown.
pub(crate) fn rendered(admin: &AdminArguments, body: &str, table: fn(&Value) -> Vec<Vec<String>>) -> String {
    if admin.is_json() {
        return body.trim_end().to_owned();
    }
    let value = serde_json::from_str(body).unwrap_or_default();
    aligned(&table(&value)).trim_end().to_owned()
}

/// A value as it is to be shown.
pub(crate) fn show_value(
    admin: &AdminArguments,
    value: &Value,
    table: fn(&Value) -> Vec<Vec<String>>,
) -> String {
    if admin.is_json() { value.to_string() } else { aligned(&table(value)).trim_end().to_owned() }
}

/// Why the API refused, in the words of the command line.
fn refused(has_token: bool, status: StatusCode, body: &str) -> CommandError {
    CommandError::Failed(match status {
        StatusCode::UNAUTHORIZED if has_token => {
            "the gateway has another admin token than the one in --token-file".to_owned()
        }
        StatusCode::UNAUTHORIZED => {
            "the gateway wants its admin token: name the file that holds it with --token-file or \
             TIDEGATE_ADMIN_TOKEN_FILE, or the gateway's config with --config"
                .to_owned()
        }
        status => refusal(status, body),
    })
}

/// What the API names, and the command that shows the same.
const COMMANDS: [(&str, &str); 5] = [
    ("`GET /api/v1/accounts`", "`tidegate accounts`"),
    ("`GET /api/v1/deployments`", "`tidegate deployments`"),
    ("`GET /api/v1/config` lists the models", "`tidegate limits show ACCOUNT` lists them"),
    (" (percent-encoded)", ""),
    ("; `/api/v1/openapi.json` lists them", ""),
];

/// Returns what the API says is wrong, with commands where it names its own paths; its whole answer where it is no error of
/// its own.
fn refusal(status: StatusCode, body: &str) -> String {
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    match problem.pointer("/error/message").and_then(Value::as_str) {
        Some(message) => {
            COMMANDS.iter().fold(message.to_owned(), |text, (path, command)| text.replace(path, command))
        }
        None => format!("{status}: {}", body.trim_end()),
    }
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

    #[test]
    fn refusals_name_commands_where_the_api_names_paths() {
        let said = |message: &str| {
            let body = serde_json::json!({ "error": { "code": "x", "message": message } }).to_string();
            refusal(StatusCode::NOT_FOUND, &body)
        };
        assert_eq!(
            said("There is no such account. `GET /api/v1/accounts` lists them."),
            "There is no such account. `tidegate accounts` lists them."
        );
        assert_eq!(
            said(
                "Name it by its number, its URL (percent-encoded) or its host and port; `GET /api/v1/deployments` lists them."
            ),
            "Name it by its number, its URL or its host and port; `tidegate deployments` lists them."
        );
    }

    #[test]
    fn an_address_may_be_a_url_and_slips_are_explained() {
        for (given, meant) in [
            ("127.0.0.1:9090", "127.0.0.1:9090"),
            ("http://127.0.0.1:9090/", "127.0.0.1:9090"),
            ("http://ops.example", "ops.example:80"),
            ("[::1]:9090", "[::1]:9090"),
            ("gateway:9090", "gateway:9090"),
        ] {
            assert_eq!(address(given).as_deref(), Ok(meant), "{given}");
        }
        for (given, told) in [
            ("https://a:1", "without TLS"),
            ("localhost", "has no port"),
            ("http://a:1/api", "is not HOST:PORT"),
            ("http://me:secret@a:1", "--token-file"),
        ] {
            assert!(address(given).unwrap_err().contains(told), "{given}: {:?}", address(given));
        }
    }
}
