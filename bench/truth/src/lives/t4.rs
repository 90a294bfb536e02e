//! T4: how soon a client that leaves is missed, by the queue and by the engine.
//!
//! In the queue: one stream holds the only place; a second request waits until the gate shows it, then its client
//! closes; how long until the gate shows nobody, read over a kept connection as fast as it answers. In mid-stream: the
//! client closes between two tokens that are 10 ms, or 500 ms, apart; the engine's own books say when it saw it.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use engine::clock;
use engine::server::EngineServer;
use harness::contest::instant_engine;
use harness::proof::{Finding, Proof, Setting, Trouble};
use harness::raw::Connection;
use harness::tidegate::{Admin, Config, MODEL, Tidegate, chat, hold};

pub(crate) const PROOF: Proof = Proof {
    id: "T4",
    what: "client gone: in the queue → place free; mid-stream → engine sees it",
    goal: "p99 ≤50 ms; p99 ≤200 ms",
    quick_s: 3,
    full_s: 40,
    needs: "",
    run,
};

const QUEUE_P99_MAX: Duration = Duration::from_millis(50);
const STREAM_P99_MAX: Duration = Duration::from_millis(200);
/// What the quick size is judged by.
const QUICK_FACTOR: u32 = 5;
/// Longer than this and it was never seen.
const PATIENCE: Duration = Duration::from_secs(5);

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(async {
        let queue = in_queue(setting, setting.size(100, 1_000)).await?;
        let stream = in_stream(setting, setting.size(100, 1_000)).await?;
        let factor = setting.size(QUICK_FACTOR, 1);
        let wider = setting.size(format!(" (quick: ×{QUICK_FACTOR})"), String::new());
        let p99 = |times: &Histogram<u64>| Duration::from_nanos(times.value_at_quantile(0.99));
        Ok(Finding {
            figure: format!("p99 {:.1} ms; p99 {:.1} ms", ms(p99(&queue)), ms(p99(&stream))),
            goal: format!("{}{wider}", PROOF.goal),
            ok: p99(&queue) <= QUEUE_P99_MAX * factor && p99(&stream) <= STREAM_P99_MAX * factor,
            details: json!({ "queue": details(&queue), "stream": details(&stream) }),
        })
    })
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn details(times: &Histogram<u64>) -> Value {
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1e6;
    json!({ "count": times.len(), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0) })
}

fn histogram() -> Result<Histogram<u64>, Trouble> {
    Histogram::new_with_max(60_000_000_000, 3).map_err(|e| Trouble::Unexpected(e.to_string()))
}

fn body(gap: &str) -> String {
    format!(
        "{{\"model\":\"{MODEL}\",\"stream\":true,\"max_tokens\":1000,\"ignore_eos\":true,\"user\":\"sim:gap={gap}\",\
         \"messages\":[{{\"role\":\"user\",\"content\":\"wait\"}}]}}"
    )
}

async fn in_queue(setting: &Setting, samples: usize) -> Result<Histogram<u64>, Trouble> {
    let engine = instant_engine().await?;
    let mut config = Config::limitless(vec![engine.addr], 2);
    config.deployment = ", slo: { ttft_ms: 60000, tpot_ms: 60000 }, limit: 1".to_owned();
    let gateway = Tidegate::start(setting, "t4-queue", &config).await?;
    let _held = hold(gateway.address).await?;
    let mut admin = Admin::open(gateway.admin).await?;
    let request = chat("key-1", &body("1s"));
    let mut times = histogram()?;
    for _ in 0..samples {
        let mut waiting = Connection::open(gateway.address).await?;
        waiting.send(&request).await?;
        until_waiting(&mut admin, 1).await?;
        let left = clock::now();
        drop(waiting);
        until_waiting(&mut admin, 0).await?;
        times.saturating_record((clock::now() - left).as_nanos() as u64);
    }
    Ok(times)
}

/// Waits until so many requests wait at the gate.
async fn until_waiting(admin: &mut Admin, wanted: u64) -> Result<(), Trouble> {
    let end = clock::now() + PATIENCE;
    while admin.invariants().await?.counters.get("gate_waiting:d") != Some(&wanted) {
        if clock::now() > end {
            return Err(Trouble::Unexpected(format!("the gate never showed {wanted} waiting")));
        }
    }
    Ok(())
}

async fn in_stream(setting: &Setting, samples: usize) -> Result<Histogram<u64>, Trouble> {
    let engine = instant_engine().await?;
    let config = Config::limitless(vec![engine.addr], 1);
    let gateway = Tidegate::start(setting, "t4-stream", &config).await?;
    let mut times = histogram()?;
    for number in 0..samples {
        let gap = if number % 2 == 0 { "10ms" } else { "500ms" };
        let mut connection = Connection::open(gateway.address).await?;
        connection.send(&chat("key-0", &body(gap))).await?;
        let status = connection.first_bytes().await?;
        if status != 200 {
            return Err(Trouble::Unexpected(format!("status {status}")));
        }
        tokio::time::sleep(Duration::from_millis(number as u64 % 13)).await;
        let left = clock::now();
        let seen_before = engine.totals().disconnects;
        drop(connection);
        until_seen(&engine, seen_before + 1).await?;
        let seen = last_disconnect(&engine)?;
        times.saturating_record(seen.saturating_sub(left).as_nanos() as u64);
    }
    Ok(times)
}

async fn until_seen(engine: &EngineServer, disconnects: u64) -> Result<(), Trouble> {
    let end = clock::now() + PATIENCE;
    while engine.totals().disconnects < disconnects {
        if clock::now() > end {
            return Err(Trouble::Unexpected("the engine never saw a client leave".to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// When the engine saw the client of its last request leave. Engine and proof share one clock.
fn last_disconnect(engine: &EngineServer) -> Result<Duration, Trouble> {
    let records = engine.records();
    let seen = records.last().and_then(|record| record.disconnected_s);
    seen.map(Duration::from_secs_f64)
        .ok_or_else(|| Trouble::Unexpected("no disconnect in the books".to_owned()))
}
