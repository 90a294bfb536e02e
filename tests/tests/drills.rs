//! `tidegate drill` as a command: its exit codes, its report, and what an interruption leaves behind.

use crate::PROGRAM;
use kit::base_config::merge;
use kit::{Gateway, KEY, config, engine, tls};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder with one scenario, gone with its value.
struct Folder(PathBuf);

impl Folder {
    fn with(name: &str, scenario: &str) -> Folder {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("drill-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("drill.yaml"), scenario).unwrap();
        Folder(path)
    }

    fn drill(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("drill").arg(self.0.join("drill.yaml")).arg("--out").arg(&self.0).args(arguments);
        command
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const SMALL: &str = "drill: small\nduration_s: 8\nwarm_up_s: 1\ndrain_s: 20\nfleet: { replicas: 1 }\n\
    accounts: [{ id: a }]\ntraffic: [{ name: t, accounts: a, rate_per_s: 3, priority: 0.5, workload: \"fixed:100:10\" }]\n";

#[test]
fn a_drill_that_holds_ends_with_0_and_one_that_does_not_with_1() {
    for (share, code) in [("shed_max: 0", 0), ("shed_min: 0.9", 1)] {
        let folder = Folder::with(&format!("code-{code}"), &format!("{SMALL}pass: [{{ {share} }}]\n"));

        let output = folder.drill(&["--virtual"]);

        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stdout));
        let page = std::fs::read_to_string(folder.0.join("small.html")).unwrap();
        assert!(
            page.contains("Content-Security-Policy")
                && !page.contains("http://")
                && !page.contains("https://")
        );
        let figures = std::fs::read(folder.0.join("small.json")).unwrap();
        let figures: serde_json::Value = serde_json::from_slice(&figures).unwrap();
        assert_eq!(figures["passed"], code == 0);
    }
}

/// `tidegate drill … -o json | head -1` has read enough: no panic, and the verdict is still the exit code.
#[test]
fn a_reader_that_closes_the_pipe_changes_no_verdict() {
    let folder = Folder::with("closed", &format!("{SMALL}pass: [{{ shed_max: 0 }}]\n"));
    for form in ["json", "table"] {
        let mut child = folder
            .command(&["--virtual", "--output", form])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();

        let wrong = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.code() == Some(0) && !wrong.contains("panicked"), "{form}: {wrong}");
    }
}

#[test]
fn a_wrong_scenario_ends_with_2_and_names_the_line() {
    let folder = Folder::with("wrong", &SMALL.replace("duration_s", "duratoin_s"));

    let output = folder.drill(&["--virtual"]);

    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("drill.yaml:2:1 duratoin_s: is not a known key; did you mean `duration_s`?"),
        "{said}"
    );
}

#[test]
fn load_for_another_machine_needs_a_yes() {
    let folder = Folder::with("target", SMALL);

    let output = folder.drill(&["--target", "http://192.0.2.1:8080", "--key", "k"]);

    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--yes"));
}

/// The real gateway, as a process of its own, before a simulated engine: what virtual time plays, over HTTP.
#[test]
fn real_time_offers_what_virtual_time_offers_and_serves_it() {
    let folder = Folder::with("real", &format!("{SMALL}pass: [{{ shed_max: 0.5 }}]\n"));
    let offered = |arguments: &[&str]| -> (i64, i64) {
        let output = folder.drill(&[arguments, &["--output", "json"]].concat());
        let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let sum = |key: &str| {
            figures["tiers"].as_array().unwrap().iter().map(|tier| tier[key].as_i64().unwrap()).sum()
        };
        assert!(sum("offered") > 0, "{figures}");
        (sum("offered"), sum("failed"))
    };

    let (virtual_time, real) = (offered(&["--virtual"]), offered(&[]));

    assert_eq!(virtual_time.0, real.0, "the same requests");
    assert_eq!(real.1, 0, "every answer is what the engine said");
}

