//! The traffic that all reservation policies get, and what is counted of it beside their own books.
//!
//! Answers of the Azure conversation lengths, streamed at 25 tokens per second, Poisson arrivals, `max_tokens` 4,096 as
//! clients have it; refused requests do not come back. Time goes in bins of 50 ms; streams are charged every 250 ms, as
//! the gateway does.

use engine::workload::Workload;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::policies::Policy;

/// Tokens per minute of the account.
pub(super) const LIMIT: u64 = 36_000;
/// What every request says that it may generate.
pub(super) const MAX_TOKENS: u64 = 4_096;

const BIN_MS: u64 = 50;
const MINUTE_BINS: usize = 1_200;
const HARVEST_MS: u64 = 250;
const TOKEN_MS: u64 = 40;
const TTFT_MS: u64 = 300;
/// The first minutes are the filling of an empty window, not the steady state.
const WARM_UP_MINUTES: u64 = 5;
/// Drawn to know the mean of the lengths, so that demand is what it is called.
const MEAN_SAMPLE: u32 = 20_000;

/// What came of a run; shares, not percent.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Outcome {
    /// Tokens generated of what the limit allows.
    pub(super) used: f64,
    /// The most tokens generated in any sixty seconds, of the limit.
    pub(super) worst_minute: f64,
    /// Requests refused, of those offered.
    pub(super) refused: f64,
    /// Requests refused although the account, had nothing been refused, would have stayed within its limit in every
    /// sixty seconds that the request's life touches.
    pub(super) refused_falsely: f64,
}

struct Stream<H> {
    hold: H,
    first_token_ms: u64,
    length: u64,
    generated: u64,
    charged: u64,
}

struct World<P: Policy> {
    policy: P,
    running: Vec<Stream<P::Hold>>,
    /// Tokens generated per bin.
    flowed: Vec<u64>,
    /// Tokens that would be generated per bin if nothing was refused.
    demanded: Vec<u64>,
    /// Arrival and length of what was refused after warm-up.
    lost: Vec<(u64, u64)>,
    offered: u64,
}

/// Runs `minutes` of traffic at `demand` times the limit.
pub(super) fn run<P: Policy>(policy: P, seed: u64, demand: f64, minutes: u64) -> Outcome {
    let mut random = SmallRng::seed_from_u64(seed);
    let bins = (minutes as usize + 2) * MINUTE_BINS;
    let mut world = World {
        policy,
        running: Vec::new(),
        flowed: vec![0; bins],
        demanded: vec![0; bins],
        lost: Vec::new(),
        offered: 0,
    };
    let pause_ms = mean_length() * 60_000.0 / (demand * LIMIT as f64);
    let mut next_arrival = exponential(&mut random, pause_ms);
    let (end, mut now) = (minutes * 60_000, 0);
    while now < end || !world.running.is_empty() {
        while next_arrival < (now + BIN_MS) as f64 && now < end {
            world.offer(next_arrival as u64, length(&mut random));
            next_arrival += exponential(&mut random, pause_ms);
        }
        now += BIN_MS;
        world.flow(now);
        if now.is_multiple_of(HARVEST_MS) {
            world.harvest(now);
        }
    }
    world.judge(minutes)
}

impl<P: Policy> World<P> {
    fn offer(&mut self, now: u64, length: u64) {
        let first_token_ms = now + TTFT_MS;
        for token in 1..=length {
            if let Some(bin) = self.demanded.get_mut(bin_at(first_token_ms + token * TOKEN_MS)) {
                *bin += 1;
            }
        }
        let warm = now >= WARM_UP_MINUTES * 60_000;
        self.offered += u64::from(warm);
        match self.policy.admit(now) {
            Some(hold) => {
                self.running.push(Stream { hold, first_token_ms, length, generated: 0, charged: 0 });
            }
            None if warm => self.lost.push((now, length)),
            None => {}
        }
    }

    fn flow(&mut self, now: u64) {
        for stream in &mut self.running {
            let due = (now.saturating_sub(stream.first_token_ms) / TOKEN_MS).min(stream.length);
            if let Some(bin) = self.flowed.get_mut(bin_at(now - BIN_MS)) {
                *bin += due - stream.generated;
            }
            stream.generated = due;
        }
    }

    fn harvest(&mut self, now: u64) {
        let mut still_running = Vec::with_capacity(self.running.len());
        for mut stream in self.running.drain(..) {
            self.policy.stream(now, &mut stream.hold, stream.generated - stream.charged);
            stream.charged = stream.generated;
            if stream.generated < stream.length {
                still_running.push(stream);
            } else {
                self.policy.end(now, stream.hold, stream.length);
            }
        }
        self.running = still_running;
    }

    fn judge(&self, minutes: u64) -> Outcome {
        let warm = WARM_UP_MINUTES as usize * MINUTE_BINS;
        let steady: u64 = self.flowed.iter().take(minutes as usize * MINUTE_BINS).skip(warm).sum();
        let worst = minutes_of(&self.flowed).into_iter().skip(warm).max().unwrap_or(0);
        let demand = minutes_of(&self.demanded);
        let stays_within = |&&(at, length): &&(u64, u64)| {
            let last = bin_at(at + TTFT_MS + length * TOKEN_MS);
            demand.iter().take(last + 1).skip(bin_at(at)).all(|tokens| *tokens <= LIMIT)
        };
        let falsely = self.lost.iter().filter(stays_within).count();
        let offered = self.offered.max(1) as f64;
        Outcome {
            used: steady as f64 / (LIMIT * (minutes - WARM_UP_MINUTES)) as f64,
            worst_minute: worst as f64 / LIMIT as f64,
            refused: self.lost.len() as f64 / offered,
            refused_falsely: falsely as f64 / offered,
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

fn exponential(random: &mut SmallRng, mean: f64) -> f64 {
    -mean * (1.0 - random.random::<f64>()).max(f64::MIN_POSITIVE).ln()
}

fn length(random: &mut SmallRng) -> u64 {
    u64::from(Workload::Azure.draw(random).output_tokens.max(1))
}

fn mean_length() -> f64 {
    let mut random = SmallRng::seed_from_u64(0);
    let sum: u64 = (0..MEAN_SAMPLE).map(|_| length(&mut random)).sum();
    sum as f64 / f64::from(MEAN_SAMPLE)
}
