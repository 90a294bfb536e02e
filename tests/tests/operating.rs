//! What operators see and change through the admin API, before a real process.

use crate::PROGRAM;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use kit::base_config::{PLAIN_KEY, budget, merge};
use kit::client::{Answer, post, send};
use kit::{Gateway, KEY, ask, config, engine};
use serde_json::{Value, json};

/// The operators' token of these tests.
pub(crate) const TOKEN: &str = "tg-operator";

/// A config whose admin listener has a token for operators and one for readers.
pub(crate) fn operated(mut config: Value) -> Value {
    let digest = |token: &str| config::keys::Digest::of(token).to_string();
    merge(
        &mut config["admin"],
        json!({ "token_sha256": digest(TOKEN), "read_token_sha256": digest("tg-reader") }),
    );
    config
}

/// A change, with the operators' token.
pub(crate) async fn change(gateway: &Gateway, method: Method, path: &str, body: &Value) -> Answer {
    change_as(gateway, method, path, body, Some(TOKEN)).await
}

async fn change_as(
    gateway: &Gateway,
    method: Method,
    path: &str,
    body: &Value,
    token: Option<&str>,
) -> Answer {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, gateway.admin.to_string())
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    send(gateway.admin, request.body(Full::new(body)).unwrap()).await
}

async fn page(gateway: &Gateway, path: &str) -> Value {
    let answer = gateway.admin(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// Every GET of the document without a parameter answers, and what it answers has the fields that are described.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_has_what_its_description_says() {
    let engine = kit::engine().await;
    let mut config = kit::config([engine.url()]);
    kit::base_config::merge(&mut config, json!({ "state": {}, "usage": {} }));
    let gateway = Gateway::start(PROGRAM, &config).await;
    assert_eq!(gateway.chat(&ask(json!({}))).await.status, 200);
    let document = page(&gateway, "/api/v1/openapi.json").await;
    let mut seen = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        // Drills are numbered, and none was played.
        if path.starts_with("/api/v1/drills/") {
            continue;
        }
        let of = if path.ends_with("/history") { "?deployment=sim" } else { "" };
        let path = path.replace("{name}", "sim").replace("{id}", "acme") + of;
        let schema = &operations["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        let Some(reference) = schema["$ref"].as_str() else { continue };
        let described = document.pointer(reference.trim_start_matches('#')).unwrap();
        let answer = page(&gateway, &path).await;
        let fields: Vec<&String> = answer.as_object().unwrap().keys().collect();
        let properties = described["properties"].as_object().unwrap();
        for field in &fields {
            assert!(properties.contains_key(*field), "{path}: {field} is not described");
        }
        assert_eq!(fields.len(), properties.len(), "{path}: {fields:?}");
        seen += 1;
    }
    assert!(seen >= 9, "only {seen} pages were tried");
}

/// A drained replica gets nothing new, and gets requests again once it is put back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_replica_gets_nothing_until_it_is_put_back() {
    let (one, two) = (engine().await, engine().await);
    let gateway = Gateway::start(PROGRAM, &operated(config([one.url(), two.url()]))).await;
    let path = "/api/v1/deployments/sim/replicas/0/drain";

    let drained = change(&gateway, Method::POST, path, &Value::Null).await;

    assert_eq!(drained.status, 200, "{}", drained.text());
    assert_eq!(drained.json()["replicas"][0]["health"], "drained");
    for _ in 0..10 {
        assert_eq!(gateway.chat(&ask(json!({}))).await.status, 200);
    }
    assert_eq!((one.records().len(), two.records().len()), (0, 10));

    let by_name = format!("/api/v1/deployments/sim/replicas/{}/drain", two.url().replace("http://", ""));
    change(&gateway, Method::DELETE, path, &Value::Null).await;
    assert_eq!(change(&gateway, Method::POST, &by_name, &Value::Null).await.status, 200);
    assert_eq!(gateway.chat(&ask(json!({}))).await.status, 200);
    assert_eq!(one.records().len(), 1, "the one that was put back");

    let unknown =
        change(&gateway, Method::POST, "/api/v1/deployments/sim/replicas/9/drain", &Value::Null).await;
    assert_eq!((unknown.status, unknown.json()["error"]["code"].clone()), (404, json!("no_such_replica")));
}

