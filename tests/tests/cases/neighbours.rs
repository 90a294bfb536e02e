//! HTTP as neighbours speak it: proxies that speak HTTP/1.0, probes, clients that do not wait, and what is no HTTP at all.
//!
//! The cases are E01, E11, E13, E15 and E16; what was decided where the field does not agree is at the end.

use super::fleet;
use crate::PROGRAM;
use http::Request;
use kit::base_config::merge;
use kit::client::{get, post, post_to, send};
use kit::folder::Folder;
use kit::hostile::{Act, Hostile, ordinary};
use kit::raw::{Raw, chat_request};
use kit::{Gateway, KEY, ask, config, gateway_and_engine, tls};
use protocol::api::Api;
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A generous bound for what takes milliseconds.
const SOON: Duration = Duration::from_secs(5);

/// What came until the end of a connection, and how it ended; `None`: properly.
struct Ended {
    text: String,
    by: Option<ErrorKind>,
}

impl Ended {
    fn status(&self) -> &str {
        self.text.get(9..12).unwrap_or("")
    }
}

/// Sends bytes on a connection of their own and reads until it ends.
async fn exchange(gateway: &Gateway, bytes: impl AsRef<[u8]>) -> Ended {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    read_to_end(&mut stream).await
}

async fn read_to_end(stream: &mut (impl AsyncReadExt + Unpin)) -> Ended {
    let mut bytes = Vec::new();
    let read = async {
        loop {
            match stream.read_buf(&mut bytes).await {
                Ok(0) => return None,
                Ok(_) => {}
                Err(e) => return Some(e.kind()),
            }
        }
    };
    let by = timeout(Duration::from_secs(20), read).await.expect("a connection without an end");
    Ended { text: String::from_utf8_lossy(&bytes).into_owned(), by }
}

/// A request of HTTP/1.0 as nginx sends it.
fn of_old(api: Api, lines: &str, body: &str) -> String {
    format!(
        "POST {} HTTP/1.0\r\nHost: gateway\r\nConnection: close\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\n{lines}\r\n{body}",
        api.path()
    )
}

fn of_old_whole(api: Api, body: &Value) -> String {
    let body = body.to_string();
    of_old(api, &format!("Content-Length: {}\r\n", body.len()), &body)
}

/// E01: nginx speaks HTTP/1.0 to what is behind it unless it is told otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e01_http_1_0_is_served_without_chunks() {
    let fleet = fleet(1, json!({}), ordinary).await;
    for api in [Api::Chat, Api::Completions, Api::Responses, Api::Messages, Api::Embeddings] {
        for stream in [false, true] {
            let more = if api.form().streams { json!({ "stream": stream }) } else { json!({}) };
            let body = kit::shape::request(api, 8, more);
            let answer = exchange(&fleet.gateway, of_old_whole(api, &body)).await;

            let (head, rest) = answer.text.split_once("\r\n\r\n").unwrap();
            assert_eq!((answer.status(), answer.by), ("200", None), "{api:?}: {}", answer.text);
            assert!(!head.to_lowercase().contains("transfer-encoding"), "{api:?}: {head}");
            assert!(head.to_lowercase().contains("connection: close"), "{api:?}: {head}");
            if stream && api.form().streams {
                assert!(rest.starts_with("data:") || rest.starts_with("event:"), "{api:?}: {rest}");
            } else {
                assert!(head.contains("Content-Length: "), "{api:?}: {head}");
                serde_json::from_str::<Value>(rest).unwrap();
            }
        }
    }

    let list = format!("GET /v1/models HTTP/1.0\r\nAuthorization: Bearer {KEY}\r\n\r\n");
    let begun = engine::clock::now();
    let answer = exchange(&fleet.gateway, &list).await;
    assert_eq!(answer.status(), "200", "{}", answer.text);
    assert!((engine::clock::now() - begun) < SOON, "a connection of HTTP/1.0 ends with its answer");
    fleet.gateway.invariants().await;
}

