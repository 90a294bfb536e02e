//! The events of a drill between clients, gateway and engines, on one clock.
//!
//! The gateway's side does what the real one does: it offers a request on arrival, sends admitted ones, reports first
//! content, end, failure and departure as it learns of them, stamps gaps between chunks when they reach it, and ticks
//! every 250 ms with what came since. Network takes [`Scenario::network`] each way, so nothing is known before it could
//! be. Nothing else passes: decisions take no time.
//!
//! Ties are resolved by the order in which events were made, engines by their number. Nothing is random but what the
//! seed gives, and no map is walked whose order is not defined: the same scenario gives the same [`Run`], to the bit.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use gateway_core::averages::{TokensPerChunk, UsualAnswer};
use gateway_core::pace::{Gaps, Pace, Unseen};
use protocol::attribution::{Observed, Verdict};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use shedder::{Finished, Reason, Tier, Uncached};

use crate::policy::{Answer, Arrival, Fault, Gate, Inside, Policy, Progress};
use crate::run::{Ended, Outcome, Run, Second};
use crate::scenario::fleet::Deployment;
use crate::scenario::traffic::{Ask, Stream};
use crate::scenario::{Incident, Retry, Scenario};
use accounts::Accounts;
use engine::model::{Event, Usage};
use fleet::Fleet;
use network::Network;
use starts::RegularStarts;

/// The rhythm of the gateway's control.
const TICK: Duration = Duration::from_millis(250);
/// Accounts whose service is recorded second by second.
const WATCHED_ACCOUNTS: usize = 64;

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Incident(Incident),
    /// The next request of this stream.
    Arrive(u32),
    /// The client of this ticket comes back.
    Again(u32),
    /// The bytes of a request reach its engine.
    Submit(u32, u32),
    /// The replica's words of that life reach the gateway.
    Hear(u16, u32),
    Failed(u32, u32, Why),
    Abort(u32, u32, u16),
    Impatient(u32),
    /// The metrics of this deployment's engines are read.
    Scrape(u16),
    Tick,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Connect,
    Reset,
}

/// Something that will happen: in order of time, then in the order in which it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Due {
    at: Duration,
    made: u64,
    what: What,
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.made).cmp(&(other.at, other.made))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    /// On that replica, or on its way there.
    Active(u16),
    Over,
}

/// One try of a request.
#[derive(Debug, Clone)]
struct Try {
    ask: Ask,
    number: u32,
    at: Duration,
    stage: Stage,
    /// How often it was sent; what an engine says of an earlier time is old.
    sent_times: u32,
    sent: Duration,
    /// What is to be computed on each deployment.
    uncached: Vec<Uncached>,
    /// Of a whole answer, once it was sent.
    unseen: Option<Unseen>,
    first: Option<Duration>,
    last: Duration,
    tokens: u32,
    /// Of them, shown to the gate so far.
    harvested: u32,
    /// Regular requests that had been started when it came.
    starts_before: u64,
    chunks_all: u32,
    chunks: u32,
    gaps: u32,
    gap_sum: Duration,
    work: u64,
}

struct Play<'a> {
    scenario: &'a Scenario,
    gate: Box<dyn Gate>,
    accounts: Accounts,
    fleet: Fleet,
    /// Of each replica the index of its deployment.
    deployment_of: Vec<u16>,
    /// Of each deployment how far answers are that nobody sees, and how many tokens a chunk has.
    paces: Vec<Pace>,
    tokens_per_chunk: Vec<TokensPerChunk>,
    streams: Vec<Stream>,
    /// The request that each stream has ready.
    ready: Vec<Option<Ask>>,
    tries: Vec<Try>,
    due: BinaryHeap<Reverse<Due>>,
    made: u64,
    /// Streams with requests to come, tries that are not over, clients that will come back.
    open: usize,
    live: usize,
    returning: usize,
    dirty: Vec<u32>,
    /// Of each model.
    usual: Vec<UsualAnswer>,
    network: Network,
    /// No gateway listens.
    down: bool,
    /// The gateway was told to end and has not.
    leaving: Option<incidents::Leaving>,
    /// A whole second has just ended.
    second_over: bool,
    /// Tokens of each family's prompt that a replica computed; bounded by the families of the run.
    seen: BTreeMap<u64, Vec<(u16, u32)>>,
    frozen: bool,
    /// The rhythm of a policy that has one of its own.
    scrape_rhythm: Option<Duration>,
    rng: SmallRng,
    regular_starts: RegularStarts,
    run: Run,
}

