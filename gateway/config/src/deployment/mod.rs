//! `deployments`: model servers that serve the same thing and share one queue.

pub(crate) mod parameters;
pub(crate) mod replica;
pub(crate) mod settings;
mod shedder;
pub(crate) mod upstream_tls;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocol::engine::Engine;
use protocol::engine::parameters::Parameters;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::deployment::parameters::ParametersFile;
use crate::deployment::replica::{Host, ReplicaUrl};
use crate::deployment::settings::{Ceilings, Dns, Flex, Queue, Scrape, ScrapeFile, Timeouts};
use crate::deployment::upstream_tls::{UpstreamTls, UpstreamTlsFile};
use crate::resolve::{Resolver, Secret};
use crate::yaml::faults::{At, Shown};

/// Model servers that serve the same thing and share one queue.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Its name, unique; appears in metrics and the admin API.
    pub name: Arc<str>,
    /// What the servers run.
    pub engine: Engine,
    /// The servers, each once, in the order of the file. One with a DNS name is as many as the name has addresses.
    pub replicas: Vec<ReplicaUrl>,
    /// How those with a name are found.
    pub dns: Dns,
    /// How those with https prove who they are.
    pub tls: UpstreamTls,
    /// What is promised; a target that is absent is learnt.
    pub slo: Slo,
    /// Holds the requests at once on a replica at this number; `None` learns them. Never above `slots_max`.
    pub limit: Option<u32>,
    /// Most requests that a replica may ever hold.
    pub slots_max: Option<u32>,
    /// The context window, tokens.
    pub context: Option<u32>,
    /// Tokens that a replica's KV cache holds.
    pub kv_tokens: Option<u64>,
    /// Tokens of prompt that a replica works on in one step, if the operator says so.
    pub step_tokens: Option<u32>,
    /// Shares of the limit that each tier may fill.
    pub ceilings: Ceilings,
    /// What holds for the tier below regular; `None`: it has no such tier.
    pub flex: Option<Flex>,
    /// Largest share of the limit for priority, above which it is served as regular.
    pub priority_share_max: Option<f64>,
    /// Share of all starts that regular keeps while priority waits.
    pub regular_share_min: f64,
    /// What long regular prompts are to get at least, as a part of what all regular requests get.
    pub long_prompt_share_min: f64,
    /// Bounds of the queue.
    pub queue: Queue,
    /// How the servers' own metrics are read.
    pub scrape: Scrape,
    /// How long each step towards a server may take.
    pub timeouts: Timeouts,
    /// The key that the servers want, once it was read.
    pub api_key: Option<Secret>,
    /// Where that key is read from.
    pub api_key_file: Option<PathBuf>,
    /// Whether an unanswered request may be withdrawn for one of a higher tier.
    pub withdraw: bool,
    /// Whether accounts profit from prompts that another account sent.
    pub shared_prefixes: bool,
    /// Whether the engine is told the tier of a request.
    pub engine_priority: bool,
    /// Whether the engine is told to keep accounts' cached prompts apart.
    pub cache_salt: bool,
    /// Which parameters of requests the servers may see.
    pub parameters: Parameters,
}

