//! What the console draws, before a real process: figures over time, events, groups of refusals, drills on the running config.

use crate::PROGRAM;
use crate::operating::{change, operated};
use http::Method;
use kit::base_config::{PLAIN_KEY, budget, merge};
use kit::client::{get, post, send};
use kit::{Gateway, KEY, ask, config, engine, eventually};
use serde_json::{Value, json};

async fn page(gateway: &Gateway, path: &str) -> Value {
    let answer = gateway.admin(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// The sum of a column.
fn sum(column: &Value) -> u64 {
    column.as_array().unwrap().iter().filter_map(Value::as_u64).sum()
}

/// The events of a gateway of these kinds: kind, what it happened to, and whether somebody did it.
async fn events(gateway: &Gateway, kinds: &[&str]) -> Vec<(String, Value, bool)> {
    let told = page(gateway, "/api/v1/events").await;
    let all = told["events"].as_array().unwrap().iter().filter_map(|event| {
        let kind = event["kind"].as_str().unwrap();
        let subject = [&event["replica"], &event["deployment"], &event["account"]];
        let subject = subject.into_iter().find(|one| !one.is_null()).cloned().unwrap_or(Value::Null);
        kinds.contains(&kind).then(|| (kind.to_owned(), subject, event["by"].is_string()))
    });
    all.collect()
}

/// What requests did is in the steps of the history, and the same as in the counters of the deployment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_has_what_the_counters_have() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    merge(&mut config["accounts"][1], json!({ "limits": [budget(1_000_000, 1_000_000, 20)] }));
    merge(&mut config["deployments"][0], json!({ "slo": { "ttft_ms": 5000, "tpot_ms": 1000 } }));
    let gateway = Gateway::start(PROGRAM, &config).await;
    let history = "/api/v1/history?deployment=sim";
    let empty = page(&gateway, history).await;
    assert_eq!((&empty["time"], &empty["complete"]), (&json!([]), &json!(true)), "nothing without traffic");
    // What is promised is known from the first sample on, and nothing is judged before.
    eventually("the first sample", || async {
        (page(&gateway, history).await["slo"]["ttft_ms"] == json!(5000.0)).then_some(())
    })
    .await;
    for nth in 0..12 {
        let tier = if nth % 3 == 0 { "priority" } else { "default" };
        let asked = ask(json!({ "stream": true, "max_tokens": 8, "service_tier": tier }));
        assert_eq!(gateway.chat_as(KEY, &asked).await.status, 200);
    }
    let asked = ask(json!({ "max_tokens": 16 }));
    assert_eq!(gateway.chat_as(PLAIN_KEY, &asked).await.status, 200);
    assert_eq!(gateway.chat_as(PLAIN_KEY, &asked).await.status, 429);

    let told = eventually("the steps with all of it", || async {
        let told = page(&gateway, history).await;
        let tiers = &told["tiers"];
        let all = sum(&tiers[0]["offered"]) + sum(&tiers[1]["offered"]);
        (all >= 14 && sum(&tiers[1]["answered"]) >= 8).then_some(told)
    })
    .await;

    let (priority, regular) = (&told["tiers"][0], &told["tiers"][1]);
    assert_eq!((sum(&priority["admitted"]), sum(&regular["admitted"])), (4, 9));
    assert_eq!((sum(&priority["limited"]), sum(&regular["limited"])), (0, 1), "the account's limit");
    assert_eq!((sum(&priority["answered"]), sum(&priority["met"])), (4, 4));
    assert_eq!((&told["slo"]["ttft_ms"], &told["slo"]["tpot_from"]), (&json!(5000.0), &json!("config")));
    let seen = |column: &Value| column.as_array().unwrap().iter().any(Value::is_number);
    for (column, what) in [
        (&priority["ttft_ms"]["p99"], "first tokens"),
        (&priority["attainment"], "attainment"),
        (&told["saturation"], "saturation"),
        (&told["tokens_per_second"]["generated"], "tokens"),
    ] {
        assert!(seen(column), "{what}: {told}");
    }
    let lengths = [&told["saturation"], &priority["gap_ms"]["p50"], &regular["queued"], &told["replicas_up"]];
    let steps = told["time"].as_array().unwrap();
    assert!(lengths.iter().all(|column| column.as_array().unwrap().len() == steps.len()), "{told}");
    let counted = page(&gateway, "/api/v1/deployments/sim").await;
    assert_eq!(counted["tiers"][1]["admitted"], sum(&regular["admitted"]));

    let last = steps.last().unwrap().as_u64().unwrap();
    let since = page(&gateway, &format!("{history}&since={last}")).await;
    assert!(since["time"].as_array().unwrap().len() <= 1, "only later steps: {since}");
    for (wrong, status) in [
        ("/api/v1/history", 400),
        ("/api/v1/history?deployment=other", 404),
        ("/api/v1/history?deployment=sim&resolution=1h", 400),
        ("/api/v1/history?deployment=sim&since=yesterday", 400),
    ] {
        assert_eq!(gateway.admin(wrong).await.status, status, "{wrong}");
    }
}

/// What operators do and what happens by itself stands on the same axis, each with who did it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_say_what_happened_and_who_did_it() {
    let (one, two) = (engine().await, engine().await);
    let gateway = Gateway::start(PROGRAM, &operated(config([one.url(), two.url()]))).await;
    let started = events(&gateway, &["start"]).await;
    assert_eq!(started, [("start".to_owned(), Value::Null, false)]);
    let path = |rest: &str| format!("/api/v1/deployments/sim/{rest}");
    change(&gateway, Method::POST, &path("replicas/0/drain"), &Value::Null).await;
    let drained = page(&gateway, "/api/v1/deployments/sim").await;
    assert_eq!(drained["replicas"][0]["health"], "drained");
    change(&gateway, Method::DELETE, &path("replicas/0/drain"), &Value::Null).await;
    change(&gateway, Method::POST, &path("thresholds"), &json!({ "regular": 0.5 })).await;
    change(&gateway, Method::POST, &path("pressure"), &json!({ "share": 0.5, "seconds": 1 })).await;
    let limits = json!({ "ceiling": { "generated": 5_000_000_000_u64 } });
    let set = change(&gateway, Method::PUT, "/api/v1/accounts/acme/limits", &limits).await;
    assert_eq!(set.status, 200, "{}", set.text());
    change(&gateway, Method::POST, "/api/v1/reload", &Value::Null).await;

    let url = json!(one.url());
    let expected = [
        ("drain", &url, true),
        ("undrain", &url, true),
        ("thresholds", &json!("sim"), true),
        ("pressure", &json!("sim"), true),
        ("limits", &json!("acme"), true),
        ("limits", &json!("acme"), true),
        ("reload", &Value::Null, true),
    ];
    let expected: Vec<_> = expected.map(|(kind, what, by)| (kind.to_owned(), what.clone(), by)).into();
    let kinds = ["drain", "undrain", "thresholds", "pressure", "limits", "reload"];
    assert_eq!(events(&gateway, &kinds).await, expected, "a limit is set on each of two models");
    // What ends by itself is nobody's doing.
    let over = eventually("the end of the pressure", || async {
        let over = events(&gateway, &["pressure_over"]).await;
        (!over.is_empty()).then_some(over)
    })
    .await;
    assert_eq!(over, [("pressure_over".to_owned(), json!("sim"), false)]);

    let url = json!(two.url());
    drop(two);
    let down = eventually("the replica is down", || async {
        let _ = gateway.chat(&ask(json!({}))).await;
        let down = events(&gateway, &["replica_down"]).await;
        (!down.is_empty()).then_some(down)
    })
    .await;
    assert_eq!(down[0], ("replica_down".to_owned(), url, false));

    let all = page(&gateway, "/api/v1/events").await;
    let all = all["events"].as_array().unwrap();
    let (nth, last) = (all.len() - 2, &all[all.len() - 1]);
    let since = page(&gateway, &format!("/api/v1/events?since={}", all[nth]["time"])).await;
    assert!(
        since["events"].as_array().unwrap().contains(last)
            && !since["events"].as_array().unwrap().contains(&all[nth])
    );
    assert_eq!(page(&gateway, "/api/v1/events?limit=1").await["events"].as_array().unwrap().len(), 1);
}

