//! The journal's file: records appended, the last of each name counts, rewritten when half of it is old.
//!
//! ```text
//! header  "TGBUDGET" version:u32 zero:u32
//! record  length:u32 crc32:u32 payload        numbers little-endian, crc over the payload
//! payload saved_ms:u64 account_len:u16 account model_len:u16 model snapshot
//! ```
//!
//! In memory is one entry of 24 bytes for each name: a hash and where its last record lies, so a million
//! accounts take some 50 MB. A torn last record, as a crash leaves it, is cut off. Damage in the middle ends the
//! reading there: the whole file is kept beside the new one for whoever wants to look.

use crate::entropy::stable_hash;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MAGIC: &[u8; 8] = b"TGBUDGET";
const VERSION: u32 = 1;
const HEADER: u64 = 16;
/// Largest payload: a snapshot has at most some KiB, names at most some hundred bytes.
const PAYLOAD_MAX: u32 = 64 << 10;
/// A smaller file is never rewritten.
const REWRITE_MIN: u64 = 1 << 20;

/// One budget as it was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Wall time since the epoch.
    pub(super) saved: Duration,
    pub(super) account: String,
    pub(super) model: String,
    pub(super) snapshot: Vec<u8>,
}

/// The file and its index.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    end: u64,
    /// By the hash of account and model: offset and length of the last record's payload.
    index: HashMap<u64, (u64, u32)>,
    live: u64,
}

impl LogFile {
    /// Opens or makes the file. The second value says what was wrong with it, in a sentence.
    pub(super) fn open(path: &Path, wall: Duration) -> io::Result<(Self, Option<String>)> {
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut log =
            LogFile { path: path.to_owned(), file: open()?, end: HEADER, index: HashMap::new(), live: 0 };
        let length = log.file.metadata()?.len();
        if length == 0 {
            log.file.write_all_at(&header(), 0)?;
            return Ok((log, None));
        }
        let Err(damage) = log.read_all() else { return Ok((log, None)) };
        if damage == TORN {
            log.file.set_len(log.end)?;
            return Ok((log, Some(format!("{}: {damage}; the rest was read", path.display()))));
        }
        let aside = path.with_extension(format!("damaged-{}", wall.as_secs()));
        fs::copy(path, &aside)?;
        log.file.set_len(log.end)?;
        log.file.write_all_at(&header(), 0)?;
        let sentence = format!(
            "{}: {damage}; {} budgets were read, the file was kept as {}",
            path.display(),
            log.index.len(),
            aside.display()
        );
        Ok((log, Some(sentence)))
    }

    /// Reads every record into the index; stops at the first that is damaged, with `end` before it.
    fn read_all(&mut self) -> Result<(), &'static str> {
        let length = self.file.metadata().map_err(|_| UNREADABLE)?.len();
        let mut reader = BufReader::with_capacity(1 << 20, self.file.try_clone().map_err(|_| UNREADABLE)?);
        let mut head = [0; HEADER as usize];
        reader.read_exact(&mut head).map_err(|_| FOREIGN)?;
        if head != header() {
            return Err(FOREIGN);
        }
        let mut payload = Vec::new();
        while self.end < length {
            let mut frame = [0; 8];
            reader.read_exact(&mut frame).map_err(|_| TORN)?;
            let (size, sum) = (number(&frame, 0), number(&frame, 4));
            if size > PAYLOAD_MAX {
                return Err(DAMAGED);
            }
            payload.resize(size as usize, 0);
            reader.read_exact(&mut payload).map_err(|_| TORN)?;
            let is_last = self.end + 8 + u64::from(size) == length;
            if crc32fast::hash(&payload) != sum {
                return Err(if is_last { TORN } else { DAMAGED });
            }
            let record = decode(&payload).ok_or(DAMAGED)?;
            self.remember(&record.account, &record.model, self.end + 8, size);
            self.end += 8 + u64::from(size);
        }
        Ok(())
    }

    fn remember(&mut self, account: &str, model: &str, offset: u64, size: u32) {
        if let Some((_, old)) = self.index.insert(key(account, model), (offset, size)) {
            self.live -= u64::from(old) + 8;
        }
        self.live += u64::from(size) + 8;
    }

    /// Budgets that are known.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// The last record of these names.
    pub(super) fn find(&self, account: &str, model: &str) -> Option<Record> {
        let &(offset, size) = self.index.get(&key(account, model))?;
        let mut payload = vec![0; size as usize];
        self.file.read_exact_at(&mut payload, offset).ok()?;
        decode(&payload).filter(|record| record.account == account && record.model == model)
    }

    /// Appends `records` in one write; how many.
    pub(super) fn append(&mut self, records: impl Iterator<Item = Record>) -> io::Result<usize> {
        let mut bytes = Vec::new();
        let mut places = Vec::new();
        for record in records {
            let payload = encode(&record);
            places.push((
                record.account,
                record.model,
                self.end + bytes.len() as u64 + 8,
                payload.len() as u32,
            ));
            bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
            bytes.extend_from_slice(&payload);
        }
        if places.is_empty() {
            return Ok(0);
        }
        self.file.write_all_at(&bytes, self.end)?;
        self.file.sync_data()?;
        self.end += bytes.len() as u64;
        let count = places.len();
        for (account, model, offset, size) in places {
            self.remember(&account, &model, offset, size);
        }
        if self.end > REWRITE_MIN && self.end > 2 * (self.live + HEADER) {
            self.rewrite()?;
        }
        Ok(count)
    }

    /// Writes the last record of each name into a new file and puts it in place of the old one.
    fn rewrite(&mut self) -> io::Result<()> {
        let next = self.path.with_extension("next");
        let mut writer = BufWriter::with_capacity(1 << 20, File::create(&next)?);
        writer.write_all(&header())?;
        let mut kept: Vec<(u64, u64, u32)> =
            self.index.iter().map(|(k, (at, size))| (*at, *k, *size)).collect();
        kept.sort_unstable();
        let mut index = HashMap::with_capacity(kept.len());
        let mut end = HEADER;
        let mut frame = Vec::new();
        for (offset, key, size) in kept {
            frame.resize(size as usize + 8, 0);
            self.file.read_exact_at(&mut frame, offset - 8)?;
            writer.write_all(&frame)?;
            index.insert(key, (end + 8, size));
            end += u64::from(size) + 8;
        }
        writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&next, &self.path)?;
        self.file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        (self.index, self.end) = (index, end);
        Ok(())
    }
}

