//! `deployments`: model servers that serve the same thing and share one queue.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::durations::millis;
use super::faults::{At, Shown};
use super::replica::ReplicaUrl;
use super::resolve::{Resolver, Secret};
use super::size::Bytes;

/// Model servers that serve the same thing and share one queue.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Its name, unique; appears in metrics and the admin API.
    pub name: Arc<str>,
    /// What the servers run.
    pub engine: Engine,
    /// The servers, each once, in the order of the file.
    pub replicas: Vec<ReplicaUrl>,
    /// What is promised; a target that is absent is learnt.
    pub slo: Slo,
    /// Requests that a replica starts with, and keeps while its limit is not adapted. Never above `slots_max`.
    pub limit: u32,
    /// Most requests that a replica may ever hold.
    pub slots_max: Option<u32>,
    /// The context window, tokens.
    pub context: Option<u32>,
    /// Tokens that a replica's KV cache holds.
    pub kv_tokens: Option<u64>,
    /// Tokens of prompt that a replica works on in one step.
    pub step_tokens: u32,
    /// Shares of the limit that each tier may fill.
    pub ceilings: Ceilings,
    /// Largest share of the limit for priority, above which it is served as regular.
    pub priority_share_max: Option<f64>,
    /// Share of the limit that regular keeps.
    pub regular_share_min: f64,
    /// Bounds of the queue.
    pub queue: Queue,
    /// How the servers' own metrics are read.
    pub scrape: Scrape,
    /// How long each step towards a server may take.
    pub timeouts: Timeouts,
    /// When a failing server is left out.
    pub ejection: Ejection,
    /// How many requests may be sent again.
    pub retry: Retry,
    /// The key that the servers want, once it was read.
    pub api_key: Option<Secret>,
    /// Where that key is read from.
    pub api_key_file: Option<PathBuf>,
    /// Whether an unanswered regular request may be withdrawn for a priority one.
    pub withdraw: bool,
    /// Whether accounts profit from prompts that another account sent.
    pub shared_prefixes: bool,
}

/// What the servers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
    /// Text Generation Inference.
    Tgi,
    /// llama.cpp's server.
    Llamacpp,
    /// Ollama.
    Ollama,
    /// LMDeploy.
    Lmdeploy,
    /// TensorRT-LLM's server.
    Trtllm,
    /// Anything else that speaks the OpenAI API; no metrics are read.
    #[default]
    Openai,
}

impl Engine {
    /// Where its Prometheus metrics are, if it has any.
    pub fn metrics_path(self) -> Option<&'static str> {
        match self {
            Self::Vllm | Self::Sglang | Self::Tgi | Self::Llamacpp | Self::Lmdeploy => Some("/metrics"),
            Self::Trtllm => Some("/prometheus/metrics"),
            Self::Ollama | Self::Openai => None,
        }
    }

    /// Whether it is known to stop working on a request when the connection closes.
    pub fn aborts(self) -> bool {
        matches!(self, Self::Vllm | Self::Sglang | Self::Llamacpp)
    }

    /// Its name in the config.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::Tgi => "tgi",
            Self::Llamacpp => "llamacpp",
            Self::Ollama => "ollama",
            Self::Lmdeploy => "lmdeploy",
            Self::Trtllm => "trtllm",
            Self::Openai => "openai",
        }
    }
}

/// What is promised for requests within the capacity.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Slo {
    /// Time to the first token.
    pub ttft: Option<Duration>,
    /// Mean time between tokens.
    pub tpot: Option<Duration>,
}

