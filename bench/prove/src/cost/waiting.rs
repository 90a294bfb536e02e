//! What a queue costs when it is long: joining it, leaving it, being started from it, displacing somebody, a tick.
//!
//! The shipped crate in process, in virtual time, with 100, 1,000 and 10,000 requests of some hundred accounts waiting. Every
//! operation is undone before the next, so the queue keeps its length. What is judged is how the time of each grows from a
//! hundred to ten thousand: by the logarithm it would be twofold, and memory that no longer fits into the nearest cache costs the
//! rest; anything linear would be a hundredfold. A tick looks only at what is due, and is judged by its time: a scan of ten
//! thousand requests took 29 µs here, and there are four ticks in a second.

use std::collections::HashMap;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use shedder::{
    Config, Decision, Finished, Offer, PerTier, QueueBounds, ReplicaConfig, ReplicaId, RequestId, Shedder,
    Slo, Tier, Uncached, Verdict,
};

use crate::harness::allocations::allocations;
use crate::harness::proof::{Finding, Proof, Setting, Trouble};
use engine::clock;

pub(crate) const PROOF: Proof = Proof {
    id: "queue",
    what: "join, leave, start, displace with 10,000 waiting against 100: ratio of median times; a tick; allocations",
    goal: "≤4× each; tick ≤1 ms; ≤1 allocation per operation",
    quick_s: 2,
    full_s: 10,
    needs: "",
    run,
};

const LENGTHS: [u32; 3] = [100, 1_000, 10_000];
const ACCOUNTS: u64 = 500;
const REPLICAS: u16 = 4;
const PLACES: u32 = 8;
const GROWTH_MAX: f64 = 4.0;
const TICK_MAX_NS: f64 = 1e6;
/// On average; a tree takes a node now and then.
const ALLOCATIONS_MAX: f64 = 1.0;
/// So long that nobody's wait ends and nobody is refused by prediction.
const FOREVER: Duration = Duration::from_secs(1 << 40);

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let rounds = setting.size(20_000, 100_000);
    let mut measured = Vec::new();
    for length in LENGTHS {
        measured.push(Line::of(length)?.play(rounds)?);
    }
    let (Some(short), Some(long)) = (measured.first(), measured.last()) else {
        return Err(Trouble::Unexpected("nothing was measured".to_owned()));
    };
    let growth: Vec<(&str, f64)> = short
        .steady()
        .zip(long.steady())
        .map(|(short, long)| (long.name, long.p50() / short.p50()))
        .collect();
    let allocated = long.steady().map(Operation::allocated).fold(0.0, f64::max);
    let tick = long.tick.p50();
    let grown: Vec<String> = growth.iter().map(|(name, ratio)| format!("{name} {ratio:.1}×")).collect();
    Ok(Finding {
        figure: format!(
            "{}; tick {:.0} µs; at most {allocated:.2} allocations",
            grown.join(", "),
            tick / 1e3
        ),
        goal: PROOF.goal.to_owned(),
        ok: growth.iter().all(|(_, ratio)| *ratio <= GROWTH_MAX)
            && tick <= TICK_MAX_NS
            && allocated <= ALLOCATIONS_MAX,
        details: json!(measured.iter().map(Measured::details).collect::<Vec<_>>()),
    })
}

/// One kind of operation.
struct Operation {
    name: &'static str,
    /// Nanoseconds of each, the two readings of the clock included.
    times: Vec<u64>,
    allocations: u64,
}

impl Operation {
    fn new(name: &'static str, rounds: usize) -> Self {
        Self { name, times: Vec::with_capacity(rounds), allocations: 0 }
    }

    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (before, began) = (allocations(), clock::now());
        let result = work();
        let took = clock::now().saturating_sub(began);
        self.allocations += allocations() - before;
        self.times.push(took.as_nanos() as u64);
        result
    }

    fn quantile(&self, share: f64) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        let index = (share * times.len() as f64) as usize;
        times.get(index.min(times.len().saturating_sub(1))).copied().unwrap_or(0) as f64
    }

    fn p50(&self) -> f64 {
        self.quantile(0.5)
    }

    fn allocated(&self) -> f64 {
        self.allocations as f64 / self.times.len().max(1) as f64
    }

    fn details(&self) -> Value {
        json!({
            "operation": self.name, "count": self.times.len(), "p50_ns": self.p50(), "p99_ns": self.quantile(0.99),
            "allocations_per_operation": self.allocated(),
        })
    }
}

