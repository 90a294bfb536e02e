//! Every refusal tells what it is in each of the ways in which clients look for it, and costs little.

use crate::PROGRAM;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use kit::base_config::{STRICT_KEY, account, budget, merge};
use kit::client::{Answer, Connection, get, post};
use kit::raw::{Raw, chat_request};
use kit::{Gateway, KEY, ask, config, engine, gateway_and_engine};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::Duration;

/// What a refusal must say: status, `error.type`, `error.code`, `x-tidegate-reason`.
pub(crate) type Told = (u16, &'static str, &'static str, &'static str);

/// Asserts everything that holds for each refusal.
#[track_caller]
pub(crate) fn assert_told(what: &str, answer: &Answer, told: Told) {
    let (status, kind, code, reason) = told;
    assert_eq!(answer.verdict(), (status, reason), "{what}: {}", answer.text());
    let error = &answer.json()["error"];
    assert_eq!((&error["type"], &error["code"]), (&json!(kind), &json!(code)), "{what}");
    assert!(error.as_object().unwrap().contains_key("param"), "{what}: SDKs read `param`, null or not");
    let message = error["message"].as_str().unwrap();
    assert!(message.len() > 10 && message.ends_with(['.', '`']), "{what}: no sentence: {message:?}");
    assert_eq!(message.starts_with("Service Overloaded"), status == 503, "{what}: {message}");
    assert_eq!(answer.header("content-type"), "application/json", "{what}");
    assert!(answer.header("x-request-id").len() >= 16, "{what}: {:?}", answer.headers);
    assert_eq!(answer.header("x-request-id"), answer.header("request-id"), "{what}");
    assert_retry_advice(what, answer);
}

/// On 429 and 503, and nowhere else: a time of a minute at most in both units and `true`, or `false` with a longer time or
/// none.
#[track_caller]
fn assert_retry_advice(what: &str, answer: &Answer) {
    let [ms, s, again] = ["retry-after-ms", "retry-after", "x-should-retry"].map(|name| answer.header(name));
    match (answer.status, again) {
        (429 | 503, "true") => {
            let (ms, s): (u64, u64) = (ms.parse().unwrap(), s.parse().unwrap());
            assert!((1..=60).contains(&s) && s == ms.div_ceil(1000), "{what}: {ms} ms, {s} s");
        }
        (429, "false") if !ms.is_empty() => {
            let (ms, s): (u64, u64) = (ms.parse().unwrap(), s.parse().unwrap());
            assert!(ms > 60_000 && s == ms.div_ceil(1000), "{what}: {ms} ms, {s} s");
        }
        (429 | 503, _) => assert_eq!((ms, s, again), ("", "", "false"), "{what}"),
        _ => assert_eq!((ms, s, again), ("", "", ""), "{what}"),
    }
    assert_eq!(answer.header("x-ratelimit-over-limit") == "yes", answer.status == 429, "{what}");
}

const BAD: Told = (400, "invalid_request_error", "bad_request", "bad-request");
const NO_KEY: Told = (401, "invalid_request_error", "invalid_api_key", "unauthenticated");
const MEDIA: Told = (415, "invalid_request_error", "unsupported_media_type", "bad-request");

type Case = (&'static str, Request<Full<Bytes>>, Told);

/// A chat request with the key of `acme` and the body `text`.
fn with_text(text: &str) -> Request<Full<Bytes>> {
    let mut request = post(&json!(null), Some(KEY));
    *request.body_mut() = Full::new(Bytes::copy_from_slice(text.as_bytes()));
    request
}

fn with_header(name: &'static str, value: &str) -> Request<Full<Bytes>> {
    let mut request = post(&ask(json!({})), Some(KEY));
    request.headers_mut().append(name, value.parse().unwrap());
    request
}

fn with_method(method: &str, mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    *request.method_mut() = method.parse().unwrap();
    request
}

fn with_body(more: Value) -> Request<Full<Bytes>> {
    post(&ask(more), Some(KEY))
}

/// Refusals of what is in the head.
fn cases_of_heads() -> Vec<Case> {
    let text_plain = {
        let mut request = post(&ask(json!({})), Some(KEY));
        request.headers_mut().insert("content-type", "text/plain".parse().unwrap());
        request
    };
    let digest = config::keys::Digest::of(KEY).to_string();
    let method: Told = (405, "invalid_request_error", "method_not_allowed", "bad-request");
    let path: Told = (404, "invalid_request_error", "not_found", "not-found");
    vec![
        ("no key", post(&ask(json!({})), None), NO_KEY),
        ("an unknown key", post(&ask(json!({})), Some("tg-nobody")), NO_KEY),
        ("a stored digest as a key", post(&ask(json!({})), Some(&digest)), NO_KEY),
        ("two keys", with_header("x-api-key", STRICT_KEY), BAD),
        ("two headers", with_header("authorization", &format!("Bearer {STRICT_KEY}")), BAD),
        ("GET on a POST path", get("/v1/chat/completions", Some(KEY)), method),
        ("DELETE", with_method("DELETE", with_body(json!({}))), method),
        ("POST on a GET path", with_method("POST", get("/v1/models", Some(KEY))), method),
        ("an unknown path", get("/v1/nothing", Some(KEY)), path),
        ("a path of the admin listener", get("/metrics", Some(KEY)), path),
        ("a compressed body", with_header("content-encoding", "gzip"), MEDIA),
        ("another type", text_plain, MEDIA),
        ("a deadline that is no number", with_header("x-tidegate-ttft-deadline-ms", "-1"), BAD),
    ]
}

/// Refusals of what is in the body.
fn cases_of_bodies() -> Vec<Case> {
    let duplicate = r#"{"model":"sim","model":"sim","messages":[]}"#;
    let hidden = r#"{"model":"sim","\u006dodel":"other-model","messages":[]}"#;
    let capital = r#"{"model":"sim","Model":"other-model","messages":[]}"#;
    let twice = r#"{"model":"sim","messages":[],"stream":true,"stream":false}"#;
    let max_twice = r#"{"model":"sim","messages":[],"max_tokens":1,"max_tokens":100000}"#;
    let unknown: Told = (404, "invalid_request_error", "model_not_found", "not-found");
    let too_long: Told = (400, "invalid_request_error", "context_length_exceeded", "context-too-long");
    let long = json!([{ "role": "user", "content": "word ".repeat(20_000) }]);
    let forbidden: Told = (403, "permission_error", "tier_not_allowed", "forbidden");
    let strict = |more| post(&ask(more), Some(STRICT_KEY));
    vec![
        ("no JSON", with_text("{\"model\":"), BAD),
        ("an array", with_text("[]"), BAD),
        ("an empty body", with_text(""), BAD),
        ("two BOMs", with_text("\u{feff}\u{feff}{\"model\":\"sim\",\"messages\":[]}"), BAD),
        ("NaN", with_text(r#"{"model":"sim","messages":[],"temperature":NaN}"#), BAD),
        ("a model twice", with_text(duplicate), BAD),
        ("a model twice, once escaped", with_text(hidden), BAD),
        ("a model twice, but for its case", with_text(capital), BAD),
        ("stream twice", with_text(twice), BAD),
        ("max_tokens twice", with_text(max_twice), BAD),
        ("no model", with_text(r#"{"messages":[]}"#), BAD),
        ("no messages", with_text(r#"{"model":"sim"}"#), BAD),
        ("no choices", with_body(json!({ "n": 0 })), BAD),
        ("a fraction of a token", with_body(json!({ "max_tokens": 1.5 })), BAD),
        ("stream options without a stream", with_body(json!({ "stream_options": {} })), BAD),
        ("depth 65", with_text(&nested(65)), BAD),
        ("an unknown model", with_body(json!({ "model": "nobody" })), unknown),
        ("a prompt over the window", with_body(json!({ "model": "short", "messages": long })), too_long),
        ("a model of others", strict(json!({ "model": "other-model" })), unknown),
        ("a tier of others", strict(json!({ "service_tier": "priority" })), forbidden),
    ]
}

/// A chat request that nests `depth` levels deep.
fn nested(depth: usize) -> String {
    let arrays = depth - 1;
    let (open, close) = ("[".repeat(arrays), "]".repeat(arrays));
    format!(
        r#"{{"model":"sim","messages":[{{"role":"user","content":"hi"}}],"max_tokens":1,"x":{open}{close}}}"#
    )
}

/// The default config with a model of a short window.
async fn gateway_with_a_short_model() -> (Gateway, engine::server::EngineServer) {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    let models = config["models"].as_array_mut().unwrap();
    models.push(json!({ "name": "short", "deployments": ["sim"], "size_class": "small", "context": 1000, "vocabulary": "cl100k_base" }));
    (Gateway::start(PROGRAM, &config).await, engine)
}

/// The contract of refusals: one connection for each, told in every way that clients read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refusal_says_what_it_is_in_every_way() {
    let (gateway, engine) = gateway_with_a_short_model().await;
    let mut ids = HashSet::new();

    let cases: Vec<Case> = cases_of_heads().into_iter().chain(cases_of_bodies()).collect();
    let count = cases.len();
    for (what, request, told) in cases {
        let answer = Connection::open(gateway.address).await.send(request).await;
        assert_told(what, &answer, told);
        ids.insert(answer.header("x-request-id").to_owned());
        if told.0 == 405 {
            assert!(["GET, HEAD", "POST"].contains(&answer.header("allow")), "{what}");
        }
        assert_eq!(answer.header("www-authenticate") == "Bearer", told.0 == 401, "{what}");
    }

    assert_eq!(ids.len(), count, "an id was used twice");
    assert_eq!(engine.totals().requests, 0, "nothing of this is an engine's business");
    gateway.invariants().await;
}

/// The same on one connection: none of these refusals costs the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_of_small_requests_keep_the_connection() {
    let (gateway, _engine) = gateway_with_a_short_model().await;
    let mut connection = Connection::open(gateway.address).await;
    // What makes the head itself ambiguous ends the connection on purpose.
    let ends = ["a compressed body", "another type", "a deadline that is no number"];

    let cases = cases_of_heads().into_iter().chain(cases_of_bodies());
    for (what, request, told) in cases.filter(|(what, ..)| !ends.contains(what)) {
        let answer = match connection.begin(request).await {
            Ok(begun) => begun.whole().await,
            Err(e) => panic!("the connection ended before {what}: {e}"),
        };
        assert_eq!(answer.status, told.0, "{what}");
    }

    let served = connection.send(post(&ask(json!({})), Some(KEY))).await;
    assert_eq!(served.status, 200, "{}", served.text());
}

/// The limit headers are on every answer from the point on where account and model are known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_told_as_soon_as_account_and_model_are_known() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    let generated = account("small", "tg-small", json!({ "limits": [budget(1_000_000, 1_000_000, 7)] }));
    config["accounts"].as_array_mut().unwrap().push(generated);
    config["models"][0]["context"] = json!(64);
    config["models"][0]["vocabulary"] = json!("cl100k_base");
    let gateway = Gateway::start(PROGRAM, &config).await;

    let served = gateway.chat_as("tg-small", &ask(json!({ "max_tokens": 1 }))).await;
    let over_budget = gateway.chat_as("tg-small", &ask(json!({ "max_tokens": 100 }))).await;
    let long = json!([{ "role": "user", "content": "The tide is high. ".repeat(100) }]);
    let too_long = gateway.chat_as("tg-small", &ask(json!({ "messages": long, "max_tokens": 1 }))).await;
    let no_tier = gateway.chat_as(STRICT_KEY, &ask(json!({ "service_tier": "priority" }))).await;
    let no_model = gateway.chat(&ask(json!({ "model": "nobody" }))).await;
    let no_key = gateway.chat_as("tg-nobody", &ask(json!({}))).await;

    let statuses = [&served, &over_budget, &too_long, &no_tier].map(|answer| answer.status);
    assert_eq!(statuses, [200, 429, 400, 403], "{}", too_long.text());
    for known in [&served, &over_budget, &too_long] {
        assert_eq!(known.header("x-ratelimit-limit-tokens-prompt"), (1_000_000 / 60).to_string());
    }
    for known in [&served, &over_budget, &too_long, &no_tier] {
        for meter in ["prompt", "cache-adjusted-prompt", "generated"] {
            assert_ne!(known.header(&format!("x-ratelimit-limit-tokens-{meter}")), "", "{meter}");
            assert_ne!(known.header(&format!("x-ratelimit-remaining-tokens-{meter}")), "", "{meter}");
        }
        assert!(known.header("ratelimit").starts_with("\"prompt\";r="), "{:?}", known.headers);
        assert!(known.header("ratelimit-policy").starts_with("\"prompt\";q="), "{:?}", known.headers);
    }
    for unknown in [&no_model, &no_key] {
        assert_eq!(unknown.header("ratelimit"), "", "{}", unknown.text());
    }
}

/// Budgets: each meter refuses under its own name, and what can never fit is not to be retried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_meter_refuses_in_its_own_name() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    let plenty = 1_000_000;
    let limits = |limits: Value| json!({ "limits": [limits] });
    let cases = [
        ("prompt_tokens_limited", limits(budget(4, plenty, plenty))),
        ("uncached_prompt_tokens_limited", limits(budget(plenty, 4, plenty))),
        ("generated_tokens_limited", limits(budget(plenty, plenty, 4))),
        ("requests_limited", json!({ "requests_per_minute": 1 })),
        ("concurrency_limited", json!({ "concurrency": 1 })),
    ];
    for (code, more) in &cases {
        let accounts = config["accounts"].as_array_mut().unwrap();
        accounts.push(account(code, &format!("tg-{code}"), more.clone()));
    }
    let gateway = Gateway::start(PROGRAM, &config).await;

    for (code, _) in cases {
        let key = format!("tg-{code}");
        let mut held = Connection::open(gateway.address).await;
        // Takes the only request of the minute, or the only place; the others can never fit at all.
        let fault = json!({ "user": "sim:hang=1", "stream": true });
        let first = held.begin(post(&ask(fault), Some(&key))).await.unwrap();
        let refused = gateway.chat_as(&key, &ask(json!({}))).await;

        assert_told(code, &refused, (429, "rate_limit_error", code, code));
        let never = code.contains("prompt");
        assert_eq!(first.status, if never { 429 } else { 200 }, "{code}");
        if never {
            assert_eq!(refused.header("x-should-retry"), "false", "{code}: it can never fit");
        }
        if code.ends_with("tokens_limited") {
            let message = refused.message();
            assert!(message.contains("limit of 4 ") && message.contains("asked"), "{message}");
        }
        // A time is told in the headers or not at all.
        let told = refused.message().contains("`retry-after`");
        assert!(!told || !refused.header("retry-after").is_empty(), "{}", refused.message());
        drop(held);
    }
    gateway.invariants().await;
}

/// A body over the limit is refused by its length alone, or where it grows over it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_the_limit_is_too_large_announced_or_not() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    merge(&mut config["listen"], json!({ "limits": { "body_bytes": 100_000 } }));
    let gateway = Gateway::start(PROGRAM, &config).await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\n"
    );

    let mut announced = Raw::connect(gateway.address).await;
    announced.send(format!("{head}Content-Length: 100001\r\n\r\n")).await;
    let mut grown = Raw::connect(gateway.address).await;
    grown.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n")).await;
    for _ in 0..11 {
        grown.send(format!("2710\r\n{}\r\n", " ".repeat(10_000))).await;
    }

    for (what, raw) in [("announced", &mut announced), ("grown", &mut grown)] {
        let answer = raw.answer().await.unwrap_or_else(|| panic!("{what}: no answer"));
        assert_eq!(answer.status, 413, "{what}");
        assert!(answer.head.contains("x-tidegate-reason: too-large"), "{what}: {}", answer.head);
        assert!(raw.ends_within(Duration::from_secs(10)).await, "{what}");
    }
    gateway.invariants().await;
}

/// Slow heads and slow bodies get 408, each by its own deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_and_bodies_are_told_so() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    merge(&mut config["listen"], json!({ "limits": { "header_ms": 300, "body_ms": 300 } }));
    let gateway = Gateway::start(PROGRAM, &config).await;
    let whole = chat_request(KEY, "", &ask(json!({})).to_string());

    let mut head = Raw::connect(gateway.address).await;
    head.send(&whole[..40]).await;
    let mut body = Raw::connect(gateway.address).await;
    body.send(&whole[..whole.len() - 1]).await;

    for (what, raw) in [("head", &mut head), ("body", &mut body)] {
        let answer = raw.answer().await.unwrap_or_else(|| panic!("{what}: no answer"));
        assert_eq!(answer.status, 408, "{what}");
        assert!(answer.head.contains("x-tidegate-reason: bad-request"), "{what}: {}", answer.head);
        let error: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(error["error"]["code"], "request_timeout", "{what}");
        assert!(raw.ends_within(Duration::from_secs(10)).await, "{what}");
    }
    gateway.invariants().await;
}

/// Threat S5: who has no key does not get to upload.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_s5_an_upload_without_a_key_is_hardly_read() {
    let (gateway, _engine) = gateway_and_engine(PROGRAM).await;
    let small = chat_request("tg-nobody", "", &ask(json!({})).to_string());
    let mut raw = Raw::connect(gateway.address).await;
    let before = gateway.bytes_read();

    // A small body is read away, and the connection serves the next request.
    raw.send(&small).await;
    assert_eq!(raw.answer().await.unwrap().status, 401);
    raw.send(chat_request(KEY, "", &ask(json!({})).to_string())).await;
    assert_eq!(raw.answer().await.unwrap().status, 200);

    // A large one is answered at once and not waited for.
    raw.send("POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\n").await;
    raw.send("Content-Length: 33554432\r\n\r\n").await;
    let upload = async {
        for _ in 0..512 {
            raw.send(vec![b' '; 64 << 10]).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), upload).await;
    assert!(raw.ends_within(Duration::from_secs(10)).await);
    let read = gateway.bytes_read() - before;
    assert!(read <= 128 << 10, "{read} bytes were read of clients that showed no key");
}
