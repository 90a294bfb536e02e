//! A new process takes the place of the one that runs, and nobody outside can tell.

use crate::PROGRAM;
use crate::operating::{change, operated};
use http::Method;
use kit::base_config::merge;
use kit::client::{Connection, get, post, send};
use kit::{Gateway, KEY, ask, config, engine, eventually};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use tokio::task::JoinSet;

/// The config of an upgrade: it has a state folder. A long lame-duck time: idle connections are kept for it.
fn lasting(replica: String) -> Value {
    let mut config = config([replica]);
    merge(
        &mut config,
        json!({ "state": {}, "log": { "level": "info" }, "listen": { "shutdown": { "lame_duck_ms": 1_500 } } }),
    );
    config
}

/// Signals the old process and waits until it has ended well.
async fn hand_over(old: &mut Gateway) {
    old.signal("QUIT");
    let status = eventually("the old process ended", || {
        let exit = old.exit();
        async move { exit }
    })
    .await;
    assert!(status.success(), "{status}");
}

/// What the account `acme` has used of each meter of the model `sim`, debt included.
async fn used(gateway: &Gateway) -> Vec<u64> {
    let page = gateway.admin("/api/v1/accounts/acme/limits").await.json();
    let model = page["models"].as_array().unwrap().iter().find(|model| model["model"] == "sim").unwrap();
    let meters = model["meters"].as_array().unwrap();
    meters.iter().map(|meter| meter["used"].as_u64().unwrap() + meter["debt"].as_u64().unwrap()).collect()
}

