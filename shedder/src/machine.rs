//! The state machine of one deployment: its state, and what all of its parts need.

mod admit;
mod aging;
mod answers;
mod binding;
mod control;
mod drain;
mod failures;
mod handover;
mod headroom;
mod lone_account;
mod placement;
mod predict;
mod prefill_room;
mod progress;
mod size_share;
mod view;
mod wait;
mod wait_correction;
mod withdraw;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

pub use predict::{LINE_MAX, Line};

use crate::config::{Config, ReplicaConfig};
use crate::decision::{Reason, Rejection, Verdict};
use crate::offer::{Offer, ReplicaId, RequestId};
use crate::queue::TierQueue;
use crate::recent::Recent;
use crate::replica::{Block, Replica, Terms};
use crate::requests::Requests;
use crate::requests::due::Due;
use crate::retry::{RETRY_AFTER_MAX, RETRY_AFTER_MIN, RetryBudget, retry_after};
use crate::snapshot::Counters;
use crate::tier::{PerTier, Tier};

/// The TTFT target when none is configured.
/// The time to the first token that is wanted where none is promised.
pub const TTFT_DEFAULT: Duration = Duration::from_secs(2);
/// Rates are taken over this span, and over no less than a second after the start.
const RATE_SPAN: Duration = Duration::from_secs(5);

/// Those refused within it are a herd that would come back together. Longer, and in an overload that lasts those that are
/// refused in its last seconds come back long after it.
const HERD_SPAN: Duration = Duration::from_millis(250);

/// The parts of the TTFT target that a regular request may wait: at least, at most, and, beside one pace, never.
const REGULAR_WAITS: (f64, f64) = (0.75, 0.90);
const NEVER_WAITED: f64 = 0.05;

/// Prompt tokens that came within it say what will come, and be served first, while a lower tier waits.
const CAME_SPAN: Duration = Duration::from_secs(1);

/// Decides about every request of one deployment. See the crate's front page.
#[derive(Debug)]
pub struct Shedder {
    config: Config,
    replicas: Vec<Replica>,
    requests: Requests,
    queues: PerTier<TierQueue>,
    /// Waiting requests by the end of their wait.
    deadlines: BTreeSet<(Duration, RequestId)>,
    verdicts: VecDeque<Verdict>,
    /// Why the request that was offered last could not start at once.
    turned_by: Option<Block>,
    /// Why the first of each tier could not start when it was last tried.
    blocked: PerTier<Option<Block>>,
    active: PerTier<u32>,
    started: Recent,
    /// Until when requests of each tier are taken to wait in the neighbours, before and after.
    waits_until: [PerTier<Duration>; 2],
    /// Requests per second that the process before started.
    starts_before: f64,
    refused: PerTier<Recent>,
    /// Uncached prompt tokens offered lately.
    came: PerTier<Recent>,
    retries: RetryBudget,
    priority_seen: Option<Duration>,
    pressure: Option<(f64, Duration)>,
    floor_credit: f64,
    tokens_per_chunk: f64,
    born: Duration,
    forgot: Duration,
    offers: u64,
    answers: answers::Answers,
    lone_account: lone_account::LoneAccount,
    /// Seconds that an answered request held its place, smoothed.
    hold_s: Option<f64>,
    headroom: headroom::Headroom,
    prefill_room: prefill_room::PrefillRoom,
    drain: drain::Drain,
    wait_correction: wait_correction::WaitCorrection,
    size_share: size_share::SizeShare,
    /// Requests whose prefill nobody sees, by when it should be over.
    unseen: Due,
    /// Streams, by when their first token will be late.
    late: Due,
    closed: bool,
    counters: Counters,
}

/// The part of the TTFT target that is left for waiting, however long the lag is.
const LEFT_BY_LAG: f64 = 0.2;

