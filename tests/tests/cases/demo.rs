//! O10: the demo in a real pseudo terminal: it fits, nothing scrolls, and the terminal is as before however the demo ends.

use crate::PROGRAM;
use engine::clock;
use kit::wait::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Lines above the screen that the terminal keeps.
const SCROLLBACK: usize = 1000;
/// How long a process may take to end once it was told to.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// A demo in a terminal of its own, and what that shows.
struct Demo {
    master: File,
    slave: File,
    child: Child,
    written: Receiver<Vec<u8>>,
    terminal: vt100::Parser,
    raw: String,
}

impl Demo {
    /// Starts it where `rows` lines of `columns` characters are.
    fn start((columns, rows): (u16, u16), environment: &[(&str, &str)]) -> Demo {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let master = File::from(master);
        let slave = File::options().read(true).write(true).open(name).unwrap();
        resize(&slave, (columns, rows));
        let stream = || Stdio::from(slave.try_clone().unwrap());
        let child = Command::new(PROGRAM)
            .args(["demo", "--port", "18080", "--admin-port", "19090"])
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .envs(environment.iter().copied())
            .stdin(stream())
            .stdout(stream())
            .stderr(stream())
            .spawn()
            .unwrap();
        let (send, written) = channel();
        let mut reader = master.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 65_536];
            // EIO once nobody has the other side.
            while let Ok(count) = reader.read(&mut bytes) {
                if send.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let terminal = vt100::Parser::new(rows, columns, SCROLLBACK);
        Demo { master, slave, child, written, terminal, raw: String::new() }
    }

    /// Reads what it writes until `is_there` finds it on the screen.
    #[track_caller]
    fn wait_for(&mut self, what: &str, is_there: impl Fn(&vt100::Screen) -> bool) {
        let end = clock::now() + PATIENCE;
        while !is_there(self.terminal.screen()) {
            match self.written.recv_timeout(end.saturating_sub(clock::now())) {
                Ok(bytes) => self.see(&bytes),
                Err(error) => panic!("{what}: {error}; the screen:\n{}", self.terminal.screen().contents()),
            }
        }
    }

    fn see(&mut self, bytes: &[u8]) {
        self.terminal.process(bytes);
        self.raw.push_str(&String::from_utf8_lossy(bytes));
    }

