//! Asking the admin API of a running gateway from the command line, and showing the answer as a table or as JSON.

use super::{failed, say};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::fmt::Write as _;
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

impl AdminArguments {
    /// The address alone: the gateway itself prints a URL, and that is what people copy.
    fn address(&self) -> &str {
        self.admin.strip_prefix("http://").unwrap_or(&self.admin).trim_end_matches('/')
    }
}

pub(super) fn show(admin: &AdminArguments, path: &str, table: fn(&Value) -> Vec<Vec<String>>) -> ExitCode {
    ask(admin, Method::GET, path, String::new(), table)
}

pub(super) fn ask(
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
    let answer = runtime.map_err(|e| e.to_string()).and_then(|runtime| {
        runtime.block_on(exchange(admin.address(), method, path, body, token.as_deref()))
    });
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
        Ok((StatusCode::UNAUTHORIZED, _)) => failed(match token {
            Some(_) => "the gateway has another admin token than the one in --token-file",
            None => {
                "the gateway wants its admin token: name the file that holds it with --token-file, or in \
                 TIDEGATE_ADMIN_TOKEN_FILE"
            }
        }),
        Ok((status, body)) => failed(&refusal(status, &body)),
        Err(e) => failed(&format!(
            "no answer from the admin listener {}: {e}; is the gateway running?",
            admin.admin
        )),
    }
}

/// What the API says is wrong; its whole answer where it is no error of its own.
fn refusal(status: StatusCode, body: &str) -> String {
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    let message = problem.pointer("/error/message").and_then(Value::as_str);
    message.map_or_else(|| format!("{status}: {}", body.trim_end()), str::to_owned)
}

/// A name as one segment of a path.
pub(super) fn segment(name: &str) -> String {
    name.bytes().fold(String::with_capacity(name.len()), |mut path, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "%{byte:02X}");
        }
        path
    })
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

pub(super) fn cell(value: &Value) -> String {
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

pub(super) fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn at<'v>(value: &'v Value, key: &str) -> &'v Value {
    value.get(key).unwrap_or(&Value::Null)
}

pub(super) fn header_row(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Columns as wide as their widest cell, two spaces apart. A row of one cell is a sentence and widens nothing.
pub(super) fn aligned(table: &[Vec<String>]) -> String {
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
    fn a_name_stays_one_segment() {
        assert_eq!(segment("http://[::1]:80/a b"), "http%3A%2F%2F%5B%3A%3A1%5D%3A80%2Fa%20b");
        assert_eq!(segment("llama-3.1_8b~"), "llama-3.1_8b~");
    }

    #[test]
    fn a_refusal_says_what_the_api_says() {
        let said = r#"{"error": {"code": "no_such_account", "message": "There is none."}}"#;
        assert_eq!(refusal(StatusCode::NOT_FOUND, said), "There is none.");
        assert_eq!(refusal(StatusCode::BAD_GATEWAY, "<html>"), "502 Bad Gateway: <html>");
    }
}
