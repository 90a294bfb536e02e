//! The shipped gateway, started with a config, and its admin listener.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::keys::Digest;
use kit::program::{Program, Serving, two_free_addresses};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::proof::{Setting, Trouble};
use crate::raw::Connection;
use engine::clock;

/// Model name in all configs.
pub const MODEL: &str = "sim";

/// What changes through the admin API need.
pub const TOKEN: &str = "tg-prove";

/// Limits that no proof reaches: the highest that a config may have.
pub const LIMITLESS: &str = "{ prompt: 4294967295, uncached_prompt: 4294967295, generated: 4294967295 }";

/// The gateway in its own process. Dropping it ends it.
#[derive(Debug)]
pub struct Tidegate {
    /// The process.
    pub program: Program,
    /// Where customers connect.
    pub address: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
}

/// What `/api/v1/invariants` says.
#[derive(Debug, Clone, Deserialize)]
pub struct Invariants {
    /// All counters are zero.
    pub at_rest: bool,
    /// By name.
    pub counters: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
struct AccountLimits {
    models: Vec<ModelLimits>,
}

#[derive(Debug, Deserialize)]
struct ModelLimits {
    meters: Vec<MeterState>,
}

#[derive(Debug, Deserialize)]
struct MeterState {
    meter: String,
    limit: u64,
    used: u64,
    debt: u64,
}

/// One account of a config.
#[derive(Debug, Clone)]
pub struct AccountLines {
    /// Its only key.
    pub key: String,
    /// The rest of its entry, in YAML's flow style, beginning with a comma.
    pub more: String,
}

/// What a proof's config has beside the addresses.
#[derive(Debug, Clone)]
pub struct Config {
    /// Threads that serve requests.
    pub threads: usize,
    /// The replicas of the one deployment.
    pub replicas: Vec<SocketAddr>,
    /// What they are, as the config names it.
    pub engine: &'static str,
    /// More of the deployment's entry, in YAML's flow style, beginning with a comma; or nothing.
    pub deployment: String,
    /// The accounts.
    pub accounts: Vec<AccountLines>,
    /// Requests on one connection; `None`: the default.
    pub keepalive_requests: Option<u32>,
    /// Connections from one address; `None`: the default. All of a proof's clients usually have one.
    pub connections_per_address: Option<u32>,
    /// How limits move: `fixed` or `published`.
    pub policy: &'static str,
    /// Where budgets outlive the process; `None`: nowhere.
    pub state: Option<PathBuf>,
    /// Whether usage by hour is kept there.
    pub usage: bool,
    /// More of `listen`, in YAML's flow style, beginning with a comma; or nothing.
    pub listen: String,
    /// The same of `listen.limits`.
    pub listen_limits: String,
    /// The name under which the replicas know the model.
    pub served_model: String,
    /// Further models of the deployment, known to the replicas by the same names.
    pub more_models: Vec<&'static str>,
}

impl Config {
    /// One thread, and as many accounts without any limit that could be felt, with the keys `key-0`, `key-1` …
    pub fn limitless(replicas: Vec<SocketAddr>, accounts: usize) -> Self {
        let accounts = (0..accounts).map(|number| AccountLines {
            key: format!("key-{number}"),
            more: format!(
                ", spending_tier: enterprise, requests_per_minute: 100000000, concurrency: 100000, \
                 limits: [{{ start: {LIMITLESS}, floor: {LIMITLESS}, ceiling: {LIMITLESS} }}]"
            ),
        });
        Self {
            threads: 1,
            replicas,
            engine: "vllm",
            deployment: ", slo: { ttft_ms: 2000, tpot_ms: 100 }".to_owned(),
            accounts: accounts.collect(),
            keepalive_requests: None,
            connections_per_address: Some(100_000),
            policy: "fixed",
            state: None,
            usage: false,
            listen: String::new(),
            listen_limits: String::new(),
            served_model: MODEL.to_owned(),
            more_models: Vec::new(),
        }
    }

