//! Several deployments of one model: who goes where, what spills over, and what a parameter may do.

use crate::PROGRAM;
use crate::refusals::{Told, assert_told};
use engine::server::EngineServer;
use kit::base_config::{PLAIN_KEY, merge};
use kit::client::hold;
use kit::recorder::Recorder;
use kit::{Gateway, KEY, ask, config, engine, eventually};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::net::TcpListener;

const BROKE: Told = (502, "api_error", "upstream_error", "upstream_error");

/// A config with these deployments, and the model `sim` with these routes.
fn routed(deployments: Value, routes: Value) -> Value {
    let mut config = config([]);
    config["deployments"] = deployments;
    config["models"] = json!([{ "name": "sim", "deployments": routes, "size_class": "small" }]);
    for account in config["accounts"].as_array_mut().unwrap() {
        account.as_object_mut().unwrap().remove("models");
    }
    config
}

fn deployment(name: &str, replicas: &[String], more: Value) -> Value {
    let mut deployment = json!({ "name": name, "replicas": replicas, "limit": 256 });
    merge(&mut deployment, more);
    deployment
}

/// A deployment of one place, before `engine`.
fn narrow(name: &str, engine: &EngineServer) -> Value {
    deployment(name, &[engine.url()], json!({ "limit": 1, "ceilings": { "regular": 1.0 } }))
}

/// Priority customers have a pool of their own and spill over to the shared one when it is full; regular ones never
/// get into it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn priority_has_a_pool_of_its_own_and_spills_over() {
    let (own, shared) = (engine().await, engine().await);
    let routes = json!([{ "name": "own", "tiers": ["priority"] }, "shared"]);
    let deployments =
        json!([narrow("own", &own), deployment("shared", &[shared.url()], json!({ "limit": 8 }))]);
    let gateway = Gateway::start(PROGRAM, &routed(deployments, routes)).await;
    let priority = || ask(json!({ "service_tier": "priority" }));

    let regular = gateway.chat(&ask(json!({}))).await;
    assert_eq!((regular.status, regular.header("x-tidegate-deployment")), (200, "shared"));
    let held = hold(gateway.address, KEY, priority()).await;
    let spilled = gateway.chat(&priority()).await;
    assert_eq!((spilled.status, spilled.header("x-tidegate-deployment")), (200, "shared"));
    assert_eq!(spilled.json()["service_tier"], "priority", "in the tier that it asked for");
    drop(held);
    eventually("its own pool is free again", || async {
        let answer = gateway.chat(&priority()).await;
        (answer.header("x-tidegate-deployment") == "own").then_some(())
    })
    .await;
    gateway.invariants().await;
}

/// Full everywhere: it waits at one, and takes the first place that any of them has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_takes_the_first_place_anywhere() {
    let (a, b) = (engine().await, engine().await);
    let slo = json!({ "slo": { "ttft_ms": 30_000, "tpot_ms": 1_000 } });
    let mut deployments = json!([narrow("a", &a), narrow("b", &b)]);
    for one in deployments.as_array_mut().unwrap() {
        merge(one, slo.clone());
    }
    let gateway = Gateway::start(PROGRAM, &routed(deployments, json!(["a", "b"]))).await;
    let first = hold(gateway.address, KEY, ask(json!({}))).await;
    let second = hold(gateway.address, KEY, ask(json!({}))).await;
    gateway.counter_becomes("gate_live:a", 1).await;
    gateway.counter_becomes("gate_live:b", 1).await;
    let address = gateway.address;
    let waiting = tokio::spawn(async move {
        kit::client::send(address, kit::client::post(&ask(json!({})), Some(KEY))).await
    });
    let waits_at = eventually("it waits", || async {
        for name in ["a", "b"] {
            if gateway.counter(&format!("gate_waiting:{name}")).await == 1 {
                return Some(name);
            }
        }
        None
    })
    .await;

    // The place comes free where it does not wait.
    drop(if waits_at == "a" { second } else { first });
    let answer = waiting.await.unwrap();

    let other = if waits_at == "a" { "b" } else { "a" };
    assert_eq!((answer.status, answer.header("x-tidegate-deployment")), (200, other), "{}", answer.text());
    assert!(answer.header("x-tidegate-queue-ms").parse::<u64>().unwrap() > 0);
}