/// Plays `scenario` under `policy` to its end.
#[must_use]
pub fn play(scenario: &Scenario, policy: &Policy) -> Run {
    play_watched(scenario, policy, &mut |_, _| true)
}

/// The same, and shows the run to `watch` after each second, until that says `false`: then it ends early.
#[must_use]
pub fn play_watched(
    scenario: &Scenario,
    policy: &Policy,
    watch: &mut dyn FnMut(Duration, &Run) -> bool,
) -> Run {
    Play::new(scenario, policy).until_over(watch)
}

fn id_of(ticket: u32, sent_times: u32) -> u64 {
    u64::from(sent_times) << 32 | u64::from(ticket)
}

impl<'a> Play<'a> {
    fn new(scenario: &'a Scenario, policy: &Policy) -> Self {
        let streams = Stream::all(scenario);
        let mut play = Self {
            scenario,
            gate: policy.build(scenario),
            accounts: Accounts::new(scenario),
            fleet: Fleet::new(scenario),
            deployment_of: numbered(scenario),
            paces: vec![Pace::default(); scenario.deployments.len()],
            tokens_per_chunk: vec![TokensPerChunk::default(); scenario.deployments.len()],
            ready: vec![None; streams.len()],
            open: streams.len(),
            streams,
            tries: Vec::new(),
            due: BinaryHeap::new(),
            made: 0,
            live: 0,
            returning: 0,
            dirty: Vec::new(),
            usual: scenario.models.iter().map(|model| UsualAnswer::starting_at(model.usual)).collect(),
            network: Network::new(scenario.network, scenario.jitter),
            seen: BTreeMap::new(),
            frozen: false,
            scrape_rhythm: policy.scrape(),
            down: false,
            leaving: None,
            second_over: false,
            rng: SmallRng::seed_from_u64(!scenario.seed),
            regular_starts: RegularStarts::default(),
            run: Run::new(scenario, policy.name()),
        };
        for (at, incident) in &scenario.incidents {
            play.later(*at, What::Incident(*incident));
        }
        (0..play.streams.len() as u32).for_each(|number| play.prepare_next(number));
        play.later(TICK, What::Tick);
        for (number, deployment) in (0_u16..).zip(&scenario.deployments) {
            if let Some(every) = policy.scrape().or(deployment.scrape) {
                play.run.scrape_every.get_or_insert(every);
                play.later(every, What::Scrape(number));
            }
        }
        play
    }

    fn later(&mut self, at: Duration, what: What) {
        self.made += 1;
        self.due.push(Reverse(Due { at, made: self.made, what }));
    }

    /// Happens when it has come over the network.
    fn over_network(&mut self, now: Duration, what: What) {
        let at = self.network.arrival(now, &mut self.rng);
        self.later(at, what);
    }

    fn until_over(mut self, watch: &mut dyn FnMut(Duration, &Run) -> bool) -> Run {
        let cut = self.scenario.end + self.scenario.drain;
        let mut now = Duration::ZERO;
        while self.open + self.live + self.returning > 0 && now <= cut {
            let event = self.due.peek().map(|Reverse(due)| due.at);
            let step = self.fleet.next_step().filter(|(at, _)| event.is_none_or(|event| *at < event));
            if let Some((at, replica)) = step {
                now = at;
                if let Some(life) = self.fleet.step(now, replica) {
                    let at = self.network.heard_at(now, replica, &mut self.rng);
                    self.later(at, What::Hear(replica, life));
                }
            } else if let Some(Reverse(Due { at, what, .. })) = self.due.pop() {
                now = at;
                self.happen(now, what);
                self.verdicts(now);
                if std::mem::take(&mut self.second_over) && !watch(now, &self.run) {
                    return self.broken_off(now);
                }
            } else {
                break;
            }
        }
        self.close(now)
    }

    /// Somebody ended it: what is still running is not judged.
    fn broken_off(self, now: Duration) -> Run {
        let mut run = self.close(now);
        run.cut(now);
        run
    }

