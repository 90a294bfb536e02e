//! An engine that does what its script says, on the wire: whole answers, half ones, streams without an end, and death.
//!
//! It speaks HTTP/1.1 over plain sockets, because no server library would send what broken engines send. A script maps
//! each request to a list of acts; the engine counts what it was asked, so that a test can say "sent once". Everything it
//! started ends with the value.

use parking_lot::Mutex;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Connections at once; more are closed.
const CONNECTIONS_MAX: u64 = 512;
/// Requests that are kept.
const REQUESTS_MAX: usize = 20_000;
/// Bytes of a request, head and body.
const REQUEST_BYTES_MAX: usize = 64 << 20;
/// Longest an act may last.
const ACT_TIME_MAX: Duration = Duration::from_secs(30);

/// One step of an answer.
#[derive(Debug, Clone)]
pub enum Act {
    /// A whole answer in JSON with this status.
    Json(u16, Value),
    /// A whole answer of another type: status, type, body.
    Whole(u16, &'static str, String),
    /// The head of a stream whose body is in chunks.
    Sse,
    /// An event: `data:` and this value.
    Event(Value),
    /// An event with a name, which is its `type`, too.
    Named(&'static str, Value),
    /// Bytes of the stream, in a chunk of their own.
    Text(String),
    /// Nothing for so long.
    Pause(Duration),
    /// The last chunk: the body is whole.
    End,
    /// Ends the connection properly, whatever was sent.
    Close,
    /// Ends the connection by RST.
    Reset,
    /// Says nothing more until the other side leaves.
    Hang,
    /// Says this, as a chunk, again and again with a pause between, until the other side leaves.
    Forever(String, Duration),
    /// The process dies: nothing listens any more, and all connections are reset.
    Die,
    /// Adds one to this counter: what stands before it was done, and the other side was there still.
    Count(Arc<AtomicU64>),
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its path.
    pub path: String,
    /// The headers; names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
    /// Number of its connection, from 0.
    pub connection: u64,
    /// Number of the request on its connection, from 0.
    pub nth: u64,
}

impl Asked {
    /// A header; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// Whether a stream is asked for.
    pub fn streams(&self) -> bool {
        self.json()["stream"] == true
    }

    /// Whether `marker` is in the body.
    pub fn has(&self, marker: &str) -> bool {
        self.body.contains(marker)
    }
}

type Script = dyn Fn(&Asked) -> Vec<Act> + Send + Sync;

/// The engine.
pub struct Hostile {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Hostile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hostile").field("address", &self.address).finish_non_exhaustive()
    }
}

struct Shared {
    script: Box<Script>,
    asked: Mutex<Vec<Asked>>,
    /// Odd: alive. Each death and each revival adds one.
    life: watch::Sender<u64>,
    open: AtomicU64,
    connections: AtomicU64,
    pieces: AtomicU64,
    left: AtomicU64,
    deaths: AtomicU64,
}

impl Hostile {
    /// Starts on a free port. Only POSTs reach the script; everything else is 404.
    pub async fn start(script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static) -> Hostile {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let zero = || AtomicU64::new(0);
        let shared = Arc::new(Shared {
            script: Box::new(script),
            asked: Mutex::default(),
            life: watch::Sender::new(1),
            open: zero(),
            connections: zero(),
            pieces: zero(),
            left: zero(),
            deaths: zero(),
        });
        tokio::spawn(accept(listener, Arc::clone(&shared)));
        Hostile { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as a replica.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All POSTs so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().clone()
    }

    /// Number of POSTs whose body holds `marker`.
    pub fn count(&self, marker: &str) -> usize {
        self.shared.asked.lock().iter().filter(|asked| asked.has(marker)).count()
    }

    /// Pieces of endless streams that were written.
    pub fn pieces(&self) -> u64 {
        self.shared.pieces.load(Ordering::Relaxed)
    }

    /// Answers that the other side left.
    pub fn left(&self) -> u64 {
        self.shared.left.load(Ordering::Relaxed)
    }

    /// How often it has died.
    pub fn deaths(&self) -> u64 {
        self.shared.deaths.load(Ordering::Relaxed)
    }

    /// Dies: nothing listens any more, all connections are reset.
    pub fn die(&self) {
        self.shared.die();
    }

    /// Listens again on the same port.
    pub async fn revive(&self) {
        assert_eq!(*self.shared.life.borrow() % 2, 0, "it lives");
        let listener = loop {
            // The listener of the life before is closed by a task of its own.
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                // A port that is still taken is tried again; nobody tells when it is free.
                Err(_) => sleep(Duration::from_millis(2)).await,
            }
        };
        self.shared.life.send_modify(|life| *life += 1);
        tokio::spawn(accept(listener, Arc::clone(&self.shared)));
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.shared.die();
    }
}

impl Shared {
    fn die(&self) {
        let died = self.life.send_if_modified(|life| {
            let lives = *life % 2 == 1;
            *life += u64::from(lives);
            lives
        });
        self.deaths.fetch_add(u64::from(died), Ordering::Relaxed);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut life = shared.life.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = life.changed() => return,
        };
        let Ok((stream, _)) = accepted else { return };
        let _ = stream.set_nodelay(true);
        if shared.open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            shared.open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (shared, mut life) = (Arc::clone(&shared), life.clone());
        tokio::spawn(async move {
            let number = shared.connections.fetch_add(1, Ordering::Relaxed);
            let mut connection = Connection { stream, read: Vec::new(), number };
            let reset = tokio::select! {
                reset = connection.serve(&shared) => reset,
                _ = life.changed() => true,
            };
            if reset {
                let _ = connection.stream.set_zero_linger();
            }
            drop(connection);
            shared.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// What follows from an act.
enum Then {
    Next,
    Close,
    Reset,
}

struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
    number: u64,
}

impl Connection {
    /// Answers requests until the end; whether that is to be a reset.
    async fn serve(&mut self, shared: &Shared) -> bool {
        let mut nth = 0;
        while let Some((method, asked)) = self.request(nth).await {
            nth += 1;
            let acts = if method == "POST" {
                let mut kept = shared.asked.lock();
                if kept.len() < REQUESTS_MAX {
                    kept.push(asked.clone());
                }
                drop(kept);
                (shared.script)(&asked)
            } else {
                vec![Act::Whole(404, "text/plain", "no".to_owned())]
            };
            for act in acts {
                match timeout(ACT_TIME_MAX, self.act(act, shared)).await.unwrap_or(Then::Close) {
                    Then::Next => {}
                    Then::Close => return false,
                    Then::Reset => return true,
                }
            }
        }
        false
    }

    async fn act(&mut self, act: Act, shared: &Shared) -> Then {
        let sent = match act {
            Act::Json(status, body) => self.whole(status, "application/json", &body.to_string()).await,
            Act::Whole(status, kind, body) => self.whole(status, kind, &body).await,
            Act::Sse => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
                            transfer-encoding: chunked\r\n\r\n";
                self.write(head.as_bytes()).await
            }
            Act::Event(value) => self.chunk(&event(&value)).await,
            Act::Named(name, value) => self.chunk(&named(name, value)).await,
            Act::Text(text) => self.chunk(&text).await,
            Act::Pause(time) => self.stays_for(time).await,
            Act::End => self.write(b"0\r\n\r\n").await,
            Act::Close => return Then::Close,
            Act::Reset => return Then::Reset,
            Act::Hang => self.stays_for(ACT_TIME_MAX).await,
            Act::Forever(piece, pause) => {
                while self.chunk(&piece).await && self.stays_for(pause).await {
                    shared.pieces.fetch_add(1, Ordering::Relaxed);
                }
                false
            }
            Act::Die => {
                shared.die();
                return Then::Reset;
            }
            Act::Count(counter) => {
                counter.fetch_add(1, Ordering::Relaxed);
                true
            }
        };
        if sent {
            return Then::Next;
        }
        shared.left.fetch_add(1, Ordering::Relaxed);
        Then::Close
    }

    /// Waits; whether the other side is there still. It sends nothing before its answer is whole.
    async fn stays_for(&mut self, time: Duration) -> bool {
        let more = timeout(time, self.stream.read_buf(&mut self.read)).await;
        more.is_err()
    }

    async fn whole(&mut self, status: u16, kind: &str, body: &str) -> bool {
        let length = body.len();
        let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
        self.write(&[head.as_bytes(), body.as_bytes()].concat()).await
    }

    async fn chunk(&mut self, text: &str) -> bool {
        self.write(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await
    }

    async fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Reads a request: its method, and what it asks.
    async fn request(&mut self, nth: u64) -> Option<(String, Asked)> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill().await?;
        };
        let head = String::from_utf8_lossy(&self.read[..end]).into_owned();
        let mut lines = head.lines();
        let mut first = lines.next()?.split(' ').map(str::to_owned);
        let (method, path) = (first.next()?, first.next()?);
        let pair = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let headers: Vec<_> = lines.filter_map(pair).collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length: usize = length.map_or(0, |(_, length)| length.parse().unwrap_or(0));
        while self.read.len() < end + length {
            self.fill().await?;
        }
        let body = String::from_utf8_lossy(&self.read[end..end + length]).into_owned();
        self.read.drain(..end + length);
        Some((method, Asked { path, headers, body, connection: self.number, nth }))
    }

