//! Why a request got no answer from an engine: one type for every refusal, and what the client is told.
//!
//! Two questions are never mixed: *is it your limit?* is a 429, *is it our load?* a 503. A refusal knows its
//! status, the machine-readable reason, the sentence for people, and whether and when a retry can help; how it
//! looks on the wire is the API's affair (`api::error`).

pub mod context;
pub mod explain;

use context::ContextOverflow;
use explain::Why;
use std::time::Duration;

/// The reason in `x-tidegate-reason`, and with it status, type and code. Fixed names: dashboards use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Malformed, too deep, a duplicate key, a value of the wrong type.
    BadRequest,
    /// The method is not one of this path's; those that are, as `Allow` lists them.
    MethodNotAllowed(&'static str),
    /// Header or body came too slowly.
    RequestTimeout,
    /// A content type or encoding that is not read here.
    UnsupportedMediaType,
    /// A transfer coding that is not read here.
    UnsupportedCoding,
    /// The prompt certainly exceeds the model's context window.
    ContextTooLong,
    /// No key, or one that is not known.
    Unauthenticated,
    /// The key's time is over.
    KeyExpired,
    /// The model is not among the account's.
    ModelNotAllowed,
    /// The tier is not among the account's, and the account asked to be refused then.
    TierNotAllowed,
    /// No such path.
    NotFound,
    /// No such model.
    ModelNotFound,
    /// The body is larger than the limit.
    TooLarge,
    /// The prompt meter.
    PromptTokensLimited,
    /// The uncached-prompt meter.
    UncachedPromptTokensLimited,
    /// The generated meter.
    GeneratedTokensLimited,
    /// Requests per minute of the account.
    RequestsLimited,
    /// Concurrent requests of the account.
    ConcurrencyLimited,
    /// The predicted wait is longer than the tier waits.
    ShedPredicted,
    /// No place for this tier.
    ShedSaturated,
    /// The queue is full.
    QueueFull,
    /// A request that ranks higher took its place in the queue.
    Displaced,
    /// Waited as long as its tier waits.
    QueueTimeout,
    /// The client's own deadline.
    Deadline,
    /// The bytes held for requests in flight are at their bound.
    Memory,
    /// The gateway or the deployment is going down.
    Draining,
    /// No replica is up.
    NoReplica,
    /// No connection, or HTTP/2 stream, was left, in all or for the client's address.
    Connections,
    /// No file descriptor was left.
    Descriptors,
    /// The engine broke before the first byte and no retry was left.
    UpstreamError,
    /// The engine was silent before the first byte and no retry was left.
    UpstreamTimeout,
}

impl Reason {
    /// All of them, in the order of their statuses; the methods that a path takes stand as `GET`.
    pub const ALL: [Reason; 31] = [
        Reason::BadRequest,
        Reason::ContextTooLong,
        Reason::Unauthenticated,
        Reason::KeyExpired,
        Reason::ModelNotAllowed,
        Reason::TierNotAllowed,
        Reason::NotFound,
        Reason::ModelNotFound,
        Reason::MethodNotAllowed("GET"),
        Reason::RequestTimeout,
        Reason::TooLarge,
        Reason::UnsupportedMediaType,
        Reason::PromptTokensLimited,
        Reason::UncachedPromptTokensLimited,
        Reason::GeneratedTokensLimited,
        Reason::RequestsLimited,
        Reason::ConcurrencyLimited,
        Reason::UnsupportedCoding,
        Reason::UpstreamError,
        Reason::ShedPredicted,
        Reason::ShedSaturated,
        Reason::QueueFull,
        Reason::Displaced,
        Reason::QueueTimeout,
        Reason::Deadline,
        Reason::Memory,
        Reason::Draining,
        Reason::NoReplica,
        Reason::Connections,
        Reason::Descriptors,
        Reason::UpstreamTimeout,
    ];

