//! Clients that leave: whatever they held comes free, and engines stop working for them.
//!
//! Bounds of time here are generous on purpose; how fast it is in truth is measured elsewhere.

use crate::PROGRAM;
use engine::profile::LLAMA_8B_A100;
use engine::server::EngineServer;
use kit::base_config::{PLAIN_KEY, account, merge};
use kit::client::{Connection, post, post_to, send};
use kit::raw::{Raw, chat_request};
use kit::shape::{POOLED, request};
use kit::{Gateway, KEY, ask, config, engine, engine_of, eventually, gateway_and_engine};
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Within this everything that leaving causes has happened. Seconds more than it takes.
const SOON_S: f64 = 5.0;

/// A gateway with one place, that lets requests wait for as long as a test takes.
async fn one_place() -> (Gateway, EngineServer) {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    let patient = json!({ "limit": 1, "slo": { "ttft_ms": 600_000 } });
    merge(&mut config["deployments"][0], patient);
    (Gateway::start(PROGRAM, &config).await, engine)
}

async fn queue(gateway: &Gateway, count: u64) -> Vec<Raw> {
    let before = gateway.counter("gate_waiting:sim").await;
    let mut waiting = Vec::new();
    for nth in 0..count {
        let mut raw = Raw::connect(gateway.address).await;
        let body = ask(json!({ "stream": nth % 2 == 0 }));
        raw.send(chat_request(KEY, "", &body.to_string())).await;
        waiting.push(raw);
    }
    gateway.counter_becomes("gate_waiting:sim", before + count).await;
    waiting
}

/// T4, report L2 and pin P7: who leaves the queue, with FIN or RST, frees the place and never reaches the engine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t4_report_l2_pin_p7_who_leaves_the_queue_frees_its_place() {
    let (gateway, engine) = one_place().await;
    let held = gateway.hold().await;

    for reset in [false, true] {
        let waiting = queue(&gateway, 12).await;
        let left = engine::clock::now();
        for raw in waiting {
            if reset {
                raw.reset();
            } else {
                drop(raw);
            }
        }
        gateway.counter_becomes("gate_waiting:sim", 0).await;
        let took = (engine::clock::now() - left).as_secs_f64();
        assert!(took < SOON_S, "{took} s, reset: {reset}");
    }

    assert_eq!(engine.totals().requests, 1, "a request reached the engine though its client was gone");
    drop(held);
    gateway.invariants().await;
    let gone = gateway.log(25).await;
    assert_eq!(gone.iter().filter(|line| line["status"] == 499).count(), 24);
}

/// Who waits behind those who left is served next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_in_the_queue_is_worth_something_when_others_leave() {
    let (gateway, engine) = one_place().await;
    let held = gateway.hold().await;
    let leaving = queue(&gateway, 5).await;
    let mut staying = queue(&gateway, 1).await.remove(0);

    drop(leaving);
    gateway.counter_becomes("gate_waiting:sim", 1).await;
    drop(held);

    let (status, head) = staying.head().await.unwrap();
    assert_eq!(status, 200, "{head}");
    assert_eq!(engine.totals().requests, 2);
}

/// T4 and report L3: who leaves in mid-stream is seen to leave by the engine, also by one that is silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t4_report_l3_the_engine_sees_who_leaves_in_mid_stream() {
    let (gateway, engine) = gateway_and_engine(PROGRAM).await;
    let faults = ["sim:hang=3", "sim:gap=20ms", "sim:hang", "sim:delay=60s"];
    let mut left = Vec::new();

    for (nth, fault) in faults.iter().enumerate() {
        for reset in [false, true] {
            let mut raw = Raw::connect(gateway.address).await;
            let body = ask(json!({ "stream": true, "user": fault, "max_tokens": 5_000 }));
            raw.send(chat_request(KEY, "", &body.to_string())).await;
            let begun = 2 * nth + usize::from(reset) + 1;
            eventually("the engine has the request", || async {
                (engine.totals().requests == begun as u64).then_some(())
            })
            .await;
            if nth < 2 {
                assert_eq!(raw.head().await.unwrap().0, 200);
            }
            left.push(engine::clock::now().as_secs_f64());
            if reset {
                raw.reset();
            }
        }
    }

    let records = eventually("the engine saw all of them leave", || async {
        let records = engine.records();
        records.iter().all(|record| record.disconnected_s.is_some()).then_some(records)
    })
    .await;
    for (record, left) in records.iter().zip(left) {
        let took = record.disconnected_s.unwrap() - left;
        assert!(took < SOON_S, "{took} s: {record:?}");
    }
    gateway.invariants().await;
}

