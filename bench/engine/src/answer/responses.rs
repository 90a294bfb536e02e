//! The Responses API's answers, event for event as vLLM 0.32 writes them.
//!
//! An answer that its maximum cut is `incomplete`, and still ends with the event `response.completed`.

use std::fmt::Write;

use super::{Choice, Chunk, Reported, Shape, arguments, arguments_part, json};

/// One part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Reasoning,
    Message,
    Call,
}

impl Shape {
    pub(super) fn responses_opening(&self, sequence: &mut u32) -> String {
        let response = self.response("in_progress", "[]", None);
        let mut events = String::new();
        for kind in ["response.created", "response.in_progress"] {
            push_event(&mut events, sequence, kind, &format!("\"response\":{response}"));
        }
        events
    }

    pub(super) fn responses_content(&self, chunk: &Chunk, sequence: &mut u32) -> String {
        let choice = self.choice(chunk.choice);
        let item = self.item_of(choice.is_thought(chunk));
        let text = choice.text(chunk.from, chunk.to);
        let begins = choice.begins(chunk);
        let mut events = String::new();
        if begins {
            if choice.thought > 0 && item != Item::Reasoning {
                self.push_done(&mut events, sequence, Item::Reasoning);
            }
            self.push_added(&mut events, sequence, item);
        }
        let (kind, more, delta) = match item {
            Item::Reasoning => ("response.reasoning_text.delta", ",\"content_index\":0", text),
            Item::Message => ("response.output_text.delta", ",\"content_index\":0,\"logprobs\":[]", text),
            Item::Call => (
                "response.function_call_arguments.delta",
                "",
                arguments_part(&text, begins, chunk.finish.is_some()),
            ),
        };
        let members = format!("\"delta\":{}{more},{}", json(&delta), self.place(item));
        push_event(&mut events, sequence, kind, &members);
        events
    }

    pub(super) fn responses_closing(&self, usage: Option<Reported>, sequence: &mut u32) -> String {
        let choice = self.choice(0);
        let mut events = String::new();
        self.push_done(&mut events, sequence, self.item_of(!choice.speaks() && choice.thought > 0));
        let response = self.response(status(choice.finish), &self.output(), usage);
        push_event(&mut events, sequence, "response.completed", &format!("\"response\":{response}"));
        events
    }

    pub(super) fn responses_whole(&self, usage: Option<Reported>) -> String {
        self.response(status(self.choice(0).finish), &self.output(), usage)
    }

    /// The events that open an item.
    fn push_added(&self, events: &mut String, sequence: &mut u32, item: Item) {
        let opened = self.item(item, "in_progress", None);
        let at = self.place(item);
        let index = self.index(item);
        let added = format!("\"item\":{opened},\"output_index\":{index}");
        push_event(events, sequence, "response.output_item.added", &added);
        let part = match item {
            Item::Reasoning => "{\"text\":\"\",\"type\":\"reasoning_text\"}",
            Item::Message => "{\"annotations\":[],\"text\":\"\",\"type\":\"output_text\",\"logprobs\":[]}",
            Item::Call => return,
        };
        let members = format!("\"content_index\":0,\"part\":{part},{at}");
        push_event(events, sequence, part_kind(item, false), &members);
    }

    /// The events that end an item.
    fn push_done(&self, events: &mut String, sequence: &mut u32, item: Item) {
        let choice = self.choice(0);
        let at = self.place(item);
        let index = self.index(item);
        match item {
            Item::Call => {
                let arguments = json(&arguments(&choice.speech()));
                let name = json(self.tool.as_deref().unwrap_or_default());
                let members = format!("\"arguments\":{arguments},\"name\":{name},{at}");
                push_event(events, sequence, "response.function_call_arguments.done", &members);
            }
            Item::Reasoning | Item::Message => {
                let kind = match item {
                    Item::Reasoning => "response.reasoning_text.done",
                    _ => "response.output_text.done",
                };
                let text = json(&said(choice, item));
                let logprobs = if item == Item::Message { ",\"logprobs\":[]" } else { "" };
                let members = format!("\"content_index\":0,\"text\":{text}{logprobs},{at}");
                push_event(events, sequence, kind, &members);
                let members = format!("\"content_index\":0,\"part\":{},{at}", part(item, &text));
                push_event(events, sequence, part_kind(item, true), &members);
            }
        }
        let done = self.item(item, "completed", Some(choice));
        let members = format!("\"item\":{done},\"output_index\":{index}");
        push_event(events, sequence, "response.output_item.done", &members);
    }

