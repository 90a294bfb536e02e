//! An error as an engine tells it: status, words, code, parameter, numbers, out of whatever shape it has.
//!
//! Engines nest their errors, write them flat, as a bare string, as FastAPI's `detail`, or as a page of HTML; with the
//! status in the head of the answer, or as a number in the first event of a stream that began with 200. Here the facts are
//! read; what follows from them is [`attribution`](crate::attribution)'s.
//!
//! # Guarantees
//!
//! - Bounded: at most [`MESSAGE_CHARS_MAX`] characters of words and [`NUMBERS_MAX`] further members are kept.
//! - Never fails: what is not understood is an error without words.

use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;

/// Most characters of an engine's sentence that are kept. Errors about a schema quote the schema.
pub const MESSAGE_CHARS_MAX: usize = 8_192;
/// Most characters of a code, a type or a parameter's name.
const WORD_CHARS_MAX: usize = 128;
/// Most further members that are kept.
pub const NUMBERS_MAX: usize = 16;
/// The status of what validation refuses.
const UNPROCESSABLE: u16 = 422;
/// Most entries of a validation error's list that are kept.
const DETAILS_MAX: usize = 8;

/// The form in which an error came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    /// A JSON error of any engine's shape.
    Json,
    /// Plain text, such as a web framework's `Internal Server Error`.
    Text,
    /// A page for a browser: a proxy before the engine, never the engine's own words.
    Page,
    /// No body, or JSON without an error in it.
    #[default]
    Empty,
}

/// An error that an engine reported, in whatever shape.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpstreamError {
    /// The HTTP status, its own or the one in the body.
    pub status: Option<u16>,
    /// The engine's sentence, bounded; line breaks are kept, other control characters are not.
    pub message: String,
    /// Whether it means "too busy": to be tried elsewhere, never a fault, never the account's 429.
    pub busy: bool,
    /// How long the engine asked to be left alone, where it said so.
    pub retry_after: Option<Duration>,
    /// `type`, or TGI's `error_type`.
    pub kind: Option<Box<str>>,
    /// `code`, where it is a word and not a status.
    pub code: Option<Box<str>>,
    /// The parameter at fault.
    pub param: Option<Box<str>>,
    /// Members that are numbers, such as `n_prompt_tokens` and `n_ctx`.
    pub numbers: Vec<(Box<str>, u64)>,
    /// Where in the body the fault is, as FastAPI lists it: names and indices.
    pub loc: Option<Value>,
    /// The form in which it came.
    pub shape: Shape,
}

impl UpstreamError {
    /// An error whose words could not be found.
    #[must_use]
    pub fn without_message() -> UpstreamError {
        UpstreamError {
            message: "The engine reported an error without a message.".to_owned(),
            ..UpstreamError::default()
        }
    }

    /// Reads the body of an answer with an error status.
    #[must_use]
    pub fn from_body(status: u16, body: &[u8]) -> UpstreamError {
        let text = String::from_utf8_lossy(body);
        let trimmed = text.trim();
        let mut error = Self::from_json(&text).unwrap_or_else(|| UpstreamError {
            message: bounded(trimmed, MESSAGE_CHARS_MAX),
            shape: shape_of(trimmed),
            ..UpstreamError::default()
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
                message: bounded(message, MESSAGE_CHARS_MAX),
                busy: (message.len() <= BUSY_WORDS_MAX && is_busy_kind(message)) || is_busy_sentence(message),
                shape: Shape::Json,
                ..UpstreamError::default()
            });
        }
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        if let Some(inner) = value.get("error").filter(|e| !e.is_null() && depth < 2) {
            let mut error = Self::from_value(inner, depth + 1)?;
            // A type counts more than words, which may quote the client.
            error.busy = text("error_type").map_or(error.busy, is_busy_kind);
            error.kind = error.kind.or(text("error_type").map(word));
            return Some(error);
        }
        if let Some(detail) = value.get("detail").filter(|_| text("message").is_none()) {
            return from_detail(detail);
        }
        let status = ["code", "status", "status_code"].into_iter().find_map(|key| status_in(value.get(key)?));
        // An object with a status or a type is an error even where its words are missing.
        let message = match text("message").or(text("msg")) {
            Some(message) => bounded(message, MESSAGE_CHARS_MAX),
            None => {
                status?;
                "The engine reported an error without a message.".to_owned()
            }
        };
        let busy = status.is_some_and(is_busy_status)
            || ["type", "code"].into_iter().filter_map(text).any(is_busy_kind)
            || (status.is_none() && is_busy_sentence(&message));
        Some(UpstreamError {
            status,
            busy,
            message,
            retry_after: None,
            kind: text("type").map(word),
            code: text("code").filter(|code| code.parse::<u64>().is_err()).map(word),
            param: text("param").map(word),
            numbers: numbers(value),
            loc: value.get("loc").and_then(loc_of),
            shape: Shape::Json,
        })
    }

    /// A member that is a number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.numbers.iter().find(|(key, _)| **key == *name).map(|(_, number)| *number)
    }
}