    async fn fill(&mut self) -> Option<()> {
        let read = self.stream.read_buf(&mut self.read).await.ok()?;
        (read > 0 && self.read.len() <= REQUEST_BYTES_MAX).then_some(())
    }
}

/// An event of a stream.
pub fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

/// An event with a name.
pub fn named(name: &str, mut value: Value) -> String {
    value["type"] = json!(name);
    format!("event: {name}\n{}", event(&value))
}

/// What an ordinary engine does, in the API of the path.
pub fn ordinary(asked: &Asked) -> Vec<Act> {
    let mut acts = Vec::new();
    if asked.streams() {
        acts.push(Act::Sse);
        acts.extend(beginning(asked));
        acts.extend(word(asked, "hello"));
        acts.extend(ending(asked));
        acts.push(Act::End);
    } else {
        acts.push(Act::Json(200, whole(asked)));
    }
    acts
}

/// A whole answer in the API of the path.
pub fn whole(asked: &Asked) -> Value {
    let model = asked.json()["model"].clone();
    let usage = json!({ "prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10 });
    let usage_of_text = json!({ "input_tokens": 7, "output_tokens": 3, "total_tokens": 10 });
    match route(asked) {
        "messages" => json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": model,
            "content": [{ "type": "text", "text": "hello" }], "stop_reason": "end_turn", "stop_sequence": null,
            "usage": { "input_tokens": 7, "output_tokens": 3 },
        }),
        "responses" => json!({
            "id": "resp_1", "object": "response", "status": "completed", "model": model, "usage": usage_of_text,
            "output": [{ "type": "message", "id": "m1", "role": "assistant", "status": "completed",
                         "content": [{ "type": "output_text", "text": "hello", "annotations": [] }] }],
        }),
        "embeddings" => json!({
            "object": "list", "model": model, "usage": { "prompt_tokens": 7, "total_tokens": 7 },
            "data": [{ "object": "embedding", "index": 0, "embedding": [0.5, 0.25] }],
        }),
        "rerank" => json!({
            "id": "r1", "model": model, "usage": { "prompt_tokens": 7, "total_tokens": 7 },
            "results": [{ "index": 0, "relevance_score": 0.5 }],
        }),
        "completions" => json!({
            "id": "cmpl-1", "object": "text_completion", "created": 1, "model": model, "usage": usage,
            "choices": [{ "index": 0, "text": "hello", "finish_reason": "stop", "logprobs": null }],
        }),
        _ => json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model, "usage": usage,
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": "hello" }, "finish_reason": "stop" }],
        }),
    }
}

