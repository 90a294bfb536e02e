//! What operators see of requests: a line and some numbers for each, and nothing that is the customers' own.

use crate::PROGRAM;
use gateway::telemetry::metric_table::{METRICS as METRIC_TABLE, Metric};
use kit::client::{Connection, post};
use kit::{KEY, ask, config, gateway_and_engine};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Words that must appear nowhere but at the engine.
const SECRET: &str = "the-tide-told-nobody";

/// Each request has exactly one line, whatever became of it, with neither key nor prompt in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_has_one_line_without_key_and_prompt() {
    let (gateway, _engine) = gateway_and_engine(PROGRAM).await;
    let content = json!([{ "role": "user", "content": SECRET }]);
    let said = |more: Value| {
        let mut body = ask(json!({ "messages": content }));
        kit::base_config::merge(&mut body, more);
        body
    };
    // What the client was told; a stream that broke is no success in the log.
    let bodies = [
        (KEY, said(json!({})), 200),
        (KEY, said(json!({ "stream": true })), 200),
        (KEY, said(json!({ "model": SECRET })), 404),
        (KEY, said(json!({ "n": 0 })), 400),
        (KEY, said(json!({ "user": "sim:status=500" })), 502),
        (KEY, said(json!({ "stream": true, "user": "sim:cut=2" })), 200),
        ("tg-the-tide-told-nobody", said(json!({})), 401),
    ];
    let mut ids = Vec::new();
    for (key, body, status) in &bodies {
        let mut request = post(body, Some(key));
        request.headers_mut().insert("x-request-id", "theirs".parse().unwrap());
        request.headers_mut().insert("x-stainless-retry-count", "2".parse().unwrap());
        let answer = Connection::open(gateway.address).await.send(request).await;
        assert_eq!(answer.status, *status, "{}", answer.text());
        ids.push((answer.header("x-request-id").to_owned(), *status));
    }

    let lines = gateway.log(bodies.len()).await;
    assert_eq!(lines.len(), bodies.len(), "one line each");
    for (id, status) in &ids {
        // A line is written after the client has its answer: the next request's may be there first.
        let Some(line) = lines.iter().find(|line| line["request_id"] == json!(id)) else {
            panic!("no line of {id}: {lines:?}");
        };
        let broke = line["reason"] == "upstream_error";
        assert_eq!(line["status"], if broke { 502 } else { *status }, "{line}");
        assert_eq!((&line["client_request_id"], &line["client_retry"]), (&json!("theirs"), &json!(2)));
        assert_eq!(line["account"], if *status == 401 { json!(null) } else { json!("acme") }, "{line}");
        assert!(line["total_ms"].as_f64().unwrap() > 0.0, "{line}");
    }
    let everything = gateway.log_text() + &gateway.said() + &gateway.admin("/metrics").await.text();
    for secret in [SECRET, KEY, "Bearer"] {
        assert!(!everything.contains(secret), "{secret} was written down");
    }
}

/// One sample of a metrics page: name with labels, value.
fn samples(page: &str) -> Vec<(String, f64)> {
    let lines = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
            let name = series.split('{').next().unwrap();
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            assert!(plain && (name.starts_with("tidegate_") || name.starts_with("process_")), "{line}");
            assert_eq!(series.contains('{'), series.ends_with('}'), "{line}");
            (series.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
        })
        .collect()
}

fn series(page: &str) -> BTreeSet<String> {
    samples(page).into_iter().map(|(series, _)| series).collect()
}

/// Threat S18 and report L9, small: what clients invent makes no series.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_s18_report_l9_what_clients_invent_makes_no_series() {
    let (gateway, _engine) = gateway_and_engine(PROGRAM).await;
    let strange = |nth: u32| {
        let body = ask(
            json!({ "model": format!("made-up-{nth}"), "user": format!("u{nth}"), "service_tier": format!("t{nth}") }),
        );
        let key = if nth.is_multiple_of(2) { KEY.to_owned() } else { format!("tg-{nth}") };
        (key, body)
    };
    for nth in 0..2 {
        let (key, body) = strange(nth);
        gateway.chat_as(&key, &body).await;
    }
    gateway.log(2).await;
    let before = series(&gateway.admin("/metrics").await.text());

    for nth in 2..300 {
        let (key, body) = strange(nth);
        let answer = gateway.chat_as(&key, &body).await;
        assert!([401, 404].contains(&answer.status), "{}", answer.text());
    }
    gateway.log(300).await;
    let page = gateway.admin("/metrics").await.text();

    assert_eq!(series(&page), before, "new series");
    let other: f64 = samples(&page)
        .into_iter()
        .filter(|(series, _)| {
            series.starts_with("tidegate_requests_total") && series.contains("model=\"other\"")
        })
        .map(|(_, value)| value)
        .sum();
    assert!(other >= 299.0, "{other} requests for unknown models were counted");
}

