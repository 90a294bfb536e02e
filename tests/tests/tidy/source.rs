//! Rust sources as the scanners see them: code only, comments and literals blanked, test code left out on demand.
//!
//! This is a lexer of the few things that can hide a word from a scan (comments, strings, characters), not a parser.
//! Lines stay where they are, so that a fault can name its line.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

/// One `.rs` file.
pub(super) struct Source {
    /// Relative to the workspace, with `/`.
    pub(super) path: String,
    /// As it is on disk.
    pub(super) text: String,
    /// The text with comments blanked by spaces and literals by quotes.
    pub(super) code: String,
}

/// A word, `::`, or one other visible character of the code.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Token<'a> {
    /// From 1.
    pub(super) line: usize,
    pub(super) text: &'a str,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Source {
        Source { path: path.to_string(), text: text.to_string(), code: code_only(text) }
    }

    /// The code without what `#[cfg(test)]` stands before.
    pub(super) fn shipped(&self) -> String {
        without_tests(&self.code)
    }
}

/// All `.rs` files of the workspace, read once for all rules.
pub(super) fn all() -> &'static [Source] {
    static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
        let house = super::house();
        let paths = super::tree::files(&house).into_iter().filter(|path| path.ends_with(".rs"));
        paths.map(|path| read(&house, &path)).collect()
    });
    &SOURCES
}

fn read(house: &Path, path: &str) -> Source {
    Source::new(path, &fs::read_to_string(house.join(path)).unwrap())
}

/// The paths of `sources` that `#[cfg(test)] mod name;` declares, and all below them.
pub(super) fn test_only(sources: &[Source]) -> BTreeSet<String> {
    let mut modules = Vec::new();
    for source in sources {
        let (folder, file) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
        let stem = file.trim_end_matches(".rs");
        let base = match stem {
            "lib" | "main" | "mod" => folder.to_string(),
            _ => format!("{folder}/{stem}"),
        };
        for (_, item) in test_items(&source.code) {
            let words: Vec<&str> = tokens(item).into_iter().map(|token| token.text).collect();
            if let [.., "mod", name, ";"] = words.as_slice() {
                modules.push(format!("{base}/{name}"));
            }
        }
    }
    let declared = |path: &str| {
        modules.iter().any(|module| path == format!("{module}.rs") || path.starts_with(&format!("{module}/")))
    };
    sources.iter().map(|source| source.path.clone()).filter(|path| declared(path)).collect()
}

/// Words, `::`, and single characters, in order.
pub(super) fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    for (index, row) in code.lines().enumerate() {
        let mut rest = row.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = match first {
                _ if word_length(rest) > 0 => word_length(rest),
                ':' if rest.starts_with("::") => 2,
                _ => first.len_utf8(),
            };
            found.push(Token { line: index + 1, text: &rest[..length] });
            rest = rest[length..].trim_start();
        }
    }
    found
}

/// Blanks comments with spaces and literals with quotes.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (length, fill) = next_piece(rest);
        let (piece, tail) = rest.split_at(length);
        match fill {
            None => code.push_str(piece),
            Some(fill) => code.extend(piece.chars().map(|c| if c == '\n' { c } else { fill })),
        }
        rest = tail;
    }
    code
}

/// The length of what `rest` begins with, and what to blank it with, if at all.
fn next_piece(rest: &str) -> (usize, Option<char>) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), Some(' '));
    }
    if rest.starts_with("/*") {
        return (block_comment_length(rest), Some(' '));
    }
    if let Some(length) = raw_string_length(rest) {
        return (length, Some('"'));
    }
    if rest.starts_with('"') {
        return (quoted_length(rest, '"'), Some('"'));
    }
    if rest.starts_with('\'') {
        // A lifetime has no second quote two characters on, a character has, or begins with a backslash.
        let mut after = rest.chars().skip(1);
        let (first, second) = (after.next(), after.next());
        let is_character = first == Some('\\') || second == Some('\'');
        return if is_character { (quoted_length(rest, '\''), Some('"')) } else { (1, None) };
    }
    let first = rest.chars().next().map_or(0, char::len_utf8);
    (word_length(rest).max(first), None)
}

