//! A test that sleeps says why, beside it: time that passes proves nothing by itself, and is paid for in each run.
//!
//! The exact rule: under [`TESTS`], a line whose code calls `sleep(` has a `//` comment on it or on the line before.

use super::source::{self, Source};

/// Where no sleep stands without its reason.
const TESTS: &str = "tests/";

fn without_reason(source: &Source) -> Vec<String> {
    if !source.path.starts_with(TESTS) {
        return Vec::new();
    }
    let texts: Vec<&str> = source.text.lines().collect();
    let has_reason = |row: usize| texts.get(row).is_some_and(|text| text.contains("//"));
    let sleeps = source.code.lines().enumerate().filter(|(_, code)| code.contains("sleep("));
    let bare = sleeps.filter(|(row, _)| !has_reason(*row) && !row.checked_sub(1).is_some_and(has_reason));
    bare.map(|(row, _)| {
        format!(
            "{}:{}: a sleep without its reason. Wait for what is to happen, or say beside it what the time is for.",
            source.path,
            row + 1
        )
    })
    .collect()
}

#[test]
fn each_sleep_of_a_test_has_its_reason_beside_it() {
    super::assert_none(&source::all().iter().flat_map(without_reason).collect::<Vec<_>>());
}

#[test]
fn a_sleep_without_a_reason_is_found() {
    let sample = |code: &str| without_reason(&Source::new("tests/tests/sample.rs", code));

    super::assert_one(&sample("let a = 1;\nsleep(LONG).await;"), &["sample.rs:2", "without its reason"]);
    assert!(sample("// How long a life is.\nsleep(LIFE).await;").is_empty());
    assert!(sample("sleep(LIFE).await; // a life").is_empty());
    assert!(without_reason(&Source::new("gateway/src/sample.rs", "sleep(LONG).await;")).is_empty());
}
