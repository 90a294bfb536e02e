//! The journal's file: records appended, the last of each name counts, rewritten when half of it is old.
//!
//! In memory is one entry of 24 bytes for each name: a hash and where its last record lies, so a million accounts take
//! some 30 to 40 MB. A look-up waits for work in memory only: what it needs is apart from what appending needs, so it
//! goes on while the disk is written and while the whole file is rewritten. The index is a tree, because a hash table of
//! a million names stands still while it grows.
//!
//! A rewriting that fails (no room for a second file, a folder that cannot be written) costs nothing but the space that it
//! would have freed: what was appended stands, and it is tried again after a while that doubles up to a bound.
//!
//! A torn last record, as a crash leaves it, is cut off. Damage in the middle ends the reading there: the whole file is
//! kept beside the new one for whoever wants to look.

pub mod format;

use crate::private;
use format::{FRAME, HEADER, PAYLOAD_MAX, Record, decode, encode, frame, header};
use parking_lot::{Mutex, RwLock};
use protocol::stable_hash;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A smaller file is never rewritten, bytes.
const REWRITE_MIN: u64 = 1 << 20;
/// So much is collected before it is written, bytes.
const WRITE_SIZE: usize = 1 << 20;
/// So many names are put into the index before look-ups have their turn again: some 100 µs.
const INDEXED_AT_ONCE: usize = 512;
/// A rewriting that failed is tried again after this: it reads the whole file, which must not happen every second.
const REWRITE_RETRY_MIN: Duration = Duration::from_secs(10);
/// And at least this often: whoever frees the disk need not restart anything.
const REWRITE_RETRY_MAX: Duration = Duration::from_secs(600);

/// The file and its index.
#[derive(Debug)]
pub struct LogFile {
    /// What a look-up needs. Never locked while the disk works.
    places: RwLock<Places>,
    /// What appending needs. Locked while the disk works.
    writer: Mutex<Writer>,
}

#[derive(Debug)]
struct Places {
    file: Arc<File>,
    /// By the hash of account and model.
    index: BTreeMap<u64, Place>,
}

/// Where the payload of a name's last record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    offset: u64,
    length: u32,
}

#[derive(Debug)]
struct Writer {
    path: PathBuf,
    /// Where the next record goes.
    end: u64,
    /// Bytes of the records that count.
    live: u64,
    /// When a rewriting that failed may be tried again, and the wait before that; `None`: the last one went well.
    retry: Option<(Duration, Duration)>,
}

/// What became of an append.
#[derive(Debug)]
pub struct Appended {
    /// Records that are on the disk.
    pub written: usize,
    /// The rewriting that was due: `None`, none was; an error, the file goes on growing for now.
    pub rewritten: Option<io::Result<()>>,
}

impl Place {
    /// Bytes in the file.
    fn whole(self) -> u64 {
        FRAME + u64::from(self.length)
    }
}

