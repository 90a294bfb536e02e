//! Recorded answers of real engines, played in every way that a network can deliver them.
//!
//! For each: any split of the bytes gives the same output; what comes out is what went in but for the values that are
//! ours; and what is counted is what the engine said.

use super::sse::SseSplitter;
use super::usage::Usage;
use super::{EventKind, Stamp, StreamReader, Whole, read_whole};
use crate::api::Api;
use crate::engine::RunningUsage;
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use serde_json::Value;
use shedder::Tier;

macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!("fixtures/", $name, ".http"))
    };
}

/// A stream of some API: the recording, its content events, and its usage as prompt, cached,
/// generated, where there is none from the timings.
type Recording = (Api, &'static str, u32, Option<(u64, Option<u64>, u64)>);

const STREAMS: [Recording; 9] = [
    (Api::Chat, recorded!("vllm-0.32.0-chat-stream-usage"), 3, Some((13, Some(0), 3))),
    (Api::Chat, recorded!("vllm-0.32.0-chat-stream-continuous-usage"), 3, Some((13, Some(0), 3))),
    (Api::Chat, recorded!("vllm-0.32.0-chat-stream-nousage"), 3, None),
    (Api::Chat, recorded!("llamacpp-chat-stream-usage"), 3, Some((13, Some(12), 3))),
    (Api::Chat, recorded!("llamacpp-chat-stream-nousage"), 2, Some((13, Some(12), 3))),
    (Api::Completions, recorded!("vllm-0.32.0-completions-stream"), 3, Some((1, Some(0), 3))),
    (Api::Responses, recorded!("vllm-0.32.0-responses-stream"), 14, Some((11, Some(0), 16))),
    (Api::Messages, recorded!("vllm-0.32.0-messages-stream"), 3, Some((11, Some(0), 3))),
    (Api::Messages, recorded!("llamacpp-messages-stream"), 3, Some((11, Some(10), 3))),
];

const STAMP: Stamp<'static> =
    Stamp { model: Some("\"shown\""), usage_asked: true, ..Stamp::of(Tier::Priority) };

/// The body of a recording; one of them has no head.
fn body(recording: &'static str) -> &'static [u8] {
    recording.split_once("\r\n\r\n").map_or(recording, |(_, body)| body).as_bytes()
}

#[derive(Debug, Default, PartialEq)]
struct Played {
    output: Vec<u8>,
    content: u32,
    done: u32,
    usage: Option<Usage>,
}

fn play<'a>(api: Api, stamp: Stamp<'_>, pieces: impl IntoIterator<Item = &'a [u8]>) -> Played {
    let mut splitter = SseSplitter::default();
    let mut reader = StreamReader::new(api, stamp);
    let mut output = BytesMut::new();
    let mut played = Played::default();
    for piece in pieces {
        splitter.push(Bytes::copy_from_slice(piece)).unwrap();
        while let Some(event) = splitter.next_event() {
            match reader.read(&event, &mut output) {
                EventKind::Content(choices) => played.content += choices,
                EventKind::Done => played.done += 1,
                EventKind::Preamble | EventKind::Idle => {}
                EventKind::Error(error) => panic!("{error:?}"),
            }
        }
    }
    reader.flush(&mut output);
    played.usage = reader.usage();
    played.output = output.to_vec();
    played
}

/// The events of a stream as values, without what is ours to write.
fn events(output: &[u8]) -> Vec<(Option<String>, Value)> {
    let mut name = None;
    let mut events = Vec::new();
    for line in std::str::from_utf8(output).unwrap().lines() {
        if let Some(found) = line.strip_prefix("event: ") {
            name = Some(found.to_owned());
        }
        if let Some(data) = line.strip_prefix("data: ") {
            let mut value = serde_json::from_str(data).unwrap_or_else(|_| Value::from(data));
            forget(&mut value);
            events.push((name.take(), value));
        }
    }
    events
}

fn forget(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("service_tier");
            members.remove("model");
            members.values_mut().for_each(forget);
        }
        Value::Array(values) => values.iter_mut().for_each(forget),
        _ => {}
    }
}

#[test]
fn recorded_streams_are_read_whole_and_counted_as_the_engine_counted() {
    for (nth, (api, recording, content, usage)) in STREAMS.into_iter().enumerate() {
        let played = play(api, STAMP, [body(recording)]);
        assert_eq!((played.content, played.done), (content, 1), "recording {nth}");
        assert_eq!(played.usage.map(|u| (u.prompt, u.cached, u.generated)), usage, "recording {nth}");
        assert_eq!(events(&played.output), events(body(recording)), "recording {nth}");
        let text = String::from_utf8(played.output).unwrap();
        assert!(
            !text.contains("\"model\":\"tiny\"") && text.contains("\"service_tier\":\"priority\""),
            "{text}"
        );
    }
}

