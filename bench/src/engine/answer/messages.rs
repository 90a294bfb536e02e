//! The Messages API's answers, event for event as vLLM 0.32 writes them.
//!
//! Usage comes twice: `message_start` has the whole prompt as input, `message_delta` splits it into cached and not.

use std::fmt::Write;

use super::{Chunk, Reported, Shape, json, push_json};

impl Shape {
    pub(super) fn messages_opening(&self, usage: Reported) -> String {
        format!(
            "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"id\":\"{}\",\"type\":\"message\",\
             \"role\":\"assistant\",\"content\":[],\"model\":{},\"stop_reason\":null,\"stop_sequence\":null,\
             \"usage\":{{\"input_tokens\":{},\"output_tokens\":0}}}}}}\n\n\
             event: content_block_start\ndata: {{\"type\":\"content_block_start\",\
             \"content_block\":{{\"type\":\"text\",\"text\":\"\"}},\"index\":0}}\n\n",
            self.id,
            json(&self.model),
            usage.prompt
        )
    }

    pub(super) fn messages_content(&self, chunk: &Chunk) -> String {
        let mut event = String::from(
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\
             \"text\":",
        );
        push_json(&mut event, &self.text(chunk.choice, chunk.from, chunk.to));
        event.push_str("},\"index\":0}\n\n");
        event
    }

    pub(super) fn messages_closing(&self, finish: &str, usage: Option<Reported>) -> String {
        let mut events = format!(
            "event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":0}}\n\n\
             event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"{}\",\
             \"stop_sequence\":null}}",
            stop_reason(finish)
        );
        if let Some(usage) = usage {
            let _ = write!(events, ",\"usage\":{}", usage_json(usage));
        }
        events.push_str("}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
        events
    }

    pub(super) fn messages_whole(&self, length: u32, finish: &str, usage: Option<Reported>) -> String {
        let mut body = format!(
            "{{\"id\":\"{}\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[{{\"type\":\"text\",\"text\":{}}}],\
             \"model\":{},\"stop_reason\":\"{}\",\"stop_sequence\":null",
            self.id,
            json(&self.text(0, 0, length)),
            json(&self.model),
            stop_reason(finish)
        );
        if let Some(usage) = usage {
            let _ = write!(body, ",\"usage\":{}", usage_json(usage));
        }
        body.push('}');
        body
    }
}

fn stop_reason(finish: &str) -> &'static str {
    if finish == "length" { "max_tokens" } else { "end_turn" }
}

fn usage_json(usage: Reported) -> String {
    let Reported { prompt, completion, cached } = usage;
    match cached {
        Some(cached) => format!(
            "{{\"input_tokens\":{},\"output_tokens\":{completion},\"cache_creation_input_tokens\":0,\
             \"cache_read_input_tokens\":{cached}}}",
            prompt - cached
        ),
        None => format!("{{\"input_tokens\":{prompt},\"output_tokens\":{completion}}}"),
    }
}
