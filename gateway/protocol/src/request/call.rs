//! What a request asks for, read from its body, and the body that goes to the engine instead.
//!
//! The engine gets the client's bytes with a few values written by us: the served model's name, and on streams
//! `stream_options`, so that usage always comes. Everything else stays byte for byte. Because we write what
//! decides, the engine cannot read another model or another stream flag than was admitted and charged.

use crate::answer::Stamp;
use crate::api::prompts::Prompts;
use crate::api::{Api, Family, Form};
use crate::engine::{Engine, RunningUsage};
use crate::json::depth::nests_at_most;
use crate::json::members::{Member, Members, Parameter};
use crate::refusal::context::ContextOverflow;
use crate::refusal::{Reason, Refusal};
use crate::request::model_name::ModelName;
use crate::request::policy::Edits;
use crate::request::prompt_text::PromptText;
use crate::request::stops;
use crate::stable_hash;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use shedder::Tier;
use std::ops::Range;

/// Most choices (`n`) of one request. Each is a stream of its own in the engine; OpenAI's own bound is 128.
pub const CHOICES_MAX: u32 = 128;
/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The tier that a body asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TierWish {
    /// `service_tier` is absent or `auto`: the account's default.
    Default,
    /// `priority`, or its other name `fast`.
    Priority,
    /// `flex`.
    Flex,
    /// Anything else.
    Regular,
}