/// Lowered ceilings close the tier at once; pressure is shown until it is lifted; what makes no sense changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ceilings_and_pressure_are_set_shown_and_taken_back() {
    let engine = engine().await;
    let mut config = operated(config([engine.url()]));
    merge(&mut config["deployments"][0], json!({ "limit": 10, "queue": { "requests": 0 } }));
    let gateway = Gateway::start(PROGRAM, &config).await;
    let _held = [gateway.hold().await, gateway.hold().await, gateway.hold().await];

    let thresholds = "/api/v1/deployments/sim/thresholds";
    let lowered = change(&gateway, Method::POST, thresholds, &json!({ "regular": 0.2 })).await;
    assert_eq!(lowered.status, 200, "{}", lowered.text());
    assert_eq!(lowered.json()["tiers"][1]["ceiling"], 0.2);
    let shed = gateway.chat_as(PLAIN_KEY, &ask(json!({}))).await;
    assert_eq!((shed.status, shed.header("x-tidegate-reason")), (503, "shed-saturated"));
    gateway.log(1).await;
    let refusals = page(&gateway, "/api/v1/requests").await;
    let refusal = &refusals["refusals"][0];
    assert_eq!(
        (&refusal["account"], &refusal["deployment"], &refusal["load"]["ceiling"]),
        (&json!("plain"), &json!("sim"), &json!(0.2)),
        "{refusal}"
    );
    assert!(refusal["would_have_helped"].as_str().unwrap().contains("20 %"), "{refusal}");
    let reset = change(&gateway, Method::DELETE, thresholds, &Value::Null).await;
    assert_eq!(reset.json()["tiers"][1]["ceiling"], 0.85);
    assert_eq!(gateway.chat_as(PLAIN_KEY, &ask(json!({}))).await.status, 200);

    for wrong in [json!({ "regular": 1.5 }), json!({ "priority": 0.1 }), json!({ "regular": 0 })] {
        assert_eq!(change(&gateway, Method::POST, thresholds, &wrong).await.status, 422, "{wrong}");
    }
    assert_eq!(change(&gateway, Method::POST, thresholds, &json!({ "reglar": 0.5 })).await.status, 400);

    let pressure = "/api/v1/deployments/sim/pressure";
    let set = change(&gateway, Method::POST, pressure, &json!({ "share": 0.8, "seconds": 600 })).await;
    assert_eq!(set.json()["pressure"]["share"], 0.8, "{}", set.text());
    let shed = gateway.chat_as(PLAIN_KEY, &ask(json!({}))).await;
    assert_eq!(shed.status, 503, "3 of 10 places are taken, and 8 are pretended to be gone");
    let lifted = change(&gateway, Method::DELETE, pressure, &Value::Null).await;
    assert_eq!(lifted.json()["pressure"], Value::Null);
    assert_eq!(gateway.chat_as(PLAIN_KEY, &ask(json!({}))).await.status, 200);
}

/// Threat S16: every change, by who may not make it, changes nothing and is written down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_s16_changes_need_the_operators_token_and_are_written_down() {
    let engine = engine().await;
    let mut config = operated(config([engine.url()]));
    config["log"]["level"] = json!("info");
    let gateway = Gateway::start(PROGRAM, &config).await;
    let document = page(&gateway, "/api/v1/openapi.json").await;
    let mut tried = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        let path = path
            .replace("{name}", "sim")
            .replace("{id}", "acme")
            .replace("{replica}", "0")
            .replace("{key}", "4f5c9b2a");
        for method in operations.as_object().unwrap().keys().filter(|method| *method != "get") {
            let method = Method::try_from(method.to_uppercase().as_str()).unwrap();
            for (token, status) in [(None, 401), (Some("tg-acme"), 401), (Some("tg-reader"), 403)] {
                let answer = change_as(&gateway, method.clone(), &path, &json!({}), token).await;
                assert_eq!(answer.status, status, "{method} {path} as {token:?}: {}", answer.text());
                tried += 1;
            }
        }
    }
    assert!(tried >= 21, "{tried}");
    assert_eq!(page(&gateway, "/api/v1/deployments").await["deployments"][0]["ceilings_set"], false);

    change(&gateway, Method::POST, "/api/v1/deployments/sim/thresholds", &json!({ "regular": 0.5 })).await;
    // Lines are written by a thread of their own, this one last.
    let said = kit::eventually("the audit line of the change", || async {
        let said = gateway.said();
        let written =
            said.lines().any(|line| line.contains("set_thresholds") && line.contains("\"status\":200"));
        written.then_some(said)
    })
    .await;
    let audit = |needle: &str| said.lines().filter(|l| l.contains("\"audit\"") && l.contains(needle)).count();
    assert_eq!(audit("\"set_thresholds\""), 4, "three were refused, one was done: {said}");
    assert!(audit("ceilings set") == 1 && !said.contains(TOKEN), "{said}");
}

/// A 429 explains itself: which meter, by how much, and what would have let it in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_429_says_which_meter_and_what_would_have_helped() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    merge(&mut config["accounts"][0], json!({ "limits": [budget(1_000_000, 1_000_000, 20)] }));
    let gateway = Gateway::start(PROGRAM, &config).await;
    let body = ask(json!({ "max_tokens": 16 }));
    assert_eq!(send(gateway.address, post(&body, Some(KEY))).await.status, 200);
    assert_eq!(send(gateway.address, post(&body, Some(KEY))).await.status, 429);
    gateway.log(2).await;

    let refusals = page(&gateway, "/api/v1/requests?limit=1").await;

    let refusal = &refusals["refusals"][0];
    let budget = &refusal["budget"];
    assert_eq!((&budget["meter"], &budget["limit"]), (&json!("generated"), &json!(20)), "{refusal}");
    let (used, asked) = (budget["used"].as_u64().unwrap(), budget["asked"].as_u64().unwrap());
    assert_eq!(budget["over_by"], used + asked - 20);
    assert!(refusal["would_have_helped"].as_str().unwrap().contains("s later"), "{refusal}");
    assert_eq!(refusal["deployment"], Value::Null, "a budget asks no deployment: {refusal}");
    let limits = page(&gateway, "/api/v1/limits?limit=1").await;
    assert_eq!(limits["budgets"][0]["account"], "acme");
    let accounts = page(&gateway, "/api/v1/accounts?limit=1&containing=a").await;
    assert_eq!((&accounts["accounts"][0]["id"], &accounts["next"]), (&json!("acme"), &json!("acme")));
    let next = page(&gateway, "/api/v1/accounts?limit=9&containing=a&after=acme").await;
    assert_eq!((&next["accounts"][0]["id"], &next["next"]), (&json!("plain"), &Value::Null));
    for wrong in ["limit=0", "limit=x", "limit=99999"] {
        assert_eq!(gateway.admin(&format!("/api/v1/accounts?{wrong}")).await.status, 400, "{wrong}");
    }
}
