//! Chat completions and completions: chunks with choices, whose text or delta is what was generated.
//!
//! The client sees the tier that served it, in the answer and in every chunk, and a usage chunk only if it asked for
//! one; we ask for usage always, and of engines that are known to tell it with every chunk we ask that, too. A chunk of
//! chat has deltas, one of completions has text; with `echo` an engine puts the prompt before the first token's text, in
//! the same chunk.

use crate::answer::choices::Choice;
use crate::answer::edits::Edits;
use crate::answer::upstream_error::UpstreamError;
use crate::answer::usage::Usage;
use crate::answer::{
    DONE, EventKind, Seen, Stamp, Whole, has_other_than, is_object, present, reported, whole_error,
};
use crate::engine::RunningUsage;
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

#[derive(Deserialize)]
#[serde(bound(deserialize = "C: Deserialize<'de>"))]
struct Chunk<'a, C> {
    #[serde(default = "Option::default")]
    choices: Option<C>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    timings: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    service_tier: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    model: Option<&'a RawValue>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
}

/// Members that an object without choices may have and still say nothing.
const OF_EVERY_CHUNK: [&str; 9] = [
    "id",
    "object",
    "created",
    "model",
    "service_tier",
    "system_fingerprint",
    "timings",
    "type",
    "obfuscation",
];

/// Reads a chunk, also one whose choices are of no shape that we know.
fn parse(json: &str) -> Option<Chunk<'_, Vec<Choice>>> {
    if let Ok(chunk) = serde_json::from_str(json) {
        return Some(chunk);
    }
    let loose: Chunk<'_, IgnoredAny> = serde_json::from_str(json).ok()?;
    let Chunk { choices, usage, timings, error, service_tier, model, object } = loose;
    let choices = choices.map(|_| vec![Choice::unknown()]);
    Some(Chunk { choices, usage, timings, error, service_tier, model, object })
}

/// Reads one event, whose payload is `json`. `None`: it is no chunk.
pub(super) fn read_event(
    event: &[u8],
    json: &str,
    stamp: Stamp<'_>,
    seen: &mut Seen,
    out: &mut BytesMut,
) -> Option<EventKind> {
    if json.trim_ascii() == "[DONE]" {
        seen.held.release(out);
        // Clients compare it with what it should be.
        out.extend_from_slice(if json == "[DONE]" { event } else { DONE });
        return Some(EventKind::Done);
    }
    let chunk = parse(json).filter(|_| is_object(json))?;
    if let Some(error) = in_stream_error(&chunk, json) {
        seen.held.release(out);
        return Some(EventKind::Error(error));
    }
    if chunk.choices.is_none() && chunk.usage.is_none() {
        if let Some(error) = whole_error(json) {
            seen.held.release(out);
            return Some(EventKind::Error(error));
        }
        if has_other_than(&OF_EVERY_CHUNK, json) {
            // No chunk: it passes as it came.
            return None;
        }
    }
    let choices = chunk.choices.as_deref().unwrap_or_default();
    let usage = chunk.usage.filter(|usage| usage.get() != "null");
    learn(usage, chunk.timings, choices, stamp, seen);
    if choices.is_empty() && usage.is_some() && !stamp.usage_asked {
        seen.held.take_over(json);
        seen.held.release(out);
        return Some(EventKind::Preamble);
    }
    seen.held.release(out);
    let from = out.len();
    let mut edits = Edits::new(event);
    edits.write_member(json, chunk.service_tier, stamp.openai_tier());
    if let (Some(model), Some(shown)) = (chunk.model, stamp.model) {
        edits.replace(model.get(), shown);
    }
    if !choices.is_empty() {
        hide(usage, chunk.timings, choices, stamp, &mut edits);
    }
    edits.append_to(out);
    let advanced = seen.choices.advance(choices);
    if !stamp.usage_asked && choices.iter().any(Choice::has_ended) {
        let end = json.as_ptr() as usize + json.trim_ascii_end().len();
        seen.held.keep(out, from, (event.as_ptr() as usize + event.len()).saturating_sub(end));
    }
    Some(if advanced > 0 { EventKind::Content(advanced) } else { EventKind::Preamble })
}

