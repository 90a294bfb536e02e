//! Anthropic's Messages API: named events, usage in two parts, the tier inside the usage.
//!
//! `message_start` carries what the prompt cost, `message_delta` what was generated, and each engine means something
//! else by the first: vLLM the whole prompt, to be split into cached and not by the second; llama.cpp the split at once.
//! So a field of the second overrides the same one of the first, and the rest of the first stays. `input_tokens` is
//! what was neither read from the cache nor written to it.
//!
//! A stream is whole with `message_stop`.

use crate::answer::choices::{Valued, has_value};
use crate::answer::edits::Edits;
use crate::answer::upstream_error::UpstreamError;
use crate::answer::usage::{Number, Numbers, Usage, read_object};
use crate::answer::{
    EventKind, Seen, Stamp, Whole, finish, has_other_than, is_object, present, reported, whole_error,
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
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Stop<'a> {
    #[serde(borrow, default)]
    stop_reason: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    model: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// The parts of a usage that were told so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parts {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    anomalous: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawParts {
    input_tokens: Number,
    output_tokens: Number,
    cache_read_input_tokens: Number,
    cache_creation_input_tokens: Number,
}

#[derive(Deserialize)]
struct Tier<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    service_tier: Option<&'a RawValue>,
}

impl Parts {
    fn read(json: &str) -> Option<Parts> {
        let raw: RawParts = read_object(json)?;
        let mut numbers = Numbers::default();
        let mut read = Parts {
            input_tokens: numbers.tokens(raw.input_tokens),
            output_tokens: numbers.tokens(raw.output_tokens),
            cache_read_input_tokens: numbers.tokens(raw.cache_read_input_tokens),
            cache_creation_input_tokens: numbers.tokens(raw.cache_creation_input_tokens),
            anomalous: false,
        };
        read.anomalous = numbers.anomalous;
        Some(read)
    }

    /// What is told now overrides what was told before.
    fn merge(&mut self, later: Parts) {
        *self = Parts {
            input_tokens: later.input_tokens.or(self.input_tokens),
            output_tokens: later.output_tokens.or(self.output_tokens),
            cache_read_input_tokens: later.cache_read_input_tokens.or(self.cache_read_input_tokens),
            cache_creation_input_tokens: later
                .cache_creation_input_tokens
                .or(self.cache_creation_input_tokens),
            anomalous: later.anomalous || self.anomalous,
        };
    }

    fn usage(self) -> Option<Usage> {
        self.input_tokens.or(self.output_tokens)?;
        let cached = self.cache_read_input_tokens;
        let others = cached.unwrap_or(0).saturating_add(self.cache_creation_input_tokens.unwrap_or(0));
        let prompt = self.input_tokens.map(|uncached| uncached.saturating_add(others));
        let numbers = Numbers { anomalous: self.anomalous };
        Some(numbers.usage(prompt, cached, self.output_tokens, None))
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
        return Some(EventKind::Error(UpstreamError::without_message()));
    }
    if read.r#type == "message_start"
        && let Some(raw) = read.message.filter(|raw| is_object(raw.get()))
    {
        let message: Message<'_> = serde_json::from_str(raw.get()).ok()?;
        let mut edits = Edits::new(event);
        write(&message, stamp, &mut edits);
        edits.append_to(out);
        learn(message.usage, seen);
        let has_content = message.content.is_some_and(has_value);
        return Some(if has_content { seen.step() } else { EventKind::Preamble });
    }
    learn(read.usage, seen);
    out.extend_from_slice(event);
    Some(read.kind(json, seen))
}

impl Event<'_> {
    /// Returns the kind of an event without a message.
    fn kind(&self, json: &str, seen: &mut Seen) -> EventKind {
        let is_valued = |value: Option<&RawValue>| {
            value.is_some_and(|value| {
                serde_json::from_str::<Valued>(value.get())
                    .map_or_else(|_| has_value(value), |valued| valued.0)
            })
        };
        match &*self.r#type {
            "ping" => EventKind::Idle,
            "message_stop" => EventKind::Done,
            "message_start" | "content_block_stop" => EventKind::Preamble,
            "message_delta" => {
                let stop = self.delta.and_then(|delta| serde_json::from_str::<Stop<'_>>(delta.get()).ok());
                let reason = stop.and_then(|stop| stop.stop_reason);
                seen.has_ended |= reason.is_some_and(has_value);
                seen.finish = reason.and_then(finish::word).or(seen.finish);
                EventKind::Preamble
            }
            // The name of a called tool is generated; a text that begins empty is not.
            "content_block_start" if !is_valued(self.content_block) => EventKind::Preamble,
            "content_block_start" => seen.step(),
            "content_block_delta" => seen.delta(is_valued(self.delta)),
            _ if has_other_than(&["type", "index"], json) => seen.step(),
            _ => seen.maybe(),
        }
    }
}

