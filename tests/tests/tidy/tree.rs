//! The tree: seven folders and known files at the top, no path of a machine, no mark of unfinished work.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The seven folders, each with a question that it answers in `ARCHITECTURE.md`.
pub(super) const FOLDERS: [&str; 7] =
    ["limits", "shedder", "tokenizer", "gateway", "bench", "tests", "deploy"];

/// What else a Rust repository has: the manifest, the documents, the configuration of its tools.
const KNOWN: [&str; 17] = [
    ".cargo",
    ".ci",
    ".dockerignore",
    ".gitattributes",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "clippy.toml",
    "deny.toml",
    "rust-toolchain.toml",
    "rustfmt.toml",
];

/// Homes and mounts of machines. Split, so that this file does not break its own rule.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/ro", "ot/"), concat!("/wo", "rk/")];

/// What an unfinished place is marked with, as a whole word.
const MARKS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Files in which a machine's path is right: the file, the path, the reason.
const PATHS_WITH_REASON: &[(&str, &str, &str)] = &[];

/// All files of the workspace, sorted, relative, with `/`; what `.gitignore` names and `.git` itself are left out.
pub(super) fn files(house: &Path) -> Vec<String> {
    let ignored = Ignored::read(house);
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(house.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{folder}{}", entry.file_name().to_string_lossy());
            if ignored.holds(&path) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(format!("{path}/"));
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The three shapes of line that our `.gitignore` has: `/path`, `name/`, `*.ending`.
struct Ignored(Vec<String>);

impl Ignored {
    fn read(house: &Path) -> Ignored {
        let lines = fs::read_to_string(house.join(".gitignore")).unwrap_or_default();
        let lines = lines
            .lines()
            .map(|line| line.trim().to_string())
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        Ignored(lines.chain([".git".to_string()]).collect())
    }

    fn holds(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        self.0.iter().any(|line| match (line.strip_prefix('/'), line.strip_prefix('*')) {
            (Some(rooted), _) => path == rooted.trim_end_matches('/'),
            (None, Some(ending)) => name.ends_with(ending),
            (None, None) => name == line.trim_end_matches('/'),
        })
    }
}

/// What the repository holds at its top. Asks git, since an editor's own folder is no part of the house;
/// where there is no git, what lies on the disk.
fn top_level(house: &Path) -> BTreeSet<String> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(house).output();
    let tracked = match listed {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        _ => String::new(),
    };
    let paths: Vec<String> = if tracked.is_empty() {
        files(house)
    } else {
        tracked.split_terminator('\0').map(str::to_string).collect()
    };
    paths.iter().map(|path| path.split('/').next().unwrap_or(path).to_string()).collect()
}

fn strangers(top: &BTreeSet<String>) -> Vec<String> {
    let known: BTreeSet<&str> = FOLDERS.into_iter().chain(KNOWN).collect();
    let unknown = top.iter().filter(|name| !known.contains(name.as_str()));
    unknown
        .map(|name| format!("{name}: not one of the seven folders or the known files. Put it where its question is answered."))
        .collect()
}

/// Faults of one text file: machine paths and unfinished marks. `own` are the paths of this very machine.
fn marks(path: &str, text: &str, own: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    let machine_paths: Vec<&str> = MACHINE_PATHS.into_iter().chain(own.iter().map(String::as_str)).collect();
    for (index, line) in text.lines().enumerate() {
        let place = format!("{path}:{}", index + 1);
        let excused =
            |found: &str| PATHS_WITH_REASON.iter().any(|(file, part, _)| *file == path && *part == found);
        if let Some(found) = machine_paths.iter().find(|found| starts_a_path(line, found) && !excused(found))
        {
            faults.push(format!(
                "{place}: {found} is a path of one machine. Use a relative path or a variable."
            ));
        }
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        if let Some(mark) = words.find(|word| MARKS.contains(word)) {
            faults.push(format!(
                "{place}: {mark}. Do it now, or write an issue and say here what holds today."
            ));
        }
    }
    faults
}

/// Whether `path` stands in `line` as the beginning of a path, not as the tail of a longer one.
fn starts_a_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && !"._-/}*~".contains(c))
    })
}

#[test]
fn the_top_level_holds_the_seven_folders_and_known_files() {
    let faults = strangers(&top_level(&super::house()));

    super::assert_none(&faults);
}

#[test]
fn nothing_names_a_machine_or_is_marked_unfinished() {
    let house = super::house();
    let own = [Some(house.to_string_lossy().into_owned()), std::env::var("HOME").ok()];
    // A home that is the root, or nothing, would be found everywhere.
    let own: Vec<String> =
        own.into_iter().flatten().filter(|path| path.len() > 1).map(|path| format!("{path}/")).collect();

    let mut faults = Vec::new();
    for path in files(&house).iter().filter(|path| *path != "Cargo.lock") {
        // What is not UTF-8 is a picture or an archive, not a text with marks.
        let Ok(text) = fs::read_to_string(house.join(path)) else { continue };
        faults.extend(marks(path, &text, &own));
    }

    super::assert_none(&faults);
}

#[test]
fn a_stranger_at_the_top_level_is_found() {
    let top = ["limits", "Cargo.toml", "scripts"].map(str::to_string).into_iter().collect();

    super::assert_one(&strangers(&top), &["scripts", "seven folders"]);
}

#[test]
fn a_path_of_a_machine_is_found_and_a_tail_of_a_path_is_not() {
    let home = MACHINE_PATHS[0];
    let text = format!("fine: src{home}x\nbad: \"{home}me/notes\"\n");

    super::assert_one(&marks("a.md", &text, &[]), &["a.md:2", "relative path"]);
    super::assert_one(&marks("a.md", "see /srv/checkout/x", &["/srv/checkout/".to_string()]), &["a.md:1"]);
}

#[test]
fn a_mark_of_unfinished_work_is_found_as_a_whole_word() {
    let mark = MARKS[0];

    super::assert_one(
        &marks("a.rs", &format!("mktemp XXXXXX; {mark}S\n// {mark}: later"), &[]),
        &["a.rs:2", mark],
    );
}

#[test]
fn ignored_files_are_recognised_by_the_shapes_of_line_in_use() {
    let ignored = Ignored(["/target", "__pycache__/", "*.profraw"].map(str::to_string).to_vec());

    let held = ["target", "tests/clients/__pycache__", "a/b.profraw"].map(|path| ignored.holds(path));
    let kept = ["bench/target", "tests/clients", "profraw.rs"].map(|path| ignored.holds(path));

    assert_eq!((held, kept), ([true; 3], [false; 3]));
}
