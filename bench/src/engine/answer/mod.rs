//! The bytes of an answer: JSON objects and server-sent events of four APIs, from one description of what to say.

use std::fmt::Write;

use super::fault::Fault;
use super::text::piece;
use super::wire::Api;

mod chat;
mod messages;
mod responses;

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

    /// `details`: with cached tokens, which running usage does not have.
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
    /// Tokens of each choice when it is complete.
    pub(super) length: u32,
    /// Why a complete choice ends: `length`, `stop`, `tool_calls`.
    pub(super) finish: &'static str,
}

/// One content chunk: tokens `from .. to` of a choice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk {
    pub(super) choice: u32,
    /// Chunks before it in the whole answer.
    pub(super) number: u32,
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

    /// The events before any content, where the API has some.
    pub(super) fn opening(&self, choice: u32, running: Reported) -> Option<String> {
        match self.api {
            Api::Chat => Some(self.chat_opening(choice, running)),
            Api::Messages => Some(self.messages_opening(running)),
            Api::Responses => Some(self.responses_opening()),
            _ => None,
        }
    }

    /// A content event.
    pub(super) fn content(&self, chunk: &Chunk) -> String {
        match self.api {
            Api::Messages => self.messages_content(chunk),
            Api::Responses => self.responses_content(chunk),
            _ => self.chat_content(chunk),
        }
    }

    /// The events after all content, without `[DONE]`. `asked`: the request wants usage, where the API lets it choose.
    pub(super) fn closing(&self, chunks: u32, usage: Option<Reported>, asked: bool) -> Option<String> {
        match self.api {
            Api::Messages => Some(self.messages_closing(self.finish, usage)),
            Api::Responses => Some(self.responses_closing(self.length, chunks, self.finish, usage)),
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
    pub(super) fn whole(&self, choices: u32, usage: Option<Reported>) -> String {
        match self.api {
            Api::Messages => self.messages_whole(self.length, self.finish, usage),
            Api::Responses => self.responses_whole(self.length, self.finish, usage),
            _ => self.chat_whole(choices, self.length, self.finish, usage),
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
