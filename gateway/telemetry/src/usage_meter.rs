//! What customers used by hour, where that is kept: fed with finished requests, read by whoever asks, written by a thread.
//!
//! The accounting thread adds each record. A request whose record finds the channel full adds it itself, so that a log that is
//! too slow loses lines and never usage. The hour is that of the request's end: the wall time of its arrival and what it took,
//! as the access log tells both, so that usage can be summed from that log hour by hour. Nothing here asks a clock.

use crate::record::Record;
use crossbeam::channel::{Receiver, Sender, bounded};
use parking_lot::{Mutex, MutexGuard};
use shedder::Tier;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use usage::book::Book;
use usage::calendar::HOUR_MAX;
use usage::row::{Key, Slot, Totals};

/// Who waits until everything is written.
pub type Asked = Receiver<Sender<()>>;
/// How many may.
const ASKED_MAX: usize = 4;

/// Usage and how it stands with its files.
#[derive(Debug)]
pub struct UsageMeter {
    book: Mutex<Book>,
    asks: Sender<Sender<()>>,
    /// Rows that it has at most.
    pub rows_max: usize,
    /// Hours that are kept.
    pub retention_hours: u32,
    /// Whether everything that is on the disk was read, and no other process adds to it.
    complete: AtomicBool,
    /// Bytes on the disk.
    bytes: AtomicU64,
    /// Lines on the disk that could not be read.
    damaged: AtomicU64,
    /// Times that writing failed.
    failures: AtomicU64,
    /// When everything so far was on the disk last, in milliseconds of the process's own time.
    written_ms: AtomicU64,
}

impl UsageMeter {
    /// An empty one, for a process at its own time `now`; and for its thread, who waits until everything is written.
    #[must_use]
    pub fn new(rows_max: usize, retention_hours: u32, now: Duration) -> (Arc<Self>, Asked) {
        let (asks, asked) = bounded(ASKED_MAX);
        let meter = UsageMeter {
            book: Mutex::new(Book::new(rows_max)),
            asks,
            rows_max,
            retention_hours,
            complete: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            written_ms: AtomicU64::new(millis(now)),
        };
        (Arc::new(meter), asked)
    }

    /// Waits until everything that was added so far is written, or writing it failed, at most `patience`.
    pub fn flush(&self, patience: Duration) {
        let (done, written) = bounded(1);
        if self.asks.send_timeout(done, patience).is_ok() {
            let _ = written.recv_timeout(patience);
        }
    }

    /// Adds a finished request of an account that is known.
    pub fn add(&self, record: &Record) {
        if let Some((key, totals)) = row(record) {
            self.book.lock().add(key, &totals);
        }
    }

    /// The rows, locked: whoever holds them keeps the accounting thread waiting, and no request.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock()
    }

    /// Everything up to the process's own time `now` is on the disk.
    pub fn written(&self, now: Duration) {
        self.written_ms.store(millis(now), Ordering::Relaxed);
    }

    /// How long ago that was.
    #[must_use]
    pub fn since_written(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_millis(self.written_ms.load(Ordering::Relaxed)))
    }

    /// Writing failed once more.
    pub fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Times that writing failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// The folder was read, so many lines of it not. `complete`: nobody else adds to it.
    pub fn was_read(&self, damaged: u64, complete: bool) {
        self.damaged.store(damaged, Ordering::Relaxed);
        self.complete.store(complete, Ordering::Relaxed);
    }

    /// Whether everything that is on the disk was read, and no other process adds to it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }

    /// Lines on the disk that could not be read.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// The folder has so many bytes.
    pub fn has_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Bytes on the disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The hour since the epoch of a wall time.
#[must_use]
pub fn hour(wall: Duration) -> u32 {
    u32::try_from(wall.as_secs() / 3_600).map_or(HOUR_MAX, |hour| hour.min(HOUR_MAX))
}

/// What a request adds to; `None`: nobody is known whose it is.
fn row(record: &Record) -> Option<(Key, Totals)> {
    let account = record.account.clone()?;
    let ended = record.arrived_wall + record.ended.saturating_sub(record.arrived);
    let slot = Slot {
        hour: hour(ended),
        key: record.key.map(|key| key.short_number()),
        model: record.model.clone(),
        tier: record.tier.map(Tier::from),
    };
    let used = record.used.unwrap_or_default();
    let totals = Totals {
        prompt: used.prompt,
        cached: record.cached.unwrap_or(0),
        uncached: used.uncached_prompt,
        generated: used.generated,
        ..Totals::of_status(record.status)
    };
    Some((Key { account: Some(account), slot }, totals))
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::keys::Digest;
    use http::HeaderMap;
    use limits::Used;

    fn record(status: u16) -> Record {
        let mut record = Record::begin("req_1".to_owned(), &HeaderMap::new());
        record.account = Some("acme".into());
        record.key = Some(Digest::of("k"));
        record.tier = Some(config::Tier::Regular);
        record.status = status;
        record.arrived_wall = Duration::from_secs(7_199);
        record.arrived = Duration::from_secs(5);
        record.ended = Duration::from_millis(6_500);
        let used = Used { prompt: 9, uncached_prompt: 4, generated: 2, finished: true };
        record.used(&used, Some(5), false);
        record
    }

    #[test]
    fn a_request_is_of_the_hour_in_which_it_ended() {
        let (key, totals) = row(&record(200)).unwrap();
        assert_eq!((key.slot.hour, key.slot.tier), (2, Some(Tier::Regular)), "half a second after the hour");
        assert_eq!(format!("{:08x}", key.slot.key.unwrap()), Digest::of("k").short());
        let all = Totals {
            prompt: 9,
            cached: 5,
            uncached: 4,
            generated: 2,
            requests: 1,
            answered: 1,
            ..Totals::default()
        };
        assert_eq!(totals, all);
        assert_eq!(row(&record(429)).unwrap().1.refused_429, 1);
        assert_eq!(row(&Record { account: None, ..record(401) }), None);
        assert_eq!(hour(Duration::MAX), HOUR_MAX);
    }

    #[test]
    fn how_old_the_last_writing_is_can_be_told() {
        let (meter, _asked) = UsageMeter::new(10, 48, Duration::from_secs(1));
        meter.add(&record(200));
        meter.add(&Record { account: None, ..record(401) });
        assert_eq!((meter.book().unwritten(), meter.since_written(Duration::from_secs(4)).as_secs()), (1, 3));
        meter.written(Duration::from_secs(4));
        assert_eq!(meter.since_written(Duration::from_secs(4)), Duration::ZERO);
    }
}
