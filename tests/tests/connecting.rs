//! The front door: who may be connected, for how long without asking, who gives way, and who the client is.

use crate::PROGRAM;
use kit::base_config::merge;
use kit::client::post;
use kit::folder::Folder;
use kit::raw::{Raw, chat_request};
use kit::tls::{self, H2};
use kit::{Gateway, KEY, ask, config, engine, eventually};
use serde_json::{Value, json};
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A generous bound for what takes milliseconds.
const SOON: Duration = Duration::from_secs(5);

/// An address of an honest client, and two of others.
const HONEST: Ipv4Addr = Ipv4Addr::new(127, 0, 7, 1);
const OTHERS: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 8, 1), Ipv4Addr::new(127, 0, 8, 2)];

/// A gateway with `listen` on top of the usual config; with it what must outlive it.
async fn gateway_with(listen: Value) -> (Gateway, engine::server::EngineServer) {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    merge(&mut config["listen"], listen);
    (Gateway::start(PROGRAM, &config).await, engine)
}

/// The same with TLS.
async fn tls_gateway_with(listen: Value) -> (Gateway, engine::server::EngineServer, Folder) {
    let folder = Folder::new();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let mut with_tls = json!({ "tls": {
        "cert_file": file("cert.pem", tls::FIRST.certificate),
        "key_file": file("key.pem", tls::FIRST.key),
    } });
    merge(&mut with_tls, listen);
    let (gateway, engine) = gateway_with(with_tls).await;
    (gateway, engine, folder)
}

fn request() -> String {
    chat_request(KEY, "", &ask(json!({})).to_string())
}

/// The status of a request on this connection; 0 when it ended without an answer.
async fn asked(raw: &mut Raw) -> u16 {
    raw.send(request()).await;
    raw.answer().await.map_or(0, |answer| answer.status)
}

/// How many were refused or closed for this reason.
async fn turned_away(gateway: &Gateway, reason: &str) -> u64 {
    let page = gateway.admin("/metrics").await.text();
    let series = format!("tidegate_connections_refused_total{{reason=\"{reason}\"}} ");
    let value = page.lines().find_map(|line| line.strip_prefix(&series));
    value.unwrap_or_else(|| panic!("no {series} in {page}")).parse().unwrap()
}

/// A request that runs until its connection is dropped.
async fn running(gateway: &Gateway, from: Ipv4Addr) -> Raw {
    let mut raw = Raw::connect_from(from, gateway.address).await;
    let body = ask(json!({ "stream": true, "user": "sim:hang=1" }));
    raw.send(chat_request(KEY, "", &body.to_string())).await;
    assert_eq!(raw.head().await.unwrap().0, 200);
    raw
}

/// E02: who is refused before the body was read sees the refusal, though it writes all before it reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e02_a_refusal_outlives_the_rest_of_the_body() {
    let (gateway, _engine) = gateway_with(json!({ "limits": { "body_bytes": "4MiB" } })).await;
    let large = |key: &str, megabytes: usize| {
        let body = ask(json!({ "user": "x".repeat(megabytes << 20) })).to_string();
        chat_request(key, "", &body)
    };
    for (bytes, status) in
        [(large(KEY, 12), 413), (large("wrong", 2), 401), (large(KEY, 2).replacen("chat/", "what/", 1), 404)]
    {
        for _ in 0..4 {
            let mut raw = Raw::connect(gateway.address).await;

            raw.try_send(&bytes).await.expect("the connection was closed while the body was sent");

            assert_eq!(raw.answer().await.map(|answer| answer.status), Some(status));
        }
    }
    eventually("they are closed", || async { (gateway.descriptors() < 60).then_some(()) }).await;
    // What is malformed is refused, too, with what follows unread.
    let mut raw = Raw::connect(gateway.address).await;
    raw.try_send([b"GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_vec(), vec![b'x'; 1 << 19]].concat())
        .await
        .unwrap();
    assert_eq!(raw.answer().await.map(|answer| answer.status), Some(400));
}

/// E03: beyond its share an address is told so in HTTP, and the operator sees it; whoever asks for nothing gives way first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e03_an_address_beyond_its_share_is_told() {
    let (gateway, _engine) = gateway_with(json!({ "limits": { "connections_per_address": 3 } })).await;
    let [address, other] = OTHERS;
    let mut idle = Raw::connect_from(address, gateway.address).await;
    assert_eq!(asked(&mut idle).await, 200);
    let runs = [running(&gateway, address).await, running(&gateway, address).await];

    let mut further = Raw::connect_from(address, gateway.address).await;
    assert_eq!(asked(&mut further).await, 200, "the idle one gives way");
    assert!(idle.ends_within(SOON).await);
    let held = running(&gateway, address).await;
    assert!(further.ends_within(SOON).await);

    let mut refused = Raw::connect_from(address, gateway.address).await;
    refused.send(request()).await;
    let answer = refused.answer().await.expect("an answer");
    assert_eq!(answer.status, 503);
    for header in ["x-tidegate-reason: connections", "retry-after: ", "x-should-retry: true"] {
        assert!(answer.head.contains(header), "{header} is not in {}", answer.head);
    }
    assert_eq!(
        asked(&mut Raw::connect_from(other, gateway.address).await).await,
        200,
        "others do not notice"
    );

    assert_eq!((turned_away(&gateway, "address").await, turned_away(&gateway, "gave-way").await), (1, 2));
    for reason in ["address", "gave-way"] {
        let said = gateway.said();
        let lines = said.lines().filter(|line| line.contains(&format!("\"reason\":\"{reason}\"")));
        assert_eq!(lines.count(), 1, "one line a minute for {reason}: {said}");
    }
    drop((runs, held));
    eventually("room for a connection", || async {
        (asked(&mut Raw::connect_from(address, gateway.address).await).await == 200).then_some(())
    })
    .await;
}

