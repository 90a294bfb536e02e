//! Chat completions: what the engine's answer says, and the few bytes of it that are written by us.
//!
//! The client sees the tier that served it, in the answer and in every chunk, and a usage chunk only if it
//! asked for one; we ask for usage always. All other bytes pass as the engine wrote them.

use crate::api::sse;
use crate::api::upstream_error::UpstreamError;
use crate::api::usage::Usage;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What one event of a stream means.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// What the event is.
    pub kind: EventKind,
    /// The usage it carries.
    pub usage: Option<Usage>,
    /// What the client gets for it; `None`: nothing.
    pub output: Option<Bytes>,
}

/// The kinds of events of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Roles, comments, empty deltas: nothing generated yet.
    Preamble,
    /// Generated content; how many choices it advances.
    Content(u32),
    /// The engine reports an error inside the stream.
    Error(UpstreamError),
    /// `[DONE]`.
    Done,
}

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

/// A member that is there, `null` included: its place matters even then.
fn present<'de: 'a, 'a, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
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
        .any(|value| !matches!(value.get(), "null" | "\"\"" | "[]" | "{}"))
    }
}

/// What is written into answers by us.
#[derive(Debug, Clone, Copy)]
pub struct Stamp<'a> {
    /// The served tier as the API calls it.
    pub tier: &'a str,
    /// The model as the client named it, as a JSON string, where the engine knows it by another name.
    pub model: Option<&'a str>,
    /// Whether the client asked for the usage of a stream.
    pub usage_asked: bool,
}

/// Reads one event of a stream and says what the client gets for it.
///
/// Cost: one typed pass over the event and, for chunks, one copy.
#[must_use]
pub fn read_event(event: Bytes, stamp: Stamp<'_>) -> Event {
    let usage_asked = stamp.usage_asked;
    let Some(data) = sse::data_of(&event) else { return passed(EventKind::Preamble, event) };
    if data == b"[DONE]" {
        return passed(EventKind::Done, event);
    }
    let Ok(json) = std::str::from_utf8(data) else { return passed(EventKind::Preamble, event) };
    let Ok(chunk) = serde_json::from_str::<Chunk<'_>>(json) else {
        return passed(EventKind::Preamble, event);
    };
    if let Some(error) = in_stream_error(&chunk, json) {
        return Event { kind: EventKind::Error(error), usage: None, output: None };
    }
    let usage = chunk.usage.filter(|u| u.get() != "null");
    let counted = usage.and_then(|u| Usage::from_openai(u.get()));
    let choices = chunk.choices.as_deref().unwrap_or_default();
    if choices.is_empty() && usage.is_some() && !usage_asked {
        return Event { kind: EventKind::Preamble, usage: counted, output: None };
    }
    let advanced = choices.iter().filter(|c| c.delta.as_ref().is_some_and(Delta::has_content)).count() as u32;
    let kind = if advanced > 0 { EventKind::Content(advanced) } else { EventKind::Preamble };
    let mut edits = Edits::new(&event);
    edits.stamp(json, chunk.service_tier, chunk.model, stamp);
    if let Some(usage) = usage.filter(|_| !usage_asked) {
        edits.replace(usage.get(), "null");
    }
    Event { kind, usage: counted, output: Some(edits.apply()) }
}

fn passed(kind: EventKind, event: Bytes) -> Event {
    Event { kind, usage: None, output: Some(event) }
}

fn in_stream_error(chunk: &Chunk<'_>, json: &str) -> Option<UpstreamError> {
    let error = chunk.error.filter(|e| e.get() != "null");
    if error.is_none() && chunk.object.as_deref() != Some("error") {
        return None;
    }
    Some(UpstreamError::from_json(json).unwrap_or_else(|| UpstreamError {
        status: None,
        message: "The engine reported an error without a message.".to_owned(),
        busy: false,
        retry_after: None,
    }))
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    service_tier: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    model: Option<&'a RawValue>,
}

/// Reads a whole answer: its usage, and the answer with the tier that served it. `None`: not JSON.
#[must_use]
pub fn read_answer(body: &Bytes, stamp: Stamp<'_>) -> Option<(Option<Usage>, Bytes)> {
    let json = std::str::from_utf8(body).ok()?;
    let answer: Answer<'_> = serde_json::from_str(json).ok()?;
    let usage = answer.usage.and_then(|usage| Usage::from_openai(usage.get()));
    let mut edits = Edits::new(body);
    edits.stamp(json, answer.service_tier, answer.model, stamp);
    Some((usage, edits.apply()))
}

