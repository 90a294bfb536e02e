//! What a client is told when an engine refuses: all that it acts on, in its API's shape, and nothing that is not its.

use super::{fleet, fleet_of, words};
use crate::PROGRAM;
use kit::base_config::PLAIN_KEY;
use kit::client::Answer;
use kit::hostile::{Act, Asked, Hostile, ordinary};
use kit::shape::{POOLED, STREAMED};
use kit::{Gateway, KEY, ask, config, engine};
use protocol::api::{Api, Family};
use serde_json::{Value, json};

/// Answers the n-th of `answers` to a request with `form-n` in it.
fn forms(answers: Vec<(u16, Value)>) -> impl Fn(&Asked) -> Vec<Act> + Clone + Send + Sync + 'static {
    move |asked: &Asked| {
        let form = (0..answers.len()).find(|nth| asked.has(&format!("form-{nth}-")));
        match form {
            Some(nth) => vec![Act::Json(answers[nth].0, answers[nth].1.clone())],
            None => ordinary(asked),
        }
    }
}

/// `user` of a request that is answered with the n-th form.
fn form(nth: usize) -> Value {
    json!({ "user": format!("form-{nth}-") })
}

/// The `type`s that an API's clients know for a request that is refused as it is.
fn is_a_type_of(api: Api, kind: &Value) -> bool {
    match api.form().family {
        Family::OpenAi => kind == "invalid_request_error",
        Family::Anthropic => ["invalid_request_error", "request_too_large"].iter().any(|known| kind == known),
    }
}

/// Status, words, `code` and `param` of an engine's refusal reach the client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f08_an_engines_refusal_keeps_status_words_code_and_param() {
    let error = |message: &str, param: Value, code: Value| json!({ "error": { "message": message, "type": "BadRequestError", "param": param, "code": code } });
    let refusals = vec![
        (400, error("top_p must be in (0, 1]", json!("top_p"), json!(400))),
        (400, error("Prompt was filtered", json!("prompt"), json!("content_filter"))),
        (413, error("The image is too large", json!("messages"), json!("image_too_large"))),
        (422, error("logit_bias needs integers", json!("logit_bias"), json!("invalid_value"))),
        (
            400,
            json!({ "object": "error", "message": "n must be 1", "type": "BadRequestError", "param": "n", "code": 400 }),
        ),
    ];
    let fleet = fleet(2, json!({}), forms(refusals.clone())).await;
    for api in STREAMED.into_iter().chain(POOLED) {
        for (nth, (status, body)) in refusals.iter().enumerate() {
            for stream in [false, true].into_iter().filter(|stream| !stream || api.form().streams) {
                let mut more = form(nth);
                more["stream"] = json!(stream);

                let answer = fleet.call(api, more).await;

                let what = format!("{api:?}, {status} {body}: {}", answer.text());
                assert_eq!(answer.status, *status, "{what}");
                let (said, told) = (body.get("error").unwrap_or(body), &answer.json()["error"]);
                assert_eq!(told["message"], said["message"], "{what}");
                assert!(is_a_type_of(api, &told["type"]), "{what}");
                if api.form().family == Family::OpenAi {
                    assert_eq!(told["param"], said["param"], "{what}");
                    if said["code"].is_string() {
                        assert_eq!(told["code"], said["code"], "{what}");
                    }
                }
            }
        }
    }
    fleet.assert_nobody_blamed("refusals").await;
}

/// Numbers and places beside the words pass; members that nobody has listed do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f08_numbers_and_places_beside_the_words_pass_and_other_members_do_not() {
    let llama = json!({ "error": {
        "code": 400, "message": "request (9000 tokens) exceeds the available context size (8192 tokens)",
        "type": "exceed_context_size_error", "n_prompt_tokens": 9000, "n_ctx": 8192, "slot_file": "/var/slots/7",
    } });
    let detail = json!({ "detail": [{ "loc": ["body", "messages"], "msg": "field required", "type": "missing", "url": "http://10.0.0.7/docs" }] });
    let filtered = json!({ "error": {
        "message": "filtered", "type": "invalid_request_error", "param": "prompt", "code": "content_filter",
        "innererror": { "code": "ResponsibleAIPolicyViolation", "node": "node-17" },
    } });
    let tgi = json!({ "error": "Input validation error: `temperature` must be strictly positive", "error_type": "validation" });
    let fleet =
        fleet(1, json!({}), forms(vec![(400, llama), (422, detail), (400, filtered), (422, tgi)])).await;
    let said = async |nth: usize| {
        let answer = fleet.call(Api::Chat, form(nth)).await;
        (answer.status, answer.json()["error"].clone(), answer.text())
    };

    let (status, told, _) = said(0).await;
    assert_eq!(
        (status, &told["n_prompt_tokens"], &told["n_ctx"]),
        (400, &json!(9000), &json!(8192)),
        "{told}"
    );
    assert_eq!(told.get("slot_file"), None, "{told}");
    let (status, told, text) = said(1).await;
    assert_eq!(status, 422, "{told}");
    assert!(
        words_of(&told).contains("field required") && text.contains(r#""loc":["body","messages"]"#),
        "{text}"
    );
    assert!(!text.contains("10.0.0.7"), "{text}");
    let (status, told, text) = said(2).await;
    assert_eq!(
        (status, &told["code"], &told["param"]),
        (400, &json!("content_filter"), &json!("prompt")),
        "{told}"
    );
    assert!(!text.contains("node-17"), "{text}");
    let (status, told, _) = said(3).await;
    assert_eq!(status, 422, "{told}");
    assert!(words_of(&told).contains("strictly positive"), "{told}");
}

