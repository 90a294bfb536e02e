//! Writes a journal of budgets by what the gateway's `journal/format.rs` says of its form, without its code.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use limits::{Ask, Budget, BudgetConfig, PerMeter, START, Used};

use crate::harness::tidegate::MODEL;
use engine::clock;

/// Writes budgets of the accounts `a0`, `a1` … as they are after one request, with `limit` as the limit of their prompt
/// meter; an older record of each before all newer ones, and for some a third. Bytes written.
pub(super) fn write(path: &Path, accounts: usize, limit: impl Fn(usize) -> u64) -> io::Result<u64> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    out.write_all(b"TGBUDGET\x01\0\0\0\0\0\0\0")?;
    let saved = clock::wall().as_millis() as u64;
    let (mut bytes, mut record) = (16, Vec::new());
    // The third record of each tenth makes sure that more than half of the file is old.
    for (is_last, step) in [(false, 10), (false, 1), (true, 1)] {
        for number in (0..accounts).step_by(step) {
            let limit = limit(if is_last { number } else { 0 });
            encode(&mut record, saved, &format!("a{number}"), &snapshot(limit));
            out.write_all(&record)?;
            bytes += record.len() as u64;
        }
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(bytes)
}

/// A budget that one request was charged to.
fn snapshot(limit: u64) -> Vec<u8> {
    let ceilings = PerMeter { prompt: 216_000_000, uncached_prompt: 54_000_000, generated: 2_160_000 };
    let mut config = BudgetConfig::published(START, ceilings);
    config.bounds.prompt.start = limit;
    let mut budget = Budget::new(Duration::ZERO, config);
    let ask = Ask { prompt: 900, uncached_prompt: 700, choices: 1, ..Ask::default() };
    if let Ok(reservation) = budget.reserve(Duration::ZERO, &ask) {
        let used = Used { prompt: 900, uncached_prompt: 700, generated: 150, finished: true };
        budget.settle(Duration::from_secs(2), reservation, &used);
    }
    budget.snapshot(Duration::from_secs(2)).to_bytes()
}

fn encode(record: &mut Vec<u8>, saved: u64, account: &str, snapshot: &[u8]) {
    record.clear();
    record.extend_from_slice(&[0; 8]);
    record.extend_from_slice(&saved.to_le_bytes());
    for name in [account, MODEL] {
        record.extend_from_slice(&(name.len() as u16).to_le_bytes());
        record.extend_from_slice(name.as_bytes());
    }
    record.extend_from_slice(snapshot);
    let (frame, payload) = record.split_at_mut(8);
    let (length, sum) = frame.split_at_mut(4);
    length.copy_from_slice(&(payload.len() as u32).to_le_bytes());
    sum.copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
}