/// E01: a client of HTTP/1.0 that asks for it keeps its connection, and is not sent `100 Continue`, which it does not know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e01_http_1_0_keeps_a_connection_when_asked() {
    let (gateway, _engine) = gateway_and_engine(PROGRAM).await;
    let mut raw = Raw::connect(gateway.address).await;
    for _ in 0..3 {
        let lines = "Connection: Keep-Alive\r\nExpect: 100-continue\r\n";
        let request = chat_request(KEY, lines, &ask(json!({})).to_string()).replace("HTTP/1.1", "HTTP/1.0");
        raw.send(request).await;
        let answer = raw.answer().await.expect("the connection ended");
        assert_eq!(answer.status, 200, "{}", answer.head);
        assert!(answer.head.contains("connection: keep-alive"), "{}", answer.head);
    }
}

/// E01, threat S1: what cannot be framed on HTTP/1.0 is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e01_http_1_0_without_a_length_is_refused() {
    let (gateway, engine) = gateway_and_engine(PROGRAM).await;
    let body = ask(json!({})).to_string();
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());

    let without = exchange(&gateway, of_old(Api::Chat, "", &body)).await;
    let chunked = exchange(&gateway, of_old(Api::Chat, "Transfer-Encoding: chunked\r\n", &chunks)).await;

    assert_eq!((without.status(), chunked.status()), ("400", "400"), "{} {}", without.text, chunked.text);
    assert!(without.text.contains("Content-Length"), "says what to do: {}", without.text);
    assert_eq!(engine.totals().requests, 0);
}

/// E01, T6: nothing but the end of its connection ends an answer over HTTP/1.0, so one that breaks off must not end as a
/// whole one does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e01_a_broken_answer_over_http_1_0_ends_with_a_reset() {
    let broken = |asked: &kit::hostile::Asked| {
        if asked.path.ends_with("/embeddings") {
            let text = format!("{{\"object\":\"list\",\"data\":[{}", "0.5,".repeat(200_000));
            return vec![Act::Whole(200, "application/json", text)];
        }
        let mut acts = vec![Act::Sse];
        acts.extend(kit::hostile::beginning(asked));
        acts.extend(kit::hostile::word(asked, "ebb"));
        acts.extend([Act::Pause(Duration::from_millis(100)), Act::Reset]);
        acts
    };
    let fleet = fleet(1, json!({}), broken).await;
    for api in [Api::Chat, Api::Completions, Api::Responses, Api::Messages] {
        let body = kit::shape::request(api, 8, json!({ "stream": true }));
        let answer = exchange(&fleet.gateway, of_old_whole(api, &body)).await;

        assert_eq!(answer.status(), "200", "{api:?}: {}", answer.text);
        assert!(answer.text.contains("ebb") && answer.text.contains("error"), "{api:?}: {}", answer.text);
        assert_eq!(answer.by, Some(ErrorKind::ConnectionReset), "{api:?} ended as a whole answer does");
    }
    let large = exchange(
        &fleet.gateway,
        of_old_whole(Api::Embeddings, &kit::shape::request(Api::Embeddings, 8, json!({}))),
    )
    .await;
    assert_eq!(
        (large.status(), large.by),
        ("200", Some(ErrorKind::ConnectionReset)),
        "an answer that is passed through"
    );
    fleet.gateway.invariants().await;
}

/// E01: the same over TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e01_a_broken_answer_over_http_1_0_and_tls_does_not_end_properly() {
    let engine = Hostile::start(|asked| {
        if !asked.has("break") {
            return ordinary(asked);
        }
        let mut acts = vec![Act::Sse];
        acts.extend(kit::hostile::beginning(asked));
        acts.extend(kit::hostile::word(asked, "ebb"));
        acts.extend([Act::Pause(Duration::from_millis(100)), Act::Reset]);
        acts
    })
    .await;
    let (gateway, _files) = over_tls(config([engine.url()])).await;
    for (user, ends) in [("whole", None), ("break", Some(()))] {
        let mut stream = tls::connect(gateway.address, &tls::FIRST, &[b"http/1.1"]).await.unwrap();
        let body = ask(json!({ "stream": true, "user": user }));
        stream.write_all(of_old_whole(Api::Chat, &body).as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert_eq!(answer.status(), "200", "{}", answer.text);
        assert_eq!(answer.by.map(|_| ()), ends, "{user}: {:?}: {}", answer.by, answer.text);
    }
}

/// A gateway that speaks TLS.
async fn over_tls(mut config: Value) -> (Gateway, Folder) {
    let folder = Folder::new();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    config["listen"]["tls"] = json!({
        "cert_file": write("tls.crt", tls::FIRST.certificate),
        "key_file": write("tls.key", tls::FIRST.key),
    });
    (Gateway::start(PROGRAM, &config).await, folder)
}

