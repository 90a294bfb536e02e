//! The control loop at work on a fleet of modelled engines, in virtual time.
//!
//! The knee of four 8B replicas without control, 25.6 requests per second of conversations, is load 1.

use std::collections::VecDeque;

use super::engine::*;
use super::*;

/// A traffic mix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mix {
    pub(crate) per_second: f64,
    pub(crate) cv: f64,
    pub(crate) priority: f64,
    pub(crate) streaming: f64,
    pub(crate) prompt: (f64, f64),
    pub(crate) output: (f64, f64, f64),
    pub(crate) cached: f64,
    /// From that second on, so many times the rate.
    pub(crate) step: Option<(f64, f64)>,
}

/// Conversations as a public trace has them: about 1,160 tokens in, 200 out.
pub(crate) fn chat(load: f64) -> Mix {
    Mix {
        per_second: 25.6 * load,
        cv: 1.0,
        priority: 0.3,
        streaming: 1.0,
        prompt: (6.7, 0.85),
        output: (4.9, 1.0, 1_000.0),
        cached: 0.0,
        step: None,
    }
}

#[derive(Debug, Clone, Copy)]
struct Request {
    tier: Tier,
    arrived: f64,
    sent: f64,
    prompt: u32,
    output: u32,
    streaming: bool,
    counted: bool,
    first: Option<f64>,
    last: f64,
    tokens: u32,
    gap_sum: f64,
    gaps: u32,
    on: usize,
}

/// What came of a run, by tier where it says so.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    pub(crate) offered: PerTier<f64>,
    pub(crate) met: PerTier<f64>,
    pub(crate) shed: PerTier<f64>,
    pub(crate) wasted: f64,
    pub(crate) worked: f64,
    pub(crate) seconds: f64,
    pub(crate) limit_mean: f64,
    pub(crate) preemptions: u64,
    pub(crate) late_ttft: f64,
    pub(crate) late_tpot: f64,
}

impl Outcome {
    pub(crate) fn attained(&self, tier: Tier) -> f64 {
        self.met[tier] / self.offered[tier].max(1.0)
    }

    pub(crate) fn goodput(&self) -> f64 {
        (self.met.priority + self.met.regular) / self.seconds
    }

    pub(crate) fn waste(&self) -> f64 {
        self.wasted / self.worked.max(1.0)
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "prio {:.4} reg {:.3} goodput {:5.1}/s waste {:.3} shed {:.3}/{:.3} N {:5.1} preempt {} late ttft {} tpot {}",
            self.attained(PRIORITY),
            self.attained(REGULAR),
            self.goodput(),
            self.waste(),
            self.shed.priority / self.offered.priority.max(1.0),
            self.shed.regular / self.offered.regular.max(1.0),
            self.limit_mean,
            self.preemptions,
            self.late_ttft,
            self.late_tpot,
        )
    }
}

pub(crate) struct Sim {
    pub(crate) shedder: Shedder,
    engines: Vec<Engine>,
    live: std::collections::BTreeMap<RequestId, Request>,
    slo: (f64, f64),
    usual: u32,
    pub(crate) scrape: bool,
    outcome: Outcome,
    limits: (f64, f64),
    dice: Dice,
}

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

impl Sim {
    pub(crate) fn new(config: Config, profile: Profile, count: u16, usual: u32, seed: u64) -> Self {
        let slo = config.slo.map_or((2.0, 0.1), |slo| (slo.ttft.as_secs_f64(), slo.tpot.as_secs_f64()));
        let engine = |_| Engine {
            profile,
            running: Vec::new(),
            waiting: VecDeque::new(),
            step_ends: None,
            chunks: Vec::new(),
            preemptions: 0,
        };
        Self {
            shedder: shedder(config, count),
            engines: (0..count).map(engine).collect(),
            live: Default::default(),
            slo,
            usual,
            scrape: false,
            outcome: Outcome::default(),
            limits: (0.0, 0.0),
            dice: Dice::new(seed),
        }
    }

