//! The map: a path that a document names exists, and `ARCHITECTURE.md` names each module of each crate.
//!
//! Whoever looks for the place of a thing starts there. A map with a module missing is worse than none, because
//! it is believed.

use std::collections::BTreeSet;
use std::fs;

use super::links::unfenced_lines;
use super::tree::FOLDERS;

/// Paths of the house in the inline code of a document that lead to nothing. Only what is plainly a path of ours
/// counts: it begins with one of our folders, and has no blank, pattern or placeholder in it.
fn dead_paths(path: &str, text: &str, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    for (line, code) in inline_code(text) {
        let ours = FOLDERS.iter().any(|folder| code.starts_with(&format!("{folder}/")));
        let plain = code.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        if ours && plain && !exists(code) {
            faults.push(format!("{path}:{line}: `{code}` does not exist. Name what took its place."));
        }
    }
    faults
}

/// What stands between single backticks outside code blocks, with its line.
fn inline_code(text: &str) -> Vec<(usize, &str)> {
    let lines = unfenced_lines(text).into_iter();
    lines
        .flat_map(|(number, line)| line.split('`').skip(1).step_by(2).map(move |code| (number, code)))
        .collect()
}

/// Modules at the top of a crate that the map does not name, as `crate/src/module.rs` or `crate/src/module/`.
fn unmapped_modules(map: &str, files: &[String]) -> Vec<String> {
    let stem = |path: &str| path.trim_end_matches('/').trim_end_matches(".rs").to_string();
    let named: BTreeSet<String> = inline_code(map).into_iter().map(|(_, code)| stem(code)).collect();
    let crates: Vec<&str> = files.iter().filter_map(|file| file.strip_suffix("/Cargo.toml")).collect();
    let modules: BTreeSet<String> =
        files.iter().filter_map(|file| module(file, &crates)).map(|module| stem(&module)).collect();
    let missing = modules.difference(&named);
    missing
        .map(|module| format!("ARCHITECTURE.md: `{module}.rs` is not on the map. Say what it is for."))
        .collect()
}

/// The module at the top of a crate that a file belongs to; `crates` are the folders that hold a `Cargo.toml`, which may
/// lie in each other. A crate's root is the crate, and a program is none.
fn module(file: &str, crates: &[&str]) -> Option<String> {
    let inside = |package: &&str| file.strip_prefix(package)?.strip_prefix("/src/");
    let (package, inside) = crates.iter().find_map(|package| Some((package, inside(package)?)))?;
    match inside.split('/').collect::<Vec<_>>().as_slice() {
        ["lib.rs" | "main.rs"] | ["bin", ..] => None,
        [.., file] if !file.ends_with(".rs") => None,
        [module, ..] => Some(format!("{package}/src/{module}")),
        [] => None,
    }
}

#[test]
fn paths_in_the_documents_exist() {
    let house = super::house();

    let mut faults = Vec::new();
    for path in super::tree::files(&house).iter().filter(|path| path.ends_with(".md")) {
        let text = fs::read_to_string(house.join(path)).unwrap();
        faults.extend(dead_paths(path, &text, &|found| house.join(found).exists()));
    }

    super::assert_none(&faults);
}

#[test]
fn the_map_names_every_module() {
    let house = super::house();
    let map = fs::read_to_string(house.join("ARCHITECTURE.md")).unwrap();
    let tests = super::source::test_only(super::source::all());
    let shipped: Vec<String> =
        super::tree::files(&house).into_iter().filter(|path| !tests.contains(path)).collect();

    super::assert_none(&unmapped_modules(&map, &shipped));
}

#[test]
fn a_dead_path_is_found_among_living_ones_and_other_code() {
    let text = "`limits/src/window.rs`, `limits/`, `cargo test`, `limits/*.rs`, `src/a.rs`\n```\n`shedder/gone`\n```\n`limits/src/gone.rs`";
    let exists = |path: &str| path == "limits/src/window.rs" || path == "limits/";

    super::assert_one(&dead_paths("a.md", text, &exists), &["a.md:5", "`limits/src/gone.rs`"]);
}

#[test]
fn a_module_that_is_not_on_the_map_is_found() {
    let files = [
        "limits/Cargo.toml",
        "gateway/Cargo.toml",
        "gateway/client/Cargo.toml",
        "limits/src/lib.rs",
        "limits/src/window.rs",
        "limits/src/window/tests.rs",
        "limits/src/meter.rs",
        "limits/src/samples/a.yaml",
        "gateway/src/main.rs",
        "gateway/src/config/mod.rs",
        "gateway/src/bin/other.rs",
        "gateway/client/src/lib.rs",
        "gateway/client/src/typed/mod.rs",
        "tests/tests/it.rs",
    ];
    let all = "`limits/src/window.rs`, `gateway/src/config/`, `gateway/client/src/typed/` and `limits/src/meter.rs`";
    let faults = |map: &str| unmapped_modules(map, &files.map(str::to_string));

    super::assert_none(&faults(all));
    super::assert_one(&faults(&all.replace("`limits/src/meter.rs`", "")), &["`limits/src/meter.rs`", "map"]);
    super::assert_one(
        &faults(&all.replace("`gateway/client/src/typed/`", "")),
        &["`gateway/client/src/typed.rs`"],
    );
}
