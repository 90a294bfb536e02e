//! Whose fault an end is, and what follows from it: one table.
//!
//! | what was seen | verdict |
//! |---|---|
//! | 400, 413, 422 by status, by the code in an event or a body, or by a type that means it | the request's |
//! | a 5xx whose words are known to blame the body (an image for a model without eyes, a grammar that does not parse) | the request's |
//! | words of validation inside a success, where nothing else tells a status or a type | the request's |
//! | 409 and other refusals of the 4xx | the request's, in a sentence of ours |
//! | 400 in a sentence that begins with the model and says that it is missing; 404, 405, 501 | the replica's, for this model and route alone |
//! | 404 that names another parameter than the model | the request's, in a sentence of ours |
//! | 401, 403, 407; "request id already running"; any other answered 5xx; a body or event that nobody can read | not known |
//! | 502 or 504 as a page or without words: a proxy that has lost its engine; a connection that fails; silence while nothing else of the replica flows | the replica's |
//! | 429, 503, 529, or an engine's words for "too busy" | the engine's load |
//! | descriptors, memory, bounds of this process | ours |
//! | a client that left | the client's |
//!
//! An answer is proof of life, so what is *not known* is never held against a replica by itself. It is tried on one other
//! replica; if that one serves it, the shedder keeps it as one piece of evidence, and three different bodies make a case.
//! If that one fails, too, the request is told so and nobody is blamed. Words only save work: a sentence that nobody has
//! listed ends as *not known*.
//!
//! After the first byte of an answer went to the client nothing is tried elsewhere; the verdict then decides what the
//! client reads inside its stream, and whether it counts.

use crate::answer::upstream_error::{Shape, UpstreamError};
use crate::refusal::context::ContextOverflow;
use crate::refusal::{EngineWords, Reason, Refusal, Retry};
use shedder::Failure;
use std::time::Duration;

/// What ended an attempt before its answer was whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// No connection: refused, unreachable, or too slow.
    ConnectFailed,
    /// The connection broke, or what came was no HTTP.
    Broken,
    /// Silence for longer than allowed; whether other answers of the replica flowed meanwhile.
    Silence {
        /// Tokens of other requests came from the replica in that time.
        others_flow: bool,
    },
    /// The engine told an error: as status, in an event, or as a whole body.
    Told(UpstreamError),
    /// An answer with a success status that nobody can read.
    Unreadable(&'static str),
    /// A bound of this process: its name.
    OwnBound(OwnBound),
}

/// A bound of this process that ended a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnBound {
    /// No file descriptor was left for a connection.
    Descriptors,
    /// The answer is larger than what is held of one.
    AnswerBytes,
    /// All requests, or those of the account, hold as many bytes as they may.
    Memory,
}

/// Whose an end is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The request's own: told in the client's API, sent once, counted against nobody.
    Request(Fault),
    /// The replica's.
    Replica(ReplicaFault),
    /// The engine's load: elsewhere or 503, never the account's 429.
    Load {
        /// How long the engine asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// This process's.
    Ours(OwnBound),
    /// Not known: one other replica is asked.
    Unknown,
}

/// What is wrong with a request that an engine refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// As the engine says.
    Refused,
    /// The prompt, or prompt and answer, exceed the context window.
    TooLong,
    /// A refusal whose words are not for clients.
    RefusedInOurWords,
}

/// What a replica lacks or failed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaFault {
    /// It does not serve this model, or this route.
    Absent,
    /// It cannot be connected to.
    Connect,
    /// Its connection broke.
    Reset,
    /// It was silent, and nothing else of it flowed.
    Silent,
    /// It was silent, while its other answers flowed: this answer's affair, nothing for ejection.
    SilentAlone,
}

/// The kinds of failures of replicas, as metrics and the access log name them.
pub const KINDS: [&str; 6] = ["absent", "connect", "reset", "timeout", "busy", "unexplained"];