    /// Plays `mix` from `from` to `to` seconds; what arrives after `count_from` is judged.
    pub(crate) fn play(&mut self, mix: Mix, from: f64, to: f64, count_from: f64) -> Outcome {
        self.outcome = Outcome { seconds: to - count_from, ..Outcome::default() };
        self.limits = (0.0, 0.0);
        let before: u64 = self.engines.iter().map(|engine| engine.preemptions).sum();
        let mut arrival = from + self.dice.gamma(mix.cv) / mix.per_second;
        let mut tick = (from * 4.0).ceil() / 4.0;
        loop {
            let step =
                self.engines.iter().filter_map(|engine| engine.step_ends).fold(f64::INFINITY, f64::min);
            let now = step.min(arrival).min(tick);
            if now > to && (self.live.is_empty() || now > to + 1_500.0) {
                break;
            }
            if now == arrival {
                self.arrive(now, mix, now >= count_from);
                let faster = mix.step.filter(|&(when, _)| now >= when).map_or(1.0, |(_, times)| times);
                arrival = now + self.dice.gamma(mix.cv) / (mix.per_second * faster);
                if arrival > to {
                    arrival = f64::INFINITY;
                }
            } else if now == tick {
                self.tick(now, count_from, to);
                tick += 0.25;
            } else {
                self.step(now);
            }
        }
        self.outcome.limit_mean = self.limits.0 / self.limits.1.max(1.0);
        self.outcome.preemptions = self.engines.iter().map(|engine| engine.preemptions).sum::<u64>() - before;
        self.outcome
    }

    fn arrive(&mut self, now: f64, mix: Mix, counted: bool) {
        let tier = if self.dice.unit() < mix.priority { PRIORITY } else { REGULAR };
        let prompt = self.dice.lognormal(mix.prompt.0, mix.prompt.1).clamp(8.0, 100_000.0) as u32;
        let output = self.dice.lognormal(mix.output.0, mix.output.1).clamp(2.0, mix.output.2) as u32;
        let streaming = self.dice.unit() < mix.streaming;
        let uncached = (f64::from(prompt) * (1.0 - mix.cached)) as u32;
        let account = (self.dice.unit() * 20.0) as u64;
        let plain = of_account(account, sized(uncached.max(1), offer(at(now), tier)));
        let request = Request {
            tier,
            arrived: now,
            sent: now,
            prompt: uncached.max(1),
            output,
            streaming,
            counted,
            first: None,
            last: now,
            tokens: 0,
            gap_sum: 0.0,
            gaps: 0,
            on: 0,
        };
        if counted {
            self.outcome.offered[tier] += 1.0;
        }
        let asked = Offer { prompt, expected_output: self.usual, streaming, ..plain };
        match self.shedder.offer(at(now), asked) {
            Decision::Admit(permit) => {
                self.live.insert(permit.id, request);
                self.send(now, permit);
            }
            Decision::Wait(id) => {
                self.live.insert(id, request);
            }
            Decision::Shed(_) => self.outcome.shed[tier] += f64::from(u8::from(counted)),
        }
        self.verdicts(now);
    }

    fn send(&mut self, now: f64, permit: Permit) {
        let Some(request) = self.live.get_mut(&permit.id) else { return };
        request.on = usize::from(permit.replica.0);
        request.sent = now;
        request.last = now;
        let job =
            Job { id: permit.id, prompt_left: request.prompt, context: 0, done: 0, output: request.output };
        self.shedder.dispatched(at(now), permit.id);
        let engine = &mut self.engines[request.on];
        engine.waiting.push_back(job);
        if engine.step_ends.is_none() {
            engine.begin(now);
        }
    }

    fn verdicts(&mut self, now: f64) {
        while let Some(verdict) = self.shedder.poll_verdict() {
            match verdict {
                Verdict::Admit(permit) => self.send(now, permit),
                Verdict::Shed(id, _) => {
                    let request = self.live.remove(&id).expect("live");
                    self.outcome.shed[request.tier] += f64::from(u8::from(request.counted));
                }
                Verdict::Withdraw(id) => {
                    let request = &self.live[&id];
                    let engine = &mut self.engines[request.on];
                    engine.running.retain(|job| job.id != id);
                    engine.waiting.retain(|job| job.id != id);
                }
            }
        }
    }