/// One request, read.
#[derive(Debug)]
pub struct Call {
    /// The API it came by.
    pub api: Api,
    /// The client's bytes, until they are given up.
    body: Mutex<Bytes>,
    /// How many there were.
    pub body_bytes: u64,
    /// The public model name.
    pub model: String,
    /// Whether the answer is to be a stream.
    pub stream: bool,
    /// Whether the client itself asked for the usage chunk of a stream.
    pub usage_asked: bool,
    /// The largest answer that the client allows, tokens per choice.
    pub max_tokens: Option<u32>,
    /// Answers that are generated, of all prompts together; at least 1.
    pub choices: u32,
    /// The prompts, counted.
    pub prompts: Prompts,
    /// The tier asked for.
    pub tier: TierWish,
    /// A hint that requests with the same value share a prefix (`prompt_cache_key` or `user`).
    pub affinity: Option<u64>,
    /// Where the prompt lies in the body: the parts that are weighed, in order.
    pub prompt: Vec<Range<usize>>,
    /// Where the tools lie.
    pub tools: Option<Range<usize>>,
    /// Every top-level member, for the deployment's policy on parameters.
    pub parameters: Vec<Parameter>,
    /// The same without the names that only some engines know.
    common_max_tokens: Option<u32>,
    continuous_usage: bool,
    model_name: ModelName,
    stream_options_at: Option<Range<usize>>,
    /// Place of the tier, if one is asked for.
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
        Call::read_named(api, body, depth_max, None)
    }

    /// The same where the path may name the model: `named` is used where the body has none.
    ///
    /// # Errors
    /// As [`Call::read`].
    pub fn read_named(api: Api, body: Bytes, depth_max: u32, named: Option<&str>) -> Result<Call, Refusal> {
        let body = without_mark(body);
        let text = std::str::from_utf8(&body).map_err(|e| {
            Refusal::bad(format!("The request body must be UTF-8 JSON; byte {} is not.", e.valid_up_to()))
        })?;
        if !nests_at_most(text.as_bytes(), depth_max) {
            return Err(Refusal::bad(format!("The request body nests deeper than {depth_max} levels.")));
        }
        let members = Members::read(text).map_err(Refusal::bad)?;
        let (model, model_name) = ModelName::read(&members, named)?;
        let form = api.form();
        refuse_unmetered(form, &members)?;
        let stream = stream(form, &members)?;
        let options = stream_options(form, &members, stream)?;
        stops::check(&members)?;
        let prompts = (form.prompts)(&members)?;
        let common: Vec<Member> = form.maxima.iter().copied().filter(|&m| m != Member::NPredict).collect();
        let spans = form.prompt.iter().filter_map(|&m| members.raw(m).and_then(|_| members.span(m)));
        Ok(Call {
            api,
            model,
            stream,
            usage_asked: options.as_ref().and_then(|o| o.include_usage).unwrap_or(false),
            continuous_usage: options.and_then(|o| o.continuous_usage_stats).unwrap_or(false),
            max_tokens: max_tokens(form.maxima, &members)?,
            common_max_tokens: max_tokens(&common, &members)?,
            choices: choices(form, &members)?.saturating_mul(prompts.count),
            prompts,
            tier: tier(&members)?,
            affinity: affinity(form, &members),
            prompt: spans.collect(),
            tools: members.raw(Member::Tools).and_then(|_| members.span(Member::Tools)),
            parameters: members.parameters(text),
            model_name,
            stream_options_at: members.span(Member::StreamOptions),
            service_tier_at: members.raw(Member::ServiceTier).and_then(|_| members.span(Member::ServiceTier)),
            body_bytes: body.len() as u64,
            body: Mutex::new(body.clone()),
        })
    }

    /// The client's bytes; empty once they were given up. O(1), no copy.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.body.lock().clone()
    }

    /// Lets go of the client's bytes: the request will not be sent again. What was read of them stays.
    pub fn give_up_body(&self) {
        drop(std::mem::take(&mut *self.body.lock()));
    }

    /// Length of the prompt's text and tools as sent, bytes.
    #[must_use]
    pub fn prompt_bytes(&self) -> u64 {
        self.prompt.iter().chain(self.tools.iter()).map(|r| r.len() as u64).sum()
    }

    /// The most prompt tokens that an engine may find in it, but for its template and images: a token has a byte.
    #[must_use]
    pub fn prompt_tokens_max(&self) -> u64 {
        self.body_bytes + self.prompts.repeated_bytes
    }

    /// The largest answer that `engine` was told to give, tokens per choice: it may not know every name of a maximum.
    #[must_use]
    pub fn max_tokens_at(&self, engine: Engine) -> Option<u32> {
        if engine == Engine::Llamacpp { self.max_tokens } else { self.common_max_tokens }
    }

    /// Returns `true` where the client asked for running usage on each chunk.
    #[must_use]
    pub fn has_running_usage(&self) -> bool {
        self.continuous_usage
    }

    /// Returns the reports that `engine` is asked for in the middle of the stream.
    #[must_use]
    pub fn running_usage(&self, engine: Engine) -> RunningUsage {
        if self.stream && self.api.form().stream_options {
            engine.running_usage()
        } else {
            RunningUsage::None
        }
    }

    /// Returns the stamp of the answer of `engine`, which serves it as `tier` and knows the model as `served_model`.
    #[must_use]
    pub fn stamp(&self, served_model: &str, engine: Engine, tier: Tier) -> Stamp<'_> {
        let running = self.running_usage(engine);
        Stamp {
            tier,
            model: self.name_shown(served_model),
            usage_asked: self.usage_asked,
            running,
            running_shown: match running {
                RunningUsage::None => false,
                // SGLang tells it also without the chunk at the end, vLLM does not.
                RunningUsage::Continuous { null_without } => {
                    self.continuous_usage && (self.usage_asked || null_without)
                }
                RunningUsage::Timings => self.timings_asked(),
            },
            choices: self.choices,
            prompts: self.prompts.count,
        }
    }

    /// The text of a dialogue; `None` where there is more than text in it, or no dialogue.
    #[must_use]
    pub fn prompt_text(&self) -> Option<PromptText> {
        if !matches!(self.api, Api::Chat | Api::Messages | Api::CountTokens | Api::Responses) {
            return None;
        }
        let body = self.body();
        let part = |range: &Range<usize>| std::str::from_utf8(body.get(range.clone())?).ok();
        PromptText::of_dialogue(self.prompt.iter().map(part))
    }

    /// The body for `engine`, which serves it as `tier` and knows the model as `served_model`, as consecutive pieces:
    /// ours and slices of the client's, changed by the `edits` of the deployment. No copy of the client's bytes.
    #[must_use]
    pub fn forwarded(&self, served_model: &str, engine: Engine, tier: Tier, edits: Edits) -> Vec<Bytes> {
        let body = self.body();
        let mut edits = edits;
        let mut members = String::new();
        self.model_name.write(served_model, &mut edits, &mut members);
        if let Some(at) = &self.service_tier_at {
            edits.push((at.clone(), Bytes::from_static(tier_told(self.api.form().family, tier).as_bytes())));
        }
        if self.stream && self.api.form().stream_options {
            let value = self.upstream_stream_options(engine);
            match &self.stream_options_at {
                Some(at) => edits.push((at.clone(), Bytes::from_static(value.as_bytes()))),
                None => members.extend(["\"stream_options\":", value, ","]),
            }
        }
        if self.running_usage(engine) == RunningUsage::Timings {
            let before = edits.len();
            let written = self.timings_at(&body).map(|at| (at, Bytes::from_static(b"true")));
            edits.extend(written);
            if edits.len() == before {
                members.push_str("\"timings_per_token\":true,");
            }
        }
        if !members.is_empty() {
            let after_brace = body.iter().position(|&b| b == b'{').map_or(0, |at| at + 1);
            edits.push((after_brace..after_brace, Bytes::from(members)));
        }
        edits.sort_by_key(|(at, _)| (at.start, at.end));
        splice(&body, edits)
    }

    /// The model's name for the answer, as the JSON string that the client sent, where the engine uses another.
    #[must_use]
    pub fn name_shown(&self, served_model: &str) -> Option<&str> {
        Some(self.model_name.shown()).filter(|_| self.model != served_model)
    }

    fn upstream_stream_options(&self, engine: Engine) -> &'static str {
        let is_told = matches!(self.running_usage(engine), RunningUsage::Continuous { .. });
        if self.continuous_usage || is_told {
            r#"{"include_usage":true,"continuous_usage_stats":true}"#
        } else {
            r#"{"include_usage":true}"#
        }
    }

    /// Returns the places of the values of `timings_per_token`, which llama.cpp takes.
    fn timings_at(&self, body: &[u8]) -> impl DoubleEndedIterator<Item = Range<usize>> {
        let of_timings = move |parameter: &&Parameter| parameter.name(body) == "timings_per_token";
        self.parameters.iter().filter(of_timings).map(|parameter| parameter.value.clone())
    }

    /// Returns `true` where the client asked for them itself. Of two llama.cpp takes the last.
    fn timings_asked(&self) -> bool {
        let body = self.body();
        self.timings_at(&body).next_back().is_some_and(|at| body.get(at) == Some(b"true"))
    }
}

