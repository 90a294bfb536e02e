//! T7: nobody is dropped when the gateway is told to stop, and it does not linger.
//!
//! Hundreds of streams of different lengths run, and some clients are in the middle of a request's head, when `SIGTERM`
//! comes. Each stream must come to its own end, each head must be answered, and the process must be gone a second after
//! the last. In a second life the streams outlast the grace: each must end with an error event, before the process does.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::task::JoinSet;

use engine::clock;
use harness::contest::instant_engine;
use harness::proof::{Finding, Proof, Setting, Trouble};
use harness::raw::Connection;
use harness::tidegate::{Config, MODEL, Tidegate, chat};

pub(crate) const PROOF: Proof = Proof {
    id: "T7",
    what: "SIGTERM under live streams: dropped, exit after the last; streams longer than the grace that are told",
    goal: "0 of 500; ≤1 s; all",
    quick_s: 8,
    full_s: 20,
    needs: "",
    run,
};

/// Clients whose head is half there.
const HEADS: usize = 20;
const EXIT_WITHIN: Duration = Duration::from_secs(1);
/// Longer than this and it never ends.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);
/// Streams that run.
const LIVE: &str = "gate_live:d";

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(async {
        let streams = setting.size(100, 500);
        let finished = finished(setting, streams).await?;
        let told = told(setting, streams / 5).await?;
        let Life { dropped, heads, exit_after } = finished;
        Ok(Finding {
            figure: format!(
                "{dropped} of {streams} dropped, {heads} of {HEADS} heads unanswered; gone after {:.2} s; {told} of {} told",
                exit_after.as_secs_f64(),
                streams / 5
            ),
            goal: format!("0 of {streams}; ≤1 s; all"),
            ok: dropped == 0 && heads == 0 && exit_after <= EXIT_WITHIN && told == streams / 5,
            details: json!({ "streams": streams, "dropped": dropped, "exit_after_s": exit_after.as_secs_f64() }),
        })
    })
}

/// How one life of the gateway ended.
struct Life {
    dropped: usize,
    /// Heads without an answer.
    heads: usize,
    exit_after: Duration,
}

fn config(engine: std::net::SocketAddr, grace_ms: u64) -> Config {
    let mut config = Config::limitless(vec![engine], 1);
    config.deployment = ", slo: { ttft_ms: 60000, tpot_ms: 60000 }, limit: 1000".to_owned();
    config.listen = format!(", shutdown: {{ lame_duck_ms: 300, grace_ms: {grace_ms} }}");
    config
}

fn stream(gap_ms: usize, tokens: usize) -> Vec<u8> {
    let body = format!(
        "{{\"model\":\"{MODEL}\",\"stream\":true,\"max_tokens\":{tokens},\"ignore_eos\":true,\"user\":\"sim:gap={gap_ms}ms\",\
         \"messages\":[{{\"role\":\"user\",\"content\":\"go\"}}]}}"
    );
    chat("key-0", &body)
}

/// How a stream looked to its client, and when it ended.
struct Seen {
    whole: bool,
    error: bool,
    ended: Duration,
}

async fn watch(address: std::net::SocketAddr, request: Arc<Vec<u8>>) -> Seen {
    let mut text = Vec::new();
    let answer = async {
        let mut connection = Connection::open(address).await?;
        connection.exchange(&request, |piece| text.extend_from_slice(piece)).await
    };
    let clean = answer.await.is_ok_and(|answer| answer.status == 200);
    let has = |mark: &str| memchr::memmem::find(&text, mark.as_bytes()).is_some();
    let error = has("\"error\":{");
    Seen { whole: clean && has("data: [DONE]") && !error, error, ended: clock::now() }
}

/// Starts streams and waits until all of them run.
async fn begin(
    gateway: &Tidegate,
    requests: impl Iterator<Item = Vec<u8>>,
) -> Result<JoinSet<Seen>, Trouble> {
    let mut running = JoinSet::new();
    for request in requests {
        running.spawn(watch(gateway.address, Arc::new(request)));
    }
    let (all, end) = (running.len() as u64, clock::now() + PATIENCE);
    while gateway.invariants().await?.counters.get(LIVE) != Some(&all) {
        if clock::now() > end {
            return Err(Trouble::Unexpected("the streams did not all begin".to_owned()));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(running)
}

fn terminate(gateway: &Tidegate) -> Result<(), Trouble> {
    let pid = Pid::from_raw(gateway.program.pid().cast_signed());
    kill(pid, Signal::SIGTERM).map_err(|e| Trouble::Unexpected(e.to_string()))
}

async fn finished(setting: &Setting, streams: usize) -> Result<Life, Trouble> {
    let engine = instant_engine().await?;
    let mut gateway = Tidegate::start(setting, "t7", &config(engine.addr, 60_000)).await?;
    // From 1.5 s to 3 s in the small size, to 6 s in the full one.
    let tokens = setting.size(60, 100);
    let (least, spread) = (25, setting.size(26, 36));
    let requests = (0..streams).map(|nth| stream(least + nth % spread, tokens));
    let mut running = begin(&gateway, requests).await?;
    let head = stream(1, 2);
    let (first, rest) = head.split_at(40);
    let mut halves = Vec::new();
    for _ in 0..HEADS {
        let mut connection = Connection::open(gateway.address).await?;
        connection.send(first).await?;
        halves.push(connection);
    }
    terminate(&gateway)?;
    let end = clock::now() + PATIENCE;
    while tokio::net::TcpStream::connect(gateway.address).await.is_ok() && clock::now() < end {
        tokio::time::sleep(POLL).await;
    }
    let mut heads = 0;
    for connection in &mut halves {
        let answered = match connection.send(rest).await {
            Ok(()) => connection.answer(|_| ()).await,
            Err(e) => Err(e),
        };
        heads += usize::from(!answered.is_ok_and(|answer| matches!(answer.status, 200 | 503)));
    }
    let (mut dropped, mut last) = (0, clock::now());
    while let Some(seen) = running.join_next().await {
        let seen = seen.map_err(|e| Trouble::Unexpected(e.to_string()))?;
        dropped += usize::from(!seen.whole);
        last = last.max(seen.ended);
    }
    while gateway.program.is_running()? && clock::now() < last + PATIENCE {
        tokio::time::sleep(POLL).await;
    }
    Ok(Life { dropped, heads, exit_after: clock::now() - last })
}

/// How many of the streams that outlast the grace end with an error event and look broken.
async fn told(setting: &Setting, streams: usize) -> Result<usize, Trouble> {
    let engine = instant_engine().await?;
    let gateway = Tidegate::start(setting, "t7-grace", &config(engine.addr, 3_000)).await?;
    let mut running = begin(&gateway, (0..streams).map(|_| stream(50, 100_000))).await?;
    terminate(&gateway)?;
    let mut told = 0;
    while let Some(seen) = running.join_next().await {
        let seen = seen.map_err(|e| Trouble::Unexpected(e.to_string()))?;
        told += usize::from(seen.error && !seen.whole);
    }
    Ok(told)
}
