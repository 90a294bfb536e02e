//! The predicted wait W of a request that cannot start at once.
//!
//! ```text
//! W = max( tokens ahead / (Σ prefill rates − what goes to higher tiers) + least (backlog / prefill rate),
//!          requests ahead / dispatches per second of the last 5 s      where places or KV are short )
//! ```
//!
//! The sums are over the replicas in service. Ahead of a request is everything of a higher tier, what its
//! own account has waiting, and of every other account of its tier no more than its fair share meanwhile:
//! an account is not refused for a queue that another one filled. The request's own prefill is not waiting. Both sums are
//! multiplied by how much longer waits have turned out than predicted (`wait_correction`).
//! Requests of higher tiers that come meanwhile are served first: half of the prompt tokens that they brought in the
//! last second is taken off the rate, and at least a fifth of it is left. (All of it would be right in an overload that
//! lasts, and refuse in every burst what can still be served; see `TRIED.md`.)
//!
//! While no prefill rate is known, the rate at which prompts started while others waited for them stands for the sum, and
//! without that the first term is left out; a replica whose rate is unknown counts as the mean of the others. An empty queue before an idle replica is no wait at all.

use std::time::Duration;

use super::admit::seconds;
use super::wait_correction::Size;
use super::{CAME_SPAN, Shedder};
use crate::decision::Reason;
use crate::offer::{Offer, RequestId};
use crate::replica::{Block, Replica};
use crate::requests::{Request, Stage};
use crate::tier::Tier;

/// The part of what higher tiers bring that is taken off the rate of a lower one.
const HIGHER_COUNTS: f64 = 0.5;
/// The part of the rate that is left to it at least.
const LEFT_LEAST: f64 = 0.2;

/// Prompts of more than this part of a pace are large: they do not fit beside others.
pub(super) const LARGE: f64 = 0.5;

/// The part of the prefill rate that running answers leave to prompts in an overload, about.
const PRESSED: f64 = 0.6;

/// No more requests are counted before one that waits.
pub const LINE_MAX: usize = 1_000;

/// What is before a request that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Requests, at most [`LINE_MAX`].
    pub requests: u32,
    /// How long until its own turn, by the rate of starts of the last seconds. `None`: nothing was started.
    pub wait: Option<Duration>,
}

/// Both terms of W.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Prediction {
    /// By prompt tokens; `None` while no rate is known.
    tokens: Option<f64>,
    /// By places; `None` when they are not what is short.
    places: Option<f64>,
}

impl Prediction {
    fn seconds(self) -> Option<f64> {
        match (self.tokens, self.places) {
            (Some(tokens), Some(places)) => Some(tokens.max(places)),
            (tokens, places) => tokens.or(places),
        }
    }
}

impl Shedder {
    /// The wait that `offer` would meet; zero when it would start at once or nothing can be said, the
    /// longest duration when no replica is in service or all lack what it needs. Nothing is changed. O(log n + replicas).
    #[must_use]
    pub fn predict_wait(&self, now: Duration, offer: &Offer) -> Duration {
        let may_serve = |replica: &Replica| self.serves(replica, now) && replica.may_have(now, offer.needs);
        if self.closed || !self.replicas.iter().any(may_serve) {
            return Duration::MAX;
        }
        let block =
            Tier::ALL.into_iter().filter(|&tier| tier <= offer.tier).find_map(|tier| self.blocked[tier]);
        self.prediction(now, offer, block).seconds().map_or(Duration::ZERO, seconds)
    }

    /// Whether waiting is pointless, and by which prediction.
    pub(super) fn too_late(
        &self,
        now: Duration,
        request: &Request,
        block: Block,
    ) -> Option<(Reason, Option<Duration>)> {
        let offer = &request.offer;
        let prediction = self.prediction(now, offer, Some(block));
        let wait = prediction.seconds().map(seconds);
        let left = request.wait_until.saturating_sub(now);
        if left.is_zero() {
            let reason = if request.until_client { Reason::Deadline } else { Reason::QueueTimeout };
            return Some((reason, wait));
        }
        let most = self.waits_max(offer.tier).0;
        let wait = wait?;
        if request.until_client && wait > left && wait <= most {
            Some((Reason::Deadline, Some(wait)))
        } else if wait > most {
            let by_places = prediction.places.unwrap_or(0.0) >= prediction.tokens.unwrap_or(0.0);
            Some((if by_places { Reason::Saturated } else { Reason::Predicted }, Some(wait)))
        } else {
            None
        }
    }

    /// How many requests are served before one that waits, about, and how long that takes where that can be said. `None`: it
    /// does not wait. No more than [`LINE_MAX`] are counted. O(log n + replicas + `LINE_MAX`).
    #[must_use]
    pub fn line_before(&self, now: Duration, id: RequestId) -> Option<Line> {
        let request = self.requests.get(id).filter(|request| matches!(request.stage, Stage::Waiting(_)))?;
        let offer = &request.offer;
        let in_tier = self.queues[offer.tier].ahead_of_waiting(request.place(), offer.weight, LINE_MAX);
        let above: u64 =
            offer.tier.above().map(|above| u64::from(self.queues[above].totals().requests)).sum();
        let requests = (in_tier + above).min(LINE_MAX as u64);
        let rate = self.start_rate(now);
        let wait = (rate > 0.0).then(|| seconds((requests + 1) as f64 / rate));
        Some(Line { requests: requests as u32, wait })
    }

