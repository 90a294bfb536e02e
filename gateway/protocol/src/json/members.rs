//! The top-level members of a request body that decide something, borrowed from the bytes as they came.
//!
//! Engines written in Python take the last of two equal keys, some written in Go match keys without regard to
//! case, and we would take the first: three readings of one body, and the cheapest one would be charged. So a
//! decisive key that comes twice, or in another spelling, is refused. Values stay raw slices of the body: no
//! tree is built of untrusted input, and the offsets say where to splice.
//!
//! All members are remembered with their places, because which of them an engine may see is the deployment's affair
//! (`request::policy`).
//!
//! Cost: one validating pass of `serde_json`, one allocation, and one for each key with escapes.

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
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
    Stop = "stop",
    StopSequences = "stop_sequences",
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

/// Most top-level members of a body. Requests have about ten; each is remembered with its place.
pub const MEMBERS_MAX: usize = 256;

/// The decisive members of one body, and the places of all.
#[derive(Debug, Clone)]
pub struct Members<'a> {
    values: [Option<&'a RawValue>; COUNT],
    body_at: usize,
    all: Vec<(Cow<'a, str>, &'a RawValue)>,
}

/// A member of a body, or of an object in it, and where it lies: what a deployment's policy on parameters looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its key where that is spelled with escapes; else it is the bytes of the body between `key.start` and
    /// `key.end`.
    unescaped: Option<Box<str>>,
    /// The key without its quotes.
    key: Range<usize>,
    /// The value.
    pub value: Range<usize>,
}

impl Parameter {
    /// Its key, in the body that it was read from.
    #[must_use]
    pub fn name<'b>(&'b self, body: &'b [u8]) -> &'b str {
        let plain =
            || std::str::from_utf8(body.get(self.key.clone()).unwrap_or_default()).unwrap_or_default();
        self.unescaped.as_deref().unwrap_or_else(plain)
    }

    /// The member from the quote before its key to the end of its value.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.key.start.saturating_sub(1)..self.value.end
    }
}

impl<'a> Members<'a> {
    /// Reads `body`, which must be one JSON object. O(bytes).
    ///
    /// # Errors
    /// A sentence for the client: not JSON, not an object, a decisive key twice or in another spelling.
    pub fn read(body: &'a str) -> Result<Self, String> {
        let mut parser = serde_json::Deserializer::from_str(body);
        let (values, all) = parser
            .parse_object()
            .and_then(|found| parser.end().map(|()| found))
            .map_err(|e| format!("The request body could not be read as a JSON object: {e}."))?;
        Ok(Members { values, all, body_at: body.as_ptr() as usize })
    }

    /// Every top-level member in the order of `body`, which is what was read. O(members); allocates.
    #[must_use]
    pub fn parameters(&self, body: &str) -> Vec<Parameter> {
        placed(&self.all, body, 0)
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

/// The members of the object that lies at `value` in `body`, in order. `None`: no object, or more than [`MEMBERS_MAX`]
/// members. O(bytes of the value); allocates.
#[must_use]
pub fn inside(body: &[u8], value: Range<usize>) -> Option<Vec<Parameter>> {
    let body = std::str::from_utf8(body).ok()?;
    let Listed(all) = serde_json::from_str(body.get(value.clone())?).ok()?;
    Some(placed(&all, body, value.start))
}

/// Where the members `all` of `body` lie; nothing of them is before `end`.
fn placed(all: &[(Cow<'_, str>, &RawValue)], body: &str, mut end: usize) -> Vec<Parameter> {
    let at = |part: &str| (part.as_ptr() as usize).saturating_sub(body.as_ptr() as usize);
    let parameter = |(key, value): &(Cow<'_, str>, &RawValue)| {
        let start = at(value.get());
        let (unescaped, key) = match key {
            Cow::Borrowed(key) => (None, at(key)..at(key) + key.len()),
            // Between two values there is nothing but the comma, the key and the colon.
            Cow::Owned(key) => {
                let gap = body.get(end..start).unwrap_or_default();
                let (open, close) = (gap.find('"'), gap.rfind('"'));
                let from = end + open.map_or(0, |open| open + 1);
                (Some(key.as_str().into()), from..end + close.unwrap_or(0))
            }
        };
        end = start + value.get().len();
        Parameter { unescaped, key, value: start..end }
    };
    all.iter().map(parameter).collect()
}

/// All members of any object, in order.
struct Listed<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Listed<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ListedVisitor)
    }
}

struct ListedVisitor;

impl<'de> Visitor<'de> for ListedVisitor {
    type Value = Listed<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Key(name)) = map.next_key()? {
            if all.len() >= MEMBERS_MAX {
                return Err(A::Error::custom("too many members"));
            }
            all.push((name, map.next_value()?));
        }
        Ok(Listed(all))
    }
}

