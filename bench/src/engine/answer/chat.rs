//! The chat and completions APIs' answers, key for key as vLLM 0.32 writes them.

use std::fmt::Write;

use super::{Chunk, Reported, Shape, json, push_json};
use crate::engine::wire::Api;

impl Shape {
    pub(super) fn chat_opening(&self, choice: u32, running: Reported) -> String {
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
        event
    }

    pub(super) fn chat_content(&self, chunk: &Chunk) -> String {
        let text = self.text(chunk.choice, chunk.from, chunk.to);
        let mut event = self.head();
        let _ = write!(event, "{{\"index\":{},", chunk.choice);
        match (self.api, &self.tool) {
            (Api::Completions, _) => {
                event.push_str("\"text\":");
                push_json(&mut event, &text);
            }
            (_, None) => {
                event.push_str("\"delta\":{");
                if chunk.role {
                    event.push_str("\"role\":\"assistant\",");
                }
                event.push_str("\"content\":");
                push_json(&mut event, &text);
                event.push('}');
            }
            (_, Some(tool)) => self.push_tool_delta(&mut event, tool, chunk, &text),
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
    pub(super) fn chat_closing(&self, usage: Reported) -> String {
        let mut event = self.head();
        let _ = write!(event, "],\"usage\":{},\"system_fingerprint\":\"sim\"}}\n\n", usage.json(true));
        event
    }

    pub(super) fn chat_whole(
        &self,
        choices: u32,
        length: u32,
        finish: &str,
        usage: Option<Reported>,
    ) -> String {
        let object = if self.api == Api::Completions { "text_completion" } else { "chat.completion" };
        let mut body =
            format!("{{\"id\":\"{}\",\"object\":\"{object}\",\"created\":{},", self.id, self.created);
        let _ = write!(body, "\"model\":{},\"choices\":[", json(&self.model));
        for choice in 0..choices {
            if choice > 0 {
                body.push(',');
            }
            let _ = write!(body, "{{\"index\":{choice},");
            self.push_message(&mut body, &self.text(choice, 0, length));
            let _ = write!(body, ",\"logprobs\":null,\"finish_reason\":\"{finish}\",\"stop_reason\":null}}");
        }
        body.push_str("],\"service_tier\":null,\"system_fingerprint\":\"sim\"");
        if let Some(usage) = usage {
            let _ = write!(body, ",\"usage\":{}", usage.json(true));
        }
        body.push('}');
        body
    }

    fn push_message(&self, body: &mut String, text: &str) {
        let text = json(text);
        let _ = match (self.api, &self.tool) {
            (Api::Completions, _) => write!(body, "\"text\":{text}"),
            (_, None) => write!(
                body,
                "\"message\":{{\"role\":\"assistant\",\"content\":{text},\"refusal\":null,\"tool_calls\":[]}}"
            ),
            (_, Some(tool)) => write!(
                body,
                "\"message\":{{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{{\"id\":\"call-{}\",\
                 \"type\":\"function\",\"function\":{{\"name\":{},\"arguments\":{}}}}}]}}",
                self.id,
                json(tool),
                json(&format!("{{\"text\": {text}}}"))
            ),
        };
    }

    /// Up to and including the bracket that opens the choices.
    fn head(&self) -> String {
        let object = if self.api == Api::Completions { "text_completion" } else { "chat.completion.chunk" };
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
