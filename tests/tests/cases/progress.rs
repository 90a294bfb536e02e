//! What counts as progress and as content: what the gateway does not know flows, is charged, and blames nobody.

use super::{Fleet, events, fleet, values};
use crate::PROGRAM;
use kit::client::{Answer, Connection, post_to};
use kit::hostile::{Act, Asked, Hostile, beginning, chunk, ending, event, ordinary, word, word_text};
use kit::shape::{STREAMED, read, request};
use kit::{KEY, eventually};
use protocol::api::Api;
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Time between tokens of engines here.
const STEP: Duration = Duration::from_millis(20);
/// No stream of a case may go on for longer.
const LONG: Duration = Duration::from_secs(6);

/// Chunks of a stream as vLLM sends them while it holds text back for a long `stop`: one a step, with nothing in it. Where
/// the request asks for it, each has the running usage.
fn held_back(asked: &Asked, steps: u64, end: &str) -> Vec<Act> {
    let options = asked.json()["stream_options"].clone();
    let mut acts = vec![Act::Sse];
    acts.extend(beginning(asked));
    for step in 1..=steps {
        let mut empty = if asked.path.ends_with("chat/completions") {
            chunk(json!({ "content": "" }), json!(null))
        } else {
            json!({
                "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "sim",
                "choices": [{ "index": 0, "text": "", "finish_reason": null }],
            })
        };
        if options["continuous_usage_stats"] == true {
            empty["usage"] =
                json!({ "prompt_tokens": 7, "completion_tokens": step, "total_tokens": 7 + step });
        }
        acts.extend([Act::Pause(STEP), Act::Event(empty)]);
    }
    if end == "hang" {
        acts.push(Act::Hang);
    } else {
        acts.extend(word(asked, "done"));
        acts.extend(ending(asked));
        acts.push(Act::End);
    }
    acts
}

/// Leaves a stream once `marker` came so often.
async fn leaves_after(fleet: &Fleet, api: Api, marker: &str, count: usize) {
    let body = request(api, 4_096, json!({ "stream": true, "stop": ["never said"] }));
    let mut connection = Connection::open(fleet.gateway.address).await;
    let reading = async {
        let mut begun = connection.begin(post_to(api.path(), &body, Some(KEY))).await.unwrap();
        let mut text = String::new();
        while text.matches(marker).count() < count {
            let piece = begun.piece().await.unwrap_or_else(|| panic!("{api:?}: it ends: {text}"));
            text += &String::from_utf8_lossy(&piece);
        }
    };
    timeout(LONG, reading).await.unwrap_or_else(|_| panic!("{api:?}: {count} of {marker} are not passed on"));
}

/// A client that leaves a stream of empty chunks is charged what was computed for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_r01_tokens_that_a_long_stop_holds_back_are_charged() {
    for engine in ["vllm", "sglang"] {
        for api in [Api::Chat, Api::Completions] {
            let script = |asked: &Asked| held_back(asked, 40, "hang");
            let fleet = fleet(1, json!({ "engine": engine }), script).await;

            leaves_after(&fleet, api, "\"choices\"", 38).await;
            eventually("the engine sees it leave", || async { (fleet.engines[0].left() == 1).then_some(()) })
                .await;

            let line = fleet.gateway.log(1).await.remove(0);
            let charged = line["generated_tokens"].as_u64().unwrap_or(0);
            assert!((36..=42).contains(&charged), "{engine}, {api:?}: {charged} of 38 tokens: {line}");
        }
    }
}

/// They are progress, too: a stream that flows is not cut for want of a first token, nor is its replica blamed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_r01_empty_chunks_are_progress() {
    let timeouts = json!({ "first_token_ms": 400, "between_tokens_ms": 400 });
    for engine in ["vllm", "openai"] {
        for api in [Api::Chat, Api::Completions] {
            let script = |asked: &Asked| held_back(asked, 50, "done");
            let fleet = fleet(1, json!({ "engine": engine, "timeouts": timeouts }), script).await;

            let answer = fleet.call(api, json!({ "stream": true, "max_tokens": 100 })).await;

            let what = format!("{engine}, {api:?}: {}", answer.text());
            assert!(read(api, &answer).whole && read(api, &answer).text == "done", "{what}");
            fleet.assert_nobody_blamed(&what).await;
        }
    }
}

/// The running usage is asked only of engines that have it, and who did not ask for it does not see it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_r01_running_usage_is_asked_of_those_who_have_it_and_stays_inside() {
    for (engine, has_it) in [("vllm", true), ("sglang", true), ("openai", false), ("tgi", false)] {
        let script = |asked: &Asked| held_back(asked, 3, "done");
        let fleet = fleet(1, json!({ "engine": engine }), script).await;
        for api in [Api::Chat, Api::Completions] {
            let answer = fleet.call(api, json!({ "stream": true })).await;

            let sent = fleet.engines[0].asked().pop().unwrap().json();
            assert_eq!(sent["stream_options"]["continuous_usage_stats"] == true, has_it, "{engine}: {sent}");
            let shown = values(&answer).iter().any(|value| !value["usage"].is_null());
            assert!(!shown, "{engine}, {api:?}: {}", answer.text());
            // Its bytes are those of a stream without it.
            let empty =
                values(&answer).into_iter().filter(|value| value["choices"][0]["finish_reason"].is_null());
            assert!(empty.count() >= 3, "{engine}, {api:?}: {}", answer.text());
        }
    }
}

