//! What accounts used, by hour: the same as the access log says, once, through kills, upgrades and full disks.

use crate::PROGRAM;
use kit::base_config::{PLAIN_KEY, STRICT_KEY, account, merge};
use kit::client::{get, post, send};
use kit::folder::Folder;
use kit::program::Serving;
use kit::{Gateway, KEY, ask, config, engine, eventually};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use usage::calendar;

/// A key of the account `poor`, which has two requests a minute.
const POOR_KEY: &str = "tg-poor";

/// Requests and tokens by hour, account, key, model and tier, as texts.
type Sums = BTreeMap<[String; 5], [u64; 8]>;

fn add(sums: &mut Sums, key: [String; 5], numbers: [u64; 8]) {
    let sum = sums.entry(key).or_default();
    sum.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// What the access log says; lines without an account are nobody's.
fn logged(lines: &str) -> Sums {
    let mut sums = Sums::new();
    let whole = lines.rsplit_once('\n').map_or("", |(whole, _)| whole);
    for line in whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        if line["account"].is_null() {
            continue;
        }
        let time = text(&line["time"]);
        let of_hour = |range: std::ops::Range<usize>| time[range].parse::<f64>().unwrap();
        let ms = (of_hour(14..16) * 60.0 + of_hour(17..23)) * 1e3 + line["total_ms"].as_f64().unwrap();
        let hour = calendar::parse(&time[..13]).unwrap().0 + (ms / 3.6e6) as u32;
        let status = number(&line["status"]);
        let key = [
            calendar::text(hour),
            text(&line["account"]),
            text(&line["key"]),
            text(&line["model"]),
            text(&line["tier"]),
        ];
        let is = |yes: bool| u64::from(yes);
        let numbers = [
            1,
            is((200..300).contains(&status)),
            is(status == 429),
            is(status == 503),
            number(&line["prompt_tokens"]),
            number(&line["cached_tokens"]),
            number(&line["uncached_tokens"]),
            number(&line["generated_tokens"]),
        ];
        add(&mut sums, key, numbers);
    }
    sums
}

fn numbers(row: &Value) -> [u64; 8] {
    [
        "requests",
        "answered",
        "refused_429",
        "refused_503",
        "prompt_tokens",
        "cached_tokens",
        "uncached_tokens",
        "generated_tokens",
    ]
    .map(|name| row[name].as_u64().unwrap_or_else(|| panic!("no {name} in {row}")))
}

fn rows(page: &Value) -> Sums {
    let mut sums = Sums::new();
    for row in page["rows"].as_array().unwrap() {
        let key = ["time", "account", "key", "model", "tier"].map(|name| text(&row[name]));
        assert!(!sums.contains_key(&key), "a row twice: {row}");
        add(&mut sums, key, numbers(row));
    }
    sums
}

async fn page(admin: SocketAddr, query: &str) -> Value {
    let answer = send(admin, get(&format!("/api/v1/usage?{query}"), None)).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    answer.json()
}

/// The whole usage by hour, once all of it is on the disk.
async fn written(admin: SocketAddr) -> Value {
    eventually("all usage is written", || async {
        let page = page(admin, "by=hour&from=1970-01").await;
        (page["complete"] == true && page["kept"]["unwritten_requests"] == 0).then_some(page)
    })
    .await
}

fn requests(page: &Value) -> u64 {
    page["total"]["requests"].as_u64().unwrap()
}

fn keeping(replica: String) -> Value {
    let mut config = config([replica]);
    let poor = account("poor", POOR_KEY, json!({ "requests_per_minute": 2 }));
    config["accounts"].as_array_mut().unwrap().push(poor);
    merge(&mut config, json!({ "state": {}, "usage": {} }));
    config
}

/// A gateway in a folder that outlives it, so that it can be killed and started again.
async fn start(folder: &Folder, mut config: Value) -> Serving {
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    merge(&mut config, json!({ "state": { "dir": path("state") }, "log": { "access": path("access.log") } }));
    let file = folder.path().join("config.yaml");
    fs::write(&file, config.to_string()).unwrap();
    Serving::start(Path::new(PROGRAM), &file, &folder.path().join("output")).await.unwrap()
}

