//! Whatever ends a process, at whichever byte, the folder sums to what its processes wrote.

use super::*;
use shedder::Tier;
use std::os::unix::fs::PermissionsExt as _;
use usage::row::Slot;

/// The last hour of a month.
const LAST: u32 = 498_911;

fn state(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("tidegate-usage-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn rows(of: &[(u32, &str, u64)]) -> Rows {
    let mut rows = Rows::new();
    for (hour, account, requests) in of {
        let slot = Slot { hour: *hour, key: Some(1), model: Some("m".into()), tier: Some(Tier::Regular) };
        let totals = Totals { requests: *requests, prompt: requests * 7, ..Totals::default() };
        rows.entry(Key { account: Some((*account).into()), slot }).or_default().add(&totals);
    }
    rows
}

fn read(log: &UsageLog) -> (Rows, Read) {
    let mut rows = Rows::new();
    let read = log.read(&mut |key, totals| rows.entry(key).or_default().add(totals)).unwrap();
    (rows, read)
}

fn files(log: &UsageLog) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(log.folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "lock")
        .collect();
    names.sort();
    names
}

/// All files of a folder, to be put back.
fn kept(log: &UsageLog) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(log.folder()).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn what_is_appended_is_read_by_this_process_and_the_next() {
    let state = state("append");
    let mut log = UsageLog::new(&state, 1);
    assert_eq!(read(&log), (Rows::new(), Read::default()));
    log.append(&rows(&[(LAST, "a", 2), (LAST + 1, "a", 3)])).unwrap();
    log.append(&rows(&[(LAST, "a", 5)])).unwrap();

    let all = rows(&[(LAST, "a", 7), (LAST + 1, "a", 3)]);
    assert_eq!(read(&log).0, all);
    let mut next = UsageLog::new(&state, 2);
    next.append(&rows(&[(LAST, "a", 1)])).unwrap();
    assert_eq!(read(&next).0, rows(&[(LAST, "a", 8), (LAST + 1, "a", 3)]));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(log.folder()), 0o700);
    assert!(files(&log).iter().all(|name| mode(&log.folder().join(name)) == 0o600));
}

#[test]
fn ended_processes_are_merged_into_months_and_running_ones_are_not() {
    let state = state("merge");
    let mut ended = UsageLog::new(&state, 1);
    ended.append(&rows(&[(LAST, "a", 2), (LAST + 1, "b", 3)])).unwrap();
    drop(ended);
    let mut running = UsageLog::new(&state, 2);
    running.append(&rows(&[(LAST, "a", 10)])).unwrap();
    let mut log = UsageLog::new(&state, 3);
    log.append(&rows(&[(LAST, "a", 100)])).unwrap();
    log.merge(None).unwrap();
    assert_eq!(files(&log).len(), 3, "it is not its turn");

    assert!(log.take_turn().unwrap() && !running.take_turn().unwrap());
    log.merge(None).unwrap();
    let own = |writer: u64| format!("live-{writer:016x}.ndjson");
    assert_eq!(files(&log), ["2026-11.ndjson".to_owned(), "2026-12.ndjson".to_owned(), own(2), own(3)]);
    running.append(&rows(&[(LAST, "a", 10)])).unwrap();
    log.append(&rows(&[(LAST, "a", 100)])).unwrap();

    let all = rows(&[(LAST, "a", 222), (LAST + 1, "b", 3)]);
    assert_eq!(read(&log).0, all);
    log.merge(None).unwrap();
    drop((log, running));
    let mut last = UsageLog::new(&state, 4);
    assert!(last.take_turn().unwrap());
    last.merge(None).unwrap();
    assert_eq!(read(&last), (all, Read::default()));
    assert_eq!(files(&last), ["2026-11.ndjson", "2026-12.ndjson"]);
}

