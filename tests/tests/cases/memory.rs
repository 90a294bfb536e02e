//! E06 and O12: what requests hold is counted, and resident memory follows what is counted and used.

use super::{Fleet, fleet_of};
use crate::PROGRAM;
use kit::base_config::{account, budget, merge};
use kit::hostile::{Act, Asked, Hostile, beginning, whole, word};
use kit::process::memory;
use kit::raw::{Raw, chat_request};
use kit::{Gateway, KEY, config, eventually};
use serde_json::{Value, json};
use std::time::Duration;

/// The bound of the gateways of these tests.
const INFLIGHT: u64 = 64 << 20;
/// What a gateway may have beside what is counted: itself, its threads, buffers of sockets.
const BESIDE: u64 = 100 << 20;

/// A gateway with a small bound, of which one account may take all, before an engine that does what `script` says.
async fn small(script: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static) -> Fleet {
    let limits = json!({
        "inflight_bytes": INFLIGHT, "inflight_account_share": 1.0, "inflight_priority_share": 0.0,
        "body_bytes": 32 << 20,
    });
    fleet_of(vec![Hostile::start(script).await], json!({ "listen": { "limits": limits } })).await
}

/// Memory of the gateway now, and what it counts, bytes.
async fn held(gateway: &Gateway) -> (u64, u64) {
    let counted = gateway.counter("bytes_in_flight").await;
    (memory(gateway.pid()).unwrap(), counted)
}