/// E07: silent and half-sent connections that take all places hold nobody up, from one address or from many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e07_connections_without_a_request_hold_nobody_up() {
    let limits = json!({ "connections_share": 0.01, "connections_per_address": 1_000_000 });
    let (gateway, _engine) = gateway_with(json!({ "limits": limits })).await;
    let places = (process_limit(gateway.pid(), 4) - 256) / 100;
    let beginnings = ["", "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n", "PRI * HT"];
    let body = chat_request(KEY, "", &ask(json!({})).to_string());
    let mut attackers = Vec::new();
    for nth in 0..places * 2 {
        let mut raw = Raw::connect_from(OTHERS[nth % 2], gateway.address).await;
        match beginnings.get(nth % 4) {
            Some(beginning) => raw.send(beginning).await,
            None => raw.send(&body[..body.len() - 9]).await,
        }
        attackers.push(raw);
        if nth % 20 == 0 {
            assert_eq!(asked(&mut Raw::connect_from(HONEST, gateway.address).await).await, 200, "{nth}");
        }
    }
    assert!(turned_away(&gateway, "gave-way").await >= places as u64 / 2);
    assert_eq!(turned_away(&gateway, "total").await, 0);
    assert!(gateway.descriptors() < places + 256, "{} of {places}", gateway.descriptors());
}

/// E07: clients that take all places with answers that they do not read hold nobody up either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e07_connections_that_do_not_read_hold_nobody_up() {
    let limits = json!({ "connections_per_address": 6 });
    let (gateway, _engine) = gateway_with(json!({ "limits": limits })).await;
    // More than the kernel's buffers take.
    let body = ask(json!({ "stream": true, "max_tokens": 120_000 })).to_string();
    let mut attackers = Vec::new();
    for _ in 0..6 {
        let mut raw = Raw::connect_from(OTHERS[0], gateway.address).await;
        raw.send(chat_request(KEY, "", &body)).await;
        attackers.push(raw);
    }

    eventually("one of them gives way", || async {
        (asked(&mut Raw::connect_from(OTHERS[0], gateway.address).await).await == 200).then_some(())
    })
    .await;
    assert!(turned_away(&gateway, "gave-way").await >= 1);
}

/// A number of a process's limit of open files, as the kernel tells it: the third word is in force, the fourth its bound.
fn process_limit(pid: u32, word: usize) -> usize {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(word).unwrap().parse().unwrap()
}

