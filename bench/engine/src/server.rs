//! The simulated model server: an OpenAI-compatible HTTP/1.1 server around the engine model, in real time.
//!
//! | path | |
//! |---|---|
//! | `POST /v1/chat/completions`, `/v1/completions` | stream or not; `n`, `max_tokens`, `max_completion_tokens`, `stream_options` with `include_usage` and `continuous_usage_stats`, `seed`, `ignore_eos`, forced tool calls; completions: lists of prompts, `echo` |
//! | `POST /v1/messages`, `/v1/responses` | stream or not, in the shapes that vLLM gives them; forced tool calls; usage always |
//! | `POST /v1/embeddings`, `/v1/rerank`, `/v1/score`, `/v1/messages/count_tokens` | prompt tokens counted, of pairs both sides, answered at once; `dimensions`, `encoding_format`, `top_n` |
//! | `GET /v1/models`, `/health`, `/ping`, `/version`, `/props` | as vLLM (and llama.cpp, for its slots) |
//! | `GET /metrics` | vLLM's names |
//! | `GET /debug/truth` | what it computed for whom; `?records=N` for the last `N` requests |
//! | `POST /debug/fault` | a standing fault, as text in the body; empty: none. See [`fault`](crate::fault) |
//!
//! Who asks for reasoning (`reasoning_effort`, `reasoning.effort`, `thinking`) gets the first half of the answer as such,
//! where the API has a place for it; completions have none.
//!
//! Answers are [`expected_text`](crate::text::expected_text); prompts are counted by [`prompt`](crate::prompt). Each
//! server has a thread and a runtime of its own, so it ends when it is told to, whatever its clients do.

mod generate;
mod gzip;
mod metrics;
mod request;
mod shell;
mod stream;
mod transport;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::answer;
use crate::clock;
use crate::fault::{FaultError, StandingFault};
use crate::profile::{LLAMA_8B_A100, Profile};
use crate::truth::{Record, Totals};
use crate::vocabulary::EngineVocabulary;
use crate::wire::Api;
use generate::generate;
use shell::Shared;
use transport::{AnswerBody, Conn, Reset};

/// How a simulated server is set up. [`Default`]: an 8B model on an A100, on any free port of loopback.
#[derive(Debug, Clone)]
pub struct EngineServerConfig {
    /// Where to listen. Port 0: any free one.
    pub address: SocketAddr,
    /// The model's name.
    pub model: String,
    /// Serve any other model name too.
    pub any_model: bool,
    /// Costs and bounds.
    pub profile: Profile,
    /// Engine time per real time: 10 makes a step ten times shorter. Greater than 0.
    pub time_scale: f64,
    /// Mixed into the answers of requests that name no seed.
    pub seed: u64,
    /// Context window, tokens; `None`: the profile's.
    pub context: Option<u32>,
    /// Refuse when so many requests are in the engine, as vLLM's `--max-num-queued-reqs`. `None`: never.
    pub requests_max: Option<u32>,
    /// Count prompts to answer with a real vocabulary, what is only embedded or compared not. `None`: by the rule of [`prompt`](crate::prompt).
    pub vocabulary: Option<EngineVocabulary>,
    /// Report cached tokens in usage, as vLLM's `--enable-prompt-tokens-details`.
    pub prompt_tokens_details: bool,
    /// How old metrics may be.
    pub metrics_interval: Duration,
    /// Most tokens in one chunk; `None`: what a step of the profile gives (`instant`: 1).
    pub chunk_tokens: Option<u32>,
    /// Keep headers and the beginning of the body of each request in its record.
    pub record_requests: bool,
    /// What requests suffer that choose nothing themselves.
    pub fault: StandingFault,
}

impl Default for EngineServerConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            model: "sim".to_owned(),
            any_model: false,
            profile: LLAMA_8B_A100,
            time_scale: 1.0,
            seed: 0,
            context: None,
            requests_max: None,
            vocabulary: None,
            prompt_tokens_details: true,
            metrics_interval: Duration::ZERO,
            chunk_tokens: None,
            record_requests: false,
            fault: StandingFault::default(),
        }
    }
}

