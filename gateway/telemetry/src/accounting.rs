//! What happens to finished requests, off their way: access log, metrics, usage, the list of the last refusals.
//!
//! One thread takes records from a bounded channel. A request that finds the channel full drops its record and
//! counts the drop, as a line that cannot be written is counted. That lines are lost is said in the process's own log,
//! once when it begins and once when it is over.

use crate::access_log::AccessLog;
use crate::metrics::RequestMetrics;
use crate::record::Record;
use crate::recorder::Recorder;
use crate::usage_meter::UsageMeter;
use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};
use parking_lot::Mutex;
use process::clock;
use process::losses::{Losses, News};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Records that may wait: half a second of a busy gateway.
const RECORDS_MAX: usize = 16_384;
/// How often the channel is emptied. A thread that waited for each record would have to be woken by each request,
/// which costs the request more than all the rest of handing it over.
const DRAIN_EVERY: Duration = Duration::from_millis(10);
/// How long the log may keep lines to itself.
const FLUSH_EVERY: Duration = Duration::from_millis(200);
/// Refusals that are remembered for operators.
pub const REFUSALS_MAX: usize = 1_000;

/// The side that requests see.
#[derive(Debug)]
pub struct Accounts {
    /// What is kept for the console.
    pub recorder: Arc<Recorder>,
    /// What customers used, where that is kept.
    pub usage: Option<Arc<UsageMeter>>,
    sender: Sender<Message>,
    shared: Arc<Shared>,
    refusals: Arc<Mutex<VecDeque<Record>>>,
}

/// What requests, signals and the thread tell each other.
#[derive(Debug, Default)]
struct Shared {
    /// Lines that were lost.
    dropped: AtomicU64,
    /// Set where the file is to be opened anew.
    reopen: AtomicBool,
}

#[derive(Debug)]
enum Message {
    Finished(Box<Record>),
    Flush(Sender<()>),
}

impl Accounts {
    /// Starts the thread. It ends when the last handle is dropped.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(
        log: AccessLog,
        metrics: RequestMetrics,
        usage: Option<Arc<UsageMeter>>,
    ) -> io::Result<Arc<Self>> {
        let (sender, receiver) = bounded(RECORDS_MAX);
        let refusals = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&refusals);
        let recorder = Arc::new(Recorder::default());
        let shared = Arc::<Shared>::default();
        let book = Book {
            log,
            metrics,
            recorder: Arc::clone(&recorder),
            usage: usage.clone(),
            shared: Arc::clone(&shared),
            losses: Losses::default(),
        };
        std::thread::Builder::new()
            .name("accounting".to_owned())
            .spawn(move || run(&receiver, book, &kept))?;
        Ok(Arc::new(Accounts { recorder, usage, sender, shared, refusals }))
    }

    /// Hands a record over. Never waits for a log: where the channel is full the record is dropped, after it was added to what
    /// its account used.
    pub fn send(&self, record: Record) {
        let Err(unsent) = self.sender.try_send(Message::Finished(Box::new(record))) else { return };
        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        if let (Some(usage), Message::Finished(record)) = (&self.usage, unsent.into_inner()) {
            usage.add(&record);
        }
    }

    /// Opens the access log's file anew within a moment, where it is a file: it may have been moved away.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
    }

    /// Waits until everything handed over so far is counted and written, at most `patience`.
    pub fn flush(&self, patience: Duration) {
        let (done, written) = bounded(1);
        if self.sender.send_timeout(Message::Flush(done), patience).is_ok() {
            let _ = written.recv_timeout(patience);
        }
        if let Some(usage) = &self.usage {
            usage.flush(patience);
        }
    }

    /// Lines lost because the log was too slow or could not be written.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// The last refusals that `wanted` chooses, newest first. Allocates; O([`REFUSALS_MAX`]).
    #[must_use]
    pub fn last_refusals(&self, wanted: impl Fn(&Record) -> bool) -> Vec<Record> {
        self.refusals.lock().iter().rev().filter(|record| wanted(record)).cloned().collect()
    }
}

/// What the thread writes into.
struct Book {
    log: AccessLog,
    metrics: RequestMetrics,
    recorder: Arc<Recorder>,
    usage: Option<Arc<UsageMeter>>,
    shared: Arc<Shared>,
    losses: Losses,
}

impl Book {
    fn enter(&mut self, record: &Record) {
        self.metrics.count(record);
        self.recorder.ended(record);
        if let Some(usage) = &self.usage {
            usage.add(record);
        }
        let lost = self.log.write(record);
        self.lost(lost);
    }

    fn flush(&mut self) {
        let lost = self.log.flush();
        self.lost(lost);
    }

    fn lost(&self, lines: u64) {
        if lines > 0 {
            self.shared.dropped.fetch_add(lines, Ordering::Relaxed);
        }
    }

    /// Opens the file anew where that was asked for.
    fn reopen(&mut self) {
        if self.shared.reopen.swap(false, Ordering::AcqRel) {
            match self.log.reopen() {
                Ok(lost) => self.lost(lost),
                Err(e) => tracing::error!("log.access: lines go on into the file that was open: {e}"),
            }
        }
    }

    /// Says what there is to say of lost lines.
    fn tell(&mut self) {
        let lost = self.shared.dropped.load(Ordering::Relaxed);
        let failure = self.log.failure();
        match self.losses.look(lost, failure.is_none(), clock::now()) {
            Some(News::Begin(_)) => {
                let cause =
                    failure.map_or_else(|| "it is slower than requests end".to_owned(), ToString::to_string);
                tracing::error!(
                    cause,
                    "log.access: lines are being lost; free the disk, or take a faster one"
                );
            }
            Some(News::Over(lost)) => tracing::warn!(lost, "log.access: lines are written again"),
            None => {}
        }
    }
}

fn run(receiver: &Receiver<Message>, mut book: Book, refusals: &Mutex<VecDeque<Record>>) {
    // Nobody sends on it: a pause that is not a sleep of the thread's own.
    let (_never, pause) = bounded::<()>(0);
    let mut flushed = clock::now();
    loop {
        let mut asked = None;
        loop {
            match receiver.try_recv() {
                Ok(Message::Finished(record)) => {
                    book.enter(&record);
                    remember(refusals, *record);
                }
                Ok(Message::Flush(done)) => {
                    asked = Some(done);
                    break;
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return book.flush(),
            }
        }
        book.reopen();
        if asked.is_some() || clock::now() >= flushed + FLUSH_EVERY {
            book.metrics.upkeep();
            book.flush();
            book.tell();
            flushed = clock::now();
        }
        if let Some(done) = asked {
            let _ = done.send(());
        }
        let _ = pause.recv_timeout(DRAIN_EVERY);
    }
}

fn remember(refusals: &Mutex<VecDeque<Record>>, record: Record) {
    if record.is_refused() {
        let mut refusals = refusals.lock();
        if refusals.len() == REFUSALS_MAX {
            refusals.pop_front();
        }
        refusals.push_back(record);
    }
}