/// Nothing is refused and nothing is cut: not the streams that run, not new connections, not kept ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_refuses_no_connection_and_drops_no_stream() {
    let engine = engine().await;
    let mut old = Gateway::start(PROGRAM, &lasting(engine.url())).await;
    let address = old.address;
    let mut streams = JoinSet::new();
    for nth in 0..40 {
        let gap = 40 + nth;
        let body =
            ask(json!({ "stream": true, "user": format!("sim:gap={gap}ms"), "max_tokens": 40, "seed": nth }));
        streams.spawn(async move { (nth, send(address, post(&body, Some(KEY))).await) });
    }
    old.counter_becomes("gate_live:sim", 40).await;
    let (over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let mut load = JoinSet::new();
    for nth in 0..4 {
        let (over, served) = (Arc::clone(&over), Arc::clone(&served));
        load.spawn(async move {
            let mut kept = Connection::open(address).await;
            while !over.load(Ordering::Relaxed) {
                let request = post(&ask(json!({})), Some(KEY));
                // Half of them on connections that are kept until an answer says that it was the last.
                let answer =
                    if nth % 2 == 0 { send(address, request).await } else { kept.send(request).await };
                assert_eq!(answer.status, 200, "{}", answer.text());
                if answer.headers.get("connection").is_some_and(|value| value == "close") {
                    kept = Connection::open(address).await;
                }
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    let mut new = old.successor().await.unwrap();
    let before = served.load(Ordering::Relaxed);
    hand_over(&mut old).await;

    while let Some(joined) = streams.join_next().await {
        let (seed, answer) = joined.unwrap();
        let streamed = answer.streamed();
        assert!(streamed.done && !streamed.broken, "dropped: {}", answer.text());
        assert_eq!(streamed.text, engine::text::expected_text(seed, 40));
    }
    let after = served.load(Ordering::Relaxed);
    eventually("the new process serves", || async {
        (served.load(Ordering::Relaxed) > after + 20).then_some(())
    })
    .await;
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended.unwrap();
    }
    assert!(after > before, "requests were served all the while");
    assert!(new.exit().is_none());
    assert_eq!(new.admin("/readyz").await.status, 200);
    new.invariants().await;
}

/// Budgets go along whole: what was used, what runs, and what the last answers use after the new process began.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budgets_go_along_and_each_token_is_booked_once() {
    let engine = engine().await;
    let mut old = Gateway::start(PROGRAM, &lasting(engine.url())).await;
    let address = old.address;
    let usage = |answer: &Value| -> [u64; 2] {
        ["prompt_tokens", "completion_tokens"].map(|name| answer["usage"][name].as_u64().unwrap())
    };
    let first = usage(&old.chat(&ask(json!({ "max_tokens": 50 }))).await.json());
    let running = tokio::spawn(async move {
        let body = ask(json!({
            "stream": true,
            "stream_options": { "include_usage": true },
            "user": "sim:gap=60ms",
            "max_tokens": 60,
        }));
        send(address, post(&body, Some(KEY))).await
    });
    old.counter_becomes("gate_live:sim", 1).await;

    let new = old.successor().await.unwrap();
    hand_over(&mut old).await;
    let answer = running.await.unwrap();
    let streamed = answer.streamed();
    let last = streamed.events.iter().rev().find(|event| event["usage"].is_object()).unwrap();
    let second = usage(last);

    let expected = [first[0] + second[0], first[1] + second[1]];
    let booked = eventually("the last tokens were told", || async {
        let used = used(&new).await;
        (used[2] >= expected[1]).then_some(used)
    })
    .await;
    assert_eq!([booked[0], booked[2]], expected);
}

/// Who waits for a place keeps waiting for it, and gets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_in_the_old_process_gets_a_place_there() {
    let engine = engine().await;
    let mut config = lasting(engine.url());
    merge(&mut config["deployments"][0], json!({ "limit": 1, "slo": { "ttft_ms": 600_000 } }));
    let mut old = Gateway::start(PROGRAM, &config).await;
    let address = old.address;
    let held = old.hold().await;
    let waiting = tokio::spawn(async move { send(address, post(&ask(json!({})), Some(KEY))).await });
    old.counter_becomes("gate_waiting:sim", 1).await;
    let new = old.successor().await.unwrap();

    old.signal("QUIT");
    eventually("the new process took over", || async { new.said().contains("took over").then_some(()) })
        .await;
    drop(held);

    let served = waiting.await.unwrap();
    assert_eq!(served.status, 200, "{}", served.text());
    eventually("the old process ended", || {
        let exit = old.exit();
        async move { exit }
    })
    .await;
}

/// Nobody to hand over to, or somebody who fails: the process goes on as if nothing had been.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_that_fails_changes_nothing() {
    let engine = engine().await;
    let config = operated(lasting(engine.url()));
    let mut old = Gateway::start(PROGRAM, &config).await;
    let mut kept = Connection::open(old.address).await;
    let says = async |old: &Gateway, what: &str| {
        eventually(what, || async { old.said().contains(what).then_some(()) }).await;
    };

    old.signal("QUIT");
    says(&old, "no new process waits at ").await;

    let mut wrong = config.clone();
    wrong["models"][0]["deployments"] = json!(["nowhere"]);
    old.write_config(&wrong);
    assert!(old.successor().await.is_none(), "a config with a fault is refused before anything");
    old.write_config(&config);

    // One that breaks off after the state was given to it.
    let made = async |gateway: &Gateway, id: &str| {
        change(gateway, Method::POST, "/api/v1/accounts", &json!({ "id": id })).await.status
    };
    assert_eq!(made(&old, "before").await, 200);
    let socket = old.state().join("upgrade.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let (given, has_it) = mpsc::channel();
    let (break_off, told) = mpsc::channel::<()>();
    let half = std::thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        stream.get_mut().write_all(b"{\"say\":\"ready\"}\n").unwrap();
        line.clear();
        stream.read_line(&mut line).unwrap();
        given.send(line).unwrap();
        told.recv().unwrap();
    });
    old.signal("QUIT");
    let said = tokio::task::spawn_blocking(move || has_it.recv().unwrap()).await.unwrap();
    assert_eq!(said, "{\"say\":\"state\"}\n");
    assert_eq!(made(&old, "meanwhile").await, 409, "it would be lost with the folder");
    let limits = json!({ "ceiling": { "prompt": 1_000_000_000_000_u64 } });
    let set = change(&old, Method::PUT, "/api/v1/accounts/acme/limits", &limits).await;
    assert_eq!(set.status, 409, "{}", set.text());
    // As a new process leaves it behind.
    let accounts = old.state().join("accounts.jsonl");
    std::fs::copy(&accounts, accounts.with_extension("next")).unwrap();
    std::fs::rename(accounts.with_extension("next"), &accounts).unwrap();
    break_off.send(()).unwrap();
    half.join().unwrap();
    says(&old, "the other process broke off").await;
    std::fs::remove_file(&socket).unwrap();

    assert_eq!(kept.send(get("/v1/models", Some(KEY))).await.status, 200, "the connection is as it was");
    assert_eq!(old.chat(&ask(json!({}))).await.status, 200);
    assert_eq!(made(&old, "after").await, 200);
    assert_eq!(old.admin("/readyz").await.status, 200);
    old.invariants().await;
    let spent = used(&old).await;
    assert!(spent[0] > 0);
    let new = old.successor().await.unwrap();
    hand_over(&mut old).await;
    assert_eq!(used(&new).await, spent, "the next one gets all of it");
    for (id, status) in [("before", 200), ("meanwhile", 404), ("after", 200)] {
        assert_eq!(new.admin(&format!("/api/v1/accounts/{id}")).await.status, status, "{id}");
    }
}

