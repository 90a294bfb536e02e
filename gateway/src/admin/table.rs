//! What an entry of the table is, and how a question finds its entry.
//!
//! A path that is in no entry does not exist, and an entry cannot be written without its role. A question is judged by its
//! head, before any of its body is read.

use super::answer::{Answer, problem};
use super::call::{Call, decoded};
use super::entries::ENTRIES;
use super::guard::{self, Caller, Role};
use super::openapi::Schema;
use super::read;
use crate::state::Snapshot;
use crate::state::gateway::Gateway;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header, request};
use metrics_exporter_prometheus::PrometheusHandle;
use std::net::SocketAddr;
use std::sync::Arc;

/// Largest body of a change.
pub(super) const BODY_MAX: usize = 64 << 10;

/// A method that some entry takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Put,
    Post,
    Patch,
    Delete,
}

impl Verb {
    pub(super) fn name(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Put => "PUT",
            Verb::Post => "POST",
            Verb::Patch => "PATCH",
            Verb::Delete => "DELETE",
        }
    }
}

/// One thing that can be asked.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) verb: Verb,
    /// With `{name}` where something stands for one segment.
    pub(super) path: &'static str,
    pub(super) role: Role,
    /// Its name in the OpenAPI document, which generated clients use.
    pub(super) name: &'static str,
    /// What it does, in a sentence.
    pub(super) about: &'static str,
    /// Names that the query may have, with what they mean.
    pub(super) query: &'static [(&'static str, Query, &'static str)],
    /// What the body must be.
    pub(super) takes: Option<Schema>,
    /// What the answer is; `None`: plain text.
    pub(super) gives: Option<Schema>,
    /// The statuses that carry it, with what each means; every other status carries a problem.
    pub(super) statuses: &'static [(&'static str, &'static str)],
    pub(super) run: fn(&Call<'_>) -> read::Answered,
}

/// What a value of the query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Query {
    Text,
    /// From 1 to this.
    Number(usize),
    /// Seconds since the epoch.
    Moment,
    /// One of these.
    OneOf(&'static [&'static str]),
}

/// A question that may be asked, by its head: its body was not read yet.
pub(super) struct Asked {
    snapshot: Arc<Snapshot>,
    entry: &'static Entry,
    parameters: Vec<String>,
    pub(super) caller: Caller,
}

/// Judges a question by its head alone, so that nobody sends a body who may not: its path, its method, who asks, and how
/// long the body says that it is.
///
/// # Errors
/// The answer that refuses it.
pub(super) fn judge(
    gateway: &Gateway,
    head: &request::Parts,
    peer: SocketAddr,
) -> Result<Asked, Box<Answer>> {
    let snapshot = gateway.snapshot();
    let found = find(&head.method, head.uri.path());
    let role = found.as_ref().map_or(Role::Read, |(entry, _)| entry.role);
    let name = found.as_ref().map_or("-", |(entry, _)| entry.name);
    let judged =
        guard::judge(&snapshot.config.admin, &head.headers, role).map_err(super::answer::Refused::answer);
    let refused = match (judged, found) {
        (Ok(caller), Ok((entry, parameters))) if is_short(head) => {
            return Ok(Asked { snapshot, entry, parameters, caller });
        }
        (Ok(_), Ok(_)) => too_large(),
        (Err(refused), _) => {
            audit(head, peer, &refused, name, "-");
            refused
        }
        (Ok(_), Err(Missing::Path)) => {
            let message = "There is no such path. `/api/v1/openapi.json` lists them.";
            problem(StatusCode::NOT_FOUND, "no_such_path", message).answer()
        }
        (Ok(_), Err(Missing::Method(allowed))) => {
            let message = "This path does not take this method; `Allow` lists those that it takes.";
            let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", message).answer();
            if let Ok(allowed) = HeaderValue::try_from(allowed) {
                answer.headers_mut().insert(header::ALLOW, allowed);
            }
            answer
        }
    };
    Err(Box::new(refused))
}

