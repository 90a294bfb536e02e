//! The top-level members of a request body that decide something, borrowed from the bytes as they came.
//!
//! Engines written in Python take the last of two equal keys, some written in Go match keys without regard to
//! case, and we would take the first: three readings of one body, and the cheapest one would be charged. So a
//! decisive key that comes twice, or in another spelling, is refused. Values stay raw slices of the body: no
//! tree is built of untrusted input, and the offsets say where to splice.
//!
//! Cost: one validating pass of `serde_json`, no allocation but for keys with escapes.

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::ops::Range;

/// Declares the decisive keys once: the enum, its number and its spelling.
macro_rules! members {
    ($($name:ident = $key:literal),+ $(,)?) => {
        /// A top-level key that decides something about a request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Member { $(#[doc = concat!("`", $key, "`")] $name),+ }
        /// Every decisive key, in the order of [`Member`].
        const KEYS: &[(&str, Member)] = &[$(($key, Member::$name)),+];
        const COUNT: usize = KEYS.len();
    };
}

members! {
    Model = "model",
    Stream = "stream",
    StreamOptions = "stream_options",
    MaxTokens = "max_tokens",
    MaxCompletionTokens = "max_completion_tokens",
    MaxOutputTokens = "max_output_tokens",
    NPredict = "n_predict",
    N = "n",
    BestOf = "best_of",
    NCmpl = "n_cmpl",
    ServiceTier = "service_tier",
    Messages = "messages",
    Prompt = "prompt",
    Input = "input",
    System = "system",
    Instructions = "instructions",
    Tools = "tools",
    Functions = "functions",
    Suffix = "suffix",
    Echo = "echo",
    Query = "query",
    Queries = "queries",
    Documents = "documents",
    Items = "items",
    Text1 = "text_1",
    Text2 = "text_2",
    Data1 = "data_1",
    Data2 = "data_2",
    EncodingFormat = "encoding_format",
    Background = "background",
    PreviousResponseId = "previous_response_id",
    Conversation = "conversation",
    Metadata = "metadata",
    User = "user",
    PromptCacheKey = "prompt_cache_key",
}

impl Member {
    /// The key as it must be spelled.
    #[must_use]
    pub fn name(self) -> &'static str {
        KEYS.get(self as usize).map_or("", |(key, _)| key)
    }
}

/// The decisive members of one body.
#[derive(Debug, Clone, Copy)]
pub struct Members<'a> {
    values: [Option<&'a RawValue>; COUNT],
    body_at: usize,
}

impl<'a> Members<'a> {
    /// Reads `body`, which must be one JSON object. O(bytes).
    ///
    /// # Errors
    /// A sentence for the client: not JSON, not an object, a decisive key twice or in another spelling.
    pub fn read(body: &'a str) -> Result<Self, String> {
        let mut parser = serde_json::Deserializer::from_str(body);
        let values = parser
            .parse_object()
            .and_then(|values| parser.end().map(|()| values))
            .map_err(|e| format!("The request body could not be read as a JSON object: {e}."))?;
        Ok(Members { values, body_at: body.as_ptr() as usize })
    }

    /// The raw value of `member`; `null` counts as absent.
    #[must_use]
    pub fn raw(&self, member: Member) -> Option<&'a str> {
        let raw = self.values.get(member as usize).copied().flatten()?.get();
        (raw != "null").then_some(raw)
    }

    /// Where the value of `member` lies in the body, `null` included.
    #[must_use]
    pub fn span(&self, member: Member) -> Option<Range<usize>> {
        let raw = self.values.get(member as usize).copied().flatten()?.get();
        let start = (raw.as_ptr() as usize).checked_sub(self.body_at)?;
        Some(start..start + raw.len())
    }
}

trait ParseObject<'a> {
    fn parse_object(&mut self) -> Result<[Option<&'a RawValue>; COUNT], serde_json::Error>;
}

impl<'a> ParseObject<'a> for serde_json::Deserializer<serde_json::de::StrRead<'a>> {
    fn parse_object(&mut self) -> Result<[Option<&'a RawValue>; COUNT], serde_json::Error> {
        use serde::Deserializer as _;
        self.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = [Option<&'de RawValue>; COUNT];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = [None; COUNT];
        while let Some(key) = map.next_key_seed(KeySeed)? {
            match key {
                Key::Decisive(member) => {
                    let slot =
                        values.get_mut(member as usize).ok_or_else(|| A::Error::custom("no such key"))?;
                    if slot.is_some() {
                        return Err(A::Error::custom(format_args!(
                            "the key `{}` comes twice",
                            member.name()
                        )));
                    }
                    *slot = Some(map.next_value::<&RawValue>()?);
                }
                Key::Twin(found, member) => {
                    return Err(A::Error::custom(format_args!(
                        "the key `{found}` must be spelled `{}`",
                        member.name()
                    )));
                }
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(values)
    }
}

enum Key {
    Decisive(Member),
    Twin(String, Member),
    Other,
}

struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(KeySeed)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Key, E> {
        for &(known, member) in KEYS {
            if key == known {
                return Ok(Key::Decisive(member));
            }
            if key.eq_ignore_ascii_case(known) {
                return Ok(Key::Twin(key.to_owned(), member));
            }
        }
        Ok(Key::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisive_values_are_found_with_their_place() {
        let body = r#" {"x":[1,{"model":"no"}],"model" : "m\u0031","stream":true,"n":null} "#;

        let members = Members::read(body).unwrap();

        assert_eq!(members.raw(Member::Model), Some(r#""m\u0031""#));
        assert_eq!(&body[members.span(Member::Model).unwrap()], r#""m\u0031""#);
        assert_eq!(members.raw(Member::N), None, "null is absent");
        assert_eq!(&body[members.span(Member::N).unwrap()], "null", "but its place is known");
        assert_eq!(members.raw(Member::Messages), None);
    }

    #[test]
    fn a_decisive_key_twice_is_refused_also_when_escaped() {
        for body in
            [r#"{"model":"a","model":"b"}"#, r#"{"model":"a","\u006dodel":"b"}"#, r#"{"n":1,"n":null}"#]
        {
            let fault = Members::read(body).unwrap_err();
            assert!(fault.contains("comes twice"), "{fault}");
        }
    }

    #[test]
    fn another_spelling_of_a_decisive_key_is_refused() {
        let fault = Members::read(r#"{"Model":"a"}"#).unwrap_err();
        assert!(fault.contains("must be spelled `model`"), "{fault}");
    }

    #[test]
    fn other_keys_may_repeat_because_they_decide_nothing() {
        assert!(Members::read(r#"{"model":"a","x":1,"x":2}"#).is_ok());
    }

    #[test]
    fn what_is_not_one_json_object_is_refused() {
        for body in [
            "",
            "[]",
            "1",
            "{",
            r#"{"model":"a"} x"#,
            r#"{"model":NaN}"#,
            "\u{feff}{}",
            r#"{"model":"\ud800"}"#,
        ] {
            assert!(Members::read(body).is_err() || body.contains("ud800"), "{body}");
        }
    }
}
