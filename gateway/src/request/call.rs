//! What a request asks for, read from its body, and the body that goes to the engine instead.
//!
//! The engine gets the client's bytes with a few values written by us: the served model's name, and on streams
//! `stream_options`, so that usage always comes. Everything else stays byte for byte. Because we write what
//! decides, the engine cannot read another model or another stream flag than was admitted and charged.

use crate::api::Api;
use crate::entropy::stable_hash;
use crate::refusal::{Reason, Refusal};
use crate::request::depth::nests_at_most;
use crate::request::exact::PromptText;
use crate::request::members::{Member, Members};
use bytes::Bytes;
use serde::Deserialize;
use std::ops::Range;

/// Most choices (`n`) of one request. Each is a stream of its own in the engine; OpenAI's own bound is 128.
pub const CHOICES_MAX: u32 = 128;
/// Longest model name that is looked up, bytes.
pub const MODEL_NAME_MAX: usize = 256;

/// The tier that a body asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TierWish {
    /// `service_tier` is absent or `auto`: the account's default.
    Default,
    /// `priority`, or its other name `fast`.
    Priority,
    /// Anything else.
    Regular,
}

/// One request, read.
#[derive(Debug)]
pub struct Call {
    /// The API it came by.
    pub api: Api,
    /// The client's bytes.
    pub body: Bytes,
    /// The public model name.
    pub model: String,
    /// Whether the answer is to be a stream.
    pub stream: bool,
    /// Whether the client itself asked for the usage chunk of a stream.
    pub usage_asked: bool,
    /// The largest answer that the client allows, tokens per choice.
    pub max_tokens: Option<u32>,
    /// Choices, at least 1.
    pub choices: u32,
    /// The tier asked for.
    pub tier: TierWish,
    /// A hint that requests with the same value share a prefix (`prompt_cache_key` or `user`).
    pub affinity: Option<u64>,
    /// Where the prompt lies in the body: the parts that are weighed, in order.
    pub prompt: Vec<Range<usize>>,
    /// Where the tools lie.
    pub tools: Option<Range<usize>>,
    continuous_usage: bool,
    model_at: Range<usize>,
    stream_options_at: Option<Range<usize>>,
    service_tier_at: Option<Range<usize>>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
    #[serde(default)]
    continuous_usage_stats: Option<bool>,
}

impl Call {
    /// Reads `body`, nesting at most `depth_max` deep, as a request of `api`. O(bytes); allocates the model's name and a few ranges.
    ///
    /// # Errors
    /// 400 with a sentence that names the member at fault.
    pub fn read(api: Api, body: Bytes, depth_max: u32) -> Result<Call, Refusal> {
        let text = std::str::from_utf8(&body).map_err(|e| {
            Refusal::bad(format!("The request body must be UTF-8 JSON; byte {} is not.", e.valid_up_to()))
        })?;
        if !nests_at_most(text.as_bytes(), depth_max) {
            return Err(Refusal::bad(format!("The request body nests deeper than {depth_max} levels.")));
        }
        let members = Members::read(text).map_err(Refusal::bad)?;
        let model = required_model(&members)?;
        let stream = flag(&members, Member::Stream, "stream")?.unwrap_or(false);
        let options = stream_options(&members, stream)?;
        let prompt = api
            .prompt_members()
            .iter()
            .filter_map(|&m| members.raw(m).and_then(|_| members.span(m)))
            .collect();
        api.require_prompt(&members)?;
        Ok(Call {
            api,
            model,
            stream,
            usage_asked: options.as_ref().and_then(|o| o.include_usage).unwrap_or(false),
            continuous_usage: options.and_then(|o| o.continuous_usage_stats).unwrap_or(false),
            max_tokens: api.max_tokens(&members)?,
            choices: choices(&members)?,
            tier: tier_wish(&members)?,
            affinity: members
                .raw(Member::PromptCacheKey)
                .or(members.raw(Member::User))
                .map(|raw| stable_hash(raw.as_bytes())),
            prompt,
            tools: members.raw(Member::Tools).and_then(|_| members.span(Member::Tools)),
            model_at: members.span(Member::Model).unwrap_or_default(),
            stream_options_at: members.span(Member::StreamOptions),
            service_tier_at: members
                .span(Member::ServiceTier)
                .filter(|_| members.raw(Member::ServiceTier) == Some("\"fast\"")),
            body: body.clone(),
        })
    }

    /// Length of the prompt's text and tools as sent, bytes.
    #[must_use]
    pub fn prompt_bytes(&self) -> u64 {
        self.prompt.iter().chain(self.tools.iter()).map(|r| r.len() as u64).sum()
    }

    /// The text of the prompt; `None` where there is more than text in it.
    #[must_use]
    pub fn prompt_text(&self) -> Option<PromptText> {
        let [only] = self.prompt.as_slice() else { return None };
        PromptText::of_messages(std::str::from_utf8(self.body.get(only.clone())?).ok()?)
    }