/// What precedes the first token of a stream.
pub fn beginning(asked: &Asked) -> Vec<Act> {
    beginning_with(asked, &json!(null))
}

/// The same with `padding` in its first event.
pub fn beginning_with(asked: &Asked, padding: &Value) -> Vec<Act> {
    let model = asked.json()["model"].clone();
    match route(asked) {
        "messages" => {
            let usage = json!({ "input_tokens": 7, "output_tokens": 0 });
            let message = json!({
                "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [],
                "stop_reason": null, "stop_sequence": null, "usage": usage, "padding": padding,
            });
            let block = json!({ "index": 0, "content_block": { "type": "text", "text": "" } });
            vec![
                Act::Named("message_start", json!({ "message": message })),
                Act::Named("content_block_start", block),
            ]
        }
        "responses" => {
            let response = json!({ "id": "resp_1", "object": "response", "status": "in_progress", "model": model, "output": [], "instructions": padding });
            vec![Act::Named("response.created", json!({ "sequence_number": 0, "response": response }))]
        }
        "completions" => Vec::new(),
        _ => {
            let mut first = chunk(json!({ "role": "assistant", "content": "" }), json!(null));
            first["padding"] = padding.clone();
            vec![Act::Event(first)]
        }
    }
}

/// One token of a stream.
pub fn word(asked: &Asked, text: &str) -> Vec<Act> {
    vec![Act::Text(word_text(asked, text))]
}

