//! A drill as people write it: the keys of a scenario file, each with its default and what it is for.
//!
//! The types here are plain: whatever the file says fits into them, and [`resolve`] turns them into a
//! `Drill` that can be played, or into a list of faults, each with the path of its key. Reading YAML, and turning a
//! path into a line, is the business of who has the text. The JSON Schema is made from the same types.

mod behaviour;

mod events;

mod fleet;

mod passes;

mod resolve;

mod traffic;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use behaviour::{BehaviourFile, EagerFile, LagFile, OrderFile, PauseFile, StallFile};

pub use fleet::{Layout, Places, Planned};

pub use traffic::offered;

pub use resolve::{Fault, ReadTrace, Step, resolve};

/// A capacity drill.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Tidegate drill")]
#[serde(default, deny_unknown_fields)]
pub struct DrillFile {
    /// A short name, such as `launch-day`.
    #[schemars(required, length(min = 1, max = 60), extend("x-required" = true))]
    pub drill: Option<String>,
    /// What it is called in a report. Default: its name.
    #[schemars(length(min = 1, max = 120))]
    pub title: Option<String>,
    /// What it shows, in a few sentences.
    #[schemars(length(max = 2000))]
    pub shows: Option<String>,
    /// Everything random follows from it. Default 1: the same file gives the same requests.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub seed: Option<u64>,
    /// Requests arrive for so long, seconds. Default, where all traffic is recorded: until the last recorded request.
    #[schemars(range(min = 1, max = 604_800))]
    pub duration_s: Option<f64>,
    /// What arrives in the first seconds is played and not judged. Default 0.
    #[schemars(range(min = 0, max = 604_800))]
    pub warm_up_s: Option<f64>,
    /// How long requests that are under way at the end may take. Default 60; then they count as missed.
    #[schemars(range(min = 0, max = 3600))]
    pub drain_s: Option<f64>,
    /// The engines.
    pub fleet: Fleet,
    /// What counts as served: first token and mean time per further token.
    pub slo: SloFile,
    /// The customers. Default, where all traffic is an access log: those that it names, without limits.
    #[schemars(length(min = 1, max = 1000))]
    pub accounts: Option<Vec<AccountFile>>,
    /// What they send.
    #[schemars(required, length(min = 1, max = 100), extend("x-required" = true))]
    pub traffic: Option<Vec<TrafficFile>>,
    /// What goes wrong, and when.
    #[schemars(length(max = 1000))]
    pub events: Vec<EventFile>,
    /// What has to hold. A drill without any passes if it ends.
    #[schemars(length(max = 100))]
    pub pass: Vec<PassFile>,
    /// When to stop early.
    pub stop: StopFile,
}

/// The engines.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Fleet {
    /// Replicas. Default 4.
    #[schemars(range(min = 1, max = 1000))]
    pub replicas: Option<u16>,
    /// Model and hardware, as `tidegate engine --help` lists them. Default `8b-a100`.
    #[schemars(length(min = 1, max = 60))]
    pub profile: Option<String>,
    /// Context window, tokens. Default: the profile's.
    #[schemars(range(min = 16, max = 10_000_000))]
    pub context: Option<u32>,
    /// KV cache, tokens. Default: the profile's.
    #[schemars(range(min = 1024, max = 1_000_000_000))]
    pub kv_tokens: Option<u32>,
    /// How often the gateway reads engine metrics, seconds. Default 1; 0: never.
    #[schemars(range(min = 0, max = 60))]
    pub scrape_s: Option<f64>,
    /// One way between the gateway and the engines, ms: 0.1 in a rack, 0.5 in a region (the default), 50 to the next
    /// continent.
    #[schemars(range(min = 0, max = 10_000))]
    pub network_ms: Option<f64>,
    /// Mean of what comes on top of that, ms, exponentially distributed, each way. Default 0.
    #[schemars(range(min = 0, max = 10_000))]
    pub jitter_ms: Option<f64>,
    /// The share of the profile's speed at which each replica works, in turn: `[1, 1, 0.5]` of three replicas slows down
    /// the last. Default: all alike.
    #[schemars(length(max = 1000), inner(range(min = 0.01, max = 100)))]
    pub speeds: Vec<f64>,
    /// What the engines do besides computing steps.
    pub behaviour: Option<BehaviourFile>,
    /// Of a drill on a config: what the engines of single deployments are like, where they differ from the above.
    #[schemars(length(max = 1000))]
    pub deployments: Vec<DeploymentFile>,
}