fn words_of(error: &Value) -> String {
    error["message"].as_str().unwrap_or_default().to_owned()
}

/// A message of several lines stays one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f08_line_breaks_in_an_engines_words_stay() {
    let message = "2 validation errors:\n  messages.0.role: missing\n\tmessages.0.content: missing";
    let error = json!({ "error": { "message": message, "type": "BadRequestError", "code": 400 } });
    let fleet = fleet(1, json!({}), forms(vec![(400, error)])).await;
    for api in STREAMED {
        assert_eq!(words(&fleet.call(api, form(0)).await), message, "{api:?}");
    }
}

/// The code of `response.failed` reaches the client, as a status before the first token and as an event after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f08_response_failed_keeps_its_code() {
    let script = |asked: &Asked| {
        let error = json!({ "code": "image_too_large", "message": "The image is too large" });
        let response = json!({ "id": "resp_1", "object": "response", "status": "failed", "error": error });
        let mut acts = vec![Act::Sse];
        if asked.has("late") {
            acts.extend(kit::hostile::beginning(asked));
            acts.extend(kit::hostile::word(asked, "hello"));
        }
        acts.extend([
            Act::Named("response.failed", json!({ "sequence_number": 2, "response": response })),
            Act::End,
        ]);
        acts
    };
    let fleet = fleet(1, json!({}), script).await;

    let early = fleet.call(Api::Responses, json!({ "stream": true })).await;
    let late = fleet.call(Api::Responses, json!({ "stream": true, "user": "late" })).await;

    assert_eq!(
        (early.status, &early.json()["error"]["code"]),
        (400, &json!("image_too_large")),
        "{}",
        early.text()
    );
    assert!(late.status == 200 && late.text().contains("image_too_large"), "{}", late.text());
    assert!(!late.clean, "it looks whole");
}

/// What clients look for when a prompt is too long: words and code of the API that they speak.
#[track_caller]
fn assert_too_long(what: &str, api: Api, answer: &Answer) {
    let what = format!("{what}, {api:?}: {}", answer.text());
    assert!([400, 413, 422].contains(&answer.status), "{what}");
    match api.form().family {
        Family::OpenAi => {
            assert!(words(answer).contains("This model's maximum context length is "), "{what}");
            assert_eq!(answer.json()["error"]["code"], "context_length_exceeded", "{what}");
            assert_eq!(answer.json()["error"]["type"], "invalid_request_error", "{what}");
        }
        Family::Anthropic => assert!(words(answer).starts_with("prompt is too long"), "{what}"),
    }
}

/// Whichever way an engine says that a prompt is too long, clients find the words that they look for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f09_an_engines_too_long_has_the_words_that_clients_look_for() {
    let error = |message: &str, kind: &str, code: Value| json!({ "error": { "message": message, "type": kind, "param": null, "code": code } });
    let sglang = "The input (9000 tokens) is longer than the model's context length (8192 tokens).";
    let refusals = vec![
        (
            400,
            error(
                "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
                "BadRequestError",
                json!(400),
            ),
        ),
        (
            400,
            json!({ "error": { "code": 400, "message": "request exceeds the available context size", "type": "exceed_context_size_error", "n_prompt_tokens": 9000, "n_ctx": 8192 } }),
        ),
        (
            400,
            json!({ "object": "error", "message": sglang, "type": "BadRequest", "param": null, "code": 400 }),
        ),
        (
            422,
            json!({ "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 20 `max_new_tokens`", "error_type": "validation" }),
        ),
        (400, error("Too long", "invalid_request_error", json!("context_length_exceeded"))),
        (
            400,
            json!({ "type": "error", "error": { "type": "invalid_request_error", "message": "prompt is too long: 9000 tokens > 8192 maximum" } }),
        ),
    ];
    let fleet = fleet(1, json!({}), forms(refusals.clone())).await;
    for api in STREAMED {
        for (nth, (_, body)) in refusals.iter().enumerate() {
            assert_too_long(&body.to_string(), api, &fleet.call(api, form(nth)).await);
        }
    }
    fleet.assert_nobody_blamed("too long").await;
}

