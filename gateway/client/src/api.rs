//! Calls of the admin API over HTTP/1.1: one connection per call, bounded in size and time.

use crate::views::deployments::Deployments;
use crate::views::limits::AccountLimits;
use crate::views::measured::Measured;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::time::Duration;

/// Characters that are encoded in one segment of a path: all but RFC 3986's unreserved ones.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Bounds of one call.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The longest body of an answer, bytes.
    pub body_max: usize,
    /// The longest time from the connection to the end of the answer.
    pub patience: Duration,
}

/// Reasons for which a call gives no answer, or not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The listener cannot be connected to.
    #[error(transparent)]
    Connect(#[from] std::io::Error),
    /// The path or the address cannot be written into a request.
    #[error(transparent)]
    Request(#[from] http::Error),
    /// The connection broke, or it speaks no HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// The answer broke off, or is longer than [`Bounds::body_max`].
    #[error("{0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer took longer than [`Bounds::patience`].
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// The API refused.
    #[error("{status}: {body}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its body, trimmed.
        body: String,
    },
    /// The answer is not what this version of the API answers.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// A call that failed, and its path.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct CallError {
    /// The path that was asked.
    pub path: String,
    /// Why it failed.
    pub source: ClientError,
}

/// One answer of any status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
}

/// The admin API of one gateway.
#[derive(Debug, Clone)]
pub struct Client {
    address: String,
    token: Option<String>,
    bounds: Bounds,
}

impl Client {
    /// Returns a client of the admin listener at `address`, `HOST:PORT`. White space around the token is ignored.
    #[must_use]
    pub fn new(address: String, token: Option<&str>, bounds: Bounds) -> Self {
        Self { address, token: token.map(|token| token.trim().to_owned()), bounds }
    }

    /// Sends one request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// There is no answer, or it is beyond the bounds.
    pub async fn exchange(&self, method: Method, path: &str, body: String) -> Result<Answer, ClientError> {
        let patience = self.bounds.patience;
        let answer = tokio::time::timeout(patience, self.unbounded(method, path, body)).await;
        answer.map_err(|_| ClientError::Late(patience))?
    }

    async fn unbounded(&self, method: Method, path: &str, body: String) -> Result<Answer, ClientError> {
        let stream = tokio::net::TcpStream::connect(&self.address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the sender; what breaks it is told by the request.
        tokio::spawn(async move { drop(connection.await) });
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.address);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request =
            request.header(header::CONTENT_TYPE, "application/json").body(Full::new(Bytes::from(body)))?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), self.bounds.body_max).collect().await;
        Ok(Answer { status, body: body.map_err(ClientError::Body)?.to_bytes() })
    }

    /// Sends one request and reads the answer of a success as `T`.
    ///
    /// # Errors
    /// As [`Client::exchange`], and the API refuses or answers something else.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, CallError> {
        let answer = self.read(method, path, body).await;
        answer.map_err(|source| CallError { path: path.to_owned(), source })
    }

    async fn read<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, ClientError> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let Answer { status, body } = self.exchange(method, path, body).await?;
        if !status.is_success() {
            return Err(ClientError::Refused {
                status,
                body: String::from_utf8_lossy(&body).trim().to_owned(),
            });
        }
        Ok(serde_json::from_slice(&body)?)
    }

    /// Returns every deployment as it is now.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn deployments(&self) -> Result<Deployments, CallError> {
        self.ask(Method::GET, "/api/v1/deployments", None).await
    }

    /// Returns what was measured of a deployment's engines.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn measured(&self, deployment: &str) -> Result<Measured, CallError> {
        self.ask(Method::GET, &format!("/api/v1/deployments/{}/measured", segment(deployment)), None).await
    }

    /// Returns the limits of an account on every model that it may use.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn account_limits(&self, account: &str) -> Result<AccountLimits, CallError> {
        self.ask(Method::GET, &format!("/api/v1/accounts/{}/limits", segment(account)), None).await
    }

    /// Takes a replica out of service, or puts it back.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn drain(&self, deployment: &str, replica: u16, is_drained: bool) -> Result<(), CallError> {
        let path = format!("/api/v1/deployments/{}/replicas/{replica}/drain", segment(deployment));
        let method = if is_drained { Method::POST } else { Method::DELETE };
        self.ask::<Value>(method, &path, None).await.map(drop)
    }

    /// Makes a deployment act as if a share of its capacity were gone, for a time.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn press(&self, deployment: &str, share: f64, length: Duration) -> Result<(), CallError> {
        let body = json!({ "share": share, "seconds": length.as_secs() });
        self.ask::<Value>(Method::POST, &pressure(deployment), Some(body)).await.map(drop)
    }

    /// Takes that pressure away.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn lift_pressure(&self, deployment: &str) -> Result<(), CallError> {
        self.ask::<Value>(Method::DELETE, &pressure(deployment), None).await.map(drop)
    }
}

fn pressure(deployment: &str) -> String {
    format!("/api/v1/deployments/{}/pressure", segment(deployment))
}

/// Returns a name encoded as one segment of a path.
#[must_use]
pub fn segment(name: &str) -> String {
    utf8_percent_encode(name, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(segment("http://[::1]:80/a b"), "http%3A%2F%2F%5B%3A%3A1%5D%3A80%2Fa%20b");
        assert_eq!(segment("llama-3.1_8b~"), "llama-3.1_8b~");
    }
}