/// E11: who waits for `100 Continue` and will be refused is refused at once, and no body is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e11_a_refusal_does_not_wait_for_a_body_that_waits() {
    let (gateway, _engine) = gateway_and_engine(PROGRAM).await;
    let body = ask(json!({})).to_string();
    for (key, path, status) in [("tg-nobody", "/v1/chat/completions", 401), (KEY, "/v1/nothing", 404)] {
        let whole =
            chat_request(key, "Expect: 100-continue\r\n", &body).replace("/v1/chat/completions", path);
        let mut raw = Raw::connect(gateway.address).await;
        let begun = engine::clock::now();
        raw.send(&whole[..whole.len() - body.len()]).await;
        let answer = raw.answer().await.unwrap();
        assert_eq!(answer.status, status, "{path}");
        assert!(
            (engine::clock::now() - begun) < Duration::from_secs(2),
            "{path}: answered after {:?}",
            (engine::clock::now() - begun)
        );
        assert!(answer.head.contains("connection: close"), "{path}: {}", answer.head);
    }
}

/// E13: probes on the port for customers need no key and leave no trace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e13_probes_are_answered_without_a_key() {
    let (gateway, _engine) = gateway_and_engine(PROGRAM).await;
    let requests = || async {
        let page = gateway.admin("/metrics").await.text();
        let counted = page.lines().filter(|line| line.starts_with("tidegate_requests_total{"));
        counted.filter(|line| !line.ends_with(" 0")).count()
    };
    let before = requests().await;
    for path in ["/health", "/healthz", "/readyz", "/livez", "/ping", "/health?verbose=1"] {
        for method in ["GET", "HEAD"] {
            let mut request = get(path, None);
            *request.method_mut() = method.parse().unwrap();
            assert_eq!(send(gateway.address, request).await.status, 200, "{method} {path}");
        }
        let mut request = get(path, Some(KEY));
        *request.method_mut() = http::Method::DELETE;
        assert_eq!(send(gateway.address, request).await.status, 405, "{path}");
    }
    // The refused ones are told of, the probes are not.
    assert_eq!(gateway.log(6).await.len(), 6);
    assert_eq!(before, 0);
    gateway.invariants().await;
}

/// E13: readiness turns red while the process still takes connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e13_readiness_turns_red_on_the_way_out() {
    let engine = Hostile::start(ordinary).await;
    let mut config = config([engine.url()]);
    merge(&mut config["listen"], json!({ "shutdown": { "lame_duck_ms": 5_000 } }));
    let gateway = Gateway::start(PROGRAM, &config).await;

    gateway.signal("TERM");

    kit::eventually("red", || async {
        let answer = send(gateway.address, get("/readyz", None)).await;
        (answer.status == 503).then_some(())
    })
    .await;
    assert_eq!(send(gateway.address, get("/health", None)).await.status, 503);
    assert_eq!(send(gateway.address, get("/livez", None)).await.status, 200);
}

/// E15: a client that does not wait for answers gets its first, whatever it sends meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e15_the_first_of_many_requests_in_a_row_is_answered() {
    let (gateway, _engine) = gateway_and_engine(PROGRAM).await;
    for stream in [false, true] {
        for pause in [None, Some(Duration::from_millis(100))] {
            let body = ask(json!({ "user": "sim:delay=400ms", "stream": stream })).to_string();
            let one = chat_request(KEY, "", &body);
            let mut connection = TcpStream::connect(gateway.address).await.unwrap();
            connection.write_all(one.as_bytes()).await.unwrap();
            if let Some(pause) = pause {
                // Between the two writes is the case: the first alone, or all at once.
                tokio::time::sleep(pause).await;
            }
            connection.write_all(one.repeat(19).as_bytes()).await.unwrap();
            let answer = read_to_end(&mut connection).await;

            assert_eq!(answer.status(), "200", "stream {stream}, {pause:?}: {}", answer.text);
            let end = if stream { "data: [DONE]" } else { "\"usage\"" };
            assert!(answer.text.contains(end), "stream {stream}, {pause:?}: {}", answer.text);
        }
    }
    gateway.invariants().await;
}

