//! The config changes while requests run: all of it or nothing, and nobody notices but by what is new.

use crate::PROGRAM;
use crate::operating::{change, operated};
use http::Method;
use kit::base_config::merge;
use kit::client::{get, post, send};
use kit::recorder::Recorder;
use kit::{Gateway, KEY, ask, config, engine, eventually};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

const RELOAD: &str = "/api/v1/reload";

async fn reload(gateway: &Gateway) -> (u16, Value) {
    let answer = change(gateway, Method::POST, RELOAD, &Value::Null).await;
    (answer.status, answer.json())
}

/// T8, small: every request of a storm of reloads, a third of them invalid, is served, and an engine never sees the
/// model of one config with the key of another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t8_reloads_under_load_fail_nobody_and_mix_nothing() {
    let engine = Recorder::start().await;
    let base = operated(config([engine.url()]));
    let gateway = Arc::new(Gateway::start(PROGRAM, &base).await);
    let version = |nth: u32| {
        let mut config = base.clone();
        let key = gateway.file(&format!("key-{}", nth % 2), &format!("key-{}", nth % 2));
        merge(&mut config["deployments"][0], json!({ "api_key_file": key }));
        merge(&mut config["models"][0], json!({ "served_model": format!("v-{}", nth % 2) }));
        config
    };
    gateway.write_config(&version(0));
    assert_eq!(reload(&gateway).await.0, 200);
    engine.take();

    let (over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (over, served, address) = (Arc::clone(&over), Arc::clone(&served), gateway.address);
        load.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let answer = send(address, post(&ask(json!({})), Some(KEY))).await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let mut good = 1;
    for nth in 1..=60 {
        let mut next = version(nth);
        if nth % 3 == 0 {
            next["models"][0]["deployments"] = json!(["nowhere"]);
        }
        gateway.write_config(&next);
        let (status, told) = reload(&gateway).await;
        assert_eq!(status, if nth % 3 == 0 { 422 } else { 200 }, "{told}");
        good += u32::from(nth % 3 != 0);
    }
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended.unwrap();
    }

    let mut seen = [0; 2];
    for recorded in engine.take() {
        let key = recorded.headers["authorization"].to_str().unwrap().to_owned();
        let body: Value = serde_json::from_slice(&recorded.body).unwrap();
        let model = body["model"].as_str().unwrap();
        let nth = usize::from(model == "v-1");
        assert_eq!(key, format!("Bearer key-{nth}"), "one config's model with another's key: {model}");
        seen[nth] += 1;
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    assert_eq!(seen[0] + seen[1], served.load(Ordering::Relaxed));
    let state = gateway.admin(RELOAD).await.json();
    assert_eq!((&state["generation"], &state["successful"]), (&json!(good), &json!(false)), "{state}");
    gateway.invariants().await;
}

/// Who waits while replicas and the model's name there change together gets a new replica by its new name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_goes_to_a_new_replica_by_its_new_name() {
    let (old, new) = (engine().await, engine().await);
    let mut base = operated(config([old.url()]));
    merge(&mut base["deployments"][0], json!({ "limit": 1, "slo": { "ttft_ms": 600_000 } }));
    merge(&mut base["models"][0], json!({ "served_model": "v-0" }));
    let gateway = Gateway::start(PROGRAM, &base).await;
    let _held = gateway.hold().await;
    let address = gateway.address;
    let waiting = tokio::spawn(async move { send(address, post(&ask(json!({})), Some(KEY))).await });
    gateway.counter_becomes("gate_waiting:sim", 1).await;

    let mut next = base.clone();
    next["deployments"][0]["replicas"] = json!([new.url()]);
    next["models"][0]["served_model"] = json!("v-1");
    gateway.write_config(&next);
    assert_eq!(reload(&gateway).await.0, 200);

    let served = waiting.await.unwrap();
    assert_eq!(served.status, 200, "{}", served.text());
    let models = |engine: &engine::server::EngineServer| -> Vec<String> {
        let bodies = engine.records().into_iter().map(|record| record.body);
        let bodies = bodies.filter_map(|body| serde_json::from_str::<Value>(&body).ok());
        bodies.map(|body| body["model"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(models(&new), ["v-1"]);
    assert_eq!(models(&old), ["v-0"], "the held one, and nothing else");
}

/// A file with a fault changes nothing, says where it is wrong, and turns the metric to 0 until a good one comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_faulty_file_changes_nothing_and_says_why() {
    let engine = engine().await;
    let base = operated(config([engine.url()]));
    let gateway = Gateway::start(PROGRAM, &base).await;
    let metric = || async { gateway.admin("/metrics").await.text().contains("last_reload_successful 1") };
    assert!(metric().await);

    let mut faulty = base.clone();
    faulty["models"] = json!([]);
    gateway.write_config(&faulty);
    gateway.signal("HUP");
    eventually("the signal was heard", || async {
        let state = gateway.admin(RELOAD).await.json();
        (state["successful"] == json!(false)).then_some(())
    })
    .await;

    let state = gateway.admin(RELOAD).await.json();
    assert!(state["faults"].as_str().unwrap().contains("models"), "{state}");
    assert_eq!((&state["generation"], metric().await), (&json!(0), false));
    assert_eq!(gateway.chat(&ask(json!({}))).await.status, 200, "the last good one is in force");

    let mut moved = base.clone();
    moved["listen"]["address"] = json!("127.0.0.1:1");
    moved["accounts"][0]["disabled"] = json!(true);
    gateway.write_config(&moved);
    let (status, state) = reload(&gateway).await;

    assert_eq!((status, &state["needs_restart"]), (200, &json!(["listen.address"])), "{state}");
    assert!(metric().await);
    assert_eq!(gateway.chat(&ask(json!({}))).await.status, 401, "the account is disabled now");
}

/// A changed file is noticed; what a deployment has learnt and who runs on it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_file_is_taken_and_a_deployment_goes_on() {
    let (one, two) = (engine().await, engine().await);
    let base = operated(config([one.url()]));
    let gateway = Gateway::start(PROGRAM, &base).await;
    let held = gateway.hold().await;

    let mut grown = base.clone();
    grown["deployments"][0]["replicas"] = json!([two.url(), one.url()]);
    grown["models"][1]["name"] = json!("new-model");
    gateway.write_config(&grown);
    eventually("the new model is known", || async {
        let answer = send(gateway.address, get("/v1/models/new-model", Some(KEY))).await;
        (answer.status == 200).then_some(())
    })
    .await;

    let state = gateway.admin("/api/v1/deployments/sim").await.json();
    assert_eq!(state["active"], 1, "the request that runs is still counted: {state}");
    assert_eq!(state["replicas"].as_array().unwrap().len(), 2, "{state}");
    for _ in 0..8 {
        assert_eq!(gateway.chat(&ask(json!({}))).await.status, 200);
    }
    assert!(!two.records().is_empty(), "the new replica serves");
    drop(held);
    gateway.invariants().await;
}