    fn item_of(&self, is_thought: bool) -> Item {
        match &self.tool {
            _ if is_thought => Item::Reasoning,
            Some(_) => Item::Call,
            None => Item::Message,
        }
    }

    fn index(&self, item: Item) -> u32 {
        u32::from(item != Item::Reasoning && self.choice(0).thought > 0)
    }

    /// Which item an event is about.
    fn place(&self, item: Item) -> String {
        format!("\"item_id\":\"{}\",\"output_index\":{}", self.item_id(item), self.index(item))
    }

    fn item_id(&self, item: Item) -> String {
        let prefix = match item {
            Item::Reasoning => "rs",
            Item::Message => "msg",
            Item::Call => "fc",
        };
        format!("{prefix}_{}", self.id)
    }

    /// An item with what `choice` says; without a choice nothing is said yet.
    fn item(&self, item: Item, status: &str, choice: Option<&Choice>) -> String {
        let id = self.item_id(item);
        let content = choice.map_or_else(String::new, |choice| part(item, &json(&said(choice, item))));
        match item {
            Item::Reasoning => format!(
                "{{\"id\":\"{id}\",\"summary\":[],\"type\":\"reasoning\",\"content\":[{content}],\
                 \"encrypted_content\":null,\"status\":\"{status}\"}}"
            ),
            Item::Message => format!(
                "{{\"id\":\"{id}\",\"content\":[{content}],\"role\":\"assistant\",\"status\":\"{status}\",\
                 \"type\":\"message\"}}"
            ),
            Item::Call => {
                let arguments = choice.map_or_else(String::new, |choice| arguments(&choice.speech()));
                format!(
                    "{{\"arguments\":{},\"call_id\":\"{}\",\"name\":{},\"type\":\"function_call\",\"id\":\"{id}\",\
                     \"status\":\"{status}\"}}",
                    json(&arguments),
                    self.call_id(),
                    json(self.tool.as_deref().unwrap_or_default())
                )
            }
        }
    }

    /// All items.
    fn output(&self) -> String {
        let choice = self.choice(0);
        let mut items = Vec::new();
        if choice.thought > 0 {
            items.push(self.item(Item::Reasoning, "completed", Some(choice)));
        }
        if choice.speaks() {
            items.push(self.item(self.item_of(false), "completed", Some(choice)));
        }
        format!("[{}]", items.join(","))
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

/// One event; `members` go before its number and its type.
fn push_event(events: &mut String, sequence: &mut u32, kind: &str, members: &str) {
    let number = *sequence;
    *sequence += 1;
    let _ = write!(
        events,
        "event: {kind}\ndata: {{{members},\"sequence_number\":{number},\"type\":\"{kind}\"}}\n\n"
    );
}

fn part_kind(item: Item, is_done: bool) -> &'static str {
    match (item, is_done) {
        (Item::Reasoning, false) => "response.reasoning_part.added",
        (Item::Reasoning, true) => "response.reasoning_part.done",
        (_, false) => "response.content_part.added",
        (_, true) => "response.content_part.done",
    }
}

/// The content of an item, from its text as JSON.
fn part(item: Item, text: &str) -> String {
    match item {
        Item::Reasoning => format!("{{\"text\":{text},\"type\":\"reasoning_text\"}}"),
        _ => format!("{{\"annotations\":[],\"text\":{text},\"type\":\"output_text\",\"logprobs\":null}}"),
    }
}

fn said(choice: &Choice, item: Item) -> String {
    if item == Item::Reasoning { choice.thinking() } else { choice.speech() }
}

fn status(finish: &str) -> &'static str {
    if finish == "length" { "incomplete" } else { "completed" }
}

fn usage_json(usage: Reported) -> String {
    let Reported { prompt, completion, cached, reasoning } = usage;
    let total = prompt.saturating_add(completion);
    let details = cached.map_or_else(String::new, |cached| {
        format!(",\"input_tokens_details\":{{\"cached_tokens\":{cached},\"cache_write_tokens\":0}}")
    });
    format!(
        "{{\"input_tokens\":{prompt}{details},\"output_tokens\":{completion},\
         \"output_tokens_details\":{{\"reasoning_tokens\":{reasoning}}},\"total_tokens\":{total}}}"
    )
}
