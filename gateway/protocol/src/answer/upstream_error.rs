//! What an engine's error means: its load, its fault, or the client's mistake.
//!
//! Engines answer overload with 429, 503 or 529, or hide it in the first event of a 200 stream; their error
//! bodies are nested, flat or a bare string. None of that reaches a client as it came: overload becomes
//! back-pressure, a client's mistake keeps its message in our shape.

use serde_json::Value;
use std::time::Duration;

/// Longest engine message that is passed on, characters.
const MESSAGE_CHARS_MAX: usize = 500;

/// An error that an engine reported, in whatever shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamError {
    /// The HTTP status, its own or the one in the body.
    pub status: Option<u16>,
    /// The engine's sentence, bounded.
    pub message: String,
    /// Whether it means "too busy": to be tried elsewhere, never a fault, never the account's 429.
    pub busy: bool,
    /// How long the engine asked to be left alone, where it said so.
    pub retry_after: Option<Duration>,
}

impl UpstreamError {
    /// An error whose words could not be found.
    #[must_use]
    pub fn without_message() -> UpstreamError {
        UpstreamError {
            status: None,
            message: "The engine reported an error without a message.".to_owned(),
            busy: false,
            retry_after: None,
        }
    }

    /// Reads the body of an answer with an error status.
    #[must_use]
    pub fn from_body(status: u16, body: &[u8]) -> UpstreamError {
        let text = String::from_utf8_lossy(body);
        let mut error = Self::from_json(&text).unwrap_or_else(|| UpstreamError {
            status: None,
            message: bounded(text.trim()),
            busy: false,
            retry_after: None,
        });
        error.status = Some(status);
        error.busy = is_busy_status(status);
        error
    }

    /// Reads an error value: an object, or an object with an `error` member, or a string. `None`: not one.
    #[must_use]
    pub fn from_json(json: &str) -> Option<UpstreamError> {
        let value: Value = serde_json::from_str(json).ok()?;
        Self::from_value(&value, 0)
    }

    fn from_value(value: &Value, depth: u8) -> Option<UpstreamError> {
        if let Value::String(message) = value {
            return Some(UpstreamError {
                status: None,
                message: bounded(message),
                busy: is_busy_kind(message),
                retry_after: None,
            });
        }
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        if let Some(inner) = value.get("error").filter(|e| !e.is_null() && depth < 2) {
            let mut error = Self::from_value(inner, depth + 1)?;
            error.busy |= text("error_type").is_some_and(is_busy_kind);
            return Some(error);
        }
        let status = value.get("code").and_then(status_in);
        let message = text("message")?;
        let busy = status.is_some_and(is_busy_status)
            || ["type", "code"].into_iter().filter_map(text).any(is_busy_kind)
            || (status.is_none() && is_busy_sentence(message));
        Some(UpstreamError { status, message: bounded(message), busy, retry_after: None })
    }
}

/// Statuses with which engines say "too busy".
#[must_use]
pub fn is_busy_status(status: u16) -> bool {
    matches!(status, 429 | 503 | 529)
}

fn is_busy_kind(kind: &str) -> bool {
    ["overloaded", "service unavailable", "service_unavailable", "unavailable_error", "rate_limit"]
        .iter()
        .any(|word| kind.to_ascii_lowercase().contains(word))
}

/// Whole sentences with which engines refuse where they give neither status nor kind: Ollama's full queue, and SGLang's
/// requests that waited too long or gave way. A sentence may quote the client, so that a status, where there is one, counts.
fn is_busy_sentence(message: &str) -> bool {
    [
        "server busy, please try again",
        "Request waiting timeout reached",
        "aborted by a higher priority request",
    ]
    .iter()
    .any(|sentence| message.contains(sentence))
}

fn status_in(code: &Value) -> Option<u16> {
    let number = code.as_u64().or_else(|| code.as_str()?.parse().ok())?;
    u16::try_from(number).ok().filter(|n| (400..600).contains(n))
}

fn bounded(message: &str) -> String {
    message.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The overload answers of the engines, as recorded or as their sources write them.
    #[test]
    fn overload_is_recognised_in_every_engines_words() {
        for (engine, json) in [
            (
                "vllm",
                r#"{"error":{"message":"The engine is currently busy and cannot accept new requests.","type":"Service Unavailable","param":null,"code":503}}"#,
            ),
            (
                "sglang flat",
                r#"{"object":"error","message":"Request waiting timeout reached.","type":"x","param":null,"code":503}"#,
            ),
            ("tgi", r#"{"error":"Model is overloaded","error_type":"overloaded"}"#),
            (
                "llama.cpp",
                r#"{"error":{"code":503,"message":"no slot available","type":"unavailable_error"}}"#,
            ),
            (
                "dynamo",
                r#"{"message":"Service temporarily unavailable: All workers are busy","type":"service_unavailable","code":503}"#,
            ),
            (
                "ollama",
                r#"{"error":{"message":"server busy, please try again.  maximum pending requests exceeded","type":"api_error","param":null,"code":null}}"#,
            ),
            (
                "sglang gave way",
                r#"{"error":{"message":"The request is aborted by a higher priority request.","type":"abort"}}"#,
            ),
            ("anthropic", r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}"#),
            ("responses", r#"{"code":"rate_limit_exceeded","message":"slow down"}"#),
        ] {
            let error = UpstreamError::from_json(json).unwrap();
            assert!(error.busy, "{engine}");
            assert!(!error.message.is_empty(), "{engine}");
        }
    }

    #[test]
    fn a_clients_mistake_is_no_overload() {
        let error = UpstreamError::from_body(
            400,
            br#"{"error":{"code":400,"message":"request exceeds the context size","type":"exceed_context_size_error"}}"#,
        );
        assert_eq!((error.status, error.busy), (Some(400), false));
        assert_eq!(error.message, "request exceeds the context size");
    }

    #[test]
    fn a_page_of_html_becomes_a_bounded_line() {
        let body = format!("<html>\n{}", "x".repeat(10_000));
        let error = UpstreamError::from_body(502, body.as_bytes());
        assert!(error.message.chars().count() <= MESSAGE_CHARS_MAX);
        assert!(!error.message.contains('\n'));
    }
}
