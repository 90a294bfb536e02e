//! `listen`: where customers connect, and what one connection or request may take.
//!
//! Each bound answers a way to hold the gateway up: a header that never ends, a body that trickles, a reader
//! that stopped reading, a peer that vanished. Idle timeouts alone do not: a byte a second passes them all.

mod cors;
mod proxies;

pub use protocol::cors::Cors;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resolve::Resolver;
use crate::units::durations::millis;
use crate::units::size::Bytes;
use crate::yaml::faults::At;

pub use proxies::{Proxies, Proxy};

/// Where customers connect.
#[derive(Debug, Clone)]
pub struct Listen {
    /// IP address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// Certificate and key; without them plain HTTP is spoken.
    pub tls: Option<Tls>,
    /// Threads that serve requests; `None` is one per core.
    pub threads: Option<usize>,
    /// Whether answers name the deployment and replica that served them.
    pub expose_upstream: bool,
    /// Whose pages may call from a browser; `None` is nobody's.
    pub cors: Option<Cors>,
    /// Whose word on a client's address is taken.
    pub proxies: Proxies,
    /// What a connection or a request may take.
    pub limits: ListenLimits,
    /// How the gateway stops.
    pub shutdown: Shutdown,
}

/// A certificate with its key, both PEM files.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The certificate and its chain.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// Where customers connect.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ListenFile {
    /// IP address and port for customers. Default 127.0.0.1:8080: nothing is open to the network unasked.
    #[schemars(length(min = 1, max = 64))]
    address: String,
    /// Certificate and key for TLS. Without it plain HTTP is spoken, as behind a load balancer.
    tls: Option<TlsFile>,
    /// Threads that serve requests. Default: one per core.
    #[schemars(range(min = 1, max = 1024))]
    threads: Option<usize>,
    /// Name the deployment and the replica in `x-tidegate-deployment` and `x-tidegate-replica`. Default false: the names are internal.
    expose_upstream: bool,
    /// Origins whose web pages may call from a browser, such as `https://chat.example.org`, or `*` alone for all. Default: none. Credentials (cookies) are never allowed; pages send their key as any client does, so a key in a page is known to all who can read the page.
    #[schemars(length(max = 256), inner(length(min = 1, max = 256)))]
    cors: Vec<String>,
    /// Load balancers and reverse proxies before the gateway, whose word on a client's address is taken. Default none. It changes the address in the access log and in `connections_per_address`, never an account's rights; their own connections are not counted by address.
    #[schemars(length(max = 256))]
    proxies: Vec<proxies::ProxyFile>,
    /// What one connection or request may take.
    limits: ListenLimits,
    /// How the gateway stops.
    shutdown: Shutdown,
}

impl Default for ListenFile {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:8080".to_owned(),
            tls: None,
            threads: None,
            expose_upstream: false,
            cors: Vec::new(),
            proxies: Vec::new(),
            limits: ListenLimits::default(),
            shutdown: Shutdown::default(),
        }
    }
}

/// A certificate with its key.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct TlsFile {
    /// PEM file with the certificate and its chain.
    #[schemars(required, length(min = 1, max = 4096), extend("x-required" = true))]
    cert_file: Option<String>,
    /// PEM file with the private key.
    #[schemars(required, length(min = 1, max = 4096), extend("x-required" = true))]
    key_file: Option<String>,
}