/// Looks for two seconds: memory stays within 1.2 times what is counted and 100 MiB, and what is counted within its bound.
/// The most that was counted.
async fn assert_bounded(gateway: &Gateway, what: &str) -> u64 {
    let mut most = 0;
    for _ in 0..40 {
        let (resident, counted) = held(gateway).await;
        most = most.max(counted);
        assert!(
            resident <= counted + counted / 5 + BESIDE,
            "{what}: {} MiB resident, {} MiB counted",
            resident >> 20,
            counted >> 20
        );
        assert!(counted <= INFLIGHT + (4 << 20), "{what}: {} MiB counted", counted >> 20);
        // Memory is sampled while the load goes on.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    most
}

fn post(path: &str, body: &str) -> String {
    chat_request(KEY, "", body).replace("/v1/chat/completions", path)
}

/// Sends each of these on a connection of its own and reads nothing.
async fn unread(gateway: &Gateway, requests: Vec<String>) -> Vec<Raw> {
    let mut held = Vec::new();
    for request in requests {
        let mut raw = Raw::connect(gateway.address).await;
        raw.send(request).await;
        held.push(raw);
    }
    held
}

/// Twelve short requests whose answers have 55 MB each, from clients that do not read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e06_large_answers_of_routes_without_output_pass_through_and_are_not_held() {
    let one = format!("[{}]", vec!["0.0123456789"; 4_096].join(","));
    let items = vec![format!(r#"{{"object":"embedding","index":0,"embedding":{one}}}"#); 1_000];
    let body = format!(
        r#"{{"object":"list","model":"sim","data":[{}],"usage":{{"prompt_tokens":9,"total_tokens":9}}}}"#,
        items.join(",")
    );
    assert!(body.len() > 50_000_000);
    let fleet = small(move |_| vec![Act::Whole(200, "application/json", body.clone())]).await;

    let request = post("/v1/embeddings", r#"{"model":"sim","input":"unread"}"#);
    let clients = unread(&fleet.gateway, vec![request; 12]).await;

    assert_bounded(&fleet.gateway, "12 × 55 MB").await;
    drop(clients);
    fleet.gateway.invariants().await;
}

/// Whole answers are held, so they are counted, in all and for the account, and what finds no room is a 503 of ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e06_whole_answers_count_until_their_clients_have_them() {
    let script = |asked: &Asked| {
        let mut answer = whole(asked);
        answer["choices"][0]["message"]["content"] = json!("word ".repeat(2 << 20));
        vec![Act::Json(200, answer)]
    };
    let fleet = small(script).await;

    let body = r#"{"model":"sim","messages":[{"role":"user","content":"unread"}],"max_tokens":9000000}"#;
    let clients = unread(&fleet.gateway, vec![post("/v1/chat/completions", body); 20]).await;

    let most = assert_bounded(&fleet.gateway, "20 × 10 MB").await;
    assert!(most > 20 << 20, "{most} bytes counted");
    drop(clients);
    fleet.gateway.invariants().await;
    let told = fleet.gateway.log(20).await;
    let refused = told.iter().filter(|line| line["status"] == 503 && line["reason"] == "memory").count();
    assert!(refused >= 10, "{refused} of 20 × 10 MB refused at 64 MiB");
    fleet.assert_nobody_blamed("answers for which there was no room").await;
}

/// Once its answer has begun a request is not sent again: its body is not kept for the hours of a stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e06_bodies_are_given_up_with_the_first_token() {
    let script = |asked: &Asked| {
        let mut acts = vec![Act::Sse];
        acts.extend(beginning(asked));
        acts.extend(word(asked, "hello"));
        acts.push(Act::Hang);
        acts
    };
    let fleet = small(script).await;
    let text = "lorem ipsum ".repeat(700_000);
    let body =
        format!(r#"{{"model":"sim","stream":true,"messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let mut streams = Vec::new();
    for _ in 0..30 {
        let mut raw = Raw::connect(fleet.gateway.address).await;
        raw.send(post("/v1/chat/completions", &body)).await;
        assert_eq!(raw.head().await.unwrap().0, 200);
        streams.push(raw);
    }

    fleet.gateway.counter_becomes("bytes_in_flight", 0).await;
    assert_bounded(&fleet.gateway, "30 streams with prompts of 8 MB").await;
    drop(streams);
    fleet.gateway.invariants().await;
}

/// Large events of streams that nobody reads count as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e06_large_events_count_until_they_are_written() {
    let script = |asked: &Asked| {
        let mut acts = vec![Act::Sse];
        acts.extend(beginning(asked));
        acts.extend(word(asked, &"word ".repeat(2 << 20)));
        acts.push(Act::Hang);
        acts
    };
    let fleet = small(script).await;
    let body = r#"{"model":"sim","stream":true,"messages":[{"role":"user","content":"unread"}],"max_tokens":9000000}"#;
    let clients = unread(&fleet.gateway, vec![post("/v1/chat/completions", body); 20]).await;

    assert_bounded(&fleet.gateway, "20 events of 10 MB").await;
    drop(clients);
    fleet.gateway.invariants().await;
}

/// 4,000 accounts and 1,000 models, of which 50 come: memory is of those 50, also while a reload has both configs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_o12_memory_follows_the_accounts_and_models_that_are_used() {
    let engine = kit::engine().await;
    let mut config = config([engine.url()]);
    let with = |config: &mut Value, accounts: usize, models: usize| {
        let names = (0..models)
            .map(|nth| json!({ "name": format!("m{nth}"), "deployments": ["sim"], "size_class": "small" }));
        config["models"].as_array_mut().unwrap().extend(names);
        let made = (0..accounts).map(|nth| {
            account(
                &format!("a{nth}"),
                &format!("tg-a{nth}"),
                json!({ "limits": [budget(1 << 30, 1 << 30, 1 << 30)] }),
            )
        });
        config["accounts"].as_array_mut().unwrap().extend(made);
    };
    with(&mut config, 4_000, 0);
    let few = Gateway::start(PROGRAM, &config).await;
    let with_few = memory(few.pid()).unwrap();
    drop(few);
    with(&mut config, 0, 1_000);
    let gateway = Gateway::start(PROGRAM, &config).await;
    for nth in 0..50 {
        let asked = kit::ask(json!({ "model": format!("m{nth}") }));
        assert_eq!(gateway.chat_as(&format!("tg-a{nth}"), &asked).await.status, 200);
    }
    merge(&mut config["models"][0], json!({ "default_output": 99 }));
    gateway.write_config(&config);
    gateway.signal("HUP");
    eventually("the reload", || async {
        let reload = gateway.admin("/api/v1/reload").await.json();
        (reload["last"]["ok"] == true || reload.to_string().contains("signal")).then_some(())
    })
    .await;
    assert_eq!(gateway.chat_as("tg-a0", &kit::ask(json!({ "model": "m0" }))).await.status, 200);

    let with_many = memory(gateway.pid()).unwrap();
    // A slot for each account and model would be 64 MB, twice during the reload.
    let more = with_many.saturating_sub(with_few);
    assert!(more < 40 << 20, "{} MiB more for 1,000 models that 50 accounts of 4,000 use", more >> 20);
}
