//! What a request asks of the engine, checked as the engine checks it.

use http::{HeaderValue, StatusCode};

use super::answer::{self, Shape};
use super::fault::{Fault, FaultError, MARKER};
use super::pooling::Pooled;
use super::shell::{Ask, Shared};
use super::text;
use super::wire::{Api, Body, Prompt};
use crate::clock;

/// Most choices of one request.
const CHOICES_MAX: u32 = 128;

/// The wall time of "created" fields is made up: this, plus the time since the start.
const CREATED_BASE_S: u64 = 1_795_320_000;

/// A request that is not served, as the engine answers it.
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) body: String,
}

impl Refused {
    pub(super) fn bad(message: &str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, body: answer::error(400, "BadRequestError", message) }
    }
}

impl From<FaultError> for Refused {
    fn from(error: FaultError) -> Self {
        Self::bad(&error.to_string())
    }
}

/// What was asked, checked.
pub(super) enum Wanted {
    Text(Text),
    Pooled(Pooled),
}

/// An answer that says something.
pub(super) struct Text {
    pub(super) shape: Shape,
    pub(super) ask: Ask,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
}

/// The fault that the request names, in its head or its body, or else the server's own.
pub(super) fn choose_fault(
    shared: &Shared,
    head: &http::request::Parts,
    body: &Body<'_>,
) -> Result<Fault, FaultError> {
    let from_header = head.headers.get("x-sim-fault").map(|value| value.to_str().unwrap_or("(not text)"));
    let from_user = body.user().and_then(|user| user.strip_prefix(MARKER));
    match from_header.or(from_user) {
        Some(list) => list.parse(),
        None => Ok(shared.core().standing.next().unwrap_or_default()),
    }
}

/// Reads the request against the server's configuration.
pub(super) fn want(
    shared: &Shared,
    api: Api,
    body: &Body<'_>,
    fault: &Fault,
    request_id: Option<&HeaderValue>,
) -> Result<Wanted, Refused> {
    let config = &shared.config;
    let model = body.model.as_deref().unwrap_or(&config.model);
    if model != config.model && !config.any_model {
        let message = format!("The model `{model}` does not exist.");
        let body = answer::error(404, "NotFoundError", &message);
        return Err(Refused { status: StatusCode::NOT_FOUND, body });
    }
    let cache = api.generates() && config.profile.prefix_cache;
    let block_tokens = if cache { config.profile.block_tokens } else { 0 };
    let prompt = body.prompt(api, block_tokens).map_err(Refused::bad)?;
    if !api.generates() {
        let texts = body.texts();
        return Ok(Wanted::Pooled(Pooled {
            api,
            model: model.to_owned(),
            prompt_tokens: prompt.tokens,
            texts,
        }));
    }
    let stream = body.stream == Some(true);
    if body.stream_options.is_some() && !stream {
        return Err(Refused::bad("Stream options can only be defined when `stream=True`."));
    }
    let choices = body.n.unwrap_or(1);
    if !(1..=CHOICES_MAX).contains(&choices) || (choices > 1 && matches!(api, Api::Messages | Api::Responses))
    {
        return Err(Refused::bad("n must be between 1 and 128, and 1 in this API"));
    }
    let seed = body.seed.map_or(prompt.seed ^ config.seed, i64::cast_unsigned);
    let tool = if api == Api::Chat { body.forced_tool() } else { None };
    let (length, cut) = output_length(config.context(), body, fault, &prompt, seed)?;
    let id = match request_id.and_then(|id| id.to_str().ok()) {
        Some(id) => id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect(),
        None => format!("{:016x}", text::mix(seed ^ clock::now().as_nanos() as u64)),
    };
    let options = body.stream_options.unwrap_or_default();
    let shape = Shape {
        api,
        id: format!("{}{id}", api.id_prefix()),
        model: model.to_owned(),
        created: CREATED_BASE_S + clock::now().as_secs(),
        seed,
        finish: if cut {
            "length"
        } else if tool.is_some() {
            "tool_calls"
        } else {
            "stop"
        },
        tool,
        continuous_usage: stream && !fault.no_usage && options.continuous_usage_stats == Some(true),
        length,
    };
    let ask = Ask {
        prompt_tokens: prompt.tokens,
        output_tokens: length,
        choices,
        block_hashes: prompt.block_hashes,
    };
    Ok(Wanted::Text(Text { shape, ask, stream, include_usage: options.include_usage == Some(true) }))
}

/// Tokens of each choice, and whether a maximum cuts it.
fn output_length(
    context: u32,
    body: &Body<'_>,
    fault: &Fault,
    prompt: &Prompt,
    seed: u64,
) -> Result<(u32, bool), Refused> {
    let room = context.saturating_sub(prompt.tokens);
    let max = body.output_max();
    if room == 0 || max.is_some_and(|max| max > room || max == 0) {
        let message = format!(
            "This model's maximum context length is {context} tokens. However, you requested {} output tokens and \
             your prompt contains {} input tokens.",
            max.unwrap_or(1),
            prompt.tokens
        );
        return Err(Refused::bad(&message));
    }
    let natural = match fault.output {
        Some(length) => length,
        None if body.ignore_eos == Some(true) => u32::MAX,
        None => text::natural_length(seed),
    };
    let length = natural.min(max.unwrap_or(room)).min(room);
    Ok((length, length < natural))
}
