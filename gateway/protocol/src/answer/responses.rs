//! The Responses API: typed, numbered events, with the response as it stands inside some of them.
//!
//! Content comes in events whose type ends in `.delta`; the response object, with tier, model and at last usage, in those
//! that begin and end the answer. A stream is whole with `response.completed` or `response.incomplete`; one that ends
//! with `response.failed` is an engine's error.

use crate::answer::edits::Edits;
use crate::answer::upstream_error::UpstreamError;
use crate::answer::usage::Usage;
use crate::answer::{EventKind, Stamp, Whole, has_value, is_object, present, reported};
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    r#type: Cow<'a, str>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    #[serde(default)]
    sequence_number: Option<u64>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    service_tier: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    model: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status: Option<Cow<'a, str>>,
}

impl Response<'_> {
    fn usage(&self) -> Option<Usage> {
        self.usage.and_then(|usage| Usage::from_responses(usage.get()))
    }

    fn write<'e>(&self, json: &str, stamp: Stamp<'e>, edits: &mut Edits<'e>) {
        edits.write_member(json, self.service_tier, stamp.openai_tier());
        if let (Some(model), Some(shown)) = (self.model, stamp.model) {
            edits.replace(model.get(), shown);
        }
    }

    fn failure(&self) -> UpstreamError {
        let error = self.error.filter(|error| error.get() != "null");
        error.and_then(|e| UpstreamError::from_json(e.get())).unwrap_or_else(UpstreamError::without_message)
    }
}

/// Reads one event, whose payload is `json`. `sequence` becomes the number of an event that would follow. `None`: it is
/// no event of this API.
pub(super) fn read_event(
    event: &[u8],
    json: &str,
    stamp: Stamp<'_>,
    seen: &mut Option<Usage>,
    sequence: &mut u64,
    out: &mut BytesMut,
) -> Option<EventKind> {
    let read: Event<'_> = serde_json::from_str(json).ok().filter(|_| is_object(json))?;
    if let Some(error) = reported(read.error, json) {
        return Some(EventKind::Error(error));
    }
    if read.r#type == "error" {
        let error = UpstreamError::from_json(json).unwrap_or_else(UpstreamError::without_message);
        return Some(EventKind::Error(error));
    }
    // What follows an event that passes comes after it. An error of the engine does not pass.
    let after = read.sequence_number.map_or(*sequence, |number| (*sequence).max(number.saturating_add(1)));
    let Some(raw) = read.response.filter(|raw| is_object(raw.get())) else {
        *sequence = after;
        out.extend_from_slice(event);
        let content = read.r#type.ends_with(".delta") && read.delta.is_some_and(has_value);
        return Some(if content { EventKind::Content(1) } else { EventKind::Preamble });
    };
    let response: Response<'_> = serde_json::from_str(raw.get()).ok()?;
    *seen = response.usage().or(*seen);
    if matches!(&*read.r#type, "response.failed" | "response.cancelled") {
        return Some(EventKind::Error(response.failure()));
    }
    *sequence = after;
    let mut edits = Edits::new(event);
    response.write(raw.get(), stamp, &mut edits);
    edits.append_to(out);
    let is_last = matches!(&*read.r#type, "response.completed" | "response.incomplete");
    Some(if is_last { EventKind::Done } else { EventKind::Preamble })
}