/// The decisive values, and every member in order.
type Found<'a> = ([Option<&'a RawValue>; COUNT], Vec<(Cow<'a, str>, &'a RawValue)>);

trait ParseObject<'a> {
    fn parse_object(&mut self) -> Result<Found<'a>, serde_json::Error>;
}

impl<'a> ParseObject<'a> for serde_json::Deserializer<serde_json::de::StrRead<'a>> {
    fn parse_object(&mut self) -> Result<Found<'a>, serde_json::Error> {
        use serde::Deserializer as _;
        self.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = [None; COUNT];
        let mut all = Vec::with_capacity(8);
        while let Some(Key(name)) = map.next_key()? {
            let value = map.next_value::<&RawValue>()?;
            if let Some(member) = decisive(&name).map_err(A::Error::custom)? {
                let slot = values.get_mut(member as usize).ok_or_else(|| A::Error::custom("no such key"))?;
                if slot.is_some() {
                    return Err(A::Error::custom(format_args!("the key `{name}` comes twice")));
                }
                *slot = Some(value);
            }
            if all.len() >= MEMBERS_MAX {
                return Err(A::Error::custom(format_args!("it has more than {MEMBERS_MAX} members")));
            }
            all.push((name, value));
        }
        Ok((values, all))
    }
}

/// The member that `name` decides, if any.
///
/// # Errors
/// A sentence where it is spelled as only some engines would read it.
fn decisive(name: &str) -> Result<Option<Member>, String> {
    for &(known, member) in KEYS {
        if name == known {
            return Ok(Some(member));
        }
        if folds_to(name, known) {
            return Err(format!("the key `{name}` must be spelled `{known}`"));
        }
    }
    Ok(None)
}

/// A key, borrowed unless it is spelled with escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(key)))
    }

    fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(key.to_owned())))
    }
}

/// Whether `key` is `known` to a parser that ignores case. Go's folds two letters beyond ASCII onto ours: the long s and
/// the sign for kelvin.
fn folds_to(key: &str, known: &str) -> bool {
    let folded = key.chars().map(|letter| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        letter => letter.to_ascii_lowercase(),
    });
    folded.eq(known.chars())
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
        for (key, known) in [
            ("Model", "model"),
            ("STREAM", "stream"),
            ("\u{17f}tream", "stream"),
            ("max_to\u{212a}ens", "max_tokens"),
        ] {
            let fault = Members::read(&format!(r#"{{"{key}":1}}"#)).unwrap_err();
            assert!(fault.contains(&format!("must be spelled `{known}`")), "{fault}");
        }
    }

    #[test]
    fn every_member_is_found_with_its_key_and_its_value() {
        let body = r#"{ "a" :1, "\u0062\"" : "x,\"y" ,"model":{"a":2},"c":null}"#;

        let found = Members::read(body).unwrap().parameters(body);

        let shown: Vec<_> = found.iter().map(|p| (p.name(body.as_bytes()), &body[p.span()])).collect();
        let want = [
            ("a", r#""a" :1"#),
            ("b\"", r#""\u0062\"" : "x,\"y""#),
            ("model", r#""model":{"a":2}"#),
            ("c", r#""c":null"#),
        ];
        assert_eq!(shown, want);
    }

    #[test]
    fn members_are_bounded() {
        let body = |count: usize| {
            format!("{{{}}}", (0..count).map(|n| format!("\"k{n}\":0")).collect::<Vec<_>>().join(","))
        };
        assert!(Members::read(&body(MEMBERS_MAX)).is_ok());
        assert!(Members::read(&body(MEMBERS_MAX + 1)).unwrap_err().contains("more than 256 members"));
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
