//! The thread that keeps usage on the disk: what came in the last half second is appended, and own files become months.
//!
//! It reads the folder first, so the process serves meanwhile. What another process still writes after a hand-over is read once
//! that one has ended and its turn to merge has come here.
//!
//! Of an error the log says once that it began and once that it is over. What could not be written stays in memory, where it
//! is summed by row and so takes no more than the rows do, and is written once that works.

use crate::clock;
use crate::telemetry::usage_meter::{Asked, UsageMeter, hour};
use crossbeam::channel::RecvTimeoutError;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::usage_log::UsageLog;
use usage::book::Book;

/// How often what came is written: with what writing takes, a killed process loses less than a second.
const WRITE_EVERY: Duration = Duration::from_millis(500);
/// How often the folder is looked at: how large it is, and whether it is this process's turn to merge.
const TEND_EVERY: Duration = Duration::from_secs(2);
/// How often what is too old is let go, and files of ended processes are merged whatever their size.
const TIDY_EVERY: Duration = Duration::from_secs(3_600);
/// When that is done first: a process that ends again and again must not read all months each time.
const TIDY_FIRST: Duration = Duration::from_secs(60);
/// How often the own file is merged whatever its size, so that what is too old leaves the disk as well.
const MERGE_EVERY: Duration = Duration::from_secs(24 * 3_600);

/// Reads the usage in `state` and keeps it, on a thread of its own, until the process ends. `writer` is drawn at random.
///
/// # Errors
/// When the operating system gives no thread.
pub fn start(meter: Arc<UsageMeter>, asked: Asked, state: &Path, writer: u64) -> io::Result<()> {
    let log = UsageLog::new(state, writer);
    std::thread::Builder::new()
        .name("usage".to_owned())
        .spawn(move || run(Saving::new(meter, log), &asked))?;
    Ok(())
}