/// Takes what a chunk tells of the usage. With running usage a chunk with choices tells it of each of them, and of their
/// prompt; the chunk without, at the end, of all.
fn learn(
    usage: Option<&RawValue>,
    timings: Option<&RawValue>,
    choices: &[Choice],
    stamp: Stamp<'_>,
    seen: &mut Seen,
) {
    let Some(mut told) = told(usage, timings) else { return };
    if stamp.running != RunningUsage::None {
        let of_each = if choices.is_empty() { 0 } else { told.generated };
        let of_all = seen.choices.told(choices, of_each);
        told.generated = told.generated.max(of_all);
        seen.running = Some(told.generated).max(seen.running);
    }
    if stamp.running != RunningUsage::None && !choices.is_empty() && stamp.prompts > 1 {
        (told.prompt, told.cached) = (0, None);
    }
    if stamp.running == RunningUsage::Timings && stamp.choices > 1 {
        // Further choices find the prompt of the first in the cache.
        let before = seen.usage.and_then(|usage| usage.cached);
        told.cached = told.cached.zip(before).map(|(now, before)| now.min(before)).or(told.cached);
    }
    seen.usage = Some(told.after(seen.usage));
}

/// Returns the usage that one object tells, cached tokens from either place.
fn told(usage: Option<&RawValue>, timings: Option<&RawValue>) -> Option<Usage> {
    let timed = timings.and_then(|timings| Usage::from_timings(timings.get()));
    let Some(told) = usage.and_then(|usage| Usage::from_openai(usage.get())) else { return timed };
    let cached = told.cached.or(timed.and_then(|timed| timed.cached).filter(|&cached| cached <= told.prompt));
    Some(Usage { cached, ..told })
}

/// Takes what the client did not ask for out of a chunk with choices, so that it is as the engine writes it without.
fn hide<'e>(
    usage: Option<&'e RawValue>,
    timings: Option<&'e RawValue>,
    choices: &[Choice],
    stamp: Stamp<'_>,
    edits: &mut Edits<'e>,
) {
    let (mut no_usage, mut no_timings) = (None, None);
    match stamp.running {
        RunningUsage::Continuous { null_without } if !stamp.running_shown => match usage {
            Some(usage) if null_without => edits.replace(usage.get(), "null"),
            usage => no_usage = usage.map(RawValue::get),
        },
        RunningUsage::Continuous { .. } => {}
        RunningUsage::Timings | RunningUsage::None => {
            if let Some(usage) = usage.filter(|_| !stamp.usage_asked) {
                edits.replace(usage.get(), "null");
            }
        }
    }
    let is_last = choices.iter().any(Choice::has_ended);
    if stamp.running == RunningUsage::Timings && !stamp.running_shown && !is_last {
        no_timings = timings.map(RawValue::get);
    }
    edits.remove_members([no_usage, no_timings]);
}

