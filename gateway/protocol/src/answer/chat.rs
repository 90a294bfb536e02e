//! Chat completions and completions: chunks with choices, whose text or delta is what was generated.
//!
//! The client sees the tier that served it, in the answer and in every chunk, and a usage chunk only if it asked for
//! one; we ask for usage always. A chunk of chat has deltas, one of completions has text; with `echo` an engine puts the
//! prompt before the first token's text, in the same chunk.

use crate::answer::edits::Edits;
use crate::answer::upstream_error::UpstreamError;
use crate::answer::usage::Usage;
use crate::answer::{EventKind, Stamp, Whole, has_value, is_object, present, reported};
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    service_tier: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    model: Option<&'a RawValue>,
    #[serde(borrow, default)]
    object: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    finish_reason: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow, default)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow, default)]
    function_call: Option<&'a RawValue>,
}

impl Choice<'_> {
    fn has_ended(&self) -> bool {
        self.finish_reason.is_some_and(has_value)
    }

    fn has_content(&self) -> bool {
        self.text.is_some_and(has_value) || self.delta.as_ref().is_some_and(Delta::has_content)
    }
}

impl Delta<'_> {
    fn has_content(&self) -> bool {
        [
            self.content,
            self.reasoning_content,
            self.reasoning,
            self.refusal,
            self.tool_calls,
            self.function_call,
        ]
        .into_iter()
        .flatten()
        .any(has_value)
    }
}

/// Reads one event, whose payload is `json`; `ended`: answers of the stream that have come to their end. `None`: it is no
/// chunk.
pub(super) fn read_event(
    event: &[u8],
    json: &str,
    stamp: Stamp<'_>,
    seen: &mut Option<Usage>,
    ended: &mut u32,
    out: &mut BytesMut,
) -> Option<EventKind> {
    if json == "[DONE]" {
        out.extend_from_slice(event);
        return Some(EventKind::Done);
    }
    let chunk: Chunk<'_> = serde_json::from_str(json).ok().filter(|_| is_object(json))?;
    if let Some(error) = in_stream_error(&chunk, json) {
        return Some(EventKind::Error(error));
    }
    let usage = chunk.usage.filter(|usage| usage.get() != "null");
    *seen = usage.and_then(|usage| Usage::from_openai(usage.get())).or(*seen);
    let choices = chunk.choices.as_deref().unwrap_or_default();
    if choices.is_empty() && usage.is_some() && !stamp.usage_asked {
        return Some(EventKind::Preamble);
    }
    let mut edits = Edits::new(event);
    edits.write_member(json, chunk.service_tier, stamp.openai_tier());
    if let (Some(model), Some(shown)) = (chunk.model, stamp.model) {
        edits.replace(model.get(), shown);
    }
    if let Some(usage) = usage.filter(|_| !stamp.usage_asked) {
        edits.replace(usage.get(), "null");
    }
    edits.append_to(out);
    *ended = ended.saturating_add(choices.iter().filter(|choice| choice.has_ended()).count() as u32);
    match choices.iter().filter(|choice| choice.has_content()).count() as u32 {
        0 => Some(EventKind::Preamble),
        advanced => Some(EventKind::Content(advanced)),
    }
}

/// An engine's error, nested or with `"object": "error"` beside a message.
fn in_stream_error(chunk: &Chunk<'_>, json: &str) -> Option<UpstreamError> {
    if chunk.object.as_deref() == Some("error") {
        return Some(UpstreamError::from_json(json).unwrap_or_else(UpstreamError::without_message));
    }
    reported(chunk.error, json)
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    service_tier: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    model: Option<&'a RawValue>,
}

