//! Bytes of generated text in a whole answer, for answers whose engine does not say what they cost.
//!
//! What is in hand was generated: every text in the choices, the output or the content, reasoning and the arguments of
//! tools included. One typed pass, no copy. The bytes become tokens by what a token of the model has.

use crate::answer::{Name, is_object};
use crate::api::Api;
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// Bytes of a token where nothing is known of the model: English text has about four.
pub const BYTES_PER_TOKEN: f64 = 4.0;

/// Members of answers that are no generated text: names of things, logs of it, and what is encoded.
const NO_TEXT: [&str; 22] = [
    "annotations",
    "b64_json",
    "call_id",
    "data",
    "encrypted_content",
    "finish_reason",
    "id",
    "index",
    "logprobs",
    "matched_stop",
    "native_finish_reason",
    "object",
    "prompt_logprobs",
    "prompt_token_ids",
    "result",
    "role",
    "service_tier",
    "signature",
    "status",
    "stop_reason",
    "token_ids",
    "type",
];

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    choices: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

/// Bytes of generated text in a whole answer of `api`; 0 for what has none or is no answer. O(bytes).
#[must_use]
pub fn generated_bytes(api: Api, body: &[u8]) -> u64 {
    let Some(json) = std::str::from_utf8(body).ok().filter(|json| is_object(json)) else { return 0 };
    let Ok(answer) = serde_json::from_str::<Answer<'_>>(json) else { return 0 };
    let generated = match api {
        Api::Chat | Api::Completions => answer.choices,
        Api::Responses => answer.output,
        Api::Messages => answer.content,
        Api::CountTokens | Api::Embeddings | Api::Rerank | Api::Score => None,
    };
    generated.and_then(|raw| serde_json::from_str::<Text>(raw.get()).ok()).map_or(0, |text| text.0)
}

/// The tokens of `bytes` of text, where one has `bytes_per_token`; of some text at least one.
#[must_use]
pub fn estimated_tokens(bytes: u64, bytes_per_token: f64) -> u64 {
    // A token has a byte at least. A float beyond the range of an integer becomes its largest value.
    (bytes as f64 / bytes_per_token.max(1.0)).ceil() as u64
}

/// Bytes of the texts in any value.
struct Text(u64);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
        let mut bytes: u64 = 0;
        while let Some(key) = map.next_key::<Name<'_>>()? {
            bytes = bytes.saturating_add(match &*key.0 {
                "input" | "arguments" => map.next_value::<Arguments>()?.0,
                name if NO_TEXT.contains(&name) => {
                    map.next_value::<IgnoredAny>()?;
                    0
                }
                _ => map.next_value::<Text>()?.0,
            });
        }
        Ok(Text(bytes))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Text, A::Error> {
        let mut bytes: u64 = 0;
        while let Some(text) = seq.next_element::<Text>()? {
            bytes = bytes.saturating_add(text.0);
        }
        Ok(Text(bytes))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text(text.len() as u64))
    }

    fn visit_unit<E>(self) -> Result<Text, E> {
        Ok(Text(0))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Text, E> {
        Ok(Text(0))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Text, E> {
        Ok(Text(0))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Text, E> {
        Ok(Text(0))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Text, E> {
        Ok(Text(0))
    }
}

/// Bytes of a tool's arguments: a text, or JSON that was generated as text.
struct Arguments(u64);

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let text = || serde_json::from_str::<Text>(raw).map_or(0, |text| text.0);
        Ok(Arguments(if raw.starts_with(['{', '[']) { raw.len() as u64 } else { text() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn case_r08_every_text_that_was_generated_counts_in_every_api() {
        for (api, body, bytes) in [
            (
                Api::Chat,
                r#"{"id":"x","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"four","reasoning_content":"hm","refusal":null},"logprobs":{"content":[{"token":"four"}]},"finish_reason":"stop"},{"message":{"content":"\u00e9\n"}}]}"#,
                4 + 2 + 3,
            ),
            (
                Api::Chat,
                r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"find","arguments":"{\"a\":1}"}}]}}]}"#,
                4 + 7,
            ),
            (
                Api::Chat,
                r#"{"choices":[{"message":{"content":null,"audio":{"id":"a","data":"UklGRgAA","transcript":"yes"}}}]}"#,
                3,
            ),
            (Api::Completions, r#"{"choices":[{"text":"abc","stop_reason":"x"},{"text":"de"}]}"#, 5),
            (
                Api::Responses,
                r#"{"instructions":"long long","output":[{"type":"reasoning","summary":[{"type":"summary_text","text":"hm"}]},{"type":"message","id":"m","content":[{"type":"output_text","text":"yes","annotations":[]}]},{"type":"function_call","name":"f","arguments":"{}"}]}"#,
                2 + 3 + 1 + 2,
            ),
            (
                Api::Messages,
                r#"{"content":[{"type":"thinking","thinking":"hm","signature":"abc"},{"type":"text","text":"yes"},{"type":"tool_use","id":"t","name":"f","input":{"a":[1]}}]}"#,
                2 + 3 + 1 + 9,
            ),
            (Api::Embeddings, r#"{"data":[{"embedding":"abcd"}],"choices":[{"text":"x"}]}"#, 0),
            (Api::Rerank, r#"{"results":[{"document":{"text":"abcd"}}]}"#, 0),
        ] {
            assert_eq!(generated_bytes(api, body.as_bytes()), bytes, "{body}");
        }
        for no_answer in ["", "[]", "<html>", "{", r#"{"choices":7}"#, r#"{"choices":[1,true,null,1.5,-1]}"#]
        {
            assert_eq!(generated_bytes(Api::Chat, no_answer.as_bytes()), 0, "{no_answer}");
        }
    }

    #[test]
    fn case_r08_bytes_become_tokens_and_some_text_is_at_least_one() {
        assert_eq!(estimated_tokens(0, BYTES_PER_TOKEN), 0);
        assert_eq!(estimated_tokens(1, BYTES_PER_TOKEN), 1);
        assert_eq!(estimated_tokens(400, BYTES_PER_TOKEN), 100);
        assert_eq!(estimated_tokens(400, 0.0), 400, "a token has a byte");
        assert_eq!(estimated_tokens(400, f64::NAN), 400);
    }

    proptest! {
        /// Whatever a text is made of and however it is written, it counts by its bytes.
        #[test]
        fn case_r08_texts_count_by_their_bytes(texts in proptest::collection::vec(".{0,20}", 0..5)) {
            let choices: Vec<_> = texts.iter().map(|text| serde_json::json!({"message": {"content": text}})).collect();
            let body = serde_json::json!({ "choices": choices }).to_string();
            let bytes: usize = texts.iter().map(String::len).sum();
            prop_assert_eq!(generated_bytes(Api::Chat, body.as_bytes()), bytes as u64);
        }
    }
}
