//! The client's side of one request: watched while it waits, answered once.
//!
//! A stream's head is held back until the first token, so that an overload can still become a status. If the
//! client has seen nothing for a while it gets its head and comments, because proxies on the way cut silent
//! connections; from then on errors come as frames inside the stream.

use crate::respond::{self, Envelope};
use bytes::Bytes;
use config::Cors;
use connections::reset;
use http::{HeaderValue, Method, Version, header};
use pingora::ErrorType;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use protocol::api::Api;
use protocol::api::route;
use protocol::cors::Grant;
use protocol::error;
use protocol::refusal::Refusal;
use std::time::Duration;

/// Why a request ends without an answer of its own.
#[derive(Debug, Clone, PartialEq)]
pub enum Stop {
    /// Refused; the client is to be told.
    Refused(Refusal),
    /// The client is gone, or no longer reads.
    Gone,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(refusal)
    }
}

/// Bytes after a body that are read and ignored one by one; old clients send a CRLF. More of them are the next requests
/// of a client that does not wait for answers.
const STRAY_BYTES_MAX: u32 = 64;

/// A reset overtakes what is not written yet, of a stream of HTTP/2 as of a connection: the error frame would be lost with
/// it. A client that reads has it long before this.
const RESET_AFTER: Duration = Duration::from_millis(50);

/// A comment of the event-stream format: ignored by every SDK, seen by every proxy.
const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// One request's client.
pub struct Client<'s> {
    session: &'s mut ServerSession,
    /// What the answer's head will show.
    pub envelope: Envelope,
    /// What it speaks, once that is known.
    pub api: Option<Api>,
    /// The number of the next event, where a stream numbers them.
    pub sequence: u64,
    head_sent: bool,
    /// Whether the head is that of a whole answer: no error can be told inside it.
    is_whole: bool,
    /// Whether the connection may serve another request.
    reusable: bool,
    stray: u32,
}

impl<'s> Client<'s> {
    /// The client of a session whose head was read; `cors`: whose pages may call from a browser.
    pub fn new(session: &'s mut ServerSession, cors: Option<&Cors>) -> Self {
        let head = session.req_header();
        let mut envelope = Envelope::new(route::family(head));
        envelope.cors = cors.map(|cors| Grant::to(cors, &head.headers));
        if head.version == Version::HTTP_10 && !asks_to_keep(head) {
            session.set_keepalive(None);
        }
        Client {
            session,
            envelope,
            api: None,
            sequence: 0,
            head_sent: false,
            is_whole: false,
            reusable: true,
            stray: 0,
        }
    }

    /// The session, to read from.
    pub fn session(&mut self) -> &mut ServerSession {
        self.session
    }