    /// The body for an engine that knows the model as `served_model`, as consecutive pieces: ours and slices of
    /// the client's. No copy of the client's bytes. At most nine pieces.
    #[must_use]
    pub fn forwarded(&self, served_model: &str) -> Vec<Bytes> {
        let mut edits = vec![(self.model_at.clone(), quoted(served_model))];
        if let Some(at) = &self.service_tier_at {
            // `fast` is our other name for priority; engines that check the value know only this one.
            edits.push((at.clone(), Bytes::from_static(b"\"priority\"")));
        }
        if self.stream && self.api.takes_stream_options() {
            let value = self.upstream_stream_options();
            match &self.stream_options_at {
                Some(at) => edits.push((at.clone(), Bytes::from_static(value.as_bytes()))),
                None => {
                    let after_brace = self.body.iter().position(|&b| b == b'{').map_or(0, |at| at + 1);
                    let member = format!("\"stream_options\":{value},");
                    edits.push((after_brace..after_brace, Bytes::from(member)));
                }
            }
        }
        edits.sort_by_key(|(at, _)| at.start);
        splice(&self.body, edits)
    }

    /// The model's name for the answer, as the JSON string that the client sent, where the engine uses another.
    #[must_use]
    pub fn name_shown(&self, served_model: &str) -> Option<&str> {
        let asked = self.body.get(self.model_at.clone()).and_then(|bytes| std::str::from_utf8(bytes).ok());
        asked.filter(|_| self.model != served_model)
    }

    fn upstream_stream_options(&self) -> &'static str {
        if self.continuous_usage {
            r#"{"include_usage":true,"continuous_usage_stats":true}"#
        } else {
            r#"{"include_usage":true}"#
        }
    }
}

