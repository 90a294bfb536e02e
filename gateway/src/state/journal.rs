//! Budgets outlive the process: what was touched is journalled every second and found again when it is needed.
//!
//! An account that is idle is not in memory at all: its budget lies in the journal, and the first request after
//! a rest, or after a restart, reads it back. The time in between counts as time without traffic; it is the only
//! thing here that is taken from the wall clock, clamped to a week. A crash forgets at most what was not yet
//! written. A journal that cannot be read is put aside with a message, and the start goes on without it: limits
//! begin again, nobody is locked out.
//!
//! # Memory
//!
//! 24 bytes for each budget that is known, and some KiB for each that was used in the last ten minutes; in a crowd, in
//! the last seconds. A million known ones and ten thousand active ones take some 150 MB.

use crate::accounts::budget::BudgetCell;
use crate::clock;
use crate::state::keys::LastUse;
use limits::{Budget, BudgetConfig, Snapshot};
use parking_lot::{Mutex, MutexGuard};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::budget_log::format::Record;
use store::budget_log::{Appended, LogFile};
use store::private;

/// The longest rest that counts: after it nothing but the starting limit is left anyway.
const ELAPSED_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Under which model it is kept when a key was last used: no model has an empty name.
const USES: &str = "";

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has the folder. Usually an older gateway that still drains.
    #[error(
        "the state folder {0} is in use by another tidegate; give each gateway its own, or wait until it has ended"
    )]
    Locked(PathBuf),
    /// The folder or a file in it cannot be opened.
    #[error("{path} cannot be used for state: {cause}")]
    Io {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
}

/// The journal of one state folder.
#[derive(Debug)]
pub struct Journal {
    log: LogFile,
    folder: PathBuf,
    /// Whose the folder is: held for the life of the process, or until another one gets it. Locked while the journal is
    /// written, so nothing is written after it was given away.
    lock: Mutex<Lock>,
}

/// Whose a state folder is.
#[derive(Debug)]
enum Lock {
    /// This process's.
    Held {
        /// The lock goes with it.
        _file: File,
    },
    /// A new process's.
    Given,
    /// This process's again, as soon as the new one has ended.
    Wanted,
}

/// The folder stays this process's while this lives.
#[derive(Debug)]
pub struct FolderKept<'j> {
    _turn: MutexGuard<'j, Lock>,
}

impl Journal {
    /// Opens the journal in `folder`, which is made where it is missing.
    ///
    /// # Errors
    /// When another process has the folder, or it cannot be written. A damaged journal is no error: it is put
    /// aside and said.
    pub fn open(folder: &Path) -> Result<Arc<Self>, JournalError> {
        let io = |cause| JournalError::Io { path: folder.to_owned(), cause };
        private::make_folder(folder).map_err(io)?;
        let lock = lock(folder)?;
        let (log, damage) = LogFile::open(&folder.join("budgets.journal"), clock::wall()).map_err(io)?;
        if let Some(damage) = damage {
            tracing::warn!(folder = %folder.display(), "{damage}");
        }
        let (folder, lock) = (folder.to_owned(), Mutex::new(Lock::Held { _file: lock }));
        Ok(Arc::new(Journal { log, folder, lock }))
    }

    /// Writes each of `budgets` as another process is to go on with it, and lets go of the folder. Nothing is written from
    /// here any more.
    ///
    /// # Errors
    /// When it cannot be written. Then the folder is kept.
    pub fn hand_over(&self, budgets: Vec<Arc<BudgetCell>>) -> io::Result<()> {
        let mut lock = self.lock.lock();
        let saved = clock::wall();
        let records = budgets.into_iter().map(|cell| {
            // What comes later is told to the other process, and written here only if that one fails.
            cell.touch();
            Record {
                saved,
                account: cell.account.to_string(),
                model: cell.model.to_string(),
                snapshot: cell.hand_over().to_bytes(),
            }
        });
        // The other process writes the file anew when it has grown too large.
        self.log.append(clock::now(), records)?;
        *lock = Lock::Given;
        Ok(())
    }