/// What was learnt goes along: the limit, the gaps, what prompts are cached, and what still runs in the old process, until that
/// has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_new_process_knows_what_the_old_one_has_learnt() {
    let engine = engine().await;
    let old = Gateway::start(PROGRAM, &lasting(engine.url())).await;
    let address = old.address;
    let long = "a prompt that is longer than some blocks of sixty-four bytes, ".repeat(40);
    let cached = ask(json!({ "max_tokens": 20, "messages": [{ "role": "user", "content": long }] }));
    old.chat(&cached).await;
    let mut streams = JoinSet::new();
    for seed in 0..12 {
        let body = ask(json!({ "stream": true, "user": "sim:gap=40ms", "max_tokens": 90, "seed": seed }));
        streams.spawn(async move { send(address, post(&body, Some(KEY))).await });
    }
    let replica = |page: Value| page["deployments"][0]["replicas"][0].clone();
    let before = eventually("gaps are known", || async {
        let state = replica(old.admin("/api/v1/deployments").await.json());
        (state["gap_ms"].is_number() && state["with_token"] == 12).then_some(state)
    })
    .await;

    let new = old.successor().await.unwrap();
    old.signal("QUIT");
    let after = eventually("the new process answers", || async {
        let state = replica(new.admin("/api/v1/deployments").await.json());
        state["gap_ms"].is_number().then_some(state)
    })
    .await;

    let of = |state: &Value, name: &str| state[name].as_f64().unwrap();
    assert!((of(&after, "gap_ms") / of(&before, "gap_ms") - 1.0).abs() < 0.25, "{before} {after}");
    assert!((of(&after, "limit") / of(&before, "limit") - 1.0).abs() < 0.1, "{before} {after}");
    assert_eq!(after["active"], 12, "what runs in the old process holds its place: {after}");
    new.chat(&cached).await;
    // Both write the same file, and no stream has ended.
    let line = new.log(2).await.pop().unwrap();
    let uncached = line["uncached_tokens"].as_u64().unwrap();
    assert!(uncached < 40, "the prompt's beginning is known: {line}\n{}", new.said());
    while let Some(joined) = streams.join_next().await {
        assert!(joined.unwrap().streamed().done);
    }
    eventually("what ran in the old process holds nothing any more", || async {
        (replica(new.admin("/api/v1/deployments").await.json())["active"] == 0).then_some(())
    })
    .await;
    new.invariants().await;
}

/// A process that the gateway has started itself, ended with the value.
struct Started(u64);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = std::process::Command::new("kill").arg("-KILL").arg(self.0.to_string()).status();
    }
}

async fn pid(gateway: &Gateway) -> u64 {
    gateway.admin("/api/v1/version").await.json()["pid"].as_u64().unwrap()
}

/// Requests on new connections, one after the other, until `over`; none may be refused.
fn traffic(
    address: std::net::SocketAddr,
    over: &Arc<AtomicBool>,
    served: &Arc<AtomicU32>,
) -> tokio::task::JoinHandle<()> {
    let (over, served) = (Arc::clone(over), Arc::clone(served));
    tokio::spawn(async move {
        while !over.load(Ordering::Relaxed) {
            let answer = send(address, post(&ask(json!({})), Some(KEY))).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            served.fetch_add(1, Ordering::Relaxed);
        }
    })
}

