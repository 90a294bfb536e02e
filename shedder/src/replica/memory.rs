//! The KV memory of one replica: how much of it is in use, and how much there is.
//!
//! ```text
//! used = last scrape + what was sent since          while that is no more than 3 s old
//!      = 1.1 · own count + what the scrape had beyond it        up to three intervals
//!      = 1.1 · own count                                                  after that
//! ```
//!
//! The own count is what the gateway sent and saw: prompts to compute, and of each answer what came, at least half of a
//! usual one. What ended since a scrape is left in, because what runs has grown. So a missing scrape widens the margin,
//! it neither halts the replica nor opens it. Where nobody tells how much there is, [`Ceiling`] learns it.
//!
//! ```text
//! saturation = max(used / (0.90 · capacity), grown / (0.95 · capacity))       grown: prompts + answers · what one holds
//! ```
//!
//! Answers that began together have grown together a minute later, when it is too late to take fewer of them. So what
//! those that run will hold counts before they hold it. That is worth four points of priority attainment in bursts of
//! answers that think, and 2 % goodput; see `TRIED.md`.
//!
//! Cost: O(1), nothing allocates.

use std::time::Duration;

use crate::config::Config;
use crate::learned::LearnedReplica;
use crate::offer::Scrape;
use crate::replica::ceiling::{Ceiling, Load};

const SCRAPE_FRESH: Duration = Duration::from_secs(3);
/// Readings that may be missed.
const SCRAPES_MISSED_MAX: u32 = 3;
/// KV memory is never filled to the last block: growing answers need some.
const KV_USABLE: f64 = 0.90;
/// What has grown needs less beside it.
const KV_USABLE_GROWN: f64 = 0.95;
const KV_LOSS: f64 = 0.95;
const KV_MARGIN: f64 = 1.10;

/// A reading of the engine's metrics, as far as it is about memory.
#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Duration,
    /// 0 … 1.
    used: Option<f64>,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    /// The own count, tokens.
    pub(crate) held: u64,
    /// The prompts in it.
    prompts: u64,
    sent_since_scrape: u64,
    /// The own count, less what was still to be computed, when the engine was last scraped.
    held_at_scrape: u64,
    reading: Option<Reading>,
    /// How long a reading counts at all.
    scrape_counts: Duration,
    capacity_told: Option<u64>,
    capacity_config: Option<u64>,
    pub(crate) ceiling: Ceiling,
}

fn scrape_counts(config: &Config) -> Duration {
    config.scrape_interval.saturating_mul(SCRAPES_MISSED_MAX).max(SCRAPE_FRESH)
}

impl Memory {
    pub(crate) fn new(now: Duration, config: &Config) -> Self {
        Self {
            held: 0,
            prompts: 0,
            sent_since_scrape: 0,
            held_at_scrape: 0,
            reading: None,
            scrape_counts: scrape_counts(config),
            capacity_told: None,
            capacity_config: config.kv_tokens,
            ceiling: Ceiling::new(now, config),
        }
    }

    pub(crate) fn reconfigure(&mut self, config: &Config) {
        self.scrape_counts = scrape_counts(config);
        self.capacity_config = config.kv_tokens;
    }

    /// What is known, for another process.
    pub(crate) fn export(&self, to: &mut LearnedReplica) {
        self.ceiling.export(to);
        to.kv_told = self.capacity_told;
    }

    /// Goes on with what another process knows.
    pub(crate) fn adopt(&mut self, now: Duration, known: &LearnedReplica) {
        self.ceiling.adopt(now, known);
        self.capacity_told = known.kv_told.or(self.capacity_told);
    }

    /// A request was sent: its prompt to compute, and what it is taken to hold.
    pub(crate) fn start(&mut self, prompt: u32, held: u64) {
        self.held += held;
        self.prompts += u64::from(prompt);
        self.sent_since_scrape += held;
    }