    /// The other process failed: the folder is this one's again once that one has ended, which the next saves look for.
    pub fn take_back(&self) {
        *self.lock.lock() = Lock::Wanted;
    }

    /// The budget of an account on a model as it was left. `None`: there is none, or it cannot be read. One read
    /// of at most a few KiB.
    #[must_use]
    pub fn find(&self, account: &str, model: &str, config: BudgetConfig) -> Option<Budget> {
        let record = self.log.find(account, model)?;
        let snapshot = Snapshot::from_bytes(&record.snapshot)
            .inspect_err(|e| tracing::warn!(account, model, "the journalled budget was not taken over: {e}"))
            .ok()?;
        let elapsed = clock::wall().saturating_sub(record.saved).min(ELAPSED_MAX);
        Some(Budget::restore(clock::now(), config, &snapshot, elapsed))
    }

    /// Keeps the folder from being given away until the guard is dropped, for whoever changes a file in it. `None`: it is
    /// another process's. Waits for a journal that is being written.
    ///
    /// # Errors
    /// When it is to be this process's again, and the other one has not ended or the journal cannot be read.
    pub fn keep(&self) -> io::Result<Option<FolderKept<'_>>> {
        let mut turn = self.lock.lock();
        match *turn {
            Lock::Held { .. } => {}
            Lock::Given => return Ok(None),
            Lock::Wanted => {
                let file = lock(&self.folder).map_err(io::Error::other)?;
                // The other process may have written, and put a new file in place of ours.
                if let Some(damage) = self.log.read_again(clock::wall())? {
                    tracing::warn!(folder = %self.folder.display(), "{damage}");
                }
                *turn = Lock::Held { _file: file };
            }
        }
        Ok(Some(FolderKept { _turn: turn }))
    }

    /// Writes those of `budgets` that were touched since the last call.
    ///
    /// # Errors
    /// When the disk is full or gone. The budgets stay marked and are written the next time. Nothing is written, and
    /// that is no error, once the folder is another process's.
    pub fn save(&self, budgets: Vec<Arc<BudgetCell>>) -> io::Result<Appended> {
        let Some(_turn) = self.keep()? else { return Ok(Appended { written: 0, rewritten: None }) };
        let touched: Vec<Arc<BudgetCell>> = budgets.into_iter().filter(|cell| cell.take_touched()).collect();
        let saved = clock::wall();
        let records = touched.iter().map(|cell| Record {
            saved,
            account: cell.account.to_string(),
            model: cell.model.to_string(),
            snapshot: cell.with(|budget| budget.snapshot(clock::now()).to_bytes()),
        });
        let written = self.log.append(clock::now(), records);
        if written.is_err() {
            touched.iter().for_each(|cell| cell.touch());
        }
        written
    }

    /// The minute since the epoch in which a key, `account/name`, was last used; `None`: never, as far as is known.
    #[must_use]
    pub fn last_use(&self, key: &str) -> Option<u64> {
        let record = self.log.find(key, USES)?;
        Some(u64::from_le_bytes(*record.snapshot.first_chunk()?))
    }

    /// Writes when these keys were last used.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_uses(&self, uses: &[(Arc<str>, Arc<LastUse>)]) -> io::Result<()> {
        let Some(_turn) = self.keep()?.filter(|_| !uses.is_empty()) else { return Ok(()) };
        let (saved, mut written) = (clock::wall(), Vec::with_capacity(uses.len()));
        let records = uses.iter().filter_map(|(key, used)| {
            let minute = used.unsaved()?;
            written.push((used, minute));
            let snapshot = minute.to_le_bytes().to_vec();
            Some(Record { saved, account: key.to_string(), model: USES.to_owned(), snapshot })
        });
        self.log.append(clock::now(), records)?;
        written.into_iter().for_each(|(used, minute)| used.saved(minute));
        Ok(())
    }

    /// Budgets that are known, in memory or not.
    #[must_use]
    pub fn known(&self) -> usize {
        self.log.budgets()
    }
}

