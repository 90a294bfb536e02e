//! O01, O04, O09: no line of a log is lost without a word, files are opened anew, text is text.

use crate::PROGRAM;
use kit::base_config::merge;
use kit::client::{get, post, send};
use kit::folder::Folder;
use kit::program::Serving;
use kit::{Gateway, KEY, ask, config, engine, eventually};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A gateway with `log`, in a folder of its own.
async fn logging(folder: &Folder, replica: String, log: Value) -> Serving {
    let mut config = config([replica]);
    merge(&mut config["log"], log);
    let file = folder.path().join("config.yaml");
    fs::write(&file, config.to_string()).unwrap();
    Serving::start(Path::new(PROGRAM), &file, &folder.path().join("output")).await.unwrap()
}

async fn served(gateway: &Serving, count: usize) {
    for _ in 0..count {
        assert_eq!(send(gateway.address, post(&ask(json!({})), Some(KEY))).await.status, 200);
    }
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap().success());
}

/// A sample of the metrics page without labels.
async fn sample(gateway: &Serving, name: &str) -> f64 {
    let page = send(gateway.admin, get("/metrics", None)).await.text();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_o01_lines_that_a_full_disk_loses_are_counted_and_said_once() {
    let (folder, engine) = (Folder::new(), engine().await);
    let gateway = logging(&folder, engine.url(), json!({ "access": "/dev/full" })).await;

    served(&gateway, 50).await;

    eventually("fifty lost lines", || async {
        (sample(&gateway, "tidegate_access_log_dropped_total").await == 50.0).then_some(())
    })
    .await;
    let told = || gateway.program.output().unwrap().matches("lines are being lost").count();
    eventually("the line that says so", || async { (told() > 0).then_some(()) }).await;
    served(&gateway, 5).await;
    eventually("five more", || async {
        (sample(&gateway, "tidegate_access_log_dropped_total").await == 55.0).then_some(())
    })
    .await;
    assert_eq!(told(), 1, "{}", gateway.program.output().unwrap());
    assert!(gateway.program.output().unwrap().contains("No space left"), "it says why");
}

/// A disk that was full has room again: how many lines are missing is said once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_o01_when_it_is_over_the_count_is_told() {
    let (folder, engine) = (Folder::new(), engine().await);
    let access = folder.path().join("access.log");
    std::os::unix::fs::symlink("/dev/full", &access).unwrap();
    let gateway = logging(&folder, engine.url(), json!({ "access": access.to_str().unwrap() })).await;
    served(&gateway, 3).await;
    eventually("three lost lines", || async {
        (sample(&gateway, "tidegate_access_log_dropped_total").await == 3.0).then_some(())
    })
    .await;

    fs::remove_file(&access).unwrap();
    signal(gateway.program.pid(), "USR1");
    eventually("a file in its place", || async { access.exists().then_some(()) }).await;
    served(&gateway, 2).await;

    let over = || {
        gateway
            .program
            .output()
            .unwrap()
            .lines()
            .any(|line| line.contains("lines are written again") && line.contains("\"lost\":3"))
    };
    eventually("the line that says that it is over", || async { over().then_some(()) }).await;
    assert_eq!(fs::read_to_string(&access).unwrap().lines().count(), 2);
    assert_eq!(sample(&gateway, "tidegate_access_log_dropped_total").await, 3.0);
}

/// Both logs go on in a new file after both signals, and every line is in one of the files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_o04_both_logs_are_opened_anew_on_both_signals_and_no_line_is_lost() {
    let (folder, engine) = (Folder::new(), engine().await);
    let [access, own] = ["access.log", "own.log"].map(|name| folder.path().join(name));
    let log = json!({ "level": "info", "access": access.to_str().unwrap(), "file": own.to_str().unwrap() });
    let gateway = logging(&folder, engine.url(), log).await;
    for (nth, name) in ["HUP", "USR1"].into_iter().enumerate() {
        served(&gateway, 5).await;
        let moved = |path: &Path| path.with_extension(format!("log.{nth}"));
        for path in [&access, &own] {
            fs::rename(path, moved(path)).unwrap();
        }

        signal(gateway.program.pid(), name);

        eventually("both files made anew", || async { (access.exists() && own.exists()).then_some(()) })
            .await;
        assert!(
            !fs::read_to_string(moved(&own)).unwrap().is_empty() || nth == 1,
            "it had said something before"
        );
    }
    served(&gateway, 5).await;

    let lines = || {
        let files = ["access.log.0", "access.log.1", "access.log"];
        files.map(|name| folder.text(name).lines().count()).iter().sum::<usize>()
    };
    eventually("fifteen lines in three files", || async { (lines() == 15).then_some(()) }).await;
    assert!(folder.text("access.log").lines().count() >= 1, "the last ones are in the new file");
    assert_eq!(sample(&gateway, "tidegate_access_log_dropped_total").await, 0.0);
}

