//! Too much load: who is served, who is refused, and what the refused are told.

use crate::PROGRAM;
use crate::refusals::{Told, assert_told};
use engine::profile::LLAMA_8B_A100;
use engine::prompt::text_of;
use engine::server::EngineServer;
use kit::base_config::{PLAIN_KEY, account, budget, merge};
use kit::client::{Answer, Connection, post};
use kit::{Gateway, KEY, ask, config, engine, engine_of, eventually};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::task::JoinSet;

/// What a 503 says, but for its reason.
fn load(reason: &'static str) -> Told {
    (503, "service_overloaded", "load_shed", reason)
}

/// A gateway before `engines` engines, with `deployment` in its only deployment.
async fn gateway_before(engines: usize, deployment: Value) -> (Gateway, Vec<EngineServer>) {
    let mut running = Vec::new();
    for _ in 0..engines {
        running.push(engine().await);
    }
    let mut config = config(running.iter().map(EngineServer::url));
    merge(&mut config["deployments"][0], deployment);
    (Gateway::start(PROGRAM, &config).await, running)
}

/// Sends a request in the background.
fn send(gateway: &Gateway, key: &'static str, body: Value) -> tokio::task::JoinHandle<Answer> {
    let address = gateway.address;
    tokio::spawn(async move { kit::client::send(address, post(&body, Some(key))).await })
}

fn priority(more: Value) -> Value {
    let mut body = ask(json!({ "service_tier": "priority" }));
    merge(&mut body, more);
    body
}

/// Report S1: more regular requests than fit are refused as load, while every priority request is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_s1_regular_is_shed_while_priority_is_served() {
    let (gateway, _engines) = gateway_before(2, json!({ "limit": 2 })).await;
    let slow = json!({ "stream": true, "user": "sim:gap=150ms", "max_tokens": 20 });
    let mut regular = JoinSet::new();
    for _ in 0..40 {
        let (address, body) = (gateway.address, ask(slow.clone()));
        regular.spawn(async move { kit::client::send(address, post(&body, Some(PLAIN_KEY))).await });
    }
    gateway.counter_becomes("gate_live:sim", 2).await;

    let mut prioritised = Vec::new();
    for _ in 0..6 {
        let pair = [(); 2].map(|()| send(&gateway, KEY, priority(json!({}))));
        for answer in pair {
            prioritised.push(answer.await.unwrap());
        }
    }

    for answer in &prioritised {
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["service_tier"], "priority");
    }
    let mut shed = 0;
    while let Some(answer) = regular.join_next().await {
        let answer = answer.unwrap();
        if answer.status == 200 {
            assert!(answer.streamed().done);
            continue;
        }
        shed += 1;
        let reason = answer.header("x-tidegate-reason").to_owned();
        let known = ["shed-saturated", "shed-predicted", "queue-timeout"].into_iter().find(|r| *r == reason);
        assert_told("shed", &answer, load(known.unwrap_or("none of these")));
        assert_eq!(answer.header("x-should-retry"), "true");
        assert!(answer.header("ratelimit").contains("generated"), "a 503 tells the limits too");
    }
    assert!(shed >= 30, "2 places, 40 requests of 3 s, and only {shed} were shed");
    gateway.invariants().await;
}