/// How many bytes of `rest` are a word (an identifier, a keyword, a number).
fn word_length(rest: &str) -> usize {
    rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
}

/// Up to the `*/` that closes the first `/*`; they nest.
fn block_comment_length(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#` and so on, also with `b` or `c` before; `None` if `rest` begins with something else.
fn raw_string_length(rest: &str) -> Option<usize> {
    let marked = rest.strip_prefix(['b', 'c']).unwrap_or(rest).strip_prefix('r')?;
    let hashes = marked.len() - marked.trim_start_matches('#').len();
    let body = marked[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = body.find(&close).map_or(body.len(), |at| at + close.len());
    Some(rest.len() - body.len() + end)
}

/// Up to the closing `quote`, past escapes.
fn quoted_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// Blanks each item that `#[cfg(test)]` stands before, and everything after `#![cfg(test)]`.
fn without_tests(code: &str) -> String {
    if code.contains("#![cfg(test)]") {
        return String::new();
    }
    let mut shipped = code.to_string();
    for (at, item) in test_items(code) {
        let blank: String = item.chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        // The blanked text may be shorter in bytes than a non-ASCII original: never slice by the old offsets then.
        let blank = format!("{blank}{}", " ".repeat(item.len() - blank.len()));
        shipped.replace_range(at..at + item.len(), &blank);
    }
    shipped
}

/// Each item that `#[cfg(test)]` stands before: where it begins, and its text with the attribute.
fn test_items(code: &str) -> Vec<(usize, &str)> {
    const MARK: &str = "#[cfg(test)]";
    let mut items = Vec::new();
    let mut from = 0;
    while let Some(found) = code[from..].find(MARK) {
        let at = from + found;
        let end = at + MARK.len() + item_length(&code[at + MARK.len()..]);
        items.push((at, &code[at..end]));
        from = end;
    }
    items
}

/// Up to the `;`, the `,` or the closing brace that ends the item, whichever comes first outside all brackets.
fn item_length(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            ';' | ',' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

#[test]
fn comments_and_literals_are_blanked_and_lines_stay() {
    let text = "a /* b /* c */ d\n */ e // f\n\"g \\\" h\" 'i' '\\'' r#\"j \" k\"# b\"l\" l<'m> \"n\no\" p";

    let code = code_only(text);
    let seen = tokens(&code).into_iter().filter(|token| token.text != "\"");

    let expected = [(1, "a"), (2, "e"), (3, "b"), (3, "l"), (3, "<"), (3, "'"), (3, "m"), (3, ">"), (4, "p")];
    assert_eq!(seen.map(|token| (token.line, token.text)).collect::<Vec<_>>(), expected);
}

#[test]
fn test_code_is_left_out_of_what_is_shipped() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { if c { \"ü\" } } }\nfn d() {}\n#[cfg(test)]\nuse e;\nfn f() {}";

    let shipped = Source::new("limits/src/lib.rs", text).shipped();

    let names: Vec<&str> =
        tokens(&shipped).iter().map(|token| token.text).filter(|text| word_length(text) > 0).collect();
    assert_eq!(names, ["fn", "a", "fn", "d", "fn", "f"]);
    assert_eq!(Source::new("a.rs", "#![cfg(test)]\nfn a() {}").shipped(), "");
}

#[test]
fn files_of_test_modules_are_known_as_such() {
    let sources = [
        Source::new("limits/src/lib.rs", "mod meter;\n#[cfg(test)]\nmod model;"),
        Source::new("limits/src/meter.rs", "#[cfg(test)]\nmod tests;"),
        Source::new("limits/src/meter/tests.rs", ""),
        Source::new("limits/src/model.rs", ""),
        Source::new("limits/src/model/deep.rs", ""),
    ];

    let found: Vec<String> = test_only(&sources).into_iter().collect();

    assert_eq!(found, ["limits/src/meter/tests.rs", "limits/src/model.rs", "limits/src/model/deep.rs"]);
}