    /// By which part of it a wait that is told is spread, always upward. A budget's wait is exact, and one account's; the wait
    /// for load is told to all that are shed together: their times differ already, by how much was refused before each.
    #[must_use]
    pub fn retry_spread(self) -> f64 {
        if self.status() == 429 { 0.2 } else { 0.25 }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Reason::BadRequest | Reason::ContextTooLong => 400,
            Reason::Unauthenticated | Reason::KeyExpired => 401,
            Reason::ModelNotAllowed | Reason::TierNotAllowed => 403,
            Reason::NotFound | Reason::ModelNotFound => 404,
            Reason::MethodNotAllowed(_) => 405,
            Reason::RequestTimeout => 408,
            Reason::TooLarge => 413,
            Reason::UnsupportedMediaType => 415,
            Reason::UnsupportedCoding => 501,
            Reason::PromptTokensLimited
            | Reason::UncachedPromptTokensLimited
            | Reason::GeneratedTokensLimited
            | Reason::RequestsLimited
            | Reason::ConcurrencyLimited => 429,
            Reason::UpstreamError => 502,
            Reason::UpstreamTimeout => 504,
            _ => 503,
        }
    }

    /// The value of `x-tidegate-reason`, of the metric label and of the access log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reason::BadRequest
            | Reason::MethodNotAllowed(_)
            | Reason::RequestTimeout
            | Reason::UnsupportedMediaType
            | Reason::UnsupportedCoding => "bad-request",
            Reason::ContextTooLong => "context-too-long",
            Reason::Unauthenticated => "unauthenticated",
            Reason::KeyExpired => "key-expired",
            Reason::ModelNotAllowed | Reason::TierNotAllowed => "forbidden",
            Reason::NotFound | Reason::ModelNotFound => "not-found",
            Reason::TooLarge => "too-large",
            Reason::PromptTokensLimited => "prompt_tokens_limited",
            Reason::UncachedPromptTokensLimited => "uncached_prompt_tokens_limited",
            Reason::GeneratedTokensLimited => "generated_tokens_limited",
            Reason::RequestsLimited => "requests_limited",
            Reason::ConcurrencyLimited => "concurrency_limited",
            Reason::ShedPredicted => "shed-predicted",
            Reason::ShedSaturated => "shed-saturated",
            Reason::QueueFull => "queue-full",
            Reason::Displaced => "displaced",
            Reason::QueueTimeout => "queue-timeout",
            Reason::Deadline => "deadline",
            Reason::Memory => "memory",
            Reason::Draining => "draining",
            Reason::NoReplica => "no-replica",
            Reason::Connections => "connections",
            Reason::Descriptors => "descriptors",
            Reason::UpstreamError => "upstream_error",
            Reason::UpstreamTimeout => "upstream_timeout",
        }
    }

    /// `error.type` in OpenAI's shape.
    #[must_use]
    pub fn openai_type(self) -> &'static str {
        match self.status() {
            403 => "permission_error",
            429 => "rate_limit_error",
            503 => "service_overloaded",
            502 | 504 => "api_error",
            _ => "invalid_request_error",
        }
    }

    /// `error.type` in Anthropic's shape.
    #[must_use]
    pub fn anthropic_type(self) -> &'static str {
        match self.status() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 => "overloaded_error",
            502 | 504 => "api_error",
            _ => "invalid_request_error",
        }
    }

    /// `error.code` in OpenAI's shape.
    #[must_use]
    pub fn openai_code(self) -> &'static str {
        match self {
            Reason::BadRequest => "bad_request",
            Reason::MethodNotAllowed(_) => "method_not_allowed",
            Reason::RequestTimeout => "request_timeout",
            Reason::UnsupportedMediaType => "unsupported_media_type",
            Reason::UnsupportedCoding => "unsupported_transfer_coding",
            Reason::ContextTooLong => "context_length_exceeded",
            Reason::Unauthenticated | Reason::KeyExpired => "invalid_api_key",
            Reason::ModelNotAllowed => "model_not_allowed",
            Reason::TierNotAllowed => "tier_not_allowed",
            Reason::NotFound => "not_found",
            Reason::ModelNotFound => "model_not_found",
            Reason::TooLarge => "request_too_large",
            _ if self.status() == 503 => "load_shed",
            _ => self.name(),
        }
    }
}