/// Case O11: while a tier is closed the API says what binds it, in the words of the refusals that follow; those are counted by
/// account and reason, and one of them is found by its id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_o11_what_binds_is_said_and_refusals_are_grouped_and_found() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    merge(&mut config["deployments"][0], json!({ "limit": 4, "queue": { "requests": 0 } }));
    let gateway = Gateway::start(PROGRAM, &config).await;
    let binds = |told: &Value| told["tiers"][1]["binds"]["code"].as_str().unwrap().to_owned();
    let free = page(&gateway, "/api/v1/deployments/sim").await;
    assert_eq!((binds(&free), &free["tiers"][1]["open"]), ("none".to_owned(), &json!(true)), "{free}");
    let _held = [gateway.hold().await, gateway.hold().await, gateway.hold().await];

    let told = page(&gateway, "/api/v1/deployments/sim").await;
    let tier = &told["tiers"][1];
    assert_eq!((binds(&told), &tier["open"]), ("places".to_owned(), &json!(false)), "{told}");
    let mut ids = Vec::new();
    for _ in 0..3 {
        let refused = gateway.chat_as(PLAIN_KEY, &ask(json!({}))).await;
        assert_eq!(refused.status, 503);
        let said = refused.text();
        assert!(said.contains(tier["binds"]["words"].as_str().unwrap()), "{said}");
        ids.push(refused.header("x-request-id").to_owned());
    }
    let asked = ask(json!({ "model": "other-model" }));
    assert_eq!(gateway.chat_as(PLAIN_KEY, &asked).await.status, 503);
    gateway.log(4).await;

    let groups = page(&gateway, "/api/v1/requests/groups").await;
    let group = &groups["groups"][0];
    assert_eq!((&groups["total"], &group["count"]), (&json!(4), &json!(4)), "{groups}");
    assert_eq!((&group["account"], &group["reason"]), (&json!("plain"), &json!("shed-saturated")));
    assert_eq!(group["models"].as_array().unwrap().len(), 2);
    assert_eq!(sum(&group["by_minute"]), 4);
    let of_one = page(&gateway, "/api/v1/requests/groups?model=other-model&minutes=5").await;
    assert_eq!((&of_one["total"], &of_one["minutes"]), (&json!(1), &json!(5)));
    for (query, count) in [
        (format!("id={}", ids[1]), 1),
        ("id=no-such-id".to_owned(), 0),
        ("model=sim".to_owned(), 3),
        ("account=plain&reason=shed-saturated&status=503&tier=regular&deployment=sim".to_owned(), 4),
        ("status=429".to_owned(), 0),
    ] {
        let found = page(&gateway, &format!("/api/v1/requests?{query}")).await;
        assert_eq!(found["refusals"].as_array().unwrap().len(), count, "{query}");
        assert_eq!(found["matching"], count, "{query}");
    }
    assert_eq!(gateway.admin("/api/v1/requests?tier=silver").await.status, 400);
    let mut own = post(&ask(json!({})), Some(PLAIN_KEY));
    own.headers_mut().insert("x-request-id", "mine-1".try_into().unwrap());
    assert_eq!(send(gateway.address, own).await.status, 503);
    gateway.log(5).await;
    let found = page(&gateway, "/api/v1/requests?id=mine-1").await;
    assert_eq!(found["refusals"][0]["client_request_id"], "mine-1", "{found}");
}

