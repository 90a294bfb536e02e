//! The Responses API: typed, numbered events, with the response as it stands inside some of them.
//!
//! Content comes in events whose type ends in `.delta`, and in whatever is not known to announce or to repeat; the
//! response object, with tier, model and at last usage, in those that begin and end the answer. A stream is whole with `response.completed` or `response.incomplete`; one that ends
//! with `response.failed` is an engine's error.

use crate::answer::edits::Edits;
use crate::answer::upstream_error::UpstreamError;
use crate::answer::usage::Usage;
use crate::answer::{
    EventKind, Seen, Stamp, Whole, choices, finish, has_other_than, is_object, present, reported, whole_error,
};
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
    item: Option<&'a RawValue>,
    #[serde(borrow, default)]
    part: Option<&'a RawValue>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    #[serde(borrow, default)]
    sequence_number: Option<&'a RawValue>,
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
    status: Option<&'a RawValue>,
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

/// Reads one event, whose payload is `json`. `None`: it is no event of this API.
pub(super) fn read_event(
    event: &[u8],
    json: &str,
    stamp: Stamp<'_>,
    seen: &mut Seen,
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
    let number = read.sequence_number.and_then(|number| number.get().parse::<u64>().ok());
    let after = number.map_or(seen.sequence, |number| seen.sequence.max(number.saturating_add(1)));
    let Some(raw) = read.response.filter(|raw| is_object(raw.get())) else {
        seen.sequence = after;
        out.extend_from_slice(event);
        return Some(read.kind(json, seen));
    };
    let response: Response<'_> = serde_json::from_str(raw.get()).ok()?;
    seen.usage = response.usage().map(|told| told.after(seen.usage)).or(seen.usage);
    if matches!(&*read.r#type, "response.failed" | "response.cancelled") {
        return Some(EventKind::Error(response.failure()));
    }
    seen.sequence = after;
    let mut edits = Edits::new(event);
    response.write(raw.get(), stamp, &mut edits);
    edits.append_to(out);
    Some(match &*read.r#type {
        "response.completed" | "response.incomplete" => {
            seen.finish = Some(finish::of_response(raw.get()));
            EventKind::Done
        }
        "response.created" | "response.in_progress" | "response.queued" => EventKind::Preamble,
        _ => seen.maybe(),
    })
}

/// Members that say where an event belongs, not what was generated.
const PLACES: [&str; 11] = [
    "type",
    "sequence_number",
    "item_id",
    "output_index",
    "content_index",
    "summary_index",
    "annotation_index",
    "response_id",
    "event_id",
    "status",
    "obfuscation",
];

/// Members of an item that are there before anything of it was generated.
const OF_NEW_ITEMS: [&str; 5] = ["id", "type", "role", "status", "phase"];

impl Event<'_> {
    /// Returns the kind of an event without a response.
    fn kind(&self, json: &str, seen: &mut Seen) -> EventKind {
        let has_value = |value: Option<&RawValue>| value.is_some_and(choices::has_value);
        match &*self.r#type {
            "ping" | "keepalive" => EventKind::Idle,
            "response.created" | "response.in_progress" | "response.queued" => EventKind::Preamble,
            // The name of a called tool is generated; an empty message is not.
            "response.output_item.added"
                if self.item.is_none_or(|item| !has_other_than(&OF_NEW_ITEMS, item.get())) =>
            {
                EventKind::Preamble
            }
            "response.content_part.added" | "response.reasoning_summary_part.added"
                if self.part.is_none_or(|part| !has_other_than(&["type"], part.get())) =>
            {
                EventKind::Preamble
            }
            // Whole parts after their deltas, and the states of tools that run elsewhere.
            kind if [".done", ".in_progress", ".completed", ".searching", ".interpreting", ".generating"]
                .iter()
                .any(|end| kind.ends_with(end)) =>
            {
                if has_other_than(&PLACES, json) {
                    seen.maybe()
                } else {
                    EventKind::Preamble
                }
            }
            kind if self.delta.is_some() || kind.ends_with(".delta") => {
                let is_valued = has_value(self.delta) || has_other_than(&PLACES, json);
                seen.delta(is_valued)
            }
            _ if has_other_than(&PLACES, json) => seen.step(),
            _ => seen.maybe(),
        }
    }
}

