//! The operators' commands of the shipped program, before a live gateway: tables, JSON, refusals, and nobody there.

use crate::PROGRAM;
use crate::operating::{TOKEN, operated};
use kit::{Gateway, ask, config, engine};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Every command that asks the admin API, with whether it changes something.
const COMMANDS: &[(&str, bool)] = &[
    ("accounts", false),
    ("accounts list --containing b", false),
    ("accounts create bolt --tiers priority,regular --spending-tier 2", true),
    ("accounts show bolt", false),
    ("accounts set bolt --models sim", true),
    ("accounts disable bolt", true),
    ("accounts enable bolt", true),
    ("accounts rotate bolt --overlap 60", true),
    ("accounts remove bolt", true),
    ("limits list", false),
    ("limits show acme", false),
    ("limits history acme", false),
    ("limits set acme --start generated=72000 --floor generated=1 --ceiling generated=2000000000", true),
    ("deployments", false),
    ("deployments replicas", false),
    ("deployments tiers", false),
    ("deployments drain sim 0", true),
    ("deployments undrain sim 0", true),
    ("deployments thresholds sim --regular 0.7", true),
    ("deployments thresholds sim --reset", true),
    ("deployments pressure sim --share 0.3 --seconds 5", true),
    ("deployments pressure sim --lift", true),
    ("status", false),
    ("status --once", false),
    ("requests", false),
    ("requests --account acme --status 503 -n 5", false),
    ("usage", false),
    ("usage --month 2026-11 --account acme --by day", false),
    ("reload", true),
    ("log level", false),
    ("log level info", true),
    ("health", false),
];

