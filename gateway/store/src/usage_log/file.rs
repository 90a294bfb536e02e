//! The files of the folder: which there are, how one is read, appended to and put in the place of another.

use super::Rows;
use super::format::{self, Head, LINE_MAX, Names, writer, writer_text};
use crate::private;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use usage::calendar;
use usage::lines::Writer;
use usage::row::{Key, Totals};

const OWN: &str = "live-";
const END: &str = ".ndjson";
/// So much is read or written at once, bytes.
const PIECE: usize = 256 << 10;

/// The files that count.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// By the first hour of the month.
    pub(super) months: BTreeMap<u32, PathBuf>,
    /// By the process.
    pub(super) own: BTreeMap<Writer, PathBuf>,
}

/// What was seen of a file.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Its first line, where that can be read.
    pub(super) head: Option<Head>,
    /// Lines that cannot be read. A last line that was not written whole is none of them: a crash leaves it.
    pub(super) damaged: u64,
}

/// The name of a month's file.
pub(super) fn month_name(month: u32) -> String {
    format!("{}{END}", calendar::month_text(month))
}

/// Whose own file has that name.
pub(super) fn writer_of(name: &OsStr) -> Option<Writer> {
    writer(name.to_str()?.strip_prefix(OWN)?.strip_suffix(END)?)
}

/// The first hour of the month whose file has that name.
fn month_of(name: &OsStr) -> Option<u32> {
    let text = name.to_str()?.strip_suffix(END)?;
    calendar::parse(text).filter(|_| text.len() == 7).map(|(first, _)| first)
}

/// The files of a folder that count.
pub(super) fn found(folder: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(writer) = writer_of(&name) {
            found.own.insert(writer, entry.path());
        } else if let Some(month) = month_of(&name) {
            found.months.insert(month, entry.path());
        }
    }
    Ok(found)
}

/// The first line of a file, if it can be read.
pub(super) fn head(path: &Path) -> io::Result<Option<Head>> {
    let mut line = Vec::new();
    BufReader::new(File::open(path)?).take(LINE_MAX as u64).read_until(b'\n', &mut line)?;
    Ok(Head::read(&line))
}

/// Reads a file line by line. Of one of a newer version nothing but the first line is read; one that is gone is empty.
pub(super) fn read_file(
    path: &Path,
    names: &mut Names,
    each: &mut dyn FnMut(u64, Key, &Totals),
) -> io::Result<Seen> {
    let mut seen = Seen::default();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(seen),
        Err(e) => return Err(e),
    };
    let mut reader = BufReader::with_capacity(PIECE, file);
    let (mut line, mut is_first) = (Vec::new(), true);
    loop {
        line.clear();
        if reader.by_ref().take(LINE_MAX as u64).read_until(b'\n', &mut line)? == 0 {
            return Ok(seen);
        }
        if is_first {
            is_first = false;
            seen.head = Head::read(&line);
            match &seen.head {
                Some(head) if head.is_newer() => return Ok(seen),
                Some(_) => continue,
                None => {}
            }
        }
        match format::read(&line, names) {
            Some((number, key, totals)) => each(number, key, &totals),
            None => seen.damaged += u64::from(line.ends_with(b"\n") || line.len() == LINE_MAX),
        }
    }
}

/// The lock of an own file whose process has ended; `None`: it runs.
pub(super) fn if_ended(path: &Path) -> io::Result<Option<File>> {
    let file = File::open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(e)) => Err(e),
    }
}

/// Keeps a copy of a file that has lines which cannot be read, for whoever wants to look; in the place of an older copy of
/// that month, or of any process's own file.
pub(super) fn keep_damaged(path: &Path) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default();
    let kept = if writer_of(name).is_some() { OsStr::new("live.ndjson") } else { name };
    private::copy(path, &beside(path, kept, ".damaged"))
}

fn beside(path: &Path, name: &OsStr, end: &str) -> PathBuf {
    let mut name = name.to_owned();
    name.push(end);
    path.with_file_name(name)
}

/// Writes a month beside its file and puts it in its place.
pub(super) fn replace(path: &Path, head: &Head, rows: &Rows) -> io::Result<()> {
    let next = beside(path, path.file_name().unwrap_or_default(), ".next");
    let written = write_whole(&next, head, rows).and_then(|()| fs::rename(&next, path));
    if written.is_err() {
        // It may be what filled the disk.
        let _ = fs::remove_file(&next);
    }
    written?;
    path.parent().map_or(Ok(()), sync_folder)
}

fn write_whole(path: &Path, head: &Head, rows: &Rows) -> io::Result<()> {
    let file = private::open(path, OpenOptions::new().create(true).truncate(true).write(true))?;
    let mut out = BufWriter::with_capacity(PIECE, &file);
    let mut line = Vec::new();
    head.write(&mut line);
    out.write_all(&line)?;
    for (key, totals) in rows {
        line.clear();
        format::write(0, key, totals, &mut line);
        out.write_all(&line)?;
    }
    out.flush()?;
    drop(out);
    file.sync_all()
}

/// Names in it outlive a loss of power from here on.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// This process's own file. It is locked for as long as it is open, by which others know that its process runs.
#[derive(Debug)]
pub(super) struct Own {
    file: File,
    /// Its folder, until the file's name in it outlives a loss of power.
    folder: Option<PathBuf>,
    /// Where the next line goes.
    end: u64,
}

impl Own {
    /// Makes it, or goes on with it.
    pub(super) fn open(folder: &Path, writer: Writer) -> io::Result<Self> {
        let path = folder.join(format!("{OWN}{}{END}", writer_text(writer)));
        let file =
            private::open(&path, OpenOptions::new().create(true).truncate(false).read(true).write(true))?;
        // Whoever merges may have it for a moment: before it was locked it looked like one whose process has ended.
        file.try_lock().map_err(|e| io::Error::other(format!("{}: {e}", path.display())))?;
        let end = file.metadata()?.len();
        Ok(Own { file, folder: Some(folder.to_owned()), end })
    }

    /// Whether the file is still in its folder: people remove files.
    pub(super) fn is_there(&self) -> bool {
        self.file.metadata().is_ok_and(|about| about.nlink() > 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Appends all of it or nothing. It outlives the process from the first write on, and a loss of power at the end.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self
            .file
            .write_all_at(bytes, self.end)
            .and_then(|()| self.file.sync_data())
            .and_then(|()| self.folder.as_deref().map_or(Ok(()), sync_folder));
        if written.is_err() {
            // What is there of it would be read.
            let _ = self.file.set_len(self.end);
        }
        written?;
        self.folder = None;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// All of it was merged.
    pub(super) fn empty(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.end = 0;
        Ok(())
    }
}
