//! The shape of a file: a first sentence, functions that fit on a page, files that fit in a head, no silenced lints.
//!
//! Lines of a function are those between its braces that hold code, as clippy counts them; lines of a file are all of
//! them. Where a rule makes a file worse, the exception is listed here with its reason.

use super::source::{self, Source, Token, tokens};

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 700;

/// Longer functions: the file, the function, the reason.
const LONG_FUNCTIONS_WITH_REASON: &[(&str, &str, &str)] = &[];

/// Longer files: the file, the reason.
const LONG_FILES_WITH_REASON: &[(&str, &str)] = &[];

/// A function with a body.
struct Function {
    name: String,
    line: usize,
    lines: usize,
}

fn first_lines(source: &Source) -> Vec<String> {
    let first = source.text.lines().next().unwrap_or_default();
    if first.starts_with("//! ") {
        return Vec::new();
    }
    vec![format!(
        "{}:1: does not begin with `//! `. Say in one sentence which one idea the file is.",
        source.path
    )]
}

fn long_files(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines <= FILE_LINES_MAX || LONG_FILES_WITH_REASON.iter().any(|(path, _)| *path == source.path) {
        return Vec::new();
    }
    vec![format!(
        "{}: {lines} lines, at most {FILE_LINES_MAX}. Find its second idea and give it a file.",
        source.path
    )]
}

fn long_functions(source: &Source) -> Vec<String> {
    let excused = |function: &Function| {
        LONG_FUNCTIONS_WITH_REASON
            .iter()
            .any(|(path, name, _)| *path == source.path && *name == function.name)
    };
    let long = functions(source).into_iter().filter(|function| function.lines > FUNCTION_LINES_MAX);
    long.filter(|function| !excused(function))
        .map(|function| {
            format!(
                "{}:{}: `{}` has {} lines of code, at most {FUNCTION_LINES_MAX}. Name its steps.",
                source.path, function.line, function.name, function.lines
            )
        })
        .collect()
}

/// All functions of a file that have a body, nested ones too.
fn functions(source: &Source) -> Vec<Function> {
    let tokens = tokens(&source.code);
    let mut found = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        // `fn(` is the type of a pointer, and has no body.
        if pair[0].text != "fn" || pair[1].text == "(" {
            continue;
        }
        if let Some(body) = body(&tokens[at..]) {
            found.push(Function {
                name: pair[1].text.to_string(),
                line: pair[0].line,
                lines: code_lines(body),
            });
        }
    }
    found
}

/// What stands between the braces of the function that `tokens` begin with; `None` if it ends with `;`.
fn body<'t, 'a>(tokens: &'t [Token<'a>]) -> Option<&'t [Token<'a>]> {
    let mut depth = 0_usize;
    let mut open = None;
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "{" if depth == 0 && open.is_none() => open = Some(at),
            "(" | "[" | "{" => depth += 1,
            "}" if depth == 0 => return open.map(|open| &tokens[open + 1..at]),
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            ";" if depth == 0 && open.is_none() => return None,
            _ => {}
        }
    }
    None
}

/// How many lines the tokens are on.
fn code_lines(tokens: &[Token<'_>]) -> usize {
    let mut lines: Vec<usize> = tokens.iter().map(|token| token.line).collect();
    lines.dedup();
    lines.len()
}

/// Lints that were silenced: any `allow`, and an `expect` that gives no reason.
fn silenced_lints(source: &Source) -> Vec<String> {
    let tokens = tokens(&source.code);
    let mut faults = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let opens = tokens.get(at + 1).is_some_and(|next| next.text == "(");
        let names_a_lint =
            matches!(token.text, "allow" | "expect") && opens && inside_attribute(&tokens[..at]);
        let argued =
            tokens[at..].iter().take_while(|token| token.text != "]").any(|token| token.text == "reason");
        if names_a_lint && (token.text == "allow" || !argued) {
            faults.push(format!(
                "{}:{}: a bare `{}`. Mend the cause, or write `#[expect(lint, reason = \"…\")]`.",
                source.path, token.line, token.text
            ));
        }
    }
    faults
}

