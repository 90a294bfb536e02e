//! What load to offer: to whom, how much, of which kind, for how long, and what counts as good.

use std::net::SocketAddr;
use std::time::Duration;

use engine::profile::Profile;
use engine::workload::{Arrivals, Size, Workload};

/// A run of the load generator. [`LoadPlan::to`] gives one with defaults.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// Where the gateway (or an engine) listens.
    pub target: SocketAddr,
    /// Path of a chat completions or completions API.
    pub path: String,
    /// Model to name in the requests.
    pub model: String,
    /// When requests are sent.
    pub mode: Mode,
    /// How large they are.
    pub workload: Workload,
    /// Who sends them; each request is one caller's, drawn by weight. At least one.
    pub callers: Vec<Caller>,
    /// Share of requests that stream, 0 … 1.
    pub streaming_share: f64,
    /// Share of the streaming requests that ask for usage, 0 … 1.
    pub usage_share: f64,
    /// Share of the streaming requests whose client leaves in the middle, 0 … 1.
    pub abandon_share: f64,
    /// A system prompt that several requests have in common.
    pub prefix: Option<Prefix>,
    /// Bodies to make beforehand and then to repeat; 0: each request is different. Making one takes longer than some
    /// gateways take to serve it.
    pub bodies: usize,
    /// What counts as attained.
    pub slo: Slo,
    /// What a refused client does.
    pub retry: Retry,
    /// Whether answers come from a simulated engine and are compared with what it must have said.
    pub check_text: bool,
    /// Further request headers.
    pub headers: Vec<(String, String)>,
    /// Decides everything that is drawn.
    pub seed: u64,
    /// No more requests than this.
    pub requests_max: u64,
    /// A request without an end after this is given up.
    pub timeout: Duration,
    /// No more requests at once than this; what would be one too many is not sent and counts as `unsent`.
    pub in_flight_max: usize,
    /// Keep each request's outcome in the report (about 200 bytes each).
    pub keep_outcomes: bool,
}

/// When requests are sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Mode {
    /// At drawn times, whatever becomes of the ones before: what users do.
    Open {
        /// One after the other.
        stages: Vec<Stage>,
    },
    /// On each connection the next request when the last one is answered: what benchmarks of cost need. It cannot
    /// show overload, since it slows down with what it measures.
    Closed {
        /// Connections, each with one request at a time.
        connections: usize,
        /// For so long.
        duration: Duration,
    },
}

/// A part of an open run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stage {
    /// How often.
    pub arrivals: Arrivals,
    /// For so long.
    pub duration: Duration,
}

/// Someone who sends requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Caller {
    /// Under which its requests are summed up, as `priority`.
    pub tier: String,
    /// API key, sent as bearer token.
    pub key: Option<String>,
    /// Value of `service_tier` in the body.
    pub service_tier: Option<String>,
    /// Share of the requests, relative to the other callers.
    pub weight: f64,
}

impl Caller {
    /// A caller of the tier `regular` without key.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { tier: "regular".to_owned(), key: None, service_tier: None, weight: 1.0 }
    }
}

/// A system prompt in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// Its length; counts on top of the workload's prompt.
    pub tokens: u32,
    /// How many different ones there are, each as frequent.
    pub groups: u32,
}

/// When an answer came in time.
#[derive(Debug, Clone, PartialEq)]
pub struct Slo {
    /// Time to the first token, from when the request was due to be sent.
    pub ttft: Duration,
    /// Mean time per token after the first.
    pub tpot: Duration,
    /// Adds what the prompt's prefill takes on an idle replica of this profile: a long prompt cannot be faster.
    pub prefill: Option<Profile>,
}

impl Slo {
    /// Whether an answer attained this. Without a visible first token (not streaming) the whole answer must come in
    /// the time that both bounds together allow.
    #[must_use]
    pub fn attained(
        &self,
        size: Size,
        ttft: Option<Duration>,
        tpot: Option<Duration>,
        total: Duration,
    ) -> bool {
        let own =
            self.prefill.as_ref().map_or(Duration::ZERO, |profile| profile.idle_prefill(size.prompt_tokens));
        let ttft_max = self.ttft + own;
        match ttft {
            Some(ttft) => ttft <= ttft_max && tpot.is_none_or(|tpot| tpot <= self.tpot),
            None => total <= ttft_max + self.tpot * size.output_tokens.saturating_sub(1),
        }
    }
}

/// What a client does after a 429, a 503 or a failed connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Further attempts.
    pub attempts_max: u32,
    /// Wait as told by `retry-after-ms` or `retry-after` and obey `x-should-retry`; otherwise, and where nothing was
    /// said, wait 0.5 s, 1 s, 2 s … 8 s.
    pub obedient: bool,
}

impl LoadPlan {
    /// Ten seconds of one chat request per second, streaming, nobody retries.
    #[must_use]
    pub fn to(target: SocketAddr) -> Self {
        let stage =
            Stage { arrivals: Arrivals { rate_per_s: 1.0, cv: 1.0 }, duration: Duration::from_secs(10) };
        Self {
            target,
            path: "/v1/chat/completions".to_owned(),
            model: "sim".to_owned(),
            mode: Mode::Open { stages: vec![stage] },
            workload: Workload::Chat,
            callers: vec![Caller::anonymous()],
            streaming_share: 1.0,
            usage_share: 0.5,
            abandon_share: 0.0,
            prefix: None,
            bodies: 0,
            slo: Slo { ttft: Duration::from_secs(2), tpot: Duration::from_millis(100), prefill: None },
            retry: Retry { attempts_max: 0, obedient: true },
            check_text: true,
            headers: Vec::new(),
            seed: 1,
            requests_max: 10_000_000,
            timeout: Duration::from_secs(600),
            in_flight_max: 8192,
            keep_outcomes: false,
        }
    }

    /// The tiers of the callers, each once, in order of appearance.
    #[must_use]
    pub fn tiers(&self) -> Vec<String> {
        let mut tiers: Vec<String> = Vec::new();
        for caller in &self.callers {
            if !tiers.contains(&caller.tier) {
                tiers.push(caller.tier.clone());
            }
        }
        tiers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::profile::LLAMA_8B_A100;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_answer_attains_with_both_bounds_or_with_their_sum() {
        let slo = Slo { ttft: 2000 * MS, tpot: 100 * MS, prefill: None };
        let size = Size { prompt_tokens: 100, output_tokens: 11 };

        assert!(slo.attained(size, Some(2000 * MS), Some(100 * MS), 3000 * MS));
        assert!(!slo.attained(size, Some(2001 * MS), Some(10 * MS), 3000 * MS));
        assert!(!slo.attained(size, Some(10 * MS), Some(101 * MS), 3000 * MS));
        assert!(slo.attained(size, None, None, 3000 * MS));
        assert!(!slo.attained(size, None, None, 3001 * MS));
    }

    #[test]
    fn the_own_prefill_extends_the_bound() {
        let slo = Slo { ttft: 2000 * MS, tpot: 100 * MS, prefill: Some(LLAMA_8B_A100) };
        let long = Size { prompt_tokens: 100_000, output_tokens: 2 };
        assert!(
            slo.attained(long, Some(9000 * MS), None, 9000 * MS),
            "100,000 tokens take over seven seconds"
        );
        let short = Size { prompt_tokens: 10, output_tokens: 2 };
        assert!(!slo.attained(short, Some(9000 * MS), None, 9000 * MS));
    }
}