/// A gateway in a process that begins with these limits of open files: the one in force, and the one behind it.
async fn limited_gateway(soft: u32, hard: u32) -> (Gateway, engine::server::EngineServer, Folder) {
    let folder = Folder::new();
    let program = folder.path().join("limited");
    let script = format!("#!/bin/sh\nulimit -Sn {soft} && ulimit -Hn {hard} && exec '{PROGRAM}' \"$@\"\n");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let engine = engine().await;
    let gateway = Gateway::start(&program, &config([engine.url()])).await;
    assert_eq!(
        (process_limit(gateway.pid(), 3), process_limit(gateway.pid(), 4)),
        (hard as usize, hard as usize)
    );
    (gateway, engine, folder)
}

/// E07: the limit of open files that a process begins with is no bound, the one behind it is; one address cannot have all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e07_the_limit_of_open_files_is_raised_and_one_address_has_a_quarter() {
    let (gateway, _engine, _folder) = limited_gateway(200, 1024).await;
    let mut held = Vec::new();
    for _ in 0..700 {
        held.push(Raw::connect_from(OTHERS[0], gateway.address).await);
    }

    assert_eq!(asked(&mut Raw::connect_from(HONEST, gateway.address).await).await, 200);
    // A quarter of (1,024 − 256) ÷ 2.
    assert!(turned_away(&gateway, "gave-way").await >= 700 - 96, "more than a quarter were kept");
    eventually("the others are closed", || async { (gateway.descriptors() < 96 + 80).then_some(()) }).await;
    assert_eq!(gateway.admin("/livez").await.status, 200);
}

/// F05: with 64 descriptors and 60 slow requests each is served or refused by us, and no replica is blamed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f05_64_descriptors_and_60_slow_requests_blame_nobody() {
    let (gateway, _engine, _folder) = limited_gateway(64, 64).await;
    let body = ask(json!({ "user": "sim:delay=700ms" })).to_string();
    let mut sent = Vec::new();
    for nth in 0..60 {
        let mut raw = Raw::connect_from(Ipv4Addr::new(127, 0, 9, nth), gateway.address).await;
        raw.send(chat_request(KEY, "", &body)).await;
        sent.push(raw);
    }

    let (mut served, mut refused) = (0, 0);
    for mut raw in sent {
        match raw.answer().await {
            Some(answer) if answer.status == 200 => served += 1,
            Some(answer) => {
                let ours = ["connections", "descriptors"].map(|why| format!("x-tidegate-reason: {why}"));
                let is_ours = ours.iter().any(|why| answer.head.contains(why));
                assert!(answer.status == 503 && is_ours, "{}", answer.head);
                refused += 1;
            }
            None => {}
        }
    }
    let page = gateway.admin("/metrics").await.text();
    let all = served + refused;
    // Half of 64 is what the process has open at rest, and each request has two; one more is out while the engine's metrics are
    // read.
    assert!(served >= 7 && refused >= 10 && all >= 55, "{served} served, {refused} refused: {page}");
    let blamed = |line: &&str| line.starts_with("tidegate_upstream_errors_total{") && !line.ends_with(" 0");
    assert_eq!(page.lines().find(blamed), None, "a replica was blamed");
    assert_eq!(asked(&mut Raw::connect_from(HONEST, gateway.address).await).await, 200, "it goes on");
}

/// E04: handshake, preface and first head have one deadline, whatever a client does in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e04_whoever_does_not_come_to_a_head_is_closed() {
    let deadline = Duration::from_millis(700);
    let (gateway, _engine, _files) = tls_gateway_with(json!({ "limits": { "header_ms": 700 } })).await;
    let began = engine::clock::now();
    let mut silent = Raw::connect(gateway.address).await;
    let mut half_hello = Raw::connect(gateway.address).await;
    half_hello.send(b"\x16\x03\x01\x02\x00\x01\x00").await;
    let mut no_preface = tls::connect(gateway.address, &tls::FIRST, &[b"h2"]).await.unwrap();
    let mut no_head = tls::connect(gateway.address, &tls::FIRST, &[b"h2"]).await.unwrap();
    no_head.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut half_head = tls::connect(gateway.address, &tls::FIRST, &[b"http/1.1"]).await.unwrap();
    half_head.write_all(b"GET /v1/mod").await.unwrap();

    assert!(silent.ends_within(SOON).await && half_hello.ends_within(SOON).await);
    for stream in [&mut no_preface, &mut no_head, &mut half_head] {
        let mut rest = Vec::new();
        tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await.expect("it was kept").ok();
    }
    let took = engine::clock::now() - began;
    assert!(took >= deadline, "{took:?}");
    assert!(turned_away(&gateway, "handshake").await >= 3);
    assert_eq!(turned_away(&gateway, "head").await, 1, "half a head");
    let mut honest = H2::open(gateway.address, &tls::FIRST).await;
    assert_eq!(honest.send(post(&ask(json!({})), Some(KEY))).await.status, 200);
    // Longer than the deadline of a handshake: what is past it is not judged by it.
    tokio::time::sleep(deadline * 2).await;
    assert_eq!(
        honest.send(post(&ask(json!({})), Some(KEY))).await.status,
        200,
        "the deadline is for the first head"
    );
}

