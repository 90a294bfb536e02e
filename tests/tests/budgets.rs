//! Budgets under pressure: no race lets more through than there is, and nothing is taken or given by halves.

use crate::PROGRAM;
use engine::profile::LLAMA_8B_A100;
use engine::server::{EngineServer, EngineServerConfig};
use kit::base_config::{account, budget, merge};
use kit::client::{Connection, post};
use kit::{Gateway, ask, config, engine, engine_of, eventually};
use serde_json::json;
use std::time::Duration;
use tokio::task::JoinSet;

const KEY: &str = "tg-metered";

/// A gateway with an account of these limits.
async fn metered(prompt: u64, uncached: u64, generated: u64) -> (Gateway, EngineServer) {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    let limits = json!({ "limits": [budget(prompt, uncached, generated)] });
    config["accounts"].as_array_mut().unwrap().push(account("metered", KEY, limits));
    (Gateway::start(PROGRAM, &config).await, engine)
}

/// Report A1: 200 requests at once on a budget for 100.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_a1_a_burst_does_not_race_past_the_budget() {
    let (gateway, engine) = metered(1_000_000, 1_000_000, 1_600).await;
    let mut burst = JoinSet::new();
    for nth in 0..200 {
        let address = gateway.address;
        let body = ask(json!({ "max_tokens": 16, "stream": nth % 2 == 0, "user": "sim:delay=20ms" }));
        burst.spawn(async move { kit::client::send(address, post(&body, Some(KEY))).await });
    }

    let mut served = 0;
    while let Some(answer) = burst.join_next().await {
        let answer = answer.unwrap();
        match answer.verdict() {
            (200, _) => served += 1,
            refused => assert_eq!(refused, (429, "generated_tokens_limited"), "{}", answer.text()),
        }
    }

    // 16 tokens each, of which nothing is unknown beforehand.
    assert_eq!(served, 100);
    assert_eq!(engine.totals().generated_tokens, 1_600);
    gateway.invariants().await;
}

/// Report A9: all three meters or none. The last one refuses, and the first two are untouched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_a9_a_refusal_by_one_meter_takes_nothing_from_the_others() {
    let (gateway, _engine) = metered(1_000_000, 1_000_000, 40).await;
    let body = ask(json!({ "max_tokens": 30 }));

    let served = gateway.chat_as(KEY, &body).await;
    gateway.invariants().await;
    let mut refusals = Vec::new();
    for _ in 0..10 {
        refusals.push(gateway.chat_as(KEY, &body).await);
    }

    assert_eq!(served.status, 200);
    let limits: Vec<&str> =
        refusals.iter().map(|answer| answer.header("ratelimit").split(";t=").next().unwrap()).collect();
    assert!(refusals.iter().all(|answer| answer.verdict() == (429, "generated_tokens_limited")));
    assert!(limits.iter().all(|left| left == &limits[0]), "{limits:?}");
    gateway.invariants().await;
}

/// Report A2: an answer longer than what was left is owed, and nobody is admitted before it is paid.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_a2_an_overrun_is_owed() {
    let (gateway, _engine) = metered(1_000_000, 1_000_000, 1_000).await;

    let long = gateway.chat_as(KEY, &ask(json!({ "max_tokens": 5_000, "stream": true }))).await;
    gateway.invariants().await;
    let next = gateway.chat_as(KEY, &ask(json!({ "max_tokens": 1 }))).await;

    assert!(long.streamed().done, "a running stream is never cut for its budget");
    assert_eq!(next.verdict(), (429, "generated_tokens_limited"));
    // Four minutes of debt: longer than any client waits.
    assert_eq!(next.header("x-should-retry"), "false");
    assert!(next.header("ratelimit").contains("\"generated\";r=0;"), "{}", next.header("ratelimit"));
}

/// Report A3: the first request of an idle account is never refused for a reserve that we chose.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_a3_a_small_budget_admits_its_first_request() {
    let (gateway, _engine) = metered(1_000, 1_000, 20).await;
    let mut body = ask(json!({ "user": "sim:output=10" }));
    body.as_object_mut().unwrap().remove("max_tokens");

    let first = gateway.chat_as(KEY, &body).await;

    assert_eq!(first.status, 200, "{}", first.text());
}

