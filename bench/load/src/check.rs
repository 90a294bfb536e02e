//! Whether an answer is, byte for byte, what the simulated engine sent and what the client asked for.
//!
//! A relay that loses, doubles, reorders or re-encodes anything fails here, and so does one whose streams end as if
//! they were whole when they are not, or show a usage chunk that nobody asked for.

use std::borrow::Cow;

use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use engine::text::piece;

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, thiserror::Error)]
pub enum Corruption {
    /// The text is not the expected one.
    #[error("the text differs")]
    Text,
    /// More text than was asked for.
    #[error("the text is too long")]
    TooLong,
    /// The answer ended as if whole, with tokens missing.
    #[error("tokens are missing")]
    TooShort,
    /// An event that is no JSON of the API.
    #[error("an event is not JSON")]
    Json,
    /// No choice said why it ended.
    #[error("no finish reason")]
    NoFinish,
    /// A stream ended cleanly without `[DONE]`.
    #[error("no [DONE]")]
    NoDone,
    /// Something came after `[DONE]`.
    #[error("events after [DONE]")]
    AfterDone,
    /// Usage was asked for and is missing.
    #[error("no usage")]
    NoUsage,
    /// Usage was not asked for.
    #[error("usage that nobody asked for")]
    UnaskedUsage,
    /// Usage does not say what was generated.
    #[error("usage is wrong")]
    WrongUsage,
    /// One event is larger than [`EVENT_MAX`].
    #[error("an event is too large")]
    HugeEvent,
}

/// Larger events are not waited for, bytes.
pub const EVENT_MAX: usize = 1 << 20;

/// What to expect of an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) seed: u64,
    pub(super) tokens: u32,
    pub(super) usage: bool,
    /// `false`: any text will do, a chunk counts as a token.
    pub(super) text: bool,
}

/// Follows a text through its tokens, whatever the pieces in which it comes.
#[derive(Debug, Clone)]
struct TextCheck {
    expected: Expected,
    /// Whole tokens seen.
    tokens: u32,
    /// Bytes seen of the next one.
    within: usize,
}

impl TextCheck {
    fn new(expected: Expected) -> Self {
        Self { expected, tokens: 0, within: 0 }
    }

    /// How many tokens are complete after this text that were not before.
    fn feed(&mut self, mut text: &str) -> Result<u32, Corruption> {
        if !self.expected.text {
            self.tokens += u32::from(!text.is_empty());
            return Ok(u32::from(!text.is_empty()));
        }
        let before = self.tokens;
        while !text.is_empty() {
            if self.tokens == self.expected.tokens {
                return Err(Corruption::TooLong);
            }
            let due = piece(self.expected.seed, self.tokens).get(self.within..).unwrap_or_default();
            if let Some(rest) = text.strip_prefix(due) {
                text = rest;
                self.tokens += 1;
                self.within = 0;
            } else if due.starts_with(text) {
                self.within += text.len();
                break;
            } else {
                return Err(Corruption::Text);
            }
        }
        Ok(self.tokens - before)
    }

    fn end(&self) -> Result<(), Corruption> {
        let whole = !self.expected.text || (self.tokens == self.expected.tokens && self.within == 0);
        if whole { Ok(()) } else { Err(Corruption::TooShort) }
    }
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Option<Content<'a>>,
    #[serde(borrow, default)]
    message: Option<Content<'a>>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Usage {
    completion_tokens: i64,
}

impl Choice<'_> {
    fn content(&self) -> Option<&str> {
        let said = self.delta.as_ref().or(self.message.as_ref()).and_then(|part| part.content.as_deref());
        said.or(self.text.as_deref())
    }
}

/// What one piece of a stream brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fed {
    /// Tokens that are complete now.
    pub(super) tokens: u32,
    /// Events with content.
    pub(super) chunks: u32,
    /// An error event, which ends the answer.
    pub(super) error: bool,
}

