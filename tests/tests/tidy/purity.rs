//! The pure crates stay pure, and time has two readers in all.
//!
//! `limits`, `shedder` and `tokenizer` decide; they do not wait, look, ask or tell. Time and randomness come in as
//! arguments, facts go out as values, and the gateway holds the locks. So a decision can be repeated from its
//! arguments, and a week can be tested in a millisecond.
//!
//! The exact rule: in `src/` of the pure crates, outside `#[cfg(test)]`, none of the names of [`BANNED`] is used:
//! a `Type` anywhere, a `macro` before its `!`, a `module` inside a `use`, before `::` or after `std::`. Comments and
//! literals are not code. `HashMap` and `HashSet` are banned altogether, since the order in which they are walked is
//! random: whoever only looks keys up in one is listed in [`UNORDERED_WITH_REASON`].

use super::source::{self, Source, Token, tokens};

pub(super) const PURE: [(&str, &str); 6] = [
    ("limits", "limits"),
    ("shedder", "shedder"),
    ("tokenizer", "tokenizer"),
    ("gateway/core", "gateway-core"),
    ("gateway/history", "history"),
    ("gateway/usage", "usage"),
];

/// Where time may be read; everybody else is told.
const CLOCKS: [&str; 2] = ["gateway/process/src/clock.rs", "bench/engine/src/clock.rs"];

/// Uses of an unordered map that nobody walks: the file, the type, the reason.
const UNORDERED_WITH_REASON: &[(&str, &str, &str)] = &[];