/// The numbers of the page are the numbers of what happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_what_happened() {
    let (gateway, engine) = gateway_and_engine(PROGRAM).await;
    for turn in 0..10 {
        let tier = if turn < 4 { "priority" } else { "default" };
        let answer = gateway
            .chat(&ask(json!({ "service_tier": tier, "max_tokens": 11, "stream": turn % 2 == 0 })))
            .await;
        assert_eq!(answer.status, 200);
    }
    gateway.log(10).await;

    let page = gateway.admin("/metrics").await.text();
    let sum = |name: &str, labels: &[&str]| -> f64 {
        let matching = samples(&page).into_iter().filter(|(series, _)| {
            series.starts_with(&format!("{name}{{")) && labels.iter().all(|label| series.contains(label))
        });
        matching.map(|(_, value)| value).sum()
    };
    let requests = |labels: &[&str]| sum("tidegate_requests_total", labels);
    assert_eq!(requests(&["tier=\"priority\"", "status=\"200\"", "model=\"sim\""]), 4.0, "{page}");
    assert_eq!(requests(&["tier=\"regular\"", "status=\"200\"", "model=\"sim\""]), 6.0, "{page}");
    let truth = engine.totals();
    assert_eq!(sum("tidegate_tokens_total", &["kind=\"generated\""]), truth.generated_tokens as f64);
    assert_eq!(sum("tidegate_tokens_total", &["kind=\"prompt\""]), truth.prompt_tokens as f64);
    assert_eq!(sum("tidegate_request_duration_seconds_count", &[]), 10.0);
    assert_eq!(sum("tidegate_inflight", &[]), 0.0);
}

/// A trace context goes on to the engine and into the line; what is none does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trace_contexts_are_passed_on_when_they_are_some() {
    let engine = kit::recorder::Recorder::start().await;
    let gateway = kit::Gateway::start(PROGRAM, &config([engine.url()])).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (nth, (sent, passed)) in [(trace, true), ("00-not-a-trace", false)].into_iter().enumerate() {
        let mut request = post(&ask(json!({})), Some(KEY));
        request.headers_mut().insert("traceparent", sent.parse().unwrap());
        assert_eq!(Connection::open(gateway.address).await.send(request).await.status, 200);

        let arrived = engine.take().remove(0).headers;
        assert_eq!(arrived.get("traceparent").is_some_and(|value| value == sent), passed, "{sent}");
        let line = gateway.log(nth + 1).await.remove(nth);
        assert_eq!(line["traceparent"] == sent, passed, "{line}");
    }
}

/// Report L7: clients that all send the same id are still told apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_l7_equal_ids_of_clients_do_not_collide() {
    let (gateway, engine) = gateway_and_engine(PROGRAM).await;
    let mut running = tokio::task::JoinSet::new();
    for seed in 0..30_u64 {
        let address = gateway.address;
        let body = ask(json!({ "seed": seed, "stream": seed % 2 == 0, "user": "sim:delay=100ms" }));
        let mut request = post(&body, Some(KEY));
        request.headers_mut().insert("x-request-id", "the-same".parse().unwrap());
        running.spawn(async move { (seed, Connection::open(address).await.send(request).await) });
    }

    let mut ids = BTreeSet::new();
    while let Some(joined) = running.join_next().await {
        let (seed, answer) = joined.unwrap();
        assert_eq!(answer.content(), engine::text::expected_text(seed, 8));
        ids.insert(answer.header("x-request-id").to_owned());
    }

    let at_engine: BTreeSet<String> =
        engine.records().into_iter().filter_map(|record| record.request_id).collect();
    assert_eq!(ids.len(), 30);
    assert_eq!(at_engine, ids, "engines see the ids that clients are told");
    gateway.invariants().await;
}

/// Every name of the page that dashboards and alerts are written against, with its type.
const METRICS: &[(&str, &str)] = &[
    ("tidegate_requests_total", "counter"),
    ("tidegate_request_duration_seconds", "histogram"),
    ("tidegate_time_to_first_token_seconds", "histogram"),
    ("tidegate_inter_token_seconds", "histogram"),
    ("tidegate_queue_depth", "gauge"),
    ("tidegate_queue_seconds", "histogram"),
    ("tidegate_inflight", "gauge"),
    ("tidegate_concurrency_limit", "gauge"),
    ("tidegate_saturation_ratio", "gauge"),
    ("tidegate_shed_total", "counter"),
    ("tidegate_regular_prompts_total", "counter"),
    ("tidegate_withdrawn_total", "counter"),
    ("tidegate_tokens_total", "counter"),
    ("tidegate_limit_tokens_per_minute", "gauge"),
    ("tidegate_used_tokens_per_minute", "gauge"),
    ("tidegate_upstream_errors_total", "counter"),
    ("tidegate_retries_total", "counter"),
    ("tidegate_client_retries_total", "counter"),
    ("tidegate_gateway_overhead_seconds", "histogram"),
    ("tidegate_usage_missing_total", "counter"),
    ("tidegate_usage_anomalous_total", "counter"),
    ("tidegate_config_last_reload_successful", "gauge"),
    ("tidegate_build_info", "gauge"),
    ("tidegate_accounts_in_doubt", "gauge"),
    ("tidegate_keys_expiring_soon", "gauge"),
    ("tidegate_inflight_bytes", "gauge"),
    ("tidegate_access_log_dropped_total", "counter"),
    ("tidegate_log_dropped_total", "counter"),
];

