//! E05: the admin listener answers probes whatever else is asked there, and reads nothing that it will not use.

use crate::PROGRAM;
use crate::operating::{TOKEN, operated};
use kit::raw::Raw;
use kit::{Gateway, config, engine};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::timeout;

/// Half a head.
const HALF_HEAD: &str = "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Half: ";
/// A head whose body does not come.
const HALF_BODY: &str = "POST /api/v1/reload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{";
/// More than a probe takes on a machine that runs other tests; before, the listener was silent for longer than a minute.
const PROBE_TIME: Duration = Duration::from_secs(10);

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
}

/// Asserts that both probes are answered, ten times.
async fn assert_probed(admin: SocketAddr, during: &str) {
    for round in 0..10 {
        for path in ["/livez", "/readyz"] {
            let probe = async {
                let mut raw = Raw::connect(admin).await;
                raw.send(get(path)).await;
                raw.answer().await
            };
            let answer = timeout(PROBE_TIME, probe).await;
            let status = answer.ok().flatten().map(|answer| answer.status);
            assert_eq!(status, Some(200), "{path} during {during}, round {round}");
        }
    }
}

async fn crowd(admin: SocketAddr, count: usize, text: &str) -> Vec<Raw> {
    let mut held = Vec::new();
    for _ in 0..count {
        let mut raw = Raw::connect(admin).await;
        raw.send(text).await;
        held.push(raw);
    }
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e05_probes_are_answered_under_half_requests_slow_readers_and_floods() {
    let engine = engine().await;
    let gateway = Gateway::start(PROGRAM, &operated(config([engine.url()]))).await;
    let admin = gateway.admin;
    assert_probed(admin, "silence").await;

    let heads = crowd(admin, 300, HALF_HEAD).await;
    assert_probed(admin, "300 half heads").await;
    let bodies = crowd(admin, 300, HALF_BODY).await;
    assert_probed(admin, "300 half bodies").await;
    // Far more than socket buffers hold, asked for on each connection and never read.
    let much = get("/api/v1/openapi.json").repeat(200);
    let readers = crowd(admin, 60, &much).await;
    assert_probed(admin, "60 connections that do not read").await;
    let silent = crowd(admin, 300, "").await;
    assert_probed(admin, "300 connections without a byte").await;

    let flood = tokio::spawn(async move {
        loop {
            crowd(admin, 20, &get("/metrics")).await;
            // A flood, but one that leaves the machine to the gateway.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert_probed(admin, "a flood of questions").await;
    flood.abort();
    drop((heads, bodies, readers, silent));
    let page = gateway.admin("/metrics").await.text();
    assert!(page.contains("tidegate_admin_refused_total{reason=\"gave_way\"}"), "{page}");
}

/// A head says enough to refuse: nobody has to send the body first, and nobody can hold a connection with half of one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e05_a_head_is_judged_before_its_body_and_a_body_has_a_deadline() {
    let engine = engine().await;
    let gateway = Gateway::start(PROGRAM, &operated(config([engine.url()]))).await;
    let post = |path: &str, more: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n{more}\r\n{{")
    };
    let token = format!("Authorization: Bearer {TOKEN}\r\n");

    for (request, status) in [
        (post("/api/v1/reload", ""), 401),
        (post("/api/v1/reload", "Authorization: Bearer wrong\r\n"), 401),
        (post("/api/v1/nothing", &token), 404),
        (post("/metrics", &token), 405),
        (post("/api/v1/reload", &token).replace("1000", "70000"), 413),
    ] {
        let mut raw = Raw::connect(gateway.admin).await;
        raw.send(&request).await;
        let answer = timeout(PROBE_TIME, raw.answer()).await.expect("waits for the body").unwrap();
        assert_eq!(answer.status, status, "{request}");
    }

    let mut raw = Raw::connect(gateway.admin).await;
    raw.send(post("/api/v1/reload", &token)).await;
    let answer = raw.answer().await.unwrap();
    assert_eq!(answer.status, 408, "{}", answer.head);
    assert!(raw.ends_within(PROBE_TIME).await, "the rest of the body would be read as a request");
}
