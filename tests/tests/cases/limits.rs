//! The gateway's own bounds and names: descriptors, large answers, one id for each sending.

use super::{events, fleet};
use kit::hostile::{Act, Asked, beginning, ending, ordinary, word};
use kit::shape::STREAMED;
use protocol::api::Api;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::task::JoinSet;

/// Descriptors that the gateway may open beyond those that it has.
const DESCRIPTORS_LEFT: usize = 40;

/// Where the gateway's own descriptors run out that is said, as load, and no replica's failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f05_running_out_of_descriptors_is_ours() {
    let slow = |asked: &Asked| {
        let mut acts = vec![Act::Pause(Duration::from_millis(500))];
        acts.extend(ordinary(asked));
        acts
    };
    let fleet = Arc::new(fleet(2, json!({}), slow).await);
    let most = fleet.gateway.descriptors() + DESCRIPTORS_LEFT;
    let limited = Command::new("prlimit")
        .args(["--pid", &fleet.gateway.pid().to_string(), &format!("--nofile={most}:{most}")])
        .status();
    assert!(limited.unwrap().success(), "prlimit");

    // Each takes a descriptor on either side, so that there is room for fewer than these.
    let mut at_once = JoinSet::new();
    for nth in 0..30 {
        let fleet = Arc::clone(&fleet);
        at_once.spawn(async move { fleet.call(Api::Chat, json!({ "stream": nth % 2 == 0 })).await });
    }
    let answers = at_once.join_all().await;

    let refused = answers.iter().filter(|answer| answer.status != 200).count();
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        let ours = ["descriptors", "connections"].contains(&answer.header("x-tidegate-reason"));
        assert!(answer.status == 503 && ours, "{}: {}", answer.status, answer.text());
    }
    assert!((1..30).contains(&refused), "{refused} of 30 were refused");
    fleet.assert_nobody_blamed("descriptors").await;
    assert_eq!(fleet.call(Api::Chat, json!({})).await.status, 200, "and it goes on");
    fleet.gateway.invariants().await;
}

/// An answer of 80 MB passes and is computed once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f06_embeddings_of_80_megabytes_pass_and_are_computed_once() {
    let one = format!("[{}]", vec!["0.0123456789"; 4_096].join(","));
    let item = |nth: u32| format!(r#"{{"object":"embedding","index":{nth},"embedding":{one}}}"#);
    let items: Vec<String> = (0..1_500).map(item).collect();
    let usage = r#""usage":{"prompt_tokens":2800,"total_tokens":2800}"#;
    let body = format!(r#"{{"object":"list","model":"sim","data":[{}],{usage}}}"#, items.join(","));
    let end = items.last().unwrap().clone();
    let length = body.len();
    assert!(length > 79_000_000, "{length}");
    let fleet =
        fleet(2, json!({}), move |_: &Asked| vec![Act::Whole(200, "application/json", body.clone())]).await;

    let answer = fleet.call(Api::Embeddings, json!({ "input": vec!["BIG"; 1_500] })).await;

    assert_eq!(answer.status, 200, "{} bytes", answer.body.len());
    assert!(answer.clean && answer.body.len() >= length, "{} of {length} bytes", answer.body.len());
    assert!(
        answer.body.windows(end.len()).rev().take(4_096).any(|part| part == end.as_bytes()),
        "its end is missing"
    );
    assert_eq!(fleet.sent("BIG"), 1, "computed once");
    assert_eq!(fleet.gateway.log(1).await[0]["prompt_tokens"], 2_800);
    fleet.assert_nobody_blamed("a large answer").await;
}

/// One event of 6 MB passes, as the first token and after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f06_an_event_of_6_megabytes_passes() {
    let large = "in and out ".repeat(560_000);
    let script = {
        let large = large.clone();
        move |asked: &Asked| {
            let mut acts = vec![Act::Sse];
            acts.extend(beginning(asked));
            if asked.has("late") {
                acts.extend(word(asked, "hello"));
            }
            acts.extend(word(asked, &large));
            acts.extend(ending(asked));
            acts.push(Act::End);
            acts
        }
    };
    let fleet = fleet(1, json!({}), script).await;
    for api in STREAMED {
        for when in ["early", "late"] {
            let answer =
                fleet.call(api, json!({ "stream": true, "user": when, "max_tokens": 3_000_000 })).await;
            assert_eq!((answer.status, answer.clean), (200, true), "{api:?}, {when}");
            assert!(
                events(&answer).iter().any(|(_, data)| data.contains(&large)),
                "{api:?}, {when}: not whole"
            );
        }
    }
    fleet.assert_nobody_blamed("a large event").await;
}

/// Answers 400 to an id that it has had before, as vLLM does while the first copy runs.
fn remembering() -> impl Fn(&Asked) -> Vec<Act> + Clone + Send + Sync + 'static {
    let had = Arc::new(Mutex::new(HashSet::new()));
    move |asked: &Asked| {
        let body = asked.json();
        let in_body = ["request_id", "rid"].iter().find_map(|key| body[*key].as_str());
        let id = in_body.unwrap_or(asked.header("x-request-id")).to_owned();
        if !had.lock().unwrap().insert(id.clone()) {
            let message = format!("Request id chatcmpl-{id} already running.");
            let error = json!({ "message": message, "type": "BadRequestError", "param": null, "code": 400 });
            return vec![Act::Json(400, json!({ "error": error }))];
        }
        // The engine took the request, and the kept connection broke.
        if asked.nth > 0 { vec![Act::Reset] } else { ordinary(asked) }
    }
}

/// A request that is sent again has an id of its own, in the header and in the body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f07_each_sending_has_an_id_of_its_own() {
    for engine in ["vllm", "sglang", "openai"] {
        let fleet = fleet(1, json!({ "engine": engine }), remembering()).await;
        for nth in 0..10 {
            let more = json!({ "user": format!("one-{nth}-"), "stream": nth % 2 == 0 });
            let answer = fleet.call(Api::Chat, more).await;
            assert_eq!(answer.status, 200, "{engine}, {nth}: {}", answer.text());
        }
        let ids: Vec<String> =
            fleet.engines[0].asked().iter().map(|asked| asked.header("x-request-id").to_owned()).collect();
        assert!(ids.len() > 10, "{engine}: nothing was sent again");
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "{engine}: {ids:?}");
    }
}

/// An engine that knows an id already does not speak of anything that the client did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f07_already_running_is_not_the_clients() {
    let said = Arc::new(Mutex::new(HashSet::<Value>::new()));
    let script = move |asked: &Asked| {
        if said.lock().unwrap().insert(asked.json()["user"].clone()) {
            let message = "Request id chatcmpl-7 already running.";
            let error = json!({ "message": message, "type": "BadRequestError", "param": null, "code": 400 });
            return vec![Act::Json(400, json!({ "error": error }))];
        }
        ordinary(asked)
    };
    for replicas in [1, 2] {
        let fleet = fleet(replicas, json!({ "engine": "vllm" }), script.clone()).await;
        for nth in 0..6 {
            let user = format!("one-{replicas}-{nth}");
            let answer = fleet.call(Api::Chat, json!({ "user": user, "stream": nth % 2 == 0 })).await;
            // With one replica there may be nowhere to send it; it is a fixed sentence then.
            let right = answer.status == 200 || (replicas == 1 && answer.status == 502);
            assert!(
                right && !answer.text().contains("already running"),
                "{replicas} replicas: {}",
                answer.text()
            );
        }
        assert!(fleet.in_service().await.iter().all(|up| *up), "{replicas} replicas: one is out");
    }
}
