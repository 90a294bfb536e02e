//! Links: each local link of the documents leads to a file, and to a heading where it names one.
//!
//! Addresses of the network are not followed: a test that needs the network fails for reasons that are not ours.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Faults of one document. `headings` gives the anchors of a document of the house, `None` where there is no such file;
/// what is not a document has no anchors.
fn dead_links(path: &str, text: &str, headings: &dyn Fn(&str) -> Option<BTreeSet<String>>) -> Vec<String> {
    let mut faults = Vec::new();
    for (line, target) in targets(text) {
        if target.contains(':') || target.is_empty() {
            continue;
        }
        let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
        let file = if file.is_empty() { path.to_string() } else { beside(path, file) };
        match headings(&file) {
            None => faults.push(format!("{path}:{line}: {target} leads to no file. Mend the link.")),
            Some(known) if !anchor.is_empty() && !known.contains(anchor) => {
                faults.push(format!("{path}:{line}: {file} has no heading #{anchor}. Mend the link."));
            }
            Some(_) => {}
        }
    }
    faults
}

/// Where the links of a document point to, with the line; code is not searched.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, written) in unfenced_lines(text) {
        let prose = without_code(written);
        for (opening, closing) in [("](", ')'), ("src=\"", '"'), ("href=\"", '"')] {
            for piece in prose.split(opening).skip(1) {
                let target = piece.split([closing, ' ']).next().unwrap_or_default();
                found.push((line, target.to_string()));
            }
        }
        // `[name]: target`
        if let Some((_, target)) = prose.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
            found.push((line, target.split(' ').next().unwrap_or_default().to_string()));
        }
    }
    found
}

/// The lines of a document outside code blocks, numbered from 1.
pub(super) fn unfenced_lines(text: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.push((index + 1, line));
        }
    }
    found
}

/// A line without its inline code.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// The path of `link` seen from the folder of `path`, without `.` and `..`.
fn beside(path: &str, link: &str) -> String {
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let mut whole = PathBuf::new();
    for part in folder.join(link).components() {
        match part {
            Component::ParentDir => {
                whole.pop();
            }
            Component::Normal(name) => whole.push(name),
            _ => {}
        }
    }
    whole.to_string_lossy().into_owned()
}

/// The anchors of a document's headings, as the common hosts make them: lower case, spaces to `-`, signs dropped.
fn anchors(text: &str) -> BTreeSet<String> {
    let lines = unfenced_lines(text).into_iter();
    let headings =
        lines.filter_map(|(_, line)| line.strip_prefix('#')).map(|line| line.trim_start_matches('#').trim());
    headings
        .map(|heading| {
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        })
        .collect()
}

#[test]
fn each_local_link_leads_somewhere() {
    let house = super::house();
    let headings = |path: &str| {
        let path = house.join(path);
        let is_document = path.extension().is_some_and(|ending| ending == "md");
        let text = if is_document { fs::read_to_string(&path).ok() } else { path.exists().then(String::new) };
        text.map(|text| anchors(&text))
    };

    let mut faults = Vec::new();
    for path in super::tree::files(&house).iter().filter(|path| path.ends_with(".md")) {
        let text = fs::read_to_string(house.join(path)).unwrap();
        faults.extend(dead_links(path, &text, &headings));
    }

    super::assert_none(&faults);
}

/// A house of two documents and a folder, for the tests of the rule.
fn two_documents(path: &str) -> Option<BTreeSet<String>> {
    match path {
        "README.md" => Some(anchors("# The house\n```\n# not a heading\n```\n## Who may know whom?")),
        "docs/a.md" | "docs" => Some(BTreeSet::new()),
        _ => None,
    }
}

#[test]
fn a_dead_link_is_found_in_every_shape() {
    for link in
        ["[a](b.md)", "[a]: b.md", "<img src=\"b.md\">", "<a href=\"b.md\">a</a>", "![a](b.md \"title\")"]
    {
        super::assert_one(
            &dead_links("docs/a.md", &format!("\n{link}\n"), &two_documents),
            &["docs/a.md:2", "b.md"],
        );
    }
    super::assert_one(&dead_links("docs/a.md", "[a](../README.md#nowhere)", &two_documents), &["#nowhere"]);
    super::assert_one(&dead_links("README.md", "[a](#not-a-heading)", &two_documents), &["#not-a-heading"]);
}

#[test]
fn living_links_network_addresses_and_code_are_let_through() {
    let text = "[a](../README.md#who-may-know-whom) [b](.) [c](https://example.org/x.md) [d](mailto:e@example.org)\n\
                `[f](g.md)`\n```\n[h](i.md)\n```\n[j](a.md) and [k](../README.md#the-house)";

    super::assert_none(&dead_links("docs/a.md", text, &two_documents));
}