/// A process that goes down for minutes still lets go of a file that was moved away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_o04_a_draining_process_opens_its_logs_anew() {
    let (folder, engine) = (Folder::new(), engine().await);
    let access = folder.path().join("access.log");
    let gateway = logging(&folder, engine.url(), json!({ "access": access.to_str().unwrap() })).await;
    let slow = ask(json!({ "stream": true, "user": "sim:gap=100ms", "max_tokens": 20 }));
    let address = gateway.address;
    let running = tokio::spawn(async move { send(address, post(&slow, Some(KEY))).await });
    eventually("the stream runs", || async {
        let page = send(gateway.admin, get("/api/v1/version", None)).await.json();
        (page["requests_in_flight"] == 1).then_some(())
    })
    .await;
    signal(gateway.program.pid(), "TERM");
    eventually("it drains", || async {
        (send(gateway.admin, get("/readyz", None)).await.status == 503).then_some(())
    })
    .await;
    fs::rename(&access, folder.path().join("moved")).unwrap();

    signal(gateway.program.pid(), "USR1");

    eventually("the file made anew", || async { access.exists().then_some(()) }).await;
    assert_eq!(running.await.unwrap().status, 200);
    eventually("its line in the new file", || async {
        (folder.text("access.log").lines().count() == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_o09_text_into_files_is_text() {
    let (folder, engine) = (Folder::new(), engine().await);
    let [access, own] = ["access.log", "own.log"].map(|name| folder.path().join(name));
    let log = json!({ "level": "info", "format": "text", "access": access.to_str().unwrap(), "file": own.to_str().unwrap() });
    let gateway = logging(&folder, engine.url(), log).await;
    served(&gateway, 1).await;
    signal(gateway.program.pid(), "HUP");

    eventually("a line in each", || async {
        (!folder.text("access.log").is_empty() && folder.text("own.log").contains("reloaded")).then_some(())
    })
    .await;

    let [access, own] = ["access.log", "own.log"].map(|name| folder.text(name));
    for text in [&access, &own] {
        assert!(!text.starts_with('{') && !text.contains('\x1b'), "{text}");
    }
    for part in [
        " request request_id=req_",
        " protocol=HTTP/1.1 ",
        " account=acme key=",
        " status=200 ",
        " finish_reason=",
    ] {
        assert!(access.contains(part), "no `{part}` in {access}");
    }
    assert!(own.contains(" INFO ") && own.contains("the config was reloaded by=\"signal\""), "{own}");
}

/// Whose key it was, what the client spoke, and how the answer ended: of streams and whole answers of every API.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_says_key_protocol_finish_reason_and_cause() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    merge(&mut config["deployments"][0], json!({ "limit": 1, "queue": { "requests": 0 } }));
    let gateway = Gateway::start(PROGRAM, &config).await;
    let key = config::keys::Digest::of(KEY).short();
    let mut lines = 0;
    for stream in [false, true] {
        for (max_tokens, finish) in [(4, "length"), (4_000, "stop")] {
            let body = ask(json!({ "stream": stream, "max_tokens": max_tokens, "user": "sim:output=8" }));
            assert_eq!(gateway.chat(&body).await.status, 200);
            let line = gateway.log(lines + 1).await.remove(lines);
            lines += 1;
            assert_eq!(line["finish_reason"], finish, "stream: {stream}: {line}");
            assert_eq!(
                (&line["key"], &line["protocol"], &line["cause"]),
                (&json!(key), &json!("HTTP/1.1"), &Value::Null)
            );
        }
    }
    let held = gateway.hold().await;
    assert_eq!(gateway.chat(&ask(json!({}))).await.status, 503);
    let line = gateway.log(lines + 1).await.remove(lines);
    assert_eq!((&line["cause"], &line["finish_reason"]), (&json!("places"), &Value::Null), "{line}");
    drop(held);
    gateway.counter_becomes("gate_live:sim", 0).await;
    assert_eq!(gateway.chat(&ask(json!({ "user": "sim:status=500" }))).await.status, 502);
    let lines = gateway.log(lines + 3).await;
    let broken = lines.iter().find(|line| line["status"] == 502).unwrap();
    assert_eq!(broken["cause"], "unexplained", "{broken}");
    let left = lines.iter().find(|line| line["client_gone"] == true).unwrap();
    assert_eq!(left["cause"], "client", "{left}");
}

/// Real logrotate, with the file that ships: moved, opened anew, nothing lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_o04_the_logrotate_file_that_ships_works_with_real_logrotate() {
    let Some(logrotate) =
        ["/usr/sbin/logrotate", "/usr/bin/logrotate"].into_iter().find(|path| Path::new(path).exists())
    else {
        return println!("no logrotate here: tests/deploy/run.sh installs it and tries the same");
    };
    let (folder, engine) = (Folder::new(), engine().await);
    let logs = folder.path().join("logs");
    fs::create_dir(&logs).unwrap();
    let access = logs.join("access.log");
    let gateway = logging(&folder, engine.url(), json!({ "access": access.to_str().unwrap() })).await;
    served(&gateway, 5).await;
    eventually("five lines", || async {
        (fs::read_to_string(&access).unwrap_or_default().lines().count() == 5).then_some(())
    })
    .await;
    let shipped =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/systemd/tidegate.logrotate"))
            .unwrap();
    let kill = format!("kill -USR1 {}", gateway.program.pid());
    let here = shipped
        .replace("/var/log/tidegate", logs.to_str().unwrap())
        .replace("systemctl kill --kill-whom=all --signal=USR1 tidegate.service", &kill);
    assert!(here.contains(&kill), "the file signals otherwise");
    let rules = folder.path().join("rules");
    fs::write(&rules, here).unwrap();
    // logrotate takes no file that others may write.
    assert!(Command::new("chmod").arg("0644").arg(&rules).status().unwrap().success());
    assert!(Command::new("chmod").arg("0755").arg(&logs).status().unwrap().success());

    let state = folder.path().join("state");
    let run = Command::new(logrotate).arg("--force").arg("--state").arg(&state).arg(&rules).output().unwrap();

    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    eventually("the file made anew", || async { access.exists().then_some(()) }).await;
    served(&gateway, 5).await;
    eventually("five lines in the new file", || async {
        (fs::read_to_string(&access).unwrap().lines().count() == 5).then_some(())
    })
    .await;
    let names: Vec<String> =
        fs::read_dir(&logs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let moved = names.iter().find(|name| *name != "access.log").unwrap();
    assert_eq!(fs::read_to_string(logs.join(moved)).unwrap().lines().count(), 5);
}
