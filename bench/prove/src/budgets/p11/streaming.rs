//! P11: what a generated-tokens limit does to streaming traffic.
//!
//! One account, 36,000 tokens per minute, answers streamed at 25 tokens per second with the lengths of the Azure 2023
//! conversation trace, Poisson arrivals, `max_tokens` 4,096 as clients have it; refused requests do not come back. What the
//! engine generates is counted beside the budget, in bins of 50 ms, so that the budget is judged by what really flowed and
//! not by its own books. A refusal is false where the account, had nothing been refused at all, would have stayed within its
//! limit in every sixty seconds that the request's life touches.
//!
//! Other rules, in a model of the same traffic. The rows are of runs of different lengths and numbers of seeds, and the
//! constants of the last were chosen on seeds that judge it here: small differences between rows say little.
//!
//! ```text
//! rule of admission                               use at 2x   worst 60 s   false refusals at 0.8x
//! reserve 256 per answer until it came              0.903        1.10         0.93 %
//! reserve 105 (half the mean)                       0.951        1.18         0.04 %
//! reserve 16                                        0.969        1.17         0
//! forecast, gaps filled at once (no damper)         0.969        1.08         0.02 %
//! forecast, damped                                  0.986        1.01         0.01 %
//! forecast, damped, 2.5 s ahead (shipped)           0.996        1.02         0
//! ```
//!
//! What the first rows lack is not a better number: a reserve is room that nobody uses while it is held. What the fourth
//! lacks is calm: traffic that wants twice the limit fills a gap at once, a minute later the gap is there again, and use and
//! worst minute both suffer from the swing. More than 0.996 cannot be: the minute is counted in slots of 250 ms and the
//! running one always in full, so that sixty seconds never hold more than the limit.

use std::time::Duration;

use limits::{Ask, Bounds, Budget, BudgetConfig, PerMeter, Policy, Reservation, Used};

/// Tokens per minute of the account.
pub(crate) const LIMIT: u64 = 36_000;

/// What every request says that it may generate.
const MAX_TOKENS: u64 = 4_096;

const BIN_MS: u64 = 50;
const MINUTE_BINS: usize = 1_200;
/// The gateway reads the streams' counters this often.
const HARVEST_MS: u64 = 250;
/// The first minutes are the filling of an empty window, not the steady state.
const WARM_UP_MINUTES: u64 = 5;

/// Quantiles of the trace's output lengths; the mean of the straight lines between them is 211.
const LENGTHS: [(f64, f64); 7] =
    [(0.0, 1.0), (0.25, 90.0), (0.5, 129.0), (0.75, 350.0), (0.9, 424.0), (0.99, 601.0), (1.0, 1_000.0)];
const LENGTH_MEAN: f64 = 210.8;

/// How answers come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Traffic {
    pub(crate) name: &'static str,
    /// Lengths, as a multiple of the trace's.
    pub(crate) length: f64,
    pub(crate) token_ms: u64,
    pub(crate) first_token_ms: u64,
    /// The answer is charged at its end, in one piece.
    pub(crate) whole: bool,
}

/// What the goals are for.
pub(crate) const STREAMED: Traffic =
    Traffic { name: "streamed", length: 1.0, token_ms: 40, first_token_ms: 300, whole: false };

/// What came of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Outcome {
    /// Tokens generated after warm-up, as a share of what the limit allows. The goal at 2x is 0.99.
    pub(crate) use_of_limit: f64,
    /// The most tokens generated in any 60 s after warm-up, as a share of the limit. The goal is 1.05.
    pub(crate) worst_minute: f64,
    /// The most tokens that the budget had charged at any harvest, as a share of the limit. Never over 1.
    pub(crate) worst_charged: f64,
    /// Requests offered after warm-up.
    pub(crate) offered: u64,
    /// Of them refused.
    pub(crate) refused: u64,
    /// Of those refused although the account stayed within its limit. The goal at 0.8x is 0.
    pub(crate) refused_falsely: u64,
    /// Nothing reserved and nothing live after the last stream.
    pub(crate) at_rest: bool,
}

struct Stream {
    reservation: Reservation,
    first_token_ms: u64,
    length: u64,
    generated: u64,
}

/// Runs `minutes` of traffic at `demand` times the limit.
pub(crate) fn run(traffic: Traffic, seed: u64, demand: f64, minutes: u64) -> Outcome {
    let mut random = Random(seed);
    let mut world = World::new(traffic, minutes);
    let arrivals_per_ms = demand * LIMIT as f64 / 60_000.0 / (LENGTH_MEAN * traffic.length);
    let mut next_arrival = random.exponential(1.0 / arrivals_per_ms);
    let end = minutes * 60_000;
    let mut now = 0;
    while now < end || !world.running.is_empty() {
        while next_arrival < (now + BIN_MS) as f64 && now < end {
            world.offer(next_arrival as u64, random.length(traffic.length));
            next_arrival += random.exponential(1.0 / arrivals_per_ms);
        }
        now += BIN_MS;
        world.flow(now);
        if now.is_multiple_of(HARVEST_MS) {
            world.harvest(now);
        }
    }
    world.judge(minutes)
}

