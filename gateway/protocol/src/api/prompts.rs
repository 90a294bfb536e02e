//! How many prompts a request holds, and what of them needs no weighing.
//!
//! Several APIs take a list where they take a text: of texts, of token ids, of lists of token ids. Each text of a list is
//! a prompt of its own, with answers of its own; token ids are their own count. Lists are counted without being kept.

use crate::json::members::{Member, Members};
use crate::refusal::Refusal;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Most prompts of one request; OpenAI's own bound for lists of inputs.
pub const PROMPTS_MAX: u32 = 2048;

/// The prompts of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prompts {
    /// How many that are answered each, at least 1.
    pub count: u32,
    /// How many an engine reads apart, each in a context window of its own; at least 1.
    pub windows: u32,
    /// Tokens, where the prompt is token ids and nothing else.
    pub token_ids: Option<u64>,
    /// Bytes that an engine reads in addition to those sent: a query is read again with each further document.
    pub repeated_bytes: u64,
}

impl Prompts {
    const ONE: Prompts = Prompts { count: 1, windows: 1, token_ids: None, repeated_bytes: 0 };
}

/// A list of messages: one prompt.
///
/// # Errors
/// 400 when it is no list.
pub fn of_messages(members: &Members<'_>) -> Result<Prompts, Refusal> {
    match members.raw(Member::Messages) {
        Some(raw) if raw.starts_with('[') => Ok(Prompts::ONE),
        _ => Err(Refusal::bad("`messages` must be an array of messages.").param("messages")),
    }
}

/// A text, or a list of items: one prompt.
///
/// # Errors
/// 400 when it is neither.
pub fn of_items(members: &Members<'_>) -> Result<Prompts, Refusal> {
    match members.raw(Member::Input) {
        Some(raw) if raw.starts_with(['"', '[']) => Ok(Prompts::ONE),
        _ => Err(Refusal::bad("`input` must be a text or an array of items.").param("input")),
    }
}

/// A text, token ids, or a list of either; each is answered by itself.
///
/// # Errors
/// 400 when it is none of them, or too many.
pub fn of_prompt(members: &Members<'_>) -> Result<Prompts, Refusal> {
    texts(members, Member::Prompt)
}

/// The same, read together: nothing is generated for any of them. Or a list of messages, or of objects with a text and a
/// picture each, as SGLang takes them.
///
/// # Errors
/// As [`of_prompt`].
pub fn of_input(members: &Members<'_>) -> Result<Prompts, Refusal> {
    if members.raw(Member::Input).is_none() && members.raw(Member::Messages).is_some() {
        return of_messages(members);
    }
    if let Some(format) = members.raw(Member::EncodingFormat)
        && !matches!(format, "\"float\"" | "\"base64\"")
    {
        let message = "`encoding_format` must be \"float\" or \"base64\": an answer that is not JSON cannot be metered.";
        return Err(Refusal::bad(message).param("encoding_format"));
    }
    let list = list(members, Member::Input)?;
    if members.raw(Member::Input).is_some_and(|raw| raw.starts_with('[')) && list.is_of_objects() {
        return Ok(Prompts { windows: windows(list.objects), ..Prompts::ONE });
    }
    Ok(Prompts { count: 1, ..texts(members, Member::Input)? })
}

/// A query and documents. An engine that ranks pairs reads the query again with each document.
///
/// # Errors
/// 400 when one is missing, or there are too many documents.
pub fn of_documents(members: &Members<'_>) -> Result<Prompts, Refusal> {
    let query = members.raw(Member::Query);
    let query = query.ok_or_else(|| Refusal::bad("`query` must be a text.").param("query"))?;
    paired(query, list(members, Member::Documents)?)
}

/// Two sides of pairs: one with each of many, or one with one.
///
/// # Errors
/// 400 when a side is missing, or has too many texts.
pub fn of_pairs(members: &Members<'_>) -> Result<Prompts, Refusal> {
    let side = |names: &[Member]| names.iter().copied().find(|&member| members.raw(member).is_some());
    let one = side(&[Member::Text1, Member::Queries, Member::Data1]);
    let other = side(&[Member::Text2, Member::Documents, Member::Items, Member::Data2]);
    let (Some(one), Some(other)) = (one, other) else {
        return Err(Refusal::bad("`text_1` and `text_2` must both be there.").param("text_2"));
    };
    let many = list(members, other)?;
    let raw = members.raw(one).unwrap_or_default();
    // A list of queries is paired one by one.
    if raw.starts_with('[') && list(members, one)?.elements() > 1 {
        return Ok(Prompts { windows: windows(many.elements()), ..Prompts::ONE });
    }
    paired(raw, many)
}

