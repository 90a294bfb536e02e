//! T1: whatever happens to requests, nothing of them is left.
//!
//! Randomised requests through the shipped program, over two replicas that fail in every way they can, by clients that
//! leave in every way they can: bad keys, bad bodies, budgets that are empty, queues that are full, engines that reset,
//! cut, hang, refuse, lie about usage and die. Afterwards every counter of the admin API's `invariants` must be exactly
//! zero and the process must hold as many descriptors as before.
//!
//! A panic cannot be caused from outside, and the gateway has no reload yet: both are left to the tests of the crate.

mod guest;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tokio::task::JoinSet;

use engine::clock;
use engine::profile::{INSTANT, LLAMA_8B_A100, Profile};
use engine::server::{EngineServer, EngineServerConfig};
use guest::Guest;
use harness::proof::{Finding, Proof, Setting, Trouble};
use harness::tidegate::{AccountLines, Config, Invariants, LIMITLESS, Tidegate};
use kit::process;

pub(crate) const PROOF: Proof = Proof {
    id: "T1",
    what: "randomised requests with faults: what is left of them",
    goal: "every counter 0, descriptors as before",
    quick_s: 20,
    full_s: 240,
    needs: "",
    run,
};

/// Clients at once.
const GUESTS: usize = 224;
/// How long the last requests may take to end: longer than every timeout of the config.
const REST_PATIENCE: Duration = Duration::from_secs(20);
/// Between two deaths of the mortal replica.
const LIFE: Duration = Duration::from_secs(4);

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(show(setting))
}

async fn show(setting: &Setting) -> Result<Finding, Trouble> {
    let steady = engine(LLAMA_8B_A100, 20.0, None).await?;
    let mortal = engine(INSTANT, 1.0, None).await?;
    let mortal_address = mortal.addr;
    let mut gateway = Tidegate::start(setting, "t1", &config(steady.addr, mortal_address)).await?;
    let at_start = descriptors_idle(gateway.program.pid()).await?;

    let requests = setting.size(10_000, 100_000);
    let began = clock::now();
    let reaper = tokio::spawn(reap(mortal, mortal_address));
    let taken = AtomicU64::new(0);
    let ends = crowd(gateway.address, Arc::new(move || taken.fetch_add(1, Relaxed) < requests)).await;
    reaper.abort();
    let took = clock::now() - began;

    let invariants = gateway.settle(REST_PATIENCE).await?;
    let at_end = descriptors_at_rest(gateway.program.pid(), at_start).await?;
    let alive = gateway.program.is_running()?;
    let left: u64 = invariants.counters.values().sum();
    let variety = ends.len();
    let ok = alive && invariants.at_rest && left == 0 && at_end <= at_start && variety >= VARIETY_MIN;
    Ok(Finding {
        figure: format!(
            "{requests} requests, {variety} kinds of end: {left} left, descriptors {at_start} → {at_end}"
        ),
        goal: PROOF.goal.to_owned(),
        ok,
        details: details(requests, took, &ends, &invariants),
    })
}

/// Fewer kinds of end than this and the crowd was not as bad as it means to be.
const VARIETY_MIN: usize = 8;

fn details(
    requests: u64,
    took: Duration,
    ends: &BTreeMap<String, u64>,
    invariants: &Invariants,
) -> serde_json::Value {
    json!({
        "requests": requests, "seconds": took.as_secs_f64(), "ends": ends, "counters": invariants.counters,
        "not_included": ["panic (no way to cause one from outside)", "reload (not there yet)"],
    })
}

pub(crate) async fn engine(
    profile: Profile,
    time_scale: f64,
    at: Option<SocketAddr>,
) -> Result<EngineServer, Trouble> {
    let mut config = EngineServerConfig { profile, time_scale, ..EngineServerConfig::default() };
    if let Some(address) = at {
        config.address = address;
    }
    Ok(EngineServer::start(config).await?)
}

/// Two accounts that may do everything, one that may do next to nothing; short timeouts, few places, a small queue.
pub(crate) fn config(steady: SocketAddr, mortal: SocketAddr) -> Config {
    let free = format!(
        ", spending_tier: enterprise, tiers: [priority, regular], requests_per_minute: 100000000, concurrency: 100000, \
         limits: [{{ start: {LIMITLESS}, floor: {LIMITLESS}, ceiling: {LIMITLESS} }}]"
    );
    let accounts = [
        ("key-0", free.clone()),
        ("key-1", free),
        ("poor", ", requests_per_minute: 100000000, limits: [{ start: { prompt: 20000, uncached_prompt: 20000, generated: 2000 } }]".to_owned()),
        ("slow", ", requests_per_minute: 60, concurrency: 2".to_owned()),
    ];
    Config {
        threads: 2,
        replicas: vec![steady, mortal],
        engine: "vllm",
        deployment: ", slo: { ttft_ms: 2000, tpot_ms: 100 }, limit: 48, step_tokens: 8192, queue: { requests: 150 }, \
                     timeouts: { connect_ms: 300, first_token_ms: 500, between_tokens_ms: 500, answer_ms: 1000 }"
            .to_owned(),
        accounts: accounts.map(|(key, more)| AccountLines { key: key.to_owned(), more }).to_vec(),
        keepalive_requests: Some(50),
        connections_per_address: Some(100_000),
        policy: "fixed",
        state: None,
        usage: false,
        listen: String::new(),
        listen_limits: String::new(),
        served_model: "sim".to_owned(),
        more_models: Vec::new(),
    }
}

/// Kills the mortal replica again and again and starts it anew at the same address.
pub(crate) async fn reap(mut mortal: EngineServer, address: SocketAddr) {
    loop {
        tokio::time::sleep(LIFE).await;
        mortal.kill();
        tokio::time::sleep(Duration::from_millis(100)).await;
        mortal = loop {
            match engine(INSTANT, 1.0, Some(address)).await {
                Ok(engine) => break engine,
                // The port is still in somebody's TIME_WAIT.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
    }
}

/// Sends requests while there are to be `more`; how they ended, by kind.
pub(crate) async fn crowd(
    target: SocketAddr,
    more: Arc<dyn Fn() -> bool + Send + Sync>,
) -> BTreeMap<String, u64> {
    let ends: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
    let mut guests = JoinSet::new();
    for number in 0..GUESTS {
        let (more, ends) = (Arc::clone(&more), Arc::clone(&ends));
        guests.spawn(async move {
            let mut random = SmallRng::seed_from_u64(number as u64);
            let mut guest = Guest::new(target);
            while more() {
                let end = guest.visit(&mut random).await;
                *ends.lock().unwrap_or_else(PoisonError::into_inner).entry(end).or_default() += 1;
                if random.random_range(0..50) == 0 {
                    tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
                }
            }
        });
    }
    while guests.join_next().await.is_some() {}
    std::mem::take(&mut *ends.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The most descriptors of an idle moment: the gateway reads its replicas' state once a second, over connections of its
/// own.
pub(crate) async fn descriptors_idle(pid: u32) -> Result<usize, Trouble> {
    let mut most = 0;
    for _ in 0..25 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        most = most.max(process::descriptors(pid)?);
    }
    Ok(most)
}

/// Descriptors once idle connections to engines were given up, or what they are when patience ends.
pub(crate) async fn descriptors_at_rest(pid: u32, at_start: usize) -> Result<usize, Trouble> {
    let end = clock::now() + REST_PATIENCE;
    loop {
        let now = process::descriptors(pid)?;
        if now <= at_start || clock::now() > end {
            return Ok(now);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