/// The pieces of `body` with each range replaced. Ranges ascend and do not overlap.
fn splice(body: &Bytes, edits: Vec<(Range<usize>, Bytes)>) -> Vec<Bytes> {
    let mut pieces = Vec::with_capacity(2 * edits.len() + 1);
    let mut from = 0;
    for (at, replacement) in edits {
        pieces.push(body.slice(from.min(at.start)..at.start));
        pieces.push(replacement);
        from = at.end;
    }
    pieces.push(body.slice(from..));
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

fn quoted(text: &str) -> Bytes {
    serde_json::to_vec(text).map(Bytes::from).unwrap_or_else(|_| Bytes::from_static(b"\"\""))
}

fn required_model(members: &Members<'_>) -> Result<String, Refusal> {
    let raw = members.raw(Member::Model).ok_or_else(|| {
        Refusal::bad("The request has no `model`. Name one of GET /v1/models.").param("model")
    })?;
    let model: String = parse(raw, "model", "a string")?;
    if model.is_empty() || model.len() > MODEL_NAME_MAX {
        return Err(Refusal::bad(format!("`model` must have 1 to {MODEL_NAME_MAX} bytes.")).param("model"));
    }
    Ok(model)
}

fn flag(members: &Members<'_>, member: Member, name: &'static str) -> Result<Option<bool>, Refusal> {
    members.raw(member).map(|raw| parse(raw, name, "true or false")).transpose()
}

fn stream_options(members: &Members<'_>, stream: bool) -> Result<Option<StreamOptions>, Refusal> {
    let Some(raw) = members.raw(Member::StreamOptions) else { return Ok(None) };
    if !stream {
        return Err(
            Refusal::bad("`stream_options` is only allowed when `stream` is true.").param("stream_options")
        );
    }
    parse(raw, "stream_options", "an object whose `include_usage` is true or false").map(Some)
}

fn choices(members: &Members<'_>) -> Result<u32, Refusal> {
    let n: u32 = match members.raw(Member::N) {
        Some(raw) => parse(raw, "n", "an integer")?,
        None => 1,
    };
    if n == 0 || n > CHOICES_MAX {
        return Err(Refusal::bad(format!("`n` must be between 1 and {CHOICES_MAX}, is {n}.")).param("n"));
    }
    Ok(n)
}

fn tier_wish(members: &Members<'_>) -> Result<TierWish, Refusal> {
    let Some(raw) = members.raw(Member::ServiceTier) else { return Ok(TierWish::Default) };
    let tier: String = parse(raw, "service_tier", "a string")?;
    Ok(match tier.as_str() {
        "auto" => TierWish::Default,
        "priority" | "fast" => TierWish::Priority,
        _ => TierWish::Regular,
    })
}

/// A token maximum: a positive integer that fits in 32 bits.
///
/// # Errors
/// 400 that names the member and says what is expected.
pub(crate) fn token_maximum(
    members: &Members<'_>,
    member: Member,
    name: &'static str,
) -> Result<Option<u32>, Refusal> {
    let Some(raw) = members.raw(member) else { return Ok(None) };
    let tokens: u32 =
        parse(raw, name, "a positive integer of at most 4294967295; leave it out for no maximum")?;
    if tokens == 0 {
        return Err(Refusal::bad(format!("`{name}` must be at least 1.")).param(name));
    }
    Ok(Some(tokens))
}

fn parse<'a, T: Deserialize<'a>>(raw: &'a str, name: &'static str, expected: &str) -> Result<T, Refusal> {
    serde_json::from_str(raw).map_err(|_| {
        let shown: String = raw.chars().take(40).collect();
        Refusal::bad(format!("`{name}` must be {expected}, is {shown}.")).param(name)
    })
}

/// The refusal of a prompt that certainly exceeds the window.
#[must_use]
pub fn context_too_long(tokens: u32, context: u32) -> Refusal {
    Refusal::new(
        Reason::ContextTooLong,
        format!("The prompt has at least {tokens} tokens, the model's context window {context}. Shorten the prompt."),
    )
    .param("messages")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Call, Refusal> {
        Call::read(Api::Chat, Bytes::copy_from_slice(body.as_bytes()), 64)
    }

    fn forwarded(body: &str) -> String {
        let pieces = read(body).unwrap().forwarded("served/name");
        String::from_utf8(pieces.concat()).unwrap()
    }

    #[test]
    fn the_model_is_replaced_and_everything_else_is_kept_byte_for_byte() {
        let sent = r#"{ "messages" : [ {"role":"user","content":"h\u00e9\n"} ],  "model":"m", "x": 1.00 }"#;
        let expected = sent.replace(r#""m","#, r#""served/name","#);
        assert_eq!(forwarded(sent), expected);
    }

    #[test]
    fn streams_always_ask_for_usage() {
        let absent = forwarded(r#"{"model":"m","messages":[],"stream":true}"#);
        assert_eq!(
            absent,
            r#"{"stream_options":{"include_usage":true},"model":"served/name","messages":[],"stream":true}"#
        );
        let present = forwarded(
            r#"{"model":"m","stream_options":{"include_usage":false},"messages":[],"stream":true}"#,
        );
        assert_eq!(
            present,
            r#"{"model":"served/name","stream_options":{"include_usage":true},"messages":[],"stream":true}"#
        );
        let null = forwarded(r#"{"model":"m","stream_options":null,"messages":[],"stream":true}"#);
        assert!(null.contains(r#""stream_options":{"include_usage":true}"#), "{null}");
    }

    #[test]
    fn stream_options_are_not_added_where_engines_refuse_them() {
        assert!(!forwarded(r#"{"model":"m","messages":[]}"#).contains("stream_options"));
    }

    #[test]
    fn the_other_name_of_priority_becomes_the_one_that_engines_know() {
        let body = forwarded(r#"{"model":"m","messages":[],"service_tier":"fast"}"#);
        assert!(body.contains(r#""service_tier":"priority""#), "{body}");
    }

    #[test]
    fn the_larger_maximum_counts_when_both_are_given() {
        let call = read(r#"{"model":"m","messages":[],"max_tokens":9,"max_completion_tokens":700}"#).unwrap();
        assert_eq!(call.max_tokens, Some(700));
    }

    #[test]
    fn wrong_types_are_refused_with_the_parameter_at_fault() {
        for (member, value) in [
            ("max_tokens", "1.5"),
            ("max_tokens", "-1"),
            ("max_tokens", "\"9\""),
            ("max_tokens", "1e999"),
            ("max_completion_tokens", "0"),
            ("n", "0"),
            ("n", "129"),
            ("stream", "1"),
            ("service_tier", "7"),
        ] {
            let body = format!(r#"{{"model":"m","messages":[],"{member}":{value}}}"#);
            let refusal = read(&body).unwrap_err();
            assert_eq!((refusal.reason, refusal.param), (Reason::BadRequest, Some(member)), "{body}");
        }
    }

    #[test]
    fn tiers_are_read_by_name_and_unknown_ones_are_regular() {
        let tier = |value: &str| {
            read(&format!(r#"{{"model":"m","messages":[],"service_tier":{value}}}"#)).unwrap().tier
        };
        assert_eq!(tier("\"priority\""), TierWish::Priority);
        assert_eq!(tier("\"fast\""), TierWish::Priority);
        assert_eq!(tier("\"auto\""), TierWish::Default);
        assert_eq!(tier("null"), TierWish::Default);
        assert_eq!(tier("\"default\""), TierWish::Regular);
        assert_eq!(tier("\"scale\""), TierWish::Regular);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused() {
        let refusal = Call::read(Api::Chat, Bytes::from_static(b"{\"model\":\"\xff\"}"), 64).unwrap_err();
        assert!(refusal.message.contains("UTF-8"), "{}", refusal.message);
    }
}
