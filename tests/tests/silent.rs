//! Silence: a stream whose client waits gets comments, in every API, and is whole nevertheless.

use crate::PROGRAM;
use engine::server::EngineServer;
use engine::text::expected_text;
use kit::base_config::merge;
use kit::client::{Answer, Connection, post_to, send};
use kit::shape::{POOLED, STREAMED, read, request};
use kit::{Gateway, KEY, config, engine};
use protocol::api::Api;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const COMMENT: &str = ": keep-alive\n\n";

/// A gateway with so many places that takes a second for long, which is the least that a config may say.
async fn impatient(places: u32) -> (Gateway, EngineServer) {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    merge(&mut config["listen"], json!({ "limits": { "silence_ms": 1_000 } }));
    merge(&mut config["deployments"][0], json!({ "limit": places, "slo": { "ttft_ms": 600_000 } }));
    (Gateway::start(PROGRAM, &config).await, engine)
}

/// An answer that is under way while others are.
fn call(gateway: &Gateway, api: Api, more: Value) -> JoinHandle<Answer> {
    let body = request(api, 5, more);
    tokio::spawn(send(gateway.address, post_to(api.path(), &body, Some(KEY))))
}

/// Before the first token, and between tokens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_stream_of_any_api_has_comments_and_nothing_is_missing_in_it() {
    let (gateway, _engine) = impatient(64).await;
    let ask = |api: Api| {
        let more = |fault: &str| json!({ "stream": true, "seed": 7, "user": fault });
        ["sim:output=5", "sim:delay=2500ms", "sim:gap=1300ms"].map(|fault| call(&gateway, api, more(fault)))
    };
    let asked = STREAMED.map(|api| (api, ask(api)));

    for (api, [plain, late, slow]) in asked {
        let (plain, late, slow) = (plain.await.unwrap(), late.await.unwrap(), slow.await.unwrap());
        assert!(!plain.text().contains(COMMENT), "{api:?}");
        assert!(late.text().starts_with(&COMMENT.repeat(2)), "{api:?}: {}", late.text());
        assert_eq!(slow.text().matches(COMMENT).count(), 4, "{api:?}: {}", slow.text());
        for answer in [plain, late, slow] {
            assert!(answer.header("content-type").starts_with("text/event-stream"));
            let read = read(api, &answer);
            assert!(read.whole && read.error.is_none(), "{api:?}: {}", answer.text());
            assert_eq!(read.text, expected_text(7, 5), "{api:?}");
        }
    }
    gateway.invariants().await;
}

/// The head is out by then, so what goes wrong is told in the stream, as the API does it, and the end is unclean.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_after_comments_comes_in_the_frame_of_its_api() {
    let (gateway, _engine) = impatient(64).await;
    let more = json!({ "stream": true, "user": "sim:delay=1500ms,status=500" });
    let asked = STREAMED.map(|api| (api, call(&gateway, api, more.clone())));

    for (api, answer) in asked {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 200, "{api:?}");
        assert!(answer.text().starts_with(COMMENT), "{api:?}: {}", answer.text());
        let read = read(api, &answer);
        let error = read.error.unwrap_or_else(|| panic!("{api:?}: no error in {}", answer.text()));
        let kind = if api == Api::Responses { &error["code"] } else { &error["type"] };
        assert!(kind.as_str().is_some_and(|kind| kind.contains("error")), "{api:?}: {error}");
        assert!(!read.whole && !answer.clean, "{api:?}: it looks complete");
    }
    gateway.invariants().await;
}

/// Waiting for a place is silence too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_place_gets_comments_and_then_the_answer() {
    let (gateway, _engine) = impatient(1).await;
    for api in STREAMED {
        let held = gateway.hold().await;
        let mut connection = Connection::open(gateway.address).await;
        let body = request(api, 5, json!({ "stream": true, "seed": 7 }));

        let mut begun = connection.begin(post_to(api.path(), &body, Some(KEY))).await.unwrap();
        let first = begun.piece().await.unwrap();
        gateway.counter_becomes("gate_waiting:sim", 1).await;
        drop(held);
        let answer = begun.whole().await;

        assert!(first.starts_with(b": queued, 0 before this request"), "{api:?}: {first:?}");
        let read = read(api, &answer);
        assert!(read.whole && read.text == expected_text(7, 5), "{api:?}: {}", answer.text());
    }
    gateway.invariants().await;
}

/// Who asked for one JSON value gets one, and its status once it is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_no_stream_has_no_comments_and_no_early_head() {
    let (gateway, _engine) = impatient(64).await;
    let ask = |api: Api| {
        ["sim:delay=1500ms", "sim:delay=1500ms,status=500"]
            .map(|fault| call(&gateway, api, json!({ "user": fault })))
    };
    let asked: Vec<_> = STREAMED.into_iter().chain(POOLED).map(|api| (api, ask(api))).collect();

    for (api, [late, broken]) in asked {
        let (late, broken) = (late.await.unwrap(), broken.await.unwrap());
        assert_eq!(late.status, 200, "{api:?}");
        assert!(late.json().is_object() && !late.text().contains(COMMENT), "{api:?}: {}", late.text());
        assert_eq!(broken.status, 502, "{api:?}: {}", broken.text());
    }
    gateway.invariants().await;
}
