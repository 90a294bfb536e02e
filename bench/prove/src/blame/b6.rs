//! B6: every case of the families F, R and W has a test by its id, and it passes.
//!
//! The small size looks for the tests in the sources, since CI runs them in a step of its own; the full one runs them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::proof::{Finding, Proof, Setting, Trouble};

pub(crate) const PROOF: Proof = Proof {
    id: "B6",
    what: "cases F01 to F13, R01 to R12 and W01 to W03 with a test by their id (full size: that passes)",
    goal: "28 of 28",
    quick_s: 1,
    full_s: 600,
    needs: "",
    run,
};

/// Families and how many cases each has.
const FAMILIES: [(char, u32); 3] = [('f', 13), ('r', 12), ('w', 3)];
/// Where tests of cases are, from the top of the repository.
const FOLDERS: [&str; 5] = ["tests/tests", "gateway", "shedder", "tokenizer", "limits"];
/// The runs of cargo that run them.
const RUNS: [&[&str]; 5] = [
    &["-p", "tests", "--test", "it", "--", "case_", "--test-threads", "2"],
    &["-p", "protocol", "--", "case_"],
    &["-p", "shedder", "--", "case_"],
    &["-p", "weighing", "--", "case_"],
    &["-p", "tokenizer", "--", "case_"],
];

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let tests = if setting.quick { in_sources()? } else { run_by_cargo()? };
    let mut of_case: BTreeMap<String, Vec<(&str, bool)>> = BTreeMap::new();
    for (name, passed) in &tests {
        if let Some(case) = case_of(name) {
            of_case.entry(case).or_default().push((name, *passed));
        }
    }
    let wanted: Vec<String> = FAMILIES
        .iter()
        .flat_map(|(family, cases)| (1..=*cases).map(move |number| format!("{family}{number:02}")))
        .collect();
    let is_shown =
        |case: &&String| of_case.get(*case).is_some_and(|tests| tests.iter().all(|(_, passed)| *passed));
    let missing: Vec<String> =
        wanted.iter().filter(|case| !is_shown(case)).map(|case| case.to_uppercase()).collect();
    let failed: Vec<&str> =
        tests.iter().filter(|(_, passed)| !passed).map(|(name, _)| name.as_str()).collect();
    let shown = wanted.len() - missing.len();
    let not = if missing.is_empty() { String::new() } else { format!("; not: {}", missing.join(", ")) };
    let how = if setting.quick { "" } else { ", all run" };
    Ok(Finding {
        figure: format!("{shown} of {}, {} tests{how}{not}", wanted.len(), tests.len()),
        goal: PROOF.goal.to_owned(),
        ok: missing.is_empty() && failed.is_empty(),
        details: json!({
            "cases": of_case.iter().map(|(case, tests)| (case.to_uppercase(), tests.len())).collect::<BTreeMap<_, _>>(),
            "missing": missing, "failed": failed,
        }),
    })
}

/// The case in a test's name: `f01` of `cases::blame::case_f01_an_error`.
fn case_of(test: &str) -> Option<String> {
    let (_, rest) = test.split_once("case_")?;
    let case = rest.get(..3)?;
    let is_case = case.starts_with(['f', 'r', 'w']) && case.bytes().skip(1).all(|byte| byte.is_ascii_digit());
    is_case.then(|| case.to_owned())
}

/// Tests of cases as they stand in the sources.
fn in_sources() -> Result<Vec<(String, bool)>, Trouble> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut tests = BTreeSet::new();
    for folder in FOLDERS {
        collect(&top.join(folder), &mut tests)?;
    }
    Ok(tests.into_iter().map(|name| (name, true)).collect())
}

fn collect(folder: &Path, tests: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, tests)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            tests.extend(tests_of(&std::fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

/// Names of the functions of cases that are tests and not ignored.
fn tests_of(source: &str) -> Vec<String> {
    let mut tests = Vec::new();
    let (mut is_test, mut is_ignored) = (false, false);
    for line in source.lines().map(str::trim_start) {
        if line.starts_with("#[") {
            is_test |=
                line.starts_with("#[test]") || line.starts_with("#[tokio::test") || line.contains("proptest");
            is_ignored |= line.starts_with("#[ignore");
        } else if let Some((_, name)) = line.split_once("fn ") {
            let name = name.split('(').next().unwrap_or_default();
            if is_test && !is_ignored && case_of(name).is_some() {
                tests.push(name.to_owned());
            }
            (is_test, is_ignored) = (false, false);
        }
    }
    tests
}

/// Runs them; the name of each that ran, and whether it passed.
fn run_by_cargo() -> Result<Vec<(String, bool)>, Trouble> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut tests = Vec::new();
    for arguments in RUNS {
        let output = Command::new(&cargo)
            .args(["test", "--locked"])
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stderr(Stdio::inherit())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let ran: Vec<(String, bool)> = text.lines().filter_map(ran).collect();
        if !output.status.success() && ran.iter().all(|(_, passed)| *passed) {
            return Err(Trouble::Unexpected(format!("cargo test {} did not run", arguments.join(" "))));
        }
        tests.extend(ran);
    }
    Ok(tests)
}

/// What a line of the test harness says of a test; `None` for others, and for tests that were ignored.
fn ran(line: &str) -> Option<(String, bool)> {
    let (name, end) = line.strip_prefix("test ")?.split_once(" ... ")?;
    match end.split(' ').next()? {
        "ok" => Some((name.to_owned(), true)),
        "FAILED" => Some((name.to_owned(), false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_told_from_what_is_none() {
        let source = "#[test]\nfn case_f01_is_one() {}\nfn case_f02_is_no_test() {}\n\
                      #[tokio::test]\n#[ignore = \"slow\"]\nasync fn case_f03_is_ignored() {}\n\
                      #[test]\nfn is_no_case() {}\n#[tokio::test(flavor = \"x\")]\nasync fn case_r01_is_one_too() {}\n";
        assert_eq!(tests_of(source), ["case_f01_is_one", "case_r01_is_one_too"]);
    }

    #[test]
    fn lines_of_the_harness_are_read() {
        assert_eq!(
            ran("test cases::blame::case_f01_x ... ok"),
            Some(("cases::blame::case_f01_x".to_owned(), true))
        );
        assert_eq!(ran("test case_f01_x ... FAILED"), Some(("case_f01_x".to_owned(), false)));
        assert_eq!(ran("test case_f01_x ... ignored, slow"), None);
        assert_eq!(case_of("cases::weighing::case_w03_parts"), Some("w03".to_owned()));
        assert_eq!(case_of("case_study"), None);
    }
}
