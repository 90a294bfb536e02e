//! One replica as the gateway's own traffic shows it, corrected by the engine's metrics where there are any.
//!
//! ```text
//! saturation = max(kv / (0.90 · capacity), active / N)
//! ```
//!
//! `active` counts every dispatched, unfinished request, with a token or not: an engine with four slots
//! keeps the fifth in a queue of its own where no tier counts. `kv` is the last scrape and what was
//! sent since, while that is no more than 3 s; what ended meanwhile is left in, because what runs has grown.
//! Later the scrape only tells what the engine held beyond the own count, which comes on top of that count
//! and 10 % more; after three intervals of silence it tells nothing. So a missing scrape widens the margin,
//! it neither halts the replica nor opens it. A capacity that is not known leaves the term out.
//!
//! A tier is closed when the saturation reaches its ceiling. A lower tier reopens 0.05 below, which keeps
//! its state from changing with every single request; the highest at once.
//!
//! Cost: every call is O(1) and does not allocate, but for booking a withdrawn request.

use std::time::Duration;

use crate::config::{Config, ReplicaConfig};
use crate::gap::{GapLimit, LIMIT_MAX};
use crate::health::{Health, Service};
use crate::offer::{ReplicaId, Scrape};
use crate::prefill::PrefillRate;
use crate::tier::{PerTier, Tier};

const SCRAPE_FRESH: Duration = Duration::from_secs(3);
/// Readings that may be missed.
const SCRAPES_MISSED_MAX: u32 = 3;
/// KV memory is never filled to the last block: growing answers need some.
const KV_USABLE: f64 = 0.90;
const KV_LOSS: f64 = 0.95;
const KV_MARGIN: f64 = 1.10;
const STEP_BUDGET_DEFAULT: u32 = 2_048;

/// How much of the capacity counts, and how full each tier may make it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) ceilings: PerTier<f64>,
    /// 1 minus the pretended loss of capacity.
    pub(crate) capacity: f64,
}

/// Why a replica, or all of them, cannot take a request now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Block {
    /// Too much prompt is waiting to be computed there.
    Backlog,
    /// All places of the tier are taken.
    Places,
    /// KV memory is full.
    Memory,
    /// The engine asked for a pause.
    Busy,
    /// Not in service.
    NoReplica,
}

/// How far below its ceiling a closed tier reopens. The highest tier has nobody above it for whom the room
/// would be kept.
fn reopen_below(tier: Tier) -> f64 {
    if tier == Tier::Priority { 0.0 } else { 0.05 }
}

/// A withdrawn request that the engine may still be computing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Booked {
    pub(crate) until: Duration,
    pub(crate) backlog: u32,
}

/// How long a reading of the engine's metrics counts at all.
fn scrape_counts(config: &Config) -> Duration {
    config.scrape_interval.saturating_mul(SCRAPES_MISSED_MAX).max(SCRAPE_FRESH)
}

/// One replica.
#[derive(Debug, Clone)]
pub(crate) struct Replica {
    pub(crate) id: ReplicaId,
    pub(crate) slots_max: Option<u32>,
    pub(crate) drained: bool,
    /// Removed from the configuration; gone when nothing runs on it.
    pub(crate) retired: bool,
    pub(crate) active: u32,
    pub(crate) with_token: u32,
    pub(crate) backlog: u64,
    pub(crate) kv: u64,
    pub(crate) booked: Vec<Booked>,
    pub(crate) limit: GapLimit,
    pub(crate) prefill: PrefillRate,
    pub(crate) health: Health,
    scrape: Option<(Duration, Scrape)>,
    preemptions: Option<u64>,
    sent_since_scrape: u64,
    /// The own count, less what was still to be computed, when the engine was last scraped.
    kv_at_scrape: u64,
    scrape_counts: Duration,
    open: PerTier<bool>,
    /// Most requests with a token at a time, this span and the last.
    tokens_peak: (u32, u32),
    peak_since: Duration,
    /// A prompt longer than any cap was being computed at some moment since the last harvest.
    stretching: bool,
    /// The same for the harvest that is coming in.
    pub(crate) stretched: bool,
    /// Such prompts without a first token.
    very_long: u32,
    /// Only requests sent after this can show again that the engine queues.
    pub(crate) queue_seen: Duration,
    step_budget_config: Option<u32>,
    kv_tokens_config: Option<u64>,
    slots_config: Option<u32>,
}

