//! The bytes of an answer: JSON objects and server-sent events of four APIs, from one description of what to say.

use std::fmt::Write;

use crate::fault::Fault;
use crate::text::piece;
use crate::wire::Api;

mod chat;
mod messages;
pub(crate) mod pooling;
mod responses;

/// Usage as it is reported, which a fault may have made wrong.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reported {
    pub(super) prompt: i64,
    pub(super) completion: i64,
    /// `None`: the server does not report it.
    pub(super) cached: Option<i64>,
    /// Of the completion, reasoning.
    pub(super) reasoning: i64,
}

impl Reported {
    pub(super) fn under(self, fault: &Fault) -> Self {
        match fault.wrong_usage {
            Some((prompt, completion, cached)) => Self { prompt, completion, cached, reasoning: 0 },
            None => self,
        }
    }

    /// `details`: with cached tokens, which running usage does not have.
    fn json(&self, details: bool) -> String {
        let Self { prompt, completion, cached, reasoning } = self;
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
        if details && *reasoning > 0 {
            let _ = write!(json, ",\"completion_tokens_details\":{{\"reasoning_tokens\":{reasoning}}}");
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
    /// The function that the answer calls instead of speaking.
    pub(super) tool: Option<String>,
    pub(super) continuous_usage: bool,
    /// What is said, at least one; the APIs that know only one take the first.
    pub(super) choices: Vec<Choice>,
}

/// What one choice says.
#[derive(Debug, Clone, Default)]
pub(super) struct Choice {
    pub(super) seed: u64,
    /// The prompt, said again before the answer.
    pub(super) echo: String,
    /// Tokens when it is complete.
    pub(super) length: u32,
    /// The first of them are reasoning.
    pub(super) thought: u32,
    /// Whether its tokens are computed but not said.
    pub(super) silent: bool,
    /// Why it ends when it is complete: `length`, `stop`, `tool_calls`.
    pub(super) finish: &'static str,
}

impl Choice {
    /// Tokens `from .. to` as text.
    fn text(&self, from: u32, to: u32) -> String {
        if self.silent { String::new() } else { (from..to).map(|i| piece(self.seed, i)).collect() }
    }

    fn thinking(&self) -> String {
        self.text(0, self.thought)
    }

    /// What comes after the reasoning, with the prompt where that is to be said again.
    fn speech(&self) -> String {
        let mut speech = self.echo.clone();
        speech.push_str(&self.text(self.thought, self.length));
        speech
    }

    /// Whether anything comes after the reasoning.
    fn speaks(&self) -> bool {
        self.length > self.thought
    }

    /// Whether the chunk is reasoning.
    fn is_thought(&self, chunk: &Chunk) -> bool {
        chunk.from < self.thought
    }

    /// Whether nothing of the same kind, reasoning or not, came before the chunk.
    fn begins(&self, chunk: &Chunk) -> bool {
        chunk.from < chunk.to && (chunk.from == 0 || chunk.from == self.thought)
    }

    /// How far a chunk that begins at `from` may go: it is either reasoning or not.
    pub(super) fn chunk_end(&self, from: u32, to: u32) -> u32 {
        if from < self.thought { to.min(self.thought) } else { to }
    }
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
    /// A choice; one without words where there is none of that number.
    pub(super) fn choice(&self, choice: u32) -> &Choice {
        static NONE: Choice =
            Choice { seed: 0, echo: String::new(), length: 0, thought: 0, silent: true, finish: "stop" };
        self.choices.get(choice as usize).unwrap_or(&NONE)
    }

    /// Tokens of the whole answer, and those of them that are reasoning.
    pub(super) fn completion(&self) -> (i64, i64) {
        let sum = |of: fn(&Choice) -> u32| self.choices.iter().map(|choice| i64::from(of(choice))).sum();
        (sum(|choice| choice.length), sum(|choice| choice.thought))
    }

    /// A call's id.
    fn call_id(&self) -> String {
        format!("call-{}", self.id)
    }

    /// The events before any content, where the API has some. `sequence`: the number of the next event, where the API
    /// numbers them.
    pub(super) fn opening(&self, choice: u32, running: Reported, sequence: &mut u32) -> Option<String> {
        match self.api {
            Api::Chat => Some(self.chat_opening(choice, running)),
            Api::Messages => Some(self.messages_opening(running)),
            Api::Responses => Some(self.responses_opening(sequence)),
            _ => None,
        }
    }

    /// A content event, after those that open its part of the answer.
    pub(super) fn content(&self, chunk: &Chunk, sequence: &mut u32) -> String {
        match self.api {
            Api::Messages => self.messages_content(chunk),
            Api::Responses => self.responses_content(chunk, sequence),
            _ => self.chat_content(chunk),
        }
    }

    /// The events after all content, without `[DONE]`. `asked`: the request wants usage, where the API lets it choose.
    pub(super) fn closing(&self, usage: Option<Reported>, asked: bool, sequence: &mut u32) -> Option<String> {
        match self.api {
            Api::Messages => Some(self.messages_closing(usage)),
            Api::Responses => Some(self.responses_closing(usage, sequence)),
            _ => usage.filter(|_| asked).map(|usage| self.chat_closing(usage)),
        }
    }

    /// The closing events without the one that ends a stream of this API.
    pub(super) fn without_end(&self, mut closing: String) -> String {
        if !self.ends_with_done()
            && let Some(last) = closing.rfind("event: ")
        {
            closing.truncate(last);
        }
        closing
    }

    /// Whether a complete stream ends with `[DONE]`.
    pub(super) fn ends_with_done(&self) -> bool {
        matches!(self.api, Api::Chat | Api::Completions)
    }

    /// An error in the middle of a stream, and the stream's end.
    pub(super) fn error_event(&self, code: u16) -> String {
        match self.api {
            Api::Messages => format!(
                "event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"overloaded_error\",\
                 \"message\":\"{code}: the engine is busy\"}}}}\n\n"
            ),
            Api::Responses => format!(
                "event: error\ndata: {{\"type\":\"error\",\"code\":\"{code}\",\"message\":\"The engine is busy\",\
                 \"param\":null,\"sequence_number\":0}}\n\n"
            ),
            _ => format!("data: {}\n\n{DONE}", busy(code)),
        }
    }

    /// The whole answer to a request that does not stream.
    pub(super) fn whole(&self, usage: Option<Reported>) -> String {
        match self.api {
            Api::Messages => self.messages_whole(usage),
            Api::Responses => self.responses_whole(usage),
            _ => self.chat_whole(usage),
        }
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

/// The arguments of a forced call as they stream: JSON that `text` is a part of.
fn arguments_part(text: &str, begins: bool, ends: bool) -> String {
    let mut arguments = if begins { String::from("{\"text\": \"") } else { String::new() };
    let quoted = json(text);
    arguments.push_str(quoted.get(1..quoted.len() - 1).unwrap_or_default());
    if ends {
        arguments.push_str("\"}");
    }
    arguments
}

/// The same, whole.
fn arguments(text: &str) -> String {
    format!("{{\"text\": {}}}", json(text))
}

pub(super) fn json(text: &str) -> String {
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
