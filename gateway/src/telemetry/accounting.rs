//! What happens to finished requests, off their way: access log, metrics, the list of the last refusals.
//!
//! One thread takes records from a bounded channel. A request that finds the channel full drops its record and
//! counts the drop.

use crate::clock;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::RequestMetrics;
use crate::telemetry::record::Record;
use crate::telemetry::recorder::Recorder;
use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    sender: Sender<Message>,
    dropped: AtomicU64,
    refusals: Arc<Mutex<VecDeque<Record>>>,
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
    pub fn start(log: AccessLog, metrics: RequestMetrics) -> io::Result<Arc<Self>> {
        let (sender, receiver) = bounded(RECORDS_MAX);
        let refusals = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&refusals);
        let recorder = Arc::new(Recorder::default());
        let told = Arc::clone(&recorder);
        std::thread::Builder::new()
            .name("accounting".to_owned())
            .spawn(move || run(&receiver, log, metrics, &told, &kept))?;
        Ok(Arc::new(Accounts { recorder, sender, dropped: AtomicU64::new(0), refusals }))
    }

    /// Hands a record over. Never blocks.
    pub fn send(&self, record: Record) {
        if self.sender.try_send(Message::Finished(Box::new(record))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything handed over so far is counted and written, at most `patience`.
    pub fn flush(&self, patience: Duration) {
        let (done, written) = bounded(1);
        if self.sender.send_timeout(Message::Flush(done), patience).is_ok() {
            let _ = written.recv_timeout(patience);
        }
    }

    /// Records dropped because the log was too slow.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The last refusals that `wanted` chooses, newest first. Allocates; O([`REFUSALS_MAX`]).
    #[must_use]
    pub fn last_refusals(&self, wanted: impl Fn(&Record) -> bool) -> Vec<Record> {
        self.refusals.lock().iter().rev().filter(|record| wanted(record)).cloned().collect()
    }
}

fn run(
    receiver: &Receiver<Message>,
    mut log: AccessLog,
    mut metrics: RequestMetrics,
    recorder: &Recorder,
    refusals: &Mutex<VecDeque<Record>>,
) {
    // Nobody sends on it: a pause that is not a sleep of the thread's own.
    let (_never, pause) = bounded::<()>(0);
    let mut flushed = clock::now();
    loop {
        let mut asked = None;
        loop {
            match receiver.try_recv() {
                Ok(Message::Finished(record)) => {
                    metrics.count(&record);
                    recorder.ended(&record);
                    log.write(&record);
                    remember(refusals, *record);
                }
                Ok(Message::Flush(done)) => {
                    asked = Some(done);
                    break;
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return log.flush(),
            }
        }
        if asked.is_some() || clock::now() >= flushed + FLUSH_EVERY {
            metrics.upkeep();
            log.flush();
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