/// Report A4: what was seen is charged to who leaves before usage comes, and not the whole reserve.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_a4_who_leaves_early_pays_for_what_was_generated() {
    let (gateway, engine) = gateway_and_engine(PROGRAM).await;
    let mut connection = Connection::open(gateway.address).await;
    let body = ask(json!({ "stream": true, "user": "sim:hang=40", "max_tokens": 5_000 }));

    let mut begun = connection.begin(post(&body, Some(KEY))).await.unwrap();
    // The whole text: an event may come in two pieces.
    let mut text = Vec::new();
    let seen = |text: &[u8]| {
        let text = String::from_utf8_lossy(text);
        text.matches("\"content\":\"").count() - text.matches("\"content\":\"\"").count()
    };
    while seen(&text) < 40 {
        text.extend_from_slice(&begun.piece().await.unwrap());
    }
    drop((begun, connection));

    gateway.invariants().await;
    let line = gateway.log(1).await.remove(0);
    assert_eq!(line["client_gone"], true, "{line}");
    assert_eq!(line["generated_tokens"], 40, "{line}");
    assert_eq!(line["prompt_tokens"], line["weighed_prompt_tokens"], "{line}");
    assert_eq!(engine.totals().disconnects, 1);
}

/// Who leaves while texts are embedded, ranked or scored frees its place, and the engine sees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_an_answer_without_output_frees_its_place_too() {
    let (gateway, engine) = one_place().await;
    for (nth, api) in (1..).zip(POOLED) {
        let body = request(api, 0, json!({ "user": "sim:delay=60s" }));
        let waits = tokio::spawn(send(gateway.address, post_to(api.path(), &body, Some(KEY))));
        eventually("the engine has the request", || async {
            (engine.totals().requests == 2 * nth - 1).then_some(())
        })
        .await;

        waits.abort();

        eventually("the engine saw it leave", || async {
            (engine.totals().disconnects == nth).then_some(())
        })
        .await;
        gateway.invariants().await;
        let next =
            send(gateway.address, post_to(api.path(), &request(api, 0, json!({})), Some(PLAIN_KEY))).await;
        assert_eq!(next.status, 200, "{api:?}: the place is free: {}", next.text());
        let line = gateway.log(2 * nth as usize).await.swap_remove(2 * nth as usize - 2);
        assert_eq!((&line["status"], &line["client_gone"]), (&json!(499), &json!(true)), "{line}");
        assert!(line["generated_tokens"].as_u64().is_none_or(|tokens| tokens == 0), "{line}");
    }
}

/// Report L1: a body of which only half arrives leaves nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_l1_half_a_body_leaves_nothing_behind() {
    let (gateway, engine) = gateway_and_engine(PROGRAM).await;
    for reset in [false, true] {
        let whole = chat_request(KEY, "", &ask(json!({ "pad": "x".repeat(50_000) })).to_string());
        let mut raw = Raw::connect(gateway.address).await;
        raw.send(&whole[..30_000]).await;
        gateway.counter_becomes("requests_in_flight", 1).await;
        assert!(gateway.counter("bytes_in_flight").await >= 30_000);
        if reset {
            raw.reset();
        } else {
            drop(raw);
        }
        gateway.invariants().await;
    }
    assert_eq!(engine.totals().requests, 0);
}

/// Report L4: a request counts as running until its stream ends, not until its head was sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_l4_concurrency_is_held_until_the_stream_ends() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    let accounts = config["accounts"].as_array_mut().unwrap();
    accounts.push(account("one", "tg-one", json!({ "concurrency": 1 })));
    let gateway = Gateway::start(PROGRAM, &config).await;
    let mut connection = Connection::open(gateway.address).await;
    let body = ask(json!({ "stream": true, "user": "sim:hang=1" }));

    let mut begun = connection.begin(post(&body, Some("tg-one"))).await.unwrap();
    begun.piece().await.unwrap();
    let during = gateway.chat_as("tg-one", &ask(json!({}))).await;
    drop((begun, connection));
    gateway.counter_becomes("account_requests_live", 0).await;
    let after = gateway.chat_as("tg-one", &ask(json!({}))).await;

    assert_eq!(during.verdict(), (429, "concurrency_limited"));
    assert_eq!(after.status, 200);
}