impl Shedder {
    /// A deployment with these replicas, with nothing running and nothing waiting. Allocates.
    #[must_use]
    pub fn new(now: Duration, config: Config, replicas: &[ReplicaConfig]) -> Self {
        let config = sane(config);
        Self {
            replicas: replicas.iter().map(|replica| Replica::new(now, &config, replica)).collect(),
            config,
            requests: Requests::new(),
            queues: PerTier::default(),
            deadlines: BTreeSet::new(),
            verdicts: VecDeque::new(),
            turned_by: None,
            blocked: PerTier::default(),
            active: PerTier::default(),
            started: Recent::over(RATE_SPAN),
            waits_until: [PerTier::default(); 2],
            starts_before: 0.0,
            refused: PerTier::from_fn(|_| Recent::over(HERD_SPAN)),
            came: PerTier::from_fn(|_| Recent::over(CAME_SPAN)),
            retries: RetryBudget::new(),
            priority_seen: None,
            pressure: None,
            floor_credit: 0.0,
            tokens_per_chunk: 1.0,
            born: now,
            forgot: now,
            offers: 0,
            answers: answers::Answers::default(),
            lone_account: lone_account::LoneAccount::default(),
            hold_s: None,
            headroom: headroom::Headroom::new(now),
            prefill_room: prefill_room::PrefillRoom::new(now),
            drain: drain::Drain::default(),
            wait_correction: wait_correction::WaitCorrection::new(now),
            size_share: size_share::SizeShare::new(now),
            unseen: Due::new(),
            late: Due::new(),
            closed: false,
            counters: Counters::default(),
        }
    }

    /// The next verdict. To be drained after every call that changes something. O(1).
    pub fn poll_verdict(&mut self) -> Option<Verdict> {
        self.verdicts.pop_front()
    }

    /// The earliest moment at which a wait ends, so that the caller may tick earlier than in its rhythm.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.deadlines.first().map(|&(at, _)| at)
    }

    fn ttft_target(&self) -> Duration {
        self.config.slo.map_or(TTFT_DEFAULT, |slo| slo.ttft)
    }

    /// The longest predicted wait with which a request is let in, and the longest real one. What starts is computed
    /// almost at once, because prompts are paced, so waiting may take most of the target.
    fn waits_max(&self, tier: Tier) -> (Duration, Duration) {
        let (predicted, real) = match tier {
            Tier::Priority => (0.75, 0.85),
            Tier::Regular => (0.50, self.regular_waits()),
            Tier::Flex => return (self.config.flex_wait, self.config.flex_wait),
        };
        // What every first token takes besides comes out of the target first.
        let left = self.ttft_target().saturating_sub(self.lag()).max(self.ttft_target().mul_f64(LEFT_BY_LAG));
        (left.mul_f64(predicted), left.mul_f64(real))
    }

    /// What every first token takes besides waiting and computing, on the replica where that is least. What only some take,
    /// such as pictures, is theirs: nobody else is refused sooner for it.
    fn lag(&self) -> Duration {
        let lags = self.replicas.iter().map(|replica| replica.prefill.common_lag());
        admit::seconds(lags.min_by(f64::total_cmp).unwrap_or(0.0))
    }

    /// The part of the TTFT target that a regular request may really wait: all but the longest pace and a little, because
    /// no more than a pace of prompts is computed together with its own. Where nothing is paced, less.
    fn regular_waits(&self) -> f64 {
        let (least, most) = REGULAR_WAITS;
        let paces = self.replicas.iter().filter_map(|replica| replica.pace_s(self.tokens_per_chunk));
        let longest = paces.max_by(f64::total_cmp);
        longest.map_or(least, |pace_s| {
            (1.0 - NEVER_WAITED - pace_s / self.ttft_target().as_secs_f64().max(0.001)).clamp(least, most)
        })
    }

    fn terms(&self, now: Duration) -> Terms {
        let gone = self.pressure.filter(|&(_, until)| now < until).map_or(0.0, |(share, _)| share);
        Terms {
            soon: self.place_after(now, 1) < headroom::SOON,
            ceilings: self.headroom.lower(self.config.ceilings),
            answer: self.answers.held(),
            capacity: 1.0 - gone,
        }
    }

    fn replica_mut(&mut self, id: ReplicaId) -> Option<&mut Replica> {
        self.replicas.iter_mut().find(|replica| replica.id == id)
    }

    pub(crate) fn replica(&self, id: ReplicaId) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.id == id)
    }

    /// Dispatches per second lately.
    fn start_rate(&self, now: Duration) -> f64 {
        let age = now.saturating_sub(self.born);
        if self.starts_before > 0.0 && age < RATE_SPAN {
            let before = self.starts_before * (RATE_SPAN - age).as_secs_f64();
            return (f64::from(self.started.sum(now)) + before) / RATE_SPAN.as_secs_f64();
        }
        f64::from(self.started.sum(now)) / age.clamp(Duration::from_secs(1), RATE_SPAN).as_secs_f64()
    }

    /// How long it takes until so many places have come back, by how many did lately: a part of the TTFT target.
    fn place_after(&self, now: Duration, places: u32) -> f64 {
        f64::from(places) / self.start_rate(now).max(1e-3) / self.ttft_target().as_secs_f64().max(1e-3)
    }

    /// Saturation of the least full replica in service.
    fn saturation(&self, now: Duration) -> f64 {
        let terms = self.terms(now);
        let in_service = self.replicas.iter().filter(|replica| self.serves(replica, now));
        in_service.map(|replica| replica.saturation(now, terms)).min_by(f64::total_cmp).unwrap_or(1.0)
    }

    /// Counts a refusal and gathers what explains it.
    fn reject(
        &mut self,
        now: Duration,
        offer: &Offer,
        reason: Reason,
        waited: Duration,
        predicted: Option<Duration>,
    ) -> Rejection {
        let tier = offer.tier;
        let refused = self.refused[tier].sum(now);
        self.refused[tier].count(now, 1);
        self.counters.shed[tier].count(reason);
        if tier != Tier::Flex && reason != Reason::Deadline {
            self.headroom.on_above_short();
        }
        // By what makes waits longer than predicted a client need not wait longer for its next try.
        let correction = self.wait_correction.factor(tier, self.size_of(offer));
        let wait = predicted.unwrap_or(Duration::ZERO).div_f64(correction);
        let absent = reason == Reason::NoReplica && offer.needs != 0 && self.is_absent(now, offer.needs);
        let queued =
            Tier::ALL.iter().filter(|&&t| t <= tier).map(|&t| self.queues[t].totals().requests).sum();
        Rejection {
            reason,
            tier,
            retry_after: match reason {
                // The client's own deadline passes whether it comes back or not.
                Reason::Deadline => None,
                Reason::Draining => Some(Duration::from_secs(1)),
                Reason::NoReplica if absent => Some(self.tried_again(now, offer.needs)),
                // A replica needs a probe or two to come back.
                Reason::NoReplica => Some(Duration::from_secs(5)),
                _ => Some(retry_after(tier, wait, refused, self.start_rate(now))),
            },
            predicted_wait: predicted,
            predicted_wait_max: self.waits_max(tier).0,
            waited,
            saturation: self.saturation(now),
            ceiling: self.terms(now).ceilings[tier],
            queued,
            absent,
            short: self.blocked[tier].or(self.turned_by).and_then(Block::short),
        }
    }

    /// How long until some replica is tried for `needs` again.
    fn tried_again(&self, now: Duration, needs: u64) -> Duration {
        let trials = self.replicas.iter().filter_map(|replica| replica.absent.again(needs));
        let wait = trials.min().map_or(Duration::ZERO, |again| again.saturating_sub(now));
        wait.clamp(Duration::from_secs_f64(RETRY_AFTER_MIN), Duration::from_secs_f64(RETRY_AFTER_MAX))
    }
}

