//! Connections and framing: what the framework would let pass, or hold for ever, and we do not.
//!
//! Each of these was seen once on the framework that we stand on; they are run again on each upgrade of it.

use crate::PROGRAM;
use kit::raw::{Raw, chat_request};
use kit::{Gateway, KEY, ask, config, engine, gateway_and_engine};
use serde_json::{Value, json};
use std::time::Duration;

/// A generous bound for what takes milliseconds.
const SOON: Duration = Duration::from_secs(5);

/// A gateway whose connections have short deadlines.
async fn gateway_with(limits: Value) -> (Gateway, engine::server::EngineServer) {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    config["listen"]["limits"] = limits;
    (Gateway::start(PROGRAM, &config).await, engine)
}

fn request() -> String {
    chat_request(KEY, "", &ask(json!({})).to_string())
}

/// Pin P2: who waits for `100 Continue` is told to go on before anything else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pin_p2_expect_continue_is_answered_before_the_body() {
    let (gateway, _engine) = gateway_and_engine(PROGRAM).await;
    let body = ask(json!({})).to_string();
    let whole = chat_request(KEY, "Expect: 100-continue\r\n", &body);
    let head = &whole[..whole.len() - body.len()];
    let mut raw = Raw::connect(gateway.address).await;

    raw.send(head).await;
    let (informed, _) = tokio::time::timeout(SOON, raw.head()).await.expect("no 100").unwrap();
    raw.send(&body).await;
    let answer = raw.answer().await.unwrap();

    assert_eq!((informed, answer.status), (100, 200));
}

/// Whoever will be refused is not asked for the body first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_body_is_asked_for_when_the_head_is_refused() {
    let (gateway, _engine) = gateway_and_engine(PROGRAM).await;
    let body = "x".repeat(100_000);
    let whole = chat_request("tg-nobody", "Expect: 100-continue\r\n", &body);
    let mut raw = Raw::connect(gateway.address).await;

    raw.send(&whole[..whole.len() - body.len()]).await;
    let (status, _) = tokio::time::timeout(SOON, raw.head()).await.expect("no answer").unwrap();

    assert_eq!(status, 401);
}

/// Pin P3: an idle connection is closed at its time, not kept for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pin_p3_an_idle_connection_is_closed() {
    let (gateway, _engine) = gateway_with(json!({ "keepalive_ms": 700 })).await;
    let mut raw = Raw::connect(gateway.address).await;

    for _ in 0..2 {
        raw.send(request()).await;
        assert_eq!(raw.answer().await.unwrap().status, 200);
        // Idle between two requests, less than the connection may be.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(raw.ends_within(SOON).await, "still open");
}

/// Pin P4: a head that drips on a reused connection has the deadline of any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pin_p4_a_partial_head_is_cut_at_the_deadline_also_on_a_reused_connection() {
    let (gateway, _engine) = gateway_with(json!({ "header_ms": 600, "keepalive_ms": 600_000 })).await;
    let mut raw = Raw::connect(gateway.address).await;

    raw.send(request()).await;
    assert_eq!(raw.answer().await.unwrap().status, 200);
    let drip = async {
        for byte in request().bytes().take(100) {
            raw.send([byte]).await;
            // The drip is the attack.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_millis(1_500), drip).await.unwrap_err();

    let answer = raw.answer().await;
    assert!(answer.as_ref().is_none_or(|answer| answer.status == 408), "{answer:?}");
    assert!(raw.ends_within(SOON).await, "still open");
    gateway.invariants().await;
}

/// Pin P5: HTTP/2 without TLS is not spoken; its preface is no request, and cannot hold a connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pin_p5_the_preface_of_http2_is_refused() {
    let (gateway, _engine) = gateway_with(json!({ "header_ms": 600 })).await;
    let mut whole = Raw::connect(gateway.address).await;
    let mut part = Raw::connect(gateway.address).await;

    whole.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    part.send("PRI * ").await;

    let answer = whole.head().await;
    assert!(answer.as_ref().is_none_or(|(status, _)| (400..=505).contains(status)), "{answer:?}");
    assert!(whole.ends_within(SOON).await && part.ends_within(SOON).await, "still open");
}

