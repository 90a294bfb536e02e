//! The modules of a crate: few, small together, without cycles, and none from another crate's folder.
//!
//! A module is the first segment of a path under a crate's `src/`. It depends on another where its shipped code names
//! `crate::other`, or goes up to the root by as many `super::` as it lies deep. The root itself may name them all. A
//! cycle is a strongly connected set of modules: no member of it can be understood, moved or tested alone.
//!
//! Production lines are those that hold code, outside of `#[cfg(test)]` items and files that only tests have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::source::{self, Source, Token, tokens};

/// Modules of a crate that a reader can keep in mind.
const MODULES_MAX: usize = 14;

/// Production lines of a crate.
const LINES_MAX: usize = 10_000;

/// The shipped code of one crate.
#[derive(Debug, Default)]
struct Shipped {
    modules: BTreeSet<String>,
    lines: usize,
    /// By the two modules, the files in which the first names the second.
    edges: BTreeMap<(String, String), BTreeSet<String>>,
}

/// All crates by their folder, which holds a `Cargo.toml`.
fn crates(folders: &[&str], sources: &[Source]) -> BTreeMap<String, Shipped> {
    let tests = source::test_only(sources);
    let shipped: Vec<(&str, &Source, String)> = sources
        .iter()
        .filter(|source| !tests.contains(&source.path))
        .filter_map(|source| {
            let folder = folders.iter().find(|folder| inside(&source.path, folder).is_some())?;
            Some((*folder, source, source.shipped()))
        })
        .collect();
    let mut found: BTreeMap<String, Shipped> = BTreeMap::new();
    for (folder, source, code) in &shipped {
        let of = found.entry((*folder).to_string()).or_default();
        of.lines += code.lines().filter(|line| !line.trim().is_empty()).count();
        of.modules.extend(inside(&source.path, folder).and_then(module));
    }
    for (folder, source, code) in &shipped {
        let (Some(file), Some(of)) = (inside(&source.path, folder), found.get_mut(*folder)) else { continue };
        let Some(from) = module(file) else { continue };
        for to in named(code, depth(file)).into_iter().filter(|to| *to != from && of.modules.contains(to)) {
            of.edges.entry((from.clone(), to)).or_default().insert(source.path.clone());
        }
    }
    found
}

/// The path of a source inside the `src/` of a crate.
fn inside<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    path.strip_prefix(folder)?.strip_prefix("/src/")
}

/// The module that a file belongs to; `None` for a crate's root and for other programs.
fn module(file: &str) -> Option<String> {
    match file.split('/').collect::<Vec<_>>().as_slice() {
        ["lib.rs" | "main.rs"] | ["bin", ..] | [] => None,
        [module, ..] => Some(module.trim_end_matches(".rs").to_string()),
    }
}

/// Modules between the root and the code of a file.
fn depth(file: &str) -> usize {
    file.split('/').count() - usize::from(file.ends_with("/mod.rs"))
}

/// What follows `crate::`, or `super::` as often as the code lies deep, in groups too.
fn named(code: &str, depth: usize) -> BTreeSet<String> {
    let tokens = tokens(code);
    let mut names = BTreeSet::new();
    for at in 0..tokens.len() {
        let from_root = match tokens[at].text {
            "crate" => tokens.get(at + 1).filter(|next| next.text == "::").map(|_| at + 2),
            "super" if at == 0 || tokens[at - 1].text != "::" => above(&tokens[at..], depth).map(|n| at + n),
            _ => None,
        };
        if let Some(rest) = from_root.and_then(|from| tokens.get(from..)) {
            names.extend(first_names(rest));
        }
    }
    names
}