/// E15, threat S1: framing that programs read differently is refused, and no engine sees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e15_framing_with_two_readings_is_refused() {
    let (gateway, engine) = gateway_and_engine(PROGRAM).await;
    let body = ask(json!({})).to_string();
    let n = body.len();
    let head = chat_request(KEY, "", "").split("Content-Length").next().unwrap().to_owned();
    let chunked = |chunks: &str| format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}");
    let coded = |lines: &str| format!("{head}{lines}\r\n{n:x}\r\n{body}\r\n0\r\n\r\n");
    let sized = |lines: &str| format!("{head}{lines}Content-Length: {n}\r\n\r\n{body}");
    let cases = [
        ("a bare LF in a chunk's extension", chunked(&format!("{n:x};a\n{body}\r\n0\r\n\r\n")), &[400][..]),
        ("a bare LF behind a chunk's size", chunked(&format!("{n:x}\n{body}\r\n0\r\n\r\n")), &[400]),
        ("a bare LF behind a chunk", chunked(&format!("{n:x}\r\n{body}\n0\r\n\r\n")), &[400]),
        ("a bare LF at the end", chunked(&format!("{n:x}\r\n{body}\r\n0\r\n\n")), &[400]),
        ("a trailer without a colon", chunked(&format!("{n:x}\r\n{body}\r\n0\r\nX-A b\r\n\r\n")), &[400]),
        (
            "a request line as a trailer",
            chunked(&format!("{n:x}\r\n{body}\r\n0\r\nGET / HTTP/1.1\r\n\r\n")),
            &[400],
        ),
        ("a folded trailer", chunked(&format!("{n:x}\r\n{body}\r\n0\r\nX-A: b\r\n c\r\n\r\n")), &[400]),
        (
            "a chunk that is longer than it says",
            chunked(&format!("{:x}\r\n{body}\r\n0\r\n\r\n", n - 1)),
            &[400],
        ),
        ("identity", coded("Transfer-Encoding: identity\r\n"), &[400, 501]),
        ("identity before chunked", coded("Transfer-Encoding: identity, chunked\r\n"), &[400, 501]),
        ("gzip before chunked", coded("Transfer-Encoding: gzip, chunked\r\n"), &[400, 501]),
        (
            "gzip in a line of its own",
            coded("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
            &[400, 501],
        ),
        ("chunked twice", coded("Transfer-Encoding: chunked, chunked\r\n"), &[400]),
        ("a bare LF behind a header", sized("X-A: b\n"), &[400]),
        ("a bare CR in a header", sized("X-A: b\rX-B: c\r\n"), &[400]),
        ("the same length twice", sized(&format!("Content-Length: {n}\r\n")), &[400]),
        ("a bare LF at the head's end", sized("").replacen("\r\n\r\n", "\r\n\n", 1), &[400]),
    ];
    for (what, bytes, statuses) in cases {
        let answer = exchange(&gateway, bytes + "GET /v1/models HTTP/1.1\r\nHost: g\r\n\r\n").await;
        let status: u16 = answer.status().parse().unwrap_or(0);
        assert!(statuses.contains(&status), "{what}: {}", answer.text);
        assert_eq!(answer.text.matches("HTTP/1.1 ").count(), 1, "{what}: {}", answer.text);
    }
    assert_eq!(engine.totals().requests, 0);

    let letter = chunked(&format!("{n:X};a=\"b\"\r\n{body}\r\n00\r\nX-A: b\r\n\r\n"));
    let served = exchange(&gateway, letter).await;
    assert_eq!(served.status(), "200", "{}", served.text);
    gateway.invariants().await;
}

/// E16: an engine that speaks Anthropic's API sees what its clients ask of it; proxies on the way do not gather a stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e16_anthropics_headers_reach_the_engine() {
    let fleet = fleet(1, json!({}), ordinary).await;
    for api in [Api::Messages, Api::Chat] {
        let mut request =
            post_to(api.path(), &kit::shape::request(api, 8, json!({ "stream": true })), Some(KEY));
        let headers = request.headers_mut();
        headers.insert("anthropic-version", "2023-06-01".parse().unwrap());
        headers.append("anthropic-beta", "a-2025-01-01,b-2025-02-02".parse().unwrap());
        headers.append("anthropic-beta", "c-2025-03-03".parse().unwrap());
        headers.insert("anthropic-organization", "mine".parse().unwrap());
        let answer = send(fleet.gateway.address, request).await;

        assert_eq!((answer.status, answer.header("x-accel-buffering")), (200, "no"), "{api:?}");
        let asked = fleet.engines[0].asked().pop().unwrap();
        let all = |name: &str| -> Vec<&str> {
            asked.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| &**value).collect()
        };
        let passed = (all("anthropic-version"), all("anthropic-beta"));
        let expected = match api {
            Api::Messages => (vec!["2023-06-01"], vec!["a-2025-01-01,b-2025-02-02", "c-2025-03-03"]),
            _ => (vec![], vec![]),
        };
        assert_eq!(passed, expected, "{api:?}");
        assert!(all("anthropic-organization").is_empty(), "{api:?}");
    }
}