/// Model servers that serve the same thing and share one queue.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DeploymentFile {
    /// A name of letters, digits and - . _ : that is unique and appears in metrics.
    #[schemars(required, length(min = 1, max = 128))]
    name: Option<String>,
    /// What the servers run. Default openai: anything that speaks the OpenAI API, without reading metrics.
    engine: Engine,
    /// URLs of the servers such as `http://10.0.0.7:8000`, without /v1.
    #[schemars(required, length(min = 1, max = 1024), inner(length(min = 1, max = 2048)))]
    replicas: Option<Vec<String>>,
    /// What is promised. Without it the targets are learnt: 2,000 ms to the first token, and 2.5 times the gap between tokens that was seen at light load.
    slo: SloFile,
    /// Requests at once with which a replica starts, and which it keeps while its limit is not adapted. Default 64: small for a large GPU, survivable for a small one. Lowered to `slots_max`.
    #[schemars(range(min = 1, max = 1024))]
    limit: Option<u32>,
    /// Most requests at once that a replica may ever be given; the engine's own number of slots (`max_num_seqs`, `-np`). Default: what the engine reports, else 1,024.
    #[schemars(range(min = 1, max = 100_000))]
    slots_max: Option<u32>,
    /// The context window, tokens. Default: unknown, so no prompt is refused as too long here.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    context: Option<u32>,
    /// Tokens that the KV cache of one replica holds. Default: what the engine reports, else unknown and left out of the saturation.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    kv_tokens: Option<u64>,
    /// Tokens of prompt that a replica works on in one step (`max_num_batched_tokens`). Default 2,048, vLLM's own on most GPUs; vLLM uses 8,192 on those with 70 GiB or more.
    #[schemars(range(min = 16, max = 10_000_000))]
    step_tokens: Option<u32>,
    /// Shares of a replica's limit that each tier may fill.
    ceilings: Ceilings,
    /// Largest share of the limit for priority; above it priority is served, and billed, as regular. Default: none. A tier sold to everybody is worth nothing.
    #[schemars(range(min = 0.01, max = 1.0))]
    priority_share_max: Option<f64>,
    /// Share of the limit that regular keeps whatever priority wants. Default 0: priority comes first.
    #[schemars(range(min = 0.0, max = 0.9))]
    regular_share_min: f64,
    /// Bounds of the queue.
    queue: Queue,
    /// How the servers' own metrics are read.
    scrape: ScrapeFile,
    /// How long each step towards a server may take.
    timeouts: Timeouts,
    /// When a failing server is left out.
    ejection: Ejection,
    /// How many requests may be sent again.
    retry: Retry,
    /// File with the key that the servers want as `Authorization: Bearer`. Default: none is sent.
    #[schemars(length(min = 1, max = 4096))]
    api_key_file: Option<String>,
    /// Whether a regular request that was sent but has no token yet may be withdrawn when priority waits. Only for engines that stop working when the connection closes (vllm, sglang, llamacpp). Default false.
    withdraw: bool,
    /// Whether an account profits from the engine having cached a prompt that another account sent. Default false: the remaining-tokens headers would tell one customer what another sends.
    shared_prefixes: bool,
}

/// What is promised for requests within the capacity.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct SloFile {
    /// Time to the first token, ms, beside the time that the prompt itself takes. Default: 2,000.
    #[schemars(range(min = 1, max = 600_000))]
    ttft_ms: Option<u64>,
    /// Mean time between tokens, ms. Default: learnt.
    #[schemars(range(min = 1, max = 60_000))]
    tpot_ms: Option<u64>,
}

/// Shares of a replica's limit that each tier may fill.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ceilings {
    /// Share for priority. Default 1: all of it.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub priority: f64,
    /// Share for regular. Default 0.85: the last 15 % wait for priority, so that it never waits for regular.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub regular: f64,
}

impl Default for Ceilings {
    fn default() -> Self {
        Self { priority: 1.0, regular: 0.85 }
    }
}

/// Bounds of a deployment's queue. They bound memory; how long anyone waits is bounded by prediction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Queue {
    /// Requests that may wait. Default 2,048: more than can be served within any target.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub requests: u32,
    /// Prompt tokens that may wait. Default 8,000,000: 400 replica-seconds of a fast prefill.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub tokens: u64,
    /// Bytes of bodies that may wait. Default 512MiB: a quarter of `listen.limits.inflight_bytes`.
    #[schemars(with = "Bytes", range(min = 1024, max = 1_099_511_627_776_u64))]
    pub bytes: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Self { requests: 2_048, tokens: 8_000_000, bytes: 512 << 20 }
    }
}

/// How the servers' own metrics are read. They correct what is known from the traffic; nothing needs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrape {
    /// How often.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// The path behind the replica's base path; `None` if nothing is read.
    pub path: Option<String>,
}

