//! The model against a published figure: an 8B model on one A100 serves 6.4 conversations per second, and not more.
//!
//! Attainment is the share of offered requests whose first token comes within 2 s and whose mean time per further
//! token stays within 100 ms. Below the knee nearly all attain it; past it the queue grows without end and nobody
//! does. The published simulator of this setting gives 6.45 requests/s. Expected of the scheduler with these costs and
//! the trace itself: 99.7 % at 6.0, 96 % at 6.5, 77 % at 7.0, 30 % at 7.5, 0 at 8.0; the synthetic lengths and three
//! seeds of four minutes come to 98.8, 94.7, 74.5, 26.2 and 1.4 %.

use std::collections::HashMap;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::{EngineModel, EngineRequest, Event};
use crate::profile::LLAMA_8B_A100;
use crate::workload::{Arrivals, Workload};

const RUN: Duration = Duration::from_secs(240);
const WARM_UP: Duration = Duration::from_secs(60);
const TTFT_MAX: Duration = Duration::from_secs(2);
const TPOT_MAX: Duration = Duration::from_millis(100);

struct Asked {
    at: Duration,
    first: Option<Duration>,
    output: u32,
    attained: bool,
}

/// Attainment of one replica under Poisson arrivals at this rate, over the requests that came after the warm-up.
fn attainment(rate_per_s: f64, seed: u64) -> f64 {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut engine = EngineModel::new(LLAMA_8B_A100);
    let mut asked: HashMap<u64, Asked> = HashMap::new();
    let mut events = Vec::new();
    let arrivals = Arrivals { rate_per_s, cv: 1.0 };
    let mut next = arrivals.gap(&mut rng);
    let mut id = 0;
    loop {
        let step = engine.next_step_at();
        if next < RUN && step.is_none_or(|step| next <= step) {
            let size = Workload::Azure.draw(&mut rng);
            let (prompt_tokens, output_tokens) = (size.prompt_tokens, size.output_tokens);
            let request = EngineRequest { id, prompt_tokens, output_tokens, block_hashes: Vec::new() };
            engine.submit(next, request).expect("it fits");
            asked.insert(id, Asked { at: next, first: None, output: output_tokens, attained: false });
            id += 1;
            next += arrivals.gap(&mut rng);
            continue;
        }
        let Some(now) = step else { break };
        engine.step(now, &mut events);
        for event in events.drain(..) {
            match event {
                Event::Token { id, .. } => {
                    let request = asked.get_mut(&id).expect("it was asked");
                    request.first.get_or_insert(now);
                }
                Event::Finished { id, .. } => {
                    let request = asked.get_mut(&id).expect("it was asked");
                    let first = request.first.expect("it has tokens");
                    let rest = request.output.saturating_sub(1).max(1);
                    request.attained = first - request.at <= TTFT_MAX && (now - first) / rest <= TPOT_MAX;
                }
                Event::Preempted { .. } => {}
            }
        }
    }
    let judged: Vec<&Asked> = asked.values().filter(|request| request.at >= WARM_UP).collect();
    judged.iter().filter(|request| request.attained).count() as f64 / judged.len() as f64
}

#[test]
fn an_8b_on_an_a100_has_its_knee_at_six_point_four_requests_per_second() {
    let mean = |rate: f64| (1..=3).map(|seed| attainment(rate, seed)).sum::<f64>() / 3.0;

    let rates = [6.0, 6.5, 7.0, 7.5, 8.0];
    let expected = [0.98..=1.0, 0.90..=0.99, 0.65..=0.85, 0.15..=0.45, 0.0..=0.05];

    for (rate, expected) in rates.into_iter().zip(expected) {
        let attainment = mean(rate);
        assert!(expected.contains(&attainment), "{attainment:.3} at {rate}/s, not {expected:?}");
    }
}