/// Follows a stream of server-sent events, split anywhere.
#[derive(Debug)]
pub(super) struct StreamCheck {
    text: TextCheck,
    buffer: Vec<u8>,
    finished: bool,
    usage: bool,
    done: bool,
}

impl StreamCheck {
    pub(super) fn new(expected: Expected) -> Self {
        Self {
            text: TextCheck::new(expected),
            buffer: Vec::new(),
            finished: false,
            usage: false,
            done: false,
        }
    }

    pub(super) fn tokens(&self) -> u32 {
        self.text.tokens
    }

    /// Takes the next bytes. O(bytes).
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Fed, Corruption> {
        let mut fed = Fed::default();
        // An event that comes whole, which is the rule, is not copied.
        if self.buffer.is_empty() {
            let used = self.events(bytes, &mut fed)?;
            self.buffer.extend_from_slice(bytes.get(used..).unwrap_or_default());
        } else {
            self.buffer.extend_from_slice(bytes);
            let buffer = std::mem::take(&mut self.buffer);
            let used = self.events(&buffer, &mut fed)?;
            self.buffer.extend_from_slice(buffer.get(used..).unwrap_or_default());
        }
        if self.buffer.len() > EVENT_MAX {
            return Err(Corruption::HugeEvent);
        }
        Ok(fed)
    }

    /// Reads whole events; how many bytes they were.
    fn events(&mut self, bytes: &[u8], fed: &mut Fed) -> Result<usize, Corruption> {
        let mut used = 0;
        while let Some(rest) = bytes.get(used..)
            && let Some(length) = memmem::find(rest, b"\n\n")
        {
            for line in rest.get(..length).unwrap_or_default().split(|byte| *byte == b'\n') {
                if let Some(data) = line.strip_prefix(b"data:") {
                    self.data(data.trim_ascii(), fed)?;
                }
            }
            used += length + 2;
        }
        Ok(used)
    }

    fn data(&mut self, data: &[u8], fed: &mut Fed) -> Result<(), Corruption> {
        if self.done {
            return Err(Corruption::AfterDone);
        }
        if data == b"[DONE]" {
            self.done = true;
            return Ok(());
        }
        let event: Event<'_> = serde_json::from_slice(data).map_err(|_| Corruption::Json)?;
        fed.error |= event.error.is_some();
        for choice in &event.choices {
            self.finished |= choice.finish_reason.is_some();
            if let Some(content) = choice.content().filter(|content| !content.is_empty()) {
                fed.tokens += self.text.feed(content)?;
                fed.chunks += 1;
            }
        }
        if let Some(usage) = event.usage {
            self.see_usage(&usage)?;
        }
        Ok(())
    }

    fn see_usage(&mut self, usage: &Usage) -> Result<(), Corruption> {
        if !self.text.expected.usage {
            return Err(Corruption::UnaskedUsage);
        }
        self.usage = true;
        agrees(usage, &self.text)
    }

    /// The stream ended cleanly: is it whole?
    pub(super) fn end(&self) -> Result<(), Corruption> {
        self.text.end()?;
        if !self.finished {
            return Err(Corruption::NoFinish);
        }
        if self.text.expected.usage && !self.usage {
            return Err(Corruption::NoUsage);
        }
        if !self.done { Err(Corruption::NoDone) } else { Ok(()) }
    }
}

fn agrees(usage: &Usage, text: &TextCheck) -> Result<(), Corruption> {
    let due = i64::from(text.tokens);
    if text.expected.text && usage.completion_tokens != due { Err(Corruption::WrongUsage) } else { Ok(()) }
}

