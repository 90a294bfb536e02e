//! Structural checks of a request's head, before anything is looked up.
//!
//! The upstream request is built anew, so nothing here protects an engine from framing tricks; it protects the
//! meaning of what *we* read. Two readings of one request are refused, not decided: both length and chunked
//! framing, two lengths, another transfer coding than `chunked`, line ends that are not CR LF, no `Host`.
//!
//! HTTP/1.0 is served, as nginx speaks it to what is behind it unless it is told otherwise: a body must announce its
//! length there, because nothing else could end it.

use http::{HeaderMap, HeaderName, Method, Version, header};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use protocol::api::route::{Route, route};
use protocol::framing::head::{codings, has_line, length, line_ends};
use protocol::refusal::{Reason, Refusal};
use protocol::stable_hash;
use std::time::Duration;

/// What the head says, checked.
#[derive(Debug)]
pub struct Head {
    /// Path and method.
    pub route: Route,
    /// Announced length of the body, bytes.
    pub content_length: Option<u64>,
    /// Whether a body follows.
    pub has_body: bool,
    /// Whether the client waits for `100 Continue`. HTTP/1.0 does not know it.
    pub expects_continue: bool,
    /// The client's own deadline for the first token, from arrival.
    pub deadline: Option<Duration>,
    /// A hint that requests with the same value share a prefix (`x-session-affinity`).
    pub affinity: Option<u64>,
}

/// Bounds of a head.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Most bytes of request line and headers.
    pub bytes_max: usize,
    /// Most header lines.
    pub lines_max: usize,
}

const AFFINITY: HeaderName = HeaderName::from_static("x-session-affinity");
const DEADLINE: HeaderName = HeaderName::from_static("x-tidegate-ttft-deadline-ms");
/// Longest deadline that a client may ask for: an hour says nothing that no deadline does not say.
const DEADLINE_MAX: Duration = Duration::from_secs(3600);

/// Reads and checks the head.
///
/// # Errors
/// 400, 405, 413 or 415 with a sentence; 404 is left to the route.
pub fn check(session: &ServerSession, limits: HeadLimits) -> Result<Head, Refusal> {
    let request = session.req_header();
    let headers = &request.headers;
    if request.method == Method::CONNECT {
        return Err(Refusal::new(Reason::MethodNotAllowed("GET, POST"), "CONNECT is not served here."));
    }
    size(session, headers, limits)?;
    host(request, session.is_http2())?;
    let content_length = framing(session, request)?;
    encoding(headers)?;
    let route = route(&request.method, request.uri.path());
    if matches!(route, Route::Metered(_) | Route::Named(..)) {
        content_type(headers)?;
    }
    Ok(Head {
        route,
        content_length,
        has_body: content_length.is_some_and(|n| n > 0)
            || headers.contains_key(header::TRANSFER_ENCODING)
            || (session.is_http2() && content_length.is_none() && request.method == Method::POST),
        expects_continue: request.version != Version::HTTP_10
            && headers
                .get(header::EXPECT)
                .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue")),
        deadline: deadline(headers)?,
        affinity: headers.get(&AFFINITY).map(|value| stable_hash(value.as_bytes())),
    })
}

fn size(session: &ServerSession, headers: &HeaderMap, limits: HeadLimits) -> Result<(), Refusal> {
    let bytes = match session.as_http1() {
        Some(h1) => h1.get_headers_raw_bytes().len(),
        None => headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum(),
    };
    if bytes > limits.bytes_max || headers.len() > limits.lines_max {
        return Err(Refusal::bad(format!(
            "The head of the request is too large: at most {} bytes and {} header lines.",
            limits.bytes_max, limits.lines_max
        )));
    }
    Ok(())
}

fn host(request: &RequestHeader, http2: bool) -> Result<(), Refusal> {
    let named = request.headers.contains_key(header::HOST) || request.uri.authority().is_some();
    if !named && (http2 || request.version >= Version::HTTP_11) {
        return Err(Refusal::bad("The request has no `Host` header."));
    }
    Ok(())
}

/// The announced length, when the framing has one reading only.
fn framing(session: &ServerSession, request: &RequestHeader) -> Result<Option<u64>, Refusal> {
    let headers = &request.headers;
    let raw = session.as_http1().map(|h1| h1.get_headers_raw_bytes());
    if let Some(raw) = &raw {
        line_ends(raw)?;
    }
    let chunked = headers.contains_key(header::TRANSFER_ENCODING);
    // The parser drops `Content-Length` where both are present, so the raw head has to be asked.
    if chunked && raw.is_some_and(|raw| has_line(&raw, b"content-length")) {
        return Err(Refusal::bad("`Content-Length` and `Transfer-Encoding` must not both be present."));
    }
    codings(headers)?;
    let length = length(headers)?;
    if length.is_none() && request.version == Version::HTTP_10 && request.method == Method::POST {
        return Err(Refusal::bad(
            "An HTTP/1.0 request with a body must announce its length: send `Content-Length`, or use HTTP/1.1.",
        ));
    }
    Ok(length)
}

fn encoding(headers: &HeaderMap) -> Result<(), Refusal> {
    let encoded = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"));
    if encoded {
        return Err(Refusal::new(
            Reason::UnsupportedMediaType,
            "Compressed request bodies are not read here. Send the JSON without `Content-Encoding`.",
        ));
    }
    Ok(())
}

fn content_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let media = value.as_bytes().split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
    if !media.eq_ignore_ascii_case(b"application/json") {
        return Err(Refusal::new(
            Reason::UnsupportedMediaType,
            "The request must have `Content-Type: application/json`.",
        ));
    }
    Ok(())
}

fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(value) = headers.get(&DEADLINE) else { return Ok(None) };
    let milliseconds = value
        .to_str()
        .ok()
        .filter(|text| text.len() <= 10 && text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Refusal::bad(format!("`{DEADLINE}` must be a whole number of milliseconds.")))?;
    Ok(Some(Duration::from_millis(milliseconds).min(DEADLINE_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Report L8: a deadline cannot overflow or be negative.
    #[test]
    fn report_l8_deadlines_are_whole_and_bounded() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-tidegate-ttft-deadline-ms", http::HeaderValue::from_static(text));
            deadline(&headers)
        };
        assert_eq!(read("1500").unwrap(), Some(Duration::from_millis(1500)));
        assert_eq!(read("9999999999").unwrap(), Some(DEADLINE_MAX));
        for bad in ["-1", "1e9", "NaN", "", "1.5", "99999999999999999999"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