fn signal(gateway: &Serving, name: &str) {
    let pid = gateway.program.pid().to_string();
    assert!(Command::new("kill").arg(format!("-{name}")).arg(pid).status().unwrap().success());
}

async fn ended(gateway: &mut Serving) {
    let program = &mut gateway.program;
    eventually("the process ended", || {
        let runs = program.is_running().unwrap();
        async move { (!runs).then_some(()) }
    })
    .await;
}

/// Requests of every kind that this file has; how many of them have an account.
async fn mixed(address: SocketAddr) -> u64 {
    let chat = |key: &'static str, more: Value| send(address, post(&ask(more), Some(key)));
    for nth in 0..6 {
        chat(KEY, json!({ "max_tokens": 3 + nth, "service_tier": "priority" })).await;
        chat(KEY, json!({ "max_tokens": 5, "stream": true })).await;
        chat(PLAIN_KEY, json!({ "model": "other-model" })).await;
        chat(POOR_KEY, json!({})).await;
    }
    assert_eq!(chat(STRICT_KEY, json!({ "service_tier": "priority" })).await.status, 403);
    assert_eq!(chat(STRICT_KEY, json!({ "model": "none" })).await.status, 404);
    assert_eq!(send(address, get("/v1/models", Some(KEY))).await.status, 200);
    assert_eq!(chat("tg-nobody", json!({})).await.status, 401);
    27
}

