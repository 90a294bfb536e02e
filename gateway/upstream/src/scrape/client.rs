//! One GET after the other to one replica, over one kept connection.
//!
//! Connections are opened by the framework's connector, so that TLS is what it is for requests, but they are ours
//! alone: nothing here takes a place in the pool that requests use. An engine may close a kept connection at any
//! moment (uvicorn does after 5 s); then the same is asked once more on a new one, which a GET allows.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use pingora::connectors::TransportConnector;
use tokio::task::JoinHandle;

use crate::replica::Replica;
use protocol::engine::exposition::PAGE_MAX;

/// Bytes of an answer's head.
const HEAD_MAX: usize = 64 * 1024;

/// Why an engine did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// Usually the engine is down.
    #[error("no connection: {0}")]
    Connect(String),
    /// The connection broke, what came is no HTTP, or it was longer than a page may be.
    #[error("no whole answer: {0}")]
    Broken(String),
    /// A busy engine answers late.
    #[error("no answer within {0:?}")]
    Late(Duration),
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// At most [`PAGE_MAX`] bytes.
    pub(super) body: Bytes,
}

/// A client of one replica.
pub(super) struct Client {
    connector: Arc<TransportConnector>,
    replica: Arc<Replica>,
    open: Option<Open>,
}

/// A kept connection and what drives it. Ends when it is dropped.
struct Open {
    sender: SendRequest<Empty<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    /// A client that is not connected yet.
    pub(super) fn new(connector: Arc<TransportConnector>, replica: Arc<Replica>) -> Self {
        Client { connector, replica, open: None }
    }

    /// The replica that is called.
    pub(super) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Gets `path`, behind the replica's base path, whole within `patience`. Redirects are not followed.
    pub(super) async fn get(&mut self, path: &str, patience: Duration) -> Result<Answer, CallError> {
        // Whatever ends this early drops the connection with it.
        let answer = tokio::time::timeout(patience, self.exchange(path));
        answer.await.unwrap_or(Err(CallError::Late(patience)))
    }

    async fn exchange(&mut self, path: &str) -> Result<Answer, CallError> {
        if let Some(mut kept) = self.open.take()
            && let Ok(answer) = self.ask(&mut kept, path).await
        {
            self.open = Some(kept);
            return Ok(answer);
        }
        let mut fresh = self.connect().await?;
        let answer = self.ask(&mut fresh, path).await?;
        self.open = Some(fresh);
        Ok(answer)
    }

    async fn connect(&self) -> Result<Open, CallError> {
        let stream = self.connector.new_stream(&self.replica.peer).await;
        let stream = stream.map_err(|e| CallError::Connect(e.to_string()))?;
        let handshake = http1::Builder::new().max_buf_size(HEAD_MAX).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(broken)?;
        // How it ends is told to whoever asks next.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Open { sender, driver })
    }

    async fn ask(&self, open: &mut Open, path: &str) -> Result<Answer, CallError> {
        let mut request = Request::get(format!("{}{path}", self.replica.base_path))
            .header(header::HOST, &self.replica.host)
            .header(header::ACCEPT, "text/plain, application/json, */*")
            .header(header::ACCEPT_ENCODING, "identity")
            .header(header::USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = &self.replica.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new()).map_err(broken)?;
        open.sender.ready().await.map_err(broken)?;
        let (head, body) = open.sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = Limited::new(body, PAGE_MAX).collect().await.map_err(broken)?.to_bytes();
        Ok(Answer { status: head.status, body })
    }
}

fn broken(cause: impl std::fmt::Display) -> CallError {
    CallError::Broken(cause.to_string())
}
