//! How a refusal looks in each API's own shape, as a whole answer and inside a stream that has begun.

use crate::api::Api;
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
}

/// The body of a refusal. `api` is `None` for paths that belong to no API: OpenAI's shape.
#[must_use]
pub fn body(api: Option<Api>, refusal: &Refusal) -> Bytes {
    match api {
        None | Some(Api::Chat) => openai(refusal),
    }
}

/// The frame that tells of an error in the middle of a stream, after which the connection ends unclean.
#[must_use]
pub fn stream_frame(api: Api, refusal: &Refusal) -> Bytes {
    match api {
        Api::Chat => Bytes::from([b"data: ", &openai(refusal)[..], b"\n\n"].concat()),
    }
}

fn openai(refusal: &Refusal) -> Bytes {
    let error = OpenAiError {
        error: OpenAiErrorBody {
            message: &refusal.message,
            r#type: refusal.reason.openai_type(),
            param: refusal.param,
            code: Some(refusal.reason.openai_code()),
        },
    };
    serde_json::to_vec(&error).map(Bytes::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Reason;

    #[test]
    fn the_openai_shape_has_all_four_members() {
        let refusal = Refusal::bad("`n` is \"odd\"").param("n");
        assert_eq!(
            body(None, &refusal),
            r#"{"error":{"message":"`n` is \"odd\"","type":"invalid_request_error","param":"n","code":"bad_request"}}"#
        );
    }

    #[test]
    fn an_error_inside_a_stream_is_an_event_of_its_own() {
        let frame = stream_frame(Api::Chat, &Refusal::new(Reason::UpstreamError, "gone"));
        assert!(frame.starts_with(b"data: {\"error\":") && frame.ends_with(b"\n\n"));
    }
}
