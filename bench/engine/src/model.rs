//! A continuously batching engine as a state machine in virtual time.
//!
//! The scheduler is that of vLLM V1, which the other engines resemble. Each step:
//!
//! 1. Running requests first, in order of admission: a decoding one gets its next token(s), one in prefill the next
//!    chunk of its prompt, as far as the token budget of the step lasts.
//! 2. Where a request needs a KV block and none is left, the *last* running request is preempted: its blocks are
//!    freed, it goes to the *front* of the queue and computes everything again.
//! 3. Unless something was preempted: waiting requests, first come, first served, while the budget, the number of
//!    sequences and the KV blocks (of the whole prompt) last. Prompt blocks that are still cached are not computed.
//! 4. The step takes [`Profile::step_time`]; at its end tokens exist.
//!
//! The caller owns time: [`EngineModel::next_step_at`] says when something happens next, [`EngineModel::step`] makes
//! it happen. Same calls, same events.
//!
//! Simplified: blocks of generated tokens are not kept for later prompts; two equal prompts that are prefilled in the
//! same step do not share.
//!
//! What engines do besides (lag, pauses, another order, several tokens at a time) is [`behaviour`](crate::behaviour)'s, and
//! nothing of it happens unless the profile says so.
//!
//! # Guarantees
//!
//! - [`Counters`] is the truth that accounting is compared with: its sums are those of the [`Usage`] of finished and
//!   aborted requests, and a request that was never preempted has `prefill = prompt − cached`.
//! - A step is O(running + admitted blocks); it does not allocate beyond the growth of `events`.
//! - Nothing can wait for ever: what could never fit is refused at once.

mod blocks;
#[cfg(test)]
mod knee;

use std::collections::VecDeque;
use std::time::Duration;

use crate::behaviour::Order;
use crate::profile::{Profile, StepWork};
use crate::text::mix;
use blocks::BlockPool;

/// A request as the engine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineRequest {
    /// Chosen by the caller, unique among live requests.
    pub id: u64,
    /// Tokens of the prompt, at least 1.
    pub prompt_tokens: u32,
    /// Tokens that it will generate, at least 1.
    pub output_tokens: u32,
    /// Chained hashes of the prompt's full blocks, in order. Empty: nothing to share.
    pub block_hashes: Vec<u64>,
}

/// What a request cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens.
    pub prompt_tokens: u32,
    /// Of them, found in the prefix cache at admission.
    pub cached_tokens: u32,
    /// Tokens generated.
    pub completion_tokens: u32,
    /// Prompt tokens (and, after a preemption, generated ones) that were computed, possibly several times.
    pub prefill_tokens: u64,
}

/// What happened at the end of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// `n` more tokens of this request exist.
    Token {
        /// Whose.
        id: u64,
        /// How many, at least 1.
        n: u32,
    },
    /// The request has all its tokens and is gone.
    Finished {
        /// Whose.
        id: u64,
        /// What it cost.
        usage: Usage,
    },
    /// The request lost its KV blocks and waits again.
    Preempted {
        /// Whose.
        id: u64,
    },
}

impl Event {
    /// Which request it is about.
    fn request(&self) -> u64 {
        match *self {
            Event::Token { id, .. } | Event::Finished { id, .. } | Event::Preempted { id } => id,
        }
    }
}

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Prompt and answer together need more KV blocks than there are.
    #[error("{tokens} tokens can never fit into {kv_tokens} tokens of KV cache")]
    TooLarge {
        /// Prompt plus answer.
        tokens: u64,
        /// Capacity.
        kv_tokens: u32,
    },
    /// The bound on requests in the engine is reached.
    #[error("{requests} requests are in the engine already")]
    Busy {
        /// How many.
        requests: u32,
    },
}

/// Everything that was ever computed here. Only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Steps completed.
    pub steps: u64,
    /// Sum of all step times.
    pub busy: Duration,
    /// Requests admitted to a batch, each once.
    pub admitted: u64,
    /// Requests that got all their tokens.
    pub finished: u64,
    /// Requests that were aborted, waiting ones too.
    pub aborted: u64,
    /// Preemptions.
    pub preemptions: u64,
    /// Prompt tokens of admitted requests.
    pub prompt_tokens: u64,
    /// Of them, found in the prefix cache.
    pub cached_tokens: u64,
    /// Prefill tokens computed, recomputation included.
    pub prefill_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Prefill tokens computed for requests that were aborted.
    pub aborted_prefill_tokens: u64,
    /// Tokens generated for requests that were aborted.
    pub aborted_generated_tokens: u64,
}