/// The pieces of `body` with each range replaced. Ranges ascend; of two that overlap the first counts.
fn splice(body: &Bytes, edits: Vec<(Range<usize>, Bytes)>) -> Vec<Bytes> {
    let mut pieces = Vec::with_capacity(2 * edits.len() + 1);
    let mut from = 0;
    for (at, replacement) in edits {
        if at.start < from {
            // Inside what was replaced already.
            continue;
        }
        pieces.push(body.slice(from.min(at.start)..at.start));
        pieces.push(replacement);
        from = at.end;
    }
    pieces.push(body.slice(from..));
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// The body without a byte order mark, which some editors and shells write before UTF-8.
fn without_mark(body: Bytes) -> Bytes {
    if body.starts_with(BYTE_ORDER_MARK) { body.slice(BYTE_ORDER_MARK.len()..) } else { body }
}

fn flag(members: &Members<'_>, member: Member) -> Result<Option<bool>, Refusal> {
    members.raw(member).map(|raw| parse(raw, member.name(), "true or false")).transpose()
}

/// Refuses what an engine could do beside the meter.
fn refuse_unmetered(form: &Form, members: &Members<'_>) -> Result<(), Refusal> {
    for &(member, why) in form.refused {
        if members.raw(member).is_some_and(|raw| raw != "false") {
            let name = member.name();
            return Err(Refusal::bad(format!("`{name}` is not supported: {why}.")).param(name));
        }
    }
    Ok(())
}

fn stream(form: &Form, members: &Members<'_>) -> Result<bool, Refusal> {
    let stream = flag(members, Member::Stream)?.unwrap_or(false);
    if stream && !form.streams {
        return Err(Refusal::bad("`stream` must be false: this API has no streams.").param("stream"));
    }
    Ok(stream)
}

fn stream_options(
    form: &Form,
    members: &Members<'_>,
    stream: bool,
) -> Result<Option<StreamOptions>, Refusal> {
    // Where it is no parameter, engines ignore it or refuse it; it decides nothing.
    let Some(raw) = members.raw(Member::StreamOptions).filter(|_| form.stream_options) else {
        return Ok(None);
    };
    if !stream {
        return Err(
            Refusal::bad("`stream_options` is only allowed when `stream` is true.").param("stream_options")
        );
    }
    parse(raw, "stream_options", "an object whose `include_usage` is true or false").map(Some)
}

fn affinity(form: &Form, members: &Members<'_>) -> Option<u64> {
    let hint = members.raw(Member::PromptCacheKey).or(members.raw(Member::User));
    // Anthropic's clients name their user in the metadata.
    let named = hint.or_else(|| members.raw(Member::Metadata).filter(|_| form.family == Family::Anthropic));
    named.map(|raw| stable_hash(raw.as_bytes()))
}

/// Answers per prompt, at least 1.
fn choices(form: &Form, members: &Members<'_>) -> Result<u32, Refusal> {
    let mut most = 1;
    for &member in form.choices {
        let Some(raw) = members.raw(member) else { continue };
        let name = member.name();
        let n: u32 = parse(raw, name, "an integer")?;
        if n == 0 || n > CHOICES_MAX {
            let message = format!("`{name}` must be between 1 and {CHOICES_MAX}, is {n}.");
            return Err(Refusal::bad(message).param(name));
        }
        most = most.max(n);
    }
    Ok(most)
}

/// The tier that is asked for.
fn tier(members: &Members<'_>) -> Result<TierWish, Refusal> {
    let Some(raw) = members.raw(Member::ServiceTier) else { return Ok(TierWish::Default) };
    let name: String = parse(raw, "service_tier", "a string")?;
    Ok(match name.as_str() {
        "auto" => TierWish::Default,
        "priority" | "fast" => TierWish::Priority,
        "flex" => TierWish::Flex,
        _ => TierWish::Regular,
    })
}

/// The tier that serves, as an engine of `family` is told it: never the client's wish, which may be more than it gets,
/// and only words that the family knows. Anthropic's has none for priority: `auto` takes it where there is some; nor for what
/// is below its standard.
fn tier_told(family: Family, served: Tier) -> &'static str {
    match (family, served) {
        (Family::OpenAi, Tier::Priority) => "\"priority\"",
        (Family::OpenAi, Tier::Regular) => "\"default\"",
        (Family::OpenAi, Tier::Flex) => "\"flex\"",
        (Family::Anthropic, Tier::Priority) => "\"auto\"",
        (Family::Anthropic, Tier::Regular | Tier::Flex) => "\"standard_only\"",
    }
}