    fn prediction(&self, now: Duration, offer: &Offer, block: Option<Block>) -> Prediction {
        let (tokens, requests) = self.ahead_of(offer);
        let correction = self.wait_correction.factor(offer.tier, self.size_of(offer));
        let tokens = correction * tokens as f64;
        let mut serving = self.replicas.iter().filter(|replica| self.serves(replica, now));
        if requests == 0 && serving.any(|replica| replica.active == 0) {
            return Prediction { tokens: Some(0.0), places: None };
        }
        let short = matches!(block, Some(Block::Places | Block::Memory | Block::Restricted));
        let by_tokens = match self.rates(now) {
            Some((sum, least)) => Some(tokens / self.left_by_higher(now, offer.tier, sum) + least),
            None if short => None,
            None => self.drain.rate().map(|rate| tokens / self.left_by_higher(now, offer.tier, rate)),
        };
        let by_places =
            (short && requests > 0).then(|| correction * requests as f64 / self.start_rate(now).max(1e-3));
        Prediction { tokens: by_tokens, places: by_places }
    }

    /// The sum of the prefill rates in service, and the least time for the backlog of one of them.
    fn rates(&self, now: Duration) -> Option<(f64, f64)> {
        let capacity = self.terms(now).capacity.max(0.01);
        let mean = self.mean_rate(now)?;
        let serving = self.replicas.iter().filter(|replica| self.serves(replica, now));
        let rates = serving.map(|replica| {
            let rate = capacity * replica.prefill.rate(now).unwrap_or(mean);
            (rate, replica.queued() / rate)
        });
        Some(rates.fold((0.0, f64::INFINITY), |(sum, least), (rate, wait)| (sum + rate, wait.min(least))))
    }

    /// Whether prompts come faster than they can be computed, by far or nearly; flex does not count, which comes to wait.
    /// False while no rate is known.
    pub(super) fn pressed(&self, now: Duration) -> bool {
        let at_once = Tier::Flex.above();
        let came: f64 = at_once.map(|tier| f64::from(self.came[tier].sum(now))).sum();
        let rate = self.rates(now).map(|(sum, _)| sum).or_else(|| self.drain.rate());
        rate.is_some_and(|rate| came / CAME_SPAN.as_secs_f64() > PRESSED * rate)
    }

    /// What of `rate` is left to `tier` by the requests of higher tiers that come meanwhile.
    fn left_by_higher(&self, now: Duration, tier: Tier, rate: f64) -> f64 {
        let came: f64 = tier.above().map(|above| f64::from(self.came[above].sum(now))).sum();
        (rate - HIGHER_COUNTS * came / CAME_SPAN.as_secs_f64()).max(LEFT_LEAST * rate)
    }

    /// Whether a prompt takes longer than a pace on every replica, so that it is computed alone.
    pub(super) fn goes_alone(&self, offer: &Offer) -> bool {
        self.longest_pace().is_some_and(|pace| f64::from(offer.uncached.least()) > pace)
    }

    /// Whether a prompt fits beside others on some replica. All are small while no rate is known.
    pub(super) fn size_of(&self, offer: &Offer) -> Size {
        let large = self.longest_pace().is_some_and(|pace| f64::from(offer.uncached.least()) > LARGE * pace);
        if large { Size::Large } else { Size::Small }
    }

    /// Prompt tokens of the longest pace of all replicas; `None` while no rate is known.
    fn longest_pace(&self) -> Option<f64> {
        let paces = self.replicas.iter().filter_map(|replica| replica.pace(self.tokens_per_chunk));
        paces.max_by(f64::total_cmp)
    }

    /// Tokens and requests that will be served before a newcomer.
    fn ahead_of(&self, offer: &Offer) -> (u64, u64) {
        let own = u64::from(offer.uncached.least());
        let queue = &self.queues[offer.tier];
        let (mut tokens, mut requests) = queue.ahead_of(offer.account, offer.user, offer.weight, own);
        for above in offer.tier.above() {
            let totals = self.queues[above].totals();
            tokens = tokens.saturating_add(totals.tokens);
            requests += u64::from(totals.requests);
        }
        (tokens, requests)
    }

    /// The mean prefill rate of the replicas whose rate is known.
    pub(super) fn mean_rate(&self, now: Duration) -> Option<f64> {
        let (mut sum, mut count) = (0.0, 0.0);
        for rate in self.replicas.iter().filter_map(|replica| replica.prefill.rate(now)) {
            sum += rate;
            count += 1.0;
        }
        (count > 0.0).then(|| sum / count)
    }

    /// How long its own prompt takes on an idle replica, when that is known.
    pub(super) fn own_prefill(&self, now: Duration, offer: &Offer) -> Option<Duration> {
        let serving = self.replicas.iter().filter(|replica| self.serves(replica, now));
        let times = serving.filter_map(|replica| {
            let tokens = f64::from(offer.uncached.on(replica.id));
            replica.prefill.rate(now).map(|rate| tokens / rate)
        });
        times.min_by(f64::total_cmp).map(seconds)
    }
}