/// The state that an engine's metrics show.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Gauges {
    /// Requests in the batch.
    pub running: u32,
    /// Requests before it.
    pub waiting: u32,
    /// Share of KV blocks in use, 0 … 1.
    pub kv_usage: f64,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct EngineModel {
    profile: Profile,
    /// Share of its speed at which it works, greater than 0.
    pace: f64,
    requests_max: u32,
    pool: BlockPool,
    /// In the API server, before the scheduler knows of them; in the order in which they will be ready.
    arriving: VecDeque<(Duration, Request)>,
    /// When the API server's thread has done what it has to do.
    api_free: Duration,
    /// What has happened and is not told yet; in the order in which it will be.
    untold: VecDeque<(Duration, Event)>,
    /// Prompt tokens of whom the events of the ended step are; kept for its memory.
    prompts: Vec<u32>,
    waiting: VecDeque<Request>,
    running: Vec<Request>,
    /// Start and end of the step that is being computed.
    step: Option<(Duration, Duration)>,
    counters: Counters,
}

/// Which running requests a step is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    Prompts,
}

fn micros(us: f64) -> Duration {
    Duration::from_nanos((us.max(0.0) * 1e3) as u64)
}

#[derive(Debug, Clone)]
struct Request {
    id: u64,
    prompt: u32,
    output: u32,
    generated: u32,
    /// Tokens whose KV exists.
    computed: u32,
    /// Tokens of the step that is being computed.
    scheduled: u32,
    /// Past its prefill: one token (or a few) per step.
    decoding: bool,
    aborted: bool,
    admitted_before: bool,
    cached: u32,
    prefill_computed: u64,
    /// Tokens and steps since its last event.
    unsaid: (u32, u32),
    private_blocks: u32,
    published: u32,
    shared_blocks: Vec<u32>,
    hashes: Vec<u64>,
}

/// More requests than this are refused by an engine that was given no bound of its own.
pub const REQUESTS_MAX: u32 = 1_000_000;

