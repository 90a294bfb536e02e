//! Every API, end to end: what its clients get, what its engine gets, and what is booked for it.

use crate::PROGRAM;
use engine::profile::LLAMA_8B_A100;
use engine::text::expected_text;
use http::{HeaderValue, Method};
use kit::base_config::{PLAIN_KEY, STRICT_KEY, account, budget, merge};
use kit::client::{Answer, Connection, get, post_to, send};
use kit::shape::{POOLED, STREAMED, read, request, tier_name};
use kit::{Gateway, KEY, config, engine, engine_of, eventually, gateway_and_engine};
use protocol::api::{Api, Family};
use serde_json::{Value, json};

async fn call(gateway: &Gateway, api: Api, body: &Value) -> Answer {
    send(gateway.address, post_to(api.path(), body, Some(KEY))).await
}

/// Text, usage and tier are where the API's clients look for them, streamed and whole, and the books have the engine's
/// own numbers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_api_shows_text_usage_and_tier_and_is_booked() {
    let (gateway, engine) = gateway_and_engine(PROGRAM).await;
    for api in STREAMED {
        for (stream, wish, priority) in [
            (false, json!(null), false),
            (true, json!(null), false),
            (false, json!("priority"), true),
            (true, json!("priority"), true),
            (true, json!("standard_only"), false),
        ] {
            let more = json!({ "seed": 7, "stream": stream, "service_tier": wish });
            let answer = call(&gateway, api, &request(api, 30, more)).await;

            let what = format!("{api:?}, stream {stream}, tier {wish}");
            assert_eq!(answer.status, 200, "{what}: {}", answer.text());
            let read = read(api, &answer);
            assert!(read.whole && read.error.is_none(), "{what}: {}", answer.text());
            assert_eq!(read.text, expected_text(7, 30), "{what}");
            assert!(!read.tiers.is_empty(), "{what}: no tier in {}", answer.text());
            assert!(
                read.tiers.iter().all(|tier| tier == tier_name(api, priority)),
                "{what}: {:?}",
                read.tiers
            );
            assert!(read.models.iter().all(|model| model == "sim"), "{what}: {:?}", read.models);
            // Chat and completions show the usage of a stream to those who ask for it.
            let shown = !stream || matches!(api, Api::Messages | Api::Responses);
            assert_eq!(read.generated, shown.then_some(30), "{what}: {}", answer.text());
        }
    }
    // A line is written after its answer, so that two may change places.
    let mut told = Vec::new();
    for line in gateway.log(20).await {
        assert_eq!(
            (&line["generated_tokens"], &line["usage_missing"]),
            (&json!(30), &json!(false)),
            "{line}"
        );
        told.push((line["api"].to_string(), line["prompt_tokens"].to_string()));
    }
    let records = engine.records().into_iter();
    let mut computed: Vec<_> =
        records.map(|record| (json!(record.path).to_string(), record.prompt_tokens.to_string())).collect();
    told.sort();
    computed.sort();
    assert_eq!(told, computed);
    gateway.invariants().await;
}

/// No API can be called past the meter: each has an account, counts as a request, and reserves tokens or none at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_is_metered() {
    let (gateway, engine) = gateway_and_engine(PROGRAM).await;
    for (nth, api) in Api::ALL.into_iter().enumerate() {
        for prefix in ["", "/inference"] {
            let path = format!("{prefix}{}", api.path());
            let body = request(api, 8, json!({}));
            let stranger = send(gateway.address, post_to(&path, &body, None)).await;
            assert_eq!(stranger.verdict(), (401, "unauthenticated"), "{path}");
            let answer = send(gateway.address, post_to(&path, &body, Some(KEY))).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            assert!(answer.header("ratelimit").contains("\"generated\";r="), "{path}");
        }
        let asked = engine.totals().requests;
        let expected = if nth < 5 && api != Api::CountTokens { 2 * (nth as u64 + 1) } else { asked };
        assert_eq!(asked, expected, "{api:?}");
    }
    let lines = gateway.log(4 * Api::ALL.len()).await;
    let served: Vec<_> = lines.iter().filter(|line| line["status"] == 200).collect();
    assert_eq!(served.len(), 2 * Api::ALL.len());
    for line in served {
        let free = line["api"] == Api::CountTokens.path();
        assert_eq!(line["account"], "acme", "{line}");
        assert_eq!(line["prompt_tokens"].as_u64().is_some_and(|tokens| tokens > 0), !free, "{line}");
    }
    gateway.invariants().await;
}