/// A drill is played on the running config by a process that gives way, one at a time, and its report is a page of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drill_on_the_running_config_gives_way_and_ends_with_a_report() {
    let engine = engine().await;
    let gateway = Gateway::start(PROGRAM, &operated(config([engine.url()]))).await;
    let drills = "/api/v1/drills";
    let told = page(&gateway, drills).await;
    assert_eq!((&told["available"], told["scenarios"].as_array().unwrap().len()), (&json!(true), 4));
    let order = json!({ "scenario": "surge", "rate_per_s": 40.0 });
    let run = change(&gateway, Method::POST, drills, &order).await;
    assert_eq!(run.status, 200, "{}", run.text());
    let child =
        eventually("the drill's process", || async { children(gateway.pid()).first().copied() }).await;
    eventually("it gives way", || async { (niceness(child)? == 19).then_some(()) }).await;
    let second = change(&gateway, Method::POST, drills, &json!({ "scenario": "surge" })).await;
    assert_eq!((second.status, &second.json()["error"]["code"]), (409, &json!("drill_running")));

    let run = run.json();
    let path = format!("{drills}/{}", run["id"]);
    let over = ended(&gateway, &path).await;
    assert!(over["state"] == "passed" || over["state"] == "failed", "{over}");
    assert!(over["checks"].as_array().unwrap().len() == 2 && over["has_report"] == true, "{over}");
    let report = gateway.admin(&format!("{path}/report")).await;
    assert!(report.header("content-security-policy").starts_with("sandbox allow-scripts;"));
    assert!(report.text().starts_with("<!doctype html>") && report.text().contains("Three times the load"));
    assert_eq!(engine.records().len(), 0, "no replica was asked");
    let kinds = ["drill_started", "drill_ended"];
    let told = events(&gateway, &kinds).await;
    assert_eq!(
        told.iter().map(|(kind, _, by)| (kind.as_str(), *by)).collect::<Vec<_>>(),
        [(kinds[0], true), (kinds[1], false)]
    );

    let left = change(&gateway, Method::DELETE, &path, &Value::Null).await.json();
    assert_eq!(left["drills"], json!([]));
    assert_eq!(gateway.admin(&path).await.status, 404);
}