/// The files that may be in a state folder.
const FILES: [&str; 4] = ["lock", "budgets.journal", "accounts.jsonl", "overrides.json"];

/// Whether a folder can be used for state, or made: every file in it is one that can be read and written, and another one
/// can be made. Leaves nothing behind, and does not ask whether another process has the folder: it may be the one whose
/// place is to be taken.
///
/// # Errors
/// Why it cannot be used.
pub fn usable(folder: &Path) -> Result<(), JournalError> {
    let io = |cause| JournalError::Io { path: folder.to_owned(), cause };
    let missing: Vec<&Path> = folder.ancestors().take_while(|above| !above.exists()).collect();
    let tried = private::make_folder(folder).and_then(|()| {
        let probe = folder.join(format!(".check-{}", std::process::id()));
        let written = private::write(&probe, b"tidegate check");
        let removed = fs::remove_file(&probe);
        written.and(removed)
    });
    // The innermost first; those that were not made are not there.
    for made in missing {
        let _ = fs::remove_dir(made);
    }
    tried.map_err(io)?;
    for name in FILES {
        let path = folder.join(name);
        let Ok(found) = fs::metadata(&path) else { continue };
        let opened = if found.is_file() {
            OpenOptions::new().read(true).write(true).open(&path).map(drop)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"))
        };
        opened.map_err(|cause| JournalError::Io { path, cause })?;
    }
    Ok(())
}

