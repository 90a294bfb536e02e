//! The process's own messages: JSON lines when a program reads them, plain lines on a terminal or where that is asked for.
//!
//! Who reads standard error may stop reading, and a pipe that is full stops whoever writes to it. So lines go into a
//! bounded queue, one thread writes them, and what finds the queue full, or cannot be written, is dropped and counted: a
//! log never costs a request. That lines are lost is a line itself, once when it begins and once when it is over; it does
//! not wait in the queue. The level can be changed while the process runs, until it is set again or the process ends.

use crate::clock;
use crate::losses::{Losses, News};
use crate::sink::{Sink, SinkError};
use config::{Log, LogFormat, LogLevel};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;
use std::cell::Cell;
use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// Lines that may wait for the reader: a minute of a talkative gateway, some MiB.
const LINES_MAX: usize = 8192;
/// Lines of the writer itself that may wait: of lost lines and of a file opened anew.
const OWN_MAX: usize = 16;
/// How long the writer waits for a line before it looks whether a file has to be opened anew, or a loss is over.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Lines that were dropped because nobody read them, or the disk was full.
static DROPPED: AtomicU64 = AtomicU64::new(0);
/// Set where the file is to be opened anew.
static REOPEN: AtomicBool = AtomicBool::new(false);
/// What changes the level, once logging has started.
static LEVEL: OnceLock<Level> = OnceLock::new();

thread_local! {
    /// Set on the thread that writes.
    static IS_WRITER: Cell<bool> = const { Cell::new(false) };
}

/// What every line of the process's own log has, for the reference: name, shape and meaning.
pub const FIELDS: &[(&str, &str, &str)] = &[
    ("timestamp", "text", "When it was said (RFC 3339, UTC)."),
    ("level", "text", "`ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`."),
    ("target", "text", "The module that said it; `audit` for what an operator changed."),
    ("fields.message", "text", "What happened, and what to do."),
    (
        "fields.*",
        "any",
        "What it is about: `deployment`, `replica`, `model`, `account`, `request`, `by` and others.",
    ),
];

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

/// Starts logging to where `log` says. `RUST_LOG` wins over the config's level.
///
/// # Errors
/// When the file cannot be opened.
pub fn start(log: &Log) -> Result<(), SinkError> {
    let from_env = EnvFilter::try_from_default_env().ok();
    let now = from_env.is_none().then_some(log.level);
    let (filter, handle) = reload::Layer::new(from_env.unwrap_or_else(|| EnvFilter::new(name(log.level))));
    let (sink, is_terminal) = match &log.file {
        Some(path) => (Sink::file(path)?, false),
        None => (Sink::stderr(), io::stderr().is_terminal()),
    };
    let plain = is_plain(log.format, is_terminal);
    let (lines, queue) = bounded(LINES_MAX);
    let (own, own_lines) = bounded(OWN_MAX);
    let writer = Writer { sink, own: own_lines, losses: Losses::default() };
    if std::thread::Builder::new().name("log".to_owned()).spawn(move || writer.run(&queue)).is_err() {
        return Ok(());
    }
    let layer = tracing_subscriber::fmt::layer().with_writer(Queue { lines: lines.clone(), own });
    let registry = tracing_subscriber::registry().with(filter);
    // A second start in one process keeps the first: only tests do that.
    let started = if plain {
        registry.with(layer.with_ansi(is_terminal && has_colours())).try_init()
    } else {
        registry.with(layer.json()).try_init()
    };
    if started.is_ok() {
        let _ = LEVEL.set(Level { filter: handle, now: Mutex::new(now), lines });
    }
    Ok(())
}

/// Whether lines are for people: `text` always, `auto` on a terminal.
#[must_use]
pub fn is_plain(format: LogFormat, is_terminal: bool) -> bool {
    match format {
        LogFormat::Json => false,
        LogFormat::Text => true,
        LogFormat::Auto => is_terminal,
    }
}

/// Whether colours are wanted at all, by <https://no-color.org>.
#[must_use]
pub fn has_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Opens the log's file anew within a moment, where it is a file: it may have been moved away.
pub fn reopen() {
    REOPEN.store(true, Ordering::Release);
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

/// Writes what is in the queue, on a thread of its own.
struct Writer {
    sink: Sink,
    /// What this thread says itself.
    own: Receiver<Vec<u8>>,
    losses: Losses,
}

impl Writer {
    fn run(mut self, queue: &Receiver<Message>) {
        IS_WRITER.set(true);
        loop {
            match queue.recv_timeout(LOOK_EVERY) {
                Ok(Message::Line(line)) => self.put(&line),
                Ok(Message::Flush(done)) => {
                    self.flush();
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.flush(),
            }
            if queue.is_empty() {
                self.flush();
            }
            self.look();
        }
    }

    fn put(&mut self, line: &[u8]) {
        self.sink.buffer().extend_from_slice(line);
        let lost = self.sink.put();
        DROPPED.fetch_add(lost, Ordering::Relaxed);
    }

    fn flush(&mut self) {
        let lost = self.sink.flush();
        DROPPED.fetch_add(lost, Ordering::Relaxed);
    }

    /// Opens the file anew where that was asked for, and says what is to be said of lost lines.
    fn look(&mut self) {
        if REOPEN.swap(false, Ordering::AcqRel) {
            match self.sink.reopen() {
                Ok(lost) => drop(DROPPED.fetch_add(lost, Ordering::Relaxed)),
                Err(e) => tracing::error!("the log goes on in the file that was open: {e}"),
            }
        }
        let works = self.sink.failure().is_none();
        match self.losses.look(dropped(), works, clock::now()) {
            Some(News::Begin(_)) => {
                let cause =
                    self.sink.failure().map_or_else(|| "they come too fast".to_owned(), ToString::to_string);
                tracing::error!(
                    cause,
                    "lines of this log are being lost; free the disk, or read them faster"
                );
            }
            Some(News::Over(lost)) => tracing::warn!(lost, "lines of this log are written again"),
            None => {}
        }
        while let Ok(line) = self.own.try_recv() {
            self.flush();
            self.sink.buffer().extend_from_slice(&line);
            // A line about lost lines that is lost itself is no other loss.
            let _ = self.sink.flush();
        }
    }
}

/// Where a line is put together; each is handed over whole.
struct Queue {
    lines: Sender<Message>,
    own: Sender<Vec<u8>>,
}

impl<'w> MakeWriter<'w> for Queue {
    type Writer = Line<'w>;

    fn make_writer(&'w self) -> Line<'w> {
        Line { queue: self, bytes: Vec::new() }
    }
}

/// One line in the making; given to the queue when it is dropped.
struct Line<'w> {
    queue: &'w Queue,
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
        if bytes.is_empty() {
            return;
        }
        if IS_WRITER.get() {
            // It would wait for itself.
            let _ = self.queue.own.try_send(bytes);
        } else if self.queue.lines.try_send(Message::Line(bytes)).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_o09_text_is_text_wherever_it_goes() {
        let plain = |format| [true, false].map(|terminal| is_plain(format, terminal));

        assert_eq!(plain(LogFormat::Text), [true, true]);
        assert_eq!(plain(LogFormat::Json), [false, false]);
        assert_eq!(plain(LogFormat::Auto), [true, false]);
    }

    #[test]
    fn a_queue_that_nobody_reads_drops_lines_and_never_blocks() {
        let (lines, read) = bounded(2);
        let queue = Queue { lines, own: bounded(1).0 };
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
