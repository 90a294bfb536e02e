//! The reference of the book: made from the code, and compared with what is in `deploy/book/reference`.
//!
//! A page that does not say what the code says fails the test below; so does one that the code no longer has. To write
//! them anew after a change:
//!
//! ```sh
//! WRITE_REFERENCE=1 cargo test -p tests reference
//! ```
//!
//! | page | made from |
//! |---|---|
//! | `config` | the JSON Schema of the config |
//! | `metrics` | the table of the metrics |
//! | `access_log` | the tables of the fields of a line |
//! | `headers` | the list of the headers of requests and answers |
//! | `refusals` | every reason of a refusal |
//! | `admin` | the OpenAPI document of the admin API |

mod access_log;
mod admin;
mod config;
mod headers;
mod markdown;
mod metrics;
mod refusals;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// Where the pages are, from the top of the repository.
const FOLDER: &str = "deploy/book/reference";

/// Writes the pages instead of comparing them.
const WRITE: &str = "WRITE_REFERENCE";

/// The second line of each page.
const NOTE: &str = "<!-- Made from the code: WRITE_REFERENCE=1 cargo test -p tests reference -->";

/// The pages by the names of their files.
fn pages() -> BTreeMap<&'static str, String> {
    let pages = [
        ("access-log.md", access_log::page()),
        ("admin.md", admin::page()),
        ("config.md", config::page()),
        ("headers.md", headers::page()),
        ("metrics.md", metrics::page()),
        ("refusals.md", refusals::page()),
    ];
    pages.into_iter().collect()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(FOLDER)
}

/// The first line of a page that differs, for the message of a fault.
fn difference(page: &str, made: &str, kept: &str) -> Option<String> {
    let made_lines = made.lines().chain(std::iter::once("(its end)"));
    let kept_lines = kept.lines().chain(std::iter::once("(its end)"));
    let nth = made_lines.zip(kept_lines).position(|(made, kept)| made != kept);
    let is_same = nth.is_none() && made.len() == kept.len();
    (!is_same).then(|| {
        let at = nth.unwrap_or_default();
        let line = |text: &str| text.lines().nth(at).unwrap_or("(its end)").chars().take(160).collect::<String>();
        format!(
            "{FOLDER}/{page}:{}: is not what the code says. Run `{WRITE}=1 cargo test -p tests reference`.\n  code: {}\n  page: {}",
            at + 1,
            line(made),
            line(kept)
        )
    })
}

#[test]
fn the_pages_of_the_reference_say_what_the_code_says() {
    let (pages, folder) = (pages(), folder());
    if std::env::var_os(WRITE).is_some() {
        for (page, text) in &pages {
            fs::write(folder.join(page), text).unwrap();
        }
    }

    let mut faults = Vec::new();
    for (page, made) in &pages {
        let kept = fs::read_to_string(folder.join(page)).unwrap_or_default();
        faults.extend(difference(page, made, &kept));
    }
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name != "README.md" && !pages.contains_key(name.as_str()) {
            faults.push(format!("{FOLDER}/{name}: no part of the code makes this page. Remove it."));
        }
    }

    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_page_that_differs_is_told_with_its_line() {
    assert_eq!(difference("a.md", "one\ntwo\n", "one\ntwo\n"), None);
    let fault = difference("a.md", "one\ntwo\n", "one\n2\n").unwrap();
    assert!(fault.contains("a.md:2:") && fault.contains(WRITE), "{fault}");
    assert!(difference("a.md", "one\n", "one\ntwo\n").unwrap().contains("a.md:2:"));
    assert!(difference("a.md", "one\n", "").unwrap().contains("a.md:1:"));
}