/// What systemd's `reload` runs: the running process starts its successor, with the config as it is now, and nobody who
/// connects meanwhile is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_o05_the_command_hands_over_to_a_new_process_under_traffic() {
    let engine = engine().await;
    let mut config = operated(lasting(engine.url()));
    let mut old = Gateway::start(PROGRAM, &config).await;
    let (over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let load: Vec<_> = (0..2).map(|_| traffic(old.address, &over, &served)).collect();
    let body = ask(json!({ "stream": true, "user": "sim:gap=40ms", "max_tokens": 40, "seed": 7 }));
    let address = old.address;
    let stream = tokio::spawn(async move { send(address, post(&body, Some(KEY))).await });
    eventually("the load is there", || async { (served.load(Ordering::Relaxed) > 5).then_some(()) }).await;
    let before = pid(&old).await;
    // A new process takes what a reload cannot.
    merge(&mut config["listen"], json!({ "limits": { "keepalive_requests": 777 } }));
    old.write_config(&config);
    let token = old.file("token", crate::operating::TOKEN);

    let words = format!("upgrade --admin http://{} --token-file {token}", old.admin);
    let ran = tokio::task::spawn_blocking(move || {
        std::process::Command::new(PROGRAM).args(words.split_whitespace()).output().unwrap()
    });
    let ran = ran.await.unwrap();

    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    let _new = Started(pid(&old).await);
    assert_eq!(ran.status.code(), Some(0), "{said}");
    assert!(said.contains(&format!("took over from {before}")), "{said}");
    let status = eventually("the old process ended", || {
        let exit = old.exit();
        async move { exit }
    })
    .await;
    assert!(status.success(), "{status}");
    let streamed = stream.await.unwrap().streamed();
    assert!(streamed.done && !streamed.broken, "a stream was cut");
    let after = served.load(Ordering::Relaxed);
    eventually("the new process serves", || async {
        (served.load(Ordering::Relaxed) > after + 10).then_some(())
    })
    .await;
    over.store(true, Ordering::Relaxed);
    for ended in load {
        ended.await.unwrap();
    }
    assert_ne!(pid(&old).await, before);
    let config = old.admin("/api/v1/config").await.json();
    assert_eq!(config["listen"]["limits"]["keepalive_requests"], 777);
}

/// A successor that refuses its config changes nothing, and the command says why it is so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_o05_a_successor_that_cannot_start_changes_nothing() {
    let engine = engine().await;
    let config = operated(lasting(engine.url()));
    let old = Gateway::start(PROGRAM, &config).await;
    let before = pid(&old).await;
    let token = old.file("token", crate::operating::TOKEN);
    let mut broken = config.clone();
    merge(&mut broken, json!({ "acounts": [] }));
    old.write_config(&broken);

    let words = format!("upgrade --admin {} --token-file {token}", old.admin);
    let ran = tokio::task::spawn_blocking(move || {
        std::process::Command::new(PROGRAM).args(words.split_whitespace()).output().unwrap()
    });
    let ran = ran.await.unwrap();

    let wrong = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(
        ran.status.code() == Some(1) && wrong.contains("the new process ended") && wrong.contains("goes on"),
        "{wrong}"
    );
    assert_eq!(pid(&old).await, before);
    assert_eq!(old.chat(&ask(json!({}))).await.status, 200);
}

/// Without a state folder there is nothing by which budgets could be handed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_o05_without_a_state_folder_the_command_says_what_is_missing() {
    let engine = engine().await;
    let mut config = operated(config([engine.url()]));
    merge(&mut config, json!({ "log": { "level": "info" } }));
    let old = Gateway::start(PROGRAM, &config).await;
    let token = old.file("token", crate::operating::TOKEN);

    let words = format!("upgrade --admin {} --token-file {token}", old.admin);
    let ran = tokio::task::spawn_blocking(move || {
        std::process::Command::new(PROGRAM).args(words.split_whitespace()).output().unwrap()
    });
    let ran = ran.await.unwrap();

    let wrong = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.code() == Some(1) && wrong.contains("state.dir"), "{wrong}");
    assert_eq!(old.chat(&ask(json!({}))).await.status, 200);
}