fn run(mut saving: Saving, asked: &Asked) {
    saving.tend(clock::now());
    if !saving.log.has_turn() {
        saving.read();
    }
    loop {
        let done = match asked.recv_timeout(WRITE_EVERY) {
            Ok(done) => Some(done),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        saving.write();
        match done {
            Some(done) => drop(done.send(())),
            None => saving.tend(clock::now()),
        }
    }
}

struct Saving {
    meter: Arc<UsageMeter>,
    log: UsageLog,
    /// When the folder is looked at next, when what is too old goes, and when the own file is merged at the latest.
    tend_at: Duration,
    tidy_at: Duration,
    merge_at: Duration,
    /// Before this hour nothing is kept.
    oldest: Option<u32>,
    writing: Trouble,
    tending: Trouble,
}

impl Saving {
    fn new(meter: Arc<UsageMeter>, log: UsageLog) -> Self {
        let writing = "what accounts use cannot be written and would be lost by a restart; free the disk, or give the folder back \
                       to the gateway's user: what is in memory is written then";
        let tending = "files of usage cannot be read or merged; what was used is written on";
        Saving {
            meter,
            log,
            tend_at: Duration::ZERO,
            tidy_at: clock::now() + TIDY_FIRST,
            merge_at: clock::now() + MERGE_EVERY,
            oldest: None,
            writing: Trouble { means: writing, lasts: false },
            tending: Trouble { means: tending, lasts: false },
        }
    }

    /// Appends what came since the last time.
    fn write(&mut self) {
        let now = clock::now();
        let pending = self.meter.book().take_pending();
        let written = self.log.append(&pending);
        match &written {
            Ok(()) => {
                self.meter.book().written();
                self.meter.written(now);
            }
            Err(_) => {
                self.meter.book().put_back(pending);
                self.meter.failed();
            }
        }
        self.writing.see(&written, &self.log);
    }

    /// Reads all that is on the disk, and adds what is not yet.
    fn read(&mut self) {
        let mut fresh = Book::new(self.meter.rows_max);
        let read = self.log.read(&mut |key, totals| fresh.restore(key, totals));
        if let Ok(read) = &read {
            {
                let mut book = self.meter.book();
                fresh.follow(&mut book);
                std::mem::swap(&mut *book, &mut fresh);
            }
            self.meter.was_read(read.damaged, self.log.has_turn());
            let folder = self.log.folder().display().to_string();
            if read.damaged > 0 {
                tracing::warn!(
                    folder,
                    lines = read.damaged,
                    "lines of usage could not be read and do not count"
                );
            }
            for path in &read.newer {
                let file = path.display().to_string();
                tracing::warn!(
                    file,
                    "usage of a newer version of Tidegate does not count and stays as it is"
                );
            }
        }
        self.tending.see(&read.map(drop), &self.log);
    }

    /// Looks after the folder, once it is time.
    fn tend(&mut self, now: Duration) {
        if now < self.tend_at {
            return;
        }
        self.tend_at = now + TEND_EVERY;
        match self.log.take_turn() {
            Ok(true) => self.read(),
            Ok(false) => {}
            Err(e) => return self.tending.see(&Err(e), &self.log),
        }
        if self.log.has_turn() && !self.meter.is_complete() {
            // Reading failed when the turn came.
            self.read();
        }
        let is_tidied = now >= self.tidy_at;
        if is_tidied {
            self.tidy_at = now + TIDY_EVERY;
            self.forget();
        }
        let tended = self.log.sizes().and_then(|sizes| {
            self.meter.has_bytes(sizes.own + sizes.months);
            let has_ended = is_tidied && (sizes.own_files > 1 || now >= self.merge_at);
            if !has_ended && !sizes.is_merging_due() {
                return Ok(());
            }
            self.merge_at = now + MERGE_EVERY;
            self.log.merge(self.oldest)
        });
        if self.meter.is_complete() || tended.is_err() {
            self.tending.see(&tended, &self.log);
        }
    }

    /// Lets go of what is too old.
    fn forget(&mut self) {
        let mut book = self.meter.book();
        self.oldest = book.oldest_kept(hour(clock::wall()), self.meter.retention_hours);
        if let Some(oldest) = self.oldest {
            book.forget_before(oldest);
        }
    }
}

/// One thing that may go wrong time and again.
struct Trouble {
    /// What that means, for people.
    means: &'static str,
    lasts: bool,
}

impl Trouble {
    fn see(&mut self, result: &io::Result<()>, log: &UsageLog) {
        let folder = log.folder().display();
        match result {
            Err(e) if !self.lasts => tracing::error!(%folder, cause = %e, "usage: {}", self.means),
            Ok(()) if self.lasts => tracing::info!(%folder, "usage: files can be used again"),
            _ => {}
        }
        self.lasts = result.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shedder::Tier;
    use usage::row::{Key, Slot, Totals};

    fn key(hour: u32) -> Key {
        let slot = Slot { hour, key: Some(1), model: None, tier: Some(Tier::Regular) };
        Key { account: Some("a".into()), slot }
    }

    fn saving(state: &Path, writer: u64) -> Saving {
        let (meter, _asked) = UsageMeter::new(100, 48, clock::now());
        Saving::new(meter, UsageLog::new(state, writer))
    }

    fn requests(saving: &Saving) -> u64 {
        saving.meter.book().rows_of("a", 0..u32::MAX).map(|(_, totals)| totals.requests).sum()
    }

    #[test]
    fn a_process_counts_what_the_one_before_wrote_once_that_one_has_ended() {
        let state = std::env::temp_dir().join(format!("tidegate-usage-saving-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&state);
        let (mut old, mut new) = (saving(&state, 1), saving(&state, 2));
        old.tend(Duration::ZERO);
        old.meter.book().add(key(1), &Totals::of_status(200));
        old.write();
        new.meter.book().add(key(1), &Totals::of_status(200));
        new.tend(Duration::ZERO);
        new.read();
        assert_eq!((requests(&new), new.meter.is_complete()), (2, false));

        new.write();
        old.meter.book().add(key(2), &Totals::of_status(503));
        old.write();
        drop(old);
        new.meter.book().add(key(1), &Totals::of_status(200));
        new.tend(TEND_EVERY);
        assert_eq!((requests(&new), new.meter.is_complete(), new.meter.book().unwritten()), (4, true, 1));

        let file = new.log.folder().join("live-0000000000000001.ndjson");
        assert!(file.exists());
        new.tidy_at = Duration::ZERO;
        new.tend(2 * TEND_EVERY);
        new.read();
        assert_eq!((file.exists(), requests(&new)), (false, 4), "it was merged, and nothing of it is gone");
    }

    #[test]
    fn what_cannot_be_written_is_kept_and_written_later() {
        let state = std::env::temp_dir().join(format!("tidegate-usage-unwritable-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&state);
        std::fs::create_dir_all(&state).unwrap();
        std::fs::write(state.join("usage"), "in the way").unwrap();
        let mut saving = saving(&state, 1);
        saving.meter.book().add(key(1), &Totals::of_status(200));
        saving.tend(Duration::ZERO);
        saving.write();
        saving.write();
        assert_eq!(
            (saving.meter.failures(), saving.meter.book().unwritten(), saving.writing.lasts),
            (2, 1, true)
        );

        std::fs::remove_file(state.join("usage")).unwrap();
        saving.write();
        saving.tend(TEND_EVERY);
        assert_eq!(
            (saving.meter.book().unwritten(), saving.writing.lasts, saving.tending.lasts),
            (0, false, false)
        );
        assert_eq!((requests(&saving), saving.meter.is_complete()), (1, true));
    }
}
