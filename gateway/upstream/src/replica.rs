//! One replica of a deployment: where it is and how it is called.

use config::{self, Host, ReplicaUrl};
use http::HeaderValue;
use pingora::upstreams::peer::{HttpPeer, Peer as _};
use pingora::utils::tls::{WrappedX509, parse_x509};
use protocol::stable_hash;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
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
    /// What operators see: the address as configured, and which one it is where that is a name.
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
    /// Whether anybody takes connections at its address. What is not known within `most` counts as listening.
    pub async fn is_listening(&self, most: Duration) -> bool {
        let Some(address) = self.peer.address().as_inet().copied() else { return true };
        match tokio::time::timeout(most, tokio::net::TcpStream::connect(address)).await {
            Ok(Err(e)) => e.kind() != std::io::ErrorKind::ConnectionRefused,
            Ok(Ok(_)) | Err(_) => true,
        }
    }

    /// The replica of `config` at an address of `url`. `None`: the key or the host is no header value, which a config
    /// that was checked does not have.
    #[must_use]
    pub fn at(
        config: &config::Deployment,
        url: &ReplicaUrl,
        address: SocketAddr,
        timeouts: UpstreamTimeouts,
    ) -> Option<Self> {
        // Without a name to check the framework would trust any certificate: there always is one.
        let own_name = || url.host.to_string();
        let server_name = url.tls.then(|| config.tls.server_name.clone().unwrap_or_else(own_name));
        let mut peer = HttpPeer::new(address, server_name.is_some(), server_name.unwrap_or_default());
        peer.options.connection_timeout = Some(timeouts.connect);
        peer.options.total_connection_timeout = Some(timeouts.connect * 3);
        peer.options.write_timeout = Some(timeouts.write);
        peer.options.idle_timeout = Some(timeouts.idle);
        peer.options.ca = config.tls.authorities.as_ref().filter(|_| url.tls).map(|authorities| {
            let wrapped = authorities.iter().map(|der| WrappedX509::new(der.clone(), parse_x509));
            Arc::from(wrapped.collect::<Vec<_>>())
        });
        // A connection is kept for its deployment alone: another may trust other authorities.
        peer.group_key = stable_hash(config.name.as_bytes());
        let authorization = match &config.api_key {
            Some(key) => {
                let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose())).ok()?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let name = match url.host {
            Host::Ip(_) => url.to_string(),
            Host::Name(_) => format!("{url} ({})", address.ip()),
        };
        Some(Replica {
            host: HeaderValue::from_str(&url.authority()).ok()?,
            base_path: url.base_path.clone(),
            name,
            authorization,
            peer,
        })
    }
}
