//! What engines answer: streams, whole answers, usage, errors.

use crate::pieces;
use bytes::{Bytes, BytesMut};
use protocol::answer::passage::{Ending, Passage};
use protocol::answer::sse::SseSplitter;
use protocol::answer::upstream_error::{MESSAGE_CHARS_MAX, UpstreamError};
use protocol::answer::usage::Usage;
use protocol::answer::{EventKind, Stamp, StreamReader, Whole, read_whole, text};
use protocol::api::Api;
use protocol::engine::RunningUsage;
use protocol::json::depth::nests_at_most;
use serde_json::Value;
use shedder::Tier;

const STREAMED: [Api; 4] = [Api::Chat, Api::Completions, Api::Responses, Api::Messages];
/// No number of an engine is believed beyond this.
const TOKENS_MAX: u64 = 1 << 40;

fn stamps() -> [Stamp<'static>; 3] {
    let plain = Stamp::of(Tier::Regular);
    let named =
        Stamp { model: Some("\"shown\""), usage_asked: true, choices: 2, ..Stamp::of(Tier::Priority) };
    let running = Stamp { running: RunningUsage::Continuous { null_without: false }, ..plain };
    [plain, named, running]
}

/// A stream, in one piece and in several.
pub fn stream(bytes: &[u8]) {
    let (content, cut) = pieces(bytes);
    for api in STREAMED {
        for stamp in stamps() {
            let at_once = Played::of(api, stamp, [content]);
            assert_eq!(at_once, Played::of(api, stamp, cut.iter().copied()), "{api:?}");
            if let Some(usage) = at_once.usage {
                is_possible(usage);
            }
        }
    }
}

/// What became of a stream.
#[derive(Debug, Default, PartialEq)]
struct Played {
    output: Vec<u8>,
    kinds: Vec<EventKind>,
    usage: Option<Usage>,
    running: Option<u64>,
    finished: bool,
    ended: u32,
}

impl Played {
    fn of<'a>(api: Api, stamp: Stamp<'_>, pieces: impl IntoIterator<Item = &'a [u8]>) -> Played {
        let (mut splitter, mut reader) = (SseSplitter::default(), StreamReader::new(api, stamp));
        let (mut output, mut kinds) = (BytesMut::new(), Vec::new());
        for piece in pieces {
            if splitter.push(Bytes::copy_from_slice(piece)).is_err() {
                break;
            }
            while let Some(event) = splitter.next_event() {
                kinds.push(reader.read(&event, &mut output));
            }
        }
        kinds.push(reader.read_rest(&splitter.take_rest(), &mut output));
        reader.flush(&mut output);
        Played {
            output: output.to_vec(),
            kinds,
            usage: reader.usage(),
            running: reader.running(),
            finished: reader.is_finished(),
            ended: reader.ended(),
        }
    }
}

/// A whole answer that passes through in pieces, and read at once.
pub fn whole(bytes: &[u8]) {
    let (content, cut) = pieces(bytes);
    for stamp in stamps() {
        let (at_once, in_pieces) = (passed(stamp, [content]), passed(stamp, cut.iter().copied()));
        assert_eq!(at_once, in_pieces);
        let is_object = content.trim_ascii_start().starts_with(b"{");
        if is_object && nests_at_most(content, 100) && serde_json::from_slice::<Value>(content).is_ok() {
            assert!(at_once.1, "{:?} is not complete", String::from_utf8_lossy(content));
        }
    }
    let body = Bytes::copy_from_slice(content);
    for api in Api::ALL {
        for stamp in stamps() {
            if let Whole::Answer(usage, answer) = read_whole(api, &body, stamp) {
                assert!(std::str::from_utf8(&answer).is_ok(), "{answer:?}");
                usage.into_iter().for_each(is_possible);
            }
        }
        assert!(text::generated_bytes(api, content) <= content.len() as u64, "{api:?}");
    }
}

/// The output, whether it is complete, and what was read on the way.
fn passed<'a>(
    stamp: Stamp<'_>,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<u8>, bool, Option<Usage>, Option<UpstreamError>) {
    let mut passage = Passage::new(stamp);
    let mut output = Vec::new();
    for piece in pieces {
        output.extend_from_slice(&passage.push(Bytes::copy_from_slice(piece)));
    }
    let (rest, ending) = passage.finish();
    output.extend_from_slice(&rest);
    (output, ending == Ending::Complete, passage.usage(), passage.error())
}

/// Reports of usage, in every form, alone and one behind the other.
pub fn usage(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (first, second) = text.split_once('\n').unwrap_or((text, ""));
    for read in [Usage::from_openai, Usage::from_responses, Usage::from_timings] {
        let before = read(first);
        before.into_iter().for_each(is_possible);
        if let Some(usage) = read(second) {
            is_possible(usage.after(before));
        }
    }
}

fn is_possible(usage: Usage) {
    assert!(usage.generated <= TOKENS_MAX && usage.prompt <= 2 * TOKENS_MAX, "{usage:?}");
    assert!(usage.cached.is_none_or(|cached| cached <= usage.prompt), "{usage:?}");
}

/// An error's body, under statuses that are read differently.
pub fn error(bytes: &[u8]) {
    for status in [200, 400, 404, 422, 429, 500, 503] {
        let error = UpstreamError::from_body(status, bytes);
        assert!(error.message.chars().count() <= MESSAGE_CHARS_MAX, "{} bytes", error.message.len());
        assert_eq!(error.status, Some(status));
    }
    let _ = std::str::from_utf8(bytes).map(UpstreamError::from_json);
}