    fn step(&mut self, now: f64) {
        let index = (0..self.engines.len())
            .min_by(|&a, &b| {
                let ends = |n: usize| self.engines[n].step_ends.unwrap_or(f64::INFINITY);
                ends(a).total_cmp(&ends(b))
            })
            .expect("an engine");
        let mut tokens = Vec::new();
        self.engines[index].end(&mut tokens);
        for (id, last) in tokens {
            let request = self.live.get_mut(&id).expect("live");
            request.tokens += 1;
            if request.first.is_none() {
                request.first = Some(now);
                if request.streaming {
                    self.shedder.first_token(at(now), id);
                }
            } else {
                request.gap_sum += now - request.last;
                request.gaps += 1;
            }
            request.last = now;
            if last {
                self.complete(now, id);
            }
        }
        self.verdicts(now);
        self.engines[index].begin(now);
    }

    fn complete(&mut self, now: f64, id: RequestId) {
        let request = self.live.remove(&id).expect("live");
        let duration_of_answer = (!request.streaming).then(|| at(now - request.sent));
        let how = Finished {
            generated: request.tokens,
            content_chunks: if request.streaming { request.tokens } else { 0 },
            cached: None,
            duration_of_answer,
        };
        self.shedder.finish(at(now), id, &how);
        if !request.counted {
            return;
        }
        let profile = self.engines[request.on].profile;
        let own = f64::from(request.prompt) * profile.k / 1e3
            + profile.quad * f64::from(request.prompt).powi(2) / 2e3
            + (profile.w + profile.c0) / 1e3;
        let first = request.first.unwrap_or(now);
        let ttft = first - request.arrived;
        let tpot = (now - first) / f64::from(request.tokens.max(2) - 1);
        let met = ttft <= self.slo.0 + own && tpot <= self.slo.1;
        let work = f64::from(request.prompt + request.tokens);
        self.outcome.worked += work;
        self.outcome.late_ttft += f64::from(u8::from(ttft > self.slo.0 + own));
        self.outcome.late_tpot += f64::from(u8::from(tpot > self.slo.1));
        if met {
            self.outcome.met[request.tier] += 1.0;
        } else {
            self.outcome.wasted += work;
        }
    }

    fn tick(&mut self, now: f64, count_from: f64, to: f64) {
        let mut harvest = Vec::new();
        for (&id, request) in
            self.live.iter_mut().filter(|(_, request)| request.streaming && request.gaps > 0)
        {
            let chunks = request.gaps + u32::from(request.tokens == request.gaps + 1);
            harvest.push(StreamProgress { id, chunks, gap_sum: at(request.gap_sum), gaps: request.gaps });
            (request.gap_sum, request.gaps) = (0.0, 0);
        }
        self.shedder.tick(at(now), &harvest);
        self.verdicts(now);
        if self.scrape && now.fract() == 0.0 {
            for (n, engine) in self.engines.iter().enumerate() {
                let used: u64 =
                    engine.running.iter().map(|job| u64::from(job.context + job.prompt_left)).sum();
                let scrape = Scrape {
                    running: engine.running.len() as u32,
                    waiting: engine.waiting.len() as u32,
                    kv_used: Some(used as f64 / engine.profile.kv as f64),
                    kv_capacity_tokens: Some(engine.profile.kv),
                    preemptions_total: Some(engine.preemptions),
                    slots: None,
                    step_budget: None,
                };
                self.shedder.observe(at(now), ReplicaId(n as u16), &scrape);
            }
            self.verdicts(now);
        }
        if now >= count_from && now < to {
            for replica in self.shedder.snapshot(at(now)).replicas {
                self.limits.0 += replica.limit;
                self.limits.1 += 1.0;
            }
        }
    }
}