impl Verdict {
    /// The verdict on what was seen. O(words).
    #[must_use]
    pub fn on(observed: &Observed) -> Verdict {
        match observed {
            Observed::ConnectFailed => Verdict::Replica(ReplicaFault::Connect),
            Observed::Broken => Verdict::Replica(ReplicaFault::Reset),
            Observed::Silence { others_flow: false } => Verdict::Replica(ReplicaFault::Silent),
            Observed::Silence { others_flow: true } => Verdict::Replica(ReplicaFault::SilentAlone),
            Observed::Unreadable(_) => Verdict::Unknown,
            Observed::OwnBound(bound) => Verdict::Ours(*bound),
            Observed::Told(error) => told(error),
        }
    }

    /// What the shedder is told; `None`: nothing happened to the replica. `body` gives a key of the request's body: the same
    /// for the same body of the same account.
    #[must_use]
    pub fn failure(&self, body: impl FnOnce() -> u64) -> Option<Failure> {
        match self {
            Verdict::Request(_) => None,
            Verdict::Replica(ReplicaFault::Absent) => Some(Failure::Absent),
            Verdict::Replica(ReplicaFault::Connect) => Some(Failure::Connect),
            Verdict::Replica(ReplicaFault::Reset) => Some(Failure::Reset),
            Verdict::Replica(ReplicaFault::Silent) => Some(Failure::Timeout),
            Verdict::Load { retry_after } => Some(Failure::Busy { retry_after: *retry_after }),
            // Its other answers flow: nothing is held against it, and the same would take as long elsewhere.
            Verdict::Replica(ReplicaFault::SilentAlone) | Verdict::Ours(_) => Some(Failure::Ours),
            Verdict::Unknown => Some(Failure::Unexplained { body: body() }),
        }
    }

    /// The label `kind` of `tidegate_upstream_errors_total`; `None`: nothing happened to the replica.
    #[must_use]
    pub fn kind(&self) -> Option<&'static str> {
        // Each of them is one of `KINDS`.
        match self {
            Verdict::Request(_) | Verdict::Ours(_) | Verdict::Replica(ReplicaFault::SilentAlone) => None,
            Verdict::Replica(ReplicaFault::Absent) => Some("absent"),
            Verdict::Replica(ReplicaFault::Connect) => Some("connect"),
            Verdict::Replica(ReplicaFault::Reset) => Some("reset"),
            Verdict::Replica(ReplicaFault::Silent) => Some("timeout"),
            Verdict::Load { .. } => Some("busy"),
            Verdict::Unknown => Some("unexplained"),
        }
    }
}

fn told(error: &UpstreamError) -> Verdict {
    if error.busy {
        return Verdict::Load { retry_after: error.retry_after };
    }
    let status = error.status.or_else(|| status_of_kind(error));
    match status {
        _ if is_id_in_use(&error.message) => Verdict::Unknown,
        Some(400) if lacks_the_model(error) => Verdict::Replica(ReplicaFault::Absent),
        Some(404) if is_about_another_parameter(error) => Verdict::Request(Fault::RefusedInOurWords),
        Some(400 | 413 | 422) => Verdict::Request(fault_of(error)),
        Some(404 | 405 | 501) => Verdict::Replica(ReplicaFault::Absent),
        Some(401 | 403 | 407 | 408 | 425) => Verdict::Unknown,
        Some(402..=499) => Verdict::Request(Fault::RefusedInOurWords),
        Some(502 | 504) if error.shape != Shape::Json => Verdict::Replica(ReplicaFault::Reset),
        _ if blames_the_body(&error.message) => Verdict::Request(fault_of(error)),
        None if error.kind.is_none() && error.code.is_none() && is_validation(&error.message) => {
            Verdict::Request(fault_of(error))
        }
        _ => Verdict::Unknown,
    }
}