impl EngineServerConfig {
    pub(super) fn context(&self) -> u32 {
        self.context.unwrap_or(self.profile.context).min(self.profile.kv_tokens)
    }

    pub(super) fn chunk_tokens(&self) -> u32 {
        let of_profile = if self.profile.is_instant() { 1 } else { self.profile.decode_tokens };
        self.chunk_tokens.unwrap_or(of_profile).max(1)
    }
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct EngineServer {
    /// Where it listens.
    pub addr: SocketAddr,
    shared: Handle,
    ended: Option<oneshot::Receiver<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Handle(Arc<Shared>);

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl EngineServer {
    /// Starts a server on a thread of its own. It accepts connections when this returns.
    ///
    /// # Errors
    /// The address cannot be listened on, or no thread or runtime can be made.
    pub async fn start(config: EngineServerConfig) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(config.address)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let shared = Shared::new(config);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (ending, ended) = oneshot::channel();
        let serving = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("engine".to_owned()).spawn(move || {
            // It fails where no listener can be registered, and then nobody can be told but by refusing connections.
            let _ = runtime.block_on(serve(serving, listener));
            drop(runtime);
            let _ = ending.send(());
        })?;
        Ok(Self { addr, shared: Handle(shared), ended: Some(ended), thread: Some(thread) })
    }

    /// `http://…`, without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// All sums of its books.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.shared.0.core().truth.totals()
    }

