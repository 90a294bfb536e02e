//! Every header about limits, on every answer of every API from where account and model are known, however it ended.

use crate::PROGRAM;
use kit::base_config::{KEY, account, budget};
use kit::client::{Answer, Connection, get, post_to};
use kit::shape::{POOLED, STREAMED, request};
use kit::{Gateway, config, engine};
use protocol::api::{Api, Family};
use serde_json::{Value, json};

/// The key of an account whose generated tokens are spent with one request.
const SPENT_KEY: &str = "tg-spent";

/// Headers that every answer has.
const ALWAYS: [&str; 3] = ["x-request-id", "request-id", "x-tidegate-queue-ms"];

/// Headers that follow from account and model.
const LIMITS: [&str; 8] = [
    "x-ratelimit-limit-tokens-prompt",
    "x-ratelimit-limit-tokens-cache-adjusted-prompt",
    "x-ratelimit-limit-tokens-generated",
    "x-ratelimit-remaining-tokens-prompt",
    "x-ratelimit-remaining-tokens-cache-adjusted-prompt",
    "x-ratelimit-remaining-tokens-generated",
    "ratelimit-policy",
    "ratelimit",
];

/// The same by the names of Anthropic's clients.
const ANTHROPIC: [&str; 3] = ["input-tokens", "output-tokens", "requests"];

#[track_caller]
fn assert_all(what: &str, api: Api, answer: &Answer) {
    for name in ALWAYS.iter().chain(&LIMITS) {
        assert_ne!(answer.header(name), "", "{what}: no {name} on {:?}", answer.headers);
    }
    for item in ["\"prompt\";", ", \"uncached-prompt\";", ", \"generated\";"] {
        assert!(answer.header("ratelimit").contains(item), "{what}: {}", answer.header("ratelimit"));
        assert!(answer.header("ratelimit-policy").contains(item), "{what}");
    }
    let policy = answer.header("ratelimit-policy");
    assert_eq!(policy.matches(";qu=\"token\";w=60").count(), 3, "{what}: {policy}");
    for kind in ANTHROPIC {
        for part in ["limit", "remaining", "reset"] {
            let name = format!("anthropic-ratelimit-{kind}-{part}");
            let there = !answer.header(&name).is_empty();
            assert_eq!(there, api.form().family == Family::Anthropic, "{what}: {name}");
        }
    }
    let over = answer.status == 429;
    assert_eq!(answer.header("x-ratelimit-over-limit") == "yes", over, "{what}");
    assert_eq!(answer.header("x-should-retry").is_empty(), !matches!(answer.status, 429 | 503), "{what}");
    assert_eq!(answer.header("x-tidegate-reason").is_empty(), answer.status == 200, "{what}");
}

/// A gateway whose only engine has one place, before which nobody waits for long.
async fn gateway() -> (Gateway, engine::server::EngineServer) {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    config["deployments"][0]["limit"] = json!(1);
    let limits = json!({ "limits": [budget(1_000_000, 1_000_000, 3)] });
    config["accounts"].as_array_mut().unwrap().push(account("spent", SPENT_KEY, limits));
    (Gateway::start(PROGRAM, &config).await, engine)
}

async fn send(gateway: &Gateway, api: Api, key: &str, body: &Value, deadline_ms: Option<&str>) -> Answer {
    let mut request = post_to(api.form().path, body, Some(key));
    if let Some(ms) = deadline_ms {
        request.headers_mut().insert("x-tidegate-ttft-deadline-ms", ms.parse().unwrap());
    }
    Connection::open(gateway.address).await.send(request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_of_every_api_tells_all_limits_however_it_ended() {
    let (gateway, _engine) = gateway().await;
    let fault = |api: Api, fault: &str| match api {
        Api::Messages => json!({ "metadata": { "user_id": format!("sim:{fault}") } }),
        _ => json!({ "user": format!("sim:{fault}") }),
    };

    for api in STREAMED.into_iter().chain(POOLED).chain([Api::CountTokens]) {
        let what = |case: &str| format!("{api:?} {case}");
        let served = send(&gateway, api, KEY, &request(api, 2, json!({})), None).await;
        assert_eq!(served.status, 200, "{}", served.text());
        assert_all(&what("served"), api, &served);
        if !STREAMED.contains(&api) {
            continue;
        }
        let streamed = send(&gateway, api, KEY, &request(api, 2, json!({ "stream": true })), None).await;
        assert_eq!(streamed.status, 200);
        assert_all(&what("streamed"), api, &streamed);

        for stream in [false, true] {
            let more = |what: &str| {
                let mut more = fault(api, what);
                more["stream"] = json!(stream);
                more
            };
            let broken = send(&gateway, api, KEY, &request(api, 2, more("status=500")), None).await;
            assert!(matches!(broken.status, 500 | 502), "{}", broken.text());
            assert_all(&what("broken by the engine"), api, &broken);

            let wrong = send(&gateway, api, KEY, &request(api, 2, more("status=400")), None).await;
            assert_eq!(wrong.status, 400, "{}", wrong.text());
            assert_all(&what("refused by the engine"), api, &wrong);

            let _held = gateway.hold().await;
            let body = request(api, 2, json!({ "stream": stream }));
            let shed = send(&gateway, api, KEY, &body, Some("1")).await;
            assert_eq!(shed.status, 503, "{}", shed.text());
            assert_all(&what("shed"), api, &shed);
        }
        gateway.invariants().await;
    }

    let spent = request(Api::Chat, 3, json!({}));
    assert_eq!(send(&gateway, Api::Chat, SPENT_KEY, &spent, None).await.status, 200);
    gateway.invariants().await;
    for api in STREAMED {
        for stream in [false, true] {
            let body = request(api, 3, json!({ "stream": stream }));
            let over = send(&gateway, api, SPENT_KEY, &body, None).await;
            assert_eq!(over.verdict(), (429, "generated_tokens_limited"), "{}", over.text());
            assert_all(&format!("{api:?} over its budget"), api, &over);
        }
    }
}

/// Where there is no model there is no limit to tell; the rest is there all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_a_model_has_an_id_and_no_limits() {
    let (gateway, _engine) = gateway().await;
    let mut connection = Connection::open(gateway.address).await;

    for (what, request) in [
        ("models", get("/v1/models", Some(KEY))),
        ("an unknown path", get("/v1/nothing", Some(KEY))),
        ("no key", get("/v1/models", None)),
    ] {
        let answer = connection.send(request).await;
        for name in ALWAYS {
            assert_ne!(answer.header(name), "", "{what}: no {name} on {:?}", answer.headers);
        }
        for name in LIMITS {
            assert_eq!(answer.header(name), "", "{what}: {name}");
        }
    }
}
