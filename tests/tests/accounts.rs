//! Accounts made, changed and removed while the gateway runs: in force at once, kept, and the config wins.

use crate::PROGRAM;
use crate::operating::{TOKEN, change, operated};
use config::Config;
use http::Method;
use kit::base_config::account;
use kit::{Gateway, ask, config, engine};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use store::dynamic_accounts::Roster;

const ACCOUNTS: &str = "/api/v1/accounts";

/// A state folder of this test, empty.
fn state(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

fn keeping(mut config: Value, folder: &Path) -> Value {
    config["state"] = json!({ "dir": folder.to_str().unwrap() });
    operated(config)
}

async fn asked(gateway: &Gateway, method: Method, path: &str, body: Value) -> (u16, Value) {
    let answer = change(gateway, method, path, &body).await;
    (answer.status, answer.json())
}

async fn status(gateway: &Gateway, key: &str) -> u16 {
    gateway.chat_as(key, &ask(json!({}))).await.status
}

/// Makes an account; its key.
async fn made(gateway: &Gateway, body: Value) -> String {
    let (status, told) = asked(gateway, Method::POST, ACCOUNTS, body).await;
    assert_eq!(status, 200, "{told}");
    told["key"].as_str().unwrap().to_owned()
}

/// Made, it serves with the next request; disabled, its key is refused with the next one and its budgets stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_serves_at_once_and_is_refused_at_once() {
    let (engine, folder) = (engine().await, state("at-once"));
    let gateway = Gateway::start(PROGRAM, &keeping(config([engine.url()]), &folder)).await;

    let key = made(&gateway, json!({ "id": "bolt", "account": { "tiers": ["priority"] } })).await;
    let served = gateway.chat_as(&key, &ask(json!({ "service_tier": "priority" }))).await;
    assert_eq!((served.status, &served.json()["service_tier"]), (200, &json!("priority")));

    let path = format!("{ACCOUNTS}/bolt");
    let (_, told) =
        asked(&gateway, Method::PATCH, &path, json!({ "tiers": ["regular"], "spending_tier": 3 })).await;
    assert_eq!(
        (&told["account"]["tiers"], &told["account"]["spending_tier"]),
        (&json!(["regular"]), &json!("3"))
    );
    let served = gateway.chat_as(&key, &ask(json!({ "service_tier": "priority" }))).await;
    assert_eq!(served.json()["service_tier"], "default", "it may not use priority any more");

    let limits = format!("{path}/limits");
    let used = |page: Value| page["models"][0]["meters"][0]["used"].as_u64().unwrap();
    let before = used(gateway.admin(&limits).await.json());
    asked(&gateway, Method::PATCH, &path, json!({ "disabled": true })).await;
    let refused = gateway.chat_as(&key, &ask(json!({}))).await;
    assert_eq!(refused.verdict(), (401, "unauthenticated"));
    let after = used(gateway.admin(&limits).await.json());
    assert!(before > 0 && after > 0, "what was used stays used: {before}, {after}");
    asked(&gateway, Method::PATCH, &path, json!({ "disabled": false })).await;
    assert_eq!(status(&gateway, &key).await, 200);

    let (status_then, _) = asked(&gateway, Method::DELETE, &path, Value::Null).await;
    assert_eq!((status_then, status(&gateway, &key).await), (200, 401));
    assert_eq!(gateway.admin(&path).await.status, 404);
    gateway.invariants().await;
}

