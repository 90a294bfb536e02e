//! The Messages API's answers, event for event as vLLM 0.32 writes them.
//!
//! Usage comes twice: `message_start` has the whole prompt as input, `message_delta` splits it into cached and not.

use std::fmt::Write;

use super::{Chunk, Reported, Shape, arguments, arguments_part, json, push_json};

impl Shape {
    pub(super) fn messages_opening(&self, usage: Reported) -> String {
        format!(
            "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"id\":\"{}\",\"type\":\"message\",\
             \"role\":\"assistant\",\"content\":[],\"model\":{},\"stop_reason\":null,\"stop_sequence\":null,\
             \"usage\":{{\"input_tokens\":{},\"output_tokens\":0}}}}}}\n\n",
            self.id,
            json(&self.model),
            usage.prompt
        )
    }

    pub(super) fn messages_content(&self, chunk: &Chunk) -> String {
        let choice = self.choice(chunk.choice);
        let (is_thought, begins) = (choice.is_thought(chunk), choice.begins(chunk));
        let block = u32::from(choice.thought > 0 && !is_thought);
        let text = choice.text(chunk.from, chunk.to);
        let mut event = String::new();
        if begins && block > 0 {
            event.push_str(&self.end_of_thought());
        }
        let tool = self.tool.as_deref().filter(|_| !is_thought);
        if begins {
            let opened = match tool {
                Some(tool) => self.tool_use(tool, "{}"),
                None if is_thought => "{\"type\":\"thinking\",\"thinking\":\"\"}".to_owned(),
                None => "{\"type\":\"text\",\"text\":\"\"}".to_owned(),
            };
            let _ = write!(
                event,
                "event: content_block_start\ndata: {{\"type\":\"content_block_start\",\"content_block\":{opened},\
                 \"index\":{block}}}\n\n"
            );
        }
        let (kind, member, said) = match tool {
            Some(_) => {
                ("input_json_delta", "partial_json", arguments_part(&text, begins, chunk.finish.is_some()))
            }
            None if is_thought => ("thinking_delta", "thinking", text),
            None => ("text_delta", "text", text),
        };
        let _ = write!(
            event,
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"delta\":{{\"type\":\"{kind}\",\
             \"{member}\":"
        );
        push_json(&mut event, &said);
        let _ = write!(event, "}},\"index\":{block}}}\n\n");
        event
    }

    pub(super) fn messages_closing(&self, usage: Option<Reported>) -> String {
        let choice = self.choice(0);
        let mut events = match (choice.thought > 0, choice.speaks()) {
            (true, false) => self.end_of_thought(),
            (thought, _) => format!(
                "event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":{}}}\n\n",
                u32::from(thought)
            ),
        };
        let _ = write!(
            events,
            "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"{}\",\
             \"stop_sequence\":null}}",
            stop_reason(choice.finish)
        );
        if let Some(usage) = usage {
            let _ = write!(events, ",\"usage\":{}", usage_json(usage));
        }
        events.push_str("}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
        events
    }

    /// The end of the block that was thought in: signed, as clients send it back.
    fn end_of_thought(&self) -> String {
        format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"delta\":\
             {{\"type\":\"signature_delta\",\"signature\":\"{}\"}},\"index\":0}}\n\n\
             event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":0}}\n\n",
            self.signature()
        )
    }

    fn signature(&self) -> String {
        format!("sig-{}", self.id)
    }

    fn tool_use(&self, tool: &str, input: &str) -> String {
        let id = self.call_id();
        format!("{{\"type\":\"tool_use\",\"id\":\"{id}\",\"name\":{},\"input\":{input}}}", json(tool))
    }

    pub(super) fn messages_whole(&self, usage: Option<Reported>) -> String {
        let choice = self.choice(0);
        let mut blocks = Vec::new();
        if choice.thought > 0 {
            let (thinking, signature) = (json(&choice.thinking()), self.signature());
            blocks.push(format!(
                "{{\"type\":\"thinking\",\"thinking\":{thinking},\"signature\":\"{signature}\"}}"
            ));
        }
        if choice.speaks() {
            blocks.push(match &self.tool {
                Some(tool) => self.tool_use(tool, &arguments(&choice.speech())),
                None => format!("{{\"type\":\"text\",\"text\":{}}}", json(&choice.speech())),
            });
        }
        let mut body = format!(
            "{{\"id\":\"{}\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[{}],\
             \"model\":{},\"stop_reason\":\"{}\",\"stop_sequence\":null",
            self.id,
            blocks.join(","),
            json(&self.model),
            stop_reason(choice.finish)
        );
        if let Some(usage) = usage {
            let _ = write!(body, ",\"usage\":{}", usage_json(usage));
        }
        body.push('}');
        body
    }
}

fn stop_reason(finish: &str) -> &'static str {
    match finish {
        "length" => "max_tokens",
        "tool_calls" => "tool_use",
        _ => "end_turn",
    }
}

fn usage_json(usage: Reported) -> String {
    let Reported { prompt, completion, cached, .. } = usage;
    match cached {
        Some(cached) => format!(
            "{{\"input_tokens\":{},\"output_tokens\":{completion},\"cache_creation_input_tokens\":0,\
             \"cache_read_input_tokens\":{cached}}}",
            prompt - cached
        ),
        None => format!("{{\"input_tokens\":{prompt},\"output_tokens\":{completion}}}"),
    }
}
