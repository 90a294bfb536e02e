//! TLS on both sides: to clients with HTTP/2, ALPN and certificates that change; to engines with authorities of
//! their own.

use crate::PROGRAM;
use engine::profile::INSTANT;
use kit::base_config::merge;
use kit::client::{CHAT, get, post};
use kit::folder::Folder;
use kit::tls::{self, H2, Identity};
use kit::{Gateway, KEY, ask, config, engine, engine_of, eventually};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The certificate and key of a gateway, in files that a test may change.
struct Files {
    folder: Folder,
}

impl Files {
    fn of(identity: &Identity) -> Files {
        let files = Files { folder: Folder::new() };
        files.become_that_of(identity);
        files
    }

    /// As renewals do it: the new file is renamed over the old one.
    fn become_that_of(&self, identity: &Identity) {
        for (name, text) in [("key.pem", identity.key), ("cert.pem", identity.certificate)] {
            let next = self.folder.path().join("next");
            fs::write(&next, text).unwrap();
            fs::rename(&next, self.folder.path().join(name)).unwrap();
        }
    }

    fn config(&self, replicas: impl IntoIterator<Item = String>) -> Value {
        let mut config = config(replicas);
        let file = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        merge(
            &mut config["listen"],
            json!({ "tls": { "cert_file": file("cert.pem"), "key_file": file("key.pem") } }),
        );
        config
    }
}

/// All that HTTP/1.1 does: plain, streamed, refused by budget and by load, all on one connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_serves_streams_and_refuses() {
    let engine = engine().await;
    let files = Files::of(&tls::FIRST);
    let mut config = files.config([engine.url()]);
    config["deployments"][0]["limit"] = json!(1);
    merge(
        &mut config["deployments"][0],
        json!({ "ceilings": { "regular": 1.0 }, "queue": { "requests": 0 } }),
    );
    config["accounts"][1]["limits"] = json!([kit::base_config::budget(1_000_000, 1_000_000, 10)]);
    config["accounts"][1]["concurrency"] = json!(1_000);
    let gateway = Gateway::start(PROGRAM, &config).await;
    let mut h2 = H2::open(gateway.address, &tls::FIRST).await;

    let plain = h2.send(post(&ask(json!({})), Some(KEY))).await;
    assert_eq!((plain.status, plain.json()["service_tier"].as_str()), (200, Some("default")));
    assert!(plain.header("x-request-id").starts_with("req_"));
    assert_eq!(plain.headers.get("transfer-encoding"), None, "framing is HTTP/2's own");
    let stream = h2.send(post(&ask(json!({ "stream": true })), Some(KEY))).await;
    assert!(stream.clean && stream.streamed().done, "{}", stream.text());
    let models = h2.send(get("/v1/models", Some(KEY))).await;
    assert_eq!(models.status, 200);

    let mut spent = h2.send(post(&ask(json!({})), Some("tg-plain"))).await;
    if spent.status == 200 {
        spent = h2.send(post(&ask(json!({})), Some("tg-plain"))).await;
    }
    assert_eq!(spent.verdict(), (429, "generated_tokens_limited"), "{}", spent.text());
    assert!(!spent.header("retry-after-ms").is_empty());

    let held =
        h2.begin(post(&ask(json!({ "stream": true, "user": "sim:hang=1" })), Some(KEY))).await.unwrap();
    let shed = h2.send(post(&ask(json!({})), Some(KEY))).await;
    assert_eq!(shed.verdict(), (503, "shed-saturated"), "{}", shed.text());
    assert_eq!(shed.header("x-should-retry"), "true");
    drop(held);
    gateway.invariants().await;
    assert_eq!(h2.send(post(&ask(json!({})), Some(KEY))).await.status, 200, "the connection goes on");
}

/// T6 over HTTP/2: a broken stream ends with a reset, never like a whole one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t6_a_stream_that_breaks_over_http2_is_reset() {
    let engine = engine().await;
    let files = Files::of(&tls::FIRST);
    let gateway = Gateway::start(PROGRAM, &files.config([engine.url()])).await;
    let mut h2 = H2::open(gateway.address, &tls::FIRST).await;

    for fault in ["cut=3", "reset=3", "stream-error=3", "ends=3"] {
        let body = ask(json!({ "stream": true, "user": format!("sim:{fault}"), "max_tokens": 20 }));

        let answer = h2.send(post(&body, Some(KEY))).await;

        let streamed = answer.streamed();
        assert!(!streamed.text.is_empty() && streamed.error.is_some(), "{fault}: {}", answer.text());
        assert!(!streamed.done && streamed.broken, "{fault}: it looks whole");
    }
    assert_eq!(h2.send(post(&ask(json!({})), Some(KEY))).await.status, 200, "the connection is not to blame");
    gateway.invariants().await;
}