/// A few replacements in bytes that otherwise stay.
struct Edits<'a> {
    source: &'a [u8],
    /// Start, end, replacement; at most three.
    edits: [(usize, usize, Cow<'a, str>); 3],
    count: usize,
}

impl<'a> Edits<'a> {
    fn new(source: &'a [u8]) -> Self {
        Edits { source, edits: [const { (0, 0, Cow::Borrowed("")) }; 3], count: 0 }
    }

    fn stamp(&mut self, json: &str, tier: Option<&RawValue>, model: Option<&RawValue>, stamp: Stamp<'a>) {
        self.set_tier(json, tier, stamp.tier);
        if let (Some(present), Some(name)) = (model, stamp.model) {
            self.replace(present.get(), name);
        }
    }

    /// Writes `service_tier` into the object `json`, in place of its value or as its first member.
    fn set_tier(&mut self, json: &str, present: Option<&RawValue>, tier: &str) {
        match present {
            Some(value) => self.replace(value.get(), format!("\"{tier}\"")),
            None => {
                let Some(brace) = json.find('{') else { return };
                let after = json.get(brace + 1..brace + 1).unwrap_or_default();
                let comma = if json.get(brace + 1..).is_some_and(|r| r.trim_start().starts_with('}')) {
                    ""
                } else {
                    ","
                };
                self.replace(after, format!("\"service_tier\":\"{tier}\"{comma}"));
            }
        }
    }

    /// Replaces `part`, which must be a slice of the source.
    fn replace(&mut self, part: &str, with: impl Into<Cow<'a, str>>) {
        let Some(start) = (part.as_ptr() as usize).checked_sub(self.source.as_ptr() as usize) else { return };
        if let Some(slot) = self.edits.get_mut(self.count) {
            *slot = (start, start + part.len(), with.into());
            self.count += 1;
        }
    }

    fn apply(mut self) -> Bytes {
        let grown: usize = self.edits.iter().map(|(.., with)| with.len()).sum();
        let mut out = Vec::with_capacity(self.source.len() + grown);
        let edits = self.edits.get_mut(..self.count).unwrap_or_default();
        edits.sort_by_key(|(start, ..)| *start);
        let mut from = 0;
        for (start, end, with) in edits {
            out.extend_from_slice(self.source.get(from..*start).unwrap_or_default());
            out.extend_from_slice(with.as_bytes());
            from = *end;
        }
        out.extend_from_slice(self.source.get(from..).unwrap_or_default());
        Bytes::from(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp<'static> = Stamp { tier: "default", model: None, usage_asked: false };

    fn read(data: &str, usage_asked: bool) -> Event {
        read_event(
            Bytes::from(format!("data: {data}\n\n")),
            Stamp { tier: "default", model: None, usage_asked },
        )
    }

    fn output(event: &Event) -> &str {
        std::str::from_utf8(event.output.as_deref().unwrap_or_default()).unwrap()
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
        assert_eq!(output(&absent), "data: {\"service_tier\":\"default\",\"id\":\"x\",\"choices\":[]}\n\n");
        let null = read(
            r#"{"choices":[{"delta":{"content":"\"service_tier\":null"}}],"service_tier": null}"#,
            false,
        );
        assert_eq!(
            output(&null),
            "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"service_tier\\\":null\"}}],\"service_tier\": \"default\"}\n\n"
        );
    }

    #[test]
    fn the_model_keeps_the_name_that_the_client_used() {
        let event =
            Bytes::from_static(b"data: {\"model\":\"/models/x\",\"choices\":[],\"service_tier\":null}\n\n");
        let event = read_event(event, Stamp { model: Some("\"llama\""), ..STAMP });
        assert_eq!(
            output(&event),
            "data: {\"model\":\"llama\",\"choices\":[],\"service_tier\":\"default\"}\n\n"
        );
    }

    /// Report A7: usage is always asked for upstream and only shown to those who asked.
    #[test]
    fn report_a7_the_usage_chunk_is_counted_and_only_shown_when_asked_for() {
        let chunk = r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#;
        let hidden = read(chunk, false);
        let shown = read(chunk, true);
        assert_eq!(hidden.usage.map(|u| (u.prompt, u.generated)), Some((7, 3)));
        assert_eq!(hidden.output, None);
        assert_eq!(shown.usage, hidden.usage);
        assert!(output(&shown).contains("\"prompt_tokens\":7"));
    }

    #[test]
    fn usage_on_a_chunk_with_choices_is_hidden_but_the_chunk_stays() {
        let event =
            read(r#"{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":7}}"#, false);
        assert!(output(&event).contains("\"finish_reason\":\"stop\""));
        assert!(output(&event).contains("\"usage\":null"), "{}", output(&event));
    }

    #[test]
    fn an_overload_hidden_in_a_200_stream_is_seen() {
        let event = read(
            r#"{"error":{"message":"busy","type":"Service Unavailable","param":null,"code":503}}"#,
            false,
        );
        let EventKind::Error(error) = event.kind else { panic!("{event:?}") };
        assert!(error.busy);
        assert_eq!(event.output, None);
        assert_eq!(read(r#"{"error":null,"choices":[]}"#, false).kind, EventKind::Preamble);
    }

    #[test]
    fn what_is_not_a_chunk_passes_unchanged() {
        for raw in [": keep-alive\n\n", "data: [DONE]\n\n", "data: {broken\n\n", "event: x\n\n"] {
            let event = read_event(Bytes::copy_from_slice(raw.as_bytes()), STAMP);
            assert_eq!(output(&event), raw);
        }
    }

    #[test]
    fn a_whole_answer_carries_the_served_tier_and_its_usage() {
        let body = Bytes::from_static(
            br#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":1},"service_tier":null}"#,
        );
        let (usage, out) = read_answer(&body, Stamp { tier: "priority", ..STAMP }).unwrap();
        assert_eq!(usage.map(|u| u.prompt), Some(5));
        assert_eq!(
            out,
            &br#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":1},"service_tier":"priority"}"#
                [..]
        );
        assert!(read_answer(&Bytes::from_static(b"<html>"), STAMP).is_none());
    }
}
