//! What is written of one request: filled on its way, handed over at its end.
//!
//! The request only fills this struct; logging and counting happen on the accounting thread, behind a bounded
//! channel. When that is full the record is dropped and counted: a slow disk never slows a request. No prompt,
//! no answer and no key is in it.

use config::Tier;
use config::keys::Digest;
use history::groups::Key;
use http::{HeaderMap, HeaderName, HeaderValue};
use limits::Used;
use process::clock;
use protocol::api::Api;
use protocol::explain::Why;
use protocol::refusal::Refusal;
use protocol::request::call::Call;
use shedder::Permit;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use weighing::weigh::Weight;

/// The status of a request whose client left before it was answered, as nginx has it.
pub const CLIENT_GONE: u16 = 499;
/// Longest text of a client's own that is logged.
const CLIENT_TEXT_MAX: usize = 128;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const RETRY_COUNT: HeaderName = HeaderName::from_static("x-stainless-retry-count");

/// One request.
#[derive(Debug, Clone)]
pub struct Record {
    /// When its head was read.
    pub arrived: Duration,
    /// The same as wall time.
    pub arrived_wall: Duration,
    /// Our id.
    pub id: String,
    /// The client's address, as a listed proxy tells it.
    pub client_address: Option<IpAddr>,
    /// The HTTP version that the client spoke.
    pub protocol: &'static str,
    /// The client's own id, as sent.
    pub client_id: Option<String>,
    /// The client's W3C trace context, when well formed.
    pub trace: Option<HeaderValue>,
    /// How often the client says it has tried before.
    pub client_retry: u32,
    /// The API.
    pub api: Option<Api>,
    /// The account's id.
    pub account: Option<Arc<str>>,
    /// The digest of the key that was presented, where the config knows it.
    pub key: Option<Digest>,
    /// The name of that key inside its account, where it has one.
    pub key_name: Option<Arc<str>>,
    /// The model's own name.
    pub model: Option<Arc<str>>,
    /// The tier it was offered in.
    pub tier: Option<Tier>,
    /// Whether the answer is a stream.
    pub stream: bool,
    /// Body, bytes.
    pub body_bytes: u64,
    /// Prompt tokens as weighed.
    pub weighed_prompt: u32,
    /// The status told to the client.
    pub status: u16,
    /// The reason of a refusal.
    pub reason: &'static str,
    /// The sentence of a refusal, for the list of the last ones.
    pub message: Option<String>,
    /// The facts behind it.
    pub why: Option<Box<Why>>,
    /// Where it was served.
    pub deployment: Option<Arc<str>>,
    /// Where it would be served first, once its model and tier are known.
    pub routed_to: Option<Arc<str>>,
    /// Where it asked for a place last: what waited, or was refused for load, did so there.
    pub offered_to: Option<Arc<str>>,
    /// Which replica.
    pub replica: Option<u16>,
    /// When its bytes went to an engine, the last time.
    pub dispatched: Option<Duration>,
    /// When the first token came.
    pub first_token: Option<Duration>,
    /// Waiting here, all waits summed.
    pub queued: Duration,
    /// Its end.
    pub ended: Duration,
    /// Tokens as settled.
    pub used: Option<Used>,
    /// Cached tokens as the engine says.
    pub cached: Option<u64>,
    /// The engine sent no usage, or none that can be.
    pub usage_missing: bool,
    /// Something in the engine's usage cannot be: it was clamped, or not believed.
    pub usage_anomalous: bool,
    /// Why the answer ended, in a word of the API's.
    pub finish_reason: Option<&'static str>,
    /// Attempts after the first.
    pub retries: u32,
    /// Times its bytes were sent to an engine.
    pub sendings: u32,
    /// Times it was withdrawn for a request of a higher tier.
    pub withdrawals: u32,
    /// Failures of replicas on its way.
    pub upstream_failures: Vec<(Arc<str>, u16, &'static str)>,
    /// Whether the client was still there.
    pub client_gone: bool,
}

impl Record {
    /// The record of a request whose head was read; `id` is ours.
    #[must_use]
    pub fn begin(id: String, headers: &HeaderMap) -> Record {
        Record {
            arrived: clock::now(),
            arrived_wall: clock::wall(),
            id,
            client_address: None,
            protocol: "",
            client_id: text(headers, &REQUEST_ID),
            trace: headers.get(&TRACE_PARENT).filter(|value| is_traceparent(value.as_bytes())).cloned(),
            client_retry: number(headers, &RETRY_COUNT),
            api: None,
            account: None,
            key: None,
            key_name: None,
            model: None,
            tier: None,
            stream: false,
            body_bytes: 0,
            weighed_prompt: 0,
            status: 200,
            reason: "",
            message: None,
            why: None,
            deployment: None,
            routed_to: None,
            offered_to: None,
            replica: None,
            dispatched: None,
            first_token: None,
            queued: Duration::ZERO,
            ended: Duration::ZERO,
            used: None,
            cached: None,
            usage_missing: false,
            usage_anomalous: false,
            finish_reason: None,
            retries: 0,
            sendings: 0,
            withdrawals: 0,
            upstream_failures: Vec::new(),
            client_gone: false,
        }
    }

