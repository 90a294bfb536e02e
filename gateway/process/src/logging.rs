//! The process's own messages: JSON lines when a program reads them, plain lines on a terminal.
//!
//! Who reads standard error may stop reading, and a pipe that is full stops whoever writes to it. So lines go into a
//! bounded queue, one thread writes them, and what finds the queue full is dropped and counted: a log never costs a
//! request. The level can be changed while the process runs, until it is set again or the process ends.

use config::{Log, LogFormat, LogLevel};
use crossbeam::channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// Lines that may wait for the reader: a minute of a talkative gateway, some MiB.
const LINES_MAX: usize = 8192;

/// Lines that were dropped because nobody read them.
static DROPPED: AtomicU64 = AtomicU64::new(0);
/// What changes the level, once logging has started.
static LEVEL: OnceLock<Level> = OnceLock::new();

struct Level {
    filter: reload::Handle<EnvFilter, Registry>,
    /// As it was set last; `None`: `RUST_LOG` decides.
    now: Mutex<Option<LogLevel>>,
    lines: Sender<Message>,
}

enum Message {
    Line(Vec<u8>),
    Flush(Sender<()>),
}

/// The level cannot be changed.
#[derive(Debug, thiserror::Error)]
#[error("the log of this process was not started by tidegate, so its level is not tidegate's to set")]
pub struct NotStarted;

/// Starts logging to standard error. `RUST_LOG` wins over the config's level.
pub fn start(log: &Log) {
    let from_env = EnvFilter::try_from_default_env().ok();
    let now = from_env.is_none().then_some(log.level);
    let (filter, handle) = reload::Layer::new(from_env.unwrap_or_else(|| EnvFilter::new(name(log.level))));
    let plain = match log.format {
        LogFormat::Json => false,
        _ => io::stderr().is_terminal(),
    };
    let (lines, queue) = bounded(LINES_MAX);
    if std::thread::Builder::new().name("log".to_owned()).spawn(move || write(&queue)).is_err() {
        return;
    }
    let format = tracing_subscriber::fmt::layer().with_writer(Queue(lines.clone()));
    let registry = tracing_subscriber::registry().with(filter);
    // A second start in one process keeps the first: only tests do that.
    let started =
        if plain { registry.with(format).try_init() } else { registry.with(format.json()).try_init() };
    if started.is_ok() {
        let _ = LEVEL.set(Level { filter: handle, now: Mutex::new(now), lines });
    }
}

/// The level in force; `None`: `RUST_LOG` decides, or the log was not started.
#[must_use]
pub fn level() -> Option<LogLevel> {
    LEVEL.get().and_then(|level| *level.now.lock())
}

/// Puts another level in force at once, in the place of `RUST_LOG` too.
///
/// # Errors
/// When the log was not started here.
pub fn set_level(wanted: LogLevel) -> Result<(), NotStarted> {
    let level = LEVEL.get().ok_or(NotStarted)?;
    level.filter.reload(EnvFilter::new(name(wanted))).map_err(|_| NotStarted)?;
    *level.now.lock() = Some(wanted);
    Ok(())
}

/// Lines dropped so far.
#[must_use]
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Waits until the lines so far are written, at most `patience`.
pub fn flush(patience: Duration) {
    let Some(level) = LEVEL.get() else { return };
    let (done, written) = bounded(1);
    if level.lines.send_timeout(Message::Flush(done), patience).is_ok() {
        let _ = written.recv_timeout(patience);
    }
}

fn name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

fn write(queue: &Receiver<Message>) {
    for message in queue {
        match message {
            // A reader that is gone costs lines, nothing else.
            Message::Line(line) => drop(io::stderr().write_all(&line)),
            Message::Flush(done) => drop(done.send(())),
        }
    }
}

/// Where a line is put together; each is handed over whole.
struct Queue(Sender<Message>);

impl<'w> MakeWriter<'w> for Queue {
    type Writer = Line<'w>;

    fn make_writer(&'w self) -> Line<'w> {
        Line { queue: &self.0, bytes: Vec::new() }
    }
}

/// One line in the making; given to the queue when it is dropped.
struct Line<'w> {
    queue: &'w Sender<Message>,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if !bytes.is_empty() && self.queue.try_send(Message::Line(bytes)).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_nobody_reads_drops_lines_and_never_blocks() {
        let (lines, read) = bounded(2);
        let queue = Queue(lines);
        let before = dropped();
        for nth in 0..5 {
            let mut line = queue.make_writer();
            line.write_all(format!("line {nth}").as_bytes()).unwrap();
        }
        assert_eq!(dropped() - before, 3);
        let kept: Vec<_> = read
            .try_iter()
            .map(|message| match message {
                Message::Line(bytes) => String::from_utf8(bytes).unwrap(),
                Message::Flush(_) => unreachable!(),
            })
            .collect();
        assert_eq!(kept, ["line 0", "line 1"], "each whole");
    }
}