fn fault_of(error: &UpstreamError) -> Fault {
    match error.shape {
        _ if is_too_long(error) => Fault::TooLong,
        Shape::Json | Shape::Text => Fault::Refused,
        Shape::Page | Shape::Empty => Fault::RefusedInOurWords,
    }
}

/// The status that a type or code stands for, where an event or a body gives no number.
fn status_of_kind(error: &UpstreamError) -> Option<u16> {
    let words = [error.code.as_deref(), error.kind.as_deref()];
    words.into_iter().flatten().find_map(|word| {
        match word.to_ascii_lowercase().replace([' ', '-'], "_").as_str() {
            "badrequesterror"
            | "bad_request"
            | "bad_request_error"
            | "invalid_request_error"
            | "invalid_prompt"
            | "invalid_request"
            | "context_length_exceeded"
            | "exceed_context_size_error"
            | "validation"
            | "validation_error"
            | "valueerror"
            | "value_error"
            | "content_filter"
            | "invalid_value"
            | "unsupported_parameter"
            | "unsupported_value"
            | "string_above_max_length"
            | "invalid_image" => Some(400),
            "request_too_large" => Some(413),
            "unprocessableentityerror" | "unprocessable_entity" | "unprocessable_entity_error" => Some(422),
            "notfounderror" | "not_found_error" | "not_found" | "model_not_found" => Some(404),
            "authentication_error" | "authenticationerror" | "invalid_api_key" => Some(401),
            "permission_error" | "permissiondeniederror" => Some(403),
            word => blames_a_part(word).then_some(400),
        }
    })
}

/// Codes such as `image_too_large` or `unsupported_image_media_type`: they name what was sent and what is wrong with it.
fn blames_a_part(code: &str) -> bool {
    let part = ["image", "audio", "file", "prompt", "input", "schema", "tool"]
        .iter()
        .any(|part| code.contains(part));
    let wrong =
        ["too_", "invalid", "unsupported", "not_found", "empty", "parse", "failed_to_download", "policy"];
    part && wrong.iter().any(|wrong| code.contains(wrong))
}

/// Words that say of what they stand behind that it is not there.
const MISSING: [&str; 6] =
    ["does not exist", "not found", "not loaded", "not available", "not registered", "not served"];

/// Whether a 404 is about the model, and not the route.
fn is_about_the_model(error: &UpstreamError) -> bool {
    if error.code.as_deref() == Some("model_not_found") {
        return true;
    }
    let message = error.message.to_ascii_lowercase();
    let missing = MISSING.iter().chain(&["no such model", "unknown model", "no lora"]);
    ["model", "adapter", "lora"].iter().any(|noun| message.contains(noun))
        && missing.into_iter().any(|words| message.contains(words))
}

/// Whether a 400 says that the model is missing. The config has it, so the replica lacks it, and that is held against the
/// replica for everybody. Refusals quote what a client wrote, so only a sentence that begins so and has nothing but a name
/// between the noun and the verb counts.
fn lacks_the_model(error: &UpstreamError) -> bool {
    if error.code.as_deref() == Some("model_not_found") {
        return true;
    }
    let message = error.message.to_ascii_lowercase();
    let message = message.strip_prefix("the ").unwrap_or(&message);
    if ["no such model", "unknown model", "no lora"].iter().any(|words| message.starts_with(words)) {
        return true;
    }
    let nouns = ["model", "lora adapter", "adapter", "lora"];
    let Some(rest) = nouns.iter().find_map(|noun| message.strip_prefix(noun)) else { return false };
    let is_missing = |rest: &str| {
        let rest = rest.trim_start();
        let verb = rest.strip_prefix("is ").or_else(|| rest.strip_prefix("was ")).unwrap_or(rest);
        MISSING.iter().any(|words| verb.starts_with(words))
    };
    // With a name or without one.
    is_missing(rest) || rest.trim_start().split_once(' ').is_some_and(|(_, rest)| is_missing(rest))
}