impl LogFile {
    /// Opens or makes the file. The second value says what was wrong with it, in a sentence. O(size of the file).
    pub fn open(path: &Path, wall: Duration) -> io::Result<(Self, Option<String>)> {
        let file =
            private::open(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))?;
        if file.metadata()?.len() == 0 {
            file.write_all_at(&header(), 0)?;
            return Ok((LogFile::of(path, file, Vec::new(), HEADER), None));
        }
        let mut read = Vec::new();
        let (end, damage) = read_all(&file, &mut read);
        let Some(damage) = damage else { return Ok((LogFile::of(path, file, read, end), None)) };
        if damage == TORN {
            file.set_len(end)?;
            let sentence = format!("{}: {damage}; the rest was read", path.display());
            return Ok((LogFile::of(path, file, read, end), Some(sentence)));
        }
        let aside = path.with_extension(format!("damaged-{}", wall.as_secs()));
        private::copy(path, &aside)?;
        file.set_len(end)?;
        file.write_all_at(&header(), 0)?;
        let log = LogFile::of(path, file, read, end);
        let sentence = format!(
            "{}: {damage}; {} budgets were read, the file was kept as {}",
            path.display(),
            log.budgets(),
            aside.display()
        );
        Ok((log, Some(sentence)))
    }

    /// Of the records that were read, in the order of the file.
    fn of(path: &Path, file: File, read: Vec<(u64, Place)>, end: u64) -> Self {
        // The last of equal keys counts.
        let index: BTreeMap<u64, Place> = read.into_iter().collect();
        let live = index.values().map(|place| place.whole()).sum();
        LogFile {
            places: RwLock::new(Places { file: Arc::new(file), index }),
            writer: Mutex::new(Writer { path: path.to_owned(), end, live, retry: None }),
        }
    }

    /// Reads the file again, as another process may have left it: appended to, or replaced.
    pub fn read_again(&self, wall: Duration) -> io::Result<Option<String>> {
        let mut writer = self.writer.lock();
        let (fresh, damage) = LogFile::open(&writer.path, wall)?;
        *writer = fresh.writer.into_inner();
        *self.places.write() = fresh.places.into_inner();
        Ok(damage)
    }

    /// Budgets that are known.
    pub fn budgets(&self) -> usize {
        self.places.read().index.len()
    }

    /// The last record of these names: one read of the file.
    pub fn find(&self, account: &str, model: &str) -> Option<Record> {
        let (file, place) = {
            let places = self.places.read();
            (Arc::clone(&places.file), *places.index.get(&key(account, model))?)
        };
        // A file that was replaced in the meantime is still there for who has it open.
        let mut payload = vec![0; place.length as usize];
        file.read_exact_at(&mut payload, place.offset).ok()?;
        let record = decode(&payload).filter(|found| found.account == account && found.model == model)?;
        Some(Record {
            saved: record.saved,
            account: account.to_owned(),
            model: model.to_owned(),
            snapshot: record.snapshot.to_vec(),
        })
    }

    /// Appends `records` and waits until they are on the disk.
    ///
    /// # Errors
    /// They are not on the disk. A rewriting that fails is no error of the append.
    pub fn append(&self, now: Duration, records: impl Iterator<Item = Record>) -> io::Result<Appended> {
        let mut writer = self.writer.lock();
        let file = Arc::clone(&self.places.read().file);
        let (mut bytes, mut written, mut end) = (Vec::new(), Vec::new(), writer.end);
        for record in records {
            let offset = end + bytes.len() as u64 + FRAME;
            let length = encode(&record, &mut bytes);
            written.push((key(&record.account, &record.model), Place { offset, length }));
            if bytes.len() > WRITE_SIZE {
                file.write_all_at(&bytes, end)?;
                end += bytes.len() as u64;
                bytes.clear();
            }
        }
        if written.is_empty() {
            return Ok(Appended { written: 0, rewritten: None });
        }
        file.write_all_at(&bytes, end)?;
        file.sync_data()?;
        writer.end = end + bytes.len() as u64;
        for some in written.chunks(INDEXED_AT_ONCE) {
            let index = &mut self.places.write().index;
            for &(key, place) in some {
                let old = index.insert(key, place).map_or(0, Place::whole);
                writer.live = writer.live + place.whole() - old;
            }
        }
        let rewritten = writer.is_half_old().then(|| self.rewrite_if_due(now, &mut writer, &file)).flatten();
        Ok(Appended { written: written.len(), rewritten })
    }

    /// Rewrites, unless that failed too lately. What a failed one has left is removed: it may be what filled the disk.
    fn rewrite_if_due(&self, now: Duration, writer: &mut Writer, file: &File) -> Option<io::Result<()>> {
        let waited = match writer.retry {
            Some((at, _)) if now < at => return None,
            Some((_, waited)) => waited * 2,
            None => REWRITE_RETRY_MIN,
        };
        let path = writer.path.with_extension("next");
        let rewritten = self.rewrite(writer, file, &path);
        if rewritten.is_err() {
            let _ = fs::remove_file(&path);
            let wait = waited.min(REWRITE_RETRY_MAX);
            writer.retry = Some((now + wait, wait));
        } else {
            writer.retry = None;
        }
        Some(rewritten)
    }

    /// Writes the last record of each name into a new file at `path` and puts it in place of the old one. Only the exchange
    /// at the end keeps look-ups waiting.
    fn rewrite(&self, writer: &mut Writer, file: &File, path: &Path) -> io::Result<()> {
        let next =
            private::open(path, OpenOptions::new().read(true).write(true).create(true).truncate(true))?;
        let mut out = BufWriter::with_capacity(WRITE_SIZE, &next);
        out.write_all(&header())?;
        let mut kept: Vec<(Place, u64)> =
            self.places.read().index.iter().map(|(key, place)| (*place, *key)).collect();
        kept.sort_unstable();
        let (mut moved, mut end, mut record) = (Vec::with_capacity(kept.len()), HEADER, Vec::new());
        for (place, key) in kept {
            record.resize(place.whole() as usize, 0);
            file.read_exact_at(&mut record, place.offset - FRAME)?;
            out.write_all(&record)?;
            moved.push((key, Place { offset: end + FRAME, length: place.length }));
            end += place.whole();
        }
        out.flush()?;
        drop(out);
        next.sync_all()?;
        fs::rename(path, &writer.path)?;
        let exchanged = Places { file: Arc::new(next), index: moved.into_iter().collect() };
        let old = std::mem::replace(&mut *self.places.write(), exchanged);
        // Freeing a million entries takes its time too.
        drop(old);
        writer.end = end;
        Ok(())
    }
}

