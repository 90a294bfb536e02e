//! Sends one request and follows its answer to the end.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::ask::Ask;
use crate::check::{self, StreamCheck};
use crate::report::End;
use crate::tls::Tls;
use engine::clock;

/// Bytes of an error body, or of a whole answer, that are read before it is given up.
const BODY_MAX: usize = 64 << 20;

type Sender = SendRequest<Full<Bytes>>;

/// Connections to the target, the idle ones kept for the next request.
#[derive(Debug)]
pub(super) struct Connections {
    target: SocketAddr,
    tls: Option<Tls>,
    idle: Mutex<Vec<Sender>>,
    idle_max: usize,
}

impl Connections {
    pub(super) fn new(target: SocketAddr, tls: Option<Tls>, idle_max: usize) -> Self {
        Self { target, tls, idle: Mutex::default(), idle_max }
    }

    fn idle(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(sender) = idle.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    async fn fresh(&self) -> Result<Sender, End> {
        let stream = TcpStream::connect(self.target).await.map_err(|_| End::Connect)?;
        stream.set_nodelay(true).map_err(|_| End::Connect)?;
        // The connection's own errors come out at the request that they break.
        match &self.tls {
            None => {
                let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|_| End::Connect)?;
                tokio::spawn(async move { drop(connection.await) });
                Ok(sender)
            }
            Some(tls) => {
                let stream = tls.connect(stream).await.map_err(|_| End::Connect)?;
                let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|_| End::Connect)?;
                tokio::spawn(async move { drop(connection.await) });
                Ok(sender)
            }
        }
    }

    fn give_back(&self, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.idle_max && !sender.is_closed() {
            idle.push(sender);
        }
    }
}

/// What came of one sending.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) status: u16,
    pub(super) reason: Option<String>,
    pub(super) retry_after: Option<Duration>,
    pub(super) may_retry: bool,
    pub(super) end: End,
    /// When it was sent; all times since the start of the process.
    pub(super) sent: Duration,
    pub(super) first: Option<Duration>,
    pub(super) last: Option<Duration>,
    pub(super) ended: Duration,
    pub(super) tokens: u32,
}

impl Attempt {
    /// One that nobody waits for any longer.
    pub(super) fn given_up() -> Self {
        let now = clock::now();
        Self {
            status: 0,
            reason: None,
            retry_after: None,
            may_retry: false,
            end: End::Timeout,
            sent: now,
            first: None,
            last: None,
            ended: now,
            tokens: 0,
        }
    }
}

/// A request on its way.
pub(super) struct Exchange<'a> {
    pub(super) connections: &'a Connections,
    pub(super) path: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) ask: &'a Ask,
    /// Told of each gap between two content chunks and of new tokens, as they come.
    pub(super) progress: &'a (dyn Fn(Progress) + Sync),
}

/// What is known before an answer ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Progress {
    First,
    Gap(Duration),
    Tokens(u32),
}

impl Exchange<'_> {
    /// Never fails: however it ends is an outcome.
    pub(super) async fn run(&self, retry: u32) -> Attempt {
        let sent = clock::now();
        let mut attempt = Attempt {
            status: 0,
            reason: None,
            retry_after: None,
            may_retry: true,
            end: End::Connect,
            sent,
            first: None,
            last: None,
            ended: sent,
            tokens: 0,
        };
        attempt.end = match self.follow(&mut attempt, retry).await {
            Ok(()) => End::Complete,
            Err(end) => end,
        };
        attempt.ended = clock::now();
        attempt
    }

    async fn follow(&self, attempt: &mut Attempt, retry: u32) -> Result<(), End> {
        let (sender, answer) = self.send(attempt, retry).await?;
        attempt.status = answer.status().as_u16();
        let kept = match answer.status() {
            StatusCode::OK if self.ask.stream => self.stream(attempt, answer).await,
            StatusCode::OK => self.whole(attempt, answer).await,
            _ => refused(attempt, answer).await,
        };
        match kept {
            Ok(()) | Err(End::Refused | End::StreamError | End::Corrupt(_)) => {
                self.connections.give_back(sender)
            }
            Err(_) => {}
        }
        kept
    }

    /// Sends on an idle connection, or on a new one where there is none or where it turns out to have been closed
    /// before anything was written.
    async fn send(&self, attempt: &mut Attempt, retry: u32) -> Result<(Sender, Response<Incoming>), End> {
        if let Some(mut sender) = self.connections.idle() {
            attempt.sent = clock::now();
            match sender.send_request(self.request(retry)).await {
                Ok(answer) => return Ok((sender, answer)),
                Err(error) if error.is_canceled() => {}
                Err(_) => return Err(End::Truncated),
            }
        }
        let mut sender = self.connections.fresh().await?;
        attempt.sent = clock::now();
        let answer = sender.send_request(self.request(retry)).await.map_err(|_| End::Truncated)?;
        Ok((sender, answer))
    }

    fn request(&self, retry: u32) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.ask.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.parse().unwrap_or_default();
        *request.headers_mut() = self.headers.clone();
        if retry > 0 {
            request.headers_mut().insert("x-stainless-retry-count", http::HeaderValue::from(retry));
        }
        request
    }

    async fn stream(&self, attempt: &mut Attempt, answer: Response<Incoming>) -> Result<(), End> {
        let mut body = answer.into_body();
        let mut check = StreamCheck::new(self.ask.expected);
        let mut error = false;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| if error { End::StreamError } else { End::Truncated })?;
            let Some(data) = frame.data_ref() else { continue };
            let fed = check.feed(data).map_err(End::Corrupt)?;
            error |= fed.error;
            if fed.chunks > 0 {
                self.chunk(attempt, fed.tokens);
            }
            if self.ask.abandon_after.is_some_and(|after| check.tokens() > after) {
                return Err(End::Abandoned);
            }
        }
        if error { Err(End::StreamError) } else { check.end().map_err(End::Corrupt) }
    }

    fn chunk(&self, attempt: &mut Attempt, tokens: u32) {
        let now = clock::now();
        match attempt.last {
            Some(last) => (self.progress)(Progress::Gap(now - last)),
            None => {
                attempt.first = Some(now);
                (self.progress)(Progress::First);
            }
        }
        attempt.last = Some(now);
        attempt.tokens += tokens;
        (self.progress)(Progress::Tokens(tokens));
    }

    async fn whole(&self, attempt: &mut Attempt, answer: Response<Incoming>) -> Result<(), End> {
        let body = collect(answer).await?;
        attempt.tokens = check::whole(&body, self.ask.expected).map_err(End::Corrupt)?;
        (self.progress)(Progress::Tokens(attempt.tokens));
        Ok(())
    }
}

async fn refused(attempt: &mut Attempt, answer: Response<Incoming>) -> Result<(), End> {
    let text = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    attempt.reason = text("x-tidegate-reason").map(str::to_owned);
    attempt.may_retry = text("x-should-retry") != Some("false");
    let ms = text("retry-after-ms").and_then(|ms| ms.parse::<f64>().ok()).map(|ms| ms / 1e3);
    let seconds = ms.or_else(|| text("retry-after").and_then(|seconds| seconds.parse().ok()));
    attempt.retry_after =
        seconds.filter(|seconds| (0.0..=3600.0).contains(seconds)).map(Duration::from_secs_f64);
    collect(answer).await?;
    Err(End::Refused)
}

async fn collect(answer: Response<Incoming>) -> Result<Bytes, End> {
    let body = http_body_util::Limited::new(answer.into_body(), BODY_MAX);
    body.collect().await.map(http_body_util::Collected::to_bytes).map_err(|_| End::Truncated)
}