/// What is no HTTP, and TLS on a plain port, is refused and leaves a trace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_none_leaves_a_trace() {
    let (gateway, _engine) = gateway_with(json!({})).await;
    for (nth, bytes) in
        [&b"no such thing\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"].into_iter().enumerate()
    {
        let mut raw = Raw::connect(gateway.address).await;
        raw.send(bytes).await;
        assert_eq!(raw.answer().await.map(|answer| answer.status), Some(400));
        assert_eq!(turned_away(&gateway, "head").await, nth as u64 + 1);
    }
}

/// E04: idle HTTP/2 connections are counted and give way; they end at the keep-alive time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e04_idle_http2_connections_are_counted() {
    let limits = json!({ "connections_per_address": 4, "keepalive_ms": 1_500 });
    let (gateway, _engine, _files) = tls_gateway_with(json!({ "limits": limits })).await;
    let mut open = Vec::new();
    for nth in 0..10 {
        let mut h2 = H2::open(gateway.address, &tls::FIRST).await;
        assert_eq!(h2.send(post(&ask(json!({})), Some(KEY))).await.status, 200, "{nth}");
        open.push(h2);
    }

    assert_eq!(turned_away(&gateway, "gave-way").await, 6);
    let idle = gateway.descriptors();
    eventually("idle ones end", || async { (gateway.descriptors() + 4 <= idle).then_some(()) }).await;
}

/// E04: a stream too many is answered, and its connection goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e04_a_stream_too_many_is_answered_503() {
    let limits = json!({ "h2_streams": 2, "h2_streams_per_connection": 7 });
    let (gateway, _engine, _files) = tls_gateway_with(json!({ "limits": limits })).await;
    assert_eq!(tls::settings(gateway.address, &tls::FIRST).await.get(&3), Some(&7), "the client is told");
    let mut h2 = H2::open(gateway.address, &tls::FIRST).await;
    let body = ask(json!({ "stream": true, "user": "sim:hang=1" }));
    let held =
        (h2.begin(post(&body, Some(KEY))).await.unwrap(), h2.begin(post(&body, Some(KEY))).await.unwrap());

    let refused = h2.send(post(&ask(json!({})), Some(KEY))).await;

    assert_eq!(refused.verdict(), (503, "connections"), "{}", refused.text());
    assert_eq!((refused.header("x-should-retry"), turned_away(&gateway, "streams").await), ("true", 1));
    drop(held);
    gateway.invariants().await;
    // A place is given back after the counters that the invariants show.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(h2.send(post(&ask(json!({})), Some(KEY))).await.status, 200, "the connection goes on");
}

/// The header of version 2 of the PROXY protocol for a client of this address.
fn proxy_v2(client: [u8; 4]) -> Vec<u8> {
    let start = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
    [start.as_slice(), &client, &[10, 0, 0, 1, 0x30, 0x39, 1, 0xbb]].concat()
}

/// The addresses in the access log, in order.
async fn logged(gateway: &Gateway, lines: usize) -> Vec<String> {
    let lines = gateway.log(lines).await;
    lines.iter().map(|line| line["client_address"].as_str().unwrap_or("none").to_owned()).collect()
}