fn paired(query: &str, documents: List) -> Result<Prompts, Refusal> {
    let again = documents.elements().saturating_sub(1);
    let windows = windows(documents.elements());
    Ok(Prompts { repeated_bytes: query.len() as u64 * again, windows, ..Prompts::ONE })
}

fn windows(texts: u64) -> u32 {
    u32::try_from(texts).unwrap_or(u32::MAX).max(1)
}

fn texts(members: &Members<'_>, member: Member) -> Result<Prompts, Refusal> {
    let list = list(members, member)?;
    match list {
        List { texts: 0, objects: 0, lists: 0, ids } if ids > 0 => {
            Ok(Prompts { token_ids: Some(ids), ..Prompts::ONE })
        }
        List { texts: 0, objects: 0, lists, ids } if lists > 0 => {
            Ok(Prompts { count: lists as u32, windows: windows(lists), token_ids: Some(ids), ..Prompts::ONE })
        }
        List { texts, objects: 0, lists: 0, ids: 0 } if texts > 0 => {
            Ok(Prompts { count: texts as u32, windows: windows(texts), ..Prompts::ONE })
        }
        _ => {
            let name = member.name();
            let message = format!("`{name}` must be a text, token ids, or a list of one of them.");
            Err(Refusal::bad(message).param(name))
        }
    }
}

/// What a list has in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct List {
    texts: u64,
    objects: u64,
    lists: u64,
    /// Numbers, those of inner lists too.
    ids: u64,
}

impl List {
    fn elements(self) -> u64 {
        self.texts + self.objects + self.lists
    }

    fn is_of_objects(self) -> bool {
        self.objects > 0 && self.texts + self.lists + self.ids == 0
    }
}

fn list(members: &Members<'_>, member: Member) -> Result<List, Refusal> {
    let name = member.name();
    let raw = members.raw(member).unwrap_or_default();
    let counted = match serde_json::from_str(raw) {
        Ok(Element::Text) => List { texts: 1, ..List::default() },
        Ok(Element::Object) => List { objects: 1, ..List::default() },
        Ok(Element::List(list)) => list,
        _ => {
            let message = format!("`{name}` must be a text or a list.");
            return Err(Refusal::bad(message).param(name));
        }
    };
    if counted.elements() > u64::from(PROMPTS_MAX) {
        let message = format!("`{name}` must have at most {PROMPTS_MAX} entries.");
        return Err(Refusal::bad(message).param(name));
    }
    Ok(counted)
}

/// A JSON value, as far as it counts.
enum Element {
    Text,
    Number,
    Object,
    List(List),
    Other,
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Element, D::Error> {
        deserializer.deserialize_any(ElementVisitor)
    }
}