/// Threat S11: a client that stops reading is given up after the write deadline, and its engine with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_s11_a_client_that_does_not_read_is_given_up() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    merge(&mut config["listen"], json!({ "limits": { "write_ms": 500 } }));
    let gateway = Gateway::start(PROGRAM, &config).await;
    let mut raw = Raw::connect(gateway.address).await;
    let body = ask(json!({ "stream": true, "max_tokens": 200_000 }));

    raw.send(chat_request(KEY, "", &body.to_string())).await;
    assert_eq!(raw.head().await.unwrap().0, 200);

    let gone = eventually("the stream was given up", || async {
        engine.records().first().and_then(|record| record.disconnected_s)
    });
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
    gateway.invariants().await;
    drop(raw);
}

/// T2: who asks for a whole answer and leaves is charged what the engine had generated by then, as far as the streams
/// beside it tell. At full size the bound is 1 %.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t2_threat_s13_a_whole_answer_that_nobody_waits_for_is_booked() {
    let engine = engine_of(LLAMA_8B_A100).await;
    let gateway = Gateway::start(PROGRAM, &config([engine.url()])).await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut connection = Connection::open(gateway.address).await;
        let body = ask(json!({ "stream": true, "max_tokens": 2_000, "ignore_eos": true }));
        let begun = connection.begin(post(&body, Some(KEY))).await.unwrap();
        streams.push((connection, begun));
    }
    let (_, clock) = &mut streams[0];
    for _ in 0..40 {
        clock.piece().await.unwrap();
    }

    let mut leaving = Vec::new();
    for _ in 0..10 {
        let mut raw = Raw::connect(gateway.address).await;
        let body = ask(json!({ "max_tokens": 2_000, "ignore_eos": true }));
        raw.send(chat_request(KEY, "", &body.to_string())).await;
        leaving.push(raw);
    }
    for _ in 0..60 {
        clock.piece().await.unwrap();
    }
    drop(leaving);

    let lines = gateway.log(10).await;
    let computed = eventually("the engine saw ten of them leave", || async {
        let records = engine.records();
        let left = records.iter().filter(|record| !record.stream && record.disconnected_s.is_some());
        let tokens: Vec<u64> = left.map(|record| record.generated_tokens).collect();
        (tokens.len() == 10).then(|| tokens.iter().sum::<u64>())
    })
    .await;
    let booked: u64 = lines.iter().map(|line| line["generated_tokens"].as_u64().unwrap()).sum();
    let share = booked as f64 / computed as f64;
    assert!(computed > 200, "{computed} tokens are too few to tell");
    assert!((0.8..=1.2).contains(&share), "{booked} of {computed} tokens were booked");
    assert!(lines.iter().all(|line| line["usage_missing"] == true), "{lines:?}");
    drop(streams);
    gateway.invariants().await;
}

/// T2: what an engine sends until it has seen that its client is gone was computed, so it is counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t2_the_last_words_of_an_engine_are_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let chunk = || {
        let event = "data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"in\"}}]}\n\n";
        format!("{:x}\r\n{event}\r\n", event.len())
    };
    let engine = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"}") {
            assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0);
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        socket.write_all(format!("{head}{}", chunk()).as_bytes()).await.unwrap();
        // It notices that nobody listens any more after two further tokens.
        assert_eq!(socket.read(&mut [0; 16]).await.unwrap(), 0);
        socket.write_all(format!("{}{}", chunk(), chunk()).as_bytes()).await.unwrap();
    });
    let gateway = Gateway::start(PROGRAM, &config([url])).await;
    let mut connection = Connection::open(gateway.address).await;
    let body = ask(json!({ "stream": true }));

    let mut begun = connection.begin(post(&body, Some(KEY))).await.unwrap();
    begun.piece().await.unwrap();
    drop((begun, connection));

    engine.await.unwrap();
    let lines = gateway.log(1).await;
    assert_eq!(lines[0]["generated_tokens"], 3, "{}", lines[0]);
    gateway.invariants().await;
}
