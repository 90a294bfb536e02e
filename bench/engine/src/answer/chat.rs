//! The chat and completions APIs' answers, key for key as vLLM 0.32 writes them.

use std::fmt::Write;

use super::{Choice, Chunk, Reported, Shape, arguments, arguments_part, json, push_json};
use crate::wire::Api;

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
        let choice = self.choice(chunk.choice);
        let mut text = choice.text(chunk.from, chunk.to);
        let mut event = self.head();
        let _ = write!(event, "{{\"index\":{},", chunk.choice);
        match (self.api, &self.tool) {
            (Api::Completions, _) => {
                if choice.begins(chunk) {
                    text.insert_str(0, &choice.echo);
                }
                event.push_str("\"text\":");
                push_json(&mut event, &text);
            }
            (_, Some(tool)) if !choice.is_thought(chunk) => {
                let arguments = arguments_part(&text, choice.begins(chunk), chunk.finish.is_some());
                self.push_tool_delta(&mut event, tool, choice.begins(chunk), &arguments);
            }
            _ => {
                event.push_str("\"delta\":{");
                if chunk.role {
                    event.push_str("\"role\":\"assistant\",");
                }
                event.push_str(if choice.is_thought(chunk) { "\"reasoning\":" } else { "\"content\":" });
                push_json(&mut event, &text);
                event.push('}');
            }
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

    fn push_tool_delta(&self, event: &mut String, tool: &str, begins: bool, arguments: &str) {
        event.push_str("\"delta\":{\"tool_calls\":[{\"index\":0,");
        if begins {
            let _ = write!(event, "\"id\":\"{}\",\"type\":\"function\",", self.call_id());
        }
        event.push_str("\"function\":{");
        if begins {
            event.push_str("\"name\":");
            push_json(event, tool);
            event.push(',');
        }
        event.push_str("\"arguments\":");
        push_json(event, arguments);
        event.push_str("}}]}");
    }

    /// The usage event.
    pub(super) fn chat_closing(&self, usage: Reported) -> String {
        let mut event = self.head();
        let _ = write!(event, "],\"usage\":{},\"system_fingerprint\":\"sim\"}}\n\n", usage.json(true));
        event
    }

    pub(super) fn chat_whole(&self, usage: Option<Reported>) -> String {
        let object = if self.api == Api::Completions { "text_completion" } else { "chat.completion" };
        let mut body =
            format!("{{\"id\":\"{}\",\"object\":\"{object}\",\"created\":{},", self.id, self.created);
        let _ = write!(body, "\"model\":{},\"choices\":[", json(&self.model));
        for (index, choice) in self.choices.iter().enumerate() {
            if index > 0 {
                body.push(',');
            }
            let _ = write!(body, "{{\"index\":{index},");
            self.push_said(&mut body, choice);
            let finish = choice.finish;
            let _ = write!(body, ",\"logprobs\":null,\"finish_reason\":\"{finish}\",\"stop_reason\":null}}");
        }
        body.push_str("],\"service_tier\":null,\"system_fingerprint\":\"sim\"");
        if let Some(usage) = usage {
            let _ = write!(body, ",\"usage\":{}", usage.json(true));
        }
        body.push('}');
        body
    }

    fn push_said(&self, body: &mut String, choice: &Choice) {
        let speech = choice.speech();
        if self.api == Api::Completions {
            let _ = write!(body, "\"text\":{}", json(&speech));
            return;
        }
        body.push_str("\"message\":{\"role\":\"assistant\",\"content\":");
        match &self.tool {
            None if choice.speaks() => push_json(body, &speech),
            _ => body.push_str("null"),
        }
        body.push_str(",\"refusal\":null");
        if choice.thought > 0 {
            let _ = write!(body, ",\"reasoning\":{}", json(&choice.thinking()));
        }
        match &self.tool {
            Some(tool) if choice.speaks() => {
                let _ = write!(
                    body,
                    ",\"tool_calls\":[{{\"id\":\"{}\",\"type\":\"function\",\"function\":{{\"name\":{},\"arguments\":{}}}}}]}}",
                    self.call_id(),
                    json(tool),
                    json(&arguments(&speech))
                );
            }
            _ => body.push_str(",\"tool_calls\":[]}"),
        }
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