/// A 404 about something that the client named, such as a file: other requests do not miss it.
fn is_about_another_parameter(error: &UpstreamError) -> bool {
    error.code.as_deref() != Some("model_not_found")
        && error.param.as_deref().is_some_and(|param| !param.is_empty() && param != "model")
}

/// An engine that still has our earlier sending of the same request (vLLM).
#[must_use]
pub fn is_id_in_use(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("request id")
        && (message.contains("already running") || message.contains("already exists"))
}

/// Whether a refusal means that the prompt is too long.
fn is_too_long(error: &UpstreamError) -> bool {
    let by_word =
        |word: Option<&str>| matches!(word, Some("context_length_exceeded" | "exceed_context_size_error"));
    if by_word(error.code.as_deref()) || by_word(error.kind.as_deref()) {
        return true;
    }
    let message = error.message.to_ascii_lowercase();
    [
        "maximum context length",
        "maximum model length",
        "model's context length",
        "context length of",
        "context size",
        "context window",
        "prompt is too long",
        "input is too long",
        "`inputs` tokens + `max_new_tokens` must be",
        "exceeds the maximum allowed length",
    ]
    .iter()
    .any(|words| message.contains(words))
}

/// Words of a 5xx that blame what was sent.
fn blames_the_body(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    [
        // llama.cpp
        "input is not supported",
        "is too large to process",
        "failed to parse grammar",
        "failed to initialize samplers",
        "missing 'role'",
        "missing 'content'",
        "unsupported param",
        "failed to parse messages",
        "failed to parse tools",
        "invalid tools",
        // vLLM and SGLang
        "cannot identify image file",
        "failed to load image",
        "failed to load audio",
        "cannot connect to host",
        "failed to fetch image",
        "unsupported image",
        "invalid base64",
        "invalid json_schema",
        "unsupported json schema",
        "schema conversion failed",
        "unrecognized schema",
        "conversation roles must alternate",
    ]
    .iter()
    .any(|words| message.contains(words))
}

/// Words with which validation refuses. They are believed only inside a success: an engine whose processing failed answers
/// with a 5xx, and its words may be anything.
fn is_validation(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["invalid ", "unsupported ", "unknown parameter", "missing required", "validation error"]
        .iter()
        .any(|words| message.starts_with(words))
        || [
            " must be ",
            " is required",
            " is not supported",
            " is invalid",
            " are not supported",
            " field required",
        ]
        .iter()
        .any(|words| message.contains(words))
}

/// The names of a model, inside and outside: an engine's words tell the one, clients know the other.
#[derive(Debug, Clone, Copy)]
pub struct ModelNames<'a> {
    /// As the engine knows it.
    pub served: &'a str,
    /// As clients know it.
    pub public: &'a str,
}

/// What a client is told of an end when nobody else can serve it.
#[derive(Debug, Clone, Copy)]
pub struct Telling<'a> {
    /// The model's names.
    pub model: ModelNames<'a>,
    /// The context window, where it is known.
    pub context: Option<u32>,
    /// The API's path.
    pub path: &'static str,
    /// Whether another replica failed on the same body, too.
    pub failed_twice: bool,
}

