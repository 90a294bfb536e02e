//! The tier below regular: who is served in it, what its clients are told, and that it waits for the others.

use crate::PROGRAM;
use engine::server::EngineServer;
use kit::base_config::{PLAIN_KEY, account, merge};
use kit::client::{Answer, post, post_to, send};
use kit::shape::{STREAMED, read, request};
use kit::{Gateway, KEY, ask, config, engine};
use protocol::api::Api;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// The key of an account that may use flex, and gets it where it says nothing.
const NIGHT_KEY: &str = "tg-night";

/// A gateway with so many places whose deployment has `more`.
async fn gateway(places: u32, more: Value) -> (Gateway, EngineServer) {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    merge(&mut config["listen"], json!({ "limits": { "silence_ms": 1_000 } }));
    merge(&mut config["deployments"][0], json!({ "limit": places }));
    merge(&mut config["deployments"][0], more);
    let night = account("night", NIGHT_KEY, json!({ "tiers": ["flex"], "default_tier": "flex" }));
    config["accounts"].as_array_mut().unwrap().push(night);
    (Gateway::start(PROGRAM, &config).await, engine)
}

fn offered() -> Value {
    json!({ "flex": { "wait_ms": 20_000 } })
}

fn sent(gateway: &Gateway, key: &'static str, body: Value) -> JoinHandle<Answer> {
    let address = gateway.address;
    tokio::spawn(async move { send(address, post(&body, Some(key))).await })
}

/// `flex` where it is offered and the account may, else `default`; `batch` and `standard` as Anthropic has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_served_where_it_is_offered_to_who_may_and_as_regular_elsewhere() {
    for (what, deployment, key, wish, is_flex) in [
        ("asked for", offered(), NIGHT_KEY, json!("flex"), true),
        ("by default", offered(), NIGHT_KEY, json!(null), true),
        ("regular can still be had", offered(), NIGHT_KEY, json!("default"), false),
        ("the account may not", offered(), PLAIN_KEY, json!("flex"), false),
        ("not offered", json!({}), NIGHT_KEY, json!("flex"), false),
    ] {
        let (gateway, _engine) = gateway(8, deployment).await;
        for api in STREAMED {
            for stream in [false, true] {
                let body = request(api, 3, json!({ "stream": stream, "service_tier": wish }));
                let answer = send(gateway.address, post_to(api.path(), &body, Some(key))).await;

                assert_eq!(answer.status, 200, "{what}: {}", answer.text());
                let name = match (api, is_flex) {
                    (Api::Messages, true) => "batch",
                    (Api::Messages, false) => "standard",
                    (_, true) => "flex",
                    (_, false) => "default",
                };
                let tiers = read(api, &answer).tiers;
                assert!(
                    !tiers.is_empty() && tiers.iter().all(|tier| tier == name),
                    "{what}, {api:?}: {tiers:?}"
                );
            }
        }
        let tier = if is_flex { "flex" } else { "regular" };
        assert!(gateway.log(6).await.iter().all(|line| line["tier"] == tier), "{what}");
        gateway.invariants().await;
    }
}

/// The engine computes one at a time: what waits in flex is overtaken by who came later, and is told where it stands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_waits_for_the_others_and_is_told_what_is_before_it() {
    let (gateway, _engine) = gateway(1, offered()).await;
    let slow = json!({ "stream": true, "max_tokens": 20, "user": "sim:gap=100ms" });
    let first = sent(&gateway, KEY, ask(slow.clone()));
    gateway.counter_becomes("gate_live:sim", 1).await;
    let flex = sent(&gateway, NIGHT_KEY, ask(json!({ "stream": true })));
    gateway.counter_becomes("gate_waiting:sim", 1).await;
    let regular = sent(&gateway, PLAIN_KEY, ask(json!({ "stream": true })));
    gateway.counter_becomes("gate_waiting:sim", 2).await;

    let (first, flex, regular) = (first.await.unwrap(), flex.await.unwrap(), regular.await.unwrap());

    assert_eq!([first.status, flex.status, regular.status], [200; 3]);
    let told = flex.text();
    assert!(told.starts_with(": queued, 1 before this request"), "{told}");
    let read = read(Api::Chat, &flex);
    assert!(read.whole && read.error.is_none() && read.tiers.iter().all(|tier| tier == "flex"), "{told}");
    let lines = gateway.log(3).await;
    let ended: Vec<_> = lines.iter().map(|line| line["tier"].as_str().unwrap_or_default()).collect();
    assert_eq!(ended.last(), Some(&"flex"), "{ended:?}");
    gateway.invariants().await;
}

/// It is not bound to the time to first token, but to its own wait, and then refused as load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_refused_when_its_own_wait_is_over() {
    let (gateway, _engine) = gateway(1, json!({ "flex": { "wait_ms": 3_000 } })).await;
    let running =
        sent(&gateway, KEY, ask(json!({ "stream": true, "max_tokens": 60, "user": "sim:gap=100ms" })));
    gateway.counter_becomes("gate_live:sim", 1).await;

    let flex = sent(&gateway, NIGHT_KEY, ask(json!({}))).await.unwrap();

    assert_eq!(flex.status, 503, "{}", flex.text());
    assert_eq!(flex.header("x-tidegate-reason"), "queue-timeout");
    assert_eq!(running.await.unwrap().status, 200);
    let lines = gateway.log(2).await;
    let waited = lines.iter().find(|line| line["tier"] == "flex").and_then(|line| line["queue_ms"].as_f64());
    assert!(waited >= Some(3_000.0), "the promised first token of 2 s is not its own: {waited:?}");
    gateway.invariants().await;
}
