//! How long an hour of four busy replicas takes in virtual time, how fast server and load generator are together, and
//! how true to the model and how quick to notice a client that left the server is in real time.
//!
//! `cargo bench -p load --bench engine_hour`. The drills play many hours, so an hour must take seconds.

use std::io::{self, Write};
use std::time::Duration;

use engine::clock;
use engine::model::{EngineModel, EngineRequest, Event};
use engine::profile::{INSTANT, LLAMA_8B_A100};
use engine::server::{EngineServer, EngineServerConfig};
use engine::workload::{Arrivals, Size, Workload};
use load::{End, LoadPlan, Mode};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    for (name, shared) in [("nothing shared", false), ("half of each prompt shared", true)] {
        hour(name, shared)?;
    }
    for (name, streaming_share, output_tokens) in
        [("whole answers", 0.0, 16), ("streams of 100 chunks", 1.0, 100)]
    {
        closed_loop(name, streaming_share, output_tokens).await?;
    }
    real_time().await
}

/// Four replicas at 6.25 requests/s each, by turns.
fn hour(name: &str, shared: bool) -> io::Result<()> {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut replicas: Vec<EngineModel> = (0..4).map(|_| EngineModel::new(LLAMA_8B_A100)).collect();
    let arrivals = Arrivals { rate_per_s: 25.0, cv: 1.0 };
    let mut events = Vec::new();
    let (mut requests, mut tokens) = (0_u64, 0_u64);
    let began = clock::now();
    let mut at = Duration::ZERO;
    while at < HOUR {
        at += arrivals.gap(&mut rng);
        for replica in &mut replicas {
            while let Some(due) = replica.next_step_at().filter(|due| *due <= at) {
                replica.step(due, &mut events);
                tokens +=
                    events.drain(..).filter(|event| matches!(event, Event::Token { .. })).count() as u64;
            }
        }
        let size = Workload::Azure.draw(&mut rng);
        let group: u64 = rng.random_range(0..50) << 32;
        let hash = |block: u32| if block < size.prompt_tokens / 32 { group } else { requests << 16 } + u64::from(block);
        let block_hashes = if shared { (0..size.prompt_tokens / 16).map(hash).collect() } else { Vec::new() };
        let request = EngineRequest {
            id: requests,
            prompt_tokens: size.prompt_tokens,
            output_tokens: size.output_tokens,
            block_hashes,
        };
        if let Some(replica) = replicas.get_mut((requests % 4) as usize) {
            replica.submit(at, request).map_err(io::Error::other)?;
        }
        requests += 1;
    }
    let took = (clock::now() - began).as_secs_f64();
    let steps: u64 = replicas.iter().map(|replica| replica.counters().steps).sum();
    let cached: u64 = replicas.iter().map(|replica| replica.counters().cached_tokens).sum();
    let prompt: u64 = replicas.iter().map(|replica| replica.counters().prompt_tokens).sum();
    writeln!(
        io::stdout(),
        "an hour of four replicas, {name}: {took:.2} s for {requests} requests, {steps} steps, {tokens} token events \
         ({:.1} ns each), {:.0} % cached",
        took * 1e9 / tokens as f64,
        100.0 * cached as f64 / prompt as f64
    )
}

/// Server and generator over loopback, each on one thread.
async fn closed_loop(name: &str, streaming_share: f64, output_tokens: u32) -> io::Result<()> {
    let server =
        EngineServer::start(EngineServerConfig { profile: INSTANT, ..EngineServerConfig::default() }).await?;
    let plan = LoadPlan {
        mode: Mode::Closed { connections: 16, duration: Duration::from_secs(3) },
        workload: Workload::Fixed(Size { prompt_tokens: 50, output_tokens }),
        streaming_share,
        bodies: 64,
        ..LoadPlan::to(server.addr)
    };
    let report = load::run(plan).await?;
    let rate = report.all.offered as f64 / report.elapsed_s;
    writeln!(
        io::stdout(),
        "closed loop, {name}: {rate:.0} requests/s, {:.0} tokens/s, p50 {:.3} ms, p99 {:.3} ms, ends {:?}",
        report.all.tokens as f64 / report.elapsed_s,
        report.all.latency.p50_ms,
        report.all.latency.p99_ms,
        report.all.ends
    )?;
    server.stop().await;
    Ok(())
}

/// One stream at a time against the model's own figure, and clients that leave in the middle.
async fn real_time() -> io::Result<()> {
    let server = EngineServer::start(EngineServerConfig::default()).await?;
    let plan = LoadPlan {
        mode: Mode::Closed { connections: 1, duration: Duration::from_secs(4) },
        workload: Workload::Fixed(Size { prompt_tokens: 1155, output_tokens: 20 }),
        ..LoadPlan::to(server.addr)
    };
    let report = load::run(plan.clone()).await?;
    let model_ms = LLAMA_8B_A100.idle_prefill(1155).as_secs_f64() * 1e3;
    writeln!(
        io::stdout(),
        "one stream at a time: first token after p50 {:.2} ms, p99 {:.2} ms, model {model_ms:.2} ms; gap p50 {:.2} ms, \
         p99 {:.2} ms",
        report.all.ttft.p50_ms,
        report.all.ttft.p99_ms,
        report.all.gap.p50_ms,
        report.all.gap.p99_ms
    )?;
    let plan = LoadPlan { abandon_share: 1.0, keep_outcomes: true, ..plan };
    let report = load::run(plan).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let seen = server.records().into_iter().filter(|record| record.disconnected_s.is_some());
    let left = report.outcomes.iter().filter(|outcome| outcome.end == End::Abandoned);
    let mut late_ms: Vec<f64> = seen
        .zip(left)
        .filter_map(|(record, outcome)| {
            let left_after_s = outcome.latency.as_secs_f64();
            record.disconnected_s.map(|at| (at - record.received_s - left_after_s) * 1e3)
        })
        .collect();
    late_ms.sort_by(f64::total_cmp);
    writeln!(
        io::stdout(),
        "{} clients left in the middle; the server knew after p50 {:.2} ms, at most {:.2} ms",
        late_ms.len(),
        late_ms.get(late_ms.len() / 2).copied().unwrap_or_default(),
        late_ms.last().copied().unwrap_or_default()
    )?;
    server.stop().await;
    Ok(())
}
