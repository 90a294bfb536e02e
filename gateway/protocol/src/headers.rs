//! The headers that clients send and receive, with what each means: the source of the reference.
//!
//! An answer has headers of this list only: a test builds one of each kind and compares.

/// Which answers carry a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// Every answer, refusals included.
    Always,
    /// Every answer, as soon as account and model are known.
    Limits,
    /// Every answer of Anthropic's routes, as soon as account and model are known.
    Anthropic,
    /// Refusals that a later request can or cannot help.
    Refusals,
    /// Streams.
    Streams,
    /// Every answer, where the config asks for it.
    Configured,
    /// Refusals of one status.
    Status(u16),
}

/// One header of an answer.
#[derive(Debug, Clone, Copy)]
pub struct AnswerHeader {
    /// Its name, lower case.
    pub name: &'static str,
    /// Which answers carry it.
    pub carried: Carried,
    /// Its value: unit, shape, bound.
    pub value: &'static str,
    /// What it tells.
    pub meaning: &'static str,
}

/// One header of a request that changes or identifies it.
#[derive(Debug, Clone, Copy)]
pub struct RequestHeader {
    /// Its name, lower case.
    pub name: &'static str,
    /// Its value: unit, shape, bound.
    pub value: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

const fn answer(
    name: &'static str,
    carried: Carried,
    value: &'static str,
    meaning: &'static str,
) -> AnswerHeader {
    AnswerHeader { name, carried, value, meaning }
}

const fn request(name: &'static str, value: &'static str, meaning: &'static str) -> RequestHeader {
    RequestHeader { name, value, meaning }
}

/// The headers of answers that are not HTTP's own framing.
pub const ANSWERS: &[AnswerHeader] = &[
    answer(
        "x-request-id",
        Carried::Always,
        "`req_` and 32 hexadecimal digits",
        "The id of the request, as in the access log.",
    ),
    answer("request-id", Carried::Always, "the same", "The same, where Anthropic's clients look for it."),
    answer(
        "x-tidegate-queue-ms",
        Carried::Always,
        "whole milliseconds",
        "Time that the request waited in the gateway's queue, all waits summed.",
    ),
    answer(
        "x-ratelimit-limit-tokens-prompt",
        Carried::Limits,
        "tokens per second",
        "The limit of prompt tokens in force: the limit per minute divided by 60.",
    ),
    answer(
        "x-ratelimit-limit-tokens-cache-adjusted-prompt",
        Carried::Limits,
        "tokens per second",
        "The same for prompt tokens that were not cached.",
    ),
    answer(
        "x-ratelimit-limit-tokens-generated",
        Carried::Limits,
        "tokens per second",
        "The same for generated tokens.",
    ),
    answer(
        "x-ratelimit-remaining-tokens-prompt",
        Carried::Limits,
        "tokens per second, rounded down",
        "What is left of this minute's prompt tokens after this request's reservation, divided by 60.",
    ),
    answer(
        "x-ratelimit-remaining-tokens-cache-adjusted-prompt",
        Carried::Limits,
        "tokens per second, rounded down",
        "The same for prompt tokens that were not cached.",
    ),
    answer(
        "x-ratelimit-remaining-tokens-generated",
        Carried::Limits,
        "tokens per second, rounded down",
        "The same for generated tokens.",
    ),
    answer(
        "ratelimit-policy",
        Carried::Limits,
        "`\"prompt\";q=3600000;qu=\"token\";w=60, …`",
        "The three limits, exact: `q` tokens in `w` seconds.",
    ),
    answer(
        "ratelimit",
        Carried::Limits,
        "`\"prompt\";r=3600000;t=0, …`",
        "What is left, exact: `r` tokens now, `t` seconds until at least half of the limit is free.",
    ),
    answer(
        "anthropic-ratelimit-requests-limit",
        Carried::Anthropic,
        "requests per minute",
        "The account's `requests_per_minute`.",
    ),
    answer(
        "anthropic-ratelimit-requests-remaining",
        Carried::Anthropic,
        "requests",
        "Requests that are left of this minute.",
    ),
    answer(
        "anthropic-ratelimit-requests-reset",
        Carried::Anthropic,
        "RFC 3339 time",
        "When at least half of the limit is free.",
    ),
    answer(
        "anthropic-ratelimit-input-tokens-limit",
        Carried::Anthropic,
        "tokens per minute",
        "The limit of uncached prompt tokens.",
    ),
    answer("anthropic-ratelimit-input-tokens-remaining", Carried::Anthropic, "tokens", "What is left of it."),
    answer(
        "anthropic-ratelimit-input-tokens-reset",
        Carried::Anthropic,
        "RFC 3339 time",
        "When at least half of it is free.",
    ),
    answer(
        "anthropic-ratelimit-output-tokens-limit",
        Carried::Anthropic,
        "tokens per minute",
        "The limit of generated tokens.",
    ),
    answer(
        "anthropic-ratelimit-output-tokens-remaining",
        Carried::Anthropic,
        "tokens",
        "What is left of it.",
    ),
    answer(
        "anthropic-ratelimit-output-tokens-reset",
        Carried::Anthropic,
        "RFC 3339 time",
        "When at least half of it is free.",
    ),
    answer(
        "anthropic-ratelimit-tokens-limit",
        Carried::Anthropic,
        "tokens per minute",
        "The limit of the meter that has the smallest share left.",
    ),
    answer("anthropic-ratelimit-tokens-remaining", Carried::Anthropic, "tokens", "What is left of it."),
    answer(
        "anthropic-ratelimit-tokens-reset",
        Carried::Anthropic,
        "RFC 3339 time",
        "When at least half of it is free.",
    ),
    answer(
        "x-tidegate-reason",
        Carried::Refusals,
        "one of the [reasons](refusals.md)",
        "Why the request was refused, for logs and support.",
    ),
    answer(
        "retry-after-ms",
        Carried::Refusals,
        "milliseconds, at least 1",
        "When to send the request again. Spread by the gateway: add no jitter. Absent where no retry can help.",
    ),
    answer("retry-after", Carried::Refusals, "seconds, at least 1", "The same, rounded up to whole seconds."),
    answer(
        "x-should-retry",
        Carried::Refusals,
        "`true` or `false`",
        "`false`: the same request cannot succeed within the minute that clients wait by themselves, or never. The SDKs of OpenAI and Anthropic obey it.",
    ),
    answer("x-ratelimit-over-limit", Carried::Status(429), "`yes`", "The refusal is a limit of the account."),
    answer("www-authenticate", Carried::Status(401), "`Bearer`", "How to authenticate."),
    answer("allow", Carried::Status(405), "methods", "The methods that the path takes."),
    answer("cache-control", Carried::Streams, "`no-cache`", "For proxies on the way."),
    answer("x-accel-buffering", Carried::Streams, "`no`", "nginx and its like pass each event on at once."),
    answer(
        "x-tidegate-deployment",
        Carried::Configured,
        "a name of the config",
        "The deployment that served the request. Needs `listen.expose_upstream`.",
    ),
    answer(
        "x-tidegate-replica",
        Carried::Configured,
        "host and port",
        "The replica that served it. Needs `listen.expose_upstream`.",
    ),
    answer("vary", Carried::Configured, "`Origin`", "For caches on the way. Needs `listen.cors`."),
    answer(
        "access-control-allow-origin",
        Carried::Configured,
        "an origin or `*`",
        "The web page may read the answer. Needs `listen.cors`.",
    ),
    answer(
        "access-control-expose-headers",
        Carried::Configured,
        "names of headers",
        "The headers that the web page may read. Needs `listen.cors`.",
    ),
];

/// The headers of requests that the gateway reads, beside HTTP's own framing.
pub const REQUESTS: &[RequestHeader] = &[
    request("authorization", "`Bearer KEY`", "The key of the account."),
    request("x-api-key", "the key", "The same, as Anthropic's clients send it."),
    request(
        "api-key",
        "the key",
        "The same, as Azure's clients send it. Several of the three must hold the same key.",
    ),
    request(
        "x-tidegate-ttft-deadline-ms",
        "whole milliseconds from arrival, at most 3,600,000",
        "How long the client waits for the first token. It can only shorten the wait: a request that cannot make it is refused at once.",
    ),
    request(
        "x-session-affinity",
        "any text",
        "Requests with the same value are expected to share a prefix, and stay on one replica where there is room.",
    ),
    request(
        "x-request-id",
        "visible ASCII, the first 128 characters are logged",
        "The client's own id, logged as `client_request_id`.",
    ),
    request(
        "x-stainless-retry-count",
        "a whole number",
        "How often the client has tried before; the SDKs of OpenAI and Anthropic send it. Logged and counted.",
    ),
    request("traceparent", "W3C trace context", "Passed on to the model server and logged."),
    request("anthropic-version", "a date", "Passed on to the model server of a request to `/v1/messages`."),
    request("anthropic-beta", "names", "Passed on to the model server of a request to `/v1/messages`."),
    request("origin", "an origin", "A web page's origin, compared with `listen.cors`."),
    request("x-forwarded-for", "addresses", "The client's address, from a network of `listen.proxies` only."),
];
