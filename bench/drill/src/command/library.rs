//! The drills of `deploy/drills/`: each says what it shows, and passes on the shipped defaults.

use super::{in_virtual_time, load};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/drills");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect()
}

#[test]
fn every_drill_of_the_library_passes_in_virtual_time() {
    let files = files();
    assert!(files.len() >= 12, "{files:?}");
    let failed = |path: &PathBuf| {
        let figures = in_virtual_time(&load(path).unwrap(), &AtomicBool::new(false));
        let short: Vec<_> = figures.checks.iter().filter(|check| !check.ok).cloned().collect();
        (!figures.passed).then(|| format!("{}: {short:?}", path.display()))
    };
    let failed: Vec<String> = std::thread::scope(|scope| {
        let players: Vec<_> = files.iter().map(|path| scope.spawn(|| failed(path))).collect();
        players.into_iter().filter_map(|player| player.join().unwrap()).collect()
    });

    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_drill_says_what_it_shows_and_is_named_as_its_file() {
    for path in files() {
        let drill = load(&path).unwrap();
        assert_eq!(Some(drill.name.as_str()), path.file_stem().and_then(|stem| stem.to_str()));
        assert!(drill.shows.len() > 100 && !drill.checks.is_empty(), "{}", path.display());
    }
}

#[test]
fn an_interrupted_drill_is_judged_as_far_as_it_got_and_does_not_pass() {
    let drill = load(&files()[0]).unwrap();

    let figures = in_virtual_time(&drill, &AtomicBool::new(true));

    assert!(!figures.passed);
    assert_eq!(figures.ended_early.as_deref(), Some("it was interrupted"));
    let page = crate::report::page::page(&figures);
    assert!(
        page.starts_with("<!doctype html>") && page.contains("It ended early"),
        "it has a report all the same"
    );
}