/// A new key opens at once; the old one ends at once, or when its time is over. Neither is ever written down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_with_and_without_an_overlap() {
    let (engine, folder) = (engine().await, state("rotated"));
    let gateway = Gateway::start(PROGRAM, &keeping(config([engine.url()]), &folder)).await;
    let first = made(&gateway, json!({ "id": "bolt" })).await;
    let rotate = |seconds: u32| {
        asked(&gateway, Method::POST, "/api/v1/accounts/bolt/keys", json!({ "overlap_seconds": seconds }))
    };

    let (_, told) = rotate(3600).await;
    let second = told["key"].as_str().unwrap().to_owned();
    assert_eq!(told["account"]["keys"].as_array().unwrap().len(), 2, "{told}");
    assert!(told["account"]["ending_keys"][0]["at"].is_string(), "{told}");
    assert_eq!((status(&gateway, &first).await, status(&gateway, &second).await), (200, 200));

    let third = rotate(1).await.1["key"].as_str().unwrap().to_owned();
    kit::eventually("the old keys have ended", || async {
        let both = (status(&gateway, &first).await, status(&gateway, &second).await);
        (both == (401, 401)).then_some(())
    })
    .await;

    let fourth = rotate(0).await.1["key"].as_str().unwrap().to_owned();
    assert_eq!((status(&gateway, &third).await, status(&gateway, &fourth).await), (401, 200));
    assert_eq!(rotate(100_000_000).await.0, 422);

    let kept = std::fs::read_to_string(folder.join("accounts.jsonl")).unwrap();
    let written = kept + &gateway.said() + &gateway.admin(ACCOUNTS).await.text();
    for key in [&first, &second, &third, &fourth] {
        assert!(!written.contains(key.as_str()), "a key was written down");
    }
}

/// A key is added beside the others, and one of them is ended; never the last one, and never one of the config's accounts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_added_and_ended_one_by_one() {
    let (engine, folder) = (engine().await, state("one-by-one"));
    let gateway = Gateway::start(PROGRAM, &keeping(config([engine.url()]), &folder)).await;
    let first = made(&gateway, json!({ "id": "bolt" })).await;
    let keys = "/api/v1/accounts/bolt/keys";

    let (code, told) = asked(&gateway, Method::POST, keys, json!({ "keep_others": true })).await;
    let second = told["key"].as_str().unwrap().to_owned();
    assert_eq!(code, 200, "{told}");
    assert_eq!((status(&gateway, &first).await, status(&gateway, &second).await), (200, 200));
    let list = told["account"]["key_list"].as_array().unwrap();
    assert!(list.len() == 2 && list.iter().all(|key| key["ends"].is_null()), "{told}");
    for wrong in
        [json!({}), json!({ "keep_others": true, "overlap_seconds": 5 }), json!({ "keep_others": false })]
    {
        assert_eq!(asked(&gateway, Method::POST, keys, wrong).await.0, 422);
    }

    let end = |key: &Value| format!("{keys}/{}", key.as_str().unwrap());
    let (code, told) = asked(&gateway, Method::DELETE, &end(&list[0]["key"]), Value::Null).await;
    assert_eq!((code, told["account"]["key_list"].as_array().unwrap().len()), (200, 1), "{told}");
    assert_eq!((status(&gateway, &first).await, status(&gateway, &second).await), (401, 200));
    let (code, told) = asked(&gateway, Method::DELETE, &end(&list[1]["key"]), Value::Null).await;
    assert_eq!((code, &told["error"]["code"]), (409, &json!("last_key")));
    let (code, told) = asked(&gateway, Method::DELETE, &end(&json!("00000000")), Value::Null).await;
    assert_eq!((code, &told["error"]["code"]), (404, &json!("no_such_key")));

    let told = gateway.admin("/api/v1/accounts/bolt").await.json();
    assert_eq!(told["changes"], json!({ "possible": true, "words": null }));
    let told = gateway.admin("/api/v1/accounts/acme").await.json();
    let words = told["changes"]["words"].as_str().unwrap();
    assert!(told["changes"]["possible"] == false && words.contains("config.yaml and reload"), "{told}");
    let (code, told) =
        asked(&gateway, Method::POST, "/api/v1/accounts/acme/keys", json!({ "keep_others": true })).await;
    assert_eq!((code, &told["error"]["code"]), (409, &json!("declared_in_config")));
}