#[test]
fn who_asked_for_no_usage_gets_the_same_events_but_that_one() {
    for (api, recording, content, _) in STREAMS.into_iter().filter(|(api, ..)| api.form().stream_options) {
        let played = play(api, Stamp { usage_asked: false, ..STAMP }, [body(recording)]);
        let mut expected = events(body(recording));
        let usage = expected.iter().position(|(_, event)| event["choices"] == serde_json::json!([]));
        let usage = usage.map(|at| expected.remove(at).1);
        for (_, event) in &mut expected {
            if let Some(usage) = event.get_mut("usage") {
                *usage = Value::Null;
            }
        }
        // What else came with the usage belongs to the chunk before `[DONE]`.
        let last = expected.len() - 2;
        for (name, value) in usage.iter().filter_map(Value::as_object).flatten() {
            if name != "usage" && expected[last].1.get(name).is_none() {
                expected[last].1[name] = value.clone();
            }
        }
        assert_eq!((events(&played.output), played.content), (expected, content));
    }
}

/// The answer of a recording as the client gets it, with the id and the texts of another recording of the same request.
fn like(stamp: Stamp<'_>, recording: &'static str, instead: &[(&str, &str)]) -> String {
    let output = play(Api::Chat, stamp, [body(recording)]).output;
    instead.iter().fold(String::from_utf8(output).unwrap(), |text, (own, other)| text.replace(own, other))
}

const CONTINUOUS: RunningUsage = RunningUsage::Continuous { null_without: false };

/// Whatever was asked of vLLM for our sake, the client gets the bytes that it would have got without.
#[test]
fn case_r01_case_r09_the_bytes_are_those_of_an_engine_that_was_not_asked() {
    let no_usage = recorded!("vllm-0.32.0-chat-stream-nousage");
    let usage = recorded!("vllm-0.32.0-chat-stream-usage");
    let continuous = recorded!("vllm-0.32.0-chat-stream-continuous-usage");
    let from_usage = [
        ("chatcmpl-90460529b25a1da7", "chatcmpl-830968529107edf7"),
        ("\"gn\"", "\" @\""),
        ("\"HAVE\"", "\" drive\""),
        ("\"as\"", "\" spaces\""),
    ];
    let from_continuous = [
        ("chatcmpl-a344782f113c21fd", "chatcmpl-830968529107edf7"),
        ("////", " @"),
        ("\" ne\"", "\" drive\""),
        ("mtp", " spaces"),
    ];
    let plain = Stamp { usage_asked: false, ..STAMP };
    let expected = like(plain, no_usage, &[]);
    assert!(expected.contains("system_fingerprint"));

    assert_eq!(like(plain, usage, &from_usage), expected);
    let asked_by_us = Stamp { running: CONTINUOUS, ..plain };
    assert_eq!(like(asked_by_us, continuous, &from_continuous), expected);
    assert_eq!(like(asked_by_us, no_usage, &[]), expected);

    let with_usage = like(STAMP, usage, &from_usage);
    let running_by_us = Stamp { running: CONTINUOUS, ..STAMP };
    assert_eq!(like(running_by_us, continuous, &from_continuous), with_usage);
    let running_by_both = Stamp { running_shown: true, ..running_by_us };
    assert_eq!(like(running_by_both, continuous, &[]).matches("\"usage\":{").count(), 5);
}

/// llama.cpp puts its timings into the chunk with the usage, and without one into the last chunk.
#[test]
fn case_r09_timings_of_llama_cpp_are_where_they_are_without_usage() {
    let plain = Stamp { usage_asked: false, ..STAMP };
    let hidden = like(
        plain,
        recorded!("llamacpp-chat-stream-usage"),
        &[("chatcmpl-vUpY8tNZ7CTyvFX0F5k6EYyjT0tCPL8W", "chatcmpl-UW4MR0SuUUEGoWKP3PmuYtQHH9DyJuex")],
    );
    let without = like(plain, recorded!("llamacpp-chat-stream-nousage"), &[]);
    let last = |stream: &str| -> String {
        let chunk = stream.split("\n\n").find(|event| event.contains("\"length\"")).unwrap();
        chunk.split("\"prompt_ms\"").next().unwrap().to_owned()
    };
    assert!(last(&without).contains("\"timings\":{\"cache_n\":12,"));
    assert_eq!(last(&hidden), last(&without));
}