/// Whether the last bracket that `before` leaves open is that of an attribute, `#[` or `#![`.
fn inside_attribute(before: &[Token<'_>]) -> bool {
    let open = before.iter().rposition(|token| matches!(token.text, "[" | "]" | ";" | "{" | "}"));
    let Some(open) = open.filter(|open| before[*open].text == "[") else { return false };
    let lead: Vec<&str> = before[..open].iter().rev().take(2).map(|token| token.text).collect();
    matches!(lead.as_slice(), ["#", ..] | ["!", "#"])
}

#[test]
fn each_file_begins_with_its_idea() {
    super::assert_none(&source::all().iter().flat_map(first_lines).collect::<Vec<_>>());
}

#[test]
fn files_have_at_most_700_lines() {
    super::assert_none(&source::all().iter().flat_map(long_files).collect::<Vec<_>>());
}

#[test]
fn functions_have_at_most_70_lines() {
    super::assert_none(&source::all().iter().flat_map(long_functions).collect::<Vec<_>>());
}

#[test]
fn no_lint_is_silenced_without_a_reason() {
    super::assert_none(&source::all().iter().flat_map(silenced_lints).collect::<Vec<_>>());
}

#[test]
fn exceptions_that_excuse_nothing_are_struck_off() {
    let sources = source::all();
    let find = |path: &str| sources.iter().find(|source| source.path == path);

    for (path, name, _) in LONG_FUNCTIONS_WITH_REASON {
        let long = find(path).is_some_and(|source| {
            functions(source).iter().any(|found| found.name == *name && found.lines > FUNCTION_LINES_MAX)
        });
        assert!(long, "{path}: `{name}` is not long any more: remove its line in LONG_FUNCTIONS_WITH_REASON");
    }
    for (path, _) in LONG_FILES_WITH_REASON {
        let long = find(path).is_some_and(|source| source.text.lines().count() > FILE_LINES_MAX);
        assert!(long, "{path} is not long any more: remove its line in LONG_FILES_WITH_REASON");
    }
}

#[test]
fn a_file_without_a_first_sentence_is_found() {
    super::assert_one(&first_lines(&Source::new("a.rs", "use b;\n//! Late.")), &["a.rs:1", "one sentence"]);
    super::assert_none(&first_lines(&Source::new("a.rs", "//! An idea.")));
}

#[test]
fn a_long_file_is_found() {
    let lines = |count: usize| Source::new("a.rs", &"\n".repeat(count));

    super::assert_one(&long_files(&lines(FILE_LINES_MAX + 1)), &["a.rs: 701 lines", "second idea"]);
    super::assert_none(&long_files(&lines(FILE_LINES_MAX)));
}

#[test]
fn a_long_function_is_found_and_only_lines_of_code_count() {
    let of = |lines: &str, count: usize| {
        Source::new(
            "a.rs",
            &format!(
                "trait T {{ fn t(&self); }}\nasync fn b<const N: usize>(c: [u8; N]) {{\n{}}}\n",
                lines.repeat(count)
            ),
        )
    };

    super::assert_one(
        &long_functions(&of("c();\n", FUNCTION_LINES_MAX + 1)),
        &["a.rs:2", "`b` has 71 lines", "steps"],
    );
    super::assert_one(&long_functions(&of("\"{\";\n", FUNCTION_LINES_MAX + 1)), &["`b` has 71 lines"]);
    super::assert_none(&long_functions(&of("c();\n// Why.\n\n", FUNCTION_LINES_MAX)));
}

#[test]
fn a_silenced_lint_is_found() {
    let faults = |text: &str| silenced_lints(&Source::new("a.rs", text));

    super::assert_one(&faults("//! A.\n#[allow(dead_code)]\nfn a() {}"), &["a.rs:2", "bare `allow`"]);
    super::assert_one(&faults("#![allow(dead_code)]"), &["bare `allow`"]);
    super::assert_one(&faults("#[cfg_attr(test, allow(dead_code))]\nfn a() {}"), &["bare `allow`"]);
    super::assert_one(&faults("#[expect(dead_code)]\nfn a() {}"), &["bare `expect`"]);
    super::assert_none(&faults("#[expect(dead_code, reason = \"said\")]\nfn a() { allow(b.expect(c)) }"));
    super::assert_none(&faults("fn a() { b[0].expect(c); d[e.expect(f)] }"));
}
