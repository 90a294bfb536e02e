//! The Responses API's answers, event for event as vLLM 0.32 writes them.
//!
//! An answer that its maximum cut is `incomplete`, and still ends with the event `response.completed`.

use std::fmt::Write;

use super::{Chunk, Reported, Shape, json, push_json};

impl Shape {
    pub(super) fn responses_opening(&self) -> String {
        let item = self.item_id();
        let mut events = String::new();
        for (number, kind) in ["response.created", "response.in_progress"].iter().enumerate() {
            let response = self.response("in_progress", "[]", None);
            let data =
                format!("{{\"response\":{response},\"sequence_number\":{number},\"type\":\"{kind}\"}}");
            let _ = write!(events, "event: {kind}\ndata: {data}\n\n");
        }
        let _ = write!(
            events,
            "event: response.output_item.added\ndata: {{\"item\":{{\"id\":\"{item}\",\"content\":[],\
             \"role\":\"assistant\",\"status\":\"in_progress\",\"type\":\"message\"}},\"output_index\":0,\
             \"sequence_number\":2,\"type\":\"response.output_item.added\"}}\n\n\
             event: response.content_part.added\ndata: {{\"content_index\":0,\"item_id\":\"{item}\",\"output_index\":0,\
             \"part\":{{\"annotations\":[],\"text\":\"\",\"type\":\"output_text\",\"logprobs\":[]}},\
             \"sequence_number\":3,\"type\":\"response.content_part.added\"}}\n\n"
        );
        events
    }

    pub(super) fn responses_content(&self, chunk: &Chunk) -> String {
        let kind = "response.output_text.delta";
        let mut event = format!("event: {kind}\ndata: {{\"content_index\":0,\"delta\":");
        push_json(&mut event, &self.text(chunk.choice, chunk.from, chunk.to));
        let _ = write!(
            event,
            ",\"item_id\":\"{}\",\"logprobs\":[],\"output_index\":0,\"sequence_number\":{},\"type\":\"{kind}\"}}\n\n",
            self.item_id(),
            4 + chunk.number
        );
        event
    }

    pub(super) fn responses_closing(
        &self,
        length: u32,
        chunks: u32,
        finish: &str,
        usage: Option<Reported>,
    ) -> String {
        let item = self.item_id();
        let text = json(&self.text(0, 0, length));
        let output = self.output(length);
        let response = self.response(status(finish), &output, usage);
        let inner = output.get(1..output.len() - 1).unwrap_or_default();
        let number = 4 + chunks;
        format!(
            "event: response.output_text.done\ndata: {{\"content_index\":0,\"item_id\":\"{item}\",\"logprobs\":[],\
             \"output_index\":0,\"sequence_number\":{number},\"text\":{text},\"type\":\"response.output_text.done\"}}\n\n\
             event: response.content_part.done\ndata: {{\"content_index\":0,\"item_id\":\"{item}\",\"output_index\":0,\
             \"part\":{{\"annotations\":[],\"text\":{text},\"type\":\"output_text\",\"logprobs\":null}},\
             \"sequence_number\":{},\"type\":\"response.content_part.done\"}}\n\n\
             event: response.output_item.done\ndata: {{\"item\":{inner},\"output_index\":0,\"sequence_number\":{},\
             \"type\":\"response.output_item.done\"}}\n\n\
             event: response.completed\ndata: {{\"response\":{response},\"sequence_number\":{},\
             \"type\":\"response.completed\"}}\n\n",
            number + 1,
            number + 2,
            number + 3,
        )
    }

    pub(super) fn responses_whole(&self, length: u32, finish: &str, usage: Option<Reported>) -> String {
        self.response(status(finish), &self.output(length), usage)
    }

    fn item_id(&self) -> String {
        format!("msg_{}", self.id)
    }

    fn output(&self, length: u32) -> String {
        format!(
            "[{{\"id\":\"{}\",\"content\":[{{\"annotations\":[],\"text\":{},\"type\":\"output_text\",\
             \"logprobs\":null}}],\"role\":\"assistant\",\"status\":\"completed\",\"type\":\"message\"}}]",
            self.item_id(),
            json(&self.text(0, 0, length))
        )
    }

    fn response(&self, status: &str, output: &str, usage: Option<Reported>) -> String {
        let details = if status == "incomplete" { "{\"reason\":\"max_output_tokens\"}" } else { "null" };
        let usage = usage.map_or_else(|| "null".to_owned(), usage_json);
        format!(
            "{{\"id\":\"{}\",\"created_at\":{},\"incomplete_details\":{details},\"model\":{},\"object\":\"response\",\
             \"output\":{output},\"parallel_tool_calls\":true,\"service_tier\":\"auto\",\"status\":\"{status}\",\
             \"usage\":{usage}}}",
            self.id,
            self.created,
            json(&self.model)
        )
    }
}

fn status(finish: &str) -> &'static str {
    if finish == "length" { "incomplete" } else { "completed" }
}

fn usage_json(usage: Reported) -> String {
    let Reported { prompt, completion, cached } = usage;
    let total = prompt.saturating_add(completion);
    let details = cached.map_or_else(String::new, |cached| {
        format!(",\"input_tokens_details\":{{\"cached_tokens\":{cached},\"cache_write_tokens\":0}}")
    });
    format!(
        "{{\"input_tokens\":{prompt}{details},\"output_tokens\":{completion},\
         \"output_tokens_details\":{{\"reasoning_tokens\":0}},\"total_tokens\":{total}}}"
    )
}
