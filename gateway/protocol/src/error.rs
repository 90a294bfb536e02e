//! How a refusal looks in each API's own shape, as a whole answer and inside a stream that has begun.
//!
//! A client reads its own API's errors only: Anthropic's SDKs skip an event without a name, OpenAI's read `error` in any
//! event, the Responses API numbers its events.

use crate::api::{Api, Family};
use crate::refusal::Refusal;
use bytes::Bytes;
use serde::Serialize;

#[derive(Serialize)]
struct OpenAiError<'a> {
    error: OpenAiErrorBody<'a>,
}

#[derive(Serialize)]
struct OpenAiErrorBody<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loc: Option<&'a serde_json::Value>,
    #[serde(flatten)]
    numbers: Numbers<'a>,
}

/// Numbers of an engine's error, as members of ours.
struct Numbers<'a>(&'a [(Box<str>, u64)]);

impl Serialize for Numbers<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(name, number)| (name, number)))
    }
}

#[derive(Serialize)]
struct AnthropicError<'a> {
    r#type: &'a str,
    error: AnthropicErrorBody<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct AnthropicErrorBody<'a> {
    r#type: &'a str,
    message: &'a str,
    details: AnthropicDetails<'a>,
}

#[derive(Serialize)]
struct AnthropicDetails<'a> {
    error_code: &'a str,
}

#[derive(Serialize)]
struct ResponsesError<'a> {
    r#type: &'a str,
    code: &'a str,
    message: &'a str,
    param: Option<&'a str>,
    sequence_number: u64,
}

/// The body of a refusal, as clients of `family` read it.
#[must_use]
pub fn body(family: Family, refusal: &Refusal, request_id: &str) -> Bytes {
    match family {
        Family::OpenAi => openai(refusal),
        Family::Anthropic => anthropic(refusal, request_id),
    }
}

/// The frame that tells of an error in the middle of a stream of `api`, after which the connection ends unclean.
/// `sequence` is the number that it has where events are numbered.
#[must_use]
pub fn stream_frame(api: Api, refusal: &Refusal, request_id: &str, sequence: u64) -> Bytes {
    let (name, data): (&[u8], Bytes) = match api {
        Api::Messages | Api::CountTokens => (b"event: error\ndata: ", anthropic(refusal, request_id)),
        Api::Responses => (b"event: error\ndata: ", responses(refusal, sequence)),
        Api::Chat | Api::Completions | Api::Embeddings | Api::Rerank | Api::Score => {
            (b"data: ", openai(refusal))
        }
    };
    Bytes::from([name, &data, b"\n\n"].concat())
}

fn openai(refusal: &Refusal) -> Bytes {
    json(&OpenAiError {
        error: OpenAiErrorBody {
            message: &refusal.message,
            r#type: refusal.reason.openai_type(),
            param: param(refusal),
            code: Some(code(refusal)),
            loc: refusal.engine.as_ref().and_then(|engine| engine.loc.as_ref()),
            numbers: Numbers(refusal.engine.as_ref().map_or(&[], |engine| &engine.numbers)),
        },
    })
}

fn anthropic(refusal: &Refusal, request_id: &str) -> Bytes {
    let too_long = refusal.overflow.as_ref().map(|overflow| overflow.anthropic()).unwrap_or_default();
    json(&AnthropicError {
        r#type: "error",
        error: AnthropicErrorBody {
            r#type: anthropic_type(refusal),
            message: refusal.overflow.as_ref().map_or(&refusal.message, |_| &too_long),
            details: AnthropicDetails { error_code: code(refusal) },
        },
        request_id,
    })
}

fn responses(refusal: &Refusal, sequence_number: u64) -> Bytes {
    json(&ResponsesError {
        r#type: "error",
        code: code(refusal),
        message: &refusal.message,
        param: param(refusal),
        sequence_number,
    })
}

/// The code that clients act on: an engine's own word where it has one.
fn code(refusal: &Refusal) -> &str {
    let engine = refusal.engine.as_ref().and_then(|engine| engine.code.as_deref());
    engine.unwrap_or(refusal.reason.openai_code())
}

fn param(refusal: &Refusal) -> Option<&str> {
    let engine = refusal.engine.as_ref().and_then(|engine| engine.param.as_deref());
    engine.or(refusal.param)
}

/// Anthropic has a type of its own for what is too large.
fn anthropic_type(refusal: &Refusal) -> &'static str {
    match refusal.status() {
        413 => "request_too_large",
        _ => refusal.reason.anthropic_type(),
    }
}

fn json(error: &impl Serialize) -> Bytes {
    serde_json::to_vec(error).map(Bytes::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Reason;

    #[test]
    fn the_openai_shape_has_all_four_members() {
        let refusal = Refusal::bad("`n` is \"odd\"").param("n");
        assert_eq!(
            body(Family::OpenAi, &refusal, "req_1"),
            r#"{"error":{"message":"`n` is \"odd\"","type":"invalid_request_error","param":"n","code":"bad_request"}}"#
        );
    }

    #[test]
    fn the_anthropic_shape_names_its_type_and_the_request() {
        for (reason, kind) in [
            (Reason::BadRequest, "invalid_request_error"),
            (Reason::Unauthenticated, "authentication_error"),
            (Reason::ModelNotAllowed, "permission_error"),
            (Reason::ModelNotFound, "not_found_error"),
            (Reason::TooLarge, "request_too_large"),
            (Reason::GeneratedTokensLimited, "rate_limit_error"),
            (Reason::ShedSaturated, "overloaded_error"),
            (Reason::UpstreamError, "api_error"),
            (Reason::UpstreamTimeout, "api_error"),
        ] {
            let body = body(Family::Anthropic, &Refusal::new(reason, "x"), "req_1");
            let expected = format!(
                r#"{{"type":"error","error":{{"type":"{kind}","message":"x","details":{{"error_code":"{}"}}}},"request_id":"req_1"}}"#,
                reason.openai_code()
            );
            assert_eq!(body, expected);
        }
    }

    #[test]
    fn an_error_inside_a_stream_is_an_event_of_its_own() {
        let refusal = Refusal::new(Reason::UpstreamError, "gone");
        for (api, begins) in [
            (Api::Chat, "data: {\"error\":{"),
            (Api::Completions, "data: {\"error\":{"),
            (Api::Messages, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\""),
            (Api::Responses, "event: error\ndata: {\"type\":\"error\",\"code\":\"upstream_error\""),
        ] {
            let frame = stream_frame(api, &refusal, "req_1", 7);
            assert!(frame.starts_with(begins.as_bytes()) && frame.ends_with(b"}\n\n"), "{frame:?}");
        }
        assert!(stream_frame(Api::Responses, &refusal, "", 7).ends_with(b"\"sequence_number\":7}\n\n"));
    }
}
