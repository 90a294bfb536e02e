//! O02, O14, O15, O17: states, series and changes are told alike, wherever somebody looks.

use crate::PROGRAM;
use crate::operating::{TOKEN, change, operated};
use http::Method;
use kit::base_config::merge;
use kit::client::{post, send};
use kit::{Gateway, KEY, ask, config, engine, eventually};
use serde_json::{Value, json};
use std::process::Command;

/// The samples of a metric, as they stand on the page.
async fn series(gateway: &Gateway, name: &str) -> Vec<String> {
    let page = gateway.admin("/metrics").await.text();
    let is_of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    page.lines().filter(is_of).map(str::to_owned).collect()
}

async fn command(gateway: &Gateway, words: &str) -> String {
    let words = format!("{words} --admin {}", gateway.admin);
    let ran = tokio::task::spawn_blocking(move || {
        Command::new(PROGRAM).args(words.split_whitespace()).output().unwrap()
    });
    String::from_utf8(ran.await.unwrap().stdout).unwrap()
}

/// What the API, the metrics and the command line say of a replica.
async fn told(gateway: &Gateway, replica: u16) -> (Value, Value, String, String, bool) {
    let page = gateway.admin("/api/v1/deployments").await.json();
    let state = page["deployments"][0]["replicas"][usize::from(replica)].clone();
    let states = series(gateway, "tidegate_replica_state").await;
    let of = format!("replica=\"{replica}\",state=\"");
    let state_of = |line: &String| Some(line.split_once(&of)?.1.split_once("\"} 1")?.0.to_owned());
    let mut metric: Vec<String> = states.iter().filter_map(state_of).collect();
    assert_eq!(metric.len(), 1, "one state at a time: {states:?}");
    let up = series(gateway, "tidegate_replica_up").await;
    let up = up.iter().find(|line| line.contains(&format!("replica=\"{replica}\""))).unwrap().clone();
    let table = command(gateway, "deployments").await;
    let is_in_table = table.lines().any(|line| {
        line.contains(state["replica"].as_str().unwrap()) && line.contains(state["health"].as_str().unwrap())
    });
    (state["health"].clone(), state["healthy"].clone(), metric.remove(0), up, is_in_table)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_o02_draining_drained_and_down_are_states_of_their_own_everywhere() {
    let mut engines = vec![engine().await, engine().await];
    let mut config = operated(config(engines.iter().map(|engine| engine.url())));
    merge(&mut config["deployments"][0], json!({ "scrape": { "interval_ms": 200 } }));
    let gateway = Gateway::start(PROGRAM, &config).await;
    assert_eq!(told(&gateway, 1).await.0, "serving");
    let address = gateway.address;
    let slow = ask(json!({ "stream": true, "user": "sim:gap=100ms", "max_tokens": 100 }));
    let stream = tokio::spawn(async move { send(address, post(&slow, Some(KEY))).await });
    gateway.counter_becomes("gate_live:sim", 1).await;
    let page = gateway.admin("/api/v1/deployments").await.json();
    let replicas = page["deployments"][0]["replicas"].as_array().unwrap();
    let busy = replicas.iter().position(|replica| replica["active"] == 1).unwrap();
    let (drain, busy_id) = (format!("/api/v1/deployments/sim/replicas/{busy}/drain"), busy as u16);

    assert_eq!(change(&gateway, Method::POST, &drain, &Value::Null).await.status, 200);

    let (health, healthy, metric, up, in_table) = told(&gateway, busy_id).await;
    assert_eq!((health, healthy, metric.as_str()), (json!("draining"), json!(true), "draining"));
    assert!(up.ends_with(" 1") && in_table, "{up}");
    assert_eq!(stream.await.unwrap().status, 200);
    let (health, healthy, metric, up, in_table) = eventually("it is drained", || async {
        let told = told(&gateway, busy_id).await;
        (told.0 == "drained").then_some(told)
    })
    .await;
    assert_eq!((health, healthy, metric.as_str()), (json!("drained"), json!(true), "drained"));
    assert!(up.ends_with(" 1") && in_table, "{up}");

    change(&gateway, Method::DELETE, &drain, &Value::Null).await;
    drop(engines.remove(busy));
    let down = eventually("it is down", || async {
        gateway.chat(&ask(json!({}))).await;
        let told = told(&gateway, busy_id).await;
        (told.0 == "down").then_some(told)
    })
    .await;
    assert_eq!((down.1, down.2.as_str()), (json!(false), "down"));
    assert!(down.3.ends_with(" 0") && down.4, "{}", down.3);
    change(&gateway, Method::POST, &drain, &Value::Null).await;
    let stopped = told(&gateway, busy_id).await;
    assert_eq!((stopped.0, stopped.2.as_str()), (json!("drained"), "drained"), "it was taken out on purpose");
    assert!(stopped.3.ends_with(" 1"), "{}", stopped.3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_o14_series_of_what_was_taken_out_of_the_config_leave_the_page() {
    let engine = engine().await;
    let mut config = operated(config([engine.url()]));
    config["models"][1] = json!({ "name": "going", "deployments": ["sim"], "size_class": "small" });
    let gateway = Gateway::start(PROGRAM, &config).await;
    assert_eq!(gateway.chat(&ask(json!({ "model": "going" }))).await.status, 200);
    gateway.log(1).await;
    let of_model = |page: &str| page.lines().filter(|line| line.contains("model=\"going\"")).count();
    assert!(of_model(&gateway.admin("/metrics").await.text()) > 5);

    config["models"].as_array_mut().unwrap().remove(1);
    gateway.write_config(&config);
    assert_eq!(change(&gateway, Method::POST, "/api/v1/reload", &Value::Null).await.status, 200);

    let page = gateway.admin("/metrics").await.text();
    assert_eq!(of_model(&page), 0, "{page}");
    assert!(page.contains("model=\"sim\""), "the others stay");
}

/// What is known to be possible stands at zero, and the process tells what it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_o14_counters_stand_at_zero_before_their_first_event_and_buckets_go_on_to_an_hour() {
    let engine = engine().await;
    let gateway = Gateway::start(PROGRAM, &config([engine.url()])).await;
    let page = gateway.admin("/metrics").await.text();

    for series in [
        "tidegate_requests_total{model=\"sim\",tier=\"regular\",status=\"200\",reason=\"\"} 0",
        "tidegate_requests_total{model=\"sim\",tier=\"priority\",status=\"429\",reason=\"generated_tokens_limited\"} 0",
        "tidegate_tokens_total{model=\"sim\",tier=\"regular\",kind=\"generated\"} 0",
        "tidegate_client_retries_total{model=\"sim\"} 0",
        "tidegate_retries_total{deployment=\"sim\"} 0",
        "tidegate_withdrawn_total{deployment=\"sim\"} 0",
        "tidegate_usage_missing_total{deployment=\"sim\"} 0",
        "tidegate_upstream_errors_total{deployment=\"sim\",replica=\"0\",kind=\"connect\"} 0",
        "tidegate_shed_total{deployment=\"sim\",tier=\"regular\",reason=\"queue-full\"} 0",
        "tidegate_limit_changes_total{meter=\"generated\",direction=\"up\"} 0",
        "tidegate_admin_refused_total{reason=\"busy\"} 0",
        "tidegate_access_log_dropped_total 0",
        "tidegate_log_dropped_total 0",
    ] {
        assert!(page.lines().any(|line| line == series), "no `{series}` in\n{page}");
    }
    let value = |name: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    };
    assert!(value("process_resident_memory_bytes") > 1e6 && value("process_cpu_seconds_total") > 0.0);
    assert!(value("process_open_fds") > 5.0 && value("process_max_fds") >= value("process_open_fds"));
    let age = engine::clock::wall().as_secs_f64() - value("process_start_time_seconds");
    assert!((0.0..60.0).contains(&age), "{age}");
    assert_eq!(gateway.chat(&ask(json!({}))).await.status, 200);
    gateway.log(1).await;
    let buckets = series(&gateway, "tidegate_request_duration_seconds_bucket").await;
    for bound in ["300", "600", "1800", "3600", "+Inf"] {
        assert!(buckets.iter().any(|line| line.contains(&format!("le=\"{bound}\""))), "{bound}: {buckets:?}");
    }
}

/// Before an account's first request as after it, and with whose token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_o15_every_change_of_a_limit_is_an_event_with_reason_and_token() {
    let engine = engine().await;
    let mut config = operated(config([engine.url()]));
    merge(&mut config, json!({ "state": {}, "limits": { "policy": "published" } }));
    let gateway = Gateway::start(PROGRAM, &config).await;
    let limits = "/api/v1/accounts/acme/limits";
    let set = async |body: Value| change(&gateway, Method::PUT, limits, &body).await;
    let by = config::keys::Digest::of(TOKEN).short();
    let history = |page: Value| page["models"][0]["history"].as_array().unwrap().clone();

    let first =
        set(json!({ "model": "sim", "start": { "generated": 72_000 }, "floor": { "generated": 60_000 } }))
            .await;

    assert_eq!(first.status, 200, "{}", first.text());
    let events = history(first.json());
    let told = |event: &Value| {
        (
            event["bound"].clone(),
            event["meter"].clone(),
            event["to"].clone(),
            event["reason"].clone(),
            event["by"].clone(),
        )
    };
    let event =
        |bound: &str, to: u64| (json!(bound), json!("generated"), json!(to), json!("operator"), json!(by));
    let told_first: Vec<_> = events.iter().map(told).collect();
    assert!(
        told_first.contains(&event("start", 72_000)) && told_first.contains(&event("floor", 60_000)),
        "{events:?}"
    );

    assert_eq!(gateway.chat(&ask(json!({}))).await.status, 200);
    let second =
        set(json!({ "model": "sim", "ceiling": { "generated": 70_000 }, "start": { "generated": 65_000 } }))
            .await;
    let events = history(second.json());
    let told_second: Vec<_> = events.iter().map(told).collect();
    assert!(told_second.contains(&event("ceiling", 70_000)), "{events:?}");
    assert!(
        told_second.contains(&event("limit", 70_000)),
        "the limit that follows has the same author: {events:?}"
    );

    let table = {
        let words = format!("limits history acme --model sim --admin {}", gateway.admin);
        let ran = tokio::task::spawn_blocking(move || {
            Command::new(PROGRAM).args(words.split_whitespace()).output().unwrap()
        });
        String::from_utf8(ran.await.unwrap().stdout).unwrap()
    };
    assert!(table.contains("operator") && table.contains(&by), "{table}");
    // It outlives the process as the limits do.
    let file = gateway.state().join("overrides-history.json");
    eventually("the file of the history", || async { file.exists().then_some(()) }).await;
    assert!(std::fs::read_to_string(file).unwrap().contains(&by));
}

#[test]
fn case_o17_check_warns_of_a_queue_that_is_always_full() {
    let folder = kit::folder::Folder::new();
    let file = folder.path().join("config.yaml");
    let check = |requests: u32| {
        let mut config = config(["http://127.0.0.1:9".to_owned()]);
        config["log"]["access"] = json!("off");
        config["deployments"][0]["queue"] = json!({ "requests": requests });
        std::fs::write(&file, config.to_string()).unwrap();
        let ran = Command::new(PROGRAM).arg("check").arg(&file).output().unwrap();
        assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    };

    let warned = check(2);

    assert!(
        warned.contains("deployments[0].queue.requests: is 2") && warned.contains("always full"),
        "{warned}"
    );
    assert!(!check(32).contains("hint"));
}