impl Writer {
    /// Whether half of the file is records that count no more.
    fn is_half_old(&self) -> bool {
        self.end > REWRITE_MIN && self.end > 2 * (self.live + HEADER)
    }
}

/// Reads where every record lies; stops at the first that is damaged. Where the good ones end, and what was wrong then.
fn read_all(file: &File, read: &mut Vec<(u64, Place)>) -> (u64, Option<&'static str>) {
    let mut end = HEADER;
    let Ok(length) = file.metadata().map(|file| file.len()) else { return (end, Some(UNREADABLE)) };
    let mut reader = BufReader::with_capacity(WRITE_SIZE, file);
    let mut head = [0; HEADER as usize];
    if reader.read_exact(&mut head).is_err() || head != header() {
        return (end, Some(FOREIGN));
    }
    let mut payload = Vec::new();
    while end < length {
        match read_one(&mut reader, &mut payload, length - end) {
            Ok(key) => {
                let place = Place { offset: end + FRAME, length: payload.len() as u32 };
                read.push((key, place));
                end += place.whole();
            }
            Err(damage) => return (end, Some(damage)),
        }
    }
    (end, None)
}

/// Reads the next record, of which `left` bytes can be there; its key.
fn read_one(reader: &mut impl Read, payload: &mut Vec<u8>, left: u64) -> Result<u64, &'static str> {
    let mut bytes = [0; FRAME as usize];
    reader.read_exact(&mut bytes).map_err(|_| TORN)?;
    let (length, sum) = frame(bytes);
    if length > PAYLOAD_MAX {
        return Err(DAMAGED);
    }
    payload.resize(length as usize, 0);
    reader.read_exact(payload).map_err(|_| TORN)?;
    if crc32fast::hash(payload) != sum {
        let is_last = FRAME + u64::from(length) == left;
        return Err(if is_last { TORN } else { DAMAGED });
    }
    decode(payload).map(|record| key(record.account, record.model)).ok_or(DAMAGED)
}

const TORN: &str = "its last record was not written whole and was dropped";
const DAMAGED: &str = "it is damaged in the middle";
const FOREIGN: &str = "it is no journal of this version of Tidegate";
const UNREADABLE: &str = "it cannot be read";

