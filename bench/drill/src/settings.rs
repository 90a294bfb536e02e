//! The fleets and workloads that are judged: the conversations of the main figures, and the profiles on which the same
//! constants have to hold.
//!
//! Load 1 of a setting is the knee of its fleet without any control: the highest rate at which 99 % of the requests
//! still meet the service level, over three seeds. Past it there is no middle: the queue grows without end. The knees
//! below were found by [`knee`], that of `chat` is the published one of a single replica, four times (found: 26.2).

pub mod families;

use std::time::Duration;

use crate::play::play;
use crate::policy::Policy;
use crate::scenario::fleet::{Deployment, Model};
use crate::scenario::{
    Accounts, Client, Incident, Prefixes, SHED_SHARE_MAX, SHUTDOWN, Scenario, Senders, Source,
};
use engine::behaviour::Behaviour;
use engine::profile::{LLAMA_8B_A100, PROFILES, Profile};
use engine::workload::{Size, Workload};

/// A fleet, its workload, and what load 1 is on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    /// What it is called.
    pub name: &'static str,
    /// The profile's name.
    pub profile: &'static str,
    /// Replicas.
    pub replicas: u16,
    /// Sizes of requests.
    pub workload: Workload,
    /// Requests per second of load 1.
    pub knee_per_s: f64,
    /// Seconds before requests are judged, and in all.
    pub warm_up_s: u64,
    /// No request arrives after it.
    pub end_s: u64,
    /// What prompts share.
    pub prefixes: Prefixes,
    /// Tokens per decoding step.
    pub decode_tokens: u32,
    /// Accounts.
    pub accounts: u32,
    /// Whether an engine that tells its slots may do so.
    pub tells_slots: bool,
    /// KV tokens, where they differ from the profile's.
    pub kv_tokens: Option<u32>,
    /// What its engines do besides computing steps.
    pub behaviour: Behaviour,
    /// One way between gateway and engines, and the mean of what comes on top; milliseconds.
    pub network_ms: (f64, f64),
    /// Percent of the profile's speed, replica by replica, over and over; empty: all at 100.
    pub speeds: &'static [u16],
    /// Accounts that send by themselves.
    pub senders: Option<Senders>,
    /// Whether the gateway reads engine metrics.
    pub scraped: bool,
    /// Most tokens computed in one step, where they differ from the profile's.
    pub step_tokens: Option<u32>,
}

impl Setting {
    /// Conversations on four 8B replicas: what figures are about unless they say otherwise.
    pub const CHAT: Self = Self {
        name: "chat",
        profile: "8b-a100",
        replicas: 4,
        workload: Workload::Azure,
        knee_per_s: 25.6,
        warm_up_s: 60,
        end_s: 240,
        prefixes: Prefixes::None,
        decode_tokens: 1,
        accounts: 40,
        tells_slots: true,
        kv_tokens: None,
        behaviour: Behaviour::PLAIN,
        network_ms: (0.5, 0.0),
        speeds: &[],
        senders: None,
        scraped: true,
        step_tokens: None,
    };