    /// What is still running is cut off; the gate must be empty then.
    fn close(mut self, now: Duration) -> Run {
        for ticket in 0..self.tries.len() as u32 {
            let Some(attempt) = self.tries.get(ticket as usize) else { continue };
            if attempt.stage != Stage::Over {
                self.abort_upstream(now, ticket);
                self.gate.cancel(now, ticket);
                self.end(now, ticket, Outcome::CutOff, None);
            }
        }
        let mut after = now;
        // Places booked for what was taken back are given back by the clock.
        for _ in 0..120 {
            after += Duration::from_secs(1);
            self.gate.tick(after, &[]);
        }
        self.run.at_rest = self.gate.at_rest(after) && self.accounts.is_at_rest();
        (self.run.preemptions, self.run.steps) = self.fleet.totals();
        self.run
    }

    fn happen(&mut self, now: Duration, what: What) {
        match what {
            What::Arrive(stream) => {
                let ask = self.ready.get_mut(stream as usize).and_then(Option::take);
                self.prepare_next(stream);
                if let Some(ask) = ask {
                    self.arrive(now, ask, 0);
                }
            }
            What::Again(ticket) => {
                self.returning -= 1;
                let before = self.tries.get(ticket as usize).map(|attempt| (attempt.ask, attempt.number));
                if let Some((ask, number)) = before {
                    self.arrive(now, ask, number + 1);
                }
            }
            What::Submit(ticket, times) => self.submit(now, ticket, times),
            What::Hear(replica, life) => self.hear(now, replica, life),
            What::Failed(ticket, times, why) => self.failed(now, ticket, times, why),
            What::Abort(ticket, times, replica) => {
                let usage = self.fleet.abort(now, replica, id_of(ticket, times));
                self.add_work(ticket, usage);
            }
            What::Impatient(ticket) => self.leave(now, ticket),
            What::Incident(incident) => self.incident(now, incident),
            What::Scrape(deployment) => self.scrape(now, deployment),
            What::Tick => self.tick(now),
        }
    }

    fn prepare_next(&mut self, stream: u32) {
        let only = self.scenario.only;
        let wanted = |ask: &Ask| only.is_none_or(|tier| ask.tier == tier);
        let next = self.streams.get_mut(stream as usize).and_then(|stream| stream.find(wanted));
        match next {
            Some(ask) => self.later(ask.at, What::Arrive(stream)),
            None => self.open -= 1,
        }
        if let Some(ready) = self.ready.get_mut(stream as usize) {
            *ready = next;
        }
    }

    fn arrive(&mut self, now: Duration, ask: Ask, number: u32) {
        let ticket = self.tries.len() as u32;
        let uncached = self.uncached(&ask);
        self.tries.push(Try {
            ask,
            number,
            at: now,
            stage: Stage::Waiting,
            sent_times: 0,
            sent: now,
            uncached: uncached.clone(),
            unseen: None,
            first: None,
            last: now,
            tokens: 0,
            harvested: 0,
            starts_before: self.regular_starts.count(),
            chunks_all: 0,
            chunks: 0,
            gaps: 0,
            gap_sum: Duration::ZERO,
            work: 0,
        });
        self.live += 1;
        let client = self.scenario.sources.get(ask.source as usize).map(|source| source.client);
        if let Some(patience) = client.and_then(|client| client.patience) {
            self.later(now + patience, What::Impatient(ticket));
        }
        if self.down {
            return self.refused_connection(now, ticket);
        }
        let usual = self.usual.get(usize::from(ask.model)).copied();
        let usual = usual.unwrap_or_else(|| UsualAnswer::starting_at(0));
        if let Err((limit, retry_after)) = self.admit_to_limits(now, ticket, &ask, &uncached, usual) {
            self.end(now, ticket, Outcome::Limited(limit), None);
            return self.come_back(now, ticket, retry_after);
        }
        let arrival = Arrival {
            ticket,
            tier: ask.tier,
            account: ask.account,
            model: ask.model,
            prompt: ask.size.prompt_tokens,
            uncached,
            expected_output: usual.expected(None, 1),
            streaming: ask.streaming,
        };
        self.accounts.offered(ticket, (ask.account, ask.model), ask.tier == Tier::Regular);
        let answer = self.gate.offer(now, arrival);
        self.take(now, ticket, answer);
    }

