//! One attempt to answer a request on one replica, and what follows from how it ends.
//!
//! Until the first token a failure can be mended elsewhere without the client noticing; the shedder says
//! whether it may be. An engine's overload is back-pressure, its silence or death a fault of the replica, and
//! a client's mistake that only the engine sees is the client's: none of them is mistaken for another.

use crate::accounts::memory::MemoryGuard;
use crate::clock;
use crate::downstream::client::{Client, Stop};
use crate::proxy::outcome::AttemptOutcome;
use crate::proxy::pipeline::Request;
use crate::proxy::relay::{Answered, Relay};
use crate::proxy::settle;
use crate::telemetry::record::Record;
use crate::upstream::admission::{Admission, Place};
use crate::upstream::deployment::Deployment;
use crate::upstream::exchange::{Exchange, ExchangeError, Outgoing};
use crate::upstream::harvest::Others;
use crate::upstream::replica::Replica;
use bytes::BytesMut;
use gateway_core::averages::Average as _;
use gateway_core::pace::Unseen;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use protocol::answer::upstream_error::UpstreamError;
use protocol::api::Family;
use protocol::attribution::{self, Observed, OwnBound};
use protocol::request::policy::{self, Written};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

/// Most bytes of an engine's error body that are read.
const ERROR_BODY_MAX: usize = 64 << 10;
/// Longest time for them.
const ERROR_BODY_TIME: Duration = Duration::from_secs(2);

/// Headers of Anthropic's API that an engine may read.
const PASSED: [&str; 2] = ["anthropic-version", "anthropic-beta"];
/// Most lines of them, and most bytes of each: a list of betas has some hundred bytes.
const PASSED_MAX: usize = 8;
const PASSED_BYTES_MAX: usize = 1024;

/// One attempt.
pub struct Attempt<'a, 'r, 's> {
    /// The request.
    pub request: &'a Request<'r>,
    /// Where it is served.
    pub deployment: &'a Arc<Deployment>,
    /// Its client.
    pub client: &'a mut Client<'s>,
    /// What is written of it.
    pub record: &'a mut Record,
    /// The bytes it holds.
    pub memory: &'a mut MemoryGuard,
    /// Of an answer that comes as a whole, once the request was sent.
    pub unseen: Option<Unseen>,
}

/// What follows an attempt.
#[derive(Debug)]
pub enum Next {
    /// The client has its answer.
    Answered,
    /// The request is over.
    Stopped(Stop),
    /// It may be tried again.
    Again(Admission),
    /// This deployment has failed it; another may take it, else it is over.
    Elsewhere(Stop),
}