    fn yaml(&self, listen: SocketAddr, admin: SocketAddr, access: &str) -> String {
        use std::fmt::Write as _;
        let limit = |key: &str, most: Option<u32>| most.map(|most| format!("{key}: {most}"));
        let limits = [
            limit("connections_per_address", self.connections_per_address),
            limit("keepalive_requests", self.keepalive_requests),
        ];
        let limits: Vec<String> = limits.into_iter().flatten().collect();
        let limits = limits.join(", ") + &self.listen_limits;
        let replicas: Vec<String> =
            self.replicas.iter().map(|replica| format!("\"http://{replica}\"")).collect();
        let more_models: Vec<String> = self
            .more_models
            .iter()
            .map(|name| format!(", {{ name: {name}, deployments: [d], size_class: small }}"))
            .collect();
        let mut text = format!(
            "listen: {{ address: \"{listen}\", threads: {}, limits: {{ {} }}{} }}\n\
             admin: {{ address: \"{admin}\", token_sha256: \"{}\" }}\n\
             deployments: [{{ name: d, engine: {}, replicas: [{}]{} }}]\n\
             models: [{{ name: {MODEL}, deployments: [d], size_class: small, served_model: {} }}{}]\n\
             limits: {{ policy: {} }}\n\
             log: {{ access: {access}, level: warn }}\n",
            self.threads,
            limits.trim_start_matches(", "),
            self.listen,
            Digest::of(TOKEN),
            self.engine,
            replicas.join(", "),
            self.deployment,
            self.served_model,
            more_models.concat(),
            self.policy,
        );
        if let Some(folder) = &self.state {
            let _ = writeln!(text, "state: {{ dir: \"{}\" }}", folder.display());
        }
        if self.usage {
            text.push_str("usage: {}\n");
        }
        text.push_str("accounts:\n");
        for (number, AccountLines { key, more }) in self.accounts.iter().enumerate() {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "  - {{ id: a{number}, keys: [\"{}\"]{more} }}", Digest::of(key));
        }
        text
    }
}

impl Tidegate {
    /// Builds and starts it, everything on, with the access log in a file.
    ///
    /// # Errors
    /// It does not build, does not start, or refuses the config.
    pub async fn start(setting: &Setting, name: &str, config: &Config) -> Result<Self, Trouble> {
        Self::start_as(setting, name, config, setting.binaries().tidegate()?).await
    }

    /// The same with an allocator that counts, and the file in which it writes its live bytes down, ten times a second.
    ///
    /// # Errors
    /// As [`Tidegate::start`].
    pub async fn counted(setting: &Setting, name: &str, config: &Config) -> Result<(Self, PathBuf), Trouble> {
        let gateway = Self::start_as(setting, name, config, setting.binaries().counted()?).await?;
        Ok((gateway, setting.out.join(format!("{name}.heap"))))
    }

    /// The same by way of `executable`, which ends in running it.
    ///
    /// # Errors
    /// As [`Tidegate::start`].
    pub async fn start_as(
        setting: &Setting,
        name: &str,
        config: &Config,
        executable: &Path,
    ) -> Result<Self, Trouble> {
        let _ = std::fs::remove_file(access_log(setting, name));
        let (address, admin) = two_free_addresses()?;
        let file = write(setting, name, config, (address, admin))?;
        let log = setting.out.join(format!("{name}.log"));
        let Serving { program, address, admin } = Serving::start(executable, &file, &log).await?;
        Ok(Self { program, address, admin })
    }