    /// The deployment of a replica, and its index.
    fn deployment(&self, replica: u16) -> (&'a Deployment, usize) {
        let index = self.deployment_of.get(usize::from(replica)).map_or(0, |index| usize::from(*index));
        (self.scenario.deployments.get(index).unwrap_or_else(|| self.scenario.fleet()), index)
    }

    /// Acts on what the gate said about a ticket.
    fn take(&mut self, now: Duration, ticket: u32, answer: Answer) {
        match answer {
            Answer::Send(replica) => self.send(now, ticket, replica),
            Answer::Wait => {
                if let Some(attempt) = self.tries.get_mut(ticket as usize) {
                    attempt.stage = Stage::Waiting;
                }
            }
            Answer::Shed { reason, retry_after } => self.shed(now, ticket, reason, retry_after),
            Answer::Withdraw => {
                if let Some(attempt) = self.tries.get_mut(ticket as usize)
                    && let Stage::Active(replica) = std::mem::replace(&mut attempt.stage, Stage::Waiting)
                {
                    let abort = What::Abort(ticket, attempt.sent_times, replica);
                    self.accounts.set_started(ticket, false);
                    self.over_network(now, abort);
                }
            }
        }
    }

    fn send(&mut self, now: Duration, ticket: u32, replica: u16) {
        self.accounts.decided(now, ticket, false);
        self.accounts.set_started(ticket, true);
        let Some(attempt) = self.tries.get(ticket as usize) else { return };
        let uncached = self.uncached_on(attempt, replica);
        let (_, deployment) = self.deployment(replica);
        let pace = self.paces.get(deployment);
        let unseen = pace.filter(|_| !attempt.ask.streaming).map(|pace| pace.sent(now));
        let Some(attempt) = self.tries.get_mut(ticket as usize) else { return };
        attempt.unseen = unseen;
        attempt.stage = Stage::Active(replica);
        attempt.sent_times += 1;
        attempt.sent = now;
        let (times, account) = (attempt.sent_times, attempt.ask.account);
        if attempt.ask.tier == Tier::Regular {
            self.regular_starts.push(now, uncached);
        }
        self.run.serve(now, account as usize, WATCHED_ACCOUNTS, u64::from(uncached));
        self.gate.dispatched(now, ticket);
        self.over_network(now, What::Submit(ticket, times));
    }

    fn shed(&mut self, now: Duration, ticket: u32, reason: Reason, retry_after: Option<Duration>) {
        if reason != Reason::Draining {
            self.accounts.decided(now, ticket, true);
        }
        let Some(attempt) = self.tries.get(ticket as usize) else { return };
        let for_load = !matches!(reason, Reason::Deadline | Reason::Draining | Reason::NoReplica);
        if attempt.ask.tier == Tier::Priority && for_load {
            let least = attempt.uncached.iter().map(Uncached::least).min().unwrap_or_default();
            let overtaken = self.regular_starts.overtook(attempt.starts_before, least);
            self.run.inversions += u64::from(overtaken);
        }
        self.end(now, ticket, Outcome::Shed(reason), None);
        self.come_back(now, ticket, retry_after);
    }

    /// The client of a try that was refused tries again, if it is one of those.
    fn come_back(&mut self, now: Duration, ticket: u32, told: Option<Duration>) {
        let Some(attempt) = self.tries.get(ticket as usize) else { return };
        let (source, number) = (attempt.ask.source as usize, attempt.number);
        let retry = self.scenario.sources.get(source).and_then(|source| source.client.retry);
        if let Some(retry) = retry.filter(|retry| number < retry.tries) {
            let pause = self.pause(retry, number, told);
            self.returning += 1;
            self.later(now + pause, What::Again(ticket));
        }
    }

    fn pause(&mut self, retry: Retry, number: u32, told: Option<Duration>) -> Duration {
        let spread = self.rng.random_range(0.75..1.25);
        match told.filter(|_| retry.obeys) {
            // As the gateway does: only upward, by up to a quarter.
            Some(told) => told.mul_f64(1.0 + (spread - 0.75) / 2.0),
            None => Duration::from_millis(500).saturating_mul(1 << number.min(4)).mul_f64(spread),
        }
    }

