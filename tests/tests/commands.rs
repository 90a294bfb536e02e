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
    let (code, _, wrong) = run(format!("limits list --admin http://{}", gateway.admin)).await;
    assert_eq!(code, Some(0), "{wrong}");
    for (command, code, told) in [
        ("accounts show nobody", 1, "no such account"),
        ("accounts disable acme", 1, "config declares"),
        ("accounts set acme", 2, "at least one"),
        ("accounts rotate acme", 2, "--overlap"),
        ("accounts create nut --key tg-plain", 1, "sha256:"),
        ("limits set acme --start output=1", 2, "no meter"),
        ("deployments drain sim 9", 1, "no such replica"),
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
    assert_eq!(run("check --config /nowhere.yaml".to_owned()).await.0, Some(2));
}
