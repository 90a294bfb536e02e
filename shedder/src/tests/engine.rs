//! A small model of a continuously batching engine, and the dice for its traffic.
//!
//! One step computes one token for every running request and a chunk of the prompts that wait:
//!
//! ```text
//! step = √(w² + (k·n)²) + κ·context + q·Σ chunk·(past + chunk/2) + c0 + c1·S       milliseconds
//! ```
//!
//! with n tokens in the step and S requests, fitted to published profiles of an 8B model on one A100.
//! Memory that runs out preempts the request that came last, which is then computed anew.

use std::collections::VecDeque;

use super::*;

/// Deterministic numbers (xorshift64*), so that a run is a value.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    pub(crate) fn lognormal(&mut self, mu: f64, sigma: f64) -> f64 {
        (mu + sigma * self.normal()).exp()
    }

    /// Gamma with mean 1 and the given coefficient of variation (Marsaglia and Tsang).
    pub(crate) fn gamma(&mut self, cv: f64) -> f64 {
        let shape = 1.0 / (cv * cv);
        let (boosted, factor) =
            if shape < 1.0 { (shape + 1.0, self.unit().powf(1.0 / shape)) } else { (shape, 1.0) };
        let d = boosted - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && self.unit().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return factor * d * v / shape;
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Profile {
    pub(crate) w: f64,
    pub(crate) k: f64,
    pub(crate) kappa: f64,
    pub(crate) quad: f64,
    pub(crate) c0: f64,
    pub(crate) slots: usize,
    pub(crate) budget: u32,
    pub(crate) kv: u64,
}

pub(crate) const A100_8B: Profile = Profile {
    w: 10.4,
    k: 0.071,
    kappa: 0.107e-3,
    quad: 4.2e-6,
    c0: 2.0,
    slots: 256,
    budget: 2_048,
    kv: 421_000,
};

pub(crate) struct Job {
    pub(crate) id: RequestId,
    pub(crate) prompt_left: u32,
    pub(crate) context: u32,
    pub(crate) done: u32,
    pub(crate) output: u32,
}

pub(crate) struct Engine {
    pub(crate) profile: Profile,
    pub(crate) running: Vec<Job>,
    pub(crate) waiting: VecDeque<Job>,
    pub(crate) step_ends: Option<f64>,
    pub(crate) chunks: Vec<(RequestId, u32)>,
    pub(crate) preemptions: u64,
}

impl Engine {
    pub(crate) fn begin(&mut self, now: f64) {
        let p = self.profile;
        let mut used: u64 = self.running.iter().map(|job| u64::from(job.context + job.prompt_left)).sum();
        let mut preempted = false;
        while used + self.running.len() as u64 > p.kv && self.running.len() > 1 {
            let Some(mut job) = self.running.pop() else { break };
            used -= u64::from(job.context + job.prompt_left);
            job.prompt_left += job.context;
            job.context = 0;
            self.waiting.push_front(job);
            self.preemptions += 1;
            preempted = true;
        }
        let mut left = p.budget;
        let (mut tokens, mut context, mut pairs) = (0_u32, 0_u64, 0.0);
        self.chunks.clear();
        for job in &self.running {
            if job.prompt_left == 0 {
                tokens += 1;
                context += u64::from(job.context);
                left = left.saturating_sub(1);
            }
        }
        let mut chunk = |job: &Job, left: &mut u32| {
            let size = job.prompt_left.min(*left);
            if size > 0 {
                *left -= size;
                tokens += size;
                pairs += f64::from(size) * (f64::from(job.context) + f64::from(size) / 2.0);
                self.chunks.push((job.id, size));
            }
        };
        for job in self.running.iter().filter(|job| job.prompt_left > 0) {
            chunk(job, &mut left);
        }
        while left > 0 && !preempted && self.running.len() < p.slots {
            let Some(job) = self.waiting.front() else { break };
            if used + u64::from(job.prompt_left) > p.kv {
                break;
            }
            used += u64::from(job.prompt_left);
            chunk(job, &mut left);
            self.running.extend(self.waiting.pop_front());
        }
        self.step_ends = (!self.running.is_empty()).then(|| {
            let ms = (p.w.powi(2) + (p.k * f64::from(tokens)).powi(2)).sqrt()
                + p.kappa * context as f64
                + p.quad * pairs
                + p.c0
                + 0.0044 * self.running.len() as f64;
            now + ms / 1e3
        });
    }

    /// Ends a step: who got a token, and who is done.
    pub(crate) fn end(&mut self, tokens: &mut Vec<(RequestId, bool)>) {
        for job in &mut self.running {
            let chunk = self.chunks.iter().find(|(id, _)| *id == job.id).map_or(0, |&(_, size)| size);
            let decodes = job.prompt_left == 0;
            job.prompt_left -= chunk;
            job.context += chunk;
            if decodes || (chunk > 0 && job.prompt_left == 0) {
                job.context += 1;
                job.done += 1;
                tokens.push((job.id, job.done >= job.output));
            }
        }
        self.running.retain(|job| job.done < job.output);
    }
}