/// 503 only where every deployment refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_refused_only_where_all_refuse() {
    let (a, b) = (engine().await, engine().await);
    let mut deployments = json!([narrow("a", &a), narrow("b", &b)]);
    for one in deployments.as_array_mut().unwrap() {
        merge(one, json!({ "queue": { "requests": 0 } }));
    }
    let gateway = Gateway::start(PROGRAM, &routed(deployments, json!(["a", "b"]))).await;

    let _first = hold(gateway.address, KEY, ask(json!({}))).await;
    let second = gateway.chat(&ask(json!({}))).await;
    let _second = hold(gateway.address, KEY, ask(json!({}))).await;
    let third = gateway.chat(&ask(json!({}))).await;

    assert_eq!((second.status, second.header("x-tidegate-deployment")), (200, "b"));
    assert_eq!(third.verdict(), (503, "shed-saturated"), "{}", third.text());
}

/// Report S7: a model whose deployment is full refuses; its neighbour on another deployment does not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_s7_one_models_overload_does_not_shed_another() {
    let (a, b) = (engine().await, engine().await);
    let mut deployments = json!([narrow("a", &a), narrow("b", &b)]);
    for one in deployments.as_array_mut().unwrap() {
        merge(one, json!({ "queue": { "requests": 0 } }));
    }
    let mut config = routed(deployments, json!(["a"]));
    let neighbour = json!({ "name": "neighbour", "deployments": ["b"], "size_class": "small" });
    config["models"].as_array_mut().unwrap().push(neighbour);
    let gateway = Gateway::start(PROGRAM, &config).await;
    let _held = hold(gateway.address, KEY, ask(json!({}))).await;

    for _ in 0..20 {
        let full = gateway.chat(&ask(json!({}))).await;
        assert_eq!(full.verdict(), (503, "shed-saturated"), "{}", full.text());
        let other = gateway.chat(&ask(json!({ "model": "neighbour" }))).await;
        assert_eq!((other.status, other.header("x-tidegate-deployment")), (200, "b"), "{}", other.text());
    }
}

/// A deployment that is down costs nobody anything while another is up, and is told as what it is where none is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_that_is_down_is_passed_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let up = engine().await;
    let deployments =
        json!([deployment("down", &[dead], json!({})), deployment("up", &[up.url()], json!({}))]);
    let gateway = Gateway::start(PROGRAM, &routed(deployments, json!(["down", "up"]))).await;

    for turn in 0..20 {
        let answer = gateway.chat(&ask(json!({ "stream": turn % 2 == 0 }))).await;
        assert_eq!((answer.status, answer.header("x-tidegate-deployment")), (200, "up"), "{}", answer.text());
    }
    up.set_fault("status=500").unwrap();
    let broken = gateway.chat(&ask(json!({}))).await;
    assert_told("both", &broken, BROKE);
    up.set_fault("status=503").unwrap();
    let busy = gateway.chat(&ask(json!({}))).await;
    assert_eq!(busy.status, 503, "an engine's overload is our 503: {}", busy.text());
    gateway.invariants().await;
}

/// Neighbours with weights share in proportion; a session stays where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_share_the_load_and_sessions_stay() {
    let (a, b) = (engine().await, engine().await);
    let deployments = json!([deployment("a", &[a.url()], json!({})), deployment("b", &[b.url()], json!({}))]);
    let routes = json!([{ "name": "a", "weight": 3 }, { "name": "b", "weight": 1 }]);
    let gateway = Gateway::start(PROGRAM, &routed(deployments, routes)).await;

    let mut served: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..200 {
        let answer = gateway.chat(&ask(json!({}))).await;
        *served.entry(answer.header("x-tidegate-deployment").to_owned()).or_default() += 1;
    }
    // 150 expected, a standard deviation of 6.1: six of them.
    assert!((114..=186).contains(&served["a"]), "{served:?}");

    for session in ["one", "two", "three", "four"] {
        let mut places = std::collections::BTreeSet::new();
        for _ in 0..10 {
            let answer = gateway.chat(&ask(json!({ "prompt_cache_key": session }))).await;
            places.insert(answer.header("x-tidegate-deployment").to_owned());
        }
        assert_eq!(places.len(), 1, "session {session} went to {places:?}");
    }
}