    /// Its last requests, oldest first. Allocates all of them.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.shared.0.core().truth.records().cloned().collect()
    }

    /// Sets the standing fault, in the syntax of [`fault`](crate::fault); empty: none.
    ///
    /// # Errors
    /// An unknown directive or value.
    pub fn set_fault(&self, list: &str) -> Result<(), FaultError> {
        self.shared.0.core().standing = list.parse()?;
        Ok(())
    }

    /// Works at this share of its speed from the next step on.
    pub fn set_pace(&self, share: f64) {
        self.shared.0.core().set_pace(share);
    }

    /// Its metrics page shows what it shows now until it is told otherwise.
    pub fn freeze_metrics(&self, frozen: bool) {
        self.shared.0.core().frozen = frozen;
    }

    /// Ends it at once: connections are closed (FIN), running answers break off. Returns when the port is free.
    pub async fn stop(mut self) {
        self.shared.0.end(false);
        if let Some(ended) = self.ended.take() {
            let _ = ended.await;
        }
    }

    /// Ends it as `kill -9` would with a full send buffer: connections are reset. Returns when the port is free;
    /// blocks the thread for the milliseconds that takes.
    pub fn kill(mut self) {
        self.shared.0.end(true);
        self.join();
    }

    /// Waits for `SIGINT`, `SIGTERM` or a `die` fault, then ends.
    pub(super) async fn run_until_told(mut self) -> io::Result<()> {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let died = async {
            match self.ended.take() {
                Some(ended) => drop(ended.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            told = tokio::signal::ctrl_c() => told,
            _ = terminate.recv() => Ok(()),
            () = died => Ok(()),
        }
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for EngineServer {
    fn drop(&mut self) {
        self.shared.0.end(self.shared.0.reset_all.load(std::sync::atomic::Ordering::Relaxed));
        self.join();
    }
}

/// Accepts until told to end. All tasks end with the runtime.
async fn serve(shared: Arc<Shared>, listener: std::net::TcpListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut stop = shared.stop.subscribe();
    let driver = Arc::clone(&shared);
    tokio::spawn(async move { driver.drive().await });
    loop {
        tokio::select! {
            _ = stop.wait_for(Option::is_some) => return Ok(()),
            accepted = listener.accept() => {
                // A failed accept (out of descriptors) fails again at once: give the others time to end.
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                let reset = Reset::new(&shared.reset_all);
                let Ok(conn) = Conn::new(stream, reset.clone()) else { continue };
                tokio::spawn(connection(Arc::clone(&shared), conn, reset));
            }
        }
    }
}

async fn connection(shared: Arc<Shared>, conn: Conn, reset: Reset) {
    let service = service_fn(move |request| {
        let (shared, reset) = (Arc::clone(&shared), reset.clone());
        async move { Ok::<_, io::Error>(route(&shared, reset, request).await) }
    });
    // How a connection ends is the client's business, or a fault's; the books have it either way.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(conn), service).await;
}

async fn route(shared: &Arc<Shared>, reset: Reset, request: Request<Incoming>) -> Response<AnswerBody> {
    let config = &shared.config;
    let json = |body: String| page(StatusCode::OK, "application/json", body);
    if let Some(api) = Api::at(request.uri().path()).filter(|_| request.method() == Method::POST) {
        return generate(shared, reset, api, request).await;
    }
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/v1/models") => json(models(config)),
        (&Method::GET, "/health" | "/ping") => page(StatusCode::OK, "text/plain", String::new()),
        (&Method::GET, "/version") => json("{\"version\":\"0.32.0\"}".to_owned()),
        (&Method::GET, "/props") => json(format!(
            "{{\"total_slots\":{},\"default_generation_settings\":{{\"n_ctx\":{}}}}}",
            config.profile.sequences_max,
            config.context()
        )),
        (&Method::GET, "/metrics") => {
            let body = metrics::page(&config.model, &config.profile, &shared.metrics());
            page(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body)
        }
        (&Method::GET, "/debug/truth") => json(truth(shared, request.uri().query())),
        (&Method::POST, "/debug/fault") => set_fault(shared, request).await,
        _ => page(StatusCode::NOT_FOUND, "application/json", "{\"detail\":\"Not Found\"}".to_owned()),
    }
}

fn page(status: StatusCode, content_type: &'static str, body: String) -> Response<AnswerBody> {
    let mut answer = Response::new(AnswerBody::whole(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

fn models(config: &EngineServerConfig) -> String {
    let model = serde_json::Value::from(config.model.as_str());
    format!(
        "{{\"object\":\"list\",\"data\":[{{\"id\":{model},\"object\":\"model\",\"created\":1795320000,\
         \"owned_by\":\"vllm\",\"root\":{model},\"parent\":null,\"max_model_len\":{}}}]}}",
        config.context()
    )
}

/// The books as JSON.
fn truth(shared: &Shared, query: Option<&str>) -> String {
    let wanted =
        query.and_then(|query| query.strip_prefix("records=")).and_then(|n| n.parse().ok()).unwrap_or(0);
    let core = shared.core();
    let mut records: Vec<&Record> = core.truth.records().rev().take(wanted).collect();
    records.reverse();
    let totals = core.truth.totals();
    serde_json::json!({ "now_s": clock::now().as_secs_f64(), "totals": totals, "records": records })
        .to_string()
}

/// Bytes of a fault list.
const FAULT_MAX: usize = 4096;

async fn set_fault(shared: &Shared, request: Request<Incoming>) -> Response<AnswerBody> {
    let body =
        Limited::new(request.into_body(), FAULT_MAX).collect().await.map(http_body_util::Collected::to_bytes);
    let list =
        body.ok().and_then(|body| String::from_utf8(body.to_vec()).ok()).unwrap_or_else(|| "?".to_owned());
    match list.trim().parse::<StandingFault>() {
        Ok(standing) => {
            shared.core().standing = standing;
            page(StatusCode::OK, "application/json", "{}".to_owned())
        }
        Err(error) => {
            let body = answer::error(400, "BadRequestError", &error.to_string());
            page(StatusCode::BAD_REQUEST, "application/json", body)
        }
    }
}

#[cfg(test)]
mod tests;
