//! Requests and answers by hyper, each step of which a test can take by itself.

use super::base_config::merge;
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No answer of a test takes longer.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// The path of chat completions.
pub const CHAT: &str = "/v1/chat/completions";

/// A chat request for eight tokens of the model `sim`, with `more` in it.
pub fn ask(more: Value) -> Value {
    let mut body = json!({
        "model": "sim",
        "messages": [{ "role": "user", "content": "Is the tide in?" }],
        "max_tokens": 8,
        "ignore_eos": true,
    });
    merge(&mut body, more);
    body
}

/// A POST of `body` to the chat path.
pub fn post(body: &Value, key: Option<&str>) -> Request<Full<Bytes>> {
    post_to(CHAT, body, key)
}

/// A POST of `body` to `path`.
pub fn post_to(path: &str, body: &Value, key: Option<&str>) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(Bytes::from(body.to_string())));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().unwrap();
    headers(request, key)
}

/// A GET.
pub fn get(path: &str, key: Option<&str>) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = path.parse().unwrap();
    headers(request, key)
}

fn headers(mut request: Request<Full<Bytes>>, key: Option<&str>) -> Request<Full<Bytes>> {
    let headers = request.headers_mut();
    headers.insert("host", "127.0.0.1".parse().unwrap());
    headers.insert("content-type", "application/json".parse().unwrap());
    if let Some(key) = key {
        headers.insert("authorization", format!("Bearer {key}").parse().unwrap());
    }
    request
}

/// A connection that is kept until it is dropped, which ends it at once.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        Connection { sender, task: tokio::spawn(async move { drop(connection.await) }) }
    }

    /// Sends a request and waits for the head of its answer. `Err`: the connection broke before.
    pub async fn begin(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Begun> {
        self.sender.ready().await?;
        let response =
            timeout(ANSWER_MAX, self.sender.send_request(request)).await.expect("no head of an answer")?;
        Ok(Begun::of(response))
    }

    /// Sends a request and reads its whole answer.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Answer {
        self.begin(request).await.expect("no answer").whole().await
    }
}

/// Sends a request on a connection of its own and reads its whole answer.
pub async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    Connection::open(address).await.send(request).await
}

/// A request that takes its place until it is dropped: a stream that says one word and is silent then.
pub struct Held {
    _begun: Begun,
    _connection: Connection,
}

/// Takes a place with `body`, which is made such a stream.
pub async fn hold(address: SocketAddr, key: &str, mut body: Value) -> Held {
    merge(&mut body, json!({ "stream": true, "user": "sim:hang=1" }));
    let mut connection = Connection::open(address).await;
    let begun = connection.begin(post(&body, Some(key))).await.unwrap();
    assert_eq!(begun.status, 200);
    Held { _begun: begun, _connection: connection }
}

/// An answer whose head was read.
pub struct Begun {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    body: Incoming,
}

impl Begun {
    /// The beginning of any answer.
    pub fn of(response: http::Response<Incoming>) -> Begun {
        let (head, body) = response.into_parts();
        Begun { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// Reads the body to its end.
    pub async fn whole(self) -> Answer {
        let Begun { status, headers, mut body } = self;
        let mut bytes = Vec::new();
        let mut clean = true;
        while let Some(frame) = timeout(ANSWER_MAX, body.frame()).await.expect("an answer without an end") {
            match frame {
                Ok(frame) => bytes.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
                Err(_) => {
                    clean = false;
                    break;
                }
            }
        }
        Answer { status, headers, body: Bytes::from(bytes), clean }
    }

    /// Reads the next piece of the body; `None` at its end, clean or not.
    pub async fn piece(&mut self) -> Option<Bytes> {
        let frame = timeout(ANSWER_MAX, self.body.frame()).await.expect("an answer without an end")?;
        frame.ok()?.into_data().ok()
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Whether its framing was complete.
    pub clean: bool,
}

impl Answer {
    /// A header; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{} is no JSON: {e}: {:?}", self.status, self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    /// `error.message` of a refusal.
    pub fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
    }

    /// Status and reason in one, for comparisons.
    pub fn verdict(&self) -> (u16, &str) {
        (self.status, self.header("x-tidegate-reason"))
    }

    /// The answer's text: of all content chunks of a stream, or of a whole answer.
    pub fn content(&self) -> String {
        if self.header("content-type").starts_with("text/event-stream") {
            return self.streamed().text;
        }
        self.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    }

    /// The answer as a stream of events.
    pub fn streamed(&self) -> Streamed {
        let mut streamed = Streamed {
            events: Vec::new(),
            text: String::new(),
            done: false,
            broken: !self.clean,
            error: None,
        };
        for data in self.text().lines().filter_map(|line| line.strip_prefix("data: ")) {
            if data == "[DONE]" {
                streamed.done = true;
                continue;
            }
            let event: Value = serde_json::from_str(data).unwrap_or(Value::Null);
            streamed.text += event["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
            if !event["error"].is_null() {
                streamed.error = Some(event["error"].clone());
            }
            streamed.events.push(event);
        }
        streamed
    }
}

/// A stream that was read to its end.
#[derive(Debug)]
pub struct Streamed {
    /// Every event but `[DONE]`; null where it is no JSON.
    pub events: Vec<Value>,
    /// The text of the first choice.
    pub text: String,
    /// Whether `[DONE]` came.
    pub done: bool,
    /// Whether the framing was cut off.
    pub broken: bool,
    /// An error event.
    pub error: Option<Value>,
}