/// Reads a whole answer. `None`: not of this shape.
pub(super) fn read_whole(body: &Bytes, json: &str, stamp: Stamp<'_>) -> Option<Whole> {
    let response: Response<'_> = serde_json::from_str(json).ok()?;
    if matches!(response.status.as_deref(), Some("failed" | "cancelled")) {
        return Some(Whole::Error(response.failure()));
    }
    if let Some(error) = reported(response.error, json) {
        return Some(Whole::Error(error));
    }
    let mut edits = Edits::new(body);
    response.write(json, stamp, &mut edits);
    Some(Whole::Answer(response.usage(), edits.apply()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::sse::SseSplitter;
    use crate::answer::{StreamReader, read_whole};
    use crate::api::Api;
    use shedder::Tier;

    const STAMP: Stamp<'static> =
        Stamp { tier: Tier::Priority, model: Some("\"shown\""), usage_asked: false };

    fn read(reader: &mut StreamReader<'_>, json: &str) -> (EventKind, String) {
        let mut out = BytesMut::new();
        let kind = reader.read(format!("event: x\ndata: {json}\n\n").as_bytes(), &mut out);
        (kind, String::from_utf8(out.to_vec()).unwrap())
    }

    #[test]
    fn the_recorded_stream_of_vllm_is_read_to_its_end() {
        let recorded = include_str!("fixtures/vllm-0.32.0-responses-stream.http");
        let body = recorded.split_once("\r\n\r\n").unwrap().1;
        let mut splitter = SseSplitter::default();
        splitter.push(Bytes::from_static(body.as_bytes())).unwrap();
        let mut reader = StreamReader::new(Api::Responses, STAMP);
        let mut out = BytesMut::new();
        let mut kinds = Vec::new();
        while let Some(event) = splitter.next_event() {
            kinds.push(reader.read(&event, &mut out));
        }

        assert_eq!(kinds.iter().filter(|kind| **kind == EventKind::Content(1)).count(), 14);
        assert_eq!(
            kinds.iter().position(|kind| *kind == EventKind::Content(1)),
            Some(4),
            "after four events"
        );
        assert_eq!(kinds.last(), Some(&EventKind::Done));
        let usage = reader.usage().unwrap();
        assert_eq!((usage.prompt, usage.cached, usage.generated), (11, Some(0), 16));
        assert_eq!(reader.sequence(), 22);
        let expected = body
            .replace("\"service_tier\":\"auto\"", "\"service_tier\":\"priority\"")
            .replace("\"model\":\"tiny\"", "\"model\":\"shown\"");
        assert_eq!(String::from_utf8(out.to_vec()).unwrap(), expected);
    }

    #[test]
    fn every_kind_of_delta_is_content_and_empty_ones_are_not() {
        let mut reader = StreamReader::new(Api::Responses, STAMP);
        for (event, content) in [
            (r#"{"type":"response.output_text.delta","delta":"a"}"#, true),
            (r#"{"type":"response.reasoning_text.delta","delta":"hm"}"#, true),
            (r#"{"type":"response.function_call_arguments.delta","delta":"{"}"#, true),
            (r#"{"type":"response.refusal.delta","delta":"no"}"#, true),
            (r#"{"type":"response.output_text.delta","delta":""}"#, false),
            (r#"{"type":"response.output_text.done","text":"a"}"#, false),
            (r#"{"type":"response.created","response":{"model":"m"}}"#, false),
        ] {
            let expected = if content { EventKind::Content(1) } else { EventKind::Preamble };
            assert_eq!(read(&mut reader, event).0, expected, "{event}");
        }
    }

    #[test]
    fn a_tier_that_is_missing_is_written_into_the_response() {
        let mut reader = StreamReader::new(Api::Responses, STAMP);
        let (_, out) = read(&mut reader, r#"{"type":"response.created","response":{"id":"1"}}"#);
        assert!(out.contains(r#""response":{"service_tier":"priority","id":"1"}"#), "{out}");
    }

    #[test]
    fn failures_are_errors_whichever_way_they_are_told() {
        for (event, busy) in [
            (r#"{"type":"error","code":"503","message":"busy","param":null,"sequence_number":3}"#, true),
            (
                r#"{"type":"response.failed","response":{"error":{"code":"server_error","message":"x"}}}"#,
                false,
            ),
            (r#"{"type":"response.failed","response":{"error":null}}"#, false),
            (r#"{"error":{"message":"busy","type":"Service Unavailable","code":503}}"#, true),
        ] {
            let mut reader = StreamReader::new(Api::Responses, STAMP);
            let (kind, out) = read(&mut reader, event);
            let EventKind::Error(error) = kind else { panic!("{event}: {kind:?}") };
            assert_eq!((error.busy, out.as_str()), (busy, ""), "{event}");
            assert_eq!(reader.sequence(), 0, "what did not pass is not counted: {event}");
        }
    }

    #[test]
    fn a_whole_answer_has_tier_model_and_usage_and_a_failed_one_is_an_error() {
        let body = Bytes::from_static(
            br#"{"id":"1","error":null,"model":"tiny","status":"incomplete","service_tier":"auto","usage":{"input_tokens":9,"output_tokens":3,"input_tokens_details":{"cached_tokens":8}}}"#,
        );
        let Whole::Answer(usage, out) = read_whole(Api::Responses, &body, STAMP) else { panic!("no answer") };
        let usage = usage.unwrap();
        assert_eq!((usage.prompt, usage.cached, usage.generated), (9, Some(8), 3));
        let out = String::from_utf8(out.to_vec()).unwrap();
        assert!(out.contains(r#""model":"shown","status":"incomplete","service_tier":"priority""#), "{out}");

        let failed =
            Bytes::from_static(br#"{"status":"failed","error":{"code":"server_error","message":"x"}}"#);
        assert!(matches!(read_whole(Api::Responses, &failed, STAMP), Whole::Error(_)));
    }
}
