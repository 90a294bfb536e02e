//! `tidegate status` on a terminal: it is drawn within it, and the terminal is put back whatever ends it.

use crate::PROGRAM;
use kit::{Gateway, ask, config, engine, eventually};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

/// A terminal with a program in it.
struct Terminal {
    keys: File,
    user: File,
    program: Child,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn with(columns: u16, rows: u16, arguments: &[&str]) -> Terminal {
        let keys = File::from(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap());
        grantpt(&keys).unwrap();
        unlockpt(&keys).unwrap();
        let name = ptsname(&keys, Vec::new()).unwrap().into_string().unwrap();
        let user = OpenOptions::new().read(true).write(true).open(name).unwrap();
        tcsetwinsize(&user, Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let end = |file: &File| Stdio::from(file.try_clone().unwrap());
        let program = Command::new(PROGRAM)
            .args(arguments)
            .env("NO_COLOR", "1")
            .stdin(end(&user))
            .stdout(end(&user))
            .stderr(end(&user))
            .spawn()
            .unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut read, kept) = (keys.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count) = read.read(&mut bytes) {
                kept.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Terminal { keys, user, program, shown }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// Whether keys are shown as they are typed, and read line by line, as a shell needs it.
    fn is_as_a_shell_needs_it(&self) -> bool {
        tcgetattr(&self.user).unwrap().local_modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    }

    async fn drawn(&self) {
        eventually("the view", || async { self.text().contains("q ends").then_some(()) }).await;
    }

    async fn end(&mut self) -> ExitStatus {
        let exit = eventually("its end", || {
            let exit = self.program.try_wait().unwrap();
            async move { exit }
        })
        .await;
        eventually("the screen that was before", || async { self.text().ends_with(LEAVE).then_some(()) })
            .await;
        exit
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_status_fits_and_leaves_the_terminal_as_it_was() {
    let engine = engine().await;
    let gateway = Gateway::start(PROGRAM, &config([engine.url()])).await;
    assert_eq!(gateway.chat(&ask(json!({}))).await.status, 200);
    let admin = gateway.admin.to_string();
    for end in ["q", "INT", "TERM", "HUP"] {
        let mut terminal = Terminal::with(80, 24, &["status", "--admin", &admin, "--watch", "0.5"]);
        assert!(terminal.is_as_a_shell_needs_it());
        terminal.drawn().await;
        assert!(terminal.text().starts_with(ENTER) && !terminal.is_as_a_shell_needs_it());

        if end == "q" {
            terminal.keys.write_all(b"q").unwrap();
        } else {
            let pid = terminal.program.id().to_string();
            assert!(Command::new("kill").arg(format!("-{end}")).arg(pid).status().unwrap().success());
        }

        let status = terminal.end().await;
        assert!(status.success(), "{end}: {status}");
        assert!(terminal.is_as_a_shell_needs_it(), "{end}: the terminal was not put back");
        let text = terminal.text();
        let text =
            text.replace("\x1b[K", "").replace("\x1b[J", "").replace("\x1b[?25h", "").replace(LEAVE, "");
        let page = text.split("\x1b[H").nth(1).unwrap();
        assert!(page.contains("tidegate ") && page.contains("sim") && page.contains("no refusals"), "{page}");
        assert!(page.matches("\r\n").count() <= 23, "{page}");
        let widest = page.split("\r\n").map(|line| line.trim_end_matches('\r').chars().count()).max();
        assert!(widest <= Some(80), "{widest:?}: {page}");
        assert!(!page.contains("\x1b[3"), "NO_COLOR: {page:?}");
    }
}

/// The gateway goes away while it is watched: that is said, and the view goes on until somebody ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_gone_is_told_in_the_view() {
    let engine = engine().await;
    let gateway = Gateway::start(PROGRAM, &config([engine.url()])).await;
    let admin = gateway.admin.to_string();
    let mut terminal = Terminal::with(100, 30, &["status", "--admin", &admin, "-w", "0.5"]);
    terminal.drawn().await;

    drop(gateway);

    eventually("the view says it", || async {
        terminal.text().contains("no answer from the admin").then_some(())
    })
    .await;
    terminal.keys.write_all(b"q").unwrap();
    assert!(terminal.end().await.success() && terminal.is_as_a_shell_needs_it());
}

/// Where nobody is watching from the start there is nothing to draw on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_gateway_the_terminal_is_not_touched() {
    let mut terminal = Terminal::with(80, 24, &["status", "--admin", "127.0.0.1:1"]);
    let exit = eventually("its end", || {
        let exit = terminal.program.try_wait().unwrap();
        async move { exit }
    })
    .await;

    assert_eq!(exit.code(), Some(1));
    eventually("what it says", || async {
        terminal.text().contains("is the gateway running?").then_some(())
    })
    .await;
    assert!(!terminal.text().contains(ENTER));
}