/// How a banned name shows itself.
#[derive(Clone, Copy)]
enum Name {
    Type(&'static str),
    Macro(&'static str),
    Module(&'static str),
}

use Name::{Macro, Module, Type};

/// What a pure crate does without: the names, what they bring in, what to do instead.
const BANNED: &[(&[Name], &str, &str)] = &[
    (
        &[Type("Instant"), Type("SystemTime"), Module("chrono")],
        "a clock",
        "take `now: Duration` as an argument",
    ),
    (
        &[Module("rand"), Module("getrandom"), Module("fastrand"), Type("RandomState"), Type("thread_rng")],
        "randomness",
        "take the random number, or the seed, as an argument",
    ),
    (
        &[
            Type("Mutex"),
            Type("RwLock"),
            Type("Condvar"),
            Type("Semaphore"),
            Module("parking_lot"),
            Module("mpsc"),
        ],
        "a lock",
        "take `&mut self`; the gateway holds the lock",
    ),
    (
        &[Type("async"), Type("await"), Module("tokio"), Module("futures"), Module("async_trait")],
        "async",
        "return what is to be done; the gateway waits",
    ),
    (
        &[
            Macro("print"),
            Macro("println"),
            Macro("eprint"),
            Macro("eprintln"),
            Macro("dbg"),
            Module("tracing"),
            Module("log"),
            Module("metrics"),
        ],
        "logging",
        "return the fact; the gateway logs and counts it",
    ),
    (
        &[Module("thread"), Macro("thread_local"), Module("rayon"), Module("crossbeam")],
        "a thread",
        "let the gateway run it",
    ),
    (
        &[Module("fs"), Module("net"), Module("io"), Module("env"), Module("process")],
        "I/O",
        "take the bytes as an argument; the gateway reads and writes",
    ),
    (
        &[Type("HashMap"), Type("HashSet")],
        "an unordered map",
        "use `BTreeMap` or a sorted `Vec`, or list the use in tests/tests/tidy/purity.rs with its reason if nobody walks it",
    ),
];

/// Faults of one file of a pure crate.
fn impurities(source: &Source) -> Vec<String> {
    let code = source.shipped();
    let tokens = tokens(&code);
    let inside_use = inside_use(&tokens);
    let mut faults = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| tokens.get(at)).map_or("", |token| token.text);
        let root = at.checked_sub(2).and_then(|at| tokens.get(at)).map_or("", |token| token.text);
        let after = tokens.get(at + 1).map_or("", |token| token.text);
        let shows = |name: &Name| match *name {
            Type(name) => token.text == name,
            Macro(name) => token.text == name && after == "!",
            Module(name) => {
                token.text == name && (inside_use[at] || after == "::" || (before == "::" && root == "std"))
            }
        };
        let Some((_, what, instead)) = BANNED.iter().find(|(names, _, _)| names.iter().any(shows)) else {
            continue;
        };
        if !excused(&source.path, token.text) {
            faults.push(format!(
                "{}:{}: `{}` brings in {what}: {instead}.",
                source.path, token.line, token.text
            ));
        }
    }
    faults
}

fn excused(path: &str, name: &str) -> bool {
    UNORDERED_WITH_REASON.iter().any(|(file, excused, _)| *file == path && *excused == name)
}

/// For each token whether it is part of a `use` declaration.
fn inside_use(tokens: &[Token<'_>]) -> Vec<bool> {
    let mut inside = false;
    let mut marks = Vec::with_capacity(tokens.len());
    for token in tokens {
        inside = (inside || token.text == "use") && token.text != ";";
        marks.push(inside);
    }
    marks
}

/// Reads of a clock outside the two files that may.
fn clock_reads(source: &Source) -> Vec<String> {
    if CLOCKS.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let tokens = tokens(&source.code);
    let reads = tokens.windows(3).filter(|window| {
        matches!([window[0].text, window[1].text, window[2].text], ["Instant" | "SystemTime", "::", "now"])
    });
    reads
        .map(|window| {
            format!(
                "{}:{}: `{}::now` is called. Ask `gateway::clock` or `engine::clock`, and pass `now` on.",
                source.path, window[0].line, window[0].text
            )
        })
        .collect()
}

#[test]
fn the_pure_crates_have_no_clock_lock_thread_randomness_io_or_logging() {
    let sources = source::all();
    let tests = source::test_only(sources);
    let pure =
        |source: &&Source| PURE.iter().any(|(folder, _)| source.path.starts_with(&format!("{folder}/src/")));
    let shipped: Vec<&Source> =
        sources.iter().filter(pure).filter(|source| !tests.contains(&source.path)).collect();

    for (folder, _) in PURE {
        let is_there = shipped.iter().any(|source| source.path.starts_with(&format!("{folder}/src/")));
        assert!(is_there, "no source of {folder} was found");
    }
    super::assert_none(&shipped.into_iter().flat_map(impurities).collect::<Vec<_>>());
}

#[test]
fn time_is_read_in_two_files_only() {
    let faults: Vec<String> = source::all().iter().flat_map(clock_reads).collect();

    super::assert_none(&faults);
}

#[test]
fn an_excuse_that_excuses_nothing_is_struck_off() {
    let sources = source::all();

    for (path, name, _) in UNORDERED_WITH_REASON {
        let source = sources.iter().find(|source| source.path == *path);
        let used =
            source.is_some_and(|source| tokens(&source.shipped()).iter().any(|token| token.text == *name));
        assert!(used, "{path} does not use {name} any more: remove its line in UNORDERED_WITH_REASON");
    }
}

#[test]
fn each_banned_name_is_found() {
    for (names, what, _) in BANNED {
        for name in *names {
            let (word, line) = match *name {
                Type(name) => (name, format!("fn a() {{ {name} }}")),
                Macro(name) => (name, format!("fn a() {{ {name}!() }}")),
                Module(name) => (name, format!("use std::{{{name}, b}};")),
            };

            let faults = impurities(&Source::new("limits/src/a.rs", &format!("//! A.\n{line}")));

            super::assert_one(&faults, &["limits/src/a.rs:2", &format!("`{word}`"), what]);
        }
    }
}

#[test]
fn a_module_is_found_in_a_path_but_not_as_a_name_of_something_else() {
    let faults = |code: &str| impurities(&Source::new("limits/src/a.rs", code));

    super::assert_one(&faults("fn a() { fs::read(b) }"), &["`fs`"]);
    super::assert_one(&faults("fn a(b: &std::env) {}"), &["`env`"]);
    super::assert_none(&faults("fn log(net: u64, io: u64) -> f64 { (net as f64).log(2.0) }"));
}

#[test]
fn tests_comments_and_strings_may_name_what_the_code_may_not_use() {
    let text = "//! No Mutex.\nconst A: &str = \"HashMap\";\n#[cfg(test)]\nmod tests { use std::collections::HashMap; }";

    super::assert_none(&impurities(&Source::new("limits/src/a.rs", text)));
}

#[test]
fn a_read_of_the_clock_is_found_in_every_file_but_two() {
    let text = "fn a() { std::time::Instant::now() }";

    super::assert_one(
        &clock_reads(&Source::new("gateway/src/serve.rs", text)),
        &["gateway/src/serve.rs:1", "clock"],
    );
    super::assert_one(&clock_reads(&Source::new("tests/tests/it.rs", "SystemTime::now()")), &["SystemTime"]);
    super::assert_none(&clock_reads(&Source::new("gateway/process/src/clock.rs", text)));
    super::assert_none(&clock_reads(&Source::new("gateway/src/serve.rs", "clock::now()")));
}