/// FastAPI's errors: a sentence, or a list of what is wrong where.
fn from_detail(detail: &Value) -> Option<UpstreamError> {
    let (mut message, mut loc) = (String::new(), None);
    let status;
    match detail {
        Value::String(text) => {
            message = bounded(text, MESSAGE_CHARS_MAX);
            status = status_of_phrase(&message);
        }
        // A list is what validation finds in a body, and nothing else.
        Value::Array(list) => {
            status = Some(UNPROCESSABLE);
            for entry in list.iter().take(DETAILS_MAX) {
                let what = entry.get("msg").and_then(Value::as_str).unwrap_or("is not valid");
                let place = place_of(entry.get("loc"));
                let separator = if message.is_empty() { "" } else { "; " };
                let _ = write!(message, "{separator}{}: {what}", place.as_deref().unwrap_or("body"));
                loc = loc.or_else(|| entry.get("loc").and_then(loc_of));
            }
            message = bounded(&message, MESSAGE_CHARS_MAX);
        }
        Value::Object(_) => return UpstreamError::from_value(detail, 1),
        _ => return None,
    }
    let param = place_of(loc.as_ref()).map(|place| word(&place));
    let busy = status.is_some_and(is_busy_status) || is_busy_sentence(&message);
    Some(UpstreamError { status, message, busy, param, loc, shape: Shape::Json, ..UpstreamError::default() })
}

/// The status that FastAPI and Starlette mean where their sentence is only its name.
fn status_of_phrase(sentence: &str) -> Option<u16> {
    let phrases = [
        (400, "Bad Request"),
        (401, "Unauthorized"),
        (403, "Forbidden"),
        (404, "Not Found"),
        (405, "Method Not Allowed"),
        (413, "Request Entity Too Large"),
        (422, "Unprocessable Entity"),
        (429, "Too Many Requests"),
        (500, "Internal Server Error"),
        (502, "Bad Gateway"),
        (503, "Service Unavailable"),
        (504, "Gateway Timeout"),
    ];
    phrases.iter().find(|(_, phrase)| phrase.eq_ignore_ascii_case(sentence)).map(|(status, _)| *status)
}

/// A place that is short enough to be passed on.
fn loc_of(loc: &Value) -> Option<Value> {
    let parts = loc.as_array()?.iter().take(DETAILS_MAX);
    let short =
        parts.filter(|part| part.is_u64() || part.as_str().is_some_and(|text| text.len() <= WORD_CHARS_MAX));
    Some(Value::Array(short.cloned().collect()))
}

