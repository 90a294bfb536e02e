//! Engines that fail in every way: mended elsewhere where nothing was said yet, visible where something was.

use crate::PROGRAM;
use crate::refusals::{Told, assert_told};
use engine::server::EngineServer;
use kit::base_config::merge;
use kit::client::{Answer, send};
use kit::recorder::Recorder;
use kit::{Gateway, KEY, ask, config, engine, eventually, gateway_and_engine};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const BROKE: Told = (502, "api_error", "upstream_error", "upstream_error");
const SILENT: Told = (504, "api_error", "upstream_timeout", "upstream_timeout");

/// A port on which nothing listens.
async fn dead_end() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A gateway with `deployment` in its only deployment.
async fn gateway_with(replicas: impl IntoIterator<Item = String>, deployment: Value) -> Gateway {
    let mut config = config(replicas);
    merge(&mut config["deployments"][0], deployment);
    Gateway::start(PROGRAM, &config).await
}

/// Sends many requests, `at_once` of them at a time, and gives back all answers.
async fn many(address: SocketAddr, bodies: impl IntoIterator<Item = Value>, at_once: usize) -> Vec<Answer> {
    let mut running = JoinSet::new();
    let mut answers = Vec::new();
    for body in bodies {
        if running.len() >= at_once {
            answers.push(running.join_next().await.unwrap().unwrap());
        }
        running.spawn(async move { send(address, kit::client::post(&body, Some(KEY))).await });
    }
    while let Some(answer) = running.join_next().await {
        answers.push(answer.unwrap());
    }
    answers
}

/// A replica that refuses connections costs nobody anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_down_costs_nobody_anything() {
    let engine = engine().await;
    let gateway = gateway_with([dead_end().await, engine.url()], json!({})).await;

    for turn in 0..30 {
        let answer = gateway.chat(&ask(json!({ "stream": turn % 2 == 0 }))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-tidegate-replica"), engine.url());
    }
    let retries: u64 = gateway.log(30).await.iter().map(|line| line["retries"].as_u64().unwrap()).sum();
    assert!((1..=5).contains(&retries), "{retries} retries: it is left out after a few failures");
    gateway.invariants().await;
}

/// Where the only replica is down that is said, and it is neither a limit nor load of ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_replica_at_all_is_told_as_what_it_is() {
    let gateway = gateway_with([dead_end().await], json!({})).await;

    for _ in 0..6 {
        assert_told("down", &gateway.chat(&ask(json!({}))).await, BROKE);
    }

    gateway.invariants().await;
}

/// Asserts that engines' overload became ours: refused for want of a place, at once or after the wait for one.
#[track_caller]
fn assert_busy(what: &str, answer: &Answer) {
    let waited = answer.header("x-tidegate-reason") == "queue-timeout";
    let reason = if waited { "queue-timeout" } else { "shed-saturated" };
    assert_told(what, answer, (503, "service_overloaded", "load_shed", reason));
}

/// How engines say that they are busy: by a status, or in the first event of a 200 stream.
const BUSY: [&str; 5] = [
    "status=503,retry-after=7",
    "status=429",
    "status=529",
    "stream-error=0",
    "stream-error=0,error-code=429",
];

/// Report S8: an engine's overload, however it says so, is mended elsewhere, and it is used again afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_s8_an_engines_overload_is_mended_elsewhere() {
    let (busy, idle) = (engine().await, engine().await);
    let gateway = gateway_with([busy.url(), idle.url()], json!({})).await;

    for fault in BUSY {
        busy.set_fault(fault).unwrap();
        for stream in [true, false, true, false] {
            let answer = gateway.chat(&ask(json!({ "stream": stream, "service_tier": "priority" }))).await;
            assert_eq!(answer.status, 200, "{fault}: {}", answer.text());
            assert!(answer.clean && !answer.content().is_empty(), "{fault}");
        }
    }
    assert!(busy.totals().refused + busy.totals().broken > 0, "it was never asked");

    // It is not left out for having been busy.
    busy.set_fault("").unwrap();
    let served = busy.totals().finished;
    eventually("the engine that was busy is used again", || async {
        // Sessions of their own: one alone stays where it was while there is plenty of room.
        let body =
            |session: u32| ask(json!({ "user": "sim:delay=50ms", "prompt_cache_key": session.to_string() }));
        let bodies = (0..20).map(body);
        let answers = many(gateway.address, bodies, 20).await;
        assert!(answers.iter().all(|answer| answer.status == 200));
        (busy.totals().finished > served).then_some(())
    })
    .await;
    gateway.invariants().await;
}

