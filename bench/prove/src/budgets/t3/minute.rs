//! T3: no sixty seconds hold more than the limit and what could not be known, and that is paid back.
//!
//! Random requests (streams that overrun, prompts larger than a minute, corrections, shed ones) against one budget with
//! fixed limits. Beside it, a plain log of what really flowed, to the millisecond, says what each sixty seconds
//! held:
//!
//! ```text
//! used    <= limit                                   at every step, in every meter
//! flowed in the last 60 s <= limit + excess          excess: tokens beyond their request's reserve, not paid back yet
//! excess  = min(excess + overrun, what is used, reserved or owed over the limit)
//! ```
//!
//! After the last request the debt is gone within the minutes that it needs, and nothing is reserved.

use std::collections::VecDeque;
use std::time::Duration;

use limits::{Ask, Bounds, Budget, BudgetConfig, Meter, PerMeter, Policy, Reservation, Used};

/// Requests that run at once at most.
const RUNNING_MAX: usize = 64;

/// What a run showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    /// Admissions decided.
    pub(crate) decisions: u64,
    /// Of them refused.
    pub(crate) refused: u64,
    /// Steps after which a rule did not hold.
    pub(crate) violations: u64,
    /// Tokens that flowed beyond their reserve, in all.
    pub(crate) overrun: u64,
    /// Debt, reserved tokens or live requests left at the end, when all should have been paid.
    pub(crate) left_over: u64,
}

/// Plays at least `decisions` admissions; budgets with other limits take turns of ten thousand.
pub(crate) fn run(seed: u64, decisions: u64) -> Outcome {
    let mut random = Random(seed);
    let mut total = Outcome::default();
    while total.decisions < decisions {
        let turn = (decisions - total.decisions).min(10_000);
        let mut play = Play::new(&mut random);
        while play.outcome.decisions < turn {
            play.step(&mut random);
        }
        play.finish();
        total.add(&play.outcome);
    }
    total
}

impl Outcome {
    fn add(&mut self, other: &Outcome) {
        self.decisions += other.decisions;
        self.refused += other.refused;
        self.violations += other.violations;
        self.overrun += other.overrun;
        self.left_over += other.left_over;
    }
}

struct Play {
    budget: Budget,
    now: Duration,
    running: Vec<Running>,
    flows: PerMeter<Flow>,
    outcome: Outcome,
}

/// A running request, and when its prompt and its first tokens flowed.
struct Running {
    reservation: Reservation,
    prompt_at: Option<Duration>,
    generated_at: Option<Duration>,
}

/// What really flowed through one meter, in the order of time.
#[derive(Default)]
struct Flow {
    limit: u64,
    log: VecDeque<(Duration, u64)>,
    sum: u64,
    excess: u64,
}

impl Play {
    fn new(random: &mut Random) -> Self {
        let bounds = PerMeter::from_fn(|_| {
            let limit = random.below(100_000) + 500;
            Bounds { start: limit, floor: limit, ceiling: limit * 3 }
        });
        let now = Duration::from_millis(random.below(600_000));
        Play {
            budget: Budget::new(now, BudgetConfig { policy: Policy::Fixed, bounds }),
            now,
            running: Vec::new(),
            flows: bounds.map(|bounds| Flow { limit: bounds.start, ..Flow::default() }),
            outcome: Outcome::default(),
        }
    }

    fn step(&mut self, random: &mut Random) {
        // Mostly bursts, sometimes silence.
        let pause = match random.below(100) {
            0 => random.below(40_000),
            1..50 => random.below(400),
            _ => 0,
        };
        self.now += Duration::from_millis(pause);
        match random.below(10) {
            0..4 if self.running.len() < RUNNING_MAX => self.offer(random),
            0..8 => self.stream(random),
            _ => self.end(random),
        }
        self.check();
    }

    fn offer(&mut self, random: &mut Random) {
        // One in 200 is larger than a minute.
        let largest = self.flows.prompt.limit * if random.below(200) == 0 { 4 } else { 1 } / 3;
        let prompt = random.below(largest);
        let ask = Ask {
            prompt,
            uncached_prompt: random.below(prompt + 1),
            max_generated: Some(random.below(2_000)),
            choices: random.below(3) as u32,
            usual_of_model: Some(random.below(2_000)),
        };
        self.outcome.decisions += 1;
        match self.budget.reserve(self.now, &ask) {
            Ok(reservation) => {
                for (meter, &reserved) in reservation.reserved().iter() {
                    let flow = self.flows.get_mut(meter);
                    flow.excess += reserved.saturating_sub(flow.limit);
                }
                self.running.push(Running { reservation, prompt_at: None, generated_at: None });
            }
            Err(_) => self.outcome.refused += 1,
        }
    }