/// The gateway's own refusal, which it gives by an exact count alone, has the same words and its numbers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f09_our_own_too_long_has_the_same_words() {
    let fleet = fleet(1, json!({ "context": 60 }), ordinary).await;
    // Prompts that are token ids already are counted, not estimated.
    let ids: Vec<u32> = (1..=100).collect();
    for (api, more) in
        [(Api::Completions, json!({ "prompt": ids })), (Api::Embeddings, json!({ "input": ids }))]
    {
        let answer = fleet.call(api, more).await;
        assert_too_long("ours", api, &answer);
        assert_eq!(answer.verdict(), (400, "context-too-long"), "{api:?}");
        assert!(words(&answer).contains("60 tokens"), "{api:?}: {}", answer.text());
    }
}

/// What an engine says of itself stays inside: keys, paths, addresses, models' internal names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f10_an_engines_secrets_stay_inside() {
    let secret =
        "Incorrect API key provided: sk-live-77. File /opt/engine/serve.py at http://10.0.0.7:8000/v1";
    let secrets = ["sk-live", "/opt/", "serve.py", "10.0.0.7"];
    let error =
        json!({ "error": { "message": secret, "type": "server_error", "param": null, "code": null } });
    let statuses = [401, 402, 403, 404, 405, 409, 418, 451, 500, 501, 502, 503, 429, 529];
    let fleet =
        fleet(2, json!({}), forms(statuses.iter().map(|status| (*status, error.clone())).collect())).await;
    for api in [Api::Chat, Api::Responses, Api::Messages, Api::Embeddings] {
        for (nth, status) in statuses.iter().enumerate() {
            for stream in [false, true].into_iter().filter(|stream| !stream || api.form().streams) {
                let mut more = form(nth);
                more["stream"] = json!(stream);
                let answer = fleet.call(api, more).await;
                assert!(answer.status >= 400, "{api:?}, {status}");
                let leaked: Vec<_> =
                    secrets.iter().filter(|secret| answer.text().contains(**secret)).collect();
                assert!(leaked.is_empty(), "{api:?}, {status}: {}", answer.text());
            }
        }
    }
}

/// An engine that says it in mid-stream, or in its first event, does not get it out either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f10_an_engines_secrets_in_a_stream_stay_inside() {
    let script = |asked: &Asked| {
        let secret = "CUDA error in /opt/engine/serve.py at http://10.0.0.7:8000, key sk-live-77";
        let mut acts = vec![Act::Sse];
        if asked.has("late") {
            acts.extend(kit::hostile::beginning(asked));
            acts.extend(kit::hostile::word(asked, "hello"));
        }
        let error = json!({ "message": secret, "type": "InternalServerError", "param": null, "code": 500 });
        acts.extend([Act::Event(json!({ "error": error })), Act::End]);
        acts
    };
    let fleet = fleet(2, json!({}), script).await;
    for api in STREAMED {
        for when in ["early", "late"] {
            let answer = fleet.call(api, json!({ "stream": true, "user": when })).await;
            let leaked = ["/opt/", "10.0.0.7", "sk-live"].iter().any(|secret| answer.text().contains(secret));
            assert!(!leaked, "{api:?}, {when}: {}", answer.text());
        }
    }
}

/// The words of a refusal name the model as the client does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f10_an_engines_words_name_the_model_as_the_client_does() {
    let message = "The model /srv/weights/internal-7b does not support tools";
    let error =
        json!({ "error": { "message": message, "type": "BadRequestError", "param": "model", "code": 400 } });
    let engines = vec![Hostile::start(forms(vec![(400, error.clone()), (422, error)])).await];
    let fleet = fleet_of(engines, json!({ "models": { "served_model": "/srv/weights/internal-7b" } })).await;
    for api in STREAMED {
        for nth in [0, 1] {
            let answer = fleet.call(api, form(nth)).await;
            assert_eq!(words(&answer), "The model sim does not support tools", "{api:?}, {nth}");
        }
    }
}