impl Attempt<'_, '_, '_> {
    /// Sends the request to the place's replica and relays the answer.
    pub async fn run(mut self, place: Place) -> Next {
        if self.is_query_of_death() {
            return Next::Stopped(self.refuse_query_of_death().into());
        }
        let Some(replica) = self.deployment.replicas.get(place.permit().replica) else {
            return self.after(place, &Observed::ConnectFailed);
        };
        let bytes_per_token = self.deployment.bytes_per_token.get().value();
        let mut answered = Answered { bytes_per_token, ..Answered::default() };
        match self.answer(&replica, &place, &mut answered).await {
            Ok(exchange) => {
                self.clear_of_death();
                self.learn_pace(&place, &answered);
                settle::answered(self.request, self.deployment, place, &answered, self.record);
                exchange.release(&self.request.gateway.connector).await;
                Next::Answered
            }
            Err(AttemptOutcome::Stopped(stop)) => {
                if answered.first_token.is_some() {
                    settle::broken_off(self.request, &answered, self.record);
                } else {
                    self.left_unseen(&place);
                }
                Next::Stopped(stop)
            }
            Err(AttemptOutcome::Late(observed)) => {
                settle::broken_off(self.request, &answered, self.record);
                self.look_for_death(&place, &replica, &observed).await;
                self.after_late(place, &observed)
            }
            Err(AttemptOutcome::Failed(observed)) => {
                self.look_for_death(&place, &replica, &observed).await;
                self.after(place, &observed)
            }
            Err(AttemptOutcome::Withdrawn(receiver)) => {
                self.request.live.ledger().set_started(false);
                self.record.withdrawn();
                Next::Again(Admission::Waiting(place.withdrawn(receiver)))
            }
        }
    }

    /// Sends the request and relays its answer, of which `answered` has what is known at any moment. Closing the connection
    /// is what tells the engine to stop.
    async fn answer(
        &mut self,
        replica: &Arc<Replica>,
        place: &Place,
        answered: &mut Answered,
    ) -> Result<Exchange, AttemptOutcome> {
        let mut exchange = self.open(replica, place).await?;
        self.relay(&mut exchange, place, answered).await?;
        Ok(exchange)
    }

    /// Sends the request and reads the head of the answer. A kept connection that was dead is replaced once, by a new one:
    /// when an engine restarts, all that are kept are dead.
    async fn open(&mut self, replica: &Arc<Replica>, place: &Place) -> Result<Exchange, AttemptOutcome> {
        let gateway = self.request.gateway;
        for fresh in [false, true] {
            let outgoing = self.outgoing(place, replica);
            let timeouts = &self.deployment.timeouts;
            let send = pin!(Exchange::send(&gateway.connector, replica, timeouts, &outgoing, fresh));
            let mut exchange = match self.watched(send).await? {
                Ok(exchange) => exchange,
                Err((ExchangeError::Broken(_), true)) if !fresh => continue,
                Err((e, _)) => return Err(AttemptOutcome::from(observed(&e, place, None))),
            };
            if !self.request.live.ledger().is_started() {
                self.request.live.ledger().set_started(true);
                self.record.dispatched(clock::now());
                place.dispatched();
                self.unseen = (!self.request.call.stream).then(|| place.unseen());
            }
            let timeout = if self.request.call.stream { timeouts.first_token } else { timeouts.answer };
            let stale = exchange.is_reused() && !fresh;
            let head = self.watched(pin!(tokio::time::timeout(timeout, exchange.read_head()))).await?;
            match head {
                Ok(Ok(200)) => return Ok(exchange),
                Ok(Ok(status)) => {
                    let error = self.read_error(status, &mut exchange).await?;
                    // The engine still has the last sending. This one gets another id.
                    if !fresh && attribution::is_id_in_use(&error.message) {
                        continue;
                    }
                    return Err(AttemptOutcome::from(Observed::Told(error)));
                }
                Ok(Err(ExchangeError::Broken(_))) if stale => {}
                Ok(Err(e)) => return Err(AttemptOutcome::from(observed(&e, place, Some(timeout)))),
                Err(_) => {
                    return Err(AttemptOutcome::from(observed(
                        &ExchangeError::Timeout,
                        place,
                        Some(timeout),
                    )));
                }
            }
        }
        Err(AttemptOutcome::from(Observed::Broken))
    }

    /// The client left before anything of the answer was seen. Of a whole answer much may have been generated by then.
    fn left_unseen(&mut self, place: &Place) {
        let ledger = self.request.live.ledger();
        if ledger.is_started() {
            let unseen = self.unseen.take();
            let chunks = unseen.and_then(|unseen| place.tokens_unseen(&unseen, ledger.prompt().uncached));
            settle::left_unseen(self.request, chunks, self.record);
        }
    }

    /// An answer that came as a whole tells how far others are, of which nobody sees anything.
    fn learn_pace(&self, place: &Place, answered: &Answered) {
        let ledger = self.request.live.ledger();
        let call = self.request.call;
        let usage = answered.usage.filter(|_| call.choices == 1 && call.api.form().has_output);
        if let (Some(unseen), Some(usage)) = (&self.unseen, usage) {
            let chunks = (usage.generated as f64 / ledger.prompt().tokens_per_chunk).round() as u64;
            place.came_whole(chunks, unseen, ledger.prompt().uncached);
        }
    }

    /// The model's name at `replica`. One that came with a later config than the request's, while that waited, goes by
    /// the name that the config with it gave: a request never carries one config's name to another's replica.
    fn served_name(&self, replica: &Arc<Replica>) -> Arc<str> {
        let own = &self.request.model.config;
        let newest = self.request.gateway.snapshot();
        let came_later = || {
            let same = |other: &&Arc<Deployment>| Arc::ptr_eq(&other.gate, &self.deployment.gate);
            let deployment = newest.deployments.iter().find(same)?;
            let is_theirs = deployment.replicas.all().iter().any(|(_, other)| Arc::ptr_eq(other, replica));
            newest
                .models
                .get(&own.name)
                .filter(|_| is_theirs)
                .map(|model| Arc::clone(&model.config.served_model))
        };
        if Arc::ptr_eq(&newest, self.request.snapshot) {
            return Arc::clone(&own.served_model);
        }
        came_later().unwrap_or_else(|| Arc::clone(&own.served_model))
    }

    /// The id of this sending. An engine refuses an id that it knows, and it may still have the request's last sending, so
    /// each has one of its own that begins with the request's.
    fn sending_id(&mut self) -> HeaderValue {
        let id = &self.client.envelope.id;
        match self.record.sent() {
            0 => id.clone(),
            again => {
                let text = format!("{}-{}", self.client.envelope.id_text(), again + 1);
                HeaderValue::from_str(&text).unwrap_or_else(|_| id.clone())
            }
        }
    }

    fn outgoing(&mut self, place: &Place, replica: &Arc<Replica>) -> Outgoing {
        let call = self.request.call;
        let config = &self.deployment.config;
        let id = self.sending_id();
        let id_text = id.to_str().unwrap_or_default();
        let written = Written {
            priority: config
                .engine
                .priorities()
                .filter(|_| config.engine_priority)
                .map(|p| p.of(place.permit().tier)),
            cache_salt: Some(&*self.request.account.cache_salt).filter(|_| config.cache_salt),
            request_id: config.engine.request_id_member().map(|key| (key, id_text)),
        };
        let edits = policy::edits(&config.parameters, &written, call);
        Outgoing {
            path: call.api.path(),
            request_id: id.clone(),
            trace: self.record.trace.clone(),
            passed: passed(call.api.form().family, &self.client.session().req_header().headers),
            stream: call.stream,
            body: call.forwarded(&self.served_name(replica), config.engine, place.permit().tier, edits),
        }
    }

    /// Waits for `work` while the client is watched; a stream that is silent for long gets comments.
    async fn watched<T>(&mut self, mut work: Pin<&mut impl Future<Output = T>>) -> Result<T, AttemptOutcome> {
        let silence = self.request.snapshot.config.listen.limits.silence;
        let mut silence_end = clock::now() + silence;
        loop {
            let left = silence_end.saturating_sub(clock::now());
            tokio::select! {
                biased;
                done = work.as_mut() => return Ok(done),
                () = self.client.gone() => return Err(Stop::Gone.into()),
                () = tokio::time::sleep(left), if self.request.call.stream => {
                    self.client.keep_alive().await?;
                    silence_end = clock::now() + silence;
                }
            }
        }
    }

    async fn relay(
        &mut self,
        exchange: &mut Exchange,
        place: &Place,
        answered: &mut Answered,
    ) -> Result<(), AttemptOutcome> {
        let request = self.request;
        let streams = is_stream(exchange, request.call.stream)
            .map_err(|e| AttemptOutcome::from(Observed::Unreadable(e)))?;
        let (deployment, record) = (self.deployment, &mut *self.record);
        let relay = Relay {
            client: self.client,
            exchange,
            live: &request.live,
            api: request.call.api,
            stamp: request.call.stamp(
                &request.model.config.served_model,
                deployment.config.engine,
                place.permit().tier,
            ),
            timeouts: &deployment.timeouts,
            silence: request.snapshot.config.listen.limits.silence,
            dispatched: record.dispatched_at(),
            place,
            max_tokens: request.call.max_tokens_at(deployment.config.engine),
            memory: self.memory,
            answered,
        };
        if !streams {
            return relay.whole(200, || request.give_up_body()).await;
        }
        let first_token = || {
            let now = clock::now();
            let uncached = request.live.ledger().prompt().uncached;
            let since = |then: Duration| now.saturating_sub(then);
            place.first_token(uncached, since(record.arrived), since(record.dispatched_at()));
            record.first_token(now);
            settle::prompt_is_cached(request, deployment, place, None);
            request.give_up_body();
        };
        relay.stream(first_token).await
    }

    /// What an answer with another status than 200 means.
    async fn read_error(
        &mut self,
        status: u16,
        exchange: &mut Exchange,
    ) -> Result<UpstreamError, AttemptOutcome> {
        let mut body = BytesMut::new();
        let read = async {
            while let Ok(Some(piece)) = exchange.read_body().await {
                body.extend_from_slice(&piece);
                if body.len() > ERROR_BODY_MAX {
                    break;
                }
            }
        };
        let _ = self.watched(pin!(tokio::time::timeout(ERROR_BODY_TIME, read))).await?;
        body.truncate(ERROR_BODY_MAX);
        let mut error = UpstreamError::from_body(status, &body);
        error.retry_after = exchange.headers().and_then(retry_after);
        Ok(error)
    }
}

