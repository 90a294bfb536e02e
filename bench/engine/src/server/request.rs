//! What a request asks of the engine, checked as the engine checks it.

use http::{HeaderValue, StatusCode};

use super::shell::{Ask, AskedPrompt, Shared};
use crate::answer::pooling::{DIMENSIONS_MAX, Pooling};
use crate::answer::{self, Choice, Shape};
use crate::clock;
use crate::fault::{Fault, FaultError, MARKER};
use crate::text;
use crate::wire::{Api, Body, Prompt};

/// Most choices of one prompt.
const CHOICES_MAX: u32 = 128;

/// Most of all prompts of a request.
const ALL_CHOICES_MAX: usize = 4_096;

/// The wall time of "created" fields is made up: this, plus the time since the start.
const CREATED_BASE_S: u64 = 1_795_320_000;

/// A request that is not served, as the engine answers it.
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
}

impl Refused {
    pub(crate) fn bad(message: &str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, body: answer::error(400, "BadRequestError", message) }
    }
}

impl From<FaultError> for Refused {
    fn from(error: FaultError) -> Self {
        Self::bad(&error.to_string())
    }
}

/// What was asked, checked.
pub(crate) enum Wanted {
    Text(Text),
    Pooled(Pooling),
}

/// An answer that says something.
pub(crate) struct Text {
    pub(crate) shape: Shape,
    pub(crate) ask: Ask,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
}

/// The fault that the request names, in its head or its body, or else the server's own.
pub(crate) fn choose_fault(
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
pub(crate) fn want(
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
    if !api.generates() {
        return pooling(api, model, body).map(Wanted::Pooled);
    }
    let block_tokens = if config.profile.prefix_cache { config.profile.block_tokens } else { 0 };
    let prompts = body.prompts(api, block_tokens, config.vocabulary).map_err(Refused::bad)?;
    let stream = body.stream == Some(true);
    if body.stream_options.is_some() && !stream {
        return Err(Refused::bad("Stream options can only be defined when `stream=True`."));
    }
    let each = body.n.unwrap_or(1);
    if !(1..=CHOICES_MAX).contains(&each) || (each > 1 && matches!(api, Api::Messages | Api::Responses)) {
        return Err(Refused::bad("n must be between 1 and 128, and 1 in this API"));
    }
    if prompts.len() * each as usize > ALL_CHOICES_MAX {
        return Err(Refused::bad("too many prompts, or too many choices of each"));
    }
    let tool = if api == Api::Completions { None } else { body.forced_tool() };
    let mut choices = Vec::new();
    for prompt in &prompts {
        let seed = body.seed.map_or(prompt.seed ^ config.seed, i64::cast_unsigned);
        let said = said(config.context(), api, body, fault, prompt, seed)?;
        let finish = if tool.is_some() && said.finish == "stop" { "tool_calls" } else { said.finish };
        let nth = |n: u32| Choice { seed: said.seed.wrapping_add(u64::from(n)), finish, ..said.clone() };
        choices.extend((0..each).map(nth));
    }
    let id = match request_id.and_then(|id| id.to_str().ok()) {
        Some(id) => id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect(),
        None => {
            let seed = choices.first().map_or(0, |choice| choice.seed);
            format!("{:016x}", text::mix(seed ^ clock::now().as_nanos() as u64))
        }
    };
    let options = body.stream_options.unwrap_or_default();
    let asked = |prompt: Prompt| AskedPrompt { tokens: prompt.tokens, block_hashes: prompt.block_hashes };
    let ask = Ask {
        outputs: choices.iter().map(|choice| choice.length).collect(),
        prompts: prompts.into_iter().map(asked).collect(),
    };
    let shape = Shape {
        api,
        id: format!("{}{id}", api.id_prefix()),
        model: model.to_owned(),
        created: CREATED_BASE_S + clock::now().as_secs(),
        tool,
        continuous_usage: stream && !fault.no_usage && options.continuous_usage_stats == Some(true),
        choices,
    };
    Ok(Wanted::Text(Text { shape, ask, stream, include_usage: options.include_usage == Some(true) }))
}

fn pooling(api: Api, model: &str, body: &Body<'_>) -> Result<Pooling, Refused> {
    let base64 = match body.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(Refused::bad("encoding_format must be `float` or `base64`")),
    };
    if body.dimensions.is_some_and(|dimensions| !(1..=DIMENSIONS_MAX).contains(&dimensions)) {
        return Err(Refused::bad("dimensions must be from 1 to 8192"));
    }
    let pool = body.pool(api).map_err(Refused::bad)?;
    let model = model.to_owned();
    Ok(Pooling { api, model, pool, top: body.top_n, dimensions: body.dimensions, base64 })
}

/// What the first choice of `prompt` says.
fn said(
    context: u32,
    api: Api,
    body: &Body<'_>,
    fault: &Fault,
    prompt: &Prompt,
    seed: u64,
) -> Result<Choice, Refused> {
    // Asked for nothing but the prompt again, the engine computes a token and keeps it to itself.
    let silent = api == Api::Completions && body.echo == Some(true) && body.output_max() == Some(0);
    let max = if silent { Some(1) } else { body.output_max() };
    let (length, cut) = output_length(context, body, fault, prompt.tokens, max, seed)?;
    let thought = match fault.reasoning {
        _ if api == Api::Completions => 0,
        Some(tokens) => tokens.min(length),
        None if body.thinks() => length / 2,
        None => 0,
    };
    let finish = if cut { "length" } else { "stop" };
    Ok(Choice { seed, echo: prompt.echo.clone(), length, thought, silent, finish })
}

/// Tokens of each choice, and whether a maximum cuts it.
fn output_length(
    context: u32,
    body: &Body<'_>,
    fault: &Fault,
    prompt_tokens: u32,
    max: Option<u32>,
    seed: u64,
) -> Result<(u32, bool), Refused> {
    let room = context.saturating_sub(prompt_tokens);
    if room == 0 || max.is_some_and(|max| max > room || max == 0) {
        let message = format!(
            "This model's maximum context length is {context} tokens. However, you requested {} output tokens and \
             your prompt contains {prompt_tokens} input tokens.",
            max.unwrap_or(1),
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