/// A restart keeps them; an account or a key that the config has is the config's, and that is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_accounts_and_the_config_wins() {
    let (engine, folder) = (engine().await, state("kept"));
    let base = keeping(config([engine.url()]), &folder);
    let gateway = Gateway::start(PROGRAM, &base).await;
    let bolt = made(&gateway, json!({ "id": "bolt", "account": { "models": ["other-model"] } })).await;
    let nut = made(&gateway, json!({ "id": "nut" })).await;
    drop(gateway);

    let mut declared = base.clone();
    declared["accounts"].as_array_mut().unwrap().push(account("nut", "tg-declared", json!({})));
    declared["models"][1]["name"] = json!("renamed");
    let gateway = Gateway::start(PROGRAM, &declared).await;

    let other = ask(json!({ "model": "renamed" }));
    let told = async |key: &str| gateway.chat_as(key, &other).await.status;
    assert_eq!(told(&bolt).await, 404, "what it may use is gone, and it may not use what came instead");
    assert_eq!((told(&nut).await, told("tg-declared").await), (401, 200));
    let nuts = gateway.admin("/api/v1/accounts/nut").await.json();
    assert_eq!((&nuts["source"], &nuts["overrides_runtime"]), (&json!("config"), &json!(true)));
    assert!(gateway.said().contains("the config declares an account that was made at run time too"));
    for (method, body) in [(Method::PATCH, json!({ "disabled": true })), (Method::POST, Value::Null)] {
        let path = if method == Method::POST { "/api/v1/accounts/nut/keys" } else { "/api/v1/accounts/nut" };
        let body = if method == Method::POST { json!({ "overlap_seconds": 0 }) } else { body };
        let (status, told) = asked(&gateway, method, path, body).await;
        assert_eq!((status, &told["error"]["code"]), (409, &json!("declared_in_config")), "{told}");
    }
    assert_eq!(
        asked(&gateway, Method::PATCH, "/api/v1/accounts/bolt", json!({ "disabled": true })).await.0,
        200
    );

    gateway.write_config(&base);
    assert_eq!(asked(&gateway, Method::POST, "/api/v1/reload", Value::Null).await.0, 200);
    assert_eq!((status(&gateway, &nut).await, status(&gateway, "tg-declared").await), (200, 401));
    assert_eq!(status(&gateway, &bolt).await, 401, "it was disabled");
}

/// What makes no sense changes nothing and is told with its key; who may not change anything does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_changes_say_why_and_change_nothing() {
    let (engine, folder) = (engine().await, state("refused"));
    let gateway = Gateway::start(PROGRAM, &keeping(config([engine.url()]), &folder)).await;
    made(&gateway, json!({ "id": "bolt" })).await;
    let taken = config::keys::Digest::of(kit::KEY).to_string();
    let before = gateway.admin(ACCOUNTS).await.text();

    for (body, status, told) in [
        (json!({ "id": "bolt" }), 409, "account of this id"),
        (json!({ "id": "acme" }), 409, "the config declares"),
        (json!({ "id": "a b" }), 422, "letters, digits"),
        (json!({ "id": "nut", "account": { "weight": 0 } }), 422, "weight: must be"),
        (json!({ "id": "nut", "account": { "default_tier": "priority" } }), 422, "default_tier"),
        (json!({ "id": "nut", "account": { "models": ["smi"] } }), 422, "sim"),
        (json!({ "id": "nut", "keys": [taken] }), 409, "opens an account already"),
        (json!({ "id": "nut", "keys": ["tg-plain-text"] }), 422, "sha256:"),
        (json!({ "id": "nut", "colour": 1 }), 400, "colour"),
    ] {
        let (got, answer) = asked(&gateway, Method::POST, ACCOUNTS, body.clone()).await;
        let message = answer["error"]["message"].as_str().unwrap().to_owned();
        assert!(got == status && message.to_lowercase().contains(told), "{body}: {got} {message}");
    }
    for body in [json!({}), json!({ "tiers": [] })] {
        assert_eq!(
            asked(&gateway, Method::PATCH, "/api/v1/accounts/bolt", body.clone()).await.0,
            422,
            "{body}"
        );
    }
    assert_eq!(
        asked(&gateway, Method::PATCH, "/api/v1/accounts/none", json!({ "disabled": true })).await.0,
        404
    );
    assert_eq!(gateway.admin(ACCOUNTS).await.text(), before);
    assert_eq!(TOKEN.len(), 11, "the token of these tests is no key of a customer");
}