/// All operations at one length of the queue.
struct Measured {
    waiting: u32,
    join: Operation,
    leave: Operation,
    start: Operation,
    displace: Operation,
    tick: Operation,
}

impl Measured {
    /// Those whose cost must not grow with the queue by more than a logarithm.
    fn steady(&self) -> impl Iterator<Item = &Operation> {
        [&self.join, &self.leave, &self.start, &self.displace].into_iter()
    }

    fn details(&self) -> Value {
        let operations: Vec<Value> = self.steady().chain([&self.tick]).map(Operation::details).collect();
        json!({ "waiting": self.waiting, "operations": operations })
    }
}

/// A deployment with all places taken and a queue of regular requests that is full.
struct Line {
    shedder: Shedder,
    now: Duration,
    waiting: Waiting,
    running: Vec<RequestId>,
    random: SmallRng,
    length: u32,
    /// Accounts that came to the full queue.
    strangers: u64,
}

impl Line {
    fn of(length: u32) -> Result<Self, Trouble> {
        let mut queue =
            QueueBounds { requests: length, tokens: u64::MAX, bytes: u64::MAX, ..QueueBounds::default() };
        queue.share.regular = 1.0;
        let ceilings = PerTier::from_fn(|_| 1.0);
        let slo = Slo { ttft: FOREVER, tpot: Duration::from_millis(100) };
        let config = Config {
            slo: Some(slo),
            fixed_limit: Some(f64::from(PLACES)),
            ceilings,
            queue,
            ..Config::default()
        };
        let replicas: Vec<ReplicaConfig> =
            (0..REPLICAS).map(|id| ReplicaConfig::new(ReplicaId(id))).collect();
        let mut line = Self {
            shedder: Shedder::new(Duration::ZERO, config, &replicas),
            now: Duration::ZERO,
            waiting: Waiting::default(),
            strangers: 0,
            running: Vec::new(),
            random: SmallRng::seed_from_u64(8),
            length,
        };
        for _ in 0..u32::from(REPLICAS) * PLACES {
            let offer = line.next_offer();
            match line.shedder.offer(line.now, offer) {
                Decision::Admit(permit) => line.begin(permit.id),
                other => return Err(Trouble::Unexpected(format!("a free place, and {other:?}"))),
            }
        }
        for _ in 0..length {
            line.join()?;
        }
        Ok(line)
    }

    /// Every operation so many times.
    fn play(mut self, rounds: usize) -> Result<Measured, Trouble> {
        let of = |name| Operation::new(name, rounds);
        let mut measured = Measured {
            waiting: self.length,
            join: of("join"),
            leave: of("leave"),
            start: of("start"),
            displace: of("displace"),
            tick: Operation::new("tick", rounds / 100),
        };
        for round in 0..rounds {
            self.now += Duration::from_micros(100);
            self.leave_and_join(&mut measured)?;
            self.start_next(&mut measured)?;
            self.displace_one(&mut measured)?;
            if round % 100 == 0 {
                let (shedder, now) = (&mut self.shedder, self.now);
                measured.tick.time(|| shedder.tick(now, &[]));
            }
        }
        let held = self.shedder.snapshot(self.now).at_rest.queued_requests;
        if held == u64::from(self.length) {
            Ok(measured)
        } else {
            Err(Trouble::Unexpected(format!("{held} wait instead of {}", self.length)))
        }
    }