/// What one connection or request may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListenLimits {
    /// Time for the whole request header, ms; on a new connection PROXY header, TLS handshake and HTTP/2 preface are in it. Default 10,000: honest clients need well under a second, and a total is the only bound that a trickle of bytes cannot outlast.
    #[serde(rename = "header_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 100, max = 600_000))]
    pub header: Duration,
    /// Size of the whole request header. Default 32KiB: room for the largest tokens and cookies.
    #[schemars(with = "Bytes", range(min = 1024, max = 1_048_576))]
    pub header_bytes: u64,
    /// Lines of the request header. Default 64: clients of the known SDKs send about 20.
    #[schemars(range(min = 8, max = 1024))]
    pub header_lines: u32,
    /// How long an idle connection stays open between requests, ms. Default 75,000: longer than the 60,000 after which common load balancers and proxies close theirs, so that they never send into one that closes here.
    #[serde(rename = "keepalive_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 0, max = 3_600_000))]
    pub keepalive: Duration,
    /// The same for connections from `listen.proxies`, ms. Default 620,000: longer than the 600,000 of the load balancers that keep theirs longest.
    #[serde(rename = "keepalive_proxies_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 0, max = 3_600_000))]
    pub keepalive_proxies: Duration,
    /// Requests on one connection before it is closed. Default 1,000: lets load spread again after a change.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub keepalive_requests: u32,
    /// Size of a request body. Default 32MiB: a million tokens of text with some pictures.
    #[schemars(with = "Bytes", range(min = 1024, max = 1_073_741_824))]
    pub body_bytes: u64,
    /// Time for the whole body, ms. Default 30,000: the largest body at 9 Mbit/s.
    #[serde(rename = "body_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 100, max = 600_000))]
    pub body: Duration,
    /// Slowest body that is waited for, bytes per second. Default 1KiB: below it nothing useful arrives.
    #[schemars(with = "Bytes", range(min = 0, max = 1_073_741_824))]
    pub body_bytes_per_second_min: u64,
    /// How deep the JSON of a body may be nested. Default 64: Python engines fail at about 1,000, real requests stay under 20.
    #[schemars(range(min = 8, max = 512))]
    pub json_depth: u32,
    /// Bytes held at once: bodies until their first token, whole answers until their clients have them, large events of streams. Default 2GiB: the queue's memory, beyond it requests are refused as load.
    #[schemars(with = "Bytes", range(min = 1_048_576, max = 1_099_511_627_776_u64))]
    pub inflight_bytes: u64,
    /// Share of `inflight_bytes` that one account may hold, and one connection that is not a listed proxy's, whatever keys its requests have. Default 0.0625 (1/16), so that nobody fills the memory alone.
    #[schemars(range(min = 0.001, max = 1.0))]
    pub inflight_account_share: f64,
    /// Last share of `inflight_bytes`, kept for accounts that may use priority. Default 0.25.
    #[schemars(range(min = 0.0, max = 0.9))]
    pub inflight_priority_share: f64,
    /// How long a write to a client that does not read is waited for, ms. Default 30,000.
    #[serde(rename = "write_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 100, max = 600_000))]
    pub write: Duration,
    /// Silence of a stream before it gets its head and `: keep-alive` comments, ms. Default 15,000: proxies on the way cut silent answers after 50,000 or more. Until then a failed replica can be replaced without the client noticing.
    #[serde(rename = "silence_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 1_000, max = 120_000))]
    pub silence: Duration,
    /// Idle time before TCP asks whether the peer is there, ms. Default 15,000.
    #[serde(rename = "tcp_keepalive_idle_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 1_000, max = 7_200_000))]
    pub tcp_keepalive_idle: Duration,
    /// Time between two such questions, ms. Default 5,000.
    #[serde(rename = "tcp_keepalive_interval_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 1_000, max = 600_000))]
    pub tcp_keepalive_interval: Duration,
    /// Unanswered questions until the peer counts as gone. Default 3: gone after 30 s in all.
    #[schemars(range(min = 1, max = 20))]
    pub tcp_keepalive_probes: u32,
    /// How long sent data may stay unacknowledged, ms. Default 20,000: finds a vanished client in mid-stream, where keep-alive does not ask.
    #[serde(rename = "tcp_user_timeout_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 1_000, max = 600_000))]
    pub tcp_user_timeout: Duration,
    /// Client connections as a share of the process's file descriptors, of which 256 (at most a quarter) are kept for the gateway itself first. Default 0.5: each may need one more to a replica. When all are taken, the one that is longest without a whole head, or else idle longest, is closed for a new one.
    #[schemars(range(min = 0.01, max = 0.9))]
    pub connections_share: f64,
    /// Connections from one address, IPv4, or from one IPv6 /64. Default: a quarter of all, so that nobody takes the places of all others. `listen.proxies` are not counted, their clients are.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_per_address: Option<u32>,
    /// HTTP/2 streams at once on one connection. Default 100, as common servers allow.
    #[schemars(range(min = 1, max = 10_000))]
    pub h2_streams_per_connection: u32,
    /// HTTP/2 streams at once on all connections; beyond it a stream is answered 503. Default: as many as connections, since each may need one to a replica.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub h2_streams: Option<u32>,
    /// Buffer for reading from one connection. Default 4KiB: 5,000 idle streams then take 20 MiB.
    #[schemars(with = "Bytes", range(min = 1024, max = 1_048_576))]
    pub read_buffer_bytes: u64,
}