/// The engines of one deployment of a config.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeploymentFile {
    /// Its name in the config.
    #[schemars(required, length(min = 1, max = 128), extend("x-required" = true))]
    pub name: Option<String>,
    /// Replicas. Default: as many as the config names, where a DNS name counts as one.
    #[schemars(range(min = 1, max = 1000))]
    pub replicas: Option<u16>,
    /// Model and hardware. Default: the fleet's, or as measured.
    #[schemars(length(min = 1, max = 60))]
    pub profile: Option<String>,
    /// Context window, tokens. Default: the profile's.
    #[schemars(range(min = 16, max = 10_000_000))]
    pub context: Option<u32>,
    /// KV cache, tokens. Default: the profile's.
    #[schemars(range(min = 1024, max = 1_000_000_000))]
    pub kv_tokens: Option<u32>,
    /// The share of the profile's speed at which each replica works, in turn. Default: the fleet's.
    #[schemars(length(max = 1000), inner(range(min = 0.01, max = 100)))]
    pub speeds: Vec<f64>,
    /// What the engines do besides computing steps. Default: as the fleet's.
    pub behaviour: Option<BehaviourFile>,
}

/// What counts as served.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SloFile {
    /// Time to first token, ms; the prefill of the own prompt on an idle replica comes on top. Default 2,000.
    #[schemars(range(min = 1, max = 600_000))]
    pub ttft_ms: Option<f64>,
    /// Mean time per token after the first, ms. Default 100.
    #[schemars(range(min = 1, max = 60_000))]
    pub tpot_ms: Option<f64>,
}

/// A customer, or many alike.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccountFile {
    /// Its name.
    #[schemars(required, length(min = 1, max = 60), extend("x-required" = true))]
    pub id: Option<String>,
    /// So many of them, `id-1`, `id-2` …. Default 1.
    #[schemars(range(min = 1, max = 10_000))]
    pub count: Option<u32>,
    /// How requests fall to them: the k-th gets a share ∝ 1/k^zipf. Default 0: equal shares.
    #[schemars(range(min = 0, max = 5))]
    pub zipf: Option<f64>,
    /// What each of them may spend. Default: no limit.
    pub limits: Option<LimitsFile>,
}

/// What an account may spend, tokens per minute.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsFile {
    /// Input tokens. Default 3,600,000.
    #[schemars(range(min = 1, max = 4_294_967_295_u64))]
    pub prompt: Option<u64>,
    /// Input tokens that are not cached. Default 900,000.
    #[schemars(range(min = 1, max = 4_294_967_295_u64))]
    pub uncached_prompt: Option<u64>,
    /// Output tokens. Default 36,000.
    #[schemars(range(min = 1, max = 4_294_967_295_u64))]
    pub generated: Option<u64>,
    /// Whether the limits follow use by the published rule, or stay. Default `fixed`.
    pub growth: Option<GrowthFile>,
    /// How far they may grow, as a multiple of where they begin. Default 60.
    #[schemars(range(min = 1, max = 1000))]
    pub ceiling_factor: Option<u64>,
}

/// Whether limits move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GrowthFile {
    /// They stay.
    Fixed,
    /// Up 25 % every 15 minutes while more than half is used.
    Published,
}

/// The two tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TierFile {
    /// Before the other.
    Priority,
    /// After it.
    Regular,
}

impl From<TierFile> for shedder::Tier {
    fn from(tier: TierFile) -> Self {
        match tier {
            TierFile::Priority => Self::Priority,
            TierFile::Regular => Self::Regular,
        }
    }
}

/// A stream of requests.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrafficFile {
    /// Its name.
    #[schemars(required, length(min = 1, max = 60), extend("x-required" = true))]
    pub name: Option<String>,
    /// The model of the config that it asks for. Default: the only one. Only with a config.
    #[schemars(length(min = 1, max = 256))]
    pub model: Option<String>,
    /// The `id` of the accounts that send it.
    #[schemars(length(min = 1, max = 60))]
    pub accounts: Option<String>,
    /// Requests per second, on average. Not with a trace.
    #[schemars(range(min = 0, max = 100_000))]
    pub rate_per_s: Option<f64>,
    /// Coefficient of variation of the time between two: 0 a metronome, 1 independent customers, 3 bursts. Default 1.
    #[schemars(range(min = 0, max = 20))]
    pub cv: Option<f64>,
    /// Each account sends by itself, in bursts and lengths of its own; `zipf` of the accounts says how much of the load each makes. Not with `cv` or a trace.
    pub each_account: Option<EachAccountFile>,
    /// How the rate moves, in order of time.
    #[schemars(length(max = 1000))]
    pub load: Vec<LoadFile>,
    /// Share of requests that ask for priority, 0 … 1. Default 0.
    #[schemars(range(min = 0, max = 1))]
    pub priority: Option<f64>,
    /// Share of requests that ask for flex, 0 … 1; with `priority` at most 1. Default 0. Served within its own wait they have met what they were promised.
    #[schemars(range(min = 0, max = 1))]
    pub flex: Option<f64>,
    /// Share of requests that stream, 0 … 1. Default 1.
    #[schemars(range(min = 0, max = 1))]
    pub streaming: Option<f64>,
    /// Sizes: azure, chat, code, long-context, reasoning or fixed:PROMPT:ANSWER. Default `azure`. Not with a trace.
    #[schemars(length(min = 1, max = 60))]
    pub workload: Option<String>,
    /// Recorded requests to play in place of drawn ones.
    pub trace: Option<TraceFile>,
    /// What prompts have in common. Default: nothing.
    pub prompts: Option<PromptsFile>,
    /// What clients do when they are refused. Default: they give up.
    pub retry: Option<RetryFile>,
    /// Clients leave when no token came for so long, seconds. Default: they wait.
    #[schemars(range(min = 0.01, max = 3600))]
    pub patience_s: Option<f64>,
}