/// Report S8: where no engine is left that is not busy, that is our 503, and never the account's 429.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_s8_an_overload_of_all_engines_is_our_own() {
    let (gateway, engine) = gateway_and_engine(PROGRAM).await;
    for fault in BUSY {
        engine.set_fault(fault).unwrap();
        let stream = fault.starts_with("stream");

        let answer = gateway.chat(&ask(json!({ "stream": stream }))).await;

        assert_busy(fault, &answer);
        assert_eq!(answer.header("x-should-retry"), "true", "{fault}");
    }
    gateway.invariants().await;
}

/// Nothing was said yet: what breaks is a status, 502 or 504, and never half an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_before_the_first_token_is_a_status() {
    let engine = engine().await;
    let timeouts = json!({ "first_token_ms": 400, "answer_ms": 400, "between_tokens_ms": 400 });
    let gateway = gateway_with([engine.url()], json!({ "timeouts": timeouts })).await;
    let cases = [
        (false, "status=500", BROKE),
        (true, "status=500", BROKE),
        (false, "cut=20", BROKE),
        (false, "reset=20", BROKE),
        (true, "cut=0", BROKE),
        (true, "reset=0", BROKE),
        (false, "garbage", BROKE),
        (false, "wrong-length=10", BROKE),
        (false, "gzip", BROKE),
        (true, "hang", SILENT),
        (false, "hang", SILENT),
    ];
    for (stream, fault, told) in cases {
        engine.set_fault(fault).unwrap();

        let answer = gateway.chat(&ask(json!({ "stream": stream }))).await;

        assert_told(&format!("{fault}, stream {stream}"), &answer, told);
        assert!(answer.clean);
    }
    gateway.invariants().await;
    let charged: Vec<Value> =
        gateway.log(cases.len()).await.into_iter().map(|l| l["generated_tokens"].clone()).collect();
    assert!(charged.iter().all(Value::is_null), "nobody got anything: {charged:?}");
}

/// Threat F8, report S6: a metrics page that is of no use is counted, and neither halts its engine nor opens it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_f8_an_engine_without_useful_metrics_serves() {
    let engine = Recorder::start().await;
    let deployment = json!({ "engine": "vllm", "scrape": { "interval_ms": 100 } });
    let gateway = gateway_with([engine.url()], deployment).await;

    eventually("failed readings are counted", || async {
        let page = gateway.admin("/metrics").await.text();
        let counted =
            |line: &str| line.starts_with("tidegate_scrape_failures_total{") && !line.ends_with(" 0");
        page.lines().any(counted).then_some(())
    })
    .await;

    assert_eq!(gateway.chat(&ask(json!({}))).await.status, 200);
    gateway.invariants().await;
}

/// Asserts that no client could take this for a whole answer.
#[track_caller]
fn assert_visibly_broken(what: &str, answer: &Answer) {
    assert_eq!(answer.status, 200, "{what}: {}", answer.text());
    let streamed = answer.streamed();
    assert!(!streamed.done, "{what}: [DONE] after a break: {}", answer.text());
    assert!(streamed.broken, "{what}: the framing looks complete: {}", answer.text());
    assert!(streamed.error.is_some(), "{what}: no error event: {}", answer.text());
    assert!(!streamed.text.is_empty(), "{what}: nothing came before");
}

/// T6, report L1 and pin P11: 500 streams that break in mixed ways after some content.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t6_report_l1_pin_p11_every_broken_stream_is_visibly_broken() {
    let engine = engine().await;
    let timeouts = json!({ "between_tokens_ms": 300 });
    let gateway = gateway_with([engine.url()], json!({ "timeouts": timeouts })).await;
    let ways = ["cut", "reset", "stream-error", "hang", "ends"];
    let bodies = (0..500_usize).map(|nth| {
        let (way, after) = (ways[nth % ways.len()], 1 + nth / ways.len() % 20);
        let fault = format!("sim:{way}={after}");
        ask(json!({ "stream": true, "user": fault, "max_tokens": 30, "seed": nth }))
    });

    let answers = many(gateway.address, bodies, 25).await;

    assert_eq!(answers.len(), 500);
    for answer in &answers {
        assert_visibly_broken("a stream", answer);
    }
    gateway.invariants().await;
    let totals = engine.totals();
    assert_eq!(totals.requests, 500, "nothing that had begun was sent again");
}

/// Report A4: no usage came, so what was counted is charged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_a4_without_usage_what_was_counted_is_charged() {
    let (gateway, _engine) = gateway_and_engine(PROGRAM).await;
    let fault = json!({ "stream": true, "user": "sim:no-usage", "max_tokens": 37, "stream_options": { "include_usage": true } });

    let answer = gateway.chat(&ask(fault)).await;
    let cut = gateway.chat(&ask(json!({ "stream": true, "user": "sim:cut=11", "max_tokens": 500 }))).await;

    assert!(answer.streamed().done);
    assert_visibly_broken("cut", &cut);
    gateway.invariants().await;
    let lines = gateway.log(2).await;
    assert_eq!((&lines[0]["generated_tokens"], &lines[0]["usage_missing"]), (&json!(37), &json!(true)));
    assert_eq!((&lines[1]["generated_tokens"], &lines[1]["usage_missing"]), (&json!(11), &json!(true)));
    let page = gateway.admin("/metrics").await.text();
    assert!(page.contains("tidegate_usage_missing_total{deployment=\"sim\"} 2"), "{page}");
}