    fn hear(&mut self, now: Duration, replica: u16, life: u32) {
        let Some(events) = self.fleet.hear(replica, life) else { return };
        for event in &events {
            match *event {
                Event::Token { id, n } => self.token(now, id, n),
                Event::Finished { id, usage } => self.finished(now, id, usage),
                Event::Preempted { .. } => {}
            }
            // After each event as after each call of the gateway.
            self.verdicts(now);
        }
        self.fleet.heard(events);
    }

    fn token(&mut self, now: Duration, id: u64, n: u32) {
        let ticket = id as u32;
        let Some(attempt) = self.tries.get_mut(ticket as usize) else { return };
        if !matches!(attempt.stage, Stage::Active(_)) || attempt.sent_times != (id >> 32) as u32 {
            return;
        }
        let first = attempt.first.is_none();
        attempt.first.get_or_insert(now);
        attempt.tokens += n;
        if attempt.ask.streaming {
            if attempt.chunks == 0 {
                self.dirty.push(ticket);
            }
            attempt.chunks += 1;
            attempt.chunks_all += 1;
            if !first {
                attempt.gaps += 1;
                attempt.gap_sum += now - attempt.last;
            }
        }
        attempt.last = now;
        let (account, streaming) = (attempt.ask.account as usize, attempt.ask.streaming);
        self.run.serve(now, account, WATCHED_ACCOUNTS, 2 * u64::from(n));
        if first && streaming {
            self.remember_prefix(ticket);
            self.gate.first_token(now, ticket);
            self.accounts.first_token(now, ticket);
            self.learn_first_token(now, ticket);
        }
    }

    fn finished(&mut self, now: Duration, id: u64, usage: Usage) {
        let ticket = id as u32;
        let Some(attempt) = self.tries.get(ticket as usize) else { return };
        if !matches!(attempt.stage, Stage::Active(_)) || attempt.sent_times != (id >> 32) as u32 {
            return;
        }
        let streaming = attempt.ask.streaming;
        let how = Finished {
            generated: usage.completion_tokens,
            content_chunks: attempt.chunks_all,
            cached: self.scenario.reports_cached.then_some(usage.cached_tokens),
            duration_of_answer: (!streaming).then(|| now - attempt.sent),
        };
        self.remember_prefix(ticket);
        self.learn(now, ticket, usage);
        self.settle(now, ticket, usage);
        self.gate.finish(now, ticket, &how);
        self.add_work(ticket, Some(usage));
        let outcome = self.judge(ticket, usage);
        self.end(now, ticket, outcome, Some(usage));
    }

    /// Whether it met the service level.
    fn judge(&self, ticket: u32, usage: Usage) -> Outcome {
        let Some(attempt) = self.tries.get(ticket as usize) else { return Outcome::Broken };
        let Some(first) = attempt.first else { return Outcome::Broken };
        let Stage::Active(replica) = attempt.stage else { return Outcome::Broken };
        let (deployment, _) = self.deployment(replica);
        let own = deployment.profile.idle_prefill(usage.prompt_tokens - usage.cached_tokens);
        if first - attempt.at > deployment.promised_ttft(attempt.ask.tier) + own {
            return Outcome::Late;
        }
        let further = attempt.tokens.saturating_sub(1).max(1);
        if (attempt.last - first) / further > deployment.slo.tpot { Outcome::Slow } else { Outcome::Met }
    }

    /// Everything that the client of a ticket will ever hear has been said.
    fn end(&mut self, now: Duration, ticket: u32, outcome: Outcome, usage: Option<Usage>) {
        self.accounts.leave(now, ticket);
        let Some(attempt) = self.tries.get_mut(ticket as usize) else { return };
        attempt.stage = Stage::Over;
        // Nobody asks again, and there are as many tries as requests.
        attempt.uncached = Vec::new();
        self.live -= 1;
        let further = attempt.tokens.saturating_sub(1);
        let tpot = attempt.first.filter(|_| further > 0).map(|first| (attempt.last - first) / further);
        let ended = Ended {
            ticket,
            asked: attempt.ask.at,
            tried: attempt.at,
            ended: now,
            number: attempt.number,
            account: attempt.ask.account,
            tier: attempt.ask.tier,
            size: attempt.ask.size,
            cached: usage.map_or(0, |usage| usage.cached_tokens),
            tokens: attempt.tokens,
            ttft: attempt.first.map(|first| first - attempt.at),
            tpot,
            outcome,
            work: attempt.work,
        };
        self.run.ended.push(ended);
    }

