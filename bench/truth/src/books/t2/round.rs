//! One round: a new gateway, all kinds mixed, and both sides' books at its end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::kinds::{KINDS, Leave, kind_of};
use engine::clock;
use engine::profile::LLAMA_8B_A100;
use engine::server::{EngineServer, EngineServerConfig};
use harness::proof::{Setting, Trouble};
use harness::raw::{Connection, Events};
use harness::tidegate::{Admin, Config, Tidegate};

/// Clients at once.
const CLIENTS: usize = 64;
/// A step of six milliseconds: what a departure costs until the engine sees it is a small part of a token.
const TIME_SCALE: f64 = 2.0;
/// Longer, and the sliding minute would have begun to forget.
const ROUND_MAX: Duration = Duration::from_secs(55);
/// How long the last requests may take to end on both sides.
const REST_PATIENCE: Duration = Duration::from_secs(10);

/// Of one kind: what was asked, what the engine computed, what was booked.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) requests: u64,
    /// Requests that the engine took.
    pub(super) taken: u64,
    pub(super) prompt: u64,
    pub(super) generated: u64,
    pub(super) booked_prompt: u64,
    pub(super) booked_generated: u64,
}

impl Sums {
    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.taken += other.taken;
        self.prompt += other.prompt;
        self.generated += other.generated;
        self.booked_prompt += other.booked_prompt;
        self.booked_generated += other.booked_generated;
    }
}

/// A line of the access log.
#[derive(Debug, Deserialize)]
struct Line {
    request_id: String,
    account: Option<String>,
}

/// Plays `requests` and compares the books, by kind.
pub(super) async fn play(
    setting: &Setting,
    requests: usize,
    number: u64,
) -> Result<BTreeMap<&'static str, Sums>, Trouble> {
    let engine = EngineServer::start(EngineServerConfig {
        profile: LLAMA_8B_A100,
        time_scale: TIME_SCALE,
        ..EngineServerConfig::default()
    })
    .await?;
    let mut config = Config::limitless(vec![engine.addr], KINDS.len());
    // Load is not the question here: nothing is to be shed.
    config.deployment = ", slo: { ttft_ms: 60000, tpot_ms: 1000 }, limit: 256".to_owned();
    let gateway = Tidegate::start(setting, "t2", &config).await?;
    let began = clock::now();
    crowd(gateway.address, requests, number).await;
    gateway.settle(REST_PATIENCE).await?;
    rest(&engine).await?;
    let mut sums = booked(&gateway, requests, number).await?;
    if clock::now() - began > ROUND_MAX {
        return Err(Trouble::Unexpected("a round took longer than the sliding minute holds".to_owned()));
    }
    let accounts = accounts(setting).await?;
    for record in engine.records() {
        let id = record.request_id.as_deref().unwrap_or_default();
        let sum = accounts.get(id).and_then(|account| sums.get_mut(account.as_str()));
        let Some(sum) = sum else { continue };
        // The engine took it, which is when its prompt begins to cost: how much of it was read when its client left
        // nobody outside can see. No status is one that is not there yet.
        let computed = matches!(record.status, 0 | 200) && record.prompt_tokens > 0;
        sum.taken += u64::from(computed);
        sum.prompt += if computed { u64::from(record.prompt_tokens) } else { 0 };
        sum.generated += record.generated_tokens;
    }
    let name = |(number, kind): (usize, &super::kinds::Kind)| {
        (kind.name, sums.get(&format!("a{number}")).copied().unwrap_or_default())
    };
    Ok(KINDS.iter().enumerate().map(name).collect())
}

async fn crowd(target: SocketAddr, requests: usize, round: u64) {
    let taken = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let taken = Arc::clone(&taken);
        clients.spawn(async move {
            loop {
                let number = taken.fetch_add(1, Relaxed);
                if number >= requests {
                    return;
                }
                visit(target, kind_of(number, round), round * requests as u64 + number as u64).await;
            }
        });
    }
    while clients.join_next().await.is_some() {}
}

/// One request on a connection of its own. How it ends is the engine's and the gateway's to say.
async fn visit(target: SocketAddr, at: usize, seed: u64) {
    let Some(kind) = KINDS.get(at) else { return };
    let Ok(mut connection) = Connection::open(target).await else { return };
    let body = kind.body(seed);
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer key-{at}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        kind.path,
        body.len()
    );
    let request = [head.into_bytes(), body.into_bytes()].concat();
    let enough = Notify::new();
    let mut counter = Events::default();
    let exchange = connection.exchange(&request, |piece| {
        counter.feed(piece);
        if matches!(kind.leave, Leave::Events(most) if counter.count >= most) {
            enough.notify_one();
        }
    });
    let leaves = async {
        match kind.leave.after_ms(seed) {
            Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            None => enough.notified().await,
        }
    };
    tokio::select! {
        _ = exchange => (),
        () = leaves => (),
    }
}

/// Waits until the engine has seen every end.
pub(crate) async fn rest(engine: &EngineServer) -> Result<(), Trouble> {
    let end = clock::now() + REST_PATIENCE;
    loop {
        let totals = engine.totals();
        if totals.requests == totals.finished + totals.refused + totals.broken + totals.disconnects {
            return Ok(());
        }
        if clock::now() > end {
            return Err(Trouble::Unexpected(format!("the engine still works: {totals:?}")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What each account's budget holds.
async fn booked(gateway: &Tidegate, requests: usize, round: u64) -> Result<BTreeMap<String, Sums>, Trouble> {
    let asked = (0..requests).map(|number| kind_of(number, round)).collect::<Vec<_>>();
    let mut admin = Admin::open(gateway.admin).await?;
    let mut sums = BTreeMap::new();
    for number in 0..KINDS.len() {
        let id = format!("a{number}");
        let used = admin.used(&id).await?;
        let of = |meter: &str| used.get(meter).copied().unwrap_or(0);
        let sum = Sums {
            requests: asked.iter().filter(|at| **at == number).count() as u64,
            booked_prompt: of("prompt"),
            booked_generated: of("generated"),
            ..Sums::default()
        };
        sums.insert(id, sum);
    }
    Ok(sums)
}

/// The account of each request, by the access log.
async fn accounts(setting: &Setting) -> Result<BTreeMap<String, String>, Trouble> {
    // The log is written in the background.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let text = std::fs::read_to_string(setting.out.join("t2-access.log"))?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    Ok(lines.filter_map(|line| Some((line.request_id, line.account?))).collect())
}