/// Every state of the folder that a merging can leave when it is killed: some months written, no own file removed yet.
#[test]
fn a_merging_that_is_killed_counts_nothing_twice() {
    let state = state("killed");
    let (mut log, all) = (UsageLog::new(&state, 9), rows(&[(LAST, "a", 3), (LAST + 1, "a", 5)]));
    let mut ended = UsageLog::new(&state, 1);
    ended.append(&rows(&[(LAST, "a", 1), (LAST + 1, "a", 2)])).unwrap();
    drop(ended);
    log.append(&rows(&[(LAST, "a", 2), (LAST + 1, "a", 3)])).unwrap();
    let before = kept(&log);
    assert!(log.take_turn().unwrap());
    log.merge(None).unwrap();
    let after = kept(&log);
    drop(log);

    let months: Vec<&PathBuf> =
        after.keys().filter(|path| !before.contains_key(*path) && !path.ends_with("lock")).collect();
    assert_eq!(months.len(), 2);
    for written in 0..4_usize {
        fs::remove_dir_all(state.join("usage")).unwrap();
        fs::create_dir_all(state.join("usage")).unwrap();
        before.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        for (nth, month) in months.iter().enumerate().filter(|(nth, _)| written & (1 << nth) != 0) {
            fs::write(month, &after[*month]).unwrap_or_else(|e| panic!("{nth}: {e}"));
        }
        let mut next = UsageLog::new(&state, 10);
        assert_eq!(read(&next).0, all, "{written:02b}");
        assert!(next.take_turn().unwrap());
        next.merge(None).unwrap();
        assert_eq!(read(&next).0, all, "{written:02b}, merged again");
        next.merge(None).unwrap();
        assert_eq!((read(&next).0, files(&next).len()), (all.clone(), 2));
    }
}

/// Random lives of processes: each appends, is killed at any byte of its last line, merges, is upgraded, and clocks step.
#[test]
fn random_lives_sum_to_what_was_written() {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};
    let act = (0..8_u8, 0..3_u32, 1..50_u64, 0..40_usize);
    let mut runner = TestRunner::new(Config { cases: 30, ..Config::default() });
    runner
        .run(&proptest::collection::vec(act, 1..40), |acts| {
            let state = state("lives");
            let (mut all, mut writer) = (Rows::new(), 1);
            let mut log = UsageLog::new(&state, writer);
            let mut before: Option<UsageLog> = None;
            log.take_turn().unwrap();
            for (what, hour, requests, cut) in acts {
                // The clock goes over the end of the month and back.
                let new = rows(&[(LAST - 1 + hour, ["a", "b"][requests as usize % 2], requests)]);
                let mut count =
                    || new.iter().for_each(|(key, totals)| all.entry(key.clone()).or_default().add(totals));
                match what {
                    0..=2 => {
                        log.append(&new).unwrap();
                        count();
                    }
                    3 => {
                        // The process before goes on for a while.
                        let running = before.as_mut().unwrap_or(&mut log);
                        running.append(&new).unwrap();
                        count();
                    }
                    4 => log.merge(None).unwrap(),
                    5 => {
                        // An upgrade, and the end of the one before that.
                        writer += 1;
                        before = Some(std::mem::replace(&mut log, UsageLog::new(&state, writer)));
                    }
                    _ => {
                        // Killed while it writes: the line is there up to some byte of it, and not counted.
                        let path = log.folder().join(format!("live-{writer:016x}.ndjson"));
                        let whole = fs::read(&path).unwrap_or_default().len();
                        if log.append(&new).is_ok() {
                            let bytes = fs::read(&path).unwrap();
                            fs::write(&path, &bytes[..(whole + cut).min(bytes.len() - 2)]).unwrap();
                        }
                        writer += 1;
                        log = UsageLog::new(&state, writer);
                        before = None;
                    }
                }
                log.take_turn().unwrap();
                prop_assert_eq!(&read(&log), &(all.clone(), Read::default()));
            }
            drop((log, before));
            let mut last = UsageLog::new(&state, writer + 1);
            prop_assert!(last.take_turn().unwrap());
            last.merge(None).unwrap();
            prop_assert_eq!(&read(&last).0, &all);
            prop_assert!(files(&last).iter().all(|name| !name.starts_with("live-")));
            Ok(())
        })
        .unwrap();
}