impl Reason {
    /// Returns what happened, as operators and clients are told it in the documents.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Reason::BadRequest => {
                "The request is malformed: not JSON, a member of the wrong type, a duplicate key, nested too deep."
            }
            Reason::ContextTooLong => "The prompt certainly exceeds the model's context window.",
            Reason::Unauthenticated => "No key, an unknown or disabled key, or a disabled account.",
            Reason::KeyExpired => "The time of the key, `expires`, is over.",
            Reason::ModelNotAllowed => "The model is not among those of the account.",
            Reason::TierNotAllowed => {
                "The tier is not among those of the account, and `on_forbidden_tier` is `refuse`."
            }
            Reason::NotFound => "There is no such path.",
            Reason::ModelNotFound => {
                "There is no such model for this account, or no model server has it now."
            }
            Reason::MethodNotAllowed(_) => {
                "The path does not take this method; `Allow` lists those it takes."
            }
            Reason::RequestTimeout => "The header or the body came too slowly.",
            Reason::TooLarge => "The body is larger than `listen.limits.body_bytes`.",
            Reason::UnsupportedMediaType => "The body is compressed, or its content type is not JSON.",
            Reason::PromptTokensLimited => {
                "The account's prompt tokens of this minute, or its key's, are used up."
            }
            Reason::UncachedPromptTokensLimited => {
                "The account's uncached prompt tokens of this minute are used up."
            }
            Reason::GeneratedTokensLimited => "The account's generated tokens of this minute are used up.",
            Reason::RequestsLimited => "The account sent more than `requests_per_minute`.",
            Reason::ConcurrencyLimited => "The account has `concurrency` requests running or waiting.",
            Reason::UnsupportedCoding => "The request has a transfer coding other than `chunked`.",
            Reason::UpstreamError => {
                "A model server failed before the first token, and no other could be tried."
            }
            Reason::ShedPredicted => "The predicted wait is longer than a request of this tier waits.",
            Reason::ShedSaturated => "No replica has room for this tier.",
            Reason::QueueFull => {
                "The queue of the deployment is at `queue.requests`, `queue.tokens` or `queue.bytes`."
            }
            Reason::Displaced => "A request that ranks higher took its place in the full queue.",
            Reason::QueueTimeout => "It waited as long as a request of this tier waits.",
            Reason::Deadline => "The client's own `x-tidegate-ttft-deadline-ms` cannot be met.",
            Reason::Memory => {
                "Bodies and answers hold as much memory as `listen.limits.inflight_bytes` allows."
            }
            Reason::Draining => {
                "The gateway is shutting down, or the answer outlasted `listen.shutdown.grace_ms`."
            }
            Reason::NoReplica => "No replica of the deployment is in service.",
            Reason::Connections => "All connections or HTTP/2 streams are in use, in all or for one address.",
            Reason::Descriptors => "The process has no file descriptor left.",
            Reason::UpstreamTimeout => {
                "A model server was silent before the first token, and no other could be tried."
            }
        }
    }
}

/// When a retry can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Not a matter of time: no retry headers at all.
    NotApplicable,
    /// No retry can help: `x-should-retry: false`, no time.
    Never,
    /// After this long, at most [`RETRY_AFTER_MAX`]; to be spread upward, so that a herd does not come back as one.
    After(Duration),
    /// After this long, which is more than clients wait by themselves: told as it is, with `x-should-retry: false`.
    Late(Duration),
}

/// The longest wait after which clients come back by themselves. Above it the SDKs ignore the value or give up, and no
/// jitter may move a wait beyond it.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// One refusal.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// What kind.
    pub reason: Reason,
    /// One sentence or two that say what happened and what to do.
    pub message: String,
    /// The request's parameter at fault, OpenAI's `error.param`.
    pub param: Option<&'static str>,
    /// When a retry can help.
    pub retry: Retry,
    /// The facts behind it, for operators. Boxed, for most steps of a request refuse nothing.
    pub why: Option<Box<Why>>,
    /// What an engine said beside its words, where it was the engine that refused.
    pub engine: Option<Box<EngineWords>>,
    /// Of a prompt that is too long: said in the words of each API.
    pub overflow: Option<Box<ContextOverflow>>,
}