/// Reads a whole answer. `None`: not of this shape.
pub(super) fn read_whole(body: &Bytes, json: &str, stamp: Stamp<'_>) -> Option<Whole> {
    let response: Response<'_> = serde_json::from_str(json).ok()?;
    if matches!(response.status.map(RawValue::get), Some("\"failed\"" | "\"cancelled\"")) {
        return Some(Whole::Error(response.failure()));
    }
    if let Some(error) = reported(response.error, json) {
        return Some(Whole::Error(error));
    }
    if let Some(error) = whole_error(json) {
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

    const STAMP: Stamp<'static> = Stamp { model: Some("\"shown\""), ..Stamp::of(Tier::Priority) };

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
    fn every_kind_of_delta_is_content_and_announcements_are_not() {
        for (event, content) in [
            (r#"{"type":"response.output_text.delta","delta":"a"}"#, true),
            (r#"{"type":"response.reasoning_text.delta","delta":"hm"}"#, true),
            (r#"{"type":"response.function_call_arguments.delta","delta":"{"}"#, true),
            (r#"{"type":"response.refusal.delta","delta":"no"}"#, true),
            (r#"{"type":"response.output_item.added","item":{"type":"function_call","name":"f"}}"#, true),
            (r#"{"type":"response.output_text.delta","delta":"","logprobs":[]}"#, false),
            (
                r#"{"type":"response.output_item.added","item":{"id":"m","type":"message","status":"in_progress","role":"assistant","content":[]}}"#,
                false,
            ),
            (r#"{"type":"response.output_item.added","item":{"type":"reasoning","summary":[]}}"#, false),
            (
                r#"{"type":"response.content_part.added","item_id":"m","part":{"type":"output_text","text":"","annotations":[]}}"#,
                false,
            ),
            (r#"{"type":"response.created","response":{"model":"m"}}"#, false),
            (r#"{"type":"response.queued","response":{"model":"m"}}"#, false),
        ] {
            let expected = if content { EventKind::Content(1) } else { EventKind::Preamble };
            let mut reader = StreamReader::new(Api::Responses, STAMP);
            assert_eq!(read(&mut reader, event).0, expected, "{event}");
        }
    }

    #[test]
    fn what_repeats_the_deltas_is_no_step_and_alone_is_one() {
        let done = r#"{"type":"response.output_text.done","item_id":"m","text":"a"}"#;
        let mut reader = StreamReader::new(Api::Responses, STAMP);
        assert_eq!(read(&mut reader, done).0, EventKind::Content(1), "of an engine that sends no deltas");
        assert_eq!(read(&mut reader, done).0, EventKind::Preamble);
        assert_eq!(reader.steps_of_longest(), 1);
    }

    #[test]
    fn case_r01_each_later_delta_is_a_step_though_it_is_empty() {
        let mut reader = StreamReader::new(Api::Responses, STAMP);
        let empty = r#"{"type":"response.output_text.delta","item_id":"m","delta":"","logprobs":[]}"#;
        let kinds = [(); 3].map(|()| read(&mut reader, empty).0);
        assert_eq!(kinds, [EventKind::Preamble, EventKind::Content(1), EventKind::Content(1)]);
    }

    #[test]
    fn case_r02_what_is_not_known_is_content() {
        for event in [
            r#"{"type":"response.made_up.delta","made_up":"x"}"#,
            r#"{"type":"response.made_up","text":"x"}"#,
            r#"{"type":"made_up"}"#,
            r#"{"type":"made_up","response":{"id":"1"}}"#,
            r#"{"type":7,"delta":"x"}"#,
            "not JSON",
        ] {
            let mut reader = StreamReader::new(Api::Responses, STAMP);
            assert_eq!(read(&mut reader, event).0, EventKind::Content(1), "{event}");
        }
        let mut reader = StreamReader::new(Api::Responses, STAMP);
        let thought = r#"{"type":"response.thought","item_id":"m","text":"x"}"#;
        let kinds = [(); 2].map(|()| read(&mut reader, thought).0);
        assert_eq!(kinds, [EventKind::Content(1), EventKind::Content(1)]);
    }

    #[test]
    fn case_r04_only_its_own_last_event_ends_a_response() {
        let mut reader = StreamReader::new(Api::Responses, STAMP);
        read(&mut reader, r#"{"type":"response.output_item.done","item":{"status":"completed"}}"#);
        assert_eq!((reader.is_finished(), reader.missing_end()), (false, None));
        let end = r#"{"type":"response.incomplete","sequence_number":-1,"response":{"status":7}}"#;
        assert_eq!(read(&mut reader, end).0, EventKind::Done, "odd members do not hide it");
        assert_eq!((reader.is_finished(), reader.missing_end()), (true, None));
        assert_eq!(
            read(&mut reader, "[DONE]").0,
            EventKind::Preamble,
            "of engines that end every stream with it"
        );
        let mut cut = StreamReader::new(Api::Responses, STAMP);
        assert_eq!(read(&mut cut, "[DONE]").0, EventKind::Preamble);
        assert!(!cut.is_finished(), "it is not this API's end");
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