impl Replica {
    pub(crate) fn new(now: Duration, config: &Config, replica: &ReplicaConfig) -> Self {
        Self {
            id: replica.id,
            slots_max: replica.slots_max,
            drained: false,
            retired: false,
            active: 0,
            with_token: 0,
            backlog: 0,
            kv: 0,
            booked: Vec::new(),
            limit: GapLimit::new(now, config),
            prefill: PrefillRate::new(now),
            health: Health::new(),
            scrape: None,
            preemptions: None,
            sent_since_scrape: 0,
            kv_at_scrape: 0,
            scrape_counts: scrape_counts(config),
            open: PerTier { priority: true, regular: true },
            tokens_peak: (0, 0),
            peak_since: now,
            stretching: false,
            stretched: false,
            very_long: 0,
            queue_seen: now,
            step_budget_config: config.step_budget,
            kv_tokens_config: config.kv_tokens,
            slots_config: config.slots_max,
        }
    }

    /// Takes over what the configuration says now; what was learnt stays.
    pub(crate) fn reconfigure(&mut self, config: &Config, replica: Option<&ReplicaConfig>) {
        self.retired = replica.is_none();
        self.slots_max = replica.map_or(self.slots_max, |replica| replica.slots_max);
        self.scrape_counts = scrape_counts(config);
        self.step_budget_config = config.step_budget;
        self.kv_tokens_config = config.kv_tokens;
        self.slots_config = config.slots_max;
        self.limit.reconfigure(config);
    }

    /// Whether it is in service, apart from failures.
    pub(crate) fn is_enlisted(&self) -> bool {
        !self.retired && !self.drained && !self.health.is_down()
    }

    pub(crate) fn service(&self, now: Duration) -> Service {
        if self.is_enlisted() { self.health.service(now) } else { Service::Out }
    }

    /// The engine's slots as far as anyone told.
    fn slots(&self) -> f64 {
        let scraped = self.scrape.and_then(|(_, scrape)| scrape.slots);
        let least =
            [self.slots_max, self.slots_config, scraped].into_iter().flatten().filter(|&n| n > 0).min();
        least.map_or(LIMIT_MAX, f64::from)
    }

    /// The concurrency limit in force.
    pub(crate) fn limit_now(&self, now: Duration, terms: Terms) -> f64 {
        let limit = self.limit.limit().min(self.slots()).min(self.health.limit_max(now));
        (limit * terms.capacity).max(1.0)
    }

    /// Places that `tier` may fill, all requests counted.
    pub(crate) fn places(&self, now: Duration, terms: Terms, tier: Tier) -> u32 {
        // A hair more, so that 0.85 · 20 is 17 and not 16.
        ((terms.ceilings[tier] * self.limit_now(now, terms) + 1e-9) as u32).max(1)
    }

    /// KV tokens in use, and how many there are when known.
    pub(crate) fn kv_now(&self, now: Duration) -> (f64, Option<f64>) {
        let scraped = self.scrape.and_then(|(_, scrape)| scrape.kv_capacity_tokens);
        let Some(capacity) = scraped.or(self.kv_tokens_config).filter(|&n| n > 0).map(|n| n as f64) else {
            return (self.kv as f64, None);
        };
        let own = KV_MARGIN * self.kv as f64;
        let used = self.scrape.and_then(|(at, scrape)| {
            let age = now.saturating_sub(at);
            let used = scrape.kv_used?.clamp(0.0, 1.0) * capacity;
            if age < SCRAPE_FRESH {
                Some(used + self.sent_since_scrape as f64)
            } else {
                (age < self.scrape_counts).then(|| own + (used - self.kv_at_scrape as f64).max(0.0))
            }
        });
        (used.unwrap_or(own), Some(capacity))
    }

    fn memory(&self, now: Duration, terms: Terms) -> f64 {
        match self.kv_now(now) {
            (used, Some(capacity)) => used / (KV_USABLE * capacity * terms.capacity.max(0.01)),
            (_, None) => 0.0,
        }
    }

    /// How full it is; 1 is at the limit.
    pub(crate) fn saturation(&self, now: Duration, terms: Terms) -> f64 {
        self.memory(now, terms).max(f64::from(self.active) / self.limit_now(now, terms))
    }

    /// Brings the open and closed state of every tier up to date.
    pub(crate) fn relatch(&mut self, now: Duration, terms: Terms) {
        let memory = self.memory(now, terms);
        let limit = self.limit_now(now, terms);
        for tier in Tier::ALL {
            let ceiling = terms.ceilings[tier];
            let places = self.places(now, terms, tier);
            self.open[tier] = if self.active >= places || memory >= ceiling {
                false
            } else {
                let reopen = ((ceiling - reopen_below(tier)) * limit - 1e-9).ceil().max(1.0);
                self.open[tier] || (f64::from(self.active) < reopen && memory < ceiling - reopen_below(tier))
            };
        }
    }

    /// Whether `tier` is open, and if not, for want of what.
    pub(crate) fn room(&self, now: Duration, terms: Terms, tier: Tier) -> Result<(), Block> {
        if self.health.is_busy(now) {
            Err(Block::Busy)
        } else if self.open[tier] {
            Ok(())
        } else if self.memory(now, terms) >= terms.ceilings[tier] - reopen_below(tier) {
            Err(Block::Memory)
        } else {
            Err(Block::Places)
        }
    }