/// The figures of a drill's end, and its exit code.
fn figures(output: &Output) -> (Option<i32>, Value) {
    let said = String::from_utf8_lossy(&output.stderr);
    let figures = serde_json::from_slice(&output.stdout);
    (output.status.code(), figures.unwrap_or_else(|e| panic!("{e}: {said}")))
}

fn sum(figures: &Value, key: &str) -> i64 {
    figures["tiers"].as_array().unwrap().iter().map(|tier| tier[key].as_i64().unwrap()).sum()
}

/// A running gateway that speaks TLS is tried by its name and its authority, or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_gateway_is_drilled_over_https_where_its_certificate_is_trusted() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    let files = kit::folder::Folder::new();
    let file = |name: &str, text: &str| {
        std::fs::write(files.path().join(name), text).unwrap();
        files.path().join(name).to_str().unwrap().to_owned()
    };
    let (cert, key) = (file("cert.pem", tls::FIRST.certificate), file("key.pem", tls::FIRST.key));
    merge(&mut config["listen"], json!({ "tls": { "cert_file": cert, "key_file": key } }));
    let gateway = Gateway::start(PROGRAM, &config).await;
    let (right, wrong) = (file("ca.pem", tls::FIRST.authority), file("other.pem", tls::SECOND.authority));
    let url = format!("https://{}/inference", gateway.address);
    let folder = Folder::with("https", &format!("{SMALL}pass: [{{ shed_max: 0 }}]\n"));
    let drill = |ca: &str| folder.drill(&["--target", &url, "--ca", ca, "--key", KEY, "--output", "json"]);

    let (served, refused) = tokio::task::block_in_place(|| (drill(&right), drill(&wrong)));

    let (code, figures) = figures(&served);
    assert_eq!((code, sum(&figures, "failed")), (Some(0), 0), "{figures}");
    assert_eq!(engine.totals().finished, engine.totals().requests);
    assert!(sum(&figures, "offered") > 10 && engine.totals().requests > 10, "{figures}");
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("TLS: ") && said.contains("--ca"), "{said}");
}

/// What has no end when the drill's patience is over has missed; nothing is left out of the sums.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unfinished_at_the_end_of_the_drain_counts_as_missed() {
    let engine = engine().await;
    let gateway = Gateway::start(PROGRAM, &config([engine.url()])).await;
    engine.set_fault("hang=2").unwrap();
    let scenario = SMALL.replace("duration_s: 8", "duration_s: 4").replace("drain_s: 20", "drain_s: 1");
    let folder = Folder::with("unfinished", &format!("{scenario}pass: [{{ attainment: 0.5 }}]\n"));
    let url = format!("http://{}", gateway.address);

    let output =
        tokio::task::block_in_place(|| folder.drill(&["--target", &url, "--key", KEY, "--output", "json"]));

    let (code, figures) = figures(&output);
    assert_eq!(code, Some(1), "{figures}");
    assert!(sum(&figures, "offered") > 5, "{figures}");
    assert_eq!((sum(&figures, "met"), sum(&figures, "failed")), (0, sum(&figures, "offered")), "{figures}");
}

/// A gateway that is told to end cuts nobody off, and its clients find the next one.
#[test]
fn a_gateway_that_is_restarted_cuts_no_answer() {
    let scenario = SMALL.replace("duration_s: 8", "duration_s: 16").replace("fixed:100:10", "fixed:100:60");
    let scenario = scenario.replace("priority: 0.5,", "priority: 0.5, retry: { tries: 6 },");
    let events = "events: [{ at_s: 3, restart_gateway_s: 0 }]\n";
    let pass = "pass: [{ attainment: 1, until_s: 7 }, { attainment: 1, from_s: 13 }]\n";
    let folder = Folder::with("restart", &format!("{scenario}{events}{pass}"));

    for arguments in [vec!["--virtual", "--output", "json"], vec!["--output", "json"]] {
        let (code, figures) = figures(&folder.drill(&arguments));
        assert_eq!(code, Some(0), "{arguments:?}: {figures}");
        assert_eq!(figures["warnings"], json!([]), "{arguments:?}");
    }
}