/// Report A5: an engine that says nothing of its cache has not said that nothing was cached.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_a5_cached_tokens_that_are_not_told_are_expected_by_what_went_there_before() {
    let engine = EngineServer::start(EngineServerConfig {
        profile: LLAMA_8B_A100,
        any_model: true,
        prompt_tokens_details: false,
        ..EngineServerConfig::default()
    })
    .await
    .unwrap();
    let gateway = Gateway::start(PROGRAM, &config([engine.url()])).await;
    let text = (0..2_000).map(|word| format!("tide{word} ")).collect::<String>();
    let body = ask(json!({ "messages": [{ "role": "user", "content": text }] }));

    for _ in 0..2 {
        assert_eq!(gateway.chat(&body).await.status, 200);
    }

    let lines = gateway.log(2).await;
    let tokens = |nth: usize, name: &str| lines[nth][name].as_u64();
    assert!(lines.iter().all(|line| line["cached_tokens"].is_null()), "{lines:?}");
    assert_eq!(tokens(0, "uncached_tokens"), tokens(0, "prompt_tokens"), "nothing went there before");
    let (prompt, uncached) = (tokens(1, "prompt_tokens").unwrap(), tokens(1, "uncached_tokens").unwrap());
    assert!(uncached < prompt / 10, "{uncached} of {prompt} are charged as uncached the second time");
}

/// Report A10: what is sent again elsewhere is charged once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_a10_a_retry_inside_the_gateway_is_charged_once() {
    let engine = engine().await;
    let broken = EngineServer::start(EngineServerConfig {
        profile: LLAMA_8B_A100,
        any_model: true,
        fault: "reset=0".parse().unwrap(),
        ..EngineServerConfig::default()
    })
    .await
    .unwrap();
    let mut config = config([broken.url(), engine.url()]);
    let limits = json!({ "limits": [budget(1_000_000, 1_000_000, 100_000)] });
    config["accounts"].as_array_mut().unwrap().push(account("metered", KEY, limits));
    let gateway = Gateway::start(PROGRAM, &config).await;

    for turn in 0..20 {
        let answer = gateway.chat_as(KEY, &ask(json!({ "stream": turn % 2 == 0 }))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    gateway.invariants().await;
    let lines = gateway.log(20).await;
    let sum = |name: &str| lines.iter().map(|line| line[name].as_u64().unwrap()).sum::<u64>();
    assert!(sum("retries") > 0, "nothing was sent again");
    let page = gateway.admin("/api/v1/accounts/metered/limits").await.json();
    let meters = &page["models"][0]["meters"];
    let used = |meter: usize| meters[meter]["used"].as_u64().unwrap();
    assert_eq!((used(0), used(2)), (sum("prompt_tokens"), 20 * 8), "{page}");
}

/// Report A12: every route is metered, streamed or not, and what is metered is enforced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_a12_every_route_is_metered_and_enforced() {
    let chat =
        json!({ "model": "sim", "max_tokens": 8, "messages": [{ "role": "user", "content": "Tide?" }] });
    let routes = [
        ("/v1/chat/completions", chat.clone()),
        ("/v1/completions", json!({ "model": "sim", "max_tokens": 8, "prompt": "Tide?" })),
        ("/v1/responses", json!({ "model": "sim", "max_output_tokens": 8, "input": "Tide?" })),
        ("/v1/messages", chat),
    ];
    let engine = engine().await;
    let mut config = config([engine.url()]);
    for (nth, _) in routes.iter().enumerate() {
        for streamed in [false, true] {
            let limits = json!({ "limits": [budget(1_000_000, 1_000_000, 8)] });
            let key = format!("tg-{nth}-{streamed}");
            let account = account(&format!("{nth}-{streamed}"), &key, limits);
            config["accounts"].as_array_mut().unwrap().push(account);
        }
    }
    let gateway = Gateway::start(PROGRAM, &config).await;

    for (nth, (path, body)) in routes.into_iter().enumerate() {
        for streamed in [false, true] {
            let mut body = body.clone();
            body["ignore_eos"] = json!(true);
            body["stream"] = json!(streamed);
            let send = || async {
                let mut request = post(&body, Some(&format!("tg-{nth}-{streamed}")));
                *request.uri_mut() = path.parse().unwrap();
                kit::client::send(gateway.address, request).await
            };
            let first = send().await;
            gateway.invariants().await;
            let second = send().await;

            assert_eq!((first.status, second.status), (200, 429), "{path}: {}", first.text());
            assert_eq!(second.header("x-tidegate-reason"), "generated_tokens_limited", "{path}");
        }
    }
    let lines = gateway.log(16).await;
    let served: Vec<_> = lines.iter().filter(|line| line["status"] == 200).collect();
    assert_eq!(served.len(), 8, "{lines:?}");
    for line in served {
        assert!(line["generated_tokens"] == 8 && line["prompt_tokens"].as_u64() > Some(0), "{line}");
    }
}

