//! Recorded answers of real engines, played in every way that a network can deliver them.
//!
//! For each: any split of the bytes gives the same output; what comes out is what went in but for the values that are
//! ours; and what is counted is what the engine said.

use super::sse::SseSplitter;
use super::usage::Usage;
use super::{EventKind, Stamp, StreamReader, Whole, read_whole};
use crate::api::Api;
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use serde_json::Value;
use shedder::Tier;

macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!("fixtures/", $name, ".http"))
    };
}

/// A stream of some API: the recording, its content events, and its usage as prompt, cached, generated.
type Recording = (Api, &'static str, u32, Option<(u64, Option<u64>, u64)>);

const STREAMS: [Recording; 9] = [
    (Api::Chat, recorded!("vllm-0.32.0-chat-stream-usage"), 3, Some((13, Some(0), 3))),
    (Api::Chat, recorded!("vllm-0.32.0-chat-stream-continuous-usage"), 3, Some((13, Some(0), 3))),
    (Api::Chat, recorded!("vllm-0.32.0-chat-stream-nousage"), 3, None),
    (Api::Chat, recorded!("llamacpp-chat-stream-usage"), 3, Some((13, Some(12), 3))),
    (Api::Chat, recorded!("llamacpp-chat-stream-nousage"), 2, None),
    (Api::Completions, recorded!("vllm-0.32.0-completions-stream"), 3, Some((1, Some(0), 3))),
    (Api::Responses, recorded!("vllm-0.32.0-responses-stream"), 14, Some((11, Some(0), 16))),
    (Api::Messages, recorded!("vllm-0.32.0-messages-stream"), 3, Some((11, Some(0), 3))),
    (Api::Messages, recorded!("llamacpp-messages-stream"), 3, Some((11, Some(10), 3))),
];

const STAMP: Stamp<'static> = Stamp { tier: Tier::Priority, model: Some("\"shown\""), usage_asked: true };

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
                EventKind::Preamble => {}
                EventKind::Error(error) => panic!("{error:?}"),
            }
        }
    }
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
        expected.retain(|(_, event)| event["choices"] != serde_json::json!([]));
        for (_, event) in &mut expected {
            if let Some(usage) = event.get_mut("usage") {
                *usage = Value::Null;
            }
        }
        assert_eq!((events(&played.output), played.content), (expected, content));
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
        cuts in proptest::collection::vec(0usize..6_000, 0..40),
    ) {
        let (api, recording, ..) = STREAMS[nth];
        let stamp = Stamp { usage_asked, ..STAMP };
        let body = body(recording);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % body.len()).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect();

        prop_assert_eq!(play(api, stamp, pieces), play(api, stamp, [body]));
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