/// How accounts that send by themselves do so.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EachAccountFile {
    /// Coefficient of variation of the time between two requests of one account. Default 4.
    #[schemars(range(min = 0, max = 20))]
    pub cv: Option<f64>,
    /// How much the prompts of accounts differ in length: standard deviation of the logarithm of a factor of each account. Default 0.5: two of three accounts between 0.6 and 1.6 times as long.
    #[schemars(range(min = 0, max = 3))]
    pub length_spread: Option<f64>,
}

/// A change of rate: a step, a ramp (`over_s`) or a burst (`for_s`).
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoadFile {
    /// When it begins, seconds.
    #[schemars(required, range(min = 0, max = 604_800), extend("x-required" = true))]
    pub at_s: Option<f64>,
    /// So many times `rate_per_s`.
    #[schemars(required, range(min = 0, max = 10_000), extend("x-required" = true))]
    pub factor: Option<f64>,
    /// A ramp: the rate gets there within so many seconds. Default 0: at once.
    #[schemars(range(min = 0, max = 604_800))]
    pub over_s: Option<f64>,
    /// A burst: back to what it was after so many seconds. Default: it stays.
    #[schemars(range(min = 0, max = 604_800))]
    pub for_s: Option<f64>,
}

/// Recorded requests.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TraceFile {
    /// The file, relative to the scenario's folder.
    #[schemars(required, length(min = 1, max = 4096), extend("x-required" = true))]
    pub file: Option<String>,
    /// How it is written.
    #[schemars(required, extend("x-required" = true))]
    pub format: Option<FormatFile>,
    /// How many times as fast as it was. Default 1.
    #[schemars(range(min = 0.001, max = 1000))]
    pub speed: Option<f64>,
}

/// How a trace is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FormatFile {
    /// CSV: `TIMESTAMP,ContextTokens,GeneratedTokens`.
    Azure,
    /// JSONL: timestamp, `input_length`, `output_length`, `hash_ids`.
    Mooncake,
    /// Tidegate's own access log.
    AccessLog,
}

/// What prompts have in common; one of the three.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PromptsFile {
    /// Each begins with one of so many system prompts.
    #[schemars(range(min = 1, max = 100_000))]
    pub system_prompts: Option<u32>,
    /// Tokens of such a system prompt. Default 1,000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub system_tokens: Option<u32>,
    /// Each is one of so many, whole.
    #[schemars(range(min = 1, max = 100_000))]
    pub pool: Option<u32>,
    /// Percent that continue an earlier conversation.
    #[schemars(range(min = 0, max = 100))]
    pub continued_percent: Option<u32>,
}

/// What clients do when they are refused.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryFile {
    /// Further tries after the first. Default 2, as the common SDKs.
    #[schemars(range(min = 0, max = 100))]
    pub tries: Option<u32>,
    /// Whether they wait as long as they are told. Default true; otherwise half a second that doubles.
    pub obeys: Option<bool>,
}