struct World {
    traffic: Traffic,
    budget: Budget,
    running: Vec<Stream>,
    /// Tokens generated per bin.
    flowed: Vec<u64>,
    /// Tokens that would be generated per bin if nothing was refused.
    demanded: Vec<u64>,
    /// Arrival and length of what was refused after warm-up.
    lost: Vec<(u64, u64)>,
    offered: u64,
    charged_max: u64,
}

impl World {
    fn new(traffic: Traffic, minutes: u64) -> Self {
        let limit = |start| Bounds { start, floor: start, ceiling: start };
        let bounds =
            PerMeter { prompt: limit(3_600_000), uncached_prompt: limit(900_000), generated: limit(LIMIT) };
        let bins = (minutes as usize + 2) * MINUTE_BINS;
        World {
            traffic,
            budget: Budget::new(Duration::ZERO, BudgetConfig { policy: Policy::Fixed, bounds }),
            running: Vec::new(),
            flowed: vec![0; bins],
            demanded: vec![0; bins],
            lost: Vec::new(),
            offered: 0,
            charged_max: 0,
        }
    }

    fn offer(&mut self, now: u64, length: u64) {
        let first_token_ms = now + self.traffic.first_token_ms;
        for token in 1..=length {
            if let Some(bin) = self.demanded.get_mut(bin_at(first_token_ms + token * self.traffic.token_ms)) {
                *bin += 1;
            }
        }
        let warm = now >= WARM_UP_MINUTES * 60_000;
        self.offered += u64::from(warm);
        let ask = Ask { max_generated: Some(MAX_TOKENS), choices: 1, ..Ask::default() };
        match self.budget.reserve(Duration::from_millis(now), &ask) {
            Ok(reservation) => {
                self.running.push(Stream { reservation, first_token_ms, length, generated: 0 });
            }
            Err(_) if warm => self.lost.push((now, length)),
            Err(_) => {}
        }
    }

    /// Lets the engine generate until `now`.
    fn flow(&mut self, now: u64) {
        for stream in &mut self.running {
            let due = (now.saturating_sub(stream.first_token_ms) / self.traffic.token_ms).min(stream.length);
            if let Some(bin) = self.flowed.get_mut(bin_at(now - BIN_MS)) {
                *bin += due - stream.generated;
            }
            stream.generated = due;
        }
    }

    /// Charges what has flowed, and settles what has ended.
    fn harvest(&mut self, now: u64) {
        let now = Duration::from_millis(now);
        let mut still_running = Vec::with_capacity(self.running.len());
        for mut stream in self.running.drain(..) {
            if !self.traffic.whole {
                let charged = stream.reservation.charged().generated;
                self.budget.charge_generated(now, &mut stream.reservation, stream.generated - charged);
            }
            if stream.generated < stream.length {
                still_running.push(stream);
                continue;
            }
            let used = Used { generated: stream.length, finished: true, ..Used::default() };
            self.budget.settle(now, stream.reservation, &used);
        }
        self.running = still_running;
        self.charged_max = self.charged_max.max(self.budget.view(now).generated.used);
    }

    fn judge(&self, minutes: u64) -> Outcome {
        let warm = WARM_UP_MINUTES as usize * MINUTE_BINS;
        let steady = self.flowed.iter().take(minutes as usize * MINUTE_BINS).skip(warm);
        let worst = minutes_of(&self.flowed).into_iter().skip(warm).max();
        let demand = minutes_of(&self.demanded);
        let stays_within = |&&(at, length): &&(u64, u64)| {
            let last = bin_at(at + self.traffic.first_token_ms + length * self.traffic.token_ms);
            demand.iter().take(last + 1).skip(bin_at(at)).all(|tokens| *tokens <= LIMIT)
        };
        Outcome {
            use_of_limit: steady.sum::<u64>() as f64 / (LIMIT * (minutes - WARM_UP_MINUTES)) as f64,
            worst_minute: worst.unwrap_or(0) as f64 / LIMIT as f64,
            worst_charged: self.charged_max as f64 / LIMIT as f64,
            offered: self.offered,
            refused: self.lost.len() as u64,
            refused_falsely: self.lost.iter().filter(stays_within).count() as u64,
            at_rest: self.budget.live() == 0 && self.budget.reserved() == PerMeter::default(),
        }
    }
}

fn bin_at(ms: u64) -> usize {
    (ms / BIN_MS) as usize
}

/// For each bin, the tokens of the sixty seconds that end with it.
fn minutes_of(bins: &[u64]) -> Vec<u64> {
    let before = std::iter::repeat_n(0, MINUTE_BINS).chain(bins.iter().copied());
    let mut sum = 0;
    let slide = |(new, old): (&u64, u64)| {
        sum = sum + new - old;
        sum
    };
    bins.iter().zip(before).map(slide).collect()
}

/// SplitMix64: reproducible, and good enough for arrivals.
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).max(f64::MIN_POSITIVE).ln()
    }

    fn length(&mut self, multiple: f64) -> u64 {
        let share = self.unit();
        let between = LENGTHS.windows(2).find_map(|pair| match *pair {
            [(from, low), (to, high)] if share <= to => {
                Some(low + (high - low) * (share - from) / (to - from))
            }
            _ => None,
        });
        (between.unwrap_or(1.0) * multiple).round().clamp(1.0, MAX_TOKENS as f64) as u64
    }
}