impl EngineModel {
    /// An idle engine with an empty cache.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        Self::with_requests_max(profile, REQUESTS_MAX)
    }

    /// An idle engine that refuses when `requests_max` requests are in it, running ones included.
    #[must_use]
    pub fn with_requests_max(profile: Profile, requests_max: u32) -> Self {
        let pool = BlockPool::new(profile.blocks());
        Self {
            profile,
            pace: 1.0,
            requests_max,
            pool,
            arriving: VecDeque::new(),
            api_free: Duration::ZERO,
            untold: VecDeque::new(),
            prompts: Vec::new(),
            waiting: VecDeque::new(),
            running: Vec::new(),
            step: None,
            counters: Counters::default(),
        }
    }

    /// Takes a request. It is scheduled by a later [`step`](Self::step), see [`next_step_at`](Self::next_step_at).
    ///
    /// # Errors
    /// It can never fit, or the engine is full.
    pub fn submit(&mut self, now: Duration, request: EngineRequest) -> Result<(), Refusal> {
        let prompt = request.prompt_tokens.max(1);
        let output = request.output_tokens.max(1);
        let tokens = u64::from(prompt) + u64::from(output);
        if tokens.div_ceil(u64::from(self.profile.block_tokens)) > u64::from(self.pool.total()) {
            return Err(Refusal::TooLarge { tokens, kv_tokens: self.profile.kv_tokens });
        }
        let requests = self.requests();
        if requests >= self.requests_max {
            return Err(Refusal::Busy { requests });
        }
        let hashes = if self.profile.prefix_cache { request.block_hashes } else { Vec::new() };
        let request = Request {
            id: request.id,
            prompt,
            output,
            generated: 0,
            computed: 0,
            scheduled: 0,
            decoding: false,
            aborted: false,
            admitted_before: false,
            cached: 0,
            prefill_computed: 0,
            unsaid: (0, 0),
            private_blocks: 0,
            published: 0,
            shared_blocks: Vec::with_capacity(hashes.len()),
            hashes,
        };
        let ready = self.ready_at(now, &request);
        let place = self.arriving.partition_point(|(at, _)| *at <= ready);
        self.arriving.insert(place, (ready, request));
        Ok(())
    }

    /// When the scheduler will know of a request that has just come.
    fn ready_at(&mut self, now: Duration, request: &Request) -> Duration {
        let behaviour = &self.profile.behaviour;
        let mut at = now;
        if behaviour.api_us_per_token > 0.0 {
            let thread = micros(behaviour.api_us_per_token * f64::from(request.prompt));
            self.api_free = self.api_free.max(now) + thread;
            at = self.api_free;
        }
        at + micros((self.profile.api_ms + behaviour.way_ms) * 1e3)
            + behaviour.lag_of(mix(request.id) ^ u64::from(request.prompt))
    }

    /// Forgets a request; what was computed for it so far, or `None` if it is not here. One that is in the batch
    /// leaves at the end of the step that is being computed, whose tokens are computed but delivered to nobody.
    /// O(requests).
    pub fn abort(&mut self, _now: Duration, id: u64) -> Option<Usage> {
        let usage = self.take_out(id)?;
        self.counters.aborted += 1;
        self.counters.aborted_prefill_tokens += usage.prefill_tokens;
        self.counters.aborted_generated_tokens += u64::from(usage.completion_tokens);
        Some(usage)
    }

    fn take_out(&mut self, id: u64) -> Option<Usage> {
        if let Some(request) = self.running.iter_mut().find(|request| request.id == id && !request.aborted) {
            request.aborted = true;
            return Some(request.usage());
        }
        if let Some(at) = self.waiting.iter().position(|request| request.id == id) {
            return self.waiting.remove(at).map(|request| request.usage());
        }
        let at = self.arriving.iter().position(|(_, request)| request.id == id)?;
        self.arriving.remove(at).map(|(_, request)| request.usage())
    }

    /// When [`step`](Self::step) has something to do; `None` while there is nothing. Never moves backwards but by a
    /// `submit`. O(1).
    #[must_use]
    pub fn next_step_at(&self) -> Option<Duration> {
        let work = match self.step {
            Some((_, end)) => Some(end),
            None => self.arriving.front().map(|(ready, _)| *ready),
        };
        let told = self.untold.front().map(|(at, _)| *at);
        [work, told].into_iter().flatten().min()
    }

    /// Ends the step that is due at `now`, if any, and begins the next one at `now`. Before it is due: nothing.
    /// Appends to `events`, in the order of the batch.
    pub fn step(&mut self, now: Duration, events: &mut Vec<Event>) {
        self.tell(now, events);
        if let Some((start, end)) = self.step {
            if now < end {
                return;
            }
            self.counters.steps += 1;
            self.counters.busy += end - start;
            self.step = None;
            let first = events.len();
            self.complete(events);
            if self.profile.behaviour.any_order {
                self.mix_up(first, events);
            }
            self.delay(now, first, events);
        }
        while self.arriving.front().is_some_and(|(ready, _)| *ready <= now) {
            self.waiting.extend(self.arriving.pop_front().map(|(_, request)| request));
        }
        let mut work = StepWork::default();
        if self.profile.behaviour.prefill_first {
            self.schedule(&mut work, events, Which::Prompts);
        }
        if work.tokens == 0 {
            self.schedule(&mut work, events, Which::All);
        }
        if work.tokens > 0 {
            let stall = self.profile.behaviour.stall_of(self.counters.steps);
            let takes = self.profile.step_time(&work).div_f64(self.pace) + stall;
            self.step = Some((now, self.profile.behaviour.end_of(now, takes)));
        }
        self.invariants();
    }

    fn schedule(&mut self, work: &mut StepWork, events: &mut Vec<Event>, which: Which) {
        if !self.continue_running(work, events, which) {
            self.admit_waiting(work);
        }
    }

    /// Tells what is due.
    fn tell(&mut self, now: Duration, events: &mut Vec<Event>) {
        while self.untold.front().is_some_and(|(at, _)| *at <= now) {
            events.extend(self.untold.pop_front().map(|(_, event)| event));
        }
    }

    /// The events from `first` on in any order of the requests; those of one request stay in theirs.
    fn mix_up(&mut self, first: usize, events: &mut Vec<Event>) {
        let step = mix(self.counters.steps);
        let mut mixed: Vec<(Event, u32)> = events.drain(first..).zip(self.prompts.drain(..)).collect();
        mixed.sort_by_key(|(event, _)| mix(step ^ event.request()));
        for (event, prompt) in mixed {
            events.push(event);
            self.prompts.push(prompt);
        }
    }

    /// Keeps the events from `first` on back for as long as they are on their way out of the engine.
    fn delay(&mut self, now: Duration, first: usize, events: &mut Vec<Event>) {
        let behaviour = self.profile.behaviour;
        if !behaviour.delays_events() {
            return self.prompts.clear();
        }
        for (event, prompt) in events.drain(first..).zip(self.prompts.drain(..)) {
            let mut at = now + micros(behaviour.transfer_us_per_token * f64::from(prompt));
            if behaviour.api_us_per_event > 0.0 {
                self.api_free = self.api_free.max(now) + micros(behaviour.api_us_per_event);
                at = at.max(self.api_free);
            }
            at += micros(behaviour.way_ms * 1e3);
            let place = self.untold.partition_point(|(before, _)| *before <= at);
            self.untold.insert(place, (at, event));
        }
    }

    /// Works at this share of its speed from the next step on: hardware that throttles, a neighbour on the same card.
    pub fn set_pace(&mut self, share: f64) {
        self.pace = share.clamp(0.01, 100.0);
    }

    /// What was computed so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What the engine's metrics would show now. O(1).
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        Gauges {
            running: self.running.len() as u32,
            waiting: (self.waiting.len() + self.arriving.len()) as u32,
            kv_usage: f64::from(self.pool.used()) / f64::from(self.pool.total().max(1)),
        }
    }

    /// The costs and bounds that it was made with.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    fn requests(&self) -> u32 {
        (self.running.len() + self.waiting.len() + self.arriving.len()) as u32
    }

    /// Turns the tokens of the ended step into facts.
    fn complete(&mut self, events: &mut Vec<Event>) {
        let Self { profile, pool, running, counters, prompts, .. } = self;
        running.retain_mut(|request| {
            if request.scheduled > 0 {
                let n = request.advance(profile, pool, counters);
                if n > 0 && !request.aborted {
                    counters.generated_tokens += u64::from(n);
                    request.generated += n;
                    if let Some(n) = request.say(n, profile.behaviour.steps_per_event) {
                        events.push(Event::Token { id: request.id, n });
                        prompts.push(request.prompt);
                    }
                }
            }
            if request.aborted {
                request.free(pool);
                return false;
            }
            if request.generated < request.output {
                return true;
            }
            request.free(pool);
            counters.finished += 1;
            events.push(Event::Finished { id: request.id, usage: request.usage() });
            prompts.push(request.prompt);
            false
        });
    }

    /// Rules 1 and 2. Whether something was preempted.
    fn continue_running(&mut self, work: &mut StepWork, events: &mut Vec<Event>, which: Which) -> bool {
        let mut preempted = false;
        let mut at = 0;
        while let Some(request) = self.running.get(at) {
            if which == Which::Prompts && request.decoding {
                at += 1;
                continue;
            }
            let budget = self.profile.step_tokens_max - work.tokens;
            let chunk = request.next_chunk(&self.profile).min(budget);
            if chunk == 0 {
                break;
            }
            let blocks = request.blocks_missing(chunk, &self.profile);
            while !self.pool.take(blocks) {
                let Some(mut victim) = self.running.pop() else { break };
                victim.free(&mut self.pool);
                victim.restart();
                preempted = true;
                self.counters.preemptions += 1;
                events.push(Event::Preempted { id: victim.id });
                self.waiting.push_front(victim);
                if self.running.len() == at {
                    return preempted;
                }
            }
            let Some(request) = self.running.get_mut(at) else { break };
            request.private_blocks += blocks;
            request.schedule(chunk, work);
            at += 1;
        }
        preempted
    }

    /// Rule 3.
    fn admit_waiting(&mut self, work: &mut StepWork) {
        while (self.running.len() as u32) < self.profile.sequences_max
            && work.tokens < self.profile.step_tokens_max
        {
            let next = self.next_waiting();
            let Some(request) = self.waiting.get(next) else { break };
            // At least the last token is computed, since its output is what the first answer token comes from.
            let cacheable = ((request.prompt - 1) / self.profile.block_tokens) as usize;
            let prefix = request.hashes.get(..cacheable.min(request.hashes.len())).unwrap_or_default();
            let hits = self.pool.hits(prefix);
            let whole = (request.prompt + request.generated).div_ceil(self.profile.block_tokens);
            if whole - hits.blocks > self.pool.room() - hits.idle {
                break;
            }
            let Some(mut request) = self.waiting.remove(next) else { break };
            for hash in request.hashes.iter().take(hits.blocks as usize) {
                request.shared_blocks.extend(self.pool.hold(*hash));
            }
            request.published = hits.blocks;
            request.computed = hits.blocks * self.profile.block_tokens;
            if !request.admitted_before {
                request.admitted_before = true;
                request.cached = request.computed;
                self.counters.admitted += 1;
                self.counters.prompt_tokens += u64::from(request.prompt);
                self.counters.cached_tokens += u64::from(request.cached);
            }
            let chunk = request.next_chunk(&self.profile).min(self.profile.step_tokens_max - work.tokens);
            let blocks = request.blocks_missing(chunk, &self.profile);
            self.pool.take(blocks);
            request.private_blocks += blocks;
            request.schedule(chunk, work);
            self.running.push(request);
        }
    }

    /// The place of the waiting request that is next. One that was preempted goes on first, whatever the order.
    fn next_waiting(&self) -> usize {
        if self.waiting.front().is_some_and(|request| request.admitted_before) {
            return 0;
        }
        match self.profile.behaviour.order {
            Order::FirstCome => 0,
            Order::LastCome => self.waiting.len().saturating_sub(1),
            Order::Random => {
                let draw = mix(self.counters.steps ^ self.counters.admitted << 32);
                (draw % self.waiting.len().max(1) as u64) as usize
            }
        }
    }

    /// No block is lost or owned twice.
    fn invariants(&self) {
        if cfg!(debug_assertions) {
            let private: u32 = self.running.iter().map(|request| request.private_blocks).sum();
            debug_assert!(private <= self.pool.used(), "{private} private blocks, {} used", self.pool.used());
            if self.running.is_empty() {
                debug_assert_eq!(self.pool.used(), 0, "an idle engine uses no block");
                debug_assert!(self.waiting.is_empty(), "an idle engine has room for anyone");
            }
        }
    }
}

