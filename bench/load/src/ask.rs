//! One request, drawn and written out.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use rand::Rng;
use rand::rngs::SmallRng;
use serde::Serialize;

use crate::check::Expected;
use crate::plan::LoadPlan;
use engine::prompt::{MESSAGE_TOKENS, START_TOKENS, text_of};
use engine::workload::Size;

/// A request and what must come of it.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) caller: usize,
    pub(super) size: Size,
    pub(super) stream: bool,
    pub(super) expected: Expected,
    /// Leave after this many tokens.
    pub(super) abandon_after: Option<u32>,
    pub(super) body: Bytes,
}

#[derive(Serialize)]
pub(super) struct Body<'a> {
    pub(super) model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) messages: Option<Vec<Message<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prompt: Option<&'a str>,
    pub(super) max_tokens: u32,
    pub(super) seed: u64,
    pub(super) ignore_eos: bool,
    pub(super) stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service_tier: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Message<'a> {
    pub(super) role: &'a str,
    pub(super) content: &'a str,
}

#[derive(Serialize)]
pub(super) struct StreamOptions {
    pub(super) include_usage: bool,
}

/// Draws requests in an order that follows from the plan's seed alone.
#[derive(Debug)]
pub(super) struct Asks<'a> {
    plan: &'a LoadPlan,
    prefixes: Vec<String>,
    weight: f64,
}

impl<'a> Asks<'a> {
    pub(super) fn new(plan: &'a LoadPlan) -> Self {
        let prefixes = plan.prefix.map_or_else(Vec::new, |prefix| {
            // A fixed seed: two runs, or two generators, share their system prompts.
            (0..prefix.groups.max(1)).map(|group| text_of(u64::from(group), prefix.tokens)).collect()
        });
        let weight = plan.callers.iter().map(|caller| caller.weight.max(0.0)).sum();
        Self { plan, prefixes, weight }
    }

    pub(super) fn draw(&self, rng: &mut SmallRng) -> Ask {
        let plan = self.plan;
        let caller = self.caller(rng.random::<f64>() * self.weight);
        let mut size = plan.workload.draw(rng);
        // 63 bits: a body's `seed` is a signed integer.
        let seed = rng.random::<u64>() >> 1;
        let stream = rng.random::<f64>() < plan.streaming_share;
        let usage = stream && rng.random::<f64>() < plan.usage_share;
        let abandon = stream && rng.random::<f64>() < plan.abandon_share;
        let abandon_after = abandon.then(|| rng.random_range(0..size.output_tokens));
        let chat = !plan.path.ends_with("/completions") || plan.path.ends_with("/chat/completions");
        let frame = if chat { START_TOKENS + MESSAGE_TOKENS } else { 0 };
        let prompt = text_of(seed, size.prompt_tokens.saturating_sub(frame).max(1));
        let prefix = match self.prefixes.len() {
            0 => None,
            groups => self.prefixes.get(rng.random_range(0..groups)),
        };
        let mut messages = Vec::new();
        if let Some(prefix) = prefix {
            size.prompt_tokens += plan.prefix.map_or(0, |prefix| prefix.tokens) + MESSAGE_TOKENS;
            messages.push(Message { role: "system", content: prefix });
        }
        messages.push(Message { role: "user", content: &prompt });
        let body = Body {
            model: &plan.model,
            messages: chat.then_some(messages),
            prompt: (!chat).then_some(&prompt),
            max_tokens: size.output_tokens,
            seed,
            ignore_eos: true,
            stream,
            stream_options: usage.then_some(StreamOptions { include_usage: true }),
            service_tier: plan.callers.get(caller).and_then(|caller| caller.service_tier.as_deref()),
        };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let expected = Expected { seed, tokens: size.output_tokens, usage, text: plan.check_text };
        Ask { caller, size, stream, expected, abandon_after, body: Bytes::from(body) }
    }

    fn caller(&self, mut at: f64) -> usize {
        for (index, caller) in self.plan.callers.iter().enumerate() {
            at -= caller.weight.max(0.0);
            if at < 0.0 {
                return index;
            }
        }
        self.plan.callers.len().saturating_sub(1)
    }
}

/// The headers of each caller's requests, made once.
pub(super) fn headers(plan: &LoadPlan) -> Vec<http::HeaderMap> {
    let value = |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
    let common = |headers: &mut http::HeaderMap| {
        headers.insert(HOST, value(&plan.target.to_string()));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, text) in &plan.headers {
            if let Ok(name) = HeaderName::try_from(name.as_str()) {
                headers.append(name, value(text));
            }
        }
    };
    let callers = plan.callers.iter().map(|caller| {
        let mut headers = http::HeaderMap::new();
        common(&mut headers);
        if let Some(key) = &caller.key {
            headers.insert(AUTHORIZATION, value(&format!("Bearer {key}")));
        }
        headers
    });
    callers.collect()
}
