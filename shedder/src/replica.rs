//! One replica as the gateway's own traffic shows it, corrected by the engine's metrics where there are any.
//!
//! ```text
//! saturation = max(memory, active / N)
//! ```
//!
//! `active` counts every dispatched, unfinished request, with a token or not: an engine with four slots
//! keeps the fifth in a queue of its own where no tier counts.
//!
//! A tier is closed when the saturation reaches its ceiling. A lower tier reopens 0.05 below, which keeps
//! its state from changing with every single request; the highest at once.
//!
//! Cost: every call is O(1) and does not allocate, but for booking a withdrawn request.

pub(crate) mod absent;
mod ceiling;
mod elsewhere;
pub(crate) mod evidence;
pub(crate) mod gap;
mod ghosts;
pub(crate) mod health;
mod lag;
mod memory;
mod plateau;
mod prefill;
mod slots;
mod transfer;
mod whole;
mod young;

use std::collections::VecDeque;
use std::time::Duration;

use self::absent::{Absent, Supply};
use self::evidence::Evidence;
use self::gap::{GapLimit, LIMIT_MAX};
use self::ghosts::Ghosts;
use self::health::{Health, Service};
use self::memory::Memory;
use self::prefill::PrefillRate;
use self::whole::{WholeAnswer, WholeAnswers};
use self::young::YoungAnswers;
use crate::config::{Config, ReplicaConfig};
use crate::decision::Short;
use crate::learned::LearnedReplica;
use crate::offer::{ReplicaId, RequestId, Scrape};
use crate::requests::Active;
use crate::tier::{PerTier, Tier};

const STEP_BUDGET_DEFAULT: u32 = 2_048;
/// Late first tokens of two accounts within it have one cause.
const LATE_SPAN: Duration = Duration::from_secs(10);
/// All streams of a replica are silent for longer than this: it stands still. More than the 250 ms between two looks.
const PAUSE_MIN: Duration = Duration::from_millis(600);
/// Requests without a first token that are remembered in the order in which they were sent.
const OUTSTANDING_MAX: usize = 1_024;
/// Prompts take so many times as long beside running answers as alone, where they are timed.
const BESIDE_ANSWERS: f64 = 1.3;
/// How much less is believed to be under way for each first token that is too late, and how much of the rest again for each
/// that is in time: half is believed where one of forty is late.
const BELIEVED_LESS: f64 = 0.8;
const BELIEVED_AGAIN: f64 = 0.005;
/// A first token is late only beyond so many times the delay that every prompt has.
const LAG_TIMES: f64 = 1.5;
/// Before any gap was seen.
const GAP_GUESS_S: f64 = 0.05;

/// How much of the capacity counts, and how full each tier may make it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) ceilings: PerTier<f64>,
    /// Whether a place is given back soon, measured by what may be waited for it.
    pub(crate) soon: bool,
    /// Tokens that an answer holds when it has grown.
    pub(crate) answer: f64,
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
    /// Replicas that it may not use might have room: those that lack what it needs, and the one that answered it with an
    /// error. Others that wait may start before it.
    Restricted,
}

impl Block {
    /// What is short, as a refusal tells it.
    pub(crate) fn short(self) -> Option<Short> {
        match self {
            Block::Backlog => Some(Short::Prompts),
            Block::Places => Some(Short::Places),
            Block::Memory => Some(Short::Memory),
            Block::Busy => Some(Short::Engine),
            Block::NoReplica | Block::Restricted => None,
        }
    }
}

/// Rounding down costs at most so much of the places where they come back soon.
const ROUNDED_MAX: f64 = 0.05;

/// How far below its ceiling a closed tier reopens. The highest tier has nobody above it for whom the room
/// would be kept.
fn reopen_below(tier: Tier) -> f64 {
    if tier == Tier::Priority { 0.0 } else { 0.05 }
}

