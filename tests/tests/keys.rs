//! Keys inside an account: names, ends, models, tiers and limits of their own, never more than the account has.

use crate::PROGRAM;
use crate::operating::{change, operated};
use http::Method;
use kit::base_config::{account, budget, merge};
use kit::client::{Answer, Connection, get, post, send};
use kit::{Gateway, ask, config, engine, eventually};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A key without a name, with all of its account's rights.
const PLAIN: &str = "tg-team";
/// The key of the team's continuous integration.
const CI: &str = "tg-team-ci";
const ACCOUNT: &str = "/api/v1/accounts/team";

/// An entry of `accounts[].keys` for [`CI`], called `ci`.
fn ci(rights: Value) -> Value {
    named(CI, "ci", rights)
}

fn named(key: &str, name: &str, rights: Value) -> Value {
    let mut entry = json!({ "key": config::keys::Digest::of(key).to_string(), "name": name });
    merge(&mut entry, rights);
    entry
}

/// A config with the account `team`, its plain key, and these keys.
fn team(engine: String, more: Value, keys: &[Value]) -> Value {
    let mut config = operated(config([engine]));
    let mut team = account("team", PLAIN, more);
    team["keys"].as_array_mut().unwrap().extend(keys.iter().cloned());
    config["accounts"].as_array_mut().unwrap().push(team);
    config
}

fn tokens(count: u64) -> Value {
    ask(json!({ "max_tokens": count }))
}

async fn status(gateway: &Gateway, key: &str) -> u16 {
    gateway.chat_as(key, &tokens(8)).await.status
}

/// A state folder of this test, empty.
fn state(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("keys-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

fn keeping(mut config: Value, folder: &Path) -> Value {
    config["state"] = json!({ "dir": folder.to_str().unwrap(), "interval_ms": 100 });
    config
}

/// What `GET /api/v1/accounts/team` says of the newest key of that name.
async fn key_state(gateway: &Gateway, name: &str) -> Value {
    let told = gateway.admin(ACCOUNT).await.json();
    let list = told["key_list"].as_array().unwrap();
    list.iter().rfind(|key| key["name"] == name).unwrap_or_else(|| panic!("{told}")).clone()
}

/// Generated tokens that the key `ci` used of its own limit in the last minute.
async fn used(gateway: &Gateway) -> u64 {
    key_state(gateway, "ci").await["budgets"][0]["used"][2].as_u64().unwrap_or(0)
}

async fn asked(gateway: &Gateway, method: Method, path: &str, body: Value) -> (u16, Value) {
    let answer = change(gateway, method, path, &body).await;
    (answer.status, answer.json())
}

/// The key's own limit refuses it by name; the account's other key, and the account's budget, are untouched by that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_at_its_own_limit_is_refused_by_name_while_the_accounts_other_key_is_served() {
    let engine = engine().await;
    let own = ci(json!({ "limits": [{ "generated": 20 }] }));
    let limits = json!({ "limits": [budget(1_000_000, 1_000_000, 1_000)] });
    let gateway = Gateway::start(PROGRAM, &team(engine.url(), limits, &[own])).await;

    let first = gateway.chat_as(CI, &tokens(20)).await;
    gateway.invariants().await;
    let second = gateway.chat_as(CI, &tokens(20)).await;
    let other = gateway.chat_as(PLAIN, &tokens(20)).await;

    assert_eq!((first.status, other.status), (200, 200), "{}", first.text());
    assert_eq!(second.verdict(), (429, "generated_tokens_limited"));
    let message = second.message();
    assert!(
        message.starts_with("Key `ci` of account team is at a limit of its own. The limit of 20 "),
        "{message}"
    );
    assert!(first.header("ratelimit").contains("\"generated\";r=0;"), "{}", first.header("ratelimit"));
    assert!(other.header("ratelimit").contains("\"generated\";r=960;"), "{}", other.header("ratelimit"));
    let lines = gateway.log(3).await;
    let names: Vec<&Value> = lines.iter().map(|line| &line["key_name"]).collect();
    assert_eq!(names, [&json!("ci"), &json!("ci"), &Value::Null]);
    let limits = gateway.admin(&format!("{ACCOUNT}/limits")).await.json();
    assert_eq!(limits["models"][0]["meters"][2]["used"], 40, "what the key used is the account's too");
    gateway.invariants().await;
}

/// Two keys that may have more than the account: it is the account that refuses, and nothing stays held in the key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_together_have_no_more_than_their_account() {
    let engine = engine().await;
    let other = named("tg-team-web", "web", json!({ "share": 1.0 }));
    let own = ci(json!({ "limits": [{ "generated": 1_000_000 }] }));
    let limits = json!({ "limits": [budget(1_000_000, 1_000_000, 30)] });
    let gateway = Gateway::start(PROGRAM, &team(engine.url(), limits, &[own, other])).await;

    assert_eq!(gateway.chat_as(CI, &tokens(16)).await.status, 200);
    gateway.invariants().await;
    let refused = gateway.chat_as("tg-team-web", &tokens(16)).await;

    assert_eq!(refused.verdict(), (429, "generated_tokens_limited"));
    assert!(refused.message().starts_with("The limit of 30 "), "{}", refused.message());
    gateway.invariants().await;
    let state = key_state(&gateway, "ci").await;
    assert_eq!(state["budgets"][0]["limits"][2], 30, "never more than the account's: {state}");
}

