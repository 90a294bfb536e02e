//! Plays requests that were written down beforehand, each at its time, and tells of every try by itself.
//!
//! The generator of [`start`](crate::start) draws its own requests and sums up. A drill wants the opposite: the
//! requests are the scenario's, the same that it plays in virtual time, and what came of each try is judged elsewhere.
//! Open loop as well: a request is sent when it is due, whatever became of those before. How late it was sent is told
//! with it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::ask::{Ask, Body, Message};
use crate::check::Expected;
use crate::client::{Attempt, Connections, Exchange};
use crate::plan::Retry;
use crate::report::End;
use crate::tls::Tls;
use engine::clock;
use engine::prompt::{MESSAGE_TOKENS, START_TOKENS, text_of};
use engine::text::mix;
use engine::workload::Size;

/// The first wait of a client that was told nothing.
const BACKOFF: Duration = Duration::from_millis(500);

/// Where and how to send.
#[derive(Debug, Clone)]
pub struct Script {
    /// Where the gateway listens.
    pub target: SocketAddr,
    /// What requests name as the host.
    pub host: String,
    /// How it proves who it is; `None`: without TLS.
    pub tls: Option<Tls>,
    /// Path of a chat completions API.
    pub path: String,
    /// Models to name; a request of one beyond them names the last.
    pub models: Vec<String>,
    /// Key of each account; an account beyond them has the last one.
    pub keys: Vec<String>,
    /// Whether answers come from a simulated engine and are compared with what it must have said.
    pub check_text: bool,
    /// A try without an end after this is given up.
    pub timeout: Duration,
    /// No more requests at once than this; what would be one too many is not sent.
    pub in_flight_max: usize,
}

/// One request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scripted {
    /// When it is due, from the start.
    pub at: Duration,
    /// Whose it is: an index of [`Script::keys`].
    pub account: u32,
    /// What it asks for: an index of [`Script::models`].
    pub model: u16,
    /// The `service_tier` that it asks for.
    pub tier: Option<&'static str>,
    /// Its sizes.
    pub size: Size,
    /// Whether it streams.
    pub streaming: bool,
    /// The family of prompts that its own begins like, and for how many tokens.
    pub shared: Option<(u64, u32)>,
    /// Whether and how its client comes back.
    pub retry: Option<Retry>,
    /// Its client leaves when no token came for so long.
    pub patience: Option<Duration>,
}

/// One try of one request, over.
#[derive(Debug, Clone, PartialEq)]
pub struct Tried {
    /// The request.
    pub request: Scripted,
    /// Its number, from 0.
    pub serial: u32,
    /// 0 for the first try.
    pub number: u32,
    /// When this try was due, from the start.
    pub due: Duration,
    /// How much later it was sent.
    pub lag: Duration,
    /// When it ended, from the start.
    pub ended: Duration,
    /// The status; 0: none.
    pub status: u16,
    /// `x-tidegate-reason` of a refusal.
    pub reason: Option<String>,
    /// How it ended; `None`: its client lost patience.
    pub end: Option<End>,
    /// From due to the first token; to the end of an answer that did not stream.
    pub ttft: Option<Duration>,
    /// Mean time per token after the first.
    pub tpot: Option<Duration>,
    /// Tokens received.
    pub tokens: u32,
}

/// A script that is being played.
#[derive(Debug)]
pub struct ScriptRun {
    shared: Arc<Shared>,
}

/// What the player and the one who waits for it share.
#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    stopped: Notify,
    over: AtomicBool,
    under_way: AtomicU64,
    /// Begun when the first request may be sent.
    start: Duration,
    tries: Mutex<Tries>,
}

/// Tries that ended and were not collected yet, bounded by the requests of the script and their retries, and the last
/// one of each request that has not ended, bounded by what may be under way.
#[derive(Debug, Default)]
struct Tries {
    ended: Vec<Tried>,
    open: BTreeMap<u32, Tried>,
}

impl Shared {
    fn tries(&self) -> MutexGuard<'_, Tries> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ScriptRun {
    /// When time began for it, by [`clock::now`].
    #[must_use]
    pub fn start(&self) -> Duration {
        self.shared.start
    }

    /// The tries that ended since this was last asked.
    #[must_use]
    pub fn collect(&self) -> Vec<Tried> {
        std::mem::take(&mut self.shared.tries().ended)
    }

    /// The tries that were sent and have no end, as given up now. Nothing of them ends afterwards.
    #[must_use]
    pub fn give_up(&self) -> Vec<Tried> {
        let now = clock::now().saturating_sub(self.shared.start);
        let open = std::mem::take(&mut self.shared.tries().open);
        open.into_values().map(|tried| Tried { ended: now, end: Some(End::Timeout), ..tried }).collect()
    }