/// A wrong key of one replica is the replica's fault: served by the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f10_a_replica_with_a_wrong_key_costs_nobody_a_request() {
    let wrong = |_: &Asked| vec![Act::Json(401, json!({ "error": "Unauthorized" }))];
    let engines = vec![Hostile::start(wrong).await, Hostile::start(ordinary).await];
    let fleet = fleet_of(engines, json!({})).await;
    for nth in 0..40 {
        let answer =
            fleet.call(Api::Chat, json!({ "user": format!("one-{nth}"), "stream": nth % 2 == 0 })).await;
        assert_eq!(answer.status, 200, "{nth}: {}", answer.text());
    }
    assert!(fleet.engines[0].count("one-") <= 10, "it had {} of 40", fleet.engines[0].count("one-"));
    assert!(fleet.failures().await >= 1.0, "it is counted");
}

/// The tier that goes upstream is the tier served, whatever was asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f11_the_tier_upstream_is_the_tier_served() {
    let fleet = fleet(1, json!({}), ordinary).await;
    for api in STREAMED {
        for (key, asked, priority) in [
            (PLAIN_KEY, json!("priority"), false),
            (PLAIN_KEY, json!("fast"), false),
            (PLAIN_KEY, json!("auto"), false),
            (PLAIN_KEY, json!("flex"), false),
            (PLAIN_KEY, json!("scale"), false),
            (KEY, json!("default"), false),
            (KEY, json!("priority"), true),
            (KEY, json!("fast"), true),
        ] {
            let marker = format!("{api:?}-{asked}-{key}").replace('"', "");
            let answer = fleet.call_as(key, api, json!({ "service_tier": asked, "user": marker })).await;

            let what = format!("{api:?}, {key} asks for {asked}");
            assert_eq!(answer.status, 200, "{what}: {}", answer.text());
            let sent = fleet.engines[0].asked().pop().unwrap().json()["service_tier"].clone();
            let words: &[Value] = match (priority, api.form().family) {
                (true, Family::OpenAi) => &[json!("priority")],
                (true, Family::Anthropic) => &[json!("priority"), json!("auto")],
                (false, Family::OpenAi) => &[json!(null), json!("default")],
                (false, Family::Anthropic) => &[json!(null), json!("standard_only")],
            };
            assert!(words.contains(&sent), "{what}: {sent} went upstream");
        }
    }
}

/// A refusal for load does not contradict itself: where it says how full and up to where, the first is not less.
#[track_caller]
fn assert_consistent(what: &str, answer: &Answer) {
    let message = words(answer);
    assert_eq!(answer.status, 503, "{what}: {message}");
    assert!(message.starts_with("Service Overloaded"), "{what}: {message}");
    let shares: Vec<f64> = message
        .split(" %")
        .filter_map(|before| before.rsplit(|c: char| !c.is_ascii_digit() && c != '.').next()?.parse().ok())
        .collect();
    if let [full, up_to, ..] = shares[..] {
        assert!(full >= up_to, "{what}: {message}");
    }
}

/// After an engine's own refusal it is the engine's refusal that is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f12_an_engines_own_refusal_is_told_as_that() {
    let busy = json!({ "error": { "message": "busy", "type": "rate_limit_exceeded", "code": 429 } });
    for replicas in [1, 2] {
        let fleet = fleet(replicas, json!({}), forms(vec![(429, busy.clone()), (503, busy.clone())])).await;
        for nth in [0, 1, 0] {
            let answer = fleet.call(Api::Chat, form(nth)).await;
            assert_consistent(&format!("{replicas} replicas"), &answer);
            let message = words(&answer);
            let told = ["engine", "model server", "replica"].iter().any(|word| message.contains(word));
            assert!(told, "{replicas} replicas: it is not said who refuses: {message}");
        }
    }
}

/// At three of four places regular is refused for want of a place, and that is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f12_the_last_place_that_is_kept_for_priority_is_told_as_that() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    config["deployments"][0]["limit"] = json!(4);
    config["deployments"][0]["queue"] = json!({ "requests": 0 });
    let gateway = Gateway::start(PROGRAM, &config).await;
    let _held = [gateway.hold().await, gateway.hold().await, gateway.hold().await];

    let answer = gateway.chat(&ask(json!({}))).await;

    assert_consistent("three of four", &answer);
    assert!(words(&answer).contains("place"), "it is not said what is short: {}", words(&answer));
}