/// The headers that go on to the engine, of all that the client sent: those that Anthropic's API gives a meaning to, on its
/// own routes.
fn passed(family: Family, headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    if family != Family::Anthropic {
        return Vec::new();
    }
    let of = |name: &'static str| {
        headers.get_all(name).iter().map(move |value| (HeaderName::from_static(name), value))
    };
    let all = PASSED.into_iter().flat_map(of);
    let plain = all.filter(|(_, value)| value.len() <= PASSED_BYTES_MAX && value.to_str().is_ok());
    plain.map(|(name, value)| (name, value.clone())).take(PASSED_MAX).collect()
}

/// Whether the answer is a stream of events, which it may be only if one was asked for.
fn is_stream(exchange: &Exchange, asked: bool) -> Result<bool, &'static str> {
    let value = |name| exchange.headers().and_then(|headers| headers.get(name));
    if value(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err("the answer is compressed, though `identity` was asked for");
    }
    let streams = value(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().trim_ascii_start().starts_with(b"text/event-stream"));
    match (streams, asked) {
        (true, false) => Err("a stream came where none was asked for"),
        _ => Ok(streams),
    }
}

/// What a broken exchange shows; `waited`: how long nothing came.
pub(super) fn observed(e: &ExchangeError, place: &Place, waited: Option<Duration>) -> Observed {
    match e {
        ExchangeError::Connect(_) => Observed::ConnectFailed,
        ExchangeError::Broken(_) => Observed::Broken,
        ExchangeError::NoSocket => Observed::OwnBound(OwnBound::Descriptors),
        ExchangeError::Timeout => {
            let since = clock::now().saturating_sub(waited.unwrap_or_default());
            Observed::Silence { others_flow: place.others(since) == Others::Flow }
        }
    }
}

/// An engine's `Retry-After` in seconds. A date is not read: engines send none.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