const TORN: &str = "its last record was not written whole and was dropped";
const DAMAGED: &str = "it is damaged in the middle";
const FOREIGN: &str = "it is no journal of this version of Tidegate";
const UNREADABLE: &str = "it cannot be read";

fn header() -> [u8; HEADER as usize] {
    let mut header = [0; HEADER as usize];
    let parts = MAGIC.iter().copied().chain(VERSION.to_le_bytes());
    header.iter_mut().zip(parts).for_each(|(byte, part)| *byte = part);
    header
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn key(account: &str, model: &str) -> u64 {
    // A zero byte is in no name, so the two cannot run into each other.
    stable_hash(&[account.as_bytes(), &[0], model.as_bytes()].concat())
}

fn encode(record: &Record) -> Vec<u8> {
    let mut payload =
        Vec::with_capacity(record.snapshot.len() + record.account.len() + record.model.len() + 12);
    payload.extend_from_slice(&(record.saved.as_millis() as u64).to_le_bytes());
    for name in [&record.account, &record.model] {
        payload.extend_from_slice(&(name.len() as u16).to_le_bytes());
        payload.extend_from_slice(name.as_bytes());
    }
    payload.extend_from_slice(&record.snapshot);
    payload
}

fn decode(payload: &[u8]) -> Option<Record> {
    let (saved, rest) = payload.split_first_chunk::<8>()?;
    let (account, rest) = name(rest)?;
    let (model, snapshot) = name(rest)?;
    let saved = Duration::from_millis(u64::from_le_bytes(*saved));
    Some(Record { saved, account, model, snapshot: snapshot.to_vec() })
}

fn name(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    Some((String::from_utf8(name.to_vec()).ok()?, rest))
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

    #[test]
    fn the_last_record_of_a_name_counts_also_after_a_rewrite() {
        let path = path("last");
        let (mut log, _) = open(&path);
        for round in 0..6000_u32 {
            log.append([record("a", (round % 251) as u8), record("b", 7)].into_iter()).unwrap();
        }
        let size = fs::metadata(&path).unwrap().len();
        assert!(size < REWRITE_MIN + 1000, "rewritten: {size}");
        assert_eq!(log.find("a", "m"), Some(record("a", (5999 % 251) as u8)));
        drop(log);
        let (again, damage) = open(&path);
        assert_eq!(
            (again.find("a", "m"), again.len(), damage),
            (Some(record("a", (5999 % 251) as u8)), 2, None)
        );
    }

    #[test]
    fn a_torn_record_is_cut_off_and_the_rest_is_read() {
        let path = path("torn");
        let (mut log, _) = open(&path);
        log.append([record("a", 1), record("b", 2)].into_iter()).unwrap();
        let whole = fs::metadata(&path).unwrap().len();
        for cut in 1..100 {
            OpenOptions::new().write(true).open(&path).unwrap().set_len(whole - cut).unwrap();
            let (mut again, damage) = open(&path);
            assert!(damage.unwrap().contains("not written whole"));
            assert_eq!((again.find("a", "m"), again.find("b", "m")), (Some(record("a", 1)), None));
            again.append([record("b", 2)].into_iter()).unwrap();
        }
    }

    #[test]
    fn damage_and_foreign_files_are_put_aside_and_the_start_goes_on() {
        let path = path("foreign");
        fs::write(&path, b"hello, this is something else entirely").unwrap();
        let (mut log, damage) = open(&path);
        assert!(damage.unwrap().contains("no journal of this version"));
        assert!(fs::read(path.with_extension("damaged-9")).unwrap().starts_with(b"hello"));
        log.append([record("a", 1), record("b", 2), record("c", 3)].into_iter()).unwrap();
        drop(log);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();

        let (log, damage) = open(&path);

        assert!(damage.unwrap().contains("damaged in the middle"));
        assert_eq!((log.find("a", "m"), log.len()), (Some(record("a", 1)), 1));
    }
}