/// What an engine's refusal says beside its sentence, as far as clients act on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EngineWords {
    /// Its status: 400, 413 or 422.
    pub status: u16,
    /// Its code, where it is a word.
    pub code: Option<Box<str>>,
    /// The parameter at fault.
    pub param: Option<Box<str>>,
    /// Where in the body the fault is, as FastAPI lists it.
    pub loc: Option<serde_json::Value>,
    /// Numbers, such as the tokens that were counted.
    pub numbers: Vec<(Box<str>, u64)>,
}

impl Refusal {
    /// A refusal for which time changes nothing.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Refusal {
            reason,
            message: message.into(),
            param: None,
            retry: Retry::NotApplicable,
            why: None,
            engine: None,
            overflow: None,
        }
    }

    /// A malformed request.
    pub fn bad(message: impl Into<String>) -> Self {
        Refusal::new(Reason::BadRequest, message)
    }

    /// A prompt that exceeds the context window.
    #[must_use]
    pub fn too_long(mut self, overflow: ContextOverflow) -> Self {
        self.overflow = Some(Box::new(overflow));
        self
    }

    /// What an engine said beside its sentence.
    #[must_use]
    pub fn told(mut self, engine: EngineWords) -> Self {
        self.engine = Some(Box::new(engine));
        self
    }

    /// The HTTP status: the reason's, or the engine's own where it was the engine that refused.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.engine.as_ref().map_or(self.reason.status(), |engine| engine.status)
    }

    /// Names the parameter at fault.
    #[must_use]
    pub fn param(mut self, param: &'static str) -> Self {
        self.param = Some(param);
        self
    }

    /// The facts behind it.
    #[must_use]
    pub fn why(mut self, why: Why) -> Self {
        self.why = Some(Box::new(why));
        self
    }

    /// Says when a retry can help; `None`: never. What is told always suffices: a wait over [`RETRY_AFTER_MAX`] is not cut.
    #[must_use]
    pub fn retry(mut self, after: Option<Duration>) -> Self {
        self.retry = match after {
            Some(after) if after <= RETRY_AFTER_MAX => Retry::After(after),
            Some(after) => Retry::Late(after),
            None => Retry::Never,
        };
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_503_and_budgets_are_429_whatever_the_reason() {
        for load in
            [Reason::ShedPredicted, Reason::Memory, Reason::NoReplica, Reason::Displaced, Reason::Draining]
        {
            assert_eq!((load.status(), load.openai_code()), (503, "load_shed"), "{load:?}");
        }
        for budget in [Reason::PromptTokensLimited, Reason::RequestsLimited, Reason::ConcurrencyLimited] {
            assert_eq!((budget.status(), budget.openai_type()), (429, "rate_limit_error"), "{budget:?}");
            assert_eq!(budget.openai_code(), budget.name());
        }
    }

    /// The reference lists what is in `ALL`.
    #[test]
    fn all_reasons_are_in_the_list_once() {
        let text = include_str!("mod.rs");
        let body =
            text.split_once("pub enum Reason {").and_then(|(_, rest)| rest.split_once("\n}")).unwrap().0;
        let variants = body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
        let mut declared: Vec<&str> = variants.filter_map(|line| line.split(['(', ',']).next()).collect();
        let mut listed = Reason::ALL.map(|reason| format!("{reason:?}"));

        declared.sort_unstable();
        listed.sort_unstable();
        let listed: Vec<&str> = listed.iter().filter_map(|name| name.split('(').next()).collect();
        assert_eq!(listed, declared);
    }

    #[test]
    fn a_wait_that_no_client_would_wait_is_late_and_is_not_cut() {
        let soon = Refusal::new(Reason::QueueFull, "").retry(Some(Duration::from_secs(60)));
        let late = Refusal::new(Reason::QueueFull, "").retry(Some(Duration::from_millis(60_080)));
        assert_eq!(soon.retry, Retry::After(Duration::from_secs(60)));
        assert_eq!(late.retry, Retry::Late(Duration::from_millis(60_080)));
    }
}