/// Answers without output are charged what the engine read, and the generated meter is neither asked nor moved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_without_output_leave_the_generated_meter_alone() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    let limits = json!({ "limits": [budget(1_000_000, 1_000_000, 8)] });
    config["accounts"] = json!([account("acme", KEY, limits)]);
    let gateway = Gateway::start(PROGRAM, &config).await;
    let spent = call(&gateway, Api::Chat, &request(Api::Chat, 8, json!({}))).await;
    assert_eq!(spent.status, 200);
    gateway.invariants().await;
    let over = call(&gateway, Api::Chat, &request(Api::Chat, 8, json!({}))).await;
    assert_eq!(over.verdict(), (429, "generated_tokens_limited"));

    for api in POOLED {
        let answer = call(&gateway, api, &request(api, 0, json!({}))).await;
        assert_eq!(answer.status, 200, "{api:?}: {}", answer.text());
        let value = answer.json();
        assert_eq!((&value["service_tier"], &value["model"]), (&json!("default"), &json!("sim")));
        let list = if api == Api::Rerank { "results" } else { "data" };
        assert_eq!(value[list].as_array().map(Vec::len), Some(2), "{value}");
        let streamed = call(&gateway, api, &request(api, 0, json!({ "stream": true }))).await;
        assert_eq!(streamed.verdict(), (400, "bad-request"), "{api:?}");
    }
    let lines = gateway.log(8).await;
    let pooled: Vec<_> = lines.iter().filter(|line| line["status"] == 200).skip(1).collect();
    let records = engine.records();
    for (line, record) in pooled.iter().zip(&records[1..]) {
        assert_eq!(
            (&line["prompt_tokens"], &line["generated_tokens"]),
            (&json!(record.prompt_tokens), &json!(0))
        );
    }
    gateway.invariants().await;
}

/// `count_tokens` costs a request, no token, and no engine's time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counting_tokens_costs_a_request_and_nothing_else() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    config["accounts"] = json!([account("acme", KEY, json!({ "requests_per_minute": 3 }))]);
    let gateway = Gateway::start(PROGRAM, &config).await;
    let body = request(Api::CountTokens, 0, json!({ "system": "Be brief." }));

    let first = call(&gateway, Api::CountTokens, &body).await;
    call(&gateway, Api::CountTokens, &body).await;
    let third = call(&gateway, Api::CountTokens, &body).await;
    let fourth = call(&gateway, Api::CountTokens, &body).await;

    let tokens = first.json()["input_tokens"].as_u64().unwrap();
    assert!((8..40).contains(&tokens), "{tokens} tokens");
    assert_eq!(third.header("anthropic-ratelimit-requests-remaining"), "0");
    assert_eq!(fourth.verdict(), (429, "requests_limited"));
    assert_eq!(fourth.json()["error"]["type"], "rate_limit_error");
    assert_eq!(
        first.header("x-ratelimit-remaining-tokens-prompt"),
        third.header("x-ratelimit-remaining-tokens-prompt")
    );
    assert_eq!(engine.totals().requests, 0);
    gateway.invariants().await;
}

#[track_caller]
fn assert_shape(what: &str, family: Family, answer: &Answer, status: u16, anthropic: &str, code: &str) {
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    let body = answer.json();
    let error = &body["error"];
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{what}: {body}");
    let id = answer.header("x-request-id");
    assert!(id.starts_with("req_") && id == answer.header("request-id"), "{what}");
    match family {
        Family::OpenAi => {
            assert_eq!(error["code"], code, "{what}: {body}");
            let members: Vec<_> = error.as_object().unwrap().keys().cloned().collect();
            assert_eq!(members, ["code", "message", "param", "type"], "{what}");
        }
        Family::Anthropic => {
            assert_eq!(body["type"], "error", "{what}: {body}");
            assert_eq!(
                (&error["type"], &body["request_id"]),
                (&json!(anthropic), &json!(id)),
                "{what}: {body}"
            );
        }
    }
}