struct ElementVisitor;

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Element;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number or a list")
    }

    fn visit_str<E>(self, _: &str) -> Result<Element, E> {
        Ok(Element::Text)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Element, E> {
        Ok(Element::Number)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Element, E> {
        Ok(Element::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Element, E> {
        Ok(Element::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Element, E> {
        Ok(Element::Other)
    }

    fn visit_unit<E>(self) -> Result<Element, E> {
        Ok(Element::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Element, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Element::Object)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Element, A::Error> {
        let mut list = List::default();
        while let Some(element) = seq.next_element()? {
            match element {
                Element::Text => list.texts += 1,
                Element::Number => list.ids += 1,
                Element::Object => list.objects += 1,
                Element::List(inner) if inner.elements() == 0 => {
                    list.lists += 1;
                    list.ids += inner.ids;
                }
                Element::List(_) | Element::Other => return Err(serde::de::Error::custom("mixed")),
            }
        }
        Ok(Element::List(list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(
        count: fn(&Members<'_>) -> Result<Prompts, Refusal>,
        body: &str,
    ) -> Result<(u32, Option<u64>, u64), Option<&'static str>> {
        count(&Members::read(body).unwrap())
            .map(|prompts| (prompts.count, prompts.token_ids, prompts.repeated_bytes))
            .map_err(|refusal| refusal.param)
    }

    #[test]
    fn prompts_are_texts_token_ids_or_lists_of_one_of_them() {
        for (prompt, expected) in [
            (r#""a""#, Ok((1, None, 0))),
            (r#"["a","b"]"#, Ok((2, None, 0))),
            ("[1,2,3]", Ok((1, Some(3), 0))),
            ("[[1,2],[3]]", Ok((2, Some(3), 0))),
            ("[]", Err(Some("prompt"))),
            ("7", Err(Some("prompt"))),
            ("null", Err(Some("prompt"))),
            (r#"["a",1]"#, Err(Some("prompt"))),
            (r#"["a",["b"]]"#, Err(Some("prompt"))),
            ("[1,-2]", Err(Some("prompt"))),
            ("[1.5]", Err(Some("prompt"))),
            ("[[[1]]]", Err(Some("prompt"))),
            (r#"{"a":1}"#, Err(Some("prompt"))),
        ] {
            assert_eq!(of(of_prompt, &format!(r#"{{"prompt":{prompt}}}"#)), expected, "{prompt}");
        }
        let many = format!(r#"{{"prompt":[{}"a"]}}"#, r#""a","#.repeat(2048));
        assert_eq!(of(of_prompt, &many), Err(Some("prompt")), "one too many");
    }

    #[test]
    fn inputs_are_read_together_or_are_messages() {
        assert_eq!(of(of_input, r#"{"input":["a","b"]}"#), Ok((1, None, 0)));
        assert_eq!(of(of_input, r#"{"input":[[1,2],[3]]}"#), Ok((1, Some(3), 0)));
        assert_eq!(of(of_input, r#"{"messages":[]}"#), Ok((1, None, 0)));
        assert_eq!(of(of_input, r#"{"input":"a","encoding_format":"bytes"}"#), Err(Some("encoding_format")));
        assert_eq!(of(of_input, "{}"), Err(Some("input")));
    }

    #[test]
    fn case_w03_an_input_may_be_objects_with_a_text_and_a_picture() {
        let input = r#"{"input":[{"text":"a","image":"data:image/png;base64,AAAA"},{"text":"b"}]}"#;
        assert_eq!(of(of_input, input), Ok((1, None, 0)));
        assert_eq!(of_input(&Members::read(input).unwrap()).unwrap().windows, 2);
        for refused in [r#"{"input":{"text":"a"}}"#, r#"{"input":[{"text":"a"},"b"]}"#, r#"{"input":[{},1]}"#]
        {
            assert_eq!(of(of_input, refused), Err(Some("input")), "{refused}");
        }
        assert_eq!(of(of_prompt, r#"{"prompt":[{"text":"a"}]}"#), Err(Some("prompt")));
    }

    #[test]
    fn texts_that_are_read_apart_have_a_window_each() {
        let windows = |count: fn(&Members<'_>) -> Result<Prompts, Refusal>, body: &str| {
            count(&Members::read(body).unwrap()).unwrap().windows
        };
        assert_eq!(windows(of_prompt, r#"{"prompt":"a"}"#), 1);
        assert_eq!(windows(of_prompt, r#"{"prompt":["a","b"]}"#), 2);
        assert_eq!(windows(of_prompt, r#"{"prompt":[1,2,3]}"#), 1);
        assert_eq!(windows(of_input, r#"{"input":[[1,2],[3],[4]]}"#), 3);
        assert_eq!(windows(of_input, r#"{"input":["a","b"]}"#), 2);
        assert_eq!(windows(of_documents, r#"{"query":"q","documents":["a","b","c"]}"#), 3);
        assert_eq!(windows(of_pairs, r#"{"text_1":["a","b"],"text_2":["c","d"]}"#), 2);
        assert_eq!(windows(of_messages, r#"{"messages":[{},{}]}"#), 1);
    }

    #[test]
    fn a_query_is_read_again_with_each_further_document() {
        assert_eq!(of(of_documents, r#"{"query":"tide?","documents":["a","b","c"]}"#), Ok((1, None, 14)));
        assert_eq!(of(of_documents, r#"{"query":"q","documents":[{"text":"a"}]}"#), Ok((1, None, 0)));
        assert_eq!(of(of_documents, r#"{"documents":["a"]}"#), Err(Some("query")));
        assert_eq!(of(of_documents, r#"{"query":"q"}"#), Err(Some("documents")));
    }

    #[test]
    fn pairs_are_one_with_many_or_one_by_one() {
        assert_eq!(of(of_pairs, r#"{"text_1":"ab","text_2":["c","d"]}"#), Ok((1, None, 4)));
        assert_eq!(of(of_pairs, r#"{"text_1":["a","b"],"text_2":["c","d"]}"#), Ok((1, None, 0)));
        assert_eq!(of(of_pairs, r#"{"queries":"ab","documents":["c","d"]}"#), Ok((1, None, 4)));
        assert_eq!(of(of_pairs, r#"{"text_1":"a"}"#), Err(Some("text_2")));
    }
}