    fn stream(&mut self, random: &mut Random) {
        let Some(mut request) = self.pick(random) else { return };
        let before = request.reservation.reserved();
        self.budget.charge_prompt(self.now, &mut request.reservation);
        if request.prompt_at.is_none() {
            request.prompt_at = Some(self.now);
            self.flowed(Meter::Prompt, self.now, before.prompt, before.prompt);
            self.flowed(Meter::UncachedPrompt, self.now, before.uncached_prompt, before.uncached_prompt);
        }
        let tokens = random.below(120);
        self.budget.charge_generated(self.now, &mut request.reservation, tokens);
        request.generated_at = request.generated_at.or((tokens > 0).then_some(self.now));
        self.flowed(Meter::Generated, self.now, tokens, before.generated);
        self.running.push(request);
    }

    /// Ends a request: as it was counted, with more than was counted, or shed.
    fn end(&mut self, random: &mut Random) {
        let Some(Running { reservation, prompt_at, generated_at }) = self.pick(random) else { return };
        let (charged, rest) = (reservation.charged(), reservation.reserved());
        if prompt_at.is_none() && random.below(2) == 0 {
            self.budget.release(self.now, reservation);
            return;
        }
        let more = if random.below(3) == 0 { random.below(3_000) } else { 0 };
        let prompt = charged.prompt + more;
        let used = Used {
            prompt,
            uncached_prompt: (charged.uncached_prompt + more).min(prompt),
            generated: charged.generated + more,
            finished: random.below(2) == 0,
        };
        self.budget.settle(self.now, reservation, &used);
        // What was not counted flowed some time since the first token; where there was none, it is known only now.
        let prompt_at = prompt_at.unwrap_or(self.now);
        self.flowed(Meter::Prompt, prompt_at, more, rest.prompt);
        let uncached = used.uncached_prompt.saturating_sub(charged.uncached_prompt);
        self.flowed(Meter::UncachedPrompt, prompt_at, uncached, rest.uncached_prompt);
        self.flowed(Meter::Generated, generated_at.unwrap_or(self.now), more, rest.generated);
    }

    fn pick(&mut self, random: &mut Random) -> Option<Running> {
        let count = self.running.len() as u64;
        (count > 0).then(|| self.running.swap_remove(random.below(count) as usize))
    }

    fn flowed(&mut self, meter: Meter, at: Duration, tokens: u64, reserve: u64) {
        let flow = self.flows.get_mut(meter);
        let place = flow.log.partition_point(|(earlier, _)| *earlier <= at);
        flow.log.insert(place, (at, tokens));
        flow.sum += tokens;
        let overrun = tokens.saturating_sub(reserve);
        flow.excess += overrun;
        self.outcome.overrun += overrun;
    }

    fn check(&mut self) {
        let views = self.budget.view(self.now);
        for (meter, view) in views.iter() {
            let flow = self.flows.get_mut(meter);
            flow.forget(self.now);
            let taken = view.used + view.reserved + view.debt;
            let over = taken.saturating_sub(view.limit);
            let held = view.used <= view.limit && over <= flow.excess && flow.sum <= view.limit + flow.excess;
            self.outcome.violations += u64::from(!held);
            flow.excess = flow.excess.min(over);
        }
    }

    /// Ends everything and waits for as long as the debt needs.
    fn finish(&mut self) {
        for Running { reservation, .. } in std::mem::take(&mut self.running) {
            let charged = reservation.charged();
            let used = Used {
                prompt: charged.prompt,
                uncached_prompt: charged.uncached_prompt,
                generated: charged.generated,
                finished: false,
            };
            self.budget.settle(self.now, reservation, &used);
        }
        self.check();
        let views = self.budget.view(self.now);
        let minutes = views.iter().map(|(_, view)| view.debt.div_ceil(view.limit) + 1).max().unwrap_or(1);
        self.now += Duration::from_millis(60_250) * u32::try_from(minutes).unwrap_or(u32::MAX);
        let views = self.budget.view(self.now);
        let left: u64 = views.iter().map(|(_, view)| view.used + view.debt + view.reserved).sum();
        self.outcome.left_over += left + self.budget.live();
    }
}

impl Flow {
    fn forget(&mut self, now: Duration) {
        let minute = Duration::from_secs(60);
        while let Some((_, tokens)) = self.log.pop_front_if(|(at, _)| *at + minute <= now) {
            self.sum -= tokens;
        }
    }
}

/// SplitMix64: reproducible, and good enough for this.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}
