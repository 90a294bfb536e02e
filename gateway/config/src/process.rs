//! `admin`, `state` and `log`: how the process itself is watched, remembers and reports.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::keys::Digest;
use crate::resolve::Resolver;
use crate::units::durations::millis;
use crate::yaml::faults::At;

/// Where operators connect.
#[derive(Debug, Clone)]
pub struct Admin {
    /// IP address and port; port 0 takes a free one. Loopback, unless there is a token.
    pub address: SocketAddr,
    /// The digest of the token that changes need. Without one nothing can be changed.
    pub token: Option<Digest>,
    /// Where the token is read from, if it is.
    pub token_file: Option<PathBuf>,
    /// The digest of a token that may read, but change nothing.
    pub read_token: Option<Digest>,
    /// Where that one is read from, if it is.
    pub read_token_file: Option<PathBuf>,
    /// Names under which the listener may be addressed beside IP addresses and `localhost`, lower case.
    pub hosts: Vec<String>,
}

/// Where operators connect: health, metrics, console, admin API.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AdminFile {
    /// IP address and port for operators. Default 127.0.0.1:9090. Any address but loopback needs a token.
    #[schemars(length(min = 1, max = 64))]
    address: String,
    /// File with the token that changes need (and, off loopback, reading too). Trailing line breaks are dropped.
    #[schemars(length(min = 1, max = 4096))]
    token_file: Option<String>,
    /// Instead of the file: `sha256:` and the token's SHA-256 in hexadecimal. `tidegate keys new` makes both.
    #[schemars(extend("x-secret" = true))]
    token_sha256: Option<String>,
    /// File with a token that may read and change nothing: for dashboards and Prometheus off loopback.
    #[schemars(length(min = 1, max = 4096))]
    read_token_file: Option<String>,
    /// Instead of that file: `sha256:` and the reading token's SHA-256 in hexadecimal.
    #[schemars(extend("x-secret" = true))]
    read_token_sha256: Option<String>,
    /// Host names under which the listener is reached, beside IP addresses and localhost. Others are refused, so that a web page cannot reach it through a name of its own.
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    hosts: Vec<String>,
}

impl Default for AdminFile {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:9090".to_owned(),
            token_file: None,
            token_sha256: None,
            read_token_file: None,
            read_token_sha256: None,
            hosts: Vec::new(),
        }
    }
}

impl AdminFile {
    pub(crate) fn resolve(self, resolver: &mut Resolver<'_>, listen: SocketAddr) -> Admin {
        let at = At::FILE.key("admin");
        let address = resolver.address(&at.key("address"), &self.address);
        if clash(address, listen) {
            let fault = format!("is taken by listen.address ({listen}); give it another port");
            resolver.fault(&at.key("address"), fault);
        }
        let named = self.token_file.is_some() || self.token_sha256.is_some();
        if !address.ip().is_loopback() && !named && !resolver.is_faulty(&at.key("token_sha256")) {
            let fault = format!("is reachable from outside ({}); set admin.token_file as well", address.ip());
            resolver.fault(&at.key("address"), fault);
        }
        let (token, token_file) =
            admin_token(resolver, &at, ("token_file", self.token_file), ("token_sha256", self.token_sha256));
        let (read_token, read_token_file) = admin_token(
            resolver,
            &at,
            ("read_token_file", self.read_token_file),
            ("read_token_sha256", self.read_token_sha256),
        );
        let hosts = self.hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect();
        Admin { address, token, token_file, read_token, read_token_file, hosts }
    }
}

/// A token from its file or its digest, whichever is given.
fn admin_token(
    resolver: &mut Resolver<'_>,
    at: &At<'_>,
    (file_key, file): (&str, Option<String>),
    (digest_key, digest): (&str, Option<String>),
) -> (Option<Digest>, Option<PathBuf>) {
    if file.is_some() && digest.is_some() {
        resolver.fault(&at.key(digest_key), format!("stands beside {file_key}; keep one of the two"));
    }
    let file = file.map(|path| resolver.path(&path));
    let token = match &file {
        Some(path) => resolver.secret(&at.key(file_key), path).map(|token| Digest::of(token.expose())),
        None => digest.and_then(|text| resolver.digest(&at.key(digest_key), &text)),
    };
    (token, file)
}

/// Whether two listeners cannot both be opened.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let any = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || any)
}

/// Where limits outlive the process.
#[derive(Debug, Clone)]
pub struct State {
    /// The folder; without one every start begins with the starting limits.
    pub dir: Option<PathBuf>,
    /// How often what changed is written.
    pub interval: Duration,
}

/// Where limits outlive the process.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StateFile {
    /// Folder for the accounts' limits and use. Default: the service manager's `STATE_DIRECTORY` if it is set, else none, and every start begins with the starting limits.
    #[schemars(length(min = 1, max = 4096))]
    dir: Option<String>,
    /// How often what changed is written, ms. Default 1,000: a crash forgets at most that.
    #[serde(rename = "interval_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 100, max = 60_000))]
    interval: Duration,
}