/// Eighty at once on a share for ten: no race lets more through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_does_not_race_past_a_keys_share() {
    let engine = engine().await;
    let limits = json!({ "limits": [budget(1_000_000, 1_000_000, 640)] });
    let gateway = Gateway::start(PROGRAM, &team(engine.url(), limits, &[ci(json!({ "share": 0.25 }))])).await;
    let mut burst = tokio::task::JoinSet::new();
    for _ in 0..80 {
        let address = gateway.address;
        let body = ask(json!({ "max_tokens": 16, "user": "sim:delay=20ms" }));
        burst.spawn(async move { send(address, post(&body, Some(CI))).await });
    }

    let answers = burst.join_all().await;

    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 10);
    assert!(answers.iter().all(|answer| [200, 429].contains(&answer.status)));
    assert_eq!(status(&gateway, PLAIN).await, 200, "the rest is the others'");
    gateway.invariants().await;
}

/// Half of a limit that an operator doubles is twice as much, at once and without a reload.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_follows_the_accounts_limits() {
    let engine = engine().await;
    let limits = json!({ "limits": [budget(1_000_000, 1_000_000, 64)] });
    let gateway = Gateway::start(PROGRAM, &team(engine.url(), limits, &[ci(json!({ "share": 0.5 }))])).await;
    assert_eq!(gateway.chat_as(CI, &tokens(32)).await.status, 200);
    gateway.invariants().await;
    assert_eq!(gateway.chat_as(CI, &tokens(32)).await.status, 429);

    let doubled = json!({ "model": "sim", "start": { "generated": 128 }, "ceiling": { "generated": 128 } });
    let (code, told) = asked(&gateway, Method::PUT, &format!("{ACCOUNT}/limits"), doubled).await;
    assert_eq!(code, 200, "{told}");

    assert_eq!(gateway.chat_as(CI, &tokens(32)).await.status, 200);
    gateway.invariants().await;
    assert_eq!(gateway.chat_as(CI, &tokens(32)).await.status, 429);
    assert_eq!(used(&gateway).await, 64);
}

/// Requests per minute and at once are the key's first, then the account's; a place that either refuses is taken of neither.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_has_requests_per_minute_and_at_once_of_its_own() {
    let engine = engine().await;
    let web = named("tg-team-web", "web", json!({ "concurrency": 1 }));
    let keys = [ci(json!({ "requests_per_minute": 2 })), web];
    let limits = json!({ "requests_per_minute": 6 });
    let gateway = Gateway::start(PROGRAM, &team(engine.url(), limits, &keys)).await;

    assert_eq!((status(&gateway, CI).await, status(&gateway, CI).await), (200, 200));
    let refused = gateway.chat_as(CI, &tokens(8)).await;
    assert_eq!(refused.verdict(), (429, "requests_limited"));
    assert!(
        refused.message().starts_with("Key `ci` of account team is at its limit of 2 requests per minute")
    );

    let held = kit::client::hold(gateway.address, "tg-team-web", ask(json!({}))).await;
    let refused = gateway.chat_as("tg-team-web", &tokens(8)).await;
    assert_eq!(refused.verdict(), (429, "concurrency_limited"));
    assert!(refused.message().contains("Key `web` of account team is at its limit of 1 concurrent"));
    drop(held);
    gateway.invariants().await;
    // Of six, three are left: what the keys refused was not counted.
    let rest =
        [status(&gateway, PLAIN).await, status(&gateway, PLAIN).await, status(&gateway, "tg-team-web").await];
    assert_eq!(rest, [200; 3]);
    let refused = gateway.chat_as("tg-team-web", &tokens(8)).await;
    assert!(refused.message().starts_with("Account team is at its limit of 6 "), "{}", refused.message());
    gateway.invariants().await;
}