/// A client that resets its stream is gone: the engine hears of it, and nothing is held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t4_a_stream_that_the_client_resets_ends_at_the_engine() {
    let engine = engine_of(INSTANT).await;
    let files = Files::of(&tls::FIRST);
    let gateway = Gateway::start(PROGRAM, &files.config([engine.url()])).await;
    let mut h2 = H2::open(gateway.address, &tls::FIRST).await;
    let body = ask(json!({ "stream": true, "user": "sim:gap=20ms", "max_tokens": 5_000 }));

    let mut begun = h2.begin(post(&body, Some(KEY))).await.unwrap();
    assert!(begun.piece().await.is_some());
    drop(begun);

    eventually("the engine hears of it", || async { (engine.totals().disconnects > 0).then_some(()) }).await;
    gateway.invariants().await;
}

/// ALPN: HTTP/2 for whoever can, HTTP/1.1 for everybody else, also for those who do not say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_client_gets_the_protocol_that_it_speaks() {
    let engine = engine().await;
    let files = Files::of(&tls::FIRST);
    let gateway = Gateway::start(PROGRAM, &files.config([engine.url()])).await;

    for (offered, agreed) in [
        (&[b"h2".as_slice(), b"http/1.1"][..], Some(b"h2".as_slice())),
        (&[b"http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let stream = tls::connect(gateway.address, &tls::FIRST, offered).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed);
    }
    let mut old = tls::connect(gateway.address, &tls::FIRST, &[]).await.unwrap();
    let body = ask(json!({})).to_string();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    old.write_all((head + &body).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = old.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

/// A renewed certificate comes into force without a connection lost; one that is of no use does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_s20_a_certificate_that_changes_is_taken_up_and_a_broken_one_is_not() {
    let engine = engine().await;
    let files = Files::of(&tls::FIRST);
    let gateway = Gateway::start(PROGRAM, &files.config([engine.url()])).await;
    let mut before = H2::open(gateway.address, &tls::FIRST).await;
    assert!(tls::connect(gateway.address, &tls::SECOND, &[]).await.is_err(), "it has the first certificate");

    files.become_that_of(&tls::SECOND);
    eventually("the new certificate is in force", || async {
        tls::connect(gateway.address, &tls::SECOND, &[]).await.ok()
    })
    .await;
    assert_eq!(before.send(post(&ask(json!({})), Some(KEY))).await.status, 200, "an open connection goes on");

    files.become_that_of(&Identity { certificate: "rubbish", ..tls::FIRST });
    eventually("the fault is told", || async { gateway.said().contains("the old one stays").then_some(()) })
        .await;
    assert!(tls::connect(gateway.address, &tls::SECOND, &[]).await.is_ok());
    gateway.invariants().await;
}

/// Bytes that are not HTTP/2, and HTTP/2 that nobody should send: the connection ends, everybody else is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t9_malformed_http2_ends_its_connection_and_no_other() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let engine = engine().await;
    let files = Files::of(&tls::FIRST);
    let gateway = Gateway::start(PROGRAM, &files.config([engine.url()])).await;
    let mut honest = H2::open(gateway.address, &tls::FIRST).await;
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no preface", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("data on no stream", [PREFACE, &frame(0, 0, 1, b"x")].concat()),
        ("data on stream 0", [PREFACE, &frame(0, 0, 0, b"x")].concat()),
        ("an even stream", [PREFACE, &frame(1, 5, 2, b"\x82")].concat()),
        ("a broken header block", [PREFACE, &frame(1, 5, 1, &[0xff; 64])].concat()),
        ("settings of a wrong length", [PREFACE, &frame(4, 0, 0, b"12345")].concat()),
        ("a window of zero", [PREFACE, &frame(8, 0, 0, &[0; 4])].concat()),
        ("a frame that is too large", [PREFACE, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat()),
        ("a continuation of nothing", [PREFACE, &frame(9, 4, 1, b"\x82")].concat()),
        ("a push", [PREFACE, &frame(5, 4, 1, &[0, 0, 0, 2, 0x82])].concat()),
        (
            "continuations without end",
            [PREFACE.to_vec(), frame(1, 1, 1, b"\x82"), frame(9, 0, 1, &[0x82; 16_000]).repeat(200)].concat(),
        ),
        (
            "resets without end",
            [
                PREFACE.to_vec(),
                (0..5_000u32)
                    .flat_map(|n| {
                        let stream = 2 * n + 1;
                        // GET / by static table and a literal authority, then at once its end.
                        [
                            frame(1, 5, stream, &[0x82, 0x84, 0x87, 0x41, 1, b'x']),
                            frame(3, 0, stream, &[0, 0, 0, 8]),
                        ]
                        .concat()
                    })
                    .collect(),
            ]
            .concat(),
        ),
    ];
    for (what, bytes) in cases {
        let mut evil = tls::connect(gateway.address, &tls::FIRST, &[b"h2"]).await.unwrap();
        // It may close in the middle of what we write.
        let _ = evil.write_all(&bytes).await;
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(15), evil.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{what}: the connection hangs");
        assert_eq!(honest.send(post(&ask(json!({})), Some(KEY))).await.status, 200, "{what}");
    }
    assert!(engine.totals().requests <= 12, "nothing of that reached an engine");
    gateway.invariants().await;
}

/// The framework's own bounds are in force: a hundred streams at once, 64 KiB of headers, 32 KiB by our own rule.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2026_105297_http2_is_bounded() {
    let engine = engine().await;
    let files = Files::of(&tls::FIRST);
    let gateway = Gateway::start(PROGRAM, &files.config([engine.url()])).await;

    let settings = tls::settings(gateway.address, &tls::FIRST).await;
    assert_eq!(settings.get(&3), Some(&100), "streams at once: {settings:?}");
    assert_eq!(settings.get(&6), Some(&65_536), "bytes of headers: {settings:?}");
    assert_eq!(settings.get(&4), Some(&1_048_576), "bytes that nobody has read: {settings:?}");

    let mut h2 = H2::open(gateway.address, &tls::FIRST).await;
    let mut request = post(&ask(json!({})), Some(KEY));
    request.headers_mut().insert("x-padding", "x".repeat(40_000).parse().unwrap());
    let answer = h2.begin(request).await;
    assert!(answer.is_err() || answer.is_ok_and(|begun| begun.status == 400));
    assert_eq!(engine.totals().requests, 0);
}