/// Checks the body of an answer that did not stream; its tokens.
pub(super) fn whole(body: &[u8], expected: Expected) -> Result<u32, Corruption> {
    let event: Event<'_> = serde_json::from_slice(body).map_err(|_| Corruption::Json)?;
    let choice = event.choices.first().ok_or(Corruption::Json)?;
    let mut text = TextCheck::new(expected);
    text.feed(choice.content().unwrap_or_default())?;
    text.end()?;
    if choice.finish_reason.is_none() {
        return Err(Corruption::NoFinish);
    }
    let usage = event.usage.ok_or(Corruption::NoUsage)?;
    agrees(&usage, &text)?;
    Ok(u32::try_from(usage.completion_tokens).unwrap_or(text.tokens))
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::text::expected_text;

    fn expected(tokens: u32, usage: bool) -> Expected {
        Expected { seed: 5, tokens, usage, text: true }
    }

    fn event(content: &str, finish: &str) -> String {
        let content = serde_json::Value::from(content);
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":{content}}},\"finish_reason\":{finish}}}]}}\n\n"
        )
    }

    /// A good stream of three tokens.
    fn good() -> String {
        let usage = "data: {\"choices\":[],\"usage\":{\"completion_tokens\":3}}\n\n";
        let parts: String =
            (0..3).map(|i| event(piece(5, i), if i == 2 { "\"stop\"" } else { "null" })).collect();
        format!(": keep-alive\n\n{parts}{usage}data: [DONE]\n\n")
    }

    fn verdict(stream: &str, expected: Expected) -> Result<u32, Corruption> {
        let mut check = StreamCheck::new(expected);
        check.feed(stream.as_bytes())?;
        check.end()?;
        Ok(check.tokens())
    }

    #[test]
    fn a_good_stream_is_good_however_it_is_split() {
        let stream = good();
        for at in 0..stream.len() {
            let (first, second) = stream.as_bytes().split_at(at);
            let mut check = StreamCheck::new(expected(3, true));
            let mut tokens = check.feed(first).expect("good").tokens;
            tokens += check.feed(second).expect("good").tokens;
            check.end().expect("whole");
            assert_eq!(tokens, 3);
        }
    }

    #[test]
    fn every_way_to_be_wrong_is_noticed() {
        let good = good();
        let cases = [
            (good.replacen("content\":", "content\":\"x\",\"x\":", 1), Corruption::Text),
            (good.replacen(&event(piece(5, 1), "null"), "", 1), Corruption::Text),
            (good.replacen("data: [DONE]\n\n", "", 1), Corruption::NoDone),
            (good.replacen("\"stop\"", "null", 1), Corruption::NoFinish),
            (good.replacen(":3}", ":4}", 1), Corruption::WrongUsage),
            (good.replacen(",\"usage\":{\"completion_tokens\":3}", "", 1), Corruption::NoUsage),
            (format!("{good}data: {{}}\n\n"), Corruption::AfterDone),
            (good.replacen("{\"choices\"", "{{\"choices\"", 1), Corruption::Json),
        ];
        for (stream, corruption) in cases {
            assert_eq!(verdict(&stream, expected(3, true)), Err(corruption), "{stream}");
        }
        assert_eq!(verdict(&good, expected(3, false)), Err(Corruption::UnaskedUsage));
        assert_eq!(verdict(&good, expected(2, true)), Err(Corruption::TooLong));
        let unasked = good.replacen(",\"usage\":{\"completion_tokens\":3}", "", 1);
        assert_eq!(verdict(&unasked, expected(4, false)), Err(Corruption::TooShort));
    }

    #[test]
    fn a_whole_answer_is_checked_as_well() {
        let content = serde_json::Value::from(expected_text(5, 9));
        let body = |usage: u32| {
            format!(
                "{{\"choices\":[{{\"message\":{{\"content\":{content}}},\"finish_reason\":\"stop\"}}],\
                 \"usage\":{{\"completion_tokens\":{usage}}}}}"
            )
        };
        assert_eq!(whole(body(9).as_bytes(), expected(9, true)), Ok(9));
        assert_eq!(whole(body(8).as_bytes(), expected(9, true)), Err(Corruption::WrongUsage));
        assert_eq!(whole(body(9).as_bytes(), expected(10, true)), Err(Corruption::TooShort));
    }
}