impl Default for StateFile {
    fn default() -> Self {
        Self { dir: None, interval: Duration::from_secs(1) }
    }
}

impl StateFile {
    pub(crate) fn resolve(self, resolver: &Resolver<'_>) -> State {
        let dir = match self.dir {
            Some(dir) => Some(resolver.path(&dir)),
            // systemd may list several, the first is the service's own.
            None => resolver
                .env("STATE_DIRECTORY")
                .and_then(|dirs| dirs.split(':').next().filter(|dir| !dir.is_empty()).map(PathBuf::from)),
        };
        State { dir, interval: self.interval }
    }
}

/// Whether what accounts use is kept by hour, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Whole days that an hour is kept for.
    pub retention_days: u32,
    /// Rows in memory at most, one for each hour, account, key, model and tier that was used.
    pub rows_max: usize,
}

/// Keeps the tokens and requests of each account by hour, key, model and tier in `state.dir`. Default: nothing is kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct UsageFile {
    /// How long an hour is kept, days. Default 400: the same month of the year before can be told.
    #[schemars(range(min = 2, max = 3_660))]
    retention_days: u32,
    /// Rows that are kept at most, one for each hour, account, key, model and tier that was used. Default 1,000,000, which take some 190 MB of memory and at most 700 MB of disk. What finds no room is summed by hour without an account.
    #[schemars(range(min = 1_000, max = 20_000_000))]
    rows_max: u32,
}

impl Default for UsageFile {
    fn default() -> Self {
        Self { retention_days: 400, rows_max: 1_000_000 }
    }
}

impl UsageFile {
    pub(crate) fn resolve(self, resolver: &mut Resolver<'_>, state: &State) -> Usage {
        if state.dir.is_none() {
            let fault = "needs state.dir, where it is kept; set that as well".to_owned();
            resolver.fault(&At::FILE.key("usage"), fault);
        }
        Usage { retention_days: self.retention_days, rows_max: self.rows_max as usize }
    }
}

/// What is logged, and where to.
#[derive(Debug, Clone)]
pub struct Log {
    /// The least important messages that are logged.
    pub level: LogLevel,
    /// Where the process's own messages are appended; `None` is standard error.
    pub file: Option<PathBuf>,
    /// One record per request, or none.
    pub access: AccessLog,
    /// How a record looks.
    pub format: LogFormat,
    /// How much of a client's address is in it.
    pub client_address: ClientAddress,
}

/// How much of a client's address is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientAddress {
    /// All of it.
    #[default]
    Full,
    /// Its network: /24 of IPv4, /48 of IPv6.
    Prefix,
    /// Nothing.
    Off,
}

/// How important a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something is broken.
    Error,
    /// Something will break, or a replica did.
    Warn,
    /// What an operator wants to read the next morning.
    #[default]
    Info,
    /// What happens to each request.
    Debug,
    /// Everything.
    Trace,
}

/// Where the record of each request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// To standard output.
    Stdout,
    /// Nowhere.
    Off,
    /// Appended to a file.
    File(PathBuf),
}

/// How log records look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// JSON, unless the output is a terminal.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// What is logged, and where to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogFile {
    /// The least important messages that are logged. Default info.
    level: LogLevel,
    /// File that the process's own messages are appended to. Default: none, they go to standard error. SIGHUP and SIGUSR1 open this file and that of `access` anew, after they were moved away.
    #[schemars(length(min = 1, max = 4096))]
    file: Option<String>,
    /// Where the record of each request goes: `stdout`, `off`, or the path of a file. Default stdout. Prompts and answers are never logged.
    #[schemars(length(min = 1, max = 4096))]
    access: String,
    /// How a record looks. Default auto: JSON, unless the output is a terminal.
    format: LogFormat,
    /// How much of a client's address is in the record of its request: `full`, `prefix` (the network: /24 of IPv4, /48 of IPv6) or `off`. Default full. Behind `listen.proxies` it is the address that they tell.
    client_address: ClientAddress,
}

impl Default for LogFile {
    fn default() -> Self {
        Self {
            level: LogLevel::Info,
            file: None,
            access: "stdout".to_owned(),
            format: LogFormat::Auto,
            client_address: ClientAddress::Full,
        }
    }
}

impl LogFile {
    pub(crate) fn resolve(self, resolver: &Resolver<'_>) -> Log {
        let access = match self.access.as_str() {
            "stdout" => AccessLog::Stdout,
            // Tools of YAML 1.1 write a bare `off` as `false`.
            "off" | "false" => AccessLog::Off,
            path => AccessLog::File(resolver.path(path)),
        };
        let file = self.file.map(|path| resolver.path(&path));
        Log { level: self.level, file, access, format: self.format, client_address: self.client_address }
    }
}