/// A listed proxy has to say who the client is, and is believed; nobody else is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_protocol_is_required_from_listed_proxies_and_from_nobody_else() {
    let proxies = json!([{ "cidr": "127.0.8.1", "proxy_protocol": true }]);
    let (gateway, _engine) = gateway_with(json!({ "proxies": proxies })).await;
    let [proxy, other] = OTHERS;
    for header in [b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n".to_vec(), proxy_v2([192, 0, 2, 8])] {
        let mut raw = Raw::connect_from(proxy, gateway.address).await;
        raw.send(header).await;
        assert_eq!(asked(&mut raw).await, 200);
        assert_eq!(asked(&mut raw).await, 200, "the header is the connection's, not the request's");
    }
    let mut raw = Raw::connect_from(proxy, gateway.address).await;
    assert_eq!(asked(&mut raw).await, 0, "without the header it is closed");
    let mut raw = Raw::connect_from(other, gateway.address).await;
    raw.send(proxy_v2([192, 0, 2, 9])).await;
    assert_eq!(asked(&mut raw).await, 400, "from elsewhere it is malformed HTTP");
    let mut raw = Raw::connect_from(other, gateway.address).await;
    raw.send(request().replacen("\r\n", "\r\nX-Forwarded-For: 192.0.2.9\r\n", 1)).await;
    assert_eq!(raw.answer().await.unwrap().status, 200);

    let seen = logged(&gateway, 5).await;
    assert_eq!(seen, ["192.0.2.7", "192.0.2.7", "192.0.2.8", "192.0.2.8", "127.0.8.2"]);
    assert_eq!(turned_away(&gateway, "proxy-header").await, 1);
}

/// Before TLS, and with one deadline for all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_protocol_comes_before_tls() {
    let proxies = json!([{ "cidr": "127.0.0.0/8", "proxy_protocol": true }]);
    let listen = json!({ "proxies": proxies, "limits": { "header_ms": 700 } });
    let (gateway, _engine, _files) = tls_gateway_with(listen).await;
    let mut silent = Raw::connect(gateway.address).await;
    silent.send("PROXY TCP4 192.0.2.7").await;

    let mut h2 = H2::open_behind(gateway.address, &tls::FIRST, &proxy_v2([192, 0, 2, 7])).await;

    assert_eq!(h2.send(post(&ask(json!({})), Some(KEY))).await.status, 200);
    assert_eq!(logged(&gateway, 1).await, ["192.0.2.7"]);
    assert!(silent.ends_within(SOON).await);
}

/// A listed proxy's connections are in nobody's share: what counts is the client that it tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxys_clients_have_their_shares_and_the_proxy_has_none() {
    let proxies = json!([
        { "cidr": "127.0.8.1", "x_forwarded_for": true },
        { "cidr": "127.0.8.2", "proxy_protocol": true },
    ]);
    let limits =
        json!({ "connections_per_address": 2, "keepalive_ms": 600, "keepalive_proxies_ms": 600_000 });
    let (gateway, _engine) = gateway_with(json!({ "proxies": proxies, "limits": limits })).await;
    let [http, tcp] = OTHERS;
    let said = |client: &str, body: Value| {
        chat_request(KEY, &format!("X-Forwarded-For: 6.6.6.6, {client}\r\n"), &ask(body).to_string())
    };
    let mut held = Vec::new();
    for nth in 0..6 {
        let mut raw = Raw::connect_from(http, gateway.address).await;
        raw.send(said(&format!("192.0.2.{}", nth / 2), json!({ "stream": true, "user": "sim:hang=1" })))
            .await;
        assert_eq!(raw.head().await.unwrap().0, 200, "{nth}");
        held.push(raw);
    }

    let mut over = Raw::connect_from(http, gateway.address).await;
    over.send(said("192.0.2.1", json!({}))).await;
    let refused = over.answer().await.unwrap();
    assert!(
        refused.status == 503 && refused.head.contains("x-tidegate-reason: connections"),
        "{}",
        refused.head
    );
    let mut over = Raw::connect_from(tcp, gateway.address).await;
    over.send(proxy_v2([192, 0, 2, 1])).await;
    assert_eq!(asked(&mut over).await, 503, "the share is the client's, whichever proxy tells it");
    let mut idle = Raw::connect_from(http, gateway.address).await;
    idle.send(said("192.0.2.77", json!({}))).await;
    assert_eq!(idle.answer().await.unwrap().status, 200);
    let mut direct = Raw::connect_from(HONEST, gateway.address).await;
    assert_eq!(asked(&mut direct).await, 200);
    assert!(direct.ends_within(SOON).await, "keep-alive of everybody else");
    idle.send(said("192.0.2.78", json!({}))).await;
    assert_eq!(idle.answer().await.map(|answer| answer.status), Some(200), "a proxy's is longer");
}