/// An engine's error, nested or with `"object": "error"` beside a message.
fn in_stream_error<C>(chunk: &Chunk<'_, C>, json: &str) -> Option<UpstreamError> {
    if chunk.object.is_some_and(|object| object.get() == "\"error\"") {
        return Some(UpstreamError::from_json(json).unwrap_or_else(UpstreamError::without_message));
    }
    reported(chunk.error, json)
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    timings: Option<&'a RawValue>,
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
    if answer.usage.is_none()
        && let Some(error) = whole_error(json)
    {
        return Some(Whole::Error(error));
    }
    let usage = told(answer.usage, answer.timings);
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
    use proptest::prelude::*;
    use shedder::Tier;

    const STAMP: Stamp<'static> = Stamp::of(Tier::Regular);

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
        reader.flush(&mut out);
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
        for (raw, kind) in [
            (": keep-alive\n\n", EventKind::Idle),
            ("data: [DONE]\n\n", EventKind::Done),
            ("data: {broken\n\n", EventKind::Content(1)),
            ("data: [1,2,3,4,5,6]\n\n", EventKind::Content(1)),
            ("event: x\n\n", EventKind::Idle),
            ("data:\n\n", EventKind::Idle),
        ] {
            let event = read_raw(raw, STAMP);
            assert_eq!((event.output.as_str(), event.kind), (raw, kind));
        }
    }

    fn read_all(stream: &str, stamp: Stamp<'_>) -> (String, Vec<EventKind>) {
        let mut reader = StreamReader::new(Api::Chat, stamp);
        let mut out = BytesMut::new();
        let events = stream.split_inclusive("\n\n");
        let kinds = events.map(|event| reader.read(event.as_bytes(), &mut out)).collect();
        (String::from_utf8(out.to_vec()).unwrap(), kinds)
    }

    /// Case R02, to the end: a chunk whose choices are of a shape that nobody knows.
    #[test]
    fn case_r02_choices_that_cannot_be_read_are_content_and_the_rest_of_the_chunk_is_read() {
        let event = read(r#"{"choices":{"0":"x"},"usage":{"prompt_tokens":7},"service_tier":null}"#, false);
        assert_eq!(event.kind, EventKind::Content(1));
        assert_eq!(event.usage.map(|usage| usage.prompt), Some(7));
        assert!(event.output.contains(r#""usage":null,"service_tier":"default""#), "{}", event.output);
    }

    #[test]
    fn case_r02_an_object_that_is_no_chunk_is_content_unless_it_says_nothing() {
        assert_eq!(read(r#"{"object":"made_up","text":"x"}"#, false).kind, EventKind::Content(1));
        for silent in [r#"{"id":"x"}"#, r#"{"type":"ping"}"#, r#"{"choices":[],"prompt_filter_results":[1]}"#]
        {
            assert_eq!(read(silent, false).kind, EventKind::Preamble, "{silent}");
        }
    }

    /// Case R09: what comes with the usage goes to the last chunk that stays, wherever the client sees no usage.
    #[test]
    fn case_r09_what_comes_with_the_usage_moves_to_the_chunk_before() {
        let stream = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"service_tier\":null}\n\n\
            data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1},\"timings\":{\"n\":1},\"made_up\":[1]}\n\n\
            data: [DONE]\n\n";
        let (hidden, _) = read_all(stream, STAMP);
        let chunk = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"service_tier\":\"default\"";
        assert_eq!(hidden, format!("{chunk},\"timings\":{{\"n\":1}},\"made_up\":[1]}}\n\ndata: [DONE]\n\n"));
        let (shown, _) = read_all(stream, Stamp { usage_asked: true, ..STAMP });
        assert!(shown.starts_with(&format!("{chunk}}}\n\n")), "{shown}");
        assert!(shown.contains("\"made_up\":[1],") || shown.contains("\"made_up\":[1]}"), "{shown}");
    }

    /// Case R09: the chunk that waits is let go by whatever comes, and never comes after what is behind it.
    #[test]
    fn case_r09_the_chunk_that_waits_keeps_its_place() {
        let last = "data: {\"service_tier\":\"default\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n";
        let next = "data: {\"service_tier\":\"default\",\"choices\":[{\"index\":1,\"delta\":{\"content\":\"b\"}}]}\n\n";
        let plain = |event: &str| event.replace("\"service_tier\":\"default\",", "");
        for behind in [next, ": comment\n\n", "data: [DONE]\n\n", "data: broken\n\n"] {
            let (out, kinds) = read_all(&format!("{}{}", plain(last), plain(behind)), STAMP);
            assert_eq!(out, format!("{last}{behind}"));
            assert_eq!(kinds[0], EventKind::Content(1), "it counts when it comes");
        }
        let (out, kinds) =
            read_all(&format!("{}data: {{\"error\":{{\"message\":\"x\"}}}}\n\n", plain(last)), STAMP);
        assert_eq!(out, last);
        assert!(matches!(kinds[1], EventKind::Error(_)));
    }

    /// Case R04: every choice has told why it ended, and nothing else is missing.
    #[test]
    fn case_r04_a_stream_is_finished_when_every_choice_is() {
        let end = |index: u32| {
            format!(
                "data: {{\"choices\":[{{\"index\":{index},\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\n"
            )
        };
        for api in [Api::Chat, Api::Completions] {
            let mut reader = StreamReader::new(api, Stamp { choices: 2, ..STAMP });
            let mut out = BytesMut::new();
            for (event, finished) in [(end(1), false), (end(1), false), (end(0), true)] {
                reader.read(event.as_bytes(), &mut out);
                assert_eq!(reader.is_finished(), finished);
                assert_eq!(reader.missing_end(), finished.then_some(&b"data: [DONE]\n\n"[..]));
            }
            reader.read(b"data: [DONE]\n\n", &mut out);
            assert_eq!((reader.is_finished(), reader.missing_end()), (true, None));
        }
    }

    /// Case R11: the end of a stream, in every spelling that the standard allows.
    #[test]
    fn case_r11_the_end_is_known_in_every_spelling() {
        for raw in [
            "data: [DONE] \n\n",
            "data:[DONE]\n\n",
            "data:  [DONE]\t\r\n\r\n",
            "event: done\rid: 7\rretry: 1\rdata: [DONE]\r\r",
            "\u{feff}data: [DONE]\n\n",
            "\ndata: [DONE]\n\n",
        ] {
            assert_eq!(read_raw(raw, STAMP).kind, EventKind::Done, "{raw:?}");
        }
        assert_eq!(read_raw("data: [DONE] \n\n", STAMP).output, "data: [DONE]\n\n");
    }

    /// Case R11: a chunk over several lines is read and changed like one on one line.
    #[test]
    fn case_r11_a_chunk_over_several_lines_is_one_chunk() {
        let usage = "data: {\"choices\":[],\rdata: \"usage\":\rdata:{\"prompt_tokens\":7,\"completion_tokens\":3}}\r\r";
        let hidden = read_raw(usage, STAMP);
        assert_eq!((hidden.output.as_str(), hidden.usage.map(|usage| usage.generated)), ("", Some(3)));
        let raw = "id: 1\r\ndata: {\"choices\":[{\"delta\":\r\ndata: {\"content\":\"a\"}}]}\r\n\r\n";
        let chunk = read_raw(raw, STAMP);
        assert_eq!(chunk.kind, EventKind::Content(1));
        assert_eq!(
            chunk.output,
            "id: 1\ndata: {\"service_tier\":\"default\",\"choices\":[{\"delta\": {\"content\":\"a\"}}]}\n\n"
        );
        let text = "data: two\ndata: lines\n\n";
        assert_eq!(read_raw(text, STAMP).output, text, "what is no chunk passes as it came");
    }

    /// Case R11: the last event may lack its empty line; a piece of one is dropped.
    #[test]
    fn case_r11_a_last_event_without_its_empty_line_is_read() {
        let read = |rest: &str| {
            let mut reader = StreamReader::new(Api::Chat, STAMP);
            let mut out = BytesMut::new();
            let kind = reader.read_rest(rest.as_bytes(), &mut out);
            reader.flush(&mut out);
            (kind, reader.is_finished(), String::from_utf8(out.to_vec()).unwrap())
        };
        for rest in ["data: [DONE]", "data: [DONE]\n", "data: [DONE]\r"] {
            assert_eq!(read(rest), (EventKind::Done, true, "data: [DONE]\n\n".to_owned()));
        }
        let (kind, finished, out) = read("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}");
        assert_eq!((kind, finished), (EventKind::Preamble, true));
        assert!(out.ends_with("}\n\n"));
        for piece in ["data: {\"choices\":[{\"delta\":{\"content\":\"a", "data: [DO", "event: x", "", "data"]
        {
            assert_eq!(read(piece), (EventKind::Idle, false, String::new()), "{piece}");
        }
    }

    /// Case R12: what relays compare with the maximum.
    #[test]
    fn case_r12_the_steps_of_the_longest_answer_are_counted() {
        let mut reader = StreamReader::new(Api::Chat, Stamp { choices: 2, ..STAMP });
        for index in [0, 1, 1, 1] {
            let event =
                format!("data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"a\"}}}}]}}\n\n");
            reader.read(event.as_bytes(), &mut BytesMut::new());
        }
        assert_eq!(reader.steps_of_longest(), 3);
    }

    /// Case R01: tokens are known before the stream ends, of each choice and of all.
    #[test]
    fn case_r01_running_usage_is_known_in_the_middle_of_a_stream() {
        let vllm = Stamp { running: RunningUsage::Continuous { null_without: false }, choices: 2, ..STAMP };
        let mut reader = StreamReader::new(Api::Chat, vllm);
        let mut out = BytesMut::new();
        for (index, tokens) in [(0, 0), (1, 0), (0, 1), (1, 2), (0, 5)] {
            let event = format!(
                "data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"\"}}}}],\"usage\":{{\"prompt_tokens\":13,\"completion_tokens\":{tokens}}}}}\n\n"
            );
            reader.read(event.as_bytes(), &mut out);
        }
        assert_eq!(reader.running(), Some(7));
        assert_eq!(reader.usage().map(|usage| (usage.prompt, usage.generated)), Some((13, 7)));
        assert!(!String::from_utf8_lossy(&out).contains("usage"));
        let end = b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":13,\"completion_tokens\":9,\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\n";
        reader.read(end, &mut out);
        let usage = reader.usage().unwrap();
        assert_eq!((usage.prompt, usage.cached, usage.generated), (13, Some(4), 9), "the last one wins");
    }

    /// Case R01: a prompt's running usage says nothing of the other prompts.
    #[test]
    fn case_r01_running_usage_of_several_prompts_tells_no_prompt() {
        let stamp = Stamp { prompts: 2, choices: 2, ..STAMP };
        let stamp = Stamp { running: RunningUsage::Continuous { null_without: true }, ..stamp };
        let chunk =
            r#"{"choices":[{"index":1,"text":"a"}],"usage":{"prompt_tokens":5,"completion_tokens":1}}"#;
        let event = read_raw(&format!("data: {chunk}\n\n"), stamp);
        assert_eq!(event.usage.map(|usage| (usage.prompt, usage.generated)), Some((0, 1)));
        assert!(event.output.contains("\"usage\":null"), "{}", event.output);
    }

    proptest! {
        /// Wherever the members are that only we asked for, the rest of the chunk is what it was.
        #[test]
        fn case_r01_taking_reports_out_leaves_every_other_member(
            order in Just(vec!["usage", "timings", "choices", "id", "model", "service_tier"]).prop_shuffle(),
            kept in 3..=6usize,
            timings: bool,
        ) {
            let value = |name: &str| match name {
                "usage" => r#"{"prompt_tokens":7,"completion_tokens":1}"#,
                "timings" => r#"{"prompt_n":7,"predicted_n":1}"#,
                "choices" => r#"[{"index":0,"delta":{"content":"},\"usage\":{"}}]"#,
                _ => "\"x\"",
            };
            let mut names = order;
            names.truncate(kept);
            names.retain(|name| *name != "choices");
            names.push("choices");
            let members: Vec<String> = names.iter().map(|name| format!(" \"{name}\" : {} ", value(name))).collect();
            let json = format!("{{{}}}", members.join(","));
            let running = if timings { RunningUsage::Timings } else { RunningUsage::Continuous { null_without: false } };
            let stamp = Stamp { running, model: Some("\"shown\""), ..STAMP };

            let output = read_raw(&format!("data: {json}\n\n"), stamp).output;

            let mut expected: serde_json::Value = serde_json::from_str(&json).unwrap();
            let members = expected.as_object_mut().unwrap();
            if timings {
                members.remove("timings");
                members.entry("usage").and_modify(|usage| *usage = serde_json::Value::Null);
            } else {
                members.remove("usage");
            }
            members.entry("model").and_modify(|model| *model = "shown".into());
            members.insert("service_tier".to_owned(), "default".into());
            let output: serde_json::Value = serde_json::from_str(output.strip_prefix("data: ").unwrap()).unwrap();
            prop_assert_eq!(output, expected);
        }
    }

    /// Case R01: llama.cpp's timings with each token are the client's only where it asked, and at the end.
    #[test]
    fn case_r01_timings_are_read_and_taken_out_of_all_chunks_but_the_last() {
        let stream = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null}],\"timings\":{\"cache_n\":12,\"prompt_n\":1,\"predicted_n\":1}}\n\n\
            data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}],\"timings\":{\"cache_n\":12,\"prompt_n\":1,\"predicted_n\":2}}\n\n\
            data: [DONE]\n\n";
        let hidden = Stamp { running: RunningUsage::Timings, ..STAMP };
        let mut reader = StreamReader::new(Api::Chat, hidden);
        let first = stream.split_inclusive("\n\n").next().unwrap();
        reader.read(first.as_bytes(), &mut BytesMut::new());
        let usage = reader.usage().unwrap();
        assert_eq!((usage.prompt, usage.cached, usage.generated), (13, Some(12), 1));
        assert_eq!(reader.running(), Some(1));

        assert_eq!(read_all(stream, hidden).0.matches("\"timings\"").count(), 1);
        assert_eq!(
            read_all(stream, Stamp { running_shown: true, ..hidden }).0.matches("\"timings\"").count(),
            2
        );
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

    /// Case F01: whichever shape an error has inside a 200, and wherever it comes.
    #[test]
    fn case_f01_an_error_in_a_200_is_an_error_in_every_shape() {
        for error in [
            r#"{"error":{"message":"Invalid json_schema","type":"BadRequestError","param":null,"code":400}}"#,
            r#"{"object":"error","message":"Invalid json_schema","code":400}"#,
            r#"{"detail":"Invalid json_schema"}"#,
            r#"{"detail":[{"loc":["body"],"msg":"Invalid json_schema"}]}"#,
        ] {
            assert!(matches!(read(error, false).kind, EventKind::Error(_)), "{error}");
            for api in
                [Api::Chat, Api::Completions, Api::Responses, Api::Messages, Api::Embeddings, Api::Rerank]
            {
                let whole = read_whole(api, &Bytes::copy_from_slice(error.as_bytes()), STAMP);
                assert!(matches!(whole, Whole::Error(_)), "{api:?} {error}");
            }
        }
        for named in ["event: error\ndata: {\"message\":\"x\"}\n\n", "event: error\ndata: it died\n\n"] {
            let event = read_raw(named, STAMP);
            assert!(matches!(event.kind, EventKind::Error(_)), "{named}");
            assert_eq!(event.output, "");
        }
        let answer = Bytes::from_static(br#"{"data":[],"detail":"x"}"#);
        assert!(matches!(read_whole(Api::Embeddings, &answer, STAMP), Whole::Answer(..)));
    }

    #[test]
    fn an_error_with_a_200_is_no_answer() {
        let body = Bytes::from_static(br#"{"error":{"message":"busy","type":"overloaded","code":503}}"#);
        let Whole::Error(error) = read_whole(Api::Chat, &body, STAMP) else { panic!("an answer") };
        assert!(error.busy);
    }
}