    /// Its answer has become so much longer.
    pub(crate) fn grow(&mut self, tokens: u64) {
        self.held += tokens;
    }

    /// It is over.
    pub(crate) fn end(&mut self, prompt: u32, held: u64) {
        self.held = self.held.saturating_sub(held);
        self.prompts = self.prompts.saturating_sub(u64::from(prompt));
    }

    /// Everything that is counted, zero when nothing runs.
    pub(crate) fn booked(&self) -> u64 {
        self.held + self.prompts
    }

    /// Tokens that there are, when anybody told.
    pub(crate) fn capacity(&self) -> Option<f64> {
        self.capacity_told.or(self.capacity_config).filter(|&tokens| tokens > 0).map(|tokens| tokens as f64)
    }

    /// Tokens in use.
    pub(crate) fn used(&self, now: Duration) -> f64 {
        let Some(capacity) = self.capacity() else { return self.held as f64 };
        let own = KV_MARGIN * self.held as f64;
        let used = self.reading.and_then(|Reading { at, used }| {
            let age = now.saturating_sub(at);
            let used = used?.clamp(0.0, 1.0) * capacity;
            if age < SCRAPE_FRESH {
                Some(used + self.sent_since_scrape as f64)
            } else {
                (age < self.scrape_counts).then(|| own + (used - self.held_at_scrape as f64).max(0.0))
            }
        });
        used.unwrap_or(own)
    }

    /// How full it is, 1 at the limit, with `active` requests and `share` of it left; `answer`: tokens that an answer holds
    /// when it has grown.
    pub(crate) fn saturation(&self, now: Duration, share: f64, active: u32, answer: f64) -> f64 {
        if active == 0 && self.capacity().is_none() {
            return 0.0;
        }
        let share = share.max(0.01);
        let grown = self.prompts as f64 + f64::from(active) * answer;
        match self.capacity() {
            Some(capacity) => {
                let (now_used, later) = (self.used(now) / KV_USABLE, grown / KV_USABLE_GROWN);
                now_used.max(later) / (capacity * share)
            }
            None => (self.held as f64).max(grown) / (self.ceiling.tokens(self.each(active, answer)) * share),
        }
    }

    /// Tokens that may be held where nobody tells how much there is, with `active` requests; a limit held by an operator
    /// bounds nothing before answers pause.
    pub(crate) fn learnt(&self, active: u32, answer: f64) -> Option<f64> {
        let learnt = self.ceiling.tokens(self.each(active, answer));
        Some(learnt).filter(|tokens| self.capacity().is_none() && tokens.is_finite())
    }

    /// Tokens that one request holds when it has grown.
    fn each(&self, active: u32, answer: f64) -> f64 {
        self.prompts as f64 / f64::from(active.max(1)) + answer
    }

    /// One step of what is learnt, at the end of a harvest; `gap`: the usual time per token, seconds.
    pub(crate) fn step(&mut self, now: Duration, active: u32, answer: f64, gap: f64) {
        let load = Load { held: self.held as f64, each: self.each(active, answer), answer_s: answer * gap };
        self.ceiling.step(now, load);
    }

    /// A reading of the engine's metrics, with so many prompt tokens still to be computed.
    pub(crate) fn observe(&mut self, now: Duration, scrape: &Scrape, backlog: u64) {
        let used = scrape.kv_used.filter(|used| used.is_finite());
        self.reading = Some(Reading { at: now, used });
        self.capacity_told = scrape.kv_capacity_tokens.or(self.capacity_told);
        // What is still to be computed is not in the engine's memory yet.
        self.sent_since_scrape = backlog;
        self.held_at_scrape = self.held.saturating_sub(backlog);
    }

    /// Whether so little is left that the engine is about to throw answers out.
    pub(crate) fn is_short(&self, now: Duration) -> bool {
        self.capacity().is_some_and(|capacity| self.used(now) > KV_LOSS * capacity)
    }
}