/// `["body", "messages", 0, "role"]` as `messages.0.role`.
fn place_of(loc: Option<&Value>) -> Option<String> {
    let parts = loc?.as_array()?.iter().map(|part| match part {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    let place: Vec<String> = parts.take(DETAILS_MAX).skip_while(|part| part == "body").collect();
    (!place.is_empty()).then(|| place.join("."))
}

fn numbers(value: &Value) -> Vec<(Box<str>, u64)> {
    let members = value.as_object().into_iter().flatten();
    members
        .filter(|(key, _)| !matches!(key.as_str(), "code" | "status" | "status_code"))
        .filter_map(|(key, value)| Some((word(key), value.as_u64()?)))
        .take(NUMBERS_MAX)
        .collect()
}

fn shape_of(text: &str) -> Shape {
    let begins = |with: &str| text.get(..with.len()).is_some_and(|head| head.eq_ignore_ascii_case(with));
    match text {
        "" => Shape::Empty,
        _ if begins("<!doctype") || begins("<html") || begins("<?xml") || begins("<head") => Shape::Page,
        _ if text.starts_with('{') || text.starts_with('[') => Shape::Empty,
        _ => Shape::Text,
    }
}

/// Longer words are more than "too busy", and may quote a client; bytes.
const BUSY_WORDS_MAX: usize = 64;

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

fn word(text: &str) -> Box<str> {
    bounded(text, WORD_CHARS_MAX).into()
}

fn bounded(message: &str, most: usize) -> String {
    message.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).take(most).collect()
}
#[cfg(test)]
mod tests {
    use super::*;

    /// What a client wrote comes back in an engine's refusal: it must not close the replica for everybody.
    #[test]
    fn words_that_a_refusal_quotes_are_no_overload() {
        for json in [
            r#"{"error":"Input validation error: grammar is not valid: overloaded","error_type":"validation"}"#,
            r#"{"error":"invalid value in the member `note` of the request's tool: 'service unavailable, overloaded'"}"#,
        ] {
            assert!(!UpstreamError::from_json(json).unwrap().busy, "{json}");
        }
    }

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
    fn a_page_of_html_is_known_as_one() {
        let body = format!("<!DOCTYPE html>\n<html>{}", "x".repeat(100_000));
        let error = UpstreamError::from_body(502, body.as_bytes());
        assert_eq!(error.shape, Shape::Page);
        assert!(error.message.chars().count() <= MESSAGE_CHARS_MAX);
        for (body, shape) in
            [("", Shape::Empty), ("Internal Server Error", Shape::Text), ("{\"id\":1}", Shape::Empty)]
        {
            assert_eq!(UpstreamError::from_body(500, body.as_bytes()).shape, shape, "{body}");
        }
    }

    /// Case F08: what clients act on survives.
    #[test]
    fn case_f08_code_param_type_and_numbers_are_read_from_every_shape() {
        let llama = UpstreamError::from_body(
            400,
            br#"{"error":{"code":400,"message":"too large","type":"exceed_context_size_error","n_prompt_tokens":9000,"n_ctx":8192}}"#,
        );
        assert_eq!((llama.kind.as_deref(), llama.code.as_deref()), (Some("exceed_context_size_error"), None));
        assert_eq!((llama.number("n_prompt_tokens"), llama.number("n_ctx")), (Some(9000), Some(8192)));
        let openai = UpstreamError::from_body(
            400,
            br#"{"error":{"message":"Too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
        );
        assert_eq!(
            (openai.code.as_deref(), openai.param.as_deref()),
            (Some("context_length_exceeded"), Some("messages"))
        );
        let fastapi = UpstreamError::from_body(
            422,
            br#"{"detail":[{"loc":["body","messages",0,"role"],"msg":"field required","type":"missing"},{"loc":["body","n"],"msg":"too small"}]}"#,
        );
        assert_eq!(fastapi.message, "messages.0.role: field required; n: too small");
        assert_eq!(fastapi.param.as_deref(), Some("messages.0.role"));
        let tgi =
            UpstreamError::from_body(422, br#"{"error":"Input validation error","error_type":"validation"}"#);
        assert_eq!(
            (tgi.message.as_str(), tgi.kind.as_deref()),
            ("Input validation error", Some("validation"))
        );
        let flat = UpstreamError::from_json(r#"{"object":"error","message":"no","code":404}"#).unwrap();
        assert_eq!((flat.status, flat.shape), (Some(404), Shape::Json));
    }

    #[test]
    fn words_keep_their_lines_and_lose_other_controls() {
        let error = UpstreamError::from_body(400, br#"{"message":"one\ntwo\u0007","code":400}"#);
        assert_eq!(error.message, "one\ntwo");
    }
}