/// Each is there once something happened that it counts, with one type and one help line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_is_there_with_its_type_and_a_help_line() {
    let engine = kit::engine().await;
    let mut config = config([engine.url()]);
    kit::base_config::merge(&mut config["deployments"][0], json!({ "limit": 1, "queue": { "requests": 0 } }));
    kit::base_config::merge(&mut config, json!({ "state": {}, "usage": {} }));
    let gateway = kit::Gateway::start(PROGRAM, &config).await;
    assert_eq!(gateway.chat(&ask(json!({}))).await.status, 200);
    assert_eq!(gateway.chat(&ask(json!({ "user": "sim:status=500" }))).await.status, 502);
    let held = gateway.hold().await;
    assert_eq!(gateway.chat(&ask(json!({}))).await.status, 503, "the only place is taken");
    drop(held);
    gateway.log(4).await;

    let page = gateway.admin("/metrics").await.text();

    for (name, kind) in METRICS {
        let types: Vec<&str> =
            page.lines().filter(|line| line.starts_with(&format!("# TYPE {name} "))).collect();
        assert_eq!(types, [format!("# TYPE {name} {kind}")], "{name}");
        let help = page.lines().filter(|line| line.starts_with(&format!("# HELP {name} "))).count();
        assert_eq!(help, 1, "{name} has no help line");
    }
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        assert!(page.contains(&format!("# HELP {name} ")), "{name} is not explained");
    }
    explained(&page);
}

/// The reference is made from one table: the page has nothing that is not in it, with its type, help and labels, and the
/// table nothing that no page has.
fn explained(page: &str) {
    // What needs an engine that tells its metrics, or a state folder.
    const ELSEWHERE: [&str; 3] =
        ["tidegate_scrape_failures_total", "tidegate_scrape_age_seconds", "tidegate_journal_errors_total"];
    for metric in METRIC_TABLE {
        let (name, kind) = (metric.name, metric.kind.name());
        if ELSEWHERE.contains(&name) {
            continue;
        }
        assert!(page.contains(&format!("# TYPE {name} {kind}\n")), "{name} is on no page");
        assert!(page.contains(&format!("# HELP {name} {}\n", metric.help)), "{name} has another help line");
    }
    for (series, _) in samples(page) {
        let (name, labels) = series.split_once('{').unwrap_or((&series, ""));
        let is_of = |metric: &&Metric| {
            let rest = name.strip_prefix(metric.name);
            rest.is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest))
        };
        let metric = METRIC_TABLE.iter().find(is_of).unwrap_or_else(|| panic!("{name} is in no table"));
        let names: BTreeSet<&str> = labels
            .split("\",")
            .filter_map(|label| label.split_once("=\""))
            .map(|(name, _)| name)
            .filter(|name| *name != "le")
            .collect();
        assert_eq!(names, metric.labels.iter().copied().collect(), "labels of {series}");
    }
}

/// The level of the log changes at once and for the operator only; a faulty one changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_level_of_the_log_changes_while_it_runs() {
    use crate::operating::{change, operated};
    let engine = kit::engine().await;
    let gateway = kit::Gateway::start(PROGRAM, &operated(config([engine.url()]))).await;
    let drained = "/api/v1/deployments/sim/replicas/0/drain";
    let audit = || gateway.said().matches("replica drained or put back").count();
    change(&gateway, http::Method::POST, drained, &Value::Null).await;
    assert_eq!(gateway.admin("/api/v1/log").await.json()["level"], "warn");

    let set = change(&gateway, http::Method::PUT, "/api/v1/log", &json!({ "level": "info" })).await;
    assert_eq!((set.status, &set.json()["level"]), (200, &json!("info")), "{}", set.text());
    change(&gateway, http::Method::DELETE, drained, &Value::Null).await;
    kit::eventually("the line of the second change", || async { (audit() == 1).then_some(()) }).await;

    let wrong = change(&gateway, http::Method::PUT, "/api/v1/log", &json!({ "level": "loud" })).await;
    assert_eq!((wrong.status, &gateway.admin("/api/v1/log").await.json()["level"]), (400, &json!("info")));
}