/// A model or a tier of the account that the key does not have is as if the account had it not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_has_some_of_its_accounts_models_and_tiers() {
    let engine = engine().await;
    let keys = [ci(json!({ "models": ["sim"], "tiers": ["regular"] }))];
    let rights = json!({
        "tiers": ["priority"], "default_tier": "priority", "on_forbidden_tier": "refuse",
    });
    let gateway = Gateway::start(PROGRAM, &team(engine.url(), rights, &keys)).await;
    let tier = |answer: &Answer| answer.json()["service_tier"].clone();

    let other = ask(json!({ "model": "other-model" }));
    let (of_ci, of_plain) = (gateway.chat_as(CI, &other).await, gateway.chat_as(PLAIN, &other).await);
    assert_eq!((of_ci.status, of_plain.status), (404, 200));
    let list = send(gateway.address, get("/v1/models", Some(CI))).await.json();
    assert_eq!((list["data"].as_array().unwrap().len(), &list["data"][0]["id"]), (1, &json!("sim")));

    let (of_ci, of_plain) = (gateway.chat_as(CI, &tokens(8)).await, gateway.chat_as(PLAIN, &tokens(8)).await);
    assert_eq!((tier(&of_ci), tier(&of_plain)), (json!("default"), json!("priority")), "each by its default");
    let refused = gateway.chat_as(CI, &ask(json!({ "service_tier": "priority" }))).await;
    assert_eq!(refused.verdict(), (403, "forbidden"));
    assert!(
        refused.message().contains("The key `ci` may not use the tier `priority`"),
        "{}",
        refused.message()
    );
}

/// An expired key is refused with a clear word to the client, in the access log and in the process's own; a disabled one as
/// one that is not known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_expires_and_that_is_told_before_and_afterwards() {
    let engine = engine().await;
    let in_seconds = |seconds: u64| {
        let at = engine::clock::wall() + Duration::from_secs(seconds);
        chrono::DateTime::from_timestamp_millis(at.as_millis() as i64).unwrap().to_rfc3339()
    };
    let keys = [
        ci(json!({ "expires": in_seconds(4) })),
        named("tg-team-old", "old", json!({ "expires": "2020-01-01T00:00:00Z" })),
        named("tg-team-far", "far", json!({ "expires": in_seconds(30 * 86_400) })),
        named("tg-team-off", "off", json!({ "disabled": true })),
    ];
    let gateway = Gateway::start(PROGRAM, &team(engine.url(), json!({}), &keys)).await;

    assert_eq!(status(&gateway, CI).await, 200);
    assert!(gateway.admin("/metrics").await.text().contains("\ntidegate_keys_expiring_soon 1\n"));
    let told = gateway.admin(ACCOUNT).await.json();
    let states: Vec<&Value> = told["key_list"].as_array().unwrap().iter().map(|key| &key["state"]).collect();
    assert_eq!(states, ["good", "expires_soon", "expired", "good", "disabled"]);
    assert_eq!(gateway.chat_as("tg-team-off", &tokens(8)).await.verdict(), (401, "unauthenticated"));

    let refused = eventually("the key expires", || async {
        let answer = gateway.chat_as(CI, &tokens(8)).await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    assert_eq!(refused.verdict(), (401, "key-expired"));
    let error = &refused.json()["error"];
    assert_eq!(error["code"], "invalid_api_key");
    assert!(refused.message().starts_with("The API key `ci` expired at "), "{}", refused.message());
    eventually("the access log tells whose key it was", || async {
        let is_it = |line: &Value| {
            line["reason"] == "key-expired" && line["account"] == "team" && line["key_name"] == "ci"
        };
        gateway.log(3).await.iter().any(is_it).then_some(())
    })
    .await;
    eventually("the log tells it", || async { gateway.said().contains("the key has expired").then_some(()) })
        .await;
    assert!(gateway.admin("/metrics").await.text().contains("\ntidegate_keys_expiring_soon 0\n"));
    gateway.invariants().await;
}

/// What a key used of its minute, and when it was used, outlives the process; so does a file of the first round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keys_minute_and_last_use_outlive_the_process() {
    let (engine, folder) = (engine().await, state("restart"));
    let limits = json!({ "limits": [budget(1_000_000, 1_000_000, 1_000)] });
    let keys = [ci(json!({ "limits": [{ "generated": 30 }] }))];
    let config = keeping(team(engine.url(), limits, &keys), &folder);
    let gateway = Gateway::start(PROGRAM, &config).await;
    assert_eq!(gateway.chat_as(CI, &tokens(30)).await.status, 200);
    let before = key_state(&gateway, "ci").await["last_used"].clone();
    assert!(before.is_string(), "{before}");
    // Several times as long as the journal waits between two writings.
    tokio::time::sleep(Duration::from_millis(600)).await;
    drop(gateway);

    let gateway = Gateway::start(PROGRAM, &config).await;

    assert_eq!(key_state(&gateway, "ci").await["last_used"], before);
    let refused = gateway.chat_as(CI, &tokens(30)).await;
    assert_eq!(refused.verdict(), (429, "generated_tokens_limited"));
    assert!(refused.message().starts_with("Key `ci`"), "{}", refused.message());
    assert_eq!(status(&gateway, PLAIN).await, 200);
    drop(gateway);

    let gateway = Gateway::start(PROGRAM, &keeping(team(engine.url(), json!({}), &[]), &folder)).await;
    assert_eq!(
        (status(&gateway, CI).await, status(&gateway, PLAIN).await),
        (401, 200),
        "it is not there any more"
    );
}

