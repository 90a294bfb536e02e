//! Answers of the admin listener: JSON, text for probes and Prometheus, and errors that say what to do.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use schemars::JsonSchema;
use serde::Serialize;

pub(super) type Answer = Response<Full<Bytes>>;

/// What every error of `/api/v1/` looks like.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Problem {
    /// What went wrong.
    error: Fault,
}

/// What went wrong.
#[derive(Debug, Serialize, JsonSchema)]
struct Fault {
    /// For programs; one word or several with `_`.
    code: &'static str,
    /// For people: what went wrong and what to do.
    message: String,
}

/// JSON that must not be kept by anybody on the way.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let mut body = serde_json::to_vec_pretty(value).unwrap_or_default();
    body.push(b'\n');
    typed(status, "application/json", body)
}

/// Why a question is not answered as asked.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    code: &'static str,
    message: String,
}

/// An error.
pub(super) fn problem(status: StatusCode, code: &'static str, message: impl Into<String>) -> Refused {
    Refused { status, code, message: message.into() }
}

impl Refused {
    /// What it says.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// As an answer.
    pub(super) fn answer(self) -> Answer {
        let Refused { status, code, message } = self;
        let mut answer = json(status, &Problem { error: Fault { code, message } });
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"tidegate admin\"");
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        answer
    }
}

/// The same without white space: long columns of numbers.
pub(super) fn compact(value: &impl Serialize) -> Answer {
    typed(StatusCode::OK, "application/json", serde_json::to_vec(value).unwrap_or_default())
}

/// A report: a page that asks for nothing, in an origin of its own, from which nothing here can be reached.
pub(super) fn page(body: impl Into<Bytes>) -> Answer {
    let mut answer = typed(StatusCode::OK, "text/html; charset=utf-8", body);
    let policy = "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                  img-src data: blob:";
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    answer
}

/// With a capital and a full stop.
pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", letters.as_str())
}

/// Plain text.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    typed(status, "text/plain; charset=utf-8", body)
}

/// A body of any type. Nothing here is ever run as a page of its own, framed, sniffed or kept.
pub(super) fn typed(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    answer
}