impl Request {
    /// Tokens that it wants from the next step.
    fn next_chunk(&self, profile: &Profile) -> u32 {
        if self.decoding {
            profile.decode_tokens.max(1).min(self.output - self.generated)
        } else {
            self.prompt + self.generated - self.computed
        }
    }

    fn blocks_missing(&self, chunk: u32, profile: &Profile) -> u32 {
        let needed = (self.computed + chunk).div_ceil(profile.block_tokens);
        needed.saturating_sub(self.private_blocks + self.shared_blocks.len() as u32)
    }

    fn schedule(&mut self, chunk: u32, work: &mut StepWork) {
        self.scheduled = chunk;
        work.tokens += chunk;
        work.sequences += 1;
        if self.decoding {
            work.decoding += 1;
            work.context_tokens += u64::from(self.computed + chunk);
        } else {
            work.attention_pairs += f64::from(chunk) * (f64::from(self.computed) + f64::from(chunk) / 2.0);
        }
    }

    /// Books the scheduled tokens as computed, publishes full prompt blocks, and says how many answer tokens came.
    fn advance(&mut self, profile: &Profile, pool: &mut BlockPool, counters: &mut Counters) -> u32 {
        let chunk = std::mem::take(&mut self.scheduled);
        if self.decoding {
            let drawn = mix(self.id) ^ u64::from(self.generated) << 32;
            let accepted = profile.behaviour.accepted(chunk, drawn);
            self.computed += accepted;
            return accepted;
        }
        self.computed += chunk;
        self.prefill_computed += u64::from(chunk);
        counters.prefill_tokens += u64::from(chunk);
        if self.aborted {
            counters.aborted_prefill_tokens += u64::from(chunk);
        }
        self.publish(profile, pool);
        self.decoding = self.computed == self.prompt + self.generated;
        if !self.decoding {
            return 0;
        }
        // An engine that costs nothing has no steps to tell apart: everything comes at once.
        if profile.is_instant() { self.output - self.generated } else { 1 }
    }

