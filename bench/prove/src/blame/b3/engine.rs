//! The scripted engine: what it says, and what it counts that it has computed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde_json::{Value, json};
use tiktoken_rs::CoreBPE;

use super::super::fleet::set;
use super::kinds::{KINDS, Kind, Told, Way, drawn, of_user};
use crate::weights::estimate::texts::{Kind as TextKind, halves};
use kit::hostile::{Act, Asked, chunk, event, named};

/// Until the first token.
const PREFILL: Duration = Duration::from_millis(20);
/// A token each, for all kinds alike, as in an engine's batch: the pace of streams tells what a whole answer has generated
/// that nobody waits for. What a departure costs until the engine sees it is a part of one.
const STEP: Duration = Duration::from_millis(3);
/// It ends after so many after all.
const RUNAWAY_TOKENS: u32 = 4_000;
/// What an engine's template adds to a prompt.
const TEMPLATE: u64 = 8;
/// Bytes of the text that answers are cut from.
const TEXT: usize = 60_000;
/// Bytes of a prompt, in the mean.
const PROMPT: u32 = 400;

/// What was computed for one kind.
#[derive(Debug, Default)]
pub(super) struct Computed {
    pub(super) taken: AtomicU64,
    pub(super) prompt: AtomicU64,
    pub(super) generated: Arc<AtomicU64>,
}

/// The engine's texts and books.
pub(super) struct Engine {
    vocabulary: &'static CoreBPE,
    text: String,
    /// The text, token by token.
    pieces: Vec<String>,
    pub(super) books: Vec<Computed>,
}

impl Engine {
    /// # Errors
    /// The repository, whose prose it says, cannot be read.
    pub(super) fn new(seed: u64) -> std::io::Result<Self> {
        let [mut half, _] = halves(TextKind::Prose, &[], seed)?;
        // Tables and headings are no prose, and without other characters every token is text by itself.
        let is_prose =
            |line: &&str| line.starts_with(|first: char| first.is_ascii_alphabetic()) && !line.contains('|');
        let mut text = half.excerpt(TEXT).lines().filter(is_prose).collect::<Vec<_>>().join(" ");
        text.retain(|character| character.is_ascii());
        let vocabulary = tiktoken_rs::o200k_base_singleton();
        let tokens = vocabulary.encode_ordinary(&text);
        let pieces = tokens.iter().filter_map(|token| vocabulary.decode(&[*token]).ok()).collect();
        let books = KINDS.iter().map(|_| Computed::default()).collect();
        Ok(Self { vocabulary, text, pieces, books })
    }

    /// A prompt.
    pub(super) fn prompt(&self, seed: u64) -> String {
        let length = (PROMPT / 2 + drawn(seed ^ 0x5eed) % (PROMPT + 1)) as usize;
        let from = drawn(seed) as usize % (self.text.len() - length).max(1);
        self.text.get(from..from + length).unwrap_or_default().to_owned()
    }

    fn said(&self, seed: u64, tokens: u32) -> impl Iterator<Item = &str> {
        let from = drawn(seed) as usize;
        let at = move |number: u32| (from + number as usize) % self.pieces.len().max(1);
        (0..tokens).map(move |number| self.pieces.get(at(number)).map_or("", String::as_str))
    }

    /// The answer to a request, which is booked as it is computed.
    pub(super) fn answer(&self, asked: &Asked) -> Vec<Act> {
        let body = asked.json();
        let of_kind = of_user(&body).and_then(|(at, seed)| Some((KINDS.get(at)?, self.books.get(at)?, seed)));
        let Some((kind, books, seed)) = of_kind else { return vec![Act::Close] };
        let text = body.get("prompt").or_else(|| body.pointer("/messages/0/content"));
        let text = text.and_then(Value::as_str).unwrap_or_default();
        let prompt = self.vocabulary.encode_ordinary(text).len() as u64 + TEMPLATE;
        books.taken.fetch_add(1, Relaxed);
        books.prompt.fetch_add(prompt, Relaxed);
        let work = Work { engine: self, kind, seed, prompt, asked: &body, generated: &books.generated };
        if kind.streams() { work.stream() } else { work.whole() }
    }
}

/// One request under way.
struct Work<'w> {
    engine: &'w Engine,
    kind: &'w Kind,
    seed: u64,
    prompt: u64,
    asked: &'w Value,
    generated: &'w Arc<AtomicU64>,
}