fn four_a100s(config: Config, seed: u64) -> Sim {
    Sim::new(config, A100_8B, 4, 200, seed)
}

/// At twice the knee the fleet keeps working at it, priority is served, and nothing is computed in vain,
/// wherever the limit started.
#[test]
fn at_twice_the_knee_priority_is_served_and_goodput_holds_from_any_start() {
    for start in [16.0, 64.0, 256.0] {
        let outcome =
            four_a100s(Config { limit_start: start, ..chat_slo() }, 7).play(chat(2.0), 0.0, 75.0, 30.0);

        assert!(outcome.attained(PRIORITY) >= 0.99, "from {start}: {}", outcome.line());
        assert!(outcome.goodput() >= 25.6, "the knee, from {start}: {}", outcome.line());
        assert!(outcome.waste() <= 0.01, "from {start}: {}", outcome.line());
    }
}

#[test]
fn at_four_fifths_of_the_knee_nothing_is_shed() {
    let outcome = four_a100s(chat_slo(), 7).play(chat(0.8), 0.0, 60.0, 10.0);

    assert_eq!(outcome.shed, PerTier::default(), "{}", outcome.line());
}

#[test]
fn answers_that_do_not_stream_are_controlled_too() {
    for streaming in [0.5, 0.0] {
        let mix = Mix { streaming, ..chat(2.0) };
        let outcome = four_a100s(chat_slo(), 7).play(mix, 0.0, 75.0, 30.0);

        assert!(outcome.attained(PRIORITY) >= 0.985, "{streaming}: {}", outcome.line());
        assert!(outcome.goodput() >= 0.95 * 25.6, "{streaming}: {}", outcome.line());
    }
}

/// Four slots that nobody reported: the engine's own queue shows in first tokens, not in gaps.
#[test]
fn the_slots_of_an_engine_that_reports_none_are_found() {
    let four_slots = Profile { slots: 4, ..A100_8B };
    let mix = Mix { per_second: 9.0, ..chat(1.0) };
    let outcome = Sim::new(chat_slo(), four_slots, 4, 200, 3).play(mix, 0.0, 120.0, 30.0);

    assert!(outcome.attained(PRIORITY) >= 0.98, "{}", outcome.line());
    assert!((3.5..6.0).contains(&outcome.limit_mean), "{}", outcome.line());
}

#[test]
fn cached_prompts_and_an_unknown_prefill_rate_shed_nothing_below_capacity() {
    let mix = Mix { cached: 1.0, per_second: 48.0, ..chat(1.0) };
    let mut sim = four_a100s(chat_slo(), 7);
    let outcome = sim.play(mix, 0.0, 60.0, 10.0);

    assert_eq!(outcome.shed, PerTier::default(), "{}", outcome.line());
    assert!(sim.shedder.snapshot(at(60.0)).replicas.iter().all(|replica| replica.prefill_rate.is_none()));
}

#[test]
fn when_memory_binds_the_engine_never_preempts() {
    let answers = (7.492, 1.0, 16_000.0);
    let mix = Mix { per_second: 4.5, prompt: (6.077, 0.8), output: answers, ..chat(1.0) };
    let small = Profile { kv: 200_000, ..A100_8B };
    let mut sim = Sim::new(chat_slo(), small, 2, 2_840, 3);
    sim.scrape = true;

    let outcome = sim.play(mix, 0.0, 200.0, 0.0);

    assert!(outcome.preemptions <= 4, "1 % of the requests: {}", outcome.line());
}

/// Three quarters of the load gone to the other half within a second, and priority feels nothing.
#[test]
fn half_of_the_replicas_lost_is_regulars_loss() {
    let mut sim = four_a100s(chat_slo(), 3);
    sim.play(chat(0.8), 0.0, 40.0, 20.0);
    for lost in 0..2 {
        sim.shedder.set_drained(at(100.0), ReplicaId(lost), true);
    }

    let outcome = sim.play(chat(0.8), 100.0, 140.0, 102.0);

    assert!(outcome.attained(PRIORITY) >= 0.99, "{}", outcome.line());
}
