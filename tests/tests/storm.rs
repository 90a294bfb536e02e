//! Everything at once: whatever clients and engines do, every counter comes back to exactly zero.

use crate::PROGRAM;
use engine::profile::INSTANT;
use engine::server::{EngineServer, EngineServerConfig};
use kit::base_config::{PLAIN_KEY, merge};
use kit::client::{Connection, post};
use kit::raw::{Raw, chat_request};
use kit::{Gateway, KEY, ask, config, engine, eventually};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Requests of the storm, unless `TIDEGATE_T1_REQUESTS` says another number.
const REQUESTS: u64 = 3_000;
/// Clients at once: more than the engines have places for.
const CLIENTS: u64 = 48;
/// The time between two deaths of an engine.
const LIFE: Duration = Duration::from_millis(1_500);

/// How a request of the storm ended, for a glance at what the storm was.
type Ends = BTreeMap<&'static str, u64>;

/// T1 and report L1: after a storm of faults, aborts and deaths nothing is held and nothing leaked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t1_report_l1_everything_comes_back_to_zero_after_a_storm() {
    let requests = std::env::var("TIDEGATE_T1_REQUESTS").ok().map_or(REQUESTS, |n| n.parse().unwrap());
    let engines: Vec<EngineServer> = vec![engine().await, engine().await, engine().await];
    let mut config = config(engines.iter().map(EngineServer::url));
    let timeouts = json!({ "first_token_ms": 300, "answer_ms": 600, "between_tokens_ms": 300 });
    let deployment = json!({ "limit": 8, "timeouts": timeouts, "queue": { "requests": 30 } });
    merge(&mut config["deployments"][0], deployment);
    let gateway = Gateway::start(PROGRAM, &config).await;
    // Warm: what is opened once and kept is no leak.
    for _ in 0..20 {
        assert_eq!(gateway.chat(&ask(json!({}))).await.status, 200);
    }
    let baseline = gateway.descriptors();

    let reaper = tokio::spawn(kill_and_restart(engines));
    let ends = storm(gateway.address, requests).await;
    reaper.abort();
    let _ = reaper.await;

    println!("{requests} requests: {ends:?}");
    let lines = gateway.log(1).await;
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    for line in &lines {
        *reasons.entry(format!("{} {}", line["status"], line["reason"])).or_default() += 1;
    }
    println!("{reasons:#?}");
    gateway.invariants().await;
    let outcomes = ["complete", "refused", "left", "broken"];
    assert!(outcomes.iter().all(|end| ends[end] > requests / 100), "the storm was none: {ends:?}");
    // Kept connections to engines that are gone are closed within seconds.
    eventually("descriptors are back", || async { (gateway.descriptors() <= baseline).then_some(()) }).await;
    assert!(lines.len() as u64 <= requests + 20, "more lines than requests");
}

/// Kills one engine after the other, as `kill -9` does, and starts it again on its port.
async fn kill_and_restart(mut engines: Vec<EngineServer>) {
    loop {
        // How long each engine lives.
        tokio::time::sleep(LIFE).await;
        let victim = engines.remove(0);
        let config = EngineServerConfig {
            address: victim.addr,
            profile: INSTANT,
            any_model: true,
            ..EngineServerConfig::default()
        };
        tokio::task::spawn_blocking(|| victim.kill()).await.unwrap();
        // How long its port is closed.
        tokio::time::sleep(LIFE / 4).await;
        // One of the storm's many connections may have the port as its own for a moment.
        let reborn = eventually("the engine is back", || {
            let config = config.clone();
            async move { EngineServer::start(config).await.ok() }
        });
        engines.push(reborn.await);
    }
}

async fn storm(address: SocketAddr, requests: u64) -> Ends {
    let ends = Arc::new(Mutex::new(Ends::new()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let ends = Arc::clone(&ends);
            tokio::spawn(async move {
                let mut rng = SmallRng::seed_from_u64(client);
                for _ in 0..requests / CLIENTS {
                    let end = one(address, &mut rng).await;
                    if end == "refused" {
                        // Not as told, but not at once: else nearly all that the storm sees is a full queue.
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    *ends.lock().entry(end).or_default() += 1;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let ends = ends.lock();
    ends.clone()
}

/// One request that does whatever `rng` wants, and how it ended.
async fn one(address: SocketAddr, rng: &mut SmallRng) -> &'static str {
    let body = body(rng);
    let key = if rng.random_bool(0.5) { KEY } else { PLAIN_KEY };
    match rng.random_range(0..10) {
        0 => leave(address, rng, key, &body).await,
        1 => leave_in_mid_body(address, rng, key, &body).await,
        _ => {
            let mut connection = Connection::open(address).await;
            let Ok(mut begun) = connection.begin(post(&body, Some(key))).await else { return "broken" };
            if begun.status != 200 {
                return "refused";
            }
            if rng.random_bool(0.2) {
                begun.piece().await;
                return "left";
            }
            if begun.whole().await.clean { "complete" } else { "broken" }
        }
    }
}

fn body(rng: &mut SmallRng) -> Value {
    let n: usize = rng.random_range(0..6);
    // Rare, because one "busy" keeps its replica closed for a second, and a hang keeps a place for its timeout.
    let fault = match rng.random_range(0..200) {
        0 => ["status=503", "status=429", "stream-error=0"][n % 3].to_owned(),
        1..=5 => "status=500".to_owned(),
        6..=8 => "hang".to_owned(),
        9..=12 => format!("hang={n}"),
        13..=20 => format!("cut={n}"),
        21..=28 => format!("reset={n}"),
        29..=36 => format!("stream-error={}", n + 1),
        37..=44 => "no-usage".to_owned(),
        45..=52 => "ends=2".to_owned(),
        53..=60 => "garbage".to_owned(),
        61..=68 => "wrong-usage=-1:999:7".to_owned(),
        69..=76 => "wrong-length=9".to_owned(),
        77..=110 => format!("gap={n}ms"),
        111..=140 => format!("delay={}ms", 5 * n),
        _ => String::new(),
    };
    ask(json!({
        "stream": rng.random_bool(0.7),
        "user": format!("sim:{fault}"),
        "max_tokens": rng.random_range(1..40),
        "service_tier": if rng.random_bool(0.3) { "priority" } else { "auto" },
        "n": rng.random_range(1..3),
        "pad": "x".repeat(rng.random_range(0..3_000)),
    }))
}

/// Leaves some milliseconds after the request: in the queue, before the head or in mid-stream.
async fn leave(address: SocketAddr, rng: &mut SmallRng, key: &str, body: &Value) -> &'static str {
    let mut raw = Raw::connect(address).await;
    raw.send(chat_request(key, "", &body.to_string())).await;
    // When the client leaves is what is drawn here.
    tokio::time::sleep(Duration::from_millis(rng.random_range(0..40))).await;
    if rng.random_bool(0.5) {
        raw.reset();
    }
    "left"
}

async fn leave_in_mid_body(address: SocketAddr, rng: &mut SmallRng, key: &str, body: &Value) -> &'static str {
    let whole = chat_request(key, "", &body.to_string());
    let mut raw = Raw::connect(address).await;
    raw.send(&whole[..rng.random_range(0..whole.len())]).await;
    if rng.random_bool(0.5) {
        raw.reset();
    }
    "left"
}
