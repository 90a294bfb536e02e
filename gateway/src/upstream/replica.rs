//! One replica of a deployment: where it is and how it is called.

use crate::config::ReplicaUrl;
use http::HeaderValue;
use pingora::upstreams::peer::HttpPeer;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// How long an engine may take, and what connections to it may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamTimeouts {
    /// To connect.
    pub connect: Duration,
    /// From dispatch to the first token of a stream.
    pub first_token: Duration,
    /// Between two reads of a stream.
    pub between_tokens: Duration,
    /// From dispatch to the end of an answer that is not streamed: its first byte comes with its last.
    pub answer: Duration,
    /// For one write.
    pub write: Duration,
    /// A kept connection is closed after this silence; below the 5 s after which uvicorn closes its side.
    pub idle: Duration,
}

/// One replica.
#[derive(Clone)]
pub struct Replica {
    /// What operators see: the address as configured.
    pub name: String,
    /// The `Host` header.
    pub host: HeaderValue,
    /// Path before the API's path, without a trailing slash; usually empty.
    pub base_path: String,
    /// `Authorization` for this engine.
    pub authorization: Option<HeaderValue>,
    /// The peer that the connector connects to.
    pub peer: HttpPeer,
}

impl fmt::Debug for Replica {
    /// Without the credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Replica {
    /// A replica at a resolved address. `sni` is set for TLS, `key` where the engine wants one. `None`: the
    /// key or the host is no header value.
    #[must_use]
    pub fn new(
        url: &ReplicaUrl,
        address: SocketAddr,
        sni: Option<String>,
        key: Option<&str>,
        timeouts: UpstreamTimeouts,
    ) -> Option<Self> {
        let mut peer = HttpPeer::new(address, sni.is_some(), sni.unwrap_or_default());
        peer.options.connection_timeout = Some(timeouts.connect);
        peer.options.total_connection_timeout = Some(timeouts.connect * 3);
        peer.options.write_timeout = Some(timeouts.write);
        peer.options.idle_timeout = Some(timeouts.idle);
        let authorization = match key {
            Some(key) => {
                let mut value = HeaderValue::from_str(&format!("Bearer {key}")).ok()?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        Some(Replica {
            host: HeaderValue::from_str(&url.authority()).ok()?,
            base_path: url.base_path.clone(),
            name: url.to_string(),
            authorization,
            peer,
        })
    }
}