    /// What is told of `n` more tokens now: nothing, or all that was not told yet.
    fn say(&mut self, n: u32, steps_per_event: u32) -> Option<u32> {
        let (unsaid, steps) = self.unsaid;
        let first = self.generated == n;
        let last = self.generated >= self.output;
        self.unsaid = (unsaid + n, steps + 1);
        if !(first || last || self.unsaid.1 >= steps_per_event) {
            return None;
        }
        let (all, _) = std::mem::take(&mut self.unsaid);
        Some(all)
    }

    fn publish(&mut self, profile: &Profile, pool: &mut BlockPool) {
        let full = self.computed.min(self.prompt) / profile.block_tokens;
        while self.published < full {
            let Some(hash) = self.hashes.get(self.published as usize) else { break };
            if let Some(slot) = pool.publish(*hash) {
                self.shared_blocks.push(slot);
                self.private_blocks -= 1;
            }
            self.published += 1;
        }
    }

    /// Gives all blocks back, the last one first, so that the beginning of a prompt outlives its end in the cache.
    fn free(&mut self, pool: &mut BlockPool) {
        while let Some(slot) = self.shared_blocks.pop() {
            pool.release(slot);
        }
        pool.give(std::mem::take(&mut self.private_blocks));
        self.published = 0;
    }

    /// Back to the start after a preemption, keeping what was generated.
    fn restart(&mut self) {
        self.computed = 0;
        self.scheduled = 0;
        self.decoding = false;
    }

    fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt,
            cached_tokens: self.cached,
            completion_tokens: self.generated,
            prefill_tokens: self.prefill_computed,
        }
    }
}

#[cfg(test)]
mod tests;
