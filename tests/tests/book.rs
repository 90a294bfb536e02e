//! The book: what it says to write into a config is a config, what it says to type is a command, its figures are measured.
//!
//! Links are checked by `tidy::links`, the reference by `reference`; the examples for customers and the way of a newcomer
//! are run by `tests/handbook`, the blocks for proxies by `prove T16` and `tests/handbook`.

use crate::PROGRAM;
use config::Config;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn house() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn read(path: &str) -> String {
    fs::read_to_string(house().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The pages, as paths from the top of the repository.
fn pages() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec!["deploy/book".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(house().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.ends_with(".md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A block of code in a page.
struct Block {
    line: usize,
    /// What stands behind the fence.
    kind: String,
    text: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut open = false;
    for (nth, line) in text.lines().enumerate() {
        if let Some(kind) = line.strip_prefix("```") {
            open = !open;
            if open {
                found.push(Block { line: nth + 1, kind: kind.trim().to_owned(), text: String::new() });
            }
        } else if open && let Some(block) = found.last_mut() {
            block.text.push_str(line);
            block.text.push('\n');
        }
    }
    found
}

/// The section of a document below a heading, up to the next one of the same depth.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let depth = heading.split(' ').next().unwrap();
    rest.split(&format!("\n{depth} ")).next().unwrap()
}

#[test]
fn the_summary_lists_every_page_once() {
    let summary = read("deploy/book/SUMMARY.md");
    let listed: Vec<String> = summary
        .split("](")
        .skip(1)
        .map(|rest| format!("deploy/book/{}", rest.split(')').next().unwrap_or_default()))
        .collect();

    let mut expected = pages();
    expected.retain(|page| page != "deploy/book/SUMMARY.md");
    let mut sorted = listed.clone();
    sorted.sort();
    assert_eq!(sorted, expected);
}

/// Whoever is woken by an alert finds its section by the address in the alert.
#[test]
fn every_alert_leads_to_its_section() {
    let rules = read("deploy/prometheus/alerts.yaml");
    let page = read("deploy/book/alerts.md");
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();

    assert!(alerts.len() > 15, "{} alerts", alerts.len());
    for rule in alerts {
        let name = rule.lines().next().unwrap();
        let leads = format!("runbook_url: deploy/book/alerts.md#{}\n", name.to_lowercase());
        assert!(rule.contains(&leads), "{name} does not lead to its section: {leads}");
        assert!(page.contains(&format!("\n## {name}\n")), "deploy/book/alerts.md has no section {name}");
        let told = section(&page, &format!("## {name}"));
        for part in ["**Means.**", "**Do.**", "**Look"] {
            let is_there = told.contains(part) || (part != "**Means.**" && told.contains("**Look and do.**"));
            assert!(is_there || part == "**Look", "{name}: the section says nothing under {part}");
        }
    }
}

#[test]
fn every_alert_that_the_book_explains_exists() {
    let rules = read("deploy/prometheus/alerts.yaml");
    for line in read("deploy/book/alerts.md").lines().filter_map(|line| line.strip_prefix("## ")) {
        assert!(rules.contains(&format!("- alert: {line}\n")), "there is no alert {line}");
    }
}

/// What a fragment leaves out, so that it is a whole config.
fn completed(fragment: &str) -> String {
    const HASH: &str = "sha256:4f5c9b2a8d3e6f7a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a";
    let has = |section: &str| fragment.lines().any(|line| line.starts_with(&format!("{section}:")));
    let mut text = fragment.to_owned();
    let mut first = "llama".to_owned();
    if has("deployments") {
        let declared = section_of(fragment, "deployments").find_map(|line| line.strip_prefix("  - name: "));
        first = declared.unwrap_or("llama").to_owned();
    } else {
        for name in ["llama", "canary"] {
            let header = if name == "llama" { "\ndeployments:\n" } else { "" };
            text.push_str(&format!(
                "{header}  - {{ name: {name}, engine: vllm, replicas: ['http://{name}:8000'] }}\n"
            ));
        }
    }
    if !has("models") {
        text.push_str(&format!("\nmodels: [{{ name: m, deployments: [{first}], size_class: small }}]\n"));
    }
    if !has("accounts") {
        text.push_str(&format!(
            "\naccounts: [{{ id: acme, keys: ['{HASH}'], tiers: [priority, regular] }}]\n"
        ));
    }
    text
}

/// The lines below a key at the top.
fn section_of<'a>(text: &'a str, key: &str) -> impl Iterator<Item = &'a str> {
    let inside = text.lines().skip_while(move |line| !line.starts_with(&format!("{key}:"))).skip(1);
    inside.take_while(|line| line.is_empty() || line.starts_with(' ')).collect::<Vec<_>>().into_iter()
}

/// Each block of plain `yaml` is a config, whole or in part; one for another program says so: `yaml envoy`.
#[test]
fn every_config_of_the_book_and_the_readme_is_in_order() {
    let env = |name: &str| match name {
        "KEY_HASH" => {
            Some("sha256:5f5c9b2a8d3e6f7a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a".to_owned())
        }
        _ => None,
    };
    let mut tried = 0;
    for page in pages().into_iter().chain(["README.md".to_owned()]) {
        for block in blocks(&read(&page)).into_iter().filter(|block| block.kind == "yaml") {
            if block.text.starts_with("drill:") {
                continue;
            }
            tried += 1;
            if let Err(faults) =
                Config::parse(&completed(&block.text), &format!("{page}:{}", block.line), &env)
            {
                panic!("{faults}");
            }
        }
    }
    assert!(tried > 12, "{tried} configs");
}

/// The words of a command before its first option, and its options; nothing where the line is no command of ours.
fn command(line: &str) -> Option<(Vec<&str>, Vec<&str>)> {
    let line = line.trim().strip_prefix("tidegate ")?;
    let line = line.split(" #").next()?.split([';', '|', '>', '&']).next()?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_option = |word: &&str| word.starts_with('-');
    let subcommands = words
        .iter()
        .copied()
        .take_while(|word| !is_option(word) && word.chars().all(|c| c.is_ascii_lowercase()))
        .collect();
    let options =
        words.iter().copied().filter(is_option).map(|word| word.split('=').next().unwrap_or(word)).collect();
    Some((subcommands, options))
}

/// What `--help` says of the longest row of these words that is a command.
fn help(words: &[&str]) -> String {
    for length in (1..=words.len()).rev() {
        let ran = Command::new(PROGRAM).args(&words[..length]).arg("--help").output().unwrap();
        if ran.status.success() {
            return String::from_utf8(ran.stdout).unwrap();
        }
    }
    panic!("`tidegate {}` is no command", words.join(" "));
}

#[test]
fn every_command_of_the_book_and_the_readme_exists_with_its_options() {
    let mut tried = BTreeSet::new();
    for page in pages().into_iter().chain(["README.md".to_owned()]) {
        for block in blocks(&read(&page)).into_iter().filter(|block| block.kind == "sh") {
            for (words, options) in block.text.lines().filter_map(command) {
                let help = help(&words);
                for option in options {
                    assert!(
                        help.contains(option),
                        "{page}:{}: `{}` has no {option}",
                        block.line,
                        words.join(" ")
                    );
                }
                tried.insert(words.join(" "));
            }
        }
    }
    assert!(tried.len() > 10, "{tried:?}");
}

#[test]
fn a_command_is_taken_apart() {
    let (words, options) =
        command("tidegate deployments pressure llama --share 0.3 -o json   # a word --no").unwrap();
    assert_eq!((words, options), (vec!["deployments", "pressure", "llama"], vec!["--share", "-o"]));
    assert!(command("curl -s http://tidegate ").is_none());
}

/// The quick start explains what the README says in short: the same commands, the same files, word for word.
#[test]
fn the_quick_start_has_the_blocks_of_the_readme() {
    let readme = read("README.md");
    let wanted = blocks(section(&readme, "## A real config"));
    let quick = blocks(&read("deploy/book/quick-start.md"));

    assert!(wanted.len() >= 4, "{} blocks", wanted.len());
    let mut rest = quick.iter();
    for block in wanted {
        let found = rest.any(|other| other.kind == block.kind && other.text == block.text);
        assert!(
            found,
            "deploy/book/quick-start.md lacks this block, or has it in another place:\n{}",
            block.text
        );
    }
}

/// Numbers of a cell: digits with separators and a point.
fn numbers(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| !c.is_ascii_digit() && !".,".contains(c));
    parts.map(|part| part.trim_matches(['.', ',']).to_owned()).filter(|part| !part.is_empty()).collect()
}

/// No figure that was not measured: each number of the table is in the row of the proof that it names.
#[test]
fn the_figures_of_sizing_are_those_that_were_measured() {
    let figures = read("bench/FIGURES.md");
    let row = |id: &str| figures.lines().find(|line| line.starts_with(&format!("| {id} |")));
    let sizing = read("deploy/book/sizing.md");
    let table = sizing.lines().skip_while(|line| !line.contains("| source |")).skip(2);

    let mut checked = 0;
    for line in table.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let ids =
            cells[2].split("`cargo").next().unwrap().split(',').map(str::trim).filter(|id| !id.is_empty());
        let measured: String =
            ids.map(|id| row(id).unwrap_or_else(|| panic!("{id} is no row of FIGURES.md"))).collect();
        let known = numbers(&measured);
        for number in numbers(&format!("{} {}", cells[0], cells[1])) {
            assert!(known.contains(&number), "{number} is not in the figures: {line}");
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked} figures");
}