async fn run(words: String) -> (Option<i32>, String, String) {
    let ran = tokio::task::spawn_blocking(move || -> Output {
        Command::new(PROGRAM)
            .args(words.split_whitespace())
            .env_remove("TIDEGATE_ADMIN")
            .env_remove("TIDEGATE_ADMIN_TOKEN_FILE")
            .output()
            .unwrap()
    });
    let ran = ran.await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (ran.status.code(), text(&ran.stdout), text(&ran.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operators_command_works_as_a_table_and_as_json_and_says_why_not() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("commands-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let engine = engine().await;
    let mut config = operated(config([engine.url()]));
    config["state"] = json!({ "dir": folder.to_str().unwrap() });
    config["usage"] = json!({});
    let gateway = Gateway::start(PROGRAM, &config).await;
    assert_eq!(gateway.chat(&ask(json!({}))).await.status, 200);
    let token = gateway.file("token", TOKEN);
    let there = format!("--admin {} --token-file {token}", gateway.admin);

    for (command, _) in COMMANDS {
        let (code, said, wrong) = run(format!("{command} {there}")).await;
        assert_eq!(code, Some(0), "{command}: {wrong}");
        assert!(!said.trim().is_empty() && !said.trim_start().starts_with('{'), "{command}: {said}");
    }
    for (command, _) in COMMANDS {
        let (code, said, wrong) = run(format!("{command} {there} -o json")).await;
        assert_eq!(code, Some(0), "{command}: {wrong}");
        assert!(serde_json::from_str::<Value>(&said).is_ok_and(|said| said.is_object()), "{command}: {said}");
    }
    for (command, changes) in COMMANDS.iter().filter(|(command, _)| !command.contains("bolt")) {
        let (code, _, wrong) = run(format!("{command} --admin {}", gateway.admin)).await;
        assert_eq!(code, Some(i32::from(*changes)), "{command} without a token: {wrong}");
        assert!(
            !changes || wrong.contains("wants its admin token") && wrong.contains("--token-file"),
            "{wrong}"
        );
    }
    // The gateway prints its address as a URL, and that is what people copy.
    let (code, _, wrong) = run(format!("limits list --admin http://{}/", gateway.admin)).await;
    assert_eq!(code, Some(0), "{wrong}");
    for (address, told) in [("https://127.0.0.1:1", "without TLS"), ("localhost", "no port")] {
        let (code, _, wrong) = run(format!("limits list --admin {address}")).await;
        assert!(code == Some(2) && wrong.contains(told), "{address}: {code:?} {wrong}");
    }
    for (command, code, told) in [
        ("accounts show nobody", 1, "no such account"),
        ("accounts disable acme", 1, "config declares"),
        ("accounts set acme", 2, "at least one"),
        ("accounts rotate acme", 2, "--overlap"),
        ("accounts create nut --key tg-plain", 1, "sha256:"),
        ("limits set acme --start output=1", 2, "no meter"),
        ("deployments drain sim 9", 1, "`tidegate deployments` lists them"),
        ("limits show nobody", 1, "`tidegate accounts` lists them"),
        ("requests --id req_0", 1, "access log"),
        ("log level loud", 2, "error, warn"),
        ("status --watch 0", 2, "0.5 to 3600"),
        ("deployments thresholds sim --regular 7", 1, "0.01 to 1"),
    ] {
        let (got, _, wrong) = run(format!("{command} {there}")).await;
        assert!(got == Some(code) && wrong.contains(told), "{command}: {got:?} {wrong}");
    }
    let nobody = "127.0.0.1:1";
    for (command, _) in COMMANDS {
        let (code, _, wrong) = run(format!("{command} --admin {nobody} --token-file {token}")).await;
        assert!(code == Some(1) && wrong.contains("is the gateway running?"), "{command}: {code:?} {wrong}");
    }
}

/// `tidegate … | head` is no failure, and nothing to report.
#[test]
fn a_reader_that_has_read_enough_is_no_failure() {
    let mut child =
        Command::new(PROGRAM).arg("schema").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // More than a pipe holds is printed, so it is still writing when the reader is gone.
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();

    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_explains_itself_and_a_slip_ends_with_code_two() {
    let (code, help, _) = run("--help".to_owned()).await;
    assert_eq!(code, Some(0));
    for command in [
        "serve",
        "check",
        "schema",
        "demo",
        "engine",
        "drill",
        "accounts",
        "limits",
        "deployments",
        "status",
        "requests",
        "reload",
        "log",
        "health",
        "upgrade",
        "keys",
        "completions",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not in the help");
        let (code, said, _) = run(format!("{command} --help")).await;
        assert!(code == Some(0) && said.contains("Usage: "), "{command}");
        let (code, _, wrong) = run(format!("{command} --no-such-option")).await;
        assert!(code == Some(2) && wrong.contains("--no-such-option"), "{command}: {wrong}");
    }
    let (code, said, _) = run("keys new".to_owned()).await;
    assert!(code == Some(0) && said.contains("key:  tg-") && said.contains("hash: sha256:"), "{said}");
    let (code, said, _) = run("schema".to_owned()).await;
    assert!(code == Some(0) && serde_json::from_str::<Value>(&said).is_ok());
    for check in ["check --config /nowhere.yaml", "check /nowhere.yaml", "check"] {
        assert_eq!(run(check.to_owned()).await.0, Some(2), "{check}");
    }
}

/// Where the gateway is and what its token is stands in its config.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateways_own_config_says_where_it_is_and_with_which_token() {
    let engine = engine().await;
    let gateway = Gateway::start(PROGRAM, &operated(config([engine.url()]))).await;
    let token = gateway.file("token", TOKEN);
    let mut named = config([engine.url()]);
    named["admin"] = json!({ "address": gateway.admin.to_string(), "token_file": token });
    named["log"]["access"] = json!("off");
    let file = gateway.file("named.yaml", &named.to_string());

    let (code, said, wrong) = run(format!("log level debug --config {file}")).await;

    assert!(code == Some(0) && said.contains("debug"), "{said}{wrong}");
    let broken = gateway.file("broken.yaml", "listen: 7");
    let (code, _, wrong) = run(format!("log level --config {broken}")).await;
    assert!(code == Some(2) && wrong.contains("--admin"), "{wrong}");
}

/// A reload that is refused ends with code 1 and says every fault with its line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_reload_says_every_fault() {
    let engine = engine().await;
    let good = operated(config([engine.url()]));
    let gateway = Gateway::start(PROGRAM, &good).await;
    let token = gateway.file("token", TOKEN);
    let mut bad = good.clone();
    bad["acounts"] = json!([]);
    bad["listen"]["treads"] = json!(2);
    gateway.write_config(&bad);

    let (code, _, wrong) = run(format!("reload --admin {} --token-file {token}", gateway.admin)).await;

    assert_eq!(code, Some(1), "{wrong}");
    for part in ["config.yaml:", "acounts", "treads", "stays"] {
        assert!(wrong.contains(part), "no {part} in {wrong}");
    }
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("man-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);

    let ran = Command::new(PROGRAM).arg("man").arg("--output").arg(&folder).output().unwrap();

    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let page = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    assert!(page("tidegate.1").contains(".TH tidegate 1"), "{}", page("tidegate.1"));
    for name in [
        "tidegate-serve.1",
        "tidegate-check.1",
        "tidegate-status.1",
        "tidegate-limits-set.1",
        "tidegate-upgrade.1",
    ] {
        assert!(page(name).contains(".SH NAME") || page(name).contains(".SH SYNOPSIS"), "{name}");
    }
    assert!(
        page("tidegate-status.1").contains("tidegate status \\-\\-watch 5"),
        "examples are in it: {}",
        page("tidegate-status.1")
    );
    std::fs::remove_dir_all(&folder).unwrap();
}
