//! `slow`: an idle fleet on a machine that is six times slower refuses nobody.
//!
//! Five threads that only count beside each core leave a sixth of it for the gateway, the engines and the clients
//! together, as on a machine that is so much slower. Two loads, neither of which fills anything: the streams of C3, as many
//! as the processor bears, where a step of an engine takes as long as the machine lets it; and chats at three tenths of
//! what four engines bear, streamed and whole, while the gateway is paused again and again. What a gateway then sees late
//! is nobody's load: it refuses nobody, in its first seconds either.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::task::JoinSet;

use super::play::refused;
use super::side::{REPLICAS, accounts, callers};
use crate::harness::canned::Canned;
use crate::harness::contest::{ACCOUNTS, chats};
use crate::harness::proof::{Finding, Proof, Setting, Trouble};
use crate::harness::raw::Connection;
use crate::harness::tidegate::{Config, Tidegate};
use drill::settings;
use engine::clock;
use engine::server::{EngineServer, EngineServerConfig};
use engine::workload::{Arrivals, Workload};
use kit::process;
use kit::program::Program;
use load::{End, LoadPlan, Mode, Stage};

pub(crate) const PROOF: Proof = Proof {
    id: "slow",
    what: "an idle fleet on a machine six times slower: not served of C3's streams, refused of chats at 0.3×",
    goal: "0, 0",
    quick_s: 12,
    full_s: 80,
    needs: "",
    run: |setting| slow(setting),
};

/// Threads beside each core: what is left is one part of one more.
const BESIDE: usize = 5;
/// Streams at once, each of which begins again as soon as it has ended.
const STREAMS: usize = 16;
const PROMPT_BYTES: usize = 1_000;
const ANSWER_TOKENS: u32 = 1_000;
/// What the fleet of the chats is loaded with, of what it bears.
const LOAD: f64 = 0.3;
/// Half of the chats stream.
const STREAMING: f64 = 0.5;
/// How often the gateway is paused beside the chats, and for how long.
const PAUSE_EVERY: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(600);
const SEED: u64 = 9;

fn slow(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(async {
        let streams = streams(setting).await?;
        let chats = asked(setting).await?;
        let unwanted: u64 = streams.iter().filter(|(end, _)| *end != WHOLE).map(|(_, count)| count).sum();
        let figure = format!(
            "{unwanted} of {} streams, {} of {} chats ({:.1} % in time)",
            streams.values().sum::<u64>(),
            chats.refused,
            chats.offered,
            100.0 * chats.in_time
        );
        Ok(Finding {
            figure,
            goal: PROOF.goal.to_owned(),
            ok: unwanted == 0 && streams.contains_key(WHOLE) && chats.refused == 0 && chats.failed == 0,
            details: json!({
                "busy_threads_for_each_core": BESIDE, "streams": streams, "chats_failed": chats.failed,
                "chats_late": chats.generator,
            }),
        })
    })
}

/// Threads that take their part of every core until this is dropped.
#[derive(Debug)]
struct Beside(Arc<AtomicBool>);

impl Beside {
    fn start() -> Result<Self, Trouble> {
        let is_over = Arc::new(AtomicBool::new(false));
        for _ in 0..BESIDE * process::cores() {
            let is_over = Arc::clone(&is_over);
            std::thread::Builder::new().name("beside".to_owned()).spawn(move || {
                while !is_over.load(Relaxed) {
                    std::hint::spin_loop();
                }
            })?;
        }
        Ok(Self(is_over))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// How a stream ended that came whole.
const WHOLE: &str = "status 200";

/// Plays C3's streams; how they ended, and how many each way.
async fn streams(setting: &Setting) -> Result<BTreeMap<String, u64>, Trouble> {
    let engine = Canned::start()?.addr;
    let gateway =
        Tidegate::start(setting, "slow-streams", &Config::limitless(vec![engine], ACCOUNTS)).await?;
    let requests = Arc::new(chats(PROMPT_BYTES, ANSWER_TOKENS, true));
    let _beside = Beside::start()?;
    let end = clock::now() + Duration::from_secs(setting.size(4, 30));
    let mut workers = JoinSet::new();
    for number in 0..STREAMS {
        let (requests, target) = (Arc::clone(&requests), gateway.address);
        workers.spawn(async move {
            let mut ends: Vec<String> = Vec::new();
            for request in requests.iter().cycle().skip(number) {
                if clock::now() >= end {
                    break;
                }
                ends.push(stream(target, request).await);
            }
            ends
        });
    }
    let mut ends = BTreeMap::new();
    while let Some(worker) = workers.join_next().await {
        for ended in worker.map_err(|e| Trouble::Unexpected(e.to_string()))? {
            *ends.entry(ended).or_default() += 1;
        }
    }
    Ok(ends)
}

async fn stream(target: SocketAddr, request: &[u8]) -> String {
    let exchanged = async { Connection::open(target).await?.exchange(request, |_| {}).await };
    match exchanged.await {
        Ok(answer) => format!("status {}", answer.status),
        Err(e) => format!("broken off: {e}"),
    }
}

/// Lets the gateway do nothing for a while, as a machine does that is paused, and a container whose processor time is spent.
async fn pause(gateway: &Program) -> Result<(), Trouble> {
    let pid = Pid::from_raw(gateway.pid().cast_signed());
    let signal = |signal| kill(pid, signal).map_err(|e| Trouble::Unexpected(format!("{signal}: {e}")));
    signal(Signal::SIGSTOP)?;
    tokio::time::sleep(PAUSE).await;
    signal(Signal::SIGCONT)
}

/// What became of the chats.
#[derive(Debug)]
struct Chats {
    offered: usize,
    refused: u64,
    failed: usize,
    in_time: f64,
    /// What the generator says of itself: on such a machine it may be late, too.
    generator: Option<String>,
}

async fn asked(setting: &Setting) -> Result<Chats, Trouble> {
    let mut engines = Vec::with_capacity(REPLICAS);
    for _ in 0..REPLICAS {
        engines.push(EngineServer::start(EngineServerConfig::default()).await?);
    }
    let addresses = engines.iter().map(|engine| engine.addr).collect();
    let config = Config { accounts: accounts(), ..Config::limitless(addresses, 0) };
    let gateway = Tidegate::start(setting, "slow-chats", &config).await?;
    let _beside = Beside::start()?;
    let arrivals = Arrivals { rate_per_s: LOAD * settings::Setting::CHAT.knee_per_s, cv: 1.0 };
    let duration = Duration::from_secs(setting.size(5, 40));
    let run = load::start(LoadPlan {
        mode: Mode::Open { stages: vec![Stage { arrivals, duration }] },
        workload: Workload::Azure,
        callers: callers(0.3),
        streaming_share: STREAMING,
        seed: SEED,
        timeout: Duration::from_secs(120),
        keep_outcomes: true,
        ..LoadPlan::to(gateway.address)
    })?;
    let live = Arc::clone(&run.live);
    let report = run.report();
    tokio::pin!(report);
    let report = loop {
        tokio::select! {
            report = &mut report => break report?,
            () = tokio::time::sleep(PAUSE_EVERY) => pause(&gateway.program).await?,
        }
    };
    let outcomes = &report.outcomes;
    let in_time = outcomes.iter().filter(|outcome| outcome.attained).count();
    Ok(Chats {
        offered: outcomes.len(),
        refused: refused(&live),
        failed: outcomes
            .iter()
            .filter(|outcome| !matches!(outcome.end, End::Complete | End::Refused))
            .count(),
        in_time: in_time as f64 / outcomes.len().max(1) as f64,
        generator: report.bottleneck,
    })
}