impl Telling<'_> {
    /// The refusal for `verdict` on `observed`. An engine's words go out only where they are about the request, and then
    /// with the model's public name.
    #[must_use]
    pub fn refusal(&self, verdict: &Verdict, observed: &Observed) -> Refusal {
        match (verdict, observed) {
            (Verdict::Request(fault), Observed::Told(error)) => self.refused(*fault, error),
            (Verdict::Replica(ReplicaFault::Absent), Observed::Told(error)) => self.absent(error),
            (Verdict::Replica(ReplicaFault::Silent | ReplicaFault::SilentAlone), _) => {
                Refusal::new(Reason::UpstreamTimeout, "The model server did not answer in time.")
            }
            (Verdict::Load { .. }, _) => crate::explain::upstream_busy(),
            (Verdict::Ours(bound), _) => ours(*bound),
            _ if self.failed_twice => Refusal {
                retry: Retry::Never,
                ..Refusal::new(
                    Reason::UpstreamError,
                    "Two model servers failed on this request. Do not send it again unchanged; its id tells the operator more.",
                )
            },
            _ => Refusal::new(Reason::UpstreamError, "The model server failed on this request."),
        }
    }

    fn refused(&self, fault: Fault, error: &UpstreamError) -> Refusal {
        let status = error.status.filter(|status| matches!(status, 413 | 422)).unwrap_or(400);
        let words = |code: Option<Box<str>>| EngineWords {
            status,
            code,
            param: error.param.clone(),
            loc: error.loc.clone(),
            numbers: error.numbers.iter().filter(|(name, _)| is_told(name)).cloned().collect(),
        };
        match fault {
            Fault::Refused => {
                let message = self.public(&error.message);
                Refusal::bad(message).told(words(error.code.clone()))
            }
            Fault::TooLong => {
                let overflow =
                    ContextOverflow::read(&self.public(&error.message), &error.numbers, self.context);
                Refusal::new(Reason::ContextTooLong, overflow.openai()).too_long(overflow).told(words(None))
            }
            Fault::RefusedInOurWords => {
                let status = error.status.unwrap_or(400);
                Refusal::bad(format!("The model server refused the request with status {status}."))
            }
        }
    }

    fn absent(&self, error: &UpstreamError) -> Refusal {
        let public = self.model.public;
        if is_about_the_model(error) {
            let message = format!("No model server has the model `{public}` at the moment.");
            return Refusal::new(Reason::ModelNotFound, message).param("model");
        }
        Refusal::new(Reason::NotFound, format!("The model servers of `{public}` do not serve {}.", self.path))
    }

    /// An engine's words with the model's public name.
    fn public(&self, words: &str) -> String {
        let ModelNames { served, public } = self.model;
        if served.is_empty() || served == public { words.to_owned() } else { words.replace(served, public) }
    }
}

/// Whether a number of an engine's error is for clients: counts of tokens and bounds.
fn is_told(name: &str) -> bool {
    name.starts_with("n_") || name.contains("token") || name.contains("max") || name.contains("limit")
}