/// Every row is what the access log says, however it is asked for, and a customer sees its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_is_what_the_access_log_says() {
    let engine = engine().await;
    let gateway = Gateway::start(PROGRAM, &keeping(engine.url())).await;
    let with_account = mixed(gateway.address).await;
    let whole = written(gateway.admin).await;
    gateway.log(with_account as usize + 1).await;

    let log = logged(&gateway.log_text());
    assert_eq!(rows(&whole), log);
    assert_eq!(requests(&whole), with_account);
    assert!(log.values().any(|sum| sum[2] == 4), "four of the six of `poor` were refused: {log:?}");
    let engines: u64 = engine.records().iter().map(|record| record.generated_tokens).sum();
    assert_eq!(numbers(&whole["total"])[7], engines, "generated, as the engine counts");

    for by in ["hour", "day", "month"] {
        let page = page(gateway.admin, &format!("from=1970-01&by={by}")).await;
        assert_eq!((&page["total"], &page["by"]), (&whole["total"], &json!(by)));
    }
    let plain = page(gateway.admin, "from=1970-01&account=plain&model=other-model&tier=regular").await;
    assert_eq!(requests(&plain), 6);
    assert_eq!(requests(&page(gateway.admin, "to=2001-01&from=1970-01").await), 0);
    let (mut paged, mut after) = (Vec::new(), String::new());
    loop {
        let page = page(gateway.admin, &format!("from=1970-01&by=hour&limit=2{after}")).await;
        assert_eq!(page["total"], whole["total"]);
        paged.extend(page["rows"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(json!(paged), whole["rows"]);
    for wrong in ["from=soon", "to=1970-01", "by=year", "key=1", "tier=gold", "limit=0", "after=x"] {
        let answer = gateway.admin(&format!("/api/v1/usage?{wrong}")).await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!("bad_query")), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_sees_its_own_usage_and_no_other() {
    let engine = engine().await;
    let gateway = Gateway::start(PROGRAM, &keeping(engine.url())).await;
    mixed(gateway.address).await;
    let whole = written(gateway.admin).await;
    let own = |key: Option<&'static str>, query: &str| {
        send(gateway.address, get(&format!("/v1/usage?from=1970-01&{query}"), key))
    };

    let answer = own(Some(PLAIN_KEY), "by=hour").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = answer.json();
    let plain: Sums = rows(&whole).into_iter().filter(|(key, _)| key[1] == "plain").collect();
    assert_eq!(rows(&told), plain);
    assert!(told["kept"].is_null() && told["complete"] == true, "{told}");
    assert_eq!(requests(&own(Some(PLAIN_KEY), "account=plain&model=sim").await.json()), 0);

    let refused = own(Some(PLAIN_KEY), "account=acme").await;
    assert_eq!(refused.verdict(), (400, "bad-request"));
    assert!(refused.text().contains("its own account"), "{}", refused.text());
    assert_eq!(own(Some(PLAIN_KEY), "by=year").await.verdict(), (400, "bad-request"));
    assert_eq!(own(None, "").await.verdict(), (401, "unauthenticated"));
    assert_eq!(
        own(Some(POOR_KEY), "").await.verdict(),
        (429, "requests_limited"),
        "it is a request per minute"
    );
    let by = |method: http::Method| {
        let mut request = get("/v1/usage", Some(PLAIN_KEY));
        *request.method_mut() = method;
        send(gateway.address, request)
    };
    let head = by(http::Method::HEAD).await;
    assert_eq!((head.status, head.text().len()), (200, 0));
    assert_eq!(by(http::Method::POST).await.status, 405);
}

/// Killed, it forgets at most what the last second brought; ended, nothing. No hour is counted twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_outlives_the_process_and_a_kill_costs_the_last_second() {
    let (folder, engine) = (Folder::new(), engine().await);
    let mut counted = 0;
    for life in 0..3 {
        let mut gateway = start(&folder, keeping(engine.url())).await;
        let before = written(gateway.admin).await;
        assert!((counted..=counted + 9).contains(&requests(&before)), "life {life}: {counted}, {before}");
        for _ in 0..20 {
            send(gateway.address, post(&ask(json!({})), Some(KEY))).await;
        }
        let after = written(gateway.admin).await;
        assert_eq!(requests(&after), requests(&before) + 20);
        counted = requests(&after);
        for _ in 0..9 {
            send(gateway.address, post(&ask(json!({})), Some(KEY))).await;
        }
        signal(&gateway, "KILL");
        ended(&mut gateway).await;
    }

    let mut gateway = start(&folder, keeping(engine.url())).await;
    let before = written(gateway.admin).await;
    for _ in 0..10 {
        send(gateway.address, post(&ask(json!({})), Some(KEY))).await;
    }
    signal(&gateway, "TERM");
    ended(&mut gateway).await;
    let gateway = start(&folder, keeping(engine.url())).await;
    let last = written(gateway.admin).await;
    assert_eq!(requests(&last), requests(&before) + 10, "what was not written yet is written at the end");
    // Of the access log, too, a kill loses the end of each life.
    let log: u64 = logged(&folder.text("access.log")).values().map(|sum| sum[0]).sum();
    assert!(requests(&last).abs_diff(log) <= 27, "{} {log}", requests(&last));
}

/// Both processes write while the old one finishes; the new one tells all once the old one has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_counts_what_both_processes_served() {
    let engine = engine().await;
    let mut config = keeping(engine.url());
    merge(
        &mut config,
        json!({ "listen": { "shutdown": { "lame_duck_ms": 500 } }, "log": { "level": "info" } }),
    );
    let mut old = Gateway::start(PROGRAM, &config).await;
    for _ in 0..5 {
        old.chat(&ask(json!({}))).await;
    }
    let address = old.address;
    let running = tokio::spawn(async move {
        let body = ask(json!({ "stream": true, "user": "sim:gap=60ms", "max_tokens": 40 }));
        send(address, post(&body, Some(KEY))).await
    });
    old.counter_becomes("gate_live:sim", 1).await;

    let new = old.successor().await.unwrap();
    old.signal("QUIT");
    eventually("the new process serves", || async {
        old.said()
            .contains("took over")
            .then_some(())
            .or_else(|| new.said().contains("took over").then_some(()))
    })
    .await;
    for _ in 0..5 {
        assert_eq!(new.chat(&ask(json!({}))).await.status, 200);
    }
    assert_eq!(running.await.unwrap().status, 200);
    eventually("the old process ended", || {
        let exit = old.exit();
        async move { exit }
    })
    .await;

    let whole = written(new.admin).await;
    new.log(11).await;
    assert_eq!(rows(&whole), logged(&new.log_text()));
    assert_eq!(requests(&whole), 11);
}