/// What cannot be played says why; what runs ends when it is stopped, and with its gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_drill_says_why_and_one_that_runs_ends_with_its_gateway() {
    let engine = engine().await;
    let gateway = Gateway::start(PROGRAM, &operated(config([engine.url()]))).await;
    let drills = "/api/v1/drills";
    for wrong in
        [json!({}), json!({ "scenario": "tsunami" }), json!({ "scenario": "surge", "rate_per_s": 0.0 })]
    {
        assert_eq!(change(&gateway, Method::POST, drills, &wrong).await.status, 422, "{wrong}");
    }
    let text = |traffic: &str| json!({ "yaml": format!("drill: d\nduration_s: 60\naccounts: [{{ id: acme }}]\ntraffic: [{{ name: t, model: sim, accounts: acme, {traffic} }}]\n") });
    for (traffic, why) in [
        ("rate_per_s: 5, wrklod: x", "scenario:4:"),
        ("trace: { file: /etc/passwd, format: azure }", "reads no files"),
    ] {
        let run = change(&gateway, Method::POST, drills, &text(traffic)).await.json();
        let over = ended(&gateway, &format!("{drills}/{}", run["id"])).await;
        assert!(over["state"] == "broken" && over["words"].as_str().unwrap().contains(why), "{over}");
    }
    let long = json!({ "scenario": "surge", "rate_per_s": 2000.0 });
    let run = change(&gateway, Method::POST, drills, &long).await.json();
    let path = format!("{drills}/{}", run["id"]);
    change(&gateway, Method::DELETE, &path, &Value::Null).await;
    assert_eq!(ended(&gateway, &path).await["state"], "stopped");

    change(&gateway, Method::POST, drills, &long).await;
    let child =
        eventually("the drill's process", || async { children(gateway.pid()).first().copied() }).await;
    // Until it has said that it wants to end with its parent.
    eventually("it gives way", || async { (niceness(child)? == 19).then_some(()) }).await;
    gateway.signal("KILL");
    eventually("the end of the drill's process", || async { niceness(child).is_none().then_some(()) }).await;
}

/// A drill that is over.
async fn ended(gateway: &Gateway, path: &str) -> Value {
    eventually("the end of the drill", || async {
        let run = send(gateway.admin, get(path, None)).await.json();
        (run["state"] != "running").then_some(run)
    })
    .await
}

/// The processes that `parent` has started.
fn children(parent: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// How nice a process is that lives; `None`: it does not.
fn niceness(id: u32) -> Option<i64> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    (*fields.first()? != "Z").then(|| fields.get(16)?.parse().ok())?
}
