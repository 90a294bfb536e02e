//! How engines and the network before them behave, as a scenario file says it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resolve::{Resolver, Step};
use engine::behaviour::{Behaviour, Lag, Order, Pause};
use engine::profile::Profile;

/// What engines do besides computing steps. Default: nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BehaviourFile {
    /// Share of the profile's speed: 0.3 of an A100 is about an L4. Default 1.
    #[schemars(range(min = 0.01, max = 100))]
    pub speed: Option<f64>,
    /// In the API server before the scheduler knows of a request, ms. Default: the profile's, 15.6 of most.
    #[schemars(range(min = 0, max = 60_000))]
    pub api_ms: Option<f64>,
    /// Before the scheduler knows of a request, on top: a busy API server, a tokenizer, a proxy. Default: nothing.
    pub lag: Option<LagFile>,
    /// The same for a share of the requests, on top: pictures, adapters that are loaded, grammars that are compiled.
    pub some_lag: Option<LagFile>,
    /// Microseconds of the API server's one thread for each token of a prompt. Default 0.
    #[schemars(range(min = 0, max = 100_000))]
    pub api_us_per_token: Option<f64>,
    /// Microseconds of it for each event. Default 0.
    #[schemars(range(min = 0, max = 100_000))]
    pub api_us_per_event: Option<f64>,
    /// Microseconds from the end of a prompt's computation to its first token, for each of its tokens: the KV travels to
    /// another card. Default 0.
    #[schemars(range(min = 0, max = 100_000))]
    pub transfer_us_per_token: Option<f64>,
    /// The whole engine stands still, again and again.
    pub pause: Option<PauseFile>,
    /// Some steps take longer.
    pub stall: Option<StallFile>,
    /// Decoding sequences are padded up to a multiple of this. Default: they are not.
    #[schemars(range(min = 1, max = 1024))]
    pub graph_sequences: Option<u32>,
    /// A batch that is larger than every CUDA graph takes longer.
    pub eager: Option<EagerFile>,
    /// Which waiting prompt is next. Default `first-come`.
    pub order: Option<OrderFile>,
    /// While a prompt can be computed no answer goes on. Default false.
    pub prefill_first: Option<bool>,
    /// Tokens that a sequence drafts in each step, the certain one included. Default 1.
    #[schemars(range(min = 1, max = 64))]
    pub drafted: Option<u32>,
    /// Probability that a drafted token is right, 0 … 1. Default 1.
    #[schemars(range(min = 0, max = 1))]
    pub acceptance: Option<f64>,
    /// Tokens are told after so many steps. Default 1.
    #[schemars(range(min = 1, max = 1024))]
    pub steps_per_event: Option<u32>,
    /// The tokens of one step are told in any order, as by engines that tell them slot by slot. Default false.
    pub any_order: Option<bool>,
    /// Most sequences at once. Default: the profile's.
    #[schemars(range(min = 1, max = 100_000))]
    pub slots: Option<u32>,
    /// Whether it tells that number to who asks. Default: the profile's.
    pub tells_slots: Option<bool>,
    /// Most tokens computed in one step. Default: the profile's.
    #[schemars(range(min = 16, max = 1_000_000))]
    pub step_tokens: Option<u32>,
}

/// A delay.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LagFile {
    /// Its mean, ms.
    #[schemars(required, range(min = 0, max = 600_000), extend("x-required" = true))]
    pub ms: Option<f64>,
    /// Coefficient of variation of its lognormal distribution. Default 0: always the mean.
    #[schemars(range(min = 0, max = 10))]
    pub cv: Option<f64>,
    /// Share of the requests that have it, 0 … 1. Default 1.
    #[schemars(range(min = 0, max = 1))]
    pub share: Option<f64>,
}

/// A standstill that comes again and again.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PauseFile {
    /// From the beginning of one to that of the next, seconds; the first comes after so long.
    #[schemars(required, range(min = 0.1, max = 86_400), extend("x-required" = true))]
    pub every_s: Option<f64>,
    /// How long it lasts, ms.
    #[schemars(required, range(min = 0, max = 600_000), extend("x-required" = true))]
    pub ms: Option<f64>,
}