/// Through an upgrade a key's budget goes along as an account's does, with what still runs in the old process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keys_budget_goes_along_with_an_upgrade() {
    let engine = engine().await;
    let limits = json!({ "limits": [budget(1_000_000, 1_000_000, 100_000)] });
    let mut config = team(engine.url(), limits, &[ci(json!({ "share": 0.5 }))]);
    merge(&mut config, json!({ "state": {}, "log": { "level": "info" } }));
    let mut old = Gateway::start(PROGRAM, &config).await;
    let address = old.address;
    assert_eq!(old.chat_as(CI, &tokens(50)).await.status, 200);
    let running = tokio::spawn(async move {
        let body = ask(json!({ "stream": true, "user": "sim:gap=60ms", "max_tokens": 60 }));
        send(address, post(&body, Some(CI))).await
    });
    old.counter_becomes("gate_live:sim", 1).await;

    let new = old.successor().await.unwrap();
    old.signal("QUIT");
    assert!(running.await.unwrap().streamed().done);
    eventually("the old process ended", || {
        let exit = old.exit();
        async move { exit }
    })
    .await;

    assert_eq!(new.chat_as(CI, &tokens(8)).await.status, 200);
    let all = eventually("the last tokens were told", || async {
        let used = used(&new).await;
        (used >= 118).then_some(used)
    })
    .await;
    assert_eq!(all, 118, "each token once");
    new.invariants().await;
}

/// A reload that takes a key away refuses its next request and leaves its stream alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_taken_away_keeps_its_running_stream() {
    let engine = engine().await;
    let config = |keys: &[Value]| team(engine.url(), json!({}), keys);
    let gateway = Gateway::start(PROGRAM, &config(&[ci(json!({ "share": 0.5, "concurrency": 3 }))])).await;
    let address = gateway.address;
    let running = tokio::spawn(async move {
        let body = ask(json!({ "stream": true, "user": "sim:gap=50ms", "max_tokens": 30 }));
        send(address, post(&body, Some(CI))).await
    });
    gateway.counter_becomes("gate_live:sim", 1).await;

    gateway.write_config(&config(&[]));
    assert_eq!(asked(&gateway, Method::POST, "/api/v1/reload", Value::Null).await.0, 200);

    assert_eq!(status(&gateway, CI).await, 401);
    assert!(running.await.unwrap().streamed().done);
    gateway.invariants().await;
    gateway.write_config(&config(&[ci(json!({ "share": 0.5 }))]));
    assert_eq!(asked(&gateway, Method::POST, "/api/v1/reload", Value::Null).await.0, 200);
    assert_eq!(used(&gateway).await, 0, "its budget was not used under this config yet");
    assert_eq!(status(&gateway, CI).await, 200);
    // An answer is booked a moment after its client has it.
    gateway.invariants().await;
    assert_eq!(used(&gateway).await, 38, "its minute went on");
}

