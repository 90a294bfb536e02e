//! E12 and E14: what the first moments of a process meet, and what `tidegate check` finds of what `serve` needs.

use crate::PROGRAM;
use kit::base_config::merge;
use kit::client::{get, send};
use kit::folder::Folder;
use kit::program::{Program, free_address, serve};
use kit::tls::{FIRST, SECOND};
use kit::{Gateway, config, engine};
use serde_json::{Value, json};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap().success());
}

/// A gateway of which nothing is known but that its admin listener takes connections.
async fn just_opened(folder: &Folder, config: &Value) -> (Program, SocketAddr) {
    let admin = free_address().unwrap();
    let mut config = config.clone();
    config["admin"]["address"] = json!(admin.to_string());
    let file = folder.path().join("config.yaml");
    fs::write(&file, config.to_string()).unwrap();
    let program = serve(Path::new(PROGRAM), &file, &[], &folder.path().join("output")).unwrap();
    let end = engine::clock::now() + kit::wait::PATIENCE;
    while TcpStream::connect(admin).is_err() {
        assert!(engine::clock::now() < end, "it does not start: {:?}", program.output());
    }
    (program, admin)
}

/// The default of each of these signals is the end. None comes before the process can hear it, if it comes as soon as
/// anything shows that the process runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e12_a_signal_right_after_the_start_is_heard_and_ends_nothing_that_it_should_not() {
    let engine = engine().await;
    let config = config([engine.url()]);
    for round in 0..4 {
        for name in ["HUP", "USR1", "USR2"] {
            let folder = Folder::new();
            let (mut program, admin) = just_opened(&folder, &config).await;
            signal(program.pid(), name);
            assert_eq!(send(admin, get("/readyz", None)).await.status, 200, "SIG{name}, round {round}");
            assert!(program.is_running().unwrap(), "SIG{name} has ended it, round {round}");
        }
        let folder = Folder::new();
        let (mut program, _) = just_opened(&folder, &config).await;
        signal(program.pid(), "TERM");
        let ended = kit::eventually("its end", || {
            let exit = program.exit().unwrap();
            async move { exit }
        });
        assert_eq!(ended.await.code(), Some(0), "SIGTERM drains, round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e12_user_signals_end_nothing_while_it_serves() {
    let engine = engine().await;
    let gateway = Gateway::start(PROGRAM, &config([engine.url()])).await;
    for name in ["USR1", "USR2", "USR1"] {
        gateway.signal(name);
        // Time for a signal that would end it to do so.
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(gateway.chat(&kit::ask(json!({}))).await.status, 200, "after SIG{name}");
    }
}

/// What `tidegate` says with these words, and its exit code; `None`: it did not end.
async fn said(words: &[&str], file: &str) -> (Option<i32>, String) {
    let folder = Folder::new();
    let output = folder.path().join("output");
    let arguments: Vec<&str> = words.iter().copied().chain(["--config", file]).collect();
    let mut program = Program::start(Path::new(PROGRAM), arguments, &output).unwrap();
    for _ in 0..500 {
        if let Some(exit) = program.exit().unwrap() {
            return (exit.code(), program.output().unwrap());
        }
        // Polls another process, whose end nobody tells.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (None, program.output().unwrap())
}

/// Everything that `serve` cannot do without is found by `check`, with key and file; nothing is waited for, and nothing is
/// left behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e14_check_finds_what_serve_needs_and_serve_names_it() {
    let folder = Folder::new();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(at("one.crt"), FIRST.certificate).unwrap();
    fs::write(at("one.key"), FIRST.key).unwrap();
    fs::write(at("other.key"), SECOND.key).unwrap();
    fs::write(at("empty"), "").unwrap();
    fs::write(at("a-file"), "x").unwrap();
    fs::create_dir(at("a-folder")).unwrap();
    fs::create_dir_all(at("with-folder/budgets.journal")).unwrap();
    for name in ["pipe", "with-pipe-lock"] {
        assert!(Command::new("mkfifo").arg(at(name)).status().unwrap().success());
    }
    fs::create_dir(at("with-pipe")).unwrap();
    fs::rename(at("with-pipe-lock"), at("with-pipe/lock")).unwrap();
    let tls = |cert: &str, key: &str| json!({ "listen": { "tls": { "cert_file": at(cert), "key_file": at(key) } } });
    let log = |path: String| json!({ "log": { "access": path } });
    let state = |path: String| json!({ "state": { "dir": path } });
    let cases = [
        (tls("empty", "one.key"), "listen.tls.cert_file: ", at("empty")),
        (tls("one.crt", "empty"), "listen.tls.key_file: ", at("empty")),
        (tls("one.crt", "other.key"), "listen.tls.key_file: ", at("other.key")),
        (tls("one.key", "one.key"), "listen.tls.cert_file: ", at("one.key")),
        (tls("pipe", "one.key"), "listen.tls.cert_file: ", at("pipe")),
        (tls("one.crt", "pipe"), "listen.tls.key_file: ", at("pipe")),
        (
            json!({ "listen": { "tls": { "cert_file": "/dev/zero", "key_file": at("one.key") } } }),
            "listen.tls.cert_file: ",
            "/dev/zero".to_owned(),
        ),
        (log(at("nowhere/access.log")), "log.access: ", at("nowhere/access.log")),
        (log(at("a-folder")), "log.access: ", at("a-folder")),
        (log(at("pipe")), "log.access: ", at("pipe")),
        (log(at("a-file/access.log")), "log.access: ", at("a-file/access.log")),
        (state(at("a-file")), "state.dir: ", at("a-file")),
        (state(at("a-file/state")), "state.dir: ", at("a-file/state")),
        (state("/proc/tidegate".to_owned()), "state.dir: ", "/proc/tidegate".to_owned()),
        (state(at("with-folder")), "state.dir: ", at("with-folder/budgets.journal")),
        (state(at("with-pipe")), "state.dir: ", at("with-pipe/lock")),
        (json!({ "admin": { "token_file": at("pipe") } }), "admin.token_file: ", at("pipe")),
    ];
    let file = at("config.yaml");
    for (more, key, path) in cases {
        let mut config = config(["http://127.0.0.1:9".to_owned()]);
        merge(&mut config, more.clone());
        fs::write(&file, config.to_string()).unwrap();
        for command in ["check", "serve"] {
            let (code, told) = said(&[command], &file).await;
            assert!(
                code == Some(2) && told.contains(key) && told.contains(&path),
                "{command} {more}: {code:?} {told}"
            );
        }
    }

    let mut good = config(["http://127.0.0.1:9".to_owned()]);
    for more in [tls("one.crt", "one.key"), log(at("new.log")), state(at("deep/below/state"))] {
        merge(&mut good, more);
    }
    merge(&mut good["deployments"][0], json!({ "slo": { "ttft_ms": 2 } }));
    fs::write(&file, good.to_string()).unwrap();
    let (code, told) = said(&["check"], &file).await;
    assert!(code == Some(0) && told.contains("write 2000 if 2 seconds are meant"), "{code:?} {told}");
    assert!(!Path::new(&at("new.log")).exists() && !Path::new(&at("deep")).exists(), "left behind");
    merge(&mut good, log("/dev/null".to_owned()));
    fs::write(&file, good.to_string()).unwrap();
    assert_eq!(said(&["check"], &file).await.0, Some(0), "a device that takes lines is a log");
}