    /// Requests that have no end yet.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        self.shared.under_way.load(Relaxed)
    }

    /// Whether everything has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.shared.over.load(Relaxed)
    }

    /// Sends nothing new and drops what is under way.
    pub fn stop(&self) {
        self.shared.stop.store(true, Relaxed);
        self.shared.stopped.notify_waiters();
    }
}

/// Plays on a thread and a runtime of its own.
///
/// # Errors
/// No thread or runtime can be made.
pub fn start(
    script: Script,
    requests: impl Iterator<Item = Scripted> + Send + 'static,
) -> io::Result<ScriptRun> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shared = Arc::new(Shared {
        stop: AtomicBool::new(false),
        stopped: Notify::new(),
        over: AtomicBool::new(false),
        under_way: AtomicU64::new(0),
        start: clock::now(),
        tries: Mutex::default(),
    });
    let player = Arc::clone(&shared);
    std::thread::Builder::new().name("load".to_owned()).spawn(move || {
        runtime.block_on(play(script, requests, Arc::clone(&player)));
        player.over.store(true, Relaxed);
    })?;
    Ok(ScriptRun { shared })
}

struct Player {
    script: Script,
    headers: Vec<HeaderMap>,
    connections: Connections,
    shared: Arc<Shared>,
}

async fn play(script: Script, requests: impl Iterator<Item = Scripted>, shared: Arc<Shared>) {
    let player = Arc::new(Player {
        headers: headers_of(&script),
        connections: Connections::new(script.target, script.tls.clone(), script.in_flight_max),
        script,
        shared,
    });
    let mut under_way = JoinSet::new();
    for (request, serial) in requests.zip(0_u32..) {
        // Made before it is due, so that making it does not make it late.
        let ask = written(&player.script, &request, u64::from(serial));
        if !player.wait_until(request.at).await {
            break;
        }
        while under_way.try_join_next().is_some() {}
        if under_way.len() >= player.script.in_flight_max {
            player.tell(player.unsent(request, serial));
            continue;
        }
        player.shared.under_way.fetch_add(1, Relaxed);
        under_way.spawn(Arc::clone(&player).one(request, serial, ask));
    }
    let all = async { while under_way.join_next().await.is_some() {} };
    tokio::select! {
        () = all => {}
        () = player.told_to_stop() => {}
    }
    // What is dropped here closes its connection: the gateway sees a client that leaves.
}

impl Player {
    fn now(&self) -> Duration {
        clock::now().saturating_sub(self.shared.start)
    }

    fn tell(&self, tried: Tried) {
        self.shared.tries().ended.push(tried);
    }

    /// The try that was begun last is over, unless it was given up already.
    fn tell_end(&self, tried: Tried) {
        let mut tries = self.shared.tries();
        if tries.open.remove(&tried.serial).is_some() {
            tries.ended.push(tried);
        }
    }

    async fn told_to_stop(&self) {
        loop {
            let told = self.shared.stopped.notified();
            if self.shared.stop.load(Relaxed) {
                return;
            }
            told.await;
        }
    }

    /// Sleeps until `due` after the start; `false` if told to stop meanwhile.
    async fn wait_until(&self, due: Duration) -> bool {
        let left = due.saturating_sub(self.now());
        if left.is_zero() {
            return !self.shared.stop.load(Relaxed);
        }
        tokio::select! {
            () = tokio::time::sleep(left) => !self.shared.stop.load(Relaxed),
            () = self.told_to_stop() => false,
        }
    }

    /// One request with its further tries.
    async fn one(self: Arc<Self>, request: Scripted, serial: u32, ask: Ask) {
        let mut due = request.at;
        let mut number = 0;
        loop {
            let begun = Tried { due, number, ..self.unsent(request, serial) };
            self.shared.tries().open.insert(serial, begun);
            let (tried, wait) = self.attempt(request, serial, number, due, &ask).await;
            self.tell_end(tried);
            match wait {
                Some(wait) => {
                    due = self.now() + wait;
                    if !self.wait_until(due).await {
                        break;
                    }
                    number += 1;
                }
                None => break,
            }
        }
        self.shared.under_way.fetch_sub(1, Relaxed);
    }

    async fn attempt(
        &self,
        request: Scripted,
        serial: u32,
        number: u32,
        due: Duration,
        ask: &Ask,
    ) -> (Tried, Option<Duration>) {
        let sent = self.now();
        let first = Notify::new();
        let progress = |progress: crate::client::Progress| {
            if matches!(progress, crate::client::Progress::First) {
                first.notify_one();
            }
        };
        let none = HeaderMap::new();
        let account = (request.account as usize).min(self.headers.len().saturating_sub(1));
        let exchange = Exchange {
            connections: &self.connections,
            path: &self.script.path,
            headers: self.headers.get(account).unwrap_or(&none),
            ask,
            progress: &progress,
        };
        let impatient = async {
            let Some(patience) = request.patience else { return std::future::pending().await };
            tokio::select! {
                () = tokio::time::sleep(patience) => {}
                () = first.notified() => std::future::pending().await,
            }
        };
        let attempt = tokio::select! {
            attempt = exchange.run(number) => Some(attempt),
            () = impatient => None,
            () = tokio::time::sleep(self.script.timeout) => Some(Attempt::given_up()),
        };
        let wait = attempt.as_ref().and_then(|attempt| self.comes_back(request, number, attempt));
        (self.tried(request, serial, number, due, sent, attempt), wait)
    }

