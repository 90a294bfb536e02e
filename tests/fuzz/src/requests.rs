//! What clients send: bodies, their framing, keys.

use crate::pieces;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use protocol::api::Api;
use protocol::credential;
use protocol::engine::Engine;
use protocol::framing::{chunked, head};
use protocol::json::depth::nests_at_most;
use protocol::json::members::{Member, Members};
use protocol::request::call::Call;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use shedder::Tier;
use std::fmt;

/// As deep as a body may nest where nothing else is configured.
const DEPTH_MAX: u32 = 64;
/// The name of the model at the engine.
const SERVED: &str = "served";
const ENGINES: [Engine; 4] = [Engine::Vllm, Engine::Sglang, Engine::Llamacpp, Engine::Openai];

/// A body is refused, or what is sent to an engine in its place is JSON, and read as what was admitted.
pub fn request(bytes: &[u8]) {
    for api in Api::ALL {
        let Ok(call) = Call::read(api, Bytes::copy_from_slice(bytes), DEPTH_MAX) else { continue };
        assert!(call.prompt_bytes() <= bytes.len() as u64, "more prompt than body");
        let _ = (call.prompt_text(), call.prompt_tokens_max());
        for engine in ENGINES {
            let stamp = call.stamp(SERVED, engine, Tier::Priority);
            assert_eq!(stamp.choices, call.choices);
            sent(&call, api, engine);
        }
        call.give_up_body();
        assert!(call.body().is_empty());
    }
}

fn sent(call: &Call, api: Api, engine: Engine) {
    let sent = Bytes::from(call.forwarded(SERVED, engine, Tier::Regular, Vec::new()).concat());
    let again = match Call::read(api, sent.clone(), DEPTH_MAX + 1) {
        Ok(again) => again,
        Err(refusal) => panic!("what is sent would be refused, {refusal:?}: {sent:?}"),
    };
    assert_eq!(
        (again.model.as_str(), again.stream, again.choices, again.max_tokens),
        (SERVED, call.stream, call.choices, call.max_tokens),
        "{sent:?}"
    );
    assert_eq!(again.prompt_bytes(), call.prompt_bytes(), "{sent:?}");
}

/// For what a parser takes, the scan finds the depth that the parser finds.
pub fn depth(bytes: &[u8]) {
    let scanned = (0..=bytes.len() as u32).find(|&most| nests_at_most(bytes, most));
    let Some(scanned) = scanned else { panic!("deeper than bytes") };
    if let Ok(Depth(parsed)) = serde_json::from_slice(bytes) {
        assert_eq!(scanned, parsed, "{:?}", String::from_utf8_lossy(bytes));
    }
}

/// How deep a parser went. Not the depth of a parsed value, which keeps one of several members of a name.
struct Depth(u32);

impl<'de> Deserialize<'de> for Depth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Depth(0))
    }
}

impl<'de> Visitor<'de> for Depth {
    type Value = Depth;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Depth, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Depth, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Depth, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Depth, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Depth, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Depth, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Depth, A::Error> {
        let mut most = 0;
        while let Some(inner) = seq.next_element::<Depth>()? {
            most = inner.0.max(most);
        }
        Ok(Depth(1 + most))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Depth, A::Error> {
        let mut most = 0;
        while let Some((_, inner)) = map.next_entry::<IgnoredAny, Depth>()? {
            most = inner.0.max(most);
        }
        Ok(Depth(1 + most))
    }
}

/// What is read of a body lies where it is said to lie, and is what a parser finds under that name.
pub fn members(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if !nests_at_most(bytes, DEPTH_MAX) {
        return;
    }
    let Ok(members) = Members::read(text) else { return };
    let Ok(Value::Object(parsed)) = serde_json::from_str(text) else {
        // A number beyond what a float can be is JSON all the same.
        return;
    };
    for parameter in members.parameters(text) {
        let value = text.get(parameter.value.clone());
        assert!(value.is_some_and(|value| serde_json::from_str::<Value>(value).is_ok()), "{parameter:?}");
        assert!(parsed.contains_key(parameter.name(bytes)), "{parameter:?}");
        assert!(text.get(parameter.span()).is_some_and(|span| span.starts_with('"')), "{parameter:?}");
    }
    for member in [Member::Model, Member::Stream, Member::Messages, Member::MaxTokens] {
        let read = members.raw(member).map(|raw| serde_json::from_str::<Value>(raw).ok());
        let expected = parsed.get(member.name()).filter(|value| !value.is_null());
        assert_eq!(read.flatten().as_ref(), expected, "{}", member.name());
    }
}

/// A chunked body, in one piece and in several: the same bytes, or malformed both times.
pub fn framing(bytes: &[u8]) {
    let (content, cut) = pieces(bytes);
    let (at_once, in_pieces) = (decoded([content]), decoded(cut));
    assert_eq!(at_once, in_pieces);
    let _ = (head::line_ends(content), head::has_line(content, b"expect"));
}

/// The body, whether it is whole, and what came behind it; `None`: malformed.
fn decoded<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<(Vec<u8>, bool, usize)> {
    let (mut decoder, mut body, mut behind) = (chunked::Decoder::new(), Vec::new(), 0);
    for piece in pieces {
        let mut received = Bytes::copy_from_slice(piece);
        while let Some(part) = decoder.next(&mut received).ok()? {
            body.extend_from_slice(&part);
        }
        behind += received.len();
    }
    Some((body, decoder.is_done(), behind))
}

/// Lines of headers: one key or a refusal, a length or a refusal.
pub fn key(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|&byte| byte == b'\n').take(64) {
        let (name, value) = line.split_at(line.iter().position(|&byte| byte == b':').unwrap_or(line.len()));
        let name = HeaderName::from_bytes(name.trim_ascii());
        let value = HeaderValue::from_bytes(value.get(1..).unwrap_or_default());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    if let Ok(key) = credential::key(&headers) {
        assert!(!key.is_empty() && key.trim_ascii() == key, "{key:?}");
        let key = String::from_utf8_lossy(key);
        let _ = (config::keys::is_mistyped(&key), config::keys::Digest::of(&key));
    }
    let _ = (head::length(&headers), head::codings(&headers));
    let _ = config::keys::Digest::parse(&String::from_utf8_lossy(bytes));
}