/// `stop` is bounded, far beyond what anybody needs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_r01_stops_beyond_any_use_are_refused() {
    let fleet = fleet(1, json!({}), ordinary).await;
    for (api, name) in [(Api::Chat, "stop"), (Api::Completions, "stop"), (Api::Messages, "stop_sequences")] {
        for beyond in
            [json!(["x".repeat(1_000_000)]), json!(vec!["x"; 1_000]), json!(vec!["x".repeat(10_000); 100])]
        {
            let answer = fleet.call(api, json!({ name: beyond })).await;
            assert_eq!(answer.verdict(), (400, "bad-request"), "{api:?}: {}", answer.text());
        }
        let answer = fleet.call(api, json!({ name: ["\n\nHuman:", "###", "</s>", "END"] })).await;
        assert_eq!(answer.status, 200, "{api:?}: {}", answer.text());
    }
}

/// Deltas of members that nobody has listed.
fn unlisted() -> Vec<Value> {
    vec![
        json!({ "thinking": "hm" }),
        json!({ "thought": "hm" }),
        json!({ "reasoning_text": "hm" }),
        json!({ "reasoning_details": [{ "type": "reasoning.text", "text": "hm" }] }),
        json!({ "audio": { "id": "a", "data": "AAAA" } }),
        json!({ "images": [{ "type": "image_url", "image_url": { "url": "data:image/png;base64,AA" } }] }),
        json!({ "content_blocks": [{ "type": "text", "text": "hm" }] }),
        json!({ "provider_specific_fields": { "x": 1 } }),
        json!({ "a_member_of_next_year": "hm" }),
    ]
}

/// A stream of an API whose tokens come in events that nobody has listed.
fn unlisted_of(asked: &Asked, delta: &Value) -> String {
    match asked.path.as_str() {
        "/v1/messages" => {
            let mut delta = delta.clone();
            delta["type"] = json!("a_delta_of_next_year");
            kit::hostile::named("content_block_delta", json!({ "index": 0, "delta": delta }))
        }
        "/v1/responses" => kit::hostile::named(
            "response.next_year.delta",
            json!({ "sequence_number": 1, "output_index": 0, "delta": delta }),
        ),
        _ => event(&chunk(delta.clone(), json!(null))),
    }
}

/// What is not known to be preamble is content: it flows, is no silence, and is charged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_r02_deltas_that_nobody_has_listed_are_content() {
    let deltas = unlisted();
    let script = move |asked: &Asked| {
        let nth = asked.json()["seed"].as_u64().unwrap() as usize;
        let mut acts = vec![Act::Sse];
        acts.extend(beginning(asked));
        for _ in 0..50 {
            acts.extend([Act::Pause(STEP), Act::Text(unlisted_of(asked, &deltas[nth]))]);
        }
        acts.extend(ending(asked));
        acts.push(Act::End);
        acts
    };
    let timeouts = json!({ "first_token_ms": 400, "between_tokens_ms": 400 });
    let fleet = std::sync::Arc::new(fleet(1, json!({ "timeouts": timeouts }), script).await);
    let mut running = JoinSet::new();
    for api in [Api::Chat, Api::Responses, Api::Messages] {
        for (nth, delta) in unlisted().into_iter().enumerate() {
            let fleet = std::sync::Arc::clone(&fleet);
            let more = json!({ "stream": true, "seed": nth, "max_tokens": 100 });
            running.spawn(async move { (api, delta, fleet.call(api, more).await) });
        }
    }
    for (api, delta, answer) in running.join_all().await {
        assert_eq!(answer.status, 200, "{api:?}, {delta}: {}", answer.text());
        assert!(read(api, &answer).whole, "{api:?}, {delta}: {}", answer.text());
    }
    fleet.assert_nobody_blamed("unlisted deltas").await;
}

/// Who leaves such a stream is charged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_r02_deltas_that_nobody_has_listed_are_charged() {
    let script = |asked: &Asked| {
        let piece = unlisted_of(asked, &json!({ "a_member_of_next_year": "hm" }));
        let mut acts = vec![Act::Sse];
        acts.extend(beginning(asked));
        acts.extend(vec![Act::Text(piece); 40]);
        acts.push(Act::Hang);
        acts
    };
    let fleet = fleet(1, json!({}), script).await;
    for (nth, api) in [Api::Chat, Api::Responses, Api::Messages].into_iter().enumerate() {
        leaves_after(&fleet, api, "next_year\":", 40).await;
        let line = fleet.gateway.log(nth + 1).await.remove(nth);
        assert!(line["generated_tokens"].as_u64().is_some_and(|tokens| tokens >= 36), "{api:?}: {line}");
    }
}

