//! A drill as data: the fleet, its traffic, and what goes wrong when.

pub mod fleet;
pub mod trace;
pub mod traffic;

use std::sync::Arc;
use std::time::Duration;

use shedder::Tier;

use engine::workload::Workload;
use fleet::{Deployment, Model, Requests, Spending};
use trace::Trace;

/// What a client wants: first token and mean time per further token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Slo {
    /// Time to first token; the request's own prefill on an idle replica comes on top.
    pub ttft: Duration,
    /// Mean time per output token after the first.
    pub tpot: Duration,
}

impl Default for Slo {
    fn default() -> Self {
        Self { ttft: Duration::from_secs(2), tpot: Duration::from_millis(100) }
    }
}

/// Accounts and how the requests of a source fall to them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Accounts {
    /// Number of the first; the others follow.
    pub first: u32,
    /// How many, at least 1.
    pub count: u32,
    /// Exponent of Zipf's law: account k gets a share ∝ 1 / k^zipf. 0: equal shares.
    pub zipf: f64,
}

/// Whose prompts begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefixes {
    /// Nobody's.
    None,
    /// The first `tokens` of a prompt are those of one of so many groups.
    System {
        /// Groups, at least 1.
        groups: u32,
        /// Tokens that a group shares.
        tokens: u32,
    },
    /// Every prompt is one of so many, whole.
    Pool {
        /// Prompts, at least 1.
        prompts: u32,
    },
    /// Each prompt continues an earlier one of its account, its answer included, with this probability in percent.
    Conversations {
        /// 0 … 100.
        continued: u32,
    },
}

/// How clients come back when they were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Further tries after the first.
    pub tries: u32,
    /// Whether they wait as long as they are told. Otherwise, and where nothing is told, half a second that doubles.
    pub obeys: bool,
}

/// How clients behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Client {
    /// `None`: a refusal is the end.
    pub retry: Option<Retry>,
    /// They leave when no token came for so long.
    pub patience: Option<Duration>,
}

/// Accounts that send by themselves: few of them make most of the load, and each has bursts and lengths of its own, as
/// clients of real services do (ServeGen, arXiv 2505.09999).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Senders {
    /// Coefficient of variation of the time between two requests of one account.
    pub cv: f64,
    /// How much the prompts of one account are longer than those of another: standard deviation of the logarithm.
    pub length_spread: f64,
}

/// A stream of requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Requests per second.
    pub rate_per_s: f64,
    /// Coefficient of variation of the time between two.
    pub cv: f64,
    /// Each account sends by itself; `cv` says nothing then.
    pub senders: Option<Senders>,
    /// From then on so many times the rate; in order of time.
    pub steps: Vec<(Duration, f64)>,
    /// The index of the model that they ask for.
    pub model: u16,
    /// Whose they are.
    pub accounts: Accounts,
    /// Share of priority requests, 0 … 1, drawn one by one.
    pub priority: f64,
    /// Share of flex requests, 0 … 1; both together at most 1.
    pub flex: f64,
    /// Share of streaming requests, 0 … 1.
    pub streaming: f64,
    /// Their sizes.
    pub workload: Workload,
    /// Prompts longer than this are cut: engines refuse what does not fit their context.
    pub context: u32,
    /// What their prompts share.
    pub prefixes: Prefixes,
    /// How their clients behave.
    pub client: Client,
    /// Requests that were recorded; they come when they came then, in place of drawn ones.
    pub trace: Option<Arc<Trace>>,
}

/// Something that happens to the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incident {
    /// A replica dies with all that runs on it.
    Lost(u16),
    /// It is back, empty.
    Back(u16),
    /// Engine metrics stop coming.
    MetricsFrozen,
    /// They come again.
    MetricsBack,
    /// A replica works at this many percent of its speed from now on; 100: as it is.
    Pace(u16, u16),
    /// An operator takes a replica out of service (true), or puts it back; what runs there goes on.
    Drained(u16, bool),
    /// The gateway is told to act as if so many percent of its capacity were gone, for so many seconds.
    Pressure(u16, u64),
    /// The gateway reads its configuration again. It has to change nothing.
    Reload,
    /// The gateway's process dies, with all that it held.
    GatewayLost,
    /// A new one takes connections and knows nothing of what was.
    GatewayBack,
    /// Another process of the gateway takes over what comes, with what was learnt; the old one finishes what it has.
    GatewayUpgraded,
    /// The gateway is told to end: it takes connections for its lame-duck time, finishes what it has, and so many
    /// milliseconds after it is gone a new one is started.
    GatewayRestarted(u64),
}

/// One way between gateway and engine where nothing else is said: two machines of one region.
pub const NETWORK: Duration = Duration::from_micros(500);

/// The gateway's default of [`Scenario::shed_share_max`].
pub const SHED_SHARE_MAX: f64 = 0.01;

/// How the gateway ends when it is told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shutdown {
    /// So long it still takes connections.
    pub lame_duck: Duration,
    /// So long after that what runs may take to finish.
    pub grace: Duration,
}

