//! How an engine's answer is read, whichever API it speaks: what was generated, what was used, what we write into it.
//!
//! A [`StreamReader`] takes one event after the other, says what each means and appends what the client gets for it.
//! Bytes that need no change are copied once, into the piece that goes out. What an engine reports as an error inside a
//! 200 is told apart from an answer here, because it must never reach a client as it came.

pub mod chat;
pub mod edits;
pub mod messages;
pub mod passage;
pub mod responses;
pub mod sse;
pub mod upstream_error;
pub mod usage;

#[cfg(test)]
mod recorded;

use crate::api::Api;
use bytes::{Bytes, BytesMut};
use edits::Written;
use serde_json::value::RawValue;
use shedder::Tier;
use upstream_error::UpstreamError;
use usage::Usage;

/// What is written into answers by us.
#[derive(Debug, Clone, Copy)]
pub struct Stamp<'a> {
    /// The served tier.
    pub tier: Tier,
    /// The model as the client named it, as a JSON string, where the engine knows it by another name.
    pub model: Option<&'a str>,
    /// Whether the client asked for the usage of a stream.
    pub usage_asked: bool,
}

impl Stamp<'_> {
    /// `service_tier` as OpenAI's APIs call it.
    #[must_use]
    pub fn openai_tier(&self) -> Written {
        match self.tier {
            Tier::Priority => Written { value: "\"priority\"", member: "\"service_tier\":\"priority\"," },
            Tier::Regular => Written { value: "\"default\"", member: "\"service_tier\":\"default\"," },
        }
    }

    /// `usage.service_tier` as Anthropic's API calls it.
    #[must_use]
    pub fn anthropic_tier(&self) -> Written {
        match self.tier {
            Tier::Priority => Written { value: "\"priority\"", member: "\"service_tier\":\"priority\"," },
            Tier::Regular => Written { value: "\"standard\"", member: "\"service_tier\":\"standard\"," },
        }
    }
}

/// The kinds of events of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Roles, comments, pings, empty deltas: nothing generated yet.
    Preamble,
    /// Generated content; how many choices it advances.
    Content(u32),
    /// The engine reports an error inside the stream. Nothing was appended.
    Error(UpstreamError),
    /// The event without which a stream is not whole.
    Done,
}

/// Reads one stream.
#[derive(Debug)]
pub struct StreamReader<'a> {
    api: Api,
    stamp: Stamp<'a>,
    /// What is known of the usage so far.
    usage: Option<Usage>,
    /// Answers of the stream that have come to their end, where it carries several.
    ended: u32,
    /// Anthropic's usage comes in two parts.
    parts: messages::Parts,
    /// The number that an event of ours would have, where the API numbers its events.
    sequence: u64,
}

impl<'a> StreamReader<'a> {
    /// A reader of a stream of `api` that has seen nothing.
    #[must_use]
    pub fn new(api: Api, stamp: Stamp<'a>) -> Self {
        StreamReader { api, stamp, usage: None, ended: 0, parts: messages::Parts::default(), sequence: 0 }
    }

    /// The usage that came, the latest of several.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Answers that have come to their end, of a stream that carries several.
    #[must_use]
    pub fn ended(&self) -> u32 {
        self.ended
    }

    /// The number that an event of ours would have.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Reads one event with its closing empty line and appends what the client gets for it to `out`.
    ///
    /// Cost: one typed pass over the event and one copy; no allocation but what `out` needs.
    pub fn read(&mut self, event: &[u8], out: &mut BytesMut) -> EventKind {
        let json = sse::data_of(event).and_then(|data| std::str::from_utf8(data).ok());
        let read = json.and_then(|json| match self.api {
            Api::Chat | Api::Completions => {
                chat::read_event(event, json, self.stamp, &mut self.usage, &mut self.ended, out)
            }
            Api::Responses => {
                responses::read_event(event, json, self.stamp, &mut self.usage, &mut self.sequence, out)
            }
            Api::Messages => {
                messages::read_event(event, json, self.stamp, &mut self.usage, &mut self.parts, out)
            }
            Api::CountTokens | Api::Embeddings | Api::Rerank | Api::Score => None,
        });
        // What is no event of this API passes as it came: a comment, an unknown extension.
        read.unwrap_or_else(|| {
            out.extend_from_slice(event);
            EventKind::Preamble
        })
    }
}

/// A whole answer, read.
#[derive(Debug, PartialEq, Eq)]
pub enum Whole {
    /// An answer: its usage, and the bytes for the client.
    Answer(Option<Usage>, Bytes),
    /// An error that came with a 200.
    Error(UpstreamError),
    /// Not a JSON object.
    Unreadable,
}

/// Reads a whole answer of `api`. One typed pass and one copy.
#[must_use]
pub fn read_whole(api: Api, body: &Bytes, stamp: Stamp<'_>) -> Whole {
    let Some(json) = std::str::from_utf8(body).ok().filter(|json| is_object(json)) else {
        return Whole::Unreadable;
    };
    let read = match api {
        Api::Chat | Api::Completions | Api::Embeddings | Api::Rerank | Api::Score => {
            chat::read_whole(body, json, stamp)
        }
        Api::Responses => responses::read_whole(body, json, stamp),
        Api::Messages | Api::CountTokens => messages::read_whole(body, json, stamp),
    };
    read.unwrap_or(Whole::Unreadable)
}

/// Whether `json` begins as an object: typed structs would also be read from an array, member by member.
pub(super) fn is_object(json: &str) -> bool {
    json.trim_ascii_start().starts_with('{')
}

/// A member that is there, `null` included: its place matters even then.
pub(super) fn present<'de: 'a, 'a, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    use serde::Deserialize as _;
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// What is neither null nor empty.
pub(super) fn has_value(value: &RawValue) -> bool {
    !matches!(value.get(), "null" | "\"\"" | "[]" | "{}")
}

/// The error in `json`, if `error` is set.
pub(super) fn reported(error: Option<&RawValue>, json: &str) -> Option<UpstreamError> {
    error.filter(|error| error.get() != "null")?;
    Some(UpstreamError::from_json(json).unwrap_or_else(UpstreamError::without_message))
}