/// https replicas: the certificate must be of the authority that the config names, and for its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_behind_tls_prove_who_they_are() {
    let engine = engine().await;
    let (secure, files) = (
        tls::before(engine.url().trim_start_matches("http://").parse().unwrap(), &tls::ENGINE).await,
        Folder::new(),
    );
    let ca = |identity: &Identity, name: &str| {
        let file = files.path().join(name);
        fs::write(&file, identity.authority).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let (right, wrong) = (ca(&tls::ENGINE, "right.pem"), ca(&tls::FIRST, "wrong.pem"));
    let key = files.path().join("key");
    fs::write(&key, "engine-key\n").unwrap();
    let with = |tls: Value| {
        let mut config = config([format!("https://{secure}")]);
        merge(&mut config["deployments"][0], json!({ "tls": tls, "api_key_file": key.to_str().unwrap() }));
        config
    };

    let gateway =
        Gateway::start(PROGRAM, &with(json!({ "ca_file": right, "server_name": "engine.internal" }))).await;
    let answer = gateway.chat(&ask(json!({}))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let streamed = gateway.chat(&ask(json!({ "stream": true }))).await;
    assert!(streamed.streamed().done);
    drop(gateway);
    for (what, tls) in [
        ("another authority", json!({ "ca_file": wrong, "server_name": "engine.internal" })),
        ("another name", json!({ "ca_file": right })),
        ("the system's authorities", json!({ "server_name": "engine.internal" })),
    ] {
        let gateway = Gateway::start(PROGRAM, &with(tls)).await;
        let answer = gateway.chat(&ask(json!({}))).await;
        assert_eq!(answer.verdict(), (502, "upstream_error"), "{what}: {}", answer.text());
    }
}
