//! Tidy: what must hold in the sources themselves, checked on each `cargo test`.
//!
//! Most of what keeps this house understandable is something that is *not* there: no clock in the budgets, no lock in
//! the queue, no HTTP below the gateway. A compiler does not miss what is absent, so these tests do. A rule is a
//! pure function from sources to faults; each is tried on a sample that breaks it, since a scanner that finds
//! nothing looks exactly like a house that is in order. A fault says where, what, and what to do instead.
//!
//! | file | what holds |
//! |---|---|
//! | `dependencies` | which crate may know which, and which foreign crates stay above the pure ones, and what does not ship |
//! | `purity` | no clock, randomness, lock, thread, I/O, logging or unordered map in the pure crates; two clocks in all |
//! | `policy` | no number and no curve of policy in the shells around the core |
//! | `modules` | no cycle of modules, few modules and lines in a crate, no file of another crate |
//! | `shape` | a first sentence per file, short functions, short files, no silenced lints |
//! | `sleeps` | a test that sleeps says why, beside it |
//! | `tree` | seven folders, no path of a machine, no unfinished marks |
//! | `links` | each local link of the documents leads somewhere |
//! | `map` | paths in the documents exist, `ARCHITECTURE.md` names each module |
//!
//! The scanners read words, not meanings. They stop mistakes, not malice.

mod dependencies;
mod links;
mod map;
mod modules;
mod policy;
mod purity;
mod shape;
mod sleeps;
mod source;
mod tree;

use std::path::{Path, PathBuf};

/// The folder of the workspace.
fn house() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Fails with all faults at once, since whoever mends one wants to know of the others.
#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{} not tidy:\n\n{}\n", faults.len(), faults.join("\n"));
}

/// Fails unless exactly one fault was found and it names each of `parts`.
#[track_caller]
fn assert_one(faults: &[String], parts: &[&str]) {
    assert_eq!(faults.len(), 1, "one fault expected: {faults:#?}");
    for part in parts {
        assert!(faults[0].contains(part), "{part:?} is missing in {:?}", faults[0]);
    }
}