/// Each reason for a 503, where one request can bring it about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_load_refusal_says_its_reason() {
    let patient = json!({ "ttft_ms": 600_000 });
    let (gateway, _engines) = gateway_before(1, json!({ "limit": 1, "queue": { "requests": 0 } })).await;
    let held = gateway.hold().await;
    assert_told("no queue", &gateway.chat(&ask(json!({}))).await, load("shed-saturated"));
    drop(held);
    drop(gateway);

    // Of two places in the queue regular requests may take one.
    let deployment = json!({ "limit": 1, "queue": { "requests": 2 }, "slo": patient });
    let (gateway, _engines) = gateway_before(1, deployment).await;
    let held = gateway.hold().await;
    let first = send(&gateway, KEY, ask(json!({})));
    gateway.counter_becomes("gate_waiting:sim", 1).await;
    assert_told("a full queue", &gateway.chat(&ask(json!({}))).await, load("queue-full"));
    let urgent = [(); 2].map(|()| send(&gateway, KEY, priority(json!({}))));
    assert_told("displaced by priority", &first.await.unwrap(), load("displaced"));
    drop(held);
    for urgent in urgent {
        assert_eq!(urgent.await.unwrap().status, 200, "report S2: the newcomers took its place");
    }
    gateway.invariants().await;
    drop(gateway);

    let (gateway, _engines) = gateway_before(1, json!({ "limit": 1, "slo": { "ttft_ms": 500 } })).await;
    let held = gateway.hold().await;
    assert_told("a wait", &gateway.chat(&ask(json!({}))).await, load("queue-timeout"));
    let mut hurried = post(&ask(json!({})), Some(KEY));
    hurried.headers_mut().insert("x-tidegate-ttft-deadline-ms", "50".parse().unwrap());
    let hurried = Connection::open(gateway.address).await.send(hurried).await;
    assert_told("a deadline", &hurried, load("deadline"));
    assert_eq!(hurried.header("x-should-retry"), "false", "its own deadline passes anyway");
    drop(held);
    gateway.invariants().await;
}

/// A prompt that would have to wait longer than its target is refused at once, by prediction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_is_too_long_is_foreseen() {
    let engine = engine_of(LLAMA_8B_A100).await;
    let gateway = Gateway::start(PROGRAM, &config([engine.url()])).await;
    let long = |seed| {
        let content = text_of(seed, 6_000);
        ask(json!({ "stream": true, "max_tokens": 2, "messages": [{ "role": "user", "content": content }] }))
    };
    for seed in 0..6 {
        assert_eq!(gateway.chat(&long(seed)).await.status, 200, "these teach how fast a prefill is");
    }

    let burst: Vec<_> = (10..50).map(|seed| send(&gateway, KEY, long(seed))).collect();
    let mut foreseen = 0;
    for answer in burst {
        let answer = answer.await.unwrap();
        if answer.verdict() == (503, "shed-predicted") {
            foreseen += 1;
            assert_told("predicted", &answer, load("shed-predicted"));
            assert!(answer.message().contains("would wait"), "{}", answer.message());
            assert!(answer.header("x-tidegate-queue-ms").parse::<u64>().unwrap() < 500);
        }
    }
    assert!(foreseen >= 10, "{foreseen} of 40 prompts of half a second each were refused by prediction");
    gateway.invariants().await;
}

/// Bytes of bodies are bounded for each account, and that is load, not a limit of the account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_beyond_the_memory_are_refused_as_load() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    let limits = json!({ "limits": { "inflight_bytes": 1_048_576, "body_bytes": 65_536 } });
    merge(&mut config["listen"], limits);
    let gateway = Gateway::start(PROGRAM, &config).await;
    let large = |fault| ask(json!({ "pad": "x".repeat(40_000), "user": fault, "stream": true }));

    // Held until the first token, which never comes.
    let waiting = send(&gateway, KEY, large("sim:hang"));
    eventually("the engine has it", || async { (engine.totals().requests == 1).then_some(()) }).await;
    let refused = gateway.chat(&large("")).await;
    let others = gateway.chat_as(PLAIN_KEY, &large("")).await;

    assert_told("memory", &refused, load("memory"));
    assert_eq!(others.status, 200, "another account has its own share");
    waiting.abort();
    gateway.invariants().await;
    assert_eq!(gateway.chat(&large("")).await.status, 200);
}

