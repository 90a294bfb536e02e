//! What operators write, and what a crash or a bad disk leaves of our own files.

use config::{Config, FAULTS_MAX};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use store::budget_log::LogFile;
use store::budget_log::format::{FRAME, HEADER, Record, header};
use store::dynamic_accounts::Roster;

/// A config that accounts are judged by.
const SMALLEST: &str = include_str!("../../../deploy/examples/smallest.yaml");

/// Any text: a config, or faults with places that are in the text.
pub fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match Config::parse(&text, "fuzz.yaml", &|_| None) {
        Ok(config) => drop(config::redacted(&config)),
        Err(faults) => {
            let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() + 1;
            assert!(!faults.list.is_empty() && faults.list.len() <= FAULTS_MAX);
            for fault in &faults.list {
                assert!((1..=lines).contains(&(fault.line as usize)) && fault.column >= 1, "{faults}");
            }
        }
    }
}

/// A file of state with these bytes opens, and keeps what is written then.
pub fn state(bytes: &[u8]) {
    let Some((&which, content)) = bytes.split_first() else { return };
    let folder = Folder::new();
    if which & 1 == 0 { journal(&folder, content, which & 2 == 0) } else { roster(&folder, content) }
}

fn journal(folder: &Folder, content: &[u8], with_header: bool) {
    let path = folder.0.join("budgets.journal");
    let mut bytes = if with_header { header().to_vec() } else { Vec::new() };
    bytes.extend_from_slice(content);
    // Sums over what is there make records of it, which random bytes would never be.
    if with_header {
        sign(&mut bytes);
    }
    let _ = fs::write(&path, &bytes);
    let Ok((log, _)) = LogFile::open(&path, Duration::from_secs(1)) else { return };
    let known = log.budgets();
    let record = Record {
        saved: Duration::from_millis(258),
        account: "acme".to_owned(),
        model: "m".to_owned(),
        snapshot: vec![7, 8],
    };
    let Ok(appended) = log.append(Duration::ZERO, std::iter::once(record.clone())) else { return };
    assert_eq!((appended.written, log.find("acme", "m")), (1, Some(record.clone())));
    assert!((known..=known + 1).contains(&log.budgets()));
    let Ok((again, damage)) = LogFile::open(&path, Duration::from_secs(2)) else {
        panic!("what was just written does not open");
    };
    assert_eq!((again.find("acme", "m"), again.budgets(), damage), (Some(record), log.budgets(), None));
}

/// Corrects the checksum of each record whose length fits.
fn sign(bytes: &mut [u8]) {
    let mut at = HEADER as usize;
    while let Some(frame) = bytes.get(at..at + FRAME as usize) {
        let length = frame.first_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length)) as usize;
        let payload = at + FRAME as usize;
        let Some(covered) = bytes.get(payload..payload.saturating_add(length)) else { return };
        let sum = crc32fast::hash(covered).to_le_bytes();
        bytes.iter_mut().skip(at + 4).zip(sum).for_each(|(byte, of_sum)| *byte = of_sum);
        at = payload + length;
    }
}

fn roster(folder: &Folder, content: &[u8]) {
    let Ok(config) = Config::parse(SMALLEST, "smallest.yaml", &|_| None) else {
        panic!("the smallest example is a config");
    };
    let _ = fs::write(folder.0.join("accounts.jsonl"), content);
    let roster = Roster::open(Some(&folder.0), &config, Duration::from_secs(1));
    let in_force = roster.in_force(&config, Duration::from_secs(1));
    let read = in_force.accounts.len();
    assert!(read <= content.iter().filter(|&&byte| byte == b'\n').count(), "more accounts than lines");
}

/// A folder of one run, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tidegate-fuzz-{}-{number}", std::process::id()));
        if let Err(e) = fs::create_dir_all(&folder) {
            panic!("{}: {e}", folder.display());
        }
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