#[test]
fn case_r01_recorded_running_usage_is_known_before_the_end() {
    let stream = body(recorded!("vllm-0.32.0-chat-stream-continuous-usage"));
    let mut reader = StreamReader::new(Api::Chat, Stamp { running: CONTINUOUS, ..STAMP });
    let text = std::str::from_utf8(stream).unwrap();
    let running: Vec<_> = text
        .split_inclusive("\n\n")
        .map(|event| {
            reader.read(event.as_bytes(), &mut BytesMut::new());
            reader.running().unwrap()
        })
        .collect();
    assert_eq!(running, [0, 1, 2, 3, 3, 3]);
}

#[test]
fn case_r04_every_recorded_stream_is_finished_before_its_last_event() {
    for (nth, (api, recording, ..)) in STREAMS.into_iter().enumerate() {
        let text = std::str::from_utf8(body(recording)).unwrap();
        let events: Vec<&str> = text.split_inclusive("\n\n").collect();
        let mut reader = StreamReader::new(api, STAMP);
        for event in &events[..events.len() - 1] {
            reader.read(event.as_bytes(), &mut BytesMut::new());
        }
        assert_eq!(reader.is_finished(), api != Api::Responses, "recording {nth}");
        let end = reader.missing_end();
        assert_eq!(
            end,
            (api != Api::Responses).then(|| events[events.len() - 1].as_bytes()),
            "recording {nth}"
        );
    }
}

#[test]
fn recorded_answers_keep_every_other_byte() {
    for (api, recording, tokens) in [
        (Api::Chat, recorded!("llamacpp-chat"), 4),
        (Api::Completions, recorded!("vllm-0.32.0-completions"), 3),
    ] {
        let body = Bytes::from_static(body(recording));
        let Whole::Answer(usage, out) = read_whole(api, &body, STAMP) else { panic!("no answer") };
        assert_eq!(usage.map(|usage| usage.generated), Some(tokens));
        let (mut out, mut expected): (Value, Value) =
            (serde_json::from_slice(&out).unwrap(), serde_json::from_slice(&body).unwrap());
        assert_eq!((&out["service_tier"], &out["model"]), (&Value::from("priority"), &Value::from("shown")));
        forget(&mut out);
        forget(&mut expected);
        assert_eq!(out, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_split_of_the_bytes_gives_the_same_output(
        nth in 0..STREAMS.len(),
        usage_asked: bool,
        running in 0..4usize,
        cuts in proptest::collection::vec(0usize..6_000, 0..40),
    ) {
        let (api, recording, ..) = STREAMS[nth];
        let null = RunningUsage::Continuous { null_without: true };
        let running = [RunningUsage::None, CONTINUOUS, null, RunningUsage::Timings][running];
        let stamp = Stamp { usage_asked, running, ..STAMP };
        let body = body(recording);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % body.len()).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect();

        prop_assert_eq!(play(api, stamp, pieces), play(api, stamp, [body]));
    }
}

/// The events of a stream whose lines end in any way.
fn events_of_lines(output: &[u8]) -> Vec<(Option<String>, Value)> {
    let text = std::str::from_utf8(output).unwrap();
    events(text.replace("\r\n", "\n").replace('\r', "\n").as_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// The same stream with other line ends, a mark at its start, its data on several lines, and in any pieces.
    #[test]
    fn case_r11_any_spelling_of_a_stream_is_the_same_stream(
        nth in 0..STREAMS.len(),
        end in 0..3usize,
        several: bool,
        mark: bool,
        usage_asked: bool,
        cuts in proptest::collection::vec(0usize..6_000, 0..40),
    ) {
        let (api, recording, ..) = STREAMS[nth];
        let stamp = Stamp { usage_asked, ..STAMP };
        let plain = play(api, stamp, [body(recording)]);
        let end = ["\n", "\r\n", "\r"][end];
        let mut text = std::str::from_utf8(body(recording)).unwrap().replace("data: {", "id: 1\ndata: {");
        if several {
            text = text.replace("data: {", "data: {\nretry: 9\ndata:");
        }
        let text = format!("{}{}", if mark { "\u{feff}" } else { "" }, text.replace('\n', end));
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % text.len()).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();

        let played = play(api, stamp, pieces);

        prop_assert_eq!(events_of_lines(&played.output), events(&plain.output));
        prop_assert_eq!((played.content, played.done, played.usage), (plain.content, plain.done, plain.usage));
    }
}

/// Byte by byte, the hardest split of all.
#[test]
fn one_byte_at_a_time_gives_the_same_output() {
    for (api, recording, ..) in STREAMS {
        let body = body(recording);
        assert_eq!(play(api, STAMP, body.chunks(1)), play(api, STAMP, [body]));
    }
}