    fn failed(&mut self, now: Duration, ticket: u32, times: u32, why: Why) {
        let Some(attempt) = self.tries.get(ticket as usize) else { return };
        if !matches!(attempt.stage, Stage::Active(_)) || attempt.sent_times != times {
            return;
        }
        let observed = match why {
            Why::Connect => Observed::ConnectFailed,
            Why::Reset => Observed::Broken,
        };
        let verdict = Verdict::on(&observed);
        let Some(failure) = verdict.failure(|| u64::from(ticket)) else {
            return self.end(now, ticket, Outcome::Broken, None);
        };
        // Its engine gave up before a token: nothing of the prompt is owed.
        self.accounts.set_started(ticket, attempt.tokens > 0);
        let fault = Fault { failure, is_unknown: verdict == Verdict::Unknown };
        match self.gate.failed(now, ticket, fault) {
            Some(answer) => self.take(now, ticket, answer),
            None => self.end(now, ticket, Outcome::Broken, None),
        }
    }

    /// The client leaves unless its answer has begun.
    fn leave(&mut self, now: Duration, ticket: u32) {
        let Some(attempt) = self.tries.get(ticket as usize) else { return };
        if attempt.stage == Stage::Over || attempt.first.is_some() {
            return;
        }
        if let Stage::Active(replica) = attempt.stage {
            let times = attempt.sent_times;
            self.over_network(now, What::Abort(ticket, times, replica));
        }
        self.settle_unseen(now, ticket);
        self.gate.cancel(now, ticket);
        self.end(now, ticket, Outcome::Left, None);
    }

    fn tick(&mut self, now: Duration) {
        self.leave_gateway(now);
        let mut harvest = Vec::with_capacity(self.dirty.len());
        let mut gaps = vec![Gaps::default(); self.paces.len()];
        for ticket in self.dirty.drain(..) {
            let Some(attempt) = self.tries.get_mut(ticket as usize) else { continue };
            let progress = Progress {
                ticket,
                chunks: attempt.chunks,
                tokens: attempt.tokens - attempt.harvested,
                gap_sum: attempt.gap_sum,
                gaps: attempt.gaps,
            };
            attempt.harvested = attempt.tokens;
            let replica = match attempt.stage {
                Stage::Active(replica) => Some(replica),
                _ => None,
            };
            (attempt.chunks, attempt.gaps, attempt.gap_sum) = (0, 0, Duration::ZERO);
            if attempt.stage != Stage::Over {
                harvest.push(progress);
                self.accounts.chunks(now, ticket, progress.chunks);
            }
            let index = replica.and_then(|replica| self.deployment_of.get(usize::from(replica)));
            if let Some(gaps) = index.and_then(|index| gaps.get_mut(usize::from(*index))) {
                gaps.add(progress.gaps.into(), progress.gap_sum);
            }
        }
        self.paces.iter_mut().zip(&gaps).for_each(|(pace, gaps)| pace.harvested(now, *gaps));
        if now.subsec_nanos() == 0 {
            self.accounts.watch_shortage(now);
        }
        self.gate.tick(now, &harvest);
        if now.subsec_nanos() == 0 {
            let gauges = self.gate.gauges(now);
            self.run.seconds.push(Second { at_s: now.as_secs(), gauges });
            let budgets = self.accounts.gauges(now);
            self.run.inside.push(Inside { budgets, ..self.gate.inside(now) });
            self.second_over = true;
        }
        self.regular_starts.forget(now);
        self.later(now + TICK, What::Tick);
    }

    fn verdicts(&mut self, now: Duration) {
        while let Some((ticket, answer)) = self.gate.verdict() {
            self.take(now, ticket, answer);
        }
    }
}

/// Of each replica the index of its deployment.
fn numbered(scenario: &Scenario) -> Vec<u16> {
    let each = (0_u16..).zip(&scenario.deployments);
    each.flat_map(|(index, one)| std::iter::repeat_n(index, usize::from(one.replicas))).collect()
}

mod accounts;
mod cached;
mod charges;
mod engines;
mod fleet;
mod incidents;
mod network;
mod starts;

#[cfg(test)]
mod tests;