/// Pin P6 and threat S1: where two readings of the framing are possible, neither is taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pin_p6_ambiguous_framing_is_refused_and_ends_the_connection() {
    let (gateway, engine) = gateway_and_engine(PROGRAM).await;
    let body = ask(json!({})).to_string();
    let n = body.len();
    let chunks = format!("{n:x}\r\n{body}\r\n0\r\n\r\n");
    let auth = format!("Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\n");
    let head =
        |version: &str, lines: &str| format!("POST /v1/chat/completions {version}\r\n{auth}{lines}\r\n");
    let (v0, v1) = ("HTTP/1.0", "HTTP/1.1");
    let te = "Transfer-Encoding: chunked\r\n";
    let cl = format!("Content-Length: {n}\r\n");
    let cases = [
        ("no Host", head(v1, &cl) + &body),
        ("length and chunks", head(v1, &format!("Host: g\r\n{cl}{te}")) + &chunks),
        ("chunks and length", head(v1, &format!("Host: g\r\n{te}{cl}")) + &chunks),
        ("HTTP/1.0 with chunks", head(v0, &format!("Host: g\r\n{te}")) + &chunks),
        ("HTTP/1.0 without a length", head(v0, "Host: g\r\n") + &body),
        ("two lengths", head(v1, &format!("Host: g\r\n{cl}Content-Length: 1\r\n")) + &body),
        ("a signed length", head(v1, &format!("Host: g\r\nContent-Length: +{n}\r\n")) + &body),
        ("another coding", head(v1, "Host: g\r\nTransfer-Encoding: xchunked\r\n") + &chunks),
        ("two hosts", head(v1, &format!("Host: g\r\nHost: h\r\n{cl}")) + &body),
        ("a folded line", head(v1, &format!("Host: g\r\nX-A: b\r\n c\r\n{cl}")) + &body),
        ("a blank before the colon", head(v1, &format!("Host: g\r\nContent-Length : {n}\r\n")) + &body),
        ("a chunk size that overflows", head(v1, &format!("Host: g\r\n{te}")) + "fffffffffffffffff\r\n"),
        ("no chunk size", head(v1, &format!("Host: g\r\n{te}")) + "zz\r\n" + &body),
    ];
    for (what, bytes) in cases {
        let mut raw = Raw::connect(gateway.address).await;
        // What follows must not be taken for a request of its own.
        raw.send(bytes + "GET /v1/models HTTP/1.1\r\nHost: g\r\n\r\n").await;

        let answer = raw.head().await;
        assert!(answer.as_ref().is_some_and(|(status, _)| *status == 400), "{what}: {answer:?}");
        assert!(raw.ends_within(SOON).await, "{what}: still open");
    }
    assert_eq!(engine.totals().requests, 0, "a request that nobody legally sent reached the engine");
    gateway.invariants().await;
}

/// Old clients send a line end after their body; it costs them the connection, not the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stray_line_end_after_the_body_does_not_cost_the_answer() {
    let (gateway, _engine) = gateway_and_engine(PROGRAM).await;
    for late in [false, true] {
        let mut raw = Raw::connect(gateway.address).await;
        let body = ask(json!({ "user": "sim:delay=300ms" })).to_string();
        raw.send(chat_request(KEY, "", &body)).await;
        if late {
            // Late is while the engine works on the first request.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        raw.send("\r\n").await;

        let answer = raw.answer().await.expect("no answer");
        assert_eq!(answer.status, 200, "late: {late}");
    }
    gateway.invariants().await;
}

/// A connection ends after its bounded number of requests, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_serves_a_bounded_number_of_requests() {
    let (gateway, _engine) = gateway_with(json!({ "keepalive_requests": 3 })).await;
    let mut raw = Raw::connect(gateway.address).await;

    let mut served = 0;
    for _ in 0..5 {
        raw.send(request()).await;
        match raw.answer().await {
            Some(answer) => served += u32::from(answer.status == 200),
            None => break,
        }
    }
    assert_eq!(served, 3);
}
