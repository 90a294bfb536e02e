//! Where the lines of a log go: a standard stream, or a file that can be opened anew after it was moved away.
//!
//! Lines are gathered and written in one call. What cannot be written is counted line by line and dropped, so that a full
//! disk costs lines and never memory; a reader that is only slow (a pipe that is full for now) is waited for until the
//! next flush. A line that was written by half is closed before the next one, so that what follows can be read.

use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Bytes that are gathered before they are written.
const GATHERED: usize = 64 << 10;
/// Most bytes that wait for a reader that is slow; what comes beyond is lost. Some thousand lines.
const WAITING_MAX: usize = 4 << 20;

/// The file cannot be opened. Usually its folder is missing, or belongs to another user.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be opened for appending: {cause}")]
pub struct SinkError {
    path: PathBuf,
    cause: io::Error,
}

/// Where lines go.
#[derive(Debug)]
pub struct Sink {
    out: Out,
    waiting: Vec<u8>,
    /// Why the last write failed, if it did.
    failure: Option<io::Error>,
    /// Set where the last byte that was written ends no line.
    is_open: bool,
    /// Set where the rest of that line was dropped.
    is_torn: bool,
}

#[derive(Debug)]
enum Out {
    Stdout,
    Stderr,
    File(PathBuf, File),
}

impl Sink {
    /// Standard output.
    #[must_use]
    pub fn stdout() -> Sink {
        Sink::of(Out::Stdout)
    }

    /// Standard error.
    #[must_use]
    pub fn stderr() -> Sink {
        Sink::of(Out::Stderr)
    }

    /// A file, appended to.
    ///
    /// # Errors
    /// When it cannot be opened for appending; a pipe, when nobody reads it.
    pub fn file(path: &Path) -> Result<Sink, SinkError> {
        Ok(Sink::of(Out::File(path.to_owned(), opened(path)?)))
    }

    fn of(out: Out) -> Sink {
        Sink { out, waiting: Vec::new(), failure: None, is_open: false, is_torn: false }
    }

    /// Where lines are put: each ends with a line feed, and is followed by [`Sink::put`].
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.waiting
    }

    /// A line was put into the buffer; writes where enough are there. Returns how many lines were lost.
    pub fn put(&mut self) -> u64 {
        if self.waiting.len() >= GATHERED { self.flush() } else { 0 }
    }

    /// Writes what is there. Returns how many lines were lost.
    pub fn flush(&mut self) -> u64 {
        if self.waiting.is_empty() {
            return 0;
        }
        if std::mem::take(&mut self.is_torn) {
            self.waiting.insert(0, b'\n');
        }
        let (written, outcome) = self.out.write(&self.waiting);
        if written > 0 {
            self.is_open = self.waiting.get(written - 1) != Some(&b'\n');
        }
        let lost = match &outcome {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && self.waiting.len() <= WAITING_MAX => {
                self.waiting.drain(..written);
                return 0;
            }
            Err(_) => {
                self.is_torn = self.is_open;
                let closes = usize::from(written == 0 && self.waiting.first() == Some(&b'\n'));
                lines(self.waiting.get(written + closes..).unwrap_or_default())
            }
            Ok(()) => 0,
        };
        self.failure = outcome.err();
        self.waiting.clear();
        self.waiting.shrink_to(2 * GATHERED);
        lost
    }

    /// Why the last write failed; `None`: it did not.
    #[must_use]
    pub fn failure(&self) -> Option<&io::Error> {
        self.failure.as_ref()
    }

    /// Opens the file anew, after what is there was written into the old one. Returns how many lines were lost.
    ///
    /// # Errors
    /// When it cannot be opened: the old one is written on.
    pub fn reopen(&mut self) -> Result<u64, SinkError> {
        let lost = self.flush();
        if let Out::File(path, file) = &mut self.out {
            *file = opened(path)?;
            (self.is_open, self.is_torn) = (false, false);
        }
        Ok(lost)
    }
}

impl Out {
    /// Writes all of it, or as much as can be; how much that was.
    fn write(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            let wrote = match self {
                // The library's own buffer would keep what could not be written, and nobody would count it.
                Out::Stdout => rustix::io::write(io::stdout(), rest).map_err(io::Error::from),
                Out::Stderr => io::stderr().write(rest),
                Out::File(_, file) => file.write(rest),
            };
            match wrote {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(more) => written += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return (written, Err(e)),
            }
        }
        (written, Ok(()))
    }
}

fn lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn opened(path: &Path) -> Result<File, SinkError> {
    append_to(path).map_err(|cause| SinkError { path: path.to_owned(), cause })
}

/// Opens a file for appending, without waiting: a pipe that nobody reads would keep the start from ever going on.
fn append_to(path: &Path) -> io::Result<File> {
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().create(true).append(true).custom_flags(nonblocking).open(path);
    let kind = |path: &Path| std::fs::metadata(path).map(|found| found.file_type());
    let file = opened.map_err(|e| match kind(path) {
        Ok(kind) if kind.is_fifo() => io::Error::new(e.kind(), "it is a pipe that nobody reads"),
        Ok(kind) if kind.is_socket() => io::Error::new(e.kind(), "it is a socket"),
        _ => e,
    })?;
    if file.metadata()?.file_type().is_block_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a disk"));
    }
    // A reader that is slow is waited for, on the thread that does nothing else.
    rustix::fs::fcntl_setfl(&file, rustix::fs::fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(sink: &mut Sink, line: &str) -> u64 {
        sink.buffer().extend_from_slice(line.as_bytes());
        sink.put()
    }

    #[test]
    fn a_full_disk_costs_each_line_that_is_counted() {
        let mut sink = Sink::file(Path::new("/dev/full")).unwrap();

        let lost: u64 = (0..50).map(|_| put(&mut sink, "a line\n")).sum::<u64>() + sink.flush();

        assert_eq!(lost, 50);
        assert!(sink.failure().is_some());
        assert_eq!(sink.flush(), 0, "each is counted once");
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew_and_no_line_is_lost_between() {
        let folder = std::env::temp_dir().join(format!("tidegate-sink-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (path, moved) = (folder.join("a.log"), folder.join("a.log.1"));
        let _ = std::fs::remove_file(&path);
        let mut sink = Sink::file(&path).unwrap();
        put(&mut sink, "one\n");
        std::fs::rename(&path, &moved).unwrap();
        put(&mut sink, "two\n");

        sink.reopen().unwrap();
        put(&mut sink, "three\n");
        sink.flush();

        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_cannot_be_opened_anew_is_written_on() {
        let folder = std::env::temp_dir().join(format!("tidegate-sink-gone-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut sink = Sink::file(&folder.join("a.log")).unwrap();
        let moved = folder.with_extension("moved");
        std::fs::rename(&folder, &moved).unwrap();

        let failed = sink.reopen().unwrap_err().to_string();
        put(&mut sink, "still\n");
        sink.flush();

        assert!(failed.contains("a.log cannot be opened"), "{failed}");
        assert_eq!(std::fs::read_to_string(moved.join("a.log")).unwrap(), "still\n");
        std::fs::remove_dir_all(&moved).unwrap();
    }
}