/// The lock of a folder, for as long as the file is open.
fn lock(folder: &Path) -> Result<File, JournalError> {
    let lock =
        private::open(&folder.join("lock"), OpenOptions::new().create(true).truncate(false).write(true))
            .map_err(|cause| JournalError::Io { path: folder.to_owned(), cause })?;
    lock.try_lock().map_err(|_| JournalError::Locked(folder.to_owned()))?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::registry::Registry;
    use limits::{Ask, Bounds, PerMeter, Policy, Used};

    fn config() -> BudgetConfig {
        let bounds = Bounds::fixed(60_000).unwrap();
        BudgetConfig { policy: Policy::Fixed, bounds: PerMeter::from_fn(|_| bounds) }
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tidegate-journal-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn what_was_used_is_still_used_after_a_restart() {
        let folder = folder("restart");
        let registry = Registry::default();
        let cell = registry.insert("acme", "m", config());
        cell.with(|budget| {
            let ask = Ask { prompt: 50_000, uncached_prompt: 50_000, choices: 1, ..Ask::default() };
            let reservation = budget.reserve(clock::now(), &ask).unwrap();
            let used = Used { prompt: 50_000, uncached_prompt: 50_000, generated: 7, finished: true };
            budget.settle(clock::now(), reservation, &used);
        });
        cell.touch();
        let journal = Journal::open(&folder).unwrap();
        assert_eq!(journal.save(registry.budgets()).unwrap().written, 1);
        assert_eq!(journal.save(registry.budgets()).unwrap().written, 0, "nothing was touched since");
        drop(journal);

        let again = Journal::open(&folder).unwrap();
        let mut budget = again.find("acme", "m", config()).unwrap();

        let view = budget.view(clock::now());
        assert_eq!((view.prompt.used, view.generated.used), (50_000, 7));
        assert!(again.find("acme", "other", config()).is_none());
    }

    #[test]
    fn when_a_key_was_last_used_outlives_the_process() {
        let folder = folder("uses");
        let (registry, journal) = (Registry::default(), Journal::open(&folder).unwrap());
        let used = registry.key(&"acme/ci".into()).used;
        used.touch(Duration::from_secs(600));
        journal.save_uses(&registry.unsaved_uses()).unwrap();
        assert!(registry.unsaved_uses().is_empty());
        drop(journal);

        let again = Journal::open(&folder).unwrap();

        assert_eq!((again.last_use("acme/ci"), again.last_use("acme/other")), (Some(10), None));
        let registry = Registry::with_state(Some(again), store::overrides::Overrides::default());
        assert_eq!(registry.key(&"acme/ci".into()).used.wall(), Some(Duration::from_secs(600)));
    }

    #[test]
    fn a_folder_has_one_gateway() {
        let folder = folder("locked");
        let first = Journal::open(&folder).unwrap();
        assert!(matches!(Journal::open(&folder), Err(JournalError::Locked(_))));
        drop(first);
        assert!(Journal::open(&folder).is_ok());
    }

    #[test]
    fn a_journal_is_handed_over_with_what_runs_and_can_be_taken_back() {
        let folder = folder("handed");
        let registry = Registry::default();
        let cell = registry.insert("acme", "m", config());
        let prompt =
            crate::accounts::budget::Prompt { tokens: 50_000, uncached: 40_000, tokens_per_chunk: 1.0 };
        let answer = gateway_core::entry::AnswerSize { tokens_max: None, choices: 1, usual: 0 };
        let ledger = cell.reserve(prompt, answer).0.unwrap();
        let old = Journal::open(&folder).unwrap();

        old.hand_over(registry.budgets()).unwrap();

        let new = Journal::open(&folder).unwrap();
        assert_eq!(old.save(registry.budgets()).unwrap().written, 0, "it is not ours to write");
        assert!(old.keep().unwrap().is_none());
        let mut budget = new.find("acme", "m", config()).unwrap();
        assert_eq!(budget.view(clock::now()).prompt.used, 50_000, "the prompt that runs is known");
        ledger.charge_chunks(clock::now(), 3);
        ledger.settle(&Used { prompt: 49_000, uncached_prompt: 40_000, generated: 5, finished: true });
        let beyond = cell.take_beyond();
        assert_eq!((beyond.prompt, beyond.uncached_prompt, beyond.generated), (-1_000, 0, 5));
        old.take_back();
        assert!(old.save(registry.budgets()).is_err(), "the new process still has it");
        let path = folder.join("budgets.journal");
        fs::copy(&path, folder.join("copy")).unwrap();
        fs::rename(folder.join("copy"), &path).unwrap();
        drop(new);
        assert!(old.keep().unwrap().is_some());
        assert_eq!(old.save(registry.budgets()).unwrap().written, 1, "nothing of it was lost here either");
        drop(old);
        let mut budget = Journal::open(&folder).unwrap().find("acme", "m", config()).unwrap();
        assert_eq!(budget.view(clock::now()).prompt.used, 49_000, "it was written where it is looked for");
    }

    /// Whoever goes back to an older program loses what only the newer one can read, and nothing else.
    #[test]
    fn a_budget_of_a_newer_program_begins_anew_and_the_others_are_found() {
        let folder = folder("newer");
        let registry = Registry::default();
        let cell = registry.insert("acme", "m", config());
        let journal = Journal::open(&folder).unwrap();
        journal.save(registry.budgets()).unwrap();
        let mut snapshot = cell.with(|budget| budget.snapshot(clock::now()).to_bytes());
        snapshot[0] = 99;
        let newer = Record { saved: clock::wall(), account: "newer".into(), model: "m".into(), snapshot };
        journal.log.append(clock::now(), [newer].into_iter()).unwrap();
        drop(journal);

        let again = Journal::open(&folder).unwrap();

        assert_eq!(again.known(), 2);
        assert!(again.find("newer", "m", config()).is_none());
        assert!(again.find("acme", "m", config()).is_some());
    }

    #[test]
    fn an_idle_budget_leaves_memory_and_comes_back() {
        let folder = folder("idle");
        let registry = Registry::default();
        registry.insert("acme", "m", config());
        let journal = Journal::open(&folder).unwrap();
        journal.save(registry.budgets()).unwrap();

        assert_eq!(registry.forget_idle(Duration::ZERO), 0, "touched since the beginning of time");
        assert_eq!(registry.forget_idle(clock::now() + Duration::from_secs(1)), 1);
        assert!(registry.budgets().is_empty());
    }
}