/// Decided: compressed bodies are not read, numbers are numbers, and a key alone in `Authorization` is none. Each refusal
/// says what to send instead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_decided_is_refused_with_what_to_do() {
    let (gateway, engine) = gateway_and_engine(PROGRAM).await;
    let coded = |coding: &'static str| {
        let mut request = post(&ask(json!({})), Some(KEY));
        request.headers_mut().insert("content-encoding", coding.parse().unwrap());
        request
    };
    let plain_key = {
        let mut request = post(&ask(json!({})), None);
        request.headers_mut().insert("authorization", KEY.parse().unwrap());
        request
    };
    let cases = [
        (coded("zstd"), 415, "without `Content-Encoding`"),
        (coded("gzip"), 415, "without `Content-Encoding`"),
        (post(&ask(json!({ "max_tokens": "8" })), Some(KEY)), 400, "`max_tokens`"),
        (post(&ask(json!({ "max_tokens": 8.0 })), Some(KEY)), 400, "`max_tokens`"),
        (plain_key, 401, "`Bearer KEY`"),
    ];
    for (request, status, words) in cases {
        let answer = send(gateway.address, request).await;
        assert_eq!(answer.status, status, "{words}: {}", answer.text());
        assert!(answer.message().contains(words), "{}", answer.message());
    }
    assert_eq!(engine.totals().requests, 0);
}

/// Decided: a client that ends its sending half is gone. It cannot be told from one that left, and its place is free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_ends_its_sending_half_is_gone() {
    let (gateway, _engine) = gateway_and_engine(PROGRAM).await;
    let body = ask(json!({ "user": "sim:delay=3s" })).to_string();
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(chat_request(KEY, "", &body).as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();

    let begun = engine::clock::now();
    let answer = read_to_end(&mut stream).await;
    assert_eq!(answer.text, "");
    assert!((engine::clock::now() - begun) < Duration::from_secs(2), "it was answered");
    assert_eq!(gateway.log(1).await[0]["status"], 499);
    gateway.invariants().await;
}

/// Over HTTP/2 a refusal before the body's end is whole, and what resets the stream after it says that nothing is wrong: a
/// client that took it for a failure would lose the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_before_the_end_of_the_body_is_whole_over_http_2() {
    let engine = Hostile::start(ordinary).await;
    let (gateway, _files) = over_tls(config([engine.url()])).await;
    let stream = tls::connect(gateway.address, &tls::FIRST, &[b"h2"]).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    let driven = tokio::spawn(connection);
    let request =
        Request::post("https://gateway.test/v1/chat/completions").header("authorization", "Bearer tg-nobody");
    let request = request.header("content-type", "application/json").body(()).unwrap();
    sender = sender.ready().await.unwrap();
    let (answer, mut body) = sender.send_request(request, false).unwrap();
    // The refusal may be here already: then there is no stream to send on.
    let _ = body.send_data(bytes::Bytes::from_static(b"{\"model\":"), false);

    let answer = timeout(SOON, answer).await.expect("no answer").unwrap();
    assert_eq!(answer.status(), 401);
    let mut told = answer.into_body();
    let mut text = Vec::new();
    while let Some(piece) = told.data().await {
        text.extend_from_slice(&piece.expect("the answer was cut off"));
    }
    assert_eq!(serde_json::from_slice::<Value>(&text).unwrap()["error"]["code"], "invalid_api_key");
    let reason = timeout(SOON, std::future::poll_fn(|context| body.poll_reset(context))).await;
    assert_eq!(reason.expect("the stream was left open").unwrap(), h2::Reason::NO_ERROR);
    driven.abort();
}