/// Report A6: what an engine cannot have meant is not booked as it came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_a6_impossible_usage_does_not_pass() {
    let (gateway, _engine) = gateway_and_engine(PROGRAM).await;
    for usage in ["-5:-5", "10:8:5000", "10:8:-3", "9000000000000000000:9000000000000000000"] {
        let fault = format!("sim:wrong-usage={usage}");
        let answer = gateway.chat(&ask(json!({ "user": fault, "stream": true }))).await;
        assert!(answer.streamed().done, "{usage}: {}", answer.text());
    }
    gateway.invariants().await;
    for line in gateway.log(4).await {
        let (prompt, uncached) =
            (line["prompt_tokens"].as_u64().unwrap(), line["uncached_tokens"].as_u64().unwrap());
        assert!(uncached <= prompt, "{line}");
        assert!(line["cached_tokens"].as_u64().is_none_or(|cached| cached <= prompt), "{line}");
    }
}

/// F6: what is odd but whole passes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_streams_that_are_whole_pass_whole() {
    let (gateway, _engine) = gateway_and_engine(PROGRAM).await;
    for fault in ["garbage", "split-utf8", "after-done", "huge-line=60000", "gap=1ms"] {
        let answer = gateway.chat(&ask(json!({ "stream": true, "user": format!("sim:{fault}") }))).await;
        let streamed = answer.streamed();
        assert!(streamed.done && !streamed.broken && streamed.error.is_none(), "{fault}: {}", answer.text());
    }
    gateway.invariants().await;
}

/// T5, small: a replica is killed under load. Priority requests that had no byte yet notice nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t5_a_killed_replica_costs_priority_nothing_before_the_first_byte() {
    let mut engines = vec![engine().await, engine().await, engine().await];
    let gateway = gateway_with(engines.iter().map(EngineServer::url), json!({})).await;
    let address = gateway.address;
    let bodies = (0..90_usize).map(|nth| {
        let fault = if nth % 3 == 0 { "sim:gap=40ms" } else { "sim:delay=600ms" };
        ask(json!({ "stream": nth % 2 == 0, "user": fault, "service_tier": "priority", "max_tokens": 25 }))
    });
    let running = tokio::spawn(many(address, bodies, 90));
    eventually("the victim is busy", || async { (engines[0].totals().requests >= 20).then_some(()) }).await;

    // Into the middle of the streams.
    tokio::time::sleep(Duration::from_millis(250)).await;
    let victim = engines.remove(0);
    let reset_streams =
        victim.records().iter().filter(|record| record.stream && record.sent_chunks > 0).count();
    victim.kill();
    let answers = running.await.unwrap();

    let mut broken = 0;
    for answer in &answers {
        if answer.status != 200 {
            panic!("an error before the first byte: {}", answer.text());
        }
        if answer.header("content-type").starts_with("text/event-stream") && !answer.streamed().done {
            broken += 1;
            assert_visibly_broken("a stream of the killed engine", answer);
        }
    }
    assert!(broken <= reset_streams + 5, "{broken} streams broke, {reset_streams} had begun there");
    gateway.invariants().await;
}

/// Pin P10: an engine that closes idle connections without a word costs no request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pin_p10_connections_that_the_engine_closed_cost_no_request() {
    let url = closing_engine(Duration::from_millis(15)).await;
    let gateway = gateway_with([url], json!({})).await;

    for turn in 0..150_u64 {
        let answer = gateway.chat(&ask(json!({}))).await;
        assert_eq!(answer.status, 200, "turn {turn}: {}", answer.text());
        // Around the moment at which the engine closes.
        tokio::time::sleep(Duration::from_millis(10 + turn % 10)).await;
    }
    gateway.invariants().await;
}

/// An engine that keeps a connection for `idle` after each answer and then closes it.
async fn closing_engine(idle: Duration) -> String {
    const BODY: &str = r#"{"model":"sim","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = Vec::new();
                loop {
                    let more = tokio::time::timeout(idle, stream.read_buf(&mut read)).await;
                    if !more.is_ok_and(|more| more.is_ok_and(|n| n > 0)) {
                        return;
                    }
                    // Our requests end with their body's brace.
                    if read.ends_with(b"}") {
                        read.clear();
                        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length:";
                        let answer = format!("{head} {}\r\n\r\n{BODY}", BODY.len());
                        let _ = stream.write_all(answer.as_bytes()).await;
                    }
                }
            });
        }
    });
    format!("http://{address}")
}
