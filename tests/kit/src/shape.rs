//! One request of each API, and how its answer is read by a client of that API.

use super::base_config::merge;
use super::client::Answer;
use protocol::api::{Api, Family};
use serde_json::{Value, json};

/// The APIs that generate text, which may come as a stream.
pub const STREAMED: [Api; 4] = [Api::Chat, Api::Completions, Api::Responses, Api::Messages];

/// The APIs that answer with numbers, by an engine.
pub const POOLED: [Api; 3] = [Api::Embeddings, Api::Rerank, Api::Score];

/// A request of `api` for `tokens` tokens of the model `sim`, with `more` in it.
pub fn request(api: Api, tokens: u32, more: Value) -> Value {
    let messages = json!([{ "role": "user", "content": "Is the tide in?" }]);
    let mut body = match api {
        Api::Chat | Api::Messages => {
            json!({ "messages": messages, "max_tokens": tokens, "ignore_eos": true })
        }
        Api::Completions => json!({ "prompt": "Is the tide in?", "max_tokens": tokens, "ignore_eos": true }),
        Api::Responses => json!({
            "instructions": "Be brief.", "input": "Is the tide in?", "max_output_tokens": tokens, "ignore_eos": true,
        }),
        Api::CountTokens => json!({ "messages": messages }),
        Api::Embeddings => json!({ "input": ["Is the tide in?", "It is out."] }),
        Api::Rerank => json!({ "query": "Is the tide in?", "documents": ["It is out.", "It is in."] }),
        Api::Score => json!({ "text_1": "Is the tide in?", "text_2": ["It is out.", "It is in."] }),
    };
    body["model"] = json!("sim");
    merge(&mut body, more);
    body
}

/// The tier as `api` calls it.
pub fn tier_name(api: Api, priority: bool) -> &'static str {
    match (api.form().family, priority) {
        (_, true) => "priority",
        (Family::OpenAi, false) => "default",
        (Family::Anthropic, false) => "standard",
    }
}

/// An answer of an API, read as its clients read it.
#[derive(Debug, Default)]
pub struct Read {
    /// The text of the first choice.
    pub text: String,
    /// Every tier that is named in it.
    pub tiers: Vec<String>,
    /// Every model that is named in it.
    pub models: Vec<String>,
    /// Generated tokens as the last usage in it says; `None`: there is none.
    pub generated: Option<u64>,
    /// Whether nothing is missing: the framing ended, and so did the API's own stream.
    pub whole: bool,
    /// The error inside it.
    pub error: Option<Value>,
    /// Names of events, where events have names.
    pub names: Vec<String>,
}

/// Reads `answer` as a client of `api` does.
pub fn read(api: Api, answer: &Answer) -> Read {
    let mut read = Read::default();
    if !answer.header("content-type").starts_with("text/event-stream") {
        read.whole = answer.clean;
        read.value(api, &answer.json());
        return read;
    }
    let mut ended = false;
    for line in answer.text().lines() {
        if let Some(name) = line.strip_prefix("event: ") {
            read.names.push(name.to_owned());
        }
        let Some(data) = line.strip_prefix("data: ") else { continue };
        ended |= data == "[DONE]" && matches!(api, Api::Chat | Api::Completions);
        let event: Value = serde_json::from_str(data).unwrap_or(Value::Null);
        ended |= match (api, event["type"].as_str().unwrap_or_default()) {
            (Api::Messages, kind) => kind == "message_stop",
            (Api::Responses, kind) => matches!(kind, "response.completed" | "response.incomplete"),
            _ => false,
        };
        read.value(api, &event);
    }
    read.whole = answer.clean && ended;
    read
}

impl Read {
    /// One event, or the whole answer.
    fn value(&mut self, api: Api, value: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        // Where tier, model and usage are.
        let holder = match api {
            Api::Responses if value["response"].is_object() => &value["response"],
            Api::Messages if value["message"].is_object() => &value["message"],
            _ => value,
        };
        let usage = &holder["usage"];
        let tier = if api == Api::Messages { &usage["service_tier"] } else { &holder["service_tier"] };
        self.tiers.extend(tier.as_str().map(str::to_owned));
        self.models.extend(holder["model"].as_str().map(str::to_owned));
        let generated = usage["completion_tokens"].as_u64().or(usage["output_tokens"].as_u64());
        self.generated = generated.or(self.generated);
        if !value["error"].is_null() {
            self.error = Some(value["error"].clone());
        } else if value["type"] == "error" {
            self.error = Some(value.clone());
        }
        self.text += &match api {
            Api::Chat => {
                text(&value["choices"][0]["delta"]["content"])
                    + &text(&value["choices"][0]["message"]["content"])
            }
            Api::Completions => text(&value["choices"][0]["text"]),
            Api::Messages if value["type"] == "content_block_delta" => text(&value["delta"]["text"]),
            Api::Messages => text(&value["content"][0]["text"]),
            Api::Responses if value["type"] == "response.output_text.delta" => text(&value["delta"]),
            Api::Responses => text(&value["output"][0]["content"][0]["text"]),
            _ => String::new(),
        };
    }
}