/// Made, changed, replaced and ended while the gateway runs; kept over a restart; an old line of the file is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_made_changed_replaced_and_ended_at_run_time() {
    let (engine, folder) = (engine().await, state("run-time"));
    let base = keeping(operated(config([engine.url()])), &folder);
    std::fs::create_dir_all(&folder).unwrap();
    let digest = config::keys::Digest::of(PLAIN).to_string();
    let line = json!({ "v": 1, "id": "team", "account": { "keys": [digest], "tiers": ["priority"] } });
    std::fs::write(folder.join("accounts.jsonl"), format!("{line}\n")).unwrap();
    let gateway = Gateway::start(PROGRAM, &base).await;
    assert_eq!(status(&gateway, PLAIN).await, 200, "a line of the first round");
    let keys = format!("{ACCOUNT}/keys");

    let body = json!({ "keep_others": true, "key": { "name": "ci", "concurrency": 1, "models": ["sim"] } });
    let (code, told) = asked(&gateway, Method::POST, &keys, body.clone()).await;
    assert_eq!(code, 200, "{told}");
    let first = told["key"].as_str().unwrap().to_owned();
    assert_eq!(asked(&gateway, Method::POST, &keys, body).await.1["error"]["code"], "name_taken");
    assert_eq!(gateway.chat_as(&first, &ask(json!({ "model": "other-model" }))).await.status, 404);

    let held = kit::client::hold(gateway.address, &first, ask(json!({}))).await;
    let replace = json!({ "overlap_seconds": 3600, "key": { "name": "ci" } });
    let (code, told) = asked(&gateway, Method::POST, &keys, replace).await;
    assert_eq!(code, 200, "{told}");
    let second = told["key"].as_str().unwrap().to_owned();
    let refused = gateway.chat_as(&second, &tokens(8)).await;
    assert_eq!(refused.verdict(), (429, "concurrency_limited"), "the one that replaces it shares its limits");
    drop(held);
    gateway.invariants().await;
    assert_eq!((status(&gateway, &first).await, status(&gateway, &second).await), (200, 200));
    assert_eq!(status(&gateway, PLAIN).await, 200, "the other key stays");

    let newest = key_state(&gateway, "ci").await;
    assert_eq!((&newest["concurrency"], &newest["models"]), (&json!(1), &json!(["sim"])), "{newest}");
    let path = format!("{keys}/{}", newest["key"].as_str().unwrap());
    for (body, status, words) in [
        (json!({ "models": ["smi"] }), 422, "sim"),
        (json!({ "tiers": ["flex"] }), 422, "not among the account's tiers"),
        (json!({ "share": 2.0 }), 422, "share: must be between"),
        (json!({ "expires": "tomorrow" }), 422, "RFC 3339"),
        (json!({}), 422, "at least one field"),
        (json!({ "colour": 1 }), 400, "colour"),
    ] {
        let (got, told) = asked(&gateway, Method::PATCH, &path, body.clone()).await;
        assert!(got == status && told.to_string().contains(words), "{body}: {got} {told}");
    }
    let change = json!({ "models": null, "expires": "2020-01-01T00:00:00Z" });
    assert_eq!(asked(&gateway, Method::PATCH, &path, change).await.0, 200);
    assert_eq!(gateway.chat_as(&second, &tokens(8)).await.verdict(), (401, "key-expired"));
    let other = ask(json!({ "model": "other-model" }));
    assert_eq!(
        gateway.chat_as(&first, &other).await.status,
        200,
        "rights are the name's, an end is one key's"
    );

    drop(gateway);
    let gateway = Gateway::start(PROGRAM, &base).await;
    let now =
        [status(&gateway, &first).await, status(&gateway, &second).await, status(&gateway, PLAIN).await];
    assert_eq!(now, [200, 401, 200], "kept over a restart");
    let (code, _) = asked(&gateway, Method::DELETE, &path, Value::Null).await;
    assert_eq!(code, 200);
    let kept = std::fs::read_to_string(folder.join("accounts.jsonl")).unwrap();
    assert!(!kept.contains(&first) && !kept.contains(&second), "a key was written down");
    gateway.invariants().await;
}