    fn tried(
        &self,
        request: Scripted,
        serial: u32,
        number: u32,
        due: Duration,
        sent: Duration,
        attempt: Option<Attempt>,
    ) -> Tried {
        let since_due = |at: Duration| at.saturating_sub(self.shared.start).saturating_sub(due);
        let mut tried = Tried { due, lag: sent.saturating_sub(due), number, ..self.unsent(request, serial) };
        tried.ended = self.now();
        let Some(attempt) = attempt else {
            tried.end = None;
            return tried;
        };
        let whole = (!request.streaming && attempt.end == End::Complete).then_some(attempt.ended);
        tried.ttft = attempt.first.or(whole).map(since_due);
        let further = attempt.tokens.saturating_sub(1);
        tried.tpot = match (attempt.first, attempt.last) {
            (Some(first), Some(last)) if further > 0 => Some((last - first) / further),
            _ => None,
        };
        tried.ended = attempt.ended.saturating_sub(self.shared.start);
        tried.status = attempt.status;
        tried.reason = attempt.reason;
        tried.tokens = attempt.tokens;
        tried.end = Some(attempt.end);
        tried
    }

    fn unsent(&self, request: Scripted, serial: u32) -> Tried {
        Tried {
            request,
            serial,
            number: 0,
            due: request.at,
            lag: Duration::ZERO,
            ended: self.now(),
            status: 0,
            reason: None,
            end: Some(End::Unsent),
            ttft: None,
            tpot: None,
            tokens: 0,
        }
    }

    /// How long until the next try; `None`: there is none.
    fn comes_back(&self, request: Scripted, number: u32, attempt: &Attempt) -> Option<Duration> {
        let retry = request.retry.filter(|retry| number < retry.attempts_max)?;
        let unanswered = attempt.first.is_none() && matches!(attempt.end, End::Connect | End::Truncated);
        let refused = attempt.end == End::Refused && matches!(attempt.status, 429 | 503);
        if !(unanswered || refused)
            || (retry.obedient && !attempt.may_retry)
            || self.shared.stop.load(Relaxed)
        {
            return None;
        }
        let told = attempt.retry_after.filter(|_| retry.obedient);
        Some(told.unwrap_or(BACKOFF * (1 << number.min(4))))
    }
}

/// Writes out a request that was decided elsewhere.
fn written(script: &Script, request: &Scripted, serial: u64) -> Ask {
    let size = request.size;
    let (family, shared) = request.shared.unwrap_or((0, 0));
    let shared = shared.min(size.prompt_tokens);
    // Families and single prompts have seeds of their own.
    let seed = mix(serial) >> 1;
    let frames = START_TOKENS + MESSAGE_TOKENS * if shared > 0 { 2 } else { 1 };
    let common = text_of(mix(family ^ FAMILY) >> 1, shared);
    let own = text_of(seed, size.prompt_tokens.saturating_sub(shared + frames).max(1));
    let mut messages = Vec::new();
    if shared > 0 {
        messages.push(Message { role: "system", content: &common });
    }
    messages.push(Message { role: "user", content: &own });
    let body = Body {
        model: script
            .models
            .get(usize::from(request.model))
            .or(script.models.last())
            .map_or("", String::as_str),
        messages: Some(messages),
        prompt: None,
        max_tokens: size.output_tokens,
        seed,
        ignore_eos: true,
        stream: request.streaming,
        stream_options: None,
        service_tier: request.tier,
    };
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let expected = Expected { seed, tokens: size.output_tokens, usage: false, text: script.check_text };
    Ask { caller: 0, size, stream: request.streaming, expected, abandon_after: None, body: Bytes::from(body) }
}

/// Sets the seeds of families apart from those of single prompts.
const FAMILY: u64 = 0x6661_6d69_6c79;

/// The headers of each key's requests, made once.
fn headers_of(script: &Script) -> Vec<http::HeaderMap> {
    let value = |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
    let keys = script.keys.iter().map(|key| {
        let mut headers = http::HeaderMap::new();
        headers.insert(HOST, value(&script.host));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(AUTHORIZATION, value(&format!("Bearer {key}")));
        headers
    });
    keys.collect()
}