/// As the gateway does it unless it is configured otherwise.
pub const SHUTDOWN: Shutdown =
    Shutdown { lame_duck: Duration::from_secs(5), grace: Duration::from_secs(300) };

/// A drill without its policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Everything random follows from it.
    pub seed: u64,
    /// The engines, at least one deployment. Replicas are numbered through, from the first of the first on.
    pub deployments: Vec<Deployment>,
    /// What they serve, at least one.
    pub models: Vec<Model>,
    /// All traffic.
    pub sources: Vec<Source>,
    /// What accounts may spend; those that are not here have no limit.
    pub budgets: Vec<Spending>,
    /// How many requests accounts may send; those that are not here, as many as they like.
    pub requests: Vec<Requests>,
    /// The share of what others offer above which, when it is shed, limits do not grow.
    pub shed_share_max: f64,
    /// How the gateway ends.
    pub shutdown: Shutdown,
    /// Weights of accounts in the fairness of the queue; of those that are not here 1.
    pub weights: Vec<(u32, f64)>,
    /// What goes wrong; in any order.
    pub incidents: Vec<(Duration, Incident)>,
    /// Requests that arrive before are played and not judged.
    pub warm_up: Duration,
    /// No request arrives after it.
    pub end: Duration,
    /// What is still running so long after the end is cut off and counts as missed.
    pub drain: Duration,
    /// One way between gateway and engine.
    pub network: Duration,
    /// Mean of what comes on top of that, exponentially distributed, each way.
    pub jitter: Duration,
    /// Plays the requests of this tier only, the same that they would be among all.
    pub only: Option<Tier>,
    /// Whether the engines report prompt tokens that they had cached.
    pub reports_cached: bool,
}

impl Source {
    /// The share of its requests that ask for `tier`.
    #[must_use]
    pub fn share(&self, tier: Tier) -> f64 {
        match tier {
            Tier::Priority => self.priority,
            Tier::Regular => 1.0 - self.priority - self.flex,
            Tier::Flex => self.flex,
        }
    }

    /// The tier of a request, by a number drawn from 0 to 1.
    pub(crate) fn tier(&self, drawn: f64) -> Tier {
        if drawn < self.priority {
            Tier::Priority
        } else if drawn < self.priority + self.flex {
            Tier::Flex
        } else {
            Tier::Regular
        }
    }

    /// Requests per second at `now`.
    #[must_use]
    pub fn rate_at(&self, now: Duration) -> f64 {
        let factor =
            self.steps.iter().rev().find(|(from, _)| *from <= now).map_or(1.0, |(_, factor)| *factor);
        self.rate_per_s * factor
    }

    /// The moment by which `ahead` of time at the source's own rate has passed since `from`: sooner while its rate is
    /// raised, never while it is nothing for ever.
    #[must_use]
    pub fn after(&self, from: Duration, ahead: Duration) -> Option<Duration> {
        let (mut at, mut left) = (from, ahead.as_secs_f64());
        loop {
            let factor = self.rate_at(at) / self.rate_per_s;
            let until = self.steps.iter().map(|(step, _)| *step).find(|step| *step > at);
            let passes = until.map_or(f64::INFINITY, |until| (until - at).as_secs_f64() * factor);
            if passes >= left && factor > 0.0 {
                return Duration::try_from_secs_f64(left / factor).ok().and_then(|more| at.checked_add(more));
            }
            left -= passes;
            at = until?;
        }
    }
}

impl Scenario {
    /// The first deployment: the only one unless a config says otherwise.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    #[expect(clippy::expect_used, reason = "whoever makes a scenario gives it a deployment")]
    pub fn fleet(&self) -> &Deployment {
        self.deployments.first().expect("a scenario has a deployment")
    }

    /// The same, to change it.
    ///
    /// # Panics
    /// There is none.
    #[expect(clippy::expect_used, reason = "whoever makes a scenario gives it a deployment")]
    pub fn fleet_mut(&mut self) -> &mut Deployment {
        self.deployments.first_mut().expect("a scenario has a deployment")
    }

    /// Replicas of all deployments.
    #[must_use]
    pub fn replicas(&self) -> u16 {
        self.deployments.iter().map(|deployment| deployment.replicas).sum()
    }

    /// Of each replica its deployment, in their order.
    pub fn replicas_by_deployment(&self) -> impl Iterator<Item = &Deployment> {
        self.deployments
            .iter()
            .flat_map(|deployment| std::iter::repeat_n(deployment, usize::from(deployment.replicas)))
    }

    /// The seconds in which judged requests arrive.
    #[must_use]
    pub fn judged_s(&self) -> f64 {
        self.end.saturating_sub(self.warm_up).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Setting;

    #[test]
    fn the_last_step_that_has_begun_counts() {
        let at = Duration::from_secs;
        let steps = vec![(at(10), 3.0), (at(20), 0.5)];
        let source = Source { rate_per_s: 2.0, steps, ..Setting::CHAT.source(1.0) };
        assert_eq!([0, 10, 19, 20].map(|second| source.rate_at(at(second))), [2.0, 6.0, 6.0, 1.0]);
    }
}
