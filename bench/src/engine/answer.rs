//! The bytes of an answer: JSON objects and server-sent events, key for key as vLLM 0.32 writes them.

use std::fmt::Write;

use super::fault::Fault;
use super::text::piece;
use super::wire::Api;

/// Usage as it is reported, which a fault may have made wrong.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reported {
    pub(super) prompt: i64,
    pub(super) completion: i64,
    /// `None`: the server does not report it.
    pub(super) cached: Option<i64>,
}

impl Reported {
    pub(super) fn under(self, fault: &Fault) -> Self {
        match fault.wrong_usage {
            Some((prompt, completion, cached)) => Self { prompt, completion, cached },
            None => self,
        }
    }

    fn json(&self, details: bool) -> String {
        let Self { prompt, completion, cached } = self;
        let total = prompt.saturating_add(*completion);
        let mut json = format!(
            "{{\"prompt_tokens\":{prompt},\"total_tokens\":{total},\"completion_tokens\":{completion}"
        );
        match cached {
            _ if !details => json.push_str(",\"completion_tokens_details\":null"),
            Some(cached) => {
                let _ = write!(
                    json,
                    ",\"prompt_tokens_details\":{{\"cached_tokens\":{cached},\"created_cache_tokens\":0}}"
                );
            }
            None => json.push_str(",\"prompt_tokens_details\":null"),
        }
        json.push('}');
        json
    }
}

/// Everything about an answer that does not change from event to event.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) api: Api,
    pub(super) id: String,
    pub(super) model: String,
    pub(super) created: u64,
    pub(super) seed: u64,
    /// The function that the answer calls instead of speaking.
    pub(super) tool: Option<String>,
    pub(super) continuous_usage: bool,
}

/// One content chunk: tokens `from .. to` of a choice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk {
    pub(super) choice: u32,
    pub(super) from: u32,
    pub(super) to: u32,
    /// Why the answer ends with this chunk.
    pub(super) finish: Option<&'static str>,
    pub(super) role: bool,
    pub(super) running: Reported,
}

pub(super) const DONE: &str = "data: [DONE]\n\n";

impl Shape {
    /// The part of the answer's text that this chunk carries.
    pub(super) fn text(&self, choice: u32, from: u32, to: u32) -> String {
        let seed = self.seed.wrapping_add(u64::from(choice));
        (from..to).map(|i| piece(seed, i)).collect()
    }

    /// The preamble event, where the API has one.
    pub(super) fn opening(&self, choice: u32, running: Reported) -> Option<String> {
        let Api::Chat = self.api else { return None };
        let mut event = self.head();
        let _ = write!(
            event,
            "{{\"index\":{choice},\"delta\":{{\"role\":\"assistant\",\"content\":\"\"}},\"logprobs\":null,\
             \"finish_reason\":null}}]"
        );
        if self.continuous_usage {
            let _ = write!(event, ",\"usage\":{}", running.json(false));
        }
        event.push_str(",\"prompt_token_ids\":null,\"prompt_text\":null}\n\n");
        Some(event)
    }

    /// A content event.
    pub(super) fn content(&self, chunk: &Chunk) -> String {
        let text = self.text(chunk.choice, chunk.from, chunk.to);
        let mut event = self.head();
        let _ = write!(event, "{{\"index\":{},", chunk.choice);
        match (self.api, &self.tool) {
            (Api::Completions, _) => {
                event.push_str("\"text\":");
                push_json(&mut event, &text);
            }
            (Api::Chat, None) => {
                event.push_str("\"delta\":{");
                if chunk.role {
                    event.push_str("\"role\":\"assistant\",");
                }
                event.push_str("\"content\":");
                push_json(&mut event, &text);
                event.push('}');
            }
            (Api::Chat, Some(tool)) => self.push_tool_delta(&mut event, tool, chunk, &text),
        }
        event.push_str(",\"logprobs\":null,\"finish_reason\":");
        match chunk.finish {
            Some(reason) => {
                let _ = write!(event, "\"{reason}\",\"stop_reason\":null,\"token_ids\":null}}]");
            }
            None => event.push_str("null,\"token_ids\":null}]"),
        }
        if self.continuous_usage {
            let _ = write!(event, ",\"usage\":{}", chunk.running.json(false));
        }
        event.push_str("}\n\n");
        event
    }

