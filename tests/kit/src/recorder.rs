//! An engine that keeps every request whole but probes, and gives all of them the same short answer.
//!
//! The simulated engine keeps the beginning of a body only; whoever asserts that 20 MiB arrive byte for byte needs
//! all of them. And it tells any usage that it is told to tell, valid or not.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

/// The whole answer, but for its usage.
const ANSWER: &str = r#"{"id":"1","object":"chat.completion","model":"sim","choices":[{"index":0,"message":{"role":"assistant","content":"in"},"finish_reason":"stop"}],"usage":"#;
/// The same as a stream, up to its usage.
const STREAM: &str = "data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"in\"}}]}\n\n\
                      data: {\"object\":\"chat.completion.chunk\",\"choices\":[],\"usage\":";
/// What it tells unless it is told otherwise.
const USAGE: &str = r#"{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}"#;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Its path.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// The engine. It ends with the runtime of its test.
pub struct Recorder {
    address: SocketAddr,
    kept: Arc<Kept>,
}

/// What it has seen, and what it tells.
#[derive(Default)]
struct Kept {
    requests: Mutex<Vec<Recorded>>,
    usage: Mutex<Option<String>>,
}

impl Recorder {
    /// Starts on a free port.
    pub async fn start() -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Arc::<Kept>::default();
        let serving = Arc::clone(&kept);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = Arc::clone(&serving);
                let service = service_fn(move |request| record(Arc::clone(&kept), request));
                let serving = hyper::server::conn::http1::Builder::new();
                tokio::spawn(serving.serve_connection(TokioIo::new(stream), service));
            }
        });
        Recorder { address, kept }
    }

    /// Its address as a replica.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes what it has seen so far, in order.
    pub fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.kept.requests.lock())
    }

    /// Tells this as its usage from now on, whatever it is.
    pub fn tell(&self, usage: &str) {
        *self.kept.usage.lock() = Some(usage.to_owned());
    }
}

async fn record(kept: Arc<Kept>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return Ok(Response::new(Full::default()));
    };
    let usage = kept.usage.lock().clone().unwrap_or_else(|| USAGE.to_owned());
    let whole = format!("{ANSWER}{usage}}}");
    if head.method == Method::GET {
        return Ok(Response::new(Full::from(whole)));
    }
    let stream = head.headers.get("accept").is_some_and(|accept| accept == "text/event-stream");
    kept.requests.lock().push(Recorded { path: head.uri.path().to_owned(), headers: head.headers, body });
    let (kind, answer) = if stream {
        ("text/event-stream", format!("{STREAM}{usage}}}\n\ndata: [DONE]\n\n"))
    } else {
        ("application/json", whole)
    };
    Ok(Response::builder().header("content-type", kind).body(Full::new(Bytes::from(answer))).unwrap())
}