fn learn(usage: Option<&RawValue>, seen: &mut Seen) {
    if let Some(later) = usage.and_then(|usage| Parts::read(usage.get())) {
        seen.parts.merge(later);
        seen.usage = seen.parts.usage().or(seen.usage);
    }
}

/// Writes tier and model of a message.
fn write<'e>(message: &Message<'_>, stamp: Stamp<'e>, edits: &mut Edits<'e>) {
    if let (Some(model), Some(shown)) = (message.model, stamp.model) {
        edits.replace(model.get(), shown);
    }
    if let Some(usage) = message.usage.map(RawValue::get).filter(|usage| is_object(usage))
        && let Ok(tier) = serde_json::from_str::<Tier<'_>>(usage)
    {
        edits.write_member(usage, tier.service_tier, stamp.anthropic_tier());
    }
}

/// Reads a whole answer. `None`: not of this shape.
pub(super) fn read_whole(body: &Bytes, json: &str, stamp: Stamp<'_>) -> Option<Whole> {
    let message: Message<'_> = serde_json::from_str(json).ok()?;
    if let Some(error) = reported(message.error, json) {
        return Some(Whole::Error(error));
    }
    if message.usage.is_none()
        && let Some(error) = whole_error(json)
    {
        return Some(Whole::Error(error));
    }
    let usage = message.usage.and_then(|usage| Parts::read(usage.get())).and_then(Parts::usage);
    let mut edits = Edits::new(body);
    write(&message, stamp, &mut edits);
    Some(Whole::Answer(usage, edits.apply()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::sse::SseSplitter;
    use crate::answer::{StreamReader, read_whole};
    use crate::api::Api;

    const STAMP: Stamp<'static> = Stamp { model: Some("\"shown\""), ..Stamp::of(shedder::Tier::Regular) };

    fn play(body: &'static str) -> (Vec<EventKind>, Option<Usage>, String) {
        let mut splitter = SseSplitter::default();
        splitter.push(Bytes::from_static(body.as_bytes())).unwrap();
        let mut reader = StreamReader::new(Api::Messages, STAMP);
        let mut out = BytesMut::new();
        let mut kinds = Vec::new();
        while let Some(event) = splitter.next_event() {
            kinds.push(reader.read(&event, &mut out));
        }
        (kinds, reader.usage(), String::from_utf8(out.to_vec()).unwrap())
    }

    fn one(json: &str) -> EventKind {
        let mut reader = StreamReader::new(Api::Messages, STAMP);
        reader.read(format!("event: x\ndata: {json}\n\n").as_bytes(), &mut BytesMut::new())
    }

    #[test]
    fn vllm_splits_the_prompt_in_its_second_part() {
        let recorded = include_str!("fixtures/vllm-0.32.0-messages-stream.http");
        let (kinds, usage, out) = play(recorded.split_once("\r\n\r\n").unwrap().1);

        assert_eq!(kinds.iter().filter(|kind| **kind == EventKind::Content(1)).count(), 3);
        assert_eq!(kinds.last(), Some(&EventKind::Done));
        let usage = usage.unwrap();
        assert_eq!((usage.prompt, usage.cached, usage.generated), (11, Some(0), 3));
        assert!(out.contains(r#""usage":{"service_tier":"standard","input_tokens":11"#), "{out}");
        assert!(out.contains(r#""model":"shown""#), "{out}");
        assert!(out.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
    }

    #[test]
    fn llama_cpp_splits_it_in_its_first() {
        let (kinds, usage, _) = play(include_str!("fixtures/llamacpp-messages-stream.http"));
        let usage = usage.unwrap();
        assert_eq!((usage.prompt, usage.cached, usage.generated), (11, Some(10), 3));
        assert_eq!(kinds.last(), Some(&EventKind::Done));
    }

    #[test]
    fn a_later_part_overrides_field_by_field() {
        let mut parts = Parts::default();
        parts.merge(Parts::read(r#"{"input_tokens":491,"output_tokens":0}"#).unwrap());
        assert_eq!(parts.usage().map(|u| (u.prompt, u.cached, u.generated)), Some((491, None, 0)));
        parts.merge(
            Parts::read(r#"{"input_tokens":107,"output_tokens":9,"cache_read_input_tokens":384,"cache_creation_input_tokens":null}"#)
                .unwrap(),
        );
        assert_eq!(parts.usage().map(|u| (u.prompt, u.cached, u.generated)), Some((491, Some(384), 9)));
    }

    #[test]
    fn case_r08_one_impossible_number_leaves_the_others() {
        for bad in ["-1", "1.5", "\"7\"", "1e300", "{}"] {
            let read = |json: String| {
                let usage = Parts::read(&json).unwrap().usage().unwrap();
                assert!(usage.anomalous, "{json}");
                (usage.prompt, usage.cached, usage.generated)
            };
            let input = format!(r#"{{"input_tokens":{bad},"output_tokens":3,"cache_read_input_tokens":8}}"#);
            assert_eq!(read(input), (0, None, 3));
            let output = format!(r#"{{"input_tokens":9,"output_tokens":{bad},"cache_read_input_tokens":8}}"#);
            assert_eq!(read(output), (17, Some(8), 0));
            let cached = format!(r#"{{"input_tokens":9,"output_tokens":3,"cache_read_input_tokens":{bad}}}"#);
            assert_eq!(read(cached), (9, None, 3));
        }
    }

    #[test]
    fn thinking_tools_and_text_are_content_and_pings_are_not() {
        for (json, content) in [
            (r#"{"type":"ping"}"#, false),
            (r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#, false),
            (
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","name":"f"}}"#,
                true,
            ),
            (r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}"#, true),
            (r#"{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"a"}}"#, true),
            (
                r#"{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{"}}"#,
                true,
            ),
            (r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":""}}"#, false),
            (r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#, false),
        ] {
            let expected = match content {
                true => EventKind::Content(1),
                false if json.contains("ping") => EventKind::Idle,
                false => EventKind::Preamble,
            };
            assert_eq!(one(json), expected, "{json}");
        }
    }

    fn delta(delta: &str) -> String {
        format!("event: x\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{delta}}}\n\n")
    }

    #[test]
    fn case_r01_each_later_delta_is_a_step_though_it_is_empty() {
        let mut reader = StreamReader::new(Api::Messages, STAMP);
        let empty = delta(r#"{"type":"text_delta","text":""}"#);
        let kinds = [(); 3].map(|()| reader.read(empty.as_bytes(), &mut BytesMut::new()));
        assert_eq!(kinds, [EventKind::Preamble, EventKind::Content(1), EventKind::Content(1)]);
        assert_eq!(reader.steps_of_longest(), 2);
    }

    #[test]
    fn case_r02_what_is_not_known_is_content() {
        for json in [
            r#"{"type":"content_block_delta","delta":{"type":"made_up_delta","made_up":"x"}}"#,
            r#"{"type":"content_block_start","content_block":{"type":"redacted_thinking","data":"x"}}"#,
            r#"{"type":"made_up","text":"x"}"#,
            r#"{"type":"made_up"}"#,
            r#"{"type":7}"#,
            "not JSON",
        ] {
            assert_eq!(one(json), EventKind::Content(1), "{json}");
        }
    }

    #[test]
    fn case_r04_a_message_that_told_why_it_stopped_lacks_its_end_only() {
        let mut reader = StreamReader::new(Api::Messages, STAMP);
        let mut out = BytesMut::new();
        let stop = |reason: &str| {
            format!("data: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":{reason}}}}}\n\n")
        };
        reader.read(stop("null").as_bytes(), &mut out);
        assert_eq!((reader.is_finished(), reader.missing_end()), (false, None));
        reader.read(stop("\"end_turn\"").as_bytes(), &mut out);
        let end: &[u8] = b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
        assert_eq!((reader.is_finished(), reader.missing_end()), (true, Some(end)));
        assert_eq!(reader.read(end, &mut out), EventKind::Done);
        assert_eq!(reader.missing_end(), None);
    }

    #[test]
    fn an_error_event_is_an_error_and_overload_is_seen() {
        let kind = one(r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#);
        let EventKind::Error(error) = kind else { panic!("{kind:?}") };
        assert!(error.busy);
        assert!(matches!(one(r#"{"type":"error"}"#), EventKind::Error(_)));
    }

    #[test]
    fn a_whole_message_has_its_tier_inside_the_usage() {
        let body = Bytes::from_static(
            br#"{"type":"message","model":"m","usage":{"input_tokens":1,"output_tokens":2,"cache_read_input_tokens":10,"service_tier":null}}"#,
        );
        let stamp = Stamp { tier: shedder::Tier::Priority, ..STAMP };
        let Whole::Answer(usage, out) = read_whole(Api::Messages, &body, stamp) else { panic!("no answer") };
        assert_eq!(usage.map(|u| (u.prompt, u.cached, u.generated)), Some((11, Some(10), 2)));
        assert!(out.ends_with(br#""service_tier":"priority"}}"#), "{out:?}");

        let error = Bytes::from_static(br#"{"type":"error","error":{"type":"api_error","message":"x"}}"#);
        assert!(matches!(read_whole(Api::Messages, &error, STAMP), Whole::Error(_)));
    }
}