/// The bytes of one token of a stream.
pub fn word_text(asked: &Asked, text: &str) -> String {
    match route(asked) {
        "messages" => named(
            "content_block_delta",
            json!({ "index": 0, "delta": { "type": "text_delta", "text": text } }),
        ),
        "responses" => named(
            "response.output_text.delta",
            json!({ "sequence_number": 1, "item_id": "m1", "output_index": 0, "content_index": 0, "delta": text }),
        ),
        "completions" => event(&json!({
            "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "sim",
            "choices": [{ "index": 0, "text": text, "finish_reason": null }],
        })),
        _ => event(&chunk(json!({ "content": text }), json!(null))),
    }
}

/// What follows the last token of a stream, its last event included.
pub fn ending(asked: &Asked) -> Vec<Act> {
    let model = asked.json()["model"].clone();
    match route(asked) {
        "messages" => vec![
            Act::Named("content_block_stop", json!({ "index": 0 })),
            Act::Named(
                "message_delta",
                json!({ "delta": { "stop_reason": "end_turn", "stop_sequence": null }, "usage": { "output_tokens": 3 } }),
            ),
            Act::Named("message_stop", json!({})),
        ],
        "responses" => {
            let mut response = whole(asked);
            response["model"] = model;
            vec![Act::Named("response.completed", json!({ "sequence_number": 2, "response": response }))]
        }
        kind => {
            let mut acts = finish(asked);
            if asked.json()["stream_options"]["include_usage"] == true {
                let object = if kind == "completions" { "text_completion" } else { "chat.completion.chunk" };
                let usage = json!({ "prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10 });
                acts.push(Act::Event(json!({
                    "id": "chatcmpl-1", "object": object, "created": 1, "model": model, "choices": [], "usage": usage,
                })));
            }
            acts.push(Act::Text("data: [DONE]\n\n".to_owned()));
            acts
        }
    }
}

/// The chunk with the finish reason, of chat and completions.
pub fn finish(asked: &Asked) -> Vec<Act> {
    let end = if route(asked) == "completions" {
        json!({
            "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "sim",
            "choices": [{ "index": 0, "text": "", "finish_reason": "stop" }],
        })
    } else {
        chunk(json!({}), json!("stop"))
    };
    vec![Act::Event(end)]
}

/// A chunk of a chat stream.
pub fn chunk(delta: Value, finish_reason: Value) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "sim",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish_reason }],
    })
}

/// What the path ends in.
fn route(asked: &Asked) -> &'static str {
    let path = asked.path.as_str();
    let routes =
        ["chat/completions", "completions", "messages", "responses", "embeddings", "rerank", "score"];
    routes.into_iter().find(|route| path.ends_with(route)).unwrap_or("chat/completions")
}