/// Without a folder nothing that would be lost is taken; a damaged file gives nobody a right, and the config's accounts
/// are served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_taken_that_could_not_be_kept_and_damage_opens_nothing() {
    let (engine, folder) = (engine().await, state("damaged"));
    let base = config([engine.url()]);
    let gateway = Gateway::start(PROGRAM, &operated(base.clone())).await;
    let (status_then, told) = asked(&gateway, Method::POST, ACCOUNTS, json!({ "id": "bolt" })).await;
    assert_eq!((status_then, &told["error"]["code"]), (409, &json!("no_state_dir")), "{told}");
    drop(gateway);

    let kept = keeping(base, &folder);
    let gateway = Gateway::start(PROGRAM, &kept).await;
    let key = made(&gateway, json!({ "id": "bolt" })).await;
    let older = made(&gateway, json!({ "id": "nut" })).await;
    drop(gateway);
    let file = folder.join("accounts.jsonl");
    let good = std::fs::read_to_string(&file).unwrap();
    let (of_bolt, of_nut) = good.trim_end().split_once('\n').unwrap();
    std::fs::write(&file, format!("{of_nut}\nnonsense\n{of_bolt}\n")).unwrap();

    let gateway = Gateway::start(PROGRAM, &kept).await;
    let now =
        [status(&gateway, &key).await, status(&gateway, &older).await, status(&gateway, kit::KEY).await];
    assert_eq!(now, [200, 401, 200], "only what the damaged line may have changed is out of force");
    assert!(gateway.admin("/metrics").await.text().contains("\ntidegate_accounts_in_doubt 1\n"));
    assert!(gateway.said().contains("line 2") && gateway.said().contains("nut"), "{}", gateway.said());
    let rotated =
        asked(&gateway, Method::POST, "/api/v1/accounts/nut/keys", json!({ "overlap_seconds": 9 })).await;
    assert_eq!((rotated.0, &rotated.1["error"]["code"]), (409, &json!("account_in_doubt")), "{}", rotated.1);
    assert_eq!(asked(&gateway, Method::DELETE, "/api/v1/accounts/nut", Value::Null).await.0, 200);
    let anew = made(&gateway, json!({ "id": "nut" })).await;
    assert_eq!((status(&gateway, &anew).await, status(&gateway, &older).await), (200, 401));
    drop(gateway);
    let gateway = Gateway::start(PROGRAM, &kept).await;
    assert_eq!(
        (status(&gateway, &anew).await, status(&gateway, &key).await),
        (200, 200),
        "after a restart too"
    );
    drop(gateway);
    std::fs::write(&file, format!("{good}{{\"v\":1,\"id\":\"bo")).unwrap();
    let gateway = Gateway::start(PROGRAM, &kept).await;
    assert_eq!(status(&gateway, &key).await, 200, "a change cut off by a crash was never acknowledged");
}

/// Ten thousand are read in a few times the time in which a config with as many is: each is judged alone, so that one
/// that is wrong takes no other along. Prints both.
#[test]
fn ten_thousand_accounts_are_read_nearly_as_fast_as_those_of_a_config() {
    let folder = state("many");
    std::fs::create_dir_all(&folder).unwrap();
    let small = config(["http://127.0.0.1:9".to_owned()]);
    let mut large = small.clone();
    let mut lines = String::new();
    for nth in 0..10_000 {
        let rights =
            json!({ "keys": [format!("sha256:{nth:064x}")], "spending_tier": 3, "tiers": ["priority"] });
        lines += &format!("{}\n", json!({ "v": 1, "id": format!("customer-{nth}"), "account": rights }));
        let mut declared = rights;
        declared["id"] = json!(format!("customer-{nth}"));
        large["accounts"].as_array_mut().unwrap().push(declared);
    }
    std::fs::write(folder.join("accounts.jsonl"), lines).unwrap();
    let read = |config: &Value| Config::parse(&config.to_string(), "t.yaml", &|_| None).unwrap();
    let config = read(&small);

    let begun = engine::clock::now();
    let roster = Roster::open(Some(&folder), &config, engine::clock::wall());
    let force = roster.in_force(&config, engine::clock::wall());
    let made = engine::clock::now() - begun;
    let begun = engine::clock::now();
    assert_eq!(read(&large).accounts.len(), 10_003);
    let declared = engine::clock::now() - begun;

    println!(
        "10,000 accounts: {} ms from the state folder, {} ms from a config",
        made.as_millis(),
        declared.as_millis()
    );
    assert_eq!(force.accounts.len(), 10_000);
    assert!(made < 5 * declared, "{made:?}, a config {declared:?}");
}