fn key(account: &str, model: &str) -> u64 {
    // A zero byte is in no name, so the two cannot run into each other.
    stable_hash(&[account.as_bytes(), &[0], model.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("tidegate-{name}-{}.journal", std::process::id()));
        let _ = fs::remove_file(&path);
        path
    }

    fn record(account: &str, fill: u8) -> Record {
        let snapshot = vec![fill; 100];
        Record { saved: Duration::from_millis(5), account: account.into(), model: "m".into(), snapshot }
    }

    fn open(path: &Path) -> (LogFile, Option<String>) {
        LogFile::open(path, Duration::from_secs(9)).unwrap()
    }

    fn append(log: &LogFile, records: impl IntoIterator<Item = Record>) -> usize {
        log.append(Duration::ZERO, records.into_iter()).unwrap().written
    }

    #[test]
    fn the_last_record_of_a_name_counts_also_after_a_rewrite() {
        let path = path("last");
        let (log, _) = open(&path);
        for round in 0..6000_u32 {
            append(&log, [record("a", (round % 251) as u8), record("b", 7)]);
        }
        let size = fs::metadata(&path).unwrap().len();
        assert!(size < REWRITE_MIN + 1000, "rewritten: {size}");
        assert_eq!(log.find("a", "m"), Some(record("a", (5999 % 251) as u8)));
        drop(log);
        let (again, damage) = open(&path);
        assert_eq!(
            (again.find("a", "m"), again.budgets(), damage),
            (Some(record("a", (5999 % 251) as u8)), 2, None)
        );
    }

    /// No room for a second file: nothing of the first is lost, it is not tried every second, and it is done once it can be.
    #[test]
    fn a_rewriting_that_fails_is_tried_again_later_and_less_and_less_often() {
        let path = path("rewriting");
        let next = path.with_extension("next");
        let _ = fs::remove_dir(&next);
        // Nobody can write a file where a folder is.
        fs::create_dir(&next).unwrap();
        let (log, _) = open(&path);
        let whole = |fill: u32| (0..100).map(move |n| record(&format!("a{n}"), fill as u8));

        let mut tried = Vec::new();
        for second in (0..2_600_u32).step_by(5) {
            let appended = log.append(Duration::from_secs(second.into()), whole(second % 251)).unwrap();
            assert_eq!(appended.written, 100, "what is appended stands");
            if let Some(rewritten) = appended.rewritten {
                assert!(rewritten.is_err());
                tried.push(second);
            }
        }
        let waits: Vec<u32> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(log.find("a99", "m"), Some(record("a99", (2_595 % 251) as u8)));

        fs::remove_dir(&next).unwrap();
        let done = log.append(Duration::from_secs(4_000), whole(7)).unwrap().rewritten;
        assert!(matches!(done, Some(Ok(()))), "{done:?}");
        assert!(fs::metadata(&path).unwrap().len() < REWRITE_MIN);
        assert_eq!(log.find("a99", "m"), Some(record("a99", 7)));
    }

    #[test]
    fn a_torn_record_is_cut_off_and_the_rest_is_read() {
        let path = path("torn");
        let (log, _) = open(&path);
        append(&log, [record("a", 1), record("b", 2)]);
        let whole = fs::metadata(&path).unwrap().len();
        for cut in 1..100 {
            OpenOptions::new().write(true).open(&path).unwrap().set_len(whole - cut).unwrap();
            let (again, damage) = open(&path);
            assert!(damage.unwrap().contains("not written whole"));
            assert_eq!((again.find("a", "m"), again.find("b", "m")), (Some(record("a", 1)), None));
            append(&again, [record("b", 2)]);
        }
    }

    #[test]
    fn damage_and_foreign_files_are_put_aside_and_the_start_goes_on() {
        let path = path("foreign");
        fs::write(&path, b"hello, this is something else entirely").unwrap();
        let (log, damage) = open(&path);
        assert!(damage.unwrap().contains("no journal of this version"));
        assert!(fs::read(path.with_extension("damaged-9")).unwrap().starts_with(b"hello"));
        append(&log, [record("a", 1), record("b", 2), record("c", 3)]);
        drop(log);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();

        let (log, damage) = open(&path);

        assert!(damage.unwrap().contains("damaged in the middle"));
        assert_eq!((log.find("a", "m"), log.budgets()), (Some(record("a", 1)), 1));
    }

    /// The file is written in pieces and rewritten many times while others look names up.
    #[test]
    fn look_ups_find_whole_records_while_the_file_is_rewritten() {
        let path = path("beside");
        let (log, _) = open(&path);
        let names: Vec<String> = (0..2_000).map(|number| format!("a{number}")).collect();
        let save = |fill: u8| append(&log, names.iter().map(|name| record(name, fill)));
        save(0);
        std::thread::scope(|threads| {
            let written = threads.spawn(|| (1..=40).map(save).sum::<usize>());
            let mut seen = vec![0; names.len()];
            let mut rounds = 0;
            while !written.is_finished() || rounds == 0 {
                for (name, seen) in names.iter().zip(&mut seen) {
                    let found = log.find(name, "m").unwrap();
                    assert_eq!(found, record(name, found.snapshot[0]), "never of another, never in parts");
                    assert!(found.snapshot[0] >= *seen, "never older than before");
                    *seen = found.snapshot[0];
                }
                rounds += 1;
            }
            assert_eq!(written.join().unwrap(), 40 * names.len());
        });
        assert!(fs::metadata(&path).unwrap().len() < 3 << 20, "it was rewritten");
        drop(log);
        let (again, damage) = open(&path);
        assert_eq!((again.budgets(), damage), (names.len(), None));
        assert_eq!(again.find("a1999", "m"), Some(record("a1999", 40)));
    }
}