/// The length of `super::super::…` at the beginning of `tokens`, if it leads up by exactly `depth`.
fn above(tokens: &[Token<'_>], depth: usize) -> Option<usize> {
    let pairs = tokens.chunks(2).take_while(|pair| pair.len() == 2 && pair[0].text == "super");
    let count = pairs.take_while(|pair| pair[1].text == "::").count();
    (count == depth).then_some(2 * count)
}

/// The first name of each path of a group `{a::b, c}`, or of the one path.
fn first_names(tokens: &[Token<'_>]) -> Vec<String> {
    let Some(first) = tokens.first() else { return Vec::new() };
    if first.text != "{" {
        return vec![first.text.to_string()];
    }
    let (mut level, mut names) = (0_usize, Vec::new());
    for pair in tokens.windows(2) {
        level = match pair[0].text {
            "{" => level + 1,
            "}" => level - 1,
            _ => level,
        };
        if level == 0 {
            break;
        }
        if level == 1 && matches!(pair[0].text, "{" | ",") {
            names.push(pair[1].text.to_string());
        }
    }
    names
}

/// The sets of more than one module that all depend on each other.
fn cycles(shipped: &Shipped) -> Vec<BTreeSet<&str>> {
    let mut found: Vec<BTreeSet<&str>> = Vec::new();
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        shipped.modules.iter().map(|module| (module.as_str(), reach(shipped, module))).collect();
    for (module, theirs) in &reached {
        if found.iter().any(|cycle| cycle.contains(module)) {
            continue;
        }
        let back = |other: &&&str| reached[**other].contains(module);
        let cycle: BTreeSet<&str> = theirs.iter().filter(back).copied().collect();
        if cycle.len() > 1 {
            found.push(cycle);
        }
    }
    found
}

/// All modules that are reached from one by its edges.
fn reach<'a>(shipped: &'a Shipped, from: &'a str) -> BTreeSet<&'a str> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(module) = open.pop() {
        let next = shipped.edges.keys().filter(|(from, _)| from == module).map(|(_, to)| to.as_str());
        open.extend(next.filter(|to| reached.insert(*to)));
    }
    reached
}

fn cycle_faults(folder: &str, shipped: &Shipped) -> Vec<String> {
    let mut faults = Vec::new();
    for cycle in cycles(shipped) {
        let mut fault = format!("{folder}: {} modules depend on each other. Cut an edge:", cycle.len());
        for ((from, to), files) in &shipped.edges {
            if cycle.contains(from.as_str()) && cycle.contains(to.as_str()) {
                let files: Vec<&str> = files.iter().map(String::as_str).collect();
                fault.push_str(&format!("\n    {from} -> {to}: {}", files.join(", ")));
            }
        }
        faults.push(fault);
    }
    faults
}

fn size_faults(folder: &str, shipped: &Shipped) -> Vec<String> {
    let (count, lines) = (shipped.modules.len(), shipped.lines);
    let mut faults = Vec::new();
    if count > MODULES_MAX {
        let names: Vec<&str> = shipped.modules.iter().map(String::as_str).collect();
        let names = names.join(", ");
        faults.push(format!(
            "{folder}: {count} modules, at most {MODULES_MAX}: {names}. Put some below another."
        ));
    }
    if lines > LINES_MAX {
        faults.push(format!(
            "{folder}: {lines} production lines, at most {LINES_MAX}. Make a crate of a part of it."
        ));
    }
    faults
}

/// `#[path = "…"]` attributes that lead out of the crate.
fn foreign_paths(folders: &[&str], source: &Source) -> Vec<String> {
    let of = |path: &str| {
        let holds = |folder: &&&str| path.strip_prefix(**folder).is_some_and(|rest| rest.starts_with('/'));
        folders.iter().filter(holds).max_by_key(|folder| folder.len()).copied()
    };
    let tokens = tokens(&source.code);
    let mut faults = Vec::new();
    for at in tokens.windows(4).filter(|at| at[..3].iter().map(|token| token.text).eq(["#", "[", "path"])) {
        let line = source.text.lines().nth(at[0].line - 1).unwrap_or_default();
        let target = line.split('"').nth(1).unwrap_or_default();
        if of(&source.path) != of(&beside(&source.path, target)) {
            faults.push(format!(
                "{}:{}: `{target}` is a file of another crate. Depend on that crate.",
                source.path, at[0].line
            ));
        }
    }
    faults
}

/// The path of `target` seen from the folder of `path`, without `..`.
fn beside(path: &str, target: &str) -> String {
    let mut whole = PathBuf::new();
    for part in Path::new(path).parent().unwrap_or(Path::new("")).join(target).components() {
        match part {
            Component::ParentDir => drop(whole.pop()),
            part => whole.push(part),
        }
    }
    whole.to_string_lossy().into_owned()
}

/// The folders of the workspace that hold a `Cargo.toml`.
fn folders(files: &[String]) -> Vec<&str> {
    files.iter().filter_map(|file| file.strip_suffix("/Cargo.toml")).collect()
}

/// The faults of all crates.
fn of_all(faults: impl Fn(&str, &Shipped) -> Vec<String>) -> Vec<String> {
    let files = super::tree::files(&super::house());
    let crates = crates(&folders(&files), source::all());
    assert!(crates.len() > 10, "these are not all crates: {:?}", crates.keys());
    crates.iter().flat_map(|(folder, shipped)| faults(folder, shipped)).collect()
}

#[test]
fn no_module_depends_on_itself_through_others() {
    super::assert_none(&of_all(cycle_faults));
}

#[test]
fn a_crate_has_at_most_14_modules_and_10_000_lines() {
    super::assert_none(&of_all(size_faults));
}

#[test]
fn no_file_is_a_module_of_two_crates() {
    let files = super::tree::files(&super::house());
    let folders = folders(&files);

    super::assert_none(
        &source::all().iter().flat_map(|source| foreign_paths(&folders, source)).collect::<Vec<_>>(),
    );
}

/// A crate `a` of these files.
fn sample(files: &[(&str, &str)]) -> Shipped {
    let sources: Vec<Source> =
        files.iter().map(|(file, text)| Source::new(&format!("a/src/{file}"), text)).collect();
    crates(&["a"], &sources).remove("a").unwrap()
}

#[test]
fn a_cycle_is_found_with_its_edges_and_files() {
    let shipped = sample(&[
        ("lib.rs", "mod b; mod c; mod d; pub use crate::b::B;"),
        ("b.rs", "use crate::{x::Y, c::{C, E}};"),
        ("c/mod.rs", "fn c() { super::d::d() }"),
        ("d/deep.rs", "use super::super::b::B;"),
        ("e.rs", "use crate::b::B; use super::c::C;"),
    ]);

    let faults = cycle_faults("a", &shipped);

    super::assert_one(
        &faults,
        &["a: 3 modules", "b -> c: a/src/b.rs", "c -> d: a/src/c/mod.rs", "d -> b: a/src/d/deep.rs"],
    );
    assert!(!faults[0].contains("e ->"), "{faults:?}");
}

#[test]
fn tests_own_names_and_names_inside_a_module_make_no_cycle() {
    let shipped = sample(&[
        ("lib.rs", "mod b; mod c; #[cfg(test)] mod tests;"),
        ("b.rs", "use crate::c::C; // crate::b\n#[cfg(test)]\nmod tests { use crate::c::C; }"),
        ("c/mod.rs", "mod b; use crate::c::b::B; use crate::{c::{b, d}}; #[cfg(test)] use crate::b::B;"),
        ("c/d.rs", "use super::b::B;"),
        ("tests.rs", "use crate::{b, c};"),
    ]);

    super::assert_none(&cycle_faults("a", &shipped));
    assert_eq!(shipped.modules.len(), 2);
}

#[test]
fn too_many_modules_and_lines_are_found() {
    let names: Vec<String> = (0..=MODULES_MAX).map(|n| format!("m{n}.rs")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let long = |lines: usize| "a();\n\n// Why.\n".repeat(lines) + "#[cfg(test)]\nmod tests {\n}\n";

    super::assert_one(&size_faults("a", &sample(&many)), &["a: 15 modules", "at most 14", "m3"]);
    super::assert_none(&size_faults("a", &sample(&many[1..])));
    super::assert_one(&size_faults("a", &sample(&[("b.rs", &long(LINES_MAX + 1))])), &["10001 production"]);
    super::assert_none(&size_faults("a", &sample(&[("b.rs", &long(LINES_MAX))])));
}

#[test]
fn a_path_into_another_crate_is_found() {
    let faults = |text: &str| {
        foreign_paths(&["gateway", "gateway/config", "limits"], &Source::new("gateway/src/a.rs", text))
    };

    super::assert_one(
        &faults("\n#[path = \"../../limits/src/b.rs\"]\nmod b;"),
        &["gateway/src/a.rs:2", "limits"],
    );
    super::assert_one(&faults("#[path = \"../config/src/b.rs\"] mod b;"), &["another crate"]);
    super::assert_none(&faults("#[path = \"other/b.rs\"] mod b; // #[path = \"../../limits/b.rs\"]"));
}