    /// The HTTP version that it speaks.
    #[must_use]
    pub fn protocol(&self) -> &'static str {
        match self.session.req_header().version {
            _ if self.session.is_http2() => "HTTP/2",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        }
    }

    /// Whether anything of the answer was sent.
    #[must_use]
    pub fn head_sent(&self) -> bool {
        self.head_sent
    }

    /// Whether the connection may serve another request.
    #[must_use]
    pub fn reusable(&self) -> bool {
        self.reusable
    }

    /// The connection ends with this request.
    pub fn close_after(&mut self) {
        self.reusable = false;
        self.session.set_keepalive(None);
    }

    /// Whether the answer ends with the connection and is not framed by itself.
    fn ends_with_connection(&self) -> bool {
        !self.session.is_http2() && self.session.req_header().version == Version::HTTP_10
    }

    /// Resolves when the client is gone. To be called after the body was read. Cancel-safe.
    ///
    /// A client that ends its sending half is gone: nobody can tell it from one that left. One that goes on sending gets
    /// this answer, and none to what it sent before it: its later requests are not read, and with them not its leaving.
    pub async fn gone(&mut self) {
        loop {
            if self.stray > STRAY_BYTES_MAX {
                return std::future::pending().await;
            }
            match self.session.read_body_or_idle(true).await {
                Err(e) if *e.etype() == ErrorType::ConnectError => {
                    self.stray += 1;
                    self.close_after();
                }
                Ok(Some(_)) if self.stray < STRAY_BYTES_MAX => self.stray += 1,
                _ => {
                    self.reusable = false;
                    return;
                }
            }
        }
    }

    /// Answers with a whole body.
    ///
    /// # Errors
    /// [`Stop::Gone`] when it could not be written.
    pub async fn answer(&mut self, status: u16, content_type: &HeaderValue, body: Bytes) -> Result<(), Stop> {
        let head = respond::answer_head(&self.envelope, status, content_type, body.len());
        self.write_answer(head, body).await
    }

    /// Tells the client of a refusal, as an answer or, when the stream has begun, inside it.
    pub async fn refuse(&mut self, refusal: &Refusal) {
        let told = if self.head_sent {
            self.break_off(refusal).await
        } else {
            match respond::refusal(&self.envelope, refusal) {
                Ok((head, body)) => self.write_answer(Ok(head), body).await,
                Err(_) => Err(Stop::Gone),
            }
        };
        if told.is_err() {
            self.reusable = false;
        }
    }

    async fn write_answer(&mut self, head: pingora::Result<ResponseHeader>, body: Bytes) -> Result<(), Stop> {
        self.head_sent = true;
        let head = Box::new(head.map_err(|_| Stop::Gone)?);
        let result = self.session.write_response_header(head).await;
        self.written(result)?;
        let body = if self.session.req_header().method == Method::HEAD { Bytes::new() } else { body };
        let result = self.session.write_response_body(body, true).await;
        self.written(result)
    }

    /// Answers with a head alone.
    ///
    /// # Errors
    /// [`Stop::Gone`] when it could not be written.
    pub async fn answer_head(&mut self, head: pingora::Result<ResponseHeader>) -> Result<(), Stop> {
        self.write_answer(head, Bytes::new()).await
    }

    /// Sends a stream's head.
    ///
    /// # Errors
    /// [`Stop::Gone`] when it could not be written.
    pub async fn begin_stream(&mut self) -> Result<(), Stop> {
        self.head_sent = true;
        let request = self.session.req_header();
        let chunked = !self.session.is_http2() && request.version == Version::HTTP_11;
        let head = Box::new(respond::stream_head(&self.envelope, chunked).map_err(|_| Stop::Gone)?);
        let result = self.session.write_response_header(head).await;
        self.written(result)
    }

    /// Sends the head of a whole answer that is passed through: its length is not known yet.
    ///
    /// # Errors
    /// [`Stop::Gone`] when it could not be written.
    pub async fn begin_whole(&mut self) -> Result<(), Stop> {
        self.head_sent = true;
        self.is_whole = true;
        let request = self.session.req_header();
        let chunked = !self.session.is_http2() && request.version == Version::HTTP_11;
        let head = Box::new(respond::open_head(&self.envelope, chunked).map_err(|_| Stop::Gone)?);
        let result = self.session.write_response_header(head).await;
        self.written(result)
    }

    /// Sends a comment, after the head if that was not sent yet.
    ///
    /// # Errors
    /// [`Stop::Gone`] when it could not be written.
    pub async fn keep_alive(&mut self) -> Result<(), Stop> {
        self.comment(Bytes::from_static(KEEP_ALIVE)).await
    }

    /// Sends a comment of a stream, whose head is sent before if it was not yet.
    ///
    /// # Errors
    /// [`Stop::Gone`] when it could not be written.
    pub async fn comment(&mut self, comment: Bytes) -> Result<(), Stop> {
        if !self.head_sent {
            self.begin_stream().await?;
        }
        self.write(comment, false).await
    }

    /// Sends a piece of a stream.
    ///
    /// # Errors
    /// [`Stop::Gone`] when it could not be written in time.
    pub async fn write(&mut self, bytes: Bytes, end: bool) -> Result<(), Stop> {
        let result = self.session.write_response_body(bytes, end).await;
        self.written(result)
    }

    /// Ends a stream that has begun with the API's error frame, and the connection without a clean end.
    async fn break_off(&mut self, refusal: &Refusal) -> Result<(), Stop> {
        self.reusable = false;
        let api = self.api.unwrap_or(Api::Chat);
        if !self.is_whole {
            let frame = error::stream_frame(api, refusal, self.envelope.id_text(), self.sequence);
            self.write(frame, false).await?;
        }
        if self.session.is_http2() {
            tokio::time::sleep(RESET_AFTER).await;
        } else if self.ends_with_connection() {
            tokio::time::sleep(RESET_AFTER).await;
            if let Err(error) = reset::reset(self.session) {
                tracing::warn!(%error, "a broken answer over HTTP/1.0 could not be ended with a reset");
            }
            return Ok(());
        }
        self.session.shutdown().await;
        Ok(())
    }

    fn written(&mut self, result: pingora::Result<()>) -> Result<(), Stop> {
        result.map_err(|_| {
            self.reusable = false;
            Stop::Gone
        })
    }
}

/// Whether a client of HTTP/1.0 asks for the connection to be kept.
fn asks_to_keep(head: &RequestHeader) -> bool {
    let tokens =
        head.headers.get_all(header::CONNECTION).iter().flat_map(|v| v.as_bytes().split(|&b| b == b','));
    tokens.into_iter().any(|token| token.trim_ascii().eq_ignore_ascii_case(b"keep-alive"))
}