    /// Changes the config file that it was started with under this name; it has to be told to read it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn rewrite(&self, setting: &Setting, name: &str, config: &Config) -> Result<(), Trouble> {
        write(setting, name, config, (self.address, self.admin)).map(|_| ())
    }

    /// Reads the counters that must be zero at rest.
    ///
    /// # Errors
    /// The admin listener does not answer.
    pub async fn invariants(&self) -> Result<Invariants, Trouble> {
        Admin::open(self.admin).await?.invariants().await
    }

    /// Waits until every counter is zero; what they were at last.
    ///
    /// # Errors
    /// The admin listener does not answer.
    pub async fn settle(&self, patience: Duration) -> Result<Invariants, Trouble> {
        let end = clock::now() + patience;
        loop {
            let invariants = self.invariants().await?;
            if invariants.at_rest || clock::now() > end {
                return Ok(invariants);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A kept connection to the admin listener.
#[derive(Debug)]
pub struct Admin(Connection);

impl Admin {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn open(address: SocketAddr) -> Result<Self, Trouble> {
        Ok(Self(Connection::open(address).await?))
    }

    /// Reads the counters that must be zero at rest.
    ///
    /// # Errors
    /// The connection broke, or the answer is not what it should be.
    pub async fn invariants(&mut self) -> Result<Invariants, Trouble> {
        self.read("/api/v1/invariants").await
    }

    /// What the budget of the account `id` holds: tokens used in the running minute, of each meter by its name.
    ///
    /// # Errors
    /// As [`Admin::invariants`].
    pub async fn used(&mut self, id: &str) -> Result<BTreeMap<String, u64>, Trouble> {
        Ok(self.meters(id).await?.map(|meter| (meter.meter, meter.used + meter.debt)).collect())
    }

    /// The limits of the account `id` on the one model, tokens per minute, by the meter's name.
    ///
    /// # Errors
    /// As [`Admin::invariants`].
    pub async fn limits(&mut self, id: &str) -> Result<BTreeMap<String, u64>, Trouble> {
        Ok(self.meters(id).await?.map(|meter| (meter.meter, meter.limit)).collect())
    }

    async fn meters(&mut self, id: &str) -> Result<impl Iterator<Item = MeterState>, Trouble> {
        let limits: AccountLimits = self.read(&format!("/api/v1/accounts/{id}/limits")).await?;
        Ok(limits.models.into_iter().flat_map(|model| model.meters))
    }

    /// A page as it comes.
    ///
    /// # Errors
    /// The connection broke, or the status is not 200.
    pub async fn page(&mut self, path: &str) -> Result<Vec<u8>, Trouble> {
        let mut body = Vec::new();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
        let answer = self.0.exchange(request.as_bytes(), |piece| body.extend_from_slice(piece)).await?;
        if answer.status == 200 {
            Ok(body)
        } else {
            Err(Trouble::Unexpected(format!("{path}: {}", answer.status)))
        }
    }

    /// Posts nothing to `path`, with the token; the status.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn post(&mut self, path: &str) -> Result<u16, Trouble> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\
             content-type: application/json\r\ncontent-length: 4\r\n\r\nnull"
        );
        Ok(self.0.exchange(request.as_bytes(), |_| ()).await?.status)
    }

    async fn read<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Trouble> {
        let body = self.page(path).await?;
        serde_json::from_slice(&body).map_err(|e| Trouble::Unexpected(format!("{path}: {e}")))
    }
}

/// Where its access log is.
pub fn access_log(setting: &Setting, name: &str) -> PathBuf {
    setting.out.join(format!("{name}-access.log"))
}

/// Writes the config file, whole or not at all; where it is.
fn write(
    setting: &Setting,
    name: &str,
    config: &Config,
    (address, admin): (SocketAddr, SocketAddr),
) -> Result<PathBuf, Trouble> {
    let file = setting.out.join(format!("{name}.yaml"));
    let next = setting.out.join(format!("{name}.yaml.next"));
    let access = access_log(setting, name);
    std::fs::write(&next, config.yaml(address, admin, &format!("\"{}\"", access.display())))?;
    std::fs::rename(&next, &file)?;
    Ok(file)
}

/// A chat request, ready to be sent.
pub fn chat(key: &str, body: &str) -> Vec<u8> {
    post("/v1/chat/completions", key, body)
}

/// The same to any path.
pub fn post(path: &str, key: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: prove\r\naccept: */*\r\n\
         authorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// A stream that has begun and goes on with a token each second.
///
/// # Errors
/// When the stream does not begin.
pub async fn hold(target: SocketAddr) -> Result<Connection, Trouble> {
    let body = format!(
        "{{\"model\":\"{MODEL}\",\"stream\":true,\"max_tokens\":1000,\"ignore_eos\":true,\"user\":\"sim:gap=1s\",\
         \"messages\":[{{\"role\":\"user\",\"content\":\"hold\"}}]}}"
    );
    let mut connection = Connection::open(target).await?;
    connection.send(&chat("key-0", &body)).await?;
    match connection.first_bytes().await? {
        200 => Ok(connection),
        status => Err(Trouble::Unexpected(format!("the place could not be taken: status {status}"))),
    }
}
