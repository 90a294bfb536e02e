//! Streams that break and engines that answer absurdly, in every API's shape.

use crate::PROGRAM;
use engine::text::expected_text;
use kit::base_config::merge;
use kit::client::{Answer, post_to, send};
use kit::shape::{POOLED, STREAMED, read, request};
use kit::{Gateway, KEY, config, engine, gateway_and_engine};
use protocol::api::Api;
use serde_json::{Value, json};
use tokio::task::JoinSet;

async fn stream(gateway: &Gateway, api: Api, tokens: u32, more: Value) -> Answer {
    let mut body = request(api, tokens, json!({ "stream": api.form().streams, "seed": 5 }));
    merge(&mut body, more);
    send(gateway.address, post_to(api.path(), &body, Some(KEY))).await
}

/// T6, report L1: however a stream breaks, a client of its API can tell: by an error event of the API's own, by an end
/// that is none, and because the event that ends a whole stream never came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t6_report_l1_broken_streams_of_every_shape_are_visibly_broken() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    merge(&mut config["deployments"][0], json!({ "timeouts": { "between_tokens_ms": 300 } }));
    let gateway = std::sync::Arc::new(Gateway::start(PROGRAM, &config).await);
    let mut running = JoinSet::new();
    for nth in 0..160_usize {
        let api = STREAMED[nth % STREAMED.len()];
        let after = 1 + nth / 20 % 8;
        let way = ["cut", "reset", "stream-error", "hang", "ends"][nth / 4 % 5];
        let fault = format!("sim:{way}={after}");
        let gateway = std::sync::Arc::clone(&gateway);
        running.spawn(async move {
            let answer = stream(&gateway, api, 12, json!({ "user": fault })).await;
            (api, way, answer)
        });
    }
    while let Some(done) = running.join_next().await {
        let (api, way, answer) = done.unwrap();
        let what = format!("{api:?}, {way}: {}", answer.text());
        let read = read(api, &answer);
        assert_eq!(answer.status, 200, "{what}");
        assert!(!read.text.is_empty(), "nothing came before: {what}");
        assert!(!read.whole && !answer.clean, "it looks whole: {what}");
        let error = read.error.unwrap_or_else(|| panic!("no error event: {what}"));
        match api {
            Api::Messages => {
                assert_eq!(read.names.last().map(String::as_str), Some("error"), "{what}");
                assert_eq!(error["type"], "api_error", "{what}");
            }
            Api::Responses => {
                assert_eq!(read.names.last().map(String::as_str), Some("error"), "{what}");
                let code = if way == "hang" { "upstream_timeout" } else { "upstream_error" };
                assert_eq!(error["code"], code, "{what}");
                assert!(error["sequence_number"].as_u64().is_some_and(|number| number > 4), "{what}");
            }
            _ => assert!(error["message"].is_string(), "{what}"),
        }
    }
    assert_eq!(engine.totals().requests, 160, "nothing that had begun was sent again");
    gateway.invariants().await;
}

/// An overload that hides in the first event of a stream becomes a status, whichever words the API has for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overload_in_the_first_event_becomes_a_status_in_every_shape() {
    let (gateway, _engine) = gateway_and_engine(PROGRAM).await;
    for api in STREAMED {
        for fault in ["sim:stream-error=0", "sim:stream-error=0,error-code=429"] {
            let answer = stream(&gateway, api, 8, json!({ "user": fault })).await;
            assert_eq!(answer.status, 503, "{api:?}, {fault}: {}", answer.text());
        }
    }
    gateway.invariants().await;
}

/// What is odd but whole passes whole, and the text is the engine's, byte for byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_answers_that_are_whole_pass_whole_in_every_shape() {
    let (gateway, _engine) = gateway_and_engine(PROGRAM).await;
    for api in STREAMED {
        for fault in
            ["split-utf8", "garbage", "after-done", "no-usage", "role-in-first", "wrong-usage=-5:-5:99"]
        {
            let answer = stream(&gateway, api, 40, json!({ "user": format!("sim:{fault}") })).await;
            let read = read(api, &answer);
            assert!(read.whole && read.error.is_none(), "{api:?}, {fault}: {}", answer.text());
            assert_eq!(read.text, expected_text(5, 40), "{api:?}, {fault}");
        }
    }
    gateway.invariants().await;
    for line in gateway.log(24).await {
        let generated = line["generated_tokens"].as_u64().unwrap();
        assert_eq!(generated, 40, "absurd usage is not booked, and none is not nothing: {line}");
    }
}

/// A line of forty megabytes, a compressed answer, half a JSON: nobody takes them for an answer, and all comes free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absurd_answers_do_no_harm_in_any_shape() {
    let (gateway, engine) = gateway_and_engine(PROGRAM).await;
    for api in STREAMED {
        let answer = stream(&gateway, api, 8, json!({ "user": "sim:huge-line=40000000" })).await;
        assert!(!read(api, &answer).whole && !answer.clean, "{api:?}");
        let answer = stream(&gateway, api, 8, json!({ "user": "sim:gzip" })).await;
        assert_eq!(answer.status, 502, "{api:?}: compressed");
    }
    for api in STREAMED.into_iter().chain(POOLED) {
        for fault in ["garbage", "gzip", "cut=20", "reset=20", "wrong-length=10", "status=500"] {
            engine.set_fault(fault).unwrap();
            let answer = stream(&gateway, api, 8, json!({ "stream": false })).await;
            assert_eq!(answer.status, 502, "{api:?}, {fault}: {}", answer.text());
            assert!(answer.clean, "{api:?}, {fault}");
        }
        engine.set_fault("").unwrap();
    }
    gateway.invariants().await;
}
