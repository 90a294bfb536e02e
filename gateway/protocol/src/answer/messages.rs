//! Anthropic's Messages API: named events, usage in two parts, the tier inside the usage.
//!
//! `message_start` carries what the prompt cost, `message_delta` what was generated, and each engine means something
//! else by the first: vLLM the whole prompt, to be split into cached and not by the second; llama.cpp the split at once.
//! So a field of the second overrides the same one of the first, and the rest of the first stays. `input_tokens` is
//! what was neither read from the cache nor written to it.
//!
//! A stream is whole with `message_stop`.

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
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content_block: Option<Block<'a>>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, default)]
    r#type: Cow<'a, str>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    thinking: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow, default)]
    partial_json: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    model: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// The parts of a usage that were told so far.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct Parts {
    input_tokens: Option<f64>,
    output_tokens: Option<f64>,
    cache_read_input_tokens: Option<f64>,
    cache_creation_input_tokens: Option<f64>,
}

#[derive(Deserialize)]
struct Tier<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    service_tier: Option<&'a RawValue>,
}

impl Parts {
    fn read(json: &str) -> Option<Parts> {
        serde_json::from_str(json).ok().filter(|_| is_object(json))
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
        };
    }

    fn usage(self) -> Option<Usage> {
        let cached = self.cache_read_input_tokens;
        let prompt =
            self.input_tokens? + cached.unwrap_or(0.0) + self.cache_creation_input_tokens.unwrap_or(0.0);
        Some(Usage::of(prompt, cached, self.output_tokens.unwrap_or(0.0)))
    }
}

/// Reads one event, whose payload is `json`. `None`: it is no event of this API.
pub(super) fn read_event(
    event: &[u8],
    json: &str,
    stamp: Stamp<'_>,
    seen: &mut Option<Usage>,
    parts: &mut Parts,
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
        learn(message.usage, parts, seen);
        return Some(EventKind::Preamble);
    }
    learn(read.usage, parts, seen);
    out.extend_from_slice(event);
    Some(match &*read.r#type {
        "message_stop" => EventKind::Done,
        _ if read.has_content() => EventKind::Content(1),
        _ => EventKind::Preamble,
    })
}

impl Event<'_> {
    fn has_content(&self) -> bool {
        let delta = self.delta.as_ref().filter(|_| self.r#type == "content_block_delta");
        let in_delta = delta.is_some_and(|delta| {
            [delta.text, delta.thinking, delta.partial_json].into_iter().flatten().any(has_value)
        });
        // The name of a called tool is generated; a text that begins empty is not.
        let in_block = self.content_block.as_ref().is_some_and(|block| {
            block.r#type == "tool_use" || [block.text, block.thinking].into_iter().flatten().any(has_value)
        });
        in_delta || in_block
    }
}

fn learn(usage: Option<&RawValue>, parts: &mut Parts, seen: &mut Option<Usage>) {
    if let Some(later) = usage.and_then(|usage| Parts::read(usage.get())) {
        parts.merge(later);
        *seen = parts.usage().or(*seen);
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

    const STAMP: Stamp<'static> =
        Stamp { tier: shedder::Tier::Regular, model: Some("\"shown\""), usage_asked: false };

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
            let expected = if content { EventKind::Content(1) } else { EventKind::Preamble };
            assert_eq!(one(json), expected, "{json}");
        }
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