    /// The others.
    pub const OTHERS: [Self; 10] = [
        Self { name: "70b", profile: "70b-h100-tp8", knee_per_s: 41.0, ..Self::CHAT },
        // Memory binds before tokens come late.
        Self {
            name: "reasoning",
            replicas: 2,
            workload: Workload::Reasoning,
            knee_per_s: 1.3,
            warm_up_s: 300,
            end_s: 1_500,
            ..Self::CHAT
        },
        // One prompt of 80,000 tokens slows its neighbours for twenty seconds on an idle fleet too, so there is no rate
        // at which 99 % attain; load 1 is the rate of the highest goodput.
        Self {
            name: "long-context",
            workload: Workload::LongContext,
            knee_per_s: 1.5,
            warm_up_s: 120,
            end_s: 900,
            ..Self::CHAT
        },
        Self { name: "cached", knee_per_s: 73.0, prefixes: Prefixes::Pool { prompts: 100 }, ..Self::CHAT },
        Self { name: "four-per-chunk", decode_tokens: 4, knee_per_s: 34.5, ..Self::CHAT },
        Self { name: "one-account", accounts: 1, ..Self::CHAT },
        Self { name: "one-replica", replicas: 1, knee_per_s: 5.6, end_s: 600, ..Self::CHAT },
        Self {
            name: "four-slots",
            profile: "llamacpp-4",
            knee_per_s: 1.4,
            warm_up_s: 120,
            end_s: 900,
            ..Self::CHAT
        },
        // The same when nobody asks it for its slots, so that they have to be found.
        Self {
            name: "four-slots-untold",
            profile: "llamacpp-4",
            knee_per_s: 1.4,
            warm_up_s: 120,
            end_s: 900,
            tells_slots: false,
            // As a real one does: slot by slot.
            behaviour: Behaviour { any_order: true, ..Behaviour::PLAIN },
            ..Self::CHAT
        },
        // Prompts too short to teach a prefill rate.
        Self {
            name: "unknown-rate",
            workload: Workload::Fixed(Size { prompt_tokens: 200, output_tokens: 211 }),
            knee_per_s: 99.0,
            ..Self::CHAT
        },
    ];

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::CHAT].into_iter().chain(Self::OTHERS).find(|setting| setting.name == name)
    }

    /// What its engines are like.
    #[must_use]
    pub fn engine(&self) -> Profile {
        let profile = Profile::named(self.profile).unwrap_or(LLAMA_8B_A100);
        let kv_tokens = self.kv_tokens.unwrap_or(profile.kv_tokens);
        let tells_slots = profile.tells_slots && self.tells_slots;
        Profile {
            decode_tokens: self.decode_tokens,
            kv_tokens,
            tells_slots,
            step_tokens_max: self.step_tokens.unwrap_or(profile.step_tokens_max),
            behaviour: self.behaviour,
            ..profile
        }
    }

    fn paces(&self) -> Vec<(Duration, Incident)> {
        let speeds = self.speeds.iter().cycle().zip(0..self.replicas);
        speeds.map(|(percent, replica)| (Duration::ZERO, Incident::Pace(replica, *percent))).collect()
    }

    /// Its traffic at `load` times the knee: Poisson arrivals, 30 % priority, everything streams.
    #[must_use]
    pub fn source(&self, load: f64) -> Source {
        Source {
            rate_per_s: load * self.knee_per_s,
            cv: 1.0,
            senders: self.senders,
            steps: Vec::new(),
            model: 0,
            accounts: Accounts { first: 0, count: self.accounts, zipf: 1.0 },
            priority: 0.3,
            flex: 0.0,
            streaming: 1.0,
            workload: self.workload,
            context: self.engine().context,
            prefixes: self.prefixes,
            client: Client::default(),
            trace: None,
        }
    }

    /// A drill of this setting with arrivals of that variation.
    #[must_use]
    pub fn scenario(&self, seed: u64, load: f64, cv: f64) -> Scenario {
        Scenario {
            seed,
            deployments: vec![Deployment {
                scrape: self.scraped.then_some(Duration::from_secs(1)),
                ..Deployment::of(self.engine(), self.replicas)
            }],
            models: vec![Model::only()],
            sources: vec![Source { cv, ..self.source(load) }],
            budgets: Vec::new(),
            requests: Vec::new(),
            shed_share_max: SHED_SHARE_MAX,
            shutdown: SHUTDOWN,
            weights: Vec::new(),
            incidents: self.paces(),
            warm_up: Duration::from_secs(self.warm_up_s),
            end: Duration::from_secs(self.end_s),
            drain: Duration::from_secs(self.end_s.max(120)),
            network: Duration::from_secs_f64(self.network_ms.0 / 1e3),
            jitter: Duration::from_secs_f64(self.network_ms.1 / 1e3),
            only: None,
            reports_cached: true,
        }
    }
}

/// The knee of a setting by bisection between `low` and `high` requests per second, to a hundredth of it.
#[must_use]
pub fn knee(setting: &Setting, mut low: f64, mut high: f64, seeds: &[u64]) -> f64 {
    debug_assert!(PROFILES.iter().any(|profile| profile.name == setting.profile));
    while high - low > 0.01 * low {
        let rate = f64::midpoint(low, high);
        let load = rate / setting.knee_per_s;
        let attained = seeds
            .iter()
            .map(|&seed| play(&setting.scenario(seed, load, 1.0), &Policy::NoControl).attained_of(|_| true));
        if attained.sum::<f64>() >= 0.99 * seeds.len() as f64 { low = rate } else { high = rate }
    }
    low
}