/// Brings what makes no sense into range.
fn sane(mut config: Config) -> Config {
    config.ceilings = sane_ceilings(config.ceilings);
    config.limit_start = finite_or(config.limit_start, 64.0).clamp(1.0, crate::replica::gap::LIMIT_MAX);
    config.fixed_limit = config.fixed_limit.filter(|limit| limit.is_finite()).map(|limit| limit.max(1.0));
    config.size_share_min = finite_or(config.size_share_min, 0.0).clamp(0.0, 1.0);
    config.regular_floor = finite_or(config.regular_floor, 0.0).clamp(0.0, 0.5);
    config.share_max = config.share_max.filter(|share| share.is_finite()).map(|share| share.clamp(0.0, 1.0));
    for tier in Tier::ALL {
        config.queue.share[tier] = finite_or(config.queue.share[tier], 1.0).clamp(0.0, 1.0);
    }
    config
}

/// A lower tier never has more than a higher one: it would be served while the higher waits.
fn sane_ceilings(mut ceilings: PerTier<f64>) -> PerTier<f64> {
    let mut above = 1.0;
    for tier in Tier::ALL {
        ceilings[tier] = finite_or(ceilings[tier], above).clamp(0.0, above);
        above = ceilings[tier];
    }
    ceilings
}

fn finite_or(value: f64, other: f64) -> f64 {
    if value.is_finite() { value } else { other }
}