/// A folder that cannot be written is told and counted, requests go on, and nothing is lost once it can be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_written_is_kept_until_it_can_be() {
    let (folder, engine) = (Folder::new(), engine().await);
    fs::create_dir_all(folder.path().join("state")).unwrap();
    let usage = folder.path().join("state/usage");
    fs::write(&usage, "in the way").unwrap();
    let mut gateway = start(&folder, keeping(engine.url())).await;
    for _ in 0..7 {
        assert_eq!(send(gateway.address, post(&ask(json!({})), Some(KEY))).await.status, 200);
    }

    let admin = gateway.admin;
    let metric = |name: &'static str| async move {
        let page = send(admin, get("/metrics", None)).await.text();
        let line =
            page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned);
        line.unwrap_or_else(|| panic!("no {name}")).parse::<f64>().unwrap()
    };
    eventually("failures are counted", || async {
        let failures = metric("tidegate_usage_write_failures_total").await;
        (failures >= 3.0 && metric("tidegate_usage_unwritten_requests").await == 7.0).then_some(())
    })
    .await;
    assert!(metric("tidegate_usage_last_write_seconds").await >= 1.0);
    let told = page(gateway.admin, "by=hour").await;
    assert_eq!((requests(&told), &told["kept"]["unwritten_requests"]), (7, &json!(7)));
    let said = gateway.program.output().unwrap();
    assert_eq!(said.matches("what accounts use cannot be written").count(), 1, "{said}");

    fs::remove_file(&usage).unwrap();
    assert_eq!(requests(&written(gateway.admin).await), 7);
    signal(&gateway, "KILL");
    ended(&mut gateway).await;
    let gateway = start(&folder, keeping(engine.url())).await;
    assert_eq!(requests(&written(gateway.admin).await), 7);
}

/// Where it is not configured there is no page, no metric and no file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_is_off_unless_it_is_configured() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    merge(&mut config, json!({ "state": {} }));
    let gateway = Gateway::start(PROGRAM, &config).await;
    gateway.chat(&ask(json!({}))).await;

    let own = send(gateway.address, get("/v1/usage", Some(KEY))).await;
    assert_eq!(own.verdict(), (404, "not-found"));
    let answer = gateway.admin("/api/v1/usage").await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!("usage_is_off")));
    assert!(!gateway.admin("/metrics").await.text().contains("tidegate_usage_rows "));
    assert!(!gateway.state().join("usage").exists());
}

/// A month as rows for a spreadsheet, with the sum of the API.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_is_printed_as_csv() {
    let engine = engine().await;
    let gateway = Gateway::start(PROGRAM, &keeping(engine.url())).await;
    mixed(gateway.address).await;
    let whole = written(gateway.admin).await;
    let month = text(&whole["rows"][0]["time"])[..7].to_owned();
    let admin = gateway.admin.to_string();
    let run = |words: String| {
        let admin = admin.clone();
        tokio::task::spawn_blocking(move || {
            let output = Command::new(PROGRAM)
                .args(words.split_whitespace())
                .args(["--admin", &admin])
                .env_remove("TIDEGATE_ADMIN")
                .output()
                .unwrap();
            (
                output.status.code(),
                String::from_utf8(output.stdout).unwrap(),
                String::from_utf8(output.stderr).unwrap(),
            )
        })
    };

    let (code, csv, wrong) = run(format!("usage --month {month} -o csv")).await.unwrap();
    assert_eq!(code, Some(0), "{wrong}");
    let mut lines = csv.lines();
    assert_eq!(
        lines.next(),
        Some(
            "time,account,key,model,tier,requests,answered,refused_429,refused_503,prompt_tokens,cached_tokens,uncached_tokens,generated_tokens"
        )
    );
    let mut sum = [0; 8];
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!((fields.len(), fields[0]), (13, format!("{month}-01T00:00:00Z").as_str()), "{line}");
        sum.iter_mut().zip(&fields[5..]).for_each(|(sum, field)| *sum += field.parse::<u64>().unwrap());
    }
    assert_eq!(sum, numbers(&whole["total"]));
    let (code, table, _) = run(format!("usage --month {month} --account acme")).await.unwrap();
    assert!(code == Some(0) && table.contains("total") && !table.contains("plain"), "{table}");
    for (wrong, told) in [
        ("usage --month november", "such as 2026-11"),
        ("usage --month 2026-11 --day 2026-11-01", "cannot be used with"),
        ("deployments -o csv", "only `tidegate usage`"),
    ] {
        let (code, _, said) = run(wrong.to_owned()).await.unwrap();
        assert!(code == Some(2) && said.contains(told), "{wrong}: {said}");
    }
}