/// Each refusal has the shape that the API's clients read, whichever step it comes from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_have_the_apis_own_shape() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    merge(&mut config["models"][0], json!({ "context": 60, "vocabulary": "cl100k_base" }));
    let tiny = json!({ "limits": [budget(1_000_000, 1_000_000, 1)], "on_forbidden_tier": "refuse", "models": ["sim"] });
    config["accounts"][2] = account("strict", STRICT_KEY, tiny);
    let gateway = Gateway::start(PROGRAM, &config).await;
    for api in Api::ALL {
        let family = api.form().family;
        let body = request(api, 8, json!({}));
        let path = api.path();
        let ask = |key: Option<&'static str>, body: Value| send(gateway.address, post_to(path, &body, key));

        let answer = ask(None, body.clone()).await;
        assert_shape("no key", family, &answer, 401, "authentication_error", "invalid_api_key");
        let unknown = request(api, 8, json!({ "model": "nobody" }));
        let answer = ask(Some(KEY), unknown).await;
        assert_shape("model", family, &answer, 404, "not_found_error", "model_not_found");
        let answer = ask(Some(KEY), json!({ "model": "sim" })).await;
        assert_shape("no prompt", family, &answer, 400, "invalid_request_error", "bad_request");
        let forbidden = request(api, 8, json!({ "model": "other-model" }));
        let answer = ask(Some(STRICT_KEY), forbidden).await;
        assert_shape("of others", family, &answer, 404, "not_found_error", "model_not_found");
        let mut get = post_to(path, &body, Some(KEY));
        *get.method_mut() = Method::GET;
        let answer = send(gateway.address, get).await;
        assert_shape("method", family, &answer, 405, "invalid_request_error", "method_not_allowed");
        let answer = send(gateway.address, post_to(&format!("{path}/more"), &body, Some(KEY))).await;
        assert_shape("path", family, &answer, 404, "not_found_error", "not_found");
        // Without an exact count it is the engine that says so.
        if family == Family::OpenAi && !matches!(api, Api::Rerank | Api::Score) {
            let asked = api.form().asked.name();
            let long = request(api, 8, json!({ asked: long_prompt(api) }));
            let answer = ask(Some(KEY), long).await;
            assert_shape(
                "too long",
                family,
                &answer,
                400,
                "invalid_request_error",
                "context_length_exceeded",
            );
            assert_eq!(answer.json()["error"]["param"], asked, "{api:?}");
        }
    }
    gateway.invariants().await;
}

fn long_prompt(api: Api) -> Value {
    let text = "The tide comes in and goes out again. ".repeat(40);
    match api {
        Api::Chat => json!([{ "role": "user", "content": text }]),
        Api::Completions | Api::Embeddings => json!((0..400).collect::<Vec<u32>>()),
        _ => json!(text),
    }
}

/// A spent budget and a full engine are told apart in each API's words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budgets_are_429_and_load_is_503_in_every_shape() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    let spent = json!({ "limits": [budget(4, 4, 1_000_000)] });
    config["accounts"][1] = account("plain", PLAIN_KEY, spent);
    let gateway = Gateway::start(PROGRAM, &config).await;
    engine.set_fault("status=429").unwrap();
    for api in STREAMED.into_iter().chain(POOLED) {
        let family = api.form().family;
        let body = request(api, 8, json!({}));

        let over = send(gateway.address, post_to(api.path(), &body, Some(PLAIN_KEY))).await;
        let full = call(&gateway, api, &body).await;

        assert_eq!(over.header("x-ratelimit-over-limit"), "yes", "{api:?}");
        assert_shape("over", family, &over, 429, "rate_limit_error", over.header("x-tidegate-reason"));
        assert_shape("full", family, &full, 503, "overloaded_error", "load_shed");
        assert!(full.text().contains("Service Overloaded"));
        if family == Family::Anthropic {
            assert_eq!(over.header("anthropic-ratelimit-input-tokens-limit"), "4");
            let reset = over.header("anthropic-ratelimit-input-tokens-reset");
            assert!(reset.ends_with('Z') && reset.contains('T'), "{reset}");
        }
    }
    gateway.invariants().await;
}

/// Who leaves in mid-stream stops the engine, whatever was spoken, and is booked what was computed for him.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_stops_the_engine_in_every_shape() {
    let engine = engine_of(LLAMA_8B_A100).await;
    let gateway = Gateway::start(PROGRAM, &config([engine.url()])).await;
    for (nth, api) in STREAMED.into_iter().enumerate() {
        let mut connection = Connection::open(gateway.address).await;
        let body = request(api, 2_000, json!({ "stream": true }));
        let mut begun = connection.begin(post_to(api.path(), &body, Some(KEY))).await.unwrap();
        for _ in 0..40 {
            begun.piece().await.unwrap();
        }
        drop((begun, connection));
        eventually("the engine sees him leave", || async {
            (engine.totals().disconnects == nth as u64 + 1).then_some(())
        })
        .await;
    }
    gateway.invariants().await;
    for (line, record) in gateway.log(4).await.iter().zip(engine.records()) {
        let booked = line["generated_tokens"].as_u64().unwrap();
        assert!(
            booked >= 38 && booked <= record.generated_tokens,
            "{booked} of {}: {line}",
            record.generated_tokens
        );
        assert!(record.generated_tokens < 400, "{}", record.generated_tokens);
    }
}