    pub(crate) fn step_budget(&self) -> u32 {
        let scraped = self.scrape.and_then(|(_, scrape)| scrape.step_budget).filter(|&n| n > 0);
        scraped.or(self.step_budget_config).unwrap_or(STEP_BUDGET_DEFAULT)
    }

    /// Prompt tokens that may be waiting there, the request's own included.
    pub(crate) fn backlog_cap(&self, tier: Tier) -> u64 {
        let steps = match tier {
            Tier::Priority => 4,
            Tier::Regular => 2,
        };
        steps * u64::from(self.step_budget())
    }

    /// Prompt tokens that it computes in the time that one chunk of tokens may take, where both are known: an engine that
    /// gives several tokens per step may take as many times longer for it.
    pub(crate) fn pace(&self, tokens_per_chunk: f64) -> Option<f64> {
        Some(self.prefill.learnt()? * self.limit.tpot()? * tokens_per_chunk)
    }

    /// Takes a request on.
    pub(crate) fn start(&mut self, backlog: u32, kv: u64) {
        self.active += 1;
        self.backlog += u64::from(backlog);
        self.kv += kv;
        self.sent_since_scrape += kv;
        self.limit.on_used(self.active);
        if self.is_very_long(backlog) {
            self.very_long += 1;
            self.stretching = true;
        }
    }

    /// Gives a request's place back.
    pub(crate) fn end(&mut self, backlog: u32, kv: u64, token: bool) {
        self.active = self.active.saturating_sub(1);
        self.kv = self.kv.saturating_sub(kv);
        self.release_backlog(backlog);
        if token {
            self.with_token = self.with_token.saturating_sub(1);
        }
    }

    pub(crate) fn release_backlog(&mut self, backlog: u32) {
        self.backlog = self.backlog.saturating_sub(u64::from(backlog));
        if self.is_very_long(backlog) {
            self.very_long = self.very_long.saturating_sub(1);
        }
    }

    fn is_very_long(&self, tokens: u32) -> bool {
        u64::from(tokens) > self.backlog_cap(Tier::Priority)
    }

    /// Gives back the places whose booking is over.
    pub(crate) fn release_booked(&mut self, now: Duration) {
        while let Some(over) = self.booked.iter().position(|booked| booked.until <= now) {
            let booked = self.booked.swap_remove(over);
            self.end(booked.backlog, 0, false);
        }
    }

    pub(crate) fn on_token(&mut self, now: Duration) {
        self.with_token += 1;
        if now.saturating_sub(self.peak_since) >= Duration::from_secs(5) {
            self.tokens_peak = (self.tokens_peak.1, 0);
            self.peak_since = now;
        }
        self.tokens_peak.1 = self.tokens_peak.1.max(self.with_token);
    }

    /// The engine was seen to queue: it has about as many slots as had tokens at a time lately.
    pub(crate) fn on_engine_queue(&mut self, now: Duration) {
        let peak = self.tokens_peak.0.max(self.tokens_peak.1).max(self.with_token);
        self.limit.on_engine_queue(now, peak);
        self.queue_seen = now;
    }

    /// Settles whether the gaps of the harvest to come were stretched by a very long prompt.
    pub(crate) fn begin_harvest(&mut self) {
        self.stretched = std::mem::replace(&mut self.stretching, self.very_long > 0);
    }

    pub(crate) fn observe(&mut self, now: Duration, scrape: &Scrape) {
        // A counter that fell belongs to an engine that was started again.
        if let (Some(before), Some(after)) = (self.preemptions, scrape.preemptions_total)
            && after > before
        {
            self.limit.on_loss();
        }
        self.preemptions = scrape.preemptions_total.or(self.preemptions);
        let mut scrape = *scrape;
        scrape.kv_used = scrape.kv_used.filter(|used| used.is_finite());
        if let Some((_, last)) = self.scrape {
            scrape.kv_capacity_tokens = scrape.kv_capacity_tokens.or(last.kv_capacity_tokens);
            scrape.slots = scrape.slots.or(last.slots);
            scrape.step_budget = scrape.step_budget.or(last.step_budget);
        }
        self.scrape = Some((now, scrape));
        // What is still to be computed is not in the engine's memory yet.
        self.sent_since_scrape = self.backlog;
        self.kv_at_scrape = self.kv.saturating_sub(self.backlog);
    }

    pub(crate) fn scrape_age(&self, now: Duration) -> Option<Duration> {
        self.scrape.map(|(at, _)| now.saturating_sub(at))
    }

    /// One step of the control loop.
    pub(crate) fn step(&mut self, now: Duration) {
        if let (used, Some(capacity)) = self.kv_now(now)
            && used > KV_LOSS * capacity
        {
            self.limit.on_loss();
        }
        let slots = self.slots();
        self.limit.step(now, slots, self.active);
    }
}