/// Accounts of a deployment's own; for others its model does not exist.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_takes_the_accounts_that_it_names() {
    let engine = engine().await;
    let deployments = json!([deployment("acme-only", &[engine.url()], json!({}))]);
    let routes = json!([{ "name": "acme-only", "accounts": ["acme"] }]);
    let gateway = Gateway::start(PROGRAM, &routed(deployments, routes)).await;

    assert_eq!(gateway.chat(&ask(json!({}))).await.status, 200);
    let other = gateway.chat_as(PLAIN_KEY, &ask(json!({}))).await;
    assert_eq!(other.status, 404, "{}", other.text());
}

/// Threat S14: what harms one version is kept from it, and goes to a deployment that takes it where there is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_s14_parameters_are_denied_stripped_and_capped() {
    let (old, new) = (Recorder::start().await, Recorder::start().await);
    let rules = json!({
        "deny": ["presence_penalty"],
        "strip": ["logit_bias"],
        "cap": [{ "parameter": "top_logprobs", "at_most": 5 }],
    });
    let scrape = json!({ "scrape": { "path": "off" } });
    let mut deployments = json!([
        deployment(
            "old",
            &[old.url()],
            json!({ "engine": "vllm", "parameters": rules, "cache_salt": true, "engine_priority": true })
        ),
        deployment("new", &[new.url()], json!({ "engine": "sglang", "engine_priority": true })),
    ]);
    for one in deployments.as_array_mut().unwrap() {
        merge(one, scrape.clone());
    }
    let gateway = Gateway::start(PROGRAM, &routed(deployments, json!(["old", "new"]))).await;
    let sent = |recorder: &Recorder| -> Value {
        serde_json::from_slice(&recorder.take().pop().expect("nothing was sent").body).unwrap()
    };

    let body = ask(
        json!({ "logit_bias": { "5": -100 }, "top_logprobs": 20, "priority": -1000, "cache_salt": "mine" }),
    );
    assert_eq!(gateway.chat(&body).await.status, 200);
    let first = sent(&old);
    assert_eq!((&first["logit_bias"], &first["top_logprobs"]), (&Value::Null, &json!(5)));
    assert_eq!(first["priority"], 1, "regular comes after priority, whatever the client says");
    let salt = first["cache_salt"].as_str().unwrap().to_owned();
    assert_eq!(salt.len(), 64, "{salt}");

    assert_eq!(gateway.chat(&ask(json!({ "service_tier": "priority" }))).await.status, 200);
    let second = sent(&old);
    assert_eq!((&second["priority"], &second["cache_salt"]), (&json!(0), &json!(salt)));
    assert_eq!(gateway.chat_as(PLAIN_KEY, &ask(json!({}))).await.status, 200);
    assert_ne!(sent(&old)["cache_salt"], json!(salt), "another account");

    let penalised = gateway.chat(&ask(json!({ "presence_penalty": 0.5, "service_tier": "priority" }))).await;
    assert_eq!((penalised.status, penalised.header("x-tidegate-deployment")), (200, "new"));
    let third = sent(&new);
    assert_eq!(
        (&third["priority"], &third["presence_penalty"]),
        (&json!(1), &json!(0.5)),
        "higher first there"
    );
    assert_eq!(third["rid"].as_str(), Some(penalised.header("x-request-id")));

    let refused = gateway.chat(&ask(json!({ "presence_penalty": 1, "lora_path": "/etc" }))).await;
    assert_eq!(refused.verdict(), (400, "bad-request"));
    assert!(refused.message().contains("`presence_penalty`"), "{}", refused.message());
}

/// llama.cpp tells the usage of one choice of several: the others are not free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_s13_choices_that_the_engine_does_not_count_are_counted() {
    let engine = Recorder::start().await;
    let llama = json!({ "engine": "llamacpp", "scrape": { "path": "off" } });
    let deployments = json!([deployment("llama", &[engine.url()], llama)]);
    let gateway = Gateway::start(PROGRAM, &routed(deployments, json!(["llama"]))).await;

    // The recorder always tells one prompt token and one generated one.
    for (lines, n) in [(1, 1), (2, 3)] {
        assert_eq!(gateway.chat(&ask(json!({ "n": n }))).await.status, 200);
        gateway.log(lines).await;
    }

    let lines = gateway.log(2).await;
    assert_eq!((&lines[0]["generated_tokens"], &lines[1]["generated_tokens"]), (&json!(1), &json!(3)));
    assert_eq!(lines[1]["prompt_tokens"], json!(1), "the prompt is computed once");
    gateway.invariants().await;
}