/// A model that goes out of the config takes no account along, and its key may not use what came instead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_a_model_that_is_gone_may_use_nothing_and_its_account_is_served() {
    let (engine, folder) = (engine().await, state("gone"));
    let base = keeping(operated(config([engine.url()])), &folder);
    let gateway = Gateway::start(PROGRAM, &base).await;
    let (_, told) = asked(&gateway, Method::POST, "/api/v1/accounts", json!({ "id": "team" })).await;
    let plain = told["key"].as_str().unwrap().to_owned();
    let rights = json!({ "name": "ci", "models": ["other-model"], "limits": [{ "model": "other-model", "generated": 9 }] });
    let body = json!({ "keep_others": true, "key": rights });
    let (code, told) = asked(&gateway, Method::POST, &format!("{ACCOUNT}/keys"), body).await;
    assert_eq!(code, 200, "{told}");
    let ci = told["key"].as_str().unwrap().to_owned();
    drop(gateway);

    let mut renamed = base.clone();
    renamed["models"][1]["name"] = json!("renamed");
    let gateway = Gateway::start(PROGRAM, &renamed).await;
    let on = |model: &str| ask(json!({ "model": model }));
    assert_eq!((status(&gateway, &plain).await, status(&gateway, &ci).await), (200, 404));
    assert_eq!(gateway.chat_as(&ci, &on("renamed")).await.status, 404);

    gateway.write_config(&base);
    assert_eq!(asked(&gateway, Method::POST, "/api/v1/reload", Value::Null).await.0, 200);
    let large = ask(json!({ "model": "other-model", "max_tokens": 10 }));
    assert_eq!(gateway.chat_as(&ci, &large).await.status, 200);
    gateway.invariants().await;
    let refused = gateway.chat_as(&ci, &large).await;
    assert!(refused.status == 429 && refused.message().starts_with("Key `ci`"), "its limit is back");
}

/// An answer on a connection that is kept: who is who is decided for each request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_keys_of_an_account_may_share_a_connection() {
    let engine = engine().await;
    let keys = [ci(json!({ "limits": [{ "generated": 8 }] }))];
    let gateway = Gateway::start(PROGRAM, &team(engine.url(), json!({}), &keys)).await;
    let mut connection = Connection::open(gateway.address).await;

    let mut got = Vec::new();
    for key in [CI, PLAIN, CI, PLAIN] {
        got.push(connection.send(post(&tokens(8), Some(key))).await.status);
        gateway.invariants().await;
    }

    assert_eq!(got, [200, 200, 429, 200]);
}

/// One place, six requests of one end user and then one of another: by arrival the other is last, by user it is second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn end_users_of_an_account_take_turns_where_it_is_fair_by_user() {
    for (fair_by, place_of_the_other) in [("arrival", 6), ("user", 1)] {
        let engine = engine().await;
        let mut config = team(engine.url(), json!({ "fair_by": fair_by }), &[]);
        merge(&mut config["deployments"][0], json!({ "limit": 1, "slo": { "ttft_ms": 30_000 } }));
        let gateway = Gateway::start(PROGRAM, &config).await;
        let held = gateway.hold().await;
        let mut waiting = tokio::task::JoinSet::new();
        for (nth, user) in ["ann", "ann", "ann", "ann", "ann", "ann", "bea"].into_iter().enumerate() {
            let address = gateway.address;
            let body = ask(json!({ "safety_identifier": user, "user": "sim:delay=30ms", "stream": true }));
            let mut request = post(&body, Some(PLAIN));
            request.headers_mut().insert("x-request-id", user.parse().unwrap());
            waiting.spawn(async move { send(address, request).await });
            gateway.counter_becomes("gate_waiting:sim", nth as u64 + 1).await;
        }

        drop(held);
        let answers = waiting.join_all().await;

        assert!(answers.iter().all(|answer| answer.status == 200), "{fair_by}: {}", answers[0].text());
        let lines = gateway.log(8).await;
        let of_team: Vec<&Value> = lines.iter().filter(|line| line["account"] == "team").collect();
        let place = of_team.iter().position(|line| line["client_request_id"] == "bea");
        assert_eq!(place, Some(place_of_the_other), "{fair_by}");
        gateway.invariants().await;
    }
}