/// Report A15: a model whose budget is gone does not refuse its siblings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_a15_a_spent_budget_is_that_models_alone() {
    let (gateway, _engine) = metered(1_000_000, 1_000_000, 30).await;
    let on = |model: &str| ask(json!({ "model": model, "max_tokens": 30 }));

    let spent = gateway.chat_as(KEY, &on("sim")).await;
    gateway.invariants().await;
    let over = gateway.chat_as(KEY, &on("sim")).await;
    let sibling = gateway.chat_as(KEY, &on("other-model")).await;

    assert_eq!((spent.status, over.status, sibling.status), (200, 429, 200));
}

/// T2 and threat S13, small: what is booked is what the engine computed, whether clients stay, leave or hide usage.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t2_threat_s13_what_was_computed_is_booked() {
    let engine = engine_of(LLAMA_8B_A100).await;
    let gateway = Gateway::start(PROGRAM, &config([engine.url()])).await;
    let mut running = JoinSet::new();
    for nth in 0..60_u32 {
        let address = gateway.address;
        let body = match nth % 4 {
            0 => ask(json!({ "max_tokens": 40, "n": 2 })),
            1 => {
                ask(json!({ "max_tokens": 80, "stream": true, "stream_options": { "include_usage": false } }))
            }
            2 => ask(json!({ "max_tokens": 80, "stream": true, "user": "sim:no-usage" })),
            _ => ask(json!({ "max_tokens": 400, "stream": true })),
        };
        running.spawn(async move {
            let mut connection = Connection::open(address).await;
            let mut begun = connection.begin(post(&body, Some(kit::KEY))).await.unwrap();
            let pieces = if nth % 4 == 3 { 100 } else { usize::MAX };
            for _ in 0..pieces {
                if begun.piece().await.is_none() {
                    break;
                }
            }
        });
    }
    while running.join_next().await.is_some() {}
    gateway.invariants().await;

    let lines = gateway.log(60).await;
    let booked = |name: &str| lines.iter().filter_map(|line| line[name].as_u64()).sum::<u64>() as f64;
    let computed = kit::eventually("the engine saw all of them end", || async {
        let totals = engine.totals();
        (totals.finished + totals.disconnects == 60).then_some(totals)
    })
    .await;
    let generated = booked("generated_tokens") / computed.generated_tokens as f64;
    // Those who leave are seen to leave some tokens late; at full size the bound is 1 %.
    assert!((0.95..=1.01).contains(&generated), "{generated} of the generated tokens were booked");
    // The prompts of those who left before usage came are estimates, the others are the engine's own counts.
    let counted: Vec<_> = lines.iter().filter(|line| line["usage_missing"] == false).collect();
    assert_eq!(counted.len(), 30);
    let prompt = computed.prompt_tokens / 60;
    assert!(counted.iter().all(|line| line["prompt_tokens"] == prompt), "{counted:?}");
}

/// Case O13: what a limit refused was never offered to the fleet, so no client makes a shortage look smaller by repeating it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_o13_requests_over_a_limit_hide_no_shortage() {
    const POOR: &str = "tg-poor";
    const OFFERED: usize = 6;
    let engine = engine().await;
    let mut config = config([engine.url()]);
    merge(&mut config["deployments"][0], json!({ "limit": 1, "queue": { "requests": 1 } }));
    let poor = account("poor", POOR, json!({ "requests_per_minute": OFFERED + 1 }));
    config["accounts"].as_array_mut().unwrap().extend([poor, account("watched", KEY, json!({}))]);
    let gateway = Gateway::start(PROGRAM, &config).await;
    let is_frozen = || async {
        let limits = gateway.admin("/api/v1/accounts/watched/limits").await.json();
        limits["models"]
            .as_array()
            .unwrap()
            .iter()
            .any(|model| model["model"] == "sim" && model["frozen"] == true)
    };
    assert!(!is_frozen().await);
    let _running = gateway.hold().await;
    let address = gateway.address;
    let waiting =
        tokio::spawn(async move { kit::client::send(address, post(&ask(json!({})), Some(POOR))).await });
    gateway.counter_becomes("gate_waiting:sim", 1).await;

    for _ in 0..OFFERED {
        assert_eq!(gateway.chat_as(POOR, &ask(json!({}))).await.status, 503);
    }
    eventually("limits do not grow", || async { is_frozen().await.then_some(()) }).await;
    for _ in 0..OFFERED * 120 {
        assert_eq!(gateway.chat_as(POOR, &ask(json!({}))).await.verdict(), (429, "requests_limited"));
    }

    // Budgets are looked at once a second.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert!(is_frozen().await, "six of six that were offered were shed");
    waiting.abort();
}