    /// The body was read.
    pub fn called(&mut self, call: &Call) {
        self.stream = call.stream;
        self.body_bytes = call.body_bytes;
    }

    /// It was weighed.
    pub fn weighed(&mut self, weight: &Weight) {
        self.weighed_prompt = weight.prompt;
    }

    /// Its model and tier are known, and so is where it would be served first.
    pub fn routed(&mut self, first: &Arc<str>) {
        self.routed_to = Some(Arc::clone(first));
    }

    /// It asked for a place.
    pub fn offered(&mut self, deployment: &Arc<str>) {
        self.offered_to = Some(Arc::clone(deployment));
    }

    /// It got a place.
    pub fn admitted(&mut self, deployment: &Arc<str>, permit: Permit) {
        self.deployment = Some(Arc::clone(deployment));
        self.replica = Some(permit.replica.0);
        self.tier = Some(permit.tier.into());
    }

    /// Its bytes went to an engine.
    pub fn dispatched(&mut self, now: Duration) {
        self.dispatched = Some(now);
    }

    /// When they did; its arrival before that.
    #[must_use]
    pub fn dispatched_at(&self) -> Duration {
        self.dispatched.unwrap_or(self.arrived)
    }

    /// The first token came.
    pub fn first_token(&mut self, now: Duration) {
        self.first_token = Some(now);
    }

    /// The shedder took it back.
    pub fn withdrawn(&mut self) {
        self.withdrawals += 1;
    }

    /// A replica failed it, in a way with this name.
    pub fn upstream_failed(&mut self, deployment: &Arc<str>, permit: Permit, kind: &'static str) {
        self.upstream_failures.push((Arc::clone(deployment), permit.replica.0, kind));
    }

    /// Whether another replica than this one failed on it after it had it.
    #[must_use]
    pub fn has_failed_elsewhere(&self, deployment: &str, permit: Permit) -> bool {
        self.upstream_failures.iter().any(|(name, replica, kind)| {
            let is_other = *replica != permit.replica.0 || **name != *deployment;
            is_other && matches!(*kind, "unexplained" | "reset")
        })
    }

    /// Whether an engine refused it as too much.
    #[must_use]
    pub fn was_busy(&self) -> bool {
        self.upstream_failures.last().is_some_and(|(_, _, kind)| *kind == "busy")
    }

    /// It is sent to an engine; how often it was sent before.
    pub fn sent(&mut self) -> u32 {
        self.sendings += 1;
        self.sendings - 1
    }

    /// It goes elsewhere.
    pub fn retried(&mut self) {
        self.retries += 1;
    }

    /// It was settled.
    pub fn used(&mut self, used: &Used, cached: Option<u64>, usage_missing: bool) {
        self.used = Some(*used);
        self.cached = cached;
        self.usage_missing = usage_missing;
    }

    /// It was refused.
    pub fn refused(&mut self, refusal: &Refusal) {
        self.status = refusal.status();
        self.reason = refusal.reason.name();
        self.message = Some(refusal.message.clone());
        self.why.clone_from(&refusal.why);
    }

    /// Whether it was refused, or failed with nobody to take it over: what operators are shown.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.status, 429 | 502..=504)
    }

    /// What a refused one has in common with others.
    #[must_use]
    pub fn refusal_key(&self) -> Key {
        Key {
            account: self.account.clone(),
            reason: self.reason,
            status: self.status,
            model: self.model.clone(),
            deployment: self.deployment.clone().or_else(|| self.offered_to.clone()),
            tier: self.tier.map(Tier::name),
        }
    }

    /// Its client left. A stream that had begun keeps the status that was sent.
    pub fn gone(&mut self, head_sent: bool) {
        self.client_gone = true;
        if !head_sent {
            self.status = CLIENT_GONE;
        }
    }

    /// The record at the request's end, to be handed over.
    #[must_use]
    pub fn finished(mut self, queued: Duration) -> Record {
        self.queued = queued;
        self.ended = clock::now();
        self
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.chars().take(CLIENT_TEXT_MAX).collect())
}

fn number(headers: &HeaderMap, name: &HeaderName) -> u32 {
    headers.get(name).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// `00-<32 hex>-<16 hex>-<2 hex>`, the W3C trace context of version 00.
fn is_traceparent(value: &[u8]) -> bool {
    value.len() == 55
        && value.starts_with(b"00-")
        && value.iter().enumerate().all(|(at, byte)| match at {
            2 | 35 | 52 => *byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(byte),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_trace_contexts_pass() {
        assert!(is_traceparent(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        assert!(!is_traceparent(b"00-4BF92F3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        assert!(!is_traceparent(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n"));
        assert!(!is_traceparent(b""));
    }
}