    /// The rows of the screen.
    fn rows(&self) -> Vec<String> {
        let screen = self.terminal.screen();
        screen.rows(0, screen.size().1).collect()
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.slave).unwrap().local_modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    }

    /// Waits for the drawn screen: its first row is the title, its last one the keys, as many as fit.
    #[track_caller]
    fn drawn(&mut self) {
        self.wait_for("the screen", |screen| screen.contents().contains("lose a replica"));
        assert!(!self.echoes() && self.terminal.screen().alternate_screen());
    }

    fn tell(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end, and reads what it left.
    #[track_caller]
    fn ended(&mut self) -> ExitStatus {
        let end = clock::now() + ENDS_WITHIN;
        let status = loop {
            match self.written.recv_timeout(Duration::from_millis(20)) {
                Ok(bytes) => self.see(&bytes),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(clock::now() < end, "still there after {ENDS_WITHIN:?}");
        };
        while let Ok(bytes) = self.written.recv_timeout(Duration::from_millis(100)) {
            self.see(&bytes);
        }
        status
    }

    #[track_caller]
    fn assert_put_back(&mut self, how: &str) {
        let screen = self.terminal.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor(), "{how}: the alternate screen is left");
        assert!(self.echoes(), "{how}: the shell is without echo");
        let left = screen.contents();
        assert!(left.contains("tidegate demo is over") && left.lines().count() < 10, "{how}: {left}");
        self.terminal.screen_mut().set_scrollback(SCROLLBACK);
        assert_eq!(self.terminal.screen().scrollback(), 0, "{how}: lines were scrolled");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(slave: &File, (columns, rows): (u16, u16)) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(slave, size).unwrap();
}

#[test]
fn case_o10_the_demo_fits_its_terminal_also_when_that_changes_and_puts_it_back_when_it_is_ended() {
    let mut demo = Demo::start((80, 24), &[]);
    demo.drawn();
    let rows = demo.rows();
    assert!(rows[0].starts_with("tidegate demo") && rows[22].contains("q quit"), "{rows:#?}");
    for what in
        ["priority", "trial", "replica 0", "replica 3", "tokens ahead", "waiting", "curl -i", "token tg-"]
    {
        assert!(rows.iter().any(|row| row.contains(what)), "{what}: {rows:#?}");
    }

    for size in [(120, 40), (60, 12), (80, 24)] {
        resize(&demo.slave, size);
        demo.terminal.screen_mut().set_size(size.1, size.0);
        // The drawing after the change, not what the terminal kept.
        demo.terminal.process(b"\x1b[2J");
        demo.drawn();
        let rows = demo.rows();
        assert!(rows[0].starts_with("tidegate demo"), "{size:?}: {rows:#?}");
        assert_eq!(rows.iter().filter(|row| row.starts_with("replica")).count(), 4, "{size:?}: {rows:#?}");
    }

    demo.tell(Signal::TERM);
    assert_eq!(demo.ended().code(), Some(0));
    demo.assert_put_back("SIGTERM");
}

#[test]
fn case_o10_whatever_ends_the_demo_leaves_the_terminal_as_it_was() {
    for signal in [Signal::INT, Signal::HUP, Signal::QUIT] {
        let mut demo = Demo::start((80, 24), &[]);
        demo.drawn();
        demo.tell(signal);
        assert_eq!(demo.ended().code(), Some(0), "{signal:?}");
        demo.assert_put_back(&format!("{signal:?}"));
    }
    let mut demo = Demo::start((80, 24), &[("NO_COLOR", "1")]);
    demo.drawn();
    // Ctrl-Z stops nothing, for nobody would find the alternate screen again.
    demo.master.write_all(b"\x1aq").unwrap();
    assert_eq!(demo.ended().code(), Some(0));
    demo.assert_put_back("q");
    let styled =
        ["1m", "31m", "32m", "33m", "36m"].iter().any(|style| demo.raw.contains(&format!("\x1b[{style}")));
    assert!(!styled, "NO_COLOR: {}", demo.raw);
}

#[test]
fn case_o10_a_demo_whose_terminal_takes_nothing_or_is_gone_ends() {
    let mut demo = Demo::start((80, 24), &[]);
    demo.drawn();
    // Ctrl-S: whoever draws waits for ever.
    demo.master.write_all(b"\x13").unwrap();
    while demo.written.recv_timeout(Duration::from_secs(1)).is_ok() {}
    demo.tell(Signal::TERM);
    assert_eq!(demo.ended().code(), Some(0));
    assert!(demo.echoes());

    let mut demo = Demo::start((80, 24), &[]);
    demo.drawn();
    let nobody = || File::open("/dev/null").unwrap();
    let (_nobody_sends, quiet) = channel();
    // With the next frame its reader goes, too.
    demo.written = quiet;
    (demo.master, demo.slave) = (nobody(), nobody());
    assert_eq!(demo.ended().code(), Some(0));
}

/// Where a program reads, there are lines, and no escapes in them.
#[test]
fn a_demo_without_a_terminal_prints_lines() {
    let demo = Command::new(PROGRAM)
        .args(["demo", "--seconds", "6", "--port", "18080", "--admin-port", "19090"])
        .stdin(Stdio::null())
        .output()
        .unwrap();

    let text = String::from_utf8(demo.stdout).unwrap();
    assert!(demo.status.success() && !text.contains('\x1b'), "{text}");
    assert!(text.contains("listening on http://127.0.0.1:"), "{text}");
    assert!(text.lines().any(|line| line.contains("saturation") && line.contains("| trial")), "{text}");
}