/// The silence of one stream, while the replica's others flow, is no failure of the replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_r06_the_silence_of_one_stream_is_no_failure_of_the_replica() {
    let script = |asked: &Asked| {
        let mut acts = vec![Act::Sse];
        acts.extend(beginning(asked));
        acts.extend(word(asked, "hello"));
        acts.push(if asked.has("silent") {
            Act::Hang
        } else {
            Act::Forever(word_text(asked, "on "), Duration::from_millis(50))
        });
        acts
    };
    for api in STREAMED {
        let fleet = fleet(2, json!({ "timeouts": { "between_tokens_ms": 400 } }), script).await;
        let mut flowing = Vec::new();
        for nth in 0..4 {
            let body = request(api, 4_096, json!({ "stream": true, "user": format!("flowing-{nth}") }));
            let mut connection = Connection::open(fleet.gateway.address).await;
            let mut begun = connection.begin(post_to(api.path(), &body, Some(KEY))).await.unwrap();
            flowing.push((connection, tokio::spawn(async move { while begun.piece().await.is_some() {} })));
        }
        for _ in 0..3 {
            let silent = json!({ "stream": true, "user": "silent" });
            let ended = fleet.call_within(KEY, api, silent, Duration::from_secs(1)).await;
            assert!(ended.is_none_or(|answer| !answer.clean), "{api:?}: a silent stream looks whole");
        }
        fleet.assert_nobody_blamed(&format!("{api:?}")).await;
    }
}

/// By default a stream may be silent for as long as clients wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_r06_silence_is_borne_as_long_as_clients_wait_by_default() {
    let schema = Command::new(PROGRAM).arg("schema").output().unwrap();
    let schema: Value = serde_json::from_slice(&schema.stdout).unwrap();
    let text = schema.to_string();

    let (_, after) = text.split_once("Between two tokens").expect("the time between two tokens is described");
    let default = after.split("Default ").nth(1).unwrap();
    let digits: String = default.chars().filter(|c| *c != ',').take_while(char::is_ascii_digit).collect();
    assert!(digits.parse::<u64>().unwrap() >= 300_000, "{digits} ms, while clients wait 300 to 600 s");
}

/// Comments keep a connection alive, and no answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_r07_comments_keep_no_answer_alive() {
    for comment in [": ping\n\n", "event: ping\ndata: {\"type\":\"ping\"}\n\n"] {
        let script = move |asked: &Asked| {
            let mut acts = vec![Act::Sse];
            acts.extend(beginning(asked));
            if asked.has("late") {
                acts.extend(word(asked, "hello"));
            }
            acts.push(Act::Forever(comment.to_owned(), Duration::from_millis(50)));
            acts
        };
        let timeouts = json!({ "between_tokens_ms": 500, "first_token_ms": 500 });
        let fleet = fleet(1, json!({ "timeouts": timeouts }), script).await;
        for api in STREAMED.into_iter().filter(|api| comment.starts_with(':') || *api == Api::Messages) {
            for when in ["late", "early"] {
                let more = json!({ "stream": true, "user": when });
                let what = format!("{api:?}, {when}, {comment:?}");
                let answer = fleet.call_within(KEY, api, more, LONG).await;
                let answer: Answer = answer.unwrap_or_else(|| panic!("{what}: it never ends"));
                let read = read(api, &answer);
                let told = answer.status == 504 || (!read.whole && read.error.is_some());
                assert!(told, "{what}: {}", answer.text());
            }
        }
        fleet.gateway.invariants().await;
    }
}

/// An engine that goes on past `max_tokens` is cut, and that is its own fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_r12_a_stream_past_max_tokens_is_cut() {
    let script = |asked: &Asked| {
        let mut acts = vec![Act::Sse];
        acts.extend(beginning(asked));
        acts.push(Act::Forever(word_text(asked, "on ").repeat(20), Duration::from_millis(1)));
        acts
    };
    for api in STREAMED {
        let fleet = fleet(1, json!({}), script).await;
        let answer = fleet.call_within(KEY, api, json!({ "stream": true }), LONG).await;
        let answer: Answer = answer.unwrap_or_else(|| panic!("{api:?}: it never ends"));
        let read = read(api, &answer);
        assert!(!read.whole && read.error.is_some(), "{api:?}: told: {:?}", events(&answer).last());
        eventually("the engine's stream is closed", || async {
            (fleet.engines[0].left() == 1).then_some(())
        })
        .await;
        assert!(fleet.engines[0].pieces() > 0, "{api:?}: it did not go on");
        eventually("it is the engine's fault", || async { (fleet.failures().await >= 1.0).then_some(()) })
            .await;
        let line = fleet.gateway.log(1).await.remove(0);
        assert!(line["generated_tokens"].as_u64().is_some_and(|tokens| tokens >= 8), "{api:?}: {line}");
        fleet.gateway.invariants().await;
        drop::<Vec<Hostile>>(fleet.engines);
    }
}
