//! The conditions of a drill: what is measured, of which requests, and its bound.

use std::time::Duration;

use shedder::Tier;

use crate::run::Ended;

/// What is measured, and its bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measure {
    /// At least this share within the service level.
    Attainment(f64),
    /// At least so many requests per second within the service level.
    Goodput(f64),
    /// At most this share refused for load.
    ShedMax(f64),
    /// At least this share refused for load.
    ShedMin(f64),
    /// No priority request refused while a larger regular one starts.
    ShedOrder,
    /// Attains again soon.
    Recovery {
        /// Within so many seconds,
        within_s: f64,
        /// counted from here,
        after_s: f64,
        /// at least this share.
        attainment: f64,
    },
    /// At most this share refused for the account's limits.
    LimitedMax(f64),
    /// At least this share.
    LimitedMin(f64),
    /// Time to first token.
    Ttft {
        /// 0 … 1.
        percentile: f64,
        /// At most.
        max_ms: f64,
    },
    /// Mean time per further token.
    TokenGap {
        /// 0 … 1.
        percentile: f64,
        /// At most.
        max_ms: f64,
    },
    /// At least this index of Jain.
    Fairness(f64),
    /// At most this share of the work for requests that miss.
    Waste(f64),
    /// At most so many tries per request.
    Tries(f64),
    /// The limit ends at least so many times where it began.
    LimitGrowth(f64),
}

/// Which requests.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Of {
    /// Of one tier.
    pub tier: Option<Tier>,
    /// Of these accounts: the first, and how many.
    pub accounts: Option<(u32, u32)>,
    /// Their name.
    pub group: Option<String>,
    /// Arriving from then on.
    pub from: Option<Duration>,
    /// Arriving before.
    pub until: Option<Duration>,
}

/// A condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// What, and how much.
    pub measure: Measure,
    /// Of which requests.
    pub of: Of,
}

impl Of {
    /// Whether it is one of them.
    #[must_use]
    pub fn takes(&self, ended: &Ended) -> bool {
        self.tier.is_none_or(|tier| tier == ended.tier)
            && self.accounts.is_none_or(|(first, count)| (first..first + count).contains(&ended.account))
            && self.from.is_none_or(|from| ended.tried >= from)
            && self.until.is_none_or(|until| ended.tried < until)
    }

    /// The part of the condition in words that names the requests; empty for all.
    pub(crate) fn words(&self) -> String {
        let mut words = String::new();
        let tier = self.tier.map(Tier::name);
        for part in [tier, self.group.as_deref()].into_iter().flatten() {
            words.push_str(&format!(" of {part}"));
        }
        match (self.from, self.until) {
            (Some(from), Some(until)) => {
                words.push_str(&format!(", {} … {} s", from.as_secs_f64(), until.as_secs_f64()));
            }
            (Some(from), None) => words.push_str(&format!(", from {} s", from.as_secs_f64())),
            (None, Some(until)) => words.push_str(&format!(", until {} s", until.as_secs_f64())),
            (None, None) => {}
        }
        words
    }
}
