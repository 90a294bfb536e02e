//! One request to one replica: sent whole, then read piece by piece.
//!
//! The request is built anew from what we know, never forwarded: the headers are ours, the length is ours, so
//! no framing trick and no header of a client reaches an engine. An exchange that is dropped closes its
//! connection, which is how an engine learns that nobody listens any more; one that was read to its end goes
//! back to the pool.

use crate::replica::{Replica, UpstreamTimeouts};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use pingora::ErrorType;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use process::entropy;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// Below this size a request is sent as one piece: a copy is cheaper than a system call.
const ONE_PIECE_BYTES: usize = 64 << 10;

/// Errors of the operating system that are about this process: EMFILE, ENFILE, EADDRNOTAVAIL, ENOBUFS.
const OWN_BOUNDS: [i32; 4] = [24, 23, 99, 105];

/// Why an exchange broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// No connection: refused, unreachable or too slow.
    #[error("could not connect: {0}")]
    Connect(String),
    /// The connection broke, or what came was not HTTP.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// Silence for longer than allowed.
    #[error("no answer in time")]
    Timeout,
    /// This process had no socket left: descriptors, or ports of its own.
    #[error("no socket was left")]
    NoSocket,
}

/// A request whose answer is being read.
pub struct Exchange {
    session: HttpSession<()>,
    replica: Arc<Replica>,
    idle: Duration,
    reused: bool,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").field("replica", &self.replica.name).finish_non_exhaustive()
    }
}

/// What is sent.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The API's path.
    pub path: &'static str,
    /// Our request id.
    pub request_id: HeaderValue,
    /// W3C trace context of the client, when well formed.
    pub trace: Option<HeaderValue>,
    /// Headers of the client that the API gives a meaning to.
    pub passed: Vec<(HeaderName, HeaderValue)>,
    /// Whether the answer will be a stream.
    pub stream: bool,
    /// The body in pieces.
    pub body: Vec<Bytes>,
}

impl Exchange {
    /// Sends `outgoing` to `replica`, over a kept connection if there is one and `fresh` is not asked for. When an engine
    /// restarts, all its kept connections are dead, so a second sending asks for a new one.
    ///
    /// # Errors
    /// When no connection could be made or the request could not be written; with it whether the connection was a kept one,
    /// which may have been dead for long.
    pub async fn send(
        connector: &Connector<()>,
        replica: &Arc<Replica>,
        timeouts: &UpstreamTimeouts,
        outgoing: &Outgoing,
        fresh: bool,
    ) -> Result<Exchange, (ExchangeError, bool)> {
        // Connecting, with TLS and HTTP/2 in it, needs 20 KB that a stream would otherwise hold for its whole life.
        let connected = if fresh {
            let mut peer = replica.peer.clone();
            // No connection was ever kept under this key.
            peer.group_key = entropy::bits();
            Box::pin(connector.get_http_session(&peer)).await
        } else {
            Box::pin(connector.get_http_session(&replica.peer)).await
        };
        let (session, reused) = connected.map_err(|e| (connect_error(e), false))?;
        let mut exchange = Exchange { session, replica: Arc::clone(replica), idle: timeouts.idle, reused };
        exchange.session.set_write_timeout(Some(timeouts.write));
        match exchange.write(outgoing).await {
            Ok(()) => Ok(exchange),
            Err(e) => Err((e, reused)),
        }
    }

    async fn write(&mut self, outgoing: &Outgoing) -> Result<(), ExchangeError> {
        let length: usize = outgoing.body.iter().map(Bytes::len).sum();
        let header = self.header(outgoing, length).map_err(|e| ExchangeError::Broken(e.to_string()))?;
        self.session.write_request_header(Box::new(header)).await.map_err(broken)?;
        if length <= ONE_PIECE_BYTES && outgoing.body.len() > 1 {
            let mut whole = Vec::with_capacity(length);
            outgoing.body.iter().for_each(|piece| whole.extend_from_slice(piece));
            self.session.write_request_body(Bytes::from(whole), false).await.map_err(broken)?;
        } else {
            for piece in &outgoing.body {
                self.session.write_request_body(piece.clone(), false).await.map_err(broken)?;
            }
        }
        self.session.finish_request_body().await.map_err(broken)
    }