/// Report S13: a budget outranks the load, and a 503 gives its tokens back whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_s13_a_429_outranks_a_503_and_a_503_costs_nothing() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    merge(&mut config["deployments"][0], json!({ "limit": 1, "queue": { "requests": 0 } }));
    let accounts = config["accounts"].as_array_mut().unwrap();
    accounts.push(account("spent", "tg-spent", json!({ "limits": [budget(2, 1_000, 1_000)] })));
    accounts.push(account("rich", "tg-rich", json!({ "limits": [budget(100_000, 100_000, 10_000)] })));
    let gateway = Gateway::start(PROGRAM, &config).await;
    let held = gateway.hold().await;

    let over_budget = gateway.chat_as("tg-spent", &ask(json!({}))).await;
    let first = gateway.chat_as("tg-rich", &ask(json!({}))).await;
    let mut last = first.clone();
    for _ in 0..20 {
        last = gateway.chat_as("tg-rich", &ask(json!({}))).await;
    }

    assert_eq!(over_budget.verdict(), (429, "prompt_tokens_limited"), "though there is no place either");
    for answer in [&first, &last] {
        assert_told("no place", answer, load("shed-saturated"));
    }
    assert_eq!(first.header("ratelimit"), last.header("ratelimit"), "20 refusals took something");
    drop(held);
    gateway.invariants().await;
    let served = gateway.chat_as("tg-rich", &ask(json!({}))).await;
    assert_eq!(served.header("ratelimit"), last.header("ratelimit"), "and nothing was given twice");
}

/// Being shed is not free to repeat: it counts among the requests of the minute, and who waits among those at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_shed_or_wait_count_in_their_accounts_limits() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    let place = json!({ "limit": 1, "queue": { "requests": 1 }, "slo": { "ttft_ms": 600_000 } });
    merge(&mut config["deployments"][0], place);
    let accounts = config["accounts"].as_array_mut().unwrap();
    accounts.push(account("waits", "tg-waits", json!({ "concurrency": 1 })));
    accounts.push(account("repeats", "tg-repeats", json!({ "requests_per_minute": 3 })));
    let gateway = Gateway::start(PROGRAM, &config).await;
    let held = gateway.hold().await;
    let waiting = send(&gateway, "tg-waits", ask(json!({})));
    gateway.counter_becomes("gate_waiting:sim", 1).await;

    let beside = gateway.chat_as("tg-waits", &ask(json!({}))).await;
    let mut repeated = Vec::new();
    for _ in 0..4 {
        repeated.push(gateway.chat_as("tg-repeats", &ask(json!({}))).await);
    }

    assert_eq!(beside.verdict(), (429, "concurrency_limited"), "its first request waits");
    for shed in &repeated[..3] {
        assert_told("no room to wait", shed, load("queue-full"));
    }
    assert_eq!(repeated[3].verdict(), (429, "requests_limited"), "three were shed in this minute");
    drop(held);
    assert_eq!(waiting.await.unwrap().status, 200);
    gateway.invariants().await;
}

/// Report S10: a herd that is refused at once is told different times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_s10_a_herd_is_told_different_times() {
    let (gateway, _engines) = gateway_before(1, json!({ "limit": 1, "queue": { "requests": 0 } })).await;
    let held = gateway.hold().await;

    let mut times = Vec::new();
    for _ in 0..40 {
        let answer = gateway.chat(&ask(json!({}))).await;
        times.push(answer.header("retry-after-ms").parse::<u64>().unwrap());
    }

    let distinct: std::collections::BTreeSet<u64> = times.iter().copied().collect();
    assert!(distinct.len() > 20, "{times:?}");
    assert!(times.iter().all(|ms| (500..=60_000).contains(ms)), "{times:?}");
    assert!(
        times[30..].iter().sum::<u64>() > times[..10].iter().sum(),
        "does not grow with the herd: {times:?}"
    );
    drop(held);
}

/// Waits are told in the answer that followed them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_in_the_queue_is_told() {
    let (gateway, _engines) = gateway_before(1, json!({ "limit": 1, "slo": { "ttft_ms": 600_000 } })).await;
    let held = gateway.hold().await;
    let waiting = send(&gateway, KEY, ask(json!({})));
    gateway.counter_becomes("gate_waiting:sim", 1).await;
    // The time in the queue that is to be told.
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(held);

    let served = waiting.await.unwrap();

    assert_eq!(served.status, 200);
    assert!(served.header("x-tidegate-queue-ms").parse::<u64>().unwrap() >= 300, "{:?}", served.headers);
    assert_eq!(served.header("x-tidegate-deployment"), "sim");
    gateway.invariants().await;
}