/// Reads a whole answer in the shape that most of OpenAI's APIs share: `usage`, `service_tier` and `model` at the top.
/// `None`: not of that shape.
pub(super) fn read_whole(body: &Bytes, json: &str, stamp: Stamp<'_>) -> Option<Whole> {
    let answer: Answer<'_> = serde_json::from_str(json).ok()?;
    if let Some(error) = reported(answer.error, json) {
        return Some(Whole::Error(error));
    }
    let usage = answer.usage.and_then(|usage| Usage::from_openai(usage.get()));
    let mut edits = Edits::new(body);
    edits.write_member(json, answer.service_tier, stamp.openai_tier());
    if let (Some(model), Some(shown)) = (answer.model, stamp.model) {
        edits.replace(model.get(), shown);
    }
    Some(Whole::Answer(usage, edits.apply()))
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::answer::{StreamReader, read_whole};
    use crate::api::Api;
    use shedder::Tier;

    const STAMP: Stamp<'static> = Stamp { tier: Tier::Regular, model: None, usage_asked: false };

    /// One event, read: its kind, the usage known afterwards, and what the client gets.
    struct Read {
        kind: EventKind,
        usage: Option<Usage>,
        output: String,
    }

    fn read_raw(raw: &str, stamp: Stamp<'_>) -> Read {
        let mut reader = StreamReader::new(Api::Chat, stamp);
        let mut out = BytesMut::new();
        let kind = reader.read(raw.as_bytes(), &mut out);
        Read { kind, usage: reader.usage(), output: String::from_utf8(out.to_vec()).unwrap() }
    }

    fn read(data: &str, usage_asked: bool) -> Read {
        read_raw(&format!("data: {data}\n\n"), Stamp { usage_asked, ..STAMP })
    }

    #[test]
    fn roles_and_empty_deltas_are_preamble_and_text_is_content() {
        for (delta, kind) in [
            (r#"{"role":"assistant","content":""}"#, EventKind::Preamble),
            (r#"{"role":"assistant","content":null}"#, EventKind::Preamble),
            (r#"{}"#, EventKind::Preamble),
            (r#"{"content":"a"}"#, EventKind::Content(1)),
            (r#"{"content":null,"reasoning_content":"hm"}"#, EventKind::Content(1)),
            (r#"{"reasoning":"hm"}"#, EventKind::Content(1)),
            (r#"{"tool_calls":[{"index":0}]}"#, EventKind::Content(1)),
        ] {
            let event = read(&format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#), false);
            assert_eq!(event.kind, kind, "{delta}");
        }
        let two =
            read(r#"{"choices":[{"delta":{"content":"a"}},{"delta":{"content":"b"}},{"delta":{}}]}"#, false);
        assert_eq!(two.kind, EventKind::Content(2), "each choice that advances counts");
    }

    #[test]
    fn every_chunk_carries_the_served_tier() {
        let absent = read(r#"{"id":"x","choices":[]}"#, false);
        assert_eq!(absent.output, "data: {\"service_tier\":\"default\",\"id\":\"x\",\"choices\":[]}\n\n");
        let null = read(
            r#"{"choices":[{"delta":{"content":"\"service_tier\":null"}}],"service_tier": null}"#,
            false,
        );
        assert_eq!(
            null.output,
            "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"service_tier\\\":null\"}}],\"service_tier\": \"default\"}\n\n"
        );
    }

    #[test]
    fn the_model_keeps_the_name_that_the_client_used() {
        let raw = "data: {\"model\":\"/models/x\",\"choices\":[],\"service_tier\":null}\n\n";
        let event = read_raw(raw, Stamp { model: Some("\"llama\""), ..STAMP });
        assert_eq!(
            event.output,
            "data: {\"model\":\"llama\",\"choices\":[],\"service_tier\":\"default\"}\n\n"
        );
    }

    /// Of a stream with three answers one has two tokens and goes, the others go on.
    #[test]
    fn answers_that_end_are_counted_once_each() {
        let mut reader = StreamReader::new(Api::Chat, STAMP);
        let mut ended = |choices: &str| {
            let event = format!("data: {{\"choices\":[{choices}]}}\n\n");
            reader.read(event.as_bytes(), &mut BytesMut::new());
            reader.ended()
        };

        assert_eq!(ended(r#"{"index":0,"delta":{"content":"a"},"finish_reason":null}"#), 0);
        assert_eq!(ended(r#"{"index":1,"delta":{"content":"a"},"finish_reason":"stop"}"#), 1);
        assert_eq!(ended(r#"{"index":2,"delta":{"content":"a"}}"#), 1);
        assert_eq!(
            ended(
                r#"{"index":0,"delta":{},"finish_reason":"length"},{"index":2,"delta":{},"finish_reason":"stop"}"#
            ),
            3
        );
    }

    /// Report A7: usage is always asked for upstream and only shown to those who asked.
    #[test]
    fn report_a7_the_usage_chunk_is_counted_and_only_shown_when_asked_for() {
        let chunk = r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#;
        let hidden = read(chunk, false);
        let shown = read(chunk, true);
        assert_eq!(hidden.usage.map(|u| (u.prompt, u.generated)), Some((7, 3)));
        assert_eq!(hidden.output, "");
        assert_eq!(shown.usage, hidden.usage);
        assert!(shown.output.contains("\"prompt_tokens\":7"));
    }

    #[test]
    fn usage_on_a_chunk_with_choices_is_hidden_but_the_chunk_stays() {
        let event =
            read(r#"{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":7}}"#, false);
        assert!(event.output.contains("\"finish_reason\":\"stop\""));
        assert!(event.output.contains("\"usage\":null"), "{}", event.output);
    }

    #[test]
    fn an_overload_hidden_in_a_200_stream_is_seen() {
        let event = read(
            r#"{"error":{"message":"busy","type":"Service Unavailable","param":null,"code":503}}"#,
            false,
        );
        let EventKind::Error(error) = event.kind else { panic!("no error") };
        assert!(error.busy);
        assert_eq!(event.output, "");
        assert_eq!(read(r#"{"error":null,"choices":[]}"#, false).kind, EventKind::Preamble);
    }

    #[test]
    fn what_is_not_a_chunk_passes_unchanged() {
        for raw in [
            ": keep-alive\n\n",
            "data: [DONE]\n\n",
            "data: {broken\n\n",
            "data: [1,2,3,4,5,6]\n\n",
            "event: x\n\n",
        ] {
            assert_eq!(read_raw(raw, STAMP).output, raw);
        }
    }

    #[test]
    fn a_whole_answer_carries_the_served_tier_and_its_usage() {
        let body = Bytes::from_static(
            br#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":1},"service_tier":null}"#,
        );
        let priority = Stamp { tier: Tier::Priority, ..STAMP };
        let Whole::Answer(usage, out) = read_whole(Api::Chat, &body, priority) else { panic!("no answer") };
        assert_eq!(usage.map(|u| u.prompt), Some(5));
        assert_eq!(
            out,
            &br#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":1},"service_tier":"priority"}"#
                [..]
        );
        for no_answer in ["<html>", "", "[1,2,3,4]", "7"] {
            let body = Bytes::from_static(no_answer.as_bytes());
            assert_eq!(read_whole(Api::Chat, &body, STAMP), Whole::Unreadable, "{no_answer}");
        }
    }

    #[test]
    fn an_error_with_a_200_is_no_answer() {
        let body = Bytes::from_static(br#"{"error":{"message":"busy","type":"overloaded","code":503}}"#);
        let Whole::Error(error) = read_whole(Api::Chat, &body, STAMP) else { panic!("an answer") };
        assert!(error.busy);
    }
}