/// Each shape keeps the name that the client used, where the engine knows the model by another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_keep_the_name_that_the_client_used() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    merge(&mut config["models"][0], json!({ "served_model": "/models/tide" }));
    let gateway = Gateway::start(PROGRAM, &config).await;
    for api in STREAMED.into_iter().chain(POOLED) {
        for stream in [false, true] {
            if stream && !api.form().streams {
                continue;
            }
            let answer = call(&gateway, api, &request(api, 4, json!({ "stream": stream }))).await;
            let models = read(api, &answer).models;
            assert!(!models.is_empty() && models.iter().all(|model| model == "sim"), "{api:?}: {models:?}");
            let sent: Value = serde_json::from_str(&engine.records().last().unwrap().body).unwrap();
            assert_eq!(sent["model"], "/models/tide", "{api:?}");
        }
    }
}

/// Both families list models under the same path; each is answered in its own shape, refusals too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_are_listed_in_the_shape_of_who_asks() {
    let (gateway, _engine) = gateway_and_engine(PROGRAM).await;
    let ask = async |path: &str, version: Option<&'static str>| {
        let mut request = get(path, Some(KEY));
        if let Some(version) = version {
            request.headers_mut().insert("anthropic-version", HeaderValue::from_static(version));
        }
        send(gateway.address, request).await
    };
    for prefix in ["", "/inference"] {
        let (list, model) = (format!("{prefix}/v1/models"), format!("{prefix}/v1/models/sim"));

        let ours = ask(&list, Some("2023-06-01")).await.json();
        let ids: Vec<_> = ours["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
        assert_eq!([&ours["first_id"], &ours["last_id"]], [ids[0], ids[ids.len() - 1]], "{ours}");
        assert_eq!((&ours["has_more"], &ours["object"]), (&json!(false), &Value::Null), "{ours}");
        let one = ask(&model, Some("2023-06-01")).await.json();
        assert_eq!(
            (&one["type"], &one["id"], &one["display_name"]),
            (&json!("model"), &json!("sim"), &json!("sim"))
        );
        assert!(
            one["created_at"].as_str().is_some_and(|at| at.starts_with("20") && at.ends_with('Z')),
            "{one}"
        );
        let none = ask(&format!("{list}/none"), Some("2023-06-01")).await;
        assert_eq!((none.status, &none.json()["error"]["type"]), (404, &json!("not_found_error")));

        let theirs = ask(&list, None).await.json();
        assert_eq!((&theirs["object"], &theirs["data"][0]["object"]), (&json!("list"), &json!("model")));
        let none = ask(&format!("{list}/none"), None).await;
        assert_eq!((none.status, &none.json()["error"]["code"]), (404, &json!("model_not_found")));
    }
    let chat = ask("/v1/chat/completions", Some("2023-06-01")).await;
    assert_eq!(chat.json()["error"]["type"], "invalid_request_error", "the header decides about models only");
}

/// The window that no config names and the engine tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_are_listed_with_the_window_that_their_engine_tells() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    merge(&mut config["deployments"][0], json!({ "engine": "vllm" }));
    let gateway = Gateway::start(PROGRAM, &config).await;

    let window = eventually("a window", || async {
        let list = send(gateway.address, get("/v1/models", Some(KEY))).await.json();
        list["data"][0]["max_model_len"].as_u64()
    })
    .await;

    let address = engine.url().trim_start_matches("http://").parse().unwrap();
    let told = send(address, get("/v1/models", None)).await.json();
    assert_eq!(Some(window), told["data"][0]["max_model_len"].as_u64());
}

/// A window bounds one text: many that fit, each by itself, are not too long together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_of_a_list_have_a_context_window_each() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    merge(&mut config["models"][0], json!({ "context": 400 }));
    let gateway = Gateway::start(PROGRAM, &config).await;
    let (text, whole) = ((0..200).collect::<Vec<u32>>(), (0..4_000).collect::<Vec<u32>>());
    let texts = vec![text; 20];

    for (api, list, one) in [
        (Api::Embeddings, json!({ "input": texts }), json!({ "input": whole })),
        (Api::Completions, json!({ "prompt": texts }), json!({ "prompt": whole })),
    ] {
        let fits = call(&gateway, api, &request(api, 4, list)).await;
        assert_eq!(fits.status, 200, "{api:?}: {}", fits.text());
        let too_long = call(&gateway, api, &request(api, 4, one)).await;
        assert_eq!(too_long.verdict(), (400, "context-too-long"), "{api:?}");
    }
    gateway.invariants().await;
}