/// A place that is held without a request of ours: for a withdrawn one that the engine may still be computing, and for one that
/// runs in another process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Booked {
    pub(crate) until: Duration,
    /// Prompt tokens that wait for the engine.
    pub(crate) backlog: u32,
    /// Prompt tokens in memory, and all that it holds there.
    pub(crate) prompt: u32,
    pub(crate) kv: u64,
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
    /// Active requests whose answers come whole.
    unseen: u32,
    pub(crate) backlog: u64,
    /// When the prompts that were started are computed, at the rate that was learnt: the theoretical arrival time of the
    /// next one.
    next_start: Duration,
    /// When the request that was answered last of all was sent: whoever was sent before and still waits is no queue.
    in_time_sent: Duration,
    /// The part of what seems to be under way that is believed to be: less while first tokens come too late for anybody.
    believed: f64,
    /// Requests that were sent, in that order, without a first token for all that is known here; some are over. At most as
    /// many as were sent since the last answer.
    outstanding: VecDeque<(Duration, RequestId)>,
    /// Time in which no token came although streams ran, since the beginning.
    silent: Duration,
    heard: Duration,
    pub(crate) memory: Memory,
    pub(crate) booked: Vec<Booked>,
    /// Requests that run in another process.
    elsewhere: [elsewhere::Elsewhere; 2],
    pub(crate) limit: GapLimit,
    pub(crate) prefill: PrefillRate,
    whole: WholeAnswers,
    pub(crate) young: YoungAnswers,
    /// Prompt tokens of everything that was started here.
    started_tokens: u64,
    pub(crate) health: Health,
    pub(crate) evidence: Evidence,
    pub(crate) absent: Absent,
    pub(crate) ghosts: Ghosts,
    scrape: Option<(Duration, Scrape)>,
    preemptions: Option<u64>,
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
    /// The account whose first token was late here last, and when.
    late: Option<(u64, Duration)>,
    /// When a late first token was last seen whose request had been overtaken.
    late_by_itself: Option<Duration>,
    /// Only requests sent after this can show again that the engine queues.
    pub(crate) queue_seen: Duration,
    step_budget_config: Option<u32>,
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
            unseen: 0,
            backlog: 0,
            next_start: now,
            in_time_sent: Duration::ZERO,
            believed: 1.0,
            outstanding: VecDeque::new(),
            silent: Duration::ZERO,
            heard: now,
            memory: Memory::new(now, config),
            booked: Vec::new(),
            elsewhere: Default::default(),
            limit: GapLimit::new(now, config),
            prefill: PrefillRate::new(now),
            whole: WholeAnswers::default(),
            young: YoungAnswers::default(),
            started_tokens: 0,
            health: Health::new(),
            evidence: Evidence::default(),
            absent: Absent::default(),
            ghosts: Ghosts::default(),
            late: None,
            late_by_itself: None,
            scrape: None,
            preemptions: None,
            open: PerTier::from_fn(|_| true),
            tokens_peak: (0, 0),
            peak_since: now,
            stretching: false,
            stretched: false,
            very_long: 0,
            queue_seen: now,
            step_budget_config: config.step_budget,
            slots_config: config.slots_max,
        }
    }

    /// What was learnt, for another process.
    pub(crate) fn export(&self, now: Duration) -> LearnedReplica {
        let mut learned = LearnedReplica { id: self.id, ..LearnedReplica::default() };
        self.limit.export(now, &mut learned);
        self.prefill.export(&mut learned);
        self.memory.export(&mut learned);
        learned
    }

    /// Goes on with what another process has learnt.
    pub(crate) fn adopt(&mut self, now: Duration, learned: &LearnedReplica) {
        self.limit.adopt(now, learned);
        self.prefill.adopt(now, learned);
        self.memory.adopt(now, learned);
    }

    /// Takes over what the configuration says now; what was learnt stays.
    pub(crate) fn reconfigure(&mut self, config: &Config, replica: Option<&ReplicaConfig>) {
        self.retired = replica.is_none();
        self.slots_max = replica.map_or(self.slots_max, |replica| replica.slots_max);
        self.memory.reconfigure(config);
        self.step_budget_config = config.step_budget;
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

    /// Whether a request with `needs` may be sent here, as a trial at least.
    pub(crate) fn may_have(&self, now: Duration, needs: u64) -> bool {
        self.absent.supply(now, needs) != Supply::Lacks
    }

    /// The engine's slots as far as anyone told.
    pub(crate) fn slots_told(&self) -> Option<u32> {
        let scraped = self.scrape.and_then(|(_, scrape)| scrape.slots);
        [self.slots_max, self.slots_config, scraped].into_iter().flatten().filter(|&n| n > 0).min()
    }

    fn slots(&self) -> f64 {
        self.slots_told().map_or(LIMIT_MAX, f64::from)
    }

    /// Whether it is the slots that were told that bound it, and not a limit that was learnt.
    fn slots_bind(&self) -> bool {
        self.slots() <= self.limit.limit()
    }

    /// The concurrency limit in force.
    pub(crate) fn limit_now(&self, now: Duration, terms: Terms) -> f64 {
        let limit = self.limit.limit().min(self.slots()).min(self.health.limit_max(now));
        (limit * terms.capacity).max(1.0)
    }

    /// Whether another request would still be within `times` the limit N, where nothing but token gaps bounds it: slots and
    /// a replica that comes back are no matter of degree.
    pub(crate) fn has_place_beyond(&self, now: Duration, terms: Terms, times: f64) -> bool {
        let hard = self.slots().min(self.health.limit_max(now)) * terms.capacity;
        let limit = self.limit_now(now, terms);
        !self.limit.is_hard() && f64::from(self.active) < (times * limit).min(hard).max(limit)
    }

    /// Places that `tier` may fill, all requests counted. Of few places a whole one is much: 0.85 of four are three, which
    /// keeps a quarter of the replica for who may be a fifth of a second from the next place. Where places come back so
    /// soon, it is four: of slots that were told. More than an engine has, where that is a guess, would queue inside.
    pub(crate) fn places(&self, now: Duration, terms: Terms, tier: Tier) -> u32 {
        // A hair more, so that 0.85 · 20 is 17 and not 16.
        let limit = self.limit_now(now, terms);
        let places = terms.ceilings[tier] * limit;
        let is_coarse = self.slots_bind() && places.fract() > ROUNDED_MAX * limit;
        // One at least, but of flex, which the tiers above may leave nothing.
        let least = u32::from(tier != Tier::Flex);
        if is_coarse && terms.soon {
            (places.ceil() as u32).max(least)
        } else {
            ((places + 1e-9) as u32).max(least)
        }
    }

    fn memory(&self, now: Duration, terms: Terms) -> f64 {
        self.memory.saturation(now, terms.capacity, self.active, terms.answer)
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

    /// Whether it is less full than `tier` may make it by `terms`, whatever was decided before.
    pub(crate) fn is_below_ceiling(&self, now: Duration, terms: Terms, tier: Tier) -> bool {
        self.active < self.places(now, terms, tier) && self.memory(now, terms) < terms.ceilings[tier]
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
            Tier::Flex => 1,
        };
        steps * u64::from(self.step_budget())
    }

    /// Prompt tokens that it computes in the time that one chunk of tokens may take, where both are known: an engine that
    /// gives several tokens per step may take as many times longer for it.
    pub(crate) fn pace(&self, tokens_per_chunk: f64) -> Option<f64> {
        Some(self.prefill.learnt()? * self.pace_s(tokens_per_chunk)?)
    }

    /// The same in seconds. `None` where prompts are not paced.
    pub(crate) fn pace_s(&self, tokens_per_chunk: f64) -> Option<f64> {
        self.prefill.learnt()?;
        Some(self.limit.tpot()? * tokens_per_chunk)
    }

    /// Seconds in which prompts are on their way, or behind something that is no computing: what was sent and has no token
    /// is not waiting for the engine then.
    pub(crate) fn lag(&self) -> f64 {
        self.prefill.lag()
    }

    /// Prompt tokens that may be under way without being a queue: those that the engine computes meanwhile.
    pub(crate) fn under_way(&self) -> f64 {
        let lag = self.lag();
        if lag > 0.0 { self.prefill.learnt().map_or(0.0, |rate| self.believed * rate * lag) } else { 0.0 }
    }

    /// A first token came after `ttft`, of a request that nobody overtook; `most` is what it may take. What is sent because much
    /// seems to be under way makes a queue if it is not, and that queue seems to be under way, too: so lateness makes less be
    /// believed, unless every prompt has most of it as a delay.
    pub(crate) fn on_in_turn(&mut self, ttft: Duration, most: Duration) {
        let most = most.as_secs_f64().max(LAG_TIMES * self.prefill.common_lag());
        self.believed = if ttft.as_secs_f64() > most {
            BELIEVED_LESS * self.believed
        } else {
            self.believed + BELIEVED_AGAIN * (1.0 - self.believed)
        };
    }

    /// Prompt tokens that wait for the engine: those that are not only under way.
    pub(crate) fn queued(&self) -> f64 {
        (self.backlog as f64 - self.under_way()).max(0.0)
    }

    /// Whether a prompt that is sent at `now` finds no other before it: none is there, or all that are under way will have
    /// been computed when it arrives.
    pub(crate) fn is_free(&self, now: Duration) -> bool {
        self.backlog == 0 || (self.lag() > 0.0 && self.next_start <= now)
    }

    /// Whether the start of another prompt at `now` would let more reach the engine at once than `pace_s` seconds are
    /// enough for. Starts are spread only where several are under way (GCRA, ITU-T I.371).
    pub(crate) fn bursts(&self, now: Duration, pace_s: f64) -> bool {
        self.lag() > 0.0 && self.next_start.saturating_sub(now).as_secs_f64() > pace_s
    }

    /// Whether a prompt of `tokens` may start at `now` without making a priority answer slow that has only begun. `most`: for
    /// how long it is kept from starting.
    pub(crate) fn spares_young(&self, now: Duration, tokens: f64, per_chunk: f64, most: f64) -> bool {
        let (Some(rate), Some(may_take)) = (self.prefill.learnt(), self.pace_s(per_chunk)) else {
            return true;
        };
        let stall = tokens / rate;
        stall <= may_take
            || self.young.have_made_up_for(now, stall, may_take, self.usual_gap() * per_chunk, most)
    }

    /// Whether answers run there, as far as known, so that prompts have to be paced for their sake: it makes no difference to
    /// answers of one token, embeddings or scores how many prompts are computed together.
    pub(crate) fn has_answers(&self) -> bool {
        self.with_token + self.unseen > 0
    }

    /// An active request more, or less, whose answer comes whole.
    pub(crate) fn on_unseen(&mut self, more: bool) {
        self.unseen = if more { self.unseen + 1 } else { self.unseen.saturating_sub(1) };
    }

    /// Takes a request on.
    pub(crate) fn start(&mut self, now: Duration, backlog: u32, kv: u64) {
        if let Some(rate) = self.prefill.learnt() {
            let takes = Duration::try_from_secs_f64(BESIDE_ANSWERS * f64::from(backlog) / rate)
                .unwrap_or(Duration::MAX);
            self.next_start = self.next_start.max(now).saturating_add(takes);
        }
        self.active += 1;
        self.backlog += u64::from(backlog);
        self.started_tokens += u64::from(backlog);
        self.memory.start(backlog, kv);
        self.limit.on_used(self.active);
        if self.is_very_long(backlog) {
            self.very_long += 1;
            self.stretching = true;
        }
    }

    /// Prompt tokens that were computed here, as far as known.
    pub(crate) fn computed_tokens(&self) -> u64 {
        self.started_tokens.saturating_sub(self.backlog)
    }

    /// An answer of `generated` tokens came whole, so long after it was sent.
    pub(crate) fn on_whole_answer(&mut self, active: &Active, generated: u32, duration: Duration) {
        let rate = self.whole.on_answer(WholeAnswer {
            seconds: duration.as_secs_f64() - self.prefill.overhead(),
            tokens: f64::from(generated),
            beside: f64::midpoint(f64::from(active.beside_before), f64::from(self.active)),
            prompts: self.computed_tokens().saturating_sub(active.computed_before) as f64,
        });
        if let Some(rate) = rate {
            self.prefill.on_whole(rate);
        }
    }

    /// Gives a request's place back.
    pub(crate) fn end(&mut self, backlog: u32, prompt: u32, kv: u64, token: bool) {
        self.active = self.active.saturating_sub(1);
        self.memory.end(prompt, kv);
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

    /// Places that are held without a request of ours.
    pub(crate) fn places_booked(&self) -> usize {
        self.booked.len() + self.places_elsewhere()
    }

    /// Gives back the places whose booking is over.
    pub(crate) fn release_booked(&mut self, now: Duration) {
        self.release_elsewhere(now);
        while let Some(over) = self.booked.iter().position(|booked| booked.until <= now) {
            let booked = self.booked.swap_remove(over);
            self.end(booked.backlog, booked.prompt, booked.kv, false);
        }
    }

    pub(crate) fn on_token(&mut self, now: Duration) {
        // Before the first stream nothing was to be heard.
        if self.with_token == 0 {
            self.heard = now;
        }
        self.on_flow(now);
        self.with_token += 1;
        if now.saturating_sub(self.peak_since) >= Duration::from_secs(5) {
            self.tokens_peak = (self.tokens_peak.1, 0);
            self.peak_since = now;
        }
        self.tokens_peak.1 = self.tokens_peak.1.max(self.with_token);
    }

    /// A first token of `account` is late. The engine queues if the last one, not long ago, was another account's, or
    /// `alone`: nobody else has asked for anything lately.
    pub(crate) fn on_late(&mut self, now: Duration, account: u64, alone: bool) {
        if self.late_by_itself.is_some_and(|at| now.saturating_sub(at) < LATE_SPAN) {
            return;
        }
        let other = self.late.is_some_and(|(of, at)| of != account && now.saturating_sub(at) < LATE_SPAN);
        if other || alone {
            self.late = None;
            self.on_engine_queue(now);
        } else {
            self.late = Some((account, now));
        }
    }

    /// A first token is late whose request was overtaken: some requests take long by themselves here, so for a while a
    /// late one that nobody happened to overtake is no sign of a queue either.
    pub(crate) fn on_late_by_itself(&mut self, now: Duration) {
        self.late_by_itself = Some(now);
    }

    /// Tokens came. A silence of all streams before it was a pause of the engine, and nobody's queue.
    pub(crate) fn on_flow(&mut self, now: Duration) {
        let quiet = now.saturating_sub(self.heard);
        if quiet > PAUSE_MIN {
            self.silent += quiet;
        }
        self.heard = now;
    }

    /// How long it has been silent with streams running, until now.
    pub(crate) fn silent_until(&self, now: Duration) -> Duration {
        let quiet = if self.with_token > 0 { now.saturating_sub(self.heard) } else { Duration::ZERO };
        self.silent + if quiet > PAUSE_MIN { quiet } else { Duration::ZERO }
    }

    /// A request whose first token will be seen was sent.
    pub(crate) fn on_sent(&mut self, now: Duration, id: RequestId) {
        if self.outstanding.len() < OUTSTANDING_MAX {
            self.outstanding.push_back((now, id));
        }
    }

    /// The next of those that were sent before `sent`, who has its first token now.
    pub(crate) fn next_overtaken(&mut self, sent: Duration) -> Option<RequestId> {
        self.outstanding.pop_front_if(|(before, _)| *before < sent).map(|(_, id)| id)
    }

    /// Whether a request that was sent after `sent` had its first token in time: an engine that keeps a queue would have
    /// begun with the earlier one.
    pub(crate) fn overtook(&self, sent: Duration) -> bool {
        self.in_time_sent > sent
    }

    /// A request that was sent at `sent` was answered in time: who was sent before it and still waits, waits for something
    /// of its own. One that was answered late shows nothing of the kind: where an engine keeps a queue, those whose turn
    /// comes in the same step get their tokens in any order.
    pub(crate) fn on_in_time(&mut self, sent: Duration) {
        self.in_time_sent = self.in_time_sent.max(sent);
    }

    /// A request that was sent at `sent` was answered.
    pub(crate) fn on_answered(&mut self, now: Duration, sent: Duration, needs: u64) {
        if self.health.on_success(now, sent) {
            self.evidence.forgive();
        }
        self.absent.on_served(sent, needs);
    }

    /// Takes it out of service; nobody is sent there, so there is nothing to compare.
    pub(crate) fn eject(&mut self, now: Duration) {
        self.health.eject(now);
        self.ghosts.clear();
    }

    /// How full it is in comparison with others, 1 at the limit: requests that failed quickly count.
    pub(crate) fn saturation_compared(&self, now: Duration, terms: Terms) -> f64 {
        let places = f64::from(self.active + self.ghosts.count()) / self.limit_now(now, terms);
        self.memory(now, terms).max(places)
    }

    /// Prompt tokens that wait there, those of requests that failed quickly included.
    pub(crate) fn backlog_compared(&self) -> u64 {
        self.backlog + self.ghosts.tokens()
    }

    /// The engine was seen to queue: it has about as many slots as had tokens at a time lately.
    fn on_engine_queue(&mut self, now: Duration) {
        let peak = self.tokens_peak.0.max(self.tokens_peak.1).max(self.with_token);
        self.limit.on_engine_queue(now, peak);
        self.prefill.on_engine_queue();
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
        if let Some((_, last)) = self.scrape {
            scrape.slots = scrape.slots.or(last.slots);
            scrape.step_budget = scrape.step_budget.or(last.step_budget);
        }
        self.scrape = Some((now, scrape));
        self.memory.observe(now, &scrape, self.backlog);
    }

    pub(crate) fn scrape_age(&self, now: Duration) -> Option<Duration> {
        self.scrape.map(|(at, _)| now.saturating_sub(at))
    }

    /// Seconds per token, as seen or guessed.
    pub(crate) fn usual_gap(&self) -> f64 {
        self.limit.gap().map_or(GAP_GUESS_S, |gap| gap.as_secs_f64())
    }

    /// One step of the control loop; `answer`: tokens that an answer holds when it has grown.
    pub(crate) fn step(&mut self, now: Duration, answer: f64, tokens_per_step: f64) {
        self.prefill.on_step(self.usual_gap() * tokens_per_step);
        if self.memory.is_short(now) {
            self.limit.on_loss();
        }
        self.memory.step(now, self.active, answer, self.usual_gap());
        let slots = self.slots();
        self.limit.step(now, slots, self.active);
    }
}