impl Deployment {
    /// The tiers that it has, highest first.
    pub fn tiers(&self) -> impl Iterator<Item = ::shedder::Tier> {
        let has_flex = self.flex.is_some();
        ::shedder::Tier::ALL.into_iter().filter(move |&tier| tier != ::shedder::Tier::Flex || has_flex)
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
    /// A name of letters, digits and `-._:` that is unique and appears in metrics.
    #[schemars(required, length(min = 1, max = 128), extend("x-required" = true))]
    name: Option<String>,
    /// What the servers run. Default openai: anything that speaks the OpenAI API, without reading metrics.
    engine: Engine,
    /// URLs of the servers such as `http://10.0.0.7:8000`, without /v1. A DNS name is as many servers as it has addresses, and is looked up again and again: one name of a Kubernetes headless service is a whole fleet.
    #[schemars(required, length(min = 1, max = 1024), inner(length(min = 1, max = 2048)), extend("x-required" = true))]
    replicas: Option<Vec<String>>,
    /// How servers with a DNS name are found, and found again.
    dns: Dns,
    /// How https servers prove who they are.
    tls: UpstreamTlsFile,
    /// What is promised. Without it the targets are learnt: 2,000 ms to the first token, and 2.5 times the gap between tokens that was seen at light load.
    slo: SloFile,
    /// Holds the requests at once on a replica at this number. Default: learnt from the gaps between tokens, starting at 64, within seconds; a fixed number is right for one mix of requests only.
    #[schemars(range(min = 1, max = 1024))]
    limit: Option<u32>,
    /// Most requests at once that a replica may ever be given; the engine's own number of slots (`max_num_seqs`, `-np`). Default: what the engine reports, else 1,024.
    #[schemars(range(min = 1, max = 100_000))]
    slots_max: Option<u32>,
    /// The context window, tokens. Default: what the engine reports (`max_model_len`, `n_ctx`), else unknown, so no prompt is refused as too long here.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    context: Option<u32>,
    /// Tokens that the KV cache of one replica holds. Default: what the engine reports, else learnt from answers that pause while others go on.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    kv_tokens: Option<u64>,
    /// Tokens of prompt that a replica works on in one step (`max_num_batched_tokens`). Default: what the engine reports, else 2,048, vLLM's own on most GPUs; it uses 8,192 on those with 70 GiB or more.
    #[schemars(range(min = 16, max = 10_000_000))]
    step_tokens: Option<u32>,
    /// Shares of a replica's limit that each tier may fill.
    ceilings: Ceilings,
    /// Offers the tier below regular, `flex`, to accounts that may use it. Default: not offered, its requests are served as regular.
    flex: Option<Flex>,
    /// Largest share of the limit for priority; above it priority of accounts that have more than an equal part of it is served, and billed, as regular. Default: none. A tier sold to everybody is worth nothing.
    #[schemars(range(min = 0.01, max = 1.0))]
    priority_share_max: Option<f64>,
    /// Share of all starts that regular keeps while priority waits. Default 0: priority comes first.
    #[schemars(range(min = 0.0, max = 0.5))]
    regular_share_min: f64,
    /// What long regular prompts are to get at least in an overload, as a part of the share of all regular requests that is served; where priority leaves little it can be less. Long is what takes an engine longer than one token may. Default 0.4. 0: short prompts first, which serves up to a tenth more requests at three times the load, and hardly any with a long prompt.
    #[serde(default = "long_prompt_share_min")]
    #[schemars(range(min = 0.0, max = 1.0))]
    long_prompt_share_min: f64,
    /// Bounds of the queue.
    queue: Queue,
    /// How the servers' own metrics are read.
    scrape: ScrapeFile,
    /// How long each step towards a server may take.
    timeouts: Timeouts,
    /// File with the key that the servers want as `Authorization: Bearer`. Default: none is sent.
    #[schemars(length(min = 1, max = 4096))]
    api_key_file: Option<String>,
    /// Whether a request that was sent but has no token yet may be withdrawn when one of a higher tier waits, flex before regular. Only for engines that stop working when the connection closes (vllm, sglang, llamacpp). Default false; flex is withdrawn there in any case.
    withdraw: bool,
    /// Whether an account profits from the engine having cached a prompt that another account sent. Default false: the remaining-tokens headers would tell one customer what another sends.
    shared_prefixes: bool,
    /// Whether the engine is told the tier of a request, in its own direction. Only where it schedules by it: vllm with `--scheduling-policy priority`, sglang with `--enable-priority-scheduling`; without, they answer with errors. Default false.
    engine_priority: bool,
    /// Whether vllm is given a `cache_salt` for each account, so that no account can find out by the time of an answer what another one sent. Default false: prompts that all accounts share would be computed once for each.
    cache_salt: bool,
    /// Which parameters of requests the servers may see.
    parameters: ParametersFile,
}

fn long_prompt_share_min() -> f64 {
    0.4
}

/// What is promised for requests within the capacity.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct SloFile {
    /// Time to the first token, ms, beside the time that the prompt itself takes. Default: 2,000.
    #[schemars(range(min = 1, max = 600_000), extend("x-usual" = 2000))]
    ttft_ms: Option<u64>,
    /// Mean time between tokens, ms. Default: learnt.
    #[schemars(range(min = 1, max = 60_000))]
    tpot_ms: Option<u64>,
}

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
        let name = self.name.clone().unwrap_or_default();
        unique_name(&name, nth, &at, seen, resolver);
        let mut replicas = Vec::new();
        for (nth, url) in self.replicas.iter().flatten().enumerate().filter(|(_, url)| !url.is_empty()) {
            let list = at.key("replicas");
            replicas.extend(replica(url, &list.item(nth), &name, seen, resolver));
        }
        if let Some((tier, fault)) = self.ceilings.fault() {
            resolver.fault(&at.key("ceilings").key(tier), fault);
        }
        self.fit_the_engine(&at, resolver);
        self.dns_has_room(&replicas, &at, resolver);
        self.queue_is_fair(&at, resolver);
        let api_key_file = self.api_key_file.map(|path| resolver.path(&path));
        let key_at = at.key("api_key_file");
        Deployment {
            limit: limit(self.limit, self.slots_max, &at, resolver),
            slots_max: self.slots_max,
            name: name.into(),
            engine: self.engine,
            tls: self.tls.resolve(&replicas, &at.key("tls"), resolver),
            replicas,
            dns: self.dns,
            slo: Slo {
                ttft: self.slo.ttft_ms.map(Duration::from_millis),
                tpot: self.slo.tpot_ms.map(Duration::from_millis),
            },
            context: self.context,
            kv_tokens: self.kv_tokens,
            step_tokens: self.step_tokens,
            ceilings: self.ceilings,
            flex: self.flex,
            priority_share_max: self.priority_share_max,
            regular_share_min: self.regular_share_min,
            long_prompt_share_min: self.long_prompt_share_min,
            queue: self.queue,
            scrape: self.scrape.resolve(self.engine, &at.key("scrape"), resolver),
            timeouts: self.timeouts,
            api_key: api_key_file.as_ref().and_then(|path| resolver.secret(&key_at, path)),
            api_key_file,
            withdraw: self.withdraw,
            shared_prefixes: self.shared_prefixes,
            engine_priority: self.engine_priority,
            cache_salt: self.cache_salt,
            parameters: self.parameters.resolve(self.engine, &at.key("parameters"), resolver),
        }
    }

    /// What only some engines have must not be asked of another.
    fn fit_the_engine(&self, at: &At<'_>, resolver: &mut Resolver<'_>) {
        if self.withdraw && !self.engine.aborts() {
            let fault = format!(
                "needs an engine that stops when its connection closes; {} is not known to",
                self.engine.name()
            );
            resolver.fault(&at.key("withdraw"), fault);
        }
        if self.engine_priority && self.engine.priorities().is_none() {
            let fault = format!(
                "needs an engine that schedules by priority (vllm, sglang), not {}",
                self.engine.name()
            );
            resolver.fault(&at.key("engine_priority"), fault);
        }
        if self.cache_salt && !self.engine.takes_cache_salt() {
            let fault = format!("needs engine: vllm; {} has no such parameter", self.engine.name());
            resolver.fault(&at.key("cache_salt"), fault);
        }
    }

    /// A queue of a few places is full whenever somebody comes back as told: those who do not wait have them all.
    fn queue_is_fair(&self, at: &At<'_>, resolver: &mut Resolver<'_>) {
        let requests = self.queue.requests;
        if requests < QUEUE_FAIR_MIN {
            let hint = format!(
                "is {requests}: while clients come back sooner than they are told, such a queue is always full, and who \
                 waits as told gets nothing; leave at least {QUEUE_FAIR_MIN}, {} is the default",
                Queue::default().requests
            );
            resolver.hint(&at.key("queue").key("requests"), hint);
        }
    }

    fn dns_has_room(&self, replicas: &[ReplicaUrl], at: &At<'_>, resolver: &mut Resolver<'_>) {
        if replicas.iter().filter(|replica| matches!(replica.host, Host::Name(_))).count()
            > self.dns.replicas_max as usize
        {
            let fault =
                format!("must not be less than the names under `replicas`, is {}", self.dns.replicas_max);
            resolver.fault(&at.key("dns").key("replicas_max"), fault);
        }
    }
}

/// Places of a queue from which on there is usually one for whoever comes back as told.
const QUEUE_FAIR_MIN: u32 = 32;

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

fn limit(
    limit: Option<u32>,
    slots_max: Option<u32>,
    at: &At<'_>,
    resolver: &mut Resolver<'_>,
) -> Option<u32> {
    let slots = slots_max.unwrap_or(u32::MAX);
    if let Some(limit) = limit.filter(|limit| *limit > slots) {
        resolver.fault(&at.key("limit"), format!("must not exceed slots_max ({slots}), is {limit}"));
    }
    limit
}