fn ours(bound: OwnBound) -> Refusal {
    let (reason, message) = match bound {
        OwnBound::Descriptors => (
            Reason::Descriptors,
            "Service Overloaded: the gateway has no file descriptor left for a connection to a model server.",
        ),
        OwnBound::AnswerBytes => (
            Reason::Memory,
            "Service Overloaded: the answer is larger than the gateway holds of one. Ask for less at once.",
        ),
        OwnBound::Memory => (
            Reason::Memory,
            "Service Overloaded: no memory is left to hold this answer. Ask for less at once, or as a stream.",
        ),
    };
    Refusal::new(reason, message).retry(Some(crate::explain::ELSEWHERE_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> Verdict {
        Verdict::on(&Observed::Told(UpstreamError::from_body(status, body.as_bytes())))
    }

    /// An error in the first or a later event, or as the whole body of a 200.
    fn inside(json: &str) -> Verdict {
        Verdict::on(&Observed::Told(
            UpstreamError::from_json(json).unwrap_or_else(UpstreamError::without_message),
        ))
    }

    const REFUSED: Verdict = Verdict::Request(Fault::Refused);
    const ABSENT: Verdict = Verdict::Replica(ReplicaFault::Absent);

    #[test]
    fn case_f01_a_refusal_is_the_requests_whichever_way_it_comes() {
        for json in [
            r#"{"error":{"message":"Invalid json_schema","type":"BadRequestError","param":null,"code":400}}"#,
            r#"{"error":{"message":"Invalid json_schema","type":"BadRequestError"}}"#,
            r#"{"object":"error","message":"bad","type":"BadRequestError","param":null,"code":400}"#,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"bad"}}"#,
            r#"{"code":"invalid_prompt","message":"bad"}"#,
            r#"{"error":"Input validation error: bad","error_type":"validation"}"#,
        ] {
            assert_eq!(inside(json), REFUSED, "{json}");
            assert_eq!(of(400, json), REFUSED, "{json}");
        }
        assert_eq!(of(422, r#"{"detail":[{"loc":["body","n"],"msg":"too small"}]}"#), REFUSED);
        for json in [
            r#"{"detail":[{"loc":["body","n"],"msg":"too small"}]}"#,
            r#"{"detail":"n must be at least 1"}"#,
            r#"{"detail":"Bad Request"}"#,
            r#"{"error":"Invalid value for n"}"#,
        ] {
            assert_eq!(inside(json), REFUSED, "{json}");
        }
        for json in [r#"{"detail":"Internal Server Error"}"#, r#"{"detail":"the engine is gone"}"#] {
            assert_eq!(inside(json), Verdict::Unknown, "{json}");
        }
        let failed = r#"{"error":{"message":"index must be smaller","type":"server_error"}}"#;
        assert_eq!(inside(failed), Verdict::Unknown);
        assert_eq!(of(500, r#"{"detail":"pointer must be valid"}"#), Verdict::Unknown);
        assert!(matches!(inside(r#"{"detail":"Service Unavailable"}"#), Verdict::Load { .. }));
    }

    #[test]
    fn case_f02_an_answered_failure_is_the_replicas_only_by_evidence() {
        for body in
            [r#"{"error":{"code":500,"message":"boom","type":"server_error"}}"#, "Internal Server Error", ""]
        {
            assert_eq!(of(500, body), Verdict::Unknown, "{body}");
        }
        assert_eq!(inside(r#"{"error":{"message":"boom"}}"#), Verdict::Unknown);
        assert_eq!(Verdict::on(&Observed::Unreadable("no JSON")), Verdict::Unknown);
        let known = r#"{"error":{"code":500,"message":"image input is not supported - hint: mmproj","type":"server_error"}}"#;
        assert_eq!(of(500, known), REFUSED, "these words blame the body");
        assert_eq!(
            of(502, "<html>Bad Gateway</html>"),
            Verdict::Replica(ReplicaFault::Reset),
            "a proxy's page"
        );
        assert_eq!(of(401, r#"{"error":"no"}"#), Verdict::Unknown);
    }

    #[test]
    fn case_f03_a_replica_without_the_model_is_told_from_a_wrong_request() {
        for (status, body) in [
            (404, r#"{"object":"error","message":"The model `x` does not exist.","code":404}"#),
            (400, r#"{"error":{"message":"model not found","type":"BadRequestError","code":400}}"#),
            (404, r#"{"detail":"Not Found"}"#),
            (404, "<html>404</html>"),
            (405, r#"{"detail":"Method Not Allowed"}"#),
            (501, "not implemented"),
        ] {
            assert_eq!(of(status, body), ABSENT, "{status} {body}");
        }
        assert_eq!(inside(r#"{"error":{"message":"The model `x` does not exist.","code":404}}"#), ABSENT);
    }

    /// What a client wrote comes back in an engine's refusal: it must not take the model from everybody.
    #[test]
    fn words_that_a_refusal_quotes_make_no_replica_lack_the_model() {
        for message in [
            "1 validation error: {'type': 'json', 'input': 'the model `llama` does not exist'}",
            "Invalid grammar: \"model not found\"",
            "Model does not support tools called 'x not found'",
            "The model `llama` cannot read `a.png`: file does not exist",
        ] {
            let body = serde_json::json!({ "error": { "message": message, "code": 400 } }).to_string();
            assert_eq!(of(400, &body), REFUSED, "{message}");
            assert_eq!(inside(&body), REFUSED, "{message}");
        }
        let file = r#"{"error":{"message":"No such File object: f","type":"invalid_request_error","param":"file_id"}}"#;
        assert_eq!(of(404, file), Verdict::Request(Fault::RefusedInOurWords));
        for message in
            ["Model 'x' not found.", "The model `a/b` is not available", "LoRA adapter x does not exist"]
        {
            let body = serde_json::json!({ "error": { "message": message, "code": 400 } }).to_string();
            assert_eq!(of(400, &body), ABSENT, "{message}");
        }
    }

    #[test]
    fn case_f07_an_id_in_use_is_nothing_that_the_client_did() {
        let body = r#"{"error":{"message":"Request id cmpl-1 already running","type":"BadRequestError","code":400}}"#;
        assert_eq!(of(400, body), Verdict::Unknown);
    }

    #[test]
    fn case_f09_too_long_is_known_by_type_code_and_words() {
        for body in [
            r#"{"error":{"code":400,"message":"x","type":"exceed_context_size_error","n_ctx":1}}"#,
            r#"{"error":{"message":"x","code":"context_length_exceeded"}}"#,
            r#"{"error":{"message":"This model's maximum context length is 8 tokens.","code":400}}"#,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 tokens > 8 maximum"}}"#,
        ] {
            assert_eq!(of(400, body), Verdict::Request(Fault::TooLong), "{body}");
        }
    }

    #[test]
    fn load_is_load_whatever_the_rest_says() {
        for status in [429, 503, 529] {
            assert!(matches!(of(status, "<html>"), Verdict::Load { .. }), "{status}");
        }
        let hidden =
            r#"{"error":{"message":"The engine is currently busy","type":"Service Unavailable","code":503}}"#;
        assert!(matches!(inside(hidden), Verdict::Load { .. }));
    }

    fn telling(failed_twice: bool) -> Telling<'static> {
        let model = ModelNames { served: "internal/llama", public: "llama" };
        Telling { model, context: Some(8192), path: "/v1/chat/completions", failed_twice }
    }

    fn refusal(status: u16, body: &str, failed_twice: bool) -> Refusal {
        let observed = Observed::Told(UpstreamError::from_body(status, body.as_bytes()));
        telling(failed_twice).refusal(&Verdict::on(&observed), &observed)
    }

    /// Cases F08 and F10: what clients act on passes, what is the operator's does not.
    #[test]
    fn case_f10_words_about_the_request_pass_with_the_public_name_and_others_stay_inside() {
        let told = refusal(
            413,
            r#"{"error":{"message":"internal/llama takes 9 images","type":"x","code":"too_many","param":"messages","n_images":10,"worker":7}}"#,
            false,
        );
        assert_eq!((told.status(), told.message.as_str()), (413, "llama takes 9 images"));
        let engine = told.engine.unwrap();
        assert_eq!((engine.code.as_deref(), engine.param.as_deref()), (Some("too_many"), Some("messages")));
        assert_eq!(engine.numbers, [("n_images".into(), 10)]);

        for (status, body) in [
            (401, r#"{"error":{"message":"Incorrect API key provided: sk-1 at http://10.0.0.7"}}"#),
            (500, r#"{"error":{"message":"File /opt/engine/secret.py"}}"#),
            (404, r#"{"error":{"message":"The model `internal/llama` does not exist."}}"#),
            (409, r#"{"error":{"message":"held by worker 10.0.0.7"}}"#),
            (400, "<html>10.0.0.7</html>"),
        ] {
            for twice in [false, true] {
                let told = refusal(status, body, twice).message;
                for secret in ["sk-1", "10.0.0.7", "/opt", "internal"] {
                    assert!(!told.contains(secret), "{status}: {told}");
                }
            }
        }
    }

    #[test]
    fn who_failed_on_two_replicas_is_told_not_to_come_again() {
        let once = refusal(500, "boom", false);
        let twice = refusal(500, "boom", true);
        assert_eq!((once.status(), once.retry), (502, Retry::NotApplicable));
        assert_eq!((twice.status(), twice.retry), (502, Retry::Never));
    }
}
