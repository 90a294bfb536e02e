//! Usage on the disk: a folder in which each process appends to a file of its own, and one file for each month.
//!
//! ```text
//! <state.dir>/usage/live-<16 hex>.ndjson   a process's own: what came since it last wrote, a line for each row
//!                   2026-11.ndjson         a month: what was merged, one line for each row
//!                   2026-11.ndjson.damaged the file as it was, where lines of it could not be read
//!                   lock                   whose turn it is to merge
//! ```
//!
//! Processes that run at once, as during an upgrade, do not share a file. The one that holds the lock merges files of processes
//! that have ended, and its own, into the months and removes them. A month is written beside the old one and takes its place
//! at once; it says what it has of each process, so a merging that was cut short counts nothing twice: see [`usage::lines`].
//!
//! An own file is merged when all own files together are larger than all months, at least [`MERGE_MIN`]; so the folder is at
//! most some three times as large as one line for each row, and each line is written some three times at most.
//!
//! A line that is torn, as a crash or a full disk leaves it, or damaged is passed over and counted. A file of a newer version is
//! left as it is.

pub mod format;

mod file;

use crate::private;
use file::{Found, Own, found, read_file};
use format::{Head, Names};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use usage::calendar;
use usage::lines::{Counted, Writer};
use usage::row::{Key, Totals};

/// Own files are not merged before they have together so many bytes.
pub const MERGE_MIN: u64 = 8 << 20;
/// More own files than this are merged whatever their size: each start of the process leaves one.
pub const OWN_FILES_MAX: usize = 32;

/// Rows with what was used.
pub type Rows = BTreeMap<Key, Totals>;

/// The folder, as one process sees it.
#[derive(Debug)]
pub struct UsageLog {
    folder: PathBuf,
    writer: Writer,
    /// The number of the last line that was written.
    number: u64,
    own: Option<Own>,
    /// Held by the process whose turn it is to merge.
    lock: Option<File>,
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Read {
    /// Lines that could not be read.
    pub damaged: u64,
    /// Files of a newer version, of which nothing was read.
    pub newer: Vec<PathBuf>,
}

/// How large the folder is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of processes' own files.
    pub own: u64,
    /// How many they are.
    pub own_files: usize,
    /// Bytes of all else.
    pub months: u64,
}

impl Sizes {
    /// Whether there is enough to be merged.
    #[must_use]
    pub fn is_merging_due(&self) -> bool {
        self.own > self.months.max(MERGE_MIN) || self.own_files > OWN_FILES_MAX
    }
}

impl UsageLog {
    /// The folder of this state folder; `writer` is drawn at random, for this process alone. Reads and writes nothing.
    #[must_use]
    pub fn new(state: &Path, writer: Writer) -> Self {
        UsageLog { folder: state.join("usage"), writer, number: 0, own: None, lock: None }
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether it is this process's turn to merge.
    #[must_use]
    pub fn has_turn(&self) -> bool {
        self.lock.is_some()
    }

    /// Asks for the turn to merge: whether it was given now. Another process may have it until its end.
    ///
    /// # Errors
    /// The folder cannot be made or written.
    pub fn take_turn(&mut self) -> io::Result<bool> {
        if self.has_turn() {
            return Ok(false);
        }
        private::make_folder(&self.folder)?;
        let path = self.folder.join("lock");
        let lock = private::open(&path, OpenOptions::new().create(true).truncate(false).write(true))?;
        match lock.try_lock() {
            Ok(()) => self.lock = Some(lock),
            Err(fs::TryLockError::WouldBlock) => return Ok(false),
            Err(fs::TryLockError::Error(e)) => return Err(e),
        }
        Ok(true)
    }

    /// Appends what came since the last time and waits until it is on the disk.
    ///
    /// # Errors
    /// It is not on the disk. Nothing of it will be read, and it is to be given again.
    pub fn append(&mut self, rows: &Rows) -> io::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        if self.own.as_ref().is_none_or(|own| !own.is_there()) {
            private::make_folder(&self.folder)?;
            self.own = Some(Own::open(&self.folder, self.writer)?);
        }
        let Some(own) = &mut self.own else { return Ok(()) };
        let mut bytes = Vec::new();
        if own.is_empty() {
            Head::of_writer(self.writer).write(&mut bytes);
        }
        let mut number = self.number;
        for (key, totals) in rows {
            number += 1;
            format::write(number, key, totals, &mut bytes);
        }
        own.append(&bytes)?;
        self.number = number;
        Ok(())
    }