    /// Somebody gives up, somebody else comes.
    fn leave_and_join(&mut self, measured: &mut Measured) -> Result<(), Trouble> {
        let Some(id) = self.waiting.at(self.random.random_range(0..self.length as usize)) else {
            return Err(Trouble::Unexpected("nobody waits".to_owned()));
        };
        self.waiting.remove(id);
        let (shedder, now) = (&mut self.shedder, self.now);
        measured.leave.time(|| shedder.cancel(now, id));
        let offer = self.next_offer();
        let shedder = &mut self.shedder;
        let decision = measured.join.time(|| shedder.offer(now, offer));
        self.joined(decision)
    }

    /// A request ends, and the next of the queue starts in its place.
    fn start_next(&mut self, measured: &mut Measured) -> Result<(), Trouble> {
        let index = self.random.random_range(0..self.running.len());
        let ended = self.running.swap_remove(index);
        let how = Finished { generated: 100, content_chunks: 100, ..Finished::default() };
        let (shedder, now) = (&mut self.shedder, self.now);
        let verdict = measured.start.time(|| {
            shedder.finish(now, ended, &how);
            shedder.poll_verdict()
        });
        let Some(Verdict::Admit(permit)) = verdict else {
            return Err(Trouble::Unexpected(format!("a free place, and {verdict:?}")));
        };
        self.waiting.remove(permit.id);
        self.begin(permit.id);
        self.join()
    }

    /// An account with nothing waiting comes to the full queue: the heaviest account gives way.
    fn displace_one(&mut self, measured: &mut Measured) -> Result<(), Trouble> {
        self.strangers += 1;
        let account = ACCOUNTS + self.strangers % ACCOUNTS;
        let offer = Offer { account, uncached: Uncached::everywhere(1), ..self.next_offer() };
        let (shedder, now) = (&mut self.shedder, self.now);
        let (decision, verdict) =
            measured.displace.time(|| (shedder.offer(now, offer), shedder.poll_verdict()));
        let (Decision::Wait(own), Some(Verdict::Shed(gone, _))) = (decision, verdict) else {
            return Err(Trouble::Unexpected("nobody gave way to a lighter account".to_owned()));
        };
        self.waiting.remove(gone);
        // It would be the lightest for good; another takes its place.
        self.shedder.cancel(self.now, own);
        self.join()
    }

    fn next_offer(&mut self) -> Offer {
        let prompt = self.random.random_range(50..1_000);
        Offer {
            tier: Tier::Regular,
            account: self.random.random_range(0..ACCOUNTS),
            user: None,
            weight: 1.0,
            prompt,
            uncached: Uncached::everywhere(prompt),
            expected_output: 100,
            streaming: true,
            has_output: true,
            bytes: u64::from(prompt) * 4,
            arrived: self.now,
            deadline: None,
            needs: 0,
            affinity: None,
        }
    }

    fn join(&mut self) -> Result<(), Trouble> {
        let offer = self.next_offer();
        let decision = self.shedder.offer(self.now, offer);
        self.joined(decision)
    }

    fn joined(&mut self, decision: Decision) -> Result<(), Trouble> {
        match decision {
            Decision::Wait(id) => {
                self.waiting.add(id);
                Ok(())
            }
            other => Err(Trouble::Unexpected(format!("all places taken, and {other:?}"))),
        }
    }

    fn begin(&mut self, id: RequestId) {
        self.shedder.dispatched(self.now, id);
        self.shedder.first_token(self.now, id);
        self.running.push(id);
    }
}

/// Who waits: to draw from, and to take out of, both at once and whatever their number.
#[derive(Debug, Default)]
struct Waiting {
    ids: Vec<RequestId>,
    places: HashMap<RequestId, usize>,
}

impl Waiting {
    fn add(&mut self, id: RequestId) {
        self.places.insert(id, self.ids.len());
        self.ids.push(id);
    }

    fn at(&self, index: usize) -> Option<RequestId> {
        self.ids.get(index).copied()
    }

    fn remove(&mut self, id: RequestId) {
        let Some(place) = self.places.remove(&id) else { return };
        self.ids.swap_remove(place);
        if let Some(&moved) = self.ids.get(place) {
            self.places.insert(moved, place);
        }
    }
}