/// The largest answer allowed, tokens per choice.
fn max_tokens(maxima: &[Member], members: &Members<'_>) -> Result<Option<u32>, Refusal> {
    let mut most = None;
    for &member in maxima {
        let Some(raw) = members.raw(member) else { continue };
        let name = member.name();
        let tokens: u32 =
            parse(raw, name, "a positive integer of at most 4294967295; leave it out for no maximum")?;
        // With `echo`, completions may ask for the prompt alone.
        if tokens == 0 && members.raw(Member::Echo) != Some("true") {
            return Err(Refusal::bad(format!("`{name}` must be at least 1.")).param(name));
        }
        most = most.max(Some(tokens));
    }
    Ok(most)
}

pub(super) fn parse<'a, T: Deserialize<'a>>(
    raw: &'a str,
    name: &'static str,
    expected: &str,
) -> Result<T, Refusal> {
    serde_json::from_str(raw).map_err(|_| {
        let shown: String = raw.chars().take(40).collect();
        Refusal::bad(format!("`{name}` must be {expected}, is {shown}.")).param(name)
    })
}

/// The refusal of a prompt that certainly exceeds the window.
#[must_use]
pub fn context_too_long(api: Api, tokens: u32, context: u32) -> Refusal {
    let overflow = ContextOverflow::counted(tokens, context);
    Refusal::new(Reason::ContextTooLong, overflow.openai()).too_long(overflow).param(api.form().asked.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Call, Refusal> {
        read_as(Api::Chat, body)
    }

    fn read_as(api: Api, body: &str) -> Result<Call, Refusal> {
        Call::read(api, Bytes::copy_from_slice(body.as_bytes()), 64)
    }

    fn forwarded(body: &str) -> String {
        let pieces = read(body).unwrap().forwarded("served/name", Engine::Openai, Tier::Regular, Vec::new());
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

    /// Case F11: whatever the client wishes, the engine is told what it gets, and nothing where it wishes nothing.
    #[test]
    fn case_f11_engines_are_told_the_tier_that_serves_in_their_familys_words() {
        for wish in ["auto", "priority", "fast", "default", "standard_only", "flex", "made-up"] {
            for (api, served, told) in [
                (Api::Chat, Tier::Priority, "priority"),
                (Api::Chat, Tier::Regular, "default"),
                (Api::Completions, Tier::Regular, "default"),
                (Api::Responses, Tier::Priority, "priority"),
                (Api::Responses, Tier::Regular, "default"),
                (Api::Messages, Tier::Priority, "auto"),
                (Api::Messages, Tier::Regular, "standard_only"),
            ] {
                let asked =
                    if api == Api::Responses { r#""input":"x""# } else { r#""messages":[],"prompt":"x""# };
                let body = format!(r#"{{"model":"m",{asked},"service_tier":"{wish}"}}"#);
                let sent = read_as(api, &body).unwrap().forwarded("m", Engine::Openai, served, Vec::new());
                let expected = body.replace(&format!(r#"r":"{wish}""#), &format!(r#"r":"{told}""#));
                assert_eq!(String::from_utf8(sent.concat()).unwrap(), expected, "{api:?}");
            }
        }
        for absent in [r#"{"model":"m","messages":[]}"#, r#"{"model":"m","messages":[],"service_tier":null}"#]
        {
            let sent = read(absent).unwrap().forwarded("m", Engine::Openai, Tier::Priority, Vec::new());
            assert_eq!(sent.concat(), absent.as_bytes());
        }
    }

    /// Case R01: running usage is asked of engines that have it, and of no other unless the client does.
    #[test]
    fn case_r01_running_usage_is_asked_in_each_engines_own_way() {
        let sent = |api: Api, engine: Engine, more: &str| -> serde_json::Value {
            let body = format!(r#"{{"model":"m","messages":[],"input":"x","prompt":null{more}}}"#);
            let body = if api == Api::Completions { body.replace("null", "\"x\"") } else { body };
            let pieces = read_as(api, &body).unwrap().forwarded("m", engine, Tier::Regular, Vec::new());
            serde_json::from_slice(&pieces.concat()).unwrap()
        };
        const STREAM: &str = r#","stream":true"#;
        for api in [Api::Chat, Api::Completions] {
            for engine in [Engine::Vllm, Engine::Sglang] {
                let both = serde_json::json!({"include_usage": true, "continuous_usage_stats": true});
                assert_eq!(sent(api, engine, STREAM)["stream_options"], both);
                assert_eq!(sent(api, engine, "").get("stream_options"), None);
                assert_eq!(sent(api, engine, STREAM).get("timings_per_token"), None);
            }
            for engine in [Engine::Openai, Engine::Tgi, Engine::Ollama, Engine::Llamacpp] {
                let one = serde_json::json!({"include_usage": true});
                assert_eq!(sent(api, engine, STREAM)["stream_options"], one, "{engine:?}");
            }
            let llama = sent(api, Engine::Llamacpp, STREAM);
            assert_eq!(llama["timings_per_token"], true);
            for value in ["false", "null", "true"] {
                let more = format!(r#"{STREAM},"timings_per_token":{value},"timings_per_token":{value}"#);
                assert_eq!(sent(api, Engine::Llamacpp, &more)["timings_per_token"], true, "{value}");
            }
            assert_eq!(sent(api, Engine::Llamacpp, "").get("timings_per_token"), None);
            assert_eq!(sent(api, Engine::Openai, STREAM).get("timings_per_token"), None);
        }
        for api in [Api::Responses, Api::Messages] {
            for engine in [Engine::Vllm, Engine::Llamacpp] {
                let sent = sent(api, engine, STREAM);
                assert_eq!((sent.get("stream_options"), sent.get("timings_per_token")), (None, None));
            }
        }
        let own = r#","stream":true,"stream_options":{"continuous_usage_stats":true}"#;
        assert_eq!(sent(Api::Chat, Engine::Openai, own)["stream_options"]["continuous_usage_stats"], true);
    }

    #[test]
    fn case_r01_running_usage_is_shown_to_who_asked_for_it() {
        let shown = |engine: Engine, more: &str| {
            let body = format!(r#"{{"model":"m","messages":[],"stream":true{more}}}"#);
            read(&body).unwrap().stamp("m", engine, Tier::Regular).running_shown
        };
        let (alone, both) = (
            r#","stream_options":{"continuous_usage_stats":true}"#,
            r#","stream_options":{"include_usage":true,"continuous_usage_stats":true}"#,
        );
        assert_eq!([Engine::Vllm, Engine::Sglang].map(|engine| shown(engine, both)), [true; 2]);
        assert_eq!([Engine::Vllm, Engine::Sglang].map(|engine| shown(engine, alone)), [false, true]);
        assert_eq!([Engine::Vllm, Engine::Sglang].map(|engine| shown(engine, "")), [false; 2]);
        assert!(shown(Engine::Llamacpp, r#","timings_per_token":true"#));
        assert!(!shown(Engine::Llamacpp, r#","timings_per_token":true,"timings_per_token":false"#));
        assert!(!shown(Engine::Llamacpp, both));
    }

    /// Case R10: llama.cpp's own maximum is a maximum, and the engine that obeys it gets it.
    #[test]
    fn case_r10_the_maximum_of_llama_cpp_is_read_and_sent() {
        for api in [Api::Chat, Api::Completions, Api::Responses, Api::Messages] {
            let body = r#"{"model":"m","messages":[],"input":"x","n_predict":5}"#;
            let body =
                if api == Api::Completions { body.replace("input", "prompt") } else { body.to_owned() };
            assert_eq!(read_as(api, &body).unwrap().max_tokens, Some(5), "{api:?}");
        }
        let both = read(r#"{"model":"m","messages":[],"n_predict":500,"max_tokens":5}"#).unwrap();
        assert_eq!(both.max_tokens, Some(500), "it overrules the common name there");
        assert_eq!(both.max_tokens_at(Engine::Llamacpp), Some(500));
        assert_eq!(both.max_tokens_at(Engine::Vllm), Some(5), "others do not know it");
        assert!(Engine::Llamacpp.presets().iter().all(|preset| preset.name != "n_predict"));
    }

    #[test]
    fn only_apis_with_stream_options_get_them() {
        for api in [Api::Responses, Api::Messages] {
            let body = r#"{"model":"m","messages":[],"input":"x","stream":true}"#;
            let sent =
                read_as(api, body).unwrap().forwarded("m", Engine::Vllm, Tier::Regular, Vec::new()).concat();
            assert_eq!(sent, body.as_bytes(), "{api:?}");
        }
    }

    #[test]
    fn what_cannot_be_metered_is_refused() {
        for (member, value) in [
            ("background", "true"),
            ("previous_response_id", "\"resp_1\""),
            ("conversation", "\"conv_1\""),
            ("prompt", "{\"id\":\"p\"}"),
        ] {
            let body = format!(r#"{{"model":"m","input":"x","{member}":{value}}}"#);
            assert_eq!(read_as(Api::Responses, &body).unwrap_err().param, Some(member), "{body}");
        }
        let allowed = r#"{"model":"m","input":"x","background":false,"previous_response_id":null}"#;
        assert!(read_as(Api::Responses, allowed).is_ok());
        let streamed = r#"{"model":"m","input":"x","stream":true}"#;
        assert_eq!(read_as(Api::Embeddings, streamed).unwrap_err().param, Some("stream"));
    }

    #[test]
    fn each_prompt_has_its_answers() {
        let choices = |body: &str| read_as(Api::Completions, body).unwrap().choices;
        assert_eq!(choices(r#"{"model":"m","prompt":"a"}"#), 1);
        assert_eq!(choices(r#"{"model":"m","prompt":["a","b"],"n":2}"#), 4);
        assert_eq!(choices(r#"{"model":"m","prompt":[[1],[2],[3]],"n":1,"best_of":2}"#), 6);
        assert_eq!(choices(r#"{"model":"m","prompt":[1,2,3]}"#), 1);
    }

    #[test]
    fn a_prompt_alone_may_be_echoed() {
        let echo = |more: &str| {
            read_as(Api::Completions, &format!(r#"{{"model":"m","prompt":"a","max_tokens":0{more}}}"#))
        };
        assert_eq!(echo(r#","echo":true"#).unwrap().max_tokens, Some(0));
        assert_eq!(echo("").unwrap_err().param, Some("max_tokens"));
    }

    #[test]
    fn each_api_names_its_own_parameters() {
        for (api, body, param) in [
            (Api::Completions, r#"{"model":"m"}"#, "prompt"),
            (Api::Responses, r#"{"model":"m"}"#, "input"),
            (Api::Messages, r#"{"model":"m","messages":"x"}"#, "messages"),
            (Api::Rerank, r#"{"model":"m","query":"x"}"#, "documents"),
            (Api::Responses, r#"{"model":"m","input":"x","max_output_tokens":-1}"#, "max_output_tokens"),
        ] {
            assert_eq!(read_as(api, body).unwrap_err().param, Some(param), "{api:?}");
        }
        assert_eq!(context_too_long(Api::Completions, 9, 8).param, Some("prompt"));
        assert_eq!(context_too_long(Api::Embeddings, 9, 8).param, Some("input"));
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
            ("n_predict", "-1"),
            ("best_of", "129"),
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
        assert_eq!(tier("\"flex\""), TierWish::Flex);
        assert_eq!(tier("\"default\""), TierWish::Regular);
        assert_eq!(tier("\"scale\""), TierWish::Regular);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused() {
        let refusal = Call::read(Api::Chat, Bytes::from_static(b"{\"model\":\"\xff\"}"), 64).unwrap_err();
        assert!(refusal.message.contains("UTF-8"), "{}", refusal.message);
    }
}