/// Steps that take longer.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StallFile {
    /// Share of the steps, 0 … 1.
    #[schemars(required, range(min = 0, max = 1), extend("x-required" = true))]
    pub share: Option<f64>,
    /// How much longer, ms.
    #[schemars(required, range(min = 0, max = 60_000), extend("x-required" = true))]
    pub ms: Option<f64>,
}

/// Batches without a CUDA graph.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EagerFile {
    /// Those of more than so many sequences.
    #[schemars(required, range(min = 1, max = 100_000), extend("x-required" = true))]
    pub above: Option<u32>,
    /// How many times as long their steps take.
    #[schemars(required, range(min = 1, max = 100), extend("x-required" = true))]
    pub factor: Option<f64>,
}

/// Which waiting prompt an engine takes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OrderFile {
    /// The one that came first.
    FirstCome,
    /// The one that came last.
    LastCome,
    /// Any.
    Random,
}

impl From<OrderFile> for Order {
    fn from(order: OrderFile) -> Self {
        match order {
            OrderFile::FirstCome => Self::FirstCome,
            OrderFile::LastCome => Self::LastCome,
            OrderFile::Random => Self::Random,
        }
    }
}

/// Gives `profile` the behaviour of the file.
pub(super) fn apply(file: &BehaviourFile, profile: &mut Profile, resolver: &mut Resolver<'_>) {
    let path = |key| [Step::Key("fleet"), Step::Key("behaviour"), Step::Key(key)];
    if file.lag.as_ref().is_some_and(|lag| lag.share.is_some()) {
        resolver.fault(
            &path("lag"),
            "is of all requests and takes no share; for a share of them there is some_lag",
        );
    }
    if file.acceptance.is_some() && file.drafted.is_none_or(|drafted| drafted < 2) {
        resolver.fault(
            &path("acceptance"),
            "needs drafted, 2 or more: with one token per step nothing is drafted",
        );
    }
    let pause = file.pause.as_ref().map(|pause| Pause {
        every_ms: pause.every_s.unwrap_or_default() * 1e3,
        ms: pause.ms.unwrap_or_default(),
    });
    if pause.is_some_and(|pause| pause.ms >= pause.every_ms) {
        resolver.fault(&path("pause"), "lasts as long as every_s or longer: the engine would never compute");
    }
    let lag = |lag: &Option<LagFile>| {
        lag.as_ref().map_or(Lag::NONE, |lag| Lag {
            mean_ms: lag.ms.unwrap_or_default(),
            cv: lag.cv.unwrap_or_default(),
        })
    };
    let some_share = file.some_lag.as_ref().map_or(0.0, |lag| lag.share.unwrap_or(1.0));
    profile.behaviour = Behaviour {
        speed: file.speed.unwrap_or(1.0),
        lag: lag(&file.lag),
        some_lag: (some_share, lag(&file.some_lag)),
        api_us_per_token: file.api_us_per_token.unwrap_or_default(),
        api_us_per_event: file.api_us_per_event.unwrap_or_default(),
        transfer_us_per_token: file.transfer_us_per_token.unwrap_or_default(),
        way_ms: 0.0,
        pause,
        stall: file
            .stall
            .as_ref()
            .map_or((0.0, 0.0), |stall| (stall.share.unwrap_or_default(), stall.ms.unwrap_or_default())),
        graph_sequences: file.graph_sequences.unwrap_or_default(),
        eager: file
            .eager
            .as_ref()
            .map(|eager| (eager.above.unwrap_or(u32::MAX), eager.factor.unwrap_or(1.0))),
        order: file.order.map_or(Order::FirstCome, Order::from),
        prefill_first: file.prefill_first.unwrap_or_default(),
        acceptance: file.acceptance.unwrap_or(1.0),
        steps_per_event: file.steps_per_event.unwrap_or(1),
        any_order: file.any_order.unwrap_or_default(),
    };
    profile.api_ms = file.api_ms.unwrap_or(profile.api_ms);
    profile.decode_tokens = file.drafted.unwrap_or(profile.decode_tokens);
    profile.sequences_max = file.slots.unwrap_or(profile.sequences_max);
    profile.tells_slots = file.tells_slots.unwrap_or(profile.tells_slots);
    profile.step_tokens_max = file.step_tokens.unwrap_or(profile.step_tokens_max);
}
