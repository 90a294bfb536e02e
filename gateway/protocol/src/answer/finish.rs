//! Why an answer ended, in the API's own word: for the access log, never for a decision.
//!
//! What an engine writes becomes one of the words that the APIs have, or `other`: nothing of an engine's own is logged.

use crate::api::Api;
use serde_json::value::RawValue;

/// The words of OpenAI's and Anthropic's APIs, and those that engines use in their place.
const WORDS: [&str; 19] = [
    "stop",
    "length",
    "tool_calls",
    "function_call",
    "content_filter",
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
    "completed",
    "incomplete",
    "max_output_tokens",
    "eos_token",
    "eos",
    "abort",
    "error",
];

/// A word that no API has.
const OTHER: &str = "other";

/// The word that `value` is; `None`: it is no text.
pub(super) fn word(value: &RawValue) -> Option<&'static str> {
    quoted(value.get())
}

/// Why a whole answer of `api` ended. Looks from its end: O(what stands behind the word).
#[must_use]
pub fn of_whole(api: Api, json: &str) -> Option<&'static str> {
    match api {
        Api::Chat | Api::Completions => member(json, "\"finish_reason\""),
        Api::Messages => member(json, "\"stop_reason\""),
        Api::Responses => Some(of_response(json)),
        Api::CountTokens | Api::Embeddings | Api::Rerank | Api::Score => None,
    }
}

/// Why a response ended: where it is incomplete, what it lacks.
pub(super) fn of_response(json: &str) -> &'static str {
    let details = json.rfind("\"incomplete_details\"").and_then(|at| json.get(at..));
    let object = details.and_then(|rest| rest.split_once(':')).map(|(_, rest)| rest.trim_ascii_start());
    match object.filter(|rest| rest.starts_with('{')) {
        Some(object) => {
            let end = object.find('}').unwrap_or(object.len());
            object.get(..end).and_then(|object| member(object, "\"reason\"")).unwrap_or("incomplete")
        }
        None => "completed",
    }
}

/// The value of the last member of this name, quotes included. In a text the quotes would be escaped.
fn member(json: &str, name: &str) -> Option<&'static str> {
    let behind = json.get(json.rfind(name)? + name.len()..)?;
    quoted(behind.trim_ascii_start().strip_prefix(':')?.trim_ascii_start())
}

fn quoted(text: &str) -> Option<&'static str> {
    let (said, _) = text.strip_prefix('"')?.split_once('"')?;
    (!said.is_empty()).then(|| WORDS.into_iter().find(|word| *word == said).unwrap_or(OTHER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_say_why_they_ended() {
        let chat = r#"{"choices":[{"message":{"content":"a \"finish_reason\":\"no\""},"finish_reason": "length","stop_reason":null}],"usage":{}}"#;
        assert_eq!(of_whole(Api::Chat, chat), Some("length"));
        assert_eq!(of_whole(Api::Chat, r#"{"choices":[{"finish_reason":null}]}"#), None);
        assert_eq!(of_whole(Api::Chat, r#"{"choices":[{"finish_reason":"a secret"}]}"#), Some("other"));
        assert_eq!(of_whole(Api::Messages, r#"{"stop_reason":"end_turn","usage":{}}"#), Some("end_turn"));
        assert_eq!(of_whole(Api::Embeddings, r#"{"finish_reason":"stop"}"#), None);
    }

    #[test]
    fn a_response_is_complete_or_says_what_it_lacks() {
        let incomplete =
            r#"{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"output":[]}"#;
        assert_eq!(of_whole(Api::Responses, incomplete), Some("max_output_tokens"));
        assert_eq!(of_whole(Api::Responses, r#"{"incomplete_details":null}"#), Some("completed"));
        assert_eq!(of_whole(Api::Responses, r#"{"incomplete_details":{}}"#), Some("incomplete"));
    }
}
