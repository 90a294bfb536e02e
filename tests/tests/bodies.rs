//! Request bodies reach the engine as they were sent, whatever their size and framing, and nothing else does.

use crate::PROGRAM;
use kit::client::{Connection, post};
use kit::raw::{Raw, chat_request};
use kit::recorder::Recorder;
use kit::{Gateway, KEY, ask, config};
use serde_json::{Value, json};

/// A body of exactly `bytes` bytes.
fn body_of(bytes: usize, stream: bool) -> String {
    let frame = |content: &str| {
        format!(
            r#"{{ "messages":[{{"role":"user","content":"{content}"}}],  "model" : "sim", "stream":{stream}, "x":1.00 }}"#
        )
    };
    let filler = bytes - frame("").len();
    // Words, not one run: with escapes and characters of several bytes at uneven places.
    let words = "the tide \\u00e9 turns \\\"now\\\" ü ";
    let mut content = words.repeat(filler / words.len());
    content.extend(std::iter::repeat_n('z', filler - content.len()));
    let body = frame(&content);
    assert_eq!(body.len(), bytes);
    body
}

/// The same body in chunks of uneven sizes.
fn chunked(body: &str) -> Vec<u8> {
    let mut framed = Vec::with_capacity(body.len() + body.len() / 100);
    let mut rest = body.as_bytes();
    let mut size = 1;
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(size.min(rest.len()));
        framed.extend_from_slice(format!("{:X}\r\n", piece.len()).as_bytes());
        framed.extend_from_slice(piece);
        framed.extend_from_slice(b"\r\n");
        rest = tail;
        size = (size * 3 + 7) % 70_001 + 1;
    }
    framed.extend_from_slice(b"0\r\n\r\n");
    framed
}

/// What must arrive: what was sent, and on streams the wish for usage.
fn expected(body: &str, stream: bool) -> String {
    let usage = r#"{"stream_options":{"include_usage":true},"#;
    if stream { body.replacen('{', usage, 1) } else { body.to_owned() }
}

/// Pin P1: bodies around the framework's 64 KiB and far above it, with both framings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pin_p1_bodies_of_any_size_reach_the_engine_byte_for_byte() {
    let engine = Recorder::start().await;
    let gateway = Gateway::start(PROGRAM, &config([engine.url()])).await;

    for bytes in [200, 65_535, 65_536, 65_537, 1 << 20, 20 << 20] {
        for stream in [false, true] {
            let body = body_of(bytes, stream);
            let by_length = chat_request(KEY, "", &body);
            let mut raw = Raw::connect(gateway.address).await;
            raw.send(&by_length).await;
            let (status, _) = raw.head().await.unwrap();
            assert_eq!(status, 200, "{bytes} bytes by length, stream {stream}");

            let mut raw = Raw::connect(gateway.address).await;
            let head = by_length.split("Content-Length").next().unwrap();
            raw.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n")).await;
            raw.send(chunked(&body)).await;
            let (status, _) = raw.head().await.unwrap();
            assert_eq!(status, 200, "{bytes} bytes in chunks, stream {stream}");

            let arrived = engine.take();
            assert_eq!(arrived.len(), 2);
            for request in arrived {
                let same = request.body == expected(&body, stream).as_bytes();
                assert!(same, "{bytes} bytes, stream {stream}: {} arrived, changed", request.body.len());
                assert_eq!(request.headers["content-length"], request.body.len().to_string());
            }
        }
    }
    gateway.invariants().await;
}

/// A model that the engines know under another name is renamed both ways, and nothing else is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_sees_its_own_name_of_the_model_and_the_client_the_one_it_asked_for() {
    let engine = Recorder::start().await;
    let mut config = config([engine.url()]);
    config["models"][0]["served_model"] = json!("vendor/sim-8b");
    config["models"][0]["aliases"] = json!(["nick"]);
    let gateway = Gateway::start(PROGRAM, &config).await;

    for name in ["sim", "nick"] {
        let sent = ask(json!({ "model": name }));
        let answer = gateway.chat(&sent).await;

        assert_eq!(answer.json()["model"], name);
        let arrived = engine.take().remove(0).body;
        let expected = sent.to_string().replace(&format!("\"{name}\""), "\"vendor/sim-8b\"");
        assert_eq!(String::from_utf8_lossy(&arrived), expected);
    }
}