/// Something that happens: `at_s` and one thing. With `for_s` it ends by itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EventFile {
    /// When, seconds.
    #[schemars(required, range(min = 0, max = 604_800), extend("x-required" = true))]
    pub at_s: Option<f64>,
    /// It is over after so many seconds. Default: it lasts.
    #[schemars(range(min = 0, max = 604_800))]
    pub for_s: Option<f64>,
    /// Of a drill on a config: whose replica is meant. Default: replicas are numbered through all deployments.
    #[schemars(length(min = 1, max = 128))]
    pub deployment: Option<String>,
    /// This replica dies, with all that runs on it. The first is 0.
    #[schemars(range(min = 0, max = 999))]
    pub lose: Option<u16>,
    /// This replica is back, empty.
    #[schemars(range(min = 0, max = 999))]
    pub back: Option<u16>,
    /// This replica becomes slow.
    #[schemars(range(min = 0, max = 999))]
    pub slow: Option<u16>,
    /// The share of its speed at which the slow replica works. Default 0.5.
    #[schemars(range(min = 0.01, max = 1))]
    pub to: Option<f64>,
    /// The whole fleet works at this share of its speed.
    #[schemars(range(min = 0.01, max = 1))]
    pub capacity: Option<f64>,
    /// An operator takes this replica out of service; what runs there goes on.
    #[schemars(range(min = 0, max = 999))]
    pub drain: Option<u16>,
    /// An operator puts it back.
    #[schemars(range(min = 0, max = 999))]
    pub undrain: Option<u16>,
    /// Engine metrics stop coming, or come again.
    pub metrics: Option<MetricsFile>,
    /// The gateway is told to act as if this share of its capacity were gone; needs `for_s`.
    #[schemars(range(min = 0, max = 0.95))]
    pub pressure: Option<f64>,
    /// The gateway reads its configuration again.
    pub reload: Option<bool>,
    /// Another process of the gateway takes over what comes, with the budgets and what was learnt (`--upgrade`); the old one
    /// finishes what it has.
    pub upgrade_gateway: Option<bool>,
    /// The gateway is told to end (SIGTERM): it takes connections for its lame-duck time and finishes what it has. So
    /// many seconds after it is gone another one is started.
    #[schemars(range(min = 0, max = 600))]
    pub restart_gateway_s: Option<f64>,
    /// The gateway's process dies, with all that it held, and another one is there after so many seconds.
    #[schemars(range(min = 0, max = 600))]
    pub kill_gateway_s: Option<f64>,
    /// So many requests at one moment, drawn as those of the named `traffic`.
    #[schemars(range(min = 1, max = 100_000))]
    pub herd: Option<u32>,
    /// Of which traffic the herd is.
    #[schemars(length(min = 1, max = 60))]
    pub traffic: Option<String>,
}

/// Engine metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MetricsFile {
    /// They stop.
    Frozen,
    /// They come again.
    Back,
}

/// A condition: one measure, and whose or when.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PassFile {
    /// At least this share of what is offered is served within the SLO, 0 … 1.
    #[schemars(range(min = 0, max = 1))]
    pub attainment: Option<f64>,
    /// At least so many requests per second are served within the SLO.
    #[schemars(range(min = 0, max = 100_000))]
    pub goodput_per_s: Option<f64>,
    /// At most this share is refused for load (503).
    #[schemars(range(min = 0, max = 1))]
    pub shed_max: Option<f64>,
    /// At least this share is refused for load: proves that the drill presses at all.
    #[schemars(range(min = 0, max = 1))]
    pub shed_min: Option<f64>,
    /// No priority request is refused for load while a regular one that is at least as large is started.
    pub shed_order: Option<bool>,
    /// From `after_s` on, `attainment` (default 0.99) is reached for good within so many seconds.
    #[schemars(range(min = 0, max = 604_800))]
    pub recovery_s: Option<f64>,
    /// The moment from which recovery counts, seconds.
    #[schemars(range(min = 0, max = 604_800))]
    pub after_s: Option<f64>,
    /// At most this share is refused for the account's own limits (429).
    #[schemars(range(min = 0, max = 1))]
    pub limited_max: Option<f64>,
    /// At least this share is.
    #[schemars(range(min = 0, max = 1))]
    pub limited_min: Option<f64>,
    /// Time to first token, ms, at `percentile`.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub ttft_ms: Option<f64>,
    /// Mean time per further token, ms, at `percentile`.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub token_gap_ms: Option<f64>,
    /// Which percentile. Default 99.
    #[schemars(range(min = 0, max = 100))]
    pub percentile: Option<f64>,
    /// Jain's index of the tokens served to the named `accounts`, 1 = equal.
    #[schemars(range(min = 0, max = 1))]
    pub fairness: Option<f64>,
    /// At most this share of what the engines compute is for requests that miss.
    #[schemars(range(min = 0, max = 1))]
    pub waste: Option<f64>,
    /// At most so many tries per request.
    #[schemars(range(min = 1, max = 100))]
    pub tries_per_request: Option<f64>,
    /// The generated-token limit of the named `accounts` ends at least so many times where it began.
    #[schemars(range(min = 0, max = 1000))]
    pub limit_growth: Option<f64>,
    /// Of this tier only.
    pub tier: Option<TierFile>,
    /// Of these accounts only.
    #[schemars(length(min = 1, max = 60))]
    pub accounts: Option<String>,
    /// Of what arrives from then on.
    #[schemars(range(min = 0, max = 604_800))]
    pub from_s: Option<f64>,
    /// Of what arrives before.
    #[schemars(range(min = 0, max = 604_800))]
    pub until_s: Option<f64>,
}

/// When to stop early.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StopFile {
    /// Stop when fewer than this share of the priority requests of the last 15 s were served within the SLO.
    #[schemars(range(min = 0, max = 1))]
    pub priority_below: Option<f64>,
}