impl Default for ListenLimits {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            header_bytes: 32 << 10,
            header_lines: 64,
            keepalive: Duration::from_secs(75),
            keepalive_proxies: Duration::from_secs(620),
            keepalive_requests: 1_000,
            body_bytes: 32 << 20,
            body: Duration::from_secs(30),
            body_bytes_per_second_min: 1 << 10,
            json_depth: 64,
            inflight_bytes: 2 << 30,
            inflight_account_share: 0.0625,
            inflight_priority_share: 0.25,
            write: Duration::from_secs(30),
            silence: Duration::from_secs(15),
            tcp_keepalive_idle: Duration::from_secs(15),
            tcp_keepalive_interval: Duration::from_secs(5),
            tcp_keepalive_probes: 3,
            tcp_user_timeout: Duration::from_secs(20),
            connections_share: 0.5,
            connections_per_address: None,
            h2_streams_per_connection: 100,
            h2_streams: None,
            read_buffer_bytes: 4 << 10,
        }
    }
}

/// How the gateway stops on SIGTERM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// How long new connections are still taken while `/readyz` is already red, ms. Default 5,000: load balancers need that long to notice.
    #[serde(rename = "lame_duck_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 0, max = 600_000))]
    pub lame_duck: Duration,
    /// How long running requests may take to finish after that, ms. Default 300,000; streams that are longer end with an error event.
    #[serde(rename = "grace_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 0, max = 86_400_000))]
    pub grace: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { lame_duck: Duration::from_secs(5), grace: Duration::from_secs(300) }
    }
}

impl ListenFile {
    pub(crate) fn resolve(self, resolver: &mut Resolver<'_>) -> Listen {
        let at = At::FILE.key("listen");
        let limits_at = at.key("limits");
        let limits = &self.limits;
        if limits.body_bytes as f64 > limits.inflight_bytes as f64 * limits.inflight_account_share {
            let room = (limits.inflight_bytes as f64 * limits.inflight_account_share) as u64;
            let fault = format!(
                "must not exceed inflight_bytes × inflight_account_share ({room} bytes), or the largest body could never be taken in"
            );
            resolver.fault(&limits_at.key("body_bytes"), fault);
        }
        Listen {
            address: resolver.address(&at.key("address"), &self.address),
            tls: self.tls.map(|tls| tls.resolve(resolver, &at.key("tls"))),
            threads: self.threads,
            expose_upstream: self.expose_upstream,
            cors: cors::resolve(self.cors, resolver, &at.key("cors")),
            proxies: proxies::resolve(self.proxies, resolver, &at.key("proxies")),
            limits: self.limits,
            shutdown: self.shutdown,
        }
    }
}

impl TlsFile {
    fn resolve(self, resolver: &mut Resolver<'_>, at: &At<'_>) -> Tls {
        let mut file = |key: &str, path: Option<String>| {
            let path = resolver.path(&path.unwrap_or_default());
            resolver.must_be_readable(&at.key(key), &path);
            path
        };
        Tls { cert_file: file("cert_file", self.cert_file), key_file: file("key_file", self.key_file) }
    }
}