/// `parameters.default` where the client says nothing, `parameters.set` whatever it says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_gets_the_values_that_its_deployment_writes() {
    let engine = Recorder::start().await;
    let mut config = config([engine.url()]);
    config["deployments"][0]["parameters"] = json!({
        "default": [{ "parameter": "temperature", "json": "0.5" }, { "parameter": "max_tokens", "json": "64" }],
        "set": [{ "parameter": "chat_template_kwargs", "json": "{\"enable_thinking\": false}" }],
    });
    let gateway = Gateway::start(PROGRAM, &config).await;

    for (more, temperature) in [(json!({}), 0.5), (json!({ "temperature": 1.5 }), 1.5)] {
        let mut sent = ask(json!({ "chat_template_kwargs": { "enable_thinking": true } }));
        kit::base_config::merge(&mut sent, more);
        assert_eq!(gateway.chat(&sent).await.status, 200);

        let arrived: Value = serde_json::from_slice(&engine.take().remove(0).body).unwrap();
        assert_eq!(arrived["temperature"], temperature);
        assert_eq!(arrived["chat_template_kwargs"], json!({ "enable_thinking": false }));
        assert_eq!(arrived["max_tokens"], 8, "the client's own");
    }
    gateway.invariants().await;
}

/// Threats S2 and S17: an engine sees our headers only, and a client none of the engine's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_s2_no_header_of_a_client_reaches_an_engine() {
    let engine = Recorder::start().await;
    let gateway = Gateway::start(PROGRAM, &config([engine.url()])).await;
    let spoofs = "X-Tier: priority\r\nX_Account: other\r\nX-Forwarded-For: 1.2.3.4\r\nX-Sim-Fault: status=503\r\n\
                  Cookie: secret=1\r\nConnection: keep-alive, x-request-id\r\nX-Request-Id: mine\r\nTE: trailers\r\n\
                  Upgrade: websocket\r\nX-Priority: 0\r\n";
    let mut raw = Raw::connect(gateway.address).await;

    raw.send(chat_request(KEY, spoofs, &ask(json!({})).to_string())).await;
    let answer = raw.answer().await.unwrap();

    assert_eq!(answer.status, 200, "{}", answer.head);
    let request = engine.take().remove(0);
    let mut names: Vec<&str> = request.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    let ours =
        ["accept", "accept-encoding", "content-length", "content-type", "host", "user-agent", "x-request-id"];
    assert_eq!(names, ours);
    assert_eq!(request.path, "/v1/chat/completions");
    assert_ne!(request.headers["x-request-id"], "mine");
    assert!(!format!("{:?}", request.headers).contains(KEY), "the client's key reached the engine");
    let served: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(served["service_tier"], "default", "a header bought priority");
}

/// Nesting up to the bound passes, whatever else the body holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_members_pass_as_they_are() {
    let engine = Recorder::start().await;
    let gateway = Gateway::start(PROGRAM, &config([engine.url()])).await;
    let deep = "[".repeat(63) + &"]".repeat(63);
    let body = format!(
        r#"{{"model":"sim","messages":[{{"role":"user","content":"hi"}}],"deep":{deep},"x":1e400,"y":"\ud83c\udf0a","api_base":"http://127.0.0.1:1"}}"#
    );
    let mut request = post(&json!(null), Some(KEY));
    *request.body_mut() = http_body_util::Full::new(body.clone().into());

    let answer = Connection::open(gateway.address).await.send(request).await;

    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(String::from_utf8_lossy(&engine.take().remove(0).body), body);
}
