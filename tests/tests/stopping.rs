//! The gateway stops: nobody who was let in is cut off, and it does not linger.

use crate::PROGRAM;
use kit::base_config::merge;
use kit::client::{Connection, get, post, send};
use kit::raw::{Raw, chat_request};
use kit::{Gateway, KEY, ask, config, engine, eventually};
use serde_json::json;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// T7, small: `SIGTERM` under live streams.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t7_running_streams_end_well_and_the_process_soon_after_the_last() {
    let engine = engine().await;
    let mut gateway = Gateway::start(PROGRAM, &config([engine.url()])).await;
    let mut streams = JoinSet::new();
    for nth in 0..50 {
        let address = gateway.address;
        let gap = 30 + nth;
        let body =
            ask(json!({ "stream": true, "user": format!("sim:gap={gap}ms"), "max_tokens": 30, "seed": nth }));
        streams.spawn(async move { (nth, send(address, post(&body, Some(KEY))).await) });
    }
    gateway.counter_becomes("gate_live:sim", 50).await;

    gateway.signal("TERM");
    eventually("readiness turned red", || async {
        (gateway.admin("/readyz").await.status == 503).then_some(())
    })
    .await;
    assert_eq!(gateway.admin("/livez").await.status, 200, "it is alive while it drains");

    let mut ended = Duration::ZERO;
    while let Some(joined) = streams.join_next().await {
        let (seed, answer) = joined.unwrap();
        let streamed = answer.streamed();
        assert!(streamed.done && !streamed.broken, "dropped: {}", answer.text());
        assert_eq!(streamed.text, engine::text::expected_text(seed, 30));
        ended = engine::clock::now();
    }
    let status = eventually("the process ended", || {
        let exit = gateway.exit();
        async move { exit }
    })
    .await;
    assert!(status.success(), "{status}");
    let lingered = engine::clock::now() - ended;
    assert!(lingered < Duration::from_secs(5), "it lingered for {lingered:?}");
    assert_eq!(gateway.log(50).await.len(), 50, "the last lines of the log were lost");
}

/// An idle gateway stops at once, whatever its grace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pin_p9_an_idle_gateway_stops_at_once() {
    let engine = engine().await;
    let mut gateway = Gateway::start(PROGRAM, &config([engine.url()])).await;
    assert_eq!(gateway.chat(&ask(json!({}))).await.status, 200);
    let mut kept = Connection::open(gateway.address).await;
    assert_eq!(kept.send(get("/v1/models", Some(KEY))).await.status, 200);

    let began = engine::clock::now();
    gateway.signal("TERM");
    let status = eventually("the process ended", || {
        let exit = gateway.exit();
        async move { exit }
    })
    .await;

    assert!(status.success(), "{status}");
    let took = engine::clock::now() - began;
    assert!(took < Duration::from_secs(8), "{took:?}, with a grace of 60 s and nothing to do");
}

/// Report L6: whoever waits when the gateway stops is told so, and what runs may end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_l6_who_waits_is_told_that_the_gateway_stops() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    merge(&mut config["deployments"][0], json!({ "limit": 1, "slo": { "ttft_ms": 600_000 } }));
    let gateway = Gateway::start(PROGRAM, &config).await;
    let held = gateway.hold().await;
    let address = gateway.address;
    let body = ask(json!({}));
    let waiting = tokio::spawn(async move { send(address, post(&body, Some(KEY))).await });
    gateway.counter_becomes("gate_waiting:sim", 1).await;

    gateway.signal("TERM");
    let told = waiting.await.unwrap();

    let draining = (503, "service_overloaded", "load_shed", "draining");
    crate::refusals::assert_told("draining", &told, draining);
    drop(held);
}

/// In the lame-duck time `/readyz` is red, and who still comes is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lame_duck_still_serves() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    merge(&mut config["listen"], json!({ "shutdown": { "lame_duck_ms": 1_500 } }));
    let mut gateway = Gateway::start(PROGRAM, &config).await;

    gateway.signal("TERM");
    eventually("readiness turned red", || async {
        (gateway.admin("/readyz").await.status == 503).then_some(())
    })
    .await;
    let late = gateway.chat(&ask(json!({}))).await;
    let exit = eventually("the process ended", || {
        let exit = gateway.exit();
        async move { exit }
    })
    .await;

    assert_eq!(late.status, 200, "{}", late.text());
    assert!(exit.success());
    assert!(TcpStream::connect(gateway.address).await.is_err(), "somebody still listens");
}

/// A stream that is longer than the grace ends with an error event before the process does, and looks broken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_outlasts_the_grace_is_told() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    merge(&mut config["listen"], json!({ "shutdown": { "grace_ms": 4_000 } }));
    let gateway = Gateway::start(PROGRAM, &config).await;
    let address = gateway.address;
    let body = ask(json!({ "stream": true, "user": "sim:gap=50ms", "max_tokens": 1_000 }));
    let stream = tokio::spawn(async move { send(address, post(&body, Some(KEY))).await });
    gateway.counter_becomes("gate_live:sim", 1).await;

    gateway.signal("TERM");
    let streamed = stream.await.unwrap().streamed();

    assert!(!streamed.done && streamed.broken, "it looks complete");
    let error = streamed.error.expect("no error event");
    assert!(error.to_string().contains("goes down"), "{error}");
}

/// A client whose head is on its way when the gateway goes down is served, and one that stays silent is told and does not
/// hold the end up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_on_its_way_is_waited_for() {
    let engine = engine().await;
    let mut gateway = Gateway::start(PROGRAM, &config([engine.url()])).await;
    let request = chat_request(KEY, "", &ask(json!({})).to_string());
    let (first, rest) = request.split_at(60);
    let mut in_time = Raw::connect(gateway.address).await;
    in_time.send(first).await;
    let mut late = Raw::connect(gateway.address).await;
    late.send(first).await;
    let mut silent = Raw::connect(gateway.address).await;
    eventually("all three were taken", || async {
        let page = gateway.admin("/api/v1/version").await.json();
        (page["connections"] == 3).then_some(())
    })
    .await;

    gateway.signal("TERM");
    eventually("the listener closed", || async {
        TcpStream::connect(gateway.address).await.is_err().then_some(())
    })
    .await;
    in_time.send(rest).await;

    let served = in_time.answer().await.unwrap();
    assert_eq!(served.status, 200, "{}", served.head);
    assert!(served.head.contains("connection: close"), "{}", served.head);
    for told in [&mut late, &mut silent] {
        let told = told.answer().await.unwrap();
        assert_eq!(told.status, 503, "{}", told.head);
        assert!(told.head.contains("x-tidegate-reason: draining"), "{}", told.head);
        assert!(told.head.contains("retry-after"), "{}", told.head);
    }
    let status = eventually("the process ended", || {
        let exit = gateway.exit();
        async move { exit }
    })
    .await;
    assert!(status.success(), "{status}");
}