    fn header(&self, outgoing: &Outgoing, length: usize) -> pingora::Result<RequestHeader> {
        let path = [self.replica.base_path.as_str(), outgoing.path].concat();
        let mut header = RequestHeader::build_no_case("POST", path.as_bytes(), Some(10))?;
        header.set_version(Version::HTTP_11);
        header.insert_header(header::HOST, &self.replica.host)?;
        header.insert_header(header::CONTENT_TYPE, "application/json")?;
        header.insert_header(header::CONTENT_LENGTH, length)?;
        header.insert_header(
            header::ACCEPT,
            if outgoing.stream { "text/event-stream" } else { "application/json" },
        )?;
        // A compressed answer would hide its tokens from the meter.
        header.insert_header(header::ACCEPT_ENCODING, "identity")?;
        header.insert_header(header::USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")))?;
        header.insert_header("x-request-id", &outgoing.request_id)?;
        if let Some(trace) = &outgoing.trace {
            header.insert_header("traceparent", trace)?;
        }
        for (name, value) in &outgoing.passed {
            header.append_header(name, value)?;
        }
        if let Some(authorization) = &self.replica.authorization {
            header.insert_header(header::AUTHORIZATION, authorization)?;
        }
        Ok(header)
    }

    /// Whether the connection was kept from an earlier request. Engines close idle ones without a word, so an
    /// answer that never begins on a kept connection is no fault of the replica.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Reads the final head; its status. Informational answers are skipped.
    ///
    /// # Errors
    /// When the connection broke or what came is no head.
    pub async fn read_head(&mut self) -> Result<u16, ExchangeError> {
        loop {
            self.session.read_response_header().await.map_err(broken)?;
            let status = self.session.response_header().map_or(0, |head| head.status.as_u16());
            if status >= 200 {
                return Ok(status);
            }
        }
    }

    /// The headers of the answer, once its head was read.
    #[must_use]
    pub fn headers(&self) -> Option<&HeaderMap> {
        self.session.response_header().map(|head| &head.headers)
    }

    /// The next piece of the answer's body; `None` at its end. Cancel-safe.
    ///
    /// # Errors
    /// When the answer breaks off before its end.
    pub async fn read_body(&mut self) -> Result<Option<Bytes>, ExchangeError> {
        self.session.read_response_body().await.map_err(broken)
    }

    /// Like [`read_body`](Self::read_body), but `None` at once where a piece would have to be waited for.
    pub async fn read_ready(&mut self) -> Option<Result<Option<Bytes>, ExchangeError>> {
        let mut read = std::pin::pin!(self.read_body());
        std::future::poll_fn(|context| match read.as_mut().poll(context) {
            Poll::Ready(read) => Poll::Ready(Some(read)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    /// Tells the engine that nobody listens any more, while what it has sent can still be read. `false` where the
    /// protocol can only do both at once.
    pub async fn hang_up(&mut self) -> bool {
        let can = self.session.as_http1().is_some();
        if can {
            self.session.shutdown().await;
        }
        can
    }

    /// Gives the connection back to the pool after the answer was read to its end.
    pub async fn release(self, connector: &Connector<()>) {
        connector.release_http_session(self.session, &self.replica.peer, Some(self.idle)).await;
    }
}

#[expect(clippy::boxed_local, reason = "the framework's errors come boxed")]
fn connect_error(e: pingora::BError) -> ExchangeError {
    match e.etype() {
        ErrorType::SocketError | ErrorType::BindError | ErrorType::InternalError => ExchangeError::NoSocket,
        _ if is_out_of_descriptors(&*e) => ExchangeError::NoSocket,
        etype => ExchangeError::Connect(etype.as_str().to_owned()),
    }
}

/// Whether the cause of an error is a bound of this process: descriptors of its own or of the system, or ports.
fn is_out_of_descriptors(e: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(e);
    while let Some(error) = cause {
        let number = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        if number.is_some_and(|number| OWN_BOUNDS.contains(&number)) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[expect(clippy::boxed_local, reason = "the framework's errors come boxed")]
fn broken(e: pingora::BError) -> ExchangeError {
    match e.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => ExchangeError::Timeout,
        etype => ExchangeError::Broken(etype.as_str().to_owned()),
    }
}