/// Whether the head announces no body that is larger than one may be. One of unknown length is counted while it is read.
fn is_short(head: &request::Parts) -> bool {
    let length =
        head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    length.is_none_or(|length| length <= BODY_MAX)
}

/// The answer to a body that is too large.
pub(super) fn too_large() -> Answer {
    let message = format!("A body has at most {BODY_MAX} bytes here.");
    problem(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message).answer()
}

impl Asked {
    /// Whether it is a probe: it is answered at once and whatever else is asked.
    pub(super) fn is_probe(&self) -> bool {
        self.entry.role == Role::Open
    }

    /// Answers it.
    pub(super) fn answer(
        self,
        gateway: &Arc<Gateway>,
        metrics: &PrometheusHandle,
        head: &request::Parts,
        body: &Bytes,
        peer: SocketAddr,
    ) -> Answer {
        let Asked { snapshot, entry, parameters, caller } = self;
        let call = Call { gateway, snapshot, metrics, head, parameters, body, caller: &caller };
        let answer = (entry.run)(&call).unwrap_or_else(super::answer::Refused::answer);
        audit(head, peer, &answer, entry.name, &caller.token);
        answer
    }
}

/// A line for each change, done or refused.
fn audit(head: &request::Parts, peer: SocketAddr, answer: &Answer, name: &str, by: &str) {
    if head.method == Method::GET || head.method == Method::HEAD {
        return;
    }
    let (method, path, status) = (head.method.as_str(), head.uri.path(), answer.status().as_u16());
    tracing::info!(target: "audit", by, %peer, action = name, method, path, status, "change asked");
}

/// Why there is no entry.
enum Missing {
    Path,
    /// There are others: the methods that the path takes.
    Method(String),
}

fn find(method: &Method, path: &str) -> Result<(&'static Entry, Vec<String>), Missing> {
    // A HEAD is a GET whose body is not sent.
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let mut allowed: Vec<&str> = Vec::new();
    for entry in ENTRIES {
        if let Some(parameters) = matches(entry.path, path) {
            if entry.verb.name() == method {
                return Ok((entry, parameters));
            }
            allowed.push(entry.verb.name());
        }
    }
    if allowed.is_empty() { Err(Missing::Path) } else { Err(Missing::Method(allowed.join(", "))) }
}

/// What stands for each `{…}` of the pattern; `None`: another path.
fn matches(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut parameters = Vec::new();
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(parameters),
            (Some(hole), Some(text)) if hole.starts_with('{') => {
                parameters.push(decoded(text).filter(|text| !text.is_empty())?);
            }
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threat S16: what changes something is not open to who may only look.
    #[test]
    fn threat_s16_every_entry_that_is_no_get_needs_an_operator() {
        for entry in ENTRIES {
            assert_eq!(entry.verb != Verb::Get, entry.role == Role::Operate, "{}", entry.path);
            let is_probe = ["/livez", "/readyz", "/healthz"].contains(&entry.path);
            assert_eq!(entry.role == Role::Open, is_probe, "{} is open to anybody", entry.path);
        }
    }

    #[test]
    fn names_and_paths_are_there_once() {
        for (nth, entry) in ENTRIES.iter().enumerate() {
            for other in &ENTRIES[nth + 1..] {
                assert_ne!(entry.name, other.name);
                assert!(entry.path != other.path || entry.verb != other.verb, "{}", entry.path);
            }
        }
    }

    #[test]
    fn a_segment_stands_for_a_parameter_whatever_is_encoded_in_it() {
        assert_eq!(matches("/a/{x}/b", "/a/one%2Ftwo/b"), Some(vec!["one/two".to_owned()]));
        for other in ["/a/one/two/b", "/a//b", "/a/one/b/", "/a/one", "/A/one/b", "/a/%/b"] {
            assert_eq!(matches("/a/{x}/b", other), None, "{other}");
        }
    }
}