/// How the servers' own metrics are read.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ScrapeFile {
    /// How often, ms. Default 1,000: a page has about 60 KB, and between two of them the own traffic is known.
    #[serde(rename = "interval_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 100, max = 60_000))]
    interval: Duration,
    /// How long an answer may take, ms. Default 1,000; a busy server is late, not dead.
    #[serde(rename = "timeout_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 50, max = 60_000))]
    timeout: Duration,
    /// The path, or `off`. Default: the engine's own (/metrics; trtllm: /prometheus/metrics; ollama, openai: off).
    #[schemars(length(min = 1, max = 1024))]
    path: Option<String>,
}

impl Default for ScrapeFile {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), timeout: Duration::from_secs(1), path: None }
    }
}

/// How long each step towards a server may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// Connecting, TLS included, ms. Default 1,000: inside one site it takes milliseconds.
    #[serde(rename = "connect_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 10, max = 60_000))]
    pub connect: Duration,
    /// Until the first token, ms. Default 120,000: the longest prompt on a busy engine.
    #[serde(rename = "first_token_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 100, max = 3_600_000))]
    pub first_token: Duration,
    /// Between two tokens, ms. Default 60,000: longer than a preempted request waits to be computed again.
    #[serde(rename = "between_tokens_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 100, max = 3_600_000))]
    pub between_tokens: Duration,
    /// Writing the request, ms. Default 10,000.
    #[serde(rename = "write_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 100, max = 600_000))]
    pub write: Duration,
    /// How long an unused connection is kept, ms. Default 4,000: vLLM's server closes after 5,000, and a request sent at that moment would be lost.
    #[serde(rename = "idle_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 0, max = 3_600_000))]
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            first_token: Duration::from_secs(120),
            between_tokens: Duration::from_secs(60),
            write: Duration::from_secs(10),
            idle: Duration::from_secs(4),
        }
    }
}

/// When a failing server is left out, and when it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ejection {
    /// Failures in a row that leave a server out. Default 3: one reset is chance.
    #[schemars(range(min = 1, max = 1000))]
    pub failures: u32,
    /// Time until one request tries it again, ms. Default 1,000, doubled with each failed trial.
    #[serde(rename = "probe_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 50, max = 600_000))]
    pub probe: Duration,
    /// Longest time between two trials, ms. Default 30,000.
    #[serde(rename = "probe_max_ms", with = "millis")]
    #[schemars(with = "u64", range(min = 50, max = 3_600_000))]
    pub probe_max: Duration,
    /// Largest share of the servers that is left out. Default 0.5: if more fail, the fault is probably elsewhere, and the rest would break under the load.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share_max: f64,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            failures: 3,
            probe: Duration::from_secs(1),
            probe_max: Duration::from_secs(30),
            share_max: 0.5,
        }
    }
}

/// How many requests may be sent again after a failure before their first token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// As a share of the running requests. Default 0.2: more would turn a failure into an overload.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: f64,
    /// So many at least, whatever the share says. Default 3.
    #[schemars(range(min = 0, max = 1000))]
    pub min: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self { share: 0.2, min: 3 }
    }
}

/// The step budget of an engine that does not say, tokens: vLLM's default on most GPUs.
const STEP_TOKENS: u32 = 2_048;
/// The limit that a replica starts with, requests.
const LIMIT: u32 = 64;

/// What was seen in the deployments before: names and servers must not appear twice.
#[derive(Default)]
pub(crate) struct Seen {
    names: HashMap<String, usize>,
    replicas: HashMap<ReplicaUrl, String>,
}