impl Work<'_> {
    fn option(&self, name: &str) -> bool {
        self.asked.pointer(&format!("/stream_options/{name}")) == Some(&Value::Bool(true))
    }

    fn usage(&self, generated: u64) -> Value {
        json!({
            "prompt_tokens": self.prompt, "completion_tokens": generated, "total_tokens": self.prompt + generated,
        })
    }

    fn is_messages(&self) -> bool {
        self.kind.path.ends_with("messages")
    }

    fn is_completions(&self) -> bool {
        self.kind.path == "/v1/completions"
    }

    fn stream(&self) -> Vec<Act> {
        let tokens = match self.kind.way {
            Way::Runaway => RUNAWAY_TOKENS,
            _ => self.kind.tokens_of(self.seed),
        };
        let mut acts = vec![Act::Sse, Act::Pause(PREFILL)];
        acts.extend(self.beginning());
        for (number, piece) in (1..).zip(self.engine.said(self.seed, tokens)) {
            let said = if self.kind.way == Way::HeldBack { "" } else { piece };
            acts.extend([Act::Pause(STEP), Act::Count(Arc::clone(self.generated))]);
            acts.push(Act::Text(self.token(said, number)));
        }
        if self.kind.way == Way::HeldBack {
            let all: String = self.engine.said(self.seed, tokens).collect();
            // It comes with the last token, which is counted above.
            acts.pop();
            acts.push(Act::Text(self.token(&all, u64::from(tokens))));
        }
        acts.extend(self.ending(u64::from(tokens)));
        acts.push(Act::End);
        acts
    }

    fn beginning(&self) -> Vec<Act> {
        if self.is_completions() {
            return Vec::new();
        }
        if !self.is_messages() {
            return vec![Act::Event(chunk(json!({ "role": "assistant", "content": "" }), Value::Null))];
        }
        let message = json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "sim", "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": { "input_tokens": self.prompt, "output_tokens": 0 },
        });
        vec![
            Act::Named("message_start", json!({ "message": message })),
            Act::Named(
                "content_block_start",
                json!({ "index": 0, "content_block": { "type": "text", "text": "" } }),
            ),
        ]
    }

    /// The event of a token.
    fn token(&self, piece: &str, number: u64) -> String {
        let is_unlisted = self.kind.way == Way::Unlisted;
        if self.is_messages() {
            let delta = if is_unlisted {
                json!({ "type": "a_delta_of_next_year", "a_member_of_next_year": piece })
            } else {
                json!({ "type": "text_delta", "text": piece })
            };
            return named("content_block_delta", json!({ "index": 0, "delta": delta }));
        }
        let mut value = if self.is_completions() {
            json!({
                "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "sim",
                "choices": [{ "index": 0, "text": piece, "finish_reason": null }],
            })
        } else {
            let name = if is_unlisted { "a_member_of_next_year" } else { "content" };
            chunk(json!({ name: piece }), Value::Null)
        };
        if self.option("continuous_usage_stats") {
            set(&mut value, "usage", self.usage(number));
        }
        event(&value)
    }

    fn ending(&self, tokens: u64) -> Vec<Act> {
        if self.is_messages() {
            return vec![
                Act::Named("content_block_stop", json!({ "index": 0 })),
                Act::Named(
                    "message_delta",
                    json!({
                        "delta": { "stop_reason": "end_turn", "stop_sequence": null },
                        "usage": { "output_tokens": tokens },
                    }),
                ),
                Act::Named("message_stop", json!({})),
            ];
        }
        let object = if self.is_completions() { "text_completion" } else { "chat.completion.chunk" };
        let choice = if self.is_completions() {
            json!({ "index": 0, "text": "", "finish_reason": "stop" })
        } else {
            json!({ "index": 0, "delta": {}, "finish_reason": "stop" })
        };
        let chunk = |choices: Value| json!({ "id": "c-1", "object": object, "created": 1, "model": "sim", "choices": choices });
        let mut acts = vec![Act::Event(chunk(json!([choice])))];
        if self.option("include_usage") {
            let mut last = chunk(json!([]));
            set(&mut last, "usage", self.usage(tokens));
            acts.push(Act::Event(last));
        }
        acts.push(Act::Text("data: [DONE]\n\n".to_owned()));
        acts
    }

    fn whole(&self) -> Vec<Act> {
        let tokens = self.kind.tokens_of(self.seed);
        let mut acts = vec![Act::Pause(PREFILL)];
        for _ in 0..tokens {
            acts.extend([Act::Pause(STEP), Act::Count(Arc::clone(self.generated))]);
        }
        let text: String = self.engine.said(self.seed, tokens).collect();
        let mut answer = if self.is_messages() {
            json!({
                "id": "msg_1", "type": "message", "role": "assistant", "model": "sim",
                "content": [{ "type": "text", "text": text }], "stop_reason": "end_turn", "stop_sequence": null,
            })
        } else if self.is_completions() {
            json!({
                "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "sim",
                "choices": [{ "index": 0, "text": text, "finish_reason": "stop" }],
            })
        } else {
            json!({
                "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "sim",
                "choices": [{
                    "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop",
                }],
            })
        };
        let usage = match self.kind.way {
            Way::Whole(Told::Nothing) => None,
            Way::Whole(Told::Zeros) => {
                Some(json!({ "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0 }))
            }
            Way::Whole(Told::Impossible) => {
                Some(json!({ "prompt_tokens": self.prompt, "completion_tokens": -3, "total_tokens": 0 }))
            }
            _ => Some(self.usage(u64::from(tokens))),
        };
        if let Some(usage) = usage {
            set(&mut answer, "usage", usage);
        }
        acts.push(Act::Json(200, answer));
        acts
    }
}