/// No room, or no right to write: nothing of it is read, and it can be given again.
#[test]
fn what_could_not_be_appended_is_appended_later_and_once() {
    let state = state("full");
    fs::write(state.join("usage"), "in the way").unwrap();
    let mut log = UsageLog::new(&state, 1);
    let new = rows(&[(LAST, "a", 2)]);
    assert!(log.append(&new).is_err() && log.take_turn().is_err());

    fs::remove_file(state.join("usage")).unwrap();
    log.append(&new).unwrap();
    assert_eq!(read(&log).0, new);
    fs::remove_dir_all(state.join("usage")).unwrap();
    log.append(&new).unwrap();
    assert_eq!(read(&log).0, new, "somebody removed the folder; what comes is written again");
}

#[test]
fn damage_costs_its_lines_and_is_kept_and_told() {
    let state = state("damage");
    let mut log = UsageLog::new(&state, 1);
    for account in ["a", "b", "c"] {
        log.append(&rows(&[(LAST, account, 2)])).unwrap();
    }
    let path = log.folder().join("live-0000000000000001.ndjson");
    let text = fs::read_to_string(&path).unwrap();
    drop(log);
    fs::write(&path, text.replace("\"b\"", "\"x\"")).unwrap();

    let mut next = UsageLog::new(&state, 2);
    let left = rows(&[(LAST, "a", 2), (LAST, "c", 2)]);
    assert_eq!(read(&next), (left.clone(), Read { damaged: 1, newer: Vec::new() }));
    assert!(next.take_turn().unwrap());
    next.merge(None).unwrap();
    assert_eq!(read(&next), (left, Read::default()));
    assert_eq!(files(&next), ["2026-11.ndjson", "live.ndjson.damaged"]);
}

#[test]
fn a_month_of_a_newer_version_stays_as_it_is() {
    let state = state("newer");
    let mut log = UsageLog::new(&state, 1);
    log.append(&rows(&[(LAST, "a", 2)])).unwrap();
    let (path, newer) = (log.folder().join("2026-11.ndjson"), "{\"tidegate\":\"usage\",\"version\":2}\n?\n");
    fs::write(&path, newer).unwrap();

    assert_eq!(read(&log), (rows(&[(LAST, "a", 2)]), Read { damaged: 0, newer: vec![path.clone()] }));
    assert!(log.take_turn().unwrap());
    let said = log.merge(None).unwrap_err().to_string();
    assert!(said.contains("newer version"), "{said}");
    assert_eq!((fs::read_to_string(&path).unwrap().as_str(), read(&log).0), (newer, rows(&[(LAST, "a", 2)])));
}

#[test]
fn what_is_too_old_goes_with_the_next_merging() {
    let state = state("old");
    let mut log = UsageLog::new(&state, 1);
    assert!(log.take_turn().unwrap());
    log.append(&rows(&[(LAST - 5_000, "a", 1), (LAST - 2, "a", 2), (LAST, "a", 3)])).unwrap();
    log.merge(None).unwrap();
    assert_eq!(files(&log).len(), 3);
    log.append(&rows(&[(LAST, "a", 4)])).unwrap();

    log.merge(Some(LAST - 1)).unwrap();

    assert_eq!(read(&log).0, rows(&[(LAST, "a", 7)]));
    assert_eq!(files(&log), ["2026-11.ndjson", "live-0000000000000001.ndjson"]);
}

#[test]
fn many_own_files_or_large_ones_are_to_be_merged() {
    let sizes = |own, own_files, months| Sizes { own, own_files, months }.is_merging_due();
    assert!(!sizes(MERGE_MIN, 1, 0) && sizes(MERGE_MIN + 1, 1, 0));
    assert!(!sizes(MERGE_MIN + 1, 1, 2 * MERGE_MIN) && sizes(0, OWN_FILES_MAX + 1, 0));
    let mut log = UsageLog::new(&state("sizes"), 1);
    assert_eq!(log.sizes().unwrap(), Sizes::default());
    log.append(&rows(&[(LAST, "a", 1)])).unwrap();
    let sizes = log.sizes().unwrap();
    assert!(sizes.own > 100 && sizes.own_files == 1, "{sizes:?}");
}