impl DeploymentFile {
    pub(crate) fn resolve(self, nth: usize, seen: &mut Seen, resolver: &mut Resolver<'_>) -> Deployment {
        let list = At::FILE.key("deployments");
        let at = list.item(nth);
        let name = self.name.unwrap_or_default();
        unique_name(&name, nth, &at, seen, resolver);
        let mut replicas = Vec::new();
        for (nth, url) in
            self.replicas.unwrap_or_default().iter().enumerate().filter(|(_, url)| !url.is_empty())
        {
            let list = at.key("replicas");
            replicas.extend(replica(url, &list.item(nth), &name, seen, resolver));
        }
        if self.ceilings.regular > self.ceilings.priority {
            let fault = format!(
                "must not exceed the ceiling of priority ({}); were the two swapped?",
                self.ceilings.priority
            );
            resolver.fault(&at.key("ceilings").key("regular"), fault);
        }
        if self.withdraw && !self.engine.aborts() {
            let fault = format!(
                "needs an engine that stops when its connection closes; {} is not known to",
                self.engine.name()
            );
            resolver.fault(&at.key("withdraw"), fault);
        }
        if self.ejection.probe > self.ejection.probe_max {
            let fault = format!("must not exceed probe_max_ms ({})", self.ejection.probe_max.as_millis());
            resolver.fault(&at.key("ejection").key("probe_ms"), fault);
        }
        let api_key_file = self.api_key_file.map(|path| resolver.path(&path));
        let key_at = at.key("api_key_file");
        Deployment {
            limit: limit(self.limit, self.slots_max, &at, resolver),
            slots_max: self.slots_max,
            name: name.into(),
            engine: self.engine,
            replicas,
            slo: Slo {
                ttft: self.slo.ttft_ms.map(Duration::from_millis),
                tpot: self.slo.tpot_ms.map(Duration::from_millis),
            },
            context: self.context,
            kv_tokens: self.kv_tokens,
            step_tokens: self.step_tokens.unwrap_or(STEP_TOKENS),
            ceilings: self.ceilings,
            priority_share_max: self.priority_share_max,
            regular_share_min: self.regular_share_min,
            queue: self.queue,
            scrape: self.scrape.resolve(self.engine, &at.key("scrape"), resolver),
            timeouts: self.timeouts,
            ejection: self.ejection,
            retry: self.retry,
            api_key: api_key_file.as_ref().and_then(|path| resolver.secret(&key_at, path)),
            api_key_file,
            withdraw: self.withdraw,
            shared_prefixes: self.shared_prefixes,
        }
    }
}

fn unique_name(name: &str, nth: usize, at: &At<'_>, seen: &mut Seen, resolver: &mut Resolver<'_>) {
    if name.is_empty() {
        return;
    }
    resolver.name(&at.key("name"), name, "-._:");
    if let Some(first) = seen.names.get(name) {
        let fault =
            format!("`{}` is the name of deployments[{first}] already; names must differ", Shown(name));
        resolver.fault(&at.key("name"), fault);
    } else {
        seen.names.insert(name.to_owned(), nth);
    }
}

fn replica(
    url: &str,
    at: &At<'_>,
    name: &str,
    seen: &mut Seen,
    resolver: &mut Resolver<'_>,
) -> Option<ReplicaUrl> {
    let url: ReplicaUrl = url.parse().map_err(|error| resolver.fault(at, format!("{error}"))).ok()?;
    if let Some(owner) = seen.replicas.get(&url) {
        let fault = format!(
            "{url} is a replica of `{}` already; counted twice, it would be overloaded",
            Shown(owner)
        );
        resolver.fault(at, fault);
        return None;
    }
    seen.replicas.insert(url.clone(), name.to_owned());
    Some(url)
}

fn limit(limit: Option<u32>, slots_max: Option<u32>, at: &At<'_>, resolver: &mut Resolver<'_>) -> u32 {
    let slots = slots_max.unwrap_or(u32::MAX);
    if let Some(limit) = limit.filter(|limit| *limit > slots) {
        resolver.fault(&at.key("limit"), format!("must not exceed slots_max ({slots}), is {limit}"));
    }
    limit.unwrap_or(LIMIT).min(slots)
}

impl ScrapeFile {
    fn resolve(self, engine: Engine, at: &At<'_>, resolver: &mut Resolver<'_>) -> Scrape {
        let path = match self.path.as_deref() {
            None => engine.metrics_path().map(str::to_owned),
            Some("off" | "false") => None,
            Some(path) => {
                if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
                    resolver.fault(&at.key("path"), "must be a path that starts with /, or off");
                }
                Some(path.to_owned())
            }
        };
        Scrape { interval: self.interval, timeout: self.timeout, path }
    }
}
