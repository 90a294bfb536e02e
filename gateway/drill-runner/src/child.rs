//! The process of one drill: started, fed, watched and ended.

use crossbeam::channel::{Receiver, bounded};
use process::clock;
use serde_json::Value;
use std::io::{self, Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Bytes of a report and its figures that are taken.
pub const OUTPUT_BYTES_MAX: usize = 8 << 20;
/// Bytes of what it says of errors that are taken.
const SAID_BYTES_MAX: usize = 16 << 10;
/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is played.
#[derive(Debug, Clone)]
pub struct Task {
    /// The program, which is this one.
    pub program: PathBuf,
    /// The config's file.
    pub config: PathBuf,
    /// The model of it that is played; `None`: all.
    pub model: Option<String>,
    /// The scenario's text.
    pub scenario: String,
    /// What was measured of its engines, as the admin API tells it; empty: profiles are played.
    pub measured: Vec<Value>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It was played.
    Played {
        /// Its figures.
        figures: Value,
        /// Its report, a page.
        report: String,
    },
    /// It was not, and said why.
    Broken(String),
    /// It was stopped.
    Stopped,
    /// Its time was over.
    TimedOut,
}

/// Plays it to its end, on the calling thread: the process ends with that. It is stopped when `stop` hears something.
pub fn play(task: &Task, time_max: Duration, stop: &Receiver<()>) -> Outcome {
    match started(task) {
        Ok((child, pipes)) => watched(child, pipes, task, time_max, stop),
        Err(e) => Outcome::Broken(format!("the drill's process could not be started: {e}")),
    }
}

type Pipes = (ChildStdin, ChildStdout, ChildStderr);

fn started(task: &Task) -> io::Result<(Child, Pipes)> {
    let mut command = Command::new(&task.program);
    command.args(["drill", "served", "--parent", &std::process::id().to_string(), "--config"]);
    command.arg(&task.config);
    if let Some(model) = &task.model {
        command.args(["--model", model]);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
        (Some(stdin), Some(stdout), Some(stderr)) => Ok((child, (stdin, stdout, stderr))),
        _ => Err(io::Error::other("it has no pipes")),
    }
}

fn watched(
    mut child: Child,
    (stdin, stdout, stderr): Pipes,
    task: &Task,
    time_max: Duration,
    stop: &Receiver<()>,
) -> Outcome {
    let begun = clock::now();
    let written = serde_json::json!({ "scenario": task.scenario, "measured": task.measured }).to_string();
    let (sender, output) = bounded(1);
    let (said_sender, said) = bounded(1);
    let threads = [
        // Whoever ends early reads nothing; that is told by how it ends.
        std::thread::Builder::new().name("drill-in".to_owned()).spawn(move || feed(stdin, &written)),
        std::thread::Builder::new().name("drill-out".to_owned()).spawn(move || {
            let _ = sender.send(read(stdout, OUTPUT_BYTES_MAX));
        }),
        std::thread::Builder::new().name("drill-err".to_owned()).spawn(move || {
            let _ = said_sender.send(read(stderr, SAID_BYTES_MAX));
        }),
    ];
    let ended = loop {
        if threads.iter().any(Result::is_err) {
            break Some(Outcome::Broken("there is no thread for the drill".to_owned()));
        }
        if !matches!(child.try_wait(), Ok(None)) {
            break None;
        }
        if stop.recv_timeout(LOOK_EVERY).is_ok() {
            break Some(Outcome::Stopped);
        }
        if clock::now().saturating_sub(begun) > time_max {
            break Some(Outcome::TimedOut);
        }
    };
    if let Some(outcome) = ended {
        let _ = child.kill();
        let _ = child.wait();
        return outcome;
    }
    // Both pipes are closed with the process.
    let (output, said) = (output.recv().unwrap_or_default(), said.recv().unwrap_or_default());
    if output.len() > OUTPUT_BYTES_MAX {
        return Outcome::Broken(format!(
            "its report is larger than {} MiB; make the drill shorter",
            OUTPUT_BYTES_MAX >> 20
        ));
    }
    parsed(&output).unwrap_or_else(|| Outcome::Broken(words_of(&said)))
}

fn feed(mut stdin: ChildStdin, text: &str) {
    let _ = stdin.write_all(text.as_bytes());
}

/// What comes, and one byte more than `most` where more comes: then the rest is left, and the writer finds the pipe closed.
fn read(from: impl Read, most: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = from.take(most as u64 + 1).read_to_end(&mut bytes);
    bytes
}

/// Figures on one line, and the page.
fn parsed(output: &[u8]) -> Option<Outcome> {
    let text = std::str::from_utf8(output).ok()?;
    let (figures, report) = text.split_once('\n')?;
    let figures = serde_json::from_str(figures).ok()?;
    Some(Outcome::Played { figures, report: report.to_owned() })
}

fn words_of(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said.get(..SAID_BYTES_MAX.min(said.len())).unwrap_or_default());
    let text = text.trim();
    if text.is_empty() { "it ended without a word".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// A program of this text in place of Tidegate.
    pub(crate) fn task(name: &str, text: &str) -> Task {
        let folder = std::env::temp_dir().join(format!("tidegate-drill-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let program = folder.join("program");
        std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let config = folder.join("config.yaml");
        Task { program, config, model: None, scenario: "drill: d".to_owned(), measured: Vec::new() }
    }

    fn played(task: &Task, time_max: Duration) -> Outcome {
        let (_keep, stop) = bounded(1);
        let outcome = play(task, time_max, &stop);
        std::fs::remove_dir_all(task.program.parent().unwrap()).unwrap();
        outcome
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn figures_and_report_are_taken_and_the_scenario_is_handed_in() {
        let task = task("good", "read job; echo '{\"passed\":true}'; echo \"<p>$job $*</p>\"");
        let Outcome::Played { figures, report } = played(&task, LONG) else { panic!("not played") };
        assert_eq!(figures["passed"], true);
        assert!(
            report.contains("\"scenario\":\"drill: d\"") && report.contains("drill served --parent"),
            "{report}"
        );
    }

    #[test]
    fn who_refuses_is_heard() {
        let task = task("bad", "echo 'scenario:3: no such thing' >&2; exit 2");
        assert_eq!(played(&task, LONG), Outcome::Broken("scenario:3: no such thing".to_owned()));
    }

    #[test]
    fn time_and_output_have_bounds() {
        let endless = task("endless", "exec sleep 600");
        assert_eq!(played(&endless, Duration::from_millis(200)), Outcome::TimedOut);
        let chatty = task("chatty", "exec yes");
        assert!(
            matches!(played(&chatty, LONG), Outcome::Broken(words) if words.contains("larger than 8 MiB"))
        );
    }

    #[test]
    fn it_is_stopped_when_asked() {
        let task = task("stopped", "exec sleep 600");
        let (sender, stop) = bounded(1);
        sender.send(()).unwrap();
        assert_eq!(play(&task, LONG, &stop), Outcome::Stopped);
        std::fs::remove_dir_all(task.program.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_program_that_is_not_there_is_said() {
        let missing = Task { program: "/no/such/program".into(), ..task("missing", "") };
        let (_keep, stop) = bounded(1);
        assert!(
            matches!(play(&missing, LONG, &stop), Outcome::Broken(words) if words.contains("could not be started"))
        );
    }
}