    /// Reads all that counts: each row may come several times, to be summed. O(size of the folder).
    ///
    /// # Errors
    /// The folder or a file cannot be read. A folder that is not there has nothing in it.
    pub fn read(&self, each: &mut dyn FnMut(Key, &Totals)) -> io::Result<Read> {
        let (mut read, mut names, mut counted) = (Read::default(), Names::default(), Counted::default());
        let found = found(&self.folder)?;
        for (month, path) in &found.months {
            let seen = read_file(path, &mut names, &mut |_, key, totals| each(key, totals))?;
            let Some(head) = seen.head.as_ref().filter(|head| !head.is_newer()) else {
                read.see(path, &seen);
                continue;
            };
            head.merged().for_each(|(writer, number)| counted.merged(*month, writer, number));
            read.see(path, &seen);
        }
        for (writer, path) in &found.own {
            let seen = read_file(path, &mut names, &mut |number, key, totals| {
                if counted.is_new(calendar::month(key.slot.hour).0, *writer, number) {
                    each(key, totals);
                }
            })?;
            read.see(path, &seen);
        }
        Ok(read)
    }

    /// How large the folder is.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn sizes(&self) -> io::Result<Sizes> {
        let mut sizes = Sizes::default();
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(sizes),
            Err(e) => return Err(e),
        };
        for entry in entries {
            let entry = entry?;
            let bytes = entry.metadata().map_or(0, |about| about.len());
            if file::writer_of(&entry.file_name()).is_some() {
                sizes.own += bytes;
                sizes.own_files += 1;
            } else {
                sizes.months += bytes;
            }
        }
        Ok(sizes)
    }

    /// Merges own files that nobody writes any more, and this process's, into their months, and removes what is before the
    /// hour `oldest`. Only for the process whose turn it is. O(size of the own files and of their months).
    ///
    /// # Errors
    /// A file cannot be read or written, or a month is of a newer version. What is not merged is read as before.
    pub fn merge(&mut self, oldest: Option<u32>) -> io::Result<()> {
        if !self.has_turn() {
            return Ok(());
        }
        let found = found(&self.folder)?;
        let mut counted = Counted::default();
        for (month, path) in &found.months {
            if let Some(head) = file::head(path)? {
                head.merged().for_each(|(writer, number)| counted.merged(*month, writer, number));
            }
        }
        let (mut months, mut ended, mut names) = (BTreeMap::<u32, Rows>::new(), Vec::new(), Names::default());
        for (writer, path) in &found.own {
            let is_mine = *writer == self.writer;
            let Some(lock) = (if is_mine { Some(None) } else { file::if_ended(path)?.map(Some) }) else {
                continue;
            };
            let seen = read_file(path, &mut names, &mut |number, key, totals| {
                let month = calendar::month(key.slot.hour).0;
                if counted.is_new(month, *writer, number) {
                    months.entry(month).or_default().entry(key).or_default().add(totals);
                }
            })?;
            if seen.head.as_ref().is_some_and(Head::is_newer) {
                continue;
            }
            ended.push((path, lock, seen.damaged > 0));
        }
        for (month, rows) in months {
            self.write_month(month, rows, oldest, (&found, &counted), &mut names)?;
        }
        for (path, lock, is_damaged) in ended {
            if is_damaged {
                file::keep_damaged(path)?;
            }
            match (&lock, &mut self.own) {
                (None, Some(own)) => own.empty()?,
                _ => fs::remove_file(path)?,
            }
        }
        let is_over = |month: u32| oldest.is_some_and(|oldest| calendar::month(month).1 <= oldest);
        for (_, path) in found.months.iter().filter(|(month, _)| is_over(**month)) {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    /// Writes a month anew, with `rows` added to what it has.
    fn write_month(
        &self,
        month: u32,
        mut rows: Rows,
        oldest: Option<u32>,
        (found, counted): (&Found, &Counted),
        names: &mut Names,
    ) -> io::Result<()> {
        let path = self.folder.join(file::month_name(month));
        if found.months.contains_key(&month) {
            let seen =
                read_file(&path, names, &mut |_, key, totals| rows.entry(key).or_default().add(totals))?;
            if seen.head.as_ref().is_some_and(Head::is_newer) {
                let cause =
                    format!("{} is of a newer version of Tidegate, and stays as it is", path.display());
                return Err(io::Error::other(cause));
            }
            if seen.damaged > 0 {
                file::keep_damaged(&path)?;
            }
        }
        // Of a process whose file is gone nothing can be read twice any more.
        let there: BTreeSet<Writer> = found.own.keys().copied().collect();
        let merged: BTreeMap<Writer, u64> = counted
            .in_month(month)
            .filter(|(writer, _)| there.contains(writer) || *writer == self.writer)
            .chain(counted.writers())
            .collect();
        rows.retain(|key, _| oldest.is_none_or(|oldest| key.slot.hour >= oldest));
        file::replace(&path, &Head::of_month(month, merged.into_iter()), &rows)
    }
}

impl Read {
    fn see(&mut self, path: &Path, seen: &file::Seen) {
        self.damaged += seen.damaged;
        if seen.head.as_ref().is_some_and(Head::is_newer) {
            self.newer.push(path.to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