    fn push_tool_delta(&self, event: &mut String, tool: &str, chunk: &Chunk, text: &str) {
        let mut arguments = if chunk.from == 0 { String::from("{\"text\": \"") } else { String::new() };
        let quoted = json(text);
        arguments.push_str(quoted.get(1..quoted.len() - 1).unwrap_or_default());
        if chunk.finish.is_some() {
            arguments.push_str("\"}");
        }
        event.push_str("\"delta\":{\"tool_calls\":[{\"index\":0,");
        if chunk.from == 0 {
            let _ = write!(event, "\"id\":\"call-{}\",\"type\":\"function\",", self.id);
        }
        event.push_str("\"function\":{");
        if chunk.from == 0 {
            event.push_str("\"name\":");
            push_json(event, tool);
            event.push(',');
        }
        event.push_str("\"arguments\":");
        push_json(event, &arguments);
        event.push_str("}}]}");
    }

    /// The usage event.
    pub(super) fn usage(&self, usage: Reported) -> String {
        let mut event = self.head();
        let _ = write!(event, "],\"usage\":{},\"system_fingerprint\":\"sim\"}}\n\n", usage.json(true));
        event
    }

    /// The whole answer to a request that does not stream.
    pub(super) fn whole(&self, lengths: &[(u32, &'static str)], usage: Option<Reported>) -> String {
        let object = if self.api == Api::Chat { "chat.completion" } else { "text_completion" };
        let mut body =
            format!("{{\"id\":\"{}\",\"object\":\"{object}\",\"created\":{},", self.id, self.created);
        let _ = write!(body, "\"model\":{},\"choices\":[", json(&self.model));
        for (choice, (length, finish)) in (0..).zip(lengths) {
            if choice > 0 {
                body.push(',');
            }
            let text = self.text(choice, 0, *length);
            let _ = write!(body, "{{\"index\":{choice},");
            match (self.api, &self.tool) {
                (Api::Completions, _) => {
                    let _ = write!(body, "\"text\":{}", json(&text));
                }
                (Api::Chat, None) => {
                    let _ = write!(
                        body,
                        "\"message\":{{\"role\":\"assistant\",\"content\":{},\"refusal\":null,\"tool_calls\":[]}}",
                        json(&text)
                    );
                }
                (Api::Chat, Some(tool)) => {
                    let arguments = json(&format!("{{\"text\": {}}}", json(&text)));
                    let _ = write!(
                        body,
                        "\"message\":{{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{{\"id\":\"call-{}\",\
                         \"type\":\"function\",\"function\":{{\"name\":{},\"arguments\":{arguments}}}}}]}}",
                        self.id,
                        json(tool)
                    );
                }
            }
            let _ = write!(body, ",\"logprobs\":null,\"finish_reason\":\"{finish}\",\"stop_reason\":null}}");
        }
        body.push_str("],\"service_tier\":null,\"system_fingerprint\":\"sim\"");
        if let Some(usage) = usage {
            let _ = write!(body, ",\"usage\":{}", usage.json(true));
        }
        body.push('}');
        body
    }

    /// Up to and including the bracket that opens the choices.
    fn head(&self) -> String {
        let object = if self.api == Api::Chat { "chat.completion.chunk" } else { "text_completion" };
        let mut event = String::with_capacity(384);
        let _ = write!(
            event,
            "data: {{\"id\":\"{}\",\"object\":\"{object}\",\"created\":{},",
            self.id, self.created
        );
        event.push_str("\"model\":");
        push_json(&mut event, &self.model);
        event.push_str(",\"choices\":[");
        event
    }
}

/// An error body as vLLM writes it.
pub(super) fn error(code: u16, kind: &str, message: &str) -> String {
    format!(
        "{{\"error\":{{\"message\":{},\"type\":{},\"param\":null,\"code\":{code}}}}}",
        json(message),
        json(kind)
    )
}

/// The error that an engine at its bound answers.
pub(super) fn busy(code: u16) -> String {
    let message = "The engine is currently busy and cannot accept new requests. Please try again later or on a \
                   different instance.";
    error(code, "Service Unavailable", message)
}

fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_json(&mut out, text);
    out
}

fn push_json(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
